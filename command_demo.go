package performanceproxy

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/basetenlabs/caddy-performance-proxy/demo"
)

// demoCommand returns the subcommand that shows the proxy at work.
func demoCommand() *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Embeds thousands of texts directly and through the proxy; needs no account",
		Long: `Starts a small model server and the proxy before it, embeds the same texts
directly and through the proxy, compares the vectors and the times, and stays up
to be tried.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			// A second signal ends the process at once.
			context.AfterFunc(ctx, stop)
			err := demo.Run(ctx, demo.Options{
				Out:      cmd.OutOrStdout(),
				Terminal: term.IsTerminal(int(os.Stdout.Fd())),
				Once:     once,
				Proxy:    startForDemo,
			})
			if !once && ctx.Err() != nil {
				return nil // a signal ended it, as asked
			}
			return end(cmd, err)
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "end after the comparison; the exit code is 0 only if every vector was the same")
	return cmd
}

// demoBatchesInFlight keeps one request within what the demonstration's model
// server takes at once.
const demoBatchesInFlight = 16

// startForDemo runs the proxy before a target on a free port of the loopback
// address. It accepts every client key.
func startForDemo(_ context.Context, target string) (url string, stop func(), err error) {
	opts := defaultOptions()
	opts.bind, opts.port = "127.0.0.1", 0
	opts.logLevel = logLevels["error"]
	opts.proxy.To = []string{target}
	opts.proxy.ClientKeys = []string{"any"}
	opts.proxy.MaxConcurrentRequests = new(demoBatchesInFlight)
	address, err := start(opts)
	if err != nil {
		return "", nil, err
	}
	// Stop logs what goes wrong and always returns nil.
	return "http://" + address, func() { _ = caddy.Stop() }, nil
}
