package engine

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// checkedServers are servers in memory, by the host of their URL, which answer
// checks with the status that is set, and are well when none is.
type checkedServers struct {
	mu     sync.Mutex
	status map[string]int
	// delay is how long a server takes.
	delay map[string]time.Duration
	// asked are the times of the checks, from the first on.
	asked map[string][]time.Duration
	start time.Time
}

func newCheckedServers() *checkedServers {
	return &checkedServers{
		status: map[string]int{}, delay: map[string]time.Duration{}, asked: map[string][]time.Duration{}, start: time.Now(),
	}
}

func (s *checkedServers) set(host string, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status[host] = status
}

func (s *checkedServers) slow(host string, delay time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay[host] = delay
}

// times returns when a server was asked.
func (s *checkedServers) times(host string) []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked[host])
}

func (s *checkedServers) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	host := req.URL.Host
	s.asked[host] = append(s.asked[host], time.Since(s.start))
	status, delay := s.status[host], s.delay[host]
	s.mu.Unlock()
	if err := wait(req, delay); err != nil {
		return nil, err
	}
	if status == 0 {
		status = http.StatusOK
	}
	return respond(req, status, "fine"), nil
}

// reports are what a checker reported.
type reports struct {
	mu   sync.Mutex
	said []string
}

func (r *reports) report(e *Endpoint, up bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, fmt.Sprintf("%s up %v: %v", e.url.Host, up, err))
}

// take returns what was reported since the last time.
func (r *reports) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	said := r.said
	r.said = nil
	slices.Sort(said)
	return said
}

func wantReports(t *testing.T, when string, r *reports, want ...string) {
	t.Helper()
	if got := r.take(); !slices.Equal(got, want) {
		t.Errorf("%s the reports are %q, want %q", when, got, want)
	}
}

func wantUp(t *testing.T, when string, e *Endpoint, want bool) {
	t.Helper()
	if got := e.health.up(); got != want {
		t.Fatalf("%s up is %v", when, got)
	}
}

// these returns endpoints that do not change.
func these(endpoints ...*Endpoint) func() []*Endpoint {
	return func() []*Endpoint { return endpoints }
}

// later lets time pass and everything that is due then happen.
func later(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestPassesAndFailsInARow(t *testing.T) {
	t.Parallel()
	const good, bad = http.StatusOK, http.StatusServiceUnavailable
	tests := map[string]struct {
		passes, fails int
		statuses      []int
		up            []bool
	}{
		"one of each by default":     {0, 0, []int{good, bad, bad, good, good, bad}, []bool{true, false, false, true, true, false}},
		"three fails in a row":       {1, 3, []int{bad, bad, good, bad, bad, bad, bad, good}, []bool{true, true, true, true, true, false, false, true}},
		"two passes in a row":        {2, 1, []int{bad, good, bad, good, good, bad}, []bool{false, false, false, false, true, false}},
		"passes before it went down": {2, 2, []int{good, good, good, bad, bad, good, good}, []bool{true, true, true, true, false, false, true}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				servers, got := newCheckedServers(), new(reports)
				e := healthEndpoint(t, "http://up.test", "")
				servers.set("up.test", test.statuses[0])
				checks := StartHealthChecks(HealthCheckOptions{
					Endpoints: these(e), Transport: servers, Passes: test.passes, Fails: test.fails, Report: got.report,
				})
				synctest.Wait()
				before := true
				for i, up := range test.up {
					wantUp(t, fmt.Sprintf("after check %d", i), e, up)
					if said := got.take(); (len(said) == 1) != (up != before) || len(said) > 1 {
						t.Errorf("check %d reported %q", i, said)
					}
					before = up
					if i < len(test.statuses)-1 {
						servers.set("up.test", test.statuses[i+1])
						later(DefaultHealthInterval)
					}
				}
				checks.Close()
			})
		})
	}
}

// TestRoundsOfHealthChecks looks at when endpoints are asked, one of which
// never answers.
func TestRoundsOfHealthChecks(t *testing.T) {
	t.Parallel()
	const s = time.Second
	tests := map[string]struct {
		interval, timeout time.Duration
		run               time.Duration
		asked             []time.Duration
	}{
		"by default":                            {0, 0, 100 * s, []time.Duration{0, 30 * s, 60 * s, 90 * s}},
		"as set":                                {10 * s, 3 * s, 35 * s, []time.Duration{0, 10 * s, 20 * s, 30 * s}},
		"no later than the slowest takes":       {2 * s, 5 * s, 19 * s, []time.Duration{0, 5 * s, 10 * s, 15 * s}},
		"a timeout that is just the interval":   {5 * s, 5 * s, 19 * s, []time.Duration{0, 5 * s, 10 * s, 15 * s}},
		"a timeout that fits into the interval": {5 * s, 4 * s, 19 * s, []time.Duration{0, 5 * s, 10 * s, 15 * s}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				servers, got := newCheckedServers(), new(reports)
				servers.slow("stuck.test", time.Hour)
				servers.slow("slow.test", time.Second)
				quick, slow, stuck := healthEndpoint(t, "http://quick.test", ""), healthEndpoint(t, "http://slow.test", ""), healthEndpoint(t, "http://stuck.test", "")
				checks := StartHealthChecks(HealthCheckOptions{
					Endpoints: these(quick, slow, stuck, quick), Transport: servers, Report: got.report, Interval: test.interval, Timeout: test.timeout,
				})
				later(test.run)
				wantUp(t, "quick", quick, true)
				wantUp(t, "slow", slow, true)
				wantUp(t, "stuck", stuck, false)
				for _, host := range []string{"quick.test", "slow.test", "stuck.test"} {
					if asked := servers.times(host); !slices.Equal(asked, test.asked) {
						t.Errorf("%s was asked at %v, want %v", host, asked, test.asked)
					}
				}
				timeout := test.timeout
				if timeout == 0 {
					timeout = DefaultHealthTimeout
				}
				wantReports(t, "", got, fmt.Sprintf("stuck.test up false: no complete upstream reply within %v, the limit set by health_timeout", timeout))
				checks.Close()
				wantReports(t, "at the end", got, "stuck.test up true: <nil>")
			})
		})
	}
}

func TestHealthChecksFollowTheMembers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		servers, got := newCheckedServers(), new(reports)
		a, b := healthEndpoint(t, "http://a.test", ""), healthEndpoint(t, "http://b.test", "")
		var members atomic.Pointer[[]*Endpoint]
		members.Store(&[]*Endpoint{a})
		servers.set("a.test", http.StatusServiceUnavailable)
		checks := StartHealthChecks(HealthCheckOptions{
			Endpoints: func() []*Endpoint { return *members.Load() }, Transport: servers, Fails: 2, Report: got.report,
		})
		defer checks.Close()
		const no = "upstream answered with status 503"
		steps := []struct {
			what     string
			members  []*Endpoint
			aUp, bUp bool
			reports  []string
		}{
			{"a fails once", []*Endpoint{a}, true, true, nil},
			{"b comes, a fails again", []*Endpoint{a, b}, false, true, []string{"a.test up false: " + no}},
			{"a goes", []*Endpoint{b}, true, true, []string{"a.test up true: <nil>"}},
			{"nothing new", []*Endpoint{b}, true, true, nil},
			{"a comes back and fails", []*Endpoint{a, b}, true, true, nil},
			{"a goes again", []*Endpoint{b}, true, true, nil},
			{"what a failed is forgotten", []*Endpoint{a, b}, true, true, nil},
			{"a fails again", []*Endpoint{a, b}, false, true, []string{"a.test up false: " + no}},
			{"all go", nil, true, true, []string{"a.test up true: <nil>"}},
		}
		for i, step := range steps {
			members.Store(&step.members)
			if i > 0 {
				later(DefaultHealthInterval)
			}
			synctest.Wait()
			wantUp(t, step.what+": a", a, step.aUp)
			wantUp(t, step.what+": b", b, step.bUp)
			wantReports(t, step.what, got, step.reports...)
		}
		if n := len(checks.checked); n != 0 {
			t.Errorf("%d endpoints are remembered", n)
		}
	})
}

// TestPanicsInHealthChecks lets everything panic that checks call.
func TestPanicsInHealthChecks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := healthEndpoint(t, "http://up.test", "")
		var rounds, asked, reported int
		last := make(chan error, 2)
		checks := StartHealthChecks(HealthCheckOptions{
			Endpoints: func() []*Endpoint {
				if rounds++; rounds%2 == 0 {
					panic("no endpoints")
				}
				return []*Endpoint{e}
			},
			Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
				if asked++; asked == 2 {
					panic("no transport")
				}
				return respond(req, http.StatusOK, ""), nil
			}),
			Report: func(_ *Endpoint, _ bool, err error) {
				reported++
				last <- err
				panic("no report")
			},
		})
		synctest.Wait()
		wantUp(t, "at first", e, true)
		later(DefaultHealthInterval)
		wantUp(t, "after a panic", e, false)
		err := <-last
		if p, ok := errors.AsType[*PanicError](err); !ok || p.Value != "no transport" || len(p.Stack) == 0 {
			t.Errorf("the check ended with %v, want a PanicError", err)
		}
		later(DefaultHealthInterval)
		wantUp(t, "after the next check", e, true)
		later(DefaultHealthInterval)
		checks.Close()
		if rounds != 4 || asked != 4 || reported != 2 {
			t.Errorf("%d rounds, %d checks, %d reports", rounds, asked, reported)
		}
	})
}

func TestCloseOfHealthChecks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		servers, got := newCheckedServers(), new(reports)
		servers.set("down.test", http.StatusServiceUnavailable)
		down, up, stuck := healthEndpoint(t, "http://down.test", ""), healthEndpoint(t, "http://up.test", ""), healthEndpoint(t, "http://stuck.test", "")
		checks := StartHealthChecks(HealthCheckOptions{
			Endpoints: these(down, up, stuck), Transport: servers, Report: got.report,
		})
		later(DefaultHealthInterval - 1)
		servers.slow("stuck.test", time.Hour)
		got.take()
		later(1)
		wantUp(t, "before the end", down, false)
		start := time.Now()
		var closing sync.WaitGroup
		for range 3 {
			closing.Go(checks.Close)
		}
		closing.Wait()
		if took := time.Since(start); took != 0 {
			t.Errorf("Close took %v, want no waiting for checks under way", took)
		}
		for _, e := range []*Endpoint{down, up, stuck} {
			wantUp(t, "after the end, "+e.url.Host, e, true)
		}
		wantReports(t, "at the end", got, "down.test up true: <nil>")
		n := len(servers.times("up.test"))
		later(time.Hour)
		if len(servers.times("up.test")) != n {
			t.Error("checks go on after Close")
		}
	})
}

// TestHealthChecksAcrossReloads starts the checks of a new configuration before
// those of the old one are closed, as Caddy does.
func TestHealthChecksAcrossReloads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		servers, got := newCheckedServers(), new(reports)
		const host, no = "up.test", "up.test up false: upstream answered with status 503"
		e := healthEndpoint(t, "http://"+host, "")
		begin := func(passes, fails int) *HealthChecks {
			return StartHealthChecks(HealthCheckOptions{
				Endpoints: these(e), Transport: servers, Passes: passes, Fails: fails, Report: got.report,
			})
		}
		servers.set(host, http.StatusServiceUnavailable)
		first := begin(1, 1)
		synctest.Wait()
		wantReports(t, "by the first", got, no)

		// The new checks have not found out anything when the old ones are closed.
		second := begin(2, 3)
		first.Close()
		wantUp(t, "without a check of its own", e, false)
		synctest.Wait()
		wantUp(t, "after one failing check of three", e, false)
		servers.set(host, http.StatusOK)
		later(DefaultHealthInterval)
		wantUp(t, "after one good check of two", e, false)
		wantReports(t, "until then", got)
		later(DefaultHealthInterval)
		wantUp(t, "after two good checks", e, true)
		wantReports(t, "after two good checks", got, "up.test up true: <nil>")

		// The verdict of the new checks stands when the old ones are closed.
		servers.set(host, http.StatusServiceUnavailable)
		third := begin(1, 1)
		synctest.Wait()
		wantReports(t, "by the third", got, no)
		second.Close()
		wantUp(t, "after the second is closed", e, false)

		// A configuration that fails to start leaves things as they were.
		begin(1, 1).Close()
		wantUp(t, "after a failed reload", e, false)

		// What the new checks find better is so when the old ones have gone.
		servers.set(host, http.StatusOK)
		fourth := begin(1, 1)
		synctest.Wait()
		wantUp(t, "while the third has not heard of it", e, false)
		third.Close()
		wantUp(t, "after the third is closed", e, true)
		wantReports(t, "after the third is closed", got, "up.test up true: <nil>")
		fourth.Close()

		// What a failed reload said goes with it.
		servers.set(host, http.StatusServiceUnavailable)
		failing := begin(1, 1)
		synctest.Wait()
		wantUp(t, "during a failed reload", e, false)
		failing.Close()
		wantUp(t, "after the last checks were closed", e, true)
	})
}
