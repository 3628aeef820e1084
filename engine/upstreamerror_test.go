package engine

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

func TestNewStatusError(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		body    string
		message string
		kind    string
		code    string
	}{
		"text-embeddings-inference": {
			body:    `{"error":"batch size 33 > maximum allowed batch size 32","error_type":"Validation"}`,
			message: "batch size 33 > maximum allowed batch size 32", kind: "Validation",
		},
		"text-embeddings-inference in the way of OpenAI": {
			body:    `{"message":"Model is overloaded","code":429,"type":"Overloaded"}`,
			message: "Model is overloaded", kind: "Overloaded", code: "429",
		},
		"text-embeddings-inference in plain text": {
			body:    "Failed to deserialize the JSON body into the target type: inputs: missing field `inputs` at line 1 column 2",
			message: "Failed to deserialize the JSON body into the target type: inputs: missing field `inputs` at line 1 column 2",
		},
		"text-embeddings-inference with a wrong key": {},
		"infinity's validation": {
			body:    `{"detail":[{"type":"missing","loc":["body","input"],"msg":"Field required","input":{}},{"type":"x","loc":[],"msg":"Input should be a string"}]}`,
			message: "Field required; Input should be a string",
		},
		"infinity": {
			body:    `{"error":{"message":"model not found","type":null,"param":null,"code":404}}`,
			message: "model not found", code: "404",
		},
		"OpenAI": {
			body:    `{"error":{"message":"Incorrect API key","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}`,
			message: "Incorrect API key", kind: "invalid_request_error", code: `"invalid_api_key"`,
		},
		"vLLM": {
			body:    `{"error":{"message":"The model does not exist.","type":"NotFoundError","param":"model","code":404}}`,
			message: "The model does not exist.", kind: "NotFoundError", code: "404",
		},
		"vLLM of old": {
			body:    `{"object":"error","message":"too long","type":"BadRequestError","param":null,"code":400}`,
			message: "too long", kind: "BadRequestError", code: "400",
		},
		"Cohere":                                {body: `{"id":"0f7d","message":"invalid api token"}`, message: "invalid api token"},
		"FastAPI with a text":                   {body: `{"detail":"Not Found"}`, message: "Not Found"},
		"error.message goes first":              {body: `{"message":"b","error":{"message":"a"},"detail":"c"}`, message: "a"},
		"message goes before error":             {body: `{"error":"b","message":"a","detail":"c"}`, message: "a"},
		"error goes before detail":              {body: `{"detail":"b","error":"a"}`, message: "a"},
		"what is empty does not count":          {body: `{"error":{"message":""},"message":"","detail":"a"}`, message: "a"},
		"what is no text does not count":        {body: `{"message":{"x":1},"error":7,"detail":"a"}`, message: "a"},
		"error_type goes before type":           {body: `{"error":"a","type":"b","error_type":"c"}`, message: "a", kind: "c"},
		"the inner type is the last resort":     {body: `{"error":{"message":"a","error_type":"b"}}`, message: "a", kind: "b"},
		"a code that is null is none":           {body: `{"message":"a","code":null}`, message: "a"},
		"a code that is an object is none":      {body: `{"message":"a","code":{"x":1}}`, message: "a"},
		"a code that is true is none":           {body: `{"message":"a","code":true,"error":{"code":-1.50}}`, message: "a", code: "-1.50"},
		"a code with an escape stays JSON":      {body: `{"message":"a","code":"x\"y"}`, message: "a", code: `"x\"y"`},
		"a code that is too long is cut":        {body: `{"message":"a","code":"` + strings.Repeat("x", 1000) + `"}`, message: "a", code: `"` + strings.Repeat("x", 256) + `"`},
		"a number that is too long is none":     {body: `{"message":"a","code":` + strings.Repeat("1", 1000) + `}`, message: "a"},
		"JSON of another shape is a text":       {body: `{"reason": ["a"]}`, message: `{"reason": ["a"]}`},
		"a list without a message is a text":    {body: `{"detail":["a"]}`, message: `{"detail":["a"]}`},
		"JSON that breaks off is a text":        {body: `{"error":{"message":"a`, message: `{"error":{"message":"a`},
		"a page is a text on one line":          {body: "<html>\r\n<body>Bad\tGateway</body>\n", message: "<html>  <body>Bad Gateway</body>"},
		"control characters are made harmless":  {body: `{"message":"a\u0000b\u001b[31mc\u009bd\u202ee\u2028f"}`, message: "a b [31mc d e f"},
		"what is no UTF-8 is replaced":          {body: "a\xffb", message: "a\uFFFDb"},
		"a message is cut between two runes":    {body: `{"message":"` + strings.Repeat("x", 2047) + `ä"}`, message: strings.Repeat("x", 2047)},
		"a message as long as it may be stays":  {body: `{"message":"` + strings.Repeat("x", 2046) + `ä"}`, message: strings.Repeat("x", 2046) + "ä"},
		"a type that is too long is cut":        {body: `{"message":"a","type":"` + strings.Repeat("ä", 200) + `"}`, message: "a", kind: strings.Repeat("ä", 128)},
		"a body that is just JSON text":         {body: `"a"`, message: `"a"`},
		"an array is a text":                    {body: `[1]`, message: `[1]`},
		"blanks at the ends are nothing to say": {body: " \n a \n", message: "a"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resp := &http.Response{StatusCode: 422, Header: http.Header{}}
			got := newStatusError(resp, []byte(test.body), "Bearer secret-key")
			want := StatusError{Status: 422, Message: test.message, Type: test.kind, Code: test.code}
			if *got != want {
				t.Errorf("got %+v, want %+v", *got, want)
			}
		})
	}
}

func TestNewStatusErrorKeepsTheKeyToItself(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		key  string
		body string
		want StatusError
	}{
		"with its scheme": {
			key: "Bearer sk-12/34", body: `{"message":"got 'Bearer sk-12/34', no more"}`,
			want: StatusError{Message: "got '[redacted]', no more"},
		},
		"without its scheme": {
			key: "Bearer sk-12/34", body: `{"message":"bearer sk-12/34sk-12/34"}`,
			want: StatusError{Message: "bearer [redacted][redacted]"},
		},
		"of another scheme": {
			key: "Api-Key abcd.efgh", body: `{"message":"abcd.efgh Api-Key abcd.efgh"}`,
			want: StatusError{Message: "[redacted] [redacted]"},
		},
		"without any scheme": {
			key: "abcd.efgh", body: `{"message":"abcd.efgh"}`,
			want: StatusError{Message: "[redacted]"},
		},
		"in the type and the code": {
			key: "Bearer sk-1234", body: `{"message":"a","type":"sk-1234","code":"<sk-1234>"}`,
			want: StatusError{Message: "a", Type: "[redacted]", Code: `"\u003c[redacted]\u003e"`},
		},
		"as a code that is a number": {
			key: "Bearer 123456", body: `{"message":"a","code":91234567}`,
			want: StatusError{Message: "a"},
		},
		"escaped in the document": {
			key: "Bearer sk-12/34+", body: `{"message":"a sk-12\/34\u002b b"}`,
			want: StatusError{Message: "a [redacted] b"},
		},
		"escaped in a document that is a text": {
			key: "Bearer sk-12/34+", body: `{"said":"a sk-12\/34\u002B b"}`,
			want: StatusError{Message: `{"said":"a [redacted] b"}`},
		},
		"escaped in a document within a document": {
			key: "Bearer sk-12/34+", body: `{"message":"{\"key\":\"sk-12\\/34\\u002b\"}"}`,
			want: StatusError{Message: `{"key":"[redacted]"}`},
		},
		"other escapes stay": {
			key: "Bearer sk-12/34+", body: `{"said":"\u002b\/"}`,
			want: StatusError{Message: `{"said":"\u002b\/"}`},
		},
		"where the message is cut": {
			key: "Bearer sk-1234", body: `{"message":"` + strings.Repeat("x", 2044) + `sk-1234"}`,
			want: StatusError{Message: strings.Repeat("x", 2044) + "[red"},
		},
		"where the body breaks off": {
			key: "Bearer sk-123456", body: `{"message":"no such key: sk-123`,
			want: StatusError{Message: `{"message":"no such key: [redacted]`},
		},
		"unless it is a part of any word": {
			key: "Bearer ab", body: `{"message":"a cab in Bearer acab"}`,
			want: StatusError{Message: "a cab in Bearer acab"},
		},
		"unless there is none": {body: `{"message":"a"}`, want: StatusError{Message: "a"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.want.Status = 401
			got := newStatusError(&http.Response{StatusCode: 401, Header: http.Header{}}, []byte(test.body), test.key)
			if *got != test.want {
				t.Errorf("got %+v, want %+v", *got, test.want)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"":                              "",
		"0":                             "0",
		"120":                           "120",
		" 120 ":                         "120",
		"Fri, 31 Dec 1999 23:59:59 GMT": "Fri, 31 Dec 1999 23:59:59 GMT",
		"-1":                            "",
		"+1":                            "",
		"1.5":                           "",
		"1e3":                           "",
		"99999999999":                   "99999999999",
		"99999999999999999999":          "",
		"soon":                          "",
		"Fri, 31 Dec 1999":              "",
	}
	for value, want := range tests {
		resp := &http.Response{StatusCode: 503, Header: http.Header{"Retry-After": {value}}}
		if got := newStatusError(resp, nil, "").RetryAfter; got != want {
			t.Errorf("%q became %q, want %q", value, got, want)
		}
	}
}

func TestReadErrorBody(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 100_000)
	broken := errors.New("broken")
	gzipHeader := []string{"Content-Encoding", "gzip"}
	zstdHeader := []string{"Content-Encoding", "zstd"}
	tests := map[string]struct {
		body    io.Reader
		headers []string
		memory  *Memory
		want    string
	}{
		"a text":                        {body: strings.NewReader("busy"), want: "busy"},
		"nothing":                       {body: strings.NewReader("")},
		"a text that is too long":       {body: strings.NewReader(long), want: long[:maxErrorBody]},
		"a text without an end":         {body: zeros(1 << 60), want: strings.Repeat("\x00", maxErrorBody)},
		"a text that breaks off":        {body: io.MultiReader(strings.NewReader("bu"), iotest.ErrReader(broken)), want: "bu"},
		"gzip":                          {body: strings.NewReader(gzipOf("busy")), headers: gzipHeader, want: "busy"},
		"gzip that becomes too long":    {body: strings.NewReader(gzipOf(long)), headers: gzipHeader, want: long[:maxErrorBody]},
		"gzip with something behind it": {body: strings.NewReader(gzipOf("busy") + "x"), headers: gzipHeader, want: "busy"},
		"gzip that is none":             {body: strings.NewReader("busy"), headers: gzipHeader},
		"zstd":                          {body: strings.NewReader(zstdOf("busy")), headers: zstdHeader, want: "busy"},
		"zstd that becomes too long":    {body: strings.NewReader(zstdOf(long)), headers: zstdHeader, want: long[:maxErrorBody]},
		"zstd that breaks off":          {body: strings.NewReader(zstdOf(long)[:len(zstdOf(long))-6]), headers: zstdHeader, want: long[:50_000]},
		"zstd without memory":           {body: strings.NewReader(zstdOf("busy")), headers: zstdHeader, memory: NewMemory(1000)},
		"a coding that is not known":    {body: strings.NewReader("busy"), headers: []string{"Content-Encoding", "br"}},
		"MessagePack":                   {body: strings.NewReader("\x81\xa5error\xa4busy"), headers: []string{"Content-Type", "application/msgpack"}, want: `{"error":"busy"}`},
		"MessagePack that is none":      {body: strings.NewReader("busy"), headers: []string{"Content-Type", "application/msgpack"}, want: "busy"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resp, body := replyOf(test.body, -1, test.headers...)
			got := readErrorBody(resp, replyLimits{MaxBody: 1 << 20, Memory: test.memory})
			if string(got) != test.want {
				t.Errorf("got %d bytes %.100q, want %d bytes %.100q", len(got), got, len(test.want), test.want)
			}
			if !body.closed {
				t.Error("the body was not closed")
			}
			if used := test.memory.Used(); used != 0 {
				t.Errorf("%d bytes are still reserved", used)
			}
		})
	}
}

func TestErrorsOverTheNetwork(t *testing.T) {
	t.Parallel()
	upstreams(t, func(t *testing.T, up *enginetest.Upstream, rt http.RoundTripper, url string) {
		up.Script = enginetest.Always(
			enginetest.JSON(429, `{"error":"Model is overloaded","error_type":"Overloaded"}`),
			enginetest.Header("Retry-After", "2"),
			enginetest.Gzip())
		resp := post(t.Context(), t, rt, url)
		got := newStatusError(resp, readErrorBody(resp, replyLimits{MaxBody: 1 << 20}), "")
		want := StatusError{Status: 429, Message: "Model is overloaded", Type: "Overloaded", RetryAfter: "2"}
		if *got != want {
			t.Errorf("got %+v, want %+v", *got, want)
		}
	})
}

// FuzzNewStatusError checks that whatever an upstream says, the error is short,
// valid and without the key.
func FuzzNewStatusError(f *testing.F) {
	f.Add([]byte(`{"error":{"message":"a","type":"b","code":1}}`), "Bearer abcdef")
	f.Add([]byte(`{"message":"abcdef \u0061bcdef","code":"abcdef"}`), "Bearer abcdef")
	f.Add([]byte(`{"detail":[{"msg":"Bearer abc/def\/"}]}`), "Bearer abc/def/")
	f.Add([]byte("Bearer abc"), "abcdef")
	f.Fuzz(func(t *testing.T, body []byte, key string) {
		got := newStatusError(&http.Response{StatusCode: 500, Header: http.Header{}}, body, key)
		if len(got.Message) > maxErrorMessage || len(got.Type) > maxErrorWord || !utf8.ValidString(got.Message+got.Type) {
			t.Errorf("%q became %+v", body, got)
		}
		if got.Code != "" && !json.Valid([]byte(got.Code)) {
			t.Errorf("%q has the code %q", body, got.Code)
		}
		if strings.ContainsFunc(got.Message+got.Type, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("%q became %+v", body, got)
		}
		// What stands in for the key, and for what cannot be shown, may make up a
		// key of such characters.
		if len(key) >= minSecret && !strings.ContainsAny(key, " []\uFFFDredact\\u") && strings.Contains(got.Message+got.Type, key) {
			t.Errorf("%q became %+v", body, got)
		}
	})
}
