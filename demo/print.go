package demo

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// tableRow is the form of a row of the table: the way, requests, seconds, and
// what there is to say.
const tableRow = "  %-34s %8s %8s  %s"

// printHead writes what is compared, and the head of the table.
func (d *demonstration) printHead(size int) error {
	_, err := fmt.Fprintf(d.out, "%d texts, %d kB of JSON, embedded in three ways. The model server takes\n"+
		"%d texts a request and %d at once, and %d ms a batch: %s\n\n%s\n",
		len(d.texts), (size+999)/1000, directBatch, defaultMaxConcurrent, BatchDelay.Milliseconds(), d.upstream,
		strings.TrimRight(fmt.Sprintf(tableRow, "", "requests", "seconds", ""), " "))
	return err
}

// printRow writes one row of the table; a time of 0 is none.
func (d *demonstration) printRow(way string, requests int, took time.Duration, note string) error {
	seconds := "-"
	if took > 0 {
		seconds = fmt.Sprintf("%.2f", took.Seconds())
	}
	row := fmt.Sprintf(tableRow, way, fmt.Sprint(requests), seconds, note)
	_, err := io.WriteString(d.out, strings.TrimRight(row, " ")+"\n")
	return err
}

// printSummary writes the last line of the comparison.
func (d *demonstration) printSummary(same int, faster string) error {
	_, err := fmt.Fprintf(d.out, "\n%d of %d vectors digit for digit the same, %s\n", same, len(d.texts), faster)
	return err
}

// command is something to try, for a shell.
type command struct {
	about string
	line  string
}

// commands returns requests to try against a proxy. They ask for short vectors,
// so that the answers can be read.
func commands(proxy string) []command {
	post := "curl -sS -w '\\n' " + proxy + "/v1/embeddings -H 'Content-Type: application/json'"
	return []command{
		{
			"Two texts, the first four numbers of each:",
			post + ` -d '{"input":["Good morning","Guten Morgen"],"dimensions":4}'`,
		},
		{
			"The same as base64:",
			post + ` -d '{"input":["Good morning","Guten Morgen"],"dimensions":4,"encoding_format":"base64"}'`,
		},
		{
			"Batches of one text, by a preference; the metadata shows three of them:",
			post + ` -H 'X-Baseten-Request-Preferences: {"batch_size":1}'` +
				` -d '{"input":["one","two","three"],"dimensions":2}'`,
		},
		{
			"What the headers of an answer say:",
			"curl -sS -D - -o /dev/null " + proxy + "/v1/embeddings -H 'Content-Type: application/json'" +
				" -H 'X-Baseten-Customer-Request-Id: my-request' -d '" + `{"input":["one","two"]}'`,
		},
		{
			"Is the proxy up?",
			"curl -sS -w '\\n' " + proxy + "/health",
		},
	}
}

// printCommands writes what to try while the demonstration stays up.
func (d *demonstration) printCommands() error {
	var b strings.Builder
	fmt.Fprintf(&b, "\nThe proxy stays up at %s until you press Ctrl-C. Try it from another terminal:\n", d.proxy)
	for _, c := range commands(d.proxy) {
		fmt.Fprintf(&b, "\n# %s\n%s\n", c.about, c.line)
	}
	_, err := io.WriteString(d.out, b.String())
	return err
}
