package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"time"
)

// EmbeddingsPath is the path of the requests.
const EmbeddingsPath = "/v1/embeddings"

const headerPreferences = "X-Baseten-Request-Preferences"

// A Request is what a client sends.
type Request struct {
	// ID is the customer request id; it has no dash, see [CallIDOf].
	ID string
	// Items are the texts.
	Items []string
	// Body replaces the body that is made of the texts, for requests that are
	// refused.
	Body []byte
	// Preferences are sent as JSON when there are any.
	Preferences map[string]any
	// Header holds further headers.
	Header http.Header
	// Upload wraps the body while it is sent; nil means that it is sent as it is.
	Upload func(io.Reader) io.Reader
}

// An Answer is what a client got.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
	// Took is the time from the beginning of the request to the end of the answer.
	Took time.Duration
}

// UnansweredError is a request to which nothing came back.
type UnansweredError struct {
	// Reused tells that the connection had carried a request before.
	Reused bool
	Err    error
}

func (e *UnansweredError) Error() string {
	if e.Reused {
		return "no answer on a connection that was used before: " + e.Err.Error()
	}
	return "no answer on a fresh connection: " + e.Err.Error()
}
func (e *UnansweredError) Unwrap() error { return e.Err }

// BrokenOffError is an answer that began and did not end.
type BrokenOffError struct {
	Status int
	Err    error
}

func (e *BrokenOffError) Error() string {
	return fmt.Sprintf("an answer with status %d broke off: %v", e.Status, e.Err)
}
func (e *BrokenOffError) Unwrap() error { return e.Err }

// A Client sends requests over connections of its own, which it keeps. It is
// safe for concurrent use.
type Client struct {
	url       string
	transport *http.Transport
}

// NewClient returns a client of a proxy, in HTTP/1.1 or in HTTP/2 in clear text.
// It is to be closed.
func NewClient(url string, h2c bool) *Client {
	t := &http.Transport{
		Protocols:           new(http.Protocols),
		MaxIdleConnsPerHost: 64,
		DisableCompression:  true,
	}
	t.Protocols.SetHTTP1(!h2c)
	t.Protocols.SetUnencryptedHTTP2(h2c)
	return &Client{url: url, transport: t}
}

// Close closes the connections that carry no request.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Do sends a request. An error is an [UnansweredError] or a [BrokenOffError]; an
// answer of any status is none.
func (c *Client) Do(ctx context.Context, r Request) (*Answer, error) {
	start, reused := time.Now(), false
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused },
	})
	req, err := r.http(ctx, c.url)
	if err != nil {
		return nil, err
	}
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return nil, &UnansweredError{Reused: reused, Err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, &BrokenOffError{Status: resp.StatusCode, Err: err}
	}
	return &Answer{Status: resp.StatusCode, Header: resp.Header, Body: body, Took: time.Since(start)}, nil
}

// http makes the request of net/http.
func (r Request) http(ctx context.Context, url string) (*http.Request, error) {
	body := r.Body
	if body == nil {
		var err error
		if body, err = json.Marshal(map[string]any{"model": "bench", "input": r.Items}); err != nil {
			return nil, fmt.Errorf("making a request: %w", err)
		}
	}
	var upload io.Reader = bytes.NewReader(body)
	if r.Upload != nil {
		upload = r.Upload(upload)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+EmbeddingsPath, upload)
	if err != nil {
		return nil, fmt.Errorf("making a request: %w", err)
	}
	req.ContentLength = int64(len(body))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(headerRequestID, r.ID)
	if len(r.Preferences) > 0 {
		preferences, err := json.Marshal(r.Preferences)
		if err != nil {
			return nil, fmt.Errorf("making a request: %w", err)
		}
		req.Header.Set(headerPreferences, string(preferences))
	}
	maps.Copy(req.Header, r.Header)
	return req, nil
}
