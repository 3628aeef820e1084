package engine

import (
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
	// maxRetryAfter is the largest Retry-After in seconds, 68 years; what is longer
	// is as good as this.
	maxRetryAfter = 1<<31 - 1
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
	// again, and a request that it has not begun with.
	retriedFree
)

// class says whether and at what cost an attempt that failed may be made again.
func (d *delivery) class(err error) retryClass {
	if status, ok := errors.AsType[*StatusError](err); ok {
		return d.statusClass(status)
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
	if notBegun(err) {
		return retriedFree
	}
	return retriedByRequest
}

// notBegun reports whether the server cannot have begun with what failed: nobody
// listened, or it refused the stream (RFC 9113, section 8.7).
func notBegun(err error) bool {
	if dial, ok := errors.AsType[*dialError](err); ok {
		return dial.refused
	}
	stream, ok := errors.AsType[http2.StreamError](err)
	return ok && stream.Code == http2.ErrCodeRefusedStream || errors.Is(err, errSentAgain)
}

// statusClass is class for a reply with a status that is not 2xx.
func (d *delivery) statusClass(e *StatusError) retryClass {
	switch {
	case slices.Contains(d.call.settings.NonRetryableStatusCodes, e.Status):
		return neverRetried
	case e.Status == http.StatusFailedDependency && d.dependencyFailed() > 1:
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

// dependencyFailed counts the attempts that failed with 424.
func (d *delivery) dependencyFailed() (n int) {
	for _, a := range d.tried {
		if statusOf(a.err) == http.StatusFailedDependency {
			n++
		}
	}
	return n
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
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil {
		return time.Duration(min(seconds, maxRetryAfter)) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, date.Sub(now))
	}
	return 0
}

// isRedirect reports whether a status is a redirect.
func isRedirect(status int) bool { return status >= 300 && status < 400 }
