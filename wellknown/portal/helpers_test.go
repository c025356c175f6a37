package portal

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"mxdiscover/internal/memnet"
)

// What must be written nowhere.
const (
	password = "p4ssw0rd-d0-n0t-write"
	token    = "t0ken-d0-n0t-write"
)

const (
	loginPath = "/_matrix/client/v3/login"
	oldPath   = "/_matrix/client/r0/login"
	loginBody = `{"type":"m.login.password", "identifier":{"type":"m.id.user","user":"@alice:example.org"},` + "\n" + `"password":"` + password + `"}`
	loginDone = `{"user_id":"@alice:example.org","access_token":"` + token + `","device_id":"D","home_server":"example.org"}`
)

// TestMain sees that the tests leave no goroutine behind, and that nothing goes
// to the log of the process, where net/http writes by itself.
func TestMain(m *testing.M) {
	var written syncBuffer
	log.SetOutput(&written)
	status := m.Run()
	if text := written.String(); text != "" {
		fmt.Fprintf(os.Stderr, "written to the log of the process: %q\n", text)
		status = max(status, 1)
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = max(status, 1)
	}
	os.Exit(status)
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// seen is a request as a homeserver got it.
type seen struct {
	method, uri, host, body string
	header                  http.Header
}

// homeserver is a target that remembers what it was asked.
type homeserver struct {
	*httptest.Server
	mu  sync.Mutex
	all []seen
}

func newHomeserver(t *testing.T, handler http.HandlerFunc) *homeserver {
	t.Helper()
	h := &homeserver{}
	h.Server = httptest.NewServer(h.remember(handler))
	t.Cleanup(h.Close)
	return h
}

func (h *homeserver) remember(handler http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h.mu.Lock()
		h.all = append(h.all, seen{r.Method, r.RequestURI, r.Host, string(body), r.Header.Clone()})
		h.mu.Unlock()
		handler(w, r)
	})
}

func (h *homeserver) asked() []seen {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]seen(nil), h.all...)
}

// says answers every request with one status and body.
func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// hangsUp reads the request and ends the connection.
func hangsUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// running is a portal on loopback, with everything that it wrote.
type running struct {
	t       *testing.T
	url     string
	written *syncBuffer
	mu      sync.Mutex
	logged  *sync.Cond
	sent    int
	entries []Entry
}

func start(t *testing.T, p *Portal) *running {
	t.Helper()
	require.NoError(t, p.Check())
	run := &running{t: t, written: &syncBuffer{}}
	run.logged = sync.NewCond(&run.mu)
	logger := slog.New(slog.NewJSONHandler(run.written, nil))
	p.Log = func(e Entry) {
		fmt.Fprintln(run.written, e)
		logger.Info("request", "entry", e)
		run.mu.Lock()
		defer run.mu.Unlock()
		run.entries = append(run.entries, e)
		run.logged.Broadcast()
	}
	server := httptest.NewUnstartedServer(p)
	server.Config.ErrorLog = log.New(run.written, "", 0)
	server.Start()
	run.url = server.URL
	t.Cleanup(func() {
		server.Close() // waits for every handler
		assertNoSecret(t, run.written.String())
	})
	return run
}

func assertNoSecret(t *testing.T, text string) {
	t.Helper()
	assert.NotContains(t, text, password)
	assert.NotContains(t, text, token)
	assert.NotContains(t, text, "\x1b")
}

// log waits for the entries of all that was tried: each comes after its answer.
func (r *running) log() []Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.entries) < r.sent {
		r.logged.Wait()
	}
	return append([]Entry(nil), r.entries...)
}

type reply struct {
	status int
	header http.Header
	body   string
}

// do sends a request of its own and follows nothing.
func (r *running) do(method, path, body string, header ...string) reply {
	r.t.Helper()
	got, err := r.try(method, path, strings.NewReader(body), header...)
	require.NoError(r.t, err)
	return got
}

func (r *running) try(method, path string, body io.Reader, header ...string) (reply, error) {
	r.t.Helper()
	r.mu.Lock()
	r.sent++
	r.mu.Unlock()
	request, err := http.NewRequest(method, r.url+path, body)
	require.NoError(r.t, err)
	for i := 0; i < len(header); i += 2 {
		request.Header.Add(header[i], header[i+1])
	}
	transport := &http.Transport{DisableCompression: true, DisableKeepAlives: true, ExpectContinueTimeout: 10 * time.Second}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	assertCORS(r.t, response.Header)
	return reply{response.StatusCode, response.Header, string(text)}, err
}

func (r *running) login() reply { r.t.Helper(); return r.do("POST", loginPath, loginBody) }

// assertCORS is asked of every answer in these tests.
func assertCORS(t *testing.T, header http.Header) {
	t.Helper()
	assert.Equal(t, []string{"*"}, header["Access-Control-Allow-Origin"])
	assert.Equal(t, []string{"GET, POST, PUT, DELETE, OPTIONS"}, header["Access-Control-Allow-Methods"])
	assert.Equal(t, []string{"X-Requested-With, Content-Type, Authorization"}, header["Access-Control-Allow-Headers"])
}

func assertError(t *testing.T, got reply, status int, code string) {
	t.Helper()
	assert.Equal(t, status, got.status, got.body)
	assert.Equal(t, "application/json", got.header.Get("Content-Type"))
	assert.Regexp(t, `^\{"errcode":"`+code+`","error":"[^"]+"(,"soft_logout":true)?\}$`, got.body)
}

// nobody is the URL of a port at which nobody listens.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return "http://" + l.Addr().String()
}

// raw answers each connection with the same bytes, after the request has come
// whole if greet is false. It counts connections that brought bytes.
func raw(t *testing.T, answer string, greet bool) (url string, asked func() int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var mu sync.Mutex
	var wait sync.WaitGroup
	n := 0
	wait.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wait.Go(func() {
				defer conn.Close()
				if greet {
					io.WriteString(conn, answer)
				}
				buf := make([]byte, 64<<10)
				got := 0
				for !bytes.Contains(buf[:got], []byte(password)) && !bytes.HasPrefix(buf[:got], []byte("GET")) {
					m, err := conn.Read(buf[got:])
					got += m
					if err != nil {
						return
					}
				}
				mu.Lock()
				n++
				mu.Unlock()
				if !greet {
					io.WriteString(conn, strings.ReplaceAll(answer, "{echo}", string(buf[:got])))
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); wait.Wait() })
	return "http://" + l.Addr().String(), func() int { mu.Lock(); defer mu.Unlock(); return n }
}

// inMemory is a network for virtual time: one portal, and targets beside it.
type inMemory struct {
	*memnet.Network
	t       *testing.T
	servers []*http.Server
}

const portalAddr = "192.0.2.1:80"

func newInMemory(t *testing.T) *inMemory {
	return &inMemory{Network: &memnet.Network{Latency: time.Millisecond}, t: t}
}

func (n *inMemory) serve(addr string, handler http.Handler) *http.Server {
	l, err := n.Listen(addr)
	require.NoError(n.t, err)
	server := &http.Server{Handler: handler}
	n.servers = append(n.servers, server)
	go server.Serve(l)
	return server
}

func (n *inMemory) close() {
	for _, server := range n.servers {
		server.Close()
	}
	time.Sleep(2 * time.Second) // a handler may be asleep; this costs nothing
}

// dial fits Portal.Dial.
func (n *inMemory) dial(ctx context.Context, host string, port uint16) (net.Conn, netip.AddrPort, error) {
	conn, err := n.DialContext(ctx, "tcp", net.JoinHostPort(host, fmt.Sprint(port)))
	return conn, netip.AddrPort{}, err
}

func (n *inMemory) post(body io.Reader) (reply, error) {
	transport := &http.Transport{DialContext: n.DialContext, DisableKeepAlives: true}
	request, err := http.NewRequest("POST", "http://"+portalAddr+loginPath, body)
	if err != nil {
		return reply{}, err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, response.Header, string(text)}, err
}
