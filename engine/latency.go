package engine

import (
	"math"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// latencyClasses is how many classes of sizes there are; the last one takes
	// everything that is larger.
	latencyClasses = 32
	// latencySamples is how many samples of a class are remembered.
	latencySamples = 128
	// latencyMemory is how long a sample counts towards a percentile.
	latencyMemory = 60 * time.Second
	// minPercentileSamples is how many samples tell a percentile.
	minPercentileSamples = 20
	// percentileSamples and percentileAge bound how outdated a percentile may be:
	// it is worked out again when so many samples came after it, or when it is so
	// old, whichever is first.
	percentileSamples = 8
	percentileAge     = time.Second

	// fastestMemory is how long a sample counts towards the fastest reply.
	fastestMemory = 5 * time.Second
	// minFastestSamples is how many samples tell the fastest reply.
	minFastestSamples = 8
	// lowWidth is the time of which one shortest sample is remembered, and lowSlots
	// are as many of them as touch the last fastestMemory.
	lowWidth = 100 * time.Millisecond
	lowSlots = int64(fastestMemory/lowWidth) + 1
)

// latencies remembers how long an endpoint took lately, by the size of the
// batch in bytes: 1, 2, 3 to 4, 5 to 8 and so on in powers of two. Work goes by
// what stands in the items more than by their number. The zero value is
// ready for use; it is safe for concurrent use. Nothing is allocated once a class
// of sizes has had its first sample.
type latencies struct {
	classes [latencyClasses]atomic.Pointer[latencyClass]
}

// add takes note of a complete good reply to a batch of that size, or of one
// that was called off after it had taken longer than most. Left out, these would
// make a slow endpoint look fast. The load is what the endpoint had to do beside
// it when it was sent.
func (l *latencies) add(size int, took time.Duration, load int64) {
	class := &l.classes[latencyClassOf(size)]
	c := class.Load()
	if c == nil {
		c = &latencyClass{start: time.Now()}
		if !class.CompareAndSwap(nil, c) {
			c = class.Load()
		}
	}
	c.add(took, load)
}

// percentile95 returns the 95th percentile of the last 128 samples of the size
// that are at most 60 s old. It is false when fewer than 20 are. The value may
// miss the last 7 samples and be 1 s old, no more; whether there is one is always
// up to date.
func (l *latencies) percentile95(size int) (time.Duration, bool) {
	c := l.classes[latencyClassOf(size)].Load()
	if c == nil {
		return 0, false
	}
	return c.percentile95()
}

// fastest returns the shortest sample of the size in the last 5 s, however many
// there were. It is false when there were fewer than 8, so that who refuses work
// because of a slow episode, and for that reason hears nothing new, asks again
// after 5 s, and when the endpoint has less to do now than it had then, because it
// may be faster. What is up to 100 ms older may count too, which errs on the side
// of refusing nothing.
func (l *latencies) fastest(size int, load int64) (time.Duration, bool) {
	c := l.classes[latencyClassOf(size)].Load()
	if c == nil {
		return 0, false
	}
	return c.fastest(load)
}

// latencyClassOf returns the class of a size.
func latencyClassOf(size int) int {
	return min(bits.Len(uint(max(size, 1)-1)), latencyClasses-1)
}

// A latencyClass holds the samples of one class of sizes.
type latencyClass struct {
	// start is the time from which the times below count.
	start time.Time

	mu sync.Mutex
	// samples is a ring in the order of time.
	samples [latencySamples]latencySample
	// added counts all samples that there were.
	added int
	// lows is a ring of the shortest samples of the slots of time, because the
	// samples of a busy endpoint do not reach back far enough.
	lows [lowSlots]latencyLow

	// percentile was worked out at that time and number of samples.
	percentile        time.Duration
	percentileAt      time.Duration
	percentileSamples int
}

// A latencySample is how long it took and when that was known.
type latencySample struct{ at, took time.Duration }

// A latencyLow is the shortest sample of a slot of time; slots count from 1.
type latencyLow struct {
	slot     int64
	shortest time.Duration
	// load is what the endpoint had to do when it was sent.
	load int64
}

func (c *latencyClass) add(took time.Duration, load int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Since(c.start)
	c.samples[c.added%latencySamples] = latencySample{at: now, took: took}
	c.added++
	slot := lowSlot(now)
	low := &c.lows[slot%lowSlots]
	if low.slot != slot || took < low.shortest {
		*low = latencyLow{slot: slot, shortest: took, load: load}
	}
}

// lowSlot returns the slot of a time.
func lowSlot(at time.Duration) int64 { return int64(at/lowWidth) + 1 }

// latest returns the nth latest sample, of which there are at least n.
func (c *latencyClass) latest(n int) latencySample {
	return c.samples[(c.added-n)%latencySamples]
}

// heard reports whether there were n samples in the time before now.
func (c *latencyClass) heard(n int, now, within time.Duration) bool {
	return c.added >= n && now-c.latest(n).at <= within
}

func (c *latencyClass) percentile95() (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Since(c.start)
	if !c.heard(minPercentileSamples, now, latencyMemory) {
		return 0, false
	}
	if c.added-c.percentileSamples >= percentileSamples || now-c.percentileAt >= percentileAge {
		c.percentile = c.workOut(now)
		c.percentileAt, c.percentileSamples = now, c.added
	}
	return c.percentile, true
}

// workOut returns the 95th percentile by the nearest rank: the smallest sample
// that at least 95 % of the samples do not exceed.
func (c *latencyClass) workOut(now time.Duration) time.Duration {
	var room [latencySamples]time.Duration
	recent := room[:0]
	for n := 1; n <= min(c.added, latencySamples); n++ {
		sample := c.latest(n)
		if now-sample.at > latencyMemory {
			break
		}
		recent = append(recent, sample.took)
	}
	slices.Sort(recent)
	return recent[(95*len(recent)+99)/100-1]
}

func (c *latencyClass) fastest(load int64) (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Since(c.start)
	if !c.heard(minFastestSamples, now, fastestMemory) {
		return 0, false
	}
	// The latest sample is in one of the slots.
	best, outdated := latencyLow{shortest: math.MaxInt64}, max(lowSlot(now)-lowSlots, 0)
	for _, low := range c.lows {
		if low.slot > outdated && low.shortest < best.shortest {
			best = low
		}
	}
	return best.shortest, load >= best.load
}
