package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

// TestBlackHoleGoesDown sends requests to three endpoints of which one never
// answers, in ways in which its attempts never run into their own time limit.
func TestBlackHoleGoesDown(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		settings Settings
		deadline time.Duration // of the client, which leaves then
		failures int           // requests that may fail
	}{
		"when the request has less time":  {Settings{TotalTimeout: 2 * time.Second}, 0, 3},
		"when the client leaves":          {Settings{}, 2 * time.Second, 3},
		"when its copy is always faster":  {Settings{HedgeDelay: 200 * time.Millisecond}, 0, 0},
		"when it is the attempt's limit":  {Settings{Timeout: time.Second}, 0, 0},
		"when both limits are equal":      {Settings{Timeout: time.Second, TotalTimeout: time.Second}, 0, 3},
		"when a copy comes soon, by auto": {Settings{HedgeAuto: true, TotalTimeout: 3 * time.Second}, 0, 3},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(3, GroupOptions{Policy: RoundRobin}, EndpointOptions{Health: HealthOptions{FailDuration: time.Hour}})
				c.upstreams[0].Script = enginetest.Always(enginetest.Delay(24 * time.Hour))
				failed := 0
				for range 60 {
					ctx, cancel := t.Context(), context.CancelFunc(func() {})
					if test.deadline > 0 {
						ctx, cancel = context.WithTimeout(ctx, test.deadline)
					}
					if err := c.embed(ctx, 1, test.settings); err != nil {
						failed++
					}
					cancel()
				}
				if calls := c.calls()[0]; failed > test.failures || calls != 3 {
					t.Errorf("%d of 60 requests failed, and the endpoint got %d calls, want %d and 3", failed, calls, test.failures)
				}
				if c.endpoints[0].Up() {
					t.Error("the endpoint is up")
				}
			})
		})
	}
}

// TestQueueMovesOn lets an endpoint go down while batches wait for their turn
// there.
func TestQueueMovesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(3, GroupOptions{}, EndpointOptions{MaxRequests: 2, Health: HealthOptions{FailDuration: time.Hour}})
		c.upstreams[0].Script = enginetest.Always(enginetest.Delay(24 * time.Hour))
		for _, u := range c.upstreams[1:] {
			u.Script = enginetest.Always(enginetest.Delay(20 * time.Millisecond))
		}
		checks := time.AfterFunc(300*time.Millisecond, func() { c.endpoints[0].health.setActive(false) })
		defer checks.Stop()
		start := time.Now()
		if err := c.embed(t.Context(), 64, Settings{Timeout: 5 * time.Second}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 6*time.Second {
			t.Errorf("took %v: batches stayed in the queue of the endpoint that is down", took)
		}
		if calls := c.calls()[0]; calls != 2 {
			t.Errorf("the endpoint that is down got %d calls, want the two that were under way", calls)
		}
	})
}

// TestPatienceOfOneDoesNotHoldTheOther lets one endpoint ask for patience for
// longer than there is time, and the other fail now and then.
func TestPatienceOfOneDoesNotHoldTheOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(2, GroupOptions{}, EndpointOptions{})
		c.upstreams[0].Script = enginetest.Always(enginetest.Status(429, "no"), enginetest.Header("Retry-After", "30"))
		c.upstreams[1].Script = func(call *enginetest.Call) []enginetest.Fault {
			if call.Number%2 == 0 {
				return []enginetest.Fault{enginetest.Status(429, "no")}
			}
			return nil
		}
		for i := range 30 {
			if err := c.embed(t.Context(), 1, Settings{TotalTimeout: 5 * time.Second, Timeout: 5 * time.Second}); err != nil {
				t.Errorf("request %d: %v", i, err)
			}
		}
	})
}

// TestLeastPatienceIsTaken lets both endpoints ask for patience, one of them for
// longer than there is time.
func TestLeastPatienceIsTaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(2, GroupOptions{}, EndpointOptions{})
		start := time.Now()
		c.upstreams[0].Script = enginetest.Always(enginetest.Status(429, "no"), enginetest.Header("Retry-After", "30"))
		c.upstreams[1].Script = func(*enginetest.Call) []enginetest.Fault {
			if time.Since(start) < 900*time.Millisecond {
				return []enginetest.Fault{enginetest.Status(429, "no"), enginetest.Header("Retry-After", "1")}
			}
			return nil
		}
		if err := c.embed(t.Context(), 10, Settings{TotalTimeout: 5 * time.Second, Timeout: 5 * time.Second}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 1500*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

// TestBatchesLeaveAnEndpointThatIsDown lets one endpoint hang and the other be
// away for a while, with all batches in the queue of the one that hangs.
func TestBatchesLeaveAnEndpointThatIsDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(2, GroupOptions{}, EndpointOptions{
			MaxRequests: 2, Health: HealthOptions{FailDuration: time.Second, MaxFails: 1},
		})
		for _, e := range c.endpoints {
			e.health.report(attemptEnd{outcome: failed, sent: time.Now()})
		}
		c.upstreams[0].Script = enginetest.Always(enginetest.Delay(24 * time.Hour))
		c.upstreams[1].Script = enginetest.Always(enginetest.Delay(10 * time.Millisecond))
		start := time.Now()
		if err := c.embed(t.Context(), 64, Settings{Timeout: 10 * time.Second}); err != nil {
			t.Fatal(err)
		}
		// Those that were sent to the endpoint that hangs run into their limit.
		if took := time.Since(start); took > 12*time.Second {
			t.Errorf("took %v", took)
		}
		if calls := c.calls()[0]; calls > 4 {
			t.Errorf("the endpoint that hangs got %d calls", calls)
		}
	})
}

// TestProbeDoesNotQueue probes an endpoint whose places are all taken by
// attempts that hang.
func TestProbeDoesNotQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(2, GroupOptions{}, EndpointOptions{
			MaxRequests: 1, Health: HealthOptions{FailDuration: time.Second, MaxFails: 1},
		})
		hung := c.endpoints[0]
		if _, err := hung.limiter.acquire(t.Context(), turn{flow: t, items: 1}); err != nil {
			t.Fatal(err)
		}
		hung.health.report(attemptEnd{outcome: failed, sent: time.Now()})
		<-time.After(2 * time.Second)
		for range 3 {
			start := time.Now()
			if err := c.embed(t.Context(), 1, Settings{}); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took != 0 {
				t.Errorf("took %v, with an endpoint that is free", took)
			}
		}
		if calls := fmt.Sprint(c.calls()); calls != "[0 3]" {
			t.Errorf("the endpoints got %s calls", calls)
		}
	})
}

// TestSleepersWakeWhenTheServerIsBack lets nobody listen for a second, which some
// batches would outsleep by half a minute.
func TestSleepersWakeWhenTheServerIsBack(t *testing.T) {
	t.Parallel()
	refused := &dialError{err: os.NewSyscallError("connect", syscall.ECONNREFUSED), refused: true}
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			upstream := roundTrip(func(req *http.Request) (*http.Response, error) {
				if time.Since(start) < 400*time.Millisecond {
					return nil, refused
				}
				return oneVector(req), wait(req, 10*time.Millisecond)
			})
			answer, err := embed(t.Context(), upstream, 64, Settings{MaxRetries: 6})
			if err != nil {
				t.Fatal(err)
			}
			answer.Close()
			if took := time.Since(start); took > 3*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// TestChecksAloneTakeNoRedundancyAway lets active checks say that every endpoint
// is down, of which one really is.
func TestChecksAloneTakeNoRedundancyAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(3, GroupOptions{}, EndpointOptions{Health: HealthOptions{FailDuration: time.Hour}})
		for _, e := range c.endpoints {
			e.health.setActive(false)
		}
		c.upstreams[0].Script = enginetest.Always(enginetest.Drop())
		for range 10 {
			if err := c.embed(t.Context(), 64, Settings{}); err != nil {
				t.Fatal(err)
			}
		}
		if calls := c.calls()[0]; calls > 64 {
			t.Errorf("the endpoint that drops every connection got %d calls", calls)
		}
	})
}

// TestServerThatRestarts drops what is under way at the only endpoint, and then
// nobody listens there for a while.
func TestServerThatRestarts(t *testing.T) {
	t.Parallel()
	refused := &dialError{err: &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, refused: true}
	for name, broken := range map[string]error{
		"in the middle of requests": syscall.ECONNRESET,
		"in the middle of replies":  io.ErrUnexpectedEOF,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				const breaks, back = 50 * time.Millisecond, 350 * time.Millisecond
				upstream := roundTrip(func(req *http.Request) (*http.Response, error) {
					switch at := time.Since(start); {
					case at >= back, at <= breaks-20*time.Millisecond:
						return oneVector(req), wait(req, 20*time.Millisecond)
					case at > breaks:
						return nil, refused
					}
					if err := wait(req, breaks-time.Since(start)); err != nil {
						return nil, err
					}
					if errors.Is(broken, io.ErrUnexpectedEOF) {
						resp := oneVector(req)
						resp.Body = io.NopCloser(io.MultiReader(strings.NewReader("{"), breakingReader{broken}))
						return resp, nil
					}
					return nil, broken
				})
				answer, err := embed(t.Context(), upstream, 313, Settings{})
				if err != nil {
					t.Fatal(err)
				}
				answer.Close()
			})
		})
	}
}

// A breakingReader is a body that breaks off.
type breakingReader struct{ err error }

func (r breakingReader) Read([]byte) (int, error) { return 0, r.err }

// TestBreaksArePaidFor drops every connection: what was under way at first
// counts once, and all else one by one.
func TestBreaksArePaidFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		upstream := roundTrip(func(req *http.Request) (*http.Response, error) {
			calls.Add(1)
			if err := wait(req, 10*time.Millisecond); err != nil {
				return nil, err
			}
			return nil, syscall.ECONNRESET
		})
		_, err := embed(t.Context(), upstream, 64, Settings{})
		batch, ok := errors.AsType[*BatchError](err)
		if !ok || batch.Refused != RequestRetries || batch.Attempts < 2 || batch.Endpoint == nil {
			t.Errorf("got %#v, want a batch that found the budget spent", err)
		}
		// The budget is 1 + ceil(64 * 0.05), one of which paid for the first 64.
		if n := calls.Load(); n > 64+64+4 {
			t.Errorf("there were %d calls", n)
		}
	})
}

// Test424IsTriedOnce mixes 424 with other statuses.
func Test424IsTriedOnce(t *testing.T) {
	t.Parallel()
	for statuses, ok := range map[string]bool{
		"424": true, "503 424": true, "424 503": true, "429 424 408": true, "424 424": false, "424 503 424": false,
	} {
		t.Run(statuses, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(1, GroupOptions{}, EndpointOptions{})
				met := strings.Fields(statuses)
				c.upstreams[0].Script = func(call *enginetest.Call) []enginetest.Fault {
					if call.Number >= len(met) {
						return nil
					}
					var status int
					_, _ = fmt.Sscan(met[call.Number], &status)
					return []enginetest.Fault{enginetest.Status(status, "no")}
				}
				if err := c.embed(t.Context(), 1, Settings{}); (err == nil) != ok {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

// TestRequestIsSentAgainOnce lets a server close every kept connection once it
// has read a request from it.
func TestRequestIsSentAgainOnce(t *testing.T) {
	t.Parallel()
	var served, closing atomic.Int64
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		served.Add(1)
		if closing.Load() > 0 {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, `{"data":[{"index":0,"embedding":[1]}]}`)
	})
	raw, _ := serve(t, handler, "HTTP/1.1")
	target, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	to := Destination{Group: groupOf(NewEndpoint(EndpointOptions{URL: target})), Transport: newTestTransport(t, TransportOptions{})}
	request := func(n int, settings Settings) error {
		settings.BatchSize = 1
		body := `{"input":["` + strings.Repeat(`x","`, n-1) + `x"]}`
		answer, err := New(Options{}).Do(t.Context(), to, &Request{Path: "/v1/embeddings", Body: []byte(body), Settings: settings})
		if err == nil {
			answer.Close()
		}
		return err
	}
	if err := request(32, Settings{MaxConcurrentRequests: 32}); err != nil {
		t.Fatal(err)
	}
	served.Store(0)
	closing.Store(1)
	if err := request(1, noRetries); err == nil {
		t.Error("the server closed every connection, and the request succeeded")
	}
	if n := served.Load(); n > 2 {
		t.Errorf("one attempt was sent %d times, want twice at most", n)
	}
}
