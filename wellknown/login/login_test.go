package login_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
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
	"mxdiscover/wellknown/login"
)

const (
	alice    = "@alice:example.org"
	password = `pa55-w"rd<&>ü`
	token    = "t0ken-of-alice"
)

var hosts = map[string]string{
	"example.org":     "203.0.113.1",
	"hs.example":      "203.0.113.2",
	"two.example":     "203.0.113.3",
	"id.example":      "203.0.113.4",
	"private.example": "10.0.0.1",
}

const zone = `-- zone --
example.org. A 203.0.113.1
hs.example. A 203.0.113.2
two.example. A 203.0.113.3
id.example. A 203.0.113.4
private.example. A 10.0.0.1
`

const (
	wellKnown = "-- GET https://example.org/.well-known/matrix/client --\n200\nContent-Type: application/json\nAccess-Control-Allow-Origin: *\n\n{\"m.homeserver\":{\"base_url\":\"https://hs.example/\"}}\n"
	published = "\n200\nAccess-Control-Allow-Origin: *\n\n{\"versions\":[\"v1.11\"]}\n"
	versions  = "-- GET https://hs.example/_matrix/client/versions --" + published
	found     = wellKnown + versions
	versions2 = "-- GET https://two.example/_matrix/client/versions --" + published
	getFlows  = "-- GET https://hs.example/_matrix/client/v3/login --\n"
	flows     = getFlows + "200\n\n{\"flows\":[{\"type\":\"m.login.sso\"},{\"type\":\"m.login.password\"}]}\n"
	post      = "-- POST https://hs.example/_matrix/client/v3/login --\n"
	ids       = `"user_id":"@alice:example.org","access_token":"` + token + `","device_id":"DEV"`
	good      = "200\n\n{" + ids + "}\n"
	steps     = `"steps":[{"rule":"flows","outcome":"used"},{"rule":"login","outcome":"used"}]`
)

func flowsAt(base string) string {
	return "-- GET " + base + "/_matrix/client/v3/login --\n200\n\n{\"flows\":[{\"type\":\"m.login.password\"}]}\n"
}

// answers is a login's answer with these members more.
func answers(more string) string { return post + "200\n\n{" + ids + "," + more + "}\n" }

func redirect(from string, status int, location string) string {
	return fmt.Sprintf("-- POST %s --\n%d\nLocation: %s\n", from, status, location)
}

const loginPath = "/_matrix/client/v3/login"

// circle redirects n times, to another port each time, and then logs in.
func circle(n int) string {
	var b strings.Builder
	from := "https://hs.example"
	for i := range n {
		next := fmt.Sprintf("https://hs.example:%d", 9000+i)
		b.WriteString(redirect(from+loginPath, 307, next+loginPath))
		from = next
	}
	return b.String() + "-- POST " + from + loginPath + " --\n" + good
}

type scene struct {
	*world.World
	mu     sync.Mutex
	bodies []string // of every POST
}

// fetcher acts in the world, behind the guard of the command.
func (s *scene) fetcher(allow ...netip.Prefix) *wellknown.Fetcher {
	d := &dial.Dialer{
		Guard:       guard.Guard{Allow: append(s.AllowNets(), allow...)},
		DialContext: s.DialContext,
		Lookup: func(_ context.Context, host string, v6 bool) ([]netip.Addr, error) {
			if text := hosts[host]; text != "" && !v6 {
				return []netip.Addr{netip.MustParseAddr(text)}, nil
			}
			return nil, nil
		},
	}
	return &wellknown.Fetcher{
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
	}
}

func inWorld(t *testing.T, sections string, test func(t *testing.T, s *scene)) {
	t.Helper()
	parsed, err := world.Parse("scene", []byte(zone+sections))
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		w, err := parsed.Start(world.Memory{Network: &memnet.Network{}})
		require.NoError(t, err)
		defer w.Close()
		s := &scene{World: w}
		w.Handle(func(_ http.ResponseWriter, req *http.Request, _ netip.AddrPort) bool {
			if req.Method == http.MethodPost {
				body, _ := io.ReadAll(req.Body)
				s.mu.Lock()
				defer s.mu.Unlock()
				s.bodies = append(s.bodies, string(body))
				if ct := req.Header.Get("Content-Type"); ct != "application/json" || len(req.TransferEncoding) > 0 {
					s.bodies = append(s.bodies, "bad header "+ct)
				}
			} else if req.Header.Get("Authorization") != "" || strings.Contains(req.URL.String(), token) {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.bodies = append(s.bodies, "a token with a GET")
			}
			return false
		})
		test(t, s)
		time.Sleep(time.Minute) // the servers' own pauses
		assert.Zero(t, w.Open(), "connections are closed")
	})
}

// posted are the bodies so far.
func (s *scene) posted() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.bodies)
}

// requests are those of HTTP, without host paths that all share.
func (s *scene) requests() []string {
	list := []string{}
	for _, what := range s.Asked() {
		if method, _, _ := strings.Cut(what, " "); method == "GET" || method == "POST" {
			list = append(list, strings.NewReplacer("/_matrix/client/", "/", "/.well-known/matrix/client", "/wk").Replace(what))
		}
	}
	return list
}

// silent checks that no printer shows a secret.
func silent(t *testing.T, values ...any) {
	t.Helper()
	var all bytes.Buffer
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&all, verb+"\n", v)
		}
		for _, h := range []slog.Handler{slog.NewTextHandler(&all, nil), slog.NewJSONHandler(&all, nil)} {
			slog.New(h).Info("x", "v", v)
		}
		text, err := json.Marshal(v)
		require.NoError(t, err)
		all.Write(text)
	}
	for _, secret := range []string{"pa55", token, "hunter2"} {
		for _, form := range []string{secret, fmt.Sprintf("%x", secret), base64.StdEncoding.EncodeToString([]byte(secret))[:len(secret)]} {
			require.NotContains(t, strings.ToLower(all.String()), strings.ToLower(form))
		}
	}
}

// overHTTP has hs.example's answers without TLS.
func overHTTP(sections string) string {
	return strings.NewReplacer(" https://hs.example/", " https://hs.example:80/").Replace(sections) + "-- servers --\n203.0.113.2:80 plain\n"
}

func yes(string, string) bool { return true }

var noPost = []string{}

type row struct {
	about    string
	sections string
	id       string // alice if empty
	at       string // Request.Homeserver
	pass     string // password if empty
	device   string
	client   login.Client
	own      bool // HomeserverFetcher may go anywhere
	want     string
	posts    []string      // where the password went; nil: not checked
	requests []string      // nil: not checked
	took     time.Duration // at least
}

const (
	at    = "https://hs.example"
	plain = "pa55word" // a password that fits anywhere
)

var rows = []row{
	// 3.2
	{about: "no Matrix ID", id: "alice", want: `{"name":"alice","error":{"code":"invalid_user_id"},"steps":[]}`, requests: []string{}},
	{about: "no server name", id: "@alice", want: `{"error":{"code":"invalid_user_id"}}`, requests: []string{}},
	{about: "a server name", id: "example.org", want: `{"error":{"code":"invalid_user_id"}}`, requests: []string{}},
	{about: "a bad server name", id: "@alice:ex ample", want: `{"error":{"code":"invalid_user_id"}}`, requests: []string{}},
	{about: "a control character", id: "@al\x1bice:example.org", want: `{"error":{"code":"invalid_user_id"}}`, requests: []string{}},
	{about: "a long one", id: "@" + strings.Repeat("a", 250) + ":example.org", want: `{"error":{"code":"invalid_user_id"}}`, requests: []string{}},
	{about: "a device that is no UTF-8", device: "\xff", want: `{"error":{"code":"invalid_device_id"}}`, requests: []string{}},
	{about: "discovered", sections: found + flows + post + good,
		want:     `{"name":"@alice:example.org","user_id":"@alice:example.org","device_id":"DEV","base_url":"https://hs.example","redirected_by":"none","access_token":null,"error":null,"identity_server":null,"discovery":{"state":"SUCCESS","steps":[{"rule":"3"},{"rule":"3.5"}]},"warnings":[],` + steps + `}`,
		requests: []string{"GET https://example.org/wk", "GET https://hs.example/versions", "GET https://hs.example/v3/login", "POST https://hs.example/v3/login"}},
	{about: "discovered, not validated", sections: found + flows + post + good, client: login.Client{NoValidate: true},
		want:     `{"error":null,"discovery":{"warnings":[{"code":"not_validated"}]}}`,
		requests: []string{"GET https://example.org/wk", "GET https://hs.example/v3/login", "POST https://hs.example/v3/login"}},
	{about: "nothing published", sections: "-- GET https://example.org/ --\n404\n" + flows + post + good,
		want:     `{"error":{"code":"discovery_failed","message":"~404"},"discovery":{"state":"IGNORE"},"base_url":null,"redirected_by":null}`,
		requests: []string{"GET https://example.org/wk"}},
	{about: "server not valid", sections: wellKnown + flows + post + good, want: `{"error":{"code":"discovery_failed"},"discovery":{"state":"FAIL_ERROR"}}`,
		requests: []string{"GET https://example.org/wk", "GET https://hs.example/versions"}},
	{about: "discovery leads to http", sections: strings.Replace(wellKnown, "https://hs.", "http://hs.", 1) + overHTTP(versions+flows+post+good),
		want: `{"error":{"code":"insecure_homeserver"}}`, requests: []string{"GET https://example.org/wk", "GET http://hs.example/versions"}},
	{about: "http, the user's own word", at: "http://hs.example/", sections: overHTTP(flows + post + good),
		want: `{"error":null,"base_url":"http://hs.example","discovery":null,"warnings":[{"code":"base_url_http"}]}`, requests: []string{"GET http://hs.example/v3/login", "POST http://hs.example/v3/login"}},
	{about: "no discovery with a homeserver", at: at, sections: found + flows + post + good,
		want: `{"error":null,"discovery":null,` + steps + `}`, requests: []string{"GET https://hs.example/v3/login", "POST https://hs.example/v3/login"}},
	{about: "a homeserver with a path and more", at: "https://u:pa55@hs.example/base/?q", sections: flowsAt("https://hs.example/base") + "-- POST https://hs.example/base/_matrix/client/v3/login --\n" + good,
		want: `{"error":null,"base_url":"https://hs.example/base","warnings":[{"code":"base_url_stripped"}]}`},
	{about: "a homeserver that is no URL", at: "ftp://u:pa55@hs.example", want: `{"error":{"code":"base_url_invalid"}}`, requests: []string{}},
	{about: "own host is denied without leave", at: "https://private.example", sections: flowsAt("https://private.example"),
		want: `{"error":{"code":"address_denied","status":null},"steps":[{"outcome":"denied"}]}`, requests: []string{}},
	{about: "own host needs no leave", at: "https://private.example", own: true, sections: flowsAt("https://private.example") + "-- POST https://private.example/_matrix/client/v3/login --\n" + good,
		want: `{"error":null,"base_url":"https://private.example"}`},
	{about: "another host does", at: at, own: true, sections: flows + answers(`"base_cs_url":"https://private.example"`) + "-- GET https://private.example/_matrix/client/versions --" + published,
		want: `{"error":null,"base_url":"https://hs.example","redirected_by":"none","warnings":[{"code":"base_cs_url_unusable","message":"~10\\.0\\.0\\.1"}]}`},
	{about: "another host of a redirect does", at: at, own: true, client: login.Client{FollowRedirect: yes}, sections: flows + redirect(at+loginPath, 307, "https://private.example"+loginPath) + "-- POST https://private.example/_matrix/client/v3/login --\n" + good,
		want: `{"error":{"code":"address_denied"}}`, posts: []string{"POST https://hs.example/v3/login"}},

	// 3.3
	{about: "flows 404", at: at, sections: getFlows + "404\n\n{\"errcode\":\"M_UNRECOGNIZED\"}\n" + post + good, posts: noPost,
		want: `{"error":{"code":"login_unsupported","status":404,"errcode":"M_UNRECOGNIZED"},"steps":[{"rule":"flows","query":"GET https://hs.example/_matrix/client/v3/login","outcome":"absent"}]}`},
	{about: "no password flow", at: at, sections: getFlows + "200\n\n{\"flows\":[{\"type\":\"m.login.sso\"},{\"type\":7},{\"Type\":\"m.login.password\"}]}\n", posts: noPost, want: `{"error":{"code":"password_unsupported"}}`},
	{about: "no flows", at: at, sections: getFlows + "200\n\n{}\n", posts: noPost, want: `{"error":{"code":"password_unsupported"}}`},
	{about: "flows no array", at: at, sections: getFlows + "200\n\n{\"flows\":{}}\n", posts: noPost, want: `{"error":{"code":"login_response_invalid"}}`},
	{about: "flows not JSON", at: at, sections: getFlows + "200\n\n<html>\n", posts: noPost, want: `{"error":{"code":"login_response_invalid","status":200}}`},
	{about: "flows too large", at: at, sections: flows[:len(getFlows)] + "200\n!size 51201\n\n{\"flows\":[{\"type\":\"m.login.password\"}]}\n", posts: noPost, want: `{"error":{"code":"login_response_invalid"}}`},
	{about: "flows 429", at: at, sections: getFlows + "429\nRetry-After: 7\n\n{\"errcode\":\"M_LIMIT_EXCEEDED\",\"retry_after_ms\":9}\n", posts: noPost,
		want: `{"error":{"code":"login_failed","status":429,"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":7000},"steps":[{"outcome":"temporary"}]}`},
	{about: "flows redirected; the login is not", at: at, sections: getFlows + "302\nLocation: https://two.example/x\n-- GET https://two.example/x --\n200\n\n{\"flows\":[{\"type\":\"m.login.password\"}]}\n" + post + good,
		want:     `{"error":null,"base_url":"https://hs.example","redirected_by":"none","steps":[{"rule":"flows","detail":"302, redirected to https://two.example"},{"rule":"flows"},{"rule":"login"}]}`,
		requests: []string{"GET https://hs.example/v3/login", "GET https://two.example/x", "POST https://hs.example/v3/login"}},
	{about: "flows redirected to http", at: at, sections: getFlows + "302\nLocation: http://two.example/x\n", posts: noPost, want: `{"error":{"code":"redirect_insecure"}}`},
	{about: "flows redirected to nowhere", at: at, sections: getFlows + "302\n", posts: noPost, want: `{"error":{"code":"redirect_invalid"}}`},
	{about: "flows in a circle", at: at, sections: getFlows + "302\nLocation: /_matrix/client/v3/login#x\n", posts: noPost, want: `{"error":{"code":"redirect_loop"}}`},
	{about: "flows, one of them odd", at: at, sections: getFlows + "200\n\n{\"flows\":[7,null,\"m.login.password\",{\"type\":\"m.login.password\"}]}\n" + post + good, want: `{"error":null}`},
	{about: "flows null", at: at, sections: getFlows + "200\n\n{\"flows\":null}\n", posts: noPost, want: `{"error":{"code":"password_unsupported"}}`},
	{about: "flows empty", at: at, sections: getFlows + "200\n", posts: noPost, want: `{"error":{"code":"login_response_invalid"},"steps":[{"outcome":"invalid"}]}`},
	{about: "flows in a list", at: at, sections: getFlows + "200\n\n[{\"type\":\"m.login.password\"}]\n", posts: noPost, want: `{"error":{"code":"login_response_invalid"}}`},
	{about: "flows cut off", at: at, sections: getFlows + "200\n!content-length 99\n\n{}\n", posts: noPost, want: `{"error":{"code":"connect_failed"}}`},
	{about: "flows 410", at: at, sections: getFlows + "410\n", posts: noPost, want: `{"error":{"code":"login_failed","status":410},"steps":[{"outcome":"absent"}]}`},
	{about: "flows 404 elsewhere", at: at, sections: getFlows + "302\nLocation: https://two.example/x\n-- GET https://two.example/ --\n404\n", posts: noPost, want: `{"error":{"code":"login_unsupported","status":404}}`},
	{about: "flows 201", at: at, sections: getFlows + "201\n\n{\"flows\":[{\"type\":\"m.login.password\"}]}\n", posts: noPost, want: `{"error":{"code":"login_failed","status":201}}`},
	{about: "flows of a server that has seen the password", at: at, sections: getFlows + "302\nLocation: https://two.example/" + plain + "?" + plain + "\n-- GET https://two.example/" + plain + "?" + plain + " --\n418 " + plain + "\n\n{\"errcode\":\"" + plain + "\"}\n", posts: noPost,
		want: `{"error":{"code":"login_failed","status":418,"errcode":null},"steps":[{"detail":"302, redirected to https://two.example"},{"query":"GET https://two.example"}]}`},
	{about: "flows late", at: at, sections: getFlows + "200\n!delay 20s\n\n{}\n", posts: noPost, want: `{"error":{"code":"timeout"}}`, took: 5 * time.Second},
	{about: "flows reset", at: at, sections: getFlows + "!reset\n", posts: noPost, want: `{"error":{"code":"connect_failed"}}`},
	{about: "wrong certificate", at: at, sections: "-- servers --\n203.0.113.2:443 cert expired\n" + flows, posts: noPost, want: `{"error":{"code":"tls_failed"}}`},
	{about: "no address", at: "https://none.example", posts: noPost, want: `{"error":{"code":"no_address"}}`},
	{about: "the draft's path", at: at, client: login.Client{Rules: client.Draft2018}, sections: strings.ReplaceAll(flows+post, "/v3/", "/r0/") + good,
		want: `{"error":null}`, requests: []string{"GET https://hs.example/r0/login", "POST https://hs.example/r0/login"}},

	// 3.4; its body is looked at in every row
	{about: "a device", at: at, device: "DEV", sections: flows + post + good, want: `{"error":null}`},
	{about: "cut off after the request: not again", at: at, sections: flows + post + "!reset\n", want: `{"error":{"code":"connect_failed"}}`, posts: []string{"POST https://hs.example/v3/login"}},
	{about: "cut off in the answer: not again", at: at, sections: flows + post + "200\n!reset-after 20\n\n{" + ids + "}\n", want: `{"error":{"code":"connect_failed"},"user_id":null}`, posts: []string{"POST https://hs.example/v3/login"}},
	{about: "no answer: not again", at: at, sections: flows + post + "200\n!delay 45s\n\n{}\n", want: `{"error":{"code":"timeout"},"steps":[{},{"outcome":"temporary"}]}`, posts: []string{"POST https://hs.example/v3/login"}, took: 30 * time.Second},
	{about: "a slow answer is waited for", at: at, sections: flows + post + "200\n!delay 20s\n\n{" + ids + "}\n", want: `{"error":null}`, took: 20 * time.Second},
	{about: "a timeout of one's own", at: at, client: login.Client{Timeout: 2 * time.Second}, sections: flows + post + "200\n!delay 20s\n\n{" + ids + "}\n", want: `{"error":{"code":"timeout"}}`, took: 2 * time.Second},

	// 3.5
	{about: "307 without consent", at: at, sections: flows + redirect(at+loginPath, 307, "https://two.example"+loginPath), posts: []string{"POST https://hs.example/v3/login"},
		want: `{"error":{"code":"redirect_refused","status":307,"message":"~https://two\\.example"},"steps":[{},{"outcome":"invalid","detail":"~307"}]}`},
	{about: "307 to nowhere, without consent", at: at, sections: flows + post + "307\n", want: `{"error":{"code":"redirect_refused","status":307,"message":"~send the password on$"}}`},
	{about: "307 to http, without consent", at: at, sections: flows + redirect(at+loginPath, 307, "http://two.example"+loginPath), want: `{"error":{"code":"redirect_refused","message":"~send the password on$"}}`},
	{about: "307 to the same URL, without consent", at: at, sections: flows + redirect(at+loginPath, 307, at+loginPath), want: `{"error":{"code":"redirect_refused"}}`},
	{about: "301", at: at, client: login.Client{FollowRedirect: yes}, sections: flows + redirect(at+loginPath, 301, "https://two.example"+loginPath), posts: []string{"POST https://hs.example/v3/login"},
		want: `{"error":{"code":"redirect_refused","status":301},"steps":[{},{"outcome":"invalid","detail":"~^301, "}]}`},
	{about: "302", at: at, client: login.Client{FollowRedirect: yes}, sections: flows + redirect(at+loginPath, 302, "https://two.example"+loginPath), posts: []string{"POST https://hs.example/v3/login"}, want: `{"error":{"code":"redirect_refused","status":302}}`},
	{about: "303", at: at, client: login.Client{FollowRedirect: yes}, sections: flows + redirect(at+loginPath, 303, "https://two.example"+loginPath), posts: []string{"POST https://hs.example/v3/login"}, want: `{"error":{"code":"redirect_refused","status":303}}`},
	{about: "307 to a host that repeats the password", at: at, pass: "hunter2", sections: flows + redirect(at+loginPath, 307, "https://HUNTER2.example"+loginPath), want: `{"error":{"code":"redirect_refused","message":"~send the password on$"}}`},
	{about: "307 to a path that repeats the password", at: at, pass: "Hunter2", client: login.Client{FollowRedirect: yes}, sections: flows + redirect(at+loginPath, 307, "https://two.example/%48unter2"+loginPath), posts: []string{"POST https://hs.example/v3/login"}, want: `{"error":{"code":"redirect_invalid"}}`},
	{about: "307 to a query that repeats the password", at: at, pass: "a b", client: login.Client{FollowRedirect: yes}, sections: flows + redirect(at+loginPath, 307, "https://two.example"+loginPath+"?p=a+b"), posts: []string{"POST https://hs.example/v3/login"}, want: `{"error":{"code":"redirect_invalid"}}`},
	{about: "307 with user info", at: at, client: login.Client{FollowRedirect: yes}, sections: flows + redirect(at+loginPath, 307, "https://u:"+plain+"@two.example"+loginPath+"#"+plain) + "-- POST https://two.example/_matrix/client/v3/login --\n" + good,
		want: `{"error":null,"base_url":"https://two.example","redirected_by":"307"}`},
	{about: "307 under the draft, to v3", at: at, client: login.Client{FollowRedirect: yes, Rules: client.Draft2018},
		sections: strings.ReplaceAll(flows+redirect(at+loginPath, 307, "https://two.example/x"), "/v3/", "/r0/") + "-- GET https://unused.example/ --\n404\n", want: `{"error":{"code":"redirect_invalid"}}`},
	{about: "307 under the draft", at: at, client: login.Client{FollowRedirect: yes, Rules: client.Draft2018},
		sections: strings.ReplaceAll(flows+"-- POST https://hs.example/_matrix/client/v3/login --\n", "/v3/", "/r0/") + "307\nLocation: https://two.example" + loginPath + "\n-- POST https://two.example/_matrix/client/v3/login --\n" + good,
		want:     `{"error":null,"base_url":"https://two.example","redirected_by":"307"}`, posts: []string{"POST https://hs.example/r0/login", "POST https://two.example/v3/login"}},
	{about: "308 without consent", at: at, sections: flows + redirect(at+loginPath, 308, "https://two.example"+loginPath), posts: []string{"POST https://hs.example/v3/login"}, want: `{"error":{"code":"redirect_refused","status":308}}`},
	{about: "307 that is not agreed to", at: at, client: login.Client{FollowRedirect: func(from, to string) bool { return from != at || to != "https://two.example/b" }},
		sections: flows + redirect(at+loginPath, 307, "https://two.example/b"+loginPath), posts: []string{"POST https://hs.example/v3/login"}, want: `{"error":{"code":"redirect_refused"}}`},
	{about: "307", at: at, client: login.Client{FollowRedirect: yes}, sections: flows + redirect(at+loginPath, 307, "https://two.example/b"+loginPath+"?pa55=1") + "-- POST https://two.example/b/_matrix/client/v3/login?pa55=1 --\n" + good,
		want:  `{"error":null,"base_url":"https://two.example/b","redirected_by":"307","steps":[{},{"detail":"307, redirected to https://two.example"},{"query":"POST https://two.example/b/_matrix/client/v3/login"}]}`,
		posts: []string{"POST https://hs.example/v3/login", "POST https://two.example/b/v3/login?pa55=1"}},
	{about: "308 to r0", at: at, client: login.Client{FollowRedirect: yes}, sections: flows + redirect(at+loginPath, 308, "https://two.example/_matrix/client/r0/login") + "-- POST https://two.example/_matrix/client/r0/login --\n" + good,
		want: `{"error":null,"base_url":"https://two.example","redirected_by":"308"}`},
	{about: "307 to the same base", at: at, client: login.Client{FollowRedirect: yes}, sections: flows + redirect(at+loginPath, 307, "/_matrix/client/r0/login") + "-- POST https://hs.example/_matrix/client/r0/login --\n" + good,
		want: `{"error":null,"base_url":"https://hs.example","redirected_by":"none"}`},
	{about: "307, then refused", at: at, client: login.Client{FollowRedirect: yes}, sections: flows + redirect(at+loginPath, 307, "https://two.example"+loginPath) + "-- POST https://two.example/_matrix/client/v3/login --\n403\n",
		want: `{"error":{"code":"login_failed","status":403},"base_url":null,"redirected_by":null}`},
	{about: "to http", at: at, client: login.Client{FollowRedirect: yes}, sections: flows + redirect(at+loginPath, 307, "http://two.example"+loginPath), posts: []string{"POST https://hs.example/v3/login"}, want: `{"error":{"code":"redirect_insecure"}}`},
	{about: "from http to http", at: "http://hs.example", client: login.Client{FollowRedirect: yes}, sections: overHTTP(flows + redirect(at+loginPath, 307, "http://two.example"+loginPath)),
		posts: []string{"POST http://hs.example/v3/login"}, want: `{"error":{"code":"redirect_insecure"}}`},
	{about: "to another scheme", at: at, client: login.Client{FollowRedirect: yes}, sections: flows + redirect(at+loginPath, 307, "ftp://two.example"+loginPath), want: `{"error":{"code":"redirect_insecure"}}`},
	{about: "to another path", at: at, client: login.Client{FollowRedirect: yes}, sections: flows + redirect(at+loginPath, 307, "https://two.example/pa55"), posts: []string{"POST https://hs.example/v3/login"}, want: `{"error":{"code":"redirect_invalid"}}`},
	{about: "to the path and a slash", at: at, client: login.Client{FollowRedirect: yes}, sections: flows + redirect(at+loginPath, 307, "https://two.example"+loginPath+"/"), posts: []string{"POST https://hs.example/v3/login"}, want: `{"error":{"code":"redirect_invalid"}}`},
	{about: "the path in the query", at: at, client: login.Client{FollowRedirect: yes}, sections: flows + redirect(at+loginPath, 307, "https://two.example/?"+loginPath), posts: []string{"POST https://hs.example/v3/login"}, want: `{"error":{"code":"redirect_invalid"}}`},
	{about: "to no host", at: at, client: login.Client{FollowRedirect: yes}, sections: flows + redirect(at+loginPath, 307, "https://127.1"+loginPath), want: `{"error":{"code":"redirect_invalid"}}`},
	{about: "without a Location", at: at, client: login.Client{FollowRedirect: yes}, sections: flows + post + "307\n", want: `{"error":{"code":"redirect_invalid"}}`},
	{about: "a Location too long", at: at, client: login.Client{FollowRedirect: yes}, sections: flows + redirect(at+loginPath, 307, "https://two.example/"+strings.Repeat("a", 8000)+loginPath), want: `{"error":{"code":"redirect_invalid"}}`},
	{about: "a URL twice", at: at, client: login.Client{FollowRedirect: yes}, sections: flows + redirect(at+loginPath, 307, "https://HS.example:443"+loginPath), posts: []string{"POST https://hs.example/v3/login"}, want: `{"error":{"code":"redirect_loop"}}`},
	{about: "five hops", at: at, client: login.Client{FollowRedirect: yes}, sections: flows + circle(5), want: `{"error":null,"base_url":"https://hs.example:9004","redirected_by":"307"}`},
	{about: "a URL twice, later", at: at, client: login.Client{FollowRedirect: yes}, sections: flows + redirect(at+loginPath, 307, "https://two.example"+loginPath) + redirect("https://two.example"+loginPath, 308, at+loginPath),
		posts: []string{"POST https://hs.example/v3/login", "POST https://two.example/v3/login"}, want: `{"error":{"code":"redirect_loop","status":308}}`},
	{about: "307, 308", at: at, client: login.Client{FollowRedirect: yes}, sections: flows + redirect(at+loginPath, 307, "https://two.example"+loginPath) + redirect("https://two.example"+loginPath, 308, "https://id.example"+loginPath) + "-- POST https://id.example/_matrix/client/v3/login --\n" + good,
		want: `{"error":null,"base_url":"https://id.example","redirected_by":"308"}`},
	{about: "307, then 308 on the same base", at: at, client: login.Client{FollowRedirect: yes}, sections: flows + redirect(at+loginPath, 307, "https://two.example"+loginPath) + redirect("https://two.example"+loginPath, 308, "/_matrix/client/r0/login") + "-- POST https://two.example/_matrix/client/r0/login --\n" + good,
		want: `{"error":null,"base_url":"https://two.example","redirected_by":"307"}`},
	{about: "from http to https", at: "http://hs.example", client: login.Client{FollowRedirect: yes}, sections: overHTTP(flows+redirect(at+loginPath, 307, "https://two.example"+loginPath)) + "-- POST https://two.example/_matrix/client/v3/login --\n" + good,
		want: `{"error":null,"base_url":"https://two.example","redirected_by":"307"}`},
	{about: "a sixth", at: at, client: login.Client{FollowRedirect: yes}, sections: flows + circle(6), want: `{"error":{"code":"redirect_loop"},"steps":[{},{},{},{},{},{},{"outcome":"invalid"}]}`},

	// 3.6
	{about: "not JSON", at: at, sections: flows + post + "200\n\npa55\n", want: `{"error":{"code":"login_response_invalid","status":200},"steps":[{},{"outcome":"invalid"}]}`},
	{about: "bytes after it", at: at, sections: flows + post + "200\n\n{" + ids + "}x\n", want: `{"error":{"code":"login_response_invalid"},"user_id":null}`},
	{about: "no object", at: at, sections: flows + post + "200\n\nnull\n", want: `{"error":{"code":"login_response_invalid"}}`},
	{about: "no device", at: at, sections: flows + post + "200\n\n{\"user_id\":\"@alice:example.org\",\"access_token\":\"x\"}\n", want: `{"error":{"code":"login_response_invalid","message":"~device_id"},"user_id":null}`},
	{about: "keys in another case", at: at, sections: flows + post + "200\n\n{\"User_id\":\"@alice:example.org\",\"access_token\":\"x\",\"device_id\":\"x\"}\n", want: `{"error":{"code":"login_response_invalid","message":"~user_id"}}`},
	{about: "token no string", at: at, sections: flows + post + "200\n\n{\"user_id\":\"@alice:example.org\",\"access_token\":7,\"device_id\":\"x\"}\n", want: `{"error":{"code":"login_response_invalid","message":"~access_token"}}`},
	{about: "token null", at: at, sections: flows + post + "200\n\n{\"user_id\":\"@alice:example.org\",\"access_token\":null,\"device_id\":\"x\"}\n", want: `{"error":{"code":"login_response_invalid"}}`},
	{about: "token empty", at: at, sections: flows + post + "200\n\n{\"user_id\":\"@alice:example.org\",\"access_token\":\"\",\"device_id\":\"x\"}\n", want: `{"error":{"code":"login_response_invalid"}}`},
	{about: "a mebibyte", at: at, sections: flows + post + "200\n!size 1048576\n\n{" + ids + "}\n", want: `{"error":null}`},
	{about: "a mebibyte and one, in chunks", at: at, sections: flows + post + "200\n!chunked\n!size 1048577\n\n{" + ids + "}\n", want: `{"error":{"code":"login_response_invalid"},"user_id":null}`},
	{about: "compressed", at: at, sections: flows + post + "200\n!gzip\n\n{" + ids + "}\n", want: `{"error":null}`},
	{about: "not UTF-8", at: at, sections: flows + post + "200\n\n{" + ids + ",\"x\":\"\xff\"}\n", want: `{"error":{"code":"login_response_invalid"}}`},
	{about: "empty", at: at, sections: flows + post + "200\n", want: `{"error":{"code":"login_response_invalid","status":200}}`},
	{about: "a device without a name", at: at, sections: flows + post + "200\n\n{\"user_id\":\"@alice:example.org\",\"access_token\":\"" + token + "\",\"device_id\":\"\"}\n", want: `{"error":null,"user_id":"@alice:example.org"}`},
	{about: "410", at: at, sections: flows + post + "410\n", want: `{"error":{"code":"login_failed","status":410},"steps":[{},{"outcome":"absent"}]}`},
	{about: "500", at: at, sections: flows + post + "500\n\n<html>" + plain + "\n", want: `{"error":{"code":"login_failed","status":500,"errcode":null},"steps":[{},{"outcome":"temporary"}]}`},
	{about: "201", at: at, sections: flows + post + "201\n\n{" + ids + "}\n", want: `{"error":{"code":"login_failed","status":201},"user_id":null}`},
	{about: "404 with a code", at: at, sections: flows + post + "404\n\n{\"errcode\":\"COM.MYDOMAIN.HERE_NO-1\"}\n", want: `{"error":{"code":"login_failed","status":404,"errcode":"COM.MYDOMAIN.HERE_NO-1"}}`},
	{about: "wait, in both", at: at, sections: flows + post + "429\nRetry-After: 2\n\n{\"errcode\":\"M_LIMIT_EXCEEDED\",\"retry_after_ms\":1500}\n", want: `{"error":{"status":429,"retry_after_ms":2000}}`},
	{about: "wait, a bad header", at: at, sections: flows + post + "429\nRetry-After: soon\n\n{\"errcode\":\"M_LIMIT_EXCEEDED\",\"retry_after_ms\":1500}\n", want: `{"error":{"status":429,"retry_after_ms":1500}}`},
	{about: "errcode no string", at: at, sections: flows + post + "403\n\n{\"errcode\":7,\"retry_after_ms\":null}\n", want: `{"error":{"status":403,"errcode":null,"retry_after_ms":null}}`},
	{about: "echo", at: at, pass: plain, sections: flows + post + "403 " + plain + "\nX: " + plain + "\n\n{\"errcode\":\"M_" + plain + "\",\"error\":\"" + plain + "\"}\n", want: `{"error":{"status":403,"errcode":null}}`},
	{about: "echo in a code that could be one", at: at, pass: "HUNTER2", sections: flows + post + "403\n\n{\"errcode\":\"M_HUNTER2\"}\n", want: `{"error":{"status":403,"errcode":null}}`},
	{about: "the server talks first", at: at, sections: flows + post + "!raw\nHTTP/1.1 200 " + plain + "\r\nContent-Length: " + plain + "\r\n\r\n\n", want: `{"error":{"code":"connect_failed"}}`},
	{about: "another user", at: at, sections: flows + post + "200\n\n{\"user_id\":\"@a.l:two.example\",\"access_token\":\"" + token + "\",\"device_id\":\"x\"}\n",
		want: `{"name":"@alice:example.org","user_id":"@a.l:two.example","error":null,"warnings":[{"code":"user_id_differs"}]}`},
	{about: "forbidden", at: at, sections: flows + post + "403\n\n{\"errcode\":\"M_FORBIDDEN\",\"error\":\"pa55 is wrong\"}\n", want: `{"error":{"code":"login_failed","status":403,"errcode":"M_FORBIDDEN","retry_after_ms":null},"steps":[{},{"detail":"~M_FORBIDDEN"}],"user_id":null}`},
	{about: "404", at: at, sections: flows + post + "404\n", want: `{"error":{"code":"login_failed","status":404,"errcode":null}}`},
	{about: "204", at: at, sections: flows + post + "204\n", want: `{"error":{"code":"login_failed","status":204}}`},
	{about: "300", at: at, sections: flows + post + "300\nLocation: https://two.example/\n", want: `{"error":{"code":"login_failed","status":300}}`},
	{about: "wait, in the body", at: at, sections: flows + post + "429\n\n{\"errcode\":\"M_LIMIT_EXCEEDED\",\"retry_after_ms\":1500}\n", want: `{"error":{"status":429,"retry_after_ms":1500}}`},
	{about: "wait, a date", at: at, sections: flows + post + "429\nRetry-After: {now+33s}\nDate: {now}\n\n{\"retry_after_ms\":1}\n", want: `{"error":{"status":429,"retry_after_ms":33000}}`},
	{about: "wait for ever", at: at, sections: flows + post + "429\n\n{\"retry_after_ms\":1e300}\n", want: `{"error":{"status":429,"retry_after_ms":null}}`},
	{about: "an errcode that is none", at: at, sections: flows + post + "403\n\n{\"errcode\":\"M_\\u001b[31m\"}\n", want: `{"error":{"status":403,"errcode":null}}`},
	{about: "not HTTP, an echo", at: at, sections: flows + post + "!raw\n" + password + "\n", want: `{"error":{"code":"connect_failed"}}`, posts: []string{"POST https://hs.example/v3/login"}},
	{about: "a header without end", at: at, sections: flows + post + "!raw\nHTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 70<<10) + "\n", want: `{"error":{"code":"too_large"}}`},

	// 3.7
	{about: "well_known", at: at, sections: flows + versions2 + answers(`"well_known":{"m.homeserver":{"base_url":"https://two.example/"}},"base_cs_url":"https://id.example"`),
		want:     `{"error":null,"base_url":"https://two.example","redirected_by":"well_known","identity_server":null,"warnings":[],"steps":[{},{},{"rule":"3.5","query":"GET https://two.example/_matrix/client/versions"}]}`,
		requests: []string{"GET https://hs.example/v3/login", "POST https://hs.example/v3/login", "GET https://two.example/versions"}},
	{about: "well_known, not validated", at: at, client: login.Client{NoValidate: true}, sections: flows + answers(`"well_known":{"m.homeserver":{"base_url":"https://two.example/"}}`),
		want:     `{"error":null,"base_url":"https://two.example","redirected_by":"well_known","warnings":[{"code":"not_validated"}]}`,
		requests: []string{"GET https://hs.example/v3/login", "POST https://hs.example/v3/login"}},
	{about: "well_known null", at: at, sections: flows + versions2 + answers(`"well_known":null,"base_cs_url":"https://two.example"`), want: `{"base_url":"https://two.example","redirected_by":"base_cs_url"}`},
	{about: "base_cs_url null", at: at, sections: flows + answers(`"base_cs_url":null,"home_server":"two.example"`), want: `{"base_url":"https://hs.example","redirected_by":"none","warnings":[],` + steps + `}`},
	{about: "well_known of the same URL", at: at, sections: flows + versions + answers(`"well_known":{"m.homeserver":{"base_url":"https://HS.example:443/"}}`), want: `{"error":null,"base_url":"https://hs.example","redirected_by":"none","steps":[{},{},{"rule":"3.5"}]}`},
	{about: "well_known that does not answer", at: at, sections: "-- GET https://two.example/ --\n404\n" + flows + answers(`"well_known":{"m.homeserver":{"base_url":"https://two.example/"}},"base_cs_url":"https://hs.example"`),
		want: `{"error":null,"user_id":"@alice:example.org","base_url":"https://hs.example","redirected_by":"none","warnings":[{"code":"cors_missing"},{"code":"well_known_unusable","message":"~https://two.example"}]}`, requests: []string{"GET https://hs.example/v3/login", "POST https://hs.example/v3/login", "GET https://two.example/versions"}},
	{about: "well_known that repeats the password", at: at, pass: plain, sections: flows + answers(`"well_known":{"m.homeserver":{"base_url":"https://two.example/`+plain+`"}}`),
		want: `{"error":null,"base_url":"https://hs.example","warnings":[{"code":"well_known_unusable"}],` + steps + `}`},
	{about: "base_cs_url that repeats the token", at: at, sections: flows + answers(`"base_cs_url":"https://two.example/`+token+`"`),
		want: `{"error":null,"base_url":"https://hs.example","warnings":[{"code":"base_cs_url_unusable"}],` + steps + `}`},
	{about: "well_known with the password in place of a URL", at: at, pass: plain, client: login.Client{NoValidate: true}, sections: flows + answers(`"well_known":{"m.homeserver":{"base_url":"`+plain+`"},"m.identity_server":{"base_url":"`+plain+`"}}`),
		want: `{"error":null,"base_url":"https://hs.example","identity_server":{"state":"PROMPT"},"warnings":[{"code":"well_known_unusable"}]}`},
	{about: "an identity server with the password in place of a URL", at: at, pass: plain, client: login.Client{NoValidate: true}, sections: flows + answers(`"well_known":{"m.homeserver":{"base_url":"https://two.example"},"m.identity_server":{"base_url":"`+plain+`"}}`),
		want: `{"error":null,"base_url":"https://two.example","identity_server":{"state":"FAIL_PROMPT","reason":{"code":"identity_base_url_invalid"}}}`},
	{about: "well_known on http", at: at, client: login.Client{NoValidate: true}, sections: flows + answers(`"well_known":{"m.homeserver":{"base_url":"http://two.example"}}`), want: `{"error":null,"base_url":"http://two.example","redirected_by":"well_known","warnings":[{"code":"base_url_http"},{"code":"not_validated"}]}`},
	{about: "well_known with more than a base URL", at: at, client: login.Client{NoValidate: true}, sections: flows + answers(`"well_known":{"m.homeserver":{"base_url":"https://u:p@two.example/b/?q"}}`), want: `{"error":null,"base_url":"https://two.example/b","warnings":[{"code":"base_url_stripped"},{"code":"not_validated"}]}`},
	{about: "well_known whose homeserver repeats what it was told", at: at, pass: plain, sections: flows + "-- GET https://two.example/_matrix/client/versions --\n302\nAccess-Control-Allow-Origin: *\nLocation: https://id.example/" + plain + "?" + plain + "\n-- GET https://id.example/" + plain + "?" + plain + " --\n!raw\n" + plain + "\n" + answers(`"well_known":{"m.homeserver":{"base_url":"https://two.example"}}`),
		want: `{"error":null,"base_url":"https://hs.example","warnings":[{"code":"versions_redirected"},{"code":"well_known_unusable"}]}`},
	{about: "well_known in the wrong case", at: at, sections: flows + answers(`"Well_known":{"m.homeserver":{"base_url":"https://two.example"}}`), want: `{"error":null,"base_url":"https://hs.example","redirected_by":"none","warnings":[]}`},
	{about: "an identity server named null", at: at, client: login.Client{NoValidate: true}, sections: flows + answers(`"well_known":{"m.homeserver":{"base_url":"https://two.example"},"m.identity_server":null}`), want: `{"error":null,"identity_server":null}`},
	{about: "the redirect has taken all the time", at: at, client: login.Client{Timeout: 3 * time.Second}, sections: flows + "-- GET https://two.example/_matrix/client/versions --\n200\n!delay 20s\n\n{}\n" + answers(`"base_cs_url":"https://two.example"`),
		want: `{"error":null,"base_url":"https://hs.example","warnings":[{"code":"base_cs_url_unusable","message":"~in time|within"}]}`, took: 3 * time.Second},
	{about: "well_known no object", at: at, sections: flows + answers(`"well_known":"https://two.example","base_cs_url":"https://two.example"`), want: `{"error":null,"base_url":"https://hs.example","warnings":[{"code":"well_known_unusable"}],` + steps + `}`},
	{about: "well_known empty", at: at, sections: flows + answers(`"well_known":{}`), want: `{"error":null,"base_url":"https://hs.example","warnings":[{"code":"well_known_unusable"}]}`},
	{about: "well_known no URL", at: at, client: login.Client{NoValidate: true}, sections: flows + answers(`"well_known":{"m.homeserver":{"base_url":"two.example"}}`), want: `{"error":null,"base_url":"https://hs.example","warnings":[{"code":"well_known_unusable"}]}`},
	{about: "base_cs_url no string", at: at, sections: flows + answers(`"base_cs_url":{}`), want: `{"error":null,"base_url":"https://hs.example","warnings":[{"code":"base_cs_url_unusable"}]}`},
	{about: "base_cs_url no URL", at: at, sections: flows + answers(`"base_cs_url":"two.example"`), want: `{"error":null,"base_url":"https://hs.example","warnings":[{"code":"base_cs_url_unusable"}]}`},
	{about: "307, then well_known useless", at: at, client: login.Client{FollowRedirect: yes}, sections: flows + redirect(at+loginPath, 307, "https://two.example"+loginPath) + strings.ReplaceAll(answers(`"well_known":{}`), "hs.example", "two.example"),
		want: `{"error":null,"base_url":"https://two.example","redirected_by":"307","warnings":[{"code":"well_known_unusable"}]}`},
	{about: "307, then back", at: at, client: login.Client{FollowRedirect: yes}, sections: versions + flows + redirect(at+loginPath, 307, "https://two.example"+loginPath) + strings.ReplaceAll(answers(`"base_cs_url":"https://HS.example"`), "https://hs.example", "https://two.example"),
		want: `{"error":null,"base_url":"https://hs.example","redirected_by":"base_cs_url"}`},

	// 3.8
	{about: "an identity server", at: at, sections: flows + versions2 + "-- GET https://id.example/_matrix/identity/v2 --\n200\n\n{}\n" + answers(`"well_known":{"m.homeserver":{"base_url":"https://two.example/"},"m.identity_server":{"base_url":"https://id.example"}}`),
		want: `{"error":null,"identity_server":{"state":"SUCCESS","base_url":"https://id.example"},"steps":[{},{},{"rule":"3.5"},{"rule":"3.6"}]}`},
	{about: "an identity server that is no good spoils nothing", at: at, client: login.Client{Rules: client.Draft2018}, sections: strings.ReplaceAll(flows+versions2+answers(`"well_known":{"m.homeserver":{"base_url":"https://two.example/"},"m.identity_server":{"base_url":"https://id.example"}}`), "/v3/", "/r0/"),
		want: `{"error":null,"base_url":"https://two.example","redirected_by":"well_known","identity_server":{"state":"FAIL_ERROR","reason":{"code":"~^identity_"}}}`},
}

func TestLogin(t *testing.T) {
	t.Parallel()
	for _, test := range rows {
		t.Run(test.about, func(t *testing.T) {
			t.Parallel()
			inWorld(t, test.sections, func(t *testing.T, s *scene) {
				c := test.client
				c.Fetcher = s.fetcher()
				if test.own {
					c.HomeserverFetcher = s.fetcher(netip.MustParsePrefix("0.0.0.0/0"))
				}
				request := login.Request{UserID: test.id, Password: login.NewSecret(cmp.Or(test.pass, password)), Homeserver: test.at, DeviceID: test.device}
				if request.UserID == "" {
					request.UserID = alice
				}
				began := time.Now()
				got := c.Login(t.Context(), request)
				took := time.Since(began)
				assert.GreaterOrEqual(t, took, test.took)
				assert.Less(t, took, test.took+time.Second)

				text, err := json.Marshal(got)
				require.NoError(t, err)
				assert.NoError(t, world.MatchJSON([]byte(test.want), text), "%s", text)
				without, err := got.JSON(false)
				require.NoError(t, err)
				assert.JSONEq(t, string(text), string(without))
				for _, c := range string(text) {
					require.False(t, c < ' ' || c == 0x7f, "%q", text)
				}

				// Exactly one body, whole, for each place that it went to.
				posts := []string{}
				for _, r := range s.requests() {
					if strings.HasPrefix(r, "POST ") {
						posts = append(posts, r)
					}
				}
				require.Len(t, s.posted(), len(posts), "%q", s.posted())
				want := `{"type":"m.login.password","identifier":{"type":"m.id.user","user":"@alice:example.org"},"password":"pa55-w\"rd<&>ü"}`
				if test.pass != "" {
					want = `{"type":"m.login.password","identifier":{"type":"m.id.user","user":"@alice:example.org"},"password":"` + test.pass + `"}`
				}
				if test.device != "" {
					want = strings.TrimSuffix(want, "}") + `,"device_id":"DEV"}`
				}
				for _, body := range s.posted() {
					assert.JSONEq(t, want, body)
				}
				if test.posts != nil {
					assert.Equal(t, test.posts, posts)
				}
				if test.requests != nil {
					assert.Equal(t, test.requests, s.requests())
				}

				ok := got.Error == nil
				assert.Equal(t, ok, !got.AccessToken.IsZero())
				assert.Equal(t, ok, got.RedirectedBy != "")
				if !strings.Contains(test.at, "pa55") { // the caller's own word
					silent(t, request)
				}
				silent(t, got, *got, got.Steps, got.Warnings, got.AccessToken, got.Discovery)
				for _, step := range got.Steps {
					silent(t, step, step.Hop)
					if step.Hop.Err != nil {
						silent(t, *step.Hop.Err, step.Hop.Err.Error(), step.Hop.Err.Err)
					}
				}
				if !ok {
					silent(t, got.Error, *got.Error, got.Error.Error())
					return
				}
				shown, err := got.JSON(true)
				require.NoError(t, err)
				assert.NoError(t, world.MatchJSON([]byte(`{"access_token":"`+token+`","base_url":"~."}`), shown))
			})
		})
	}
}

// A password that is not there or cannot be said in JSON goes nowhere.
func TestPassword(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "\xff"} {
		got := new(login.Client).Login(t.Context(), login.Request{UserID: alice, Password: login.NewSecret(text)})
		require.NotNil(t, got.Error)
		assert.Equal(t, login.InvalidPassword, got.Error.Code)
		assert.Empty(t, got.Steps)
		assert.Nil(t, got.Discovery)
	}
}

func TestCanceled(t *testing.T) {
	t.Parallel()
	inWorld(t, flows+post+"200\n!delay 20s\n\n{}\n", func(t *testing.T, s *scene) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		stop := time.AfterFunc(500*time.Millisecond, cancel)
		defer stop.Stop()
		c := login.Client{Fetcher: s.fetcher()}
		got := c.Login(ctx, login.Request{UserID: alice, Password: login.NewSecret(password), Homeserver: at})
		assert.Equal(t, login.Code("canceled"), got.Error.Code)
		assert.Len(t, s.posted(), 1)
	})
}

// Whatever a server puts into its answer, an errcode that holds the password is
// not passed on.
func TestErrCodeEchoes(t *testing.T) {
	t.Parallel()
	inWorld(t, flows+post+"403\n\n{\"errcode\":\"M_pa55word\"}\n", func(t *testing.T, s *scene) {
		c := login.Client{Fetcher: s.fetcher()}
		got := c.Login(t.Context(), login.Request{UserID: alice, Password: login.NewSecret("pa55word"), Homeserver: at})
		assert.Empty(t, got.Error.ErrCode)
		silent(t, got, got.Error)
	})
}

func TestSecret(t *testing.T) {
	t.Parallel()
	s := login.NewSecret(password)
	assert.Equal(t, password, s.Reveal())
	assert.False(t, s.IsZero())
	assert.True(t, login.NewSecret("").IsZero())
	assert.Empty(t, login.Secret{}.Reveal())
	type holder struct{ hidden login.Secret } // fmt calls no method of what is in it
	silent(t, s, &s, map[string]login.Secret{"k": s}, login.Request{Password: s}, holder{s}, &holder{s})
	assert.Equal(t, "[secret]", fmt.Sprint(s))
	assert.Equal(t, "[secret]", s.String())
}
