package check

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"mxdiscover/internal/dial"
	"mxdiscover/internal/printable"
	"mxdiscover/wellknown"
)

// otherPaths are where the document has been seen instead: what web servers make
// of the name when they want a directory, an extension or a short way.
var otherPaths = [...]string{
	wellknown.ServerPath + "/",
	wellknown.ServerPath + ".json",
	"/.well-known/matrix/server/index.html",
	"/matrix/server",
}

func wellKnownQuery(host string) string { return "GET https://" + host + wellknown.ServerPath }

// askWellKnown asks every address of the host for its document.
func (k *run) askWellKnown(ctx context.Context, host string) {
	located := k.resolver.Locate(ctx, host, 443)
	if located.Err != nil && ctx.Err() == nil {
		k.nobody = located
	}
	var list []netip.AddrPort
	count := make(map[bool]int)
	for _, a := range located.Addresses {
		if count[a.Addr().Is4()]++; count[a.Addr().Is4()] <= maxFamily {
			list = append(list, a)
		}
	}
	k.report.WellKnown = make([]WellKnown, len(list))
	var wg sync.WaitGroup
	var probed atomic.Bool
	for i, at := range list {
		// Until it is known; and for good if the time is up, or a function of the caller's panics.
		k.report.WellKnown[i] = WellKnown{Address: at, Hops: []Hop{}, Error: cutOff(), slip: slip{code: codeCut}}
		k.spawn(&wg, func() {
			if !k.enter(ctx) {
				return
			}
			defer k.leave()
			w, fetcher := k.document(ctx, host, at)
			if w.Error != nil && w.Error.Code == string(wellknown.NotFound) && len(w.Hops) == 1 && probed.CompareAndSwap(false, true) {
				w.Probes = k.elsewhere(ctx, fetcher, host)
			}
			k.report.WellKnown[i] = w
			k.events.send(Event{Kind: EventWellKnown, WellKnown: &w})
		})
	}
	wg.Wait()
}

// document asks one address for the document of a host.
func (k *run) document(ctx context.Context, host string, at netip.AddrPort) (WellKnown, *wellknown.Fetcher) {
	var (
		mu   sync.Mutex
		last *TLS
	)
	fetcher := k.resolver.Fetcher()
	anywhere := fetcher.DialTLS
	fetcher.DialTLS = func(ctx context.Context, to string, port uint16, config *tls.Config) (net.Conn, netip.AddrPort, error) {
		var (
			began = time.Now()
			conn  net.Conn
			addr  = at
			err   error
		)
		if to == host && port == 443 {
			conn, err = k.dialTLS(ctx, host, at, config)
		} else { // a redirect leads elsewhere
			conn, addr, err = anywhere(ctx, to, port, config)
		}
		seen := k.proved(conn, config.ServerName, err, since(began))
		mu.Lock()
		last = seen
		mu.Unlock()
		return conn, addr, err
	}
	w := k.fetched(ctx, fetcher, host)
	w.Address = at
	mu.Lock()
	defer mu.Unlock()
	w.TLS, last = last, nil
	return w, fetcher
}

// fetched is the document of a host, as a fetcher gets it.
func (k *run) fetched(ctx context.Context, fetcher *wellknown.Fetcher, host string) WellKnown {
	server, reply, err := fetcher.Server(ctx, host)
	w := WellKnown{Duration: Duration(reply.Duration), Hops: make([]Hop, len(reply.Hops))}
	for i, h := range reply.Hops {
		w.Hops[i] = Hop{URL: printable.Line(h.URL), Address: h.Addr, Status: h.Status, Location: printable.Line(h.Location), Duration: Duration(h.Duration)}
		if i < len(reply.Headers) {
			w.Hops[i].ContentType = printable.Line(reply.Headers[i].Get("Content-Type"))
		}
	}
	var failed *wellknown.Error
	switch {
	case errors.As(err, &failed):
		w.Error = &Problem{Code: string(failed.Code), Message: printable.Line(failed.Detail)}
		w.slip = slipIn(failed, reply.Body)
		switch {
		case ctx.Err() != nil:
			w.slip.code = codeCut
		case noRoute(err):
			w.slip.code = codeNoRoute
		}
	case err != nil:
		w.Error = &Problem{Code: string(wellknown.ConnectFailed), Message: printable.Line(err.Error())}
	default:
		w.Server = server
		w.Lifetime = Duration(wellknown.Lifetime(reply.Header, reply.At, 0))
		w.stated = statedLife(reply.Header)
	}
	return w
}

// statedLife is what a header says of how long an answer counts.
func statedLife(h http.Header) string {
	for _, name := range []string{"Cache-Control", "Expires"} {
		if value := h.Get(name); value != "" {
			return name + ": " + short(value)
		}
	}
	return "no Cache-Control"
}

// dialTLS connects to one address of the well-known host.
func (k *run) dialTLS(ctx context.Context, host string, at netip.AddrPort, config *tls.Config) (net.Conn, error) {
	raw, err := k.resolver.DialAddr(ctx, host, 443, at)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		failed := &dial.Error{Host: host, Port: 443, Kind: dial.TLSFailed, Addr: at, Err: err}
		if ctx.Err() != nil {
			failed.Kind, failed.Handshaking = dial.TimedOut, true
		}
		return nil, failed
	}
	return conn, nil
}

// elsewhere looks for the document at the paths where it should not be.
func (k *run) elsewhere(ctx context.Context, fetcher *wellknown.Fetcher, host string) []Probe {
	probes := make([]Probe, len(otherPaths))
	var wg sync.WaitGroup
	for i, path := range otherPaths {
		k.spawn(&wg, func() {
			began := time.Now()
			p := Probe{Kind: ProbePath, Query: "GET https://" + host + path, Value: path}
			reply, err := fetcher.Get(ctx, "https://"+host+path)
			p.Status, p.Duration = reply.Status, since(began)
			if err == nil {
				var server string
				server, err = wellknown.ParseServer(reply.Body)
				p.Detail = "m.server = " + server
			}
			if p.Matrix = err == nil; err != nil {
				p.Detail = printable.Line(err.Error())
			}
			probes[i] = p
		})
	}
	wg.Wait()
	return probes
}

// askDelegate asks the delegated host for a document of its own.
func (k *run) askDelegate(ctx context.Context, host string) {
	if !k.enter(ctx) {
		return
	}
	defer k.leave()
	w := k.fetched(ctx, k.resolver.Fetcher(), host)
	if n := len(w.Hops); n > 0 {
		w.Address = w.Hops[0].Address
	}
	k.report.Delegate = &w
}
