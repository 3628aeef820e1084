package handler

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

// rawUpstream answers every connection with the bytes that reply makes of the
// Authorization header it got, and closes it, unless the bytes are followed by
// silence.
func rawUpstream(t *testing.T, reply func(authorization string) string, silence bool) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				req, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, req.Body)
				_, _ = io.WriteString(conn, reply(req.Header.Get("Authorization")))
				if silence {
					// Until the proxy closes the connection.
					_, _ = io.Copy(io.Discard, conn)
				}
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}

// TestUpstreamThatRepeatsTheKey sends the key back in malformed heads and bodies.
func TestUpstreamThatRepeatsTheKey(t *testing.T) {
	t.Parallel()
	const key = "sk-operator-SECRET-123456"
	for name, form := range map[string]string{
		"as a header line without a colon": "HTTP/1.1 200 OK\r\n%s\r\n\r\n",
		"as Content-Length":                "HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n",
		"as Transfer-Encoding":             "HTTP/1.1 200 OK\r\nTransfer-Encoding: %s\r\n\r\n",
		"as Content-Encoding":              "HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: 2\r\n\r\n{}",
		"as an index":                      "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"data\":[{\"index\":\"%[1]s\",\"embedding\":[1]},{\"index\":\"%[1]s\",\"embedding\":[1]}]}",
		"in a long status line":            "HTTP/1.1 2000 %s" + strings.Repeat("x", 100_000) + "\r\n\r\n",
		"as a message":                     "HTTP/1.1 500 no\r\n\r\nthe key was %s",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := rawUpstream(t, func(authorization string) string { return fmt.Sprintf(form, authorization) }, false)
			got := post(t, serve(t, &Handler{Settings: triedOnce, To: []string{target}, APIKey: key}), goodBody)
			got.failed(t, http.StatusBadGateway)
			if strings.Contains(strings.ToLower(string(got.body)), strings.ToLower(key)) || len(got.body) > 4096 {
				t.Errorf("the error is %.300s", got.body)
			}
		})
	}
}

func TestUpstreamThatChangesTheProtocol(t *testing.T) {
	t.Parallel()
	target := rawUpstream(t, func(string) string {
		return "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
	}, true)
	h := &Handler{Settings: triedOnce, To: []string{target}, APIKey: "operator"}
	post(t, serve(t, h), goodBody).failed(t, http.StatusBadGateway, "protocol")
	if used := h.parts.body.memory.Used(); used != 0 {
		t.Errorf("%d bytes are still reserved", used)
	}
}

// TestRefusalsDoNotWaitForTheBody sends heads whose bodies never come.
func TestRefusalsDoNotWaitForTheBody(t *testing.T) {
	t.Parallel()
	upstream := enginetest.New()
	url := serve(t, &Handler{To: []string{upstream.Serve(t)}, APIKey: "operator"})
	for name, test := range map[string]struct {
		head   string
		status string
	}{
		"a body that is too long":            {"Content-Length: 100000000\r\n", "413"},
		"a body that is too long, announced": {"Content-Length: 100000000\r\nExpect: 100-continue\r\n", "413"},
		"a bad preference":                   {"Content-Length: 99\r\nX-Baseten-Request-Preferences: x\r\n", "400"},
		"a deadline that has passed":         {"Content-Length: 99\r\nRequest-Timeout-Ms: 0\r\n", "504"},
		"a deadline that passes":             {"Content-Length: 99\r\nRequest-Timeout-Ms: 200\r\n", "504"},
		"a total time that passes":           {"Content-Length: 99\r\nX-Baseten-Request-Preferences: {\"total_timeout_s\":0.2}\r\n", "504"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fprintf(conn, "POST /v1/embeddings HTTP/1.1\r\nHost: x\r\n%s\r\n", test.head); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(conn).ReadString('\n')
			if err != nil || !strings.HasPrefix(line, "HTTP/1.1 "+test.status) {
				t.Errorf("got %q, %v", line, err)
			}
		})
	}
}

func TestQueryWithASpaceIsRefused(t *testing.T) {
	t.Parallel()
	upstream := enginetest.New()
	h := provisioned(t, &Handler{To: []string{upstream.Serve(t)}, APIKey: "operator"})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x/v1/embeddings", strings.NewReader(goodBody))
	if err != nil {
		t.Fatal(err)
	}
	req.URL.RawQuery = "x HTTP/1.0"
	w := &recorder{header: http.Header{}}
	if err := h.ServeHTTP(w, req, nil); err != nil || w.status != http.StatusBadRequest || len(upstream.Calls()) != 0 {
		t.Errorf("got %d %s, %v", w.status, w.body.String(), err)
	}
}

// recorder is a plain response writer.
type recorder struct {
	header http.Header
	status int
	body   strings.Builder
}

func (w *recorder) Header() http.Header         { return w.header }
func (w *recorder) WriteHeader(status int)      { w.status = status }
func (w *recorder) Write(p []byte) (int, error) { return w.body.Write(p) }
