// Package jsonspan finds the raw spans of a JSON document on which splitting a
// request and merging replies work: the list of items or results, every entry
// of it with what must be known about it, and a few named members.
//
// [Shape.Scan] reads a document once. It checks all of it strictly and decodes
// none of it: nothing is allocated for an item beyond its place in the slices of
// a [Document], which the next scan uses again.
//
// A document is valid when RFC 8259 says so and, beyond that, when it is UTF-8
// throughout and nested no deeper than 512 levels. A byte order mark is an error.
// The escape of a lone surrogate, such as \ud800, is accepted and stands for
// U+FFFD, as in encoding/json.
//
// The concerns and their files:
//
//	document.go  what is looked for and what is found
//	scan.go      finding it: the list, its entries, the members
//	room.go      the memory for the entries
//	value.go     checking any value, array and object
//	number.go    numbers, and arrays of them at full speed
//	text.go      strings: escapes, UTF-8, counting scalars
//	vector.go    the measure of an embedding
//	walk.go      visiting the parts of a document that is known to be valid
package jsonspan
