package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

// errSimLeft is why a client's context ends.
var errSimLeft = errors.New("the client has left")

// A simRun is a request on its way.
type simRun struct {
	*simRequest
	sim *simulation
	// call is nil until the request was parsed.
	call *Call
	// calls are what the upstreams saw of it, guarded by the mutex of the simulation
	// as long as the request runs. tainted says that one of them may have made the
	// engine take good replies for wrong ones.
	calls   []*simCall
	tainted bool

	start, end time.Duration
	over       bool
	answer     *Answer
	err        error

	simObserver
}

// A simObserver keeps what an engine reports.
type simObserver struct {
	mu        sync.Mutex
	attempts  []Attempt
	retried   []error
	backoffs  []span
	refused   map[Budget]int
	waits     []simWait
	unhealthy int
}

// A simWait is a time in which an attempt waited for its turn at an endpoint.
type simWait struct {
	endpoint *Endpoint
	from, to time.Duration
}

func (r *simRun) Waited(e *Endpoint, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.sim.now()
	r.waits = append(r.waits, simWait{endpoint: e, from: now - wait, to: now})
}

func (r *simRun) Attempted(a Attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attempts = append(r.attempts, a)
}

func (r *simRun) Retrying(_ *Endpoint, wait time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.sim.now()
	r.retried = append(r.retried, err)
	r.backoffs = append(r.backoffs, span{now, now + max(0, wait)})
}

func (r *simRun) Refused(b Budget) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused[b]++
}

func (r *simRun) HealthChanged(e *Endpoint, up bool, _ error) {
	r.mu.Lock()
	r.unhealthy++
	r.mu.Unlock()
	if !up {
		r.sim.checkDown(e)
	}
}

// send sends a request with an engine of its own, which shares with the others
// what engines can share, and checks what becomes of it.
func (s *simulation) send(ctx context.Context, request *simRequest) *simRun {
	r := &simRun{simRequest: request, sim: s, simObserver: simObserver{refused: make(map[Budget]int)}}
	s.mu.Lock()
	s.runs[r.id()] = r
	s.mu.Unlock()
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	if r.cancel > 0 {
		timer := time.AfterFunc(r.cancel, func() { leave(errSimLeft) })
		defer timer.Stop()
	}
	r.start = s.now()
	if r.cancel == 0 {
		leave(errSimLeft)
	}
	s.tracef("%s begins: %d texts, %+v, deadline %v, leaves after %v", r.id(), len(r.texts), r.settings, r.deadline, r.cancel)
	r.answer, r.err = r.do(ctx)
	s.mu.Lock()
	r.end, r.over = s.now(), true
	s.mu.Unlock()
	s.tracef("%s ends after %v: %v", r.id(), r.end-r.start, r.err)
	r.check()
	if r.answer != nil {
		r.answer.Close()
	}
	if r.call != nil {
		r.call.Close()
	}
	return r
}

// id is the id that the request goes by.
func (r *simRequest) id() string { return fmt.Sprint("r", r.number) }

// simDeadline is where clients' deadlines come from.
const simDeadline = "the client's deadline"

// do is [Engine.Do], but keeps the call.
func (r *simRun) do(ctx context.Context) (*Answer, error) {
	req := &Request{
		Path:     "/v1/embeddings",
		Body:     r.body(),
		Settings: r.settings,
		ID:       r.id(),
	}
	if r.deadline != 0 {
		req.Deadline, req.DeadlineName = time.Now().Add(r.deadline), simDeadline
	}
	e := New(Options{Memory: r.sim.memory, Observer: r})
	call, err := e.Prepare(req)
	if err != nil {
		return nil, err
	}
	r.sim.mu.Lock()
	r.call = call
	r.sim.mu.Unlock()
	return e.Run(ctx, Destination{Group: r.sim.group, Transport: r.sim}, call)
}

// itemsOf returns how many texts a batch holds.
func (r *simRequest) itemsOf(batch int) int {
	return max(0, min(r.settings.BatchSize, len(r.texts)-batch*r.settings.BatchSize))
}

// checkAnswer holds the answer against what the texts must become.
func (r *simRun) checkAnswer() error {
	var got, want bytes.Buffer
	if _, err := r.answer.WriteTo(&got); err != nil {
		return err
	}
	tokens := 0
	want.WriteString(`{"object":"list","data":[`)
	for i, text := range r.texts {
		vector := enginetest.Vector(text, simDims)
		if r.base64 {
			vector = enginetest.Base64Vector(text, simDims)
		}
		if i > 0 {
			want.WriteByte(',')
		}
		fmt.Fprintf(&want, `{"object":"embedding","index":%d,"embedding":%s}`, i, vector)
		tokens += enginetest.Tokens(text)
	}
	want.WriteString("],")
	rest, ok := bytes.CutPrefix(got.Bytes(), want.Bytes())
	if !ok {
		return fmt.Errorf("the results are\n%.2000s\nwant\n%.2000s", got.Bytes(), want.Bytes())
	}
	var tail struct {
		Model string
		Usage struct {
			Prompt int `json:"prompt_tokens"`
			Total  int `json:"total_tokens"`
		}
		Metadata struct {
			Batches int       `json:"batch_count"`
			Times   []float64 `json:"individual_request_times"`
			ID      string    `json:"customer_request_id"`
		} `json:"proxy_metadata"`
	}
	if err := json.Unmarshal(append([]byte("{"), rest...), &tail); err != nil {
		return fmt.Errorf("behind the results stands %s: %w", rest, err)
	}
	switch batches := r.batches(); {
	case tail.Model != fmt.Sprint("model-", r.number):
		return fmt.Errorf("the model is %q", tail.Model)
	case tail.Usage.Prompt != tokens || tail.Usage.Total != tokens:
		return fmt.Errorf("the usage is %+v, want %d tokens", tail.Usage, tokens)
	case tail.Metadata.Batches != batches || len(tail.Metadata.Times) != batches || len(r.answer.Batches) != batches:
		return fmt.Errorf("the metadata is %+v, want %d batches", tail.Metadata, batches)
	case tail.Metadata.ID != r.id():
		return fmt.Errorf("the id is %q", tail.Metadata.ID)
	}
	return nil
}
