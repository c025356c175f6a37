// Package guard decides which IP addresses may be dialled.
//
// A server name is chosen by a stranger, and so is every address that it
// leads to: an A record of 127.0.0.1, a redirect to 169.254.169.254, a
// delegation to a printer in the local network. The guard stands at the socket,
// as the Control hook of a [net.Dialer], and judges the address that is about to
// be connected to. A name that changes its answer between a check and the
// dial therefore gains nothing.
//
// By default it refuses everything in the IANA special-purpose address
// registries for IPv4 and IPv6 (RFC 6890), also what they call globally
// reachable: nobody serves Matrix from an AS112 sink. To this come multicast and every
// IPv6 address outside global unicast, 2000::/3 (RFC 4291, 2.4).
//
// An IPv6 address that carries an IPv4 address is judged by what it carries,
// see [Unwrap]. Two kinds are refused as they are: Teredo, 2001::/32, and the
// prefix for local translation, 64:ff9b:1::/48 (RFC 8215), whose layout each
// network chooses. A translation prefix out of a network's own global space
// (RFC 6052, 2.2) looks like any other address and cannot be told apart.
package guard

import (
	"context"
	"encoding/binary"
	"net/netip"
	"syscall"

	"mxdiscover/internal/printable"
)

// A Guard says which addresses may be dialled. The zero Guard is the default
// policy. A Guard may be used by many goroutines at once, as long as nobody
// writes to Allow.
type Guard struct {
	// Allow opens networks that the default policy refuses, such as
	// 10.0.0.0/8. What counts is the unwrapped address: 10.0.0.0/8 and
	// ::ffff:10.0.0.0/104 are the same and open also ::ffff:10.0.0.1, while
	// 2002::/16 or ::/0 opens no IPv4 address. An invalid prefix opens nothing.
	// The unspecified addresses, 0.0.0.0 and ::, stay refused: the
	// system takes them for the local machine. If nil, nothing is opened.
	Allow []netip.Prefix
}

// A DeniedError says which address was refused and why.
type DeniedError struct {
	// Addr is the address as asked, the zero Addr if there was none. Its zone may
	// hold any byte; the text of the error leaves it out.
	Addr netip.Addr
	// Unwrapped is the address that was judged, see [Unwrap].
	Unwrapped netip.Addr
	// Reason is the name of the registry's entry with its
	// reference, such as "Private-Use (RFC 1918)", or a few words where no entry decided.
	Reason string
	// Network is the refused network that the judged address lies in, the
	// smallest that has a name. It is invalid where no network decided.
	Network netip.Prefix
}

// Error gives the address, what it carries, and the reason, on one line.
func (e *DeniedError) Error() string {
	s := "may not be dialled: " + e.Reason
	if e.Network.IsValid() {
		s += ", " + e.Network.String()
	}
	if !e.Addr.IsValid() {
		return s
	}
	// A zone is free text from whoever wrote the address.
	addr, judged := e.Addr.WithZone(""), e.Unwrapped.WithZone("")
	plain := addr.String()
	if judged.IsValid() && judged != addr {
		plain += " (" + judged.String() + ")"
	}
	return plain + " " + s
}

// Check returns nil if a may be dialled, and a [*DeniedError] otherwise. The
// zero Addr and an address with a zone are refused whatever Allow says.
func (g Guard) Check(a netip.Addr) error {
	if !a.IsValid() {
		return &DeniedError{Reason: "no address"}
	}
	ip := Unwrap(a)
	if a.Zone() != "" {
		// A zone names an interface of this machine (RFC 4007, 11); no stranger
		// has a say in that.
		return &DeniedError{Addr: a, Unwrapped: ip, Reason: "address with a zone"}
	}
	if !ip.IsUnspecified() {
		for _, p := range g.Allow {
			if opens(p, ip) {
				return nil
			}
		}
	}
	if ip.Is4() {
		return check4(a, ip)
	}
	return check6(a, ip)
}

// CheckAddrPort is [Guard.Check] for text such as "192.0.2.1:443" or
// "[2001:db8::1]:443", as a dialer hands it to its Control hook. Text that does
// not parse, a host name among others, is refused with a [*DeniedError] too.
func (g Guard) CheckAddrPort(hostport string) error {
	ap, err := netip.ParseAddrPort(hostport)
	if err != nil {
		return &DeniedError{Reason: "not an IP address and port: " + printable.Quote(hostport, maxQuoted)}
	}
	return g.Check(ap.Addr())
}

// Control checks the address of a socket before it is connected; set it as the
// ControlContext of a [net.Dialer]. Networks other than tcp, tcp4 and tcp6 are
// refused: everything this module speaks runs over TCP. The context and the
// socket are not used.
func (g Guard) Control(_ context.Context, network, address string, _ syscall.RawConn) error {
	switch network {
	case "tcp", "tcp4", "tcp6":
		return g.CheckAddrPort(address)
	}
	return &DeniedError{Reason: "not a TCP network: " + printable.Quote(network, maxQuoted)}
}

// Unwrap returns the IPv4 address that an IPv6 address carries, and any
// other address as it is. Four forms carry one: IPv4-mapped ::ffff:0:0/96 and IPv4-compatible
// ::/96 without :: and ::1 (RFC 4291, 2.5.5), 6to4 2002::/16 (RFC 3056, 2) and
// NAT64 64:ff9b::/96 (RFC 6052, 2.1). A zone on such an address is lost.
func Unwrap(a netip.Addr) netip.Addr {
	if !a.Is6() {
		return a
	}
	hi, lo := halves(a)
	switch {
	case hi == 0 && lo>>32 == 0xffff: // ::ffff:a.b.c.d
		return from4(uint32(lo))
	case hi == 0 && lo>>32 == 0 && lo > 1: // ::a.b.c.d
		return from4(uint32(lo))
	case hi>>48 == 0x2002: // 2002:aabb:ccdd::
		return from4(uint32(hi >> 16))
	case hi == 0x0064_ff9b_0000_0000 && lo>>32 == 0: // 64:ff9b::a.b.c.d
		return from4(uint32(lo))
	}
	return a
}

// opens tells whether an operator's prefix holds an unwrapped address.
func opens(p netip.Prefix, ip netip.Addr) bool {
	// Contains never matches an IPv4 address with a prefix in IPv4-mapped form.
	if p.Addr().Is4In6() && p.Bits() >= mappedBits {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mappedBits)
	}
	return p.Contains(ip)
}

// mappedBits is what an IPv4-mapped address has before the IPv4 address
// (RFC 4291, 2.5.5.2).
const mappedBits = 96

func check4(asked, ip netip.Addr) error {
	b := ip.As4()
	v := binary.BigEndian.Uint32(b[:])
	var found *entry4
	for i := range special4 {
		if e := &special4[i]; e.holds(v) && (found == nil || e.bits > found.bits) {
			found = e
		}
	}
	if found == nil {
		return nil
	}
	return denied(asked, ip, int(found.bits), found.name, found.ref)
}

func check6(asked, ip netip.Addr) error {
	hi, lo := halves(ip)
	var found *entry6
	for i := range special6 {
		if e := &special6[i]; e.holds(hi, lo) && (found == nil || e.bits > found.bits) {
			found = e
		}
	}
	switch {
	case found != nil:
		return denied(asked, ip, int(found.bits), found.name, found.ref)
	case hi>>61 != 0b001: // 2000::/3
		return denied(asked, ip, 3, "Outside Global Unicast", "RFC 4291, Section 2.4")
	}
	return nil
}

// denied says that the first bits of ip decided.
func denied(asked, ip netip.Addr, bits int, name, ref string) *DeniedError {
	return &DeniedError{
		Addr:      asked,
		Unwrapped: ip,
		Reason:    name + " (" + ref + ")",
		Network:   netip.PrefixFrom(ip, bits).Masked(),
	}
}

func from4(v uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], v)
	return netip.AddrFrom4(b)
}

func halves(a netip.Addr) (hi, lo uint64) {
	b := a.As16()
	return binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
}

// maxQuoted bounds how much of a refused text an error repeats, in bytes. The
// longest address with its port, all eight groups written out, has 47.
const maxQuoted = 64
