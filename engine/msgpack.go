package engine

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"mime"
	"net/http"
	"strconv"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"
)

// isMsgpack reports whether a body with these headers is MessagePack. The type
// was never registered under one name.
func isMsgpack(h http.Header) bool {
	contentType := h.Get("Content-Type")
	if contentType == "application/json" || contentType == "" {
		return false
	}
	// An error is one of the parameters, which are of no interest.
	mediaType, _, _ := mime.ParseMediaType(contentType)
	switch mediaType {
	case "application/msgpack", "application/x-msgpack", "application/vnd.msgpack":
		return true
	}
	return false
}

const (
	// maxMsgpackDepth is how deep values may be nested.
	maxMsgpackDepth = 512
	// msgpackGuess is how much larger JSON is taken to be: a 32-bit float of
	// five bytes takes about twelve characters, a 64-bit one of nine up to 24.
	msgpackGuess = 3
	// maxNumber is more than the characters of any number.
	maxNumber = 32
)

var (
	errMsgpackNumber = errors.New("a number is not finite")
	errMsgpackKey    = errors.New("a key is not a string")
	errMsgpackUTF8   = errors.New("a string is not UTF-8")
	errMsgpackDepth  = fmt.Errorf("values are nested deeper than %d", maxMsgpackDepth)
	errMsgpackRest   = errors.New("something follows the value")
	errMsgpackType   = errors.New("a value has a type that JSON does not have")
)

// msgpackToJSON returns the one MessagePack value of src as JSON. Numbers are
// written with the fewest digits that tell them from the others of their width,
// in the form of encoding/json; binary data becomes a base64 string. What JSON
// has no form for (NaN, infinities, keys that are not strings, extensions such
// as timestamps) is an error. The error is [errTooLarge] when the JSON is larger
// than limits.MaxBody, and wraps [ErrOverloaded] when there is no memory for it.
func msgpackToJSON(src []byte, limits replyLimits) (*buffer, error) {
	out, err := acquireBuffer(limits.Memory, min(int64(len(src))*msgpackGuess, limits.MaxBody))
	if err != nil {
		return nil, err
	}
	c := msgpackConverter{out: out, src: src, limit: limits.MaxBody}
	err = c.value(0)
	if err == nil && len(c.src) > 0 {
		err = errMsgpackRest
	}
	if err != nil {
		out.release()
		return nil, err
	}
	return out, nil
}

// A msgpackConverter appends the values at the front of src to out.
type msgpackConverter struct {
	out   *buffer
	src   []byte
	limit int64
}

// value converts a value that stands in depth others.
func (c *msgpackConverter) value(depth int) error {
	switch t := msgp.NextType(c.src); t {
	case msgp.MapType:
		return c.object(depth)
	case msgp.ArrayType:
		return c.array(depth)
	case msgp.StrType, msgp.BinType:
		return c.text(t)
	case msgp.Float32Type, msgp.Float64Type, msgp.IntType, msgp.UintType:
		return c.number(t)
	case msgp.BoolType:
		v, rest, err := msgp.ReadBoolBytes(c.src)
		if err != nil {
			return err
		}
		c.src = rest
		return c.write(strconv.FormatBool(v))
	case msgp.NilType:
		c.src = c.src[1:]
		return c.write("null")
	}
	if len(c.src) == 0 {
		return msgp.ErrShortBytes
	}
	return errMsgpackType
}

func (c *msgpackConverter) object(depth int) error {
	if depth == maxMsgpackDepth {
		return errMsgpackDepth
	}
	n, rest, err := msgp.ReadMapHeaderBytes(c.src)
	if err != nil {
		return err
	}
	c.src = rest
	separator := "{"
	for range n {
		if err := c.write(separator); err != nil {
			return err
		}
		separator = ","
		key, rest, err := msgp.ReadMapKeyZC(c.src)
		if err != nil {
			if errors.As(err, new(msgp.TypeError)) {
				return errMsgpackKey
			}
			return err
		}
		c.src = rest
		if err := c.quote(key); err != nil {
			return err
		}
		if err := c.write(":"); err != nil {
			return err
		}
		if err := c.value(depth + 1); err != nil {
			return err
		}
	}
	if n == 0 {
		return c.write("{}")
	}
	return c.write("}")
}

func (c *msgpackConverter) array(depth int) error {
	if depth == maxMsgpackDepth {
		return errMsgpackDepth
	}
	n, rest, err := msgp.ReadArrayHeaderBytes(c.src)
	if err != nil {
		return err
	}
	c.src = rest
	separator := "["
	for range n {
		if err := c.write(separator); err != nil {
			return err
		}
		separator = ","
		if err := c.value(depth + 1); err != nil {
			return err
		}
	}
	if n == 0 {
		return c.write("[]")
	}
	return c.write("]")
}

// text converts a string or binary data.
func (c *msgpackConverter) text(t msgp.Type) error {
	if t == msgp.StrType {
		s, rest, err := msgp.ReadStringZC(c.src)
		if err != nil {
			return err
		}
		c.src = rest
		return c.quote(s)
	}
	data, rest, err := msgp.ReadBytesZC(c.src)
	if err != nil {
		return err
	}
	c.src = rest
	if err := c.room(base64.StdEncoding.EncodedLen(len(data)) + 2); err != nil {
		return err
	}
	c.out.b = append(c.out.b, '"')
	c.out.b = base64.StdEncoding.AppendEncode(c.out.b, data)
	c.out.b = append(c.out.b, '"')
	return nil
}

func (c *msgpackConverter) number(t msgp.Type) error {
	if err := c.out.grow(maxNumber, c.limit); err != nil {
		return err
	}
	var err error
	switch t {
	case msgp.Float32Type:
		var f float32
		if f, c.src, err = msgp.ReadFloat32Bytes(c.src); err == nil {
			err = c.float(float64(f), 32)
		}
	case msgp.Float64Type:
		var f float64
		if f, c.src, err = msgp.ReadFloat64Bytes(c.src); err == nil {
			err = c.float(f, 64)
		}
	case msgp.IntType:
		var i int64
		if i, c.src, err = msgp.ReadInt64Bytes(c.src); err == nil {
			c.out.b = strconv.AppendInt(c.out.b, i, 10)
		}
	default:
		var u uint64
		if u, c.src, err = msgp.ReadUint64Bytes(c.src); err == nil {
			c.out.b = strconv.AppendUint(c.out.b, u, 10)
		}
	}
	if err != nil {
		return err
	}
	return c.room(0)
}

// float appends f as encoding/json does: with an exponent only when the number
// is very small or very large, and then without a leading zero in it.
func (c *msgpackConverter) float(f float64, bits int) error {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return errMsgpackNumber
	}
	format := byte('f')
	if abs := math.Abs(f); abs != 0 {
		tiny, huge := abs < 1e-6, abs >= 1e21
		if bits == 32 {
			tiny, huge = float32(abs) < 1e-6, float32(abs) >= 1e21
		}
		if tiny || huge {
			format = 'e'
		}
	}
	b := strconv.AppendFloat(c.out.b, f, format, -1, bits)
	if n := len(b); format == 'e' && b[n-4] == 'e' && b[n-3] == '-' && b[n-2] == '0' {
		b[n-2] = b[n-1]
		b = b[:n-1]
	}
	c.out.b = b
	return nil
}

// quote appends s as a JSON string.
func (c *msgpackConverter) quote(s []byte) error {
	if !utf8.Valid(s) {
		return errMsgpackUTF8
	}
	if err := c.room(len(s) + 2); err != nil {
		return err
	}
	c.out.b = append(c.out.b, '"')
	start := 0
	for i, ch := range s {
		if ch >= ' ' && ch != '"' && ch != '\\' {
			continue
		}
		c.out.b = append(c.out.b, s[start:i]...)
		start = i + 1
		escape, n := [6]byte{'\\', ch}, 2
		if ch < ' ' {
			const hex = "0123456789abcdef"
			escape, n = [6]byte{'\\', 'u', '0', '0', hex[ch>>4], hex[ch&0xf]}, 6
		}
		if err := c.room(n + len(s) - start + 1); err != nil {
			return err
		}
		c.out.b = append(c.out.b, escape[:n]...)
	}
	c.out.b = append(c.out.b, s[start:]...)
	c.out.b = append(c.out.b, '"')
	return nil
}

func (c *msgpackConverter) write(s string) error {
	if err := c.room(len(s)); err != nil {
		return err
	}
	c.out.b = append(c.out.b, s...)
	return nil
}

// room makes room for n more bytes of JSON.
func (c *msgpackConverter) room(n int) error {
	if int64(len(c.out.b)+n) > c.limit {
		return errTooLarge
	}
	return c.out.grow(n, c.limit)
}
