package client_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/dial"
	"mxdiscover/internal/guard"
	"mxdiscover/internal/memnet"
	"mxdiscover/internal/world"
	"mxdiscover/wellknown"
	"mxdiscover/wellknown/client"
)

// hosts are the names of the tests: of example.org, of the homeserver, of the
// identity server, and of hosts that cannot be reached.
var hosts = map[string][]string{
	"example.org":      {"203.0.113.1"},
	"hs.example":       {"203.0.113.2"},
	"my_hs.example":    {"203.0.113.2"},
	"id.example":       {"203.0.113.3"},
	"www.example":      {"203.0.113.4"},
	"two.example":      {"203.0.113.9", "203.0.113.2"},
	"private.example":  {"10.0.0.1"},
	"loopback.example": {"127.0.0.1"},
	"mapped.example":   {"::ffff:169.254.169.254"},
}

// zone is the same for the test world, which makes certificates of it.
const zone = `-- zone --
example.org. A 203.0.113.1
hs.example. A 203.0.113.2
my_hs.example. A 203.0.113.2
two.example. A 203.0.113.2
id.example. A 203.0.113.3
www.example. A 203.0.113.4
`

// A scene is a world under test and what is asked of it.
type scene struct {
	*world.World
	mu     sync.Mutex
	dialed []string
}

// dialled are the addresses that were connected to, or tried.
func (s *scene) dialled() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.dialed)
}

// discoverer acts in the world. Its guard is the one of the command.
func (s *scene) discoverer() *client.Discoverer {
	d := &dial.Dialer{
		Guard: guard.Guard{Allow: s.AllowNets()},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			s.mu.Lock()
			s.dialed = append(s.dialed, address)
			s.mu.Unlock()
			return s.DialContext(ctx, network, address)
		},
		Lookup: func(_ context.Context, host string, v6 bool) (addrs []netip.Addr, err error) {
			if host == "nodns.example" {
				return nil, errors.New("SERVFAIL \x1b[31m")
			}
			for _, text := range hosts[host] {
				if addr := netip.MustParseAddr(text); addr.Is6() == v6 {
					addrs = append(addrs, addr)
				}
			}
			return addrs, nil
		},
	}
	return &client.Discoverer{Fetcher: &wellknown.Fetcher{
		RootCAs: s.Roots(),
		DialTLS: func(ctx context.Context, host string, port uint16, config *tls.Config) (net.Conn, netip.AddrPort, error) {
			return d.DialTLS(ctx, host, port, config)
		},
		Dial: func(ctx context.Context, host string, port uint16) (net.Conn, netip.AddrPort, error) {
			conn, err := d.Dial(ctx, host, port, nil)
			if err != nil {
				return nil, netip.AddrPort{}, err
			}
			return conn.Conn, conn.Addr, nil
		},
	}}
}

// inWorld runs test in a world of the sections, in virtual time.
func inWorld(t *testing.T, sections string, test func(t *testing.T, s *scene)) {
	t.Helper()
	parsed, err := world.Parse("scene", []byte(zone+sections))
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		w, err := parsed.Start(world.Memory{Network: &memnet.Network{}})
		require.NoError(t, err)
		defer w.Close()
		test(t, &scene{World: w})
		time.Sleep(time.Minute) // the servers' own pauses
		assert.Zero(t, w.Open(), "connections are closed")
	})
}

const (
	cors      = "Access-Control-Allow-Origin: *\n"
	goodHS    = "-- GET https://hs.example/_matrix/client/versions --\n200\n" + cors + "\n{\"versions\":[\"v1.1\",\"v1.11\"],\"unstable_features\":{\"x\":true}}\n"
	goodID    = "-- GET https://id.example/_matrix/identity/v2 --\n200\n\n{}\n-- GET https://id.example/_matrix/identity/api/v1 --\n200\n\n{}\n"
	toHS      = `"m.homeserver":{"base_url":"https://hs.example"}`
	toID      = `"m.identity_server":{"base_url":"https://id.example"}`
	wellKnown = "-- GET https://example.org/.well-known/matrix/client --\n"
)

// document is the section of a document with this body.
func document(body string) string {
	return wellKnown + "200\nContent-Type: application/json\n" + cors + "\n" + body + "\n"
}

func codes(warnings []client.Warning) []string {
	list := []string{}
	for _, w := range warnings {
		list = append(list, w.Code)
	}
	return list
}

// sound checks what holds for every discovery.
func sound(t *testing.T, d *client.Discovery) {
	t.Helper()
	line := func(text string) {
		t.Helper()
		require.NotEmpty(t, text)
		require.Less(t, len(text), 2000)
		for _, r := range text {
			require.True(t, strconv.IsPrint(r), "%q", text)
		}
	}
	section := func(s client.Section, quiet bool) {
		t.Helper()
		if s.State == client.Success || quiet && s.State == client.Prompt {
			require.Nil(t, s.Reason)
		} else {
			require.NotNil(t, s.Reason)
			line(s.Reason.Message)
			line(string(s.Reason.Code))
		}
		if s.State == client.Success {
			require.NotEmpty(t, s.BaseURL)
		}
		if s.State == client.Prompt || s.State == client.FailPrompt && !quiet {
			require.Empty(t, s.BaseURL)
		}
		require.NotEqual(t, client.Ignore, s.State)
	}
	section(d.Homeserver, false)
	section(d.IdentityServer, true)
	if d.State == client.Success {
		require.Nil(t, d.Error)
		require.Equal(t, client.Success, d.Homeserver.State)
	} else {
		require.NotNil(t, d.Error)
		require.Contains(t, []*client.Reason{d.Homeserver.Reason, d.IdentityServer.Reason}, d.Error)
	}
	if d.Homeserver.State != client.Success {
		require.Equal(t, client.Prompt, d.IdentityServer.State)
		require.Empty(t, d.IdentityServer.BaseURL)
	}
	for _, s := range d.Steps {
		line(s.Query)
		line(s.Detail)
		require.True(t, strings.HasPrefix(s.Query, "GET http"))
		require.Contains(t, []string{"3", "3.5", "3.6"}, s.Rule)
	}
	for _, w := range d.Warnings {
		line(w.Message)
		line(w.Code)
	}
	text, err := json.Marshal(d)
	require.NoError(t, err)
	for _, r := range string(text) {
		require.False(t, r < ' ' || r == 0x7f, "%q", text)
	}
}

// faults are all the ways that a fetch ends badly, at a URL of host, which is
// addr. reply is what the URL answers; redirects lead to www.example.
var faults = []struct {
	about   string
	code    string
	outcome client.Outcome
	reply   string // of the URL
	more    string // sections; ADDR is the server
	host    string // in place of the good one
	took    time.Duration
	steps   int // 1 if zero
}{
	{about: "404", code: "not_found", outcome: client.Absent, reply: "404\n"},
	{about: "404 with a document", code: "not_found", outcome: client.Absent, reply: "404\n\n{" + toHS + "}\n"},
	{about: "410", code: "http_status", outcome: client.Absent, reply: "410\n"},
	{about: "204", code: "http_status", outcome: client.Invalid, reply: "204\n"},
	{about: "201", code: "http_status", outcome: client.Invalid, reply: "201\n\n{" + toHS + "}\n"},
	{about: "304", code: "http_status", outcome: client.Invalid, reply: "304\n"},
	{about: "300", code: "http_status", outcome: client.Invalid, reply: "300\nLocation: https://www.example/good\n"},
	{about: "401", code: "http_status", outcome: client.Invalid, reply: "401\n"},
	{about: "429", code: "http_status", outcome: client.Temporary, reply: "429\n"},
	{about: "500", code: "http_status", outcome: client.Temporary, reply: "500\n"},
	{about: "502, words in red", code: "http_status", outcome: client.Temporary, reply: "!raw\nHTTP/1.1 502 \x1b[31mred\r\nContent-Length: 0\r\n\r\n"},
	{about: "empty", code: "empty_body", outcome: client.Invalid, reply: "200\n"},
	{about: "white space", code: "empty_body", outcome: client.Invalid, reply: "200\n\n \t\r\n\n"},
	{about: "HTML", code: "not_json", outcome: client.Invalid, reply: "200\n\n<html>\x1b[31m\n"},
	{about: "words", code: "not_json", outcome: client.Invalid, reply: "200\n\n\x1b[31m\n"},
	{about: "cut", code: "not_json", outcome: client.Invalid, reply: "200\n\n{" + toHS + "\n"},
	{about: "bytes after the value", code: "not_json", outcome: client.Invalid, reply: "200\n\n{" + toHS + "} x\n"},
	{about: "two values", code: "not_json", outcome: client.Invalid, reply: "200\n\n{" + toHS + "}{}\n"},
	{about: "no UTF-8", code: "not_json", outcome: client.Invalid, reply: "200\n\n{\"x\":\"\xff\"}\n"},
	{about: "no gzip", code: "not_json", outcome: client.Invalid, reply: "200\nContent-Encoding: gzip\n\n{}\n"},
	{about: "array", code: "not_object", outcome: client.Invalid, reply: "200\n\n[]\n"},
	{about: "null", code: "not_object", outcome: client.Invalid, reply: "200\n\nnull\n"},
	{about: "string", code: "not_object", outcome: client.Invalid, reply: "200\n\n\"x\"\n"},
	{about: "51201 bytes", code: "too_large", outcome: client.Invalid, reply: "200\n!size 51201\n!chunked\n\n{" + toHS + "}\n"},
	{about: "51201 bytes, decoded", code: "too_large", outcome: client.Invalid, reply: "200\n!size 51201\n!gzip\n\n{" + toHS + "}\n"},
	{about: "huge", code: "too_large", outcome: client.Invalid, reply: "200\n!size 9000000\n\n{}\n"},
	{about: "no Location", code: "redirect_invalid", outcome: client.Invalid, reply: "302\n"},
	{about: "Location is no URL", code: "redirect_invalid", outcome: client.Invalid, reply: "302\nLocation: https://[x/\n"},
	{about: "Location with a bad port", code: "redirect_invalid", outcome: client.Invalid, reply: "302\nLocation: https://h.example:0/\n"},
	{about: "Location in red", code: "redirect_invalid", outcome: client.Invalid, reply: "302\nLocation: https://\u009b31m/\n"},
	{about: "to http", code: "redirect_insecure", outcome: client.Invalid, reply: "302\nLocation: http://www.example/good\n"},
	{about: "to ftp", code: "redirect_insecure", outcome: client.Invalid, reply: "302\nLocation: ftp://www.example/good\n"},
	{about: "to http at last", code: "redirect_insecure", outcome: client.Invalid, reply: "302\nLocation: https://www.example/1\n",
		more: "-- GET https://www.example/1 --\n307\nLocation: http://www.example/good\n", steps: 2},
	{about: "to itself", code: "redirect_loop", outcome: client.Temporary, reply: "302\nLocation: ?\n"},
	{about: "in a circle", code: "redirect_loop", outcome: client.Temporary, reply: "302\nLocation: https://www.example/1\n",
		more: "-- GET https://www.example/1 --\n307\nLocation: /2\n-- GET https://www.example/2 --\n308\nLocation: /1\n", steps: 3},
	{about: "eleven hops", code: "redirect_loop", outcome: client.Temporary, reply: "302\nLocation: https://www.example/1\n", more: chain(1, 10), steps: 11},
	{about: "no address", code: "no_address", outcome: client.Temporary, host: "nowhere.example"},
	{about: "no DNS", code: "dns_error", outcome: client.Temporary, host: "nodns.example"},
	{about: "private", code: "address_denied", outcome: client.Denied, host: "private.example"},
	{about: "loopback", code: "address_denied", outcome: client.Denied, host: "loopback.example"},
	{about: "mapped link-local", code: "address_denied", outcome: client.Denied, host: "mapped.example"},
	{about: "private IP", code: "address_denied", outcome: client.Denied, host: "192.168.1.1"},
	{about: "private IPv6", code: "address_denied", outcome: client.Denied, host: "[fd00::1]"},
	{about: "to a private address", code: "address_denied", outcome: client.Denied, reply: "302\nLocation: https://169.254.169.254/latest/meta-data\n", steps: 2},
	{about: "to a private name", code: "address_denied", outcome: client.Denied, reply: "302\nLocation: https://private.example/\n", steps: 2},
	{about: "refused", code: "connect_failed", outcome: client.Temporary, more: "-- servers --\nADDR:443 refuse\n"},
	{about: "reset", code: "connect_failed", outcome: client.Temporary, reply: "!reset\n"},
	{about: "reset within", code: "connect_failed", outcome: client.Temporary, reply: "200\n!reset-after 3\n\n{" + toHS + "}\n"},
	{about: "ends early", code: "connect_failed", outcome: client.Temporary, reply: "200\n!content-length 4000\n\n{" + toHS + "}\n"},
	{about: "chunks end early", code: "connect_failed", outcome: client.Temporary, reply: "!raw\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"},
	{about: "closed", code: "connect_failed", outcome: client.Temporary, reply: "!raw\n"},
	{about: "not HTTP", code: "connect_failed", outcome: client.Temporary, reply: "!raw\nSSH-2.0-\x1b[31m\r\n"},
	{about: "expired", code: "tls_failed", outcome: client.Temporary, more: "-- servers --\nADDR:443 cert expired\n"},
	{about: "self-signed", code: "tls_failed", outcome: client.Temporary, more: "-- servers --\nADDR:443 cert self-signed\n"},
	{about: "another name", code: "tls_failed", outcome: client.Temporary, more: "-- servers --\nADDR:443 cert names=x.example\n"},
	{about: "no TLS", code: "tls_failed", outcome: client.Temporary, more: "-- servers --\nADDR:443 plain\n"},
	{about: "silent", code: "timeout", outcome: client.Temporary, more: "-- servers --\nADDR:443 stall-handshake\n", took: 5 * time.Second},
	{about: "black hole", code: "timeout", outcome: client.Temporary, more: "-- servers --\nADDR:443 drop\n", took: 5 * time.Second},
	{about: "slow header", code: "timeout", outcome: client.Temporary, reply: "200\n!delay 6s\n\n{}\n", took: 5 * time.Second},
	{about: "slow body", code: "timeout", outcome: client.Temporary, reply: "200\n!slow 1 1s\n\n{" + toHS + "}\n", took: 5 * time.Second},
}

// chain is redirects from one URL of www.example to the next.
func chain(from, to int) string {
	var sections strings.Builder
	for i := from; i <= to; i++ {
		fmt.Fprintf(&sections, "-- GET https://www.example/%d --\n301\nLocation: /%d\n", i, i+1)
	}
	return sections.String()
}

var bothRules = []client.Rules{client.Current, client.Draft2018}

// TestFetchCodes: every code of a fetch, for the document, for /versions and for
// the identity server, under both rules.
func TestFetchCodes(t *testing.T) {
	t.Parallel()
	for _, test := range faults {
		for _, rules := range bothRules {
			steps := max(test.steps, 1)
			more := func(addr string) string { return strings.ReplaceAll(test.more, "ADDR", addr) }
			run := func(what, sections, name string, check func(t *testing.T, s *scene, d *client.Discovery)) {
				t.Run(fmt.Sprintf("%s/%s/%s", test.about, rules, what), func(t *testing.T) {
					t.Parallel()
					inWorld(t, sections, func(t *testing.T, s *scene) {
						discoverer := s.discoverer()
						discoverer.Rules = rules
						begun := time.Now()
						d := discoverer.Discover(t.Context(), name)
						assert.Equal(t, test.took, time.Since(begun))
						sound(t, d)
						assert.Equal(t, test.outcome, d.Steps[len(d.Steps)-1].Outcome)
						for _, address := range s.dialled() {
							assert.True(t, strings.HasPrefix(address, "203.0.113."), "%s", address)
						}
						check(t, s, d)
					})
				})
			}

			url := "-- GET https://HOST/.well-known/matrix/client --\n"
			sections, host := more("203.0.113.1"), "example.org"
			if test.reply != "" {
				sections += strings.ReplaceAll(url, "HOST", host) + strings.Replace(test.reply, "Location: ?", "Location: https://EXAMPLE.org:443/.well-known/matrix/client#x", 1)
			}
			if test.host != "" {
				host = test.host
			}
			run("document", sections, host, func(t *testing.T, s *scene, d *client.Discovery) {
				state, homeserver := client.FailPrompt, client.FailPrompt
				if test.code == "not_found" {
					state, homeserver = client.Ignore, client.Prompt
				}
				assert.Equal(t, state, d.State)
				assert.Equal(t, homeserver, d.Homeserver.State)
				assert.Equal(t, client.Code(test.code), d.Error.Code, "%v", d.Error)
				assert.Equal(t, client.Prompt, d.IdentityServer.State)
				assert.Len(t, d.Steps, steps)
				assert.Nil(t, d.Extra)
			})

			homeserver := "hs.example"
			if test.host != "" {
				homeserver = test.host
			}
			sections = document(`{"m.homeserver":{"base_url":"https://`+homeserver+`/"},`+toID+`}`) + more("203.0.113.2") + goodID
			if test.reply != "" {
				sections += "-- GET https://hs.example/_matrix/client/versions --\n" + strings.Replace(test.reply, "Location: ?", "Location: versions", 1)
			}
			run("versions", sections, "@a:example.org", func(t *testing.T, s *scene, d *client.Discovery) {
				assert.Equal(t, client.FailError, d.State)
				assert.Equal(t, client.FailError, d.Homeserver.State)
				assert.Equal(t, client.Code("versions_"+test.code), d.Error.Code, "%v", d.Error)
				assert.Equal(t, "https://"+homeserver, d.Homeserver.BaseURL, "kept")
				assert.Equal(t, client.Section{State: client.Prompt}, d.IdentityServer)
				assert.Len(t, d.Steps, 1+steps)
				assert.NotContains(t, strings.Join(s.Asked(), " "), "/identity/", "only if the homeserver is good")
			})

			identity := "id.example"
			if test.host != "" {
				identity = test.host
			}
			path := client.IdentityPath
			if rules == client.Draft2018 {
				path = client.DraftIdentityPath
			}
			sections = document(`{`+toHS+`,"m.identity_server":{"base_url":"https://`+identity+`"}}`) + more("203.0.113.3") + goodHS
			if test.reply != "" {
				sections += "-- GET https://id.example" + path + " --\n" + strings.Replace(test.reply, "Location: ?", "Location: https://id.example"+path, 1)
			}
			run("identity", sections, "@a:example.org", func(t *testing.T, s *scene, d *client.Discovery) {
				state := client.FailPrompt
				if rules == client.Draft2018 {
					state = client.FailError
					assert.Equal(t, client.FailError, d.State)
					assert.Same(t, d.IdentityServer.Reason, d.Error)
				} else {
					assert.Equal(t, client.Success, d.State)
				}
				assert.Equal(t, client.Success, d.Homeserver.State)
				assert.Equal(t, []string{"v1.1", "v1.11"}, d.Homeserver.Versions)
				assert.Equal(t, state, d.IdentityServer.State)
				assert.Equal(t, client.Code("identity_"+test.code), d.IdentityServer.Reason.Code, "%v", d.IdentityServer.Reason)
				assert.Equal(t, "https://"+identity, d.IdentityServer.BaseURL, "kept")
				assert.Len(t, d.Steps, 2+steps)
			})
		}
	}
}

// TestFlow: the rows of the specification that no fetch decides.
func TestFlow(t *testing.T) {
	t.Parallel()
	const versions = "-- GET https://hs.example/_matrix/client/versions --\n200\n" + cors + "\n"
	for _, test := range []struct {
		about      string
		name       string // @alice:example.org if empty
		sections   string
		noValidate bool

		state     client.State
		code      string
		hs        client.State // as state if empty
		hsURL     string
		versions  []string
		id        client.State // PROMPT if empty; FAIL_PROMPT becomes FAIL_ERROR in the draft
		idURL     string
		idCode    string
		warnings  []string
		asked     []string // after CONNECT lines
		noSteps   bool
		lastState client.Outcome // of the first step
	}{
		{about: "good", sections: document("{"+toHS+","+toID+"}") + goodHS + goodID,
			state: client.Success, hsURL: "https://hs.example", versions: []string{"v1.1", "v1.11"}, id: client.Success, idURL: "https://id.example"},
		{about: "no identity server", sections: document("{"+toHS+"}") + goodHS, state: client.Success, hsURL: "https://hs.example", versions: []string{"v1.1", "v1.11"}},
		{about: "identity server null", sections: document("{"+toHS+`,"m.identity_server":null}`) + goodHS, state: client.Success, hsURL: "https://hs.example", versions: []string{"v1.1", "v1.11"}},
		{about: "identity server in another case", sections: document("{"+toHS+`,"M.identity_server":{}}`) + goodHS, state: client.Success, hsURL: "https://hs.example", versions: []string{"v1.1", "v1.11"}},
		{about: "server name", name: "example.org", sections: document("{"+toHS+"}") + goodHS, state: client.Success, hsURL: "https://hs.example", versions: []string{"v1.1", "v1.11"}},
		{about: "port", name: "@alice:example.org:8448", sections: document("{"+toHS+"}") + goodHS, state: client.Success, hsURL: "https://hs.example", versions: []string{"v1.1", "v1.11"}, warnings: []string{"port_ignored"}},
		{about: "upper case", name: "Example.ORG:443", sections: document("{"+toHS+"}") + goodHS, state: client.Success, hsURL: "https://hs.example", versions: []string{"v1.1", "v1.11"}, warnings: []string{"port_ignored"}},
		{about: "last duplicate", sections: document(`{"m.homeserver":{"base_url":"https://x.example","base_url":"https://hs.example"}}`) + goodHS, state: client.Success, hsURL: "https://hs.example", versions: []string{"v1.1", "v1.11"}},

		{about: "no colon", name: "@alice", state: client.FailPrompt, code: "invalid_server_name", noSteps: true},
		{about: "nothing after the colon", name: "@alice:", state: client.FailPrompt, code: "invalid_server_name", noSteps: true},
		{about: "empty", name: " ", state: client.FailPrompt, code: "invalid_server_name", noSteps: true},
		{about: "a URL", name: "https://example.org", state: client.FailPrompt, code: "invalid_server_name", noSteps: true},
		{about: "an underscore in a server name", name: "@alice:my_hs.example", state: client.FailPrompt, code: "invalid_server_name", noSteps: true},
		{about: "a room", name: "#room:example.org", state: client.FailPrompt, code: "invalid_server_name", noSteps: true},
		{about: "control characters", name: "@a\x1b[31m:exa\nmple", state: client.FailPrompt, code: "invalid_server_name", noSteps: true},

		{about: "empty object", sections: document("{}"), state: client.FailPrompt, code: "homeserver_missing", lastState: client.Invalid},
		{about: "no homeserver", sections: document("{" + toID + "}"), state: client.FailPrompt, code: "homeserver_missing", lastState: client.Invalid},
		{about: "other case", sections: document(`{"M.homeserver":{"base_url":"https://hs.example"}}`), state: client.FailPrompt, code: "homeserver_missing", lastState: client.Invalid},
		{about: "long s", sections: document(`{"m.homeſerver":{"base_url":"https://hs.example"}}`), state: client.FailPrompt, code: "homeserver_missing", lastState: client.Invalid},
		{about: "homeserver null", sections: document(`{"m.homeserver":null}`), state: client.FailPrompt, code: "homeserver_missing", lastState: client.Invalid},
		{about: "homeserver array", sections: document(`{"m.homeserver":[]}`), state: client.FailPrompt, code: "homeserver_missing", lastState: client.Invalid},
		{about: "homeserver string", sections: document(`{"m.homeserver":"https://hs.example"}`), state: client.FailPrompt, code: "homeserver_missing", lastState: client.Invalid},
		{about: "no base_url", sections: document(`{"m.homeserver":{"Base_url":"https://hs.example"}}`), state: client.FailPrompt, code: "base_url_missing", lastState: client.Invalid},
		{about: "base_url null", sections: document(`{"m.homeserver":{"base_url":null}}`), state: client.FailPrompt, code: "base_url_missing", lastState: client.Invalid},
		{about: "base_url empty", sections: document(`{"m.homeserver":{"base_url":""}}`), state: client.FailPrompt, code: "base_url_missing", lastState: client.Invalid},
		{about: "base_url number", sections: document(`{"m.homeserver":{"base_url":1}}`), state: client.FailError, code: "base_url_invalid", lastState: client.Invalid},
		{about: "base_url object", sections: document(`{"m.homeserver":{"base_url":{}}}`), state: client.FailError, code: "base_url_invalid", lastState: client.Invalid},
		{about: "base_url relative", sections: document(`{"m.homeserver":{"base_url":"hs.example"}}`), state: client.FailError, code: "base_url_invalid", lastState: client.Invalid},
		{about: "base_url ftp", sections: document(`{"m.homeserver":{"base_url":"ftp://hs.example"}}`), state: client.FailError, code: "base_url_invalid", lastState: client.Invalid},
		{about: "base_url port", sections: document(`{"m.homeserver":{"base_url":"https://hs.example:0"}}`), state: client.FailError, code: "base_url_invalid", lastState: client.Invalid},
		{about: "base_url spaces", sections: document(`{"m.homeserver":{"base_url":" https://hs.example"}}`), state: client.FailError, code: "base_url_invalid", lastState: client.Invalid},
		{about: "base_url control", sections: document(`{"m.homeserver":{"base_url":"https://hs.example/\u001b[31m\n"}}`), state: client.FailError, code: "base_url_invalid", lastState: client.Invalid},
		{about: "base_url C1", sections: document("{\"m.homeserver\":{\"base_url\":\"https://hs.example/\u009b31m\u202e\"}}"), state: client.FailError, code: "base_url_invalid", lastState: client.Invalid},
		{about: "base_url invalid, unvalidated", noValidate: true, sections: document(`{"m.homeserver":{"base_url":"x"}}`), state: client.FailError, code: "base_url_invalid", lastState: client.Invalid},

		{about: "path", sections: document(`{"m.homeserver":{"base_url":"HTTPS://HS.Example:443/Ba%2fse//"}}`) + strings.Replace(goodHS, "example/", "example/Ba%2fse/", 1), state: client.Success, hsURL: "https://hs.example/Ba%2fse", versions: []string{"v1.1", "v1.11"}},
		{about: "stripped", sections: document(`{"m.homeserver":{"base_url":"https://u:p@hs.example/?q#f"}}`) + goodHS, state: client.Success, hsURL: "https://hs.example", versions: []string{"v1.1", "v1.11"}, warnings: []string{"base_url_stripped"}},
		{about: "underscore", sections: document(`{"m.homeserver":{"base_url":"https://my_hs.example"}}`) + strings.Replace(goodHS, "hs.", "my_hs.", 1), state: client.Success, hsURL: "https://my_hs.example", versions: []string{"v1.1", "v1.11"}},
		{about: "http", sections: document(`{"m.homeserver":{"base_url":"http://hs.example/"}}`) + strings.Replace(goodHS, "example/", "example:80/", 1) + "-- servers --\n203.0.113.2:80 plain\n", state: client.Success, hsURL: "http://hs.example", versions: []string{"v1.1", "v1.11"}, warnings: []string{"base_url_http"}},
		{about: "http with a port", sections: document(`{"m.homeserver":{"base_url":"http://hs.example:8008/"}}`) + strings.Replace(goodHS, "example/", "example:8008/", 1) + "-- servers --\n203.0.113.2:8008 plain\n", state: client.Success, hsURL: "http://hs.example:8008", versions: []string{"v1.1", "v1.11"}, warnings: []string{"base_url_http"}},
		{about: "http to https", sections: document(`{"m.homeserver":{"base_url":"http://hs.example/"}}`) + "-- GET https://hs.example:80/_matrix/client/versions --\n301\n" + cors + "Location: https://hs.example/_matrix/client/versions\n" + goodHS + "-- servers --\n203.0.113.2:80 plain\n", state: client.Success, hsURL: "http://hs.example", versions: []string{"v1.1", "v1.11"}, warnings: []string{"base_url_http", "versions_redirected"}},
		{about: "http to http", sections: document(`{"m.homeserver":{"base_url":"http://hs.example/"}}`) + "-- GET https://hs.example:80/_matrix/client/versions --\n301\n" + cors + "Location: /x\n-- GET https://hs.example:80/x --\n200\n" + cors + "\n{\"versions\":[]}\n-- servers --\n203.0.113.2:80 plain\n", state: client.Success, hsURL: "http://hs.example", versions: []string{}, warnings: []string{"base_url_http", "versions_redirected", "versions_empty"}},
		{about: "http to https and back", sections: document(`{"m.homeserver":{"base_url":"http://hs.example/"}}`) + "-- GET https://hs.example:80/_matrix/client/versions --\n301\n" + cors + "Location: https://hs.example/x\n-- GET https://hs.example/x --\n301\n" + cors + "Location: http://hs.example/y\n-- servers --\n203.0.113.2:80 plain\n", state: client.FailError, code: "versions_redirect_insecure", hsURL: "http://hs.example", warnings: []string{"base_url_http", "versions_redirected"}},
		{about: "every address", sections: document(`{"m.homeserver":{"base_url":"https://two.example"}}`) + strings.Replace(goodHS, "hs.", "two.", 1) + "-- servers --\n203.0.113.9:443 refuse\n", state: client.Success, hsURL: "https://two.example", versions: []string{"v1.1", "v1.11"}},

		{about: "no versions", sections: document("{"+toHS+","+toID+"}") + versions + "{}\n", state: client.FailError, code: "versions_schema", hsURL: "https://hs.example"},
		{about: "versions null", sections: document("{"+toHS+"}") + versions + "{\"versions\":null}\n", state: client.FailError, code: "versions_schema", hsURL: "https://hs.example"},
		{about: "versions object", sections: document("{"+toHS+"}") + versions + "{\"versions\":{}}\n", state: client.FailError, code: "versions_schema", hsURL: "https://hs.example"},
		{about: "versions string", sections: document("{"+toHS+"}") + versions + "{\"versions\":\"v1.1\"}\n", state: client.FailError, code: "versions_schema", hsURL: "https://hs.example"},
		{about: "versions of numbers", sections: document("{"+toHS+"}") + versions + "{\"versions\":[\"v1.1\",1]}\n", state: client.FailError, code: "versions_schema", hsURL: "https://hs.example"},
		{about: "versions with null", sections: document("{"+toHS+"}") + versions + "{\"versions\":[null]}\n", state: client.FailError, code: "versions_schema", hsURL: "https://hs.example"},
		{about: "Versions", sections: document("{"+toHS+"}") + versions + "{\"Versions\":[\"v1.1\"]}\n", state: client.FailError, code: "versions_schema", hsURL: "https://hs.example"},
		{about: "unstable_features array", sections: document("{"+toHS+"}") + versions + "{\"versions\":[],\"unstable_features\":[]}\n", state: client.FailError, code: "versions_schema", hsURL: "https://hs.example"},
		{about: "unstable_features of strings", sections: document("{"+toHS+"}") + versions + "{\"versions\":[],\"unstable_features\":{\"a\":true,\"b\":\"true\"}}\n", state: client.FailError, code: "versions_schema", hsURL: "https://hs.example"},
		{about: "unstable_features null", sections: document("{"+toHS+"}") + versions + "{\"versions\":[\"r0.0.1\\u001b\"],\"unstable_features\":null}\n", state: client.Success, hsURL: "https://hs.example", versions: []string{"r0.0.1\x1b"}},
		{about: "unstable_features with null", sections: document("{"+toHS+"}") + versions + "{\"versions\":[\"v1.1\"],\"unstable_features\":{\"a\":null}}\n", state: client.Success, hsURL: "https://hs.example", versions: []string{"v1.1"}},
		{about: "no version", sections: document("{"+toHS+"}") + versions + "{\"versions\":[]}\n", state: client.Success, hsURL: "https://hs.example", versions: []string{}, warnings: []string{"versions_empty"}},
		{about: "versions redirected", sections: document("{"+toHS+"}") + "-- GET https://hs.example/_matrix/client/versions --\n302\n" + cors + "Location: https://www.example/v\n-- GET https://www.example/v --\n200\n" + cors + "\n{\"versions\":[\"v1.1\"]}\n", state: client.Success, hsURL: "https://hs.example", versions: []string{"v1.1"}, warnings: []string{"versions_redirected"}},

		{about: "identity no base_url", sections: document("{"+toHS+`,"m.identity_server":{}}`) + goodHS, state: client.Success, hsURL: "https://hs.example", versions: []string{"v1.1", "v1.11"}, id: client.FailPrompt, idCode: "identity_base_url_missing"},
		{about: "identity base_url null", sections: document("{"+toHS+`,"m.identity_server":{"base_url":null}}`) + goodHS, state: client.Success, hsURL: "https://hs.example", versions: []string{"v1.1", "v1.11"}, id: client.FailPrompt, idCode: "identity_base_url_missing"},
		{about: "identity base_url empty", sections: document("{"+toHS+`,"m.identity_server":{"base_url":""}}`) + goodHS, state: client.Success, hsURL: "https://hs.example", versions: []string{"v1.1", "v1.11"}, id: client.FailPrompt, idCode: "identity_base_url_missing"},
		{about: "identity string", sections: document("{"+toHS+`,"m.identity_server":"https://id.example"}`) + goodHS, state: client.Success, hsURL: "https://hs.example", versions: []string{"v1.1", "v1.11"}, id: client.FailPrompt, idCode: "identity_base_url_missing"},
		{about: "identity false", sections: document("{"+toHS+`,"m.identity_server":false}`) + goodHS, state: client.Success, hsURL: "https://hs.example", versions: []string{"v1.1", "v1.11"}, id: client.FailPrompt, idCode: "identity_base_url_missing"},
		{about: "identity base_url number", sections: document("{"+toHS+`,"m.identity_server":{"base_url":7}}`) + goodHS, state: client.Success, hsURL: "https://hs.example", versions: []string{"v1.1", "v1.11"}, id: client.FailPrompt, idCode: "identity_base_url_invalid"},
		{about: "identity base_url relative", sections: document("{"+toHS+`,"m.identity_server":{"base_url":"id.example"}}`) + goodHS, state: client.Success, hsURL: "https://hs.example", versions: []string{"v1.1", "v1.11"}, id: client.FailPrompt, idCode: "identity_base_url_invalid"},
		{about: "identity relative, unvalidated", noValidate: true, sections: document("{" + toHS + `,"m.identity_server":{"base_url":"id.example"}}`), state: client.Success, hsURL: "https://hs.example", id: client.FailPrompt, idCode: "identity_base_url_invalid", warnings: []string{"not_validated"}},
		{about: "identity http, stripped", sections: document("{"+toHS+`,"m.identity_server":{"base_url":"http://id.example?"}}`) + goodHS + strings.ReplaceAll(goodID, "example/", "example:80/") + "-- servers --\n203.0.113.3:80 plain\n", state: client.Success, hsURL: "https://hs.example", versions: []string{"v1.1", "v1.11"}, id: client.Success, idURL: "http://id.example", warnings: []string{"base_url_stripped", "base_url_http"}},
		{about: "unvalidated", noValidate: true, sections: document("{" + toHS + "," + toID + "}"), state: client.Success, hsURL: "https://hs.example", id: client.Success, idURL: "https://id.example", warnings: []string{"not_validated"}},

		{about: "redirected", sections: wellKnown + "308\n" + cors + "Location: https://www.example/1\n" + strings.ReplaceAll(chain(1, 9), "301\n", "301\n"+cors) + "-- GET https://www.example/10 --\n200\nContent-Type: application/json; charset=utf-8\n" + cors + "\n{" + toHS + "}\n" + goodHS, state: client.Success, hsURL: "https://hs.example", versions: []string{"v1.1", "v1.11"}},
		{about: "as large as may be", sections: wellKnown + "200\nContent-Type: application/json\n" + cors + "!size 51200\n\n{" + toHS + "}\n" + goodHS, state: client.Success, hsURL: "https://hs.example", versions: []string{"v1.1", "v1.11"}},
		{about: "no CORS anywhere", sections: wellKnown + "302\nLocation: https://www.example/\n-- GET https://www.example/ --\n200\nContent-Type: application/json\nAccess-Control-Allow-Origin: https://app.example\n\n{" + toHS + "}\n" + strings.Replace(goodHS, cors, cors+cors, 1), state: client.Success, hsURL: "https://hs.example", versions: []string{"v1.1", "v1.11"}, warnings: []string{"cors_missing", "cors_missing", "cors_missing"}},
		{about: "no CORS on 404", sections: wellKnown + "404\n", state: client.Ignore, hs: client.Prompt, code: "not_found", warnings: []string{"cors_missing"}, lastState: client.Absent},
		{about: "no CORS on one hop", sections: wellKnown + "302\nLocation: https://www.example/\n" + cors + "-- GET https://www.example/ --\n302\nLocation: https://www.example/2\n-- GET https://www.example/2 --\n200\nContent-Type: Application/JSON\n" + cors + "\n{" + toHS + "}\n" + goodHS, state: client.Success, hsURL: "https://hs.example", versions: []string{"v1.1", "v1.11"}, warnings: []string{"cors_missing"}},
		{about: "content type", sections: wellKnown + "200\nContent-Type: text/plain\u009b\n" + cors + "\n{" + toHS + "}\n" + goodHS, state: client.Success, hsURL: "https://hs.example", versions: []string{"v1.1", "v1.11"}, warnings: []string{"content_type"}},
		{about: "no content type", sections: wellKnown + "200\n" + cors + "\n{" + toHS + "}\n" + goodHS, state: client.Success, hsURL: "https://hs.example", versions: []string{"v1.1", "v1.11"}, warnings: []string{"content_type"}},
	} {
		for _, rules := range bothRules {
			t.Run(test.about+"/"+rules.String(), func(t *testing.T) {
				t.Parallel()
				inWorld(t, test.sections, func(t *testing.T, s *scene) {
					discoverer := s.discoverer()
					discoverer.Rules, discoverer.NoValidate = rules, test.noValidate
					name := test.name
					if name == "" {
						name = "@alice:example.org"
					}
					d := discoverer.Discover(t.Context(), name)
					sound(t, d)
					assert.Equal(t, name, d.Name)
					want := client.Section{State: test.hs, BaseURL: test.hsURL, Versions: test.versions}
					if test.hs == "" {
						want.State = test.state
					}
					whole, id := test.state, client.Section{State: test.id, BaseURL: test.idURL}
					if test.id == "" {
						id.State = client.Prompt
					}
					if id.State == client.FailPrompt && rules == client.Draft2018 {
						id.State, whole = client.FailError, client.FailError
					}
					assert.Equal(t, whole, d.State, "%v", d.Error)
					if test.code != "" {
						require.NotNil(t, d.Homeserver.Reason)
						assert.Equal(t, client.Code(test.code), d.Homeserver.Reason.Code)
						assert.Same(t, d.Error, d.Homeserver.Reason)
						want.Reason = d.Homeserver.Reason
					}
					if test.idCode != "" {
						require.NotNil(t, d.IdentityServer.Reason)
						assert.Equal(t, client.Code(test.idCode), d.IdentityServer.Reason.Code)
						id.Reason = d.IdentityServer.Reason
						if rules == client.Draft2018 {
							assert.Same(t, id.Reason, d.Error)
						}
					}
					want.Extra = d.Homeserver.Extra // TestExtraOfFailures
					assert.Equal(t, want, d.Homeserver)
					assert.Equal(t, id, d.IdentityServer)
					warnings := test.warnings
					if warnings == nil {
						warnings = []string{}
					}
					assert.Equal(t, warnings, codes(d.Warnings))
					if test.noSteps {
						assert.Empty(t, d.Steps)
						assert.Empty(t, s.Asked(), "no traffic")
						assert.Empty(t, d.ServerName)
						assert.Empty(t, d.Hostname)
						return
					}
					require.NotEmpty(t, d.Steps)
					assert.Equal(t, "GET https://example.org/.well-known/matrix/client", d.Steps[0].Query)
					if test.lastState != "" {
						assert.Equal(t, test.lastState, d.Steps[0].Outcome)
					} else {
						assert.Equal(t, client.Used, d.Steps[0].Outcome)
					}
					// The steps are the requests that the servers saw, in their order.
					var asked, steps []string
					for _, line := range s.Asked() {
						if strings.HasPrefix(line, "GET ") {
							asked = append(asked, line)
						}
					}
					for _, step := range d.Steps {
						steps = append(steps, step.Query)
					}
					assert.Equal(t, asked, steps)
					if test.noValidate {
						assert.Len(t, steps, 1)
					}
					if d.IdentityServer.State == client.Success && !test.noValidate {
						path := client.IdentityPath
						if rules == client.Draft2018 {
							path = client.DraftIdentityPath
						}
						assert.Equal(t, "GET "+d.IdentityServer.BaseURL+path, steps[len(steps)-1])
						assert.Equal(t, "3.6", d.Steps[len(steps)-1].Rule)
					}
				})
			})
		}
	}
}

// TestBaseURLsAreGuarded: a document cannot make us connect to what the guard
// refuses, with TLS or without, at once or by a redirect.
func TestBaseURLsAreGuarded(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1", "[::1]", "10.1.2.3:8008", "169.254.169.254", "[::ffff:127.0.0.1]", "[64:ff9b::a00:1]", "100.64.0.1", "224.0.0.1", "0.0.0.0", "private.example", "loopback.example", "mapped.example"} {
		for _, scheme := range []string{"http", "https"} {
			for _, redirect := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s://%s/%v", scheme, host, redirect), func(t *testing.T) {
					t.Parallel()
					base, sections, warnings := scheme+"://"+host, "", 0
					if redirect {
						sections = "-- GET https://hs.example/_matrix/client/versions --\n307\n" + cors + "Location: " + base + "/x\n" +
							"-- GET https://hs.example:80/_matrix/client/versions --\n307\n" + cors + "Location: " + base + "/x\n-- servers --\n203.0.113.2:80 plain\n"
						base = scheme + "://hs.example"
					}
					if scheme == "http" {
						warnings = 1
					}
					inWorld(t, document(`{"m.homeserver":{"base_url":"`+base+`"}}`)+sections, func(t *testing.T, s *scene) {
						d := s.discoverer().Discover(t.Context(), "example.org")
						sound(t, d)
						assert.Equal(t, client.FailError, d.State)
						assert.Equal(t, client.Code("versions_address_denied"), d.Error.Code, "%v", d.Error)
						assert.Equal(t, base, d.Homeserver.BaseURL)
						assert.Equal(t, client.Denied, d.Steps[len(d.Steps)-1].Outcome)
						assert.Equal(t, warnings, strings.Count(strings.Join(codes(d.Warnings), " "), "base_url_http"))
						for _, address := range s.dialled() {
							assert.True(t, strings.HasPrefix(address, "203.0.113."), "%s", address)
						}
					})
				})
			}
		}
	}
}

// TestZeroDiscoverer is ready to use, and as guarded.
func TestZeroDiscoverer(t *testing.T) {
	t.Parallel()
	var d client.Discoverer
	for _, name := range []string{"@a:127.0.0.1", "[::1]", "@a:169.254.169.254:80"} {
		got := d.Discover(t.Context(), name)
		sound(t, got)
		assert.Equal(t, client.Code("address_denied"), got.Error.Code)
	}
	for _, url := range []string{"http://127.0.0.1:1", "https://[::1]:1"} {
		got := d.Validate(t.Context(), client.HomeserverDocument(url))
		sound(t, got)
		assert.Equal(t, client.Code("versions_address_denied"), got.Error.Code)
		assert.Equal(t, url, got.Homeserver.BaseURL)
	}
	assert.Equal(t, "[::1]", d.Discover(t.Context(), "@a:[::1]:8448").Hostname)
	assert.Equal(t, "[::1]:8448", d.Discover(t.Context(), "@a:[::1]:8448").ServerName)
}

// TestIPLiterals are asked like any host.
func TestIPLiterals(t *testing.T) {
	t.Parallel()
	sections := "-- zone from 1h --\n-- GET https://203.0.113.1/.well-known/matrix/client --\n404\n-- servers --\n203.0.113.1:443\n"
	inWorld(t, sections, func(t *testing.T, s *scene) {
		d := s.discoverer().Discover(t.Context(), "@a:203.0.113.1:8448")
		sound(t, d)
		assert.Equal(t, client.Ignore, d.State, "%v", d.Error)
		assert.Equal(t, "203.0.113.1", d.Hostname)
	})
}

// TestNoWayWithoutTLS: who gives DialTLS alone has not said how to dial http.
func TestNoWayWithoutTLS(t *testing.T) {
	t.Parallel()
	inWorld(t, document(`{"m.homeserver":{"base_url":"http://hs.example"}}`), func(t *testing.T, s *scene) {
		discoverer := s.discoverer()
		discoverer.Fetcher.Dial = nil
		d := discoverer.Discover(t.Context(), "example.org")
		sound(t, d)
		assert.Equal(t, client.Code("versions_connect_failed"), d.Error.Code)
		assert.Equal(t, []string{"203.0.113.1:443"}, s.dialled())
	})
}

// TestTimeouts: five seconds for each request, and a limit for the name.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	slow := wellKnown + "302\n!delay 4s\nLocation: https://www.example/1\n"
	for i := 1; i < 10; i++ {
		slow += fmt.Sprintf("-- GET https://www.example/%d --\n302\n!delay 4s\nLocation: /%d\n", i, i+1)
	}
	slow += "-- GET https://www.example/10 --\n200\n\n{}\n"
	for _, test := range []struct {
		timeout, ctx, took time.Duration
		code               string
	}{
		{0, 0, 30 * time.Second, "timeout"},
		{time.Minute, 0, 40 * time.Second, "homeserver_missing"},
		{9 * time.Second, 0, 9 * time.Second, "timeout"},
		{0, 6 * time.Second, 6 * time.Second, "timeout"},
	} {
		inWorld(t, slow, func(t *testing.T, s *scene) {
			ctx := t.Context()
			if test.ctx > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, test.ctx)
				defer cancel()
			}
			discoverer := s.discoverer()
			discoverer.Timeout = test.timeout
			begun := time.Now()
			d := discoverer.Discover(ctx, "example.org")
			assert.Equal(t, test.took, time.Since(begun))
			assert.Equal(t, client.Code(test.code), d.Error.Code)
			assert.Equal(t, client.FailPrompt, d.State)
			sound(t, d)
		})
	}
	inWorld(t, slow, func(t *testing.T, s *scene) {
		discoverer := s.discoverer()
		discoverer.Fetcher.Timeout = 7 * time.Second
		begun := time.Now()
		d := discoverer.Discover(t.Context(), "example.org")
		assert.Equal(t, 7*time.Second, time.Since(begun))
		assert.Equal(t, client.Code("timeout"), d.Error.Code)
		assert.Contains(t, d.Error.Message, "within 3s")
	})
	inWorld(t, slow, func(t *testing.T, s *scene) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		d := s.discoverer().Discover(ctx, "example.org")
		assert.Equal(t, client.Code(wellknown.Canceled), d.Error.Code)
		sound(t, d)
	})
}

// TestJSON: the form of the output, key by key.
func TestJSON(t *testing.T) {
	t.Parallel()
	body := `{"m.homeserver":{"base_url":"https://hs.example/","x":1.0},
		"m.identity_server":{"base_url":"https://id.example","y":[ 1e999 ]},
		"org.example.app":{"n":1.0, "m":12345678901234567890.10},"org.example.null":null,"M.homeserver":{"base_url":"https://x.example"}}`
	inWorld(t, wellKnown+"302\nLocation: https://www.example/w\n"+cors+"-- GET https://www.example/w --\n200\nContent-Type: application/json\n"+cors+"\n"+body+"\n"+goodHS+"-- GET https://id.example/_matrix/identity/v2 --\n502\n", func(t *testing.T, s *scene) {
		d := s.discoverer().Discover(t.Context(), "@alice:example.org:8448")
		for i := range d.Steps {
			d.Steps[i].Duration = 12500 * time.Microsecond
		}
		got, err := json.MarshalIndent(d, "", " ")
		require.NoError(t, err)
		const identity = "GET https://id.example/_matrix/identity/v2: status 502 Bad Gateway"
		assert.Equal(t, `{
 "name": "@alice:example.org:8448",
 "server_name": "example.org:8448",
 "hostname": "example.org",
 "state": "SUCCESS",
 "homeserver": {
  "state": "SUCCESS",
  "base_url": "https://hs.example",
  "versions": [
   "v1.1",
   "v1.11"
  ],
  "extra": {
   "x": 1.0
  }
 },
 "identity_server": {
  "state": "FAIL_PROMPT",
  "base_url": "https://id.example",
  "reason": {
   "code": "identity_http_status",
   "message": "`+identity+`"
  },
  "extra": {
   "y": [
    1e999
   ]
  }
 },
 "extra": {
  "M.homeserver": {
   "base_url": "https://x.example"
  },
  "org.example.app": {
   "n": 1.0,
   "m": 12345678901234567890.10
  },
  "org.example.null": null
 },
 "steps": [
  {
   "rule": "3",
   "query": "GET https://example.org/.well-known/matrix/client",
   "outcome": "used",
   "detail": "302, redirected to https://www.example/w",
   "duration_ms": 12.5
  },
  {
   "rule": "3",
   "query": "GET https://www.example/w",
   "outcome": "used",
   "detail": "200, `+strconv.Itoa(len(body))+` bytes",
   "duration_ms": 12.5
  },
  {
   "rule": "3.5",
   "query": "GET https://hs.example/_matrix/client/versions",
   "outcome": "used",
   "detail": "200, 60 bytes",
   "duration_ms": 12.5
  },
  {
   "rule": "3.6",
   "query": "GET https://id.example/_matrix/identity/v2",
   "outcome": "temporary",
   "detail": "status 502 Bad Gateway",
   "duration_ms": 12.5
  }
 ],
 "warnings": [
  {
   "code": "port_ignored",
   "message": "discovery leaves the port 8448 of the server name out: https is asked on port 443"
  }
 ]
}`, string(got))
	})
	inWorld(t, wellKnown+"404\n"+cors, func(t *testing.T, s *scene) {
		d := s.discoverer().Discover(t.Context(), "example.org")
		d.Steps[0].Duration = 0
		got, err := json.Marshal(d)
		require.NoError(t, err)
		const reason = `{"code":"not_found","message":"GET https://example.org/.well-known/matrix/client: status 404 Not Found"}`
		assert.Equal(t, `{"name":"example.org","server_name":"example.org","hostname":"example.org","state":"IGNORE",`+
			`"homeserver":{"state":"PROMPT","reason":`+reason+`},"identity_server":{"state":"PROMPT"},`+
			`"steps":[{"rule":"3","query":"GET https://example.org/.well-known/matrix/client","outcome":"absent","detail":"status 404 Not Found","duration_ms":0}],`+
			`"warnings":[],"error":`+reason+`}`, string(got))
	})
	inWorld(t, document("{"+toHS+"}")+"-- GET https://hs.example/_matrix/client/versions --\n200\n"+cors+"\n{\"versions\":[]}\n", func(t *testing.T, s *scene) {
		got, err := json.Marshal(s.discoverer().Discover(t.Context(), "example.org").Homeserver)
		require.NoError(t, err)
		assert.Equal(t, `{"state":"SUCCESS","base_url":"https://hs.example","versions":[]}`, string(got))
	})
}

// TestExtraOfFailures: the other members are there whenever there is an object.
func TestExtraOfFailures(t *testing.T) {
	t.Parallel()
	for _, homeserver := range []string{`"m.homeserver":0`, `"m.homeserver":{"e":2}`, `"m.homeserver":{"base_url":"x","e":2}`, `"m.homeserver":{"base_url":"https://hs.example","e":2}`} {
		inWorld(t, document(`{`+homeserver+`,"e":1,"m.identity_server":{"base_url":"https://id.example","e":3}}`), func(t *testing.T, s *scene) {
			d := s.discoverer().Discover(t.Context(), "example.org")
			assert.NotEqual(t, client.Success, d.State)
			assert.Equal(t, map[string]json.RawMessage{"e": json.RawMessage("1")}, d.Extra)
			assert.Equal(t, map[string]json.RawMessage{"e": json.RawMessage("3")}, d.IdentityServer.Extra)
			if strings.Contains(homeserver, "e") && strings.Contains(homeserver, "{") {
				assert.Equal(t, map[string]json.RawMessage{"e": json.RawMessage("2")}, d.Homeserver.Extra)
			}
		})
	}
}

// TestLongest: the longest base URL is asked, and the deepest value that is read
// can be written.
func TestLongest(t *testing.T) {
	t.Parallel()
	base := "https://hs.example/" + strings.Repeat("a", 7881)
	deep := strings.Repeat("[", 9999) + strings.Repeat("]", 9999)
	inWorld(t, document(`{"m.homeserver":{"base_url":"`+base+`"},"deep":`+deep+`}`)+strings.Replace(goodHS, "https://hs.example", base, 1), func(t *testing.T, s *scene) {
		d := s.discoverer().Discover(t.Context(), "example.org")
		sound(t, d)
		assert.Equal(t, client.Success, d.State, "%v", d.Error)
		assert.Equal(t, base, d.Homeserver.BaseURL)
		assert.Equal(t, deep, string(d.Extra["deep"]))
	})
}

// TestValidate: what a login response says is judged as the document is.
func TestValidate(t *testing.T) {
	t.Parallel()
	inWorld(t, goodHS+goodID, func(t *testing.T, s *scene) {
		login, err := wellknown.ParseObject([]byte(`{"user_id":"@a:example.org","well_known":{` + toHS + `,` + toID + `}}`))
		require.NoError(t, err)
		object, err := wellknown.ParseObject(login["well_known"])
		require.NoError(t, err)
		d := s.discoverer().Validate(t.Context(), client.ReadDocument(object))
		sound(t, d)
		assert.Equal(t, client.Success, d.State)
		assert.Equal(t, client.Success, d.IdentityServer.State)
		assert.Len(t, d.Steps, 2)

		d = s.discoverer().Validate(t.Context(), client.HomeserverDocument("https://HS.example/"))
		sound(t, d)
		assert.Equal(t, client.Success, d.State)
		assert.Equal(t, "https://hs.example", d.Homeserver.BaseURL)
		assert.Len(t, d.Steps, 1)
		d = s.discoverer().Validate(t.Context(), &client.Document{
			Homeserver:     client.Information{BaseURL: "https://HS.example/?"},
			IdentityServer: &client.Information{BaseURL: "https://id.example", Stripped: true},
		})
		sound(t, d)
		assert.Equal(t, client.Success, d.IdentityServer.State, "made by hand")
		assert.Equal(t, "https://hs.example", d.Homeserver.BaseURL)
		assert.Equal(t, []string{"base_url_stripped", "base_url_stripped"}, codes(d.Warnings))
		for _, doc := range []*client.Document{nil, {}, {IdentityServer: &client.Information{}}} {
			discoverer := s.discoverer()
			discoverer.NoValidate = true
			d = discoverer.Validate(t.Context(), doc)
			sound(t, d)
			assert.Equal(t, client.BaseURLMissing, d.Error.Code)
		}
		for _, bad := range []string{"", "hs.example"} {
			d = s.discoverer().Validate(t.Context(), client.HomeserverDocument(bad))
			sound(t, d)
			assert.NotEqual(t, client.Success, d.State)
			assert.Empty(t, d.Steps)
		}
	})
}

// TestConcurrently: a Discoverer is shared.
func TestConcurrently(t *testing.T) {
	t.Parallel()
	var d client.Discoverer
	done := make(chan *client.Discovery)
	for range 8 {
		go func() { done <- d.Discover(t.Context(), "@a:127.0.0.1") }()
	}
	for range 8 {
		assert.Equal(t, client.FailPrompt, (<-done).State)
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	for _, r := range bothRules {
		text, err := r.MarshalText()
		require.NoError(t, err)
		var again client.Rules
		require.NoError(t, again.UnmarshalText(text))
		assert.Equal(t, r, again)
	}
	var r client.Rules
	assert.Error(t, r.UnmarshalText([]byte("draft-2019")))
	assert.Equal(t, "Rules(7)", client.Rules(7).String())
	assert.True(t, slices.IsSorted(bothRules))
}
