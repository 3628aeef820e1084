package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
)

// shownOfARule is how many violations of one rule are printed.
const shownOfARule = 5

// A tally counts what happened, and what must not have happened. It is safe for
// concurrent use.
type tally struct {
	mu         sync.Mutex
	counts     map[string]map[string]int
	violations map[string][]string
	broken     map[string]int
}

func newTally() *tally {
	return &tally{
		counts:     make(map[string]map[string]int),
		violations: make(map[string][]string),
		broken:     make(map[string]int),
	}
}

// add counts one of a kind.
func (t *tally) add(group, kind string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts[group] == nil {
		t.counts[group] = make(map[string]int)
	}
	t.counts[group][kind]++
}

// violated records that a rule did not hold.
func (t *tally) violated(rule, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.broken[rule]++
	if len(t.violations[rule]) < shownOfARule {
		t.violations[rule] = append(t.violations[rule], fmt.Sprintf(format, args...))
	}
}

// rulesBroken returns how many rules did not hold.
func (t *tally) rulesBroken() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.broken)
}

// print writes the counts and then the violations.
func (t *tally) print(w io.Writer) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	for _, group := range slices.Sorted(maps.Keys(t.counts)) {
		kinds, sum := t.counts[group], 0
		var parts []string
		for _, kind := range slices.Sorted(maps.Keys(kinds)) {
			parts = append(parts, fmt.Sprintf("%s %d", kind, kinds[kind]))
			sum += kinds[kind]
		}
		fmt.Fprintf(&b, "%s: %d: %s\n", group, sum, strings.Join(parts, ", "))
	}
	for _, rule := range slices.Sorted(maps.Keys(t.broken)) {
		fmt.Fprintf(&b, "VIOLATED, %d times: %s\n", t.broken[rule], rule)
		for _, text := range t.violations[rule] {
			fmt.Fprintf(&b, "    %s\n", text)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
