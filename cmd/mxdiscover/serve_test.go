package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/world"
	"mxdiscover/serve"
)

// served is the verb serve as it runs.
type served struct {
	url    string
	stop   context.CancelFunc
	status chan int
	mu     sync.Mutex
	log    bytes.Buffer
	read   chan struct{} // closed when all of the log is
}

// startServe starts the verb and waits for its first line.
func startServe(t *testing.T, args ...string) *served {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	s := &served{stop: stop, status: make(chan int, 1), read: make(chan struct{})}
	read, write := io.Pipe()
	a := app{stdin: strings.NewReader(""), stdout: &output{Writer: io.Discard}, stderr: &output{Writer: write}, net: world.Loopback{}}
	go func() {
		s.status <- a.run(ctx, append([]string{"serve", "--listen", "127.0.0.1:0"}, args...))
		write.Close()
	}()
	t.Cleanup(func() {
		stop()
		<-s.read
	})
	said := bufio.NewReader(read)
	line, err := said.ReadString('\n')
	go func() {
		defer close(s.read)
		for {
			line, err := said.ReadString('\n')
			s.mu.Lock()
			s.log.WriteString(line)
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	require.NoError(t, err, line)
	text, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	require.True(t, ok, line)
	s.url = text
	return s
}

// end stops it and gives its log.
func (s *served) end(t *testing.T) string {
	t.Helper()
	s.stop()
	assert.Equal(t, statusGood, <-s.status)
	<-s.read
	return s.log.String()
}

func get(t *testing.T, client *http.Client, url string) (int, string) {
	t.Helper()
	resp, err := client.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

// TestServe asks the verb about names of the tour and ends it. Its log is JSON
// and quotes what strangers sent.
func TestServe(t *testing.T) {
	t.Parallel()
	s := startServe(t, "--world", "../../testdata/worlds/tour.txtar", "--log", "json", "-v")
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	status, body := get(t, client, s.url+"/healthz")
	assert.Equal(t, 200, status, body)
	status, body = get(t, client, s.url+"/api/federation-ok?server_name=delegated.example")
	assert.Equal(t, 200, status)
	assert.Equal(t, "GOOD", strings.TrimSpace(body))
	status, body = get(t, client, s.url+"/api/v1/check?server_name=closed.example")
	assert.Equal(t, 200, status)
	readSchema(t, "report.schema.json").valid(t, []byte(body))
	var report struct {
		Verdict  string
		Findings []struct{ Code string }
	}
	require.NoError(t, json.Unmarshal([]byte(body), &report))
	assert.Equal(t, "BAD", report.Verdict)
	require.NotEmpty(t, report.Findings)
	assert.Equal(t, "srv_unavailable", report.Findings[0].Code)
	status, body = get(t, client, s.url+"/api/v1/resolve?server_name=bare.example&rules=draft-2019")
	assert.Equal(t, 200, status, body)
	assert.Contains(t, body, `"server_name":"bare.example"`)
	status, body = get(t, client, s.url+"/probe?target=delegated.example")
	assert.Equal(t, 200, status)
	assert.Contains(t, body, "\nmxdiscover_probe_success 1\n")
	get(t, client, s.url+"/api/v1/check?server_name="+url.QueryEscape("evil\nlevel=ERROR \x1b[31m"))
	for line := range strings.Lines(strings.TrimSuffix(s.end(t), "\n")) {
		var entry struct{ Level, Msg string }
		require.NoError(t, json.Unmarshal([]byte(line), &entry), line)
		assert.NotEmpty(t, entry.Msg)
		assert.NotEqual(t, "ERROR", entry.Level)
		assert.NotContains(t, line, "\x1b")
	}
	assert.Contains(t, s.log.String(), "closed.example")
}

// TestServeStops: a stream under way is ended in good order.
func TestServeStops(t *testing.T) {
	t.Parallel()
	s := startServe(t, "--world", "../../testdata/worlds/tour.txtar", "--log", "none")
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	resp, err := client.Get(s.url + "/api/v1/check/stream?server_name=delegated.example")
	require.NoError(t, err)
	defer resp.Body.Close()
	body := bufio.NewReader(resp.Body)
	_, err = body.ReadString('\n')
	require.NoError(t, err)
	assert.Empty(t, s.end(t))
	rest, err := io.ReadAll(body)
	require.NoError(t, err, "the stream ends, it does not break")
	assert.Regexp(t, `(?m)^event: ?(report|failed)$`, string(rest))
}

// TestServeTLS: https, and HTTP/2 with it.
func TestServeTLS(t *testing.T) {
	t.Parallel()
	cert, key, roots := certificate(t)
	s := startServe(t, "--tls-cert", cert, "--tls-key", key, "--log", "text")
	assert.True(t, strings.HasPrefix(s.url, "https://"), s.url)
	client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots}}}
	defer client.CloseIdleConnections()
	resp, err := client.Get(s.url + "/robots.txt")
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, "HTTP/2.0", resp.Proto)
	assert.Equal(t, 200, resp.StatusCode)
	client.CloseIdleConnections()
	s.end(t)
}

// certificate writes the files of one that proves 127.0.0.1.
func certificate(t *testing.T) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	server.Close()
	pair := server.TLS.Certificates[0]
	private, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	require.NoError(t, err)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	roots = x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return cert, key, roots
}

// TestServeUsage: what cannot be is told before anything listens.
func TestServeUsage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args   []string
		status int
		text   string
	}{
		{[]string{"extra"}, statusUsage, "flags alone"},
		{[]string{"--log", "xml"}, statusUsage, "text, json or none"},
		{[]string{"--checks", "-1"}, statusUsage, "must be positive"},
		{[]string{"--per-client", "20"}, statusUsage, "not a rate such as 20/3s"},
		{[]string{"--per-client", "0/3s"}, statusUsage, "not a rate"},
		{[]string{"--per-host", "3/-3s"}, statusUsage, "not a rate"},
		{[]string{"--in-all", "x/y"}, statusUsage, "not a rate"},
		{[]string{"--keep", "soon"}, statusUsage, "not a time"},
		{[]string{"--unlimited", "10.0.0.1"}, statusUsage, "10.0.0.0/8"},
		{[]string{"--trust-forwarded-for", "x"}, statusUsage, "10.0.0.0/8"},
		{[]string{"--allow-net", "x"}, statusUsage, "10.0.0.0/8"},
		{[]string{"--tls-cert", "x"}, statusUsage, "belong together"},
		{[]string{"--tls-cert", "x", "--tls-key", "x"}, statusUsage, "--tls-cert"},
		{[]string{"--listen", "192.0.2.1:1"}, statusBad, "cannot listen"},
		{[]string{"--listen", "nonsense"}, statusBad, "cannot listen"},
	} {
		var said strings.Builder
		a := app{stdin: strings.NewReader(""), stdout: &output{Writer: io.Discard}, stderr: &output{Writer: &said}, net: world.Loopback{}}
		assert.Equal(t, test.status, a.run(t.Context(), append([]string{"serve"}, test.args...)), "%s: %s", test.args, &said)
		assert.Contains(t, said.String(), test.text, "%s", test.args)
	}
}

// TestServeFlags: they arrive.
func TestServeFlags(t *testing.T) {
	t.Parallel()
	var a app
	var s settings
	f := serveFlags{log: "none", checks: 7, keep: time.Minute, unlimited: []string{"10.0.0.0/8"}, webFlags: webFlags{trust: []string{"192.168.0.0/16"}}}
	require.NoError(t, f.perClient.Set("5/2s"))
	require.NoError(t, f.perHost.Set("none"))
	s.timeout = 3 * time.Second
	server, stop, err := a.server(&s, &f)
	require.NoError(t, err)
	defer stop()
	assert.Equal(t, serve.Limits{Checks: 7, KeepFor: time.Minute, PerClient: serve.Rate{Burst: 5, Every: 2 * time.Second}, PerHost: serve.Rate{Burst: -1}}, server.Limits)
	assert.Equal(t, "10.0.0.0/8", server.Unlimited[0].String())
	assert.Equal(t, "192.168.0.0/16", server.TrustForwardedFor[0].String())
	assert.Equal(t, 3*time.Second, server.Timeout)
	assert.Nil(t, server.Logger)
	assert.NotSame(t, server.NewResolver(), server.NewResolver())
	assert.Equal(t, "5/2s", f.perClient.String())
}

// TestLimitedListener: a connection more than there are places waits until one is
// closed, and closing the listener ends the wait.
func TestLimitedListener(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := limit(inner, 1, 0, nil)
	for range 2 {
		c, err := net.Dial("tcp", inner.Addr().String())
		require.NoError(t, err)
		defer c.Close()
	}
	first, err := l.Accept()
	require.NoError(t, err)
	accepted := make(chan net.Conn)
	go func() {
		c, err := l.Accept()
		assert.NoError(t, err)
		accepted <- c
	}()
	select {
	case <-accepted:
		t.Fatal("accepted without a place")
	default:
	}
	first.Close()
	first.Close() // a second time gives no second place
	second := <-accepted
	waiting := make(chan error)
	go func() {
		_, err := l.Accept()
		waiting <- err
	}()
	l.Close()
	assert.ErrorIs(t, <-waiting, net.ErrClosed)
	l.Close()
	second.Close()
}

// TestServeFarewell: who still waits at the end is told so, while there is time to.
func TestServeFarewell(t *testing.T) {
	t.Parallel()
	a := &app{stdout: &output{Writer: io.Discard}, stderr: &output{Writer: io.Discard}}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	began := time.Now()
	called := false
	require.NoError(t, a.serveHTTP(ctx, &http.Server{}, site{address: "127.0.0.1:0", closing: func(ctx context.Context) error {
		called = true
		end, ok := ctx.Deadline()
		require.True(t, ok)
		assert.WithinDuration(t, began.Add(grace-farewell), end, farewell/2)
		return nil
	}}))
	assert.True(t, called)
}
