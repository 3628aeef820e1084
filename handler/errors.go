package handler

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

// statusClientClosed is logged for a client that left; it follows nginx.
const statusClientClosed = 499

// overloadRetryAfter is the Retry-After in seconds of an answer by which the
// proxy refuses work because of its own limits.
const overloadRetryAfter = "1"

// routeError is a request that no operation answers to.
type routeError struct {
	Status  int
	Message string
}

func (e *routeError) Error() string { return e.Message }

// failure is what a client gets to know of an error.
type failure struct {
	Error             string          `json:"error"`
	Path              string          `json:"path"`
	Method            string          `json:"method"`
	Type              string          `json:"type,omitempty"`
	Code              json.RawMessage `json:"code,omitempty"`
	CustomerRequestID string          `json:"customer_request_id,omitempty"`
	UpstreamStatus    int             `json:"upstream_status,omitempty"`
	Batch             *int            `json:"batch,omitempty"`

	status     int
	retryAfter string
}

// newFailure is the table of errors: which status each has and what is said of
// it. The context is the request's.
func newFailure(ctx context.Context, err error) *failure {
	f := &failure{Error: err.Error()}
	var batch *engine.BatchError
	if errors.As(err, &batch) {
		f.Batch, f.Error = &batch.Batch, batch.Err.Error()
	}
	var (
		request      *engine.RequestError
		route        *routeError
		tooLarge     *tooLargeError
		forbidden    *forbiddenError
		address      *engine.ForbiddenAddressError
		unauthorized *unauthorizedError
		status       *engine.StatusError
		reply        *engine.ReplyError
		network      *engine.NetworkError
		timeout      *engine.TimeoutError
		gone         *clientGoneError
	)
	switch {
	// A deadline that passes while the body is read ends the context, too.
	case errors.As(err, &gone), ctx.Err() != nil && !errors.As(err, &timeout):
		f.status, f.Error = statusClientClosed, "the client closed the request"
	case errors.As(err, &request):
		f.status, f.Type = http.StatusBadRequest, "invalid_request"
	case errors.As(err, &route):
		f.status, f.Type = route.Status, "invalid_request"
	case errors.As(err, &tooLarge):
		f.status, f.Type = http.StatusRequestEntityTooLarge, "request_too_large"
	case errors.As(err, &forbidden):
		f.status, f.Type = http.StatusForbidden, "forbidden"
	case errors.As(err, &address):
		f.status, f.Type = http.StatusForbidden, "forbidden"
		f.Error = "the target does not resolve to a public address, and allowed_targets does not name it"
	case errors.As(err, &unauthorized):
		f.status, f.Type = http.StatusUnauthorized, "unauthorized"
	case errors.Is(err, engine.ErrOverloaded):
		f.status, f.Type, f.retryAfter = http.StatusServiceUnavailable, "overloaded", overloadRetryAfter
	case errors.As(err, &status):
		f.upstreamSaid(status)
	case errors.As(err, &reply):
		f.status, f.Type, f.UpstreamStatus = http.StatusBadGateway, "bad_upstream_reply", reply.Status
		f.retryAfter = reply.RetryAfter
	case errors.As(err, &network):
		f.status, f.Type, f.Error = http.StatusBadGateway, "upstream_unreachable", "upstream unreachable: "+network.Cause
	case errors.As(err, &timeout):
		f.status, f.Type = http.StatusGatewayTimeout, "timeout"
	default:
		f.status, f.Type, f.Error = http.StatusInternalServerError, "internal_error", "internal error"
	}
	return f
}

// upstreamSaid passes on what the upstream said: its own status where the
// request was at fault, 502 where the upstream was.
func (f *failure) upstreamSaid(e *engine.StatusError) {
	f.status, f.UpstreamStatus, f.retryAfter = e.Status, e.Status, e.RetryAfter
	if e.Status < 400 || e.Status > 499 {
		f.status = http.StatusBadGateway
	}
	if e.Message != "" {
		f.Error = e.Message
	}
	f.Type, f.Code = e.Type, json.RawMessage(e.Code)
}

// write sends the failure to the client.
func (f *failure) write(w http.ResponseWriter, r *http.Request) {
	f.Path, f.Method = r.URL.Path, methodName(r.Method)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	if f.retryAfter != "" {
		h.Set("Retry-After", f.retryAfter)
	}
	if f.CustomerRequestID != "" {
		h.Set(headerRequestID, f.CustomerRequestID)
	}
	w.WriteHeader(f.status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	// The client may have gone; there is nobody to tell.
	_ = enc.Encode(f)
}

// methodName writes a method the way the original does: POST as Post.
func methodName(method string) string {
	if method == "" {
		return ""
	}
	return strings.ToUpper(method[:1]) + strings.ToLower(method[1:])
}
