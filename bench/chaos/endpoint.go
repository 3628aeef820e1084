package main

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/bench/internal/rig"
	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

// A mood is how a model server is for a while.
type mood struct {
	name string
	// weight is how often it comes up among the others.
	weight int
	// trouble is the fraction of calls with a fault.
	trouble float64
	// down tells that the server is killed and comes back.
	down bool
}

var moods = []mood{
	{name: "calm", weight: 10, trouble: 0.005},
	{name: "rough", weight: 5, trouble: 0.05},
	{name: "bad", weight: 2, trouble: 0.5},
	{name: "restart", weight: 3, down: true},
}

// harmless are ways of sending a good reply that change nothing, by name.
var harmless = []struct {
	name   string
	fault  enginetest.Fault
	packed bool
}{
	{name: "shuffled", fault: enginetest.Shuffled()},
	{name: "no length", fault: enginetest.Chunked()},
	{name: "gzip", fault: enginetest.Gzip()},
	{name: "zstd", fault: enginetest.Zstd()},
	{name: "MessagePack", fault: enginetest.Msgpack(), packed: true},
}

// An endpoint is a model server with moods. It is safe for concurrent use.
type endpoint struct {
	*rig.Upstream
	tally  *tally
	ledger *ledger

	mu  sync.Mutex
	rng *rand.Rand
	// mood is how it is now.
	mood mood
	// quiet is closed when nothing goes wrong any more; what is held goes on.
	quiet chan struct{}
	// gate holds calls back while it is not nil.
	gate *gate
	// inFlight counts the calls.
	inFlight int
}

// startEndpoint starts a model server that is well.
func startEndpoint(rng *rand.Rand, h2c bool, t *tally, l *ledger) (*endpoint, error) {
	e := &endpoint{tally: t, ledger: l, rng: rng, quiet: make(chan struct{})}
	e.calm()
	var err error
	e.Upstream, err = rig.StartUpstream(rig.UpstreamOptions{H2C: h2c, Script: e.script, Healthy: e.healthy})
	return e, err
}

// script decides what a call gets.
func (e *endpoint) script(c *enginetest.Call) ([]enginetest.Fault, func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.inFlight++
	done := func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.inFlight--
	}
	id := rig.CallIDOf(c)
	e.countCall(id)
	if e.gate != nil {
		e.ledger.called(id, http.StatusOK, false)
		return []enginetest.Fault{e.gate.enter(e.inFlight)}, done
	}
	delay := enginetest.Delay(between(e.rng, 2*time.Millisecond, 20*time.Millisecond))
	if e.rng.Float64() < e.mood.trouble {
		f := pick(e.rng, len(c.Items))
		e.tally.add("faults", f.name)
		e.ledger.called(id, f.status, false)
		return append([]enginetest.Fault{delay}, f.make(e.rng, c, e.quiet)...), done
	}
	if e.rng.IntN(5) > 0 {
		e.ledger.called(id, http.StatusOK, false)
		return []enginetest.Fault{delay}, done
	}
	way := harmless[e.rng.IntN(len(harmless))]
	e.tally.add("good replies in another form", way.name)
	e.ledger.called(id, http.StatusOK, way.packed)
	return []enginetest.Fault{delay, way.fault}, done
}

// countCall counts a call by what it is for.
func (e *endpoint) countCall(id rig.CallID) {
	kind := "first attempts"
	switch {
	case id.Hedge:
		kind = "hedges"
	case id.Attempt > 0:
		kind = "retries"
	}
	e.tally.add("upstream calls", kind)
}

func (e *endpoint) healthy() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.mood.trouble < 0.5 || e.rng.IntN(2) == 0
}

// live goes from mood to mood until the context ends, and leaves the server up
// and well.
func (e *endpoint) live(ctx context.Context) error {
	defer e.calm()
	for ctx.Err() == nil {
		lasts := e.change()
		if !e.isDown() {
			sleep(ctx, lasts)
			continue
		}
		e.Kill()
		sleep(ctx, lasts/2)
		if err := e.Restart(); err != nil {
			return err
		}
	}
	return nil
}

// change takes another mood and returns how long it lasts.
func (e *endpoint) change() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	sum := 0
	for _, m := range moods {
		sum += m.weight
	}
	n := e.rng.IntN(sum)
	for _, m := range moods {
		if n -= m.weight; n < 0 {
			e.mood = m
			break
		}
	}
	e.tally.add("moods of endpoints", e.mood.name)
	return between(e.rng, 500*time.Millisecond, 4*time.Second)
}

func (e *endpoint) isDown() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.mood.down
}

// calm lets nothing go wrong any more, and what is held go on.
func (e *endpoint) calm() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mood = mood{name: "well"}
	close(e.quiet)
	e.quiet = make(chan struct{})
}

// sleep waits and reports whether the context lasted.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
