package engine

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"
)

// settleTimeout is how long a request waits for a kept connection to be read
// from again, which otherwise takes microseconds. It is given up then.
const settleTimeout = 5 * time.Second

// A keptConn is a connection as it was dialled, below TLS. It keeps what an
// upstream sent beyond the end of a reply from being taken for the reply to the
// next request on the connection.
//
// [http.Transport] hands a connection of HTTP/1.1 to the next request before it
// looks for such bytes, and only without that request closes it because of
// them. So the request waits, before net/http counts it, until the connection is
// read from again, which says that nothing that was read before is left over. In
// clear text what arrives from then on until the request is written ends the
// connection too; under TLS it may be a session ticket. In both cases net/http
// sends the request again on another connection.
//
// What arrives after the request was written, or so shortly before that it was
// not noticed yet, cannot be told from the reply.
type keptConn struct {
	net.Conn

	mu sync.Mutex
	// changed is signalled when reading or closed become true.
	changed sync.Cond
	// reading is whether Read is waiting for bytes.
	reading bool
	// silent is whether bytes that arrive are nobody's: a request has got the
	// connection but did not write yet.
	silent bool
	closed bool
}

// keep makes the connections that dial returns kept ones.
func keep(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, newDialError(err)
		}
		c := &keptConn{Conn: conn}
		c.changed.L = &c.mu
		return c, nil
	}
}

// dialFunc is the DialContext of [http.Transport].
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// Read ends the connection when the bytes are nobody's. io.EOF is the error by
// which net/http knows that the request can be sent again.
func (c *keptConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	c.reading = true
	c.changed.Broadcast()
	c.mu.Unlock()

	n, err := c.Conn.Read(p)

	c.mu.Lock()
	c.reading = false
	unsolicited := c.silent && n > 0
	c.mu.Unlock()
	if unsolicited {
		_ = c.Close() // so that the request is not written either
		return 0, io.EOF
	}
	return n, err
}

// Write ends the connection when bytes that are nobody's have arrived, or are
// arriving, before the first ones of the request.
func (c *keptConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	unsolicited := c.silent && (!c.reading || arrived(c.Conn))
	c.silent = false
	c.mu.Unlock()
	if unsolicited {
		_ = c.Close()
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

func (c *keptConn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.changed.Broadcast()
	c.mu.Unlock()
	return c.Conn.Close()
}

// settle returns when nothing of an earlier reply is left over, or when the
// connection is closed. It closes it itself when ctx ends or after
// [settleTimeout]. With clearText, bytes that arrive between settle and the next
// Write end the connection.
func (c *keptConn) settle(ctx context.Context, clearText bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reading && !c.closed {
		giveUp := func() { _ = c.Close() }
		timer := time.AfterFunc(settleTimeout, giveUp)
		defer timer.Stop()
		defer context.AfterFunc(ctx, giveUp)()
		for !c.reading && !c.closed {
			c.changed.Wait()
		}
	}
	c.silent = clearText
}

// settled sends a request with a transport whose connections are kept ones. The
// connections of HTTP/2, where replies are told apart, need nothing of this.
func settled(transport http.RoundTripper, req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			if !info.Reused {
				return
			}
			if kept, clearText := keptUnder(info.Conn); kept != nil {
				kept.settle(ctx, clearText)
			}
		},
	})
	resp, err := transport.RoundTrip(req.WithContext(traced))
	if err == nil {
		resp.Request = req
	}
	return resp, err
}

// keptUnder returns the kept connection that carries conn, and whether it does
// so without TLS. It is nil when conn speaks HTTP/2.
func keptUnder(conn net.Conn) (kept *keptConn, clearText bool) {
	clearText = true
	for {
		switch c := conn.(type) {
		case *keptConn:
			return c, clearText
		case *countedConn:
			conn = c.Conn
		case *tls.Conn:
			// The outermost one is that of the upstream, not of a forward proxy.
			if clearText && c.ConnectionState().NegotiatedProtocol == "h2" {
				return nil, false
			}
			conn, clearText = c.NetConn(), false
		default:
			return nil, false
		}
	}
}
