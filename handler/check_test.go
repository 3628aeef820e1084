package handler

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// handlerOf reads a configuration from JSON, as Caddy does.
func handlerOf(t *testing.T, text string) *Handler {
	t.Helper()
	h := new(Handler)
	if err := json.Unmarshal([]byte(text), h); err != nil {
		t.Fatalf("configuration %s: %v", text, err)
	}
	return h
}

// provisionError returns the error of provisioning a handler.
func provisionError(t *testing.T, h *Handler) error {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	err := h.Provision(ctx)
	if cleanup := h.Cleanup(); cleanup != nil {
		t.Error(cleanup)
	}
	return err
}

func TestCheckRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ config, want string }{
		"a setting out of its range":          {`{"batch_size":0}`, `batch_size: must be an integer from 1 to 1024, is 0`},
		"settings that contradict each other": {`{"timeout_s":30,"total_timeout_s":20}`, `total_timeout_s: must be at least timeout_s, 30, is 20`},
		"a cap out of its range":              {`{"cap":{"batch_size":5000}}`, `cap: batch_size: must be an integer from 1 to 1024, is 5000`},
		"an unknown preference denied":        {`{"deny_preferences":["hedging"]}`, `deny_preferences: "hedging" is no preference`},
		"a target without a scheme":           {`{"to":["localhost:8081"]}`, `to: "localhost:8081" must begin with http://, https:// or h2c://`},
		"an address without a scheme":         {`{"to":["127.0.0.1:8081"]}`, `to: "127.0.0.1:8081" must begin with http://, https:// or h2c://`},
		"an IPv6 address without a scheme":    {`{"to":["[::1]:8081"]}`, `to: "[::1]:8081" must begin with http://, https:// or h2c://`},
		"a target of another scheme":          {`{"to":["ftp://h"]}`, `to: "ftp://h" must begin with http://, https:// or h2c://`},
		"a target with a bad port":            {`{"to":["http://h:0"]}`, `to: "http://h:0" must have a port from 1 to 65535`},
		"a target with a password":            {`{"to":["https://hush:hush@h"]}`, `to: a target must not hold a user name or password`},
		"a password without a scheme":         {`{"to":["hush:hush@h"]}`, `to: a target must begin with http://, https:// or h2c://`},
		"a target with a query":               {`{"to":["https://h?key=hush"]}`, `to: a target must not have a query`},
		"an empty target":                     {`{"to":[""]}`, `to: "" must begin with http://, https:// or h2c://`},
		"a target twice":                      {`{"to":["https://a","https://b","https://A:443/"]}`, `to: "https://A:443/" is named twice`},
		"an unknown word for callers":         {`{"allowed_targets":["any"]}`, `allowed_targets: "any" must begin with http://, https:// or h2c://`},
		"a bad one of several for callers":    {`{"allowed_targets":["https://a","{env.HOST}","https://*.1"]}`, `allowed_targets: "https://*.1" must have a host name after the wildcard`},
		"a password for callers":              {`{"allowed_targets":["https://hush@h"]}`, `allowed_targets: a target must not hold a user name or password`},
		"none beside a target":                {`{"allowed_targets":["none","https://h"]}`, `allowed_targets: "none" must be the only value`},
		"an unknown HTTP version":             {`{"http_version":"3"}`, `http_version: expected 1, 2 or h2c, not "3"`},
		"seconds where nanoseconds belong":    {`{"dial_timeout":5}`, `dial_timeout: must be a duration of at least 1ms such as "5s", is 5ns (a number in JSON is nanoseconds)`},
		"a negative duration":                 {`{"dial_timeout":"-5s"}`, `dial_timeout: must be a duration of at least 1ms such as "5s", is -5s`},
		"a negative size":                     {`{"max_response_body":-1}`, `max_response_body: must be a number of bytes over 0, is -1`},
		"a model without a name":              {`{"no_split":["a",""]}`, `no_split: expected the name of a model, not an empty string`},
		"another shape of answers":            {`{"response_format":"array"}`, `response_format: must be "object", is "array"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkRefuses(t, test.config, test.want)
		})
	}
}

// checkRefuses checks that a configuration is refused with an error that begins
// with want and holds no secret.
func checkRefuses(t *testing.T, config, want string) {
	t.Helper()
	h := handlerOf(t, config)
	err := h.Check()
	wantError(t, err, want)
	if again := provisionError(t, h); again == nil || again.Error() != err.Error() {
		t.Errorf("Provision: %v, Check: %v", again, err)
	}
}

func TestCheckAccepts(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]string{
		"nothing":                  `{}`,
		"the smallest limits":      `{"dial_timeout":"1ms","max_request_body":1024,"max_response_body":1024,"max_memory":1024}`,
		"another HTTP version":     `{"http_version":"h2c"}`,
		"a target":                 `{"to":["http://127.0.0.1:9/v1"],"allowed_targets":["https://*.example.com","h2c://h"]}`,
		"callers may choose none":  `{"allowed_targets":["none"]}`,
		"a cap and a denied name":  `{"cap":{"batch_size":1024},"deny_preferences":["target_host"]}`,
		"a default that gives way": `{"total_timeout_s":20}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkAccepts(t, config)
		})
	}
}

// checkAccepts checks that a configuration is accepted, and not changed by the
// check.
func checkAccepts(t *testing.T, config string) {
	t.Helper()
	h := handlerOf(t, config)
	if err := h.CheckComplete(); err != nil {
		t.Errorf("CheckComplete: %v", err)
	}
	if !reflect.DeepEqual(h, handlerOf(t, config)) {
		t.Error("CheckComplete changed the configuration")
	}
	if err := provisionError(t, h); err != nil {
		t.Errorf("Provision: %v", err)
	}
}

func TestProvisionChecksWhatPlaceholdersStandFor(t *testing.T) {
	t.Setenv("TEST_CHECK_HOST", "model.example.com")
	t.Setenv("TEST_CHECK_HUSH", "hush:8081")
	t.Setenv("TEST_CHECK_NONE", "none")
	for name, test := range map[string]struct{ config, want string }{
		"a target": {config: `{"to":["https://{env.TEST_CHECK_HOST}"],"allowed_targets":["https://*.{env.TEST_CHECK_HOST}"]}`},
		"none":     {config: `{"allowed_targets":["{env.TEST_CHECK_NONE}"]}`},
		"a variable that is no target": {
			`{"to":["{env.TEST_CHECK_HUSH}"]}`, `to: "{env.TEST_CHECK_HUSH}" must begin with http://, https:// or h2c://`,
		},
		"a variable that is no target for callers": {
			`{"allowed_targets":["https://h","https://{env.TEST_CHECK_HUSH}:1"]}`, `allowed_targets: "https://{env.TEST_CHECK_HUSH}:1" must have`,
		},
		"none beside a target": {
			`{"allowed_targets":["{env.TEST_CHECK_NONE}","https://h"]}`, `allowed_targets: "none" must be the only value`,
		},
		"a variable that is not set": {
			`{"to":["https://{env.TEST_CHECK_UNSET}"]}`, `to: `,
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := handlerOf(t, test.config)
			if err := h.Check(); err != nil {
				t.Fatalf("Check: %v", err)
			}
			err := provisionError(t, h)
			switch {
			case test.want == "" && err != nil:
				t.Errorf("Provision: %v", err)
			case test.want == "":
			case err == nil || !strings.HasPrefix(err.Error(), test.want):
				t.Errorf("Provision: %v, want %s", err, test.want)
			case strings.Contains(err.Error(), "hush"):
				t.Errorf("the error repeats what may be secret: %v", err)
			}
		})
	}
}

// wantError checks that an error begins with want and holds no secret.
func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Fatalf("got the error %v, want %s", err, want)
	}
	if strings.Contains(err.Error(), "hush") {
		t.Errorf("the error repeats what may be secret: %v", err)
	}
}
