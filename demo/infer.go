package demo

import (
	"context"
	"sync/atomic"
	"time"
)

// permits bounds the items that are worked on at once, over all requests. It is
// safe for concurrent use.
type permits struct {
	free atomic.Int64
}

// tryAcquire takes n permits, all or none of them.
func (p *permits) tryAcquire(n int) bool {
	for {
		free := p.free.Load()
		if free < int64(n) {
			return false
		}
		if p.free.CompareAndSwap(free, free-int64(n)) {
			return true
		}
	}
}

func (p *permits) release(n int) {
	p.free.Add(int64(n))
}

// cost is what a request is charged for; it is reported in headers.
type cost struct {
	characters int
	tokens     int
}

func (c *cost) add(characters, tokens int) {
	c.characters += characters
	c.tokens += tokens
}

// Every input is read between a token that marks its beginning and one that
// marks its end; the two texts of a pair have one more between them.
const (
	markTokens     = 2
	pairMarkTokens = 3
)

// infer runs the model over one batch of items: it takes a permit for each, does
// the work, and waits as long as a batch takes on real hardware. The permits are
// free again when it returns, before anything is answered, so that a client that
// has an answer may send its next batch.
func (s *Server) infer(ctx context.Context, items int, work func() error) error {
	if items > s.options.MaxBatch {
		return invalid("batch size %d > maximum allowed batch size %d", items, s.options.MaxBatch)
	}
	if !s.permits.tryAcquire(items) {
		return overloaded()
	}
	defer s.permits.release(items)
	if err := work(); err != nil {
		return err
	}
	if err := sleep(ctx, s.options.Delay); err != nil {
		return err
	}
	s.served.Add(int64(items))
	return nil
}

// sleep waits for a time, or until the context ends, whose error it then
// returns.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
