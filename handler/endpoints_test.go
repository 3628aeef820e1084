package handler

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

// A loaded handler is one as Caddy has it between loading and unloading a
// configuration.
type loaded struct {
	*Handler
	unload func()
}

// load provisions a configuration as a reload does.
func load(t *testing.T, config string) loaded {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	h := handlerOf(t, config)
	if err := h.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	return loaded{h, func() {
		if err := h.Cleanup(); err != nil {
			t.Error(err)
		}
		cancel()
	}}
}

func TestEndpointsOutliveAReload(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		before, after string
		same          bool
	}{
		"the same settings": {
			`{"to":["https://same.invalid","https://b.invalid"]}`, `{"to":["https://same.invalid","https://b.invalid"]}`, true,
		},
		"other settings of requests": {
			`{"to":["https://requests.invalid"]}`, `{"to":["https://requests.invalid"],"batch_size":8,"max_memory":1024,"allowed_targets":["none"]}`, true,
		},
		"a default that is written out": {
			`{"to":["https://default.invalid"]}`,
			`{"to":["https://default.invalid/"],"weights":[1],"lb_policy":"random_choose","max_upstream_requests":1024,"retry_bucket":{},` +
				`"fail_duration":"5s","max_fails":3,"http_version":"2","dial_timeout":"5s"}`,
			true,
		},
		"targets in a placeholder":     {`{"to":["https://{system.os}.invalid"]}`, `{"to":["https://{system.os}.invalid"]}`, true},
		"another target":               {`{"to":["https://target.invalid"]}`, `{"to":["https://target.invalid","https://b.invalid"]}`, false},
		"another weight":               {`{"to":["https://weight.invalid"]}`, `{"to":["https://weight.invalid"],"weights":[2]}`, false},
		"another policy":               {`{"to":["https://policy.invalid"]}`, `{"to":["https://policy.invalid"],"lb_policy":"first"}`, false},
		"another limit of requests":    {`{"to":["https://limit.invalid"]}`, `{"to":["https://limit.invalid"],"max_upstream_requests":8}`, false},
		"another limit of items":       {`{"to":["https://items.invalid"]}`, `{"to":["https://items.invalid"],"max_upstream_items":512}`, false},
		"another bucket":               {`{"to":["https://bucket.invalid"]}`, `{"to":["https://bucket.invalid"],"retry_bucket":{"per_second":0}}`, false},
		"other passive health":         {`{"to":["https://passive.invalid"]}`, `{"to":["https://passive.invalid"],"fail_duration":0}`, false},
		"active health":                {`{"to":["http://127.0.0.1:9/active"]}`, `{"to":["http://127.0.0.1:9/active"],"health_uri":"/health"}`, false},
		"another way to connect":       {`{"to":["https://connect.invalid"]}`, `{"to":["https://connect.invalid"],"http_version":"1"}`, false},
		"the same way, with TLS":       {`{"to":["https://tls.invalid"],"transport":{"protocol":"http","tls":{}}}`, `{"to":["https://tls.invalid"],"transport":{"tls":{},"protocol":"http"}}`, true},
		"a name instead of the target": {`{"dynamic_upstreams":{"source":"a","name":"x.invalid"}}`, `{"dynamic_upstreams":{"source":"a","name":"y.invalid"}}`, false},
		"the same name":                {`{"dynamic_upstreams":{"source":"a","name":"z.invalid"}}`, `{"dynamic_upstreams":{"source":"a","name":"Z.invalid","port":"80"}}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := load(t, test.before)
			after := load(t, test.after)
			before.unload()
			if same := after.parts.endpoints == before.parts.endpoints; same != test.same {
				t.Errorf("the endpoints are the same: %t, want %t", same, test.same)
			}
			after.unload()
			again := load(t, test.after)
			defer again.unload()
			if again.parts.endpoints == after.parts.endpoints {
				t.Error("the endpoints outlived their last user")
			}
		})
	}
}

// keyOf returns the key of a handler's endpoints, which no other test has.
func keyOf(t *testing.T, h *Handler) string {
	t.Helper()
	key, err := json.Marshal(h.parts.endpoints.shape)
	if err != nil {
		t.Fatal(err)
	}
	return string(key)
}

func TestEndpointsAreReleasedOnce(t *testing.T) {
	t.Parallel()
	const config = `{"to":["https://released.invalid"]}`
	first := load(t, config)
	key := keyOf(t, first.Handler)
	second := load(t, config)
	references := func(want int) {
		t.Helper()
		if got, _ := endpointsInUse.References(key); got != want {
			t.Errorf("there are %d references, want %d", got, want)
		}
	}
	references(2)
	first.unload()
	references(1)
	// A second Cleanup, and one of a handler that was never provisioned, take
	// nothing away.
	for _, h := range []*Handler{first.Handler, new(Handler)} {
		if err := h.Cleanup(); err != nil {
			t.Error(err)
		}
	}
	references(1)
	second.unload()
	references(0)
}

// TestFailedProvisionReleases makes Provision fail after it has taken everything
// over that outlives a reload; a configuration that runs keeps it.
func TestFailedProvisionReleases(t *testing.T) {
	t.Parallel()
	const good = `{"to":["https://failed.invalid"],"http_version":"1","dial_timeout":"4321ms","health_port":9,"health_interval":"1h","health_headers":{"A":["b"]}}`
	const bad = `{"to":["https://failed.invalid"],"http_version":"1","dial_timeout":"4321ms","health_port":9,"health_interval":"1h","health_headers":{"A":["{env.TEST_NOT_SET}"]}}`
	running := load(t, good)
	key := keyOf(t, running.Handler)
	transport, err := json.Marshal(running.parts.endpoints.shape.Transport)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		wantError(t, provisionError(t, handlerOf(t, bad)), `health_headers: "A" has a placeholder that is unknown or empty`)
	}
	if got, _ := endpointsInUse.References(key); got != 1 {
		t.Errorf("there are %d references to the running endpoints, want 1", got)
	}
	if got, _ := transports.References(string(transport)); got != 1 {
		t.Errorf("there are %d references to the running transport, want 1", got)
	}
	running.unload()
	if got, known := transports.References(string(transport)); known {
		t.Errorf("there are %d references to a transport that nobody uses", got)
	}
}

func TestTransportsOutliveAReload(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		before, after string
		same          bool
	}{
		"other settings of requests":     {`{"dial_timeout":"1001ms"}`, `{"dial_timeout":"1001ms","batch_size":8}`, true},
		"another target":                 {`{"dial_timeout":"1002ms"}`, `{"dial_timeout":"1002ms","to":["https://a"]}`, true},
		"another HTTP version":           {`{"dial_timeout":"1003ms"}`, `{"dial_timeout":"1003ms","http_version":"1"}`, false},
		"another timeout":                {`{"dial_timeout":"1004ms"}`, `{"dial_timeout":"1005ms"}`, false},
		"the same block":                 {`{"transport":{"protocol":"http","dial_timeout":"1006ms"}}`, `{"transport":{"dial_timeout":"1006ms","protocol":"http"}}`, true},
		"another block":                  {`{"dial_timeout":"1007ms"}`, `{"dial_timeout":"1007ms","transport":{"protocol":"http","local_address":"127.0.0.1"}}`, false},
		"a block whose files may change": {`{"dial_timeout":"1008ms","transport":{"protocol":"http","tls":{}}}`, `{"dial_timeout":"1008ms","transport":{"protocol":"http","tls":{}}}`, false},
		"a block with a module of its own": {
			`{"transport":{"protocol":"http","network_proxy":{"from":"none"}}}`, `{"transport":{"protocol":"http","network_proxy":{"from":"none"}}}`, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := load(t, test.before)
			after := load(t, test.after)
			before.unload()
			defer after.unload()
			if same := after.parts.operator == before.parts.operator; same != test.same {
				t.Errorf("the transport is the same: %t, want %t", same, test.same)
			}
			if after.parts.operator.unused.Load() {
				t.Error("a transport in use counts as unused")
			}
			if !test.same && !before.parts.operator.unused.Load() {
				t.Error("a transport that nobody uses counts as used")
			}
			if after.parts.public == after.parts.operator {
				t.Error("targets of callers have the operator's transport")
			}
		})
	}
}

// TestConnectionsOutliveAReload holds that a reload makes no new connection, and
// that the last user's end closes those that are left.
func TestConnectionsOutliveAReload(t *testing.T) {
	t.Parallel()
	upstream := enginetest.New()
	release := make(chan struct{})
	upstream.Script = func(c *enginetest.Call) []enginetest.Fault {
		if c.Number == 4 {
			return []enginetest.Fault{enginetest.Hold(release)}
		}
		return nil
	}
	server, connections := countConnections(t, upstream)
	// A request has two batches, one after the other. No other test has the same
	// transport.
	config := `{"to":["` + server.URL + `"],"client_keys":["any"],"batch_size":1,"max_concurrent_requests":1,"dial_timeout":"4001ms"}`
	before := load(t, config)
	embed(t, before.Handler)
	after := load(t, config)
	before.unload()
	embed(t, after.Handler)
	if opened, _ := connections.counts(); opened != 1 {
		t.Errorf("there were %d connections, want 1", opened)
	}
	after.unload()
	connections.awaitClosed(t)

	// What a request needs after the last user's end is closed when it is done.
	last := load(t, config)
	done := make(chan struct{})
	go func() {
		defer close(done)
		embed(t, last.Handler)
	}()
	upstream.Await(t, 5)
	last.unload()
	close(release)
	<-done
	connections.awaitClosed(t)
	if calls := len(upstream.Calls()); calls != 6 {
		t.Errorf("there were %d calls, want 6", calls)
	}
}

func TestRequestsGoToSeveralEndpoints(t *testing.T) {
	t.Parallel()
	var upstreams []*enginetest.Upstream
	var targets []string
	for range 3 {
		upstream := enginetest.New()
		upstreams, targets = append(upstreams, upstream), append(targets, upstream.Serve(t))
	}
	for name, test := range map[string]struct {
		settings Upstreams
		want     []int
	}{
		"in turn":      {Upstreams{LBPolicy: "round_robin"}, []int{40, 40, 40}},
		"by weight":    {Upstreams{LBPolicy: "round_robin", Weights: []int{1, 2, 3}}, []int{20, 40, 60}},
		"to the first": {Upstreams{LBPolicy: "first"}, []int{120, 0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			var before []int
			for _, u := range upstreams {
				before = append(before, len(u.Calls()))
			}
			url := serve(t, &Handler{To: targets, ClientKeys: []string{"any"}, Upstreams: test.settings, Settings: Settings{BatchSize: new(1)}})
			post(t, url, input(t, "", texts(120))).vectors(t)
			var got []int
			for i, u := range upstreams {
				got = append(got, len(u.Calls())-before[i])
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("the endpoints got %v batches, want %v", got, test.want)
			}
		})
	}
}

// TestCallersShareConfiguredEndpoints holds that a caller who chooses one of the
// operator's targets meets the state of that endpoint, and its bucket of retries.
func TestCallersShareConfiguredEndpoints(t *testing.T) {
	t.Parallel()
	h := provisioned(t, &Handler{To: []string{"https://shared-a.invalid", "https://shared-b.invalid"}})
	all := h.parts.endpoints.configured.Members()
	for i, u := range h.parts.targets.configured {
		x := &exchange{parts: h.parts}
		target, err := h.parts.targets.choose(u.String()+"/", "")
		if err != nil {
			t.Fatal(err)
		}
		to, done, err := x.destination(asked{target: target, credential: credential{scheme: schemeBearer, key: "k", raw: "Bearer k"}})
		if err != nil {
			t.Fatal(err)
		}
		done()
		if members := to.Group.Members(); len(members) != 1 || members[0].Endpoint != all[i].Endpoint {
			t.Errorf("the group is %v", members)
		}
	}

	upstream := enginetest.New()
	upstream.Script = enginetest.Always(enginetest.Status(http.StatusInternalServerError, "broken"))
	target := upstream.Serve(t)
	url := serve(t, &Handler{
		To: []string{target}, ClientKeys: []string{"any"}, Settings: Settings{InitialBackoffMS: new(50)},
		Upstreams: Upstreams{RetryBucket: &RetryBucket{Size: 1, PerReply: new(0.0), PerSecond: new(0.0)}},
	})
	post(t, url, goodBody).failed(t, http.StatusBadGateway)
	post(t, url, goodBody, headerTargetHost, target).failed(t, http.StatusBadGateway)
	if calls := len(upstream.Calls()); calls != 3 {
		t.Errorf("two requests with one retry between them made %d calls", calls)
	}
}

// TestChosenEndpointsAreRemembered holds that what a caller chose has an endpoint
// of its own, the same one for each caller with the same trust.
func TestChosenEndpointsAreRemembered(t *testing.T) {
	t.Parallel()
	h := provisioned(t, &Handler{AllowedTargets: []string{"https://*.example.invalid"}})
	endpointOf := func(t *testing.T, operatorNamed bool, text string) *engine.Endpoint {
		t.Helper()
		x := &exchange{parts: h.parts}
		chosen := target{URL: parsedTarget(t, text), OperatorNamed: operatorNamed}
		to, done, err := x.destination(asked{target: chosen, credential: credential{scheme: schemeBearer, key: "k", raw: "Bearer k"}})
		if err != nil {
			t.Fatal(err)
		}
		defer done()
		return to.Group.Members()[0].Endpoint
	}
	first := endpointOf(t, true, "https://a.example.invalid")
	if endpointOf(t, true, "https://a.example.invalid") != first {
		t.Error("the second request has another endpoint")
	}
	if endpointOf(t, false, "https://a.example.invalid") == first {
		t.Error("callers' targets share an endpoint with the operator's")
	}
	if endpointOf(t, true, "https://a.example.invalid/v1") == first {
		t.Error("two paths share an endpoint")
	}
}

func TestEndpointsByAddress(t *testing.T) {
	t.Parallel()
	target := &dynamicTarget{scheme: "https", name: "replicas.invalid", host: "replicas.invalid:8443"}
	e := newEndpoints(endpointsShape{}, nil)
	if e.known() {
		t.Error("endpoints are known before there are any")
	}
	byURL := func() map[string]*engine.Endpoint {
		found := make(map[string]*engine.Endpoint)
		for _, endpoint := range e.list() {
			found[endpoint.URL().String()] = endpoint
		}
		return found
	}
	e.set(target, []string{"10.0.0.2:8443", "10.0.0.1:8443", "10.0.0.2:8443"})
	first := byURL()
	if len(first) != 2 || first["https://10.0.0.1:8443"] == nil || first["https://10.0.0.2:8443"] == nil || !e.known() {
		t.Fatalf("the endpoints are %v", first)
	}
	members := e.configured.Members()
	e.set(target, []string{"10.0.0.1:8443", "10.0.0.2:8443"})
	if !reflect.DeepEqual(e.configured.Members(), members) {
		t.Error("the same addresses in another order changed the endpoints")
	}
	e.set(target, []string{"10.0.0.2:8443", "[fd00::1]:8443"})
	second := byURL()
	if len(second) != 2 || second["https://10.0.0.2:8443"] != first["https://10.0.0.2:8443"] || second["https://[fd00::1]:8443"] == nil {
		t.Errorf("the endpoints are %v, they were %v", second, first)
	}
}
