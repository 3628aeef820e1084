package rig

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	// adminTries is how often the admin endpoint is asked when it closes the
	// connection, which it does while it is replaced.
	adminTries = 10
	adminPause = 50 * time.Millisecond
)

// RefusedError is a configuration that Caddy did not load.
type RefusedError struct {
	Status int
	Reason string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("Caddy refused the configuration with %d: %s", e.Status, e.Reason)
}

// Load gives Caddy another configuration. The error is a [RefusedError] when
// Caddy does not take it, and keeps the old one.
func (c *Caddy) Load(ctx context.Context, config Config) error {
	status, answer, err := c.ask(ctx, http.MethodPost, "/load", c.caddyfile(config))
	if err != nil {
		return fmt.Errorf("reloading: %w", err)
	}
	if status != http.StatusOK {
		return &RefusedError{Status: status, Reason: answer}
	}
	return nil
}

// Running returns the configuration that is in force, as JSON.
func (c *Caddy) Running(ctx context.Context) (string, error) { return c.get(ctx, "/config/") }

// Goroutines are those of a process.
type Goroutines struct {
	Total int
	// Stacks has one stack for all goroutines that have the same.
	Stacks []Stack
}

// A Stack is where goroutines are.
type Stack struct {
	Count int
	Text  string
}

// stackFrame is a line of a stack: the function and where in it.
var stackFrame = regexp.MustCompile(`(?m)^#\t0x[0-9a-f]+\t(.+?)\+0x`)

// Functions returns the functions of a stack, the innermost first.
func (s Stack) Functions() (names []string) {
	for _, frame := range stackFrame.FindAllStringSubmatch(s.Text, -1) {
		names = append(names, frame[1])
	}
	return names
}

// In returns the stacks that lead through a package of this module, such as
// engine, or one below it.
func (g Goroutines) In(packages ...string) (found []Stack) {
	for _, stack := range g.Stacks {
		for _, name := range packages {
			path := modulePath + "/" + name
			if strings.Contains(stack.Text, path+".") || strings.Contains(stack.Text, path+"/") {
				found = append(found, stack)
				break
			}
		}
	}
	return found
}

// Goroutines returns the goroutines of Caddy.
func (c *Caddy) Goroutines(ctx context.Context) (Goroutines, error) {
	text, err := c.get(ctx, "/debug/pprof/goroutine?debug=1")
	if err != nil {
		return Goroutines{}, err
	}
	return parseGoroutines(text)
}

// stackHead is the line before a stack: how many goroutines have it.
var stackHead = regexp.MustCompile(`^(\d+) @`)

// parseGoroutines reads a profile of goroutines in its text form.
func parseGoroutines(text string) (g Goroutines, err error) {
	if !strings.HasPrefix(text, "goroutine profile: total ") {
		return g, fmt.Errorf("no profile of goroutines: %.100s", text)
	}
	for block := range strings.SplitSeq(text, "\n\n") {
		_, block, _ = cutHeadline(block)
		head := stackHead.FindStringSubmatch(block)
		if head == nil {
			continue
		}
		count, err := strconv.Atoi(head[1])
		if err != nil {
			return g, fmt.Errorf("reading a profile of goroutines: %w", err)
		}
		g.Total += count
		g.Stacks = append(g.Stacks, Stack{Count: count, Text: block})
	}
	return g, nil
}

// cutHeadline takes the headline of the profile off its first block.
func cutHeadline(block string) (headline, rest string, found bool) {
	if !strings.HasPrefix(block, "goroutine profile:") {
		return "", strings.TrimLeft(block, "\n"), false
	}
	return strings.Cut(block, "\n")
}

// heapAlloc is the line of a heap profile that says how much is allocated.
var heapAlloc = regexp.MustCompile(`(?m)^# HeapAlloc = (\d+)$`)

// Heap returns how many bytes Caddy has on its heap after collecting garbage.
func (c *Caddy) Heap(ctx context.Context) (int64, error) {
	var text string
	// What pools hold is let go by the second collection only.
	for range 3 {
		var err error
		if text, err = c.get(ctx, "/debug/pprof/heap?gc=1&debug=1"); err != nil {
			return 0, err
		}
	}
	return parseHeap(text)
}

// parseHeap reads a profile of the heap in its text form.
func parseHeap(text string) (int64, error) {
	found := heapAlloc.FindStringSubmatch(text)
	if found == nil {
		return 0, fmt.Errorf("no profile of the heap: %.100s", text)
	}
	return strconv.ParseInt(found[1], 10, 64)
}

// get asks the admin endpoint for something.
func (c *Caddy) get(ctx context.Context, path string) (string, error) {
	status, answer, err := c.ask(ctx, http.MethodGet, path, "")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d: %s", status, answer)
	}
	if err != nil {
		return "", fmt.Errorf("asking Caddy for %s: %w", path, err)
	}
	return answer, nil
}

// ask sends a request to the admin endpoint, again when it is not answered.
func (c *Caddy) ask(ctx context.Context, method, path, body string) (status int, answer string, err error) {
	for range adminTries {
		if status, answer, err = c.askOnce(ctx, method, path, body); err == nil || ctx.Err() != nil {
			return status, answer, err
		}
		select {
		case <-c.ended:
			return 0, "", fmt.Errorf("Caddy has ended: %w\n%s", err, c.lastLines())
		case <-time.After(adminPause):
		}
	}
	return 0, "", err
}

func (c *Caddy) askOnce(ctx context.Context, method, path, body string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	if body != "" {
		req.Header.Set("Content-Type", "text/caddyfile")
	}
	resp, err := c.admin.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(answer), err
}
