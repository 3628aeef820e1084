package engine

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// A run is a call on its way to a destination and back.
type run struct {
	*Engine
	call  *Call
	to    Destination
	slots slots
	// copies are the attempts that have goroutines of their own.
	copies sync.WaitGroup

	// breaksMu guards breaks, when a connection to an endpoint broke first.
	breaksMu sync.Mutex
	breaks   map[*Endpoint]time.Time
}

// Run sends the batches of a call to the destination, at most
// MaxConcurrentRequests at once, and merges the replies. The first batch that
// fails ends the others; nothing of the replies is returned then. Run returns
// when nothing of the call is under way any more.
//
// Errors are a [*BatchError] around what happened to that batch, a
// [*TimeoutError] when the time for the whole request is over or cannot
// suffice, or the error of ctx when its owner ended it. A call is run once; the
// answer must be closed.
func (e *Engine) Run(ctx context.Context, to Destination, call *Call) (*Answer, error) {
	start := time.Now()
	outer := ctx
	limit := call.limit(start)
	ctx, cancel := limit.bound(ctx)
	defer cancel()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := limit.tooShort(call, to.Group); err != nil {
		return nil, err
	}
	r := &run{Engine: e, call: call, to: to, slots: make(slots, call.settings.MaxConcurrentRequests)}
	results := make([]result, call.Batches())
	if err := r.dispatch(ctx, results); err != nil {
		releaseAll(results)
		if outer.Err() != nil {
			return nil, context.Cause(outer)
		}
		return nil, err
	}
	answer, err := call.merge(results, start)
	if err != nil {
		releaseAll(results)
		return nil, err
	}
	return answer, nil
}

// dispatch runs all batches and fills results.
func (r *run) dispatch(ctx context.Context, results []result) error {
	group, failed := errgroup.WithContext(ctx)
	// The others are not to take the failure of one for something that happened to
	// them, as they would by the cause of the group's context.
	working, callOff := context.WithCancelCause(ctx)
	defer callOff(nil)
	defer context.AfterFunc(failed, func() {
		if ctx.Err() == nil {
			callOff(errCalledOff)
		}
	})()
	for i := range results {
		if !r.slots.acquire(working) {
			break
		}
		group.Go(func() (err error) {
			defer recoverInto(&err)
			results[i], err = r.batch(working, i)
			if err != nil {
				return batchError(i, err)
			}
			return nil
		})
	}
	err := group.Wait()
	// The copies that lost are called off and end at once.
	r.copies.Wait()
	if err != nil {
		return err
	}
	// The loop stops without an error when the context ends between batches.
	return context.Cause(ctx)
}

// recoverInto, when it is deferred, makes an error of a panic, which would end
// the process otherwise.
func recoverInto(err *error) {
	if value := recover(); value != nil {
		*err = &PanicError{Value: value, Stack: debug.Stack()}
	}
}

// slots are the places of the batches in flight.
type slots chan struct{}

// acquire waits for a place, and reports false when the context ends first.
func (s slots) acquire(ctx context.Context) bool {
	select {
	case s <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s slots) release() { <-s }

// batchError names the batch, but not where the whole request ran out of time.
func batchError(batch int, err error) error {
	if timeout, ok := errors.AsType[*TimeoutError](err); ok && timeout.Limit != attemptLimit {
		return timeout
	}
	if _, ok := errors.AsType[*BatchError](err); ok {
		return err
	}
	return &BatchError{Batch: batch, Err: err}
}

// releaseAll gives back what the results hold.
func releaseAll(results []result) {
	for i := range results {
		results[i].release()
	}
}
