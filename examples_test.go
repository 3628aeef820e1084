package performanceproxy

import (
	"os"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// The test sets the variable that the file reads, so it is not parallel.
func TestExampleCaddyfileAdapts(t *testing.T) {
	caddyfile, err := os.ReadFile("examples/Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		variable string
		want     string
	}{
		"as it is":                            {want: `"to":["http://127.0.0.1:8000"]`},
		"with a model server from a variable": {variable: "https://model.example.com/v1", want: `"to":["https://model.example.com/v1"]`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("MODEL_URL", test.variable)
			if test.variable == "" {
				if err := os.Unsetenv("MODEL_URL"); err != nil {
					t.Fatal(err)
				}
			}
			adapted, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt(caddyfile, map[string]any{"filename": "examples/Caddyfile"})
			if err != nil {
				t.Fatal(err)
			}
			for _, warning := range warnings {
				t.Errorf("adapting warns: %s", warning.String())
			}
			if !strings.Contains(string(adapted), test.want) {
				t.Errorf("adapted to %s", adapted)
			}
		})
	}
}

func TestExampleCaddyfileIsValid(t *testing.T) {
	t.Parallel()
	code, _, stderr := invocation{as: "caddy", args: []string{"validate", "--config", "examples/Caddyfile"}}.run(t)
	if code != 0 {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}
