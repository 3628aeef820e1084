// Package caddyfile turns the directive performance_proxy of a Caddyfile into
// a [handler.Handler]. It checks the number of arguments, their types,
// duplicates and unknown names itself; ranges and the like are the rules of
// [handler.Handler.Check], which hold for JSON too: they are checked after every
// line, so that the error names it. What needs all lines is checked at the end.
//
//	performance_proxy [<matcher>] [<target>...] {
//		to                         <target>...
//		dynamic                    a [<name> [<port>]] {
//			...
//		}
//		weights                    <weight>...
//		lb_policy                  random_choose [2]|round_robin|random|first
//		max_upstream_requests      <count>
//		max_upstream_items         <count>
//		retry_bucket {
//			size                   <retries>
//			per_reply              <retries>
//			per_second             <retries>
//		}
//		fail_duration              <duration>|0
//		max_fails                  <count>
//		unhealthy_status           <code>|<class>...
//		unhealthy_latency          <duration>
//		health_uri                 <path>
//		health_port                <port>
//		health_interval            <duration>
//		health_timeout             <duration>
//		health_passes              <count>
//		health_fails               <count>
//		health_status              <code>|<class>
//		health_headers {
//			<name> <value>...
//		}
//		api_key                    <key>
//		client_keys                <key>...
//		allowed_targets            <target>...
//		http_version               1|2|h2c
//		dial_timeout               <duration>
//		transport                  http {
//			...
//		}
//		max_request_body           <size>
//		max_response_body          <size>
//		max_memory                 <size>
//		no_split                   <model>...
//		max_concurrent_requests    <count>
//		batch_size                 <count>
//		max_chars_per_request      <count>
//		max_tokens_per_request     <count>
//		timeout_s                  <seconds>
//		total_timeout_s            <seconds>
//		hedge_delay                <seconds>|auto
//		hedge_budget_pct           <fraction>
//		retry_budget_pct           <fraction>
//		max_retries                <count>
//		initial_backoff_ms         <milliseconds>
//		non_retryable_status_codes <code>...
//		response_format            <format>
//		response_mode              <mode>
//		cap {
//			<preference> <max>
//		}
//		deny_preferences           <preference>...
//	}
//
// The subdirectives to, client_keys, allowed_targets, no_split and
// deny_preferences may stand several times, their values add up; every other
// one may stand once. The blocks of dynamic and transport are those of Caddy's
// reverse_proxy.
package caddyfile

import (
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/basetenlabs/caddy-performance-proxy/handler"
)

// Parse reads one performance_proxy directive, its matcher already taken off,
// and returns a [*handler.Handler]. An error names the file, the line and what
// was expected there; it never holds a key.
func Parse(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	d := h.Dispenser
	d.Next() // the name of the directive
	proxy := new(handler.Handler)
	if args := d.RemainingArgs(); len(args) > 0 {
		targets, err := target.parseAll(args)
		if err != nil {
			return nil, d.Errf("performance_proxy: %v", err)
		}
		proxy.To = targets
		if err := proxy.Check(); err != nil {
			return nil, d.Errf("performance_proxy: %w", err)
		}
	}
	seen := make(map[string]position)
	for d.NextBlock(0) {
		if err := parseSubdirective(d, proxy, seen); err != nil {
			return nil, err
		}
	}
	if err := proxy.CheckComplete(); err != nil {
		return nil, atSetting(d, err, seen)
	}
	return proxy, nil
}

// atSetting returns an error with the place of the setting that it is about.
func atSetting(d *caddyfile.Dispenser, err error, seen map[string]position) error {
	name, err := inCaddyfileTerms(err)
	if at, ok := seen[name]; ok {
		return fmt.Errorf("%w, at %s", err, at)
	}
	return d.Errf("%w", err)
}

// inCaddyfileTerms returns the subdirective of the setting that an error of the
// handler is about, empty when it is about none, and the error with that name in
// the place of another one that the setting has in JSON.
func inCaddyfileTerms(err error) (name string, renamed error) {
	fault, ok := errors.AsType[interface {
		error
		SettingName() string
	}](err)
	if !ok {
		return "", err
	}
	setting := fault.SettingName()
	for _, s := range subdirectives() {
		if s.field == setting {
			return s.name, errors.New(s.name + strings.TrimPrefix(err.Error(), setting))
		}
	}
	return setting, err
}

// A position is where a name stands.
type position struct {
	file string
	line int
}

func (p position) String() string { return fmt.Sprintf("%s:%d", p.file, p.line) }

// parseSubdirective reads the subdirective at d into h. It notes in seen where
// it stands.
func parseSubdirective(d *caddyfile.Dispenser, h *handler.Handler, seen map[string]position) error {
	name := d.Val()
	sub, ok := lookup(name)
	if !ok {
		return d.Errf("unknown subdirective %q of performance_proxy; %s", name, suggestSubdirective(name))
	}
	if first, ok := seen[name]; ok && !sub.repeats {
		return d.Errf("%s is already set at %s", name, first)
	}
	seen[name] = position{d.File(), d.Line()}
	if err := sub.parse(d, h); err != nil {
		return err
	}
	return check(d, h)
}

// check returns the first fault of what was read until now, with the line at d:
// the lines before it had none.
func check(d *caddyfile.Dispenser, h *handler.Handler) error {
	if err := h.Check(); err != nil {
		_, err = inCaddyfileTerms(err)
		return d.Errf("%w", err)
	}
	return nil
}

// argsOnly returns the arguments of the name at d and fails when a block opens
// after them.
func argsOnly(d *caddyfile.Dispenser, name string) ([]string, error) {
	args := d.RemainingArgs()
	if d.NextLine() {
		d.Prev()
		return args, nil
	}
	// Only a brace that opens a block can be left on this line.
	if d.Next() {
		return nil, d.Errf("%s takes no block", name)
	}
	return args, nil
}
