package handler

import (
	"net/netip"
	"net/url"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

// A target is where a request goes.
type target struct {
	URL *url.URL
	// OperatorNamed says that the operator named the target, in `to` or
	// allowed_targets: it may have the operator's key and transport.
	OperatorNamed bool
}

// targets decide where requests go.
type targets struct {
	// configured are the operator's targets, in the order of the setting.
	configured []*url.URL
	// allowed is never nil.
	allowed *allowedTargets
}

// choose returns the target of a request: the one of the header X-Target-Host,
// else that of the preferences, else the first configured one. An empty string
// means that the caller did not choose.
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
	if len(t.configured) == 0 {
		return target{}, &engine.RequestError{
			Field:   headerTargetHost,
			Message: "there is no default target: name one, as scheme://host[:port][/path]",
		}
	}
	return target{URL: t.configured[0], OperatorNamed: true}, nil
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
