package engine

import (
	"fmt"
	"slices"

	"github.com/basetenlabs/caddy-performance-proxy/engine/jsonspan"
)

// An Operation is one row of the table of what the proxy can split and merge:
// where the items stand in the request, which requests may be split, where the
// results stand in the reply and how they are checked and put together. Adding
// an operation means adding a row and the small functions that it names.
// An Operation is never changed and safe for concurrent use.
type Operation struct {
	// Name identifies the operation in logs and metrics.
	Name string
	// Paths are the client's paths (POST) that belong to the operation. The
	// request goes to the same path of the upstream.
	Paths []string

	// request says where the items and the members that matter stand in the
	// request. Its first member is the model.
	request *jsonspan.Shape
	// asked judges a scanned request: how its items stand, or what is wrong.
	asked func(op *Operation, doc []byte, d *jsonspan.Document) (asked, error)

	// reply says where the results stand in the reply.
	reply *jsonspan.Shape
	// results says what a good list of results looks like.
	results results
	// timing repeats total_time and individual_request_times at the top level of
	// the answer, where the performance client reads them.
	timing bool
}

// results says what the list of results in a reply must look like.
type results struct {
	// entries are the kinds that an entry may have.
	entries jsonspan.KindSet
	// indexRequired makes an entry without an index a fault; otherwise a list
	// without any index is in the order of the items.
	indexRequired bool
	// vectorRequired makes an entry without a vector of numbers or base64 a
	// fault.
	vectorRequired bool
}

// A form says how the items of a request stand in it.
type form uint8

const (
	// formList is a list of items, which may be split.
	formList form = iota
	// formWhole is a list of items that must stay together.
	formWhole
	// formSingle is one item, not in a list.
	formSingle
	// formForeign is a request whose reply has a form of its own: it goes
	// upstream as it is, and a reply that is no JSON comes back as it is.
	formForeign
)

// asked is what a request asks for.
type asked struct {
	form form
	// items is how many results the reply must hold, or itemsUnknown.
	items int
}

// itemsUnknown is the number of items of a request that does not tell it.
const itemsUnknown = -1

// The members of a reply, by their place in its shape's Members.
const (
	replyModel = iota
	replyUsage
	replyMetadata
	replyTotalTime
	replyIndividualTimes
)

// The fields of a result, by their place in its shape's Fields.
const (
	fieldIndex = iota
	fieldVector
)

// requestModel is the place of the model in the Members of every request's shape.
const requestModel = 0

// operations is the table.
var operations = []*Operation{
	{
		Name:  "embeddings",
		Paths: []string{"/v1/embeddings", "/embeddings"},
		request: &jsonspan.Shape{
			Lists:   []string{"input"},
			Members: []string{"model", "encoding_format", "embed_dtype", "late_chunking", "messages"},
		},
		asked: embeddingsForm,
		reply: &jsonspan.Shape{
			Lists:   []string{"data"},
			Members: []string{"model", "usage", "proxy_metadata", "total_time", "individual_request_times"},
			Fields:  []string{"index", "embedding"},
			Vector:  "embedding",
		},
		results: results{
			entries:        jsonspan.Kinds(jsonspan.Object),
			indexRequired:  true,
			vectorRequired: true,
		},
		timing: true,
	},
}

// Find returns the operation that a POST to the path belongs to, nil when there
// is none.
func Find(path string) *Operation {
	for _, op := range operations {
		if slices.Contains(op.Paths, path) {
			return op
		}
	}
	return nil
}

// member returns the member of a request that the operation's shape names.
func (op *Operation) member(d *jsonspan.Document, name string) jsonspan.Member {
	return d.Members[slices.Index(op.request.Members, name)]
}

// items is the name of the member that holds the items.
func (op *Operation) items(d *jsonspan.Document) string {
	return op.request.Lists[max(d.ListIndex, 0)]
}

// wrongItem is the error of an item that is not what was expected.
func (op *Operation) wrongItem(d *jsonspan.Document, i int, expected string) error {
	return &RequestError{
		Field:   fmt.Sprintf("%s[%d]", op.items(d), i),
		Message: fmt.Sprintf("expected %s, not %s", expected, d.Entries[i].Kind),
	}
}
