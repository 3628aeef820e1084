package engine

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	simulationSeeds = flag.Uint64("simulation.seeds", 300, "run TestSimulation with the seeds from 1 up to this one")
	simulationSeed  = flag.Uint64("simulation.seed", 0, "run TestSimulation with this seed only, and log what happens")
)

const (
	// simPatience is how long, in virtual time, the clients may take together. What
	// is not over by then never is.
	simPatience = 24 * time.Hour
	// simWatchdog is how long, in real time, one seed may take.
	simWatchdog = 2 * time.Minute
)

// TestSimulation runs the whole engine in virtual time against endpoints that a
// seed makes up, with all that can go wrong there, on behalf of clients that it
// makes up as well, and checks that every rule held at every moment.
//
//	go test ./engine -run '^TestSimulation$'                            # some hundred seeds
//	go test ./engine -run '^TestSimulation$' -simulation.seeds 10000    # so many
//	go test ./engine -run '^TestSimulation$' -simulation.seed 17        # this one, with all that happens
//
// With -v it prints what happened how often.
//
// A seed determines the whole scenario: the endpoints, the clients, and the fate
// of the first, second, third call to each endpoint. It does not determine in
// which order goroutines run that are ready at the same moment, nor what the
// engine itself chooses at random: backoffs, and the endpoints of the policies
// random and random_choose. A fault that depends on those shows in some runs of
// its seed only; add -count 100 then.
//
//	simulation_scenario_test.go   what a seed makes up
//	simulation_faults_test.go     what becomes of a call
//	simulation_upstream_test.go   the endpoints, as a transport in memory
//	simulation_client_test.go     the clients, and what the answers must be
//	simulation_request_test.go    the rules for one request
//	simulation_batch_test.go      the rules for one batch, its retries and copies
//	simulation_rules_test.go      the rules for all of them together
func TestSimulation(t *testing.T) {
	t.Parallel()
	if *simulationSeed != 0 {
		s := newSimulation(*simulationSeed)
		s.tracing = true
		s.runIn(t)
		t.Logf("what happened:\n%s", strings.Join(s.trace, "\n"))
		s.report(t)
		t.Logf("how often:\n%s", &s.counts)
		return
	}
	var next atomic.Uint64
	total := simCounts{}
	t.Run("seeds", func(t *testing.T) {
		for worker := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint("worker ", worker), func(t *testing.T) {
				t.Parallel()
				for seed := next.Add(1); seed <= *simulationSeeds; seed = next.Add(1) {
					s := newSimulation(seed)
					s.runIn(t)
					s.report(t)
					total.merge(&s.counts)
				}
			})
		}
	})
	t.Logf("in %d seeds there were\n%s", *simulationSeeds, &total)
}

// A simulation is a scenario that is being played.
type simulation struct {
	*scenario
	start     time.Time
	upstreams []*simUpstream
	group     *Group
	retries   *RetryBucket // nil for none
	memory    *Memory
	counts    simCounts
	tracing   bool

	mu sync.Mutex
	// runs are the requests by their ids.
	runs map[string]*simRun
	// healed says that nothing goes wrong any more.
	healed bool
	trace  []string

	failuresMu sync.Mutex
	failures   []string
}

func newSimulation(seed uint64) *simulation {
	return &simulation{scenario: newScenario(seed), runs: make(map[string]*simRun)}
}

// runIn plays the scenario as a test of its own.
func (s *simulation) runIn(t *testing.T) {
	watchdog := time.AfterFunc(simWatchdog, func() {
		panic(fmt.Sprintf("seed %d takes more than %v; %s", s.seed, simWatchdog, s.replay()))
	})
	defer watchdog.Stop()
	defer func() {
		// Goroutines that will never end are a panic of synctest.
		if value := recover(); value != nil {
			s.failf(nil, "nothing is left running", "%v\n%s", value, s.stacks())
		}
	}()
	synctest.Test(t, func(t *testing.T) { s.run(t.Context()) })
}

// stacks returns where the goroutines of a replay stand.
func (s *simulation) stacks() string {
	if !s.tracing {
		return ""
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	var stuck []string
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		if head, _, _ := strings.Cut(stack, "\n"); strings.Contains(head, "synctest bubble") {
			stuck = append(stuck, stack)
		}
	}
	return strings.Join(stuck, "\n\n")
}

// recovered, when it is deferred, notes a panic of the engine or of a rule.
func (s *simulation) recovered() {
	if value := recover(); value != nil {
		s.failf(nil, "no panics", "%v\n%s", value, debug.Stack())
	}
}

// replay is how to run the seed again.
func (s *simulation) replay() string {
	return fmt.Sprintf("replay: go test ./engine -run '^TestSimulation$' -simulation.seed %d", s.seed)
}

// report fails the test when a rule was broken.
func (s *simulation) report(t *testing.T) {
	s.failuresMu.Lock()
	defer s.failuresMu.Unlock()
	if len(s.failures) > 0 {
		t.Errorf("seed %d: %d failures, the first of them:\n%s\n%s",
			s.seed, len(s.failures), strings.Join(s.failures[:min(5, len(s.failures))], "\n"), s.replay())
	}
}

// failf notes that a rule was broken, by a request if r is not nil.
func (s *simulation) failf(r *simRun, rule, format string, args ...any) {
	s.failuresMu.Lock()
	defer s.failuresMu.Unlock()
	if len(s.failures) == cap(s.failures) && len(s.failures) >= 1000 {
		return
	}
	who := ""
	if r != nil {
		who = ", " + r.id()
	}
	s.failures = append(s.failures, fmt.Sprintf("[%s%s] %s", rule, who, fmt.Sprintf(format, args...)))
}

// note is tracef for a call; the mutex is held.
func (s *simulation) note(c *simCall, format string, args ...any) {
	if s.tracing {
		s.trace = append(s.trace, fmt.Sprintf("%12v %s at e%d: %s", s.now(), c.name(), c.upstream.number, fmt.Sprintf(format, args...)))
	}
}

// tracef notes what happens now for who reads the replay of a seed.
func (s *simulation) tracef(format string, args ...any) {
	if !s.tracing {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trace = append(s.trace, fmt.Sprintf("%12v %s", s.now(), fmt.Sprintf(format, args...)))
}

// now is the time since the start.
func (s *simulation) now() time.Duration { return time.Since(s.start) }

// run plays the scenario.
func (s *simulation) run(ctx context.Context) {
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	s.begin()
	endChecks := func() {}
	if s.checking > 0 {
		endChecks = StartHealthChecks(HealthCheckOptions{
			Endpoints: func() []*Endpoint { return s.all() }, Transport: s, Interval: s.checking,
		}).Close
	}
	var clients sync.WaitGroup
	for _, requests := range s.clients {
		clients.Go(func() {
			defer s.recovered()
			for _, request := range requests {
				<-time.After(request.pause)
				s.send(ctx, request)
			}
		})
	}
	clients.Go(s.changeMembers)
	done := make(chan struct{})
	go func() { clients.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(simPatience):
		s.failf(nil, "everything ends", "after %v these still run: %v", simPatience, s.running())
		giveUp()
		// With nobody else to wait for, synctest finds out who waits in vain.
		endChecks()
		<-done
	}
	defer s.recovered()
	s.checkAll()
	s.heal(ctx)
	endChecks()
	s.checkQuiet()
	s.countAll()
}

// running returns the requests that are not over.
func (s *simulation) running() (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, r := range s.runs {
		if !r.over {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// begin makes the group.
func (s *simulation) begin() {
	s.start = time.Now()
	for i, e := range s.endpoints {
		s.upstreams = append(s.upstreams, &simUpstream{simEndpoint: e, sim: s, number: i, endpoint: NewEndpoint(e.options)})
	}
	if s.bucket != nil {
		s.retries = NewRetryBucket(*s.bucket)
	}
	s.memory = NewMemory(cmp.Or(s.memoryMax, 1<<40))
	s.group = NewGroup(GroupOptions{Policy: s.policy, Retries: s.retries}, s.members(s.all(), s.everyone())...)
}

// all returns all endpoints, members of the group or not.
func (s *simulation) all() []*Endpoint {
	var all []*Endpoint
	for _, u := range s.upstreams {
		all = append(all, u.endpoint)
	}
	return all
}

// changeMembers replaces the members of the group when it is time for that.
func (s *simulation) changeMembers() {
	for _, change := range s.changes {
		<-time.After(change.at - s.now())
		s.group.Set(s.members(s.all(), change.members)...)
		s.tracef("the members are %v", change.members)
	}
}

// simCounts count what happened. They are safe for concurrent use.
type simCounts struct {
	mu     sync.Mutex
	counts map[string]int
}

func (c *simCounts) add(what string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = make(map[string]int)
	}
	c.counts[what] += n
}

func (c *simCounts) merge(other *simCounts) {
	for what, n := range other.counts {
		c.add(what, n)
	}
}

func (c *simCounts) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, what := range slices.Sorted(maps.Keys(c.counts)) {
		fmt.Fprintf(&b, "%9d %s\n", c.counts[what], what)
	}
	return b.String()
}
