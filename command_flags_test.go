package performanceproxy

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// parse reads a command line and an environment.
func parse(args []string, env map[string]string) (*options, error) {
	cmd := &cobra.Command{Use: "test"}
	opts := defineFlags(cmd)
	if err := cmd.ParseFlags(args); err != nil {
		return nil, err
	}
	if err := readEnvironment(cmd, opts, func(name string) string { return env[name] }); err != nil {
		return nil, err
	}
	return opts, nil
}

func TestFlagsAndVariablesMakeTheHandler(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		env  map[string]string
		want string
	}{
		"nothing is set": {
			want: `{}`,
		},
		"every flag": {
			args: []string{
				"--target-url", "https://model.example.com", "--upstream-api-key", "/run/key", "--http-version", "h2c",
				"--max-concurrent-requests", "8", "--batch-size", "16", "--timeout-s", "2.5", "--max-chars-per-request", "500",
				"--allowed-targets", "https://a.example.com", "--client-keys", "any",
			},
			want: `{"to":["https://model.example.com"],"api_key":"/run/key","client_keys":["any"],
				"allowed_targets":["https://a.example.com"],"http_version":"h2c","max_concurrent_requests":8,
				"batch_size":16,"max_chars_per_request":500,"timeout_s":2.5}`,
		},
		"short flags": {
			args: []string{"-u", "https://model.example.com", "-k", "key"},
			want: `{"to":["https://model.example.com"],"api_key":"key"}`,
		},
		"every variable": {
			env: map[string]string{
				"TARGET_URL": "https://model.example.com", "UPSTREAM_API_KEY": "/run/key", "HTTP_VERSION": "1",
				"MAX_CONCURRENT_REQUESTS": "8", "BATCH_SIZE": "16", "TIMEOUT_S": "2.5", "MAX_CHARS_PER_REQUEST": "500",
				"ALLOWED_TARGETS": "none", "CLIENT_KEYS": "/run/one,/run/two",
			},
			want: `{"to":["https://model.example.com"],"api_key":"/run/key","client_keys":["/run/one","/run/two"],
				"allowed_targets":["none"],"http_version":"1","max_concurrent_requests":8,
				"batch_size":16,"max_chars_per_request":500,"timeout_s":2.5}`,
		},
		"a flag wins over its variable": {
			args: []string{"--batch-size", "16", "-u", "https://flag.example.com"},
			env:  map[string]string{"BATCH_SIZE": "nonsense", "TARGET_URL": "https://variable.example.com", "TIMEOUT_S": "9"},
			want: `{"to":["https://flag.example.com"],"batch_size":16,"timeout_s":9}`,
		},
		"an empty variable is none": {
			env:  map[string]string{"BATCH_SIZE": "", "UPSTREAM_API_KEY": "", "CLIENT_KEYS": "", "TARGET_URL": "", "BIND": ""},
			want: `{}`,
		},
		"a zero is a value": {
			args: []string{"--batch-size", "0"},
			want: `{"batch_size":0}`,
		},
		"lists are repeated flags or separated by commas": {
			args: []string{"-u", "https://a", "-u", "https://b, https://c,", "--client-keys", "one,two", "--client-keys", "three"},
			want: `{"to":["https://a","https://b","https://c"],"client_keys":["one","two","three"]}`,
		},
		"a key on the command line stays as it is": {
			args: []string{"-k", "sk-text"},
			want: `{"api_key":"sk-text"}`,
		},
		"a key in a variable becomes a reference": {
			env:  map[string]string{"UPSTREAM_API_KEY": "sk-text"},
			want: `{"api_key":"{env.UPSTREAM_API_KEY}"}`,
		},
		"the path of a key file in a variable stays as it is": {
			env:  map[string]string{"UPSTREAM_API_KEY": "$/run/key"},
			want: `{"api_key":"$/run/key"}`,
		},
		"client keys in a variable become one reference": {
			env:  map[string]string{"CLIENT_KEYS": "sk-one, sk-two"},
			want: `{"client_keys":["{env.CLIENT_KEYS}"]}`,
		},
		"the word for every client in a variable stays as it is": {
			env:  map[string]string{"CLIENT_KEYS": " any"},
			want: `{"client_keys":["any"]}`,
		},
		"the word for every client beside a key is left to the handler": {
			env:  map[string]string{"CLIENT_KEYS": "any,sk-one"},
			want: `{"client_keys":["{env.CLIENT_KEYS}"]}`,
		},
		"references to client keys in a variable stay as they are": {
			env:  map[string]string{"CLIENT_KEYS": "$/run/keys,{env.OTHER_KEYS}"},
			want: `{"client_keys":["$/run/keys","{env.OTHER_KEYS}"]}`,
		},
		"relative paths in variables stay as they are, for the handler": {
			env:  map[string]string{"UPSTREAM_API_KEY": "../key", "CLIENT_KEYS": "./keys"},
			want: `{"api_key":"../key","client_keys":["./keys"]}`,
		},
		"a placeholder in a variable stays as it is": {
			env:  map[string]string{"UPSTREAM_API_KEY": "{file./run/key}"},
			want: `{"api_key":"{file./run/key}"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts, err := parse(test.args, test.env)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.Marshal(opts.proxy)
			if err != nil {
				t.Fatal(err)
			}
			want := strings.NewReplacer("\n", "", "\t", "").Replace(test.want)
			if string(got) != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestFlagsAndVariablesMakeTheServer(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		env  map[string]string
		want options
	}{
		"nothing is set":              {want: options{port: 8080, logLevel: "INFO"}},
		"port and address":            {args: []string{"-p", "80", "--bind", "127.0.0.1"}, want: options{port: 80, bind: "127.0.0.1", logLevel: "INFO"}},
		"port 0":                      {args: []string{"--port=0"}, want: options{logLevel: "INFO"}},
		"an IPv6 address in brackets": {args: []string{"--bind", "[::1]"}, want: options{port: 8080, bind: "::1", logLevel: "INFO"}},
		"a host name":                 {env: map[string]string{"BIND": "localhost", "PORT": "81"}, want: options{port: 81, bind: "localhost", logLevel: "INFO"}},
		"admin":                       {args: []string{"--admin", "localhost:2019"}, want: options{port: 8080, admin: "localhost:2019", logLevel: "INFO"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts, err := parse(test.args, test.env)
			if err != nil {
				t.Fatal(err)
			}
			if opts.port != test.want.port || opts.bind != test.want.bind || opts.admin != test.want.admin || opts.logLevel != test.want.logLevel {
				t.Errorf("got %+v, want %+v", *opts, test.want)
			}
		})
	}
}

func TestLogLevelIsTheFirstOneSet(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		flag string
		env  map[string]string
		want string
	}{
		"none":                              {want: "INFO"},
		"the flag before all variables":     {flag: "error", env: map[string]string{"LOG_LEVEL": "warn", "RUST_LOG": "debug"}, want: "ERROR"},
		"LOG_LEVEL before the others":       {env: map[string]string{"LOG_LEVEL": "warn", "PERFORMANCE_CLIENT_LOG_LEVEL": "error", "RUST_LOG": "debug"}, want: "WARN"},
		"the client's before RUST_LOG":      {env: map[string]string{"PERFORMANCE_CLIENT_LOG_LEVEL": "error", "RUST_LOG": "debug"}, want: "ERROR"},
		"RUST_LOG alone":                    {env: map[string]string{"RUST_LOG": "debug"}, want: "DEBUG"},
		"RUST_LOG with modules after it":    {env: map[string]string{"RUST_LOG": "warn,hyper=info"}, want: "WARN"},
		"RUST_LOG with a module before it":  {env: map[string]string{"RUST_LOG": "hyper=error,info"}, want: "ERROR"},
		"RUST_LOG with modules only":        {env: map[string]string{"RUST_LOG": "proxy::server=debug"}, want: "DEBUG"},
		"RUST_LOG with a module without it": {env: map[string]string{"RUST_LOG": "hyper, proxy=warn"}, want: "WARN"},
		"RUST_LOG without a level":          {env: map[string]string{"RUST_LOG": "foo"}, want: "INFO"},
		"RUST_LOG with an unknown level":    {env: map[string]string{"RUST_LOG": "foo=loud,bar"}, want: "INFO"},
		"trace is Caddy's debug":            {flag: "trace", want: "DEBUG"},
		"off lets only fatal errors pass":   {flag: "off", want: "FATAL"},
		"capitals":                          {flag: "Warn", want: "WARN"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var args []string
			if test.flag != "" {
				args = []string{"--log-level", test.flag}
			}
			opts, err := parse(args, test.env)
			if err != nil {
				t.Fatal(err)
			}
			if opts.logLevel != test.want {
				t.Errorf("got %s, want %s", opts.logLevel, test.want)
			}
		})
	}
}

func TestErrorsOfTheHandlerNameTheFlag(t *testing.T) {
	t.Parallel()
	for setting, flag := range map[string]string{
		"to": "--target-url", "api_key": "--upstream-api-key", "client_keys": "--client-keys",
		"allowed_targets": "--allowed-targets", "http_version": "--http-version",
		"max_concurrent_requests": "--max-concurrent-requests", "batch_size": "--batch-size",
		"max_chars_per_request": "--max-chars-per-request", "timeout_s": "--timeout-s",
	} {
		if got, want := inFlagTerms(errors.New(setting+": must be: else")).Error(), flag+": must be: else"; got != want {
			t.Errorf("%s: got %q, want %q", setting, got, want)
		}
	}
	if err := errors.New("tokens: none"); !errors.Is(inFlagTerms(err), err) {
		t.Errorf("got %v, want the error of no setting as it is", inFlagTerms(err))
	}
}

func TestBadValuesNameTheirFlagOrVariable(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		env  map[string]string
		want string
	}{
		"a port that is no number":         {args: []string{"-p", "http"}, want: `"-p, --port" flag: expected a port from 0 to 65535`},
		"a port over the range":            {args: []string{"--port", "65536"}, want: "expected a port from 0 to 65535"},
		"a port in the address":            {args: []string{"--bind", "127.0.0.1:80"}, want: "expected an IP address or a host name, without a port"},
		"a network in the address":         {args: []string{"--bind", "unix//run/proxy"}, want: "expected an IP address or a host name"},
		"an admin address without a port":  {args: []string{"--admin", "localhost"}, want: "expected host:port, such as localhost:2019"},
		"an admin address without a name":  {args: []string{"--admin", "on"}, want: "expected host:port, such as localhost:2019"},
		"an admin port over the range":     {args: []string{"--admin", ":65536"}, want: "expected host:port"},
		"a size of batches that is a text": {args: []string{"--batch-size", "many"}, want: `invalid argument "many" for "--batch-size" flag: expected a whole number`},
		"a time with a unit":               {args: []string{"--timeout-s", "30s"}, want: "expected a number of seconds, such as 30 or 0.5"},
		"a time that is no number":         {args: []string{"--timeout-s", "NaN"}, want: "expected a number of seconds, such as 30 or 0.5"},
		"a time without an end":            {args: []string{"--timeout-s", "Inf"}, want: "expected a number of seconds, such as 30 or 0.5"},
		"an unknown level":                 {args: []string{"--log-level", "loud"}, want: "expected trace, debug, info, warn, error or off"},
		"a flag without its value":         {args: []string{"--batch-size"}, want: "flag needs an argument: --batch-size"},
		"a variable that is no number":     {env: map[string]string{"PORT": "tcp://10.0.0.1:80"}, want: `invalid value "tcp://10.0.0.1:80" of the environment variable PORT: expected a port`},
		"a variable with a unit":           {env: map[string]string{"TIMEOUT_S": "30s"}, want: `environment variable TIMEOUT_S: expected a number of seconds`},
		"a level in a later variable":      {env: map[string]string{"PERFORMANCE_CLIENT_LOG_LEVEL": "loud"}, want: `invalid value "loud" of the environment variable PERFORMANCE_CLIENT_LOG_LEVEL: expected trace`},
		"an empty target":                  {args: []string{"-u", ""}, want: `"-u, --target-url" flag: expected a URL`},
		"an empty upstream key":            {args: []string{"-k", ""}, want: `"-k, --upstream-api-key" flag: expected a key or the absolute path`},
		"no client keys":                   {args: []string{"--client-keys", ""}, want: `"--client-keys" flag: expected keys, separated by commas`},
		"client keys that are all empty":   {args: []string{"--client-keys", " , "}, want: `"--client-keys" flag: expected keys, separated by commas`},
		"empty client keys in a variable":  {env: map[string]string{"CLIENT_KEYS": ","}, want: `environment variable CLIENT_KEYS: expected keys, separated by commas`},
		"no allowed targets":               {args: []string{"--allowed-targets", ""}, want: `"--allowed-targets" flag: expected URLs, separated by commas, or none`},
		"an empty HTTP version":            {args: []string{"--http-version", ""}, want: `"--http-version" flag: expected 1, 2 or h2c`},
		"an empty address":                 {args: []string{"--bind", ""}, want: `"--bind" flag: expected an IP address or a host name`},
		"an empty address in brackets":     {args: []string{"--bind", "[]"}, want: `"--bind" flag: expected an IP address or a host name`},
		"an empty admin address":           {args: []string{"--admin", ""}, want: `"--admin" flag: expected host:port`},
		"an empty level":                   {args: []string{"--log-level", ""}, want: `"--log-level" flag: expected trace`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parse(test.args, test.env)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got the error %v, want %s", err, test.want)
			}
		})
	}
}
