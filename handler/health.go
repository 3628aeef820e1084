package handler

import (
	"encoding/json"
	"net/http"
	"time"
)

// service is the name under which the proxy answers for its health.
const service = "baseten-performance-proxy"

// isHealth reports whether a request asks for the proxy's own health.
func isHealth(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) &&
		(r.URL.Path == "/health" || r.URL.Path == "/health_internal")
}

// writeHealth answers for the proxy's own health; it never asks an upstream.
func writeHealth(w http.ResponseWriter, now time.Time) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	return json.NewEncoder(w).Encode(struct {
		Status    string `json:"status"`
		Service   string `json:"service"`
		Timestamp string `json:"timestamp"`
	}{"healthy", service, now.UTC().Format(time.RFC3339)})
}
