package handler

import (
	"errors"
	"math"
	"strings"
	"testing"
)

func TestNewPolicyRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		cap   map[string]float64
		deny  []string
		names []string
	}{
		"a cap of an unknown name":             {cap: map[string]float64{"batchsize": 1}, names: []string{"cap: ", `"batchsize"`, "batch_size"}},
		"a cap in other letters":               {cap: map[string]float64{"Batch_Size": 1}, names: []string{"cap: ", `"Batch_Size"`}},
		"a cap of a list":                      {cap: map[string]float64{"non_retryable_status_codes": 500}, names: []string{"cap: non_retryable_status_codes", "cannot be capped"}},
		"a cap of a word":                      {cap: map[string]float64{"response_mode": 1}, names: []string{"cap: response_mode", "cannot be capped"}},
		"a cap of the target":                  {cap: map[string]float64{"target_host": 1}, names: []string{"cap: target_host", "cannot be capped"}},
		"a cap of the headers":                 {cap: map[string]float64{"extra_headers": 1}, names: []string{"cap: extra_headers", "cannot be capped"}},
		"a cap under the range":                {cap: map[string]float64{"batch_size": 0}, names: []string{"cap: batch_size", "from 1 to 1024, is 0"}},
		"a cap over the range":                 {cap: map[string]float64{"timeout_s": 3601}, names: []string{"cap: timeout_s", "from 0.1 to 3600, is 3601"}},
		"a cap that is no number":              {cap: map[string]float64{"timeout_s": math.NaN()}, names: []string{"cap: timeout_s"}},
		"an endless cap":                       {cap: map[string]float64{"total_timeout_s": math.Inf(1)}, names: []string{"cap: total_timeout_s"}},
		"a broken cap of an integer":           {cap: map[string]float64{"batch_size": 1.5}, names: []string{"cap: batch_size", "an integer"}},
		"the first wrong cap in order is told": {cap: map[string]float64{"timeout_s": 0, "batch_size": 0, "max_retries": -1}, names: []string{"cap: batch_size"}},
		"an unknown name denied":               {deny: []string{"batch_size", "hedging"}, names: []string{"deny_preferences: ", `"hedging"`, "hedge_delay"}},
		"an empty name denied":                 {deny: []string{""}, names: []string{"deny_preferences: ", `""`}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := newPolicy(test.cap, test.deny)
			if err == nil {
				t.Fatal("newPolicy succeeded")
			}
			for _, want := range test.names {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("newPolicy: %q, want it to say %q", err, want)
				}
			}
		})
	}
}

func TestPolicyCheck(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		cap          map[string]float64
		deny         []string
		preferences  string
		headerTarget bool
		over         string // the preference over its cap
		denied       string // the field that may not be sent
		says         []string
	}{
		"nothing is asked for": {
			cap: map[string]float64{"batch_size": 1}, deny: []string{"timeout_s", "target_host"}, preferences: `{}`,
		},
		"a value at its cap": {
			cap: map[string]float64{"batch_size": 64}, preferences: `{"batch_size":64}`,
		},
		"a value over its cap": {
			cap: map[string]float64{"batch_size": 64}, preferences: `{"batch_size":65}`, over: "batch_size", says: []string{"65", "cap of 64"},
		},
		"a number over its cap": {
			cap: map[string]float64{"timeout_s": 10.5}, preferences: `{"timeout_s":10.501}`, over: "timeout_s", says: []string{"10.501", "cap of 10.5"},
		},
		"another value is not capped": {
			cap: map[string]float64{"batch_size": 64}, preferences: `{"max_concurrent_requests":65}`,
		},
		"a cap of zero": {
			cap: map[string]float64{"max_retries": 0, "hedge_budget_pct": 0}, preferences: `{"max_retries":1}`, over: "max_retries", says: []string{"cap of 0"},
		},
		"a hedge delay over its cap": {
			cap: map[string]float64{"hedge_delay": 1}, preferences: `{"hedge_delay":1.5}`, over: "hedge_delay", says: []string{"1.5", "cap of 1"},
		},
		"an automatic hedge delay is not over a cap": {
			cap: map[string]float64{"hedge_delay": 1}, preferences: `{"hedge_delay":"auto"}`,
		},
		"a total timeout beyond every clock": {
			cap: map[string]float64{"total_timeout_s": 60}, preferences: `{"total_timeout_s":1e300}`, over: "total_timeout_s", says: []string{"1e+300", "cap of 60"},
		},
		"a denied number":              {deny: []string{"batch_size"}, preferences: `{"batch_size":1}`, denied: "X-Baseten-Request-Preferences.batch_size"},
		"a denied zero":                {deny: []string{"max_retries"}, preferences: `{"max_retries":0}`, denied: "X-Baseten-Request-Preferences.max_retries"},
		"a denied null is absent":      {deny: []string{"batch_size"}, preferences: `{"batch_size":null}`},
		"a denied hedge delay":         {deny: []string{"hedge_delay"}, preferences: `{"hedge_delay":1}`, denied: "X-Baseten-Request-Preferences.hedge_delay"},
		"a denied automatic delay":     {deny: []string{"hedge_delay"}, preferences: `{"hedge_delay":"auto"}`, denied: "X-Baseten-Request-Preferences.hedge_delay"},
		"a denied list":                {deny: []string{"non_retryable_status_codes"}, preferences: `{"non_retryable_status_codes":[500]}`, denied: "X-Baseten-Request-Preferences.non_retryable_status_codes"},
		"a denied empty list":          {deny: []string{"non_retryable_status_codes"}, preferences: `{"non_retryable_status_codes":[]}`, denied: "X-Baseten-Request-Preferences.non_retryable_status_codes"},
		"a denied word":                {deny: []string{"response_mode"}, preferences: `{"response_mode":"stream"}`, denied: "X-Baseten-Request-Preferences.response_mode"},
		"another denied word":          {deny: []string{"response_format"}, preferences: `{"response_format":"object"}`, denied: "X-Baseten-Request-Preferences.response_format"},
		"denied headers":               {deny: []string{"extra_headers"}, preferences: `{"extra_headers":{"X-A":"1"}}`, denied: "X-Baseten-Request-Preferences.extra_headers"},
		"denied headers without any":   {deny: []string{"extra_headers"}, preferences: `{"extra_headers":{}}`, denied: "X-Baseten-Request-Preferences.extra_headers"},
		"a denied target":              {deny: []string{"target_host"}, preferences: `{"target_host":"https://h"}`, denied: "X-Baseten-Request-Preferences.target_host"},
		"a denied target in a header":  {deny: []string{"target_host"}, preferences: `{}`, headerTarget: true, denied: "X-Target-Host"},
		"a target in a header":         {deny: []string{"batch_size"}, preferences: `{}`, headerTarget: true},
		"another preference is denied": {deny: []string{"batch_size"}, preferences: `{"timeout_s":1,"target_host":"https://h"}`},
		"over a cap goes before denied": {
			cap: map[string]float64{"timeout_s": 1}, deny: []string{"batch_size"}, preferences: `{"batch_size":1,"timeout_s":2}`, over: "timeout_s",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := newPolicy(test.cap, test.deny)
			if err != nil {
				t.Fatal(err)
			}
			asked, err := parsePreferences(test.preferences)
			if err != nil {
				t.Fatal(err)
			}
			err = p.check(asked, test.headerTarget)
			switch {
			case test.over != "":
				wantRequestError(t, err, "X-Baseten-Request-Preferences."+test.over)
			case test.denied != "":
				refusal, ok := errors.AsType[*forbiddenError](err)
				if !ok || refusal.Setting != "deny_preferences" || !strings.Contains(refusal.Message, test.denied) {
					t.Fatalf("check: %v, want a forbiddenError for %s", err, test.denied)
				}
			case err != nil:
				t.Fatal(err)
			}
			for _, want := range test.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("check: %q, want it to say %q", err, want)
				}
			}
			if err := (*policy)(nil).check(asked, test.headerTarget); err != nil {
				t.Errorf("without a policy: %v", err)
			}
		})
	}
}

// TestPolicyKeepsItsCaps changes the map of the configuration afterwards.
func TestPolicyKeepsItsCaps(t *testing.T) {
	t.Parallel()
	caps := map[string]float64{"batch_size": 1}
	p, err := newPolicy(caps, nil)
	if err != nil {
		t.Fatal(err)
	}
	delete(caps, "batch_size")
	asked, err := parsePreferences(`{"batch_size":2}`)
	if err != nil {
		t.Fatal(err)
	}
	wantRequestError(t, p.check(asked, false), "X-Baseten-Request-Preferences.batch_size")
}
