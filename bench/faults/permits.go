package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/bench/internal/rig"
	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

const (
	// permitted is how many items TEI works on at once, by default.
	permitted      = 512
	permitsBatch   = 32
	permitsTexts   = 4096
	permitsClients = 4
	permitsRounds  = 3
	// overloaded is what TEI answers beyond that.
	overloaded = `{"message":"Model is overloaded","type":"Overloaded","code":429}`
)

// A permitsModel works on so many items at once. It is safe for concurrent use.
type permitsModel struct {
	mu             sync.Mutex
	items          int
	calls, refused int
}

// script refuses a call for whose items there are no permits.
func (p *permitsModel) script(c *enginetest.Call) ([]enginetest.Fault, func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	if p.items+len(c.Items) > permitted {
		p.refused++
		return []enginetest.Fault{enginetest.JSON(http.StatusTooManyRequests, overloaded)}, nil
	}
	p.items += len(c.Items)
	return []enginetest.Fault{enginetest.Delay(normal)}, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.items -= len(c.Items)
	}
}

// counts returns the calls so far, and how many of them were refused.
func (p *permitsModel) counts() (calls, refused int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls, p.refused
}

// permits prints what several clients cost an upstream that refuses what is too
// much, when the proxy does not know its limit and when it does.
func permits(ctx context.Context, o options) error {
	fmt.Printf("permits: %d clients of %d texts at once in batches of %d, a batch takes %v, 429 beyond %d items at once\n",
		permitsClients, permitsTexts, permitsBatch, normal, permitted)
	table := [][]string{{"max_upstream_items", "round", "succeeded", "wall time", "upstream calls", "of them 429", "extra"}}
	var failed error
	for _, limit := range []string{"", strconv.Itoa(permitted)} {
		rows, err := permitsMode(ctx, o, limit)
		table, failed = append(table, rows...), errors.Join(failed, err)
	}
	return errors.Join(rig.WriteTable(os.Stdout, table), failed)
}

// permitsMode makes the rows of one value of max_upstream_items.
func permitsMode(ctx context.Context, o options, limit string) (rows [][]string, err error) {
	settings, name := fmt.Sprintf("batch_size %d", permitsBatch), "unset"
	if limit != "" {
		settings, name = settings+"\nmax_upstream_items "+limit, limit
	}
	model := new(permitsModel)
	s, err := start(ctx, o.caddy, settings, model.script)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for round := range permitsRounds {
		calls, refused := model.counts()
		succeeded, took, failure := permitsRound(ctx, s.caddy.URL, strconv.Itoa(round))
		if failure != nil {
			err = errors.Join(err, fmt.Errorf("max_upstream_items %s, round %d: %w", name, round+1, failure))
		}
		calls2, refused2 := model.counts()
		calls, refused = calls2-calls, refused2-refused
		rows = append(rows, []string{
			name, strconv.Itoa(round + 1), fmt.Sprintf("%d of %d", succeeded, permitsClients), milliseconds(took),
			strconv.Itoa(calls), strconv.Itoa(refused), percent(calls, permitsClients*permitsTexts/permitsBatch),
		})
	}
	return rows, err
}

// permitsRound lets all clients ask at once.
func permitsRound(ctx context.Context, url, round string) (succeeded int, took time.Duration, failed error) {
	var mu sync.Mutex
	var clients sync.WaitGroup
	start := time.Now()
	for i := range permitsClients {
		clients.Go(func() {
			client := rig.NewClient(url, false)
			defer client.Close()
			id := round + "." + strconv.Itoa(i)
			_, err := ask(ctx, client, rig.Request{ID: id, Items: texts(id, permitsTexts)})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				succeeded++
			}
			failed = errors.Join(failed, err)
		})
	}
	clients.Wait()
	return succeeded, time.Since(start), failed
}
