package enginetest_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

// said is what a client got.
type said struct {
	status int
	header http.Header
	// length is what was declared, -1 for nothing.
	length int64
	body   string
	// err is the error of the reading, or of the round trip when there is no
	// status.
	err error
}

func ask(ctx context.Context, rt http.RoundTripper, url, body string) said {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/embeddings?v=1", strings.NewReader(body))
	if err != nil {
		return said{err: err}
	}
	req.Header.Set("X-Test", "yes")
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return said{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	return said{resp.StatusCode, resp.Header, resp.ContentLength, string(data), err}
}

// bothWays runs a test over loopback and in memory.
func bothWays(t *testing.T, script enginetest.Script, run func(t *testing.T, up *enginetest.Upstream, rt http.RoundTripper, url string)) {
	t.Run("over loopback", func(t *testing.T) {
		t.Parallel()
		up := enginetest.New()
		up.Script = script
		transport := &http.Transport{DisableCompression: true}
		t.Cleanup(transport.CloseIdleConnections)
		run(t, up, transport, up.Serve(t))
	})
	t.Run("in memory", func(t *testing.T) {
		t.Parallel()
		up := enginetest.New()
		up.Script = script
		run(t, up, up, "http://upstream.test")
	})
}

const twoItems = `{"model":"m","input":["a","b"]}`

// honest is the answer to twoItems.
func honest() string {
	return fmt.Sprintf(`{"object":"list","data":[%s,%s],"model":"m","usage":{"prompt_tokens":2,"total_tokens":2}}`,
		entry(0, "a"), entry(1, "b"))
}

func entry(index int, item string) string {
	return entryOf(index, enginetest.Vector(item, 8))
}

func entryOf(index int, embedding string) string {
	return fmt.Sprintf(`{"object":"embedding","index":%d,"embedding":%s}`, index, embedding)
}

func TestHonestAnswers(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		body  string
		items []string
		want  string
	}{
		"one string is one item":            {`{"input":"a"}`, []string{"a"}, entry(0, "a")},
		"one list of token ids is one item": {`{"input":[1, 2]}`, []string{"[1,2]"}, entry(0, "[1,2]")},
		"escapes do not make another item":  {`{"input":["\u0061"]}`, []string{"a"}, entry(0, "a")},
		"strings, ids and objects may be mixed": {
			`{"input":["a",[1],{"text": "x"}]}`,
			[]string{"a", "[1]", `{"text":"x"}`},
			entry(0, "a") + "," + entry(1, "[1]") + "," + entry(2, `{"text":"x"}`),
		},
		"base64 is the same vector": {
			`{"input":["a"],"encoding_format":"base64"}`,
			[]string{"a"},
			entryOf(0, enginetest.Base64Vector("a", 8)),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bothWays(t, nil, func(t *testing.T, up *enginetest.Upstream, rt http.RoundTripper, url string) {
				got := ask(t.Context(), rt, url, test.body)
				if got.err != nil || got.status != http.StatusOK {
					t.Fatalf("got status %d and error %v", got.status, got.err)
				}
				if !strings.Contains(got.body, `"data":[`+test.want+`],"model":"test-model"`) {
					t.Errorf("got %s, want %s in it", got.body, test.want)
				}
				if !json.Valid([]byte(got.body)) || got.length != int64(len(got.body)) {
					t.Errorf("%d bytes were declared for %q", got.length, got.body)
				}
				call := up.Calls()[0]
				if fmt.Sprint(call.Items) != fmt.Sprint(test.items) {
					t.Errorf("the items are %q, want %q", call.Items, test.items)
				}
				if call.Path != "/v1/embeddings" || call.RawQuery != "v=1" || call.Method != http.MethodPost ||
					call.Header.Get("X-Test") != "yes" || string(call.Body) != test.body || call.Host == "" {
					t.Errorf("the call was recorded as %+v", call)
				}
			})
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", "{", `{}`, `{"input":[]}`, `[]`} {
		bothWays(t, nil, func(t *testing.T, _ *enginetest.Upstream, rt http.RoundTripper, url string) {
			got := ask(t.Context(), rt, url, body)
			if got.err != nil || got.status != http.StatusBadRequest || !json.Valid([]byte(got.body)) {
				t.Errorf("%q was answered with %+v", body, got)
			}
		})
	}
}

func TestVectors(t *testing.T) {
	t.Parallel()
	if first, again := enginetest.Vector("a", 64), enginetest.Vector("a", 64); first != again {
		t.Error("a vector changed")
	}
	seen := map[string]string{}
	odd := 0
	for i := range 1000 {
		item := fmt.Sprint("item ", i)
		raw := enginetest.Vector(item, 64)
		var numbers []float64
		if err := json.Unmarshal([]byte(raw), &numbers); err != nil || len(numbers) != 64 {
			t.Fatalf("%s: %d numbers, error %v", raw, len(numbers), err)
		}
		reprinted, err := json.Marshal(numbers)
		if err != nil {
			t.Fatal(err)
		}
		if string(reprinted) != raw {
			odd++
		}
		first := enginetest.Vector(item, 1)
		if other, found := seen[first]; found {
			t.Errorf("%q and %q have the same vector", item, other)
		}
		seen[first] = item
	}
	if odd != 1000 {
		t.Errorf("printing would only show in %d vectors of 1000", odd)
	}
}

func TestHeldCallsAreCounted(t *testing.T) {
	t.Parallel()
	bothWays(t, nil, func(t *testing.T, up *enginetest.Upstream, rt http.RoundTripper, url string) {
		release := make(chan struct{})
		up.Script = enginetest.Always(enginetest.Hold(release))
		var calls sync.WaitGroup
		for range 3 {
			calls.Go(func() {
				if got := ask(t.Context(), rt, url, twoItems); got.err != nil {
					t.Error(got.err)
				}
			})
		}
		up.Await(t, 3)
		if n := up.InFlight(); n != 3 {
			t.Errorf("%d calls are in flight, want 3", n)
		}
		for range 3 {
			release <- struct{}{}
		}
		calls.Wait()
		if n := up.MaxInFlight(); n != 3 {
			t.Errorf("%d calls were in flight at most, want 3", n)
		}
	})
}

func TestLastFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		up := enginetest.New()
		up.Script = enginetest.Always(enginetest.LastFirst(3))
		// others counts the calls that were not answered yet when an item's was.
		others := map[string]int{"a": 0, "b": 1, "c": 2}
		var calls sync.WaitGroup
		for i, item := range []string{"a", "b", "c"} {
			calls.Go(func() {
				req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(`{"input":"`+item+`"}`))
				resp, err := up.RoundTrip(req)
				if err != nil {
					t.Error(err)
					return
				}
				if n := up.InFlight() - 1; n != others[item] {
					t.Errorf("%s was answered before %d others, want %d", item, n, others[item])
				}
				_ = resp.Body.Close()
			})
			up.Await(t, i+1)
		}
		calls.Wait()
		if got := ask(t.Context(), up, "http://upstream.test", twoItems); got.err != nil {
			t.Errorf("a further call got %v", got.err)
		}
	})
}

func TestStallAtEndsWithTheContext(t *testing.T) {
	t.Parallel()
	bothWays(t, enginetest.WithItem("a", enginetest.StallAt(9, nil)), func(t *testing.T, _ *enginetest.Upstream, rt http.RoundTripper, url string) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(twoItems))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		start := make([]byte, 9)
		if _, err := io.ReadFull(resp.Body, start); err != nil || string(start) != honest()[:9] {
			t.Fatalf("got %q, %v", start, err)
		}
		cancel()
		if _, err := resp.Body.Read(start); !errors.Is(err, context.Canceled) {
			t.Errorf("got the error %v, want that of the context", err)
		}
	})
}

func TestDelayRunsOnTheClockOfTheTest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		up := enginetest.New()
		up.Script = enginetest.Always(enginetest.Delay(20 * time.Second))
		start := time.Now()
		if got := ask(t.Context(), up, "http://upstream.test", twoItems); got.body != honest() {
			t.Errorf("got %+v", got)
		}
		if took := time.Since(start); took != 20*time.Second {
			t.Errorf("the answer took %v", took)
		}
		cause := errors.New("enough")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, cause)
		defer cancel()
		if got := ask(ctx, up, "http://upstream.test", twoItems); !errors.Is(got.err, cause) {
			t.Errorf("got the error %v, want the cause of the context", got.err)
		}
	})
}

func TestServeTLSSpeaksHTTP2(t *testing.T) {
	t.Parallel()
	up := enginetest.New()
	url, roots := up.ServeTLS(t)
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	transport := &http.Transport{Protocols: protocols, TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	if got := ask(t.Context(), transport, url, twoItems); got.body != honest() || up.Calls()[0].Proto != "HTTP/2.0" {
		t.Errorf("got %+v", got)
	}
}
