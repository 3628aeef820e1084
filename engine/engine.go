package engine

import (
	"context"
	"net/http"
	"sync"

	"github.com/basetenlabs/caddy-performance-proxy/engine/jsonspan"
)

// DefaultMaxResponseBody is the limit of [Options].MaxResponseBody when it is
// not set: 256 MiB.
const DefaultMaxResponseBody = 256 << 20

// Options say how an engine works. The zero value is ready for use.
type Options struct {
	// MaxResponseBody is the largest reply to one batch in bytes, unpacked; a
	// larger one counts as broken. Default [DefaultMaxResponseBody].
	MaxResponseBody int64
	// Memory bounds the bytes that requests hold together; nil means no bound.
	Memory *Memory
	// NoSplit are the models whose requests are never split.
	NoSplit []string
	// Observer is told what the engine does; nil for nobody.
	Observer Observer
}

// An Engine splits requests, sends them and merges the replies. It is safe for
// concurrent use, holds no connections and needs no closing.
type Engine struct {
	maxResponseBody int64
	memory          *Memory
	noSplit         map[string]bool
	observer        Observer
}

// New returns an engine.
func New(o Options) *Engine {
	e := &Engine{
		maxResponseBody: o.MaxResponseBody,
		memory:          o.Memory,
		noSplit:         make(map[string]bool, len(o.NoSplit)),
		observer:        o.Observer,
	}
	if e.observer == nil {
		e.observer = unobserved{}
	}
	if e.maxResponseBody <= 0 {
		e.maxResponseBody = DefaultMaxResponseBody
	}
	for _, model := range o.NoSplit {
		e.noSplit[model] = true
	}
	return e
}

// A Destination says where a request goes.
type Destination struct {
	// Group are the endpoints that can answer it.
	Group *Group
	// Transport makes the connections; see [NewTransport].
	Transport http.RoundTripper
	// Authorization is the value of the header of that name, which goes to the
	// endpoints of the group only; empty for none.
	Authorization string
}

// Do prepares a request and runs it: [Engine.Prepare], then [Engine.Run]. The
// answer must be closed.
func (e *Engine) Do(ctx context.Context, to Destination, req *Request) (*Answer, error) {
	call, err := e.Prepare(req)
	if err != nil {
		return nil, err
	}
	answer, err := e.Run(ctx, to, call)
	if err != nil {
		call.Close()
		return nil, err
	}
	answer.release = append(answer.release, call.Close)
	return answer, nil
}

// documents keeps scanned replies for the sake of their slices.
var documents = sync.Pool{New: func() any { return new(jsonspan.Document) }}
