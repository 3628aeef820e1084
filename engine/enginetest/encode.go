package enginetest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

func gzipped(body []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(body) // into memory
	_ = w.Close()
	return b.Bytes()
}

func zstdPacked(body []byte) []byte {
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err) // the options are constants
	}
	_, _ = w.Write(body) // into memory
	_ = w.Close()
	return b.Bytes()
}

// MsgpackOf returns a JSON document as MessagePack. Members are sorted by name,
// integers stay integers, all other numbers become 64-bit floats. It panics on
// what is no JSON.
func MsgpackOf(doc []byte) []byte {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		panic(fmt.Sprintf("enginetest: no JSON: %v", err))
	}
	return appendMsgpack(nil, v)
}

func appendMsgpack(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, 0xc0)
	case bool:
		if v {
			return append(b, 0xc3)
		}
		return append(b, 0xc2)
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return binary.BigEndian.AppendUint64(append(b, 0xd3), uint64(n))
		}
		f, err := v.Float64()
		if err != nil {
			panic(err)
		}
		return binary.BigEndian.AppendUint64(append(b, 0xcb), math.Float64bits(f))
	case string:
		b = binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(len(v)))
		return append(b, v...)
	case []any:
		b = binary.BigEndian.AppendUint32(append(b, 0xdd), uint32(len(v)))
		for _, e := range v {
			b = appendMsgpack(b, e)
		}
		return b
	case map[string]any:
		b = binary.BigEndian.AppendUint32(append(b, 0xdf), uint32(len(v)))
		for _, name := range slices.Sorted(maps.Keys(v)) {
			b = appendMsgpack(appendMsgpack(b, name), v[name])
		}
		return b
	}
	panic(fmt.Sprintf("enginetest: %T is no JSON", v))
}
