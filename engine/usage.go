package engine

import (
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"github.com/basetenlabs/caddy-performance-proxy/engine/jsonspan"
)

// maxUsage is the largest usage member of a reply in bytes. It is copied out of
// every reply, so it must be small.
const maxUsage = 64 << 10

// maxDecimal bounds the digits and the exponent of a number in a usage member,
// so that adding up takes no more than little time and memory.
const maxDecimal = 400

// errUsage is the error of a usage that cannot be added up.
var errUsage = errors.New("its usage cannot be added up")

// part is a value within a document of its own.
type part struct {
	doc []byte
	jsonspan.Value
}

// parsePart returns the value of a valid document.
func parsePart(doc []byte) (part, error) {
	var shape jsonspan.Shape
	var d jsonspan.Document
	err := shape.Scan(doc, &d)
	return part{doc: doc, Value: d.Root}, err
}

// addUp appends the sum of the usage members of several replies to dst: numbers
// in the same place are added, wherever they stand; what is no number comes from
// the first reply that has it, and null stays null where no reply has a number.
// The arithmetic is decimal and exact.
func addUp(dst []byte, parts []part) ([]byte, error) {
	first := part{}
	for _, p := range parts {
		if first.Kind == jsonspan.None || first.Kind == jsonspan.Null {
			first = p
		}
	}
	switch first.Kind {
	case jsonspan.Integer, jsonspan.Number, jsonspan.Overflow:
		return addNumbers(dst, parts)
	case jsonspan.Object:
		return addObjects(dst, parts)
	case jsonspan.Array:
		return addArrays(dst, first, parts)
	}
	return append(dst, first.Of(first.doc)...), nil
}

// addObjects adds objects up, member by member.
func addObjects(dst []byte, parts []part) ([]byte, error) {
	var keys [][]byte
	members := map[string][]part{}
	for _, p := range parts {
		seen := map[string]bool{}
		for m := range jsonspan.Members(p.doc, p.Value) {
			name := jsonspan.Unquote(p.doc, jsonspan.Value{Span: m.Key, Kind: jsonspan.String})
			if seen[name] {
				return nil, fmt.Errorf("%w: its member %q stands twice", errUsage, name)
			}
			seen[name] = true
			if members[name] == nil {
				keys = append(keys, m.Key.Of(p.doc))
			}
			members[name] = append(members[name], part{doc: p.doc, Value: m.Value})
		}
	}
	dst = append(dst, '{')
	for i, key := range keys {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(dst, key...), ':')
		name := jsonspan.Unquote(key, jsonspan.Value{Span: jsonspan.Span{End: len(key)}, Kind: jsonspan.String})
		var err error
		if dst, err = addUp(dst, members[name]); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

// addArrays adds arrays of one length up, element by element; arrays of several
// lengths have no sum, and the first one stands.
func addArrays(dst []byte, first part, parts []part) ([]byte, error) {
	var columns [][]part
	for _, p := range parts {
		if p.Kind != jsonspan.Array {
			continue
		}
		row := 0
		for v := range jsonspan.Elements(p.doc, p.Value) {
			if row == len(columns) {
				columns = append(columns, nil)
			}
			columns[row] = append(columns[row], part{doc: p.doc, Value: v})
			row++
		}
	}
	for _, c := range columns {
		if len(c) != len(columns[0]) {
			return append(dst, first.Of(first.doc)...), nil
		}
	}
	dst = append(dst, '[')
	for i, c := range columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = addUp(dst, c); err != nil {
			return nil, err
		}
	}
	return append(dst, ']'), nil
}

// addNumbers adds the numbers among the parts up.
func addNumbers(dst []byte, parts []part) ([]byte, error) {
	sum := decimal{}
	for _, p := range parts {
		if p.Kind != jsonspan.Integer && p.Kind != jsonspan.Number && p.Kind != jsonspan.Overflow {
			continue
		}
		d, err := parseDecimal(string(p.Of(p.doc)))
		if err != nil {
			return nil, err
		}
		sum.add(d)
	}
	return sum.append(dst), nil
}

// decimal is the number digits times ten to the power of exp, where exp is
// never positive.
type decimal struct {
	digits big.Int
	exp    int
}

// parseDecimal reads a JSON number exactly.
func parseDecimal(text string) (*decimal, error) {
	mantissa, exponent := text, "0"
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		mantissa, exponent = text[:i], text[i+1:]
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	exp, err := strconv.Atoi(exponent)
	if err != nil || exp < -maxDecimal || exp > maxDecimal || len(mantissa) > maxDecimal {
		return nil, fmt.Errorf("%w: %.50s is out of range", errUsage, text)
	}
	d := &decimal{exp: exp - len(fraction)}
	if _, ok := d.digits.SetString(whole+fraction, 10); !ok {
		return nil, fmt.Errorf("%w: %.50s is no number", errUsage, text)
	}
	d.scale(min(d.exp, 0))
	return d, nil
}

// scale writes the number with a smaller exponent.
func (d *decimal) scale(exp int) {
	if n := d.exp - exp; n > 0 {
		d.digits.Mul(&d.digits, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil))
		d.exp = exp
	}
}

// add adds o to d.
func (d *decimal) add(o *decimal) {
	d.scale(o.exp)
	o.scale(d.exp)
	d.digits.Add(&d.digits, &o.digits)
}

// append appends the number in plain digits.
func (d *decimal) append(dst []byte) []byte {
	digits := new(big.Int).Abs(&d.digits).String()
	if d.digits.Sign() < 0 {
		dst = append(dst, '-')
	}
	if missing := 1 - d.exp - len(digits); missing > 0 {
		digits = strings.Repeat("0", missing) + digits
	}
	point := len(digits) + d.exp
	dst = append(dst, digits[:point]...)
	if d.exp < 0 {
		dst = append(append(dst, '.'), digits[point:]...)
	}
	return dst
}
