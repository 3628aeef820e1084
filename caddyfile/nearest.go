package caddyfile

import (
	"fmt"
	"slices"
	"strings"
)

const (
	// fewNames is how many names an error lists at most.
	fewNames = 16
	// maxRelated is how many names that share a word with the unknown one an error
	// lists at most.
	maxRelated = 5
)

// suggest says which of the known names the unknown name may stand for.
func suggest(name string, known []string) string {
	if best, ok := nearest(name, known); ok {
		return fmt.Sprintf("did you mean %q?", best)
	}
	if len(known) <= fewNames {
		return "expected one of " + strings.Join(known, ", ")
	}
	if related := sharing(name, known); len(related) > 0 {
		return "the nearest are " + strings.Join(related, ", ")
	}
	return "no setting has a name like that"
}

// sharing returns known names that have a word in common with the unknown name,
// those with the most first.
func sharing(name string, known []string) []string {
	words := splitWords(name)
	shared := func(candidate string) (n int) {
		for _, word := range splitWords(candidate) {
			if slices.Contains(words, word) {
				n++
			}
		}
		return n
	}
	var related []string
	for _, candidate := range known {
		if shared(candidate) > 0 {
			related = append(related, candidate)
		}
	}
	slices.SortStableFunc(related, func(a, b string) int { return shared(b) - shared(a) })
	return related[:min(len(related), maxRelated)]
}

// splitWords returns the words of a name, without those that say little.
func splitWords(name string) []string {
	return slices.DeleteFunc(strings.Split(plain(name), "_"), func(word string) bool {
		return len(word) < 3 || word == "max"
	})
}

// plain returns a name in the manner in which the known ones are written.
func plain(name string) string { return strings.ReplaceAll(strings.ToLower(name), "-", "_") }

// nearest returns the known name that an unknown name most likely stands for,
// and false when none is near.
func nearest(name string, known []string) (string, bool) {
	name = plain(name)
	best, bestDistance := "", 2+len(name)/4
	for _, candidate := range known {
		if d := distance(name, candidate); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	return best, best != ""
}

// distance returns how many bytes must be inserted, deleted, replaced or
// swapped with their neighbour to turn a into b.
func distance(a, b string) int {
	beforeLast, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			replaced := last[j]
			if a[i] != b[j] {
				replaced++
			}
			row[j+1] = min(replaced, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], beforeLast[j-1]+1)
			}
		}
		beforeLast, last, row = last, row, beforeLast
	}
	return last[len(b)]
}
