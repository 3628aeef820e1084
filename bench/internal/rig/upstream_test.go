package rig

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

// start starts a model server that ends with the test.
func start(t *testing.T, o UpstreamOptions) *Upstream {
	t.Helper()
	u, err := StartUpstream(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	})
	return u
}

// askOnce asks a server of the given protocol for two vectors over a connection
// of its own, and checks them.
func askOnce(t *testing.T, u *Upstream, h2c bool) error {
	t.Helper()
	client := NewClient("http://"+u.Address(), h2c)
	defer client.Close()
	items := []string{"a", "b"}
	answer, err := client.Do(t.Context(), Request{ID: "r1", Items: items})
	if err != nil {
		return err
	}
	if answer.Status != http.StatusOK {
		t.Fatalf("status %d: %s", answer.Status, answer.Body)
	}
	return CheckEmbeddings(answer.Body, items, Exact)
}

func TestUpstreamIsKilledAndComesBack(t *testing.T) {
	t.Parallel()
	for name, h2c := range map[string]bool{"HTTP/1.1": false, "h2c": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			arrived, release := make(chan struct{}), make(chan struct{})
			u := start(t, UpstreamOptions{H2C: h2c, Script: func(c *enginetest.Call) ([]enginetest.Fault, func()) {
				if c.Header.Get(headerRequestID) == "held" {
					close(arrived)
					return []enginetest.Fault{enginetest.Hold(release)}, nil
				}
				return nil, nil
			}})
			if err := askOnce(t, u, h2c); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error)
			go func() {
				client := NewClient("http://"+u.Address(), h2c)
				defer client.Close()
				_, err := client.Do(t.Context(), Request{ID: "held", Items: []string{"a"}})
				ended <- err
			}()
			<-arrived
			u.Kill()
			if _, ok := errors.AsType[*UnansweredError](<-ended); !ok {
				t.Error("a call outlives its server")
			}
			if err := askOnce(t, u, h2c); err == nil {
				t.Error("it answers although it is dead")
			}
			if err := u.Restart(); err != nil {
				t.Fatal(err)
			}
			if err := askOnce(t, u, h2c); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestUpstreamSpeaksItsProtocolOnly(t *testing.T) {
	t.Parallel()
	for name, h2c := range map[string]bool{"HTTP/1.1": false, "h2c": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := askOnce(t, start(t, UpstreamOptions{H2C: h2c}), !h2c); err == nil {
				t.Error("it speaks the other one, too")
			}
		})
	}
}

func TestScriptIsToldOfTheEnd(t *testing.T) {
	t.Parallel()
	var done atomic.Int64
	u := start(t, UpstreamOptions{Script: func(*enginetest.Call) ([]enginetest.Fault, func()) {
		return nil, func() { done.Add(1) }
	}})
	for want := int64(1); want <= 3; want++ {
		if err := askOnce(t, u, false); err != nil {
			t.Fatal(err)
		}
		if got := done.Load(); got != want {
			t.Errorf("the ends of %d calls were told, want %d", got, want)
		}
	}
}

func TestClientSeesHowAnswersEnd(t *testing.T) {
	t.Parallel()
	var unanswered *UnansweredError
	var broken *BrokenOffError
	var wrong *WrongAnswerError
	for name, test := range map[string]struct {
		fault enginetest.Fault
		want  any
	}{
		"a connection that is dropped": {enginetest.Drop(), &unanswered},
		"an answer that is cut":        {enginetest.CutAt(50), &broken},
		"an answer that is wrong":      {enginetest.Missing(0), &wrong},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := start(t, UpstreamOptions{Script: func(*enginetest.Call) ([]enginetest.Fault, func()) {
				return []enginetest.Fault{test.fault}, nil
			}})
			if err := askOnce(t, u, false); !errors.As(err, test.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestUploadIsWrapped(t *testing.T) {
	t.Parallel()
	u := start(t, UpstreamOptions{})
	client := NewClient("http://"+u.Address(), false)
	defer client.Close()
	stop := errors.New("stop")
	_, err := client.Do(t.Context(), Request{ID: "r1", Items: []string{"a"}, Upload: func(io.Reader) io.Reader {
		return failing{stop}
	}})
	if !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
