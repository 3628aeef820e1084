package engine

import (
	"fmt"

	"github.com/basetenlabs/caddy-performance-proxy/engine/jsonspan"
)

// embeddingsForm judges a request for embeddings. The input is a string, a list
// of token ids (one item as well), or a list of strings, lists of token ids and
// objects, mixed. Requests that are no sum of their parts are not split: late
// chunking joins all inputs, chat messages are one item, and encodings beside
// float and base64 have replies of their own form.
func embeddingsForm(op *Operation, doc []byte, d *jsonspan.Document) (asked, error) {
	encoding := op.member(d, "encoding_format").Value
	foreign := false
	switch encoding.Kind {
	case jsonspan.None, jsonspan.Null:
	case jsonspan.String:
		name := jsonspan.Unquote(doc, encoding)
		foreign = name != "float" && name != "base64"
	default:
		return asked{}, &RequestError{Field: "encoding_format", Message: "expected a string, not " + encoding.Kind.String()}
	}
	a, err := embeddingsInput(op, d)
	switch {
	case foreign:
		a.form = formForeign
	case a.form == formList && op.member(d, "late_chunking").Value.Kind == jsonspan.True:
		a.form = formWhole
	}
	return a, err
}

// embeddingsInput judges the input alone.
func embeddingsInput(op *Operation, d *jsonspan.Document) (asked, error) {
	input := d.List.Value
	if k := op.member(d, "messages").Value.Kind; k != jsonspan.None && k != jsonspan.Null {
		if input.Kind == jsonspan.None {
			return asked{form: formSingle, items: 1}, nil
		}
		return asked{form: formForeign, items: itemsUnknown}, nil
	}
	switch input.Kind {
	case jsonspan.None:
		return asked{}, &RequestError{Field: "input", Message: "missing: expected a string or a list"}
	case jsonspan.String:
		return asked{form: formSingle, items: 1}, nil
	case jsonspan.Array:
	default:
		return asked{}, &RequestError{
			Field:   "input",
			Message: fmt.Sprintf("expected a string, a list of strings, lists of token ids or objects, or a list of token ids, not %s", input.Kind),
		}
	}
	switch {
	case len(d.Entries) == 0:
		return asked{}, &RequestError{Field: "input", Message: "is empty: expected at least one item"}
	case d.Elements.Only(jsonspan.Integer):
		return asked{form: formSingle, items: 1}, nil
	}
	return asked{form: formList, items: len(d.Entries)}, embeddingsItems(op, d)
}

// embeddingsItems judges the items of a list.
func embeddingsItems(op *Operation, d *jsonspan.Document) error {
	for i := range d.Entries {
		switch item := &d.Entries[i]; item.Kind {
		case jsonspan.String, jsonspan.Object:
		case jsonspan.Array:
			if !item.Elements.Only(jsonspan.Integer) {
				return &RequestError{
					Field:   fmt.Sprintf("%s[%d]", op.items(d), i),
					Message: "expected a list of token ids, which are integers of 0 and more",
				}
			}
		default:
			return op.wrongItem(d, i, "a string, a list of token ids or an object")
		}
	}
	return nil
}
