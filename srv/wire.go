package srv

// This file alone knows the DNS library.

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	// payload is the size of UDP answers that is asked for with EDNS: one that no path needs to
	// cut into fragments, which could be forged (RFC 9715, 3.2: 1400 at most; DNS flag day 2020: 1232).
	payload = 1232
	// maxUDP is how much of a UDP answer is read. Some servers send up to 4096, the old usual
	// EDNS size, whatever was asked for.
	maxUDP = 4096
	// maxStray is how many datagrams that are no reply to the query are ignored before its
	// server counts as failed. A guesser of ids gets as many guesses, of 65536 (RFC 5452, 7.2).
	maxStray = 64

	rcodeNoError  = dns.RcodeSuccess
	rcodeFormErr  = dns.RcodeFormatError
	rcodeNXDomain = dns.RcodeNameError
	rcodeNotImp   = dns.RcodeNotImplemented
)

type question struct {
	name string // in lower case, without trailing dot
	typ  Type
}

// A message is a reply that fits its question, reduced to what counts here.
type message struct {
	rcode     int
	rcodeName string
	bare      bool // without the question: it tells that the server failed, and nothing else
	truncated bool // nothing else of it is of use

	authoritative, recursive, authenticated bool

	records []rr  // of the answer section, class IN: CNAME and the type asked for
	soa     []soa // of the authority section
	ns      bool  // the authority section names servers
}

// An rr is a record. Names are in the form of zone files, without the last dot, except for "." itself.
type rr struct {
	owner                  string // in lower case
	typ                    Type
	ttl                    uint32
	target                 string // of CNAME and SRV, as received; empty if it has none
	addr                   netip.Addr
	port, priority, weight uint16
}

type soa struct {
	owner string
	ttl   uint32 // the smaller one of its TTL and its MINIMUM (RFC 2308, 5)
}

// roundTrip sends q over conn and returns the reply.
func roundTrip(conn net.Conn, network string, q question, edns bool) (*message, error) {
	if _, ok := conn.(net.PacketConn); !ok && network == "udp" {
		return nil, errors.New("the connection for UDP is no net.PacketConn")
	}
	var id [2]byte
	rand.Read(id[:]) // not the library's, which others can replace; it cannot fail
	query, err := pack(binary.BigEndian.Uint16(id[:]), q, edns)
	if err != nil {
		return nil, err
	}
	c := &dns.Conn{Conn: conn, UDPSize: maxUDP}
	if _, err := c.Write(query); err != nil {
		return nil, err
	}
	for range maxStray {
		raw, err := c.ReadMsgHeader(nil)
		if err == dns.ErrShortRead {
			raw, err = nil, nil
		}
		if err != nil {
			return nil, err
		}
		m, err := parse(raw, binary.BigEndian.Uint16(id[:]), q)
		if err == nil || network == "tcp" {
			return m, err
		}
		// Whoever guesses must not end the wait for the right one (RFC 5452, 9.1).
	}
	return nil, problem(strconv.Itoa(maxStray) + " datagrams that are no reply")
}

func pack(id uint16, q question, edns bool) ([]byte, error) {
	m := new(dns.Msg)
	m.Id = id
	m.RecursionDesired = true
	m.AuthenticatedData = true // asks for that bit in the answer (RFC 6840, 5.7)
	m.Question = []dns.Question{{Name: q.name + ".", Qtype: uint16(q.typ), Qclass: dns.ClassINET}}
	if edns {
		m.SetEdns0(payload, false)
	}
	return m.Pack()
}

// parse reads raw as the reply to q with that id. An error means that it is no such reply.
func parse(raw []byte, id uint16, q question) (*message, error) {
	if len(raw) < 12 {
		return nil, problem("message without a header")
	}
	var m dns.Msg
	bad := m.Unpack(raw) // what was read before an error is there
	switch {
	case m.Id != id:
		return nil, problem("reply with another id")
	case !m.Response || m.Opcode != dns.OpcodeQuery:
		return nil, problem("message that is no reply")
	}
	out := &message{
		rcode: m.Rcode, rcodeName: rcodeName(m.Rcode), truncated: m.Truncated,
		authoritative: m.Authoritative, recursive: m.RecursionAvailable, authenticated: m.AuthenticatedData,
	}
	if len(m.Question) == 0 && bad == nil && m.Rcode != rcodeNoError && m.Rcode != rcodeNXDomain {
		// Servers that cannot read a query send its header back, with an error.
		out.bare, out.truncated = true, false
		return out, nil
	}
	if binary.BigEndian.Uint16(raw[4:]) != 1 || len(m.Question) != 1 || m.Question[0].Qclass != dns.ClassINET ||
		m.Question[0].Qtype != uint16(q.typ) || trim(strings.ToLower(m.Question[0].Name)) != q.name {
		return nil, problem("reply to another question")
	}
	if m.Truncated {
		return out, nil // perhaps in the middle of a record
	}
	// The library takes a message that ends before its last record for a shorter one.
	if bad != nil || !bytes.Equal(raw[6:12], counts(&m)) {
		return nil, problem("reply that cannot be read")
	}
	for _, r := range m.Answer {
		if r.Header().Class != dns.ClassINET {
			continue
		}
		rec := rr{owner: owner(r), typ: Type(r.Header().Rrtype), ttl: ttl(r.Header().Ttl)}
		switch r := r.(type) {
		case *dns.CNAME:
			rec.target = trim(r.Target)
		case *dns.SRV:
			rec.target, rec.port, rec.priority, rec.weight = trim(r.Target), r.Port, r.Priority, r.Weight
		case *dns.A:
			rec.addr, _ = netip.AddrFromSlice(r.A)
		case *dns.AAAA:
			rec.addr, _ = netip.AddrFromSlice(r.AAAA)
		default:
			continue
		}
		if rec.typ == q.typ || rec.typ == typeCNAME {
			out.records = append(out.records, rec)
		}
	}
	for _, r := range m.Ns {
		switch r := r.(type) {
		case *dns.NS:
			out.ns = true
		case *dns.SOA:
			out.soa = append(out.soa, soa{owner(r), min(ttl(r.Hdr.Ttl), ttl(r.Minttl))})
		}
	}
	return out, nil
}

// counts are the numbers of records as a header has them.
func counts(m *dns.Msg) []byte {
	b := make([]byte, 0, 6)
	for _, n := range []int{len(m.Answer), len(m.Ns), len(m.Extra)} {
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	}
	return b
}

func owner(r dns.RR) string { return trim(strings.ToLower(r.Header().Name)) }

// trim takes off the last dot, which the library leaves on every name.
func trim(name string) string {
	if name == "." {
		return name
	}
	return strings.TrimSuffix(name, ".")
}

// ttl takes a TTL with the first bit set for zero (RFC 2181, 8).
func ttl(t uint32) uint32 {
	if t > 1<<31-1 {
		return 0
	}
	return t
}

func rcodeName(rcode int) string {
	if rcode == dns.RcodeBadVers {
		return "BADVERS" // RFC 6891, 9; in TSIG records alone the number stands for BADSIG
	}
	if s, ok := dns.RcodeToString[rcode]; ok {
		return s
	}
	return "RCODE" + strconv.Itoa(rcode)
}

// parseResolvConf reads the text of a resolv.conf(5).
func parseResolvConf(text []byte) config {
	c := config{timeout: defaultTimeout, attempts: defaultAttempts}
	// The library reads no further than a line of 64 KiB; it gives no other error.
	if lib, err := dns.ClientConfigFromReader(bytes.NewReader(text)); err == nil {
		c.timeout = time.Duration(min(lib.Timeout, maxTimeout)) * time.Second
		c.attempts = min(lib.Attempts, maxAttempts)
		for _, s := range lib.Servers {
			if a, ok := parseAddr(s); ok && len(c.servers) < maxServers {
				c.servers = append(c.servers, net.JoinHostPort(a.String(), lib.Port))
			}
		}
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "options" {
			continue
		}
		for _, o := range f[1:] {
			c.rotate = c.rotate || o == "rotate"
			c.tcp = c.tcp || o == "use-vc"
		}
	}
	if len(c.servers) == 0 {
		c.servers = []string{"127.0.0.1:53", "[::1]:53"}
	}
	return c
}
