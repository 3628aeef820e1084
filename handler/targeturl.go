package handler

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

const (
	// maxCallerTarget is the largest size in bytes of a target that a caller
	// chooses.
	maxCallerTarget = 2 << 10

	// maxEscapeLevels is how many forms of a path are checked: as it came, and
	// decoded once and twice. Percent-encoding on top of that serves no honest
	// purpose, and every level costs a pass.
	maxEscapeLevels = 3

	targetForm = "must have the form scheme://host[:port][/path]"
)

// parseTarget returns the URL of a target: the scheme http, https or h2c, a
// host in lower case, maybe a port from 1 to 65535, and a path without the
// slashes at its end. Anything else that a URL may hold is an error, which says
// what is wrong and does not repeat s, as there may be a password in it.
func parseTarget(s string) (*url.URL, error) {
	if err := checkTargetText(s); err != nil {
		return nil, err
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, errors.New(targetForm)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "h2c":
		return nil, errors.New(targetSchemes)
	case u.User != nil:
		return nil, errors.New("must not hold a user name or password")
	case u.Host == "":
		return nil, errors.New("must have a host: it " + targetForm)
	}
	host, err := canonicalHost(u.Host)
	if err != nil {
		return nil, err
	}
	escaped := strings.TrimRight(u.EscapedPath(), "/")
	if err := checkTargetPath(escaped); err != nil {
		return nil, err
	}
	path, err := url.PathUnescape(escaped)
	if err != nil {
		return nil, errors.New("must have a valid path")
	}
	parsed := &url.URL{Scheme: u.Scheme, Host: host, Path: path}
	if parsed.EscapedPath() != escaped {
		parsed.RawPath = escaped
	}
	return parsed, nil
}

// parseCallerTarget returns the URL of a target that a caller chose in field.
// On top of the rules of [parseTarget] it refuses hosts that programs read in
// different ways. Its errors are [engine.RequestError]s.
func parseCallerTarget(field, s string) (*url.URL, error) {
	if len(s) > maxCallerTarget {
		return nil, &engine.RequestError{Field: field, Message: fmt.Sprintf("must not be longer than %d bytes", maxCallerTarget)}
	}
	u, err := parseTarget(s)
	if err == nil {
		err = checkCallerHost(u.Hostname())
	}
	if err != nil {
		return nil, &engine.RequestError{Field: field, Message: err.Error()}
	}
	return u, nil
}

// checkTargetText refuses characters that no target holds (RFC 3986) and that
// programs read, or encode, in different ways.
func checkTargetText(s string) error {
	for i := range len(s) {
		switch c := s[i]; {
		case c <= ' ' || c == 0x7f:
			return errors.New("must not hold white space or control characters")
		case c > 0x7f:
			return errors.New("must be ASCII: a host in its xn-- form, a path percent-encoded")
		case c == '\\':
			return errors.New("must not hold a backslash")
		case strings.IndexByte("\"<>^`{|}", c) >= 0:
			return fmt.Errorf("must not hold the character %c", c)
		case c == '?':
			return errors.New("must not have a query")
		case c == '#':
			return errors.New("must not have a fragment")
		}
	}
	return nil
}

// canonicalHost returns the host and port of a URL in lower case, an IPv6
// address in its canonical form (RFC 5952).
func canonicalHost(hostport string) (string, error) {
	host, port, hasPort := hostport, "", false
	if i := strings.LastIndexByte(hostport, ':'); i > strings.LastIndexByte(hostport, ']') {
		host, port, hasPort = hostport[:i], hostport[i+1:], true
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, closed := strings.CutSuffix(inner, "]")
		ip, err := netip.ParseAddr(inner)
		if !closed || err != nil || !ip.Is6() {
			return "", errors.New("must have an IPv6 address between the brackets")
		}
		host = "[" + ip.String() + "]"
	} else {
		host = strings.ToLower(host)
		if !isHostName(host) {
			return "", errors.New("must have a valid host name")
		}
	}
	if !hasPort {
		return host, nil
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '0' {
		return "", errors.New("must have a port from 1 to 65535")
	}
	return host + ":" + port, nil
}

// isHostName reports whether host, in lower case, may be a name or a dotted IPv4
// address (RFC 1123, and the underscores of Docker's service names), with at
// most one dot at its end.
func isHostName(host string) bool {
	host = strings.TrimSuffix(host, ".")
	if len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// checkCallerHost refuses IPv6 zones, which mean interfaces of this machine, and
// numbers that resolvers take for IPv4 addresses although they are not written
// as four decimal parts.
func checkCallerHost(host string) error {
	ip, err := netip.ParseAddr(host)
	if err == nil && ip.Zone() != "" {
		return errors.New("must not have an IPv6 zone")
	}
	if err != nil && endsInNumber(host) {
		return errors.New("must have a host name, an IPv4 address of four decimal parts without leading zeros, or an IPv6 address in brackets")
	}
	return nil
}

// endsInNumber reports whether the last label of host is a decimal or
// hexadecimal number: such a host is an IPv4 address for the WHATWG URL
// standard ("ends in a number checker"), and for many resolvers.
func endsInNumber(host string) bool {
	host = strings.TrimSuffix(host, ".")
	last := host[strings.LastIndexByte(host, '.')+1:]
	if isDigits(last) {
		return true
	}
	hexadecimal, ok := strings.CutPrefix(last, "0x")
	return ok && strings.Trim(hexadecimal, "0123456789abcdef") == ""
}

// checkTargetPath refuses a percent-encoded path in which, at any level of
// encoding, a segment leads upwards or a backslash or control character hides.
// Some servers take what follows a semicolon off a segment before they resolve
// it.
func checkTargetPath(escaped string) error {
	path := escaped
	for range maxEscapeLevels {
		if strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }) {
			return errors.New("must have a path without backslashes and control characters")
		}
		for segment := range strings.SplitSeq(path, "/") {
			name, _, _ := strings.Cut(segment, ";")
			if name == "." || name == ".." {
				return errors.New("must have a path without . and .. segments")
			}
		}
		decoded, err := url.PathUnescape(path)
		if err != nil || decoded == path {
			return nil
		}
		path = decoded
	}
	return errors.New("must have a path that is not percent-encoded several times")
}

// defaultPort returns the port of u, that of its scheme when it names none.
func defaultPort(u *url.URL) string {
	if port := u.Port(); port != "" {
		return port
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}

// hostName returns the host of u without the dot that may end it, which does
// not make it another host.
func hostName(u *url.URL) string { return strings.TrimSuffix(u.Hostname(), ".") }

// sameTarget reports whether a and b are one target.
func sameTarget(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && hostName(a) == hostName(b) &&
		defaultPort(a) == defaultPort(b) && a.EscapedPath() == b.EscapedPath()
}
