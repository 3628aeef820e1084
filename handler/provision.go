package handler

import (
	"errors"
	"slices"

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
	// members connects to the configured endpoints, operator to all targets that
	// the operator named, and public to the others: it reaches public addresses
	// only, with nothing of the operator's.
	members, operator, public *transport
	endpoints                 *endpoints
	// resolver keeps the configured endpoints up to date, nil when these do not
	// change.
	resolver *resolver
	// checks ask the configured endpoints for their health, nil when nobody does.
	checks *healthChecks
}

// provisioning is what the parts are made with.
type provisioning struct {
	*parts
	ctx  caddy.Context
	repl *caddy.Replacer
	// shape is that of the operator's transport.
	shape transportShape
}

// Provision checks the configuration and makes the handler ready. What it makes
// or takes over is given back by Cleanup, also after an error. It connects to
// nothing.
func (h *Handler) Provision(ctx caddy.Context) error {
	if err := h.CheckComplete(); err != nil {
		return err
	}
	h.setDefaults()
	return h.provision(ctx, ctx.Logger())
}

// provision makes the parts of a handler that was checked.
func (h *Handler) provision(ctx caddy.Context, logger *zap.Logger) error {
	p := &provisioning{
		parts: &parts{logger: logger, settings: &h.Settings},
		ctx:   ctx,
		repl:  caddy.NewReplacer(),
	}
	for _, provision := range []func(*provisioning) error{
		h.provisionPolicy, h.provisionTargets, h.provisionKeys, h.provisionEngine,
		h.provisionTransports, h.provisionEndpoints, h.provisionResolver, h.provisionHealthChecks, h.provisionWarnings,
	} {
		if err := provision(p); err != nil {
			return err
		}
	}
	h.parts = p.parts
	return nil
}

// onCleanup calls f at Cleanup, before what was given to it earlier.
func (h *Handler) onCleanup(f func() error) { h.cleanups = append(h.cleanups, f) }

// Cleanup ends the health checks and gives back what Provision took. Requests
// that came through this handler may still be under way, and keep theirs. It may
// be called again, and when nothing was provisioned.
func (h *Handler) Cleanup() error {
	cleanups := h.cleanups
	h.cleanups = nil
	var errs []error
	for _, cleanup := range slices.Backward(cleanups) {
		errs = append(errs, cleanup())
	}
	return errors.Join(errs...)
}

func (h *Handler) setDefaults() {
	if h.HTTPVersion == "" {
		h.HTTPVersion = engine.HTTPVersion2
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

func (h *Handler) provisionPolicy(p *provisioning) error {
	var err error
	p.policy, err = newPolicy(h.Cap, h.DenyPreferences)
	return err
}

func (h *Handler) provisionTargets(p *provisioning) error {
	var err error
	p.targets, err = h.parseTargets(p.repl)
	return err
}

func (h *Handler) provisionKeys(p *provisioning) error {
	p.auth = &auth{}
	var err error
	if h.APIKey != "" {
		if p.auth.apiKey, err = newKeySource("api_key", h.APIKey, p.repl, p.logger); err != nil {
			return err
		}
	}
	if len(h.ClientKeys) > 0 {
		p.auth.clients, err = newClientKeys(h.ClientKeys, p.repl, p.logger)
	}
	return err
}

func (h *Handler) provisionEngine(p *provisioning) error {
	memory := engine.NewMemory(h.MaxMemory)
	p.body = bodyReader{max: h.MaxRequestBody, memory: memory}
	p.engine = engine.New(engine.Options{
		MaxResponseBody: h.MaxResponseBody,
		Memory:          memory,
		NoSplit:         h.NoSplit,
		Observer:        engineLog{p.logger},
	})
	return nil
}
