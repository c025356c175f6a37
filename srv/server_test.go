package srv

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"sync"
	"testing"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"mxdiscover/internal/memnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A handler returns the messages to send back for a query, none of them to stay silent.
type handler func(q *dns.Msg, network string) [][]byte

// serve answers at pc and ln until the test ends.
func serve(t testing.TB, pc net.PacketConn, ln net.Listener, handle handler) {
	var wg sync.WaitGroup
	t.Cleanup(func() {
		pc.Close()
		if ln != nil {
			ln.Close()
		}
		wg.Wait()
	})
	wg.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			q := new(dns.Msg)
			if q.Unpack(buf[:n]) != nil {
				continue
			}
			for _, raw := range handle(q, "udp") {
				pc.WriteTo(raw, from)
			}
		}
	})
	if ln == nil {
		return
	}
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				for {
					var size [2]byte
					if _, err := io.ReadFull(conn, size[:]); err != nil {
						return
					}
					buf := make([]byte, binary.BigEndian.Uint16(size[:]))
					if _, err := io.ReadFull(conn, buf); err != nil {
						return
					}
					q := new(dns.Msg)
					if q.Unpack(buf) != nil {
						return
					}
					for _, raw := range handle(q, "tcp") {
						conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(raw))), raw...))
					}
				}
			})
		}
	})
}

// loopback runs a server on a free port of the loopback interface, UDP and TCP, or UDP alone.
func loopback(t testing.TB, tcp bool, handle handler) string {
	for range 20 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		pc, err := net.ListenPacket("udp", ln.Addr().String())
		if err != nil { // taken there
			ln.Close()
			continue
		}
		if !tcp {
			ln.Close()
			ln = nil
		}
		serve(t, pc, ln, handle)
		return pc.LocalAddr().String()
	}
	t.Fatal("no port is free for both UDP and TCP")
	return ""
}

// inMemory runs a server at addr of a network in memory.
func inMemory(t testing.TB, n *memnet.Network, addr string, handle handler) {
	pc, err := n.ListenPacket(addr)
	require.NoError(t, err)
	ln, err := n.Listen(addr)
	require.NoError(t, err)
	serve(t, pc, ln, handle)
}

func silent(*dns.Msg, string) [][]byte { return nil }

// one makes a handler of a function that makes one message.
func one(t testing.TB, f func(q *dns.Msg, network string) *dns.Msg) handler {
	return func(q *dns.Msg, network string) [][]byte {
		if m := f(q, network); m != nil {
			return [][]byte{packed(t, m)}
		}
		return nil
	}
}

// rcode answers everything with one response code.
func rcode(t testing.TB, code int) handler {
	return one(t, func(q *dns.Msg, _ string) *dns.Msg { return new(dns.Msg).SetRcode(q, code) })
}

// records answers everything with the given lines of a zone file.
func records(t testing.TB, lines ...string) handler {
	return one(t, func(q *dns.Msg, _ string) *dns.Msg { return reply(t, q, lines...) })
}

func reply(t testing.TB, q *dns.Msg, lines ...string) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	m.Answer = rrs(t, lines)
	return m
}

func rrs(t testing.TB, lines []string) []dns.RR {
	var out []dns.RR
	for _, l := range lines {
		r, err := dns.NewRR(l)
		if err != nil || r == nil {
			t.Errorf("%s: %v", l, err)
			continue
		}
		out = append(out, r)
	}
	return out
}

func packed(t testing.TB, m *dns.Msg) []byte {
	m.Compress = true
	raw, err := m.Pack()
	if err != nil {
		t.Errorf("pack: %v", err)
	}
	return raw
}

// client asks these servers and no file.
func client(servers ...string) *Client {
	return &Client{Servers: servers, HostsFile: os.DevNull}
}

// A count of queries, by network.
type counter struct {
	mu  sync.Mutex
	udp []*dns.Msg
	tcp []*dns.Msg
}

func (c *counter) wrap(h handler) handler {
	return func(q *dns.Msg, network string) [][]byte {
		c.mu.Lock()
		if network == "udp" {
			c.udp = append(c.udp, q)
		} else {
			c.tcp = append(c.tcp, q)
		}
		c.mu.Unlock()
		return h(q, network)
	}
}

func (c *counter) seen() (udp, tcp []*dns.Msg) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.udp, c.tcp
}
