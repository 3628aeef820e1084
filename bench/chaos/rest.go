package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/bench/internal/rig"
)

const (
	// restLimit is how long the program may take to come to rest.
	restLimit = 15 * time.Second
	restPause = 100 * time.Millisecond
	// moreGoroutines is how many goroutines more than at first there may be: those
	// of Caddy's own come and go.
	moreGoroutines = 10
	// heapFactor and moreHeap are how much more memory may be in use than after
	// the warm-up.
	heapFactor = 1.5
	moreHeap   = 4 << 20
	// heapLimit is how long it may take to give memory back: the servers of Caddy's
	// earlier configurations keep that of connections of HTTP/2 for a minute.
	heapLimit = 2 * time.Minute
	heapPause = 5 * time.Second
)

// A rest is what the program holds while it does nothing.
type rest struct {
	goroutines int
	heap       int64
}

// atRest gives Caddy a configuration without the endpoints, and returns what is
// left once nothing of them is. What stays is a violation.
func (c *chaos) atRest(ctx context.Context, most int) (rest, error) {
	if err := c.load(ctx, c.configs.nothing()); err != nil {
		return rest{}, err
	}
	var stacks rig.Goroutines
	connections := 0
	err := until(ctx, func() (done bool, err error) {
		connections = 0
		for _, e := range c.endpoints {
			active, idle := e.Connections()
			connections += active + idle
		}
		stacks, err = c.caddy.Goroutines(ctx)
		return connections == 0 && stacks.Total <= most && len(stacks.In("engine", "handler")) == 0, err
	})
	if err != nil {
		return rest{}, err
	}
	if connections > 0 {
		c.tally.violated("no connection to an endpoint is left", "%d are, when no configuration has the endpoints any more", connections)
	}
	if stacks.Total > most {
		c.tally.violated("no goroutine is left", "there are %d of them, %d at most are allowed:\n%s", stacks.Total, most, print(stacks.Stacks))
	}
	if own := stacks.In("engine", "handler"); len(own) > 0 {
		c.tally.violated("no goroutine of the proxy is left", "these are:\n%s", print(own))
	}
	heap, err := c.caddy.Heap(ctx)
	return rest{goroutines: stacks.Total, heap: heap}, err
}

// quiet checks that the program does nothing when nobody asks for anything, with
// the endpoints still in its configuration.
func (c *chaos) quiet(ctx context.Context) error {
	var own []rig.Stack
	active, idle, calls := 0, 0, 0
	err := until(ctx, func() (bool, error) {
		active, idle, calls = 0, 0, 0
		for _, e := range c.endpoints {
			a, i := e.Connections()
			active, idle, calls = active+a, idle+i, calls+e.busy()
		}
		stacks, err := c.caddy.Goroutines(ctx)
		own = working(stacks.In("engine", "handler"))
		return active == 0 && calls == 0 && len(own) == 0, err
	})
	if err != nil {
		return err
	}
	const rule = "without requests the proxy does nothing"
	if active > 0 || calls > 0 {
		c.tally.violated(rule, "%d connections to endpoints are in use, for %d calls", active, calls)
	}
	if len(own) > 0 {
		c.tally.violated(rule, "these goroutines go on:\n%s", print(own))
	}
	fmt.Printf("connections to the endpoints when all is quiet: %d in use, %d kept\n", active, idle)
	return nil
}

// working returns the stacks without those of connections that are kept, each of
// which has a goroutine that waits for the endpoint to close it.
func working(stacks []rig.Stack) (found []rig.Stack) {
	for _, s := range stacks {
		if !strings.Contains(s.Text, "eadLoop") {
			found = append(found, s)
		}
	}
	return found
}

// until asks again and again until something holds, or for restLimit.
func until(ctx context.Context, holds func() (bool, error)) error {
	for begun := time.Now(); time.Since(begun) < restLimit; {
		if done, err := holds(); done || err != nil {
			return err
		}
		if !sleep(ctx, restPause) {
			return errProgramEnds
		}
	}
	return nil
}

// judgeRest compares what is left with what there was at first.
func (c *chaos) judgeRest(ctx context.Context, first, last rest) (err error) {
	most := int64(heapFactor*float64(first.heap)) + moreHeap
	begun := time.Now()
	for last.heap > most && time.Since(begun) < heapLimit {
		if !sleep(ctx, heapPause) {
			return errProgramEnds
		}
		if last.heap, err = c.caddy.Heap(ctx); err != nil {
			return err
		}
	}
	if last.heap > most {
		c.tally.violated("memory is back to where it was", "%d bytes are in use, %d at first, %d are allowed", last.heap, first.heap, most)
	}
	fmt.Printf("goroutines at rest: %d, at first %d; memory in use after %v: %.1f MB, at first %.1f MB\n",
		last.goroutines, first.goroutines, time.Since(begun).Round(time.Second), float64(last.heap)/1e6, float64(first.heap)/1e6)
	return nil
}

// print writes stacks down.
func print(stacks []rig.Stack) string {
	lines := make([]string, len(stacks))
	for i, s := range stacks {
		lines[i] = fmt.Sprintf("    %d in %s", s.Count, strings.Join(s.Functions(), " < "))
	}
	return strings.Join(lines, "\n")
}
