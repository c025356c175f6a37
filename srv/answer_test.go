package srv

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const service = "_matrix-fed._tcp.example.org"

// A scene is one reply and what must come out of it. SRV scenes ask for service, the others for
// h.example.org. In records, "@" stands for the name asked.
type scene struct {
	name   string
	typ    Type // if zero, SRV
	rcode  int
	answer []string
	ns     []string
	edit   func(m *dns.Msg)

	want    Answer // its Rcode may be left out for NOERROR
	problem string // in place of want: why the reply is no answer
	next    string // in place of want: what is to be asked next
}

func (s *scene) question() question {
	if s.typ == 0 {
		return question{service, TypeSRV}
	}
	return question{"h.example.org", s.typ}
}

// message is the reply to q.
func (s *scene) message(t testing.TB, q *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetRcode(q, s.rcode)
	at := func(lines []string) []dns.RR {
		var out []string
		for _, l := range lines {
			out = append(out, strings.ReplaceAll(l, "@", s.question().name+"."))
		}
		return rrs(t, out)
	}
	m.RecursionAvailable = true
	m.Answer, m.Ns = at(s.answer), at(s.ns)
	if s.edit != nil {
		s.edit(m)
	}
	return m
}

func addrs(list ...string) (out []netip.Addr) {
	for _, a := range list {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func scenes() []scene {
	rec := func(target string, port, priority, weight uint16) Record {
		return Record{target, port, priority, weight}
	}
	soaLine := "example.org. 900 IN SOA ns.example.org. root.example.org. 1 2 3 4 600"
	var thirty []string
	var first []Record
	var excess []Dropped
	for i := range 40 {
		r := rec(fmt.Sprintf("s%02d.example.org", i), 8448, uint16(i), 0)
		thirty = append(thirty, fmt.Sprintf("@ 300 IN SRV %d 0 8448 %s.", 39-i, fmt.Sprintf("s%02d.example.org", 39-i)))
		if i < MaxRecords {
			first = append(first, r)
		} else {
			excess = append(excess, Dropped{r, DropExcess})
		}
	}
	var many []string
	var manyAddrs []netip.Addr
	for i := range 40 {
		many = append(many, fmt.Sprintf("@ 300 IN A 192.0.2.%d", i))
		if i < MaxAddrs {
			manyAddrs = append(manyAddrs, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
		}
	}
	chain := func(n int) (lines []string) {
		from := "@"
		for i := range n {
			to := fmt.Sprintf("c%d.example.net.", i+1)
			lines = append(lines, fmt.Sprintf("%s 300 IN CNAME %s", from, to))
			from = to
		}
		return append(lines, from+" 300 IN A 192.0.2.1")
	}
	found := func(ttl time.Duration, r ...Record) Answer {
		return Answer{Outcome: Found, Records: r, TTL: ttl}
	}
	s1 := rec("s.example.org", 8443, 10, 5)
	return []scene{
		{name: "one record", answer: []string{"@ 300 IN SRV 10 5 8443 s.example.org."}, want: found(5*time.Minute, s1)},
		{name: "owner and target in another case", answer: []string{"_MATRIX-fed._tcp.Example.ORG. 300 IN SRV 10 5 8443 S.example.org."},
			want: found(5*time.Minute, rec("S.example.org", 8443, 10, 5))},
		{name: "order does not depend on the server",
			answer: []string{"@ 60 IN SRV 20 1 1 a.example.", "@ 60 IN SRV 10 1 2 b.example.", "@ 60 IN SRV 10 9 3 c.example.", "@ 60 IN SRV 10 1 1 b.example.", "@ 60 IN SRV 10 1 2 A.example."},
			want:   found(time.Minute, rec("c.example", 3, 10, 9), rec("A.example", 2, 10, 1), rec("b.example", 1, 10, 1), rec("b.example", 2, 10, 1), rec("a.example", 1, 20, 1))},
		{name: "mixed TTLs", answer: []string{"@ 300 IN SRV 0 0 1 a.example.", "@ 60 IN SRV 0 0 2 b.example."},
			want: found(time.Minute, rec("a.example", 1, 0, 0), rec("b.example", 2, 0, 0))},
		{name: "TTL 0", answer: []string{"@ 0 IN SRV 10 5 8443 s.example.org."}, want: found(5*time.Second, s1)},
		{name: "TTL of two days", answer: []string{"@ 172800 IN SRV 10 5 8443 s.example.org."}, want: found(24*time.Hour, s1)},
		{name: "TTL with the first bit set is 0", answer: []string{"@ 300 IN SRV 10 5 8443 s.example.org."},
			edit: func(m *dns.Msg) { m.Answer[0].Header().Ttl = 1<<31 + 300 }, want: found(5*time.Second, s1)},
		{name: "AD", answer: []string{"@ 300 IN SRV 10 5 8443 s.example.org."}, edit: func(m *dns.Msg) { m.AuthenticatedData = true },
			want: Answer{Outcome: Found, Records: []Record{s1}, TTL: 5 * time.Minute, Authenticated: true}},
		{name: "more records than are kept", answer: thirty, want: Answer{Outcome: Found, Records: first, Dropped: excess, TTL: 5 * time.Minute}},

		{name: "A beside SRV", answer: []string{"@ 5 IN A 192.0.2.1", "@ 300 IN SRV 10 5 8443 s.example.org."}, want: found(5*time.Minute, s1)},
		{name: "CNAME beside SRV", answer: []string{"@ 5 IN CNAME other.example.", "@ 300 IN SRV 10 5 8443 s.example.org.", "other.example. 300 IN SRV 0 0 1 evil.example."},
			want: found(5*time.Minute, s1)},
		{name: "TXT beside SRV", answer: []string{"@ 5 IN TXT evil", "@ 300 IN SRV 10 5 8443 s.example.org."}, want: found(5*time.Minute, s1)},
		{name: "DNAME", answer: []string{"example.org. 300 IN DNAME example.net.", "@ 300 IN CNAME _matrix-fed._tcp.example.net.", "_matrix-fed._tcp.example.net. 300 IN SRV 10 5 8443 s.example.org."},
			want: Answer{Outcome: Found, Records: []Record{s1}, TTL: 5 * time.Minute, Canonical: "_matrix-fed._tcp.example.net"}},
		{name: "another owner", answer: []string{"_matrix-fed._tcp.example.org.corp.lan. 300 IN SRV 0 0 1 evil.example."}, want: Answer{Outcome: Absent, TTL: 5 * time.Second}},
		{name: "another class", answer: []string{"@ 300 CH SRV 0 0 1 evil.example."}, want: Answer{Outcome: Absent, TTL: 5 * time.Second}},
		{name: "in the wrong section", ns: []string{"@ 300 IN SRV 0 0 1 evil.example."}, want: Answer{Outcome: Absent, TTL: 5 * time.Second}},

		{name: "sole root target", answer: []string{"@ 300 IN SRV 0 0 0 ."}, want: Answer{Outcome: Unavailable, TTL: 5 * time.Minute}},
		{name: "root target among others", answer: []string{"@ 300 IN SRV 0 0 1 .", "@ 300 IN SRV 10 5 8443 s.example.org."},
			want: Answer{Outcome: Found, Records: []Record{s1}, Dropped: []Dropped{{rec(".", 1, 0, 0), DropRoot}}, TTL: 5 * time.Minute}},
		{name: "bad ones dropped, good ones kept",
			answer: []string{
				"@ 300 IN SRV 1 0 0 s.example.org.", "@ 300 IN SRV 2 0 1 192.0.2.1.", "@ 300 IN SRV 3 0 1 ::1.", "@ 300 IN SRV 4 0 1 a.example.12.",
				`@ 300 IN SRV 5 0 1 a\010b.example.`, `@ 300 IN SRV 6 0 1 a\.b.example.`, `@ 300 IN SRV 7 0 1 b\195\188cher.example.`, "@ 300 IN SRV 8 0 1 a/b.example.",
				"@ 300 IN SRV 10 5 8443 s.example.org.", "@ 300 IN SRV 11 0 8443 S.EXAMPLE.org.", "@ 300 IN SRV 12 0 1 under_score.example."},
			want: Answer{Outcome: Found, TTL: 5 * time.Minute, Records: []Record{s1, rec("under_score.example", 1, 12, 0)}, Dropped: []Dropped{
				{rec("s.example.org", 0, 1, 0), DropPort}, {rec("192.0.2.1", 1, 2, 0), DropAddress}, {rec("::1", 1, 3, 0), DropAddress}, {rec("a.example.12", 1, 4, 0), DropAddress},
				{rec(`a\010b.example`, 1, 5, 0), DropName}, {rec(`a\.b.example`, 1, 6, 0), DropName}, {rec(`b\195\188cher.example`, 1, 7, 0), DropName}, {rec("a/b.example", 1, 8, 0), DropName},
				{rec("S.EXAMPLE.org", 8443, 11, 0), DropDuplicate}}}},
		{name: "nothing but bad ones", answer: []string{"@ 300 IN SRV 0 0 1 127.0.0.1.", "@ 300 IN SRV 0 0 0 ."},
			want: Answer{Outcome: Unavailable, TTL: 5 * time.Minute, Dropped: []Dropped{{rec(".", 0, 0, 0), DropRoot}, {rec("127.0.0.1", 1, 0, 0), DropAddress}}}},
		{name: "a record without data", answer: []string{"@ 300 IN SRV 0 0 1 s.example."},
			edit: func(m *dns.Msg) { m.Answer[0] = &dns.ANY{Hdr: *m.Answer[0].Header()} },
			want: Answer{Outcome: Unavailable, TTL: 5 * time.Minute, Dropped: []Dropped{{Record{}, DropName}}}},

		{name: "A", typ: TypeA, answer: []string{"@ 300 IN A 192.0.2.2", "@ 60 IN A 192.0.2.1", "@ 300 IN A 192.0.2.2", "@ 1 IN AAAA 2001:db8::1"},
			want: Answer{Outcome: Found, Addrs: addrs("192.0.2.2", "192.0.2.1"), TTL: time.Minute}},
		{name: "AAAA", typ: TypeAAAA, answer: []string{"@ 300 IN AAAA 2001:db8::1", "@ 300 IN A 192.0.2.1"}, want: Answer{Outcome: Found, Addrs: addrs("2001:db8::1"), TTL: 5 * time.Minute}},
		{name: "IPv4 inside IPv6 stays what it is", typ: TypeAAAA, answer: []string{"@ 300 IN AAAA ::ffff:127.0.0.1"},
			want: Answer{Outcome: Found, Addrs: addrs("::ffff:127.0.0.1"), TTL: 5 * time.Minute}},
		{name: "more addresses than are kept", typ: TypeA, answer: many, want: Answer{Outcome: Found, Addrs: manyAddrs, TTL: 5 * time.Minute}},
		{name: "an address without data", typ: TypeA, answer: []string{"@ 300 IN A 192.0.2.1"},
			edit: func(m *dns.Msg) { m.Answer[0] = &dns.ANY{Hdr: *m.Answer[0].Header()} }, problem: "records without an address"},

		{name: "alias", typ: TypeA, answer: []string{"@ 60 IN CNAME B.example.", "b.EXAMPLE. 300 IN A 192.0.2.1"},
			want: Answer{Outcome: Found, Addrs: addrs("192.0.2.1"), TTL: time.Minute, Canonical: "b.example"}},
		{name: "aliases in any order", typ: TypeA, answer: []string{"c.example. 300 IN A 192.0.2.1", "b.example. 50 IN CNAME c.example.", "@ 60 IN CNAME b.example."},
			want: Answer{Outcome: Found, Addrs: addrs("192.0.2.1"), TTL: 50 * time.Second, Canonical: "c.example"}},
		{name: "alias of a service", answer: []string{"@ 60 IN CNAME _x._tcp.other.example.", "_x._tcp.other.example. 300 IN SRV 10 5 8443 s.example.org."},
			want: Answer{Outcome: Found, Records: []Record{s1}, TTL: time.Minute, Canonical: "_x._tcp.other.example"}},
		{name: "eight aliases", typ: TypeA, answer: chain(8), want: Answer{Outcome: Found, Addrs: addrs("192.0.2.1"), TTL: 5 * time.Minute, Canonical: "c8.example.net"}},
		{name: "nine aliases", typ: TypeA, answer: chain(9), problem: "more than 8 aliases"},
		{name: "alias to itself", typ: TypeA, answer: []string{"@ 60 IN CNAME @"}, problem: "aliases in a loop"},
		{name: "loop", typ: TypeA, answer: []string{"@ 60 IN CNAME b.example.", "b.example. 60 IN CNAME c.example.", "c.example. 60 IN CNAME @"}, problem: "aliases in a loop"},
		{name: "two aliases", typ: TypeA, answer: []string{"@ 60 IN CNAME b.example.", "@ 60 IN CNAME c.example."}, problem: "several aliases of one name"},
		{name: "an alias twice", typ: TypeA, answer: []string{"@ 60 IN CNAME b.example.", "@ 50 IN CNAME B.example.", "b.example. 60 IN A 192.0.2.1"},
			want: Answer{Outcome: Found, Addrs: addrs("192.0.2.1"), TTL: 50 * time.Second, Canonical: "b.example"}},
		{name: "alias to odd bytes", typ: TypeA, answer: []string{`@ 60 IN CNAME a\010b\".example.`}, problem: `alias to "a\\010b\\\".example", which is no host name`},
		{name: "alias to an address", typ: TypeA, answer: []string{"@ 60 IN CNAME 127.0.0.1."}, problem: `alias to "127.0.0.1", which is no host name`},
		{name: "alias to the root", typ: TypeA, answer: []string{"@ 60 IN CNAME ."}, problem: `alias to ".", which is no host name`},
		{name: "alias that leads out", typ: TypeA, answer: []string{"@ 60 IN CNAME b.example.", "b.example. 60 IN CNAME c.example."}, next: "c.example"},
		{name: "alias that leads out, SOA of another zone", typ: TypeA, answer: []string{"@ 60 IN CNAME b.example."}, ns: []string{soaLine}, next: "b.example"},
		{name: "alias to a name without records", typ: TypeA, answer: []string{"@ 60 IN CNAME b.example.org."}, ns: []string{soaLine},
			want: Answer{Outcome: Absent, TTL: time.Minute, Canonical: "b.example.org"}},
		{name: "alias to a name that does not exist", typ: TypeA, rcode: dns.RcodeNameError, answer: []string{"@ 60 IN CNAME b.example."},
			want: Answer{Outcome: Absent, TTL: 5 * time.Second, Canonical: "b.example", Rcode: "NXDOMAIN"}},

		{name: "NXDOMAIN", rcode: dns.RcodeNameError, ns: []string{soaLine}, want: Answer{Outcome: Absent, TTL: 10 * time.Minute, Rcode: "NXDOMAIN"}},
		{name: "NODATA", ns: []string{soaLine}, want: Answer{Outcome: Absent, TTL: 10 * time.Minute}},
		{name: "NODATA of the root", ns: []string{". 900 IN SOA a. b. 1 2 3 4 600"}, want: Answer{Outcome: Absent, TTL: 10 * time.Minute}},
		{name: "SOA with a TTL below its minimum", ns: []string{"example.org. 30 IN SOA a. b. 1 2 3 4 600"}, want: Answer{Outcome: Absent, TTL: 30 * time.Second}},
		{name: "SOA minimum of a day", ns: []string{"example.org. 86400 IN SOA a. b. 1 2 3 4 86400"}, want: Answer{Outcome: Absent, TTL: time.Hour}},
		{name: "SOA minimum 0", ns: []string{"example.org. 86400 IN SOA a. b. 1 2 3 4 0"}, want: Answer{Outcome: Absent, TTL: 5 * time.Second}},
		{name: "SOA of another zone", ns: []string{"ample.org. 900 IN SOA a. b. 1 2 3 4 600"}, want: Answer{Outcome: Absent, TTL: 5 * time.Second}},
		{name: "no SOA", rcode: dns.RcodeNameError, want: Answer{Outcome: Absent, TTL: 5 * time.Second, Rcode: "NXDOMAIN"}},
		{name: "NOTIMP", rcode: dns.RcodeNotImplemented, want: Answer{Outcome: Absent, TTL: 5 * time.Second, Rcode: "NOTIMP"}},
		{name: "NXDOMAIN with records", rcode: dns.RcodeNameError, answer: []string{"@ 300 IN SRV 0 0 1 s.example."}, problem: "NXDOMAIN with records"},

		{name: "lame referral", ns: []string{"org. 900 IN NS a.example."}, edit: func(m *dns.Msg) { m.RecursionAvailable = false }, problem: "lame referral"},
		{name: "NS from a resolver", ns: []string{"org. 900 IN NS a.example."}, want: Answer{Outcome: Absent, TTL: 5 * time.Second}},
		{name: "NS with authority", ns: []string{"org. 900 IN NS a.example."}, edit: func(m *dns.Msg) { m.RecursionAvailable, m.Authoritative = false, true },
			want: Answer{Outcome: Absent, TTL: 5 * time.Second}},
		{name: "NS and SOA", ns: []string{"org. 900 IN NS a.example.", soaLine}, edit: func(m *dns.Msg) { m.RecursionAvailable = false },
			want: Answer{Outcome: Absent, TTL: 10 * time.Minute}},

		{name: "SERVFAIL", rcode: dns.RcodeServerFailure, problem: "SERVFAIL"},
		{name: "REFUSED", rcode: dns.RcodeRefused, problem: "REFUSED"},
		{name: "FORMERR", rcode: dns.RcodeFormatError, problem: "FORMERR"},
		{name: "YXDOMAIN", rcode: dns.RcodeYXDomain, problem: "YXDOMAIN"},
		{name: "unknown code", rcode: 13, problem: "RCODE13"},
		{name: "extended code", rcode: dns.RcodeBadVers, edit: func(m *dns.Msg) { m.SetEdns0(1232, false) }, problem: "BADVERS"},
		{name: "SERVFAIL with records", rcode: dns.RcodeServerFailure, answer: []string{"@ 300 IN SRV 0 0 1 s.example."}, problem: "SERVFAIL"},
		{name: "a header alone", rcode: dns.RcodeRefused, edit: func(m *dns.Msg) { m.Question = nil }, problem: "REFUSED"},
		{name: "a header alone with NOTIMP is a failure", rcode: dns.RcodeNotImplemented, edit: func(m *dns.Msg) { m.Question = nil }, problem: "NOTIMP"},
	}
}

// TestRead reads each scene as a reply.
func TestRead(t *testing.T) {
	t.Parallel()
	for _, s := range scenes() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			q := s.question()
			m, err := parse(packed(t, s.message(t, query(t, q))), 7, q)
			require.NoError(t, err)
			c := newChase(q.name, q.typ)
			before := c
			done, err := c.read(m)
			switch {
			case s.problem != "":
				require.EqualError(t, err, s.problem)
				assert.Equal(t, before, c, "a reply that is not used leaves no trace")
			case s.next != "":
				require.NoError(t, err)
				assert.False(t, done)
				assert.Equal(t, s.next, c.name)
			default:
				require.NoError(t, err)
				assert.True(t, done)
				want := s.want
				if want.Rcode == "" {
					want.Rcode = dns.RcodeToString[s.rcode]
				}
				assert.Equal(t, want, c.answer)
			}
		})
	}
}

// TestScenes asks for each scene over UDP.
func TestScenes(t *testing.T) {
	t.Parallel()
	for _, s := range scenes() {
		if s.next != "" {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			server := loopback(t, true, one(t, func(q *dns.Msg, network string) *dns.Msg {
				m := s.message(t, q)
				if network == "udp" && m.Len() > payload {
					m.Truncated, m.Answer = true, nil
				}
				return m
			}))
			q := s.question()
			c := client(server)
			a, err := (*Answer)(nil), error(nil)
			if q.typ == TypeSRV {
				a, err = c.LookupSRV(t.Context(), q.name)
			} else {
				a, err = c.LookupAddrs(t.Context(), q.name, q.typ)
			}
			if s.problem != "" {
				require.Nil(t, a)
				e := new(Error)
				require.ErrorAs(t, err, &e)
				assert.Equal(t, fmt.Sprintf("%s %s: %s from %s", q.typ, q.name, s.problem, server), err.Error())
				assert.False(t, e.Timeout())
				if s.rcode != 0 && s.problem != "NXDOMAIN with records" {
					assert.Equal(t, s.problem, e.Rcode())
				}
				assert.Nil(t, errors.Unwrap(err))
				return
			}
			require.NoError(t, err)
			assert.Equal(t, s.want.Outcome, a.Outcome)
			assert.Equal(t, s.want.Records, a.Records)
			assert.Equal(t, s.want.Addrs, a.Addrs)
			assert.Equal(t, s.want.Dropped, a.Dropped)
			assert.Equal(t, s.want.TTL, a.TTL)
			assert.Equal(t, s.want.Canonical, a.Canonical)
			assert.Equal(t, s.want.Authenticated, a.Authenticated)
			assert.Equal(t, dns.RcodeToString[s.rcode], a.Rcode)
			assert.Equal(t, q, question{a.Name, a.Type})
			assert.Equal(t, server, a.Server)
			assert.Contains(t, []string{"udp", "tcp"}, a.Network)
			assert.Positive(t, a.Duration)
		})
	}
}

// TestParse holds replies that are none.
func TestParse(t *testing.T) {
	t.Parallel()
	good := &scene{answer: []string{"@ 300 IN SRV 10 5 8443 s.example.org."}}
	tests := []struct {
		name string
		edit func(m *dns.Msg)
		raw  func(b []byte) []byte
		want string
	}{
		{name: "another id", edit: func(m *dns.Msg) { m.Id++ }, want: "reply with another id"},
		{name: "no QR", edit: func(m *dns.Msg) { m.Response = false }, want: "message that is no reply"},
		{name: "another opcode", edit: func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }, want: "message that is no reply"},
		{name: "another name", edit: func(m *dns.Msg) { m.Question[0].Name = "_matrix-fed._tcp.example.net." }, want: "reply to another question"},
		{name: "another type", edit: func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeA }, want: "reply to another question"},
		{name: "another class", edit: func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }, want: "reply to another question"},
		{name: "two questions", edit: func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }, want: "reply to another question"},
		{name: "no question", edit: func(m *dns.Msg) { m.Question = nil }, want: "reply to another question"},
		{name: "no question, NXDOMAIN", edit: func(m *dns.Msg) { m.Question, m.Rcode = nil, dns.RcodeNameError }, want: "reply to another question"},
		{name: "empty", raw: func([]byte) []byte { return nil }, want: "message without a header"},
		{name: "eleven bytes", raw: func(b []byte) []byte { return b[:11] }, want: "message without a header"},
		{name: "half a question", raw: func(b []byte) []byte { return b[:20] }, want: "reply to another question"},
		{name: "half a record", raw: func(b []byte) []byte { return b[:len(b)-3] }, want: "reply that cannot be read"},
		{name: "fewer records than counted", raw: func(b []byte) []byte { b[7] = 2; return b }, want: "reply that cannot be read"},
		{name: "more questions than there are", raw: func(b []byte) []byte { b[5] = 2; return b[:46] }, want: "reply to another question"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			q := good.question()
			m := good.message(t, query(t, q))
			if tt.edit != nil {
				tt.edit(m)
			}
			raw := packed(t, m)
			if tt.raw != nil {
				raw = tt.raw(raw)
			}
			_, err := parse(raw, 7, q)
			require.EqualError(t, err, tt.want)
		})
	}
	t.Run("question in another case", func(t *testing.T) {
		t.Parallel()
		q := good.question()
		m := good.message(t, query(t, q))
		m.Question[0].Name = strings.ToUpper(m.Question[0].Name)
		_, err := parse(packed(t, m), 7, q)
		require.NoError(t, err)
	})
}

// TestAuthenticatedChain: one reply without the bit on the way spoils it.
func TestAuthenticatedChain(t *testing.T) {
	t.Parallel()
	for _, first := range []bool{true, false} {
		c := newChase("h.example.org", TypeA)
		done, err := c.read(&message{authenticated: first, records: []rr{{owner: "h.example.org", typ: typeCNAME, ttl: 9, target: "b.example"}}})
		require.NoError(t, err)
		require.False(t, done)
		done, err = c.read(&message{authenticated: true, records: []rr{{owner: "b.example", typ: TypeA, ttl: 60, addr: netip.MustParseAddr("192.0.2.1")}}})
		require.NoError(t, err)
		require.True(t, done)
		assert.Equal(t, first, c.answer.Authenticated)
		assert.Equal(t, 9*time.Second, c.answer.TTL, "the smallest one over all replies")
	}
}

// query is a query for q with the id 7.
func query(t testing.TB, q question) *dns.Msg {
	raw, err := pack(7, q, true)
	require.NoError(t, err)
	m := new(dns.Msg)
	require.NoError(t, m.Unpack(raw))
	return m
}

func FuzzAnswer(f *testing.F) {
	for _, s := range scenes() {
		q := s.question()
		f.Add(packed(f, s.message(f, query(f, q))), uint16(q.typ))
	}
	f.Fuzz(func(t *testing.T, raw []byte, typ uint16) {
		q := question{"h.example.org", Type(typ)}
		if q.typ != TypeA && q.typ != TypeAAAA {
			q = question{service, TypeSRV}
		}
		m, err := parse(raw, 7, q)
		if err != nil || m.truncated {
			return
		}
		c := newChase(q.name, q.typ)
		done, err := c.read(m)
		if err != nil {
			for _, b := range []byte(err.Error()) {
				assert.True(t, ' ' <= b && b <= '~', "%q", err)
			}
			return
		}
		assert.LessOrEqual(t, len(c.seen), maxAliases+1)
		name, ok := cleanName(c.name)
		assert.True(t, ok && name == c.name)
		if !done {
			return
		}
		a := c.answer
		assert.LessOrEqual(t, len(a.Records), MaxRecords)
		assert.LessOrEqual(t, len(a.Dropped), MaxDropped)
		assert.LessOrEqual(t, len(a.Addrs), MaxAddrs)
		assert.True(t, minTTL <= a.TTL && a.TTL <= maxTTL)
		assert.Equal(t, a.Outcome == Found, len(a.Records)+len(a.Addrs) > 0)
		assert.True(t, a.Outcome != Absent || a.TTL <= maxAbsentTTL)
		assert.True(t, a.Outcome != Unavailable || q.typ == TypeSRV)
		for _, r := range a.Records {
			assert.Empty(t, fault(r))
			assert.NotZero(t, r.Port)
			_, ok := cleanName(r.Target)
			assert.True(t, ok, "%q", r.Target)
		}
		assert.True(t, slices.IsSortedFunc(a.Records, func(a, b Record) int { return int(a.Priority) - int(b.Priority) }))
		for _, d := range a.Dropped {
			for _, b := range []byte(d.Record.Target) {
				assert.True(t, ' ' <= b && b <= '~', "%q", d.Record.Target)
			}
		}
		for _, addr := range a.Addrs {
			assert.Equal(t, q.typ == TypeA, addr.Is4())
		}
	})
}

func BenchmarkRead(b *testing.B) {
	for _, s := range scenes() {
		if s.name != "one record" && s.name != "more records than are kept" {
			continue
		}
		b.Run(strings.ReplaceAll(s.name, " ", "-"), func(b *testing.B) {
			q := s.question()
			raw := packed(b, s.message(b, query(b, q)))
			b.ReportAllocs()
			for b.Loop() {
				m, err := parse(raw, 7, q)
				if err != nil {
					b.Fatal(err)
				}
				c := newChase(q.name, q.typ)
				if _, err := c.read(m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
