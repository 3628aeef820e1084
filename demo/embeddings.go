package demo

import (
	"context"
	"strconv"
)

// embeddings answers `/v1/embeddings` and `/embeddings` in OpenAI's form.
func (s *Server) embeddings(ctx context.Context, f fields, ws *workspace) (cost, error) {
	items, err := f.inputs("input")
	if err != nil {
		return cost{}, err
	}
	base64, err := f.base64()
	if err != nil {
		return cost{}, err
	}
	dims, err := f.dimensions()
	if err != nil {
		return cost{}, err
	}
	encode := appendVector
	if base64 {
		encode = appendBase64
	}

	out := append(ws.out, `{"object":"list","data":[`...)
	var c cost
	err = s.infer(ctx, len(items), func() error {
		for i, item := range items {
			if err := ws.sum(item, dims, &c); err != nil {
				return err
			}
			ws.vector = ws.sums.appendNormalized(ws.vector[:0], int(dims))
			if i > 0 {
				out = append(out, ',')
			}
			out = append(out, `{"object":"embedding","embedding":`...)
			out = encode(out, ws.vector)
			out = append(out, `,"index":`...)
			out = strconv.AppendInt(out, int64(i), 10)
			out = append(out, '}')
		}
		return nil
	})
	if err != nil {
		return cost{}, err
	}
	out = append(out, `],"model":`...)
	out = appendString(out, s.options.Model)
	out = append(out, `,"usage":{"prompt_tokens":`...)
	out = strconv.AppendInt(out, int64(c.tokens), 10)
	out = append(out, `,"total_tokens":`...)
	out = strconv.AppendInt(out, int64(c.tokens), 10)
	ws.out = append(out, "}}"...)
	return c, nil
}

// embed answers `/embed`: the vectors alone, in the order of the inputs.
func (s *Server) embed(ctx context.Context, f fields, ws *workspace) (cost, error) {
	items, err := f.inputs("inputs")
	if err != nil {
		return cost{}, err
	}
	dims, err := f.dimensions()
	if err != nil {
		return cost{}, err
	}
	normalize, err := f.flag("normalize", true)
	if err != nil {
		return cost{}, err
	}
	if err := f.noPrompt(); err != nil {
		return cost{}, err
	}
	scale := (*sums).appendRaw
	if normalize {
		scale = (*sums).appendNormalized
	}

	out := append(ws.out, '[')
	var c cost
	err = s.infer(ctx, len(items), func() error {
		for i, item := range items {
			if err := ws.sum(item, dims, &c); err != nil {
				return err
			}
			ws.vector = scale(&ws.sums, ws.vector[:0], int(dims))
			if i > 0 {
				out = append(out, ',')
			}
			out = appendVector(out, ws.vector)
		}
		return nil
	})
	if err != nil {
		return cost{}, err
	}
	ws.out = append(out, ']')
	return c, nil
}

// sum puts the features of an item into the workspace's sums, or refuses the
// item or the length that is asked for, and adds up what it costs.
func (ws *workspace) sum(item input, dims uint64, c *cost) error {
	switch {
	case dims == 0:
		return invalid("Input validation error: `dimensions` should be positive")
	case item.empty():
		return emptyItem()
	case dims > Dimensions:
		return invalid("Input validation error: `dimensions` should be smaller than the maximum embedding dimension.")
	}
	ws.sums.reset()
	tokens := len(item.ids)
	if item.ids == nil {
		tokens = ws.sums.addText(item.text)
	} else {
		ws.sums.addIDs(item.ids)
	}
	c.add(item.characters(), tokens+markTokens)
	return nil
}
