package handler

import (
	"regexp"

	"go.uber.org/zap"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

// shellVariable is what a variable looks like that a shell would have replaced.
// A path that begins with $/ is none.
var shellVariable = regexp.MustCompile(`^\$\w+$`)

// provisionWarnings logs what is allowed but hardly meant.
func (h *Handler) provisionWarnings(p *provisioning) error {
	batchSize := engine.DefaultSettings().BatchSize
	if h.BatchSize != nil {
		batchSize = *h.BatchSize
	}
	if h.MaxUpstreamItems > 0 && h.MaxUpstreamItems < batchSize {
		p.logger.Warn("batches of more items than max_upstream_items go alone and pass that limit: set batch_size to no more than it",
			zap.Int("batch_size", batchSize), zap.Int("max_upstream_items", h.MaxUpstreamItems))
	}
	// The value may be a key all the same, and is not logged.
	if shellVariable.MatchString(h.APIKey) {
		p.logger.Warn("api_key looks like a variable of a shell and is taken as the key itself: write {env.NAME} for the value of a variable")
	}
	return nil
}
