package caddyfile

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"

	"github.com/basetenlabs/caddy-performance-proxy/handler"
)

// A kind is a kind of argument.
type kind[T any] struct {
	// expected names the kind in error messages, with its article.
	expected string
	// secret tells that a value must not stand in error messages.
	secret bool
	parse  func(string) (T, error)
}

// The kinds of argument. Text may hold placeholders and stays as it is.
var (
	target      = kind[string]{expected: "a target such as https://host[:port]", parse: asText}
	key         = kind[string]{expected: "a key, a placeholder or the path of a file", secret: true, parse: asText}
	httpVersion = kind[string]{expected: "1, 2 or h2c", parse: asText}
	model       = kind[string]{expected: "the name of a model", parse: asText}
	word        = kind[string]{expected: "a word", parse: asText}

	uri         = kind[string]{expected: "a path such as /health", parse: asText}
	headerValue = kind[string]{expected: "the value of a header", secret: true, parse: asText}

	wholeNumber   = kind[int]{expected: "a whole number", parse: strconv.Atoi}
	count         = kind[int]{expected: "a whole number of at least 1", parse: parseCount}
	port          = kind[int]{expected: "a port from 1 to 65535", parse: parseCount}
	statusCode    = kind[int]{expected: "a status code such as 503", parse: strconv.Atoi}
	statusOrClass = kind[int]{expected: "a status code such as 503, or a class such as 5xx", parse: parseStatusOrClass}
	number        = kind[float64]{expected: "a number", parse: parseNumber}
	fraction      = kind[float64]{expected: "a fraction such as 0.1 for 10 %", parse: parseNumber}
	seconds       = kind[float64]{expected: "a number of seconds such as 30 or 0.5", parse: parseNumber}

	secondsOrAuto = kind[handler.HedgeDelay]{expected: "a number of seconds such as 0.5, or auto", parse: parseHedgeDelay}

	size           = kind[int64]{expected: "a size of at least one byte, such as 64MiB", parse: parseSize}
	duration       = kind[caddy.Duration]{expected: "a duration of at least 1ms, such as 5s", parse: parseDuration}
	durationOrZero = kind[caddy.Duration]{expected: "a duration such as 5s, or 0", parse: parseDurationOrZero}
)

// errMismatch says that a value is not of its kind; the kind says what was
// expected.
var errMismatch = errors.New("not of this kind")

// parseOne parses the value of an argument. The error says what was expected.
func (k kind[T]) parseOne(value string) (T, error) {
	v, err := k.parse(value)
	switch {
	case err == nil:
		return v, nil
	case value == "":
		return v, fmt.Errorf("expected %s, got an empty value", k.expected)
	case k.secret:
		return v, fmt.Errorf("expected %s", k.expected)
	default:
		return v, fmt.Errorf("expected %s, got %q", k.expected, value)
	}
}

// parseAll parses the values of a list.
func (k kind[T]) parseAll(values []string) ([]T, error) {
	parsed := make([]T, 0, len(values))
	for _, value := range values {
		v, err := k.parseOne(value)
		if err != nil {
			return nil, err
		}
		parsed = append(parsed, v)
	}
	return parsed, nil
}

// single returns the parser of a subdirective with exactly one argument.
func single[T any](k kind[T], set func(*handler.Handler, T)) parseFunc {
	return func(d *caddyfile.Dispenser, h *handler.Handler) error {
		v, err := singleArg(d, d.Val(), k)
		if err != nil {
			return err
		}
		set(h, v)
		return nil
	}
}

// singleArg reads the only argument of the name at d.
func singleArg[T any](d *caddyfile.Dispenser, name string, k kind[T]) (T, error) {
	var zero T
	args, err := argsOnly(d, name)
	if err != nil {
		return zero, err
	}
	if len(args) != 1 {
		return zero, d.Errf("%s: expected one argument (%s), got %d", name, k.expected, len(args))
	}
	v, err := k.parseOne(args[0])
	if err != nil {
		return zero, d.Errf("%s: %v", name, err)
	}
	return v, nil
}

// list returns the parser of a subdirective with one argument or more, which
// it appends to the field.
func list[T any](k kind[T], field func(*handler.Handler) *[]T) parseFunc {
	return func(d *caddyfile.Dispenser, h *handler.Handler) error {
		name := d.Val()
		args, err := argsOnly(d, name)
		if err != nil {
			return err
		}
		if len(args) == 0 {
			return d.Errf("%s: expected at least one argument (%s)", name, k.expected)
		}
		values, err := k.parseAll(args)
		if err != nil {
			return d.Errf("%s: %v", name, err)
		}
		to := field(h)
		*to = append(*to, values...)
		return nil
	}
}

// asText accepts every value but the empty one, which in JSON would mean that
// the field is not set.
func asText(value string) (string, error) {
	if value == "" {
		return "", errMismatch
	}
	return value, nil
}

// parseCount accepts no zero, which in JSON would mean the default.
func parseCount(value string) (int, error) {
	n, err := strconv.Atoi(value)
	if err == nil && n < 1 {
		err = errMismatch
	}
	return n, err
}

// parseStatusOrClass accepts 5xx for all statuses from 500 to 599, which in JSON
// is 5, as in Caddy's reverse_proxy.
func parseStatusOrClass(value string) (int, error) {
	class, ok := strings.CutSuffix(value, "xx")
	if !ok {
		class = value
	}
	n, err := strconv.Atoi(class)
	if err == nil && (n < 1 || ok && n > 5) {
		err = errMismatch
	}
	return n, err
}

// parseNumber accepts the numbers that JSON can hold.
func parseNumber(value string) (float64, error) {
	f, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return 0, err
	}
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, errMismatch
	}
	return f, nil
}

func parseHedgeDelay(value string) (handler.HedgeDelay, error) {
	if value == "auto" {
		return handler.HedgeDelay{Auto: true}, nil
	}
	f, err := parseNumber(value)
	return handler.HedgeDelay{Seconds: f}, err
}

// parseSize accepts no zero, which in JSON would mean the default.
func parseSize(value string) (int64, error) {
	n, err := humanize.ParseBytes(value)
	if err != nil {
		return 0, err
	}
	if n == 0 || n > math.MaxInt64 {
		return 0, errMismatch
	}
	return int64(n), nil
}

// parseDuration accepts no zero, which in JSON would mean the default.
func parseDuration(value string) (caddy.Duration, error) {
	d, err := parseDurationOrZero(value)
	if err == nil && d == 0 {
		err = errMismatch
	}
	return d, err
}

func parseDurationOrZero(value string) (caddy.Duration, error) {
	d, err := caddy.ParseDuration(value)
	if err == nil && d < 0 {
		err = errMismatch
	}
	return caddy.Duration(d), err
}
