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

// waitAtDown is how long a batch waits for its turn at an endpoint that is down
// before it looks for another one.
const waitAtDown = time.Second

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

// enterAny waits for the batch's turn at the endpoint that was chosen, and looks
// for another one when that goes down meanwhile.
func (d *delivery) enterAny(ctx context.Context, c choice, urgent bool) (choice, error) {
	for {
		err := d.enter(ctx, c, urgent)
		if !errors.Is(err, errDown) {
			return c, err
		}
		next, ok := d.elsewhere(c)
		if !ok {
			return c, errNoEndpoint
		}
		c = next
	}
}

// elsewhere returns the endpoint for a batch whose turn at another one did not
// come, which is the same one when a retry may not go to any other yet, or not at
// what it has cost. It reports false when the group is empty.
func (d *delivery) elsewhere(c choice) (choice, bool) {
	// A probe that would have to wait is none, and not made again.
	next, ok := d.to.Group.choose(d.tried, !c.probe)
	if !ok || len(d.tried) == 0 {
		return next, ok
	}
	if time.Now().Before(notBefore(d.tried, next.endpoint)) {
		return c, true
	}
	if next.paid = c.paid || !next.fresh; next.paid && !c.paid && !d.pay(d.class(d.tried[len(d.tried)-1].err), next) {
		return c, true
	}
	return next, true
}

// enter waits for the batch's turn at an endpoint. When there are others, the
// error is errDown when the endpoint goes down meanwhile, when a probe would have
// to wait, and from time to time when the endpoint was chosen although it is down:
// another one may be up by then.
func (d *delivery) enter(ctx context.Context, c choice, urgent bool) error {
	t := turn{flow: d.run, items: d.items, urgent: urgent}
	switch {
	case !d.to.Group.several():
	case c.probe:
		t.down = func() <-chan struct{} { return alreadyDown }
	case c.endpoint.Up():
		t.down = c.endpoint.health.downed
	default:
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, waitAtDown, errDown)
		defer cancel()
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
	r := attemptReport{
		items: d.items, size: d.size, sent: time.Now(), load: c.endpoint.load.Load() - int64(d.items),
	}
	// Deferred before the recovery, it sees the error of a panic.
	defer func() {
		r.err = err
		d.note(id, c, r)
	}()
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
func (d *delivery) note(id attemptID, c choice, r attemptReport) {
	r.took = time.Since(r.sent)
	race, lost := errors.AsType[lostError](r.err)
	r.overtaken = lost && race.to > id.copy
	if c.settle(r) {
		d.observer.HealthChanged(c.endpoint, c.endpoint.Up(), r.err)
	}
	d.observer.Attempted(Attempt{
		Endpoint: c.endpoint, ID: d.call.req.ID + id.suffix(), Items: d.items,
		Retry: id.attempt, Copy: id.copy, Took: r.took, Err: r.err, Lost: lost,
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
