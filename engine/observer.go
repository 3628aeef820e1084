package engine

import "time"

// An Observer is told what an engine does, for metrics and logs. Its methods
// are called from many goroutines at once, in the middle of the work, and must
// not block. The errors that they are given hold no keys.
type Observer interface {
	// Waited tells of an attempt that waited for its turn at an endpoint because
	// of MaxRequests, MaxItems or what it had rejected, whether its turn came or not.
	Waited(e *Endpoint, wait time.Duration)
	// Attempted tells of every attempt that is over, copies included.
	Attempted(a Attempt)
	// Retrying tells that a batch will be tried again, at e after a wait, because
	// of err.
	Retrying(e *Endpoint, wait time.Duration, err error)
	// Refused tells that a retry or a copy was not made because the budget was
	// spent.
	Refused(b Budget)
	// HealthChanged tells that an endpoint is taken to be up or down because of
	// the attempts at it, with the error of the last one.
	HealthChanged(e *Endpoint, up bool, err error)
}

// An Attempt is one sending of one batch to one endpoint.
type Attempt struct {
	Endpoint *Endpoint
	// ID is the id of the request with what tells its attempts apart, as the
	// endpoint got it.
	ID string
	// Items is the number of items in the batch.
	Items int
	// Retry counts the attempts of the batch before this one, copies not
	// included.
	Retry int
	// Copy is 0 for the attempt itself and 1 or 2 for its copies ("hedges").
	Copy int
	// Took is the time from its sending to its end.
	Took time.Duration
	// Err is nil when its reply was complete and good.
	Err error
	// Lost says that it was called off because another copy was answered first.
	Lost bool
}

// A Budget is one of the bounds of what is tried again.
type Budget string

// The budgets.
const (
	// RequestRetries bounds the retries of one request after timeouts, network
	// errors and broken replies.
	RequestRetries Budget = "request_retries"
	// GroupRetries bounds the retries of all requests to a group after statuses.
	GroupRetries Budget = "group_retries"
	// RequestHedges bounds the copies of one request.
	RequestHedges Budget = "request_hedges"
)

// unobserved is the Observer of engines that have none.
type unobserved struct{}

func (unobserved) Waited(*Endpoint, time.Duration)          {}
func (unobserved) Attempted(Attempt)                        {}
func (unobserved) Retrying(*Endpoint, time.Duration, error) {}
func (unobserved) Refused(Budget)                           {}
func (unobserved) HealthChanged(*Endpoint, bool, error)     {}
