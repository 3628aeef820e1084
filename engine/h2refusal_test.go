package engine

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A framedServer speaks HTTP/2 in clear text frame by frame. Each request that
// is whole goes to answer, with its number over all connections.
type framedServer struct {
	answer   func(f *http2.Framer, stream uint32, number int64) (more bool)
	requests atomic.Int64
}

// start serves on loopback until the test ends and returns the URL.
func (s *framedServer) start(t *testing.T) *url.URL {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		conns.Wait()
	})
	return &url.URL{Scheme: "h2c", Host: listener.Addr().String()}
}

// serve serves one connection until it breaks or answer has had enough of it.
func (s *framedServer) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	framer := http2.NewFramer(conn, conn)
	if err := framer.WriteSettings(); err != nil {
		return
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		if settings, ok := frame.(*http2.SettingsFrame); ok && !settings.IsAck() {
			err = framer.WriteSettingsAck()
		}
		if data, ok := frame.(*http2.DataFrame); ok && data.StreamEnded() {
			if !s.answer(framer, data.StreamID, s.requests.Add(1)) {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// reply sends a whole good reply for one item.
func reply(f *http2.Framer, stream uint32) bool {
	var head bytes.Buffer
	encoder := hpack.NewEncoder(&head)
	// The buffer takes everything.
	_ = encoder.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	_ = encoder.WriteField(hpack.HeaderField{Name: "content-type", Value: "application/json"})
	if f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: head.Bytes(), EndHeaders: true}) != nil {
		return false
	}
	return f.WriteData(stream, true, []byte(`{"data":[{"index":0,"embedding":[1]}]}`)) == nil
}

// TestServerThatRefusesStreams lets a server refuse the first request in the
// ways of HTTP/2, each of which says that it has not begun with it.
func TestServerThatRefusesStreams(t *testing.T) {
	t.Parallel()
	refusals := map[string]func(f *http2.Framer, stream uint32) bool{
		"with a refused stream": func(f *http2.Framer, stream uint32) bool {
			return f.WriteRSTStream(stream, http2.ErrCodeRefusedStream) == nil
		},
		"by going away": func(f *http2.Framer, _ uint32) bool {
			_ = f.WriteGoAway(0, http2.ErrCodeNo, nil)
			return false
		},
	}
	for name, refuse := range refusals {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &framedServer{answer: func(f *http2.Framer, stream uint32, number int64) bool {
				if number == 1 {
					return refuse(f, stream)
				}
				return reply(f, stream)
			}}
			transport, err := NewTransport(TransportOptions{})
			if err != nil {
				t.Fatal(err)
			}
			to := Destination{Group: groupOf(NewEndpoint(EndpointOptions{URL: s.start(t)})), Transport: transport}
			t.Cleanup(transport.CloseIdleConnections)
			answer, err := New(Options{}).Do(t.Context(), to, &Request{
				Path: "/v1/embeddings", Body: []byte(`{"input":["a"]}`), Settings: Settings{RetryBudgetPct: -1},
			})
			if err != nil {
				t.Fatalf("without a budget for retries, got %v", err)
			}
			answer.Close()
			if n := s.requests.Load(); n != 2 {
				t.Errorf("the server got %d requests, want 2", n)
			}
		})
	}
}
