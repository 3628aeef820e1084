package performanceproxy

import (
	"bufio"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// listen occupies a port of the loopback address.
func listen(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln.Addr().String()
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	_, taken, err := net.SplitHostPort(listen(t))
	if err != nil {
		t.Fatal(err)
	}
	missing, empty := filepath.Join(t.TempDir(), "missing"), filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args []string
		env  []string
		code int
		want string
	}{
		"an unknown flag":                     {args: []string{"--nope"}, code: 2, want: "unknown flag: --nope"},
		"an unknown short flag":               {args: []string{"-x"}, code: 2, want: "unknown shorthand flag: 'x' in -x"},
		"a flag without its value":            {args: []string{"--port"}, code: 2, want: "flag needs an argument: --port"},
		"a bad value":                         {args: []string{"--port", "http"}, code: 2, want: "expected a port from 0 to 65535"},
		"a bad value in a variable":           {env: []string{"BATCH_SIZE=many"}, code: 2, want: `invalid value "many" of the environment variable BATCH_SIZE: expected a whole number`},
		"an argument left over":               {args: []string{"https://model.example.com"}, code: 2, want: `unexpected argument "https://model.example.com"`},
		"an argument left over after keys":    {args: []string{"--client-keys", "sk-one", "sk-two"}, code: 2, want: "an argument belongs to no flag"},
		"an unknown flag of the demo":         {args: []string{"demo", "--port", "1"}, code: 2, want: "unknown flag: --port"},
		"an argument left over for the demo":  {args: []string{"demo", "now"}, code: 2, want: `unexpected argument "now"`},
		"a value out of range":                {args: []string{"--batch-size", "0"}, code: 2, want: ": --batch-size: must be an integer from 1 to 1024, is 0"},
		"an unknown HTTP version":             {args: []string{"--http-version", "9"}, code: 2, want: ": --http-version: "},
		"a target that is no URL":             {args: []string{"-u", "ftp://model.example.com"}, code: 2, want: ": --target-url: "},
		"a target twice":                      {args: []string{"-u", "https://a.example.com", "-u", "https://b.example.com,https://a.example.com/"}, code: 2, want: `: --target-url: "https://a.example.com/" is named twice`},
		"a variable for the key that is none": {args: []string{"-k", "{env.NO_SUCH_VARIABLE}"}, code: 2, want: ": --upstream-api-key: the environment variable NO_SUCH_VARIABLE is unset"},
		"a key file that is missing":          {args: []string{"-k", missing}, code: 1, want: ": --upstream-api-key: reading the key file " + missing + ": no such file or directory"},
		"a key file that is empty":            {args: []string{"-k", empty}, code: 1, want: ": --upstream-api-key: reading the key file " + empty + ": "},
		"an empty value":                      {args: []string{"--client-keys", ""}, code: 2, want: "expected keys, separated by commas"},
		"a relative path of a key file":       {args: []string{"-k", "./key"}, code: 2, want: ": --upstream-api-key: the path of a key file must be absolute"},
		"a relative path in a variable":       {env: []string{"CLIENT_KEYS=~/keys"}, code: 2, want: ": --client-keys: the path of a key file must be absolute"},
		"a word for client keys in capitals":  {args: []string{"--client-keys", "ANY"}, code: 2, want: `: --client-keys: "ANY" is no key`},
		"any beside keys in a variable":       {env: []string{"CLIENT_KEYS=sk-one,any"}, code: 2, want: `: --client-keys: the environment variable CLIENT_KEYS: "any" is no key`},
		"keys and a path in a variable":       {env: []string{"CLIENT_KEYS=sk-one,/run/keys"}, code: 2, want: "invalid value of the environment variable CLIENT_KEYS: expected keys or paths"},
		"a time that is no number":            {args: []string{"--timeout-s", "NaN"}, code: 2, want: "expected a number of seconds"},
		"a time without an end in a variable": {env: []string{"TIMEOUT_S=inf"}, code: 2, want: "expected a number of seconds"},
		"the admin port on the proxy's":       {args: []string{"--bind", "127.0.0.1", "-p", "9", "--admin", "127.0.0.1:9"}, code: 2, want: ": --admin: expected another address and port than the proxy listens on, 127.0.0.1:9"},
		"the admin port on all addresses":     {args: []string{"-p", "9", "--admin", "localhost:9"}, code: 2, want: ": --admin: expected another address and port than the proxy listens on, :9"},
		"a port in use":                       {args: []string{"--bind", "127.0.0.1", "-p", taken}, code: 1, want: "listen tcp 127.0.0.1:" + taken + ": bind: address already in use"},
		"an admin port in use":                {args: []string{"--bind", "127.0.0.1", "-p", "0", "--admin", "127.0.0.1:" + taken}, code: 1, want: "listen tcp 127.0.0.1:" + taken + ": bind: address already in use"},
		"an address of another machine":       {args: []string{"--bind", "192.0.2.1", "-p", "0"}, code: 1, want: "listen tcp 192.0.2.1:0: bind: "},
	} {
		for as, path := range map[string]string{"program": program, "caddy": "caddy performance-proxy"} {
			t.Run(name+" of "+path, func(t *testing.T) {
				t.Parallel()
				args := test.args
				if as == "caddy" {
					args = slices.Concat([]string{"performance-proxy"}, args)
				}
				code, stdout, stderr := invocation{as: as, args: args, env: test.env}.run(t)
				if code != test.code {
					t.Errorf("got the exit code %d, want %d", code, test.code)
				}
				if stdout != "" {
					t.Errorf("it wrote to standard output: %s", stdout)
				}
				if !strings.HasPrefix(stderr, path) || !strings.Contains(stderr, test.want) || strings.Index(stderr, "\n") != len(stderr)-1 {
					t.Errorf("got the errors\n%swant one line of %s with\n%s", stderr, path, test.want)
				}
				if strings.Contains(stderr, "sk-") {
					t.Errorf("the error shows a key: %s", stderr)
				}
			})
		}
	}
}

func TestInformation(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"the help, short":         {args: []string{"-h"}, want: "-u, --target-url URL "},
		"the help, long":          {args: []string{"--help"}, want: "port to listen on [$PORT] (default 8080)"},
		"the help of the demo":    {args: []string{"demo", "--help"}, want: "--once"},
		"the version, short":      {args: []string{"-V"}, want: program + " "},
		"the version, long":       {args: []string{"--version"}, want: "(Caddy "},
		"the form of key paths":   {args: []string{"-h"}, want: "the key, or the absolute path of a file"},
		"the form of key lists":   {args: []string{"-h"}, want: "the absolute path of a file that holds them, or any"},
		"a key that is like demo": {args: []string{"-k", "demo", "--print-config"}, want: `"api_key": "demo"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := invocation{as: "program", args: test.args}.run(t)
			if code != 0 || stderr != "" || !strings.Contains(stdout, test.want) {
				t.Errorf("exit code %d, errors %q, output\n%swant %s", code, stderr, stdout, test.want)
			}
		})
	}
}

func TestCaddyKnowsTheModule(t *testing.T) {
	t.Parallel()
	code, stdout, _ := invocation{as: "caddy", args: []string{"list-modules", "--skip-standard"}}.run(t)
	if code != 0 || !strings.Contains(stdout, "http.handlers.performance_proxy\n") {
		t.Errorf("exit code %d, modules:\n%s", code, stdout)
	}
}

// get returns the status and the body of an answer.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestStopsWhenAsked(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		as     string
		args   []string
		signal os.Signal
	}{
		"the program, by SIGTERM":          {as: "program", signal: syscall.SIGTERM},
		"the program, by SIGINT":           {as: "program", signal: os.Interrupt},
		"the command of Caddy, by SIGTERM": {as: "caddy", args: []string{"performance-proxy"}, signal: syscall.SIGTERM},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := invocation{as: test.as, args: append(test.args, "--bind", "127.0.0.1", "--port", "0")}.start(t)
			if status, body := get(t, proxy.url+"/health"); status != http.StatusOK || !strings.Contains(body, `"healthy"`) {
				t.Errorf("health is %d %s", status, body)
			}
			if code := proxy.stop(t, test.signal); code != 0 {
				t.Errorf("got the exit code %d, want 0", code)
			}
			checkNothingWritten(t, proxy.home)
		})
	}
}

// checkNothingWritten fails when there is a file below dir.
func checkNothingWritten(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && path != dir {
			t.Errorf("it wrote %s", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// slowUpstream is a model server that holds each request until it is released.
func slowUpstream(t *testing.T) (url string, arrived <-chan struct{}, release func()) {
	t.Helper()
	came, held := make(chan struct{}, 1), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		came <- struct{}{}
		select {
		case <-held:
		case <-r.Context().Done():
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"object":"list","model":"m","data":[{"object":"embedding","index":0,"embedding":[0.5]}],"usage":{"prompt_tokens":1,"total_tokens":1}}`)
	}))
	t.Cleanup(server.Close)
	return server.URL, came, func() { close(held) }
}

func TestRunningRequestsFinishWhenStopped(t *testing.T) {
	t.Parallel()
	upstream, arrived, release := slowUpstream(t)
	proxy := invocation{as: "program", args: []string{
		"--bind", "127.0.0.1", "--port", "0", "-u", upstream, "--client-keys", "any",
	}}.start(t)

	type answer struct {
		status int
		body   string
		err    error
	}
	answered := make(chan answer, 1)
	go func() {
		resp, err := http.Post(proxy.url+"/v1/embeddings", "application/json", strings.NewReader(`{"model":"m","input":["a"]}`))
		if err != nil {
			answered <- answer{err: err}
			return
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		answered <- answer{resp.StatusCode, string(body), err}
	}()
	<-arrived
	if err := proxy.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	proxy.waitFor(t, "grace period initiated")
	release()
	if got := <-answered; got.err != nil || got.status != http.StatusOK || !strings.Contains(got.body, "0.5") {
		t.Errorf("the running request was answered %+v", got)
	}
	if code := proxy.wait(t); code != 0 {
		t.Errorf("got the exit code %d, want 0", code)
	}
}

func TestClientKeysOfTheEnvironmentAreChecked(t *testing.T) {
	t.Parallel()
	upstream := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(upstream.Close)
	proxy := invocation{
		as:   "program",
		args: []string{"--bind", "127.0.0.1", "--port", "0", "-u", upstream.URL},
		env:  []string{"CLIENT_KEYS=sk-one, sk-two"},
	}.start(t)
	for key, want := range map[string]int{
		"sk-one": http.StatusNotFound, "sk-two": http.StatusNotFound,
		"sk-one,sk-two": http.StatusUnauthorized, "{env.CLIENT_KEYS}": http.StatusUnauthorized,
	} {
		if got := postWithKey(t, proxy.url, key); got != want {
			t.Errorf("with the key %s the status is %d, want %d", key, got, want)
		}
	}
	if code := proxy.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("got the exit code %d, want 0", code)
	}
}

// postWithKey returns the status of a small request with a key.
func postWithKey(t *testing.T, url, key string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/embeddings", strings.NewReader(`{"input":["a"]}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

func TestKeysAreNotLogged(t *testing.T) {
	t.Parallel()
	upstream := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(upstream.Close)
	proxy := invocation{as: "program", args: []string{
		"--bind", "127.0.0.1", "--port", "0", "--log-level", "debug",
		"-u", upstream.URL, "-k", "sk-upstream", "--client-keys", "sk-client",
	}}.start(t)
	for key, want := range map[string]int{"sk-client": http.StatusNotFound, "sk-wrong": http.StatusUnauthorized} {
		if got := postWithKey(t, proxy.url, key); got != want {
			t.Errorf("with the key %s the status is %d, want %d", key, got, want)
		}
	}
	if code := proxy.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("got the exit code %d, want 0", code)
	}
	if log := proxy.log.String(); strings.Contains(log, "sk-") {
		t.Errorf("the log shows a key:\n%s", log)
	}
}

func TestWarnsOnceAtStart(t *testing.T) {
	t.Parallel()
	proxy := invocation{as: "program", args: []string{"--bind", "127.0.0.1", "--port", "0", "-k", "key"}}.start(t)
	proxy.waitFor(t, "can never be used")
	if code := proxy.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("got the exit code %d, want 0", code)
	}
	if n := strings.Count(proxy.log.String(), "can never be used"); n != 1 {
		t.Errorf("it warned %d times", n)
	}
}

func TestAdminServesMetrics(t *testing.T) {
	t.Parallel()
	free := listenAndClose(t)
	proxy := invocation{as: "program", args: []string{"--bind", "127.0.0.1", "--port", "0", "--admin", free}}.start(t)
	if status, body := get(t, "http://"+free+"/metrics"); status != http.StatusOK || !strings.Contains(body, "caddy_") {
		t.Errorf("the metrics are %d %s", status, body)
	}
	if code := proxy.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("got the exit code %d, want 0", code)
	}
	checkNothingWritten(t, proxy.home)
}

// listenAndClose returns an address whose port is free.
func listenAndClose(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	return ln.Addr().String()
}

func TestOverlap(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		a, b string
		want bool
	}{
		"the same address":                       {"127.0.0.1:80", "127.0.0.1:80", true},
		"a name of the same address":             {"127.0.0.1:80", "localhost:80", true},
		"all addresses and one of them":          {":80", "127.0.0.1:80", true},
		"one address and all":                    {"127.0.0.1:80", "0.0.0.0:80", true},
		"all IPv6 addresses and one of IPv4":     {"[::]:80", "127.0.0.1:80", true},
		"another port":                           {":80", ":81", false},
		"another address":                        {"127.0.0.1:80", "127.0.0.2:80", false},
		"ports that the system chooses":          {"127.0.0.1:0", "127.0.0.1:0", false},
		"a port that is chosen and one that not": {"127.0.0.1:0", "127.0.0.1:80", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := overlap(test.a, test.b); err != nil || got != test.want {
				t.Errorf("overlap(%q, %q) = %t, %v, want %t", test.a, test.b, got, err, test.want)
			}
		})
	}
}

// Caddy sets SO_REUSEPORT, with which a second proxy would share the port.
func TestSecondProxyOnThePortFails(t *testing.T) {
	t.Parallel()
	first := invocation{as: "program", args: []string{"--bind", "127.0.0.1", "--port", "0"}}.start(t)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(first.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	code, _, stderr := invocation{as: "program", args: []string{"--bind", "127.0.0.1", "--port", port}}.run(t)
	if code != 1 || !strings.Contains(stderr, "address already in use") {
		t.Errorf("exit code %d, errors: %s", code, stderr)
	}
}

func TestDemoOnce(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := invocation{as: "program", args: []string{"demo", "--once"}}.run(t)
	if code != 0 || stderr != "" || !strings.Contains(stdout, "5000") {
		t.Errorf("exit code %d, errors %q, output\n%s", code, stderr, stdout)
	}
}

func TestDemoStaysUpUntilStopped(t *testing.T) {
	t.Parallel()
	cmd := invocation{as: "program", args: []string{"demo"}}.command(t, t.TempDir())
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tried := false
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if strings.Contains(lines.Text(), "curl") && !tried {
			tried = true
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
		}
	}
	if err := cmd.Wait(); err != nil || !tried {
		t.Errorf("it ended with %v; printed a command to try: %t", err, tried)
	}
}
