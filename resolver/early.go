package resolver

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mxdiscover/srv"
)

const (
	// srvHeadStart is how long well-known runs alone before SRV is asked beside
	// it. A well-known answer takes four round trips (DNS, TCP, TLS, HTTP), and
	// the SRV records with the addresses of their targets take three at most,
	// so names without well-known lose nothing to it unless a round trip is
	// shorter than that; and a host near by has delegated the name before
	// needless queries are sent. BenchmarkHeadStart has the figures.
	srvHeadStart = 10 * time.Millisecond

	// busyLoads is how many well-known answers a resolver waits for at once
	// before it counts as busy. A person or a room with a new member asks for a
	// few names, and each of them is waited for. Who asks for more at once
	// waits for the last of them, and what one name takes longer is made up for
	// by the next; but every needless question falls on the same DNS server.
	// BenchmarkSweepQueries has the figures.
	busyLoads = 8

	// busyLinger is how long a resolver stays busy after it was. The last names
	// of a sweep belong to it like the others, and so does a moment at which
	// many answers have come at once: without it a sweep of 16 at a time costs
	// 4.98 queries a name instead of 4.80.
	busyLinger = time.Second

	// busyHeadStart takes the place of srvHeadStart when the resolver is busy.
	// A web server that has not answered after a second has most likely nothing
	// to say (64 at once on two cores take a tenth of that), and a host that is
	// silent over HTTPS and over DNS must not cost the one time after the other.
	busyHeadStart = time.Second

	// maxEarlyTargets is how many targets of a set have their addresses looked
	// up before anybody dials. Any of those with the lowest priority may be
	// drawn first (RFC 2782). A stranger chooses how many there are; few Matrix
	// servers have more than two.
	maxEarlyTargets = 4
)

// busy reports whether the number of questions matters more than how long one
// name takes.
func (s *state) busy() bool {
	now := time.Since(s.memo.base)
	if s.wellKnown.Stats().InFlight > s.busyLoads {
		s.busyAt.Store(int64(now))
		return true
	}
	return now-time.Duration(s.busyAt.Load()) < busyLinger
}

// beside asks, while well-known of host is under way and has been for the time
// of wait, what rules 4 and 5 will want if it does not delegate. The rules decide as if that had been asked
// afterwards, and drop what they do not need. It belongs to one load, however
// many callers wait for that, and ends with it: with ctx, or when stop is
// called. Questions that have been sent are answered for the cache all the same.
func (s *state) beside(ctx context.Context, host string, wait time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	s.busy() // as at the end: whether there is much to do shows best while it is under way
	timer := time.AfterFunc(wait, func() {
		// When many names begin at once, the first of them could not know.
		if s.busy() && !pause(ctx, busyHeadStart-s.headStart) {
			return
		}
		s.ahead(ctx, srvNames(s.rules, host))
	})
	return func() {
		s.busy()
		timer.Stop()
		cancel()
	}
}

// ahead asks for the SRV sets called names, one after the other until a rule
// would end there, and for the addresses of those whom it would have dialled.
func (s *state) ahead(ctx context.Context, names []string) {
	for _, name := range names {
		e, _, err := s.records.Get(ctx, name)
		if err != nil {
			return
		}
		answer, failure := answered(e)
		switch {
		case failure != nil && s.lenient:
		case failure != nil:
			return
		case answer.Outcome == srv.Found:
			s.prefetchAddrs(answer.Records)
			return
		case answer.Outcome == srv.Unavailable:
			return
		}
	}
}

// prefetchAddrs looks up where the first of the records lead, and does not wait.
func (s *state) prefetchAddrs(records []srv.Record) {
	if s.dial.Proxy != nil {
		return // it looks for them itself
	}
	// ConnectTo is the caller's code. If it panics, it will do so again in the
	// dial, which makes an error of it.
	defer func() { recover() }()
	var hosts []string
	for _, r := range records {
		if r.Priority != records[0].Priority || len(hosts) == maxEarlyTargets {
			break
		}
		host := r.Target
		if s.dial.ConnectTo != nil {
			if to, _, ok := s.dial.ConnectTo(host, r.Port); ok {
				host = to
			}
		}
		if host = strings.ToLower(host); !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	for _, host := range hosts {
		if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err != nil {
			s.addrs.Prefetch(addrKey{host, srv.TypeAAAA})
			s.addrs.Prefetch(addrKey{host, srv.TypeA})
		}
	}
}
