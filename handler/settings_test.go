package handler

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
)

// settingsOf reads settings from JSON, as Caddy does.
func settingsOf(t *testing.T, text string) *Settings {
	t.Helper()
	s := new(Settings)
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(s); err != nil {
		t.Fatalf("settings %s: %v", text, err)
	}
	return s
}

func TestHedgeDelayJSON(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]*HedgeDelay{
		`{"hedge_delay":0.5}`:    {Seconds: 0.5},
		`{"hedge_delay":2}`:      {Seconds: 2},
		`{"hedge_delay":"auto"}`: {Auto: true},
		`{"hedge_delay":null}`:   nil,
		`{}`:                     nil,
	} {
		s := settingsOf(t, text)
		if !reflect.DeepEqual(s.HedgeDelay, want) {
			t.Errorf("%s is read as %+v, want %+v", text, s.HedgeDelay, want)
		}
		if want == nil {
			continue
		}
		if written, err := json.Marshal(s); err != nil || string(written) != text {
			t.Errorf("%s is written as %s, %v", text, written, err)
		}
	}
	for _, text := range []string{`"0.5"`, `"AUTO"`, `""`, `true`, `[]`, `{}`, `{"Auto":true}`, `1e999`} {
		err := json.Unmarshal([]byte(text), new(HedgeDelay))
		if want := `hedge_delay: must be a number of seconds or "auto"`; err == nil || text != `1e999` && err.Error() != want {
			t.Errorf("%s is read as a hedge delay with the error %v, want %s", text, err, want)
		}
	}
}

// TestEverySettingIsInATable finds settings that were added to the struct alone:
// they would be neither checked nor known as preferences.
func TestEverySettingIsInATable(t *testing.T) {
	t.Parallel()
	fields := reflect.TypeFor[Settings]()
	names := make(map[string]bool)
	for field := range fields.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		names[name] = true
		if findPreference(name) == nil {
			t.Errorf("%s is no preference", name)
		}
		pointer := field.Type.Kind() == reflect.Pointer
		numeric := pointer && field.Type.Elem().Kind() != reflect.String
		if numeric != (findNumeric(name) != nil) {
			t.Errorf("%s is a number: %t, in the table of numbers: %t", name, numeric, findNumeric(name) != nil)
		}
	}
	for _, p := range preferenceTable {
		if !names[p.name] && p.name != "target_host" && p.name != "extra_headers" {
			t.Errorf("the preference %s is no setting", p.name)
		}
	}
}

// TestNumericSettingsReachTheirField finds accessors that lead to the field of
// another setting.
func TestNumericSettingsReachTheirField(t *testing.T) {
	t.Parallel()
	for _, n := range numericSettings {
		s := new(Settings)
		if _, ok := n.get(s); ok {
			t.Errorf("%s is set in empty settings", n.name)
		}
		n.set(s, n.low)
		if v, ok := n.get(s); !ok || v != n.low {
			t.Errorf("%s is %v, %t after it was set to %v", n.name, v, ok, n.low)
		}
		written, err := json.Marshal(s)
		if want := `{"` + n.name + `":` + formatNumber(n.low) + `}`; err != nil || string(written) != want {
			t.Errorf("%s set to its lowest value is written as %s, %v, want %s", n.name, written, err, want)
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		settings string
		names    []string // what the error names, none for no error
	}{
		"nothing": {settings: `{}`},
		"the lowest values": {settings: `{"max_concurrent_requests":1,"batch_size":1,"max_chars_per_request":50,"max_tokens_per_request":1,
			"timeout_s":0.1,"total_timeout_s":0.1,"hedge_delay":0.045,"hedge_budget_pct":0,"retry_budget_pct":0,"max_retries":0,
			"initial_backoff_ms":50,"non_retryable_status_codes":[400]}`},
		"the highest values": {settings: `{"max_concurrent_requests":1024,"batch_size":1024,"max_chars_per_request":256000,
			"max_tokens_per_request":10000000,"timeout_s":3600,"total_timeout_s":1e300,"hedge_delay":3599.955,"hedge_budget_pct":3.0,
			"retry_budget_pct":3.0,"max_retries":6,"initial_backoff_ms":45000,"non_retryable_status_codes":[599],
			"response_format":"object","response_mode":"stream"}`},
		"an automatic hedge delay":           {settings: `{"hedge_delay":"auto","timeout_s":0.1}`},
		"no statuses":                        {settings: `{"non_retryable_status_codes":[]}`},
		"too few requests":                   {`{"max_concurrent_requests":0}`, []string{"max_concurrent_requests", "from 1 to 1024", "is 0"}},
		"too many requests":                  {`{"max_concurrent_requests":1025}`, []string{"max_concurrent_requests", "from 1 to 1024", "is 1025"}},
		"too small batches":                  {`{"batch_size":0}`, []string{"batch_size", "an integer from 1 to 1024"}},
		"too large batches":                  {`{"batch_size":1025}`, []string{"batch_size", "an integer from 1 to 1024"}},
		"too few characters":                 {`{"max_chars_per_request":49}`, []string{"max_chars_per_request", "from 50 to 256000"}},
		"too many characters":                {`{"max_chars_per_request":256001}`, []string{"max_chars_per_request", "from 50 to 256000"}},
		"too few tokens":                     {`{"max_tokens_per_request":0}`, []string{"max_tokens_per_request", "from 1 to 10000000"}},
		"too many tokens":                    {`{"max_tokens_per_request":10000001}`, []string{"max_tokens_per_request", "from 1 to 10000000"}},
		"too short a timeout":                {`{"timeout_s":0.09}`, []string{"timeout_s", "a number from 0.1 to 3600", "is 0.09"}},
		"too long a timeout":                 {`{"timeout_s":3600.1}`, []string{"timeout_s", "from 0.1 to 3600"}},
		"too short a total timeout":          {`{"total_timeout_s":0.05}`, []string{"total_timeout_s", "at least 0.1"}},
		"too short a hedge delay":            {`{"hedge_delay":0.044}`, []string{"hedge_delay", "from 0.045 to 3599.955", `"auto"`}},
		"too long a hedge delay":             {`{"hedge_delay":3599.956}`, []string{"hedge_delay", "from 0.045 to 3599.955", `"auto"`}},
		"a negative budget of hedges":        {`{"hedge_budget_pct":-0.1}`, []string{"hedge_budget_pct", "from 0 to 3"}},
		"too large a budget of hedges":       {`{"hedge_budget_pct":3.1}`, []string{"hedge_budget_pct", "from 0 to 3"}},
		"a negative budget of retries":       {`{"retry_budget_pct":-1}`, []string{"retry_budget_pct", "from 0 to 3"}},
		"too large a budget of retries":      {`{"retry_budget_pct":4}`, []string{"retry_budget_pct", "from 0 to 3"}},
		"negative retries":                   {`{"max_retries":-1}`, []string{"max_retries", "from 0 to 6"}},
		"too many retries":                   {`{"max_retries":7}`, []string{"max_retries", "from 0 to 6"}},
		"too short a backoff":                {`{"initial_backoff_ms":49}`, []string{"initial_backoff_ms", "from 50 to 45000"}},
		"too long a backoff":                 {`{"initial_backoff_ms":45001}`, []string{"initial_backoff_ms", "from 50 to 45000"}},
		"a status that is no error":          {`{"non_retryable_status_codes":[429,399]}`, []string{"non_retryable_status_codes", "from 400 to 599", "399"}},
		"a status that is none":              {`{"non_retryable_status_codes":[600]}`, []string{"non_retryable_status_codes", "from 400 to 599"}},
		"an unknown format":                  {`{"response_format":"array"}`, []string{"response_format", `must be "object", is "array"`}},
		"an unknown mode":                    {`{"response_mode":""}`, []string{"response_mode", `must be "stream", is ""`}},
		"a total timeout under the timeout":  {`{"timeout_s":30,"total_timeout_s":29.9}`, []string{"total_timeout_s", "at least timeout_s, 30, is 29.9"}},
		"a hedge delay close to the timeout": {`{"timeout_s":1,"hedge_delay":0.956}`, []string{"hedge_delay", "timeout_s - 0.045, which is 0.955, is 0.956"}},
		"a hedge delay close to the total":   {`{"total_timeout_s":1,"hedge_delay":0.956}`, []string{"hedge_delay", "total_timeout_s - 0.045, which is 0.955"}},
		"many small batches":                 {`{"max_concurrent_requests":513,"batch_size":15}`, []string{"max_concurrent_requests", "at most 512", "under 16"}},
		"many batches just large enough":     {settings: `{"max_concurrent_requests":513,"batch_size":16}`},
		"just not too many small batches":    {settings: `{"max_concurrent_requests":512,"batch_size":1}`},
		"a default gives way":                {settings: `{"total_timeout_s":20}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := settingsOf(t, test.settings).validate()
			if len(test.names) == 0 {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.HasPrefix(err.Error(), test.names[0]+": ") {
				t.Fatalf("validate: %v, want an error for %s", err, test.names[0])
			}
			for _, want := range test.names[1:] {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("validate: %q, want it to say %q", err, want)
				}
			}
		})
	}
}

// TestValidateRefusesWhatIsNoNumber covers what JSON cannot hold, but a number
// of a Caddyfile can.
func TestValidateRefusesWhatIsNoNumber(t *testing.T) {
	t.Parallel()
	for _, n := range numericSettings {
		if n.integer {
			continue
		}
		for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
			s := new(Settings)
			n.set(s, v)
			if err := s.validate(); err == nil || !strings.HasPrefix(err.Error(), n.name+": ") {
				t.Errorf("%s set to %v: %v, want an error", n.name, v, err)
			}
		}
	}
}
