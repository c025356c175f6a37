package world_test

import (
	"context"
	"crypto/x509"
	"io"
	"net/http"
	"net/netip"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/world"
)

const before = `
-- zone --
a.example. A 203.0.113.1
-- servers --
203.0.113.1:443 http1
203.0.113.2:443
203.0.113.3:443 refuse
-- GET https://a.example/ --
200

before
-- GET https://a.example/ --
200

before, again
`

// TestChange: a world that moves while it runs.
func TestChange(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, n world.Net) {
		w := start(t, before, n)
		c := browser(t, w, "203.0.113.1:443")
		for _, want := range []string{"before", "before, again", "before, again"} {
			res, body, err := get(t, c, "https://a.example/")
			require.NoError(t, err)
			assert.Equal(t, want, body)
			assert.Equal(t, "HTTP/1.1", res.Proto, "as the option http1 says")
		}

		after := parse(t, "-- zone --\na.example. A 203.0.113.2\n-- servers --\n203.0.113.1:443 refuse\n203.0.113.2:443 http1 cert expired\n-- GET https://a.example/ --\n200\n\nafter\n")
		require.NoError(t, w.Change(after))
		_, body, err := get(t, c, "https://a.example/")
		require.NoError(t, err, "an open connection stays")
		assert.Equal(t, "after", body)
		c.CloseIdleConnections()
		_, _, err = get(t, c, "https://a.example/")
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		_, _, err = get(t, browser(t, w, "203.0.113.2:443"), "https://a.example/")
		require.ErrorContains(t, err, "expired")

		// Going back begins the replies anew.
		require.NoError(t, w.Change(parse(t, before)))
		_, body, err = get(t, c, "https://a.example/")
		require.NoError(t, err)
		assert.Equal(t, "before", body)

		for _, at := range []string{"203.0.113.3:443", "203.0.113.4:443"} {
			err := w.Change(parse(t, "-- servers --\n"+at+"\n"))
			require.ErrorContains(t, err, at)
		}
	})
}

// TestHandleAndCut: a test answers by itself, counts connections, and ends them.
func TestHandleAndCut(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, n world.Net) {
		w := start(t, before, n)
		at := netip.MustParseAddrPort("203.0.113.1:443")
		w.Handle(func(rw http.ResponseWriter, req *http.Request, from netip.AddrPort) bool {
			assert.Equal(t, at, from)
			if req.Method != http.MethodPut {
				return false
			}
			io.Copy(rw, req.Body)
			return true
		})
		c := browser(t, w, at.String())
		_, body, err := get(t, c, "https://a.example/")
		require.NoError(t, err)
		assert.Equal(t, "before", body, "left to the scene")
		pr, pw := io.Pipe()
		go func() {
			pw.Write([]byte("echo"))
			pw.Close()
		}()
		req, err := http.NewRequestWithContext(context.Background(), "PUT", "https://a.example/", pr)
		require.NoError(t, err)
		res, err := c.Do(req)
		require.NoError(t, err)
		echo, err := io.ReadAll(res.Body)
		res.Body.Close()
		require.NoError(t, err)
		assert.Equal(t, "echo", string(echo))

		assert.Equal(t, 1, w.Open())
		assert.Zero(t, w.Cut(netip.MustParseAddrPort("203.0.113.2:443")))
		assert.Equal(t, 1, w.Cut(at))
		assert.Zero(t, w.Open())
		w.Handle(nil)
		_, body, err = get(t, c, "https://a.example/")
		require.NoError(t, err, "net/http makes another connection")
		assert.Equal(t, "before, again", body)
	})
}

// TestCertificate: a server outside the world may belong to its authority.
func TestCertificate(t *testing.T) {
	t.Parallel()
	s, err := world.Parse("certificate", []byte("-- zone --\na.example. A 203.0.113.1\n"))
	require.NoError(t, err)
	w, err := s.Start(world.Memory{})
	require.NoError(t, err)
	defer w.Close()
	made, err := w.Certificate("other.example", "2001:db8::9")
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(made.Certificate[0])
	require.NoError(t, err)
	for _, name := range []string{"other.example", "2001:db8::9"} {
		_, err = cert.Verify(x509.VerifyOptions{DNSName: name, Roots: w.Roots()})
		require.NoError(t, err)
	}
	require.Error(t, cert.VerifyHostname("a.example"))
}
