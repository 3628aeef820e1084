package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A turnstile is a limiter in a synctest bubble and the order in which batches
// pass it.
type turnstile struct {
	*limiter
	mu     sync.Mutex
	passed []string
}

// come lets a batch wait for its turn, and returns when it has passed or waits.
// What it returns ends the wait.
func (s *turnstile) come(t *testing.T, name string, turn turn) context.CancelFunc {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		if _, err := s.acquire(ctx, turn); err != nil {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.passed = append(s.passed, name)
	}()
	synctest.Wait()
	return cancel
}

// expect checks which batches have passed since it was called last, in the order
// of their names when several go at once.
func (s *turnstile) expect(t *testing.T, what, want string) {
	t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.Sort(s.passed)
	if got := strings.Join(s.passed, " "); got != want {
		t.Errorf("%s: %q went, want %q", what, got, want)
	}
	s.passed = nil
}

// checkEmpty checks that nothing is held and nothing is remembered.
func checkEmpty(t *testing.T, l *limiter) {
	t.Helper()
	if requests, items := l.inFlight(); requests != 0 || items != 0 {
		t.Errorf("%d requests and %d items are left in flight", requests, items)
	}
	if len(l.waiting) != 0 || l.flows != nil || l.idle != nil {
		t.Errorf("the limiter remembers %d flows, of which %d wait", len(l.flows), len(l.waiting))
	}
}

func TestLimiterBoundsHoldAtEveryMoment(t *testing.T) {
	t.Parallel()
	type count struct{ requests, items int }
	tests := map[string]struct {
		options  limiterOptions
		rejected float64 // part of the batches
		reached  count   // at least, or the test says nothing
	}{
		"requests":                     {limiterOptions{MaxRequests: 7}, 0, count{7, 100}},
		"items":                        {limiterOptions{MaxItems: 100}, 0, count{5, 100}},
		"both":                         {limiterOptions{MaxRequests: 7, MaxItems: 100}, 0, count{7, 95}},
		"items, and some batches over": {limiterOptions{MaxItems: 30}, 0, count{2, 31}},
		"both, and a window":           {limiterOptions{MaxRequests: 50, MaxItems: 500}, 0.1, count{10, 100}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLimiter(test.options)
				var mu sync.Mutex
				var held, most count
				add := func(requests, items int) {
					mu.Lock()
					defer mu.Unlock()
					held = count{held.requests + requests, held.items + items}
					most = count{max(most.requests, held.requests), max(most.items, held.items)}
					if held.requests > l.maxRequests || held.items > l.maxItems && held.requests > 1 {
						t.Errorf("%+v are in flight", held)
					}
				}
				var flows [20]int
				var all sync.WaitGroup
				for i := range 1000 {
					all.Go(func() {
						for range 10 {
							ctx, cancel := context.WithTimeout(t.Context(), rand.N(2*time.Second))
							items := 1 + rand.IntN(40)
							if _, err := l.acquire(ctx, turn{flow: &flows[i%20], items: items, urgent: rand.IntN(4) == 0}); err == nil {
								add(1, items)
								<-time.After(rand.N(3 * time.Millisecond))
								add(-1, -items)
								if rand.Float64() < test.rejected {
									l.rejected(items)
								} else {
									l.answered(items)
								}
								l.release(items)
							}
							cancel()
						}
					})
				}
				all.Wait()
				if most.requests < test.reached.requests || most.items < test.reached.items {
					t.Errorf("at most %+v were in flight at once, want %+v", most, test.reached)
				}
				checkEmpty(t, l)
			})
		})
	}
}

func TestLimiterOrder(t *testing.T) {
	t.Parallel()
	const a, b, c = "flow a", "flow b", "flow c"
	type step struct {
		come string // the name of a batch; empty: give a place back instead
		turn turn
		went string
	}
	gone := func(items int, went string) step { return step{"", turn{items: items}, went} }
	tests := map[string]struct {
		options limiterOptions
		steps   []step
	}{
		"a batch over the bound goes alone": {limiterOptions{MaxItems: 10}, []step{
			{"a1", turn{flow: a, items: 3, urgent: false}, "a1"}, {"b50", turn{flow: b, items: 50, urgent: false}, ""}, {"a2", turn{flow: a, items: 1, urgent: false}, ""},
			gone(3, "b50"), {"c1", turn{flow: c, items: 1, urgent: false}, ""}, gone(50, "a2 c1"),
		}},
		"small batches do not pass the one that is next": {limiterOptions{MaxItems: 10}, []step{
			{"a1", turn{flow: a, items: 5, urgent: false}, "a1"}, {"a2", turn{flow: a, items: 5, urgent: false}, "a2"}, {"b8", turn{flow: b, items: 8, urgent: false}, ""}, {"c1", turn{flow: c, items: 1, urgent: false}, ""},
			gone(5, ""), {"a3", turn{flow: a, items: 1, urgent: false}, ""}, gone(5, "a3 b8 c1"),
		}},
		"nor do those of a flow that is new": {limiterOptions{MaxItems: 10}, []step{
			{"a1", turn{flow: a, items: 10, urgent: false}, "a1"}, {"a2", turn{flow: a, items: 4, urgent: false}, ""}, {"a8", turn{flow: a, items: 8, urgent: false}, ""}, gone(10, "a2"),
			{"b1", turn{flow: b, items: 1, urgent: false}, ""}, gone(4, "a8 b1"),
		}},
		"batches of one flow go in the order in which they came": {limiterOptions{MaxRequests: 1}, []step{
			{"a1", turn{flow: a, items: 1, urgent: false}, "a1"}, {"a2", turn{flow: a, items: 9, urgent: false}, ""}, {"a3", turn{flow: a, items: 1, urgent: false}, ""}, {"a4", turn{flow: a, items: 1, urgent: false}, ""},
			gone(1, "a2"), gone(9, "a3"), gone(1, "a4"),
		}},
		"urgent ones go before the others of their flow": {limiterOptions{MaxRequests: 1}, []step{
			{"a1", turn{flow: a, items: 4, urgent: false}, "a1"}, {"a2", turn{flow: a, items: 4, urgent: false}, ""}, {"a3", turn{flow: a, items: 4, urgent: true}, ""}, {"a4", turn{flow: a, items: 4, urgent: true}, ""},
			gone(4, "a3"), gone(4, "a4"), gone(4, "a2"),
		}},
		"urgent ones do not go before other flows": {limiterOptions{MaxRequests: 1}, []step{
			{"a1", turn{flow: a, items: 4, urgent: false}, "a1"}, {"b1", turn{flow: b, items: 4, urgent: false}, ""}, {"a2", turn{flow: a, items: 4, urgent: true}, ""}, {"a3", turn{flow: a, items: 4, urgent: true}, ""}, {"b2", turn{flow: b, items: 4, urgent: false}, ""},
			gone(4, "b1"), gone(4, "a2"), gone(4, "b2"), gone(4, "a3"),
		}},
		"an urgent one that fits does not wait for the one behind it": {limiterOptions{MaxItems: 10}, []step{
			{"a1", turn{flow: a, items: 5, urgent: false}, "a1"}, {"a8", turn{flow: a, items: 8, urgent: false}, ""}, {"a3", turn{flow: a, items: 3, urgent: true}, "a3"}, gone(5, ""), gone(3, "a8"),
		}},
		"as many go as there is room for": {limiterOptions{MaxItems: 10}, []step{
			{"a10", turn{flow: a, items: 10, urgent: false}, "a10"}, {"a4", turn{flow: a, items: 4, urgent: false}, ""}, {"b4", turn{flow: b, items: 4, urgent: false}, ""}, {"c4", turn{flow: c, items: 4, urgent: false}, ""},
			gone(10, "a4 b4"), gone(4, "c4"),
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &turnstile{limiter: newLimiter(test.options)}
				for i, step := range test.steps {
					if step.come == "" {
						s.release(step.turn.items)
					} else {
						defer s.come(t, step.come, step.turn)()
					}
					s.expect(t, fmt.Sprintf("step %d", i), step.went)
				}
			})
		})
	}
}

// TestLargeRequestDoesNotStarveSmallOne lets a request of 100 000 texts wait
// first.
func TestLargeRequestDoesNotStarveSmallOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &turnstile{limiter: newLimiter(limiterOptions{MaxItems: 512})}
		for range 3125 {
			defer s.come(t, "large", turn{flow: "large", items: 32, urgent: false})()
		}
		s.expect(t, "before any reply", strings.TrimSpace(strings.Repeat("large ", 16)))
		for round := range 3 {
			defer s.come(t, "small", turn{flow: fmt.Sprint("small", round), items: 3, urgent: false})()
			s.expect(t, "before the next reply", "")
			s.release(32)
			s.expect(t, "after one reply", "large")
			s.release(32)
			s.expect(t, "after two", "small")
			s.release(3)
			s.expect(t, "after the small one's", "large")
		}
	})
}

// TestFlowsGetEqualNumbersOfItems lets flows work for a while, each with a
// number of workers that send one batch after the other.
func TestFlowsGetEqualNumbersOfItems(t *testing.T) {
	t.Parallel()
	type load struct{ workers, items int }
	tests := map[string]struct {
		options limiterOptions
		loads   []load
	}{
		"batches of 1 and of 32":                         {limiterOptions{MaxItems: 64}, []load{{64, 1}, {64, 32}}},
		"one batch at a time":                            {limiterOptions{MaxRequests: 1}, []load{{64, 1}, {64, 32}}},
		"few and many that wait":                         {limiterOptions{MaxItems: 64}, []load{{4, 32}, {1000, 32}}},
		"a flow that comes and goes with large batches":  {limiterOptions{MaxRequests: 1}, []load{{64, 1}, {1, 32}}},
		"flows that come and go beside one that remains": {limiterOptions{MaxRequests: 1}, []load{{64, 2}, {1, 32}, {1, 16}, {2, 3}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLimiter(test.options)
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				got := make([]int, len(test.loads))
				var mu sync.Mutex
				var all sync.WaitGroup
				for i, load := range test.loads {
					for range load.workers {
						all.Go(func() {
							for {
								if _, err := l.acquire(ctx, turn{flow: &got[i], items: load.items, urgent: false}); err != nil {
									return
								}
								mu.Lock()
								got[i] += load.items
								mu.Unlock()
								<-time.After(time.Millisecond)
								l.release(load.items)
							}
						})
					}
				}
				all.Wait()
				if least, most := slices.Min(got), slices.Max(got); float64(most) > 1.05*float64(least) {
					t.Errorf("the flows got %v items", got)
				}
				checkEmpty(t, l)
			})
		})
	}
}

func TestLimiterWaitEndsWithTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(limiterOptions{MaxRequests: 1})
		cause := errors.New("the time is over")
		if waited, err := l.acquire(t.Context(), turn{flow: "a", items: 1, urgent: false}); waited != 0 || err != nil {
			t.Fatalf("waited %v, %v", waited, err)
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, cause)
		defer cancel()
		time.AfterFunc(2*time.Second, func() { l.release(1) })
		if waited, err := l.acquire(ctx, turn{flow: "b", items: 1, urgent: false}); waited != time.Second || !errors.Is(err, cause) {
			t.Errorf("waited %v, %v, want the cause after a second", waited, err)
		}
		if waited, err := l.acquire(t.Context(), turn{flow: "b", items: 1, urgent: false}); waited != time.Second || err != nil {
			t.Errorf("waited %v, %v, want the second that is left", waited, err)
		}
		l.release(1)
		if waited, err := l.acquire(ctx, turn{flow: "b", items: 1, urgent: false}); waited != 0 || !errors.Is(err, cause) {
			t.Errorf("waited %v, %v, want the cause although there is room", waited, err)
		}
		checkEmpty(t, l)
	})
}

func TestCancelledBatchLeavesTheQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &turnstile{limiter: newLimiter(limiterOptions{MaxItems: 10})}
		defer s.come(t, "a1", turn{flow: "a", items: 5, urgent: false})()
		cancelHead := s.come(t, "b8", turn{flow: "b", items: 8, urgent: false})
		cancelMiddle := s.come(t, "c3", turn{flow: "c", items: 3, urgent: false})
		defer s.come(t, "c2", turn{flow: "c", items: 2, urgent: false})()
		s.expect(t, "at first", "a1")
		cancelMiddle()
		s.expect(t, "without the one in the middle", "")
		cancelHead()
		s.expect(t, "without the one for which there was no room", "c2")
		s.release(5)
		s.release(2)
		checkEmpty(t, s.limiter)
	})
}

// TestCancellationRacesWithTheGrant ends waits at the moment in which their
// turns come.
func TestCancellationRacesWithTheGrant(t *testing.T) {
	t.Parallel()
	l := newLimiter(limiterOptions{MaxRequests: 1})
	for range 10_000 {
		if waited, err := l.acquire(t.Context(), turn{flow: "a", items: 1, urgent: false}); waited != 0 || err != nil {
			t.Fatalf("waited %v, %v, want a place at once", waited, err)
		}
		ended, end := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for _, ctx := range []context.Context{ended, t.Context(), ended} {
			all.Go(func() {
				if _, err := l.acquire(ctx, turn{flow: ctx, items: 1, urgent: false}); err == nil {
					l.release(1)
				} else if ctx != ended {
					t.Error(err)
				}
			})
		}
		for waiting := 0; waiting < 3; runtime.Gosched() {
			l.mu.Lock()
			waiting = 0
			for _, f := range l.waiting {
				waiting += f.ordinary.Len()
			}
			l.mu.Unlock()
		}
		all.Go(end)
		all.Go(func() { l.release(1) })
		all.Wait()
	}
	checkEmpty(t, l)
}

// TestFlowsAreForgotten lets many flows come and go beside one that always
// waits.
func TestFlowsAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &turnstile{limiter: newLimiter(limiterOptions{MaxRequests: 1})}
		for range 1002 {
			defer s.come(t, "large", turn{flow: "large", items: 8, urgent: false})()
		}
		for i := range 500 {
			s.come(t, "gone", turn{flow: -i, items: 8, urgent: false})()
			defer s.come(t, "small", turn{flow: i, items: 8, urgent: false})()
			s.release(8)
			s.release(8)
			synctest.Wait()
			if n := len(s.flows); n > 2 {
				t.Fatalf("%d flows are remembered after %d", n, i)
			}
		}
		for requests, _ := s.inFlight(); requests > 0; requests, _ = s.inFlight() {
			s.release(8)
		}
		checkEmpty(t, s.limiter)
	})
}

func TestFastPathAllocatesNothing(t *testing.T) {
	l := newLimiter(limiterOptions{MaxRequests: 10, MaxItems: 1000})
	flow := new(Call)
	ctx := context.Background()
	allocations := testing.AllocsPerRun(1000, func() {
		if _, err := l.acquire(ctx, turn{flow: flow, items: 32, urgent: false}); err != nil {
			t.Error(err)
		}
		l.answered(32)
		l.release(32)
	})
	if allocations != 0 {
		t.Errorf("%v allocations", allocations)
	}
}

func BenchmarkLimiter(b *testing.B) {
	benchmarks := map[string]limiterOptions{
		"with room":    {MaxRequests: 1024, MaxItems: 1 << 20},
		"with waiting": {MaxRequests: 2},
	}
	for name, options := range benchmarks {
		b.Run(name, func(b *testing.B) {
			l := newLimiter(options)
			b.ReportAllocs()
			b.SetParallelism(100)
			b.RunParallel(func(pb *testing.PB) {
				flow := new(Call)
				for pb.Next() {
					if _, err := l.acquire(context.Background(), turn{flow: flow, items: 32, urgent: false}); err != nil {
						b.Error(err)
					}
					runtime.Gosched()
					l.release(32)
				}
			})
		})
	}
}
