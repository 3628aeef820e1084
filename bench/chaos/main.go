// Command chaos runs the real program before model servers that stall, break
// off, answer with errors and with wrong replies and restart, while clients
// come, go and leave in the middle and the configuration is reloaded every two
// seconds. Then it lets everything come to rest and checks what must hold
// whatever happened: every answer was right or an error that the contract
// allows, and nothing is left running.
//
// It prints what happened, how often, and the seed, which decides what is tried;
// when it happens is up to the machine. The exit code is 1 when something did
// not hold.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/bench/internal/rig"
)

// options are what the command line says.
type options struct {
	caddy    string
	duration time.Duration
	seed     uint64
}

func main() { os.Exit(run()) }

// run is main; it returns the exit code.
func run() int {
	var o options
	flag.StringVar(&o.caddy, "caddy", "", "Caddy with the proxy in it; without it, it is built")
	flag.DurationVar(&o.duration, "duration", time.Minute, "how long everything goes wrong")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "decides what is tried; by default another one each time")
	flag.Parse()
	if flag.NArg() > 0 || o.duration <= 0 {
		flag.Usage()
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := build(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return 1
	}
	return 0
}

// build builds Caddy where it is not given, and runs.
func build(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "chaos")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // in the system's directory for such files
	if o.caddy, err = rig.Binary(ctx, o.caddy, dir); err != nil {
		return err
	}
	return newChaos(o).run(ctx)
}
