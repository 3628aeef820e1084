package engine

import (
	"io"
	"slices"

	"github.com/basetenlabs/caddy-performance-proxy/engine/jsonspan"
)

// itemRange is the half-open range of items in a batch.
type itemRange struct{ first, end int }

func (r itemRange) len() int { return r.end - r.first }

// split cuts a list of items into batches, greedily and in order: a batch ends
// when it has size items or when one more would pass chars Unicode scalars. An
// item over the limit is a batch of its own, nothing is ever cut.
func split(items []jsonspan.Entry, size, chars int) []itemRange {
	var batches []itemRange
	batch, held := itemRange{}, 0
	for i := range items {
		if batch.len() == size || batch.len() > 0 && held+items[i].Chars > chars {
			batches = append(batches, batch)
			batch, held = itemRange{first: i, end: i}, 0
		}
		batch.end = i + 1
		held += items[i].Chars
	}
	return append(batches, batch)
}

// plan says which batches a request is sent as and how their bodies are cut out
// of the client's bytes.
type plan struct {
	batches []itemRange
	body    []byte           // the request's body
	items   []jsonspan.Entry // where the items stand in it
	// head and tail are what every batch has before and after its items. Of a
	// request that is sent as one, head is everything.
	head, tail []byte
}

// newPlan splits a call whose form is known.
func newPlan(c *Call) plan {
	p := plan{body: c.req.Body, items: c.doc.Entries}
	edits := c.modelEdits()
	if c.asked.form == formList {
		p.batches = split(c.doc.Entries, c.settings.BatchSize, c.settings.MaxCharsPerRequest)
	} else {
		p.batches = []itemRange{{end: len(c.doc.Entries)}}
	}
	if len(p.batches) == 1 {
		p.head = applyEdits(p.body, 0, len(p.body), edits)
		return p
	}
	list := c.doc.List.Value
	p.head = applyEdits(p.body, 0, list.Start+1, edits)
	p.tail = applyEdits(p.body, list.End-1, len(p.body), edits)
	return p
}

// batch returns the body of a batch.
func (p *plan) batch(i int) batchBody {
	if len(p.batches) == 1 {
		return batchBody{p.head}
	}
	b := p.batches[i]
	return batchBody{p.head, p.body[p.items[b.first].Start:p.items[b.end-1].End], p.tail}
}

// size returns the bytes of the items of a batch, and of the whole body of a
// request without items.
func (p *plan) size(i int) int {
	if len(p.items) == 0 {
		return len(p.body)
	}
	b := p.batches[i]
	return p.items[b.end-1].End - p.items[b.first].Start
}

// batchBody is the body of a batch in the pieces that it is made of.
type batchBody [3][]byte

// size returns the length of the body in bytes.
func (b batchBody) size() int64 {
	return int64(len(b[0]) + len(b[1]) + len(b[2]))
}

// open returns a reader of the body.
func (b batchBody) open() io.ReadCloser { return &bodyReader{parts: b} }

// bodyReader reads a body without copying its pieces together first.
type bodyReader struct {
	parts batchBody
	part  int
}

func (r *bodyReader) Read(p []byte) (n int, err error) {
	for r.part < len(r.parts) {
		if len(r.parts[r.part]) == 0 {
			r.part++
			continue
		}
		if n == len(p) {
			return n, nil
		}
		k := copy(p[n:], r.parts[r.part])
		r.parts[r.part] = r.parts[r.part][k:]
		n += k
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (r *bodyReader) Close() error { return nil }

// An edit puts other bytes in the place of a span; an empty span is an insertion.
type edit struct {
	jsonspan.Span
	with []byte
}

// applyEdits returns doc[start:end] with the edits in that range applied. The
// edits do not overlap. Without any in the range, nothing is copied.
func applyEdits(doc []byte, start, end int, edits []edit) []byte {
	slices.SortStableFunc(edits, func(a, b edit) int { return a.Start - b.Start })
	var out []byte
	at := start
	for _, e := range edits {
		if e.Start < start || e.End > end {
			continue
		}
		out = append(append(out, doc[at:e.Start]...), e.with...)
		at = e.End
	}
	if out == nil {
		return doc[start:end:end]
	}
	return append(out, doc[at:end]...)
}
