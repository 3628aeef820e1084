package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"runtime"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// A coding is a content coding of RFC 9110, section 8.4.1.
type coding int

const (
	codingIdentity coding = iota
	codingGzip
	codingZstd
)

// contentCoding returns the coding of a body with these headers. Upstreams are
// asked for gzip and zstd, so any other coding is an error, and so are several.
func contentCoding(h http.Header) (coding, error) {
	found := codingIdentity
	for _, line := range h["Content-Encoding"] {
		for name := range strings.SplitSeq(line, ",") {
			var c coding
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "", "identity":
				continue
			case "gzip", "x-gzip":
				c = codingGzip
			case "zstd":
				c = codingZstd
			default:
				return codingIdentity, fmt.Errorf("unknown content coding %q", strings.TrimSpace(name))
			}
			if found != codingIdentity {
				return codingIdentity, errors.New("several content codings")
			}
			found = c
		}
	}
	return found, nil
}

// unpack returns what src, packed with c, holds. The error is [errTooLarge] when
// that is more than limits.MaxBody, and wraps [ErrOverloaded] when there is no
// memory for it.
func unpack(c coding, src []byte, limits replyLimits) (*buffer, error) {
	size := min(int64(len(src))*unpackedGuess, limits.MaxBody)
	if said, ok := unpackedSize(c, src); ok {
		size = said
	}
	if size > limits.MaxBody {
		return nil, errTooLarge
	}
	// With one byte to spare the end is found without growing.
	out, err := acquireBuffer(limits.Memory, size+1)
	if err != nil {
		return nil, err
	}
	if err := unpackInto(out, c, src, limits.MaxBody); err != nil {
		out.release()
		return nil, err
	}
	return out, nil
}

// unpackInto appends what src holds to out, as [buffer.fill] does.
func unpackInto(out *buffer, c coding, src []byte, limit int64) error {
	switch {
	case len(src) == 0:
		return io.ErrUnexpectedEOF
	case c == codingGzip:
		return gunzip(out, src, limit)
	}
	return unzstd(out, src, limit)
}

var gzipReaders = sync.Pool{New: func() any { return new(gzip.Reader) }}

// gunzip unpacks one gzip member or several, RFC 1952, section 2.2. They are
// told apart here because the reader takes some headers that break off for the
// end of the stream.
func gunzip(out *buffer, src []byte, limit int64) error {
	zr := gzipReaders.Get().(*gzip.Reader)
	defer gzipReaders.Put(zr)
	rest := bytes.NewReader(src)
	for rest.Len() > 0 {
		if err := zr.Reset(rest); errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		} else if err != nil {
			return err
		}
		zr.Multistream(false)
		if err := out.fill(zr, limit); err != nil {
			return err
		}
	}
	return nil
}

// maxZstdWindow is the largest window of a content coding, RFC 9659.
const maxZstdWindow = 8 << 20

// zstdDecoders work in the goroutine that reads from them. There are no more at
// work than processors, for as much as each needs the memory of a window, and
// nothing but a processor.
var (
	zstdDecoders = sync.Pool{New: func() any {
		d, err := zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderMaxWindow(maxZstdWindow),
			zstd.WithDecodeBuffersBelow(0))
		if err != nil {
			panic(err) // the options are constants
		}
		return d
	}}
	zstdSlots = make(chan struct{}, runtime.GOMAXPROCS(0))
)

// unzstd unpacks the frames of RFC 8878.
func unzstd(out *buffer, src []byte, limit int64) error {
	zstdSlots <- struct{}{}
	defer func() { <-zstdSlots }()
	d := zstdDecoders.Get().(*zstd.Decoder)
	defer zstdDecoders.Put(d)
	if err := d.Reset(bytes.NewReader(src)); err != nil {
		return err
	}
	return out.fill(d, limit)
}

const (
	// unpackedGuess is how much larger than packed a body is taken to be that
	// does not say it. JSON of numbers is about twice, of texts four times as
	// large.
	unpackedGuess = 4
	// maxDeflateRatio is how many bytes one byte of a deflate stream can stand
	// for at most.
	maxDeflateRatio = 1032
)

// unpackedSize returns how large src says that its content is at least: in the
// last four bytes of gzip (modulo 2^32), in the first frame of zstd.
func unpackedSize(c coding, src []byte) (size int64, ok bool) {
	if c == codingGzip {
		if len(src) < 4 {
			return 0, false
		}
		said := int64(binary.LittleEndian.Uint32(src[len(src)-4:]))
		return min(said, int64(len(src))*maxDeflateRatio), true
	}
	var h zstd.Header
	if err := h.Decode(src); err != nil || !h.HasFCS {
		return 0, false
	}
	return int64(min(h.FrameContentSize, math.MaxInt64)), true
}
