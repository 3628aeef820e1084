package caddyfile

import (
	"slices"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/basetenlabs/caddy-performance-proxy/handler"
)

// parseCap reads the block of cap: on each line one preference and the largest
// value that callers may ask for.
func parseCap(d *caddyfile.Dispenser, h *handler.Handler) error {
	if d.CountRemainingArgs() > 0 {
		return d.Errf(`cap: expected no arguments but a block of lines "<preference> <max>"`)
	}
	known := names(func(u use) bool { return u == numericPreference })
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		if !slices.Contains(known, name) {
			return d.Errf("cap: %q is no preference that can be capped; %s", name, suggest(name, known))
		}
		if _, ok := h.Cap[name]; ok {
			return d.Errf("cap: %s is already capped", name)
		}
		limit, err := singleArg(d, "cap: "+name, number)
		if err != nil {
			return err
		}
		if h.Cap == nil {
			h.Cap = make(map[string]float64)
		}
		h.Cap[name] = limit
		if err := check(d, h); err != nil {
			return err
		}
	}
	if len(h.Cap) == 0 {
		return d.Errf(`cap: expected a block with at least one line "<preference> <max>"`)
	}
	return nil
}

// parseDenyPreferences reads the names of preferences that callers may not
// send.
func parseDenyPreferences(d *caddyfile.Dispenser, h *handler.Handler) error {
	args, err := argsOnly(d, "deny_preferences")
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return d.Errf("deny_preferences: expected at least one argument (the name of a preference)")
	}
	known := append(names(func(u use) bool { return u != operatorOnly }), requestPreferences...)
	for _, name := range args {
		if !slices.Contains(known, name) {
			return d.Errf("deny_preferences: %q is no preference; %s", name, suggest(name, known))
		}
	}
	h.DenyPreferences = append(h.DenyPreferences, args...)
	return nil
}
