package performanceproxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

// overSocket returns a client that reaches a Unix socket whatever the host.
func overSocket(t *testing.T, path string) *http.Client {
	t.Helper()
	transport := &http.Transport{
		MaxIdleConnsPerHost: 16,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// runningCaddy is Caddy with a Caddyfile, on Unix sockets so that no port is
// taken.
type runningCaddy struct {
	process      *process
	admin, proxy *http.Client
	dir          string
}

// caddyfile writes the Caddyfile of a proxy with further subdirectives.
func (c *runningCaddy) caddyfile(upstream, subdirectives string) string {
	return fmt.Sprintf(`{
	admin unix/%[1]s/admin.sock
	persist_config off
	grace_period 10s
	auto_https off
}
http:// {
	bind unix/%[1]s/proxy.sock
	log
	performance_proxy %[2]s {
		%[3]s
	}
}
`, c.dir, upstream, subdirectives)
}

// startCaddy runs Caddy until the test ends.
func startCaddy(t *testing.T, upstream, subdirectives string) *runningCaddy {
	t.Helper()
	// Names of sockets are short.
	dir, err := os.MkdirTemp("", "pp")
	if err != nil {
		t.Fatal(err)
	}
	c := &runningCaddy{dir: dir}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	file := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(c.caddyfile(upstream, subdirectives)), 0o600); err != nil {
		t.Fatal(err)
	}
	c.process = invocation{as: "caddy", args: []string{"run", "--config", file}}.launch(t)
	c.process.waitFor(t, "serving initial configuration")
	c.admin, c.proxy = overSocket(t, dir+"/admin.sock"), overSocket(t, dir+"/proxy.sock")
	return c
}

// reload gives Caddy another Caddyfile.
func (c *runningCaddy) reload(t *testing.T, upstream, subdirectives string) {
	t.Helper()
	if status, answer := c.load(t, upstream, subdirectives); status != http.StatusOK {
		t.Fatalf("the reload got %d %s", status, answer)
	}
}

// load gives Caddy another Caddyfile and returns its answer. Each reload replaces
// the admin endpoint, too, and closes connections to the old one.
func (c *runningCaddy) load(t *testing.T, upstream, subdirectives string) (status int, answer []byte) {
	t.Helper()
	c.admin.CloseIdleConnections()
	text := c.caddyfile(upstream, subdirectives)
	resp, err := c.admin.Post("http://localhost/load", "text/caddyfile", strings.NewReader(text))
	for tries := 0; err != nil && tries < 5; tries++ {
		resp, err = c.admin.Post("http://localhost/load", "text/caddyfile", strings.NewReader(text))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if answer, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, answer
}

// embed sends a request and returns an error unless every vector is right.
func (c *runningCaddy) embed(ctx context.Context, upstream *enginetest.Upstream, items []string, headers http.Header) error {
	body, err := json.Marshal(map[string]any{"input": items})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/v1/embeddings", strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	maps.Copy(req.Header, headers)
	resp, err := c.proxy.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	var embeddings struct {
		Data []struct{ Embedding json.RawMessage }
	}
	if err := json.Unmarshal(answer, &embeddings); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%d %.200s", resp.StatusCode, answer)
	}
	for i, item := range items {
		if i >= len(embeddings.Data) || string(embeddings.Data[i].Embedding) != enginetest.Vector(item, upstream.Dims) {
			return fmt.Errorf("vector %d is wrong", i)
		}
	}
	return nil
}

// TestReloadLeavesRequestsUnderWay reloads several times while requests wait for
// the upstream.
func TestReloadLeavesRequestsUnderWay(t *testing.T) {
	t.Parallel()
	const requests = 8
	upstream, release := enginetest.New(), make(chan struct{})
	upstream.Script = enginetest.Always(enginetest.Hold(release))
	target := upstream.Serve(t)
	c := startCaddy(t, target, "client_keys any")
	var clients sync.WaitGroup
	for client := range requests {
		clients.Go(func() {
			if err := c.embed(t.Context(), upstream, []string{fmt.Sprintf("text %d", client)}, nil); err != nil {
				t.Errorf("client %d: %v", client, err)
			}
		})
	}
	upstream.Await(t, requests)
	for i := range 5 {
		c.reload(t, target, fmt.Sprintf("client_keys any\nbatch_size %d", 5+i))
	}
	close(release)
	clients.Wait()
}

// TestReloadUnderLoadFailsNoRequest reloads again and again while clients send
// requests. Caddy itself closes connections on which it has read nothing yet
// when it reloads, as the server of net/http does when it shuts down: to send a
// request again that got no answer at all is the client's part.
func TestReloadUnderLoadFailsNoRequest(t *testing.T) {
	t.Parallel()
	upstream := enginetest.New()
	target := upstream.Serve(t)
	c := startCaddy(t, target, "client_keys any")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var clients sync.WaitGroup
	var answered atomic.Int64
	enough := make(chan struct{}, 1024)
	for client := range 4 {
		items := make([]string, 100+50*client)
		for i := range items {
			items[i] = fmt.Sprintf("client %d text %d", client, i)
		}
		clients.Go(func() {
			for ctx.Err() == nil {
				err := c.embed(context.WithoutCancel(ctx), upstream, items, nil)
				if _, unanswered := errors.AsType[*url.Error](err); unanswered {
					continue
				}
				if err != nil {
					t.Errorf("client %d: %v", client, err)
					return
				}
				answered.Add(1)
				select {
				case enough <- struct{}{}:
				default:
				}
			}
		})
	}
	for i := range 10 {
		<-enough
		c.reload(t, target, fmt.Sprintf("client_keys any\nbatch_size %d", 5+i))
	}
	cancel()
	clients.Wait()
	if answered.Load() < 10 {
		t.Errorf("only %d requests were answered", answered.Load())
	}
}

// TestActiveChecksBeginWhenCaddyRuns holds that nobody asks an endpoint for its
// health for a configuration that is only tried, or that fails to load.
func TestActiveChecksBeginWhenCaddyRuns(t *testing.T) {
	t.Parallel()
	// The upstream answers 400 to what is no request for embeddings.
	const checks = "client_keys any\nhealth_uri /ready\nhealth_interval 1h\nhealth_status 4xx\n"
	upstream := enginetest.New()
	target := upstream.Serve(t)
	file := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(file, []byte("http:// {\nperformance_proxy "+target+" {\n"+checks+"}\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := (invocation{as: "caddy", args: []string{"validate", "--adapter", "caddyfile", "--config", file}}).run(t); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	if calls := len(upstream.Calls()); calls != 0 {
		t.Errorf("validating asked %d times", calls)
	}

	c := startCaddy(t, target, checks)
	upstream.Await(t, 1)
	if call := upstream.Calls()[0]; call.Method != http.MethodGet || call.Path != "/ready" {
		t.Errorf("it was asked %s %s", call.Method, call.Path)
	}
	c.reload(t, target, checks+"batch_size 8")
	upstream.Await(t, 2)

	if status, _ := c.load(t, target, checks+"api_key {env.NO_SUCH_VARIABLE}"); status == http.StatusOK {
		t.Fatal("a bad configuration was loaded")
	}
	if err := c.embed(t.Context(), upstream, []string{"a"}, nil); err != nil {
		t.Error(err)
	}
	if calls := len(upstream.Calls()); calls != 3 {
		t.Errorf("there were %d calls, want two checks and a request", calls)
	}
}

// TestSecretsShowNowhere looks for keys in the running configuration and in
// everything that Caddy logs.
func TestSecretsShowNowhere(t *testing.T) {
	t.Parallel()
	upstream := enginetest.New()
	keys := t.TempDir()
	for name, key := range map[string]string{"upstream": "sk-operator-secret\n", "clients": "sk-client-secret\n"} {
		if err := os.WriteFile(filepath.Join(keys, name), []byte(key), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	target := upstream.Serve(t)
	c := startCaddy(t, target, "api_key "+keys+"/upstream\nclient_keys {file."+keys+"/clients}")
	client := http.Header{"Authorization": {"Bearer sk-client-secret"}}
	if err := c.embed(t.Context(), upstream, []string{"a"}, client); err != nil {
		t.Fatal(err)
	}
	if got := upstream.Calls()[0].Header.Get("Authorization"); got != "Bearer sk-operator-secret" {
		t.Errorf("the upstream got %q", got)
	}
	for _, wrong := range []http.Header{
		{"Authorization": {"Bearer sk-wrong-secret"}},
		{"Authorization": {"Bearer sk-client-secret"}, "Request-Timeout-Ms": {"x"}},
	} {
		if err := c.embed(t.Context(), upstream, []string{"a"}, wrong); err == nil {
			t.Error("a wrong request was answered")
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error shows a key: %v", err)
		}
	}
	// An upstream that is gone makes an error that is logged.
	c.reload(t, "http://127.0.0.1:1", "api_key "+keys+"/upstream")
	if err := c.embed(t.Context(), upstream, []string{"a"}, nil); err == nil {
		t.Error("a request without an upstream was answered")
	}
	resp, err := c.admin.Get("http://localhost/config/")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	config, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(config), keys) || strings.Contains(string(config), "secret") {
		t.Errorf("the configuration is %s", config)
	}
	if code := c.process.stop(t, os.Interrupt); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if log := c.process.log.String(); !strings.Contains(log, "handled request") || strings.Contains(log, "secret") {
		t.Errorf("the log is %s", log)
	}
}

// TestThreeTypingErrors holds what a new user is told who types a Caddyfile by
// hand.
func TestThreeTypingErrors(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ subdirective, want string }{
		"a name":   {"batchsize 32", "batch_size"},
		"a number": {"batch_size many", "batch_size"},
		"a range":  {"batch_size 5000", "1024"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "Caddyfile")
			text := ":8080 {\n\tperformance_proxy http://127.0.0.1:9 {\n\t\ttimeout_s 30\n\t\t" + test.subdirective + "\n\t}\n}\n"
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			code, _, stderr := invocation{as: "caddy", args: []string{"validate", "--adapter", "caddyfile", "--config", file}}.run(t)
			if code == 0 || !strings.Contains(stderr, test.want) {
				t.Errorf("exit code %d: %s", code, stderr)
			}
			if !strings.Contains(stderr, "Caddyfile:4") {
				t.Errorf("the line is not named: %s", stderr)
			}
		})
	}
}
