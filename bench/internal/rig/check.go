package rig

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

// dims is the length of the vectors.
var dims = enginetest.New().Dims

// WrongAnswerError is an answer with status 200 that is not what it must be.
type WrongAnswerError struct{ Reason string }

func (e *WrongAnswerError) Error() string { return "wrong answer: " + e.Reason }

func wrong(format string, args ...any) error {
	return &WrongAnswerError{Reason: fmt.Sprintf(format, args...)}
}

// Digits says how closely vectors are compared.
type Digits int

const (
	// Exact wants the very digits that the model server sent.
	Exact Digits = iota
	// SameNumbers wants the same 64-bit floats, for replies that were not sent as
	// text.
	SameNumbers
)

// CheckEmbeddings checks the body of an answer with status 200 against the texts
// that were sent: the vector and the index of every text, and the sum of the
// tokens. Its errors are [WrongAnswerError]s.
func CheckEmbeddings(body []byte, items []string, digits Digits) error {
	var answer struct {
		Data []struct {
			Index     int             `json:"index"`
			Embedding json.RawMessage `json:"embedding"`
		} `json:"data"`
		Usage struct {
			TotalTokens int `json:"total_tokens"`
		} `json:"usage"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return wrong("it cannot be read: %v", err)
	}
	if len(answer.Data) != len(items) {
		return wrong("%d vectors for %d texts", len(answer.Data), len(items))
	}
	tokens := 0
	for i, item := range items {
		entry := answer.Data[i]
		if entry.Index != i {
			return wrong("the entry at position %d has the index %d", i, entry.Index)
		}
		if want := enginetest.Vector(item, dims); !sameVector(string(entry.Embedding), want, digits) {
			return wrong("the vector of text %d is %.200s instead of %s", i, entry.Embedding, want)
		}
		tokens += enginetest.Tokens(item)
	}
	if answer.Usage.TotalTokens != tokens {
		return wrong("%d tokens instead of %d", answer.Usage.TotalTokens, tokens)
	}
	return nil
}

// sameVector compares two vectors, which are raw JSON.
func sameVector(got, want string, digits Digits) bool {
	if got == want || digits == Exact {
		return got == want
	}
	var gotNumbers, wantNumbers []json.Number
	if json.Unmarshal([]byte(got), &gotNumbers) != nil || json.Unmarshal([]byte(want), &wantNumbers) != nil {
		return false
	}
	return slices.EqualFunc(gotNumbers, wantNumbers, func(a, b json.Number) bool {
		x, errX := strconv.ParseFloat(a.String(), 64)
		y, errY := strconv.ParseFloat(b.String(), 64)
		return errX == nil && errY == nil && x == y
	})
}

// A Failure is what an answer says that is an error.
type Failure struct {
	Error          string `json:"error"`
	Path           string `json:"path"`
	Method         string `json:"method"`
	RequestID      string `json:"customer_request_id"`
	UpstreamStatus int    `json:"upstream_status"`
}

// CheckFailure reads an answer that is an error and checks what all of them have
// in common: JSON, the message, path and method, the id of the request where it
// is known.
func CheckFailure(a *Answer, id string) (Failure, error) {
	var f Failure
	media, _, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return f, fmt.Errorf("the error %d is no JSON but %q", a.Status, a.Header.Get("Content-Type"))
	}
	if err := json.Unmarshal(a.Body, &f); err != nil {
		return f, fmt.Errorf("the error %d cannot be read: %w", a.Status, err)
	}
	if f.Error == "" || f.Path != EmbeddingsPath || f.Method != "Post" || f.RequestID != id {
		return f, fmt.Errorf("the error %d lacks a member: %.300s", a.Status, a.Body)
	}
	if a.Status == http.StatusServiceUnavailable && a.Header.Get("Retry-After") == "" {
		return f, fmt.Errorf("the error %d has no Retry-After", a.Status)
	}
	return f, nil
}
