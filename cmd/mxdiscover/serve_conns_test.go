package main

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// callers is a listener that somebody calls from each of the addresses in turn.
type callers struct {
	net.Listener
	from []string
}

type call struct {
	net.Conn
	from netip.AddrPort
}

func (c call) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.from) }
func (c call) Close() error         { return nil }

func (l *callers) Accept() (net.Conn, error) {
	if len(l.from) == 0 {
		return nil, net.ErrClosed
	}
	from := l.from[0]
	l.from = l.from[1:]
	return call{from: netip.MustParseAddrPort(from)}, nil
}

// TestConnsOfAddress: one client does not take the connections of all others,
// neither with the addresses that a host has of IPv6; a proxy takes as many as it
// wants.
func TestConnsOfAddress(t *testing.T) {
	t.Parallel()
	for about, test := range map[string]struct {
		from string // of the nth call
		most int
	}{
		"IPv4":                  {"203.0.113.1:%d", maxConnsOfAddress},
		"IPv4 in IPv6":          {"[::ffff:203.0.113.1]:%d", maxConnsOfAddress},
		"IPv6, one host":        {"[2001:db8:1:2::%x]:4711", maxConnsOfAddress},
		"IPv6, many networks":   {"[2001:db8:1:%x::1]:4711", maxConns},
		"this machine":          {"127.0.0.1:%d", maxConns},
		"a private network":     {"[fd00::1]:%d", maxConns},
		"a proxy that is named": {"192.0.2.1:%d", maxConns},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			inner := &callers{}
			for i := range maxConns {
				inner.from = append(inner.from, fmt.Sprintf(test.from, i+1))
			}
			l := limit(inner, maxConns+1, maxConnsOfAddress, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")})
			var open []net.Conn
			for {
				conn, err := l.Accept()
				if err != nil {
					break
				}
				open = append(open, conn)
			}
			assert.Len(t, open, test.most)
			assert.Len(t, l.places, test.most)

			// Who leaves makes room.
			require.NoError(t, open[0].Close())
			require.NoError(t, open[0].Close())
			inner.from = []string{fmt.Sprintf(test.from, 1), fmt.Sprintf(test.from, 1)}
			_, err := l.Accept()
			assert.NoError(t, err)
			for _, conn := range open[1:] {
				conn.Close()
			}
			assert.LessOrEqual(t, len(l.from), 1)
		})
	}
}
