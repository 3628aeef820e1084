package jsonspan

// Span is the part doc[Start:End] of a document.
type Span struct{ Start, End int }

// Of returns the bytes of the span in its document. They are doc's own.
func (s Span) Of(doc []byte) []byte { return doc[s.Start:s.End] }

// Len returns the number of bytes of the span.
func (s Span) Len() int { return s.End - s.Start }

// Value is the place of a JSON value, without the white space around it, and
// its kind. The zero Value is absent: its Kind is [None].
type Value struct {
	Span
	Kind Kind
}

// Member is a member of an object. The Value of an absent member is absent.
type Member struct {
	// Key is the name as it is written, with its quotes and escapes.
	Key   Span
	Value Value
}

// Entry is one element of the list of a [Document].
type Entry struct {
	Value
	// Chars is the number of Unicode scalars in all strings inside the entry,
	// names of members excepted. The escaped surrogate pair is one, and so is the
	// escape of a lone surrogate.
	Chars int
	// Elements is the set of kinds of the direct elements of an entry that is an
	// array.
	Elements KindSet
	// Count is the number of direct elements of an entry that is an array.
	Count int
	// Vector is the measure of the entry's vector; see [Shape.Vector].
	Vector Vector
}

// Shape says what to look for in a document. It may be used by several
// goroutines at once as long as none of them changes it.
type Shape struct {
	// Lists names the top-level member that holds the list, the best name first:
	// of several that are present the best one counts, wherever it stands. The
	// name "" stands for the document itself being the list.
	Lists []string
	// Members names other top-level members that matter.
	Members []string
	// Fields names the members that matter of those entries that are objects.
	Fields []string
	// Vector names the one of Fields that is measured as a vector; "." measures
	// the entry itself, "" nothing.
	Vector string
}

// Document is what [Shape.Scan] found in a document. Its spans are those of the
// scanned bytes. A Document can be scanned into again and keeps its memory for
// that; the zero Document is ready for use.
type Document struct {
	// MaxEntries bounds the entries of the list, and so the memory of the scan;
	// 0 is no bound. It is set before a scan, which leaves it as it is.
	MaxEntries int
	// Reserve bounds the entries of the list by the memory there is for them; nil is
	// no bound. It is set before a scan, which leaves it as it is, and calls it from
	// the goroutine that scans: before Entries and Fields get room for the given
	// number of entries, and once at the start of a list when they have room from
	// before, with the number of entries that is for. It is always the whole room,
	// not what is added to it; the room it replaces is garbage from then on. When
	// Reserve returns false, the scan takes no more entries down, and lets go of
	// room from before that was refused.
	Reserve func(entries int) bool

	// Root is the document without the white space around it.
	Root Value
	// List is the best of Shape.Lists that is present, of whatever kind its value
	// is. Its Key is empty when the document itself is the list.
	List Member
	// ListIndex is the index of List's name in Shape.Lists, -1 when there is none.
	ListIndex int
	// Members holds a member for each name of Shape.Members.
	Members []Member
	// Entries holds the elements of List when that is an array.
	Entries []Entry
	// Fields holds for each of Entries a row of one value for each name of
	// Shape.Fields; see [Document.Field].
	Fields []Value
	// Chars is the number of Unicode scalars in all strings inside List, counted
	// as for [Entry]; List may itself be a string.
	Chars int
	// Elements is the set of kinds of the direct elements of List when that is an
	// array.
	Elements KindSet

	// candidates holds a member for each name of Shape.Lists.
	candidates []Member
}

// Field returns the member of an entry that Shape.Fields names at index field,
// the absent Value when the entry has none of that name or is no object.
func (d *Document) Field(entry, field int) Value {
	return d.Fields[entry*(len(d.Fields)/len(d.Entries))+field]
}

// reset empties d for the result of a scan for s.
func (d *Document) reset(s *Shape) {
	*d = Document{
		MaxEntries: d.MaxEntries,
		Reserve:    d.Reserve,
		ListIndex:  -1,
		Members:    absent(d.Members, len(s.Members)),
		Entries:    d.Entries[:0],
		Fields:     d.Fields[:0],
		candidates: absent(d.candidates, len(s.Lists)),
	}
}

// absent returns n absent members, in the memory of members if it suffices.
func absent(members []Member, n int) []Member {
	members = members[:0]
	for range n {
		members = append(members, Member{})
	}
	return members
}
