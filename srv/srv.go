package srv

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"mxdiscover/internal/printable"
)

const (
	// MaxRecords is how many SRV records an Answer holds at most. Large federations publish a
	// handful; trying 32 targets takes longer than any caller waits.
	MaxRecords = 32
	// MaxDropped is how many bad records an Answer names at most: as many as good ones.
	MaxDropped = 32
	// MaxAddrs is how many addresses an Answer holds at most. Round-robin names have up to
	// thirteen or so (an UDP answer of the old size); more are never tried.
	MaxAddrs = 16

	// maxLookup is how long one look-up takes at most, whatever the context allows: two waits of
	// the usual five seconds.
	maxLookup = 10 * time.Second
	// defaultTimeout and defaultAttempts are those of resolv.conf(5).
	defaultTimeout  = 5 * time.Second
	defaultAttempts = 2
	// maxServers, maxTimeout (seconds) and maxAttempts are the limits of resolv.conf(5): MAXNS,
	// RES_MAXRETRANS, RES_MAXRETRY. The first two are for the file alone.
	maxServers  = 3
	maxTimeout  = 30
	maxAttempts = 5
)

// A Client asks DNS servers. The zero Client asks those of /etc/resolv.conf, after /etc/hosts. Its
// methods may be called by several goroutines at once. It must not be copied after first use, nor
// its fields changed.
type Client struct {
	// Servers are asked in this order, each given as host:port. If empty, those of ResolvConf
	// are asked, at port 53; otherwise ResolvConf is not read.
	Servers []string

	// Timeout is how long one server is waited for, each time it is asked. If zero, "options
	// timeout:" of resolv.conf counts, else 5 seconds. A look-up ends after 10 seconds or with
	// its context; where that is too soon for all attempts, each gets an equal share of the time
	// that is left, so that silent servers do not keep the last one from being asked.
	Timeout time.Duration

	// Attempts is how many times all servers are asked before the look-up fails. If zero,
	// "options attempts:" of resolv.conf counts, else 2. Above 5 it counts as 5.
	Attempts int

	// Rotate starts each look-up at the next server. "options rotate" of resolv.conf does too.
	Rotate bool

	// ResolvConf is the path of a resolv.conf(5) file, which is read again after it has
	// changed. Of it count "nameserver" and the options timeout, attempts, rotate and use-vc;
	// "search" and "domain" never do. If empty, /etc/resolv.conf. A file that is missing or names
	// no server stands for 127.0.0.1 and ::1.
	ResolvConf string

	// HostsFile is the path of a hosts(5) file, which is read again after it has changed. It
	// answers for every name that has an address in it, for both families. If empty, /etc/hosts;
	// os.DevNull for none.
	HostsFile string

	// Dial connects to a DNS server, network is "udp" or "tcp". A connection for "udp" must be a
	// net.PacketConn too. Every query has a connection of its own, and so a source port of its
	// own. It must obey ctx. If nil, a net.Dialer does it.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	turn   atomic.Uint32 // of the servers, if they rotate
	resolv file[config]
	hosts  file[map[string]host]
}

// Type is the type of a DNS record.
type Type uint16

// The types that can be asked for.
const (
	TypeA    Type = 1
	TypeAAAA Type = 28
	TypeSRV  Type = 33

	typeCNAME Type = 5
)

// String returns the name of the type, as "SRV", or "TYPE99" for a type that is not asked for
// (RFC 3597, 5).
func (t Type) String() string {
	switch t {
	case TypeA:
		return "A"
	case TypeAAAA:
		return "AAAA"
	case TypeSRV:
		return "SRV"
	}
	return "TYPE" + strconv.Itoa(int(t))
}

// Outcome is what an answer says.
type Outcome int

const (
	// Found: there are records.
	Found Outcome = iota + 1
	// Absent: there are none. The name does not exist (NXDOMAIN), has none of this type, or the
	// server does not know the type (NOTIMP).
	Absent
	// Unavailable, for SRV alone: the service is decidedly not available (RFC 2782, Target), or
	// there is nothing but bad records, which [Answer.Dropped] then holds.
	Unavailable
)

// String returns "found", "absent" or "unavailable".
func (o Outcome) String() string {
	switch o {
	case Found:
		return "found"
	case Absent:
		return "absent"
	case Unavailable:
		return "unavailable"
	}
	return "outcome " + strconv.Itoa(int(o))
}

// A Record is a good SRV record: a port other than 0 and the name of a host.
type Record struct {
	Target   string // a host name as received, without the trailing dot
	Port     uint16
	Priority uint16 // lower ones are tried first
	Weight   uint16 // share among those of the same priority
}

// Why a record was dropped.
const (
	DropPort      = "port 0"
	DropRoot      = `target "." among others`
	DropAddress   = "target is an IP address or ends in a number"
	DropName      = "target is not a host name"
	DropDuplicate = "same target and port as another record"
	DropExcess    = "too many records"
)

// Dropped is a record that was left out of an answer, and why.
type Dropped struct {
	Record Record // its Target in the form of zone files: odd bytes are escaped (RFC 1035, 5.1)
	Reason string // one of the Drop constants
}

// An Answer is what came back for one question, with the evidence.
type Answer struct {
	Name    string // as asked, in lower case and without a trailing dot
	Type    Type
	Outcome Outcome

	// Records are the good SRV records, at most MaxRecords, by priority, then the heavier one,
	// then target and port, however the server shuffled them. [Order] puts them in an order to
	// try them in.
	Records []Record
	// Addrs are the addresses, at most MaxAddrs, in the order received, without duplicates.
	Addrs []netip.Addr
	// Dropped are SRV records that were left out, at most MaxDropped.
	Dropped []Dropped

	// TTL is how long the answer may be kept. For records it is the smallest one among them and
	// the aliases on the way, from 5 seconds to 24 hours. For none it is that of RFC 2308, 5, from
	// 5 seconds to an hour, and 5 seconds where the server did not say. For the hosts file it is 5
	// seconds.
	TTL time.Duration

	// Canonical is the name at the end of the aliases (CNAME), in lower case; empty if there was
	// no alias.
	Canonical string

	Server        string        // who answered: host:port, or the path of the hosts file
	Network       string        // "udp", "tcp" or "file"
	Rcode         string        // "NOERROR", "NXDOMAIN" or "NOTIMP"
	Authenticated bool          // the server vouches for the signatures (AD); as good as the way to it
	Duration      time.Duration // of the whole look-up
	Tries         []Try         // the exchanges before it that failed
}

// A Try is an exchange with a server that gave no answer.
type Try struct {
	Name     string // what was asked for: the name of the look-up, or an alias of it
	Server   string // host:port
	Network  string // "udp" or "tcp"
	Problem  string // what came back, in a few words
	Rcode    string // the response code, if it was that: "SERVFAIL"
	Err      error  // the error of the network, if it was that
	Duration time.Duration
}

// LookupSRV asks for the SRV records of name, as "_matrix-fed._tcp.example.org". The error is an
// [*Error]: no server gave an answer, ctx ended, or name is no DNS name.
func (c *Client) LookupSRV(ctx context.Context, name string) (*Answer, error) {
	short, ok := cleanName(name)
	if !ok {
		return nil, &Error{Name: printable.Line(name), Type: TypeSRV, Err: ErrName}
	}
	return c.lookup(ctx, short, TypeSRV)
}

// LookupAddrs looks for the addresses of host of one family, typ is [TypeA] or [TypeAAAA], in the
// hosts file and in the DNS. The error is an [*Error], as that of [Client.LookupSRV]. An IP address
// is no host.
func (c *Client) LookupAddrs(ctx context.Context, host string, typ Type) (*Answer, error) {
	name, ok := cleanName(host)
	switch {
	case typ != TypeA && typ != TypeAAAA:
		return nil, &Error{Name: printable.Line(host), Type: typ, Err: errType}
	case !ok || endsInNumber(name):
		return nil, &Error{Name: printable.Line(host), Type: typ, Err: ErrName}
	case ctx.Err() != nil:
		return nil, &Error{Name: name, Type: typ, Err: ctx.Err()}
	}
	if a := c.lookupHosts(name, typ); a != nil {
		return a, nil
	}
	return c.lookup(ctx, name, typ)
}

// A lookup is one look-up under way.
type lookup struct {
	chase
	conf  config
	dial  func(ctx context.Context, network, address string) (net.Conn, error)
	first int // the server to begin with
	tries []Try
}

func (c *Client) lookup(ctx context.Context, name string, typ Type) (*Answer, error) {
	begin := time.Now()
	l := &lookup{chase: newChase(name, typ), conf: c.config(), dial: c.Dial}
	if l.dial == nil {
		l.dial = new(net.Dialer).DialContext
	}
	if l.conf.rotate {
		l.first = int((c.turn.Add(1) - 1) % uint32(len(l.conf.servers)))
	}
	bounded, cancel := context.WithTimeout(ctx, maxLookup)
	defer cancel()
	for { // once for the name, and once for every alias that leads out of a reply
		done, ok := l.ask(bounded)
		if !ok {
			return nil, l.failed(contextErr(ctx))
		}
		if done {
			a := l.answer
			a.Name, a.Type, a.Tries, a.Duration = name, typ, l.tries, time.Since(begin)
			return &a, nil
		}
	}
}

// ask asks the servers for the name that the chase is at, until one gives a reply that can be used;
// ok tells whether one did, done whether the answer is complete with it.
func (l *lookup) ask(ctx context.Context) (done, ok bool) {
	deadline, _ := ctx.Deadline()
	n := len(l.conf.servers)
	for i := range n * l.conf.attempts {
		left := time.Until(deadline)
		if ctx.Err() != nil || left <= 0 {
			return false, false
		}
		at := (l.first + i) % n
		share, cancel := context.WithTimeout(ctx, left/time.Duration(n*l.conf.attempts-i))
		done, ok = l.askServer(share, l.conf.servers[at])
		cancel()
		if ok {
			l.first = at // the next alias is asked of the one that works
			return done, true
		}
	}
	return false, false
}

// askServer asks one server: over UDP, then over TCP if the answer did not fit (RFC 7766, 5), and
// once more without EDNS if the server does not know that (RFC 6891, 7; by RFC 2671, 5.3 it might say
// NOTIMP, which must not be taken for "no such records").
func (l *lookup) askServer(ctx context.Context, server string) (done, ok bool) {
	network, edns := "udp", true
	if l.conf.tcp {
		network = "tcp"
	}
	for {
		begin := time.Now()
		m, err := l.exchange(ctx, network, server, edns)
		plain := edns && err == nil && (m.rcode == rcodeFormErr || m.rcode == rcodeNotImp)
		switch {
		case err != nil:
		case m.truncated && network == "udp":
			network = "tcp"
			continue
		case m.truncated:
			err = problem("truncated answer over TCP")
		case plain:
			err = rcodeError(m.rcodeName)
		default:
			if done, err = l.read(m); err == nil {
				l.answer.Server, l.answer.Network = server, network
				return done, true
			}
		}
		l.tries = append(l.tries, newTry(Try{Name: l.name, Server: server, Network: network, Duration: time.Since(begin)}, err))
		if !plain {
			return false, false
		}
		edns = false
	}
}

// exchange sends one query and waits for its reply, for the time that one server is given.
func (l *lookup) exchange(ctx context.Context, network, server string, edns bool) (*message, error) {
	ctx, cancel := context.WithTimeout(ctx, l.conf.timeout)
	defer cancel()
	conn, err := l.dial(ctx, network, server)
	if err == nil {
		// Closing it is not enough: the deadline wakes a Read of any net.Conn.
		stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
		defer conn.Close()
		defer stop()
		var m *message
		if m, err = roundTrip(conn, network, question{l.name, l.typ}, edns); err == nil {
			return m, nil
		}
	}
	if ended := ctx.Err(); ended != nil { // whatever the connection calls it
		return nil, ended
	}
	return nil, err
}

// contextErr is why ctx ended. A deadline that has passed counts before the timer has rung.
func contextErr(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d, ok := ctx.Deadline(); ok && time.Until(d) <= 0 {
		return context.DeadlineExceeded
	}
	return nil
}

// cleanName returns name in lower case and without a trailing dot, and whether a host or a service
// can have it: labels of 1 to 63 letters, digits, hyphens and underscores (RFC 1123, 2.1; RFC 2782 for
// the underscore), at most 253 bytes (RFC 1035, 2.3.4, less the two that are never written).
func cleanName(name string) (string, bool) {
	name = strings.TrimSuffix(name, ".")
	if len(name) > 253 {
		return "", false
	}
	for label := range strings.SplitSeq(name, ".") {
		if len(label) < 1 || len(label) > 63 {
			return "", false
		}
		for _, b := range []byte(label) {
			if !('a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || b == '-' || b == '_') {
				return "", false
			}
		}
	}
	return strings.ToLower(name), true
}

// endsInNumber tells whether the last label is all digits. No host has such a name: it is, or looks
// like, an IPv4 address (RFC 1123, 2.1; RFC 3696, 2).
func endsInNumber(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	return last != "" && strings.Trim(last, "0123456789") == ""
}
