package handler

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// maxKeyFile is the largest size in bytes of a file that holds one key.
const maxKeyFile = 8 << 10

// A keySetting is a setting whose values are keys or say where keys are. Its
// errors name the setting and never hold a key.
type keySetting struct {
	name     string
	replacer *caddy.Replacer
	logger   *zap.Logger
}

// A keySource is the operator's upstream key. It is safe for concurrent use.
type keySource struct {
	text string
	file *keyFile[string] // nil when the key does not come from a file
}

// newKeySource returns the key that value gives: the key itself, `{env.NAME}`,
// `{file./absolute/path}`, or a path beginning with `/` or `$/`; a path that is
// relative or begins with `~/` is an error, and no key. The name is
// the setting's, for errors; faults of a file after the first reading go to
// logger.
func newKeySource(name, value string, repl *caddy.Replacer, logger *zap.Logger) (*keySource, error) {
	setting := keySetting{name: name, replacer: repl, logger: logger}
	text, path, err := setting.locate(value)
	if err != nil {
		return nil, err
	}
	if path != "" {
		file, err := openKeyFile(setting, path, maxKeyFile, parseKeyFile)
		if err != nil {
			return nil, err
		}
		return &keySource{file: file}, nil
	}
	key, err := parseKey([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &keySource{text: key}, nil
}

// Key returns the key; it is never empty.
func (k *keySource) Key() string {
	if k.file != nil {
		return k.file.current()
	}
	return k.text
}

// locate returns the text that value stands for or the path of the file that it
// names. What comes out of a placeholder is never taken for a path: a key that
// begins with a slash would then stand in the error about the missing file.
func (s keySetting) locate(value string) (text, path string, err error) {
	if inner, ok := strings.CutPrefix(value, "{file."); ok {
		path, closed := strings.CutSuffix(inner, "}")
		if !closed || strings.ContainsAny(path, "{}") || !isAbsolute(path) {
			return "", "", fmt.Errorf("%s: a key file is given as {file./absolute/path}, with nothing around it", s.name)
		}
		return "", path, nil
	}
	if strings.Contains(value, "{file.") {
		return "", "", fmt.Errorf("%s: {file./absolute/path} must stand alone", s.name)
	}
	if isRelative(value) {
		return "", "", fmt.Errorf("%s: the path of a key file must be absolute", s.name)
	}
	expanded, err := s.replacer.ReplaceOrErr(value, true, true)
	if err != nil {
		// The replacer's error quotes what may be a part of a key.
		if name, ok := environmentName(value); ok {
			return "", "", fmt.Errorf("%s: the environment variable %s is unset or empty", s.name, name)
		}
		return "", "", fmt.Errorf("%s: a placeholder in it is unknown or empty; "+
			"{env.NAME} and {file./absolute/path} are expected, and \\{ for a brace of the key itself", s.name)
	}
	if strings.HasPrefix(value, "/") || strings.HasPrefix(value, "$/") {
		return "", strings.TrimPrefix(expanded, "$"), nil
	}
	return expanded, "", nil
}

// isAbsolute reports whether path is absolute, in the notation of any system
// or of this one.
func isAbsolute(path string) bool {
	return strings.HasPrefix(path, "/") || filepath.IsAbs(path)
}

// isRelative reports whether value begins like a path that is not absolute.
func isRelative(value string) bool {
	return strings.HasPrefix(value, "./") || strings.HasPrefix(value, "../") || strings.HasPrefix(value, "~/")
}

// environmentName returns NAME when value is just {env.NAME}.
func environmentName(value string) (string, bool) {
	inner, opened := strings.CutPrefix(value, "{env.")
	name, closed := strings.CutSuffix(inner, "}")
	return name, opened && closed && !strings.ContainsAny(name, "{}")
}

// parseKeyFile returns the one key in the content of a file.
func parseKeyFile(content []byte) (string, error) {
	if bytes.ContainsAny(bytes.TrimSpace(content), "\r\n") {
		return "", errors.New("it holds more than one line")
	}
	return parseKey(content)
}

// parseKey returns the one key in content without the white space around it.
func parseKey(content []byte) (string, error) {
	key := string(bytes.TrimSpace(content))
	if key == "" {
		return "", errors.New("the key is empty")
	}
	if !isVisibleASCII(key) {
		return "", errors.New("the key holds white space, control characters or characters that are not ASCII")
	}
	return key, nil
}

// isVisibleASCII reports whether s consists of visible ASCII characters alone,
// the ones that RFC 9110 allows in a header value at any place.
func isVisibleASCII(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}
