package handler

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

// The ranges of the settings of endpoints.
const (
	maxWeight              = 1000
	maxMaxUpstreamRequests = 1_000_000
	maxMaxUpstreamItems    = 100_000_000
	maxBucketSize          = 1_000_000
	maxBucketPerReply      = 1000
	maxBucketPerSecond     = 1_000_000
)

// defaultMaxUpstreamRequests is the max_upstream_requests when it is not set.
const defaultMaxUpstreamRequests = 1024

// Upstreams are the operator's settings of how requests are spread over the
// endpoints and of what each endpoint is spared. Handlers whose upstream
// settings, health checks and ways to connect are all the same share what is
// known of the endpoints, the limits and the retries, and keep it over a reload;
// a handler with other settings has its own.
type Upstreams struct {
	// The shares of the load that the targets of `to` get, in their order: whole
	// numbers, one for each target. Range of each 1 to 1000. Default: 1 each.
	Weights []int `json:"weights,omitempty"`

	// Which of the endpoints that are up a batch goes to: `random_choose` is the
	// less loaded of two that are chosen at random, counted in items in flight;
	// `round_robin` is one after the other; `random` is any; `first` is the first
	// one of `to`. All but `first` respect the weights. A retry and a copy of a
	// batch prefer an endpoint that it has not tried. Default: `random_choose`.
	LBPolicy string `json:"lb_policy,omitempty"`

	// How many batches may be in flight to one endpoint at once, over all
	// requests of all clients; the rest wait for their turn, in which clients
	// alternate. Range 1 to 1000000. Default: 1024.
	MaxUpstreamRequests int `json:"max_upstream_requests,omitempty"`

	// How many items may be in flight to one endpoint at once, over all requests
	// of all clients, as text-embeddings-inference counts its
	// `--max-concurrent-requests`. A batch of more items goes alone and passes the
	// limit. Range 1 to 100000000. Default: none.
	MaxUpstreamItems int `json:"max_upstream_items,omitempty"`

	// The retries after a status that all requests to the endpoints have
	// together, so that an upstream that is down is not hammered. A retry after
	// 429 or after a status with Retry-After spends nothing of them, and neither
	// does one on an endpoint that is up and that the batch has not tried.
	RetryBucket *RetryBucket `json:"retry_bucket,omitempty"`

	// The endpoints by the addresses of a DNS name, instead of `to`: each address
	// is an endpoint. The name is looked up again as time passes, and an endpoint
	// whose address stays keeps its state. The only source is `a`.
	DynamicUpstreamsRaw json.RawMessage `json:"dynamic_upstreams,omitempty" caddy:"namespace=http.reverse_proxy.upstreams inline_key=source"`
}

// A RetryBucket holds retries: each one takes one out, good replies and time
// put some in.
type RetryBucket struct {
	// The retries that the bucket holds at the start and at most. Range 1 to
	// 1000000. Default: 100.
	Size float64 `json:"size,omitempty"`

	// The retries that every good reply to a batch puts in. Range 0 to 1000.
	// Default: 0.2.
	PerReply *float64 `json:"per_reply,omitempty"`

	// The retries that every second puts in. Range 0 to 1000000. Default: 10.
	PerSecond *float64 `json:"per_second,omitempty"`
}

// options returns what the engine calls the bucket. A nil bucket has the
// defaults.
func (b *RetryBucket) options() engine.RetryBucketOptions {
	var o engine.RetryBucketOptions
	if b == nil {
		return o
	}
	o.Size = b.Size
	if b.PerReply != nil {
		o.PerReply = orNone(*b.PerReply)
	}
	if b.PerSecond != nil {
		o.PerSecond = orNone(*b.PerSecond)
	}
	return o
}

// checkEndpoints checks how requests are spread over endpoints.
func (h *Handler) checkEndpoints() error {
	if err := checkLBPolicy(h.LBPolicy); err != nil {
		return err
	}
	for _, weight := range h.Weights {
		if weight < 1 || weight > maxWeight {
			return &settingError{name: "weights", message: fmt.Sprintf("each must be an integer from 1 to %d, one is %d", maxWeight, weight)}
		}
	}
	for _, limit := range []struct {
		name       string
		value, max int
	}{
		{"max_upstream_requests", h.MaxUpstreamRequests, maxMaxUpstreamRequests},
		{"max_upstream_items", h.MaxUpstreamItems, maxMaxUpstreamItems},
	} {
		if err := checkCount(limit.name, limit.value, limit.max); err != nil {
			return err
		}
	}
	return h.RetryBucket.check()
}

// check checks the ranges of a bucket, which may be nil.
func (b *RetryBucket) check() error {
	if b == nil {
		return nil
	}
	fault := func(format string, args ...any) error {
		return &settingError{name: "retry_bucket", message: fmt.Sprintf(format, args...)}
	}
	switch {
	case b.Size != 0 && (b.Size < 1 || b.Size > maxBucketSize):
		return fault("size must be a number from 1 to %d, is %s", maxBucketSize, formatNumber(b.Size))
	case b.PerReply != nil && (*b.PerReply < 0 || *b.PerReply > maxBucketPerReply):
		return fault("per_reply must be a number from 0 to %d, is %s", maxBucketPerReply, formatNumber(*b.PerReply))
	case b.PerSecond != nil && (*b.PerSecond < 0 || *b.PerSecond > maxBucketPerSecond):
		return fault("per_second must be a number from 0 to %d, is %s", maxBucketPerSecond, formatNumber(*b.PerSecond))
	}
	return nil
}

// checkLBPolicy checks the name of a policy, which may be empty.
func checkLBPolicy(name string) error {
	if name == "" || slices.Contains(engine.Policies(), engine.Policy(name)) {
		return nil
	}
	message := fmt.Sprintf("expected random_choose, round_robin, random or first, not %q", name)
	switch name {
	case "weighted_round_robin":
		message = "weighted_round_robin is round_robin with weights"
	case "least_conn":
		message = "least_conn is random_choose here, the less loaded of two"
	}
	return &settingError{name: "lb_policy", message: message}
}

// checkCount checks a whole number from 1 to high, where 0 means that it is not
// set.
func checkCount(name string, value, high int) error {
	if value < 0 || value > high {
		return &settingError{name: name, message: fmt.Sprintf("must be an integer from 1 to %d, is %d", high, value)}
	}
	return nil
}

// weight returns the weight of the target of that index.
func (u *Upstreams) weight(i int) int {
	if len(u.Weights) == 0 {
		return 1
	}
	return u.Weights[i]
}
