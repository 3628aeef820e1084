package handler

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

func TestParseTarget(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text, want string
		// operatorOnly says that a caller may not write it.
		operatorOnly bool
	}{
		"a host":                                  {text: "https://api.example.com", want: "https://api.example.com"},
		"plain http":                              {text: "http://tei", want: "http://tei"},
		"HTTP/2 in clear text":                    {text: "h2c://tei:8080", want: "h2c://tei:8080"},
		"capitals in the scheme and the host":     {text: "HTTPS://API.Example.COM/Path", want: "https://api.example.com/Path"},
		"a port":                                  {text: "https://api.example.com:8443", want: "https://api.example.com:8443"},
		"the largest port":                        {text: "https://api.example.com:65535", want: "https://api.example.com:65535"},
		"a path":                                  {text: "https://h/environments/production/sync", want: "https://h/environments/production/sync"},
		"a slash at the end":                      {text: "https://h/", want: "https://h"},
		"slashes at the end of a path":            {text: "https://h/a//", want: "https://h/a"},
		"an encoded path stays encoded":           {text: "https://h/models/org%2Fname/", want: "https://h/models/org%2Fname"},
		"an encoded character that needs none":    {text: "https://h/%61", want: "https://h/%61"},
		"an encoded character beyond ASCII":       {text: "https://h/mod%C3%A8le", want: "https://h/mod%C3%A8le"},
		"an encoded percent sign":                 {text: "https://h/100%25", want: "https://h/100%25"},
		"a character encoded twice":               {text: "https://h/%2561", want: "https://h/%2561"},
		"an encoded space":                        {text: "https://h/a%20b", want: "https://h/a%20b"},
		"an @ in the path":                        {text: "https://h/a@b", want: "https://h/a@b"},
		"dots that are no dot segments":           {text: "https://h/.a/b./...", want: "https://h/.a/b./..."},
		"an underscore in a service name":         {text: "http://my_model:80", want: "http://my_model:80"},
		"a dot at the end of the host":            {text: "https://h.example./a", want: "https://h.example./a"},
		"a host in its xn-- form":                 {text: "https://xn--bcher-kva.example", want: "https://xn--bcher-kva.example"},
		"an IPv4 address":                         {text: "http://192.0.2.1:80", want: "http://192.0.2.1:80"},
		"an IPv6 address":                         {text: "http://[::1]:80", want: "http://[::1]:80"},
		"an IPv6 address in another notation":     {text: "http://[2001:DB8:0:0:0:0:0:1]", want: "http://[2001:db8::1]"},
		"an IPv4-mapped address":                  {text: "http://[::ffff:192.0.2.1]", want: "http://[::ffff:192.0.2.1]"},
		"a label that only begins with 0x":        {text: "https://0xyz", want: "https://0xyz"},
		"a label that only begins with a digit":   {text: "https://1.example.4you", want: "https://1.example.4you"},
		"a hexadecimal label that is not last":    {text: "https://0x7f.example", want: "https://0x7f.example"},
		"an IPv6 zone":                            {text: "http://[fe80::1%25eth0]:80", want: "http://[fe80::1%25eth0]:80", operatorOnly: true},
		"a number as host":                        {text: "http://2130706433", want: "http://2130706433", operatorOnly: true},
		"an IPv4 address of two parts":            {text: "http://127.1", want: "http://127.1", operatorOnly: true},
		"an IPv4 address of five parts":           {text: "http://127.0.0.0.1", want: "http://127.0.0.0.1", operatorOnly: true},
		"an IPv4 address with an octal part":      {text: "http://0177.0.0.1", want: "http://0177.0.0.1", operatorOnly: true},
		"an IPv4 address with a leading zero":     {text: "http://127.0.0.01", want: "http://127.0.0.01", operatorOnly: true},
		"an IPv4 address with a part over 255":    {text: "http://127.0.0.256", want: "http://127.0.0.256", operatorOnly: true},
		"an IPv4 address with a dot at its end":   {text: "http://127.0.0.1.", want: "http://127.0.0.1.", operatorOnly: true},
		"a hexadecimal host":                      {text: "http://0x7f000001", want: "http://0x7f000001", operatorOnly: true},
		"a hexadecimal host in capitals":          {text: "http://0X7F000001", want: "http://0x7f000001", operatorOnly: true},
		"a hexadecimal prefix alone":              {text: "http://0x", want: "http://0x", operatorOnly: true},
		"a name that ends in a number":            {text: "http://example.1", want: "http://example.1", operatorOnly: true},
		"a name that ends in a hexadecimal label": {text: "http://example.0xa.", want: "http://example.0xa.", operatorOnly: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, err := parseTarget(test.text)
			if err != nil {
				t.Fatalf("parseTarget(%q): %v", test.text, err)
			}
			if got := u.String(); got != test.want {
				t.Errorf("parseTarget(%q) = %q, want %q", test.text, got, test.want)
			}
			u, err = parseCallerTarget("X-Target-Host", test.text)
			if test.operatorOnly {
				wantRequestError(t, err, "X-Target-Host")
				return
			}
			if err != nil || u.String() != test.want {
				t.Errorf("parseCallerTarget(%q) = %v, %v, want %q", test.text, u, err, test.want)
			}
		})
	}
}

func TestParseTargetRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"nothing":                                   "",
		"no scheme":                                 "api.example.com",
		"no scheme but a port":                      "api.example.com:443",
		"no scheme but slashes":                     "//api.example.com",
		"another scheme":                            "ftp://api.example.com",
		"a scheme of the file system":               "file:///etc/passwd",
		"a socket":                                  "unix//run/docker.sock",
		"a scheme without slashes":                  "https:api.example.com",
		"no host":                                   "https://",
		"no host but a path":                        "https:///path",
		"no host but a port":                        "https://:443",
		"a user name":                               "https://hush@h",
		"a user name and password":                  "https://hush:hush@h",
		"an empty user name":                        "https://@h",
		"a query":                                   "https://h/?a=b",
		"an empty query":                            "https://h?",
		"a fragment":                                "https://h/#a",
		"an empty fragment":                         "https://h#",
		"port 0":                                    "https://h:0",
		"a port too large":                          "https://h:65536",
		"an empty port":                             "https://h:",
		"a port with a leading zero":                "https://h:0443",
		"a port with a sign":                        "https://h:+443",
		"a port that is no number":                  "https://h:https",
		"two ports":                                 "https://h:1:2",
		"a .. segment":                              "https://h/a/../b",
		"a .. segment at the end":                   "https://h/a/..",
		"a . segment":                               "https://h/./a",
		"a .. segment, encoded":                     "https://h/a/%2e%2E/b",
		"a .. segment, half encoded":                "https://h/a/.%2e/b",
		"a .. segment behind an encoded slash":      "https://h/a%2F..%2Fb",
		"a .. segment, encoded twice":               "https://h/a/%252e%252e/b",
		"a .. segment with parameters":              "https://h/a/..;x=1/b",
		"a path encoded three times":                "https://h/a/%252561/b",
		"a backslash in the path":                   `https://h/a\b`,
		"a backslash in the host":                   `https://h\@evil.example`,
		"an encoded backslash":                      "https://h/a%5Cb",
		"a backslash encoded twice":                 "https://h/a%255Cb",
		"an encoded line break":                     "https://h/a%0d%0ab",
		"an encoded zero":                           "https://h/a%00b",
		"a broken escape":                           "https://h/a%zz",
		"a control character":                       "https://h/a\x01",
		"a line break":                              "https://h\r\nX-Hush: 1",
		"white space before it":                     " https://h",
		"white space within it":                     "https://h /a",
		"a host that is not ASCII":                  "https://bücher.example",
		"a host with encoded characters":            "https://b%C3%BCcher.example",
		"a host with an encoded slash":              "https://h%2Fevil.example",
		"a path that is not ASCII":                  "https://h/modèle",
		"a character that grows when it is encoded": "https://h/a>b",
		"a quotation mark":                          `https://h/"a"`,
		"a vertical bar":                            "https://h/a|b",
		"fullwidth digits, which fold to an IPv4":   "https://１２７.0.0.1",
		"an empty label":                            "https://a..b",
		"a dot alone":                               "https://.",
		"two dots at the end":                       "https://h..",
		"a label too long":                          "https://" + strings.Repeat("a", 64) + ".example",
		"a host too long":                           "https://" + strings.Repeat("a.", 127) + "b",
		"a wildcard":                                "https://*.example.com",
		"a comma, as in a list":                     "https://a,b",
		"a placeholder":                             "https://{env.HUSH}",
		"a variable":                                "https://$HUSH",
		"an IPv6 address without brackets":          "https://2001:db8::1",
		"brackets that do not close":                "https://[::1",
		"text behind the brackets":                  "https://[::1]a",
		"a name in brackets":                        "https://[h]",
		"an IPv4 address in brackets":               "https://[127.0.0.1]",
		"a future version of addresses in bracket":  "https://[v1.a]",
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, err := parseTarget(text)
			if err == nil {
				t.Fatalf("parseTarget(%q) = %q, want an error", text, u)
			}
			if strings.Contains(strings.ToLower(err.Error()), "hush") {
				t.Errorf("%q repeats what may be secret", err)
			}
			_, err = parseCallerTarget("X-Target-Host", text)
			wantRequestError(t, err, "X-Target-Host")
		})
	}
}

func TestParseCallerTargetIsBounded(t *testing.T) {
	t.Parallel()
	longest := "https://h/" + strings.Repeat("a", maxCallerTarget-len("https://h/"))
	if _, err := parseCallerTarget("X-Target-Host", longest); err != nil {
		t.Errorf("a target of %d bytes: %v", len(longest), err)
	}
	_, err := parseCallerTarget("X-Target-Host", longest+"a")
	wantRequestError(t, err, "X-Target-Host")
}

// FuzzParseCallerTarget checks that what is accepted is one thing to every
// reader: parsed again it is the same, and no part of it hides another. Only an
// IPv4-mapped address may be longer in its canonical form than as it came.
func FuzzParseCallerTarget(f *testing.F) {
	for _, seed := range []string{
		"https://api.example.com/a/b", "h2c://[2001:db8::1]:8080", "h2c://[1:2:3:4:5:6::8]", "HTTP://192.0.2.1:80/%2e%2e/", "https://h.example./%61;x",
		"https://a@b", "https://0x7f.1", "https://[fe80::1%25eth0]", "https://h/%25252e", `https://h\a`, "https://h:00", "https://h/%2F",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := parseCallerTarget("X-Target-Host", text)
		if err != nil {
			if _, ok := errors.AsType[*engine.RequestError](err); !ok {
				t.Fatalf("error %T, want a RequestError", err)
			}
			return
		}
		again, err := parseTarget(u.String())
		if err != nil || again.String() != u.String() || !sameTarget(again, u) {
			t.Fatalf("%q is read as %q and then as %v, %v", text, u, again, err)
		}
		// RFC 5952 writes a single group of zeros out, and mapped addresses in dots.
		if len(u.String()) > len(text) && !strings.HasPrefix(u.Host, "[") {
			t.Fatalf("%q grows to %q", text, u)
		}
		if u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(u.EscapedPath(), "/") {
			t.Fatalf("%q is read as %#v", text, u)
		}
		if _, err := netip.ParseAddr(u.Hostname()); err != nil && strings.Trim(u.Hostname(), "0123456789.") == "" {
			t.Fatalf("%q has the numeric host %q", text, u.Hostname())
		}
		for path, i := u.EscapedPath(), 0; i < 10; i++ {
			for segment := range strings.SplitSeq(path, "/") {
				if segment == "." || segment == ".." {
					t.Fatalf("%q has a dot segment in %q", text, path)
				}
			}
			decoded, err := url.PathUnescape(path)
			if err != nil {
				break
			}
			path = decoded
		}
	})
}
