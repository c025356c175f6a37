package serve

import (
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// maxClients and maxHosts are how many addresses and hosts the limiter
	// remembers, about 200 bytes each. Who is forgotten may do as much as a
	// newcomer; the limits in all bound what that comes to.
	maxClients = 1 << 16
	maxHosts   = 1 << 14
)

// A bucket is a token bucket. It says when it is full again; the zero bucket
// is full.
type bucket struct{ full time.Time }

// wait is how long until one may be taken; 0 for at once.
func (b *bucket) wait(now time.Time, r Rate) time.Duration {
	if r.Burst < 0 {
		return 0
	}
	missing := max(0, b.full.Sub(now))
	return max(0, missing+r.Every-time.Duration(r.Burst)*r.Every)
}

// take takes one.
func (b *bucket) take(now time.Time, r Rate) {
	if b.full.Before(now) {
		b.full = now
	}
	b.full = b.full.Add(r.Every)
}

// limiter counts what happens, for each client, for each host, and in all.
type limiter struct {
	limits Limits

	mu      sync.Mutex
	clients *simplelru.LRU[netip.Prefix, *clientBuckets]
	hosts   *simplelru.LRU[string, *bucket]
	all     bucket
	active  map[netip.Prefix]int // requests under way
	total   int
}

type clientBuckets struct{ requests, runs, refreshes bucket }

func newLimiter(limits Limits) *limiter {
	l := &limiter{limits: limits, active: make(map[netip.Prefix]int)}
	// They fail for a size of 0 alone.
	l.clients, _ = simplelru.NewLRU[netip.Prefix, *clientBuckets](maxClients, nil)
	l.hosts, _ = simplelru.NewLRU[string, *bucket](maxHosts, nil)
	return l
}

// clientKey is what counts as one client: an IPv4 address, or the /64 that a
// host has at the least (RFC 4291, 2.5.4; RFC 6177). What has no address is one client.
func clientKey(addr netip.Addr) netip.Prefix {
	if !addr.IsValid() {
		return netip.Prefix{}
	}
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	key, _ := addr.Prefix(bits)
	return key
}

// client gives the buckets of a client. The lock is held.
func (l *limiter) client(key netip.Prefix) *clientBuckets {
	c, ok := l.clients.Get(key)
	if !ok {
		c = new(clientBuckets)
		l.clients.Add(key, c)
	}
	return c
}

// asker is who asks.
type asker struct {
	key       netip.Prefix
	unlimited bool // by the limits for one client
}

// enter counts a request that begins. The failure says why it may not; else
// leave must be called.
func (l *limiter) enter(who asker, now time.Time) *Failure {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !who.unlimited {
		c := l.client(who.key)
		if wait := c.requests.wait(now, l.limits.PerRequest); wait > 0 {
			return tooMany("requests", "There were too many requests from your address.", wait)
		}
		c.requests.take(now, l.limits.PerRequest)
		if l.limits.ClientsOfAddress >= 0 && l.active[who.key] >= l.limits.ClientsOfAddress {
			return tooMany("requests_at_once", "There are too many requests from your address at once.", time.Second)
		}
	}
	if l.total >= l.limits.Clients {
		return busy("The server has too many visitors.", time.Second)
	}
	l.total++
	l.active[who.key]++
	return nil
}

func (l *limiter) leave(who asker) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.active[who.key]--; l.active[who.key] <= 0 {
		delete(l.active, who.key)
	}
}

// requests is how many are under way.
func (l *limiter) requests() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

// begin asks whether a run about a host may begin, and counts it if so. The
// host is empty where none is asked.
func (l *limiter) begin(who asker, host string, refresh bool, now time.Time) *Failure {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, known := l.hosts.Get(host)
	if !known {
		h = new(bucket)
	}
	if host != "" {
		if wait := h.wait(now, l.limits.PerHost); wait > 0 {
			return tooMany("host", "This server name was checked too often.", wait)
		}
	}
	if wait := l.all.wait(now, l.limits.InAll); wait > 0 {
		return tooMany("in_all", "There are too many checks just now.", wait)
	}
	if !who.unlimited {
		c := l.client(who.key)
		if refresh {
			if wait := c.refreshes.wait(now, l.limits.PerRefresh); wait > 0 {
				return tooMany("refreshes", "Your address has asked for fresh checks too often.", wait)
			}
		}
		if wait := c.runs.wait(now, l.limits.PerClient); wait > 0 {
			return tooMany("checks", "Your address has asked for too many checks.", wait)
		}
		c.runs.take(now, l.limits.PerClient)
		if refresh {
			c.refreshes.take(now, l.limits.PerRefresh)
		}
	}
	l.all.take(now, l.limits.InAll)
	if host != "" {
		h.take(now, l.limits.PerHost)
		if !known {
			l.hosts.Add(host, h)
		}
	}
	return nil
}
