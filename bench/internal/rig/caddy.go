package rig

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// startLimit is how long Caddy may take to serve.
	startLimit = 30 * time.Second
	// stopLimit is how long it may take to end.
	stopLimit = 30 * time.Second
	// keptLines is how many lines of the log are kept to say why Caddy failed.
	keptLines = 20
)

// A Config is a configuration of [Caddy].
type Config struct {
	// Proxy holds the lines inside the block of performance_proxy.
	Proxy string
	// AccessLog makes Caddy log every request.
	AccessLog bool
	// Address is where the proxy listens instead of [Caddy].URL, for
	// configurations that cannot be started.
	Address string
	// More is Caddyfile text behind the site of the proxy.
	More string
}

// CaddyOptions say how Caddy is run.
type CaddyOptions struct {
	// Binary is the program, see [Binary].
	Binary string
	Config Config
	// Log gets each line that Caddy writes, from one goroutine; nil for none. The
	// line is not to be kept.
	Log func(line []byte)
}

// Caddy is the real program, running, with the proxy on a port of loopback and
// the admin endpoint on a Unix socket. It is safe for concurrent use.
type Caddy struct {
	// URL is where the proxy listens.
	URL string

	address string
	dir     string
	cmd     *exec.Cmd
	admin   *http.Client
	// ended is closed when the process is gone; exit is set before.
	ended chan struct{}
	exit  error
	stop  sync.Once

	mu   sync.Mutex
	last []string // the last lines of the log
}

// StartCaddy starts Caddy and waits until it serves. It is to be stopped.
func StartCaddy(ctx context.Context, o CaddyOptions) (*Caddy, error) {
	address, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	// Names of sockets are short.
	dir, err := os.MkdirTemp("", "rig")
	if err != nil {
		return nil, err
	}
	c := &Caddy{URL: "http://" + address, address: address, dir: dir, ended: make(chan struct{})}
	c.admin = &http.Client{Transport: &http.Transport{
		// Each reload replaces the admin endpoint and closes the connections to the
		// old one.
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", c.socket())
		},
	}}
	if err := c.start(ctx, o); err != nil {
		return nil, errors.Join(fmt.Errorf("starting Caddy: %w", err), os.RemoveAll(dir))
	}
	return c, nil
}

// start starts the process and waits until it serves.
func (c *Caddy) start(ctx context.Context, o CaddyOptions) error {
	file := filepath.Join(c.dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(c.caddyfile(o.Config)), 0o600); err != nil {
		return err
	}
	// It is stopped by Stop, and not with the context: then it would be killed.
	c.cmd = exec.Command(o.Binary, "run", "--config", file, "--adapter", "caddyfile")
	c.cmd.Env = []string{"HOME=" + c.dir}
	stderr, err := c.cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := c.cmd.Start(); err != nil {
		return err
	}
	serving := make(chan struct{})
	go c.wait(stderr, o.Log, serving)
	select {
	case <-serving:
		return nil
	case <-c.ended:
		return fmt.Errorf("it ended: %w\n%s", c.exit, c.lastLines())
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), c.Stop())
	case <-time.After(startLimit):
		return errors.Join(fmt.Errorf("it does not serve after %v\n%s", startLimit, c.lastLines()), c.Stop())
	}
}

// wait reads the log until the process ends. It closes serving when the process
// has begun to serve.
func (c *Caddy) wait(stderr io.Reader, log func([]byte), serving chan struct{}) {
	begun := false
	lines := bufio.NewReader(stderr)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			if log != nil {
				log(line)
			}
			c.keep(string(line))
		}
		if !begun && strings.Contains(string(line), "serving initial configuration") {
			begun = true
			close(serving)
		}
		if err != nil {
			break
		}
	}
	c.exit = c.cmd.Wait()
	close(c.ended)
}

func (c *Caddy) keep(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.last) == keptLines {
		c.last = append(c.last[:0], c.last[1:]...)
	}
	c.last = append(c.last, line)
}

func (c *Caddy) lastLines() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.last, "")
}

// Ended is closed when Caddy has ended, by itself or because it was stopped.
func (c *Caddy) Ended() <-chan struct{} { return c.ended }

// Stop asks Caddy to end, waits for that and removes its files. The error says
// that it did not end well. Only the first call does anything.
func (c *Caddy) Stop() (err error) {
	c.stop.Do(func() {
		// It fails when the process is gone, which is seen below.
		_ = c.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-c.ended:
		case <-time.After(stopLimit):
			err = fmt.Errorf("it did not end within %v", stopLimit)
			_ = c.cmd.Process.Kill()
			<-c.ended
		}
		c.admin.CloseIdleConnections()
		if err == nil {
			err = c.exit
		}
		if err != nil {
			err = fmt.Errorf("stopping Caddy: %w\n%s", err, c.lastLines())
		}
		err = errors.Join(err, os.RemoveAll(c.dir))
	})
	return err
}

func (c *Caddy) socket() string { return filepath.Join(c.dir, "admin.sock") }

// caddyfile makes the Caddyfile of a configuration. The grace period is longer
// than any request of these programs.
func (c *Caddy) caddyfile(config Config) string {
	log := ""
	if config.AccessLog {
		log = "log"
	}
	_, port, _ := net.SplitHostPort(cmp.Or(config.Address, c.address))
	return fmt.Sprintf(`{
	admin unix/%s
	persist_config off
	grace_period 2m
	auto_https off
}
http://:%s {
	bind 127.0.0.1
	%s
	performance_proxy {
		%s
	}
}
%s
`, c.socket(), port, log, config.Proxy, config.More)
}
