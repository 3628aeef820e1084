package engine

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

// replyBody is a body that knows what was done to it.
type replyBody struct {
	io.Reader
	reads  int
	closed bool
}

func (b *replyBody) Read(p []byte) (int, error) {
	b.reads++
	return b.Reader.Read(p)
}

func (b *replyBody) Close() error {
	b.closed = true
	return nil
}

// replyOf returns a reply with a body and headers given as name and value.
func replyOf(body io.Reader, length int64, headers ...string) (*http.Response, *replyBody) {
	h := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		h.Add(headers[i], headers[i+1])
	}
	b := &replyBody{Reader: body}
	return &http.Response{StatusCode: http.StatusOK, Header: h, Body: b, ContentLength: length}, b
}

func TestReadReply(t *testing.T) {
	t.Parallel()
	text := `{"data":[` + strings.Repeat("0.123,", 20_000) + `1]}`
	jsonOf := map[string]string{"Content-Type": "application/json"}
	tests := map[string]struct {
		body    string
		chunked bool
		headers []string
		want    string
		// left are the headers that describe the result.
		left map[string]string
	}{
		"a body of known length":        {body: text, want: text},
		"a chunked body":                {body: text, chunked: true, want: text},
		"an empty body":                 {},
		"an empty chunked body":         {chunked: true},
		"the coding identity":           {body: "[]", headers: []string{"Content-Encoding", "identity"}, want: "[]"},
		"gzip":                          {body: gzipOf(text), headers: []string{"Content-Encoding", "gzip"}, want: text},
		"gzip by its old name":          {body: gzipOf(text), headers: []string{"Content-Encoding", " X-GZIP"}, want: text},
		"chunked gzip":                  {body: gzipOf(text), chunked: true, headers: []string{"Content-Encoding", "GZip"}, want: text},
		"gzip of several members":       {body: gzipOf(text[:9]) + gzipOf("") + gzipOf(text[9:]), headers: []string{"Content-Encoding", "gzip"}, want: text},
		"gzip of nothing":               {body: gzipOf(""), headers: []string{"Content-Encoding", "gzip"}},
		"zstd":                          {body: zstdOf(text), headers: []string{"Content-Encoding", "zstd"}, want: text},
		"zstd of a known size":          {body: zstdSized(text), headers: []string{"Content-Encoding", "zstd"}, want: text},
		"zstd of several frames":        {body: zstdSized(text[:9]) + zstdOf(text[9:]), headers: []string{"Content-Encoding", "zstd"}, want: text},
		"zstd with a frame to skip":     {body: "\x50\x2a\x4d\x18\x02\x00\x00\x00xx" + zstdOf(text), headers: []string{"Content-Encoding", "zstd"}, want: text},
		"zstd and identity":             {body: zstdOf(text), headers: []string{"Content-Encoding", "zstd", "Content-Encoding", "identity"}, want: text},
		"zstd that packs very well":     {body: zstdOf(strings.Repeat(" ", 900_000)), headers: []string{"Content-Encoding", "zstd"}, want: strings.Repeat(" ", 900_000)},
		"MessagePack":                   {body: "\x81\xa1a\x01", headers: []string{"Content-Type", "application/msgpack"}, want: `{"a":1}`, left: jsonOf},
		"MessagePack by another name":   {body: "\xc0", headers: []string{"Content-Type", "Application/X-Msgpack; charset=binary"}, want: "null", left: jsonOf},
		"MessagePack by a vendor":       {body: "\xc0", headers: []string{"Content-Type", "application/vnd.msgpack"}, want: "null", left: jsonOf},
		"MessagePack in zstd":           {body: zstdOf("\x90"), headers: []string{"Content-Type", "application/msgpack", "Content-Encoding", "zstd"}, want: "[]", left: jsonOf},
		"JSON is not looked into":       {body: "\x90", headers: []string{"Content-Type", "application/json"}, want: "\x90", left: jsonOf},
		"other types are left as it is": {body: "\x90", headers: []string{"Content-Type", "application/octet-stream"}, want: "\x90", left: map[string]string{"Content-Type": "application/octet-stream"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			length := int64(len(test.body))
			if test.chunked {
				length = -1
			}
			m := NewMemory(8 << 20)
			resp, body := replyOf(strings.NewReader(test.body), length, test.headers...)
			got, err := readReply(resp, replyLimits{MaxBody: 1 << 20, Memory: m})
			if err != nil {
				t.Fatal(err)
			}
			if string(got.b) != test.want {
				t.Errorf("got %d bytes %.80q, want %d bytes %.80q", len(got.b), got.b, len(test.want), test.want)
			}
			if m.Used() < int64(len(got.b)) {
				t.Errorf("%d bytes are reserved for %d", m.Used(), len(got.b))
			}
			if !body.closed {
				t.Error("the body was not closed")
			}
			if coding := resp.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
				t.Errorf("the header still says %s", coding)
			}
			for name, value := range test.left {
				if got := resp.Header.Get(name); got != value {
					t.Errorf("%s is %q, want %q", name, got, value)
				}
			}
			got.release()
			if used := m.Used(); used != 0 {
				t.Errorf("%d bytes are still reserved", used)
			}
		})
	}
}

func TestReadReplyFaults(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	gz, zs := gzipOf("some text"), zstdOf("some text")
	broken := errors.New("broken")
	tests := map[string]struct {
		body    io.Reader
		length  int64
		headers []string
		// want is found in the error, which is a ReplyError.
		want error
	}{
		"a body that is declared too large":  {body: strings.NewReader(""), length: limit + 1, want: errTooLarge},
		"a body that turns out too large":    {body: zeros(limit + 1), length: -1, want: errTooLarge},
		"a body that never ends":             {body: zeros(1 << 60), length: -1, want: errTooLarge},
		"a body that is shorter than said":   {body: strings.NewReader("{}"), length: 3, want: io.ErrUnexpectedEOF},
		"a body that is longer than said":    {body: strings.NewReader("{}  "), length: 3, want: errTooLong},
		"a connection that breaks":           {body: iotest.ErrReader(broken), length: 3, want: broken},
		"a chunked body that breaks":         {body: io.MultiReader(zeros(99_999), iotest.ErrReader(broken)), length: -1, want: broken},
		"an unknown coding":                  {body: strings.NewReader("x"), length: 1, headers: []string{"Content-Encoding", "br"}},
		"two codings in one line":            {body: strings.NewReader("x"), length: 1, headers: []string{"Content-Encoding", "gzip, zstd"}},
		"two codings in two lines":           {body: strings.NewReader("x"), length: 1, headers: []string{"Content-Encoding", "gzip", "Content-Encoding", "gzip"}},
		"gzip of no bytes":                   {length: 0, headers: []string{"Content-Encoding", "gzip"}, want: io.ErrUnexpectedEOF},
		"gzip that is none":                  {body: strings.NewReader("some text"), length: 9, headers: []string{"Content-Encoding", "gzip"}},
		"gzip that breaks off":               {body: strings.NewReader(gz[:len(gz)-9]), length: -1, headers: []string{"Content-Encoding", "gzip"}, want: io.ErrUnexpectedEOF},
		"gzip with a wrong checksum":         {body: strings.NewReader(gz[:len(gz)-8] + "12345678"), length: -1, headers: []string{"Content-Encoding", "gzip"}},
		"gzip with a byte behind it":         {body: strings.NewReader(gz + "x"), length: -1, headers: []string{"Content-Encoding", "gzip"}},
		"gzip with a text behind it":         {body: strings.NewReader(gz + "some more text behind it"), length: -1, headers: []string{"Content-Encoding", "gzip"}},
		"gzip with half a header behind it":  {body: strings.NewReader(gz + "\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\xffname"), length: -1, headers: []string{"Content-Encoding", "gzip"}, want: io.ErrUnexpectedEOF},
		"a gzip bomb":                        {body: strings.NewReader(gzipOf(strings.Repeat("\x00", 8*limit))), length: -1, headers: []string{"Content-Encoding", "gzip"}, want: errTooLarge},
		"a gzip bomb that lies about itself": {body: strings.NewReader(gzipOf(strings.Repeat("\x00", 8*limit)) + gzipOf("")), length: -1, headers: []string{"Content-Encoding", "gzip"}, want: errTooLarge},
		"zstd of no bytes":                   {length: 0, headers: []string{"Content-Encoding", "zstd"}, want: io.ErrUnexpectedEOF},
		"zstd that is none":                  {body: strings.NewReader("some text"), length: 9, headers: []string{"Content-Encoding", "zstd"}},
		"zstd that breaks off":               {body: strings.NewReader(zs[:len(zs)-5]), length: -1, headers: []string{"Content-Encoding", "zstd"}, want: io.ErrUnexpectedEOF},
		"zstd with a wrong checksum":         {body: strings.NewReader(zs[:len(zs)-4] + "1234"), length: -1, headers: []string{"Content-Encoding", "zstd"}},
		"zstd with a byte behind it":         {body: strings.NewReader(zs + "x"), length: -1, headers: []string{"Content-Encoding", "zstd"}},
		"zstd with three bytes behind it":    {body: strings.NewReader(zs + "\x28\xb5\x2f"), length: -1, headers: []string{"Content-Encoding", "zstd"}},
		"zstd with a text behind it":         {body: strings.NewReader(zs + "some more text behind it"), length: -1, headers: []string{"Content-Encoding", "zstd"}},
		"a zstd bomb":                        {body: strings.NewReader(zstdOf(strings.Repeat("\x00", 8*limit))), length: -1, headers: []string{"Content-Encoding", "zstd"}, want: errTooLarge},
		"a zstd bomb of a known size":        {body: strings.NewReader(zstdSized(strings.Repeat("\x00", 8*limit))), length: -1, headers: []string{"Content-Encoding", "zstd"}, want: errTooLarge},
		"a zstd bomb behind a small frame":   {body: strings.NewReader(zs + zstdSized(strings.Repeat("\x00", 8*limit))), length: -1, headers: []string{"Content-Encoding", "zstd"}, want: errTooLarge},
		"MessagePack that breaks off":        {body: strings.NewReader("\x92\x01"), length: 2, headers: []string{"Content-Type", "application/msgpack"}},
		"MessagePack that becomes too large": {body: strings.NewReader("\xdb\x00\x08\x00\x00" + strings.Repeat("\x00", 1<<19)), length: -1, headers: []string{"Content-Type", "application/msgpack"}, want: errTooLarge},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.body == nil {
				test.body = strings.NewReader("")
			}
			// What was packed, the content and one growth of it are all that is
			// ever held.
			m := NewMemory(5 * limit)
			resp, body := replyOf(test.body, test.length, test.headers...)
			got, err := readReply(resp, replyLimits{MaxBody: limit, Memory: m})
			if err == nil {
				t.Fatalf("got %.100q", got.b)
			}
			var fault *ReplyError
			if !errors.As(err, &fault) || fault.Status != http.StatusOK || fault.Err == nil {
				t.Errorf("got the error %#v, want a ReplyError", err)
			}
			if test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("got the error %v, want %v in it", err, test.want)
			}
			if used := m.Used(); used != 0 {
				t.Errorf("%d bytes are still reserved", used)
			}
			if !body.closed {
				t.Error("the body was not closed")
			}
			if test.length > limit && body.reads > 0 {
				t.Error("the body was read although it is too large")
			}
		})
	}
}

// zeros returns a reader of n zero bytes.
func zeros(n int64) io.Reader { return io.LimitReader(zeroReader{}, n) }

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestReadReplyWithoutMemory(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("0123456789", 10_000)
	tests := map[string]struct {
		body    string
		chunked bool
		headers []string
		memory  int64
	}{
		"to read the body":            {body: text, memory: 99_999},
		"to begin a chunked body":     {body: text, chunked: true, memory: 1000},
		"to go on with it":            {body: text, chunked: true, memory: 80_000},
		"to unpack gzip":              {body: gzipOf(text), headers: []string{"Content-Encoding", "gzip"}, memory: 80_000},
		"to unpack zstd":              {body: zstdOf(text), headers: []string{"Content-Encoding", "zstd"}, memory: 80_000},
		"to unpack zstd of its size":  {body: zstdSized(text), headers: []string{"Content-Encoding", "zstd"}, memory: 80_000},
		"to convert MessagePack":      {body: "\xdb\x00\x01\x86\xa0" + text, headers: []string{"Content-Type", "application/msgpack"}, memory: 180_000},
		"to convert MessagePack more": {body: "\xdb\x00\x01\x86\xa0" + strings.Repeat("\x00", 100_000), headers: []string{"Content-Type", "application/msgpack"}, memory: 600_000},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			length := int64(len(test.body))
			if test.chunked {
				length = -1
			}
			m := NewMemory(test.memory)
			resp, body := replyOf(strings.NewReader(test.body), length, test.headers...)
			_, err := readReply(resp, replyLimits{MaxBody: 1 << 20, Memory: m})
			var fault *ReplyError
			if !errors.Is(err, ErrOverloaded) || errors.As(err, &fault) {
				t.Errorf("got the error %v, want that there is no memory", err)
			}
			if used := m.Used(); used != 0 || !body.closed {
				t.Errorf("%d bytes are still reserved, closed is %t", used, body.closed)
			}
			m.limit = 2 << 20
			resp, _ = replyOf(strings.NewReader(test.body), length, test.headers...)
			got, err := readReply(resp, replyLimits{MaxBody: 1 << 20, Memory: m})
			if err != nil {
				t.Fatalf("with more memory: %v", err)
			}
			got.release()
		})
	}
}

func BenchmarkReadReply(b *testing.B) {
	text := strings.Repeat("-0.0123456,", 120_000)
	bodies := map[string]struct {
		body    string
		headers []string
	}{
		"identity": {text, nil},
		"gzip":     {gzipOf(text), []string{"Content-Encoding", "gzip"}},
		"zstd":     {zstdOf(text), []string{"Content-Encoding", "zstd"}},
		"msgpack":  {"\xdd\x00\x01\xd4\xc0" + strings.Repeat("\xca\x3c\x8a\x2b\x11", 120_000), []string{"Content-Type", "application/msgpack"}},
	}
	for name, body := range bodies {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				resp, _ := replyOf(strings.NewReader(body.body), int64(len(body.body)), body.headers...)
				got, err := readReply(resp, replyLimits{MaxBody: 256 << 20})
				if err != nil {
					b.Fatal(err)
				}
				got.release()
			}
		})
	}
}
