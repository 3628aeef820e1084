package engine

import (
	"math"
	"sync/atomic"
	"time"
)

// A budget bounds how often one request may do something again. It is safe for
// concurrent use and never below zero.
type budget struct{ left atomic.Int64 }

// fill sets the budget of a request of so many batches: max(2, 1+ceil(n·pct)),
// and nothing when the percentage is zero.
func (b *budget) fill(batches int, pct float64) {
	if pct <= 0 {
		return
	}
	b.left.Store(max(2, 1+int64(math.Ceil(float64(batches)*pct))))
}

// take spends one and reports whether there was one.
func (b *budget) take() bool {
	for {
		left := b.left.Load()
		if left <= 0 {
			return false
		}
		if b.left.CompareAndSwap(left, left-1) {
			return true
		}
	}
}

// some reports whether anything is left.
func (b *budget) some() bool { return b.left.Load() > 0 }

// refund puts back one that was taken and not made use of.
func (b *budget) refund() { b.left.Add(1) }

// The retries after a status that a [RetryBucket] holds and how it is filled,
// unless its options say otherwise.
const (
	DefaultBucketSize      = 100
	DefaultBucketPerReply  = 0.2
	DefaultBucketPerSecond = 10
)

// milli is the unit in which a bucket counts: a thousandth of a retry.
const milli = 1000

// A RetryBucket bounds the retries after a status over all requests to a group
// of endpoints, so that an upstream that is down is not hammered: it starts
// full, every such retry takes one out, and good replies and time put some back.
// It is safe for concurrent use, and never below zero or over its size. The
// method is that of gRPC's retry throttling (gRFC A6), with time added.
type RetryBucket struct {
	size, perReply, perSecond int64 // in thousandths

	start    time.Time
	level    atomic.Int64 // in thousandths
	refilled atomic.Int64 // the time up to which time has put some back, since start
}

// RetryBucketOptions say how a [RetryBucket] is filled. Zero means the default
// and a negative number none.
type RetryBucketOptions struct {
	// Size is how many retries it holds. Default [DefaultBucketSize].
	Size float64
	// PerReply is what a good reply puts back. Default [DefaultBucketPerReply].
	PerReply float64
	// PerSecond is what time puts back. Default [DefaultBucketPerSecond].
	PerSecond float64
}

// NewRetryBucket returns a full bucket.
func NewRetryBucket(o RetryBucketOptions) *RetryBucket {
	b := &RetryBucket{
		size:      thousandths(o.Size, DefaultBucketSize),
		perReply:  thousandths(o.PerReply, DefaultBucketPerReply),
		perSecond: thousandths(o.PerSecond, DefaultBucketPerSecond),
		start:     time.Now(),
	}
	b.level.Store(b.size)
	return b
}

// thousandths returns a number of retries in the unit of the bucket.
func thousandths(retries, preset float64) int64 {
	switch {
	case retries == 0:
		retries = preset
	case retries < 0:
		return 0
	}
	return int64(retries * milli)
}

// take takes one retry out and reports whether there was one.
func (b *RetryBucket) take() bool {
	b.refill()
	for {
		level := b.level.Load()
		if level < milli {
			return false
		}
		if b.level.CompareAndSwap(level, level-milli) {
			return true
		}
	}
}

// reward puts back what a good reply is worth.
func (b *RetryBucket) reward() { b.put(b.perReply) }

// refill puts back what the time since the last call is worth.
func (b *RetryBucket) refill() {
	now := int64(time.Since(b.start))
	last := b.refilled.Load()
	worth := int64(float64(now-last) / float64(time.Second) * float64(b.perSecond))
	// What is too short to be worth a thousandth goes on counting, and only one
	// goroutine puts the same time back.
	if worth > 0 && b.refilled.CompareAndSwap(last, now) {
		b.put(worth)
	}
}

// put puts some back, up to the size.
func (b *RetryBucket) put(worth int64) {
	for {
		level := b.level.Load()
		if level >= b.size || b.level.CompareAndSwap(level, min(b.size, level+worth)) {
			return
		}
	}
}
