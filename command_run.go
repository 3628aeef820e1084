package performanceproxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/basetenlabs/caddy-performance-proxy/handler"
)

// serve runs the proxy until a signal ends the process. It returns only when
// the proxy could not start.
func serve(opts *options) error {
	caddy.TrapSignals()
	if err := checkHandler(opts.proxy); err != nil {
		return err
	}
	for _, address := range []string{opts.listenAddress(), opts.admin} {
		if err := checkFree(address); err != nil {
			return err
		}
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
// errors say what is wrong, while Caddy's errors are texts that say where in
// the configuration. A file that cannot be read is no fault of the usage.
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
	if _, ok := errors.AsType[*handler.KeyFileError](err); ok || err == nil {
		return err
	}
	return usageError{err}
}

// checkFree fails when another process listens on the address. Caddy sets
// SO_REUSEPORT, with which two proxies would share the port in silence.
func checkFree(address string) error {
	if address == "" {
		return nil
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return ln.Close()
}
