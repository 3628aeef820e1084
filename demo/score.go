package demo

import (
	"math"
	"slices"
	"strings"
	"sync"
)

// The scores of pairs: the cosine is stretched so that the sigmoid of it reaches
// from about 0.05 for texts with nothing in common to above 0.99 for the same
// text.
const (
	pairScale = 8
	pairShift = -3
)

// pairScore says how well a text answers a query, by what they have in common:
// between 0 and 1, or the unbounded raw score that this is the sigmoid of.
func pairScore(query, text *sums, raw bool) float32 {
	score := pairScale*cosine(query, text) + pairShift
	if !raw {
		score = 1 / (1 + math.Exp(-score))
	}
	return float32(score)
}

// labelScale stretches the cosines to the labels, which are small numbers, so
// that the softmax tells the labels apart.
const labelScale = 20

// label is one class of the classifier, known by texts that belong to it.
type label struct {
	name       string
	prototypes *sums
}

// labels returns the classes of the classifier. They are made once.
var labels = sync.OnceValue(func() []label {
	return []label{
		newLabel("question",
			"How do I change my address? Where can I find the invoice?",
			"What is the difference between the plans? When will it arrive?",
			"Could you tell me why this is? Can I cancel? Which one, who, how many?"),
		newLabel("complaint",
			"It broke after two days, I am disappointed and want my money back.",
			"The delivery was late and the service is slow, rude and unhelpful.",
			"Terrible, it does not work, the worst error and a waste of time."),
		newLabel("praise",
			"Great product, works perfectly, I love it and recommend it.",
			"Fast delivery, friendly and helpful service, thank you very much.",
			"Many thanks to the team for the quick help, keep up the good work.",
			"Excellent quality, beautiful, comfortable, very happy with it."),
	}
})

func newLabel(name string, prototypes ...string) label {
	s := newSums()
	s.addText(strings.Join(prototypes, " "))
	return label{name: name, prototypes: s}
}

// prediction is how far a text belongs to a class.
type prediction struct {
	label string
	score float32
}

// classify returns all classes, the best first: their scores add up to 1, or are
// the raw scores that these are the softmax of.
func classify(text *sums, raw bool) []prediction {
	classes := labels()
	scores := make([]float64, len(classes))
	var total float64
	for i, class := range classes {
		scores[i] = labelScale * cosine(text, class.prototypes)
		total += math.Exp(scores[i])
	}
	predictions := make([]prediction, len(classes))
	for i, class := range classes {
		score := scores[i]
		if !raw {
			score = math.Exp(score) / total
		}
		predictions[i] = prediction{label: class.name, score: float32(score)}
	}
	sortByScore(predictions, func(p prediction) float32 { return p.score })
	return predictions
}

// sortByScore sorts the highest score first and equal scores in descending order
// of their places, which is what the reference server's sorting upwards and then
// reversing amounts to.
func sortByScore[T any](list []T, score func(T) float32) {
	slices.Reverse(list)
	slices.SortStableFunc(list, func(a, b T) int {
		switch x, y := score(a), score(b); {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
}
