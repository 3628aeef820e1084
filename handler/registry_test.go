package handler

import (
	"fmt"
	"net/url"
	"sync"
	"testing"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

// aGroup makes a group of one endpoint.
func aGroup() *engine.Group {
	endpoint := engine.NewEndpoint(engine.EndpointOptions{URL: &url.URL{Scheme: "https", Host: "h"}})
	return engine.NewGroup(engine.GroupOptions{}, engine.Member{Endpoint: endpoint})
}

func TestRegistryKeepsWhatIsInUse(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	first := r.acquire("mine", aGroup)
	for i := range 2 * maxIdleChosen {
		r.release(r.acquire(fmt.Sprint(i), aGroup))
	}
	if again := r.acquire("mine", aGroup); again != first {
		t.Error("an endpoint in use was forgotten")
	}
	r.release(first)
	if r.idle.Len() != maxIdleChosen {
		t.Errorf("%d endpoints are idle beside one in use, want %d", r.idle.Len(), maxIdleChosen)
	}
	r.release(first)
	if len(r.entries) != maxIdleChosen || r.idle.Len() != maxIdleChosen {
		t.Errorf("%d endpoints are remembered, %d of them idle, want %d", len(r.entries), r.idle.Len(), maxIdleChosen)
	}
}

func TestRegistryForgetsWhatWasNotUsedForLongest(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	known := make(map[string]*chosen)
	for i := range maxIdleChosen {
		key := fmt.Sprint(i)
		known[key] = r.acquire(key, aGroup)
		r.release(known[key])
	}
	// Using the oldest one makes the second oldest the one to go.
	r.release(r.acquire("0", aGroup))
	r.release(r.acquire("new", aGroup))
	for key, want := range map[string]bool{"0": true, "1": false, "2": true, "255": true} {
		c, ok := r.entries[key]
		if ok != want || ok && c != known[key] {
			t.Errorf("the endpoint %s is remembered: %t, want %t", key, ok, want)
		}
	}
}

func TestRegistryIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	var users [2 * maxIdleChosen]struct {
		sync.Mutex
		group *engine.Group
		n     int
	}
	var work sync.WaitGroup
	for worker := range 8 {
		work.Go(func() {
			for i := range 4000 {
				at := (i*7 + worker*13) % len(users)
				c := r.acquire(fmt.Sprint(at), aGroup)
				u := &users[at]
				u.Lock()
				if u.n > 0 && u.group != c.group {
					t.Errorf("two requests at once have two endpoints for %d", at)
				}
				u.group = c.group
				u.n++
				u.Unlock()
				u.Lock()
				u.n--
				u.Unlock()
				r.release(c)
			}
		})
	}
	work.Wait()
	if len(r.entries) > maxIdleChosen || len(r.entries) != r.idle.Len() {
		t.Errorf("%d endpoints are remembered, %d of them idle", len(r.entries), r.idle.Len())
	}
}
