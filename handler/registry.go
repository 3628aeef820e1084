package handler

import (
	"container/list"
	"sync"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

// maxIdleChosen is how many endpoints that callers chose are remembered beside
// those that requests are under way to.
const maxIdleChosen = 256

// A chosen endpoint is one that the operator did not configure.
type chosen struct {
	key   string
	group *engine.Group
	// users are the requests under way to it; without any, idle is its place in
	// the list of the registry. Both are guarded by the registry's mutex.
	users int
	idle  *list.Element
}

// A registry keeps what is known of the endpoints that callers chose: of all
// that requests are under way to, and of those that were used last. It is safe
// for concurrent use.
type registry struct {
	mu      sync.Mutex
	entries map[string]*chosen
	// idle are the entries without users, the one used last in front.
	idle list.List
}

func newRegistry() *registry { return &registry{entries: make(map[string]*chosen)} }

// acquire returns the endpoint of the given key until it is released, as a group
// of its own that group makes when the endpoint is not known.
func (r *registry) acquire(key string, group func() *engine.Group) *chosen {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.entries[key]
	if !ok {
		c = &chosen{key: key, group: group()}
		r.entries[key] = c
	}
	if c.idle != nil {
		r.idle.Remove(c.idle)
		c.idle = nil
	}
	c.users++
	return c
}

// release gives an endpoint back.
func (r *registry) release(c *chosen) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.users--; c.users > 0 {
		return
	}
	c.idle = r.idle.PushFront(c)
	if r.idle.Len() > maxIdleChosen {
		oldest := r.idle.Remove(r.idle.Back()).(*chosen)
		delete(r.entries, oldest.key)
	}
}
