package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
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
			switch name = strings.ToLower(strings.TrimSpace(name)); name {
			case "", "identity":
				continue
			case "gzip", "x-gzip":
				c = codingGzip
			case "zstd":
				c = codingZstd
			default:
				return codingIdentity, fmt.Errorf("unknown content coding %.40q", name)
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
	if len(src) == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	if c == codingGzip {
		return gunzip(src, limits)
	}
	return unpackZstd(src, limits)
}

var gzipReaders = sync.Pool{New: func() any { return new(gzip.Reader) }}

// maxDeflateRatio is how many bytes one byte of a deflate stream can stand for
// at most.
const maxDeflateRatio = 1032

// gunzip unpacks one gzip member or several, RFC 1952, section 2.2.
func gunzip(src []byte, limits replyLimits) (*buffer, error) {
	// The last four bytes are the size of the last member, modulo 2^32.
	size := int64(0)
	if len(src) > 4 {
		size = int64(binary.LittleEndian.Uint32(src[len(src)-4:]))
	}
	size = min(size, int64(len(src))*maxDeflateRatio, limits.MaxBody)
	// With one byte to spare, the end is found without growing.
	out, err := acquireBuffer(limits.Memory, size+1)
	if err != nil {
		return nil, err
	}
	if err := gunzipMembers(out, src, limits.MaxBody); err != nil {
		out.release()
		return nil, err
	}
	return out, nil
}

// gunzipMembers appends the members to out. They are told apart here because
// the reader takes some headers that break off for the end of the stream.
func gunzipMembers(out *buffer, src []byte, limit int64) error {
	zr := gzipReaders.Get().(*gzip.Reader)
	defer gzipReaders.Put(zr)
	rest := bytes.NewReader(src)
	for rest.Len() > 0 {
		if err := zr.Reset(rest); err == io.EOF {
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

// zstdDecoders hold decoders that decode one document at a time, into memory
// that they are given: they go no further than its capacity, and the window,
// however large, is that memory.
var zstdDecoders = sync.Pool{New: func() any {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err) // the options are constants
	}
	return d
}}

// zstdGuess is how much larger than packed a document of unknown size is taken
// to be. JSON of numbers is about twice, of texts four times as large.
const zstdGuess = 4

// unpackZstd unpacks the frames of RFC 8878.
func unpackZstd(src []byte, limits replyLimits) (*buffer, error) {
	d := zstdDecoders.Get().(*zstd.Decoder)
	defer zstdDecoders.Put(d)
	size := int64(len(src)) * zstdGuess
	if declared, ok := zstdSize(src); ok {
		if declared > uint64(limits.MaxBody) {
			return nil, errTooLarge
		}
		size = int64(declared)
	}
	for {
		size = min(size, limits.MaxBody)
		out, err := acquireBuffer(limits.Memory, size)
		if err != nil {
			return nil, err
		}
		room := min(int64(cap(out.b)), limits.MaxBody)
		content, err := d.DecodeAll(src, out.b[:0:room])
		if err == nil {
			// The content is in this memory already unless the decoder once
			// needed some of its own; to copy it onto itself costs nothing.
			out.b = out.b[:len(content)]
			copy(out.b, content)
			return out, nil
		}
		out.release()
		if !errors.Is(err, zstd.ErrDecoderSizeExceeded) {
			return nil, err
		}
		if room == limits.MaxBody {
			return nil, errTooLarge
		}
		size = room * zstdGuess
	}
}

// zstdSize returns the size that the first frame declares.
func zstdSize(src []byte) (uint64, bool) {
	var h zstd.Header
	if err := h.Decode(src); err != nil || !h.HasFCS {
		return 0, false
	}
	return h.FrameContentSize, true
}
