package handler

import (
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestUnreachableUpstreamsAreNotNamed holds that clients do not learn where the
// operator's endpoints are, also not from the errors of Caddy's transport.
func TestUnreachableUpstreamsAreNotNamed(t *testing.T) {
	t.Parallel()
	const name = "model.internal.invalid"
	names := serveDNS(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	for title, target := range map[string]string{
		"a connection that is refused": "http://" + refusing,
		"a name that is unknown":       "http://" + name,
	} {
		for transport, block := range map[string]string{
			"without a transport":      "",
			"with a transport":         `{"protocol":"http"}`,
			"with a resolver of names": `{"protocol":"http","resolver":{"addresses":["udp/` + names.address + `"]}}`,
		} {
			t.Run(title+" "+transport, func(t *testing.T) {
				t.Parallel()
				url := serve(t, &Handler{
					Settings: triedOnce, To: []string{target}, ClientKeys: []string{anyClient}, TransportRaw: json.RawMessage(block),
				})
				got := post(t, url, input(t, "", texts(1)))
				got.failed(t, http.StatusBadGateway, "upstream unreachable")
				for _, secret := range []string{"127.0.0.1", refusing, name, names.address} {
					if strings.Contains(string(got.body), secret) {
						t.Errorf("the answer names %s: %s", secret, got.body)
					}
				}
			})
		}
	}
}
