package world

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http2"

	"mxdiscover/internal/memnet"
	"mxdiscover/internal/printable"
)

// maxAsked bounds the log: a world that is served for days must not fill the memory. What comes
// later is not kept.
const maxAsked = 1 << 16

// A Net is where a world's servers listen: [Loopback] or [Memory].
type Net interface {
	// listen and listenPacket take the address in the world. The string says where it really is.
	listen(at netip.AddrPort) (net.Listener, string, error)
	// listenDNS takes the same port for both.
	listenDNS(at netip.AddrPort) (net.PacketConn, net.Listener, error)
	// dial takes the address in the world and the one that listen gave.
	dial(ctx context.Context, network string, at netip.AddrPort, mapped string) (net.Conn, error)
	// unserved fails as a dial does where nobody listens.
	unserved(ctx context.Context, network string, at netip.AddrPort) (net.Conn, error)
}

// Loopback listens on free ports of 127.0.0.1.
type Loopback struct{}

// Memory listens on the addresses of the world itself, in a network that exists in memory. The
// DNS servers are at 192.0.2.53:53, 192.0.2.54:53 and so on. If Network is nil, every world has one
// of its own without latency.
type Memory struct{ Network *memnet.Network }

// A World is a scene that runs. All methods may be called at any time from any goroutine.
type World struct {
	current   atomic.Pointer[Scene]
	net       Net
	started   time.Time
	endpoints map[netip.AddrPort]*endpoint
	dns       []string
	closers   []io.Closer
	ctx       context.Context
	cancel    context.CancelFunc
	accepted  chan net.Conn
	http      *http.Server

	ca, stranger *issuer
	middle       *issuer // under ca
	leafKey      *ecdsa.PrivateKey

	mu         sync.Mutex
	certs      map[string]*tls.Certificate
	serial     int64
	asked      []string
	faultCount map[*dnsFault]int
	replyCount map[*reply]int // by the first of its sequence
	coming     map[*endpoint]int
	conns      map[*conn]bool
	handle     Handler
	busy       int // goroutines, open connections, requests
	closed     bool
	idle       sync.Cond
}

// Start runs the scene until Close. Times in the file count from now on.
func (s *Scene) Start(n Net) (*World, error) {
	if m, ok := n.(Memory); ok && m.Network == nil {
		n = Memory{new(memnet.Network)}
	}
	w := &World{
		net: n, started: time.Now(),
		endpoints: make(map[netip.AddrPort]*endpoint),
		accepted:  make(chan net.Conn),

		certs:      make(map[string]*tls.Certificate),
		serial:     1,
		faultCount: make(map[*dnsFault]int),
		replyCount: make(map[*reply]int),
		coming:     make(map[*endpoint]int),
		conns:      make(map[*conn]bool),
	}
	w.current.Store(s)
	w.idle.L = &w.mu
	w.ctx, w.cancel = context.WithCancel(context.Background())
	if err := w.start(); err != nil {
		w.Close()
		return nil, fmt.Errorf("world %s: %w", s.name, err)
	}
	return w, nil
}

func (w *World) start() (err error) {
	if w.ca, err = newIssuer("world CA", nil); err != nil {
		return err
	}
	if w.stranger, err = newIssuer("stranger CA", nil); err != nil {
		return err
	}
	if w.middle, err = newIssuer("world intermediate CA", w.ca); err != nil {
		return err
	}
	if w.leafKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	for i := range w.scene().options.Servers {
		pc, l, err := w.net.listenDNS(netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(53 + i)}), 53))
		if err != nil {
			return err
		}
		w.closers = append(w.closers, pc, l)
		w.dns = append(w.dns, pc.LocalAddr().String())
		w.spawn(func() { w.serveUDP(i+1, pc) })
		w.accept(l, nil, func(c *conn) { w.serveTCP(i+1, c) })
	}
	for _, at := range w.scene().endpoints {
		e := &endpoint{at: at}
		w.endpoints[at] = e
		l, mapped, err := w.net.listen(at)
		if err != nil {
			return err
		}
		e.mapped = mapped
		if w.scene().alwaysRefused(at) {
			l.Close() // the port is known now, and nobody listens
			continue
		}
		e.listener = l
		w.closers = append(w.closers, l)
		w.accept(l, e, func(c *conn) { w.serveConn(e, c) })
	}
	w.http = &http.Server{
		Handler: handler{w},
		// The listener gives connections that speak TLS already; this says that HTTP/2 is wanted.
		TLSConfig:         &tls.Config{NextProtos: []string{"h2", "http/1.1"}},
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          log.New(io.Discard, "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if t, ok := c.(*tls.Conn); ok {
				c = t.NetConn()
			}
			if t, ok := c.(*conn); ok {
				ctx = context.WithValue(ctx, endpointKey{}, t.endpoint)
			}
			return ctx
		},
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				w.count(1)
			case http.StateClosed, http.StateHijacked:
				w.count(-1)
			}
		},
	}
	// Before Go 1.26 the HTTP/2 of net/http shares channels between its servers,
	// which worlds in virtual time cannot (testing/synctest).
	if err := http2.ConfigureServer(w.http, nil); err != nil {
		return err
	}
	w.spawn(func() { w.http.Serve(connQueue{w}) })
	return nil
}

// alwaysRefused tells whether the file lets nobody listen at an address at any time.
func (s *Scene) alwaysRefused(at netip.AddrPort) bool {
	if len(s.servers) == 0 || s.servers[0].from > 0 {
		return false
	}
	for _, p := range s.servers {
		if p.v[at].fault != "refuse" {
			return false
		}
	}
	return true
}

// Close stops every server, ends every connection, and returns when all is done. A second Close
// does nothing.
func (w *World) Close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	w.closed = true
	open := make([]*conn, 0, len(w.conns))
	for c := range w.conns {
		open = append(open, c)
	}
	w.mu.Unlock()
	w.cancel()
	var errs []error
	for _, c := range w.closers {
		if err := c.Close(); err != nil {
			errs = append(errs, err)
		}
	}
	if w.http != nil {
		w.http.Close()
	}
	for _, c := range open {
		c.Close()
	}
	w.mu.Lock()
	for w.busy > 0 {
		w.idle.Wait()
	}
	w.mu.Unlock()
	return errors.Join(errs...)
}

// scene is what holds now.
func (w *World) scene() *Scene { return w.current.Load() }

// Change makes the world that of s from now on; times in s count from the start of the world.
// Connections that are open stay so. An address and port that s serves must have been served since
// the start, and the number of DNS servers stays as it is.
func (w *World) Change(s *Scene) error {
	for _, at := range s.endpoints {
		if e := w.endpoints[at]; (e == nil || e.listener == nil) && !s.alwaysRefused(at) {
			return fmt.Errorf("world %s: %v has not been served since the start", s.name, at)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.current.Store(s)
	// They belong to the lines of the scene that has ended.
	clear(w.faultCount)
	clear(w.replyCount)
	return nil
}

// A Handler answers a request that reached the server at an address and port of the world. It
// returns false to leave the answer to the scene; then it must have written nothing.
type Handler func(rw http.ResponseWriter, req *http.Request, at netip.AddrPort) bool

// Handle has every request given to h first. If h is nil, none is.
func (w *World) Handle(h Handler) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handle = h
}

// Cut resets every connection that is open to the server at an address and port, as a machine does
// that has been started again, and returns their number.
func (w *World) Cut(at netip.AddrPort) int {
	w.mu.Lock()
	var cut []*conn
	for c := range w.conns {
		if c.endpoint != nil && c.endpoint.at == at {
			cut = append(cut, c)
		}
	}
	w.mu.Unlock()
	for _, c := range cut {
		c.reset()
	}
	return len(cut)
}

// Open is how many connections to servers are open. Those to DNS servers do not count.
func (w *World) Open() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for c := range w.conns {
		if c.endpoint != nil {
			n++
		}
	}
	return n
}

// enter counts something that Close has to wait for; false means that it is too late to begin.
func (w *World) enter() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.busy++
	return true
}

func (w *World) leave() { w.count(-1) }

func (w *World) count(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy += n; w.busy == 0 {
		w.idle.Broadcast()
	}
}

func (w *World) spawn(f func()) {
	if w.enter() {
		go func() {
			defer w.leave()
			f()
		}()
	}
}

// sleep returns false when the world ends before.
func (w *World) sleep(d time.Duration) bool {
	if d <= 0 {
		return w.ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-w.ctx.Done():
		return false
	}
}

// accept serves every connection to a listener in a goroutine of its own. The endpoint is nil for
// DNS.
func (w *World) accept(l net.Listener, e *endpoint, serve func(*conn)) {
	w.spawn(func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				if w.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
					return
				}
				w.sleep(time.Millisecond) // no more files, or the client was gone already
				continue
			}
			c := &conn{Conn: raw, w: w, endpoint: e}
			w.mu.Lock()
			late := w.closed
			if !late {
				w.conns[c] = true
			}
			w.mu.Unlock()
			if late {
				raw.Close()
				return
			}
			w.spawn(func() { serve(c) })
		}
	})
}

// A conn is an accepted connection. The world closes those that are still open at its end.
type conn struct {
	net.Conn
	w        *World
	endpoint *endpoint // nil for DNS
}

func (c *conn) Close() error {
	c.w.mu.Lock()
	delete(c.w.conns, c)
	c.w.mu.Unlock()
	return c.Conn.Close()
}

// reset closes so that the peer gets ECONNRESET.
func (c *conn) reset() {
	switch raw := c.Conn.(type) {
	case *net.TCPConn:
		raw.SetLinger(0)
	case interface{ Reset() error }:
		raw.Reset()
	}
	c.Close()
}

// hold takes whatever comes and says nothing, until the peer or the world ends it.
func (c *conn) hold() {
	io.Copy(io.Discard, struct{ io.Reader }{c})
	c.Close()
}

// connQueue gives net/http the connections that got past serveConn.
type connQueue struct{ w *World }

func (q connQueue) Accept() (net.Conn, error) {
	select {
	case c := <-q.w.accepted:
		return c, nil
	case <-q.w.ctx.Done():
		return nil, net.ErrClosed
	}
}

func (q connQueue) Close() error   { return nil }
func (q connQueue) Addr() net.Addr { return &net.TCPAddr{} }

// DNSServers are the addresses of the DNS servers, host:port.
func (w *World) DNSServers() []string { return slices.Clone(w.dns) }

// DNSDial is the dialler for DNSServers, or nil if that of package net will do.
func (w *World) DNSDial() func(ctx context.Context, network, addr string) (net.Conn, error) {
	if m, ok := w.net.(Memory); ok {
		return m.Network.DialContext
	}
	return nil
}

// DialContext connects to an address of the world, such as 203.0.113.10:443. Where nobody listens
// it fails with ECONNREFUSED, where no way leads with ENETUNREACH; a black hole ends with ctx alone.
func (w *World) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	if !strings.HasPrefix(network, "tcp") {
		return fail(net.UnknownNetworkError(network))
	}
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return fail(&net.AddrError{Err: "a world has addresses and ports alone", Addr: strconv.Quote(addr)})
	}
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	e := w.endpoints[at]
	o := w.options(at)
	if e == nil || e.listener == nil || o.fault == "refuse" {
		return w.net.unserved(ctx, network, at)
	}
	if o.fault == "no-route" {
		return fail(os.NewSyscallError("connect", syscall.ENETUNREACH))
	}
	if o.fault == "drop" {
		<-ctx.Done()
		return fail(ctx.Err())
	}
	if o.delay > 0 {
		if err := wait(ctx, o.delay); err != nil {
			return fail(err)
		}
		w.mu.Lock()
		w.coming[e]++
		w.mu.Unlock()
	}
	c, err := w.net.dial(ctx, network, at, e.mapped)
	if err != nil {
		w.arrived(e)
		return nil, err
	}
	return c, nil
}

// arrived takes one back of those that DialContext has announced.
func (w *World) arrived(e *endpoint) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.coming[e] == 0 {
		return false
	}
	w.coming[e]--
	return true
}

func wait(ctx context.Context, d time.Duration) error {
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

func refused(network string, at netip.AddrPort) error {
	return &net.OpError{
		Op: "dial", Net: network, Addr: net.TCPAddrFromAddrPort(at),
		Err: os.NewSyscallError("connect", syscall.ECONNREFUSED),
	}
}

// Roots are the certificate authorities of the world: one.
func (w *World) Roots() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(w.ca.cert)
	return p
}

// Certificate makes one of the world's authority, for servers outside the world that belong to
// it. Names are DNS names and IP addresses.
func (w *World) Certificate(names ...string) (tls.Certificate, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, err := w.issueLocked(serverOptions{}, names)
	if err != nil {
		return tls.Certificate{}, err
	}
	return *c, nil
}

// CAPEM is the certificate authority of the world as a PEM file.
func (w *World) CAPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.ca.cert.Raw})
}

// AllowNets are the networks that stand for public ones in a world, those for documentation (RFC
// 5737, RFC 3849), and those of the option allow-net.
func (w *World) AllowNets() []netip.Prefix {
	return append([]netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, 0}), 24),
		netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, 100, 0}), 24),
		netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, 0}), 24),
		netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8}), 32),
	}, w.scene().options.AllowNets...)
}

// Options are those of the scene.
func (w *World) Options() Options { return w.scene().Options() }

// ConnectTo are the values for curl's option --connect-to with which another program reaches the
// world: one for every host and port that is served, by name and by address, and one for all others, which leads
// nowhere; those that refuse lead to a port where nobody listens. In memory there are none.
func (w *World) ConnectTo() []string {
	if _, ok := w.net.(Memory); ok {
		return nil
	}
	var lines []string
	for _, host := range w.scene().hosts() {
		seen := make(map[uint16]bool)
		for _, a := range w.scene().addresses(host) { // the first address counts, as with curl
			for _, at := range w.scene().endpoints {
				if at.Addr() == a && !seen[at.Port()] {
					seen[at.Port()] = true
					lines = append(lines, authority{host, at.Port()}.String()+":"+w.endpoints[at].mapped)
				}
			}
		}
	}
	for _, at := range w.scene().endpoints {
		lines = append(lines, at.String()+":"+w.endpoints[at].mapped)
	}
	// Anything else leads to a port where nobody listens (tcpmux, RFC 1078), and
	// not out of the world. The first line that fits counts.
	return append(lines, "::127.0.0.1:1")
}

// Asked is what was asked of the world since its start or the last ResetAsked, in order:
// "SRV _matrix._tcp.example.org", "A example.org", "GET https://example.org/.well-known/matrix/server",
// "CONNECT 203.0.113.10:443" for a TCP connection. Names of DNS questions are in lower case and without the
// final dot, the host of a URL is the Host header as it came. Control characters are escaped. At most
// 65536 entries are kept.
func (w *World) Asked() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.asked)
}

// ResetAsked empties what Asked returns.
func (w *World) ResetAsked() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = nil
}

func (w *World) log(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.asked) < maxAsked {
		w.asked = append(w.asked, what)
	}
}

func logName(name string) string {
	if name != "." {
		name = strings.TrimSuffix(name, ".")
	}
	return printable.Line(strings.ToLower(name))
}

func (Loopback) listen(netip.AddrPort) (net.Listener, string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	return l, l.Addr().String(), nil
}

func (Loopback) listenDNS(netip.AddrPort) (net.PacketConn, net.Listener, error) {
	for try := 1; ; try++ {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, nil, err
		}
		pc, err := net.ListenPacket("udp", l.Addr().String())
		if err == nil {
			return pc, l, nil
		}
		l.Close()
		if try == 20 { // the same port is rarely taken for UDP
			return nil, nil, err
		}
	}
}

func (Loopback) dial(ctx context.Context, network string, at netip.AddrPort, mapped string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", mapped)
	if err != nil {
		return nil, err
	}
	return remoteConn{c, net.TCPAddrFromAddrPort(at)}, nil
}

// A remoteConn shows the address in the world, which is what was dialled.
type remoteConn struct {
	net.Conn
	remote net.Addr
}

func (c remoteConn) RemoteAddr() net.Addr { return c.remote }

func (Loopback) unserved(ctx context.Context, network string, at netip.AddrPort) (net.Conn, error) {
	return nil, refused(network, at)
}

func (m Memory) listen(at netip.AddrPort) (net.Listener, string, error) {
	l, err := m.Network.Listen(at.String())
	return l, at.String(), err
}

func (m Memory) listenDNS(at netip.AddrPort) (net.PacketConn, net.Listener, error) {
	l, err := m.Network.Listen(at.String())
	if err != nil {
		return nil, nil, err
	}
	pc, err := m.Network.ListenPacket(at.String())
	if err != nil {
		l.Close()
	}
	return pc, l, err
}

func (m Memory) dial(ctx context.Context, network string, at netip.AddrPort, _ string) (net.Conn, error) {
	return m.Network.DialContext(ctx, network, at.String())
}

func (m Memory) unserved(ctx context.Context, network string, at netip.AddrPort) (net.Conn, error) {
	if err := wait(ctx, 2*m.Network.Latency); err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: net.TCPAddrFromAddrPort(at), Err: err}
	}
	return nil, refused(network, at)
}
