package handler

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

// A policy is what the operator lets callers ask for. A nil policy lets them
// ask for everything in the ranges of the settings.
type policy struct {
	caps   map[string]float64
	denied map[string]bool
}

// newPolicy returns the policy of the settings cap and deny_preferences: the
// largest values by the names of preferences, and the names of those that
// callers may not send.
func newPolicy(caps map[string]float64, deny []string) (*policy, error) {
	p := &policy{caps: maps.Clone(caps), denied: make(map[string]bool, len(deny))}
	for _, name := range slices.Sorted(maps.Keys(caps)) {
		if err := checkCap(name, caps[name]); err != nil {
			return nil, fmt.Errorf("cap: %w", err)
		}
	}
	for _, name := range deny {
		if findPreference(name) == nil {
			return nil, fmt.Errorf("deny_preferences: %q is no preference; there are %s", name, preferenceNames())
		}
		p.denied[name] = true
	}
	return p, nil
}

// checkCap checks one cap against its setting.
func checkCap(name string, limit float64) error {
	n := findNumeric(name)
	switch {
	case n == nil && findPreference(name) == nil:
		return fmt.Errorf("%q is no preference; there are %s", name, numericNames())
	case n == nil:
		return &settingError{name: name, message: "is no number and cannot be capped, but denied"}
	case !n.contains(limit):
		return n.outOfRange(limit)
	case n.integer && limit != math.Trunc(limit):
		return &settingError{name: name, message: n.expected()}
	}
	return nil
}

// check returns an [engine.RequestError] for a preference over its cap, else a
// [forbiddenError] for one that callers may not send, else nil. A target in the
// header X-Target-Host counts as the preference target_host.
func (p *policy) check(asked *preferences, headerTarget bool) error {
	if p == nil {
		return nil
	}
	for i := range numericSettings {
		n := &numericSettings[i]
		limit, capped := p.caps[n.name]
		if v, ok := n.get(&asked.Settings); ok && capped && v > limit {
			return &engine.RequestError{
				Field:   headerPreferences + "." + n.name,
				Message: fmt.Sprintf("%s is over the cap of %s", formatNumber(v), formatNumber(limit)),
			}
		}
	}
	for i := range preferenceTable {
		name := preferenceTable[i].name
		if p.denied[name] && preferenceTable[i].isSet(asked) {
			return denied(headerPreferences + "." + name)
		}
	}
	if headerTarget && p.denied["target_host"] {
		return denied(headerTargetHost)
	}
	return nil
}

func denied(field string) error {
	return &forbiddenError{Setting: "deny_preferences", Message: field + " may not be sent"}
}

// A raise is a setting that the caller did not set and that is to be raised so
// that what the caller set can hold.
type raise struct {
	name     string
	from, to float64
	// cause is the preference for which the setting gives way.
	cause string
}

// allowRaise returns nil when the caller may change the setting in this way. A
// setting that callers may not send, or not so large, must not be reached
// through another.
func (p *policy) allowRaise(r raise) error {
	if p == nil {
		return nil
	}
	if limit, capped := p.caps[r.name]; capped && r.to > limit {
		return &settingError{name: r.cause, message: fmt.Sprintf("needs %s to be at least %s, over its cap of %s",
			r.name, formatNumber(r.to), formatNumber(limit))}
	}
	if p.denied[r.name] {
		return &settingError{name: r.cause, message: fmt.Sprintf("needs %s to be at least %s, which callers may not change from %s",
			r.name, formatNumber(r.to), formatNumber(r.from))}
	}
	return nil
}

// findNumeric returns the setting of the given name, nil when there is none
// that is a number.
func findNumeric(name string) *numericSetting {
	i := slices.IndexFunc(numericSettings, func(n numericSetting) bool { return n.name == name })
	if i < 0 {
		return nil
	}
	return &numericSettings[i]
}

// findPreference returns the preference of the given name, nil when there is
// none.
func findPreference(name string) *preference {
	i := slices.IndexFunc(preferenceTable, func(p preference) bool { return p.name == name })
	if i < 0 {
		return nil
	}
	return &preferenceTable[i]
}

// numericNames lists what can be capped.
func numericNames() string {
	names := make([]string, len(numericSettings))
	for i := range numericSettings {
		names[i] = numericSettings[i].name
	}
	return strings.Join(names, ", ")
}

// preferenceNames lists the preferences.
func preferenceNames() string {
	names := make([]string, len(preferenceTable))
	for i := range preferenceTable {
		names[i] = preferenceTable[i].name
	}
	return strings.Join(names, ", ")
}
