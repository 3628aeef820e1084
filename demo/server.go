package demo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// BatchDelay is how long a batch takes in the demonstration: about what a small
// model needs for 32 short texts.
const BatchDelay = 20 * time.Millisecond

// maxBody is the largest body that is read, in bytes.
const maxBody = 2_000_000

// ServerOptions are the settings of a [Server]. The zero value answers at once
// and has the limits that the reference server has by default.
type ServerOptions struct {
	// Delay is how long every batch takes beside its computation. Default: no
	// time.
	Delay time.Duration

	// MaxBatch is the largest number of items in a request; over it the answer
	// is 422. Default: 32.
	MaxBatch int

	// MaxConcurrent is how many items are worked on at once, over all requests;
	// over it the answer is 429. Default: 512.
	MaxConcurrent int

	// Model is the name that answers carry. Default: `demo/hashed-ngrams-384`.
	Model string
}

// Server is a small but real model server in the dialect of
// text-embeddings-inference 1.9. Its routes, the shapes of its answers and
// errors, its limits and its way to print numbers are those of that server; its
// model is hashed n-grams, see [Embed], and it plays embedder, reranker and
// classifier at once. It differs where a browser or an operator would notice, not
// a client: no CORS, no metrics, no places in the messages of JSON errors, and
// nothing may stand after the JSON document.
//
// A Server is safe for concurrent use.
type Server struct {
	options ServerOptions
	permits permits
	served  atomic.Int64 // items that a batch was done for, to show progress
}

// defaultMaxConcurrent is TEI's default of --max-concurrent-requests, which
// counts texts.
const defaultMaxConcurrent = 512

// NewServer returns a server that is ready to serve.
func NewServer(o ServerOptions) *Server {
	if o.MaxBatch == 0 {
		o.MaxBatch = 32
	}
	if o.MaxConcurrent == 0 {
		o.MaxConcurrent = defaultMaxConcurrent
	}
	if o.Model == "" {
		o.Model = "demo/hashed-ngrams-384"
	}
	s := &Server{options: o}
	s.permits.free.Store(int64(o.MaxConcurrent))
	return s
}

// operation is a route that runs the model. It appends its answer to the
// workspace's out.
type operation struct {
	run    func(*Server, context.Context, fields, *workspace) (cost, error)
	openAI bool // errors have OpenAI's form
}

var operations = map[string]operation{
	"/v1/embeddings": {run: (*Server).embeddings, openAI: true},
	"/embeddings":    {run: (*Server).embeddings, openAI: true},
	"/embed":         {run: (*Server).embed},
	"/rerank":        {run: (*Server).rerank},
	"/predict":       {run: (*Server).predict},
}

// workspace holds the memory of one request, which the next one uses again.
type workspace struct {
	body   bytes.Buffer
	vector []float32
	sums   sums
	out    []byte
}

var workspaces = sync.Pool{New: func() any { return new(workspace) }}

// ServeHTTP answers one request. It aborts the connection of a client that has
// gone before its batch was done.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if op, ok := operations[r.URL.Path]; ok {
		if allow(w, r, http.MethodPost) {
			s.operate(w, r, op)
		}
		return
	}
	switch r.URL.Path {
	case "/health":
		allow(w, r, http.MethodGet, http.MethodHead)
	case "/info":
		if allow(w, r, http.MethodGet, http.MethodHead) {
			write(w, http.StatusOK, "application/json", s.appendInfo(nil))
		}
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// allow reports whether the request's method is one of those that a route has,
// and else answers 405.
func allow(w http.ResponseWriter, r *http.Request, methods ...string) bool {
	for _, method := range methods {
		if r.Method == method {
			return true
		}
	}
	w.Header().Set("Allow", strings.Join(methods, ","))
	w.WriteHeader(http.StatusMethodNotAllowed)
	return false
}

// operate reads a request, runs its operation and writes the answer.
func (s *Server) operate(w http.ResponseWriter, r *http.Request, op operation) {
	ws := workspaces.Get().(*workspace)
	defer workspaces.Put(ws)
	ws.body.Reset()
	ws.out = ws.out[:0]

	start := time.Now()
	f, err := ws.read(w, r)
	var c cost
	if err == nil {
		c, err = op.run(s, r.Context(), f, ws)
	}
	var refused *refusal
	switch {
	case errors.As(err, &refused):
		ws.refuse(w, refused, op.openAI)
	case err != nil:
		panic(http.ErrAbortHandler)
	default:
		s.report(w.Header(), c, time.Since(start))
		write(w, http.StatusOK, "application/json", ws.out)
	}
}

// read reads a request's body and takes it apart.
func (ws *workspace) read(w http.ResponseWriter, r *http.Request) (fields, error) {
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	name, ok := strings.CutPrefix(mediaType, "application/")
	if !ok || name != "json" && !strings.HasSuffix(name, "+json") {
		return nil, &refusal{http.StatusUnsupportedMediaType, "",
			"Expected request with `Content-Type: application/json`"}
	}
	if 0 < r.ContentLength && r.ContentLength <= maxBody {
		ws.body.Grow(int(r.ContentLength) + bytes.MinRead)
	}
	_, err := io.Copy(&ws.body, http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &refusal{http.StatusRequestEntityTooLarge, "",
			"Failed to buffer the request body: length limit exceeded"}
	case err != nil:
		return nil, err
	}
	return parseFields(ws.body.Bytes())
}

// report sets the headers that every good answer carries; times are in
// milliseconds.
func (s *Server) report(h http.Header, c cost, took time.Duration) {
	total := strconv.FormatInt(took.Milliseconds(), 10)
	h.Set("x-compute-type", "cpu")
	h.Set("x-compute-time", total)
	h.Set("x-compute-characters", strconv.Itoa(c.characters))
	h.Set("x-compute-tokens", strconv.Itoa(c.tokens))
	h.Set("x-total-time", total)
	h.Set("x-tokenization-time", "0")
	h.Set("x-queue-time", "0")
	h.Set("x-inference-time", strconv.FormatInt(s.options.Delay.Milliseconds(), 10))
}

// refuse writes the answer to a request that is refused.
func (ws *workspace) refuse(w http.ResponseWriter, r *refusal, openAI bool) {
	if r.errorType == "" {
		ws.out = append(ws.out[:0], r.message...)
		write(w, r.status, "text/plain; charset=utf-8", ws.out)
		return
	}
	ws.out = r.appendJSON(ws.out[:0], openAI)
	write(w, r.status, "application/json", ws.out)
}

// write writes a whole answer. An error of writing means that the client has
// gone, and there is nobody to tell it.
func write(w http.ResponseWriter, status int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
