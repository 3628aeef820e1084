package rig

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

// headerRequestID carries the customer request id.
const headerRequestID = "X-Baseten-Customer-Request-Id"

// A CallID is what the request id of a call upstream says: the client's id with
// -<batch>-<attempt> behind it, and -hedge-<copy> behind that for a copy.
type CallID struct {
	Request        string
	Batch, Attempt int
	// Hedge tells that the call is a copy of the attempt.
	Hedge bool
}

// CallIDOf reads the request id of a call. It is the zero value with the whole
// id as Request when the id has another form. Ids of clients must not hold a
// dash.
func CallIDOf(c *enginetest.Call) CallID { return parseCallID(c.Header) }

func parseCallID(h http.Header) CallID {
	id := h.Get(headerRequestID)
	main, _, hedge := strings.Cut(id, "-hedge-")
	parts := strings.Split(main, "-")
	if len(parts) != 3 {
		return CallID{Request: id}
	}
	batch, err := strconv.Atoi(parts[1])
	if err != nil {
		return CallID{Request: id}
	}
	attempt, err := strconv.Atoi(parts[2])
	if err != nil {
		return CallID{Request: id}
	}
	return CallID{Request: parts[0], Batch: batch, Attempt: attempt, Hedge: hedge}
}
