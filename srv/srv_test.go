package srv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/memnet"
)

const goodLine = service + ". 300 IN SRV 10 5 8443 s.example.org."

var goodRecord = []Record{{Target: "s.example.org", Port: 8443, Priority: 10, Weight: 5}}

// TestQuery holds what is sent.
func TestQuery(t *testing.T) {
	t.Parallel()
	var got counter
	c := client(loopback(t, true, got.wrap(records(t, goodLine))))
	for range 20 {
		a, err := c.LookupSRV(t.Context(), "_Matrix-Fed._TCP.Example.org.")
		require.NoError(t, err)
		assert.Equal(t, service, a.Name)
		assert.Equal(t, goodRecord, a.Records)
		assert.Equal(t, "udp", a.Network)
		assert.Empty(t, a.Tries)
	}
	udp, tcp := got.seen()
	assert.Empty(t, tcp)
	ids := make(map[uint16]bool)
	for _, q := range udp {
		ids[q.Id] = true
		assert.True(t, q.RecursionDesired && q.AuthenticatedData && !q.Response && !q.CheckingDisabled)
		assert.Equal(t, []dns.Question{{Name: service + ".", Qtype: dns.TypeSRV, Qclass: dns.ClassINET}}, q.Question)
		require.NotNil(t, q.IsEdns0())
		assert.Equal(t, uint16(payload), q.IsEdns0().UDPSize())
		assert.False(t, q.IsEdns0().Do())
	}
	assert.Greater(t, len(ids), 15, "ids are random")
}

// closing counts.
type closing struct {
	*net.UDPConn
	closed *atomic.Int32
}

func (c closing) Close() error {
	c.closed.Add(1)
	return c.UDPConn.Close()
}

// TestSockets: every query has a socket, and so a source port, of its own (RFC 5452, 9.2), which is
// closed after it.
func TestSockets(t *testing.T) {
	t.Parallel()
	var opened, closed atomic.Int32
	var got counter
	c := client(loopback(t, true, got.wrap(rcode(t, dns.RcodeServerFailure))))
	c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		opened.Add(1)
		return closing{conn.(*net.UDPConn), &closed}, nil
	}
	for range 3 {
		_, err := c.LookupSRV(t.Context(), service)
		require.Error(t, err)
	}
	udp, _ := got.seen()
	assert.Len(t, udp, 6)
	assert.EqualValues(t, 6, opened.Load())
	assert.EqualValues(t, 6, closed.Load())
}

func TestBadNames(t *testing.T) {
	t.Parallel()
	var got counter
	c := client(loopback(t, true, got.wrap(records(t))))
	long := strings.Repeat("a.", 126)
	both := []string{"", ".", "..", "a..b", ".a", "a b", "a\nb", "a\x00b", "bücher.example", "a%b", "a:b", "[::1]", "::1", "*.example", `a\.b`,
		strings.Repeat("a", 64) + ".example", long + "aa"}
	for _, name := range both {
		_, err := c.LookupSRV(t.Context(), name)
		require.ErrorIs(t, err, ErrName, "%q", name)
		assert.NotContains(t, err.Error(), "\n")
		assert.NotContains(t, err.Error(), "\x00")
		_, err = c.LookupAddrs(t.Context(), name, TypeA)
		require.ErrorIs(t, err, ErrName, "%q", name)
	}
	for _, name := range []string{"192.0.2.1", "1", "example.1", "1.2.3.4."} {
		_, err := c.LookupAddrs(t.Context(), name, TypeAAAA)
		require.ErrorIs(t, err, ErrName, "%q", name)
	}
	_, err := c.LookupAddrs(t.Context(), "example.org", TypeSRV)
	require.EqualError(t, err, "SRV example.org: neither A nor AAAA")
	_, err = c.LookupAddrs(t.Context(), "a\nb", TypeA)
	require.EqualError(t, err, `A "a\nb": not a DNS name`)
	udp, tcp := got.seen()
	assert.Empty(t, udp)
	assert.Empty(t, tcp)

	for _, name := range []string{long + "a", strings.Repeat("a", 63) + ".example", "-a.example", "r3---sn.example", "xn--bcher-kva.example", "localhost", "0x7f.example"} {
		_, err := c.LookupAddrs(t.Context(), name, TypeA)
		require.NoError(t, err, "%q", name)
	}
}

// TestStray: what does not fit is ignored over UDP, and ends the exchange over TCP.
func TestStray(t *testing.T) {
	t.Parallel()
	evil := service + ". 300 IN SRV 0 0 1 evil.example."
	strays := map[string]func(q, m *dns.Msg) []byte{
		"reply with another id": func(_, m *dns.Msg) []byte { m.Id++; return packed(t, m) },
		"reply to another question": func(_, m *dns.Msg) []byte {
			m.Question[0].Name = "_matrix-fed._tcp.example.net."
			return packed(t, m)
		},
		"message that is no reply": func(_, m *dns.Msg) []byte { m.Response = false; return packed(t, m) },
		"reply that cannot be read": func(_, m *dns.Msg) []byte {
			b := packed(t, m)
			return b[:len(b)-1]
		},
		"message without a header": func(_, _ *dns.Msg) []byte { return []byte("garbage") },
	}
	for problem, make := range strays {
		t.Run(problem, func(t *testing.T) {
			t.Parallel()
			server := loopback(t, true, func(q *dns.Msg, network string) [][]byte {
				bad := make(q, reply(t, q, evil))
				return [][]byte{bad, bad, packed(t, reply(t, q, goodLine))}
			})
			c := client(server)
			a, err := c.LookupSRV(t.Context(), service)
			require.NoError(t, err)
			assert.Equal(t, goodRecord, a.Records)

			other := loopback(t, true, func(q *dns.Msg, network string) [][]byte {
				if network == "udp" {
					m := reply(t, q)
					m.Truncated = true
					return [][]byte{packed(t, m)}
				}
				return [][]byte{make(q, reply(t, q, evil)), packed(t, reply(t, q, evil))}
			})
			_, err = client(other).LookupSRV(t.Context(), service)
			require.EqualError(t, err, "SRV "+service+": "+problem+" from "+other+" over TCP")

			a, err = client(other, server).LookupSRV(t.Context(), service)
			require.NoError(t, err)
			assert.Equal(t, goodRecord, a.Records)
			require.Len(t, a.Tries, 1)
			assert.Equal(t, other, a.Tries[0].Server)
			assert.Equal(t, "tcp", a.Tries[0].Network)
		})
	}
}

// TestManyStrays: the wait for the right one does not last through any number of wrong ones.
func TestManyStrays(t *testing.T) {
	t.Parallel()
	flood := func(n int) handler {
		return func(q *dns.Msg, _ string) (out [][]byte) {
			m := reply(t, q, goodLine)
			good := packed(t, m)
			m.Id++
			for range n {
				out = append(out, packed(t, m))
			}
			return append(out, good)
		}
	}
	_, err := client(loopback(t, true, flood(maxStray-1))).LookupSRV(t.Context(), service)
	require.NoError(t, err)
	server := loopback(t, true, flood(maxStray))
	_, err = client(server).LookupSRV(t.Context(), service)
	require.EqualError(t, err, "SRV "+service+": 64 datagrams that are no reply from "+server)
}

func TestTruncated(t *testing.T) {
	t.Parallel()
	var lines []string
	for i := range 30 {
		lines = append(lines, fmt.Sprintf("%s. 300 IN SRV %d 0 8448 a-rather-long-name-for-a-target-%02d.example.org.", service, i, i))
	}
	// What a UDP answer holds when it did not fit.
	cut := map[string]func(q *dns.Msg) []byte{
		"no record": func(q *dns.Msg) []byte { m := reply(t, q); m.Truncated = true; return packed(t, m) },
		"some records": func(q *dns.Msg) []byte {
			m := reply(t, q, service+". 300 IN SRV 0 0 1 partly.example.")
			m.Truncated = true
			return packed(t, m)
		},
		"half a record": func(q *dns.Msg) []byte {
			m := reply(t, q, lines...)
			m.Truncated = true
			return packed(t, m)[:512]
		},
		"SERVFAIL": func(q *dns.Msg) []byte {
			m := new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
			m.Truncated = true
			return packed(t, m)
		},
	}
	for name, cut := range cut {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := func(q *dns.Msg, network string) [][]byte {
				if network == "udp" {
					return [][]byte{cut(q)}
				}
				return [][]byte{packed(t, reply(t, q, lines...))}
			}
			a, err := client(loopback(t, true, h)).LookupSRV(t.Context(), service)
			require.NoError(t, err)
			assert.Len(t, a.Records, 30)
			assert.Equal(t, "tcp", a.Network)
			assert.Empty(t, a.Tries, "truncation is no failure")

			refused := loopback(t, false, h)
			_, err = client(refused).LookupSRV(t.Context(), service)
			require.EqualError(t, err, "SRV "+service+": connection refused from "+refused+" over TCP")
			require.ErrorIs(t, err, syscall.ECONNREFUSED)

			a, err = client(refused, loopback(t, true, records(t, goodLine))).LookupSRV(t.Context(), service)
			require.NoError(t, err)
			assert.Equal(t, goodRecord, a.Records, "and nothing of the truncated one")
		})
	}
	t.Run("over TCP too", func(t *testing.T) {
		t.Parallel()
		server := loopback(t, true, func(q *dns.Msg, _ string) [][]byte { return [][]byte{cut["some records"](q)} })
		_, err := client(server).LookupSRV(t.Context(), service)
		require.EqualError(t, err, "SRV "+service+": truncated answer over TCP from "+server+" over TCP")
	})
	t.Run("larger than asked for", func(t *testing.T) {
		t.Parallel()
		a, err := client(loopback(t, false, records(t, lines...))).LookupSRV(t.Context(), service)
		require.NoError(t, err)
		assert.Len(t, a.Records, 30)
		assert.Equal(t, "udp", a.Network)
	})
}

// TestNextServer: what one server cannot tell, the next one may.
func TestNextServer(t *testing.T) {
	t.Parallel()
	closed, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	nobody := closed.LocalAddr().String()
	closed.Close()
	lame := one(t, func(q *dns.Msg, _ string) *dns.Msg {
		m := reply(t, q)
		m.RecursionAvailable = false
		m.Ns = rrs(t, []string{"org. 900 IN NS a.example."})
		return m
	})
	tests := []struct{ server, problem, rcode string }{
		{loopback(t, true, rcode(t, dns.RcodeServerFailure)), "SERVFAIL", "SERVFAIL"},
		{loopback(t, true, rcode(t, dns.RcodeRefused)), "REFUSED", "REFUSED"},
		{loopback(t, true, rcode(t, dns.RcodeFormatError)), "FORMERR", "FORMERR"},
		{loopback(t, true, rcode(t, dns.RcodeNotZone)), "NOTZONE", "NOTZONE"},
		{loopback(t, true, lame), "lame referral", ""},
		{loopback(t, true, records(t, service+". 9 IN CNAME "+service+".")), "aliases in a loop", ""},
		{nobody, "connection refused", ""},
		{"127.0.0.1", "address 127.0.0.1: missing port in address", ""},
	}
	for _, tt := range tests {
		t.Run(tt.problem, func(t *testing.T) {
			t.Parallel()
			var got counter
			good := loopback(t, true, got.wrap(records(t, goodLine)))
			a, err := client(tt.server, good).LookupSRV(t.Context(), service)
			require.NoError(t, err)
			assert.Equal(t, goodRecord, a.Records)
			assert.Equal(t, good, a.Server)
			require.NotEmpty(t, a.Tries)
			assert.Equal(t, tt.problem, a.Tries[0].Problem)
			assert.Equal(t, tt.rcode, a.Tries[0].Rcode)
			assert.Equal(t, tt.server, a.Tries[0].Server)
			assert.Equal(t, service, a.Tries[0].Name)
			udp, _ := got.seen()
			assert.Len(t, udp, 1)

			c := client(tt.server)
			c.Attempts = 1000
			_, err = c.LookupSRV(t.Context(), service)
			e := new(Error)
			require.ErrorAs(t, err, &e)
			assert.Equal(t, "SRV "+service+": "+tt.problem+" from "+tt.server, err.Error())
			assert.Equal(t, tt.rcode, e.Rcode())
			times := maxAttempts
			if tt.rcode == "FORMERR" {
				times *= 2 // with EDNS, and without
			}
			assert.Len(t, e.Tries, times)
		})
	}
	t.Run("all of them fail", func(t *testing.T) {
		t.Parallel()
		_, err := client(tests[0].server, tests[1].server, nobody).LookupSRV(t.Context(), service)
		require.EqualError(t, err, fmt.Sprintf("SRV %s: SERVFAIL from %s; REFUSED from %s; connection refused from %s", service, tests[0].server, tests[1].server, nobody))
		var many []string
		for range 6 {
			many = append(many, loopback(t, true, rcode(t, dns.RcodeRefused)))
		}
		_, err = client(many...).LookupSRV(t.Context(), service)
		require.Error(t, err)
		assert.Contains(t, err.Error(), "; and 2 more")
	})
	t.Run("absence is an answer", func(t *testing.T) {
		t.Parallel()
		for _, code := range []int{dns.RcodeNameError, dns.RcodeNotImplemented, dns.RcodeSuccess} {
			var got counter
			a, err := client(loopback(t, true, rcode(t, code)), loopback(t, true, got.wrap(records(t, goodLine)))).LookupSRV(t.Context(), service)
			require.NoError(t, err)
			assert.Equal(t, Absent, a.Outcome)
			udp, _ := got.seen()
			assert.Empty(t, udp)
		}
	})
}

// TestWithoutEDNS: a server that does not know EDNS is asked once more without it.
func TestWithoutEDNS(t *testing.T) {
	t.Parallel()
	for _, code := range []int{dns.RcodeFormatError, dns.RcodeNotImplemented} {
		for _, bare := range []bool{false, true} {
			var got counter
			c := client(loopback(t, true, got.wrap(one(t, func(q *dns.Msg, network string) *dns.Msg {
				if q.IsEdns0() == nil {
					return reply(t, q, goodLine)
				}
				m := new(dns.Msg).SetRcode(q, code)
				if bare {
					m.Question = nil
				}
				return m
			}))))
			a, err := c.LookupSRV(t.Context(), service)
			require.NoError(t, err)
			assert.Equal(t, goodRecord, a.Records)
			udp, _ := got.seen()
			require.Len(t, udp, 2)
			assert.Nil(t, udp[1].IsEdns0())
			assert.NotEqual(t, udp[0].Id, udp[1].Id, "a query of its own")
			require.Len(t, a.Tries, 1)
			assert.Equal(t, dns.RcodeToString[code], a.Tries[0].Rcode)
		}
	}
}

// TestAliases: an alias that leads out of a reply is asked for, of the server that works.
func TestAliases(t *testing.T) {
	t.Parallel()
	// c0 is an alias of c1, and so on, each told in a reply of its own.
	chain := func(length int) handler {
		return one(t, func(q *dns.Msg, _ string) *dns.Msg {
			name := q.Question[0].Name
			var i int
			fmt.Sscanf(name, "c%d.", &i)
			if i == length {
				return reply(t, q, name+" 300 IN A 192.0.2.1")
			}
			return reply(t, q, fmt.Sprintf("%s %d IN CNAME c%d.example.", name, 100-i, i+1))
		})
	}
	bad := loopback(t, true, rcode(t, dns.RcodeRefused))

	a, err := client(bad, loopback(t, true, chain(8))).LookupAddrs(t.Context(), "c0.example", TypeA)
	require.NoError(t, err)
	assert.Equal(t, addrs("192.0.2.1"), a.Addrs)
	assert.Equal(t, "c0.example", a.Name)
	assert.Equal(t, "c8.example", a.Canonical)
	assert.Equal(t, 93*time.Second, a.TTL)
	assert.Len(t, a.Tries, 1)

	server := loopback(t, true, chain(9))
	_, err = client(server).LookupAddrs(t.Context(), "c0.example", TypeA)
	require.EqualError(t, err, "A c0.example: more than 8 aliases for c8.example from "+server)

	loop := loopback(t, true, one(t, func(q *dns.Msg, _ string) *dns.Msg {
		if q.Question[0].Name == "a.example." {
			return reply(t, q, "a.example. 9 IN CNAME b.example.")
		}
		return reply(t, q, "b.example. 9 IN CNAME A.example.")
	}))
	_, err = client(loop).LookupAddrs(t.Context(), "a.example", TypeA)
	require.EqualError(t, err, "A a.example: aliases in a loop for b.example from "+loop)
}

// TestSearchList: the search list of resolv.conf is not used, however the names there look.
func TestSearchList(t *testing.T) {
	t.Parallel()
	var got counter
	server := loopback(t, true, got.wrap(one(t, func(q *dns.Msg, _ string) *dns.Msg {
		if strings.HasSuffix(q.Question[0].Name, ".corp.lan.") { // a wildcard there
			return reply(t, q, q.Question[0].Name+" 300 IN SRV 0 0 1 evil.corp.lan.")
		}
		return new(dns.Msg).SetRcode(q, dns.RcodeNameError)
	})))
	c := client()
	c.ResolvConf = writeFile(t, "search corp.lan\ndomain corp.lan\noptions ndots:15\nnameserver 192.0.2.53\n")
	c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		assert.Equal(t, "192.0.2.53:53", address)
		return new(net.Dialer).DialContext(ctx, network, server)
	}
	a, err := c.LookupSRV(t.Context(), service)
	require.NoError(t, err)
	assert.Equal(t, Absent, a.Outcome)
	assert.Equal(t, "NXDOMAIN", a.Rcode)
	a, err = c.LookupAddrs(t.Context(), "short", TypeA)
	require.NoError(t, err)
	assert.Equal(t, Absent, a.Outcome)
	udp, _ := got.seen()
	require.Len(t, udp, 2)
	assert.Equal(t, service+".", udp[0].Question[0].Name)
	assert.Equal(t, "short.", udp[1].Question[0].Name)
}

func TestRotate(t *testing.T) {
	t.Parallel()
	var servers []string
	for range 3 {
		servers = append(servers, loopback(t, true, records(t, goodLine)))
	}
	for _, rotate := range []bool{false, true} {
		c := client(servers...)
		c.Rotate = rotate
		for i := range 7 {
			a, err := c.LookupSRV(t.Context(), service)
			require.NoError(t, err)
			if rotate {
				assert.Equal(t, servers[i%3], a.Server)
			} else {
				assert.Equal(t, servers[0], a.Server)
			}
		}
	}
	// A server that fails is passed over, wherever the look-up began.
	c := client(servers[0], loopback(t, true, rcode(t, dns.RcodeRefused)))
	c.Rotate = true
	for range 4 {
		a, err := c.LookupSRV(t.Context(), service)
		require.NoError(t, err)
		assert.Equal(t, servers[0], a.Server)
	}
}

// TestTCPOnly: "options use-vc" of resolv.conf.
func TestTCPOnly(t *testing.T) {
	t.Parallel()
	var got counter
	server := loopback(t, true, got.wrap(records(t, goodLine)))
	c := client()
	c.ResolvConf = writeFile(t, "nameserver 192.0.2.53\noptions use-vc\n")
	c.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server)
	}
	a, err := c.LookupSRV(t.Context(), service)
	require.NoError(t, err)
	assert.Equal(t, "tcp", a.Network)
	udp, tcp := got.seen()
	assert.Empty(t, udp)
	assert.Len(t, tcp, 1)
}

// TestDial: errors of the caller's own function, and a connection that is none for datagrams.
func TestDial(t *testing.T) {
	t.Parallel()
	c := client("127.0.0.1:53")
	c.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("odd\n\x1b[31m") }
	_, err := c.LookupSRV(t.Context(), service)
	require.EqualError(t, err, "SRV "+service+`: "odd\n\x1b[31m" from 127.0.0.1:53`)
	c.Dial = func(context.Context, string, string) (net.Conn, error) {
		a, b := net.Pipe()
		b.Close()
		return a, nil
	}
	_, err = c.LookupSRV(t.Context(), service)
	require.EqualError(t, err, "SRV "+service+": the connection for UDP is no net.PacketConn from 127.0.0.1:53")
	c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			conn.Close()
		}
		return conn, err
	}
	_, err = c.LookupSRV(t.Context(), service)
	require.EqualError(t, err, "SRV "+service+": use of closed network connection from 127.0.0.1:53")
	require.ErrorIs(t, err, net.ErrClosed)
}

// TestTime holds every wait, in a network in memory and in virtual time.
func TestTime(t *testing.T) {
	t.Parallel()
	const a, b, c = "192.0.2.1:53", "192.0.2.2:53", "[2001:db8::53]:53"
	good := func(t *testing.T) handler { return records(t, goodLine) }
	quiet := func(*testing.T) handler { return silent }
	type servers map[string]func(t *testing.T) handler
	tests := []struct {
		name    string
		servers servers
		ask     []string
		set     func(c *Client)
		context time.Duration // deadline of the caller; if negative, cancelled then

		want    time.Duration // how long it takes
		problem string        // the text of the error after the name
		is      error
	}{
		{name: "at once", servers: servers{a: good}, ask: []string{a}, want: 20 * time.Millisecond},
		{name: "one silent", servers: servers{a: quiet}, ask: []string{a}, want: 10 * time.Second, problem: "no answer within 5s from " + a, is: os.ErrDeadlineExceeded},
		{name: "one silent, own timeout", servers: servers{a: quiet}, ask: []string{a}, set: func(c *Client) { c.Timeout, c.Attempts = time.Second, 3 },
			want: 3 * time.Second, problem: "no answer within 1s from " + a, is: os.ErrDeadlineExceeded},
		{name: "first of two silent", servers: servers{a: quiet, b: good}, ask: []string{a, b}, want: 2520 * time.Millisecond},
		{name: "two of three silent", servers: servers{a: quiet, b: quiet, c: good}, ask: []string{a, b, c}, set: func(c *Client) { c.Timeout, c.Attempts = 30*time.Second, 1 },
			want: 6666666666 + 20*time.Millisecond},
		{name: "first of two silent, short deadline", servers: servers{a: quiet, b: good}, ask: []string{a, b}, context: time.Second, want: 270 * time.Millisecond},
		{name: "all silent, many attempts", servers: servers{a: quiet, b: quiet}, ask: []string{a, b}, set: func(c *Client) { c.Timeout, c.Attempts = 20*time.Second, 5 },
			want: 10 * time.Second, problem: "no answer within 1s from " + a + "; no answer within 1s from " + b, is: os.ErrDeadlineExceeded},
		{name: "black hole", ask: []string{a}, set: func(c *Client) { c.Attempts = 1 }, want: 5 * time.Second, problem: "no answer within 5s from " + a, is: os.ErrDeadlineExceeded},
		{name: "deadline of the caller", servers: servers{a: quiet}, ask: []string{a}, context: 3 * time.Second, set: func(c *Client) { c.Attempts = 1 },
			want: 3 * time.Second, problem: "context deadline exceeded; no answer within 3s from " + a, is: context.DeadlineExceeded},
		{name: "cancelled", servers: servers{a: quiet}, ask: []string{a}, context: -time.Second,
			want: time.Second, problem: "context canceled; no answer until cancelled from " + a, is: context.Canceled},
		{name: "cancelled before", servers: servers{a: good}, ask: []string{a}, context: -1, want: 0, problem: "context canceled", is: context.Canceled},
		{name: "silent over TCP", servers: servers{a: func(t *testing.T) handler { return truncatedThen(t, silent) }, b: good}, ask: []string{a, b}, want: 2520 * time.Millisecond},
		{name: "half a message over TCP", servers: servers{a: func(t *testing.T) handler { return truncatedThen(t, silent) }}, ask: []string{a}, set: func(c *Client) { c.Attempts = 1 },
			want: 5*time.Second + 20*time.Millisecond, problem: "no answer within 5s from " + a + " over TCP", is: os.ErrDeadlineExceeded},
		{name: "strays do not make the wait longer", servers: servers{a: func(t *testing.T) handler {
			return func(*dns.Msg, string) [][]byte { return [][]byte{nil, []byte("x"), make([]byte, 12)} }
		}}, ask: []string{a}, set: func(c *Client) { c.Attempts = 1 }, want: 5 * time.Second, problem: "no answer within 5s from " + a, is: os.ErrDeadlineExceeded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := &memnet.Network{Latency: 10 * time.Millisecond}
				for addr, h := range tt.servers {
					inMemory(t, n, addr, h(t))
				}
				if tt.servers == nil {
					n.Drop(a)
				}
				c := client(tt.ask...)
				c.Dial = n.DialContext
				if tt.set != nil {
					tt.set(c)
				}
				ctx := t.Context()
				switch {
				case tt.context > 0:
					var cancel func()
					ctx, cancel = context.WithTimeout(ctx, tt.context)
					defer cancel()
				case tt.context == -1:
					var cancel func()
					ctx, cancel = context.WithCancel(ctx)
					cancel()
				case tt.context < 0:
					var cancel func()
					ctx, cancel = context.WithCancel(ctx)
					time.AfterFunc(-tt.context, cancel)
					defer cancel()
				}
				begin := time.Now()
				ans, err := c.LookupSRV(ctx, service)
				assert.InDelta(t, float64(tt.want), float64(time.Since(begin)), float64(time.Millisecond))
				if tt.problem == "" {
					require.NoError(t, err)
					assert.Equal(t, goodRecord, ans.Records)
					assert.InDelta(t, float64(tt.want), float64(ans.Duration), float64(time.Millisecond))
					return
				}
				require.ErrorIs(t, err, tt.is)
				assert.Equal(t, "SRV "+service+": "+tt.problem, err.Error())
				e := new(Error)
				require.ErrorAs(t, err, &e)
				assert.Equal(t, !errors.Is(tt.is, context.Canceled), e.Timeout())
				assert.Empty(t, e.Rcode())
				assert.Equal(t, tt.is == context.DeadlineExceeded, errors.Is(err, context.DeadlineExceeded), "only for the caller's own deadline")
			})
		})
	}
}

// truncatedThen truncates every answer over UDP, and leaves TCP to h.
func truncatedThen(t *testing.T, h handler) handler {
	return func(q *dns.Msg, network string) [][]byte {
		if network == "tcp" {
			return h(q, network)
		}
		m := reply(t, q)
		m.Truncated = true
		return [][]byte{packed(t, m)}
	}
}

// TestSilentTCP: a stream that stalls in the middle of a message, and one that is closed there.
func TestSilentTCP(t *testing.T) {
	t.Parallel()
	for _, closes := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			const addr = "192.0.2.1:53"
			n := new(memnet.Network)
			pc, err := n.ListenPacket(addr)
			require.NoError(t, err)
			serve(t, pc, nil, truncatedThen(t, silent))
			ln, err := n.Listen(addr)
			require.NoError(t, err)
			var wg sync.WaitGroup
			wg.Go(func() {
				conn, err := ln.Accept()
				if !assert.NoError(t, err) {
					return
				}
				conn.Read(make([]byte, 512))
				conn.Write([]byte{1, 0, 7, 7, 7})
				if !closes {
					time.Sleep(time.Minute)
				}
				conn.Close()
			})
			c := client(addr)
			c.Dial, c.Attempts = n.DialContext, 1
			begin := time.Now()
			_, err = c.LookupSRV(t.Context(), service)
			if closes {
				require.EqualError(t, err, "SRV "+service+": unexpected EOF from "+addr+" over TCP")
				assert.Zero(t, time.Since(begin))
			} else {
				require.EqualError(t, err, "SRV "+service+": no answer within 5s from "+addr+" over TCP")
				assert.Equal(t, 5*time.Second, time.Since(begin))
			}
			wg.Wait()
			ln.Close()
		})
	}
}

// TestSlowAliases: the limit of a look-up is one for all its questions.
func TestSlowAliases(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const addr = "192.0.2.1:53"
		n := &memnet.Network{Latency: 2 * time.Second} // a reply after four
		inMemory(t, n, addr, one(t, func(q *dns.Msg, _ string) *dns.Msg {
			return reply(t, q, q.Question[0].Name+" 9 IN CNAME x"+q.Question[0].Name)
		}))
		c := client(addr)
		c.Dial, c.Attempts = n.DialContext, 1
		begin := time.Now()
		_, err := c.LookupAddrs(t.Context(), "x.example", TypeA)
		require.EqualError(t, err, "A x.example: no answer within 2s for xxx.example from "+addr)
		assert.Equal(t, maxLookup, time.Since(begin))
	})
}

// TestConcurrent shares a Client.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	var n atomic.Int32
	server := loopback(t, true, one(t, func(q *dns.Msg, network string) *dns.Msg {
		name := q.Question[0].Name
		m := reply(t, q, name+" 300 IN SRV 0 0 1 s."+name)
		m.Truncated = network == "udp" && n.Add(1)%3 == 0
		return m
	}))
	c := client(server)
	c.Rotate = true
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			name := fmt.Sprintf("_x._tcp.n%d.example", i)
			a, err := c.LookupSRV(t.Context(), name)
			if assert.NoError(t, err) {
				assert.Equal(t, []Record{{Target: "s." + name, Port: 1}}, a.Records)
			}
		})
	}
	wg.Wait()
}

// late has a deadline that has passed, and a timer that has not rung yet.
type late struct{ context.Context }

func (late) Deadline() (time.Time, bool) { return time.Now().Add(-1), true }

// TestNoTime: the error says so even where nothing was asked, or the timer is slow.
func TestNoTime(t *testing.T) {
	t.Parallel()
	l := lookup{chase: newChase("h.example", TypeA)}
	err := l.failed(nil)
	require.EqualError(t, err, "A h.example: i/o timeout")
	assert.True(t, err.Timeout())
	assert.Empty(t, err.Rcode())
	_, e := client("127.0.0.1:53").LookupSRV(late{t.Context()}, service)
	require.ErrorIs(t, e, context.DeadlineExceeded)
}

func TestStrings(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "A AAAA SRV TYPE99", fmt.Sprint(TypeA, " ", TypeAAAA, " ", TypeSRV, " ", Type(99)))
	assert.Equal(t, "found absent unavailable outcome 0", fmt.Sprint(Found, " ", Absent, " ", Unavailable, " ", Outcome(0)))
}
