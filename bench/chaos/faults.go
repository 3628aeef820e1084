package main

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

// A fault is a way in which a model server goes wrong.
type fault struct {
	name string
	// weight is how often it comes up among the others.
	weight int
	// minItems is how many items a call must have for the fault to be one that can
	// be seen: a vector of the wrong length is as good as any when it is the only
	// one.
	minItems int
	// status is what the reply has, 0 for no reply.
	status int
	make   func(rng *rand.Rand, c *enginetest.Call, quiet <-chan struct{}) []enginetest.Fault
}

// faults are all there are. None of them sends vectors that are right in form
// and belong to other texts: nobody could see that.
var faults = joined(refusals(), connectionFaults(), wrongReplies())

func joined(lists ...[]fault) (all []fault) {
	for _, list := range lists {
		all = append(all, list...)
	}
	return all
}

// refusals are replies with a status that is not 200.
func refusals() []fault {
	var list []fault
	for _, status := range []int{
		http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable,
	} {
		name := strconv.Itoa(status)
		list = append(list,
			fault{name: name, weight: 2, status: status, make: refusal(status, nil)},
			fault{name: name + " Retry-After seconds", weight: 2, status: status, make: refusal(status, inSeconds)},
			fault{name: name + " Retry-After date", weight: 1, status: status, make: refusal(status, asDate)},
		)
	}
	return append(list,
		fault{name: "408", weight: 1, status: http.StatusRequestTimeout, make: refusal(http.StatusRequestTimeout, nil)},
		fault{name: "424", weight: 1, status: http.StatusFailedDependency, make: refusal(http.StatusFailedDependency, nil)},
		fault{name: "422", weight: 1, status: http.StatusUnprocessableEntity, make: refusal(http.StatusUnprocessableEntity, nil)},
		fault{name: "302", weight: 1, status: http.StatusFound, make: always(
			enginetest.Status(http.StatusFound, "Found"), enginetest.Header("Location", "http://127.0.0.1:9/login"))},
	)
}

// refusal answers with a status and, unless retryAfter is nil, a Retry-After.
func refusal(status int, retryAfter func(*rand.Rand) string) func(*rand.Rand, *enginetest.Call, <-chan struct{}) []enginetest.Fault {
	body := `{"message":"it is not the moment","type":"Overloaded","code":` + strconv.Itoa(status) + `}`
	return func(rng *rand.Rand, _ *enginetest.Call, _ <-chan struct{}) []enginetest.Fault {
		list := []enginetest.Fault{enginetest.JSON(status, body)}
		if rng.IntN(4) == 0 {
			list[0] = enginetest.Status(status, "it is not the moment")
		}
		if retryAfter != nil {
			list = append(list, enginetest.Header("Retry-After", retryAfter(rng)))
		}
		return list
	}
}

func inSeconds(rng *rand.Rand) string { return strconv.Itoa(rng.IntN(3)) }

func asDate(rng *rand.Rand) string {
	return time.Now().Add(time.Duration(1+rng.IntN(2)) * time.Second).UTC().Format(http.TimeFormat)
}

// connectionFaults are replies that do not come, come late or break off.
func connectionFaults() []fault {
	return []fault{
		{name: "stall", weight: 1, make: func(_ *rand.Rand, _ *enginetest.Call, quiet <-chan struct{}) []enginetest.Fault {
			return []enginetest.Fault{enginetest.Hold(quiet)}
		}},
		{name: "stall in the body", weight: 1, status: http.StatusOK, make: func(rng *rand.Rand, _ *enginetest.Call, quiet <-chan struct{}) []enginetest.Fault {
			return []enginetest.Fault{enginetest.StallAt(rng.IntN(200), quiet)}
		}},
		{name: "late", weight: 6, status: http.StatusOK, make: func(rng *rand.Rand, _ *enginetest.Call, _ <-chan struct{}) []enginetest.Fault {
			return []enginetest.Fault{enginetest.Delay(between(rng, 200*time.Millisecond, 3*time.Second))}
		}},
		{name: "drop", weight: 3, make: always(enginetest.Drop())},
		{name: "cut", weight: 2, status: http.StatusOK, make: func(rng *rand.Rand, _ *enginetest.Call, _ <-chan struct{}) []enginetest.Fault {
			return []enginetest.Fault{enginetest.CutAt(rng.IntN(150))}
		}},
		{name: "cut, no length", weight: 2, status: http.StatusOK, make: func(rng *rand.Rand, _ *enginetest.Call, _ <-chan struct{}) []enginetest.Fault {
			return []enginetest.Fault{enginetest.Chunked(), enginetest.CutAt(rng.IntN(150))}
		}},
		{name: "cut, packed", weight: 1, status: http.StatusOK, make: func(rng *rand.Rand, _ *enginetest.Call, _ <-chan struct{}) []enginetest.Fault {
			return []enginetest.Fault{enginetest.Gzip(), enginetest.CutAt(rng.IntN(60))}
		}},
	}
}

// wrongReplies are replies with status 200 that must not be believed.
func wrongReplies() []fault {
	return []fault{
		{name: "entry missing", weight: 2, status: http.StatusOK, make: at(enginetest.Missing)},
		{name: "entry too many", weight: 1, status: http.StatusOK, make: always(tooMany)},
		{name: "duplicate index", weight: 2, minItems: 2, status: http.StatusOK, make: always(enginetest.Index(1, 0))},
		{name: "index out of range", weight: 1, status: http.StatusOK, make: always(enginetest.Index(0, 100_000))},
		{name: "other length", weight: 2, minItems: 2, status: http.StatusOK, make: at(enginetest.Shorter)},
		{name: "no vector", weight: 1, status: http.StatusOK, make: at(func(i int) enginetest.Fault {
			return enginetest.Embedding(i, "null")
		})},
		{name: "no number", weight: 1, status: http.StatusOK, make: at(func(i int) enginetest.Fault {
			return enginetest.Embedding(i, "[NaN,1]")
		})},
		{name: "broken JSON", weight: 1, status: http.StatusOK, make: always(enginetest.Append("}"))},
		{name: "JSON too short", weight: 1, status: http.StatusOK, make: always(enginetest.ContentLength(40))},
		{name: "empty body", weight: 1, status: http.StatusOK, make: always(enginetest.Empty())},
		{name: "HTML", weight: 1, status: http.StatusOK, make: always(enginetest.HTML())},
		{name: "an error with status 200", weight: 1, status: http.StatusOK, make: always(
			enginetest.JSON(http.StatusOK, `{"error":{"message":"out of memory","type":"server_error"}}`))},
	}
}

// tooMany adds an entry.
func tooMany(_ *enginetest.Call, r *enginetest.Reply) {
	r.Entries = append(r.Entries, enginetest.Entry{Index: len(r.Entries), Embedding: r.Entries[0].Embedding})
}

// always makes the same faults for every call.
func always(list ...enginetest.Fault) func(*rand.Rand, *enginetest.Call, <-chan struct{}) []enginetest.Fault {
	return func(*rand.Rand, *enginetest.Call, <-chan struct{}) []enginetest.Fault { return list }
}

// at makes a fault of one of the entries.
func at(entry func(int) enginetest.Fault) func(*rand.Rand, *enginetest.Call, <-chan struct{}) []enginetest.Fault {
	return func(rng *rand.Rand, c *enginetest.Call, _ <-chan struct{}) []enginetest.Fault {
		return []enginetest.Fault{entry(rng.IntN(len(c.Items)))}
	}
}

// between returns a time at random.
func between(rng *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(rng.Int64N(int64(to-from)))
}

// pick returns a fault that a call of so many items can have.
func pick(rng *rand.Rand, items int) *fault {
	for {
		n := rng.IntN(faultWeights)
		for i := range faults {
			if n -= faults[i].weight; n < 0 {
				if faults[i].minItems > items {
					break
				}
				return &faults[i]
			}
		}
	}
}

// faultWeights is the sum of all weights.
var faultWeights = func() (sum int) {
	for _, f := range faults {
		sum += f.weight
	}
	return sum
}()
