package portal

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mxdiscover/internal/baseurl"
	"mxdiscover/internal/printable"
)

// DefaultTimeout is how long a target may take to answer.
const DefaultTimeout = 30 * time.Second

// A Target is a homeserver to which the portal sends logins.
type Target struct {
	// Name is what the [Chooser] and the log call it: printable ASCII without
	// white space.
	Name string

	// URL is its base URL, http or https, as the portal reaches it. User info,
	// a query and a fragment are dropped.
	URL string

	// Public is the base URL that clients are told. If empty, URL.
	Public string
}

// Mode is one of the two ways in which MSC1730 lets a portal work.
type Mode string

// The modes. Which is better is "an implementation decision" (MSC1730, 26
// November 2018, "Notes on proxying vs redirecting").
const (
	Proxy    Mode = "proxy"    // send the login on, and add the address to the answer
	Redirect Mode = "redirect" // answer 307 and leave the login to the client
)

// Emit says which fields a proxied login answer gets. The zero Emit is both.
type Emit uint8

// The fields, to be combined with |.
const (
	// EmitWellKnown is "well_known", the field of the accepted MSC1730 and of
	// every specification since r0.5.0.
	EmitWellKnown Emit = 1 << iota

	// EmitBaseCSURL is "base_cs_url", the field of the drafts of November
	// 2018.
	EmitBaseCSURL

	// EmitNothing leaves answers as they come.
	EmitNothing
)

// ParseEmit reads the names of fields with commas between them. No name at all
// is [EmitNothing].
func ParseEmit(list string) (Emit, error) {
	var emit Emit
	for name := range strings.SplitSeq(list, ",") {
		switch strings.TrimSpace(name) {
		case "":
		case fieldWellKnown:
			emit |= EmitWellKnown
		case fieldBaseCSURL:
			emit |= EmitBaseCSURL
		default:
			return 0, fmt.Errorf("there is no field %s to emit, only %s and %s", printable.Quote(name, maxQuoted), fieldWellKnown, fieldBaseCSURL)
		}
	}
	if emit == 0 {
		return EmitNothing, nil
	}
	return emit, nil
}

func (e Emit) has(field Emit) bool { return e == 0 || e&field != 0 }

// maxQuoted is the most bytes of a wrong setting that a message repeats: a line
// of a terminal.
const maxQuoted = 80

// A Portal is a portal server: an [http.Handler] for the whole of its host. It
// needs Targets; every other field has a sensible zero value. The fields must
// not change after the first request. It may be used by many goroutines at
// once, and must not be copied.
//
// A Portal keeps no connection and no goroutine beyond the request that needs
// it, so there is nothing to close; [http.Server.Shutdown] lets the logins under
// way finish.
//
// What comes in before the handler is the server's to bound: set
// ReadHeaderTimeout, IdleTimeout and MaxHeaderBytes. The Portal bounds the
// reading of bodies and the writing of answers by Timeout where the server has
// no ReadTimeout or WriteTimeout.
type Portal struct {
	// Targets are the homeservers, in the order in which they are tried.
	Targets []Target

	// Mode is [Proxy] if empty.
	Mode Mode

	// Chooser picks the target of each login. If nil, a [RoundRobin].
	Chooser Chooser

	// Emit are the fields that a proxied login answer gets. If zero, both.
	Emit Emit

	// BaseURL is the portal's own base URL, published at
	// /.well-known/matrix/client. If empty, nothing is published there.
	BaseURL string

	// TrustForwardedFor are the proxies in front of the portal, whose
	// X-Forwarded-For is believed. If nil, nobody's is.
	TrustForwardedFor []netip.Prefix

	// Timeout bounds each wait: for the body of a request, for the answer of a
	// target once the request was sent, for a client that takes its answer. A
	// target has the same time, but 10 seconds at most, to take a connection.
	// If zero, DefaultTimeout.
	Timeout time.Duration

	// RootCAs are whom the certificates of targets must be signed by. If nil,
	// the system's.
	RootCAs *x509.CertPool

	// DialTLS connects to a target whose URL is https and verifies its
	// certificate with config. If nil, the addresses come from the system's
	// resolver, without its search domains, and any of them may be connected
	// to: targets are the operator's own word. It must obey ctx.
	DialTLS func(ctx context.Context, host string, port uint16, config *tls.Config) (net.Conn, netip.AddrPort, error)

	// Dial connects to a target whose URL is http. If nil, as with DialTLS.
	Dial func(ctx context.Context, host string, port uint16) (net.Conn, netip.AddrPort, error)

	// Log is called once for each request, when its answer has been sent. It
	// may be called by many goroutines at once. If nil, nothing is logged.
	Log func(Entry)

	once  sync.Once
	ready *settings
	wrong error
	held  atomic.Int64 // bytes of request bodies in memory
}

// settings are the fields of a Portal, read.
type settings struct {
	targets []*target
	byName  map[string]*target
	names   []string
	chooser Chooser
	baseURL string
	timeout time.Duration

	// pseudonym is the portal's name in Via: another one for each portal, so
	// that one may be the target of another.
	pseudonym string
}

type target struct {
	name   string
	url    baseurl.URL
	public string // what clients are told
}

// Check says what is wrong with the fields: no target, a name twice, what is no
// base URL, a target that is the portal itself by its BaseURL, a target that the
// Chooser knows and the Portal does not. A Portal that fails it answers every
// request with status 500.
//
// A target may lead back to the portal in ways that no field shows. A request
// that the portal has sent itself, which it knows by the field Via, is answered
// with status 502.
func (p *Portal) Check() error {
	_, err := p.read()
	return err
}

// settings reads the fields once.
func (p *Portal) settings() (*settings, error) {
	p.once.Do(func() { p.ready, p.wrong = p.read() })
	return p.ready, p.wrong
}

func (p *Portal) read() (*settings, error) {
	s := &settings{byName: make(map[string]*target, len(p.Targets)), chooser: p.Chooser, timeout: p.Timeout, pseudonym: "mxdiscover-" + rand.Text()}
	if len(p.Targets) == 0 {
		return nil, errors.New("the portal has no target")
	}
	for _, t := range p.Targets {
		if err := s.add(t); err != nil {
			return nil, err
		}
	}
	switch p.Mode {
	case "", Proxy, Redirect:
	default:
		return nil, fmt.Errorf("there is no mode %s, only %s and %s", printable.Quote(string(p.Mode), maxQuoted), Proxy, Redirect)
	}
	if p.Emit > EmitWellKnown|EmitBaseCSURL && p.Emit != EmitNothing {
		return nil, fmt.Errorf("there is no field for Emit(%d)", p.Emit)
	}
	if p.BaseURL != "" {
		u, err := baseurl.Parse(p.BaseURL)
		if err != nil {
			return nil, fmt.Errorf("the portal's own base URL is of no use: %w", err)
		}
		s.baseURL = u.String()
		if err := s.notItself(p.Mode); err != nil {
			return nil, err
		}
	}
	for _, prefix := range p.TrustForwardedFor {
		if !prefix.IsValid() {
			return nil, errors.New("an invalid network stands in TrustForwardedFor")
		}
	}
	switch {
	case p.Timeout < 0:
		return nil, fmt.Errorf("the timeout is negative: %v", p.Timeout)
	case p.Timeout == 0:
		s.timeout = DefaultTimeout
	}
	if s.chooser == nil {
		s.chooser = new(RoundRobin)
	}
	if of, ok := s.chooser.(interface{ TargetNames() []string }); ok {
		for _, name := range of.TargetNames() {
			if s.byName[name] == nil {
				return nil, fmt.Errorf("a user is sent to %s, which is no target", printable.Quote(name, maxQuoted))
			}
		}
	}
	return s, nil
}

// notItself: the portal must not send logins to itself for ever. Clients may be
// told its own URL after a login that it has proxied, where a web server before
// it gives the portal nothing but logins.
func (s *settings) notItself(mode Mode) error {
	for _, t := range s.targets {
		switch s.baseURL {
		case t.url.String():
			return fmt.Errorf("the URL of target %s is the portal's own base URL", printable.Quote(t.name, maxQuoted))
		case t.public:
			if mode == Redirect {
				return fmt.Errorf("the public URL of target %s is the portal's own base URL", printable.Quote(t.name, maxQuoted))
			}
		}
	}
	return nil
}

func (s *settings) add(t Target) error {
	quoted := printable.Quote(t.Name, maxQuoted)
	switch {
	case t.Name == "":
		return errors.New("a target has no name")
	case strings.Contains(t.Name, " ") || printable.Line(t.Name) != t.Name:
		return fmt.Errorf("the target name %s is not printable ASCII without white space", quoted)
	case s.byName[t.Name] != nil:
		return fmt.Errorf("there are two targets %s", quoted)
	}
	u, err := baseurl.Parse(t.URL)
	if err != nil {
		return fmt.Errorf("the URL of target %s is of no use: %w", quoted, err)
	}
	public := u
	if t.Public != "" {
		if public, err = baseurl.Parse(t.Public); err != nil {
			return fmt.Errorf("the public URL of target %s is of no use: %w", quoted, err)
		}
	}
	added := &target{name: t.Name, url: u, public: public.String()}
	s.targets = append(s.targets, added)
	s.names = append(s.names, t.Name)
	s.byName[t.Name] = added
	return nil
}
