package engine

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// metadataEdits adds the metadata to an answer that is an object.
func (c *Call) metadataEdits(env *envelope, a *Answer) []edit {
	total := appendSeconds(nil, a.Took)
	times := appendTimes(nil, a.Batches)
	metadata := append([]byte(`{"total_time":`), total...)
	metadata = append(metadata, `,"batch_count":`...)
	metadata = strconv.AppendInt(metadata, int64(len(a.Batches)), 10)
	metadata = append(append(metadata, `,"individual_request_times":`...), times...)
	metadata = append(append(metadata, `,"customer_request_id":`...), quote(c.req.ID)...)
	metadata = append(metadata, `,"response_headers":[`...)
	for i := range a.Batches {
		if i > 0 {
			metadata = append(metadata, ',')
		}
		metadata = appendHeader(metadata, a.Batches[i].Header)
	}
	metadata = append(metadata, `]}`...)

	var edits []edit
	if c.op.timing {
		edits = append(edits,
			env.set(memberTotalTime, total),
			env.set(memberIndividualTimes, times))
	}
	return append(edits, env.set(memberMetadata, metadata))
}

// appendTimes appends the times of the batches as a list of seconds.
func appendTimes(dst []byte, batches []BatchInfo) []byte {
	dst = append(dst, '[')
	for i := range batches {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendSeconds(dst, batches[i].Took)
	}
	return append(dst, ']')
}

// appendSeconds appends a duration as seconds with a resolution of microseconds.
func appendSeconds(dst []byte, d time.Duration) []byte {
	return strconv.AppendFloat(dst, d.Seconds(), 'f', 6, 64)
}

// appendHeader appends a header as an object of strings with lower-case names
// in alphabetical order.
func appendHeader(dst []byte, h http.Header) []byte {
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	dst = append(dst, '{')
	for i, name := range names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(dst, quote(strings.ToLower(name))...), ':')
		dst = append(dst, quote(strings.Join(h[name], ", "))...)
	}
	return append(dst, '}')
}

// hopByHop are the headers that belong to one connection (RFC 9110, section
// 7.6.1), and those of cookies, which belong to one client.
var hopByHop = []string{
	"Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	"Proxy-Authenticate", "Proxy-Authorization", "Set-Cookie", "Set-Cookie2",
}

// endToEnd returns the headers of a reply that may be shown to the client:
// neither of one connection, nor cookies, nor any that repeats the key.
func endToEnd(h http.Header, authorization string) http.Header {
	out := make(http.Header, len(h))
	for name, values := range h {
		if !slices.Contains(hopByHop, name) && !containsKey(values, authorization) {
			out[name] = values
		}
	}
	for _, names := range h["Connection"] {
		for name := range strings.SplitSeq(names, ",") {
			out.Del(strings.TrimSpace(name))
		}
	}
	return out
}

// containsKey reports whether a value holds the key of an Authorization header.
func containsKey(values []string, authorization string) bool {
	_, key, found := strings.Cut(authorization, " ")
	if !found {
		key = authorization
	}
	if key == "" {
		return false
	}
	return slices.ContainsFunc(values, func(v string) bool { return strings.Contains(v, key) })
}

// mediaType returns the media type of a reply, without its parameters and in
// lower case; empty when it names none.
func mediaType(h http.Header) string {
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(kind))
}

// isJSON reports whether a media type is JSON, as one that is not named is taken
// to be.
func isJSON(kind string) bool {
	return kind == "" || kind == "application/json" || strings.HasSuffix(kind, "+json")
}
