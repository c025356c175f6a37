// Package dial makes the connections of this module: one guarded way from a
// host and a port to an open, optionally encrypted, connection.
//
// It looks up the addresses of the host, asks the guard about each one, and
// races what is left as RFC 8305 ("Happy Eyeballs") says. A name that changes
// its answer between check and connection gains nothing: the address that was
// checked is the address that is dialled, and the socket checks it again.
package dial

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mxdiscover/internal/guard"
)

const (
	// resolutionDelay is how long IPv4 waits for the answer about IPv6
	// (RFC 8305, 3).
	resolutionDelay = 50 * time.Millisecond

	// attemptDelay is the time between the starts of two attempts
	// (RFC 8305, 5: 250 ms recommended).
	attemptDelay = 250 * time.Millisecond

	// handshakeDelay replaces attemptDelay once an attempt has its TCP
	// connection: a handshake needs more round trips, and a second one begun
	// meanwhile would cost the server for nothing.
	handshakeDelay = 2 * time.Second

	// maxAttempts is how many addresses of one host are tried. A stranger
	// chooses how many there are; two families of four are more than any
	// Matrix server has.
	maxAttempts = 8
)

// A LookupFunc gives the addresses of host in one family. No address and no
// error means that there is none; an error, that nobody knows.
type LookupFunc func(ctx context.Context, host string, v6 bool) ([]netip.Addr, error)

// Dialer dials hosts. Lookup must be set unless only IP addresses are dialled.
type Dialer struct {
	Lookup LookupFunc
	Guard  guard.Guard

	// DialContext opens a connection to an address that the guard has passed.
	// If nil, a net.Dialer whose socket is checked once more.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)

	// ConnectTo says where to go instead of host and port. What it names is
	// the operator's own word and not asked of the guard. If nil, or if ok is
	// false, host and port themselves.
	ConnectTo func(host string, port uint16) (toHost string, toPort uint16, ok bool)

	// Proxy names the HTTP proxy through which host and port are reached, as an
	// http or https URL; nil for none. The proxy is the operator's own word and
	// not asked of the guard, and what it connects to is beyond the guard's
	// sight. If Proxy is nil, everything is dialled directly.
	Proxy func(host string, port uint16) (*url.URL, error)

	// RootCAs are whom the certificate of an https proxy must be signed by. If
	// nil, the system's.
	RootCAs *x509.CertPool
}

// Kind tells why a host could not be reached.
type Kind string

// The kinds of failure, in the words of the command's error codes.
const (
	NoAddress     Kind = "no_address"     // the name has no address
	LookupFailed  Kind = "dns_error"      // nobody could say whether it has one
	Denied        Kind = "address_denied" // it has some, and none may be dialled
	ConnectFailed Kind = "connect_failed" // TCP
	TLSFailed     Kind = "tls_failed"     // the handshake, or the certificate
	TimedOut      Kind = "timeout"        // the deadline came first
	Canceled      Kind = "canceled"       // the caller gave up
)

// An Attempt is one address that was tried or refused.
type Attempt struct {
	Addr netip.AddrPort
	Kind Kind
	Err  error
}

// Error is the failure to reach a host: every address that was tried, and why
// it was not good enough.
type Error struct {
	Host     string
	Port     uint16
	Kind     Kind           // of the attempt that says most
	Addr     netip.AddrPort // of that attempt; zero if there was none
	Attempts []Attempt      // in the order of their ends
	Known    []netip.Addr   // the addresses of Host, as far as they were looked up
	Err      error          // the cause that decided Kind

	// Handshaking says that when the time was up there was a TCP connection
	// whose handshake had not ended.
	Handshaking bool
}

func (e *Error) Error() string {
	where := net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port)))
	switch e.Kind {
	case NoAddress:
		return fmt.Sprintf("%s has no address (no A and no AAAA record)", e.Host)
	case LookupFailed:
		return fmt.Sprintf("the addresses of %s could not be looked up: %v", e.Host, e.Err)
	case Denied:
		return fmt.Sprintf("%s: %v", where, e.Err)
	}
	if e.Addr.IsValid() {
		return fmt.Sprintf("%s (%s): %v", where, e.Addr, e.Err)
	}
	return fmt.Sprintf("%s: %v", where, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// A Conn is an open connection and the address that it leads to.
type Conn struct {
	net.Conn
	Addr netip.AddrPort
}

// A Handshake turns a TCP connection into what the caller wants. It must obey
// ctx. If it fails, conn is closed.
type Handshake func(ctx context.Context, conn net.Conn) (net.Conn, error)

// Dial connects to host and port and runs handshake, if there is one, on the
// connection; an address whose handshake fails counts as failed and the next
// one is tried. The error is an *Error.
func (d *Dialer) Dial(ctx context.Context, host string, port uint16, handshake Handshake) (*Conn, error) {
	p := d.plan(host, port)
	return d.follow(ctx, p, p, handshake, Error{Host: host, Port: port})
}

// DialOne is Dial without a choice: to is one of the addresses that Addresses
// gives for host and port, and the only one that is tried. The error is an
// *Error.
func (d *Dialer) DialOne(ctx context.Context, host string, port uint16, to netip.AddrPort) (net.Conn, error) {
	named := d.plan(host, port)
	p := named
	if p.free {
		// The operator's word opens what it leads to, not any address.
		usable, _, err := d.Addresses(ctx, host, port)
		if err != nil {
			return nil, err
		}
		p.free = slices.Contains(usable, to)
	}
	p.host, p.port = to.Addr().String(), to.Port()
	conn, err := d.follow(ctx, p, named, nil, Error{Host: host, Port: port})
	if err != nil {
		return nil, err
	}
	return conn.Conn, nil
}

// follow goes where a plan leads, through the proxy for what is named.
func (d *Dialer) follow(ctx context.Context, p, named plan, handshake Handshake, asked Error) (*Conn, error) {
	r := race{d: d, plan: p, handshake: handshake, asked: asked}
	if d.Proxy != nil {
		via, err := d.Proxy(named.host, named.port)
		if err == nil && via != nil {
			err = r.through(via)
		}
		if err != nil {
			r.asked.Kind, r.asked.Err = ConnectFailed, err
			return nil, &r.asked
		}
	}
	return r.run(ctx)
}

// Addresses says what Dial would try for host and port, in the order of the
// families' answers (IPv6 first), and what it refuses. The error is an *Error
// of kind NoAddress, LookupFailed, Denied, TimedOut or Canceled.
func (d *Dialer) Addresses(ctx context.Context, host string, port uint16) (usable []netip.AddrPort, refused []Attempt, err error) {
	plan := d.plan(host, port)
	fail := Error{Host: host, Port: port}
	answers := plan.lookup(ctx)
	var lookupErr error
	var found [2][]netip.Addr
	for range 2 {
		var a answer
		select {
		case a = <-answers: // what is known already counts, whatever ctx says
		default:
			select {
			case a = <-answers:
			case <-ctx.Done():
				return nil, nil, fail.end(ctx.Err())
			}
		}
		found[a.family], lookupErr = a.addrs, join(lookupErr, a.err)
	}
	for _, addr := range interleave(found[v6], found[v4]) {
		to := netip.AddrPortFrom(addr, plan.port)
		if err := plan.check(addr); err != nil {
			refused = append(refused, Attempt{Addr: to, Kind: Denied, Err: err})
			continue
		}
		usable = append(usable, to)
	}
	if len(usable) > 0 {
		return usable, refused, nil
	}
	if lookupErr != nil && ctx.Err() != nil {
		return nil, refused, fail.end(ctx.Err())
	}
	fail.Attempts = refused
	return nil, refused, fail.none(lookupErr)
}

// plan is where a host and port lead once ConnectTo has spoken.
type plan struct {
	host  string
	port  uint16
	free  bool // the operator's own word: not asked of the guard
	guard guard.Guard
	look  LookupFunc
}

func (d *Dialer) plan(host string, port uint16) plan {
	p := plan{host: host, port: port, guard: d.Guard, look: d.Lookup}
	if d.ConnectTo != nil {
		if h, to, ok := d.ConnectTo(host, port); ok {
			// The same host at another port is still the host that a stranger
			// named.
			p.host, p.port, p.free = h, to, !sameHost(h, host)
		}
	}
	return p
}

// sameHost compares as DNS does, and addresses by value.
func sameHost(a, b string) bool {
	addr := func(host string) netip.Addr {
		parsed, _ := netip.ParseAddr(strings.Trim(host, "[]"))
		return guard.Unwrap(parsed)
	}
	a, b = strings.TrimSuffix(a, "."), strings.TrimSuffix(b, ".")
	return strings.EqualFold(a, b) || addr(a).IsValid() && addr(a) == addr(b)
}

func (p plan) check(addr netip.Addr) error {
	if p.free {
		return nil
	}
	return p.guard.Check(addr)
}

const (
	v6 = 0
	v4 = 1
)

type answer struct {
	family int
	addrs  []netip.Addr
	err    error
}

// lookup asks for both families at once. The channel has room for both
// answers, so that nobody needs to wait for the second.
func (p plan) lookup(ctx context.Context) <-chan answer {
	answers := make(chan answer, 2)
	if addr, err := netip.ParseAddr(strings.Trim(p.host, "[]")); err == nil {
		family := v6
		if addr.Unmap().Is4() {
			family = v4
		}
		answers <- answer{family: family, addrs: []netip.Addr{addr.Unmap()}}
		answers <- answer{family: 1 - family}
		return answers
	}
	for family := range 2 {
		go func() {
			addrs, err := p.look(ctx, p.host, family == v6)
			answers <- answer{family: family, addrs: addrs, err: err}
		}()
	}
	return answers
}

// interleave mixes the families, IPv6 first (RFC 8305, 4).
func interleave(six, four []netip.Addr) []netip.Addr {
	mixed := make([]netip.Addr, 0, len(six)+len(four))
	for i := range max(len(six), len(four)) {
		if i < len(six) {
			mixed = append(mixed, six[i])
		}
		if i < len(four) {
			mixed = append(mixed, four[i])
		}
	}
	return mixed
}

// race is one run of RFC 8305.
type race struct {
	d         *Dialer
	plan      plan
	handshake Handshake
	asked     Error

	via, target string // the proxy and what it is asked for, if there is one

	waiting [2][]netip.Addr // looked up, not tried yet
	last    int             // the family tried last
	begun   int             // attempts
	secured int             // of those under way, the ones that have a TCP connection
}

type outcome struct {
	conn *Conn
	Attempt
	shook bool // it had a TCP connection
}

func (r *race) run(ctx context.Context) (*Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	var (
		answers   = r.plan.lookup(ctx)
		unheard   = 2 // families that have not answered
		outcomes  = make(chan outcome)
		connected = make(chan struct{})
		running   int
		due       bool // the time for one more attempt has come
		lookupErr error
	)
	next := time.NewTimer(0) // when the next attempt may begin
	<-next.C
	defer next.Stop()

	start := func(addr netip.Addr) {
		due, running = false, running+1
		r.begun++
		next.Reset(attemptDelay)
		to := netip.AddrPortFrom(addr, r.plan.port)
		go func() {
			out := r.attempt(ctx, to, connected)
			select {
			case outcomes <- out:
			case <-ctx.Done(): // somebody else has won
				if out.conn != nil {
					out.conn.Close()
				}
			}
		}()
	}
	r.last = v4 // so that IPv6 is first

	for {
		if running == 0 && unheard == 0 && r.exhausted() {
			return nil, r.asked.none(lookupErr)
		}
		select {
		case a := <-answers:
			unheard--
			lookupErr = join(lookupErr, a.err)
			if r.plan.host == r.asked.Host {
				r.asked.Known = append(r.asked.Known, a.addrs...)
			}
			for _, addr := range a.addrs {
				if err := r.plan.check(addr); err != nil {
					r.asked.Attempts = append(r.asked.Attempts, Attempt{Addr: netip.AddrPortFrom(addr, r.plan.port), Kind: Denied, Err: err})
					continue
				}
				r.waiting[a.family] = append(r.waiting[a.family], addr)
			}
			switch {
			case r.exhausted():
			case due, running == 0 && (a.family == v6 || unheard == 0):
				start(r.pop())
			case running == 0: // IPv4 has answered first (RFC 8305, 3)
				next.Reset(resolutionDelay)
			}
		case <-next.C:
			if due = true; !r.exhausted() {
				start(r.pop())
			}
		case <-connected:
			due = false
			r.secured++
			next.Reset(handshakeDelay)
		case out := <-outcomes:
			running--
			if out.conn != nil {
				return out.conn, nil
			}
			r.asked.Attempts = append(r.asked.Attempts, out.Attempt)
			if out.shook {
				r.secured--
			}
			if !r.exhausted() {
				start(r.pop())
			}
		case <-ctx.Done():
			r.asked.Handshaking = r.secured > 0
			return nil, r.asked.end(ctx.Err())
		}
	}
}

func (r *race) exhausted() bool {
	return r.begun == maxAttempts || len(r.waiting[v6]) == 0 && len(r.waiting[v4]) == 0
}

// pop takes the next address, the families in turn (RFC 8305, 4).
func (r *race) pop() netip.Addr {
	family := 1 - r.last
	if len(r.waiting[family]) == 0 {
		family = r.last
	}
	addr := r.waiting[family][0]
	r.waiting[family], r.last = r.waiting[family][1:], family
	return addr
}

func (r *race) attempt(ctx context.Context, to netip.AddrPort, connected chan<- struct{}) (out outcome) {
	failed := func(kind Kind, err error) outcome {
		return outcome{Attempt: Attempt{Addr: to, Kind: kind, Err: err}}
	}
	var conn net.Conn
	// The caller's functions run on a goroutine that nobody else can recover.
	defer func() {
		if value := recover(); value != nil {
			what := "DialContext"
			shook := conn != nil
			if shook {
				what = "the handshake"
				conn.Close()
			}
			out = failed(ConnectFailed, fmt.Errorf("%s panicked: %.200q", what, fmt.Sprint(value)))
			out.shook = shook
		}
	}()
	open := r.d.DialContext
	if open == nil {
		dialer := net.Dialer{}
		if !r.plan.free {
			dialer.ControlContext = r.plan.guard.Control
		}
		open = dialer.DialContext
	}
	var err error
	conn, err = open(ctx, "tcp", to.String())
	if err == nil && conn == nil {
		err = errors.New("DialContext returned neither a connection nor an error")
	}
	if err != nil {
		if err = plain(err); r.via != "" {
			err = &ProxyError{Proxy: r.via, Target: r.target, Err: err}
		}
		return failed(ConnectFailed, err)
	}
	if r.handshake == nil {
		return outcome{conn: &Conn{Conn: conn, Addr: to}}
	}
	select {
	case connected <- struct{}{}:
	case <-ctx.Done():
		conn.Close()
		return failed(ConnectFailed, ctx.Err())
	}
	done, err := r.handshake(ctx, conn)
	if err != nil {
		conn.Close()
		out, refusal := failed(TLSFailed, err), (*ProxyError)(nil)
		out.shook = true
		switch {
		case errors.As(err, &refusal):
			out.Kind = ConnectFailed
		case errors.Is(err, context.DeadlineExceeded): // its own; that of the race is seen there
			out.Kind = TimedOut
		}
		return out
	}
	return outcome{conn: &Conn{Conn: done, Addr: to}}
}

// plain takes the address out of a dial error, which the Error names already,
// and the name of the system call.
func plain(err error) error {
	var errno syscall.Errno
	var op *net.OpError
	switch {
	case errors.As(err, &errno):
		return errno
	case errors.As(err, &op) && op.Op == "dial" && op.Err != nil:
		return op.Err
	}
	return err
}

// none is the error of a race without a winner and without a loser left.
func (e *Error) none(lookupErr error) *Error {
	// A handshake says more than a connection that was not made: later
	// addresses of the same host often fail for lack of a route. Both say more
	// than an address that was not tried.
	decided := slices.IndexFunc(e.Attempts, func(a Attempt) bool { return a.Kind == TLSFailed || a.Kind == TimedOut })
	if decided < 0 {
		decided = slices.IndexFunc(e.Attempts, func(a Attempt) bool { return a.Kind != Denied })
	}
	switch {
	case decided >= 0:
		a := e.Attempts[decided]
		e.Kind, e.Addr, e.Err = a.Kind, a.Addr, a.Err
		e.Handshaking = a.Kind == TimedOut
	case len(e.Attempts) > 0:
		// Addresses exist and may not be dialled: that is no DNS error.
		e.Kind, e.Addr, e.Err = Denied, e.Attempts[0].Addr, e.Attempts[0].Err
	case lookupErr != nil:
		e.Kind, e.Err = LookupFailed, lookupErr
	default:
		e.Kind, e.Err = NoAddress, errNoAddress
	}
	return e
}

// end is the error of a race that its context ended.
func (e *Error) end(err error) *Error {
	e.Kind, e.Err = TimedOut, err
	if errors.Is(err, context.Canceled) {
		e.Kind = Canceled
	}
	return e
}

// both are the failures of both families, in one line.
type both struct{ first, second error }

func (b both) Error() string   { return b.first.Error() + "; " + b.second.Error() }
func (b both) Unwrap() []error { return []error{b.first, b.second} }

func join(first, second error) error {
	switch {
	case first == nil:
		return second
	case second == nil:
		return first
	}
	return both{first, second}
}

var errNoAddress = errors.New("no address")
