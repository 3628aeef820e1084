package handler

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

// exchange is one request and its answer. It is for one goroutine.
type exchange struct {
	*parts
	w     http.ResponseWriter
	r     *http.Request
	start time.Time
	id    string // the customer request id, empty until it is known
	// to is where the request is sent, nil until it is known.
	to *target
	// bodyRead says that the body was read to its end.
	bodyRead bool
}

// serveSafely is serve with a panic turned into an error: a bug is answered
// with 500 like every other error.
func (x *exchange) serveSafely() (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &engine.PanicError{Value: value, Stack: debug.Stack()}
		}
	}()
	return x.serve()
}

// serve answers the request. The order of the checks is fixed: syntax, size,
// target, key; nothing is sent before all have passed.
func (x *exchange) serve() error {
	if err := x.route(); err != nil {
		return err
	}
	asked, err := x.readHeaders()
	if err != nil {
		return err
	}
	body, release, err := x.readBody(asked)
	defer release()
	if err != nil {
		return err
	}
	request := x.request(asked, body)
	call, err := x.engine.Prepare(request)
	if err != nil {
		return err
	}
	defer call.Close()
	to, done, err := x.destination(asked)
	if err != nil {
		return err
	}
	defer done()
	answer, err := x.engine.Run(x.r.Context(), to, call)
	if err != nil {
		return err
	}
	defer answer.Close()
	x.log(zapcore.DebugLevel, "answered",
		zap.Int("status", http.StatusOK), zap.Int("batches", len(answer.Batches)), zap.Int64("size", answer.Size()))
	// When the client left in the middle, the server closes the connection
	// because less was written than the length that was declared.
	_ = writeAnswer(x.w, answer, x.id)
	return nil
}

// route refuses what no operation answers to.
func (x *exchange) route() error {
	if engine.Find(x.r.URL.Path) == nil {
		return &routeError{Status: http.StatusNotFound, Message: "no operation answers to this path"}
	}
	if x.r.Method != http.MethodPost {
		x.w.Header().Set("Allow", http.MethodPost)
		return &routeError{Status: http.StatusMethodNotAllowed, Message: "expected the method POST"}
	}
	return nil
}

// asked is what a client says in its headers.
type asked struct {
	credential   credential
	model        string
	preferences  *preferences
	settings     resolved
	deadline     time.Time
	deadlineName string
	target       target
	// forbidden is why the request may not go to its target, or not with its
	// preferences; it is said after what is wrong with the request itself.
	forbidden error
}

// readHeaders reads and checks everything that the client says in headers.
func (x *exchange) readHeaders() (a asked, err error) {
	h := x.r.Header
	if x.id, err = requestID(h); err != nil {
		return a, err
	}
	x.logRequestID()
	if a.credential, err = parseAuthorization(h); err != nil {
		return a, err
	}
	if a.model, err = modelOverride(h); err != nil {
		return a, err
	}
	if a.deadline, a.deadlineName, err = clientDeadline(h, x.start); err != nil {
		return a, err
	}
	if coding := strings.Join(h.Values("Content-Encoding"), ","); coding != "" && !strings.EqualFold(coding, "identity") {
		return a, &engine.RequestError{Field: "Content-Encoding", Message: "expected a body that is not compressed"}
	}
	if strings.ContainsAny(x.r.URL.RawQuery, " \t") {
		return a, &engine.RequestError{Field: "query", Message: "expected no white space in it"}
	}
	if err = x.readPreferences(&a); err != nil {
		return a, err
	}
	if total := a.settings.TotalTimeout; total > 0 {
		if end := x.start.Add(total); a.deadline.IsZero() || end.Before(a.deadline) {
			a.deadline, a.deadlineName = end, "total_timeout_s"
		}
	}
	if !a.deadline.IsZero() && !a.deadline.After(x.start) {
		return a, &engine.TimeoutError{Limit: a.deadlineName, After: a.deadline.Sub(x.start)}
	}
	return a, nil
}

// readPreferences reads the preferences and the target, which may be one of them.
func (x *exchange) readPreferences(a *asked) (err error) {
	header, err := singleHeader(x.r.Header, headerPreferences)
	if err != nil {
		return err
	}
	if a.preferences, err = parsePreferences(header); err != nil {
		return err
	}
	headerTarget, err := singleHeader(x.r.Header, headerTargetHost)
	if err != nil {
		return err
	}
	if err = x.policy.check(a.preferences, headerTarget != ""); err != nil && !a.hold(err) {
		return err
	}
	if a.settings, err = resolve(x.parts.settings, &a.preferences.Settings, x.policy); err != nil {
		return err
	}
	if a.target, err = x.targets.choose(headerTarget, a.preferences.TargetHost); err != nil && !a.hold(err) {
		return err
	}
	return nil
}

// readBody reads the body, within the request's deadline.
func (x *exchange) readBody(a asked) (body []byte, release func(), err error) {
	if !a.deadline.IsZero() {
		// Not every server can bound the reading; then the deadline is seen later.
		control := http.NewResponseController(x.w)
		if err := control.SetReadDeadline(a.deadline); err == nil {
			defer func() { _ = control.SetReadDeadline(time.Time{}) }()
		}
	}
	body, release, err = x.body.read(x.r)
	if errors.Is(err, os.ErrDeadlineExceeded) && !a.deadline.IsZero() {
		err = &engine.TimeoutError{Limit: a.deadlineName, After: a.deadline.Sub(x.start)}
	}
	x.bodyRead = err == nil
	return body, release, err
}

// hold keeps a refusal until the whole request is known to be well formed, and
// reports whether the error is one.
func (a *asked) hold(err error) bool {
	var forbidden *forbiddenError
	if !errors.As(err, &forbidden) {
		return false
	}
	if a.forbidden == nil {
		a.forbidden = err
	}
	return true
}

// request makes the engine's request.
func (x *exchange) request(a asked, body []byte) *engine.Request {
	header := make(http.Header, len(a.preferences.ExtraHeaders)+2)
	// W3C trace context; Caddy's tracing has put its own span here by now.
	for _, name := range []string{"Traceparent", "Tracestate"} {
		if values := x.r.Header[name]; len(values) > 0 {
			header[name] = values
		}
	}
	maps.Copy(header, a.preferences.ExtraHeaders)
	return &engine.Request{
		Path:         x.r.URL.Path,
		RawQuery:     x.r.URL.RawQuery,
		Body:         body,
		Model:        a.model,
		Settings:     a.settings.engine(),
		ID:           x.id,
		Header:       header,
		Deadline:     a.deadline,
		DeadlineName: a.deadlineName,
	}
}

// destination decides where the request goes, with which key and over which
// connections. The caller calls done when nothing of the request is under way any
// more.
func (x *exchange) destination(a asked) (to engine.Destination, done func(), err error) {
	if a.forbidden != nil {
		return to, nil, a.forbidden
	}
	if to.Authorization, err = x.auth.authorize(a.credential, a.target.OperatorNamed); err != nil {
		return to, nil, err
	}
	x.to = &a.target
	transport, release := x.public, func() {}
	switch at := slices.Index(x.targets.configured, a.target.URL); {
	case a.target.URL == nil:
		if err := x.resolve(a); err != nil {
			return to, nil, err
		}
		transport, to.Group = x.members, x.endpoints.configured
	case at >= 0:
		transport, to.Group = x.members, x.endpoints.alone[at]
	default:
		if a.target.OperatorNamed {
			transport = x.operator
		}
		chosen := x.endpoints.acquire(a.target)
		to.Group, release = chosen.group, func() { x.endpoints.chosen.release(chosen) }
	}
	to.Transport = transport
	return to, func() { release(); transport.done() }, nil
}

// resolve waits, within the request's deadline, until the configured endpoints
// are known.
func (x *exchange) resolve(a asked) error {
	if x.resolver == nil {
		return nil
	}
	ctx := x.r.Context()
	if !a.deadline.IsZero() {
		var cancel context.CancelFunc
		late := &engine.TimeoutError{Limit: a.deadlineName, After: a.deadline.Sub(x.start)}
		ctx, cancel = context.WithDeadlineCause(ctx, a.deadline, late)
		defer cancel()
	}
	return x.resolver.refresh(ctx)
}

// fail answers with an error and logs it.
func (x *exchange) fail(err error) {
	f := newFailure(x.r.Context(), err)
	f.CustomerRequestID = x.id
	level := zapcore.DebugLevel
	switch {
	case f.status >= http.StatusInternalServerError:
		level = zapcore.ErrorLevel
	case f.UpstreamStatus != 0:
		// A wrong key or path for the upstream is the operator's to see.
		level = zapcore.WarnLevel
	}
	fields := append(x.whereFailed(err), zap.Int("status", f.status), zap.Error(err))
	var panicked *engine.PanicError
	if errors.As(err, &panicked) {
		fields = append(fields, zap.ByteString("stack", panicked.Stack))
	}
	x.log(level, "failed", fields...)
	if x.r.ProtoMajor == 1 && x.r.ContentLength != 0 && !x.bodyRead {
		// The server would wait for the rest of the body before it answers.
		x.w.Header().Set("Connection", "close")
	}
	f.write(x.w, x.r)
}

// whereFailed says in the log where a request failed: at the endpoint of the
// last attempt of a batch, or on the way to all of those that it could go to.
func (x *exchange) whereFailed(err error) (fields []zap.Field) {
	batch, ok := errors.AsType[*engine.BatchError](err)
	switch {
	case ok && batch.Endpoint != nil:
		fields = append(fields, zap.Stringer("endpoint", batch.Endpoint.URL()))
	case x.to != nil:
		fields = append(fields, zap.String("upstream", x.targets.name(*x.to)))
	}
	if ok {
		fields = append(fields, zap.Int("attempts", batch.Attempts))
		if batch.Refused != "" {
			fields = append(fields, zap.String("budget", budgetSetting(batch.Refused)))
		}
	}
	return fields
}

// log writes a line about the request.
func (x *exchange) log(level zapcore.Level, message string, fields ...zap.Field) {
	if entry := x.logger.Check(level, message); entry != nil {
		entry.Write(append(fields,
			zap.String("path", x.r.URL.Path),
			zap.String("customer_request_id", x.id),
			zap.Duration("duration", time.Since(x.start)),
		)...)
	}
}

// logRequestID puts the customer request id into Caddy's access log.
func (x *exchange) logRequestID() {
	if extra, ok := x.r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Add(zap.String("customer_request_id", x.id))
	}
}
