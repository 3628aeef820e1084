package engine

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxErrorBody is how much of the body of an error is read, and how much of
	// it is kept once it is unpacked.
	maxErrorBody = 64 << 10
	// maxErrorMessage is how much of what the upstream said is passed on.
	maxErrorMessage = 2 << 10
	// maxErrorWord is the same for the type and the code.
	maxErrorWord = 256
	// minSecret is the length from which a key is looked for in what the
	// upstream said: less is a part of ordinary words.
	minSecret = 4
	// redacted stands where a key stood.
	redacted = "[redacted]"
)

// newStatusError makes an error of a reply whose status is not 2xx. The message
// is the first of these that the body holds: error.message, message, error,
// detail[].msg or detail; or else the body as it is. Nothing of key, the value
// of the Authorization header that was sent, is in the result: servers and the
// proxies before them like to repeat it.
func newStatusError(resp *http.Response, body []byte, key string) *StatusError {
	said, secret := parseUpstreamError(body), newSecret(key)
	message := secret.redact(said.message)
	if message == "" {
		message = secret.redactEnd(secret.redact(string(body)))
	}
	return &StatusError{
		Status:     resp.StatusCode,
		Message:    harmless(message, maxErrorMessage),
		Type:       harmless(secret.redact(said.kind), maxErrorWord),
		Code:       harmlessCode(said.code, secret),
		RetryAfter: retryAfter(resp.Header),
	}
}

// readErrorBody reads and closes the body of a reply whose status is not 2xx. A
// body that is long, breaks off, cannot be unpacked or finds no memory is worth
// less than the status that it comes with, so that as much of it is returned as
// could be read.
func readErrorBody(resp *http.Response, limits replyLimits) []byte {
	defer func() { _ = resp.Body.Close() }()
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	coding, err := contentCoding(resp.Header)
	if err != nil {
		return nil
	}
	if coding != codingIdentity {
		out, err := acquireBuffer(limits.Memory, maxErrorBody)
		if err != nil {
			return nil
		}
		defer out.release()
		_ = unpackInto(out, coding, raw, maxErrorBody) // what could be unpacked is there
		raw = bytes.Clone(out.b[:min(len(out.b), maxErrorBody)])
	}
	if isMsgpack(resp.Header) {
		doc, err := msgpackToJSON(raw, replyLimits{MaxBody: maxErrorBody, Memory: limits.Memory})
		if err == nil {
			raw = bytes.Clone(doc.b)
			doc.release()
		}
	}
	return raw
}

// upstreamError is what the body of an error says.
type upstreamError struct {
	message, kind string
	// code is raw JSON.
	code json.RawMessage
}

// parseUpstreamError knows the errors of text-embeddings-inference, infinity,
// vLLM, Cohere and OpenAI, whose members do not get in each other's way.
func parseUpstreamError(body []byte) upstreamError {
	top := jsonMembers(body)
	inner := jsonMembers(top["error"])
	e := upstreamError{
		message: firstOf(jsonString(inner["message"]), jsonString(top["message"]), jsonString(top["error"]), faultDetail(top["detail"])),
		kind:    firstOf(jsonString(top["error_type"]), jsonString(top["type"]), jsonString(inner["type"]), jsonString(inner["error_type"])),
	}
	for _, code := range []json.RawMessage{top["code"], inner["code"]} {
		if len(code) > 0 && (code[0] == '"' || code[0] == '-' || code[0] >= '0' && code[0] <= '9') {
			e.code = code
			break
		}
	}
	return e
}

// jsonMembers returns the members of an object, nil for everything else.
func jsonMembers(doc []byte) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	if json.Unmarshal(doc, &m) != nil {
		return nil
	}
	return m
}

// jsonString returns the value of a JSON string, and nothing for everything else.
func jsonString(doc []byte) string {
	var s string
	if json.Unmarshal(doc, &s) != nil {
		return ""
	}
	return s
}

// faultDetail returns what FastAPI's servers say: a text, or a list of faults.
func faultDetail(doc []byte) string {
	if s := jsonString(doc); s != "" {
		return s
	}
	var faults []json.RawMessage
	if json.Unmarshal(doc, &faults) != nil {
		return ""
	}
	var messages []string
	for _, fault := range faults {
		if msg := jsonString(jsonMembers(fault)["msg"]); msg != "" {
			messages = append(messages, msg)
		}
	}
	return strings.Join(messages, "; ")
}

func firstOf(texts ...string) string {
	for _, s := range texts {
		if s != "" {
			return s
		}
	}
	return ""
}

// A secret is a key that must not show.
type secret struct {
	// forms are what to look for: the whole value of the header, then the key
	// without its scheme.
	forms *strings.Replacer
	// key is the key without its scheme, empty when there is nothing to look for.
	key string
}

func newSecret(authorization string) secret {
	_, key, found := strings.Cut(authorization, " ")
	if key = strings.TrimSpace(key); !found {
		key = authorization
	}
	var forms []string
	for _, form := range []string{authorization, key} {
		if len(form) >= minSecret {
			forms = append(forms, form, redacted)
		}
	}
	s := secret{forms: strings.NewReplacer(forms...)}
	if len(key) >= minSecret {
		s.key = key
	}
	return s
}

// asciiEscape are the forms in which JSON may write a character that it need
// not escape.
var asciiEscape = regexp.MustCompile(`\\u00[0-7][0-9a-fA-F]|\\/`)

// redact takes the key out of a text, also where it stands in JSON within it.
func (s secret) redact(text string) string {
	text = s.forms.Replace(text)
	if s.key == "" {
		return text
	}
	if plain := asciiEscape.ReplaceAllStringFunc(text, unescape); strings.Contains(plain, s.key) {
		return s.forms.Replace(plain)
	}
	return text
}

// clean returns what may be shown of a text that holds what the upstream sent.
func (s secret) clean(text string) string {
	return harmless(s.redact(text), maxErrorMessage)
}

// redactEnd takes out what there is of the key where a text breaks off.
func (s secret) redactEnd(text string) string {
	for n := min(len(s.key), len(text)); n >= minSecret; n-- {
		if strings.HasSuffix(text, s.key[:n]) {
			return text[:len(text)-n] + redacted
		}
	}
	return text
}

func unescape(escape string) string {
	if escape == `\/` {
		return "/"
	}
	// Two hexadecimal digits are all that the expression lets through.
	code, _ := strconv.ParseUint(escape[len(`\u00`):], 16, 8)
	return string(rune(code))
}

// harmless returns at most limit bytes of a text that may be logged and shown:
// valid UTF-8, on one line, without characters that steer a terminal or turn
// the direction of writing.
func harmless(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp, unicode.Bidi_Control) {
			return ' '
		}
		return r // utf8.RuneError, the replacement character, for invalid bytes
	}, text)
	text = strings.TrimSpace(text)
	if len(text) <= limit {
		return text
	}
	for !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}

// harmlessCode returns a code that is a JSON string or number, as JSON.
func harmlessCode(code json.RawMessage, s secret) string {
	if len(code) == 0 {
		return ""
	}
	if code[0] != '"' {
		if len(code) > maxErrorWord || s.redact(string(code)) != string(code) {
			return ""
		}
		return string(code)
	}
	quoted, err := json.Marshal(harmless(s.redact(jsonString(code)), maxErrorWord))
	if err != nil {
		return "" // a string always encodes
	}
	return string(quoted)
}

// retryAfter returns the Retry-After header when it is what RFC 9110, section
// 10.2.3 says: a number of seconds or a date.
func retryAfter(h http.Header) string {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if _, err := strconv.ParseUint(value, 10, 64); err == nil {
		return value
	}
	if _, err := http.ParseTime(value); err == nil {
		return value
	}
	return ""
}
