package jsonspan

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// seeds are documents from which fuzzing starts, of all shapes that matter.
var seeds = []string{
	`{"model":"m","input":["a","b\n","\u00e9\ud83d\ude00\ud800","é€😀"],"user":null}`,
	`{"inputs":[[1,2,3],["a","b"],{"a":"x","b":["y"]},"z",4,-5.5,true,null]}`,
	`{"inputs":"worse","inp\u0075t":"better","texts":[]}`,
	`{"input":[1,2],"input":[3]}`,
	`{"object":"list","data":[{"index":0,"embedding":[0.012345678,-0.5,1e-05,12]},{"index":1,"embedding":"AACAPw=="}],"usage":{"total_tokens":1}}`,
	`{"data":[{"embedding":[[1,2],[3,4]],"index":-0},{"embedding":[[[1],[2]],[[3],[4]]]},{"embedding":[[1],[2,3]]},{"embedding":[[1],[[2]]]}]}`,
	`{"data":[{"index":0,"index":1}],"results":[{"index":0,"score":0.5}]}`,
	`[{"index":1,"score":0.99,"text":"t"},{"index":0,"score":0.1}]`,
	`[[{"index":3,"value":0.5}],[{"score":1,"label":"a"},{"score":2}],[]]`,
	` [ [ 0.1 , -0.2 ] , [ 3 , 4 ] , [ null ] ] `,
	`[0.0123456789,-0.0123456789,0.012345678901234567,-1234567,12345678,0,1,22,333.5, 7, 8]`,
	`[[1e999,2],[-1E+309,1.7976931348623157e308,1.7976931348623159e308,0.00017e312,0e999,1e-999],1e309,[10e307,0.1e310]]`,
	`{"data":[{"index":1e400,"embedding":[0.5,1e309]},{"embedding":[[1,2],[3,1e999]]}]}`,
	`[` + strings.Repeat("1", 400) + `,` + strings.Repeat("9", 308) + `]`,
	`{"":{"":""},"\"":[],"a":"\"\\\/\b\f\n\r\t"}`,
	`"plain text of more than eight bytes, then é, then more"`,
	`{"a":{"b":{"c":[[[[[[]]]]]]}}}`,
	"\"\xed\xa0\x80\"", "\xef\xbb\xbf{}", `{"a":tru}`, `[1,2`, `01`, `-`, ``,
}

func seed(f *testing.F) {
	for _, doc := range seeds {
		f.Add([]byte(doc))
	}
}

// valid is the strict check as encoding/json and unicode/utf8 would do it.
func valid(doc []byte) bool {
	return json.Valid(doc) && utf8.Valid(doc) && depth(doc) <= maxDepth
}

// depth returns how deep the arrays and objects of a valid document are nested.
func depth(doc []byte) int {
	deepest, open := 0, 0
	inString := false
	for i := 0; i < len(doc); i++ {
		switch c := doc[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '[' || c == '{':
			open++
			deepest = max(deepest, open)
		case c == ']' || c == '}':
			open--
		}
	}
	return deepest
}

func FuzzValid(f *testing.F) {
	seed(f)
	f.Add([]byte(nested("[", "]", maxDepth)))
	f.Add([]byte(nested("[", "]", maxDepth+1)))
	f.Fuzz(func(t *testing.T, doc []byte) {
		err := Valid(doc)
		if (err == nil) != valid(doc) {
			t.Fatalf("got %v, encoding/json says %v", err, valid(doc))
		}
		checkSyntaxError(t, doc, err)
	})
}

// checkSyntaxError checks that an error is of its type and points into doc.
func checkSyntaxError(t *testing.T, doc []byte, err error) {
	t.Helper()
	var syntax *SyntaxError
	if err != nil && (!errors.As(err, &syntax) || syntax.Offset < 0 || syntax.Offset > len(doc)) {
		t.Fatalf("got %#v, want a SyntaxError in a document of %d bytes", err, len(doc))
	}
}

// checkScan holds a scan of doc, valid or not, against encoding/json.
func checkScan(t *testing.T, s *Shape, doc []byte) {
	t.Helper()
	var d Document
	if err := s.Scan([]byte(`{"data":[{"index":1},[2]],"input":[3],"model":"m"}`), &d); err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(doc)
	err := s.Scan(doc, &d)
	if !bytes.Equal(doc, before) {
		t.Fatal("the scan changed the document")
	}
	if !valid(doc) {
		if err == nil {
			t.Fatal("a malformed document was accepted")
		}
		checkSyntaxError(t, doc, err)
		return
	}
	want, wantErr := reference(doc, s)
	var duplicate *DuplicateError
	switch {
	case wantErr == nil && err != nil:
		t.Fatal(err)
	case wantErr == nil:
		if text := difference(&d, want); text != "" {
			t.Fatal(text)
		}
	case !errors.As(err, &duplicate):
		t.Fatalf("got %v, want %v", err, wantErr)
	case !slices.Contains(slices.Concat(s.Lists, s.Members, s.Fields), duplicate.Name):
		t.Fatalf("got %v, of no name in the shape", err)
	case Unquote(doc, Value{Span{duplicate.Offset, keyEnd(doc, duplicate.Offset)}, String}) != duplicate.Name:
		t.Fatalf("got %v, but another name stands there", err)
	}
}

// keyEnd returns where the string that begins at i ends.
func keyEnd(doc []byte, i int) int {
	decoder := json.NewDecoder(bytes.NewReader(doc[i:]))
	must(decoder.Token())
	return i + int(decoder.InputOffset())
}

func FuzzScanRequest(f *testing.F) {
	seed(f)
	s := &Shape{
		Lists:   []string{"input", "inputs", "", "texts"},
		Members: []string{"model", "user", ""},
		Fields:  []string{"a", "b"},
	}
	f.Fuzz(func(t *testing.T, doc []byte) { checkScan(t, s, doc) })
}

func FuzzScanReply(f *testing.F) {
	for _, doc := range seeds {
		f.Add([]byte(doc), false)
		f.Add([]byte(doc), true)
	}
	s := Shape{
		Lists:   []string{"", "results", "data"},
		Members: []string{"model", "usage", "object"},
		Fields:  []string{"index", "score", "embedding"},
		Vector:  "embedding",
	}
	f.Fuzz(func(t *testing.T, doc []byte, whole bool) {
		s := s
		if whole {
			s.Vector = "."
		}
		checkScan(t, &s, doc)
	})
}

func FuzzWalk(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, doc []byte) {
		if !valid(doc) {
			return
		}
		var d Document
		if err := new(Shape).Scan(doc, &d); err != nil {
			t.Fatal(err)
		}
		decoder := json.NewDecoder(bytes.NewReader(doc))
		decoder.UseNumber()
		var want any
		if err := decoder.Decode(&want); err != nil {
			t.Fatal(err)
		}
		if got := walk(t, doc, d.Root); !reflect.DeepEqual(got, want) {
			t.Fatalf("got %#v, want %#v", got, want)
		}
	})
}

// walk returns v as encoding/json decodes it, and checks the place of each part
// of it on the way.
func walk(t *testing.T, doc []byte, v Value) any {
	var found []part
	for m := range Members(doc, v) {
		key := Value{m.Key, String}
		found = append(found, part{m.Value, m.Key, Unquote(doc, key)})
	}
	for e := range Elements(doc, v) {
		found = append(found, part{Value: e})
	}
	switch v.Kind {
	case Null:
		return nil
	case False, True:
		return v.Kind == True
	case Integer, Number, Overflow:
		return json.Number(v.Of(doc))
	case String:
		return Unquote(doc, v)
	}
	if want := parts(doc, v); !slices.Equal(found, want) {
		t.Fatalf("%v has %v, want %v", v, found, want)
	}
	if v.Kind == Array {
		elements := []any{}
		for _, p := range found {
			elements = append(elements, walk(t, doc, p.Value))
		}
		return elements
	}
	members := map[string]any{}
	for _, p := range found {
		members[p.name] = walk(t, doc, p.Value)
	}
	return members
}
