package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"
)

func TestMsgpackToJSON(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("\x91", maxMsgpackDepth-1) + "\x90"
	tests := map[string]struct {
		src  []byte
		want string
	}{
		"nil":                                  {msgp.AppendNil(nil), "null"},
		"true":                                 {msgp.AppendBool(nil, true), "true"},
		"false":                                {msgp.AppendBool(nil, false), "false"},
		"a small integer":                      {msgp.AppendInt(nil, 5), "5"},
		"a small negative integer":             {msgp.AppendInt(nil, -5), "-5"},
		"the smallest integer":                 {msgp.AppendInt64(nil, math.MinInt64), "-9223372036854775808"},
		"the largest integer":                  {msgp.AppendUint64(nil, math.MaxUint64), "18446744073709551615"},
		"a byte":                               {[]byte{0xcc, 200}, "200"},
		"a signed byte":                        {[]byte{0xd0, 200}, "-56"},
		"two signed bytes":                     {[]byte{0xd1, 0x80, 0x00}, "-32768"},
		"a 32-bit float has its own digits":    {msgp.AppendFloat32(nil, 0.1), "0.1"},
		"a 64-bit float has more":              {msgp.AppendFloat64(nil, float64(float32(0.1))), "0.10000000149011612"},
		"a whole float":                        {msgp.AppendFloat32(nil, 3), "3"},
		"zero":                                 {msgp.AppendFloat64(nil, 0), "0"},
		"negative zero":                        {msgp.AppendFloat32(nil, float32(math.Copysign(0, -1))), "-0"},
		"a small 32-bit float":                 {msgp.AppendFloat32(nil, 1e-7), "1e-7"},
		"a 32-bit float that is not small":     {msgp.AppendFloat32(nil, 1e-6), "0.000001"},
		"a small 64-bit float":                 {msgp.AppendFloat64(nil, 1.5e-9), "1.5e-9"},
		"a very small 64-bit float":            {msgp.AppendFloat64(nil, 5e-324), "5e-324"},
		"a large 64-bit float":                 {msgp.AppendFloat64(nil, 1e21), "1e+21"},
		"a 64-bit float that is not large":     {msgp.AppendFloat64(nil, 1e20), "100000000000000000000"},
		"the largest 32-bit float":             {msgp.AppendFloat32(nil, -math.MaxFloat32), "-3.4028235e+38"},
		"a string":                             {msgp.AppendString(nil, "grün 🌱"), `"grün 🌱"`},
		"a string to escape":                   {msgp.AppendString(nil, "a\"b\\c\nd\x00\x1f/<"), `"a\"b\\c\u000ad\u0000\u001f/<"`},
		"an empty string":                      {msgp.AppendString(nil, ""), `""`},
		"binary data":                          {msgp.AppendBytes(nil, []byte{0xff, 0xfe}), `"//4="`},
		"no binary data":                       {msgp.AppendBytes(nil, nil), `""`},
		"an empty array":                       {msgp.AppendArrayHeader(nil, 0), "[]"},
		"an empty map":                         {msgp.AppendMapHeader(nil, 0), "{}"},
		"an array":                             {[]byte("\x93\x01\xc0\x91\x02"), "[1,null,[2]]"},
		"a long array":                         {append(msgp.AppendArrayHeader(nil, 70_000), bytes.Repeat([]byte{0}, 70_000)...), "[" + strings.Repeat("0,", 69_999) + "0]"},
		"a map keeps its order":                {[]byte("\x82\xa1b\x01\xa1a\x80"), `{"b":1,"a":{}}`},
		"a map whose keys are binary":          {[]byte("\x81\xc4\x01b\xc4\x01x"), `{"b":"eA=="}`},
		"a key to escape":                      {[]byte("\x81\xa1\"\x01"), `{"\"":1}`},
		"numpy's arrays are what they are":     {[]byte("\x82\xc4\x02nd\xc3\xc4\x04data\xc4\x04\x00\x00\x80\x3f"), `{"nd":true,"data":"AACAPw=="}`},
		"values as deep as they may be nested": {[]byte(deep), strings.Repeat("[", maxMsgpackDepth) + strings.Repeat("]", maxMsgpackDepth)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := NewMemory(1 << 20)
			got, err := msgpackToJSON(test.src, replyLimits{MaxBody: int64(len(test.want)), Memory: m})
			if err != nil {
				t.Fatal(err)
			}
			if string(got.b) != test.want {
				t.Errorf("got %.200s, want %.200s", got.b, test.want)
			}
			got.release()
			if used := m.Used(); used != 0 {
				t.Errorf("%d bytes are still reserved", used)
			}
			if _, err := msgpackToJSON(test.src, replyLimits{MaxBody: int64(len(test.want)) - 1, Memory: m}); !errors.Is(err, errTooLarge) || m.Used() != 0 {
				t.Errorf("with a limit of a byte less: %d bytes are reserved, error %v", m.Used(), err)
			}
		})
	}
}

func TestMsgpackThatIsNoJSON(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		src  []byte
		want error
	}{
		"nothing":                           {nil, msgp.ErrShortBytes},
		"not a number":                      {msgp.AppendFloat32(nil, float32(math.NaN())), errMsgpackNumber},
		"an infinite number":                {msgp.AppendFloat64(nil, math.Inf(-1)), errMsgpackNumber},
		"a number within an array":          {append([]byte("\x91"), msgp.AppendFloat64(nil, math.NaN())...), errMsgpackNumber},
		"a string that is not UTF-8":        {[]byte("\xa1\xff"), errMsgpackUTF8},
		"a string of half a surrogate pair": {[]byte("\xa3\xed\xa0\x80"), errMsgpackUTF8},
		"a binary key that is not UTF-8":    {[]byte("\x81\xc4\x01\xff\x01"), errMsgpackUTF8},
		"an integer as a key":               {[]byte("\x81\x01\x01"), errMsgpackKey},
		"nil as a key":                      {[]byte("\x81\xc0\x01"), errMsgpackKey},
		"an array as a key":                 {[]byte("\x81\x90\x01"), errMsgpackKey},
		"a key that breaks off":             {[]byte("\x81\xa5abc"), msgp.ErrShortBytes},
		"a map without its last value":      {[]byte("\x81\xa1a"), msgp.ErrShortBytes},
		"an array that breaks off":          {[]byte("\x92\x01"), msgp.ErrShortBytes},
		"an array said to be very long":     {[]byte("\xdd\xff\xff\xff\xff\x01"), msgp.ErrShortBytes},
		"a map said to be very long":        {[]byte("\xdf\xff\xff\xff\xff"), msgp.ErrShortBytes},
		"a string said to be very long":     {[]byte("\xdb\xff\xff\xff\xffx"), msgp.ErrShortBytes},
		"binary data that breaks off":       {[]byte("\xc4\x02x"), msgp.ErrShortBytes},
		"a float that breaks off":           {[]byte("\xcb\x00"), msgp.ErrShortBytes},
		"a 32-bit float that breaks off":    {[]byte("\xca\x00"), msgp.ErrShortBytes},
		"an integer that breaks off":        {[]byte("\xd3\x00"), msgp.ErrShortBytes},
		"a positive one that breaks off":    {[]byte("\xcf\x00"), msgp.ErrShortBytes},
		"half a length of an array":         {[]byte("\xdc\x00"), msgp.ErrShortBytes},
		"half a length of a map":            {[]byte("\xde\x00"), msgp.ErrShortBytes},
		"something behind the value":        {[]byte("\x01\x02"), errMsgpackRest},
		"an extension":                      {[]byte("\xd4\x05x"), errMsgpackType},
		"an extension that breaks off":      {[]byte("\xc7"), errMsgpackType},
		"a timestamp":                       {msgp.AppendTimeExt(nil, time.Unix(1, 0)), errMsgpackType},
		"a complex number":                  {msgp.AppendComplex128(nil, 1i), errMsgpackType},
		"the type that is never used":       {[]byte("\xc1"), errMsgpackType},
		"arrays that are nested too deep":   {bytes.Repeat([]byte("\x91"), 1<<20), errMsgpackDepth},
		"maps that are nested too deep":     {bytes.Repeat([]byte("\x81\xa0"), 1<<20), errMsgpackDepth},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := NewMemory(16 << 20)
			got, err := msgpackToJSON(test.src, replyLimits{MaxBody: 1 << 20, Memory: m})
			if err == nil {
				t.Fatalf("got %.100s", got.b)
			}
			if !errors.Is(err, test.want) {
				t.Errorf("got the error %v, want %v", err, test.want)
			}
			if used := m.Used(); used != 0 {
				t.Errorf("%d bytes are still reserved", used)
			}
		})
	}
}

func TestIsMsgpack(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{
		"":                                      false,
		"application/json":                      false,
		"application/json; charset=utf-8":       false,
		"text/html":                             false,
		"application/msgpack":                   true,
		"APPLICATION/MSGPACK":                   true,
		"application/x-msgpack; charset=binary": true,
		"application/vnd.msgpack":               true,
		"application/vnd.msgpack; =":            true,
		"application/msgpackage":                false,
	}
	for value, want := range tests {
		if got := isMsgpack(http.Header{"Content-Type": {value}}); got != want {
			t.Errorf("%q is MessagePack: %t", value, got)
		}
	}
}

// FuzzMsgpackToJSON checks that whatever comes, the result is JSON within the
// limit and no memory is lost.
func FuzzMsgpackToJSON(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(appendValue(nil, randomValue(rand.New(rand.NewPCG(seed, 0)), 4)))
	}
	f.Add([]byte("\x81\xc4\x01b\xc4\x01x"))
	f.Add(bytes.Repeat([]byte("\x91"), 600))
	f.Fuzz(func(t *testing.T, src []byte) {
		const limit = 16 << 10
		m := NewMemory(1 << 20)
		got, err := msgpackToJSON(src, replyLimits{MaxBody: limit, Memory: m})
		if err == nil && (!json.Valid(got.b) || !utf8.Valid(got.b) || len(got.b) > limit) {
			t.Errorf("%x became %q", src, got.b)
		}
		if errors.Is(err, ErrOverloaded) {
			t.Errorf("%d bytes took too much memory", len(src))
		}
		got.release()
		if used := m.Used(); used != 0 {
			t.Errorf("%d bytes are still reserved", used)
		}
	})
}

// FuzzMsgpackKeepsValues checks that random values come out as they went in.
func FuzzMsgpackKeepsValues(f *testing.F) {
	for seed := range uint64(50) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		want := randomValue(rand.New(rand.NewPCG(seed, 0)), 5)
		got, err := msgpackToJSON(appendValue(nil, want), replyLimits{MaxBody: 1 << 24})
		if err != nil {
			t.Fatal(err)
		}
		defer got.release()
		d := json.NewDecoder(bytes.NewReader(got.b))
		d.UseNumber()
		var decoded any
		if err := d.Decode(&decoded); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(decoded, asDecoded(t, want)) {
			t.Errorf("%#v became %s", want, got.b)
		}
	})
}

// randomValue returns a value as JSON has them, with numbers of all widths.
func randomValue(r *rand.Rand, depth int) any {
	kinds := 9
	if depth == 0 {
		kinds = 7
	}
	switch r.IntN(kinds) {
	case 0:
		return nil
	case 1:
		return r.IntN(2) == 0
	case 2:
		return int64(r.Uint64()) >> r.IntN(64)
	case 3:
		return r.Uint64() >> r.IntN(64)
	case 4:
		for {
			if f := math.Float32frombits(r.Uint32()); f-f == 0 {
				return f
			}
		}
	case 5:
		for {
			if f := math.Float64frombits(r.Uint64()); f-f == 0 {
				return f
			}
		}
	case 6:
		return randomString(r)
	case 7:
		list := make([]any, r.IntN(20))
		for i := range list {
			list[i] = randomValue(r, depth-1)
		}
		return list
	default:
		object := map[string]any{}
		for range r.IntN(20) {
			object[randomString(r)] = randomValue(r, depth-1)
		}
		return object
	}
}

func randomString(r *rand.Rand) string {
	const letters = "ab\"\\/\x00\n\x1f \x7f\u0080äß漢\u2028\uffff🌱"
	all := []rune(letters)
	s := make([]rune, r.IntN(40))
	for i := range s {
		s[i] = all[r.IntN(len(all))]
	}
	return string(s)
}

func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return msgp.AppendNil(b)
	case bool:
		return msgp.AppendBool(b, v)
	case int64:
		return msgp.AppendInt64(b, v)
	case uint64:
		return msgp.AppendUint64(b, v)
	case float32:
		return msgp.AppendFloat32(b, v)
	case float64:
		return msgp.AppendFloat64(b, v)
	case string:
		return msgp.AppendString(b, v)
	case []any:
		b = msgp.AppendArrayHeader(b, uint32(len(v)))
		for _, e := range v {
			b = appendValue(b, e)
		}
		return b
	case map[string]any:
		b = msgp.AppendMapHeader(b, uint32(len(v)))
		for name, e := range v {
			b = appendValue(msgp.AppendString(b, name), e)
		}
		return b
	}
	panic("no such value")
}

// asDecoded returns a value as encoding/json prints and decodes it.
func asDecoded(t *testing.T, v any) any {
	switch v := v.(type) {
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = asDecoded(t, e)
		}
		return list
	case map[string]any:
		object := map[string]any{}
		for name, e := range v {
			object[name] = asDecoded(t, e)
		}
		return object
	case int64, uint64, float32, float64:
		printed, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return json.Number(printed)
	}
	return v
}
