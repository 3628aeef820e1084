package handler

import (
	"errors"
	"testing"
)

func TestChooseTarget(t *testing.T) {
	t.Parallel()
	const (
		named     = "operator"
		chosen    = "caller"
		forbidden = "403"
		malformed = "400"
	)
	tests := map[string]struct {
		to, allowed        []string
		header, preference string
		want               string // the URLs, where there are any
		who                string
		field              string // of a malformed choice
	}{
		"no choice goes to the configured target":        {to: []string{"http://tei/a"}, want: "http://tei/a", who: named},
		"no choice goes to all configured targets":       {to: []string{"http://a", "http://b"}, want: "http://a, http://b", who: named},
		"no choice and no target":                        {who: malformed, field: "X-Target-Host"},
		"no choice with none":                            {to: []string{"http://tei"}, allowed: []string{"none"}, want: "http://tei", who: named},
		"the header":                                     {header: "https://h.example", want: "https://h.example", who: chosen},
		"the preference":                                 {preference: "https://p.example", want: "https://p.example", who: chosen},
		"the header goes before the preference":          {header: "https://h.example", preference: "https://p.example", want: "https://h.example", who: chosen},
		"the header goes before the configured target":   {to: []string{"http://tei"}, header: "https://h.example/a", want: "https://h.example/a", who: chosen},
		"a malformed header":                             {to: []string{"http://tei"}, header: "h.example", who: malformed, field: "X-Target-Host"},
		"a malformed preference":                         {preference: "https://", who: malformed, field: "X-Baseten-Request-Preferences.target_host"},
		"a malformed preference beside a good header":    {header: "https://h.example", preference: "p", who: malformed, field: "X-Baseten-Request-Preferences.target_host"},
		"a malformed header is found even with none":     {allowed: []string{"none"}, header: "h.example", who: malformed, field: "X-Target-Host"},
		"a configured target":                            {to: []string{"http://tei:80/a/"}, header: "http://TEI/a", want: "http://tei:80/a", who: named},
		"the second configured target":                   {to: []string{"http://a", "http://b"}, preference: "http://b:80/", want: "http://b", who: named},
		"below a configured target is another":           {to: []string{"https://h.example/a"}, header: "https://h.example/a/b", want: "https://h.example/a/b", who: chosen},
		"above a configured target is another":           {to: []string{"https://h.example/a"}, header: "https://h.example", want: "https://h.example", who: chosen},
		"a configured target in another encoding":        {to: []string{"https://h.example/a"}, header: "https://h.example/%61", want: "https://h.example/%61", who: chosen},
		"a configured host with another scheme":          {to: []string{"https://h.example"}, header: "http://h.example", who: forbidden},
		"a configured target with none":                  {to: []string{"https://h.example"}, allowed: []string{"none"}, header: "https://h.example", who: forbidden},
		"an allowed target in plain http":                {allowed: []string{"http://tei:8080"}, header: "http://tei:8080/x", want: "http://tei:8080/x", who: named},
		"an allowed target on a private address":         {allowed: []string{"http://10.0.0.1"}, header: "http://10.0.0.1", want: "http://10.0.0.1", who: named},
		"an allowed target by wildcard":                  {allowed: []string{"https://*.api.baseten.co"}, preference: "https://model-1.api.baseten.co", want: "https://model-1.api.baseten.co", who: named},
		"not allowed, plain http":                        {header: "http://h.example", who: forbidden},
		"not allowed, HTTP/2 in clear text":              {header: "h2c://h.example", who: forbidden},
		"not allowed beside others":                      {allowed: []string{"https://other.example"}, header: "https://h.example", want: "https://h.example", who: chosen},
		"a public IPv4 address":                          {header: "https://8.8.8.8", want: "https://8.8.8.8", who: chosen},
		"a public IPv6 address":                          {header: "https://[2606:4700:4700::1111]:8443", want: "https://[2606:4700:4700::1111]:8443", who: chosen},
		"a public IPv4-mapped address":                   {header: "https://[::ffff:8.8.8.8]", want: "https://[::ffff:8.8.8.8]", who: chosen},
		"loopback":                                       {header: "https://127.0.0.1", who: forbidden},
		"loopback in IPv6":                               {header: "https://[::1]", who: forbidden},
		"loopback, IPv4-mapped":                          {header: "https://[::ffff:127.0.0.1]", who: forbidden},
		"a private address":                              {header: "https://10.0.0.1:8443", who: forbidden},
		"the addresses where clouds serve credentials":   {header: "https://169.254.169.254", who: forbidden},
		"an IPv4 address by way of a translator":         {header: "https://[64:ff9b::7f00:1]", who: forbidden},
		"a number as host, which is loopback":            {header: "https://2130706433", who: malformed, field: "X-Target-Host"},
		"a short IPv4 address, which is loopback":        {header: "https://127.1", who: malformed, field: "X-Target-Host"},
		"a name is judged when it is dialled":            {header: "https://localhost", want: "https://localhost", who: chosen},
		"a private address in the preference":            {preference: "https://192.168.0.1", who: forbidden},
		"a good header beside a private preference":      {header: "https://h.example", preference: "https://192.168.0.1", want: "https://h.example", who: chosen},
		"the operator's address with a zone":             {to: []string{"http://[fe80::1%25eth0]"}, want: "http://[fe80::1%25eth0]", who: named},
		"the operator's address with a zone by a caller": {to: []string{"http://[fe80::1%25eth0]"}, header: "http://[fe80::1%25eth0]", who: malformed, field: "X-Target-Host"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			allowed, err := newAllowedTargets(test.allowed)
			if err != nil {
				t.Fatal(err)
			}
			all := &targets{allowed: allowed}
			for _, text := range test.to {
				all.configured = append(all.configured, parsedTarget(t, text))
			}
			got, err := all.choose(test.header, test.preference)
			switch test.who {
			case malformed:
				wantRequestError(t, err, test.field)
			case forbidden:
				refusal, ok := errors.AsType[*forbiddenError](err)
				if !ok || refusal.Setting != "allowed_targets" || refusal.Message == "" || got != (target{}) {
					t.Errorf("choose = %v, %v, want a forbiddenError that names allowed_targets", got.URL, err)
				}
			default:
				if err != nil {
					t.Fatal(err)
				}
				if all.name(got) != test.want || got.OperatorNamed != (test.who == named) {
					t.Errorf("choose = %v, named by the operator: %t, want %s by the %s", all.name(got), got.OperatorNamed, test.want, test.who)
				}
				if chosen := test.header + test.preference; (got.URL == nil) != (chosen == "") {
					t.Errorf("choose = %v, the caller chose %q", got.URL, chosen)
				}
			}
		})
	}
}
