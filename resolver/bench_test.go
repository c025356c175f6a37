package resolver

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/memnet"
	"mxdiscover/internal/world"
	"mxdiscover/srv"
)

// enter starts the tour of testdata in memory with one way taking latency.
func enter(tb testing.TB, latency time.Duration) (*world.World, func() *Resolver) {
	tb.Helper()
	scene, err := world.Load("../testdata/worlds/tour.txtar")
	require.NoError(tb, err)
	w, err := scene.Start(world.Memory{Network: &memnet.Network{Latency: latency}})
	require.NoError(tb, err)
	tb.Cleanup(func() { w.Close() })
	return w, func() *Resolver {
		return &Resolver{
			DNS:         &srv.Client{Servers: w.DNSServers(), HostsFile: os.DevNull, Dial: w.DNSDial()},
			RootCAs:     w.Roots(),
			AllowNets:   w.AllowNets(),
			DialContext: w.DialContext,
		}
	}
}

// The kinds of names, by rule, of the tour.
var tour = []struct{ rule, name string }{
	{"1", "203.0.113.10"}, {"2", "port.example:8449"}, {"3.1", "ip.example"}, {"3.2", "delegated.example"},
	{"3.3", "srv.example"}, {"3.4", "oldsrv.example"}, {"3.5", "bare.example"}, {"4", "nowellknown.example"}, {"5", "veryold.example"}, {"6", "plain.example"},
}

// warm resolves name until its answer comes from the memo.
func warm(tb testing.TB, r *Resolver, name string) {
	tb.Helper()
	for range 3 {
		_, err := r.Resolve(tb.Context(), name)
		require.NoError(tb, err)
	}
	require.NotNil(tb, r.state().memo.get(name), "%s is not warm", name)
}

// TestWarmAllocations: what is known costs nothing, also where the order of SRV
// records is drawn anew by weight for each call.
func TestWarmAllocations(t *testing.T) {
	_, newResolver := enter(t, 0)
	r := newResolver()
	for _, kind := range tour {
		warm(t, r, kind.name)
		allocations := testing.AllocsPerRun(100, func() { r.Resolve(t.Context(), kind.name) })
		require.Zero(t, allocations, kind.name)
	}
}

// TestWeightedAllocations: the same for records of equal priority.
func TestWeightedAllocations(t *testing.T) {
	var d derived
	d.records, d.orders = []srv.Record{{Target: "a", Port: 1, Weight: 10}, {Target: "b", Port: 1, Weight: 20}, {Target: "c", Port: 1}, {Target: "d", Port: 1, Priority: 1}}, new(orders)
	for range 1000 { // until every order has been drawn
		d.draw(rand.IntN)
	}
	require.Zero(t, testing.AllocsPerRun(100, func() { d.draw(rand.IntN) }))
}

// TestRank: every order of up to fewRecords records has a number of its own.
func TestRank(t *testing.T) {
	t.Parallel()
	for n := range fewRecords + 1 {
		var records []srv.Record
		orders := 1
		for i := range n {
			records = append(records, srv.Record{Target: "same", Port: uint16(i + 1)})
			orders *= i + 1
		}
		seen := map[int]string{}
		for range 5000 {
			drawn := srv.Order(records, nil)
			text := fmt.Sprint(drawn)
			number := rank(records, drawn)
			require.GreaterOrEqual(t, number, 0)
			require.Less(t, number, orders)
			if before, ok := seen[number]; ok {
				require.Equal(t, before, text)
			}
			seen[number] = text
		}
		require.Len(t, seen, orders)
	}
}

// BenchmarkResolveWarm is a Resolve of what is known. "lookup" beside it is
// the bare cache look-up that it cannot do without.
func BenchmarkResolveWarm(b *testing.B) {
	_, newResolver := enter(b, 0)
	r := newResolver()
	for _, kind := range tour {
		b.Run("rule="+kind.rule, func(b *testing.B) {
			warm(b, r, kind.name)
			b.ReportAllocs()
			for b.Loop() {
				r.Resolve(b.Context(), kind.name)
			}
		})
	}
	b.Run("lookup", func(b *testing.B) {
		lru, err := simplelru.NewLRU[string, *derived](DefaultCacheSize, nil)
		require.NoError(b, err)
		lru.Add("delegated.example", new(derived))
		b.ReportAllocs()
		for b.Loop() {
			lru.Get("delegated.example")
		}
	})
}

// BenchmarkResolveWarmParallel is the same from all cores at once.
func BenchmarkResolveWarmParallel(b *testing.B) {
	_, newResolver := enter(b, 0)
	r := newResolver()
	warm(b, r, "delegated.example")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r.Resolve(b.Context(), "delegated.example")
		}
	})
}

// BenchmarkResolveCold is a first Resolve over a network where one round trip
// takes 20 ms, in round trips. A well-known answer takes four (DNS, TCP, TLS,
// HTTP); SRV beside it costs none, SRV of a delegated name one.
func BenchmarkResolveCold(b *testing.B) {
	const trip = 20 * time.Millisecond
	_, newResolver := enter(b, trip/2)
	for _, kind := range tour {
		b.Run("rule="+kind.rule, func(b *testing.B) {
			for b.Loop() {
				res, err := newResolver().Resolve(b.Context(), kind.name)
				require.NoError(b, err)
				require.Equal(b, kind.rule, res.Step)
			}
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(trip), "trips/op")
		})
	}
}

// BenchmarkHeadStart measures how long well-known should run alone before SRV
// is asked beside it: waiting time, in round trips, against DNS queries.
func BenchmarkHeadStart(b *testing.B) {
	for _, trip := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond} {
		w, newResolver := enter(b, trip/2)
		for _, kind := range []string{"delegated.example", "nowellknown.example"} {
			for _, start := range []time.Duration{0, 10 * time.Millisecond, 50 * time.Millisecond, time.Hour} {
				b.Run(fmt.Sprintf("trip=%s/%s/start=%s", trip, kind, start), func(b *testing.B) {
					w.ResetAsked()
					for b.Loop() {
						r := newResolver()
						r.state().headStart = start
						_, err := r.Resolve(b.Context(), kind)
						require.NoError(b, err)
					}
					if trip > 0 {
						b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(trip), "trips/op")
					}
					queries := 0
					for _, what := range w.Asked() {
						if !strings.HasPrefix(what, "GET ") && !strings.HasPrefix(what, "CONNECT ") {
							queries++
						}
					}
					b.ReportMetric(float64(queries)/float64(b.N), "queries/op")
				})
			}
		}
	}
}
