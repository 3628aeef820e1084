// Package engine splits one request of many items into batches, sends the
// batches to a model server concurrently, checks every reply and merges the
// replies into the one answer that the server would have given to a request of
// that size. It is a library: it knows nothing of Caddy, of metrics systems or
// of configuration files.
//
// The road of a request, and the file of each station:
//
//	parse     request.go     the operation of the path and body, its items, bad input refused
//	split     batch.go       items to batches, a batch is cut out of the client's bytes
//	dispatch  dispatch.go    batches in flight, first fault ends the rest; deadline.go bounds the whole
//	deliver   delivery.go    one batch, attempt after attempt: what is tried again by retry.go, within budget.go
//	choose    group.go       the endpoint of an attempt, by policy.go; endpoint.go is what is known of one:
//	                         health.go and healthcheck.go, latency.go
//	wait      limiter.go     the batch's turn at the endpoint, fair between requests
//	hedge     hedge.go       the attempt and, when it is late, a copy of it
//	attempt   attempt.go     one batch to one endpoint and back, within its time; upstreamrequest.go, transport.go
//	read      reply.go       the whole reply, unpacked, within the limits of memory
//	check     check.go       as many results as items, every index once, one vector length, one model
//	merge     merge.go       the upstreams' bytes in the order of the input, index rewritten, usage added up
//
// operation.go holds the table of operations, jsonspan finds the spans of a
// JSON document on which splitting and merging work. Numbers are never parsed
// and printed again: the digits that the upstream sent are the digits in the
// answer.
package engine
