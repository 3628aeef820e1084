package engine

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// attemptID says which attempt of which batch it is, both counted from 0, and
// which copy of it: 0 is the attempt itself.
type attemptID struct{ batch, attempt, copy int }

// suffix is what the attempt's request id ends with.
func (id attemptID) suffix() string {
	s := "-" + strconv.Itoa(id.batch) + "-" + strconv.Itoa(id.attempt)
	if id.copy > 0 {
		s += "-hedge-" + strconv.Itoa(id.copy)
	}
	return s
}

// upstreamRequest makes the HTTP request of an attempt.
func (r *run) upstreamRequest(ctx context.Context, endpoint *Endpoint, id attemptID) *http.Request {
	c := r.call
	body := c.plan.batch(id.batch)
	req := &http.Request{
		Method:        http.MethodPost,
		URL:           c.upstreamURL(endpoint.url),
		Host:          endpoint.host,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        c.upstreamHeader(ctx, r.to.Authorization, id),
		Body:          body.open(),
		GetBody:       rewindOnce(body),
		ContentLength: body.size(),
	}
	return req.WithContext(ctx)
}

// errSentAgain is returned when the transport wants to send a request a third
// time because the server has not begun with it.
var errSentAgain = errors.New("the server did not take the request twice")

// rewindOnce returns the GetBody of a request. Transports of net/http send a
// request again at once when the connection turns out to be closed or the server
// refuses the stream; they would go on over all connections that are kept, and
// with waits of their own, during which the batch keeps its place. One more time
// is theirs, all others are retries.
func rewindOnce(body batchBody) func() (io.ReadCloser, error) {
	var rewound atomic.Bool
	return func() (io.ReadCloser, error) {
		if rewound.Swap(true) {
			return nil, errSentAgain
		}
		return body.open(), nil
	}
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
func (c *Call) upstreamHeader(ctx context.Context, authorization string, id attemptID) http.Header {
	h := make(http.Header, len(c.req.Header)+10)
	for name, values := range c.req.Header {
		h[http.CanonicalHeaderKey(name)] = values
	}
	h.Set("Content-Type", "application/json")
	h.Set("Accept", "application/json, application/msgpack")
	h.Set("Accept-Encoding", "zstd, gzip")
	h.Set("X-Baseten-Customer-Request-Id", c.req.ID+id.suffix())
	h.Del("Authorization")
	if authorization != "" {
		h.Set("Authorization", authorization)
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
