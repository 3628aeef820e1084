package engine

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// healthRest is the FailDuration of most tests.
const healthRest = 10 * time.Second

// A healthStep does something to a health and says what is to come of it.
type healthStep struct {
	do func(t *testing.T, h *health)
	// up is what is said after it.
	up bool
}

// pass lets time pass.
func pass(d time.Duration) func(*testing.T, *health) {
	return func(*testing.T, *health) { <-time.After(d) }
}

// tell reports outcomes of ordinary attempts; the last of them is to change what
// is said if any does.
func tell(outcomes ...outcome) func(*testing.T, *health) {
	return func(t *testing.T, h *health) { settle(t, h, false, outcomes...) }
}

// tellLate reports failures of attempts that were sent that long ago.
func tellLate(ago time.Duration, failures int) func(*testing.T, *health) {
	return func(t *testing.T, h *health) {
		t.Helper()
		for range failures {
			if h.report(attemptEnd{outcome: failed, sent: time.Now().Add(-ago)}) {
				t.Error("a failure of the time before changed something")
			}
		}
	}
}

// tellProbe reports the outcome of the probe.
func tellProbe(o outcome) func(*testing.T, *health) {
	return func(t *testing.T, h *health) { settle(t, h, true, o) }
}

func settle(t *testing.T, h *health, probe bool, outcomes ...outcome) {
	t.Helper()
	for i, o := range outcomes {
		before := h.up()
		if changed := h.report(attemptEnd{outcome: o, probe: probe, sent: time.Now()}); changed != (before != h.up()) {
			t.Errorf("outcome %d of %v: changed is %v, but up was %v and is %v", i, outcomes, changed, before, h.up())
		}
	}
}

// actively gives the verdict of an active checker.
func actively(up bool) func(*testing.T, *health) {
	return func(t *testing.T, h *health) {
		t.Helper()
		before := h.up()
		if changed := h.setActive(up); changed != (before != h.up()) {
			t.Errorf("active checks say %v: changed is %v, but up was %v and is %v", up, changed, before, h.up())
		}
	}
}

// admission asks for admission.
func admission(ok, probe bool) func(*testing.T, *health) {
	return func(t *testing.T, h *health) {
		t.Helper()
		if gotOK, gotProbe := h.admit(); gotOK != ok || gotProbe != probe {
			t.Errorf("admitted %v, as a probe %v, want %v, %v", gotOK, gotProbe, ok, probe)
		}
	}
}

var (
	admitted  = admission(true, false)
	asProbe   = admission(true, true)
	refused   = admission(false, false)
	threeFail = healthStep{tell(failed, failed, failed), false}
)

// trip takes an endpoint down and lets it rest, whereupon the steps follow.
func trip(steps ...healthStep) []healthStep {
	return append([]healthStep{threeFail, {refused, false}, {pass(healthRest), false}}, steps...)
}

func TestHealth(t *testing.T) {
	t.Parallel()
	three := HealthOptions{FailDuration: healthRest}
	tests := map[string]struct {
		options HealthOptions
		steps   []healthStep
	}{
		"up at first":                      {three, []healthStep{{admitted, true}, {tell(succeeded), true}}},
		"down after 3 failures by default": {three, []healthStep{{tell(failed, failed), true}, {admitted, true}, {tell(failed), false}, {refused, false}}},
		"down after as many as are set": {HealthOptions{FailDuration: healthRest, MaxFails: 2},
			[]healthStep{{tell(failed), true}, {tell(failed), false}}},
		"down after the first":                        {HealthOptions{FailDuration: healthRest, MaxFails: 1}, []healthStep{{tell(failed), false}}},
		"a good reply makes failures forgotten":       {three, []healthStep{{tell(failed, failed, succeeded, failed, failed), true}, {tell(failed), false}}},
		"one that says nothing does not":              {three, []healthStep{{tell(failed, inconclusive, failed, inconclusive), true}, {tell(failed), false}}},
		"one that says nothing is nothing":            {three, []healthStep{{tell(slices.Repeat([]outcome{inconclusive}, 10)...), true}}},
		"failures are remembered for so long":         {three, []healthStep{{tell(failed, failed), true}, {pass(healthRest), true}, {tell(failed), false}}},
		"failures are not remembered longer":          {three, []healthStep{{tell(failed, failed), true}, {pass(healthRest + 1), true}, {tell(failed), true}}},
		"the window of failures slides":               {three, []healthStep{{tell(failed), true}, {pass(6 * time.Second), true}, {tell(failed), true}, {pass(6 * time.Second), true}, {tell(failed), true}, {pass(4 * time.Second), true}, {tell(failed), false}}},
		"switched off without a FailDuration":         {HealthOptions{MaxFails: 1}, []healthStep{{tell(failed, failed, failed, failed), true}, {admitted, true}}},
		"left alone for FailDuration":                 {three, []healthStep{threeFail, {pass(healthRest - 1), false}, {refused, false}, {pass(1), false}, {asProbe, false}}},
		"one probe at a time":                         {three, trip(healthStep{asProbe, false}, healthStep{refused, false}, healthStep{pass(time.Hour), false}, healthStep{refused, false})},
		"up by a good probe":                          {three, trip(healthStep{asProbe, false}, healthStep{tellProbe(succeeded), true}, healthStep{admitted, true}, healthStep{tell(failed, failed), true}, threeFail)},
		"a failing probe keeps it down":               {three, trip(healthStep{pass(time.Second), false}, healthStep{asProbe, false}, healthStep{tellProbe(failed), false}, healthStep{pass(healthRest - 1), false}, healthStep{refused, false}, healthStep{pass(1), false}, healthStep{asProbe, false}, healthStep{tellProbe(succeeded), true})},
		"a probe that says nothing makes room":        {three, trip(healthStep{asProbe, false}, healthStep{tellProbe(inconclusive), false}, healthStep{asProbe, false}, healthStep{refused, false})},
		"late failures do not put off the probe":      {three, []healthStep{threeFail, {pass(healthRest - 1), false}, {tell(failed, failed, failed, failed), false}, {pass(1), false}, {asProbe, false}}},
		"late good replies do not end the rest":       {three, []healthStep{threeFail, {pass(healthRest - 1), false}, {tell(succeeded, succeeded), false}, {refused, false}}},
		"any good reply ends it after the rest":       {three, trip(healthStep{tell(inconclusive), false}, healthStep{tell(failed), false}, healthStep{tell(succeeded), true}, healthStep{admitted, true})},
		"failures of before it tripped count no more": {three, trip(healthStep{asProbe, false}, healthStep{tellProbe(succeeded), true}, healthStep{tellLate(healthRest+1, 10), true}, healthStep{tell(failed, failed), true}, threeFail)},
		"it ends it while a probe is under way":       {three, trip(healthStep{asProbe, false}, healthStep{tell(succeeded), true}, healthStep{tellProbe(succeeded), true}, healthStep{tell(failed, failed), true}, threeFail)},
		"then the probe fails like any other":         {three, trip(healthStep{asProbe, false}, healthStep{tell(succeeded), true}, healthStep{tellProbe(failed), true}, healthStep{tell(failed), true}, healthStep{tell(failed), false})},
		"failures before it went down do not count":   {three, trip(healthStep{tell(failed, failed), false}, healthStep{asProbe, false}, healthStep{tellProbe(succeeded), true}, healthStep{tell(failed, failed), true}, healthStep{tell(failed), false})},
		"a probe from before it went down again": {three, trip(healthStep{asProbe, false}, healthStep{tell(succeeded), true}, threeFail, healthStep{pass(healthRest - 1), false},
			healthStep{tellProbe(failed), false}, healthStep{pass(1), false}, healthStep{asProbe, false})},
		"a good probe from before it went down again": {three, trip(healthStep{asProbe, false}, healthStep{tell(succeeded), true}, threeFail, healthStep{pass(healthRest - 1), false},
			healthStep{tellProbe(succeeded), false}, healthStep{pass(1), false}, healthStep{asProbe, false})},
		"no second probe beside one from before": {three, trip(healthStep{asProbe, false}, healthStep{tell(succeeded), true}, threeFail, healthStep{pass(healthRest), false}, healthStep{refused, false})},

		"down by active checks":                      {three, []healthStep{{actively(false), false}, {refused, false}, {pass(time.Hour), false}, {refused, false}, {tell(succeeded), false}, {actively(true), true}, {admitted, true}}},
		"down by active checks alone":                {HealthOptions{}, []healthStep{{actively(false), false}, {refused, false}, {tell(succeeded), false}, {actively(true), true}}},
		"up only when both say so":                   {three, trip(healthStep{actively(false), false}, healthStep{refused, false}, healthStep{actively(true), false}, healthStep{asProbe, false}, healthStep{tellProbe(succeeded), true})},
		"a probe under way when checks say down":     {three, trip(healthStep{asProbe, false}, healthStep{actively(false), false}, healthStep{tellProbe(succeeded), false}, healthStep{actively(true), true})},
		"failures while checks say down":             {three, []healthStep{{actively(false), false}, threeFail, {actively(true), false}, {pass(healthRest), false}, {asProbe, false}}},
		"down while one of two checkers says so":     {three, []healthStep{{actively(false), false}, {actively(false), false}, {actively(true), false}, {refused, false}, {actively(true), true}, {admitted, true}}},
		"up is up when nobody had said anything":     {three, []healthStep{{actively(true), true}, {actively(false), false}, {actively(true), true}}},
		"a checker that takes over from one":         {three, []healthStep{{actively(false), false}, {inherits(true), false}, {actively(true), false}, {actively(true), true}}},
		"a checker that takes over when all is well": {three, []healthStep{{inherits(false), true}, {actively(false), false}, {actively(true), true}}},
		"failures are nothing to take over":          {three, []healthStep{threeFail, {inherits(false), false}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHealth(test.options)
				for i, step := range test.steps {
					step.do(t, h)
					if h.up() != step.up {
						t.Fatalf("after step %d up is %v", i, h.up())
					}
				}
			})
		})
	}
}

// inherits makes the verdict of active checkers that of one more.
func inherits(down bool) func(*testing.T, *health) {
	return func(t *testing.T, h *health) {
		t.Helper()
		if got := h.inheritActive(); got != down {
			t.Errorf("inherited down %v, want %v", got, down)
		}
	}
}

func TestWhatCountsAsFailure(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		unhealthy []int
		counts    []int
		not       []int
	}{
		"5xx by default":       {nil, []int{500, 503, 599}, []int{200, 404, 429, 499, 600}},
		"none of none":         {[]int{}, nil, []int{200, 429, 500, 503}},
		"one status":           {[]int{503}, []int{503}, []int{500, 504, 502}},
		"a class":              {[]int{4}, []int{400, 429, 499}, []int{399, 500}},
		"a status and a class": {[]int{429, 5}, []int{429, 500, 599}, []int{428, 400}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHealth(HealthOptions{UnhealthyStatus: test.unhealthy})
			for _, status := range test.counts {
				if !h.countsAsFailure(status) {
					t.Errorf("%d does not count", status)
				}
			}
			for _, status := range test.not {
				if h.countsAsFailure(status) {
					t.Errorf("%d counts", status)
				}
			}
		})
	}
}

func TestWhatIsTooSlow(t *testing.T) {
	t.Parallel()
	h := newHealth(HealthOptions{UnhealthyLatency: time.Second})
	if h.tooSlow(time.Second-1) || !h.tooSlow(time.Second) {
		t.Error("a reply is not too slow from 1s on")
	}
	if newHealth(HealthOptions{}).tooSlow(time.Hour) {
		t.Error("a reply is too slow without a limit")
	}
}

// TestChangesAreReportedOnce lets a thousand goroutines find out the same at the
// same time.
func TestChangesAreReportedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHealth(HealthOptions{FailDuration: healthRest})
		// atOnce counts for how many of a thousand goroutines something is true.
		atOnce := func(is func() bool) int64 {
			var all sync.WaitGroup
			var count atomic.Int64
			for range 1000 {
				all.Go(func() {
					if is() {
						count.Add(1)
					}
				})
			}
			all.Wait()
			return count.Load()
		}
		probes := func() bool {
			ok, probe := h.admit()
			return ok && probe
		}
		for round := range 20 {
			if n := atOnce(func() bool { return h.report(attemptEnd{outcome: failed, probe: false, sent: time.Now()}) }); n != 1 || h.up() {
				t.Fatalf("round %d: %d of 1000 failures took the endpoint down, which is up %v", round, n, h.up())
			}
			if n := atOnce(probes); n != 0 {
				t.Errorf("round %d: %d probes were admitted before FailDuration", round, n)
			}
			<-time.After(healthRest)
			if n := atOnce(probes); n != 1 {
				t.Fatalf("round %d: %d probes were admitted at once", round, n)
			}
			if round%2 == 0 {
				if !h.report(attemptEnd{outcome: succeeded, probe: true, sent: time.Now()}) {
					t.Errorf("round %d: the probe did not bring the endpoint up", round)
				}
			} else {
				if n := atOnce(func() bool { return h.report(attemptEnd{outcome: succeeded, probe: false, sent: time.Now()}) }); n != 1 {
					t.Errorf("round %d: %d of 1000 good replies brought the endpoint up", round, n)
				}
				if h.report(attemptEnd{outcome: inconclusive, probe: true, sent: time.Now()}) {
					t.Errorf("round %d: the probe changed something", round)
				}
			}
			if n := atOnce(func() bool { return h.setActive(false) }); n != 1 {
				t.Errorf("round %d: %d of 1000 checkers took the endpoint down", round, n)
			}
			if n := atOnce(func() bool { return h.setActive(true) }); n != 1 || !h.up() {
				t.Errorf("round %d: %d of 1000 checkers brought the endpoint up", round, n)
			}
		}
	})
}

// TestHealthUnderConcurrency lets a thousand goroutines report whatever they
// like on an endpoint that hardly rests.
func TestHealthUnderConcurrency(t *testing.T) {
	t.Parallel()
	h := newHealth(HealthOptions{FailDuration: 1, MaxFails: 1})
	var all sync.WaitGroup
	var probing, probes, ups, downs atomic.Int64
	for i := range 1000 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(3, uint64(i)))
			for range 200 {
				ok, probe := h.admit()
				if probe {
					probes.Add(1)
					if n := probing.Add(1); n != 1 || !ok {
						t.Errorf("%d probes are under way at once, admitted %v", n, ok)
					}
				}
				o := outcome(random.IntN(3))
				if probe {
					probing.Add(-1)
				}
				if h.report(attemptEnd{outcome: o, probe: probe, sent: time.Now()}) {
					if o == succeeded {
						ups.Add(1)
					} else {
						downs.Add(1)
					}
				}
			}
		})
	}
	all.Wait()
	if probes.Load() < 100 || downs.Load() < 100 {
		t.Errorf("%d probes and %d changes show little", probes.Load(), downs.Load())
	}
	// Everything that is counted twice or not at all shows in the difference.
	if down := downs.Load() - ups.Load(); down != 0 && down != 1 || (down == 0) != h.up() {
		t.Errorf("it went down %d times and up %d times, and is up %v", downs.Load(), ups.Load(), h.up())
	}
}

func TestHealthAllocatesNothingWhileUp(t *testing.T) {
	h := newHealth(HealthOptions{FailDuration: healthRest})
	if n := testing.AllocsPerRun(1000, func() {
		_, probe := h.admit()
		h.report(attemptEnd{outcome: succeeded, probe: probe, sent: time.Now()})
	}); n != 0 {
		t.Errorf("admitting and reporting allocates %v times", n)
	}
}

// TestHealthTakesNoLockWhileUp holds the lock that would be waited for.
func TestHealthTakesNoLockWhileUp(t *testing.T) {
	t.Parallel()
	h := newHealth(HealthOptions{FailDuration: healthRest})
	h.mu.Lock()
	defer h.mu.Unlock()
	ok, probe := h.admit()
	if !ok || probe || h.report(attemptEnd{outcome: succeeded, probe: probe, sent: time.Now()}) || h.report(attemptEnd{outcome: inconclusive, probe: probe, sent: time.Now()}) || !h.up() {
		t.Error("a good reply changed something")
	}
}

func BenchmarkHealthWhileUp(b *testing.B) {
	h := newHealth(HealthOptions{FailDuration: healthRest})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, probe := h.admit()
			h.report(attemptEnd{outcome: succeeded, probe: probe, sent: time.Now()})
		}
	})
}

func BenchmarkHealthWhileDown(b *testing.B) {
	h := newHealth(HealthOptions{FailDuration: time.Hour, MaxFails: 1})
	h.report(attemptEnd{outcome: failed, probe: false, sent: time.Now()})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, probe := h.admit()
			h.report(attemptEnd{outcome: succeeded, probe: probe, sent: time.Now()})
		}
	})
}
