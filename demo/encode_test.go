package demo

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

func TestAppendFloatPrintsAsSerdeJSON(t *testing.T) {
	t.Parallel()
	// What serde_json 1.0.140 prints of these numbers.
	tests := map[string]struct {
		f    float32
		want string
	}{
		"zero":                              {0, "0.0"},
		"a negative zero":                   {float32(math.Copysign(0, -1)), "-0.0"},
		"one":                               {1, "1.0"},
		"a negative whole number":           {-16777216, "-16777216.0"},
		"a fraction":                        {0.1, "0.1"},
		"all digits of a component":         {-0.051962335, "-0.051962335"},
		"a small plain decimal":             {9.9e-6, "0.0000099"},
		"the smallest plain decimal":        {1e-6, "0.000001"},
		"the largest small number with one": {9.999999e-7, "9.999999e-7"},
		"one digit with an exponent":        {-1e-7, "-1e-7"},
		"two digits of exponent":            {1.5e-30, "1.5e-30"},
		"the smallest number":               {math.SmallestNonzeroFloat32, "1e-45"},
		"a large plain decimal":             {123456790, "123456790.0"},
		"the largest plain decimal":         {9.999999e12, "9999999000000.0"},
		"the first large number with one":   {1e13, "1e13"},
		"a large number with an exponent":   {-1e20, "-1e20"},
		"the largest number":                {math.MaxFloat32, "3.4028235e38"},
	}
	for name, test := range tests {
		if got := string(appendFloat([]byte("1e9,"), test.f)); got != "1e9,"+test.want {
			t.Errorf("%s: got %s, want %s", name, got, test.want)
		}
	}
}

func TestAppendFloatPrintsTheShortestDigits(t *testing.T) {
	t.Parallel()
	source := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		f := math.Float32frombits(source.Uint32())
		if f != f || math.IsInf(float64(f), 0) {
			continue
		}
		got := string(appendFloat(nil, f))
		back, err := strconv.ParseFloat(got, 32)
		if err != nil || math.Float32bits(float32(back)) != math.Float32bits(f) {
			t.Fatalf("%s is read as %v (%v), want %v", got, back, err, f)
		}
		if !json.Valid([]byte(got)) {
			t.Fatalf("%s is no JSON", got)
		}
		shortest := strconv.FormatFloat(float64(f), 'e', -1, 32)
		if significant(got) != significant(shortest) {
			t.Fatalf("%s has other digits than %s", got, shortest)
		}
	}
}

// significant returns the digits of a number without its exponent and without
// zeros at both ends.
func significant(number string) string {
	mantissa, _, _ := strings.Cut(number, "e")
	return strings.Trim(strings.ReplaceAll(strings.TrimPrefix(mantissa, "-"), ".", ""), "0")
}

func TestBase64IsTheBitsOfTheFloats(t *testing.T) {
	t.Parallel()
	vector := Embed("the bits of the floats", Dimensions)
	var encoded string
	if err := json.Unmarshal(appendBase64(nil, vector), &encoded); err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if len(raw) != 4*len(vector) {
		t.Fatalf("got %d bytes, want %d", len(raw), 4*len(vector))
	}
	for i, f := range vector {
		if bits := binary.LittleEndian.Uint32(raw[4*i:]); bits != math.Float32bits(f) {
			t.Errorf("component %d has the bits %#x, want %#x", i, bits, math.Float32bits(f))
		}
	}
}

func TestAppendStringEscapesOnlyWhatMustBe(t *testing.T) {
	t.Parallel()
	const text = "a\"b\\c\b\f\n\r\t\x00\x1f\x7f</&>\u2028é😕"
	const want = `"a\"b\\c\b\f\n\r\t\u0000\u001f` + "\x7f</&>\u2028é😕" + `"`
	got := appendString(nil, text)
	if string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
	var back string
	if err := json.Unmarshal(got, &back); err != nil || back != text {
		t.Errorf("it is read as %q (%v), want %q", back, err, text)
	}
}
