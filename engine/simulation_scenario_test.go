package engine

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"
)

// A scenario is what a seed makes up: everything that is said to the engine, and
// what goes wrong when. Nothing in it depends on the order in which goroutines
// run.
type scenario struct {
	seed uint64
	// tick is what all times are multiples of. A coarse one lets much happen at the
	// same moment, a nanosecond next to nothing.
	tick time.Duration
	// batchSize is that of all requests, 0 when each has its own.
	batchSize int
	// panics says that the transport may panic.
	panics    bool
	policy    Policy
	bucket    *RetryBucketOptions // nil for none
	memoryMax int64               // 0 for no limit
	checking  time.Duration       // interval of active checks, 0 for none
	endpoints []simEndpoint
	weights   []int
	changes   []simChange
	clients   [][]*simRequest
}

// A simEndpoint is how an endpoint behaves and what it is spared.
type simEndpoint struct {
	options EndpointOptions
	// base and perItem are what a good reply takes, jitter what is added at most,
	// and outliers the share of replies that take fifty times as long.
	base, perItem, jitter time.Duration
	outliers              float64
	// capacity is how many items are worked on at once, 0 for any number. What is
	// too much is answered with 429 and this Retry-After.
	capacity   int
	retryAfter string
	// faulty is the share of calls that go wrong, and faults how: the chances of
	// each kind relative to the others.
	faulty float64
	faults []simFault
	downs  []simDown
}

// A simDown is a time in which nothing works.
type simDown struct {
	from, to time.Duration
	how      simFault
}

// A simChange replaces the members of the group.
type simChange struct {
	at      time.Duration
	members []int // by endpoint
}

// A simRequest is one request of a client.
type simRequest struct {
	number   int
	pause    time.Duration // before it
	texts    []string
	poison   int // the status that every endpoint answers with, 0 for a good request
	base64   bool
	bare     bool // one text that stands in no list
	empty    bool // no texts, which is an error of the client
	settings Settings
	deadline time.Duration // of the client, from the start; 0 for none
	cancel   time.Duration // when the client leaves; negative for never
}

// simPoison is in the texts that no endpoint takes.
const simPoison = "poison"

// dice make random choices.
type dice struct{ *rand.Rand }

// newDice returns dice that fall according to these numbers.
func newDice(numbers ...uint64) dice {
	high, low := uint64(0x9e3779b97f4a7c15), uint64(0xbf58476d1ce4e5b9)
	for _, n := range numbers {
		// Numbers next to each other make dice that have nothing in common.
		mixed := rand.NewPCG(high^n, low)
		high, low = mixed.Uint64(), mixed.Uint64()
	}
	return dice{rand.New(rand.NewPCG(high, low))}
}

func (d dice) chance(p float64) bool { return d.Float64() < p }

func (d dice) between(low, high int) int { return low + d.IntN(high-low+1) }

// time returns a time between two, of which short ones are as likely as long ones.
func (d dice) time(low, high time.Duration) time.Duration {
	return time.Duration(float64(low) * math.Exp(d.Float64()*math.Log(float64(high)/float64(low))))
}

func oneOf[T any](d dice, choices ...T) T { return choices[d.IntN(len(choices))] }

// newScenario makes a scenario up.
func newScenario(seed uint64) *scenario {
	d := newDice(seed)
	s := &scenario{seed: seed, tick: oneOf(d, 1, 1, 5*time.Millisecond, 15*time.Millisecond)}
	s.policy = oneOf(d, Policies()...)
	if d.chance(0.7) {
		s.bucket = &RetryBucketOptions{
			Size:      oneOf(d, 0., 1, 5, 20),
			PerReply:  oneOf(d, 0., -1, 1),
			PerSecond: oneOf(d, 0., -1, 1),
		}
	}
	if d.chance(0.1) {
		s.memoryMax = int64(d.between(32<<10, 1<<20))
	}
	if d.chance(0.15) {
		s.checking = s.time(d, 5*time.Second, 10*time.Second)
	}
	if d.chance(0.5) {
		s.batchSize = oneOf(d, 1, 3, 8, 32)
	}
	s.panics = d.chance(0.05)
	health := d.chance(0.7)
	for i := range d.between(1, 5) {
		s.endpoints = append(s.endpoints, s.newEndpoint(d, i, health))
		s.weights = append(s.weights, oneOf(d, 1, 1, 1, 2, 5))
	}
	if d.chance(0.2) {
		s.newChanges(d)
	}
	number := 0
	for range d.between(1, oneOf(d, 1, 3, 8)) {
		var requests []*simRequest
		for range d.between(1, oneOf(d, 1, 3, 6)) {
			requests = append(requests, s.newRequest(d, number))
			number++
		}
		s.clients = append(s.clients, requests)
	}
	return s
}

// time is [dice.time] in ticks, at least one of them.
func (s *scenario) time(d dice, low, high time.Duration) time.Duration {
	return max(s.tick, d.time(low, high).Truncate(s.tick))
}

// members returns endpoints as members of a group.
func (s *scenario) members(all []*Endpoint, which []int) []Member {
	members := make([]Member, len(which))
	for i, at := range which {
		members[i] = Member{Endpoint: all[at], Weight: s.weights[at]}
	}
	return members
}

// everyone are all endpoints.
func (s *scenario) everyone() []int {
	all := make([]int, len(s.endpoints))
	for i := range all {
		all[i] = i
	}
	return all
}

func (s *scenario) newEndpoint(d dice, number int, health bool) simEndpoint {
	e := simEndpoint{
		base:     d.time(time.Millisecond, 50*time.Millisecond),
		perItem:  d.time(time.Microsecond, 2*time.Millisecond),
		outliers: oneOf(d, 0, 0.02, 0.1),
	}
	e.options.URL = simURL(number)
	e.jitter = oneOf(d, 0, e.base/2, e.base*4)
	if d.chance(0.4) {
		e.options.MaxRequests = d.between(1, 16)
	}
	if d.chance(0.3) {
		e.options.MaxItems = d.between(8, 256)
	}
	if health {
		e.options.Health = HealthOptions{
			FailDuration:     s.time(d, 500*time.Millisecond, 10*time.Second),
			MaxFails:         d.between(0, 5),
			UnhealthyStatus:  oneOf[[]int](d, nil, nil, []int{}, []int{429, 5}),
			UnhealthyLatency: oneOf(d, 0, 0, 0, 500*time.Millisecond),
		}
	}
	if d.chance(0.3) {
		e.capacity = d.between(64, 128)
		e.retryAfter = oneOf(d, "", "", "1")
	}
	e.faulty = oneOf(d, 0, 0, 0.01, 0.03, 0.1, 0.3, 0.9)
	for len(e.faults) < 6 {
		e.faults = append(e.faults, s.newFault(d))
	}
	if d.chance(0.2) {
		from := s.time(d, time.Millisecond, 5*time.Second)
		e.downs = append(e.downs, simDown{
			from: from,
			to:   from + s.time(d, 100*time.Millisecond, 20*time.Second),
			how:  oneOf(d, simDrop, simUnavailable, simStall, simNobodyListens),
		})
	}
	return e
}

// newFault chooses a kind of trouble. What ends a request at once is rare, or
// little else would happen.
func (s *scenario) newFault(d dice) simFault {
	for {
		fault := simFault(d.IntN(int(simFaults)))
		switch fault {
		case simPanics, simPanicsInBody:
			if s.panics {
				return fault
			}
		case simClientError, simRedirects:
			if d.chance(0.1) {
				return fault
			}
		default:
			return fault
		}
	}
}

// newChanges lets the group have other members for a while, or none.
func (s *scenario) newChanges(d dice) {
	at := time.Duration(0)
	for range d.between(1, 5) {
		at += s.time(d, time.Millisecond, 3*time.Second)
		members := d.Perm(len(s.endpoints))[:d.between(1, len(s.endpoints))]
		if d.chance(0.1) {
			members = nil
		}
		s.changes = append(s.changes, simChange{at: at, members: members})
	}
}

// newRequest makes a request up. Most ask for little, as most clients do.
func (s *scenario) newRequest(d dice, number int) *simRequest {
	r := &simRequest{number: number, cancel: -1}
	if d.chance(0.7) {
		r.pause = s.time(d, time.Millisecond, 3*time.Second)
	}
	items := oneOf(d, 1, d.between(1, 16), d.between(1, 150), d.between(150, 600))
	r.settings = s.newSettings(d, items)
	if d.chance(0.3) {
		r.deadline = s.time(d, 20*time.Millisecond, 10*time.Second)
	}
	if d.chance(0.01) {
		r.deadline = -time.Second
	}
	if d.chance(0.15) {
		r.cancel = s.time(d, time.Millisecond, 3*time.Second)
	}
	if d.chance(0.01) {
		r.cancel = 0
	}
	if d.chance(0.04) {
		r.poison = oneOf(d, 400, 422)
	}
	r.base64 = d.chance(0.1)
	r.bare = items == 1 && d.chance(0.3)
	r.empty = d.chance(0.01)
	for i := range items {
		text := fmt.Sprintf("%d/%d/%d", s.seed, number, i)
		if d.chance(0.05) {
			text += oneOf(d, ` "quoted"`, ` \`, " é\u2028", " \x01", strings.Repeat(" long", 40))
		}
		r.texts = append(r.texts, text)
	}
	if r.poison != 0 {
		r.texts[d.IntN(items)] = fmt.Sprint(simPoison, r.poison)
	}
	return r
}

func (s *scenario) newSettings(d dice, items int) Settings {
	size := oneOf(d, 1, 3, 8, 32, 64)
	if s.batchSize > 0 {
		size = s.batchSize
	}
	set := Settings{
		MaxConcurrentRequests: oneOf(d, 1, 2, 8, 64),
		BatchSize:             max(size, items/60),
		Timeout:               s.time(d, 100*time.Millisecond, 10*time.Second),
		MaxRetries:            oneOf(d, -1, 0, 0, 1, 2, 6),
		RetryBudgetPct:        oneOf(d, 0, 0, -1, 0.5, 3),
		InitialBackoff:        s.time(d, time.Millisecond, 2*time.Second),
	}
	if d.chance(0.3) {
		set.HedgeDelay = s.time(d, 10*time.Millisecond, 500*time.Millisecond)
	} else {
		set.HedgeAuto = d.chance(0.3)
	}
	set.HedgeBudgetPct = oneOf(d, 0, 0, -1, 0.5, 3)
	if d.chance(0.2) {
		set.TotalTimeout = s.time(d, 50*time.Millisecond, 20*time.Second)
	}
	if d.chance(0.1) {
		set.NonRetryableStatusCodes = oneOf(d, []int{503}, []int{500, 502, 503}, []int{429}, []int{408, 424})
	}
	return set
}

// body returns the document that the client sends.
func (r *simRequest) body() []byte {
	doc := map[string]any{"input": r.texts, "model": fmt.Sprint("model-", r.number)}
	if r.base64 {
		doc["encoding_format"] = "base64"
	}
	if r.bare {
		doc["input"] = r.texts[0]
	}
	if r.empty {
		doc["input"] = []string{}
	}
	body, err := json.Marshal(doc)
	if err != nil {
		panic(err) // texts and numbers always encode
	}
	return body
}

// batches returns how many batches the request is to become.
func (r *simRequest) batches() int {
	return (len(r.texts) + r.settings.BatchSize - 1) / r.settings.BatchSize
}
