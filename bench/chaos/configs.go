package main

import (
	"fmt"
	"strings"

	"github.com/basetenlabs/caddy-performance-proxy/bench/internal/rig"
)

// The limits of each endpoint in the configuration that is in force most of the
// time and at the end. They are small, so that what is not given back is missed.
const (
	maxUpstreamRequests = 64
	maxUpstreamItems    = 1024
)

// configs are the configurations that the program is given.
type configs struct {
	// targets are the endpoints.
	targets []string
	// taken is an address on which something else listens.
	taken string
}

// base is what the other configurations vary.
func (c configs) base() rig.Config { return c.with("") }

// with returns base with further lines.
func (c configs) with(lines string) rig.Config {
	return c.proxy(c.targets, fmt.Sprintf("max_upstream_requests %d\nmax_upstream_items %d\n%s",
		maxUpstreamRequests, maxUpstreamItems, lines))
}

func (c configs) proxy(targets []string, lines string) rig.Config {
	return rig.Config{
		Proxy:     "to " + strings.Join(targets, " ") + "\nclient_keys any\n" + lines,
		AccessLog: true,
	}
}

// nothing is a configuration without the endpoints, and with connections of
// another kind than all others: what was kept for those has to be gone.
func (c configs) nothing() rig.Config {
	return c.proxy([]string{"http://" + c.taken}, "dial_timeout 3s")
}

// harmless are configurations under which everything goes on.
func (c configs) harmless() []rig.Config {
	weights := "weights"
	for i := range c.targets {
		weights += fmt.Sprintf(" %d", 1+i)
	}
	return []rig.Config{
		c.with("batch_size 16"),
		c.with("lb_policy round_robin"),
		c.with("hedge_delay auto"),
		c.with("dial_timeout 2s"),
		c.with("max_concurrent_requests 32\nhedge_delay 0.1"),
		c.with("lb_policy random\n" + weights),
		c.with("health_uri " + rig.HealthPath + "\nhealth_interval 500ms\nhealth_timeout 300ms"),
		c.with("lb_policy first"),
		c.with("fail_duration 1s\nmax_fails 1\nunhealthy_latency 1s"),
		c.with("retry_bucket {\nsize 20\nper_second 2\n}"),
		c.with("fail_duration 0"),
		c.proxy(c.targets[1:], ""),
		c.proxy(c.targets, "max_upstream_requests 200\nmax_upstream_items 4000"),
		c.with("transport http {\nkeepalive 30s\n}"),
	}
}

// refused are configurations that Caddy must not take: in the parser, when the
// handler is made, when another handler after it is made, and when everything is
// made and shall start.
func (c configs) refused() []rig.Config {
	other := c.with("batch_size 8")
	other.More = "http://" + c.taken + " {\nbind 127.0.0.1\nperformance_proxy " + c.targets[0] + " {\nbatch_size 5000\n}\n}"
	elsewhere := c.with("batch_size 8")
	elsewhere.Address = c.taken
	return []rig.Config{
		c.with("batchsize 8"),
		c.with("batch_size 5000"),
		other,
		elsewhere,
	}
}
