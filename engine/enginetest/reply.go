package enginetest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// A Reply is what the upstream is about to say to a call.
type Reply struct {
	Status int
	Header http.Header

	// Model, Tokens and Entries are what the body is made of when Body is nil.
	Model   string
	Tokens  int
	Entries []Entry
	// Body is what is sent. It is nil until [Reply.Render], after which changes
	// of the entries have no effect.
	Body []byte

	// Drop closes the connection instead of answering.
	Drop bool
	// Cut closes it before the end of the body, after CutAt bytes.
	Cut   bool
	CutAt int
	// ContentLength is the length that is declared; -1 means the true one.
	ContentLength int64
	// Chunked declares no length.
	Chunked bool

	// before is waited for before anything is sent, stall after stallAt bytes of
	// the body.
	before  []func(context.Context)
	stall   func(context.Context)
	stallAt int
	// done is called once the reply is sent, or is not going to be.
	done     []func()
	doneOnce sync.Once
}

// An Entry is one result of a reply.
type Entry struct {
	Index int
	// Embedding is raw JSON.
	Embedding string
}

// Render makes the body of the entries unless there is a body already.
func (r *Reply) Render() {
	if r.Body != nil {
		return
	}
	var b strings.Builder
	b.WriteString(`{"object":"list","data":[`)
	for i, e := range r.Entries {
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, `{"object":"embedding","index":%d,"embedding":%s}`, e.Index, e.Embedding)
	}
	model, err := json.Marshal(r.Model)
	if err != nil {
		panic(err) // a string always encodes
	}
	fmt.Fprintf(&b, `],"model":%s,"usage":{"prompt_tokens":%d,"total_tokens":%d}}`, model, r.Tokens, r.Tokens)
	r.Body = []byte(b.String())
}

func (r *Reply) finish() {
	r.doneOnce.Do(func() {
		for _, done := range r.done {
			done()
		}
	})
}

// wait waits for everything that holds the reply back and reports whether the
// call is still there.
func (r *Reply) wait(ctx context.Context) bool {
	for _, before := range r.before {
		before(ctx)
	}
	return ctx.Err() == nil
}

// declared returns the length that is declared, -1 for none.
func (r *Reply) declared() int64 {
	switch {
	case r.Chunked:
		return -1
	case r.ContentLength >= 0:
		return r.ContentLength
	}
	return int64(len(r.Body))
}

// sent returns what is sent of the body, and whether the client can tell that
// it is not whole.
func (r *Reply) sent() (body []byte, broken bool) {
	body = r.Body
	if n := r.declared(); n >= 0 {
		body, broken = body[:min(int64(len(body)), n)], n > int64(len(body))
	}
	if r.Cut {
		body, broken = body[:min(r.CutAt, len(body))], true
	}
	return body, broken
}

// serve sends the reply over the network.
func (r *Reply) serve(ctx context.Context, w http.ResponseWriter) {
	if !r.wait(ctx) || r.Drop {
		panic(http.ErrAbortHandler)
	}
	for name, values := range r.Header {
		w.Header()[name] = values
	}
	declared := r.declared()
	if declared >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(declared, 10))
	}
	w.WriteHeader(r.Status)
	body, broken := r.sent()
	if r.stall != nil {
		at := min(r.stallAt, len(body))
		r.send(w, body[:at])
		r.stall(ctx)
		body = body[at:]
	}
	if broken || declared < 0 {
		r.send(w, body)
	} else {
		_, _ = w.Write(body) // what the client makes of it is what is tested
	}
	if broken {
		panic(http.ErrAbortHandler)
	}
}

// send writes a part of the body and makes sure that it is on its way.
func (r *Reply) send(w http.ResponseWriter, part []byte) {
	_, _ = w.Write(part) // what the client makes of it is what is tested
	_ = http.NewResponseController(w).Flush()
}

// response brings the reply in memory.
func (r *Reply) response(req *http.Request) (*http.Response, error) {
	if !r.wait(req.Context()) {
		r.finish()
		return nil, context.Cause(req.Context())
	}
	if r.Drop {
		r.finish()
		return nil, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	}
	resp := &http.Response{
		Status:     strconv.Itoa(r.Status) + " " + http.StatusText(r.Status),
		StatusCode: r.Status,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        r.Header.Clone(),
		ContentLength: r.declared(),
		Request:       req,
	}
	if resp.ContentLength >= 0 {
		resp.Header.Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
	}
	body := &memoryBody{ctx: req.Context(), reply: r, end: io.EOF}
	var broken bool
	if body.rest, broken = r.sent(); broken {
		body.end = io.ErrUnexpectedEOF
	}
	if body.stall = r.stall; body.stall != nil {
		body.untilStall = min(r.stallAt, len(body.rest))
	}
	resp.Body = body
	return resp, nil
}

// memoryBody is the body of a reply in memory.
type memoryBody struct {
	ctx   context.Context
	reply *Reply
	rest  []byte
	end   error
	// stall is waited for after untilStall more bytes; nil when it is over.
	stall      func(context.Context)
	untilStall int
	closed     bool
}

func (b *memoryBody) Read(p []byte) (int, error) {
	if b.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	part := b.rest
	if b.stall != nil && b.untilStall == 0 {
		b.stall(b.ctx)
		b.stall = nil
	} else if b.stall != nil {
		part = part[:b.untilStall]
	}
	if b.ctx.Err() != nil {
		b.reply.finish()
		return 0, context.Cause(b.ctx)
	}
	if len(b.rest) == 0 {
		b.reply.finish()
		return 0, b.end
	}
	n := copy(p, part)
	b.rest = b.rest[n:]
	b.untilStall -= n
	return n, nil
}

// Close ends the call. It is not to be called during a Read.
func (b *memoryBody) Close() error {
	b.closed = true
	b.reply.finish()
	return nil
}
