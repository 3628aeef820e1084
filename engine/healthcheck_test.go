package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// healthEndpoint returns an endpoint at a URL.
func healthEndpoint(t *testing.T, raw, host string) *Endpoint {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return NewEndpoint(EndpointOptions{URL: u, Host: host, Health: HealthOptions{FailDuration: healthRest}})
}

func TestRequestsOfHealthChecks(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		endpoint, host string
		options        HealthCheckOptions
		url, sentHost  string
	}{
		"nothing set":             {"http://up.test/base?x=1", "", HealthCheckOptions{}, "http://up.test/", "up.test"},
		"another path and query":  {"https://up.test:1/base", "", HealthCheckOptions{URI: "/health?deep=1"}, "https://up.test:1/health?deep=1", "up.test:1"},
		"no slash before it":      {"http://up.test", "", HealthCheckOptions{URI: "health"}, "http://up.test/health", "up.test"},
		"a query alone":           {"http://up.test", "", HealthCheckOptions{URI: "?a=b"}, "http://up.test/?a=b", "up.test"},
		"an escaped path":         {"http://up.test", "", HealthCheckOptions{URI: "/a%2Fb"}, "http://up.test/a%2Fb", "up.test"},
		"another port":            {"http://up.test:80/base", "", HealthCheckOptions{Port: 9000}, "http://up.test:9000/", "up.test:9000"},
		"another port of none":    {"h2c://up.test", "", HealthCheckOptions{Port: 9000}, "h2c://up.test:9000/", "up.test:9000"},
		"another port of IPv6":    {"http://[::1]:80", "", HealthCheckOptions{Port: 9000}, "http://[::1]:9000/", "[::1]:9000"},
		"an endpoint with a name": {"http://10.0.0.1:80", "up.test", HealthCheckOptions{Port: 9000}, "http://10.0.0.1:9000/", "up.test"},
		"a Host of the checks":    {"http://10.0.0.1:80", "up.test", HealthCheckOptions{Header: http.Header{"host": {"x.test"}}}, "http://10.0.0.1:80/", "x.test"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var sent *http.Request
				test.options.Endpoints = these(healthEndpoint(t, test.endpoint, test.host))
				test.options.Transport = roundTrip(func(req *http.Request) (*http.Response, error) {
					sent = req
					return respond(req, http.StatusOK, ""), nil
				})
				checks := StartHealthChecks(test.options)
				synctest.Wait()
				checks.Close()
				if sent == nil {
					t.Fatal("nothing was sent")
				}
				if sent.Method != http.MethodGet || sent.Body != nil {
					t.Errorf("the method is %s, the body %v", sent.Method, sent.Body)
				}
				if sent.URL.String() != test.url || sent.Host != test.sentHost {
					t.Errorf("%s was asked of %s, want %s of %s", sent.URL, sent.Host, test.url, test.sentHost)
				}
				if want := (http.Header{"User-Agent": {"baseten-performance-proxy"}}); !maps.EqualFunc(sent.Header, want, slices.Equal) {
					t.Errorf("the header is %v, want %v", sent.Header, want)
				}
			})
		})
	}
}

func TestHeaderOfHealthChecks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		values := []string{"a", "b"}
		given := http.Header{"x-key": values, "User-Agent": {"me"}}
		var sent http.Header
		checks := StartHealthChecks(HealthCheckOptions{
			Endpoints: these(healthEndpoint(t, "http://up.test", "")),
			Header:    given,
			Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
				sent = maps.Clone(req.Header)
				req.Header.Add("X-Key", "c")
				return respond(req, http.StatusOK, ""), nil
			}),
		})
		later(2 * DefaultHealthInterval)
		checks.Close()
		if want := (http.Header{"User-Agent": {"me"}, "X-Key": {"a", "b"}}); !maps.EqualFunc(sent, want, slices.Equal) {
			t.Errorf("the header of a later check is %v, want %v", sent, want)
		}
		if len(given) != 2 || !slices.Equal(values, []string{"a", "b"}) {
			t.Errorf("the header that was given became %v", given)
		}
	})
}

func TestStatusOfHealthChecks(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		expect int
		good   []int
		bad    []int
	}{
		"any 2xx by default": {0, []int{200, 204, 299}, []int{101, 199, 300, 301, 404, 500, 503}},
		"one status":         {404, []int{404}, []int{200, 403, 405}},
		"a class":            {3, []int{301, 302, 399}, []int{200, 400}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, status := range slices.Concat(test.good, test.bad) {
				synctest.Test(t, func(t *testing.T) {
					servers, got := newCheckedServers(), new(reports)
					servers.set("up.test", status)
					e := healthEndpoint(t, "http://up.test", "")
					checks := StartHealthChecks(HealthCheckOptions{
						Endpoints: these(e), Transport: servers, ExpectStatus: test.expect, Report: got.report,
					})
					defer checks.Close()
					synctest.Wait()
					if slices.Contains(test.good, status) {
						wantUp(t, fmt.Sprintf("after status %d", status), e, true)
						wantReports(t, "", got)
						return
					}
					wantUp(t, fmt.Sprintf("after status %d", status), e, false)
					wantReports(t, "", got, fmt.Sprintf("up.test up false: upstream answered with status %d", status))
				})
			}
		})
	}
}

// countedBody is a body that counts what is read of it and may end with an
// error.
type countedBody struct {
	size, read int
	end        error
	closed     int
}

func (b *countedBody) Read(p []byte) (int, error) {
	if b.read >= b.size {
		return 0, b.end
	}
	n := min(len(p), b.size-b.read)
	b.read += n
	return n, nil
}

func (b *countedBody) Close() error {
	b.closed++
	return nil
}

func TestBodiesOfHealthChecks(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		status int
		body   countedBody
		read   int
		up     bool
	}{
		"a short body is read":                {200, countedBody{size: 1000, end: io.EOF}, 1000, true},
		"that of a failing check too":         {503, countedBody{size: 1000, end: io.EOF}, 1000, false},
		"64 KiB are read":                     {200, countedBody{size: 64 << 10, end: io.EOF}, 64 << 10, true},
		"and no more":                         {200, countedBody{size: 1 << 30, end: io.EOF}, 64 << 10, true},
		"one that breaks off says nothing":    {200, countedBody{size: 10, end: io.ErrUnexpectedEOF}, 10, true},
		"that of another protocol is no body": {101, countedBody{size: 10, end: io.EOF}, 0, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				e := healthEndpoint(t, "http://up.test", "")
				checks := StartHealthChecks(HealthCheckOptions{
					Endpoints: these(e),
					Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
						resp := respond(req, test.status, "")
						resp.Body = &test.body
						return resp, nil
					}),
				})
				synctest.Wait()
				wantUp(t, "after the check", e, test.up)
				checks.Close()
				if test.body.read != test.read || test.body.closed != 1 {
					t.Errorf("%d bytes were read, and the body was closed %d times, want %d and 1", test.body.read, test.body.closed, test.read)
				}
			})
		})
	}
}

// TestHealthChecksKeepTheirConnection checks a server on a real socket.
func TestHealthChecksKeepTheirConnection(t *testing.T) {
	t.Parallel()
	asked := make(chan string)
	server, config := serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = w.Write(bytes.Repeat([]byte("fine "), 10_000))
		asked <- req.RemoteAddr
	}), "HTTP/1.1")
	checks := StartHealthChecks(HealthCheckOptions{
		Endpoints: these(healthEndpoint(t, server, "")),
		Transport: newTestTransport(t, TransportOptions{TLS: config}),
		Interval:  time.Millisecond,
	})
	first := <-asked
	for range 5 {
		if addr := <-asked; addr != first {
			t.Errorf("a check came from %s, the first one from %s", addr, first)
		}
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		checks.Close()
	}()
	for open := true; open; {
		select {
		case <-asked:
		case <-closed:
			open = false
		}
	}
}

func TestRedirectsOfHealthChecksAreNotFollowed(t *testing.T) {
	t.Parallel()
	var paths []string
	var mu sync.Mutex
	done := make(chan error, 1)
	server, config := serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		paths = append(paths, req.URL.Path)
		http.Redirect(w, req, "/elsewhere", http.StatusFound)
	}), "HTTP/1.1")
	checks := StartHealthChecks(HealthCheckOptions{
		Endpoints: these(healthEndpoint(t, server, "")),
		Transport: newTestTransport(t, TransportOptions{TLS: config}),
		URI:       "/health",
		Report: func(_ *Endpoint, up bool, err error) {
			if !up {
				done <- err
			}
		},
	})
	err := <-done
	checks.Close()
	if status, ok := errors.AsType[*StatusError](err); !ok || status.Status != http.StatusFound {
		t.Errorf("the check ended with %v, want a StatusError", err)
	}
	if !slices.Equal(paths, []string{"/health"}) {
		t.Errorf("the paths %v were asked for", paths)
	}
}

func TestErrorsOfHealthChecksHoldNoSecrets(t *testing.T) {
	t.Parallel()
	header := http.Header{"authorization": {"Bearer s3cr3t-key"}, "X-Keys": {"an0ther-key", "th1rd-key"}, "Host": {"up.test"}}
	tests := map[string]struct {
		uri  string
		err  error
		want string
	}{
		"what the endpoint repeats": {"/", errors.New("malformed \"Bearer s3cr3t-key an0ther-key\n th1rd-key of up.test"),
			`checking the health: malformed "[redacted] [redacted]  [redacted] of up.test`},
		"a key at the end of much text": {"/", errors.New(strings.Repeat("x", maxErrorMessage-3) + "s3cr3t-key"),
			"checking the health: " + strings.Repeat("x", maxErrorMessage-3) + "[re"},
		"a URI that is none": {"/%zz?key=s3cr3t-key", nil, errHealthURI.Error()},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var got error
				e := healthEndpoint(t, "http://up.test", "")
				checks := StartHealthChecks(HealthCheckOptions{
					Endpoints: these(e), URI: test.uri, Header: header,
					Transport: roundTrip(func(*http.Request) (*http.Response, error) { return nil, test.err }),
					Report: func(_ *Endpoint, up bool, err error) {
						if !up {
							got = err
						}
					},
				})
				synctest.Wait()
				checks.Close()
				if got == nil || got.Error() != test.want {
					t.Errorf("the error is %v, want %s", got, test.want)
				}
				if test.err != nil && !errors.Is(got, test.err) {
					t.Errorf("%v is not around %v", got, test.err)
				}
			})
		})
	}
}

func TestUnreachableEndpointIsDown(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	_ = listener.Close()
	down := make(chan error, 1)
	checks := StartHealthChecks(HealthCheckOptions{
		Endpoints: these(healthEndpoint(t, "http://"+addr, "")),
		Transport: newTestTransport(t, TransportOptions{}),
		Report: func(_ *Endpoint, up bool, err error) {
			if !up {
				down <- err
			}
		},
	})
	err = <-down
	checks.Close()
	if _, ok := errors.AsType[*net.OpError](err); !ok {
		t.Errorf("the check ended with %v", err)
	}
}
