package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/bench/internal/rig"
)

const (
	// endpoints is how many model servers there are; every other one speaks HTTP/2.
	endpoints = 4
	// warmUp is how long the program works without faults at first.
	warmUp = 4 * time.Second
)

// chaos is one run.
type chaos struct {
	o options

	tally   *tally
	stalls  stalls
	ledger  *ledger
	judge   *judge
	traffic *traffic
	waves   atomic.Int64

	endpoints []*endpoint
	// bystander is a server that the proxy has nothing to do with.
	bystander *rig.Upstream
	caddy     *rig.Caddy
	configs   configs
}

func newChaos(o options) *chaos {
	c := &chaos{o: o, tally: newTally()}
	c.ledger = newLedger(c.tally)
	c.judge = newJudge(c.tally, c.ledger)
	return c
}

// run makes the run and prints its report. The error says that something did
// not hold, or could not be checked.
func (c *chaos) run(ctx context.Context) error {
	fmt.Printf("chaos: seed %d, for %v\n", c.o.seed, c.o.duration)
	watching, stopWatching := context.WithCancel(context.Background())
	defer stopWatching()
	go c.stalls.watch(watching)
	err := c.start(ctx)
	if err == nil {
		err = c.stages(ctx)
	}
	err = errors.Join(err, c.stop())
	c.judge.judgeUnanswered()
	c.judge.late.judge(c.tally, &c.stalls)
	c.ledger.late.judge(c.tally, &c.stalls)
	stalls, stalled := c.stalls.total()
	fmt.Printf("the latest answer came %v after its deadline; the machine was stalled %d times, for %v\n",
		c.judge.late.longest.Round(time.Millisecond), stalls, stalled.Round(time.Millisecond))
	err = errors.Join(err, c.tally.print(os.Stdout))
	if n := c.tally.rulesBroken(); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d rules were violated; seed %d", n, c.o.seed))
	}
	if err == nil {
		fmt.Println("everything held")
	}
	return err
}

// start starts the servers and Caddy.
func (c *chaos) start(ctx context.Context) (err error) {
	if c.bystander, err = rig.StartUpstream(rig.UpstreamOptions{}); err != nil {
		return err
	}
	c.configs.taken = c.bystander.Address()
	for i := range endpoints {
		e, err := startEndpoint(rand.New(rand.NewPCG(c.o.seed, uint64(i))), i%2 == 1, c.tally, c.ledger)
		if err != nil {
			return err
		}
		c.endpoints = append(c.endpoints, e)
		c.configs.targets = append(c.configs.targets, e.URL())
	}
	c.caddy, err = rig.StartCaddy(ctx, rig.CaddyOptions{Binary: c.o.caddy, Config: c.configs.nothing(), Log: c.readLog})
	if err != nil {
		return err
	}
	c.traffic = &traffic{url: c.caddy.URL, seed: c.o.seed, tally: c.tally, judge: c.judge}
	return nil
}

// stop ends everything. Caddy's log is complete after it.
func (c *chaos) stop() (err error) {
	if c.caddy != nil {
		err = c.caddy.Stop()
	}
	for _, e := range c.endpoints {
		err = errors.Join(err, e.Close())
	}
	if c.bystander != nil {
		err = errors.Join(err, c.bystander.Close())
	}
	return err
}

// stages warms up, lets everything go wrong and checks what is left.
func (c *chaos) stages(ctx context.Context) error {
	first, err := c.warmUp(ctx)
	if err != nil {
		return fmt.Errorf("warming up: %w", err)
	}
	if err := c.load(ctx, c.configs.base()); err != nil {
		return err
	}
	if err := c.storm(ctx); err != nil {
		return err
	}
	if err := c.load(ctx, c.configs.base()); err != nil {
		return err
	}
	if err := c.quiet(ctx); err != nil {
		return err
	}
	if err := c.slots(ctx); err != nil {
		return err
	}
	if err := c.quiet(ctx); err != nil {
		return err
	}
	last, err := c.atRest(ctx, first.goroutines+moreGoroutines)
	if err != nil {
		return err
	}
	return c.judgeRest(ctx, first, last)
}

// load gives Caddy another configuration, which closes connections as every
// reload does.
func (c *chaos) load(ctx context.Context, config rig.Config) error {
	begun := time.Now()
	err := c.caddy.Load(ctx, config)
	c.judge.reloaded(span{begun, time.Now()})
	return err
}

// warmUp lets the program work a while and returns what it holds at rest then.
func (c *chaos) warmUp(ctx context.Context) (rest, error) {
	if err := c.load(ctx, c.configs.base()); err != nil {
		return rest{}, err
	}
	period, cancel := context.WithTimeout(ctx, warmUp)
	defer cancel()
	c.traffic.run(ctx, period)
	return c.atRest(ctx, math.MaxInt)
}

// storm lets everything go wrong for a while.
func (c *chaos) storm(ctx context.Context) error {
	period, cancel := context.WithTimeout(ctx, c.o.duration)
	defer cancel()
	var all sync.WaitGroup
	failed := make(chan error, len(c.endpoints))
	for _, e := range c.endpoints {
		all.Go(func() { failed <- e.live(period) })
	}
	reloads := &reloader{caddy: c.caddy, configs: c.configs, tally: c.tally, judge: c.judge}
	all.Go(func() { reloads.run(period) })
	c.traffic.run(ctx, period)
	all.Wait()
	close(failed)
	var err error
	for one := range failed {
		err = errors.Join(err, one)
	}
	if ctx.Err() != nil {
		err = errors.Join(err, errProgramEnds)
	}
	return err
}
