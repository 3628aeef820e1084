package handler

import (
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"time"

	"github.com/basetenlabs/caddy-performance-proxy/engine"
)

// writeAnswer sends a merged answer to the client.
func writeAnswer(w http.ResponseWriter, answer *engine.Answer, requestID string) error {
	h := w.Header()
	maps.Copy(h, answer.Header)
	if answer.ContentType != "" {
		h.Set("Content-Type", answer.ContentType)
	}
	h.Set("Content-Length", strconv.FormatInt(answer.Size(), 10))
	h.Set("Server-Timing", serverTiming(answer))
	h.Set("X-Baseten-Batch-Count", strconv.Itoa(len(answer.Batches)))
	h.Set(headerRequestID, requestID)
	_, err := answer.WriteTo(w)
	return err
}

// serverTiming tells how long the whole request and its slowest batch took, in
// milliseconds.
func serverTiming(answer *engine.Answer) string {
	slowest := time.Duration(0)
	for i := range answer.Batches {
		slowest = max(slowest, answer.Batches[i].Took)
	}
	return fmt.Sprintf("total;dur=%.3f, slowest_batch;dur=%.3f", milliseconds(answer.Took), milliseconds(slowest))
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
