package resolver_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/world"
	"mxdiscover/resolver"
	"mxdiscover/srv"
)

// Here the resolver asks DNS servers that others wrote: unbound, which answers
// as a recursive one from its cache, and BIND, which is the authority and
// recursive at once. Both serve the zones of the scenes in testdata/realdns and
// nothing else: whatever is outside of them fails, and no packet leaves
// loopback. Well-known is served by the world of each scene. The world's own
// DNS server goes through the same tests, which shows that scenes elsewhere
// have not been made to fit it.

const (
	refusedZone = "refused.example." // which the servers refuse to answer for
	brokenZone  = "broken.example."  // which they cannot answer for
)

// software is a DNS server to test against.
type software struct {
	program string
	debian  string   // the package that has it
	args    []string // to run in the foreground with the configuration in its working directory
	conf    string   // the name of the configuration
	config  func(port int, zones zones) string
}

func unbound() software {
	return software{
		program: "unbound", debian: "unbound",
		args: []string{"-d", "-c", "unbound.conf"}, conf: "unbound.conf",
		config: func(port int, zones zones) string {
			var b strings.Builder
			// Port sharing is off so that a port that is taken is an error. By
			// itself unbound never asks a server on loopback, and that is where
			// its root servers are: what is in no zone fails at once.
			fmt.Fprintf(&b, `server:
	interface: 127.0.0.1
	port: %d
	so-reuseport: no
	outgoing-interface: 127.0.0.1
	do-not-query-localhost: yes
	do-ip6: no
	do-daemonize: no
	num-threads: 1
	username: ""
	chroot: ""
	directory: "."
	pidfile: ""
	use-syslog: no
	logfile: ""
	module-config: "iterator"
	trust-anchor-signaling: no
	root-hints: "root.hints"
	local-zone: "%s" always_refuse
remote-control:
	control-enable: no
`, port, refusedZone)
			for name := range zones {
				fmt.Fprintf(&b, `auth-zone:
	name: "%s"
	zonefile: "%szone"
	for-downstream: no
	for-upstream: yes
	fallback-enabled: no
`, name, name)
			}
			return b.String()
		},
	}
}

func named() software {
	return software{
		program: "named", debian: "bind9",
		args: []string{"-g", "-n", "1", "-c", "named.conf"}, conf: "named.conf",
		config: func(port int, zones zones) string {
			var b strings.Builder
			// Nobody listens at port 1: what is in no zone fails at once.
			fmt.Fprintf(&b, `options {
	directory ".";
	listen-on port %d { 127.0.0.1; };
	listen-on-v6 { none; };
	reuseport no;
	query-source address 127.0.0.1;
	recursion yes;
	allow-query { 127.0.0.1; };
	forward only;
	forwarders { 127.0.0.1 port 1; };
	dnssec-validation no;
	empty-zones-enable no;
	notify no;
	max-cache-size 8m;
	pid-file none;
	lock-file none;
	session-keyfile none;
};
controls { };
zone "%s" { type primary; file "refused.zone"; allow-query { none; }; };
zone "%s" { type primary; file "broken.zone"; };
`, port, refusedZone, brokenZone)
			for name := range zones {
				fmt.Fprintf(&b, "zone %q { type primary; file %q; };\n", name, name+"zone")
			}
			return b.String()
		},
	}
}

// zones are master files by the names of their zones.
type zones map[string]string

// add adds the zone of a scene. To a world that is one zone, to a server it is
// as many as it has SOA records.
func (z zones) add(t *testing.T, scene []byte) {
	t.Helper()
	var records []dns.RR
	for _, file := range txtar.Parse(scene).Files {
		if file.Name != "zone" {
			continue
		}
		parser := dns.NewZoneParser(strings.NewReader("$TTL 300\n"+string(file.Data)), ".", "")
		for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
			records = append(records, rr)
			if _, begins := rr.(*dns.SOA); begins {
				require.NotContains(t, z, rr.Header().Name)
				z[rr.Header().Name] = ""
			}
		}
		require.NoError(t, parser.Err())
	}
	for _, rr := range records {
		apex := dns.CanonicalName(rr.Header().Name)
		for !z.begins(apex) {
			_, parent, ok := strings.Cut(apex, ".")
			require.True(t, ok && parent != "", "%s is in no zone", rr)
			apex = parent
		}
		z[apex] += rr.String() + "\n"
	}
}

func (z zones) begins(name string) bool {
	_, ok := z[name]
	return ok
}

// server is a DNS server that runs.
type server struct {
	*process
	address string
}

// start runs s until the end of the test.
func (s software) start(t *testing.T, served zones) server {
	t.Helper()
	program, err := exec.LookPath(s.program)
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/" + s.program)
	}
	if err != nil {
		t.Skipf("%s is not installed; Debian has it in the package %s", s.program, s.debian)
	}
	// Debian's AppArmor profiles let the program read its own directories
	// alone. They go by its path, and a copy has another one.
	binary, err := os.ReadFile(program)
	require.NoError(t, err)
	program = filepath.Join(t.TempDir(), s.program)
	require.NoError(t, os.WriteFile(program, binary, 0o700))

	// A zone that nobody else has tells this server from one that came by the
	// port first.
	mark := strings.ToLower(rand.Text()) + ".example."
	all := zones{mark: emptyZone(mark)}
	for name, text := range served {
		all[name] = text
	}
	var last server
	for range 5 { // somebody may take the free port before the program does
		dir, port := t.TempDir(), freePort(t)
		for name, text := range map[string]string{
			s.conf:         s.config(port, all),
			"root.hints":   ". 3600 NS root.invalid.\nroot.invalid. 3600 A 127.0.0.1\n",
			"refused.zone": emptyZone(refusedZone),
			"broken.zone":  "this is no zone\n",
		} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		}
		for name, text := range all {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name+"zone"), []byte(text), 0o600))
		}
		last = server{run(t, dir, program, s.args...), fmt.Sprintf("127.0.0.1:%d", port)}
		if last.until(func() bool { return last.serves(all) }) {
			return last
		}
		last.stop()
	}
	t.Fatalf("%s did not start:\n%s", s.program, last.output())
	return server{}
}

// serves tells whether every zone is loaded, and there to be asked for over UDP
// and TCP.
func (s server) serves(all zones) bool {
	for _, network := range []string{"udp", "tcp"} {
		for name := range all {
			client := dns.Client{Net: network, Timeout: time.Second}
			reply, _, err := client.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeSOA), s.address)
			if err != nil || len(reply.Answer) == 0 {
				return false
			}
		}
	}
	return true
}

func emptyZone(name string) string {
	return fmt.Sprintf("%[1]s 300 SOA localhost. hostmaster.localhost. 1 3600 600 86400 60\n%[1]s 300 NS localhost.\n", name)
}

// freePort is a port of 127.0.0.1 that is free for UDP and TCP.
func freePort(t *testing.T) int {
	t.Helper()
	for range 10 { // a port is rarely taken for UDP alone
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		port := tcp.Addr().(*net.TCPAddr).Port
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		tcp.Close()
		if err == nil {
			udp.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// process is a program that runs.
type process struct {
	log    string
	exited chan struct{}
	stop   func()
}

// keeper is a shell script that runs a program until standard input ends. That
// is when the test closes it, or when the test itself has died of whatever it
// was: no process outlives it.
const keeper = `exec 3<&0
"$@" 3<&- &
program=$!
{ read -r line <&3; kill -9 $program; } &
exec 3<&-
wait $program`

// run runs a program in dir until the end of the test.
func run(t *testing.T, dir, program string, args ...string) *process {
	t.Helper()
	p := &process{log: filepath.Join(dir, "output.log"), exited: make(chan struct{})}
	log, err := os.Create(p.log)
	require.NoError(t, err)
	defer log.Close()
	stdin, end, err := os.Pipe()
	require.NoError(t, err)
	defer stdin.Close()
	cmd := exec.Command("/bin/sh", append([]string{"-c", keeper, "sh", program}, args...)...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "TMPDIR="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, log, log
	require.NoError(t, cmd.Start())
	go func() {
		defer close(p.exited)
		cmd.Wait() // it is killed: how it ends says nothing
	}()
	p.stop = sync.OnceFunc(func() {
		end.Close()
		<-p.exited
	})
	t.Cleanup(p.stop)
	return p
}

// output is what the program has printed so far.
func (p *process) output() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// until waits for something that the program does, as long as it runs.
func (p *process) until(done func() bool) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second) // of a busy machine
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			return false
		case <-p.exited:
			return false
		}
	}
	return true
}

// realScenes are the texts of the scenes in testdata/realdns by their paths,
// and their zones.
func realScenes(t *testing.T) (texts map[string][]byte, served zones) {
	t.Helper()
	files, err := filepath.Glob("testdata/realdns/*.txtar")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	texts, served = make(map[string][]byte), make(zones)
	for _, file := range files {
		texts[file], err = os.ReadFile(file)
		require.NoError(t, err)
		served.add(t, texts[file])
	}
	return texts, served
}

// startWorld runs the world of a scene on loopback until the end of the test.
func startWorld(t *testing.T, name string, text []byte) (*world.Scene, *world.World) {
	t.Helper()
	scene, err := world.Parse(name, text)
	require.NoError(t, err)
	w, err := scene.Start(world.Loopback{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, w.Close()) })
	return scene, w
}

// asking is a Resolver that acts in w and asks the DNS server at address.
func asking(w *world.World, address string) *resolver.Resolver {
	r := inside(w)
	r.DNS.Servers = []string{address}
	return r
}

func TestRealDNS(t *testing.T) {
	t.Parallel()
	for _, s := range []software{unbound(), named()} {
		t.Run(s.program, func(t *testing.T) {
			t.Parallel()
			texts, served := realScenes(t)
			served.add(t, []byte(manyRecords))
			served.add(t, crowd())
			address := s.start(t, served).address
			for name, text := range texts {
				t.Run(filepath.Base(name), func(t *testing.T) {
					t.Parallel()
					scene, w := startWorld(t, name, text)
					playAgainst(t, scene, asking(w, address))
					for _, asked := range w.Asked() {
						assert.Regexp(t, "^(GET|CONNECT) ", asked, "the world's own DNS server must have nothing to do")
					}
				})
			}
			t.Run("absence", func(t *testing.T) {
				t.Parallel()
				_, w := startWorld(t, "absence", texts["testdata/realdns/odd.txtar"])
				testAbsence(t, asking(w, address))
			})
			t.Run("many records", func(t *testing.T) {
				t.Parallel()
				testManyRecords(t, address)
			})
			t.Run("crowd", func(t *testing.T) {
				t.Parallel()
				_, w := startWorld(t, "crowd", crowd())
				testCrowd(t, asking(w, address))
			})
			t.Run("stopped", func(t *testing.T) {
				t.Parallel()
				_, w := startWorld(t, "stopped", texts["testdata/realdns/resolvematrix.txtar"])
				testStopped(t, w, s.start(t, served))
			})
		})
	}
	t.Run("world", func(t *testing.T) {
		t.Parallel()
		texts, _ := realScenes(t)
		for name, text := range texts {
			t.Run(filepath.Base(name), func(t *testing.T) {
				t.Parallel()
				scene, w := startWorld(t, name, text)
				playAgainst(t, scene, inside(w))
			})
		}
		t.Run("absence", func(t *testing.T) {
			t.Parallel()
			_, w := startWorld(t, "absence", texts["testdata/realdns/odd.txtar"])
			testAbsence(t, inside(w))
		})
		t.Run("many records", func(t *testing.T) {
			t.Parallel()
			_, w := startWorld(t, "many records", []byte(manyRecords))
			testManyRecords(t, w.DNSServers()[0])
		})
		t.Run("crowd", func(t *testing.T) {
			t.Parallel()
			_, w := startWorld(t, "crowd", crowd())
			testCrowd(t, inside(w))
		})
	})
}

// playAgainst resolves the names of a scene and compares.
func playAgainst(t *testing.T, scene *world.Scene, r *resolver.Resolver) {
	require.NotEmpty(t, scene.Script())
	for _, step := range scene.Script() {
		want, ok := step.(world.Resolve)
		require.True(t, ok, "%s: nothing but resolve is possible here", step.Position())
		got, err := json.Marshal(r.Explain(t.Context(), want.Name))
		require.NoError(t, err)
		assert.NoError(t, world.MatchJSON(want.Want, got), "%s: %s gave\n%s", want.Position(), want.Name, got)
	}
}

// testAbsence shows that "there is none" is kept for as long as the SOA record
// of the zone says (RFC 2308, 5), in both its forms and behind an alias.
func testAbsence(t *testing.T, r *resolver.Resolver) {
	for name, detail := range map[string]string{"nxdomain.odd.example": "NXDOMAIN", "nodata.odd.example": "no such record (NODATA)"} {
		report := r.Explain(t.Context(), name)
		var failed *resolver.Error
		require.ErrorAs(t, report.Err, &failed)
		assert.Equal(t, resolver.NoAddress, failed.Code)
		begun, found := time.Now(), false
		for _, step := range report.Steps() {
			if step.Rule != "4" {
				continue
			}
			found = true
			assert.Equal(t, resolver.Absent, step.Outcome)
			assert.Equal(t, detail, step.Detail)
			// A cache counts down, and another test may have asked before.
			assert.LessOrEqual(t, step.TTL, 77*time.Second)
			assert.Greater(t, step.TTL, 30*time.Second)
			assert.WithinDuration(t, begun.Add(step.TTL), step.Expires, 10*time.Second)
		}
		assert.True(t, found)
	}
}

// manyRecords is a scene with more SRV records than go into a UDP answer.
const manyRecords = `
-- zone --
many.example.                       SOA  localhost. hostmaster.localhost. 1 3600 600 86400 60
many.example.                       NS   localhost.
$GENERATE 1-30 _matrix-fed._tcp.many.example.  SRV  $ 1 8448 a-matrix-server-of-many-$.many.example.
*.many.example.                     A    203.0.113.60
`

// testManyRecords shows that an answer that does not fit into a datagram is
// asked for again over TCP, and read in full.
func testManyRecords(t *testing.T, address string) {
	const name = "_matrix-fed._tcp.many.example"
	question := new(dns.Msg).SetQuestion(name+".", dns.TypeSRV).SetEdns0(1232, false)
	reply, err := dns.Exchange(question, address)
	require.NoError(t, err)
	require.True(t, reply.Truncated, "else this test shows nothing")

	client := &srv.Client{Servers: []string{address}, HostsFile: os.DevNull}
	answer, err := client.LookupSRV(t.Context(), name)
	require.NoError(t, err)
	assert.Equal(t, "tcp", answer.Network)
	assert.Empty(t, answer.Tries)
	assert.Empty(t, answer.Dropped)

	_, w := startWorld(t, "many records", []byte(manyRecords))
	report := asking(w, address).Explain(t.Context(), "many.example")
	require.Nil(t, report.Err)
	assert.Equal(t, "4", report.Step)
	require.Len(t, report.Located, 30)
	for i, l := range report.Located {
		n := uint16(i + 1)
		assert.Equal(t, resolver.Target{Host: fmt.Sprintf("a-matrix-server-of-many-%d.many.example", n), Port: 8448, Priority: n, Weight: 1}, l.Target)
		assert.Equal(t, fmt.Sprintf("[203.0.113.60:%d]", l.Port), fmt.Sprint(l.Addresses))
	}
}

// crowdSize is how many names are resolved at once.
const crowdSize = 200

// crowd is a scene of many names: even ones have a well-known of their own, odd
// ones share SRV records by a wildcard.
func crowd() []byte {
	b := bytes.NewBufferString(`
-- servers --
203.0.113.70:443
-- zone --
crowd.example.      SOA  localhost. hostmaster.localhost. 1 3600 600 86400 60
crowd.example.      NS   localhost.
*.crowd.example.    A    203.0.113.70
*.crowd.example.    SRV  10 5 8461 srv.crowd.example.
srv.crowd.example.  A    203.0.113.71
`)
	for i := 0; i < crowdSize; i += 2 {
		fmt.Fprintf(b, "-- GET https://n%d.crowd.example/.well-known/matrix/server --\n200\n\n{\"m.server\":\"m%d.crowd.example:%d\"}\n", i, i, 9000+i)
	}
	return b.Bytes()
}

// testCrowd resolves many names at once, and looks for what may have been left
// behind.
func testCrowd(t *testing.T, r *resolver.Resolver) {
	// So many questions at once overflow the buffer of a server's socket:
	// those that are lost are asked again soon.
	r.DNS.Timeout, r.DNS.Attempts = time.Second, 5
	var opened sockets
	dialDNS, dialTCP := r.DNS.Dial, r.DialContext
	if dialDNS == nil {
		dialDNS = new(net.Dialer).DialContext
	}
	r.DNS.Dial, r.DialContext = opened.noting(dialDNS), opened.noting(dialTCP)

	// Goroutines inherit the labels of the one that starts them.
	label := rand.Text()
	pprof.Do(t.Context(), pprof.Labels("crowd", label), func(ctx context.Context) {
		var wg sync.WaitGroup
		for i := range crowdSize {
			wg.Go(func() {
				name := fmt.Sprintf("n%d.crowd.example", i)
				report := r.Explain(ctx, name)
				if !assert.Nil(t, report.Err, name) {
					return
				}
				want := "4 " + name + " " + name + " srv.crowd.example:8461 [203.0.113.71:8461]"
				if i%2 == 0 {
					host := fmt.Sprintf("m%d.crowd.example", i)
					want = fmt.Sprintf("3.2 %[1]s:%[2]d %[1]s %[1]s:%[2]d [203.0.113.70:%[2]d]", host, 9000+i)
				}
				assert.Equal(t, want, fmt.Sprint(report.Step, " ", report.Host, " ", report.TLSName, " ", report.Targets[0], " ", report.Located[0].Addresses))
			})
		}
		wg.Wait()
	})
	// Questions whose answers were not needed may still be under way.
	require.Eventually(t, func() bool { return opened.open() == 0 }, 30*time.Second, 5*time.Millisecond, "sockets are left open")
	require.Eventually(t, func() bool { return !strings.Contains(goroutines(), label) }, 30*time.Second, 5*time.Millisecond, "goroutines are left behind")
	assert.Greater(t, len(opened.all), crowdSize, "else this test counts nothing")
}

// goroutines lists all goroutines with their labels.
func goroutines() string {
	var b bytes.Buffer
	pprof.Lookup("goroutine").WriteTo(&b, 1)
	return b.String()
}

// sockets are connections that were dialled.
type sockets struct {
	mu  sync.Mutex
	all []net.Conn
}

func (s *sockets) noting(dial func(context.Context, string, string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.all = append(s.all, conn)
		}
		return conn, err
	}
}

// open is how many of them are not closed.
func (s *sockets) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, conn := range s.all {
		// What is closed can have no deadline any more.
		if err := conn.SetReadDeadline(time.Unix(1, 0)); !errors.Is(err, net.ErrClosed) {
			n++
		}
	}
	return n
}

// testStopped shows what is left of a name when its DNS server goes away: what
// is known stays known, the rest is a temporary failure.
func testStopped(t *testing.T, w *world.World, server server) {
	r := asking(w, server.address)
	const known, other = "4.msc4040.s.resolvematrix.dev", "4.s.resolvematrix.dev"
	before := r.Explain(t.Context(), known)
	require.Nil(t, before.Err)
	server.stop()

	after := r.Explain(t.Context(), known)
	require.Nil(t, after.Err)
	assert.Equal(t, before.Targets, after.Targets)
	assert.Equal(t, before.Located[0].Addresses, after.Located[0].Addresses)
	for _, step := range after.Steps() {
		assert.Equal(t, step.Query != "", step.Cached, "rule %s", step.Rule)
	}

	report := r.Explain(t.Context(), other)
	var failed *resolver.Error
	require.ErrorAs(t, report.Err, &failed)
	assert.Equal(t, resolver.SRVTemporary, failed.Code)
	assert.Equal(t, "4", failed.Rule)
	assert.Equal(t, "SRV _matrix-fed._tcp."+other, failed.Query)
	assert.Contains(t, failed.Detail, "connection refused from "+server.address)
	assert.Empty(t, report.Targets, "nobody may guess port 8448")
}

// TestRealSession is the command as an operator uses it: DNS by unbound, HTTPS
// by the world that the command serves. With -v it shows the session.
func TestRealSession(t *testing.T) {
	t.Parallel()
	const file = "testdata/realdns/resolvematrix.txtar"
	texts, served := realScenes(t)
	address := unbound().start(t, served).address
	scene, err := world.Parse(file, texts[file])
	require.NoError(t, err)

	dir := t.TempDir()
	program := filepath.Join(dir, "mxdiscover")
	out, err := exec.Command("go", "build", "-o", program, "mxdiscover/cmd/mxdiscover").CombinedOutput()
	require.NoError(t, err, "%s", out)

	path, err := filepath.Abs(file)
	require.NoError(t, err)
	federation := run(t, dir, program, "world", "--json", path)
	require.True(t, federation.until(func() bool { return strings.Contains(federation.output(), "\n") }), "%s", federation.output())
	var flags struct {
		CACert    string   `json:"cacert"`
		ConnectTo []string `json:"connect_to"`
		AllowNets []string `json:"allow_net"`
	}
	require.NoError(t, json.Unmarshal([]byte(federation.output()), &flags))
	args := []string{"--dns", address, "--cacert", flags.CACert}
	for _, to := range flags.ConnectTo {
		if strings.HasPrefix(to, "::") { // would hide the addresses that the real server gives
			continue
		}
		args = append(args, "--connect-to", to)
	}
	for _, cidr := range flags.AllowNets {
		args = append(args, "--allow-net", cidr)
	}

	names := []string{"3c.msc4040.s.resolvematrix.dev", "4.s.resolvematrix.dev"}
	want := make(map[string]world.Resolve)
	for _, step := range scene.Script() {
		if step, ok := step.(world.Resolve); ok {
			want[step.Name] = step
		}
	}
	stdout, err := exec.Command(program, append(append([]string{"--json"}, names...), args...)...).Output()
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSuffix(string(stdout), "\n"), "\n")
	require.Len(t, lines, len(names))
	for i, name := range names {
		assert.NoError(t, world.MatchJSON(want[name].Want, []byte(lines[i])), "%s: %s gave\n%s", want[name].Position(), name, lines[i])
	}

	for _, verbose := range [][]string{nil, {"-v"}} {
		said := append(verbose, names...)
		text, err := exec.Command(program, append(said, args...)...).CombinedOutput()
		require.NoError(t, err, "%s", text)
		for _, name := range names {
			assert.Contains(t, string(text), name)
		}
		assert.Equal(t, verbose != nil, strings.Contains(string(text), "from "+address), "the evidence names the DNS server")
		t.Logf("$ mxdiscover %s\n%s", strings.Join(said, " "), text)
	}
}
