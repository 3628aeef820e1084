package handler

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

// healthChecks are the active checks of a handler. They begin when the
// configuration runs, and not when it is only tried.
type healthChecks struct {
	options engine.HealthCheckOptions

	// mu guards running, nil until the checks have begun, and ended.
	mu      sync.Mutex
	running *engine.HealthChecks
	ended   bool
}

// provisionHealthChecks makes the checks ready. They end at Cleanup, which does
// not wait for their answers.
func (h *Handler) provisionHealthChecks(p *provisioning) error {
	active := h.Health.active()
	if active == nil {
		return nil
	}
	header, err := active.header(p.repl)
	if err != nil {
		return err
	}
	parts := p.parts
	parts.checks = &healthChecks{options: engine.HealthCheckOptions{
		Endpoints: func() []*engine.Endpoint {
			if parts.resolver != nil {
				// It must not block; new addresses are checked in the next round.
				parts.resolver.lookup()
			}
			return parts.endpoints.list()
		},
		Transport: p.members,
		URI:       active.URI, Port: active.Port, Header: header,
		Interval: active.Interval, Timeout: active.Timeout,
		Passes: active.Passes, Fails: active.Fails, ExpectStatus: active.Status,
		Report: func(e *engine.Endpoint, up bool, err error) {
			logHealth(parts.logger, e, up, append(active.logFields(), zap.Error(err))...)
		},
	}}
	h.onCleanup(func() error {
		parts.checks.end()
		return nil
	})
	return parts.checks.beginWith(p.ctx)
}

// logFields say in the log that the endpoint was asked for its health, and how.
// The query is left out, as it may hold a key.
func (c *activeChecks) logFields() []zap.Field {
	path, _, _ := strings.Cut(c.URI, "?")
	fields := []zap.Field{zap.String("health_uri", path)}
	if c.Port != 0 {
		fields = append(fields, zap.Int("health_port", c.Port))
	}
	return fields
}

// beginWith lets the checks begin when the configuration of the context runs. One
// that has no servers never does.
func (c *healthChecks) beginWith(ctx caddy.Context) error {
	app, err := ctx.AppIfConfigured("events")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil
	}
	if err != nil {
		return err
	}
	events, ok := app.(interface {
		On(event string, handler caddyevents.Handler) error
	})
	if !ok || events.On("started", c) != nil {
		// It runs already.
		c.begin()
	}
	return nil
}

// Handle begins the checks: Caddy has started the configuration.
func (c *healthChecks) Handle(context.Context, caddy.Event) error {
	c.begin()
	return nil
}

func (c *healthChecks) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running == nil && !c.ended {
		c.running = engine.StartHealthChecks(c.options)
	}
}

func (c *healthChecks) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.running != nil {
		c.running.Close()
	}
}
