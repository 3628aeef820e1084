package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/bench/internal/rig"
	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

const (
	failoverEndpoints = 3
	failoverClients   = 6
	failoverTexts     = 128
	failoverBatch     = 8
	// failoverPause is from the beginning of one request of a client to that of
	// the next.
	failoverPause = 100 * time.Millisecond

	killAfter = 4 * time.Second
	// The endpoint comes back a second after the proxy looked for it in vain, when
	// fail_duration has its default of 5 s.
	backAfter    = 10 * time.Second
	failoverEnds = 20 * time.Second
	// evenWithin is how far the shares may be apart from their mean in a second
	// that counts as even.
	evenWithin = 0.20
)

// failoverRun is the load and what was seen of it. It is safe for concurrent
// use.
type failoverRun struct {
	start time.Time
	sent  atomic.Int64

	mu sync.Mutex
	// arrived holds when calls arrived at each endpoint, done, longest and failed
	// what clients got in each second.
	arrived [failoverEndpoints][]time.Duration
	done    map[int]int
	longest map[int]time.Duration
	failed  map[int][]error
}

// failover prints what clients see when an endpoint is killed and comes back.
func failover(ctx context.Context, o options) (failed error) {
	fmt.Printf("failover: %d endpoints, a reply takes %v, %d clients send %d batches each every %v; the first endpoint is killed after %v and back after %v\n",
		failoverEndpoints, normal, failoverClients, failoverTexts/failoverBatch, failoverPause, killAfter, backAfter)
	r := &failoverRun{
		done:    make(map[int]int),
		longest: make(map[int]time.Duration), failed: make(map[int][]error),
	}
	scripts := make([]rig.Script, failoverEndpoints)
	for i := range scripts {
		scripts[i] = r.script(i)
	}
	s, err := start(ctx, o.caddy, fmt.Sprintf("batch_size %d", failoverBatch), scripts...)
	if err != nil {
		return err
	}
	defer func() { failed = errors.Join(failed, s.close()) }()
	r.start = time.Now()
	var clients sync.WaitGroup
	for range failoverClients {
		clients.Go(func() { r.client(ctx, s.caddy.URL) })
	}
	back, err := r.killAndRestart(ctx, s.upstreams[0])
	clients.Wait()
	return errors.Join(err, context.Cause(ctx), r.report(back))
}

// script counts the calls of an endpoint.
func (r *failoverRun) script(endpoint int) rig.Script {
	return func(c *enginetest.Call) ([]enginetest.Fault, func()) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.arrived[endpoint] = append(r.arrived[endpoint], c.Arrived.Sub(r.start))
		return []enginetest.Fault{enginetest.Delay(normal)}, nil
	}
}

// killAndRestart kills an endpoint and brings it back, and returns when that
// was.
func (r *failoverRun) killAndRestart(ctx context.Context, u *rig.Upstream) (back time.Duration, err error) {
	if !waitUntil(ctx, r.start.Add(killAfter)) {
		return 0, nil
	}
	u.Kill()
	if !waitUntil(ctx, r.start.Add(backAfter)) {
		return 0, nil
	}
	err = u.Restart()
	return time.Since(r.start), err
}

// client sends requests at a steady pace until the end.
func (r *failoverRun) client(ctx context.Context, url string) {
	client := rig.NewClient(url, false)
	defer client.Close()
	for next := r.start; next.Before(r.start.Add(failoverEnds)); next = next.Add(failoverPause) {
		if !waitUntil(ctx, next) {
			return
		}
		id := strconv.FormatInt(r.sent.Add(1), 10)
		begun := time.Now()
		second := int(begun.Sub(r.start) / time.Second)
		_, err := ask(ctx, client, rig.Request{ID: id, Items: texts(id, failoverTexts)})
		if ctx.Err() != nil {
			return
		}
		r.count(second, time.Since(begun), err)
	}
}

// count counts a request in the second in which it began.
func (r *failoverRun) count(second int, took time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done[second]++
	r.longest[second] = max(r.longest[second], took)
	if err != nil {
		r.failed[second] = append(r.failed[second], err)
	}
}

// report prints the table and what follows from it.
func (r *failoverRun) report(back time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	table := [][]string{{"second", "requests", "errors", "longest", "calls", "killed one", "second one", "third one"}}
	var longest time.Duration
	var failures []error
	requests := 0
	for second := range int(failoverEnds / time.Second) {
		from := time.Duration(second) * time.Second
		shares, calls := r.shares(from)
		row := []string{
			strconv.Itoa(second), strconv.Itoa(r.done[second]), strconv.Itoa(len(r.failed[second])),
			milliseconds(r.longest[second]), strconv.Itoa(calls),
		}
		for _, share := range shares {
			row = append(row, fmt.Sprintf("%.0f %%", 100*share))
		}
		table = append(table, row)
		longest, requests = max(longest, r.longest[second]), requests+r.done[second]
		failures = append(failures, r.failed[second]...)
	}
	if err := rig.WriteTable(os.Stdout, table); err != nil {
		return err
	}
	fmt.Printf("  %d requests, %d errors, the longest took %s\n", requests, len(failures), milliseconds(longest))
	even, err := r.evenAgain(back)
	if err == nil {
		fmt.Printf("  traffic was even again %s after the endpoint was back\n", milliseconds(even))
	}
	if len(failures) > 0 {
		return errors.Join(err, fmt.Errorf("%d requests failed, one of them: %w", len(failures), failures[0]))
	}
	return err
}

// shares returns the share of each endpoint in the calls of a second that begins
// at a time.
func (r *failoverRun) shares(from time.Duration) (shares [failoverEndpoints]float64, calls int) {
	for i, arrived := range r.arrived {
		n := 0
		for _, at := range arrived {
			if at >= from && at < from+time.Second {
				n++
			}
		}
		shares[i] = float64(n)
		calls += n
	}
	for i := range shares {
		shares[i] /= float64(max(1, calls))
	}
	return shares, calls
}

// evenAgain returns how long after the return of the endpoint the first second
// began in which all had the same share.
func (r *failoverRun) evenAgain(back time.Duration) (time.Duration, error) {
	const step = 50 * time.Millisecond
	for from := back; from+time.Second <= failoverEnds; from += step {
		shares, calls := r.shares(from)
		if calls > 0 && isEven(shares) {
			return from - back, nil
		}
	}
	return 0, errors.New("traffic was not even again before the end")
}

func isEven(shares [failoverEndpoints]float64) bool {
	const mean = 1.0 / failoverEndpoints
	for _, share := range shares {
		if share < mean*(1-evenWithin) || share > mean*(1+evenWithin) {
			return false
		}
	}
	return true
}

// waitUntil waits and reports whether the context lasted.
func waitUntil(ctx context.Context, at time.Time) bool {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
