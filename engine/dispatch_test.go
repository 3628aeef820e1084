package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// roundTrip is a RoundTripper of one function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// oneVector answers a request of one item.
func oneVector(req *http.Request) *http.Response {
	return respond(req, http.StatusOK, `{"data":[{"index":0,"embedding":[1]}]}`)
}

func respond(req *http.Request, status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)),
		ContentLength: int64(len(body)), Request: req,
	}
}

// wait waits for d or the end of the request.
func wait(req *http.Request, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-req.Context().Done():
		return req.Context().Err()
	}
}

// groupOf returns a group of these endpoints, of which each gets the same share.
func groupOf(endpoints ...*Endpoint) *Group {
	members := make([]Member, len(endpoints))
	for i, e := range endpoints {
		members[i].Endpoint = e
	}
	return NewGroup(GroupOptions{}, members...)
}

// soleUpstream returns a destination with one endpoint and nothing else.
func soleUpstream(upstream http.RoundTripper) Destination {
	e := NewEndpoint(EndpointOptions{URL: &url.URL{Scheme: "http", Host: "upstream.test"}})
	return Destination{Group: groupOf(e), Transport: upstream}
}

// embed sends n items, one a batch.
func embed(ctx context.Context, upstream http.RoundTripper, n int, settings Settings) (*Answer, error) {
	settings.BatchSize = 1
	body := `{"input":["` + strings.Repeat(`x","`, n-1) + `x"]}`
	to := soleUpstream(upstream)
	return New(Options{}).Do(ctx, to, &Request{Path: "/v1/embeddings", Body: []byte(body), Settings: settings})
}

func TestBatchesInFlightAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var flying, most atomic.Int64
		upstream := roundTrip(func(req *http.Request) (*http.Response, error) {
			now := flying.Add(1)
			defer flying.Add(-1)
			for high := most.Load(); now > high && !most.CompareAndSwap(high, now); high = most.Load() {
			}
			if err := wait(req, 20*time.Millisecond); err != nil {
				return nil, err
			}
			return oneVector(req), nil
		})
		start := time.Now()
		answer, err := embed(t.Context(), upstream, 100, Settings{MaxConcurrentRequests: 10})
		if err != nil {
			t.Fatal(err)
		}
		answer.Close()
		if most.Load() != 10 {
			t.Errorf("%d batches were in flight, want 10", most.Load())
		}
		if took := time.Since(start); took != 200*time.Millisecond {
			t.Errorf("took %v, want ten rounds of 20ms", took)
		}
	})
}

func TestFirstFaultEndsTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var started, cancelled atomic.Int64
		upstream := roundTrip(func(req *http.Request) (*http.Response, error) {
			if started.Add(1) == 3 {
				return respond(req, http.StatusTeapot, `{"message":"short and stout"}`), nil
			}
			if err := wait(req, time.Hour); err != nil {
				cancelled.Add(1)
				return nil, err
			}
			return oneVector(req), nil
		})
		start := time.Now()
		_, err := embed(t.Context(), upstream, 1000, Settings{MaxConcurrentRequests: 8, Timeout: 2 * time.Hour})
		var status *StatusError
		var batch *BatchError
		if !errors.As(err, &status) || status.Status != http.StatusTeapot || status.Message != "short and stout" || !errors.As(err, &batch) {
			t.Errorf("got %v, want a BatchError around the StatusError", err)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("took %v, want no waiting for the others", took)
		}
		if started.Load() > 8 || cancelled.Load() != started.Load()-1 {
			t.Errorf("%d batches were started and %d cancelled", started.Load(), cancelled.Load())
		}
	})
}

func TestDeadlines(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		settings Settings
		deadline time.Duration // of the client
		took     time.Duration // of the upstream
		limit    string        // that is named, empty for success
		after    time.Duration
		timeout  string // Request-Timeout-Ms of the upstream
	}{
		"an attempt has its time":               {Settings{Timeout: 3 * time.Second}, 0, time.Hour, "timeout_s", 3 * time.Second, "3000"},
		"an attempt in time":                    {Settings{Timeout: 3 * time.Second}, 0, 2 * time.Second, "", 2 * time.Second, "3000"},
		"the total is shorter":                  {Settings{Timeout: 3 * time.Second, TotalTimeout: 2 * time.Second}, 0, time.Hour, "total_timeout_s", 2 * time.Second, "2000"},
		"the client's deadline is shorter":      {Settings{Timeout: 3 * time.Second, TotalTimeout: 2 * time.Second}, time.Second, time.Hour, "Request-Timeout-Ms", time.Second, "1000"},
		"the total is before the client's":      {Settings{Timeout: 3 * time.Second, TotalTimeout: 2 * time.Second}, time.Minute, time.Hour, "total_timeout_s", 2 * time.Second, "2000"},
		"the client's deadline has passed":      {Settings{}, -time.Second, 0, "Request-Timeout-Ms", 0, ""},
		"the default for an attempt is 30 s":    {Settings{}, 0, time.Hour, "timeout_s", 30 * time.Second, "30000"},
		"no more than the attempt is promised ": {Settings{TotalTimeout: time.Hour}, 0, time.Second, "", time.Second, "30000"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				sent := make(http.Header)
				upstream := roundTrip(func(req *http.Request) (*http.Response, error) {
					sent = req.Header
					if err := wait(req, test.took); err != nil {
						return nil, err
					}
					return oneVector(req), nil
				})
				start := time.Now()
				test.settings.MaxRetries = noRetries.MaxRetries
				request := &Request{Path: "/v1/embeddings", Body: []byte(`{"input":"x"}`), Settings: test.settings}
				if test.deadline != 0 {
					request.Deadline, request.DeadlineName = start.Add(test.deadline), "Request-Timeout-Ms"
				}
				to := soleUpstream(upstream)
				answer, err := New(Options{}).Do(t.Context(), to, request)
				if err == nil {
					answer.Close()
				}
				var timeout *TimeoutError
				if errors.As(err, &timeout) != (test.limit != "") || timeout != nil && timeout.Limit != test.limit {
					t.Errorf("got %v, want a timeout of %q", err, test.limit)
				}
				if took := time.Since(start); took != test.after {
					t.Errorf("took %v, want %v", took, test.after)
				}
				if got := sent.Get("Request-Timeout-Ms"); got != test.timeout {
					t.Errorf("the upstream was told %q ms, want %q", got, test.timeout)
				}
				if test.timeout != "" {
					left, _ := time.ParseDuration(test.timeout + "ms")
					if got, want := sent.Get("Request-Deadline-Ms"), fmt.Sprint(start.Add(left).UnixMilli()); got != want {
						t.Errorf("the upstream was told the deadline %q, want %q", got, want)
					}
				}
			})
		})
	}
}

func TestCancellationReachesTheUpstreamAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var cancelled atomic.Int64
		upstream := roundTrip(func(req *http.Request) (*http.Response, error) {
			err := wait(req, time.Hour)
			cancelled.Add(1)
			return nil, err
		})
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		_, err := embed(ctx, upstream, 100, Settings{MaxConcurrentRequests: 16, Timeout: 2 * time.Hour})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
		if cancelled.Load() != 16 || time.Since(start) != time.Second {
			t.Errorf("%d of 16 batches were cancelled, %v after the start", cancelled.Load(), time.Since(start))
		}
	})
}

func TestPanicOfAWorkerIsAnError(t *testing.T) {
	t.Parallel()
	upstream := roundTrip(func(*http.Request) (*http.Response, error) { panic("a bug") })
	_, err := embed(t.Context(), upstream, 3, Settings{})
	var panicked *PanicError
	if !errors.As(err, &panicked) || panicked.Value != "a bug" || len(panicked.Stack) == 0 {
		t.Errorf("got %v, want a PanicError", err)
	}
}

func TestEachBatchCarriesItsHeaders(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	ids := map[string]bool{}
	upstream := roundTrip(func(req *http.Request) (*http.Response, error) {
		mu.Lock()
		defer mu.Unlock()
		ids[req.Header.Get("X-Baseten-Customer-Request-Id")] = true
		for name, want := range map[string]string{
			"Authorization": "Bearer K", "Content-Type": "application/json",
			"Accept": "application/json, application/msgpack", "Accept-Encoding": "zstd, gzip", "X-Extra": "1",
		} {
			if got := req.Header.Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		if req.URL.String() != "http://upstream.test/base/v1/embeddings?a=1&b=%20" || req.Method != http.MethodPost {
			t.Errorf("the request went to %s %s", req.Method, req.URL)
		}
		return oneVector(req), nil
	})
	to := Destination{
		Group:     groupOf(NewEndpoint(EndpointOptions{URL: &url.URL{Scheme: "http", Host: "upstream.test", Path: "/base/"}})),
		Transport: upstream, Authorization: "Bearer K",
	}
	answer, err := New(Options{}).Do(t.Context(), to, &Request{
		Path: "/v1/embeddings", RawQuery: "a=1&b=%20", Body: []byte(`{"input":["a","b"]}`), ID: "id",
		Header:   http.Header{"X-Extra": {"1"}, "Authorization": {"Bearer other"}, "accept": {"text/html"}},
		Settings: Settings{BatchSize: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	answer.Close()
	if len(ids) != 2 || !ids["id-0-0"] || !ids["id-1-0"] {
		t.Errorf("the request ids are %v", ids)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	upstream := roundTrip(func(req *http.Request) (*http.Response, error) {
		resp := respond(req, http.StatusTemporaryRedirect, "")
		resp.Header.Set("Location", "http://elsewhere.test/")
		return resp, nil
	})
	_, err := embed(t.Context(), upstream, 2, Settings{})
	var fault *ReplyError
	if !errors.As(err, &fault) || fault.Status != http.StatusTemporaryRedirect {
		t.Errorf("got %v, want a ReplyError", err)
	}
}

// TestFailureOfAnotherBatchIsNobodysFault lets one batch fail for ever while
// attempts of others are under way elsewhere.
func TestFailureOfAnotherBatchIsNobodysFault(t *testing.T) {
	t.Parallel()
	for _, status := range []int{429, 500} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(1, GroupOptions{}, EndpointOptions{Health: HealthOptions{FailDuration: time.Minute, MaxFails: 2}})
				c.upstreams[0].Script = func(call *enginetest.Call) []enginetest.Fault {
					if call.Items[0] == "text 7" {
						return []enginetest.Fault{enginetest.Delay(time.Second), enginetest.Status(status, "no")}
					}
					return []enginetest.Fault{enginetest.Delay(time.Hour)}
				}
				r := newRecorder()
				settings := noRetries
				settings.BatchSize = 1
				texts := make([]string, 20)
				for i := range texts {
					texts[i] = fmt.Sprintf(`"text %d"`, i)
				}
				_, err := New(Options{Observer: r}).Do(t.Context(), c.to, &Request{
					Path: "/v1/embeddings", Body: []byte(`{"input":[` + strings.Join(texts, ",") + `]}`), Settings: settings,
				})
				if statusOf(err) != status {
					t.Fatalf("got %v", err)
				}
				for range texts {
					if a := <-r.attempts; statusOf(a.Err) != status && !errors.Is(a.Err, errCalledOff) {
						t.Errorf("an attempt ended with %v", a.Err)
					}
				}
				e := c.endpoints[0]
				if want := 19.; status == 429 && e.limiter.window.items != want {
					t.Errorf("after one 429 of 20 batches in flight the window is %v, want %v", e.limiter.window.items, want)
				}
				if !e.Up() {
					t.Error("the endpoint is down after one failure")
				}
			})
		})
	}
}
