package handler

import (
	"net/http"
	"strings"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

// The schemes of the Authorization header that carry a key.
const (
	schemeBearer = "Bearer"
	schemeAPIKey = "Api-Key"
)

// An unauthorizedError is a request without a key, or with a wrong one.
type unauthorizedError struct {
	// Message says what to send.
	Message string
}

func (e *unauthorizedError) Error() string { return e.Message }

// A credential is what a client sent as Authorization. The zero value is a
// client that sent none.
type credential struct {
	// scheme is the first word of the header; "Bearer" in this spelling
	// whatever the client's.
	scheme string
	// key is what follows the scheme.
	key string
	// raw is the whole header value as it came.
	raw string
}

// parseAuthorization returns the client's credential. No header, an empty one
// and Bearer without a key are no credential. More than one header, or a Bearer
// key that cannot be one, is an [engine.RequestError].
func parseAuthorization(h http.Header) (credential, error) {
	raw, err := singleHeader(h, "Authorization")
	if err != nil {
		return credential{}, err
	}
	// HTTP/1 strips this white space, HTTP/2 does not.
	raw = strings.Trim(raw, " \t")
	scheme, key := raw, ""
	if i := strings.IndexAny(raw, " \t"); i >= 0 {
		scheme, key = raw[:i], strings.TrimLeft(raw[i:], " \t")
	}
	if !strings.EqualFold(scheme, schemeBearer) {
		return credential{scheme: scheme, key: key, raw: raw}, nil
	}
	if key == "" {
		return credential{}, nil
	}
	if !isVisibleASCII(key) {
		return credential{}, &engine.RequestError{
			Field:   "Authorization",
			Message: "the key after Bearer holds white space, control characters or characters that are not ASCII",
		}
	}
	return credential{scheme: schemeBearer, key: key, raw: raw}, nil
}

// absent reports whether the client sent no credential.
func (c credential) absent() bool { return c.raw == "" }

// clientKey returns the key that is compared with client_keys, empty when the
// credential carries none.
func (c credential) clientKey() string {
	if c.scheme == schemeBearer || strings.EqualFold(c.scheme, schemeAPIKey) {
		return c.key
	}
	return ""
}

// upstreamValue returns the Authorization header that carries the credential
// upstream: other schemes than Bearer go as they came.
func (c credential) upstreamValue() string {
	if c.scheme == schemeBearer {
		return bearer(c.key)
	}
	return c.raw
}

// bearer returns the Authorization header for key.
func bearer(key string) string { return schemeBearer + " " + key }

// auth decides who may send and with which key. It is safe for concurrent use.
type auth struct {
	// apiKey is the operator's upstream key, nil when there is none.
	apiKey *keySource
	// clients are the keys that clients must send, nil when clients send
	// upstream keys.
	clients *clientKeys
}

// authorize returns the Authorization header to send upstream, empty for none,
// or an [unauthorizedError].
//
// operatorNamed says whether the operator named the target. The operator's key
// goes to no other: a caller could choose a server of its own and read it there.
func (a *auth) authorize(client credential, operatorNamed bool) (authorization string, err error) {
	if a.clients != nil {
		if err := a.admit(client); err != nil {
			return "", err
		}
		return a.operatorsKey(operatorNamed), nil
	}
	if !client.absent() {
		return client.upstreamValue(), nil
	}
	if key := a.operatorsKey(operatorNamed); key != "" {
		return key, nil
	}
	return "", &unauthorizedError{Message: "no key: send one as Authorization: Bearer <key>"}
}

// admit checks the client's key against client_keys.
func (a *auth) admit(client credential) error {
	if a.clients.any() {
		return nil
	}
	key := client.clientKey()
	if key == "" {
		return &unauthorizedError{Message: "no key: send one that the proxy accepts, as Authorization: Bearer <key>"}
	}
	if !a.clients.accepts(key) {
		return &unauthorizedError{Message: "wrong key: send one that the proxy accepts, as Authorization: Bearer <key>"}
	}
	return nil
}

// operatorsKey returns the Authorization header with the operator's key, empty
// when there is none or the target may not have it.
func (a *auth) operatorsKey(operatorNamed bool) string {
	if !operatorNamed || a.apiKey == nil {
		return ""
	}
	return bearer(a.apiKey.Key())
}
