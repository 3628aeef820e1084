package engine

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

func TestDeadlineThatCannotBeMet(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		replies   int           // of 100 ms, before the request
		silence   time.Duration // after them
		endpoints int
		batches   int
		settings  Settings
		needs     time.Duration // 0 when nothing is refused
	}{
		"of one batch, is refused":                       {8, 0, 1, 1, Settings{Timeout: 49 * time.Millisecond, TotalTimeout: 49 * time.Millisecond}, 50 * time.Millisecond},
		"of ten batches, two at a time, is refused":      {8, 0, 1, 10, Settings{MaxConcurrentRequests: 2, Timeout: 249 * time.Millisecond, TotalTimeout: 249 * time.Millisecond}, 250 * time.Millisecond},
		"that can just be met is not refused":            {8, 0, 1, 10, Settings{MaxConcurrentRequests: 2, TotalTimeout: 501 * time.Millisecond}, 0},
		"is not known when too few replies were seen":    {7, 0, 1, 1, Settings{Timeout: 49 * time.Millisecond, TotalTimeout: 49 * time.Millisecond}, 0},
		"is not known when they are too old":             {8, 5 * time.Second, 1, 1, Settings{Timeout: 49 * time.Millisecond, TotalTimeout: 49 * time.Millisecond}, 0},
		"is not known when one endpoint is not known":    {8, 0, 2, 1, Settings{Timeout: 49 * time.Millisecond, TotalTimeout: 49 * time.Millisecond}, 0},
		"matters not when it is the limit of an attempt": {8, 0, 1, 1, Settings{Timeout: 49 * time.Millisecond, MaxRetries: -1}, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(test.endpoints, GroupOptions{Policy: First}, EndpointOptions{})
				for _, u := range c.upstreams {
					u.Script = enginetest.Always(enginetest.Delay(100 * time.Millisecond))
				}
				for range test.replies {
					if err := c.embed(t.Context(), 1, Settings{}); err != nil {
						t.Fatal(err)
					}
				}
				<-time.After(test.silence)
				start := time.Now()
				err := c.embed(t.Context(), test.batches, test.settings)
				timeout, _ := errors.AsType[*TimeoutError](err)
				if test.needs == 0 {
					if timeout != nil && timeout.Needs != 0 {
						t.Errorf("got %v", err)
					}
					return
				}
				if timeout == nil || timeout.Needs != test.needs || timeout.Limit != "total_timeout_s" {
					t.Errorf("got %v, want a refusal that needs %v", err, test.needs)
				}
				if took := time.Since(start); took != 0 {
					t.Errorf("it took %v to refuse", took)
				}
				if calls := c.calls()[0]; calls != test.replies {
					t.Errorf("%d batches were sent", calls-test.replies)
				}
			})
		})
	}
}

// TestIdleEndpointMayBeFaster refuses nothing because of replies that were slow
// when the endpoint had much to do.
func TestIdleEndpointMayBeFaster(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(1, GroupOptions{}, EndpointOptions{})
		c.upstreams[0].Script = func(*enginetest.Call) []enginetest.Fault {
			return []enginetest.Fault{enginetest.Delay(time.Duration(c.upstreams[0].InFlight()) * 20 * time.Millisecond)}
		}
		if err := c.embed(t.Context(), 64, Settings{}); err != nil {
			t.Fatal(err)
		}
		c.upstreams[0].Script = enginetest.Always(enginetest.Delay(10 * time.Millisecond))
		if err := c.embed(t.Context(), 1, Settings{TotalTimeout: 15 * time.Millisecond, Timeout: 15 * time.Millisecond}); err != nil {
			t.Error(err)
		}
	})
}
