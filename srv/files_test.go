package srv

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/memnet"
	"mxdiscover/internal/printable"
)

func writeFile(t *testing.T, text string) string {
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

var resolvConfs = []struct {
	name, text string
	want       config
}{
	{"empty", "", config{}},
	{"comments", "# nameserver 192.0.2.1\n; nameserver 192.0.2.1\n", config{}},
	{"usual", "search corp.lan\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n", config{servers: []string{"192.0.2.1:53", "[2001:db8::1]:53"}}},
	{"zone", "nameserver fe80::1%eth0\n", config{servers: []string{"[fe80::1%eth0]:53"}}},
	{"odd zone", "nameserver fe80::1%a\x1b[31m\nnameserver 192.0.2.1\n", config{servers: []string{"192.0.2.1:53"}}},
	{"names and nonsense", "nameserver dns.example\nnameserver\nnameserver 192.0.2.1:53\nnameserver 192.0.2.2", config{servers: []string{"192.0.2.2:53"}}},
	{"four servers", "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n", config{servers: []string{"192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"}}},
	{"options", "options timeout:3 attempts:4 rotate\noptions use-vc ndots:9\n", config{timeout: 3 * time.Second, attempts: 4, rotate: true, tcp: true}},
	{"above the limits", "options timeout:99999999999 attempts:100\n", config{timeout: 30 * time.Second, attempts: 5}},
	{"above the limits again", "options timeout:31 attempts:6\n", config{timeout: 30 * time.Second, attempts: 5}},
	{"no numbers", "options timeout:x attempts:\n", config{timeout: time.Second, attempts: 1}},
	{"below the limits", "options timeout:0 attempts:-1\n", config{timeout: time.Second, attempts: 1}},
	{"not an option", "rotate\nuse-vc\noptions rotated Rotate\n", config{}},
	{"CRLF and tabs", "nameserver\t192.0.2.1\r\noptions\trotate\r\n", config{servers: []string{"192.0.2.1:53"}, rotate: true}},
	{"a line without end", strings.Repeat("x", 70000) + "\nnameserver 192.0.2.1\n", config{}},
}

func TestParseResolvConf(t *testing.T) {
	t.Parallel()
	for _, tt := range resolvConfs {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.want.servers == nil {
				tt.want.servers = []string{"127.0.0.1:53", "[::1]:53"}
			}
			if tt.want.timeout == 0 {
				tt.want.timeout = 5 * time.Second
			}
			if tt.want.attempts == 0 {
				tt.want.attempts = 2
			}
			assert.Equal(t, tt.want, parseResolvConf([]byte(tt.text)))
		})
	}
}

func FuzzResolvConf(f *testing.F) {
	for _, tt := range resolvConfs {
		if len(tt.text) < 1000 { // long seeds make it slow
			f.Add([]byte(tt.text))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c := parseResolvConf(text)
		assert.NotEmpty(t, c.servers)
		assert.LessOrEqual(t, len(c.servers), maxServers)
		for _, s := range c.servers {
			at, err := netip.ParseAddrPort(s)
			assert.NoError(t, err)
			assert.Equal(t, uint16(53), at.Port())
			assert.Equal(t, s, printable.Line(s))
		}
		assert.True(t, time.Second <= c.timeout && c.timeout <= maxTimeout*time.Second)
		assert.True(t, 1 <= c.attempts && c.attempts <= maxAttempts)
	})
}

// TestConfig: what the fields of the Client say counts more than the file.
func TestConfig(t *testing.T) {
	t.Parallel()
	path := writeFile(t, "nameserver 192.0.2.1\noptions timeout:3 attempts:4 use-vc\n")
	assert.Equal(t, config{servers: []string{"192.0.2.1:53"}, timeout: 3 * time.Second, attempts: 4, tcp: true}, (&Client{ResolvConf: path}).config())
	assert.Equal(t, config{servers: []string{"192.0.2.1:53"}, timeout: time.Second, attempts: 1, rotate: true, tcp: true},
		(&Client{ResolvConf: path, Timeout: time.Second, Attempts: 1, Rotate: true}).config())
	assert.Equal(t, config{servers: []string{"192.0.2.9:5353"}, timeout: 5 * time.Second, attempts: 2}, (&Client{ResolvConf: path, Servers: []string{"192.0.2.9:5353"}}).config())
	for _, missing := range []string{filepath.Join(t.TempDir(), "none"), t.TempDir(), os.DevNull} {
		assert.Equal(t, []string{"127.0.0.1:53", "[::1]:53"}, (&Client{ResolvConf: missing}).config().servers, missing)
	}
	assert.NotEmpty(t, new(Client).config().servers, "the file of the system")
}

// TestZone: the zone of a link-local server reaches the socket.
func TestZone(t *testing.T) {
	t.Parallel()
	c := client()
	c.ResolvConf = writeFile(t, "nameserver fe80::1%lo\n")
	var dialled string
	c.Dial = func(_ context.Context, _, address string) (net.Conn, error) {
		dialled = address
		return nil, os.ErrPermission
	}
	_, err := c.LookupSRV(t.Context(), service)
	require.EqualError(t, err, "SRV "+service+": permission denied from [fe80::1%lo]:53")
	require.ErrorIs(t, err, os.ErrPermission)
	at, err := net.ResolveUDPAddr("udp", dialled)
	require.NoError(t, err)
	assert.Equal(t, "lo", at.Zone)
	assert.Equal(t, 53, at.Port)
}

var hostsFiles = []struct {
	name, text string
	want       map[string]host
}{
	{"empty", "", map[string]host{}},
	{"usual", "127.0.0.1 localhost\n::1 localhost ip6-localhost # comment\n#192.0.2.1 no\n", map[string]host{
		"localhost": {addrs("127.0.0.1"), addrs("::1")}, "ip6-localhost": {nil, addrs("::1")}}},
	{"case, dot, twice", "192.0.2.1\tH.Example.  h.example\r\n192.0.2.1 h.example", map[string]host{"h.example": {addrs("192.0.2.1"), nil}}},
	{"several", "192.0.2.2 h\n192.0.2.1 h\n", map[string]host{"h": {addrs("192.0.2.2", "192.0.2.1"), nil}}},
	{"zone", "fe80::1%lo0 h\nfe80::2%\x1b h\n", map[string]host{"h": {nil, addrs("fe80::1%lo0")}}},
	{"mapped", "::ffff:192.0.2.1 h\n", map[string]host{"h": {nil, addrs("::ffff:192.0.2.1")}}},
	{"nonsense", "h 192.0.2.1\n192.0.2.1\n192.0.2.256 h\n192.0.2.1 a..b 1.2.3.4 a\x00b bücher\n", map[string]host{}},
	{"many", many(40), map[string]host{"h": {manyAddrs(MaxAddrs), nil}}},
}

func manyAddrs(n int) (out []netip.Addr) {
	for i := range n {
		out = append(out, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
	}
	return out
}

func many(n int) (text string) {
	for _, a := range manyAddrs(n) {
		text += a.String() + " h\n"
	}
	return text
}

func TestParseHosts(t *testing.T) {
	t.Parallel()
	for _, tt := range hostsFiles {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, tt.want, parseHosts([]byte(tt.text)))
		})
	}
}

func FuzzHosts(f *testing.F) {
	for _, tt := range hostsFiles {
		f.Add([]byte(tt.text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for name, h := range parseHosts(text) {
			clean, ok := cleanName(name)
			assert.True(t, ok && clean == name && !endsInNumber(name), "%q", name)
			assert.LessOrEqual(t, len(h.v4), MaxAddrs)
			assert.LessOrEqual(t, len(h.v6), MaxAddrs)
			assert.Positive(t, len(h.v4)+len(h.v6))
			for _, a := range h.v4 {
				assert.True(t, a.Is4())
			}
			for _, a := range h.v6 {
				assert.True(t, a.Is6())
				assert.Equal(t, a.String(), printable.Line(a.String()))
			}
		}
	})
}

// TestHosts: the file answers for the names in it, for both families.
func TestHosts(t *testing.T) {
	t.Parallel()
	var got counter
	c := client(loopback(t, true, got.wrap(records(t, "dns.example. 300 IN A 192.0.2.99"))))
	c.HostsFile = writeFile(t, "192.0.2.1 h.example\n192.0.2.2 h.example both\n2001:db8::1 both\n")

	a, err := c.LookupAddrs(t.Context(), "H.example.", TypeA)
	require.NoError(t, err)
	assert.Equal(t, &Answer{Name: "h.example", Type: TypeA, Outcome: Found, Addrs: addrs("192.0.2.1", "192.0.2.2"), TTL: 5 * time.Second,
		Server: c.HostsFile, Network: "file", Rcode: "NOERROR"}, a)
	a.Addrs[0] = netip.Addr{}
	a, err = c.LookupAddrs(t.Context(), "h.example", TypeA)
	require.NoError(t, err)
	assert.Equal(t, addrs("192.0.2.1", "192.0.2.2"), a.Addrs, "each caller has a slice of its own")

	a, err = c.LookupAddrs(t.Context(), "h.example", TypeAAAA)
	require.NoError(t, err)
	assert.Equal(t, Absent, a.Outcome)
	assert.Empty(t, a.Addrs)
	a, err = c.LookupAddrs(t.Context(), "both", TypeAAAA)
	require.NoError(t, err)
	assert.Equal(t, addrs("2001:db8::1"), a.Addrs)
	udp, _ := got.seen()
	assert.Empty(t, udp)

	a, err = c.LookupAddrs(t.Context(), "dns.example", TypeA)
	require.NoError(t, err)
	assert.Equal(t, addrs("192.0.2.99"), a.Addrs)
	_, err = c.LookupSRV(t.Context(), "h.example")
	require.NoError(t, err, "the file has no SRV records")
	udp, _ = got.seen()
	assert.Len(t, udp, 2)

	_, err = client(c.Servers...).LookupAddrs(t.Context(), "h.example", TypeA)
	require.NoError(t, err)
	udp, _ = got.seen()
	assert.Len(t, udp, 3, "the null device is no file of hosts")
	system := &Client{Servers: c.Servers}
	_, err = system.LookupAddrs(t.Context(), "localhost", TypeA)
	require.NoError(t, err, "whatever the file of the system says")

	done, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.LookupAddrs(done, "h.example", TypeA)
	require.ErrorIs(t, err, context.Canceled)
}

// TestFileChange: both files are looked at every five seconds, and read when they have changed.
func TestFileChange(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	resolv, hosts := filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "hosts")
	replace := func(path, text string) { // as editors do: a new file of the same size
		require.NoError(t, os.WriteFile(path+".new", []byte(text), 0o600))
		require.NoError(t, os.Rename(path+".new", path))
	}
	synctest.Test(t, func(t *testing.T) {
		n := new(memnet.Network)
		inMemory(t, n, "192.0.2.1:53", records(t, goodLine))
		inMemory(t, n, "192.0.2.2:53", records(t, goodLine))
		c := &Client{ResolvConf: resolv, HostsFile: hosts, Dial: n.DialContext}
		server := func() string {
			a, err := c.LookupSRV(t.Context(), service)
			require.NoError(t, err)
			return a.Server
		}
		addr := func() string {
			a, err := c.LookupAddrs(t.Context(), "h.example", TypeA)
			require.NoError(t, err)
			if a.Network != "file" {
				return ""
			}
			return a.Addrs[0].String()
		}
		replace(resolv, "nameserver 192.0.2.1\n")
		assert.Equal(t, "192.0.2.1:53", server())
		assert.Empty(t, addr(), "there is no hosts file yet")
		replace(resolv, "nameserver 192.0.2.2\n")
		replace(hosts, "192.0.2.7 h.example\n")
		time.Sleep(checkEvery - time.Nanosecond)
		assert.Equal(t, "192.0.2.1:53", server())
		assert.Empty(t, addr())
		time.Sleep(time.Nanosecond)
		assert.Equal(t, "192.0.2.2:53", server())
		assert.Equal(t, "192.0.2.7", addr())
		time.Sleep(checkEvery)
		assert.Equal(t, "192.0.2.2:53", server(), "unchanged")
		require.NoError(t, os.WriteFile(hosts, []byte("192.0.2.88 h.example\n"), 0o600)) // in place
		time.Sleep(checkEvery)
		assert.Equal(t, "192.0.2.88", addr())
		require.NoError(t, os.Remove(hosts))
		time.Sleep(checkEvery)
		assert.Empty(t, addr())
	})
}

// TestFileLimit: a file that is too long is cut after a line.
func TestFileLimit(t *testing.T) {
	t.Parallel()
	path := writeFile(t, "one\ntwo\nthree\n")
	for limit, want := range map[int64]string{14: "one\ntwo\nthree\n", 13: "one\ntwo\n", 8: "one\ntwo\n", 7: "one\n", 3: "", 0: ""} {
		assert.Equal(t, want, string(readLines(path, limit)), limit)
	}
	assert.Empty(t, readLines(filepath.Join(t.TempDir(), "none"), 10))
}
