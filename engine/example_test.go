package engine_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"

	"github.com/basetenlabs/caddy-performance-proxy/demo"
	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

// Ten thousand texts are embedded with one request by a server that takes no
// more than 32 of them at a time.
func Example() {
	server := httptest.NewServer(demo.NewServer(demo.ServerOptions{}))
	defer server.Close()

	target, err := url.Parse(server.URL)
	if err != nil {
		panic(err)
	}
	transport, err := engine.NewTransport(engine.TransportOptions{})
	if err != nil {
		panic(err)
	}
	defer transport.CloseIdleConnections()

	texts := make([]string, 10_000)
	for i := range texts {
		texts[i] = fmt.Sprintf("text number %d", i)
	}
	body, err := json.Marshal(map[string]any{"input": texts})
	if err != nil {
		panic(err)
	}

	proxy := engine.New(engine.Options{})
	endpoint := engine.NewEndpoint(engine.EndpointOptions{URL: target})
	answer, err := proxy.Do(context.Background(),
		engine.Destination{
			Group:     engine.NewGroup(engine.GroupOptions{}, engine.Member{Endpoint: endpoint}),
			Transport: transport,
		},
		&engine.Request{
			Path:     "/v1/embeddings",
			Body:     body,
			Settings: engine.Settings{BatchSize: 32, MaxConcurrentRequests: 16},
		})
	if err != nil {
		panic(err)
	}
	defer answer.Close()

	var merged bytes.Buffer
	if _, err := answer.WriteTo(&merged); err != nil {
		panic(err)
	}
	var embeddings struct {
		Data []struct {
			Index     int
			Embedding []float32
		}
	}
	if err := json.Unmarshal(merged.Bytes(), &embeddings); err != nil {
		panic(err)
	}
	last := embeddings.Data[len(embeddings.Data)-1]
	fmt.Println(len(answer.Batches), "batches,", len(embeddings.Data), "vectors,",
		"the last one is of text", last.Index, "and has", len(last.Embedding), "dimensions")
	// Output: 313 batches, 10000 vectors, the last one is of text 9999 and has 384 dimensions
}
