package engine

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// attemptLimit names the limit of one attempt in a [TimeoutError].
const attemptLimit = "timeout_s"

// batch brings one batch upstream and its checked results back. It holds one of
// the slots when it begins, and none while it waits to try again or when it
// ends.
func (e *Engine) batch(ctx context.Context, endpoint *Endpoint, call *Call, batch int, slots slots) (result, error) {
	start := time.Now()
	for tried := 0; ; tried++ {
		res, err := e.attemptInSlot(ctx, endpoint, call, attemptID{batch: batch, attempt: tried}, slots)
		if err == nil {
			res.took = time.Since(start)
			if endpoint.Retries != nil {
				endpoint.Retries.reward()
			}
			return res, nil
		}
		wait := call.backoff(err, tried)
		if !inTime(ctx, wait) || !call.mayRetry(endpoint, err, tried) || !sleep(ctx, wait) {
			return result{}, err
		}
		if !slots.acquire(ctx) {
			return result{}, context.Cause(ctx)
		}
	}
}

// attemptInSlot makes an attempt and gives the slot back, whatever happens.
func (e *Engine) attemptInSlot(ctx context.Context, endpoint *Endpoint, call *Call, id attemptID, slots slots) (result, error) {
	defer slots.release()
	if ctx.Err() != nil {
		// The work was called off while the batch waited for its turn.
		return result{}, context.Cause(ctx)
	}
	return e.attempt(ctx, endpoint, call, id)
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

// attemptID says which attempt of which batch it is, both counted from 0.
type attemptID struct{ batch, attempt int }

// attempt sends a batch once and reads, checks and rewrites the reply, all
// within the time for one attempt.
func (e *Engine) attempt(ctx context.Context, endpoint *Endpoint, call *Call, id attemptID) (result, error) {
	timeout := call.settings.Timeout
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, &TimeoutError{Limit: attemptLimit, After: timeout})
	defer cancel()
	res, err := e.exchange(ctx, endpoint, call, id)
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

// exchange sends a batch and reads the reply.
func (e *Engine) exchange(ctx context.Context, endpoint *Endpoint, call *Call, id attemptID) (result, error) {
	resp, err := endpoint.Transport.RoundTrip(call.upstreamRequest(ctx, endpoint, id))
	if err != nil {
		return result{}, newNetworkError(err, endpoint.Authorization)
	}
	defer func() { _ = resp.Body.Close() }()
	limits := replyLimits{MaxBody: e.maxResponseBody, Memory: e.memory}
	switch {
	case resp.StatusCode < 200:
		// The body of a connection that changed its protocol has no end.
		return result{}, newReplyError(resp, "it changes the protocol", nil, endpoint.Authorization)
	case isRedirect(resp.StatusCode):
		return result{}, newReplyError(resp, "it is a redirect, which is not followed", nil, endpoint.Authorization)
	case resp.StatusCode >= 300:
		return result{}, newStatusError(resp, readErrorBody(resp, limits), endpoint.Authorization)
	}
	res, err := e.readResult(call, id.batch, resp, endpoint.Authorization, limits)
	if reply, ok := errors.AsType[*ReplyError](err); ok {
		return result{}, newReplyError(resp, reply.Reason, reply.Err, endpoint.Authorization)
	}
	return res, err
}

// readResult reads a reply and makes a result of it.
func (e *Engine) readResult(call *Call, batch int, resp *http.Response, authorization string, limits replyLimits) (result, error) {
	body, err := readReply(resp, limits)
	if err != nil {
		return result{}, err
	}
	res, err := e.result(call, batch, endToEnd(resp.Header, authorization), body)
	if err == nil {
		if err = res.keep(e.memory); err == nil {
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

// upstreamRequest makes the HTTP request of an attempt.
func (c *Call) upstreamRequest(ctx context.Context, endpoint *Endpoint, id attemptID) *http.Request {
	body := c.plan.batch(id.batch)
	req := &http.Request{
		Method:        http.MethodPost,
		URL:           c.upstreamURL(endpoint.URL),
		Host:          endpoint.URL.Host,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        c.upstreamHeader(ctx, endpoint, id),
		Body:          body.open(),
		GetBody:       func() (io.ReadCloser, error) { return body.open(), nil },
		ContentLength: body.size(),
	}
	return req.WithContext(ctx)
}

// upstreamURL is the request's path below the endpoint's.
func (c *Call) upstreamURL(base *url.URL) *url.URL {
	u := *base
	u.Path = strings.TrimSuffix(u.Path, "/") + c.req.Path
	if u.RawPath != "" {
		u.RawPath = strings.TrimSuffix(u.RawPath, "/") + c.req.Path
	}
	u.RawQuery = c.req.RawQuery
	return &u
}

// upstreamHeader makes the header of an attempt. The deadlines say what is left
// at this moment.
func (c *Call) upstreamHeader(ctx context.Context, endpoint *Endpoint, id attemptID) http.Header {
	h := make(http.Header, len(c.req.Header)+10)
	for name, values := range c.req.Header {
		h[http.CanonicalHeaderKey(name)] = values
	}
	h.Set("Content-Type", "application/json")
	h.Set("Accept", "application/json, application/msgpack")
	h.Set("Accept-Encoding", "zstd, gzip")
	h.Set("X-Baseten-Customer-Request-Id",
		c.req.ID+"-"+strconv.Itoa(id.batch)+"-"+strconv.Itoa(id.attempt))
	h.Del("Authorization")
	if endpoint.Authorization != "" {
		h.Set("Authorization", endpoint.Authorization)
	}
	if deadline, ok := ctx.Deadline(); ok {
		left := max(time.Until(deadline).Milliseconds(), 1)
		h.Set("Request-Timeout-Ms", strconv.FormatInt(left, 10))
		h.Set("Request-Deadline-Ms", strconv.FormatInt(deadline.UnixMilli(), 10))
	}
	// An empty value marks the request as one that the transport may send again
	// on another connection when a kept one turns out to be closed; it is not
	// sent. Computing the same batch twice does no harm.
	h["Idempotency-Key"] = []string{}
	if _, ok := h["User-Agent"]; !ok {
		h.Set("User-Agent", "baseten-performance-proxy")
	}
	return h
}
