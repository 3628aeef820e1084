package performanceproxy

import (
	"encoding/json"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
)

const (
	defaultPort = 8080
	// serverName is the name of the only HTTP server.
	serverName = "proxy"
	// gracePeriod is how long running requests may take when the proxy is asked
	// to stop.
	gracePeriod = 30 * time.Second
	// readHeaderTimeout bounds how long a client may take to send its headers.
	readHeaderTimeout = 10 * time.Second
)

// defaultOptions returns the options of an empty command line.
func defaultOptions() *options {
	return &options{port: defaultPort, logLevel: logLevels["info"]}
}

// config returns the configuration of Caddy that the options amount to. It
// writes nothing to disk, and the admin endpoint is off unless asked for.
func (o *options) config() *caddy.Config {
	server := &caddyhttp.Server{
		Listen:            []string{o.listenAddress()},
		ReadHeaderTimeout: caddy.Duration(readHeaderTimeout),
		Routes: caddyhttp.RouteList{{
			HandlersRaw: []json.RawMessage{
				caddyconfig.JSONModuleObject(o.proxy, "handler", "performance_proxy", nil),
			},
		}},
		// In clear text there is no HTTP/3, and HTTP/2 only in this form.
		Protocols: []string{"h1", "h2c"},
		AutoHTTPS: &caddyhttp.AutoHTTPSConfig{Disabled: true},
	}
	http := caddyhttp.App{
		GracePeriod: caddy.Duration(gracePeriod),
		Servers:     map[string]*caddyhttp.Server{serverName: server},
	}
	persist := false
	return &caddy.Config{
		Admin: &caddy.AdminConfig{
			Disabled: o.admin == "",
			Listen:   o.admin,
			Config:   &caddy.ConfigSettings{Persist: &persist},
		},
		Logging: &caddy.Logging{
			Logs: map[string]*caddy.CustomLog{
				caddy.DefaultLoggerName: {BaseLog: caddy.BaseLog{Level: o.logLevel}},
			},
		},
		AppsRaw: caddy.ModuleMap{
			"http": caddyconfig.JSON(http, nil),
			// The HTTP server brings this app up in any case; by default it would
			// write to Caddy's storage.
			"tls": caddyconfig.JSON(caddytls.TLS{DisableStorageClean: true}, nil),
		},
	}
}

// listenAddress returns the address to listen on.
func (o *options) listenAddress() string {
	return net.JoinHostPort(o.bind, strconv.Itoa(o.port))
}

// warnings returns what is doubtful about the keys: a key that can never be
// used, or that any client may spend.
func (o *options) warnings() []string {
	if o.proxy.APIKey == "" {
		return nil
	}
	allowed := o.proxy.AllowedTargets
	if len(o.proxy.To) == 0 && (len(allowed) == 0 || allowed[0] == "none") {
		return []string{"the upstream key can never be used: it is only sent to targets of the operator, and neither --target-url nor --allowed-targets names one"}
	}
	clients := o.proxy.ClientKeys
	if (len(clients) == 0 || clients[0] == "any") && o.bindsAll() {
		return []string{"any client that reaches this port may spend the upstream key: set --client-keys to the keys of your clients, or bind to an address that only they reach"}
	}
	return nil
}

// bindsAll reports whether the proxy listens on all addresses of the machine.
func (o *options) bindsAll() bool {
	addr, err := netip.ParseAddr(o.bind)
	return o.bind == "" || err == nil && addr.IsUnspecified()
}
