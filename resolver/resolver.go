package resolver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mxdiscover/cache"
	"mxdiscover/internal/dial"
	"mxdiscover/internal/guard"
	"mxdiscover/internal/servername"
	"mxdiscover/srv"
	"mxdiscover/wellknown"
)

// DefaultCacheSize is how many hosts are remembered unless
// [Resolver.CacheSize] says otherwise: more than a large homeserver talks to.
const DefaultCacheSize = 20000

// A Resolver resolves server names and remembers what it was told. The zero
// Resolver is ready to use. Its fields are read on first use and must not
// change after it; it must not be copied. It may be used by any number of
// goroutines at once, and starts none but for questions under way, each of
// which has a deadline of its own. There is nothing to close.
type Resolver struct {
	// DNS asks for SRV, A and AAAA records. If nil, a zero srv.Client: the
	// servers of /etc/resolv.conf.
	DNS *srv.Client

	// RootCAs are whom the certificates of well-known hosts must be signed by.
	// If nil, the system's.
	RootCAs *x509.CertPool

	// AllowNets are private or special-purpose networks that may be dialled in
	// spite of being such. If nil, none.
	AllowNets []netip.Prefix

	// DialContext opens a TCP connection to address, an IP address and port
	// that may be dialled; network is "tcp". The text of its errors goes into
	// the evidence. It must obey ctx. If nil, a net.Dialer.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)

	// ConnectTo, asked before every connection, may name another place to
	// connect to instead of host and port, as curl's --connect-to does. Host
	// header and TLS name stay as they are. What it names is the caller's own
	// word, and its addresses are not refused. If nil, or if ok is false, the
	// connection goes to host and port.
	ConnectTo func(host string, port uint16) (toHost string, toPort uint16, ok bool)

	// Proxy names the HTTP proxy through which host and port are reached with
	// CONNECT, as an http or https URL with the credentials it wants; nil for
	// none. It counts for well-known and for a [Transport]; DNS is asked directly.
	// Where the proxy connects to is beyond this module: it must refuse private
	// networks itself. If Proxy is nil, there is none, whatever the environment
	// says.
	Proxy func(host string, port uint16) (*url.URL, error)

	// Logger is told of every question and its answer, at debug level. If nil,
	// nobody is.
	Logger *slog.Logger

	// Rules selects the text to follow. If zero, Current.
	Rules Rules

	// LenientSRV takes an SRV look-up that failed for one that found nothing,
	// as much of the federation does: rather a wrong port than no answer. If
	// false, such a name fails with SRVTemporary.
	LenientSRV bool

	// Permit says which server names may be resolved at all, such as those of
	// a closed federation. If nil, every valid one.
	Permit func(serverName string) bool

	// CacheSize is the most hosts that are remembered. With its records,
	// addresses and evidence one takes about four kilobytes, and sixteen at
	// most, however hostile its servers (TestMemory). If zero,
	// DefaultCacheSize.
	CacheSize int

	// UserAgent goes into well-known requests. If empty, "mxdiscover".
	UserAgent string

	// Context, when it ends, ends every question under way, and those to come at
	// once. If nil, a question goes on until its own deadline, whoever has given
	// up waiting for it.
	Context context.Context

	once  sync.Once
	ready atomic.Pointer[state]
}

// state is what a Resolver is made of once its fields have been read.
type state struct {
	rules   Rules
	lenient bool
	life    context.Context // nil for ever
	log     *slog.Logger
	dns     *srv.Client
	fetch   wellknown.Fetcher
	dial    dial.Dialer

	// Inputs, not outcomes, are cached: each answer with its own lifetime, in
	// a cache per kind, so that junk of one kind cannot push out another.
	wellKnown cache.Cache[string, *verdict]
	records   cache.Cache[string, *lookup]
	addrs     cache.Cache[addrKey, *lookup]
	memo      memo

	headStart time.Duration // of well-known before SRV
	busyLoads int           // how many loads of well-known are not many
	busyAt    atomic.Int64  // when there were many, on the memo's clock

	failures struct{ wellKnown, records, addrs reasons }

	intn   func(n int) int // draws among SRV records
	jitter func() float64  // in [-1, 1]
}

type addrKey struct {
	host string
	typ  srv.Type
}

func (r *Resolver) state() *state {
	if s := r.ready.Load(); s != nil {
		return s
	}
	r.once.Do(func() { r.ready.Store(r.setup()) })
	return r.ready.Load()
}

func (r *Resolver) setup() *state {
	s := &state{
		rules:     r.Rules,
		lenient:   r.LenientSRV,
		life:      r.Context,
		log:       r.Logger,
		dns:       r.DNS,
		headStart: srvHeadStart,
		busyLoads: busyLoads,
		intn:      rand.IntN,
		jitter:    func() float64 { return 2*rand.Float64() - 1 },
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.dns == nil {
		s.dns = new(srv.Client)
	}
	size := r.CacheSize
	if size <= 0 {
		size = DefaultCacheSize
	}
	s.dial = dial.Dialer{
		Lookup:      s.lookupAddrs,
		Guard:       guard.Guard{Allow: r.AllowNets},
		DialContext: r.DialContext,
		ConnectTo:   r.ConnectTo,
		Proxy:       r.Proxy,
		RootCAs:     r.RootCAs,
	}
	s.fetch = wellknown.Fetcher{
		DialTLS: func(ctx context.Context, host string, port uint16, config *tls.Config) (net.Conn, netip.AddrPort, error) {
			return s.dial.DialTLS(ctx, host, port, config)
		},
		RootCAs:   r.RootCAs,
		UserAgent: r.UserAgent,
	}
	// One host needs one verdict, two SRV names and, its delegate included,
	// four address sets at most.
	s.wellKnown.Load, s.wellKnown.Size, s.wellKnown.Timeout = s.loadWellKnown, size, wellknown.DefaultTimeout
	// A question under way holds a socket or two, and eight at most (the
	// dialler's limit). Go raises the limit of open files to the hard one, at
	// least 4096; half of it is for others. Fewer would let silent hosts, at
	// ten seconds each, keep good ones waiting.
	s.wellKnown.MaxLoads, s.records.MaxLoads, s.addrs.MaxLoads = 512, 512, 512
	s.records.Load, s.records.Size, s.records.MaxStale = s.loadRecords, 2*size, maxStale
	s.addrs.Load, s.addrs.Size, s.addrs.MaxStale = s.loadAddrs, 4*size, maxStale
	s.memo.setup(size)
	s.busyAt.Store(-int64(busyLinger)) // not lately
	return s
}

// Resolve finds out where serverName leads.
//
// What is known and fresh is returned at once and without an allocation,
// unless more than four SRV records have to be put in an order drawn anew. What
// is not is asked for; questions are shared with every other caller and go on
// when ctx ends, for those who come later.
//
// Resolve says where a name leads and does not judge it: a target may be an
// address of a private network, or a name that leads to one. Who dials targets
// without this module takes the addresses that [Resolver.Explain] gives.
//
// The error is an *[Error]. The Result beside it is nil only if serverName is
// not valid or not permitted; else it has what was found out until then. The
// Result may be shared with other callers and must not be changed.
func (r *Resolver) Resolve(ctx context.Context, serverName string) (*Result, error) {
	s := r.state()
	if d := s.memo.get(serverName); d != nil && r.permits(serverName) {
		return d.result(s.intn)
	}
	name, err := r.parse(serverName)
	if err != nil {
		return nil, err
	}
	d := s.derive(name, liveSource{s, ctx, time.Now()})
	s.memo.put(serverName, d)
	return d.result(s.intn)
}

// Fetcher returns a fetcher of documents that connects as r does: through its
// DNS, its guard, and its DialContext, ConnectTo and Proxy, trusting its RootCAs.
// Client discovery ([mxdiscover/wellknown/client]) wants one.
func (r *Resolver) Fetcher() *wellknown.Fetcher {
	s := r.state()
	fetcher := s.fetch
	fetcher.Dial = func(ctx context.Context, host string, port uint16) (net.Conn, netip.AddrPort, error) {
		conn, err := s.dial.Dial(ctx, host, port, nil)
		if err != nil {
			return nil, netip.AddrPort{}, err
		}
		return conn.Conn, conn.Addr, nil
	}
	return &fetcher
}

func (r *Resolver) permits(serverName string) bool {
	return r.Permit == nil || r.Permit(serverName)
}

func (r *Resolver) parse(serverName string) (servername.Name, error) {
	name, err := servername.Parse(serverName)
	if err != nil {
		detail := err.Error()
		var invalid *servername.Error
		if errors.As(err, &invalid) {
			detail = invalid.Problem
		}
		return name, &Error{Code: InvalidServerName, ServerName: serverName, Detail: "not a valid server name: " + detail, Err: err}
	}
	if !r.permits(serverName) {
		return name, &Error{Code: NotPermitted, ServerName: serverName, Detail: "this server name is not permitted here"}
	}
	return name, nil
}

// Inspect says what is known of serverName at this moment, and asks nobody: a
// Result as Resolve would return it from fresh answers alone. Whatever is
// missing or has expired ends it with an *[Error] of code NotKnown.
func (r *Resolver) Inspect(serverName string) (*Result, error) {
	s := r.state()
	name, err := r.parse(serverName)
	if err != nil {
		return nil, err
	}
	return s.derive(name, peekSource{s, false}).result(s.intn)
}

// Forget drops what is known of serverName and of what it was delegated to:
// well-known verdicts, SRV records and addresses. Answers under way are not
// kept. The next Resolve asks anew.
func (r *Resolver) Forget(serverName string) {
	name, err := servername.Parse(serverName)
	if err != nil {
		return
	}
	s := r.state()
	host := name.DNSName()
	if e, ok := s.wellKnown.Peek(host); ok && e.Value().err == nil {
		s.forgetHost(e.Value().server.DNSName())
	}
	if d := s.memo.peek(serverName); d != nil && d.delegated != nil {
		s.forgetHost(d.delegated.DNSName())
	}
	s.wellKnown.Forget(host)
	s.forgetHost(host)
	s.memo.forget(serverName)
}

func (s *state) forgetHost(host string) {
	for _, prefix := range []string{fedPrefix, legacyPrefix} {
		if e, ok := s.records.Peek(prefix + host); ok && e.Value().answer != nil {
			for _, record := range e.Value().answer.Records {
				s.forgetAddrs(record.Target)
			}
		}
		s.records.Forget(prefix + host)
	}
	s.forgetAddrs(host)
}

func (s *state) forgetAddrs(host string) {
	s.addrs.Forget(addrKey{strings.ToLower(host), srv.TypeA})
	s.addrs.Forget(addrKey{strings.ToLower(host), srv.TypeAAAA})
}
