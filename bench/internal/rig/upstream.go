package rig

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

// HealthPath is where an [Upstream] tells of its health.
const HealthPath = "/health"

// closeLimit is how long [Upstream.Close] waits for the calls to end.
const closeLimit = 10 * time.Second

// A Script is told of a call when it has arrived, and returns its faults. Unless
// it is nil, done is called when the reply was sent, or given up; the caller has
// not seen the end of the reply before that.
type Script func(c *enginetest.Call) (faults []enginetest.Fault, done func())

// UpstreamOptions describe an [Upstream].
type UpstreamOptions struct {
	// H2C makes it speak HTTP/2 in clear text only, instead of HTTP/1.1 only.
	H2C bool
	// Script gives calls their faults; nil means none.
	Script Script
	// Healthy says what GET of [HealthPath] answers: 200, or 503 when it returns
	// false. Nil means healthy.
	Healthy func() bool
}

// An Upstream is a model server for embeddings on loopback. It is safe for
// concurrent use.
type Upstream struct {
	options UpstreamOptions
	address string
	calls   sync.WaitGroup

	mu     sync.Mutex
	server *http.Server // nil while it is down
	conns  map[net.Conn]http.ConnState
}

// StartUpstream starts a model server on a free port. It is to be closed.
func StartUpstream(o UpstreamOptions) (*Upstream, error) {
	listener, err := listen()
	if err != nil {
		return nil, fmt.Errorf("starting a model server: %w", err)
	}
	u := &Upstream{options: o, address: listener.Addr().String(), conns: make(map[net.Conn]http.ConnState)}
	u.serve(listener)
	return u, nil
}

// URL returns where the server is, with the scheme h2c when it speaks HTTP/2.
func (u *Upstream) URL() string {
	if u.options.H2C {
		return "h2c://" + u.address
	}
	return "http://" + u.address
}

// Address returns the host and port of the server.
func (u *Upstream) Address() string { return u.address }

// Kill closes the listener and all connections at once, as a process that is
// killed does. It does nothing while the server is down.
func (u *Upstream) Kill() {
	u.mu.Lock()
	server := u.server
	u.server = nil
	u.mu.Unlock()
	if server != nil {
		_ = server.Close() // everything is closed whatever it returns
	}
}

// Restart lets a server that was killed listen on its port again.
func (u *Upstream) Restart() error {
	listener, err := listenAgain(u.address)
	if err != nil {
		return fmt.Errorf("starting the model server again: %w", err)
	}
	u.serve(listener)
	return nil
}

// Close kills the server and waits for its calls to end.
func (u *Upstream) Close() error {
	u.Kill()
	ended := make(chan struct{})
	go func() {
		u.calls.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-time.After(closeLimit):
		return fmt.Errorf("calls of the model server %s did not end within %v", u.address, closeLimit)
	}
}

// Connections returns how many connections carry calls and how many carry none.
func (u *Upstream) Connections() (active, idle int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, state := range u.conns {
		if state == http.StateActive {
			active++
		} else {
			idle++
		}
	}
	return active, idle
}

// serve serves on a listener until the server is killed.
func (u *Upstream) serve(listener net.Listener) {
	server := &http.Server{
		Handler:   http.HandlerFunc(u.answer),
		Protocols: new(http.Protocols),
		ConnState: u.connState,
		// What clients do to it is what is tested.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	server.Protocols.SetHTTP1(!u.options.H2C)
	server.Protocols.SetUnencryptedHTTP2(u.options.H2C)
	u.mu.Lock()
	u.server = server
	u.mu.Unlock()
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			panic(fmt.Sprintf("the model server %s: %v", u.address, err))
		}
	}()
}

// connState follows the connections.
func (u *Upstream) connState(conn net.Conn, state http.ConnState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if state == http.StateClosed || state == http.StateHijacked {
		delete(u.conns, conn)
		return
	}
	u.conns[conn] = state
}

// answer answers one call. The fake that all tests share keeps every call that
// it got, so each call has a fake of its own.
func (u *Upstream) answer(w http.ResponseWriter, r *http.Request) {
	u.calls.Add(1)
	defer u.calls.Done()
	if r.Method == http.MethodGet && r.URL.Path == HealthPath {
		if u.options.Healthy != nil && !u.options.Healthy() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return
	}
	var done func()
	defer func() {
		if done != nil {
			done()
		}
	}()
	model := enginetest.New()
	model.Script = func(c *enginetest.Call) (faults []enginetest.Fault) {
		if u.options.Script != nil {
			faults, done = u.options.Script(c)
		}
		return faults
	}
	model.ServeHTTP(w, r)
}
