package engine

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

// upstreams are the ways to an upstream.
func upstreams(t *testing.T, run func(t *testing.T, up *enginetest.Upstream, rt http.RoundTripper, url string)) {
	ways := map[string]func(t *testing.T, up *enginetest.Upstream) (*Transport, string){
		"HTTP/1.1": func(t *testing.T, up *enginetest.Upstream) (*Transport, string) {
			return newTestTransport(t, TransportOptions{}), up.Serve(t)
		},
		"HTTP/2 in clear text": func(t *testing.T, up *enginetest.Upstream) (*Transport, string) {
			return newTestTransport(t, TransportOptions{HTTPVersion: HTTPVersionH2C}), up.Serve(t)
		},
		"HTTP/2 over TLS": func(t *testing.T, up *enginetest.Upstream) (*Transport, string) {
			url, roots := up.ServeTLS(t)
			return newTestTransport(t, TransportOptions{TLS: trusting(roots)}), url
		},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			up := enginetest.New()
			rt, url := way(t, up)
			run(t, up, rt, url)
		})
	}
	t.Run("in memory", func(t *testing.T) {
		t.Parallel()
		up := enginetest.New()
		run(t, up, up, "http://upstream.test")
	})
}

func post(ctx context.Context, t *testing.T, rt http.RoundTripper, url string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(`{"input":["a"]}`))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestReadReplyLeavesTheConnectionInUse(t *testing.T) {
	t.Parallel()
	scripts := map[string][]enginetest.Fault{
		"of known length": nil,
		"chunked":         {enginetest.Chunked()},
		"in gzip":         {enginetest.Gzip()},
		"chunked zstd":    {enginetest.Zstd(), enginetest.Chunked()},
		"that is empty":   {enginetest.Empty()},
	}
	for name, faults := range scripts {
		t.Run("after a reply "+name, func(t *testing.T) {
			t.Parallel()
			upstreams(t, func(t *testing.T, up *enginetest.Upstream, rt http.RoundTripper, url string) {
				up.Script = enginetest.Always(faults...)
				for i := range 3 {
					reused := rt == http.RoundTripper(up)
					ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
						GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused },
					})
					body, err := readReply(post(ctx, t, rt, url), replyLimits{MaxBody: 1 << 20})
					if err != nil {
						t.Fatal(err)
					}
					body.release()
					if i > 0 && !reused {
						t.Error("the next request got a new connection")
					}
				}
			})
		})
	}
}

func TestReadReplyGivesTheConnectionUp(t *testing.T) {
	t.Parallel()
	up := enginetest.New()
	up.Script = enginetest.Always(enginetest.Chunked())
	rt, url := newTestTransport(t, TransportOptions{}), up.Serve(t)
	for range 2 {
		reused := false
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused },
		})
		if _, err := readReply(post(ctx, t, rt, url), replyLimits{MaxBody: 10}); !errors.Is(err, errTooLarge) {
			t.Fatalf("got the error %v", err)
		}
		if reused {
			t.Error("the connection of a reply that is too large is used again")
		}
	}
}

func TestReadReplyOverTheNetworkBreaksOff(t *testing.T) {
	t.Parallel()
	tests := map[string][]enginetest.Fault{
		"with a length":         {enginetest.CutAt(30)},
		"chunked":               {enginetest.Chunked(), enginetest.CutAt(30)},
		"in gzip":               {enginetest.Gzip(), enginetest.CutAt(30)},
		"at its length":         {enginetest.ContentLength(9999)},
		"before its body":       {enginetest.CutAt(0)},
		"inside of its zstd":    {enginetest.Zstd(), enginetest.ContentLength(30)},
		"inside of its msgpack": {enginetest.Msgpack(), enginetest.ContentLength(30)},
	}
	for name, faults := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upstreams(t, func(t *testing.T, up *enginetest.Upstream, rt http.RoundTripper, url string) {
				up.Script = enginetest.Always(faults...)
				m := NewMemory(1 << 20)
				_, err := readReply(post(t.Context(), t, rt, url), replyLimits{MaxBody: 1 << 20, Memory: m})
				var fault *ReplyError
				if !errors.As(err, &fault) || fault.Err == nil {
					t.Errorf("got the error %v, want a ReplyError", err)
				}
				if used := m.Used(); used != 0 {
					t.Errorf("%d bytes are still reserved", used)
				}
			})
		})
	}
}

func TestReadReplyEndsWithTheContext(t *testing.T) {
	t.Parallel()
	cause := errors.New("the other one won")
	tests := map[string]struct {
		end  func(ctx context.Context) (context.Context, context.CancelFunc)
		want error
	}{
		"cancelled": {
			end:  context.WithCancel,
			want: context.Canceled,
		},
		"cancelled for a reason": {
			end: func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancelCause(ctx)
				return ctx, func() { cancel(cause) }
			},
			want: context.Canceled,
		},
		"over": {
			end: func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithTimeoutCause(ctx, time.Second, cause)
				return ctx, func() { <-ctx.Done(); cancel() }
			},
			want: context.DeadlineExceeded,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upstreams(t, func(t *testing.T, up *enginetest.Upstream, rt http.RoundTripper, url string) {
				up.Script = func(c *enginetest.Call) []enginetest.Fault {
					if c.Number == 0 {
						return nil
					}
					return []enginetest.Fault{enginetest.StallAt(30, nil)}
				}
				// The second request has a connection and needs no time for it.
				first, err := readReply(post(t.Context(), t, rt, url), replyLimits{MaxBody: 1 << 20})
				if err != nil {
					t.Fatal(err)
				}
				first.release()
				ctx, end := test.end(t.Context())
				defer end()
				resp := post(ctx, t, rt, url)
				go end()
				m := NewMemory(1 << 20)
				_, err = readReply(resp, replyLimits{MaxBody: 1 << 20, Memory: m})
				var fault *ReplyError
				if !errors.Is(err, test.want) || errors.As(err, &fault) {
					t.Errorf("got the error %v, want %v", err, test.want)
				}
				if used := m.Used(); used != 0 {
					t.Errorf("%d bytes are still reserved", used)
				}
			})
		})
	}
}
