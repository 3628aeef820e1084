package handler

import (
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

// The defaults of the sizes that the engine has none for.
const (
	defaultMaxRequestBody = 64 << 20
	defaultMaxMemory      = 1 << 30
)

// parts are what a provisioned handler works with. They are safe for concurrent
// use, and requests may outlive the handler that they came through.
type parts struct {
	logger   *zap.Logger
	settings *Settings
	policy   *policy
	targets  *targets
	auth     *auth
	body     bodyReader
	engine   *engine.Engine
	// operator connects to targets that the operator named, public to all
	// others: it reaches public addresses only, with nothing of the operator's.
	operator, public *engine.Transport
	// retries bounds the retries of all requests to the configured target.
	retries *engine.RetryBucket
}

// Provision checks the configuration and makes the handler ready. It connects
// to nothing.
func (h *Handler) Provision(ctx caddy.Context) error {
	if err := h.Check(); err != nil {
		return err
	}
	h.setDefaults()
	repl := caddy.NewReplacer()
	p := &parts{logger: ctx.Logger(), settings: &h.Settings, retries: engine.NewRetryBucket()}
	for _, provision := range []func(*parts, *caddy.Replacer) error{
		h.provisionPolicy, h.provisionTargets, h.provisionKeys, h.provisionEngine, h.provisionTransports,
	} {
		if err := provision(p, repl); err != nil {
			return err
		}
	}
	h.parts = p
	return nil
}

// Cleanup closes connections that are not in use. Requests that came through
// this handler may still be under way, and keep theirs.
func (h *Handler) Cleanup() error {
	if h.parts != nil {
		h.parts.operator.CloseIdleConnections()
		h.parts.public.CloseIdleConnections()
	}
	return nil
}

func (h *Handler) setDefaults() {
	if h.HTTPVersion == "" {
		h.HTTPVersion = engine.HTTPVersion2
	}
	if h.DialTimeout == 0 {
		h.DialTimeout = caddy.Duration(engine.DefaultDialTimeout)
	}
	if h.MaxRequestBody == 0 {
		h.MaxRequestBody = defaultMaxRequestBody
	}
	if h.MaxResponseBody == 0 {
		h.MaxResponseBody = engine.DefaultMaxResponseBody
	}
	if h.MaxMemory == 0 {
		h.MaxMemory = defaultMaxMemory
	}
}

func (h *Handler) provisionPolicy(p *parts, _ *caddy.Replacer) error {
	var err error
	p.policy, err = newPolicy(h.Cap, h.DenyPreferences)
	return err
}

func (h *Handler) provisionTargets(p *parts, repl *caddy.Replacer) error {
	var err error
	p.targets, err = h.parseTargets(repl)
	return err
}

func (h *Handler) provisionKeys(p *parts, repl *caddy.Replacer) error {
	p.auth = &auth{}
	var err error
	if h.APIKey != "" {
		if p.auth.apiKey, err = newKeySource("api_key", h.APIKey, repl, p.logger); err != nil {
			return err
		}
	}
	if len(h.ClientKeys) > 0 {
		p.auth.clients, err = newClientKeys(h.ClientKeys, repl, p.logger)
	}
	return err
}

func (h *Handler) provisionEngine(p *parts, _ *caddy.Replacer) error {
	memory := engine.NewMemory(h.MaxMemory)
	p.body = bodyReader{max: h.MaxRequestBody, memory: memory}
	p.engine = engine.New(engine.Options{MaxResponseBody: h.MaxResponseBody, Memory: memory, NoSplit: h.NoSplit})
	return nil
}

func (h *Handler) provisionTransports(p *parts, _ *caddy.Replacer) error {
	options := engine.TransportOptions{
		HTTPVersion: h.HTTPVersion,
		DialTimeout: time.Duration(h.DialTimeout),
		Proxy:       http.ProxyFromEnvironment,
	}
	var err error
	if p.operator, err = engine.NewTransport(options); err != nil {
		return fmt.Errorf("http_version: %w", err)
	}
	options.Proxy, options.Control = nil, engine.PublicOnly
	p.public, err = engine.NewTransport(options)
	return err
}
