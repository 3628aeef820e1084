package main

import (
	"encoding/json"
	"strings"
)

// readLog looks at a line of Caddy's log: which requests it has handled, and
// whether something went wrong in the program itself.
func (c *chaos) readLog(line []byte) {
	var entry struct {
		Level     string `json:"level"`
		Message   string `json:"msg"`
		RequestID string `json:"customer_request_id"`
	}
	const rule = "the program does not panic"
	if err := json.Unmarshal(line, &entry); err != nil {
		c.tally.violated(rule, "it writes %.2000s", line)
		return
	}
	if strings.Contains(entry.Message, "panic") || strings.Contains(entry.Level, "panic") || entry.Level == "fatal" {
		c.tally.violated(rule, "it logs %.2000s", line)
	}
	if entry.Message == "handled request" {
		c.ledger.logged(entry.RequestID)
	}
}
