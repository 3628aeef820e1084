package caddyfile_test

import (
	"strings"
	"testing"
)

func TestAdaptErrorsOfEndpoints(t *testing.T) {
	t.Parallel()
	// Each body stands between the braces of the directive, from line 3 on.
	for name, test := range map[string]struct{ body, want string }{
		"an unknown policy": {
			"lb_policy ip_hash 2", `lb_policy: expected random_choose, round_robin, random or first, not "ip_hash", at Caddyfile:3`,
		},
		"Caddy's policy with weights": {
			"lb_policy weighted_round_robin 3 1", `lb_policy: weighted_round_robin is round_robin with weights, at Caddyfile:3`,
		},
		"a choice from three":       {"lb_policy random_choose 3", `lb_policy: random_choose chooses from 2 endpoints, and no other number of them, at Caddyfile:3`},
		"a policy with an argument": {"lb_policy first 2", `lb_policy: first takes no arguments, at Caddyfile:3`},
		"no policy":                 {"lb_policy", `lb_policy: expected the name of a policy, at Caddyfile:3`},
		"a block after a policy":    {"lb_policy first {\n\t\t}", `lb_policy takes no block, at Caddyfile:3`},
		"a weight of nothing":       {"weights 0", `weights: each must be an integer from 1 to 1000, one is 0, at Caddyfile:3`},
		"weights for other targets": {
			"weights 1 2\n\n\t\tbatch_size 8", `weights: expected one for each target of to: 1, not 2, at Caddyfile:3`,
		},
		"a limit of nothing":           {"max_upstream_requests 0", `max_upstream_requests: expected a whole number of at least 1, got "0", at Caddyfile:3`},
		"a limit over the range":       {"max_upstream_items 1e9", `max_upstream_items: expected a whole number of at least 1, got "1e9", at Caddyfile:3`},
		"a limit by another name":      {"max_upstream_request 8", `did you mean "max_upstream_requests"?, at Caddyfile:3`},
		"Caddy's number of retries":    {"lb_retries 3", `unknown subdirective "lb_retries" of performance_proxy; here it is max_retries, at Caddyfile:3`},
		"Caddy's old path of checks":   {"health_path /health", `; here it is health_uri, at Caddyfile:3`},
		"Caddy's checks with POST":     {"health_method POST", `; checks are GET requests judged by their status: health_uri, health_status, at Caddyfile:3`},
		"Caddy's bound of an upstream": {"unhealthy_request_count 8", `; here it is max_upstream_requests, beyond which batches wait, at Caddyfile:3`},
		"a word of the transport":      {"max_conns_per_host 8", `; it stands in the block of transport http, at Caddyfile:3`},
		"Caddy's headers":              {"header_up X-Key secret", `extra_headers of their preferences, at Caddyfile:3`},
		"the name in JSON":             {"dynamic_upstreams a h", `; here it is dynamic, at Caddyfile:3`},
		"Caddy's least loaded":         {"lb_policy least_conn", `lb_policy: least_conn is random_choose here, the less loaded of two, at Caddyfile:3`},

		"a bucket on one line":     {"retry_bucket 100 0.2 10", `retry_bucket: expected no arguments but a block of lines "size <retries>", "per_reply <retries>", "per_second <retries>", at Caddyfile:3`},
		"a bucket without a block": {"retry_bucket", `retry_bucket: expected no arguments but a block of lines "size <retries>", "per_reply <retries>", "per_second <retries>", at Caddyfile:3`},
		"an unknown part of a bucket": {
			"retry_bucket {\n\t\t\tper_seconds 1\n\t\t}", `retry_bucket: unknown name "per_seconds"; did you mean "per_second"?, at Caddyfile:4`,
		},
		"a part of a bucket twice": {
			"retry_bucket {\n\t\t\tsize 1\n\t\t\tsize 2\n\t\t}", `retry_bucket: size is already set at Caddyfile:4, at Caddyfile:5`,
		},
		"a bucket of nothing":        {"retry_bucket {\n\t\t\tsize 0\n\t\t}", `retry_bucket: size: expected a number of at least 1, at Caddyfile:4`},
		"a bucket over the range":    {"retry_bucket {\n\t\t\tsize 2000000\n\t\t}", `retry_bucket: size must be a number from 1 to 1000000, is 2000000, at Caddyfile:4`},
		"a reply that takes retries": {"retry_bucket {\n\t\t\tper_reply -1\n\t\t}", `retry_bucket: per_reply must be a number from 0 to 1000, is -1, at Caddyfile:4`},
		"a part of a bucket without a number": {
			"retry_bucket {\n\t\t\tper_second\n\t\t}", `retry_bucket: per_second: expected one argument (a number), got 0, at Caddyfile:4`,
		},

		"a time of failure without a unit": {"fail_duration 5", `fail_duration: expected a duration such as 5s, or 0, got "5", at Caddyfile:3`},
		"a time of failure that is short":  {"fail_duration 1us", `fail_duration: must be a duration of at least 1ms such as "5s", is 1µs`},
		"a status that is none":            {"unhealthy_status 5xx 6xx", `unhealthy_status: expected a status code such as 503, or a class such as 5xx, got "6xx", at Caddyfile:3`},
		"a check of another server":        {"health_uri https://h/health", `health_uri: must be a path that begins with /, is "https://h/health", at Caddyfile:3`},
		"a port out of range":              {"health_port 65536", `health_port: must be an integer from 1 to 65535, is 65536, at Caddyfile:3`},
		"a port that is none":              {"health_port http", `health_port: expected a port from 1 to 65535, got "http", at Caddyfile:3`},
		"an interval without checks": {
			"batch_size 8\n\t\thealth_interval 10s\n\t\tmax_retries 1", `health_interval: there are no active health checks: set health_uri or health_port, at Caddyfile:4`,
		},
		"headers without a block": {"health_headers Host h", `health_headers: expected no arguments but a block of lines "<name> <value>...", at Caddyfile:3`},
		"a header without a value": {
			"health_headers {\n\t\t\tHost\n\t\t}", `health_headers: Host: expected at least one argument (the value of a header), at Caddyfile:4`,
		},
		"a bad name of a header": {"health_headers {\n\t\t\t\"a b\" c\n\t\t}", `health_headers: "a b" is not a valid header name, at Caddyfile:4`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantAdaptError(t, ":8080 {\n\tperformance_proxy https://model.example.com {\n\t\t"+test.body+"\n\t}\n}\n", test.want)
		})
	}
}

func TestAdaptErrorsOfModules(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ target, body, want string }{
		"another transport":     {"", "transport fastcgi {\n\t\t}", `transport: expected the word http, got "fastcgi": only http is supported, at Caddyfile:3`},
		"no transport":          {"", "transport {\n\t\t}", `transport: expected the word http, at Caddyfile:3`},
		"words before a block":  {"", "transport http https {\n\t\t\ttls\n\t\t}", `transport: expected nothing but a block after the word http, at Caddyfile:3`},
		"a word of no meaning":  {"", "transport http {\n\t\t\tkeep_alive 30s\n\t\t}", `transport: unrecognized subdirective keep_alive, at Caddyfile:4`},
		"versions":              {"", "transport http {\n\t\t\tversions 1.1\n\t\t}", `transport: versions cannot be set in it: set http_version beside it, at Caddyfile:3`},
		"compression":           {"", "transport http {\n\t\t\ttls\n\t\t\tcompression off\n\t\t}", `transport: compression cannot be set in it`},
		"two dial timeouts":     {"", "dial_timeout 1s\n\t\ttransport http {\n\t\t\tdial_timeout 2s\n\t\t}", `transport: dial_timeout is set in it and beside it: set one of them, at Caddyfile:4`},
		"another dial timeout":  {"", "transport http {\n\t\t\tdial_timeout 2s\n\t\t}\n\t\tdial_timeout 1s", `transport: dial_timeout is set in it and beside it: set one of them, at Caddyfile:6`},
		"a name of the client":  {"", "transport http {\n\t\t\ttls_server_name {host}\n\t\t}", `transport: tls_server_name must hold no placeholders`},
		"ports without TLS":     {"", "transport http {\n\t\t\ttls_except_ports 80\n\t\t}", `transport: tls_except_ports cannot be set in it`},
		"TLS to a clear target": {"http://model.example.com", "transport http {\n\t\t\ttls\n\t\t}", `transport: it has TLS settings, and a target of to begins with http://: begin it with https://, at Caddyfile:3`},
		"a transport twice":     {"", "transport http {\n\t\t}\n\t\ttransport http {\n\t\t}", `transport is already set at Caddyfile:3, at Caddyfile:5`},
		"another source":        {"", "dynamic srv example.com", `dynamic: expected the word a, got "srv": only a is supported, at Caddyfile:3`},
		"several sources":       {"", "dynamic multi {\n\t\t}", `dynamic: expected the word a, got "multi": only a is supported, at Caddyfile:3`},
		"a negative time":       {"", "transport http {\n\t\t\tdial_timeout -1s\n\t\t}", `transport: dial_timeout: must be a duration of at least 1ms such as "5s", is -1s`},
		"no name":               {"", "dynamic a", `dynamic: name must be the name of a host, and nothing else; the port stands by itself, at Caddyfile:3`},
		"three words":           {"", "dynamic a h 80 81", `at Caddyfile:3`},
		"a port of no meaning":  {"", "dynamic a h http", `dynamic: port must be a number from 1 to 65535, at Caddyfile:3`},
		"an unknown option":     {"", "dynamic a h {\n\t\t\thosts b\n\t\t}", `dynamic: unrecognized a option 'hosts', at Caddyfile:4`},
		"targets beside a name": {"https://model.example.com", "dynamic a h 80", `dynamic: cannot stand beside to: its addresses are the endpoints, at Caddyfile:3`},
		"weights beside a name": {"", "dynamic a h 80\n\t\tweights 1", `dynamic: cannot stand beside weights: its addresses have one weight, at Caddyfile:4`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			directive := strings.TrimSuffix("performance_proxy "+test.target, " ")
			wantAdaptError(t, ":8080 {\n\t"+directive+" {\n\t\t"+test.body+"\n\t}\n}\n", test.want)
		})
	}
}
