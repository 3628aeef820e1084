package demo

import (
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/term"
)

// progress draws a bar in the current line of a terminal, or nothing when out is
// nil.
type progress struct {
	out   io.Writer
	width int // columns of the terminal
}

// redraw is how often the bar is drawn.
const redraw = 100 * time.Millisecond

// newProgress returns a progress that draws on out if that is a terminal.
func newProgress(out io.Writer, terminal bool) progress {
	if !terminal {
		return progress{}
	}
	p := progress{out: out, width: 80}
	if file, ok := out.(interface{ Fd() uintptr }); ok {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil {
			p.width = width
		}
	}
	return p
}

// watch draws how much of total is done until the function that it returns is
// called, which takes the bar away again. Nothing else may write to the terminal
// in between.
func (p progress) watch(label string, total int, done func() int) (stop func()) {
	if p.out == nil {
		return func() {}
	}
	ended, cleared := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(cleared)
		ticker := time.NewTicker(redraw)
		defer ticker.Stop()
		for {
			// A terminal that cannot be written to is found out by the table.
			_, _ = io.WriteString(p.out, "\r"+bar(label, done(), total, p.width))
			select {
			case <-ticker.C:
			case <-ended:
				_, _ = io.WriteString(p.out, "\r\x1b[K")
				return
			}
		}
	}()
	return func() {
		close(ended)
		<-cleared
	}
}

// bar returns a line that shows how much of total is done, shorter than width.
func bar(label string, done, total, width int) string {
	done = min(done, total)
	counter := fmt.Sprintf(" %*d/%d", len(fmt.Sprint(total)), done, total)
	room := width - len(label) - len(counter) - len(" [] ")
	if room < 4 {
		return counter[:min(len(counter), max(width-1, 0))]
	}
	room = min(room, 40)
	full := room * done / total
	return label + " [" + strings.Repeat("#", full) + strings.Repeat(".", room-full) + "]" + counter
}
