package performanceproxy

import (
	"strings"
	"testing"
)

func TestPrintConfig(t *testing.T) {
	t.Parallel()
	want := `{
  "admin": {
    "listen": "localhost:2019",
    "config": {
      "persist": false
    }
  },
  "logging": {
    "logs": {
      "default": {
        "level": "WARN"
      }
    }
  },
  "apps": {
    "http": {
      "grace_period": 30000000000,
      "servers": {
        "proxy": {
          "listen": [
            "[::1]:9000"
          ],
          "read_header_timeout": 10000000000,
          "routes": [
            {
              "handle": [
                {
                  "api_key": "{env.UPSTREAM_API_KEY}",
                  "batch_size": 16,
                  "client_keys": [
                    "{env.CLIENT_KEYS}"
                  ],
                  "handler": "performance_proxy",
                  "to": [
                    "https://model.example.com"
                  ]
                }
              ]
            }
          ],
          "automatic_https": {
            "disable": true
          },
          "protocols": [
            "h1",
            "h2c"
          ]
        }
      }
    },
    "tls": {
      "disable_storage_clean": true
    }
  }
}
`
	code, stdout, stderr := invocation{
		as:   "program",
		args: []string{"-u", "https://model.example.com", "-p", "9000", "--bind", "::1", "--admin", "localhost:2019", "--print-config"},
		env:  []string{"UPSTREAM_API_KEY=sk-secret", "CLIENT_KEYS=sk-one,sk-two", "BATCH_SIZE=16", "LOG_LEVEL=warn"},
	}.run(t)
	if code != 0 || stderr != "" {
		t.Errorf("exit code %d, errors: %s", code, stderr)
	}
	if stdout != want {
		t.Errorf("got\n%s\nwant\n%s", stdout, want)
	}
}

func TestAdminIsOffByDefault(t *testing.T) {
	t.Parallel()
	if cfg := defaultOptions().config(); !cfg.Admin.Disabled {
		t.Error("the admin endpoint is on")
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	const unusable, anyClient = "can never be used", "any client"
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"no key":                                    {args: nil},
		"a key that any client may spend":           {args: []string{"-k", "key", "-u", "https://a"}, want: anyClient},
		"the same on the unspecified address":       {args: []string{"-k", "key", "-u", "https://a", "--bind", "0.0.0.0"}, want: anyClient},
		"the same on the unspecified IPv6 address":  {args: []string{"-k", "key", "-u", "https://a", "--bind", "::"}, want: anyClient},
		"a key on the loopback address":             {args: []string{"-k", "key", "-u", "https://a", "--bind", "127.0.0.1"}},
		"a key and client keys":                     {args: []string{"-k", "key", "-u", "https://a", "--client-keys", "one"}},
		"a key and any client on all addresses":     {args: []string{"-k", "key", "-u", "https://a", "--client-keys", "any"}, want: anyClient},
		"a key and any client on the loopback":      {args: []string{"-k", "key", "-u", "https://a", "--client-keys", "any", "--bind", "::1"}},
		"any client and no key":                     {args: []string{"-u", "https://a", "--client-keys", "any"}},
		"a key and no target":                       {args: []string{"-k", "key"}, want: unusable},
		"a key and no target, with client keys":     {args: []string{"-k", "key", "--client-keys", "one"}, want: unusable},
		"a key and no target that callers may name": {args: []string{"-k", "key", "--allowed-targets", "none"}, want: unusable},
		"a key and allowed targets":                 {args: []string{"-k", "key", "--allowed-targets", "https://a", "--bind", "::1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts, err := parse(test.args, nil)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(opts.warnings(), "\n")
			if test.want == "" && got != "" || !strings.Contains(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
