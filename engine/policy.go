package engine

import (
	"math/rand/v2"
	"sync"
)

// A Policy says which of the endpoints that will do an attempt goes to. The
// names are those of Caddy's reverse_proxy.
type Policy string

// The policies. All but First respect the weights.
const (
	// RandomChoose takes the less loaded of two that are chosen at random; the
	// load is counted in items in flight. See "The Power of Two Choices in
	// Randomized Load Balancing", Mitzenmacher 2001.
	RandomChoose Policy = "random_choose"
	// RoundRobin takes one after the other.
	RoundRobin Policy = "round_robin"
	// Random takes any.
	Random Policy = "random"
	// First takes the first one, in the order of the members.
	First Policy = "first"
)

// Policies returns all policies.
func Policies() []Policy { return []Policy{RandomChoose, RoundRobin, Random, First} }

// A member is a Member with its state of round robin.
type member struct {
	Member
	// credit is guarded by roundRobin.
	credit int
}

// pick returns one of the members, of which there is at least one.
func (p Policy) pick(members []*member) *Endpoint {
	if len(members) == 1 || p == First {
		return members[0].Endpoint
	}
	switch p {
	case RoundRobin:
		return nextInTurn(members).Endpoint
	case Random:
		return members[weighted(members, -1)].Endpoint
	}
	first := weighted(members, -1)
	a, b := members[first], members[weighted(members, first)]
	if b.Endpoint.load.Load()*int64(a.Weight) < a.Endpoint.load.Load()*int64(b.Weight) {
		return b.Endpoint
	}
	return a.Endpoint
}

// weighted returns the index of a member at random by weight, but not the one
// of the index without.
func weighted(members []*member, without int) int {
	total := 0
	for i, m := range members {
		if i != without {
			total += m.Weight
		}
	}
	at := rand.IntN(total)
	for i, m := range members {
		if i == without {
			continue
		}
		if at -= m.Weight; at < 0 {
			return i
		}
	}
	panic("the weights changed while they were added up")
}

// roundRobin guards the credit of all members.
var roundRobin sync.Mutex

// nextInTurn returns the member whose turn it is: each gets its weight as
// credit, and the richest one pays for all. The turns of a heavy member are
// spread between those of the others, as in nginx's smooth weighted round robin.
func nextInTurn(members []*member) *member {
	roundRobin.Lock()
	defer roundRobin.Unlock()
	total, richest := 0, members[0]
	for _, m := range members {
		m.credit += m.Weight
		total += m.Weight
		if m.credit > richest.credit {
			richest = m
		}
	}
	richest.credit -= total
	return richest
}
