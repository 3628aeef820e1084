package demo

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"math"
	"strconv"
	"unicode/utf8"
)

// appendFloat appends a float as the reference server prints it (serde_json with
// ryu): the fewest digits that give the same 32 bits when read back, as a plain
// decimal with a point from 1e-6 up to below 1e13 and with an exponent beyond.
func appendFloat(dst []byte, f float32) []byte {
	size := f
	if size < 0 {
		size = -size
	}
	start := len(dst)
	if size != 0 && (size < 1e-6 || size >= 1e13) {
		dst = strconv.AppendFloat(dst, float64(f), 'e', -1, 32)
		return shortenExponent(dst, start)
	}
	dst = strconv.AppendFloat(dst, float64(f), 'f', -1, 32)
	if (size == 0 || size >= 1) && bytes.IndexByte(dst[start:], '.') < 0 {
		dst = append(dst, ".0"...)
	}
	return dst
}

// shortenExponent rewrites the exponents of strconv, `e-07` and `e+20`, to `e-7`
// and `e20`. The number begins at start.
func shortenExponent(dst []byte, start int) []byte {
	e := start + bytes.IndexByte(dst[start:], 'e') + 1
	sign, digits := dst[e], dst[e+1:]
	short := dst[:e]
	if sign == '-' {
		short = append(short, '-')
	}
	return append(short, bytes.TrimLeft(digits, "0")...)
}

// appendVector appends a list of numbers.
func appendVector(dst []byte, vector []float32) []byte {
	dst = append(dst, '[')
	for i, f := range vector {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendFloat(dst, f)
	}
	return append(dst, ']')
}

// appendBase64 appends a string of the base64 of the numbers' bits, the lowest
// byte first.
func appendBase64(dst []byte, vector []float32) []byte {
	var raw [4 * Dimensions]byte
	for i, f := range vector {
		binary.LittleEndian.PutUint32(raw[4*i:], math.Float32bits(f))
	}
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, raw[:4*len(vector)])
	return append(dst, '"')
}

// appendString appends a JSON string with only those characters escaped that
// must be, as the reference server does; encoding/json escapes more.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, r := range s {
		switch r {
		case '"', '\\':
			dst = append(dst, '\\', byte(r))
		case '\b':
			dst = append(dst, `\b`...)
		case '\f':
			dst = append(dst, `\f`...)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			if r < ' ' {
				dst = append(dst, `\u00`...)
				dst = append(dst, hex[r>>4], hex[r&15])
				continue
			}
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}
