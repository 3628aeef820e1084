package engine

import (
	"fmt"
	"net/netip"
	"syscall"
)

// A ForbiddenAddressError is an address that a target chosen by a caller may
// not have, because it is not on the public Internet.
type ForbiddenAddressError struct {
	// Address is the address as it was judged; at dial time with its port.
	Address string
	// Reason says what the address is for, such as "loopback".
	Reason string
}

func (e *ForbiddenAddressError) Error() string {
	return fmt.Sprintf("address %s is not public: %s", e.Address, e.Reason)
}

// A reservedBlock is a block of addresses that are not globally reachable
// unicast addresses, or that stand for other addresses.
type reservedBlock struct {
	prefix netip.Prefix
	reason string
}

// reservedBlocks are the blocks that [PublicAddress] refuses, from the IANA
// IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890, RFC 8190,
// https://www.iana.org/assignments/iana-ipv4-special-registry and
// https://www.iana.org/assignments/iana-ipv6-special-registry), the IPv4
// multicast space (RFC 5771) and the deprecated site-local prefix (RFC 3879).
// The few globally reachable anycast services in 192.0.0.0/24 and 2001::/23 are
// refused with their blocks: no model server is there. IPv6 blocks that carry
// an IPv4 address in them are refused whole, whatever the address.
var reservedBlocks = []reservedBlock{
	{netip.MustParsePrefix("0.0.0.0/8"), "this network (RFC 791)"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private use (RFC 1918)"},
	{netip.MustParsePrefix("100.64.0.0/10"), "shared address space (RFC 6598)"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback (RFC 1122)"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local (RFC 3927)"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private use (RFC 1918)"},
	{netip.MustParsePrefix("192.0.0.0/24"), "protocol assignments (RFC 6890)"},
	{netip.MustParsePrefix("192.0.2.0/24"), "documentation (RFC 5737)"},
	{netip.MustParsePrefix("192.88.99.0/24"), "6to4 relay anycast (RFC 7526)"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private use (RFC 1918)"},
	{netip.MustParsePrefix("198.18.0.0/15"), "benchmarking (RFC 2544)"},
	{netip.MustParsePrefix("198.51.100.0/24"), "documentation (RFC 5737)"},
	{netip.MustParsePrefix("203.0.113.0/24"), "documentation (RFC 5737)"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast (RFC 5771)"},
	{netip.MustParsePrefix("255.255.255.255/32"), "limited broadcast (RFC 919)"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved (RFC 1112)"},

	{netip.MustParsePrefix("::/128"), "unspecified (RFC 4291)"},
	{netip.MustParsePrefix("::1/128"), "loopback (RFC 4291)"},
	{netip.MustParsePrefix("::/96"), "IPv4-compatible (RFC 4291)"},
	{netip.MustParsePrefix("64:ff9b::/96"), "IPv4/IPv6 translation (RFC 6052)"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "IPv4/IPv6 translation (RFC 8215)"},
	{netip.MustParsePrefix("100::/64"), "discard-only (RFC 6666)"},
	{netip.MustParsePrefix("100:0:0:1::/64"), "dummy prefix (RFC 9780)"},
	{netip.MustParsePrefix("2001::/23"), "protocol assignments (RFC 2928)"},
	{netip.MustParsePrefix("2001:db8::/32"), "documentation (RFC 3849)"},
	{netip.MustParsePrefix("2002::/16"), "6to4 (RFC 3056)"},
	{netip.MustParsePrefix("3fff::/20"), "documentation (RFC 9637)"},
	{netip.MustParsePrefix("5f00::/16"), "segment routing (RFC 9602)"},
	{netip.MustParsePrefix("fc00::/7"), "unique local (RFC 4193)"},
	{netip.MustParsePrefix("fe80::/10"), "link-local (RFC 4291)"},
	{netip.MustParsePrefix("fec0::/10"), "site-local (RFC 3879)"},
	{netip.MustParsePrefix("ff00::/8"), "multicast (RFC 4291)"},
}

// globalUnicast is the only IPv6 space that IANA gives out as global unicast
// addresses (RFC 4291, section 2.4, and the registry of the address space).
var globalUnicast = netip.MustParsePrefix("2000::/3")

// PublicAddress returns nil when ip is a globally reachable unicast address,
// and a [*ForbiddenAddressError] otherwise. An IPv4-mapped IPv6 address is
// judged as the IPv4 address that is dialled for it.
func PublicAddress(ip netip.Addr) error {
	if reason := whyNotPublic(ip); reason != "" {
		return &ForbiddenAddressError{Address: ip.String(), Reason: reason}
	}
	return nil
}

// PublicOnly refuses connections to addresses that are not public, for
// [net.Dialer.Control]. It sees the address that is dialled after names were
// resolved, so a name cannot answer with one address to a check and with
// another to the connection. The error is a [*ForbiddenAddressError].
func PublicOnly(network, address string, _ syscall.RawConn) error {
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		return &ForbiddenAddressError{Address: address, Reason: "network " + network + " is not TCP"}
	}
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return &ForbiddenAddressError{Address: address, Reason: "not an IP address with a port"}
	}
	if reason := whyNotPublic(to.Addr()); reason != "" {
		return &ForbiddenAddressError{Address: address, Reason: reason}
	}
	return nil
}

// whyNotPublic returns what keeps ip from being public, empty when it is
// public.
func whyNotPublic(ip netip.Addr) string {
	if !ip.IsValid() {
		return "not an IP address"
	}
	if ip.Zone() != "" {
		return "it has a zone (RFC 4007)"
	}
	ip = ip.Unmap()
	for i := range reservedBlocks {
		if reservedBlocks[i].prefix.Contains(ip) {
			return reservedBlocks[i].reason
		}
	}
	if ip.Is6() && !globalUnicast.Contains(ip) {
		return "not global unicast (RFC 4291)"
	}
	return ""
}
