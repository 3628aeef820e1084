package engine

import (
	"slices"
	"sync/atomic"
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
// some already; it prefers, in this order, those that are up and were not tried
// yet, those that are up, those that were not tried yet, and any. A batch that
// has tried none may be the one by which an endpoint that is down is tried again.
// It reports false when the group is empty.
func (g *Group) choose(tried []*Endpoint) (choice, bool) {
	members := *g.members.Load()
	switch len(members) {
	case 0:
		return choice{}, false
	case 1:
		// Nothing is gained by sparing the only endpoint that there is.
		e := members[0].Endpoint
		return choice{endpoint: e, fresh: !slices.Contains(tried, e)}, true
	}
	var room [8]*member
	up := room[:0]
	for _, m := range members {
		if m.Endpoint.Up() {
			up = append(up, m)
			continue
		}
		if len(tried) > 0 {
			continue
		}
		if ok, probe := m.Endpoint.health.admit(); probe {
			return choice{endpoint: m.Endpoint, probe: true}, true
		} else if ok {
			up = append(up, m)
		}
	}
	if fresh := untried(up, tried); len(fresh) > 0 {
		return choice{endpoint: g.policy.pick(fresh), fresh: true}, true
	}
	if len(up) > 0 {
		return choice{endpoint: g.policy.pick(up)}, true
	}
	if rest := untried(members, tried); len(rest) > 0 {
		return choice{endpoint: g.policy.pick(rest)}, true
	}
	return choice{endpoint: g.policy.pick(members)}, true
}

// untried returns the members whose endpoints are not in tried.
func untried(members []*member, tried []*Endpoint) []*member {
	if len(tried) == 0 {
		return members
	}
	var rest []*member
	for _, m := range members {
		if !slices.Contains(tried, m.Endpoint) {
			rest = append(rest, m)
		}
	}
	return rest
}

// spend takes a retry out of the bucket and reports whether there was one.
func (g *Group) spend() bool { return g.retries == nil || g.retries.take() }

// reward puts what a good reply is worth into the bucket.
func (g *Group) reward() {
	if g.retries != nil {
		g.retries.reward()
	}
}
