package jsonspan

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

var (
	replyShape = Shape{
		Lists:   []string{"data"},
		Members: []string{"model", "usage", "object"},
		Fields:  []string{"index", "embedding"},
		Vector:  "embedding",
	}
	requestShape = Shape{
		Lists:   []string{"input"},
		Members: []string{"model", "encoding_format"},
	}
)

// embeddingsReply is the reply to an embeddings request of the given number of
// items. The numbers are those of a unit vector as a server prints float32s, or
// float64s made from them when bits is 64.
func embeddingsReply(items, dimensions, bits int, comma string) []byte {
	random := rand.New(rand.NewPCG(1, 2))
	b := []byte(`{"object":"list","data":[`)
	for item := range items {
		if item > 0 {
			b = append(b, comma...)
		}
		b = fmt.Appendf(b, `{"object":"embedding","index":%d,"embedding":[`, item)
		for d := range dimensions {
			if d > 0 {
				b = append(b, comma...)
			}
			x := float64(float32(random.NormFloat64() * 0.03))
			format := byte('f')
			if x < 1e-4 && x > -1e-4 {
				format = 'e'
			}
			if bits == 32 {
				b = strconv.AppendFloat(b, x, format, -1, 32)
			} else {
				b = strconv.AppendFloat(b, x, format, -1, 64)
			}
		}
		b = append(b, `]}`...)
	}
	return append(b, `],"model":"m","usage":{"prompt_tokens":512,"total_tokens":512}}`...)
}

// sentences are texts of about 100 bytes in several scripts.
var sentences = map[string]string{
	"english":  "The quick brown fox jumps over the lazy dog, while seventeen other animals watch from the far hill. ",
	"german":   "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich, während die Möwen laut dazu schreien. ",
	"russian":  "Съешь же ещё этих мягких французских булок, да выпей чаю. ",
	"chinese":  "敏捷的棕色狐狸跳过了那只懒惰的狗,而其他动物都在远处的山上看着。",
	"emoji":    "well done 👍🏽🎉🎉 see you tomorrow 🙂 at the usual place 📍 with the usual people 👨‍👩‍👧 ",
	"escapes":  `She said \"no\".\nThen, after a while:\t\"yes\".\nThat was on page 3\/4 of the file C:\\temp\\story.txt. `,
	"u-escape": `\u654f\u6377\u7684\u68d5\u8272\u72d0\u72f8\u8df3\u8fc7 \ud83d\udc4d caf\u00e9 `,
}

func embeddingsRequest(items, size int, names ...string) []byte {
	b := []byte(`{"model":"m","input":[`)
	for item := range items {
		if item > 0 {
			b = append(b, ',')
		}
		text := sentences[names[item%len(names)]]
		b = append(b, '"')
		b = append(b, strings.Repeat(text, max(1, size/len(text)))...)
		b = append(b, '"')
	}
	return append(b, `],"encoding_format":"float"}`...)
}

func benchmarkScan(b *testing.B, shape *Shape, doc []byte) {
	var d Document
	if err := shape.Scan(doc, &d); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		if err := shape.Scan(doc, &d); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(doc)), "ns/byte")
}

func BenchmarkScanReply(b *testing.B) {
	for _, c := range []struct {
		name  string
		bits  int
		comma string
	}{
		{"float32", 32, ","},
		{"float32 blank after comma", 32, ", "},
		{"float32 one a line", 32, ",\n        "},
		{"float64", 64, ","},
	} {
		b.Run(c.name, func(b *testing.B) {
			benchmarkScan(b, &replyShape, embeddingsReply(32, 1024, c.bits, c.comma))
		})
	}
}

func BenchmarkScanRerankReply(b *testing.B) {
	doc := []byte(`[`)
	for i := range 1000 {
		doc = fmt.Appendf(doc, `{"index":%d,"score":%g},`, 999-i, 1/float64(i+1))
	}
	doc[len(doc)-1] = ']'
	benchmarkScan(b, &Shape{Lists: []string{""}, Fields: []string{"index", "score"}}, doc)
}

func BenchmarkScanRequest(b *testing.B) {
	mixed := []string{"english", "german", "english", "russian", "english", "chinese", "english", "emoji", "english", "escapes"}
	b.Run("mixed", func(b *testing.B) {
		benchmarkScan(b, &requestShape, embeddingsRequest(10_000, 400, mixed...))
	})
	for _, name := range []string{"english", "german", "russian", "chinese", "emoji", "escapes", "u-escape"} {
		b.Run(name, func(b *testing.B) {
			benchmarkScan(b, &requestShape, embeddingsRequest(10_000, 400, name))
		})
	}
}

func BenchmarkScanTokens(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 2))
	doc := []byte(`{"model":"m","input":[`)
	for range 1000 {
		doc = append(doc, '[')
		for range 256 {
			doc = strconv.AppendInt(doc, random.Int64N(100_000), 10)
			doc = append(doc, ',')
		}
		doc[len(doc)-1] = ']'
		doc = append(doc, ',')
	}
	doc[len(doc)-1] = ']'
	benchmarkScan(b, &requestShape, append(doc, '}'))
}

// BenchmarkEncodingJSON is the yardstick: what encoding/json takes to check the
// reply of BenchmarkScanReply.
func BenchmarkEncodingJSON(b *testing.B) {
	doc := embeddingsReply(32, 1024, 32, ",")
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		if !json.Valid(doc) {
			b.Fatal("not valid")
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(doc)), "ns/byte")
}
