package handler

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

// The only module of the setting transport, and where it says its name.
const (
	transportModule   = "http.reverse_proxy.transport.http"
	transportProtocol = "http"
	transportKey      = "protocol"
)

// readTransport returns what the setting transport says, nil when it is not
// set.
func (h *Handler) readTransport() (*reverseproxy.HTTPTransport, error) {
	if len(h.TransportRaw) == 0 {
		return nil, nil
	}
	t := new(reverseproxy.HTTPTransport)
	if err := readInline(h.TransportRaw, transportKey, transportProtocol, t); err != nil {
		return nil, &settingError{name: "transport", message: err.Error()}
	}
	return t, nil
}

// readInline reads the JSON object of a module into it. The module says its name
// in the member key, and there is only one of that name.
func readInline(raw json.RawMessage, key, name string, module any) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		return err
	}
	var named string
	if err := json.Unmarshal(members[key], &named); err != nil || named != name {
		return fmt.Errorf("expected the %s %s", key, name)
	}
	delete(members, key)
	own, err := json.Marshal(members)
	if err != nil {
		return err
	}
	return caddy.StrictUnmarshalJSON(own, module)
}

// checkTransport checks the setting transport: a word of Caddy's that cannot
// hold here is refused.
func (h *Handler) checkTransport() error {
	t, err := h.readTransport()
	if t == nil || err != nil {
		return err
	}
	fault := func(message string) error { return &settingError{name: "transport", message: message} }
	switch {
	case len(t.Versions) > 0:
		return fault("versions cannot be set in it: set http_version beside it")
	case t.Compression != nil:
		return fault("compression cannot be set in it: replies are always asked for in zstd and gzip, and unpacked")
	case t.ProxyProtocol != "":
		return fault("proxy_protocol cannot be set in it: a connection carries batches of many clients")
	case t.DialTimeout != 0 && h.DialTimeout != 0:
		return fault("dial_timeout is set in it and beside it: set one of them")
	}
	if err := checkTransportNumbers(t); err != nil {
		return err
	}
	switch {
	case t.TLS == nil:
		return nil
	case strings.Contains(t.TLS.ServerName, "{"):
		return fault("tls_server_name must hold no placeholders, which would be the client's to fill: set the name itself")
	case len(t.TLS.ExceptPorts) > 0:
		return fault("tls_except_ports cannot be set in it: begin the targets without TLS with http://")
	}
	for _, value := range h.To {
		scheme, _, _ := strings.Cut(value, "://")
		if err := checkTLSScheme(scheme); err != nil {
			return err
		}
	}
	return nil
}

// checkTransportNumbers checks the durations, counts and sizes of the setting
// transport, each under its word in a Caddyfile. Of these Caddy takes negative
// ones, too, with which no connection works.
func checkTransportNumbers(t *reverseproxy.HTTPTransport) error {
	// A block that is not set has the default of each of its words.
	keepAlive, tls := cmp.Or(t.KeepAlive, new(reverseproxy.KeepAlive)), cmp.Or(t.TLS, new(reverseproxy.TLSConfig))
	for _, limit := range []struct {
		word  string
		value caddy.Duration
	}{
		{"dial_timeout", t.DialTimeout},
		{"response_header_timeout", t.ResponseHeaderTimeout},
		{"expect_continue_timeout", t.ExpectContinueTimeout},
		{"read_timeout", t.ReadTimeout},
		{"write_timeout", t.WriteTimeout},
		{"keepalive", keepAlive.IdleConnTimeout},
		{"keepalive_interval", keepAlive.ProbeInterval},
		{"tls_timeout", tls.HandshakeTimeout},
	} {
		if limit.value == 0 {
			continue
		}
		if err := checkDuration(limit.word, limit.value); err != nil {
			return &settingError{name: "transport", message: err.Error()}
		}
	}
	for _, limit := range []struct {
		word  string
		value int64
	}{
		{"max_conns_per_host", int64(t.MaxConnsPerHost)},
		{"keepalive_idle_conns", int64(keepAlive.MaxIdleConns)},
		{"keepalive_idle_conns_per_host", int64(keepAlive.MaxIdleConnsPerHost)},
		{"max_response_header", t.MaxResponseHeaderSize},
		{"read_buffer", int64(t.ReadBufferSize)},
		{"write_buffer", int64(t.WriteBufferSize)},
	} {
		if limit.value < 0 {
			return &settingError{name: "transport", message: fmt.Sprintf("%s must not be negative, is %d", limit.word, limit.value)}
		}
	}
	return nil
}

// checkTLSScheme returns an error for a target of `to` in clear text when the
// setting transport is about TLS.
func checkTLSScheme(scheme string) error {
	if scheme != "http" && scheme != "h2c" {
		return nil
	}
	return &settingError{name: "transport", message: "it has TLS settings, and a target of to begins with " + scheme + "://: begin it with https://"}
}

// A transport makes connections, and closes those that are left when its users
// have gone. It is safe for concurrent use.
type transport struct {
	*engine.Transport
	unused atomic.Bool
}

// Destruct closes the connections that no request is on; the others are closed
// when their requests are done.
func (t *transport) Destruct() error {
	t.unused.Store(true)
	t.CloseIdleConnections()
	return nil
}

// done tells that a request is done with the transport.
func (t *transport) done() {
	if t.unused.Load() {
		t.CloseIdleConnections()
	}
}

// transports are the transports in use by what shapes them, so that connections
// outlive a reload.
var transports = caddy.NewUsagePool()

// A transportShape is everything that shapes a transport.
type transportShape struct {
	// Public is set for targets that the operator did not name.
	Public      bool
	HTTPVersion string
	DialTimeout time.Duration
	// ServerName is the name in TLS, for endpoints that are dialled by address.
	ServerName string
	// Block is the setting transport.
	Block *reverseproxy.HTTPTransport
}

// provisionTransports makes the transports or takes over those in use.
func (h *Handler) provisionTransports(p *provisioning) error {
	block, err := h.readTransport()
	if err != nil {
		return err
	}
	if block != nil && block.TLS != nil {
		// Placeholders have been replaced by now.
		for _, u := range p.targets.configured {
			if err := checkTLSScheme(u.Scheme); err != nil {
				return err
			}
		}
	}
	shape := transportShape{
		Public:      true,
		HTTPVersion: h.HTTPVersion,
		DialTimeout: engine.DefaultDialTimeout,
	}
	if h.DialTimeout != 0 {
		shape.DialTimeout = time.Duration(h.DialTimeout)
	}
	if p.public, err = h.acquireTransport(p.ctx, shape); err != nil {
		return err
	}
	shape.Public, shape.Block = false, block
	if block != nil && block.DialTimeout != 0 {
		shape.DialTimeout = time.Duration(block.DialTimeout)
	}
	p.shape = shape
	if p.operator, err = h.acquireTransport(p.ctx, shape); err != nil {
		return err
	}
	p.members = p.operator
	if shape.ServerName = p.targets.serverName(); shape.ServerName != "" {
		p.members, err = h.acquireTransport(p.ctx, shape)
	}
	return err
}

// acquireTransport returns a transport until Cleanup.
func (h *Handler) acquireTransport(ctx caddy.Context, shape transportShape) (*transport, error) {
	if !shape.outlivesConfig() {
		t, err := newTransport(ctx, shape)
		if err == nil {
			h.onCleanup(t.Destruct)
		}
		return t, err
	}
	key, err := json.Marshal(shape)
	if err != nil {
		return nil, err
	}
	pooled, _, err := transports.LoadOrNew(string(key), func() (caddy.Destructor, error) {
		return newTransport(ctx, shape)
	})
	if err != nil {
		return nil, err
	}
	h.onCleanup(func() error {
		_, err := transports.Delete(string(key))
		return err
	})
	return pooled.(*transport), nil
}

// outlivesConfig reports whether a transport may serve the next configuration,
// too. One that reads files may not, as these may have changed, and neither may
// one with modules of its own, which belong to their configuration.
func (s *transportShape) outlivesConfig() bool {
	b := s.Block
	return b == nil || b.TLS == nil && len(b.NetworkProxyRaw) == 0 && b.ForwardProxyURL == ""
}

// newTransport returns a transport of the given shape.
func newTransport(ctx caddy.Context, shape transportShape) (*transport, error) {
	options := engine.TransportOptions{
		HTTPVersion: shape.HTTPVersion,
		DialTimeout: shape.DialTimeout,
		ServerName:  shape.ServerName,
	}
	switch {
	case shape.Public:
		options.Control = engine.PublicOnly
	case shape.Block == nil:
		options.Proxy = http.ProxyFromEnvironment
	default:
		var err error
		if options.Base, err = loadBase(ctx, shape); err != nil {
			return nil, err
		}
	}
	t, err := engine.NewTransport(options)
	if err != nil {
		return nil, fmt.Errorf("http_version: %w", err)
	}
	return &transport{Transport: t}, nil
}

// loadBase lets Caddy make a transport of the setting transport. Where it has
// defaults of its own for connections, the engine's stay in force.
func loadBase(ctx caddy.Context, shape transportShape) (*http.Transport, error) {
	block := *shape.Block
	block.DialTimeout = caddy.Duration(shape.DialTimeout)
	// The engine chooses the protocol.
	block.Versions = []string{"1.1"}
	raw, err := json.Marshal(block)
	if err != nil {
		return nil, err
	}
	module, err := ctx.LoadModuleByID(transportModule, raw)
	if err != nil {
		return nil, &settingError{name: "transport", message: err.Error()}
	}
	loaded, ok := module.(*reverseproxy.HTTPTransport)
	if !ok {
		return nil, &settingError{name: "transport", message: "this Caddy has another transport of that name"}
	}
	base := loaded.Transport
	if k := block.KeepAlive; k == nil || k.MaxIdleConnsPerHost == 0 {
		base.MaxIdleConnsPerHost = 0
	}
	if k := block.KeepAlive; k == nil || k.IdleConnTimeout == 0 {
		base.IdleConnTimeout = 0
	}
	if base.TLSHandshakeTimeout == 0 {
		base.TLSHandshakeTimeout = shape.DialTimeout
	}
	base.Proxy = apart(base.Proxy)
	return base, nil
}

// apart returns a choice of forward proxies that sees nothing of the client's
// request. Caddy's notes the proxy in the variables of that request, which are
// not safe for concurrent use, and fills placeholders from it.
func apart(proxy func(*http.Request) (*url.URL, error)) func(*http.Request) (*url.URL, error) {
	ctx := context.WithValue(context.Background(), caddy.ReplacerCtxKey, caddy.NewReplacer())
	return func(r *http.Request) (*url.URL, error) { return proxy(r.WithContext(ctx)) }
}
