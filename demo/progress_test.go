package demo

import (
	"bytes"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

func TestBar(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		done, total, width int
		want               string
	}{
		"nothing done":                        {0, 5000, 80, "direct [........................................]    0/5000"},
		"half of it":                          {2500, 5000, 80, "direct [####################....................] 2500/5000"},
		"all of it":                           {5000, 5000, 80, "direct [########################################] 5000/5000"},
		"more than all, by batches sent anew": {5032, 5000, 80, "direct [########################################] 5000/5000"},
		"a narrow terminal":                   {2500, 5000, 40, "direct [##########..........] 2500/5000"},
		"a terminal too narrow for a bar":     {7, 5000, 20, "    7/5000"},
		"a terminal too narrow for anything":  {7, 5000, 4, "   "},
		"a terminal of no width":              {7, 5000, 0, ""},
	}
	for name, test := range tests {
		got := bar("direct", test.done, test.total, test.width)
		if got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
		if test.width > 0 && utf8.RuneCountInString(got) >= test.width {
			t.Errorf("%s: %d columns on a terminal of %d", name, utf8.RuneCountInString(got), test.width)
		}
	}
}

func TestWatchDrawsUntilItIsStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		var done atomic.Int64
		stop := newProgress(&out, true).watch("direct", 10, func() int { return int(done.Load()) })
		synctest.Wait()
		done.Store(5)
		time.Sleep(redraw + redraw/2)
		stop()
		got := out.String()
		want := "\r" + bar("direct", 0, 10, 80) + "\r" + bar("direct", 5, 10, 80) + "\r\x1b[K"
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestNothingIsDrawnOnAnythingButATerminal(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	newProgress(&out, false).watch("direct", 10, func() int { return 5 })()
	if out.Len() > 0 {
		t.Errorf("it drew %q", out.String())
	}
}
