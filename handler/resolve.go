package handler

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

const (
	// hedgeMargin is the least time between the start of an attempt and its
	// copy, and between the copy and the end of the attempt.
	hedgeMargin = 45 * time.Millisecond

	// Over maxSmallBatchConcurrency batches in flight take a batch_size of at
	// least minBatchSizeOver.
	maxSmallBatchConcurrency = 512
	minBatchSizeOver         = 16
)

// resolved are the settings of one request, with every default filled in.
type resolved struct {
	MaxConcurrentRequests int
	BatchSize             int
	MaxCharsPerRequest    int
	// MaxTokensPerRequest is zero when there is no limit.
	MaxTokensPerRequest int
	Timeout             time.Duration
	// TotalTimeout is zero when there is none.
	TotalTimeout time.Duration
	// HedgeDelay is zero when no copies are sent, or HedgeAuto is set.
	HedgeDelay time.Duration
	// HedgeAuto asks for the endpoint's own latency as delay.
	HedgeAuto               bool
	HedgeBudgetPct          float64
	RetryBudgetPct          float64
	MaxRetries              int
	InitialBackoff          time.Duration
	NonRetryableStatusCodes []int
	// WrapArrays asks for objects in place of answers that are arrays.
	WrapArrays bool
	// Stream asks for batches to be written as soon as they are complete.
	Stream bool
}

// defaultSettings returns the settings of a request when neither the operator
// nor the caller set anything.
func defaultSettings() resolved {
	d := engine.DefaultSettings()
	return resolved{
		MaxConcurrentRequests: d.MaxConcurrentRequests,
		BatchSize:             d.BatchSize,
		MaxCharsPerRequest:    d.MaxCharsPerRequest,
		Timeout:               d.Timeout,
		HedgeBudgetPct:        0.10,
		RetryBudgetPct:        0.05,
		MaxRetries:            5,
		InitialBackoff:        125 * time.Millisecond,
	}
}

// resolve returns the settings of a request: the operator's over the defaults
// and the caller's over both. Where two settings bind each other, those that the
// caller set hold, and the other gives way as far as p lets a caller change it;
// in the same manner defaults give way to the operator's settings. What the
// caller set must agree in itself, else the error is an [engine.RequestError]
// that names the preference. The caller's settings may be nil, and so may p.
func resolve(operator, caller *Settings, p *policy) (resolved, error) {
	r := defaultSettings()
	if err := r.apply(operator, nil); err != nil {
		return resolved{}, err
	}
	if caller == nil {
		return r, nil
	}
	if err := r.apply(caller, p); err != nil {
		return resolved{}, preferenceError(err)
	}
	return r, nil
}

// engine returns the settings that the engine takes.
func (r *resolved) engine() engine.Settings {
	return engine.Settings{
		MaxConcurrentRequests: r.MaxConcurrentRequests,
		BatchSize:             r.BatchSize,
		MaxCharsPerRequest:    r.MaxCharsPerRequest,
		Timeout:               r.Timeout,
		TotalTimeout:          r.TotalTimeout,

		MaxRetries:              orNone(r.MaxRetries),
		RetryBudgetPct:          orNone(r.RetryBudgetPct),
		InitialBackoff:          r.InitialBackoff,
		NonRetryableStatusCodes: r.NonRetryableStatusCodes,

		HedgeDelay:     r.HedgeDelay,
		HedgeAuto:      r.HedgeAuto,
		HedgeBudgetPct: orNone(r.HedgeBudgetPct),
	}
}

// orNone returns the engine's word for none, which is a negative number, in the
// place of zero, which there means the default.
func orNone[T int | float64](v T) T {
	if v == 0 {
		return -1
	}
	return v
}

// apply puts s over r, whose own settings agree with each other, and lets those
// of r give way that s does not set.
func (r *resolved) apply(s *Settings, p *policy) error {
	r.overlay(s)
	if err := r.fitTimes(s, p); err != nil {
		return err
	}
	return r.fitConcurrency(s, p)
}

// overlay takes over what s sets.
func (r *resolved) overlay(s *Settings) {
	replace(&r.MaxConcurrentRequests, s.MaxConcurrentRequests)
	replace(&r.BatchSize, s.BatchSize)
	replace(&r.MaxCharsPerRequest, s.MaxCharsPerRequest)
	replace(&r.MaxTokensPerRequest, s.MaxTokensPerRequest)
	replace(&r.HedgeBudgetPct, s.HedgeBudgetPct)
	replace(&r.RetryBudgetPct, s.RetryBudgetPct)
	replace(&r.MaxRetries, s.MaxRetries)
	if s.TimeoutS != nil {
		r.Timeout = seconds(*s.TimeoutS)
	}
	if s.TotalTimeoutS != nil {
		r.TotalTimeout = seconds(*s.TotalTimeoutS)
	}
	if s.HedgeDelay != nil {
		r.HedgeDelay, r.HedgeAuto = seconds(s.HedgeDelay.Seconds), s.HedgeDelay.Auto
	}
	if s.InitialBackoffMS != nil {
		r.InitialBackoff = time.Duration(*s.InitialBackoffMS) * time.Millisecond
	}
	if s.NonRetryableStatusCodes != nil {
		r.NonRetryableStatusCodes = s.NonRetryableStatusCodes
	}
	r.WrapArrays = r.WrapArrays || s.ResponseFormat != nil
	r.Stream = r.Stream || s.ResponseMode != nil
}

func replace[T any](to, by *T) {
	if by != nil {
		*to = *by
	}
}

// fitTimes makes hedge_delay, timeout_s and total_timeout_s agree, in which an
// attempt ends before the request and a copy starts well before the attempt
// ends.
func (r *resolved) fitTimes(s *Settings, p *policy) error {
	timeoutSet, totalSet := s.TimeoutS != nil, s.TotalTimeoutS != nil
	hedgeSet := s.HedgeDelay != nil && !s.HedgeDelay.Auto
	switch {
	case timeoutSet && totalSet && r.TotalTimeout < r.Timeout:
		return &settingError{name: "total_timeout_s", message: fmt.Sprintf("must be at least timeout_s, %s, is %s",
			formatSeconds(r.Timeout), formatSeconds(r.TotalTimeout))}
	case hedgeSet && timeoutSet && r.HedgeDelay > r.Timeout-hedgeMargin:
		return hedgeTooLate("timeout_s", r.Timeout, r.HedgeDelay)
	case hedgeSet && totalSet && r.HedgeDelay > r.TotalTimeout-hedgeMargin:
		return hedgeTooLate("total_timeout_s", r.TotalTimeout, r.HedgeDelay)
	}

	if !timeoutSet && totalSet {
		r.Timeout = min(r.Timeout, r.TotalTimeout)
	}
	cause := "timeout_s"
	if hedgeSet && r.Timeout < r.HedgeDelay+hedgeMargin {
		cause = "hedge_delay"
		raised := raise{name: "timeout_s", from: r.Timeout.Seconds(), to: (r.HedgeDelay + hedgeMargin).Seconds(), cause: cause}
		if err := p.allowRaise(raised); err != nil {
			return err
		}
		r.Timeout = r.HedgeDelay + hedgeMargin
	}
	if r.TotalTimeout != 0 && r.TotalTimeout < r.Timeout {
		raised := raise{name: "total_timeout_s", from: r.TotalTimeout.Seconds(), to: r.Timeout.Seconds(), cause: cause}
		if err := p.allowRaise(raised); err != nil {
			return err
		}
		r.TotalTimeout = r.Timeout
	}
	// The shortest timeout_s leaves room for the shortest hedge_delay.
	r.HedgeDelay = min(r.HedgeDelay, r.Timeout-hedgeMargin)
	return nil
}

// hedgeTooLate returns the error of a delay that leaves no time for the copy
// within the limit of the given name.
func hedgeTooLate(name string, limit, delay time.Duration) error {
	return &settingError{name: "hedge_delay", message: fmt.Sprintf("must be from %s to %s - %s, which is %s, is %s",
		formatSeconds(hedgeMargin), name, formatSeconds(hedgeMargin), formatSeconds(limit-hedgeMargin), formatSeconds(delay))}
}

// fitConcurrency makes max_concurrent_requests and batch_size agree.
func (r *resolved) fitConcurrency(s *Settings, p *policy) error {
	if r.MaxConcurrentRequests <= maxSmallBatchConcurrency || r.BatchSize >= minBatchSizeOver {
		return nil
	}
	if s.MaxConcurrentRequests == nil {
		r.MaxConcurrentRequests = maxSmallBatchConcurrency
		return nil
	}
	if s.BatchSize != nil {
		return &settingError{name: "max_concurrent_requests", message: fmt.Sprintf(
			"must be at most %d with a batch_size under %d, is %d with %d",
			maxSmallBatchConcurrency, minBatchSizeOver, r.MaxConcurrentRequests, r.BatchSize)}
	}
	raised := raise{name: "batch_size", from: float64(r.BatchSize), to: minBatchSizeOver, cause: "max_concurrent_requests"}
	if err := p.allowRaise(raised); err != nil {
		return err
	}
	r.BatchSize = minBatchSizeOver
	return nil
}

// seconds returns s seconds, or the longest Duration when they are more, which
// is 292 years. Whole nanoseconds let limits be compared exactly that are not
// exact as binary fractions.
func seconds(s float64) time.Duration {
	if s >= math.MaxInt64/float64(time.Second) {
		return math.MaxInt64
	}
	return time.Duration(math.Round(s * float64(time.Second)))
}

func formatSeconds(d time.Duration) string { return formatNumber(d.Seconds()) }

// preferenceError returns err as the fault of a request when it is a
// [settingError], and as it is otherwise.
func preferenceError(err error) error {
	if wrong, ok := errors.AsType[*settingError](err); ok {
		return &engine.RequestError{Field: headerPreferences + "." + wrong.name, Message: wrong.message}
	}
	return err
}
