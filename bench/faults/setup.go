package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/bench/internal/rig"
)

// normal is how long a reply takes that is not slow.
const normal = 20 * time.Millisecond

// setup is Caddy before some model servers.
type setup struct {
	caddy     *rig.Caddy
	upstreams []*rig.Upstream
}

// start starts Caddy before model servers with these scripts. The settings are
// further lines of the proxy's block.
func start(ctx context.Context, binary, settings string, scripts ...rig.Script) (_ *setup, err error) {
	s := new(setup)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	to := "to"
	for _, script := range scripts {
		u, err := rig.StartUpstream(rig.UpstreamOptions{Script: script})
		if err != nil {
			return nil, err
		}
		s.upstreams = append(s.upstreams, u)
		to += " " + u.URL()
	}
	s.caddy, err = rig.StartCaddy(ctx, rig.CaddyOptions{
		Binary: binary,
		Config: rig.Config{Proxy: strings.Join([]string{to, "client_keys any", settings}, "\n")},
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// close ends everything.
func (s *setup) close() (err error) {
	if s.caddy != nil {
		err = s.caddy.Stop()
	}
	for _, u := range s.upstreams {
		err = errors.Join(err, u.Close())
	}
	return err
}

// ask sends a request, checks the whole answer and returns how long it took.
func ask(ctx context.Context, client *rig.Client, r rig.Request) (time.Duration, error) {
	answer, err := client.Do(ctx, r)
	if err != nil {
		return 0, err
	}
	if answer.Status != http.StatusOK {
		return answer.Took, fmt.Errorf("status %d: %.300s", answer.Status, answer.Body)
	}
	return answer.Took, rig.CheckEmbeddings(answer.Body, r.Items, rig.Exact)
}

// texts makes n texts that no other request has.
func texts(request string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = "text " + strconv.Itoa(i) + " of the request " + request
	}
	return list
}

// milliseconds prints a time.
func milliseconds(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }

// percent prints how much more than want there were.
func percent(got, want int) string {
	return fmt.Sprintf("%+.1f %%", 100*float64(got-want)/float64(max(1, want)))
}
