package main

import (
	"context"
	"sync"
	"time"
)

const (
	// heartbeat is how often this program looks whether it runs.
	heartbeat = 20 * time.Millisecond
	// stall is the delay of a heartbeat from which on the machine counts as
	// stalled.
	stall = 200 * time.Millisecond
)

// stalls are the times in which the machine had no time for this program, and so
// none for the proxy either, as it happens to virtual machines. What is late
// because of them is nobody's fault. It is safe for concurrent use.
type stalls struct {
	mu    sync.Mutex
	spans []span
}

// watch notes the stalls until the context ends.
func (s *stalls) watch(ctx context.Context) {
	for last := time.Now(); sleep(ctx, heartbeat); last = time.Now() {
		if now := time.Now(); now.Sub(last) >= stall {
			s.add(span{last, now})
		}
	}
}

func (s *stalls) add(when span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spans = append(s.spans, when)
}

// during returns how much of a stretch of time the machine was stalled.
func (s *stalls) during(when span) (sum time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.spans {
		from, to := one.from, one.to
		if from.Before(when.from) {
			from = when.from
		}
		if to.After(when.to) {
			to = when.to
		}
		sum += max(0, to.Sub(from))
	}
	return sum
}

// total returns how many stalls there were and how long they took together.
func (s *stalls) total() (n int, sum time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.spans {
		sum += one.to.Sub(one.from)
	}
	return len(s.spans), sum
}

// A delay is something that came too late.
type delay struct {
	id string
	// what says what it was.
	what string
	// when is from the moment at which it should have been there to that at which
	// it was.
	when span
}

// A lateness is a rule about what must be in time, and what was not. It is
// judged at the end, when all stalls are known. It is safe for concurrent use.
type lateness struct {
	rule string
	// grace is how late something may be.
	grace time.Duration

	mu     sync.Mutex
	delays []delay
	// longest is the longest delay, those within the grace included; it is
	// negative when everything was early.
	longest time.Duration
}

// note notes when something came.
func (l *lateness) note(d delay) {
	l.mu.Lock()
	defer l.mu.Unlock()
	late := d.when.to.Sub(d.when.from)
	l.longest = max(l.longest, late)
	if late > l.grace {
		l.delays = append(l.delays, d)
	}
}

// judge records what was late through no stall.
func (l *lateness) judge(t *tally, s *stalls) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.delays {
		late, stalled := d.when.to.Sub(d.when.from), s.during(d.when)
		if late-stalled > l.grace {
			t.violated(l.rule, "request %s: %s was %v late, the machine was stalled for %v of it", d.id, d.what, late, stalled)
		} else {
			t.add("late because of stalls of the machine", l.rule)
		}
	}
}
