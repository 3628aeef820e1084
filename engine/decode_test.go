package engine

import (
	"bytes"
	stdgzip "compress/gzip"
	"errors"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// gzipOf packs a text.
func gzipOf(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, text) // into memory
	_ = w.Close()
	return b.String()
}

// zstdOf packs a text as a stream, which does not know its size.
func zstdOf(text string) string {
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	// A flush in the middle keeps the encoder from finding out the size.
	_, _ = io.WriteString(w, text[:len(text)/2]) // into memory
	_ = w.Flush()
	_, _ = io.WriteString(w, text[len(text)/2:])
	_ = w.Close()
	return b.String()
}

// zstdSized packs a text at once, so that the frame begins with its size.
func zstdSized(text string) string {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	return string(w.EncodeAll([]byte(text), nil))
}

func TestUnpackedSize(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("some text ", 1000)
	tests := map[string]struct {
		coding coding
		src    string
		want   int64
		known  bool
	}{
		"gzip says it at its end":         {codingGzip, gzipOf(text), 10_000, true},
		"gzip of nothing is too short":    {codingGzip, "abc", 0, false},
		"what gzip cannot hold is a lie":  {codingGzip, "\xff\xff\xff\xff", 4 * maxDeflateRatio, true},
		"zstd packed at once says it":     {codingZstd, zstdSized(text), 10_000, true},
		"zstd packed in parts does not":   {codingZstd, zstdOf(text), 0, false},
		"zstd of nothing does not":        {codingZstd, "", 0, false},
		"what is no zstd does not":        {codingZstd, text, 0, false},
		"zstd cannot say more than it is": {codingZstd, "\x28\xb5\x2f\xfd\xe0\xff\xff\xff\xff\xff\xff\xff\xff", math.MaxInt64, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, known := unpackedSize(test.coding, []byte(test.src)); got != test.want || known != test.known {
				t.Errorf("got %d, %t, want %d, %t", got, known, test.want, test.known)
			}
		})
	}
}

func TestContentCoding(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		lines []string
		want  coding
		fails bool
	}{
		"nothing":                  {want: codingIdentity},
		"an empty line":            {lines: []string{""}, want: codingIdentity},
		"identity":                 {lines: []string{"identity"}, want: codingIdentity},
		"gzip":                     {lines: []string{"gzip"}, want: codingGzip},
		"zstd in capitals":         {lines: []string{" ZSTD "}, want: codingZstd},
		"identity before it":       {lines: []string{"identity, zstd"}, want: codingZstd},
		"one after the other":      {lines: []string{"zstd", "gzip"}, fails: true},
		"one twice":                {lines: []string{"gzip,gzip"}, fails: true},
		"one that was not offered": {lines: []string{"deflate"}, fails: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := contentCoding(http.Header{"Content-Encoding": test.lines})
			if (err != nil) != test.fails || err == nil && got != test.want {
				t.Errorf("got %d, %v", got, err)
			}
		})
	}
}

// FuzzUnpack checks that whatever comes, the limits hold, no memory is lost and
// gzip is read as the standard library reads it.
func FuzzUnpack(f *testing.F) {
	for _, text := range []string{"", "some text", strings.Repeat("\x00", 100_000)} {
		f.Add(true, []byte(gzipOf(text)))
		f.Add(false, []byte(zstdOf(text)))
		f.Add(false, []byte(zstdSized(text)))
		f.Add(true, []byte(gzipOf(text)+gzipOf(text)))
		f.Add(false, []byte(zstdOf(text)+zstdSized(text)+"x"))
	}
	f.Fuzz(func(t *testing.T, isGzip bool, src []byte) {
		const limit = 64 << 10
		m := NewMemory(1 << 20)
		c := codingZstd
		if isGzip {
			c = codingGzip
		}
		got, err := unpack(c, src, replyLimits{MaxBody: limit, Memory: m})
		defer func() {
			got.release()
			if used := m.Used(); used != 0 {
				t.Errorf("%d bytes are still reserved", used)
			}
		}()
		if err == nil && len(got.b) > limit {
			t.Errorf("%d bytes are over the limit", len(got.b))
		}
		if errors.Is(err, ErrOverloaded) {
			t.Errorf("%d bytes took too much memory", len(src))
		}
		if !isGzip || err != nil {
			return
		}
		zr, err := stdgzip.NewReader(bytes.NewReader(src))
		if err != nil {
			t.Fatal(err)
		}
		want, err := io.ReadAll(zr)
		if err != nil || !bytes.Equal(got.b, want) {
			t.Errorf("got %d bytes, the standard library %d and the error %v", len(got.b), len(want), err)
		}
	})
}
