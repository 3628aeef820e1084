package jsonspan

import "slices"

// Scan checks the whole of doc and fills d, whose former content is lost and
// whose memory is used again. It does not keep doc, but the spans of d mean
// nothing without it.
//
// The error is a [*SyntaxError] when doc is malformed, or else a
// [*DuplicateError] when a member named by Lists or Members stands twice at the
// top level or one named by Fields twice in an entry of the list, or else a
// [*LimitError] when the list is longer than d allows; then the content of d is
// meaningless. Members of other names may stand twice. A document of another
// shape than expected is no error: d says what there is.
//
// Time is linear in the length of doc. Memory is used for the entries of the list
// alone: 64 bytes an entry and 24 for each of its fields, however short the entry
// is, which for a list of single digits is many times the length of doc. It is
// bounded by MaxEntries and Reserve of d.
func (s *Shape) Scan(doc []byte, d *Document) error {
	d.reset(s)
	f := finder{scanner: scanner{doc: doc}, shape: s, found: d, measured: -1}
	if s.Vector != "" {
		f.measured = slices.Index(s.Fields, s.Vector)
	}
	start := f.space(0)
	root := f.root(start)
	if err := f.finish(root.end); err != nil {
		return err
	}
	if f.twice != nil {
		return f.twice
	}
	if f.twiceInEntry != nil {
		return f.twiceInEntry
	}
	if f.tooMany {
		return &LimitError{MaxEntries: f.room}
	}
	d.Root = root.from(start)
	return nil
}

// Valid checks the whole of doc, as [Shape.Scan] does, and returns nil or a
// [*SyntaxError].
func Valid(doc []byte) error {
	s := scanner{doc: doc}
	return s.finish(s.value(s.space(0)).end)
}

// finder is a scanner that takes down what a Shape asks for.
type finder struct {
	scanner
	shape *Shape
	found *Document
	// measured is the index in shape.Fields of the one that is measured, or -1.
	measured int
	// twice and twiceInEntry are the first duplicates, at the top level and in the
	// entries of the present list. They are kept while the scan goes on: it may
	// find the document malformed, or a better list.
	twice, twiceInEntry error
	// room is the number of entries of the present list for which there is room.
	room int
	// refused says that Reserve allowed no more room for the present list.
	refused bool
	// tooMany says that the present list has more entries than are taken down.
	tooMany bool
}

// root checks the root, which begins at i.
func (f *finder) root(i int) scanned {
	switch f.at(i) {
	case '[':
		if index := slices.Index(f.shape.Lists, ""); index >= 0 {
			return f.takeList(index, Span{}, i)
		}
	case '{':
		return scanned{end: f.topLevel(i), kind: Object}
	}
	return f.value(i)
}

// topLevel checks the object that begins at i and is the root.
func (f *finder) topLevel(i int) int {
	i, more := f.open(i, '}')
	for more {
		key := f.key(i)
		if key.value < 0 {
			return key.value
		}
		var v scanned
		list := -1
		if key.Len() > len(`""`) { // in Lists the empty name means the root
			list = f.lookup(f.shape.Lists, key)
		}
		if list >= 0 && (f.found.ListIndex < 0 || list < f.found.ListIndex) {
			v = f.takeList(list, key.Span, key.value)
		} else {
			v = f.value(key.value)
		}
		m := Member{Key: key.Span, Value: v.from(key.value)}
		if list >= 0 {
			f.takeMember(&f.found.candidates[list], m, f.shape.Lists[list])
		}
		if index := f.lookup(f.shape.Members, key); index >= 0 {
			f.takeMember(&f.found.Members[index], m, f.shape.Members[index])
		}
		i, more = f.next(v.end, '}')
	}
	return i
}

// takeMember takes down a member of the top level.
func (f *finder) takeMember(place *Member, m Member, name string) {
	if place.Value.Kind != None && f.twice == nil {
		f.twice = &DuplicateError{Name: name, Offset: m.Key.Start}
	}
	*place = m
}

// takeList checks the value that begins at i and takes it down as the list, in
// place of a worse one that was found before.
func (f *finder) takeList(index int, key Span, i int) scanned {
	d := f.found
	d.Entries, d.Fields = d.Entries[:0], d.Fields[:0]
	f.twiceInEntry, f.tooMany = nil, false
	before := f.chars
	var v scanned
	if f.at(i) == '[' {
		v = f.entries(i)
	} else {
		v = f.value(i)
	}
	d.List = Member{Key: key, Value: v.from(i)}
	d.ListIndex = index
	d.Chars = f.chars - before
	d.Elements = v.elements
	return v
}

// entries checks the array that begins at i and takes down its elements.
func (f *finder) entries(i int) scanned {
	d := f.found
	fields := len(f.shape.Fields)
	var elements KindSet
	f.findRoom()
	i, more := f.open(i, ']')
	for more {
		if len(d.Entries) == f.room && !f.grow() {
			f.tooMany = true
			i, more = f.next(f.value(i).end, ']')
			continue
		}
		d.Fields = d.Fields[:len(d.Fields)+fields]
		row := d.Fields[len(d.Fields)-fields:]
		clear(row)
		before := f.chars
		var (
			v      scanned
			vector Vector
		)
		if f.at(i) == '{' {
			v, vector = f.entry(i, row)
		} else {
			v = f.value(i)
		}
		if f.shape.Vector == "." {
			vector = v.measure.Vector
		}
		d.Entries = append(d.Entries, Entry{
			Value:    v.from(i),
			Chars:    f.chars - before,
			Elements: v.elements,
			Count:    v.count,
			Vector:   vector,
		})
		elements |= 1 << v.kind
		i, more = f.next(v.end, ']')
	}
	return scanned{end: i, kind: Array, elements: elements}
}

// entry checks the object that begins at i and is an entry of the list. It fills
// the entry's row of fields and returns the measure of the one that is measured.
func (f *finder) entry(i int, row []Value) (entry scanned, vector Vector) {
	i, more := f.open(i, '}')
	for more {
		key := f.key(i)
		v := f.value(key.value)
		if v.end < 0 {
			return v, vector
		}
		if index := f.lookup(f.shape.Fields, key); index >= 0 {
			if row[index].Kind != None && f.twiceInEntry == nil {
				f.twiceInEntry = &DuplicateError{Name: f.shape.Fields[index], Offset: key.Start}
			}
			row[index] = v.from(key.value)
			if index == f.measured {
				vector = v.measure.Vector
			}
		}
		i, more = f.next(v.end, '}')
	}
	return scanned{end: i, kind: Object, measure: odd}, vector
}

// lookup returns the index in names of the name that the key stands for, or -1.
func (s *scanner) lookup(names []string, key memberKey) int {
	raw := s.doc[key.Start+1 : key.End-1]
	for i, name := range names {
		if key.plain && string(raw) == name || !key.plain && means(raw, name) {
			return i
		}
	}
	return -1
}
