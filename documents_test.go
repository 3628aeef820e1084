package performanceproxy

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/basetenlabs/caddy-performance-proxy/demo"
	"github.com/basetenlabs/caddy-performance-proxy/handler"
)

// A block is a fenced block of a document.
type block struct {
	language, text string
	line           int
}

// blocks returns the fenced blocks of a document.
func blocks(t *testing.T, file string) []block {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var found []block
	inside := false
	for i, line := range strings.Split(string(text), "\n") {
		language, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && !inside:
			inside = true
			found = append(found, block{language: language, line: i + 1})
		case fence:
			inside = false
		case inside:
			found[len(found)-1].text += line + "\n"
		}
	}
	if inside || len(found) == 0 {
		t.Fatalf("%s has no blocks, or one that does not end", file)
	}
	return found
}

// TestBlocksOfTheDocuments runs or adapts every block of the documents. A block
// in a language that it does not know fails, and so does a command.
func TestBlocksOfTheDocuments(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"README.md", "CONTRIBUTING.md"} {
		for _, b := range blocks(t, file) {
			t.Run(file+" "+b.language+" block", func(t *testing.T) {
				t.Parallel()
				t.Logf("%s:%d", file, b.line)
				switch b.language {
				case "caddyfile":
					checkCaddyfile(t, b.text)
				case "json":
					checkHandlerJSON(t, b.text)
				case "sh":
					for command := range commands(b.text) {
						runCommand(t, command)
					}
				case "mermaid":
					if !strings.HasPrefix(b.text, "flowchart ") {
						t.Error("expected a flowchart")
					}
				case "":
					// A picture of an output or of folders.
				default:
					t.Errorf("nobody checks blocks in %q", b.language)
				}
			})
		}
	}
}

// checkCaddyfile validates a Caddyfile: it is adapted, and all of it provisioned.
func checkCaddyfile(t *testing.T, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := invocation{
		as:   "caddy",
		args: []string{"validate", "--adapter", "caddyfile", "--config", file},
		env:  []string{"BASETEN_API_KEY=key", "CLIENT_KEY=key", "MODEL_CA=" + authorityFile(t)},
	}.run(t)
	if code != 0 || strings.Contains(stderr, "not formatted") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// authorityFile returns the name of a file with a certificate.
func authorityFile(t *testing.T) string {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(file, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// checkHandlerJSON provisions the handler that a JSON block configures.
func checkHandlerJSON(t *testing.T, text string) {
	t.Helper()
	replaced := strings.NewReplacer("{env.BASETEN_API_KEY}", "key", "{env.CLIENT_KEY}", "key").Replace(text)
	var members map[string]json.RawMessage
	if err := json.Unmarshal([]byte(replaced), &members); err != nil {
		t.Fatal(err)
	}
	if string(members["handler"]) != `"performance_proxy"` {
		t.Fatalf("it configures %s", members["handler"])
	}
	delete(members, "handler")
	own, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	var h handler.Handler
	if err := caddy.StrictUnmarshalJSON(own, &h); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	if err := h.Provision(ctx); err != nil {
		t.Error(err)
	}
	if err := h.Cleanup(); err != nil {
		t.Error(err)
	}
}

// commands yields the commands of a shell block, each on one line.
func commands(text string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for command := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
			if !yield(strings.TrimSpace(command)) {
				return
			}
		}
	}
}

// documentedPort is where the documents' proxy listens.
var documentedPort = regexp.MustCompile(`http://127\.0\.0\.1:8080\b`)

// runCommand runs a command of a document the way that a test can: programs of
// this module as the test's own process, curl against a proxy on a free port.
func runCommand(t *testing.T, command string) {
	t.Helper()
	words := strings.Fields(command)
	switch {
	case command == "go test ./...":
		// It is what runs this test.
	case command == "go run ./cmd/baseten-performance-proxy demo":
		code, stdout, stderr := invocation{as: "program", args: []string{"demo", "--once"}}.run(t)
		if lines := strings.Split(strings.TrimSpace(stdout), "\n"); code != 0 || !strings.Contains(lines[len(lines)-1], "5000 of 5000 vectors") {
			t.Errorf("exit code %d: %s%s", code, stdout, stderr)
		}
	case command == "go build ./cmd/baseten-performance-proxy":
		if out, err := exec.CommandContext(t.Context(), "go", "vet", "./cmd/baseten-performance-proxy").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	case strings.HasPrefix(command, "go run ./bench/"):
		// It takes minutes, and is run by itself.
		if out, err := exec.CommandContext(t.Context(), "go", "vet", words[2]).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	case strings.HasPrefix(command, "go test ./engine "):
		few := strings.Replace(command, "-simulation.seeds 1000", "-simulation.seeds 10", 1)
		if out, err := exec.CommandContext(t.Context(), "sh", "-c", few).CombinedOutput(); err != nil || few == command {
			t.Errorf("%v: %s", err, out)
		}
	case words[0] == "./baseten-performance-proxy":
		port := slices.Index(words, "--port")
		args := slices.Concat(words[1:port], []string{"--port", "0", "--bind", "127.0.0.1"}, words[port+2:])
		proxy := invocation{as: "program", args: args}.start(t)
		if status, _ := get(t, proxy.url+"/health"); status != http.StatusOK {
			t.Errorf("health is %d", status)
		}
		if code := proxy.stop(t, os.Interrupt); code != 0 {
			t.Errorf("exit code %d", code)
		}
	case words[0] == "curl":
		runCurl(t, command)
	default:
		t.Errorf("nobody runs %q", command)
	}
}

// runCurl runs a curl line against a proxy before the demonstration's model
// server and expects two embeddings.
func runCurl(t *testing.T, command string) {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	upstream := httptest.NewServer(demo.NewServer(demo.ServerOptions{}))
	t.Cleanup(upstream.Close)
	proxy := invocation{as: "program", args: []string{
		"--port", "0", "--bind", "127.0.0.1", "--target-url", upstream.URL, "--client-keys", "any",
	}}.start(t)
	line := documentedPort.ReplaceAllString(command, proxy.url)
	if line == command {
		t.Fatalf("it asks another server: %s", command)
	}
	curl := exec.CommandContext(t.Context(), "sh", "-c", line+" --silent --show-error --fail-with-body")
	var stderr bytes.Buffer
	curl.Stderr = &stderr
	stdout, err := curl.Output()
	if err != nil {
		t.Fatalf("%v: %s%s", err, stdout, stderr.String())
	}
	var answer struct{ Data []json.RawMessage }
	if err := json.Unmarshal(stdout, &answer); err != nil || len(answer.Data) != 2 {
		t.Errorf("%v: %s", err, stdout)
	}
}

// TestEverySettingIsInTheReadme holds the tables of the README against the
// handler's configuration.
func TestEverySettingIsInTheReadme(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[handler.Handler]()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name != "" && !bytes.Contains(readme, []byte("`"+name)) {
			t.Errorf("%s is not in the tables", name)
		}
	}
}
