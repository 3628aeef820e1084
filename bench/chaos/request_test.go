package main

import (
	"math/rand/v2"
	"testing"
)

// TestPlansAreWithinTheRanges makes up many requests and looks at what the proxy
// would refuse.
func TestPlansAreWithinTheRanges(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 1))
	largest, bad, leaving := 0, 0, 0
	for range 2000 {
		p := newPlan(rng, "r1")
		largest = max(largest, len(p.Items))
		if p.bad {
			bad++
			continue
		}
		if p.leaveAfter > 0 {
			leaving++
		}
		checkPlan(t, p)
	}
	if largest < maxTexts*3/4 || bad < 50 || leaving < 100 {
		t.Errorf("the largest request has %d texts, %d are bad, %d clients leave", largest, bad, leaving)
	}
}

func checkPlan(t *testing.T, p plan) {
	t.Helper()
	timeout, total := p.Preferences["timeout_s"].(float64), p.Preferences["total_timeout_s"].(float64)
	if len(p.Items) < 1 || len(p.Items) > maxTexts || total < timeout || p.deadline < 0 {
		t.Errorf("%d texts, timeouts %v and %v, deadline %v", len(p.Items), timeout, total, p.deadline)
	}
	if delay, ok := p.Preferences["hedge_delay"].(float64); ok && (delay < 0.045 || delay > timeout-0.045) {
		t.Errorf("hedge_delay %v with timeout_s %v", delay, timeout)
	}
	if batch := p.Preferences["batch_size"].(int); batch < 1 || batch > 1024 || len(p.Items) > batch*maxBatches {
		t.Errorf("batch_size %d for %d texts", batch, len(p.Items))
	}
}

// TestFaultsCanBeSeen picks faults for calls of one item, for which some cannot.
func TestFaultsCanBeSeen(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 1))
	seen := make(map[string]bool)
	for range 20_000 {
		if f := pick(rng, 1); f.minItems > 1 {
			t.Fatalf("%s with one item", f.name)
		}
		seen[pick(rng, 2).name] = true
	}
	for _, f := range faults {
		if !seen[f.name] {
			t.Errorf("%s is never picked", f.name)
		}
	}
}
