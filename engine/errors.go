package engine

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// ErrOverloaded is returned when the engine's own limits, such as its memory,
// leave no room for the request at this moment. The request may be sent again
// later.
var ErrOverloaded = errors.New("the proxy is overloaded")

// A RequestError says what is wrong with the request itself. Nothing was sent.
type RequestError struct {
	// Field names the header, parameter or member of the body; empty when the
	// document as a whole is wrong.
	Field string
	// Message says what was expected there.
	Message string
}

func (e *RequestError) Error() string {
	if e.Field == "" {
		return e.Message
	}
	return e.Field + ": " + e.Message
}

// A BatchError says which batch of a request failed; it wraps the cause, one of
// [StatusError], [ReplyError], [NetworkError], [TimeoutError] or [ErrOverloaded].
type BatchError struct {
	// Batch is the index of the batch, from 0.
	Batch int
	// Attempts is how often it was tried, copies not counted.
	Attempts int
	// Endpoint is where the last attempt was made, nil when none was.
	Endpoint *Endpoint
	// Refused is the budget that had no further retry left; empty when that is not
	// the reason why there was none.
	Refused Budget
	Err     error
}

func (e *BatchError) Error() string { return fmt.Sprintf("batch %d: %v", e.Batch, e.Err) }
func (e *BatchError) Unwrap() error { return e.Err }

// A StatusError is a reply whose status is not 2xx.
type StatusError struct {
	Status int
	// Message is what the upstream said, at most 2 KiB of it.
	Message string
	// Type is the upstream's error_type or type, empty when it gave none.
	Type string
	// Code is the upstream's code as raw JSON, empty when it gave none.
	Code string
	// RetryAfter is the upstream's Retry-After header, empty when it gave none.
	RetryAfter string
}

func (e *StatusError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("upstream answered with status %d", e.Status)
	}
	return fmt.Sprintf("upstream answered with status %d: %s", e.Status, e.Message)
}

// A ReplyError is a reply that broke off, cannot be read or fails a check:
// nothing of it may be used.
type ReplyError struct {
	// Status is the status of the reply.
	Status int
	// Reason says what is wrong with it.
	Reason string
	// RetryAfter is the reply's Retry-After header, empty when it gave none.
	RetryAfter string
	// Broken says that it broke off.
	Broken bool
	// Err is the underlying error, nil where there is none.
	Err error
}

func (e *ReplyError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("broken upstream reply: %s: %v", e.Reason, e.Err)
	}
	return "broken upstream reply: " + e.Reason
}
func (e *ReplyError) Unwrap() error { return e.Err }

// A NetworkError is a connection that could not be made or broke before the
// head of the reply was there.
type NetworkError struct {
	// Cause says what happened without naming the addresses that Err may name:
	// they are nobody's business who is not the operator.
	Cause string
	Err   error
}

func (e *NetworkError) Error() string { return "upstream unreachable: " + e.Err.Error() }
func (e *NetworkError) Unwrap() error { return e.Err }

// errNoEndpoint is returned when a group has no members.
var errNoEndpoint = &NetworkError{Cause: "there is no endpoint", Err: errors.New("there is no endpoint")}

// newNetworkError makes an error of what the transport says, which may hold what
// the upstream sent.
func newNetworkError(err error, authorization string) *NetworkError {
	cause := err
	for inner := errors.Unwrap(cause); inner != nil; inner = errors.Unwrap(cause) {
		cause = inner
	}
	text := cause.Error()
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		text = dns.Err
	} else if dial, ok := errors.AsType[*dialError](err); ok {
		text = dial.cause
	}
	s := newSecret(authorization)
	return &NetworkError{Cause: s.clean(text), Err: &cleanError{text: s.clean(err.Error()), err: err}}
}

// A dialError is a connection that could not be made.
type dialError struct {
	err error
	// cause is the last part of what err says, without addresses and names.
	cause string
	// refused says that nobody listens at the address.
	refused bool
}

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// newDialError makes an error of what dialing says. Some dialers, like Caddy's,
// hide what is inside of their errors, so that only the text is left to go by.
func newDialError(err error) *dialError {
	text := err.Error()
	refused := syscall.ECONNREFUSED
	return &dialError{
		err:     err,
		cause:   strings.TrimSpace(text[strings.LastIndex(text, ": ")+1:]),
		refused: errors.Is(err, refused) || strings.HasSuffix(text, refused.Error()),
	}
}

// newReplyError makes an error of what is wrong with a reply, which may hold
// parts of it.
func newReplyError(resp *http.Response, reason string, err error, authorization string) *ReplyError {
	s := newSecret(authorization)
	e := &ReplyError{Status: resp.StatusCode, Reason: s.clean(reason), RetryAfter: retryAfter(resp.Header)}
	if err != nil {
		e.Err = &cleanError{text: s.clean(err.Error()), err: err}
	}
	return e
}

// cleanError is an error with a text in which no key shows, and which is not
// long.
type cleanError struct {
	text string
	err  error
}

func (e *cleanError) Error() string { return e.text }
func (e *cleanError) Unwrap() error { return e.err }

// A TimeoutError is a time limit that passed.
type TimeoutError struct {
	// Limit names the setting or header that set the limit, such as timeout_s.
	Limit string
	// After is the time that the limit left, zero or less when it had passed at
	// the start.
	After time.Duration
	// Needs is set when nothing was sent because the limit cannot suffice: the
	// least time that the request takes, judged by the replies of the last
	// seconds.
	Needs time.Duration
}

func (e *TimeoutError) Error() string {
	if e.Needs > 0 {
		return fmt.Sprintf("the request takes at least %v, and %s leaves it %v; nothing was sent",
			e.Needs.Round(time.Millisecond), e.Limit, e.After.Round(time.Millisecond))
	}
	if e.After <= 0 {
		return fmt.Sprintf("the deadline set by %s had passed before the request came", e.Limit)
	}
	return fmt.Sprintf("no complete upstream reply within %v, the limit set by %s", e.After.Round(time.Millisecond), e.Limit)
}

// A PanicError is a bug in the engine: a panic in one of its goroutines.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("internal error: %v", e.Value) }
