package engine

import (
	"io"
	"net/http"
	"time"
)

// An Answer is the merged answer to one request. It is for one goroutine, and
// must be closed once it is written.
type Answer struct {
	// ContentType is the media type of the answer.
	ContentType string
	// Header holds further headers for the client; nil for none.
	Header http.Header
	// Took is the time from the start of the call until everything was merged.
	Took time.Duration
	// Batches say how each batch went, in the order of the input.
	Batches []BatchInfo

	pieces  [][]byte
	size    int64
	results []result
	release []func()
}

// BatchInfo says how one batch went.
type BatchInfo struct {
	// Took is the time from the first attempt to the checked reply.
	Took time.Duration
	// Header holds the end-to-end headers of the reply, without cookies.
	Header http.Header
}

// newAnswer returns an answer without content that owns the results.
func newAnswer(c *Call, results []result) *Answer {
	a := &Answer{
		ContentType: "application/json",
		Batches:     make([]BatchInfo, len(results)),
		pieces:      make([][]byte, 0, 2*len(results)+1),
		results:     results,
	}
	for i := range results {
		a.Batches[i] = BatchInfo{Took: results[i].took, Header: results[i].header}
	}
	return a
}

// foreign makes a reply that is passed on as it is the content. The header of
// vLLM says how its octets are to be read.
func (a *Answer) foreign(r *result) {
	a.ContentType = r.header.Get("Content-Type")
	if metadata := r.header.Values("Metadata"); len(metadata) > 0 {
		a.Header = http.Header{"Metadata": metadata}
	}
	a.append(r.foreign)
}

// append adds a piece to the content, without copying it.
func (a *Answer) append(piece []byte) {
	a.pieces = append(a.pieces, piece)
	a.size += int64(len(piece))
}

// Size returns the length of the content in bytes.
func (a *Answer) Size() int64 { return a.size }

// WriteTo writes the content. It may be called more than once before Close.
func (a *Answer) WriteTo(w io.Writer) (written int64, err error) {
	for _, piece := range a.pieces {
		n, err := w.Write(piece)
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// Close gives back the memory that the answer holds.
func (a *Answer) Close() {
	releaseAll(a.results)
	for _, release := range a.release {
		release()
	}
	a.release, a.pieces = nil, nil
}
