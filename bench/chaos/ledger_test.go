package main

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/bench/internal/rig"
)

func TestLedgerSeesCallsThatMustNotBe(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		refused  bool
		id       string
		after    time.Duration // of the end of the request; negative before it
		violated string
	}{
		"a call of a request":           {id: "r1", after: -1},
		"on its way when it ended":      {id: "r1", after: lateCall},
		"made after the request":        {id: "r1", after: lateCall + 1, violated: "all work upstream ends"},
		"of nobody":                     {id: "r2", after: -1, violated: "every call upstream belongs"},
		"of a request that was refused": {refused: true, id: "r1", after: -1, violated: "a bad request does not reach"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLedger(newTally())
				l.begin("r1", test.refused)
				if test.after >= 0 {
					l.end("r1")
					time.Sleep(test.after)
				}
				l.called(rig.CallID{Request: test.id}, 200, false)
				l.late.judge(l.tally, new(stalls))
				expect(t, l.tally, test.violated)
			})
		})
	}
}
