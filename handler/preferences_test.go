package handler

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http/httpguts"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

func TestParsePreferences(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		header   string
		settings string // as JSON
		target   string
		extra    http.Header
	}{
		"no header":         {settings: `{}`},
		"an empty object":   {header: ` { } `, settings: `{}`},
		"white space in it": {header: "{ \"batch_size\" :\t8 , \"timeout_s\": 1 }", settings: `{"batch_size":8,"timeout_s":1}`},
		"everything": {
			header: `{"target_host":"https://h/a","max_concurrent_requests":100,"batch_size":20,"max_chars_per_request":5000,
				"max_tokens_per_request":600,"timeout_s":10,"total_timeout_s":40.5,"hedge_delay":2.5,"hedge_budget_pct":0.3,
				"retry_budget_pct":0.4,"max_retries":0,"initial_backoff_ms":200,"non_retryable_status_codes":[500,503],
				"extra_headers":{"x-a":"1","X-B":""},"response_format":"object","response_mode":"stream"}`,
			settings: `{"max_concurrent_requests":100,"batch_size":20,"max_chars_per_request":5000,"max_tokens_per_request":600,
				"timeout_s":10,"total_timeout_s":40.5,"hedge_delay":2.5,"hedge_budget_pct":0.3,"retry_budget_pct":0.4,"max_retries":0,
				"initial_backoff_ms":200,"non_retryable_status_codes":[500,503],"response_format":"object","response_mode":"stream"}`,
			target: "https://h/a",
			extra:  http.Header{"X-A": {"1"}, "X-B": {""}},
		},
		"null is absent": {
			header: `{"target_host":null,"max_concurrent_requests":null,"batch_size":null,"max_chars_per_request":null,
				"max_tokens_per_request":null,"timeout_s":null,"total_timeout_s":null,"hedge_delay":null,"hedge_budget_pct":null,
				"retry_budget_pct":null,"max_retries":null,"initial_backoff_ms":null,"non_retryable_status_codes":null,
				"extra_headers":null,"response_format":null,"response_mode":null}`,
			settings: `{}`,
		},
		"numbers in every notation":          {header: `{"timeout_s":1.5e1,"hedge_budget_pct":1E-1,"retry_budget_pct":0.0}`, settings: `{"timeout_s":15,"hedge_budget_pct":0.1,"retry_budget_pct":0}`},
		"a hedge delay of its own":           {header: `{"hedge_delay":"auto"}`, settings: `{"hedge_delay":"auto"}`},
		"names and values in escapes":        {header: `{"\u0062atch_size":8,"response_mode":"\u0073tream"}`, settings: `{"batch_size":8,"response_mode":"stream"}`},
		"an empty list of statuses":          {header: `{"non_retryable_status_codes":[ ]}`, settings: `{"non_retryable_status_codes":[]}`},
		"statuses with white space":          {header: `{"non_retryable_status_codes":[ 429 , 500 ]}`, settings: `{"non_retryable_status_codes":[429,500]}`},
		"no headers":                         {header: `{"extra_headers":{}}`, settings: `{}`, extra: http.Header{}},
		"a header beyond ASCII":              {header: `{"extra_headers":{"X-Name":"Zoë\t1"}}`, settings: `{}`, extra: http.Header{"X-Name": {"Zoë\t1"}}},
		"a header close to a forbidden one":  {header: `{"extra_headers":{"Contents":"1","X-Authorization":"2","Accept-Language":"3"}}`, settings: `{}`, extra: http.Header{"Contents": {"1"}, "X-Authorization": {"2"}, "Accept-Language": {"3"}}},
		"as many headers as there can be":    {header: manyHeaders(64), settings: `{}`, extra: manyHeadersWant(64)},
		"what each range ends with, low":     {header: `{"max_concurrent_requests":1,"timeout_s":0.1,"hedge_delay":0.045,"initial_backoff_ms":50}`, settings: `{"max_concurrent_requests":1,"timeout_s":0.1,"hedge_delay":0.045,"initial_backoff_ms":50}`},
		"what each range ends with, high":    {header: `{"batch_size":1024,"timeout_s":3600,"max_retries":6,"hedge_budget_pct":3.0}`, settings: `{"batch_size":1024,"timeout_s":3600,"max_retries":6,"hedge_budget_pct":3}`},
		"a total timeout beyond every clock": {header: `{"total_timeout_s":1e300}`, settings: `{"total_timeout_s":1e300}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parsePreferences(test.header)
			if err != nil {
				t.Fatal(err)
			}
			want := &preferences{Settings: *settingsOf(t, test.settings), TargetHost: test.target, ExtraHeaders: test.extra}
			if !reflect.DeepEqual(got, want) {
				gotText, _ := json.Marshal(got)
				wantText, _ := json.Marshal(want)
				t.Errorf("parsePreferences = %s, want %s", gotText, wantText)
			}
		})
	}
}

func manyHeaders(n int) string {
	var members []string
	for i := range n {
		members = append(members, fmt.Sprintf(`"X-%d":"v"`, i))
	}
	return `{"extra_headers":{` + strings.Join(members, ",") + `}}`
}

func manyHeadersWant(n int) http.Header {
	h := make(http.Header)
	for i := range n {
		h.Set(fmt.Sprintf("X-%d", i), "v")
	}
	return h
}

func TestParsePreferencesRefuses(t *testing.T) {
	t.Parallel()
	const whole = "X-Baseten-Request-Preferences"
	type fault struct {
		header string
		field  string // behind the name of the header, empty for the whole of it
		says   string
	}
	tests := map[string]fault{
		"white space alone":              {" ", "", "malformed JSON"},
		"a broken object":                {`{"batch_size":8`, "", "malformed JSON"},
		"text after the object":          {`{"batch_size":8}x`, "", "malformed JSON"},
		"two objects":                    {`{} {}`, "", "malformed JSON"},
		"a comma too many":               {`{"batch_size":8,}`, "", "malformed JSON"},
		"a missing colon":                {`{"batch_size" 8}`, "", "malformed JSON"},
		"a comment":                      {`{/* */}`, "", "malformed JSON"},
		"single quotes":                  {`{'batch_size':8}`, "", "malformed JSON"},
		"a name without quotes":          {`{batch_size:8}`, "", "malformed JSON"},
		"a leading zero":                 {`{"batch_size":08}`, "", "malformed JSON"},
		"NaN":                            {`{"timeout_s":NaN}`, "", "malformed JSON"},
		"text that is not UTF-8":         {"{\"target_host\":\"https://h/\xff\"}", "", "UTF-8"},
		"nesting without end":            {strings.Repeat("[", 100_000), "", "malformed JSON"},
		"deep nesting":                   {`{"batch_size":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`, "batch_size", "an integer"},
		"a list":                         {`[]`, "", "must be a JSON object"},
		"a string":                       {`"batch_size"`, "", "must be a JSON object"},
		"null":                           {`null`, "", "must be a JSON object"},
		"an unknown name":                {`{"batchsize":8}`, "batchsize", "unknown preference; there are max_concurrent_requests"},
		"an unknown name of null":        {`{"batchsize":null}`, "batchsize", "unknown"},
		"a name in other letters":        {`{"Batch_Size":8}`, "Batch_Size", "unknown"},
		"a name that folds to another":   {`{"batch_ſize":8}`, "batch_ſize", "unknown"},
		"a name with white space":        {`{"batch_size ":8}`, "batch_size ", "unknown"},
		"an empty name":                  {`{"":8}`, "", "unknown"},
		"a long unknown name":            {`{"` + strings.Repeat("n", 5000) + `":8}`, strings.Repeat("n", 64) + "…", "unknown"},
		"a setting of the operator":      {`{"max_memory":8}`, "max_memory", "unknown"},
		"a name twice":                   {`{"batch_size":8,"batch_size":8}`, "batch_size", "twice"},
		"a name twice, one escaped":      {`{"batch_size":8,"\u0062atch_size":9}`, "batch_size", "twice"},
		"a name twice, first null":       {`{"batch_size":null,"batch_size":9}`, "batch_size", "twice"},
		"an integer with a fraction":     {`{"batch_size":64.0}`, "batch_size", "an integer from 1 to 1024"},
		"an integer with an exponent":    {`{"batch_size":6e1}`, "batch_size", "an integer from 1 to 1024"},
		"a negative integer":             {`{"max_retries":-1}`, "max_retries", "an integer from 0 to 6"},
		"an integer over 64 bits":        {`{"batch_size":99999999999999999999}`, "batch_size", "from 1 to 1024"},
		"an integer beyond float64":      {`{"batch_size":` + strings.Repeat("9", 400) + `}`, "batch_size", "from 1 to 1024"},
		"an integer as string":           {`{"batch_size":"8"}`, "batch_size", "an integer"},
		"an integer as boolean":          {`{"batch_size":true}`, "batch_size", "an integer"},
		"an integer as list":             {`{"batch_size":[8]}`, "batch_size", "an integer"},
		"an integer as object":           {`{"batch_size":{}}`, "batch_size", "an integer"},
		"an integer that may not be a w": {`{"max_retries":"auto"}`, "max_retries", "an integer"},
		"a number beyond float64":        {`{"total_timeout_s":1e400}`, "total_timeout_s", "a number of at least 0.1"},
		"a number as string":             {`{"timeout_s":"1"}`, "timeout_s", "a number from 0.1 to 3600"},
		"another word as hedge delay":    {`{"hedge_delay":"off"}`, "hedge_delay", `or "auto"`},
		"a boolean as hedge delay":       {`{"hedge_delay":true}`, "hedge_delay", `or "auto"`},
		"a list as hedge delay":          {`{"hedge_delay":["auto"]}`, "hedge_delay", `or "auto"`},
		"statuses that are no list":      {`{"non_retryable_status_codes":500}`, "non_retryable_status_codes", "a list of integers from 400 to 599"},
		"statuses as strings":            {`{"non_retryable_status_codes":["500"]}`, "non_retryable_status_codes", "a list of integers"},
		"a status with a fraction":       {`{"non_retryable_status_codes":[500.0]}`, "non_retryable_status_codes", "a list of integers"},
		"a status of null":               {`{"non_retryable_status_codes":[null]}`, "non_retryable_status_codes", "a list of integers"},
		"a status under the range":       {`{"non_retryable_status_codes":[399]}`, "non_retryable_status_codes", "from 400 to 599"},
		"a status over the range":        {`{"non_retryable_status_codes":[600]}`, "non_retryable_status_codes", "from 400 to 599"},
		"a status over 64 bits":          {`{"non_retryable_status_codes":[99999999999999999999]}`, "non_retryable_status_codes", "from 400 to 599"},
		"a list in the statuses":         {`{"non_retryable_status_codes":[[500]]}`, "non_retryable_status_codes", "a list of integers"},
		"a format that is no string":     {`{"response_format":1}`, "response_format", `"object"`},
		"an unknown format":              {`{"response_format":"array"}`, "response_format", `"object"`},
		"an unknown mode":                {`{"response_mode":"Stream"}`, "response_mode", `"stream"`},
		"a target that is no string":     {`{"target_host":["https://h"]}`, "target_host", "a string"},
		"an empty target":                {`{"target_host":""}`, "target_host", "scheme://host"},
		"headers that are no object":     {`{"extra_headers":[["X-A","1"]]}`, "extra_headers", "an object of strings"},
		"a header that is no string":     {`{"extra_headers":{"X-A":1}}`, "extra_headers", `"X-A" must be a string`},
		"a header of null":               {`{"extra_headers":{"X-A":null}}`, "extra_headers", `"X-A" must be a string`},
		"a header with several values":   {`{"extra_headers":{"X-A":["1","2"]}}`, "extra_headers", `"X-A" must be a string`},
		"a header twice":                 {`{"extra_headers":{"X-A":"1","X-A":"1"}}`, "extra_headers", `"X-A" must not be given twice`},
		"a header twice in other letter": {`{"extra_headers":{"x-a":"1","X-A":"2"}}`, "extra_headers", `"X-A" must not be given twice`},
		"a header without a name":        {`{"extra_headers":{"":"1"}}`, "extra_headers", "not a valid header name"},
		"a header of HTTP/2's own":       {`{"extra_headers":{":authority":"1"}}`, "extra_headers", "not a valid header name"},
		"a header name with a space":     {`{"extra_headers":{"X A":"1"}}`, "extra_headers", "not a valid header name"},
		"a header name with a colon":     {`{"extra_headers":{"X-A:":"1"}}`, "extra_headers", "not a valid header name"},
		"a header name with a break":     {`{"extra_headers":{"X-A\r\nHost":"1"}}`, "extra_headers", "not a valid header name"},
		"a header name beyond ASCII":     {`{"extra_headers":{"X-É":"1"}}`, "extra_headers", "not a valid header name"},
		"a trailer by its prefix":        {`{"extra_headers":{"Trailer:X-A":"1"}}`, "extra_headers", "not a valid header name"},
		"a value with a line break":      {`{"extra_headers":{"X-A":"1\r\nX-B: 2"}}`, "extra_headers", `"X-A" has a value`},
		"a value with a line feed":       {`{"extra_headers":{"X-A":"1\n"}}`, "extra_headers", `"X-A" has a value`},
		"a value with a zero":            {`{"extra_headers":{"X-A":"\u0000"}}`, "extra_headers", `"X-A" has a value`},
		"a value with a delete":          {`{"extra_headers":{"X-A":"\u007f"}}`, "extra_headers", `"X-A" has a value`},
		"a value with half a surrogate":  {`{"extra_headers":{"X-A":"\ud800"}}`, "extra_headers", `"X-A" has a value`},
		"too many headers":               {manyHeaders(65), "extra_headers", "more than 64"},
	}
	for _, reserved := range []string{
		"Authorization", "Proxy-Authorization", "Host", "Content-Type", "Content-Length", "Content-Encoding", "Content-Anything",
		"Accept-Encoding", "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "TE", "Trailer", "Transfer-Encoding", "Upgrade",
	} {
		for _, name := range []string{reserved, strings.ToLower(reserved), strings.ToUpper(reserved), strings.ReplaceAll(reserved, "-", "_")} {
			tests["the reserved header "+name] = fault{fmt.Sprintf(`{"extra_headers":{%q:"hush"}}`, name), "extra_headers", "may not be set"}
		}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parsePreferences(test.header)
			field := whole
			if test.field != "" || name == "an empty name" {
				field += "." + test.field
			}
			wantRequestError(t, err, field)
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %q, want it to say %q", err, test.says)
			}
			if strings.Contains(err.Error(), "hush") || len(err.Error()) > 1000 {
				t.Errorf("error %q repeats too much of the header", err)
			}
		})
	}
}

// FuzzParsePreferences checks that whatever is accepted is valid JSON of known
// members within their ranges, that encoding/json reads the same settings from
// it, and that these always come to settings that agree with each other.
func FuzzParsePreferences(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `null`, `{"batch_size":8,"timeout_s":1.5e1}`, `{"hedge_delay":"auto","max_retries":0}`, `{"hedge_delay":40,"total_timeout_s":50}`,
		`{"max_concurrent_requests":600,"batch_size":8}`, `{"extra_headers":{"x-a":"1","content_type":"2"}}`, `{"\u0062atch_size":-0}`,
		`{"non_retryable_status_codes":[429, 500],"response_format":"object"}`, `{"target_host":"https://h","batch_size":null}`,
		`{"batch_size":1,"batch_size":2}`, `{"timeout_s":1e400}`, "{\"target_host\":\"\xff\"}",
	} {
		f.Add(seed)
	}
	operator := &Settings{HedgeDelay: &HedgeDelay{Seconds: 3}}
	total := 35.0
	operator.TotalTimeoutS = &total
	f.Fuzz(func(t *testing.T, header string) {
		p, err := parsePreferences(header)
		if err != nil {
			if _, ok := errors.AsType[*engine.RequestError](err); !ok {
				t.Fatalf("error %T, want a RequestError", err)
			}
			return
		}
		checkAcceptedPreferences(t, header, p)
		r, err := resolve(operator, &p.Settings, nil)
		if err != nil {
			if _, ok := errors.AsType[*engine.RequestError](err); !ok {
				t.Fatalf("resolve: error %T, want a RequestError", err)
			}
			return
		}
		if r.Timeout <= 0 || r.TotalTimeout < r.Timeout || r.HedgeDelay > r.Timeout-hedgeMargin ||
			!r.HedgeAuto && r.HedgeDelay < hedgeMargin || r.MaxConcurrentRequests > 512 && r.BatchSize < 16 {
			t.Fatalf("%s comes to %+v, which does not agree with itself", header, r)
		}
	})
}

func checkAcceptedPreferences(t *testing.T, header string, p *preferences) {
	t.Helper()
	if header == "" {
		return
	}
	var members map[string]json.RawMessage
	var settings struct {
		Settings
		TargetHost   *string           `json:"target_host"`
		ExtraHeaders map[string]string `json:"extra_headers"`
	}
	if err := errors.Join(json.Unmarshal([]byte(header), &members), json.Unmarshal([]byte(header), &settings)); err != nil {
		t.Fatalf("%s is accepted and encoding/json says %v", header, err)
	}
	for name := range members {
		if findPreference(name) == nil {
			t.Fatalf("the unknown preference %q is accepted", name)
		}
	}
	if !reflect.DeepEqual(p.Settings, settings.Settings) {
		t.Fatalf("%s is read as %+v, encoding/json reads %+v", header, p.Settings, settings.Settings)
	}
	if err := p.checkRanges(); err != nil {
		t.Fatalf("%s is accepted: %v", header, err)
	}
	if len(p.ExtraHeaders) != len(settings.ExtraHeaders) {
		t.Fatalf("%s has %d headers, encoding/json reads %d", header, len(p.ExtraHeaders), len(settings.ExtraHeaders))
	}
	for name, value := range settings.ExtraHeaders {
		if !slices.Equal(p.ExtraHeaders[http.CanonicalHeaderKey(name)], []string{value}) ||
			!httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			t.Fatalf("the header %q: %q is read as %q", name, value, p.ExtraHeaders)
		}
	}
}
