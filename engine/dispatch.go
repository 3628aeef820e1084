package engine

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"
)

// Run sends the batches of a call to the endpoint, at most
// MaxConcurrentRequests at once, and merges the replies. The first batch that
// fails ends the others; nothing of the replies is returned then. Run returns
// when nothing of the call is under way any more.
//
// Errors are a [*BatchError] around what happened to that batch, a
// [*TimeoutError] when the time for the whole request is over, or the error of
// ctx when its owner ended it. A call is run once; the answer must be closed.
func (e *Engine) Run(ctx context.Context, endpoint *Endpoint, call *Call) (*Answer, error) {
	start := time.Now()
	outer := ctx
	ctx, cancel := call.withDeadline(ctx, start)
	defer cancel()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	results := make([]result, call.Batches())
	if err := e.dispatch(ctx, endpoint, call, results); err != nil {
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

// withDeadline bounds the context by the total time and the client's deadline,
// whichever is earlier.
func (c *Call) withDeadline(ctx context.Context, start time.Time) (context.Context, context.CancelFunc) {
	deadline, limit := c.req.Deadline, c.req.DeadlineName
	if total := c.settings.TotalTimeout; total > 0 {
		if end := start.Add(total); deadline.IsZero() || end.Before(deadline) {
			deadline, limit = end, "total_timeout_s"
		}
	}
	if deadline.IsZero() {
		return context.WithCancel(ctx)
	}
	return context.WithDeadlineCause(ctx, deadline, &TimeoutError{Limit: limit, After: deadline.Sub(start)})
}

// dispatch runs all batches and fills results.
func (e *Engine) dispatch(ctx context.Context, endpoint *Endpoint, call *Call, results []result) error {
	group, working := errgroup.WithContext(ctx)
	slots := make(slots, call.settings.MaxConcurrentRequests)
	for i := range results {
		if !slots.acquire(working) {
			break
		}
		group.Go(func() (err error) {
			defer func() {
				if value := recover(); value != nil {
					err = &PanicError{Value: value, Stack: debug.Stack()}
				}
				if err != nil {
					err = batchError(i, err)
				}
			}()
			results[i], err = e.batch(working, endpoint, call, i, slots)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	// The loop stops without an error when the context ends between batches.
	return context.Cause(ctx)
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
	var timeout *TimeoutError
	if errors.As(err, &timeout) && timeout.Limit != attemptLimit {
		return timeout
	}
	return &BatchError{Batch: batch, Err: err}
}

// releaseAll gives back what the results hold.
func releaseAll(results []result) {
	for i := range results {
		results[i].release()
	}
}
