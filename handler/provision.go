package handler

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

// The defaults of the operator's settings.
const (
	defaultHTTPVersion    = "2"
	defaultDialTimeout    = 5 * time.Second
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
	h.setDefaults()
	repl := caddy.NewReplacer()
	p := &parts{logger: ctx.Logger(), settings: &h.Settings, retries: engine.NewRetryBucket()}
	for _, provision := range []func(*parts, *caddy.Replacer) error{
		h.provisionSettings, h.provisionTargets, h.provisionKeys, h.provisionLimits, h.provisionTransports,
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
		h.HTTPVersion = defaultHTTPVersion
	}
	if h.DialTimeout == 0 {
		h.DialTimeout = caddy.Duration(defaultDialTimeout)
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

func (h *Handler) provisionSettings(p *parts, _ *caddy.Replacer) error {
	if err := h.Settings.validate(""); err != nil {
		return err
	}
	var err error
	p.policy, err = newPolicy(h.Cap, h.DenyPreferences)
	return err
}

func (h *Handler) provisionTargets(p *parts, repl *caddy.Replacer) error {
	if len(h.To) > 1 {
		return fmt.Errorf("to: expected one target, not %d", len(h.To))
	}
	p.targets = &targets{}
	for _, value := range h.To {
		u, err := provisionTarget(repl, value)
		if err != nil {
			return fmt.Errorf("to: %w", err)
		}
		p.targets.configured = append(p.targets.configured, u)
	}
	allowed := make([]string, len(h.AllowedTargets))
	for i, value := range h.AllowedTargets {
		var err error
		if allowed[i], err = repl.ReplaceOrErr(value, true, true); err != nil {
			return fmt.Errorf("%s: %w", settingAllowedTargets, err)
		}
	}
	var err error
	p.targets.allowed, err = newAllowedTargets(allowed)
	return err
}

func provisionTarget(repl *caddy.Replacer, value string) (*url.URL, error) {
	text, err := repl.ReplaceOrErr(value, true, true)
	if err != nil {
		return nil, err
	}
	return parseTarget(text)
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

func (h *Handler) provisionLimits(p *parts, _ *caddy.Replacer) error {
	for _, limit := range []struct {
		name  string
		value int64
	}{
		{"max_request_body", h.MaxRequestBody},
		{"max_response_body", h.MaxResponseBody},
		{"max_memory", h.MaxMemory},
	} {
		if limit.value < 0 {
			return fmt.Errorf("%s: expected a number of bytes over 0, not %d", limit.name, limit.value)
		}
	}
	for _, model := range h.NoSplit {
		if model == "" {
			return errors.New("no_split: expected the name of a model, not an empty string")
		}
	}
	memory := engine.NewMemory(h.MaxMemory)
	p.body = bodyReader{max: h.MaxRequestBody, memory: memory}
	p.engine = engine.New(engine.Options{MaxResponseBody: h.MaxResponseBody, Memory: memory, NoSplit: h.NoSplit})
	return nil
}

func (h *Handler) provisionTransports(p *parts, _ *caddy.Replacer) error {
	if h.DialTimeout < 0 {
		return fmt.Errorf("dial_timeout: expected a duration over 0, not %v", time.Duration(h.DialTimeout))
	}
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
