package engine

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/basetenlabs/caddy-performance-proxy/engine/jsonspan"
)

// arrays is an operation whose replies are arrays of vectors without indexes,
// members or metadata, as TEI's /embed has them.
var arrays = &Operation{
	Name:    "arrays",
	Paths:   []string{"/arrays"},
	request: &jsonspan.Shape{Lists: []string{"inputs"}},
	asked: func(op *Operation, _ []byte, d *jsonspan.Document) (asked, error) {
		for i := range d.Entries {
			if d.Entries[i].Kind != jsonspan.String {
				return asked{}, op.wrongItem(d, i, "a string")
			}
		}
		return asked{form: formList, items: len(d.Entries)}, nil
	},
	reply:   &jsonspan.Shape{Lists: []string{""}, Vector: "."},
	results: results{entries: jsonspan.Kinds(jsonspan.Array), vectorRequired: true},
}

// TestOperationsAreRows sends requests of an operation that is nothing but a row
// of the table.
func TestOperationsAreRows(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		body, model, first, second string
		want                       string // empty for a broken reply
	}{
		"in one batch":       {`{"inputs":["a"]}`, "", ` [[1.0, -0]] `, ``, `[[1.0, -0]]`},
		"in two batches":     {`{"inputs":["a","b"]}`, "", `[[1.0]]`, `[ [2e0] ]`, `[[1.0],[2e0]]`},
		"with a model":       {`{"inputs":["a","b"]}`, "m", `[[1]]`, `[[2]]`, `[[1],[2]]`},
		"a vector too short": {`{"inputs":["a","b"]}`, "", `[[1,2]]`, `[[3]]`, ``},
		"one result missing": {`{"inputs":["a","b"]}`, "", `[[1,2]]`, `[]`, ``},
		"an object":          {`{"inputs":["a","b"]}`, "", `[[1,2]]`, `{"data":[[1,2]]}`, ``},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := New(Options{})
			call, err := e.prepare(arrays, &Request{
				Path: "/arrays", Body: []byte(test.body), Model: test.model, Settings: Settings{BatchSize: 1, MaxRetries: -1},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer call.Close()
			to := soleUpstream(cannedUpstream{`"a"`: test.first, `"b"`: test.second})
			answer, err := e.Run(t.Context(), to, call)
			if test.want == "" {
				if _, ok := errors.AsType[*ReplyError](err); !ok {
					t.Errorf("got %v, want a ReplyError", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Close()
			var got bytes.Buffer
			if _, err := answer.WriteTo(&got); err != nil {
				t.Fatal(err)
			}
			if got.String() != test.want {
				t.Errorf("got %s, want %s", got.String(), test.want)
			}
		})
	}
}

// TestForeignReplies sends requests for encodings that the proxy does not know.
func TestForeignReplies(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		kind, reply string
		ok          bool
	}{
		"octets come back as they are":      {"application/octet-stream", "\x00\x01{", true},
		"JSON is checked and has metadata":  {"application/json", `{"data":[{"index":0,"embedding":{"int8":[1]}},{"index":1,"embedding":"x"}]}`, true},
		"JSON with a vector that is null":   {"application/json", `{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":null}]}`, false},
		"JSON with a vector missing":        {"application/json", `{"data":[{"index":0,"embedding":[1]},{"index":1}]}`, false},
		"no octets":                         {"application/octet-stream", "", false},
		"events":                            {"text/event-stream", "data: x", false},
		"JSON with a result missing":        {"application/json", `{"data":[{"index":0,"embedding":[1]}]}`, false},
		"JSON that is none":                 {"application/json; charset=utf-8", `<html>`, false},
		"a page":                            {"text/html; charset=utf-8", `<html>login</html>`, false},
		"a message":                         {"Text/Plain", `ok`, false},
		"nothing said, and no JSON":         {"", `<html>`, false},
		"JSON of a vendor":                  {"application/vnd.x+json", `{"data":[{"index":1,"embedding":"b"},{"index":0,"embedding":"a"}]}`, true},
		"JSON of a vendor with one missing": {"application/vnd.x+json", `{"data":[{"index":1}]}`, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upstream := roundTrip(func(req *http.Request) (*http.Response, error) {
				sent, err := io.ReadAll(req.Body)
				if err != nil || !strings.Contains(string(sent), `["a","b"]`) {
					t.Errorf("the upstream got %s, %v", sent, err)
				}
				resp := respond(req, http.StatusOK, test.reply)
				resp.Header.Set("Content-Type", test.kind)
				resp.Header.Set("Metadata", "{}")
				return resp, nil
			})
			got, err := answered(t, upstream, `{"input":["a","b"],"encoding_format":"int8"}`, Settings{BatchSize: 1})
			if _, fault := errors.AsType[*ReplyError](err); fault == test.ok {
				t.Fatalf("got %s, %v", got, err)
			}
			if test.ok && !strings.Contains(test.kind, "json") && got != test.reply {
				t.Errorf("got %q", got)
			}
			if strings.Contains(got, `"int8"`) && !strings.Contains(got, `"proxy_metadata"`) {
				t.Errorf("got %s", got)
			}
		})
	}
}
