package handler

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// Settings are the settings that both the operator and, as preferences, a
// caller may set. A nil field is not set.
type Settings struct {
	// How many batches of one client request may be in flight at once. Range
	// 1 to 1024; over 512 only with a `batch_size` of at least 16. Default: 64.
	MaxConcurrentRequests *int `json:"max_concurrent_requests,omitempty"`

	// The largest number of items in a batch. Range 1 to 1024. Default: 32.
	BatchSize *int `json:"batch_size,omitempty"`

	// The largest number of characters (Unicode scalars) in a batch; an item
	// over it is a batch of its own. Range 50 to 256000. Default: 10000.
	MaxCharsPerRequest *int `json:"max_chars_per_request,omitempty"`

	// The largest number of tokens in a batch, counted with the tokenizer of the
	// model. Range 1 to 10000000. Default: none. Checked, but not in force yet.
	MaxTokensPerRequest *int `json:"max_tokens_per_request,omitempty"`

	// The time for one attempt of one batch in seconds. Range 0.1 to 3600.
	// Default: 30.
	TimeoutS *float64 `json:"timeout_s,omitempty"`

	// The time for a whole client request in seconds; at least `timeout_s`.
	// Default: none.
	TotalTimeoutS *float64 `json:"total_timeout_s,omitempty"`

	// The seconds after which a copy of a batch is sent whose reply is not
	// complete by then, to another endpoint where there is one; the first complete
	// good reply is taken. `"auto"` is the time within which the endpoint answered
	// 95 of 100 batches of that size in the last minute, but at least 0.045; no
	// copies are sent until 20 such replies were seen, and when a copy is late as
	// well, a second one follows. Range 0.045 to `timeout_s` - 0.045. Default:
	// none, no copies.
	HedgeDelay *HedgeDelay `json:"hedge_delay,omitempty"`

	// How many copies of slow batches may be sent: of n batches max(2, 1 + n times
	// this), rounded up. A fraction. Range 0 (none) to 3. Default: 0.1, which is
	// 10 %.
	HedgeBudgetPct *float64 `json:"hedge_budget_pct,omitempty"`

	// How many retries may be made after timeouts, network errors and broken
	// replies: of n batches max(2, 1 + n times this), rounded up. A connection that
	// is refused spends none of them, and all batches that were under way at an
	// endpoint when its connections broke spend one the first time. A fraction.
	// Range 0 (none) to 3. Default: 0.05, which is 5 %.
	RetryBudgetPct *float64 `json:"retry_budget_pct,omitempty"`

	// How often one batch may be tried again. Range 0 (never) to 6. Default: 5.
	MaxRetries *int `json:"max_retries,omitempty"`

	// The wait before the first retry in milliseconds; it grows fourfold each
	// time. Range 50 to 45000. Default: 125.
	InitialBackoffMS *int `json:"initial_backoff_ms,omitempty"`

	// Statuses that are not tried again although they are by default (408, 409,
	// 424, 429, 500 to 599). Range of each 400 to 599. Default: none.
	NonRetryableStatusCodes []int `json:"non_retryable_status_codes,omitempty"`

	// The shape of answers that are arrays: `object` wraps them into an object
	// with metadata. Default: they stay arrays. Checked, but not in force yet.
	ResponseFormat *string `json:"response_format,omitempty"`

	// How the answer is written: `stream` writes batches as soon as they are
	// complete. Default: the whole answer at once. Checked, but not in force yet.
	ResponseMode *string `json:"response_mode,omitempty"`
}

// HedgeDelay is a number of seconds or, when Auto is set, `"auto"`.
type HedgeDelay struct {
	Seconds float64
	Auto    bool
}

// MarshalJSON writes the number of seconds or "auto".
func (d HedgeDelay) MarshalJSON() ([]byte, error) {
	if d.Auto {
		return []byte(`"auto"`), nil
	}
	return json.Marshal(d.Seconds)
}

// UnmarshalJSON reads a number of seconds or "auto".
func (d *HedgeDelay) UnmarshalJSON(data []byte) error {
	var value any
	if err := json.Unmarshal(data, &value); err != nil {
		return err
	}
	switch value := value.(type) {
	case float64:
		*d = HedgeDelay{Seconds: value}
		return nil
	case string:
		if value == hedgeAuto {
			*d = HedgeDelay{Auto: true}
			return nil
		}
	}
	return &settingError{name: "hedge_delay", message: fmt.Sprintf("must be a number of seconds or %q", hedgeAuto)}
}

// hedgeAuto is the value of hedge_delay that follows the endpoint's latency.
const hedgeAuto = "auto"

// The only values of response_format and response_mode.
const (
	formatObject = "object"
	modeStream   = "stream"
)

// The range of each of the non_retryable_status_codes.
const (
	minRetryStatus = 400
	maxRetryStatus = 599
)

// A settingError is a value that a setting cannot have.
type settingError struct {
	name    string
	message string
}

func (e *settingError) Error() string { return e.name + ": " + e.message }

// SettingName returns the name of the setting, for parsers that know where it
// stands.
func (e *settingError) SettingName() string { return e.name }

// A numericSetting is a setting that is a number: it has a range and can be
// capped.
type numericSetting struct {
	name      string
	low, high float64
	integer   bool
	// orAuto says that the setting may be "auto" in place of a number.
	orAuto bool
	// fraction says that the setting is often taken for a percentage.
	fraction bool
	// get returns the number and whether one is set.
	get func(*Settings) (float64, bool)
	set func(*Settings, float64)
}

// numericSettings is the one table of the settings that are numbers.
var numericSettings = []numericSetting{
	integerSetting("max_concurrent_requests", 1, 1024, func(s *Settings) **int { return &s.MaxConcurrentRequests }),
	integerSetting("batch_size", 1, 1024, func(s *Settings) **int { return &s.BatchSize }),
	integerSetting("max_chars_per_request", 50, 256_000, func(s *Settings) **int { return &s.MaxCharsPerRequest }),
	integerSetting("max_tokens_per_request", 1, 10_000_000, func(s *Settings) **int { return &s.MaxTokensPerRequest }),
	numberSetting("timeout_s", 0.1, 3600, func(s *Settings) **float64 { return &s.TimeoutS }),
	// Its lower bound is timeout_s, which is checked where both are known.
	numberSetting("total_timeout_s", 0.1, math.MaxFloat64, func(s *Settings) **float64 { return &s.TotalTimeoutS }),
	{
		name: "hedge_delay", low: 0.045, high: 3599.955, orAuto: true,
		get: func(s *Settings) (float64, bool) {
			if s.HedgeDelay == nil || s.HedgeDelay.Auto {
				return 0, false
			}
			return s.HedgeDelay.Seconds, true
		},
		set: func(s *Settings, v float64) { s.HedgeDelay = &HedgeDelay{Seconds: v} },
	},
	fractionSetting("hedge_budget_pct", 0, 3, func(s *Settings) **float64 { return &s.HedgeBudgetPct }),
	fractionSetting("retry_budget_pct", 0, 3, func(s *Settings) **float64 { return &s.RetryBudgetPct }),
	integerSetting("max_retries", 0, 6, func(s *Settings) **int { return &s.MaxRetries }),
	integerSetting("initial_backoff_ms", 50, 45_000, func(s *Settings) **int { return &s.InitialBackoffMS }),
}

func integerSetting(name string, low, high float64, field func(*Settings) **int) numericSetting {
	return numericSetting{
		name: name, low: low, high: high, integer: true,
		get: func(s *Settings) (float64, bool) {
			if p := *field(s); p != nil {
				return float64(*p), true
			}
			return 0, false
		},
		set: func(s *Settings, v float64) {
			n := int(v)
			*field(s) = &n
		},
	}
}

func numberSetting(name string, low, high float64, field func(*Settings) **float64) numericSetting {
	return numericSetting{
		name: name, low: low, high: high,
		get: func(s *Settings) (float64, bool) {
			if p := *field(s); p != nil {
				return *p, true
			}
			return 0, false
		},
		set: func(s *Settings, v float64) { *field(s) = &v },
	}
}

func fractionSetting(name string, low, high float64, field func(*Settings) **float64) numericSetting {
	n := numberSetting(name, low, high, field)
	n.fraction = true
	return n
}

// contains reports whether v is in the range of the setting. NaN, which a
// configuration can hold, is in none.
func (n *numericSetting) contains(v float64) bool { return v >= n.low && v <= n.high }

// expected says what the setting takes, for errors.
func (n *numericSetting) expected() string {
	kind, auto := "a number", ""
	switch {
	case n.integer:
		kind = "an integer"
	case n.fraction:
		kind = "a fraction (0.1 is 10 %)"
	}
	if n.orAuto {
		auto = fmt.Sprintf(", or %q", hedgeAuto)
	}
	if n.high == math.MaxFloat64 {
		return fmt.Sprintf("must be %s of at least %s%s", kind, formatNumber(n.low), auto)
	}
	return fmt.Sprintf("must be %s from %s to %s%s", kind, formatNumber(n.low), formatNumber(n.high), auto)
}

// outOfRange returns the error of a number outside of the setting's range.
func (n *numericSetting) outOfRange(v float64) error {
	return &settingError{name: n.name, message: n.expected() + ", is " + formatNumber(v)}
}

// formatNumber writes a number the way that it would be typed.
func formatNumber(v float64) string {
	if math.Abs(v) < 1e15 {
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// validate checks the operator's settings, each against its range and those
// against each other that bind each other. The error is the name of the setting
// and what it takes.
func (s *Settings) validate() error {
	if err := s.checkRanges(); err != nil {
		return err
	}
	_, err := resolve(s, nil, nil)
	return err
}

// checkRanges checks each setting for itself.
func (s *Settings) checkRanges() error {
	for i := range numericSettings {
		n := &numericSettings[i]
		if v, ok := n.get(s); ok && !n.contains(v) {
			return n.outOfRange(v)
		}
	}
	for _, code := range s.NonRetryableStatusCodes {
		if code < minRetryStatus || code > maxRetryStatus {
			return &settingError{
				name:    "non_retryable_status_codes",
				message: fmt.Sprintf("each must be from %d to %d, one is %d", minRetryStatus, maxRetryStatus, code),
			}
		}
	}
	if err := checkWord("response_format", s.ResponseFormat, formatObject); err != nil {
		return err
	}
	return checkWord("response_mode", s.ResponseMode, modeStream)
}

// checkWord checks a setting that has only one value.
func checkWord(name string, value *string, expected string) error {
	if value == nil || *value == expected {
		return nil
	}
	return &settingError{name: name, message: fmt.Sprintf("must be %q, is %q", expected, *value)}
}
