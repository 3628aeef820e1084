package engine

import (
	"context"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
)

// An opener keeps a burst of requests to a server that there is no connection
// to from making one connection each, of which HTTP/2 needs just one: the first
// request goes ahead, the others wait until it has its connection. When that
// turns out to be HTTP/1.1, they make their own. It is safe for concurrent use.
type opener struct {
	transport *http.Transport

	mu sync.Mutex
	// conns counts the open connections by address; there are no zeros.
	conns map[string]int
	// first holds the first connections that are being made.
	first map[string]*opening
}

// An opening is a first connection. What err holds is to be read once done is
// closed.
type opening struct {
	done chan struct{}
	err  error
}

func newOpener(transport *http.Transport) *opener {
	o := &opener{transport: transport, conns: map[string]int{}, first: map[string]*opening{}}
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return o.count(conn, addr), nil
	}
	return o
}

// RoundTrip sends a request when there is a connection or it is the first to
// make one. When the first one fails to, the others fail with the same error.
func (o *opener) RoundTrip(req *http.Request) (*http.Response, error) {
	addr := o.address(req)
	for addr != "" {
		opening, leads := o.enter(addr)
		if leads {
			return o.lead(addr, opening, req)
		}
		if opening == nil {
			break
		}
		err := waitOpening(req.Context(), opening)
		if err != nil {
			if req.Body != nil {
				_ = req.Body.Close() // as every RoundTripper must
			}
			return nil, err
		}
	}
	return o.transport.RoundTrip(req)
}

// address returns the address that the transport will dial for a request. It is
// empty when that is not known: behind a forward proxy, and for a name that the
// transport has to put into ASCII first.
func (o *opener) address(req *http.Request) string {
	if o.transport.Proxy != nil {
		if proxy, err := o.transport.Proxy(req); proxy != nil || err != nil {
			return ""
		}
	}
	u := req.URL
	host, port := u.Hostname(), u.Port()
	for i := range len(host) {
		if host[i] >= 0x80 {
			return ""
		}
	}
	if port == "" {
		if port = "80"; u.Scheme == "https" {
			port = "443"
		}
	}
	return net.JoinHostPort(host, port)
}

// enter returns the first connection that is being made to addr, and whether it
// is up to the caller to make it. Without one there is a connection already.
func (o *opener) enter(addr string) (first *opening, leads bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if first = o.first[addr]; first != nil || o.conns[addr] > 0 {
		return first, false
	}
	first = &opening{done: make(chan struct{})}
	o.first[addr] = first
	return first, true
}

func waitOpening(ctx context.Context, first *opening) error {
	select {
	case <-first.done:
		return first.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// lead sends the request that makes the first connection.
func (o *opener) lead(addr string, first *opening, req *http.Request) (*http.Response, error) {
	var once sync.Once
	settle := func(err error) {
		once.Do(func() {
			o.mu.Lock()
			delete(o.first, addr)
			o.mu.Unlock()
			first.err = err
			close(first.done)
		})
	}
	var asked atomic.Bool
	ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GetConn: func(string) { asked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { settle(nil) },
	})
	resp, err := o.transport.RoundTrip(req.WithContext(ctx))
	switch {
	case err == nil:
		resp.Request = req
		settle(nil)
	case asked.Load() && req.Context().Err() == nil:
		settle(err)
	default:
		// The fault is of this request alone, so that the next one leads.
		settle(nil)
	}
	return resp, err
}

func (o *opener) count(conn net.Conn, addr string) net.Conn {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.conns[addr]++
	return &countedConn{Conn: conn, closed: sync.OnceFunc(func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.conns[addr]--; o.conns[addr] == 0 {
			delete(o.conns, addr)
		}
	})}
}

// countedConn is a connection that is counted until it is closed.
type countedConn struct {
	net.Conn
	closed func()
}

func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}
