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
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"
)

const (
	// grace is how long requests under way may take when the server stops.
	grace = 10 * time.Second

	// What comes before a request's body: clients send it at once.
	headerTimeout  = 10 * time.Second
	idleTimeout    = time.Minute
	maxHeaderBytes = 64 << 10

	// maxConns bounds the connections of clients, at some 20 KiB each. More wait
	// in the kernel's queue, so that there are files left for what the server
	// itself connects to.
	maxConns = 4096
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

// serveHTTP serves until ctx ends, calls closing, which may be nil, and lets the
// requests under way finish. server has its Handler and what is its own.
func (a *app) serveHTTP(ctx context.Context, server *http.Server, address string, pair []tls.Certificate, closing func(context.Context) error) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	server.ReadHeaderTimeout, server.IdleTimeout, server.MaxHeaderBytes = headerTimeout, idleTimeout, maxHeaderBytes
	server.ErrorLog = log.New(io.Discard, "", 0) // what strangers send is no news
	scheme, serve := "http", server.Serve
	if pair != nil {
		scheme = "https"
		server.TLSConfig = &tls.Config{Certificates: pair, MinVersion: tls.VersionTLS12}
		serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
	}
	a.log("listening on " + scheme + "://" + listener.Addr().String())
	ended := make(chan error, 1)
	go func() { ended <- serve(limit(listener, maxConns)) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	late, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if closing != nil {
		closing(late)
	}
	if err := server.Shutdown(late); errors.Is(err, context.DeadlineExceeded) {
		server.Close() // it has had its time
	}
	return nil
}

// limitedListener accepts no connection while as many are open as there are
// places.
type limitedListener struct {
	net.Listener
	places  chan struct{}
	closing sync.Once
	closed  chan struct{}
}

func limit(l net.Listener, conns int) *limitedListener {
	return &limitedListener{Listener: l, places: make(chan struct{}, conns), closed: make(chan struct{})}
}

func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &limitedConn{Conn: conn, leave: func() { <-l.places }}, nil
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
