package handler

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

// provisioned provisions a handler until the test ends.
func provisioned(t *testing.T, h *Handler) *Handler {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	if err := h.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Cleanup(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// serve serves a handler over loopback until the test ends and returns its URL.
func serve(t *testing.T, h *Handler) string {
	t.Helper()
	provisioned(t, h)
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
		return fmt.Errorf("the request was handed on")
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h.ServeHTTP(w, r, next); err != nil {
			t.Errorf("ServeHTTP: %v", err)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// triedOnce are settings under which every batch is tried once.
var triedOnce = Settings{MaxRetries: new(0)}

// reply is what a client gets.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// post sends a body to /v1/embeddings with the headers, given as name and value
// in turn.
func post(t *testing.T, url, body string, headers ...string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/embeddings", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	return send(t, req)
}

func send(t *testing.T, req *http.Request) reply {
	t.Helper()
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{status: resp.StatusCode, header: resp.Header, body: got}
}

// failed checks that a reply is the JSON error that the contract describes.
func (r reply) failed(t *testing.T, status int, words ...string) failure {
	t.Helper()
	var f failure
	decoder := json.NewDecoder(bytes.NewReader(r.body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&f); err != nil {
		t.Fatalf("the error is not as described: %v: %d %s", err, r.status, r.body)
	}
	if r.status != status {
		t.Errorf("got the status %d, want %d: %s", r.status, status, r.body)
	}
	if got := r.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("the error has the content type %q", got)
	}
	if f.Path != "/v1/embeddings" || f.Method != "Post" {
		t.Errorf("the error names %s %s", f.Method, f.Path)
	}
	for _, word := range words {
		if !strings.Contains(f.Error, word) {
			t.Errorf("the error does not name %q: %s", word, f.Error)
		}
	}
	return f
}

// vectors returns the raw embeddings of an answer, in the order of its indexes.
func (r reply) vectors(t *testing.T) []string {
	t.Helper()
	if r.status != http.StatusOK {
		t.Fatalf("got the status %d: %s", r.status, r.body)
	}
	var answer struct {
		Data []struct {
			Index     *int
			Embedding json.RawMessage
		}
	}
	if err := json.Unmarshal(r.body, &answer); err != nil {
		t.Fatal(err)
	}
	vectors := make([]string, len(answer.Data))
	for i, entry := range answer.Data {
		if entry.Index == nil || *entry.Index != i {
			t.Fatalf("result %d has another index", i)
		}
		vectors[i] = string(entry.Embedding)
	}
	return vectors
}

// texts makes n different texts.
func texts(n int) []string {
	items := make([]string, n)
	for i := range items {
		items[i] = fmt.Sprintf("text %d, é 日 \U0001F600 %s", i, strings.Repeat("x", i%50))
	}
	return items
}

// input is the body of a request for the items, with further members in front.
func input(t *testing.T, members string, items []string) string {
	t.Helper()
	list, err := json.Marshal(items)
	if err != nil {
		t.Fatal(err)
	}
	return "{" + members + `"input":` + string(list) + "}"
}

func TestFiveThousandTextsAreTheUpstreamsDigits(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		members string
		vector  func(item string, dims int) string
	}{
		"float":  {``, enginetest.Vector},
		"base64": {`"encoding_format":"base64",`, enginetest.Base64Vector},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upstream := enginetest.New()
			// The replies of every four calls come in reverse, with their entries
			// shuffled.
			upstream.Script = enginetest.Always(enginetest.LastFirst(4), enginetest.Shuffled())
			url := serve(t, &Handler{To: []string{upstream.Serve(t)}, ClientKeys: []string{"any"}})
			items := texts(5000)
			got := post(t, url, input(t, test.members, items)).vectors(t)
			same := 0
			for i, item := range items {
				if i < len(got) && got[i] == test.vector(item, upstream.Dims) {
					same++
				}
			}
			if same != 5000 || len(got) != 5000 {
				t.Errorf("%d of %d vectors are the upstream's", same, len(got))
			}
		})
	}
}

func TestHealthIsAnsweredByTheProxyItself(t *testing.T) {
	t.Parallel()
	url := serve(t, &Handler{})
	for _, path := range []string{"/health", "/health_internal"} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			req, err := http.NewRequestWithContext(t.Context(), method, url+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			got := send(t, req)
			if got.status != http.StatusOK || got.header.Get("Content-Type") != "application/json" {
				t.Errorf("%s %s: %d %v", method, path, got.status, got.header)
			}
			if method == http.MethodHead {
				continue
			}
			var health map[string]string
			if err := json.Unmarshal(got.body, &health); err != nil {
				t.Fatal(err)
			}
			if len(health) != 3 || health["status"] != "healthy" || health["service"] != "baseten-performance-proxy" ||
				!strings.HasSuffix(health["timestamp"], "Z") {
				t.Errorf("%s: %v", path, health)
			}
		}
	}
}

func TestOtherPathsAndMethodsAreRefused(t *testing.T) {
	t.Parallel()
	url := serve(t, &Handler{To: []string{"http://127.0.0.1:9"}})
	tests := map[string]struct {
		method, path string
		status       int
	}{
		"an unknown path":             {http.MethodPost, "/v1/unknown", http.StatusNotFound},
		"an operation without a body": {http.MethodGet, "/v1/embeddings", http.StatusMethodNotAllowed},
		"a slash at the end":          {http.MethodPost, "/v1/embeddings/", http.StatusNotFound},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req, err := http.NewRequestWithContext(t.Context(), test.method, url+test.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := send(t, req); got.status != test.status || !json.Valid(got.body) {
				t.Errorf("got %d %s", got.status, got.body)
			}
		})
	}
}
