package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// TestSplitThenMergeIsTheWhole sends random documents through the engine under
// random limits and compares the answer with what the same upstream says to the
// whole request: every entry byte for byte, every other member kept, usage added
// up.
func TestSplitThenMergeIsTheWhole(t *testing.T) {
	t.Parallel()
	for seed := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, 7))
		body := randomRequest(rng, 1+rng.IntN(80))
		settings := Settings{
			BatchSize:             1 + rng.IntN(20),
			MaxCharsPerRequest:    1 + rng.IntN(120),
			MaxConcurrentRequests: 1 + rng.IntN(8),
		}
		upstream := &wholeUpstream{seed: seed}
		whole := upstream.reply(body, false)
		answer := runWhole(t, upstream, body, settings)
		if err := sameAnswer(whole, answer); err != nil {
			t.Fatalf("seed %d, %+v: %v\nrequest %s\nwhole   %s\nanswer  %s", seed, settings, err, body, whole, answer)
		}
	}
}

// runWhole sends a request through the engine.
func runWhole(t *testing.T, upstream http.RoundTripper, body []byte, settings Settings) []byte {
	t.Helper()
	memory := NewMemory(1 << 30)
	to := soleUpstream(upstream)
	answer, err := New(Options{Memory: memory}).Do(context.Background(), to,
		&Request{Path: "/v1/embeddings", Body: body, Settings: settings})
	if err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	var out bytes.Buffer
	if n, err := answer.WriteTo(&out); err != nil || n != answer.Size() {
		t.Fatalf("wrote %d of %d bytes: %v", n, answer.Size(), err)
	}
	answer.Close()
	if used := memory.Used(); used != 0 {
		t.Fatalf("%d bytes of memory are still reserved", used)
	}
	return out.Bytes()
}

// sameAnswer compares a merged answer with the upstream's to the whole request.
func sameAnswer(whole, answer []byte) error {
	if !json.Valid(answer) {
		return fmt.Errorf("the answer is not valid JSON")
	}
	var want, got map[string]json.RawMessage
	if err := json.Unmarshal(whole, &want); err != nil {
		return err
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		return err
	}
	for _, name := range []string{"proxy_metadata", "total_time", "individual_request_times"} {
		if got[name] == nil {
			return fmt.Errorf("the answer has no %s", name)
		}
		delete(got, name)
	}
	var wantData, gotData []json.RawMessage
	if err := json.Unmarshal(want["data"], &wantData); err != nil {
		return err
	}
	if err := json.Unmarshal(got["data"], &gotData); err != nil {
		return err
	}
	if !reflect.DeepEqual(wantData, gotData) {
		return fmt.Errorf("the entries differ")
	}
	delete(want, "data")
	delete(got, "data")
	for _, m := range []map[string]json.RawMessage{want, got} {
		var usage any
		if err := json.Unmarshal(m["usage"], &usage); err != nil {
			return err
		}
		canonical, err := json.Marshal(usage)
		if err != nil {
			return err
		}
		m["usage"] = canonical
	}
	if !reflect.DeepEqual(want, got) {
		return fmt.Errorf("the members around the entries differ")
	}
	return nil
}

// wholeUpstream is an upstream whose reply to an item depends on nothing but
// the item, so that its reply to a whole request is known. It shuffles the
// entries of its replies to batches.
type wholeUpstream struct{ seed uint64 }

func (u *wholeUpstream) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode:    http.StatusOK,
		Header:        http.Header{"Content-Type": {"application/json"}},
		Body:          io.NopCloser(bytes.NewReader(u.reply(body, true))),
		ContentLength: -1,
		Request:       req,
	}, nil
}

// reply makes the reply to a request.
func (u *wholeUpstream) reply(body []byte, shuffle bool) []byte {
	var request struct{ Input []json.RawMessage }
	if err := json.Unmarshal(body, &request); err != nil {
		panic(err)
	}
	entries := make([]string, len(request.Input))
	chars := 0
	for i, raw := range request.Input {
		// White space inside an item is not the item's.
		var item bytes.Buffer
		if err := json.Compact(&item, raw); err != nil {
			panic(err)
		}
		hash := fnv.New64a()
		_, _ = hash.Write(item.Bytes())
		entries[i] = randomEntry(rand.New(rand.NewPCG(hash.Sum64(), u.seed)), i)
		chars += item.Len()
	}
	if shuffle {
		rng := rand.New(rand.NewPCG(u.seed, uint64(len(body))))
		rng.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
	}
	n := len(entries)
	members := []string{
		`"object":"list"`, `"vendor":{"data":[1.0,{"index":7}],"x":"\u00e9"}`, `"model" : "m\/1"`,
		` "data": [ ` + strings.Join(entries, " ,\n") + ` ] `,
		fmt.Sprintf(`"usage":{"prompt_tokens":%d,"details":{"cached":%d,"none":null},"cost":%s,"unit":"token"}`,
			chars, n, strconv.FormatFloat(float64(n)/4, 'f', 2, 64)),
	}
	rng := rand.New(rand.NewPCG(u.seed, 3))
	rng.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	return []byte(" {" + strings.Join(members, ", ") + "}\n")
}

// randomEntry makes a result with odd digits, unknown fields and its members in
// any order.
func randomEntry(rng *rand.Rand, index int) string {
	const dimensions = 5
	digits := []string{"0", "-0", "0.10", "1e-7", "-1.50E+3", "0.30000001192092896", "123456789012345678901234567890", "5e-324"}
	vector := make([]string, dimensions)
	for i := range vector {
		vector[i] = digits[rng.IntN(len(digits))]
	}
	members := []string{
		`"object":"embedding"`,
		fmt.Sprintf(`"index" :%d`, index),
		`"embedding":[` + strings.Join(vector, ", ") + `]`,
		`"extra":{"index":99,"embedding":[true],"s":"\\\" , ]"}`,
	}
	rng.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	return `{` + strings.Join(members, ",") + `}`
}
