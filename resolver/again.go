package resolver

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"mxdiscover/cache"
	"mxdiscover/internal/servername"
	"mxdiscover/srv"
)

const (
	// againPause is how long discovery is not asked again for a server name,
	// however often its server cannot be reached. Shorter finds no more;
	// with fifteen minutes a third more requests miss servers that were down
	// before they said where they had moved (docs/simulation.md).
	againPause = 5 * time.Minute

	// againTimeout bounds asking again. Each question has a deadline of its
	// own; this is for those that wait for a slot.
	againTimeout = 30 * time.Second

	// rememberedWait is how long a request waits for discovery, or for somebody
	// else's try, when its server is known to be dead. It is to fail at once, but
	// one that comes just when the server is back should not.
	rememberedWait = time.Second
)

// again is one time that discovery was asked again for a server name.
type again struct {
	at      time.Time
	done    chan struct{} // closed when the answer is there
	changed bool          // it leads to other places
}

// askAgain asks discovery anew for an answer that leads nowhere, unless that
// was done lately, and reports whether the request should be tried again.
func (p *pool) askAgain(ctx context.Context, d *derived, failed *failure) bool {
	if d.name.IsIP() {
		return false // there is nothing to ask
	}
	key := strings.ToLower(d.name.String()) // a stranger chooses the case
	p.mu.Lock()
	a, ok := p.again.Get(key)
	if !ok || time.Since(a.at) >= againPause {
		a = &again{at: time.Now(), done: make(chan struct{})}
		p.again.Add(key, a)
		p.stats.again.Add(1)
		// Not on ctx: others wait for the same.
		go func() {
			defer close(a.done)
			ctx, cancel := context.WithTimeout(context.Background(), againTimeout)
			defer cancel()
			a.changed = p.relocate(ctx, d, failed)
		}()
	}
	p.mu.Unlock()
	if failed.remembered {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, rememberedWait)
		defer cancel()
	}
	select {
	case <-a.done:
	case <-ctx.Done():
		return false
	}
	now := p.state.derive(d.name, peekSource{p.state, true})
	return a.changed && !a.at.Before(failed.began) || now.err == nil && now.route().label != d.route().label
}

// relocate asks anew what d rests on, down to the addresses of the targets, and
// reports whether that leads to other places than those that failed; then the
// plan begins afresh.
func (p *pool) relocate(ctx context.Context, d *derived, failed *failure) bool {
	s := p.state
	fresh := s.derive(d.name, againSource{s, ctx, d})
	changed := fresh.err != nil || fresh.route().label != d.route().label
	if fresh.err == nil {
		s.askAddresses(ctx, fresh.res.Targets, failed.began)
	}
	for _, try := range failed.tries {
		// Not what was known before asking: another name may have asked for the
		// same addresses meanwhile.
		changed = changed || !sameAddrs(try.known, s.knownAddrs(try.Target.Host))
	}
	changed = changed && !fresh.cut
	s.log.LogAttrs(ctx, slog.LevelDebug, "asked again", slog.String("server_name", d.name.String()), slog.Bool("changed", changed))
	if changed && fresh.err == nil {
		if pl := p.plan(fresh.route().label); pl != nil {
			pl.forgive()
		}
	}
	return changed
}

// askAddresses asks for the addresses of targets that were asked for before
// since.
func (s *state) askAddresses(ctx context.Context, targets []Target, since time.Time) {
	var wg sync.WaitGroup
	for _, t := range targets[:min(len(targets), maxTargets)] {
		for _, key := range addrKeys(t.Host) {
			// What has not been asked for was not needed: ConnectTo or a proxy
			// leads elsewhere, or the target is new.
			if e, ok := s.addrs.Peek(key); !ok || !e.LoadedAt().Before(since) {
				continue
			}
			wg.Go(func() { s.addrs.Refresh(ctx, key) })
		}
	}
	wg.Wait()
}

// addrKeys are the questions for the addresses of host: none if it is one.
func addrKeys(host string) []addrKey {
	if name, err := servername.Parse(host); err != nil || name.IsIP() || strings.Contains(host, ":") {
		return nil
	}
	host = strings.ToLower(host)
	return []addrKey{{host, srv.TypeAAAA}, {host, srv.TypeA}}
}

// knownAddrs are the addresses of host in the caches.
func (s *state) knownAddrs(host string) []netip.Addr {
	var list []netip.Addr
	for _, key := range addrKeys(host) {
		if e, ok := s.addrs.Peek(key); ok {
			if answer, err := answered(e); err == nil {
				list = append(list, answer.Addrs...)
			}
		}
	}
	return list
}

// sameAddrs compares without regard to order.
func sameAddrs(a, b []netip.Addr) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.SortFunc(a, netip.Addr.Compare)
	slices.SortFunc(b, netip.Addr.Compare)
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}

// againSource asks anew for what an answer took from the caches. What was asked
// for when it was made is not asked twice.
type againSource struct {
	*state
	ctx context.Context
	old *derived
}

func (a againSource) wellKnown(host string) (*cache.Entry[*verdict], bool, error) {
	if u := a.old.wk; u != nil && u.host == host && !u.hit && u.entry.Current() {
		return u.entry, false, nil
	}
	e, err := a.state.wellKnown.Refresh(a.ctx, host)
	return e, false, err
}

func (a againSource) records(name string, _ ...string) (*cache.Entry[*lookup], bool, error) {
	for _, u := range a.old.sets {
		if u.name == name && !u.hit && u.entry.Current() {
			return u.entry, false, nil
		}
	}
	e, err := a.state.records.Refresh(a.ctx, name)
	return e, false, err
}

func (againSource) expect(string) {}

func (p *pool) markAlive(serverName string) {
	name, err := servername.Parse(serverName)
	if err != nil {
		return
	}
	d := p.state.memo.peek(serverName)
	if d == nil || !d.current() {
		d = p.state.derive(name, peekSource{p.state, true})
	}
	if d.err == nil {
		pl := p.plan(d.route().label)
		if pl == nil || !pl.forgive() {
			return
		}
	}
	p.state.log.LogAttrs(context.Background(), slog.LevelDebug, "marked alive", slog.String("server_name", serverName))
	p.mu.Lock()
	p.again.Remove(strings.ToLower(name.String()))
	p.mu.Unlock()
	p.state.forgetFailures(d)
}

// forgetFailures drops the answers that d rests on, or would, and that nobody
// could give.
func (s *state) forgetFailures(d *derived) {
	hosts := []string{d.name.DNSName()}
	if d.delegated != nil {
		hosts = append(hosts, d.delegated.DNSName())
	}
	for _, host := range hosts {
		forgetFailure(&s.wellKnown, host)
		for _, name := range srvNames(s.rules, host) {
			forgetFailure(&s.records, name)
		}
	}
	for _, t := range d.res.Targets {
		hosts = append(hosts, t.Host)
	}
	for _, host := range hosts {
		for _, key := range addrKeys(host) {
			forgetFailure(&s.addrs, key)
		}
	}
}

func forgetFailure[K comparable, V any](c *cache.Cache[K, V], key K) {
	if e, ok := c.Peek(key); ok && e.Status() == cache.Temporary {
		c.Forget(key)
	}
}
