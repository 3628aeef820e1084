package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/bench/internal/rig"
	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

const (
	hedgeBatches = 64
	hedgeBatch   = 2 // texts, few because the machine works for the model server, too
	hedgeClients = 2
	// hedgeWarmUp is how many requests make the connections and let the proxy see
	// how long replies take.
	hedgeWarmUp = 30
	// slowFactor is how much longer a slow reply takes.
	slowFactor = 50
)

// hedgeModes are the rows of the table: values of hedge_delay. The ids of
// requests begin with them.
var hedgeModes = []string{hedgeOff, "0.1", "auto"}

const (
	hedgeOff = "off"
	// hedgeWarm begins the ids of requests that are not measured.
	hedgeWarm = "warm"
)

// hedgeSamples is what was seen of one mode.
type hedgeSamples struct {
	rng   *rand.Rand
	took  []time.Duration
	calls int
	// slow holds the batches whose first reply is slow, twice the requests that
	// have a batch with a copy that is slow as well.
	slow  map[rig.CallID]bool
	twice map[string]bool
}

// hedgeTable collects the rows. It is safe for concurrent use.
type hedgeTable struct {
	o      options
	mu     sync.Mutex
	modes  map[string]*hedgeSamples
	failed error
}

// hedge prints how long requests take when some replies are slow, without and
// with copies.
func hedge(ctx context.Context, o options) error {
	t := &hedgeTable{o: o, modes: make(map[string]*hedgeSamples)}
	for i, mode := range append(slices.Clone(hedgeModes), hedgeWarm) {
		t.modes[mode] = &hedgeSamples{
			rng:  rand.New(rand.NewPCG(o.seed, uint64(i))),
			slow: make(map[rig.CallID]bool), twice: make(map[string]bool),
		}
	}
	err := t.measure(ctx)
	fmt.Printf("hedge: requests of %d batches, a reply takes %v, %g %% of them %v (seed %d); %d requests each, from %d clients\n",
		hedgeBatches, normal, 100*o.slow, slowFactor*normal, o.seed, o.requests, hedgeClients)
	return errors.Join(err, rig.WriteTable(os.Stdout, t.rows()), t.note())
}

// script makes some of the replies slow.
func (t *hedgeTable) script(c *enginetest.Call) ([]enginetest.Fault, func()) {
	id := rig.CallIDOf(c)
	mode, _, _ := strings.Cut(id.Request, "/")
	t.mu.Lock()
	defer t.mu.Unlock()
	samples := t.modes[mode]
	if samples == nil {
		t.failed = fmt.Errorf("a call with the id %q", id.Request)
		return nil, nil
	}
	samples.calls++
	if samples.rng.Float64() >= t.o.slow {
		return []enginetest.Fault{enginetest.Delay(normal)}, nil
	}
	first := id
	first.Hedge = false
	if id.Hedge && samples.slow[first] {
		samples.twice[id.Request] = true
	}
	samples.slow[id] = true
	return []enginetest.Fault{enginetest.Delay(slowFactor * normal)}, nil
}

// measure sends the requests, the modes in turn. Each mode has a proxy of its
// own, because auto goes by the times of all replies, also of those that the
// other modes wait for.
func (t *hedgeTable) measure(ctx context.Context) (err error) {
	urls := make(map[string]string)
	for _, mode := range hedgeModes {
		settings := fmt.Sprintf("batch_size %d\nmax_concurrent_requests %d", hedgeBatch, hedgeBatches)
		if mode != hedgeOff {
			settings += "\nhedge_delay " + mode
		}
		s, err2 := start(ctx, t.o.caddy, settings, t.script)
		if err2 != nil {
			return errors.Join(err, err2)
		}
		defer func() { err = errors.Join(err, s.close()) }()
		urls[mode] = s.caddy.URL
	}
	if err := t.inParallel(ctx, urls, hedgeWarmUp, func(string) string { return hedgeWarm }); err != nil {
		return fmt.Errorf("warming up: %w", err)
	}
	return t.inParallel(ctx, urls, t.o.requests, func(mode string) string { return mode })
}

// inParallel sends n requests of each mode, counted under the name that as
// returns.
func (t *hedgeTable) inParallel(ctx context.Context, urls map[string]string, n int, as func(mode string) string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var all sync.WaitGroup
	for range hedgeClients {
		all.Go(func() {
			clients := make(map[string]*rig.Client)
			for mode, url := range urls {
				clients[mode] = rig.NewClient(url, false)
				defer clients[mode].Close()
			}
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				for m := range hedgeModes {
					mode := hedgeModes[(m+i)%len(hedgeModes)]
					if err := t.one(ctx, clients[mode], as(mode), mode+strconv.Itoa(i)); err != nil {
						cancel(err)
					}
				}
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// one sends one request.
func (t *hedgeTable) one(ctx context.Context, client *rig.Client, as, name string) error {
	id := as + "/" + name
	took, err := ask(ctx, client, rig.Request{ID: id, Items: texts(id, hedgeBatches*hedgeBatch)})
	if err != nil {
		return fmt.Errorf("request %s: %w", id, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.modes[as].took = append(t.modes[as].took, took)
	return nil
}

// rows makes the table.
func (t *hedgeTable) rows() [][]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	table := [][]string{{"hedge_delay", "p50", "p95", "p99", "mean", "calls/request", "extra", "slow twice"}}
	for _, mode := range hedgeModes {
		s := t.modes[mode]
		n := len(s.took)
		table = append(table, []string{
			mode,
			milliseconds(rig.Percentile(s.took, 0.50)),
			milliseconds(rig.Percentile(s.took, 0.95)),
			milliseconds(rig.Percentile(s.took, 0.99)),
			milliseconds(rig.Mean(s.took)),
			fmt.Sprintf("%.2f", float64(s.calls)/float64(max(1, n))),
			percent(s.calls, n*hedgeBatches),
			strconv.Itoa(len(s.twice)),
		})
	}
	return table
}

// note says what one copy of a batch can do at best, and what was seen that must
// not be.
func (t *hedgeTable) note() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	left := 1 - math.Pow(1-t.o.slow*t.o.slow, hedgeBatches)
	fmt.Printf("  slow twice: requests with a batch of which a copy was slow as well; %.1f %% are to be expected,\n"+
		"  and with one copy of a batch, which is what a fixed hedge_delay sends, these stay slow\n", 100*left)
	for _, name := range slices.Sorted(maps.Keys(t.modes)) {
		if t.modes[name].calls == 0 {
			return errors.Join(t.failed, fmt.Errorf("no call of the mode %s reached the upstream", name))
		}
	}
	return t.failed
}
