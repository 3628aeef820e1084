package engine

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// attemptLimit names the limit of one attempt in a [TimeoutError].
const attemptLimit = "timeout_s"

var (
	// errDown ends the wait for a turn at an endpoint that has gone down.
	errDown = errors.New("the endpoint is down")
	// errCalledOff ends the attempts of a request of which another batch failed.
	errCalledOff = errors.New("another batch of the request failed")
)

// A lostError ends an attempt of which another copy was answered first: the
// attempt itself, which is 0, or one of its copies.
type lostError struct{ to int }

func (lostError) Error() string { return "another copy was answered first" }

// attemptInSlot makes an attempt, copies included, and gives the slot back,
// whatever happens.
func (d *delivery) attemptInSlot(ctx context.Context, number int, c choice) (result, error) {
	defer d.slots.release()
	if ctx.Err() != nil {
		// The work was called off while the batch waited for its turn.
		c.abandon()
		return result{}, context.Cause(ctx)
	}
	c, err := d.enterAny(ctx, c, number > 0)
	if err != nil {
		return result{}, err
	}
	d.last = c.endpoint
	timeout := d.call.settings.Timeout
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, &TimeoutError{Limit: attemptLimit, After: timeout})
	defer cancel()
	id := attemptID{batch: d.batch, attempt: number}
	if delay, ok := d.hedgeDelay(c.endpoint); ok && d.call.hedges.some() {
		return d.race(ctx, id, c, delay)
	}
	defer d.leave(c)
	sent := time.Now()
	res, err := d.attempt(ctx, id, c)
	if err != nil {
		d.remember(c.endpoint, sent, err)
	}
	return res, err
}

// enterAny waits for the batch's turn at the endpoint that was chosen, and chooses
// again when that goes down meanwhile.
func (d *delivery) enterAny(ctx context.Context, c choice, urgent bool) (choice, error) {
	for {
		err := d.enter(ctx, c, urgent)
		if !errors.Is(err, errDown) {
			return c, err
		}
		next, ok := d.to.Group.choose(d.tried)
		if !ok {
			return c, errNoEndpoint
		}
		c = next
	}
}

// enter waits for the batch's turn at an endpoint. The error is errDown when the
// endpoint goes down meanwhile and there are others.
func (d *delivery) enter(ctx context.Context, c choice, urgent bool) error {
	t := turn{flow: d.run, items: d.items, urgent: urgent}
	if c.endpoint.Up() && d.to.Group.several() {
		t.down = c.endpoint.health.downed
	}
	c.endpoint.load.Add(int64(d.items))
	waited, err := c.endpoint.limiter.acquire(ctx, t)
	if waited > 0 {
		d.observer.Waited(c.endpoint, waited)
	}
	if err == nil && ctx.Err() != nil {
		// The work was called off in the moment in which its turn came.
		c.endpoint.limiter.release(d.items)
		err = context.Cause(ctx)
	}
	if err != nil {
		c.endpoint.load.Add(-int64(d.items))
		c.abandon()
	}
	return err
}

// leave gives the batch's place at an endpoint back.
func (d *delivery) leave(c choice) {
	c.endpoint.load.Add(-int64(d.items))
	c.endpoint.limiter.release(d.items)
}

// attempt sends the batch once, whose turn has come, and reads, checks and
// rewrites the reply.
func (d *delivery) attempt(ctx context.Context, id attemptID, c choice) (res result, err error) {
	start := time.Now()
	// Deferred before the recovery, it sees the error of a panic.
	defer func() { d.note(id, c, start, err) }()
	defer recoverInto(&err)
	res, err = d.exchange(ctx, id, c.endpoint)
	if err == nil || ctx.Err() == nil || errors.Is(err, ErrOverloaded) {
		return res, err
	}
	if _, ok := errors.AsType[*StatusError](err); ok {
		// The upstream had said what is wrong when the time was over.
		return result{}, err
	}
	// Whatever broke, it broke because the time was over or the work was called
	// off.
	return result{}, context.Cause(ctx)
}

// note tells the endpoint and the observer how an attempt ended.
func (d *delivery) note(id attemptID, c choice, start time.Time, err error) {
	took := time.Since(start)
	race, lost := errors.AsType[lostError](err)
	if c.settle(attemptReport{
		items: d.items, size: d.size, sent: start, took: took, err: err, overtaken: lost && race.to > id.copy,
	}) {
		d.observer.HealthChanged(c.endpoint, c.endpoint.Up(), err)
	}
	d.observer.Attempted(Attempt{
		Endpoint: c.endpoint, ID: d.call.req.ID + id.suffix(), Items: d.items,
		Retry: id.attempt, Copy: id.copy, Took: took, Err: err, Lost: lost,
	})
}

// exchange sends the batch and reads the reply.
func (d *delivery) exchange(ctx context.Context, id attemptID, endpoint *Endpoint) (result, error) {
	authorization := d.to.Authorization
	resp, err := d.to.Transport.RoundTrip(d.upstreamRequest(ctx, endpoint, id))
	if err != nil {
		return result{}, newNetworkError(err, authorization)
	}
	defer func() { _ = resp.Body.Close() }()
	limits := replyLimits{MaxBody: d.maxResponseBody, Memory: d.memory}
	switch {
	case resp.StatusCode < 200:
		// The body of a connection that changed its protocol has no end.
		return result{}, newReplyError(resp, "it changes the protocol", nil, authorization)
	case isRedirect(resp.StatusCode):
		return result{}, newReplyError(resp, "it is a redirect, which is not followed", nil, authorization)
	case resp.StatusCode >= 300:
		return result{}, newStatusError(resp, readErrorBody(resp, limits), authorization)
	}
	res, err := d.readResult(resp, limits)
	if reply, ok := errors.AsType[*ReplyError](err); ok {
		clean := newReplyError(resp, reply.Reason, reply.Err, authorization)
		clean.Broken = reply.Broken
		return result{}, clean
	}
	return res, err
}

// readResult reads a reply and makes a result of it.
func (d *delivery) readResult(resp *http.Response, limits replyLimits) (result, error) {
	body, err := readReply(resp, limits)
	if err != nil {
		return result{}, err
	}
	res, err := d.result(d.call, d.batch, endToEnd(resp.Header, d.to.Authorization), body)
	if err == nil {
		if err = res.keep(d.memory); err == nil {
			return res, nil
		}
		res.release()
	}
	body.release()
	if errors.Is(err, ErrOverloaded) {
		return result{}, err
	}
	return result{}, &ReplyError{Reason: err.Error()}
}
