package performanceproxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/basetenlabs/caddy-performance-proxy/handler"
)

// serve runs the proxy until a signal ends the process. It returns only when
// the proxy could not start.
func serve(opts *options) error {
	trapSignals()
	if err := checkHandler(opts.proxy); err != nil {
		return err
	}
	if err := checkAddresses(opts.listenAddress(), opts.admin); err != nil {
		return err
	}
	address, err := start(opts)
	if err != nil {
		return err
	}
	caddy.Log().Info("serving", zap.String("address", address))
	for _, warning := range opts.warnings() {
		caddy.Log().Warn(warning)
	}
	select {}
}

// trapSignals lets Caddy handle signals. Caddy begins to listen for them some
// time after it was asked to: a signal that comes earlier would kill the process,
// so it is held here, and sent again until Caddy has heard it.
func trapSignals() {
	early := make(chan os.Signal, 1)
	signal.Notify(early, os.Interrupt, syscall.SIGTERM)
	caddy.TrapSignals()
	go func() {
		for sig := range early {
			time.Sleep(heardWithin)
			if caddy.Exiting() {
				return
			}
			if self, err := os.FindProcess(os.Getpid()); err == nil {
				// Where a process cannot signal itself, the next signal is heard.
				_ = self.Signal(sig)
			}
		}
	}()
}

// heardWithin is how long Caddy has to hear a signal before it is sent again.
const heardWithin = 100 * time.Millisecond

// start runs Caddy with the configuration of opts and returns the address that
// it listens on.
func start(opts *options) (string, error) {
	if err := caddy.Run(opts.config()); err != nil {
		return "", fmt.Errorf("starting the proxy: %w", err)
	}
	app, err := caddy.ActiveContext().AppIfConfigured("http")
	if err != nil {
		return "", fmt.Errorf("finding the address of the proxy: %w", err)
	}
	listeners := app.(*caddyhttp.App).Servers[serverName].Listeners()
	return listeners[0].Addr().String(), nil
}

// checkHandler provisions a copy of the handler, as Caddy will do later: its
// errors say what is wrong, in terms of the flags, while Caddy's errors are
// texts that say where in the configuration. A file that cannot be read is no
// fault of the usage.
func checkHandler(proxy handler.Handler) error {
	raw, err := json.Marshal(proxy)
	if err != nil {
		return usageError{err}
	}
	trial := new(handler.Handler)
	if err := json.Unmarshal(raw, trial); err != nil {
		return usageError{err}
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	err = errors.Join(trial.Provision(ctx), trial.Cleanup())
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*handler.KeyFileError](err); ok {
		return inFlagTerms(err)
	}
	return usageError{inFlagTerms(err)}
}

// checkAddresses fails when the addresses of the proxy and of the admin
// endpoint, which may be empty, overlap or are in use. Caddy sets SO_REUSEPORT,
// with which all of them would share the port in silence.
func checkAddresses(proxy, admin string) error {
	if admin == "" {
		return checkFree(proxy)
	}
	shared, err := overlap(proxy, admin)
	if err != nil {
		return err
	}
	if shared {
		return usageError{fmt.Errorf("--admin: expected another address and port than the proxy listens on, %s", proxy)}
	}
	if err := checkFree(proxy); err != nil {
		return err
	}
	return checkFree(admin)
}

// overlap reports whether two addresses have the same port and the same host,
// or one of them all hosts. A system may allow a listener on one address beside
// one on all, so that trying to listen would not tell.
func overlap(a, b string) (bool, error) {
	first, err := net.ResolveTCPAddr("tcp", a)
	if err != nil {
		return false, err
	}
	second, err := net.ResolveTCPAddr("tcp", b)
	if err != nil {
		return false, err
	}
	// Port 0 is another one each time.
	if first.Port != second.Port || first.Port == 0 {
		return false, nil
	}
	return coversAll(first.IP) || coversAll(second.IP) || first.IP.Equal(second.IP), nil
}

// coversAll reports whether a listener on ip has all addresses of the machine.
func coversAll(ip net.IP) bool { return len(ip) == 0 || ip.IsUnspecified() }

// checkFree fails when another process listens on the address.
func checkFree(address string) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return ln.Close()
}
