package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"
)

const (
	// grace is how long requests under way may take when the server stops.
	grace = 10 * time.Second

	// farewell is the end of it, in which those who still wait are told that they
	// wait in vain. A connection that was closed without a word is asked again.
	farewell = 2 * time.Second

	// What comes before a request's body: clients send it at once.
	headerTimeout  = 10 * time.Second
	idleTimeout    = time.Minute
	maxHeaderBytes = 64 << 10

	// maxConns bounds the connections of clients, at some 20 KiB each. More wait
	// in the kernel's queue, so that there are files left for what the server
	// itself connects to.
	maxConns = 4096

	// maxConnsOfAddress is how many of them one address of the internet may have, or
	// the /64 that one host has of IPv6: with all of them it would lock everybody out,
	// and a browser has six. Proxies that are named, and those on the same machine or in a
	// private network, have as many as they want.
	maxConnsOfAddress = 128
)

// webFlags are those of the verbs that serve.
type webFlags struct {
	listen, cert, key string
	trust             []string
}

func (f *webFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.cert, "tls-cert", "", "serve https with the certificate in this `FILE`")
	flags.StringVar(&f.key, "tls-key", "", "the key of the certificate, a `FILE`")
	flags.StringArrayVar(&f.trust, "trust-forwarded-for", nil, "believe X-Forwarded-For of proxies in this network;\n`CIDR` may be repeated")
}

// fit breaks the usages of flags so that help has no line longer than a terminal
// shows: the longest flag decides where they begin.
func fit(flags *pflag.FlagSet) {
	const before, gap = len("      --"), len("   ")
	longest := 0
	flags.VisitAll(func(f *pflag.Flag) {
		if value, _ := pflag.UnquoteUsage(f); !f.Hidden {
			longest = max(longest, before+len(f.Name+" "+value)+gap)
		}
	})
	flags.VisitAll(func(f *pflag.Flag) {
		after := 0 // what pflag puts behind the last line
		if f.Value.Type() == "string" && f.DefValue != "" {
			after = len(fmt.Sprintf(" (default %q)", f.DefValue))
		}
		text := strings.ReplaceAll(f.Usage, "\n", " ")
		for room := width - longest; room > 0; room-- {
			lines := wrap(text, room)
			f.Usage = strings.Join(lines, "\n")
			if len(lines[len(lines)-1])+after <= width-longest {
				return
			}
		}
	})
}

// pair reads the certificate, if there is one.
func (f *webFlags) pair() ([]tls.Certificate, error) {
	switch {
	case (f.cert == "") != (f.key == ""):
		return nil, usagef("--tls-cert and --tls-key belong together")
	case f.cert == "":
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return nil, usagef("--tls-cert: %w", err)
	}
	return []tls.Certificate{cert}, nil
}

// networks reads the values of a flag.
func networks(flag string, list []string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for _, cidr := range list {
		network, err := netip.ParsePrefix(cidr)
		if err != nil {
			return nil, usagef("%s %q is not a network such as 10.0.0.0/8", flag, cidr)
		}
		prefixes = append(prefixes, network)
	}
	return prefixes, nil
}

// A site is where and how something is served.
type site struct {
	address   string
	pair      []tls.Certificate           // for https; http if nil
	ofAddress int                         // connections of one address of the internet; 0 for any number
	proxies   []netip.Prefix              // which have as many as they want
	closing   func(context.Context) error // what to do first at the end; may be nil
}

// serveHTTP serves until ctx ends, and lets the requests under way finish. server
// has its Handler and what is its own.
func (a *app) serveHTTP(ctx context.Context, server *http.Server, at site) error {
	listener, err := net.Listen("tcp", at.address)
	if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	server.ReadHeaderTimeout, server.IdleTimeout, server.MaxHeaderBytes = headerTimeout, idleTimeout, maxHeaderBytes
	server.ErrorLog = log.New(io.Discard, "", 0) // what strangers send is no news
	scheme, serve := "http", server.Serve
	if at.pair != nil {
		scheme = "https"
		server.TLSConfig = &tls.Config{Certificates: at.pair, MinVersion: tls.VersionTLS12}
		serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
	}
	a.log("listening on " + scheme + "://" + listener.Addr().String())
	ended := make(chan error, 1)
	go func() { ended <- serve(limit(listener, maxConns, at.ofAddress, at.proxies)) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	late, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if at.closing != nil {
		told, done := context.WithTimeout(late, grace-farewell)
		defer done()
		at.closing(told)
	}
	if err := server.Shutdown(late); errors.Is(err, context.DeadlineExceeded) {
		server.Close() // it has had its time
	}
	return nil
}

// limitedListener accepts no connection while as many are open as there are
// places, and ends those of an address that has too many.
type limitedListener struct {
	net.Listener
	places    chan struct{}
	ofAddress int            // if 0, any number
	proxies   []netip.Prefix // whose connections are not counted
	closing   sync.Once
	closed    chan struct{}

	mu   sync.Mutex
	from map[netip.Prefix]int // open connections that are counted
}

func limit(l net.Listener, conns, ofAddress int, proxies []netip.Prefix) *limitedListener {
	return &limitedListener{
		Listener: l, places: make(chan struct{}, conns), ofAddress: ofAddress, proxies: proxies,
		closed: make(chan struct{}), from: make(map[netip.Prefix]int),
	}
}

func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			<-l.places
			return nil, err
		}
		origin := l.originOf(conn)
		if !l.enter(origin) {
			conn.Close()
			continue
		}
		return &limitedConn{Conn: conn, leave: func() {
			l.leave(origin)
			<-l.places
		}}, nil
	}
}

// originOf is what connections are counted by; it is not valid if they are not.
func (l *limitedListener) originOf(conn net.Conn) netip.Prefix {
	at, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	addr := at.Addr().Unmap().WithZone("")
	if l.ofAddress == 0 || err != nil || addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast() ||
		slices.ContainsFunc(l.proxies, func(p netip.Prefix) bool { return p.Contains(addr) }) {
		return netip.Prefix{}
	}
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	origin, _ := addr.Prefix(bits)
	return origin
}

func (l *limitedListener) enter(origin netip.Prefix) bool {
	if !origin.IsValid() {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.from[origin] >= l.ofAddress {
		return false
	}
	l.from[origin]++
	return true
}

func (l *limitedListener) leave(origin netip.Prefix) {
	if !origin.IsValid() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.from[origin]--; l.from[origin] == 0 {
		delete(l.from, origin)
	}
}

func (l *limitedListener) Close() error {
	l.closing.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// limitedConn gives its place back when it is closed.
type limitedConn struct {
	net.Conn
	closing sync.Once
	leave   func()
}

func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.closing.Do(c.leave)
	return err
}
