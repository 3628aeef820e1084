package engine

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultMaxFails is [HealthOptions].MaxFails when it is not set.
const DefaultMaxFails = 3

// HealthOptions say when an endpoint counts as down because of the attempts at
// it ("passive health checks"). The words are those of Caddy's reverse_proxy.
// The zero value never takes an endpoint down.
type HealthOptions struct {
	// FailDuration is how long failures are remembered, and how long an endpoint
	// that is down is left alone before it is tried again. Zero or less switches
	// passive health off.
	FailDuration time.Duration
	// MaxFails is how many failures within FailDuration, without a good reply
	// between them, take an endpoint down. Default [DefaultMaxFails], where Caddy
	// has 1: of hundreds of attempts in flight, one failing says little.
	MaxFails int
	// UnhealthyStatus are the statuses that count as failures; a number below 100
	// stands for its class, so that 5 is 500 to 599. Nil means 5; an empty list
	// means none.
	UnhealthyStatus []int
	// UnhealthyLatency makes a failure of a good reply that took at least so long.
	// Zero or less means no reply is too slow.
	UnhealthyLatency time.Duration
}

// An outcome is what an attempt says about the health of its endpoint.
type outcome uint8

const (
	// inconclusive is an attempt that says nothing: it was called off, or the
	// endpoint asked for patience.
	inconclusive outcome = iota
	succeeded
	failed
)

// An attemptEnd is how an attempt ended.
type attemptEnd struct {
	outcome outcome
	// probe says that the attempt was the probe that admit asked for.
	probe bool
	// sent is when the attempt began; of a probe it is of no account.
	sent time.Time
}

// The bits of health.state. When none is set there is nothing to find out.
const (
	// healthSuspect is set while failures are remembered.
	healthSuspect uint32 = 1 << iota
	// healthTripped is set while failures keep the endpoint down.
	healthTripped
	// healthObjected is set while active checks keep the endpoint down.
	healthObjected

	healthDown = healthTripped | healthObjected
)

// health is what is known of the health of one endpoint: a circuit breaker that
// failures in a row open and one good probe closes, and the word of active
// checks, either of which takes the endpoint down. Time is looked at when
// somebody asks, so that nothing runs in the background. It is safe for
// concurrent use, and costs one atomic load while all is well.
//
// Against flapping, a tripped breaker does not move for FailDuration, whatever
// is reported. Attempts that were under way when it tripped go on ending for a
// while: their failures do not put off the next probe, and their good replies say
// that the endpoint worked when it got them. After FailDuration the next good
// reply of any attempt closes it, also of one that was made because no other
// endpoint was up or there is none; only the failure of the probe keeps it open
// for FailDuration more. Failures of attempts that were sent before it tripped
// count no more once it is closed.
type health struct {
	options HealthOptions
	// state is what is looked at without the lock; publish sets it.
	state atomic.Uint32

	mu sync.Mutex
	// failures are the times of the failures since the last good reply, fewer than
	// MaxFails and in order.
	failures []time.Time
	// tripped says that failures keep the endpoint down, and since when: the last
	// of them or the failure of the last probe.
	tripped bool
	since   time.Time
	// probing says that a probe is under way, which was sent when since was probed.
	probing bool
	probed  time.Time
	// goesDown is closed when the endpoint goes down; nil when nobody waits for it.
	goesDown chan struct{}
	// objections counts the active checkers that say that the endpoint is down.
	objections int
}

// newHealth returns the health of an endpoint that is up.
func newHealth(o HealthOptions) *health {
	if o.MaxFails <= 0 {
		o.MaxFails = DefaultMaxFails
	}
	if o.UnhealthyStatus == nil {
		o.UnhealthyStatus = []int{5}
	}
	return &health{options: o}
}

// up reports whether neither failures nor active checks keep the endpoint down.
func (h *health) up() bool { return h.state.Load()&healthDown == 0 }

// downed returns a channel that is closed when the endpoint goes down, or is
// down already.
func (h *health) downed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.up() {
		return alreadyDown
	}
	if h.goesDown == nil {
		h.goesDown = make(chan struct{})
	}
	return h.goesDown
}

// alreadyDown is a channel that is closed.
var alreadyDown = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// objected reports whether nothing but active checks keeps the endpoint down.
func (h *health) objected() bool { return h.state.Load()&healthDown == healthObjected }

// admit reports whether an attempt may be made now, and whether it is the probe
// of an endpoint that failures took down: there is one at a time, and none before
// FailDuration has passed or while active checks keep the endpoint down. The end
// of a probe must be reported exactly once, whatever becomes of it.
func (h *health) admit() (ok, probe bool) {
	if h.up() {
		return true, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.objections > 0:
		return false, false
	case !h.tripped:
		return true, false
	case h.probing || !h.rested(time.Now()):
		return false, false
	}
	h.probing, h.probed = true, h.since
	return true, true
}

// report takes note of how an attempt ended. It reports whether it changed what
// up says.
func (h *health) report(a attemptEnd) (changed bool) {
	switch {
	case h.options.FailDuration <= 0:
		return false
	case a.probe:
	case a.outcome == inconclusive, a.outcome == succeeded && h.state.Load()&(healthSuspect|healthTripped) == 0:
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if a.probe {
		h.probing = false
		// Another attempt may have closed the breaker while the probe was under
		// way. It is an attempt like others then.
		a.probe = h.probed.Equal(h.since)
		a.sent = now
	}
	switch {
	case a.outcome == succeeded && h.tripped:
		h.tripped = !a.probe && !h.rested(now)
	case a.outcome == succeeded:
		h.failures = h.failures[:0]
	case a.outcome == failed && h.tripped:
		if a.probe {
			h.since = now
		}
	case a.outcome == failed && !a.sent.Before(h.since):
		h.fail(now)
	}
	return h.publish()
}

// rested reports whether a tripped breaker has been left alone for FailDuration.
func (h *health) rested(now time.Time) bool {
	return now.Sub(h.since) >= h.options.FailDuration
}

// fail remembers a failure and trips the breaker when it is one too many.
func (h *health) fail(now time.Time) {
	h.failures = slices.DeleteFunc(h.failures, func(at time.Time) bool {
		return now.Sub(at) > h.options.FailDuration
	})
	h.failures = append(h.failures, now)
	if len(h.failures) < h.options.MaxFails {
		return
	}
	h.failures = h.failures[:0]
	h.tripped, h.since = true, now
}

// publish makes the state what the fields under mu say, and reports whether that
// changed what up says.
func (h *health) publish() (changed bool) {
	var state uint32
	if len(h.failures) > 0 {
		state |= healthSuspect
	}
	if h.tripped {
		state |= healthTripped
	}
	if h.objections > 0 {
		state |= healthObjected
	}
	before := h.state.Swap(state)
	if state&healthDown != 0 && h.goesDown != nil {
		close(h.goesDown)
		h.goesDown = nil
	}
	return (before&healthDown == 0) != (state&healthDown == 0)
}

// countsAsFailure reports whether a reply of that status is a failure. It has
// the last word also on statuses that are inconclusive otherwise.
func (h *health) countsAsFailure(status int) bool {
	return slices.ContainsFunc(h.options.UnhealthyStatus, func(unhealthy int) bool {
		return matchesStatus(status, unhealthy)
	})
}

// matchesStatus reports whether a status is the one of a setting, which is a
// status or, below 100, a class of them.
func matchesStatus(status, setting int) bool {
	return status == setting || status/100 == setting
}

// tooSlow reports whether a good reply that took so long is a failure.
func (h *health) tooSlow(took time.Duration) bool {
	return h.options.UnhealthyLatency > 0 && took >= h.options.UnhealthyLatency
}

// setActive takes the verdict of one active checker. Several may have one, as
// they do for a moment while one configuration replaces another; the endpoint is
// down as long as any of them says so. Each says down once, and up once for every
// time it said down. setActive reports whether it changed what [health.up] says.
func (h *health) setActive(up bool) (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if up {
		h.objections = max(h.objections-1, 0)
	} else {
		h.objections++
	}
	return h.publish()
}

// inheritActive makes the verdict of the active checkers that of one more, and
// reports whether that is that the endpoint is down. What a checker has found out
// so outlives it in the next one.
func (h *health) inheritActive() (down bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.objections == 0 {
		return false
	}
	h.objections++
	return true
}
