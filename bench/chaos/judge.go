package main

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/bench/internal/rig"
)

const (
	// lateAnswer is how long after its deadline an answer may come, on a machine
	// that is busy.
	lateAnswer = 2 * time.Second
	// afterReload is how long after a reload the old server may still close
	// connections on which nothing arrived.
	afterReload = time.Second
)

// A judge says whether answers are what the contract allows. It is safe for
// concurrent use.
type judge struct {
	tally  *tally
	ledger *ledger

	// late are the answers to requests with a deadline.
	late lateness

	mu         sync.Mutex
	unanswered []unanswered
	reloads    []span
}

// newJudge returns a judge.
func newJudge(t *tally, l *ledger) *judge {
	return &judge{tally: t, ledger: l, late: lateness{
		rule: "every answer comes within its deadline", grace: lateAnswer, longest: math.MinInt64,
	}}
}

// unanswered is a request whose connection was closed without an answer.
type unanswered struct {
	id   string
	when span
	err  error
}

// A span is a stretch of time.
type span struct{ from, to time.Time }

// answered judges an answer.
func (j *judge) answered(p plan, a *rig.Answer) {
	j.tally.add("requests", strconv.Itoa(a.Status))
	if p.deadline > 0 {
		now := time.Now()
		due := now.Add(p.deadline - a.Took)
		j.late.note(delay{id: p.ID, what: fmt.Sprintf("%d with a deadline of %v", a.Status, p.deadline), when: span{due, now}})
	}
	if a.Status != http.StatusOK {
		j.refused(p, a)
		return
	}
	if p.bad {
		j.tally.violated("a bad request gets 400", "request %s got 200", p.ID)
	} else if err := rig.CheckEmbeddings(a.Body, p.Items, j.ledger.digits(p.ID)); err != nil {
		j.tally.violated("every 200 is right, vector by vector", "request %s of %d texts with %v: %v", p.ID, len(p.Items), p.Preferences, err)
	}
}

// refused judges an error.
func (j *judge) refused(p plan, a *rig.Answer) {
	failure, err := rig.CheckFailure(a, p.ID)
	if err != nil {
		j.tally.violated("every error is JSON", "request %s: %v", p.ID, err)
		return
	}
	if reason := j.notAllowed(p, a.Status, failure.UpstreamStatus); reason != "" {
		j.tally.violated("every error has a status that the contract allows", "request %s: %s: %.300s", p.ID, reason, a.Body)
	}
}

// notAllowed says why a status is not allowed, and nothing when it is.
func (j *judge) notAllowed(p plan, status, upstream int) string {
	if p.bad != (status == http.StatusBadRequest) {
		return fmt.Sprintf("%d to a request that is bad: %t", status, p.bad)
	}
	if upstream != 0 && !j.ledger.sent(p.ID, upstream) {
		return fmt.Sprintf("no upstream said %d to it", upstream)
	}
	switch status {
	case http.StatusBadRequest, http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		return ""
	case http.StatusTooManyRequests, http.StatusRequestTimeout, http.StatusUnprocessableEntity, http.StatusFailedDependency:
		if status != upstream {
			return fmt.Sprintf("%d is not what an upstream said", status)
		}
		return ""
	}
	return fmt.Sprintf("%d is not in the contract", status)
}

// failed judges a request to which no whole answer came.
func (j *judge) failed(p plan, begun time.Time, err error) {
	var none *rig.UnansweredError
	if !errors.As(err, &none) {
		j.tally.violated("no answer breaks off", "request %s: %v", p.ID, err)
		return
	}
	kind := "unanswered, fresh connection"
	if none.Reused {
		kind = "unanswered, kept connection"
	}
	j.tally.add("requests", kind)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.unanswered = append(j.unanswered, unanswered{id: p.ID, when: span{begun, time.Now()}, err: err})
}

// reloaded notes when a reload was.
func (j *judge) reloaded(when span) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.reloads = append(j.reloads, when)
}

// judgeUnanswered looks at the requests that were not answered, once the log of
// Caddy is complete. When it reloads, Caddy closes idle connections, and those
// that it has not accepted yet, as every server of net/http does that is shut
// down; a request that just arrives there is lost, and sent again by its client.
// The proxy has no part in that as long as it has seen nothing of the request.
func (j *judge) judgeUnanswered() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, u := range j.unanswered {
		const rule = "a connection is closed without an answer only by a reload, and only when nothing was read from it"
		upstream, logged := j.ledger.seen(u.id)
		switch {
		case upstream || logged:
			j.tally.violated(rule, "request %s was read (calls upstream: %t, in the log: %t): %v", u.id, upstream, logged, u.err)
		case !j.duringReload(u.when):
			j.tally.violated(rule, "request %s, with no reload near: %v", u.id, u.err)
		}
	}
}

// duringReload reports whether something happened during a reload or soon after.
func (j *judge) duringReload(when span) bool {
	for _, reload := range j.reloads {
		if when.to.After(reload.from) && when.from.Before(reload.to.Add(afterReload)) {
			return true
		}
	}
	return false
}
