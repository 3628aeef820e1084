package handler

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

const (
	// maxExtraHeaders is the largest number of extra_headers.
	maxExtraHeaders = 64

	// maxQuoted is how many bytes of a client's own words an error repeats.
	maxQuoted = 64
)

// preferences are what a caller asks for in X-Baseten-Request-Preferences.
type preferences struct {
	Settings
	// TargetHost is empty when it is not set.
	TargetHost string
	// ExtraHeaders is nil when it is not set.
	ExtraHeaders http.Header
}

// A preference is one member of the header's object.
type preference struct {
	name  string
	isSet func(*preferences) bool
	// parse reads the member's value, which is not null. Its errors are
	// [settingError]s.
	parse func(p *preferences, raw json.RawMessage) error
}

// preferenceTable is the one table of preferences: the settings that are
// numbers, and these.
var preferenceTable = append(numericPreferences(),
	preference{
		name:  "non_retryable_status_codes",
		isSet: func(p *preferences) bool { return p.NonRetryableStatusCodes != nil },
		parse: parseStatusCodes,
	},
	preference{
		name:  "response_format",
		isSet: func(p *preferences) bool { return p.ResponseFormat != nil },
		parse: func(p *preferences, raw json.RawMessage) error {
			return parseWord(&p.ResponseFormat, "response_format", formatObject, raw)
		},
	},
	preference{
		name:  "response_mode",
		isSet: func(p *preferences) bool { return p.ResponseMode != nil },
		parse: func(p *preferences, raw json.RawMessage) error {
			return parseWord(&p.ResponseMode, "response_mode", modeStream, raw)
		},
	},
	preference{
		name:  "target_host",
		isSet: func(p *preferences) bool { return p.TargetHost != "" },
		parse: parseTargetHost,
	},
	preference{
		name:  "extra_headers",
		isSet: func(p *preferences) bool { return p.ExtraHeaders != nil },
		parse: parseExtraHeaders,
	},
)

// numericPreferences returns the preferences for [numericSettings].
func numericPreferences() []preference {
	table := make([]preference, len(numericSettings))
	for i := range numericSettings {
		n := &numericSettings[i]
		table[i] = preference{
			name:  n.name,
			parse: func(p *preferences, raw json.RawMessage) error { return n.parse(&p.Settings, raw) },
			isSet: func(p *preferences) bool {
				_, set := n.get(&p.Settings)
				return set || n.orAuto && p.HedgeDelay != nil
			},
		}
	}
	return table
}

// parsePreferences reads the value of X-Baseten-Request-Preferences; an empty
// one asks for nothing. A member that is null is as good as absent. Everything
// that is not exactly as expected is an [engine.RequestError] that names the
// member and what it takes: a preference is never ignored.
func parsePreferences(header string) (*preferences, error) {
	p := new(preferences)
	if header == "" {
		return p, nil
	}
	if err := checkJSON(header); err != nil {
		return nil, &engine.RequestError{Field: headerPreferences, Message: "malformed JSON: " + err.Error()}
	}
	if !isKind([]byte(header), '{') {
		return nil, &engine.RequestError{Field: headerPreferences, Message: "must be a JSON object"}
	}
	err := eachMember([]byte(header), func(name string, raw json.RawMessage, repeated bool) error {
		known := findPreference(name)
		switch {
		case known == nil:
			return &settingError{name: clip(name), message: "unknown preference; there are " + preferenceNames()}
		case repeated:
			return &settingError{name: name, message: "must not be given twice"}
		case isNull(raw):
			return nil
		}
		return known.parse(p, raw)
	})
	if err != nil {
		return nil, preferenceError(err)
	}
	return p, nil
}

// checkJSON returns what keeps text from being one JSON value in UTF-8. The
// check does not recurse and bounds the nesting; what nests deeper than the
// preferences do is refused by its type without being read.
func checkJSON(text string) error {
	if !utf8.ValidString(text) {
		return errors.New("it is not valid UTF-8")
	}
	var whole json.RawMessage
	return json.Unmarshal([]byte(text), &whole)
}

// eachMember calls f for each member of an object of valid JSON, in order, and
// says whether the name was there before. Names are compared as they are
// decoded, with upper and lower case apart.
func eachMember(object []byte, f func(name string, raw json.RawMessage, repeated bool) error) error {
	decoder := json.NewDecoder(bytes.NewReader(object))
	if _, err := decoder.Token(); err != nil {
		return err
	}
	seen := make(map[string]bool)
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return err
		}
		var raw json.RawMessage
		if err := decoder.Decode(&raw); err != nil {
			return err
		}
		name, _ := token.(string)
		if err := f(name, raw, seen[name]); err != nil {
			return err
		}
		seen[name] = true
	}
	return nil
}

// parse reads the setting's value from JSON. An integer is written as one:
// neither 64.0 nor 6.4e1.
func (n *numericSetting) parse(s *Settings, raw json.RawMessage) error {
	if n.orAuto && isKind(raw, '"') {
		word, err := parseString(raw)
		if err != nil || word != hedgeAuto {
			return &settingError{name: n.name, message: n.expected()}
		}
		s.HedgeDelay = &HedgeDelay{Auto: true}
		return nil
	}
	text := string(bytes.TrimSpace(raw))
	if !isNumber(text) || n.integer && strings.ContainsAny(text, ".eE") {
		return &settingError{name: n.name, message: n.expected()}
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || !n.contains(v) {
		return &settingError{name: n.name, message: n.expected()}
	}
	n.set(s, v)
	return nil
}

// parseStatusCodes reads non_retryable_status_codes.
func parseStatusCodes(p *preferences, raw json.RawMessage) error {
	wrong := &settingError{
		name:    "non_retryable_status_codes",
		message: fmt.Sprintf("must be a list of integers from %d to %d", minRetryStatus, maxRetryStatus),
	}
	var elements []json.RawMessage
	if !isKind(raw, '[') || json.Unmarshal(raw, &elements) != nil {
		return wrong
	}
	codes := make([]int, len(elements))
	for i, element := range elements {
		text := string(element)
		code, err := strconv.Atoi(text)
		if !isDigits(text) || err != nil || code < minRetryStatus || code > maxRetryStatus {
			return wrong
		}
		codes[i] = code
	}
	p.NonRetryableStatusCodes = codes
	return nil
}

// parseWord reads a setting that takes one word only.
func parseWord(field **string, name, word string, raw json.RawMessage) error {
	if value, err := parseString(raw); err != nil || value != word {
		return &settingError{name: name, message: fmt.Sprintf("must be %q", word)}
	}
	*field = &word
	return nil
}

// parseTargetHost reads target_host, whose value is checked when the target is
// chosen.
func parseTargetHost(p *preferences, raw json.RawMessage) error {
	value, err := parseString(raw)
	if err != nil || value == "" {
		return &settingError{name: "target_host", message: "must be a string of the form scheme://host[:port][/path]"}
	}
	p.TargetHost = value
	return nil
}

// parseExtraHeaders reads extra_headers.
func parseExtraHeaders(p *preferences, raw json.RawMessage) error {
	fault := func(format string, args ...any) error {
		return &settingError{name: "extra_headers", message: fmt.Sprintf(format, args...)}
	}
	if !isKind(raw, '{') {
		return fault("must be an object of strings")
	}
	headers := make(http.Header)
	err := eachMember(raw, func(name string, raw json.RawMessage, repeated bool) error {
		if !httpguts.ValidHeaderFieldName(name) {
			return fault("%q is not a valid header name", clip(name))
		}
		canonical := http.CanonicalHeaderKey(name)
		if repeated || headers[canonical] != nil {
			return fault("%q must not be given twice", clip(canonical))
		}
		if isReservedHeader(canonical) {
			return fault("%q may not be set", clip(canonical))
		}
		value, err := parseString(raw)
		if err != nil {
			return fault("%q must be a string", clip(canonical))
		}
		if !httpguts.ValidHeaderFieldValue(value) || strings.ContainsRune(value, utf8.RuneError) {
			return fault("%q has a value that no header may have", clip(canonical))
		}
		if len(headers) == maxExtraHeaders {
			return fault("must not hold more than %d headers", maxExtraHeaders)
		}
		headers[canonical] = []string{value}
		return nil
	})
	if err != nil {
		return err
	}
	p.ExtraHeaders = headers
	return nil
}

// isReservedHeader reports whether a header, in canonical form, is the proxy's
// own to set: it says who asks whom, how the bodies are written, which batch it is
// and how long it may take, or belongs to one connection (RFC 9110, section
// 7.6.1). A key of idempotency that all batches share would give all of them the
// reply to the first.
func isReservedHeader(canonical string) bool {
	// Servers of the CGI family do not tell an underscore from a dash.
	canonical = http.CanonicalHeaderKey(strings.ReplaceAll(canonical, "_", "-"))
	if strings.HasPrefix(canonical, "Content-") {
		return true
	}
	switch canonical {
	case "Authorization", "Proxy-Authorization", "Host", "Accept", "Accept-Encoding",
		"Idempotency-Key", "X-Idempotency-Key", headerRequestID, headerRequestTimeout, headerRequestDeadline,
		"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

// isKind reports whether a valid JSON value begins with first.
func isKind(raw []byte, first byte) bool {
	raw = bytes.TrimSpace(raw)
	return len(raw) > 0 && raw[0] == first
}

// isNull reports whether a valid JSON value is null.
func isNull(raw json.RawMessage) bool { return isKind(raw, 'n') }

// isNumber reports whether a valid JSON value is a number.
func isNumber(text string) bool {
	return text != "" && (text[0] == '-' || text[0] >= '0' && text[0] <= '9')
}

// parseString returns the JSON string in raw, and an error for any other value.
func parseString(raw json.RawMessage) (string, error) {
	if !isKind(raw, '"') {
		return "", errors.New("not a string")
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err
}

// clip returns the beginning of a client's own words.
func clip(s string) string {
	if len(s) <= maxQuoted {
		return s
	}
	return strings.ToValidUTF8(s[:maxQuoted], "") + "…"
}
