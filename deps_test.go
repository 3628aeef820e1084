package performanceproxy

import (
	"os/exec"
	"strings"
	"testing"
)

// The arrows of the packages point one way: engine <- handler <- caddyfile <-
// this package. The engine is a library that stands alone, and the demonstration
// knows the proxy as a URL only.
func TestDependenciesPointOneWay(t *testing.T) {
	t.Parallel()
	const (
		caddy      = "github.com/caddyserver"
		prometheus = "github.com/prometheus"
		handler    = modulePath + "/handler"
		caddyfile  = modulePath + "/caddyfile"
		engine     = modulePath + "/engine"
		demo       = modulePath + "/demo"
		program    = modulePath + "/cmd"
	)
	for name, test := range map[string]struct {
		pkg       string
		forbidden []string
	}{
		"the engine knows nothing of Caddy and of metrics": {
			pkg: "./engine/...", forbidden: []string{caddy, prometheus, handler, caddyfile, demo, program},
		},
		"the handler knows nothing of the Caddyfile": {
			pkg: "./handler/...", forbidden: []string{caddyfile, demo, program},
		},
		"the parser of the Caddyfile knows nothing of commands": {
			pkg: "./caddyfile/...", forbidden: []string{demo, program},
		},
		"the demonstration knows nothing of the proxy's code": {
			pkg: "./demo/...", forbidden: []string{caddy, handler, caddyfile, engine, program},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, dep := range dependencies(t, test.pkg) {
				if dep == modulePath {
					t.Errorf("%s depends on the package at the root", test.pkg)
				}
				for _, path := range test.forbidden {
					if dep == path || strings.HasPrefix(dep, path+"/") {
						t.Errorf("%s depends on %s", test.pkg, dep)
					}
				}
			}
		})
	}
}

func TestJSONSpanNeedsTheStandardLibraryOnly(t *testing.T) {
	t.Parallel()
	const jsonspan = modulePath + "/engine/jsonspan"
	for _, dep := range dependencies(t, "./engine/jsonspan") {
		first, _, _ := strings.Cut(dep, "/")
		if dep != jsonspan && strings.Contains(first, ".") {
			t.Errorf("jsonspan depends on %s", dep)
		}
	}
}

// dependencies returns the import paths of the packages and of all that they
// need.
func dependencies(t *testing.T, pattern string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", pattern).Output()
	if err != nil {
		t.Fatalf("listing the dependencies of %s: %v", pattern, err)
	}
	deps := strings.Fields(string(out))
	if len(deps) == 0 {
		t.Fatalf("%s has no packages", pattern)
	}
	return deps
}
