package handler

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// writeKeyFile writes a file and sets its time of change to age before now, on
// the clock of the test.
func writeKeyFile(t *testing.T, path, content string, age time.Duration) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	changed := time.Now().Add(-age)
	if err := os.Chtimes(path, changed, changed); err != nil {
		t.Fatal(err)
	}
}

// replaceKeyFile puts another file with the content at path.
func replaceKeyFile(t *testing.T, path, content string, age time.Duration) {
	t.Helper()
	next := path + ".next"
	writeKeyFile(t, next, content, age)
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

// observedKeySource is a key source on the file at path, and what it logs.
func observedKeySource(t *testing.T, path string) (*keySource, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	source, err := newKeySource("api_key", path, caddy.NewReplacer(), zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	return source, logs
}

func TestKeyFileIsReadAgainWhenItChanges(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		// age is the age of the first content when it is read.
		age    time.Duration
		change func(t *testing.T, path string)
	}{
		"another file is renamed over it": {
			age:    time.Hour,
			change: func(t *testing.T, path string) { replaceKeyFile(t, path, "second", 0) },
		},
		"another file of the same size and time is renamed over it": {
			age:    time.Hour,
			change: func(t *testing.T, path string) { replaceKeyFile(t, path, "second", time.Hour+keyFileInterval) },
		},
		"it is rewritten in place with the same size": {
			age:    time.Hour,
			change: func(t *testing.T, path string) { writeKeyFile(t, path, "second", time.Minute) },
		},
		"it is rewritten in place with the same size within one tick of the file system's clock": {
			age:    mtimeGranule,
			change: func(t *testing.T, path string) { writeKeyFile(t, path, "second", mtimeGranule+keyFileInterval) },
		},
		"it is rewritten in place with the same size and its time lies in the future": {
			age:    -time.Hour,
			change: func(t *testing.T, path string) { writeKeyFile(t, path, "second", -time.Hour+keyFileInterval) },
		},
		"it is rewritten in place with another size and the same time": {
			age:    time.Hour,
			change: func(t *testing.T, path string) { writeKeyFile(t, path, "second\n", time.Hour+keyFileInterval) },
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "key")
			synctest.Test(t, func(t *testing.T) {
				writeKeyFile(t, path, "first1", test.age)
				source, _ := observedKeySource(t, path)
				if key := source.Key(); key != "first1" {
					t.Fatalf("Key() = %q at first", key)
				}
				time.Sleep(keyFileInterval)
				test.change(t, path)
				if key := source.Key(); key != "second" {
					t.Errorf("Key() = %q after the change, want the second", key)
				}
			})
		})
	}
}

// TestKeyFileFollowsKubernetes lays out a mounted secret as the kubelet does: a
// link to a link to a directory, and the middle link is replaced.
func TestKeyFileFollowsKubernetes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	mount := func(version, content string) {
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		writeKeyFile(t, filepath.Join(dir, version, "key"), content, time.Hour)
		next := filepath.Join(dir, "..data_tmp")
		if err := os.Symlink(version, next); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join("..data", "key"), path); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		mount("..2026_01", "first1")
		source, _ := observedKeySource(t, "{file."+path+"}")
		mount("..2026_02", "second")
		time.Sleep(keyFileInterval)
		if key := source.Key(); key != "second" {
			t.Errorf("Key() = %q after the links were swapped, want the second", key)
		}
	})
}

func TestKeyFileIsReadOnlyWhenItMayHaveChanged(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	synctest.Test(t, func(t *testing.T) {
		writeKeyFile(t, path, "first", time.Second)
		reads := 0
		file, err := openKeyFile(keySetting{name: "api_key", logger: zap.NewNop()}, path, maxKeyFile,
			func(content []byte) (string, error) {
				reads++
				return string(content), nil
			})
		if err != nil {
			t.Fatal(err)
		}
		step := func(what string, after time.Duration, want int) {
			t.Helper()
			time.Sleep(after)
			for range 10 {
				_ = file.current()
			}
			if reads != want {
				t.Errorf("%s: read %d times, want %d", what, reads, want)
			}
		}
		step("within the interval", keyFileInterval-1, 1)
		step("after the interval, as the time of change proves nothing", 1, 2)
		step("after the time of change has settled", 2*time.Second, 3)
		step("once it has settled", time.Hour, 3)
	})
}

func TestKeyFileKeepsTheLastGoodKey(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, path string){
		"the file is removed": func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
		"the file is empty":           func(t *testing.T, path string) { replaceKeyFile(t, path, "", 0) },
		"the file is white space":     func(t *testing.T, path string) { replaceKeyFile(t, path, " \n\t", 0) },
		"the file holds two words":    func(t *testing.T, path string) { replaceKeyFile(t, path, "hush hush", 0) },
		"the file is too large":       func(t *testing.T, path string) { replaceKeyFile(t, path, strings.Repeat("h", maxKeyFile+1), 0) },
		"a directory is in its place": replaceByDirectory,
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "key")
			synctest.Test(t, func(t *testing.T) {
				writeKeyFile(t, path, "good", time.Hour)
				source, logs := observedKeySource(t, path)
				spoil(t, path)
				for range 3 {
					time.Sleep(keyFileInterval)
					if key := source.Key(); key != "good" {
						t.Fatalf("Key() = %q, want the last good one", key)
					}
				}
				if err := os.RemoveAll(path); err != nil {
					t.Fatal(err)
				}
				writeKeyFile(t, path, "better", time.Minute)
				for range 3 {
					time.Sleep(keyFileInterval)
					if key := source.Key(); key != "better" {
						t.Fatalf("Key() = %q, want the new one", key)
					}
				}

				var got []string
				for _, entry := range logs.All() {
					got = append(got, entry.Message)
					fields := entry.ContextMap()
					if fields["setting"] != "api_key" || fields["path"] != path {
						t.Errorf("%q is logged with %v, want the setting and the path", entry.Message, fields)
					}
					if reason, _ := fields["error"].(string); strings.Contains(reason, "hush") {
						t.Errorf("the log shows the content of the file: %q", reason)
					}
				}
				want := []string{
					"cannot use the key file, its last content stays in use",
					"the key file can be used again",
				}
				if !slices.Equal(got, want) {
					t.Errorf("logged %q, want %q", got, want)
				}
			})
		})
	}
}

func replaceByDirectory(t *testing.T, path string) {
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

// TestKeyFileRecoversByItself takes the file away and puts the same one back:
// it has not changed, but it must not count as faulty any more.
func TestKeyFileRecoversByItself(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	synctest.Test(t, func(t *testing.T) {
		writeKeyFile(t, path, "good", time.Hour)
		source, logs := observedKeySource(t, path)
		for _, move := range [][2]string{{path, path + ".away"}, {path + ".away", path}} {
			if err := os.Rename(move[0], move[1]); err != nil {
				t.Fatal(err)
			}
			time.Sleep(keyFileInterval)
			if key := source.Key(); key != "good" {
				t.Fatalf("Key() = %q, want the good one", key)
			}
		}
		if got := logs.FilterMessage("the key file can be used again").Len(); got != 1 {
			t.Errorf("the recovery is logged %d times, want once", got)
		}
	})
}

func TestKeyFileLogsAChange(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	synctest.Test(t, func(t *testing.T) {
		writeKeyFile(t, path, "first", 0)
		source, logs := observedKeySource(t, path)
		for range 3 {
			time.Sleep(keyFileInterval)
			_ = source.Key()
		}
		if logs.Len() != 0 {
			t.Errorf("logged %v although nothing changed", logs.All())
		}
		replaceKeyFile(t, path, "second", time.Hour)
		for range 3 {
			time.Sleep(keyFileInterval)
			_ = source.Key()
		}
		if got := logs.FilterMessage("read the changed key file").Len(); got != 1 || logs.Len() != 1 {
			t.Errorf("logged %v, want the change once", logs.All())
		}
	})
}

// TestKeyFileIsSafeForConcurrentUse rotates a key under its readers. Each of
// them sees one of the keys, whole, and in the end the last.
func TestKeyFileIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	keys := []string{"key-0", "key-1", "key-2", "key-3"}
	synctest.Test(t, func(t *testing.T) {
		writeKeyFile(t, path, keys[0], 0)
		source, _ := observedKeySource(t, path)
		var readers sync.WaitGroup
		for range 8 {
			readers.Go(func() {
				for range 100 {
					if key := source.Key(); !slices.Contains(keys, key) {
						t.Errorf("Key() = %q, want one of %q", key, keys)
					}
					time.Sleep(keyFileInterval / 3)
				}
			})
		}
		for _, key := range keys[1:] {
			time.Sleep(5 * keyFileInterval)
			replaceKeyFile(t, path, key, 0)
		}
		readers.Wait()
		time.Sleep(keyFileInterval)
		if key := source.Key(); key != keys[len(keys)-1] {
			t.Errorf("Key() = %q in the end, want the last", key)
		}
	})
}
