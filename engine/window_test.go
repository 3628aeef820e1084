package engine

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestWindow(t *testing.T) {
	t.Parallel()
	batches := func(n, items int) []int { return slices.Repeat([]int{items}, n) }
	none := math.Inf(1)
	tests := map[string]struct {
		options  limiterOptions
		sent     []int // the items of the batches in flight
		rejected int   // how many of them are
		answered int   // how many replies to a batch of 32 items are good afterwards
		after    time.Duration
		want     float64
	}{
		"without a 429 there is none":             {limiterOptions{}, batches(20, 32), 0, 20, 0, none},
		"it shrinks to what is held":              {limiterOptions{}, batches(20, 32), 4, 0, 0, 512},
		"but not below one batch":                 {limiterOptions{}, batches(20, 32), 20, 0, 0, 32},
		"from one batch it doubles":               {limiterOptions{}, batches(20, 32), 20, 3, 0, 128},
		"nor below a large one":                   {limiterOptions{}, []int{100, 1, 1}, 1, 0, 0, 100},
		"good replies add a quarter of a batch":   {limiterOptions{}, batches(20, 32), 4, 16, 0, 520},
		"one adds at most a sixteenth of a batch": {limiterOptions{}, batches(3, 32), 2, 1, 0, 34},
		"it is kept for 30 s":                     {limiterOptions{}, batches(20, 32), 4, 0, 30*time.Second - 1, 512},
		"and not longer":                          {limiterOptions{}, batches(20, 32), 4, 0, 30 * time.Second, none},
		"it is kept below the bound of items":     {limiterOptions{MaxItems: 96}, batches(3, 32), 1, 15, 0, 94},
		"it is forgotten at the bound of items":   {limiterOptions{MaxItems: 96}, batches(3, 32), 1, 16, 0, none},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLimiter(test.options)
				for _, items := range test.sent {
					if _, err := l.acquire(t.Context(), turn{flow: "a", items: items, urgent: false}); err != nil {
						t.Fatal(err)
					}
				}
				for _, items := range test.sent[:test.rejected] {
					l.rejected(items)
				}
				for _, items := range test.sent[:test.rejected] {
					l.release(items)
				}
				for range test.answered {
					l.answered(32)
				}
				<-time.After(test.after)
				if got := l.window.limit(); math.Round(got) != test.want {
					t.Errorf("the window is %v, want %v", got, test.want)
				}
			})
		})
	}
}

func TestNothingGoesUntilItFitsTheWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &turnstile{limiter: newLimiter(limiterOptions{})}
		for range 4 {
			defer s.come(t, "a", turn{flow: "a", items: 32, urgent: false})()
		}
		s.expect(t, "without a window", "a a a a")
		s.rejected(32)
		defer s.come(t, "b", turn{flow: "b", items: 32, urgent: false})()
		s.release(32)
		s.expect(t, "with the window full", "")
		s.rejected(32)
		s.release(32)
		s.expect(t, "with a smaller one full", "")
		s.answered(32)
		s.release(32)
		s.expect(t, "with room in the window", "b")
		defer s.come(t, "c", turn{flow: "c", items: 32, urgent: false})()
		<-time.After(30 * time.Second)
		s.expect(t, "with the window full again", "")
		defer s.come(t, "d", turn{flow: "d", items: 32, urgent: false})()
		s.expect(t, "30 s after the last 429", "c d")
	})
}

// An allowance is an upstream like text-embeddings-inference: it works on 512
// items at once, about 20 ms on every batch, and answers 429 to more. It is half
// a millisecond away.
type allowance struct {
	mu       sync.Mutex
	held     int
	rejected int
	ends     []time.Time // the ends of the good replies
}

func (u *allowance) call(items int) (ok bool) {
	<-time.After(500 * time.Microsecond)
	defer func() { <-time.After(500 * time.Microsecond) }()
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.held+items > 512 {
		u.rejected++
		return false
	}
	u.held += items
	u.mu.Unlock()
	<-time.After(10*time.Millisecond + rand.N(20*time.Millisecond))
	u.mu.Lock()
	u.held -= items
	u.ends = append(u.ends, time.Now())
	return true
}

// send sends a batch until it is answered, and returns how often it was
// rejected.
func (u *allowance) send(ctx context.Context, l *limiter, flow any, items int, slots slots) (rejected int) {
	for ; ; rejected++ {
		slots.acquire(ctx)
		if _, err := l.acquire(ctx, turn{flow: flow, items: items, urgent: rejected > 0}); err != nil {
			panic(err)
		}
		ok := u.call(items)
		if ok {
			l.answered(items)
		} else {
			l.rejected(items)
		}
		l.release(items)
		slots.release()
		if ok {
			return rejected
		}
		<-time.After(rand.N(125 * time.Millisecond << (2 * rejected)))
	}
}

// run sends four requests of so many batches, 64 of each at once, and returns
// how often the unluckiest batch was rejected.
func (u *allowance) run(ctx context.Context, l *limiter, batches, items int) (most int) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for flow := range 4 {
		slots := make(slots, 64)
		for range batches {
			all.Go(func() {
				rejected := u.send(ctx, l, flow, items, slots)
				mu.Lock()
				defer mu.Unlock()
				most = max(most, rejected)
			})
		}
	}
	all.Wait()
	return most
}

// TestConvergence sends requests to an upstream that takes 512 items at once.
func TestConvergence(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		options    limiterOptions
		before     int // batches in each of the requests that went before
		batches    int // in each of those that are measured
		items      int // in a batch
		rejected   float64
		throughput float64 // as a part of what the upstream can do
	}{
		// Of the first 256 batches 16 are accepted.
		"the first requests":               {limiterOptions{}, 0, 128, 32, 0.5, 0.8},
		"the first requests, with a bound": {limiterOptions{MaxItems: 512}, 0, 128, 32, 0, 0.85},
		"the steady state":                 {limiterOptions{}, 128, 1000, 32, 0.02, 0.9},
		"the steady state, large batches":  {limiterOptions{}, 128, 500, 256, 0.07, 0.9},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l, u := newLimiter(test.options), new(allowance)
				u.run(t.Context(), l, test.before, test.items)
				u.ends, u.rejected = nil, 0
				start := time.Now()
				most := u.run(t.Context(), l, test.batches, test.items)
				n := 4 * test.batches
				rejected := float64(u.rejected) / float64(n)
				// The last few come when their random waits are over.
				took := u.ends[n*95/100-1].Sub(start)
				throughput := 0.95 * float64(n*test.items) / 512 * 0.02 / took.Seconds()
				t.Logf("%d batches: %d rejections (%.1f%%), %d of one batch at most, %.0f%% of the ideal throughput, %v in all",
					n, u.rejected, 100*rejected, most, 100*throughput, time.Since(start).Round(time.Millisecond))
				if rejected > test.rejected || throughput < test.throughput {
					t.Errorf("want at most %.0f%% rejections and at least %.0f%% of the throughput", 100*test.rejected, 100*test.throughput)
				}
				if most > 5 {
					t.Errorf("a batch was rejected %d times, which is more than it is retried", most)
				}
				checkEmpty(t, l)
			})
		})
	}
}
