package resolver_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"mxdiscover/internal/memnet"
	"mxdiscover/internal/world"
	"mxdiscover/resolver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A payload is a request's body that counts what is done to it.
type payload struct {
	src    io.Reader
	reads  atomic.Int32
	closes atomic.Int32
	closed chan struct{} // by the first Close
}

func newPayload(src io.Reader) *payload { return &payload{src: src, closed: make(chan struct{})} }

func (p *payload) Read(b []byte) (int, error) {
	p.reads.Add(1)
	if p.closes.Load() > 0 {
		return 0, errors.New("read after Close")
	}
	return p.src.Read(b)
}

func (p *payload) Close() error {
	if p.closes.Add(1) == 1 {
		close(p.closed)
	}
	return nil
}

// closedOnce waits for Close, which net/http may call after RoundTrip.
func (p *payload) closedOnce(t *testing.T) {
	t.Helper()
	select {
	case <-p.closed:
	case <-time.After(20 * time.Second):
		t.Error("the body was not closed")
		return
	}
	assert.Equal(t, int32(1), p.closes.Load(), "the body is closed once")
}

// A seen request is one that a server of the world has received.
type seen struct {
	at         netip.AddrPort
	host, name string // the Host header, and the name in TLS
	proto      string
	body       []byte
	err        error
}

// A witness writes down every request that any server receives, by its path,
// and every address that is dialled.
type witness struct {
	mu    sync.Mutex
	got   map[string][]seen
	dials []string
}

// watch has w answer every request that is not for well-known with the address
// of the server. A body is read unless the path ends in "/unread".
func watch(w *world.World, r *resolver.Resolver) *witness {
	v := &witness{got: make(map[string][]seen)}
	w.Handle(func(rw http.ResponseWriter, req *http.Request, at netip.AddrPort) bool {
		if strings.HasPrefix(req.URL.Path, "/.well-known/") {
			return false
		}
		s := seen{at: at, host: req.Host, proto: req.Proto}
		if req.TLS != nil {
			s.name = req.TLS.ServerName
		}
		if !strings.HasSuffix(req.URL.Path, "/unread") {
			s.body, s.err = io.ReadAll(req.Body)
		}
		v.mu.Lock()
		v.got[req.URL.Path] = append(v.got[req.URL.Path], s)
		v.mu.Unlock()
		rw.Write([]byte(at.String()))
		return true
	})
	r.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		v.mu.Lock()
		v.dials = append(v.dials, address)
		v.mu.Unlock()
		return w.DialContext(ctx, network, address)
	}
	return v
}

func (v *witness) requests(path string) []seen {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.got[path])
}

func (v *witness) dialled() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.dials)
}

// dialledOnly fails for addresses that no stranger may have dialled.
func (v *witness) dialledOnly(t *testing.T) {
	t.Helper()
	for _, address := range v.dialled() {
		at := netip.MustParseAddrPort(address).Addr()
		assert.False(t, at.IsPrivate() || at.IsLoopback() || at.IsUnspecified() || at.IsLinkLocalUnicast(), "%s was dialled", address)
	}
}

// unchanged notes what a request is, and gives the function that compares.
func unchanged(t *testing.T, req *http.Request) func() {
	t.Helper()
	was, header := *req, req.Header.Clone()
	var where string
	if req.URL != nil {
		where = fmt.Sprintf("%#v", *req.URL)
	}
	url, ctx := req.URL, req.Context()
	return func() {
		t.Helper()
		assert.Equal(t, was.Method, req.Method)
		assert.Same(t, url, req.URL)
		if url != nil {
			assert.Equal(t, where, fmt.Sprintf("%#v", *req.URL))
		}
		assert.Equal(t, header, req.Header)
		assert.Equal(t, was.Host, req.Host)
		assert.True(t, was.Body == req.Body, "the body is the caller's")
		assert.Equal(t, was.GetBody == nil, req.GetBody == nil)
		assert.Equal(t, was.ContentLength, req.ContentLength)
		assert.Equal(t, was.TransferEncoding, req.TransferEncoding)
		assert.Equal(t, was.Close, req.Close)
		assert.Equal(t, was.Trailer, req.Trailer)
		assert.Equal(t, was.Proto, req.Proto)
		assert.True(t, ctx == req.Context())
	}
}

// A targetState is what may become of one target of a server.
type targetState struct {
	name   string
	server string // its options; empty for a good one
	code   resolver.Code
	waits  time.Duration // what it costs
	// zone gives the records of host, whose own address is addr, at first and
	// later on. If nil, an A record.
	zone func(host, addr string, later bool) string
	dns  string // a fault of its addresses
	// lone says that it shows only in virtual time.
	lone bool
}

func record(format string) func(host, addr string, later bool) string {
	return func(host, addr string, _ bool) string {
		return strings.NewReplacer("HOST", host+".", "ADDR", addr).Replace(format) + "\n"
	}
}

// deadV6 is a black hole.
const deadV6 = "2001:db8::dead"

// targetStates are all that can be the matter with a target; an empty code
// is a target that does.
var targetStates = []targetState{
	{name: "ok"},
	{name: "refuse", server: "refuse", code: resolver.ConnectFailed},
	{name: "drop", server: "drop", code: resolver.Timeout, waits: 10 * time.Second, lone: true},
	{name: "reset", server: "reset", code: resolver.TLSFailed},
	{name: "close", server: "close", code: resolver.TLSFailed},
	{name: "stall-handshake", server: "stall-handshake", code: resolver.Timeout, waits: 10 * time.Second, lone: true},
	{name: "reset-handshake", server: "reset-handshake", code: resolver.TLSFailed},
	{name: "self-signed", server: "cert self-signed", code: resolver.TLSFailed},
	{name: "expired", server: "cert expired", code: resolver.TLSFailed},
	{name: "not-yet-valid", server: "cert not-yet-valid", code: resolver.TLSFailed},
	{name: "untrusted", server: "cert untrusted", code: resolver.TLSFailed},
	{name: "wrong-names", server: "cert names=wrong.example,*.other.example", code: resolver.TLSFailed},
	{name: "plain", server: "plain", code: resolver.TLSFailed},
	{name: "no-address", zone: record(`HOST TXT "no address"`), code: resolver.NoAddress},
	{name: "denied", zone: record("HOST A 10.0.0.1\nHOST A 127.0.0.1\nHOST AAAA ::1"), code: resolver.AddressDenied},
	{name: "public-and-denied", zone: record("HOST A 10.0.0.1\nHOST A ADDR\nHOST A 127.0.0.1")},
	{name: "dead-v6", zone: record("HOST AAAA " + deadV6 + "\nHOST A ADDR"), waits: 300 * time.Millisecond, lone: true},
	{name: "rebinding", code: resolver.AddressDenied, lone: true, zone: func(host, addr string, later bool) string {
		if later {
			addr = "127.0.0.1"
		}
		return host + ". 5 A " + addr + "\n"
	}},
	{name: "servfail", dns: "rcode SERVFAIL", code: resolver.AddressTemporary},
}

var errBody = errors.New("the body cannot be read")

const content = `{"pdus":[{"type":"m.room.message"}]}`

// bodyKinds are the ways in which a request can have a body.
var bodyKinds = []struct {
	name string
	make func(req *http.Request) *payload // nil if there is none to count
	want string                           // what the server gets
}{
	{"none", func(*http.Request) *payload { return nil }, ""},
	{"no-body", func(req *http.Request) *payload { req.Body = http.NoBody; return nil }, ""},
	{"repeatable", func(req *http.Request) *payload {
		p := newPayload(strings.NewReader(content))
		req.Body, req.ContentLength = p, int64(len(content))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }
		return p
	}, content},
	{"one-shot", func(req *http.Request) *payload {
		p := newPayload(strings.NewReader(content))
		req.Body, req.ContentLength = p, int64(len(content))
		return p
	}, content},
	{"chunked", func(req *http.Request) *payload {
		p := newPayload(strings.NewReader(content))
		req.Body, req.ContentLength = p, -1
		return p
	}, content},
	{"failing", func(req *http.Request) *payload {
		p := newPayload(io.MultiReader(strings.NewReader(content[:10]), failingReader{}))
		req.Body, req.ContentLength = p, int64(len(content))
		return p
	}, content[:10]},
	{"unread", func(req *http.Request) *payload {
		p := newPayload(bytes.NewReader(make([]byte, 1<<20)))
		req.Body, req.ContentLength = p, 1<<20
		return p
	}, ""},
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errBody }

// pairScene has a name for first with every second state and every kind of
// body: p-SECOND-KIND.example, whose SRV records name the two.
func pairScene(first targetState, states []targetState, option string) string {
	var zone [2]strings.Builder
	var servers, dns strings.Builder
	host := func(prefix, addr string, s targetState) {
		name := prefix + s.name + ".example"
		for later := range zone {
			if s.zone != nil {
				zone[later].WriteString(s.zone(name, addr, later == 1))
			} else {
				fmt.Fprintf(&zone[later], "%s. A %s\n", name, addr)
			}
		}
		if s.dns != "" {
			fmt.Fprintf(&dns, "%s A %s\n%s AAAA %s\n", name, s.dns, name, s.dns)
		}
		options := s.server
		if s.server == "" || strings.HasPrefix(s.server, "cert") {
			options += " " + option
		}
		fmt.Fprintf(&servers, "%s:8443 %s\n", addr, options)
	}
	host("a-", "203.0.113.1", first)
	for i, second := range states {
		host("b-", fmt.Sprintf("198.51.100.%d", i+1), second)
		for _, kind := range bodyKinds {
			for later := range zone {
				owner := fmt.Sprintf("_matrix-fed._tcp.p-%s-%s.example.", second.name, kind.name)
				fmt.Fprintf(&zone[later], "%s SRV 10 1 8443 a-%s.example.\n%s SRV 20 1 8443 b-%s.example.\n", owner, first.name, owner, second.name)
			}
		}
	}
	fmt.Fprintf(&servers, "[%s]:8443 drop\n", deadV6)
	return "-- zone --\n" + zone[0].String() + "-- zone from 60s --\n" + zone[1].String() +
		"-- servers --\n" + servers.String() + "-- dns --\n" + dns.String()
}

// TestFaultPairs: every state of the first target with every state of the
// second and every kind of body. The request reaches the first target that
// does, once and whole, and nobody else; or the error tells all.
func TestFaultPairs(t *testing.T) {
	t.Parallel()
	t.Run("HTTP1.1", func(t *testing.T) {
		t.Parallel()
		for _, first := range targetStates {
			t.Run(first.name, func(t *testing.T) {
				t.Parallel()
				within(t, 0, pairScene(first, targetStates, "http1"), func(t *testing.T, w *world.World, r *resolver.Resolver) {
					v := watch(w, r)
					// Who looked first saw a public address.
					for _, name := range []string{"a-rebinding.example:8443", "b-rebinding.example:8443"} {
						r.Explain(t.Context(), name)
					}
					time.Sleep(61 * time.Second)
					tr := &resolver.Transport{Resolver: r}
					tryPairs(t, v, tr, first, targetStates, "HTTP/1.1", true)
					tr.CloseIdleConnections()
					time.Sleep(time.Second)
					synctest.Wait()
					assert.Zero(t, w.Open(), "connections that nobody uses")
				})
			})
		}
	})
	t.Run("HTTP2", func(t *testing.T) {
		t.Parallel()
		states := slices.DeleteFunc(slices.Clone(targetStates), func(s targetState) bool { return s.lone })
		for _, first := range states {
			t.Run(first.name, func(t *testing.T) {
				t.Parallel()
				scene, err := world.Parse(t.Name(), []byte(pairScene(first, states, "")))
				require.NoError(t, err)
				w, err := scene.Start(world.Memory{Network: new(memnet.Network)})
				require.NoError(t, err)
				defer w.Close()
				r := inside(w)
				v := watch(w, r)
				tr := &resolver.Transport{Resolver: r}
				tryPairs(t, v, tr, first, states, "HTTP/2.0", false)
				tr.CloseIdleConnections()
			})
		}
	})
}

func tryPairs(t *testing.T, v *witness, tr *resolver.Transport, first targetState, states []targetState, proto string, virtual bool) {
	var wg sync.WaitGroup
	n := 0
	slots := make(chan struct{}, 32)
	for i, second := range states {
		for _, kind := range bodyKinds {
			n++
			turn := time.Duration(n) * time.Millisecond
			wg.Go(func() {
				if virtual {
					time.Sleep(turn) // a server of DNS loses what comes all at once
				} else {
					slots <- struct{}{}
					defer func() { <-slots }()
				}
				about := fmt.Sprintf("%s, %s, %s", first.name, second.name, kind.name)
				name := fmt.Sprintf("p-%s-%s.example", second.name, kind.name)
				path := "/" + second.name + "/" + kind.name
				req, err := http.NewRequestWithContext(t.Context(), "PUT", "matrix-federation://"+name+path, nil)
				if !assert.NoError(t, err) {
					return
				}
				req.Header.Set("Authorization", "X-Matrix origin=a")
				p := kind.make(req)
				same := unchanged(t, req)
				began := time.Now()
				resp, err := tr.RoundTrip(req)
				took := time.Since(began)

				winner := ""
				budget := time.Second
				switch {
				case first.code == "":
					winner, budget = "203.0.113.1:8443", first.waits
				case second.code == "":
					winner, budget = fmt.Sprintf("198.51.100.%d:8443", i+1), first.waits+second.waits
				default:
					budget = first.waits + second.waits + time.Second // and for asking again
				}
				if virtual {
					assert.LessOrEqual(t, took, budget+100*time.Millisecond, about)
				}
				got := v.requests(path)
				switch {
				case winner == "":
					var failed *resolver.ConnectError
					if assert.ErrorAs(t, err, &failed, about) && assert.Len(t, failed.Tried, 2, about) {
						assert.Equal(t, "a-"+first.name+".example:8443", failed.Tried[0].Target.String(), about)
						assert.Equal(t, "b-"+second.name+".example:8443", failed.Tried[1].Target.String(), about)
						assert.Equal(t, first.code, failed.Tried[0].Code, "%s: %v", about, failed)
						assert.Equal(t, second.code, failed.Tried[1].Code, "%s: %v", about, failed)
						assert.ErrorIs(t, err, resolver.Unreachable)
						assert.ErrorIs(t, err, first.code)
						assert.ErrorIs(t, err, second.code)
						assert.Equal(t, name, failed.ServerName)
						assert.True(t, failed.RetryAt.After(began))
						assert.Less(t, strings.Index(err.Error(), "a-"+first.name), strings.Index(err.Error(), "b-"+second.name), "the first error first")
					}
					assert.Empty(t, got, about)
					if p != nil {
						assert.Zero(t, p.reads.Load(), "%s: nobody was there to read for", about)
					}
				case kind.name == "failing":
					assert.ErrorIs(t, err, errBody, about)
					assert.LessOrEqual(t, len(got), 1, about)
				default:
					if assert.NoError(t, err, about) {
						answer, err := io.ReadAll(resp.Body)
						assert.NoError(t, err, about)
						assert.NoError(t, resp.Body.Close())
						assert.Equal(t, winner, string(answer), about)
						assert.Same(t, req, resp.Request)
						got = v.requests(path)
					}
					assert.Len(t, got, 1, about)
				}
				for _, s := range got {
					assert.Equal(t, winner, s.at.String(), about)
					assert.Equal(t, name, s.host, about)
					assert.Equal(t, name, s.name, about)
					assert.Equal(t, proto, s.proto, about)
					if kind.name != "failing" {
						assert.NoError(t, s.err, about)
						assert.Equal(t, kind.want, string(s.body), about)
					} else {
						assert.Error(t, s.err, "%s: half a body must not look like a whole one", about)
					}
				}
				if p != nil {
					p.closedOnce(t)
				}
				same()
			})
		}
	}
	wg.Wait()
	v.dialledOnly(t)
}

// request is a federation request that counts what is done to its body, if it
// has one.
func request(t *testing.T, ctx context.Context, method, url, body string) (*http.Request, *payload) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	require.NoError(t, err)
	if body == "" {
		return req, nil
	}
	p := newPayload(strings.NewReader(body))
	req.Body, req.ContentLength = p, int64(len(body))
	return req, p
}

// reach sends a PUT with a one-shot body and gives the address of the server
// that got it.
func reach(t *testing.T, tr *resolver.Transport, name string) (string, error) {
	t.Helper()
	req, p := request(t, t.Context(), "PUT", "matrix-federation://"+name+"/"+name, content)
	resp, err := tr.RoundTrip(req)
	p.closedOnce(t)
	if err != nil {
		assert.Zero(t, p.reads.Load(), "nobody was there to read for")
		return "", err
	}
	defer resp.Body.Close()
	at, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(at), nil
}

// TestTransportContract: whatever becomes of a request, it is left as it was
// and its body is closed once.
func TestTransportContract(t *testing.T) {
	t.Parallel()
	const scene = `
-- zone --
good.example.   A 203.0.113.1
drop.example.   A 203.0.113.2
stall.example.  A 203.0.113.3
refuse.example. A 203.0.113.4
silent.example. A 203.0.113.5
-- servers --
203.0.113.1:8448 http1
203.0.113.2:8448 drop
203.0.113.3:8448 stall-handshake
203.0.113.4:8448 refuse
-- dns --
_matrix-fed._tcp.servfail.example SRV rcode SERVFAIL
*.silent.example * silent
`
	type exchange struct {
		about string
		name  string // good.example if empty
		path  string
		edit  func(req *http.Request)
		after time.Duration // when the caller gives up
		err   error
		text  string // in the error
		took  time.Duration
		sent  int
	}
	for _, x := range []exchange{
		{about: "success", sent: 1},
		{about: "scheme matrix", edit: func(r *http.Request) { r.URL.Scheme = "matrix" }, sent: 1},
		{about: "HEAD", edit: func(r *http.Request) { r.Method = "HEAD" }, sent: 1},
		{about: "no content", path: "/204", sent: 1},
		{about: "not modified", path: "/304", sent: 1},
		{about: "a redirect is not followed", path: "/302", sent: 1},
		{about: "answer before the body", path: "/early", edit: large, sent: 1},
		{about: "answer in place of 100 Continue", path: "/early", edit: func(r *http.Request) {
			large(r)
			r.Header.Set("Expect", "100-continue")
		}, sent: 1},
		{about: "a Host of the caller's is not taken", edit: func(r *http.Request) { r.Host = "other.example" }, sent: 1},
		{about: "https", edit: func(r *http.Request) { r.URL.Scheme = "https" }, err: resolver.InvalidRequest},
		{about: "http", edit: func(r *http.Request) { r.URL.Scheme = "http" }, err: resolver.InvalidRequest},
		{about: "no scheme", edit: func(r *http.Request) { r.URL.Scheme = "" }, err: resolver.InvalidRequest},
		{about: "a scheme to break lines with", edit: func(r *http.Request) { r.URL.Scheme = "a\nb" }, err: resolver.InvalidRequest},
		{about: "no URL", edit: func(r *http.Request) { r.URL = nil }, err: resolver.InvalidRequest},
		{about: "no server name", edit: func(r *http.Request) { r.URL.Host = "" }, err: resolver.InvalidRequest},
		{about: "no header", edit: func(r *http.Request) { r.Header = nil }, text: "Header"},
		{about: "a bad header", edit: func(r *http.Request) { r.Header["X\n"] = []string{"y"} }, text: "header"},
		{about: "a bad method", edit: func(r *http.Request) { r.Method = "A B" }, text: "method"},
		{about: "a bad name", name: "bad_name.example", err: resolver.InvalidServerName},
		{about: "a bad port", name: "good.example:0", err: resolver.InvalidServerName},
		{about: "a name with a user", edit: func(r *http.Request) { r.URL.Host = "user@good.example" }, err: resolver.InvalidServerName},
		{about: "not permitted", name: "forbidden.example", err: resolver.NotPermitted},
		{about: "no answer of DNS", name: "servfail.example", err: resolver.SRVTemporary},
		{about: "refused", name: "refuse.example", err: resolver.Unreachable},
		{about: "given up before", edit: func(r *http.Request) {
			ctx, cancel := context.WithCancel(r.Context())
			cancel()
			*r = *r.WithContext(ctx)
		}, err: context.Canceled},
		{about: "given up while asking", name: "silent.example", after: time.Second, err: context.DeadlineExceeded, took: time.Second},
		{about: "given up while dialling", name: "drop.example:8448", after: time.Second, err: context.DeadlineExceeded, took: time.Second},
		{about: "given up in the handshake", name: "stall.example:8448", after: time.Second, err: context.DeadlineExceeded, took: time.Second},
		{about: "given up while sending", path: "/deaf", edit: large, after: time.Second, err: context.DeadlineExceeded, took: time.Second, sent: 1},
		{about: "given up while waiting", path: "/mute", after: time.Second, err: context.DeadlineExceeded, took: time.Second, sent: 1},
		{about: "the server goes while it answers", path: "/abort", text: "EOF", sent: 1},
	} {
		t.Run(x.about, func(t *testing.T) {
			t.Parallel()
			within(t, 0, scene, func(t *testing.T, w *world.World, r *resolver.Resolver) {
				r.Permit = func(name string) bool { return name != "forbidden.example" }
				var sent atomic.Int32
				done := make(chan struct{})
				defer close(done)
				w.Handle(func(rw http.ResponseWriter, req *http.Request, _ netip.AddrPort) bool {
					if strings.HasPrefix(req.URL.Path, "/.well-known/") {
						return false
					}
					sent.Add(1)
					assert.Equal(t, "good.example:8448", req.Host)
					switch req.URL.Path {
					case "/204":
						rw.WriteHeader(204)
					case "/304":
						rw.WriteHeader(304)
					case "/302":
						rw.Header().Set("Location", "matrix-federation://drop.example:8448/")
						rw.WriteHeader(302)
					case "/early":
						rw.WriteHeader(413)
					case "/deaf":
						<-done
					case "/mute":
						io.Copy(io.Discard, req.Body)
						<-done
					case "/abort":
						io.Copy(io.Discard, req.Body)
						panic(http.ErrAbortHandler)
					default:
						io.Copy(rw, req.Body)
					}
					return true
				})
				name := x.name
				if name == "" {
					name = "good.example:8448"
				}
				ctx := t.Context()
				if x.after > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, x.after)
					defer cancel()
				}
				req, p := request(t, ctx, "PUT", "matrix-federation://"+name+x.path+"?q=%2F", content)
				req.Header.Set("Authorization", "X-Matrix")
				if x.edit != nil {
					x.edit(req)
					if req.Body != p {
						p = req.Body.(*payload)
					}
				}
				tr := &resolver.Transport{Resolver: r}
				same := unchanged(t, req)
				began := time.Now()
				resp, err := tr.RoundTrip(req)
				assert.Equal(t, x.took, time.Since(began))
				same()
				if x.err == nil && x.text == "" {
					if assert.NoError(t, err) {
						assert.Same(t, req, resp.Request)
						body, err := io.ReadAll(resp.Body)
						assert.NoError(t, err)
						if x.path == "" && req.Method == "PUT" {
							assert.Equal(t, content, string(body))
						}
						resp.Body.Close()
					}
				} else {
					assert.Nil(t, resp)
					assert.Error(t, err)
					if x.err != nil {
						assert.ErrorIs(t, err, x.err)
					}
					if err != nil {
						assert.ErrorContains(t, err, x.text)
						assert.NotContains(t, err.Error(), "\n")
					}
				}
				assert.Equal(t, int32(x.sent), sent.Load())
				p.closedOnce(t)
				same()
				tr.CloseIdleConnections()
				time.Sleep(time.Minute)
				synctest.Wait()
				assert.Equal(t, int32(1), p.closes.Load(), "and is not closed again")
				if x.sent == 0 || x.took == 0 {
					assert.Zero(t, w.Open())
				}
			})
		})
	}
}

// large gives a request a body that fits into no buffer on its way.
func large(req *http.Request) {
	req.Body, req.ContentLength = newPayload(io.LimitReader(zeroes{}, 8<<20)), 8<<20
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// dials counts the dials to an address.
func (v *witness) dialsTo(address string) int {
	n := 0
	for _, a := range v.dialled() {
		if a == address {
			n++
		}
	}
	return n
}

// TestTargetPenalty: a target that failed is tried last, for half a minute and
// up to fifteen, and first again once it has been reached.
func TestTargetPenalty(t *testing.T) {
	t.Parallel()
	const scene = `
-- zone --
_matrix-fed._tcp.h.example. 86400 SRV 10 1 8443 a.example.
_matrix-fed._tcp.h.example. 86400 SRV 20 1 8443 b.example.
a.example. A 203.0.113.1
b.example. A 203.0.113.2
-- servers --
203.0.113.1:8443 refuse
203.0.113.2:8443 http1
-- servers from 4000s --
203.0.113.1:8443 http1
203.0.113.2:8443 http1
`
	within(t, 0, scene, func(t *testing.T, w *world.World, r *resolver.Resolver) {
		v := watch(w, r)
		tr := &resolver.Transport{Resolver: r, Base: &http.Transport{DisableKeepAlives: true}}
		began := time.Now()
		var tried []int // seconds at which a was dialled
		var reached []int
		for time.Since(began) < 5000*time.Second {
			second, before := int(time.Since(began).Seconds()), v.dialsTo("203.0.113.1:8443")
			at, err := reach(t, tr, "h.example")
			require.NoError(t, err, "b.example does")
			if v.dialsTo("203.0.113.1:8443") > before {
				tried = append(tried, second)
			}
			if at == "203.0.113.1:8443" {
				reached = append(reached, second)
			}
			time.Sleep(10 * time.Second)
		}
		// 30 s, then twice as long each time, and 15 minutes at most.
		first := []int{0, 30, 90, 210, 450, 930, 1830, 2730, 3630, 4530}
		require.GreaterOrEqual(t, len(tried), len(first))
		assert.Equal(t, first, tried[:len(first)])
		for second := 4530; second < 5000; second += 10 {
			assert.Contains(t, reached, second, "all goes to a.example again")
		}
	})
}

// moved are the ways in which a server can be elsewhere than what is known of
// it says.
var moved = []struct{ about, before, after string }{
	{"its address", "h.example. 86400 A 203.0.113.1", "h.example. 86400 A 203.0.113.2"},
	{"the address of its target", "_matrix-fed._tcp.h.example. 86400 SRV 1 1 8448 s.example.\ns.example. 86400 A 203.0.113.1",
		"_matrix-fed._tcp.h.example. 86400 SRV 1 1 8448 s.example.\ns.example. 86400 A 203.0.113.2"},
	{"its target", "_matrix-fed._tcp.h.example. 86400 SRV 1 1 8448 s.example.\ns.example. 86400 A 203.0.113.1",
		"_matrix-fed._tcp.h.example. 86400 SRV 1 1 8448 n.example.\nn.example. 86400 A 203.0.113.2"},
	{"no SRV record any more", "h.example. A 203.0.113.2\n_matrix-fed._tcp.h.example. 86400 SRV 1 1 8448 s.example.\ns.example. 86400 A 203.0.113.1",
		"h.example. A 203.0.113.2"},
	{"an SRV record now", "h.example. 86400 A 203.0.113.1\n*.h.example. 86400 TXT none",
		"h.example. 86400 A 203.0.113.1\n_matrix-fed._tcp.h.example. 86400 SRV 1 1 8448 n.example.\nn.example. 86400 A 203.0.113.2"},
	{"IPv6 now", "h.example. 86400 A 203.0.113.1", "h.example. 86400 AAAA 2001:db8::2"},
}

// TestMoved: when all targets fail, discovery is asked again, and the request
// goes where it then leads, with the body that nobody has read.
func TestMoved(t *testing.T) {
	t.Parallel()
	const servers = `
-- servers --
203.0.113.1:8448 http1
203.0.113.2:8448 http1
[2001:db8::2]:8448 http1
-- servers from 30s --
203.0.113.1:8448 FAULT
203.0.113.2:8448 http1
[2001:db8::2]:8448 http1
`
	check := func(t *testing.T, fault string, scene string) {
		within(t, time.Millisecond, scene+strings.ReplaceAll(servers, "FAULT", fault), func(t *testing.T, w *world.World, r *resolver.Resolver) {
			v := watch(w, r)
			tr := &resolver.Transport{Resolver: r}
			defer tr.CloseIdleConnections()
			_, err := reach(t, tr, "h.example")
			require.NoError(t, err)
			w.Cut(netip.MustParseAddrPort("203.0.113.1:8448"))
			time.Sleep(31 * time.Second)
			tr.CloseIdleConnections()
			at, err := reach(t, tr, "h.example")
			require.NoError(t, err, "the same request finds the new place")
			assert.NotEqual(t, "203.0.113.1:8448", at)
			got := v.requests("/h.example")
			require.Len(t, got, 2)
			assert.Equal(t, content, string(got[1].body))
			assert.NoError(t, got[1].err)
			assert.Equal(t, uint64(1), tr.Stats().AskedAgain)
		})
	}
	for _, m := range moved {
		for _, fault := range []string{"refuse", "drop", "cert expired"} {
			t.Run(m.about+", "+fault, func(t *testing.T) {
				t.Parallel()
				check(t, fault, "-- zone --\n"+m.before+"\n-- zone from 30s --\n"+m.after+"\n")
			})
		}
	}
	t.Run("well-known", func(t *testing.T) {
		t.Parallel()
		const zone = "-- zone --\nh.example. A 203.0.113.9\no.example. A 203.0.113.1\nn.example. A 203.0.113.2\n"
		const document = "-- GET https://h.example/.well-known/matrix/server%s --\n200\n\n{\"m.server\":\"%s.example:8448\"}\n"
		check(t, "refuse", zone+fmt.Sprintf(document, "", "o")+fmt.Sprintf(document, " from 30s", "n"))
	})
}

// TestMovedToADeniedAddress: what is asked again goes through the guard as well.
func TestMovedToADeniedAddress(t *testing.T) {
	t.Parallel()
	const scene = `
-- zone --
h.example. 86400 A 203.0.113.1
-- zone from 60s --
h.example. A 127.0.0.1
-- servers --
203.0.113.1:8448 refuse
`
	within(t, time.Millisecond, scene, func(t *testing.T, w *world.World, r *resolver.Resolver) {
		v := watch(w, r)
		r.Explain(t.Context(), "h.example") // its address is known now
		time.Sleep(61 * time.Second)
		tr := &resolver.Transport{Resolver: r}
		defer tr.CloseIdleConnections()
		_, err := reach(t, tr, "h.example")
		require.ErrorIs(t, err, resolver.AddressDenied)
		v.dialledOnly(t)
	})
}

// dead is a server that is dead for a while, with everything that can be asked
// about it.
const dead = `
-- zone --
h.example. A 203.0.113.9
d.example. A 203.0.113.9
_matrix-fed._tcp.d.example. SRV 1 1 8448 a.example.
_matrix-fed._tcp.d.example. SRV 2 1 8448 b.example.
a.example. A 203.0.113.1
b.example. A 203.0.113.2
-- servers --
203.0.113.1:8448 refuse
203.0.113.2:8448 refuse
-- servers from 20s --
203.0.113.1:8448 refuse
203.0.113.2:8448 http1
-- GET https://h.example/.well-known/matrix/server --
200

{"m.server":"d.example"}
`

// TestDeadServer: fifty requests one after the other cost hardly more than one.
func TestDeadServer(t *testing.T) {
	t.Parallel()
	within(t, time.Millisecond, dead, func(t *testing.T, w *world.World, r *resolver.Resolver) {
		v := watch(w, r)
		tr := &resolver.Transport{Resolver: r}
		defer tr.CloseIdleConnections()
		var quiet int
		for i := range 50 {
			_, err := reach(t, tr, "h.example")
			var failed *resolver.ConnectError
			require.ErrorAs(t, err, &failed)
			assert.True(t, failed.RetryAt.After(time.Now()), "RetryAt is to come")
			assert.LessOrEqual(t, time.Until(failed.RetryAt), time.Second)
			require.Len(t, failed.Tried, 2)
			assert.ErrorIs(t, err, resolver.ConnectFailed)
			assert.Equal(t, i > 0, failed.Remembered)
			if i == 3 {
				quiet = len(w.Asked()) + len(v.dialled())
			}
		}
		assert.Equal(t, quiet, len(w.Asked())+len(v.dialled()), "after the first few nobody is asked")
		assert.LessOrEqual(t, count(w, "GET https://h.example/.well-known"), 3)
		assert.LessOrEqual(t, count(w, "SRV "), 8)
		assert.Equal(t, 1, v.dialsTo("203.0.113.1:8448"))
		stats := tr.Stats()
		assert.Equal(t, uint64(49), stats.Remembered)
		assert.Equal(t, uint64(1), stats.AskedAgain)
		assert.Equal(t, map[resolver.Code]uint64{resolver.ConnectFailed: 2}, stats.Failures)
	})
}

// TestLeftAlone: ten requests a second to a server that is dead: it is tried
// after 1, 4, 16 and then every 60 seconds, and the first request after
// RetryAt finds it again.
func TestLeftAlone(t *testing.T) {
	t.Parallel()
	for _, back := range []time.Duration{4 * time.Second, 14 * time.Second, 100 * time.Second, 1000 * time.Second} {
		t.Run(back.String(), func(t *testing.T) {
			t.Parallel()
			scene := strings.ReplaceAll(dead, "from 20s", "from "+back.String())
			within(t, 0, scene, func(t *testing.T, w *world.World, r *resolver.Resolver) {
				v := watch(w, r)
				tr := &resolver.Transport{Resolver: r}
				defer tr.CloseIdleConnections()
				began := time.Now()
				var retry time.Time
				for {
					at, err := reach(t, tr, "h.example")
					now := time.Now()
					if err == nil {
						assert.Equal(t, "203.0.113.2:8448", at)
						assert.False(t, now.Before(began.Add(back)))
						assert.WithinDuration(t, retry, now, 100*time.Millisecond, "at the first request after RetryAt")
						assert.Less(t, now.Sub(began.Add(back)), 61*time.Second, "a server that is back waits a minute at most")
						break
					}
					var failed *resolver.ConnectError
					require.ErrorAs(t, err, &failed)
					require.True(t, failed.RetryAt.After(now))
					retry = failed.RetryAt
					require.Less(t, now.Sub(began), back+2*time.Minute)
					time.Sleep(100 * time.Millisecond)
				}
				rounds := 1 // the one that succeeds
				for at, pause := time.Duration(0), time.Second; at < back; at, pause = at+pause, min(4*pause, time.Minute) {
					rounds++
				}
				assert.LessOrEqual(t, v.dialsTo("203.0.113.1:8448"), rounds)
				assert.LessOrEqual(t, count(w, "GET https://h.example/.well-known"), 2+int(back/(5*time.Minute)), "discovery is asked again every five minutes at most")

				// All is well again: a failure now counts as the first.
				require.NoError(t, w.Change(mustParse(t, strings.ReplaceAll(dead, "from 20s", "from 24h"))))
				tr.CloseIdleConnections()
				_, err := reach(t, tr, "h.example")
				var failed *resolver.ConnectError
				require.ErrorAs(t, err, &failed)
				assert.Equal(t, time.Second, time.Until(failed.RetryAt))
			})
		})
	}
}

func mustParse(t *testing.T, text string) *world.Scene {
	t.Helper()
	scene, err := world.Parse(t.Name(), []byte(text))
	require.NoError(t, err)
	return scene
}

// TestMarkAlive: who has just been heard of is tried at once.
func TestMarkAlive(t *testing.T) {
	t.Parallel()
	within(t, 0, dead, func(t *testing.T, w *world.World, r *resolver.Resolver) {
		watch(w, r)
		tr := &resolver.Transport{Resolver: r}
		defer tr.CloseIdleConnections()
		var failed *resolver.ConnectError
		for range 3 { // at 0, 1 and 5 seconds
			_, err := reach(t, tr, "h.example")
			require.ErrorAs(t, err, &failed)
			time.Sleep(time.Until(failed.RetryAt))
		}
		_, err := reach(t, tr, "h.example") // at 21 seconds it is back
		require.NoError(t, err)

		require.NoError(t, w.Change(mustParse(t, strings.ReplaceAll(dead, "from 20s", "from 24s"))))
		tr.CloseIdleConnections()
		for range 2 { // at 21 and 22
			_, err = reach(t, tr, "h.example")
			require.ErrorAs(t, err, &failed)
			require.False(t, failed.Remembered)
			time.Sleep(time.Second)
		}
		time.Sleep(2 * time.Second) // it is back, and left alone until 26
		_, err = reach(t, tr, "h.example")
		require.ErrorAs(t, err, &failed)
		require.True(t, failed.Remembered)
		w.ResetAsked()
		tr.MarkAlive("h.example")
		tr.MarkAlive("d.example") // without failures of its own
		tr.MarkAlive("unknown.example")
		tr.MarkAlive("not a name")
		synctest.Wait()
		assert.Empty(t, w.Asked(), "it asks nothing itself")
		at, err := reach(t, tr, "h.example")
		require.NoError(t, err)
		assert.Equal(t, "203.0.113.2:8448", at)
	})
}

// TestManyToADeadServer: two hundred requests at once make one round of dials,
// at first and whenever a pause ends.
func TestManyToADeadServer(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"refuse", "drop"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			scene := strings.ReplaceAll(strings.ReplaceAll(dead, "from 20s", "from 24h"), "refuse", fault)
			within(t, time.Millisecond, scene, func(t *testing.T, w *world.World, r *resolver.Resolver) {
				v := watch(w, r)
				tr := &resolver.Transport{Resolver: r}
				defer tr.CloseIdleConnections()
				for round := 1; round <= 4; round++ {
					began := time.Now()
					var retry atomic.Int64
					var wg sync.WaitGroup
					for range 200 {
						wg.Go(func() {
							_, err := reach(t, tr, "h.example")
							var failed *resolver.ConnectError
							if assert.ErrorAs(t, err, &failed) && assert.Len(t, failed.Tried, 2) {
								retry.Store(failed.RetryAt.UnixNano())
							}
						})
					}
					wg.Wait()
					assert.LessOrEqual(t, time.Since(began), 21*time.Second, "two targets, ten seconds each")
					assert.Equal(t, round, v.dialsTo("203.0.113.1:8448"), "round %d", round)
					assert.Equal(t, round, v.dialsTo("203.0.113.2:8448"), "round %d", round)
					time.Sleep(time.Until(time.Unix(0, retry.Load())))
				}
				assert.LessOrEqual(t, count(w, "GET https://h.example/.well-known"), 2)
				assert.LessOrEqual(t, count(w, "SRV "), 8)
			})
		})
	}
}

// TestLeaderGivesUp: the connection that everybody waits for does not end with
// the request that began it.
func TestLeaderGivesUp(t *testing.T) {
	t.Parallel()
	scene := strings.NewReplacer("203.0.113.1:8448 refuse", "203.0.113.1:8448 drop", "from 20s", "from 0s").Replace(dead)
	scene = strings.Replace(scene, "-- servers --\n203.0.113.1:8448 drop\n203.0.113.2:8448 refuse\n", "", 1)
	within(t, time.Millisecond, scene, func(t *testing.T, w *world.World, r *resolver.Resolver) {
		v := watch(w, r)
		tr := &resolver.Transport{Resolver: r}
		defer tr.CloseIdleConnections()
		began := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			req, p := request(t, ctx, "PUT", "matrix-federation://h.example/first", content)
			_, err := tr.RoundTrip(req)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Equal(t, time.Second, time.Since(began))
			p.closedOnce(t)
			assert.Zero(t, p.reads.Load())
		})
		for range 50 {
			wg.Go(func() {
				time.Sleep(500 * time.Millisecond)
				at, err := reach(t, tr, "h.example")
				if assert.NoError(t, err) {
					assert.Equal(t, "203.0.113.2:8448", at)
				}
				assert.Less(t, time.Since(began), 11*time.Second)
			})
		}
		wg.Wait()
		assert.Empty(t, v.requests("/first"))
		assert.Equal(t, 1, v.dialsTo("203.0.113.1:8448"))
	})
}

// onLoopback starts a scene on loopback with a witness in it.
func onLoopback(t *testing.T, text string) (*world.World, *witness, *resolver.Resolver) {
	t.Helper()
	w, err := mustParse(t, text).Start(world.Loopback{})
	require.NoError(t, err)
	t.Cleanup(func() { w.Close() })
	r := inside(w)
	return w, watch(w, r), r
}

// TestNeverTheOthersServer: example.org and example.org:443 share nothing,
// however many requests come for both at once.
func TestNeverTheOthersServer(t *testing.T) {
	t.Parallel()
	for _, proto := range []string{"", "http1"} {
		for about, text := range map[string]string{
			"well-known": "-- zone --\nexample.org. A 203.0.113.1\nm.example. A 203.0.113.2\n" +
				"-- GET https://example.org/.well-known/matrix/server --\n200\n\n{\"m.server\":\"m.example:443\"}\n",
			"the same machine": "-- zone --\nexample.org. A 203.0.113.1\n_matrix-fed._tcp.example.org. SRV 1 1 443 example.org.\n",
			"SRV":              "-- zone --\nexample.org. A 203.0.113.1\n_matrix-fed._tcp.example.org. SRV 1 1 443 m.example.\nm.example. A 203.0.113.2\n",
		} {
			t.Run(about+" "+proto, func(t *testing.T) {
				t.Parallel()
				_, v, r := onLoopback(t, text+"-- servers --\n203.0.113.1:443 "+proto+"\n203.0.113.2:443 "+proto+"\n")
				tr := &resolver.Transport{Resolver: r}
				defer tr.CloseIdleConnections()
				var wg sync.WaitGroup
				for i := range 100 {
					name, want := "example.org", "203.0.113.2:443"
					if about == "the same machine" {
						want = "203.0.113.1:443"
					}
					if i%2 == 1 {
						name, want = "example.org:443", "203.0.113.1:443"
					}
					wg.Go(func() {
						at, err := reach(t, tr, name)
						assert.NoError(t, err)
						assert.Equal(t, want, at)
					})
				}
				wg.Wait()
				for _, s := range v.requests("/example.org:443") {
					assert.Equal(t, "example.org:443", s.host)
					assert.Equal(t, "example.org", s.name)
				}
				assert.Equal(t, 2, tr.Stats().Plans)
				assert.GreaterOrEqual(t, tr.Stats().Connections, uint64(2))
			})
		}
	}
}

// TestThousandNamesShare: a thousand names that are delegated to one host use
// one connection; two names whose SRV records lead to one machine do not.
func TestThousandNamesShare(t *testing.T) {
	t.Parallel()
	const scene = `
-- zone --
*.many.example. A 203.0.113.1
host.example.   A 203.0.113.2
one.example. TXT x
_matrix-fed._tcp.one.example. SRV 1 1 443 host.example.
_matrix-fed._tcp.two.example. SRV 1 1 443 host.example.
-- servers --
203.0.113.1:443
203.0.113.2:443
`
	w, v, r := onLoopback(t, scene)
	var got sync.Map
	w.Handle(func(rw http.ResponseWriter, req *http.Request, at netip.AddrPort) bool {
		if strings.HasPrefix(req.URL.Path, "/.well-known/") {
			io.WriteString(rw, `{"m.server":"host.example:443"}`)
			return true
		}
		got.Store(req.URL.Path, seen{at: at, host: req.Host, name: req.TLS.ServerName})
		rw.Write([]byte(at.String()))
		return true
	})
	tr := &resolver.Transport{Resolver: r}
	defer tr.CloseIdleConnections()
	var wg sync.WaitGroup
	names := make(chan string)
	for range 16 {
		wg.Go(func() {
			for name := range names {
				_, err := reach(t, tr, name)
				assert.NoError(t, err)
				s, _ := got.Load("/" + name)
				assert.Equal(t, seen{at: netip.MustParseAddrPort("203.0.113.2:443"), host: "host.example:443", name: "host.example"}, s)
			}
		})
	}
	for i := range 1000 {
		names <- fmt.Sprintf("n%d.many.example", i)
	}
	close(names)
	wg.Wait()
	assert.Equal(t, uint64(1), tr.Stats().Connections)
	assert.Equal(t, 1, tr.Stats().Plans)
	assert.Equal(t, 1, v.dialsTo("203.0.113.2:443"))

	for _, name := range []string{"one.example", "two.example"} {
		_, err := reach(t, tr, name)
		require.NoError(t, err)
		s, _ := got.Load("/" + name)
		assert.Equal(t, seen{at: netip.MustParseAddrPort("203.0.113.2:443"), host: name, name: name}, s)
	}
	assert.Equal(t, uint64(3), tr.Stats().Connections)
	assert.Equal(t, 3, tr.Stats().Plans)
}

// TestSharingOverTime: records that DNS turns round are the same destination;
// others are not, and old connections get no new request.
func TestSharingOverTime(t *testing.T) {
	t.Parallel()
	const (
		hosts = "a.example. A 203.0.113.1\nb.example. A 203.0.113.2\nc.example. A 203.0.113.3\n"
		owner = "_matrix-fed._tcp.h.example. 60 SRV "
		rest  = "-- servers --\n203.0.113.1:8443 http1\n203.0.113.2:8443 http1\n203.0.113.3:8443 http1\n"
	)
	zone := func(records ...string) string {
		return "-- zone --\n" + hosts + owner + strings.Join(records, "\n"+owner) + "\n" + rest
	}
	within(t, time.Millisecond, zone("1 1 8443 a.example.", "1 1 8443 b.example."), func(t *testing.T, w *world.World, r *resolver.Resolver) {
		v := watch(w, r)
		tr := &resolver.Transport{Resolver: r}
		defer tr.CloseIdleConnections()
		first, err := reach(t, tr, "h.example")
		require.NoError(t, err)
		for _, same := range []string{
			zone("1 1 8443 b.example.", "1 1 8443 a.example."),
			zone("1 1 8443 B.Example.", "1 1 8443 A.example."),
			zone("1 90 8443 a.example.", "1 10 8443 b.example."),
			zone("5 1 8443 a.example.", "1 1 8443 b.example."),
		} {
			require.NoError(t, w.Change(mustParse(t, same)))
			time.Sleep(61 * time.Second)
			at, err := reach(t, tr, "h.example")
			require.NoError(t, err)
			assert.Equal(t, first, at, "the connection is good for any order")
			assert.Equal(t, uint64(1), tr.Stats().Connections)
		}
		for i, other := range []struct{ text, at string }{
			{zone("1 1 8443 c.example."), "203.0.113.3:8443"},
			{zone("1 1 8443 b.example."), "203.0.113.2:8443"},
			{zone("1 1 8443 a.example."), "203.0.113.1:8443"},
		} {
			require.NoError(t, w.Change(mustParse(t, other.text)))
			time.Sleep(61 * time.Second)
			at, err := reach(t, tr, "h.example")
			require.NoError(t, err)
			assert.Equal(t, other.at, at, "the old connection is not used")
			assert.Equal(t, uint64(i+2), tr.Stats().Connections)
		}
		v.dialledOnly(t)
	})
}

// TestAddressNames: no SNI for an IP address (RFC 6066, 3), and a certificate
// for it.
func TestAddressNames(t *testing.T) {
	t.Parallel()
	const scene = `
-- zone --
x.example. A 203.0.113.1
x.example. A 203.0.113.2
-- servers --
203.0.113.1:8448 http1
203.0.113.2:8448 http1 cert none-ip
203.0.113.3:8448 http1 cert names=203.0.113.1,x.example
[2001:db8::1]:8448 http1
[2001:db8::2]:8448 http1 cert names=2001:db8::1
`
	within(t, 0, scene, func(t *testing.T, w *world.World, r *resolver.Resolver) {
		v := watch(w, r)
		tr := &resolver.Transport{Resolver: r}
		defer tr.CloseIdleConnections()
		for name, good := range map[string]bool{
			"203.0.113.1": true, "203.0.113.1:8448": true, "203.0.113.2": false, "203.0.113.3": false,
			"[2001:db8::1]": true, "[2001:db8::1]:8448": true, "[2001:0db8::1]": true, "[2001:db8::2]": false,
		} {
			_, err := reach(t, tr, name)
			got := v.requests("/" + name)
			if !good {
				assert.ErrorIs(t, err, resolver.TLSFailed, name)
				assert.Empty(t, got)
				continue
			}
			if assert.NoError(t, err, name) && assert.Len(t, got, 1) {
				assert.Empty(t, got[0].name, "no SNI")
				assert.Equal(t, name, got[0].host)
			}
		}
	})
}

// TestStampede: two hundred first requests at once.
func TestStampede(t *testing.T) {
	t.Parallel()
	const requests = 200
	const scene = "-- zone --\nh.example. A 203.0.113.1\n-- servers --\n203.0.113.1:8448 %s\n"
	all := func(t *testing.T, tr *resolver.Transport) {
		t.Helper()
		var wg sync.WaitGroup
		for range requests {
			wg.Go(func() {
				_, err := reach(t, tr, "h.example:8448")
				assert.NoError(t, err)
			})
		}
		wg.Wait()
	}
	t.Run("HTTP2", func(t *testing.T) {
		t.Parallel()
		w, v, r := onLoopback(t, fmt.Sprintf(scene, ""))
		for range 20 {
			before := len(v.dialled())
			tr := &resolver.Transport{Resolver: r}
			all(t, tr)
			assert.LessOrEqual(t, len(v.dialled())-before, 4)
			assert.LessOrEqual(t, tr.Stats().Connections, uint64(4))
			tr.CloseIdleConnections()
		}
		got := v.requests("/h.example:8448")
		assert.Len(t, got, 20*requests)
		for _, s := range got {
			if s.proto != "HTTP/2.0" || string(s.body) != content {
				t.Fatalf("a server got %+v", s)
			}
		}
		w.Close()
	})
	t.Run("HTTP1.1", func(t *testing.T) {
		t.Parallel()
		_, v, r := onLoopback(t, fmt.Sprintf(scene, "http1"))
		tr := &resolver.Transport{Resolver: r}
		defer tr.CloseIdleConnections()
		all(t, tr)
		assert.Len(t, v.requests("/h.example:8448"), requests)
	})
	t.Run("HTTP1.1 far away", func(t *testing.T) {
		t.Parallel()
		within(t, 50*time.Millisecond, fmt.Sprintf(scene, "http1"), func(t *testing.T, w *world.World, r *resolver.Resolver) {
			v := watch(w, r)
			tr := &resolver.Transport{Resolver: r}
			defer tr.CloseIdleConnections()
			began := time.Now()
			all(t, tr)
			assert.Len(t, v.requests("/h.example:8448"), requests)
			// DNS, and twice TCP, TLS and HTTP: the first connection says that it
			// takes one request at a time.
			assert.LessOrEqual(t, time.Since(began), 7*100*time.Millisecond)
		})
	})
	t.Run("few streams", func(t *testing.T) {
		t.Parallel()
		var got atomic.Int32
		tr := single(t, func(rw http.ResponseWriter, req *http.Request) {
			got.Add(1)
			io.Copy(rw, req.Body)
		}, func(s *httptest.Server) { s.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 40} }, nil)
		var wg sync.WaitGroup
		for range requests {
			wg.Go(func() {
				req, p := request(t, t.Context(), "PUT", "matrix-federation://example.com:8448/", content)
				// Until the server has said how many streams it takes (RFC 9113, 6.5.2),
				// it gets more, and refuses them unread. They can be sent again only
				// if the body can.
				req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }
				resp, err := tr.RoundTrip(req)
				if assert.NoError(t, err) {
					body, err := io.ReadAll(resp.Body)
					assert.NoError(t, err)
					assert.Equal(t, content, string(body))
					resp.Body.Close()
				}
				p.closedOnce(t)
			})
		}
		wg.Wait()
		assert.Equal(t, int32(requests), got.Load())
	})
}

// single is a Transport to one server on loopback that speaks HTTP/2 and is
// good for the name example.com.
func single(t *testing.T, h http.HandlerFunc, edit func(*httptest.Server), base *http.Transport) *resolver.Transport {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	if edit != nil {
		edit(server)
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	at := netip.MustParseAddrPort(server.Listener.Addr().String())
	tr := &resolver.Transport{Base: base, Resolver: &resolver.Resolver{
		RootCAs: roots,
		ConnectTo: func(string, uint16) (string, uint16, bool) {
			return at.Addr().String(), at.Port(), true
		},
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// TestBothWaysAtOnce: a server may answer while it is still being sent to, also
// if the request first had to wait for another one's connection.
func TestBothWaysAtOnce(t *testing.T) {
	t.Parallel()
	tr := single(t, func(rw http.ResponseWriter, req *http.Request) {
		rw.WriteHeader(200)
		http.NewResponseController(rw).Flush()
		io.Copy(rw, req.Body)
	}, nil, nil)
	for range 5 { // it is a matter of luck who has to wait
		tr := &resolver.Transport{Resolver: tr.Resolver}
		var wg sync.WaitGroup
		for range 200 { // more than net/http takes for granted before the server has said how many streams it takes
			wg.Go(func() {
				reader, writer := io.Pipe()
				p := newPayload(reader)
				req, err := http.NewRequestWithContext(t.Context(), "PUT", "matrix-federation://example.com:8448/", p)
				if !assert.NoError(t, err) {
					return
				}
				resp, err := tr.RoundTrip(req)
				if !assert.NoError(t, err) {
					return
				}
				assert.Zero(t, p.closes.Load(), "it is not sent yet")
				go func() {
					writer.Write([]byte(content))
					writer.Close()
				}()
				body, err := io.ReadAll(resp.Body)
				assert.NoError(t, err)
				assert.Equal(t, content, string(body))
				resp.Body.Close()
				p.closedOnce(t)
			})
		}
		wg.Wait()
		tr.CloseIdleConnections()
	}
}

// TestRefusedStreams: a server refuses what is more than it takes at once, and
// net/http sends that again, with a body of GetBody. It must be whole each
// time: half a body without a length looks like a whole one.
func TestRefusedStreams(t *testing.T) {
	t.Parallel()
	var bad atomic.Int32
	tr := single(t, func(rw http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil || string(body) != content {
			bad.Add(1)
		}
	}, func(s *httptest.Server) { s.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 40} }, nil)
	for range 10 { // it is a matter of luck who is refused
		tr := &resolver.Transport{Resolver: tr.Resolver}
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				req, _ := request(t, t.Context(), "PUT", "matrix-federation://example.com:8448/", "")
				req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }
				req.Body, _ = req.GetBody()
				req.ContentLength = -1
				resp, err := tr.RoundTrip(req)
				if assert.NoError(t, err) {
					resp.Body.Close()
				}
			})
		}
		wg.Wait()
		tr.CloseIdleConnections()
	}
	assert.Zero(t, bad.Load(), "requests with another body than was sent")
}

// TestBase: what is taken from Base, what is not, and that Base stays as it is.
func TestBase(t *testing.T) {
	t.Parallel()
	const scene = `
-- zone --
h.example.     A 203.0.113.1
old.example.   A 203.0.113.2
one.example.   A 203.0.113.3
-- servers --
203.0.113.1:8448
203.0.113.2:8448 tls12
203.0.113.3:8448 http1
`
	never := func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("a dialler of Base was used")
	}
	protocols := func(set ...func(*http.Protocols)) *http.Protocols {
		p := new(http.Protocols)
		for _, s := range set {
			s(p)
		}
		return p
	}
	one := func(p *http.Protocols) { p.SetHTTP1(true) }
	two := func(p *http.Protocols) { p.SetHTTP2(true) }
	for _, test := range []struct {
		about string
		base  *http.Transport
		name  string // h.example if empty
		proto string
		err   error
	}{
		{about: "none", proto: "HTTP/2.0"},
		{about: "zero", base: &http.Transport{}, proto: "HTTP/2.0"},
		{about: "the default one", base: http.DefaultTransport.(*http.Transport), proto: "HTTP/2.0"},
		{about: "HTTP/1.1 alone", base: &http.Transport{Protocols: protocols(one)}, proto: "HTTP/1.1"},
		{about: "HTTP/2 alone", base: &http.Transport{Protocols: protocols(two)}, proto: "HTTP/2.0"},
		{about: "both", base: &http.Transport{Protocols: protocols(one, two)}, proto: "HTTP/2.0"},
		{about: "no HTTP/2", base: &http.Transport{TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}, proto: "HTTP/1.1"},
		{about: "TLS options", base: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13}}, proto: "HTTP/2.0"},
		{about: "TLS options, old server", name: "old.example:8448", base: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13}}, err: resolver.TLSFailed},
		{about: "old server", name: "old.example:8448", proto: "HTTP/2.0"},
		{about: "server of HTTP/1.1", name: "one.example:8448", proto: "HTTP/1.1"},
		{about: "HTTP/2 alone, server of HTTP/1.1", name: "one.example:8448", base: &http.Transport{Protocols: protocols(two)}, err: resolver.TLSFailed},
		{about: "a name of its own", base: &http.Transport{TLSClientConfig: &tls.Config{ServerName: "other.example", NextProtos: []string{"other"}}}, proto: "HTTP/2.0"},
		{about: "other roots", base: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: x509.NewCertPool()}}, err: resolver.TLSFailed},
		{about: "diallers and a proxy", base: &http.Transport{
			DialContext: never, DialTLSContext: never,
			Proxy: func(*http.Request) (*url.URL, error) { return nil, errors.New("a proxy of Base was used") },
		}, proto: "HTTP/2.0"},
		{about: "no keep-alives", base: &http.Transport{DisableKeepAlives: true}, proto: "HTTP/2.0"},
		{about: "one connection", base: &http.Transport{MaxConnsPerHost: 1, MaxIdleConnsPerHost: 1}, proto: "HTTP/2.0"},
		{about: "one connection of HTTP/1.1", base: &http.Transport{MaxConnsPerHost: 1, Protocols: protocols(one)}, proto: "HTTP/1.1"},
	} {
		t.Run(test.about, func(t *testing.T) {
			t.Parallel()
			_, v, r := onLoopback(t, scene)
			name := test.name
			if name == "" {
				name = "h.example:8448"
			}
			var before http.Transport
			if b := test.base; b != nil {
				before = http.Transport{
					TLSClientConfig: b.TLSClientConfig, ForceAttemptHTTP2: b.ForceAttemptHTTP2, Protocols: b.Protocols,
					MaxConnsPerHost: b.MaxConnsPerHost, DisableKeepAlives: b.DisableKeepAlives, IdleConnTimeout: b.IdleConnTimeout,
				}
			}
			var serverName string
			if before.TLSClientConfig != nil {
				serverName = before.TLSClientConfig.ServerName
			}
			tr := &resolver.Transport{Resolver: r, Base: test.base}
			defer tr.CloseIdleConnections()
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					_, err := reach(t, tr, name)
					if test.err != nil {
						assert.ErrorIs(t, err, test.err)
					} else {
						assert.NoError(t, err)
					}
				})
			}
			wg.Wait()
			got := v.requests("/" + name)
			if test.err != nil {
				assert.Empty(t, got)
			} else {
				assert.Len(t, got, 20)
			}
			for _, s := range got {
				assert.Equal(t, test.proto, s.proto)
				assert.Equal(t, strings.TrimSuffix(name, ":8448"), s.name)
			}
			if b := test.base; b != nil {
				assert.Equal(t, before.ForceAttemptHTTP2, b.ForceAttemptHTTP2)
				assert.Same(t, before.Protocols, b.Protocols)
				assert.Equal(t, before.MaxConnsPerHost, b.MaxConnsPerHost)
				assert.Equal(t, before.IdleConnTimeout, b.IdleConnTimeout)
				assert.True(t, test.about == "diallers and a proxy" || b.DialTLSContext == nil)
				if before.TLSClientConfig != nil {
					assert.Same(t, before.TLSClientConfig, b.TLSClientConfig)
					assert.Equal(t, serverName, b.TLSClientConfig.ServerName)
				}
			}
		})
	}

	t.Run("used before and after", func(t *testing.T) {
		t.Parallel()
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) { io.WriteString(rw, req.Proto) }))
		server.EnableHTTP2 = true
		server.StartTLS()
		defer server.Close()
		base := server.Client().Transport.(*http.Transport).Clone()
		use := func() {
			t.Helper()
			resp, err := (&http.Client{Transport: base}).Get(server.URL)
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			require.NoError(t, err)
			assert.Equal(t, "HTTP/2.0", string(body))
		}
		use()
		tr := single(t, func(rw http.ResponseWriter, req *http.Request) { io.WriteString(rw, req.Proto) }, nil, base)
		base.TLSClientConfig.RootCAs.AddCert(server.Certificate())
		req, _ := request(t, t.Context(), "GET", "matrix-federation://example.com:8448/", "")
		resp, err := tr.RoundTrip(req)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		require.NoError(t, err)
		assert.Equal(t, "HTTP/2.0", string(body))
		use()
		base.CloseIdleConnections()
	})

	t.Run("time for the header", func(t *testing.T) {
		t.Parallel()
		within(t, 0, strings.Replace(scene, "203.0.113.1:8448", "203.0.113.1:8448 http1", 1)+
			"-- PUT https://h.example:8448/mute --\n200\n!delay 1h\n", func(t *testing.T, w *world.World, r *resolver.Resolver) {
			tr := &resolver.Transport{Resolver: r, Base: &http.Transport{ResponseHeaderTimeout: 7 * time.Second}}
			defer tr.CloseIdleConnections()
			req, p := request(t, t.Context(), "PUT", "matrix-federation://h.example:8448/mute", content)
			began := time.Now()
			_, err := tr.RoundTrip(req)
			var timeout net.Error
			require.ErrorAs(t, err, &timeout)
			assert.True(t, timeout.Timeout())
			assert.Equal(t, 7*time.Second, time.Since(began))
			p.closedOnce(t)
			assert.Empty(t, tr.Stats().Failures, "a server that is slow to answer is not dead")
		})
	})
}

// TestTrace: the hooks of httptrace are called as by net/http.
func TestTrace(t *testing.T) {
	t.Parallel()
	for _, edit := range []func(*httptest.Server){nil, func(s *httptest.Server) { s.EnableHTTP2 = false }} {
		tr := single(t, func(rw http.ResponseWriter, req *http.Request) { io.Copy(rw, req.Body) }, edit, nil)
		for i := range 2 {
			var mu sync.Mutex
			var happened []string
			var reused bool
			note := func(what string) {
				mu.Lock()
				defer mu.Unlock()
				happened = append(happened, what)
			}
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				GetConn:              func(string) { note("GetConn") },
				ConnectStart:         func(_, _ string) { note("ConnectStart") },
				ConnectDone:          func(_, _ string, err error) { note("ConnectDone") },
				TLSHandshakeStart:    func() { note("ConnectTLS") },
				TLSHandshakeDone:     func(_ tls.ConnectionState, err error) { assert.NoError(t, err); note("ConnectedTLS") },
				GotConn:              func(info httptrace.GotConnInfo) { note("GotConn"); reused = info.Reused },
				WroteHeaders:         func() { note("WroteHeaders") },
				WroteRequest:         func(httptrace.WroteRequestInfo) { note("WroteRequest") },
				GotFirstResponseByte: func() { note("GotFirstResponseByte") },
			})
			req, _ := request(t, ctx, "PUT", "matrix-federation://example.com:8448/", content)
			resp, err := tr.RoundTrip(req)
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, resp.Body)
			require.NoError(t, err)
			resp.Body.Close()
			want := []string{"GetConn", "ConnectStart", "ConnectDone", "ConnectTLS", "ConnectedTLS", "GotConn", "WroteHeaders", "WroteRequest", "GotFirstResponseByte"}
			if i == 1 {
				want = slices.DeleteFunc(want, func(s string) bool { return strings.HasPrefix(s, "Connect") })
			}
			mu.Lock()
			assert.ElementsMatch(t, want, happened)
			mu.Unlock()
			assert.Equal(t, i == 1, reused)
		}
	}
}

// TestIdleConnectionGone: a kept connection that the server has ended costs
// nothing but another connection, and a body is not sent twice.
func TestIdleConnectionGone(t *testing.T) {
	t.Parallel()
	for _, option := range []string{"", "http1"} {
		w, v, r := onLoopback(t, "-- zone --\nh.example. A 203.0.113.1\n-- servers --\n203.0.113.1:8448 "+option+"\n")
		tr := &resolver.Transport{Resolver: r}
		defer tr.CloseIdleConnections()
		failed := 0
		for i := range 100 {
			path := fmt.Sprintf("/%d", i)
			req, p := request(t, t.Context(), "PUT", "matrix-federation://h.example:8448"+path, content)
			resp, err := tr.RoundTrip(req)
			p.closedOnce(t)
			got := v.requests(path)
			if err != nil {
				failed++ // the reset came while it was being sent
				assert.LessOrEqual(t, len(got), 1)
			} else {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				assert.Len(t, got, 1)
			}
			if i%2 == 0 {
				w.Cut(netip.MustParseAddrPort("203.0.113.1:8448"))
			}
		}
		assert.LessOrEqual(t, failed, 50, "only after a connection has ended")
		assert.GreaterOrEqual(t, tr.Stats().Connections, uint64(40))
		assert.Empty(t, tr.Stats().Failures, "the server is not to blame")
	}
}

// TestTinyCache: more servers at once than there is room for.
func TestTinyCache(t *testing.T) {
	t.Parallel()
	var zone strings.Builder
	for i := range 50 {
		fmt.Fprintf(&zone, "h%d.example. A 203.0.113.1\n", i)
	}
	for _, option := range []string{"", "http1"} {
		_, v, r := onLoopback(t, "-- zone --\n"+zone.String()+"-- servers --\n203.0.113.1:8443 "+option+"\n")
		r.CacheSize = 1
		tr := &resolver.Transport{Resolver: r}
		var wg sync.WaitGroup
		for i := range 200 {
			name := fmt.Sprintf("h%d.example:8443", i%50)
			wg.Go(func() {
				_, err := reach(t, tr, name)
				assert.NoError(t, err)
			})
		}
		wg.Wait()
		tr.CloseIdleConnections()
		assert.LessOrEqual(t, tr.Stats().Plans, 1)
		for i := range 50 {
			name := fmt.Sprintf("h%d.example:8443", i)
			got := v.requests("/" + name)
			assert.Len(t, got, 4)
			for _, s := range got {
				assert.Equal(t, name, s.host)
				assert.Equal(t, strings.TrimSuffix(name, ":8443"), s.name)
			}
		}
	}
}

// TestDiesWithMany: a server of HTTP/1.1 that becomes a black hole while two
// hundred requests come for it has failed once, not two hundred times.
func TestDiesWithMany(t *testing.T) {
	t.Parallel()
	const scene = `
-- zone --
h.example. A 203.0.113.1
-- servers --
203.0.113.1:8448 http1
-- servers from 30s --
203.0.113.1:8448 drop
-- servers from 50s --
203.0.113.1:8448 http1
`
	within(t, time.Millisecond, scene, func(t *testing.T, w *world.World, r *resolver.Resolver) {
		watch(w, r)
		tr := &resolver.Transport{Resolver: r}
		defer tr.CloseIdleConnections()
		_, err := reach(t, tr, "h.example:8448")
		require.NoError(t, err)
		w.Cut(netip.MustParseAddrPort("203.0.113.1:8448"))
		time.Sleep(31 * time.Second)
		var wg sync.WaitGroup
		var retry atomic.Pointer[time.Time]
		for i := range 200 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				_, err := reach(t, tr, "h.example:8448")
				var failed *resolver.ConnectError
				if assert.ErrorAs(t, err, &failed) {
					retry.Store(&failed.RetryAt)
				}
			})
		}
		wg.Wait()
		assert.LessOrEqual(t, time.Until(*retry.Load()), time.Second)
		for { // it is back at 50, after a pause or two
			_, err := reach(t, tr, "h.example:8448")
			if err == nil {
				break
			}
			var failed *resolver.ConnectError
			require.ErrorAs(t, err, &failed)
			require.LessOrEqual(t, time.Until(failed.RetryAt), 4*time.Second)
			time.Sleep(time.Until(failed.RetryAt))
		}
	})
}

// TestMovedFromASharedServer: two names are delegated to one server, which
// dies. One of them is delegated elsewhere by then. That is found out although it
// was a request for the other that met the failure.
func TestMovedFromASharedServer(t *testing.T) {
	t.Parallel()
	const scene = `
-- zone --
a.example. A 203.0.113.9
b.example. A 203.0.113.9
old.example. A 203.0.113.1
new.example. A 203.0.113.2
-- servers --
203.0.113.1:8448 http1
203.0.113.2:8448 http1
-- servers from 30s --
203.0.113.1:8448 refuse
203.0.113.2:8448 http1
-- GET https://a.example/.well-known/matrix/server --
200

{"m.server":"old.example:8448"}
-- GET https://b.example/.well-known/matrix/server --
200

{"m.server":"old.example:8448"}
-- GET https://b.example/.well-known/matrix/server from 30s --
200

{"m.server":"new.example:8448"}
`
	within(t, time.Millisecond, scene, func(t *testing.T, w *world.World, r *resolver.Resolver) {
		watch(w, r)
		tr := &resolver.Transport{Resolver: r}
		defer tr.CloseIdleConnections()
		for _, name := range []string{"a.example", "b.example"} {
			_, err := reach(t, tr, name)
			require.NoError(t, err)
		}
		w.Cut(netip.MustParseAddrPort("203.0.113.1:8448"))
		time.Sleep(31 * time.Second)
		_, err := reach(t, tr, "a.example")
		require.ErrorIs(t, err, resolver.Unreachable)
		at, err := reach(t, tr, "b.example")
		require.NoError(t, err, "discovery is asked again for this name too")
		assert.Equal(t, "203.0.113.2:8448", at)
	})
}
