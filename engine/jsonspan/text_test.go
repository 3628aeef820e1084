package jsonspan

import (
	"encoding/json"
	"fmt"
	"testing"
	"unicode/utf16"
	"unicode/utf8"
)

// whole returns the place of a string that is a whole document.
func whole(doc string) Value { return Value{Span{0, len(doc)}, String} }

func TestUnquote(t *testing.T) {
	t.Parallel()
	for doc, want := range map[string]string{
		`""`:                          "",
		`"plain"`:                     "plain",
		`"é€😀"`:                       "é€😀",
		`"\"\\\/\b\f\n\r\t"`:          "\"\\/\b\f\n\r\t",
		`"a\u00e9b\u20ACc"`:           "aéb€c",
		`"\ud83d\ude00!"`:             "😀!",
		`"\ud83d"`:                    "\uFFFD",
		`"\ude00\ud83d"`:              "\uFFFD\uFFFD",
		`"\ud83d\ud83d\ude00\ud83dx"`: "\uFFFD😀\uFFFDx",
		`"\ud83d\n"`:                  "\uFFFD\n",
		`"\u0000"`:                    "\x00",
		`"\\u0041"`:                   `\u0041`,
	} {
		if got := Unquote([]byte(doc), whole(doc)); got != want {
			t.Errorf("%s is %q, want %q", doc, got, want)
		}
	}
	if got := Unquote([]byte(`12`), Value{Span{0, 2}, Integer}); got != "" {
		t.Errorf("a number is unquoted as %q, want nothing", got)
	}
}

// TestEveryScalar counts, unquotes and recognises every Unicode scalar, as it is
// and escaped.
func TestEveryScalar(t *testing.T) {
	t.Parallel()
	for first := rune(0); first <= utf8.MaxRune; first += 0x400 {
		var raw, escaped []byte
		count := 0
		for r := first; r < first+0x400; r++ {
			if !utf8.ValidRune(r) {
				continue
			}
			if r >= ' ' && r != '"' && r != '\\' {
				raw = utf8.AppendRune(raw, r)
				count++
			}
			for _, unit := range utf16.AppendRune(nil, r) {
				escaped = fmt.Appendf(escaped, `\u%04x`, unit)
			}
			count++
		}
		doc := `"` + string(raw) + string(escaped) + `"`
		s := scanner{doc: []byte(doc)}
		if end, chars := s.text(0); end != len(doc) || chars != count {
			t.Fatalf("from %U on: %d scalars in %d of %d bytes, want %d: %v", first, chars, end, len(doc), count, s.err)
		}
		var want string
		if err := json.Unmarshal([]byte(doc), &want); err != nil {
			t.Fatal(err)
		}
		if got := Unquote([]byte(doc), whole(doc)); got != want {
			t.Fatalf("from %U on: unquoted wrongly", first)
		}
		if inside := []byte(doc[1 : len(doc)-1]); !means(inside, want) || means(inside, want+"x") || means(append(inside, 'x'), want) {
			t.Fatalf("from %U on: recognised wrongly", first)
		}
	}
}

// TestEveryPairOfCodeUnits holds escapes next to each other, which may be a
// surrogate pair or not, against encoding/json.
func TestEveryPairOfCodeUnits(t *testing.T) {
	t.Parallel()
	units := []int{0, 'a', 0xD7FF, 0xD800, 0xDBFF, 0xDC00, 0xDFFF, 0xE000, 0xFFFD, 0xFFFF}
	for _, a := range units {
		for _, b := range units {
			for _, c := range units {
				doc := fmt.Sprintf(`"\u%04X\u%04x\u%04X"`, a, b, c)
				var want string
				if err := json.Unmarshal([]byte(doc), &want); err != nil {
					t.Fatal(err)
				}
				if got := Unquote([]byte(doc), whole(doc)); got != want {
					t.Errorf("%s is %q, want %q", doc, got, want)
				}
				s := scanner{doc: []byte(doc)}
				if _, chars := s.text(0); chars != utf8.RuneCountInString(want) {
					t.Errorf("%s has %d scalars, want %d", doc, chars, utf8.RuneCountInString(want))
				}
			}
		}
	}
}
