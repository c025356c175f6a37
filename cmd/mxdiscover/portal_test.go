package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/world"
)

// TestPortal starts the verb, logs in through it, and stops it while a login is
// under way: that one is answered all the same.
func TestPortal(t *testing.T) {
	t.Parallel()
	arrived, answer := make(chan bool, 1), make(chan bool)
	target := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		if req.URL.Query().Get("slow") != "" {
			arrived <- true
			<-answer
		}
		io.WriteString(rw, `{"user_id":"@a:example.org","access_token":"tok3n","device_id":"D","n":1.0}`)
	}))
	defer target.Close()

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	read, write := io.Pipe()
	a := app{stdin: strings.NewReader(""), stdout: &output{Writer: io.Discard}, stderr: &output{Writer: write}, net: world.Loopback{}}
	status := make(chan int, 1)
	go func() {
		status <- a.run(ctx, []string{"portal", "--listen", "127.0.0.1:0", "--target", "one=" + target.URL, "--public", "one=https://one.example"})
		write.Close()
	}()
	said := bufio.NewReader(read)
	line, err := said.ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "warning: --target one is http: everybody on the way from here to it can read passwords and tokens (base_url_http)\n", line)
	line, err = said.ReadString('\n')
	require.NoError(t, err)
	_, url, ok := strings.Cut(strings.TrimSpace(line), "listening on ")
	require.True(t, ok, line)
	lines := make(chan string, 1)
	go func() {
		rest, _ := io.ReadAll(said)
		lines <- string(rest)
	}()

	login := func(query string) string {
		resp, err := http.Post(url+"/_matrix/client/v3/login"+query, "application/json", strings.NewReader(`{"type":"m.login.password","password":"s3cret"}`))
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return string(body)
	}
	const want = `{"user_id":"@a:example.org","access_token":"tok3n","device_id":"D","n":1.0,"well_known":{"m.homeserver":{"base_url":"https://one.example"}},"base_cs_url":"https://one.example"}`
	assert.JSONEq(t, want, login(""))
	assert.Contains(t, login(""), `"n":1.0`, "numbers by their text")

	late := make(chan string, 1)
	go func() { late <- login("?slow=1") }()
	<-arrived
	stop()
	answer <- true
	assert.JSONEq(t, want, <-late)
	assert.Equal(t, statusGood, <-status)
	log := <-lines
	assert.Equal(t, 3, strings.Count(log, "POST /_matrix/client/v3/login 200 one 127.0.0.1 "), log)
	for _, secret := range []string{"s3cret", "tok3n", "slow"} {
		assert.NotContains(t, log, secret)
	}
}

// TestPortalIdle: connections without a request do not keep the portal from
// stopping, neither new ones nor those that have had one.
func TestPortalIdle(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	read, write := io.Pipe()
	a := app{stdin: strings.NewReader(""), stdout: &output{Writer: io.Discard}, stderr: &output{Writer: write}, net: world.Loopback{}}
	status := make(chan int, 1)
	go func() {
		status <- a.run(ctx, []string{"portal", "--listen", "127.0.0.1:0", "--target", "a=https://a.example"})
		write.Close()
	}()
	said := bufio.NewReader(read)
	line, err := said.ReadString('\n')
	require.NoError(t, err)
	go io.Copy(io.Discard, said)
	_, addr, ok := strings.Cut(strings.TrimSpace(line), "listening on http://")
	require.True(t, ok, line)

	var conns []net.Conn
	for range 3 {
		conn, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		defer conn.Close()
		conns = append(conns, conn)
	}
	// The last one has a request, and by its answer the others are accepted.
	_, err = io.WriteString(conns[2], "OPTIONS * HTTP/1.1\r\nHost: portal.example\r\n\r\n")
	require.NoError(t, err)
	answer, err := bufio.NewReader(conns[2]).ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "HTTP/1.1 204 No Content\r\n", answer)

	begun := time.Now()
	stop()
	assert.Equal(t, statusGood, <-status)
	assert.Less(t, time.Since(begun), 4*time.Second, "net/http alone waits for five")
}

// TestPortalUsage: what cannot be is told before anything listens.
func TestPortalUsage(t *testing.T) {
	t.Parallel()
	users := filepath.Join(t.TempDir(), "users")
	require.NoError(t, os.WriteFile(users, []byte("@a:example.org nobody\n"), 0o600))
	good := []string{"--listen", "127.0.0.1:0", "--target", "a=https://a.example"}
	for _, test := range []struct {
		args   []string
		status int
		text   string
	}{
		{nil, statusUsage, "--listen is missing"},
		{[]string{"--listen", "127.0.0.1:0"}, statusUsage, "no target"},
		{append(good, "extra"), statusUsage, "flags alone"},
		{append(good, "--target", "a=https://b.example"), statusUsage, `"a"`},
		{append(good, "--target", "nonsense"), statusUsage, "NAME=URL"},
		{append(good, "--target", "b=ftp://b.example"), statusUsage, `"b"`},
		{append(good, "--public", "b=https://b.example"), statusUsage, "--public"},
		{append(good, "--mode", "teleport"), statusUsage, "teleport"},
		{append(good, "--emit", "nonsense"), statusUsage, "--emit"},
		{append(good, "--choose", "user-map"), statusUsage, "--user-map FILE"},
		{append(good, "--choose", "user-map", "--user-map", users), statusUsage, "nobody"},
		{append(good, "--choose", "user-map", "--user-map", users+".missing"), statusUsage, "no such file"},
		{append(good, "--tls-cert", users), statusUsage, "belong together"},
		{append(good, "--tls-cert", users, "--tls-key", users), statusUsage, "--tls-cert"},
		{append(good, "--trust-forwarded-for", "10.0.0.1"), statusUsage, "10.0.0.0/8"},
		{append(good, "--base-url", "nonsense"), statusUsage, "URL"},
		{append(good, "--base-url", "https://A.example:443/"), statusUsage, "the portal's own base URL"},
		{append(good, "--mode", "redirect", "--base-url", "https://p.example", "--public", "a=https://p.example"), statusUsage, "the portal's own base URL"},
		{append(good, "--public", "a="), statusUsage, "--public"},
		{append(good, "--mode", ""), statusUsage, "--mode is empty"},
		{append(good, "--choose="), statusUsage, "--choose is empty"},
		{append(good, "--user-map="), statusUsage, "--user-map is empty"},
		{append(good, "--base-url", ""), statusUsage, "--base-url is empty"},
		{append(good, "--tls-cert", "", "--tls-key", ""), statusUsage, "--tls-cert is empty"},
		{append(good, "--tls-key="), statusUsage, "--tls-key is empty"},
		{append(good, "--listen", "nonsense"), statusUsage, "HOST:PORT"},
		{append(good, "--listen", "127.0.0.1:65536"), statusUsage, `"65536" is no port`},
		{append(good, "--listen", "127.0.0.1:-1"), statusUsage, `"-1" is no port`},
		{append(good, "--listen", "192.0.2.1:1"), statusBad, "cannot listen"},
	} {
		var said strings.Builder
		a := app{stdin: strings.NewReader(""), stdout: &output{Writer: io.Discard}, stderr: &output{Writer: &said}, net: world.Loopback{}}
		assert.Equal(t, test.status, a.run(t.Context(), append([]string{"portal"}, test.args...)), "%s: %s", test.args, &said)
		assert.Contains(t, said.String(), test.text, "%s", test.args)
	}
}

// TestPortalWarnings: what works and should be changed is said at the start.
func TestPortalWarnings(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	read, write := io.Pipe()
	a := app{stdin: strings.NewReader(""), stdout: &output{Writer: io.Discard}, stderr: &output{Writer: write}, net: world.Loopback{}}
	status := make(chan int, 1)
	go func() {
		status <- a.run(ctx, []string{"portal", "--listen", "127.0.0.1:0", "--target", "a=https://s3cret@a.example", "--target", "b=http://b.example?s3cret",
			"--public", "a=http://a.example#s3cret", "--public", "b=https://b.example", "--base-url", "http://p.example/?s3cret"})
		write.Close()
	}()
	var lines []string
	for said := bufio.NewScanner(read); said.Scan(); {
		lines = append(lines, said.Text())
		if strings.HasPrefix(said.Text(), "listening on ") {
			stop()
		}
	}
	assert.Equal(t, statusGood, <-status)
	const (
		stripped = " has user info, a query or a fragment, which is left out (base_url_stripped)"
		end      = " can read passwords and tokens (base_url_http)"
	)
	require.Len(t, lines, 8)
	assert.Equal(t, []string{
		"warning: --target a" + stripped,
		"warning: --public a" + stripped,
		"warning: --public a is http: everybody on the way from clients to it" + end,
		"warning: --target b" + stripped,
		"warning: --target b is http: everybody on the way from here to it" + end,
		"warning: --base-url" + stripped,
		"warning: --base-url is http: everybody on the way from clients to it" + end,
	}, lines[:7])
	assert.True(t, strings.HasPrefix(lines[7], "listening on http://127.0.0.1:"), lines[7])
}
