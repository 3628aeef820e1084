package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const modulePath = "github.com/basetenlabs/caddy-performance-proxy"

// Binary returns the Caddy to run: the file that is named, or, without a name,
// Caddy built with this working copy into the directory.
func Binary(ctx context.Context, file, dir string) (string, error) {
	if file != "" {
		return filepath.Abs(file)
	}
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", modulePath).Output()
	if err != nil {
		return "", fmt.Errorf("looking for the working copy: %w", err)
	}
	root := strings.TrimSpace(string(out))
	built := filepath.Join(dir, "caddy")
	fmt.Fprintln(os.Stderr, "building Caddy with this working copy")
	cmd := exec.CommandContext(ctx, filepath.Join(root, "xcaddy-build.sh"), "-o", built)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building Caddy: %w\n%s", err, out)
	}
	return built, nil
}
