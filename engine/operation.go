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
	// request.
	request *jsonspan.Shape
	// asked judges a scanned request: how its items stand, or what is wrong.
	asked func(op *Operation, doc []byte, d *jsonspan.Document) (asked, error)

	// reply says where the results stand in the reply: the list "" is a reply that
	// is an array. The members and the index that its shape does not name are not
	// looked for; metadata is added to replies that are objects.
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

// The names by which requests and replies of all operations call these members.
const (
	memberModel           = "model"
	memberUsage           = "usage"
	memberMetadata        = "proxy_metadata"
	memberTotalTime       = "total_time"
	memberIndividualTimes = "individual_request_times"
	fieldIndex            = "index"
)

// operations is the table.
var operations = []*Operation{
	{
		Name:  "embeddings",
		Paths: []string{"/v1/embeddings", "/embeddings"},
		request: &jsonspan.Shape{
			Lists:   []string{"input"},
			Members: []string{memberModel, "encoding_format", "embed_dtype", "late_chunking", "messages"},
		},
		asked: embeddingsForm,
		reply: &jsonspan.Shape{
			Lists:   []string{"data"},
			Members: []string{memberModel, memberUsage, memberMetadata, memberTotalTime, memberIndividualTimes},
			Fields:  []string{fieldIndex, "embedding"},
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

// member returns a member of a request, the absent one when the operation's
// shape does not name it.
func (op *Operation) member(d *jsonspan.Document, name string) jsonspan.Member {
	return memberOf(op.request, d.Members, name)
}

// memberOf returns the member of a name among those that were found for a shape.
func memberOf(shape *jsonspan.Shape, members []jsonspan.Member, name string) jsonspan.Member {
	if i := slices.Index(shape.Members, name); i >= 0 {
		return members[i]
	}
	return jsonspan.Member{}
}

// index returns the index of an entry of a reply, the absent value when the
// operation's results have none.
func (op *Operation) index(d *jsonspan.Document, entry int) jsonspan.Value {
	return op.field(d, entry, fieldIndex)
}

// vector returns where the vector of an entry stands.
func (op *Operation) vector(d *jsonspan.Document, entry int) jsonspan.Value {
	if op.reply.Vector == "." {
		return d.Entries[entry].Value
	}
	return op.field(d, entry, op.reply.Vector)
}

func (op *Operation) field(d *jsonspan.Document, entry int, name string) jsonspan.Value {
	if i := slices.Index(op.reply.Fields, name); i >= 0 {
		return d.Field(entry, i)
	}
	return jsonspan.Value{}
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
