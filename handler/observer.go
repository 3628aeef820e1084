package handler

import (
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

// An engineLog logs what the engine does: that an endpoint goes down or comes up,
// and at the level debug what fails and is tried again. It costs next to nothing
// at other levels. The URLs of endpoints hold no user names and no passwords,
// and the errors of the engine no keys.
type engineLog struct{ logger *zap.Logger }

// Waited logs nothing: to wait is what the limits of endpoints are for.
func (engineLog) Waited(*engine.Endpoint, time.Duration) {}

// Attempted logs an attempt that failed.
func (l engineLog) Attempted(a engine.Attempt) {
	if a.Err == nil || a.Lost {
		return
	}
	if entry := l.logger.Check(zapcore.DebugLevel, "attempt failed"); entry != nil {
		entry.Write(zap.Stringer("endpoint", a.Endpoint.URL()), zap.String("attempt_id", a.ID),
			zap.Duration("duration", a.Took), zap.Error(a.Err))
	}
}

// Retrying logs where and when a batch is tried again.
func (l engineLog) Retrying(e *engine.Endpoint, wait time.Duration, err error) {
	if entry := l.logger.Check(zapcore.DebugLevel, "trying again"); entry != nil {
		entry.Write(zap.Stringer("endpoint", e.URL()), zap.Duration("wait", wait), zap.Error(err))
	}
}

// Refused logs that a budget is spent.
func (l engineLog) Refused(b engine.Budget) {
	if entry := l.logger.Check(zapcore.DebugLevel, "budget is spent"); entry != nil {
		entry.Write(zap.String("budget", budgetSetting(b)))
	}
}

// HealthChanged logs that requests found an endpoint down or up again.
func (l engineLog) HealthChanged(e *engine.Endpoint, up bool, err error) {
	logHealth(l.logger, e, up, zap.Error(err))
}

// logHealth logs that an endpoint is up or down.
func logHealth(logger *zap.Logger, e *engine.Endpoint, up bool, fields ...zap.Field) {
	fields = append(fields, zap.Stringer("endpoint", e.URL()))
	if up {
		logger.Info("endpoint is up", fields...)
	} else {
		logger.Warn("endpoint is down", fields...)
	}
}

// budgetSetting returns the name of the setting that a budget is set with.
func budgetSetting(b engine.Budget) string {
	switch b {
	case engine.RequestRetries:
		return "retry_budget_pct"
	case engine.GroupRetries:
		return "retry_bucket"
	case engine.RequestHedges:
		return "hedge_budget_pct"
	}
	return string(b)
}
