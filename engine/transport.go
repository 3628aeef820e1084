package engine

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"
)

// The values of [TransportOptions].HTTPVersion.
const (
	// HTTPVersion2 negotiates HTTP/2 on https and falls back to HTTP/1.1; plain
	// http is HTTP/1.1.
	HTTPVersion2 = "2"
	// HTTPVersion1 is HTTP/1.1 only.
	HTTPVersion1 = "1"
	// HTTPVersionH2C is HTTP/2 in clear text on http; https is negotiated.
	HTTPVersionH2C = "h2c"
)

// DefaultDialTimeout is the [TransportOptions].DialTimeout when it is not set.
const DefaultDialTimeout = 5 * time.Second

// schemeH2C is the scheme of URLs that are spoken to in HTTP/2 in clear text.
const schemeH2C = "h2c"

const (
	// maxIdlePerHost is as many connections as one endpoint gets requests at
	// once: one that was worth making is worth keeping.
	maxIdlePerHost = 1024
	// idleTimeout is how long it is kept.
	idleTimeout = 90 * time.Second
	// maxResponseHeader is the largest head of a reply in bytes.
	maxResponseHeader = 256 << 10
	// readFrame is the largest frame of HTTP/2 that is accepted. The frames of
	// 16 KiB that servers send otherwise cost twice the CPU.
	readFrame = 1 << 20
	// pingAfter is how long a connection of HTTP/2 may be silent before it is
	// asked whether it still works, and pingTimeout how long it has to say so.
	pingAfter   = 10 * time.Second
	pingTimeout = 5 * time.Second
	// sessionsKept is how many servers can be connected to again with a short
	// TLS handshake.
	sessionsKept = 256
)

// TransportOptions say how connections are made. The zero value is ready for
// use.
type TransportOptions struct {
	// HTTPVersion is one of [HTTPVersion2], the default, [HTTPVersion1] and
	// [HTTPVersionH2C]. With each of them a URL of the scheme h2c is HTTP/2 in
	// clear text.
	HTTPVersion string
	// DialTimeout bounds the lookup of the name and the TCP connection together,
	// and the TLS handshake again. Default [DefaultDialTimeout].
	DialTimeout time.Duration
	// Control is called with every address before it is connected to, after
	// names were looked up; see [net.Dialer]. An error of it is found in the
	// error of RoundTrip with [errors.As]. Nil means every address will do.
	Control func(network, address string, c syscall.RawConn) error
	// Proxy returns the forward proxy of a request; see [http.Transport]. Nil
	// means none. Control then sees the address of the proxy.
	Proxy func(*http.Request) (*url.URL, error)
	// TLS is the configuration for https. Nil means the system's roots and no
	// client certificate.
	TLS *tls.Config
	// ServerName is the name that servers prove to have in TLS, for URLs that hold
	// an address in the place of a name. Empty means that TLS or the URL says it.
	ServerName string
	// Base is a transport whose way to dial, TLS, forward proxy, time limits,
	// sizes and limits of connections are used, in the place of DialTimeout,
	// Control, Proxy and TLS. The HTTP versions are not taken from it. It is not
	// used itself, and not changed. Nil means none.
	Base *http.Transport
}

// A Transport sends requests upstream over connections that it keeps. It never
// follows a redirect and never unpacks a reply. It is safe for concurrent use.
type Transport struct {
	// http1 is HTTP/1.1 on both schemes.
	http1 *http.Transport
	// negotiated is HTTP/2 or HTTP/1.1 on https.
	negotiated *multiplexed
	// unencrypted is HTTP/2 on http.
	unencrypted *multiplexed

	version string
}

// NewTransport returns a transport. The error says that the HTTP version is
// unknown.
func NewTransport(o TransportOptions) (*Transport, error) {
	switch o.HTTPVersion {
	case "":
		o.HTTPVersion = HTTPVersion2
	case HTTPVersion1, HTTPVersion2, HTTPVersionH2C:
	default:
		return nil, fmt.Errorf("unknown HTTP version %q", o.HTTPVersion)
	}
	base := o.base()
	var http1, negotiated, unencrypted http.Protocols
	http1.SetHTTP1(true)
	negotiated.SetHTTP1(true)
	negotiated.SetHTTP2(true)
	unencrypted.SetUnencryptedHTTP2(true)
	return &Transport{
		http1:       speaking(base, http1),
		negotiated:  newMultiplexed(base, negotiated),
		unencrypted: newMultiplexed(base, unencrypted),
		version:     o.HTTPVersion,
	}, nil
}

// base returns what all transports of net/http have in common.
func (o TransportOptions) base() *http.Transport {
	t := o.dialing()
	if o.Base != nil {
		t = likeBase(o.Base)
	}
	t.HTTP2 = &http.HTTP2Config{MaxReadFrameSize: readFrame, SendPingTimeout: pingAfter, PingTimeout: pingTimeout}
	t.DisableCompression = true
	if t.DialContext == nil {
		t.DialContext = new(net.Dialer).DialContext
	}
	t.DialContext = keep(t.DialContext)
	t.MaxIdleConnsPerHost = cmp.Or(t.MaxIdleConnsPerHost, maxIdlePerHost)
	t.IdleConnTimeout = cmp.Or(t.IdleConnTimeout, idleTimeout)
	t.MaxResponseHeaderBytes = cmp.Or(t.MaxResponseHeaderBytes, maxResponseHeader)
	t.TLSHandshakeTimeout = cmp.Or(t.TLSHandshakeTimeout, DefaultDialTimeout)
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = new(tls.Config)
	}
	if t.TLSClientConfig.ClientSessionCache == nil {
		t.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(sessionsKept)
	}
	t.TLSClientConfig.ServerName = cmp.Or(t.TLSClientConfig.ServerName, o.ServerName)
	// What is negotiated follows from the protocols of each transport.
	t.TLSClientConfig.NextProtos = nil
	return t
}

// dialing returns a transport that dials as the options say.
func (o TransportOptions) dialing() *http.Transport {
	timeout := o.DialTimeout
	if timeout <= 0 {
		timeout = DefaultDialTimeout
	}
	dialer := &net.Dialer{Timeout: timeout, Control: o.Control}
	return &http.Transport{
		Proxy:               o.Proxy,
		DialContext:         dialer.DialContext,
		TLSClientConfig:     o.TLS.Clone(),
		TLSHandshakeTimeout: timeout,
	}
}

// likeBase returns a transport that connects as another does. It is no clone,
// which would speak HTTP/2 over the connections of the other one.
func likeBase(base *http.Transport) *http.Transport {
	return &http.Transport{
		Proxy:                  base.Proxy,
		OnProxyConnectResponse: base.OnProxyConnectResponse,
		ProxyConnectHeader:     base.ProxyConnectHeader.Clone(),
		GetProxyConnectHeader:  base.GetProxyConnectHeader,
		DialContext:            base.DialContext,
		TLSClientConfig:        base.TLSClientConfig.Clone(),
		TLSHandshakeTimeout:    base.TLSHandshakeTimeout,
		DisableKeepAlives:      base.DisableKeepAlives,
		MaxIdleConns:           base.MaxIdleConns,
		MaxIdleConnsPerHost:    base.MaxIdleConnsPerHost,
		MaxConnsPerHost:        base.MaxConnsPerHost,
		IdleConnTimeout:        base.IdleConnTimeout,
		ResponseHeaderTimeout:  base.ResponseHeaderTimeout,
		ExpectContinueTimeout:  base.ExpectContinueTimeout,
		MaxResponseHeaderBytes: base.MaxResponseHeaderBytes,
		WriteBufferSize:        base.WriteBufferSize,
		ReadBufferSize:         base.ReadBufferSize,
	}
}

// speaking returns a transport like base for the given protocols.
func speaking(base *http.Transport, p http.Protocols) *http.Transport {
	t := base.Clone()
	t.Protocols = &p
	return t
}

// RoundTrip sends one request as [http.RoundTripper] says. The scheme of the
// URL is http, https or h2c.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	switch {
	case req.URL == nil:
		return t.http1.RoundTrip(req) // which says so
	case req.URL.Scheme == schemeH2C:
		wire := *req.URL
		wire.Scheme = "http"
		clone := *req
		clone.URL = &wire
		return t.unencrypted.RoundTrip(&clone)
	case req.URL.Scheme == "http" && t.version == HTTPVersionH2C:
		return t.unencrypted.RoundTrip(req)
	case req.URL.Scheme == "https" && t.version != HTTPVersion1:
		return settled(t.negotiated, req)
	}
	return settled(t.http1, req)
}

// CloseIdleConnections closes the connections that no request is on. The
// transport may still be used.
func (t *Transport) CloseIdleConnections() {
	t.http1.CloseIdleConnections()
	t.negotiated.CloseIdleConnections()
	t.unencrypted.CloseIdleConnections()
}
