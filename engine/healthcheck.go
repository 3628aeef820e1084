package engine

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// DefaultHealthInterval is [HealthCheckOptions].Interval when it is not set.
	DefaultHealthInterval = 30 * time.Second
	// DefaultHealthTimeout is [HealthCheckOptions].Timeout when it is not set.
	DefaultHealthTimeout = 5 * time.Second

	// maxHealthBody is how much of a reply to a check is read, so that its
	// connection can be used again.
	maxHealthBody = 64 << 10
	// healthLimit names the time limit of a check in a [TimeoutError].
	healthLimit = "health_timeout"
)

// errHealthURI is why checks with a URI that cannot be read fail. It does not
// repeat the query, which may hold a key.
var errHealthURI = errors.New("health_uri is no path and query")

// HealthCheckOptions say how endpoints are checked whether requests come or not
// ("active health checks"). The words are those of Caddy's reverse_proxy, the
// names of whose subdirectives stand in brackets.
type HealthCheckOptions struct {
	// Endpoints returns the endpoints to check. It is called before every round,
	// the first time by [StartHealthChecks], and must not block.
	Endpoints func() []*Endpoint
	// Transport makes the connections; see [NewTransport].
	Transport http.RoundTripper
	// URI is the path and the query to ask for, in place of the path of the
	// endpoint's URL (health_uri); a slash in front of it may be left out. Default
	// "/". When it cannot be read every check fails.
	URI string
	// Port takes the place of the port of the endpoint's URL (health_port). Zero
	// leaves it.
	Port int
	// Header is sent with every check (health_headers). Its Host takes the place of
	// the endpoint's.
	Header http.Header
	// Interval is the time from the start of one round of checks to that of the
	// next (health_interval). Default [DefaultHealthInterval].
	Interval time.Duration
	// Timeout bounds one check, from connecting to the end of the reply
	// (health_timeout). Default [DefaultHealthTimeout].
	Timeout time.Duration
	// Passes is how many good checks in a row take an endpoint up, and Fails how
	// many failing ones take it down (health_passes, health_fails). Default 1.
	Passes, Fails int
	// ExpectStatus is the status of a good reply; a number below 100 stands for its
	// class, so that 2 is 200 to 299 (health_status). Default 2.
	ExpectStatus int
	// Report is told when the checks change what [Endpoint.Up] says, also because
	// they end. The error is that of the check that took the endpoint down: a
	// [*StatusError], a [*TimeoutError], a [*PanicError] or what the transport
	// said. It holds no value of Header. Report is called by several goroutines at
	// once; [HealthChecks.Close] waits for it. Nil means that nobody is told.
	Report func(e *Endpoint, up bool, err error)
}

// withDefaults returns o with the default in place of every zero value and a
// Header of its own with canonical names.
func (o HealthCheckOptions) withDefaults() HealthCheckOptions {
	if o.Interval <= 0 {
		o.Interval = DefaultHealthInterval
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultHealthTimeout
	}
	if o.ExpectStatus <= 0 {
		o.ExpectStatus = 2
	}
	if o.Report == nil {
		o.Report = func(*Endpoint, bool, error) {}
	}
	o.Passes, o.Fails = max(o.Passes, 1), max(o.Fails, 1)
	header := make(http.Header, len(o.Header)+1)
	header.Set("User-Agent", "baseten-performance-proxy")
	for name, values := range o.Header {
		header[http.CanonicalHeaderKey(name)] = values
	}
	o.Header = header
	return o
}

// HealthChecks check endpoints until they are closed. An endpoint is down while
// any of the checkers that look at it says so. A checker takes back its own
// verdict when it is closed or the endpoint is no longer one of its own, and
// never that of another one.
//
// A checker begins with the verdict that there is. When one is started before
// the one that it replaces is closed, an endpoint that is down stays down until
// the new one has found otherwise; when none takes its place, the endpoint is up
// as far as checks are concerned. All methods are safe for concurrent use.
type HealthChecks struct {
	options HealthCheckOptions
	// uri is nil when it cannot be read.
	uri *url.URL
	// secrets are the values of the headers.
	secrets []secret
	// checked belongs to the goroutine of the checks, and each value to the check of
	// its endpoint while a round is under way.
	checked map[*Endpoint]*verdict

	stop context.CancelFunc
	done chan struct{}
}

// A verdict is what a checker says of an endpoint.
type verdict struct {
	down bool
	// passes and fails are the good and the failing checks in a row.
	passes, fails int
}

// StartHealthChecks starts to check endpoints, all at once and the first time
// now. The checks are to be closed.
func StartHealthChecks(o HealthCheckOptions) *HealthChecks {
	ctx, stop := context.WithCancel(context.Background())
	c := &HealthChecks{
		options: o.withDefaults(),
		checked: make(map[*Endpoint]*verdict),
		stop:    stop,
		done:    make(chan struct{}),
	}
	if uri, err := url.ParseRequestURI("/" + strings.TrimPrefix(o.URI, "/")); err == nil {
		c.uri = uri
	}
	for name, values := range o.Header {
		if http.CanonicalHeaderKey(name) == "Host" {
			continue
		}
		for _, value := range values {
			c.secrets = append(c.secrets, newSecret(value))
		}
	}
	// Before this returns, because the checks that these ones replace may be closed
	// then.
	c.look(c.options.Endpoints())
	go c.run(ctx)
	return c
}

// Close ends the checks, those under way included, takes back what they said and
// returns when nothing of them is left. It may be called more than once.
func (c *HealthChecks) Close() {
	c.stop()
	<-c.done
}

// run makes a round of checks at every interval. A round waits for all its checks
// and thus for [HealthCheckOptions].Timeout at most; one that is due in the
// meantime begins when it is over.
func (c *HealthChecks) run(ctx context.Context) {
	defer close(c.done)
	defer c.look(nil)
	ticker := time.NewTicker(c.options.Interval)
	defer ticker.Stop()
	for {
		var round sync.WaitGroup
		for e, v := range c.checked {
			round.Go(func() { c.check(ctx, e, v) })
		}
		round.Wait()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		c.lookAgain()
	}
}

// lookAgain asks for the endpoints. Those of the last round are checked again if
// that panics, about which nobody is there to be told.
func (c *HealthChecks) lookAgain() {
	defer func() { _ = recover() }()
	c.look(c.options.Endpoints())
}

// look makes these endpoints the ones to check, and forgets the others.
func (c *HealthChecks) look(endpoints []*Endpoint) {
	listed := make(map[*Endpoint]bool, len(endpoints))
	for _, e := range endpoints {
		listed[e] = true
		if c.checked[e] == nil {
			c.checked[e] = &verdict{down: e.health.inheritActive()}
		}
	}
	for e, v := range c.checked {
		if listed[e] {
			continue
		}
		delete(c.checked, e)
		if v.down && e.health.setActive(true) {
			c.report(e, true, nil)
		}
	}
}

// check asks an endpoint once and takes it up or down when that is due.
func (c *HealthChecks) check(ctx context.Context, e *Endpoint, v *verdict) {
	err := c.ask(ctx, e)
	if ctx.Err() != nil {
		// What was called off says nothing.
		return
	}
	if err == nil {
		v.passes, v.fails = v.passes+1, 0
	} else {
		v.passes, v.fails = 0, v.fails+1
	}
	switch {
	case v.down && v.passes >= c.options.Passes:
		v.down = false
	case !v.down && v.fails >= c.options.Fails:
		v.down = true
	default:
		return
	}
	if e.health.setActive(!v.down) {
		c.report(e, !v.down, err)
	}
}

// report tells of a change. A panic of Report must not end the process, and
// there is nobody else to be told.
func (c *HealthChecks) report(e *Endpoint, up bool, err error) {
	defer func() { _ = recover() }()
	c.options.Report(e, up, err)
}

// ask sends one check and returns why it failed.
func (c *HealthChecks) ask(ctx context.Context, e *Endpoint) (err error) {
	defer recoverInto(&err)
	if c.uri == nil {
		return errHealthURI
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.options.Timeout, &TimeoutError{Limit: healthLimit, After: c.options.Timeout})
	defer cancel()
	resp, err := c.options.Transport.RoundTrip(c.request(ctx, e))
	switch {
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return c.clean(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= 200 {
		// The body of a connection that changed its protocol has no end. Any other
		// one says nothing, whether it breaks off or not.
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxHealthBody))
	}
	if !matchesStatus(resp.StatusCode, c.options.ExpectStatus) {
		return &StatusError{Status: resp.StatusCode}
	}
	return nil
}

// request makes the request of a check.
func (c *HealthChecks) request(ctx context.Context, e *Endpoint) *http.Request {
	u := &url.URL{
		Scheme:   e.url.Scheme,
		Host:     e.url.Host,
		Path:     c.uri.Path,
		RawPath:  c.uri.RawPath,
		RawQuery: c.uri.RawQuery,
	}
	if c.options.Port != 0 {
		u.Host = net.JoinHostPort(u.Hostname(), strconv.Itoa(c.options.Port))
	}
	req := &http.Request{
		Method:     http.MethodGet,
		URL:        u,
		Host:       u.Host,
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Header:     c.options.Header.Clone(),
	}
	if e.host != e.url.Host {
		req.Host = e.host
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	req.Header.Del("Host")
	return req.WithContext(ctx)
}

// clean returns what the transport said, which may hold what the endpoint sent,
// without the values of the headers.
func (c *HealthChecks) clean(err error) error {
	text := err.Error()
	for _, s := range c.secrets {
		text = s.redact(text)
	}
	return &cleanError{text: "checking the health: " + harmless(text, maxErrorMessage), err: err}
}
