package main

import (
	"slices"
	"sync"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/bench/internal/rig"
)

// lateCall is how long after the end of a request a call of it may still arrive
// upstream: what was on its way, on a machine that is busy.
const lateCall = 2 * time.Second

// A ledger holds what became of every request at the upstreams and in Caddy's
// access log. It is safe for concurrent use.
type ledger struct {
	tally *tally
	// late are the calls upstream after the end of their requests.
	late lateness

	mu       sync.Mutex
	requests map[string]*entry
}

// An entry is what is known of one request.
type entry struct {
	// refused tells that the request must not reach an upstream.
	refused bool
	// calls counts its calls upstream, statuses holds what they were answered
	// with.
	calls    int
	statuses []int
	// packed tells that a reply was not sent as text.
	packed bool
	// ended is when the client had its answer, or left.
	ended time.Time
	// logged tells that the access log has it.
	logged bool
}

func newLedger(t *tally) *ledger {
	return &ledger{
		tally:    t,
		late:     lateness{rule: "all work upstream ends with the request", grace: lateCall},
		requests: make(map[string]*entry),
	}
}

// begin opens the entry of a request.
func (l *ledger) begin(id string, refused bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests[id] = &entry{refused: refused}
}

// end notes that a client has its answer, or has left.
func (l *ledger) end(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests[id].ended = time.Now()
}

// called notes a call and what it is answered with; the status is 0 when it is
// answered with none.
func (l *ledger) called(id rig.CallID, status int, packed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.requests[id.Request]
	if e == nil {
		l.tally.violated("every call upstream belongs to a request", "a call with the id %q", id.Request)
		return
	}
	e.calls++
	e.packed = e.packed || packed
	if status != 0 && !slices.Contains(e.statuses, status) {
		e.statuses = append(e.statuses, status)
	}
	if e.refused {
		l.tally.violated("a bad request does not reach an upstream", "request %s", id.Request)
	}
	if !e.ended.IsZero() {
		l.late.note(delay{id: id.Request, what: "a call after its end", when: span{e.ended, time.Now()}})
	}
}

// logged notes that Caddy handled a request.
func (l *ledger) logged(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.requests[id]; e != nil {
		e.logged = true
	}
}

// sent reports whether an upstream answered a call of a request with a status.
func (l *ledger) sent(id string, status int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.requests[id].statuses, status)
}

// digits says how closely the vectors of an answer are compared.
func (l *ledger) digits(id string) rig.Digits {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.requests[id].packed {
		return rig.SameNumbers
	}
	return rig.Exact
}

// seen reports whether anything shows that the proxy read a request.
func (l *ledger) seen(id string) (upstream, inLog bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.requests[id].calls > 0, l.requests[id].logged
}
