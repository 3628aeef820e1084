package handler

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

func TestNewKeySource(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	writeKeyFile(t, path, "\n\t file-key \r\n\n", 0)
	t.Setenv("TEST_API_KEY", "env-key")
	t.Setenv("TEST_API_KEY_SPACED", " env-key\n")
	t.Setenv("TEST_API_KEY_SLASH", "/env/key")
	t.Setenv("TEST_API_KEY_DOT", "./env/key")
	t.Setenv("TEST_API_KEY_DIR", dir)

	tests := map[string]struct{ value, want string }{
		"text is the key":                                 {"text-key", "text-key"},
		"text may hold any visible character":             {"!#$%&'*+-./:;<=>?@^_`|~\"(),[]", "!#$%&'*+-./:;<=>?@^_`|~\"(),[]"},
		"text may hold an escaped brace":                  {`a\{b\}`, "a{b}"},
		"white space around text is no part of it":        {" text-key ", "text-key"},
		"a variable of the environment":                   {"{env.TEST_API_KEY}", "env-key"},
		"a variable is trimmed":                           {"{env.TEST_API_KEY_SPACED}", "env-key"},
		"a variable within text":                          {"a-{env.TEST_API_KEY}-b", "a-env-key-b"},
		"what a variable holds is never a path":           {"{env.TEST_API_KEY_SLASH}", "/env/key"},
		"what a variable holds is no relative path":       {"{env.TEST_API_KEY_DOT}", "./env/key"},
		"dots without a slash begin a text key":           {"..text", "..text"},
		"a file as a placeholder, trimmed":                {"{file." + path + "}", "file-key"},
		"a path, trimmed":                                 {path, "file-key"},
		"a path with a dollar sign before it, as in sh":   {"$" + path, "file-key"},
		"a path with a placeholder in it":                 {"/{env.TEST_API_KEY_DIR}/key", "file-key"},
		"a dollar sign without a slash begins a text key": {"$text", "$text"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			source, err := newKeySource("api_key", test.value, caddy.NewReplacer(), zap.NewNop())
			if err != nil {
				t.Fatalf("newKeySource(%q): %v", test.value, err)
			}
			if got := source.Key(); got != test.want {
				t.Errorf("Key() = %q, want %q", got, test.want)
			}
		})
	}
}

func TestNewKeySourceRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		writeKeyFile(t, path, content, 0)
		return path
	}
	t.Setenv("TEST_API_KEY_EMPTY", "")
	t.Setenv("TEST_API_KEY_BLANK", " ")
	t.Setenv("TEST_API_KEY_WORDS", "hush hush")
	missing, empty, blank := filepath.Join(dir, "missing"), file("empty", ""), file("blank", "\n \n")
	words, lines, large := file("words", "hush hush"), file("lines", "hush\nhush"), file("large", strings.Repeat("h", maxKeyFile+1))

	tests := map[string]struct {
		value string
		names string // what the error names beside the setting
	}{
		"nothing":                                  {"", "empty"},
		"white space":                              {" \t", "empty"},
		"an unset variable":                        {"{env.TEST_API_KEY_UNSET}", "TEST_API_KEY_UNSET"},
		"an empty variable":                        {"{env.TEST_API_KEY_EMPTY}", "TEST_API_KEY_EMPTY"},
		"a variable of white space":                {"{env.TEST_API_KEY_BLANK}", "empty"},
		"a variable with white space in it":        {"{env.TEST_API_KEY_WORDS}", "white space"},
		"an unset variable within text":            {"hush{env.TEST_API_KEY_UNSET}", "placeholder"},
		"an unknown placeholder":                   {"{hush}", "placeholder"},
		"an unknown placeholder within text":       {"a{hush}b", "placeholder"},
		"a placeholder of the Caddyfile":           {"{$HUSH}", "placeholder"},
		"a file placeholder without absolute path": {"{file.hush}", "{file./absolute/path}"},
		"a file placeholder with relative path":    {"{file../hush}", "{file./absolute/path}"},
		"a file placeholder without any path":      {"{file.}", "{file./absolute/path}"},
		"a file placeholder that is not closed":    {"{file." + empty, "{file./absolute/path}"},
		"a file placeholder before text":           {"{file." + empty + "}hush", "{file./absolute/path}"},
		"a file placeholder after text":            {"hush{file." + empty + "}", "stand alone"},
		"two file placeholders":                    {"{file." + empty + "}{file." + empty + "}", "{file./absolute/path}"},
		"white space in text":                      {"hush hush", "white space"},
		"a control character":                      {"hush\x01", "control"},
		"a line break, which would begin a header": {"hush\r\nX-Hush: 1", "white space"},
		"a character that is not ASCII":            {"hüsh", "ASCII"},
		"a scheme before the key":                  {"Bearer hush", "white space"},
		"a missing file":                           {missing, missing},
		"a missing file as a placeholder":          {"{file." + missing + "}", missing},
		"a missing file with a dollar sign":        {"$" + missing, missing},
		"a path with an unset variable":            {"/{env.TEST_API_KEY_UNSET}/key", "placeholder"},
		"an empty file":                            {empty, empty},
		"a file of white space":                    {blank, blank},
		"a file of two words":                      {words, words},
		"a file of two lines":                      {"{file." + lines + "}", lines + ": it holds more than one line"},
		"a path below the directory":               {"./hush", "must be absolute"},
		"a path above the directory":               {"../hush", "must be absolute"},
		"a path below the home directory":          {"~/hush", "must be absolute"},
		"a file that is too large":                 {large, "8192 bytes"},
		"a directory":                              {dir, dir},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := newKeySource("upstream_key", test.value, caddy.NewReplacer(), zap.NewNop())
			if err == nil {
				t.Fatalf("newKeySource(%q) succeeded", test.value)
			}
			if !strings.HasPrefix(err.Error(), "upstream_key: ") || !strings.Contains(err.Error(), test.names) {
				t.Errorf("newKeySource(%q): %q, want it to name the setting and %q", test.value, err, test.names)
			}
			if strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "hüsh") {
				t.Errorf("newKeySource(%q): %q shows the key", test.value, err)
			}
		})
	}
}

// TestKeyAllocatesNothing keeps the key cheap: it is asked for at every request.
func TestKeyAllocatesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	writeKeyFile(t, path, "key", 0)
	source, err := newKeySource("api_key", path, caddy.NewReplacer(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	// One look at the file in the interval may fall into the runs.
	if allocated := testing.AllocsPerRun(10_000, func() { _ = source.Key() }); allocated >= 1 {
		t.Errorf("Key() allocates %v times, want 0", allocated)
	}
}

func BenchmarkKey(b *testing.B) {
	path := filepath.Join(b.TempDir(), "key")
	for name, value := range map[string]string{"text": "key", "file": path} {
		b.Run(name, func(b *testing.B) {
			if err := os.WriteFile(path, []byte("key"), 0o600); err != nil {
				b.Fatal(err)
			}
			source, err := newKeySource("api_key", value, caddy.NewReplacer(), zap.NewNop())
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				_ = source.Key()
			}
		})
	}
}
