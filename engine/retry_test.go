package engine

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

// noRetries are settings under which everything is tried once.
var noRetries = Settings{MaxRetries: -1}

// retried is what became of a request of one batch that met faults.
type retried struct {
	err   error
	calls []*enginetest.Call
	took  time.Duration
}

// meet sends a request of one batch, of which the first n attempts meet faults.
func meet(t *testing.T, settings Settings, n int, faults ...enginetest.Fault) retried {
	t.Helper()
	upstream := enginetest.New()
	upstream.Script = enginetest.First(n, faults...)
	to := soleUpstream(upstream)
	start := time.Now()
	answer, err := New(Options{}).Do(t.Context(), to,
		&Request{Path: "/v1/embeddings", Body: []byte(`{"input":["a","b"]}`), Settings: settings, ID: "id"})
	if err == nil {
		var merged strings.Builder
		if _, err := answer.WriteTo(&merged); err != nil {
			t.Fatal(err)
		}
		answer.Close()
		if !strings.Contains(merged.String(), enginetest.Vector("b", upstream.Dims)) {
			t.Errorf("the answer is %s", merged.String())
		}
	}
	return retried{err: err, calls: upstream.Calls(), took: time.Since(start)}
}

func TestWhatIsRetried(t *testing.T) {
	t.Parallel()
	status := func(code int) enginetest.Fault { return enginetest.Status(code, "no") }
	tests := map[string]struct {
		settings Settings
		faulty   int // attempts that meet the fault
		fault    enginetest.Fault
		attempts int
		ok       bool
	}{
		"408":                                    {Settings{}, 1, status(408), 2, true},
		"409":                                    {Settings{}, 1, status(409), 2, true},
		"424 once":                               {Settings{}, 1, status(424), 2, true},
		"424 again is for ever":                  {Settings{}, 2, status(424), 2, false},
		"429":                                    {Settings{}, 3, status(429), 4, true},
		"500":                                    {Settings{}, 3, status(500), 4, true},
		"503":                                    {Settings{}, 5, status(503), 6, true},
		"599":                                    {Settings{}, 1, status(599), 2, true},
		"no more than max_retries":               {Settings{}, 9, status(503), 6, false},
		"no more than a smaller max_retries":     {Settings{MaxRetries: 2}, 9, status(503), 3, false},
		"nothing without retries":                {noRetries, 1, status(503), 1, false},
		"400 is not":                             {Settings{}, 1, status(400), 1, false},
		"401 is not":                             {Settings{}, 1, status(401), 1, false},
		"422 is not":                             {Settings{}, 1, status(422), 1, false},
		"a status that is not retryable":         {Settings{NonRetryableStatusCodes: []int{500, 503}}, 1, status(503), 1, false},
		"another status than that":               {Settings{NonRetryableStatusCodes: []int{500}}, 1, status(503), 2, true},
		"a redirect is not":                      {Settings{}, 1, status(302), 1, false},
		"a dropped connection":                   {Settings{}, 2, enginetest.Drop(), 3, true},
		"a body that breaks off":                 {Settings{}, 2, enginetest.CutAt(20), 3, true},
		"a missing result":                       {Settings{}, 2, enginetest.Missing(0), 3, true},
		"NaN":                                    {Settings{}, 1, enginetest.Embedding(0, "[NaN]"), 2, true},
		"HTML":                                   {Settings{}, 1, enginetest.HTML(), 2, true},
		"a timeout":                              {Settings{}, 1, enginetest.Delay(time.Minute), 2, true},
		"broken replies within the budget":       {Settings{}, 3, enginetest.CutAt(20), 3, false},
		"broken replies within a larger budget":  {Settings{RetryBudgetPct: 3}, 4, enginetest.CutAt(20), 5, true},
		"nothing broken without a budget":        {Settings{RetryBudgetPct: -1}, 1, enginetest.CutAt(20), 1, false},
		"statuses without a budget for the rest": {Settings{RetryBudgetPct: -1}, 2, status(503), 3, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				got := meet(t, test.settings, test.faulty, test.fault)
				if (got.err == nil) != test.ok || len(got.calls) != test.attempts {
					t.Fatalf("%d attempts, %v, want %d", len(got.calls), got.err, test.attempts)
				}
				for i, call := range got.calls {
					if id := call.Header.Get("X-Baseten-Customer-Request-Id"); id != fmt.Sprintf("id-0-%d", i) {
						t.Errorf("attempt %d has the id %q", i, id)
					}
				}
			})
		})
	}
}

func TestWaitsBetweenAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		longest := make([]time.Duration, 5)
		for range 200 {
			got := meet(t, Settings{InitialBackoff: 100 * time.Millisecond}, 5, enginetest.Status(503, "no"))
			if got.err != nil {
				t.Fatal(got.err)
			}
			for i := range longest {
				longest[i] = max(longest[i], got.calls[i+1].Arrived.Sub(got.calls[i].Arrived))
			}
		}
		for i, bound := range []time.Duration{100, 400, 1600, 6400, 25_600} {
			if bound *= time.Millisecond; longest[i] > bound || longest[i] < bound*9/10 {
				t.Errorf("of 200 waits before retry %d the longest is %v, want nearly %v", i+1, longest[i], bound)
			}
		}
		if wait := (&Call{settings: Settings{InitialBackoff: 45 * time.Second}}).backoff(6); wait > 45*time.Second {
			t.Errorf("a wait is %v", wait)
		}
	})
}

func TestRetryAfterIsObeyed(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		header   func(now time.Time) string
		deadline time.Duration
		attempts int
		from, to time.Duration
	}{
		"in seconds":                {func(time.Time) string { return "7" }, 0, 2, 7 * time.Second, 7 * time.Second},
		"as a date":                 {func(now time.Time) string { return now.Add(9 * time.Second).UTC().Format(http.TimeFormat) }, 0, 2, 8 * time.Second, 9 * time.Second},
		"a date that has passed":    {func(now time.Time) string { return now.Add(-time.Hour).UTC().Format(http.TimeFormat) }, 0, 2, 0, 125 * time.Millisecond},
		"up to the deadline":        {func(time.Time) string { return "7" }, 8 * time.Second, 2, 7 * time.Second, 7 * time.Second},
		"not beyond the deadline":   {func(time.Time) string { return "7" }, 6 * time.Second, 1, 0, 0},
		"what says nothing is none": {func(time.Time) string { return "soon" }, 0, 2, 0, 125 * time.Millisecond},
	}
	for name, test := range tests {
		for _, code := range []int{429, 503} {
			t.Run(fmt.Sprintf("%s, from %d", name, code), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					header := test.header(time.Now())
					got := meet(t, Settings{TotalTimeout: test.deadline}, 1, enginetest.Status(code, "later"), enginetest.Header("Retry-After", header))
					if len(got.calls) != test.attempts || got.took < test.from || got.took > test.to {
						t.Errorf("%d attempts in %v, want %d in %v to %v", len(got.calls), got.took, test.attempts, test.from, test.to)
					}
					status, ok := errors.AsType[*StatusError](got.err)
					if test.attempts == 1 && (!ok || status.Status != code || status.RetryAfter != header) {
						t.Errorf("got %v, want what the upstream said", got.err)
					}
				})
			})
		}
	}
}

// TestWaitingHoldsNoSlot lets one batch wait while the others have one slot.
func TestWaitingHoldsNoSlot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		upstream := roundTrip(func(req *http.Request) (*http.Response, error) {
			if calls.Add(1) == 1 {
				resp := respond(req, http.StatusServiceUnavailable, "")
				resp.Header.Set("Retry-After", "60")
				return resp, nil
			}
			if err := wait(req, time.Second); err != nil {
				return nil, err
			}
			return oneVector(req), nil
		})
		start := time.Now()
		answer, err := embed(t.Context(), upstream, 20, Settings{MaxConcurrentRequests: 1})
		if err != nil {
			t.Fatal(err)
		}
		answer.Close()
		if took := time.Since(start); took != 61*time.Second {
			t.Errorf("took %v, want 61s: the others go on in the minute of waiting", took)
		}
		if slowest := answer.Batches[0].Took; slowest != 61*time.Second {
			t.Errorf("the first batch took %v", slowest)
		}
	})
}

// TestBudgetOfARequest counts the retries of a request whose upstream sends
// nothing but broken replies.
func TestBudgetOfARequest(t *testing.T) {
	t.Parallel()
	for batches, want := range map[int]int64{1: 2, 10: 2, 20: 2, 21: 3, 100: 6, 1000: 51} {
		var b budget
		b.fill(batches, 0.05)
		if left := b.left.Load(); left != want {
			t.Errorf("%d batches have %d retries, want %d", batches, left, want)
		}
	}
}

func TestBudgetsHoldUnderConcurrency(t *testing.T) {
	t.Parallel()
	var b budget
	b.fill(1000, 0.05)
	bucket := NewRetryBucket(RetryBucketOptions{})
	var all sync.WaitGroup
	var budgeted, bucketed atomic.Int64
	for range 1000 {
		all.Go(func() {
			for i := range 100 {
				if b.take() {
					budgeted.Add(1)
					if i%2 == 0 {
						budgeted.Add(-1)
						b.refund()
					}
				}
				if bucket.take() {
					bucketed.Add(1)
				}
				bucket.reward()
				if left, level := b.left.Load(), bucket.level.Load(); left < 0 || left > 51 || level < 0 || level > bucket.size {
					t.Errorf("%d retries are left, the bucket is at %d", left, level)
				}
			}
		})
	}
	all.Wait()
	if budgeted.Load() != 51 {
		t.Errorf("%d retries were taken from a budget of 51", budgeted.Load())
	}
	if most := int64(100 + 100_000*0.2 + 10*60); bucketed.Load() < 100 || bucketed.Load() > most {
		t.Errorf("%d retries were taken from the bucket, want 100 to %d", bucketed.Load(), most)
	}
}

func TestBucketIsFilledByTimeAndGoodReplies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := NewRetryBucket(RetryBucketOptions{})
		taken := func() (n int) {
			for b.take() {
				n++
			}
			return n
		}
		steps := []struct {
			what string
			do   func()
			want int
		}{
			{"at first", func() {}, 100},
			{"at once", func() {}, 0},
			{"after a second", func() { <-time.After(time.Second) }, 10},
			{"after a tenth of that", func() { <-time.After(100 * time.Millisecond) }, 1},
			{"after a minute", func() { <-time.After(time.Minute) }, 100},
			{"after four good replies", func() { b.reward(); b.reward(); b.reward(); b.reward() }, 0},
			{"after the fifth", func() { b.reward() }, 1},
		}
		for _, step := range steps {
			step.do()
			if got := taken(); got != step.want {
				t.Errorf("%s there are %d retries, want %d", step.what, got, step.want)
			}
		}
	})
}

// TestUpstreamThatIsDownIsNotHammered sends many requests to an upstream that
// answers 503 to everything.
func TestUpstreamThatIsDownIsNotHammered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		upstream := enginetest.New()
		upstream.Script = enginetest.Always(enginetest.Status(503, "down"))
		to := soleUpstream(upstream)
		to.Group.retries = NewRetryBucket(RetryBucketOptions{})
		var requests sync.WaitGroup
		start := time.Now()
		for range 500 {
			requests.Go(func() {
				_, err := New(Options{}).Do(t.Context(), to, &Request{Path: "/v1/embeddings", Body: []byte(`{"input":"a"}`)})
				if _, ok := errors.AsType[*StatusError](err); !ok {
					t.Errorf("got %v", err)
				}
			})
		}
		requests.Wait()
		most := 500 + 100 + int(10*time.Since(start).Seconds()) + 1
		if n := len(upstream.Calls()); n < 600 || n > most {
			t.Errorf("500 requests made %d calls in %v, want 600 to %d", n, time.Since(start), most)
		}
	})
}
