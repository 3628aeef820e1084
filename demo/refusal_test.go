package demo

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRefusalsAsJSON(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		path, body, want string
		status           int
	}{
		"33 texts of OpenAI's form": {
			"/v1/embeddings", `{"input":` + list(33, `"a"`) + `}`,
			`{"message":"batch size 33 > maximum allowed batch size 32","code":422,"type":"Validation"}`, 422,
		},
		"33 texts to embed": {
			"/embed", `{"inputs":` + list(33, `"a"`) + `}`,
			`{"error":"batch size 33 > maximum allowed batch size 32","error_type":"Validation"}`, 422,
		},
		"33 texts to rerank": {
			"/rerank", `{"query":"q","texts":` + list(33, `"a"`) + `}`,
			`{"error":"batch size 33 > maximum allowed batch size 32","error_type":"Validation"}`, 422,
		},
		"33 texts to classify": {
			"/predict", `{"inputs":` + list(33, `["a"]`) + `}`,
			`{"error":"batch size 33 > maximum allowed batch size 32","error_type":"Validation"}`, 422,
		},
		"an empty text": {
			"/embeddings", `{"input":["a",""]}`,
			`{"message":"Input validation error: ` + "`inputs`" + ` cannot be empty","code":400,"type":"Empty"}`, 400,
		},
		"an empty list": {
			"/embed", `{"inputs":[]}`,
			`{"error":"Input validation error: ` + "`inputs`" + ` cannot be empty","error_type":"Empty"}`, 400,
		},
		"an empty list of token ids": {
			"/embed", `{"inputs":[[1],[]]}`,
			`{"error":"Input validation error: ` + "`inputs`" + ` cannot be empty","error_type":"Empty"}`, 400,
		},
		"no texts to rerank": {
			"/rerank", `{"query":"q","texts":[]}`,
			`{"error":"` + "`texts`" + ` cannot be empty","error_type":"Empty"}`, 400,
		},
		"an empty query and text to rerank": {
			"/rerank", `{"query":"","texts":["a",""]}`,
			`{"error":"Input validation error: ` + "`inputs`" + ` cannot be empty","error_type":"Empty"}`, 400,
		},
		"an empty text to classify": {
			"/predict", `{"inputs":["",""]}`,
			`{"error":"Input validation error: ` + "`inputs`" + ` cannot be empty","error_type":"Empty"}`, 400,
		},
		"no dimensions": {
			"/v1/embeddings", `{"input":["a"],"dimensions":0}`,
			`{"message":"Input validation error: ` + "`dimensions`" + ` should be positive","code":422,"type":"Validation"}`, 422,
		},
		"too many dimensions": {
			"/embed", `{"inputs":["a"],"dimensions":385}`,
			`{"error":"Input validation error: ` + "`dimensions`" +
				` should be smaller than the maximum embedding dimension.","error_type":"Validation"}`, 422,
		},
		"a prompt": {
			"/embed", `{"inputs":"a","prompt_name":"query"}`,
			`{"error":"Input validation error: ` + "`default-prompt-name` is set to `query`" +
				` but no prompts were found in the Sentence Transformers configuration","error_type":"Validation"}`, 422,
		},
	}
	server := NewServer(ServerOptions{})
	for name, test := range tests {
		response := post(server, test.path, test.body)
		if response.Code != test.status || response.Body.String() != test.want {
			t.Errorf("%s: got %d %s, want %d %s", name, response.Code, response.Body, test.status, test.want)
		}
		if got := response.Header().Get("Content-Type"); got != "application/json" {
			t.Errorf("%s: the content type is %q", name, got)
		}
		if response.Header().Get("x-compute-time") != "" {
			t.Errorf("%s: it has the headers of a good answer", name)
		}
	}
	if free := server.permits.free.Load(); free != 512 {
		t.Errorf("%d of 512 permits are free afterwards", free)
	}
}

func TestRefusalsAsText(t *testing.T) {
	t.Parallel()
	const (
		syntax = "Failed to parse the request body as JSON: "
		data   = "Failed to deserialize the JSON body into the target type: "
		enum   = data + "input: data did not match any variant of untagged enum Input"
	)
	tests := map[string]struct {
		path, body, want string // want begins the answer
		status           int
	}{
		"an empty body":                    {"/v1/embeddings", ``, syntax, 400},
		"a body that is cut off":           {"/v1/embeddings", `{"input":["a"`, syntax, 400},
		"invalid UTF-8":                    {"/v1/embeddings", "{\"input\":\"\xff\"}", syntax, 400},
		"a control character in a string":  {"/v1/embeddings", "{\"input\":\"\x01\"}", syntax, 400},
		"a number for a text":              {"/v1/embeddings", `{"input":5}`, enum, 422},
		"null for a text":                  {"/v1/embeddings", `{"input":null}`, enum, 422},
		"true for a text":                  {"/v1/embeddings", `{"input":true}`, enum, 422},
		"an object for a text":             {"/v1/embeddings", `{"input":{}}`, enum, 422},
		"null in a list":                   {"/v1/embeddings", `{"input":["a",null]}`, enum, 422},
		"null in a list of ids":            {"/v1/embeddings", `{"input":[1,null]}`, enum, 422},
		"an id and a text in one list":     {"/v1/embeddings", `{"input":[1,"a"]}`, enum, 422},
		"a negative id":                    {"/v1/embeddings", `{"input":[-1]}`, enum, 422},
		"an id with a point":               {"/v1/embeddings", `{"input":[1.0]}`, enum, 422},
		"an id of 33 bits":                 {"/v1/embeddings", `{"input":[4294967296]}`, enum, 422},
		"no input":                         {"/v1/embeddings", `{"Input":"a"}`, data + "missing field `input`", 422},
		"a list for the whole":             {"/v1/embeddings", ` ["a"]`, data + "invalid type: sequence", 422},
		"null for the whole":               {"/v1/embeddings", `null`, data + "invalid type: null", 422},
		"a negative number of dimensions":  {"/v1/embeddings", `{"input":"a","dimensions":-1}`, data + "dimensions: ", 422},
		"a text for the dimensions":        {"/v1/embeddings", `{"input":"a","dimensions":"2"}`, data + "dimensions: ", 422},
		"an unknown encoding":              {"/v1/embeddings", `{"input":"a","encoding_format":"int8"}`, data + "encoding_format: unknown variant `int8`", 422},
		"an encoding that is no text":      {"/v1/embeddings", `{"input":"a","encoding_format":1}`, data + "encoding_format: invalid type: integer `1`", 422},
		"normalize that is no boolean":     {"/embed", `{"inputs":"a","normalize":"x"}`, data + `normalize: invalid type: string "x", expected a boolean`, 422},
		"a prompt that is no text":         {"/embed", `{"inputs":"a","prompt_name":1.5}`, data + "prompt_name: invalid type: floating point `1.5`", 422},
		"a query that is no text":          {"/rerank", `{"query":5,"texts":["a"]}`, data + "query: invalid type: integer `5`, expected a string", 422},
		"no texts":                         {"/rerank", `{"query":"q"}`, data + "missing field `texts`", 422},
		"texts that are no list":           {"/rerank", `{"query":"q","texts":"a"}`, data + `texts: invalid type: string "a", expected a sequence`, 422},
		"texts that are null":              {"/rerank", `{"query":"q","texts":null}`, data + "texts: invalid type: null", 422},
		"a null among the texts":           {"/rerank", `{"query":"q","texts":[null]}`, data + "texts: invalid type: null", 422},
		"raw_scores null":                  {"/rerank", `{"query":"q","texts":["a"],"raw_scores":null}`, data + "raw_scores: invalid type: null", 422},
		"return_text that is no boolean":   {"/rerank", `{"query":"q","texts":["a"],"return_text":[]}`, data + "return_text: invalid type: sequence", 422},
		"a flat list of three to classify": {"/predict", `{"inputs":["a","b","c"]}`, data + "inputs: invalid length 3", 422},
		"an empty list to classify":        {"/predict", `{"inputs":[]}`, data + "inputs: invalid length 0", 422},
		"an empty list in a batch":         {"/predict", `{"inputs":[["a"],[]]}`, data + "inputs: invalid length 0", 422},
		"a list of three in a batch":       {"/predict", `{"inputs":[["a","b","c"]]}`, data + "inputs: invalid length 3", 422},
		"a text in a batch":                {"/predict", `{"inputs":[["a"],"b"]}`, data + "inputs: invalid type: string", 422},
		"a batch in a pair":                {"/predict", `{"inputs":["a",["b"]]}`, data + "inputs: invalid type: sequence", 422},
		"a number to classify":             {"/predict", `{"inputs":5}`, data + "inputs: invalid type: integer `5`", 422},
		"nothing to classify":              {"/predict", `{}`, data + "missing field `inputs`", 422},
		"raw_scores that is no boolean":    {"/predict", `{"inputs":"a","raw_scores":1}`, data + "raw_scores: invalid type: integer `1`", 422},
	}
	server := NewServer(ServerOptions{})
	for name, test := range tests {
		response := post(server, test.path, test.body)
		if response.Code != test.status || !strings.HasPrefix(response.Body.String(), test.want) {
			t.Errorf("%s: got %d %s, want %d %s", name, response.Code, response.Body, test.status, test.want)
		}
		if got := response.Header().Get("Content-Type"); got != "text/plain; charset=utf-8" {
			t.Errorf("%s: the content type is %q", name, got)
		}
	}
}

func TestRefusalsBeforeTheBodyIsRead(t *testing.T) {
	t.Parallel()
	const good = `{"input":"a"}`
	const noType = "Expected request with `Content-Type: application/json`"
	padded := func(size int) string {
		return good + strings.Repeat(" ", size-len(good))
	}
	tests := map[string]struct {
		call
		status      int
		want, allow string
	}{
		"no content type":             {call{"POST", "/v1/embeddings", "", good}, 415, noType, ""},
		"another content type":        {call{"POST", "/v1/embeddings", "text/json", good}, 415, noType, ""},
		"a body over 2 MB":            {call{"POST", "/v1/embeddings", "application/json", padded(maxBody + 1)}, 413, "Failed to buffer the request body: length limit exceeded", ""},
		"an unknown route":            {call{"POST", "/v1/rerank", "application/json", good}, 404, "", ""},
		"a route with another method": {call{"GET", "/v1/embeddings", "", ""}, 405, "", "POST"},
		"an answer that only is read": {call{"POST", "/info", "application/json", good}, 405, "", "GET,HEAD"},
	}
	server := NewServer(ServerOptions{})
	for name, test := range tests {
		response := ask(server, test.call)
		if response.Code != test.status || response.Body.String() != test.want {
			t.Errorf("%s: got %d %s, want %d %s", name, response.Code, response.Body, test.status, test.want)
		}
		if got := response.Header().Get("Allow"); got != test.allow {
			t.Errorf("%s: it allows %q, want %q", name, got, test.allow)
		}
	}
	for name, test := range map[string]struct{ contentType, body string }{
		"a content type with parameters": {"application/json; charset=utf-8", good},
		"a content type built on JSON":   {"application/cloudevents+json", good},
		"a body of exactly 2 MB":         {"application/json", padded(maxBody)},
	} {
		if response := ask(server, call{"POST", "/v1/embeddings", test.contentType, test.body}); response.Code != http.StatusOK {
			t.Errorf("%s: got %d %s", name, response.Code, response.Body)
		}
	}
}

func TestPermitsAreCountedInItems(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := NewServer(ServerOptions{Delay: time.Second})
		full := `{"input":` + list(32, `"a"`) + `}`
		statuses := make(chan int, 16)
		for i := range 16 {
			go func() {
				body := full
				if i == 0 {
					body = `{"input":` + list(31, `"a"`) + `}`
				}
				statuses <- post(server, "/v1/embeddings", body).Code
			}()
		}
		synctest.Wait() // 511 items are in flight.

		const want = `{"message":"Model is overloaded","code":429,"type":"Overloaded"}`
		response := post(server, "/v1/embeddings", `{"input":["a","b"]}`)
		if response.Code != http.StatusTooManyRequests || response.Body.String() != want {
			t.Errorf("the 512th and 513th item got %d %s, want 429 %s", response.Code, response.Body, want)
		}
		if got := response.Header().Get("Retry-After"); got != "" {
			t.Errorf("the refusal says when to retry: %s", got)
		}
		if response := post(server, "/embed", `{"inputs":"a"}`); response.Code != http.StatusOK {
			t.Errorf("the 512th item got %d %s", response.Code, response.Body)
		}
		for range 16 {
			if status := <-statuses; status != http.StatusOK {
				t.Errorf("a batch within the limit got %d", status)
			}
		}
		if free := server.permits.free.Load(); free != 512 {
			t.Errorf("%d of 512 permits are free afterwards", free)
		}
	})
}

func TestABatchTakesTheDelay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := NewServer(ServerOptions{Delay: BatchDelay})
		start := time.Now()
		response := post(server, "/v1/embeddings", `{"input":`+list(32, `"a"`)+`}`)
		if took := time.Since(start); response.Code != http.StatusOK || took != BatchDelay {
			t.Errorf("got %d after %v, want 200 after %v", response.Code, took, BatchDelay)
		}
		if got := response.Header().Get("x-inference-time"); got != "20" {
			t.Errorf("it says that it took %s ms", got)
		}
	})
}

func TestAClientThatLeavesEndsItsBatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := NewServer(ServerOptions{Delay: time.Hour})
		ctx, leave := context.WithCancel(t.Context())
		request := httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/embeddings", strings.NewReader(`{"input":"a"}`))
		request.Header.Set("Content-Type", "application/json")
		recorder := httptest.NewRecorder()
		start := time.Now()
		ended := make(chan any)
		go func() {
			defer func() { ended <- recover() }()
			server.ServeHTTP(recorder, request)
		}()
		synctest.Wait()
		if free := server.permits.free.Load(); free != 511 {
			t.Errorf("%d of 512 permits are free while it waits", free)
		}
		leave()
		if got, ok := (<-ended).(error); !ok || !errors.Is(got, http.ErrAbortHandler) {
			t.Errorf("it ended with %v, want %v", got, http.ErrAbortHandler)
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("it waited for %v", took)
		}
		if recorder.Body.Len() > 0 {
			t.Errorf("it answered %s", recorder.Body)
		}
		if free := server.permits.free.Load(); free != 512 {
			t.Errorf("%d of 512 permits are free afterwards", free)
		}
	})
}

func FuzzServer(f *testing.F) {
	for _, body := range []string{
		`{"input":["a",[1,2]],"dimensions":4,"encoding_format":"base64"}`, `{"input":[1,2]}`, `{"input":[ ]}`,
		`{"inputs":[["a","b"],["c"]],"raw_scores":true}`, `{"inputs":["a","b"],"normalize":false}`,
		`{"query":"q","texts":["a","\u0000"],"return_text":true}`, `[]`, `null`, `{"input":"\ud800"}`,
	} {
		f.Add(body)
	}
	server := NewServer(ServerOptions{})
	f.Fuzz(func(t *testing.T, body string) {
		for path := range operations {
			response := post(server, path, body)
			switch response.Code {
			case http.StatusOK, http.StatusBadRequest, http.StatusUnprocessableEntity:
			default:
				t.Errorf("%s answered %d %s", path, response.Code, response.Body)
			}
			if response.Header().Get("Content-Type") == "application/json" && !json.Valid(response.Body.Bytes()) {
				t.Errorf("%s answered %d with broken JSON: %s", path, response.Code, response.Body)
			}
		}
	})
}
