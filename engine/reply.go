package engine

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// replyLimits bound what one reply may take.
type replyLimits struct {
	// MaxBody is the largest body in bytes, both as it comes and unpacked, from
	// 1 to 2^62.
	MaxBody int64
	// Memory is the budget that the body is held in; nil means no limit.
	Memory *Memory
}

// doingRead says what went wrong when a body breaks off.
const doingRead = "read the body"

// firstRead is the room for a body of unknown length before anything of it was
// seen.
const firstRead = 32 << 10

// trustedLength is how much of a declared length is reserved before anything of
// the body was seen: a lie beyond that costs nothing.
const trustedLength = 4 << 20

// readReply reads the whole body of resp, unpacks it, turns MessagePack into
// JSON and closes it; the headers of resp then describe what is returned. The
// caller releases the buffer. A connection whose reply was read to its end
// serves other requests, every other one is given up.
//
// The error is a [*ReplyError] when the body breaks off, cannot be unpacked or
// passes limits.MaxBody. It wraps [ErrOverloaded] when limits.Memory has no
// room, and the error of the request's context when that ended the reading.
func readReply(resp *http.Response, limits replyLimits) (*buffer, error) {
	coding, err := contentCoding(resp.Header)
	if err != nil {
		_ = resp.Body.Close() // nothing of it is of interest
		return nil, &ReplyError{Status: resp.StatusCode, Reason: "unpack the body", Err: err}
	}
	body, err := readBody(resp, limits)
	_ = resp.Body.Close() // whether the body is whole was found out by reading it
	if err != nil {
		return nil, replyFault(resp, limits, doingRead, err)
	}
	if coding != codingIdentity {
		body, err = replaceBuffer(body, func(src []byte) (*buffer, error) {
			return unpack(coding, src, limits)
		})
		if err != nil {
			return nil, replyFault(resp, limits, "unpack the body", err)
		}
		resp.Header.Del("Content-Encoding")
		resp.Header.Del("Content-Length")
	}
	if isMsgpack(resp.Header) {
		body, err = replaceBuffer(body, func(src []byte) (*buffer, error) {
			return msgpackToJSON(src, limits)
		})
		if err != nil {
			return nil, replyFault(resp, limits, "convert the body", err)
		}
		resp.Header.Set("Content-Type", "application/json")
		resp.Header.Del("Content-Length")
	}
	return body, nil
}

// readBody reads the body as it comes.
func readBody(resp *http.Response, limits replyLimits) (whole *buffer, err error) {
	declared := resp.ContentLength
	if declared > limits.MaxBody {
		return nil, errTooLarge
	}
	room := min(declared, trustedLength)
	if declared < 0 {
		room = min(firstRead, limits.MaxBody)
	}
	body, err := acquireBuffer(limits.Memory, room)
	if err != nil {
		return nil, err
	}
	defer func() {
		// Also when the transport panics.
		if whole == nil {
			body.release()
		}
	}()
	if declared == room {
		err = body.fillExactly(resp.Body, int(declared))
	} else {
		// The transport ends the body at the length that was declared.
		err = body.fill(resp.Body, limits.MaxBody)
	}
	if err != nil {
		return nil, err
	}
	return body, nil
}

// replaceBuffer returns what convert makes of the content of b, which it
// releases.
func replaceBuffer(b *buffer, convert func(src []byte) (*buffer, error)) (*buffer, error) {
	defer b.release()
	return convert(b.b)
}

// replyFault tells the faults of a reply from what is not the upstream's fault.
func replyFault(resp *http.Response, limits replyLimits, doing string, err error) error {
	if errors.Is(err, ErrOverloaded) {
		return fmt.Errorf("%s of the reply: %w", doing, err)
	}
	if errors.Is(err, errTooLarge) {
		return &ReplyError{
			Status: resp.StatusCode,
			Reason: fmt.Sprintf("%s of more than %d bytes", doing, limits.MaxBody),
			Err:    errTooLarge,
		}
	}
	if ended := contextError(resp, err); ended != nil {
		return fmt.Errorf("%s of the reply: %w", doing, ended)
	}
	return &ReplyError{Status: resp.StatusCode, Reason: doing, Broken: doing == doingRead, Err: err}
}

// contextError returns an error that wraps that of the request's context when
// the context has ended, and nil otherwise. The transport fails a read with the
// cause of the context, which need not wrap [context.Canceled].
func contextError(resp *http.Response, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if resp.Request == nil || resp.Request.Context().Err() == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", resp.Request.Context().Err(), err)
}
