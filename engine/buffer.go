package engine

import (
	"errors"
	"fmt"
	"io"
	"math/bits"
	"sync"
)

// The pools hold memory of fixed sizes: 4 KiB, and from there four sizes to
// each doubling, up to 64 MiB. A buffer is thus at most a quarter larger than
// what was asked for, and a reply of about the size of the last one finds its
// memory again. What is larger is rare and left to the garbage collector.
const (
	minPooledLog2  = 12
	maxPooledLog2  = 26
	stepsLog2      = 2
	numBufferPools = (maxPooledLog2-minPooledLog2)<<stepsLog2 + 1
)

// bufferPools hold pointers to slices, because a slice itself would be
// allocated on its way into the pool.
var bufferPools [numBufferPools]sync.Pool

// bufferClass returns the pool of the memory that holds n bytes and the size of
// that memory. The pool is -1 when n is too large for all of them.
func bufferClass(n int) (pool, size int) {
	switch {
	case n <= 1<<minPooledLog2:
		return 0, 1 << minPooledLog2
	case n > 1<<maxPooledLog2:
		return -1, n
	}
	// The sizes between two powers of two are 5 to 8 units of an eighth of the
	// upper one.
	unitLog2 := bits.Len(uint(n-1)) - stepsLog2 - 1
	units := (n-1)>>unitLog2 + 1
	doublings := unitLog2 + stepsLog2 - minPooledLog2
	return doublings<<stepsLog2 + units - 1<<stepsLog2, units << unitLog2
}

// A buffer holds the bytes of one body. Its memory is reserved in a [Memory]
// for as long as the buffer lives and reused afterwards: whoever acquires a
// buffer releases it, and nobody keeps a slice of it beyond that. It is not
// safe for concurrent use.
type buffer struct {
	// b is the content. Its spare capacity may be written to, more is made by
	// grow only, so that all memory is accounted for.
	b []byte

	backing *[]byte
	memory  *Memory
	end     [1]byte
}

// acquireBuffer returns an empty buffer with room for n bytes. The error wraps
// [ErrOverloaded] when the memory has no room for it.
func acquireBuffer(m *Memory, n int64) (*buffer, error) {
	backing, err := acquireBacking(m, n)
	if err != nil {
		return nil, err
	}
	return &buffer{b: (*backing)[:0], backing: backing, memory: m}, nil
}

// grow makes room for n more bytes. It at least doubles a buffer that has no
// room, so that copying stays linear, but not beyond the n bytes and limit + 1
// bytes in all: the one byte more shows that the limit is passed. The content is
// kept; slices of it that were taken before are not valid any more. After an
// error, which wraps [ErrOverloaded], the buffer is what it was.
func (b *buffer) grow(n int, limit int64) error {
	if cap(b.b)-len(b.b) >= n {
		return nil
	}
	size := int64(len(b.b))
	backing, err := acquireBacking(b.memory, max(size+int64(n), min(2*size, limit+1)))
	if err != nil {
		return err
	}
	content := append((*backing)[:0], b.b...)
	releaseBacking(b.memory, b.backing)
	b.b, b.backing = content, backing
	return nil
}

// release gives the memory back. The buffer is empty afterwards; to release it
// again does nothing, and neither does the release of a nil buffer.
func (b *buffer) release() {
	if b == nil || b.backing == nil {
		return
	}
	releaseBacking(b.memory, b.backing)
	b.b, b.backing = nil, nil
}

var (
	// errTooLarge is returned for content over a limit.
	errTooLarge = errors.New("too large")
	// errTooLong is returned for content longer than it was said to be.
	errTooLong = errors.New("longer than its declared length")
)

// fill appends what src holds up to its end. The error is [errTooLarge] when
// that makes the content larger than limit bytes, of which no more than one is
// read, wraps [ErrOverloaded] when there is no memory for it, and is that of
// src otherwise. What was read before the error is kept.
func (b *buffer) fill(src io.Reader, limit int64) error {
	for {
		if err := b.grow(1, limit); err != nil {
			return err
		}
		end := min(int64(cap(b.b)), limit+1)
		n, err := src.Read(b.b[len(b.b):end])
		b.b = b.b[:len(b.b)+n]
		switch {
		case int64(len(b.b)) > limit:
			return errTooLarge
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// fillExactly reads n bytes, for which the empty buffer has room, and the end
// of src. The error is [io.ErrUnexpectedEOF] when src ends early.
func (b *buffer) fillExactly(src io.Reader, n int) error {
	b.b = b.b[:n]
	if _, err := io.ReadFull(src, b.b); err == io.EOF {
		return io.ErrUnexpectedEOF
	} else if err != nil {
		return err
	}
	// A connection is free for the next request once its reply was read to the
	// end, which with HTTP/2 is a frame of its own.
	for {
		more, err := src.Read(b.end[:])
		switch {
		case more > 0:
			return errTooLong
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

func acquireBacking(m *Memory, n int64) (*[]byte, error) {
	if int64(int(n)) != n {
		return nil, fmt.Errorf("reserve %d bytes: %w", n, ErrOverloaded)
	}
	pool, size := bufferClass(int(n))
	if !m.Reserve(int64(size)) {
		return nil, fmt.Errorf("reserve %d bytes: %w", size, ErrOverloaded)
	}
	if pool >= 0 {
		if backing, ok := bufferPools[pool].Get().(*[]byte); ok {
			return backing, nil
		}
	}
	backing := make([]byte, size)
	return &backing, nil
}

func releaseBacking(m *Memory, backing *[]byte) {
	size := len(*backing)
	if pool, _ := bufferClass(size); pool >= 0 {
		bufferPools[pool].Put(backing)
	}
	m.Release(int64(size))
}
