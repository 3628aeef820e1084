package handler

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// A connectionCount counts the connections to a server.
type connectionCount struct {
	mu             sync.Mutex
	opened, closed int
	changed        chan struct{}
}

// countConnections serves a handler until the test ends.
func countConnections(t *testing.T, handler http.Handler) (*httptest.Server, *connectionCount) {
	t.Helper()
	c := &connectionCount{changed: make(chan struct{}, 1024)}
	server := httptest.NewUnstartedServer(handler)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		c.mu.Lock()
		defer c.mu.Unlock()
		switch state {
		case http.StateNew:
			c.opened++
		case http.StateClosed:
			c.closed++
		}
		c.changed <- struct{}{}
	}
	server.Start()
	t.Cleanup(server.Close)
	return server, c
}

func (c *connectionCount) counts() (opened, closed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.opened, c.closed
}

// awaitClosed waits until all connections have been closed.
func (c *connectionCount) awaitClosed(t *testing.T) {
	t.Helper()
	limit := time.After(10 * time.Second)
	for {
		opened, closed := c.counts()
		if closed == opened {
			return
		}
		select {
		case <-c.changed:
		case <-limit:
			t.Fatalf("%d of %d connections were closed", closed, opened)
		}
	}
}

// embed sends a request through a handler without a server.
func embed(t *testing.T, h *Handler) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/embeddings", strings.NewReader(goodBody))
	if err := h.ServeHTTP(w, r, nil); err != nil {
		t.Error(err)
	}
	if w.Code != http.StatusOK {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}
