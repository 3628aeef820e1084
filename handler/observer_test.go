package handler

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

// requestLog sends one text through a handler and returns what it logs.
func requestLog(t *testing.T, config string, level zapcore.Level) *observer.ObservedLogs {
	t.Helper()
	core, logs := observer.New(level)
	h := handlerOf(t, config)
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	h.setDefaults()
	if err := h.provision(ctx, zap.New(core)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Cleanup(); err != nil {
			t.Error(err)
		}
	})
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/embeddings", strings.NewReader(input(t, "", texts(1))))
	r.Header.Set(headerRequestID, "request-1")
	r.Header.Set(headerPreferences, `{"initial_backoff_ms":50}`)
	if err := h.ServeHTTP(httptest.NewRecorder(), r, nil); err != nil {
		t.Fatal(err)
	}
	return logs
}

// fieldsOf returns the fields of the lines of that message.
func fieldsOf(logs *observer.ObservedLogs, message string) []map[string]any {
	var found []map[string]any
	for _, line := range logs.FilterMessage(message).All() {
		found = append(found, line.ContextMap())
	}
	return found
}

// wantField checks that a field is there and that its text begins with want.
func wantField(t *testing.T, fields map[string]any, name, want string) {
	t.Helper()
	if got, _ := fields[name].(string); !strings.HasPrefix(got, want) || want == "" {
		t.Errorf("the field %s is %v, want %q", name, fields[name], want)
	}
}

func TestFailedAttemptsAreLoggedAtDebug(t *testing.T) {
	t.Parallel()
	upstream := enginetest.New()
	upstream.Script = enginetest.Always(enginetest.Status(http.StatusInternalServerError, "no GPU"))
	url := upstream.Serve(t)
	config := `{"to":["` + url + `"],"client_keys":["any"],"fail_duration":"0s","retry_bucket":{"size":1,"per_second":0}}`
	logs := requestLog(t, config, zap.DebugLevel)

	attempts := fieldsOf(logs, "attempt failed")
	if len(attempts) != 2 {
		t.Fatalf("%d attempts are logged, want 2", len(attempts))
	}
	for i, id := range []string{"request-1-0-0", "request-1-0-1"} {
		wantField(t, attempts[i], "endpoint", url)
		wantField(t, attempts[i], "attempt_id", id)
		wantField(t, attempts[i], "error", "upstream answered with status 500: no GPU")
		if _, ok := attempts[i]["duration"]; !ok {
			t.Error("an attempt is logged without its duration")
		}
	}
	retries := fieldsOf(logs, "trying again")
	if len(retries) != 1 {
		t.Fatalf("%d retries are logged, want 1", len(retries))
	}
	wantField(t, retries[0], "endpoint", url)
	wantField(t, retries[0], "error", "upstream answered with status 500: no GPU")
	if _, ok := retries[0]["wait"]; !ok {
		t.Error("a retry is logged without its wait")
	}
	refused := fieldsOf(logs, "budget is spent")
	if len(refused) != 1 {
		t.Fatalf("%d refused budgets are logged, want 1", len(refused))
	}
	wantField(t, refused[0], "budget", "retry_bucket")

	failed := fieldsOf(logs, "failed")
	if len(failed) != 1 {
		t.Fatalf("%d failed requests are logged, want 1", len(failed))
	}
	wantField(t, failed[0], "endpoint", url)
	wantField(t, failed[0], "budget", "retry_bucket")
	if failed[0]["attempts"] != int64(2) || failed[0]["upstream"] != nil {
		t.Errorf("the failed request is logged with %v", failed[0])
	}
}

func TestOnlyTheRequestIsLoggedAtInfo(t *testing.T) {
	t.Parallel()
	upstream := enginetest.New()
	upstream.Script = enginetest.Always(enginetest.Status(http.StatusBadRequest, "no such model"))
	url := upstream.Serve(t)
	logs := requestLog(t, `{"to":["`+url+`"],"client_keys":["any"]}`, zap.InfoLevel)
	failed := fieldsOf(logs, "failed")
	if len(failed) != 1 || logs.Len() != 1 {
		t.Fatalf("the log says %v", logs.All())
	}
	wantField(t, failed[0], "endpoint", url)
	if failed[0]["attempts"] != int64(1) || failed[0]["budget"] != nil {
		t.Errorf("the failed request is logged with %v", failed[0])
	}
}

// TestRequestsThatReachNoEndpoint are logged with all that they could go to.
func TestRequestsThatReachNoEndpoint(t *testing.T) {
	t.Parallel()
	names := serveDNS(t)
	logs := requestLog(t, `{"client_keys":["any"],"dynamic_upstreams":{"source":"a","name":"models.invalid","port":"8000","resolver":{"addresses":["udp/`+names.address+`"]}}}`, zap.InfoLevel)
	failed := fieldsOf(logs, "failed")
	if len(failed) != 1 {
		t.Fatalf("the log says %v", logs.All())
	}
	wantField(t, failed[0], "upstream", "http://models.invalid:8000")
	if failed[0]["endpoint"] != nil || failed[0]["attempts"] != nil {
		t.Errorf("the failed request is logged with %v", failed[0])
	}
}

// TestEveryBudgetHasASetting holds that logs name what an operator can change.
func TestEveryBudgetHasASetting(t *testing.T) {
	t.Parallel()
	for budget, want := range map[engine.Budget]string{
		engine.RequestRetries: "retry_budget_pct",
		engine.GroupRetries:   "retry_bucket",
		engine.RequestHedges:  "hedge_budget_pct",
	} {
		if got := budgetSetting(budget); got != want {
			t.Errorf("the setting of %s is %s, want %s", budget, got, want)
		}
	}
}
