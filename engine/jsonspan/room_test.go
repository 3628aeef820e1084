package jsonspan

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// roomShape has two fields, so that both slices of a Document are in use.
var roomShape = Shape{Lists: []string{"a", "b"}, Fields: []string{"index", "score"}}

// listOf returns a document whose list of that name has n entries.
func listOf(name string, n int) []byte {
	return []byte(`{"` + name + `":[` + strings.TrimSuffix(strings.Repeat(`{"index":7},`, n), ",") + `]}`)
}

func TestRoomIsReservedBeforeItIsMade(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before, entries, maxEntries int
		want                        []int
	}{
		"an empty list":                         {0, 0, 0, nil},
		"a short list":                          {0, 16, 0, []int{16}},
		"one entry more":                        {0, 17, 0, []int{16, 32}},
		"a long list":                           {0, 5121, 0, []int{16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192}},
		"a bound below the first room":          {0, 3, 3, []int{3}},
		"a bound between":                       {0, 40, 40, []int{16, 32, 40}},
		"a list after one of its length":        {40, 40, 0, []int{64}},
		"an empty list after another":           {40, 0, 0, []int{64}},
		"a longer list after another":           {40, 65, 0, []int{64, 128}},
		"a bound below the room of one before":  {40, 20, 20, []int{64}},
		"a bound just above the room there was": {40, 65, 65, []int{64, 65}},
	} {
		var d Document
		if c.before > 0 {
			if err := roomShape.Scan(listOf("a", c.before), &d); err != nil {
				t.Fatal(err)
			}
		}
		var got []int
		d.MaxEntries = c.maxEntries
		d.Reserve = func(entries int) bool {
			if held := cap(d.Entries); held > entries || cap(d.Fields) != 2*held {
				t.Errorf("%s: asked for %d entries with room for %d and %d fields", name, entries, held, cap(d.Fields))
			}
			got = append(got, entries)
			return true
		}
		if err := roomShape.Scan(listOf("a", c.entries), &d); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: asked for %d entries, want %d", name, got, c.want)
		}
		if room := cap(d.Entries); len(got) > 0 && room != got[len(got)-1] || cap(d.Fields) != 2*room {
			t.Errorf("%s: room for %d entries and %d fields", name, room, cap(d.Fields))
		}
		if len(d.Entries) != c.entries || len(d.Fields) != 2*c.entries {
			t.Errorf("%s: %d entries and %d fields, want %d", name, len(d.Entries), len(d.Fields), c.entries)
		}
		for i := range d.Entries {
			if d.Field(i, 0).Kind != Integer || d.Field(i, 1).Kind != None {
				t.Fatalf("%s: the fields of entry %d are %v and %v", name, i, d.Field(i, 0), d.Field(i, 1))
			}
		}
	}
}

func TestRoomThatIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before, allowed int
		doc             string
		want            error
		asked           []int
	}{
		"none at all":               {0, 0, string(listOf("a", 1)), &LimitError{MaxEntries: 0}, []int{16}},
		"none for an empty list":    {0, 0, string(listOf("a", 0)), nil, nil},
		"none for a longer list":    {0, 40, string(listOf("a", 90)), &LimitError{MaxEntries: 32}, []int{16, 32, 64}},
		"enough":                    {0, 40, string(listOf("a", 32)), nil, []int{16, 32}},
		"none for the room held":    {40, 63, string(listOf("a", 3)), &LimitError{MaxEntries: 0}, []int{64}},
		"held, and no list for it":  {40, 63, string(listOf("a", 0)), nil, []int{64}},
		"no more than what is held": {40, 64, string(listOf("a", 65)), &LimitError{MaxEntries: 64}, []int{64, 128}},
		"a better list that fits": {0, 16, `{"b":[` + strings.Repeat("1,", 20) + `1],"a":[1]}`, nil,
			[]int{16, 32, 16}},
		"a malformed document": {0, 0, `{"a":[1,2,x]}`, &SyntaxError{Offset: 10, Message: "expected a value"}, []int{16}},
	} {
		var d Document
		if c.before > 0 {
			if err := roomShape.Scan(listOf("a", c.before), &d); err != nil {
				t.Fatal(err)
			}
		}
		var asked []int
		d.Reserve = func(entries int) bool {
			asked = append(asked, entries)
			return entries <= c.allowed
		}
		if err := roomShape.Scan([]byte(c.doc), &d); !reflect.DeepEqual(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
		if !slices.Equal(asked, c.asked) {
			t.Errorf("%s: asked for %d entries, want %d", name, asked, c.asked)
		}
		if cap(d.Entries) > c.allowed || cap(d.Fields) > 2*c.allowed {
			t.Errorf("%s: room for %d entries and %d fields, allowed were %d entries", name, cap(d.Entries), cap(d.Fields), c.allowed)
		}
	}
}

func TestRoomOfOneShapeForAnother(t *testing.T) {
	t.Parallel()
	var d Document
	var asked []int
	d.Reserve = func(entries int) bool {
		asked = append(asked, entries)
		return true
	}
	for _, fields := range [][]string{{"index", "score"}, {"index"}, nil, {"score", "x", "index"}} {
		asked = nil
		s := Shape{Lists: []string{"a"}, Fields: fields}
		if err := s.Scan(listOf("a", 20), &d); err != nil {
			t.Fatal(err)
		}
		if want := []int{16, 32}; !slices.Equal(asked, want) || cap(d.Entries) != 32 || cap(d.Fields) != 32*len(fields) {
			t.Errorf("%d fields: asked for %d entries, made room for %d and %d fields", len(fields), asked, cap(d.Entries), cap(d.Fields))
		}
	}
}

func TestRoomThatIsRefusedOnceIsAskedForAgain(t *testing.T) {
	t.Parallel()
	var d Document
	allowed := false
	d.Reserve = func(int) bool { return allowed }
	var limit *LimitError
	if err := roomShape.Scan(listOf("a", 3), &d); !errors.As(err, &limit) {
		t.Fatalf("got %v, want a LimitError", err)
	}
	allowed = true
	if err := roomShape.Scan(listOf("a", 3), &d); err != nil || len(d.Entries) != 3 {
		t.Errorf("got %v with %d entries, want 3", err, len(d.Entries))
	}
}
