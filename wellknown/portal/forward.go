package portal

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/textproto"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"mxdiscover/internal/clientaddr"
	"mxdiscover/internal/dial"
	"mxdiscover/internal/guard"
	"mxdiscover/internal/oneshot"
	"mxdiscover/internal/printable"
)

const (
	// dialTimeout is the most that one target has to take a connection, TLS
	// included: after it the next one is tried, while a user waits.
	dialTimeout = 10 * time.Second

	// maxAnswer is the largest answer that is read in full and added to, plain
	// and as sent: as much as a login client reads. A login answer has some
	// hundred bytes. A larger answer is passed on as it comes.
	maxAnswer = 1 << 20

	// maxAnswerHeader bounds the header of an answer. Common servers and
	// proxies stop at 8 to 64 KiB; net/http alone would take 10 MiB.
	maxAnswerHeader = 64 << 10
)

// FailureKind says how far a request to a target got.
type FailureKind string

// The kinds of failure.
const (
	Unreached FailureKind = "unreached" // no connection: nothing was sent
	Lost      FailureKind = "lost"      // sent, and then no proper answer came
	TooLate   FailureKind = "too_late"  // sent, and no answer within the timeout
	GivenUp   FailureKind = "given_up"  // the client went away first
)

// TargetError is a request to a target that got no answer.
type TargetError struct {
	Target string
	Kind   FailureKind

	// Err is the cause: an error of the dial function if Kind is Unreached,
	// else one in words of this package. An error of net/http may quote what
	// the target sent, and a target may send back what it was sent: such an
	// error is not kept.
	Err error
}

// Error is one line of printable text.
func (e *TargetError) Error() string {
	text := "target " + e.Target + ": "
	switch e.Kind {
	case Unreached:
		return text + "no connection: " + describe(e.Err)
	default:
		return text + printable.Line(e.Err.Error())
	}
}

func (e *TargetError) Unwrap() error { return e.Err }

// describe puts a failed connection into words.
func describe(err error) string {
	text := err.Error()
	var d *dial.Error
	if errors.As(err, &d) && d.Kind == dial.TLSFailed {
		text = d.Host + ": " + dial.DescribeTLS(d.Err, d.Host, time.Now())
	}
	return printable.Line(text)
}

var (
	errLost    = errors.New("the connection ended before the answer did, or what came is no HTTP")
	errTooLate = errors.New("no answer in time")
	errGivenUp = errors.New("the client went away")
	errCut     = errors.New("the answer could not be passed on to its end")
	errLoop    = errors.New("this portal has sent the request itself: the URL of a target leads back to it")
)

// outgoing is a request for a target.
type outgoing struct {
	method, path, query string
	force               bool // the "?" of an empty query
	header              http.Header
	body                []byte
}

// answer is what a target answered.
type answer struct {
	*http.Response
	whole []byte    // the body, or its beginning
	rest  io.Reader // what follows; nil if nothing does
	close func()
}

// ask sends a request to a target, once. With net/http's own pool of
// connections a request could go out on one that the target is about to close,
// and would then be sent again, or be lost for no reason; so each request has a
// connection of its own, which is made first. If that fails, nothing was sent;
// once it is there, nothing is sent twice (package oneshot).
func (p *Portal) ask(ctx context.Context, t *target, timeout time.Duration, out *outgoing) (*answer, *TargetError) {
	failed := func(kind FailureKind, err error) (*answer, *TargetError) {
		if context.Cause(ctx) != nil { // the client's context, which ends all
			kind, err = GivenUp, errGivenUp
		}
		return nil, &TargetError{Target: t.name, Kind: kind, Err: err}
	}
	raw, err := p.connect(ctx, t, min(timeout, dialTimeout))
	if err != nil {
		return failed(Unreached, err)
	}
	conn := &recorder{Conn: raw}
	sent, cancel := context.WithTimeout(ctx, timeout)
	a := &answer{close: func() { conn.Close(); cancel() }}
	fail := func(err error) (*answer, *TargetError) {
		late := sent.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded)
		a.close()
		if late {
			return failed(TooLate, errTooLate)
		}
		return failed(Lost, errLost)
	}

	request, err := out.request(sent, t)
	if err != nil {
		return fail(err)
	}
	// No redirect is followed, and the coding is between client and target.
	if a.Response, err = oneshot.Do(conn, request, oneshot.Limits{Header: maxAnswerHeader}); err != nil {
		return fail(err)
	}
	if a.Header["Connection"] == nil {
		a.Header["Connection"] = conn.connectionField()
	}
	inner := a.close
	a.close = func() { a.Body.Close(); inner() }
	// net/http takes any three digits for a status. 101 was not asked for, and
	// less is no status (RFC 9110, 15).
	if a.StatusCode < 200 {
		return fail(errLost)
	}
	a.whole, err = io.ReadAll(io.LimitReader(a.Body, maxAnswer+1))
	if err != nil {
		return fail(err)
	}
	if len(a.whole) > maxAnswer {
		a.rest = a.Body
	}
	return a, nil
}

func (p *Portal) connect(ctx context.Context, t *target, timeout time.Duration) (conn net.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if t.url.Insecure() {
		if p.Dial != nil {
			conn, _, err = p.Dial(ctx, t.url.Host(), t.url.Port())
		} else {
			conn, err = dialer().Dial(ctx, t.url.Host(), t.url.Port(), nil)
		}
	} else {
		config := &tls.Config{
			ServerName: t.url.Host(),
			RootCAs:    p.RootCAs,
			NextProtos: []string{"http/1.1"},
			MinVersion: tls.VersionTLS12,
		}
		if p.DialTLS != nil {
			conn, _, err = p.DialTLS(ctx, t.url.Host(), t.url.Port(), config)
		} else {
			conn, _, err = dialer().DialTLS(ctx, t.url.Host(), t.url.Port(), config)
		}
	}
	if err == nil && conn == nil {
		err = errors.New("the dial function returned neither a connection nor an error")
	}
	return conn, err
}

// dialer connects anywhere: the operator has named the targets.
func dialer() *dial.Dialer {
	all := []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}
	return &dial.Dialer{Lookup: dial.SystemLookup, Guard: guard.Guard{Allow: all}}
}

func (o *outgoing) request(ctx context.Context, t *target) (*http.Request, error) {
	u, err := url.Parse(t.url.Join(o.path))
	if err != nil {
		return nil, err
	}
	u.RawQuery, u.ForceQuery = o.query, o.force
	request := &http.Request{
		Method: o.method,
		URL:    u,
		Host:   t.url.Authority(),
		Header: o.header,
		Body:   http.NoBody,
	}
	if len(o.body) > 0 {
		// No GetBody: what has been read cannot be sent twice.
		request.Body, request.ContentLength = io.NopCloser(bytes.NewReader(o.body)), int64(len(o.body))
	}
	return request.WithContext(ctx), nil
}

// recorder keeps the beginning of what the target says: net/http drops the field
// Connection of an answer if one of its words is "close", and with it what else
// is for this connection alone.
type recorder struct {
	net.Conn

	mu    sync.Mutex
	heard []byte
	read  bool // connectionField has been called
}

// connectionField gives the field Connection of the answer. It is called once,
// when the header has come.
func (r *recorder) connectionField() []string {
	r.mu.Lock()
	from := textproto.NewReader(bufio.NewReader(bytes.NewReader(r.heard)))
	r.heard, r.read = nil, true
	r.mu.Unlock()
	for {
		line, err := from.ReadLine()
		if err != nil {
			return nil
		}
		header, err := from.ReadMIMEHeader()
		if err != nil {
			return nil
		}
		_, status, _ := strings.Cut(line, " ")
		if !strings.HasPrefix(strings.TrimLeft(status, " "), "1") { // an interim answer has a header of its own
			return header["Connection"]
		}
	}
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.read && len(r.heard) < 2*maxAnswerHeader { // net/http gives up long before
		r.heard = append(r.heard, p[:n]...)
	}
	return n, err
}

// connectionFields are meant for the next hop alone, whether Connection names
// them or not (RFC 9110, 7.6.1 and 11.7; Trailer because trailers are not
// passed on, 6.5.1).
var connectionFields = [...]string{
	"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization",
	"Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// endToEnd copies a header less the fields of the connection (RFC 9110, 7.6.1).
func endToEnd(from http.Header) http.Header {
	header := from.Clone()
	if header == nil {
		header = http.Header{}
	}
	for _, list := range from["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			header.Del(textproto.TrimString(name))
		}
	}
	for _, name := range connectionFields {
		header.Del(name)
	}
	return header
}

// requestHeader is the header that a target gets.
func requestHeader(r *http.Request, from clientaddr.Origin) http.Header {
	header := endToEnd(r.Header)
	// The body is here already: nothing is left to be expected (RFC 9110,
	// 10.1.1).
	header.Del("Expect")
	if _, ok := header["User-Agent"]; !ok {
		header["User-Agent"] = []string{""} // else net/http would name itself
	}
	before := strings.Join(header.Values("X-Forwarded-For"), ", ")
	if !from.Trusted {
		// Some servers read "_" in the name of a field as "-".
		for name := range header {
			plain := strings.ToLower(strings.ReplaceAll(name, "_", "-"))
			if plain == "forwarded" || plain == "x-real-ip" || strings.HasPrefix(plain, "x-forwarded-") {
				delete(header, name)
			}
		}
		before = ""
	}
	// Else the homeserver takes the portal for the client (MSC1730, Notes on
	// proxying vs redirecting).
	switch peer := from.Peer.String(); {
	case !from.Peer.IsValid():
	case before != "":
		header.Set("X-Forwarded-For", before+", "+peer)
	default:
		header.Set("X-Forwarded-For", peer)
	}
	return header
}

// wasHere reports whether a request has been sent by the portal of that name.
func wasHere(r *http.Request, pseudonym string) bool {
	for _, list := range r.Header.Values("Via") {
		for via := range strings.SplitSeq(list, ",") {
			// A protocol, the name, and perhaps a comment.
			if fields := strings.Fields(via); len(fields) > 1 && fields[1] == pseudonym {
				return true
			}
		}
	}
	return false
}
