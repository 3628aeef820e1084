package demo

import (
	"context"
	"encoding/json"
	"unicode/utf8"
)

// sequence is one item to classify: a text or a pair of them.
type sequence []string

// predict answers `/predict`: the classes of one text or pair as a flat list,
// those of a batch as one list each.
func (s *Server) predict(ctx context.Context, f fields, ws *workspace) (cost, error) {
	items, batch, err := f.sequences()
	if err != nil {
		return cost{}, err
	}
	raw, err := f.flag("raw_scores", false)
	if err != nil {
		return cost{}, err
	}

	out := ws.out
	if batch {
		out = append(out, '[')
	}
	var c cost
	err = s.infer(ctx, len(items), func() error {
		for i, item := range items {
			if err := ws.sumSequence(item, &c); err != nil {
				return err
			}
			if i > 0 {
				out = append(out, ',')
			}
			out = appendPredictions(out, classify(&ws.sums, raw))
		}
		return nil
	})
	if err != nil {
		return cost{}, err
	}
	if batch {
		out = append(out, ']')
	}
	ws.out = out
	return c, nil
}

// sumSequence puts the features of a text or pair into the workspace's sums and
// adds up what it costs.
func (ws *workspace) sumSequence(item sequence, c *cost) error {
	ws.sums.reset()
	characters, tokens := 0, 1+len(item)
	for _, text := range item {
		characters += utf8.RuneCountInString(text)
		tokens += ws.sums.addText(text)
	}
	if characters == 0 {
		return emptyItem()
	}
	c.add(characters, tokens)
	return nil
}

func appendPredictions(out []byte, predictions []prediction) []byte {
	out = append(out, '[')
	for i, p := range predictions {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, `{"score":`...)
		out = appendFloat(out, p.score)
		out = append(out, `,"label":`...)
		out = appendString(out, p.label)
		out = append(out, '}')
	}
	return append(out, ']')
}

// sequences returns the items of `inputs` and whether they are a batch: a text,
// or a flat list of one text or of a pair, is no batch; a list of such lists is.
func (f fields) sequences() (items []sequence, batch bool, err error) {
	raw, err := f.require("inputs")
	if err != nil {
		return nil, false, err
	}
	var list []json.RawMessage
	switch raw[0] {
	case '"':
		list = []json.RawMessage{raw}
	case '[':
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil, false, badSyntax(err)
		}
	default:
		return nil, false, badType("inputs: invalid type: %s, expected %s", describe(raw), sequenceForms)
	}
	if len(list) == 0 {
		return nil, false, badType("inputs: invalid length 0, expected %s", sequenceForms)
	}
	if list[0][0] == '"' {
		item, err := parseSequence(list)
		return []sequence{item}, false, err
	}
	for _, raw := range list {
		var texts []json.RawMessage
		if isNull(raw) || json.Unmarshal(raw, &texts) != nil {
			return nil, false, badType("inputs: invalid type: %s, expected a sequence", describe(raw))
		}
		item, err := parseSequence(texts)
		if err != nil {
			return nil, false, err
		}
		items = append(items, item)
	}
	return items, true, nil
}

const sequenceForms = "a string, a pair of strings [string, string] " +
	"or a batch of mixed strings and pairs [[string], [string, string], ...]"

// parseSequence reads a list of one or two texts.
func parseSequence(list []json.RawMessage) (sequence, error) {
	if len(list) < 1 || len(list) > 2 {
		return nil, badType("inputs: invalid length %d, expected %s", len(list), sequenceForms)
	}
	item := make(sequence, len(list))
	for i, raw := range list {
		var err error
		if item[i], err = parseText("inputs", raw); err != nil {
			return nil, err
		}
	}
	return item, nil
}
