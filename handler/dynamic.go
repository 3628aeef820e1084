package handler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

// The only module of the setting dynamic_upstreams, and where it says its name.
const (
	dynamicModule = "http.reverse_proxy.upstreams.a"
	dynamicSource = "a"
	dynamicKey    = "source"
)

const (
	// lookupTimeout bounds one lookup of the addresses.
	lookupTimeout = 5 * time.Second
	// lookupPatience is how long after the start of a lookup requests wait for it
	// when they could use the addresses of the last one.
	lookupPatience = 250 * time.Millisecond
	// lookupPause is how long after a failed lookup the next one may start.
	lookupPause = time.Second
)

// readDynamic returns what the setting dynamic_upstreams says, nil when it is
// not set.
func (h *Handler) readDynamic() (*reverseproxy.AUpstreams, error) {
	if len(h.DynamicUpstreamsRaw) == 0 {
		return nil, nil
	}
	a := new(reverseproxy.AUpstreams)
	if err := readInline(h.DynamicUpstreamsRaw, dynamicKey, dynamicSource, a); err != nil {
		return nil, dynamicError("%v", err)
	}
	return a, nil
}

func dynamicError(format string, args ...any) error {
	return &settingError{name: "dynamic_upstreams", message: fmt.Sprintf(format, args...)}
}

// checkDynamic checks the setting dynamic_upstreams.
func (h *Handler) checkDynamic() error {
	a, err := h.readDynamic()
	if a == nil || err != nil {
		return err
	}
	switch {
	case len(h.To) > 0:
		return dynamicError("cannot stand beside to: its addresses are the endpoints")
	case len(h.Weights) > 0:
		return dynamicError("cannot stand beside weights: its addresses have one weight")
	case a.Refresh != 0 && time.Duration(a.Refresh) < minDuration:
		return dynamicError("refresh must be a duration of at least %v, is %v", minDuration, time.Duration(a.Refresh))
	}
	if strings.Contains(a.Name+a.Port, "{") {
		return nil
	}
	return checkNameAndPort(a)
}

// checkNameAndPort checks what is looked up, which holds no placeholders.
func checkNameAndPort(a *reverseproxy.AUpstreams) error {
	if !isHostName(strings.ToLower(a.Name)) {
		return dynamicError("name must be the name of a host, and nothing else; the port stands by itself")
	}
	if a.Port == "" {
		return nil
	}
	if n, err := strconv.ParseUint(a.Port, 10, 16); err != nil || n == 0 || a.Port[0] == '0' {
		return dynamicError("port must be a number from 1 to 65535")
	}
	return nil
}

// A dynamicTarget is a name whose addresses are the endpoints.
type dynamicTarget struct {
	// scheme is http or https.
	scheme string
	// name is what is looked up, host what the Host header says.
	name, host string
	// settings are those of Caddy's module, its placeholders replaced.
	settings *reverseproxy.AUpstreams
}

// parseDynamic returns the target of the setting dynamic_upstreams, nil when it
// is not set.
func (h *Handler) parseDynamic(repl *caddy.Replacer) (*dynamicTarget, error) {
	a, err := h.readDynamic()
	if a == nil || err != nil {
		return nil, err
	}
	for _, value := range []*string{&a.Name, &a.Port} {
		if *value, err = repl.ReplaceOrErr(*value, true, true); err != nil {
			return nil, dynamicError("%v", err)
		}
	}
	if err := checkNameAndPort(a); err != nil {
		return nil, err
	}
	block, err := h.readTransport()
	if err != nil {
		return nil, err
	}
	d := &dynamicTarget{scheme: "http", name: strings.ToLower(a.Name), settings: a}
	a.Name = d.name
	if a.Port == "" {
		a.Port = "80"
	}
	usual := "80"
	if block != nil && block.TLS != nil {
		d.scheme, usual = "https", "443"
	}
	d.host = strings.TrimSuffix(d.name, ".")
	if a.Port != usual {
		d.host = net.JoinHostPort(d.host, a.Port)
	}
	return d, nil
}

// A lookup is one question for the addresses of a name.
type lookup struct {
	started time.Time
	// done is closed at its end, and err does not change after that.
	done chan struct{}
	err  error
}

// A resolver keeps the endpoints of a name up to date. It is safe for concurrent
// use.
type resolver struct {
	source    reverseproxy.UpstreamSource
	target    *dynamicTarget
	endpoints *endpoints
	logger    *zap.Logger

	mu sync.Mutex
	// last is the lookup that is under way or was the last one; nil before the
	// first.
	last *lookup
	// retryAt is when the next lookup may start after one that failed.
	retryAt time.Time
}

// provisionResolver loads Caddy's module for the setting dynamic_upstreams.
func (h *Handler) provisionResolver(p *provisioning) error {
	if p.targets.dynamic == nil {
		return nil
	}
	raw, err := json.Marshal(p.targets.dynamic.settings)
	if err != nil {
		return err
	}
	module, err := p.ctx.LoadModuleByID(dynamicModule, raw)
	if err != nil {
		return dynamicError("%v", err)
	}
	source, ok := module.(reverseproxy.UpstreamSource)
	if !ok {
		return dynamicError("this Caddy has another source of that name")
	}
	p.resolver = &resolver{source: source, target: p.targets.dynamic, endpoints: p.endpoints, logger: p.logger}
	return nil
}

// refresh returns when the endpoints may be used: when their addresses are up
// to date or, at the latest, as soon as it is better to use the last ones than to
// wait. The error is the cause of the end of ctx, or an [engine.NetworkError] when
// there are no addresses, not even old ones.
func (r *resolver) refresh(ctx context.Context) error {
	l := r.lookup()
	patience := lookupTimeout
	if r.endpoints.known() {
		patience = lookupPatience
	}
	timer := time.NewTimer(time.Until(l.started.Add(patience)))
	defer timer.Stop()
	err := errLookupTime
	select {
	case <-l.done:
		err = l.err
	case <-timer.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if r.endpoints.known() {
		return nil
	}
	return lookupError(err)
}

// errLookupTime is what is wrong with a lookup that takes too long.
var errLookupTime = errors.New("looking up the addresses takes too long")

// lookupError makes the error of a request that has nowhere to go. Its cause
// does not name the name.
func lookupError(err error) error {
	cause := "the addresses of the endpoints are not known"
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		cause += ": " + dns.Err
	}
	return &engine.NetworkError{Cause: cause, Err: err}
}

// lookup returns the lookup that is under way. When there is none it starts
// one, unless the last one has only just failed: then it returns that one.
func (r *resolver) lookup() *lookup {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last != nil {
		select {
		case <-r.last.done:
			if time.Now().Before(r.retryAt) {
				return r.last
			}
		default:
			return r.last
		}
	}
	l := &lookup{started: time.Now(), done: make(chan struct{})}
	failing := r.last != nil && r.last.err != nil
	r.last = l
	go r.run(l, failing)
	return l
}

// run looks the addresses up. Caddy's module keeps them for a while, and most
// lookups end at once.
func (r *resolver) run(l *lookup, failing bool) {
	addresses, err := r.addresses()
	if err == nil {
		r.endpoints.set(r.target, addresses)
	} else if !failing {
		// Said once until it works again.
		r.logger.Warn("looking up the endpoints failed, the last addresses stay in use",
			zap.String("name", r.target.name), zap.Error(err))
	}
	r.mu.Lock()
	l.err, r.retryAt = err, time.Time{}
	if err != nil {
		r.retryAt = time.Now().Add(lookupPause)
	}
	r.mu.Unlock()
	close(l.done)
}

// addresses asks Caddy's module for the addresses, each with its port. It has a
// request of its own to work on, as nothing of a client's may reach it.
func (r *resolver) addresses() (addresses []string, err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &engine.PanicError{Value: value, Stack: debug.Stack()}
		}
	}()
	ctx := context.WithValue(context.Background(), caddy.ReplacerCtxKey, caddy.NewEmptyReplacer())
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.target.scheme+"://"+r.target.host, http.NoBody)
	if err != nil {
		return nil, err
	}
	upstreams, err := r.source.GetUpstreams(req)
	if err != nil {
		return nil, err
	}
	for _, upstream := range upstreams {
		addresses = append(addresses, upstream.Dial)
	}
	if len(addresses) == 0 {
		return nil, errors.New("the name has no addresses")
	}
	return addresses, nil
}
