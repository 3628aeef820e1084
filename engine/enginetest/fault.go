package enginetest

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
)

// A Fault changes the reply to a call.
type Fault func(c *Call, r *Reply)

// Status answers with a status and a text.
func Status(status int, text string) Fault {
	return func(_ *Call, r *Reply) {
		r.Status, r.Body = status, []byte(text)
		r.Header.Set("Content-Type", "text/plain; charset=utf-8")
	}
}

// JSON answers with a status and a JSON document.
func JSON(status int, doc string) Fault {
	return func(_ *Call, r *Reply) { r.Status, r.Body = status, []byte(doc) }
}

// HTML answers with a page, as a proxy in the way would, with status 200.
func HTML() Fault {
	return func(_ *Call, r *Reply) {
		r.Body = []byte("<!DOCTYPE html>\n<html><body><h1>Welcome</h1></body></html>\n")
		r.Header.Set("Content-Type", "text/html")
	}
}

// Empty answers with an empty body.
func Empty() Fault { return func(_ *Call, r *Reply) { r.Body = []byte{} } }

// Header sets a header of the reply.
func Header(name, value string) Fault {
	return func(_ *Call, r *Reply) { r.Header.Set(name, value) }
}

// Model answers as another model.
func Model(name string) Fault { return func(_ *Call, r *Reply) { r.Model = name } }

// Missing leaves the entry at a position out.
func Missing(at int) Fault {
	return func(_ *Call, r *Reply) {
		r.Entries = append(r.Entries[:at:at], r.Entries[at+1:]...)
	}
}

// Index gives the entry at a position another index, for duplicates and for
// indexes out of range.
func Index(at, index int) Fault {
	return func(_ *Call, r *Reply) { r.Entries[at].Index = index }
}

// Embedding gives the entry at a position another embedding: raw JSON, such as
// NaN or a vector that is too short.
func Embedding(at int, raw string) Fault {
	return func(_ *Call, r *Reply) { r.Entries[at].Embedding = raw }
}

// Shorter takes the last number off the vector at a position.
func Shorter(at int) Fault {
	return func(_ *Call, r *Reply) {
		vector := r.Entries[at].Embedding
		if comma := strings.LastIndexByte(vector, ','); comma >= 0 {
			r.Entries[at].Embedding = vector[:comma] + "]"
		}
	}
}

// Shuffled puts the entries out of order, in another way for each call.
func Shuffled() Fault {
	return func(c *Call, r *Reply) {
		rng := rand.New(rand.NewPCG(uint64(c.Number), 1))
		rng.Shuffle(len(r.Entries), func(i, j int) {
			r.Entries[i], r.Entries[j] = r.Entries[j], r.Entries[i]
		})
	}
}

// Hold holds the reply back until the channel is closed or received from.
func Hold(release <-chan struct{}) Fault {
	return func(_ *Call, r *Reply) { r.before = append(r.before, until(release)) }
}

// Delay holds the reply back for a time; it is meant for [testing/synctest].
func Delay(d time.Duration) Fault {
	return func(_ *Call, r *Reply) {
		r.before = append(r.before, func(ctx context.Context) {
			timer := time.NewTimer(d)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		})
	}
}

// StallAt sends n bytes of the body and holds the rest back until the channel is
// closed or received from.
func StallAt(n int, release <-chan struct{}) Fault {
	return func(_ *Call, r *Reply) { r.stall, r.stallAt = until(release), n }
}

// until returns a function that waits for release or for the end of the call.
func until(release <-chan struct{}) func(context.Context) {
	return func(ctx context.Context) {
		select {
		case <-release:
		case <-ctx.Done():
		}
	}
}

// LastFirst waits until n calls that it was given to have arrived, and then
// lets one after the other be answered, the last to arrive first. Further calls
// are not held.
func LastFirst(n int) Fault {
	var mu sync.Mutex
	var turns []chan struct{}
	return func(_ *Call, r *Reply) {
		mu.Lock()
		defer mu.Unlock()
		at := len(turns)
		if at == n {
			return
		}
		turns = append(turns, make(chan struct{}))
		r.before = append(r.before, until(turns[at]))
		if at > 0 {
			previous := turns[at-1]
			r.done = append(r.done, func() { close(previous) })
		}
		if at == n-1 {
			close(turns[at])
		}
	}
}

// Drop closes the connection without an answer.
func Drop() Fault { return func(_ *Call, r *Reply) { r.Drop = true } }

// CutAt breaks the body off after n bytes.
func CutAt(n int) Fault {
	return func(_ *Call, r *Reply) { r.Cut, r.CutAt = true, n }
}

// ContentLength declares a length that need not be the true one. When the body
// is longer, the client gets only the beginning of it; when it is shorter, the
// client sees it break off.
func ContentLength(n int64) Fault {
	return func(_ *Call, r *Reply) { r.ContentLength = n }
}

// Chunked declares no length, which with HTTP/1.1 is a chunked body.
func Chunked() Fault { return func(_ *Call, r *Reply) { r.Chunked = true } }

// Append puts something behind the body.
func Append(rest string) Fault {
	return func(_ *Call, r *Reply) {
		r.Render()
		r.Body = append(r.Body, rest...)
	}
}

// Gzip packs the body.
func Gzip() Fault { return packed("gzip", gzipped) }

// Zstd packs the body.
func Zstd() Fault { return packed("zstd", zstdPacked) }

// Bomb answers with size zeros, packed with gzip or zstd to a small part of
// that.
func Bomb(coding string, size int) Fault {
	pack := gzipped
	if coding == "zstd" {
		pack = zstdPacked
	}
	body := pack(make([]byte, size))
	return func(_ *Call, r *Reply) {
		r.Body = body
		r.Header.Set("Content-Encoding", coding)
	}
}

// Msgpack sends the JSON body as MessagePack, with its numbers as 64-bit floats
// or integers.
func Msgpack() Fault {
	return func(_ *Call, r *Reply) {
		r.Render()
		r.Body = MsgpackOf(r.Body)
		r.Header.Set("Content-Type", "application/msgpack")
	}
}

func packed(coding string, pack func([]byte) []byte) Fault {
	return func(_ *Call, r *Reply) {
		r.Render()
		r.Body = pack(r.Body)
		r.Header.Set("Content-Encoding", coding)
	}
}

var _ http.RoundTripper = (*Upstream)(nil)
