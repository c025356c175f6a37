package resolver

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"

	"mxdiscover/internal/printable"
)

// Transport is an [http.RoundTripper] for the federation: a request for
// matrix-federation://example.org/_matrix/... goes to the server behind
// example.org, with the Host header that discovery gives, once its certificate
// has been proved. The scheme matrix:// does the same.
//
// The zero Transport is ready to use. Its fields are read on first use and must
// not change after it; it must not be copied. It may be used by any number of
// goroutines at once.
//
// # Connections
//
// Connections are kept and shared as [http.Transport] does, HTTP/2 included, by
// all server names that lead to the same Host header, TLS name and targets: a
// thousand names that are delegated to one host share its connections, while
// example.org and example.org:443 do not. Requests that come while the first
// connection to a server is made wait for it; if it speaks HTTP/2 it takes them
// all.
//
// A connection that has to be made is made to the first target that can be
// connected to: SRV targets in an order drawn anew, the addresses of each raced
// as RFC 8305 says, with ten seconds for TCP and TLS together. Refused
// addresses, resets, silence and wrong certificates lead to the next target.
// This ends before a byte of the request is written: a request is never sent to
// a second target. What [http.Transport] repeats at the same one, it repeats here
// too: a request of which nothing was written, one that HTTP/2 says was not
// processed, and one that is idempotent (GET, HEAD, OPTIONS, TRACE, or with an
// Idempotency-Key) when the server closes a kept connection instead of answering;
// with a body only if the request has GetBody.
//
// # Failure
//
// A target that failed is tried after the others, for half a minute and up to
// fifteen. When all have failed, discovery is asked again, at most once in five
// minutes for a server name, and if it then leads elsewhere the same request
// goes there. Else the request ends with a *[ConnectError], and those that come
// within the next second (later up to a minute) end at once with the same,
// [ConnectError.RetryAt] in it. Then one request tries again; the others wait for
// it for a second at most. [Transport.MarkAlive] ends the pause; Resolver.Forget
// does not.
//
// # Traces
//
// A [net/http/httptrace.ClientTrace] in the request's context is told of connections as
// with [http.Transport]; the address in GetConn stands for the destination and
// has a digest in it. DNSStart and DNSDone are called once for each family whose
// addresses are not known; TLSHandshakeStart and TLSHandshakeDone one after the
// other when the handshake is over.
//
// # Redirects and upgrades
//
// A Transport follows none. An [http.Client] does, unless its CheckRedirect
// returns [http.ErrUseLastResponse], which suits the federation. Requests to
// upgrade a connection work only where HTTP/2 is off in Base.
type Transport struct {
	// Resolver finds the servers, and its DialContext, ConnectTo, AllowNets,
	// RootCAs and Logger count for connections to them too. If nil, a zero
	// Resolver of the Transport's own.
	Resolver *Resolver

	// Base gives timeouts, limits, protocols and TLS options; it is copied and
	// not used itself. If nil, one that keeps up to 512 connections for 90
	// seconds, speaks HTTP/2, asks silent HTTP/2 connections for a sign of life
	// after 30 seconds, and takes response headers of up to 256 KiB.
	//
	// Not taken from Base, because they would bypass discovery, the guard or the
	// proof of the name: Dial, DialContext, DialTLS, DialTLSContext, Proxy and
	// what belongs to it, and of TLSClientConfig ServerName and NextProtos. If
	// its RootCAs is nil, that of the Resolver counts. InsecureSkipVerify is
	// obeyed: set it in tests only.
	Base *http.Transport

	once  sync.Once
	ready atomic.Pointer[pool]
}

func (t *Transport) pool() *pool {
	if p := t.ready.Load(); p != nil {
		return p
	}
	t.once.Do(func() {
		r := t.Resolver
		if r == nil {
			r = new(Resolver)
		}
		t.ready.Store(newPool(r, t.Base))
	})
	return t.ready.Load()
}

// RoundTrip sends req to the server that its URL names and returns the
// response. It obeys the contract of [http.RoundTripper]: req is not changed,
// its body is always closed, and Response.Request is req.
//
// The error is an *[Error] if the server name does not resolve or the request
// is no federation request, a *[ConnectError] if no target could be connected
// to, and that of [http.Transport] after that.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := check(req); err != nil {
		closeBody(req)
		return nil, err
	}
	out := newOutgoing(req)
	resp, err := t.pool().send(req, out)
	out.body.release(err != nil)
	if err != nil {
		return nil, err
	}
	resp.Request = req
	return resp, nil
}

// CloseIdleConnections closes the kept connections that are not in use.
func (t *Transport) CloseIdleConnections() { t.pool().http.CloseIdleConnections() }

// MarkAlive says that serverName has just been heard of, such as by a request
// of its own that was authenticated: if it is being left alone after failures,
// that ends now, discovery may be asked again, and answers about it that
// nobody could give are forgotten. It asks nothing itself, and does nothing for a
// name without failures.
func (t *Transport) MarkAlive(serverName string) { t.pool().markAlive(serverName) }

func check(req *http.Request) error {
	switch {
	case req.URL == nil:
		return &Error{Code: InvalidRequest, Detail: "the request has no URL"}
	case req.Header == nil:
		return &Error{Code: InvalidRequest, ServerName: req.URL.Host, Detail: "the request has a nil Header"}
	case req.URL.Scheme != "matrix-federation" && req.URL.Scheme != "matrix":
		detail := fmt.Sprintf("the scheme is %s, not matrix-federation or matrix", printable.Quote(req.URL.Scheme, 20))
		if req.Response != nil { // net/http.Client's sign
			detail += "; the server redirected there, see Transport about redirects"
		}
		return &Error{Code: InvalidRequest, ServerName: req.URL.Host, Detail: detail}
	case req.URL.Host == "":
		return &Error{Code: InvalidRequest, Detail: "the URL has no server name"}
	}
	return nil
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

// outgoing is the request that net/http is given: the caller's, with another
// URL and Host. It is one allocation.
type outgoing struct {
	req  http.Request
	url  url.URL
	body body // the caller's, if it can be had only once
}

func newOutgoing(req *http.Request) *outgoing {
	o := &outgoing{req: *req, url: *req.URL}
	o.req.URL = &o.url
	o.url.Scheme = "https"
	// A body that can be had again stays as it is: net/http knows the types of
	// packages bytes and strings, and sends them together with the header.
	if req.Body != nil && req.Body != http.NoBody && req.GetBody == nil {
		o.body.ReadCloser = req.Body
		o.req.Body, o.req.GetBody = &o.body, o.body.again
	}
	return o
}

// rewind readies the body, which net/http has closed, for another round.
func (o *outgoing) rewind() (err error) {
	if o.req.Body != nil && o.req.Body != http.NoBody {
		o.req.Body, err = o.req.GetBody()
	}
	return err
}

func (o *outgoing) to(r *route, host string) *http.Request {
	o.url.Host, o.req.Host = r.label, host
	return &o.req
}

// body is a request's body that can be had only once. It survives rounds which
// ended before a byte of it was read: net/http closes it after each.
type body struct {
	io.ReadCloser // nil if there is none

	mu       sync.Mutex
	begun    bool // somebody has read
	asked    bool // somebody has asked to close it while it may still be needed
	released bool // RoundTrip has ended
	closed   bool
}

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	b.begun = true
	b.mu.Unlock()
	return b.ReadCloser.Read(p)
}

// Close waits for the end of RoundTrip if nothing has been read.
func (b *body) Close() error {
	b.mu.Lock()
	b.asked = true
	due := (b.begun || b.released) && !b.closed
	b.closed = b.closed || due
	b.mu.Unlock()
	if due {
		return b.ReadCloser.Close()
	}
	return nil
}

// release ends the time in which the body may be needed again. With now it is
// closed, else when net/http wants it to be.
func (b *body) release(now bool) {
	if b.ReadCloser == nil {
		return
	}
	b.mu.Lock()
	b.released = true
	due := (now || b.asked) && !b.closed
	b.closed = b.closed || due
	b.mu.Unlock()
	if due {
		b.ReadCloser.Close()
	}
}

// again gives the body a second time, after a round without a connection, or
// when a kept one turns out to be dead before anything was written on it.
func (b *body) again() (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.begun || b.closed {
		return nil, errBodyRead
	}
	b.asked = false
	return b, nil
}
