package handler

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

// bodyStep is how much memory is reserved and made at first, so that a client that
// promises much and sends little holds little.
const bodyStep = 64 << 10

// tooLargeError is a body over a limit, answered with 413.
type tooLargeError struct {
	Setting string
	Limit   int64
}

func (e *tooLargeError) Error() string {
	return fmt.Sprintf("the request body is over %s, %d bytes", e.Setting, e.Limit)
}

// clientGoneError is a request whose client left before it was read.
type clientGoneError struct{ Err error }

func (e *clientGoneError) Error() string { return "reading the request body: " + e.Err.Error() }
func (e *clientGoneError) Unwrap() error { return e.Err }

// bodyReader reads request bodies within their limits.
type bodyReader struct {
	max    int64
	memory *engine.Memory
}

// check refuses a body whose declared length is over a limit.
func (b bodyReader) check(r *http.Request) error {
	if limit := b.memory.Limit(); limit > 0 && r.ContentLength > limit {
		return &tooLargeError{Setting: "max_memory", Limit: limit}
	}
	if r.ContentLength > b.max {
		return &tooLargeError{Setting: "max_request_body", Limit: b.max}
	}
	return nil
}

// read reads the whole body. The memory is held until release is called, which
// is never nil.
func (b bodyReader) read(r *http.Request) (body []byte, release func(), err error) {
	held := 0
	release = func() { b.memory.Release(int64(held)) }
	if err := b.check(r); err != nil {
		return nil, release, err
	}
	for {
		if len(body) == cap(body) {
			size := min(nextSize(cap(body), r.ContentLength), b.most(cap(body)))
			if !b.memory.Reserve(int64(size - held)) {
				return nil, release, b.refusal(int64(size))
			}
			held = size
			body = append(make([]byte, 0, size), body...)
		}
		n, err := r.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case int64(len(body)) > b.max:
			return nil, release, &tooLargeError{Setting: "max_request_body", Limit: b.max}
		case errors.Is(err, io.EOF):
			return body, release, nil
		case err != nil:
			return nil, release, readError(r, err)
		}
	}
}

// readError says why a body could not be read to its end: Caddy's request_body
// bounds it, the client left, or what it sent is no body.
func readError(r *http.Request, err error) error {
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &tooLargeError{Setting: "the server's limit", Limit: tooLarge.Limit}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	if r.Context().Err() != nil || errors.Is(err, io.ErrUnexpectedEOF) {
		return &clientGoneError{Err: err}
	}
	return &engine.RequestError{Message: "body: cannot be read: " + err.Error()}
}

// nextSize is the size of the buffer after one of the given size: twice as
// large, but no larger than a declared length needs. One byte more than that
// lets the end be seen without growing.
func nextSize(size int, declared int64) int {
	next := max(bodyStep, 2*size)
	if needed := declared + 1; declared >= 0 && int64(size) < needed {
		return int(min(int64(next), needed))
	}
	return next
}

// most is how large a buffer of the given size may grow: a byte over a limit
// shows that the limit is passed.
func (b bodyReader) most(size int) int {
	limit := b.max
	if memory := b.memory.Limit(); memory > 0 {
		limit = min(limit, memory-1)
	}
	return max(int(limit)+1, size+1)
}

// refusal is the error of a body for which there is no memory: too large where
// it would be too large alone, else overload.
func (b bodyReader) refusal(size int64) error {
	if size > b.memory.Limit() {
		return &tooLargeError{Setting: "max_memory", Limit: b.memory.Limit()}
	}
	return engine.ErrOverloaded
}
