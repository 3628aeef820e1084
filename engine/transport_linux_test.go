package engine

import (
	"errors"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// TestDialingHasATimeout connects to a listener whose queue of connections is
// full: Linux then leaves further ones unanswered.
func TestDialingHasATimeout(t *testing.T) {
	t.Parallel()
	address := fullListener(t)
	for _, scheme := range []string{"http", "https", "h2c"} {
		rt := newTestTransport(t, TransportOptions{DialTimeout: 50 * time.Millisecond})
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, scheme+"://"+address, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = rt.RoundTrip(req)
		var dialing *net.OpError
		if !errors.As(err, &dialing) || dialing.Op != "dial" || !dialing.Timeout() {
			t.Errorf("%s: got the error %v, want a timeout of dialing", scheme, err)
		}
	}
}

// fullListener returns the address of a listener that takes no more connections.
func fullListener(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(os.NewSyscallError("socket", err))
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(os.NewSyscallError("bind", err))
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(os.NewSyscallError("listen", err))
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(os.NewSyscallError("getsockname", err))
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(name.(*syscall.SockaddrInet4).Port))
	for range 16 {
		conn, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	t.Skip("this system queues connections beyond the backlog")
	return ""
}
