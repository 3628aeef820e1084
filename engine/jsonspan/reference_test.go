package jsonspan

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"unicode/utf8"
)

// This file does with encoding/json what the package does without it: slowly, in
// many passes, and as literally as it is written down. It is for valid documents.

// part is a value of a document, and its name when it is a member.
type part struct {
	Value
	key  Span
	name string
}

// parts returns the elements or members of the array or object v.
func parts(doc []byte, v Value) []part {
	raw := v.Of(doc)
	decoder := json.NewDecoder(bytes.NewReader(raw))
	must(decoder.Token())
	var all []part
	for decoder.More() {
		var p part
		if v.Kind == Object {
			before := int(decoder.InputOffset())
			p.name = must(decoder.Token()).(string)
			p.key = Span{
				Start: v.Start + before + bytes.IndexByte(raw[before:], '"'),
				End:   v.Start + int(decoder.InputOffset()),
			}
		}
		var value json.RawMessage
		must(0, decoder.Decode(&value))
		end := v.Start + int(decoder.InputOffset())
		p.Value = Value{Span{end - len(value), end}, kindOf(value)}
		all = append(all, p)
	}
	return all
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var integer = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)

func kindOf(raw []byte) Kind {
	switch raw[0] {
	case 'n':
		return Null
	case 'f':
		return False
	case 't':
		return True
	case '"':
		return String
	case '[':
		return Array
	case '{':
		return Object
	}
	// ParseFloat misjudges numbers of more than 10000 digits with an exponent as
	// large, which fuzzing does not come up with.
	if _, err := strconv.ParseFloat(string(raw), 64); errors.Is(err, strconv.ErrRange) {
		return Overflow
	}
	if integer.Match(raw) {
		return Integer
	}
	return Number
}

// root returns the place and kind of the root.
func root(doc []byte) Value {
	const white = " \t\r\n"
	text := bytes.TrimRight(doc, white)
	start := len(text) - len(bytes.TrimLeft(text, white))
	return Value{Span{start, len(text)}, kindOf(text[start:])}
}

// chars returns the number of scalars in all string values of v.
func chars(doc []byte, v Value) int {
	switch v.Kind {
	case String:
		var text string
		must(0, json.Unmarshal(v.Of(doc), &text))
		return utf8.RuneCountInString(text)
	case Array, Object:
		sum := 0
		for _, p := range parts(doc, v) {
			sum += chars(doc, p.Value)
		}
		return sum
	}
	return 0
}

// vectorOf returns the measure of v and, when it is flat or nested, its levels.
func vectorOf(doc []byte, v Value) (Vector, int) {
	if v.Kind == String {
		return Vector{Text, chars(doc, v)}, 0
	}
	if v.Kind != Array {
		return Vector{Form: Odd}, 0
	}
	elements := parts(doc, v)
	are := func(kinds ...Kind) bool {
		return !slices.ContainsFunc(elements, func(p part) bool { return !slices.Contains(kinds, p.Kind) })
	}
	switch {
	case len(elements) == 0:
		return Vector{Form: Odd}, 0
	case are(Integer, Number):
		return Vector{Flat, len(elements)}, 1
	case are(Object):
		return Vector{Form: Sparse}, 0
	case !are(Array):
		return Vector{Form: Odd}, 0
	}
	first, levels := vectorOf(doc, elements[0].Value)
	for _, p := range elements[1:] {
		if vector, l := vectorOf(doc, p.Value); vector != first || l != levels {
			return Vector{Form: Odd}, 0
		}
	}
	if levels == 0 {
		return Vector{Form: Odd}, 0
	}
	return Vector{Nested, first.Len}, levels + 1
}

// kindsOf returns the kinds of the elements of v and how many there are.
func kindsOf(doc []byte, v Value) (kinds KindSet, count int) {
	if v.Kind != Array {
		return 0, 0
	}
	for _, p := range parts(doc, v) {
		kinds |= Kinds(p.Kind)
		count++
	}
	return kinds, count
}

// named returns the members of that name, and the error if there are several.
func named(members []part, name string) (part, error) {
	var found []part
	for _, p := range members {
		if p.name == name {
			found = append(found, p)
		}
	}
	switch len(found) {
	case 0:
		return part{}, nil
	case 1:
		return found[0], nil
	}
	return found[0], &DuplicateError{Name: name, Offset: found[1].key.Start}
}

// reference returns what a scan finds. Of several duplicates it reports that of
// the first name.
func reference(doc []byte, s *Shape) (*Document, error) {
	d := &Document{Root: root(doc), ListIndex: -1}
	var members []part
	if d.Root.Kind == Object {
		members = parts(doc, d.Root)
	}
	for i, name := range s.Lists {
		list := part{}
		if name != "" {
			var err error
			if list, err = named(members, name); err != nil {
				return nil, err
			}
		} else if d.Root.Kind == Array {
			list = part{Value: d.Root}
		}
		if list.Kind != None && d.ListIndex < 0 {
			d.ListIndex = i
			d.List = Member{list.key, list.Value}
		}
	}
	for _, name := range s.Members {
		p, err := named(members, name)
		if err != nil {
			return nil, err
		}
		d.Members = append(d.Members, Member{p.key, p.Value})
	}
	d.Chars = chars(doc, d.List.Value)
	d.Elements, _ = kindsOf(doc, d.List.Value)
	if d.List.Value.Kind == Array {
		for _, p := range parts(doc, d.List.Value) {
			if err := d.addEntry(doc, s, p.Value); err != nil {
				return nil, err
			}
		}
	}
	return d, nil
}

// addEntry adds what a scan finds of one entry.
func (d *Document) addEntry(doc []byte, s *Shape, v Value) error {
	entry := Entry{Value: v, Chars: chars(doc, v)}
	entry.Elements, entry.Count = kindsOf(doc, v)
	var members []part
	if v.Kind == Object {
		members = parts(doc, v)
	}
	for _, name := range s.Fields {
		p, err := named(members, name)
		if err != nil {
			return err
		}
		d.Fields = append(d.Fields, p.Value)
		if name == s.Vector && p.Kind != None {
			entry.Vector, _ = vectorOf(doc, p.Value)
		}
	}
	if s.Vector == "." {
		entry.Vector, _ = vectorOf(doc, v)
	}
	d.Entries = append(d.Entries, entry)
	return nil
}

// difference says in what two results of a scan differ, "" if in nothing.
func difference(got, want *Document) string {
	switch {
	case got.Root != want.Root:
		return fmt.Sprintf("root is %v, want %v", got.Root, want.Root)
	case got.List != want.List || got.ListIndex != want.ListIndex:
		return fmt.Sprintf("list is %d at %v, want %d at %v", got.ListIndex, got.List, want.ListIndex, want.List)
	case got.Chars != want.Chars:
		return fmt.Sprintf("chars are %d, want %d", got.Chars, want.Chars)
	case got.Elements != want.Elements:
		return fmt.Sprintf("elements are %b, want %b", got.Elements, want.Elements)
	case !slices.Equal(got.Members, want.Members):
		return fmt.Sprintf("members are %v, want %v", got.Members, want.Members)
	case !slices.Equal(got.Entries, want.Entries):
		return fmt.Sprintf("entries are %v, want %v", got.Entries, want.Entries)
	case !slices.Equal(got.Fields, want.Fields):
		return fmt.Sprintf("fields are %v, want %v", got.Fields, want.Fields)
	}
	return ""
}
