package performanceproxy

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
	"github.com/basetenlabs/caddy-performance-proxy/handler"
)

// The flags that take keys.
const (
	upstreamKeyFlag = "upstream-api-key"
	clientKeysFlag  = "client-keys"
)

// options are what the flags and the environment say.
type options struct {
	// bind is a host name or an address; empty means all addresses.
	bind string
	// port is the port to listen on; 0 lets the system choose.
	port int
	// admin is the address of Caddy's admin endpoint; empty means none.
	admin string
	// logLevel is a level in Caddy's words.
	logLevel string
	proxy    handler.Handler
}

// A flag is one row of the table of flags.
type flag struct {
	name, short string
	// value stands for the value in the help, in capitals.
	value, usage string
	// preset is the default in the help.
	preset string
	// setting is the name in the handler's configuration; empty means the name
	// with underscores.
	setting string
	// variables are the environment variables in the order of their precedence;
	// nil means the name in capitals with underscores.
	variables []variable
	// set takes over a value. Its error says what was expected, without the
	// value.
	set func(o *options, value string) error
}

// A variable is an environment variable that stands for a flag.
type variable struct {
	name string
	// toFlag turns its value into that of the flag, which is empty when it says
	// nothing about the flag; nil takes it as it is. Its error does not hold the
	// value, which may be a key.
	toFlag func(variable, value string) (string, error)
}

// flags returns the table of flags.
func flags() []flag {
	preset := engine.DefaultSettings()
	return []flag{
		{name: "port", short: "p", value: "PORT", usage: "port to listen on", preset: strconv.Itoa(defaultPort), set: setPort},
		{name: "bind", value: "ADDRESS", usage: "address to listen on", preset: "all addresses", set: setBind},
		{
			name: "target-url", short: "u", value: "URL", setting: "to",
			usage: "model server; several, separated by commas or each with a flag of its own, share the batches",
			set:   appendTo("expected a URL", func(o *options) *[]string { return &o.proxy.To }),
		},
		{
			name: upstreamKeyFlag, short: "k", value: "KEY",
			usage:     "key for the model server: the key, or the absolute path of a file that holds it",
			setting:   "api_key",
			variables: []variable{{name: "UPSTREAM_API_KEY", toFlag: referToKey}},
			set:       setText("expected a key or the absolute path of a file", func(o *options) *string { return &o.proxy.APIKey }),
		},
		{
			name: "allowed-targets", value: "URLS", usage: "targets that callers may choose, separated by commas, or none",
			set: appendTo("expected URLs, separated by commas, or none", func(o *options) *[]string { return &o.proxy.AllowedTargets }),
		},
		{
			name: clientKeysFlag, value: "KEYS",
			usage:     "keys that clients must send, separated by commas, the absolute path of a file that holds them, or any",
			variables: []variable{{name: "CLIENT_KEYS", toFlag: referToKeys}},
			set:       appendTo("expected keys, separated by commas, the absolute path of a file, or any", func(o *options) *[]string { return &o.proxy.ClientKeys }),
		},
		{
			name: "http-version", value: "VERSION", usage: "HTTP version towards the model server: 1, 2 or h2c", preset: "2",
			set: setText("expected 1, 2 or h2c", func(o *options) *string { return &o.proxy.HTTPVersion }),
		},
		{
			name: "max-concurrent-requests", value: "COUNT", usage: "batches of one request in flight at once",
			preset: strconv.Itoa(preset.MaxConcurrentRequests),
			set:    setCount(func(o *options) **int { return &o.proxy.MaxConcurrentRequests }),
		},
		{
			name: "batch-size", value: "COUNT", usage: "items in a batch", preset: strconv.Itoa(preset.BatchSize),
			set: setCount(func(o *options) **int { return &o.proxy.BatchSize }),
		},
		{
			name: "max-chars-per-request", value: "COUNT", usage: "characters in a batch",
			preset: strconv.Itoa(preset.MaxCharsPerRequest),
			set:    setCount(func(o *options) **int { return &o.proxy.MaxCharsPerRequest }),
		},
		{
			name: "timeout-s", value: "SECONDS", usage: "time for one attempt of one batch",
			preset: strconv.FormatFloat(preset.Timeout.Seconds(), 'f', -1, 64), set: setTimeout,
		},
		{
			name: "log-level", value: "LEVEL", usage: "trace, debug, info, warn, error or off", preset: "info",
			variables: []variable{
				{name: "LOG_LEVEL"},
				{name: "PERFORMANCE_CLIENT_LOG_LEVEL"},
				{name: "RUST_LOG", toFlag: firstLevel},
			},
			set: setLogLevel,
		},
		{name: "admin", value: "ADDRESS", usage: "host:port of Caddy's admin endpoint, with metrics at /metrics", preset: "off", set: setAdmin},
	}
}

// defineFlags defines the flags of the table on cmd and returns the options
// that they are read into.
func defineFlags(cmd *cobra.Command) *options {
	opts := defaultOptions()
	for _, f := range flags() {
		usage := fmt.Sprintf("%s [$%s]", f.usage, f.environment()[0].name)
		cmd.Flags().VarP(&flagValue{flag: f, opts: opts}, f.name, f.short, usage)
	}
	return opts
}

// readEnvironment takes over the variables of the flags that are not on the
// command line. An empty variable counts as absent.
func readEnvironment(cmd *cobra.Command, opts *options, getenv func(string) string) error {
	for _, f := range flags() {
		if cmd.Flags().Changed(f.name) {
			continue
		}
		for _, v := range f.environment() {
			value := getenv(v.name)
			if value == "" {
				continue
			}
			if v.toFlag != nil {
				var err error
				if value, err = v.toFlag(v.name, value); err != nil {
					return fmt.Errorf("invalid value of the environment variable %s: %w", v.name, err)
				}
				if value == "" {
					continue
				}
			}
			if err := f.set(opts, value); err != nil {
				return fmt.Errorf("invalid value %q of the environment variable %s: %w", value, v.name, err)
			}
			break
		}
	}
	return nil
}

// environment returns the variables that stand for the flag.
func (f flag) environment() []variable {
	if f.variables != nil {
		return f.variables
	}
	return []variable{{name: strings.ToUpper(strings.ReplaceAll(f.name, "-", "_"))}}
}

// inFlagTerms returns an error of the handler, which begins with the name of a
// setting, with the name of the flag in its place.
func inFlagTerms(err error) error {
	for _, f := range flags() {
		setting := f.setting
		if setting == "" {
			setting = strings.ReplaceAll(f.name, "-", "_")
		}
		if message, ok := strings.CutPrefix(err.Error(), setting+": "); ok {
			return fmt.Errorf("--%s: %s", f.name, message)
		}
	}
	return err
}

// A flagValue is a flag as the command line parser sees it.
type flagValue struct {
	flag
	opts *options
}

func (v *flagValue) String() string         { return v.preset }
func (v *flagValue) Type() string           { return v.value }
func (v *flagValue) Set(value string) error { return v.set(v.opts, value) }

func setPort(o *options, value string) error {
	port, err := strconv.ParseUint(value, 10, 16)
	if err != nil {
		return errors.New("expected a port from 0 to 65535")
	}
	o.port = int(port)
	return nil
}

func setBind(o *options, value string) error {
	host := strings.TrimSuffix(strings.TrimPrefix(value, "["), "]")
	if _, err := netip.ParseAddr(host); err != nil && (host == "" || strings.ContainsAny(host, ":/ ")) {
		return errors.New("expected an IP address or a host name, without a port")
	}
	o.bind = host
	return nil
}

func setAdmin(o *options, value string) error {
	_, port, err := net.SplitHostPort(value)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return errors.New("expected host:port, such as localhost:2019")
	}
	o.admin = value
	return nil
}

func setTimeout(o *options, value string) error {
	seconds, err := strconv.ParseFloat(value, 64)
	// JSON holds no infinity and no NaN.
	if err != nil || math.IsInf(seconds, 0) || math.IsNaN(seconds) {
		return errors.New("expected a number of seconds, such as 30 or 0.5")
	}
	o.proxy.TimeoutS = &seconds
	return nil
}

// setCount returns a setter of a whole number.
func setCount(field func(*options) **int) func(*options, string) error {
	return func(o *options, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil {
			return errors.New("expected a whole number")
		}
		*field(o) = &n
		return nil
	}
}

// setText returns a setter of a text that must not be empty: an empty one would
// count as not set.
func setText(expected string, field func(*options) *string) func(*options, string) error {
	return func(o *options, value string) error {
		if value == "" {
			return errors.New(expected)
		}
		*field(o) = value
		return nil
	}
}

// appendTo returns a setter of a list, which adds the values between commas, at
// least one.
func appendTo(expected string, field func(*options) *[]string) func(*options, string) error {
	return func(o *options, value string) error {
		items := listItems(value)
		if len(items) == 0 {
			return errors.New(expected)
		}
		*field(o) = append(*field(o), items...)
		return nil
	}
}

// listItems returns the values between commas without the white space around
// them and without empty ones.
func listItems(value string) []string {
	var items []string
	for item := range strings.SplitSeq(value, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}
