package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

// hedging are settings under which a copy goes out after a tenth of a second.
var hedging = Settings{HedgeDelay: 100 * time.Millisecond}

func TestHedging(t *testing.T) {
	t.Parallel()
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	delay := func(n int) enginetest.Fault { return enginetest.Delay(ms(n)) }
	status := func(code int) enginetest.Fault { return enginetest.Status(code, "no") }
	tests := map[string]struct {
		settings Settings
		// first and second are the faults of the first call to each endpoint.
		first, second []enginetest.Fault
		calls         string
		took          time.Duration
		status        int // of the error, 0 for an answer
	}{
		"a fast reply needs no copy": {
			hedging, []enginetest.Fault{delay(99)}, nil, "[1 0]", ms(99), 0,
		},
		"a slow reply is overtaken by its copy": {
			hedging, []enginetest.Fault{delay(9000)}, []enginetest.Fault{delay(20)}, "[1 1]", ms(120), 0,
		},
		"a head alone is no reply": {
			hedging, []enginetest.Fault{enginetest.StallAt(20, nil)}, nil, "[1 1]", ms(100), 0,
		},
		"a slow reply may still come first": {
			hedging, []enginetest.Fault{delay(150)}, []enginetest.Fault{delay(100)}, "[1 1]", ms(150), 0,
		},
		"an error waits for the copy": {
			Settings{HedgeDelay: ms(100), MaxRetries: -1}, []enginetest.Fault{delay(150), status(500)}, []enginetest.Fault{delay(500)}, "[1 1]", ms(600), 0,
		},
		"an error of the copy waits for the first": {
			Settings{HedgeDelay: ms(100), MaxRetries: -1}, []enginetest.Fault{delay(700)}, []enginetest.Fault{status(500)}, "[1 1]", ms(700), 0,
		},
		"a broken reply waits for the copy": {
			Settings{HedgeDelay: ms(100), MaxRetries: -1}, []enginetest.Fault{delay(150), enginetest.Missing(0)}, []enginetest.Fault{delay(500)}, "[1 1]", ms(600), 0,
		},
		"two errors are one failed attempt": {
			Settings{HedgeDelay: ms(100), MaxRetries: -1}, []enginetest.Fault{delay(150), status(500)}, []enginetest.Fault{status(503)}, "[1 1]", ms(150), 503,
		},
		"of two errors the one that is final is told": {
			hedging, []enginetest.Fault{delay(150), status(422)}, []enginetest.Fault{status(503)}, "[1 1]", ms(150), 422,
		},
		"of two errors the final one is told when the copy got it, too": {
			hedging, []enginetest.Fault{delay(150), status(503)}, []enginetest.Fault{status(422)}, "[1 1]", ms(150), 422,
		},
		"an early error is no matter for a copy": {
			Settings{HedgeDelay: ms(100), MaxRetries: -1}, []enginetest.Fault{delay(50), status(500)}, nil, "[1 0]", ms(50), 500,
		},
		"without a budget there is no copy": {
			Settings{HedgeDelay: ms(100), HedgeBudgetPct: -1}, []enginetest.Fault{delay(900)}, nil, "[1 0]", ms(900), 0,
		},
		"without a delay there is no copy": {
			Settings{}, []enginetest.Fault{delay(900)}, nil, "[1 0]", ms(900), 0,
		},
		"there is one copy and no more": {
			Settings{HedgeDelay: ms(100), HedgeBudgetPct: 3}, []enginetest.Fault{delay(900)}, []enginetest.Fault{delay(2000)}, "[1 1]", ms(900), 0,
		},
		"both are over with the time for the attempt": {
			Settings{HedgeDelay: ms(100), Timeout: ms(500), MaxRetries: -1}, []enginetest.Fault{delay(9000)}, []enginetest.Fault{delay(9000)}, "[1 1]", ms(500), 504,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(2, GroupOptions{Policy: First}, EndpointOptions{})
				c.upstreams[0].Script, c.upstreams[1].Script = enginetest.First(1, test.first...), enginetest.First(1, test.second...)
				start := time.Now()
				err := c.embed(t.Context(), 1, test.settings)
				if took := time.Since(start); took != test.took {
					t.Errorf("took %v, want %v", took, test.took)
				}
				if got := fmt.Sprint(c.calls()); got != test.calls {
					t.Errorf("the endpoints got %s calls, want %s", got, test.calls)
				}
				if got := statusFor(err); got != test.status {
					t.Errorf("got %v, want the status %d", err, test.status)
				}
				synctest.Wait()
				for _, e := range c.endpoints {
					if requests, items := e.InFlight(); requests != 0 || items != 0 || e.load.Load() != 0 {
						t.Errorf("%d requests of %d items are in flight, the load is %d", requests, items, e.load.Load())
					}
				}
			})
		})
	}
}

// statusFor returns a status for an error: that of the upstream, 504 for a
// timeout, 1 for all else.
func statusFor(err error) int {
	if err == nil {
		return 0
	}
	if _, ok := errors.AsType[*TimeoutError](err); ok {
		return 504
	}
	return max(statusOf(err), 1)
}

// TestCopySaysWhatItIs looks at the headers of a copy and at the fate of the
// one that lost.
func TestCopySaysWhatItIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(1, GroupOptions{}, EndpointOptions{})
		c.upstreams[0].Script = enginetest.First(1, enginetest.Delay(time.Hour))
		settings := hedging
		settings.Timeout = 10 * time.Second
		start := time.Now()
		if err := c.embed(t.Context(), 1, settings); err != nil {
			t.Fatal(err)
		}
		calls := c.upstreams[0].Calls()
		if len(calls) != 2 {
			t.Fatalf("there were %d calls, want 2, both to the only endpoint", len(calls))
		}
		for i, want := range []struct{ id, left string }{{"id-0-0", "10000"}, {"id-0-0-hedge-1", "9900"}} {
			h := calls[i].Header
			if id, left := h.Get("X-Baseten-Customer-Request-Id"), h.Get("Request-Timeout-Ms"); id != want.id || left != want.left {
				t.Errorf("call %d has the id %s and %s ms left, want %v", i, id, left, want)
			}
			if deadline := h.Get("Request-Deadline-Ms"); deadline != fmt.Sprint(start.Add(10*time.Second).UnixMilli()) {
				t.Errorf("call %d has the deadline %s", i, deadline)
			}
		}
		if n := c.upstreams[0].InFlight(); n != 0 {
			t.Errorf("%d calls are still in flight", n)
		}
	})
}

// TestHedgeBudget sends requests of which every batch is slow.
func TestHedgeBudget(t *testing.T) {
	t.Parallel()
	for batches, want := range map[int]int{1: 1, 10: 2, 20: 3, 100: 11} {
		t.Run(fmt.Sprint(batches, " batches"), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(1, GroupOptions{}, EndpointOptions{})
				c.upstreams[0].Script = enginetest.Always(enginetest.Delay(time.Second))
				r := newRecorder()
				settings := hedging
				settings.MaxConcurrentRequests = 1024
				body := `{"input":["` + strings.Repeat(`x","`, batches-1) + `x"]}`
				settings.BatchSize = 1
				answer, err := New(Options{Observer: r}).Do(t.Context(), c.to, &Request{Path: "/v1/embeddings", Body: []byte(body), Settings: settings})
				if err != nil {
					t.Fatal(err)
				}
				answer.Close()
				if copies := len(c.upstreams[0].Calls()) - batches; copies != want {
					t.Errorf("there were %d copies, want %d", copies, want)
				}
				if refused := len(r.refused); refused != batches-want {
					t.Errorf("%d copies were refused, want %d", refused, batches-want)
				}
			})
		})
	}
}

// TestAutoHedging lets some replies take far longer than those before, and those
// after them 10 ms.
func TestAutoHedging(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		usual   time.Duration
		replies int // before the slow one
		slow    int // how many calls are slow
		took    time.Duration
		calls   int
	}{
		"after the endpoint's own time": {60 * time.Millisecond, 100, 1, 70 * time.Millisecond, 2},
		"not before 45 ms":              {20 * time.Millisecond, 100, 1, 55 * time.Millisecond, 2},
		"again when the copy is late":   {60 * time.Millisecond, 100, 2, 130 * time.Millisecond, 3},
		"not a third time":              {60 * time.Millisecond, 100, 3, time.Second, 3},
		"not before 20 replies":         {60 * time.Millisecond, 19, 1, time.Second, 1},
		"from 20 replies on":            {60 * time.Millisecond, 20, 1, 70 * time.Millisecond, 2},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(1, GroupOptions{}, EndpointOptions{})
				c.upstreams[0].Script = func(call *enginetest.Call) []enginetest.Fault {
					if n := call.Number - test.replies; n >= 0 && n < test.slow {
						return []enginetest.Fault{enginetest.Delay(time.Second)}
					}
					if call.Number < test.replies {
						return []enginetest.Fault{enginetest.Delay(test.usual)}
					}
					return []enginetest.Fault{enginetest.Delay(10 * time.Millisecond)}
				}
				for range test.replies {
					if err := c.embed(t.Context(), 1, Settings{}); err != nil {
						t.Fatal(err)
					}
				}
				start := time.Now()
				if err := c.embed(t.Context(), 1, Settings{HedgeAuto: true, HedgeBudgetPct: 3}); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); took != test.took {
					t.Errorf("took %v, want %v", took, test.took)
				}
				if calls := len(c.upstreams[0].Calls()) - test.replies; calls != test.calls {
					t.Errorf("there were %d calls, want %d", calls, test.calls)
				}
			})
		})
	}
}

// TestCopyWaitsForItsTurn sends a copy to an endpoint that is full, and lets the
// first reply come meanwhile.
func TestCopyWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(1, GroupOptions{}, EndpointOptions{MaxRequests: 1})
		c.upstreams[0].Script = enginetest.Always(enginetest.Delay(time.Second))
		r := newRecorder()
		call, err := New(Options{}).Prepare(&Request{Path: "/v1/embeddings", Body: []byte(`{"input":"x"}`), Settings: hedging})
		if err != nil {
			t.Fatal(err)
		}
		defer call.Close()
		answer, err := New(Options{Observer: r}).Run(t.Context(), c.to, call)
		if err != nil {
			t.Fatal(err)
		}
		answer.Close()
		if n := len(c.upstreams[0].Calls()); n != 1 {
			t.Errorf("there were %d calls, want none for the copy", n)
		}
		if left := call.hedges.left.Load(); left != 2 {
			t.Errorf("the budget has %d copies left, want 2: none was sent", left)
		}
		if wait := <-r.waits; wait != 900*time.Millisecond {
			t.Errorf("the copy waited for %v", wait)
		}
	})
}

// TestLosersGiveEverythingBack lets the attempt and its copy end in the same
// instant, many times.
func TestLosersGiveEverythingBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(2, GroupOptions{Policy: First}, EndpointOptions{MaxRequests: 100, MaxItems: 1000})
		c.upstreams[0].Script = enginetest.Always(enginetest.Delay(200 * time.Millisecond))
		c.upstreams[1].Script = enginetest.Always(enginetest.Delay(100 * time.Millisecond))
		memory := NewMemory(1 << 30)
		e := New(Options{Memory: memory})
		settings := hedging
		settings.BatchSize, settings.HedgeBudgetPct = 1, 3
		for range 50 {
			answer, err := e.Do(t.Context(), c.to, &Request{
				Path: "/v1/embeddings", Body: []byte(`{"input":["a","b","c","d"]}`), Settings: settings,
			})
			if err != nil {
				t.Fatal(err)
			}
			answer.Close()
			if used := memory.Used(); used != 0 {
				t.Fatalf("%d bytes are still reserved", used)
			}
		}
		for _, e := range c.endpoints {
			if requests, items := e.InFlight(); requests != 0 || items != 0 || e.load.Load() != 0 {
				t.Errorf("%d requests of %d items are in flight", requests, items)
			}
		}
	})
}

// TestCancelledRace ends requests while an attempt and its copy are under way.
func TestCancelledRace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(2, GroupOptions{}, EndpointOptions{MaxRequests: 3})
		for _, u := range c.upstreams {
			u.Script = enginetest.Always(enginetest.Delay(time.Hour))
		}
		var requests sync.WaitGroup
		for i := range 20 {
			requests.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(50+10*i)*time.Millisecond)
				defer cancel()
				start := time.Now()
				if err := c.embed(ctx, 10, hedging); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
				if took := time.Since(start); took != time.Duration(50+10*i)*time.Millisecond {
					t.Errorf("request %d took %v", i, took)
				}
			})
		}
		requests.Wait()
		synctest.Wait()
		for _, e := range c.endpoints {
			if requests, items := e.InFlight(); requests != 0 || items != 0 || e.load.Load() != 0 {
				t.Errorf("%d requests of %d items are in flight", requests, items)
			}
		}
	})
}

// TestAutoHedgingCutsTheTail sends requests of 64 batches to an upstream of
// which one reply in fifty takes fifty times as long as the others.
func TestAutoHedgingCutsTheTail(t *testing.T) {
	t.Parallel()
	const requests, batches = 300, 64
	tail := func(settings Settings) (p99 time.Duration, extra float64) {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(1, GroupOptions{}, EndpointOptions{})
			random := rand.New(rand.NewPCG(1, 1))
			var mu sync.Mutex
			c.upstreams[0].Script = func(*enginetest.Call) []enginetest.Fault {
				mu.Lock()
				defer mu.Unlock()
				took := time.Duration(15+random.IntN(10)) * time.Millisecond
				if random.IntN(50) == 0 {
					took = time.Second
				}
				return []enginetest.Fault{enginetest.Delay(took)}
			}
			took := make([]time.Duration, requests)
			for i := range took {
				start := time.Now()
				if err := c.embed(t.Context(), batches, settings); err != nil {
					t.Fatal(err)
				}
				took[i] = time.Since(start)
			}
			slices.Sort(took)
			p99 = took[requests*99/100]
			extra = float64(len(c.upstreams[0].Calls()))/(requests*batches) - 1
		})
		return p99, extra
	}
	off, _ := tail(Settings{})
	auto, extra := tail(Settings{HedgeAuto: true})
	t.Logf("p99 without copies %v, with auto %v at %.1f %% more calls", off, auto, 100*extra)
	if auto > off/5 || extra > 0.05 {
		t.Errorf("p99 without copies is %v, with auto %v at %.1f %% more calls", off, auto, 100*extra)
	}
}

// TestCopyThatWasNotSentIsNone lets an attempt fail while its copy waits for
// its turn.
func TestCopyThatWasNotSentIsNone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(1, GroupOptions{}, EndpointOptions{MaxRequests: 1})
		c.upstreams[0].Script = enginetest.First(1, enginetest.Delay(time.Second), enginetest.Status(503, "no"))
		if err := c.embed(t.Context(), 1, hedging); err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, call := range c.upstreams[0].Calls() {
			ids = append(ids, call.Header.Get("X-Baseten-Customer-Request-Id"))
		}
		if got := strings.Join(ids, " "); got != "id-0-0 id-0-1" {
			t.Errorf("the calls are %s, want a retry in the place of the copy", got)
		}
	})
}

// TestCopyHeedsRetryAfter lets every endpoint ask for patience, and the retry be
// slow.
func TestCopyHeedsRetryAfter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(2, GroupOptions{Policy: First}, EndpointOptions{})
		c.upstreams[0].Script = enginetest.First(1, enginetest.Status(503, "later"), enginetest.Header("Retry-After", "60"))
		c.upstreams[1].Script = enginetest.Always(enginetest.Delay(time.Second))
		if err := c.embed(t.Context(), 1, hedging); err != nil {
			t.Fatal(err)
		}
		// The retry and its copy both go to the other endpoint.
		if got := fmt.Sprint(c.calls()); got != "[1 2]" {
			t.Errorf("the endpoints got %s calls", got)
		}
	})
}
