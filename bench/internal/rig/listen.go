package rig

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
	"time"
)

// The ports that servers get. They lie below those that systems give to outgoing
// connections, so that the port of a server that was killed is free when it
// comes back.
const (
	firstPort = 10_240
	lastPort  = 32_000
)

const (
	// portTries is how many ports are tried.
	portTries = 1000
	// comeBackLimit is how long a server that comes back waits for its port.
	comeBackLimit = 10 * time.Second
	comeBackPause = 10 * time.Millisecond
)

// listen listens on a free port of loopback.
func listen() (net.Listener, error) {
	var last error
	for range portTries {
		port := firstPort + rand.IntN(lastPort-firstPort)
		listener, err := net.Listen("tcp", loopback(port))
		if err == nil {
			return listener, nil
		}
		last = err
	}
	return nil, fmt.Errorf("looking for a free port: %w", last)
}

// listenAgain listens on an address that was listened on before.
func listenAgain(address string) (net.Listener, error) {
	for start := time.Now(); ; time.Sleep(comeBackPause) {
		listener, err := net.Listen("tcp", address)
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) || time.Since(start) > comeBackLimit {
			return listener, err
		}
	}
}

// FreeAddress returns an address of loopback on which nothing listens now.
func FreeAddress() (string, error) {
	listener, err := listen()
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
