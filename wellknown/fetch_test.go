package wellknown_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/dial"
	"mxdiscover/internal/guard"
	"mxdiscover/internal/memnet"
	"mxdiscover/internal/world"
	"mxdiscover/wellknown"
)

// fetcher acts in w, where every host but those that begin with "no" has the
// address 203.0.113.1.
func fetcher(w *world.World) *wellknown.Fetcher {
	d := &dial.Dialer{
		Guard:       guard.Guard{Allow: w.AllowNets()},
		DialContext: w.DialContext,
		Lookup: func(_ context.Context, host string, v6 bool) ([]netip.Addr, error) {
			switch {
			case strings.HasPrefix(host, "nodns"):
				return nil, errors.New("SERVFAIL")
			case v6, strings.HasPrefix(host, "noaddress"):
				return nil, nil
			case strings.HasPrefix(host, "private"):
				return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil
			}
			return []netip.Addr{netip.MustParseAddr("203.0.113.1")}, nil
		},
	}
	return &wellknown.Fetcher{
		RootCAs: w.Roots(),
		DialTLS: func(ctx context.Context, host string, port uint16, config *tls.Config) (net.Conn, netip.AddrPort, error) {
			return d.DialTLS(ctx, host, port, config)
		},
	}
}

// TestServer: one row for each way that a fetch can end. scene is the reply
// section's body; hosts of redirects are served too.
func TestServer(t *testing.T) {
	t.Parallel()
	const good = "200\n\n{\"m.server\":\"t.example:443\"}\n"
	for _, test := range []struct {
		about     string
		host      string // h.example if empty
		reply     string
		more      string // sections
		code      wellknown.Code
		temporary bool
		hops      int
		took      time.Duration
	}{
		{about: "good", reply: good, hops: 1},
		{about: "any content type", reply: "200\nContent-Type: text/html\n\n{\"m.server\":\"t.example:443\"}\n", hops: 1},
		{about: "chunked", reply: "200\n!chunked\n\n{\"m.server\":\"t.example:443\"}\n", hops: 1},
		{about: "gzip", reply: "200\n!gzip\n\n{\"m.server\":\"t.example:443\"}\n", hops: 1},
		{about: "HTTP/1.0", reply: "200\n!close-delimited\n\n{\"m.server\":\"t.example:443\"}\n", hops: 1},
		{about: "as large as may be", reply: "200\n!size 51200\n\n{\"m.server\":\"t.example:443\"}\n", hops: 1},
		{about: "larger, declared", reply: "200\n!size 51201\n\n{\"m.server\":\"t.example:443\"}\n", code: wellknown.TooLarge, hops: 1},
		{about: "larger, chunked", reply: "200\n!size 51201\n!chunked\n\n{\"m.server\":\"t.example:443\"}\n", code: wellknown.TooLarge, hops: 1},
		{about: "larger once decoded", reply: "200\n!size 9000000\n!gzip\n\n{\"m.server\":\"t.example:443\"}\n", code: wellknown.TooLarge, hops: 1},
		{about: "no gzip after all", reply: "200\nContent-Encoding: gzip\n\n{\"m.server\":\"t.example:443\"}\n", code: wellknown.NotJSON, hops: 1},
		{about: "gzip that ends early", reply: "200\nContent-Encoding: gzip\n\n\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x01\n", code: wellknown.NotJSON, hops: 1},
		{about: "gzip cut off", reply: "200\n!gzip\n!content-length 500\n\n{\"m.server\":\"t.example:443\"}\n", code: wellknown.ConnectFailed, temporary: true, hops: 1},
		{about: "an encoding not asked for", reply: "200\nContent-Encoding: br\n\nxx\n", code: wellknown.NotJSON, hops: 1},
		{about: "empty", reply: "200\n\n  \n", code: wellknown.EmptyBody, hops: 1},
		{about: "not JSON", reply: "200\n\n<html>\n", code: wellknown.NotJSON, hops: 1},
		{about: "no object", reply: "200\n\n[]\n", code: wellknown.NotObject, hops: 1},
		{about: "no m.server", reply: "200\n\n{}\n", code: wellknown.ServerMissing, hops: 1},
		{about: "bad m.server", reply: "200\n\n{\"m.server\":\"a b\"}\n", code: wellknown.ServerInvalid, hops: 1},
		{about: "204 is not 200", reply: "204\n", code: wellknown.HTTPStatus, hops: 1},
		{about: "404", reply: "404\n", code: wellknown.NotFound, hops: 1},
		{about: "410", reply: "410\n", code: wellknown.HTTPStatus, hops: 1},
		{about: "403", reply: "403\n", code: wellknown.HTTPStatus, hops: 1},
		{about: "408", reply: "408\n", code: wellknown.HTTPStatus, temporary: true, hops: 1},
		{about: "429", reply: "429\n", code: wellknown.HTTPStatus, temporary: true, hops: 1},
		{about: "503", reply: "503\n", code: wellknown.HTTPStatus, temporary: true, hops: 1},
		{about: "redirect", reply: "302\nLocation: https://www.example/x\n", more: "-- GET https://www.example/x --\n" + good, hops: 2},
		{about: "redirect, relative", reply: "308\nLocation: ../x?y\n", more: "-- GET https://h.example/.well-known/x?y --\n" + good, hops: 2},
		{about: "redirect without a scheme", reply: "301\nLocation: //www.example:8443/x\n", more: "-- GET https://www.example:8443/x --\n" + good, hops: 2},
		{about: "redirect with a user and a fragment", reply: "307\nLocation: https://u:p@www.example/x#y\n", more: "-- GET https://www.example/x --\n" + good, hops: 2},
		{about: "300 is no redirect", reply: "300\nLocation: https://www.example/x\n", code: wellknown.HTTPStatus, hops: 1},
		{about: "nowhere", reply: "302\n", code: wellknown.RedirectInvalid, hops: 1},
		{about: "to no URL", reply: "302\nLocation: https://[x/\n", code: wellknown.RedirectInvalid, hops: 2},
		{about: "to no host name", reply: "302\nLocation: https://a_b.example/\n", code: wellknown.RedirectInvalid, hops: 2},
		{about: "to a very long URL", reply: "302\nLocation: https://www.example/" + strings.Repeat("x", 8000) + "\n", code: wellknown.RedirectInvalid, hops: 2},
		{about: "to http", reply: "302\nLocation: http://www.example/x\n", code: wellknown.RedirectInsecure, hops: 2},
		{about: "to a file", reply: "302\nLocation: file:///etc/passwd\n", code: wellknown.RedirectInsecure, hops: 2},
		{about: "to itself", reply: "302\nLocation: https://H.example:443/.well-known/matrix/server\n", code: wellknown.RedirectLoop, temporary: true, hops: 2},
		{about: "to a private address", reply: "302\nLocation: https://169.254.169.254/\n", code: wellknown.AddressDenied, hops: 2},
		{about: "private", host: "private.example", code: wellknown.AddressDenied, hops: 1},
		{about: "no address", host: "noaddress.example", code: wellknown.NoAddress, temporary: true, hops: 1},
		{about: "no DNS", host: "nodns.example", code: wellknown.DNSError, temporary: true, hops: 1},
		{about: "refused", more: "-- servers --\n203.0.113.1:443 refuse\n", code: wellknown.ConnectFailed, temporary: true, hops: 1},
		{about: "reset", reply: "!reset\n", code: wellknown.ConnectFailed, temporary: true, hops: 1},
		{about: "cut off", reply: "200\n!content-length 100\n\n{\"m.server\":\"t.example:443\"}\n", code: wellknown.ConnectFailed, temporary: true, hops: 1},
		{about: "not HTTP", reply: "!raw\nSSH-2.0-x\r\n", code: wellknown.ConnectFailed, temporary: true, hops: 1},
		{about: "a huge header", reply: "200\nX: " + strings.Repeat("x", 70000) + "\n\n{}\n", code: wellknown.TooLarge, hops: 1},
		{about: "expired", reply: good, more: "-- servers --\n203.0.113.1:443 cert expired\n", code: wellknown.TLSFailed, temporary: true, hops: 1},
		{about: "another name", reply: good, more: "-- servers --\n203.0.113.1:443 cert names=x.example\n", code: wellknown.TLSFailed, temporary: true, hops: 1},
		{about: "unknown CA", reply: good, more: "-- servers --\n203.0.113.1:443 cert untrusted\n", code: wellknown.TLSFailed, temporary: true, hops: 1},
		{about: "silent server", reply: good, more: "-- servers --\n203.0.113.1:443 stall-handshake\n", code: wellknown.Timeout, temporary: true, hops: 1, took: 10 * time.Second},
		{about: "black hole", reply: good, more: "-- servers --\n203.0.113.1:443 drop\n", code: wellknown.Timeout, temporary: true, hops: 1, took: 10 * time.Second},
		{about: "slow header", reply: "200\n!delay 1m\n\n{}\n", code: wellknown.Timeout, temporary: true, hops: 1, took: 10 * time.Second},
		{about: "slow body", reply: "200\n!slow 1 9s\n\n{\"m.server\":\"t.example:443\"}\n", code: wellknown.Timeout, temporary: true, hops: 1, took: 10 * time.Second},
	} {
		t.Run(test.about, func(t *testing.T) {
			t.Parallel()
			scene := "-- zone --\nh.example. A 203.0.113.1\nwww.example. A 203.0.113.1\n"
			if test.reply != "" {
				scene += "-- GET https://h.example/.well-known/matrix/server --\n" + test.reply
			}
			parsed, err := world.Parse("scene", []byte(scene+test.more))
			require.NoError(t, err)
			synctest.Test(t, func(t *testing.T) {
				w, err := parsed.Start(world.Memory{Network: &memnet.Network{}})
				require.NoError(t, err)
				defer w.Close()
				host := test.host
				if host == "" {
					host = "h.example"
				}
				begun := time.Now()
				server, reply, err := fetcher(w).Server(t.Context(), host)
				assert.Equal(t, test.took, time.Since(begun))
				require.NotNil(t, reply)
				assert.Len(t, reply.Hops, test.hops)
				if test.code == "" {
					require.NoError(t, err)
					assert.Equal(t, "t.example:443", server)
					assert.Equal(t, 200, reply.Status)
					return
				}
				var e *wellknown.Error
				require.ErrorAs(t, err, &e)
				assert.Equal(t, test.code, e.Code, "%v", err)
				assert.Equal(t, test.temporary, e.Temporary())
				assert.Equal(t, e, reply.Hops[len(reply.Hops)-1].Err)
				assert.True(t, strings.HasPrefix(e.Error(), "GET https://") || e.Code == wellknown.RedirectInsecure, "%v", e)
				for _, r := range e.Error() {
					require.True(t, r >= ' ' && r <= '~', "%q", e.Error())
				}
			})
		})
	}
}

// TestRedirectsAreBounded: ten are followed, the eleventh is not.
func TestRedirectsAreBounded(t *testing.T) {
	t.Parallel()
	var scene strings.Builder
	scene.WriteString("-- zone --\nh.example. A 203.0.113.1\n-- GET https://h.example/.well-known/matrix/server --\n302\nLocation: /1\n")
	for i := 1; i <= 11; i++ {
		fmt.Fprintf(&scene, "-- GET https://h.example/%d --\n302\nLocation: /%d\n", i, i+1)
	}
	w := start(t, scene.String()+"-- GET https://h.example/12 --\n200\n\n{}\n")
	reply, err := fetcher(w).Get(t.Context(), "https://h.example/.well-known/matrix/server")
	var e *wellknown.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, wellknown.RedirectLoop, e.Code)
	assert.Len(t, reply.Hops, 12)
	_, err = fetcher(w).Get(t.Context(), "https://h.example/1")
	require.ErrorAs(t, err, &e)
	reply, err = fetcher(w).Get(t.Context(), "https://h.example/2")
	require.NoError(t, err, "ten redirects")
	assert.Len(t, reply.Hops, 11)
}

func start(t *testing.T, scene string) *world.World {
	parsed, err := world.Parse("scene", []byte(scene))
	require.NoError(t, err)
	w, err := parsed.Start(world.Memory{Network: &memnet.Network{}})
	require.NoError(t, err)
	t.Cleanup(func() { w.Close() })
	return w
}

// TestCanceled: the caller's own context ends the fetch at once.
func TestCanceled(t *testing.T) {
	t.Parallel()
	w := start(t, "-- zone --\nh.example. A 203.0.113.1\n")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := fetcher(w).Server(ctx, "h.example")
	var e *wellknown.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, wellknown.Canceled, e.Code)
}

// TestZeroFetcher is ready to use, and does not dial what a stranger named.
func TestZeroFetcher(t *testing.T) {
	t.Parallel()
	var f wellknown.Fetcher
	_, _, err := f.Server(t.Context(), "127.0.0.1")
	var e *wellknown.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, wellknown.AddressDenied, e.Code)
	_, err = f.Get(t.Context(), "http://example.org/")
	require.ErrorAs(t, err, &e)
	assert.Equal(t, wellknown.RedirectInsecure, e.Code)
}

// TestEndlessStream: a body that never decodes to anything ends by what is
// sent, not by what comes out.
func TestEndlessStream(t *testing.T) {
	t.Parallel()
	client, server := net.Pipe()
	f := wellknown.Fetcher{DialTLS: func(context.Context, string, uint16, *tls.Config) (net.Conn, netip.AddrPort, error) {
		return client, netip.AddrPort{}, nil
	}}
	go func() {
		defer server.Close()
		server.Read(make([]byte, 4096))
		io.WriteString(server, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n")
		server.Write([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}) // RFC 1952
		empty := bytes.Repeat([]byte{0, 0, 0, 0xff, 0xff}, 1000)    // stored blocks of no bytes, RFC 1951
		for {
			if _, err := server.Write(empty); err != nil {
				return
			}
		}
	}()
	_, _, err := f.Server(t.Context(), "h.example")
	var e *wellknown.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, wellknown.TooLarge, e.Code)
}

// TestEarlyAnswer: a server that speaks before it was asked is heard after the
// question; nothing of it reaches the log of the process.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	for range 50 {
		client, server := net.Pipe()
		f := wellknown.Fetcher{DialTLS: func(context.Context, string, uint16, *tls.Config) (net.Conn, netip.AddrPort, error) {
			return client, netip.AddrPort{}, nil
		}}
		go func() {
			defer server.Close()
			go io.WriteString(server, "HTTP/1.1 200 OK\r\nContent-Length: 24\r\n\r\n{\"m.server\":\"t.example\"}")
			server.Read(make([]byte, 4096))
			server.Read(make([]byte, 1)) // until the client is done
		}()
		got, _, err := f.Server(t.Context(), "h.example")
		require.NoError(t, err)
		require.Equal(t, "t.example", got)
	}
}

// TestHosts: only a host name is asked.
func TestHosts(t *testing.T) {
	t.Parallel()
	f := wellknown.Fetcher{DialTLS: func(context.Context, string, uint16, *tls.Config) (net.Conn, netip.AddrPort, error) {
		t.Error("dialled")
		return nil, netip.AddrPort{}, net.ErrClosed
	}}
	for _, host := range []string{"", "x#", "x?y", "a@b", "x/../y", "h:80", "a b", "x\n", "::1"} {
		_, reply, err := f.Server(t.Context(), host)
		var e *wellknown.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, wellknown.InvalidHost, e.Code, "%q", host)
		assert.NotNil(t, reply)
	}
	_, err := f.Get(t.Context(), "http://h.example/")
	require.EqualError(t, err, "GET http://h.example/: asked for http://h.example/, which is not https")
}

// TestHopsArePrintable: what a server redirects to is shown in one short line.
func TestHopsArePrintable(t *testing.T) {
	t.Parallel()
	w := start(t, "-- zone --\nh.example. A 203.0.113.1\n-- GET https://h.example/.well-known/matrix/server --\n302\nLocation: /x?\u009b31m\u202e"+strings.Repeat("a", 5000)+"\n")
	_, reply, err := fetcher(w).Server(t.Context(), "h.example")
	require.Error(t, err)
	for _, text := range []string{err.Error(), reply.Hops[0].Location, reply.Hops[1].URL} {
		assert.Less(t, len(text), 2000)
		for _, r := range text {
			require.True(t, r >= ' ' && r <= '~', "%q", text)
		}
	}
}

// TestRequest: what a host sees of us.
func TestRequest(t *testing.T) {
	t.Parallel()
	client, server := net.Pipe()
	defer server.Close()
	f := wellknown.Fetcher{DialTLS: func(context.Context, string, uint16, *tls.Config) (net.Conn, netip.AddrPort, error) {
		return client, netip.AddrPort{}, nil
	}}
	go f.Server(t.Context(), "h.example")
	buf := make([]byte, 4096)
	n, err := server.Read(buf)
	require.NoError(t, err)
	assert.Equal(t, "GET /.well-known/matrix/server HTTP/1.1\r\nHost: h.example\r\nUser-Agent: mxdiscover\r\nAccept: application/json\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n", string(buf[:n]))
}
