package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/bench/internal/rig"
)

const (
	// maxTexts is the size of the largest requests.
	maxTexts = 2000
	// maxBatches bounds the batches of a request, so that two cores are enough.
	maxBatches = 250
)

// A plan is a request and what its client does.
type plan struct {
	rig.Request
	// bad tells that the request must be refused with 400.
	bad bool
	// deadline is how long the whole request may take; 0 for no bound.
	deadline time.Duration
	// leaveAfter is when the client goes away; 0 for never.
	leaveAfter time.Duration
}

// newPlan makes a request up.
func newPlan(rng *rand.Rand, id string) plan {
	n := int(math.Exp(rng.Float64() * math.Log(maxTexts+1)))
	p := plan{Request: rig.Request{ID: id, Items: texts(rng, id, n), Header: make(http.Header)}}
	if rng.IntN(20) == 0 {
		p.spoil(rng)
		return p
	}
	p.prefer(rng, n)
	switch rng.IntN(10) {
	case 0:
		p.leaveAfter = between(rng, time.Millisecond, 300*time.Millisecond)
	case 1:
		if rng.IntN(2) == 0 {
			p.breakUpload(rng)
		}
	}
	return p
}

// texts makes n texts that no other request has: short ones, and now and then
// one that fills a batch.
func texts(rng *rand.Rand, id string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%s text %d \u2014 caf\u00e9 \"%d\"", id, i, rng.IntN(1000))
		if rng.IntN(200) == 0 {
			list[i] += strings.Repeat(" \U0001F40B and so on", 1+rng.IntN(400))
		}
	}
	return list
}

// spoil makes the request one that must be refused.
func (p *plan) spoil(rng *rand.Rand) {
	p.bad = true
	switch rng.IntN(5) {
	case 0:
		p.Body = []byte(`{"model":"bench","input":[]}`)
	case 1:
		p.Body = []byte(`{"model":"bench","input":["a","b"}`)
	case 2:
		p.Preferences = map[string]any{"batchsize": 5}
	case 3:
		p.Preferences = map[string]any{"batch_size": 0}
	default:
		p.Header.Set("Request-Timeout-Ms", "soon")
	}
}

// prefer adds preferences of all kinds.
func (p *plan) prefer(rng *rand.Rand, n int) {
	timeout := one(rng, 0.3, 0.5, 1, 2, 3)
	total := timeout + one(rng, 0.0, 1, 3, 8)
	preferences := map[string]any{
		"batch_size":      max(one(rng, 1, 4, 16, 32, 100, 1024), (n+maxBatches-1)/maxBatches),
		"timeout_s":       timeout,
		"total_timeout_s": total,
	}
	p.deadline = time.Duration(total * float64(time.Second))
	optional := map[string]any{
		"max_concurrent_requests":    one(rng, 1, 3, 16, 64, 200),
		"max_chars_per_request":      one(rng, 500, 3000, 50_000),
		"max_retries":                one(rng, 0, 1, 3, 6),
		"initial_backoff_ms":         one(rng, 50, 100, 200),
		"retry_budget_pct":           one(rng, 0, 0.05, 0.5, 3),
		"hedge_budget_pct":           one(rng, 0, 0.1, 1),
		"non_retryable_status_codes": []int{one(rng, 429, 500, 503)},
		"hedge_delay":                hedgeDelay(rng, timeout),
	}
	for _, name := range []string{
		"max_concurrent_requests", "max_chars_per_request", "max_retries", "initial_backoff_ms", "retry_budget_pct",
		"hedge_budget_pct", "non_retryable_status_codes", "hedge_delay",
	} {
		if rng.IntN(3) == 0 {
			preferences[name] = optional[name]
		}
	}
	p.Preferences = preferences
	if rng.IntN(5) == 0 {
		own := one(rng, 0, 50, 400, 2000, 6000)
		p.Header.Set("Request-Timeout-Ms", strconv.Itoa(own))
		p.deadline = min(p.deadline, time.Duration(own)*time.Millisecond)
	}
}

// hedgeDelay returns a delay that a timeout allows, or auto.
func hedgeDelay(rng *rand.Rand, timeout float64) any {
	if rng.IntN(2) == 0 {
		return "auto"
	}
	return min(one(rng, 0.045, 0.1, 0.25), timeout-0.05)
}

// errBrokenUpload is how a client stops in the middle of its request.
var errBrokenUpload = errors.New("the client stops here")

// breakUpload lets the client leave while it sends.
func (p *plan) breakUpload(rng *rand.Rand) {
	n := int64(rng.IntN(200))
	p.leaveAfter = time.Minute // it leaves before that, by itself
	p.Upload = func(body io.Reader) io.Reader {
		return io.MultiReader(io.LimitReader(body, n), failingReader{})
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errBrokenUpload }

// one returns one of the values at random.
func one[T any](rng *rand.Rand, values ...T) T { return values[rng.IntN(len(values))] }
