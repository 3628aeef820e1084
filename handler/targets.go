package handler

import (
	"net/netip"
	"net/url"
	"strings"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

// A target is where a request goes.
type target struct {
	// URL is what the caller chose, nil for the configured endpoints.
	URL *url.URL
	// OperatorNamed says that the operator named the target, in `to` or
	// allowed_targets: it may have the operator's key and transport.
	OperatorNamed bool
}

// targets decide where requests go.
type targets struct {
	// configured are the operator's targets, in the order of the setting.
	configured []*url.URL
	// dynamic is the name in the place of them, nil when there is none.
	dynamic *dynamicTarget
	// allowed is never nil.
	allowed *allowedTargets
}

// serverName returns the name in TLS of endpoints that are dialled by address,
// empty when there are none.
func (t *targets) serverName() string {
	if t.dynamic == nil || t.dynamic.scheme != "https" {
		return ""
	}
	return strings.TrimSuffix(t.dynamic.name, ".")
}

// name returns what logs call a target.
func (t *targets) name(chosen target) string {
	switch {
	case chosen.URL != nil:
		return chosen.URL.String()
	case t.dynamic != nil:
		return t.dynamic.scheme + "://" + t.dynamic.host
	}
	names := make([]string, len(t.configured))
	for i, u := range t.configured {
		names[i] = u.String()
	}
	return strings.Join(names, ", ")
}

// choose returns the target of a request: the one of the header X-Target-Host,
// else that of the preferences, else the configured ones. An empty string means
// that the caller did not choose. A URL that names a configured target is that
// one's own.
//
// The error is an [engine.RequestError] when there is no target or either choice
// is malformed, and a [forbiddenError] when the operator does not allow it. The
// name of a target that the operator did not name is not resolved here: its
// addresses are checked when it is dialled, with [engine.PublicOnly].
func (t *targets) choose(headerTarget, preferenceTarget string) (target, error) {
	var chosen *url.URL
	for _, choice := range []struct{ field, value string }{
		{headerTargetHost, headerTarget},
		{headerPreferences + ".target_host", preferenceTarget},
	} {
		if choice.value == "" {
			continue
		}
		u, err := parseCallerTarget(choice.field, choice.value)
		if err != nil {
			return target{}, err
		}
		if chosen == nil {
			chosen = u
		}
	}
	if chosen != nil {
		return t.permit(chosen)
	}
	if len(t.configured) == 0 && t.dynamic == nil {
		return target{}, &engine.RequestError{
			Field:   headerTargetHost,
			Message: "there is no default target: name one, as scheme://host[:port][/path]",
		}
	}
	return target{OperatorNamed: true}, nil
}

// permit returns the target for a caller's choice, or why it is forbidden.
func (t *targets) permit(chosen *url.URL) (target, error) {
	if t.allowed.none {
		return target{}, forbiddenTarget("callers may not choose the target")
	}
	for _, u := range t.configured {
		if sameTarget(u, chosen) {
			return target{URL: u, OperatorNamed: true}, nil
		}
	}
	if t.allowed.names(chosen) {
		return target{URL: chosen, OperatorNamed: true}, nil
	}
	if chosen.Scheme != "https" {
		return target{}, forbiddenTarget("a target that it does not name must be https")
	}
	if ip, err := netip.ParseAddr(chosen.Hostname()); err == nil && engine.PublicAddress(ip) != nil {
		return target{}, forbiddenTarget("a target that it does not name must have a public address")
	}
	return target{URL: chosen}, nil
}

func forbiddenTarget(message string) error {
	return &forbiddenError{Setting: settingAllowedTargets, Message: message}
}
