package jsonspan

// maxDepth is how deep arrays and objects may be nested in one another.
const maxDepth = 512

// scanner checks the values of a document. Its methods take the index at which
// something begins and return the index at which it ends. A negative index says
// that the document is malformed there or was before, and is passed on by every
// method; the first error is kept.
type scanner struct {
	doc []byte
	// depth is the number of arrays and objects that are open.
	depth int
	// chars is the number of Unicode scalars in all string values so far.
	chars int
	err   *SyntaxError
}

// scanned is what there is to know of a value that was checked.
type scanned struct {
	end  int
	kind Kind
	// elements and count describe the direct elements of an array.
	elements KindSet
	count    int
	measure  measure
}

// from returns the place of the value, which begins at start.
func (v scanned) from(start int) Value {
	return Value{Span: Span{start, v.end}, Kind: v.kind}
}

// fail keeps the error, unless there is one already, and returns the index that
// stands for it.
func (s *scanner) fail(offset int, message string) int {
	if s.err == nil {
		if offset >= len(s.doc) {
			message = "unexpected end, " + message
		}
		s.err = &SyntaxError{Offset: offset, Message: message}
	}
	return -1
}

// at returns the byte at i, 0 when there is none: no token begins with a 0.
func (s *scanner) at(i int) byte {
	if uint(i) < uint(len(s.doc)) {
		return s.doc[i]
	}
	return 0
}

// space returns the index of the first byte from i on that is no white space.
func (s *scanner) space(i int) int {
	for uint(i) < uint(len(s.doc)) {
		switch s.doc[i] {
		case ' ', '\n', '\r', '\t':
			i++
		default:
			return i
		}
	}
	return i
}

// finish checks that nothing but white space follows the root, which ended at i.
func (s *scanner) finish(i int) error {
	if i = s.space(i); i >= 0 && i < len(s.doc) {
		s.fail(i, "expected nothing after the document")
	}
	if s.err != nil {
		return s.err
	}
	return nil
}

// value checks the value that begins at i.
func (s *scanner) value(i int) scanned {
	switch c := s.at(i); c {
	case '"':
		end, chars := s.text(i)
		s.chars += chars
		return scanned{end: end, kind: String, measure: measure{Vector: Vector{Text, chars}}}
	case '[':
		return s.array(i)
	case '{':
		return scanned{end: s.object(i), kind: Object, measure: odd}
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		end, kind := s.number(i)
		return scanned{end: end, kind: kind, measure: odd}
	case 't':
		return scanned{end: s.literal(i, "true"), kind: True, measure: odd}
	case 'f':
		return scanned{end: s.literal(i, "false"), kind: False, measure: odd}
	case 'n':
		return scanned{end: s.literal(i, "null"), kind: Null, measure: odd}
	}
	return scanned{end: s.fail(i, "expected a value")}
}

// literal checks that word stands at i.
func (s *scanner) literal(i int, word string) int {
	for k := range len(word) {
		if s.at(i+k) != word[k] {
			return s.fail(i+k, "expected "+word)
		}
	}
	return i + len(word)
}

// array checks the array that begins at i.
func (s *scanner) array(i int) scanned {
	var (
		elements KindSet
		count    int
		each     measure
	)
	i, more := s.open(i, ']')
	for more {
		if numberStart[s.at(i)] {
			if after, n, kinds := plainNumbers(s.doc, i); n > 0 {
				elements |= kinds
				count += n
				i = s.space(after)
				continue
			}
		}
		v := s.value(i)
		if v.kind == Array {
			switch {
			case !elements.Has(Array):
				each = v.measure
			case each != v.measure:
				each = odd
			}
		}
		elements |= 1 << v.kind
		count++
		i, more = s.next(v.end, ']')
	}
	return scanned{end: i, kind: Array, elements: elements, count: count, measure: measureArray(elements, count, each)}
}

// object checks the object that begins at i.
func (s *scanner) object(i int) int {
	i, more := s.open(i, '}')
	for more {
		i, more = s.next(s.value(s.key(i).value).end, '}')
	}
	return i
}

// open enters the array or object that begins at i and ends with the byte end.
// It returns the index of the first element or member, or, when there is none
// and so no more to do, the index after the end.
func (s *scanner) open(i int, end byte) (first int, more bool) {
	if s.depth == maxDepth {
		return s.fail(i, "nested deeper than 512 levels"), false
	}
	if i = s.space(i + 1); s.at(i) == end {
		return i + 1, false
	}
	s.depth++
	return i, true
}

// next goes on from i, where an element or member ended, to the next one; or,
// when there are no more, leaves the array or object that ends with the byte end
// and returns the index after it.
func (s *scanner) next(i int, end byte) (following int, more bool) {
	i = s.space(i)
	switch s.at(i) {
	case ',':
		return s.space(i + 1), true
	case end:
		s.depth--
		return i + 1, false
	}
	if end == ']' {
		return s.fail(i, "expected , or ] after an array element"), false
	}
	return s.fail(i, "expected , or } after an object member"), false
}

// memberKey is the name of a member and where its value begins.
type memberKey struct {
	Span
	// plain says that the name is ASCII without escapes, so that the bytes between
	// its quotes are the name.
	plain bool
	value int
}

// key checks the name of the member that begins at i, and the colon.
func (s *scanner) key(i int) memberKey {
	if s.at(i) != '"' {
		return memberKey{value: s.fail(i, "expected a member name")}
	}
	end, chars := s.text(i)
	colon := s.space(end)
	if s.at(colon) != ':' {
		return memberKey{value: s.fail(colon, "expected : after a member name")}
	}
	return memberKey{Span: Span{i, end}, plain: chars == end-i-2, value: s.space(colon + 1)}
}
