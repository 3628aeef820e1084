package enginetest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

func TestFaults(t *testing.T) {
	t.Parallel()
	whole := honest()
	tests := map[string]struct {
		faults []enginetest.Fault
		status int
		body   string
		err    error
	}{
		"a status and a text": {
			faults: []enginetest.Fault{enginetest.Status(503, "busy"), enginetest.Header("Retry-After", "1")},
			status: 503, body: "busy",
		},
		"a status and a document": {
			faults: []enginetest.Fault{enginetest.JSON(429, `{"message":"no"}`)},
			status: 429, body: `{"message":"no"}`,
		},
		"a page":    {faults: []enginetest.Fault{enginetest.HTML()}, status: 200, body: "<!DOCTYPE html>\n<html><body><h1>Welcome</h1></body></html>\n"},
		"no body":   {faults: []enginetest.Fault{enginetest.Empty()}, status: 200},
		"no answer": {faults: []enginetest.Fault{enginetest.Drop()}, err: errAny},
		"cut off":   {faults: []enginetest.Fault{enginetest.CutAt(9)}, status: 200, body: whole[:9], err: io.ErrUnexpectedEOF},
		"a chunked body cut off": {
			faults: []enginetest.Fault{enginetest.Chunked(), enginetest.CutAt(9)},
			status: 200, body: whole[:9], err: io.ErrUnexpectedEOF,
		},
		"a length that is too large": {faults: []enginetest.Fault{enginetest.ContentLength(5000)}, status: 200, body: whole, err: io.ErrUnexpectedEOF},
		"a length that is too small": {faults: []enginetest.Fault{enginetest.ContentLength(9)}, status: 200, body: whole[:9]},
		"no length":                  {faults: []enginetest.Fault{enginetest.Chunked()}, status: 200, body: whole},
		"something behind the body":  {faults: []enginetest.Fault{enginetest.Append("!")}, status: 200, body: whole + "!"},
		"another model": {
			faults: []enginetest.Fault{enginetest.Model("x")},
			status: 200, body: strings.Replace(whole, `"model":"m"`, `"model":"x"`, 1),
		},
		"an entry too few": {
			faults: []enginetest.Fault{enginetest.Missing(0)},
			status: 200, body: strings.Replace(whole, entry(0, "a")+",", "", 1),
		},
		"an index twice": {
			faults: []enginetest.Fault{enginetest.Index(1, 0)},
			status: 200, body: strings.Replace(whole, entry(1, "b"), entry(0, "b"), 1),
		},
		"an embedding that is no JSON": {
			faults: []enginetest.Fault{enginetest.Embedding(1, "[NaN]")},
			status: 200, body: strings.Replace(whole, entry(1, "b"), entryOf(1, "[NaN]"), 1),
		},
		"a vector that is too short": {
			faults: []enginetest.Fault{enginetest.Shorter(1)},
			status: 200, body: strings.Replace(whole, entry(1, "b"), entryOf(1, enginetest.Vector("b", 7)), 1),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bothWays(t, enginetest.First(1, test.faults...), func(t *testing.T, _ *enginetest.Upstream, rt http.RoundTripper, url string) {
				got := ask(t.Context(), rt, url, twoItems)
				if got.status != test.status || got.body != test.body {
					t.Errorf("got %d %q, want %d %q", got.status, got.body, test.status, test.body)
				}
				if test.err == nil && got.err != nil || test.err != nil && got.err == nil ||
					test.err != nil && !errors.Is(test.err, errAny) && !errors.Is(got.err, test.err) {
					t.Errorf("got the error %v, want %v", got.err, test.err)
				}
				if again := ask(t.Context(), rt, url, twoItems); again.body != whole || again.err != nil {
					t.Errorf("the next call got %+v", again)
				}
			})
		})
	}
}

// errAny stands for an error of any kind.
var errAny = errors.New("any error")

func TestShuffledKeepsEveryEntry(t *testing.T) {
	t.Parallel()
	items, want := []string{}, []string{}
	for i := range 20 {
		items = append(items, fmt.Sprint(i))
		want = append(want, entry(i, fmt.Sprint(i)))
	}
	body, err := json.Marshal(map[string]any{"input": items})
	if err != nil {
		t.Fatal(err)
	}
	bothWays(t, enginetest.Always(enginetest.Shuffled()), func(t *testing.T, _ *enginetest.Upstream, rt http.RoundTripper, url string) {
		first, second := ask(t.Context(), rt, url, string(body)).body, ask(t.Context(), rt, url, string(body)).body
		if first == second || strings.Contains(first, strings.Join(want, ",")) {
			t.Error("the entries are in order")
		}
		for _, e := range want {
			if strings.Count(first, e) != 1 {
				t.Errorf("%s is not there once", e)
			}
		}
	})
}

func TestPackedBodies(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		fault  enginetest.Fault
		coding string
		want   string
	}{
		"gzip":       {enginetest.Gzip(), "gzip", honest()},
		"zstd":       {enginetest.Zstd(), "zstd", honest()},
		"gzip bombs": {enginetest.Bomb("gzip", 1<<20), "gzip", strings.Repeat("\x00", 1<<20)},
		"zstd bombs": {enginetest.Bomb("zstd", 1<<20), "zstd", strings.Repeat("\x00", 1<<20)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bothWays(t, enginetest.Always(test.fault), func(t *testing.T, _ *enginetest.Upstream, rt http.RoundTripper, url string) {
				got := ask(t.Context(), rt, url, twoItems)
				if got.err != nil || got.header.Get("Content-Encoding") != test.coding || len(got.body) > 2<<10 {
					t.Fatalf("got %d bytes with the header %v and the error %v", len(got.body), got.header, got.err)
				}
				if unpacked := unpack(t, test.coding, got.body); unpacked != test.want {
					t.Errorf("got %.100q", unpacked)
				}
			})
		})
	}
}

func unpack(t *testing.T, coding, body string) string {
	t.Helper()
	var r io.Reader
	switch coding {
	case "gzip":
		zr, err := gzip.NewReader(strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r = zr
	case "zstd":
		zr, err := zstd.NewReader(strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer zr.Close()
		r = zr
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestMsgpackOf(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		`null`:             "\xc0",
		`[true,false]`:     "\xdd\x00\x00\x00\x02\xc3\xc2",
		`-2`:               "\xd3\xff\xff\xff\xff\xff\xff\xff\xfe",
		`1.5`:              "\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00",
		`{"b":1e0,"a":""}`: "\xdf\x00\x00\x00\x02\xdb\x00\x00\x00\x01a\xdb\x00\x00\x00\x00\xdb\x00\x00\x00\x01b\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00",
	}
	for doc, want := range tests {
		if got := enginetest.MsgpackOf([]byte(doc)); !bytes.Equal(got, []byte(want)) {
			t.Errorf("%s became %x, want %x", doc, got, want)
		}
	}
	bothWays(t, enginetest.Always(enginetest.Msgpack()), func(t *testing.T, _ *enginetest.Upstream, rt http.RoundTripper, url string) {
		got := ask(t.Context(), rt, url, twoItems)
		if got.header.Get("Content-Type") != "application/msgpack" || got.body != string(enginetest.MsgpackOf([]byte(honest()))) {
			t.Errorf("got %q %q", got.header, got.body)
		}
	})
}
