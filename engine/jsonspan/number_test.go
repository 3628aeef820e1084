package jsonspan

import (
	"math/big"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

// roundedUp is the least number that is rounded up to infinity: the largest
// float64 and half of the distance to what the next one would be.
var roundedUp = func() string {
	limit := new(big.Int).Lsh(big.NewInt(1), 1024)
	return limit.Sub(limit, new(big.Int).Lsh(big.NewInt(1), 970)).String()
}()

// kindOfNumber returns the kind that a scan finds for number.
func kindOfNumber(t *testing.T, number string) Kind {
	t.Helper()
	return scan(t, new(Shape), number).Root.Kind
}

func TestNumbersOutOfRange(t *testing.T) {
	t.Parallel()
	below := roundedUp[:len(roundedUp)-1] + "1" // the limit ends in 2
	zeros := strings.Repeat("0", 20000)
	for name, c := range map[string]struct {
		number string
		want   Kind
	}{
		"the largest float64":                        {"1.7976931348623157e308", Number},
		"a number rounded down to it":                {"1.7976931348623158e308", Number},
		"a number rounded up to infinity":            {"1.7976931348623159e308", Overflow},
		"the same, negative":                         {"-1.7976931348623159e308", Overflow},
		"the same, with a capital and a sign":        {"1.7976931348623159E+308", Overflow},
		"the least integer that is rounded up":       {roundedUp, Overflow},
		"the integer below it":                       {below, Integer},
		"the integer below it, negative":             {"-" + below, Number},
		"just below it by a long fraction":           {below + "." + strings.Repeat("9", 1000), Number},
		"just above it by a long fraction":           {roundedUp + "." + strings.Repeat("0", 1000) + "1", Overflow},
		"the least one as a fraction":                {"0.000" + roundedUp + "e312", Overflow},
		"the one below as a fraction":                {"0.000" + below + "9e312", Number},
		"the least one with a negative exponent":     {roundedUp + "000e-3", Overflow},
		"the one below with a negative exponent":     {below + "999e-3", Number},
		"an integer of 308 digits":                   {strings.Repeat("9", 308), Integer},
		"a small integer of 309 digits":              {"1" + strings.Repeat("0", 308), Integer},
		"an integer of 310 digits":                   {"1" + strings.Repeat("0", 309), Overflow},
		"an integer of 400 digits":                   {strings.Repeat("4", 400), Overflow},
		"an integer of 400 digits, negative":         {"-" + strings.Repeat("4", 400), Overflow},
		"a large exponent":                           {"1e999", Overflow},
		"an exponent with leading zeros":             {"1e000000308", Number},
		"an exponent of many digits":                 {"1e" + strings.Repeat("9", 40), Overflow},
		"an exponent of many digits, negative":       {strings.Repeat("9", 400) + "e-" + strings.Repeat("9", 40), Number},
		"a mantissa of 0":                            {"0e999", Number},
		"a mantissa of -0.0":                         {"-0.0e99999", Number},
		"leading zeros made up for":                  {"0.0001e312", Number},
		"leading zeros not enough":                   {"0.0001e313", Overflow},
		"a number that becomes 0":                    {"1e-999", Number},
		"20000 zeros and an exponent that undoes it": {"1" + zeros + "e-20000", Number},
		"20000 zeros in the fraction, undone":        {"0." + zeros + "1e20001", Number},
		"20000 zeros in the fraction, more":          {"0." + zeros + "1e20310", Overflow},
	} {
		if got := kindOfNumber(t, c.number); got != c.want {
			t.Errorf("%s: is a %v, want a %v", name, got, c.want)
		}
	}
}

// TestNumbersAtTheBorderOfRange holds numbers of all spellings whose magnitude is
// about that of the largest float64 against strconv.
func TestNumbersAtTheBorderOfRange(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	overflows := 0
	const rounds = 20000
	for range rounds {
		digits := roundedUp[:1+random.IntN(len(roundedUp))]
		for range random.IntN(4) {
			digits += strconv.Itoa(random.IntN(10))
		}
		zeros := random.IntN(320)
		number, power := digits, 309-len(digits)
		if random.IntN(2) == 0 {
			number, power = "0."+strings.Repeat("0", zeros)+digits, 309+zeros
		} else if len(digits) > 1 {
			whole := 1 + random.IntN(len(digits)-1)
			number, power = digits[:whole]+"."+digits[whole:], 309-whole
		}
		number += "e" + strconv.Itoa(power-random.IntN(8)/7+random.IntN(8)/7)
		want := kindOf([]byte(number))
		if got := kindOfNumber(t, number); got != want {
			t.Fatalf("%s is a %v, want a %v", number, got, want)
		}
		if want == Overflow {
			overflows++
		}
	}
	if overflows < rounds/10 || overflows > rounds*9/10 {
		t.Errorf("%d of %d numbers were out of range, which tests little", overflows, rounds)
	}
}
