package engine

import (
	"io"
	"net/http"
	"sync/atomic"
)

const (
	// lanes is how many connections share the load of one server. The read loop
	// of a connection takes apart the frames of all its replies, so that one
	// connection is no faster than one core; more than four gain nothing.
	lanes = 4
	// laneLoad is how many requests one connection gets before the next one is
	// made use of.
	laneLoad = 16
)

// multiplexed spreads requests over several transports of net/http, each of
// which puts all its requests to a server on one connection of HTTP/2 until the
// server allows no more. It is safe for concurrent use.
type multiplexed struct {
	lanes [lanes]lane
}

// A lane is a transport and the number of requests on it, from the start to the
// closing of the reply's body.
type lane struct {
	opener *opener
	load   atomic.Int64
}

func newMultiplexed(base *http.Transport, p http.Protocols) *multiplexed {
	m := new(multiplexed)
	for i := range m.lanes {
		m.lanes[i].opener = newOpener(speaking(base, p))
	}
	return m
}

// RoundTrip sends a request on the first lane that has room, and on the one
// with the least load when none has.
func (m *multiplexed) RoundTrip(req *http.Request) (*http.Response, error) {
	l := m.enter()
	resp, err := l.opener.RoundTrip(req)
	if err != nil {
		l.load.Add(-1)
		return nil, err
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		// The connection, which is HTTP/1.1, left the lane, and its body must
		// stay the io.ReadWriteCloser that it is.
		l.load.Add(-1)
		return resp, nil
	}
	resp.Body = &laneBody{ReadCloser: resp.Body, lane: l}
	return resp, nil
}

func (m *multiplexed) enter() *lane {
	least := &m.lanes[0]
	load := least.load.Load()
	for i := range m.lanes {
		l := &m.lanes[i]
		n := l.load.Load()
		if n < laneLoad {
			least = l
			break
		}
		if n < load {
			least, load = l, n
		}
	}
	least.load.Add(1)
	return least
}

func (m *multiplexed) CloseIdleConnections() {
	for i := range m.lanes {
		m.lanes[i].opener.transport.CloseIdleConnections()
	}
}

// laneBody is the body of a reply, which leaves its lane when it is closed.
type laneBody struct {
	io.ReadCloser
	lane   *lane
	closed atomic.Bool
}

func (b *laneBody) Close() error {
	if !b.closed.Swap(true) {
		b.lane.load.Add(-1)
	}
	return b.ReadCloser.Close()
}
