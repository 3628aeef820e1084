package demo

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCorpusIsTheSameEachTime(t *testing.T) {
	t.Parallel()
	if !slices.Equal(corpus(500), corpus(500)) {
		t.Error("two runs have different texts")
	}
	if !slices.Equal(corpus(500), corpus(600)[:500]) {
		t.Error("more texts begin otherwise")
	}
}

func TestCorpusIsVaried(t *testing.T) {
	t.Parallel()
	texts := corpus(5000)
	distinct := make(map[string]bool)
	var short, long, foreign, characters int
	for _, text := range texts {
		if text == "" || !utf8.ValidString(text) || strings.ContainsAny(text, "{}") {
			t.Fatalf("not a text: %q", text)
		}
		distinct[text] = true
		n := utf8.RuneCountInString(text)
		characters += n
		if n < 40 {
			short++
		}
		if n > 300 {
			long++
		}
		if n != len(text) {
			foreign++
		}
	}
	if len(distinct) < len(texts) || short < 300 || long < 200 || foreign < 1500 {
		t.Errorf("of 5000 texts %d are distinct, %d short, %d long, %d not all ASCII", len(distinct), short, long, foreign)
	}
	// The proxy fills batches of 32 only while they have at most 10 000
	// characters, and the model server reads no body over 2 MB.
	if characters/len(texts) > 200 {
		t.Errorf("a text has %d characters on average", characters/len(texts))
	}
	if body, err := requestBody(texts); err != nil || len(body) > maxBody {
		t.Errorf("a request with all texts has %d bytes (%v)", len(body), err)
	}
}

func TestEveryWordOfAPatternIsKnown(t *testing.T) {
	t.Parallel()
	for _, patterns := range genres {
		for _, pattern := range patterns {
			for _, part := range strings.Split(pattern, "{")[1:] {
				name, _, found := strings.Cut(part, "}")
				if !found || len(vocabulary[name]) == 0 && name != "number" {
					t.Errorf("%q names %q", pattern, name)
				}
			}
		}
	}
}
