package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"testing"
)

// FuzzReplyIsRightOrRefused gives the engine any two replies to two batches of
// two items each. What it accepts must be valid JSON with the four results in
// order, each one the upstream's own but for the index.
func FuzzReplyIsRightOrRefused(f *testing.F) {
	good := []byte(`{"data":[{"index":0,"embedding":[1,2]},{"index":1,"embedding":[3,4]}],"model":"m","usage":{"t":1}}`)
	f.Add(good, good)
	f.Add(good, []byte(` {"x":1e5,"data" :[ {"embedding":[5.0,-6],"index" : 1} , {"index":0,"embedding":[1,2]}],"model":"m" } `))
	f.Add(good, []byte(`{"data":[{"index":0,"embedding":"AAAAAA=="},{"index":1,"embedding":"AACAPw=="}]}`))
	f.Add([]byte(`{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":[null]}],"total_time":1,"proxy_metadata":{}}`), good)
	f.Fuzz(func(t *testing.T, first, second []byte) {
		upstream := cannedUpstream{`"a"`: string(first), `"c"`: string(second)}
		got, err := answered(t, upstream, `{"input":["a","b","c","d"]}`, Settings{BatchSize: 2, MaxConcurrentRequests: 1})
		if err != nil {
			var fault *ReplyError
			if !errors.As(err, &fault) || got != "" {
				t.Fatalf("got %q, %v", got, err)
			}
			return
		}
		entries := resultsOf(t, []byte(got))
		if len(entries) != 4 {
			t.Fatalf("%d results for 4 items: %s", len(entries), got)
		}
		for batch, reply := range [][]byte{first, second} {
			for _, entry := range resultsOf(t, reply) {
				var own int
				if err := json.Unmarshal(entry["index"], &own); err != nil {
					t.Fatal(err)
				}
				merged := entries[2*batch+own]
				entry["index"] = json.RawMessage(fmt.Sprint(2*batch + own))
				if len(entry) != len(merged) {
					t.Fatalf("a result has other members: %s, %s", entry, merged)
				}
				for name := range entry {
					if string(entry[name]) != string(merged[name]) {
						t.Fatalf("%s is %s, want %s", name, merged[name], entry[name])
					}
				}
			}
		}
	})
}

// resultsOf decodes the list of results of a reply.
func resultsOf(t *testing.T, doc []byte) []map[string]json.RawMessage {
	t.Helper()
	var members map[string]json.RawMessage
	if err := json.Unmarshal(doc, &members); err != nil {
		t.Fatalf("%v: %s", err, doc)
	}
	var entries []map[string]json.RawMessage
	if err := json.Unmarshal(members["data"], &entries); err != nil {
		t.Fatalf("%v: %s", err, doc)
	}
	return entries
}

// FuzzAddUpIsExact holds the sum of two numbers against rational arithmetic.
func FuzzAddUpIsExact(f *testing.F) {
	f.Add("1", "2")
	f.Add("-0.001", "1e3")
	f.Add("123456789012345678901234567890", "-5.0E-7")
	f.Fuzz(func(t *testing.T, a, b string) {
		got, err := sum(a, b)
		if err != nil {
			return
		}
		x, okX := new(big.Rat).SetString(a)
		y, okY := new(big.Rat).SetString(b)
		z, okZ := new(big.Rat).SetString(got)
		if !json.Valid([]byte(got)) {
			t.Fatalf("%s + %s is %s, which is not JSON", a, b, got)
		}
		if okX && okY && (!okZ || x.Add(x, y).Cmp(z) != 0) {
			t.Fatalf("%s + %s is not %s", a, b, got)
		}
	})
}
