package world

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	// maxInFlight is how many questions over UDP one server works on; more are lost, as with any
	// server that has too much to do.
	maxInFlight = 512
	// idleTimeout is for TCP (RFC 7766, 6.2.3 leaves it to the server).
	idleTimeout = 10 * time.Second
	// ednsSize is the payload that avoids fragments (RFC 9715, 3).
	ednsSize = 1232
)

// A dnsFault is one line of a section "dns".
type dnsFault struct {
	line         int
	server       int    // counted from 1; 0 means all
	name         string // canonical, "*", or "*.suffix."
	qtype        uint16 // 0 means all
	kind         string
	rcode        int
	delay        time.Duration
	extra        dns.RR
	first, after int // 0 means always
}

func parseDNSFault(f []string) (*dnsFault, error) {
	fault := &dnsFault{}
	var err error
	if n, ok := strings.CutPrefix(f[0], "@"); ok {
		if fault.server, err = number(n, 1, maxDNSServers); err != nil {
			return nil, err
		}
		f = f[1:]
	}
	if len(f) >= 5 {
		switch n := len(f); f[n-2] {
		case "first":
			fault.first, err = number(f[n-1], 1, 1<<30)
			f = f[:n-2]
		case "after":
			fault.after, err = number(f[n-1], 1, 1<<30)
			f = f[:n-2]
		}
		if err != nil {
			return nil, err
		}
	}
	if len(f) < 3 {
		return nil, fmt.Errorf("a line is NAME TYPE FAULT")
	}
	if _, ok := dns.IsDomainName(f[0]); !ok {
		return nil, fmt.Errorf("%q is no domain name", f[0])
	}
	if fault.name = dns.CanonicalName(f[0]); f[0] == "*" {
		fault.name = "*"
	}
	if f[1] != "*" {
		t, ok := dns.StringToType[f[1]]
		if !ok || t == dns.TypeNone {
			return nil, fmt.Errorf("unknown type %q", f[1])
		}
		fault.qtype = t
	}
	fault.kind = f[2]
	args := f[3:]
	switch fault.kind {
	case "rcode":
		code, ok := -1, len(args) == 1
		if ok {
			code, ok = dns.StringToRcode[args[0]]
		}
		// More than four bits need EDNS (RFC 6891, 6.1.3), which a question need not have.
		if !ok || code > 15 {
			return nil, fmt.Errorf("rcode needs one name such as SERVFAIL")
		}
		fault.rcode, args = code, nil
	case "delay":
		if len(args) != 1 {
			return nil, fmt.Errorf("delay needs one duration")
		}
		if fault.delay, err = duration(args[0]); err != nil {
			return nil, err
		}
		args = nil
	case "extra":
		rr, err := dns.NewRR(strings.Join(args, " "))
		if err != nil || rr == nil {
			return nil, fmt.Errorf("extra needs a record: %v", err)
		}
		fault.extra, args = rr, nil
	case "silent", "truncate", "truncate-always", "wrong-id", "wrong-question", "no-qr", "garbage", "lame", "tcp-reset", "formerr-edns", "spoof-first":
	default:
		return nil, fmt.Errorf("unknown fault %q", fault.kind)
	}
	if len(args) > 0 {
		return nil, fmt.Errorf("%q: unexpected %q", fault.kind, strings.Join(args, " "))
	}
	return fault, nil
}

func (f *dnsFault) matches(server int, q dns.Question) bool {
	if f.server != 0 && f.server != server || f.qtype != 0 && f.qtype != q.Qtype {
		return false
	}
	name := dns.CanonicalName(q.Name)
	if suffix, ok := strings.CutPrefix(f.name, "*"); ok {
		return suffix == "" || strings.HasSuffix(name, suffix)
	}
	return name == f.name
}

// fits tells whether the fault is one of this transport and question.
func (f *dnsFault) fits(udp, edns bool) bool {
	switch f.kind {
	case "delay":
		return false
	case "truncate":
		return udp
	case "tcp-reset":
		return !udp
	case "formerr-edns":
		return edns
	}
	return true
}

// fault chooses what goes wrong with a question, and counts it.
func (w *World) fault(server int, q dns.Question, udp, edns bool) (chosen *dnsFault, delay time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.scene().faults.at(time.Since(w.started)) {
		if !f.matches(server, q) {
			continue
		}
		w.faultCount[f]++
		n := w.faultCount[f]
		if f.first > 0 && n > f.first || n <= f.after {
			continue
		}
		delay += f.delay
		if chosen == nil && f.fits(udp, edns) {
			chosen = f
		}
	}
	return chosen, delay
}

// answerDNS gives the messages that answer one message: none for silence. Reset asks for the
// connection to be reset.
func (w *World) answerDNS(server int, packet []byte, udp bool) (out [][]byte, reset bool) {
	var req dns.Msg
	if err := req.Unpack(packet); err != nil || req.Response {
		return nil, false // any answer could be used to harm a third one
	}
	m := new(dns.Msg)
	m.SetReply(&req)
	m.RecursionAvailable = true
	opt := req.IsEdns0()
	size := dns.MaxMsgSize
	if udp {
		size = dns.MinMsgSize
		if opt != nil {
			size = max(size, int(opt.UDPSize()))
		}
	}
	pack := func(m *dns.Msg) []byte {
		m.Truncate(size)
		b, err := m.Pack()
		if err != nil { // a name that cannot be written, of the file or of the question
			b, _ = new(dns.Msg).SetRcode(&dns.Msg{MsgHdr: req.MsgHdr}, dns.RcodeServerFailure).Pack()
		}
		return b
	}
	if opt != nil {
		m.SetEdns0(ednsSize, false)
	}
	switch {
	case req.Opcode != dns.OpcodeQuery:
		m.Rcode = dns.RcodeNotImplemented
		return [][]byte{pack(m)}, false
	case len(req.Question) != 1:
		m.Rcode = dns.RcodeFormatError
		return [][]byte{pack(m)}, false
	case req.Question[0].Qclass != dns.ClassINET:
		m.Rcode = dns.RcodeRefused
		return [][]byte{pack(m)}, false
	}
	q := req.Question[0]
	w.log(dns.Type(q.Qtype).String() + " " + logName(q.Name))

	f, delay := w.fault(server, q, udp, opt != nil)
	if !w.sleep(delay) {
		return nil, false
	}
	m.Rcode, m.Answer, m.Ns = w.scene().zones.at(time.Since(w.started)).answer(q.Name, q.Qtype)
	if f == nil {
		return [][]byte{pack(m)}, false
	}
	switch f.kind {
	case "silent":
		return nil, false
	case "tcp-reset":
		return nil, true
	case "rcode":
		m.Rcode, m.Answer, m.Ns = f.rcode, nil, nil
		if f.rcode == dns.RcodeNameError || f.rcode == dns.RcodeSuccess {
			m.Ns = w.scene().zones.at(time.Since(w.started)).soa(q.Name)
		}
	case "formerr-edns":
		// RFC 6891, 7: a server that does not know EDNS answers without it.
		m.Rcode, m.Answer, m.Ns, m.Extra = dns.RcodeFormatError, nil, nil, nil
	case "truncate", "truncate-always":
		m.Answer, m.Ns, m.Truncated = nil, nil, true
		b, _ := m.Pack() // not pack: that clears TC of a message that fits
		return [][]byte{b}, false
	case "wrong-id":
		m.Id ^= 0xffff
	case "wrong-question":
		m.Question = []dns.Question{{Name: "wrong-question.invalid.", Qtype: q.Qtype, Qclass: q.Qclass}}
	case "no-qr":
		m.Response = false
	case "garbage":
		b := []byte{byte(m.Id >> 8), byte(m.Id), 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff}
		return [][]byte{b}, false
	case "lame":
		m.RecursionAvailable, m.Answer, m.Rcode = false, nil, dns.RcodeSuccess
		m.Ns = []dns.RR{&dns.NS{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: defaultTTL}, Ns: "ns.invalid."}}
	case "extra":
		m.Answer = append(m.Answer, dns.Copy(f.extra))
	case "spoof-first":
		forged := m.Copy()
		forged.Id ^= 0xffff
		forged.Rcode, forged.Ns, forged.Answer = dns.RcodeSuccess, nil, forgedRecords(q)
		return [][]byte{pack(forged), pack(m)}, false
	}
	return [][]byte{pack(m)}, false
}

// forgedRecords lead to a host that no world should be asked for.
func forgedRecords(q dns.Question) []dns.RR {
	h := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: defaultTTL}
	switch q.Qtype {
	case dns.TypeSRV:
		return []dns.RR{&dns.SRV{Hdr: h, Port: 666, Target: "forged.invalid."}}
	case dns.TypeA:
		return []dns.RR{&dns.A{Hdr: h, A: net.IPv4(203, 0, 113, 66)}}
	case dns.TypeAAAA:
		return []dns.RR{&dns.AAAA{Hdr: h, AAAA: net.ParseIP("2001:db8::666")}}
	}
	return nil
}

func (w *World) serveUDP(server int, pc net.PacketConn) {
	slots := make(chan struct{}, maxInFlight)
	buf := make([]byte, dns.MaxMsgSize)
	for {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			if w.ctx.Err() != nil {
				return
			}
			continue // an ICMP message about an answer that nobody waited for
		}
		packet := append([]byte(nil), buf[:n]...)
		select {
		case slots <- struct{}{}:
		default:
			continue
		}
		w.spawn(func() {
			defer func() { <-slots }()
			out, _ := w.answerDNS(server, packet, true)
			for _, b := range out {
				pc.WriteTo(b, from) // what fails is lost, as datagrams are
			}
		})
	}
}

func (w *World) serveTCP(server int, c *conn) {
	defer c.Close()
	for {
		c.SetDeadline(time.Now().Add(idleTimeout))
		var length [2]byte
		if _, err := io.ReadFull(c, length[:]); err != nil {
			return
		}
		packet := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(c, packet); err != nil {
			return
		}
		out, reset := w.answerDNS(server, packet, false)
		if reset {
			c.reset()
			return
		}
		c.SetDeadline(time.Now().Add(idleTimeout))
		for _, b := range out {
			b = append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}
}
