package world

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

const (
	defaultTTL = 300
	// negativeTTL is what an answer that says no lives where the file has no SOA.
	negativeTTL = 60
	// maxChain is the length of CNAME chains that resolvers still follow (BIND's is 16).
	maxChain = 16
)

// A zone is all names of a world.
type zone struct {
	sets   map[string]map[uint16][]dns.RR // by name in lower case, then by type
	exists map[string]bool                // the names in sets and those above them
	order  []string                       // the names in sets as in the file
}

var zoneErrorLine = regexp.MustCompile(`(.*) at line: (\d+):\d+`)

func parseZone(sec section) (*zone, int, error) {
	z := &zone{sets: make(map[string]map[uint16][]dns.RR), exists: make(map[string]bool)}
	text := strings.Split(sec.text, "\n")
	for i, l := range text {
		if strings.HasPrefix(l, "#") {
			text[i] = ""
		}
	}
	// Lines in front make the parser count as the file does. Without $TTL a record would take that of
	// the record before it (RFC 1035, 5.1; RFC 2308, 4).
	front := strings.Repeat("\n", sec.line-1) + "$TTL " + strconv.Itoa(defaultTTL) + "\n"
	p := dns.NewZoneParser(strings.NewReader(front+strings.Join(text, "\n")), ".", "")
	for n := 0; ; n++ {
		rr, ok := p.Next()
		if !ok {
			break
		}
		if n == maxRecords {
			return nil, sec.line, fmt.Errorf("more than %d records", maxRecords)
		}
		h := rr.Header()
		if h.Class != dns.ClassINET {
			return nil, sec.line, fmt.Errorf("record of %q: the class must be IN", h.Name)
		}
		name := dns.CanonicalName(h.Name)
		if z.sets[name] == nil {
			z.sets[name] = make(map[uint16][]dns.RR)
			z.order = append(z.order, name)
		}
		z.sets[name][h.Rrtype] = append(z.sets[name][h.Rrtype], rr)
		z.exists["."] = true
		for off, end := 0, name == "."; !end; off, end = dns.NextLabel(name, off) {
			z.exists[name[off:]] = true
		}
	}
	if err := p.Err(); err != nil {
		line, text := sec.line, strings.TrimPrefix(err.Error(), "dns: ")
		if m := zoneErrorLine.FindStringSubmatch(text); m != nil {
			line, _ = strconv.Atoi(m[2])
			text = m[1]
		}
		return nil, line, fmt.Errorf("not a master file: %s", text)
	}
	return z, sec.line, nil
}

// find gives the records of a name, and whether the name exists: itself, as a name above others,
// or by a wildcard.
func (z *zone) find(name string) (map[uint16][]dns.RR, bool) {
	name = dns.CanonicalName(name)
	if z == nil {
		return nil, false
	}
	if z.exists[name] {
		return z.sets[name], true
	}
	// RFC 4592, 3.3.1: the wildcard of the closest encloser counts, and no other.
	for off, end := dns.NextLabel(name, 0); !end; off, end = dns.NextLabel(name, off) {
		if parent := name[off:]; z.exists[parent] {
			sets, ok := z.sets["*."+parent]
			return sets, ok
		}
	}
	sets, ok := z.sets["*."]
	return sets, ok
}

// answer is what a recursive server says.
func (z *zone) answer(name string, qtype uint16) (rcode int, answer, authority []dns.RR) {
	for range maxChain {
		sets, ok := z.find(name)
		if !ok {
			return dns.RcodeNameError, answer, z.soa(name)
		}
		if rrs := pick(sets, qtype); len(rrs) > 0 {
			return dns.RcodeSuccess, append(answer, owned(name, rrs)...), nil
		}
		alias := sets[dns.TypeCNAME]
		if len(alias) == 0 {
			return dns.RcodeSuccess, answer, z.soa(name)
		}
		answer = append(answer, owned(name, alias[:1])...)
		name = alias[0].(*dns.CNAME).Target
	}
	return dns.RcodeServerFailure, nil, nil
}

func pick(sets map[uint16][]dns.RR, qtype uint16) []dns.RR {
	if qtype != dns.TypeANY {
		return sets[qtype]
	}
	var types []uint16
	for t := range sets {
		types = append(types, t)
	}
	slices.Sort(types)
	var all []dns.RR
	for _, t := range types {
		all = append(all, sets[t]...)
	}
	return all
}

// owned copies records for an owner: a wildcard's get the name that was asked for, and any name
// keeps the case in which it was asked for.
func owned(name string, rrs []dns.RR) []dns.RR {
	out := make([]dns.RR, len(rrs))
	for i, rr := range rrs {
		out[i] = dns.Copy(rr)
		out[i].Header().Name = name
	}
	return out
}

// soa is what belongs to an answer that says no (RFC 2308, 3).
func (z *zone) soa(name string) []dns.RR {
	name = dns.CanonicalName(name)
	top := name
	for off, end := 0, name == "."; !end; off, end = dns.NextLabel(name, off) {
		top = name[off:]
		if z != nil && len(z.sets[top][dns.TypeSOA]) > 0 {
			return owned(top, z.sets[top][dns.TypeSOA][:1])
		}
	}
	if z != nil && len(z.sets["."][dns.TypeSOA]) > 0 {
		return owned(".", z.sets["."][dns.TypeSOA][:1])
	}
	return []dns.RR{&dns.SOA{
		Hdr: dns.RR_Header{Name: top, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: negativeTTL},
		Ns:  "ns.invalid.", Mbox: "hostmaster.invalid.",
		Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: negativeTTL,
	}}
}

// addresses are those of a name, IPv4 first, over CNAMEs as well.
func (z *zone) addresses(name string) []netip.Addr {
	var all []netip.Addr
	for _, t := range []uint16{dns.TypeA, dns.TypeAAAA} {
		_, rrs, _ := z.answer(dns.Fqdn(name), t)
		for _, rr := range rrs {
			switch rr := rr.(type) {
			case *dns.A:
				if a, ok := netip.AddrFromSlice(rr.A); ok {
					all = append(all, a.Unmap())
				}
			case *dns.AAAA:
				if a, ok := netip.AddrFromSlice(rr.AAAA); ok {
					all = append(all, a.Unmap())
				}
			}
		}
	}
	return all
}

// srvOwners are the names under which a server's SRV records stand (S2S, Resolving server
// names, 3.3, 3.4).
func srvOwners(name string) []string {
	return []string{"_matrix-fed._tcp." + name, "_matrix._tcp." + name}
}

// leads tells whether a name leads to an address and port: by its own addresses, or by its SRV
// records.
func (z *zone) leads(name string, to netip.AddrPort) bool {
	if slices.Contains(z.addresses(name), to.Addr()) {
		return true
	}
	for _, owner := range srvOwners(dns.Fqdn(name)) {
		_, rrs, _ := z.answer(owner, dns.TypeSRV)
		for _, rr := range rrs {
			if srv, ok := rr.(*dns.SRV); ok && srv.Port == to.Port() && slices.Contains(z.addresses(srv.Target), to.Addr()) {
				return true
			}
		}
	}
	return false
}

// hosts are the names of servers in the zone, as in the file and without the final dot.
func (z *zone) hosts() []string {
	var all []string
	for _, name := range z.order {
		for _, prefix := range srvOwners("") {
			name = strings.TrimPrefix(name, prefix)
		}
		name = strings.TrimSuffix(name, ".")
		if name != "" && name[0] != '*' && name[0] != '_' && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}
