package engine

import (
	"context"
	"errors"
	"slices"
	"time"
)

// A delivery is one batch on its way: its attempts, one after the other. It is
// for one goroutine, which those of copies only read.
type delivery struct {
	*run
	batch int
	// items is the number of items in the batch, at least 1, and size that of
	// their bytes.
	items, size int
	// tried are the attempts that failed, copies included.
	tried []attempted
	// last is the endpoint of the last attempt.
	last *Endpoint
	// refused is the budget that had nothing left for one more.
	refused Budget
}

// attempted is an attempt of a batch that failed.
type attempted struct {
	endpoint *Endpoint
	sent     time.Time
	err      error
	// notBefore is when the endpoint asked to be tried again, the zero time when
	// it did not ask.
	notBefore time.Time
}

// batch brings one batch upstream and its checked result back. It holds one of
// the slots when it begins, and none while it waits to try again or when it
// ends.
func (r *run) batch(ctx context.Context, batch int) (result, error) {
	start := time.Now()
	d := &delivery{run: r, batch: batch, items: max(1, r.call.plan.batches[batch].len()), size: r.call.plan.size(batch)}
	at, ok := r.to.Group.choose(nil, true)
	if !ok {
		r.slots.release()
		return result{}, d.failure(errNoEndpoint, 0)
	}
	for tried := 0; ; tried++ {
		res, err := d.attemptInSlot(ctx, tried, at)
		if err == nil {
			res.took = time.Since(start)
			r.to.Group.reward()
			return res, nil
		}
		next, wait, ok := d.next(ctx, err, tried)
		if !ok || !sleep(ctx, wait, d.enough(next, err)) {
			return result{}, d.failure(err, tried+1)
		}
		at = next
		if !r.slots.acquire(ctx) {
			return result{}, context.Cause(ctx)
		}
	}
}

// enough returns what ends the wait before a retry early; nil for nothing, as when
// the endpoint itself asked for patience.
func (d *delivery) enough(c choice, err error) <-chan struct{} {
	if time.Now().Before(notBefore(d.tried, c.endpoint)) {
		return nil
	}
	return c.endpoint.backAgain(err)
}

// failure says of an error that ends the batch where and how it came about.
func (d *delivery) failure(err error, attempts int) error {
	return &BatchError{Batch: d.batch, Attempts: attempts, Endpoint: d.last, Refused: d.refused, Err: err}
}

// next decides whether a batch is tried again after err, where, and how long to
// wait before that; what the retry costs is spent then. A wait that would pass
// the deadline is not begun.
func (d *delivery) next(ctx context.Context, err error, tried int) (c choice, wait time.Duration, ok bool) {
	class := d.class(err)
	if class == neverRetried || tried >= d.call.settings.MaxRetries || ctx.Err() != nil {
		return choice{}, 0, false
	}
	if c, ok = d.to.Group.choose(d.tried, false); !ok {
		return choice{}, 0, false
	}
	wait = max(d.call.backoff(tried), time.Until(notBefore(d.tried, c.endpoint)))
	if !inTime(ctx, wait) || !d.pay(class, c) {
		return choice{}, 0, false
	}
	c.paid = !c.fresh
	d.observer.Retrying(c.endpoint, wait, err)
	return c, wait, true
}

// pay spends what a retry at the chosen endpoint costs and reports whether it
// may be made. One at an endpoint that is up and was not tried yet is free: there
// are no more of these than endpoints.
func (d *delivery) pay(class retryClass, c choice) bool {
	switch {
	case c.fresh || class == retriedFree:
		return true
	case class == retriedByRequest && !d.payForRequest():
		d.refused = RequestRetries
	case class == retriedByGroup && !d.to.Group.spend():
		d.refused = GroupRetries
	default:
		return true
	}
	d.observer.Refused(d.refused)
	return false
}

// payForRequest spends one of the request's own retries. What was under way at an
// endpoint when a connection to it broke is one failure, paid for once: a server
// that restarts breaks them all. Only the first such failure of an endpoint
// counts like that in a request, and what breaks later is paid for one by one.
func (d *delivery) payForRequest() bool {
	failed := d.tried[len(d.tried)-1]
	if !isBroken(failed.err) {
		return d.call.retries.take()
	}
	d.breaksMu.Lock()
	defer d.breaksMu.Unlock()
	first, known := d.breaks[failed.endpoint]
	if known && !failed.sent.After(first) {
		return true
	}
	if !d.call.retries.take() {
		return false
	}
	if !known {
		if d.breaks == nil {
			d.breaks = make(map[*Endpoint]time.Time)
		}
		d.breaks[failed.endpoint] = time.Now()
	}
	return true
}

// isBroken reports whether an attempt failed because its connection broke.
func isBroken(err error) bool {
	if _, ok := errors.AsType[*NetworkError](err); ok {
		return true
	}
	reply, ok := errors.AsType[*ReplyError](err)
	return ok && reply.Broken
}

// remember takes note of an attempt that failed.
func (d *delivery) remember(e *Endpoint, sent time.Time, err error) {
	a := attempted{endpoint: e, sent: sent, err: err}
	if wait := asksToWait(retryAfterOf(err), time.Now()); wait > 0 {
		a.notBefore = time.Now().Add(wait)
	}
	d.tried = append(d.tried, a)
}

// triedAt reports whether an endpoint was tried.
func triedAt(tried []attempted, e *Endpoint) bool {
	return slices.ContainsFunc(tried, func(a attempted) bool { return a.endpoint == e })
}

// notBefore returns when an endpoint asked to be tried again, the zero time when
// it did not.
func notBefore(tried []attempted, e *Endpoint) time.Time {
	var latest time.Time
	for _, a := range tried {
		if a.endpoint == e && a.notBefore.After(latest) {
			latest = a.notBefore
		}
	}
	return latest
}

// inTime reports whether a wait leaves any time before the deadline.
func inTime(ctx context.Context, wait time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() == nil && (!ok || time.Until(deadline) > wait)
}

// sleep waits, until enough is closed at most, and reports whether the context
// lasted.
func sleep(ctx context.Context, wait time.Duration, enough <-chan struct{}) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-enough:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
