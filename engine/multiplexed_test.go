package engine

import (
	"io"
	"log"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

// discardLog is for servers whose clients leave in the middle.
var discardLog = log.New(io.Discard, "", 0)

// load returns how many requests are on each lane.
func (m *multiplexed) load() (load [lanes]int64) {
	for i := range m.lanes {
		load[i] = m.lanes[i].load.Load()
	}
	return load
}

func TestHTTP2SpreadsOverSeveralConnectionsUnderLoad(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		requests int
		want     int64
	}{
		"one request makes one connection":   {1, 1},
		"a few requests share a connection":  {laneLoad, 1},
		"one more makes another":             {laneLoad + 1, 2},
		"many requests share a few":          {lanes * laneLoad, lanes},
		"still more requests make no others": {2 * lanes * laneLoad, lanes},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, unencrypted := range []bool{true, false} {
				up := enginetest.New()
				release := make(chan struct{})
				up.Script = enginetest.Always(enginetest.Hold(release))
				var dials atomic.Int64
				options := TransportOptions{Control: func(string, string, syscall.RawConn) error {
					dials.Add(1)
					return nil
				}}
				url := "h2c" + strings.TrimPrefix(up.Serve(t), "http")
				if !unencrypted {
					base, roots := up.ServeTLS(t)
					url, options.TLS = base, trusting(roots)
				}
				rt := newTestTransport(t, options)
				spread := rt.negotiated
				if unencrypted {
					spread = rt.unencrypted
				}
				var requests sync.WaitGroup
				for range test.requests {
					requests.Go(func() {
						body, err := readReply(post(t.Context(), t, rt, url), replyLimits{MaxBody: 1 << 20})
						if err != nil {
							t.Error(err)
							return
						}
						body.release()
					})
				}
				up.Await(t, test.requests)
				if n := dials.Load(); n != test.want {
					t.Errorf("%d requests at once made %d connections, want %d", test.requests, n, test.want)
				}
				close(release)
				requests.Wait()
				if load := spread.load(); load != [lanes]int64{} {
					t.Errorf("%v requests are on the lanes after all were answered", load)
				}
			}
		})
	}
}

func TestLanesAreChosenByTheirLoad(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		load [lanes]int64
		want int
	}{
		"nothing is going on":                   {[lanes]int64{0, 0, 0, 0}, 0},
		"the first has room":                    {[lanes]int64{laneLoad - 1, 0, 0, 0}, 0},
		"the first is full":                     {[lanes]int64{laneLoad, 0, 0, 0}, 1},
		"the first has room again":              {[lanes]int64{3, laneLoad, laneLoad, 5}, 0},
		"all are full":                          {[lanes]int64{20, 19, 18, 19}, 2},
		"all are equally full":                  {[lanes]int64{16, 16, 16, 16}, 0},
		"the last has room, others have little": {[lanes]int64{16, 17, 16, 15}, 3},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := new(multiplexed)
			for i, n := range test.load {
				m.lanes[i].load.Store(n)
			}
			if got := m.enter(); got != &m.lanes[test.want] {
				t.Errorf("got none of the lane %d: %v", test.want, m.load())
			}
			test.load[test.want]++
			if load := m.load(); load != test.load {
				t.Errorf("the load is %v, want %v", load, test.load)
			}
		})
	}
}

func TestRequestsLeaveTheirLane(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		fault enginetest.Fault
		leave func(t *testing.T, resp *http.Response, err error)
	}{
		"when the body is closed": {enginetest.Chunked(), func(t *testing.T, resp *http.Response, err error) {
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
		}},
		"once when it is closed twice": {enginetest.Chunked(), func(t *testing.T, resp *http.Response, err error) {
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			_ = resp.Body.Close()
		}},
		"when there is no reply": {enginetest.Drop(), func(t *testing.T, _ *http.Response, err error) {
			if err == nil {
				t.Fatal("there was a reply")
			}
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			up := enginetest.New()
			up.Script = enginetest.Always(test.fault)
			rt := newTestTransport(t, TransportOptions{HTTPVersion: HTTPVersionH2C})
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, up.Serve(t), strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := rt.RoundTrip(req)
			if err == nil && rt.unencrypted.load() != [lanes]int64{1} {
				t.Errorf("the load is %v with a request", rt.unencrypted.load())
			}
			test.leave(t, resp, err)
			if load := rt.unencrypted.load(); load != [lanes]int64{} {
				t.Errorf("the load is %v without a request", load)
			}
		})
	}
}

func TestUpgradedConnectionsCanBeWritten(t *testing.T) {
	t.Parallel()
	base, config := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "echo")
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.CopyN(conn, buffered, 4) // an error ends the connection too
		_ = conn.Close()
	}), "HTTP/1.1 over TLS")
	rt := newTestTransport(t, TransportOptions{TLS: config})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if !ok {
		t.Fatalf("the body is a %T", resp.Body)
	}
	echo := make([]byte, 4)
	if _, err := io.WriteString(conn, "echo"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, echo); err != nil || string(echo) != "echo" {
		t.Errorf("got %q, %v", echo, err)
	}
	if load := rt.negotiated.load(); load != [lanes]int64{} {
		t.Errorf("the load is %v", load)
	}
}
