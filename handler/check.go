package handler

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

// minDuration is the smallest duration that a setting takes.
const minDuration = time.Millisecond

// targetSchemes says what a target begins with, for errors.
const targetSchemes = "must begin with http://, https:// or h2c://"

// Check returns the first fault of the configuration that shows without files,
// the environment and placeholders: values out of range, values that contradict
// each other, unknown names and malformed targets. The error begins with the
// name of the setting and holds neither a key nor a password. What is not set
// is no fault, so a configuration can be checked while it grows; what holds for
// a whole one only is left to [Handler.CheckComplete], and targets with
// placeholders to [Handler.Provision]. Check changes nothing.
func (h *Handler) Check() error {
	if err := h.Settings.validate(); err != nil {
		return err
	}
	if _, err := newPolicy(h.Cap, h.DenyPreferences); err != nil {
		return err
	}
	if _, err := h.parseTargets(nil); err != nil {
		return err
	}
	for _, check := range []func() error{
		h.checkConnecting, h.checkEndpoints, h.checkDynamic, h.checkTransport, h.Health.check, h.checkLimits,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// CheckComplete is [Handler.Check] for a configuration to which nothing more
// comes: settings that need others must not stand alone.
func (h *Handler) CheckComplete() error {
	if err := h.Check(); err != nil {
		return err
	}
	if len(h.Weights) > 0 && len(h.Weights) != len(h.To) {
		return &settingError{name: "weights", message: fmt.Sprintf("expected one for each target of to: %d, not %d", len(h.To), len(h.Weights))}
	}
	return h.Health.checkUsed()
}

// parseTargets returns the targets of `to` and allowed_targets, their
// placeholders replaced by repl. When that is nil, values with placeholders are
// left out.
func (h *Handler) parseTargets(repl *caddy.Replacer) (*targets, error) {
	parsed := new(targets)
	var err error
	if repl != nil {
		if parsed.dynamic, err = h.parseDynamic(repl); err != nil {
			return nil, err
		}
	}
	err = eachTarget(h.To, repl, func(text string) error {
		u, err := parseTarget(text)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(parsed.configured, func(other *url.URL) bool { return sameTarget(u, other) }) {
			return errors.New("is named twice")
		}
		parsed.configured = append(parsed.configured, u)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("to: %w", err)
	}
	var allowed []string
	err = eachTarget(h.AllowedTargets, repl, func(text string) error {
		allowed = append(allowed, text)
		if text == noTargets {
			return nil
		}
		_, err := parseAllowedTarget(text)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", settingAllowedTargets, err)
	}
	parsed.allowed, err = newAllowedTargets(allowed)
	return parsed, err
}

// eachTarget calls parse with each of the values, its placeholders replaced by
// repl. When that is nil, values with placeholders are left out. An error of
// parse is returned with the value in front, as it stands in the configuration:
// what a placeholder stands for may be secret.
func eachTarget(values []string, repl *caddy.Replacer, parse func(text string) error) error {
	for _, value := range values {
		text := value
		if strings.Contains(value, "{") {
			if repl == nil {
				continue
			}
			var err error
			if text, err = repl.ReplaceOrErr(value, true, true); err != nil {
				return err
			}
		}
		err := parse(text)
		if err == nil {
			continue
		}
		if !strings.Contains(text, "://") {
			err = errors.New(targetSchemes)
		}
		return fmt.Errorf("%s %w", nameTarget(value), err)
	}
	return nil
}

// nameTarget returns what errors call a malformed target: itself, unless there
// may be a password or a key in it.
func nameTarget(value string) string {
	if strings.ContainsAny(value, "@?#") {
		return "a target"
	}
	return strconv.Quote(value)
}

// checkConnecting checks how connections are made.
func (h *Handler) checkConnecting() error {
	switch h.HTTPVersion {
	case "", engine.HTTPVersion1, engine.HTTPVersion2, engine.HTTPVersionH2C:
	default:
		return &settingError{name: "http_version", message: fmt.Sprintf("expected %s, %s or %s, not %q",
			engine.HTTPVersion1, engine.HTTPVersion2, engine.HTTPVersionH2C, h.HTTPVersion)}
	}
	if h.DialTimeout != 0 {
		return checkDuration("dial_timeout", h.DialTimeout)
	}
	return nil
}

// checkDuration checks a duration that is set. Below a millisecond the unit was
// mistaken: a number in JSON is nanoseconds.
func checkDuration(name string, d caddy.Duration) error {
	if time.Duration(d) < minDuration {
		return &settingError{name: name, message: fmt.Sprintf(
			`must be a duration of at least %v such as "5s", is %v (a number in JSON is nanoseconds)`, minDuration, time.Duration(d))}
	}
	return nil
}

// checkLimits checks the sizes and the models that are never split.
func (h *Handler) checkLimits() error {
	for _, limit := range []struct {
		name  string
		value int64
	}{
		{"max_request_body", h.MaxRequestBody},
		{"max_response_body", h.MaxResponseBody},
		{"max_memory", h.MaxMemory},
	} {
		if limit.value < 0 {
			return &settingError{name: limit.name, message: fmt.Sprintf("must be a number of bytes over 0, is %d", limit.value)}
		}
	}
	for _, model := range h.NoSplit {
		if model == "" {
			return errors.New("no_split: expected the name of a model, not an empty string")
		}
	}
	return nil
}
