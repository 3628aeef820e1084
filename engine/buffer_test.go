package engine

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"
)

func TestBufferClasses(t *testing.T) {
	t.Parallel()
	sizes := map[int]int{}
	for _, around := range []int{0, 1, 4 << 10, 5 << 10, 7 << 10, 8 << 10, 100_000, 1 << 20, 3 << 20, 48 << 20, 64 << 20} {
		for n := max(around-2, 0); n <= min(around+2, 1<<maxPooledLog2); n++ {
			pool, size := bufferClass(n)
			if pool < 0 || pool >= numBufferPools {
				t.Fatalf("%d bytes are of the pool %d", n, pool)
			}
			if size < n || size > 1<<minPooledLog2 && size > n+n/4 {
				t.Errorf("%d bytes get %d", n, size)
			}
			if other, found := sizes[pool]; found && other != size {
				t.Errorf("the pool %d has the sizes %d and %d", pool, size, other)
			}
			sizes[pool] = size
			if again, _ := bufferClass(size); again != pool {
				t.Errorf("a buffer of %d bytes goes to the pool %d, not back to %d", size, again, pool)
			}
		}
	}
	if pool, _ := bufferClass(1 << maxPooledLog2); pool != numBufferPools-1 {
		t.Errorf("the largest size is of the pool %d, want the last of %d", pool, numBufferPools)
	}
	if pool, size := bufferClass(1<<maxPooledLog2 + 1); pool != -1 || size != 1<<maxPooledLog2+1 {
		t.Errorf("what is larger gets %d bytes of the pool %d", size, pool)
	}
}

func TestBufferAccountsForItsMemory(t *testing.T) {
	t.Parallel()
	m := NewMemory(1 << 20)
	b, err := acquireBuffer(m, 5000)
	if err != nil {
		t.Fatal(err)
	}
	if used := m.Used(); used != int64(cap(b.b)) || used < 5000 {
		t.Errorf("%d bytes are reserved for %d", used, cap(b.b))
	}
	b.b = append(b.b, "content"...)
	if err := b.grow(9000, 1<<20); err != nil {
		t.Fatal(err)
	}
	if used := m.Used(); used != int64(cap(b.b)) || cap(b.b) < 9007 || string(b.b) != "content" {
		t.Errorf("%d bytes are reserved for %d with %q", used, cap(b.b), b.b)
	}
	if err := b.grow(1<<20, 2<<20); !errors.Is(err, ErrOverloaded) || string(b.b) != "content" {
		t.Errorf("growing too much left %q and the error %v", b.b, err)
	}
	if _, err := acquireBuffer(m, 1<<20); !errors.Is(err, ErrOverloaded) {
		t.Errorf("got the error %v, want that there is no memory", err)
	}
	b.release()
	b.release()
	if used := m.Used(); used != 0 {
		t.Errorf("%d bytes are reserved after the release", used)
	}
	var none *buffer
	none.release()
}

func TestReleasedTwiceIsNotUsedTwice(t *testing.T) {
	t.Parallel()
	first, err := acquireBuffer(nil, 10<<10)
	if err != nil {
		t.Fatal(err)
	}
	first.release()
	second, err := acquireBuffer(nil, 10<<10)
	if err != nil {
		t.Fatal(err)
	}
	defer second.release()
	first.release()
	third, err := acquireBuffer(nil, 10<<10)
	if err != nil {
		t.Fatal(err)
	}
	defer third.release()
	if &second.b[:1][0] == &third.b[:1][0] {
		t.Error("two buffers share their memory")
	}
}

func TestBufferLargerThanThePoolsIsExact(t *testing.T) {
	t.Parallel()
	b, err := acquireBuffer(nil, 1<<maxPooledLog2+1)
	if err != nil {
		t.Fatal(err)
	}
	defer b.release()
	if cap(b.b) != 1<<maxPooledLog2+1 {
		t.Errorf("it has %d bytes", cap(b.b))
	}
}

func TestFill(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("0123456789", 5000)
	broken := errors.New("broken")
	tests := map[string]struct {
		src    io.Reader
		limit  int64
		memory *Memory
		want   string
		err    error
	}{
		"an empty source":                  {src: strings.NewReader(""), limit: 10},
		"a source that fits":               {src: strings.NewReader("abc"), limit: 10, want: "abc"},
		"a source as long as the limit":    {src: strings.NewReader("abc"), limit: 3, want: "abc"},
		"a source longer than the limit":   {src: strings.NewReader("abcdef"), limit: 3, want: "abcd", err: errTooLarge},
		"a source that makes it grow":      {src: strings.NewReader(long), limit: math.MaxInt32, want: long},
		"a limit that is reached growing":  {src: strings.NewReader(long), limit: 49_999, want: long, err: errTooLarge},
		"a source that ends with its data": {src: iotest.DataErrReader(strings.NewReader(long)), limit: 50_000, want: long},
		"a source of single bytes":         {src: iotest.OneByteReader(strings.NewReader(long)), limit: 50_000, want: long},
		"a source that breaks off":         {src: io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(broken)), limit: 10, want: "abc", err: broken},
		"no memory to grow":                {src: strings.NewReader(long), limit: math.MaxInt32, memory: NewMemory(9000), want: long[:4096], err: ErrOverloaded},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := acquireBuffer(test.memory, 1)
			if err != nil {
				t.Fatal(err)
			}
			if err := b.fill(test.src, test.limit); !errors.Is(err, test.err) {
				t.Errorf("got the error %v, want %v", err, test.err)
			}
			if string(b.b) != test.want {
				t.Errorf("got %d bytes, want %d", len(b.b), len(test.want))
			}
			b.release()
			if used := test.memory.Used(); used != 0 {
				t.Errorf("%d bytes are still reserved", used)
			}
		})
	}
}

func TestFillDoesNotOutgrowTheLimit(t *testing.T) {
	t.Parallel()
	b, err := acquireBuffer(nil, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer b.release()
	const limit = 1<<20 + 1<<18 // the size of a class
	if err := b.fill(bytes.NewReader(make([]byte, limit)), limit); err != nil {
		t.Fatal(err)
	}
	if cap(b.b) > limit+limit/4+1 {
		t.Errorf("%d bytes are held for %d", cap(b.b), limit)
	}
}

func TestFillExactly(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	tests := map[string]struct {
		src io.Reader
		n   int
		err error
	}{
		"as long as declared":            {src: strings.NewReader("abc"), n: 3},
		"nothing, as declared":           {src: strings.NewReader(""), n: 0},
		"the end comes with the data":    {src: iotest.DataErrReader(strings.NewReader("abc")), n: 3},
		"a byte at a time":               {src: iotest.OneByteReader(strings.NewReader("abc")), n: 3},
		"too short":                      {src: strings.NewReader("ab"), n: 3, err: io.ErrUnexpectedEOF},
		"nothing where there should be":  {src: strings.NewReader(""), n: 3, err: io.ErrUnexpectedEOF},
		"too long":                       {src: strings.NewReader("abcd"), n: 3, err: errTooLong},
		"breaks":                         {src: iotest.ErrReader(broken), n: 3, err: broken},
		"breaks where the end should be": {src: io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(broken)), n: 3, err: broken},
		"not empty although declared so": {src: strings.NewReader("a"), n: 0, err: errTooLong},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := acquireBuffer(nil, int64(test.n))
			if err != nil {
				t.Fatal(err)
			}
			defer b.release()
			if err := b.fillExactly(test.src, test.n); !errors.Is(err, test.err) {
				t.Errorf("got the error %v, want %v", err, test.err)
			}
			if test.err == nil && string(b.b) != "abc"[:test.n] {
				t.Errorf("got %q", b.b)
			}
		})
	}
}
