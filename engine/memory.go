package engine

import "sync/atomic"

// Memory is a budget of bytes for the bodies that all requests hold together.
// It is safe for concurrent use. A nil *Memory has no limit.
type Memory struct {
	limit int64
	used  atomic.Int64
}

// NewMemory returns a budget of limit bytes; zero or less means no limit.
func NewMemory(limit int64) *Memory {
	if limit <= 0 {
		return nil
	}
	return &Memory{limit: limit}
}

// Limit returns the size of the budget in bytes, zero when there is no limit.
func (m *Memory) Limit() int64 {
	if m == nil {
		return 0
	}
	return m.limit
}

// Used returns the number of bytes reserved at this moment.
func (m *Memory) Used() int64 {
	if m == nil {
		return 0
	}
	return m.used.Load()
}

// Reserve takes n bytes of the budget and reports whether they were there.
// What was reserved is given back with [Memory.Release].
func (m *Memory) Reserve(n int64) bool {
	if m == nil {
		return true
	}
	for {
		used := m.used.Load()
		if n > m.limit-used {
			return false
		}
		if m.used.CompareAndSwap(used, used+n) {
			return true
		}
	}
}

// Release gives n reserved bytes back.
func (m *Memory) Release(n int64) {
	if m != nil {
		m.used.Add(-n)
	}
}
