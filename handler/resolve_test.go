package handler

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

func TestResolveDefaults(t *testing.T) {
	t.Parallel()
	got, err := resolve(new(Settings), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := resolved{
		MaxConcurrentRequests: 64,
		BatchSize:             32,
		MaxCharsPerRequest:    10_000,
		Timeout:               30 * time.Second,
		HedgeBudgetPct:        0.10,
		RetryBudgetPct:        0.05,
		MaxRetries:            5,
		InitialBackoff:        125 * time.Millisecond,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("resolve = %+v, want %+v", got, want)
	}
}

func TestResolveOverlays(t *testing.T) {
	t.Parallel()
	const everything = `{"max_concurrent_requests":100,"batch_size":20,"max_chars_per_request":5000,"max_tokens_per_request":600,
		"timeout_s":10,"total_timeout_s":40.5,"hedge_delay":2.5,"hedge_budget_pct":0.3,"retry_budget_pct":0.4,"max_retries":0,
		"initial_backoff_ms":200,"non_retryable_status_codes":[500,503],"response_format":"object","response_mode":"stream"}`
	want := resolved{
		MaxConcurrentRequests:   100,
		BatchSize:               20,
		MaxCharsPerRequest:      5000,
		MaxTokensPerRequest:     600,
		Timeout:                 10 * time.Second,
		TotalTimeout:            40500 * time.Millisecond,
		HedgeDelay:              2500 * time.Millisecond,
		HedgeBudgetPct:          0.3,
		RetryBudgetPct:          0.4,
		MaxRetries:              0,
		InitialBackoff:          200 * time.Millisecond,
		NonRetryableStatusCodes: []int{500, 503},
		WrapArrays:              true,
		Stream:                  true,
	}
	const other = `{"max_concurrent_requests":7,"batch_size":7,"max_chars_per_request":70,"max_tokens_per_request":7,
		"timeout_s":70,"total_timeout_s":700,"hedge_delay":"auto","hedge_budget_pct":0.7,"retry_budget_pct":0.7,"max_retries":6,
		"initial_backoff_ms":70,"non_retryable_status_codes":[477]}`
	tests := map[string]struct{ operator, caller string }{
		"the operator's over the defaults":               {everything, `{}`},
		"the caller's over the defaults":                 {`{}`, everything},
		"the caller's over the operator's":               {other, everything},
		"the operator's again where the caller has null": {everything, `{"batch_size":null,"hedge_delay":null,"non_retryable_status_codes":null}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := resolve(settingsOf(t, test.operator), settingsOf(t, test.caller), nil)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("resolve = %+v, want %+v", got, want)
			}
		})
	}
}

func TestResolveLetsACallerUndoAListAndAWord(t *testing.T) {
	t.Parallel()
	operator := settingsOf(t, `{"non_retryable_status_codes":[500],"hedge_delay":"auto"}`)
	got, err := resolve(operator, settingsOf(t, `{"non_retryable_status_codes":[],"hedge_delay":1}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.NonRetryableStatusCodes) != 0 || got.HedgeAuto || got.HedgeDelay != time.Second {
		t.Errorf("resolve = %+v, want no statuses and a hedge delay of 1 s", got)
	}
}

func TestResolvedEngineSettings(t *testing.T) {
	t.Parallel()
	r, err := resolve(settingsOf(t, `{"max_concurrent_requests":7,"batch_size":8,"max_chars_per_request":90,"timeout_s":1.5,"total_timeout_s":2,`+
		`"max_retries":0,"retry_budget_pct":0.5,"initial_backoff_ms":200,"non_retryable_status_codes":[503],"hedge_delay":0.5,"hedge_budget_pct":0}`), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := engine.Settings{
		MaxConcurrentRequests:   7,
		BatchSize:               8,
		MaxCharsPerRequest:      90,
		Timeout:                 1500 * time.Millisecond,
		TotalTimeout:            2 * time.Second,
		MaxRetries:              -1,
		RetryBudgetPct:          0.5,
		InitialBackoff:          200 * time.Millisecond,
		NonRetryableStatusCodes: []int{503},
		HedgeDelay:              500 * time.Millisecond,
		HedgeBudgetPct:          -1,
	}
	if got := r.engine(); !reflect.DeepEqual(got, want) {
		t.Errorf("engine() = %+v, want %+v", got, want)
	}
}

// giving is what the settings that bind each other come to.
type giving struct {
	timeout, total, hedge time.Duration
	concurrency, batch    int
}

func TestSettingsGiveWay(t *testing.T) {
	t.Parallel()
	const second = time.Second
	tests := map[string]struct {
		operator, caller string
		cap              map[string]float64
		deny             []string
		want             giving
		wrong            string   // the preference that the error names, empty for none
		says             []string // what else it says
	}{
		"total_timeout_s lowers the default timeout_s": {
			caller: `{"total_timeout_s":20}`, want: giving{20 * second, 20 * second, 0, 64, 32},
		},
		"the operator's total_timeout_s lowers the default timeout_s": {
			operator: `{"total_timeout_s":20}`, want: giving{20 * second, 20 * second, 0, 64, 32},
		},
		"total_timeout_s lowers the operator's timeout_s": {
			operator: `{"timeout_s":50}`, caller: `{"total_timeout_s":20}`, want: giving{20 * second, 20 * second, 0, 64, 32},
		},
		"total_timeout_s over timeout_s changes nothing else": {
			operator: `{"timeout_s":10}`, caller: `{"total_timeout_s":20}`, want: giving{10 * second, 20 * second, 0, 64, 32},
		},
		"timeout_s raises the operator's total_timeout_s": {
			operator: `{"total_timeout_s":40}`, caller: `{"timeout_s":60}`, want: giving{60 * second, 60 * second, 0, 64, 32},
		},
		"timeout_s raises total_timeout_s up to its cap": {
			operator: `{"total_timeout_s":40}`, caller: `{"timeout_s":60}`, cap: map[string]float64{"total_timeout_s": 60},
			want: giving{60 * second, 60 * second, 0, 64, 32},
		},
		"timeout_s never raises total_timeout_s over its cap": {
			operator: `{"total_timeout_s":40}`, caller: `{"timeout_s":60}`, cap: map[string]float64{"total_timeout_s": 50},
			wrong: "timeout_s", says: []string{"total_timeout_s", "60", "cap of 50"},
		},
		"timeout_s never raises a total_timeout_s that is denied": {
			operator: `{"total_timeout_s":40}`, caller: `{"timeout_s":60}`, deny: []string{"total_timeout_s"},
			wrong: "timeout_s", says: []string{"total_timeout_s", "60", "from 40"},
		},
		"timeout_s under a denied total_timeout_s is fine": {
			operator: `{"total_timeout_s":40}`, caller: `{"timeout_s":35}`, deny: []string{"total_timeout_s"},
			want: giving{35 * second, 40 * second, 0, 64, 32},
		},
		"timeout_s without a total_timeout_s has nothing to raise": {
			caller: `{"timeout_s":60}`, cap: map[string]float64{"total_timeout_s": 50}, want: giving{60 * second, 0, 0, 64, 32},
		},
		"timeout_s equal to total_timeout_s agrees": {
			caller: `{"timeout_s":20,"total_timeout_s":20}`, want: giving{20 * second, 20 * second, 0, 64, 32},
		},
		"timeout_s over total_timeout_s is a conflict": {
			caller: `{"timeout_s":20.001,"total_timeout_s":20}`, wrong: "total_timeout_s", says: []string{"timeout_s, 20.001", "is 20"},
		},
		"timeout_s lowers the operator's hedge_delay": {
			operator: `{"hedge_delay":10}`, caller: `{"timeout_s":5}`, want: giving{5 * second, 0, 4955 * time.Millisecond, 64, 32},
		},
		"the shortest timeout_s leaves room for the operator's hedge_delay": {
			operator: `{"hedge_delay":10}`, caller: `{"timeout_s":0.1}`, want: giving{100 * time.Millisecond, 0, 55 * time.Millisecond, 64, 32},
		},
		"timeout_s over the operator's hedge_delay leaves it": {
			operator: `{"hedge_delay":10}`, caller: `{"timeout_s":20}`, want: giving{20 * second, 0, 10 * second, 64, 32},
		},
		"timeout_s does not switch hedging on": {
			caller: `{"timeout_s":5}`, want: giving{5 * second, 0, 0, 64, 32},
		},
		"total_timeout_s lowers timeout_s and that the operator's hedge_delay": {
			operator: `{"timeout_s":30,"hedge_delay":25}`, caller: `{"total_timeout_s":20}`,
			want: giving{20 * second, 20 * second, 19955 * time.Millisecond, 64, 32},
		},
		"hedge_delay raises the default timeout_s": {
			caller: `{"hedge_delay":40}`, want: giving{40045 * time.Millisecond, 0, 40 * second, 64, 32},
		},
		"the operator's hedge_delay raises the default timeout_s": {
			operator: `{"hedge_delay":40}`, want: giving{40045 * time.Millisecond, 0, 40 * second, 64, 32},
		},
		"the longest hedge_delay raises timeout_s to its end": {
			caller: `{"hedge_delay":3599.955}`, want: giving{3600 * second, 0, 3599955 * time.Millisecond, 64, 32},
		},
		"hedge_delay raises timeout_s and that total_timeout_s": {
			operator: `{"total_timeout_s":35}`, caller: `{"hedge_delay":40}`,
			want: giving{40045 * time.Millisecond, 40045 * time.Millisecond, 40 * second, 64, 32},
		},
		"hedge_delay never raises timeout_s over its cap": {
			caller: `{"hedge_delay":40}`, cap: map[string]float64{"timeout_s": 40},
			wrong: "hedge_delay", says: []string{"timeout_s", "40.045", "cap of 40"},
		},
		"hedge_delay never raises a timeout_s that is denied": {
			caller: `{"hedge_delay":40}`, deny: []string{"timeout_s"}, wrong: "hedge_delay", says: []string{"timeout_s", "40.045", "from 30"},
		},
		"hedge_delay never raises total_timeout_s over its cap": {
			operator: `{"total_timeout_s":35}`, caller: `{"hedge_delay":40}`, cap: map[string]float64{"total_timeout_s": 35},
			wrong: "hedge_delay", says: []string{"total_timeout_s", "40.045", "cap of 35"},
		},
		"hedge_delay just within timeout_s agrees": {
			caller: `{"hedge_delay":29.955,"timeout_s":30}`, want: giving{30 * second, 0, 29955 * time.Millisecond, 64, 32},
		},
		"hedge_delay just within a short timeout_s agrees": {
			caller: `{"hedge_delay":0.255,"timeout_s":0.3}`, want: giving{300 * time.Millisecond, 0, 255 * time.Millisecond, 64, 32},
		},
		"hedge_delay close to timeout_s is a conflict": {
			caller: `{"hedge_delay":29.956,"timeout_s":30}`, wrong: "hedge_delay", says: []string{"timeout_s - 0.045", "29.955", "is 29.956"},
		},
		"hedge_delay close to total_timeout_s is a conflict, whatever timeout_s": {
			caller: `{"hedge_delay":19.956,"total_timeout_s":20}`, wrong: "hedge_delay", says: []string{"total_timeout_s - 0.045", "19.955"},
		},
		"hedge_delay and total_timeout_s close in on timeout_s": {
			caller: `{"hedge_delay":40,"total_timeout_s":50}`, want: giving{40045 * time.Millisecond, 50 * second, 40 * second, 64, 32},
		},
		"an automatic hedge_delay binds nothing": {
			operator: `{"hedge_delay":40}`, caller: `{"hedge_delay":"auto","timeout_s":0.1}`, want: giving{100 * time.Millisecond, 0, 0, 64, 32},
		},
		"max_concurrent_requests raises the operator's batch_size": {
			operator: `{"batch_size":8}`, caller: `{"max_concurrent_requests":600}`, want: giving{30 * second, 0, 0, 600, 16},
		},
		"max_concurrent_requests never raises batch_size over its cap": {
			operator: `{"batch_size":8}`, caller: `{"max_concurrent_requests":600}`, cap: map[string]float64{"batch_size": 15},
			wrong: "max_concurrent_requests", says: []string{"batch_size", "16", "cap of 15"},
		},
		"max_concurrent_requests never raises a batch_size that is denied": {
			operator: `{"batch_size":8}`, caller: `{"max_concurrent_requests":600}`, deny: []string{"batch_size"},
			wrong: "max_concurrent_requests", says: []string{"batch_size", "16", "from 8"},
		},
		"max_concurrent_requests up to 512 leaves batch_size": {
			operator: `{"batch_size":8}`, caller: `{"max_concurrent_requests":512}`, want: giving{30 * second, 0, 0, 512, 8},
		},
		"batch_size lowers the operator's max_concurrent_requests": {
			operator: `{"max_concurrent_requests":600}`, caller: `{"batch_size":8}`, want: giving{30 * second, 0, 0, 512, 8},
		},
		"batch_size of 16 leaves max_concurrent_requests": {
			operator: `{"max_concurrent_requests":600}`, caller: `{"batch_size":16}`, want: giving{30 * second, 0, 0, 600, 16},
		},
		"many small batches are a conflict": {
			caller: `{"max_concurrent_requests":513,"batch_size":15}`, wrong: "max_concurrent_requests", says: []string{"512", "batch_size under 16", "513 with 15"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := newPolicy(test.cap, test.deny)
			if err != nil {
				t.Fatal(err)
			}
			operator, caller := new(Settings), new(Settings)
			if test.operator != "" {
				operator = settingsOf(t, test.operator)
			}
			if test.caller != "" {
				caller = settingsOf(t, test.caller)
			}
			if err := operator.validate(); err != nil {
				t.Fatalf("the operator's settings: %v", err)
			}
			got, err := resolve(operator, caller, p)
			if test.wrong != "" {
				wantRequestError(t, err, "X-Baseten-Request-Preferences."+test.wrong)
				for _, want := range test.says {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("error %q, want it to say %q", err, want)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if g := (giving{got.Timeout, got.TotalTimeout, got.HedgeDelay, got.MaxConcurrentRequests, got.BatchSize}); g != test.want {
				t.Errorf("resolve = %+v, want %+v", g, test.want)
			}
		})
	}
}

// TestResolveOperatorsConflict covers settings that were not validated: their
// conflict is not the fault of a request.
func TestResolveOperatorsConflict(t *testing.T) {
	t.Parallel()
	_, err := resolve(settingsOf(t, `{"timeout_s":30,"total_timeout_s":20}`), new(Settings), nil)
	if _, ok := errors.AsType[*engine.RequestError](err); err == nil || ok {
		t.Errorf("resolve: %v, want an error that is no RequestError", err)
	}
}

func TestSeconds(t *testing.T) {
	t.Parallel()
	for s, want := range map[float64]time.Duration{
		0:               0,
		0.045:           45 * time.Millisecond,
		1.001:           1001 * time.Millisecond, // 1000999999.9999999 ns as a product
		29.955:          29955 * time.Millisecond,
		9_223_372_036:   9_223_372_036 * time.Second,
		9_223_372_037:   math.MaxInt64,
		1e300:           math.MaxInt64,
		math.MaxFloat64: math.MaxInt64,
	} {
		if got := seconds(s); got != want {
			t.Errorf("seconds(%v) = %v, want %v", s, got, want)
		}
	}
}
