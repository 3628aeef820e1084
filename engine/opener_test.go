package engine

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

// pipes are connections in memory to a server of HTTP/2 in clear text. Each
// dialing waits until the test lets it go on, with an error or without one.
type pipes struct {
	server *http.Server
	accept chan net.Conn
	goOn   chan error

	mu    sync.Mutex
	dials int
}

func newPipes(up http.Handler) *pipes {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	p := &pipes{
		server: &http.Server{Handler: up, Protocols: protocols},
		accept: make(chan net.Conn),
		goOn:   make(chan error),
	}
	go func() { _ = p.server.Serve(p) }() // until it is closed
	return p
}

func (p *pipes) Accept() (net.Conn, error) {
	conn, ok := <-p.accept
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p *pipes) Close() error {
	close(p.accept)
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	p.mu.Lock()
	p.dials++
	p.mu.Unlock()
	if err := <-p.goOn; err != nil {
		return nil, err
	}
	here, there := net.Pipe()
	p.accept <- there
	return here, nil
}

func (p *pipes) dialed() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dials
}

// openers runs a test in a bubble with an opener to a server in memory.
func openers(t *testing.T, http1 bool, run func(t *testing.T, o *opener, p *pipes)) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes(enginetest.New())
		protocols := new(http.Protocols)
		protocols.SetHTTP1(http1)
		protocols.SetUnencryptedHTTP2(!http1)
		o := newOpener(&http.Transport{DialContext: p.dial, Protocols: protocols, MaxIdleConnsPerHost: 100})
		run(t, o, p)
		o.transport.CloseIdleConnections()
		synctest.Wait()
		if len(o.conns) != 0 || len(o.first) != 0 {
			t.Errorf("connections are left: %v, and being made: %v", o.conns, o.first)
		}
		_ = p.server.Close()
	})
}

// send sends a request and reads its reply.
func send(ctx context.Context, rt http.RoundTripper) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://upstream.test", strings.NewReader(`{"input":["a"]}`))
	if err != nil {
		return err
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return err
	}
	body, err := readReply(resp, replyLimits{MaxBody: 1 << 20})
	body.release()
	return err
}

func TestABurstMakesOneConnection(t *testing.T) {
	t.Parallel()
	openers(t, false, func(t *testing.T, o *opener, p *pipes) {
		var requests sync.WaitGroup
		for range 50 {
			requests.Go(func() {
				if err := send(t.Context(), o); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		p.goOn <- nil
		requests.Wait()
		if err := send(t.Context(), o); err != nil {
			t.Error(err)
		}
		if n := p.dialed(); n != 1 {
			t.Errorf("%d connections were made, want 1", n)
		}
	})
}

func TestABurstMakesItsOwnConnectionsOfHTTP1(t *testing.T) {
	t.Parallel()
	openers(t, true, func(t *testing.T, o *opener, p *pipes) {
		var requests sync.WaitGroup
		for range 5 {
			requests.Go(func() {
				if err := send(t.Context(), o); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if n := p.dialed(); n != 1 {
			t.Errorf("%d connections are being made at first, want 1", n)
		}
		p.goOn <- nil
		done := make(chan struct{})
		go func() {
			defer close(done)
			requests.Wait()
		}()
		for answered := false; !answered; {
			select {
			case p.goOn <- nil:
			case <-done:
				answered = true
			}
		}
		// A connection that nobody waits for any more may still be on its way.
		close(p.goOn)
		synctest.Wait()
		if n := p.dialed(); n > 5 {
			t.Errorf("5 requests made %d connections", n)
		}
	})
}

func TestABurstFailsWithItsFirstConnection(t *testing.T) {
	t.Parallel()
	openers(t, false, func(t *testing.T, o *opener, p *pipes) {
		unreachable := errors.New("unreachable")
		var requests sync.WaitGroup
		for range 50 {
			requests.Go(func() {
				if err := send(t.Context(), o); !errors.Is(err, unreachable) {
					t.Errorf("got the error %v", err)
				}
			})
		}
		synctest.Wait()
		p.goOn <- unreachable
		requests.Wait()
		if n := p.dialed(); n != 1 {
			t.Errorf("%d connections were tried, want 1", n)
		}
		// The next request tries again.
		requests.Go(func() {
			if err := send(t.Context(), o); err != nil {
				t.Error(err)
			}
		})
		p.goOn <- nil
		requests.Wait()
	})
}

func TestAnotherRequestLeadsWhenTheFirstIsCancelled(t *testing.T) {
	t.Parallel()
	openers(t, false, func(t *testing.T, o *opener, p *pipes) {
		ctx, cancel := context.WithCancel(t.Context())
		var requests sync.WaitGroup
		requests.Go(func() {
			if err := send(ctx, o); !errors.Is(err, context.Canceled) {
				t.Errorf("the cancelled request got the error %v", err)
			}
		})
		synctest.Wait()
		for range 20 {
			requests.Go(func() {
				if err := send(t.Context(), o); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		if n := p.dialed(); n != 2 {
			t.Errorf("%d connections are being made, want that of the first and that of the next", n)
		}
		p.goOn <- nil
		p.goOn <- nil
		requests.Wait()
	})
}

func TestWaitingForTheFirstConnectionEndsWithTheContext(t *testing.T) {
	t.Parallel()
	openers(t, false, func(t *testing.T, o *opener, p *pipes) {
		var first, second sync.WaitGroup
		first.Go(func() {
			if err := send(t.Context(), o); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		second.Go(func() {
			if err := send(ctx, o); !errors.Is(err, cause) {
				t.Errorf("got the error %v, want the cause of the context", err)
			}
		})
		synctest.Wait()
		cancel(cause)
		second.Wait()
		p.goOn <- nil
		first.Wait()
	})
}

func TestAFaultyRequestFailsAlone(t *testing.T) {
	t.Parallel()
	openers(t, false, func(t *testing.T, o *opener, p *pipes) {
		bad, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://upstream.test", nil)
		if err != nil {
			t.Fatal(err)
		}
		bad.Header = http.Header{"bad name": {"x"}}
		if _, err := o.RoundTrip(bad); err == nil {
			t.Error("a header with a bad name was sent")
		}
		if len(o.first) != 0 {
			t.Errorf("connections are being made: %v", o.first)
		}
		var requests sync.WaitGroup
		requests.Go(func() {
			if err := send(t.Context(), o); err != nil {
				t.Error(err)
			}
		})
		p.goOn <- nil
		requests.Wait()
	})
}

func TestOpenerAddress(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"https://upstream.test":       "upstream.test:443",
		"http://upstream.test/path":   "upstream.test:80",
		"https://upstream.test:8080/": "upstream.test:8080",
		"https://[::1]:1":             "[::1]:1",
		"http://127.0.0.1":            "127.0.0.1:80",
		"https://modèle.test":         "",
	}
	for raw, want := range tests {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		o := newOpener(new(http.Transport))
		req := &http.Request{URL: u}
		if got := o.address(req); got != want {
			t.Errorf("%s is dialed at %q, want %q", raw, got, want)
		}
		o.transport.Proxy = http.ProxyURL(nil)
		if got := o.address(req); got != want {
			t.Errorf("%s is dialed at %q with a proxy for other requests, want %q", raw, got, want)
		}
		o.transport.Proxy = http.ProxyURL(u)
		if got := o.address(req); got != "" {
			t.Errorf("%s is dialed at %q with a proxy, want nothing", raw, got)
		}
	}
}
