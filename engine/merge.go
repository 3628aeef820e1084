package engine

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/engine/jsonspan"
)

// A result is what is kept of the checked reply to one batch.
type result struct {
	// entries are the results in the order of the items, with their indexes
	// rebased, separated by commas.
	entries []byte
	// envelope is what the reply has around its list of results. Only the first
	// batch's is kept.
	envelope *envelope
	// usage is the reply's usage member, empty when it has none.
	usage []byte
	// foreign is a whole reply that is passed on as it is, nil for all others.
	foreign []byte

	header  http.Header
	took    time.Duration
	buffers []*buffer
	// memory is where kept bytes are reserved for the header and the usage.
	memory *Memory
	kept   int64
}

// envelope is a reply and where its parts stand.
type envelope struct {
	doc     []byte
	root    jsonspan.Value
	list    jsonspan.Value
	shape   *jsonspan.Shape
	members []jsonspan.Member // as the shape names them
}

// release gives the buffers back that the result stands in.
func (r *result) release() {
	for _, b := range r.buffers {
		b.release()
	}
	r.memory.Release(r.kept)
	r.buffers, r.kept = nil, 0
}

// keep reserves the memory for what is kept of a reply beside its results. The
// header is kept twice: as it came, and in the metadata of the answer.
func (r *result) keep(m *Memory) error {
	size := int64(len(r.usage))
	for name, values := range r.header {
		size += 2 * int64(len(name))
		for _, v := range values {
			size += 2 * int64(len(v))
		}
	}
	if !m.Reserve(size) {
		return ErrOverloaded
	}
	r.memory, r.kept = m, size
	return nil
}

// maxUnknownItems bounds the results for a request that does not tell how many
// items it holds.
const maxUnknownItems = 1 << 16

// result scans and checks the reply to a batch, which it takes over when it
// returns no error.
func (e *Engine) result(call *Call, batch int, header http.Header, body *buffer) (result, error) {
	res := result{header: header}
	if kind := mediaType(header); call.asked.form == formForeign && !isJSON(kind) {
		if kind != "application/octet-stream" || len(body.b) == 0 {
			return result{}, fmt.Errorf("it is %d bytes of the type %q, expected JSON or an octet stream", len(body.b), kind)
		}
		res.foreign, res.buffers = body.b, []*buffer{body}
		return res, nil
	}
	d := documents.Get().(*jsonspan.Document)
	defer documents.Put(d)
	// One more than expected is enough to see that there are too many.
	d.MaxEntries = call.expected(batch) + 1
	if call.expected(batch) == itemsUnknown {
		d.MaxEntries = maxUnknownItems
	}
	if err := call.op.reply.Scan(body.b, d); err != nil {
		return result{}, err
	}
	order, err := call.checks.check(body.b, d, call.expected(batch))
	if err != nil {
		return result{}, err
	}
	if u := memberOf(call.op.reply, d.Members, memberUsage).Value; u.Len() > maxUsage {
		return result{}, fmt.Errorf("its usage is over %d bytes", maxUsage)
	} else if len(call.plan.batches) > 1 {
		res.usage = append(res.usage, u.Of(body.b)...)
	}
	if batch == 0 {
		res.envelope = &envelope{
			doc: body.b, root: d.Root, list: d.List.Value,
			shape: call.op.reply, members: slices.Clone(d.Members),
		}
		if order == nil {
			list := d.List.Value
			res.entries, res.buffers = body.b[list.Start+1:list.End-1], []*buffer{body}
			return res, nil
		}
	}
	rebased, err := e.rebase(call.op, body.b, d, order, call.plan.batches[batch].first)
	if err != nil {
		return result{}, err
	}
	res.entries, res.buffers = rebased.b, []*buffer{rebased}
	if res.envelope != nil {
		res.buffers = append(res.buffers, body)
	} else {
		body.release()
	}
	return res, nil
}

// expected returns how many results the reply to a batch must hold.
func (c *Call) expected(batch int) int {
	if c.asked.form == formList {
		return c.plan.batches[batch].len()
	}
	return c.asked.items
}

// rebase writes the entries of a reply in the order of the items, nil for the
// order they stand in, with first added to every index.
func (e *Engine) rebase(op *Operation, doc []byte, d *jsonspan.Document, order []int, first int) (*buffer, error) {
	last := first + len(d.Entries) - 1
	size := d.List.Value.Len() + len(d.Entries)*len(strconv.Itoa(last))
	out, err := acquireBuffer(e.memory, int64(size))
	if err != nil {
		return nil, err
	}
	b := out.b
	for i := range d.Entries {
		at := i
		if order != nil {
			at = order[i]
		}
		if i > 0 {
			b = append(b, ',')
		}
		entry, index := d.Entries[at].Span, op.index(d, at)
		if index.Kind == jsonspan.None {
			b = append(b, entry.Of(doc)...)
			continue
		}
		b = append(b, doc[entry.Start:index.Start]...)
		b = strconv.AppendInt(b, int64(first+i), 10)
		b = append(b, doc[index.End:entry.End]...)
	}
	out.b = b
	return out, nil
}

// merge puts the checked results together to one answer. On success the answer
// owns what the results hold.
func (c *Call) merge(results []result, start time.Time) (*Answer, error) {
	a := newAnswer(c, results)
	if results[0].foreign != nil {
		a.foreign(&results[0])
		a.Took = time.Since(start)
		return a, nil
	}
	env := results[0].envelope
	edits, err := c.usageEdits(env, results)
	if err != nil {
		return nil, &ReplyError{Status: http.StatusOK, Reason: err.Error()}
	}
	a.Took = time.Since(start)
	if env.root.Kind == jsonspan.Object {
		edits = append(edits, c.metadataEdits(env, a)...)
	}
	a.append(applyEdits(env.doc, env.root.Start, env.list.Start+1, edits))
	for i := range results {
		if i > 0 {
			a.append([]byte(","))
		}
		a.append(results[i].entries)
	}
	a.append(applyEdits(env.doc, env.list.End-1, env.root.End, edits))
	return a, nil
}

// usageEdits puts the sum of all usage members in the place of the first one's.
func (c *Call) usageEdits(env *envelope, results []result) ([]edit, error) {
	if len(results) == 1 {
		return nil, nil
	}
	var parts []part
	for i := range results {
		if len(results[i].usage) == 0 {
			continue
		}
		p, err := parsePart(results[i].usage)
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	if len(parts) == 0 {
		return nil, nil
	}
	sum, err := addUp(nil, parts)
	if err != nil {
		return nil, err
	}
	return []edit{env.set(memberUsage, sum)}, nil
}

// set returns the edit that gives a top-level member a value: in its place, or
// at the end of the document when it is not there.
func (env *envelope) set(name string, value []byte) edit {
	if m := memberOf(env.shape, env.members, name); m.Value.Kind != jsonspan.None {
		return edit{Span: m.Value.Span, with: value}
	}
	// The list of results is a member already, so a comma is always due.
	end := env.root.End - 1
	member := append([]byte(`,"`+name+`":`), value...)
	return edit{Span: jsonspan.Span{Start: end, End: end}, with: member}
}
