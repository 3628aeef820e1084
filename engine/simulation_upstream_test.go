package engine

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

// simDims is the length of the vectors.
const simDims = 4

// simURL is the URL of an endpoint.
func simURL(number int) *url.URL {
	return &url.URL{Scheme: "http", Host: "e" + strconv.Itoa(number) + ".test"}
}

// A simUpstream is the model server behind an endpoint. Its fields are guarded by
// the mutex of the simulation.
type simUpstream struct {
	simEndpoint
	sim      *simulation
	number   int
	endpoint *Endpoint

	arrived         int // calls so far
	requests, items int // in flight, from the call to the closing of the reply's body
	working         int // items that are being worked on, of the calls that were not refused
	calls           []*simCall
}

// A simCall is an attempt or a copy as the upstream sees it. All times are since
// the start of the simulation.
type simCall struct {
	run      *simRun
	id       attemptID
	upstream *simUpstream
	items    int
	start    time.Duration
	// end is when the attempt was over, which over says.
	end  time.Duration
	over bool
	// working says that the call takes a part of the capacity.
	working bool
	// ending is what the engine got, status with which status.
	ending ending
	status int
	// retryAfter is the header that came with the status, empty for one that is
	// none. notBefore is what it asks for, zero when it asks for nothing.
	retryAfter string
	notBefore  time.Duration
	// taints and brokeOff are those of the plan.
	taints, brokeOff bool
	// attempt is the call by which the attempt began, the call itself if it is no
	// copy.
	attempt *simCall
	// timeoutMS and deadlineMS are the headers of these names.
	timeoutMS, deadlineMS string
}

// RoundTrip brings a request to the upstream of its host.
func (s *simulation) RoundTrip(req *http.Request) (*http.Response, error) {
	number, _ := strconv.Atoi(strings.TrimSuffix(req.URL.Host[1:], ".test"))
	u := s.upstreams[number]
	if req.Method == http.MethodGet {
		return u.checked(req)
	}
	c := u.called(req)
	plan := &simPlan{}
	server := enginetest.New()
	server.Dims = simDims
	server.Script = func(call *enginetest.Call) []enginetest.Fault {
		plan = u.arrive(c, call.Items)
		return append(plan.faults, enginetest.Delay(plan.delay))
	}
	resp, err := server.RoundTrip(req)
	return c.reply(req.Context(), plan, resp, err)
}

// checked answers an active check.
func (u *simUpstream) checked(req *http.Request) (*http.Response, error) {
	u.sim.mu.Lock()
	defer u.sim.mu.Unlock()
	status := http.StatusOK
	for _, span := range u.downs {
		if now := u.sim.now(); now >= span.from && now < span.to && !u.sim.healed {
			status = http.StatusServiceUnavailable
		}
	}
	return respond(req, status, ""), nil
}

// called takes note of a call.
func (u *simUpstream) called(req *http.Request) *simCall {
	s := u.sim
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &simCall{
		upstream:   u,
		start:      s.now(),
		timeoutMS:  req.Header.Get("Request-Timeout-Ms"),
		deadlineMS: req.Header.Get("Request-Deadline-Ms"),
	}
	id := req.Header.Get("X-Baseten-Customer-Request-Id")
	parts := strings.Split(id, "-")
	if len(parts) == 5 && parts[3] == "hedge" {
		c.id.copy, _ = strconv.Atoi(parts[4])
		parts = parts[:3]
	}
	c.run = s.runs[parts[0]]
	if len(parts) == 3 {
		c.id.batch, _ = strconv.Atoi(parts[1])
		c.id.attempt, _ = strconv.Atoi(parts[2])
	}
	if c.run == nil || id != parts[0]+c.id.suffix() {
		panic("a call has the id " + id)
	}
	c.items = c.run.itemsOf(c.id.batch)
	c.attempt = c
	for _, first := range c.run.calls {
		if first.id == (attemptID{batch: c.id.batch, attempt: c.id.attempt}) {
			c.attempt = first
		}
	}
	u.calls = append(u.calls, c)
	c.run.calls = append(c.run.calls, c)
	u.requests++
	u.items += c.items
	s.note(c, "sent, %d items", c.items)
	u.checkLimits()
	u.checkQueue()
	c.run.checkBudgets()
	return c
}

// arrive decides what becomes of a call that carries these items.
func (u *simUpstream) arrive(c *simCall, items []string) *simPlan {
	u.sim.mu.Lock()
	defer u.sim.mu.Unlock()
	if len(items) != c.items {
		u.sim.failf(c.run, "split", "batch %d holds %d items, want %d", c.id.batch, len(items), c.items)
	}
	crowded := u.capacity > 0 && u.working+len(items) > u.capacity
	p := u.plan(newDice(u.sim.seed, uint64(u.number), uint64(u.arrived)), c, items, crowded)
	u.arrived++
	if p.ending != refusing {
		c.working = true
		u.working += c.items
	}
	if crowded {
		u.sim.counts.add("calls over the capacity", 1)
	}
	c.taints, c.brokeOff = p.taints, p.brokeOff
	c.run.tainted = c.run.tainted || p.taints
	return p
}

// reply brings what was planned, unless the call has ended before.
func (c *simCall) reply(ctx context.Context, p *simPlan, resp *http.Response, err error) (*http.Response, error) {
	switch {
	case err != nil && ctx.Err() != nil:
		c.finish(unanswered)
		return nil, err
	case err != nil:
		c.finish(p.ending)
		return nil, err
	case p.err != nil && ctx.Err() != nil:
		c.finish(unanswered)
		return nil, p.err
	case p.err != nil:
		c.finish(p.ending)
		return nil, p.err
	case p.ending == panicking && resp.ContentLength >= 0:
		c.finish(p.ending)
		panic("a panic of the transport")
	}
	resp.Body = &simBody{ReadCloser: resp.Body, ctx: ctx, call: c, plan: p}
	return resp, nil
}

// finish takes note of how a call ended. It may be called more than once.
func (c *simCall) finish(how ending) {
	s := c.upstream.sim
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.over {
		return
	}
	c.over, c.end, c.ending = true, s.now(), how
	c.upstream.requests--
	c.upstream.items -= c.items
	if c.working {
		c.upstream.working -= c.items
	}
	s.note(c, "%v %d %s", how, c.status, c.retryAfter)
	s.counts.add("calls: "+how.String(), 1)
	c.upstream.checkQueue()
	c.run.checkBudgets()
}

// A simBody is the body of a reply, which ends a call.
type simBody struct {
	io.ReadCloser
	ctx  context.Context
	call *simCall
	plan *simPlan
	// whole says that it was read to its end, which may be a premature one.
	whole bool
}

func (b *simBody) Read(p []byte) (int, error) {
	if b.plan.ending == panicking {
		panic("a panic of a body")
	}
	n, err := b.ReadCloser.Read(p)
	// The cause of the end of the context may be an error like these in another
	// batch.
	if err == io.EOF || err == io.ErrUnexpectedEOF { //nolint:errorlint // see above
		b.whole = true
	}
	return n, err
}

func (b *simBody) Close() error {
	c, how := b.call, b.plan.ending
	switch {
	case how == refusing:
		// The status is known, however much of the body is.
		c.asked(b.plan)
	case !b.whole && b.ctx.Err() != nil && how != panicking && how != redirecting:
		how = unanswered
	}
	c.finish(how)
	return b.ReadCloser.Close()
}

// asked takes note of a status and when its Retry-After asks to come again.
func (c *simCall) asked(p *simPlan) {
	c.upstream.sim.mu.Lock()
	defer c.upstream.sim.mu.Unlock()
	c.status, c.retryAfter = p.status, p.retryAfter
	now := c.upstream.sim.now()
	if seconds, err := strconv.Atoi(p.retryAfter); err == nil {
		c.notBefore = now + time.Duration(seconds)*time.Second
	} else if date, err := http.ParseTime(p.retryAfter); err == nil {
		c.notBefore = date.Sub(c.upstream.sim.start)
	}
}
