package main

import (
	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

// A gate holds the calls to an endpoint back until as many are there at once as
// the proxy may send.
type gate struct {
	// want is how many that is.
	want int
	// most is how many there were.
	most int
	// full is closed when they are there, release lets them go on.
	full, release chan struct{}
}

func newGate(want int) *gate {
	return &gate{want: want, full: make(chan struct{}), release: make(chan struct{})}
}

// enter holds a call back; inFlight counts those that are there, with this one.
func (g *gate) enter(inFlight int) enginetest.Fault {
	if g.most < g.want && inFlight >= g.want {
		close(g.full)
	}
	g.most = max(g.most, inFlight)
	return enginetest.Hold(g.release)
}

// shut puts a gate before an endpoint.
func (e *endpoint) shut(g *gate) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.gate = g
}

// open takes the gate away and returns how many calls were there at once.
func (e *endpoint) open() (most int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	g := e.gate
	e.gate = nil
	close(g.release)
	return g.most
}

// busy returns the number of calls.
func (e *endpoint) busy() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.inFlight
}
