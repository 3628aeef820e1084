package caddyfile

import (
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/basetenlabs/caddy-performance-proxy/handler"
)

// parseLBPolicy reads the name of a policy. As in Caddy's reverse_proxy,
// random_choose may be followed by the number of endpoints that it chooses from;
// here it is 2.
func parseLBPolicy(d *caddyfile.Dispenser, h *handler.Handler) error {
	args, err := argsOnly(d, "lb_policy")
	if err != nil {
		return err
	}
	if len(args) == 0 || args[0] == "" {
		return d.Errf("lb_policy: expected the name of a policy")
	}
	h.LBPolicy = args[0]
	// A policy that there is not is the first thing to say of its arguments.
	if err := check(d, h); err != nil {
		return err
	}
	switch {
	case len(args) == 1:
	case h.LBPolicy != "random_choose":
		return d.Errf("lb_policy: %s takes no arguments", h.LBPolicy)
	case len(args) > 2 || args[1] != "2":
		return d.Errf("lb_policy: random_choose chooses from 2 endpoints, and no other number of them")
	}
	return nil
}

// parseRetryBucket reads the block of retry_bucket.
func parseRetryBucket(d *caddyfile.Dispenser, h *handler.Handler) error {
	const expected = `retry_bucket: expected no arguments but a block of lines "size <retries>", "per_reply <retries>", "per_second <retries>"`
	if d.CountRemainingArgs() > 0 {
		return d.Errf(expected)
	}
	known := []string{"size", "per_reply", "per_second"}
	bucket := new(handler.RetryBucket)
	seen := make(map[string]position)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		if !slices.Contains(known, name) {
			return d.Errf("retry_bucket: unknown name %q; %s", name, suggest(name, known))
		}
		if first, ok := seen[name]; ok {
			return d.Errf("retry_bucket: %s is already set at %s", name, first)
		}
		seen[name] = position{d.File(), d.Line()}
		value, err := singleArg(d, "retry_bucket: "+name, number)
		if err != nil {
			return err
		}
		switch name {
		case "size":
			if bucket.Size = value; value == 0 {
				// In JSON it would mean the default.
				return d.Errf("retry_bucket: size: expected a number of at least 1")
			}
		case "per_reply":
			bucket.PerReply = &value
		case "per_second":
			bucket.PerSecond = &value
		}
		h.RetryBucket = bucket
		if err := check(d, h); err != nil {
			return err
		}
	}
	if len(seen) == 0 {
		return d.Errf(expected)
	}
	return nil
}

// parseHealthHeaders reads the block of health_headers: on each line the name of
// a header and its values.
func parseHealthHeaders(d *caddyfile.Dispenser, h *handler.Handler) error {
	const expected = `health_headers: expected no arguments but a block of lines "<name> <value>..."`
	if d.CountRemainingArgs() > 0 {
		return d.Errf(expected)
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		args, err := argsOnly(d, "health_headers: "+name)
		if err != nil {
			return err
		}
		if len(args) == 0 {
			return d.Errf("health_headers: %s: expected at least one argument (%s)", name, headerValue.expected)
		}
		values, err := headerValue.parseAll(args)
		if err != nil {
			return d.Errf("health_headers: %s: %v", name, err)
		}
		if h.HealthHeaders == nil {
			h.HealthHeaders = make(http.Header)
		}
		h.HealthHeaders[name] = append(h.HealthHeaders[name], values...)
		if err := check(d, h); err != nil {
			return err
		}
	}
	if len(h.HealthHeaders) == 0 {
		return d.Errf(expected)
	}
	return nil
}
