package engine

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"

	"github.com/basetenlabs/caddy-performance-proxy/engine/jsonspan"
)

// checks hold what the replies to one request must have in common. They are
// safe for concurrent use.
type checks struct {
	op *Operation
	// vectors is false for replies whose vectors have a form of their own.
	vectors bool
	// float32s says that base64 vectors hold 32-bit floats.
	float32s bool

	mu     sync.Mutex
	agreed *common // of the first good reply, nil before it
}

// common is what all replies to one request must have in common.
type common struct {
	model  string // as it stands in the reply, empty when it has none
	vector vector
}

// vector is the form and length of the vectors of a reply; the length is zero
// for vectors that need not have one length.
type vector struct {
	form jsonspan.Form
	size int
}

// newChecks returns the checks of a call whose form is known.
func newChecks(c *Call) *checks {
	dtype := c.op.member(&c.doc, "embed_dtype").Value
	return &checks{
		op:      c.op,
		vectors: c.op.results.vectorRequired && c.asked.form != formForeign,
		float32s: dtype.Kind == jsonspan.None || dtype.Kind == jsonspan.Null ||
			dtype.Kind == jsonspan.String && jsonspan.Unquote(c.req.Body, dtype) == "float32",
	}
}

// check holds a scanned reply against what the operation, the number of items,
// unless it is itemsUnknown, and the replies before it ask for. It returns the order of the entries, nil
// when they stand in the order of the items. The error is a reason for
// [ReplyError].
func (c *checks) check(doc []byte, d *jsonspan.Document, items int) (order []int, err error) {
	if d.List.Value.Kind != jsonspan.Array {
		return nil, fmt.Errorf("it has no list of results %q", c.op.reply.Lists[0])
	}
	if len(d.Entries) != items && items != itemsUnknown {
		return nil, fmt.Errorf("it has %d results for %d items", len(d.Entries), items)
	}
	if len(d.Entries) == 0 {
		return nil, errors.New("it has no results")
	}
	for i := range d.Entries {
		if !c.op.results.entries.Has(d.Entries[i].Kind) {
			return nil, fmt.Errorf("result %d is of the kind %s", i, d.Entries[i].Kind)
		}
		if k := c.op.vector(d, i).Kind; c.op.results.vectorRequired && (k == jsonspan.None || k == jsonspan.Null) {
			return nil, fmt.Errorf("result %d has no vector", i)
		}
	}
	if order, err = c.order(doc, d); err != nil {
		return nil, err
	}
	this := common{model: string(memberOf(c.op.reply, d.Members, memberModel).Value.Of(doc))}
	if c.vectors {
		if this.vector, err = c.vector(doc, d); err != nil {
			return nil, err
		}
	}
	return order, c.agree(this)
}

// order finds where the result of each item stands.
func (c *checks) order(doc []byte, d *jsonspan.Document) ([]int, error) {
	indexed, sorted := 0, true
	for i := range d.Entries {
		v := c.op.index(d, i)
		if v.Kind == jsonspan.None {
			continue
		}
		indexed++
		if at, ok := parseIndex(doc, v, len(d.Entries)); !ok {
			// The words of an upstream are not cut here: half a key is not found.
			return nil, fmt.Errorf("result %d has the index %s, expected an integer from 0 to %d",
				i, v.Of(doc), len(d.Entries)-1)
		} else if at != i {
			sorted = false
		}
	}
	switch {
	case indexed == 0 && !c.op.results.indexRequired:
		return nil, nil
	case indexed != len(d.Entries):
		return nil, fmt.Errorf("%d of %d results have no index", len(d.Entries)-indexed, len(d.Entries))
	case sorted:
		return nil, nil
	}
	order := make([]int, len(d.Entries))
	for i := range order {
		order[i] = -1
	}
	for i := range d.Entries {
		at, _ := parseIndex(doc, c.op.index(d, i), len(order))
		if order[at] >= 0 {
			return nil, fmt.Errorf("the index %d stands twice", at)
		}
		order[at] = i
	}
	return order, nil
}

// parseIndex reads an index below limit.
func parseIndex(doc []byte, v jsonspan.Value, limit int) (int, bool) {
	const maxDigits = 9
	if v.Kind != jsonspan.Integer || v.Len() > maxDigits {
		return 0, false
	}
	n := 0
	for _, c := range v.Of(doc) {
		n = n*10 + int(c-'0')
	}
	return n, n < limit
}

// vector checks that all vectors of a reply have one form and length.
func (c *checks) vector(doc []byte, d *jsonspan.Document) (vector, error) {
	var first vector
	for i := range d.Entries {
		v := d.Entries[i].Vector
		this := vector{form: v.Form, size: v.Len}
		switch v.Form {
		case jsonspan.Odd:
			return vector{}, fmt.Errorf("the vector of result %d is not made of numbers", i)
		case jsonspan.Sparse:
			this.size = 0
		case jsonspan.Text:
			var err error
			if this.size, err = c.base64Size(doc, c.op.vector(d, i)); err != nil {
				return vector{}, fmt.Errorf("the vector of result %d %w", i, err)
			}
		}
		if i == 0 {
			first = this
		}
		if this != first {
			return vector{}, fmt.Errorf("result %d has another vector length than result 0: %d, not %d", i, this.size, first.size)
		}
	}
	return first, nil
}

// agree holds what this reply has in common with the first one's.
func (c *checks) agree(this common) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.agreed == nil {
		c.agreed = &this
	}
	switch {
	case this.model != c.agreed.model:
		return fmt.Errorf("it comes from the model %s, other replies from %s", this.model, c.agreed.model)
	case this.vector != c.agreed.vector:
		return fmt.Errorf("it has another vector length than other replies: %d, not %d", this.vector.size, c.agreed.vector.size)
	}
	return nil
}

// base64Size returns the length in bytes of a vector in base64, and an error
// when it is no base64 or holds 32-bit floats that are infinite or no numbers.
func (c *checks) base64Size(doc []byte, v jsonspan.Value) (int, error) {
	text := doc[v.Start+1 : v.End-1]
	if bytes.IndexByte(text, '\\') >= 0 {
		text = []byte(jsonspan.Unquote(doc, v))
	}
	// A multiple of the 16 characters that hold three floats.
	const window = 4096
	var raw [window / 4 * 3]byte
	size := 0
	for len(text) > 0 {
		piece := text[:min(window, len(text))]
		text = text[len(piece):]
		n, err := base64.StdEncoding.Decode(raw[:], piece)
		if err != nil || n < len(piece)/4*3-2 || len(text) > 0 && n != len(raw) {
			return 0, fmt.Errorf("is not base64")
		}
		size += n
		if c.float32s && !finite(raw[:n]) {
			return 0, fmt.Errorf("holds a float that is not a finite number")
		}
	}
	if size == 0 || c.float32s && size%4 != 0 {
		return 0, fmt.Errorf("has %d bytes, which are no 32-bit floats", size)
	}
	return size, nil
}

// finite reports whether none of the little-endian 32-bit floats is infinite or
// NaN, which is to say that none has all bits of its exponent set.
func finite(raw []byte) bool {
	for i := 3; i < len(raw); i += 4 {
		if raw[i]&0x7f == 0x7f && raw[i-1]&0x80 != 0 {
			return false
		}
	}
	return true
}
