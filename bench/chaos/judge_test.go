package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/bench/internal/rig"
	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

// judgeOf returns a judge that knows of the request r1, two calls of which were
// answered.
func judgeOf(bad bool, statuses ...int) *judge {
	c := newChaos(options{})
	c.ledger.begin("r1", bad)
	for _, status := range statuses {
		c.ledger.called(rig.CallID{Request: "r1"}, status, false)
	}
	return c.judge
}

// answer makes an answer: the right vectors of the texts, or an error.
func answer(status, upstream int, texts ...string) *rig.Answer {
	header := http.Header{"Content-Type": {"application/json"}, "Retry-After": {"1"}}
	if status != http.StatusOK {
		return &rig.Answer{Status: status, Header: header, Body: fmt.Appendf(nil,
			`{"error":"no","path":"/v1/embeddings","method":"Post","customer_request_id":"r1","upstream_status":%d}`, upstream)}
	}
	var entries []string
	tokens := 0
	for i, text := range texts {
		entries = append(entries, fmt.Sprintf(`{"index":%d,"embedding":%s}`, i, enginetest.Vector(text, enginetest.New().Dims)))
		tokens += enginetest.Tokens(text)
	}
	return &rig.Answer{Status: status, Header: header, Body: fmt.Appendf(nil,
		`{"data":[%s],"usage":{"total_tokens":%d}}`, strings.Join(entries, ","), tokens)}
}

func TestJudgeAnswers(t *testing.T) {
	t.Parallel()
	const right, status, json = "every 200 is right", "every error has a status", "every error is JSON"
	for name, test := range map[string]struct {
		bad      bool
		sent     []int
		answer   *rig.Answer
		violated string // the beginning of a rule
	}{
		"the right vectors":                     {sent: []int{200}, answer: answer(200, 0, "a", "b")},
		"a vector of another text":              {sent: []int{200}, answer: answer(200, 0, "a", "c"), violated: right},
		"a vector too few":                      {sent: []int{200}, answer: answer(200, 0, "a"), violated: right},
		"a bad request is refused":              {bad: true, answer: answer(400, 0)},
		"a bad request is answered":             {bad: true, answer: answer(200, 0, "a", "b"), violated: "a bad request gets 400"},
		"a bad request gets another error":      {bad: true, answer: answer(502, 0), violated: status},
		"a good request is refused":             {answer: answer(400, 0), violated: status},
		"what an upstream said":                 {sent: []int{429}, answer: answer(429, 429)},
		"what no upstream said":                 {sent: []int{200}, answer: answer(429, 429), violated: status},
		"another status than the upstream's":    {sent: []int{422}, answer: answer(429, 422), violated: status},
		"an upstream that failed":               {sent: []int{500}, answer: answer(502, 500)},
		"an upstream that did not fail so":      {sent: []int{200}, answer: answer(502, 500), violated: status},
		"an upstream that could not be reached": {answer: answer(502, 0)},
		"too late":                              {answer: answer(504, 0)},
		"overloaded":                            {answer: answer(503, 0)},
		"a bug":                                 {answer: answer(500, 0), violated: status},
		"an error that is no JSON":              {answer: &rig.Answer{Status: 502, Header: http.Header{}}, violated: json},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := judgeOf(test.bad, test.sent...)
			j.answered(plan{Request: rig.Request{ID: "r1", Items: []string{"a", "b"}}, bad: test.bad}, test.answer)
			expect(t, j.tally, test.violated)
		})
	}
}

// expect fails the test unless exactly the rule was violated that begins so, or
// none.
func expect(t *testing.T, tally *tally, rule string) {
	t.Helper()
	want := 0
	if rule != "" {
		want = 1
	}
	if n := tally.rulesBroken(); n != want {
		t.Errorf("%d rules were violated, want %d: %v", n, want, tally.violations)
	}
	for broken := range tally.broken {
		if !strings.HasPrefix(broken, rule) {
			t.Errorf("violated: %s", broken)
		}
	}
}

func TestJudgeDeadlines(t *testing.T) {
	t.Parallel()
	const rule = "every answer comes within its deadline"
	for name, test := range map[string]struct {
		took     time.Duration
		stalled  time.Duration // after the deadline
		violated string
	}{
		"in time":                       {took: time.Second},
		"a little later":                {took: time.Second + lateAnswer/2},
		"more than a bit":               {took: time.Second + 2*lateAnswer, violated: rule},
		"after a long time":             {took: time.Hour, violated: rule},
		"while the machine was stalled": {took: time.Second + 2*lateAnswer, stalled: 2 * lateAnswer},
		"later than the stall explains": {took: time.Second + 3*lateAnswer, stalled: lateAnswer, violated: rule},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := judgeOf(false)
			a := answer(504, 0)
			a.Took = test.took
			due := time.Now().Add(time.Second - test.took)
			j.answered(plan{Request: rig.Request{ID: "r1"}, deadline: time.Second}, a)
			var s stalls
			s.add(span{due.Add(-time.Hour), due.Add(-time.Minute)})
			s.add(span{due, due.Add(test.stalled)})
			j.late.judge(j.tally, &s)
			expect(t, j.tally, test.violated)
		})
	}
}

func TestJudgeClosedConnections(t *testing.T) {
	t.Parallel()
	start := time.Now()
	reload := span{start.Add(time.Minute), start.Add(time.Minute + time.Second)}
	const rule = "a connection is closed without an answer only by a reload"
	for name, test := range map[string]struct {
		when     span
		calls    int
		logged   bool
		violated string
	}{
		"during a reload":                {when: span{reload.from, reload.to}},
		"sent before it":                 {when: span{reload.from.Add(-time.Second), reload.to}},
		"soon after it":                  {when: span{reload.to, reload.to.Add(time.Second)}},
		"over before it":                 {when: span{start, reload.from.Add(-1)}, violated: rule},
		"long after it":                  {when: span{reload.to.Add(afterReload), reload.to.Add(time.Minute)}, violated: rule},
		"an upstream has seen it":        {when: reload, calls: 1, violated: rule},
		"it was answered, says the log":  {when: reload, logged: true, violated: rule},
		"no reload and seen by upstream": {when: span{start, start}, calls: 1, violated: rule},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := judgeOf(false)
			for range test.calls {
				j.ledger.called(rig.CallID{Request: "r1"}, 0, false)
			}
			if test.logged {
				j.ledger.logged("r1")
			}
			j.reloaded(reload)
			j.failed(plan{Request: rig.Request{ID: "r1"}}, test.when.from, &rig.UnansweredError{Err: errors.New("EOF")})
			j.unanswered[0].when = test.when
			j.judgeUnanswered()
			expect(t, j.tally, test.violated)
		})
	}
}

func TestJudgeBrokenAnswers(t *testing.T) {
	t.Parallel()
	j := judgeOf(false)
	j.failed(plan{Request: rig.Request{ID: "r1"}}, time.Now(), &rig.BrokenOffError{Status: 200, Err: errors.New("EOF")})
	expect(t, j.tally, "no answer breaks off")
}
