package demo

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// MismatchError says that not every vector that came through the proxy was the
// one that the model server gave.
type MismatchError struct {
	Same  int // vectors that were the same
	Total int // vectors that were asked for
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("%d of %d vectors that came through the proxy are not the model server's", e.Total-e.Same, e.Total)
}

// entry is one vector of an answer, with its digits as they were sent.
type entry struct {
	Index     *int            `json:"index"`
	Embedding json.RawMessage `json:"embedding"`
}

// parseAnswer returns the vectors of an answer, which must be as many as texts
// were sent.
func parseAnswer(body []byte, texts int) ([]entry, error) {
	var answer struct {
		Data []entry `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	if len(answer.Data) != texts {
		return nil, fmt.Errorf("it holds %d vectors for %d texts", len(answer.Data), texts)
	}
	return answer.Data, nil
}

// parseBatches returns the vectors of answers to batches, each but the last of
// size texts, with the index that they would have in one answer to all texts.
func parseBatches(answers [][]byte, size, texts int) ([]entry, error) {
	all := make([]entry, 0, texts)
	for _, answer := range answers {
		entries, err := parseAnswer(answer, min(size, texts-len(all)))
		if err != nil {
			return nil, err
		}
		first := len(all)
		for _, e := range entries {
			if e.Index != nil {
				*e.Index += first
			}
			all = append(all, e)
		}
	}
	return all, nil
}

// countSame counts the places at which both lists have the vector of that index
// and its bytes are the same.
func countSame(direct, proxied []entry) int {
	same := 0
	for i := range direct {
		d, p := direct[i], proxied[i]
		if d.Index != nil && *d.Index == i && p.Index != nil && *p.Index == i &&
			len(d.Embedding) > 0 && bytes.Equal(d.Embedding, p.Embedding) {
			same++
		}
	}
	return same
}
