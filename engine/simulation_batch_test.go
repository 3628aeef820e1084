package engine

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// A simBatch is what the upstreams saw of a batch.
type simBatch struct {
	run      *simRun
	number   int
	attempts []*simAttempt
}

// A simAttempt is an attempt and its copies, in the order of their arrival.
type simAttempt struct {
	calls      []*simCall
	start, end time.Duration
}

// byBatch returns the calls by batch and attempt.
func (r *simRun) byBatch() []*simBatch {
	batches := make([]*simBatch, r.batches())
	for i := range batches {
		batches[i] = &simBatch{run: r, number: i}
	}
	for _, c := range r.calls {
		if c.id.batch >= len(batches) {
			r.failf("attempts", "there is no batch of %s", c.name())
			return nil
		}
		b := batches[c.id.batch]
		switch {
		case c.id.attempt == len(b.attempts) && c.id.copy == 0:
			b.attempts = append(b.attempts, &simAttempt{start: c.start})
		case c.id.attempt == len(b.attempts)-1 && c.id.copy > 0:
		default:
			r.failf("attempts", "%s comes after %d attempts", c.name(), len(b.attempts))
			return nil
		}
		a := b.attempts[c.id.attempt]
		a.calls = append(a.calls, c)
		a.end = max(a.end, c.end)
	}
	return batches
}

// name is the id of the call.
func (c *simCall) name() string { return c.run.id() + c.id.suffix() }

// check holds the attempts of a batch against the rules.
func (b *simBatch) check() {
	if most := 1 + max(0, b.run.call.settings.MaxRetries); len(b.attempts) > most {
		b.run.failf("max_retries", "batch %d was tried %d times, %d at most", b.number, len(b.attempts), most)
	}
	for i, a := range b.attempts {
		a.check(b.run)
		b.checkEnd(i)
		if i > 0 {
			b.checkRetry(i)
		}
	}
	b.checkRetryAfter()
	b.checkChoices()
}

// check checks what holds for every attempt: its time, what is said of that to
// the upstream, and its copies.
func (a *simAttempt) check(r *simRun) {
	deadline := a.start + r.settings.Timeout
	if at, name := r.limit(); name != "" {
		deadline = min(deadline, at)
	}
	set := r.settings
	most := 0
	switch {
	case set.HedgeAuto:
		most = 2
	case set.HedgeDelay > 0:
		most = 1
	}
	copies := make(map[int]bool)
	for _, c := range a.calls {
		if c.end > deadline {
			r.failf("timeout", "%s ended %v too late", c.name(), c.end-deadline)
		}
		timeout := fmt.Sprint(max(1, (deadline - c.start).Milliseconds()))
		absolute := fmt.Sprint(r.sim.start.Add(deadline).UnixMilli())
		if c.timeoutMS != timeout || c.deadlineMS != absolute {
			r.failf("deadline headers", "%s has %s and %s, want %s and %s", c.name(), c.timeoutMS, c.deadlineMS, timeout, absolute)
		}
		n := c.id.copy
		if copies[n] || n > most {
			r.failf("copies", "%s is one too many", c.name())
		}
		copies[n] = true
		if delay := max(set.HedgeDelay, 1); n > 0 && !set.HedgeAuto && c.start < a.start+delay {
			r.failf("hedge_delay", "%s was sent after %v", c.name(), c.start-a.start)
		}
		if n > 0 && set.HedgeAuto {
			a.checkAuto(c)
		}
	}
}

// checkAuto checks a copy that was sent after a delay that the engine chose.
func (a *simAttempt) checkAuto(c *simCall) {
	if c.start < a.start+45*time.Millisecond*time.Duration(c.id.copy) {
		c.run.failf("hedge_delay", "%s was sent after %v", c.name(), c.start-a.start)
	}
	first := a.calls[0].upstream
	known := 0
	first.sim.mu.Lock()
	defer first.sim.mu.Unlock()
	for _, other := range first.calls {
		if other.over && other.end <= a.start {
			known++
		}
	}
	if known < 20 {
		c.run.failf("hedge_delay", "%s was sent after %d calls had ended, too few to know a delay", c.name(), known)
	}
}

// answered reports whether an attempt is the last one, and the batch was answered.
func (b *simBatch) answered(i int) bool {
	return i == len(b.attempts)-1 && slices.ContainsFunc(b.attempts[i].calls, func(c *simCall) bool { return c.ending == good })
}

// checkEnd checks when the calls of an attempt were called off: at the moment of
// the first good reply, and otherwise not before its time was over.
func (b *simBatch) checkEnd(i int) {
	a, r := b.attempts[i], b.run
	if r.tainted || r.sim.tight() {
		return
	}
	over := a.start + r.settings.Timeout
	if b.answered(i) {
		for _, c := range a.calls {
			if c.ending == good {
				over = min(over, c.end)
			}
		}
	}
	for _, c := range a.calls {
		if c.ending != unanswered || c.end == over {
			continue
		}
		if requestOver := i == len(b.attempts)-1 && c.end == r.end && c.end < over; !requestOver {
			r.failf("calling off", "%s ended at %v, want %v", c.name(), c.end, over)
		}
	}
	if b.answered(i) && a.end > over {
		r.failf("calling off", "attempt %d of batch %d went on for %v after the good reply", i, b.number, a.end-over)
	}
}

// cost returns what the retry of a call costs.
func (c *simCall) cost() cost {
	switch c.ending {
	case refusing:
		return c.statusCost()
	case broken:
		if c.brokeOff {
			return costsBreak
		}
		return costsRequest
	case dropped:
		return costsBreak
	case unanswered:
		return costsRequest
	case redirecting, panicking:
		return forbidden
	case notBegunWith:
		return costsNothing
	}
	if c.run.tainted {
		return costsUnknown
	}
	return forbidden
}

// statusCost is cost for a status.
func (c *simCall) statusCost() cost {
	switch {
	case slices.Contains(c.run.settings.NonRetryableStatusCodes, c.status):
		return forbidden
	case c.status == 429:
		return costsNothing
	case c.status != 408 && c.status != 409 && c.status != 424 && c.status < 500:
		return forbidden
	case c.retryAfter != "":
		return costsNothing
	}
	return costsGroup
}

// checkRetry checks that the retry number i was allowed, and how it was waited
// for.
func (b *simBatch) checkRetry(i int) {
	before, a, r := b.attempts[i-1], b.attempts[i], b.run
	if a.start < before.end {
		r.failf("retries", "%s began %v before the attempt before it was over", a.calls[0].name(), before.end-a.start)
	}
	for _, c := range before.calls {
		if c.cost() == forbidden {
			r.failf("what is retried", "%s was sent although %s ended with a %v %d", a.calls[0].name(), c.name(), c.ending, c.status)
		}
	}
	if b.dependencyFailed(i) > 1 {
		r.failf("what is retried", "%s was sent after two 424", a.calls[0].name())
	}
	if r.batches() > r.settings.MaxConcurrentRequests || len(r.waits) > 0 {
		return
	}
	if latest := b.wakes(i - 1); a.start > latest {
		r.failf("backoff", "%s was sent %v too late", a.calls[0].name(), a.start-latest)
	}
}

// wakes returns when the wait after attempt i is over at the latest.
func (b *simBatch) wakes(i int) time.Duration {
	a := b.attempts[i]
	latest := a.end + backoffBound(b.run.settings.InitialBackoff, i)
	for _, earlier := range b.attempts[:i+1] {
		for _, c := range earlier.calls {
			if i+1 == len(b.attempts) || b.attempts[i+1].calls[0].upstream == c.upstream {
				latest = max(latest, c.notBefore)
			}
		}
	}
	return latest
}

// backoffBound returns how long the wait after attempt i may be, unless an endpoint
// asks for more.
func backoffBound(initial time.Duration, i int) time.Duration {
	bound := min(initial, 45*time.Second)
	for range i {
		bound = min(4*bound, 45*time.Second)
	}
	return bound
}

// checkRetryAfter checks that no endpoint got the batch again before it wanted to.
func (b *simBatch) checkRetryAfter() {
	var before []*simCall
	for _, a := range b.attempts {
		for _, c := range a.calls {
			for _, asked := range before {
				if asked.upstream == c.upstream && c.start < asked.notBefore && c.start >= asked.end &&
					(c.start > asked.end || c.id.attempt > asked.id.attempt) {
					b.run.failf("Retry-After", "%s came %v before the time that %s was told", c.name(), asked.notBefore-c.start, asked.name())
				}
			}
			before = append(before, c)
		}
	}
}

// checkChoices checks that endpoints that were not tried yet come first, where
// nothing else decides.
func (b *simBatch) checkChoices() {
	s := b.run.sim
	if !s.steady() || len(b.run.waits) > 0 {
		return
	}
	tried := make([]bool, len(s.upstreams))
	for _, a := range b.attempts {
		for _, c := range a.calls {
			next := slices.Index(tried, false)
			switch {
			case tried[c.upstream.number] && next >= 0:
				b.run.failf("untried endpoints first", "%s went to e%d again, not to e%d", c.name(), c.upstream.number, next)
			case s.policy == First && next >= 0 && c.upstream.number != next:
				b.run.failf("lb_policy", "%s went to e%d, not to e%d", c.name(), c.upstream.number, next)
			}
			tried[c.upstream.number] = true
		}
	}
}

// dependencyFailed returns how often the first n attempts met a 424.
func (b *simBatch) dependencyFailed(n int) (met int) {
	for _, a := range b.attempts[:n] {
		for _, c := range a.calls {
			if c.ending == refusing && c.status == http.StatusFailedDependency {
				met++
			}
		}
	}
	return met
}

// mustPay returns the attempts of the batch that had to be paid for in this
// manner: every call of the one before says so, and they were made at an endpoint
// that was tried.
func (b *simBatch) mustPay(in cost) (paid []*simAttempt) {
	tried := make(map[*simUpstream]bool)
	for i, a := range b.attempts {
		if i > 0 && tried[a.calls[0].upstream] {
			if !slices.ContainsFunc(b.attempts[i-1].calls, func(c *simCall) bool { return c.cost() != in }) {
				paid = append(paid, a)
			}
		}
		for _, c := range a.calls {
			tried[c.upstream] = true
		}
	}
	return paid
}

// fresh returns how many retries after what costs the request something were made
// at endpoints that were not tried yet.
func (b *simBatch) fresh() (n int) {
	tried := make(map[*simUpstream]bool)
	for i, a := range b.attempts {
		if i > 0 && !tried[a.calls[0].upstream] {
			costs := func(c *simCall) bool { return c.cost() == costsRequest || c.cost() == costsBreak }
			if !slices.ContainsFunc(b.attempts[i-1].calls, func(c *simCall) bool { return !costs(c) }) {
				n++
			}
		}
		for _, c := range a.calls {
			tried[c.upstream] = true
		}
	}
	return n
}

// mustPayForBreaks returns how many retries after broken connections had to be paid
// for at least: one for every endpoint, and those for calls that were sent after
// that one was.
func mustPayForBreaks(batches []*simBatch) (n int) {
	paid := make(map[*simUpstream]time.Duration)
	for _, count := range []bool{false, true} {
		for _, b := range batches {
			for _, a := range b.mustPay(costsBreak) {
				before := b.attempts[a.calls[0].id.attempt-1]
				if len(before.calls) > 1 {
					continue
				}
				u := before.calls[0].upstream
				first, known := paid[u]
				if !known || a.start < first {
					paid[u] = a.start
				}
				if count && before.start > first {
					n++
				}
			}
		}
	}
	return n + len(paid)
}

// checkGivingUp checks that there was a reason for not trying a batch again that
// ended with that error.
func (b *simBatch) checkGivingUp(failed *BatchError) {
	r := b.run
	if errors.Is(failed, errNoEndpoint) || errors.Is(failed, ErrOverloaded) || len(b.attempts) == 0 {
		return
	}
	last := b.attempts[len(b.attempts)-1]
	if b.dependencyFailed(len(b.attempts)) > 1 {
		return
	}
	for _, c := range last.calls {
		if c.cost() == forbidden {
			return
		}
	}
	at, limited := r.limit()
	switch {
	case len(b.attempts) > max(0, r.call.settings.MaxRetries):
	// The retry may have waited for its turn at an endpoint that went down then.
	case limited != "" && at <= b.wakes(len(b.attempts)-1)+r.end-last.end:
	case r.sim.wasEmpty():
	case costOf(failed.Err) == costsRequest && failed.Refused == RequestRetries && r.refused[RequestRetries] > 0:
	case costOf(failed.Err) == costsGroup && failed.Refused == GroupRetries && r.refused[GroupRetries] > 0:
	default:
		r.failf("giving up", "batch %d was not tried again after %d attempts: %v", b.number, len(b.attempts), failed)
	}
}
