package interop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
)

// Configurations for nginx, as people write them. Where they lead to Dendrite it is "hs.example".
const (
	allow = `add_header Access-Control-Allow-Origin *;`
	typed = `default_type application/json;`
	says  = `return 200 '{"m.homeserver":{"base_url":"https://hs.example"}}';`

	// spa is how web applications are served that have paths of their own.
	spa = `root {dir}/spa; location / { try_files $uri /index.html; }`
)

// at is a location for the document.
func at(lines ...string) string {
	return "location = /.well-known/matrix/client { " + strings.Join(lines, " ") + " }"
}

// names is a document with this base URL, and nothing wrong with it.
func names(baseURL string) string {
	return at(typed, allow, `return 200 '{"m.homeserver":{"base_url":"`+baseURL+`"}}';`)
}

// A webSite is what serves the document of a name, and what a client makes of it.
type webSite struct {
	about  string
	name   string            // the user is @alice:name
	config string            // of the server with this name
	more   map[string]string // other servers
	user   string            // another argument

	state    string // "" is SUCCESS
	code     string
	base     string // "" is https://hs.example, if state is SUCCESS
	warnings []string
	steps    []string // rule, outcome and status; nil: whatever they are

	idState, idCode, idBase string // "" is PROMPT
	logged                  string // what nginx logs
}

func webSites() []webSite {
	const (
		found    = "3 used 200"
		answered = "3.5 used 200"
	)
	return []webSite{
		{about: "a good one", name: "good.example", config: at(typed, allow, says), steps: []string{found, answered}},
		{about: "a port in the user ID is not for clients", name: "port.example", config: at(typed, allow, says), user: "@alice:port.example:8448", warnings: []string{"port_ignored"}},
		{about: "the name of a server", name: "name.example", config: at(typed, allow, says), user: "name.example"},
		{about: "a file by alias", name: "alias.example", config: at(typed, allow, "alias {dir}/client;")},
		{about: "a file below root", name: "root.example", config: "root {dir}/www; location /.well-known/matrix/ { " + typed + allow + " }"},
		{about: "a charset", name: "charset.example", config: "charset utf-8; charset_types application/json; " + at(typed, allow, says)},
		{about: "a folder with an index: nginx adds a slash", name: "folder.example", config: "root {dir}/folders; location /.well-known/matrix/ { index client.json; " + allow + " }",
			steps: []string{"3 used 301", found, answered}},
		{about: "gzip", name: "gzip.example", config: "gzip on; gzip_types application/json; " + at(typed, allow, says),
			logged: `https://gzip.example "GET /.well-known/matrix/client HTTP/1.1" 200 gzip`},
		{about: "gzip of a file", name: "gzipfile.example", config: "gzip on; gzip_types application/json; " + at(typed, allow, "alias {dir}/client;"),
			logged: `https://gzipfile.example "GET /.well-known/matrix/client HTTP/1.1" 200 gzip`},
		{about: "the document from Dendrite's machine, by proxy", name: "proxied.example", config: "location / { proxy_pass http://127.0.0.1:{http}; proxy_set_header Host plain.example; }",
			more: map[string]string{"http://plain.example": at(typed, allow, says)}},

		// Browsers.
		{about: "CORS forgotten", name: "nocors.example", config: at(typed, says), warnings: []string{"cors_missing"}},
		{about: "CORS for one application", name: "onecors.example", config: at(typed, "add_header Access-Control-Allow-Origin https://app.example;", says), warnings: []string{"cors_missing"}},
		{about: "CORS twice, by nginx and by what is behind it", name: "twocors.example", config: names("https://twice.example"), base: "https://twice.example",
			more:     map[string]string{"twice.example": allow + " location / { proxy_pass http://127.0.0.1:{dendrite}; }"},
			warnings: []string{"cors_missing"}},
		{about: "CORS of the server, lost by another add_header", name: "lostcors.example", config: allow + at(typed, "add_header X-Frame-Options DENY;", says), warnings: []string{"cors_missing"}},
		{about: "CORS on what is there alone", name: "not404.example", config: allow + " location / { return 404; }", state: "IGNORE", code: "not_found", warnings: []string{"cors_missing"}},
		{about: "CORS always", name: "always.example", config: "add_header Access-Control-Allow-Origin * always; location / { return 404; }", state: "IGNORE", code: "not_found"},
		{about: "type forgotten", name: "untyped.example", config: at(allow, says), warnings: []string{"content_type"}},
		{about: "type of a file forgotten", name: "untypedfile.example", config: at(allow, "alias {dir}/client;"), warnings: []string{"content_type"}},
		{about: "type added to another", name: "twotypes.example", config: at(allow, "add_header Content-Type application/json;", says), warnings: []string{"content_type"}},

		// Redirects.
		{about: "a redirect of http alone", name: "http://good.example", config: "return 301 https://$host$request_uri;", user: "good.example"},
		{about: "301", name: "r301.example", config: allow + " return 301 https://www.r301.example$request_uri;",
			more: map[string]string{"www.r301.example": at(typed, allow, says)}, steps: []string{"3 used 301", found, answered}},
		{about: "302", name: "r302.example", config: allow + " return 302 https://www.r302.example$request_uri;",
			more: map[string]string{"www.r302.example": at(typed, allow, says)}, steps: []string{"3 used 302", found, answered}},
		{about: "308", name: "r308.example", config: allow + " return 308 https://www.r308.example$request_uri;",
			more: map[string]string{"www.r308.example": at(typed, allow, says)}, steps: []string{"3 used 308", found, answered}},
		{about: "CORS forgotten on a redirect", name: "hop.example", config: "return 301 https://www.hop.example$request_uri;",
			more: map[string]string{"www.hop.example": at(typed, allow, says)}, warnings: []string{"cors_missing"}},
		{about: "https to http", name: "down.example", config: allow + " return 301 http://down.example$request_uri;", state: "FAIL_PROMPT", code: "redirect_insecure"},
		{about: "http to https behind a proxy: to itself", name: "loop.example", config: allow + " return 301 https://$host$request_uri;", state: "FAIL_PROMPT", code: "redirect_loop"},
		{about: "a base URL with http that is redirected to https", name: "tohttps.example", config: names("http://plain-hs.example"), base: "http://plain-hs.example",
			more:     map[string]string{"http://plain-hs.example": allow + " return 308 https://hs.example$request_uri;"},
			warnings: []string{"base_url_http", "versions_redirected"}, steps: []string{found, "3.5 used 308", answered}},

		// No document.
		{about: "a web application: everything is there", name: "spa.example", config: allow + spa, state: "FAIL_PROMPT", code: "not_json", warnings: []string{"content_type"}},
		{about: "a large web application", name: "bigspa.example", config: allow + "root {dir}/spa; location / { try_files $uri /big.html; }", state: "FAIL_PROMPT", code: "too_large", warnings: []string{"content_type"}},
		{about: "a large one, compressed", name: "gzipspa.example", config: allow + "gzip on; root {dir}/spa; location / { try_files $uri /big.html; }", state: "FAIL_PROMPT", code: "too_large", warnings: []string{"content_type"}},
		{about: "no such file", name: "r404.example", config: "root {dir}/nothing;", state: "IGNORE", code: "not_found", warnings: []string{"cors_missing"}, steps: []string{"3 absent 404"}},
		{about: "forbidden", name: "r403.example", config: "deny all;", state: "FAIL_PROMPT", code: "http_status", warnings: []string{"cors_missing"}},
		{about: "a password", name: "r401.example", config: "auth_basic staging; auth_basic_user_file {dir}/client;", state: "FAIL_PROMPT", code: "http_status", warnings: []string{"cors_missing"}},
		{about: "gone", name: "r410.example", config: allow + at("return 410;"), state: "FAIL_PROMPT", code: "http_status", warnings: []string{"cors_missing"}},
		{about: "204", name: "r204.example", config: at(allow, "return 204;"), state: "FAIL_PROMPT", code: "http_status"},
		{about: "an empty file", name: "empty.example", config: at(typed, allow, "alias {dir}/empty;"), state: "FAIL_PROMPT", code: "empty_body"},
		{about: "cut off", name: "cut.example", config: at("return 444;"), state: "FAIL_PROMPT", code: "connect_failed"},
		{about: "502", name: "r502.example", config: "location / { proxy_pass http://127.0.0.1:{dead}; }", state: "FAIL_PROMPT", code: "http_status", warnings: []string{"cors_missing"}},
		{about: "self-signed", name: "selfsigned.example", config: selfSigned + at(typed, allow, says), state: "FAIL_PROMPT", code: "tls_failed"},
		{about: "the server of another name", name: "", user: "@alice:stranger.example", state: "FAIL_PROMPT", code: "tls_failed"},
		{about: "the document for servers", name: "other.example", config: at(typed, allow, `return 200 '{"m.server":"hs.example:443"}';`), state: "FAIL_PROMPT", code: "homeserver_missing"},

		// The homeserver.
		{about: "a path", name: "path.example", config: names("https://path.example/matrix/"), base: "https://path.example/matrix",
			more: map[string]string{"path.example": names("https://path.example/matrix/") + " location /matrix/ { proxy_pass http://127.0.0.1:{dendrite}/; }"}},
		{about: "a path that is not handed on", name: "nopath.example", config: names("https://hs.example/matrix"), base: "https://hs.example/matrix", state: "FAIL_ERROR", code: "versions_not_found"},
		{about: "Dendrite is down", name: "down502.example", config: names("https://hs502.example"), base: "https://hs502.example", state: "FAIL_ERROR", code: "versions_http_status",
			more: map[string]string{"hs502.example": "location / { proxy_pass http://127.0.0.1:{dead}; }"}, warnings: []string{"cors_missing"}},
		{about: "a web application for a homeserver", name: "hsspa.example", config: names("https://spa.example"), base: "https://spa.example", state: "FAIL_ERROR", code: "versions_not_json"},
		{about: "a self-signed homeserver", name: "hsself.example", config: names("https://selfsigned.example"), base: "https://selfsigned.example", state: "FAIL_ERROR", code: "versions_tls_failed"},
		{about: "an address that is no URL", name: "nourl.example", config: names("hs.example"), state: "FAIL_ERROR", code: "base_url_invalid"},

		// The identity server.
		{about: "an identity server", name: "id.example", config: at(typed, allow, `return 200 '{"m.homeserver":{"base_url":"https://hs.example"},"m.identity_server":{"base_url":"https://is.example/"}}';`),
			more:    map[string]string{"is.example": "location = /_matrix/identity/v2 { " + typed + allow + " return 200 '{}'; }"},
			idState: "SUCCESS", idBase: "https://is.example", steps: []string{found, answered, "3.6 used 200"}},
		{about: "an identity server that is down", name: "id502.example", config: at(typed, allow, `return 200 '{"m.homeserver":{"base_url":"https://hs.example"},"m.identity_server":{"base_url":"https://is502.example"}}';`),
			more:    map[string]string{"is502.example": "location / { proxy_pass http://127.0.0.1:{dead}; }"},
			idState: "FAIL_PROMPT", idBase: "https://is502.example", idCode: "identity_http_status"},
	}
}

const selfSigned = "ssl_certificate {dir}/self.crt; ssl_certificate_key {dir}/self.key; "

// A discovered is what "mxdiscover client --json" prints.
type discovered struct {
	Name, State    string
	Homeserver     section
	IdentityServer section `json:"identity_server"`
	Warnings       []struct{ Code string }
	Steps          []struct{ Rule, Query, Outcome, Detail string }
	Error          *reason
}

type section struct {
	State    string
	BaseURL  string `json:"base_url"`
	Versions []string
	Reason   *reason
}

type reason struct{ Code, Message string }

func (r *reason) code() string {
	if r == nil {
		return ""
	}
	return r.Code
}

// TestAutodiscovery finds Dendrite by what nginx serves. Port 443 is not for users, so the ports are mapped.
func TestAutodiscovery(t *testing.T) {
	t.Parallel()
	nginxProgram(t)
	https, http := freePort(t), freePort(t)
	testAutodiscovery(t, https, http, "--connect-to", fmt.Sprintf(":443::%d", https), "--connect-to", fmt.Sprintf(":80::%d", http))
}

// testAutodiscovery serves all sites at these ports and lets the program, with these flags, discover them.
func testAutodiscovery(t *testing.T, httpsPort, httpPort int, flags ...string) {
	f := newWorld(t, "-- zone --\n*.example.  A  127.0.0.1\n")
	home := &place{name: "home.example", certificate: "home.example", federation: freePort(t), client: freePort(t)}
	dendrite := f.startDendrites(t, clientPrograms(t), func(*place) bool { return false }, home)[0]
	var versions struct{ Versions []string }
	dendrite.must(t, "GET", "/_matrix/client/versions", nil, &versions)
	require.NotEmpty(t, versions.Versions)

	fill := strings.NewReplacer("{dendrite}", strconv.Itoa(home.client), "{dead}", strconv.Itoa(freePort(t)), "{http}", strconv.Itoa(httpPort))
	servers := map[string]string{"hs.example": "location / { proxy_pass http://127.0.0.1:{dendrite}; }"}
	for _, site := range webSites() {
		if site.name != "" {
			servers[site.name] = site.config
		}
		maps.Copy(servers, site.more)
	}
	for name, config := range servers {
		servers[name] = fill.Replace(config)
	}
	self, key := pemFiles(t, selfSignedCertificate(t, "selfsigned.example"))
	const client = `{"m.homeserver":{"base_url":"https://hs.example"}}`
	n := startNginx(t, f, httpsPort, httpPort, servers, map[string]string{
		"client":                        client,
		"www/.well-known/matrix/client": client,
		"folders/.well-known/matrix/client/client.json": client,
		"empty":              "",
		"nothing/index.html": "<!doctype html><title>nothing</title>",
		"spa/index.html":     "<!doctype html><title>application</title>",
		"spa/big.html":       "<!doctype html><title>application</title>" + strings.Repeat("<p>more", 10000),
		"self.crt":           string(self),
		"self.key":           string(key),
	})
	program := f.newMxdiscover(t, append(flags, "--allow-net", "127.0.0.0/8")...)
	web := f.webClient(t, httpsPort)

	for _, site := range webSites() {
		t.Run(site.about, func(t *testing.T) {
			t.Parallel()
			user := site.user
			if user == "" {
				user = "@alice:" + site.name
			}
			r := program.run(t, "", "client", "--json", user)
			var got discovered
			require.NoError(t, json.Unmarshal([]byte(r.stdout), &got), "%v", r)
			require.Equal(t, user, got.Name)

			state, base, hsState := site.state, site.base, site.state
			switch state {
			case "":
				state, hsState = "SUCCESS", "SUCCESS"
				if base == "" {
					base = "https://hs.example"
				}
				require.Zero(t, r.status, "%v", r)
				require.Equal(t, versions.Versions, got.Homeserver.Versions, "%v", r)
			case "IGNORE":
				hsState = "PROMPT"
				fallthrough
			default:
				require.Equal(t, 1, r.status, "%v", r)
				require.Nil(t, got.Homeserver.Versions, "%v", r)
			}
			require.Equal(t, state, got.State, "%v", r)
			require.Equal(t, site.code, got.Error.code(), "%v", r)
			require.Equal(t, site.code, got.Homeserver.Reason.code(), "%v", r)
			require.Equal(t, hsState, got.Homeserver.State, "%v", r)
			require.Equal(t, base, got.Homeserver.BaseURL, "%v", r)

			idState := site.idState
			if idState == "" {
				idState = "PROMPT"
			}
			require.Equal(t, idState, got.IdentityServer.State, "%v", r)
			require.Equal(t, site.idBase, got.IdentityServer.BaseURL, "%v", r)
			require.Equal(t, site.idCode, got.IdentityServer.Reason.code(), "%v", r)

			var warnings []string
			for _, w := range got.Warnings {
				warnings = append(warnings, w.Code)
			}
			require.ElementsMatch(t, site.warnings, warnings, "%v", r)
			if site.steps != nil {
				var steps []string
				for _, s := range got.Steps {
					status := regexp.MustCompile(`\d{3}`).FindString(s.Detail)
					steps = append(steps, s.Rule+" "+s.Outcome+" "+status)
				}
				require.Equal(t, site.steps, steps, "%v", r)
			}
			if site.logged != "" {
				n.awaitLogged(t, site.logged)
			}

			// What people read says the same.
			r = program.run(t, "", "client", user)
			if state == "SUCCESS" {
				require.Contains(t, r.stdout, base)
			} else {
				require.Empty(t, r.stdout)
				require.Contains(t, r.stderr, state)
				require.Contains(t, r.stderr, site.code)
			}

			// mautrix-go finds what there is to find, too, and looks no further.
			if state == "SUCCESS" {
				host, _, _ := strings.Cut(strings.TrimPrefix(user, "@alice:"), ":")
				theirs, err := mautrix.DiscoverClientAPIWithClient(t.Context(), web, host)
				require.NoError(t, err)
				require.Equal(t, base, strings.TrimSuffix(theirs.Homeserver.BaseURL, "/"))
			}
		})
	}
}

func selfSignedCertificate(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{cert}, PrivateKey: key}
}
