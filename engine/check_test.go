package engine

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
)

// cannedUpstream answers every request that holds one of its keys with the
// reply of that key.
type cannedUpstream map[string]string

func (u cannedUpstream) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	for key, reply := range u {
		if bytes.Contains(body, []byte(key)) {
			return &http.Response{
				StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
				Body: io.NopCloser(strings.NewReader(reply)), ContentLength: int64(len(reply)), Request: req,
			}, nil
		}
	}
	return nil, errors.New("no reply for this request")
}

// answered sends a request for embeddings to an upstream, every batch once.
func answered(t *testing.T, upstream http.RoundTripper, body string, settings Settings) (string, error) {
	t.Helper()
	settings.MaxRetries = noRetries.MaxRetries
	memory := NewMemory(1 << 30)
	to := soleUpstream(upstream)
	answer, err := New(Options{Memory: memory, NoSplit: []string{"listwise"}}).Do(context.Background(), to,
		&Request{Path: "/v1/embeddings", Body: []byte(body), Settings: settings})
	var out bytes.Buffer
	if err == nil {
		if _, err := answer.WriteTo(&out); err != nil {
			t.Fatal(err)
		}
		answer.Close()
	}
	if used := memory.Used(); used != 0 {
		t.Errorf("%d bytes of memory are still reserved", used)
	}
	return out.String(), err
}

// TestWrongRepliesAreErrors sends four items in two batches, of which the second
// gets a wrong reply.
func TestWrongRepliesAreErrors(t *testing.T) {
	t.Parallel()
	good := `{"data":[{"index":0,"embedding":[1,2]},{"index":1,"embedding":[3,4]}],"model":"m"}`
	base64Good := `{"data":[{"index":0,"embedding":"` + floats(1, 2) + `"},{"index":1,"embedding":"` + floats(3, 4) + `"}],"model":"m"}`
	entry := func(index, vector string) string { return `{"index":` + index + `,"embedding":` + vector + `}` }
	reply := func(entries ...string) string {
		return `{"data":[` + strings.Join(entries, ",") + `],"model":"m"}`
	}
	tests := map[string]struct{ first, second string }{
		"one result is missing":                   {good, reply(entry(`0`, `[1,2]`))},
		"one result too many":                     {good, reply(entry(`0`, `[1,2]`), entry(`1`, `[1,2]`), entry(`2`, `[1,2]`))},
		"no results at all":                       {good, reply()},
		"an index stands twice":                   {good, reply(entry(`1`, `[1,2]`), entry(`1`, `[1,2]`))},
		"an index is out of range":                {good, reply(entry(`0`, `[1,2]`), entry(`2`, `[1,2]`))},
		"an index counts over all batches":        {good, reply(entry(`2`, `[1,2]`), entry(`3`, `[1,2]`))},
		"an index is negative":                    {good, reply(entry(`-1`, `[1,2]`), entry(`1`, `[1,2]`))},
		"an index is a float":                     {good, reply(entry(`0`, `[1,2]`), entry(`1.0`, `[1,2]`))},
		"an index is a string":                    {good, reply(entry(`0`, `[1,2]`), entry(`"1"`, `[1,2]`))},
		"an index is null":                        {good, reply(entry(`0`, `[1,2]`), entry(`null`, `[1,2]`))},
		"an index is huge":                        {good, reply(entry(`0`, `[1,2]`), entry(`18446744073709551617`, `[1,2]`))},
		"an index is missing":                     {good, reply(entry(`0`, `[1,2]`), `{"embedding":[1,2]}`)},
		"all indexes are missing":                 {good, reply(`{"embedding":[1,2]}`, `{"embedding":[1,2]}`)},
		"the member index stands twice":           {good, reply(`{"index":0,"index":0,"embedding":[1,2]}`, entry(`1`, `[1,2]`))},
		"a vector is shorter":                     {good, reply(entry(`0`, `[1,2]`), entry(`1`, `[1]`))},
		"all vectors are shorter":                 {good, reply(entry(`0`, `[1]`), entry(`1`, `[1]`))},
		"a vector is longer":                      {good, reply(entry(`0`, `[1,2]`), entry(`1`, `[1,2,3]`))},
		"a vector is empty":                       {good, reply(entry(`0`, `[1,2]`), entry(`1`, `[]`))},
		"a vector is missing":                     {good, reply(entry(`0`, `[1,2]`), `{"index":1}`)},
		"a vector is null":                        {good, reply(entry(`0`, `[1,2]`), entry(`1`, `null`))},
		"a vector is a number":                    {good, reply(entry(`0`, `[1,2]`), entry(`1`, `5`))},
		"a vector holds null, as NaN is printed":  {good, reply(entry(`0`, `[1,2]`), entry(`1`, `[1,null]`))},
		"a vector holds a string":                 {good, reply(entry(`0`, `[1,2]`), entry(`1`, `[1,"2"]`))},
		"a vector holds NaN":                      {good, reply(entry(`0`, `[1,2]`), entry(`1`, `[1,NaN]`))},
		"a vector holds Infinity":                 {good, reply(entry(`0`, `[1,2]`), entry(`1`, `[1,-Infinity]`))},
		"the member embedding stands twice":       {good, reply(`{"index":0,"embedding":[1,2],"embedding":[5,6]}`, entry(`1`, `[1,2]`))},
		"a flat vector among base64":              {base64Good, reply(entry(`0`, `[1,2]`), entry(`1`, `[1,2]`))},
		"base64 among flat vectors":               {good, base64Good},
		"base64 is shorter":                       {base64Good, reply(entry(`0`, `"`+floats(1, 2)+`"`), entry(`1`, `"`+floats(1)+`"`))},
		"base64 is damaged":                       {base64Good, reply(entry(`0`, `"`+floats(1, 2)+`"`), entry(`1`, `"!`+floats(1, 2)[1:]+`"`))},
		"base64 has lost its padding":             {base64Good, reply(entry(`0`, `"`+floats(1, 2)+`"`), entry(`1`, `"`+strings.TrimRight(floats(1, 2), "=")+`"`))},
		"base64 is empty":                         {base64Good, reply(entry(`0`, `"`+floats(1, 2)+`"`), entry(`1`, `""`))},
		"base64 holds NaN":                        {base64Good, reply(entry(`0`, `"`+floats(1, 2)+`"`), entry(`1`, `"`+floats(1, math.NaN())+`"`))},
		"base64 holds infinity":                   {base64Good, reply(entry(`0`, `"`+floats(1, 2)+`"`), entry(`1`, `"`+floats(math.Inf(-1), 1)+`"`))},
		"nested vectors of several lengths":       {good, reply(entry(`0`, `[[1,2],[3]]`), entry(`1`, `[[1,2]]`))},
		"another model":                           {good, strings.Replace(good, `"m"`, `"other"`, 1)},
		"no model where others have one":          {good, strings.Replace(good, `,"model":"m"`, ``, 1)},
		"a result is no object":                   {good, reply(entry(`0`, `[1,2]`), `[1,2]`)},
		"a result is null":                        {good, reply(entry(`0`, `[1,2]`), `null`)},
		"the list stands twice":                   {good, `{"data":[],"data":[{"index":0,"embedding":[1,2]},{"index":1,"embedding":[1,2]}],"model":"m"}`},
		"the list is no list":                     {good, `{"data":{"0":[1,2]},"model":"m"}`},
		"the list is null":                        {good, `{"data":null,"model":"m"}`},
		"an error with status 200":                {good, `{"error":{"message":"no GPU","type":"backend"}}`},
		"an array instead of an object":           {good, `[[1,2],[3,4]]`},
		"HTML":                                    {good, `<html><body>502 Bad Gateway</body></html>`},
		"nothing":                                 {good, ``},
		"a text":                                  {good, `"ok"`},
		"JSON that ends early":                    {good, good[:len(good)-3]},
		"something behind the JSON":               {good, good + `{}`},
		"invalid UTF-8":                           {good, strings.Replace(good, `"m"`, "\"m\xff\"", 1)},
		"a usage that cannot be added up":         {good, strings.Replace(good, `"model"`, `"usage":{"t":1e999999999},"model"`, 1)},
		"a number with a leading zero":            {good, reply(entry(`0`, `[1,2]`), entry(`1`, `[1,02]`))},
		"a missing comma value within the vector": {good, reply(entry(`0`, `[1,2]`), entry(`1`, `[1,,2]`))},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upstream := cannedUpstream{`"a"`: test.first, `"c"`: test.second}
			got, err := answered(t, upstream, `{"input":["a","b","c","d"]}`, Settings{BatchSize: 2, MaxConcurrentRequests: 1})
			var fault *ReplyError
			if !errors.As(err, &fault) || got != "" {
				t.Errorf("got %q, %v, want a ReplyError and no data", got, err)
			}
		})
	}
}

func TestOneBatchOfAListIsChecked(t *testing.T) {
	t.Parallel()
	got, err := answered(t, cannedUpstream{`"`: `{"data":[{"index":0,"embedding":[1,2]}]}`}, `{"input":["a","b"]}`, Settings{})
	var fault *ReplyError
	if !errors.As(err, &fault) || got != "" {
		t.Errorf("got %q, %v, want a ReplyError and no data", got, err)
	}
}

// TestOneBatchIsCheckedAsWell sends requests that are not split.
func TestOneBatchIsCheckedAsWell(t *testing.T) {
	t.Parallel()
	one := `{"data":[{"index":0,"embedding":[1,2]}]}`
	two := `{"data":[{"index":0,"embedding":[1,2]},{"index":1,"embedding":[1,2]}]}`
	tests := map[string]struct{ body, reply string }{
		"two results for a string":               {`{"input":"a"}`, two},
		"two results for a list of token ids":    {`{"input":[1,2]}`, two},
		"two results for chat messages":          {`{"messages":[{"role":"user","content":"a"},{"role":"user","content":"b"}]}`, two},
		"one result for two token ids":           {`{"input":[[1],[2]],"late_chunking":true}`, one},
		"one result for late chunking of two":    {`{"input":["a","b"],"late_chunking":true}`, one},
		"one result for two of a listwise model": {`{"input":["a","b"],"model":"listwise"}`, one},
		"the only index is not 0":                {`{"input":"a"}`, `{"data":[{"index":1,"embedding":[1,2]}]}`},
		"one result for two in a foreign format": {`{"input":["a","b"],"encoding_format":"int8"}`, one},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := answered(t, cannedUpstream{`"`: test.reply}, test.body, Settings{BatchSize: 1})
			var fault *ReplyError
			if !errors.As(err, &fault) || got != "" {
				t.Errorf("got %q, %v, want a ReplyError and no data", got, err)
			}
		})
	}
}

func TestGoodRepliesAreMerged(t *testing.T) {
	t.Parallel()
	list := func(entries ...string) string { return `{"data":[` + strings.Join(entries, ",") + `],"model":"m"}` }
	tests := map[string]struct {
		body          string
		first, second string
		want          string // the data of the answer
	}{
		"in another order": {
			`{"input":["a","b","c","d"]}`,
			list(`{"index":1,"embedding":[2]}`, `{"index":0,"embedding":[1]}`), list(`{"embedding":[4.0],"index" : 1 }`, `{"index":0,"embedding":[3]}`),
			`[{"index":0,"embedding":[1]},{"index":1,"embedding":[2]},{"index":2,"embedding":[3]},{"embedding":[4.0],"index":3}]`,
		},
		"base64": {
			`{"input":["a","b","c","d"],"encoding_format":"base64"}`,
			list(`{"index":0,"embedding":"`+floats(1)+`"}`, `{"index":1,"embedding":"`+floats(2)+`"}`),
			list(`{"index":0,"embedding":"`+floats(3)+`"}`, `{"index":1,"embedding":"`+floats(4)+`"}`),
			`[{"index":0,"embedding":"` + floats(1) + `"},{"index":1,"embedding":"` + floats(2) + `"},{"index":2,"embedding":"` +
				floats(3) + `"},{"index":3,"embedding":"` + floats(4) + `"}]`,
		},
		"base64 of 16-bit floats": {
			`{"input":["a","b","c","d"],"encoding_format":"base64","embed_dtype":"float16"}`,
			list(`{"index":0,"embedding":"AH4="}`, `{"index":1,"embedding":"AAA="}`), list(`{"index":0,"embedding":"AAA="}`, `{"index":1,"embedding":"AAA="}`),
			`[{"index":0,"embedding":"AH4="},{"index":1,"embedding":"AAA="},{"index":2,"embedding":"AAA="},{"index":3,"embedding":"AAA="}]`,
		},
		"nested vectors of several numbers of rows": {
			`{"input":["a","b","c","d"]}`,
			list(`{"index":0,"embedding":[[1,2]]}`, `{"index":1,"embedding":[[1,2],[3,4]]}`), list(`{"index":0,"embedding":[[5,6]]}`, `{"index":1,"embedding":[[7,8]]}`),
			`[{"index":0,"embedding":[[1,2]]},{"index":1,"embedding":[[1,2],[3,4]]},{"index":2,"embedding":[[5,6]]},{"index":3,"embedding":[[7,8]]}]`,
		},
		"sparse vectors": {
			`{"input":["a","b","c","d"]}`,
			list(`{"index":0,"embedding":[{"index":5,"value":1}]}`, `{"index":1,"embedding":[{"index":1,"value":1},{"index":2,"value":1}]}`),
			list(`{"index":0,"embedding":[{"index":5,"value":1}]}`, `{"index":1,"embedding":[{"index":5,"value":1}]}`),
			`[{"index":0,"embedding":[{"index":5,"value":1}]},{"index":1,"embedding":[{"index":1,"value":1},{"index":2,"value":1}]},` +
				`{"index":2,"embedding":[{"index":5,"value":1}]},{"index":3,"embedding":[{"index":5,"value":1}]}]`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := answered(t, cannedUpstream{`"a"`: test.first, `"c"`: test.second}, test.body, Settings{BatchSize: 2})
			if err != nil {
				t.Fatal(err)
			}
			if data := decodeObject(t, []byte(got))["data"]; compact(t, data) != compact(t, []byte(test.want)) {
				t.Errorf("got  %s\nwant %s", data, test.want)
			}
		})
	}
}

func compact(t *testing.T, doc []byte) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, doc); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// floats encodes a vector the way that encoding_format base64 does.
func floats(values ...float64) string {
	var raw []byte
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(float32(v)))
	}
	return base64.StdEncoding.EncodeToString(raw)
}
