package world_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/world"
)

// exchange sends one question and returns the messages that come, at most so many. Only in virtual
// time may more be asked for than there will be.
func exchange(t testing.TB, w *world.World, server int, network string, m *dns.Msg, most int) (out []*dns.Msg, raw [][]byte, err error) {
	t.Helper()
	dial := w.DNSDial()
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	c, err := dial(t.Context(), network, w.DNSServers()[server-1])
	require.NoError(t, err)
	defer c.Close()
	b, err := m.Pack()
	require.NoError(t, err)
	if network == "tcp" {
		b = append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
	}
	_, err = c.Write(b)
	require.NoError(t, err)
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	for len(raw) < most {
		buf := make([]byte, 65535)
		var n int
		if network == "tcp" {
			if _, err = io.ReadFull(c, buf[:2]); err == nil {
				n, err = io.ReadFull(c, buf[:binary.BigEndian.Uint16(buf)])
			}
		} else {
			n, err = c.Read(buf)
		}
		if err != nil {
			return out, raw, err
		}
		raw = append(raw, buf[:n])
		r := new(dns.Msg)
		if r.Unpack(buf[:n]) != nil {
			r = nil
		}
		out = append(out, r)
	}
	return out, raw, nil
}

func ask(t testing.TB, w *world.World, network, name string, qtype uint16) *dns.Msg {
	t.Helper()
	m := new(dns.Msg).SetQuestion(name, qtype)
	out, _, _ := exchange(t, w, 1, network, m, 1)
	require.Len(t, out, 1)
	require.NotNil(t, out[0])
	assert.Equal(t, m.Id, out[0].Id)
	assert.Equal(t, m.Question, out[0].Question)
	return out[0]
}

// summary is what a test compares: the code, and the records without their TTL where that is 300.
func summary(m *dns.Msg) string {
	parts := []string{dns.RcodeToString[m.Rcode]}
	for _, rr := range append(m.Answer, m.Ns...) {
		parts = append(parts, strings.ReplaceAll(strings.Join(strings.Fields(rr.String()), " "), " 300 IN", ""))
	}
	return strings.Join(parts, "; ")
}

func TestZone(t *testing.T) {
	t.Parallel()
	many := ""
	for i := range 60 {
		many += fmt.Sprintf("many.example. SRV 0 0 %d target-%d.many.example.\n", i, i)
	}
	text := `
-- zone --
# a comment
; another
www.example.  CNAME a.example.
a.example.    A 203.0.113.10
              A 203.0.113.11
a.example. 60 AAAA 2001:db8::1
out.example.  CNAME gone.elsewhere.
loop.example. CNAME pool.example.
pool.example. CNAME loop.example.
deep.under.example. TXT "x"
*.w.example.  A 203.0.113.12
x.y.w.example. TXT "below the wildcard"
$ORIGIN soa.example.
@             SOA ns hostmaster 1 2 3 4 17
b             TXT "b"
` + many
	const synthetic = "example. 60 IN SOA ns.invalid. hostmaster.invalid. 1 3600 600 86400 60"
	const own = "soa.example. SOA ns.soa.example. hostmaster.soa.example. 1 2 3 4 17"
	cases := []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"a.example.", dns.TypeA, "NOERROR; a.example. A 203.0.113.10; a.example. A 203.0.113.11"},
		{"A.Example.", dns.TypeAAAA, "NOERROR; A.Example. 60 IN AAAA 2001:db8::1"},
		{"www.example.", dns.TypeA, "NOERROR; www.example. CNAME a.example.; a.example. A 203.0.113.10; a.example. A 203.0.113.11"},
		{"www.example.", dns.TypeCNAME, "NOERROR; www.example. CNAME a.example."},
		{"www.example.", dns.TypeTXT, "NOERROR; www.example. CNAME a.example.; " + synthetic},
		{"a.example.", dns.TypeSRV, "NOERROR; " + synthetic},
		{"under.example.", dns.TypeA, "NOERROR; " + synthetic},
		{"none.example.", dns.TypeA, "NXDOMAIN; " + synthetic},
		{"c.soa.example.", dns.TypeA, "NXDOMAIN; " + own},
		{"b.soa.example.", dns.TypeA, "NOERROR; " + own},
		{"out.example.", dns.TypeA, "NXDOMAIN; out.example. CNAME gone.elsewhere.; elsewhere. 60 IN SOA ns.invalid. hostmaster.invalid. 1 3600 600 86400 60"},
		{"loop.example.", dns.TypeA, "SERVFAIL"},
		{"q.w.example.", dns.TypeA, "NOERROR; q.w.example. A 203.0.113.12"},
		{"q.r.w.example.", dns.TypeA, "NOERROR; q.r.w.example. A 203.0.113.12"},
		{"z.y.w.example.", dns.TypeA, "NXDOMAIN; " + synthetic},
		{"q.w.example.", dns.TypeAAAA, "NOERROR; " + synthetic},
		{".", dns.TypeA, "NOERROR; . 60 IN SOA ns.invalid. hostmaster.invalid. 1 3600 600 86400 60"},
		{"a.example.", dns.TypeANY, "NOERROR; a.example. A 203.0.113.10; a.example. A 203.0.113.11; a.example. 60 IN AAAA 2001:db8::1"},
	}
	both(t, func(t *testing.T, n world.Net) {
		w := start(t, text, n)
		for _, c := range cases {
			m := ask(t, w, "udp", c.name, c.qtype)
			assert.Equal(t, c.want, summary(m))
			assert.True(t, m.RecursionAvailable && m.RecursionDesired && m.Response)
			assert.Equal(t, c.want, summary(ask(t, w, "tcp", c.name, c.qtype)))
		}
		w.ResetAsked()
		m := ask(t, w, "udp", "many.example.", dns.TypeSRV)
		assert.True(t, m.Truncated, "too big for a datagram")
		assert.Less(t, len(m.Answer), 60)
		m = ask(t, w, "tcp", "many.example.", dns.TypeSRV)
		assert.False(t, m.Truncated)
		assert.Len(t, m.Answer, 60)
		assert.Equal(t, []string{"SRV many.example", "SRV many.example"}, w.Asked())
	})
}

func TestEDNS(t *testing.T) {
	t.Parallel()
	w := start(t, "-- zone --\na.example. A 203.0.113.10\n", world.Memory{})
	m := new(dns.Msg).SetQuestion("a.example.", dns.TypeA)
	m.SetEdns0(4096, false)
	out, _, _ := exchange(t, w, 1, "udp", m, 1)
	require.Len(t, out, 1)
	require.NotNil(t, out[0].IsEdns0())
	assert.EqualValues(t, 1232, out[0].IsEdns0().UDPSize())
}

func TestZoneLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, `
-- zone from 900s --
a.example. A 203.0.113.11
-- zone --
a.example. A 203.0.113.10
-- dns from 1800s --
a.example A rcode REFUSED
`, world.Memory{})
		for _, want := range []string{"NOERROR; a.example. A 203.0.113.10", "NOERROR; a.example. A 203.0.113.11", "REFUSED"} {
			assert.Equal(t, want, summary(ask(t, w, "udp", "a.example.", dns.TypeA)))
			time.Sleep(900 * time.Second)
		}
	})
}

func TestDNSFaults(t *testing.T) {
	t.Parallel()
	const good = "NOERROR; a.example. A 203.0.113.10"
	type seen struct {
		text      []string // of each message; "?" where it is none
		id, query bool     // of the first one
		tc, qr    bool
		err       error
	}
	cases := []struct {
		fault    string
		udp, tcp seen
	}{
		{"rcode SERVFAIL", seen{text: []string{"SERVFAIL"}}, seen{text: []string{"SERVFAIL"}}},
		{"rcode NXDOMAIN", seen{text: []string{"NXDOMAIN; example. 60 IN SOA ns.invalid. hostmaster.invalid. 1 3600 600 86400 60"}}, seen{}},
		{"silent", seen{text: []string{}}, seen{text: []string{}}},
		{"truncate", seen{text: []string{"NOERROR"}, tc: true}, seen{text: []string{good}}},
		{"truncate-always", seen{text: []string{"NOERROR"}, tc: true}, seen{text: []string{"NOERROR"}, tc: true}},
		{"wrong-id", seen{text: []string{good}, id: true}, seen{text: []string{good}, id: true}},
		{"wrong-question", seen{text: []string{good}, query: true}, seen{text: []string{good}, query: true}},
		{"no-qr", seen{text: []string{good}, qr: true}, seen{text: []string{good}, qr: true}},
		{"garbage", seen{text: []string{"?"}}, seen{text: []string{"?"}}},
		{"delay 20ms", seen{text: []string{good}}, seen{text: []string{good}}},
		{"lame", seen{text: []string{"NOERROR; . NS ns.invalid."}}, seen{}},
		{"tcp-reset", seen{text: []string{good}}, seen{text: []string{}, err: syscall.ECONNRESET}},
		{"formerr-edns", seen{text: []string{"FORMERR"}}, seen{text: []string{"FORMERR"}}},
		{"spoof-first", seen{text: []string{"NOERROR; a.example. A 203.0.113.66", good}, id: true}, seen{}},
		{"extra evil.example. A 203.0.113.66", seen{text: []string{good + "; evil.example. 3600 IN A 203.0.113.66"}}, seen{}},
	}
	for _, c := range cases {
		t.Run(c.fault, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := start(t, "-- zone --\na.example. A 203.0.113.10\n-- dns --\n# faults\nA.example. A "+c.fault+"\n", world.Memory{})
				for network, want := range map[string]seen{"udp": c.udp, "tcp": c.tcp} {
					if want.text == nil {
						want = c.udp // the same over both
					}
					m := new(dns.Msg).SetQuestion("a.example.", dns.TypeA)
					m.SetEdns0(1232, false)
					began := time.Now()
					out, raw, err := exchange(t, w, 1, network, m, 2)
					if want.err != nil {
						assert.ErrorIs(t, err, want.err)
					}
					texts := []string{}
					for _, r := range out {
						if r == nil {
							texts = append(texts, "?")
							continue
						}
						r.Extra = nil
						texts = append(texts, summary(r))
					}
					require.Equal(t, want.text, texts, network)
					if len(out) == 0 || out[0] == nil {
						continue
					}
					assert.Equal(t, want.id, out[0].Id != m.Id, network)
					assert.Equal(t, want.query, out[0].Question[0] != m.Question[0], network)
					assert.Equal(t, want.tc, out[0].Truncated, network)
					assert.Equal(t, want.qr, !out[0].Response, network)
					assert.NotEmpty(t, raw)
					if strings.HasPrefix(c.fault, "delay") {
						assert.GreaterOrEqual(t, time.Since(began), 20*time.Millisecond)
					}
				}
			})
		})
	}
}

func TestDNSFaultSelection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, `
-- options --
servers 2
-- zone --
*.example. A 203.0.113.10
-- dns --
first.example.   A rcode REFUSED first 2
after.example.   A rcode REFUSED after 1
@2 second.example. * rcode NOTIMP
*.sub.example.   A rcode FORMERR
both.example.    A truncate
both.example.    A tcp-reset
both.example.    A delay 3s
plain.example.   A formerr-edns
*                TXT rcode SERVFAIL
`, world.Memory{})
		code := func(server int, name string, qtype uint16) string {
			out, _, _ := exchange(t, w, server, "udp", new(dns.Msg).SetQuestion(name, qtype), 1)
			require.Len(t, out, 1)
			return dns.RcodeToString[out[0].Rcode]
		}
		for _, want := range []string{"REFUSED", "REFUSED", "NOERROR", "NOERROR"} {
			assert.Equal(t, want, code(1, "first.example.", dns.TypeA))
		}
		for _, want := range []string{"NOERROR", "REFUSED", "REFUSED"} {
			assert.Equal(t, want, code(2, "AFTER.example.", dns.TypeA))
		}
		assert.Equal(t, "NOERROR", code(1, "second.example.", dns.TypeA))
		assert.Equal(t, "NOTIMP", code(2, "second.example.", dns.TypeAAAA))
		assert.Equal(t, "FORMERR", code(1, "x.y.sub.example.", dns.TypeA))
		assert.Equal(t, "NOERROR", code(1, "sub.example.", dns.TypeA))
		assert.Equal(t, "SERVFAIL", code(1, "any.example.", dns.TypeTXT))
		assert.Equal(t, "NOERROR", code(1, "plain.example.", dns.TypeA), "no EDNS, no fault")
		// Delays of several seconds, so not by exchange.
		for _, network := range []string{"udp", "tcp"} {
			c, err := w.DNSDial()(t.Context(), network, w.DNSServers()[0])
			require.NoError(t, err)
			began := time.Now()
			co := &dns.Conn{Conn: c}
			require.NoError(t, co.WriteMsg(new(dns.Msg).SetQuestion("both.example.", dns.TypeA)))
			m, err := co.ReadMsg()
			if network == "udp" {
				require.NoError(t, err)
				assert.True(t, m.Truncated)
			} else {
				assert.ErrorIs(t, err, syscall.ECONNRESET)
			}
			assert.Equal(t, 3*time.Second, time.Since(began))
			c.Close()
		}
	})
}

func TestForgedRecords(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, "-- dns --\n* * spoof-first\n", world.Memory{})
		for qtype, want := range map[uint16]string{
			dns.TypeA:    "NOERROR; a. A 203.0.113.66",
			dns.TypeAAAA: "NOERROR; a. AAAA 2001:db8::666",
			dns.TypeSRV:  "NOERROR; a. SRV 0 0 666 forged.invalid.",
			dns.TypeTXT:  "NOERROR",
		} {
			out, _, err := exchange(t, w, 1, "udp", new(dns.Msg).SetQuestion("a.", qtype), 2)
			require.NoError(t, err)
			assert.Equal(t, want, summary(out[0]))
			assert.Equal(t, "NXDOMAIN; a. 60 IN SOA ns.invalid. hostmaster.invalid. 1 3600 600 86400 60", summary(out[1]))
		}
	})
}

func TestDNSOddQuestions(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, n world.Net) {
		w := start(t, "-- zone --\na.example. A 203.0.113.10\n", n)
		for want, change := range map[string]func(*dns.Msg){
			"NOTIMP":  func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify },
			"FORMERR": func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) },
			"REFUSED": func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS },
		} {
			m := new(dns.Msg).SetQuestion("a.example.", dns.TypeA)
			change(m)
			out, _, _ := exchange(t, w, 1, "udp", m, 1)
			require.Len(t, out, 1)
			assert.Equal(t, want, dns.RcodeToString[out[0].Rcode])
		}
		assert.Empty(t, w.Asked())
		ask(t, w, "udp", `a\000\"\.\ b.example.`, dns.TypeA)
		ask(t, w, "udp", ".", dns.TypeNS)
		require.Len(t, w.Asked(), 2)
		assert.NotRegexp(t, `[^ -~]`, w.Asked()[0])
		assert.Equal(t, "NS .", w.Asked()[1])

		// What is no question gets no answer, and harms nobody.
		dial := w.DNSDial()
		if dial == nil {
			dial = new(net.Dialer).DialContext
		}
		response, err := new(dns.Msg).SetReply(new(dns.Msg).SetQuestion("a.example.", dns.TypeA)).Pack()
		require.NoError(t, err)
		for _, network := range []string{"udp", "tcp"} {
			c, err := dial(context.Background(), network, w.DNSServers()[0])
			require.NoError(t, err)
			for _, junk := range [][]byte{{0}, {0, 0}, []byte(strings.Repeat("\xff", 600)), response} {
				if network == "tcp" {
					junk = append(binary.BigEndian.AppendUint16(nil, uint16(len(junk))), junk...)
				}
				_, err = c.Write(junk)
				require.NoError(t, err)
			}
			co := &dns.Conn{Conn: c}
			require.NoError(t, co.WriteMsg(new(dns.Msg).SetQuestion("a.example.", dns.TypeA)))
			m, err := co.ReadMsg()
			require.NoError(t, err)
			assert.Len(t, m.Answer, 1)
			c.Close()
		}
	})
}
