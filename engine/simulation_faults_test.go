package engine

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/http2"

	"github.com/basetenlabs/caddy-performance-proxy/engine/enginetest"
)

// A simFault is a kind of trouble.
type simFault int

const (
	simUnavailable simFault = iota
	simServerError
	simUnavailableFor
	simUnavailableUntil
	simUnavailableOddly
	simTimeoutStatus
	simConflict
	simFailedDependency
	simTooMany
	simTooManyFor
	simClientError
	simBrokenError
	simRedirects
	simDrop
	simRefused
	simNobodyListens
	simStall
	simStallInBody
	simSlowBody
	simCut
	simTooShortBody
	simTrailer
	simMissing
	simTwice
	simOutOfRange
	simOneShorter
	simAllShorter
	simOtherModel
	simNotANumber
	simPage
	simNothing
	simBadGzip
	simPanics
	simPanicsInBody

	simFaults
)

// An ending is what an upstream made of a call.
type ending int

const (
	// unanswered is a call that was called off or whose time was over before the
	// reply was complete.
	unanswered ending = iota
	good
	refusing // a status that is not 2xx
	broken
	redirecting
	dropped
	notBegunWith
	panicking

	endings
)

func (e ending) String() string {
	return [endings]string{
		"unanswered", "good", "status", "broken reply", "redirect", "dropped connection", "call that was not begun with", "panic",
	}[e]
}

// simRetryAfter is the longest wait that an endpoint asks for.
const simRetryAfter = 8 * time.Second

// A simPlan says what becomes of a call.
type simPlan struct {
	ending ending
	delay  time.Duration
	// soon is the delay of what takes no work.
	soon   time.Duration
	faults []enginetest.Fault
	status int
	// retryAfter is the header, and says whether it is one that means something.
	retryAfter string
	// err is returned in the place of a reply.
	err error
	// taints says that the reply is wrong in a manner that shows only beside other
	// replies, which may be taken for the wrong ones.
	taints bool
	// brokeOff says that the reply ends early.
	brokeOff bool
}

// plan decides about a call by the dice that belong to it.
func (e *simUpstream) plan(d dice, c *simCall, items []string, crowded bool) *simPlan {
	p := &simPlan{ending: good}
	p.delay = e.base + e.perItem*time.Duration(len(items))
	if e.jitter > 0 {
		p.delay += time.Duration(d.Int64N(int64(e.jitter)))
	}
	if d.chance(e.outliers) {
		p.delay *= 50
	}
	if e.sim.tick == 1 {
		p.soon = time.Duration(d.IntN(1000))
	}
	p.delay = (p.delay + p.soon).Truncate(e.sim.tick)
	if e.sim.healed {
		p.delay = time.Millisecond
		return p
	}
	down := -1
	for i, span := range e.downs {
		if c.start >= span.from && c.start < span.to {
			down = i
		}
	}
	switch {
	case down >= 0:
		p.spoil(d, e.downs[down].how, c, len(items))
	case crowded:
		p.refuse(http.StatusTooManyRequests, e.retryAfter)
	case d.chance(e.faulty):
		p.spoil(d, oneOf(d, e.faults...), c, len(items))
	default:
		p.vary(d)
	}
	for _, text := range items {
		if status, ok := strings.CutPrefix(text, simPoison); ok && p.ending == good {
			code, _ := strconv.Atoi(status)
			p.faults = nil
			p.refuse(code, "")
		}
	}
	return p
}

// vary changes a good reply in ways that make no difference.
func (p *simPlan) vary(d dice) {
	switch n := d.IntN(200); {
	case n < 1: // because it takes much time
		p.faults = append(p.faults, enginetest.Gzip())
	case n < 10:
		p.faults = append(p.faults, enginetest.Chunked())
	case n < 50:
		p.faults = append(p.faults, func(_ *enginetest.Call, r *enginetest.Reply) {
			d.Shuffle(len(r.Entries), func(i, j int) { r.Entries[i], r.Entries[j] = r.Entries[j], r.Entries[i] })
		})
	}
}

// refuse answers with a status, in no time as far as the caller is at fault.
func (p *simPlan) refuse(status int, retryAfter string) {
	p.ending, p.status, p.retryAfter = refusing, status, retryAfter
	p.faults = append(p.faults, enginetest.Status(status, fmt.Sprint("status ", status)))
	if status < 500 {
		p.delay = p.soon
	}
	if retryAfter != "" {
		p.faults = append(p.faults, enginetest.Header("Retry-After", retryAfter))
	}
}

// spoil lets a call go wrong.
func (p *simPlan) spoil(d dice, how simFault, c *simCall, items int) {
	at := d.IntN(max(items, 1))
	seconds := strconv.Itoa(d.IntN(int(simRetryAfter.Seconds())))
	switch how {
	case simUnavailable:
		p.refuse(http.StatusServiceUnavailable, "")
	case simServerError:
		p.refuse(oneOf(d, 500, 500, 502, 504, 529), "")
	case simUnavailableFor:
		p.refuse(oneOf(d, 503, 503, 500), seconds)
	case simUnavailableUntil:
		date := time.Now().Add(time.Duration(d.between(-2000, int(simRetryAfter.Milliseconds()))) * time.Millisecond)
		p.refuse(http.StatusServiceUnavailable, date.UTC().Format(http.TimeFormat))
	case simUnavailableOddly:
		p.refuse(http.StatusServiceUnavailable, "")
		p.faults = append(p.faults, enginetest.Header("Retry-After", oneOf(d, "soon", "-1", "1.5")))
	case simTimeoutStatus:
		p.refuse(http.StatusRequestTimeout, "")
	case simConflict:
		p.refuse(http.StatusConflict, "")
	case simFailedDependency:
		p.refuse(http.StatusFailedDependency, "")
	case simTooMany:
		p.refuse(http.StatusTooManyRequests, "")
	case simTooManyFor:
		p.refuse(http.StatusTooManyRequests, seconds)
	case simClientError:
		p.refuse(oneOf(d, 401, 403, 404, 413), "")
	case simBrokenError:
		p.refuse(oneOf(d, 500, 503), "")
		p.faults = append(p.faults, enginetest.CutAt(3))
	case simRedirects:
		p.ending, p.status = redirecting, http.StatusFound
		p.faults = append(p.faults, enginetest.Status(p.status, ""), enginetest.Header("Location", "http://elsewhere.test/"))
	case simDrop:
		p.ending = dropped
		p.faults = append(p.faults, enginetest.Drop())
	case simRefused:
		p.ending, p.delay = notBegunWith, p.soon
		p.err = http2.StreamError{StreamID: 1, Code: http2.ErrCodeRefusedStream}
	case simNobodyListens:
		p.ending, p.delay = notBegunWith, p.soon
		p.err = newDialError(&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED})
	case simStall:
		p.faults = append(p.faults, enginetest.Hold(nil))
	case simStallInBody:
		p.faults = append(p.faults, enginetest.StallAt(d.IntN(40), nil))
	case simSlowBody:
		release, wait := make(chan struct{}), p.delay*9
		p.faults = append(p.faults, func(c *enginetest.Call, r *enginetest.Reply) {
			time.AfterFunc(p.delay+wait, func() { close(release) })
			enginetest.StallAt(40, release)(c, r)
		})
	case simPanics:
		p.ending = panicking
	case simPanicsInBody:
		p.ending = panicking
		p.faults = append(p.faults, enginetest.Chunked())
	default:
		p.mistake(d, how, c, at)
	}
}

// mistake makes a mistake in an otherwise good reply.
func (p *simPlan) mistake(d dice, how simFault, c *simCall, at int) {
	p.ending = broken
	if c.id.batch == 0 && (how == simAllShorter || how == simOtherModel) {
		// Other replies must be there to tell that these are wrong.
		how = simNotANumber
	}
	switch how {
	case simCut:
		p.brokeOff = true
		p.faults = append(p.faults, enginetest.CutAt(d.IntN(60)))
	case simTooShortBody:
		p.brokeOff = true
		p.faults = append(p.faults, enginetest.ContentLength(1<<20))
	case simTrailer:
		p.faults = append(p.faults, enginetest.Append("}"))
	case simMissing:
		p.faults = append(p.faults, enginetest.Missing(at))
	case simTwice:
		p.faults = append(p.faults, func(call *enginetest.Call, r *enginetest.Reply) {
			enginetest.Index(at, (at+1)%max(2, len(r.Entries)))(call, r)
		})
	case simOutOfRange:
		p.faults = append(p.faults, func(call *enginetest.Call, r *enginetest.Reply) {
			enginetest.Index(at, len(r.Entries)+at)(call, r)
		})
	case simOneShorter:
		p.faults = append(p.faults, func(call *enginetest.Call, r *enginetest.Reply) {
			if len(r.Entries) == 1 {
				enginetest.Embedding(0, "[]")(call, r)
				return
			}
			enginetest.Embedding(at, "[1,2]")(call, r)
		})
	case simAllShorter, simOtherModel:
		p.taints = true
		p.faults = append(p.faults, func(call *enginetest.Call, r *enginetest.Reply) {
			if how == simOtherModel {
				r.Model = "another"
				return
			}
			for i := range r.Entries {
				enginetest.Embedding(i, "[1,2]")(call, r)
			}
		})
	case simNotANumber:
		p.faults = append(p.faults, enginetest.Embedding(at, "[1,NaN,2,3]"))
	case simPage:
		p.faults = append(p.faults, enginetest.HTML())
	case simNothing:
		p.faults = append(p.faults, enginetest.Empty())
	case simBadGzip:
		p.faults = append(p.faults, enginetest.Header("Content-Encoding", "gzip"))
	default:
		panic(fmt.Sprintf("there is no fault %d", how))
	}
}
