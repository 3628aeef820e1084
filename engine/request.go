package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
	"unsafe"

	"github.com/basetenlabs/caddy-performance-proxy/engine/jsonspan"
)

// A Request is one request of a client. It is not changed by the engine, but
// its Body must not be changed while the engine works on it.
type Request struct {
	// Path is the client's path, which chooses the operation; see [Find].
	Path string
	// RawQuery is the query string, sent upstream as it is.
	RawQuery string
	// Body is the JSON document that holds the items.
	Body []byte
	// Model, when not empty, is set as the request's model, over the body's.
	Model string
	// Settings say how the request is split and sent.
	Settings Settings
	// ID identifies the request towards the upstream, with the indexes of batch
	// and attempt appended, and in the answer's metadata.
	ID string
	// Header holds further headers for the upstream. Those that the engine sets
	// itself win.
	Header http.Header
	// Deadline is the client's own deadline, the zero time when it has none.
	Deadline time.Time
	// DeadlineName names where the deadline comes from, for errors.
	DeadlineName string
}

// A Call is a request that was parsed and split, and is ready to be sent. It is
// for one use by one goroutine.
type Call struct {
	req      *Request
	settings Settings // with every default filled in
	op       *Operation
	asked    asked
	doc      jsonspan.Document
	plan     plan
	checks   *checks
	// retries and hedges are the budgets of this request.
	retries, hedges budget
	release         func()
}

// Operation returns the operation of the call.
func (c *Call) Operation() *Operation { return c.op }

// Batches returns the number of batches that the call was split into.
func (c *Call) Batches() int { return len(c.plan.batches) }

// Close gives back the memory that the call holds. It must be called once the
// call is no longer needed, after its answer was closed.
func (c *Call) Close() { c.release() }

// entryBytes is the memory that one item takes while its request is worked on:
// its entry in the scanned document, twice, because slices grow by copying.
const entryBytes = 2 * int64(unsafe.Sizeof(jsonspan.Entry{}))

// Prepare parses and splits a request; nothing is sent. What is wrong with the
// request is a [*RequestError]; [ErrOverloaded] means that there is no memory
// for it at the moment.
func (e *Engine) Prepare(req *Request) (*Call, error) {
	op := Find(req.Path)
	if op == nil {
		return nil, &RequestError{Field: "path", Message: "no operation answers to " + req.Path}
	}
	return e.prepare(op, req)
}

// prepare is Prepare for a known operation.
func (e *Engine) prepare(op *Operation, req *Request) (*Call, error) {
	c := &Call{req: req, op: op, settings: req.Settings.withDefaults()}
	held := int64(0)
	c.release = func() { e.memory.Release(held) }
	c.doc.Reserve = func(entries int) bool {
		more := int64(entries)*entryBytes - held
		if !e.memory.Reserve(more) {
			return false
		}
		held += more
		return true
	}
	if err := e.scan(c); err != nil {
		c.release()
		return nil, err
	}
	if err := e.plan(c); err != nil {
		c.release()
		return nil, err
	}
	return c, nil
}

// scan finds the items of the request, within the memory that is left.
func (e *Engine) scan(c *Call) error {
	if err := c.op.request.Scan(c.req.Body, &c.doc); err != nil {
		return e.requestError(c.op, err)
	}
	if c.doc.Root.Kind != jsonspan.Object {
		return &RequestError{Message: "expected the body to be a JSON object, not " + c.doc.Root.Kind.String()}
	}
	return nil
}

// plan judges the request's form and splits it.
func (e *Engine) plan(c *Call) error {
	model := c.op.member(&c.doc, memberModel).Value
	switch model.Kind {
	case jsonspan.None, jsonspan.Null, jsonspan.String:
	default:
		return &RequestError{Field: "model", Message: "expected a string, not " + model.Kind.String()}
	}
	var err error
	if c.asked, err = c.op.asked(c.op, c.req.Body, &c.doc); err != nil {
		return err
	}
	if c.asked.form == formList && e.noSplit[c.model()] {
		c.asked.form = formWhole
	}
	c.plan = newPlan(c)
	c.checks = newChecks(c)
	c.retries.fill(len(c.plan.batches), c.settings.RetryBudgetPct)
	c.hedges.fill(len(c.plan.batches), c.settings.HedgeBudgetPct)
	return nil
}

// model returns the name of the request's model, empty when it names none.
func (c *Call) model() string {
	if c.req.Model != "" {
		return c.req.Model
	}
	if m := c.op.member(&c.doc, memberModel).Value; m.Kind == jsonspan.String {
		return jsonspan.Unquote(c.req.Body, m)
	}
	return ""
}

// modelEdits returns the edits that set the request's model.
func (c *Call) modelEdits() []edit {
	if c.req.Model == "" {
		return nil
	}
	name := quote(c.req.Model)
	if m := c.op.member(&c.doc, memberModel); m.Value.Kind != jsonspan.None {
		return []edit{{Span: m.Value.Span, with: name}}
	}
	member := append([]byte(`"model":`), name...)
	if c.doc.Root.Len() > len("{}") && !emptyObject(c.req.Body, c.doc.Root) {
		member = append(member, ',')
	}
	at := c.doc.Root.Start + 1
	return []edit{{Span: jsonspan.Span{Start: at, End: at}, with: member}}
}

// emptyObject reports whether an object has no member.
func emptyObject(doc []byte, v jsonspan.Value) bool {
	return len(bytes.TrimSpace(doc[v.Start+1:v.End-1])) == 0
}

// quote returns a text as a JSON string, with no more escapes than JSON needs.
func quote(text string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	// A string always encodes, and the buffer takes everything.
	_ = enc.Encode(text)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// requestError says of a body that cannot be scanned what is wrong with it.
func (e *Engine) requestError(op *Operation, err error) error {
	if duplicate, ok := errors.AsType[*jsonspan.DuplicateError](err); ok {
		return &RequestError{Field: duplicate.Name, Message: "stands twice in the body"}
	}
	if many, ok := errors.AsType[*jsonspan.LimitError](err); ok {
		if int64(many.MaxEntries)*entryBytes < e.memory.Limit()/2 {
			return ErrOverloaded
		}
		return &RequestError{
			Field:   op.request.Lists[0],
			Message: fmt.Sprintf("has more than %d items, for which there is no memory", many.MaxEntries),
		}
	}
	return &RequestError{Message: "body: " + err.Error()}
}
