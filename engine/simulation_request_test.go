package engine

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"time"
)

// failf notes that the request broke a rule.
func (r *simRun) failf(rule, format string, args ...any) { r.sim.failf(r, rule, format, args...) }

// check holds what became of a request against all rules.
func (r *simRun) check() {
	if r.leftOver() {
		return
	}
	r.checkOutcome()
	if r.call == nil {
		return
	}
	r.checkReports()
	batches := r.byBatch()
	for _, b := range batches {
		b.check()
	}
	r.checkConcurrency(batches)
	r.checkSpending(batches)
	r.checkProgress(batches)
	if failed, ok := errors.AsType[*BatchError](r.err); ok {
		for _, b := range batches {
			if b.number == failed.Batch {
				b.checkGivingUp(failed)
			}
		}
	}
}

// leftOver reports whether a part of the request still runs after its end.
func (r *simRun) leftOver() bool {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	for _, c := range r.calls {
		if !c.over {
			r.failf("a request leaves nothing behind", "%s at e%d still runs", c.name(), c.upstream.number)
			return true
		}
	}
	return false
}

// limit returns when the request must be over, and what says so; zero when
// nothing does.
func (r *simRun) limit() (at time.Duration, name string) {
	if r.deadline != 0 {
		at, name = r.start+r.deadline, simDeadline
	}
	if total := r.settings.TotalTimeout; total > 0 && (name == "" || r.start+total < at) {
		at, name = r.start+total, "total_timeout_s"
	}
	return at, name
}

// checkOutcome checks the answer or the error, and when it came.
func (r *simRun) checkOutcome() {
	if at, name := r.limit(); name != "" && r.end > max(at, r.start) {
		r.failf("deadline", "it ended %v after %s", r.end-at, name)
	}
	if left := r.start + r.cancel; r.cancel >= 0 && r.end > left {
		r.failf("leaving", "it ended %v after the client had left", r.end-left)
	}
	if last := r.lastCall(nil); last > r.end {
		r.failf("time", "a call ended at %v, after the request", last)
	}
	if r.err != nil {
		r.checkError()
		return
	}
	if r.poison != 0 || r.empty {
		r.failf("errors", "a request that must fail was answered")
		return
	}
	if err := r.checkAnswer(); err != nil {
		r.failf("answer", "%v", err)
	}
	if last := r.lastCall(nil); r.end != last {
		r.failf("promptness", "the last reply came at %v, the answer at %v", last, r.end)
	}
}

// lastCall returns the end of the last of these calls of the request, nil for
// all.
func (r *simRun) lastCall(which func(*simCall) bool) time.Duration {
	last := time.Duration(-1)
	for _, c := range r.calls {
		if which == nil || which(c) {
			last = max(last, c.end)
		}
	}
	return last
}

// waitedTo reports whether a wait for a turn ended at a moment.
func (r *simRun) waitedTo(at time.Duration) bool {
	return slices.ContainsFunc(r.waits, func(w simWait) bool { return w.to == at })
}

// checkError checks that an error is one of the contract, and that what it says
// happened.
func (r *simRun) checkError() {
	nothingSent := len(r.calls) == 0 && r.end == r.start
	if batch, ok := errors.AsType[*BatchError](r.err); ok {
		r.checkBatchError(batch)
		return
	}
	if timeout, ok := errors.AsType[*TimeoutError](r.err); ok {
		r.checkTimeout(timeout, nothingSent)
		return
	}
	if _, ok := errors.AsType[*RequestError](r.err); ok {
		if !r.empty && !r.sim.tight() || !nothingSent {
			r.failf("errors", "a good request is refused: %v", r.err)
		}
		return
	}
	switch {
	case errors.Is(r.err, errSimLeft):
		if r.cancel < 0 || r.end != r.start+r.cancel {
			r.failf("errors", "the client is said to have left after %v, did after %v", r.end-r.start, r.cancel)
		}
	case errors.Is(r.err, ErrOverloaded) && r.sim.tight():
	default:
		r.failf("errors", "%T is no error of the contract: %v", r.err, r.err)
	}
}

// checkTimeout checks that the time for the whole request was over or too short.
func (r *simRun) checkTimeout(timeout *TimeoutError, nothingSent bool) {
	at, name := r.limit()
	switch {
	case name != timeout.Limit || timeout.After != at-r.start:
		r.failf("errors", "%+v, but the limit is %v by %s", timeout, at-r.start, name)
	case timeout.After <= 0 || timeout.Needs > 0:
		if !nothingSent || timeout.Needs > 0 && timeout.Needs <= timeout.After {
			r.failf("errors", "%+v after %d calls", timeout, len(r.calls))
		}
		r.checkRefusal(timeout)
	case r.end != at:
		r.failf("errors", "%v is over after %v, not %v", timeout, r.end-r.start, timeout.After)
	case r.lastCall(nil) != r.end && !r.waitedTo(r.end):
		r.failf("no waiting into the deadline", "nothing was under way when %v", timeout)
	}
}

// checkRefusal checks that a request that is said to need more time than it has
// does, if every batch takes as long as the fastest of its size lately.
func (r *simRun) checkRefusal(timeout *TimeoutError) {
	s := r.sim
	s.mu.Lock()
	defer s.mu.Unlock()
	fastest := make(map[int]time.Duration)
	for _, u := range s.upstreams {
		for _, c := range u.calls {
			if !c.over || c.ending != good || c.run.tainted || c.end >= r.start || c.end < r.start-5*time.Second {
				continue
			}
			class := latencyClassOf(c.run.call.plan.size(c.id.batch))
			if least, ok := fastest[class]; !ok || c.end-c.start < least {
				fastest[class] = c.end - c.start
			}
		}
	}
	var work, slowest time.Duration
	for i := range r.batches() {
		least, ok := fastest[latencyClassOf(r.call.plan.size(i))]
		if !ok {
			return
		}
		work, slowest = work+least, max(slowest, least)
	}
	atOnce := min(r.batches(), r.settings.MaxConcurrentRequests)
	if most := max(slowest, work/time.Duration(atOnce)); timeout.Needs > most && len(s.changes) == 0 {
		r.failf("deadline refused at the start", "it is said to need %v, the replies say %v", timeout.Needs, most)
	}
}

// checkBatchError checks that a batch met what it is said to have met, and that
// this ended the request.
func (r *simRun) checkBatchError(e *BatchError) {
	var said func(c *simCall) bool
	if status, ok := errors.AsType[*StatusError](e.Err); ok {
		said = func(c *simCall) bool {
			return c.ending == refusing && c.status == status.Status && c.retryAfter == status.RetryAfter
		}
	} else if _, ok := errors.AsType[*ReplyError](e.Err); ok {
		said = func(c *simCall) bool {
			return c.ending == broken || c.ending == redirecting || r.tainted && c.ending == good
		}
	} else if _, ok := errors.AsType[*PanicError](e.Err); ok {
		said = func(c *simCall) bool { return c.ending == panicking }
	} else if timeout, ok := errors.AsType[*TimeoutError](e.Err); ok && timeout.Limit == attemptLimit {
		// A copy begins later than its attempt, with which it ends.
		said = func(c *simCall) bool { return c.ending != good && c.end-r.settings.Timeout <= c.start }
	} else if _, ok := errors.AsType[*NetworkError](e.Err); ok {
		if r.sim.wasEmpty() && errors.Is(e.Err, errNoEndpoint) {
			return
		}
		said = func(c *simCall) bool { return c.ending == dropped || c.ending == notBegunWith }
	} else if errors.Is(e.Err, ErrOverloaded) && r.sim.tight() {
		return
	} else {
		r.failf("errors", "%T is no error of a batch: %v", e.Err, e)
		return
	}
	if attempts := r.attemptsOf(e.Batch); e.Attempts != len(attempts) || len(attempts) > 0 && e.Endpoint != attempts[len(attempts)-1].upstream.endpoint {
		r.failf("errors", "batch %d is said to have failed after %d attempts, it was tried %d times", e.Batch, e.Attempts, len(attempts))
	}
	ofBatch := func(c *simCall) bool { return c.id.batch == e.Batch }
	if !slices.ContainsFunc(r.calls, func(c *simCall) bool { return ofBatch(c) && said(c) }) {
		r.failf("errors", "no call of the batch ended so: %v", e)
	}
	// An error waits for a copy that waits for its turn.
	if last := r.lastCall(ofBatch); last != r.end && !r.waitedTo(r.end) {
		r.failf("promptness", "batch %d failed at %v, the request at %v", e.Batch, last, r.end)
	}
}

// attemptsOf returns the first calls of the attempts of a batch.
func (r *simRun) attemptsOf(batch int) (attempts []*simCall) {
	for _, c := range r.calls {
		if c.id.batch == batch && c.id.copy == 0 {
			attempts = append(attempts, c)
		}
	}
	return attempts
}

// checkConcurrency checks how many batches were in flight at once: no more than
// may be, and no fewer as long as there are batches that were not sent yet. Of
// those that end in a moment nothing is in flight in that moment.
func (r *simRun) checkConcurrency(batches []*simBatch) {
	type change struct {
		at time.Duration
		by int
	}
	var changes []change
	allSent := r.start
	for _, b := range batches {
		if len(b.attempts) == 0 {
			allSent = r.end
			continue
		}
		allSent = max(allSent, b.attempts[0].start)
		for _, a := range b.attempts {
			if a.end > a.start {
				changes = append(changes, change{a.start, 1}, change{a.end, -1})
			}
		}
	}
	slices.SortFunc(changes, func(a, b change) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.by, b.by)) })
	flying, most := 0, r.settings.MaxConcurrentRequests
	for i, c := range changes {
		if flying += c.by; flying > most {
			r.failf("max_concurrent_requests", "at %v %d batches are in flight, of %d at most", c.at, flying, most)
			return
		}
		last := i+1 == len(changes) || changes[i+1].at > c.at
		if last && c.at < allSent && flying < most && len(r.waits) == 0 {
			r.failf("max_concurrent_requests", "at %v only %d batches are in flight, of %d, and not all were sent yet", c.at, flying, most)
			return
		}
	}
}

// budgetOf returns the budget of a request, of which pct is the setting.
func budgetOf(batches int, pct, preset float64) int {
	switch {
	case pct == 0:
		pct = preset
	case pct < 0:
		return 0
	}
	return max(2, 1+int(math.Ceil(pct*float64(batches))))
}

// checkBudgets checks the budgets at this moment; the mutex of the simulation is
// held.
func (r *simRun) checkBudgets() {
	if r.call == nil {
		return
	}
	if left := r.call.retries.left.Load(); left < 0 {
		r.failf("retry budget", "it is %d", left)
	}
	if left := r.call.hedges.left.Load(); left < 0 {
		r.failf("hedge budget", "it is %d", left)
	}
	r.sim.checkShared()
}

// checkSpending checks what the request has spent on retries and copies.
func (r *simRun) checkSpending(batches []*simBatch) {
	n := r.batches()
	hedges := budgetOf(n, r.settings.HedgeBudgetPct, 0.1)
	copies := 0
	for _, c := range r.calls {
		if c.id.copy > 0 {
			copies++
		}
	}
	if spent := hedges - int(r.call.hedges.left.Load()); spent != copies || copies > hedges {
		r.failf("hedge budget", "%d copies were sent and %d paid for, of %d", copies, spent, hedges)
	}
	// What is paid for a copy is given back when none can be sent: when the attempt
	// is over in the same moment, and without endpoints.
	if r.refused[RequestHedges] > 0 && copies < hedges && len(r.waits) == 0 && r.sim.tick == 1 && !r.sim.wasEmpty() {
		r.failf("hedge budget", "a copy was refused after %d of %d", copies, hedges)
	}
	retries := budgetOf(n, r.settings.RetryBudgetPct, 0.05)
	least, most := 0, 0
	for _, b := range batches {
		least += len(b.mustPay(costsRequest))
	}
	least += mustPayForBreaks(batches)
	for _, err := range r.retried {
		if costOf(err) == costsRequest {
			most++
		}
	}
	if r.sim.steady() {
		// Nothing is paid for a retry at an endpoint that was not tried.
		for _, b := range batches {
			most -= b.fresh()
		}
	}
	if spent := retries - int(r.call.retries.left.Load()); spent < least || spent > most || spent > retries {
		r.failf("retry budget", "%d were spent of %d, for %d retries at least and %d at most", spent, retries, least, most)
	}
	if r.refused[RequestRetries] > 0 && most < retries {
		r.failf("retry budget", "a retry was refused after %d of %d", most, retries)
	}
}

// checkReports checks that the observer was told of every attempt, and how it
// ended: what happened to one batch is not said of another.
func (r *simRun) checkReports() {
	reported := make(map[string]Attempt)
	for _, a := range r.attempts {
		reported[a.ID] = a
	}
	if len(r.attempts) != len(r.calls) {
		r.failf("observer", "%d attempts are reported, %d were made", len(r.attempts), len(r.calls))
	}
	for _, c := range r.calls {
		want := Attempt{
			Endpoint: c.upstream.endpoint, ID: c.name(), Items: c.items, Retry: c.id.attempt, Copy: c.id.copy,
			Took: c.end - c.start,
		}
		got := reported[c.name()]
		ended := endingOf(got.Err)
		if unsure := r.sim.tight() || r.tainted && (c.ending == good || c.taints); !unsure && ended != c.ending &&
			// What happens in the moment in which it is called off may not count.
			(ended != unanswered || r.sim.tick == 1) {
			r.failf("observer", "%s ended with a %v and is reported with a %v", c.name(), c.ending, ended)
		}
		if got.Lost != c.overtaken() && r.sim.tick == 1 && !r.tainted {
			r.failf("observer", "that %s was lost is said to be %v", c.name(), got.Lost)
		}
		if got.Err, got.Lost = nil, false; got != want {
			r.failf("observer", "%+v is reported, want %+v", got, want)
		}
	}
}

// overtaken reports whether the call was called off because another one of the same
// attempt had a good reply.
func (c *simCall) overtaken() bool {
	return c.ending == unanswered && slices.ContainsFunc(c.run.calls, func(other *simCall) bool {
		return other.attempt == c.attempt && other.ending == good && other.end == c.end
	})
}

// endingOf returns what an attempt that is said to have ended with err met.
func endingOf(err error) ending {
	if err == nil {
		return good
	}
	if _, ok := errors.AsType[*StatusError](err); ok {
		return refusing
	}
	if reply, ok := errors.AsType[*ReplyError](err); ok {
		if reply.Status == 302 {
			return redirecting
		}
		return broken
	}
	if _, ok := errors.AsType[*PanicError](err); ok {
		return panicking
	}
	if notBegun(err) {
		return notBegunWith
	}
	if _, ok := errors.AsType[*NetworkError](err); ok {
		return dropped
	}
	return unanswered
}

// A cost is what a retry costs.
type cost int

const (
	// costsUnknown is that of an attempt that may have gone well.
	costsUnknown cost = iota
	costsNothing
	costsRequest
	costsGroup
	// costsBreak is costsRequest for the first of those that break at once.
	costsBreak
	// forbidden is the retry of what another attempt cannot mend.
	forbidden
)

// costOf returns what the retry that was made after an error costs.
func costOf(err error) cost {
	if status, ok := errors.AsType[*StatusError](err); ok {
		if status.Status == 429 || status.RetryAfter != "" {
			return costsNothing
		}
		return costsGroup
	}
	if notBegun(err) {
		return costsNothing
	}
	return costsRequest
}
