package engine

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"time"

	"golang.org/x/net/http2"
)

const (
	// backoffFactor is how much longer each wait may be than the one before.
	backoffFactor = 4
	// maxBackoff is the longest wait that the engine makes up itself.
	maxBackoff = 45 * time.Second
)

// A delivery is one batch on its way: its attempts, one after the other. It is
// for one goroutine, which those of copies only read.
type delivery struct {
	*run
	batch int
	// items is the number of items in the batch, at least 1.
	items int
	// tried are the endpoints that were tried, and from when they may be again.
	tried []attempted
}

// attempted is an endpoint that a batch has tried.
type attempted struct {
	endpoint *Endpoint
	// notBefore is when the endpoint asked to be tried again, the zero time when
	// it did not ask.
	notBefore time.Time
}

// batch brings one batch upstream and its checked result back. It holds one of
// the slots when it begins, and none while it waits to try again or when it
// ends.
func (r *run) batch(ctx context.Context, batch int) (result, error) {
	start := time.Now()
	d := &delivery{run: r, batch: batch, items: max(1, r.call.plan.batches[batch].len())}
	at, ok := r.to.Group.choose(nil)
	if !ok {
		r.slots.release()
		return result{}, errNoEndpoint
	}
	for tried := 0; ; tried++ {
		res, err := d.attemptInSlot(ctx, tried, at)
		if err == nil {
			res.took = time.Since(start)
			r.to.Group.reward()
			return res, nil
		}
		next, wait, ok := d.next(ctx, err, tried)
		if !ok || !sleep(ctx, wait) {
			return result{}, err
		}
		at = next
		if !r.slots.acquire(ctx) {
			return result{}, context.Cause(ctx)
		}
	}
}

// next decides whether a batch is tried again after err, where, and how long to
// wait before that; what the retry costs is spent then. A wait that would pass
// the deadline is not begun.
func (d *delivery) next(ctx context.Context, err error, tried int) (c choice, wait time.Duration, ok bool) {
	class := d.call.class(err, tried)
	if class == neverRetried || tried >= d.call.settings.MaxRetries || ctx.Err() != nil {
		return choice{}, 0, false
	}
	if c, ok = d.to.Group.choose(d.endpoints()); !ok {
		return choice{}, 0, false
	}
	wait = max(d.call.backoff(tried), time.Until(d.notBefore(c.endpoint)))
	if !inTime(ctx, wait) || !d.pay(class, c) {
		return choice{}, 0, false
	}
	d.observer.Retrying(c.endpoint, err)
	return c, wait, true
}

// pay spends what a retry at the chosen endpoint costs and reports whether it
// may be made. One at an endpoint that is up and was not tried yet is free: there
// are no more of these than endpoints.
func (d *delivery) pay(class retryClass, c choice) bool {
	switch {
	case c.fresh || class == retriedFree:
		return true
	case class == retriedByRequest && !d.call.retries.take():
		d.observer.Refused(RequestRetries)
		return false
	case class == retriedByGroup && !d.to.Group.spend():
		d.observer.Refused(GroupRetries)
		return false
	}
	return true
}

// endpoints returns the endpoints that were tried.
func (d *delivery) endpoints() []*Endpoint {
	endpoints := make([]*Endpoint, len(d.tried))
	for i := range d.tried {
		endpoints[i] = d.tried[i].endpoint
	}
	return endpoints
}

// notBefore returns when an endpoint asked to be tried again, the zero time when
// it did not.
func (d *delivery) notBefore(e *Endpoint) time.Time {
	var latest time.Time
	for _, t := range d.tried {
		if t.endpoint == e && t.notBefore.After(latest) {
			latest = t.notBefore
		}
	}
	return latest
}

// remember takes note of an endpoint at which the batch failed.
func (d *delivery) remember(e *Endpoint, err error) {
	t := attempted{endpoint: e}
	if wait := asksToWait(retryAfterOf(err), time.Now()); wait > 0 {
		t.notBefore = time.Now().Add(wait)
	}
	d.tried = append(d.tried, t)
}

// inTime reports whether a wait leaves any time before the deadline.
func inTime(ctx context.Context, wait time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() == nil && (!ok || time.Until(deadline) > wait)
}

// sleep waits and reports whether the context lasted.
func sleep(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// A retryClass says what a retry costs.
type retryClass uint8

const (
	// neverRetried is what another attempt cannot mend.
	neverRetried retryClass = iota
	// retriedByRequest is a timeout, a network error or a broken reply: a retry
	// spends the budget of its request.
	retriedByRequest
	// retriedByGroup is a status that tells of trouble: a retry spends the bucket
	// of the group of endpoints.
	retriedByGroup
	// retriedFree is a status by which the upstream itself says when to come
	// again, and a request that it has not begun with.
	retriedFree
)

// class says whether and at what cost a failed attempt may be made again. The
// attempts of the batch before this one are counted in tried.
func (c *Call) class(err error, tried int) retryClass {
	if status, ok := errors.AsType[*StatusError](err); ok {
		return c.statusClass(status, tried)
	}
	if timeout, ok := errors.AsType[*TimeoutError](err); ok && timeout.Limit != attemptLimit {
		return neverRetried
	}
	if reply, ok := errors.AsType[*ReplyError](err); ok && isRedirect(reply.Status) {
		return neverRetried
	}
	if _, ok := errors.AsType[*ForbiddenAddressError](err); ok || errors.Is(err, ErrOverloaded) {
		return neverRetried
	}
	if _, ok := errors.AsType[*PanicError](err); ok {
		return neverRetried
	}
	if stream, ok := errors.AsType[http2.StreamError](err); ok && stream.Code == http2.ErrCodeRefusedStream {
		// The server has not begun with it (RFC 9113, section 8.7).
		return retriedFree
	}
	return retriedByRequest
}

// statusClass is class for a reply with a status that is not 2xx.
func (c *Call) statusClass(e *StatusError, tried int) retryClass {
	switch {
	case slices.Contains(c.settings.NonRetryableStatusCodes, e.Status):
		return neverRetried
	case e.Status == http.StatusFailedDependency && tried > 0:
		// TEI answers it to a failure that passes, and for ever to a request for
		// what the model cannot do.
		return neverRetried
	case e.Status == http.StatusTooManyRequests:
		return retriedFree
	case e.Status == http.StatusRequestTimeout, e.Status == http.StatusConflict,
		e.Status == http.StatusFailedDependency, e.Status >= 500 && e.Status <= 599:
		if e.RetryAfter != "" {
			return retriedFree
		}
		return retriedByGroup
	}
	return neverRetried
}

// backoff returns how long to wait before attempt number tried+1: at random up
// to a bound that grows with every attempt ("full jitter").
//
// See "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
func (c *Call) backoff(tried int) time.Duration {
	bound := min(c.settings.InitialBackoff, maxBackoff)
	for range tried {
		bound = min(bound*backoffFactor, maxBackoff)
	}
	return rand.N(bound + 1)
}

// retryAfterOf returns the Retry-After header of the reply that failed, empty
// when it gave none.
func retryAfterOf(err error) string {
	if status, ok := errors.AsType[*StatusError](err); ok {
		return status.RetryAfter
	}
	if reply, ok := errors.AsType[*ReplyError](err); ok {
		return reply.RetryAfter
	}
	return ""
}

// asksToWait reads a Retry-After header, which is a number of seconds or a date
// (RFC 9110, section 10.2.3); zero for one that says nothing.
func asksToWait(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, date.Sub(now))
	}
	return 0
}

// isRedirect reports whether a status is a redirect.
func isRedirect(status int) bool { return status >= 300 && status < 400 }
