package check

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"mxdiscover/internal/dial"
	"mxdiscover/internal/oneshot"
	"mxdiscover/internal/printable"
	"mxdiscover/internal/servername"
	"mxdiscover/wellknown"
)

const (
	// connectTimeout bounds a TCP connection. A second lost packet costs three
	// seconds more (RFC 6298, 2); who takes longer is lost to most servers, whose
	// limits for a connection are from 10 to 30 s with everything.
	connectTimeout = 5 * time.Second

	// handshakeTimeout bounds a TLS handshake; with the connection that makes the
	// ten seconds that package resolver gives a target.
	handshakeTimeout = 5 * time.Second

	// answerTimeout bounds one request and its answer, body included. Synapse
	// gives a small request ten seconds at first.
	answerTimeout = 10 * time.Second

	// maxWire bounds what one connection may bring: the handshake and the answers.
	// With maxBody and a header that are full there is room for 128 KiB of
	// certificates; real chains have 3 to 10 KiB.
	maxWire = 256 << 10

	// maxRedials is how many connections are made for the two requests over HTTP/2:
	// one, and one after a server that ends it in between.
	maxRedials = 2
)

// Codes of problems with a connection.
const (
	codeRefused  = "connect_refused"
	codeTimeout  = "connect_timeout"
	codeReset    = "connect_reset"
	codeNoRoute  = "connect_no_route" // this machine has no way there at all
	codeConnect  = "connect_failed"   // anything else
	codeCut      = "cut"              // the check ended before
	sniSame      = "same"
	sniOther     = "other"
	sniRefused   = "refused"
	protocolTwo  = "h2"
	protocolOne  = "http/1.1"
	versionPath  = "/_matrix/federation/v1/version"
	keysPath     = "/_matrix/key/v2/server"
	clientPath   = "/_matrix/client/versions"
	defaultHTTPS = 443
)

// place is a target and how to speak to it.
type place struct {
	*run
	host   string
	port   uint16
	name   string // what the certificate must prove
	sni    string
	header string // Host
	of     string // host:port

	probing atomic.Bool // the probes are for one address of a target
	portal  atomic.Bool // and so is the other port
}

// try connects to one address of the target and asks it everything.
func (p *place) try(ctx context.Context, at netip.AddrPort) Address {
	a := Address{Address: at}
	raw, took, problem := p.connect(ctx, p.port, at)
	a.TCP = Phase{Duration: took, Error: problem}
	if problem != nil {
		if p.port != defaultHTTPS && problem.Code != codeCut && p.portal.CompareAndSwap(false, true) {
			a.Probes = p.otherPort(ctx)
		}
		return a
	}
	conn, seen := p.secure(ctx, raw, p.sni, protocolTwo, protocolOne)
	a.TLS = seen
	if conn == nil {
		if seen.Error.Code != codeCut && p.probing.CompareAndSwap(false, true) {
			a.Probes = p.otherTLS(ctx, at)
		}
		return a
	}
	// The server's part: which protocols, and what it says over each.
	var wg sync.WaitGroup
	if p.sni != "" {
		p.spawn(&wg, func() { a.TLS.WithoutSNI, a.TLS.Default = p.withoutSNI(ctx, at, seen) })
	}
	if seen.ALPN == protocolTwo {
		a.HTTP = make([]HTTP, 2)
		p.spawn(&wg, func() { a.HTTP[0] = p.overTwo(ctx, at, conn) })
		p.spawn(&wg, func() { a.HTTP[1] = p.overOne(ctx, at, nil) })
	} else {
		a.HTTP = make([]HTTP, 1)
		p.spawn(&wg, func() { a.HTTP[0] = p.overOne(ctx, at, conn) })
	}
	wg.Wait()
	a.OK = seen.Verified
	for _, h := range a.HTTP {
		a.OK = a.OK && h.Version.Error == nil && len(keyFaults(h.Keys, p.run.name, p.now())) == 0
	}
	if failed := a.HTTP[0].Version.Error; failed != nil && worthProbing(failed.Code) && p.probing.CompareAndSwap(false, true) {
		a.Probes = p.otherQuestions(ctx, at)
	}
	return a
}

// connect makes a TCP connection.
func (p *place) connect(ctx context.Context, port uint16, at netip.AddrPort) (*metered, Duration, *Problem) {
	limited, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	began := time.Now()
	raw, err := p.resolver.DialAddr(limited, p.host, port, at)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, since(began), cutOff()
	case err != nil:
		return nil, since(began), connectProblem(err, limited.Err() != nil)
	}
	return &metered{Conn: raw, most: maxWire}, since(began), nil
}

// cutOff is for what the end of the check has ended: it says nothing about the
// server.
func cutOff() *Problem { return &Problem{codeCut, "no answer yet when the check ended"} }

func connectProblem(err error, late bool) *Problem {
	var failed *dial.Error
	if errors.As(err, &failed) && failed.Err != nil {
		err = failed.Err
	}
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return &Problem{codeRefused, "the connection was refused: nobody listens"}
	case errors.Is(err, syscall.ECONNRESET):
		return &Problem{codeReset, "the connection was reset"}
	case noRoute(err):
		return &Problem{codeNoRoute, "this machine has no way there: " + printable.Line(err.Error())}
	case errors.Is(err, syscall.EHOSTUNREACH):
		return &Problem{codeTimeout, "a router says that there is no such host: no route to host"}
	case late, errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT), errors.As(err, &timeout) && timeout.Timeout():
		return &Problem{codeTimeout, fmt.Sprintf("no answer within %s", connectTimeout)}
	}
	return &Problem{codeConnect, printable.Line(err.Error())}
}

// noRoute reports whether it is this machine that cannot get there, such as one
// without IPv6.
func noRoute(err error) bool {
	return errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)
}

// secure makes a TLS handshake. The connection is nil if it failed, but not if the
// certificate is bad: nothing is sent over it that could do harm.
func (p *place) secure(ctx context.Context, raw *metered, sni string, protocols ...string) (*tls.Conn, *TLS) {
	limited, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	began := time.Now()
	conn, problem := shake(limited, raw, &tls.Config{ServerName: sni, NextProtos: protocols, MinVersion: tls.VersionTLS12})
	if problem != nil && ctx.Err() != nil {
		problem = cutOff()
	}
	if problem != nil {
		t := &TLS{Name: p.name, SNI: sni}
		t.Duration, t.Error = since(began), problem
		return nil, t
	}
	return conn, p.shown(conn.ConnectionState(), p.name, since(began))
}

// open is connect and secure.
func (p *place) open(ctx context.Context, at netip.AddrPort, sni string, protocols ...string) (*tls.Conn, *TLS, *Problem) {
	raw, _, problem := p.connect(ctx, p.port, at)
	if problem != nil {
		return nil, nil, problem
	}
	conn, seen := p.secure(ctx, raw, sni, protocols...)
	if conn == nil {
		return nil, seen, seen.Error
	}
	return conn, seen, nil
}

// withoutSNI is what a client gets that names no server.
func (p *place) withoutSNI(ctx context.Context, at netip.AddrPort, usual *TLS) (string, *Certificate) {
	conn, seen, problem := p.open(ctx, at, "", protocolTwo, protocolOne)
	switch {
	case seen == nil: // no connection: that says nothing about the name
		return "", nil
	case problem != nil && problem.Code == codeCut:
		return "", nil
	case problem != nil:
		return sniRefused, nil
	}
	conn.Close()
	if len(seen.Certificates) > 0 && usual.fingerprint() != seen.fingerprint() {
		usual.defaultProves = seen.Verified
		other := seen.Certificates[0]
		other.DNSNames = other.DNSNames[:min(len(other.DNSNames), maxChainNames)]
		other.IPAddresses = other.IPAddresses[:min(len(other.IPAddresses), maxChainNames)]
		return sniOther, &other
	}
	return sniSame, nil
}

// made are connections that end together.
type made struct {
	mu   sync.Mutex
	list []net.Conn
	over bool
}

// add takes one more, and closes it if it comes too late.
func (m *made) add(conn net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.over {
		conn.Close()
		return
	}
	m.list = append(m.list, conn)
}

func (m *made) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.over = true
	for _, conn := range m.list {
		conn.Close()
	}
}

// overTwo asks over HTTP/2, beginning on conn.
func (p *place) overTwo(ctx context.Context, at netip.AddrPort, conn *tls.Conn) HTTP {
	// Whoever made them, they end with the questions: the transport leaves alone a
	// connection whose last stream is still ending, and its server need never end it.
	conns := made{list: []net.Conn{conn}}
	defer conns.close()
	var dials atomic.Int32
	give := func(ctx context.Context, _, _ string) (_ net.Conn, err error) {
		defer func() { // on a goroutine of net/http's, that nobody else can recover
			if value := recover(); value != nil {
				err = fmt.Errorf("internal error: panic: %.200q", fmt.Sprint(value))
			}
		}()
		switch dials.Add(1) {
		case 1:
			return conn, nil
		case maxRedials:
		default:
			return nil, net.ErrClosed
		}
		again, _, problem := p.open(ctx, at, p.sni, protocolTwo)
		if problem != nil {
			return nil, errors.New(problem.Message)
		}
		conns.add(again)
		return again, nil
	}
	var two http.Protocols
	two.SetHTTP2(true)
	transport := &http.Transport{
		DialTLSContext: give, Protocols: &two, DisableCompression: true, MaxResponseHeaderBytes: maxHeader,
	}
	defer transport.CloseIdleConnections()
	h := HTTP{Protocol: protocolTwo}
	ask := func(path string) (Answer, []byte) {
		return p.ask(ctx, transport.RoundTrip, path, p.header)
	}
	h.Version = readVersion(ask(versionPath))
	h.Keys = readKeys(ask(keysPath))
	return h
}

// overOne asks over HTTP/1.1, each question on a connection of its own. conn is
// the first, if there is one.
func (p *place) overOne(ctx context.Context, at netip.AddrPort, conn *tls.Conn) HTTP {
	h := HTTP{Protocol: protocolOne}
	ask := func(path string) (Answer, []byte) {
		first := conn
		conn = nil
		return p.once(ctx, at, first, path, p.header)
	}
	h.Version = readVersion(ask(versionPath))
	h.Keys = readKeys(ask(keysPath))
	return h
}

// once asks one question over HTTP/1.1, on conn or, if that is nil, on a
// connection made for it.
func (p *place) once(ctx context.Context, at netip.AddrPort, conn *tls.Conn, path, host string) (Answer, []byte) {
	if conn == nil {
		began := time.Now()
		var problem *Problem
		if conn, _, problem = p.open(ctx, at, p.sni, protocolOne); problem != nil {
			return Answer{Duration: since(began), Error: problem}, nil
		}
	}
	defer conn.Close()
	return p.ask(ctx, over(conn), path, host)
}

// over sends a request over a connection, in HTTP/1.1.
func over(conn net.Conn) func(*http.Request) (*http.Response, error) {
	return func(req *http.Request) (*http.Response, error) {
		return oneshot.Do(conn, req, oneshot.Limits{Header: maxHeader, Wire: maxWire})
	}
}

// worthProbing reports whether a failure may mean that the server is there, and
// the question goes past it.
func worthProbing(code string) bool {
	switch code {
	case codeNotFound, codeStatus, codeHTML, codeNotJSON, codeRedirect, codeBadGateway, codeNotHTTP:
		return true
	}
	return false
}

// otherQuestions looks for the Matrix server behind an address that does not
// answer as one.
func (p *place) otherQuestions(ctx context.Context, at netip.AddrPort) []Probe {
	questions := []Probe{{Kind: ProbeClientAPI, Value: clientPath}}
	// A proxy that cuts a prefix off wants it twice; one that adds it, not at all. In
	// nginx "location /_matrix { proxy_pass http://…/; }" puts a slash in the place
	// of the prefix, so that only what follows without one comes out as it should be.
	for _, path := range []string{"/_matrix" + versionPath, "/_matrix" + versionPath[1:], "/federation/v1/version"} {
		questions = append(questions, Probe{Kind: ProbePath, Value: path})
	}
	for _, host := range p.otherHosts() {
		questions = append(questions, Probe{Kind: ProbeHost, Value: host})
	}
	var wg sync.WaitGroup
	for i := range questions {
		q := &questions[i]
		p.spawn(&wg, func() {
			path, host := q.Value, p.header
			if q.Kind == ProbeHost {
				path, host = versionPath, q.Value
			}
			q.Query = "GET " + path + " with Host: " + host
			answer, body := p.once(ctx, at, nil, path, host)
			p.judgeProbe(q, answer, body)
		})
	}
	wg.Wait()
	return questions
}

// judgeProbe notes how a probe was answered.
func (p *place) judgeProbe(q *Probe, answer Answer, body []byte) {
	q.Status, q.Duration = answer.Status, answer.Duration
	if q.Kind == ProbeClientAPI {
		object, err := wellknown.ParseObject(body)
		_, versions := object["versions"]
		q.Matrix = answer.Error == nil && err == nil && versions
	} else {
		v := readVersion(answer, body)
		answer = v.Answer
		q.Matrix = v.Error == nil && v.Name != ""
	}
	switch {
	case q.Matrix:
		q.Detail = "a Matrix server answers"
	case answer.Error != nil:
		q.Detail = answer.Error.Message
	default:
		q.Detail = "no Matrix server answers"
	}
}

// otherHosts are Host headers by which a proxy might know the server.
func (p *place) otherHosts() []string {
	var list []string
	seen := map[string]bool{p.header: true}
	add := func(host string) {
		if !seen[host] {
			seen[host], list = true, append(list, host)
		}
	}
	for _, text := range []string{p.header, p.run.name} {
		name, err := servername.Parse(text)
		if err != nil {
			continue
		}
		add(name.Host())
		if _, hasPort := name.Port(); !hasPort {
			add(net.JoinHostPort(name.DNSName(), strconv.Itoa(int(p.port))))
		}
	}
	if p.host != p.name { // the target of an SRV record
		add(p.host)
	}
	return list
}

// otherTLS looks for what an address speaks instead of TLS as it should be.
func (p *place) otherTLS(ctx context.Context, at netip.AddrPort) []Probe {
	old := Probe{Kind: ProbeOldTLS, Query: "TLS 1.0 to 1.2 with every cipher suite"}
	plain := Probe{Kind: ProbePlainHTTP, Query: "GET http://" + p.header + versionPath}
	var wg sync.WaitGroup
	p.spawn(&wg, func() {
		began := time.Now()
		defer func() { old.Duration = since(began) }()
		raw, _, problem := p.connect(ctx, p.port, at)
		if problem != nil {
			old.Detail = problem.Message
			return
		}
		ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
		defer cancel()
		config := &tls.Config{ServerName: p.sni, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS12}
		for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
			config.CipherSuites = append(config.CipherSuites, suite.ID)
		}
		conn, problem := shake(ctx, raw, config)
		if problem != nil {
			old.Detail = problem.Message
			return
		}
		defer conn.Close()
		state := conn.ConnectionState()
		old.Value, old.Detail = tls.VersionName(state.Version), tls.VersionName(state.Version)+" with "+tls.CipherSuiteName(state.CipherSuite)
	})
	p.spawn(&wg, func() {
		began := time.Now()
		defer func() { plain.Duration = since(began) }()
		raw, _, problem := p.connect(ctx, p.port, at)
		if problem != nil {
			plain.Detail = problem.Message
			return
		}
		defer raw.Close()
		answer, body := p.ask(ctx, over(raw), versionPath, p.header)
		p.judgeProbe(&plain, answer, body)
	})
	wg.Wait()
	return []Probe{old, plain}
}

// otherPort looks for a Matrix server at the port of HTTPS, where it often is
// when nobody listens at the one that was asked.
func (p *place) otherPort(ctx context.Context) []Probe {
	q := Probe{Kind: ProbePort443, Query: "GET https://" + hostPort(p.host, defaultHTTPS) + versionPath, Value: "443"}
	beside := &place{run: p.run, host: p.host, port: defaultHTTPS, name: p.name, sni: p.sni, header: p.header}
	located := p.resolver.Locate(ctx, p.host, defaultHTTPS)
	if len(located.Addresses) == 0 {
		return nil
	}
	began := time.Now()
	conn, seen, problem := beside.open(ctx, located.Addresses[0], p.sni, protocolOne)
	for _, at := range located.Addresses[1:min(len(located.Addresses), 2)] {
		if problem == nil {
			break
		}
		conn, seen, problem = beside.open(ctx, at, p.sni, protocolOne)
	}
	if problem != nil {
		q.Detail, q.Duration = problem.Message, since(began)
		return []Probe{q}
	}
	defer conn.Close()
	answer, body := beside.ask(ctx, over(conn), versionPath, p.header)
	beside.judgeProbe(&q, answer, body)
	if q.Matrix && !seen.Verified {
		q.Detail += "; " + seen.Error.Message
	}
	return []Probe{q}
}

func hostPort(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}
