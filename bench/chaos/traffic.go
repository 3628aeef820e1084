package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/bench/internal/rig"
)

const (
	// clients is how many there are at a time.
	clients = 10
	// maxRequests is how many requests a client sends at most before it goes and
	// another one comes.
	maxRequests = 15
	// maxPause is the longest pause of a client between two requests.
	maxPause = 150 * time.Millisecond
	// noAnswer is how long a client waits for an answer that never comes.
	noAnswer = 90 * time.Second
)

// traffic is what all clients have in common. It is safe for concurrent use.
type traffic struct {
	url   string
	seed  uint64
	tally *tally
	judge *judge
	sent  atomic.Int64
}

var (
	// errClientLeft ends a request whose client goes away.
	errClientLeft = errors.New("the client left")
	// errNoAnswer ends a request that was not answered.
	errNoAnswer = errors.New("no answer")
)

// run lets clients come and go until the period ends. Then each one finishes the
// request that it has begun, unless ctx ends.
func (t *traffic) run(ctx, period context.Context) {
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(t.seed, uint64(1000+i)))
			for period.Err() == nil {
				t.client(ctx, period, rng)
			}
		})
	}
	all.Wait()
}

// client is one client, from its coming to its going.
func (t *traffic) client(ctx, period context.Context, rng *rand.Rand) {
	kind := "HTTP/1.1"
	h2c := rng.IntN(4) == 0
	if h2c {
		kind = "h2c"
	}
	t.tally.add("clients", kind)
	client := rig.NewClient(t.url, h2c)
	defer client.Close()
	for range 1 + rng.IntN(maxRequests) {
		id := "r" + strconv.FormatInt(t.sent.Add(1), 10)
		t.send(ctx, client, newPlan(rng, id))
		if !sleep(period, time.Duration(rng.Int64N(int64(maxPause)))) {
			return
		}
	}
}

// send sends one request and has the answer judged.
func (t *traffic) send(ctx context.Context, client *rig.Client, p plan) {
	waits, cause := noAnswer, errNoAnswer
	if p.leaveAfter > 0 {
		waits, cause = p.leaveAfter, errClientLeft
	}
	waiting, cancel := context.WithTimeoutCause(ctx, waits, cause)
	defer cancel()
	t.judge.ledger.begin(p.ID, p.bad)
	begun := time.Now()
	answer, err := client.Do(waiting, p.Request)
	t.judge.ledger.end(p.ID)
	switch {
	case err == nil:
		t.judge.answered(p, answer)
	case ctx.Err() != nil:
		// The program is asked to end.
	case errors.Is(context.Cause(waiting), errClientLeft) || errors.Is(err, errBrokenUpload):
		t.tally.add("requests", "cancelled")
	case errors.Is(context.Cause(waiting), errNoAnswer):
		t.tally.violated("every request is answered", "request %s had no answer after %v", p.ID, noAnswer)
	default:
		t.judge.failed(p, begun, err)
	}
}
