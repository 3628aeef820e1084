package handler

import (
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

func TestClientKeys(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys")
	writeKeyFile(t, path, "# staff\n\n  file-1  \r\n\t# indented comment\nfile-2#not-a-comment\nfile-3", 0)
	t.Setenv("TEST_CLIENT_KEY", "env-1")
	t.Setenv("TEST_CLIENT_KEY_LIST", " list-1, list-2,,/list/3 ,\n")

	tests := map[string]struct {
		values  []string
		any     bool
		accepts []string
		refuses []string
	}{
		"text keys": {
			values:  []string{"text-1", "text-2"},
			accepts: []string{"text-1", "text-2"},
			refuses: []string{"", "text", "text-3", "text-1 ", "TEXT-1", "any"},
		},
		"a key of the environment": {
			values:  []string{"{env.TEST_CLIENT_KEY}"},
			accepts: []string{"env-1"},
			refuses: []string{"", "{env.TEST_CLIENT_KEY}", "env-2"},
		},
		"a variable holds several keys": {
			values:  []string{"text-1", "{env.TEST_CLIENT_KEY_LIST}"},
			accepts: []string{"text-1", "list-1", "list-2", "/list/3"},
			refuses: []string{"", "list-1, list-2", " list-2", ","},
		},
		"a variable within text is a part of one key": {
			values:  []string{"a-{env.TEST_CLIENT_KEY}"},
			accepts: []string{"a-env-1"},
			refuses: []string{"env-1", "a-"},
		},
		"a comma in text is a part of the key": {
			values:  []string{"text-1,text-2"},
			accepts: []string{"text-1,text-2"},
			refuses: []string{"text-1", "text-2"},
		},
		"words that begin or end like any": {
			values:  []string{"anyone", "many", "none-1"},
			accepts: []string{"anyone", "many", "none-1"},
			refuses: []string{"", "any", "none"},
		},
		"a file holds one key a line": {
			values:  []string{"{file." + path + "}"},
			accepts: []string{"file-1", "file-2#not-a-comment", "file-3"},
			refuses: []string{"", "# staff", "#", "# indented comment", "file-2"},
		},
		"a file as a path": {
			values:  []string{path},
			accepts: []string{"file-1"},
			refuses: []string{path},
		},
		"a file as a path with a dollar sign": {
			values:  []string{"$" + path},
			accepts: []string{"file-1"},
			refuses: []string{path, "$" + path},
		},
		"all forms together": {
			values:  []string{"text-1", "{env.TEST_CLIENT_KEY}", path},
			accepts: []string{"text-1", "env-1", "file-1", "file-3"},
			refuses: []string{"", "text-2"},
		},
		"any accepts every key and none": {
			values:  []string{"any"},
			any:     true,
			accepts: []string{"", "any", "whatever"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			keys, err := newClientKeys(test.values, caddy.NewReplacer(), zap.NewNop())
			if err != nil {
				t.Fatal(err)
			}
			if keys.any() != test.any {
				t.Errorf("any() = %t, want %t", keys.any(), test.any)
			}
			for _, key := range test.accepts {
				if !keys.accepts(key) {
					t.Errorf("accepts(%q) = false, want true", key)
				}
			}
			for _, key := range test.refuses {
				if keys.accepts(key) {
					t.Errorf("accepts(%q) = true, want false", key)
				}
			}
		})
	}
}

func TestNewClientKeysRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		writeKeyFile(t, path, content, 0)
		return path
	}
	t.Setenv("TEST_CLIENT_KEYS_ANY", "any")
	t.Setenv("TEST_CLIENT_KEYS_ANY_TOO", "hush,any")
	t.Setenv("TEST_CLIENT_KEYS_COMMAS", " , ,")
	t.Setenv("TEST_CLIENT_KEYS_WORDS", "hush,hush hush")
	tests := map[string]struct {
		values []string
		names  string
	}{
		"no value":                          {nil, "no value"},
		"an empty value":                    {[]string{""}, "empty"},
		"any before a key":                  {[]string{"any", "hush"}, `"any"`},
		"any after a key":                   {[]string{"hush", "any"}, `"any"`},
		"any twice":                         {[]string{"any", "any"}, `"any"`},
		"any out of a variable":             {[]string{"{env.TEST_CLIENT_KEYS_ANY}"}, `"any"`},
		"any in a list out of a variable":   {[]string{"{env.TEST_CLIENT_KEYS_ANY_TOO}"}, `"any"`},
		"a variable of commas":              {[]string{"{env.TEST_CLIENT_KEYS_COMMAS}"}, "TEST_CLIENT_KEYS_COMMAS: it holds no key"},
		"a variable with white space":       {[]string{"{env.TEST_CLIENT_KEYS_WORDS}"}, "TEST_CLIENT_KEYS_WORDS: the key holds white space"},
		"any with a capital":                {[]string{"Any"}, `"Any" is no key`},
		"any in capitals":                   {[]string{"ANY"}, `"ANY" is no key`},
		"any with white space around it":    {[]string{" any "}, `"any" is no key`},
		"none":                              {[]string{"none"}, `"none" is no key`},
		"none with a capital after a key":   {[]string{"hush", "None"}, `"None" is no key`},
		"none out of a file":                {[]string{file("none", "none\n")}, `line 1: "none" is no key`},
		"a path below the directory":        {[]string{"./hush"}, "must be absolute"},
		"a path below the home directory":   {[]string{"hush", "~/hush"}, "must be absolute"},
		"any out of a file":                 {[]string{file("any", "any\n")}, `"any"`},
		"white space in text":               {[]string{"hush hush"}, "white space"},
		"an unset variable":                 {[]string{"hush", "{env.TEST_CLIENT_KEYS_UNSET}"}, "TEST_CLIENT_KEYS_UNSET"},
		"a missing file":                    {[]string{filepath.Join(dir, "missing")}, "missing"},
		"a relative file":                   {[]string{"{file.keys}"}, "{file./absolute/path}"},
		"an empty file":                     {[]string{file("empty", "")}, "holds no key"},
		"a file of comments":                {[]string{file("comments", "# hush\n\n#\n")}, "holds no key"},
		"a line with white space in a file": {[]string{file("lines", "hush\n\nhush hush\n")}, "line 3"},
		"a file that is too large":          {[]string{file("large", strings.Repeat("h\n", maxClientKeyFile))}, "65536 bytes"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := newClientKeys(test.values, caddy.NewReplacer(), zap.NewNop())
			if err == nil {
				t.Fatalf("newClientKeys(%q) succeeded", test.values)
			}
			if !strings.HasPrefix(err.Error(), "client_keys: ") || !strings.Contains(err.Error(), test.names) {
				t.Errorf("newClientKeys(%q): %q, want it to name the setting and %q", test.values, err, test.names)
			}
			if strings.Contains(err.Error(), "hush") {
				t.Errorf("newClientKeys(%q): %q shows a key", test.values, err)
			}
		})
	}
}

func TestClientKeysFollowTheirFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys")
	synctest.Test(t, func(t *testing.T) {
		writeKeyFile(t, path, "alice\nbob\n", time.Hour)
		keys, err := newClientKeys([]string{path, "carol"}, caddy.NewReplacer(), zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		step := func(what, content string, accepted map[string]bool) {
			t.Helper()
			replaceKeyFile(t, path, content, 0)
			time.Sleep(keyFileInterval)
			for key, want := range accepted {
				if got := keys.accepts(key); got != want {
					t.Errorf("%s: accepts(%q) = %t, want %t", what, key, got, want)
				}
			}
		}
		step("bob was replaced", "alice\ndave\n", map[string]bool{"alice": true, "bob": false, "carol": true, "dave": true})
		step("a malformed file changes nothing", "not a key\n", map[string]bool{"alice": true, "carol": true, "dave": true, "not": false})
		step("an empty file changes nothing", "", map[string]bool{"alice": true, "dave": true, "": false})
		step("a good file ends that", "erin\n", map[string]bool{"alice": false, "carol": true, "erin": true})
	})
}
