package demo

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// call is a request to a server.
type call struct {
	method, path, contentType, body string
}

// ask sends a request to a server and returns its answer.
func ask(server http.Handler, c call) *httptest.ResponseRecorder {
	request := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body))
	if c.contentType != "" {
		request.Header.Set("Content-Type", c.contentType)
	}
	recorder := httptest.NewRecorder()
	server.ServeHTTP(recorder, request)
	return recorder
}

func post(server http.Handler, path, body string) *httptest.ResponseRecorder {
	return ask(server, call{http.MethodPost, path, "application/json", body})
}

// list returns a JSON list of n equal items.
func list(n int, item string) string {
	return "[" + strings.TrimSuffix(strings.Repeat(item+",", n), ",") + "]"
}

// numbers returns the digits of a text's vector.
func numbers(text string, dims int) string {
	return string(appendVector(nil, Embed(text, dims)))
}

// idNumbers returns the digits of the vector of a list of token ids.
func idNumbers(dims int, ids ...uint32) string {
	s := newSums()
	s.addIDs(ids)
	return string(appendVector(nil, s.appendNormalized(nil, dims)))
}

// digits returns the digits of a score.
func digits(f float32) string {
	return string(appendFloat(nil, f))
}

func TestAnswersOfOpenAIsForm(t *testing.T) {
	t.Parallel()
	data := func(vectors ...string) string {
		var b strings.Builder
		for i, v := range vectors {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(`{"object":"embedding","embedding":` + v + `,"index":` + strconv.Itoa(i) + `}`)
		}
		return b.String()
	}
	answer := func(tokens string, vectors ...string) string {
		return `{"object":"list","data":[` + data(vectors...) + `],"model":"m","usage":{"prompt_tokens":` +
			tokens + `,"total_tokens":` + tokens + `}}`
	}
	tests := map[string]struct {
		body, want, characters, tokens string
	}{
		"one text": {
			`{"input":"Hello, world"}`,
			answer("5", numbers("Hello, world", 384)), "12", "5",
		},
		"digits that are written here": {
			`{"input":"Hello, world","dimensions":3}`,
			answer("5", "[-0.413774,-0.011822115,0.9103029]"), "12", "5",
		},
		"a list of texts": {
			`{"input":["one","zwei drei","…"],"dimensions":8}`,
			answer("10", numbers("one", 8), numbers("zwei drei", 8), numbers("…", 8)), "13", "10",
		},
		"a flat list of token ids, which is one item": {
			`{"input":[ 7, 8, 4294967295 ],"dimensions":4}`,
			answer("5", idNumbers(4, 7, 8, 4294967295)), "3", "5",
		},
		"a list of lists of token ids": {
			`{"input":[[7,8],[9]],"dimensions":4}`,
			answer("7", idNumbers(4, 7, 8), idNumbers(4, 9)), "3", "7",
		},
		"texts and token ids mixed": {
			`{"input":["one",[9]],"dimensions":4}`,
			answer("6", numbers("one", 4), idNumbers(4, 9)), "4", "6",
		},
		"base64": {
			`{"input":["one","two"],"dimensions":2,"encoding_format":"base64"}`,
			answer("6", string(appendBase64(nil, Embed("one", 2))), string(appendBase64(nil, Embed("two", 2)))), "6", "6",
		},
		"floats by name, absent dimensions, and fields that are ignored": {
			`{"model":"other","input":"one","encoding_format":"float","dimensions":null,"user":"u","x":{"y":[1]}}`,
			answer("3", numbers("one", 384)), "3", "3",
		},
	}
	server := NewServer(ServerOptions{Model: "m"})
	for name, test := range tests {
		for _, path := range []string{"/v1/embeddings", "/embeddings"} {
			response := post(server, path, test.body)
			if response.Code != http.StatusOK || response.Body.String() != test.want {
				t.Errorf("%s at %s: got %d %s, want %s", name, path, response.Code, response.Body, test.want)
			}
			h := response.Header()
			if got := h.Get("x-compute-characters"); got != test.characters {
				t.Errorf("%s: got %s characters, want %s", name, got, test.characters)
			}
			if got := h.Get("x-compute-tokens"); got != test.tokens {
				t.Errorf("%s: got %s tokens, want %s", name, got, test.tokens)
			}
		}
	}
}

func TestAnswersOfTheServersOwnForm(t *testing.T) {
	t.Parallel()
	score := func(text string, raw bool) string {
		return digits(pairScore(sumsOf("deep learning"), sumsOf(text), raw))
	}
	predictions := func(raw bool, texts ...string) string {
		s := newSums()
		for _, text := range texts {
			s.addText(text)
		}
		var parts []string
		for _, p := range classify(s, raw) {
			parts = append(parts, `{"score":`+digits(p.score)+`,"label":"`+p.label+`"}`)
		}
		return "[" + strings.Join(parts, ",") + "]"
	}
	tests := map[string]struct {
		path, body, want string
	}{
		"embed one text": {
			"/embed", `{"inputs":"one","dimensions":4}`, "[" + numbers("one", 4) + "]",
		},
		"embed a list with token ids": {
			"/embed", `{"inputs":["one",[1,2]],"dimensions":4,"truncate":true,"prompt_name":null}`,
			"[" + numbers("one", 4) + "," + idNumbers(4, 1, 2) + "]",
		},
		"embed without normalizing": {
			"/embed", `{"inputs":[7],"normalize":false,"dimensions":2}`,
			"[" + string(appendVector(nil, func() []float32 {
				s := newSums()
				s.addIDs([]uint32{7})
				return s.appendRaw(nil, 2)
			}())) + "]",
		},
		"rerank, the best first and ties in descending order of index": {
			"/rerank", `{"query":"deep learning","texts":["cheese","learning deep things","cheese"]}`,
			`[{"index":1,"score":` + score("learning deep things", false) + `},{"index":2,"score":` + score("cheese", false) +
				`},{"index":0,"score":` + score("cheese", false) + `}]`,
		},
		"rerank with raw scores and texts": {
			"/rerank", `{"query":"deep learning","texts":["a \"b\" ü"],"raw_scores":true,"return_text":true,"truncate":null}`,
			`[{"index":0,"text":"a \"b\" ü","score":` + score(`a "b" ü`, true) + `}]`,
		},
		"rerank an empty text, which is no empty pair": {
			"/rerank", `{"query":"deep learning","texts":[""]}`, `[{"index":0,"score":` + score("", false) + `}]`,
		},
		"predict a text": {
			"/predict", `{"inputs":"I like it"}`, predictions(false, "I like it"),
		},
		"predict a flat list of one text": {
			"/predict", `{"inputs":["I like it"]}`, predictions(false, "I like it"),
		},
		"predict a flat list of two texts, which are one pair": {
			"/predict", `{"inputs":["I like it","why?"],"raw_scores":true}`, predictions(true, "I like it", "why?"),
		},
		"predict a batch of one": {
			"/predict", `{"inputs":[["I like it"]]}`, "[" + predictions(false, "I like it") + "]",
		},
		"predict a batch of a text and a pair": {
			"/predict", `{"inputs":[["why?"],["I like it",""]]}`,
			"[" + predictions(false, "why?") + "," + predictions(false, "I like it", "") + "]",
		},
	}
	server := NewServer(ServerOptions{})
	for name, test := range tests {
		response := post(server, test.path, test.body)
		if response.Code != http.StatusOK || response.Body.String() != test.want {
			t.Errorf("%s: got %d %s, want %s", name, response.Code, response.Body, test.want)
		}
		if !json.Valid(response.Body.Bytes()) {
			t.Errorf("%s: the answer is no JSON", name)
		}
	}
}

func TestCostOfPairs(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		path, body, characters, tokens string
	}{
		"every text of a reranking with its query": {
			"/rerank", `{"query":"ab cd","texts":["ü","x y z"]}`, "16", "14",
		},
		"a text and a pair of a batch": {
			"/predict", `{"inputs":[["a b"],["c","d"]]}`, "5", "9",
		},
	}
	server := NewServer(ServerOptions{})
	for name, test := range tests {
		h := post(server, test.path, test.body).Header()
		if c, n := h.Get("x-compute-characters"), h.Get("x-compute-tokens"); c != test.characters || n != test.tokens {
			t.Errorf("%s: got %s characters and %s tokens, want %s and %s", name, c, n, test.characters, test.tokens)
		}
	}
}

func TestHeadersOfGoodAnswers(t *testing.T) {
	t.Parallel()
	response := post(NewServer(ServerOptions{}), "/embed", `{"inputs":"one"}`)
	for _, name := range []string{
		"x-compute-type", "x-compute-time", "x-compute-characters", "x-compute-tokens",
		"x-total-time", "x-tokenization-time", "x-queue-time", "x-inference-time",
	} {
		if response.Header().Get(name) == "" {
			t.Errorf("there is no %s", name)
		}
	}
	if got := response.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("the content type is %q", got)
	}
	if got := response.Header().Get("Content-Length"); got != strconv.Itoa(response.Body.Len()) {
		t.Errorf("the content length is %s of %d bytes", got, response.Body.Len())
	}
}

func TestInfoAndHealth(t *testing.T) {
	t.Parallel()
	server := NewServer(ServerOptions{Model: "m", MaxBatch: 8, MaxConcurrent: 64})
	want := `{"model_id":"m","model_sha":null,"model_dtype":"float32","served_model_name":"m",` +
		`"model_type":{"embedding":{"pooling":"mean"}},"max_concurrent_requests":64,"max_input_length":2000000,` +
		`"max_batch_tokens":2000000,"max_batch_requests":null,"max_client_batch_size":8,"auto_truncate":true,` +
		`"tokenization_workers":` + strconv.Itoa(runtime.GOMAXPROCS(0)) + `,"version":"1.9.3","sha":null,"docker_label":null}`
	if got := ask(server, call{method: http.MethodGet, path: "/info"}); got.Code != http.StatusOK || got.Body.String() != want {
		t.Errorf("got %d %s, want %s", got.Code, got.Body, want)
	}
	if got := ask(server, call{method: http.MethodGet, path: "/health"}); got.Code != http.StatusOK || got.Body.Len() > 0 {
		t.Errorf("/health answered %d %s", got.Code, got.Body)
	}
}

// BenchmarkServer answers the requests of a demonstration of 5000 texts, one
// after the other; the time of one is the CPU time that the model server needs.
func BenchmarkServer(b *testing.B) {
	texts := corpus(5000)
	var bodies []string
	for first := 0; first < len(texts); first += directBatch {
		body, err := requestBody(texts[first:min(first+directBatch, len(texts))])
		if err != nil {
			b.Fatal(err)
		}
		bodies = append(bodies, string(body))
	}
	server := NewServer(ServerOptions{})
	b.ReportAllocs()
	for b.Loop() {
		for _, body := range bodies {
			if response := post(server, "/v1/embeddings", body); response.Code != http.StatusOK {
				b.Fatal(response.Body)
			}
		}
	}
}
