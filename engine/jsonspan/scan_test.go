package jsonspan

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// scan scans doc for s and ends the test if that fails.
func scan(t *testing.T, s *Shape, doc string) *Document {
	t.Helper()
	var d Document
	if err := s.Scan([]byte(doc), &d); err != nil {
		t.Fatalf("scan of %s: %v", doc, err)
	}
	return &d
}

func TestScanFindsTheList(t *testing.T) {
	t.Parallel()
	s := &Shape{Lists: []string{"", "results", "data"}}
	for name, c := range map[string]struct {
		doc     string
		index   int
		key     string
		list    string
		entries []string
	}{
		"the document itself":           {` [1, "a"] `, 0, ``, `[1, "a"]`, []string{`1`, `"a"`}},
		"a member":                      {`{"a":1, "data" : [ {} ,[2] ] }`, 2, `"data"`, `[ {} ,[2] ]`, []string{`{}`, `[2]`}},
		"an empty list":                 {`{"data":[]}`, 2, `"data"`, `[]`, nil},
		"a list that is a string":       {`{"data":"x"}`, 2, `"data"`, `"x"`, nil},
		"a list that is an object":      {`{"data":{"data":[1]}}`, 2, `"data"`, `{"data":[1]}`, nil},
		"a list that is null":           {`{"data":null}`, 2, `"data"`, `null`, nil},
		"a name written with escapes":   {`{"\u0064at\u0061":[1]}`, 2, `"\u0064at\u0061"`, `[1]`, []string{`1`}},
		"the better one first":          {`{"results":[1],"data":[2,3]}`, 1, `"results"`, `[1]`, []string{`1`}},
		"the better one last":           {`{"data":[2,3],"results":[1]}`, 1, `"results"`, `[1]`, []string{`1`}},
		"a better one that is no array": {`{"data":[2,3],"results":null}`, 1, `"results"`, `null`, nil},
		"no list":                       {`{"date":[1],"dat":[2],"dataa":[3]}`, -1, ``, ``, nil},
		"a list only further inside":    {`{"a":{"data":[1]}}`, -1, ``, ``, nil},
		"a member of the empty name":    {`{"":[1]}`, -1, ``, ``, nil},
		"a name with a backslash":       {`{"\\u0064ata":[1]}`, -1, ``, ``, nil},
		"a document that is a string":   {`"data"`, -1, ``, ``, nil},
	} {
		d := scan(t, s, c.doc)
		doc := []byte(c.doc)
		if d.ListIndex != c.index || string(d.List.Key.Of(doc)) != c.key || string(d.List.Value.Of(doc)) != c.list {
			t.Errorf("%s: found list %d: %s:%s", name, d.ListIndex, d.List.Key.Of(doc), d.List.Value.Of(doc))
		}
		var entries []string
		for _, e := range d.Entries {
			entries = append(entries, string(e.Of(doc)))
		}
		if !slices.Equal(entries, c.entries) {
			t.Errorf("%s: found entries %q, want %q", name, entries, c.entries)
		}
	}
}

func TestScanComparesDecodedNames(t *testing.T) {
	t.Parallel()
	for doc, want := range map[string][]int{
		`{"data":[]}`:                      {0, -1, -1},
		`{"d\u0061ta":[]}`:                 {0, -1, -1},
		`{"d\\u0061ta":[]}`:                {-1, 0, -1},
		`{"d\u005cu0061ta":[]}`:            {-1, 0, -1},
		`{"donn\u00e9es \ud83d\ude00":[]}`: {-1, -1, 0},
		`{"données 😀":[]}`:                 {-1, -1, 0},
		`{"données":[]}`:                   {-1, -1, -1},
		`{"données 😀\u0000":[]}`:           {-1, -1, -1},
	} {
		for i, name := range []string{`data`, `d\u0061ta`, `données 😀`} {
			if got := scan(t, &Shape{Lists: []string{name}}, doc).ListIndex; got != want[i] {
				t.Errorf("list %q in %s has index %d, want %d", name, doc, got, want[i])
			}
		}
	}
}

func TestScanTellsTheKindOfTheRoot(t *testing.T) {
	t.Parallel()
	for doc, want := range map[string]Kind{
		`null`: Null, `false`: False, `true`: True, `0`: Integer, `12`: Integer, `-0`: Number, `-5`: Number,
		`1.0`: Number, `1e3`: Number, `1E3`: Number, `"a"`: String, `[]`: Array, "\n{}\n": Object,
	} {
		d := scan(t, &Shape{Lists: []string{"data"}}, doc)
		if d.Root.Kind != want || d.ListIndex != -1 {
			t.Errorf("%s is %v with list %d, want %v without", doc, d.Root.Kind, d.ListIndex, want)
		}
		if text := strings.TrimSpace(doc); string(d.Root.Of([]byte(doc))) != text {
			t.Errorf("root is %q, want %q", d.Root.Of([]byte(doc)), text)
		}
	}
}

func TestScanFindsMembers(t *testing.T) {
	t.Parallel()
	s := &Shape{Lists: []string{"data"}, Members: []string{"model", "usage", "data"}}
	doc := `{"usage" : {"model":"inner"} ,"data":[{"usage":1}],"other":2}`
	d := scan(t, s, doc)
	want := []string{``, `"usage" {"model":"inner"} object`, `"data" [{"usage":1}] array`}
	for i, m := range d.Members {
		got := ""
		if m.Value.Kind != None {
			got = fmt.Sprintf("%s %s %v", m.Key.Of([]byte(doc)), m.Value.Of([]byte(doc)), m.Value.Kind)
		}
		if got != want[i] {
			t.Errorf("member %s is %q, want %q", s.Members[i], got, want[i])
		}
	}
	if len(d.Entries) != 1 {
		t.Errorf("found %d entries of a list that is also a member, want 1", len(d.Entries))
	}
}

func TestScanFindsFields(t *testing.T) {
	t.Parallel()
	s := &Shape{Lists: []string{""}, Fields: []string{"index", "score"}}
	doc := `[{"score":0.5,"index":1},{"index":2,"other":{"score":3}},4,{"sc\u006fre":null}]`
	d := scan(t, s, doc)
	want := [][2]string{{"1", "0.5"}, {"2", ""}, {"", ""}, {"", "null"}}
	if len(d.Entries) != len(want) {
		t.Fatalf("found %d entries, want %d", len(d.Entries), len(want))
	}
	for entry, row := range want {
		for field, text := range row {
			v := d.Field(entry, field)
			if got := string(v.Of([]byte(doc))); got != text || (v.Kind == None) != (text == "") {
				t.Errorf("field %d of entry %d is %q of kind %v, want %q", field, entry, got, v.Kind, text)
			}
		}
	}
}

func TestScanMeasuresEntries(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		entry    string
		chars    int
		count    int
		elements KindSet
	}{
		"plain text":                      {`"hello, world"`, 12, 0, 0},
		"an empty text":                   {`""`, 0, 0, 0},
		"scalars of all lengths":          {`"aé€😀"`, 4, 0, 0},
		"words of several scripts":        {`"да, на 한국 é"`, 11, 0, 0},
		"a combining mark":                {`"e\u0301"`, 2, 0, 0},
		"escapes":                         {`"\"\\\/\b\f\n\r\t"`, 8, 0, 0},
		"an escaped surrogate pair":       {`"\ud83d\ude00"`, 1, 0, 0},
		"escaped lone surrogates":         {`"\ud83d\ud83d\ude00\ude00\ud83dx"`, 5, 0, 0},
		"a number":                        {`5`, 0, 0, 0},
		"an empty array":                  {`[]`, 0, 0, 0},
		"token ids":                       {`[101, 2023,102]`, 0, 3, Kinds(Integer)},
		"token ids one a line":            {"[\n101,\n2023,\n102\n]", 0, 3, Kinds(Integer)},
		"many token ids":                  {`[1,22,333,4444,55555,666666,7777777,88888888,999999999]`, 0, 9, Kinds(Integer)},
		"one negative number among many":  {`[1,22,333,-4,55555,666666,7777777]`, 0, 7, Kinds(Integer, Number)},
		"numbers that are no integers":    {`[1.0,1e3,-0,1E+2,0.5]`, 0, 5, Kinds(Number)},
		"a pair of texts":                 {`["ab", "cde"]`, 5, 2, Kinds(String)},
		"elements of all kinds":           {`[null,true,false,1,-1,"x",[],{}]`, 1, 8, Kinds(Null, True, False, Integer, Number, String, Array, Object)},
		"elements of elements":            {`[["a"],["b",["c"]]]`, 3, 2, Kinds(Array)},
		"an object without its names":     {`{"text":"abc","title":"de","more":{"f":["g"]}}`, 6, 0, 0},
		"an object whose name is escaped": {`{"\u0061\n":"é"}`, 1, 0, 0},
	} {
		d := scan(t, &Shape{Lists: []string{"input"}}, `{"user":"not counted","input":["12",`+c.entry+`,"345"],"end":"x"}`)
		e := d.Entries[1]
		if e.Chars != c.chars || e.Count != c.count || e.Elements != c.elements {
			t.Errorf("%s: %d chars, %d elements of kinds %b; want %d, %d, %b", name, e.Chars, e.Count, e.Elements, c.chars, c.count, c.elements)
		}
		if d.Chars != c.chars+5 {
			t.Errorf("%s: %d chars in the list, want %d", name, d.Chars, c.chars+5)
		}
	}
}

func TestScanMeasuresTheList(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		doc      string
		chars    int
		elements KindSet
	}{
		"an array":               {`{"input":["a",1,{"b":"cd"}],"x":"yz"}`, 3, Kinds(String, Integer, Object)},
		"an empty array":         {`{"input":[]}`, 0, 0},
		"a string":               {`{"input":"h\u00e9"}`, 2, 0},
		"an object":              {`{"input":{"a":["b","cd"]}}`, 3, 0},
		"a better one at last":   {`{"texts":["abc",null],"input":[1]}`, 0, Kinds(Integer)},
		"a better one, a string": {`{"texts":["abc",null],"input":"x"}`, 1, 0},
	} {
		d := scan(t, &Shape{Lists: []string{"input", "texts"}}, c.doc)
		if d.Chars != c.chars || d.Elements != c.elements {
			t.Errorf("%s: %d chars, elements of kinds %b; want %d, %b", name, d.Chars, d.Elements, c.chars, c.elements)
		}
	}
}

func TestScanMeasuresVectors(t *testing.T) {
	t.Parallel()
	long := strings.TrimSuffix(strings.Repeat("-0.012345678,", 1024), ",")
	for name, c := range map[string]struct {
		vector string
		want   Vector
	}{
		"numbers":                       {`[1,-2.5,3e-7]`, Vector{Flat, 3}},
		"one number":                    {`[0]`, Vector{Flat, 1}},
		"many numbers":                  {`[` + long + `]`, Vector{Flat, 1024}},
		"many numbers with blanks":      {`[ ` + strings.ReplaceAll(long, ",", ", ") + ` ]`, Vector{Flat, 1024}},
		"many numbers, one a line":      {"[\n" + strings.ReplaceAll(long, ",", ",\n\t") + "\n]", Vector{Flat, 1024}},
		"a null among many numbers":     {`[` + long + `,null,` + long + `]`, Vector{Odd, 0}},
		"a null at the end of many":     {`[` + long + `,null]`, Vector{Odd, 0}},
		"base64":                        {`"AACAPwAAAEA="`, Vector{Text, 12}},
		"base64 with escaped slashes":   {`"\/\/8\u003d"`, Vector{Text, 4}},
		"an empty string":               {`""`, Vector{Text, 0}},
		"arrays of numbers":             {`[[1,2],[3,4],[5.5,6]]`, Vector{Nested, 2}},
		"one array of numbers":          {`[[1,2,3]]`, Vector{Nested, 3}},
		"arrays of arrays of numbers":   {`[[[1,2],[3,4]],[[5,6]]]`, Vector{Nested, 2}},
		"inner arrays of two lengths":   {`[[1,2],[3]]`, Vector{Odd, 0}},
		"further in, two lengths":       {`[[[1,2]],[[3]]]`, Vector{Odd, 0}},
		"inner arrays of two levels":    {`[[[1,2]],[3,4]]`, Vector{Odd, 0}},
		"further in, two levels":        {`[[[1,2]],[[[1,2]]]]`, Vector{Odd, 0}},
		"two lengths, then the first":   {`[[1,2],[3],[1,2]]`, Vector{Odd, 0}},
		"an empty inner array":          {`[[1,2],[]]`, Vector{Odd, 0}},
		"only an empty inner array":     {`[[]]`, Vector{Odd, 0}},
		"a null in an inner array":      {`[[1,2],[3,null]]`, Vector{Odd, 0}},
		"numbers and arrays of numbers": {`[[1,2],3]`, Vector{Odd, 0}},
		"objects":                       {`[{"index":1,"value":0.5},{}]`, Vector{Sparse, 0}},
		"arrays of objects":             {`[[{"index":1}]]`, Vector{Odd, 0}},
		"a number out of range":         {`[1,1e999,2]`, Vector{Odd, 0}},
		"out of range among many":       {`[` + long + `,-1e309,` + long + `]`, Vector{Odd, 0}},
		"out of range, one alone":       {`[1e309]`, Vector{Odd, 0}},
		"out of range, inside":          {`[[1,2],[3,1e999]]`, Vector{Odd, 0}},
		"the largest numbers":           {`[1.7976931348623157e308,-1.7976931348623157E+308]`, Vector{Flat, 2}},
		"numbers that become 0":         {`[1e-999,0e999]`, Vector{Flat, 2}},
		"a bare number out of range":    {`1e999`, Vector{Odd, 0}},
		"objects and numbers":           {`[{},1]`, Vector{Odd, 0}},
		"strings":                       {`["AAAA"]`, Vector{Odd, 0}},
		"an empty array":                {`[]`, Vector{Odd, 0}},
		"a number":                      {`1`, Vector{Odd, 0}},
		"null":                          {`null`, Vector{Odd, 0}},
		"true":                          {`true`, Vector{Odd, 0}},
		"an object":                     {`{"values":[1,2]}`, Vector{Odd, 0}},
	} {
		field := scan(t, &Shape{Lists: []string{"data"}, Fields: []string{"index", "embedding"}, Vector: "embedding"},
			`{"data":[{"embedding":`+c.vector+`,"index":[1,2,3,4]}]}`)
		if got := field.Entries[0].Vector; got != c.want {
			t.Errorf("%s as a field: %v, want %v", name, got, c.want)
		}
		entry := scan(t, &Shape{Lists: []string{""}, Vector: "."}, `[`+c.vector+`]`)
		if got := entry.Entries[0].Vector; got != c.want {
			t.Errorf("%s as an entry: %v, want %v", name, got, c.want)
		}
	}
}

func TestScanMeasuresNoVectorThatIsAbsent(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ vector, entry string }{
		"the field is absent":      {"embedding", `{"index":0}`},
		"the entry is no object":   {"embedding", `[1,2]`},
		"no field is measured":     {"", `{"embedding":[1,2]}`},
		"the field stands further": {"embedding", `{"index":{"embedding":[1,2]}}`},
	} {
		d := scan(t, &Shape{Lists: []string{""}, Fields: []string{"index", "embedding"}, Vector: c.vector}, `[`+c.entry+`]`)
		if got := d.Entries[0].Vector; got != (Vector{}) {
			t.Errorf("%s: measured %v", name, got)
		}
	}
}

func TestScanRefusesDuplicates(t *testing.T) {
	t.Parallel()
	s := &Shape{Lists: []string{"results", "data"}, Members: []string{"model"}, Fields: []string{"index"}}
	for name, c := range map[string]struct {
		doc  string
		want error
	}{
		"a list twice":                        {`{"data":[],"data":[]}`, &DuplicateError{"data", 11}},
		"a list twice, once with escapes":     {`{"data":[],"d\u0061ta":[]}`, &DuplicateError{"data", 11}},
		"a worse list twice":                  {`{"results":[],"data":[],"data":[]}`, &DuplicateError{"data", 24}},
		"a member three times":                {`{"model":1,"model":1,"model":1}`, &DuplicateError{"model", 11}},
		"a field twice":                       {`{"data":[{"index":0},{"index":1,"index":1}]}`, &DuplicateError{"index", 32}},
		"a field twice in the better list":    {`{"data":[],"results":[{"index":1,"index":1}]}`, &DuplicateError{"index", 33}},
		"a field twice, then a member":        {`{"data":[{"index":1,"index":1}],"model":1,"model":2}`, &DuplicateError{"model", 42}},
		"a field twice in the worse list":     {`{"data":[{"index":1,"index":1}],"results":[]}`, nil},
		"a field twice further inside":        {`{"data":[{"x":{"index":1,"index":1}}]}`, nil},
		"a name that does not matter":         {`{"x":1,"x":2,"data":[{"y":1,"y":2,"model":1,"model":2}],"index":1,"index":2}`, nil},
		"duplicates in a malformed document":  {`{"model":1,"model":2,`, &SyntaxError{21, "unexpected end, expected a member name"}},
		"a duplicate after which all is lost": {`{"data":[{"index":1,"index":x`, &SyntaxError{28, "expected a value"}},
	} {
		var d Document
		if err := s.Scan([]byte(c.doc), &d); fmt.Sprintf("%#v", err) != fmt.Sprintf("%#v", c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	if got, want := (&DuplicateError{"data", 11}).Error(), `member "data" stands twice, again at byte 11`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestScanForgetsTheScanBefore(t *testing.T) {
	t.Parallel()
	s := &Shape{Lists: []string{"data"}, Members: []string{"model"}, Fields: []string{"index"}, Vector: "index"}
	d := scan(t, s, `{"data":[{"index":[1,2]},"x","y"],"model":"m"}`)
	for _, doc := range []string{`{"data":[{},[3]]}`, `{}`, `[`, `"x"`, `{"data":[{"index":1}]}`} {
		err := s.Scan([]byte(doc), d)
		if syntax := (*SyntaxError)(nil); errors.As(err, &syntax) {
			continue
		}
		want, wantErr := reference([]byte(doc), s)
		if err != nil || wantErr != nil {
			t.Fatalf("%s: %v, %v", doc, err, wantErr)
		}
		if text := difference(d, want); text != "" {
			t.Errorf("%s: %s", doc, text)
		}
	}
}
