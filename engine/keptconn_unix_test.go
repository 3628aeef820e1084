//go:build unix

package engine

import (
	"errors"
	"net"
	"runtime"
	"testing"
)

// TestWriteNoticesWhatArrived writes to a connection on which bytes wait that no
// reader has got yet.
func TestWriteNoticesWhatArrived(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = peer.Close() }()
	kept := &keptConn{Conn: conn, reading: true, silent: true}
	kept.changed.L = &kept.mu
	defer func() { _ = kept.Close() }()
	if arrived(conn) {
		t.Error("bytes arrived before any were sent")
	}
	if _, err := kept.Write([]byte("request")); err != nil {
		t.Fatalf("nothing had arrived: %v", err)
	}
	if _, err := peer.Write([]byte("left over")); err != nil {
		t.Fatal(err)
	}
	for !arrived(conn) {
		runtime.Gosched()
	}
	if _, err := kept.Write([]byte("the rest of the request")); err != nil {
		t.Errorf("a request that has begun is written on: %v", err)
	}
	kept.silent = true
	if _, err := kept.Write([]byte("request")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want net.ErrClosed", err)
	}
}
