package handler

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

func TestCheckRefusesDynamicUpstreams(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ config, want string }{
		"another source":        {`{"dynamic_upstreams":{"source":"srv","name":"a"}}`, `dynamic_upstreams: expected the source a`},
		"an unknown name":       {`{"dynamic_upstreams":{"source":"a","name":"a","hosts":[]}}`, `dynamic_upstreams: `},
		"no name":               {`{"dynamic_upstreams":{"source":"a"}}`, `dynamic_upstreams: name must be the name of a host`},
		"a name with a port":    {`{"dynamic_upstreams":{"source":"a","name":"a:80"}}`, `dynamic_upstreams: name must be the name of a host, and nothing else; the port stands by itself`},
		"a name that is none":   {`{"dynamic_upstreams":{"source":"a","name":"http://a"}}`, `dynamic_upstreams: name must be the name of a host`},
		"a port that is none":   {`{"dynamic_upstreams":{"source":"a","name":"a","port":"http"}}`, `dynamic_upstreams: port must be a number from 1 to 65535`},
		"a port out of range":   {`{"dynamic_upstreams":{"source":"a","name":"a","port":"65536"}}`, `dynamic_upstreams: port must be a number from 1 to 65535`},
		"seconds as a duration": {`{"dynamic_upstreams":{"source":"a","name":"a","refresh":10}}`, `dynamic_upstreams: refresh must be a duration of at least 1ms, is 10ns`},
		"targets beside it":     {`{"to":["https://a"],"dynamic_upstreams":{"source":"a","name":"a"}}`, `dynamic_upstreams: cannot stand beside to`},
		"weights beside it":     {`{"weights":[1],"dynamic_upstreams":{"source":"a","name":"a"}}`, `dynamic_upstreams: cannot stand beside weights`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkRefuses(t, test.config, test.want)
		})
	}
}

func TestDynamicTargets(t *testing.T) {
	t.Setenv("TEST_DYNAMIC_NAME", "replicas.example.com")
	for name, test := range map[string]struct {
		name, port, tls   string
		url, host, server string
		err               string
	}{
		"in clear text":                   {name: "a.invalid", port: "8000", url: "http://a.invalid:8000", host: "a.invalid:8000"},
		"the usual port":                  {name: "a.invalid", port: "80", url: "http://a.invalid", host: "a.invalid"},
		"no port":                         {name: "a.invalid", url: "http://a.invalid", host: "a.invalid"},
		"TLS":                             {name: "a.invalid", port: "8443", tls: `{}`, url: "https://a.invalid:8443", host: "a.invalid:8443", server: "a.invalid"},
		"TLS on the usual port":           {name: "a.invalid", port: "443", tls: `{}`, url: "https://a.invalid", host: "a.invalid", server: "a.invalid"},
		"TLS with a name of its own":      {name: "a.invalid", port: "443", tls: `{"server_name":"b"}`, url: "https://a.invalid", host: "a.invalid", server: "a.invalid"},
		"a name from its root":            {name: "A.invalid.", port: "8443", tls: `{}`, url: "https://a.invalid:8443", host: "a.invalid:8443", server: "a.invalid"},
		"placeholders":                    {name: "{env.TEST_DYNAMIC_NAME}", port: "80", url: "http://replicas.example.com", host: "replicas.example.com"},
		"a placeholder that is not known": {name: "{http.request.host}", port: "80", err: "dynamic_upstreams: "},
		"a placeholder that is no port":   {name: "a.invalid", port: "{env.TEST_DYNAMIC_NAME}", err: "dynamic_upstreams: port must be"},
	} {
		t.Run(name, func(t *testing.T) {
			config := map[string]any{"dynamic_upstreams": map[string]any{"source": "a", "name": test.name, "port": test.port}}
			if test.tls != "" {
				config["transport"] = map[string]any{"protocol": "http", "tls": json.RawMessage(test.tls)}
			}
			raw, err := json.Marshal(config)
			if err != nil {
				t.Fatal(err)
			}
			h := handlerOf(t, string(raw))
			if err := h.Check(); err != nil {
				t.Fatalf("Check: %v", err)
			}
			if test.err != "" {
				wantError(t, provisionError(t, h), test.err)
				return
			}
			provisioned(t, h)
			got := h.parts.targets
			if url := got.name(target{OperatorNamed: true}); url != test.url || got.dynamic.host != test.host || got.serverName() != test.server {
				t.Errorf("got the URL %s, the host %s and the name %s", url, got.dynamic.host, got.serverName())
			}
			if same := h.parts.members == h.parts.operator; same != (test.server == "") {
				t.Errorf("the endpoints have the transport of other targets: %t", same)
			}
		})
	}
}

// A scriptedSource is a source of upstreams that a test answers for.
type scriptedSource func(r *http.Request) ([]*reverseproxy.Upstream, error)

func (s scriptedSource) GetUpstreams(r *http.Request) ([]*reverseproxy.Upstream, error) { return s(r) }

// newResolver returns a resolver without endpoints, and its log.
func newResolver(source scriptedSource) (*resolver, *observer.ObservedLogs) {
	core, logs := observer.New(zapcore.DebugLevel)
	return &resolver{
		source:    source,
		target:    &dynamicTarget{scheme: "http", name: "replicas.invalid", host: "replicas.invalid"},
		endpoints: newEndpoints(endpointsShape{}, nil),
		logger:    zap.New(core),
	}, logs
}

// upstreamsAt returns what a source answers.
func upstreamsAt(addresses ...string) []*reverseproxy.Upstream {
	upstreams := make([]*reverseproxy.Upstream, len(addresses))
	for i, address := range addresses {
		upstreams[i] = &reverseproxy.Upstream{Dial: address}
	}
	return upstreams
}

var errLookup = &net.DNSError{Err: "no such host", Name: "replicas.invalid", IsNotFound: true}

// within runs refresh and returns how long it took, with its error.
func within(ctx context.Context, r *resolver) (time.Duration, error) {
	start := time.Now()
	err := r.refresh(ctx)
	return time.Since(start), err
}

func TestFirstLookupIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, _ := newResolver(func(*http.Request) ([]*reverseproxy.Upstream, error) {
			time.Sleep(2 * time.Second)
			return upstreamsAt("10.0.0.1:80"), nil
		})
		if took, err := within(t.Context(), r); err != nil || took != 2*time.Second || !r.endpoints.known() {
			t.Errorf("it took %v: %v", took, err)
		}
	})
}

func TestFirstLookupEndsWithTheDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		r, _ := newResolver(func(*http.Request) ([]*reverseproxy.Upstream, error) {
			asked++
			time.Sleep(3 * time.Second)
			return upstreamsAt("10.0.0.1:80"), nil
		})
		late := &engine.TimeoutError{Limit: "total_timeout_s"}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, late)
		defer cancel()
		if took, err := within(ctx, r); !errors.Is(err, late) || took != time.Second {
			t.Errorf("it took %v: %v", took, err)
		}
		// The lookup goes on for those who have more time.
		if took, err := within(t.Context(), r); err != nil || took != 2*time.Second {
			t.Errorf("it took %v: %v", took, err)
		}
		if asked != 1 {
			t.Errorf("there were %d lookups", asked)
		}
	})
}

func TestLookupThatNeverEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		r, _ := newResolver(func(*http.Request) ([]*reverseproxy.Upstream, error) {
			<-release
			return nil, errLookup
		})
		took, err := within(t.Context(), r)
		if network, ok := errors.AsType[*engine.NetworkError](err); !ok || took != lookupTimeout {
			t.Errorf("it took %v: %v %v", took, err, network)
		}
		close(release)
	})
}

// TestOldAddressesStayInUse holds that requests wait little for new addresses
// when there are old ones, and not at all when others have waited already.
func TestOldAddressesStayInUse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := false
		r, _ := newResolver(func(*http.Request) ([]*reverseproxy.Upstream, error) {
			if !slow {
				return upstreamsAt("10.0.0.1:80"), nil
			}
			time.Sleep(time.Second)
			return upstreamsAt("10.0.0.2:80"), nil
		})
		if took, err := within(t.Context(), r); err != nil || took != 0 {
			t.Errorf("it took %v: %v", took, err)
		}
		slow = true
		for _, want := range []time.Duration{lookupPatience, 0, 0} {
			if took, err := within(t.Context(), r); err != nil || took != want {
				t.Errorf("it took %v, want %v: %v", took, want, err)
			}
		}
		if host := r.endpoints.list()[0].URL().Host; host != "10.0.0.1:80" {
			t.Errorf("the endpoint is %s", host)
		}
		time.Sleep(time.Second)
		if host := r.endpoints.list()[0].URL().Host; host != "10.0.0.2:80" {
			t.Errorf("the endpoint is %s", host)
		}
	})
}

func TestLookupsThatFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked, failing := 0, true
		r, logs := newResolver(func(*http.Request) ([]*reverseproxy.Upstream, error) {
			asked++
			if failing {
				return nil, errLookup
			}
			return upstreamsAt("10.0.0.1:80"), nil
		})
		for range 3 {
			_, err := within(t.Context(), r)
			network, ok := errors.AsType[*engine.NetworkError](err)
			if !ok || network.Cause != "the addresses of the endpoints are not known: no such host" {
				t.Errorf("got the error %v", err)
			}
		}
		if asked != 1 {
			t.Errorf("%d lookups at once after one that failed", asked)
		}
		time.Sleep(lookupPause)
		if err := r.refresh(t.Context()); err == nil || asked != 2 {
			t.Errorf("after a pause there were %d lookups: %v", asked, err)
		}
		time.Sleep(lookupPause)
		failing = false
		if err := r.refresh(t.Context()); err != nil || asked != 3 {
			t.Errorf("after another there were %d lookups: %v", asked, err)
		}
		failing = true
		if err := r.refresh(t.Context()); err != nil || !r.endpoints.known() {
			t.Errorf("the last addresses are not in use: %v", err)
		}
		if warnings := logs.FilterMessageSnippet("looking up the endpoints failed").Len(); warnings != 2 {
			t.Errorf("two failures in a row, and one later, make %d warnings", warnings)
		}
	})
}

func TestLookupWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	for name, source := range map[string]scriptedSource{
		"no addresses": func(*http.Request) ([]*reverseproxy.Upstream, error) { return nil, nil },
		"a panic":      func(*http.Request) ([]*reverseproxy.Upstream, error) { panic("a bug") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, _ := newResolver(source)
			if err := r.refresh(t.Context()); err == nil || r.endpoints.known() {
				t.Errorf("got %v", err)
			}
		})
	}
}
