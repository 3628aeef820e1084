package handler

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// settingAllowedTargets is the name of the setting, for errors.
const settingAllowedTargets = "allowed_targets"

// noTargets is the value of allowed_targets that forbids callers to choose.
const noTargets = "none"

// A forbiddenError is something that the operator does not let callers do.
type forbiddenError struct {
	// Setting is the operator's setting that forbids it.
	Setting string
	// Message says what is forbidden.
	Message string
}

func (e *forbiddenError) Error() string { return e.Setting + ": " + e.Message }

// An allowedTarget is one entry of allowed_targets.
type allowedTarget struct {
	url *url.URL
	// wildcard says that one label stands before the host of url.
	wildcard bool
}

// allowedTargets are the targets that the operator named for callers to choose.
type allowedTargets struct {
	none    bool
	entries []allowedTarget
}

// newAllowedTargets returns the targets of allowed_targets: each value is
// `scheme://host[:port][/path]`, where `*.` at the start of the host stands for
// exactly one label, or the single value is `none`.
func newAllowedTargets(values []string) (*allowedTargets, error) {
	if len(values) == 1 && values[0] == noTargets {
		return &allowedTargets{none: true}, nil
	}
	allowed := new(allowedTargets)
	for i, value := range values {
		if value == noTargets {
			return nil, fmt.Errorf("%s: %q must be the only value", settingAllowedTargets, noTargets)
		}
		entry, err := parseAllowedTarget(value)
		if err != nil {
			return nil, fmt.Errorf("%s: value %d %w", settingAllowedTargets, i+1, err)
		}
		allowed.entries = append(allowed.entries, entry)
	}
	return allowed, nil
}

// parseAllowedTarget returns the entry that value describes.
func parseAllowedTarget(value string) (allowedTarget, error) {
	scheme, rest, _ := strings.Cut(value, "://")
	name, wildcard := strings.CutPrefix(rest, "*.")
	if wildcard {
		value = scheme + "://" + name
	}
	u, err := parseTarget(value)
	if err != nil {
		return allowedTarget{}, err
	}
	if wildcard && (strings.HasPrefix(u.Host, "[") || endsInNumber(u.Hostname())) {
		return allowedTarget{}, errors.New("must have a host name after the wildcard")
	}
	return allowedTarget{url: u, wildcard: wildcard}, nil
}

// names reports whether an entry names u: the same scheme, host and port, and
// the path of the entry or one below it.
func (a *allowedTargets) names(u *url.URL) bool {
	for i := range a.entries {
		if a.entries[i].matches(u) {
			return true
		}
	}
	return false
}

func (e *allowedTarget) matches(u *url.URL) bool {
	host := hostName(u)
	if e.wildcard {
		// A name has no empty labels, so there is a label before the dot.
		_, host, _ = strings.Cut(host, ".")
	}
	if e.url.Scheme != u.Scheme || hostName(e.url) != host || defaultPort(e.url) != defaultPort(u) {
		return false
	}
	below, ok := strings.CutPrefix(u.EscapedPath(), e.url.EscapedPath())
	return ok && (below == "" || below[0] == '/')
}
