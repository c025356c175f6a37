// Package clientaddr says whom a request comes from: the other end of the
// connection, or, if that is a proxy of one's own, whom it speaks for.
//
// X-Forwarded-For is a list to which each proxy adds the address that it was
// called from, at the end. Anybody can send one. So it is read from its end, and
// only as far as the addresses are those of trusted proxies: the first that is
// not is the client, and what stands before it is hearsay.
package clientaddr

import (
	"net/http"
	"net/netip"
	"strings"
)

// An Origin is where a request comes from.
type Origin struct {
	Peer    netip.Addr // the other end of the connection; invalid for what is no IP
	Client  netip.Addr // the peer, or whom it speaks for
	Trusted bool       // the peer is one of the trusted
}

// Of reads the request's RemoteAddr and, if that is in trusted, its
// X-Forwarded-For. An entry that is no address ends the reading.
func Of(r *http.Request, trusted []netip.Prefix) Origin {
	to, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return Origin{}
	}
	peer := plain(to.Addr())
	from := Origin{Peer: peer, Client: peer, Trusted: Contains(trusted, peer)}
	if !from.Trusted {
		return from
	}
	// Each proxy adds at the end: from there, the first that is none of ours.
	list := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(list) - 1; i >= 0 && Contains(trusted, from.Client); i-- {
		addr, err := netip.ParseAddr(strings.TrimSpace(list[i]))
		if err != nil {
			break
		}
		from.Client = plain(addr)
	}
	return from
}

// Contains tells whether one of the networks holds addr, which has no zone and
// is no IPv4 address in IPv6 form, as those of an Origin are.
func Contains(networks []netip.Prefix, addr netip.Addr) bool {
	for _, network := range networks {
		if network.Contains(addr) {
			return true
		}
	}
	return false
}

// plain takes away what prefixes do not match: the zone, and IPv6 around an
// IPv4 address.
func plain(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }
