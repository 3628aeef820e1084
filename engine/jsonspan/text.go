package jsonspan

import (
	"bytes"
	"encoding/binary"
	"unicode/utf16"
	"unicode/utf8"
)

// eachByte times a byte is that byte eight times.
const eachByte = 0x0101010101010101

// notPlain sets the highest bit of the first of eight bytes that ends a run of
// plain text: a quote, a backslash, a control character or a byte that is not
// ASCII. Bits of later bytes are arbitrary; the mask is 0 only if there is none.
func notPlain(b uint64) uint64 {
	// Of an ASCII byte, each subtraction reaches the highest bit for just the bytes
	// it is meant for: those below a blank, and those that exclusive or made 0. A
	// borrow can only come from such a byte.
	control := b - eachByte*' '
	quote := (b ^ eachByte*'"') - eachByte
	backslash := (b ^ eachByte*'\\') - eachByte
	return (b | control | quote | backslash) & highBits
}

// text checks the string whose opening quote stands at i and returns the number
// of Unicode scalars in it, escapes decoded.
func (s *scanner) text(i int) (end, chars int) {
	doc := s.doc
	i++
	start := i
	surplus := 0 // bytes beyond the first of each scalar
	for {
		i = plainText(doc, i)
		if i >= len(doc) {
			return s.fail(i, "expected the closing quote of a string"), 0
		}
		var n int
		switch c := doc[i]; {
		case c == '"':
			return i + 1, i - start - surplus
		case c == '\\':
			if i, n = escapes(doc, i); s.at(i) == '\\' {
				return s.fail(i, "invalid escape in a string"), 0
			}
		case c < utf8.RuneSelf:
			return s.fail(i, "control character in a string"), 0
		default:
			if i, n = multibyte(doc, i); s.at(i) >= utf8.RuneSelf {
				return s.fail(i, "invalid UTF-8 in a string"), 0
			}
		}
		surplus += n
	}
}

// plainText returns the index of the first byte from i on that ends a run of
// plain text.
func plainText(doc []byte, i int) int {
	for ; i+8 <= len(doc); i += 8 {
		if mask := notPlain(eight(doc, i)); mask != 0 {
			return i + firstByte(mask)
		}
	}
	for i < len(doc) && doc[i] >= ' ' && doc[i] < utf8.RuneSelf && doc[i] != '"' && doc[i] != '\\' {
		i++
	}
	return i
}

// multibyte goes over the scalars of two to four bytes from i on, and over single
// blanks between them, since many scripts have one after each word. It stops at
// the first other byte: an ASCII byte, or one of invalid UTF-8. It returns that
// index and the number of bytes beyond the first of each scalar.
func multibyte(doc []byte, i int) (end, surplus int) {
	for i+4 <= len(doc) {
		// The masks check the marks of lead and continuation bytes, then, of the bits
		// that carry the scalar, that it is not too small for its length, no surrogate
		// and not above U+10FFFF.
		x := binary.LittleEndian.Uint32(doc[i : i+4 : i+4])
		switch {
		case x&0xC0C0F0 == 0x8080E0 && x&0x200F != 0 && x&0x200F != 0x200D:
			i += 3
			surplus += 2
		case x&0xC0E0 == 0x80C0 && x&0x1E != 0:
			i += 2
			surplus++
		case x&0xC0C0C0F8 == 0x808080F0 && x&0x3007 != 0 && (x&0x04 == 0 || x&0x3003 == 0):
			i += 4
			surplus += 3
		case byte(x) == ' ' && byte(x>>8) >= utf8.RuneSelf:
			i++
		default:
			return i, surplus
		}
	}
	for i < len(doc) && doc[i] >= utf8.RuneSelf {
		r, n := utf8.DecodeRune(doc[i:])
		if r == utf8.RuneError && n == 1 {
			break
		}
		i += n
		surplus += n - 1
	}
	return i, surplus
}

// escapes goes over the escapes from i on. It stops at the first byte that does
// not begin one: anything but a backslash, or the backslash of an invalid escape.
// It returns that index and the number of bytes beyond the first of each scalar.
func escapes(doc []byte, i int) (end, surplus int) {
	for i+1 < len(doc) && doc[i] == '\\' {
		n := 2
		if doc[i+1] == 'u' {
			unit := codeUnit(doc, i)
			if unit < 0 {
				break
			}
			n = 6
			if isHighSurrogate(unit) && isLowSurrogate(codeUnit(doc, i+6)) {
				n = 12
			}
		} else if escaped[doc[i+1]] == 0 {
			break
		}
		i += n
		surplus += n - 1
	}
	return i, surplus
}

// escaped holds what a backslash and the byte stand for, 0 for an invalid escape
// and for u.
var escaped = [256]byte{
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}

// hexDigits holds the value of each hexadecimal digit and a negative number for
// every other byte.
var hexDigits = func() (values [256]int8) {
	for i := range values {
		values[i] = -1
	}
	for i := range 10 {
		values['0'+i] = int8(i)
	}
	for i := range 6 {
		values['a'+i], values['A'+i] = int8(10+i), int8(10+i)
	}
	return values
}()

// codeUnit returns the UTF-16 code unit of the escape \uXXXX at i, a negative
// number when there is none.
func codeUnit(doc []byte, i int) rune {
	if i+6 > len(doc) || doc[i] != '\\' || doc[i+1] != 'u' {
		return -1
	}
	h := doc[i+2 : i+6]
	return rune(hexDigits[h[0]])<<12 | rune(hexDigits[h[1]])<<8 | rune(hexDigits[h[2]])<<4 | rune(hexDigits[h[3]])
}

func isHighSurrogate(unit rune) bool { return unit&^0x3FF == 0xD800 }

func isLowSurrogate(unit rune) bool { return unit&^0x3FF == 0xDC00 }

// Unquote returns what the string v of a valid document stands for; "" when v is
// no string. The escape of a lone surrogate becomes U+FFFD. To unquote the name
// of a member, make its Key the span of a Value of kind [String].
func Unquote(doc []byte, v Value) string {
	if v.Kind != String {
		return ""
	}
	raw := doc[v.Start+1 : v.End-1]
	i := bytes.IndexByte(raw, '\\')
	if i < 0 {
		return string(raw)
	}
	text := make([]byte, 0, len(raw))
	for ; i >= 0; i = bytes.IndexByte(raw, '\\') {
		r, n := decode(raw[i:])
		text = utf8.AppendRune(append(text, raw[:i]...), r)
		raw = raw[i+n:]
	}
	return string(append(text, raw...))
}

// decode returns the first scalar of the inside of a valid string, and how many
// bytes it takes there.
func decode(raw []byte) (r rune, size int) {
	switch {
	case raw[0] != '\\':
		return utf8.DecodeRune(raw)
	case raw[1] != 'u':
		return rune(escaped[raw[1]]), 2
	}
	unit := codeUnit(raw, 0)
	if !utf16.IsSurrogate(unit) {
		return unit, 6
	}
	if pair := utf16.DecodeRune(unit, codeUnit(raw, 6)); pair != utf8.RuneError {
		return pair, 12
	}
	return utf8.RuneError, 6
}

// means reports whether the inside of a valid string stands for text.
func means(raw []byte, text string) bool {
	for len(raw) > 0 && text != "" {
		r, size := decode(raw)
		want, n := utf8.DecodeRuneInString(text)
		if r != want {
			return false
		}
		raw, text = raw[size:], text[n:]
	}
	return len(raw) == 0 && text == ""
}
