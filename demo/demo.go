// Package demo shows what the proxy does, without an account or a download: it
// brings a small but real model server of its own, embeds some thousand texts
// with and without the proxy, and compares time and digits.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Options are the settings of the demonstration.
type Options struct {
	// Out is where the demonstration writes its table.
	Out io.Writer

	// Terminal says that Out is a terminal, on which a progress bar is drawn.
	Terminal bool

	// Once ends the demonstration after the comparison, so that the summary is
	// the last line that is written. Else it stays up and says how to try more.
	Once bool

	// Texts is how many texts are embedded. Default: 5000.
	Texts int

	// Proxy starts the proxy before a model server, which has no key, and returns
	// the proxy's URL, without a slash at its end, and a function that stops it.
	// The model server answers 429 over 512 texts in flight, so the proxy should
	// not have more than 16 batches of 32 in flight.
	Proxy func(ctx context.Context, target string) (url string, stop func(), err error)
}

// directBatch is the largest batch that the model server takes.
const directBatch = 32

// Run runs the demonstration until it is done or ctx ends. The error is a
// [*MismatchError] when a vector is not the same through the proxy, and wraps a
// [*StatusError] when the model server or the proxy refuses what it should take.
func Run(ctx context.Context, o Options) error {
	if o.Texts <= 0 {
		o.Texts = 5000
	}
	server := NewServer(ServerOptions{Delay: BatchDelay, MaxBatch: directBatch})
	upstream, stopServer, err := listen(server)
	if err != nil {
		return fmt.Errorf("starting the model server: %w", err)
	}
	defer stopServer()
	proxy, stopProxy, err := o.Proxy(ctx, upstream)
	if err != nil {
		return fmt.Errorf("starting the proxy: %w", err)
	}
	defer stopProxy()

	d := &demonstration{
		out:      o.Out,
		progress: newProgress(o.Out, o.Terminal),
		server:   server,
		client:   newClient(),
		upstream: upstream,
		proxy:    proxy,
		texts:    corpus(o.Texts),
	}
	defer d.client.close()
	if err := d.compare(ctx); err != nil || o.Once {
		return err
	}
	if err := d.printCommands(); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// listen serves a handler on a free port of the loopback address. The function
// that it returns closes all connections and waits until the listener is gone.
func listen(handler http.Handler) (url string, stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// It always ends with an error: of Close, or else the requests fail.
		_ = server.Serve(listener)
	}()
	stop = func() {
		// All that can fail is to close a listener that is closed already.
		_ = server.Close()
		<-done
	}
	return "http://" + listener.Addr().String(), stop, nil
}

// demonstration is one run: the servers are up, and texts are embedded.
type demonstration struct {
	out      io.Writer
	progress progress
	server   *Server
	client   *client
	upstream string // URL of the model server
	proxy    string // URL of the proxy
	texts    []string
}

// compare embeds the texts in all ways, writes a table of it, and counts the
// vectors that are the same.
func (d *demonstration) compare(ctx context.Context) error {
	whole, err := requestBody(d.texts)
	if err != nil {
		return fmt.Errorf("writing the request: %w", err)
	}
	if err := d.printHead(len(whole)); err != nil {
		return err
	}
	if err := d.tryWhole(ctx, whole); err != nil {
		return err
	}
	answers, slow, err := d.embedDirect(ctx)
	if err != nil {
		return fmt.Errorf("embedding %d texts at a time without the proxy: %w", directBatch, err)
	}
	if err := d.printRow(fmt.Sprintf("direct, %d at a time, one by one", directBatch), len(answers), slow, ""); err != nil {
		return err
	}
	answer, quick, err := d.embedProxied(ctx, whole)
	if err != nil {
		return fmt.Errorf("embedding %d texts through the proxy: %w", len(d.texts), err)
	}
	faster := fmt.Sprintf("%.1f times faster", slow.Seconds()/quick.Seconds())
	if err := d.printRow("through the proxy, in one request", 1, quick, faster); err != nil {
		return err
	}

	direct, err := parseBatches(answers, directBatch, len(d.texts))
	if err != nil {
		return fmt.Errorf("reading the model server's answer: %w", err)
	}
	proxied, err := parseAnswer(answer, len(d.texts))
	if err != nil {
		return fmt.Errorf("reading the proxy's answer: %w", err)
	}
	same := countSame(direct, proxied)
	if err := d.printSummary(same, faster); err != nil {
		return err
	}
	if same < len(d.texts) {
		return &MismatchError{Same: same, Total: len(d.texts)}
	}
	return nil
}

// tryWhole sends all texts in one request to the model server, to show that it
// refuses them.
func (d *demonstration) tryWhole(ctx context.Context, whole []byte) error {
	const way = "direct, in one request"
	start := time.Now()
	_, err := d.client.embed(ctx, d.upstream, whole)
	var refused *StatusError
	switch {
	case errors.As(err, &refused):
		return d.printRow(way, 1, 0, fmt.Sprintf("refused with %d: %s", refused.Status, refused.Message))
	case err != nil:
		return fmt.Errorf("embedding %d texts without the proxy: %w", len(d.texts), err)
	}
	return d.printRow(way, 1, time.Since(start), "")
}

// embedDirect sends the texts to the model server in as large batches as it
// takes, one after the other on one connection, and returns its answers and the
// time from the first request to the end of the last answer.
func (d *demonstration) embedDirect(ctx context.Context) ([][]byte, time.Duration, error) {
	var bodies [][]byte
	for first := 0; first < len(d.texts); first += directBatch {
		body, err := requestBody(d.texts[first:min(first+directBatch, len(d.texts))])
		if err != nil {
			return nil, 0, err
		}
		bodies = append(bodies, body)
	}
	defer d.watch("direct")()
	answers := make([][]byte, len(bodies))
	start := time.Now()
	for i, body := range bodies {
		var err error
		if answers[i], err = d.client.embed(ctx, d.upstream, body); err != nil {
			return nil, 0, err
		}
	}
	return answers, time.Since(start), nil
}

// embedProxied sends all texts to the proxy in one request and returns its
// answer and the time from the request to the end of the answer.
func (d *demonstration) embedProxied(ctx context.Context, whole []byte) ([]byte, time.Duration, error) {
	defer d.watch("proxy ")()
	start := time.Now()
	answer, err := d.client.embed(ctx, d.proxy, whole)
	return answer, time.Since(start), err
}

// watch shows how many texts the model server has embedded from now on.
func (d *demonstration) watch(label string) (stop func()) {
	before := d.server.served.Load()
	return d.progress.watch(label, len(d.texts), func() int {
		return int(d.server.served.Load() - before)
	})
}
