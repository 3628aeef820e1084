package handler

import (
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
