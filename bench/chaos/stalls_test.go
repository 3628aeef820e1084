package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestStallsAreMeasured(t *testing.T) {
	t.Parallel()
	start := time.Now()
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	var s stalls
	s.add(span{at(10), at(13)})
	s.add(span{at(20), at(21)})
	for name, test := range map[string]struct {
		when span
		want time.Duration
	}{
		"before them":         {span{at(0), at(10)}, 0},
		"between them":        {span{at(13), at(20)}, 0},
		"over both":           {span{at(0), at(30)}, 4 * time.Second},
		"within one":          {span{at(11), at(12)}, time.Second},
		"the end of one":      {span{at(12), at(15)}, time.Second},
		"the beginning":       {span{at(5), at(11)}, time.Second},
		"one and part of two": {span{at(9), at(20)}, 3 * time.Second},
	} {
		if got := s.during(test.when); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
	if n, sum := s.total(); n != 2 || sum != 4*time.Second {
		t.Errorf("%d stalls, for %v", n, sum)
	}
}

// TestWatchSeesNoStallWhereNoneIs runs in virtual time, which does not stall.
func TestWatchSeesNoStallWhereNoneIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s stalls
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		s.watch(ctx)
		if n, _ := s.total(); n != 0 {
			t.Errorf("%d stalls", n)
		}
	})
}
