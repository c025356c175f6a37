package serve

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"mxdiscover/check"
	"mxdiscover/internal/memnet"
	"mxdiscover/resolver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// checker is the type of Server.Check.
type checker = func(ctx context.Context, name string, rules resolver.Rules, onEvent func(check.Event)) *check.Report

// reportOn is a small good report.
func reportOn(name string) *check.Report {
	return &check.Report{Version: check.SchemaVersion, ServerName: name, Verdict: check.Good, Summary: "All is well.", CheckedAt: time.Now(), Rules: "current"}
}

// at once checks in no time.
func atOnce(_ context.Context, name string, _ resolver.Rules, _ func(check.Event)) *check.Report {
	return reportOn(name)
}

// lasting takes its time, unless ctx ends.
func lasting(d time.Duration) checker {
	return func(ctx context.Context, name string, _ resolver.Rules, _ func(check.Event)) *check.Report {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
		return reportOn(name)
	}
}

// get asks a handler.
func get(s http.Handler, target string, edit ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for _, e := range edit {
		e(r)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func from(addr string) func(*http.Request) {
	return func(r *http.Request) { r.RemoteAddr = net.JoinHostPort(addr, "4711") }
}

func with(key, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Add(key, value) }
}

// failure reads the code of a JSON failure.
func failure(t *testing.T, w *httptest.ResponseRecorder) Failure {
	t.Helper()
	var body struct{ Error Failure }
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body), "%s", w.Body)
	require.NotEmpty(t, body.Error.Code)
	require.NotEmpty(t, body.Error.Message)
	return body.Error
}

// site is a Server that can be reached over a network in memory.
type site struct {
	network *memnet.Network
	server  *http.Server
	client  *http.Client
	addr    string
}

// newSite serves s; the caller is in a bubble. It is closed when the test ends.
func newSite(t *testing.T, s *Server) *site {
	t.Helper()
	network := &memnet.Network{}
	const addr = "192.0.2.80:80"
	l, err := network.Listen(addr)
	require.NoError(t, err)
	var both http.Protocols
	both.SetHTTP1(true)
	both.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: s, Protocols: &both}
	go server.Serve(l)
	transport := &http.Transport{DialContext: func(ctx context.Context, n, _ string) (net.Conn, error) {
		return network.DialContext(ctx, n, addr)
	}}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.Close(ctx)
		transport.CloseIdleConnections()
		server.Close()
		time.Sleep(time.Second) // net/http waits for half of one before it closes
	})
	return &site{network, server, &http.Client{Transport: transport}, addr}
}

// events reads a stream.
type events struct {
	t    *testing.T
	resp *http.Response
	in   *bufio.Reader
}

type event struct{ kind, id, data string }

// open opens a stream.
func (s *site) open(t *testing.T, target string, header ...string) *events {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://mx.example"+target, nil)
	require.NoError(t, err)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.client.Do(req)
	require.NoError(t, err)
	return &events{t, resp, bufio.NewReader(resp.Body)}
}

// next reads one event; ok is false at the end.
func (e *events) next() (ev event, ok bool) {
	for {
		line, err := e.in.ReadString('\n')
		if err != nil {
			return ev, false
		}
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "" && ev.kind != "":
			return ev, true
		case strings.HasPrefix(line, ":"):
			ev = event{}
		case strings.HasPrefix(line, "event: "):
			ev.kind = line[7:]
		case strings.HasPrefix(line, "id: "):
			ev.id = line[4:]
		case strings.HasPrefix(line, "data: "):
			ev.data = line[6:]
		}
	}
}

// rest reads the kinds of all that follow.
func (e *events) rest() []string {
	var kinds []string
	for {
		ev, ok := e.next()
		if !ok {
			return kinds
		}
		kinds = append(kinds, ev.kind)
	}
}

func (e *events) close() { e.resp.Body.Close() }

// get asks over the network.
func (s *site) get(t *testing.T, target string) (*http.Response, string) {
	t.Helper()
	resp, err := s.client.Get("http://mx.example" + target)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, string(body)
}

func prefix(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
