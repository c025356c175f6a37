package world_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"mxdiscover/internal/memnet"
	"mxdiscover/internal/world"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func parse(t testing.TB, text string) *world.Scene {
	t.Helper()
	s, err := world.Parse("test.txtar", []byte(text))
	require.NoError(t, err)
	return s
}

func start(t testing.TB, text string, n world.Net) *world.World {
	t.Helper()
	w, err := parse(t, text).Start(n)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, w.Close()) })
	return w
}

// both runs a test on loopback, and in a bubble in memory.
func both(t *testing.T, f func(t *testing.T, n world.Net)) {
	t.Helper()
	t.Run("loopback", func(t *testing.T) {
		t.Parallel()
		f(t, world.Loopback{})
	})
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			f(t, world.Memory{Network: &memnet.Network{Latency: 5 * time.Millisecond}})
		})
	})
}

// browser is a client whose connections all go to one address of the world.
func browser(t testing.TB, w *world.World, addr string) *http.Client {
	tr := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return w.DialContext(ctx, network, addr)
		},
		TLSClientConfig: &tls.Config{RootCAs: w.Roots()},
		// Before Go 1.26 net/http shares state of HTTP/2 between bubbles.
		ForceAttemptHTTP2:  w.DNSDial() == nil,
		DisableCompression: true,
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{
		Transport:     tr,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func get(t testing.TB, c *http.Client, url string) (*http.Response, string, error) {
	t.Helper()
	res, err := c.Get(url)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res, string(body), err
}

const zoneA = `
-- zone --
a.example. A 203.0.113.10
`

func TestReplies(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, reply string
		check       func(t *testing.T, res *http.Response, body string, err error)
	}{
		{"plain", "200\n\n{}\n\n", func(t *testing.T, res *http.Response, body string, err error) {
			require.NoError(t, err)
			assert.Equal(t, 200, res.StatusCode)
			assert.Equal(t, "{}\n", body)
			assert.NotContains(t, res.Header, "Content-Type")
			assert.EqualValues(t, 3, res.ContentLength)
		}},
		{"head only", "# nothing\n302 Found\nLocation: /b\nX-A: 1\nx-a: 2\nContent-Type: text/html\n", func(t *testing.T, res *http.Response, body string, err error) {
			require.NoError(t, err)
			assert.Equal(t, 302, res.StatusCode)
			assert.Equal(t, []string{"1", "2"}, res.Header["X-A"])
			assert.Equal(t, "/b", res.Header.Get("Location"))
			assert.Equal(t, "text/html", res.Header.Get("Content-Type"))
			assert.Empty(t, body)
		}},
		{"no content", "204\n", func(t *testing.T, res *http.Response, _ string, err error) {
			require.NoError(t, err)
			assert.Equal(t, 204, res.StatusCode)
		}},
		{"reason", "404 Gone Fishing\n\nx\n", func(t *testing.T, res *http.Response, body string, err error) {
			require.NoError(t, err)
			assert.Equal(t, "404 Gone Fishing", res.Status)
			assert.Equal(t, "HTTP/1.1", res.Proto)
			assert.Equal(t, "x", body)
		}},
		{"dates", "200\nExpires: {now+33s}\nDate: {now-1h}\n", func(t *testing.T, res *http.Response, _ string, err error) {
			require.NoError(t, err)
			expires, err := http.ParseTime(res.Header.Get("Expires"))
			require.NoError(t, err)
			date, err := http.ParseTime(res.Header.Get("Date"))
			require.NoError(t, err)
			assert.Equal(t, time.Hour+33*time.Second, expires.Sub(date))
		}},
		{"chunked", "200\n!chunked\n\nabc\n", func(t *testing.T, res *http.Response, body string, err error) {
			require.NoError(t, err)
			assert.EqualValues(t, -1, res.ContentLength)
			assert.Equal(t, "abc", body)
		}},
		{"chunked by hand", "200 Odd\n!chunked\n\nabc\n", func(t *testing.T, res *http.Response, body string, err error) {
			require.NoError(t, err)
			assert.Equal(t, []string{"chunked"}, res.TransferEncoding)
			assert.Equal(t, "abc", body)
		}},
		{"gzip", "200\n!gzip\n!size 100000\n\n{}\n", func(t *testing.T, res *http.Response, body string, err error) {
			require.NoError(t, err)
			assert.Equal(t, "gzip", res.Header.Get("Content-Encoding"))
			assert.Less(t, len(body), 1000)
			assert.True(t, strings.HasPrefix(body, "\x1f\x8b"))
		}},
		{"size", "200\n!size 51201\n\n{}\n", func(t *testing.T, res *http.Response, body string, err error) {
			require.NoError(t, err)
			assert.EqualValues(t, 51201, res.ContentLength)
			assert.Equal(t, "{}"+strings.Repeat(" ", 51199), body)
		}},
		{"content-length too big", "200\n!content-length 10\n\nabc\n", func(t *testing.T, res *http.Response, body string, err error) {
			assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
			assert.Equal(t, "abc", body)
		}},
		{"content-length too small", "200\n!content-length 2\n\nabc\n", func(t *testing.T, res *http.Response, body string, err error) {
			require.NoError(t, err)
			assert.Equal(t, "ab", body)
		}},
		{"slow", "200\n!slow 2 10ms\n\nabcde\n", func(t *testing.T, res *http.Response, body string, err error) {
			require.NoError(t, err)
			assert.Equal(t, "abcde", body)
		}},
		{"reset", "!reset\n", func(t *testing.T, res *http.Response, body string, err error) {
			assert.ErrorIs(t, err, syscall.ECONNRESET)
			assert.Nil(t, res)
		}},
		{"reset-after", "200\n!reset-after 2\n\nabc\n", func(t *testing.T, res *http.Response, body string, err error) {
			assert.ErrorIs(t, err, syscall.ECONNRESET)
			require.NotNil(t, res)
			assert.Equal(t, "ab", body)
		}},
		{"reset-after chunked", "200\n!reset-after 2\n!chunked\n\nabc\n", func(t *testing.T, res *http.Response, body string, err error) {
			assert.ErrorIs(t, err, syscall.ECONNRESET)
			assert.Equal(t, "ab", body)
		}},
		{"close-delimited", "200\n!close-delimited\n\nabc\n", func(t *testing.T, res *http.Response, body string, err error) {
			require.NoError(t, err)
			assert.Equal(t, "HTTP/1.0", res.Proto)
			assert.EqualValues(t, -1, res.ContentLength)
			assert.Equal(t, "abc", body)
		}},
		{"raw", "!delay 1ms\n!raw\nHTTP/1.1 200 OK\nX: y\n\nall\n", func(t *testing.T, res *http.Response, body string, err error) {
			require.NoError(t, err)
			assert.Equal(t, "y", res.Header.Get("X"))
			assert.Equal(t, "all\n", body)
		}},
		{"raw nonsense", "!raw\nnot HTTP at all\n", func(t *testing.T, res *http.Response, body string, err error) {
			assert.ErrorContains(t, err, "malformed HTTP")
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			both(t, func(t *testing.T, n world.Net) {
				w := start(t, zoneA+"-- GET https://a.example/x --\n"+c.reply, n)
				res, body, err := get(t, browser(t, w, "203.0.113.10:443"), "https://a.example/x")
				c.check(t, res, body, err)
			})
		})
	}
}

func TestReplyTimes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, zoneA+`
-- servers --
203.0.113.10:443 accept-delay 3s
-- GET https://a.example/ --
200
!delay 1m
!slow 1 10s

abc
-- GET https://a.example/s --
200

first
-- GET https://a.example/s --
200

second
-- GET https://a.example/s from 900s --
200

later
`, world.Memory{})
		c := browser(t, w, "203.0.113.10:443")
		began := time.Now()
		_, body, err := get(t, c, "https://a.example/")
		require.NoError(t, err)
		assert.Equal(t, "abc", body)
		assert.Equal(t, 3*time.Second+time.Minute+20*time.Second, time.Since(began))
		for _, want := range []string{"first", "second", "second", "later", "later"} {
			if want == "later" {
				time.Sleep(time.Until(began.Add(900 * time.Second)))
			}
			_, body, err = get(t, c, "https://a.example/s")
			require.NoError(t, err)
			assert.Equal(t, want, body)
		}
	})
}

// HTTP/2 is spoken with whoever asks for it, but not about a host with replies that it cannot express.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	w := start(t, `
-- zone --
a.example. A 203.0.113.10
b.example. A 203.0.113.10
-- GET https://a.example/ --
200

a
-- GET https://b.example/ --
200 by hand

b
`, world.Loopback{})
	for _, c := range []struct{ url, host, proto, want string }{
		{"https://a.example/", "", "HTTP/2.0", "a"},
		{"https://b.example/", "", "HTTP/1.1", "b"},
		{"https://a.example/", "b.example", "HTTP/2.0", "only with HTTP/1.1\n"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", c.url, nil)
		require.NoError(t, err)
		req.Host = c.host
		res, err := browser(t, w, "203.0.113.10:443").Do(req)
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		require.NoError(t, err)
		assert.Equal(t, c.proto, res.Proto)
		assert.Equal(t, c.want, string(body))
	}
}

func TestVirtualHosts(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, n world.Net) {
		w := start(t, `
-- zone --
a.example. A 203.0.113.10
b.example. A 203.0.113.10
b.example. AAAA 2001:db8::10
*.wild.example. A 203.0.113.10
_matrix-fed._tcp.s.example. SRV 0 0 8443 b.example.
-- servers --
203.0.113.10:8443
-- GET https://a.example/ --
200

a
-- GET https://a.example/?q=1 --
200

a with q
-- GET https://b.example:8448/ --
200

b
-- POST https://a.example/ --
200

posted
-- GET https://203.0.113.10:8448/ --
200

ip
-- GET https://s.example:8443/ --
200

s
-- GET https://only1.wild.example/ --
200 by hand

w
`, n)
		cases := []struct{ addr, url, host, want string }{
			{"203.0.113.10:443", "https://a.example/", "", "a"},
			{"203.0.113.10:443", "https://A.Example/", "", "a"},
			{"203.0.113.10:443", "https://a.example/", "a.example:443", "a"},
			{"203.0.113.10:443", "https://a.example/?q=1", "", "a with q"},
			{"203.0.113.10:443", "https://a.example/?q=2", "", "a"},
			{"203.0.113.10:443", "https://a.example/none", "", "404 page not found\n"},
			{"203.0.113.10:443", "https://b.example/", "", "404 page not found\n"},
			{"203.0.113.10:8448", "https://b.example/", "", "b"},
			{"[2001:db8::10]:8448", "https://b.example/", "", "b"},
			{"203.0.113.10:8448", "https://a.example/", "", "a"},
			{"203.0.113.10:8448", "https://b.example/", "b.example:8448", "b"},
			{"203.0.113.10:8448", "https://203.0.113.10/", "", "ip"},
			{"203.0.113.10:8443", "https://s.example/", "", "s"},
			{"203.0.113.10:443", "https://only1.wild.example/", "", "w"},
		}
		for _, c := range cases {
			w.ResetAsked()
			req, err := http.NewRequestWithContext(t.Context(), "GET", c.url, nil)
			require.NoError(t, err)
			if c.host != "" {
				req.Host = c.host
			}
			res, err := browser(t, w, c.addr).Do(req)
			require.NoError(t, err, "%v", c)
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			require.NoError(t, err)
			assert.Equal(t, c.want, string(body), "%v", c)
			assert.Equal(t, []string{"CONNECT " + c.addr, "GET https://" + req.Host + req.URL.RequestURI()}, w.Asked())
		}
		res, err := browser(t, w, "203.0.113.10:443").Post("https://a.example/", "", strings.NewReader("x"))
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		require.NoError(t, err)
		assert.Equal(t, "posted", string(body))
		res, err = browser(t, w, "203.0.113.10:443").Head("https://a.example/")
		require.NoError(t, err)
		res.Body.Close()
		assert.EqualValues(t, 1, res.ContentLength)
	})
}

func TestServerFaults(t *testing.T) {
	t.Parallel()
	unknown := func(t *testing.T, err error) {
		var authority x509.UnknownAuthorityError
		assert.ErrorAs(t, err, &authority)
	}
	invalid := func(why string) func(t *testing.T, err error) {
		return func(t *testing.T, err error) {
			var invalid x509.CertificateInvalidError
			assert.ErrorAs(t, err, &invalid)
			assert.ErrorContains(t, err, why)
		}
	}
	wrong := func(names string) func(t *testing.T, err error) {
		return func(t *testing.T, err error) {
			var host x509.HostnameError
			require.ErrorAs(t, err, &host)
			assert.Equal(t, names, fmt.Sprint(host.Certificate.DNSNames, host.Certificate.IPAddresses))
		}
	}
	cases := []struct {
		option, url string
		check       func(t *testing.T, err error)
	}{
		{"refuse", "", func(t *testing.T, err error) { assert.ErrorIs(t, err, syscall.ECONNREFUSED) }},
		{"reset", "", func(t *testing.T, err error) { assert.ErrorIs(t, err, syscall.ECONNRESET) }},
		{"reset-handshake", "", func(t *testing.T, err error) { assert.ErrorIs(t, err, syscall.ECONNRESET) }},
		{"close", "", func(t *testing.T, err error) {
			// A ClientHello that comes after the close is answered with a reset.
			require.Error(t, err)
			assert.Regexp(t, "EOF|reset|broken pipe", err.Error())
		}},
		{"cert self-signed", "", unknown},
		{"cert untrusted", "", unknown},
		{"cert expired", "", invalid("is after")},
		{"cert not-yet-valid", "", invalid("is before")},
		{"cert names=b.example,203.0.113.77", "", wrong("[b.example] [203.0.113.77]")},
		{"cert names=b.example,a.example", "", func(t *testing.T, err error) { assert.NoError(t, err) }},
		{"cert none-ip", "", func(t *testing.T, err error) { assert.NoError(t, err) }},
		{"cert none-ip", "https://203.0.113.10/", wrong("[a.example] []")},
		{"", "https://203.0.113.10/", func(t *testing.T, err error) { assert.NoError(t, err) }},
		{"", "https://elsewhere.example/", wrong("[a.example] []")},
		{"", "https://unnamed.invalid/", wrong("[a.example] []")},
		{"plain", "", func(t *testing.T, err error) { assert.ErrorContains(t, err, "HTTP response to HTTPS") }},
		{"plain", "http://a.example/", func(t *testing.T, err error) { assert.NoError(t, err) }},
	}
	for _, c := range cases {
		t.Run(c.option+c.url, func(t *testing.T) {
			t.Parallel()
			both(t, func(t *testing.T, n world.Net) {
				w := start(t, zoneA+"elsewhere.example. A 203.0.113.11\n-- servers --\n203.0.113.10:443 "+c.option+"\n", n)
				url := c.url
				if url == "" {
					url = "https://a.example/"
				}
				_, _, err := get(t, browser(t, w, "203.0.113.10:443"), url)
				c.check(t, err)
			})
		})
	}
}

func TestTLSVersions(t *testing.T) {
	t.Parallel()
	w := start(t, zoneA+"-- servers --\n203.0.113.10:443 tls12\n203.0.113.10:444\n", world.Loopback{})
	for addr, want := range map[string]uint16{"203.0.113.10:443": tls.VersionTLS12, "203.0.113.10:444": tls.VersionTLS13} {
		c, err := w.DialContext(t.Context(), "tcp", addr)
		require.NoError(t, err)
		assert.Equal(t, addr, c.RemoteAddr().String())
		tc := tls.Client(c, &tls.Config{ServerName: "a.example", RootCAs: w.Roots(), NextProtos: []string{"h2"}})
		require.NoError(t, tc.HandshakeContext(t.Context()))
		assert.Equal(t, want, tc.ConnectionState().Version)
		assert.Equal(t, "h2", tc.ConnectionState().NegotiatedProtocol)
		require.NoError(t, tc.Close())
	}
}

func TestCertificateOfNobody(t *testing.T) {
	t.Parallel()
	w := start(t, "-- servers --\n203.0.113.10:443\n203.0.113.10:444 cert none-ip\n", world.Memory{})
	for addr, want := range map[string]string{"203.0.113.10:443": "[] [203.0.113.10]", "203.0.113.10:444": "[nobody.invalid] []"} {
		_, _, err := get(t, browser(t, w, addr), "https://a.example/")
		var host x509.HostnameError
		require.ErrorAs(t, err, &host)
		assert.Equal(t, want, fmt.Sprint(host.Certificate.DNSNames, host.Certificate.IPAddresses))
	}
}

// TestBlackHoles waits in virtual time for what never comes.
func TestBlackHoles(t *testing.T) {
	t.Parallel()
	for _, option := range []string{"drop", "stall-handshake"} {
		synctest.Test(t, func(t *testing.T) {
			w := start(t, zoneA+"-- servers --\n203.0.113.10:443 "+option+"\n", world.Memory{})
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			c, err := w.DialContext(ctx, "tcp", "203.0.113.10:443")
			if option == "drop" {
				assert.ErrorIs(t, err, context.DeadlineExceeded)
				assert.Empty(t, w.Asked())
				return
			}
			require.NoError(t, err)
			err = tls.Client(c, &tls.Config{ServerName: "a.example"}).HandshakeContext(ctx)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			c.Close()
		})
	}
}

// TestWithoutDialContext is what another program sees that was told where the servers really are.
func TestWithoutDialContext(t *testing.T) {
	t.Parallel()
	w := start(t, zoneA+`
alias.example. CNAME a.example.
-- servers --
203.0.113.10:443 accept-delay 1ms
203.0.113.10:1 refuse
203.0.113.10:2 drop
203.0.113.10:3 refuse
[2001:db8::1]:443
-- servers from 900s --
203.0.113.10:1 refuse
`, world.Loopback{})
	mapped := make(map[string]string)
	for _, line := range w.ConnectTo() {
		i := strings.Index(line, ":127.0.0.1:")
		require.Positive(t, i, line)
		mapped[line[:i]] = line[i+1:]
	}
	require.Len(t, mapped, 4+4+4+1+1)
	assert.Equal(t, "127.0.0.1:1", mapped[":"], "nothing leaves the world")
	assert.Equal(t, mapped["a.example:443"], mapped["alias.example:443"])
	assert.Equal(t, mapped["a.example:443"], mapped["203.0.113.10:443"])
	assert.Contains(t, mapped, "[2001:db8::1]:443")

	dial := func(name string) (net.Conn, error) { return net.Dial("tcp", mapped[name]) }
	_, err := dial("a.example:1")
	assert.ErrorIs(t, err, syscall.ECONNREFUSED)
	c, err := dial("a.example:3") // it will be there later, so somebody listens
	if err == nil {
		_, err = c.Read(make([]byte, 1))
		c.Close()
	}
	assert.ErrorIs(t, err, syscall.ECONNRESET)
	c, err = dial("a.example:443")
	require.NoError(t, err)
	tc := tls.Client(c, &tls.Config{ServerName: "alias.example", RootCAs: w.Roots()})
	require.NoError(t, tc.HandshakeContext(t.Context()))
	tc.Close()
	c, err = dial("a.example:2")
	require.NoError(t, err)
	defer c.Close() // silent until the world ends, which the cleanup shows
	pool := x509.NewCertPool()
	assert.True(t, pool.AppendCertsFromPEM(w.CAPEM()))
}

func TestServersLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, zoneA+`
-- servers --
203.0.113.10:443 refuse
-- servers from 900s --
-- servers from 1800s --
203.0.113.10:443 drop
`, world.Memory{Network: &memnet.Network{Latency: time.Millisecond}})
		for _, want := range []error{syscall.ECONNREFUSED, nil, context.DeadlineExceeded} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			c, err := w.DialContext(ctx, "tcp", "203.0.113.10:443")
			assert.ErrorIs(t, err, want)
			if err == nil {
				c.Close()
			}
			cancel()
			time.Sleep(900 * time.Second)
		}
	})
}

func TestDialErrors(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, n world.Net) {
		w := start(t, zoneA+"-- servers --\n203.0.113.10:443 accept-delay 1h\n", n)
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		for _, c := range []struct {
			ctx           context.Context
			network, addr string
			want          error
		}{
			{t.Context(), "tcp", "203.0.113.99:443", syscall.ECONNREFUSED},
			{t.Context(), "tcp6", "[2001:db8::9]:443", syscall.ECONNREFUSED},
			{t.Context(), "udp", "203.0.113.10:443", net.UnknownNetworkError("udp")},
			{canceled, "tcp", "203.0.113.10:443", context.Canceled},
			{t.Context(), "tcp", "a.example:443", nil},
		} {
			_, err := w.DialContext(c.ctx, c.network, c.addr)
			var op *net.OpError
			require.ErrorAs(t, err, &op)
			if c.want != nil {
				assert.ErrorIs(t, err, c.want)
			}
		}
	})
}

func TestWorldFacts(t *testing.T) {
	t.Parallel()
	w := start(t, "-- options --\nallow-net 10.0.0.0/8\nservers 3\n", world.Memory{})
	assert.Equal(t, []string{"192.0.2.53:53", "192.0.2.54:53", "192.0.2.55:53"}, w.DNSServers())
	assert.Equal(t, "[192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 2001:db8::/32 10.0.0.0/8]", fmt.Sprint(w.AllowNets()))
	assert.Equal(t, 3, w.Options().Servers)
	assert.NotNil(t, w.DNSDial())
	assert.Empty(t, w.ConnectTo())
	l := start(t, "-- zone --\n", world.Loopback{})
	assert.Nil(t, l.DNSDial())
	assert.Len(t, l.DNSServers(), 1)
	assert.NoError(t, l.Close())
	assert.NoError(t, l.Close(), "a second Close does nothing")

	n := world.Memory{Network: new(memnet.Network)}
	start(t, "-- zone --\n", n)
	_, err := parse(t, "-- zone --\n").Start(n)
	assert.ErrorIs(t, err, syscall.EADDRINUSE)
}

// TestCloseEndsEverything closes a world in the middle of all that takes long.
func TestCloseEndsEverything(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, n world.Net) {
		w := start(t, zoneA+`
-- dns --
a.example A delay 1h
-- servers --
203.0.113.10:444 stall-handshake
-- GET https://a.example/ --
200
!delay 1h

-- GET https://a.example/slow --
200
!slow 1 1h

ab
`, n)
		done := make(chan error, 4)
		for _, url := range []string{"https://a.example/", "https://a.example/slow"} {
			go func() {
				_, _, err := get(t, browser(t, w, "203.0.113.10:443"), url)
				done <- err
			}()
		}
		go func() {
			_, _, err := get(t, browser(t, w, "203.0.113.10:444"), "https://a.example/")
			done <- err
		}()
		go func() {
			dial := w.DNSDial()
			if dial == nil {
				dial = new(net.Dialer).DialContext
			}
			c, err := dial(t.Context(), "tcp", w.DNSServers()[0])
			if err == nil {
				c.Write([]byte("\x00\x1b\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x07example\x00\x00\x01\x00\x01"))
				_, err = c.Read(make([]byte, 1))
				c.Close()
			}
			done <- err
		}()
		assert.Eventually(t, func() bool { return len(w.Asked()) == 6 }, time.Minute, time.Millisecond)
		require.NoError(t, w.Close())
		for range 4 {
			assert.Error(t, <-done)
		}
		_, err := w.DialContext(t.Context(), "tcp", "203.0.113.10:443")
		assert.ErrorIs(t, err, syscall.ECONNREFUSED)
	})
}

// TestHostile sends what no good client does; the world goes on.
func TestHostile(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, n world.Net) {
		w := start(t, zoneA+"-- servers --\n203.0.113.10:443\n203.0.113.10:80 plain\n", n)
		for _, text := range []string{
			"", "\x16\x03\x01\xff\xff", strings.Repeat("\xff", 1000),
			"GET / HTTP/1.1\r\nHost: \x01\r\n\r\n",
			"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n",
			"GET //%0a%20?\xc3\xa9 HTTP/1.1\r\nHost: a.example:99999\r\n\r\n",
			"CONNECT a HTTP/1.1\r\nHost: a.example:\r\n\r\n",
			"OPTIONS * HTTP/1.1\r\nHost: [\r\n\r\n",
			"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nxxxxxxxxxxxxxxxxxxxxx",
		} {
			for _, addr := range []string{"203.0.113.10:443", "203.0.113.10:80"} {
				c, err := w.DialContext(t.Context(), "tcp", addr)
				require.NoError(t, err)
				io.WriteString(c, text)
				if cw, ok := c.(interface{ CloseWrite() error }); ok { // in memory
					cw.CloseWrite()
					c.SetReadDeadline(time.Now().Add(time.Hour))
					io.Copy(io.Discard, c)
				}
				c.Close()
			}
		}
		for _, line := range w.Asked() {
			assert.NotRegexp(t, `[^ -~]`, line)
		}
		_, _, err := get(t, browser(t, w, "203.0.113.10:443"), "https://a.example/")
		assert.NoError(t, err)
	})
}

func BenchmarkStart(b *testing.B) {
	s := parse(b, zoneA+"-- GET https://a.example/ --\n200\n")
	b.ReportAllocs()
	for b.Loop() {
		w, err := s.Start(world.Loopback{})
		if err != nil {
			b.Fatal(err)
		}
		w.Close()
	}
}
