package serve

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"mxdiscover/check"
	"mxdiscover/resolver"
	"mxdiscover/wellknown/client"
)

// A Server is the service. The zero Server is ready to use: public addresses
// only, the system's resolver and roots. Its fields must not change after the
// first request, and it must not be copied.
//
// What comes in before the handler is the http.Server's to bound: set
// ReadHeaderTimeout, IdleTimeout and MaxHeaderBytes. The Server bounds every
// write itself, so WriteTimeout should stay zero: it would cut streams.
type Server struct {
	// NewResolver makes the Resolver of one run, with nothing remembered. Its
	// settings (DNS, RootCAs, AllowNets, DialContext, ConnectTo) count for
	// everything that the run does. The Server sets Rules. If nil, a zero
	// Resolver.
	NewResolver func() *resolver.Resolver

	// Check checks a name. It must obey ctx, and call onEvent from one
	// goroutine at a time. If nil, a check.Checker with NewResolver and
	// Timeout.
	Check func(ctx context.Context, serverName string, rules resolver.Rules, onEvent func(check.Event)) *check.Report

	// Timeout bounds one run. If zero, check.DefaultTimeout.
	Timeout time.Duration

	// Limits bound what strangers can make the Server do. The zero Limits are
	// good for a small machine on the internet.
	Limits Limits

	// Unlimited are clients that the limits for one client do not count for,
	// such as a Prometheus of one's own. If nil, none.
	Unlimited []netip.Prefix

	// TrustForwardedFor are the proxies in front of the Server, whose
	// X-Forwarded-For is believed. If nil, nobody's is. Behind a proxy that is
	// not named here, all visitors count as one client.
	TrustForwardedFor []netip.Prefix

	// Logger is told of every request when it has been answered (at info
	// level; /healthz, /metrics and /static/ at debug level), and of panics at
	// error level. What strangers sent is quoted. If nil, nobody is told.
	Logger *slog.Logger

	once  sync.Once
	ready *state
}

// Limits bound what strangers can make a [Server] do. If a field is zero, its
// default counts.
//
// They bound memory too. It is the sum of
//
//   - KeepBytes for answers that are kept, and as much again for those that are
//     being sent;
//   - EventBytes for the events of runs under way;
//   - Checks times what a check needs: 250 kB for names that are slow or dead, and
//     3 MB where eight servers say as much as they may at the same time (both
//     measured by TestLoad; package check has the caps);
//   - Clients times a connection and its goroutine, some 50 kB with TLS;
//   - 20 MB for the counts of addresses and hosts, and for the program.
//
// With the defaults that is 280 MB while 200 slow and dead names are checked for a
// thousand visitors, and all is kept that may be.
type Limits struct {
	Checks  int           // runs at once, of any kind; others wait. Default 200
	Waiting int           // runs that wait for a place; more are turned away with 503. Default 200
	Wait    time.Duration // how long a run waits for a place before 503. Default 10 s

	Clients          int // requests at once, streams included; more are turned away with 503. Default 1000
	ClientsOfAddress int // those of one client address, with 429. Default 30; negative: as many as Clients

	PerRequest Rate // requests of any kind of one client address. Default 100, ten more each second
	PerClient  Rate // runs that one client address begins. Default 20, one more every 3 s
	PerRefresh Rate // and those of them with refresh=1. Default 3, one more every 20 s
	PerHost    Rate // runs about one host, whoever begins them. Default 10, one more every 5 s
	InAll      Rate // runs. Default 200, ten more each second

	KeepFor    time.Duration // how long an answer is given to others. Default 60 s; negative: not at all
	KeepCount  int           // answers that are kept. Default 1000
	KeepBytes  int64         // memory that they take, about. Default 64 MiB
	EventBytes int64         // memory for the events of runs under way; beyond it events are left out. Default 32 MiB
	Report     int           // bytes of an answer's JSON. Default 1 MiB
}

// A Rate is how many things may happen at once, and how fast they may go on. A
// negative Burst is no limit. If Burst or Every is zero, its default counts.
type Rate struct {
	Burst int
	Every time.Duration // one more each
}

func (r Rate) or(burst int, every time.Duration) Rate {
	return Rate{cmp.Or(r.Burst, burst), cmp.Or(r.Every, every)}
}

func (l Limits) withDefaults() Limits {
	return Limits{
		Checks:           max(1, cmp.Or(l.Checks, 200)),
		Waiting:          max(0, cmp.Or(l.Waiting, 200)),
		Wait:             cmp.Or(l.Wait, 10*time.Second),
		Clients:          max(1, cmp.Or(l.Clients, 1000)),
		ClientsOfAddress: cmp.Or(l.ClientsOfAddress, 30),
		PerRequest:       l.PerRequest.or(100, 100*time.Millisecond),
		PerClient:        l.PerClient.or(20, 3*time.Second),
		PerRefresh:       l.PerRefresh.or(3, 20*time.Second),
		PerHost:          l.PerHost.or(10, 5*time.Second),
		InAll:            l.InAll.or(200, 100*time.Millisecond),
		KeepFor:          cmp.Or(l.KeepFor, time.Minute),
		KeepCount:        max(1, cmp.Or(l.KeepCount, 1000)),
		KeepBytes:        max(1<<20, cmp.Or(l.KeepBytes, 64<<20)),
		EventBytes:       cmp.Or(l.EventBytes, 32<<20),
		Report:           max(64<<10, cmp.Or(l.Report, 1<<20)),
	}
}

// state is what a Server is made of once its fields have been read.
type state struct {
	log     *slog.Logger
	limits  *limiter
	desk    *desk
	metrics *counters
	routes  map[string]*route
	static  map[string]*file

	// closed is whether what is found out stays on this site: where private
	// networks may be connected to, any web page that somebody inside looks at
	// could else look around in them.
	closed bool
}

func (s *Server) state() *state {
	s.once.Do(func() {
		limits := s.Limits.withDefaults()
		st := &state{log: s.Logger, limits: newLimiter(limits)}
		if st.log == nil {
			st.log = slog.New(slog.DiscardHandler)
		}
		st.desk = newDesk(limits, st.limits, s.answer, st.log)
		st.closed = len(s.resolver(resolver.Current).AllowNets) > 0
		st.metrics = newCounters(st)
		st.desk.metrics = st.metrics
		st.routes, st.static = make(map[string]*route), staticFiles()
		for _, r := range routes() {
			st.routes[r.path] = &r
		}
		s.ready = st
	})
	return s.ready
}

func (s *Server) timeout() time.Duration { return cmp.Or(s.Timeout, check.DefaultTimeout) }

// resolver makes the Resolver of one run.
func (s *Server) resolver(rules resolver.Rules) *resolver.Resolver {
	var r *resolver.Resolver
	if s.NewResolver != nil {
		r = s.NewResolver()
	}
	if r == nil {
		r = new(resolver.Resolver)
	}
	r.Rules = rules
	return r
}

// answer finds out what is asked.
func (s *Server) answer(ctx context.Context, q question, onEvent func(check.Event)) result {
	if q.kind != kindCheck {
		ctx, cancel := context.WithTimeout(ctx, s.timeout())
		defer cancel()
		r := s.resolver(q.rules)
		if r.Context != nil {
			defer context.AfterFunc(r.Context, cancel)()
		}
		r.Context = ctx // questions that nobody waits for end with the run
		if q.kind == kindResolve {
			return result{resolution: r.Explain(ctx, q.name)}
		}
		d := client.Discoverer{Fetcher: r.Fetcher(), Timeout: min(s.timeout(), client.DefaultTimeout)}
		return result{discovery: d.Discover(ctx, q.name)}
	}
	if s.Check != nil {
		ctx, cancel := context.WithTimeout(ctx, s.timeout())
		defer cancel()
		return result{report: s.Check(ctx, q.name, q.rules, onEvent)}
	}
	c := check.Checker{
		NewResolver: func() *resolver.Resolver { return s.resolver(q.rules) },
		Timeout:     s.timeout(),
		OnEvent:     onEvent,
	}
	return result{report: c.Check(ctx, q.name)}
}

// Close ends the Server. New runs are refused from now on. Those under way may
// end until ctx does; then they are cancelled, and whoever waits for them gets
// the [Failure] closing, on a stream as its last event. Close returns when no
// goroutine of the Server is left, with the error of ctx if runs had to be
// cancelled. Call it before [net/http.Server.Shutdown], which then finds nobody
// who waits.
func (s *Server) Close(ctx context.Context) error { return s.state().desk.close(ctx) }
