package handler

import (
	"reflect"
	"testing"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

func TestCheckRefusesSettingsOfEndpoints(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ config, want string }{
		"an unknown policy":                      {`{"lb_policy":"ip_hash"}`, `lb_policy: expected random_choose, round_robin, random or first, not "ip_hash"`},
		"Caddy's policy of the least loaded":     {`{"lb_policy":"least_conn"}`, `lb_policy: least_conn is random_choose here`},
		"a policy that has another name here":    {`{"lb_policy":"weighted_round_robin"}`, `lb_policy: weighted_round_robin is round_robin with weights`},
		"a weight of nothing":                    {`{"to":["https://a"],"weights":[0]}`, `weights: each must be an integer from 1 to 1000, one is 0`},
		"a weight over the range":                {`{"to":["https://a"],"weights":[1001]}`, `weights: each must be an integer from 1 to 1000, one is 1001`},
		"requests under the range":               {`{"max_upstream_requests":-1}`, `max_upstream_requests: must be an integer from 1 to 1000000, is -1`},
		"requests over the range":                {`{"max_upstream_requests":1000001}`, `max_upstream_requests: must be an integer from 1 to 1000000, is 1000001`},
		"items over the range":                   {`{"max_upstream_items":100000001}`, `max_upstream_items: must be an integer from 1 to 100000000, is 100000001`},
		"a bucket that is too small":             {`{"retry_bucket":{"size":0.5}}`, `retry_bucket: size must be a number from 1 to 1000000, is 0.5`},
		"a bucket that is too large":             {`{"retry_bucket":{"size":1000001}}`, `retry_bucket: size must be a number from 1 to 1000000, is 1000001`},
		"a reply that takes retries":             {`{"retry_bucket":{"per_reply":-0.1}}`, `retry_bucket: per_reply must be a number from 0 to 1000, is -0.1`},
		"too many retries a second":              {`{"retry_bucket":{"per_second":1000001}}`, `retry_bucket: per_second must be a number from 0 to 1000000, is 1000001`},
		"seconds as the time of a failure":       {`{"fail_duration":5}`, `fail_duration: must be a duration of at least 1ms such as "5s", is 5ns`},
		"a negative time of a failure":           {`{"fail_duration":"-5s"}`, `fail_duration: must be a duration of at least 1ms such as "5s", is -5s`},
		"too many failures":                      {`{"max_fails":1001}`, `max_fails: must be an integer from 1 to 1000, is 1001`},
		"no status":                              {`{"unhealthy_status":[6]}`, `unhealthy_status: each must be a status from 100 to 599, or from 1 to 5 for a class of them, one is 6`},
		"a latency without a unit":               {`{"unhealthy_latency":2}`, `unhealthy_latency: must be a duration of at least 1ms`},
		"a check of another server":              {`{"health_uri":"https://h/health"}`, `health_uri: must be a path that begins with /, is "https://h/health"`},
		"a check with a placeholder in its path": {`{"health_uri":"/{env.PATH}"}`, `health_uri: must not hold the character {`},
		"a check with a fragment":                {`{"health_uri":"/health#1"}`, `health_uri: must not have a fragment`},
		"a check with a bad path":                {`{"health_uri":"/health%"}`, `health_uri: must be a path, which may have a query`},
		"a port out of range":                    {`{"health_port":65536}`, `health_port: must be an integer from 1 to 65535, is 65536`},
		"an interval without a unit":             {`{"health_interval":30}`, `health_interval: must be a duration of at least 1ms`},
		"a negative timeout":                     {`{"health_timeout":"-1s"}`, `health_timeout: must be a duration of at least 1ms`},
		"a negative number of passes":            {`{"health_passes":-1}`, `health_passes: must be an integer from 1 to 1000, is -1`},
		"too many fails":                         {`{"health_fails":1001}`, `health_fails: must be an integer from 1 to 1000, is 1001`},
		"a status that ends nothing":             {`{"health_status":100}`, `health_status: must be a status from 200 to 599, or from 2 to 5 for a class of them, is 100`},
		"a bad name of a header":                 {`{"health_headers":{"a b":["1"]}}`, `health_headers: "a b" is not a valid header name`},
		"a bad value of a header":                {`{"health_headers":{"Authorization":["hush\n"]}}`, `health_headers: "Authorization" has a value that no header may have`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkRefuses(t, test.config, test.want)
		})
	}
}

// TestCheckCompleteRefuses holds what is no fault while a configuration grows.
func TestCheckCompleteRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ config, want string }{
		"weights without targets":  {`{"weights":[1]}`, `weights: expected one for each target of to: 0, not 1`},
		"too few weights":          {`{"to":["https://a","https://b"],"weights":[1]}`, `weights: expected one for each target of to: 2, not 1`},
		"too many weights":         {`{"to":["https://a"],"weights":[1,1]}`, `weights: expected one for each target of to: 1, not 2`},
		"an interval of no checks": {`{"health_interval":"1s"}`, `health_interval: there are no active health checks: set health_uri or health_port`},
		"a timeout of no checks":   {`{"health_timeout":"1s"}`, `health_timeout: there are no active health checks`},
		"passes of no checks":      {`{"health_passes":1}`, `health_passes: there are no active health checks`},
		"fails of no checks":       {`{"health_fails":1}`, `health_fails: there are no active health checks`},
		"a status of no checks":    {`{"health_status":200}`, `health_status: there are no active health checks`},
		"headers of no checks":     {`{"health_headers":{"A":["1"]}}`, `health_headers: there are no active health checks`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := handlerOf(t, test.config)
			if err := h.Check(); err != nil {
				t.Errorf("Check: %v", err)
			}
			err := h.CheckComplete()
			wantError(t, err, test.want)
			wantError(t, provisionError(t, h), test.want)
		})
	}
}

func TestCheckAcceptsSettingsOfEndpoints(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]string{
		"several targets":             `{"to":["https://a","http://a","https://a/b","https://b"]}`,
		"a weight for each":           `{"to":["https://a","https://b"],"weights":[1,1000]}`,
		"the largest limits":          `{"max_upstream_requests":1000000,"max_upstream_items":100000000}`,
		"the smallest limits":         `{"max_upstream_requests":1,"max_upstream_items":1}`,
		"a bucket that never refills": `{"retry_bucket":{"size":1,"per_reply":0,"per_second":0}}`,
		"an empty bucket":             `{"retry_bucket":{}}`,
		"no passive health":           `{"fail_duration":0}`,
		"passive health":              `{"fail_duration":"1ms","max_fails":1,"unhealthy_status":[4,500],"unhealthy_latency":"1ms"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkAccepts(t, config)
		})
	}
	for _, policy := range engine.Policies() {
		checkAccepts(t, `{"lb_policy":"`+string(policy)+`"}`)
	}
}

func TestSettingsOfTheRetryBucket(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		config string
		want   engine.RetryBucketOptions
	}{
		"none":   {`{}`, engine.RetryBucketOptions{}},
		"all":    {`{"retry_bucket":{"size":7,"per_reply":0.5,"per_second":3}}`, engine.RetryBucketOptions{Size: 7, PerReply: 0.5, PerSecond: 3}},
		"zeroes": {`{"retry_bucket":{"per_reply":0,"per_second":0}}`, engine.RetryBucketOptions{PerReply: -1, PerSecond: -1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := handlerOf(t, test.config).RetryBucket.options(); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestSettingsOfPassiveHealth(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		config string
		want   engine.HealthOptions
	}{
		"none": {`{}`, engine.HealthOptions{FailDuration: 5 * time.Second, MaxFails: 3}},
		"off":  {`{"fail_duration":0}`, engine.HealthOptions{MaxFails: 3}},
		"all": {
			`{"fail_duration":"10s","max_fails":5,"unhealthy_status":[5,429],"unhealthy_latency":"2s"}`,
			engine.HealthOptions{FailDuration: 10 * time.Second, MaxFails: 5, UnhealthyStatus: []int{5, 429}, UnhealthyLatency: 2 * time.Second},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := handlerOf(t, test.config).Health.passive(); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}
