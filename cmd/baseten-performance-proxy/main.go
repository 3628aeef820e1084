// Command baseten-performance-proxy is Caddy with the performance proxy,
// configured by flags and environment variables.
package main

import (
	"os"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	performanceproxy "github.com/basetenlabs/caddy-performance-proxy"
)

func main() {
	os.Exit(performanceproxy.Main(os.Args[1:]...))
}
