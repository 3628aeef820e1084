package engine

import (
	"sync/atomic"
	"time"
)

// A Member is an endpoint of a group.
type Member struct {
	Endpoint *Endpoint
	// Weight is the endpoint's share of the load, relative to the other members'.
	// Default 1.
	Weight int
}

// GroupOptions say how the endpoints of a group are made use of.
type GroupOptions struct {
	// Policy says which endpoint an attempt goes to. Default [RandomChoose].
	Policy Policy
	// Retries bounds the retries after a status over all requests to the group;
	// nil means no bound beyond that of each batch.
	Retries *RetryBucket
}

// A Group is a set of endpoints any of which can answer a request. It is safe
// for concurrent use.
type Group struct {
	policy  Policy
	retries *RetryBucket
	members atomic.Pointer[[]*member]
}

// NewGroup returns a group of the given members.
func NewGroup(o GroupOptions, members ...Member) *Group {
	g := &Group{policy: o.Policy, retries: o.Retries}
	if g.policy == "" {
		g.policy = RandomChoose
	}
	g.Set(members...)
	return g
}

// Set replaces the members. Attempts under way are not disturbed.
func (g *Group) Set(members ...Member) {
	list := make([]*member, len(members))
	for i, m := range members {
		m.Weight = max(m.Weight, 1)
		list[i] = &member{Member: m}
	}
	g.members.Store(&list)
}

// Members returns the members.
func (g *Group) Members() []Member {
	list := *g.members.Load()
	members := make([]Member, len(list))
	for i, m := range list {
		members[i] = m.Member
	}
	return members
}

// choose returns the endpoint for the next attempt of a batch that has tried
// some already. It prefers endpoints that are up, among them those that were not
// tried yet, and then those that did not ask for patience. When none is up, the
// word of active checks counts for nothing, and then every endpoint will do. A
// batch that has tried none may be the one by which an endpoint that is down is
// tried again, when probing allows it. It reports false when the group is empty.
func (g *Group) choose(tried []attempted, probing bool) (choice, bool) {
	members := *g.members.Load()
	switch len(members) {
	case 0:
		return choice{}, false
	case 1:
		// Nothing is gained by sparing the only endpoint that there is.
		e := members[0].Endpoint
		return choice{endpoint: e, fresh: !triedAt(tried, e)}, true
	}
	if probing && len(tried) == 0 {
		if c, ok := probe(members); ok {
			return c, true
		}
	}
	working := only(members, func(e *Endpoint) bool { return e.Up() })
	if len(working) == 0 {
		working = only(members, func(e *Endpoint) bool { return e.health.objected() })
	}
	if fresh := only(working, func(e *Endpoint) bool { return !triedAt(tried, e) }); len(fresh) > 0 {
		return choice{endpoint: g.policy.pick(fresh), fresh: true}, true
	}
	if len(working) == 0 {
		working = members
		if fresh := only(working, func(e *Endpoint) bool { return !triedAt(tried, e) }); len(fresh) > 0 {
			working = fresh
		}
	}
	return choice{endpoint: g.policy.pick(readiest(working, tried))}, true
}

// readiest returns the members whose endpoints do not ask a batch for patience
// any more or, when all do, those that ask for the least.
func readiest(members []*member, tried []attempted) []*member {
	now := time.Now()
	var earliest time.Time
	for i, m := range members {
		at := notBefore(tried, m.Endpoint)
		if at.Before(now) {
			at = now
		}
		if i == 0 || at.Before(earliest) {
			earliest = at
		}
	}
	return only(members, func(e *Endpoint) bool { return !earliest.Before(notBefore(tried, e)) })
}

// probe returns an endpoint that is down and due to be tried again.
func probe(members []*member) (choice, bool) {
	for _, m := range members {
		if m.Endpoint.Up() {
			continue
		}
		if _, probe := m.Endpoint.health.admit(); probe {
			return choice{endpoint: m.Endpoint, probe: true}, true
		}
	}
	return choice{}, false
}

// only returns the members of whose endpoints something holds.
func only(members []*member, holds func(*Endpoint) bool) []*member {
	kept := make([]*member, 0, len(members))
	for _, m := range members {
		if holds(m.Endpoint) {
			kept = append(kept, m)
		}
	}
	return kept
}

// several reports whether there is more than one endpoint.
func (g *Group) several() bool { return len(*g.members.Load()) > 1 }

// spend takes a retry out of the bucket and reports whether there was one.
func (g *Group) spend() bool { return g.retries == nil || g.retries.take() }

// reward puts what a good reply is worth into the bucket.
func (g *Group) reward() {
	if g.retries != nil {
		g.retries.reward()
	}
}
