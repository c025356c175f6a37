package world_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/serverkeys"
	"mxdiscover/internal/world"
)

const matrixWorld = `
-- zone --
a.example. A 203.0.113.10
b.example. A 203.0.113.11
c.example. A 203.0.113.12
c.example. A 203.0.113.13
-- servers --
203.0.113.14:8450 http1
203.0.113.12:8448 http1
203.0.113.13:8448 http1
-- matrix https://a.example:8448 --
-- matrix https://a.example:8448 from 900s --
server-name other.example
version Synapse 1.100 (b=main)
key-id ed25519:x
valid-for -1h
clock +2h
-- GET https://a.example:8448/_matrix/client/versions --
200

own
-- matrix https://b.example:8448 --
only-host b.example
prefix /proxy
version none
without client
-- matrix https://c.example:8448 --
any-host
delay 20ms
-- matrix https://c.example:8448 @203.0.113.13:8448 --
keys none
key-seed x
-- matrix https://away.example @203.0.113.14:8450 --
server-name away.example:5
broken http2
-- GET https://c.example:8448/x @203.0.113.12:8448 --
200

twelve
-- GET https://c.example:8448/x --
200

other
`

// TestMatrix asks the Matrix servers of a world.
func TestMatrix(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, n world.Net) {
		w := start(t, matrixWorld, n)
		ask := func(at, url string) (*http.Response, string) {
			c := browser(t, w, at)
			c.Transport.(*http.Transport).TLSClientConfig.InsecureSkipVerify = true
			res, body, err := get(t, c, url)
			require.NoError(t, err)
			return res, body
		}
		keys := func(at, url string) *serverkeys.Keys {
			_, body := ask(at, url+"/_matrix/key/v2/server")
			k, err := serverkeys.Parse([]byte(body))
			require.NoError(t, err)
			return k
		}
		const a = "203.0.113.10:8448"
		res, body := ask(a, "https://a.example:8448/_matrix/federation/v1/version")
		assert.Equal(t, 200, res.StatusCode)
		assert.Equal(t, "application/json", res.Header.Get("Content-Type"))
		assert.JSONEq(t, `{"server":{"name":"World","version":"1"}}`, body)
		res, body = ask(a, "https://a.example:8448/else")
		assert.Equal(t, 404, res.StatusCode)
		assert.Contains(t, body, "M_UNRECOGNIZED")
		_, body = ask(a, "https://a.example:8448/_matrix/client/versions")
		assert.Equal(t, "own", body, "a section of its own counts first")
		k := keys(a, "https://a.example:8448")
		assert.Equal(t, "a.example", k.ServerName)
		assert.WithinDuration(t, time.Now().Add(24*time.Hour), k.ValidUntil, time.Minute)
		require.Len(t, k.VerifyKeys, 1)
		assert.Equal(t, "ed25519:world", k.VerifyKeys[0].ID)
		assert.True(t, k.VerifyKeys[0].Signed)

		const b = "203.0.113.11:8448"
		res, _ = ask(b, "https://b.example:8448/proxy/_matrix/federation/v1/version")
		assert.Equal(t, 404, res.StatusCode, "the Host header has a port")
		c := browser(t, w, b)
		req, err := http.NewRequest("GET", "https://b.example:8448/proxy/_matrix/federation/v1/version", nil)
		require.NoError(t, err)
		req.Host = "b.example"
		res, err = c.Do(req)
		require.NoError(t, err)
		res.Body.Close()
		assert.Equal(t, 200, res.StatusCode)
		assert.NotContains(t, res.Header, "Server")

		started := time.Now()
		res, _ = ask("203.0.113.12:8448", "https://whoever.example/_matrix/client/versions")
		assert.Equal(t, 200, res.StatusCode)
		assert.GreaterOrEqual(t, time.Since(started), 20*time.Millisecond)
		_, body = ask("203.0.113.12:8448", "https://c.example:8448/x")
		assert.Equal(t, "twelve", body)
		_, body = ask("203.0.113.13:8448", "https://c.example:8448/x")
		assert.Equal(t, "other", body)
		assert.Empty(t, keys("203.0.113.13:8448", "https://c.example:8448").VerifyKeys)
		assert.Equal(t, "away.example:5", keys("203.0.113.14:8450", "https://away.example").ServerName)
	})
}

// fresh is another net of the same kind: two worlds do not fit into one.
func fresh(n world.Net) world.Net {
	if _, ok := n.(world.Memory); ok {
		return world.Memory{}
	}
	return n
}

// TestMatrixFaults looks at each fault by itself.
func TestMatrixFaults(t *testing.T) {
	t.Parallel()
	document := func(t *testing.T, n world.Net, line string) (string, *http.Response) {
		w := start(t, zoneA+"-- matrix https://a.example --\n"+line+"\n", fresh(n))
		res, body, err := get(t, browser(t, w, "203.0.113.10:443"), "https://a.example/_matrix/key/v2/server")
		require.NoError(t, err)
		return body, res
	}
	cases := []struct {
		line string
		err  error
	}{
		{"", nil},
		{"keys unsigned", serverkeys.ErrUnsigned},
		{"keys bad-signature", serverkeys.ErrBadSignature},
		{"keys malformed", serverkeys.ErrMalformedKey},
	}
	for _, c := range cases {
		both(t, func(t *testing.T, n world.Net) {
			body, _ := document(t, n, c.line)
			k, err := serverkeys.Parse([]byte(body))
			require.NoError(t, err)
			assert.Equal(t, c.err, k.VerifyKeys[0].Err)
		})
	}
	both(t, func(t *testing.T, n world.Net) {
		body, _ := document(t, n, "keys not-json")
		assert.False(t, json.Valid([]byte(body)))
		_, res := document(t, n, "without keys")
		assert.Equal(t, 404, res.StatusCode)
		one, _ := document(t, n, "keys none\nvalid-for 0s\nserver-name x")
		two, _ := document(t, n, "key-seed x\nserver-name x")
		three, _ := document(t, n, "server-name x")
		assert.NotEqual(t, one, two)
		if _, ok := n.(world.Memory); ok { // else time passes between them
			again, _ := document(t, n, "key-seed x\nserver-name x")
			assert.Equal(t, two, again, "the same in every world, at the same time")
			assert.Equal(t, two, three, "the key is that of the name")
		}
		body, res = document(t, n, "clock -2h\nvalid-for -1h")
		date, err := http.ParseTime(res.Header.Get("Date"))
		require.NoError(t, err)
		assert.WithinDuration(t, time.Now().Add(-2*time.Hour), date, time.Minute)
		k, err := serverkeys.Parse([]byte(body))
		require.NoError(t, err)
		assert.WithinDuration(t, time.Now().Add(-3*time.Hour), k.ValidUntil, time.Minute)
	})
	t.Run("broken", func(t *testing.T) {
		t.Parallel()
		for _, line := range []string{"broken http1", "broken http2"} {
			w := start(t, zoneA+"-- matrix https://a.example --\n"+line+"\n", world.Loopback{})
			for _, proto := range []string{"http1", "http2"} {
				c := browser(t, w, "203.0.113.10:443")
				c.Transport.(*http.Transport).ForceAttemptHTTP2 = proto == "http2"
				_, _, err := get(t, c, "https://a.example/_matrix/federation/v1/version")
				assert.Equal(t, line == "broken "+proto, err != nil, "%s over %s: %v", line, proto, err)
			}
		}
	})
}

// TestCertificateKinds looks at the certificates and handshakes that only a check looks at.
func TestCertificateKinds(t *testing.T) {
	t.Parallel()
	shake := func(t *testing.T, n world.Net, option string, change func(*tls.Config)) (*tls.ConnectionState, *world.World, error) {
		w := start(t, zoneA+"-- servers --\n203.0.113.10:443 "+option+"\n", fresh(n))
		c, err := w.DialContext(t.Context(), "tcp", "203.0.113.10:443")
		require.NoError(t, err)
		defer c.Close()
		config := &tls.Config{ServerName: "a.example", RootCAs: w.Roots(), NextProtos: []string{"h2", "http/1.1"}}
		if change != nil {
			change(config)
		}
		tc := tls.Client(c, config)
		err = tc.Handshake()
		s := tc.ConnectionState()
		return &s, w, err
	}
	both(t, func(t *testing.T, n world.Net) {
		insecure := func(c *tls.Config) { c.InsecureSkipVerify = true }
		s, _, err := shake(t, n, "cert chain", nil)
		require.NoError(t, err)
		assert.Len(t, s.PeerCertificates, 2)
		_, _, err = shake(t, n, "cert incomplete-chain", nil)
		assert.ErrorAs(t, err, new(x509.UnknownAuthorityError))
		s, _, err = shake(t, n, "cert incomplete-chain", insecure)
		require.NoError(t, err)
		assert.Len(t, s.PeerCertificates, 1)
		assert.NotEmpty(t, s.PeerCertificates[0].IssuingCertificateURL)
		_, _, err = shake(t, n, "cert common-name", nil)
		assert.ErrorAs(t, err, new(x509.HostnameError))
		s, _, err = shake(t, n, "cert common-name", insecure)
		require.NoError(t, err)
		assert.Equal(t, "a.example", s.PeerCertificates[0].Subject.CommonName)
		s, _, err = shake(t, n, "cert expires-in=72h", nil)
		require.NoError(t, err)
		assert.WithinDuration(t, time.Now().Add(72*time.Hour), s.PeerCertificates[0].NotAfter, time.Minute)

		_, _, err = shake(t, n, "tls11", nil)
		assert.ErrorContains(t, err, "protocol version")
		s, _, err = shake(t, n, "tls11", func(c *tls.Config) { c.MinVersion = tls.VersionTLS10 })
		require.NoError(t, err)
		assert.EqualValues(t, tls.VersionTLS11, s.Version)
		s, _, err = shake(t, n, "no-alpn", nil)
		require.NoError(t, err)
		assert.Empty(t, s.NegotiatedProtocol)

		_, _, err = shake(t, n, "alert-handshake", nil)
		assert.ErrorContains(t, err, "internal error")
		away := start(t, zoneA+"-- servers --\n203.0.113.10:443 no-route\n", fresh(n))
		_, err = away.DialContext(t.Context(), "tcp", "203.0.113.10:443")
		assert.ErrorIs(t, err, syscall.ENETUNREACH)

		noName := func(c *tls.Config) { c.ServerName, c.InsecureSkipVerify = "", true }
		_, _, err = shake(t, n, "without-sni refuse", noName)
		assert.Error(t, err)
		_, _, err = shake(t, n, "without-sni refuse", nil)
		assert.NoError(t, err)
		s, _, err = shake(t, n, "without-sni other", noName)
		require.NoError(t, err)
		assert.Equal(t, []string{"default.invalid"}, s.PeerCertificates[0].DNSNames)
	})
}

// TestChecks reads a section "check".
func TestChecks(t *testing.T) {
	t.Parallel()
	s := parse(t, "-- check a.example --\n# why\ncert_expired\nother\nverdict BAD\nmessage ~ ^a b$\n-- check \"A \\u00e9\" --\nverdict GOOD\n")
	checks := s.Checks()
	require.Len(t, checks, 2)
	assert.Equal(t, []string{"cert_expired", "other"}, checks[0].Codes)
	assert.Equal(t, "BAD", checks[0].Verdict)
	assert.Equal(t, "test.txtar:1", checks[0].Position())
	require.Len(t, checks[0].Matches, 1)
	assert.Equal(t, "message", checks[0].Matches[0].Part)
	assert.True(t, checks[0].Matches[0].MatchString("a b"))
	assert.Equal(t, "A é", checks[1].Name)
	assert.Empty(t, s.Script())
}
