package caddyfile

import (
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/basetenlabs/caddy-performance-proxy/handler"
)

// A subdirective is one line or block inside performance_proxy.
type subdirective struct {
	name string
	// field is the name of the JSON field where it is another one.
	field string
	// repeats tells that the subdirective may stand several times.
	repeats bool
	// use says what callers may do with it.
	use use
	// parse reads the arguments or the block after the name.
	parse parseFunc
}

type parseFunc func(d *caddyfile.Dispenser, h *handler.Handler) error

// A use says whether a setting is a preference of callers.
type use int

const (
	operatorOnly use = iota
	preference
	numericPreference
)

// subdirectives returns the table: one row for every field of the handler. It
// is a function and no variable because parsers in it look names up in it.
func subdirectives() []subdirective {
	return slices.Concat(operatorSubdirectives(), upstreamSubdirectives(), healthSubdirectives(), preferenceSubdirectives())
}

// operatorSubdirectives returns the rows that callers have no part in.
func operatorSubdirectives() []subdirective {
	return []subdirective{
		{name: "to", repeats: true, parse: list(target, func(h *handler.Handler) *[]string { return &h.To })},
		{name: "api_key", parse: single(key, func(h *handler.Handler, v string) { h.APIKey = v })},
		{name: "client_keys", repeats: true, parse: list(key, func(h *handler.Handler) *[]string { return &h.ClientKeys })},
		{name: "allowed_targets", repeats: true, parse: list(target, func(h *handler.Handler) *[]string { return &h.AllowedTargets })},
		{name: "http_version", parse: single(httpVersion, func(h *handler.Handler, v string) { h.HTTPVersion = v })},
		{name: "dial_timeout", parse: single(duration, func(h *handler.Handler, v caddy.Duration) { h.DialTimeout = v })},
		{name: "transport", parse: parseTransport},
		{name: "max_request_body", parse: single(size, func(h *handler.Handler, v int64) { h.MaxRequestBody = v })},
		{name: "max_response_body", parse: single(size, func(h *handler.Handler, v int64) { h.MaxResponseBody = v })},
		{name: "max_memory", parse: single(size, func(h *handler.Handler, v int64) { h.MaxMemory = v })},
		{name: "no_split", repeats: true, parse: list(model, func(h *handler.Handler) *[]string { return &h.NoSplit })},
		{name: "cap", parse: parseCap},
		{name: "deny_preferences", repeats: true, parse: parseDenyPreferences},
	}
}

// upstreamSubdirectives returns the rows of how requests are spread over the
// endpoints.
func upstreamSubdirectives() []subdirective {
	return []subdirective{
		{name: "dynamic", field: "dynamic_upstreams", parse: parseDynamic},
		{name: "weights", parse: list(wholeNumber, func(h *handler.Handler) *[]int { return &h.Weights })},
		{name: "lb_policy", parse: parseLBPolicy},
		{name: "max_upstream_requests", parse: single(count, func(h *handler.Handler, v int) { h.MaxUpstreamRequests = v })},
		{name: "max_upstream_items", parse: single(count, func(h *handler.Handler, v int) { h.MaxUpstreamItems = v })},
		{name: "retry_bucket", parse: parseRetryBucket},
	}
}

// healthSubdirectives returns the rows of when an endpoint counts as down.
func healthSubdirectives() []subdirective {
	return []subdirective{
		{name: "fail_duration", parse: single(durationOrZero, func(h *handler.Handler, v caddy.Duration) { h.FailDuration = &v })},
		{name: "max_fails", parse: single(count, func(h *handler.Handler, v int) { h.MaxFails = v })},
		{name: "unhealthy_status", parse: list(statusOrClass, func(h *handler.Handler) *[]int { return &h.UnhealthyStatus })},
		{name: "unhealthy_latency", parse: single(duration, func(h *handler.Handler, v caddy.Duration) { h.UnhealthyLatency = v })},
		{name: "health_uri", parse: single(uri, func(h *handler.Handler, v string) { h.HealthURI = v })},
		{name: "health_port", parse: single(port, func(h *handler.Handler, v int) { h.HealthPort = v })},
		{name: "health_interval", parse: single(duration, func(h *handler.Handler, v caddy.Duration) { h.HealthInterval = v })},
		{name: "health_timeout", parse: single(duration, func(h *handler.Handler, v caddy.Duration) { h.HealthTimeout = v })},
		{name: "health_passes", parse: single(count, func(h *handler.Handler, v int) { h.HealthPasses = v })},
		{name: "health_fails", parse: single(count, func(h *handler.Handler, v int) { h.HealthFails = v })},
		{name: "health_status", parse: single(statusOrClass, func(h *handler.Handler, v int) { h.HealthStatus = v })},
		{name: "health_headers", parse: parseHealthHeaders},
	}
}

// preferenceSubdirectives returns the rows of the settings that callers may
// send as preferences.
func preferenceSubdirectives() []subdirective {
	return []subdirective{
		{name: "max_concurrent_requests", use: numericPreference, parse: single(wholeNumber, func(h *handler.Handler, v int) { h.MaxConcurrentRequests = &v })},
		{name: "batch_size", use: numericPreference, parse: single(wholeNumber, func(h *handler.Handler, v int) { h.BatchSize = &v })},
		{name: "max_chars_per_request", use: numericPreference, parse: single(wholeNumber, func(h *handler.Handler, v int) { h.MaxCharsPerRequest = &v })},
		{name: "max_tokens_per_request", use: numericPreference, parse: single(wholeNumber, func(h *handler.Handler, v int) { h.MaxTokensPerRequest = &v })},
		{name: "timeout_s", use: numericPreference, parse: single(seconds, func(h *handler.Handler, v float64) { h.TimeoutS = &v })},
		{name: "total_timeout_s", use: numericPreference, parse: single(seconds, func(h *handler.Handler, v float64) { h.TotalTimeoutS = &v })},
		{name: "hedge_delay", use: numericPreference, parse: single(secondsOrAuto, func(h *handler.Handler, v handler.HedgeDelay) { h.HedgeDelay = &v })},
		{name: "hedge_budget_pct", use: numericPreference, parse: single(fraction, func(h *handler.Handler, v float64) { h.HedgeBudgetPct = &v })},
		{name: "retry_budget_pct", use: numericPreference, parse: single(fraction, func(h *handler.Handler, v float64) { h.RetryBudgetPct = &v })},
		{name: "max_retries", use: numericPreference, parse: single(wholeNumber, func(h *handler.Handler, v int) { h.MaxRetries = &v })},
		{name: "initial_backoff_ms", use: numericPreference, parse: single(wholeNumber, func(h *handler.Handler, v int) { h.InitialBackoffMS = &v })},
		{name: "non_retryable_status_codes", use: preference, parse: list(statusCode, func(h *handler.Handler) *[]int { return &h.NonRetryableStatusCodes })},
		{name: "response_format", use: preference, parse: single(word, func(h *handler.Handler, v string) { h.ResponseFormat = &v })},
		{name: "response_mode", use: preference, parse: single(word, func(h *handler.Handler, v string) { h.ResponseMode = &v })},
	}
}

// requestPreferences are the preferences that only callers have, the operator
// has no setting of these names.
var requestPreferences = []string{"target_host", "extra_headers"}

// lookup returns the row of a name.
func lookup(name string) (subdirective, bool) {
	table := subdirectives()
	i := slices.IndexFunc(table, func(s subdirective) bool { return s.name == name })
	if i < 0 {
		return subdirective{}, false
	}
	return table[i], true
}

// names returns the names of the rows that keep accepts, of all when keep is
// nil.
func names(keep func(use) bool) []string {
	var found []string
	for _, s := range subdirectives() {
		if keep == nil || keep(s.use) {
			found = append(found, s.name)
		}
	}
	return found
}
