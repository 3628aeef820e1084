package jsonspan

import (
	"encoding/binary"
	"math/bits"
	"strconv"
)

// highBits has the highest bit of each of eight bytes set.
const highBits = 0x8080808080808080

// numberStart says which bytes a number begins with.
var numberStart = [256]bool{
	'-': true, '0': true, '1': true, '2': true, '3': true, '4': true,
	'5': true, '6': true, '7': true, '8': true, '9': true,
}

// eight returns the eight bytes from i on, the first one lowest.
func eight(doc []byte, i int) uint64 {
	return binary.LittleEndian.Uint64(doc[i : i+8 : i+8])
}

// nonDigits sets the highest bit of each of eight bytes that is no digit, and no
// other bits. Behind a byte that is not ASCII its bits are arbitrary.
func nonDigits(b uint64) uint64 {
	// A digit becomes 0 to 9, to which 0x76 is added without reaching the highest
	// bit. All else reaches it or has it, and only a byte that is not ASCII carries
	// over to the next one.
	x := b ^ 0x3030303030303030
	return (x | (x + 0x7676767676767676)) & highBits
}

// firstByte returns the index of the first of eight bytes whose highest bit is
// set in mask, 8 if there is none.
func firstByte(mask uint64) int { return bits.TrailingZeros64(mask) >> 3 }

// digits returns the index of the first byte from i on that is no digit.
func digits(doc []byte, i int) int {
	for ; i+8 <= len(doc); i += 8 {
		if mask := nonDigits(eight(doc, i)); mask != 0 {
			return i + firstByte(mask)
		}
	}
	for i < len(doc) && doc[i]-'0' < 10 {
		i++
	}
	return i
}

// number checks the number that begins at i.
func (s *scanner) number(i int) (end int, kind Kind) {
	kind = Integer
	if s.at(i) == '-' {
		kind = Number
		i++
	}
	end = digits(s.doc, i)
	if end == i {
		return s.fail(i, "expected a digit"), kind
	}
	if s.doc[i] == '0' && end > i+1 {
		return s.fail(i+1, "expected no digit after a leading 0"), kind
	}
	start, whole := i, end-i
	if s.at(end) == '.' {
		kind = Number
		if i, end = end+1, digits(s.doc, end+1); end == i {
			return s.fail(i, "expected a digit after the decimal point"), kind
		}
	}
	mantissa := s.doc[start:end]
	power := int64(0)
	if c := s.at(end); c == 'e' || c == 'E' {
		kind = Number
		i = end + 1
		sign := s.at(i)
		if sign == '+' || sign == '-' {
			i++
		}
		if end = digits(s.doc, i); end == i {
			return s.fail(i, "expected a digit in the exponent"), kind
		}
		if power = exponent(s.doc[i:end]); sign == '-' {
			power = -power
		}
	}
	// With fewer digits before its decimal point a number is less than 1e308.
	if int64(whole)+power >= maxWhole && overflows(mantissa, whole, power) {
		kind = Overflow
	}
	return end, kind
}

// maxWhole is the number of digits of the integer part of the largest float64.
const maxWhole = 309

// exponent returns the value of digits, or some number that is larger than the
// length of any document can be when the value is.
func exponent(digits []byte) (value int64) {
	for _, c := range digits {
		if value < 1<<56 {
			value = value*10 + int64(c-'0')
		}
	}
	return value
}

// overflows reports whether no float64 holds the number of the given mantissa,
// which has no sign, whole digits and perhaps a fraction, times the given power
// of ten.
func overflows(mantissa []byte, whole int, power int64) bool {
	// Only a number with just as many digits as the largest float64 needs to be
	// compared with it. The value above which numbers are rounded up to infinity is
	// an integer, so that digits beyond those of integers cannot matter: strconv
	// gets a short number, however long this one is, and an exponent it can bear,
	// since it takes those over 10000 for less than they are.
	var buffer [len("0.") + maxWhole + len("e309")]byte
	number := append(buffer[:0], "0."...)
	leading := 0 // zeros before the first other digit
	for _, c := range mantissa {
		switch {
		case c == '.':
		case c == '0' && len(number) == len("0."):
			leading++
		case len(number) < len("0.")+maxWhole:
			number = append(number, c)
		}
	}
	size := int64(whole-leading) + power
	if len(number) == len("0.") || size != maxWhole {
		return len(number) > len("0.") && size > maxWhole
	}
	_, err := strconv.ParseFloat(string(append(number, "e309"...)), 64)
	return err != nil
}

// plainNumbers goes over the array elements from i on for as long as they are
// plain numbers: a sign and digits of up to eight bytes, or of up to seven and a
// fraction, no exponent, and then a comma and at most one blank. It returns the
// index after that, how many numbers there are, and their kinds.
//
// Nearly all bytes of a reply are such numbers. They are checked eight bytes at a
// time, and where a number ends is made to depend on as little as possible, so
// that the processor is at the next one while it still checks this one. What is
// not plain, or too close to the end of the document, is left to
// [scanner.number].
func plainNumbers(doc []byte, i int) (next, count int, kinds KindSet) {
	for i+16 <= len(doc) {
		head := eight(doc, i)
		minus := ((head&0xFF ^ '-') - 1) >> 63 // 1 if there is a minus sign, or else 0
		marks := nonDigits(head) &^ (minus << 7)
		mark := firstByte(marks) // the decimal point, the comma, or what is no plain number
		if whole := mark - int(minus); whole == 0 || whole > 1 && doc[i+int(minus)] == '0' {
			break
		}
		kind := Integer + Kind(minus)
		end := i + mark
		if doc[end] == '.' {
			kind = Number
			fraction := end + 1
			if marks &= marks - 1; marks != 0 {
				end = i + firstByte(marks)
			} else if marks = nonDigits(eight(doc, i+8)); marks != 0 {
				end = i + 8 + firstByte(marks)
			} else {
				end = digits(doc, i+16)
			}
			if end == fraction {
				break
			}
		}
		if end >= len(doc) || doc[end] != ',' {
			break
		}
		if i = end + 1; i < len(doc) && doc[i] == ' ' {
			i++
		}
		count++
		kinds |= 1 << kind
	}
	return i, count, kinds
}
