package main

import (
	"context"
	"errors"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/bench/internal/rig"
)

const (
	// reloadEvery is the time between two reloads.
	reloadEvery = 2 * time.Second
	// refusedEvery tells which of them is one that is refused.
	refusedEvery = 5
)

// A reloader gives Caddy one configuration after the other.
type reloader struct {
	caddy   *rig.Caddy
	configs configs
	tally   *tally
	judge   *judge
}

// run reloads until the context ends. Every second configuration is the base, to
// which what is kept across reloads belongs.
func (r *reloader) run(ctx context.Context) {
	harmless, refused := r.configs.harmless(), r.configs.refused()
	for i := 0; sleep(ctx, reloadEvery); i++ {
		switch {
		case i%refusedEvery == refusedEvery-1:
			r.refused(ctx, refused[i/refusedEvery%len(refused)])
		case i%2 == 0:
			r.load(ctx, harmless[i/2%len(harmless)])
		default:
			r.load(ctx, r.configs.base())
		}
	}
}

// load loads a configuration that must be taken.
func (r *reloader) load(ctx context.Context, config rig.Config) {
	begun := time.Now()
	err := r.caddy.Load(context.WithoutCancel(ctx), config)
	r.judge.reloaded(span{begun, time.Now()})
	if err != nil {
		r.tally.violated("a good configuration is loaded", "%v with\n%s", err, config.Proxy)
		return
	}
	r.tally.add("reloads", "loaded")
}

// refused loads a configuration that must be refused and change nothing.
func (r *reloader) refused(ctx context.Context, config rig.Config) {
	ctx = context.WithoutCancel(ctx)
	const rule = "a configuration that cannot be loaded changes nothing"
	before, err := r.caddy.Running(ctx)
	if err != nil {
		r.tally.violated(rule, "%v", err)
		return
	}
	err = r.caddy.Load(ctx, config)
	if _, ok := errors.AsType[*rig.RefusedError](err); !ok {
		r.tally.violated(rule, "it was not refused but got: %v", err)
	}
	r.tally.add("reloads", "refused")
	if after, err := r.caddy.Running(ctx); err != nil || after != before {
		r.tally.violated(rule, "another one runs: %v", err)
	}
}
