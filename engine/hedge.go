package engine

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"
)

const (
	// minHedgeDelay is the shortest wait before a copy is sent that auto comes to.
	minHedgeDelay = 45 * time.Millisecond
	// maxCopies is how many copies auto sends of one attempt. Among many batches
	// there is now and then one of which a single copy is late as well.
	maxCopies = 2
)

// errUnsent ends the wait of a copy for its turn.
var errUnsent = errors.New("the attempt failed before its copy was sent")

// hedgeDelay returns after which time a copy of a batch that was sent to the
// endpoint is due, and whether one is to be sent at all.
func (d *delivery) hedgeDelay(e *Endpoint) (time.Duration, bool) {
	if !d.call.settings.HedgeAuto {
		return d.call.settings.HedgeDelay, d.call.settings.HedgeDelay > 0
	}
	usual, known := e.latency.percentile95(d.size)
	return max(usual, minHedgeDelay), known
}

// A race is an attempt and its copies.
type race struct {
	*delivery
	id attemptID
	// callOff ends what is under way.
	callOff context.CancelCauseFunc
	// queue is the context of copies that wait for their turn, and unqueue ends
	// it: once an attempt has failed, a copy that was not sent is none.
	queue   context.Context
	unqueue context.CancelCauseFunc
	// outcomes has room for all, so that nobody who comes late is blocked.
	outcomes chan armOutcome
	// won is set by the first good reply.
	won atomic.Bool
	// at are the endpoints that the attempt and its copies were sent to.
	at []attempted
	// running counts those whose outcome is not known.
	running int
	err     error
}

// An armOutcome is what became of the attempt or a copy of it.
type armOutcome struct {
	res      result
	err      error
	endpoint *Endpoint
	sent     time.Time
}

// race makes an attempt whose turn has come, and sends a copy whenever the delay
// passes. The first complete good reply wins and the others are called off; an
// error waits for them.
func (d *delivery) race(ctx context.Context, id attemptID, first choice, delay time.Duration) (result, error) {
	ctx, callOff := context.WithCancelCause(ctx)
	defer callOff(nil)
	queue, unqueue := context.WithCancelCause(ctx)
	defer unqueue(errUnsent)
	r := &race{
		delivery: d, id: id, callOff: callOff, queue: queue, unqueue: unqueue,
		outcomes: make(chan armOutcome, 1+maxCopies),
	}
	r.start(first, func(o *armOutcome) { r.arm(ctx, id, first, o) })
	timer := time.NewTimer(delay)
	defer timer.Stop()
	for {
		select {
		case o := <-r.outcomes:
			if o.err == nil {
				return o.res, nil
			}
			if r.fail(o); r.running == 0 {
				return result{}, r.err
			}
		case <-timer.C:
			if next, more := r.copy(ctx); more {
				timer.Reset(next)
			}
		}
	}
}

// fail takes note of an attempt or a copy that failed.
func (r *race) fail(o armOutcome) {
	r.running--
	if errors.Is(o.err, errUnsent) || errors.Is(o.err, errDown) {
		return
	}
	r.remember(o.endpoint, o.sent, o.err)
	if r.err == nil || r.class(o.err) == neverRetried {
		// Of several errors, one that another attempt cannot mend says most.
		r.err = o.err
	}
}

// start runs one of the race in a goroutine of its own.
func (r *race) start(c choice, run func(*armOutcome)) {
	r.at = append(r.at, attempted{endpoint: c.endpoint})
	r.running++
	r.copies.Go(func() {
		o := armOutcome{endpoint: c.endpoint}
		defer func() { r.outcomes <- o }()
		defer recoverInto(&o.err)
		run(&o)
	})
}

// arm makes the attempt or a copy of it, whose turn has come, and gives its
// place back: when it has won, after the others were called off, so that none of
// them is sent in that place.
func (r *race) arm(ctx context.Context, id attemptID, c choice, o *armOutcome) {
	defer r.leave(c)
	o.sent = time.Now()
	o.res, o.err = r.attempt(ctx, id, c)
	switch {
	case o.err != nil:
		r.unqueue(errUnsent)
	case r.won.Swap(true):
		// Both were complete at the same moment.
		o.res.release()
		o.res, o.err = result{}, lostError{}
	default:
		r.callOff(lostError{to: id.copy})
	}
}

// copy sends a copy if the budget has one left. It returns after which time the
// next one is due, and whether there is to be one.
func (r *race) copy(ctx context.Context) (next time.Duration, more bool) {
	hedges := &r.call.hedges
	if !hedges.take() {
		r.observer.Refused(RequestHedges)
		return 0, false
	}
	c, ok := r.to.Group.choose(slices.Concat(r.tried, r.at), false)
	if !ok || time.Now().Before(notBefore(r.tried, c.endpoint)) {
		hedges.refund()
		return 0, false
	}
	r.id.copy++
	id := r.id
	r.start(c, func(o *armOutcome) {
		if o.err = r.enter(r.queue, c, true); o.err != nil {
			hedges.refund()
			return
		}
		r.arm(ctx, id, c, o)
	})
	if !r.call.settings.HedgeAuto || id.copy == maxCopies {
		return 0, false
	}
	return r.hedgeDelay(c.endpoint)
}
