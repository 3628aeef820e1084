package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
)

// TestTransportConnectsLikeItsBase takes the way to dial and to trust from a
// transport that was set up for other versions of HTTP.
func TestTransportConnectsLikeItsBase(t *testing.T) {
	t.Parallel()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Proto", r.Proto) })
	url, trust := serve(t, handler, "HTTP/2 or 1.1 over TLS")
	var dials atomic.Int64
	base := &http.Transport{
		TLSClientConfig: trust.Clone(),
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			dials.Add(1)
			return new(net.Dialer).DialContext(ctx, network, strings.TrimPrefix(url, "https://"))
		},
	}
	if err := http2.ConfigureTransport(base); err != nil { //nolint:staticcheck // Caddy sets its transports up so
		t.Fatal(err)
	}
	tests := map[string]struct {
		version, target, serverName, proto string
	}{
		"in HTTP/2":           {HTTPVersion2, "https://example.com", "", "HTTP/2.0"},
		"in HTTP/1.1":         {HTTPVersion1, "https://example.com", "", "HTTP/1.1"},
		"with a server name":  {HTTPVersion2, "https://192.0.2.1", "example.com", "HTTP/2.0"},
		"and a name is proof": {HTTPVersion2, "https://192.0.2.1", "example.org", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			before := dials.Load()
			transport := newTestTransport(t, TransportOptions{HTTPVersion: test.version, Base: base, ServerName: test.serverName})
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, test.target, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := transport.RoundTrip(req)
			if dials.Load() == before {
				t.Error("the transport did not dial like its base")
			}
			if test.proto == "" {
				if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
					t.Errorf("got %v, want a certificate that is refused", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if got := resp.Header.Get("Proto"); got != test.proto {
				t.Errorf("the request was sent in %s, want %s", got, test.proto)
			}
		})
	}
}
