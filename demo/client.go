package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// StatusError says that a request was answered with another status than 200.
type StatusError struct {
	Status  int    // the HTTP status
	Message string // what the answer says, without its JSON
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("status %d: %s", e.Status, e.Message)
}

// client sends embeddings requests as the SDKs do: it keeps its connections and
// reads every answer to its end.
type client struct {
	http http.Client
}

// newClient returns a client that goes straight to its target, whatever proxy
// the environment names, and takes replies as they are.
func newClient() *client {
	return &client{http.Client{Transport: &http.Transport{DisableCompression: true}}}
}

func (c *client) close() {
	c.http.CloseIdleConnections()
}

// embed sends a request's body to a server's `/v1/embeddings` and returns the
// answer's. The error is a [*StatusError] when the status is not 200.
func (c *client) embed(ctx context.Context, server string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, server+"/v1/embeddings", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	var answer bytes.Buffer
	if response.ContentLength > 0 {
		answer.Grow(int(response.ContentLength) + bytes.MinRead)
	}
	if _, err := io.Copy(&answer, response.Body); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, &StatusError{response.StatusCode, errorMessage(answer.Bytes())}
	}
	return answer.Bytes(), nil
}

// errorMessage returns what an answer says that is no success: the message of
// the model server's or the proxy's JSON, else its text.
func errorMessage(body []byte) string {
	var e struct {
		Message string `json:"message"`
		Error   string `json:"error"`
	}
	if json.Unmarshal(body, &e) == nil && e.Message+e.Error != "" {
		return e.Message + e.Error
	}
	return strings.Join(strings.Fields(string(body)), " ")
}

// requestBody returns the body of a request to embed texts.
func requestBody(texts []string) ([]byte, error) {
	return json.Marshal(struct {
		Input []string `json:"input"`
	}{texts})
}
