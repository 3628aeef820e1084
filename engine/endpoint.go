package engine

import (
	"errors"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"
)

// EndpointOptions say where an endpoint is and what it is spared.
type EndpointOptions struct {
	// URL is where the server's paths begin: scheme, host and a path to which
	// the request's path is appended.
	URL *url.URL
	// Host is the Host header of requests, for endpoints whose URL holds an
	// address in the place of a name. Default: the host of the URL.
	Host string
	// MaxRequests is how many attempts may be in flight to the endpoint at once,
	// over all requests; the rest wait for their turn. Zero means no bound.
	MaxRequests int
	// MaxItems is the same, counted in items. A batch of more items goes alone.
	MaxItems int
	// Health says when the endpoint counts as down.
	Health HealthOptions
}

// An Endpoint is a model server and what is known of it: its health, how long
// its replies took, and what is in flight to it. It holds no connections and
// needs no closing. It is safe for concurrent use, and is meant to be shared by
// all requests to the server.
type Endpoint struct {
	url     *url.URL
	host    string
	limiter *limiter
	latency latencies
	health  *health
	// load counts the items of the attempts that were given to the endpoint,
	// those that wait for their turn included.
	load atomic.Int64
	// back is closed at the next good reply; nil when nobody waits for it.
	back atomic.Pointer[chan struct{}]
}

// NewEndpoint returns an endpoint that is up and of which nothing is known.
func NewEndpoint(o EndpointOptions) *Endpoint {
	e := &Endpoint{
		url:     o.URL,
		host:    o.Host,
		limiter: newLimiter(limiterOptions{MaxRequests: o.MaxRequests, MaxItems: o.MaxItems}),
		health:  newHealth(o.Health),
	}
	if e.host == "" {
		e.host = o.URL.Host
	}
	return e
}

// URL returns where the server's paths begin. It is not to be changed.
func (e *Endpoint) URL() *url.URL { return e.url }

// Up reports whether the endpoint is taken to work: it is down after failures
// in a row, and when active checks say so.
func (e *Endpoint) Up() bool { return e.health.up() }

// InFlight returns how many attempts are under way at the endpoint at this
// moment, and of how many items.
func (e *Endpoint) InFlight() (requests, items int) { return e.limiter.inFlight() }

// A choice is an endpoint that was chosen for one attempt. When probe is set,
// the attempt finds out whether the endpoint is up again, and its end must be
// reported whatever becomes of it.
type choice struct {
	endpoint *Endpoint
	probe    bool
	// fresh says that the endpoint is up and the batch has not tried it yet, and
	// paid that the retry was paid for all the same.
	fresh, paid bool
}

// abandon reports that the attempt was not made.
func (c choice) abandon() {
	if c.probe {
		c.endpoint.health.report(attemptEnd{outcome: inconclusive, probe: true})
	}
}

// attemptReport is what there is to say about an attempt when it is over.
type attemptReport struct {
	items, size int
	// load is what the endpoint had to do beside it when it was sent, in items.
	load int64
	sent time.Time
	took time.Duration
	err  error
	// overtaken says that a copy that was sent later was answered first.
	overtaken bool
}

// How long an attempt that is called off must have been under way to count as a
// failure: at least so long, and twice as long as is usual for the endpoint where
// that is known.
const (
	minPatience     = 500 * time.Millisecond
	unknownPatience = time.Second
)

// settle takes note of an attempt that is over, before its place is given back.
// It reports whether it changed what the endpoint is taken for.
func (c choice) settle(r attemptReport) (changed bool) {
	e := c.endpoint
	usual, known := e.latency.percentile95(r.size)
	patience := unknownPatience
	if known {
		patience = max(minPatience, 2*usual)
	}
	switch {
	case r.err == nil:
		e.latency.add(r.size, r.took, r.load)
		e.limiter.answered(r.items)
		e.isBack()
	case r.overtaken && known && r.took >= usual:
		// It would have taken longer than this.
		e.latency.add(r.size, r.took, r.load)
	case statusOf(r.err) == http.StatusTooManyRequests:
		e.limiter.rejected(r.items)
	}
	return e.health.report(attemptEnd{
		outcome: e.verdict(r, patience),
		probe:   c.probe,
		sent:    r.sent,
	})
}

// verdict says what an attempt tells of the endpoint's health. One that was
// called off after it had taken longer than patience is taken for one that would
// never have been answered, and so is one that was overtaken: of endpoints that
// work, good replies come between.
func (e *Endpoint) verdict(r attemptReport, patience time.Duration) outcome {
	if r.err == nil {
		if e.health.tooSlow(r.took) {
			return failed
		}
		return succeeded
	}
	if status, ok := errors.AsType[*StatusError](r.err); ok {
		switch {
		case e.health.countsAsFailure(status.Status):
			return failed
		case status.Status == http.StatusTooManyRequests:
			return inconclusive
		}
		return succeeded
	}
	if _, ok := errors.AsType[*ForbiddenAddressError](r.err); ok || errors.Is(r.err, ErrOverloaded) {
		return inconclusive
	}
	if timeout, ok := errors.AsType[*TimeoutError](r.err); ok && timeout.Limit == attemptLimit {
		return failed
	}
	if _, ok := errors.AsType[*NetworkError](r.err); ok {
		return failed
	}
	if _, ok := errors.AsType[*ReplyError](r.err); ok {
		return failed
	}
	if _, ok := errors.AsType[*PanicError](r.err); ok || errors.Is(r.err, errCalledOff) {
		return inconclusive
	}
	if r.overtaken || r.took >= patience {
		return failed
	}
	return inconclusive
}

// backAgain returns what is closed when the endpoint gives the next good reply, for
// a batch that failed with err because nobody listened: when a server restarts,
// the first one to find that it is back wakes those that would sleep on. It is nil
// for all other errors.
func (e *Endpoint) backAgain(err error) <-chan struct{} {
	if dial, ok := errors.AsType[*dialError](err); !ok || !dial.refused {
		return nil
	}
	for {
		if back := e.back.Load(); back != nil {
			return *back
		}
		back := make(chan struct{})
		if e.back.CompareAndSwap(nil, &back) {
			return back
		}
	}
}

// isBack wakes those who wait for the endpoint to be back.
func (e *Endpoint) isBack() {
	if e.back.Load() == nil {
		return
	}
	if back := e.back.Swap(nil); back != nil {
		close(*back)
	}
}

// statusOf returns the status of an attempt that failed with one, else 0.
func statusOf(err error) int {
	if status, ok := errors.AsType[*StatusError](err); ok {
		return status.Status
	}
	return 0
}
