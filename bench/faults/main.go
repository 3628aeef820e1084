// Command faults measures what the proxy makes of an upstream that goes wrong,
// with the real program on loopback, and prints a table for each of three cases:
//
//	hedge     some replies take 50 times as long as the others
//	permits   more than 512 items at once are refused with 429
//	failover  one of three endpoints is killed during load and comes back
//
// Every vector of every answer is checked. The exit code is 1 when one was wrong
// or a request failed.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/basetenlabs/caddy-performance-proxy/bench/internal/rig"
)

// options are what the command line says.
type options struct {
	caddy    string
	requests int
	slow     float64
	seed     uint64
}

// A row is one of the tables.
type row struct {
	name string
	run  func(context.Context, options) error
}

// rows are the tables in the order in which they are printed.
var rows = []row{{"hedge", hedge}, {"permits", permits}, {"failover", failover}}

func main() { os.Exit(run()) }

// run is main; it returns the exit code.
func run() int {
	var o options
	only := flag.String("row", "all", "the table to print: hedge, permits, failover or all")
	flag.StringVar(&o.caddy, "caddy", "", "Caddy with the proxy in it; without it, it is built")
	flag.IntVar(&o.requests, "requests", 300, "hedge: requests for each value of hedge_delay")
	flag.Float64Var(&o.slow, "slow", 0.02, "hedge: the fraction of replies that are slow")
	flag.Uint64Var(&o.seed, "seed", 1, "hedge: decides which replies are slow")
	flag.Parse()
	if flag.NArg() > 0 || o.requests < 1 || o.slow < 0 || o.slow > 1 || !known(*only) {
		flag.Usage()
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := printTables(ctx, *only, o); err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		return 1
	}
	return 0
}

func known(only string) bool {
	for _, r := range rows {
		if only == r.name {
			return true
		}
	}
	return only == "all"
}

// printTables prints the tables. A table that fails does not keep the others from being
// printed.
func printTables(ctx context.Context, only string, o options) (failed error) {
	dir, err := os.MkdirTemp("", "faults")
	if err != nil {
		return err
	}
	defer func() { failed = cmp.Or(failed, os.RemoveAll(dir)) }()
	if o.caddy, err = rig.Binary(ctx, o.caddy, dir); err != nil {
		return err
	}
	for _, r := range rows {
		if ctx.Err() != nil || only != "all" && only != r.name {
			continue
		}
		if err := r.run(ctx, o); err != nil {
			fmt.Printf("  FAILED: %v\n", err)
			failed = fmt.Errorf("%s failed", r.name)
		}
		fmt.Println()
	}
	return cmp.Or(failed, context.Cause(ctx))
}
