package handler

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

// The headers of clients that the proxy reads.
const (
	headerTargetHost      = "X-Target-Host"
	headerPreferences     = "X-Baseten-Request-Preferences"
	headerModel           = "X-Baseten-Model"
	headerRequestID       = "X-Baseten-Customer-Request-Id"
	headerRequestTimeout  = "Request-Timeout-Ms"
	headerRequestDeadline = "Request-Deadline-Ms"
)

const (
	// maxModelName is the largest size of a model's name in bytes.
	maxModelName = 1 << 10

	// maxRequestID is the largest size of a client's request id in bytes.
	maxRequestID = 256
)

// singleHeader returns the one value of the header name, empty when it was not
// sent. More than one is an [engine.RequestError]: programs on the way may
// disagree on which one counts.
func singleHeader(h http.Header, name string) (string, error) {
	values := h.Values(name)
	if len(values) > 1 {
		return "", &engine.RequestError{Field: name, Message: "must not be sent more than once"}
	}
	if len(values) == 0 {
		return "", nil
	}
	return values[0], nil
}

// modelOverride returns the model that the client names in X-Baseten-Model,
// empty when it names none.
func modelOverride(h http.Header) (string, error) {
	model, err := singleHeader(h, headerModel)
	if err != nil {
		return "", err
	}
	if len(model) > maxModelName || !utf8.ValidString(model) {
		return "", &engine.RequestError{
			Field:   headerModel,
			Message: fmt.Sprintf("must be valid UTF-8 of at most %d bytes", maxModelName),
		}
	}
	return model, nil
}

// requestID returns the client's id of the request, and makes one up when it
// sent none. The id goes upstream in a header and into logs.
func requestID(h http.Header) (string, error) {
	id, err := singleHeader(h, headerRequestID)
	if err != nil {
		return "", err
	}
	if id == "" {
		return uuid.NewString(), nil
	}
	if len(id) > maxRequestID || !isVisibleASCII(id) {
		return "", &engine.RequestError{
			Field:   headerRequestID,
			Message: fmt.Sprintf("must be visible ASCII characters without spaces, at most %d", maxRequestID),
		}
	}
	return id, nil
}

// clientDeadline returns the earlier of the client's own deadlines and the name
// of the header that set it; the zero time and no name when it set none. A
// deadline that has passed is returned as it is.
func clientDeadline(h http.Header, now time.Time) (deadline time.Time, limitName string, err error) {
	span, limited, err := millisecondsHeader(h, headerRequestTimeout)
	if err != nil {
		return time.Time{}, "", err
	}
	if limited && span <= math.MaxInt64/int64(time.Millisecond) {
		deadline, limitName = now.Add(time.Duration(span)*time.Millisecond), headerRequestTimeout
	}
	instant, limited, err := millisecondsHeader(h, headerRequestDeadline)
	if err != nil {
		return time.Time{}, "", err
	}
	if limited {
		if at := time.UnixMilli(instant); limitName == "" || at.Before(deadline) {
			deadline, limitName = at, headerRequestDeadline
		}
	}
	return deadline, limitName, nil
}

// millisecondsHeader returns the header's number of milliseconds and whether it
// sets a limit: no header sets none, and neither does a number that is too
// large to count.
func millisecondsHeader(h http.Header, name string) (milliseconds int64, limited bool, err error) {
	if len(h.Values(name)) == 0 {
		return 0, false, nil
	}
	text, err := singleHeader(h, name)
	if err != nil {
		return 0, false, err
	}
	if !isDigits(text) {
		return 0, false, &engine.RequestError{
			Field:   name,
			Message: "must be a whole number of milliseconds, 0 or more, in decimal digits",
		}
	}
	// Digits alone can only be out of range.
	milliseconds, err = strconv.ParseInt(text, 10, 64)
	return milliseconds, err == nil, nil
}

// isDigits reports whether s is one or more decimal digits.
func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
