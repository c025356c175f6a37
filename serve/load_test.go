package serve

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/check"
	"mxdiscover/internal/memnet"
	"mxdiscover/internal/world"
	"mxdiscover/resolver"
)

// loadWorld has names that waste time in every way: silent DNS, black holes,
// servers that stop after the handshake, answers that trickle.
func loadWorld(n int) string {
	var zone, dns, servers, replies strings.Builder
	for i := range n {
		name := fmt.Sprintf("n%d.example", i)
		addr := fmt.Sprintf("203.0.113.%d", 1+i%250)
		switch i % 5 {
		case 0:
			fmt.Fprintf(&dns, "%s * silent\n*.%s * silent\n", name, name)
		case 1: // every address a black hole, and eight of them
			for j := range 8 {
				fmt.Fprintf(&zone, "%s. A 198.51.100.%d\n", name, 1+j)
			}
		case 2:
			fmt.Fprintf(&zone, "%s. A 192.0.2.%d\n", name, 100+i/5)
			fmt.Fprintf(&servers, "192.0.2.%d:443 stall-handshake\n192.0.2.%d:8448 stall-handshake\n", 100+i/5, 100+i/5)
		case 3: // many SRV targets that lead nowhere
			fmt.Fprintf(&zone, "%s. A %s\n", name, addr)
			for j := range 8 {
				fmt.Fprintf(&zone, "_matrix-fed._tcp.%s. SRV 10 5 8448 t%d.%s.\nt%d.%s. A 198.51.100.%d\n", name, j, name, j, name, 1+j)
			}
		case 4:
			fmt.Fprintf(&zone, "%s. A %s\n", name, addr)
			fmt.Fprintf(&replies, "-- GET https://%s/.well-known/matrix/server --\n200\n!slow 1 1s\n\n{\"m.server\":\"m.%s:443\"}\n", name, name)
		}
	}
	for j := range 8 {
		fmt.Fprintf(&servers, "198.51.100.%d:443 drop\n198.51.100.%d:8448 drop\n", 1+j, 1+j)
	}
	return "Names that waste time.\n-- zone --\n" + zone.String() + "-- dns --\n" + dns.String() + "-- servers --\n" + servers.String() + replies.String()
}

// heap is what is in use, after a collection.
func heap() uint64 {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// largeWorld has names whose servers say as much as they can: eight addresses,
// each with answers of 64 kB that take half a minute.
func largeWorld(n int) string {
	var zone, replies strings.Builder
	for i := range n {
		name := fmt.Sprintf("n%d.example", i)
		for j := range 8 {
			fmt.Fprintf(&zone, "%s. A 203.0.113.%d\n", name, 1+j)
		}
		for _, path := range []string{"federation/v1/version", "key/v2/server"} {
			fmt.Fprintf(&replies, "-- GET https://%s:8448/_matrix/%s --\n200\n!size 64000\n!slow 8000 1s\n\n{\"server_name\":\"x\"}\n", name, path)
		}
	}
	return "Names whose servers talk.\n-- zone --\n" + zone.String() + replies.String()
}

// TestLoad: 200 checks at once of slow and dead names, and fewer of servers that
// talk as much as they can, take a bounded amount of memory, end in bounded time, and
// leave nothing behind.
func TestLoad(t *testing.T) {
	for _, test := range []struct {
		name   string
		checks int
		world  string
		// What the comment of Limits says for these, twice: the world with its
		// servers and the other ends of all connections is in the same process.
		most uint64
	}{
		{"slow and dead", 200, loadWorld(200), 200 * 2 * 250 << 10},
		{"talking", 10, largeWorld(10), 10 * 2 * 3 << 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			scene, err := world.Parse("load", []byte(test.world))
			require.NoError(t, err)
			synctest.Test(t, func(t *testing.T) { underLoad(t, scene, test.checks, test.most) })
		})
	}
}

func underLoad(t *testing.T, scene *world.Scene, checks int, most uint64) {
	w, err := scene.Start(world.Memory{Network: &memnet.Network{Latency: 10 * time.Millisecond}})
	require.NoError(t, err)
	defer w.Close()
	wide := Rate{Burst: -1}
	s := &Server{
		NewResolver: inside(w),
		Limits:      Limits{PerClient: wide, PerHost: wide, InAll: wide, PerRequest: wide, ClientsOfAddress: -1},
	}
	s.state()
	before := heap()
	began := time.Now()
	var wg sync.WaitGroup
	var answered, bad atomic.Int32
	for i := range checks {
		wg.Go(func() {
			answer := get(s, fmt.Sprintf("/api/v1/check?server_name=n%d.example", i))
			if answer.Code == http.StatusOK {
				answered.Add(1)
			}
			if strings.Contains(answer.Body.String(), `"verdict":"BAD"`) {
				bad.Add(1)
			}
		})
	}
	var peak uint64
	for _, at := range []time.Duration{500 * time.Millisecond, 2 * time.Second, 5 * time.Second, 9 * time.Second, 15 * time.Second, 25 * time.Second} {
		time.Sleep(time.Until(began.Add(at)))
		now := max(before, heap()) - before
		peak = max(peak, now)
		t.Logf("after %v: %d checks under way, %.1f MiB more than before, %d goroutines", time.Since(began), s.state().desk.load().working, float64(now)/(1<<20), runtime.NumGoroutine())
		assert.Equal(t, http.StatusOK, get(s, "/healthz").Code)
	}
	wg.Wait()
	t.Logf("%d checks in %v, peak %.1f MiB", checks, time.Since(began), float64(peak)/(1<<20))
	assert.EqualValues(t, checks, answered.Load())
	assert.EqualValues(t, checks, bad.Load(), "none of these names is good")
	assert.Less(t, peak, most)
	assert.LessOrEqual(t, time.Since(began), check.DefaultTimeout+time.Second)
	time.Sleep(2 * time.Minute)
	get(s, "/api/v1/check?server_name=-")
	l := s.state().desk.load()
	assert.Zero(t, l.live)
	assert.Zero(t, l.events)
	assert.Equal(t, 1, l.kept, "the rest is too old")
}

// TestAnswerWeight: an answer takes no more memory than the desk counts for it.
func TestAnswerWeight(t *testing.T) {
	const n = 200
	reports := make([]*answer, 0, n)
	build := func(i int) *answer {
		name := fmt.Sprintf("n%d.example", i)
		r := hostileReport(name, "some text of a usual length, as servers say it")
		for range 4 {
			a := goodAddress(name, "203.0.113.7:8448", r.CheckedAt)
			a.HTTP = append(a.HTTP, a.HTTP[0])
			r.Targets[0].Addresses = append(r.Targets[0].Addresses, a)
			r.Findings = append(r.Findings, r.Findings[0])
		}
		a, err := newAnswer(result{report: r}, 1<<20)
		require.NoError(t, err)
		a.tester()
		return a
	}
	before := heap()
	var counted int64
	for i := range n {
		reports = append(reports, build(i))
		counted += reports[i].cost
	}
	took := int64(heap()) - int64(before)
	t.Logf("%d answers of %d bytes of JSON: %d kB counted, %d kB taken", n, len(reports[0].json), counted>>10, took>>10)
	assert.Less(t, took, counted)
	runtime.KeepAlive(reports)
}

// BenchmarkHealthz measures /healthz over loopback while 200 checks are under way
// that talk all the time, each with a stream that is read.
func BenchmarkHealthz(b *testing.B) {
	wide := Rate{Burst: -1}
	s := &Server{
		Check: func(ctx context.Context, name string, _ resolver.Rules, onEvent func(check.Event)) *check.Report {
			for ctx.Err() == nil {
				onEvent(check.Event{Kind: check.EventAsked, Asked: &check.Asked{Query: "A " + name, Detail: "203.0.113.7"}})
				select {
				case <-time.After(100 * time.Millisecond):
				case <-ctx.Done():
				}
			}
			return reportOn(name)
		},
		Limits: Limits{PerClient: wide, PerHost: wide, InAll: wide, PerRequest: wide, ClientsOfAddress: -1},
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	server := &http.Server{Handler: s}
	go server.Serve(l)
	defer server.Close()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	transport := &http.Transport{MaxIdleConnsPerHost: 300}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	url := "http://" + l.Addr().String()
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/api/v1/check/stream?server_name=n%d.example", url, i), nil)
			resp, err := client.Do(req)
			if err != nil {
				return
			}
			defer resp.Body.Close()
			io.Copy(io.Discard, resp.Body)
		})
	}
	for s.state().desk.load().working < 200 {
		runtime.Gosched()
	}
	b.ReportAllocs()
	var times []time.Duration
	for b.Loop() {
		began := time.Now()
		resp, err := client.Get(url + "/healthz")
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(float64(times[len(times)-1].Microseconds()), "max-µs")
	cancel()
	wg.Wait()
	late, stop := context.WithTimeout(context.Background(), time.Second)
	defer stop()
	s.Close(late)
}

// BenchmarkKept measures an answer that is at hand.
func BenchmarkKept(b *testing.B) {
	wide := Rate{Burst: -1}
	s := &Server{Check: atOnce, Limits: Limits{PerRequest: wide, KeepFor: time.Hour}}
	b.ReportAllocs()
	for b.Loop() {
		if w := get(s, "/api/v1/check?server_name=a.example"); w.Code != http.StatusOK {
			b.Fatal(w.Code)
		}
	}
}
