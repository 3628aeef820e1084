package demo

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf8"
)

// fields are the members of a request's JSON object. Names are compared as they
// are; unknown ones are ignored.
type fields map[string]json.RawMessage

// parseFields reads a request's body.
func parseFields(body []byte) (fields, error) {
	if !utf8.Valid(body) {
		return nil, badSyntax(errors.New("invalid unicode code point"))
	}
	var f fields
	err := json.Unmarshal(body, &f)
	var wrongType *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrongType), err == nil && f == nil:
		return nil, badType("invalid type: %s, expected an object", describe(body))
	case err != nil:
		return nil, badSyntax(err)
	}
	return f, nil
}

// require returns a member that must be there.
func (f fields) require(name string) (json.RawMessage, error) {
	raw, ok := f[name]
	if !ok {
		return nil, badType("missing field `%s`", name)
	}
	return raw, nil
}

// text returns the string that a member must be.
func (f fields) text(name string) (string, error) {
	raw, err := f.require(name)
	if err != nil {
		return "", err
	}
	return parseText(name, raw)
}

// flag returns a member that is true or false, or the fallback without it.
func (f fields) flag(name string, fallback bool) (bool, error) {
	switch raw, ok := f[name]; {
	case !ok:
		return fallback, nil
	case string(raw) == "true":
		return true, nil
	case string(raw) == "false":
		return false, nil
	default:
		return false, badType("%s: invalid type: %s, expected a boolean", name, describe(raw))
	}
}

// dimensions returns the length of the vectors that is asked for and the full
// one without it. Its range is checked item by item.
func (f fields) dimensions() (uint64, error) {
	raw, ok := f["dimensions"]
	if !ok || isNull(raw) {
		return Dimensions, nil
	}
	var n uint64
	if err := json.Unmarshal(raw, &n); err != nil {
		return 0, badType("dimensions: invalid type: %s, expected usize", describe(raw))
	}
	return n, nil
}

// base64 says whether vectors are asked for in base64 rather than as numbers.
func (f fields) base64() (bool, error) {
	raw, ok := f["encoding_format"]
	if !ok {
		return false, nil
	}
	format, err := parseText("encoding_format", raw)
	if err != nil {
		return false, err
	}
	if format != "float" && format != "base64" {
		return false, badType("encoding_format: unknown variant `%s`, expected `float` or `base64`", format)
	}
	return format == "base64", nil
}

// noPrompt refuses the name of a prompt, because the model has no prompts.
func (f fields) noPrompt() error {
	raw, ok := f["prompt_name"]
	if !ok || isNull(raw) {
		return nil
	}
	name, err := parseText("prompt_name", raw)
	if err != nil {
		return err
	}
	return invalid("Input validation error: `default-prompt-name` is set to `%s` but no prompts "+
		"were found in the Sentence Transformers configuration", name)
}

// input is one item of a request: a text or a list of token ids.
type input struct {
	text string
	ids  []uint32
}

func (i input) empty() bool {
	return i.text == "" && len(i.ids) == 0
}

func (i input) characters() int {
	if i.ids != nil {
		return len(i.ids)
	}
	return utf8.RuneCountInString(i.text)
}

// inputs returns the items of a member: a text, a list of token ids, or a list
// of texts and such lists. An empty list is one list of no token ids, as with
// the reference server.
func (f fields) inputs(name string) ([]input, error) {
	raw, err := f.require(name)
	if err != nil {
		return nil, err
	}
	if one, ok := parseInput(raw); ok {
		return []input{one}, nil
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		list = nil
	}
	items := make([]input, len(list))
	valid := len(list) > 0
	for i := 0; i < len(list) && valid; i++ {
		items[i], valid = parseInput(list[i])
	}
	if !valid {
		return nil, badType("%s: data did not match any variant of untagged enum Input", name)
	}
	return items, nil
}

// parseInput reads one item.
func parseInput(raw json.RawMessage) (input, bool) {
	switch raw[0] {
	case '"':
		var text string
		err := json.Unmarshal(raw, &text)
		return input{text: text}, err == nil
	case '[':
		return parseIDs(raw)
	}
	return input{}, false
}

// parseIDs reads a list of token ids.
func parseIDs(raw json.RawMessage) (input, bool) {
	if first := bytes.TrimLeft(raw[1:], " \t\r\n"); first[0] != ']' && (first[0] < '0' || first[0] > '9') {
		// A list that begins otherwise is told apart without reading all of it.
		return input{}, false
	}
	var ids []*uint32
	if json.Unmarshal(raw, &ids) != nil {
		return input{}, false
	}
	item := input{ids: make([]uint32, len(ids))}
	for i, id := range ids {
		if id == nil {
			return input{}, false
		}
		item.ids[i] = *id
	}
	return item, true
}

// texts returns the list of strings that a member must be.
func (f fields) texts(name string) ([]string, error) {
	raw, err := f.require(name)
	if err != nil {
		return nil, err
	}
	return parseTexts(name, raw)
}

func parseTexts(name string, raw json.RawMessage) ([]string, error) {
	var list []json.RawMessage
	if isNull(raw) || json.Unmarshal(raw, &list) != nil {
		return nil, badType("%s: invalid type: %s, expected a sequence", name, describe(raw))
	}
	texts := make([]string, len(list))
	for i, item := range list {
		var err error
		if texts[i], err = parseText(name, item); err != nil {
			return nil, err
		}
	}
	return texts, nil
}

func parseText(name string, raw json.RawMessage) (string, error) {
	var text string
	if isNull(raw) || json.Unmarshal(raw, &text) != nil {
		return "", badType("%s: invalid type: %s, expected a string", name, describe(raw))
	}
	return text, nil
}

func isNull(raw json.RawMessage) bool {
	return string(raw) == "null"
}

// describe names the type of a JSON value, and the value where it is short.
func describe(raw json.RawMessage) string {
	raw = bytes.TrimSpace(raw)
	switch raw[0] {
	case '{':
		return "map"
	case '[':
		return "sequence"
	case 'n':
		return "null"
	case '"':
		return "string " + string(raw)
	case 't', 'f':
		return "boolean `" + string(raw) + "`"
	}
	if bytes.ContainsAny(raw, ".eE") {
		return "floating point `" + string(raw) + "`"
	}
	return "integer `" + string(raw) + "`"
}
