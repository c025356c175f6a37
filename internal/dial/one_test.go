package dial

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/memnet"
)

// TestDialOne: the address that is named and no other, and only if the guard
// passes it.
func TestDialOne(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		about   string
		to      string
		connect func(host string, port uint16) (string, uint16, bool)
		kind    Kind // empty for success
	}{
		{about: "one of the host's", to: "203.0.113.1:443"},
		{about: "the other family", to: "[2001:db8::1]:443"},
		{about: "nobody listens, and the others are not tried", to: "203.0.113.9:443", kind: ConnectFailed},
		{about: "private", to: "10.0.0.1:443", kind: Denied},
		{about: "private, inside IPv6", to: "[::ffff:10.0.0.1]:443", kind: Denied},
		{
			about: "private, and the operator's own word", to: "10.0.0.1:443",
			connect: func(string, uint16) (string, uint16, bool) { return "10.0.0.1", 443, true },
		},
		{
			about: "the operator's word opens what it names alone", to: "10.0.0.1:443", kind: Denied,
			connect: func(string, uint16) (string, uint16, bool) { return "10.0.0.2", 443, true },
		},
		{
			about: "and the port that it names", to: "10.0.0.1:22", kind: Denied,
			connect: func(string, uint16) (string, uint16, bool) { return "10.0.0.1", 443, true },
		},
		{
			about: "the same host at another port is no word for it", to: "10.0.0.1:444", kind: Denied,
			connect: func(host string, _ uint16) (string, uint16, bool) { return host, 444, true },
		},
	} {
		t.Run(test.about, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := &memnet.Network{}
				serve(t, n, "203.0.113.1:443", "[2001:db8::1]:443", "10.0.0.1:443", "10.0.0.1:22", "10.0.0.1:444")
				d := lab(n, answerIn{addrs: []string{"2001:db8::1"}}, answerIn{addrs: []string{"203.0.113.1", "203.0.113.9"}})
				d.ConnectTo = test.connect
				to := netip.MustParseAddrPort(test.to)
				conn, err := d.DialOne(t.Context(), "h.example", 443, to)
				if test.kind != "" {
					var failed *Error
					require.ErrorAs(t, err, &failed)
					assert.Equal(t, test.kind, failed.Kind)
					assert.Nil(t, conn)
					assert.Equal(t, "h.example", failed.Host)
					return
				}
				require.NoError(t, err)
				assert.Equal(t, to.String(), conn.RemoteAddr().String())
				require.NoError(t, conn.Close())
			})
		})
	}
}

// TestDialOneThroughProxy: the proxy is chosen for the host, and asked for the
// address.
func TestDialOneThroughProxy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &memnet.Network{}
		asked := make(chan *http.Request, 1)
		proxy(t, n, "10.0.0.9:3128", "HTTP/1.1 200 OK\r\n\r\n", asked)
		d := lab(n, answerIn{}, answerIn{})
		d.Proxy = func(host string, port uint16) (*url.URL, error) {
			assert.Equal(t, "h.example", host)
			assert.EqualValues(t, 443, port)
			return url.Parse("http://10.0.0.9:3128")
		}
		conn, err := d.DialOne(context.Background(), "h.example", 443, netip.MustParseAddrPort("[2001:db8::1]:443"))
		require.NoError(t, err)
		assert.Equal(t, "[2001:db8::1]:443", (<-asked).Host)
		require.NoError(t, conn.Close())
	})
}
