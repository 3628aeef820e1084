package handler

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

// wantRequestError fails the test when err is no RequestError for the field.
func wantRequestError(t *testing.T, err error, field string) {
	t.Helper()
	wrong, ok := errors.AsType[*engine.RequestError](err)
	if !ok || wrong.Field != field || wrong.Message == "" {
		t.Fatalf("error %v, want a RequestError for %s", err, field)
	}
}

func TestModelOverride(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		values []string
		want   string
		wrong  bool
	}{
		"no header":            {},
		"an empty header":      {values: []string{""}},
		"a model":              {values: []string{"BAAI/bge-small-en-v1.5"}, want: "BAAI/bge-small-en-v1.5"},
		"a model in UTF-8":     {values: []string{"modèle"}, want: "modèle"},
		"the longest model":    {values: []string{strings.Repeat("m", 1024)}, want: strings.Repeat("m", 1024)},
		"a model too long":     {values: []string{strings.Repeat("m", 1025)}, wrong: true},
		"a model in Latin-1":   {values: []string{"mod\xe8le"}, wrong: true},
		"two models":           {values: []string{"a", "b"}, wrong: true},
		"the same model twice": {values: []string{"a", "a"}, wrong: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := modelOverride(http.Header{"X-Baseten-Model": test.values})
			if test.wrong {
				wantRequestError(t, err, "X-Baseten-Model")
				return
			}
			if err != nil || got != test.want {
				t.Errorf("modelOverride = %q, %v, want %q", got, err, test.want)
			}
		})
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		values []string
		want   string // empty for an id that is made up
		wrong  bool
	}{
		"no header has an id made up":        {},
		"an empty header has an id made up":  {values: []string{""}},
		"an id":                              {values: []string{"req_123-4"}, want: "req_123-4"},
		"every visible character":            {values: []string{"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"}, want: "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"},
		"the longest id":                     {values: []string{strings.Repeat("i", 256)}, want: strings.Repeat("i", 256)},
		"an id too long":                     {values: []string{strings.Repeat("i", 257)}, wrong: true},
		"a space in the id":                  {values: []string{"a b"}, wrong: true},
		"a tab in the id":                    {values: []string{"a\tb"}, wrong: true},
		"a line break, which forges headers": {values: []string{"a\r\nX-Forged: b"}, wrong: true},
		"a delete character":                 {values: []string{"a\x7f"}, wrong: true},
		"a character that is not ASCII":      {values: []string{"é"}, wrong: true},
		"two ids":                            {values: []string{"a", "b"}, wrong: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := requestID(http.Header{"X-Baseten-Customer-Request-Id": test.values})
			switch {
			case test.wrong:
				wantRequestError(t, err, "X-Baseten-Customer-Request-Id")
			case err != nil:
				t.Error(err)
			case test.want == "":
				if id, err := uuid.Parse(got); err != nil || id.Version() != 4 {
					t.Errorf("requestID = %q, want a UUID of version 4", got)
				}
			case got != test.want:
				t.Errorf("requestID = %q, want %q", got, test.want)
			}
		})
	}
}

func TestRequestIDsAreMadeUpAnew(t *testing.T) {
	t.Parallel()
	first, err1 := requestID(nil)
	second, err2 := requestID(nil)
	if err1 != nil || err2 != nil || first == second {
		t.Errorf("requestID = %q, %v, then %q, %v, want two ids", first, err1, second, err2)
	}
}

func TestClientDeadline(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_700_000_000_000)
	tests := map[string]struct {
		timeout, deadline []string
		want              time.Duration // from now
		limit             string        // empty for no deadline
	}{
		"neither header sets no deadline":         {},
		"a span":                                  {timeout: []string{"1500"}, want: 1500 * time.Millisecond, limit: "Request-Timeout-Ms"},
		"a span of zero has passed":               {timeout: []string{"0"}, limit: "Request-Timeout-Ms"},
		"a span with leading zeros":               {timeout: []string{"0000000000000000000000100"}, want: 100 * time.Millisecond, limit: "Request-Timeout-Ms"},
		"an instant":                              {deadline: []string{"1700000002000"}, want: 2 * time.Second, limit: "Request-Deadline-Ms"},
		"an instant that has passed":              {deadline: []string{"1699999999999"}, want: -time.Millisecond, limit: "Request-Deadline-Ms"},
		"the span is earlier":                     {timeout: []string{"1000"}, deadline: []string{"1700000002000"}, want: time.Second, limit: "Request-Timeout-Ms"},
		"the instant is earlier":                  {timeout: []string{"3000"}, deadline: []string{"1700000002000"}, want: 2 * time.Second, limit: "Request-Deadline-Ms"},
		"the longest span that can be counted":    {timeout: []string{"9223372036854"}, want: 9223372036854 * time.Millisecond, limit: "Request-Timeout-Ms"},
		"a longer span is no limit":               {timeout: []string{"9223372036855"}},
		"a span over 63 bits is no limit":         {timeout: []string{"9223372036854775808"}},
		"a span of many digits is no limit":       {timeout: []string{strings.Repeat("9", 5000)}},
		"an instant over 63 bits is no limit":     {deadline: []string{"99999999999999999999"}},
		"no limit in one header leaves the other": {timeout: []string{"9223372036855"}, deadline: []string{"1700000002000"}, want: 2 * time.Second, limit: "Request-Deadline-Ms"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := http.Header{"Request-Timeout-Ms": test.timeout, "Request-Deadline-Ms": test.deadline}
			got, limit, err := clientDeadline(h, now)
			if err != nil || limit != test.limit {
				t.Fatalf("clientDeadline = %v, %q, %v, want the limit %q", got, limit, err, test.limit)
			}
			if test.limit == "" {
				if !got.IsZero() {
					t.Errorf("deadline %v, want none", got)
				}
				return
			}
			if !got.Equal(now.Add(test.want)) {
				t.Errorf("deadline %v from now, want %v", got.Sub(now), test.want)
			}
		})
	}
}

func TestClientDeadlineFarAway(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_700_000_000_000)
	got, limit, err := clientDeadline(http.Header{"Request-Deadline-Ms": {"9223372036854775807"}}, now)
	if err != nil || limit != "Request-Deadline-Ms" || !got.After(now.Add(100*365*24*time.Hour)) {
		t.Errorf("clientDeadline = %v, %q, %v, want a time far away", got, limit, err)
	}
}

func TestClientDeadlineRefuses(t *testing.T) {
	t.Parallel()
	for _, header := range []string{"Request-Timeout-Ms", "Request-Deadline-Ms"} {
		tests := map[string][]string{
			"an empty value":   {""},
			"a sign":           {"+1"},
			"a negative span":  {"-1"},
			"a fraction":       {"1.0"},
			"an exponent":      {"1e3"},
			"a unit":           {"100ms"},
			"hexadecimal":      {"0x10"},
			"an underscore":    {"1_000"},
			"white space":      {" 1"},
			"a list":           {"1,2"},
			"other digits":     {"١"},
			"two values":       {"1", "2"},
			"two equal values": {"1", "1"},
		}
		for name, values := range tests {
			t.Run(header+"/"+name, func(t *testing.T) {
				t.Parallel()
				_, _, err := clientDeadline(http.Header{header: values}, time.Now())
				wantRequestError(t, err, header)
			})
		}
	}
}
