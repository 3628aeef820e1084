package jsonspan_test

import (
	"fmt"

	"github.com/basetenlabs/caddy-performance-proxy/engine/jsonspan"
)

func ExampleShape_Scan() {
	shape := jsonspan.Shape{
		Lists:   []string{"data"},
		Members: []string{"model"},
		Fields:  []string{"index", "embedding"},
		Vector:  "embedding",
	}
	reply := []byte(`{"data": [{"index": 0, "embedding": [0.10, -2e-3]}], "model": "bge"}`)

	var d jsonspan.Document
	if err := shape.Scan(reply, &d); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("model: %s\n", d.Members[0].Value.Of(reply))
	for i, entry := range d.Entries {
		fmt.Printf("entry: %s\n", entry.Of(reply))
		fmt.Printf("index: %s\n", d.Field(i, 0).Of(reply))
		fmt.Printf("numbers in the vector: %d\n", entry.Vector.Len)
	}
	// Output:
	// model: "bge"
	// entry: {"index": 0, "embedding": [0.10, -2e-3]}
	// index: 0
	// numbers in the vector: 2
}

func ExampleMembers() {
	usage := []byte(`{"prompt_tokens": 12, "total_tokens": 12}`)
	whole := jsonspan.Value{Span: jsonspan.Span{End: len(usage)}, Kind: jsonspan.Object}
	for m := range jsonspan.Members(usage, whole) {
		name := jsonspan.Unquote(usage, jsonspan.Value{Span: m.Key, Kind: jsonspan.String})
		fmt.Println(name, string(m.Value.Of(usage)))
	}
	// Output:
	// prompt_tokens 12
	// total_tokens 12
}
