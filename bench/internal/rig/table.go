package rig

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// WriteTable writes rows in aligned columns, the first of them being the head.
func WriteTable(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range rows {
		// With this alignment a cell ends with a tab, the last one, too.
		if _, err := fmt.Fprintln(t, strings.Join(row, "\t")+"\t"); err != nil {
			return err
		}
	}
	return t.Flush()
}
