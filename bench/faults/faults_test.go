package main

import (
	"testing"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

func TestPermitsModelCountsItems(t *testing.T) {
	t.Parallel()
	p := new(permitsModel)
	call := &enginetest.Call{Items: make([]string, permitsBatch)}
	var done []func()
	for range permitted / permitsBatch {
		_, end := p.script(call)
		done = append(done, end)
	}
	if _, end := p.script(call); end != nil {
		t.Error("a call beyond the permits is let in")
	}
	done[0]()
	if _, end := p.script(call); end == nil {
		t.Error("a call is refused although there are permits")
	}
	if calls, refused := p.counts(); calls != len(done)+2 || refused != 1 {
		t.Errorf("%d calls, %d of them refused", calls, refused)
	}
}

// TestEvenAgain has one endpoint without calls for two seconds after it is back.
func TestEvenAgain(t *testing.T) {
	t.Parallel()
	r := new(failoverRun)
	const every, back = 10 * time.Millisecond, 5 * time.Second
	for at := time.Duration(0); at < failoverEnds; at += every {
		for i := range r.arrived {
			if i > 0 || at >= back+2*time.Second {
				r.arrived[i] = append(r.arrived[i], at)
			}
		}
	}
	even, err := r.evenAgain(back)
	// A second that begins a little before is within the bounds already.
	if err != nil || even < 1700*time.Millisecond || even > 2*time.Second {
		t.Errorf("got %v, %v", even, err)
	}
	r.arrived[0] = nil
	if _, err := r.evenAgain(back); err == nil {
		t.Error("it is even without any calls of one endpoint")
	}
}
