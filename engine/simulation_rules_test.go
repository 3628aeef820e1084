package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// steady reports whether all endpoints are members of the group and up all the
// time.
func (s *simulation) steady() bool {
	return len(s.changes) == 0 && s.checking == 0 && s.endpoints[0].options.Health.FailDuration == 0
}

// tight reports whether there may be no memory for a request or a reply, unless
// all is healed.
func (s *simulation) tight() bool { return s.memoryMax > 0 }

// wasEmpty reports whether the group may be without members at times.
func (s *simulation) wasEmpty() bool {
	return slices.ContainsFunc(s.changes, func(c simChange) bool { return len(c.members) == 0 })
}

// checkLimits checks what is in flight to the endpoint at this moment; the mutex
// of the simulation is held.
func (u *simUpstream) checkLimits() {
	o := u.options
	if o.MaxRequests > 0 && u.requests > o.MaxRequests {
		u.sim.failf(nil, "max_upstream_requests", "%d are in flight to e%d, of %d at most", u.requests, u.number, o.MaxRequests)
	}
	if o.MaxItems > 0 && u.items > o.MaxItems && u.requests > 1 {
		u.sim.failf(nil, "max_upstream_items", "%d in %d requests are in flight to e%d, of %d at most", u.items, u.requests, u.number, o.MaxItems)
	}
	if requests, items := u.endpoint.InFlight(); requests < u.requests || items < u.items {
		u.sim.failf(nil, "places", "%d requests and %d items are in flight to e%d, the engine counts %d and %d",
			u.requests, u.items, u.number, requests, items)
	}
}

// checkQueue checks that nobody waits for a turn at the endpoint who could have it
// at this moment.
func (u *simUpstream) checkQueue() {
	l := u.endpoint.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	// What 429 made of the bound goes away by itself, unnoticed until a place is
	// given back.
	if len(l.waiting) > 0 && l.window == noWindow && l.fits(l.waiting[0].next().items) {
		u.sim.failf(nil, "turns", "at %v a batch waits for its turn at e%d although there is room", u.sim.now(), u.number)
	}
}

// checkShared checks what all requests share at this moment.
func (s *simulation) checkShared() {
	if used := s.memory.Used(); used < 0 || used > s.memory.Limit() {
		s.failf(nil, "max_memory", "%d bytes are used, of %d", used, s.memory.Limit())
	}
	if s.retries != nil {
		if level := s.retries.level.Load(); level < 0 || level > s.retries.size {
			s.failf(nil, "retry_bucket", "it is at %d, its size is %d", level, s.retries.size)
		}
	}
}

// checkAll checks the rules for all requests together.
func (s *simulation) checkAll() {
	s.checkBucket()
	for _, u := range s.upstreams {
		s.checkWaits(u)
		if u.options.Health.FailDuration == 0 && s.checking == 0 && !u.endpoint.Up() {
			s.failf(nil, "fail_duration", "e%d is down although nobody looks after its health", u.number)
		}
		tooMany := func(c *simCall) bool { return c.ending == refusing && c.status == http.StatusTooManyRequests }
		if u.endpoint.limiter.window != noWindow && !slices.ContainsFunc(u.calls, tooMany) {
			s.failf(nil, "429", "e%d gets less although it never answered 429", u.number)
		}
	}
	s.checkQuiet()
}

// checkBucket checks how many retries the bucket paid for.
func (s *simulation) checkBucket() {
	least, most, refused, goods := 0, 0, 0, 0
	for _, r := range s.runs {
		refused += r.refused[GroupRetries]
		for _, err := range r.retried {
			if costOf(err) == costsGroup {
				most++
			}
		}
		for _, b := range r.byBatch() {
			least += len(b.mustPay(costsGroup))
			if len(b.attempts) > 0 && b.answered(len(b.attempts)-1) {
				goods++
			}
		}
	}
	if s.bucket == nil {
		if refused > 0 {
			s.failf(nil, "retry_bucket", "%d retries were refused without a bucket", refused)
		}
		return
	}
	setting := func(value, preset float64) float64 {
		switch {
		case value == 0:
			return preset
		case value < 0:
			return 0
		}
		return value
	}
	size := setting(s.bucket.Size, 100)
	room := size + setting(s.bucket.PerReply, 0.2)*float64(goods) + setting(s.bucket.PerSecond, 10)*s.now().Seconds()
	if float64(least) > room+1e-6 {
		s.failf(nil, "retry_bucket", "it paid for %d retries and held %v", least, room)
	}
	if refused > 0 && float64(most) <= size-1 {
		s.failf(nil, "retry_bucket", "it refused a retry after %d of %v", most, size)
	}
}

// checkDown checks that there is a reason for taking an endpoint down.
func (s *simulation) checkDown(e *Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.upstreams[slices.Index(s.all(), e)]
	o := u.options.Health
	fails, most := 0, cmp.Or(o.MaxFails, 3)
	for _, c := range u.calls {
		if recent := c.end >= s.now()-o.FailDuration; c.over && recent && c.failed() {
			fails++
		}
	}
	if fails < most {
		s.failf(nil, "max_fails", "e%d is down after %d failures, it takes %d", u.number, fails, most)
	}
}

// failed reports whether a call that is over may count as a failure.
func (c *simCall) failed() bool {
	o := c.upstream.options.Health
	if c.run.tainted {
		return true
	}
	switch c.ending {
	case good:
		return o.UnhealthyLatency > 0 && c.end-c.start >= o.UnhealthyLatency
	case unanswered:
		// A call that took long and was called off counts as well.
		return c.end-c.start >= 500*time.Millisecond || c.end == c.attempt.start+c.run.settings.Timeout || c.overtaken()
	case refusing:
		return slices.Contains(o.UnhealthyStatus, c.status) || c.status >= 500 && (o.UnhealthyStatus == nil || slices.Contains(o.UnhealthyStatus, 5))
	case panicking:
		return false
	}
	return true
}

// A span is a time from one moment to another.
type span struct{ from, to time.Duration }

// gap returns the first moment between two that none of the spans covers.
func gap(spans []span, from, to time.Duration) (time.Duration, bool) {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	for _, s := range spans {
		if s.from > from {
			break
		}
		from = max(from, s.to)
	}
	return from, from < to
}

// checkProgress checks that something was under way at every moment of a request:
// an attempt, a wait for a turn, or a backoff that was no longer than it may be.
func (r *simRun) checkProgress(batches []*simBatch) {
	busy := slices.Clone(r.backoffs)
	longest := max(simRetryAfter, backoffBound(r.settings.InitialBackoff, r.call.settings.MaxRetries))
	for _, b := range busy {
		if b.to-b.from > longest {
			r.failf("backoff", "one lasts %v, at most %v", b.to-b.from, longest)
		}
	}
	for _, b := range batches {
		for _, a := range b.attempts {
			busy = append(busy, span{a.start, a.end})
		}
	}
	for _, w := range r.waits {
		busy = append(busy, span{w.from, w.to})
	}
	if at, found := gap(busy, r.start, r.end); found {
		r.failf("progress", "at %v the request does nothing, it ends at %v", at, r.end)
	}
}

// checkWaits checks that nobody waited for a turn at an endpoint that had room.
func (s *simulation) checkWaits(u *simUpstream) {
	idle := u.idle()
	for _, r := range s.runs {
		for _, w := range r.waits {
			if w.endpoint != u.endpoint {
				continue
			}
			next, _ := slices.BinarySearchFunc(idle, w.from, func(s span, from time.Duration) int {
				return cmp.Or(cmp.Compare(s.to, from), -1)
			})
			if next < len(idle) && idle[next].from < w.to {
				s.failf(r, "turns", "from %v to %v an attempt waits for its turn at e%d, which has room from %v to %v",
					w.from, w.to, u.number, idle[next].from, idle[next].to)
			}
		}
	}
}

// idle returns when an endpoint has room for any batch, in order.
func (u *simUpstream) idle() []span {
	type change struct {
		at              time.Duration
		requests, items int
	}
	var changes []change
	limited := false
	for _, c := range u.calls {
		changes = append(changes, change{c.start, 1, c.items}, change{c.end, -1, -c.items})
		limited = limited || c.ending == refusing && c.status == http.StatusTooManyRequests
	}
	slices.SortFunc(changes, func(a, b change) int { return cmp.Compare(a.at, b.at) })
	largest := 0
	for _, r := range u.sim.runs {
		largest = max(largest, r.itemsOf(0))
	}
	var idle []span
	o, requests, items := u.options, 0, 0
	for i, c := range changes {
		requests, items = requests+c.requests, items+c.items
		full := o.MaxRequests > 0 && requests >= o.MaxRequests ||
			o.MaxItems > 0 && items+largest > o.MaxItems && requests > 0 ||
			limited && requests > 0
		if i+1 < len(changes) && changes[i+1].at > c.at && !full {
			idle = append(idle, span{c.at, changes[i+1].at})
		}
	}
	return idle
}

// checkQuiet checks that nothing is left of the requests.
func (s *simulation) checkQuiet() {
	for _, u := range s.upstreams {
		e := u.endpoint
		if requests, items := e.InFlight(); requests != 0 || items != 0 || u.requests != 0 || u.items != 0 {
			s.failf(nil, "places", "%d requests and %d items are left in flight to e%d", requests, items, u.number)
		}
		if load := e.load.Load(); load != 0 {
			s.failf(nil, "load", "e%d has a load of %d when nothing is under way", u.number, load)
		}
		if l := e.limiter; len(l.waiting) != 0 || len(l.idle) != 0 || len(l.flows) != 0 {
			s.failf(nil, "turns", "%d requests wait and %d are remembered at e%d when nothing is under way", len(l.waiting), len(l.flows), u.number)
		}
		if e.health.probing {
			s.failf(nil, "probes", "a probe of e%d never ended", u.number)
		}
	}
	if used := s.memory.Used(); used != 0 {
		s.failf(nil, "max_memory", "%d bytes are used when nothing is under way", used)
	}
}

// heal ends all faults and checks that the endpoints come back: after a while
// every request is answered at the first attempt, and all endpoints take part.
func (s *simulation) heal(ctx context.Context) {
	s.mu.Lock()
	s.healed = true
	s.mu.Unlock()
	s.group.Set(s.members(s.all(), s.everyone())...)
	longest := max(windowLife, 2*s.checking)
	for _, e := range s.endpoints {
		longest = max(longest, e.options.Health.FailDuration)
	}
	<-time.After(longest)
	s.tracef("all faults are over")
	called := make(map[*simUpstream]bool)
	settings := DefaultSettings()
	settings.BatchSize, settings.MaxConcurrentRequests = 1, 4
	for i := range 100 {
		request := &simRequest{number: 1000 + i, cancel: -1, settings: settings}
		for n := range 4 {
			request.texts = append(request.texts, fmt.Sprint("healed ", i, n))
		}
		r := s.send(ctx, request)
		if r.err != nil || len(r.calls) != len(r.texts) {
			s.failf(r, "recovery", "%d calls, %v", len(r.calls), r.err)
			return
		}
		back := 0
		for _, c := range r.calls {
			called[c.upstream] = true
		}
		for _, u := range s.upstreams {
			if u.endpoint.Up() && (called[u] || s.policy == First) {
				back++
			}
		}
		if back == len(s.upstreams) {
			return
		}
	}
	s.failf(nil, "recovery", "of %d endpoints %d were made use of", len(s.upstreams), len(called))
}

// countAll counts what became of the requests.
func (s *simulation) countAll() {
	s.counts.add("seconds of virtual time", int(s.now().Seconds()))
	for _, r := range s.runs {
		if r.number >= 1000 {
			continue
		}
		s.counts.add("requests", 1)
		s.counts.add("batches", r.batches())
		s.counts.add("requests: "+outcomeOf(r.err), 1)
		s.counts.add("waits for a turn", len(r.waits))
		s.counts.add("changes of health", r.unhealthy)
		for _, err := range r.retried {
			s.counts.add("retries: "+[]string{"", "free", "of the request's budget or elsewhere", "of the bucket or elsewhere"}[costOf(err)], 1)
		}
		for budget, n := range r.refused {
			s.counts.add("refused: "+string(budget), n)
		}
		for _, a := range r.attempts {
			if a.Copy > 0 {
				s.counts.add(fmt.Sprintf("copies: number %d", a.Copy), 1)
				if a.Err == nil {
					s.counts.add("copies: answered first", 1)
				}
			}
		}
	}
}

// outcomeOf names what became of a request.
func outcomeOf(err error) string {
	if err == nil {
		return "answered"
	}
	if timeout, ok := errors.AsType[*TimeoutError](err); ok {
		switch {
		case timeout.Needs > 0:
			return "deadline refused at the start"
		case timeout.After <= 0:
			return "deadline that had passed"
		case timeout.Limit != attemptLimit:
			return "deadline"
		}
		return "timeout of the last attempt"
	}
	if status, ok := errors.AsType[*StatusError](err); ok {
		return fmt.Sprintf("status %dxx", status.Status/100)
	}
	if _, ok := errors.AsType[*ReplyError](err); ok {
		return "broken reply"
	}
	if _, ok := errors.AsType[*PanicError](err); ok {
		return "panic"
	}
	if _, ok := errors.AsType[*RequestError](err); ok {
		return "bad request"
	}
	switch {
	case errors.Is(err, errNoEndpoint):
		return "no endpoint"
	case errors.Is(err, ErrOverloaded):
		return "overloaded"
	case errors.Is(err, errSimLeft):
		return "client left"
	}
	return "network error"
}
