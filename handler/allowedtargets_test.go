package handler

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

// parsedTarget returns the URL of a target that is known to be one.
func parsedTarget(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := parseTarget(text)
	if err != nil {
		t.Fatalf("parseTarget(%q): %v", text, err)
	}
	return u
}

func TestAllowedTargetsNames(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		allowed []string
		named   []string
		not     []string
	}{
		"no entry names nothing": {
			not: []string{"https://h", "http://h"},
		},
		"none names nothing": {
			allowed: []string{"none"},
			not:     []string{"https://h", "https://none"},
		},
		"a host": {
			allowed: []string{"https://H.example"},
			named:   []string{"https://h.example", "https://h.EXAMPLE/", "https://h.example:443", "https://h.example/a/b", "https://h.example."},
			not: []string{
				"http://h.example", "h2c://h.example", "https://h.example:8443", "https://a.h.example", "https://h.example.evil",
				"https://evilh.example", "https://h.exampl",
			},
		},
		"a host with a dot at its end": {
			allowed: []string{"https://h.example."},
			named:   []string{"https://h.example", "https://h.example.:443"},
			not:     []string{"https://example"},
		},
		"a port": {
			allowed: []string{"http://h:8080"},
			named:   []string{"http://h:8080/a"},
			not:     []string{"http://h", "http://h:80", "http://h:808", "https://h:8080"},
		},
		"default ports": {
			allowed: []string{"http://a:80", "https://b:443", "h2c://c:80", "http://d", "h2c://e"},
			named:   []string{"http://a", "https://b", "h2c://c", "http://d:80", "h2c://e:80"},
			not:     []string{"http://a:443", "https://b:80", "h2c://c:443", "http://d:443"},
		},
		"a path": {
			allowed: []string{"https://h/a/b/"},
			named:   []string{"https://h/a/b", "https://h/a/b/", "https://h/a/b/c", "https://h/a/b/c/d"},
			not:     []string{"https://h", "https://h/a", "https://h/a/bc", "https://h/a/b%2Fc", "https://h/A/b", "https://h/a/%62", "https://h/a%2Fb", "https://h/x/a/b"},
		},
		"a wildcard stands for one label": {
			allowed: []string{"https://*.Example.com"},
			named:   []string{"https://a.example.com", "https://A-1.example.com./x", "https://a.example.com:443"},
			not: []string{
				"https://example.com", "https://a.b.example.com", "https://aexample.com", "https://a.example.com.evil",
				"http://a.example.com", "https://a.example.com:8443",
			},
		},
		"a wildcard with a port and a path": {
			allowed: []string{"http://*.svc:8080/v1"},
			named:   []string{"http://tei.svc:8080/v1/x"},
			not:     []string{"http://tei.svc/v1", "http://tei.svc:8080", "http://tei.svc:8080/v10"},
		},
		"addresses": {
			allowed: []string{"http://10.0.0.1", "http://[2001:db8:0::1]:80"},
			named:   []string{"http://10.0.0.1:80", "http://[2001:DB8::1]"},
			not:     []string{"http://10.0.0.10", "http://10.0.0.2", "http://[2001:db8::2]"},
		},
		"a wildcard for any name of one dot names no address": {
			allowed: []string{"https://*.example"},
			not:     []string{"https://1.2.3.4", "https://[::1]"},
		},
		"one of several": {
			allowed: []string{"https://a", "https://b/x", "https://b/y"},
			named:   []string{"https://a", "https://b/x", "https://b/y/z"},
			not:     []string{"https://b", "https://c"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			allowed, err := newAllowedTargets(test.allowed)
			if err != nil {
				t.Fatal(err)
			}
			for _, text := range test.named {
				if !allowed.names(parsedTarget(t, text)) {
					t.Errorf("%q does not name %s", test.allowed, text)
				}
			}
			for _, text := range test.not {
				if allowed.names(parsedTarget(t, text)) {
					t.Errorf("%q names %s", test.allowed, text)
				}
			}
		})
	}
}

func TestNewAllowedTargetsRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string][]string{
		"none before another":            {"none", "https://h"},
		"none after another":             {"https://h", "none"},
		"none twice":                     {"none", "none"},
		"an empty value":                 {""},
		"no scheme":                      {"h"},
		"a wildcard without a scheme":    {"*.example.com"},
		"a wildcard alone":               {"https://*"},
		"a wildcard with nothing after":  {"https://*."},
		"a wildcard within a label":      {"https://a*.example.com"},
		"a wildcard in the middle":       {"https://a.*.example.com"},
		"two wildcards":                  {"https://*.*.example.com"},
		"a wildcard before an address":   {"https://*.0.0.1"},
		"a wildcard before IPv6":         {"https://*.[::1]"},
		"a wildcard as scheme":           {"*://h"},
		"a wildcard as port":             {"https://h:*"},
		"a query":                        {"https://h?a"},
		"a user name":                    {"https://u@h"},
		"a user name before a wildcard":  {"https://u@*.h"},
		"a path with a .. segment":       {"https://h/a/.."},
		"a good value before a bad one":  {"https://h", "ftp://h"},
		"a scheme in the place of paths": {"https://https://h"},
	}
	for name, values := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := newAllowedTargets(values); err == nil || !strings.HasPrefix(err.Error(), "allowed_targets: ") {
				t.Errorf("newAllowedTargets(%q): %v, want an error that names the setting", values, err)
			}
		})
	}
}

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
		want               string // the URL, where there is one
		who                string
		field              string // of a malformed choice
	}{
		"no choice goes to the configured target":        {to: []string{"http://tei/a"}, want: "http://tei/a", who: named},
		"no choice goes to the first configured target":  {to: []string{"http://a", "http://b"}, want: "http://a", who: named},
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
				if got.URL.String() != test.want || got.OperatorNamed != (test.who == named) {
					t.Errorf("choose = %v, named by the operator: %t, want %s by the %s", got.URL, got.OperatorNamed, test.want, test.who)
				}
			}
		})
	}
}
