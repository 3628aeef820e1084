package handler

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

func TestReadingABodyFails(t *testing.T) {
	t.Parallel()
	gone, leave := context.WithCancel(context.Background())
	leave()
	tests := map[string]struct {
		ctx  context.Context
		body io.Reader
		want any
	}{
		"the client left":             {gone, iotest.ErrReader(errors.New("connection reset")), new(*clientGoneError)},
		"the body broke off":          {context.Background(), iotest.ErrReader(io.ErrUnexpectedEOF), new(*clientGoneError)},
		"a chunk is malformed":        {context.Background(), iotest.ErrReader(errors.New("invalid byte in chunk length")), new(*engine.RequestError)},
		"Caddy's request_body is set": {context.Background(), http.MaxBytesReader(nil, io.NopCloser(strings.NewReader("too long")), 3), new(*tooLargeError)},
		"it is over the limit":        {context.Background(), strings.NewReader(strings.Repeat("a", 11)), new(*tooLargeError)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			memory := engine.NewMemory(4 << 20)
			req := httptest.NewRequestWithContext(test.ctx, http.MethodPost, "/", struct{ io.Reader }{test.body})
			body, release, err := bodyReader{max: 10, memory: memory}.read(req)
			if !errors.As(err, test.want) || body != nil {
				t.Errorf("got %q, %v, want %T", body, err, test.want)
			}
			release()
			if used := memory.Used(); used != 0 {
				t.Errorf("%d bytes are still reserved", used)
			}
		})
	}
}

func TestReadingABodyHoldsLittleMoreThanItsLength(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 1000, bodyStep - 1, bodyStep, bodyStep + 1, 5 << 20} {
		for name, declared := range map[string]int64{"declared": int64(size), "not declared": -1} {
			memory := engine.NewMemory(64 << 20)
			req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", iotest.HalfReader(strings.NewReader(strings.Repeat("a", size))))
			req.ContentLength = declared
			body, release, err := bodyReader{max: 64 << 20, memory: memory}.read(req)
			if err != nil || len(body) != size {
				t.Fatalf("%d bytes, %s: got %d, %v", size, name, len(body), err)
			}
			if used := memory.Used(); declared >= 0 && used > int64(size)+1 || used > int64(2*size+bodyStep) {
				t.Errorf("%d bytes, %s: %d are reserved", size, name, used)
			}
			release()
			if used := memory.Used(); used != 0 {
				t.Errorf("%d bytes, %s: %d are still reserved", size, name, used)
			}
		}
	}
}

// TestClientThatLeavesWhileItSends breaks off in the middle of its body.
func TestClientThatLeavesWhileItSends(t *testing.T) {
	t.Parallel()
	h := &Handler{APIKey: "operator", To: []string{"http://127.0.0.1:9"}}
	// This runs after the server has waited for its requests to end.
	t.Cleanup(func() {
		if used := h.parts.body.memory.Used(); used != 0 {
			t.Errorf("%d bytes are still reserved", used)
		}
	})
	url := serve(t, h)
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprint(conn, "POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\nExpect: 100-continue\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	// The proxy reads the body from here on.
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "100") {
		t.Fatalf("got %q, %v", line, err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
}
