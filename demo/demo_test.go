package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// errNoProxy is what a proxy fails to start with.
var errNoProxy = errors.New("no such proxy")

// fakeReply is the answer of a fake proxy, which a test may spoil.
type fakeReply struct {
	Object string            `json:"object"`
	Data   []json.RawMessage `json:"data"`
}

// splitting returns a proxy that embeds 32 texts at a time and joins the answers
// with right indexes, and then spoils them.
func splitting(spoil func(*fakeReply)) func(target string) http.Handler {
	return func(target string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var body struct{ Input []string }
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			reply := fakeReply{Object: "list"}
			c := newClient()
			defer c.close()
			for len(body.Input) > 0 {
				batch := body.Input[:min(32, len(body.Input))]
				body.Input = body.Input[len(batch):]
				request, _ := requestBody(batch)
				answer, err := c.embed(r.Context(), target, request)
				if err != nil {
					http.Error(w, err.Error(), http.StatusBadGateway)
					return
				}
				entries, err := parseAnswer(answer, len(batch))
				if err != nil {
					http.Error(w, err.Error(), http.StatusBadGateway)
					return
				}
				for _, e := range entries {
					*e.Index = len(reply.Data)
					raw, _ := json.Marshal(e)
					reply.Data = append(reply.Data, raw)
				}
			}
			if spoil != nil {
				spoil(&reply)
			}
			_ = json.NewEncoder(w).Encode(reply)
		})
	}
}

// passing returns a proxy that passes everything through as it is.
func passing(target string) http.Handler {
	address, err := url.Parse(target)
	if err != nil {
		panic(err)
	}
	return httputil.NewSingleHostReverseProxy(address)
}

// answering returns a proxy that gives one answer to everything.
func answering(status int, body string) func(target string) http.Handler {
	return func(string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		})
	}
}

// start returns what Options.Proxy must be for a proxy, and whether it was
// stopped.
func start(proxy func(target string) http.Handler) (func(context.Context, string) (string, func(), error), *atomic.Bool) {
	stopped := new(atomic.Bool)
	return func(_ context.Context, target string) (string, func(), error) {
		server := httptest.NewServer(proxy(target))
		return server.URL, func() {
			server.Close()
			stopped.Store(true)
		}, nil
	}, stopped
}

// changeDigit changes the last digit of one vector.
func changeDigit(i int) func(*fakeReply) {
	return func(r *fakeReply) {
		end := bytes.IndexByte(r.Data[i], ']') - 1
		if r.Data[i][end] == '1' {
			r.Data[i][end] = '2'
		} else {
			r.Data[i][end] = '1'
		}
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	return lines[len(lines)-1]
}

func TestRunOnce(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		proxy   func(target string) http.Handler
		same    int // of 100; negative when it does not come to a summary
		message string
	}{
		"a proxy that splits and joins": {splitting(nil), 100, ""},
		"a proxy that changes one digit": {
			splitting(changeDigit(70)), 99,
			"1 of 100 vectors that came through the proxy are not the model server's",
		},
		"a proxy that changes the first and the last vector": {
			splitting(func(r *fakeReply) { changeDigit(0)(r); changeDigit(99)(r) }), 98,
			"2 of 100 vectors that came through the proxy are not the model server's",
		},
		"a proxy that prints a number in another way": {
			splitting(func(r *fakeReply) {
				r.Data[5] = bytes.Replace(r.Data[5], []byte("0."), []byte("0.0e0"), 1)
				r.Data[6] = bytes.Replace(r.Data[6], []byte(","), []byte("0,"), 1)
			}), 98,
			"2 of 100 vectors that came through the proxy are not the model server's",
		},
		"a proxy that gives two vectors in the wrong order": {
			splitting(func(r *fakeReply) { r.Data[3], r.Data[4] = r.Data[4], r.Data[3] }), 98,
			"2 of 100 vectors that came through the proxy are not the model server's",
		},
		"a proxy that leaves the indexes of the batches": {
			splitting(func(r *fakeReply) {
				for i := 32; i < 64; i++ {
					r.Data[i] = bytes.Replace(r.Data[i], []byte(`"index":`), []byte(`"index":0,"was":`), 1)
				}
			}), 68,
			"32 of 100 vectors that came through the proxy are not the model server's",
		},
		"a proxy that leaves out an index": {
			splitting(func(r *fakeReply) {
				r.Data[0] = bytes.Replace(r.Data[0], []byte(`"index"`), []byte(`"place"`), 1)
			}), 99,
			"1 of 100 vectors that came through the proxy are not the model server's",
		},
		"a proxy that loses a vector": {
			splitting(func(r *fakeReply) { r.Data = r.Data[:99] }), -1,
			"reading the proxy's answer: it holds 99 vectors for 100 texts",
		},
		"a proxy that does not split": {
			passing, -1,
			"embedding 100 texts through the proxy: status 422: batch size 100 > maximum allowed batch size 32",
		},
		"a proxy with an error of its own": {
			answering(502, `{"error":"upstream went away","path":"/v1/embeddings","method":"Post"}`), -1,
			"embedding 100 texts through the proxy: status 502: upstream went away",
		},
		"a proxy that answers in plain text": {
			answering(503, "not\nnow\n"), -1,
			"embedding 100 texts through the proxy: status 503: not now",
		},
		"a proxy that answers no JSON": {
			answering(200, "<html>"), -1,
			"reading the proxy's answer: invalid character '<' looking for beginning of value",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			proxy, stopped := start(test.proxy)
			err := Run(t.Context(), Options{Out: &out, Once: true, Texts: 100, Proxy: proxy})
			switch {
			case test.message == "" && err != nil:
				t.Errorf("it fails: %v", err)
			case test.message != "" && (err == nil || err.Error() != test.message):
				t.Errorf("it fails with %v, want %s", err, test.message)
			}
			var mismatch *MismatchError
			if test.same >= 0 && test.same < 100 && (!errors.As(err, &mismatch) || mismatch.Same != test.same || mismatch.Total != 100) {
				t.Errorf("the error is %#v", err)
			}
			if !stopped.Load() {
				t.Error("the proxy still runs")
			}
			checkOutput(t, out.String(), test.same)
		})
	}
}

// checkOutput checks what a run over 100 texts wrote, with a summary if same is
// not negative.
func checkOutput(t *testing.T, out string, same int) {
	t.Helper()
	const refused = "direct, in one request                    1        -  refused with 422: batch size 100 > maximum allowed batch size 32\n"
	const batches = "direct, 32 at a time, one by one          4     0."
	for _, want := range []string{refused, batches} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "\r") {
		t.Errorf("it draws a progress bar without a terminal:\n%q", out)
	}
	want := []string{"digit for digit the same", "times faster"}
	if same < 0 {
		return
	}
	if last := lastLine(out); !strings.HasPrefix(last, strconv.Itoa(same)+" of 100 vectors "+want[0]+", ") || !strings.HasSuffix(last, want[1]) {
		t.Errorf("the last line is %q", last)
	}
}

func TestAProgressBarIsDrawnOnATerminal(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	proxy, _ := start(splitting(nil))
	if err := Run(t.Context(), Options{Out: &out, Terminal: true, Once: true, Texts: 64, Proxy: proxy}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\rdirect [", "\rproxy  [", "/64\r\x1b[K"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q: %q", want, out.String())
		}
	}
	if last := lastLine(out.String()); !strings.HasPrefix(last, "64 of 64 vectors") {
		t.Errorf("the last line is %q", last)
	}
}

func TestSmallRunsAreNotRefused(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	proxy, _ := start(passing)
	if err := Run(t.Context(), Options{Out: &out, Once: true, Texts: 32, Proxy: proxy}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "refused") || !strings.HasPrefix(lastLine(out.String()), "32 of 32 vectors") {
		t.Errorf("the output is\n%s", out.String())
	}
}

func TestRunFails(t *testing.T) {
	t.Parallel()
	t.Run("when the proxy does not start", func(t *testing.T) {
		t.Parallel()
		err := Run(t.Context(), Options{Out: io.Discard, Proxy: func(context.Context, string) (string, func(), error) {
			return "", nil, errNoProxy
		}})
		if !errors.Is(err, errNoProxy) || err.Error() != "starting the proxy: no such proxy" {
			t.Errorf("it fails with %v", err)
		}
	})
	t.Run("when nothing can be written", func(t *testing.T) {
		t.Parallel()
		reader, writer := io.Pipe()
		_ = reader.Close()
		proxy, _ := start(splitting(nil))
		if err := Run(t.Context(), Options{Out: writer, Texts: 1, Proxy: proxy}); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("it fails with %v", err)
		}
	})
	t.Run("when it is ended before it is done", func(t *testing.T) {
		t.Parallel()
		ctx, end := context.WithCancel(t.Context())
		proxy, stopped := start(func(string) http.Handler {
			return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				end()
				<-r.Context().Done()
			})
		})
		err := Run(ctx, Options{Out: io.Discard, Texts: 1, Proxy: proxy})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("it fails with %v", err)
		}
		if !stopped.Load() {
			t.Error("the proxy still runs")
		}
	})
}

// signalWriter keeps what is written and closes done when the mark is there.
type signalWriter struct {
	mark string
	done chan struct{}

	mu   sync.Mutex
	text strings.Builder
}

func (w *signalWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := strings.Contains(w.text.String(), w.mark)
	w.text.Write(p)
	if !before && strings.Contains(w.text.String(), w.mark) {
		close(w.done)
	}
	return len(p), nil
}

func TestRunStaysUpAndItsCommandsWorkAsPasted(t *testing.T) {
	t.Parallel()
	var upstream string
	requests := make(chan *http.Request, 1)
	bodies := make(chan string, 1)
	answer := splitting(nil)
	proxy, stopped := start(func(target string) http.Handler {
		upstream = target
		embed := answer(target)
		first := true
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if first { // The demonstration's own.
				first = false
				embed.ServeHTTP(w, r)
				return
			}
			body, _ := io.ReadAll(r.Body)
			requests <- r
			bodies <- string(body)
			_, _ = io.WriteString(w, `{"ok":true}`)
		})
	})
	ctx, end := context.WithCancel(t.Context())
	defer end()
	out := &signalWriter{mark: "/health\n", done: make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, Options{Out: out, Texts: 32, Proxy: proxy}) }()
	select {
	case <-out.done:
	case err := <-ended:
		t.Fatalf("it ended with %v", err)
	}

	t.Run("commands", func(t *testing.T) {
		tryCommands(t, out.text.String(), requests, bodies)
	})
	if stopped.Load() {
		t.Error("the proxy was stopped before the end")
	}
	end()
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
	if !stopped.Load() {
		t.Error("the proxy still runs")
	}
	c := newClient()
	defer c.close()
	if _, err := c.embed(t.Context(), upstream, []byte(`{"input":"a"}`)); err == nil {
		t.Error("the model server still runs")
	}
}

// tryCommands runs every command of an output in a shell and checks what arrives
// at the proxy.
func tryCommands(t *testing.T, out string, requests <-chan *http.Request, bodies <-chan string) {
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("there is no shell")
	}
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("there is no curl")
	}
	wants := []struct{ path, header, value, body string }{
		{"/v1/embeddings", "Content-Type", "application/json", `{"input":["Good morning","Guten Morgen"],"dimensions":4}`},
		{"/v1/embeddings", "Content-Type", "application/json", `{"input":["Good morning","Guten Morgen"],"dimensions":4,"encoding_format":"base64"}`},
		{"/v1/embeddings", "X-Baseten-Request-Preferences", `{"batch_size":1}`, `{"input":["one","two","three"],"dimensions":2}`},
		{"/v1/embeddings", "X-Baseten-Customer-Request-Id", "my-request", `{"input":["one","two"]}`},
		{"/health", "Authorization", "", ""},
	}
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "curl ") {
			continue
		}
		if len(wants) == 0 {
			t.Fatalf("one command too many: %s", line)
		}
		want := wants[0]
		wants = wants[1:]
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		printed, err := exec.CommandContext(ctx, shell, "-c", line).Output()
		cancel()
		if err != nil || len(bytes.TrimSpace(printed)) == 0 {
			t.Fatalf("%s: printed %q, %v", line, printed, err)
		}
		request, body := <-requests, <-bodies
		if request.URL.Path != want.path || request.Header.Get(want.header) != want.value || body != want.body {
			t.Errorf("%s: sent %s with the header %q and the body %s", line, request.URL, request.Header.Get(want.header), body)
		}
	}
	if len(wants) > 0 {
		t.Errorf("%d commands too few", len(wants))
	}
}
