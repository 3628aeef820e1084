package engine

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

// newTestTransport returns a transport whose connections end with the test.
func newTestTransport(t testing.TB, o TransportOptions) *Transport {
	t.Helper()
	transport, err := NewTransport(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// trusting returns a configuration for servers that roots vouch for.
func trusting(roots *x509.CertPool) *tls.Config { return &tls.Config{RootCAs: roots} }

// serve serves a handler until the test ends, over TLS when it has protocols of
// it, and returns the URL and what to trust.
func serve(t testing.TB, handler http.Handler, protocols string) (url string, config *tls.Config) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = discardLog
	server.Config.Protocols = new(http.Protocols)
	switch protocols {
	case "HTTP/1.1":
		server.Config.Protocols.SetHTTP1(true)
		server.Start()
	case "HTTP/2 in clear text":
		server.Config.Protocols.SetUnencryptedHTTP2(true)
		server.Start()
	case "HTTP/1.1 over TLS":
		server.Config.Protocols.SetHTTP1(true)
		server.StartTLS()
	case "HTTP/2 or 1.1 over TLS":
		server.EnableHTTP2 = true
		server.Config.Protocols = nil
		server.StartTLS()
	default:
		t.Fatalf("no such protocols: %s", protocols)
	}
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	if server.TLS != nil {
		roots := x509.NewCertPool()
		roots.AddCert(server.Certificate())
		config = trusting(roots)
	}
	return server.URL, config
}

func TestTransportSpeaksTheRightVersion(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		server string
		// scheme is put in the place of the URL's when it is not empty.
		scheme  string
		version string
		// want is the version that the server sees; empty for an error.
		want string
	}{
		"2 is HTTP/2 over TLS":                        {server: "HTTP/2 or 1.1 over TLS", version: "2", want: "HTTP/2.0"},
		"2 is the default":                            {server: "HTTP/2 or 1.1 over TLS", want: "HTTP/2.0"},
		"2 falls back to 1.1":                         {server: "HTTP/1.1 over TLS", version: "2", want: "HTTP/1.1"},
		"2 is 1.1 without TLS":                        {server: "HTTP/1.1", version: "2", want: "HTTP/1.1"},
		"2 does not try HTTP/2 in clear text":         {server: "HTTP/2 in clear text", version: "2"},
		"1 is 1.1 over TLS":                           {server: "HTTP/2 or 1.1 over TLS", version: "1", want: "HTTP/1.1"},
		"1 is 1.1 without TLS":                        {server: "HTTP/1.1", version: "1", want: "HTTP/1.1"},
		"h2c is HTTP/2 without TLS":                   {server: "HTTP/2 in clear text", version: "h2c", want: "HTTP/2.0"},
		"h2c does not fall back":                      {server: "HTTP/1.1", version: "h2c"},
		"h2c is negotiated over TLS":                  {server: "HTTP/2 or 1.1 over TLS", version: "h2c", want: "HTTP/2.0"},
		"the scheme h2c is HTTP/2 in clear text":      {server: "HTTP/2 in clear text", scheme: "h2c", version: "2", want: "HTTP/2.0"},
		"the scheme h2c is that with 1 too":           {server: "HTTP/2 in clear text", scheme: "h2c", version: "1", want: "HTTP/2.0"},
		"the scheme h2c does not fall back":           {server: "HTTP/1.1", scheme: "h2c", version: "2"},
		"other schemes are none":                      {server: "HTTP/1.1", scheme: "ftp"},
		"TLS is not spoken to a server without TLS":   {server: "HTTP/1.1", scheme: "https"},
		"a server with TLS is not spoken to in clear": {server: "HTTP/2 or 1.1 over TLS", scheme: "h2c"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base, config := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, r.Proto+" "+r.URL.String())
			}), test.server)
			rt := newTestTransport(t, TransportOptions{HTTPVersion: test.version, TLS: config})
			if scheme, rest, _ := strings.Cut(base, ":"); test.scheme != "" && test.scheme != scheme {
				base = test.scheme + ":" + rest
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/path?q=1", strings.NewReader("body"))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := rt.RoundTrip(req)
			if req.URL.String() != base+"/path?q=1" {
				t.Errorf("the request was changed: its URL is %s", req.URL)
			}
			if test.want == "" {
				if err == nil {
					_ = resp.Body.Close()
					if resp.StatusCode != http.StatusBadRequest {
						t.Errorf("got the status %d over %s", resp.StatusCode, resp.Proto)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			body, err := readReply(resp, replyLimits{MaxBody: 100})
			if err != nil {
				t.Fatal(err)
			}
			defer body.release()
			if got := string(body.b); got != test.want+" /path?q=1" {
				t.Errorf("the server saw %s, want %s", got, test.want)
			}
		})
	}
}

func TestNewTransportRefusesUnknownVersions(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"3", "1.1", "H2C", "auto"} {
		if _, err := NewTransport(TransportOptions{HTTPVersion: version}); err == nil {
			t.Errorf("%s is accepted", version)
		}
	}
}

func TestTransportOfAnIncompleteRequest(t *testing.T) {
	t.Parallel()
	rt := newTestTransport(t, TransportOptions{})
	for _, req := range []*http.Request{
		{},
		{URL: &url.URL{Scheme: "https", Host: "upstream.test"}},
		{URL: &url.URL{Scheme: "https"}, Header: http.Header{}},
		{URL: &url.URL{Scheme: "h2c"}, Header: http.Header{}},
	} {
		if _, err := rt.RoundTrip(req); err == nil {
			t.Errorf("%+v was sent", req)
		}
	}
}

func TestTransportChangesNothing(t *testing.T) {
	t.Parallel()
	up := enginetest.New()
	up.Script = enginetest.Always(enginetest.JSON(307, "{}"), enginetest.Header("Location", "/elsewhere"), enginetest.Gzip())
	rt, url := newTestTransport(t, TransportOptions{}), up.Serve(t)
	resp := post(t.Context(), t, rt, url)
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != 307 || len(up.Calls()) != 1 {
		t.Errorf("a redirect became the status %d after %d requests", resp.StatusCode, len(up.Calls()))
	}
	if resp.Header.Get("Content-Encoding") != "gzip" || resp.Uncompressed {
		t.Error("the reply was unpacked")
	}
	if accepted := up.Calls()[0].Header["Accept-Encoding"]; accepted != nil {
		t.Errorf("the transport asked for %s", accepted)
	}
}

func TestLargeHeadsAreErrors(t *testing.T) {
	t.Parallel()
	for _, server := range []string{"HTTP/1.1", "HTTP/2 or 1.1 over TLS"} {
		for size, fits := range map[int]bool{maxResponseHeader / 2: true, 2 * maxResponseHeader: false} {
			base, config := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-Large", strings.Repeat("x", size))
			}), server)
			rt := newTestTransport(t, TransportOptions{TLS: config})
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := rt.RoundTrip(req)
			if (err == nil) != fits {
				t.Errorf("%s: a head of %d bytes got the error %v", server, size, err)
			}
			if err == nil {
				_ = resp.Body.Close()
			}
		}
	}
}

type refusedError struct{ network, address string }

func (e *refusedError) Error() string { return "refused " + e.address }

func TestControlRefusesAddresses(t *testing.T) {
	t.Parallel()
	for _, version := range []string{HTTPVersion1, HTTPVersion2, HTTPVersionH2C} {
		for _, scheme := range []string{"http", "https", "h2c"} {
			t.Run(version+" "+scheme, func(t *testing.T) {
				t.Parallel()
				up := enginetest.New()
				_, port, _ := strings.Cut(strings.TrimPrefix(up.Serve(t), "http://"), ":")
				rt := newTestTransport(t, TransportOptions{
					HTTPVersion: version,
					Control: func(network, address string, _ syscall.RawConn) error {
						return &refusedError{network, address}
					},
				})
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, scheme+"://localhost:"+port, nil)
				if err != nil {
					t.Fatal(err)
				}
				_, err = rt.RoundTrip(req)
				var refused *refusedError
				if !errors.As(err, &refused) {
					t.Fatalf("got the error %v", err)
				}
				if host, _, err := net.SplitHostPort(refused.address); err != nil || net.ParseIP(host) == nil {
					t.Errorf("the address to judge is %s, want one that was looked up", refused.address)
				}
				if n := len(up.Calls()); n != 0 {
					t.Errorf("%d requests were sent", n)
				}
			})
		}
	}
}

func TestHandshakesHaveATimeout(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	// The kernel accepts the connection, and nobody answers.
	rt := newTestTransport(t, TransportOptions{DialTimeout: 50 * time.Millisecond})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+listener.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = rt.RoundTrip(req)
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("got the error %v, want a timeout", err)
	}
}

func TestTransportUsesTheProxy(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	proxy, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Method != http.MethodConnect {
			(&httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}}).ServeHTTP(w, r)
			return
		}
		tunnel(t, w, r.Host)
	}), "HTTP/1.1")
	proxyURL, err := url.Parse(proxy)
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range []string{"HTTP/1.1", "HTTP/2 or 1.1 over TLS"} {
		base, config := serve(t, enginetest.New(), server)
		rt := newTestTransport(t, TransportOptions{TLS: config, Proxy: http.ProxyURL(proxyURL)})
		resp := post(t.Context(), t, rt, base)
		body, err := readReply(resp, replyLimits{MaxBody: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		body.release()
		if resp.StatusCode != http.StatusOK || asked.Swap(0) != 1 {
			t.Errorf("%s: got the status %d", server, resp.StatusCode)
		}
		rt.CloseIdleConnections()
	}
}

// tunnel joins the connection of a CONNECT request to the address it is for,
// until either end is closed.
func tunnel(t *testing.T, w http.ResponseWriter, address string) {
	upstream, err := net.Dial("tcp", address)
	if err != nil {
		t.Error(err)
		return
	}
	w.WriteHeader(http.StatusOK)
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		_ = upstream.Close()
		return
	}
	var ways sync.WaitGroup
	ways.Go(func() {
		_, _ = io.Copy(upstream, buffered) // an error is an end too
		_ = upstream.Close()
	})
	_, _ = io.Copy(client, upstream) // likewise
	_ = client.Close()
	ways.Wait()
}

func TestConnectionsAreMadeAgainWithAShortHandshake(t *testing.T) {
	t.Parallel()
	base, config := serve(t, enginetest.New(), "HTTP/2 or 1.1 over TLS")
	rt := newTestTransport(t, TransportOptions{TLS: config})
	for i := range 2 {
		resp := post(t.Context(), t, rt, base)
		body, err := readReply(resp, replyLimits{MaxBody: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		body.release()
		if resp.TLS == nil || resp.TLS.DidResume != (i == 1) {
			t.Errorf("the session of the connection %d was resumed: %t", i, resp.TLS.DidResume)
		}
		rt.CloseIdleConnections()
	}
	if config.ClientSessionCache != nil || config.NextProtos != nil {
		t.Error("the configuration of the caller was changed")
	}
}

// TestHTTP2TakesLargeFrames reads what the transport says at the start of a
// connection: the preface and a SETTINGS frame, RFC 9113, sections 3.4 and 6.5.
func TestHTTP2TakesLargeFrames(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	var request sync.WaitGroup
	defer request.Wait()
	defer cancel()
	rt := newTestTransport(t, TransportOptions{})
	request.Go(func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "h2c://"+listener.Addr().String(), nil)
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := rt.RoundTrip(req); err == nil {
			t.Error("nobody answered, and yet there was no error")
		}
	})
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	const preface, frameHeader, setting, maxFrameSize = 24, 9, 6, 5
	head := make([]byte, preface+frameHeader)
	if _, err := io.ReadFull(conn, head); err != nil {
		t.Fatal(err)
	}
	settings := make([]byte, binary.BigEndian.Uint32(head[preface:])>>8)
	if _, err := io.ReadFull(conn, settings); err != nil {
		t.Fatal(err)
	}
	for ; len(settings) >= setting; settings = settings[setting:] {
		if binary.BigEndian.Uint16(settings) == maxFrameSize {
			if size := binary.BigEndian.Uint32(settings[2:]); size != 1<<20 {
				t.Errorf("frames may have %d bytes, want 1 MiB", size)
			}
			return
		}
	}
	t.Error("nothing is said about the size of frames")
}
