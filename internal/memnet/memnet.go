// Package memnet is a network in memory with a latency, for tests in virtual time.
//
// It owns addresses, streams and datagrams, and nothing of what is spoken over them. Waiting is
// done on channels and timers alone, which the caller's goroutine makes for itself, so that inside a
// bubble of testing/synctest a wait of a minute costs nothing. The package starts no goroutine.
//
// Streams behave as TCP does where it matters to a test: bytes arrive in order and after the
// latency, a reader that does not read stops its writer, the end of a stream and a reset are seen
// after the bytes before them, a dial takes one round trip. Datagrams may be lost only to a full
// queue or to [Network.Drop].
package memnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// maxBuffered is what one direction of a stream holds before its writer waits: the usual
	// first window of TCP.
	maxBuffered = 64 << 10
	// maxBacklog is how many streams wait to be accepted: the old SOMAXCONN of Linux.
	maxBacklog = 128
	// maxDatagrams is how many datagrams wait to be read: roughly what the default receive
	// buffer of Linux holds of small ones. What comes after that is lost.
	maxDatagrams = 256
	// maxDatagram is the largest payload of UDP over IPv4 (RFC 768; 65535 less 20 and 8).
	maxDatagram = 65507
	// The range that IANA leaves for ephemeral ports (RFC 6335, 6).
	firstEphemeral, lastEphemeral = 49152, 65535
)

// A Network is a set of addresses that can reach each other. The zero value is an empty network
// without latency. A Network must not be copied after first use.
type Network struct {
	// Latency is the time that anything takes from one address to another, one way. It must not
	// change after the first use. If zero, everything arrives at once.
	Latency time.Duration

	mu        sync.Mutex
	listeners map[netip.AddrPort]*listener
	packets   map[netip.AddrPort]*packetConn
	dropped   map[netip.AddrPort]bool
	ephemeral uint16
}

// Listen accepts streams at addr, an IP address and port. Port 0 takes a free port.
// An address in use is EADDRINUSE.
func (n *Network) Listen(addr string) (net.Listener, error) {
	at, err := parse("tcp", addr)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if at.Port() == 0 {
		at = n.freeLocked(at.Addr())
	}
	if n.listeners[at] != nil {
		return nil, opError("listen", "tcp", nil, net.TCPAddrFromAddrPort(at), os.NewSyscallError("bind", syscall.EADDRINUSE))
	}
	l := &listener{net: n, at: at, queue: make(chan *conn, maxBacklog), done: make(chan struct{})}
	if n.listeners == nil {
		n.listeners = make(map[netip.AddrPort]*listener)
	}
	n.listeners[at] = l
	return l, nil
}

// ListenPacket receives datagrams at addr, an IP address and port. Port 0 takes a free port.
// An address in use is EADDRINUSE.
func (n *Network) ListenPacket(addr string) (net.PacketConn, error) {
	at, err := parse("udp", addr)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if at.Port() == 0 {
		at = n.freeLocked(at.Addr())
	}
	if n.packets[at] != nil {
		return nil, opError("listen", "udp", nil, net.UDPAddrFromAddrPort(at), os.NewSyscallError("bind", syscall.EADDRINUSE))
	}
	return n.openLocked(at), nil
}

// Drop makes a black hole of addr: dials to it wait until their context ends, datagrams to it
// vanish. What is already connected stays so.
func (n *Network) Drop(addr string) {
	at, err := parse("ip", addr)
	if err != nil {
		return // no address: nothing can be sent to it
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dropped == nil {
		n.dropped = make(map[netip.AddrPort]bool)
	}
	n.dropped[at] = true
}

// DialContext connects to addr, an IP address and port; names are not looked up. It fits the field
// of the same name in [net/http.Transport].
//
// For a network that begins with "tcp" the result is a stream, made after one round trip; where
// nobody listens the error is ECONNREFUSED, also after one. For a network that begins with "udp" the
// result is at once there and is also a [net.PacketConn]; where nobody listens, a Read after a Write
// fails with ECONNREFUSED. Streams have a method Reset() error beside those of [net.Conn]: the peer
// sees ECONNRESET after the bytes that were sent.
func (n *Network) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	to, err := parse(network, addr)
	if err != nil {
		return nil, err
	}
	switch {
	case strings.HasPrefix(network, "tcp"):
		return n.dialStream(ctx, network, to)
	case strings.HasPrefix(network, "udp"):
		if err := ctx.Err(); err != nil {
			return nil, opError("dial", network, nil, net.UDPAddrFromAddrPort(to), err)
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		p := n.openLocked(n.freeLocked(clientAddr(to)))
		p.peer = to
		return p, nil
	default:
		return nil, opError("dial", network, nil, nil, net.UnknownNetworkError(network))
	}
}

func (n *Network) dialStream(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	remote := net.TCPAddrFromAddrPort(to)
	fail := func(err error) (net.Conn, error) {
		return nil, opError("dial", network, nil, remote, err)
	}
	refused := func() (net.Conn, error) {
		if err := sleep(ctx, n.Latency); err != nil {
			return fail(err)
		}
		return fail(os.NewSyscallError("connect", syscall.ECONNREFUSED))
	}
	if err := sleep(ctx, n.Latency); err != nil { // SYN
		return fail(err)
	}
	n.mu.Lock()
	dropped, l := n.dropped[to], n.listeners[to]
	from := n.freeLocked(clientAddr(to))
	n.mu.Unlock()
	if dropped {
		<-ctx.Done()
		return fail(ctx.Err())
	}
	if l == nil {
		return refused()
	}
	local := net.TCPAddrFromAddrPort(from)
	up, down := &half{latency: n.Latency}, &half{latency: n.Latency}
	client := &conn{in: down, out: up, local: local, remote: remote}
	server := &conn{in: up, out: down, local: remote, remote: local}
	select {
	case l.queue <- server:
	case <-l.done:
		return refused()
	case <-ctx.Done(): // a full backlog: the kernel ignores the SYN
		return fail(ctx.Err())
	}
	if l.closed() {
		l.drain()
	}
	if err := sleep(ctx, n.Latency); err != nil { // SYN and ACK
		client.Reset()
		return fail(err)
	}
	return client, nil
}

// clientAddr is the address that dials come from.
func clientAddr(to netip.AddrPort) netip.Addr {
	if to.Addr().Is4() {
		return netip.AddrFrom4([4]byte{192, 0, 2, 1})
	}
	return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 1})
}

// freeLocked picks the next ephemeral port that nobody listens at. Streams of clients are not
// counted: their address is for show.
func (n *Network) freeLocked(a netip.Addr) netip.AddrPort {
	for range lastEphemeral - firstEphemeral + 1 {
		if n.ephemeral < firstEphemeral || n.ephemeral == lastEphemeral {
			n.ephemeral = firstEphemeral
		} else {
			n.ephemeral++
		}
		at := netip.AddrPortFrom(a, n.ephemeral)
		if n.packets[at] == nil && n.listeners[at] == nil {
			return at
		}
	}
	return netip.AddrPortFrom(a, n.ephemeral) // all taken: the later one wins, as good as any
}

func (n *Network) openLocked(at netip.AddrPort) *packetConn {
	p := &packetConn{net: n, at: at}
	if n.packets == nil {
		n.packets = make(map[netip.AddrPort]*packetConn)
	}
	n.packets[at] = p
	return p
}

func parse(network, addr string) (netip.AddrPort, error) {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return at, opError("dial", network, nil, nil, &net.AddrError{Err: "memnet: not an IP address and port", Addr: fmt.Sprintf("%q", addr)})
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), nil
}

func opError(op, network string, source, addr net.Addr, err error) error {
	return &net.OpError{Op: op, Net: network, Source: source, Addr: addr, Err: err}
}

func sleep(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil || d <= 0 {
		return err
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

type listener struct {
	net   *Network
	at    netip.AddrPort
	queue chan *conn
	done  chan struct{}
	once  sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	if !l.closed() {
		select {
		case c := <-l.queue:
			return c, nil
		case <-l.done:
		}
	}
	return nil, opError("accept", "tcp", nil, l.Addr(), net.ErrClosed)
}

// Close ends Accept and resets the streams that were not accepted.
func (l *listener) Close() error {
	err := opError("close", "tcp", nil, l.Addr(), net.ErrClosed)
	l.once.Do(func() {
		l.net.mu.Lock()
		if l.net.listeners[l.at] == l {
			delete(l.net.listeners, l.at)
		}
		l.net.mu.Unlock()
		close(l.done)
		l.drain()
		err = nil
	})
	return err
}

func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.at) }

func (l *listener) closed() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

func (l *listener) drain() {
	for {
		select {
		case c := <-l.queue:
			c.Reset()
		default:
			return
		}
	}
}

// A gate is a lock with which to wait for a change or for a point in time.
type gate struct {
	sync.Mutex
	changed chan struct{}
}

// broadcast wakes every waiter. The lock is held.
func (g *gate) broadcast() {
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}

// wait returns after a broadcast, or at until if that is not zero. The lock is held, and given
// up while it waits.
func (g *gate) wait(until time.Time) {
	if g.changed == nil {
		g.changed = make(chan struct{})
	}
	changed := g.changed
	g.Unlock()
	defer g.Lock()
	if until.IsZero() {
		<-changed
		return
	}
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case <-changed:
	case <-t.C:
	}
}

// passed tells whether the point in time is there; the zero time never is.
func passed(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

// earlier is the earlier of two points in time, where zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
