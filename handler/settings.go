package handler

import "encoding/json"

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
	// model. Range 1 to 10000000. Default: none.
	MaxTokensPerRequest *int `json:"max_tokens_per_request,omitempty"`

	// The time for one attempt of one batch in seconds. Range 0.1 to 3600.
	// Default: 30.
	TimeoutS *float64 `json:"timeout_s,omitempty"`

	// The time for a whole client request in seconds; at least `timeout_s`.
	// Default: none.
	TotalTimeoutS *float64 `json:"total_timeout_s,omitempty"`

	// The seconds after which a second copy of a slow batch is sent, or `"auto"`
	// for the 95th percentile of the endpoint's recent latency. Range 0.045 to
	// `timeout_s` - 0.045. Default: none, no copies.
	HedgeDelay *HedgeDelay `json:"hedge_delay,omitempty"`

	// How many copies of slow batches may be sent, in parts of the number of
	// batches. Range 0 (none) to 3. Default: 0.1.
	HedgeBudgetPct *float64 `json:"hedge_budget_pct,omitempty"`

	// How many retries may be made after timeouts, network errors and broken
	// replies, in parts of the number of batches. Range 0 to 3. Default: 0.05.
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
	// with metadata. Default: they stay arrays.
	ResponseFormat *string `json:"response_format,omitempty"`

	// How the answer is written: `stream` writes batches as soon as they are
	// complete. Default: the whole answer at once.
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
