package caddyfile

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/basetenlabs/caddy-performance-proxy/handler"
)

// FuzzParse holds that every directive is either refused with the place of the
// fault or becomes a handler that JSON can carry unchanged.
func FuzzParse(f *testing.F) {
	for _, body := range []string{
		"",
		"to https://{env.HOST}\n\tallowed_targets https://a https://*.b\n\tapi_key {env.KEY}\n\tclient_keys any",
		"batch_size 8\n\tbatch_size 9",
		"timeout_s 1e400\n",
		"hedge_delay auto\n\thedge_budget_pct NaN",
		"max_memory 18446744073709551615\n\tdial_timeout 1d",
		"cap {\n\t\ttimeout_s 0x1p-2\n\t}\n\tdeny_preferences target_host",
		"cap {\n\t\tbatch_size 8 {\n\t}\n",
		"no_split \"a\nb\" `c` {\n",
		"}\n{\n",
		"to https://a https://b\n\tweights 1 2\n\tlb_policy random_choose 2\n\tretry_bucket {\n\t\tsize 0x1p4\n\t\tper_reply 0\n\t}",
		"fail_duration 0\n\tunhealthy_status 5xx 429\n\thealth_uri /h?a=b\n\thealth_status 2xx\n\thealth_headers {\n\t\tHost {env.HOST}\n\t}",
		"dynamic a h 80 {\n\t\trefresh 1s\n\t\tresolvers 10.0.0.1\n\t}\n\ttransport http {\n\t\ttls\n\t}",
		"transport http {\n\t\ttls_trust_pool inline {\n\t\t\ttrust_der a\n\t\t}\n\t\tnetwork_proxy url http://p\n\t\tread_buffer 4KiB\n\t}",
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		tokens, err := caddyfile.Tokenize([]byte("performance_proxy {\n\t"+body+"\n}"), "Caddyfile")
		if err != nil {
			return
		}
		parsed, err := Parse(httpcaddyfile.Helper{Dispenser: caddyfile.NewDispenser(tokens)})
		if err != nil {
			if !strings.Contains(err.Error(), "at Caddyfile:") {
				t.Errorf("the error names no place: %v", err)
			}
			return
		}
		encoded, err := json.Marshal(parsed)
		if err != nil {
			t.Fatalf("the handler cannot be written as JSON: %v", err)
		}
		decoded := new(handler.Handler)
		if err := json.Unmarshal(encoded, decoded); err != nil {
			t.Fatalf("the handler cannot be read from its JSON %s: %v", encoded, err)
		}
		again, err := json.Marshal(decoded)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(encoded, again) {
			t.Errorf("JSON changes the handler from %s to %s", encoded, again)
		}
	})
}
