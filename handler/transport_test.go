package handler

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

func TestCheckRefusesInTransport(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ config, want string }{
		"another protocol":                                  {`{"transport":{"protocol":"fastcgi"}}`, `transport: expected the protocol http`},
		"no protocol":                                       {`{"transport":{}}`, `transport: expected the protocol http`},
		"no object":                                         {`{"transport":"http"}`, `transport: `},
		"an unknown name":                                   {`{"transport":{"protocol":"http","keepalive":"30s"}}`, `transport: `},
		"versions":                                          {`{"transport":{"protocol":"http","versions":["1.1"]}}`, `transport: versions cannot be set in it: set http_version beside it`},
		"compression off":                                   {`{"transport":{"protocol":"http","compression":false}}`, `transport: compression cannot be set in it`},
		"the PROXY protocol":                                {`{"transport":{"protocol":"http","proxy_protocol":"v2"}}`, `transport: proxy_protocol cannot be set in it`},
		"two dial timeouts":                                 {`{"dial_timeout":"1s","transport":{"protocol":"http","dial_timeout":"2s"}}`, `transport: dial_timeout is set in it and beside it: set one of them`},
		"a name of the client's":                            {`{"transport":{"protocol":"http","tls":{"server_name":"{http.request.host}"}}}`, `transport: tls_server_name must hold no placeholders`},
		"ports without TLS":                                 {`{"transport":{"protocol":"http","tls":{"except_ports":["80"]}}}`, `transport: tls_except_ports cannot be set in it`},
		"a negative dial timeout":                           {`{"transport":{"protocol":"http","dial_timeout":"-1s"}}`, `transport: dial_timeout: must be a duration of at least 1ms such as "5s", is -1s`},
		"a dial timeout in JSON's nanoseconds":              {`{"transport":{"protocol":"http","dial_timeout":5}}`, `transport: dial_timeout: must be a duration of at least 1ms such as "5s", is 5ns (a number in JSON is nanoseconds)`},
		"a negative time for headers":                       {`{"transport":{"protocol":"http","response_header_timeout":"-1s"}}`, `transport: response_header_timeout: must be`},
		"a negative time to continue":                       {`{"transport":{"protocol":"http","expect_continue_timeout":"-1s"}}`, `transport: expect_continue_timeout: must be`},
		"a negative time to read":                           {`{"transport":{"protocol":"http","read_timeout":"-1s"}}`, `transport: read_timeout: must be`},
		"a negative time to write":                          {`{"transport":{"protocol":"http","write_timeout":"-1s"}}`, `transport: write_timeout: must be`},
		"a negative idle time":                              {`{"transport":{"protocol":"http","keep_alive":{"idle_timeout":"-1s"}}}`, `transport: keepalive: must be`},
		"a negative interval":                               {`{"transport":{"protocol":"http","keep_alive":{"probe_interval":"-1s"}}}`, `transport: keepalive_interval: must be`},
		"a negative time for TLS":                           {`{"transport":{"protocol":"http","tls":{"handshake_timeout":"-1s"}}}`, `transport: tls_timeout: must be`},
		"a negative bound of connections":                   {`{"transport":{"protocol":"http","max_conns_per_host":-1}}`, `transport: max_conns_per_host must not be negative, is -1`},
		"a negative number of idle connections":             {`{"transport":{"protocol":"http","keep_alive":{"max_idle_conns":-1}}}`, `transport: keepalive_idle_conns must not`},
		"a negative number of idle connections to one host": {`{"transport":{"protocol":"http","keep_alive":{"max_idle_conns_per_host":-1}}}`, `transport: keepalive_idle_conns_per_host must not`},
		"a negative size of headers":                        {`{"transport":{"protocol":"http","max_response_header_size":-1}}`, `transport: max_response_header must not`},
		"a negative buffer":                                 {`{"transport":{"protocol":"http","read_buffer_size":-1}}`, `transport: read_buffer must not`},
		"another negative buffer":                           {`{"transport":{"protocol":"http","write_buffer_size":-1}}`, `transport: write_buffer must not`},
		"TLS to a target without it":                        {`{"to":["https://a","http://b"],"transport":{"protocol":"http","tls":{}}}`, `transport: it has TLS settings, and a target of to begins with http://: begin it with https://`},
		"TLS to one that is h2c":                            {`{"to":["h2c://{env.HOST}"],"transport":{"protocol":"http","tls":{}}}`, `transport: it has TLS settings, and a target of to begins with h2c://`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkRefuses(t, test.config, test.want)
		})
	}
}

func TestProvisionRefusesTransport(t *testing.T) {
	t.Setenv("TEST_TRANSPORT_TARGET", "http://model.example.com")
	for name, test := range map[string]struct{ config, want string }{
		"a certificate that is not there": {
			`{"transport":{"protocol":"http","tls":{"client_certificate_file":"/no/such","client_certificate_key_file":"/no/such"}}}`,
			`transport: `,
		},
		"TLS to a target that turns out to be without": {
			`{"to":["{env.TEST_TRANSPORT_TARGET}"],"transport":{"protocol":"http","tls":{}}}`,
			`transport: it has TLS settings, and a target of to begins with http://`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := handlerOf(t, test.config)
			if err := h.Check(); err != nil {
				t.Fatalf("Check: %v", err)
			}
			wantError(t, provisionError(t, h), test.want)
		})
	}
}

func TestCheckAcceptsTransport(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]string{
		"an empty block":            `{"transport":{"protocol":"http"}}`,
		"no second address at once": `{"transport":{"protocol":"http","dial_fallback_delay":"-1s"}}`,
		"its own dial timeout":      `{"transport":{"protocol":"http","dial_timeout":"2s"}}`,
		"TLS":                       `{"to":["https://a"],"transport":{"protocol":"http","tls":{"server_name":"b"}}}`,
		"resolvers":                 `{"transport":{"protocol":"http","resolver":{"addresses":["127.0.0.1:53"]}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkAccepts(t, config)
		})
	}
}

// An authority signs certificates for a test.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	// file holds the certificate in PEM.
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{certificate, key, writePEM(t, "authority.pem", "CERTIFICATE", der)}
}

// issue returns the files of a certificate for a name and of its key.
func (a *authority) issue(t *testing.T, name string) (certificate, key string) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, own.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	return writePEM(t, name+".pem", "CERTIFICATE", der), writePEM(t, name+"-key.pem", "PRIVATE KEY", secret)
}

func writePEM(t *testing.T, name, kind string, der []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// serveMutual serves an upstream under a name, to clients with a certificate of
// the authority only, and returns its URL, which holds an address.
func (a *authority) serveMutual(t *testing.T, upstream http.Handler, name string) string {
	t.Helper()
	certificate, err := tls.LoadX509KeyPair(a.issue(t, name))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.certificate)
	server := httptest.NewUnstartedServer(upstream)
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{
		Certificates: []tls.Certificate{certificate},
		ClientCAs:    roots, ClientAuth: tls.RequireAndVerifyClientCert,
	}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

func TestTransportWithTLS(t *testing.T) {
	t.Parallel()
	own := newAuthority(t)
	certificate, key := own.issue(t, "client.example.com")
	upstream := enginetest.New()
	target := own.serveMutual(t, upstream, "model.example.com")
	// settings returns the TLS of the transport without one of the members.
	settings := func(without string) json.RawMessage {
		members := map[string]any{
			"ca":                          map[string]any{"provider": "file", "pem_files": []string{own.file}},
			"client_certificate_file":     certificate,
			"client_certificate_key_file": key,
			"server_name":                 "model.example.com",
		}
		delete(members, without)
		if without == "client certificate" {
			delete(members, "client_certificate_file")
			delete(members, "client_certificate_key_file")
		}
		raw, err := json.Marshal(map[string]any{"protocol": "http", "tls": members})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	for name, test := range map[string]struct {
		version, proto string
	}{
		"in HTTP/2":   {"2", "HTTP/2.0"},
		"in HTTP/1.1": {"1", "HTTP/1.1"},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(upstream.Calls())
			url := serve(t, &Handler{To: []string{target}, ClientKeys: []string{"any"}, HTTPVersion: test.version, TransportRaw: settings("")})
			if vectors := post(t, url, input(t, "", texts(100))).vectors(t); len(vectors) != 100 {
				t.Errorf("got %d vectors", len(vectors))
			}
			for _, call := range upstream.Calls()[before:] {
				if call.Proto != test.proto {
					t.Errorf("the upstream was spoken to in %s", call.Proto)
				}
			}
		})
	}
	for _, without := range []string{"ca", "client certificate", "server_name"} {
		t.Run("without "+without, func(t *testing.T) {
			t.Parallel()
			url := serve(t, &Handler{To: []string{target}, ClientKeys: []string{"any"}, Settings: triedOnce, TransportRaw: settings(without)})
			post(t, url, goodBody).failed(t, http.StatusBadGateway, "upstream unreachable")
		})
	}
}

// A forwardProxy is a proxy for requests in clear text that answers all of them
// itself, with an upstream.
type forwardProxy struct {
	upstream *enginetest.Upstream
	// hosts are those that it was asked for.
	mu    sync.Mutex
	hosts map[string]int
}

func (p *forwardProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.hosts[r.URL.Host]++
	p.mu.Unlock()
	p.upstream.ServeHTTP(w, r)
}

func TestTransportWithForwardProxy(t *testing.T) {
	t.Parallel()
	proxy := &forwardProxy{upstream: enginetest.New(), hosts: make(map[string]int)}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	for name, block := range map[string]string{
		"network_proxy":     `{"protocol":"http","network_proxy":{"from":"url","url":"` + server.URL + `"}}`,
		"forward_proxy_url": `{"protocol":"http","forward_proxy_url":"` + server.URL + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			host := strings.ReplaceAll(name, "_", "-") + ".invalid"
			h := provisioned(t, &Handler{To: []string{"http://" + host}, ClientKeys: []string{"any"}, TransportRaw: json.RawMessage(block)})
			// As in Caddy, requests have variables, which are not safe for
			// concurrent use.
			vars := map[string]any{"mine": 1}
			w := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/embeddings", strings.NewReader(input(t, "", texts(2000))))
			r = r.WithContext(context.WithValue(r.Context(), caddyhttp.VarsCtxKey, vars))
			if err := h.ServeHTTP(w, r, nil); err != nil {
				t.Fatal(err)
			}
			got := reply{status: w.Code, header: w.Header(), body: w.Body.Bytes()}
			if vectors := got.vectors(t); len(vectors) != 2000 {
				t.Errorf("got %d vectors", len(vectors))
			}
			proxy.mu.Lock()
			defer proxy.mu.Unlock()
			if n := proxy.hosts[host]; n < 2 {
				t.Errorf("the proxy was asked %d times for %s", n, host)
			}
			if len(vars) != 1 {
				t.Errorf("the client's request has the variables %v", vars)
			}
		})
	}
}

// TestForwardProxySeesNothingOfTheClient holds that no placeholder is filled
// from a client's request.
func TestForwardProxySeesNothingOfTheClient(t *testing.T) {
	t.Parallel()
	proxy := &forwardProxy{upstream: enginetest.New(), hosts: make(map[string]int)}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	h := provisioned(t, &Handler{
		To: []string{"http://model.invalid"}, ClientKeys: []string{"any"}, Settings: triedOnce,
		TransportRaw: json.RawMessage(`{"protocol":"http","network_proxy":{"from":"url","url":"{http.request.header.X-Proxy}"}}`),
	})
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/embeddings", strings.NewReader(goodBody))
	r.Header.Set("X-Proxy", server.URL)
	r = r.WithContext(context.WithValue(r.Context(), caddy.ReplacerCtxKey, caddyhttp.NewTestReplacer(r)))
	if err := h.ServeHTTP(w, r, nil); err != nil {
		t.Fatal(err)
	}
	if calls := proxy.upstream.Calls(); w.Code != http.StatusBadGateway || len(calls) != 0 {
		t.Errorf("got %d %s, and the client's proxy got %d requests", w.Code, w.Body, len(calls))
	}
}

func TestTransportSettingsOfConnections(t *testing.T) {
	t.Parallel()
	upstream := enginetest.New()
	var mu sync.Mutex
	addresses := make(map[string]bool)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		addresses[r.RemoteAddr] = true
		mu.Unlock()
		upstream.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	for name, test := range map[string]struct {
		block       string
		connections int
	}{
		"kept alive by default": {`{"protocol":"http"}`, 1},
		"not kept alive":        {`{"protocol":"http","keep_alive":{"enabled":false}}`, 3},
	} {
		t.Run(name, func(t *testing.T) {
			clear(addresses)
			url := serve(t, &Handler{To: []string{server.URL}, ClientKeys: []string{"any"}, TransportRaw: json.RawMessage(test.block)})
			for range 3 {
				if got := post(t, url, goodBody); got.status != http.StatusOK {
					t.Fatalf("got %d %s", got.status, got.body)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if len(addresses) != test.connections {
				t.Errorf("there were %d connections, want %d", len(addresses), test.connections)
			}
		})
	}
}

// TestCallersTargetsGetNothingOfTheTransport holds that a target that the
// operator did not name is not reached through the operator's forward proxy.
func TestCallersTargetsGetNothingOfTheTransport(t *testing.T) {
	t.Parallel()
	proxy := &forwardProxy{upstream: enginetest.New(), hosts: make(map[string]int)}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	h := provisioned(t, &Handler{
		To: []string{"https://model.invalid"}, AllowedTargets: []string{"https://*.example.invalid"},
		TransportRaw: json.RawMessage(`{"protocol":"http","network_proxy":{"from":"url","url":"` + server.URL + `"},"tls":{"insecure_skip_verify":true}}`),
	})
	for name, test := range map[string]struct {
		target target
		proxy  bool
	}{
		"the configured one":                 {target{OperatorNamed: true}, true},
		"the configured one, chosen":         {target{URL: h.parts.targets.configured[0], OperatorNamed: true}, true},
		"one of allowed_targets":             {target{URL: parsedTarget(t, "https://a.example.invalid"), OperatorNamed: true}, true},
		"one that the operator did not name": {target{URL: parsedTarget(t, "https://b.example.invalid")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := &exchange{parts: h.parts}
			to, done, err := x.destination(asked{target: test.target, credential: credential{scheme: schemeBearer, key: "k", raw: "Bearer k"}})
			if err != nil {
				t.Fatal(err)
			}
			defer done()
			if got := to.Transport != http.RoundTripper(h.parts.public); got != test.proxy {
				t.Errorf("it has the operator's transport: %t", got)
			}
		})
	}
}
