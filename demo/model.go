package demo

import (
	"math"
	"unicode"
	"unicode/utf8"
)

// Dimensions is the length of a full vector of the model.
const Dimensions = 384

// The weights of the features of a text. A word's weight is the number of its
// letters, because long words tell more of what a text is about than the short
// ones that stand in every sentence; longestWeighed is where that stops.
const (
	gramWeight     = 2
	bigramWeight   = 4
	longestWeighed = 8
	idWeight       = 8
)

// The kinds of features: each has a number of its own so that a word and an
// n-gram of the same letters do not fall on the same places.
const (
	wordKind uint64 = iota + 1
	bigramKind
	trigramKind
	fourgramKind
	idKind
	idBigramKind
)

const (
	wordStart = '\x02' // stands before the first letter of a word in its n-grams
	wordEnd   = '\x03' // stands after the last one
)

// longestWord is the number of letters after which a word is taken for several.
const longestWord = 64

// Embed returns the vector of a text: the hashed features of its words and
// letters, the first dims of them, scaled to the length 1. The same text gives
// the same bits on every machine, and like texts give like vectors, because
// they share features. Upper and lower case are the same.
//
// The result is nil for an empty text and for dims outside 1 to [Dimensions].
func Embed(text string, dims int) []float32 {
	if text == "" || dims < 1 || dims > Dimensions {
		return nil
	}
	s := newSums()
	s.addText(text)
	return s.appendNormalized(make([]float32, 0, dims), dims)
}

// sums are the features of a text added up by place, before they are scaled.
// They are integers, so that they are exact and the same on every machine,
// whatever order or fused instruction they are added with.
//
// No sum is ever zero: each starts odd and only even numbers are added. So every
// vector, and every first part of one, has a length that can be scaled to 1.
type sums [Dimensions]int32

func newSums() *sums {
	s := new(sums)
	s.reset()
	return s
}

func (s *sums) reset() {
	for i := range s {
		s[i] = 1 - int32(i&1)<<1
	}
}

// addText adds the features of a text and returns how many tokens it has: words,
// and every other character that is no space.
func (s *sums) addText(text string) (tokens int) {
	var word [longestWord + 2]rune
	word[0] = wordStart
	n := 1
	var previous uint64
	end := func() {
		if n == 1 {
			return
		}
		word[n] = wordEnd
		previous = s.addWord(word[:n+1], previous)
		tokens++
		n = 1
	}
	for _, r := range text {
		class := classOf(r)
		if class != letter || n > longestWord {
			end()
		}
		if class == space {
			continue
		}
		word[n] = lower(r)
		n++
		if class == symbol {
			end()
		}
	}
	end()
	return tokens
}

// addWord adds a word (with its start and end), its neighbourhood to the word
// before it, and its n-grams of three and four letters. It returns the word's
// hash.
func (s *sums) addWord(word []rune, previous uint64) uint64 {
	hash := wordKind
	for _, r := range word {
		hash = mix(hash ^ uint64(r))
	}
	letters := len(word) - 2
	s.add(hash, int32(min(letters, longestWeighed)))
	if previous != 0 {
		s.add(mix(previous+bigramKind)^hash, bigramWeight)
	}
	for i := range letters {
		// A rune has 21 bits, so three of them are one number without any loss.
		trigram := uint64(word[i]) | uint64(word[i+1])<<21 | uint64(word[i+2])<<42
		s.add(mix(trigram+trigramKind), gramWeight)
		if i+3 < len(word) {
			s.add(mix(mix(trigram+fourgramKind)^uint64(word[i+3])), gramWeight)
		}
	}
	return hash
}

// addIDs adds the features of a list of token ids: each id and each pair of
// neighbours.
func (s *sums) addIDs(ids []uint32) {
	for i, id := range ids {
		s.add(mix(uint64(id)|idKind<<32), idWeight)
		if i > 0 {
			s.add(mix(uint64(ids[i-1])|idBigramKind<<32)^mix(uint64(id)), bigramWeight)
		}
	}
}

// add puts a feature on four places, each with a sign and a strength of its own,
// all taken from the feature's hash.
func (s *sums) add(hash uint64, weight int32) {
	for range 4 {
		bits := uint32(hash & 0xffff)
		hash >>= 16
		// The high bits choose the place, the low ones the rest.
		place := bits * Dimensions >> 16
		strength := weight * int32(8+bits>>1&15) * 2
		if bits&1 == 1 {
			strength = -strength
		}
		s[place] += strength
	}
}

// appendNormalized appends the first dims components, scaled to the length 1.
func (s *sums) appendNormalized(dst []float32, dims int) []float32 {
	var squares float64
	for _, v := range s[:dims] {
		// The conversion forbids a fused multiply and add, which rounds
		// differently and exists on some machines only.
		squares += float64(float64(v) * float64(v))
	}
	scale := 1 / math.Sqrt(squares)
	for _, v := range s[:dims] {
		dst = append(dst, float32(float64(v)*scale))
	}
	return dst
}

// appendRaw appends the first dims components as they are.
func (s *sums) appendRaw(dst []float32, dims int) []float32 {
	for _, v := range s[:dims] {
		dst = append(dst, float32(v))
	}
	return dst
}

// cosine is the likeness of two texts: 1 for the same features, about 0 for none
// in common.
func cosine(a, b *sums) float64 {
	var dot, aa, bb float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		dot += float64(x * y)
		aa += float64(x * x)
		bb += float64(y * y)
	}
	return dot / math.Sqrt(aa*bb)
}

// The classes of characters.
const (
	space  = iota
	letter // part of a word
	symbol // a token of its own
)

// firstIdeograph is the first character of the scripts without spaces; most texts
// have none, and are spared the search for them.
const firstIdeograph = '\u2e80'

func classOf(r rune) int {
	if r < utf8.RuneSelf {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return letter
		case r <= ' ' || r == '\x7f':
			return space
		}
		return symbol
	}
	switch {
	case r >= firstIdeograph && unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana):
		// These scripts put no spaces between words.
		return symbol
	case unicode.IsLetter(r), unicode.IsMark(r), unicode.IsDigit(r):
		return letter
	case unicode.IsSpace(r), unicode.IsControl(r):
		return space
	}
	return symbol
}

func lower(r rune) rune {
	if r < utf8.RuneSelf {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}
	return unicode.ToLower(r)
}

// mix spreads every bit of a number over all bits; it is the last step of the
// generator splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
