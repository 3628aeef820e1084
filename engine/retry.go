package engine

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"time"
)

const (
	// backoffFactor is how much longer each wait may be than the one before.
	backoffFactor = 4
	// maxBackoff is the longest wait that the engine makes up itself.
	maxBackoff = 45 * time.Second
)

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
	// again.
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

// mayRetry spends what a retry after err costs and reports whether it may be
// made.
func (c *Call) mayRetry(endpoint *Endpoint, err error, tried int) bool {
	if tried >= c.settings.MaxRetries {
		return false
	}
	switch c.class(err, tried) {
	case retriedByRequest:
		return c.retries.take()
	case retriedByGroup:
		return endpoint.Retries == nil || endpoint.Retries.take()
	case retriedFree:
		return true
	}
	return false
}

// backoff returns how long to wait before attempt number tried+1: at random up
// to a bound that grows with every attempt ("full jitter"), and at least as long
// as the upstream asked for.
//
// See "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
func (c *Call) backoff(err error, tried int) time.Duration {
	bound := min(c.settings.InitialBackoff, maxBackoff)
	for range tried {
		bound = min(bound*backoffFactor, maxBackoff)
	}
	wait := rand.N(bound + 1)
	return max(wait, asksToWait(retryAfterOf(err), time.Now()))
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
