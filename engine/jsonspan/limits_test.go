package jsonspan

import (
	"bytes"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestShapeIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	doc := embeddingsReply(4, 64, 32, ",")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			var d Document
			for range 50 {
				if err := replyShape.Scan(doc, &d); err != nil || len(d.Entries) != 4 || d.Entries[3].Vector != (Vector{Flat, 64}) {
					t.Errorf("got %v with %d entries", err, len(d.Entries))
				}
			}
		})
	}
	all.Wait()
}

func TestEntriesAreBounded(t *testing.T) {
	t.Parallel()
	shape := Shape{Lists: []string{"a", "b"}, Fields: []string{"index"}}
	for doc, want := range map[string]error{
		`{"a":[1,2,3]}`:                              nil,
		`{"a":[]}`:                                   nil,
		`{"a":[1,2,3,4]}`:                            &LimitError{MaxEntries: 3},
		`{"a":[1,2,3,{"index":1},{"index":2}]}`:      &LimitError{MaxEntries: 3},
		`{"b":[1,2,3,4],"a":[1]}`:                    nil,
		`{"a":[1],"b":[1,2,3,4]}`:                    nil,
		`{"a":[1,2,3,4,x]}`:                          &SyntaxError{Offset: 14, Message: "expected a value"},
		`{"a":[{"index":1,"index":2},2,3,4],"b":[]}`: &DuplicateError{Name: "index", Offset: 17},
	} {
		d := Document{MaxEntries: 3}
		if err := shape.Scan([]byte(doc), &d); !reflect.DeepEqual(err, want) {
			t.Errorf("%s: got %v, want %v", doc, err, want)
		}
		if cap(d.Entries) > 4 {
			t.Errorf("%s: %d entries were made room for", doc, cap(d.Entries))
		}
	}
}

func TestScanAllocatesNothingOnceWarm(t *testing.T) {
	for name, c := range map[string]struct {
		shape *Shape
		doc   []byte
	}{
		"reply":                     {&replyShape, embeddingsReply(32, 1024, 32, ",")},
		"reply, one number a line":  {&replyShape, embeddingsReply(32, 1024, 32, ",\n\t")},
		"request":                   {&requestShape, embeddingsRequest(1000, 400, "english", "german", "escapes", "u-escape")},
		"names written with escape": {&requestShape, []byte(`{"inp\u0075t":[1],"m\u006fdel":"m","é":1}`)},
		"a worse list before":       {&Shape{Lists: []string{"a", "b"}}, []byte(`{"b":[1,2,3],"a":[4,5]}`)},
	} {
		d := Document{Reserve: func(int) bool { return true }}
		if n := testing.AllocsPerRun(20, func() {
			if err := c.shape.Scan(c.doc, &d); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations a scan, want 0", name, n)
		}
		if n := testing.AllocsPerRun(20, func() {
			if err := Valid(c.doc); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations a check, want 0", name, n)
		}
	}
}

// TestScanOfHostileDocuments scans documents that were made to exhaust something:
// the stack, the memory, or, if any step were more than linear, the time limit of
// the test.
func TestScanOfHostileDocuments(t *testing.T) {
	const size = 8 << 20
	s := &Shape{
		Lists:   []string{"data", "input"},
		Members: []string{"model", "usage"},
		Fields:  []string{"index", "embedding"},
		Vector:  "embedding",
	}
	malformed := &SyntaxError{}
	for name, c := range map[string]struct {
		start, unit, end string
		want             error
	}{
		"open arrays":                       {``, `[`, ``, malformed},
		"open objects":                      {``, `{"":`, ``, malformed},
		"open arrays in the list":           {`{"data":[`, `[`, ``, malformed},
		"arrays at the limit":               {`[`, strings.Repeat("[", 511) + strings.Repeat("]", 511) + ",", `0]`, nil},
		"members of no name":                {`{`, `"":1,`, `"":1}`, nil},
		"members of entries of no name":     {`{"data":[{`, `"":1,`, `"":1}]}`, nil},
		"the better list again and again":   {`{`, `"input":[{"index":1,"index":1}],`, `"data":1}`, &DuplicateError{}},
		"escapes in a string":               {`{"data":"`, `\n`, `"}`, nil},
		"surrogates in a string":            {`{"data":"`, `\ud800`, `"}`, nil},
		"changes of script in a string":     {`{"data":"`, `aé\n`, `"}`, nil},
		"escapes in a name":                 {`{"`, `\u0064`, `":1}`, nil},
		"names that are nearly ours":        {`{`, `"\u0064at":1,`, `"":1}`, nil},
		"numbers in an entry":               {`{"data":[[`, `1,`, `1]]}`, nil},
		"one long number":                   {`{"data":[[`, `1`, `]]}`, nil},
		"one long number at the border":     {`{"data":[[1.`, `7`, `e308]]}`, nil},
		"one long exponent":                 {`{"data":[[1e`, `9`, `]]}`, nil},
		"largest numbers":                   {`{"data":[[`, `1.7976931348623157e308,`, `1]]}`, nil},
		"white space":                       {`{"data":`, ` `, `[]}`, nil},
		"commas":                            {`[`, `,`, ``, malformed},
		"empty arrays in a measured vector": {`{"data":[{"embedding":[`, `[],`, `[]]}]}`, nil},
	} {
		doc := slices.Concat([]byte(c.start), bytes.Repeat([]byte(c.unit), size/len(c.unit)), []byte(c.end))
		var d Document
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := s.Scan(doc, &d)
		runtime.ReadMemStats(&after)
		if reflect.TypeOf(err) != reflect.TypeOf(c.want) {
			t.Errorf("%s: got %v, want a %T", name, err, c.want)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 64<<10 {
			t.Errorf("%s: the scan allocated %d bytes", name, used)
		}
	}
}
