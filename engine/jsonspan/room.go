package jsonspan

// leastRoom is the number of entries for which room is made at first. It is
// doubled from there, so that the room that was let go is no more than the room
// there is.
const leastRoom = 16

// findRoom sets out for a new list with the room there is from lists before. The
// slices of the Document have room for the same number of entries, and no more of
// it than was reserved; those that are not wanted or not of use are let go.
func (f *finder) findRoom() {
	d := f.found
	f.room, f.refused = cap(d.Entries), false
	if cap(d.Fields) != f.room*len(f.shape.Fields) { // made for another number of fields
		f.room = 0
	}
	if f.room > 0 && d.Reserve != nil && !d.Reserve(f.room) {
		f.room, f.refused = 0, true
	}
	if f.room == 0 {
		d.Entries, d.Fields = nil, nil
	}
	if d.MaxEntries > 0 {
		f.room = min(f.room, d.MaxEntries)
	}
}

// grow makes room for more entries, and reports whether it may.
func (f *finder) grow() bool {
	d := f.found
	if f.refused || d.MaxEntries > 0 && f.room == d.MaxEntries {
		return false
	}
	room := max(leastRoom, 2*f.room)
	if d.MaxEntries > 0 {
		room = min(room, d.MaxEntries)
	}
	if d.Reserve != nil && !d.Reserve(room) {
		f.refused = true
		return false
	}
	// Unlike append, make gives no more than it is asked for.
	d.Entries = append(make([]Entry, 0, room), d.Entries...)
	d.Fields = append(make([]Value, 0, room*len(f.shape.Fields)), d.Fields...)
	f.room = room
	return true
}
