package jsonspan

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestValidAccepts(t *testing.T) {
	t.Parallel()
	for name, doc := range map[string]string{
		"null":                       `null`,
		"true":                       `true`,
		"false":                      `false`,
		"an empty object":            `{}`,
		"an empty array":             `[]`,
		"an empty string":            `""`,
		"white space everywhere":     " \t\r\n{ \"a\" : [ 1 , 2 ,\n3 ] , \"b\" : { } , \"c\" : [ ] } \n",
		"zero":                       `0`,
		"minus zero":                 `-0`,
		"all parts of a number":      `-120.034E+05`,
		"a long integer":             strings.Repeat("9", 100),
		"a long fraction":            "0." + strings.Repeat("9", 100),
		"all escapes":                `"\"\\\/\b\f\n\r\t\u00e9\uABCD"`,
		"an escaped surrogate pair":  `"\ud83d\ude00"`,
		"an escaped lone surrogate":  `"\ud83d and \ude00"`,
		"an escaped NUL":             `"\u0000"`,
		"delete":                     "\"\x7f\"",
		"scalars of two bytes":       `"éß"`,
		"scalars of three bytes":     `"€한"`,
		"scalars of four bytes":      `"😀"`,
		"the last scalar":            "\"\U0010FFFF\"",
		"a byte order mark inside":   "\"\uFEFF\"",
		"names that stand twice":     `{"a":1,"a":2}`,
		"an empty name":              `{"":0}`,
		"numbers of all sorts":       `[1,-2, 3.5,4e5 ,-0.000000000000000000000001,0,0.1]`,
		"arrays at the limit":        nested("[", "]", maxDepth),
		"objects at the limit":       nested(`{"a":`, "}", maxDepth-1),
		"brackets inside of strings": `"` + strings.Repeat("[{", 1000) + `"`,
		"many shallow arrays":        "[" + strings.Repeat("[],", 1000) + "[]]",
	} {
		if err := Valid([]byte(doc)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// nested returns depth arrays or objects in one another, or one more for those
// whose innermost value is an array.
func nested(open, end string, depth int) string {
	return strings.Repeat(open, depth) + "[]"[:2*min(1, len(open)-1)] + strings.Repeat(end, depth)
}

func TestValidRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		doc    string
		offset int
	}{
		"nothing":                                {"", 0},
		"white space only":                       {"  ", 2},
		"a byte order mark":                      {"\uFEFF{}", 0},
		"other white space":                      {"\f{}", 0},
		"a NUL":                                  {"\x00", 0},
		"a NUL after the document":               {"{}\x00", 2},
		"a second document":                      {"{} {}", 3},
		"a stray closing bracket":                {"]", 0},
		"a wrong closing bracket":                {`[1}`, 2},
		"an array that does not end":             {`[1`, 2},
		"an array that ends after a comma":       {`[1,`, 3},
		"a comma before the end of an array":     {`[1,]`, 3},
		"a comma before the end of numbers":      {`[1,2,3,4,5,6,7,8,9,]               `, 19},
		"two commas":                             {`[1,,2]`, 3},
		"two commas in many numbers":             {`[1,2,3,,4,5,6,7,8,9]               `, 7},
		"a comma first":                          {`[,1]`, 1},
		"no comma in an array":                   {`[1 2]`, 3},
		"no comma in an object":                  {`{"a":1 "b":2}`, 7},
		"a comma before the end of an object":    {`{"a":1,}`, 7},
		"an object that does not end":            {`{"a":1`, 6},
		"a name that does not end":               {`{"a`, 3},
		"a name without a value":                 {`{"a"}`, 4},
		"a name and a colon without a value":     {`{"a":}`, 5},
		"a name that is no string":               {`{a:1}`, 1},
		"a number as a name":                     {`{1:1}`, 1},
		"single quotes":                          {`'a'`, 0},
		"a comment":                              {`{}//`, 2},
		"a word cut short":                       {`nul`, 3},
		"a wrong word":                           {`trve`, 2},
		"a word in capitals":                     {`True`, 0},
		"a word that goes on":                    {`nullx`, 4},
		"NaN":                                    {`[NaN]`, 1},
		"infinity":                               {`[-Infinity]`, 2},
		"a plus sign":                            {`+1`, 0},
		"a sign alone":                           {`-`, 1},
		"two signs":                              {`--1`, 1},
		"a leading zero":                         {`01`, 1},
		"a leading zero after a sign":            {`-01`, 2},
		"a leading zero in many numbers":         {`[1,01.5,2,3,4,5,6,7,8]               `, 4},
		"a fraction without digits":              {`1.`, 2},
		"a fraction without digits before":       {`.5`, 0},
		"a fraction without digits among others": {`[1.5,1.,1.5,1.5]               `, 7},
		"two fractions":                          {`1.2.3`, 3},
		"an exponent without digits":             {`1e`, 2},
		"an exponent with a sign only":           {`1e+`, 3},
		"an exponent after a bare point":         {`1.e5`, 2},
		"a fraction in the exponent":             {`1e5.0`, 3},
		"a hexadecimal number":                   {`0x10`, 1},
		"a string that does not end":             {`"abc`, 4},
		"a string that ends in a backslash":      {`"abc\`, 4},
		"an unknown escape":                      {`"ab\x"`, 3},
		"an escaped control character":           {"\"\\\n\"", 1},
		"an escape of too few digits":            {`"\u12"`, 1},
		"an escape of no digits":                 {`"\u12g4"`, 1},
		"an escape with a capital U":             {`"\U00e9"`, 1},
		"a bad escape after a high surrogate":    {`"\ud800\u12"`, 7},
		"a line break in a string":               {"\"abc\ndef\"", 4},
		"a tab in a string":                      {"\"\t\"", 1},
		"a NUL in a string":                      {"\"abcdefgh\x00\"", 9},
		"a control character in a name":          {"{\"\x1f\":1}", 2},
		"a stray continuation byte":              {"\"a\x80\"", 2},
		"a scalar cut short":                     {"\"é\xc3\"", 3},
		"a scalar of three bytes cut short":      {"\"\xe2\x82\"       ", 1},
		"a scalar of four bytes cut short":       {"\"\xf0\x9f\x98\"       ", 1},
		"a scalar cut short by the end":          {"\"\xf0\x9f", 1},
		"an overlong form of two bytes":          {"\"\xc1\xbf\"       ", 1},
		"an overlong form of three bytes":        {"\"\xe0\x9f\xbf\"      ", 1},
		"an overlong form of four bytes":         {"\"\xf0\x8f\xbf\xbf\"     ", 1},
		"a surrogate":                            {"\"\xed\xa0\x80\"      ", 1},
		"a scalar beyond the last":               {"\"\xf4\x90\x80\x80\"     ", 1},
		"a lead byte that never stands":          {"\"\xff\"       ", 1},
		"invalid UTF-8 in a name":                {"{\"\x80\":1}", 2},
		"invalid UTF-8 after a blank":            {"\"é \x80 éé\"", 4},
		"invalid UTF-8 outside of strings":       {"[1,\x80]", 3},
		"arrays over the limit":                  {nested("[", "]", maxDepth+1), maxDepth},
		"objects over the limit":                 {nested(`{"a":`, "}", maxDepth), maxDepth * 5},
	} {
		var syntax *SyntaxError
		if err := Valid([]byte(c.doc)); !errors.As(err, &syntax) {
			t.Errorf("%s: got %v, want a SyntaxError", name, err)
		} else if syntax.Offset != c.offset {
			t.Errorf("%s: got %v, want it at byte %d", name, err, c.offset)
		}
	}
}

func TestSyntaxErrorSaysWhereAndWhy(t *testing.T) {
	t.Parallel()
	for doc, want := range map[string]string{
		`{"a":1,"b":x}`: "malformed JSON at byte 11: expected a value",
		`{"a":1`:        "malformed JSON at byte 6: unexpected end, expected , or } after an object member",
	} {
		if err := Valid([]byte(doc)); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestNumbersOfEverySpelling holds every short string over the bytes of numbers
// against encoding/json, at the places where the fast check of numbers must tell
// plain ones from others.
func TestNumbersOfEverySpelling(t *testing.T) {
	t.Parallel()
	const alphabet = "-0.7e+, ]"
	check := func(doc []byte) {
		if got, want := Valid(doc) == nil, json.Valid(doc); got != want {
			t.Fatalf("valid is %v, want %v: %s", got, want, doc)
		}
	}
	after := ",1,2,3,4,5,6,7,8,9,10,11]"
	for _, before := range []string{"[", "[5,", "[5.5, "} {
		everyString(alphabet, 5, func(s []byte) {
			check(append(append([]byte(before), s...), after...))
		})
	}
	for length := range 20 {
		for _, start := range []string{"[", "[-", "[0.", "[-1."} {
			before := start + strings.Repeat("3", length)
			everyString(alphabet, 3, func(s []byte) {
				check(append(append([]byte(before), s...), after...))
				check(append([]byte(before), s...))
			})
		}
	}
}

// everyString calls f with every string of at most length bytes of the alphabet.
func everyString(alphabet string, length int, f func([]byte)) {
	var extend func(s []byte)
	extend = func(s []byte) {
		f(s)
		if len(s) < length {
			for i := range len(alphabet) {
				extend(append(s, alphabet[i]))
			}
		}
	}
	extend(make([]byte, 0, length))
}

// TestUTF8OfEverySpelling holds the check of UTF-8 against unicode/utf8 for all
// bytes at the places where they matter, in the middle and at the end of a
// document.
func TestUTF8OfEverySpelling(t *testing.T) {
	t.Parallel()
	edges := []byte{0x20, 0x7f, 0x80, 0xbf, 0xc0}
	check := func(text ...byte) {
		for _, after := range []string{`"`, `"        `, `xxxxxxxx"`} {
			doc := append(append([]byte{'"'}, text...), after...)
			if got, want := Valid(doc) == nil, utf8.Valid(text); got != want {
				t.Fatalf("valid is %v, want %v: %x", got, want, doc)
			}
		}
	}
	for lead := 0x80; lead <= 0xff; lead++ {
		check(byte(lead))
		for second := 0x80; second <= 0xff; second++ {
			check(byte(lead), byte(second))
			for _, third := range edges {
				check(byte(lead), byte(second), third)
				for _, fourth := range edges {
					check(byte(lead), byte(second), third, fourth)
				}
			}
		}
	}
}

// TestEveryByteInAString puts every ASCII byte at every place of a run of plain
// text.
func TestEveryByteInAString(t *testing.T) {
	t.Parallel()
	for place := range 20 {
		for c := range utf8.RuneSelf {
			doc := []byte(`"abcdefghijklmnopqrst"`)
			doc[1+place] = byte(c)
			if got, want := Valid(doc) == nil, json.Valid(doc); got != want {
				t.Errorf("byte %#x at %d: valid is %v, want %v", c, place, got, want)
			}
			if end := bytes.IndexByte(doc[1:], '"') + 2; c == '"' && Valid(doc[:end]) != nil {
				t.Errorf("a string of %d bytes is refused", place)
			}
		}
	}
}
