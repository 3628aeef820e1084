package jsonspan

import (
	"slices"
	"testing"
)

func TestMembersVisitsInOrder(t *testing.T) {
	t.Parallel()
	doc := []byte(` {"a" : 1,"b\n":[2, {"c":3}] , "a":{"d":"}"}} `)
	d := scan(t, new(Shape), string(doc))
	var got []string
	for m := range Members(doc, d.Root) {
		got = append(got, string(m.Key.Of(doc)), string(m.Value.Of(doc)), m.Value.Kind.String())
	}
	want := []string{`"a"`, `1`, "integer", `"b\n"`, `[2, {"c":3}]`, "array", `"a"`, `{"d":"}"}`, "object"}
	if !slices.Equal(got, want) {
		t.Errorf("visited %q, want %q", got, want)
	}
}

func TestElementsVisitsInOrder(t *testing.T) {
	t.Parallel()
	doc := []byte(`[1,-2, "]" ,[3,4],null, 5, 6.5]`)
	d := scan(t, new(Shape), string(doc))
	var got []string
	for v := range Elements(doc, d.Root) {
		got = append(got, string(v.Of(doc)), v.Kind.String())
	}
	want := []string{`1`, "integer", `-2`, "number", `"]"`, "string", `[3,4]`, "array", `null`, "null", `5`, "integer", `6.5`, "number"}
	if !slices.Equal(got, want) {
		t.Errorf("visited %q, want %q", got, want)
	}
}

func TestWalkingStopsWhenAsked(t *testing.T) {
	t.Parallel()
	visits := 0
	object := []byte(`{"a":1,"b":2}`)
	for range Members(object, Value{Span{0, len(object)}, Object}) {
		visits++
		break
	}
	array := []byte(`[1,2]`)
	for range Elements(array, Value{Span{0, len(array)}, Array}) {
		visits++
		break
	}
	if visits != 2 {
		t.Errorf("%d visits, want 2", visits)
	}
}

func TestWalkingVisitsNothingInOtherKinds(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{}`, `[]`, `{"a":1}`, `[1]`, `"{}"`, `12`, `null`} {
		doc := []byte(text)
		d := scan(t, new(Shape), text)
		for range Members(doc, d.Root) {
			if text != `{"a":1}` {
				t.Errorf("a member was found in %s", text)
			}
		}
		for range Elements(doc, d.Root) {
			if text != `[1]` {
				t.Errorf("an element was found in %s", text)
			}
		}
	}
	for range Members(nil, Value{}) {
		t.Error("a member was found in a value that is absent")
	}
	for range Elements(nil, Value{}) {
		t.Error("an element was found in a value that is absent")
	}
}
