package dial

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/memnet"
)

// proxy answers one connection after another with the bytes of answer, then
// repeats what it is sent.
func proxy(t *testing.T, n *memnet.Network, addr, answer string, asked chan<- *http.Request) {
	l, err := n.Listen(addr)
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				req, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				if asked != nil {
					asked <- req
				}
				io.WriteString(conn, answer)
				io.Copy(conn, in)
			}()
		}
	}()
}

func TestProxy(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 Connection established\r\n\r\n"
	for _, test := range []struct {
		about, via, answer string
		status             int
		text               string
		handshaking        bool
	}{
		{about: "connects", via: "http://proxy.example:3128", answer: ok},
		{about: "with credentials", via: "http://me:secret@proxy.example:3128", answer: ok},
		{about: "its address is not guarded", via: "http://10.0.0.1:3128", answer: ok},
		{about: "refuses", via: "http://proxy.example:3128", answer: "HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n", status: 407, text: "the proxy proxy.example:3128 does not connect to target.example:8448: status 407 Proxy Authentication Required"},
		{about: "any 2xx", via: "http://proxy.example:3128", answer: "HTTP/1.1 204 Yes\r\n\r\n"},
		{about: "a length that means nothing", via: "http://proxy.example:3128", answer: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"},
		{about: "any other status is no tunnel", via: "http://proxy.example:3128", answer: "HTTP/1.1 302 No\r\nContent-Length: 9\r\n\r\n", status: 302},
		{about: "speaks for the target", via: "http://proxy.example:3128", answer: ok + "hello", text: "it spoke for the target"},
		{about: "no HTTP", via: "http://proxy.example:3128", answer: "SSH-2.0\r\n\r\n", text: "malformed HTTP"},
		{about: "says nothing", via: "http://proxy.example:3128", text: "deadline", handshaking: true},
		{about: "endless header", via: "http://proxy.example:3128", answer: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", maxProxyHeader), text: "EOF"},
		{about: "nobody there", via: "http://proxy.example:3129", text: "the proxy proxy.example:3129 does not connect to target.example:8448: connection refused"},
		{about: "another scheme", via: "socks5://proxy.example:3128", text: `scheme "socks5"`},
		{about: "no host", via: "http://:3128", text: "no host and port"},
		{about: "a bad port", via: "http://proxy.example:99999", text: "no host and port"},
	} {
		t.Run(test.about, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := new(memnet.Network)
				asked := make(chan *http.Request, 1)
				via, err := url.Parse(test.via)
				require.NoError(t, err)
				proxy(t, n, "203.0.113.9:3128", test.answer, asked)
				proxy(t, n, "10.0.0.1:3128", test.answer, asked)
				d := lab(n, answerIn{}, answerIn{addrs: []string{"203.0.113.9"}})
				d.Proxy = func(host string, port uint16) (*url.URL, error) {
					assert.Equal(t, "target.example", host)
					assert.Equal(t, uint16(8448), port)
					return via, nil
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				conn, err := d.Dial(ctx, "target.example", 8448, func(_ context.Context, conn net.Conn) (net.Conn, error) {
					io.WriteString(conn, "ping")
					_, err := io.ReadFull(conn, make([]byte, 4))
					return conn, err
				})
				if test.text == "" && test.status == 0 {
					require.NoError(t, err)
					defer conn.Close()
					req := <-asked
					assert.Equal(t, "target.example:8448", req.Host)
					assert.Equal(t, "CONNECT", req.Method)
					name, password, sent := proxyAuth(req)
					assert.Equal(t, via.User != nil, sent)
					if sent {
						assert.Equal(t, "me secret", name+" "+password)
					}
					return
				}
				var e *Error
				require.ErrorAs(t, err, &e)
				assert.ErrorContains(t, err, test.text)
				assert.Equal(t, test.handshaking, e.Handshaking)
				if !test.handshaking {
					assert.Equal(t, ConnectFailed, e.Kind)
				}
				var refusal *ProxyError
				if test.status != 0 && assert.ErrorAs(t, err, &refusal) {
					assert.Equal(t, test.status, refusal.Status)
				}
			})
		})
	}
}

func proxyAuth(req *http.Request) (name, password string, ok bool) {
	req.Header.Set("Authorization", req.Header.Get("Proxy-Authorization"))
	return req.BasicAuth()
}

// TestProxyChoice: nil means none, and an error ends the dial.
func TestProxyChoice(t *testing.T) {
	t.Parallel()
	n := new(memnet.Network)
	serve(t, n, "203.0.113.1:443")
	d := lab(n, answerIn{}, answerIn{addrs: []string{"203.0.113.1"}})
	d.Proxy = func(string, uint16) (*url.URL, error) { return nil, nil }
	conn, err := d.Dial(t.Context(), "target.example", 443, nil)
	require.NoError(t, err)
	assert.Equal(t, netip.MustParseAddrPort("203.0.113.1:443"), conn.Addr)
	conn.Close()

	wrong := errors.New("no such rule")
	d.Proxy = func(string, uint16) (*url.URL, error) { return nil, wrong }
	_, err = d.Dial(t.Context(), "target.example", 443, nil)
	assert.ErrorIs(t, err, wrong)
}
