//go:build unix

package handler

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// TestKeyFileIsNoPipe would wait for ever if the pipe was opened.
func TestKeyFileIsNoPipe(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skipf("no pipes here: %v", err)
	}
	_, err := newKeySource("api_key", path, caddy.NewReplacer(), zap.NewNop())
	if err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("newKeySource of a pipe: %v, want an error that names it", err)
	}
}
