package jsonspan

import "strconv"

// Kind is the kind of a JSON value: what its first byte tells, and of numbers
// also how they are written and whether a float64 holds them.
type Kind uint8

// The kinds. The zero Kind stands for a value that is absent.
const (
	None Kind = iota
	Null
	False
	True
	// Integer is a number without sign, fraction and exponent: a non-negative
	// integer, of up to 309 digits. -0, 1.0 and 1e3 are no Integers.
	Integer
	// Number is every other number that is not out of range.
	Number
	String
	Array
	Object
	// Overflow is a number, however it is written, whose magnitude is too large for
	// a float64, such as 1e999: valid JSON that becomes an infinity or an error in
	// nearly every program that reads it. Too large are exactly the magnitudes that
	// round to more than math.MaxFloat64. A number too close to 0 is none: it
	// becomes 0.
	Overflow
)

var kindNames = [...]string{
	"nothing", "null", "false", "true", "integer", "number", "string", "array", "object", "number out of range",
}

// String returns the name of k, such as "array".
func (k Kind) String() string {
	if int(k) >= len(kindNames) {
		return "kind " + strconv.Itoa(int(k))
	}
	return kindNames[k]
}

// KindSet is a set of kinds. The zero KindSet is empty.
type KindSet uint16

// Kinds returns the set of the given kinds.
func Kinds(kinds ...Kind) KindSet {
	var s KindSet
	for _, k := range kinds {
		s |= 1 << k
	}
	return s
}

// Has reports whether k is in s.
func (s KindSet) Has(k Kind) bool { return s&(1<<k) != 0 }

// Only reports whether s holds no kinds but the given ones. It is true of the
// empty set.
func (s KindSet) Only(kinds ...Kind) bool { return s&^Kinds(kinds...) == 0 }
