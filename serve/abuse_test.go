package serve

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/check"
	"mxdiscover/internal/guard"
	"mxdiscover/internal/memnet"
	"mxdiscover/internal/world"
	"mxdiscover/resolver"
	"mxdiscover/srv"
)

// TestHostSpellings: a host is asked as often as its limit says, by whatever
// name it is called, and whichever part of a question makes the trouble.
func TestHostSpellings(t *testing.T) {
	t.Parallel()
	for about, targets := range map[string][]string{
		"user IDs on the page":        {"/?name=@a:a.example", "/?name=@b:a.example", "/?name=@c:a.example:8448", "/?name=@d:A.example"},
		"user IDs":                    {"/api/v1/client?name=@a:a.example", "/api/v1/client?name=@b:a.example", "/api/v1/client?name=a.example", "/?name=@d:A.example"},
		"cases and ports":             {"/api/v1/check?server_name=a.example", "/api/v1/resolve?server_name=A.EXAMPLE", "/probe?target=a.example:1", "/?name=a.example:2"},
		"IPv4, as it is and in IPv6":  {"/api/v1/check?server_name=203.0.113.5", "/api/v1/check?server_name=[::ffff:203.0.113.5]", "/api/v1/check?server_name=[::ffff:cb00:7105]", "/api/v1/check?server_name=203.0.113.5:1"},
		"IPv6, in all of its writing": {"/api/v1/check?server_name=[2001:db8::1]", "/api/v1/check?server_name=[2001:DB8::1]:1", "/api/v1/check?server_name=[2001:db8:0::1]", "/api/v1/check?server_name=[2001:db8::0.0.0.1]"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := offline()
				s.Check, s.Limits = atOnce, Limits{PerHost: Rate{3, time.Hour}}
				for i, target := range targets {
					want := http.StatusOK
					if i == 3 {
						want = http.StatusTooManyRequests
					}
					assert.Equal(t, want, get(s, target).Code, target)
				}
			})
		})
	}
}

// TestSlowReader: who takes a page or an answer byte by byte is cut off, as one
// who takes nothing is.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"/?name=a.example", "/api/v1/check?server_name=a.example", "/api/report?server_name=a.example", "/api/v1/check/stream?server_name=a.example"} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := offline()
				s.Check = func(_ context.Context, name string, _ resolver.Rules, onEvent func(check.Event)) *check.Report {
					r := reportOn(name)
					r.Verdict = check.Bad
					for range 64 {
						f := check.Finding{Code: "code", Severity: check.SeverityError, Evidence: []string{strings.Repeat("x", 4000), strings.Repeat("y", 4000)}}
						onEvent(check.Event{Kind: check.EventFinding, Finding: &f})
						r.Findings = append(r.Findings, f)
					}
					for i := range 100 {
						r.Targets = append(r.Targets, check.Target{Host: strings.Repeat("t", 3000), Port: uint16(i), Addresses: []check.Address{}})
					}
					return r
				}
				site := newSite(t, s)
				conn, err := site.network.DialContext(t.Context(), "tcp", site.addr)
				require.NoError(t, err)
				defer conn.Close()
				_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: mx.example\r\n\r\n", target)
				require.NoError(t, err)
				began := time.Now()
				in := bufio.NewReaderSize(conn, 16)
				for {
					time.Sleep(time.Second)
					if _, err := io.CopyN(io.Discard, in, 2<<10); err != nil || time.Since(began) > time.Hour {
						break
					}
					if s.state().limits.requests() == 0 {
						break
					}
				}
				assert.Less(t, time.Since(began), writeTimeout+15*time.Second)
			})
		})
	}
}

// TestTurning: nothing that a server says to clients turns the text of the page
// around, or acts on a terminal, as the characters do that Unicode has for that.
func TestTurning(t *testing.T) {
	t.Parallel()
	scene, err := world.Parse("turning", []byte(`A server that turns things around.
-- zone --
a.example.  A  203.0.113.1
-- servers --
203.0.113.1:443
-- GET https://a.example/.well-known/matrix/client --
200

{"m.homeserver":{"base_url":"https://a.example"}}
-- GET https://a.example/_matrix/client/versions --
200

{"versions":["v1.1","\u202ev1.2","\u009b31mv1.3","\u2066v1.4\u2028\u200e\u061c"]}
`))
	require.NoError(t, err)
	within(t, scene, func(t *testing.T, s *Server) {
		for _, target := range []string{"/?name=a.example", "/api/v1/client?name=a.example"} {
			body := get(s, target).Body.String()
			assert.Contains(t, body, "v1.1")
			for _, r := range "\u202e\u009b\u2066\u2028\u200e\u061c" {
				assert.NotContains(t, body, string(r), "%s %U", target, r)
			}
		}
	})
}

// TestInside: no route connects to what is not public, wherever strangers name it:
// as a name, a delegation, a redirect, a target, an alias, a base URL, or an
// address that is another one inside; nor when the DNS says something else the
// next time.
func TestInside(t *testing.T) {
	t.Parallel()
	scene, err := world.Parse("inside", []byte(`Names that lead to where only the machine itself gets.
-- zone --
$TTL 0
in.example.        A     10.0.0.1
in.example.        AAAA  64:ff9b::a00:1
in.example.        AAAA  2002:a00:1::1
in.example.        AAAA  ::ffff:169.254.169.254
alias.example.     CNAME in.example.
one.example.       A     203.0.113.10
two.example.       A     203.0.113.11
three.example.     A     203.0.113.12
four.example.      A     203.0.113.13
five.example.      A     203.0.113.14
turn.example.      A     203.0.113.15
_matrix-fed._tcp.two.example.  SRV  1 1 22 in.example.
_matrix-fed._tcp.two.example.  SRV  2 1 22 alias.example.
_matrix-fed._tcp.two.example.  SRV  3 1 8448 two.example.
_matrix._tcp.four.example.     SRV  1 1 6379 localhost.
-- zone from 100ms --
$TTL 0
turn.example.      A     127.0.0.1
-- servers --
203.0.113.10:8448 refuse
203.0.113.11:8448 refuse
203.0.113.15:8448 refuse
-- GET https://one.example/.well-known/matrix/server --
307
Location: https://in.example/.well-known/matrix/server

-- GET https://one.example/.well-known/matrix/client --
302
Location: https://[::ffff:10.0.0.1]/x

-- GET https://two.example/.well-known/matrix/client --
200

{"m.homeserver":{"base_url":"http://in.example:6379"},"m.identity_server":{"base_url":"https://alias.example"}}
-- GET https://three.example/.well-known/matrix/server --
200

{"m.server":"five.example"}
-- GET https://five.example/.well-known/matrix/server --
302
Location: https://[64:ff9b::7f00:1]/

-- GET https://three.example/.well-known/matrix/client --
200

{"m.homeserver":{"base_url":"https://five.example"}}
-- GET https://five.example/_matrix/client/versions --
302
Location: http://127.0.0.1:8080/metrics

-- GET https://four.example/.well-known/matrix/server/ --
302
Location: https://10.0.0.1:8443/

-- GET https://four.example/.well-known/matrix/client --
200

{"m.homeserver":{"base_url":"http://[::1]:9200"}}
`))
	require.NoError(t, err)
	for _, name := range []string{
		"in.example", "alias.example:22", "one.example", "two.example", "three.example", "four.example", "turn.example",
		"localhost", "127.0.0.1:22", "[::1]:8080", "[::ffff:127.0.0.1]", "[64:ff9b::a00:1]:22", "[2002:7f00:1::]", "169.254.169.254:80", "0.0.0.0", "[::]",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			within(t, scene, func(t *testing.T, s *Server) {
				var g guard.Guard
				var dialled atomic.Int32
				inner := s.NewResolver
				s.NewResolver = func() *resolver.Resolver {
					r := inner()
					dial := r.DialContext
					r.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
						dialled.Add(1)
						at := netip.MustParseAddrPort(address).Addr()
						if !documentation.Contains(at) {
							assert.NoError(t, g.Check(at), address)
						}
						return dial(ctx, network, address)
					}
					r.AllowNets = []netip.Prefix{documentation} // where the world is
					return r
				}
				for _, target := range hostileTargets(name) {
					get(s, target)
				}
				if strings.HasSuffix(name, "e.example") || strings.HasPrefix(name, "t") {
					assert.NotZero(t, dialled.Load())
				}
			})
		})
	}
}

var documentation = netip.MustParsePrefix("203.0.113.0/24")

// TestNothingStays: when the last visitor has gone, nothing goes on asking for
// them.
func TestNothingStays(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"/api/v1/resolve?server_name=a.example", "/api/v1/client?name=a.example", "/api/v1/check?server_name=a.example", "/?name=a.example"} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				network := &memnet.Network{}
				network.Drop("192.0.2.53:53")
				s := &Server{NewResolver: func() *resolver.Resolver {
					return &resolver.Resolver{
						DNS:         &srv.Client{Servers: []string{"192.0.2.53:53"}, HostsFile: "/dev/null", Timeout: time.Minute, Attempts: 1, Dial: network.DialContext},
						DialContext: network.DialContext,
					}
				}}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				get(s, target, func(r *http.Request) { *r = *r.WithContext(ctx) })
				synctest.Wait()
				assert.Zero(t, s.state().desk.load().live)
				buf := make([]byte, 1<<20)
				stacks := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
				_, bubble, _ := strings.Cut(stacks[0], "synctest bubble ")
				bubble, _, _ = strings.Cut(bubble, "]")
				for _, stack := range stacks[1:] {
					if strings.Contains(stack, "synctest bubble "+bubble+"]") && strings.Contains(stack, "\nmxdiscover/srv.") {
						t.Error(stack)
					}
				}
			})
		})
	}
}
