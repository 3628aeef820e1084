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
