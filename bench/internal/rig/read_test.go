package rig

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestParseCallID(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]CallID{
		"r7-12-3":         {Request: "r7", Batch: 12, Attempt: 3},
		"r7-12-3-hedge-1": {Request: "r7", Batch: 12, Attempt: 3, Hedge: true},
		"r7":              {Request: "r7"},
		"r7-a-b":          {Request: "r7-a-b"},
		"":                {},
	} {
		if got := parseCallID(http.Header{headerRequestID: {id}}); got != want {
			t.Errorf("%q is read as %+v", id, got)
		}
	}
}

const profile = `goroutine profile: total 6
3 @ 0x1 0x2
#	0x1	net/http.(*persistConn).readLoop+0x171	net/http/transport.go:2330

2 @ 0x1 0x3
# labels: {"a":"b"}
#	0x3	github.com/basetenlabs/caddy-performance-proxy/engine.(*Engine).Run+0x1	engine/engine.go:1

1 @ 0x4
#	0x4	github.com/basetenlabs/caddy-performance-proxy/enginetest.Run+0x1	x.go:1
`

func TestParseGoroutines(t *testing.T) {
	t.Parallel()
	g, err := parseGoroutines(profile)
	if err != nil {
		t.Fatal(err)
	}
	if g.Total != 6 || len(g.Stacks) != 3 {
		t.Errorf("got %d goroutines with %d stacks", g.Total, len(g.Stacks))
	}
	own := g.In("handler", "engine")
	if len(own) != 1 || own[0].Count != 2 || !strings.Contains(own[0].Text, "(*Engine).Run") {
		t.Errorf("the engine's are %v", own)
	}
	const want = modulePath + "/engine.(*Engine).Run"
	if got := own[0].Functions(); len(got) != 1 || got[0] != want {
		t.Errorf("the functions are %q", got)
	}
	if _, err := parseGoroutines("404 page not found"); err == nil {
		t.Error("a page is taken for a profile")
	}
}

func TestParseHeap(t *testing.T) {
	t.Parallel()
	got, err := parseHeap("heap profile: 1: 2 [3: 4] @ heap/1\n# HeapSys = 7\n# HeapAlloc = 4128032\n# HeapIdle = 5\n")
	if err != nil || got != 4128032 {
		t.Errorf("got %d, %v", got, err)
	}
	if _, err := parseHeap("404 page not found"); err == nil {
		t.Error("a page is taken for a profile")
	}
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	var values []time.Duration
	for i := range 200 {
		values = append(values, time.Duration(200-i))
	}
	for p, want := range map[float64]time.Duration{0.5: 100, 0.95: 190, 0.99: 198, 1: 200, 0.001: 1} {
		if got := Percentile(values, p); got != want {
			t.Errorf("the percentile %v is %d, want %d", p, got, want)
		}
	}
	if got := Percentile([]int(nil), 0.5); got != 0 {
		t.Errorf("the percentile of nothing is %d", got)
	}
	if got := Mean([]time.Duration{1, 2, 6}); got != 3 {
		t.Errorf("the mean is %d", got)
	}
}
