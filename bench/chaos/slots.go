package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/bench/internal/rig"
)

const (
	// slotsLimit is how long the proxy may take after the chaos to use all its
	// slots again: it holds back for a while from endpoints that were overloaded
	// or failed.
	slotsLimit = 40 * time.Second
	// waveLimit is how long one try waits.
	waveLimit = 3 * time.Second
	// waveRequests is how many client requests a try consists of.
	waveRequests = 8
)

// errProgramEnds says that a check was not made to its end.
var errProgramEnds = errors.New("the program was asked to end")

// slots checks that no slot was lost: with enough work waiting, the proxy has as
// many calls in flight to each endpoint at once as it may, counted in requests
// and counted in items, and not one more.
func (c *chaos) slots(ctx context.Context) error {
	for _, batchSize := range []int{1, 32} {
		want := min(maxUpstreamRequests, maxUpstreamItems/batchSize)
		begun := time.Now()
		tries, most, err := 1, []int(nil), error(nil)
		for ; ; tries++ {
			var full bool
			if full, most, err = c.wave(ctx, batchSize, want); err != nil {
				return err
			}
			if full || time.Since(begun) > slotsLimit {
				break
			}
		}
		for i, n := range most {
			if n != want {
				c.tally.violated("no slot of an endpoint is lost, none is used twice",
					"endpoint %d has %d calls of %d items at once, %d are allowed", i, n, batchSize, want)
			}
		}
		fmt.Printf("slots: %v calls of %d items at once to the endpoints, %d allowed to each; try %d, after %v\n",
			most, batchSize, want, tries, time.Since(begun).Round(time.Millisecond))
	}
	return nil
}

// wave holds all calls back, sends twice as many as may be in flight and
// returns how many there were at each endpoint, and whether all that may be.
func (c *chaos) wave(ctx context.Context, batchSize, want int) (full bool, most []int, err error) {
	gates := make([]*gate, len(c.endpoints))
	for i, e := range c.endpoints {
		gates[i] = newGate(want)
		e.shut(gates[i])
	}
	var requests sync.WaitGroup
	for range waveRequests {
		requests.Go(func() { c.waveRequest(ctx, batchSize, 2*want*len(gates)/waveRequests) })
	}
	full = allFull(ctx, gates)
	for _, e := range c.endpoints {
		most = append(most, e.open())
	}
	requests.Wait()
	if ctx.Err() != nil {
		err = errProgramEnds
	}
	return full, most, err
}

// allFull waits until all gates are full, and reports whether they are.
func allFull(ctx context.Context, gates []*gate) bool {
	limit := time.NewTimer(waveLimit)
	defer limit.Stop()
	for _, g := range gates {
		select {
		case <-g.full:
		case <-limit.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// waveRequest sends one request and has the answer judged.
func (c *chaos) waveRequest(ctx context.Context, batchSize, batches int) {
	client := rig.NewClient(c.caddy.URL, false)
	defer client.Close()
	id := fmt.Sprintf("w%d", c.waves.Add(1))
	c.traffic.send(ctx, client, plan{Request: rig.Request{
		ID:          id,
		Items:       texts(rand.New(rand.NewPCG(c.o.seed, uint64(c.waves.Load()))), id, batchSize*batches),
		Preferences: map[string]any{"batch_size": batchSize, "max_concurrent_requests": batches, "max_chars_per_request": 250_000},
	}})
}
