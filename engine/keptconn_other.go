//go:build !unix

package engine

import "net"

// arrived reports whether bytes wait to be read from a connection, which cannot
// be told here without reading them.
func arrived(net.Conn) bool { return false }
