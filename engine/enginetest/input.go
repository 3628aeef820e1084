package enginetest

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/fnv"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// input is what a request asks for.
type input struct {
	items  []string
	model  string
	base64 bool
}

// parseInput reads a request for embeddings. The input is one item (a string or
// a list of token ids) or a list of items (strings, lists of token ids, objects).
func parseInput(body []byte) (input, error) {
	var req struct {
		Input          json.RawMessage `json:"input"`
		Model          string          `json:"model"`
		EncodingFormat string          `json:"encoding_format"`
	}
	if err := json.Unmarshal(body, &req); err != nil {
		return input{}, errors.New("the body is no request for embeddings")
	}
	in := input{model: req.Model, base64: req.EncodingFormat == "base64"}
	var list []json.RawMessage
	if json.Unmarshal(req.Input, &list) != nil || len(list) > 0 && isNumber(list[0]) {
		list = []json.RawMessage{req.Input}
	}
	for _, raw := range list {
		if len(raw) == 0 {
			return input{}, errors.New("input is missing")
		}
		in.items = append(in.items, itemOf(raw))
	}
	if len(in.items) == 0 {
		return input{}, errors.New("input is empty")
	}
	return in, nil
}

func isNumber(raw json.RawMessage) bool {
	return raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9'
}

func itemOf(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var compact bytes.Buffer
	_ = json.Compact(&compact, raw) // it was valid as a part of the body
	return compact.String()
}

// oddNumbers are numbers that parsing and printing would change. None of them
// is too large for a 32-bit float.
var oddNumbers = []string{
	"1e-7", "-0.0", "1.0", "0.30000001192092896", "-2.50E-3", "1E+2", "0e0", "-1.0e-05",
	"0.1000", "3.4028234663852886e38", "1e00", "123456789.0", "-7", "9007199254740993", "5e-324",
}

// Vector returns the vector of an item as raw JSON. Different items get
// different vectors, the digits of which prove that nothing printed them again:
// -0.0, 1.0, 1e-7, numbers that no float holds. It has dims numbers.
func Vector(item string, dims int) string {
	return "[" + strings.Join(numbers(item, dims), ",") + "]"
}

// Base64Vector returns the same vector as a JSON string: base64 of little-endian
// 32-bit floats.
func Base64Vector(item string, dims int) string {
	var data []byte
	for _, number := range numbers(item, dims) {
		f, err := strconv.ParseFloat(number, 32)
		if err != nil {
			panic(err) // none of them is too large
		}
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(f)))
	}
	return `"` + base64.StdEncoding.EncodeToString(data) + `"`
}

// numbers derives dims numbers from an item. The first holds the whole hash of
// it.
func numbers(item string, dims int) []string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(item)) // a hash takes everything
	seed := h.Sum64()
	list := make([]string, dims)
	for i := range list {
		if i == 0 {
			list[i] = "0." + strconv.FormatUint(seed, 10)
			continue
		}
		x := mix(seed + uint64(i))
		if x%3 == 0 {
			list[i] = oddNumbers[x>>8%uint64(len(oddNumbers))]
			continue
		}
		list[i] = "-0.0" + strconv.FormatUint(x%1e9, 10)
	}
	return list
}

// mix is the finalizer of SplitMix64.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Tokens returns the number of tokens of an item, which the usage of a reply
// adds up: its characters.
func Tokens(item string) int { return utf8.RuneCountInString(item) }
