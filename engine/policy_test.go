package engine

import (
	"math"
	"net/url"
	"testing"
)

// share returns which part of n picks each of the members got.
func share(p Policy, n int, members ...*member) []float64 {
	got := make([]float64, len(members))
	for range n {
		picked := p.pick(members)
		for i, m := range members {
			if m.Endpoint == picked {
				got[i] += 1 / float64(n)
			}
		}
	}
	return got
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	type load struct {
		weight int
		items  int64
	}
	tests := map[string]struct {
		policy Policy
		loads  []load
		want   []float64
	}{
		"first is the first":                         {First, []load{{1, 900}, {9, 0}}, []float64{1, 0}},
		"random is even":                             {Random, []load{{1, 900}, {1, 0}}, []float64{0.5, 0.5}},
		"random respects weights":                    {Random, []load{{1, 0}, {2, 0}, {5, 0}}, []float64{0.125, 0.25, 0.625}},
		"round robin is even":                        {RoundRobin, []load{{1, 900}, {1, 0}}, []float64{0.5, 0.5}},
		"round robin respects weights":               {RoundRobin, []load{{1, 0}, {2, 0}, {5, 0}}, []float64{0.125, 0.25, 0.625}},
		"random choose of two is the less loaded":    {RandomChoose, []load{{1, 64}, {1, 32}}, []float64{0, 1}},
		"random choose never is the most loaded":     {RandomChoose, []load{{1, 3}, {1, 2}, {1, 1}}, []float64{0, 1. / 3, 2. / 3}},
		"random choose counts load by weight":        {RandomChoose, []load{{4, 64}, {1, 32}}, []float64{1, 0}},
		"random choose without load is even":         {RandomChoose, []load{{1, 0}, {1, 0}}, []float64{0.5, 0.5}},
		"random choose of three is even":             {RandomChoose, []load{{1, 7}, {1, 7}, {1, 7}}, []float64{1. / 3, 1. / 3, 1. / 3}},
		"random choose without load takes by weight": {RandomChoose, []load{{1, 0}, {3, 0}}, []float64{0.25, 0.75}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			members := make([]*member, len(test.loads))
			for i, l := range test.loads {
				e := NewEndpoint(EndpointOptions{URL: &url.URL{Scheme: "http", Host: "upstream.test"}})
				e.load.Store(l.items)
				members[i] = &member{Member: Member{Endpoint: e, Weight: l.weight}}
			}
			for i, got := range share(test.policy, 16_000, members...) {
				if math.Abs(got-test.want[i]) > 0.03 {
					t.Errorf("member %d got %.3f of the picks, want %.3f", i, got, test.want[i])
				}
			}
		})
	}
}

// TestRoundRobinSpreadsTheTurns looks at the order in which a heavy member has
// its turns.
func TestRoundRobinSpreadsTheTurns(t *testing.T) {
	t.Parallel()
	var members []*member
	for _, weight := range []int{5, 1, 1} {
		members = append(members, &member{Member: Member{Endpoint: new(Endpoint), Weight: weight}})
	}
	var order string
	for range 14 {
		picked := RoundRobin.pick(members)
		for i, m := range members {
			if m.Endpoint == picked {
				order += string(rune('a' + i))
			}
		}
	}
	if order != "aabacaaaabacaa" {
		t.Errorf("the turns are %s", order)
	}
}
