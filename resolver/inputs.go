package resolver

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mxdiscover/cache"
	"mxdiscover/internal/printable"
	"mxdiscover/internal/servername"
	"mxdiscover/srv"
	"mxdiscover/wellknown"
)

const (
	// maxStale is how long past its expiry a record set may still be used
	// while DNS cannot be asked (RFC 8767, 5: one to three days).
	maxStale = 24 * time.Hour

	// minDNSPause and maxDNSPause bound how long a name is left alone after
	// DNS could not be asked about it (RFC 2308, 7: at most five minutes).
	minDNSPause = 5 * time.Second
	maxDNSPause = 5 * time.Minute

	// wellKnownTries and wellKnownPause are for a host that had a valid answer
	// lately: it is more likely that it stumbles than that it has none.
	wellKnownTries = 3
	wellKnownPause = 500 * time.Millisecond

	// maxKeptURL is how much of a redirect's URL, or of a bad record's target,
	// is kept as evidence.
	maxKeptURL = 200

	// maxKeptTries is how many failed exchanges with DNS servers are kept.
	maxKeptTries = 4

	// maxKeptDropped is how many of the bad records of a set are kept.
	maxKeptDropped = 4

	// lately is how long after its expiry a valid answer counts for that.
	lately = 2 * time.Hour
)

// verdict is what well-known said of a host.
type verdict struct {
	server   servername.Name  // if err is nil
	err      *wellknown.Error // if there is no valid answer
	hops     []wellknown.Hop
	lifetime time.Duration
	duration time.Duration
}

// lookup is what DNS said of a name.
type lookup struct {
	answer   *srv.Answer // if err is nil
	err      error       // nobody could say
	dropped  int         // bad records, of which answer has the first
	lifetime time.Duration
	duration time.Duration
}

func (s *state) loadWellKnown(ctx context.Context, host string, prior cache.Prior[*verdict]) cache.Loaded[*verdict] {
	ctx, release := s.alive(ctx)
	defer release()
	tries := 1
	if prior.Held && time.Since(prior.Expires) < lately {
		tries = wellKnownTries
	}
	begun := time.Now()
	wait := s.headStart
	if prior.Held { // nobody waits for a refresh before the old answer has expired
		wait = max(wait, time.Until(prior.Expires))
	}
	defer s.beside(ctx, host, wait)()
	for {
		server, reply, err := s.fetch.Server(ctx, host)
		v := &verdict{hops: reply.Hops, duration: time.Since(begun)}
		status := cache.Good
		switch tries--; {
		case err == nil:
			v.server, _ = servername.Parse(server) // the parser has checked it
			v.lifetime = wellknown.Lifetime(reply.Header, reply.At, s.jitter())
		default:
			if !errors.As(err, &v.err) {
				v.err = &wellknown.Error{Code: wellknown.ConnectFailed, Detail: printable.Line(err.Error()), Err: err}
			}
			if tries > 0 && worthRetrying(v.err, reply.Header) && pause(ctx, wellKnownPause) {
				continue
			}
			status = cache.Bad
			// An oversized body was never read to its end, and is more often
			// somebody's error page than a delegation withdrawn. A denied
			// address is what DNS says, which nobody has authenticated.
			if v.err.Temporary() || v.err.Code == wellknown.TooLarge || v.err.Code == wellknown.AddressDenied {
				status = cache.Temporary
			}
			header := reply.Header
			// A redirect, or the header of a document that did not come, says
			// nothing of how long to leave the failure alone.
			if reply.Status/100 == 3 || reply.Status == http.StatusOK && status == cache.Temporary {
				header = nil
			}
			v.lifetime = wellknown.FailureLifetime(reply.Status, header, reply.At, prior.Failures+1, s.jitter())
		}
		v.flatten()
		if v.err != nil {
			s.failures.wellKnown.count(string(v.err.Code))
		}
		s.log.LogAttrs(ctx, slog.LevelDebug, "well-known",
			slog.String("host", host), slog.String("outcome", string(v.outcome())), slog.String("detail", v.detail()),
			slog.Duration("lifetime", v.lifetime), slog.Duration("took", v.duration))
		return cache.Loaded[*verdict]{Value: v, Status: status, Lifetime: v.lifetime}
	}
}

// flatten drops what a cache should not keep. Causes hold the certificates of
// strangers, and the words for people have been made from them.
func (v *verdict) flatten() {
	if v.err != nil {
		flat := *v.err
		flat.Err = nil
		v.err = &flat
	}
	for i := range v.hops {
		h := &v.hops[i]
		h.URL, h.Location, h.Err = strings.Clone(printable.Cut(h.URL, maxKeptURL)), strings.Clone(printable.Cut(h.Location, maxKeptURL)), nil
	}
}

// worthRetrying reports whether a second try may bring more than the first: a
// server that says when to come back, or that took all the time there was,
// gets none.
func worthRetrying(err *wellknown.Error, header http.Header) bool {
	return err.Temporary() && err.Code != wellknown.Timeout && err.Code != wellknown.RedirectLoop && header.Get("Retry-After") == "" &&
		err.Status != http.StatusTooManyRequests
}

// pause waits for d and reports whether there is still time.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *state) loadRecords(ctx context.Context, name string, prior cache.Prior[*lookup]) cache.Loaded[*lookup] {
	// RFC 1035, 3.1: a name has 253 characters at most. A longer one is not
	// unknown, it cannot exist.
	if len(name) > 253 {
		answer := &srv.Answer{Name: name, Type: srv.TypeSRV, Outcome: srv.Absent, Rcode: "none: the name is too long to exist", TTL: time.Hour}
		return cache.Loaded[*lookup]{Value: &lookup{answer: answer, lifetime: answer.TTL}, Lifetime: answer.TTL}
	}
	ctx, release := s.alive(ctx)
	defer release()
	return s.looked(ctx, prior, &s.failures.records, func() (*srv.Answer, error) { return s.dns.LookupSRV(ctx, name) })
}

func (s *state) loadAddrs(ctx context.Context, key addrKey, prior cache.Prior[*lookup]) cache.Loaded[*lookup] {
	ctx, release := s.alive(ctx)
	defer release()
	return s.looked(ctx, prior, &s.failures.addrs, func() (*srv.Answer, error) { return s.dns.LookupAddrs(ctx, key.host, key.typ) })
}

// alive is ctx, or what ends with the Resolver's Context too.
func (s *state) alive(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.life == nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	if s.life.Err() != nil {
		cancel()
	}
	stop := context.AfterFunc(s.life, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// looked turns an answer of DNS into one to keep. "There is nothing" is an
// answer like any other: it has a lifetime and is refreshed ahead.
func (s *state) looked(ctx context.Context, prior cache.Prior[*lookup], failures *reasons, ask func() (*srv.Answer, error)) cache.Loaded[*lookup] {
	begun := time.Now()
	l, status := new(lookup), cache.Good
	l.answer, l.err = ask()
	l.duration = time.Since(begun)
	var failed *srv.Error
	if errors.As(l.err, &failed) && len(failed.Tries) > maxKeptTries {
		failed.Tries = slices.Clone(failed.Tries[len(failed.Tries)-maxKeptTries:])
	}
	if a := l.answer; a != nil {
		l.dropped = len(a.Dropped)
		a.Tries = slices.Clone(a.Tries[:min(len(a.Tries), maxKeptTries)])
		a.Dropped = slices.Clone(a.Dropped[:min(len(a.Dropped), maxKeptDropped)])
		for i := range a.Dropped {
			a.Dropped[i].Record.Target = strings.Clone(printable.Cut(a.Dropped[i].Record.Target, maxKeptURL))
		}
	}
	if l.err != nil {
		status = cache.Temporary
		failures.count(dnsReason(l.err))
		l.answer = nil
		l.lifetime = min(maxDNSPause, minDNSPause<<min(prior.Failures, 10))
		s.log.LogAttrs(ctx, slog.LevelDebug, "dns", slog.String("failed", printable.Line(l.err.Error())),
			slog.Duration("lifetime", l.lifetime), slog.Duration("took", l.duration))
	} else {
		l.lifetime = l.answer.TTL
		s.log.LogAttrs(ctx, slog.LevelDebug, "dns", slog.String("name", l.answer.Name), slog.String("type", l.answer.Type.String()),
			slog.String("answer", describeAnswer(l.answer)), slog.String("server", l.answer.Server),
			slog.Duration("lifetime", l.lifetime), slog.Duration("took", l.duration))
	}
	return cache.Loaded[*lookup]{Value: l, Status: status, Lifetime: l.lifetime}
}

// lookupAddrs is the dialler's way to addresses.
func (s *state) lookupAddrs(ctx context.Context, host string, v6 bool) ([]netip.Addr, error) {
	key := addrKey{strings.ToLower(host), srv.TypeA}
	if v6 {
		key.typ = srv.TypeAAAA
	}
	done := traceDNS(ctx, host, fresh(&s.addrs, key))
	e, _, err := s.addrs.Get(ctx, key)
	if err != nil {
		done(nil, err)
		return nil, err
	}
	answer, err := answered(e)
	if err != nil {
		done(nil, err)
		return nil, err
	}
	done(answer.Addrs, nil)
	return answer.Addrs, nil
}

// traceDNS tells the trace of a request, if it has one, of a look-up made for
// it. A request whose addresses are known makes none.
func traceDNS(ctx context.Context, host string, known bool) (done func([]netip.Addr, error)) {
	trace := httptrace.ContextClientTrace(ctx)
	if trace == nil || known {
		return func([]netip.Addr, error) {}
	}
	if trace.DNSStart != nil {
		trace.DNSStart(httptrace.DNSStartInfo{Host: host})
	}
	return func(addrs []netip.Addr, err error) {
		if trace.DNSDone == nil {
			return
		}
		info := httptrace.DNSDoneInfo{Err: err}
		for _, addr := range addrs {
			info.Addrs = append(info.Addrs, net.IPAddr{IP: addr.AsSlice(), Zone: addr.Zone()})
		}
		trace.DNSDone(info)
	}
}
