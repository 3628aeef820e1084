package demo

import (
	"hash/crc32"
	"math"
	"slices"
	"testing"
)

func sumsOf(text string) *sums {
	s := newSums()
	s.addText(text)
	return s
}

func TestLikeTextsGetLikeVectors(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text, like, unlike string
	}{
		"a question asked in other words": {
			"How do I reset my password?",
			"I forgot my password, how can I reset it?",
			"The delivery was late by three days.",
		},
		"a statement in another order": {
			"The weather in Paris is lovely.",
			"Lovely weather in Paris today!",
			"Our quarterly revenue grew by ten percent.",
		},
		"a word in another form": {
			"international deliveries",
			"delivering internationally",
			"machine learning models",
		},
		"a script without spaces": {
			"東京の天気は良いです",
			"東京の天気はとても良い",
			"注文した商品が届きません",
		},
		"letters with marks": {
			"Größere Städte im Überblick",
			"Überblick: größere Städte",
			"Kleine Dörfer am Fluss",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := sumsOf(test.text)
			like, unlike := cosine(text, sumsOf(test.like)), cosine(text, sumsOf(test.unlike))
			if like < unlike+0.2 {
				t.Errorf("the like text has the cosine %.3f, the unlike one %.3f", like, unlike)
			}
		})
	}
}

func TestEmbedIsTheSameEverywhere(t *testing.T) {
	t.Parallel()
	// These bits must never change, or answers of two machines or versions could
	// not be compared.
	const want uint32 = 0xffcb071d
	vector := Embed("Good morning, Zürich! 東京の天気は良いです.", Dimensions)
	if got := crc32.ChecksumIEEE(appendBase64(nil, vector)); got != want {
		t.Errorf("the checksum is %#x, want %#x; the vector begins with %v", got, want, vector[:4])
	}
}

func TestEmbedIgnoresCase(t *testing.T) {
	t.Parallel()
	if !slices.Equal(Embed("Zürich ÉTÉ", Dimensions), Embed("zÜRICH été", Dimensions)) {
		t.Error("upper and lower case have different vectors")
	}
}

func TestEmbedHasLengthOneAtAnyDimensions(t *testing.T) {
	t.Parallel()
	for _, text := range []string{" ", "a", "…", "\x00", "a long text with many words and letters", "日本"} {
		full := Embed(text, Dimensions)
		for _, dims := range []int{1, 2, 3, 100, 383, 384} {
			vector := Embed(text, dims)
			if len(vector) != dims {
				t.Fatalf("%q has %d components, want %d", text, len(vector), dims)
			}
			var squares float64
			for i, f := range vector {
				squares += float64(f) * float64(f)
				if f == 0 || math.Signbit(float64(f)) != math.Signbit(float64(full[i])) {
					t.Errorf("%q at %d dimensions: component %d is %v, of the full vector %v", text, dims, i, f, full[i])
				}
			}
			if math.Abs(squares-1) > 1e-5 {
				t.Errorf("%q at %d dimensions has the length %v", text, dims, math.Sqrt(squares))
			}
		}
	}
}

func TestEmbedRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text string
		dims int
	}{
		"an empty text":           {"", Dimensions},
		"no dimensions":           {"a", 0},
		"negative dimensions":     {"a", -1},
		"more dimensions than it": {"a", Dimensions + 1},
	}
	for name, test := range tests {
		if got := Embed(test.text, test.dims); got != nil {
			t.Errorf("%s: got %d components", name, len(got))
		}
	}
}

func TestTokensAreWordsAndSymbols(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text string
		want int
	}{
		"nothing":                             {"", 0},
		"only spaces":                         {" \t\n\u00a0", 0},
		"words and punctuation":               {"Hello, world!", 4},
		"a word with a mark of its own":       {"e\u0301te\u0301", 1},
		"every sign of Japanese":              {"天気は", 3},
		"an emoji":                            {"ok 😕", 2},
		"a word of more letters than it may ": {string(slices.Repeat([]rune{'é'}, 2*longestWord+1)), 3},
	}
	for name, test := range tests {
		if got := newSums().addText(test.text); got != test.want {
			t.Errorf("%s: got %d tokens, want %d", name, got, test.want)
		}
	}
}

func TestTokenIDsAreTellingOrder(t *testing.T) {
	t.Parallel()
	vector := func(ids ...uint32) []float32 {
		s := newSums()
		s.addIDs(ids)
		return s.appendNormalized(nil, Dimensions)
	}
	if !slices.Equal(vector(1, 2, 3), vector(1, 2, 3)) {
		t.Error("the same ids have different vectors")
	}
	if slices.Equal(vector(1, 2, 3), vector(3, 2, 1)) {
		t.Error("ids in another order have the same vector")
	}
	if slices.Equal(vector(1), Embed("1", Dimensions)) {
		t.Error("an id has the vector of a text")
	}
}

func TestScoresOfPairs(t *testing.T) {
	t.Parallel()
	query, answer, other := sumsOf("What is deep learning?"), sumsOf("Deep learning is a kind of machine learning."), sumsOf("Cheese is made of milk.")
	good, bad := pairScore(query, answer, false), pairScore(query, other, false)
	if good < 0.8 || bad > 0.2 {
		t.Errorf("the answer has the score %v, another text %v", good, bad)
	}
	raw := float64(pairScore(query, answer, true))
	if sigmoid := 1 / (1 + math.Exp(-raw)); math.Abs(sigmoid-float64(good)) > 1e-6 {
		t.Errorf("the sigmoid of the raw score %v is %v, want %v", raw, sigmoid, good)
	}
}

func TestClassify(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"Where can I find my invoice?":                "question",
		"I love this product, it works great":         "praise",
		"The package arrived broken and nobody helps": "complaint",
		"Many thanks for the quick help":              "praise",
		"This is a waste of money":                    "complaint",
	}
	for text, want := range tests {
		predictions := classify(sumsOf(text), false)
		if predictions[0].label != want {
			t.Errorf("%q is taken for a %s, want %s", text, predictions[0].label, want)
		}
		var total float32
		for i, p := range predictions {
			total += p.score
			if i > 0 && p.score > predictions[i-1].score {
				t.Errorf("%q: the scores rise: %v", text, predictions)
			}
		}
		if math.Abs(float64(total)-1) > 1e-5 {
			t.Errorf("%q: the scores add up to %v", text, total)
		}
		if raw := classify(sumsOf(text), true); raw[0].label != want || raw[0].score < 1 {
			t.Errorf("%q: the raw scores are %v", text, raw)
		}
	}
}

func TestTiesAreInDescendingOrderOfIndex(t *testing.T) {
	t.Parallel()
	ranks := []rank{{0, 1}, {1, 3}, {2, 1}, {3, 2}, {4, 3}, {5, 1}}
	sortByScore(ranks, func(r rank) float32 { return r.score })
	want := []rank{{4, 3}, {1, 3}, {3, 2}, {5, 1}, {2, 1}, {0, 1}}
	if !slices.Equal(ranks, want) {
		t.Errorf("got %v, want %v", ranks, want)
	}
}

func BenchmarkEmbed(b *testing.B) {
	texts := corpus(1000)
	i := 0
	for b.Loop() {
		Embed(texts[i%len(texts)], Dimensions)
		i++
	}
}
