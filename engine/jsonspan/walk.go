package jsonspan

import "iter"

// Members returns the members of the object v of a valid document, in the order
// in which they stand there; none when v is no object. They are found while they
// are visited, each time anew.
func Members(doc []byte, v Value) iter.Seq[Member] {
	return func(yield func(Member) bool) {
		if v.Kind != Object {
			return
		}
		s := scanner{doc: doc}
		i, more := s.open(v.Start, '}')
		for more {
			key := s.key(i)
			value := s.value(key.value)
			if value.end < 0 || !yield(Member{Key: key.Span, Value: value.from(key.value)}) {
				return
			}
			i, more = s.next(value.end, '}')
		}
	}
}

// Elements returns the elements of the array v of a valid document, in order;
// none when v is no array. They are found while they are visited, each time anew.
func Elements(doc []byte, v Value) iter.Seq[Value] {
	return func(yield func(Value) bool) {
		if v.Kind != Array {
			return
		}
		s := scanner{doc: doc}
		i, more := s.open(v.Start, ']')
		for more {
			value := s.value(i)
			if value.end < 0 || !yield(value.from(i)) {
				return
			}
			i, more = s.next(value.end, ']')
		}
	}
}
