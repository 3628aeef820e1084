package caddyfile_test

import (
	"strings"
	"testing"
)

func TestAdaptErrors(t *testing.T) {
	t.Parallel()
	// Each body stands between the braces of the directive, from line 3 on.
	for name, test := range map[string]struct {
		body string
		want string
	}{
		"a typing error in a name": {
			body: "batchsize 32",
			want: `unknown subdirective "batchsize" of performance_proxy; did you mean "batch_size"?, at Caddyfile:3`,
		},
		"a name with dashes": {
			body: "max-retries 1",
			want: `did you mean "max_retries"?, at Caddyfile:3`,
		},
		"two letters swapped": {
			body: "api_kye secret",
			want: `did you mean "api_key"?, at Caddyfile:3`,
		},
		"a name that is near to none": {
			body: "compress",
			want: `unknown subdirective "compress" of performance_proxy; no setting has a name like that, at Caddyfile:3`,
		},
		"a name that shares words with others": {
			body: "request_timeout 5s",
			want: `unknown subdirective "request_timeout" of performance_proxy; the nearest are `,
		},
		"an error in a later line": {
			body: "api_key {env.KEY}\n\n\t\ttimeout_s 30s",
			want: `timeout_s: expected a number of seconds such as 30 or 0.5, got "30s", at Caddyfile:5`,
		},
		"a subdirective twice": {
			body: "batch_size 8\n\t\tmax_retries 1\n\t\tbatch_size 16",
			want: `batch_size is already set at Caddyfile:3, at Caddyfile:5`,
		},
		"a list that does not add up twice": {
			body: "non_retryable_status_codes 500\n\t\tnon_retryable_status_codes 501",
			want: `non_retryable_status_codes is already set at Caddyfile:3, at Caddyfile:4`,
		},
		"no value": {
			body: "max_retries",
			want: `max_retries: expected one argument (a whole number), got 0, at Caddyfile:3`,
		},
		"two values": {
			body: "http_version 1 2",
			want: `http_version: expected one argument (1, 2 or h2c), got 2, at Caddyfile:3`,
		},
		"a list without a value": {
			body: "to",
			want: `to: expected at least one argument (a target such as https://host[:port]), at Caddyfile:3`,
		},
		"an empty value": {
			body: `api_key ""`,
			want: `api_key: expected a key, a placeholder or the path of a file, got an empty value, at Caddyfile:3`,
		},
		"an empty value in a list": {
			body: `no_split model ""`,
			want: `no_split: expected the name of a model, got an empty value, at Caddyfile:3`,
		},
		"a block after a value": {
			body: "batch_size 8 {\n\t\t\tmax 8\n\t\t}",
			want: `batch_size takes no block, at Caddyfile:3`,
		},
		"an empty block after a list": {
			body: "no_split model {\n\t\t}",
			want: `no_split takes no block, at Caddyfile:3`,
		},
		"a block after the names of preferences": {
			body: "deny_preferences batch_size {\n\t\t}",
			want: `deny_preferences takes no block, at Caddyfile:3`,
		},
		"a fraction where a whole number belongs": {
			body: "batch_size 1.5",
			want: `batch_size: expected a whole number, got "1.5", at Caddyfile:3`,
		},
		"a placeholder where a number belongs": {
			body: "batch_size {env.BATCH_SIZE}",
			want: `batch_size: expected a whole number, got "{env.BATCH_SIZE}", at Caddyfile:3`,
		},
		"a number that JSON does not know": {
			body: "total_timeout_s Inf",
			want: `total_timeout_s: expected a number of seconds such as 30 or 0.5, got "Inf", at Caddyfile:3`,
		},
		"a fraction in per cent": {
			body: "hedge_budget_pct 10%",
			want: `hedge_budget_pct: expected a fraction such as 0.1 for 10 %, got "10%", at Caddyfile:3`,
		},
		"a number of per cent": {
			body: "hedge_budget_pct 10",
			want: `hedge_budget_pct: must be a fraction (0.1 is 10 %) from 0 to 3, is 10, at Caddyfile:3`,
		},
		"a hedge delay that is no number": {
			body: "hedge_delay p95",
			want: `hedge_delay: expected a number of seconds such as 0.5, or auto, got "p95", at Caddyfile:3`,
		},
		"a status code that is no number": {
			body: "non_retryable_status_codes 500 5xx",
			want: `non_retryable_status_codes: expected a status code such as 503, got "5xx", at Caddyfile:3`,
		},
		"a duration without a unit": {
			body: "dial_timeout 5",
			want: `dial_timeout: expected a duration of at least 1ms, such as 5s, got "5", at Caddyfile:3`,
		},
		"a duration of zero, which would mean the default": {
			body: "dial_timeout 0s",
			want: `dial_timeout: expected a duration of at least 1ms, such as 5s, got "0s", at Caddyfile:3`,
		},
		"a size with an unknown unit": {
			body: "max_memory 1Gigabyte",
			want: `max_memory: expected a size of at least one byte, such as 64MiB, got "1Gigabyte", at Caddyfile:3`,
		},
		"a size of zero, which would mean the default": {
			body: "max_request_body 0",
			want: `max_request_body: expected a size of at least one byte, such as 64MiB, got "0", at Caddyfile:3`,
		},
		"a size over the largest number": {
			body: "max_response_body 10EB",
			want: `max_response_body: expected a size of at least one byte, such as 64MiB, got "10EB", at Caddyfile:3`,
		},
		"a cap without a block": {
			body: "cap",
			want: `cap: expected a block with at least one line "<preference> <max>", at Caddyfile:3`,
		},
		"a cap on one line": {
			body: "cap batch_size 8",
			want: `cap: expected no arguments but a block of lines "<preference> <max>", at Caddyfile:3`,
		},
		"a cap with an empty block": {
			body: "cap {\n\t\t}",
			want: `cap: expected a block with at least one line "<preference> <max>", at Caddyfile:`,
		},
		"a cap twice": {
			body: "cap {\n\t\t\tbatch_size 8\n\t\t}\n\t\tcap {\n\t\t\ttimeout_s 9\n\t\t}",
			want: `cap is already set at Caddyfile:3, at Caddyfile:6`,
		},
		"a preference capped twice": {
			body: "cap {\n\t\t\tbatch_size 8\n\t\t\tbatch_size 9\n\t\t}",
			want: `cap: batch_size is already capped, at Caddyfile:5`,
		},
		"a cap of an unknown preference": {
			body: "cap {\n\t\t\tbatch_sizes 8\n\t\t}",
			want: `cap: "batch_sizes" is no preference that can be capped; did you mean "batch_size"?, at Caddyfile:4`,
		},
		"a cap of a preference that is no number": {
			body: "cap {\n\t\t\tresponse_format 8\n\t\t}",
			want: `cap: "response_format" is no preference that can be capped; expected one of max_concurrent_requests,`,
		},
		"a cap of an operator's setting": {
			body: "cap {\n\t\t\tmax_memory 8\n\t\t}",
			want: `cap: "max_memory" is no preference that can be capped; expected one of max_concurrent_requests,`,
		},
		"a cap without a number": {
			body: "cap {\n\t\t\tbatch_size\n\t\t}",
			want: `cap: batch_size: expected one argument (a number), got 0, at Caddyfile:4`,
		},
		"a cap that is no number": {
			body: "cap {\n\t\t\tbatch_size many\n\t\t}",
			want: `cap: batch_size: expected a number, got "many", at Caddyfile:4`,
		},
		"a block in the block of cap": {
			body: "cap {\n\t\t\tbatch_size 8 {\n\t\t\t}\n\t\t}",
			want: `cap: batch_size takes no block, at Caddyfile:4`,
		},
		"a denied preference that is unknown": {
			body: "deny_preferences target_host extra_header",
			want: `deny_preferences: "extra_header" is no preference; did you mean "extra_headers"?, at Caddyfile:3`,
		},
		"no denied preference": {
			body: "deny_preferences",
			want: `deny_preferences: expected at least one argument (the name of a preference), at Caddyfile:3`,
		},
		"a number under its range": {
			body: "batch_size 0",
			want: `batch_size: must be an integer from 1 to 1024, is 0, at Caddyfile:3`,
		},
		"a number over its range in a later line": {
			body: "timeout_s 30\n\t\tmax_retries 7",
			want: `max_retries: must be an integer from 0 to 6, is 7, at Caddyfile:4`,
		},
		"a hedge delay under its range": {
			body: "hedge_delay 0.01",
			want: `hedge_delay: must be a number from 0.045 to 3599.955, or "auto", is 0.01, at Caddyfile:3`,
		},
		"a status that is no error": {
			body: "non_retryable_status_codes 500 200",
			want: `non_retryable_status_codes: each must be from 400 to 599, one is 200, at Caddyfile:3`,
		},
		"two settings that contradict each other": {
			body: "timeout_s 30\n\t\tbatch_size 8\n\t\ttotal_timeout_s 20\n\t\tmax_retries 1",
			want: `total_timeout_s: must be at least timeout_s, 30, is 20, at Caddyfile:5`,
		},
		"two settings that contradict each other, the other way around": {
			body: "total_timeout_s 20\n\t\ttimeout_s 30",
			want: `total_timeout_s: must be at least timeout_s, 30, is 20, at Caddyfile:4`,
		},
		"many small batches": {
			body: "max_concurrent_requests 600\n\t\tbatch_size 8",
			want: `max_concurrent_requests: must be at most 512 with a batch_size under 16, is 600 with 8, at Caddyfile:4`,
		},
		"an unknown HTTP version": {
			body: "http_version 3",
			want: `http_version: expected 1, 2 or h2c, not "3", at Caddyfile:3`,
		},
		"an unknown shape of answers": {
			body: "response_format array",
			want: `response_format: must be "object", is "array", at Caddyfile:3`,
		},
		"an unknown mode of answers": {
			body: "response_mode sse",
			want: `response_mode: must be "stream", is "sse", at Caddyfile:3`,
		},
		"a duration under the least": {
			body: "dial_timeout 5us",
			want: `dial_timeout: must be a duration of at least 1ms such as "5s", is 5µs (a number in JSON is nanoseconds), at Caddyfile:3`,
		},
		"a cap over its range": {
			body: "cap {\n\t\t\ttimeout_s 60\n\t\t\tbatch_size 5000\n\t\t}",
			want: `cap: batch_size: must be an integer from 1 to 1024, is 5000, at Caddyfile:5`,
		},
		"a cap of an integer that is a fraction": {
			body: "cap {\n\t\t\tbatch_size 1.5\n\t\t}",
			want: `cap: batch_size: must be an integer from 1 to 1024, at Caddyfile:4`,
		},
		"the target of the directive again": {
			body: "to https://other.example.com\n\t\tto https://model.example.com/",
			want: `to: "https://model.example.com/" is named twice, at Caddyfile:4`,
		},
		"an unknown word for the targets of callers": {
			body: "allowed_targets any",
			want: `allowed_targets: "any" must begin with http://, https:// or h2c://, at Caddyfile:3`,
		},
		"a bad target of callers among good ones": {
			body: "allowed_targets https://a.example.com {env.TARGET}\n\t\tallowed_targets https://b.example.com https://c:http",
			want: `allowed_targets: "https://c:http" must have`,
		},
		"none beside another target of callers": {
			body: "allowed_targets https://a.example.com\n\t\tallowed_targets none",
			want: `allowed_targets: "none" must be the only value, at Caddyfile:4`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantAdaptError(t, ":8080 {\n\tperformance_proxy https://model.example.com {\n\t\t"+test.body+"\n\t}\n}\n", test.want)
		})
	}
}

// wantAdaptError checks that a Caddyfile is refused with an error that holds want.
func wantAdaptError(t *testing.T, caddyfile, want string) {
	t.Helper()
	got, err := adapt(t, caddyfile)
	if err == nil {
		t.Fatalf("adapted without an error:\n%s", got)
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("got the error\n%v\nwant\n%s", err, want)
	}
}

func TestAdaptErrorsOfTheTarget(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ args, want string }{
		"an empty value":      {`""`, `expected a target such as https://host[:port], got an empty value`},
		"no scheme":           {`localhost:8081`, `to: "localhost:8081" must begin with http://, https:// or h2c://`},
		"an address alone":    {`127.0.0.1:8081`, `to: "127.0.0.1:8081" must begin with http://, https:// or h2c://`},
		"another scheme":      {`ftp://model.example.com`, `to: "ftp://model.example.com" must begin with http://, https:// or h2c://`},
		"a target twice":      {`https://a.example.com https://a.example.com:443`, `to: "https://a.example.com:443" is named twice`},
		"a password":          {`https://user:hush@model.example.com`, `to: a target must not hold a user name or password`},
		"a password alone":    {`user:hush@model.example.com`, `to: a target must begin with http://, https:// or h2c://`},
		"a port out of range": {`https://model.example.com:65536`, `to: "https://model.example.com:65536" must have a port from 1 to 65535`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := adapt(t, ":8080 {\n\tperformance_proxy "+test.args+" {\n\t\tbatch_size 8\n\t}\n}\n")
			want := "performance_proxy: " + test.want + ", at Caddyfile:2"
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Fatalf("got the error %v, want %s", err, want)
			}
			if strings.Contains(err.Error(), "hush") {
				t.Errorf("the error holds a password: %v", err)
			}
		})
	}
}

func TestAdaptErrorsHoldNoKey(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"two upstream keys":                "api_key sk-one sk-two",
		"an upstream key twice":            "api_key sk-one\n\t\tapi_key sk-two",
		"a block after an upstream key":    "api_key sk-one {\n\t\t}",
		"an empty value among client keys": `client_keys sk-one ""`,
		"a block after client keys":        "client_keys sk-one sk-two {\n\t\t}",
		"an empty value among headers":     "health_headers {\n\t\t\tAuthorization sk-one \"\"\n\t\t}",
		"a block after a header":           "health_headers {\n\t\t\tAuthorization sk-one {\n\t\t\t}\n\t\t}",
		"a header without checks":          "health_headers {\n\t\t\tAuthorization sk-one\n\t\t}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := adapt(t, ":8080 {\n\tperformance_proxy {\n\t\t"+body+"\n\t}\n}\n")
			if err == nil {
				t.Fatalf("adapted without an error:\n%s", got)
			}
			if strings.Contains(err.Error(), "sk-") {
				t.Errorf("the error holds a key: %v", err)
			}
		})
	}
}
