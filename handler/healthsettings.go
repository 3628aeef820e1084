package handler

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/net/http/httpguts"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

// defaultFailDuration is the fail_duration when it is not set.
const defaultFailDuration = 5 * time.Second

// maxHealthCount is the largest max_fails, health_passes and health_fails.
const maxHealthCount = 1000

// Health are the operator's settings of when an endpoint counts as down, in the
// words of Caddy's reverse_proxy. Batches go to endpoints that are up; when all
// are down, they are tried all the same.
type Health struct {
	// How long an endpoint counts as down after failures, and within how long
	// they must have happened. What counts are failures in a row, with no good
	// reply between them: network errors, timeouts, broken replies, those that
	// `unhealthy_status` and `unhealthy_latency` name, and attempts that a later
	// copy overtook or a deadline ended after a long silence. After that time one
	// batch is sent to find out whether the endpoint is up again. `0` turns it off.
	// Default: `5s`.
	FailDuration *caddy.Duration `json:"fail_duration,omitempty"`

	// How many failures in a row within `fail_duration` mean that the endpoint is
	// down. Range 1 to 1000. Default: 3.
	MaxFails int `json:"max_fails,omitempty"`

	// The statuses that are failures: 100 to 599, or 1 to 5 for all that begin
	// with that digit; an empty list is none. Default: 5, which is 500 to 599.
	UnhealthyStatus []int `json:"unhealthy_status,omitempty"`

	// The time from which on a reply is a failure, however good it is. It is
	// given as it came all the same. At least 1ms. Default: none.
	UnhealthyLatency caddy.Duration `json:"unhealthy_latency,omitempty"`

	// The path and query that active checks ask each endpoint for with GET, in
	// the place of the path of its URL; an endpoint that does not answer as
	// expected is down until it does. When checks alone take all endpoints down,
	// they count as up. Default: no active checks unless
	// `health_port` is set, and then `/`.
	HealthURI string `json:"health_uri,omitempty"`

	// The port that active checks use instead of the endpoint's own. Range 1 to
	// 65535. Default: no active checks unless `health_uri` is set, and then the
	// endpoint's port.
	HealthPort int `json:"health_port,omitempty"`

	// The time between two checks of an endpoint. At least 1ms. Default: `30s`.
	HealthInterval caddy.Duration `json:"health_interval,omitempty"`

	// The time for a check, from connecting to the end of the answer. At least
	// 1ms. Default: `5s`.
	HealthTimeout caddy.Duration `json:"health_timeout,omitempty"`

	// How many good checks in a row mean that an endpoint is up again. Range 1 to
	// 1000. Default: 1.
	HealthPasses int `json:"health_passes,omitempty"`

	// How many bad checks in a row mean that an endpoint is down. Range 1 to
	// 1000. Default: 1.
	HealthFails int `json:"health_fails,omitempty"`

	// The status that checks expect: 200 to 599, or 2 to 5 for all that begin
	// with that digit. Default: 2, which is 200 to 299.
	HealthStatus int `json:"health_status,omitempty"`

	// Further headers of checks. A key of the upstream is not sent with them
	// unless it is one of these. Placeholders such as `{env.NAME}` are replaced
	// once, when the configuration is loaded. Default: none.
	HealthHeaders http.Header `json:"health_headers,omitempty"`
}

// passive returns the settings of passive checks that the engine takes.
func (s *Health) passive() engine.HealthOptions {
	o := engine.HealthOptions{
		FailDuration:     defaultFailDuration,
		MaxFails:         cmp.Or(s.MaxFails, engine.DefaultMaxFails),
		UnhealthyStatus:  s.UnhealthyStatus,
		UnhealthyLatency: time.Duration(s.UnhealthyLatency),
	}
	if s.FailDuration != nil {
		o.FailDuration = time.Duration(*s.FailDuration)
	}
	return o
}

// activeChecks are the settings of active checks, with every default filled in.
type activeChecks struct {
	URI               string
	Port              int
	Interval, Timeout time.Duration
	Passes, Fails     int
	Status            int
	// Headers may hold placeholders.
	Headers http.Header
}

// active returns the settings of active checks, nil when there are none.
func (s *Health) active() *activeChecks {
	if s.HealthURI == "" && s.HealthPort == 0 {
		return nil
	}
	return &activeChecks{
		URI:      cmp.Or(s.HealthURI, "/"),
		Port:     s.HealthPort,
		Interval: cmp.Or(time.Duration(s.HealthInterval), engine.DefaultHealthInterval),
		Timeout:  cmp.Or(time.Duration(s.HealthTimeout), engine.DefaultHealthTimeout),
		Passes:   cmp.Or(s.HealthPasses, 1),
		Fails:    cmp.Or(s.HealthFails, 1),
		Status:   cmp.Or(s.HealthStatus, 2),
		Headers:  s.HealthHeaders,
	}
}

// check checks each setting of health for itself.
func (s *Health) check() error {
	if d := s.FailDuration; d != nil && *d != 0 {
		if err := checkDuration("fail_duration", *d); err != nil {
			return err
		}
	}
	for _, limit := range []struct {
		name  string
		value caddy.Duration
	}{
		{"unhealthy_latency", s.UnhealthyLatency},
		{"health_interval", s.HealthInterval},
		{"health_timeout", s.HealthTimeout},
	} {
		if limit.value == 0 {
			continue
		}
		if err := checkDuration(limit.name, limit.value); err != nil {
			return err
		}
	}
	for _, limit := range []struct {
		name       string
		value, max int
	}{
		{"max_fails", s.MaxFails, maxHealthCount},
		{"health_passes", s.HealthPasses, maxHealthCount},
		{"health_fails", s.HealthFails, maxHealthCount},
		{"health_port", s.HealthPort, 65535},
	} {
		if err := checkCount(limit.name, limit.value, limit.max); err != nil {
			return err
		}
	}
	if err := s.checkStatuses(); err != nil {
		return err
	}
	if err := checkHealthURI(s.HealthURI); err != nil {
		return &settingError{name: "health_uri", message: err.Error()}
	}
	return s.checkHeaders()
}

// checkStatuses checks the statuses, each of which may be the first digit of
// many.
func (s *Health) checkStatuses() error {
	for _, status := range s.UnhealthyStatus {
		if (status < 1 || status > 5) && (status < 100 || status > 599) {
			return &settingError{name: "unhealthy_status", message: fmt.Sprintf(
				"each must be a status from 100 to 599, or from 1 to 5 for a class of them, one is %d", status)}
		}
	}
	if status := s.HealthStatus; status != 0 && (status < 2 || status > 5) && (status < 200 || status > 599) {
		return &settingError{name: "health_status", message: fmt.Sprintf(
			"must be a status from 200 to 599, or from 2 to 5 for a class of them, is %d", status)}
	}
	return nil
}

// checkHeaders checks the names of the headers of checks, and the values as far
// as they hold no placeholders. An error holds no value, which may be a key.
func (s *Health) checkHeaders() error {
	for _, name := range slices.Sorted(maps.Keys(s.HealthHeaders)) {
		if !httpguts.ValidHeaderFieldName(name) {
			return &settingError{name: "health_headers", message: fmt.Sprintf("%q is not a valid header name", name)}
		}
		for _, value := range s.HealthHeaders[name] {
			if !strings.Contains(value, "{") && !httpguts.ValidHeaderFieldValue(value) {
				return badHealthHeader(name)
			}
		}
	}
	return nil
}

func badHealthHeader(name string) error {
	return &settingError{name: "health_headers", message: fmt.Sprintf("%q has a value that no header may have", name)}
}

// checkHealthURI checks the path and query of checks, which may be empty.
func checkHealthURI(uri string) error {
	if uri == "" {
		return nil
	}
	if uri[0] != '/' {
		return fmt.Errorf("must be a path that begins with /, is %q", uri)
	}
	if err := checkTargetText(strings.ReplaceAll(uri, "?", "")); err != nil {
		return err
	}
	if _, err := url.ParseRequestURI(uri); err != nil {
		return errors.New("must be a path, which may have a query")
	}
	return nil
}

// checkUsed returns an error when a setting of active checks is set and there
// are none.
func (s *Health) checkUsed() error {
	if s.active() != nil {
		return nil
	}
	for _, setting := range []struct {
		name string
		set  bool
	}{
		{"health_interval", s.HealthInterval != 0},
		{"health_timeout", s.HealthTimeout != 0},
		{"health_passes", s.HealthPasses != 0},
		{"health_fails", s.HealthFails != 0},
		{"health_status", s.HealthStatus != 0},
		{"health_headers", len(s.HealthHeaders) > 0},
	} {
		if setting.set {
			return &settingError{name: setting.name, message: "there are no active health checks: set health_uri or health_port"}
		}
	}
	return nil
}

// header returns the headers of checks, their placeholders replaced.
func (c *activeChecks) header(repl *caddy.Replacer) (http.Header, error) {
	header := make(http.Header, len(c.Headers))
	for name, values := range c.Headers {
		for _, value := range values {
			replaced, err := repl.ReplaceOrErr(value, true, true)
			if err != nil {
				return nil, &settingError{name: "health_headers", message: fmt.Sprintf("%q has a placeholder that is unknown or empty", name)}
			}
			if !httpguts.ValidHeaderFieldValue(replaced) {
				return nil, badHealthHeader(name)
			}
			header.Add(name, replaced)
		}
	}
	return header, nil
}
