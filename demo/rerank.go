package demo

import (
	"context"
	"strconv"
	"unicode/utf8"
)

// rank is the place of one text in the order of a reranking.
type rank struct {
	index int
	score float32
}

// rerank answers `/rerank`: how well each text answers a query, the best first.
func (s *Server) rerank(ctx context.Context, f fields, ws *workspace) (cost, error) {
	query, err := f.text("query")
	if err != nil {
		return cost{}, err
	}
	texts, err := f.texts("texts")
	if err != nil {
		return cost{}, err
	}
	raw, err := f.flag("raw_scores", false)
	if err != nil {
		return cost{}, err
	}
	returnText, err := f.flag("return_text", false)
	if err != nil {
		return cost{}, err
	}
	if len(texts) == 0 {
		return cost{}, empty("`texts` cannot be empty")
	}

	ranks := make([]rank, len(texts))
	var c cost
	err = s.infer(ctx, len(texts), func() error {
		querySums := newSums()
		queryTokens := querySums.addText(query)
		queryCharacters := utf8.RuneCountInString(query)
		for i, text := range texts {
			if query == "" && text == "" {
				return emptyItem()
			}
			ws.sums.reset()
			tokens := ws.sums.addText(text)
			c.add(queryCharacters+utf8.RuneCountInString(text), queryTokens+tokens+pairMarkTokens)
			ranks[i] = rank{index: i, score: pairScore(querySums, &ws.sums, raw)}
		}
		return nil
	})
	if err != nil {
		return cost{}, err
	}
	sortByScore(ranks, func(r rank) float32 { return r.score })
	if !returnText {
		texts = nil
	}
	ws.out = appendRanks(ws.out, ranks, texts)
	return c, nil
}

// appendRanks appends the ranks, with their texts unless there are none.
func appendRanks(out []byte, ranks []rank, texts []string) []byte {
	out = append(out, '[')
	for i, r := range ranks {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, `{"index":`...)
		out = strconv.AppendInt(out, int64(r.index), 10)
		if texts != nil {
			out = append(out, `,"text":`...)
			out = appendString(out, texts[r.index])
		}
		out = append(out, `,"score":`...)
		out = appendFloat(out, r.score)
		out = append(out, '}')
	}
	return append(out, ']')
}
