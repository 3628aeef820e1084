package handler

import (
	"context"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestProvisionWarns(t *testing.T) {
	t.Parallel()
	const alone, variable = "go alone", "variable of a shell"
	for name, test := range map[string]struct {
		config string
		// want is what the only warning says, empty when there is none.
		want string
	}{
		"nothing is set":                      {config: `{}`},
		"the default batch is over the limit": {config: `{"max_upstream_items":31}`, want: alone},
		"the default batch just fits":         {config: `{"max_upstream_items":32}`},
		"a batch is over the limit":           {config: `{"max_upstream_items":32,"batch_size":33}`, want: alone},
		"a batch is smaller":                  {config: `{"max_upstream_items":8,"batch_size":8}`},
		"a variable of a shell":               {config: `{"api_key":"$MODEL_KEY"}`, want: variable},
		"a key with a dollar in it":           {config: `{"api_key":"sk-$MODEL_KEY"}`},
		"a key that only begins with one":     {config: `{"api_key":"$k-12/3"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			core, logs := observer.New(zap.WarnLevel)
			h := handlerOf(t, test.config)
			ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
			defer cancel()
			h.setDefaults()
			if err := h.provision(ctx, zap.New(core)); err != nil {
				t.Fatal(err)
			}
			if err := h.Cleanup(); err != nil {
				t.Error(err)
			}
			switch lines := logs.All(); {
			case test.want == "" && len(lines) == 0:
			case test.want == "" || len(lines) != 1 || !strings.Contains(lines[0].Message, test.want):
				t.Errorf("the log says %v, want %q", lines, test.want)
			case strings.Contains(lines[0].Message, "MODEL_KEY") || strings.Contains(lines[0].Message, "k-12"):
				t.Errorf("the log holds the key: %s", lines[0].Message)
			}
		})
	}
}
