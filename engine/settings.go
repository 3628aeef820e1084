package engine

import "time"

// Settings say how one request is split, sent and bounded in time. The zero
// value of a field that has a default means that default; see
// [DefaultSettings]. A Settings value is copied freely and never changed by the
// engine.
type Settings struct {
	// MaxConcurrentRequests is how many batches of one request may be in flight
	// at once, at least 1. Default 64.
	MaxConcurrentRequests int
	// BatchSize is the largest number of items in a batch, at least 1. Default 32.
	BatchSize int
	// MaxCharsPerRequest is the largest number of Unicode scalars in the items
	// of a batch; an item over it is a batch of its own. Default 10 000.
	MaxCharsPerRequest int
	// Timeout bounds one attempt of one batch, from the start of connecting to
	// the last byte of the reply. Default 30 s.
	Timeout time.Duration
	// MaxRetries is how often one batch may be tried again; negative for never.
	// Default 5.
	MaxRetries int
	// RetryBudgetPct bounds the retries of a request of n batches after timeouts,
	// network errors and broken replies to max(2, 1+ceil(n·RetryBudgetPct));
	// negative for none. Default 0.05.
	RetryBudgetPct float64
	// InitialBackoff bounds the wait before the first retry of a batch; each
	// further wait may be four times as long, up to 45 s. Default 125 ms.
	InitialBackoff time.Duration
	// HedgeDelay is how long after the sending of a batch a copy of it is sent, to
	// another endpoint where there is one, when the reply is not complete by then.
	// Zero means that none is sent.
	HedgeDelay time.Duration
	// HedgeAuto replaces HedgeDelay by the time within which the endpoint answered
	// 95 of 100 batches of that size lately, but at least 45 ms. Until enough
	// replies were seen, no copies are sent. When the copy is late as well, one more
	// is sent in the same manner.
	HedgeAuto bool
	// HedgeBudgetPct bounds the copies of a request of n batches to
	// max(2, 1+ceil(n·HedgeBudgetPct)); negative for none. Default 0.1.
	HedgeBudgetPct float64
	// NonRetryableStatusCodes are statuses that are not tried again although they
	// are by default: 408, 409, 424 (once), 429 and 500 to 599.
	NonRetryableStatusCodes []int
	// TotalTimeout bounds the whole request; zero means no bound.
	TotalTimeout time.Duration
}

// DefaultSettings returns the settings of a request that asks for nothing.
func DefaultSettings() Settings {
	return Settings{
		MaxConcurrentRequests: 64,
		BatchSize:             32,
		MaxCharsPerRequest:    10_000,
		Timeout:               30 * time.Second,
		MaxRetries:            5,
		RetryBudgetPct:        0.05,
		HedgeBudgetPct:        0.1,
		InitialBackoff:        125 * time.Millisecond,
	}
}

// withDefaults returns s with the default in place of every zero value.
func (s Settings) withDefaults() Settings {
	d := DefaultSettings()
	if s.MaxConcurrentRequests <= 0 {
		s.MaxConcurrentRequests = d.MaxConcurrentRequests
	}
	if s.BatchSize <= 0 {
		s.BatchSize = d.BatchSize
	}
	if s.MaxCharsPerRequest <= 0 {
		s.MaxCharsPerRequest = d.MaxCharsPerRequest
	}
	if s.Timeout <= 0 {
		s.Timeout = d.Timeout
	}
	if s.MaxRetries == 0 {
		s.MaxRetries = d.MaxRetries
	}
	if s.RetryBudgetPct == 0 {
		s.RetryBudgetPct = d.RetryBudgetPct
	}
	if s.HedgeBudgetPct == 0 {
		s.HedgeBudgetPct = d.HedgeBudgetPct
	}
	if s.InitialBackoff <= 0 {
		s.InitialBackoff = d.InitialBackoff
	}
	return s
}
