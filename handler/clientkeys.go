package handler

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

const (
	// maxClientKeyFile is the largest size in bytes of a file of client keys.
	maxClientKeyFile = 64 << 10

	// anyClient is the value of client_keys that accepts every client.
	anyClient = "any"

	// noKeys is the word for nothing in other settings.
	noKeys = "none"
)

// A keyDigest stands for a key: digests have one length, so comparing them
// takes the same time whatever the key.
type keyDigest [sha256.Size]byte

// clientKeys are the keys that clients must send. They are safe for concurrent
// use.
type clientKeys struct {
	anyone bool
	fixed  []keyDigest
	files  []*keyFile[[]keyDigest]
}

// newClientKeys returns the keys that the values of client_keys give, each in
// one of the forms of [newKeySource]. A variable that is a whole value,
// `{env.NAME}`, may hold several keys separated by commas, with white space
// around them and empty ones ignored. A file holds one key a line, with empty
// lines and lines beginning with # ignored. The single value `any` accepts
// every client. At least one value is required.
func newClientKeys(values []string, repl *caddy.Replacer, logger *zap.Logger) (*clientKeys, error) {
	setting := keySetting{name: "client_keys", replacer: repl, logger: logger}
	if len(values) == 0 {
		return nil, fmt.Errorf("%s: no value is given", setting.name)
	}
	if len(values) == 1 && values[0] == anyClient {
		return &clientKeys{anyone: true}, nil
	}
	keys := new(clientKeys)
	for _, value := range values {
		if err := keys.add(setting, value); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// add adds what one value of the setting gives.
func (c *clientKeys) add(setting keySetting, value string) error {
	text, path, err := setting.locate(value)
	if err != nil {
		return err
	}
	if path != "" {
		file, err := openKeyFile(setting, path, maxClientKeyFile, parseClientKeys)
		if err != nil {
			return err
		}
		c.files = append(c.files, file)
		return nil
	}
	if name, ok := environmentName(value); ok {
		digests, err := parseClientKeyList(text)
		if err != nil {
			return fmt.Errorf("%s: the environment variable %s: %w", setting.name, name, err)
		}
		c.fixed = append(c.fixed, digests...)
		return nil
	}
	digest, err := parseClientKey([]byte(text))
	if err != nil {
		return fmt.Errorf("%s: %w", setting.name, err)
	}
	c.fixed = append(c.fixed, digest)
	return nil
}

// any reports whether every client is accepted, with or without a key.
func (c *clientKeys) any() bool { return c.anyone }

// accepts reports whether key is one of the keys. It compares with all of them,
// so that the time tells neither which one matched nor how much of it.
func (c *clientKeys) accepts(key string) bool {
	if c.anyone {
		return true
	}
	digest := keyDigest(sha256.Sum256([]byte(key)))
	found := digest.matches(c.fixed)
	for _, file := range c.files {
		found |= digest.matches(file.current())
	}
	return found == 1
}

// matches returns 1 when d is one of the digests and 0 otherwise.
func (d *keyDigest) matches(digests []keyDigest) int {
	found := 0
	for i := range digests {
		found |= subtle.ConstantTimeCompare(d[:], digests[i][:])
	}
	return found
}

// parseClientKeys returns the keys in the content of a file.
func parseClientKeys(content []byte) ([]keyDigest, error) {
	var digests []keyDigest
	number := 0
	for line := range bytes.Lines(content) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		digest, err := parseClientKey(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		digests = append(digests, digest)
	}
	if len(digests) == 0 {
		return nil, errors.New("it holds no key")
	}
	return digests, nil
}

// parseClientKeyList returns the keys between the commas of text.
func parseClientKeyList(text string) ([]keyDigest, error) {
	var digests []keyDigest
	for item := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(item) == "" {
			continue
		}
		digest, err := parseClientKey([]byte(item))
		if err != nil {
			return nil, err
		}
		digests = append(digests, digest)
	}
	if len(digests) == 0 {
		return nil, errors.New("it holds no key")
	}
	return digests, nil
}

// parseClientKey returns the digest of one key. The words for every client and
// for nothing are no keys, in capitals or not: where one stands in a file, a
// variable or a list, its author meant something else than a key.
func parseClientKey(text []byte) (keyDigest, error) {
	key, err := parseKey(text)
	if err != nil {
		return keyDigest{}, err
	}
	if strings.EqualFold(key, anyClient) || strings.EqualFold(key, noKeys) {
		return keyDigest{}, fmt.Errorf("%q is no key; what accepts every client is %q as the only value, written out", key, anyClient)
	}
	return sha256.Sum256([]byte(key)), nil
}
