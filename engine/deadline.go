package engine

import (
	"context"
	"time"
)

// A limit is the time by which a whole request must be answered.
type limit struct {
	// deadline is the zero time when there is none.
	deadline time.Time
	// name is the setting or header that it comes from.
	name string
	// start is when the request began.
	start time.Time
}

// limit returns the earlier of the total time and the client's own deadline.
func (c *Call) limit(start time.Time) limit {
	l := limit{deadline: c.req.Deadline, name: c.req.DeadlineName, start: start}
	if total := c.settings.TotalTimeout; total > 0 {
		if end := start.Add(total); l.deadline.IsZero() || end.Before(l.deadline) {
			l.deadline, l.name = end, "total_timeout_s"
		}
	}
	return l
}

// left is the time from the start to the deadline.
func (l limit) left() time.Duration { return l.deadline.Sub(l.start) }

// bound returns the context with the limit on it.
func (l limit) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if l.deadline.IsZero() {
		return context.WithCancel(ctx)
	}
	return context.WithDeadlineCause(ctx, l.deadline, &TimeoutError{Limit: l.name, After: l.left()})
}

// tooShort returns an error when the request cannot be answered within the limit
// even if every batch is answered as fast as the fastest of its size was in the
// last seconds. Without recent replies to tell by, nothing is refused.
func (l limit) tooShort(c *Call, g *Group) error {
	if l.deadline.IsZero() {
		return nil
	}
	least := leastTime(c, g)
	if least <= l.left() {
		return nil
	}
	return &TimeoutError{Limit: l.name, After: l.left(), Needs: least}
}

// leastTime returns a lower bound of the time that a call takes: that of its
// slowest batch, or the work of all batches shared by as many as may be in flight
// at once. It is zero when too little is known.
func leastTime(c *Call, g *Group) time.Duration {
	members := *g.members.Load()
	known := make(map[int]time.Duration)
	var work, slowest time.Duration
	for batch := range c.plan.batches {
		class := latencyClassOf(c.plan.size(batch))
		least, ok := known[class]
		if !ok {
			least = leastOf(members, c.plan.size(batch))
			known[class] = least
		}
		work += least
		slowest = max(slowest, least)
	}
	return max(slowest, work/time.Duration(min(c.settings.MaxConcurrentRequests, c.Batches())))
}

// leastOf returns the shortest time in which one of the members answered a batch
// of that size lately; zero when one of them did not say.
func leastOf(members []*member, size int) time.Duration {
	var least time.Duration
	for i, m := range members {
		fastest, ok := m.Endpoint.latency.fastest(size, m.Endpoint.load.Load())
		if !ok {
			return 0
		}
		// It may have been twice the size.
		fastest /= 2
		if i == 0 || fastest < least {
			least = fastest
		}
	}
	return least
}
