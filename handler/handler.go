// Package handler is the Caddy module http.handlers.performance_proxy: it turns
// HTTP requests into requests to the engine, and what the engine answers into
// HTTP responses.
//
// The road of a request through it:
//
//	handler.go         the module: its configuration, and ServeHTTP
//	provision.go       configuration to working parts, after check.go found it right
//	exchange.go        one request from its headers to its answer
//	clientheaders.go   what a client says in headers
//	preferences.go     X-Baseten-Request-Preferences, bounded by policy.go
//	resolve.go         the operator's settings and the caller's, put together; settings.go has the table
//	targets.go         where the request goes, within allowedtargets.go; targeturl.go reads URLs
//	endpoints.go       what is known of the endpoints and outlives a reload: upstreams.go has the
//	                   settings, registry.go those that callers chose, dynamic.go those of a DNS name
//	healthchecks.go    asks endpoints for their health; healthsettings.go has the settings
//	observer.go        logs what becomes of endpoints and attempts
//	transport.go       how connections are made
//	authorization.go   which key it carries; keys.go, clientkeys.go and keyfile.go hold keys
//	body.go            the body, within its limits
//	response.go        the answer
//	errors.go          the one table of errors and their statuses
package handler

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Handler is the Caddy module http.handlers.performance_proxy: it splits one
// request of many items into batches, sends them to a model server
// concurrently, checks the replies and merges them into one answer.
type Handler struct {
	// The endpoints, which are model servers any of which can answer a request:
	// URLs of the form `scheme://host[:port][/path]`, with the scheme `http`,
	// `https` or `h2c`. The request's path is appended to the path. The same one
	// twice is an error. Without any, and without `dynamic_upstreams`, every
	// request must name its target in `X-Target-Host`.
	To []string `json:"to,omitempty"`

	// The key that is sent to the operator's targets when the client sends none:
	// the key itself, `{env.NAME}`, `{file./absolute/path}`, or a path beginning
	// with `/` or `$/`. A file is trimmed, and read again when it changes. The
	// key is sent as `Authorization: Bearer <key>` and only ever to targets
	// named in `to` and `allowed_targets`. Default: none.
	APIKey string `json:"api_key,omitempty"`

	// The keys that clients must send, one of them: each the key itself,
	// `{env.NAME}`, where the variable may hold several keys with commas between
	// them, or a file in the forms of `api_key` with one key a line. A client's
	// key is then never sent upstream. The single value `any` accepts
	// every client, with or without a key. Default: none, a client's key is sent
	// upstream.
	ClientKeys []string `json:"client_keys,omitempty"`

	// The targets beside `to` that a caller may choose with `X-Target-Host`,
	// each `scheme://host[:port][/path]`; a `*.` at the start of the host stands
	// for one label. The operator's key may go to them. The single value `none`
	// forbids callers to choose. Default: callers may choose any https target
	// with a public address, and their own key goes there.
	AllowedTargets []string `json:"allowed_targets,omitempty"`

	// The HTTP version towards upstreams: `2` negotiates HTTP/2 on https and
	// falls back to 1.1, `h2c` is HTTP/2 in clear text, `1` is 1.1 only. A
	// target of the scheme `h2c` is HTTP/2 in clear text with each of them.
	// Default: `2`.
	HTTPVersion string `json:"http_version,omitempty"`

	// How long to wait for a connection to be made. At least 1ms. Default: `5s`.
	DialTimeout caddy.Duration `json:"dial_timeout,omitempty"`

	// How connections to the operator's targets are made, in the words of the
	// `http` transport of Caddy's reverse_proxy: TLS, certificate authorities and
	// client certificates, resolvers, forward proxies, keep-alive and the like.
	// It cannot hold `versions`, `compression`, `proxy_protocol`, the ports
	// without TLS and placeholders in the server name of TLS; `dial_timeout`
	// stands in it or beside it. Limits of connections hold for each of the four
	// sets of connections over which HTTP/2 is spread. Targets that callers chose
	// and that `allowed_targets` does not name get nothing of it. The only
	// protocol is `http`. Default: the system's certificate authorities, and the
	// forward proxies of `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`.
	TransportRaw json.RawMessage `json:"transport,omitempty" caddy:"namespace=http.reverse_proxy.transport inline_key=protocol"`

	// How requests are spread over the endpoints.
	Upstreams

	// When an endpoint counts as down.
	Health

	// The largest request body in bytes; over it the answer is 413.
	// Default: 67108864 (64 MiB).
	MaxRequestBody int64 `json:"max_request_body,omitempty"`

	// The largest reply of the upstream to one batch in bytes, unpacked; over it
	// the reply counts as broken. Default: 268435456 (256 MiB).
	MaxResponseBody int64 `json:"max_response_body,omitempty"`

	// The bytes of bodies that all requests may hold together; over it the
	// answer is 503 with Retry-After. Default: 1073741824 (1 GiB).
	MaxMemory int64 `json:"max_memory,omitempty"`

	// Models whose requests are never split, such as rerankers that score all
	// documents against each other. Default: none.
	NoSplit []string `json:"no_split,omitempty"`

	// What callers get who ask for nothing else.
	Settings

	// The largest value that a caller may ask for, by the name of the
	// preference; more is a 400 that names the cap. Only preferences that are
	// numbers can be capped. Default: the range of the setting.
	Cap map[string]float64 `json:"cap,omitempty"`

	// The preferences that a caller may not send; the answer is a 403. Default:
	// none.
	DenyPreferences []string `json:"deny_preferences,omitempty"`

	parts *parts
	// cleanups give back what Provision took, the last one first.
	cleanups []func() error
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.performance_proxy",
		New: func() caddy.Module { return new(Handler) },
	}
}

// ServeHTTP answers a request: health itself, operations through the engine.
// Every answer is complete when it returns, errors included, so that nothing of
// a request, such as a key among its headers, reaches Caddy's error log.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	if isHealth(r) {
		return writeHealth(w, time.Now())
	}
	x := &exchange{parts: h.parts, w: w, r: r, start: time.Now()}
	if err := x.serveSafely(); err != nil {
		x.fail(err)
	}
	return nil
}

// Interface guards
var (
	_ caddy.Module                = (*Handler)(nil)
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
