package resolver_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
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

var (
	soakFor  = flag.Duration("soak", 2*time.Second, "how long TestSoak lasts")
	soakSeed = flag.Uint64("soak.seed", 0, "what TestSoak does; 0 for something new")
)

const (
	soakNames    = 8 // of each kind
	soakMachines = 9
	soakGroup    = 3 // machines that may ever be those of one name
	soakWorkers  = 16

	// Records live for five seconds, the shortest lifetime that counts. Two more are for
	// a slow machine.
	soakStale = 7 * time.Second
)

// A soak is a world in which nothing lasts, and what it may look like.
type soak struct {
	t     *testing.T
	seed  uint64
	world *world.World

	mu       sync.Mutex
	rng      *rand.Rand
	machines [soakMachines]string // the options of each
	badSince [soakMachines]time.Time
	srv      [soakNames][]int // the machines behind s0.example and so on, by SRV
	addr     [soakNames]int   // the one behind a0.example:8443, by its address
	denied   [2][soakNames]bool
	doc      [soakNames]string // "a" or "b": w0.example is delegated to d0a.example or d0b.example
	last     map[string]time.Time

	ids      atomic.Uint64
	sent     sync.Map // id to *soakRequest
	complain atomic.Int32
}

// A soakRequest is one that is under way.
type soakRequest struct {
	name  string
	body  string
	began time.Time
	got   atomic.Int32 // how often a server has got it
	whole atomic.Int32 // and its whole body
}

var soakStates = []string{
	"", "", "", "", "http1", "http1", "http1",
	"refuse", "reset", "close", "reset-handshake", "plain",
	"cert expired", "cert not-yet-valid", "cert untrusted", "cert self-signed", "cert names=other.example",
}

func goodState(options string) bool { return options == "" || options == "http1" }

func machineAddr(m int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(m + 1)}), 8443)
}

// group are the machines of a name.
func group(i int) []int {
	var list []int
	for k := range soakGroup {
		list = append(list, (i+k*2)%soakMachines)
	}
	return list
}

// text is the scene as it is now.
func (s *soak) text() string {
	var zone, servers, replies strings.Builder
	for m, options := range s.machines {
		at := machineAddr(m)
		fmt.Fprintf(&zone, "m%d.example. 5 A %s\n", m, at.Addr())
		fmt.Fprintf(&servers, "%s %s\n", at, options)
	}
	zone.WriteString("x.example. 5 A 10.0.0.1\nx.example. 5 A 127.0.0.1\n")
	for i := range soakNames {
		for _, m := range s.srv[i] {
			fmt.Fprintf(&zone, "_matrix-fed._tcp.s%d.example. 5 SRV %d 1 8443 m%d.example.\n", i, i%2*m, m)
		}
		if s.denied[0][i] {
			fmt.Fprintf(&zone, "_matrix-fed._tcp.s%d.example. 5 SRV 0 9 8443 x.example.\n", i)
		}
		fmt.Fprintf(&zone, "a%d.example. 5 A %s\n", i, machineAddr(s.addr[i]).Addr())
		if s.denied[1][i] {
			fmt.Fprintf(&zone, "a%d.example. 5 A 10.0.0.1\na%d.example. 5 AAAA ::1\n", i, i)
		}
		fmt.Fprintf(&zone, "w%d.example. A 203.0.113.100\n", i)
		fmt.Fprintf(&zone, "d%da.example. A %s\n", i, machineAddr(group(i)[0]).Addr())
		fmt.Fprintf(&zone, "d%db.example. A %s\n", i, machineAddr(group(i)[1]).Addr())
		fmt.Fprintf(&replies, "-- GET https://w%d.example/.well-known/matrix/server --\n200\n\n{\"m.server\":\"d%d%s.example:8443\"}\n", i, i, s.doc[i])
	}
	servers.WriteString("203.0.113.100:443\n203.0.113.100:8443\n")
	return "-- zone --\n" + zone.String() + "-- servers --\n" + servers.String() + replies.String()
}

// right tells whether a request for name may reach a machine in this form.
func (s *soak) right(name, host, tlsName string, at netip.AddrPort, began time.Time) string {
	i, err := strconv.Atoi(strings.Trim(name[1:strings.IndexByte(name, '.')], "ab"))
	if err != nil {
		return "no such name"
	}
	among := func(machines []int) bool {
		for _, m := range machines {
			if machineAddr(m) == at {
				return true
			}
		}
		return false
	}
	bare := strings.TrimSuffix(name, ":8443")
	switch {
	case name[0] == 's' && !among(group(i)), name[0] == 'a' && !among(group(i)):
		return "not its machine"
	case name[0] == 'w' && bare == name: // delegated
		for k, which := range []string{"a", "b"} {
			delegate := fmt.Sprintf("d%d%s.example", i, which)
			if tlsName == delegate && host == delegate+":8443" && among(group(i)[k:k+1]) {
				return ""
			}
		}
		return "not its delegate"
	case name[0] == 'w' && at.String() != "203.0.113.100:8443":
		return "not its own address"
	case host != name || tlsName != bare:
		return "not its name"
	case name[0] == 's':
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, m := range s.srv[i] {
			if machineAddr(m) == at {
				return ""
			}
		}
		if began.Sub(s.last[name+" "+at.String()]) > soakStale {
			return "its records have been others for too long"
		}
	}
	return ""
}

func (s *soak) failf(format string, args ...any) {
	if s.complain.Add(1) <= 20 {
		s.t.Errorf("-soak.seed %d: "+format, append([]any{s.seed}, args...)...)
	}
}

// serve is what every machine does.
func (s *soak) serve(rw http.ResponseWriter, req *http.Request, at netip.AddrPort) bool {
	if strings.HasPrefix(req.URL.Path, "/.well-known/") {
		return false
	}
	began := time.Now()
	id, _ := strconv.ParseUint(strings.TrimPrefix(req.URL.Path, "/"), 10, 64)
	value, ok := s.sent.Load(id)
	if !ok {
		return true // its sender has given up, and forgotten it
	}
	r := value.(*soakRequest)
	if n := r.got.Add(1); n > 1 {
		s.failf("request %d for %s was sent %d times", id, r.name, n)
	}
	if req.TLS == nil {
		s.failf("request %d for %s came without TLS", id, r.name)
		return true
	}
	if problem := s.right(r.name, req.Host, req.TLS.ServerName, at, r.began); problem != "" {
		s.failf("request for %s reached %s as %s (TLS %s): %s", r.name, at, req.Host, req.TLS.ServerName, problem)
	}
	s.mu.Lock()
	for m := range s.machines {
		if machineAddr(m) == at && !s.badSince[m].IsZero() && began.Sub(s.badSince[m]) > 2*time.Second {
			s.failf("request for %s reached %s, which cannot prove its name (%s)", r.name, at, s.machines[m])
		}
	}
	s.mu.Unlock()
	body, err := io.ReadAll(req.Body)
	switch {
	case err == nil && string(body) == r.body:
		r.whole.Add(1)
	case err == nil:
		s.failf("request for %s arrived with %d bytes of %d", r.name, len(body), len(r.body))
	case !strings.HasPrefix(r.body, string(body)):
		s.failf("request for %s arrived with another body", r.name)
	}
	if id%64 == 0 {
		panic(http.ErrAbortHandler) // it dies with the request in its hands
	}
	rw.Write([]byte(at.String()))
	return true
}

// mutate changes something.
func (s *soak) mutate() {
	s.mu.Lock()
	cut := -1
	i, m := s.rng.IntN(soakNames), s.rng.IntN(soakMachines)
	switch s.rng.IntN(6) {
	case 0, 1: // a machine dies, comes back, or has another certificate
		states := soakStates
		if *soakFor >= 30*time.Second && s.rng.IntN(8) == 0 {
			states = []string{"drop", "stall-handshake"}
		}
		s.machines[m] = states[s.rng.IntN(len(states))]
		cut = m
	case 2, 3: // a server moves, by SRV
		for _, m := range s.srv[i] {
			s.last[fmt.Sprintf("s%d.example %s", i, machineAddr(m))] = time.Now().Add(time.Hour) // until the world has changed
		}
		s.srv[i] = nil
		for _, k := range s.rng.Perm(soakGroup)[:1+s.rng.IntN(soakGroup)] {
			s.srv[i] = append(s.srv[i], group(i)[k])
		}
		s.denied[0][i] = s.rng.IntN(3) == 0
	case 4: // by its address
		s.addr[i] = group(i)[s.rng.IntN(soakGroup)]
		s.denied[1][i] = s.rng.IntN(3) == 0
	case 5: // by its delegation
		s.doc[i] = string("ab"[s.rng.IntN(2)])
	}
	text := s.text()
	s.mu.Unlock()

	s.become(text)
	if cut >= 0 {
		s.world.Cut(machineAddr(cut))
		s.mu.Lock()
		if s.badSince[cut] = time.Now(); goodState(s.machines[cut]) {
			s.badSince[cut] = time.Time{}
		}
		s.mu.Unlock()
	}
}

func (s *soak) become(text string) {
	scene, err := world.Parse("soak", []byte(text))
	if err == nil {
		err = s.world.Change(scene)
	}
	if err != nil {
		s.failf("%v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, at := range s.last {
		if at.After(time.Now()) {
			s.last[key] = time.Now()
		}
	}
}

// soakServerNames are all that are sent to.
func soakServerNames() []string {
	var all []string
	for i := range soakNames {
		all = append(all, fmt.Sprintf("s%d.example", i), fmt.Sprintf("a%d.example:8443", i),
			fmt.Sprintf("w%d.example", i), fmt.Sprintf("w%d.example:8443", i))
	}
	return all
}

// send sends one request and judges what comes back.
func (s *soak) send(tr *resolver.Transport, rng *rand.Rand, name string, giveUp time.Duration) error {
	id := s.ids.Add(1)
	r := &soakRequest{name: name, body: strings.Repeat(strconv.FormatUint(id, 10)+" ", rng.IntN(2000)), began: time.Now()}
	s.sent.Store(id, r)
	defer s.sent.Delete(id)
	ctx, cancel := context.WithTimeout(context.Background(), giveUp)
	defer cancel()
	url := fmt.Sprintf("matrix-federation://%s/%d", name, id)
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url, strings.NewReader(r.body)) // with GetBody
	if err != nil {
		return err
	}
	p := newPayload(strings.NewReader(r.body))
	switch kind := rng.IntN(3); {
	case r.body == "":
		p = nil
	case kind == 0: // can be had again
		req.Body = p
	case kind == 1:
		req.Body, req.GetBody = p, nil
	case kind == 2:
		req.Body, req.GetBody, req.ContentLength = p, nil, -1
	}
	resp, err := tr.RoundTrip(req)
	if req.URL.String() != url {
		s.failf("the URL of a request for %s has become %s", name, req.URL)
	}
	if err == nil {
		if len(resp.TLS.VerifiedChains) == 0 {
			s.failf("%s answered without proof", name)
		}
		var answer []byte
		answer, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		if err == nil && (r.got.Load() != 1 || r.whole.Load() != 1 || !bytes.HasPrefix(answer, []byte("203.0.113."))) {
			s.failf("%s answered %q to a request that arrived %d times, %d times whole", name, answer, r.got.Load(), r.whole.Load())
		}
	}
	if p != nil {
		select {
		case <-p.closed:
		case <-time.After(10 * time.Second):
			s.failf("the body of a request for %s was not closed: %v", name, err)
		}
		if n := p.closes.Load(); n > 1 {
			s.failf("the body of a request for %s was closed %d times", name, n)
		}
	}
	var failed *resolver.ConnectError
	switch {
	case errors.As(err, &failed):
		if wait := time.Until(failed.RetryAt); wait > time.Minute {
			s.failf("%s is to be left alone for %s", name, wait)
		}
		if len(failed.Tried) == 0 {
			s.failf("%s failed, and nothing was tried: %v", name, err)
		}
		if r.got.Load() > 0 {
			s.failf("%s got a request that was said not to be sent: %v", name, err)
		}
	case errors.Is(err, resolver.Internal), errors.Is(err, resolver.InvalidRequest):
		s.failf("%s: %v", name, err)
	case err != nil && strings.Contains(err.Error(), "resolver: "):
		// What is said among ourselves is nobody else's business, but for the
		// body that net/http would have needed again.
		if !strings.Contains(err.Error(), "body has been read") {
			s.failf("%s: %v", name, err)
		}
	}
	return err
}

// TestSoak sends requests into a world whose servers die, move, and change
// certificates and delegations at random. Whatever happens, no request reaches
// a server that is not its own, or that has not proved it, no address is
// dialled that may not be, no body arrives twice or in part, nothing is left
// over, and when the world is whole again every name works again in time.
func TestSoak(t *testing.T) {
	t.Parallel()
	seed := *soakSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-soak.seed %d", seed)
	s := &soak{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0)), last: make(map[string]time.Time)}
	for i := range soakNames {
		s.srv[i], s.addr[i], s.doc[i] = group(i)[:2], group(i)[0], "a"
	}
	w, err := mustParse(t, s.text()).Start(world.Loopback{})
	require.NoError(t, err)
	defer w.Close()
	s.world = w
	w.Handle(s.serve)

	r := inside(w)
	r.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if at := netip.MustParseAddrPort(address).Addr(); at.IsPrivate() || at.IsLoopback() {
			s.failf("%s was dialled", address)
		}
		return w.DialContext(ctx, network, address)
	}
	tr := &resolver.Transport{Resolver: r}
	names := soakServerNames()

	stop := make(chan struct{})
	time.AfterFunc(*soakFor, func() { close(stop) })
	var wg sync.WaitGroup
	var good, bad atomic.Int64
	for worker := range soakWorkers {
		rng := rand.New(rand.NewPCG(seed, uint64(worker)+1))
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				name := names[rng.IntN(len(names))]
				giveUp := 15 * time.Second
				switch rng.IntN(100) {
				case 0, 1, 2, 3, 4:
					giveUp = time.Duration(rng.IntN(20)) * time.Millisecond
				case 5:
					tr.CloseIdleConnections()
				case 6, 7, 8, 9, 10:
					tr.MarkAlive(name)
				case 11:
					r.Forget(name)
				}
				if s.send(tr, rng, name, giveUp) == nil {
					good.Add(1)
				} else {
					bad.Add(1)
				}
			}
		})
	}
	mutations := 0
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for ended := false; !ended; {
		select {
		case <-stop:
			ended = true
		case <-ticker.C:
			s.mutate()
			mutations++
		}
	}
	wg.Wait()

	// All is well again.
	s.mu.Lock()
	for m := range s.machines {
		s.machines[m], s.badSince[m] = "", time.Time{}
	}
	text := s.text()
	s.mu.Unlock()
	s.become(text)
	whole := time.Now()
	for _, name := range names {
		wg.Go(func() { s.recover(tr, name, whole) })
	}
	wg.Wait()

	stats := tr.Stats()
	t.Logf("%d requests succeeded, %d failed, %d changes, %d connections, %d questions again, recovered after %s",
		good.Load(), bad.Load(), mutations, stats.Connections, stats.AskedAgain, time.Since(whole).Round(time.Millisecond))
	assert.Positive(t, good.Load())
	assert.Positive(t, bad.Load())
	// Connections whose callers have given up are made to their end, for those who
	// come later: eight targets, ten seconds each.
	for deadline := time.Now().Add(80 * time.Second); tr.Stats().Connecting > 0 && time.Now().Before(deadline); {
		<-ticker.C
	}
	assert.Zero(t, tr.Stats().Connecting)
	tr.CloseIdleConnections()
	for deadline := time.Now().Add(10 * time.Second); w.Open() > 0 && time.Now().Before(deadline); {
		<-ticker.C
	}
	assert.Zero(t, w.Open(), "connections that nobody uses")
}

// recover sends requests for name until one succeeds, and judges when.
func (s *soak) recover(tr *resolver.Transport, name string, whole time.Time) {
	rng := rand.New(rand.NewPCG(s.seed, s.ids.Load()))
	patient := *soakFor >= 30*time.Second
	for try := 1; ; try++ {
		began := time.Now()
		err := s.send(tr, rng, name, 15*time.Second)
		var failed *resolver.ConnectError
		switch {
		case err == nil:
			return
		case !errors.As(err, &failed):
			if try > 3 {
				s.failf("%s does not work again: %v", name, err)
				return
			}
		case !patient:
			if try > 2 {
				s.failf("%s was heard of, and does not work again: %v", name, err)
				return
			}
			tr.MarkAlive(name)
		case !failed.Remembered && began.Sub(whole) > soakStale:
			s.failf("%s was tried %s after all was well: %v", name, began.Sub(whole), err)
			return
		case began.Sub(whole) > time.Minute+soakStale:
			s.failf("%s was not tried for %s: %v", name, began.Sub(whole), err)
			return
		default:
			time.Sleep(time.Until(failed.RetryAt))
		}
	}
}
