package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/basetenlabs/caddy-performance-proxy/engine/jsonspan"
)

func TestSplitIsGreedyAndInOrder(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		chars       []int
		size, limit int
		want        []itemRange
	}{
		"one item is one batch":                           {[]int{5}, 32, 100, []itemRange{{0, 1}}},
		"a batch ends when it has batch_size items":       {[]int{1, 1, 1, 1, 1}, 2, 100, []itemRange{{0, 2}, {2, 4}, {4, 5}}},
		"a batch may have as many characters as allowed":  {[]int{50, 50, 1}, 32, 100, []itemRange{{0, 2}, {2, 3}}},
		"one more item would pass the characters":         {[]int{60, 41, 1}, 32, 100, []itemRange{{0, 1}, {1, 3}}},
		"an item over the characters is alone":            {[]int{1, 101, 1}, 32, 100, []itemRange{{0, 1}, {1, 2}, {2, 3}}},
		"the first item may be over the characters":       {[]int{500, 1}, 32, 100, []itemRange{{0, 1}, {1, 2}}},
		"items without characters are counted only":       {[]int{0, 0, 0}, 2, 100, []itemRange{{0, 2}, {2, 3}}},
		"an item without characters follows one over it":  {[]int{500, 0}, 32, 100, []itemRange{{0, 1}, {1, 2}}},
		"both limits hold together":                       {[]int{10, 10, 90, 10}, 2, 100, []itemRange{{0, 2}, {2, 4}}},
		"a batch_size of one gives every item its own":    {[]int{1, 2, 3}, 1, 100, []itemRange{{0, 1}, {1, 2}, {2, 3}}},
		"a list of one batch_size exactly is one batch":   {[]int{1, 1}, 2, 100, []itemRange{{0, 2}}},
		"a batch_size over the number of items is no cut": {[]int{1, 1, 1}, 1024, 256_000, []itemRange{{0, 3}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			items := make([]jsonspan.Entry, len(test.chars))
			for i, n := range test.chars {
				items[i].Chars = n
			}
			if got := split(items, test.size, test.limit); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// FuzzSplitKeepsTheRequest holds for any valid request that its batches, put
// together, are the request, and that no batch is over a limit that it could
// have kept.
func FuzzSplitKeepsTheRequest(f *testing.F) {
	f.Add([]byte(`{"input":["a","b","c"],"model":"m"}`), uint8(2), uint16(50))
	f.Add([]byte(` { "x" : 1e5 , "input" : [ "a" , {"text":"é"} , [1,2] ] , "y":null } `), uint8(1), uint16(1))
	f.Add([]byte(`{"input":["\ud83d\ude00","日本語"],"model":"m","input_type":"query"}`), uint8(3), uint16(2))
	f.Fuzz(func(t *testing.T, body []byte, size uint8, chars uint16) {
		settings := Settings{BatchSize: int(size) + 1, MaxCharsPerRequest: int(chars) + 1}
		call, err := New(Options{}).Prepare(&Request{Path: "/v1/embeddings", Body: body, Settings: settings})
		if err != nil {
			return
		}
		defer call.Close()
		checkSplit(t, call, body, settings)
	})
}

func TestSplitKeepsTheRequest(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		body := randomRequest(rng, 1+rng.IntN(60))
		settings := Settings{BatchSize: 1 + rng.IntN(12), MaxCharsPerRequest: 1 + rng.IntN(80)}
		call, err := New(Options{}).Prepare(&Request{Path: "/v1/embeddings", Body: body, Settings: settings})
		if err != nil {
			t.Fatalf("preparing %s: %v", body, err)
		}
		checkSplit(t, call, body, settings)
		call.Close()
	}
}

// checkSplit compares the bodies of the batches with the request.
func checkSplit(t *testing.T, call *Call, body []byte, settings Settings) {
	t.Helper()
	whole := decodeObject(t, body)
	if call.asked.form != formList {
		if sent := decodeObject(t, readAll(t, call, 0)); call.Batches() != 1 || !reflect.DeepEqual(sent, whole) {
			t.Fatalf("a request that is not split was changed: %s", body)
		}
		return
	}
	var items []json.RawMessage
	previous := itemRange{}
	for i := range call.Batches() {
		sent := readAll(t, call, i)
		if int64(len(sent)) != call.plan.batch(i).size() {
			t.Fatalf("batch %d has %d bytes, not %d", i, len(sent), call.plan.batch(i).size())
		}
		batch := decodeObject(t, sent)
		var list []json.RawMessage
		if err := json.Unmarshal(batch["input"], &list); err != nil {
			t.Fatalf("batch %d: %v", i, err)
		}
		if len(list) > settings.BatchSize || len(list) == 0 {
			t.Fatalf("batch %d has %d items", i, len(list))
		}
		if n := countChars(t, list); n > settings.MaxCharsPerRequest && len(list) > 1 {
			t.Fatalf("batch %d has %d characters in %d items", i, n, len(list))
		}
		if i > 0 && previous.len() < settings.BatchSize &&
			countChars(t, items[previous.first:])+countChars(t, list[:1]) <= settings.MaxCharsPerRequest {
			t.Fatalf("batch %d could have held one more item", i-1)
		}
		previous = itemRange{len(items), len(items) + len(list)}
		items = append(items, list...)
		batch["input"] = whole["input"]
		if !reflect.DeepEqual(batch, whole) {
			t.Fatalf("batch %d changed a member: %s", i, sent)
		}
	}
	var want []json.RawMessage
	if err := json.Unmarshal(whole["input"], &want); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(items, want) {
		t.Fatalf("the batches hold %s, the request %s", items, want)
	}
}

// countChars counts the Unicode scalars in all string values.
func countChars(t *testing.T, items []json.RawMessage) int {
	t.Helper()
	n := 0
	for _, raw := range items {
		var v any
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatal(err)
		}
		n += charsOf(v)
	}
	return n
}

func charsOf(v any) int {
	n := 0
	switch v := v.(type) {
	case string:
		return utf8.RuneCountInString(v)
	case []any:
		for _, e := range v {
			n += charsOf(e)
		}
	case map[string]any:
		for _, e := range v {
			n += charsOf(e)
		}
	}
	return n
}

func decodeObject(t *testing.T, doc []byte) map[string]json.RawMessage {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal(doc, &m); err != nil {
		t.Fatalf("%v: %s", err, doc)
	}
	return m
}

func readAll(t *testing.T, call *Call, batch int) []byte {
	t.Helper()
	sent, err := io.ReadAll(call.plan.batch(batch).open())
	if err != nil {
		t.Fatal(err)
	}
	return sent
}

// randomRequest makes a request with items of all kinds and odd white space.
func randomRequest(rng *rand.Rand, n int) []byte {
	space := func() string { return []string{"", "", " ", "\n\t"}[rng.IntN(4)] }
	item := func() string {
		switch rng.IntN(6) {
		case 0:
			return `[101` + space() + `, 2023,102]`
		case 1:
			return `{"text":"an object","n":-1.50e+3}`
		case 2:
			return `"\u00e9\ud83d\ude00\n\"\\"`
		}
		return `"` + strings.Repeat("text é 日 ", rng.IntN(5)) + `"`
	}
	items := make([]string, n)
	for i := range items {
		items[i] = space() + item() + space()
	}
	return []byte(space() + `{` + space() + `"before":{"a":[1,2.50]},"input"` + space() + `:[` + strings.Join(items, ",") +
		`]` + space() + `,"dimensions":64,"input_type":"query","nested":{"input":["no"]}` + space() + `}` + space())
}

func TestBodyReaderReadsLikeAnyReader(t *testing.T) {
	t.Parallel()
	for _, parts := range []batchBody{
		{[]byte(`{"input":[`), []byte(`"a","b"`), []byte(`]}`)},
		{[]byte(`{"input":"a"}`)},
		{nil, []byte("x"), nil},
		{},
	} {
		want := bytes.Join(parts[:], nil)
		if err := iotest.TestReader(parts.open(), want); err != nil {
			t.Error(err)
		}
		got, err := io.ReadAll(iotest.OneByteReader(parts.open()))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("one byte at a time: got %q, %v", got, err)
		}
	}
}

func TestModelIsSetOverTheBodys(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ body, want string }{
		"in the place of the body's model": {
			`{"model":"old","input":["a","b"],"x":1}`, `{"model":"ne\"w","input":["a"],"x":1}`},
		"behind the items": {
			`{"input":["a","b"], "model" : "old" }`, `{"input":["a"], "model" : "ne\"w" }`},
		"in the place of null": {
			`{"input":["a","b"],"model":null}`, `{"input":["a"],"model":"ne\"w"}`},
		"where the body has none": {
			` { "input":["a","b"]}`, ` {"model":"ne\"w", "input":["a"]}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			call, err := New(Options{}).Prepare(&Request{
				Path: "/v1/embeddings", Body: []byte(test.body), Model: `ne"w`, Settings: Settings{BatchSize: 1},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer call.Close()
			if got := string(readAll(t, call, 0)); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestItemsAreBoundedByMemory(t *testing.T) {
	t.Parallel()
	memory := NewMemory(1 << 20)
	e := New(Options{Memory: memory})
	prepare := func() error {
		call, err := e.Prepare(&Request{Path: "/v1/embeddings", Body: []byte(`{"input":[` + strings.Repeat(`"",`, 5000) + `""]}`)})
		if err == nil {
			call.Close()
		}
		return err
	}
	if err := prepare(); err != nil {
		t.Errorf("five thousand items in 1 MiB: %v", err)
	}
	if !memory.Reserve(900 << 10) {
		t.Fatal("no memory to reserve")
	}
	if err := prepare(); !errors.Is(err, ErrOverloaded) {
		t.Errorf("five thousand items in what others left: %v, want ErrOverloaded", err)
	}
	memory.Release(900 << 10)
	body := []byte(`{"input":[` + strings.Repeat(`0,`, 50_000) + `0]}`)
	if _, err := e.Prepare(&Request{Path: "/v1/embeddings", Body: body}); !errors.As(err, new(*RequestError)) {
		t.Errorf("fifty thousand items in 1 MiB: %v, want a RequestError", err)
	}
	if used := memory.Used(); used != 0 {
		t.Errorf("%d bytes are still reserved", used)
	}
}
