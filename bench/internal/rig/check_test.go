package rig

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

// embeddings makes the body of an answer with these vectors and so many tokens.
func embeddings(tokens int, vectors ...string) string {
	entries := make([]string, len(vectors))
	for i, v := range vectors {
		entries[i] = fmt.Sprintf(`{"object":"embedding","index":%d,"embedding":%s}`, i, v)
	}
	return fmt.Sprintf(`{"object":"list","data":[%s],"usage":{"prompt_tokens":%d,"total_tokens":%d}}`,
		strings.Join(entries, ","), tokens, tokens)
}

func TestCheckEmbeddings(t *testing.T) {
	t.Parallel()
	a, b := enginetest.Vector("a", dims), enginetest.Vector("bb", dims)
	whole := embeddings(3, a, b)
	for name, test := range map[string]struct {
		body   string
		digits Digits
		wrong  string // a part of the error
	}{
		"the right answer":                {body: whole},
		"the vectors in another order":    {body: embeddings(3, b, a), wrong: "vector of text 0"},
		"one vector twice":                {body: embeddings(3, a, a), wrong: "vector of text 1"},
		"another digit at the end":        {body: embeddings(3, a, b[:len(b)-1]+"1]"), wrong: "vector of text 1"},
		"a vector that is too short":      {body: embeddings(3, a, enginetest.Vector("bb", dims-1)), wrong: "vector of text 1"},
		"a vector that is null":           {body: embeddings(3, "null", b), wrong: "vector of text 0"},
		"a vector too few":                {body: embeddings(3, a), wrong: "1 vectors for 2"},
		"a vector too many":               {body: embeddings(3, a, b, b), wrong: "3 vectors for 2"},
		"an index twice":                  {body: strings.Replace(whole, `"index":1`, `"index":0`, 1), wrong: "has the index 0"},
		"the tokens of one batch only":    {body: embeddings(1, a, b), wrong: "1 tokens instead of 3"},
		"an answer that was cut":          {body: whole[:len(whole)-9], wrong: "cannot be read"},
		"something behind the answer":     {body: whole + "}", wrong: "cannot be read"},
		"other digits of the same number": {body: embeddings(3, a, strings.Replace(b, "]", "0]", 1)), wrong: "vector of text 1"},
		"other digits where they may be":  {body: embeddings(3, printed(t, a), printed(t, b)), digits: SameNumbers},
		"another number where digits may differ": {
			body: embeddings(3, printed(t, a), printed(t, a)), digits: SameNumbers, wrong: "vector of text 1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := CheckEmbeddings([]byte(test.body), []string{"a", "bb"}, test.digits)
			if test.wrong == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if _, ok := errors.AsType[*WrongAnswerError](err); !ok || !strings.Contains(err.Error(), test.wrong) {
				t.Errorf("got %v, want it to say %q", err, test.wrong)
			}
		})
	}
}

// printed writes the first number of a vector in another way.
func printed(t *testing.T, vector string) string {
	t.Helper()
	other := strings.Replace(vector, "[0.", "[0.0", 1)
	other = strings.Replace(other, ",", "e1,", 1)
	if other == vector {
		t.Fatalf("%s begins in another way", vector)
	}
	return other
}

func TestCheckFailure(t *testing.T) {
	t.Parallel()
	const good = `{"error":"no","path":"/v1/embeddings","method":"Post","customer_request_id":"r1","upstream_status":500}`
	jsonType := http.Header{"Content-Type": {"application/json"}}
	for name, test := range map[string]struct {
		answer Answer
		ok     bool
	}{
		"an error":                 {Answer{Status: 502, Header: jsonType, Body: []byte(good)}, true},
		"text":                     {Answer{Status: 502, Header: http.Header{"Content-Type": {"text/plain"}}, Body: []byte(good)}, false},
		"no type":                  {Answer{Status: 502, Header: http.Header{}, Body: []byte(good)}, false},
		"an empty body":            {Answer{Status: 502, Header: jsonType}, false},
		"the id of another":        {Answer{Status: 502, Header: jsonType, Body: []byte(strings.Replace(good, "r1", "r2", 1))}, false},
		"no message":               {Answer{Status: 502, Header: jsonType, Body: []byte(strings.Replace(good, `"no"`, `""`, 1))}, false},
		"overload without a time":  {Answer{Status: 503, Header: jsonType, Body: []byte(good)}, false},
		"overload and when to try": {Answer{Status: 503, Header: http.Header{"Content-Type": {"application/json"}, "Retry-After": {"1"}}, Body: []byte(good)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failure, err := CheckFailure(&test.answer, "r1")
			if (err == nil) != test.ok {
				t.Errorf("got the error %v", err)
			}
			if test.ok && failure.UpstreamStatus != 500 {
				t.Errorf("got %+v", failure)
			}
		})
	}
}
