package handler

import (
	"cmp"
	"encoding/json"
	"net/url"
	"slices"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

// endpointsInUse are the endpoints of all running configurations by what shapes
// them, so that their health, latencies, limits and retries outlive a reload.
var endpointsInUse = caddy.NewUsagePool()

// An endpointsShape is everything that shapes endpoints. How they are connected
// to and checked is part of it: an endpoint that one handler cannot reach may
// work for another.
type endpointsShape struct {
	Targets     []string
	Weights     []int
	Dynamic     *reverseproxy.AUpstreams
	Policy      engine.Policy
	MaxRequests int
	MaxItems    int
	Retries     engine.RetryBucketOptions
	Passive     engine.HealthOptions
	Active      *activeChecks
	Transport   transportShape
}

// endpoints are the endpoints of a handler and what is known of them: those
// that the operator configured, and those that callers chose. They hold nothing
// of the configuration that they were made for, no connection and no goroutine,
// and are safe for concurrent use.
type endpoints struct {
	shape endpointsShape
	// configured are all endpoints of the operator, and alone each of them by
	// itself, in the order of `to`. They have one bucket of retries.
	configured *engine.Group
	alone      []*engine.Group
	chosen     *registry

	// mu guards byAddress, the endpoints of a name by their addresses.
	mu        sync.Mutex
	byAddress map[string]*engine.Endpoint
}

// provisionEndpoints makes the endpoints or takes over those in use.
func (h *Handler) provisionEndpoints(p *provisioning) error {
	shape := endpointsShape{
		Policy:      cmp.Or(engine.Policy(h.LBPolicy), engine.RandomChoose),
		MaxRequests: cmp.Or(h.MaxUpstreamRequests, defaultMaxUpstreamRequests),
		MaxItems:    h.MaxUpstreamItems,
		Retries:     h.RetryBucket.options(),
		Passive:     h.Health.passive(),
		Active:      h.Health.active(),
		Transport:   p.shape,
	}
	if p.targets.dynamic != nil {
		shape.Dynamic = p.targets.dynamic.settings
	}
	for i, u := range p.targets.configured {
		shape.Targets = append(shape.Targets, u.String())
		shape.Weights = append(shape.Weights, h.weight(i))
	}
	key, err := json.Marshal(shape)
	if err != nil {
		return err
	}
	pooled, _ := endpointsInUse.LoadOrStore(string(key), newEndpoints(shape, p.targets.configured))
	h.onCleanup(func() error {
		_, err := endpointsInUse.Delete(string(key))
		return err
	})
	p.endpoints = pooled.(*endpoints)
	return nil
}

// newEndpoints returns the endpoints of the given shape, whose targets have these
// URLs.
func newEndpoints(shape endpointsShape, targets []*url.URL) *endpoints {
	e := &endpoints{shape: shape, chosen: newRegistry()}
	bucket := engine.NewRetryBucket(shape.Retries)
	members := make([]engine.Member, len(targets))
	for i, u := range targets {
		members[i] = engine.Member{Endpoint: e.endpoint(u, ""), Weight: shape.Weights[i]}
		e.alone = append(e.alone, engine.NewGroup(engine.GroupOptions{Retries: bucket}, members[i]))
	}
	e.configured = engine.NewGroup(engine.GroupOptions{Policy: shape.Policy, Retries: bucket}, members...)
	return e
}

// endpoint returns a new endpoint. The host is that of the URL when it is empty.
func (e *endpoints) endpoint(u *url.URL, host string) *engine.Endpoint {
	return engine.NewEndpoint(engine.EndpointOptions{
		URL: u, Host: host,
		MaxRequests: e.shape.MaxRequests,
		MaxItems:    e.shape.MaxItems,
		Health:      e.shape.Passive,
	})
}

// acquire returns the endpoint of a target that a caller chose and that is none
// of the configured ones, until it is released.
func (e *endpoints) acquire(t target) *chosen {
	trust := "public "
	if t.OperatorNamed {
		trust = "operator "
	}
	return e.chosen.acquire(trust+t.URL.String(), func() *engine.Group {
		bucket := engine.NewRetryBucket(e.shape.Retries)
		return engine.NewGroup(engine.GroupOptions{Retries: bucket}, engine.Member{Endpoint: e.endpoint(t.URL, "")})
	})
}

// known reports whether there are configured endpoints.
func (e *endpoints) known() bool { return len(e.configured.Members()) > 0 }

// list returns the configured endpoints.
func (e *endpoints) list() []*engine.Endpoint {
	members := e.configured.Members()
	list := make([]*engine.Endpoint, len(members))
	for i := range members {
		list[i] = members[i].Endpoint
	}
	return list
}

// set replaces the endpoints of a name by those of the given addresses. An
// endpoint whose address stays is kept. The order of the addresses does not
// matter, as DNS servers answer in any.
func (e *endpoints) set(target *dynamicTarget, addresses []string) {
	addresses = slices.Compact(slices.Sorted(slices.Values(addresses)))
	e.mu.Lock()
	defer e.mu.Unlock()
	kept := make(map[string]*engine.Endpoint, len(addresses))
	members := make([]engine.Member, len(addresses))
	changed := len(addresses) != len(e.byAddress)
	for i, address := range addresses {
		endpoint, ok := e.byAddress[address]
		if !ok {
			changed = true
			endpoint = e.endpoint(&url.URL{Scheme: target.scheme, Host: address}, target.host)
		}
		kept[address] = endpoint
		members[i].Endpoint = endpoint
	}
	if changed {
		e.byAddress = kept
		e.configured.Set(members...)
	}
}
