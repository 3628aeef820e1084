package handler

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

const goodBody = `{"input":["a","b"]}`

// TestBadInputIsRefusedAndNothingIsSent holds the answers to malformed requests.
func TestBadInputIsRefusedAndNothingIsSent(t *testing.T) {
	t.Parallel()
	pref := headerPreferences
	tests := map[string]struct {
		body    string
		headers []string
		status  int
		words   []string
	}{
		"malformed JSON":                        {`{"input":["a",}`, nil, 400, []string{"malformed JSON", "byte"}},
		"truncated JSON":                        {`{"input":["a","b"`, nil, 400, []string{"malformed JSON"}},
		"an empty body":                         {``, nil, 400, []string{"JSON"}},
		"trailing bytes":                        {goodBody + `x`, nil, 400, []string{"malformed JSON"}},
		"a second document":                     {goodBody + goodBody, nil, 400, []string{"malformed JSON"}},
		"a byte order mark":                     {"\xef\xbb\xbf" + goodBody, nil, 400, []string{"malformed JSON"}},
		"a list instead of an object":           {`["a"]`, nil, 400, []string{"object", "array"}},
		"a string instead of an object":         {`"a"`, nil, 400, []string{"object", "string"}},
		"no input":                              {`{"model":"m"}`, nil, 400, []string{"input", "missing"}},
		"an empty list":                         {`{"input":[]}`, nil, 400, []string{"input", "empty"}},
		"a number as input":                     {`{"input":5}`, nil, 400, []string{"input", "expected", "integer"}},
		"null as input":                         {`{"input":null}`, nil, 400, []string{"input", "null"}},
		"true as input":                         {`{"input":true}`, nil, 400, []string{"input", "true"}},
		"an object as input":                    {`{"input":{"text":"a"}}`, nil, 400, []string{"input", "object"}},
		"null in the list":                      {`{"input":["a",null]}`, nil, 400, []string{"input[1]", "null"}},
		"a boolean in the list":                 {`{"input":[false,"a"]}`, nil, 400, []string{"input[0]", "false"}},
		"a token id among texts":                {`{"input":["a",5]}`, nil, 400, []string{"input[1]"}},
		"a float among token ids":               {`{"input":[1,2.5]}`, nil, 400, []string{"input[0]"}},
		"a negative token id":                   {`{"input":[[1,-2]]}`, nil, 400, []string{"input[0]", "token ids"}},
		"a text in a list of token ids":         {`{"input":[[1],[1,"a"]]}`, nil, 400, []string{"input[1]", "token ids"}},
		"input that stands twice":               {`{"input":["a"],"input":["b"]}`, nil, 400, []string{"input", "twice"}},
		"input that stands twice with escapes":  {`{"input":["a"],"inp\u0075t":["b"]}`, nil, 400, []string{"input", "twice"}},
		"a model that is a number":              {`{"input":["a"],"model":5}`, nil, 400, []string{"model", "string"}},
		"a model that stands twice":             {`{"input":["a"],"model":"x","model":"y"}`, nil, 400, []string{"model", "twice"}},
		"an encoding_format that is a list":     {`{"input":["a"],"encoding_format":[]}`, nil, 400, []string{"encoding_format", "string"}},
		"invalid UTF-8":                         {"{\"input\":[\"\xff\"]}", nil, 400, []string{"UTF-8"}},
		"a control character":                   {"{\"input\":[\"a\nb\"]}", nil, 400, []string{"malformed JSON"}},
		"a wrong escape":                        {`{"input":["\x41"]}`, nil, 400, []string{"malformed JSON"}},
		"ten thousand brackets":                 {`{"input":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`, nil, 400, []string{"nest"}},
		"a number with a leading zero":          {`{"input":[[01]]}`, nil, 400, []string{"malformed JSON"}},
		"a body over the limit":                 {`{"input":["` + strings.Repeat("a", 70_000) + `"]}`, nil, 413, []string{"max_request_body", "65536"}},
		"a compressed body":                     {goodBody, []string{"Content-Encoding", "gzip"}, 400, []string{"Content-Encoding"}},
		"a compressed body, said second":        {goodBody, []string{"Content-Encoding", "identity", "Content-Encoding", "gzip"}, 400, []string{"Content-Encoding"}},
		"two keys":                              {goodBody, []string{"Authorization", "Bearer a", "Authorization", "Bearer b"}, 400, []string{"Authorization"}},
		"a request id with a space":             {goodBody, []string{headerRequestID, "a b"}, 400, []string{headerRequestID}},
		"a deadline that is no number":          {goodBody, []string{headerRequestDeadline, "soon"}, 400, []string{headerRequestDeadline}},
		"a timeout that is negative":            {goodBody, []string{headerRequestTimeout, "-5"}, 400, []string{headerRequestTimeout}},
		"a timeout that is a float":             {goodBody, []string{headerRequestTimeout, "1.5"}, 400, []string{headerRequestTimeout}},
		"a timeout of nothing":                  {goodBody, []string{headerRequestTimeout, "0"}, 504, []string{headerRequestTimeout}},
		"a deadline that has passed":            {goodBody, []string{headerRequestDeadline, "1700000000000"}, 504, []string{headerRequestDeadline}},
		"a target that is no URL":               {goodBody, []string{headerTargetHost, "https://exa mple"}, 400, []string{headerTargetHost}},
		"a target that is a number":             {goodBody, []string{headerTargetHost, "https://2130706433"}, 400, []string{headerTargetHost}},
		"a target of another scheme":            {goodBody, []string{headerTargetHost, "file:///etc/passwd"}, 400, []string{headerTargetHost}},
		"a target that is not https":            {goodBody, []string{headerTargetHost, "http://example.com"}, 403, []string{"allowed_targets"}},
		"a target on this machine":              {goodBody, []string{headerTargetHost, "https://127.0.0.1"}, 403, []string{"allowed_targets"}},
		"a target whose name is this machine's": {goodBody, []string{headerTargetHost, "https://localhost:9", "Authorization", "Bearer k"}, 403, []string{"allowed_targets", "public"}},
		"a target in the preferences":           {goodBody, []string{pref, `{"target_host":"https://[::1]"}`}, 403, []string{"allowed_targets"}},
		"preferences that are no JSON":          {goodBody, []string{pref, `{"batch_size":`}, 400, []string{pref, "JSON"}},
		"preferences that are a list":           {goodBody, []string{pref, `[]`}, 400, []string{pref, "object"}},
		"an unknown preference":                 {goodBody, []string{pref, `{"batchsize":5}`}, 400, []string{"batchsize"}},
		"a preference twice":                    {goodBody, []string{pref, `{"batch_size":5,"batch_size":6}`}, 400, []string{"batch_size", "twice"}},
		"preferences twice":                     {goodBody, []string{pref, `{}`, pref, `{}`}, 400, []string{pref}},
		"a key of idempotency for all batches":  {goodBody, []string{pref, `{"extra_headers":{"idempotency-key":"x"}}`}, 400, []string{"Idempotency-Key"}},
		"a forbidden extra header":              {goodBody, []string{pref, `{"extra_headers":{"authorization":"x"}}`}, 400, []string{"Authorization"}},
		"no concurrency over 512 in twos":       {goodBody, []string{pref, `{"max_concurrent_requests":600,"batch_size":2}`}, 400, []string{"max_concurrent_requests", "512"}},
		"a total under the timeout":             {goodBody, []string{pref, `{"timeout_s":5,"total_timeout_s":4}`}, 400, []string{"total_timeout_s", "timeout_s"}},
		"a hedge after the timeout":             {goodBody, []string{pref, `{"timeout_s":5,"hedge_delay":5}`}, 400, []string{"hedge_delay"}},
		"a preference over its cap":             {goodBody, []string{pref, `{"batch_size":17}`}, 400, []string{"batch_size", "cap", "16"}},
		"a denied preference":                   {goodBody, []string{pref, `{"max_retries":1}`}, 403, []string{"max_retries", "deny_preferences"}},
	}
	for name, bad := range badPreferences() {
		tests[name] = struct {
			body    string
			headers []string
			status  int
			words   []string
		}{goodBody, []string{pref, bad.header}, 400, []string{pref + "." + bad.name, bad.expected}}
	}
	upstream := enginetest.New()
	url := serve(t, &Handler{
		To: []string{upstream.Serve(t)}, APIKey: "operator", MaxRequestBody: 65536,
		Cap: map[string]float64{"batch_size": 16}, DenyPreferences: []string{"max_retries"},
	})
	t.Cleanup(func() {
		if n := len(upstream.Calls()); n != 0 {
			t.Errorf("%d requests were sent upstream", n)
		}
	})
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			post(t, url, test.body, test.headers...).failed(t, test.status, test.words...)
		})
	}
}

// badPreference is a preference of a wrong type or out of range, and what the
// error says is expected.
type badPreference struct{ name, header, expected string }

// badPreferences returns wrong values for every preference that is a number.
func badPreferences() map[string]badPreference {
	bad := map[string]badPreference{}
	add := func(name, expected string, values ...string) {
		for _, value := range values {
			bad[name+" of "+value] = badPreference{name, `{"` + name + `":` + value + `}`, expected}
		}
	}
	wrong := []string{`"5"`, `true`, `[]`, `{}`, `-1`, `1e400`}
	add("max_concurrent_requests", "1024", append(wrong, `0`, `1025`, `64.0`, `6.4e1`)...)
	add("batch_size", "1024", append(wrong, `0`, `1025`, `1.5`)...)
	add("max_chars_per_request", "256000", append(wrong, `49`, `256001`)...)
	add("max_tokens_per_request", "10000000", append(wrong, `0`, `10000001`)...)
	add("timeout_s", "3600", append(wrong, `0.09`, `3600.1`)...)
	add("total_timeout_s", "", append(wrong, `0`)...)
	add("hedge_delay", "auto", `true`, `[]`, `-1`, `"soon"`, `0.04`)
	add("hedge_budget_pct", "3", append(wrong, `3.1`)...)
	add("retry_budget_pct", "3", append(wrong, `3.1`)...)
	add("initial_backoff_ms", "45000", append(wrong, `49`, `45001`, `125.0`)...)
	add("non_retryable_status_codes", "599", `400`, `["400"]`, `[399]`, `[600]`, `[400.0]`)
	add("response_format", "object", `"array"`, `1`)
	add("response_mode", "stream", `"fast"`, `1`)
	add("target_host", "", `1`, `""`)
	add("extra_headers", "", `1`, `{"a":1}`, `{"a b":"1"}`, `{"X-A":"1\n2"}`, `{"Host":"x"}`, `{"content-length":"1"}`)
	return bad
}

func TestNullPreferencesAreAbsent(t *testing.T) {
	t.Parallel()
	upstream := enginetest.New()
	url := serve(t, &Handler{To: []string{upstream.Serve(t)}, APIKey: "operator"})
	got := post(t, url, goodBody, headerPreferences,
		` {"batch_size":null,"hedge_delay":null,"extra_headers":null,"target_host":null,"response_format":null} `)
	if n := len(got.vectors(t)); n != 2 || len(upstream.Calls()) != 1 {
		t.Errorf("%d vectors in %d requests", n, len(upstream.Calls()))
	}
}

func TestBodyOverTheLimitWithoutContentLength(t *testing.T) {
	t.Parallel()
	upstream := enginetest.New()
	url := serve(t, &Handler{To: []string{upstream.Serve(t)}, APIKey: "operator", MaxRequestBody: 2 << 20})
	// A reader of an unknown kind is sent chunked.
	body := struct{ io.Reader }{strings.NewReader(`{"input":["` + strings.Repeat("a", 3<<20) + `"]}`)}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/embeddings", body)
	if err != nil {
		t.Fatal(err)
	}
	send(t, req).failed(t, http.StatusRequestEntityTooLarge, "max_request_body")
	if n := len(upstream.Calls()); n != 0 {
		t.Errorf("%d requests were sent upstream", n)
	}
}

func TestBodyThatFitsTheLimitExactly(t *testing.T) {
	t.Parallel()
	upstream := enginetest.New()
	body := `{"input":["` + strings.Repeat("a", 3<<20) + `"]}`
	url := serve(t, &Handler{To: []string{upstream.Serve(t)}, APIKey: "operator", MaxRequestBody: int64(len(body))})
	for name, reader := range map[string]io.Reader{
		"with Content-Length": strings.NewReader(body), "without": struct{ io.Reader }{strings.NewReader(body)},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/embeddings", reader)
		if err != nil {
			t.Fatal(err)
		}
		if got := send(t, req); got.status != http.StatusOK {
			t.Errorf("%s: %d %.200s", name, got.status, got.body)
		}
	}
}

func TestOrderOfTheChecks(t *testing.T) {
	t.Parallel()
	upstream := enginetest.New()
	url := serve(t, &Handler{To: []string{upstream.Serve(t)}, AllowedTargets: []string{"none"}, MaxRequestBody: 100})
	long := `{"input":["` + strings.Repeat("a", 200) + `"]}`
	// None of these requests has a key.
	post(t, url, long, headerPreferences, `{"x":1}`).failed(t, http.StatusBadRequest, `x`)
	post(t, url, long, headerTargetHost, "https://example.com").failed(t, http.StatusRequestEntityTooLarge)
	post(t, url, `{"input":[}`, headerTargetHost, "https://example.com").failed(t, http.StatusBadRequest)
	post(t, url, goodBody, headerTargetHost, "https://example.com").failed(t, http.StatusForbidden, "allowed_targets")
	post(t, url, goodBody).failed(t, http.StatusUnauthorized, "key")
	if n := len(upstream.Calls()); n != 0 {
		t.Errorf("%d requests were sent upstream", n)
	}
}

func TestNoTargetIsSaid(t *testing.T) {
	t.Parallel()
	url := serve(t, &Handler{})
	post(t, url, goodBody, "Authorization", "Bearer k").failed(t, http.StatusBadRequest, headerTargetHost)
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	upstream := enginetest.New()
	release := make(chan struct{})
	upstream.Script = enginetest.First(1, enginetest.Hold(release))
	h := &Handler{To: []string{upstream.Serve(t)}, APIKey: "operator", MaxMemory: 3 << 20}
	url := serve(t, h)
	body := `{"input":["` + strings.Repeat("a", 2<<20) + `"]}`

	first := make(chan reply)
	go func() { first <- post(t, url, body) }()
	upstream.Await(t, 1)
	got := post(t, url, body)
	got.failed(t, http.StatusServiceUnavailable, "overloaded")
	if after, err := strconv.Atoi(got.header.Get("Retry-After")); err != nil || after < 1 {
		t.Errorf("Retry-After is %q", got.header.Get("Retry-After"))
	}
	close(release)
	if got := <-first; got.status != http.StatusOK {
		t.Errorf("the first request got %d %.200s", got.status, got.body)
	}
	if got := post(t, url, body); got.status != http.StatusOK {
		t.Errorf("after the first request another one got %d %.200s", got.status, got.body)
	}
	post(t, url, `{"input":["`+strings.Repeat("a", 4<<20)+`"]}`).failed(t, http.StatusRequestEntityTooLarge, "max_memory")
}

// TestClientThatLeavesEndsTheWork holds that the upstream sees the end of all
// its requests when the client leaves.
func TestClientThatLeavesEndsTheWork(t *testing.T) {
	t.Parallel()
	upstream := enginetest.New()
	never := make(chan struct{})
	upstream.Script = enginetest.Always(enginetest.Hold(never))
	h := &Handler{To: []string{upstream.Serve(t)}, APIKey: "operator"}
	url := serve(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/embeddings", strings.NewReader(input(t, "", texts(200))))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		done <- err
	}()
	upstream.Await(t, 7)
	cancel()
	if err := <-done; err == nil {
		t.Error("the client got an answer")
	}
	for limit := time.NewTimer(10 * time.Second); upstream.InFlight() > 0; {
		select {
		case <-limit.C:
			t.Fatalf("%d requests are still with the upstream", upstream.InFlight())
		case <-time.After(time.Millisecond):
		}
	}
}
