package caddyfile

import (
	"encoding/json"
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/basetenlabs/caddy-performance-proxy/handler"
)

// A module is a module of Caddy's reverse_proxy that a subdirective configures
// in Caddy's own words.
type module struct {
	// name is the only name that the subdirective takes, id that of the module.
	name, id string
	// key is the member of the JSON object that holds the name.
	key string
}

// parseTransport reads `transport http { ... }`.
func parseTransport(d *caddyfile.Dispenser, h *handler.Handler) error {
	m := module{name: "http", id: "http.reverse_proxy.transport.http", key: "protocol"}
	if d.CountRemainingArgs() > 1 {
		// Caddy would pass over the block that follows them.
		return d.Errf("transport: expected nothing but a block after the word http")
	}
	return m.parse(d, h, &h.TransportRaw)
}

// parseDynamic reads `dynamic a ... { ... }`.
func parseDynamic(d *caddyfile.Dispenser, h *handler.Handler) error {
	m := module{name: "a", id: "http.reverse_proxy.upstreams.a", key: "source"}
	return m.parse(d, h, &h.DynamicUpstreamsRaw)
}

// parse lets Caddy read what stands after the name of a subdirective.
func (m module) parse(d *caddyfile.Dispenser, h *handler.Handler, raw *json.RawMessage) error {
	subdirective := d.Val()
	if !d.NextArg() {
		return d.Errf("%s: expected the word %s", subdirective, m.name)
	}
	if d.Val() != m.name {
		return d.Errf("%s: expected the word %s, got %q: only %s is supported", subdirective, m.name, d.Val(), m.name)
	}
	// The place of the first line, as the dispenser moves to the last one.
	first := *d
	parsed, err := caddyfile.UnmarshalModule(d, m.id)
	if err != nil {
		return fmt.Errorf("%s: %w", subdirective, err)
	}
	*raw = caddyconfig.JSONModuleObject(parsed, m.key, m.name, nil)
	return check(&first, h)
}
