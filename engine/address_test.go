package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
)

func TestPublicAddress(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		public    []string
		forbidden []string
	}{
		"unspecified addresses and this network are no destinations": {
			forbidden: []string{"0.0.0.0", "0.0.0.1", "0.255.255.255", "::"},
			public:    []string{"1.0.0.0"},
		},
		"private 10/8": {
			forbidden: []string{"10.0.0.0", "10.255.255.255"},
			public:    []string{"9.255.255.255", "11.0.0.0"},
		},
		"private 172.16/12": {
			forbidden: []string{"172.16.0.0", "172.31.255.255"},
			public:    []string{"172.15.255.255", "172.32.0.0"},
		},
		"private 192.168/16": {
			forbidden: []string{"192.168.0.0", "192.168.255.255"},
			public:    []string{"192.167.255.255", "192.169.0.0"},
		},
		"shared 100.64/10": {
			forbidden: []string{"100.64.0.0", "100.127.255.255"},
			public:    []string{"100.63.255.255", "100.128.0.0"},
		},
		"loopback": {
			forbidden: []string{"127.0.0.0", "127.0.0.1", "127.255.255.255", "::1"},
			public:    []string{"126.255.255.255", "128.0.0.0"},
		},
		"link-local, where clouds serve credentials": {
			forbidden: []string{"169.254.0.0", "169.254.169.254", "169.254.255.255", "fe80::", "fe80::1", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
			public:    []string{"169.253.255.255", "169.255.0.0"},
		},
		"protocol assignments of IPv4": {
			forbidden: []string{"192.0.0.0", "192.0.0.9", "192.0.0.255"},
			public:    []string{"191.255.255.255", "192.0.1.0"},
		},
		"documentation of IPv4": {
			forbidden: []string{
				"192.0.2.0", "192.0.2.255", "198.51.100.0", "198.51.100.255", "203.0.113.0", "203.0.113.255",
			},
			public: []string{
				"192.0.1.255", "192.0.3.0", "198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0",
			},
		},
		"6to4 relays": {
			forbidden: []string{"192.88.99.0", "192.88.99.1", "192.88.99.255"},
			public:    []string{"192.88.98.255", "192.88.100.0"},
		},
		"benchmarking of IPv4": {
			forbidden: []string{"198.18.0.0", "198.19.255.255"},
			public:    []string{"198.17.255.255", "198.20.0.0"},
		},
		"multicast, reserved and broadcast of IPv4": {
			forbidden: []string{"224.0.0.0", "239.255.255.255", "240.0.0.0", "255.255.255.254", "255.255.255.255"},
			public:    []string{"223.255.255.255"},
		},
		"IPv4-mapped addresses are judged as IPv4": {
			forbidden: []string{"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0.0.0.0"},
			public:    []string{"::ffff:8.8.8.8"},
		},
		"IPv4-compatible addresses": {
			forbidden: []string{"::2", "::127.0.0.1", "::8.8.8.8", "::255.255.255.255"},
		},
		"IPv4 in IPv6 for translators": {
			forbidden: []string{
				"64:ff9b::", "64:ff9b::8.8.8.8", "64:ff9b::ffff:ffff",
				"64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
				"::ffff:0:127.0.0.1",
			},
		},
		"discard-only and dummy prefixes": {
			forbidden: []string{"100::", "100::ffff:ffff:ffff:ffff", "100:0:0:1::", "100:0:0:1:ffff:ffff:ffff:ffff"},
		},
		"protocol assignments of IPv6: Teredo, benchmarking, ORCHID and others": {
			forbidden: []string{
				"2001::", "2001::1", "2001:2::1", "2001:4:112::1", "2001:10::1", "2001:20::1", "2001:30::1",
				"2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
			},
			public: []string{"2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:200::"},
		},
		"documentation of IPv6": {
			forbidden: []string{
				"2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
			},
			public: []string{"2001:db7:ffff::", "2001:db9::", "3ffe:ffff::", "3fff:1000::"},
		},
		"6to4": {
			forbidden: []string{"2002::", "2002:7f00:1::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
			public:    []string{"2001:ffff::", "2003::"},
		},
		"segment routing": {
			forbidden: []string{"5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		},
		"unique local": {
			forbidden: []string{"fc00::", "fd00::1", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		},
		"site-local": {
			forbidden: []string{"fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		},
		"multicast of IPv6": {
			forbidden: []string{"ff00::", "ff02::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		},
		"outside of the global unicast space nothing is public": {
			forbidden: []string{"1fff:ffff::", "4000::", "8000::", "fe00::", "200::1"},
			public:    []string{"2000::", "3fff:ffff::", "2606:4700:4700::1111", "2620:4f:8000::1"},
		},
		"zoned addresses": {
			forbidden: []string{"fe80::1%eth0", "2606:4700:4700::1111%eth0"},
		},
		"well-known public addresses": {
			public: []string{"8.8.8.8", "1.1.1.1", "192.31.196.1", "192.52.193.1", "192.175.48.1"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, s := range test.public {
				if err := PublicAddress(netip.MustParseAddr(s)); err != nil {
					t.Errorf("PublicAddress(%s) = %v, want nil", s, err)
				}
			}
			for _, s := range test.forbidden {
				forbidden, ok := errors.AsType[*ForbiddenAddressError](PublicAddress(netip.MustParseAddr(s)))
				if !ok {
					t.Errorf("PublicAddress(%s) = nil, want a ForbiddenAddressError", s)
					continue
				}
				if forbidden.Address != netip.MustParseAddr(s).String() || forbidden.Reason == "" {
					t.Errorf("PublicAddress(%s) = %+v, want the address and a reason", s, forbidden)
				}
			}
		})
	}
}

func TestPublicAddressRefusesTheZeroAddr(t *testing.T) {
	t.Parallel()
	if err := PublicAddress(netip.Addr{}); err == nil {
		t.Error("PublicAddress of the zero Addr = nil, want an error")
	}
}

// TestReservedBlocksAreRefusedWhole checks both ends of every block, so that no
// block of the table can be shadowed or mistyped into another family.
func TestReservedBlocksAreRefusedWhole(t *testing.T) {
	t.Parallel()
	for _, block := range reservedBlocks {
		if block.prefix != block.prefix.Masked() {
			t.Errorf("block %s has bits set behind its prefix", block.prefix)
		}
		for _, ip := range []netip.Addr{block.prefix.Addr(), lastAddr(block.prefix)} {
			if PublicAddress(ip) == nil {
				t.Errorf("PublicAddress(%s) = nil, want an error for an address of %s", ip, block.prefix)
			}
		}
	}
}

func lastAddr(p netip.Prefix) netip.Addr {
	bytes := p.Addr().AsSlice()
	for i := p.Bits(); i < len(bytes)*8; i++ {
		bytes[i/8] |= 1 << (7 - i%8)
	}
	last, _ := netip.AddrFromSlice(bytes)
	return last
}

func TestPublicOnly(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		network, address string
		forbidden        bool
	}{
		"a public IPv4 address is dialled":               {network: "tcp4", address: "8.8.8.8:443"},
		"a public IPv6 address is dialled":               {network: "tcp6", address: "[2606:4700:4700::1111]:443"},
		"the network tcp is dialled":                     {network: "tcp", address: "8.8.8.8:443"},
		"loopback is refused":                            {network: "tcp4", address: "127.0.0.1:443", forbidden: true},
		"an IPv4-mapped private address is refused":      {network: "tcp6", address: "[::ffff:10.1.2.3]:443", forbidden: true},
		"a zoned address is refused":                     {network: "tcp6", address: "[fe80::1%lo]:443", forbidden: true},
		"an address without a port is refused":           {network: "tcp4", address: "8.8.8.8", forbidden: true},
		"a name is refused":                              {network: "tcp4", address: "example.com:443", forbidden: true},
		"an empty address is refused":                    {network: "tcp", address: "", forbidden: true},
		"a network other than TCP is refused":            {network: "udp4", address: "8.8.8.8:443", forbidden: true},
		"a socket of the file system is refused":         {network: "unix", address: "/run/docker.sock", forbidden: true},
		"an IPv4 address with a leading zero is refused": {network: "tcp4", address: "8.8.8.08:443", forbidden: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := PublicOnly(test.network, test.address, nil)
			forbidden, isForbidden := errors.AsType[*ForbiddenAddressError](err)
			if isForbidden != test.forbidden || (err != nil) != test.forbidden {
				t.Fatalf("PublicOnly(%q, %q) = %v, forbidden: want %t", test.network, test.address, err, test.forbidden)
			}
			if isForbidden && forbidden.Address != test.address {
				t.Errorf("Address = %q, want %q", forbidden.Address, test.address)
			}
		})
	}
}

// TestPublicOnlyGuardsADialer dials a listener on loopback, through a name too:
// the check must see what the name was resolved to.
func TestPublicOnlyGuardsADialer(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	port := listener.Addr().(*net.TCPAddr).Port

	dialer := &net.Dialer{Control: PublicOnly}
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]"} {
		conn, err := dialer.DialContext(context.Background(), "tcp", fmt.Sprintf("%s:%d", host, port))
		if err == nil {
			_ = conn.Close()
			t.Errorf("dialling %s succeeded, want a ForbiddenAddressError", host)
			continue
		}
		if _, ok := errors.AsType[*ForbiddenAddressError](err); !ok {
			t.Errorf("dialling %s: %v, want a ForbiddenAddressError", host, err)
		}
	}
}
