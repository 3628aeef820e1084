package jsonspan

import "fmt"

// A SyntaxError says where and why a document is no valid JSON.
type SyntaxError struct {
	// Offset is the index of the first byte that cannot stand where it stands;
	// the length of the document when it ends too early.
	Offset int
	// Message says what is wrong there.
	Message string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("malformed JSON at byte %d: %s", e.Offset, e.Message)
}

// A DuplicateError says that a member which the [Shape] names stands twice in
// its object, so that it is unclear which one counts. The document is valid JSON.
type DuplicateError struct {
	// Name is the name of the member.
	Name string
	// Offset is the index of the first byte of the second one.
	Offset int
}

func (e *DuplicateError) Error() string {
	return fmt.Sprintf("member %q stands twice, again at byte %d", e.Name, e.Offset)
}

// A LimitError says that the list of a document has more entries than
// [Document.MaxEntries] or [Document.Reserve] allows. The document is valid JSON.
type LimitError struct {
	// MaxEntries is the limit: that of the Document, or the number of entries for
	// which room was reserved when no more was allowed, which may be 0.
	MaxEntries int
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("the list has more than %d entries", e.MaxEntries)
}
