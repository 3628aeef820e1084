package engine

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// rawUpstream answers every request with what reply makes of the request's
// number, in one write, until the test ends. It speaks HTTP/1.1, over TLS when
// it has a configuration of it, and counts its connections.
func rawUpstream(t *testing.T, config *tls.Config, reply func(number string) string) (addr string, accepted *atomic.Int64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted = new(atomic.Int64)
	var mu sync.Mutex
	var conns []net.Conn
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			if config != nil {
				conn = tls.Server(conn, config)
			}
			running.Go(func() {
				defer func() { _ = conn.Close() }()
				r := bufio.NewReader(conn)
				for {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					number, err := io.ReadAll(req.Body)
					if err != nil {
						return
					}
					if _, err = io.WriteString(conn, reply(string(number))); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		for _, conn := range conns {
			_ = conn.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return listener.Addr().String(), accepted
}

// numbered is the reply to the request of a number.
func numbered(number string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(number), number)
}

// testCertificate returns a configuration of a server for HTTP/1.1 and one of a
// client that trusts it.
func testCertificate() (server, client *tls.Config) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return &tls.Config{Certificates: s.TLS.Certificates, NextProtos: []string{"http/1.1"}}, trusting(roots)
}

// exchange sends a number and returns the reply's body.
func exchange(ctx context.Context, transport http.RoundTripper, url, number string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(number))
	if err != nil {
		return "", err
	}
	req.Header["Idempotency-Key"] = []string{}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func TestNoRequestGetsWhatIsLeftOverOfAnotherReply(t *testing.T) {
	t.Parallel()
	const callers, requests = 16, 500
	doubled := func(number string) string { return numbered(number) + numbered(number) }
	tests := map[string]struct {
		reply   func(number string) string
		tls     bool
		version string
		// kept is whether connections are to be used again.
		kept bool
	}{
		"every reply comes twice":                         {doubled, false, HTTPVersion1, false},
		"every reply comes twice over TLS":                {doubled, true, HTTPVersion1, false},
		"every reply comes twice, HTTP/1.1 is negotiated": {doubled, true, HTTPVersion2, false},
		"bytes that are no reply follow": {
			func(number string) string { return numbered(number) + "garbage" }, false, HTTPVersion1, false,
		},
		"nothing is left over":                         {numbered, false, HTTPVersion1, true},
		"nothing is left over over TLS":                {numbered, true, HTTPVersion1, true},
		"nothing is left over, HTTP/1.1 is negotiated": {numbered, true, HTTPVersion2, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			scheme, options := "http://", TransportOptions{HTTPVersion: tt.version}
			var server *tls.Config
			if tt.tls {
				scheme = "https://"
				server, options.TLS = testCertificate()
			}
			addr, accepted := rawUpstream(t, server, tt.reply)
			transport := newTestTransport(t, options)
			var next atomic.Int64
			var running sync.WaitGroup
			for range callers {
				running.Go(func() {
					for n := next.Add(1); n <= requests; n = next.Add(1) {
						number := strconv.FormatInt(n, 10)
						got, err := exchange(t.Context(), transport, scheme+addr, number)
						if err != nil || got != number {
							t.Errorf("request %s: got the reply to %q, error %v", number, got, err)
						}
					}
				})
			}
			running.Wait()
			// There are more than callers, since net/http also makes those that
			// requests no longer wait for; without keeping, it is one per request.
			if n := accepted.Load(); tt.kept && n > requests/2 {
				t.Errorf("%d connections for %d requests", n, requests)
			}
		})
	}
}

// keptPipe returns a kept connection and its other end.
func keptPipe(t *testing.T) (*keptConn, net.Conn) {
	t.Helper()
	near, far := net.Pipe()
	conn, err := keep(func(context.Context, string, string) (net.Conn, error) { return near, nil })(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		_ = far.Close()
	})
	return conn.(*keptConn), far
}

func TestKeptConnTakesNoBytesBeforeTheRequestIsWritten(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		clearText, write bool
		wantErr          error
	}{
		"in clear text they end the connection":    {clearText: true, wantErr: io.EOF},
		"after the request they are the reply":     {clearText: true, write: true},
		"under TLS they may be a session's ticket": {},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				conn, far := keptPipe(t)
				read := make(chan error, 1)
				go func() {
					_, err := conn.Read(make([]byte, 1))
					read <- err
				}()
				conn.settle(t.Context(), tt.clearText)
				if tt.write {
					go func() { _, _ = far.Read(make([]byte, 1)) }()
					if _, err := conn.Write([]byte("q")); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := far.Write([]byte("a")); err != nil {
					t.Fatal(err)
				}
				if err := <-read; !errors.Is(err, tt.wantErr) {
					t.Errorf("read: error %v, want %v", err, tt.wantErr)
				}
				if tt.wantErr == nil {
					return
				}
				if _, err := conn.Write([]byte("q")); !errors.Is(err, net.ErrClosed) {
					t.Errorf("write: error %v, want %v", err, net.ErrClosed)
				}
			})
		})
	}
}

func TestKeptConnIsClosedWhenItIsNotReadFromAgain(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		end bool
	}{
		"the request ends":     {end: true},
		"too much time passes": {},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				conn, far := keptPipe(t)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tt.end {
					cancel()
				}
				conn.settle(ctx, true)
				if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
					t.Errorf("the other end: error %v, want %v", err, io.EOF)
				}
			})
		})
	}
}
