package engine

import (
	"container/heap"
	"container/list"
	"context"
	"math"
	"sync"
	"time"
)

// limiterOptions bound what is in flight; zero means no bound.
type limiterOptions struct{ MaxRequests, MaxItems int }

// A limiter bounds the batches in flight to one endpoint over all client
// requests, and the items in them. What has to wait is let through fairly
// between client requests. After replies with 429 it holds back more for a
// while; see [window]. It is safe for concurrent use, and has neither goroutines
// nor timers of its own.
//
// Fair means that client requests which wait at the same time get equal numbers
// of items through, whatever the sizes of their batches and however many wait.
// The method is start-time fair queueing (P. Goyal, H. Vin, H. Cheng, SIGCOMM
// 1996), for several batches in service at once as in SFQ(D) (W. Jin, J. Chase,
// J. Kaur, SIGMETRICS 2004): each client request is a flow with a tag, the
// lowest tag is next, and a batch that goes moves the tag of its flow on by its
// items.
//
// The batch that is next is never passed by a smaller one of another flow, even
// when that one would fit and it does not yet: under steady load by small
// batches a large one would otherwise wait for ever.
type limiter struct {
	maxRequests, maxItems int

	mu              sync.Mutex
	requests, items int // in flight
	window          window

	flows   map[any]*flow // all that are in waiting or idle
	waiting flowHeap      // flows that have batches waiting; the first is next
	idle    flowHeap      // flows that have none, but whose past service counts yet
	// virtual is the tag of the batch that is next, or of the last one that was.
	// A flow that is not known begins here, behind the one that is next.
	virtual int64
	tagged  uint64 // how many tags were given
}

// newLimiter returns a limiter with nothing in flight.
func newLimiter(o limiterOptions) *limiter {
	l := &limiter{maxRequests: o.MaxRequests, maxItems: o.MaxItems, window: noWindow}
	if l.maxRequests <= 0 {
		l.maxRequests = math.MaxInt
	}
	if l.maxItems <= 0 {
		l.maxItems = math.MaxInt
	}
	return l
}

// A turn is what a batch waits for.
type turn struct {
	flow  any // the client request, a pointer
	items int // in the batch, 1 or more
	// urgent says that this is older work than what else waits of the flow, a
	// retry or a copy: it goes before that, but not before other flows.
	urgent bool
	// down returns what ends the wait with errDown when it is closed; nil for
	// nothing. It is called when the batch has to wait.
	down func() <-chan struct{}
}

// acquire waits for the turn of a batch and returns how long that took. When ctx
// ends first, nothing is held and the error is the cause, and in the same manner
// errDown; otherwise release must follow.
func (l *limiter) acquire(ctx context.Context, t turn) (waited time.Duration, err error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	l.mu.Lock()
	if len(l.waiting) == 0 && l.fits(t.items) {
		l.take(t.items)
		l.mu.Unlock()
		return 0, nil
	}
	start := time.Now()
	w := l.join(t)
	// An urgent batch may fit where the one that it goes before does not.
	l.handOn()
	l.mu.Unlock()
	var down <-chan struct{}
	if t.down != nil {
		down = t.down()
	}
	select {
	case <-w.granted:
		return time.Since(start), nil
	case <-ctx.Done():
		l.abandon(w)
		return time.Since(start), context.Cause(ctx)
	case <-down:
		l.abandon(w)
		return time.Since(start), errDown
	}
}

// release gives the place of a batch back, whatever became of the attempt.
func (l *limiter) release(items int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.giveBack(items)
}

// answered notes a good reply to a batch that is in flight yet.
func (l *limiter) answered(items int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.window.grow(items)
	// A window that is no tighter than the bound is none.
	if l.window.items >= float64(l.maxItems) {
		l.window = noWindow
	}
}

// rejected notes a reply with 429 to a batch that is in flight yet.
func (l *limiter) rejected(items int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.window.shrink(l.items, items)
}

// inFlight returns the number of batches in flight and of the items in them.
func (l *limiter) inFlight() (requests, items int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.requests, l.items
}

// fits reports whether there is room for a batch. A batch that is larger than a
// bound by itself has room when nothing is in flight.
func (l *limiter) fits(items int) bool {
	if l.requests == 0 {
		return true
	}
	all := l.items + items
	return l.requests < l.maxRequests && all <= l.maxItems && float64(all) <= l.window.limit()
}

// take lets a batch through.
func (l *limiter) take(items int) {
	l.requests++
	l.items += items
}

// giveBack undoes take and lets in who waits for it.
func (l *limiter) giveBack(items int) {
	l.requests--
	l.items -= items
	if len(l.waiting) == 0 {
		// There is room that nobody waited for: nobody was served at the cost of
		// another, and past service counts no more.
		l.flows, l.idle = nil, nil
	}
	l.handOn()
}

// A flow is a client request that has batches waiting, or had a short while ago.
type flow struct {
	key any
	tag int64
	// order is the rank among equal tags: first come, first served.
	order            uint64
	index            int       // in the heap
	urgent, ordinary list.List // of *waiter
}

// next returns the batch of the flow that is next, nil if none waits.
func (f *flow) next() *waiter {
	first := f.urgent.Front()
	if first == nil {
		first = f.ordinary.Front()
	}
	if first == nil {
		return nil
	}
	return first.Value.(*waiter)
}

// A waiter is a batch that waits for its turn.
type waiter struct {
	flow    *flow
	items   int
	queue   *list.List    // of the flow
	place   *list.Element // in the queue; nil when it has left
	granted chan struct{} // closed when the turn has come
}

// join puts a batch into the queue.
func (l *limiter) join(t turn) *waiter {
	f := l.flows[t.flow]
	switch {
	case f == nil:
		if l.flows == nil {
			l.flows = make(map[any]*flow)
		}
		f = &flow{key: t.flow}
		l.flows[t.flow] = f
		l.tag(f, l.virtual)
		heap.Push(&l.waiting, f)
	case f.next() == nil:
		heap.Remove(&l.idle, f.index)
		heap.Push(&l.waiting, f)
	}
	w := &waiter{flow: f, items: t.items, queue: &f.ordinary, granted: make(chan struct{})}
	if t.urgent {
		w.queue = &f.urgent
	}
	w.place = w.queue.PushBack(w)
	l.advance()
	return w
}

// leave takes a batch out of the queue, whether its turn has come or not.
func (l *limiter) leave(w *waiter) {
	w.queue.Remove(w.place)
	w.place = nil
	if w.flow.next() == nil {
		heap.Remove(&l.waiting, w.flow.index)
		heap.Push(&l.idle, w.flow)
	}
	l.advance()
}

// handOn lets batches through as long as the next one fits.
func (l *limiter) handOn() {
	for len(l.waiting) > 0 {
		f := l.waiting[0]
		w := f.next()
		if !l.fits(w.items) {
			return
		}
		l.take(w.items)
		l.tag(f, f.tag+int64(w.items))
		heap.Fix(&l.waiting, f.index)
		l.leave(w)
		close(w.granted)
	}
}

// abandon ends the wait of a batch whose context has ended.
func (l *limiter) abandon(w *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.place == nil {
		// Its turn came at the same moment.
		l.giveBack(w.items)
		return
	}
	l.leave(w)
	// It may have been the one for which there was no room.
	l.handOn()
}

// tag gives a flow its place among the others.
func (l *limiter) tag(f *flow, tag int64) {
	l.tagged++
	f.tag, f.order = tag, l.tagged
}

// advance moves virtual time to the batch that is next, and forgets the flows
// that have nothing waiting once it has passed their tags: they would begin
// there if they came back. Those that come back earlier keep their tags, or they
// could take more than their share by waiting with one batch at a time.
func (l *limiter) advance() {
	if len(l.waiting) > 0 {
		l.virtual = max(l.virtual, l.waiting[0].tag)
	}
	for len(l.idle) > 0 && l.idle[0].tag <= l.virtual {
		delete(l.flows, heap.Pop(&l.idle).(*flow).key)
	}
}

// A flowHeap is a [heap.Interface]: the flow with the lowest tag comes first.
type flowHeap []*flow

func (h flowHeap) Len() int { return len(h) }

func (h flowHeap) Less(i, j int) bool {
	return h[i].tag < h[j].tag || h[i].tag == h[j].tag && h[i].order < h[j].order
}

func (h flowHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements [heap.Interface].
func (h *flowHeap) Push(x any) {
	f := x.(*flow)
	f.index = len(*h)
	*h = append(*h, f)
}

// Pop implements [heap.Interface].
func (h *flowHeap) Pop() any {
	last := len(*h) - 1
	f := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return f
}
