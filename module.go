// Package performanceproxy adds the HTTP handler performance_proxy to Caddy: it
// splits one request of many items, such as texts to embed, into batches, sends
// them to a model server concurrently, checks the replies and merges them into
// the one answer that the server would have given to a request of that size.
//
// Importing the package is enough: it registers the module
// http.handlers.performance_proxy, the Caddyfile directive performance_proxy
// and the command performance-proxy.
package performanceproxy

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/basetenlabs/caddy-performance-proxy/caddyfile"
	"github.com/basetenlabs/caddy-performance-proxy/handler"
)

func init() {
	caddy.RegisterModule(handler.Handler{})
	httpcaddyfile.RegisterHandlerDirective("performance_proxy", caddyfile.Parse)
	httpcaddyfile.RegisterDirectiveOrder("performance_proxy", httpcaddyfile.Before, "reverse_proxy")
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:      "performance-proxy",
		Short:     short,
		Long:      long,
		CobraFunc: configure,
	})
}
