package wellknown

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"mxdiscover/internal/baseurl"
	"mxdiscover/internal/dial"
	"mxdiscover/internal/guard"
	"mxdiscover/internal/oneshot"
	"mxdiscover/internal/printable"
	"mxdiscover/internal/servername"
)

const (
	// DefaultTimeout bounds one fetch from the first look-up to the last byte,
	// redirects included. The specification gives no number; Synapse uses 60 s
	// a step, which leaves callers waiting for minutes.
	DefaultTimeout = 10 * time.Second

	// RequestTimeout bounds each request of [Fetcher.Object], from the look-up
	// to the last byte: what the client library matrix-js-sdk gives one.
	RequestTimeout = 5 * time.Second

	// MaxRedirects is how many redirects one fetch follows. The specification
	// wants loops avoided and gives no number; ten is what browsers' libraries
	// and net/http use.
	MaxRedirects = 10

	// maxHeader bounds the header of one response, as net/http's server does
	// for requests (1 MiB there; no document of ours needs a tenth of it).
	maxHeader = 64 << 10

	// maxWire bounds the bytes of one response as they are sent: header and body
	// at their largest with room for chunks. It stands below every decoder, so
	// that a stream which decodes to nothing ends too.
	maxWire = 256 << 10

	// maxLocation bounds a redirect's target: RFC 9110, 4.1 wants 8000 bytes
	// supported.
	maxLocation = 8000

	// ServerPath is where a server name is delegated (Server-Server API,
	// GET /.well-known/matrix/server; RFC 8615).
	ServerPath = "/.well-known/matrix/server"
)

// A Code names why a fetch failed, for programs.
type Code string

// The codes of an [Error].
const (
	NotFound         Code = "not_found"         // status 404
	HTTPStatus       Code = "http_status"       // any other status but 200
	EmptyBody        Code = "empty_body"        // nothing but white space
	NotJSON          Code = "not_json"          // not one strict JSON document in UTF-8
	NotObject        Code = "not_object"        // JSON, but no object
	TooLarge         Code = "too_large"         // more than MaxBody bytes, or an oversized header
	RedirectInvalid  Code = "redirect_invalid"  // no usable Location
	RedirectInsecure Code = "redirect_insecure" // to another scheme than https, or than http where http was asked for
	RedirectLoop     Code = "redirect_loop"     // a URL twice, or too many hops
	NoAddress        Code = "no_address"        // the host has no A and no AAAA record
	DNSError         Code = "dns_error"         // nobody could say whether it has one
	AddressDenied    Code = "address_denied"    // it has some, none of which may be dialled
	ConnectFailed    Code = "connect_failed"    // refused, reset, cut off, not HTTP
	TLSFailed        Code = "tls_failed"        // handshake or certificate
	Timeout          Code = "timeout"           // the deadline of the fetch
	Canceled         Code = "canceled"          // the caller gave up

	InvalidHost Code = "invalid_host" // what was asked for is no host; nothing was sent

	ServerMissing Code = "server_missing" // there is no m.server
	ServerInvalid Code = "server_invalid" // m.server is no server name
)

// Error is a fetch that brought no usable document: what was asked, and what
// came back. Its text is one line without control characters.
type Error struct {
	Code   Code
	Method string // GET if empty
	URL    string // the hop that failed
	Status int    // of that hop, 0 if there was no response
	Detail string // what came back, in words
	Err    error  // the cause, if there is one
}

func (e *Error) Error() string {
	return cmp.Or(e.Method, http.MethodGet) + " " + e.URL + ": " + e.Detail
}

func (e *Error) Unwrap() error { return e.Err }

// Temporary reports whether the same request may well succeed soon: network,
// DNS and TLS failures, deadlines, statuses 5xx, 408 and 429, and redirects
// that go round in circles. What is not temporary was said by the server and
// counts as its answer.
func (e *Error) Temporary() bool {
	switch e.Code {
	case NoAddress, DNSError, ConnectFailed, TLSFailed, Timeout, Canceled, RedirectLoop:
		return true
	case HTTPStatus:
		return e.Status/100 == 5 || e.Status == http.StatusRequestTimeout || e.Status == http.StatusTooManyRequests
	}
	return false
}

// Absent reports whether the server said that there is no document: 404, 410.
func (e *Error) Absent() bool {
	return e.Code == NotFound || e.Code == HTTPStatus && e.Status == http.StatusGone
}

// A Hop is one request of a fetch. The last one is the request for the
// document itself, those before it were redirected.
type Hop struct {
	URL      string
	Addr     netip.AddrPort // connected to; zero if there was no connection
	TLS      string         // version and certificate, in words
	Status   int            // 0 if there was no response
	Location string         // where it redirected to, as given, quoted if need be
	Duration time.Duration
	Err      *Error // set in the last hop of a failed fetch
}

// Reply is what a fetch brought.
type Reply struct {
	Hops     []Hop         // the way, at least one
	Status   int           // of the last hop, 0 if there was no response
	Header   http.Header   // of the last hop; nil if there was no response
	Headers  []http.Header // of each hop that had a response: all, or all but the last
	At       time.Time     // when the last response's header had come, or the fetch failed
	Duration time.Duration

	// Body is decoded, and has at most MaxBody bytes. It is there if Status is
	// 200. After [Fetcher.Object] it is there beside any other status too, but that
	// of a redirect, if it is not too large and came whole: the errors of the
	// client-server API are JSON. After [Fetcher.Post] that holds for every other
	// status, and it may have MaxPostBody bytes.
	Body []byte

	from *url.URL // of the last hop, if it was Post's
}

// A Fetcher fetches documents from hosts that nobody vouches for, over https
// unless [Fetcher.Object] is asked for something else. The zero Fetcher is ready
// to use: it takes the system's resolver and roots and connects to public
// addresses only. Its fields must not change after the first use. It may be used
// by many goroutines at once and keeps no connections.
type Fetcher struct {
	// DialTLS connects to host and port and verifies the certificate with
	// config. If nil, the host's addresses come from the system's resolver, and
	// only public ones are connected to. An error of a function from outside
	// this module counts as ConnectFailed.
	DialTLS func(ctx context.Context, host string, port uint16, config *tls.Config) (net.Conn, netip.AddrPort, error)

	// Dial connects to host and port for a request without TLS, which only
	// [Fetcher.Object] and [Fetcher.Post] make, for http URLs. If nil, as with DialTLS; but if
	// DialTLS is set, such requests fail with ConnectFailed, for nobody has said
	// which way they should go.
	Dial func(ctx context.Context, host string, port uint16) (net.Conn, netip.AddrPort, error)

	// AllowNets are private or special-purpose networks that may be connected
	// to as well, unless DialTLS or Dial decides. If nil, none.
	AllowNets []netip.Prefix

	// RootCAs are whom certificates must be signed by. If nil, the system's.
	RootCAs *x509.CertPool

	// Timeout bounds one fetch in all. If zero, DefaultTimeout; for Object, which
	// bounds each request, no more than its context. It does not count for Post.
	Timeout time.Duration

	// UserAgent goes into every request. If empty, "mxdiscover".
	UserAgent string

	// Quiet keeps what servers send out of every text: an [Error] and a [Hop]
	// then hold words of this package, statuses, and of a redirect no more than
	// scheme and host, and an Error has no cause. It is for servers that have been
	// told a secret, for they may repeat it. Post is always quiet.
	Quiet bool
}

// Server fetches and parses https://host/.well-known/matrix/server, where host
// is a DNS name or an IP literal (IPv6 in brackets), without a port. It returns
// the value of m.server, a valid server name, or an *[Error]; and in both
// cases the reply, so far as there was one.
//
// Server-Server API, "Resolving server names", step 3.
func (f *Fetcher) Server(ctx context.Context, host string) (server string, reply *Reply, err error) {
	name, err := servername.Parse(host)
	if _, hasPort := name.Port(); err != nil || hasPort {
		e := &Error{Code: InvalidHost, URL: printable.Line(host), Detail: "not a host name", Err: err}
		return "", &Reply{Hops: []Hop{{URL: e.URL, Err: e}}, At: time.Now()}, e
	}
	reply, err = f.Get(ctx, "https://"+host+ServerPath)
	if err != nil {
		return "", reply, err
	}
	server, err = ParseServer(reply.Body)
	if err != nil {
		return "", reply, reply.refuse(err, f.Quiet)
	}
	return server, reply, nil
}

// bodyError turns the parser's complaint into a fetch's.
func bodyError(err error) *Error {
	e := &Error{Code: NotJSON, Detail: err.Error(), Err: err}
	var p *ParseError
	if !errors.As(err, &p) {
		return e
	}
	e.Detail = p.Detail
	switch p.Kind {
	case KindEmptyBody:
		e.Code = EmptyBody
	case KindTooLarge:
		e.Code = TooLarge
	case KindNotObject:
		e.Code = NotObject
	case KindMissing:
		e.Code = ServerMissing
	case KindNotString, KindBadServerName:
		e.Code = ServerInvalid
	}
	return e
}

// Get fetches the document at rawURL, which must be https. The error is an
// *[Error]; the reply is never nil and holds the way so far.
func (f *Fetcher) Get(ctx context.Context, rawURL string) (*Reply, error) {
	timeout := f.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return f.get(ctx, rawURL, manner{timeout: timeout, quiet: f.Quiet})
}

// Object fetches the JSON object at rawURL for a client: a well-known document,
// or what a base URL of the client-server API leads to. It returns the members
// as [ParseObject] does.
//
// It differs from [Fetcher.Get] where base URLs do: rawURL may be http, from
// which redirects may lead to http and to https, while nothing leads from https
// to http; and a host may have underscores and a dot at its end. Each request
// may take [RequestTimeout].
//
// The error is an *[Error]; the reply is never nil and holds the way so far.
func (f *Fetcher) Object(ctx context.Context, rawURL string) (map[string]json.RawMessage, *Reply, error) {
	if f.Timeout != 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.Timeout)
		defer cancel()
	}
	reply, err := f.get(ctx, rawURL, manner{client: true, quiet: f.Quiet})
	if err != nil {
		return nil, reply, err
	}
	object, err := ParseObject(reply.Body)
	if err != nil {
		return nil, reply, reply.refuse(err, f.Quiet)
	}
	return object, reply, nil
}

// refuse makes the parser's complaint the end of the fetch.
func (r *Reply) refuse(err error, quiet bool) *Error {
	e := bodyError(err)
	if quiet {
		e.Detail, e.Err = "the body is not what was asked for ("+strings.ReplaceAll(string(e.Code), "_", " ")+")", nil
	}
	hop := &r.Hops[len(r.Hops)-1]
	e.URL, e.Status, hop.Err = hop.URL, r.Status, e
	return e
}

// A manner is what tells the kinds of fetches apart.
type manner struct {
	client  bool          // the rules of Object and Post for URLs, and their time
	quiet   bool          // as Fetcher.Quiet says
	timeout time.Duration // of the fetch, if not client

	post bool   // the rules of Post
	body []byte // what to post
}

// get ends with ctx.
func (f *Fetcher) get(ctx context.Context, rawURL string, m manner) (*Reply, error) {
	begun := time.Now()
	reply := new(Reply)
	var next *url.URL
	seen := make(map[string]bool)
	for {
		from := next
		hop := Hop{URL: printable.Line(rawURL)}
		if m.quiet && from != nil {
			hop.URL = reply.Hops[len(reply.Hops)-1].URL
		}
		since := time.Now()
		var (
			host   endpoint
			failed *Error
		)
		next, host, failed = m.target(next, rawURL)
		if failed == nil {
			full := next.String()
			if hop.URL = printable.Line(full); m.quiet {
				hop.URL = m.show(from, next)
			}
			switch {
			case seen[full]:
				failed = &Error{Code: RedirectLoop, Detail: "redirected to the same address again"}
			case len(reply.Hops) > MaxRedirects:
				failed = &Error{Code: RedirectLoop, Detail: fmt.Sprintf("more than %d redirects", MaxRedirects)}
			default:
				seen[full] = true
				failed = f.hop(ctx, m, next, host, &hop, reply)
			}
		}
		reply.Duration, hop.Duration = time.Since(begun), time.Since(since)
		if failed != nil {
			return reply, reply.fail(hop, failed, m)
		}
		reply.Hops = append(reply.Hops, hop)
		if hop.Location == "" {
			return reply, nil
		}
		rawURL = reply.Header.Get("Location")
	}
}

// fail makes failed the end of a fetch, and of its last hop.
func (r *Reply) fail(hop Hop, failed *Error, m manner) *Error {
	failed.URL, failed.Status, hop.Err = hop.URL, hop.Status, failed
	if m.quiet {
		failed.Err = nil
	}
	r.Hops = append(r.Hops, hop)
	if r.At.IsZero() || hop.Status == 0 {
		r.At, r.Status, r.Header = time.Now(), 0, nil
	}
	return failed
}

// show is u for people, with m.quiet: from is the page that named it, or nil if
// the caller did.
func (m manner) show(from, u *url.URL) string {
	shown := url.URL{Scheme: u.Scheme, Host: u.Host}
	if from == nil {
		shown.Path, shown.RawPath = u.Path, u.RawPath
	}
	return printable.Line(shown.String())
}

// An endpoint is where a URL leads: a DNS name in lower case, or an IP address
// without brackets, and a port.
type endpoint struct {
	host string
	port uint16
}

// target is the URL of the next hop: location as seen from the page that named
// it (RFC 3986, 5), or the first URL if from is nil.
func (m manner) target(from *url.URL, location string) (u *url.URL, to endpoint, failed *Error) {
	what := "redirected to "
	if from == nil {
		what = "asked for "
	}
	refuse := func(code Code, clause string, err error) (*url.URL, endpoint, *Error) {
		place := "something that "
		if !m.quiet {
			place = printable.Line(location) + ", which "
		}
		return nil, endpoint{}, &Error{Code: code, Detail: what + place + clause, Err: err}
	}
	if len(location) > maxLocation {
		return nil, to, &Error{Code: RedirectInvalid, Detail: fmt.Sprintf("%sa URL of more than %d bytes", what, maxLocation)}
	}
	u, err := url.Parse(location)
	if err == nil && from != nil {
		u = from.ResolveReference(u)
	}
	if err != nil {
		return refuse(RedirectInvalid, "is not a URL", nil)
	}
	// Step 3 is authenticated by the certificate of each hop and by nothing
	// else: a hop without one would let anybody on the way answer.
	if u.Scheme != "https" && !m.plain(from, u) {
		return refuse(RedirectInsecure, "is not https", nil)
	}
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	if m.client {
		base, parseErr := baseurl.Parse(u.Scheme + "://" + u.Host)
		// The dot at the end means the same name, and no certificate has it.
		to, u.Host, err = endpoint{strings.TrimSuffix(base.Host(), "."), base.Port()}, base.Authority(), parseErr
	} else {
		var name servername.Name
		name, err = servername.Parse(strings.TrimSuffix(u.Host, ":")) // RFC 3986, 3.2.3: the port may be empty
		u.Host, to.host = strings.ToLower(name.String()), name.DNSName()
		var ok bool
		if to.port, ok = name.Port(); !ok || to.port == 443 {
			u.Host, to.port = strings.ToLower(name.Host()), 443
		}
	}
	if u.Opaque != "" || err != nil {
		return refuse(RedirectInvalid, "names no valid host", err)
	}
	return u, to, nil
}

// plain reports whether u may do without TLS: where the caller asked for http,
// and nobody on the way has proved who he is yet. What is posted is sent on to
// nobody without proof.
func (m manner) plain(from, u *url.URL) bool {
	return m.client && u.Scheme == "http" && (from == nil || from.Scheme == "http" && !m.post)
}

// hop makes one request and reads its response into reply.
func (f *Fetcher) hop(ctx context.Context, m manner, u *url.URL, to endpoint, hop *Hop, reply *Reply) *Error {
	timeout := m.timeout
	if m.client {
		timeout = -1 // nobody has said
		if deadline, ok := ctx.Deadline(); ok {
			timeout = max(0, time.Until(deadline).Round(time.Millisecond))
		}
		if !m.post {
			if timeout < 0 || timeout > RequestTimeout {
				timeout = RequestTimeout
			}
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, RequestTimeout)
			defer cancel()
		}
	}
	conn, addr, err := f.connect(ctx, m, u.Scheme, to)
	if err != nil {
		return dialError(ctx, m, timeout, err)
	}
	defer conn.Close()
	hop.Addr = addr
	if c, ok := conn.(interface{ ConnectionState() tls.ConnectionState }); ok {
		hop.TLS = describeTLS(c.ConnectionState())
	}

	// The connection is made and judged above; net/http speaks HTTP over it,
	// once.
	limits := oneshot.Limits{Header: maxHeader, Wire: maxWire}
	if m.post {
		limits.Wire = maxPostWire
	}
	resp, err := oneshot.Do(conn, f.request(ctx, m, u), limits)
	if errors.Is(err, oneshot.ErrHeader) {
		return &Error{Code: TooLarge, Detail: fmt.Sprintf("the header is larger than %d bytes", maxHeader), Err: err}
	}
	if err != nil {
		return exchangeError(ctx, m, timeout, err)
	}
	defer resp.Body.Close() // unread bytes end the connection with it
	hop.Status = resp.StatusCode
	reply.Status, reply.Header, reply.At = resp.StatusCode, resp.Header, time.Now()
	reply.Headers = append(reply.Headers, resp.Header)

	switch {
	case resp.StatusCode == http.StatusOK:
		reply.Body, err = readBody(resp, m)
		var failed *Error
		if errors.As(err, &failed) {
			return failed
		} else if err != nil {
			return exchangeError(ctx, m, timeout, err)
		}
		return nil
	case m.post:
		reply.Body = readErrorBody(resp, m)
		return nil
	case redirects(resp.StatusCode):
		location := resp.Header.Get("Location")
		if location == "" {
			return &Error{Code: RedirectInvalid, Detail: describeStatus(resp.StatusCode) + " without a Location"}
		}
		hop.Location = printable.Line(location)
		if m.quiet {
			hop.Location = "a place of no use"
			if next, _, failed := m.target(u, location); failed == nil {
				hop.Location = m.show(u, next)
			}
		}
		return nil
	}
	if m.client {
		reply.Body = readErrorBody(resp, m)
	}
	failed := &Error{Code: HTTPStatus, Detail: describeStatus(resp.StatusCode)}
	if resp.StatusCode == http.StatusNotFound {
		failed.Code = NotFound
	}
	return failed
}

// redirects reports whether a status sends on elsewhere what was asked.
func redirects(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

func (f *Fetcher) request(ctx context.Context, m manner, u *url.URL) *http.Request {
	agent := f.UserAgent
	if agent == "" {
		agent = "mxdiscover"
	}
	req := &http.Request{
		Method: http.MethodGet,
		URL:    u,
		Host:   u.Host,
		Header: http.Header{"User-Agent": {agent}, "Accept": {"application/json"}, "Accept-Encoding": {"gzip"}},
	}
	if m.post {
		req.Method = http.MethodPost
		req.Header["Accept-Encoding"], req.Header["Content-Type"] = []string{"identity"}, []string{"application/json"}
		// No GetBody: what has been read cannot be sent twice.
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(m.body)), int64(len(m.body))
	}
	return req.WithContext(ctx)
}

// readErrorBody reads what stands beside a status that has decided already: it
// may say more, and if it cannot be read, it says nothing.
func readErrorBody(resp *http.Response, m manner) []byte {
	if resp.StatusCode < http.StatusOK {
		return nil // 101 has no body, but another protocol without an end
	}
	body, err := readBody(resp, m)
	if err != nil {
		return nil
	}
	return body
}

// readBody reads at most as many bytes as m allows. More is an error, never a cut: half a
// document may say something else than the whole. What is sent is read to its
// end before it is decoded, so that an answer cut off on the way, which may
// come whole the next time, is told from one that is broken.
func readBody(resp *http.Response, m manner) ([]byte, error) {
	most := int64(MaxBody)
	if m.post {
		most = MaxPostBody
	}
	tooLarge := &Error{Code: TooLarge, Detail: fmt.Sprintf("the body is larger than %d bytes", most)}
	coding := strings.ToLower(resp.Header.Get("Content-Encoding"))
	switch coding {
	case "", "identity", "gzip", "x-gzip": // RFC 9110, 8.4.1.3
	default:
		name := printable.Line(coding)
		if m.quiet {
			name = "of another kind"
		}
		return nil, &Error{Code: NotJSON, Detail: "the body has the encoding " + name + ", which was not asked for"}
	}
	if resp.ContentLength > most {
		return nil, tooLarge // gzip makes nothing that matters larger
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(body)) > most:
		return nil, tooLarge
	case !strings.HasSuffix(coding, "gzip"):
		return body, nil
	}
	decoded, err := gzip.NewReader(bytes.NewReader(body))
	if err == nil {
		body, err = io.ReadAll(io.LimitReader(decoded, most+1))
	}
	switch {
	case err != nil:
		return nil, &Error{Code: NotJSON, Detail: "the body says that it is gzip, and is not", Err: err}
	case int64(len(body)) > most:
		return nil, tooLarge
	}
	return body, nil
}

// connect opens a connection, with TLS unless the scheme is http.
func (f *Fetcher) connect(ctx context.Context, m manner, scheme string, to endpoint) (net.Conn, netip.AddrPort, error) {
	if scheme == "http" {
		return f.dial(ctx, to)
	}
	config := &tls.Config{
		ServerName: to.host, // no SNI is sent for an IP address (RFC 6066, 3)
		RootCAs:    f.RootCAs,
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
	}
	if !m.post {
		// Without ML-KEM, which guards what is said against those who record it
		// and break X25519 one day: the document is public. It is a tenth of all
		// that a cold sweep costs (BenchmarkColdSweep), and makes the ClientHello
		// too large for one packet.
		config.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}
	}
	return f.dialTLS(ctx, to, config)
}

func (f *Fetcher) dialTLS(ctx context.Context, to endpoint, config *tls.Config) (net.Conn, netip.AddrPort, error) {
	if f.DialTLS != nil {
		return f.DialTLS(ctx, to.host, to.port, config)
	}
	return f.dialer().DialTLS(ctx, to.host, to.port, config)
}

var errNoDial = errors.New("there is no way to connect without TLS: DialTLS is set and Dial is not")

func (f *Fetcher) dial(ctx context.Context, to endpoint) (net.Conn, netip.AddrPort, error) {
	switch {
	case f.Dial != nil:
		return f.Dial(ctx, to.host, to.port)
	case f.DialTLS != nil:
		return nil, netip.AddrPort{}, errNoDial
	}
	conn, err := f.dialer().Dial(ctx, to.host, to.port, nil)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	return conn.Conn, conn.Addr, nil
}

// Except returns a Fetcher that connects to host as via does, and to every other
// host, redirects included, as f does: via's DialTLS, Dial and AllowNets count
// for host, and nothing else of via does. Host is a DNS name or an IP address; its
// case, brackets around it and a dot at its end make no difference.
func (f *Fetcher) Except(host string, via *Fetcher) *Fetcher {
	host = plainHost(host)
	way := func(to string) *Fetcher {
		if plainHost(to) == host {
			return via
		}
		return f
	}
	split := *f
	split.DialTLS = func(ctx context.Context, host string, port uint16, config *tls.Config) (net.Conn, netip.AddrPort, error) {
		return way(host).dialTLS(ctx, endpoint{host, port}, config)
	}
	split.Dial = func(ctx context.Context, host string, port uint16) (net.Conn, netip.AddrPort, error) {
		return way(host).dial(ctx, endpoint{host, port})
	}
	return &split
}

// plainHost gives each host one form.
func plainHost(host string) string {
	host = strings.Trim(host, "[]")
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.String()
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// dialer is the guarded one that counts if the caller has given none.
func (f *Fetcher) dialer() *dial.Dialer {
	return &dial.Dialer{Lookup: dial.SystemLookup, Guard: guard.Guard{Allow: f.AllowNets}}
}

// dialError says in words why there is no connection.
func dialError(ctx context.Context, m manner, timeout time.Duration, err error) *Error {
	e := &Error{Code: ConnectFailed, Detail: printable.Line(err.Error()), Err: err}
	var d *dial.Error
	if !errors.As(err, &d) {
		if ctx.Err() != nil {
			return exchangeError(ctx, m, timeout, err)
		}
		return e
	}
	switch d.Kind {
	case dial.NoAddress:
		e.Code = NoAddress
	case dial.LookupFailed:
		e.Code = DNSError
	case dial.Denied:
		e.Code = AddressDenied
	case dial.TLSFailed:
		e.Code, e.Detail = TLSFailed, fmt.Sprintf("%s:%d (%s): %s", d.Host, d.Port, d.Addr, dial.DescribeTLS(d.Err, d.Host, time.Now()))
	case dial.TimedOut:
		e.Code, e.Detail = Timeout, "no connection "+within(timeout)
	case dial.Canceled:
		e.Code, e.Detail = Canceled, "given up by the caller"
	}
	return e
}

// exchangeError says in words why there is no response on an open connection.
func exchangeError(ctx context.Context, m manner, timeout time.Duration, err error) *Error {
	e := &Error{Code: ConnectFailed, Err: err}
	var netErr net.Error
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		e.Code, e.Detail = Canceled, "given up by the caller"
	case ctx.Err() != nil, errors.As(err, &netErr) && netErr.Timeout():
		e.Code, e.Detail = Timeout, "no complete answer "+within(timeout)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		e.Detail = "the connection was closed before the answer was complete"
	case errors.Is(err, oneshot.ErrWire) && m.post:
		e.Code, e.Detail = TooLarge, fmt.Sprintf("the answer takes more than %d bytes", maxPostWire)
	case errors.Is(err, oneshot.ErrWire):
		e.Code, e.Detail = TooLarge, fmt.Sprintf("the answer takes more than %d bytes", maxWire)
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		e.Detail = "the connection was reset before the answer was complete"
	case m.quiet:
		e.Detail = "what came is not an answer in HTTP/1.1"
	default:
		e.Detail = printable.Line(err.Error())
	}
	return e
}

func within(timeout time.Duration) string {
	if timeout < 0 {
		return "in time"
	}
	return "within " + timeout.String()
}
