package srv

import (
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// maxResolvConf is how much of resolv.conf is read: what a line of it may have in the DNS
	// library. Real ones have a few hundred bytes.
	maxResolvConf = 64<<10 - 1
	// maxHosts is how much of the hosts file is read, in whole lines: those that block
	// advertisements have up to five million bytes or so.
	maxHosts = 16 << 20
	// checkEvery is how often a file is looked at, as Go's own resolver does it.
	checkEvery = 5 * time.Second
)

// A config is what a look-up takes from the Client or from resolv.conf.
type config struct {
	servers  []string
	timeout  time.Duration
	attempts int
	rotate   bool
	tcp      bool // for every query
}

func (c *Client) config() config {
	conf := config{servers: c.Servers, timeout: defaultTimeout, attempts: defaultAttempts}
	if len(c.Servers) == 0 {
		path := c.ResolvConf
		if path == "" {
			path = "/etc/resolv.conf"
		}
		conf = c.resolv.get(path, maxResolvConf, parseResolvConf)
	}
	if c.Timeout > 0 {
		conf.timeout = c.Timeout
	}
	if c.Attempts > 0 {
		conf.attempts = min(c.Attempts, maxAttempts)
	}
	conf.rotate = conf.rotate || c.Rotate
	return conf
}

// lookupHosts answers from the hosts file, if that has the name.
func (c *Client) lookupHosts(name string, typ Type) *Answer {
	path := c.HostsFile
	if path == "" {
		path = "/etc/hosts"
	}
	host, ok := c.hosts.get(path, maxHosts, parseHosts)[name]
	if !ok {
		return nil
	}
	a := &Answer{Name: name, Type: typ, Outcome: Absent, TTL: minTTL, Server: path, Network: "file", Rcode: "NOERROR"}
	a.Addrs = slices.Clone(host.v6)
	if typ == TypeA {
		a.Addrs = slices.Clone(host.v4)
	}
	if len(a.Addrs) > 0 {
		a.Outcome = Found
	}
	return a
}

// A host is what the hosts file has for one name: at most MaxAddrs of each family.
type host struct{ v4, v6 []netip.Addr }

// parseHosts reads the text of a hosts(5) file: lines of an address and names.
func parseHosts(text []byte) map[string]host {
	hosts := make(map[string]host)
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		addr, ok := parseAddr(f[0])
		if !ok {
			continue
		}
		for _, name := range f[1:] {
			name, ok := cleanName(name)
			if !ok || endsInNumber(name) {
				continue
			}
			h := hosts[name]
			family := &h.v6
			if addr.Is4() {
				family = &h.v4
			}
			if len(*family) < MaxAddrs && !slices.Contains(*family, addr) {
				*family = append(*family, addr)
			}
			hosts[name] = h
		}
	}
	return hosts
}

// parseAddr reads an IP address. The zone of an IPv6 address has no odd characters: it ends up in
// error texts.
func parseAddr(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, false
	}
	_, plain := cleanName(a.Zone())
	return a, plain || a.Zone() == ""
}

// A file is what a local file says. It is read when it is first asked for, and again when it has
// changed.
type file[T any] struct {
	mu      sync.Mutex
	checked time.Time   // when it was last looked at
	info    os.FileInfo // what it was then; nil if there was none
	value   T
}

// get returns what parse makes of the first limit bytes of the file, cut after a line. A file that
// is not there, or is not a file, has no bytes.
func (f *file[T]) get(path string, limit int64, parse func(text []byte) T) T {
	f.mu.Lock()
	defer f.mu.Unlock()
	first := f.checked.IsZero()
	if !first && time.Since(f.checked) < checkEvery {
		return f.value
	}
	f.checked = time.Now()
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() { // a pipe would make us wait
		info = nil
	}
	if !first && same(f.info, info) {
		return f.value
	}
	var text []byte
	if info != nil {
		text = readLines(path, limit)
	}
	f.info, f.value = info, parse(text)
	return f.value
}

func same(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

func readLines(path string, limit int64) []byte {
	r, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer r.Close()
	text, _ := io.ReadAll(io.LimitReader(r, limit+1)) // after an error what was read still counts
	if int64(len(text)) > limit {
		text = text[:strings.LastIndexByte(string(text[:limit]), '\n')+1]
	}
	return text
}
