package resolver

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
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
	return w, func() *Resolver { return resolverIn(w) }
}

// resolverIn is a new Resolver that acts in w.
func resolverIn(w *world.World) *Resolver {
	return &Resolver{
		DNS:         &srv.Client{Servers: w.DNSServers(), HostsFile: os.DevNull, Dial: w.DNSDial()},
		RootCAs:     w.Roots(),
		AllowNets:   w.AllowNets(),
		DialContext: w.DialContext,
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
// is asked beside it: waiting time until there are addresses to dial, in round
// trips, against DNS queries. With ten milliseconds a delegated name costs four
// queries instead of six up to a round trip of about two milliseconds; a name
// without well-known then waits four milliseconds longer, and from ten
// milliseconds on no longer than without a head start.
func BenchmarkHeadStart(b *testing.B) {
	for _, trip := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond} {
		w, newResolver := enter(b, trip/2)
		for _, kind := range []string{"delegated.example", "nowellknown.example", "veryold.example"} {
			for _, start := range []time.Duration{0, 10 * time.Millisecond, 50 * time.Millisecond, time.Hour} {
				b.Run(fmt.Sprintf("trip=%s/%s/start=%s", trip, kind, start), func(b *testing.B) {
					w.ResetAsked()
					for b.Loop() {
						r := newResolver()
						r.state().headStart = start
						require.NoError(b, r.Explain(b.Context(), kind).Err)
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

// sweepKinds are the kinds of names of a sweep, by rule, and the fewest DNS
// queries that each can do with: two for the addresses of the host, two for
// those of what it leads to if that is another, and the SRV sets in between. If
// they are equally frequent, that is 4.8 on average.
var sweepKinds = []struct {
	rule    string
	queries int
}{{"6", 4}, {"3.2", 4}, {"3.3", 5}, {"4", 5}, {"5", 6}}

// sweepScene has n names for each rule of sweepKinds, from n0r6.example on. No
// two of them share a question.
func sweepScene(n int) string {
	var zone, replies strings.Builder
	for i := range n {
		for _, kind := range sweepKinds {
			name := fmt.Sprintf("n%dr%s.example", i, strings.ReplaceAll(kind.rule, ".", ""))
			to, reply := "to-"+name, ""
			web := "203.0.113.1" // which answers 404 unless there is a reply
			switch kind.rule {
			case "6":
				web = "203.0.113.9" // nobody listens
			case "3.2":
				reply = to + ":443"
			case "3.3":
				reply = "d-" + name
				fmt.Fprintf(&zone, "%sd-%s. SRV 1 1 443 %s.\n", fedPrefix, name, to)
			case "4":
				fmt.Fprintf(&zone, "%s%s. SRV 1 1 443 %s.\n", fedPrefix, name, to)
			case "5":
				fmt.Fprintf(&zone, "%s%s. SRV 1 1 443 %s.\n", legacyPrefix, name, to)
			}
			fmt.Fprintf(&zone, "%s. A %s\n", name, web)
			if kind.rule != "6" {
				fmt.Fprintf(&zone, "%s. A 203.0.113.2\n", to)
			}
			if reply != "" {
				fmt.Fprintf(&replies, "-- GET https://%s/.well-known/matrix/server --\n200\n\n{\"m.server\":%q}\n", name, reply)
			}
		}
	}
	return "-- zone --\n" + zone.String() + replies.String()
}

// sweep resolves n names of each kind once, addresses included, and returns
// how many DNS queries a name has cost, by rule and over all.
func sweep(tb testing.TB, w *world.World, r *Resolver, n, workers int) (byRule map[string]float64, all float64) {
	w.ResetAsked()
	type name struct{ rule, name string }
	names := make(chan name)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for of := range names {
				if report := r.Explain(tb.Context(), of.name); report.Err != nil || report.Step != of.rule {
					tb.Errorf("%s: rule %s, want %s, error %v", of.name, report.Step, of.rule, report.Err)
				}
			}
		})
	}
	for i := range n {
		for _, kind := range sweepKinds {
			names <- name{kind.rule, fmt.Sprintf("n%dr%s.example", i, strings.ReplaceAll(kind.rule, ".", ""))}
		}
	}
	close(names)
	wg.Wait()
	r.state().wellKnown.Wait()
	r.state().records.Wait()
	r.state().addrs.Wait()
	byRule = make(map[string]float64)
	for _, what := range w.Asked() {
		if strings.HasPrefix(what, "GET ") || strings.HasPrefix(what, "CONNECT ") {
			continue
		}
		for _, kind := range sweepKinds {
			if strings.HasSuffix(what, "r"+strings.ReplaceAll(kind.rule, ".", "")+".example") {
				byRule[kind.rule] += 1 / float64(n)
			}
		}
		all += 1 / float64(n*len(sweepKinds))
	}
	return byRule, all
}

// TestSweepQueries: a resolver with much to do asks for nothing in vain. One
// that has a single name to find trades questions for time where the web server
// is far away, and asks two together.
func TestSweepQueries(t *testing.T) {
	t.Parallel()
	const each = 20
	scene, err := world.Parse("sweep", []byte(sweepScene(each)))
	require.NoError(t, err)
	for _, test := range []struct {
		about   string
		workers int
		latency time.Duration
		want    map[string]float64
	}{
		{"busy", 64, 10 * time.Millisecond, map[string]float64{"6": 4, "3.2": 4, "3.3": 5, "4": 5, "5": 6}},
		{"busy, slow", 64, 100 * time.Millisecond, map[string]float64{"6": 4, "3.2": 4, "3.3": 5, "4": 5, "5": 6}},
		// Both SRV names of the host have been asked in vain, and with the one
		// of its delegate the other and the addresses that rule 3.5 would want.
		{"not busy", 1, 10 * time.Millisecond, map[string]float64{"6": 4, "3.2": 6, "3.3": 10, "4": 5, "5": 6}},
		// Well-known is there before anything is asked beside it.
		{"not busy, near", 1, 0, map[string]float64{"6": 4, "3.2": 4, "3.3": 8, "4": 6, "5": 6}},
	} {
		t.Run(test.about, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w, err := scene.Start(world.Memory{Network: &memnet.Network{Latency: test.latency}})
				require.NoError(t, err)
				defer w.Close()
				got, _ := sweep(t, w, resolverIn(w), each, test.workers)
				for rule, n := range test.want {
					require.InDelta(t, n, got[rule], 1e-9, "rule %s", rule)
				}
				time.Sleep(time.Minute)
			})
		})
	}
}

// BenchmarkSweepQueries resolves 2,000 names once, over loopback, and reports
// how many DNS queries a name costs. busy=always asks for nothing before it is
// needed and nothing together, which is the least there is; busy=never is after
// time alone. Two cores gave, with 64 workers, 4.80 against 5.78 queries a name
// and no difference in time; with 16 workers, of which about ten wait for
// well-known at once, 4.80 against 5.33, and a limit of 16 comes too late for
// them. With 8 and fewer it is 5.20 instead of 4.80: two SRV names are asked
// together, for each name the sooner.
func BenchmarkSweepQueries(b *testing.B) {
	const each = 400
	scene, err := world.Parse("sweep", []byte(sweepScene(each)))
	require.NoError(b, err)
	w, err := scene.Start(world.Loopback{})
	require.NoError(b, err)
	b.Cleanup(func() { w.Close() })
	for _, workers := range []int{1, 4, 8, 16, 64} {
		for _, busy := range []struct {
			name  string
			loads int
		}{{"always", -1}, {"over-4", 4}, {"over-8", busyLoads}, {"over-16", 16}, {"never", math.MaxInt}} {
			b.Run(fmt.Sprintf("workers=%d/busy=%s", workers, busy.name), func(b *testing.B) {
				var all float64
				byRule := map[string]float64{}
				for b.Loop() {
					r := resolverIn(w)
					r.state().busyLoads = busy.loads
					rules, n := sweep(b, w, r, each, workers)
					all += n
					for rule, n := range rules {
						byRule[rule] += n
					}
				}
				b.ReportMetric(all/float64(b.N), "queries/name")
				for _, kind := range sweepKinds {
					b.ReportMetric(byRule[kind.rule]/float64(b.N), "rule-"+kind.rule)
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/sweep")
			})
		}
	}
}
