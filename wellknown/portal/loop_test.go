package portal

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A portal that leads back to itself, in ways that no setting shows, answers
// instead of going round for ever.
func TestLoop(t *testing.T) {
	t.Parallel()
	for _, portals := range []int{1, 3} {
		var all []*Portal
		var servers []*httptest.Server
		for range portals {
			p := &Portal{}
			server := httptest.NewServer(p)
			defer server.Close()
			all, servers = append(all, p), append(servers, server)
		}
		for i, p := range all {
			p.Targets = []Target{{Name: "next", URL: servers[(i+1)%portals].URL}}
		}
		run := start(t, &Portal{Targets: []Target{{Name: "first", URL: servers[0].URL}}})
		for _, request := range [][2]string{{"POST", loginPath}, {"GET", loginPath}, {"GET", pathVersions}} {
			got := run.do(request[0], request[1], loginBody)
			assertError(t, got, 502, "M_UNKNOWN")
		}
		for _, e := range run.log() {
			assert.Empty(t, e.Failures, "it is no loop of this portal's")
		}
	}
}

// The portal that sees its own request again says so in its log.
func TestLoopIsLogged(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	entries := make(chan Entry, 10)
	p := &Portal{Targets: []Target{{Name: "a", URL: "http://" + l.Addr().String()}}, Log: func(e Entry) { entries <- e }}
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: p}}
	server.Start()
	defer server.Close()
	response, err := http.Post(server.URL+loginPath, "application/json", strings.NewReader(loginBody))
	require.NoError(t, err)
	response.Body.Close()
	assert.Equal(t, 502, response.StatusCode)
	inner, outer := <-entries, <-entries
	if len(inner.Failures) == 0 { // they end at the same time
		inner, outer = outer, inner
	}
	assert.Equal(t, []error{errLoop}, inner.Failures)
	assert.Empty(t, inner.Target)
	assert.Contains(t, inner.String(), "leads back to it")
	assert.Equal(t, "a", outer.Target)
	assert.Empty(t, outer.Failures)
}

// What others have written into Via stays, and stops nobody.
func TestVia(t *testing.T) {
	t.Parallel()
	a := newHomeserver(t, says(200, loginDone))
	p := &Portal{Targets: []Target{{Name: "a", URL: a.URL}}}
	run := start(t, p)
	set, err := p.settings()
	require.NoError(t, err)
	for given, want := range map[string]string{
		"":                              "1.1 " + set.pseudonym,
		"1.1 proxy, HTTP/2 x (y)":       "1.1 proxy, HTTP/2 x (y), 1.1 " + set.pseudonym,
		set.pseudonym:                   set.pseudonym + ", 1.1 " + set.pseudonym, // that is a protocol
		"1.1 " + set.pseudonym + "x":    "1.1 " + set.pseudonym + "x, 1.1 " + set.pseudonym,
		"1.1 x (" + set.pseudonym + ")": "1.1 x (" + set.pseudonym + "), 1.1 " + set.pseudonym,
	} {
		before := len(a.asked())
		var header []string
		if given != "" {
			header = []string{"Via", given}
		}
		got := run.do("POST", loginPath, loginBody, header...)
		assert.Equal(t, 200, got.status)
		require.Len(t, a.asked(), before+1)
		assert.Equal(t, []string{want}, a.asked()[before].header["Via"])
	}
	got := run.do("POST", loginPath, loginBody, "Via", "1.1 x,\t1.1  "+set.pseudonym+" (again)")
	assertError(t, got, 502, "M_UNKNOWN")

	other, err := (&Portal{Targets: p.Targets}).settings()
	require.NoError(t, err)
	assert.NotEqual(t, set.pseudonym, other.pseudonym)
}

// What can be seen before anybody logs in is refused.
func TestOwnURL(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		about string
		p     *Portal
		wrong string
	}{
		{"the target", &Portal{Targets: []Target{{Name: "a", URL: "https://P.example:443/"}}}, `the URL of target "a" is the portal's own base URL`},
		{"the target, redirecting", &Portal{Mode: Redirect, Targets: []Target{{Name: "a", URL: "https://p.example", Public: "https://a.example"}}}, `the URL of target "a"`},
		{"the second", &Portal{Targets: []Target{{Name: "a", URL: "https://a.example"}, {Name: "b", URL: "https://p.example"}}}, `target "b"`},
		{"the public URL", &Portal{Mode: Redirect, Targets: []Target{{Name: "a", URL: "http://10.0.0.1", Public: "https://p.example/"}}}, `the public URL of target "a"`},
		{"the public URL, behind a web server", &Portal{Targets: []Target{{Name: "a", URL: "http://10.0.0.1", Public: "https://p.example/"}}}, ""},
		{"another path", &Portal{Targets: []Target{{Name: "a", URL: "https://p.example/a"}}}, ""},
	} {
		test.p.BaseURL = "https://p.example"
		err := test.p.Check()
		if test.wrong == "" {
			assert.NoError(t, err, test.about)
		} else {
			assert.ErrorContains(t, err, test.wrong, test.about)
		}
	}
}
