package jsonspan

// Form is the way in which an embedding is written.
type Form uint8

// The forms of embeddings.
const (
	// NoVector is the form of a vector that is absent.
	NoVector Form = iota
	// Flat is a non-empty array of numbers, none of them out of range.
	Flat
	// Nested is an array of arrays, through any number of levels, down to flat
	// ones that are all at the same level and of the same length.
	Nested
	// Text is a string, by convention base64.
	Text
	// Sparse is a non-empty array of objects.
	Sparse
	// Odd is anything else: an empty array, a null inside, mixed kinds or levels,
	// innermost arrays of several lengths, a number out of range, a bare number, an
	// object.
	Odd
)

// Vector is the measure of an embedding. Two embeddings of one length and form
// have equal measures.
type Vector struct {
	Form Form
	// Len is the number of numbers of a Flat vector and of the innermost arrays of
	// a Nested one, and the number of Unicode scalars of a Text, escapes decoded
	// and padding included. It is 0 for the other forms.
	Len int
}

// measure is a Vector and the number of levels of arrays in it, which must agree
// for all elements of a Nested vector.
type measure struct {
	Vector
	levels int
}

var odd = measure{Vector: Vector{Form: Odd}}

// measureArray returns the measure of an array of count elements of the given
// kinds. Each is the measure that all elements which are arrays have in common,
// odd if they have none in common.
func measureArray(elements KindSet, count int, each measure) measure {
	switch {
	case count == 0:
		return odd
	case elements.Only(Integer, Number):
		return measure{Vector{Flat, count}, 1}
	case elements.Only(Object):
		return measure{Vector: Vector{Form: Sparse}}
	case elements.Only(Array) && (each.Form == Flat || each.Form == Nested):
		return measure{Vector{Nested, each.Len}, each.levels + 1}
	}
	return odd
}
