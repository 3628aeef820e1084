package caddyfile

// Hints that hold for several words.
const (
	hintCheck     = "checks are GET requests judged by their status: health_uri, health_status"
	hintTransport = "it stands in the block of transport http"
	hintBuffers   = "the sizes are bounded by max_request_body, max_response_body and max_memory"
	hintStream    = "answers are not streamed"
	hintAnswer    = "the answer is put together from many replies and cannot be replaced"
)

// foreignWords are words of Caddy's reverse_proxy, and of its JSON and that of
// this directive, that are no subdirectives, with what there is instead.
var foreignWords = map[string]string{
	"upstream":          "here it is to",
	"upstreams":         "here it is to",
	"dynamic_upstreams": "here it is dynamic",

	"lb_retries":      "here it is max_retries",
	"lb_try_duration": "here it is total_timeout_s, in seconds",
	"lb_try_interval": "here it is initial_backoff_ms, in milliseconds",
	"lb_retry_match":  "failures and statuses decide what is tried again: non_retryable_status_codes",

	"unhealthy_request_count": "here it is max_upstream_requests, beyond which batches wait",
	"unhealthy_reqs":          "here it is max_upstream_requests, beyond which batches wait",

	"health_path":             "here it is health_uri",
	"health_method":           hintCheck,
	"health_body":             hintCheck,
	"health_request_body":     hintCheck,
	"health_follow_redirects": hintCheck,
	"health_upstream":         "each endpoint is asked itself: health_uri, health_port",

	"header_up":   "api_key is the key for the upstream, and callers send further headers in extra_headers of their preferences",
	"header_down": "set headers of answers with the directive header",
	"method":      "batches are sent with POST",
	"rewrite":     "the path of a target stands before the path of the request",

	"versions":           "here it is http_version",
	"compression":        "replies are always asked for in zstd and gzip",
	"max_conns_per_host": hintTransport,
	"network_proxy":      hintTransport,
	"forward_proxy_url":  hintTransport,
	"resolvers":          hintTransport,
	"local_address":      hintTransport,
	"read_timeout":       hintTransport,
	"write_timeout":      hintTransport,
	"keepalive":          hintTransport,
	"tls":                hintTransport,
	"tls_client_auth":    hintTransport,
	"tls_server_name":    hintTransport,
	"tls_trust_pool":     hintTransport,

	"response_header_timeout":  hintTransport,
	"tls_insecure_skip_verify": hintTransport,

	"request_buffers":    hintBuffers,
	"response_buffers":   hintBuffers,
	"stream_buffer_size": hintBuffers,
	"flush_interval":     hintStream,
	"stream_timeout":     hintStream,
	"stream_close_delay": hintStream,

	"handle_response": hintAnswer,
	"replace_status":  hintAnswer,
	"trusted_proxies": "no headers about the client go upstream",
	"verbose_logs":    "set the level debug in Caddy's log",
}

// suggestSubdirective says what an unknown subdirective may stand for.
func suggestSubdirective(name string) string {
	if hint, ok := foreignWords[name]; ok {
		return hint
	}
	return suggest(name, names(nil))
}
