package engine

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

// A cluster is a group of scripted upstreams, reached by the hosts a, b, c, ...
type cluster struct {
	upstreams []*enginetest.Upstream
	endpoints []*Endpoint
	to        Destination
}

// newCluster returns a cluster of n upstreams without faults whose endpoints
// share the options.
func newCluster(n int, group GroupOptions, o EndpointOptions) *cluster {
	c := &cluster{}
	members := make([]Member, n)
	for i := range n {
		c.upstreams = append(c.upstreams, enginetest.New())
		o.URL = &url.URL{Scheme: "http", Host: string(rune('a' + i))}
		members[i].Endpoint = NewEndpoint(o)
		c.endpoints = append(c.endpoints, members[i].Endpoint)
	}
	c.to = Destination{Group: NewGroup(group, members...), Transport: c}
	return c
}

// RoundTrip brings a request to the upstream of its host.
func (c *cluster) RoundTrip(req *http.Request) (*http.Response, error) {
	return c.upstreams[req.URL.Host[0]-'a'].RoundTrip(req)
}

// calls returns how many calls each upstream got.
func (c *cluster) calls() []int {
	calls := make([]int, len(c.upstreams))
	for i, u := range c.upstreams {
		calls[i] = len(u.Calls())
	}
	return calls
}

// embed sends n texts, one a batch, and checks the answer.
func (c *cluster) embed(ctx context.Context, n int, settings Settings) error {
	settings.BatchSize = 1
	texts := make([]string, n)
	for i := range texts {
		texts[i] = fmt.Sprintf("text %d", i)
	}
	body := `{"input":["` + strings.Join(texts, `","`) + `"]}`
	answer, err := New(Options{}).Do(ctx, c.to, &Request{Path: "/v1/embeddings", Body: []byte(body), Settings: settings, ID: "id"})
	if err != nil {
		return err
	}
	defer answer.Close()
	var merged strings.Builder
	if _, err := answer.WriteTo(&merged); err != nil {
		return err
	}
	rest := merged.String()
	for i, text := range texts {
		vector := fmt.Sprintf(`"index":%d,"embedding":%s`, i, enginetest.Vector(text, 8))
		at := strings.Index(rest, vector)
		if at < 0 {
			return fmt.Errorf("the answer has no %s: %s", vector, merged.String())
		}
		rest = rest[at+len(vector):]
	}
	return nil
}

func TestRetriesGoElsewhere(t *testing.T) {
	t.Parallel()
	later := func(seconds string) []enginetest.Fault {
		return []enginetest.Fault{enginetest.Status(503, "later"), enginetest.Header("Retry-After", seconds)}
	}
	tests := map[string]struct {
		faults   map[int][]enginetest.Fault // by endpoint, for all of its calls
		settings Settings
		calls    []int
		ok       bool
		within   time.Duration
	}{
		"after a status": {
			map[int][]enginetest.Fault{0: {enginetest.Status(500, "no")}}, Settings{}, []int{1, 1, 0}, true, 125 * time.Millisecond,
		},
		"after a dropped connection, without a budget": {
			map[int][]enginetest.Fault{0: {enginetest.Drop()}, 1: {enginetest.Drop()}}, Settings{RetryBudgetPct: -1}, []int{1, 1, 1}, true, time.Second,
		},
		"after a wrong reply, without a budget": {
			map[int][]enginetest.Fault{0: {enginetest.Missing(0)}}, Settings{RetryBudgetPct: -1}, []int{1, 1, 0}, true, 125 * time.Millisecond,
		},
		"after a timeout, without a budget": {
			map[int][]enginetest.Fault{0: {enginetest.Delay(time.Hour)}}, Settings{RetryBudgetPct: -1}, []int{1, 1, 0}, true, 31 * time.Second,
		},
		"without heeding what the first one says of itself": {
			map[int][]enginetest.Fault{0: later("60")}, Settings{}, []int{1, 1, 0}, true, 125 * time.Millisecond,
		},
		"and come back when all have failed, as late as was asked": {
			map[int][]enginetest.Fault{0: later("60"), 1: later("60"), 2: later("60")}, Settings{MaxRetries: 3}, []int{2, 1, 1}, false, 62 * time.Second,
		},
		"not after what another attempt cannot mend": {
			map[int][]enginetest.Fault{0: {enginetest.Status(422, "no")}}, Settings{}, []int{1, 0, 0}, false, 0,
		},
		"not without retries": {
			map[int][]enginetest.Fault{0: {enginetest.Status(500, "no")}}, noRetries, []int{1, 0, 0}, false, 0,
		},
		"and spend the budget when none is left to try": {
			map[int][]enginetest.Fault{0: {enginetest.Drop()}, 1: {enginetest.Drop()}, 2: {enginetest.Drop()}},
			Settings{RetryBudgetPct: -1}, []int{1, 1, 1}, false, time.Second,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(3, GroupOptions{Policy: First}, EndpointOptions{})
				for i, faults := range test.faults {
					c.upstreams[i].Script = enginetest.Always(faults...)
				}
				start := time.Now()
				err := c.embed(t.Context(), 1, test.settings)
				if (err == nil) != test.ok {
					t.Errorf("got %v", err)
				}
				if got := c.calls(); fmt.Sprint(got) != fmt.Sprint(test.calls) {
					t.Errorf("the endpoints got %v calls, want %v", got, test.calls)
				}
				if took := time.Since(start); took > test.within {
					t.Errorf("took %v, want %v at most", took, test.within)
				}
			})
		})
	}
}

// TestEndpointThatAlwaysFails sends many requests to three endpoints one of
// which does nothing right.
func TestEndpointThatAlwaysFails(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]enginetest.Fault{
		"a status":            enginetest.Status(500, "no"),
		"a status of its own": enginetest.Status(507, "no"),
		"drops":               enginetest.Drop(),
		"cuts":                enginetest.CutAt(20),
		"wrong replies":       enginetest.Missing(0),
		"HTML":                enginetest.HTML(),
		"a stall":             enginetest.Delay(time.Hour),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				health := HealthOptions{FailDuration: 5 * time.Second}
				c := newCluster(3, GroupOptions{Retries: NewRetryBucket(RetryBucketOptions{})}, EndpointOptions{Health: health})
				c.upstreams[0].Script = enginetest.Always(fault)
				for range 20 {
					if err := c.embed(t.Context(), 64, Settings{Timeout: time.Second}); err != nil {
						t.Fatal(err)
					}
				}
				if calls := c.calls(); calls[0] == 0 || calls[0] > 64+20 || calls[1] < 200 || calls[2] < 200 {
					t.Errorf("the endpoints got %v calls", calls)
				}
				if c.endpoints[0].Up() || !c.endpoints[1].Up() || !c.endpoints[2].Up() {
					t.Error("not just the first endpoint is down")
				}
			})
		})
	}
}

// TestAllDown sends a request when every endpoint is taken to be down.
func TestAllDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(2, GroupOptions{}, EndpointOptions{Health: HealthOptions{FailDuration: time.Hour, MaxFails: 1}})
		for _, u := range c.upstreams {
			u.Script = enginetest.First(1, enginetest.Drop())
		}
		if err := c.embed(t.Context(), 1, Settings{MaxRetries: 1}); err == nil {
			t.Fatal("both endpoints dropped the connection, and the request succeeded")
		}
		if c.endpoints[0].Up() || c.endpoints[1].Up() {
			t.Fatal("the endpoints are up")
		}
		if err := c.embed(t.Context(), 1, noRetries); err != nil {
			t.Errorf("with all down, the request failed with %v", err)
		}
	})
}

// TestEndpointComesBack lets an endpoint fail for a while.
func TestEndpointComesBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(3, GroupOptions{Policy: RoundRobin}, EndpointOptions{Health: HealthOptions{FailDuration: 5 * time.Second}})
		start := time.Now()
		c.upstreams[0].Script = func(*enginetest.Call) []enginetest.Fault {
			if time.Since(start) < 12*time.Second {
				return []enginetest.Fault{enginetest.Drop()}
			}
			return nil
		}
		for range 60 {
			if err := c.embed(t.Context(), 10, Settings{}); err != nil {
				t.Fatal(err)
			}
			<-time.After(time.Second / 2)
		}
		var probes int
		for _, call := range c.upstreams[0].Calls() {
			if at := call.Arrived.Sub(start); at > time.Second && at < 12*time.Second {
				probes++
			}
		}
		if probes < 1 || probes > 3 {
			t.Errorf("while it was down, the endpoint got %d calls after the first second, want one every 5 s", probes)
		}
		if calls := c.calls(); calls[0] < 50 {
			t.Errorf("the endpoint that came back got %d calls", calls[0])
		}
	})
}

// recorder is an Observer that remembers.
type recorder struct {
	changes  chan string
	attempts chan Attempt
	refused  chan Budget
	waits    chan time.Duration
	retries  chan error
}

func newRecorder() *recorder {
	return &recorder{
		changes: make(chan string, 1000), attempts: make(chan Attempt, 1000), refused: make(chan Budget, 1000),
		waits: make(chan time.Duration, 1000), retries: make(chan error, 1000),
	}
}

func (r *recorder) HealthChanged(e *Endpoint, up bool, _ error) {
	r.changes <- e.URL().Host + map[bool]string{true: " is up", false: " is down"}[up]
}
func (r *recorder) Attempted(a Attempt)                              { r.attempts <- a }
func (r *recorder) Refused(b Budget)                                 { r.refused <- b }
func (r *recorder) Waited(_ *Endpoint, wait time.Duration)           { r.waits <- wait }
func (r *recorder) Retrying(_ *Endpoint, _ time.Duration, err error) { r.retries <- err }

func TestRefusedStreamsAreFree(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		upstream := roundTrip(func(req *http.Request) (*http.Response, error) {
			if calls++; calls <= 5 {
				return nil, fmt.Errorf("sending: %w", http2.StreamError{StreamID: 3, Code: http2.ErrCodeRefusedStream})
			}
			return oneVector(req), nil
		})
		answer, err := embed(t.Context(), upstream, 1, Settings{RetryBudgetPct: -1})
		if err != nil {
			t.Fatal(err)
		}
		answer.Close()
	})
}

func TestGroupWithoutEndpoints(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(0, GroupOptions{}, EndpointOptions{})
		err := c.embed(t.Context(), 3, Settings{})
		if _, ok := errors.AsType[*NetworkError](err); !ok {
			t.Errorf("got %v, want a NetworkError", err)
		}
	})
}

// TestMembersAreReplaced replaces the endpoints while a batch waits to be tried
// again.
func TestMembersAreReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(2, GroupOptions{}, EndpointOptions{})
		members := c.to.Group.Members()
		c.to.Group.Set(members[0])
		c.upstreams[0].Script = func(*enginetest.Call) []enginetest.Fault {
			c.to.Group.Set(members[1])
			return []enginetest.Fault{enginetest.Status(503, "going")}
		}
		if err := c.embed(t.Context(), 1, Settings{}); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(c.calls()); got != "[1 1]" {
			t.Errorf("the endpoints got %v calls", got)
		}
	})
}

// TestObserverIsTold sends a batch that meets a fault at every station.
func TestObserverIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(2, GroupOptions{Policy: First}, EndpointOptions{
			MaxRequests: 1, Health: HealthOptions{FailDuration: time.Minute, MaxFails: 1},
		})
		c.upstreams[0].Script = enginetest.Always(enginetest.Delay(time.Second), enginetest.Status(500, "no"))
		c.upstreams[1].Script = enginetest.First(1, enginetest.Delay(time.Second))
		r := newRecorder()
		answer, err := New(Options{Observer: r}).Do(t.Context(), c.to, &Request{
			Path: "/v1/embeddings", ID: "id", Body: []byte(`{"input":["a","b","c"]}`), Settings: Settings{BatchSize: 3, HedgeDelay: 2 * time.Second},
		})
		if err != nil {
			t.Fatal(err)
		}
		answer.Close()
		if err := <-r.retries; statusOf(err) != 500 {
			t.Errorf("the retry is told with %v", err)
		}
		if change := <-r.changes; change != "a is down" {
			t.Errorf("the change of health is told as %s", change)
		}
		want := []Attempt{
			{Endpoint: c.endpoints[0], ID: "id-0-0", Items: 3, Took: time.Second},
			{Endpoint: c.endpoints[1], ID: "id-0-1", Items: 3, Retry: 1, Took: time.Second},
		}
		for i := range want {
			got := <-r.attempts
			if (got.Err != nil) != (i == 0) {
				t.Errorf("attempt %d is told with %v", i, got.Err)
			}
			if got.Err = nil; got != want[i] {
				t.Errorf("attempt %d is told as %+v, want %+v", i, got, want[i])
			}
		}
	})
}
