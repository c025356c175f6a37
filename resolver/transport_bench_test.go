package resolver_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/memnet"
	"mxdiscover/internal/world"
	"mxdiscover/resolver"
	"mxdiscover/srv"
)

// A farm is a federation of any size on loopback that costs as little as it
// can, since it shares the cores with what is measured: one web server, one
// homeserver and one DNS server for all names, one certificate. Its names say
// what they are: "n7-32.bench.example" is number 7, of rule 3.2. (A world
// makes a certificate for each name and compares it with all others.)
type farm struct {
	dns       string // host:port
	roots     *x509.CertPool
	web, home string // host:port; 127.0.0.1:443 and :8448 lead there
	closed    string // nobody listens; 127.0.0.2:443 leads there
	noWeb     bool   // names without well-known have 127.0.0.2
	queries   atomic.Int64
}

// newFarm runs a farm until the end of the test.
func newFarm(tb testing.TB, noWeb bool) *farm {
	tb.Helper()
	f := &farm{roots: x509.NewCertPool(), noWeb: noWeb}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(tb, err)
	issue := func(t, parent *x509.Certificate) *x509.Certificate {
		t.SerialNumber, t.BasicConstraintsValid = big.NewInt(1), true
		t.NotBefore, t.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, t, cmp.Or(parent, t), &key.PublicKey, key)
		require.NoError(tb, err)
		cert, err := x509.ParseCertificate(der)
		require.NoError(tb, err)
		return cert
	}
	ca := issue(&x509.Certificate{IsCA: true, KeyUsage: x509.KeyUsageCertSign}, nil)
	leaf := issue(&x509.Certificate{DNSNames: []string{"*.bench.example"}, KeyUsage: x509.KeyUsageDigitalSignature}, ca)
	f.roots.AddCert(ca)
	serve := func(h http.HandlerFunc) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(tb, err)
		s := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0),
			TLSConfig: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}}}}
		var done sync.WaitGroup
		done.Go(func() { s.ServeTLS(l, "", "") })
		tb.Cleanup(func() { s.Close(); done.Wait() })
		return l.Addr().String()
	}
	f.web = serve(func(w http.ResponseWriter, r *http.Request) {
		name, _, _ := strings.Cut(r.Host, ".bench.")
		switch _, rule, _ := strings.Cut(name, "-"); rule {
		case "32":
			fmt.Fprintf(w, `{"m.server":"%s.bench.example:8450"}`, strings.Replace(name, "-", "-at-", 1))
		case "33":
			fmt.Fprintf(w, `{"m.server":"%s.bench.example"}`, strings.Replace(name, "-", "-at-", 1))
		default:
			http.NotFound(w, r)
		}
	})
	reply := []byte(`{"server":{"name":"bench","version":"1"}}`)
	f.home = serve(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Write(reply)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	f.closed = l.Addr().String()
	l.Close()

	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(tb, err)
	f.dns = pc.LocalAddr().String()
	started := make(chan struct{})
	server := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(f.answer), NotifyStartedFunc: func() { close(started) }}
	var done sync.WaitGroup
	done.Go(func() { server.ActivateAndServe() })
	<-started
	tb.Cleanup(func() { server.Shutdown(); done.Wait() })
	return f
}

// farmRules are the kinds of names in a farm, in equal parts.
var farmRules = []string{"6", "32", "33", "4", "5"}

func farmName(i int) string {
	return fmt.Sprintf("n%d-%s.bench.example", i, farmRules[i%len(farmRules)])
}

func (f *farm) answer(w dns.ResponseWriter, req *dns.Msg) {
	f.queries.Add(1)
	m := new(dns.Msg).SetReply(req)
	m.RecursionAvailable = true
	q := req.Question[0]
	name := strings.TrimSuffix(strings.ToLower(q.Name), ".bench.example.")
	service, host, found := strings.Cut(name, "._tcp.")
	if !found {
		service, host = "", name
	}
	_, rule, _ := strings.Cut(host, "-")
	h := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: 300}
	switch {
	case q.Qtype == dns.TypeA:
		addr := net.IPv4(127, 0, 0, 1)
		if f.noWeb && (rule == "6" || rule == "4" || rule == "5") {
			addr = net.IPv4(127, 0, 0, 2)
		}
		m.Answer = []dns.RR{&dns.A{Hdr: h, A: addr}}
	case q.Qtype == dns.TypeSRV && (service == "_matrix-fed" && (rule == "at-33" || rule == "4") || service == "_matrix" && rule == "5"):
		m.Answer = []dns.RR{&dns.SRV{Hdr: h, Port: 8450, Target: strings.Replace(host, "-", "-to-", 1) + ".bench.example."}}
	default:
		m.Ns = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: "bench.example.", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 300},
			Ns: "ns.bench.example.", Mbox: "h.bench.example.", Minttl: 300}}
	}
	if opt := req.IsEdns0(); opt != nil {
		m.SetEdns0(1232, false)
	}
	w.WriteMsg(m)
}

// dial finds the servers of the farm at the ports of the specification.
func (f *farm) dial(ctx context.Context, network, address string) (net.Conn, error) {
	to := f.home
	switch address {
	case "127.0.0.1:443":
		to = f.web
	case "127.0.0.2:443":
		to = f.closed
	}
	return new(net.Dialer).DialContext(ctx, network, to)
}

// base is what both sides of a comparison are made of.
func base(http1 bool) *http.Transport {
	t := &http.Transport{MaxIdleConns: 512, MaxIdleConnsPerHost: 8, IdleConnTimeout: 90 * time.Second, ForceAttemptHTTP2: true}
	if http1 {
		t.ForceAttemptHTTP2, t.TLSNextProto = false, map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	return t
}

// plain is net/http with the address already known.
func (f *farm) plain(http1 bool) *http.Transport {
	t := base(http1)
	t.TLSClientConfig = &tls.Config{RootCAs: f.roots}
	t.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, f.home)
	}
	return t
}

func (f *farm) transport(http1 bool) *resolver.Transport {
	return &resolver.Transport{Base: base(http1), Resolver: &resolver.Resolver{
		DNS:         &srv.Client{Servers: []string{f.dns}, HostsFile: os.DevNull},
		RootCAs:     f.roots,
		AllowNets:   []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		DialContext: f.dial,
	}}
}

// exchange sends req and reads the answer to its end, so that the connection
// is free again.
func exchange(tb testing.TB, over http.RoundTripper, req *http.Request) {
	resp, err := over.RoundTrip(req)
	if err != nil {
		tb.Error(err)
		return
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		tb.Error(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		tb.Error(resp.Status)
	}
}

// warmKinds are requests whose second and later ones go over a kept connection.
var warmKinds = []struct {
	name          string
	http1, stream bool
	method        string
}{
	{"GET/HTTP1", true, false, "GET"},
	{"GET/HTTP2", false, false, "GET"},
	{"PUT/HTTP1", true, false, "PUT"},
	{"PUT/HTTP2", false, false, "PUT"},
	{"PUT-stream/HTTP1", true, true, "PUT"},
	{"PUT-stream/HTTP2", false, true, "PUT"},
}

// transaction is the body of a PUT: a small federation transaction.
var transaction = bytes.Repeat([]byte("x"), 2000)

// newRequest makes a request. If it has a stream for a body, net/http knows no
// more of that than its length, and cannot have it a second time.
func newRequest(tb testing.TB, method, url string, stream bool) *http.Request {
	var body io.Reader
	switch {
	case stream:
		body = struct{ io.Reader }{bytes.NewReader(transaction)}
	case method == "PUT":
		body = bytes.NewReader(transaction)
	}
	req, err := http.NewRequestWithContext(tb.Context(), method, url, body)
	require.NoError(tb, err)
	if stream {
		req.ContentLength = int64(len(transaction))
	}
	return req
}

const (
	warmFed   = "matrix-federation://n1-6.bench.example/_matrix/federation/v1/version"
	warmPlain = "https://n1-6.bench.example:8448/_matrix/federation/v1/version"
)

// TestWarmRequestAllocations: a request over a kept connection costs at most
// three allocations more than one by net/http with the address already known.
func TestWarmRequestAllocations(t *testing.T) {
	f := newFarm(t, false)
	for _, kind := range warmKinds {
		plain, ours := f.plain(kind.http1), f.transport(kind.http1)
		defer plain.CloseIdleConnections()
		defer ours.CloseIdleConnections()
		measure := func(over http.RoundTripper, url string) float64 {
			const runs = 200
			// The requests are made before: their allocations are the caller's.
			requests := make([]*http.Request, runs+1)
			for i := range requests {
				requests[i] = newRequest(t, kind.method, url, kind.stream)
			}
			i := 0
			return testing.AllocsPerRun(runs, func() {
				exchange(t, over, requests[i])
				i++
			})
		}
		for range 4 { // until everything is warm
			measure(plain, warmPlain)
			measure(ours, warmFed)
		}
		// Servers, timers and pools that the collector empties allocate too, at
		// any time: the fewest are what is needed.
		fewest, ourFewest := math.Inf(1), math.Inf(1)
		for range 5 {
			fewest, ourFewest = min(fewest, measure(plain, warmPlain)), min(ourFewest, measure(ours, warmFed))
		}
		t.Logf("%-16s %3.0f allocations, plain net/http %3.0f", kind.name, ourFewest, fewest)
		assert.LessOrEqual(t, ourFewest-fewest, 3.0, kind.name)
	}
}

// BenchmarkWarmRequest compares a request over a kept connection with the same
// by net/http with the address already known: both take turns at the same
// server, in blocks. "ratio" is the median of those of neighbouring blocks; an op is
// a pair of blocks. On two busy cores net/http against itself gives 0.96 to 1.00.
func BenchmarkWarmRequest(b *testing.B) {
	const block = 32
	f := newFarm(b, false)
	for _, kind := range warmKinds {
		b.Run(kind.name, func(b *testing.B) {
			over := [2]http.RoundTripper{f.plain(kind.http1), f.transport(kind.http1)}
			urls := [2]string{warmPlain, warmFed}
			requests := make([]*http.Request, block)
			var took [2][]time.Duration
			var mallocs [2]uint64
			run := func(side int) {
				for i := range requests {
					requests[i] = newRequest(b, kind.method, urls[side], kind.stream)
				}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				begun := time.Now()
				for _, req := range requests {
					exchange(b, over[side], req)
				}
				took[side] = append(took[side], time.Since(begun))
				runtime.ReadMemStats(&after)
				mallocs[side] += after.Mallocs - before.Mallocs
			}
			for range 4 {
				run(0)
				run(1)
			}
			took, mallocs = [2][]time.Duration{}, [2]uint64{}
			for turn := 0; b.Loop(); turn++ {
				run(turn % 2)
				run(1 - turn%2)
			}
			n := float64(len(took[0]) * block)
			ratios := make([]float64, len(took[0]))
			for i := range ratios {
				ratios[i] = float64(took[1][i]) / float64(took[0][i])
			}
			b.ReportMetric(median(ratios), "ratio")
			b.ReportMetric(float64(median(took[0]))/block, "plain-ns")
			b.ReportMetric((float64(mallocs[1])-float64(mallocs[0]))/n, "allocs-more")
			for _, t := range over {
				t.(interface{ CloseIdleConnections() }).CloseIdleConnections()
			}
		})
	}
}

func median[T cmp.Ordered](of []T) T {
	slices.Sort(of)
	return of[len(of)/2]
}

// tripsScene has a name for each rule. The web servers of 4, 5 and 6 answer 404.
const tripsScene = `
-- zone --
web.example.       A 203.0.113.1
*.web.example.     A 203.0.113.1
two.web.example.   A 203.0.113.2
r6.web.example.    A 203.0.113.2
at-r32.example.    A 203.0.113.3
at-r33.example.    A 203.0.113.3
at-r34.example.    A 203.0.113.3
at-r35.example.    A 203.0.113.3
t.example.         A 203.0.113.4
_matrix-fed._tcp.at-r33.example.    SRV 1 1 8450 t.example.
_matrix._tcp.at-r34.example.        SRV 1 1 8450 t.example.
_matrix-fed._tcp.r4.web.example.    SRV 1 1 8450 t.example.
_matrix._tcp.r5.web.example.        SRV 1 1 8450 t.example.
; Names under a wildcard exist, and have these alone.
r4.web.example.    A 203.0.113.1
r5.web.example.    A 203.0.113.1
-- servers --
203.0.113.1:443
203.0.113.2:443
203.0.113.2:8448
203.0.113.2:8449
203.0.113.3:8448
203.0.113.3:8450
203.0.113.4:8450
-- GET https://r31.web.example/.well-known/matrix/server --
200

{"m.server":"203.0.113.2"}
-- GET https://r32.web.example/.well-known/matrix/server --
200

{"m.server":"at-r32.example:8450"}
-- GET https://r33.web.example/.well-known/matrix/server --
200

{"m.server":"at-r33.example"}
-- GET https://r34.web.example/.well-known/matrix/server --
200

{"m.server":"at-r34.example"}
-- GET https://r35.web.example/.well-known/matrix/server --
200

{"m.server":"at-r35.example"}
`

// trips are the sequential round trips of a first request. One connection is
// three: TCP, TLS, HTTP.
var trips = []struct {
	rule, name string
	trips      int
	are        string
}{
	{"1", "203.0.113.2", 3, "the server"},
	{"2", "two.web.example:8449", 4, "its address, the server"},
	{"3.1", "r31.web.example", 7, "the address, well-known, the server"},
	{"3.2", "r32.web.example", 8, "the address, well-known, the delegate's address, the server"},
	{"3.3", "r33.web.example", 9, "the address, well-known, SRV, the target's address, the server"},
	{"3.4", "r34.web.example", 9, "the address, well-known, both SRV, the target's address, the server"},
	{"3.5", "r35.web.example", 8, "the address, well-known, SRV beside the delegate's address, the server"},
	{"4", "r4.web.example", 7, "the address, well-known beside SRV and the target's address, the server"},
	{"5", "r5.web.example", 7, "the address, well-known beside SRV and the target's address, the server"},
	{"6", "r6.web.example", 7, "the address, well-known beside SRV, the server"},
}

// firstRequest sends a request and returns when its answer is there.
func firstRequest(tb testing.TB, transport *resolver.Transport, name string) {
	tb.Helper()
	req := newRequest(tb, "GET", "matrix-federation://"+name+"/_matrix/federation/v1/version", false)
	resp, err := transport.RoundTrip(req)
	require.NoError(tb, err, name)
	resp.Body.Close()
	require.Equal(tb, http.StatusOK, resp.StatusCode)
}

// versions has w answer every request for the federation.
func versions(w *world.World) {
	w.Handle(func(rw http.ResponseWriter, req *http.Request, _ netip.AddrPort) bool {
		if !strings.HasPrefix(req.URL.Path, "/_matrix/") {
			return false
		}
		io.Copy(io.Discard, req.Body)
		io.WriteString(rw, "{}")
		return true
	})
}

// startTrips runs tripsScene in memory; a round trip takes trip.
func startTrips(tb testing.TB, trip time.Duration) *world.World {
	tb.Helper()
	scene, err := world.Parse("trips", []byte(tripsScene))
	require.NoError(tb, err)
	w, err := scene.Start(world.Memory{Network: &memnet.Network{Latency: trip / 2}})
	require.NoError(tb, err)
	versions(w)
	return w
}

// TestFirstRequestTrips: a first request waits for as many round trips as the
// protocol wants one after the other, and for nothing else.
func TestFirstRequestTrips(t *testing.T) {
	t.Parallel()
	for _, trip := range []time.Duration{20 * time.Millisecond, 200 * time.Millisecond} {
		for _, kind := range trips {
			t.Run(fmt.Sprintf("%s/%s", trip, kind.rule), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := startTrips(t, trip)
					defer w.Close()
					transport := &resolver.Transport{Resolver: inside(w), Base: base(true)}
					begun := time.Now()
					firstRequest(t, transport, kind.name)
					assert.Equal(t, kind.trips, int(time.Since(begun)/trip), kind.are)
					assert.Zero(t, time.Since(begun)%trip, "%s", time.Since(begun))
					transport.CloseIdleConnections()
					time.Sleep(time.Minute) // what is under way ends by its own deadline
				})
			})
		}
	}
}

// BenchmarkFirstRequest is a first request over a network where one round trip
// takes 20 ms, in round trips.
func BenchmarkFirstRequest(b *testing.B) {
	const trip = 20 * time.Millisecond
	w := startTrips(b, trip)
	defer w.Close()
	for _, kind := range trips {
		b.Run("rule="+kind.rule, func(b *testing.B) {
			for b.Loop() {
				transport := &resolver.Transport{Resolver: inside(w), Base: base(true)}
				firstRequest(b, transport, kind.name)
				transport.CloseIdleConnections()
			}
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(trip), "trips/op")
		})
	}
}

const herdScene = `
-- zone --
h.example. A 203.0.113.1
t.example. A 203.0.113.2
-- servers --
203.0.113.2:8448
-- GET https://h.example/.well-known/matrix/server --
200

{"m.server":"t.example"}
`

// atOnce sends n requests at once and returns how long the slowest took.
func atOnce(t *testing.T, n int, over http.RoundTripper, url string) time.Duration {
	begun := time.Now()
	var all sync.WaitGroup
	for range n {
		all.Go(func() { exchange(t, over, newRequest(t, "GET", url, false)) })
	}
	all.Wait()
	return time.Since(begun)
}

// TestHerdOverHTTP2: 200 first requests at once ask every question once, and
// need at most four connections.
func TestHerdOverHTTP2(t *testing.T) {
	t.Parallel()
	const herd = 200
	scene, err := world.Parse("herd", []byte(herdScene))
	require.NoError(t, err)
	for range 5 {
		w, err := scene.Start(world.Loopback{})
		require.NoError(t, err)
		versions(w)
		plain := base(false)
		plain.TLSClientConfig = &tls.Config{RootCAs: w.Roots()}
		var plainConnections atomic.Int64
		plain.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			plainConnections.Add(1)
			return w.DialContext(ctx, network, "203.0.113.2:8448")
		}
		plainTook := atOnce(t, herd, plain, "https://t.example:8448/_matrix/federation/v1/version")
		plain.CloseIdleConnections()
		w.Close()

		// Another world: net/http may go on dialling after the last answer.
		w, err = scene.Start(world.Loopback{})
		require.NoError(t, err)
		versions(w)
		ours := &resolver.Transport{Resolver: inside(w), Base: base(false)}
		took := atOnce(t, herd, ours, "matrix-federation://h.example/_matrix/federation/v1/version")
		connections := count(w, "CONNECT 203.0.113.2:8448")
		t.Logf("%d connections in %s, plain net/http %d in %s", connections, took, plainConnections.Load(), plainTook)
		assert.LessOrEqual(t, connections, 4)
		seen := map[string]int{}
		for _, what := range w.Asked() {
			if !strings.HasPrefix(what, "CONNECT ") && !strings.HasSuffix(what, "/_matrix/federation/v1/version") {
				seen[what]++
			}
		}
		for what, n := range seen {
			assert.Equal(t, 1, n, what)
		}
		for _, what := range []string{"GET https://h.example/.well-known/matrix/server", "A h.example", "AAAA h.example", "A t.example", "AAAA t.example", "SRV _matrix-fed._tcp.t.example", "SRV _matrix._tcp.t.example"} {
			assert.Equal(t, 1, seen[what], what)
		}
		ours.CloseIdleConnections()
		w.Close()
	}
}

// TestHerdOverHTTP1: with HTTP/1.1 each of 200 first requests needs a connection,
// and the 199 others wait for the first one's handshake before they know: the
// slowest takes two round trips, TCP and TLS, longer than one alone. Once that
// is known of a server, nobody waits.
func TestHerdOverHTTP1(t *testing.T) {
	t.Parallel()
	const (
		trip = 20 * time.Millisecond
		herd = 200
		url  = "matrix-federation://h.example/_matrix/federation/v1/version"
	)
	scene, err := world.Parse("herd", []byte(herdScene))
	require.NoError(t, err)
	run := func(t *testing.T, n int) (first, second time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			w, err := scene.Start(world.Memory{Network: &memnet.Network{Latency: trip / 2}})
			require.NoError(t, err)
			defer w.Close()
			versions(w)
			ours := &resolver.Transport{Resolver: inside(w), Base: base(true)}
			first = atOnce(t, n, ours, url)
			assert.Equal(t, 1, count(w, "GET https://h.example/"))
			assert.LessOrEqual(t, count(w, "CONNECT 203.0.113.2:8448"), n, "one connection for each request at most")
			ours.CloseIdleConnections()
			second = atOnce(t, n, ours, url)
			ours.CloseIdleConnections()
			time.Sleep(time.Minute)
		})
		return first, second
	}
	alone, aloneAgain := run(t, 1)
	slowest, slowestAgain := run(t, herd)
	assert.Equal(t, 8*trip, alone)
	assert.Equal(t, alone+2*trip, slowest)
	assert.Equal(t, 3*trip, aloneAgain, "TCP, TLS, HTTP")
	assert.Equal(t, aloneAgain, slowestAgain)
}

// A sweeper sends first requests to the names of a farm, workers at a time.
type sweeper struct {
	over    http.RoundTripper
	form    string // of a URL
	workers int
	took    time.Duration // in all
}

// sweepers are net/http with the addresses already known, and this module.
func (f *farm) sweepers(workers int, http1 bool) [2]*sweeper {
	return [2]*sweeper{
		{over: f.plain(http1), form: "https://%s:8448/_matrix/federation/v1/version", workers: workers},
		{over: f.transport(http1), form: "matrix-federation://%s/_matrix/federation/v1/version", workers: workers},
	}
}

// sweep takes the names from first to before last.
func (s *sweeper) sweep(tb testing.TB, first, last int) {
	var next atomic.Int64
	next.Store(int64(first))
	var all sync.WaitGroup
	begun := time.Now()
	for range s.workers {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < last; i = int(next.Add(1)) - 1 {
				exchange(tb, s.over, newRequest(tb, "GET", fmt.Sprintf(s.form, farmName(i)), false))
			}
		})
	}
	all.Wait()
	s.took += time.Since(begun)
}

func (s *sweeper) close() { s.over.(interface{ CloseIdleConnections() }).CloseIdleConnections() }

// BenchmarkColdSweep sends first requests to distinct names, 64 at a time, and
// the same by net/http with the addresses already known, in turns of 250 names;
// an op is one name of each. "ratio" is that of the names per second. The
// figure for 2,000 names:
//
//	go test ./resolver -run '^$' -bench ColdSweep -benchtime 2000x
//
// The servers share the cores with both sides, and cost both the same for each
// connection: net/http makes one for each name, discovery one more to a web
// server that answers. In a process of their own they would share them too.
func BenchmarkColdSweep(b *testing.B) {
	const turn = 250
	for _, web := range []string{"404", "closed"} {
		for _, protocol := range []string{"HTTP2", "HTTP1"} {
			b.Run("web="+web+"/"+protocol, func(b *testing.B) {
				f := newFarm(b, web == "closed")
				for _, s := range f.sweepers(64, protocol == "HTTP1") {
					s.sweep(b, 0, 64) // threads, pools and pages
					s.close()
				}
				f.queries.Store(0)
				sides := f.sweepers(64, protocol == "HTTP1")
				b.ResetTimer()
				for first := 0; first < b.N; first += turn {
					at := first / turn % 2
					sides[at].sweep(b, first, min(first+turn, b.N))
					sides[1-at].sweep(b, first, min(first+turn, b.N))
				}
				plain, ours := sides[0].took, sides[1].took
				b.ReportMetric(float64(plain)/float64(ours), "ratio")
				b.ReportMetric(float64(b.N)/plain.Seconds(), "plain-names/s")
				b.ReportMetric(float64(b.N)/ours.Seconds(), "names/s")
				b.ReportMetric(float64(f.queries.Load())/float64(b.N), "queries/name")
				for _, s := range sides {
					s.close()
				}
			})
		}
	}
}

// deadScenes have servers that nobody can connect to.
var deadScenes = []struct{ name, scene string }{
	{"refused", `
-- zone --
h.example. A 203.0.113.1
-- servers --
203.0.113.1:443
203.0.113.1:8448 refuse
`},
	{"refused, no web server", `
-- zone --
h.example. A 203.0.113.1
-- servers --
203.0.113.1:443  refuse
203.0.113.1:8448 refuse
`},
	{"silent", `
-- zone --
h.example. A 203.0.113.1
-- servers --
203.0.113.1:443  drop
203.0.113.1:8448 drop
`},
	{"delegated", `
-- zone --
h.example. A 203.0.113.1
t.example. A 203.0.113.2
-- servers --
203.0.113.2:8448 reset
-- GET https://h.example/.well-known/matrix/server --
200

{"m.server":"t.example"}
`},
	{"SRV", `
-- zone --
h.example. A 203.0.113.1
t.example. A 203.0.113.2
_matrix-fed._tcp.h.example. SRV 1 1 8448 t.example.
_matrix-fed._tcp.h.example. SRV 2 1 8449 t.example.
-- servers --
203.0.113.1:443
203.0.113.2:8448 stall-handshake
203.0.113.2:8449 refuse
`},
	{"no DNS", `
-- dns --
* * silent
`},
}

// TestDeadServerIsLeftAlone: 50 requests one after the other to a dead server
// fetch well-known three times at most, ask for SRV eight times at most, and
// after the first few end at once and without any network.
func TestDeadServerIsLeftAlone(t *testing.T) {
	t.Parallel()
	for _, kind := range deadScenes {
		for _, apart := range []time.Duration{0, 200 * time.Millisecond} {
			t.Run(fmt.Sprintf("%s/%s apart", kind.name, apart), func(t *testing.T) {
				t.Parallel()
				within(t, time.Millisecond, kind.scene, func(t *testing.T, w *world.World, r *resolver.Resolver) {
					var dials atomic.Int64
					r.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
						dials.Add(1)
						return w.DialContext(ctx, network, address)
					}
					transport := &resolver.Transport{Resolver: r}
					var busy []int // the requests that waited, or for which somebody was asked
					for i := range 50 {
						time.Sleep(apart)
						synctest.Wait()
						asked, dialled, begun := len(w.Asked()), dials.Load(), time.Now()
						_, err := transport.RoundTrip(newRequest(t, "GET", "matrix-federation://h.example/", false))
						require.Error(t, err)
						synctest.Wait()
						if len(w.Asked()) > asked || dials.Load() > dialled || time.Since(begun) > 0 {
							busy = append(busy, i)
						}
					}
					assert.LessOrEqual(t, r.Stats().WellKnown.Fetches, uint64(3))
					assert.LessOrEqual(t, count(w, "SRV "), 8)
					if apart == 0 {
						assert.Equal(t, []int{0}, busy, "no time has passed since")
					} else {
						// Ten seconds; after each failure the pause is longer.
						assert.LessOrEqual(t, len(busy), 3, "%v", busy)
					}
					t.Logf("%d well-known, %d SRV, %d dials, for requests %v", r.Stats().WellKnown.Fetches, count(w, "SRV "), dials.Load(), busy)
				})
			})
		}
	}
}

// BenchmarkRememberedFailure is a request to a server that has just failed.
func BenchmarkRememberedFailure(b *testing.B) {
	scene, err := world.Parse("dead", []byte(deadScenes[1].scene))
	require.NoError(b, err)
	w, err := scene.Start(world.Memory{})
	require.NoError(b, err)
	defer w.Close()
	transport := &resolver.Transport{Resolver: inside(w)}
	req := newRequest(b, "GET", "matrix-federation://h.example/", false)
	for range 3 {
		_, err = transport.RoundTrip(req)
		require.ErrorIs(b, err, resolver.Unreachable)
	}
	b.ReportAllocs()
	for b.Loop() {
		_, err = transport.RoundTrip(req)
	}
	var failed *resolver.ConnectError
	require.True(b, errors.As(err, &failed))
}
