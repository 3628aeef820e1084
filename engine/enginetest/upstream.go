package enginetest

import (
	"context"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"
)

// awaitLimit is how long a test waits for calls before it fails.
const awaitLimit = 10 * time.Second

// An Upstream is a scripted model server for embeddings. It is an
// [http.Handler] and, in memory, an [http.RoundTripper]. The fields are set
// before the first call; all else is safe for concurrent use.
type Upstream struct {
	// Dims is the length of the vectors.
	Dims int
	// Model is the model of replies to requests that name none.
	Model string
	// Script gives every call its faults; nil means none.
	Script Script

	mu          sync.Mutex
	calls       []*Call
	arrived     chan struct{} // closed and replaced at every arrival
	inFlight    int
	maxInFlight int
}

// A Script returns the faults of a call.
type Script func(c *Call) []Fault

// A Call is a request as the upstream got it. It is not to be changed.
type Call struct {
	// Number counts the calls from 0 in the order of their arrival.
	Number  int
	Arrived time.Time

	Method, Path, RawQuery, Host string
	// Proto is the version of HTTP, such as HTTP/2.0; in memory that of the
	// request.
	Proto  string
	Header http.Header
	Body   []byte
	// Items are the items of the input: strings as they are, all others as
	// compact JSON. They are what [Vector] takes.
	Items []string
}

// New returns an upstream without faults, with vectors of 8 numbers.
func New() *Upstream {
	return &Upstream{Dims: 8, Model: "test-model", arrived: make(chan struct{})}
}

// First gives the first n calls these faults and the others none.
func First(n int, faults ...Fault) Script {
	return func(c *Call) []Fault {
		if c.Number < n {
			return faults
		}
		return nil
	}
}

// Always gives every call these faults.
func Always(faults ...Fault) Script {
	return func(*Call) []Fault { return faults }
}

// WithItem gives the calls that carry an item these faults and the others none.
func WithItem(item string, faults ...Fault) Script {
	return func(c *Call) []Fault {
		if slices.Contains(c.Items, item) {
			return faults
		}
		return nil
	}
}

// Serve serves the upstream on loopback until the test ends and returns its
// URL, which is spoken to in HTTP/1.1 or, with the scheme h2c, in HTTP/2. The
// calls that are held when the test ends are let go.
func (u *Upstream) Serve(t testing.TB) string {
	t.Helper()
	server := u.server(t)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	return server.URL
}

// ServeTLS is Serve with TLS, in HTTP/2 or HTTP/1.1 as the client likes. It also
// returns what the client must trust.
func (u *Upstream) ServeTLS(t testing.TB) (url string, roots *x509.CertPool) {
	t.Helper()
	server := u.server(t)
	server.EnableHTTP2 = true
	server.StartTLS()
	roots = x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return server.URL, roots
}

// server returns a server that is not started and ends with the test.
func (u *Upstream) server(t testing.TB) *httptest.Server {
	ctx, cancel := context.WithCancel(context.Background())
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		held, stop := context.WithCancel(r.Context())
		defer stop()
		defer context.AfterFunc(ctx, stop)()
		u.ServeHTTP(w, r.WithContext(held))
	}))
	t.Cleanup(func() {
		cancel()
		server.CloseClientConnections()
		server.Close()
	})
	return server
}

// Calls returns the calls so far, in the order of their arrival.
func (u *Upstream) Calls() []*Call {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.calls)
}

// MaxInFlight returns how many calls there were at once at most, each from its
// arrival until its reply was sent; in memory until the reply's body was read to
// the end or closed.
func (u *Upstream) MaxInFlight() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.maxInFlight
}

// InFlight returns how many calls there are now.
func (u *Upstream) InFlight() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.inFlight
}

// Await waits until n calls have arrived since the upstream was made, and fails
// the test when they do not.
func (u *Upstream) Await(t testing.TB, n int) {
	t.Helper()
	limit := time.NewTimer(awaitLimit)
	defer limit.Stop()
	for {
		u.mu.Lock()
		got, arrived := len(u.calls), u.arrived
		u.mu.Unlock()
		if got >= n {
			return
		}
		select {
		case <-arrived:
		case <-limit.C:
			t.Fatalf("%d calls arrived within %v, want %d", got, awaitLimit, n)
		}
	}
}

// ServeHTTP answers a call over the network.
func (u *Upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the client went away
	}
	reply := u.arrive(r, body)
	defer reply.finish()
	reply.serve(r.Context(), w)
}

// RoundTrip answers a call in memory, as a transport of net/http would bring
// the answer: errors of a connection, and a body that ends with the context.
func (u *Upstream) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		body, err = io.ReadAll(r.Body)
		_ = r.Body.Close() // nothing was written to it
		if err != nil {
			return nil, err
		}
	}
	if r.Context().Err() != nil {
		return nil, context.Cause(r.Context())
	}
	return u.arrive(r, body).response(r)
}

// arrive records a call and makes its reply.
func (u *Upstream) arrive(r *http.Request, body []byte) *Reply {
	c := &Call{
		Arrived:  time.Now(),
		Method:   r.Method,
		Path:     r.URL.Path,
		RawQuery: r.URL.RawQuery,
		Host:     r.Host,
		Proto:    r.Proto,
		Header:   r.Header.Clone(),
		Body:     body,
	}
	in, err := parseInput(body)
	c.Items = in.items

	u.mu.Lock()
	c.Number = len(u.calls)
	u.calls = append(u.calls, c)
	u.inFlight++
	u.maxInFlight = max(u.maxInFlight, u.inFlight)
	close(u.arrived)
	u.arrived = make(chan struct{})
	u.mu.Unlock()

	reply := u.honest(in, err)
	reply.done = append(reply.done, func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.inFlight--
	})
	if u.Script != nil {
		for _, fault := range u.Script(c) {
			fault(c, reply)
		}
	}
	reply.Render()
	return reply
}

// honest returns the reply without faults.
func (u *Upstream) honest(in input, err error) *Reply {
	r := &Reply{
		Status:        http.StatusOK,
		Header:        http.Header{"Content-Type": {"application/json"}},
		Model:         u.Model,
		ContentLength: -1,
	}
	if err != nil {
		r.Status = http.StatusBadRequest
		r.Body = []byte(`{"error":{"message":"` + err.Error() + `","type":"invalid_request_error","code":null}}`)
		return r
	}
	if in.model != "" {
		r.Model = in.model
	}
	for i, item := range in.items {
		e := Entry{Index: i, Embedding: Vector(item, u.Dims)}
		if in.base64 {
			e.Embedding = Base64Vector(item, u.Dims)
		}
		r.Entries = append(r.Entries, e)
		r.Tokens += Tokens(item)
	}
	return r
}
