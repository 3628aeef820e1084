package handler

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

func TestParseAuthorization(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		values []string
		want   credential
		sent   string // upstreamValue of a credential that is not absent
	}{
		"no header is no credential":       {},
		"an empty header is no credential": {values: []string{""}},
		"white space is no credential":     {values: []string{" \t"}},
		"Bearer without a key is none":     {values: []string{"Bearer"}},
		"Bearer and white space is none":   {values: []string{"bearer \t "}},
		"a Bearer key":                     {[]string{"Bearer K"}, credential{"Bearer", "K", "Bearer K"}, "Bearer K"},
		"BEARER is Bearer":                 {[]string{"BEARER K"}, credential{"Bearer", "K", "BEARER K"}, "Bearer K"},
		"bearer is Bearer":                 {[]string{"bearer K"}, credential{"Bearer", "K", "bearer K"}, "Bearer K"},
		"white space around the key":       {[]string{" Bearer \t K "}, credential{"Bearer", "K", "Bearer \t K"}, "Bearer K"},
		"Api-Key goes as it came":          {[]string{"Api-Key K"}, credential{"Api-Key", "K", "Api-Key K"}, "Api-Key K"},
		"api-key goes as it came":          {[]string{"api-key  K"}, credential{"api-key", "K", "api-key  K"}, "api-key  K"},
		"Basic goes as it came":            {[]string{"Basic dTpw"}, credential{"Basic", "dTpw", "Basic dTpw"}, "Basic dTpw"},
		"a scheme with parameters":         {[]string{`Digest a="b", c=d`}, credential{"Digest", `a="b", c=d`, `Digest a="b", c=d`}, `Digest a="b", c=d`},
		"a lone word is a scheme":          {[]string{"K"}, credential{"K", "", "K"}, "K"},
		"a scheme that begins like Bearer": {[]string{"BearerX K"}, credential{"BearerX", "K", "BearerX K"}, "BearerX K"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parseAuthorization(http.Header{"Authorization": test.values})
			if err != nil {
				t.Fatal(err)
			}
			if got != test.want {
				t.Errorf("parseAuthorization(%q) = %+v, want %+v", test.values, got, test.want)
			}
			if got.absent() != (test.sent == "") || got.upstreamValue() != test.sent {
				t.Errorf("absent() = %t, upstreamValue() = %q, want %q", got.absent(), got.upstreamValue(), test.sent)
			}
		})
	}
}

func TestParseAuthorizationRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string][]string{
		"two headers":                      {"Bearer hush", "Bearer hush"},
		"an empty header beside another":   {"", "Bearer hush"},
		"white space in a Bearer key":      {"Bearer hush hush"},
		"a scheme in a Bearer key":         {"Bearer Bearer hush"},
		"a control character in the key":   {"Bearer hush\x00"},
		"a character that is not ASCII":    {"Bearer hüsh"},
		"a tab in a Bearer key":            {"Bearer hush\thush"},
		"two keys in one header with list": {"Bearer hush, Bearer hush"},
	}
	for name, values := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parseAuthorization(http.Header{"Authorization": values})
			wrong, ok := errors.AsType[*engine.RequestError](err)
			if !ok || wrong.Field != "Authorization" {
				t.Fatalf("parseAuthorization(%q): %v, want a RequestError for Authorization", values, err)
			}
			if strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "hüsh") {
				t.Errorf("%q shows the key", err)
			}
		})
	}
}

// refused stands for an unauthorizedError in the tables below.
const refused = "401"

// TestAuthorize is the whole of who may send what where: every credential of a
// client, with and without an upstream key of the operator and client keys, to a
// target that the operator named and to one that the caller chose.
func TestAuthorize(t *testing.T) {
	t.Parallel()
	clients := map[string]string{
		"none":          "",
		"bearer":        "Bearer client",
		"BEARER":        "BEARER client",
		"api-key":       "api-key client",
		"other scheme":  "Basic client",
		"wrong bearer":  "Bearer wrong",
		"wrong api-key": "Api-Key wrong",
		"lone word":     "client",
		"lone api-key":  "Api-Key",
		"token scheme":  "Token client",
	}
	// The columns: with api_key to an operator's target, with api_key to a
	// caller's, without api_key to an operator's, without api_key to a caller's.
	type row [4]string
	same := func(s string) row { return row{s, s, s, s} }
	operatorsKey := row{"Bearer operator", "", "", ""}
	tests := map[string]map[string]row{
		"no client_keys": {
			"none":          {"Bearer operator", refused, refused, refused},
			"bearer":        same("Bearer client"),
			"BEARER":        same("Bearer client"),
			"api-key":       same("api-key client"),
			"other scheme":  same("Basic client"),
			"wrong bearer":  same("Bearer wrong"),
			"wrong api-key": same("Api-Key wrong"),
			"lone word":     same("client"),
			"lone api-key":  same("Api-Key"),
			"token scheme":  same("Token client"),
		},
		"a list of client_keys": {
			"none":          same(refused),
			"bearer":        operatorsKey,
			"BEARER":        operatorsKey,
			"api-key":       operatorsKey,
			"other scheme":  same(refused),
			"wrong bearer":  same(refused),
			"wrong api-key": same(refused),
			"lone word":     same(refused),
			"lone api-key":  same(refused),
			"token scheme":  same(refused),
		},
		"client_keys any": {
			"none":          operatorsKey,
			"bearer":        operatorsKey,
			"BEARER":        operatorsKey,
			"api-key":       operatorsKey,
			"other scheme":  operatorsKey,
			"wrong bearer":  operatorsKey,
			"wrong api-key": operatorsKey,
			"lone word":     operatorsKey,
			"lone api-key":  operatorsKey,
			"token scheme":  operatorsKey,
		},
	}
	apiKey, err := newKeySource("api_key", "operator", caddy.NewReplacer(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	for configured, rows := range tests {
		for sent, value := range clients {
			t.Run(configured+"/"+sent, func(t *testing.T) {
				t.Parallel()
				want, ok := rows[sent]
				if !ok {
					t.Fatal("the table lacks this row")
				}
				client, err := parseAuthorization(http.Header{"Authorization": {value}})
				if err != nil {
					t.Fatal(err)
				}
				keys := clientKeysFor(t, configured)
				for i, column := range []struct {
					apiKey        *keySource
					operatorNamed bool
				}{{apiKey, true}, {apiKey, false}, {nil, true}, {nil, false}} {
					a := &auth{apiKey: column.apiKey, clients: keys}
					got, err := a.authorize(client, column.operatorNamed)
					if err != nil {
						if _, ok := errors.AsType[*unauthorizedError](err); !ok || got != "" || err.Error() == "" {
							t.Errorf("authorize = %q, %v, want an unauthorizedError with a message alone", got, err)
						}
						if strings.Contains(err.Error(), "client") || strings.Contains(err.Error(), "operator") {
							t.Errorf("%q shows a key", err)
						}
						got = refused
					}
					if got != want[i] {
						t.Errorf("with api_key %t, operator's target %t: %q, want %q", column.apiKey != nil, column.operatorNamed, got, want[i])
					}
					if !column.operatorNamed && strings.Contains(got, "operator") {
						t.Errorf("the operator's key goes to a target of the caller's choice: %q", got)
					}
					if keys != nil && strings.Contains(got, value) && value != "" {
						t.Errorf("a key for this proxy goes upstream: %q", got)
					}
				}
			})
		}
	}
}

// clientKeysFor returns the client keys of the tables above, nil for none.
func clientKeysFor(t *testing.T, configured string) *clientKeys {
	t.Helper()
	values := map[string][]string{
		"a list of client_keys": {"another", "client"},
		"client_keys any":       {"any"},
	}[configured]
	if values == nil {
		return nil
	}
	keys, err := newClientKeys(values, caddy.NewReplacer(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return keys
}
