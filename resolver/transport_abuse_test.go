package resolver_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/world"
	"mxdiscover/resolver"
)

// TestPanickingFunctions: net/http dials on goroutines that no caller can
// recover, so the caller's functions must not panic there.
func TestPanickingFunctions(t *testing.T) {
	t.Parallel()
	const scene = "-- zone --\nh.example. A 203.0.113.1\n-- servers --\n203.0.113.1:8448\n"
	for about, spoil := range map[string]func(*resolver.Resolver){
		"ConnectTo": func(r *resolver.Resolver) {
			r.ConnectTo = func(string, uint16) (string, uint16, bool) { panic("oops") }
		},
		"Proxy": func(r *resolver.Resolver) { r.Proxy = func(string, uint16) (*url.URL, error) { panic("oops") } },
	} {
		_, _, r := onLoopback(t, scene)
		spoil(r)
		_, err := reach(t, &resolver.Transport{Resolver: r}, "h.example:8448")
		require.ErrorIs(t, err, resolver.Unreachable, about)
		assert.ErrorContains(t, err, "panicked", about)
	}
	_, _, careless := onLoopback(t, scene)
	careless.ConnectTo = func(string, uint16) (string, uint16, bool) { panic("oops") }
	require.ErrorIs(t, careless.Explain(t.Context(), "h.example:8448").Err, resolver.Internal)

	w, _, r := onLoopback(t, scene)
	var open atomic.Int32
	r.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := w.DialContext(ctx, network, address)
		if err == nil {
			open.Add(1)
			c = &countConn{c, &open}
		}
		return c, err
	}
	tr := &resolver.Transport{Resolver: r, Base: &http.Transport{TLSClientConfig: &tls.Config{
		VerifyConnection: func(tls.ConnectionState) error { panic("oops") },
	}}}
	_, err := reach(t, tr, "h.example:8448")
	assert.ErrorContains(t, err, "the handshake panicked")
	assert.Zero(t, open.Load(), "its connection is closed")
}

type countConn struct {
	net.Conn
	n *atomic.Int32
}

func (c *countConn) Close() error { c.n.Add(-1); return c.Conn.Close() }

// TestWeightsMakeNoPlan: the set of targets is what counts, not which is first.
func TestWeightsMakeNoPlan(t *testing.T) {
	t.Parallel()
	const (
		hosts = "a.example. A 203.0.113.1\nb.example. A 203.0.113.2\n"
		owner = "_matrix-fed._tcp.h.example. 60 SRV "
		rest  = "-- servers --\n203.0.113.1:8443 http1\n203.0.113.2:8444 http1\n"
	)
	zone := func(records ...string) string {
		return "-- zone --\n" + hosts + owner + strings.Join(records, "\n"+owner) + "\n" + rest
	}
	within(t, time.Millisecond, zone("1 9 8443 a.example.", "1 1 8444 b.example."), func(t *testing.T, w *world.World, r *resolver.Resolver) {
		tr := &resolver.Transport{Resolver: r}
		defer tr.CloseIdleConnections()
		reach(t, tr, "h.example")
		w.Change(mustParse(t, zone("1 1 8443 a.example.", "1 9 8444 b.example.")))
		time.Sleep(61 * time.Second)
		reach(t, tr, "h.example")
		assert.Equal(t, 1, tr.Stats().Plans)
		assert.Equal(t, uint64(1), tr.Stats().Connections)
	})
}

// TestOneOutageCountsOnce: over HTTP/1.1 every request makes a connection, and all
// of them meet the same silence.
func TestOneOutageCountsOnce(t *testing.T) {
	t.Parallel()
	const scene = `
-- zone --
h.example. A 203.0.113.1
-- servers --
203.0.113.1:8448 http1
-- servers from 30s --
203.0.113.1:8448 drop
-- servers from 43s --
203.0.113.1:8448 http1
`
	within(t, time.Millisecond, scene, func(t *testing.T, w *world.World, r *resolver.Resolver) {
		tr := &resolver.Transport{Resolver: r}
		defer tr.CloseIdleConnections()
		reach(t, tr, "h.example:8448")
		w.Cut(netip.MustParseAddrPort("203.0.113.1:8448"))
		time.Sleep(31 * time.Second)
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 900 * time.Millisecond)
				began := time.Now()
				_, err := reach(t, tr, "h.example:8448")
				var failed *resolver.ConnectError
				if errors.As(err, &failed) {
					assert.LessOrEqual(t, time.Until(failed.RetryAt), time.Second, "request %d", i)
				}
				assert.Less(t, time.Since(began), 11*time.Second)
			})
		}
		wg.Wait()
	})
}

// TestMarkAliveIsNoHit: it resolves nothing.
func TestMarkAliveIsNoHit(t *testing.T) {
	t.Parallel()
	within(t, time.Millisecond, dead, func(t *testing.T, w *world.World, r *resolver.Resolver) {
		tr := &resolver.Transport{Resolver: r}
		r.Resolve(t.Context(), "h.example")
		r.Resolve(t.Context(), "h.example")
		before := r.Stats()
		for range 5 {
			tr.MarkAlive("h.example")
		}
		assert.Equal(t, before.Hits, r.Stats().Hits)
	})
}

// TestCaseIsNoPlan: a stranger chooses how a name is spelled, and must not have a
// dead server tried for every spelling.
func TestCaseIsNoPlan(t *testing.T) {
	t.Parallel()
	direct := strings.Replace(dead, "m.server\":\"d.example", "x\":\"d.example", 1)
	for _, scene := range []string{dead, strings.ReplaceAll(direct, "tcp.d.example", "tcp.h.example")} {
		within(t, time.Millisecond, scene, func(t *testing.T, w *world.World, r *resolver.Resolver) {
			v := watch(w, r)
			tr := &resolver.Transport{Resolver: r}
			for i := range 64 {
				name := []byte("h.example")
				for bit := range 6 {
					if i>>bit&1 == 1 {
						name[2+bit] -= 'a' - 'A'
					}
				}
				_, err := reach(t, tr, string(name))
				require.ErrorIs(t, err, resolver.Unreachable)
			}
			assert.Equal(t, uint64(1), tr.Stats().AskedAgain)
			assert.LessOrEqual(t, count(w, "GET https://h.example/.well-known"), 2)
			assert.Equal(t, 1, v.dialsTo("203.0.113.1:8448"))
			assert.Equal(t, 1, tr.Stats().Plans)
		})
	}
}

// TestProxyLooksUp: where a proxy connects to is its own business, and its
// addresses are not asked for.
func TestProxyLooksUp(t *testing.T) {
	t.Parallel()
	const scene = "-- zone --\nd.example. A 203.0.113.1\n_matrix-fed._tcp.d.example. SRV 1 1 8448 a.example.\na.example. A 203.0.113.2\n"
	within(t, time.Millisecond, scene, func(t *testing.T, w *world.World, r *resolver.Resolver) {
		r.Proxy = func(string, uint16) (*url.URL, error) {
			return &url.URL{Scheme: "http", Host: "203.0.113.77:3128"}, nil
		}
		_, err := reach(t, &resolver.Transport{Resolver: r}, "d.example")
		require.ErrorIs(t, err, resolver.ConnectFailed)
		assert.ErrorContains(t, err, "a.example:8448: the proxy 203.0.113.77:3128 does not connect to a.example:8448: connection refused")
		time.Sleep(time.Second)
		assert.Zero(t, count(w, "A ")+count(w, "AAAA "))
	})
}

// TestFailFastWhileAsking: a silent well-known host must not keep the requests to a
// dead server waiting.
func TestFailFastWhileAsking(t *testing.T) {
	t.Parallel()
	scene := strings.Replace(dead, "203.0.113.2:8448 refuse\n-- servers from 20s --\n203.0.113.1:8448 refuse\n203.0.113.2:8448 http1\n", "203.0.113.2:8448 refuse\n-- servers from 5s --\n203.0.113.1:8448 refuse\n203.0.113.2:8448 refuse\n203.0.113.9:443 drop\n", 1)
	within(t, time.Millisecond, scene, func(t *testing.T, w *world.World, r *resolver.Resolver) {
		tr := &resolver.Transport{Resolver: r}
		_, err := r.Resolve(t.Context(), "h.example")
		require.NoError(t, err)
		time.Sleep(6 * time.Second)
		start := time.Now()
		var worst time.Duration
		var mu sync.Mutex
		var wg sync.WaitGroup
		slow := 0
		var total int
		for time.Since(start) < 6*time.Minute {
			wg.Go(func() {
				b := time.Now()
				_, err := reach(t, tr, "h.example")
				var failed *resolver.ConnectError
				if !errors.As(err, &failed) {
					t.Error(err)
					return
				}
				mu.Lock()
				total++
				if d := time.Since(b); d > time.Second+10*time.Millisecond {
					slow++
					worst = max(worst, d)
				}
				mu.Unlock()
			})
			time.Sleep(500 * time.Millisecond)
		}
		wg.Wait()
		// Those that tried by themselves, when the pauses of 1 s and 4 s ended.
		assert.LessOrEqual(t, slow, 3, "of %d, the slowest took %s", total, worst)
	})
}

// TestFailFastWhileTrying: a stranger may name eight black holes, and trying them
// takes minutes. Only who tries waits.
func TestFailFastWhileTrying(t *testing.T) {
	t.Parallel()
	zone := "-- zone --\n"
	for i := range 8 {
		zone += fmt.Sprintf("_matrix-fed._tcp.h.example. SRV 1 1 %d a.example.\n", 8001+i)
	}
	scene := zone + "a.example. A 203.0.113.1\nh.example. A 203.0.113.1\n-- servers --\n"
	for i := range 8 {
		scene += fmt.Sprintf("203.0.113.1:%d drop\n", 8001+i)
	}
	within(t, time.Millisecond, scene, func(t *testing.T, w *world.World, r *resolver.Resolver) {
		tr := &resolver.Transport{Resolver: r}
		start := time.Now()
		var mu sync.Mutex
		var wg sync.WaitGroup
		slow, total := 0, 0
		var worst time.Duration
		for time.Since(start) < 20*time.Minute {
			wg.Go(func() {
				b := time.Now()
				reach(t, tr, "h.example")
				mu.Lock()
				total++
				if d := time.Since(b); d > time.Second+10*time.Millisecond {
					slow++
					worst = max(worst, d)
				}
				mu.Unlock()
			})
			time.Sleep(time.Second)
		}
		wg.Wait()
		// Everybody waits for the first try, which takes 80 seconds; later only who
		// tries, with pauses of up to a minute between.
		assert.LessOrEqual(t, slow, 80+20*60/(80+60)+3, "of %d, the slowest took %s", total, worst)
	})
}

// TestDeadlineIsTimeout: http.Client tells its callers of deadlines, wherever a
// request was.
func TestDeadlineIsTimeout(t *testing.T) {
	t.Parallel()
	const scene = "-- zone --\nh.example. A 203.0.113.1\n-- servers --\n203.0.113.1:443 drop\n203.0.113.1:8448 drop\n"
	within(t, time.Millisecond, scene, func(t *testing.T, w *world.World, r *resolver.Resolver) {
		client := &http.Client{Transport: &resolver.Transport{Resolver: r}, Timeout: time.Second}
		for _, name := range []string{"h.example", "h.example:8448"} { // during discovery, during the dial
			_, err := client.Get("matrix-federation://" + name + "/")
			assert.True(t, os.IsTimeout(err), "%v", err)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
		}
		time.Sleep(time.Minute)
	})
}

// TestTwoNamesOnOneMachineThatMoves: whoever asks for the new address first asks
// for both.
func TestTwoNamesOnOneMachineThatMoves(t *testing.T) {
	t.Parallel()
	const scene = `
-- zone --
x.example. A 203.0.113.9
y.example. A 203.0.113.9
_matrix-fed._tcp.x.example. SRV 1 1 8448 m.example.
_matrix-fed._tcp.y.example. SRV 1 1 8448 m.example.
m.example. 86400 A 203.0.113.1
-- servers --
203.0.113.1:8448 http1
203.0.113.2:8448 http1
`
	within(t, time.Millisecond, scene, func(t *testing.T, w *world.World, r *resolver.Resolver) {
		tr := &resolver.Transport{Resolver: r}
		reach(t, tr, "x.example")
		reach(t, tr, "y.example")
		w.Change(mustParse(t, strings.Replace(strings.Replace(scene, "A 203.0.113.1", "A 203.0.113.2", 1), "203.0.113.1:8448 http1", "203.0.113.1:8448 drop", 1)))
		w.Cut(netip.MustParseAddrPort("203.0.113.1:8448"))
		time.Sleep(time.Second)
		defer tr.CloseIdleConnections()
		var wg sync.WaitGroup
		for i, n := range []string{"x.example", "y.example"} {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond * 10)
				b := time.Now()
				_, err := reach(t, tr, n)
				assert.NoError(t, err, n)
				assert.Less(t, time.Since(b), 11*time.Second, n)
			})
		}
		wg.Wait()
	})
}
