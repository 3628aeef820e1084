package handler

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

// TestWrongRepliesAre502AndNoData sends ten texts in five batches, of which one
// gets a wrong reply.
func TestWrongRepliesAre502AndNoData(t *testing.T) {
	t.Parallel()
	tests := map[string]enginetest.Fault{
		"one result missing":              enginetest.Missing(1),
		"an index twice":                  enginetest.Index(1, 0),
		"an index out of range":           enginetest.Index(1, 2),
		"a shorter vector":                enginetest.Shorter(0),
		"another model":                   enginetest.Model("other"),
		"NaN":                             enginetest.Embedding(0, `[NaN,1,1,1,1,1,1,1]`),
		"HTML":                            enginetest.HTML(),
		"a body that is cut off":          enginetest.CutAt(60),
		"a chunked body that is cut off":  func(c *enginetest.Call, r *enginetest.Reply) { enginetest.Chunked()(c, r); enginetest.CutAt(60)(c, r) },
		"an error object with status 200": enginetest.JSON(http.StatusOK, `{"error":{"message":"no GPU"}}`),
		"an empty body":                   enginetest.Empty(),
		"a Content-Length too short":      enginetest.ContentLength(50),
		"a Content-Length too long":       enginetest.ContentLength(5000),
		"something behind the end":        enginetest.Append(" null"),
		"a gzip bomb":                     enginetest.Bomb("gzip", 64<<20),
		"a zstd bomb":                     enginetest.Bomb("zstd", 64<<20),
		"an unknown content coding":       enginetest.Header("Content-Encoding", "br"),
		"gzip that is none":               enginetest.Header("Content-Encoding", "gzip"),
		"a dropped connection":            enginetest.Drop(),
		"a redirect": func(_ *enginetest.Call, r *enginetest.Reply) {
			r.Status = http.StatusFound
			r.Header.Set("Location", "/elsewhere")
		},
		"no content": func(_ *enginetest.Call, r *enginetest.Reply) { r.Status = http.StatusNoContent; r.Body = []byte{} },
	}
	for name, fault := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upstream := enginetest.New()
			upstream.Script = enginetest.WithItem("text 7", fault)
			url := serve(t, &Handler{Settings: triedOnce, To: []string{upstream.Serve(t)}, APIKey: "operator", MaxResponseBody: 1 << 20})
			items := []string{"text 0", "text 1", "text 2", "text 3", "text 4", "text 5", "text 6", "text 7", "text 8", "text 9"}
			got := post(t, url, input(t, "", items), headerPreferences, `{"batch_size":2,"max_concurrent_requests":1}`)
			f := got.failed(t, http.StatusBadGateway)
			if f.Batch == nil || *f.Batch != 3 {
				t.Errorf("the error does not name batch 3: %s", got.body)
			}
			if strings.Contains(string(got.body), "embedding\"") {
				t.Errorf("the error holds data: %s", got.body)
			}
		})
	}
}

// TestPackedRepliesAreUnpacked holds that every coding gives the same answer.
func TestPackedRepliesAreUnpacked(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]enginetest.Fault{
		"gzip": enginetest.Gzip(), "zstd": enginetest.Zstd(), "chunked": enginetest.Chunked(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upstream := enginetest.New()
			upstream.Script = enginetest.Always(fault)
			url := serve(t, &Handler{To: []string{upstream.Serve(t)}, APIKey: "operator"})
			items := texts(100)
			got := post(t, url, input(t, "", items)).vectors(t)
			for i, item := range items {
				if got[i] != enginetest.Vector(item, upstream.Dims) {
					t.Fatalf("vector %d is %s", i, got[i])
				}
			}
		})
	}
}

func TestStatusesOfTheUpstream(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		fault       enginetest.Fault
		status      int
		upstream    int
		kind, words string
		retryAfter  string
	}{
		"TEI refuses a batch": {
			enginetest.JSON(422, `{"message":"batch size 33 > maximum allowed batch size 32","code":422,"type":"Validation"}`),
			422, 422, "Validation", "maximum allowed batch size", ""},
		"an upstream at its limit": {
			func(c *enginetest.Call, r *enginetest.Reply) {
				enginetest.JSON(429, `{"error":"Model is overloaded","error_type":"Overloaded"}`)(c, r)
				enginetest.Header("Retry-After", "7")(c, r)
			}, 429, 429, "Overloaded", "Model is overloaded", "7"},
		"an upstream that is down": {
			func(c *enginetest.Call, r *enginetest.Reply) {
				enginetest.Status(503, "no healthy upstream")(c, r)
				enginetest.Header("Retry-After", "3")(c, r)
			}, 502, 503, "", "no healthy upstream", "3"},
		"OpenAI's errors": {
			enginetest.JSON(401, `{"error":{"message":"Incorrect API key provided: operator-key-1","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}`),
			401, 401, "invalid_request_error", "Incorrect API key provided: [redacted]", ""},
		"an error without words": {enginetest.Status(404, ""), 404, 404, "", "404", ""},
		"infinity's errors": {
			enginetest.JSON(422, `{"detail":[{"type":"too_long","loc":["body","input"],"msg":"List should have at most 2048 items","input":null}]}`),
			422, 422, "", "at most 2048 items", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upstream := enginetest.New()
			upstream.Script = enginetest.Always(test.fault)
			url := serve(t, &Handler{Settings: triedOnce, To: []string{upstream.Serve(t)}, APIKey: "operator-key-1"})
			got := post(t, url, goodBody, headerRequestID, "my-id")
			f := got.failed(t, test.status, test.words)
			if f.UpstreamStatus != test.upstream || f.Type != test.kind || f.CustomerRequestID != "my-id" || f.Batch == nil {
				t.Errorf("the error is %s", got.body)
			}
			if got.header.Get("Retry-After") != test.retryAfter || got.header.Get(headerRequestID) != "my-id" {
				t.Errorf("the headers are %v", got.header)
			}
			if strings.Contains(string(got.body), "operator-key-1") {
				t.Errorf("the error holds the key: %s", got.body)
			}
		})
	}
}

func TestUnreachableUpstreamIsSaidWithoutItsAddress(t *testing.T) {
	t.Parallel()
	// A port that was closed a moment ago.
	closed := enginetest.New().Serve(t)
	upstream := enginetest.New()
	upstream.Script = enginetest.Always(enginetest.Drop())
	for name, target := range map[string]string{"closed": strings.Replace(closed, "127.0.0.1", "127.9.9.9", 1), "dropped": upstream.Serve(t)} {
		url := serve(t, &Handler{Settings: triedOnce, To: []string{target}, APIKey: "operator"})
		got := post(t, url, goodBody)
		f := got.failed(t, http.StatusBadGateway, "upstream unreachable")
		if strings.Contains(f.Error, "127.") {
			t.Errorf("%s: the error names the address: %s", name, f.Error)
		}
	}
}

func TestTimeoutsAre504(t *testing.T) {
	t.Parallel()
	upstream := enginetest.New()
	upstream.Script = enginetest.Always(enginetest.Hold(make(chan struct{})))
	url := serve(t, &Handler{Settings: triedOnce, To: []string{upstream.Serve(t)}, APIKey: "operator"})
	post(t, url, goodBody, headerPreferences, `{"timeout_s":0.1}`).failed(t, http.StatusGatewayTimeout, "timeout_s", "100ms")
	post(t, url, goodBody, headerPreferences, `{"total_timeout_s":0.2}`).failed(t, http.StatusGatewayTimeout, "total_timeout_s")
	post(t, url, goodBody, headerRequestTimeout, "150").failed(t, http.StatusGatewayTimeout, headerRequestTimeout)
	deadline := strconv.FormatInt(time.Now().Add(150*time.Millisecond).UnixMilli(), 10)
	post(t, url, goodBody, headerRequestDeadline, deadline).failed(t, http.StatusGatewayTimeout, headerRequestDeadline)
}

func TestMetadataOfAnAnswer(t *testing.T) {
	t.Parallel()
	upstream := enginetest.New()
	upstream.Script = func(c *enginetest.Call) []enginetest.Fault {
		return []enginetest.Fault{
			enginetest.Header("X-Seen", "batch "+c.Items[0]), enginetest.Header("Set-Cookie", "session=secret"),
			enginetest.Header("Keep-Alive", "timeout=5"), enginetest.Header("X-Echo", c.Header.Get("Authorization")),
		}
	}
	url := serve(t, &Handler{To: []string{upstream.Serve(t)}, APIKey: "operator-key-1"})
	got := post(t, url, `{"input":["a","b","c"]}`, headerPreferences, `{"batch_size":2}`, headerRequestID, "my-id")
	type timing struct {
		TotalTime              *float64  `json:"total_time"`
		IndividualRequestTimes []float64 `json:"individual_request_times"`
	}
	var answer struct {
		timing
		Object, Model string
		Usage         map[string]int
		Metadata      struct {
			timing
			BatchCount        int                 `json:"batch_count"`
			CustomerRequestID string              `json:"customer_request_id"`
			ResponseHeaders   []map[string]string `json:"response_headers"`
		} `json:"proxy_metadata"`
	}
	if err := json.Unmarshal(got.body, &answer); err != nil {
		t.Fatalf("%v: %s", err, got.body)
	}
	m := answer.Metadata
	if answer.TotalTime == nil || *answer.TotalTime <= 0 || !reflect.DeepEqual(answer.timing, m.timing) {
		t.Errorf("the times are %s", got.body)
	}
	if m.BatchCount != 2 || m.CustomerRequestID != "my-id" || len(m.IndividualRequestTimes) != 2 || len(m.ResponseHeaders) != 2 {
		t.Errorf("the metadata is %+v", m)
	}
	for i, seen := range []string{"batch a", "batch c"} {
		h := m.ResponseHeaders[i]
		if h["x-seen"] != seen || h["set-cookie"] != "" || h["keep-alive"] != "" || h["x-echo"] != "" {
			t.Errorf("the headers of batch %d are %v", i, h)
		}
	}
	if strings.Contains(string(got.body), "operator-key-1") || strings.Contains(string(got.body), "secret") {
		t.Errorf("the answer holds a secret: %s", got.body)
	}
	h := got.header
	if h.Get("X-Baseten-Batch-Count") != "2" || h.Get(headerRequestID) != "my-id" ||
		!strings.HasPrefix(h.Get("Server-Timing"), "total;dur=") || h.Get("Content-Length") != strconv.Itoa(len(got.body)) {
		t.Errorf("the headers are %v", h)
	}
}

func TestWhatTheUpstreamGets(t *testing.T) {
	t.Parallel()
	upstream := enginetest.New()
	url := serve(t, &Handler{To: []string{upstream.Serve(t) + "/base/"}, APIKey: "operator"})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/embeddings?a=1&b=%2F", strings.NewReader(goodBody))
	if err != nil {
		t.Fatal(err)
	}
	trace := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for name, value := range map[string]string{
		"Authorization": "bearer  client-key", headerModel: "my-model", "Traceparent": trace, "Tracestate": "a=b", "Cookie": "c=d",
		headerPreferences: `{"timeout_s":7,"extra_headers":{"x-extra":"1"}}`, headerTargetHost: "",
		"X-Forwarded-For": "1.2.3.4",
	} {
		req.Header.Set(name, value)
	}
	if got := send(t, req); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	call := upstream.Calls()[0]
	if call.Path != "/base/embeddings" || call.RawQuery != "a=1&b=%2F" || string(call.Body) != `{"model":"my-model","input":["a","b"]}` {
		t.Errorf("the upstream got %s?%s %s", call.Path, call.RawQuery, call.Body)
	}
	want := map[string]string{
		"Authorization": "Bearer client-key", "Content-Type": "application/json", "Accept": "application/json, application/msgpack",
		"Accept-Encoding": "zstd, gzip", "Traceparent": trace, "Tracestate": "a=b", "X-Extra": "1", "Cookie": "",
		headerPreferences: "", headerTargetHost: "", headerModel: "", "X-Forwarded-For": "", "Idempotency-Key": "",
	}
	for name, value := range want {
		if got := call.Header.Get(name); got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
	if id := call.Header.Get(headerRequestID); !strings.HasSuffix(id, "-0-0") || len(id) != 36+4 {
		t.Errorf("the request id is %q", id)
	}
	if left, err := strconv.Atoi(call.Header.Get(headerRequestTimeout)); err != nil || left < 1 || left > 7000 {
		t.Errorf("the timeout is %q", call.Header.Get(headerRequestTimeout))
	}
}

// TestKeysGoWhereTheyMay holds which key the upstream gets from which client.
func TestKeysGoWhereTheyMay(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		handler Handler
		client  string
		status  int
		sent    string
	}{
		"the client's own":                    {Handler{APIKey: "op"}, "Bearer mine", 200, "Bearer mine"},
		"the client's own in another scheme":  {Handler{APIKey: "op"}, "Api-Key mine", 200, "Api-Key mine"},
		"the operator's":                      {Handler{APIKey: "op"}, "", 200, "Bearer op"},
		"none at all":                         {Handler{}, "", 401, ""},
		"one that is accepted":                {Handler{APIKey: "op", ClientKeys: []string{"k1", "k2"}}, "bearer k2", 200, "Bearer op"},
		"one that is accepted as Api-Key":     {Handler{APIKey: "op", ClientKeys: []string{"k1", "k2"}}, "api-key k1", 200, "Bearer op"},
		"one that is not accepted":            {Handler{APIKey: "op", ClientKeys: []string{"k1"}}, "Bearer k", 401, ""},
		"none where one is asked for":         {Handler{APIKey: "op", ClientKeys: []string{"k1"}}, "", 401, ""},
		"any":                                 {Handler{APIKey: "op", ClientKeys: []string{"any"}}, "Bearer whatever", 200, "Bearer op"},
		"any for an upstream that needs none": {Handler{ClientKeys: []string{"any"}}, "Bearer whatever", 200, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upstream := enginetest.New()
			h := test.handler
			h.To = []string{upstream.Serve(t)}
			var headers []string
			if test.client != "" {
				headers = []string{"Authorization", test.client}
			}
			got := post(t, serve(t, &h), goodBody, headers...)
			if got.status != test.status {
				t.Fatalf("got %d %s", got.status, got.body)
			}
			calls := upstream.Calls()
			if test.status != http.StatusOK {
				if len(calls) != 0 {
					t.Errorf("%d requests were sent", len(calls))
				}
				return
			}
			if sent := calls[0].Header.Get("Authorization"); sent != test.sent {
				t.Errorf("the upstream got %q, want %q", sent, test.sent)
			}
		})
	}
}

// TestCallersTargets holds where a caller may send its request, and with which
// key.
func TestCallersTargets(t *testing.T) {
	t.Parallel()
	configured, allowed := enginetest.New(), enginetest.New()
	configuredURL, allowedURL := configured.Serve(t), allowed.Serve(t)
	tests := map[string]struct {
		allowed []string
		headers []string
		status  int
		hit     *enginetest.Upstream
		sent    string
	}{
		"no choice":                          {nil, nil, 200, configured, "Bearer op"},
		"the configured one":                 {nil, []string{headerTargetHost, configuredURL}, 200, configured, "Bearer op"},
		"one that is allowed":                {[]string{allowedURL}, []string{headerTargetHost, allowedURL + "/x"}, 200, allowed, "Bearer op"},
		"one that is allowed, with a key":    {[]string{allowedURL}, []string{headerTargetHost, allowedURL, "Authorization", "Bearer c"}, 200, allowed, "Bearer c"},
		"one that is allowed, as preference": {[]string{allowedURL}, []string{headerPreferences, `{"target_host":"` + allowedURL + `"}`}, 200, allowed, "Bearer op"},
		"the header goes before the preference": {[]string{allowedURL},
			[]string{headerPreferences, `{"target_host":"` + allowedURL + `"}`, headerTargetHost, configuredURL}, 200, configured, "Bearer op"},
		"one that is not allowed":                 {nil, []string{headerTargetHost, allowedURL}, 403, nil, ""},
		"any where choosing is off":               {[]string{"none"}, []string{headerTargetHost, configuredURL}, 403, nil, ""},
		"a public name without a key of its own":  {nil, []string{headerTargetHost, "https://example.com"}, 401, nil, ""},
		"a name that is none with a caller's key": {nil, []string{headerTargetHost, "https://no-such-host.invalid", "Authorization", "Bearer c", headerPreferences, `{"max_retries":0}`}, 502, nil, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			before := map[*enginetest.Upstream]int{configured: len(configured.Calls()), allowed: len(allowed.Calls())}
			url := serve(t, &Handler{To: []string{configuredURL}, APIKey: "op", AllowedTargets: test.allowed})
			got := post(t, url, goodBody, test.headers...)
			if got.status != test.status {
				t.Fatalf("got %d %s", got.status, got.body)
			}
			for u, n := range before {
				calls := u.Calls()[n:]
				if u != test.hit && len(calls) != 0 {
					t.Errorf("the wrong upstream got %d requests", len(calls))
				}
				if u == test.hit && (len(calls) != 1 || calls[0].Header.Get("Authorization") != test.sent) {
					t.Errorf("the upstream got %+v", calls)
				}
			}
		})
	}
}
