package engine

import (
	"math"
	"time"
)

// windowLife is how long a window is kept without another 429.
const windowLife = 30 * time.Second

// How much of a batch good replies add to a window: so much a whole window of
// them, as in TCP's congestion avoidance (RFC 5681, section 3.1), and so much one
// of them at most. An endpoint that holds n batches then answers 429 to one in
// 4n, from 16 batches on to less than one in 50, and to one in 16 where n is
// small; faster growth would find new room sooner and meet more of them.
const (
	gainPerWindow = 1. / 4
	gainPerReply  = 1. / 16
)

// A window bounds the items in flight to what the endpoint was seen to hold. A
// model server that counts what it works on, like text-embeddings-inference,
// answers 429 at once to what is too much and goes on with the rest. Every 429
// therefore shrinks the window to what is in flight without that batch: a burst
// of them ends at what the endpoint accepted. Good replies let the window grow
// slowly, to find out whether there is more room by now. When nothing is left that
// the endpoint accepted, as after a burst of requests that is over a limit in
// time, nothing is known of how much it can hold: the window then doubles with
// every window of good replies until the next 429, which is TCP's slow start.
type window struct {
	items  float64
	shrunk time.Time // when the last 429 came
	// starting says that the window doubles.
	starting bool
}

// noWindow bounds nothing.
var noWindow = window{items: math.Inf(1)}

// limit returns how many items may be in flight.
func (w *window) limit() float64 {
	if !math.IsInf(w.items, 1) && time.Since(w.shrunk) >= windowLife {
		*w = noWindow
	}
	return w.items
}

// shrink notes a 429 to a batch of so many of the items in flight. Others that
// were rejected at the same time may be in flight yet: the window has shrunk
// below what is in flight then, and shrinks on from there. It never gets smaller
// than the batch, which is let through alone in any case.
func (w *window) shrink(inFlight, items int) {
	left := min(w.items, float64(inFlight)) - float64(items)
	*w = window{items: max(left, float64(items)), shrunk: time.Now(), starting: left < float64(items)}
}

// grow notes a good reply to a batch of so many items.
func (w *window) grow(items int) {
	batch := float64(items)
	if w.starting {
		w.items += batch
		return
	}
	w.items += batch * min(gainPerReply, gainPerWindow*batch/w.items)
}
