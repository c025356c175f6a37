package resolver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/memnet"
	"mxdiscover/internal/world"
	"mxdiscover/resolver"
	"mxdiscover/srv"
	"mxdiscover/wellknown"
)

// within runs a test inside a scene, in virtual time; one way takes latency.
func within(t *testing.T, latency time.Duration, scene string, test func(t *testing.T, w *world.World, r *resolver.Resolver)) {
	t.Helper()
	parsed, err := world.Parse(t.Name(), []byte(scene))
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		w, err := parsed.Start(world.Memory{Network: &memnet.Network{Latency: latency}})
		require.NoError(t, err)
		defer w.Close()
		test(t, w, inside(w))
		time.Sleep(time.Minute) // whatever is under way ends by its own deadline
	})
}

const delegation = `
-- zone --
h.example.  A  203.0.113.1
t.example.  A  203.0.113.2
-- GET https://h.example/.well-known/matrix/server --
200
Cache-Control: max-age=1000
!delay 1s

{"m.server":"t.example:443"}
`

// TestCancelledCaller: who gives up leaves alone. The question goes on for the
// others, and its answer is kept; the giving up is not.
func TestCancelledCaller(t *testing.T) {
	t.Parallel()
	within(t, 0, delegation, func(t *testing.T, w *world.World, r *resolver.Resolver) {
		other := make(chan error)
		go func() {
			time.Sleep(time.Millisecond)
			_, err := r.Resolve(t.Context(), "h.example")
			other <- err
		}()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		begun := time.Now()
		res, err := r.Resolve(ctx, "h.example")
		require.ErrorIs(t, err, resolver.Canceled)
		require.ErrorIs(t, err, context.Canceled)
		assert.Equal(t, 100*time.Millisecond, time.Since(begun), "its own context ends its wait")
		require.NotNil(t, res, "with what was found out until then")
		assert.Equal(t, "3", res.Step)
		require.NoError(t, <-other)

		res, err = r.Resolve(ctx, "h.example") // cancelled, and known by now
		require.NoError(t, err)
		assert.Equal(t, "3.2", res.Step)
		assert.Equal(t, 1, count(w, "GET "))
	})
}

// TestAbandoned: nobody waits any more, and the answer is kept all the same.
func TestAbandoned(t *testing.T) {
	t.Parallel()
	within(t, 0, delegation, func(t *testing.T, w *world.World, r *resolver.Resolver) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		_, err := r.Resolve(ctx, "h.example")
		require.ErrorIs(t, err, resolver.Timeout)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		time.Sleep(2 * time.Second)
		res, err := r.Inspect("h.example")
		require.NoError(t, err)
		assert.Equal(t, "3.2", res.Step)
		assert.Equal(t, 1, count(w, "GET "))
	})
}

func count(w *world.World, prefix string) int {
	n := 0
	for _, what := range w.Asked() {
		if strings.HasPrefix(what, prefix) {
			n++
		}
	}
	return n
}

// TestHerd: a thousand callers ask one question.
func TestHerd(t *testing.T) {
	t.Parallel()
	within(t, 5*time.Millisecond, delegation, func(t *testing.T, w *world.World, r *resolver.Resolver) {
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				res, err := r.Resolve(t.Context(), "h.example")
				if assert.NoError(t, err) {
					assert.Equal(t, "t.example:443", res.Host)
				}
			})
		}
		wg.Wait()
		assert.Equal(t, 1, count(w, "GET "))
		assert.Equal(t, 1, count(w, "A h.example"))
		assert.Equal(t, 1, count(w, "SRV _matrix._tcp.h.example"), "asked beside the slow answer, and once")
	})
}

// TestColdTakesItsSlowestChain: SRV beside well-known costs nothing, whichever
// of the two is slower. One round trip is 20 ms.
func TestColdTakesItsSlowestChain(t *testing.T) {
	t.Parallel()
	const trip = 20 * time.Millisecond
	const zone = `
-- zone --
h.example.  A  203.0.113.1
_matrix-fed._tcp.h.example. SRV 1 1 8443 s.example.
s.example.  A  203.0.113.2
-- GET https://h.example/other --
200
`
	for _, test := range []struct {
		about, faults string
		want          time.Duration
	}{
		// DNS, TCP, TLS, HTTP
		{"well-known is slower", "", 4 * trip},
		// the head start, then the slow answer of SRV
		{"SRV is slower", "-- dns --\n*.h.example. SRV delay 300ms\n", 10*time.Millisecond + 300*time.Millisecond + trip},
		// nobody listens: DNS, TCP
		{"no web server", "-- servers --\n203.0.113.1:443 refuse\n", 2 * trip},
	} {
		t.Run(test.about, func(t *testing.T) {
			t.Parallel()
			within(t, trip/2, zone+test.faults, func(t *testing.T, _ *world.World, r *resolver.Resolver) {
				begun := time.Now()
				res, err := r.Resolve(t.Context(), "h.example")
				require.NoError(t, err)
				assert.Equal(t, "4", res.Step)
				assert.Equal(t, test.want, time.Since(begun))
			})
		})
	}
}

// TestColdTrips: when Resolve returns, the addresses of what it found beside
// well-known are known as well. Whoever dials then waits for TCP, TLS and HTTP
// alone. One round trip is 20 ms.
func TestColdTrips(t *testing.T) {
	t.Parallel()
	const (
		trip  = 20 * time.Millisecond
		start = 10 * time.Millisecond // of well-known before SRV
		slow  = 300 * time.Millisecond
	)
	const (
		web       = "h.example. A 203.0.113.1\n"
		fed       = "_matrix-fed._tcp.h.example. SRV 1 1 8443 s.example.\ns.example. A 203.0.113.2\n"
		legacy    = "_matrix._tcp.h.example. SRV 1 1 8443 s.example.\ns.example. A 203.0.113.2\n"
		many      = fed + "_matrix-fed._tcp.h.example. SRV 1 1 8443 s2.example.\n_matrix-fed._tcp.h.example. SRV 1 1 8443 s3.example.\n_matrix-fed._tcp.h.example. SRV 1 1 8443 s4.example.\n"
		delegated = "d.example. A 203.0.113.3\n"
		other     = "-- GET https://h.example/other --\n200\n"
	)
	delegate := func(to string) string {
		return "-- GET https://h.example/.well-known/matrix/server --\n200\n\n{\"m.server\":\"" + to + "\"}\n"
	}
	for _, test := range []struct {
		about, rule, zone, rest string
		want                    time.Duration // until there are addresses to dial
	}{
		{"fed", "4", web + fed, other, 4 * trip},
		{"legacy", "5", web + legacy, other, 4 * trip},
		{"four targets", "4", web + many, other, 4 * trip},
		{"nothing", "6", web, other, 4 * trip},
		{"port", "3.2", web + delegated, delegate("d.example:443"), 5 * trip},
		{"no port", "3.5", web + delegated, delegate("d.example"), 5 * trip},
		{"delegated fed", "3.3", web + strings.ReplaceAll(fed, "h.example", "d.example"), delegate("d.example"), 6 * trip},
		{"delegated legacy", "3.4", web + strings.ReplaceAll(legacy, "h.example", "d.example"), delegate("d.example"), 6 * trip},

		// Whatever else is slow is waited for from the beginning.
		{"slow fed", "4", web + fed, other + "-- dns --\n_matrix-fed._tcp.h.example. SRV delay 300ms\n", start + trip + slow + trip},
		{"slow absent fed", "5", web + legacy, other + "-- dns --\n_matrix-fed._tcp.h.example. SRV delay 300ms\n", start + trip + slow + trip},
		{"slow legacy", "5", web + legacy, other + "-- dns --\n_matrix._tcp.h.example. SRV delay 300ms\n", start + 2*trip + slow + trip},
		{"slow addresses", "4", web + fed, other + "-- dns --\ns.example. * delay 300ms\n", start + 2*trip + slow},
		{"slow addresses, legacy", "5", web + legacy, other + "-- dns --\ns.example. * delay 300ms\n", start + 3*trip + slow},

		// DNS and TCP: refused. SRV has had its head start to wait for.
		{"no web server", "4", web + fed, "-- servers --\n203.0.113.1:443 refuse\n", start + 2*trip},

		// What is not needed delays nothing.
		{"silent SRV", "3.2", web + delegated, delegate("d.example:443") + "-- dns --\n*.h.example. SRV silent\n", 5 * trip},
		{"silent targets", "3.2", web + delegated + fed, delegate("d.example:443") + "-- dns --\ns.example. * silent\n", 5 * trip},
	} {
		t.Run(test.about, func(t *testing.T) {
			t.Parallel()
			within(t, trip/2, "-- zone --\n"+test.zone+test.rest, func(t *testing.T, _ *world.World, r *resolver.Resolver) {
				begun := time.Now()
				res, err := r.Resolve(t.Context(), "h.example")
				require.NoError(t, err)
				assert.Equal(t, test.rule, res.Step)
				r.Explain(t.Context(), "h.example")
				assert.Equal(t, test.want, time.Since(begun))
			})
		})
	}
}

// TestEarlyAddresses: of a stranger's records only the first are looked up
// before anybody dials, each host once, and where ConnectTo sends them.
func TestEarlyAddresses(t *testing.T) {
	t.Parallel()
	const scene = `
-- zone --
h.example.  A  203.0.113.1
_matrix-fed._tcp.h.example. SRV 1 1 1 A.example.
_matrix-fed._tcp.h.example. SRV 1 1 2 a.example.
_matrix-fed._tcp.h.example. SRV 2 1 1 z.example.
_matrix-fed._tcp.many.example. SRV 1 1 1 a.example.
_matrix-fed._tcp.many.example. SRV 1 1 1 b.example.
_matrix-fed._tcp.many.example. SRV 1 1 1 c.example.
_matrix-fed._tcp.many.example. SRV 1 1 1 d.example.
_matrix-fed._tcp.many.example. SRV 1 1 1 e.example.
many.example. A 203.0.113.1
-- GET https://h.example/.well-known/matrix/server --
404
!delay 1s
-- GET https://many.example/.well-known/matrix/server --
404
!delay 1s
`
	addresses := func(w *world.World) (asked []string) {
		for _, what := range w.Asked() {
			if host, ok := strings.CutPrefix(what, "A "); ok {
				asked = append(asked, host)
			}
		}
		slices.Sort(asked)
		return asked
	}
	for _, test := range []struct {
		about     string
		name      string
		connectTo func(string, uint16) (string, uint16, bool)
		want      []string
	}{
		{"lowest priority", "h.example", nil, []string{"a.example", "h.example"}},
		{"no more than four", "many.example", nil, []string{"4 of many", "many.example"}},
		{"another name", "h.example", func(host string, port uint16) (string, uint16, bool) { return "Other.example", port, port == 2 }, []string{"a.example", "h.example", "other.example"}},
		{"an address", "h.example", func(string, uint16) (string, uint16, bool) { return "[::1]", 1, true }, nil},
		{"a panic", "h.example", func(_ string, port uint16) (string, uint16, bool) {
			if port != 443 {
				panic("at the disco")
			}
			return "", 0, false
		}, []string{"h.example"}},
	} {
		t.Run(test.about, func(t *testing.T) {
			t.Parallel()
			within(t, 0, scene, func(t *testing.T, w *world.World, r *resolver.Resolver) {
				r.ConnectTo = test.connectTo
				res, err := r.Resolve(t.Context(), test.name)
				require.NoError(t, err)
				assert.Equal(t, "4", res.Step)
				got := addresses(w)
				if test.name == "many.example" {
					assert.Len(t, got, 5)
					got = []string{"4 of many", got[len(got)-1]}
				}
				assert.Equal(t, test.want, got)
			})
		})
	}
}

// TestBesideEnds: what is asked beside well-known is shared by all who wait for
// that, stops with it, and is not begun for a refresh that nobody waits for.
func TestBesideEnds(t *testing.T) {
	t.Parallel()
	const scene = `
-- zone --
h.example.  A  203.0.113.1
t.example.  A  203.0.113.2
-- dns --
_matrix-fed._tcp.h.example. SRV delay 2s
-- GET https://h.example/.well-known/matrix/server --
200
Cache-Control: max-age=1000
!delay 1s

{"m.server":"t.example:443"}
`
	within(t, 0, scene, func(t *testing.T, w *world.World, r *resolver.Resolver) {
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				begun := time.Now()
				res, err := r.Resolve(t.Context(), "h.example")
				if assert.NoError(t, err) {
					assert.Equal(t, "3.2", res.Step)
					assert.Equal(t, time.Second, time.Since(begun))
				}
			})
		}
		wg.Wait()
		time.Sleep(5 * time.Second)
		assert.Equal(t, 1, count(w, "SRV "), "the other is not asked any more, although the first had no records")
		time.Sleep(900 * time.Second)
		_, err := r.Resolve(t.Context(), "h.example")
		require.NoError(t, err)
		time.Sleep(10 * time.Second)
		assert.Equal(t, 2, count(w, "GET "))
		assert.Equal(t, 1, count(w, "SRV "))
	})
}

// TestSlowRefresh: when an answer runs out while it is being refreshed, those
// who wait have SRV asked beside it like anybody else.
func TestSlowRefresh(t *testing.T) {
	t.Parallel()
	scene := strings.Replace(delegation, "!delay 1s\n", "", 1) + `
-- GET https://h.example/.well-known/matrix/server from 850s --
404
!delay 4s
-- dns --
*.h.example. SRV delay 2s
`
	within(t, 0, scene, func(t *testing.T, _ *world.World, r *resolver.Resolver) {
		resolve := func(step string) {
			res, err := r.Resolve(t.Context(), "h.example")
			require.NoError(t, err)
			require.Equal(t, step, res.Step)
		}
		resolve("3.2")
		time.Sleep(999 * time.Second)
		resolve("3.2")
		time.Sleep(time.Second)
		begun := time.Now() // the refresh needs three more seconds
		resolve("6")
		assert.Less(t, time.Since(begun), 2*2*time.Second+time.Second)
	})
}

// TestBusySilence: with much to do, too, silence over HTTPS and silence over
// DNS are waited for at the same time.
func TestBusySilence(t *testing.T) {
	t.Parallel()
	within(t, 0, "-- dns --\n* * silent\n", func(t *testing.T, w *world.World, r *resolver.Resolver) {
		begun := time.Now()
		var wg sync.WaitGroup
		for i := range 30 {
			wg.Go(func() {
				_, err := r.Resolve(context.Background(), fmt.Sprintf("n%d.example", i))
				assert.ErrorIs(t, err, resolver.SRVTemporary)
				assert.Less(t, time.Since(begun), 12*time.Second)
			})
		}
		time.Sleep(900 * time.Millisecond)
		assert.Zero(t, count(w, "SRV "), "at first only what is needed in any case")
		wg.Wait()
		assert.Zero(t, count(w, "SRV _matrix._tcp."), "one after the other")
	})
}

// TestSilence: when nobody answers anything, the answer comes within the
// deadlines of this module, whatever the caller allows.
func TestSilence(t *testing.T) {
	t.Parallel()
	within(t, 0, "-- dns --\n* * silent\n", func(t *testing.T, _ *world.World, r *resolver.Resolver) {
		begun := time.Now()
		_, err := r.Resolve(context.Background(), "h.example")
		require.ErrorIs(t, err, resolver.SRVTemporary)
		assert.Less(t, time.Since(begun), 11*time.Second)
		// And it is remembered for a while.
		begun = time.Now()
		_, err = r.Resolve(context.Background(), "h.example")
		require.ErrorIs(t, err, resolver.SRVTemporary)
		assert.Zero(t, time.Since(begun))
	})
}

// TestForget: everything about the name and its delegate is asked for anew.
func TestForget(t *testing.T) {
	t.Parallel()
	const scene = `
-- zone --
h.example.  A  203.0.113.1
_matrix-fed._tcp.t.example. SRV 1 1 8443 s.example.
s.example.  A  203.0.113.2
-- GET https://h.example/.well-known/matrix/server --
200

{"m.server":"T.example"}
`
	within(t, 0, scene, func(t *testing.T, w *world.World, r *resolver.Resolver) {
		once := []string{"A h.example", "AAAA h.example", "GET https://h.example/.well-known/matrix/server", "SRV _matrix-fed._tcp.t.example", "A s.example", "AAAA s.example"}
		for range 3 {
			report := r.Explain(t.Context(), "h.example")
			require.Nil(t, report.Err)
			for range 3 {
				r.Explain(t.Context(), "h.example")
			}
			asked := w.Asked()
			for _, what := range once {
				n := 0
				for _, got := range asked {
					if got == what {
						n++
					}
				}
				assert.Equal(t, 1, n, what)
			}
			w.ResetAsked()
			r.Forget("H.example") // names of one host share what is known of it
			_, err := r.Inspect("h.example")
			require.ErrorIs(t, err, resolver.NotKnown)
		}
		r.Forget("not a name")
	})
}

// TestNamesAreNotMixedUp: a cache never serves one name's answer for another,
// although names that differ in case share what is known of their host.
func TestNamesAreNotMixedUp(t *testing.T) {
	t.Parallel()
	const scene = `
-- zone --
a.example.  A  203.0.113.1
b.example.  A  203.0.113.1
_matrix-fed._tcp.b.example. SRV 1 1 1 b.example.
-- GET https://a.example/.well-known/matrix/server --
200

{"m.server":"t.example:1"}
`
	within(t, 0, scene, func(t *testing.T, w *world.World, r *resolver.Resolver) {
		want := map[string]string{
			"a.example":      "3.2 t.example:1 [t.example:1]",
			"A.EXAMPLE":      "3.2 t.example:1 [t.example:1]",
			"a.example:443":  "2 a.example:443 [a.example:443]",
			"b.example":      "4 b.example [b.example:1]",
			"B.example":      "4 B.example [b.example:1]",
			"B.example:8448": "2 B.example:8448 [b.example:8448]",
		}
		for range 4 {
			for name, want := range want {
				res, err := r.Resolve(t.Context(), name)
				require.NoError(t, err)
				assert.Equal(t, name, res.ServerName)
				assert.Equal(t, want, fmt.Sprintf("%s %s %v", res.Step, res.Host, res.Targets))
			}
		}
		assert.Equal(t, 2, count(w, "GET "), "one for each host")
	})
}

// TestPermit: a name outside the list is refused before any network, also
// when it is known.
func TestPermit(t *testing.T) {
	t.Parallel()
	within(t, 0, delegation, func(t *testing.T, w *world.World, r *resolver.Resolver) {
		open := true
		r.Permit = func(name string) bool { return open && name == "h.example" }
		for range 3 {
			_, err := r.Resolve(t.Context(), "h.example")
			require.NoError(t, err)
		}
		w.ResetAsked()
		open = false
		for _, name := range []string{"h.example", "t.example", "1.2.3.4"} {
			res, err := r.Resolve(t.Context(), name)
			require.ErrorIs(t, err, resolver.NotPermitted)
			assert.Nil(t, res)
		}
		assert.Empty(t, w.Asked())
	})
}

// TestWarm: the second and later answers say that they were known.
func TestWarm(t *testing.T) {
	t.Parallel()
	within(t, 0, delegation, func(t *testing.T, w *world.World, r *resolver.Resolver) {
		for i := range 4 {
			res, err := r.Resolve(t.Context(), "h.example")
			require.NoError(t, err)
			step := res.Steps()[2]
			assert.Equal(t, "3", step.Rule)
			assert.Equal(t, i > 0, step.Cached, "call %d", i)
			assert.Equal(t, 1000*time.Second, step.TTL)
			assert.Equal(t, time.Second, step.Duration, "how long it took when it was asked")
			assert.Equal(t, step.Expires, res.Expires)
		}
	})
}

// TestRefreshedWhileServed: in the last fifth callers get the old answer at
// once, then the new one.
func TestRefreshedWhileServed(t *testing.T) {
	t.Parallel()
	scene := delegation + "-- GET https://h.example/.well-known/matrix/server from 850s --\n200\n!delay 2s\n\n{\"m.server\":\"new.example:443\"}\n"
	within(t, 0, scene, func(t *testing.T, w *world.World, r *resolver.Resolver) {
		host := func() string {
			begun := time.Now()
			res, err := r.Resolve(t.Context(), "h.example")
			require.NoError(t, err)
			if w.Asked() != nil {
				assert.Less(t, time.Since(begun), 2*time.Second)
			}
			return res.Host
		}
		assert.Equal(t, "t.example:443", host())
		assert.Equal(t, "t.example:443", host())
		time.Sleep(900 * time.Second)
		for range 3 {
			assert.Equal(t, "t.example:443", host(), "the old one, at once")
		}
		time.Sleep(3 * time.Second)
		assert.Equal(t, "new.example:443", host())
		assert.Equal(t, 2, count(w, "GET "))
	})
}

// TestLogger: every question is told, and nothing from the network is raw.
func TestLogger(t *testing.T) {
	t.Parallel()
	const scene = `
-- zone --
h.example.  A  203.0.113.1
-- GET https://h.example/.well-known/matrix/server --
200

{"m.server":"a\u001b[31m\nlevel=ERROR msg=forged"}
`
	within(t, 0, scene, func(t *testing.T, _ *world.World, r *resolver.Resolver) {
		var mu sync.Mutex
		var buf bytes.Buffer
		r.Logger = slog.New(slog.NewTextHandler(locked{&mu, &buf}, &slog.HandlerOptions{Level: slog.LevelDebug}))
		r.Resolve(t.Context(), "h.example")
		mu.Lock()
		defer mu.Unlock()
		log := buf.String()
		assert.Contains(t, log, "msg=well-known host=h.example outcome=invalid")
		assert.Contains(t, log, "name=_matrix-fed._tcp.h.example type=SRV answer=NXDOMAIN")
		assert.NotContains(t, log, "\x1b")
		assert.NotContains(t, log, "\nlevel=ERROR")
	})
}

type locked struct {
	mu  *sync.Mutex
	buf *bytes.Buffer
}

func (l locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// TestWeights: records of equal priority come in an order drawn anew for each
// call, warm or not, and the Result that others hold does not change.
func TestWeights(t *testing.T) {
	t.Parallel()
	const scene = `
-- zone --
_matrix-fed._tcp.h.example. SRV 10 10 1 light.example.
_matrix-fed._tcp.h.example. SRV 10 90 2 heavy.example.
_matrix-fed._tcp.h.example. SRV 20 0 3 last.example.
`
	within(t, 0, scene, func(t *testing.T, _ *world.World, r *resolver.Resolver) {
		first := map[string]int{}
		for range 2000 {
			res, err := r.Resolve(t.Context(), "h.example")
			require.NoError(t, err)
			require.Len(t, res.Targets, 3)
			require.Equal(t, "last.example", res.Targets[2].Host)
			first[res.Targets[0].Host]++
		}
		// 200 are expected; ten standard deviations are 134.
		assert.InDelta(t, 200, first["light.example"], 134)
	})
}

// TestMany: memory is bounded by the cache's size, whatever is asked.
func TestMany(t *testing.T) {
	t.Parallel()
	within(t, 0, "-- zone --\n*.example. A 203.0.113.1\n", func(t *testing.T, _ *world.World, r *resolver.Resolver) {
		r.CacheSize = 10
		for i := range 200 {
			res, err := r.Resolve(t.Context(), fmt.Sprintf("n%d.example", i))
			require.NoError(t, err)
			require.Equal(t, "6", res.Step)
		}
		known := 0
		for i := range 200 {
			if _, err := r.Inspect(fmt.Sprintf("n%d.example", i)); err == nil {
				known++
			}
		}
		assert.Equal(t, 10, known)
	})
}

// TestHotNamesStay: a name that is resolved all the time is not pushed out by
// names that are resolved once, although its answers come from the memo.
func TestHotNamesStay(t *testing.T) {
	t.Parallel()
	scene := `
-- zone --
*.example.  A  203.0.113.1
-- GET https://hot.example/.well-known/matrix/server --
200
Cache-Control: max-age=10000

{"m.server":"t.example:443"}
-- GET https://hot.example/.well-known/matrix/server from 8000s --
503
`
	within(t, 0, scene, func(t *testing.T, _ *world.World, r *resolver.Resolver) {
		r.CacheSize = 20
		host := func() string {
			begun := time.Now()
			res, err := r.Resolve(t.Context(), "hot.example")
			require.NoError(t, err)
			assert.Zero(t, time.Since(begun))
			return res.Host
		}
		for i := range 810 {
			require.Equal(t, "t.example:443", host())
			_, err := r.Resolve(t.Context(), fmt.Sprintf("junk%d.example", i))
			require.NoError(t, err)
			time.Sleep(10 * time.Second)
		}
		_, err := r.Inspect("hot.example")
		require.NoError(t, err)
	})
}

// TestForgetAfterEviction: Forget reaches what was pushed out of the caches
// and is still repeated, under every spelling.
func TestForgetAfterEviction(t *testing.T) {
	t.Parallel()
	scene := `
-- zone --
*.example.  A  203.0.113.1
-- GET https://hot.example/.well-known/matrix/server --
200

{"m.server":"old.example:443"}
-- GET https://hot.example/.well-known/matrix/server from 10s --
200

{"m.server":"new.example:443"}
`
	within(t, 0, scene, func(t *testing.T, _ *world.World, r *resolver.Resolver) {
		r.CacheSize = 4
		check := func(want string) {
			for _, name := range []string{"hot.example", "Hot.example"} {
				for range 3 {
					res, err := r.Resolve(t.Context(), name)
					require.NoError(t, err)
					require.Equal(t, want, res.Host, name)
				}
			}
		}
		check("old.example:443")
		for i := range 3 {
			_, err := r.Resolve(t.Context(), fmt.Sprintf("junk%d.example", i))
			require.NoError(t, err)
		}
		time.Sleep(20 * time.Second)
		r.Forget("hot.example")
		check("new.example:443")
	})
}

// TestTruncatedDocument: the lifetime of a document that did not come does not
// date the failure.
func TestTruncatedDocument(t *testing.T) {
	t.Parallel()
	scene := `
-- zone --
cut.example.  A  203.0.113.1
big.example.  A  203.0.113.1
-- GET https://cut.example/.well-known/matrix/server --
200
Cache-Control: max-age=86400
!reset-after 10

{"m.server":"t.example:443"}
-- GET https://big.example/.well-known/matrix/server --
200
Cache-Control: max-age=86400
!size 60000

{"m.server":"t.example:443"}
`
	within(t, 0, scene, func(t *testing.T, _ *world.World, r *resolver.Resolver) {
		for _, name := range []string{"cut.example", "big.example"} {
			res, err := r.Resolve(t.Context(), name)
			require.NoError(t, err)
			assert.Equal(t, "6", res.Step)
			assert.LessOrEqual(t, res.Steps()[2].TTL, 2*time.Minute, name)
		}
	})
}

// TestMemory: what is kept of a name is bounded, whatever its servers send.
func TestMemory(t *testing.T) {
	const names, most = 200, 16 << 10
	var redirects strings.Builder
	for i := range 11 {
		fmt.Fprintf(&redirects, "-- GET https://hop%d.example/%s --\n302\nLocation: https://hop%d.example/%s\n\n", i, strings.Repeat("x", 7900), i+1, strings.Repeat("x", 7900))
	}
	var sets strings.Builder
	for i := range names {
		fmt.Fprintf(&sets, "n%d.example. A 203.0.113.2\n", i)
		for j := range 40 {
			fmt.Fprintf(&sets, "_matrix-fed._tcp.s%d.example. SRV 1 1 %d %sexample.\n", i, 1+j%2*j, strings.Repeat(fmt.Sprintf("%055d.", j), 4))
		}
		fmt.Fprintf(&redirects, "-- GET https://r%d.example/.well-known/matrix/server --\n302\nLocation: https://hop0.example/%s\n\n", i, strings.Repeat("x", 7900))
	}
	certificate := make([]string, 500)
	for i := range certificate {
		certificate[i] = fmt.Sprintf("%050d.example", i)
	}
	scene := "-- zone --\n*.example. A 203.0.113.1\n" + sets.String() +
		"-- servers --\n203.0.113.2:443 cert names=" + strings.Join(certificate, ",") + "\n" + redirects.String()
	parsed, err := world.Parse("memory", []byte(scene))
	require.NoError(t, err)
	w, err := parsed.Start(world.Memory{})
	require.NoError(t, err)
	defer w.Close()
	for _, kind := range []string{"n%d.example", "r%d.example", "s%d.example"} {
		r := inside(w)
		heap := func() uint64 {
			var stats runtime.MemStats
			runtime.GC()
			runtime.GC()
			runtime.ReadMemStats(&stats)
			return stats.HeapAlloc
		}
		r.Resolve(t.Context(), "1.2.3.4")
		w.ResetAsked()
		before := heap()
		for i := range names {
			r.Explain(t.Context(), fmt.Sprintf(kind, i))
			w.ResetAsked()
		}
		per := int64(heap()-before) / names
		t.Logf("%s: %d bytes per name", kind, per)
		assert.Less(t, per, int64(most), kind)
		runtime.KeepAlive(r)
	}
}

// TestErrors: the error says what was asked and what came back, and works with
// errors.Is and errors.As.
func TestErrors(t *testing.T) {
	t.Parallel()
	var r resolver.Resolver
	for _, name := range []string{"", "a b", "h:0", "h\nX: y", strings.Repeat("a", 10000)} {
		res, err := r.Resolve(t.Context(), name)
		require.ErrorIs(t, err, resolver.InvalidServerName)
		assert.Nil(t, res)
		assert.NotContains(t, err.Error(), "\n")
		assert.Less(t, len(err.Error()), 500)
	}
	within(t, 0, "-- dns --\n* SRV rcode SERVFAIL\n", func(t *testing.T, _ *world.World, r *resolver.Resolver) {
		res, err := r.Resolve(t.Context(), "h.example")
		require.ErrorIs(t, err, resolver.SRVTemporary)
		require.NotErrorIs(t, err, resolver.SRVUnavailable)
		var typed *resolver.Error
		require.True(t, errors.As(err, &typed))
		assert.Equal(t, "SRV _matrix-fed._tcp.h.example", typed.Query)
		assert.Equal(t, "4", typed.Rule)
		var dns *srv.Error
		require.True(t, errors.As(err, &dns))
		assert.Equal(t, "SERVFAIL", dns.Rcode())
		assert.Equal(t, "h.example: SRV _matrix-fed._tcp.h.example: SERVFAIL from 192.0.2.53:53", err.Error())
		require.NotNil(t, res)
		assert.NotEmpty(t, res.Steps())
	})
}

// TestJSONOfValues: the documented form comes out of values and pointers, and
// an empty one is no reason to panic.
func TestJSONOfValues(t *testing.T) {
	t.Parallel()
	var r resolver.Resolver
	report := r.Explain(t.Context(), "8.8.8.8")
	for _, v := range []any{report, *report, report.Result, *report.Result} {
		got, err := json.Marshal(v)
		require.NoError(t, err)
		assert.Contains(t, string(got), `{"server_name":"8.8.8.8","step":"1"`)
	}
	for _, v := range []any{resolver.Report{}, &resolver.Report{}, resolver.Result{}} {
		_, err := json.Marshal(v)
		require.NoError(t, err)
	}
	assert.Empty(t, new(resolver.Report).Warnings())
}

// Explain says where a name leads, with addresses and evidence. This one is an
// IP literal, which needs no network.
func ExampleResolver_Explain() {
	r := resolver.Resolver{AllowNets: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
	report := r.Explain(context.Background(), "192.0.2.1:8449")
	for _, target := range report.Located {
		fmt.Println(target, target.Addresses)
	}
	fmt.Println("Host:", report.Host)
	// Output:
	// 192.0.2.1:8449 [192.0.2.1:8449]
	// Host: 192.0.2.1:8449
}

// Resolve turns a server name into targets, a Host header and a TLS name.
func ExampleResolver_Resolve() {
	var r resolver.Resolver // ready to use
	res, err := r.Resolve(context.Background(), "[2001:db8::1]:8449")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	fmt.Println("connect to", res.Targets[0])
	fmt.Println("Host:", res.Host)
	fmt.Println("certificate for", res.TLSName)
	fmt.Println("because of rule", res.Step)
	// Output:
	// connect to [2001:db8::1]:8449
	// Host: [2001:db8::1]:8449
	// certificate for 2001:db8::1
	// because of rule 1
}

// An error says why, for programs and for people.
func ExampleError() {
	var r resolver.Resolver
	_, err := r.Resolve(context.Background(), "https://example.org")
	if errors.Is(err, resolver.InvalidServerName) {
		fmt.Println(err)
	}
	// Output:
	// "https://example.org": not a valid server name: a server name is not a URL: leave out the scheme and the path
}

// TestFetcher: documents for clients come through the same guard and DNS, over
// http too where http was asked for.
func TestFetcher(t *testing.T) {
	t.Parallel()
	const scene = `
-- zone --
h.example.  A 203.0.113.1
in.example. A 10.0.0.1
-- servers --
203.0.113.1:80 plain
203.0.113.1:443
`
	within(t, time.Millisecond, scene, func(t *testing.T, w *world.World, r *resolver.Resolver) {
		w.Handle(func(rw http.ResponseWriter, req *http.Request, _ netip.AddrPort) bool {
			fmt.Fprintf(rw, `{"secure":%t}`, req.TLS != nil)
			return true
		})
		f := r.Fetcher()
		for url, want := range map[string]string{"http://h.example/": "false", "https://h.example/": "true"} {
			object, _, err := f.Object(t.Context(), url)
			require.NoError(t, err, url)
			assert.Equal(t, want, string(object["secure"]), url)
		}
		for _, url := range []string{"http://in.example/", "https://in.example/", "http://127.0.0.1/"} {
			_, _, err := f.Object(t.Context(), url)
			var failed *wellknown.Error
			require.ErrorAs(t, err, &failed)
			assert.Equal(t, wellknown.AddressDenied, failed.Code, url)
		}
	})
}
