package handler

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

// serveAt serves a handler on several addresses of loopback, all of which Linux
// has, with one port, until the test ends.
func serveAt(t *testing.T, handlers map[string]http.Handler) (port string) {
	t.Helper()
	for range 20 {
		listeners := make(map[string]net.Listener)
		port = "0"
		for address := range handlers {
			listener, err := net.Listen("tcp", net.JoinHostPort(address, port))
			if err != nil {
				break
			}
			listeners[address] = listener
			_, port, _ = net.SplitHostPort(listener.Addr().String())
		}
		if len(listeners) < len(handlers) {
			// Another program has the port on one of the addresses.
			for _, listener := range listeners {
				_ = listener.Close()
			}
			continue
		}
		for address, listener := range listeners {
			server := httptest.NewUnstartedServer(handlers[address])
			_ = server.Listener.Close()
			server.Listener = listener
			server.Start()
			t.Cleanup(server.Close)
		}
		return port
	}
	t.Fatal("found no port that is free on all addresses")
	return ""
}

// named returns the setting dynamic_upstreams for a name, which must be one of
// this test alone because Caddy remembers the addresses of names.
func named(name, port string, dns *dnsServer) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(
		`{"source":"a","name":%q,"port":%q,"refresh":"1ms","resolver":{"addresses":[%q]}}`, name, port, dns.address))
}

func TestDynamicUpstreams(t *testing.T) {
	t.Parallel()
	first, second := enginetest.New(), enginetest.New()
	port := serveAt(t, map[string]http.Handler{"127.0.0.1": first, "127.0.0.2": second})
	const name = "replicas.dynamic.example"
	dns := serveDNS(t, "127.0.0.1", "127.0.0.2")
	h := &Handler{ClientKeys: []string{"any"}, Upstreams: Upstreams{LBPolicy: "round_robin", DynamicUpstreamsRaw: named(name, port, dns)}}
	url := serve(t, h)
	if asked := dns.questions(name); asked != 0 {
		t.Errorf("Provision asked %d times for the addresses", asked)
	}
	// Nothing of a client's request stands in the way.
	post(t, url, input(t, "", texts(640)), "X-Name", "{env.HOME}").vectors(t)
	if a, b := len(first.Calls()), len(second.Calls()); a == 0 || a != b {
		t.Errorf("the endpoints got %d and %d batches", a, b)
	}
	for _, call := range first.Calls() {
		if call.Host != name+":"+port {
			t.Errorf("the Host header is %s", call.Host)
		}
	}

	kept := h.parts.endpoints.list()
	dns.set("127.0.0.2")
	for len(h.parts.endpoints.list()) > 1 {
		<-h.parts.resolver.lookup().done
	}
	before := len(first.Calls())
	post(t, url, input(t, "", texts(640))).vectors(t)
	if after := len(first.Calls()); after != before {
		t.Errorf("an address that is gone got %d batches", after-before)
	}
	if now := h.parts.endpoints.list(); len(now) != 1 || now[0] != kept[1] {
		t.Errorf("the endpoints are %v, they were %v", now, kept)
	}

	// Without answers the last addresses stay in use.
	dns.set()
	post(t, url, goodBody).vectors(t)
}

func TestDynamicUpstreamsWithoutAddresses(t *testing.T) {
	t.Parallel()
	dns := serveDNS(t)
	url := serve(t, &Handler{
		ClientKeys: []string{"any"},
		Upstreams:  Upstreams{DynamicUpstreamsRaw: named("nothing.dynamic.example", "80", dns)},
	})
	got := post(t, url, goodBody).failed(t, http.StatusBadGateway, "upstream unreachable: the addresses of the endpoints are not known")
	if strings.Contains(got.Error, "dynamic.example") {
		t.Errorf("the client gets to know the name: %s", got.Error)
	}

	// A client's deadline bounds the wait.
	release := make(chan struct{})
	defer close(release)
	slow := serveDNS(t, "127.0.0.1")
	slow.holdUntil(release)
	url = serve(t, &Handler{
		ClientKeys: []string{"any"},
		Upstreams:  Upstreams{DynamicUpstreamsRaw: named("slow.dynamic.example", "80", slow)},
	})
	post(t, url, goodBody, headerRequestTimeout, "50").failed(t, http.StatusGatewayTimeout, headerRequestTimeout)
}

func TestDynamicUpstreamsWithTLS(t *testing.T) {
	t.Parallel()
	const name = "tls.dynamic.example"
	own := newAuthority(t)
	certificate, key := own.issue(t, "client.example.com")
	upstream := enginetest.New()
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(own.serveMutual(t, upstream, name), "https://"))
	block, err := json.Marshal(map[string]any{"protocol": "http", "tls": map[string]any{
		"ca":                          map[string]any{"provider": "file", "pem_files": []string{own.file}},
		"client_certificate_file":     certificate,
		"client_certificate_key_file": key,
	}})
	if err != nil {
		t.Fatal(err)
	}
	dns := serveDNS(t, "127.0.0.1")
	url := serve(t, &Handler{
		ClientKeys: []string{"any"}, TransportRaw: block,
		Upstreams: Upstreams{DynamicUpstreamsRaw: named(name, port, dns)},
	})
	post(t, url, goodBody).vectors(t)
	if call := upstream.Calls()[0]; call.Host != name+":"+port || call.Proto != "HTTP/2.0" {
		t.Errorf("the endpoint was asked for %s in %s", call.Host, call.Proto)
	}
}

// TestTransportWithResolvers holds that names of targets are looked up at the
// resolvers of the setting transport, and that connections come from its address.
func TestTransportWithResolvers(t *testing.T) {
	t.Parallel()
	const name = "resolved.example"
	const own = "127.0.0.4"
	upstream := enginetest.New()
	port := serveAt(t, map[string]http.Handler{"127.0.0.3": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if host, _, _ := net.SplitHostPort(r.RemoteAddr); host != own {
			t.Errorf("the request comes from %s", host)
		}
		upstream.ServeHTTP(w, r)
	})})
	dns := serveDNS(t, "127.0.0.3")
	url := serve(t, &Handler{
		To: []string{"http://" + name + ":" + port}, ClientKeys: []string{"any"},
		TransportRaw: json.RawMessage(`{"protocol":"http","local_address":"` + own + `","resolver":{"addresses":["` + dns.address + `"]}}`),
	})
	post(t, url, goodBody).vectors(t)
	if dns.questions(name) == 0 {
		t.Error("the resolver was not asked")
	}
}
