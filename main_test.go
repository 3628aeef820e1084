package performanceproxy

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

// runAs makes the test binary behave as a program, so that exit codes and
// signals are tested without a second build.
const runAs = "PERFORMANCE_PROXY_TEST_RUN_AS"

func TestMain(m *testing.M) {
	switch os.Getenv(runAs) {
	case "program":
		os.Exit(Main(os.Args[1:]...))
	case "caddy":
		caddycmd.Main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// An invocation is one run of the program or of Caddy.
type invocation struct {
	as   string
	args []string
	env  []string
}

// command returns the process of the invocation. It has no environment but its
// own and a home directory that is empty at first.
func (i invocation) command(t *testing.T, home string) *exec.Cmd {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), executable, i.args...)
	cmd.Env = append([]string{runAs + "=" + i.as, "HOME=" + home, "GOCOVERDIR=" + t.TempDir()}, i.env...)
	return cmd
}

// run runs the invocation to its end.
func (i invocation) run(t *testing.T) (code int, stdout, stderr string) {
	t.Helper()
	cmd := i.command(t, t.TempDir())
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), out.String(), errOut.String()
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0, out.String(), errOut.String()
}

// A process is the proxy, running.
type process struct {
	cmd *exec.Cmd
	// url is where it listens.
	url  string
	home string
	// lines receives the lines of its log.
	lines chan string
	log   syncBuffer
}

// launch starts the invocation.
func (i invocation) launch(t *testing.T) *process {
	t.Helper()
	p := &process{home: t.TempDir(), lines: make(chan string, 1024)}
	p.cmd = i.command(t, p.home)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.read(stderr)
	}()
	t.Cleanup(func() {
		// The process is gone already when the test passed.
		_ = p.cmd.Process.Kill()
		<-done
		_ = p.cmd.Wait()
	})
	return p
}

// start starts the proxy and waits until it serves.
func (i invocation) start(t *testing.T) *process {
	t.Helper()
	p := i.launch(t)
	var serving struct{ Address string }
	if err := json.Unmarshal([]byte(p.waitFor(t, `"serving"`)), &serving); err != nil {
		t.Fatal(err)
	}
	p.url = "http://" + serving.Address
	return p
}

// read keeps what the process logs until it ends.
func (p *process) read(stderr io.Reader) {
	defer close(p.lines)
	for scanner := bufio.NewScanner(stderr); scanner.Scan(); {
		_, _ = p.log.Write(append(scanner.Bytes(), '\n'))
		p.lines <- scanner.Text()
	}
}

// waitFor returns the next line of the log that holds the text.
func (p *process) waitFor(t *testing.T, text string) string {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				t.Fatalf("the proxy ended without logging %s:\n%s", text, p.log.String())
			}
			if strings.Contains(line, text) {
				return line
			}
		case <-timeout:
			t.Fatalf("the proxy did not log %s:\n%s", text, p.log.String())
		}
	}
}

// stop sends a signal and returns the exit code.
func (p *process) stop(t *testing.T, signal os.Signal) int {
	t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	return p.wait(t)
}

// wait waits for the process to end and returns its exit code.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for open := true; open; {
		select {
		case _, open = <-p.lines:
		case <-timeout:
			t.Fatalf("the proxy did not end:\n%s", p.log.String())
		}
	}
	err := p.cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	} else if ok {
		return exit.ExitCode()
	}
	return 0
}

// A syncBuffer is a buffer that is safe for concurrent use.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
