package handler

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

// A loggedLine is what a test looks at of a line of the log.
type loggedLine struct {
	level    zapcore.Level
	message  string
	endpoint string
	// checked is the health_uri, empty when requests found it out.
	checked string
	fault   bool
}

// lines is a log that hands its lines to a test.
type lines struct {
	zapcore.LevelEnabler
	written chan loggedLine
}

func (l *lines) With([]zapcore.Field) zapcore.Core { return l }
func (l *lines) Sync() error                       { return nil }

func (l *lines) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return checked.AddCore(entry, l)
}

func (l *lines) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	if !strings.HasPrefix(entry.Message, "endpoint is ") {
		return nil
	}
	line := loggedLine{level: entry.Level, message: entry.Message}
	encoder := zapcore.NewMapObjectEncoder()
	for _, field := range fields {
		field.AddTo(encoder)
	}
	line.endpoint, _ = encoder.Fields["endpoint"].(string)
	line.checked, _ = encoder.Fields["health_uri"].(string)
	_, line.fault = encoder.Fields["error"]
	l.written <- line
	return nil
}

// await returns the next line about an endpoint.
func (l *lines) await(t *testing.T) loggedLine {
	t.Helper()
	select {
	case line := <-l.written:
		return line
	case <-time.After(10 * time.Second):
		t.Fatal("nothing is logged of the endpoint")
		return loggedLine{}
	}
}

// provisionedWithLog provisions a handler until the test ends.
func provisionedWithLog(t *testing.T, h *Handler) *lines {
	t.Helper()
	log := &lines{LevelEnabler: zapcore.InfoLevel, written: make(chan loggedLine, 100)}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	if err := h.CheckComplete(); err != nil {
		t.Fatal(err)
	}
	h.setDefaults()
	if err := h.provision(ctx, zap.New(log)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Cleanup(); err != nil {
			t.Error(err)
		}
	})
	return log
}

func TestActiveChecksAreLogged(t *testing.T) {
	t.Setenv("TEST_HEALTH_KEY", "sk-health")
	var broken atomic.Bool
	upstream := enginetest.New()
	asked := make(chan *http.Request, 1000)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ready" {
			upstream.ServeHTTP(w, r)
			return
		}
		asked <- r
		if broken.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(server.Close)
	broken.Store(true)
	h := handlerOf(t, `{"to":["`+server.URL+`"],"client_keys":["any"],"api_key":"sk-operator","health_uri":"/ready?deep=1","health_interval":"1ms",`+
		`"health_headers":{"authorization":["Bearer {env.TEST_HEALTH_KEY}"]}}`)
	log := provisionedWithLog(t, h)
	h.parts.checks.begin()

	want := loggedLine{zapcore.WarnLevel, "endpoint is down", server.URL, "/ready", true}
	if got := log.await(t); got != want {
		t.Errorf("the log says %+v, want %+v", got, want)
	}
	if h.parts.endpoints.list()[0].Up() {
		t.Error("the endpoint counts as up")
	}
	r := <-asked
	if r.URL.RawQuery != "deep=1" || r.Header.Get("Authorization") != "Bearer sk-health" {
		t.Errorf("the check asks for %s with the key %q", r.URL, r.Header.Get("Authorization"))
	}
	// All are down: they are tried all the same.
	embed(t, h)

	broken.Store(false)
	want = loggedLine{zapcore.InfoLevel, "endpoint is up", server.URL, "/ready", false}
	if got := log.await(t); got != want {
		t.Errorf("the log says %+v, want %+v", got, want)
	}
	if !h.parts.endpoints.list()[0].Up() {
		t.Error("the endpoint counts as down")
	}
}

// TestChecksEndAtOnce holds that a reload does not wait for the answer to a
// check.
func TestChecksEndAtOnce(t *testing.T) {
	t.Parallel()
	asked, release := make(chan struct{}, 10), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-release
	}))
	t.Cleanup(server.Close)
	defer close(release)
	config := `{"to":["` + server.URL + `"],"health_uri":"/","health_interval":"1h","health_timeout":"1h"}`
	first := load(t, config)
	first.parts.checks.begin()
	<-asked
	done := make(chan struct{})
	go func() {
		defer close(done)
		first.unload()
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("Cleanup waits for a check")
	}
	if !first.parts.endpoints.list()[0].Up() {
		t.Error("a check that was called off took the endpoint down")
	}
}

// TestChecksDoNotBeginTwiceNorAfterTheirEnd counts what an endpoint is asked.
func TestChecksDoNotBeginTwiceNorAfterTheirEnd(t *testing.T) {
	t.Parallel()
	upstream := enginetest.New()
	h := load(t, `{"to":["`+upstream.Serve(t)+`"],"health_uri":"/","health_interval":"1h","health_status":4}`)
	checks := h.parts.checks
	checks.begin()
	upstream.Await(t, 1)
	checks.begin()
	h.unload()
	checks.begin()
	checks.end()
	if calls := len(upstream.Calls()); calls != 1 {
		t.Errorf("the endpoint was asked %d times, want once", calls)
	}
}

func TestNoChecksUnlessAskedFor(t *testing.T) {
	t.Parallel()
	h := load(t, `{"to":["https://unchecked.invalid"]}`)
	defer h.unload()
	if h.parts.checks != nil {
		t.Error("there are checks")
	}
}

// TestPassiveHealthIsLogged holds that failures of requests take an endpoint
// down, and that it gets no more of them while another one is up.
func TestPassiveHealthIsLogged(t *testing.T) {
	t.Parallel()
	good, bad := enginetest.New(), enginetest.New()
	bad.Script = enginetest.Always(enginetest.Status(http.StatusInternalServerError, "broken"))
	badURL := bad.Serve(t)
	h := handlerOf(t, `{"to":["`+badURL+`","`+good.Serve(t)+`"],"client_keys":["any"],"lb_policy":"first","max_fails":2,"fail_duration":"1h","initial_backoff_ms":50}`)
	log := provisionedWithLog(t, h)
	for range 5 {
		embed(t, h)
	}
	want := loggedLine{level: zapcore.WarnLevel, message: "endpoint is down", endpoint: badURL, fault: true}
	if got := log.await(t); got != want {
		t.Errorf("the log says %+v, want %+v", got, want)
	}
	if calls := len(bad.Calls()); calls != 2 {
		t.Errorf("the endpoint that fails got %d calls, want 2", calls)
	}
	if calls := len(good.Calls()); calls != 5 {
		t.Errorf("the other endpoint got %d calls, want 5", calls)
	}
}

// TestHealthOutlivesAReload holds that an endpoint that is down is known to be
// when the configuration was loaded again.
func TestHealthOutlivesAReload(t *testing.T) {
	t.Parallel()
	good, bad := enginetest.New(), enginetest.New()
	bad.Script = enginetest.Always(enginetest.Status(http.StatusInternalServerError, "broken"))
	config := `{"to":["` + bad.Serve(t) + `","` + good.Serve(t) + `"],"client_keys":["any"],"lb_policy":"first","max_fails":1,"fail_duration":"1h","initial_backoff_ms":50}`
	before := load(t, config)
	embed(t, before.Handler)
	after := load(t, config)
	before.unload()
	defer after.unload()
	embed(t, after.Handler)
	if calls := len(bad.Calls()); calls != 1 {
		t.Errorf("the endpoint that fails got %d calls, want 1", calls)
	}
}
