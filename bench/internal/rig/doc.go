// Package rig is what the programs in bench share: model servers on loopback
// that go wrong on purpose and can be killed and come back, the real Caddy with
// the proxy in it, clients, and the checking of every answer.
//
// The vector of a text is a function of the text (see
// [github.com/basetenlabs/caddy-performance-proxy/engine/enginetest.Vector]), so
// that each vector of each answer is compared with what it must be, whatever
// happened on the way.
package rig
