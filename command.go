package performanceproxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

const (
	program    = "baseten-performance-proxy"
	modulePath = "github.com/basetenlabs/caddy-performance-proxy"

	short = "Splits large embedding requests into batches and sends them concurrently"
	long  = `Proxies requests to a model server. One request of many items, such as texts to
embed, is split into batches, the batches are sent concurrently, the replies are
checked and merged into one answer.

Every flag that names a variable can be set in the environment, too; the flag
wins over its variable.`
)

// The exit codes of the command.
const (
	exitStopped = 0 // it stopped as asked
	exitFailed  = 1 // it could not start or run
	exitUsage   = 2 // a flag, a value or an argument was wrong
)

// Main runs the program baseten-performance-proxy with its arguments and
// returns its exit code: 0 when it did what was asked, 1 when it could not
// start or run, 2 when a flag, a value or an argument was wrong. When it is
// stopped by a signal it does not return but exits with 0.
func Main(args ...string) int {
	cmd := &cobra.Command{
		Use:     program + " [flags]",
		Short:   short,
		Long:    long,
		Version: version(),
	}
	cmd.CompletionOptions.DisableDefaultCmd = true
	cmd.SetVersionTemplate("{{.Version}}\n")
	cmd.SetArgs(args)
	configure(cmd)
	cmd.Flags().BoolP("version", "V", false, "print the version")
	return exitCode(cmd.Execute())
}

// configure makes cmd the command that serves with the configuration of its
// flags. The program and the subcommand of Caddy are both this command.
func configure(cmd *cobra.Command) {
	opts := defineFlags(cmd)
	cmd.Flags().SortFlags = false
	printConfig := cmd.Flags().Bool("print-config", false, "print the Caddy JSON that the flags amount to, and end")
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return end(cmd, usageError{err})
	})
	cmd.Args = noArguments
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := readEnvironment(cmd, opts, os.Getenv); err != nil {
			return end(cmd, usageError{err})
		}
		if *printConfig {
			return end(cmd, writeConfig(cmd.OutOrStdout(), opts.config()))
		}
		return end(cmd, serve(opts))
	}
	cmd.AddCommand(demoCommand())
}

// noArguments refuses arguments that belong to no flag. They may be keys that
// were meant for a flag, so they are shown only when no flag takes a key.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.Flags().Changed(upstreamKeyFlag) || cmd.Flags().Changed(clientKeysFlag) {
		return end(cmd, usageError{errors.New("an argument belongs to no flag; a flag takes one value")})
	}
	return end(cmd, usageError{fmt.Errorf("unexpected argument %q", args[0])})
}

// writeConfig writes the configuration as JSON.
func writeConfig(w io.Writer, cfg *caddy.Config) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(cfg); err != nil {
		return fmt.Errorf("writing the configuration: %w", err)
	}
	return nil
}

// A usageError is a command line or an environment that is wrong.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// An exitError ends the process with a code after its message was printed. It
// wraps the error by which Caddy's main function learns of the code.
type exitError struct {
	code  int
	err   error
	caddy error
}

func (e *exitError) Error() string   { return e.err.Error() }
func (e *exitError) Unwrap() []error { return []error{e.err, e.caddy} }

// end prints err as one line and returns the error that ends the process with
// the exit code of err.
func end(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	code := exitFailed
	if _, ok := errors.AsType[usageError](err); ok {
		code = exitUsage
	}
	message := strings.ReplaceAll(err.Error(), "\n", "; ")
	cmd.PrintErrf("%s: %s\n", cmd.CommandPath(), message)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	asCaddy := caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return code, nil })
	return &exitError{code: code, err: err, caddy: asCaddy(cmd, nil)}
}

// exitCode returns the exit code of what a command returned.
func exitCode(err error) int {
	if err == nil {
		return exitStopped
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	return exitFailed
}

// version returns the name and the version of the program and of Caddy.
func version() string {
	own := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range append(info.Deps, &info.Main) {
			if module.Path == modulePath && module.Version != "" {
				own = module.Version
			}
		}
	}
	caddyVersion, _ := caddy.Version()
	return fmt.Sprintf("%s %s (Caddy %s)", program, own, caddyVersion)
}
