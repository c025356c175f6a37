package interop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Configurations for nginx, as people write them: at the usual ports, with Dendrite at 127.0.0.1:8008. At 8007 is
// nobody, and at 8006 is somebody who never says anything.
const (
	certified = `
    ssl_certificate /etc/letsencrypt/live/home.example/fullchain.pem;
    ssl_certificate_key /etc/letsencrypt/live/home.example/privkey.pem;`

	// passed is as the documentation of Synapse has it (Using a reverse proxy, nginx).
	passed = `
    location ~ ^(/_matrix|/_synapse/client) {
        proxy_pass http://127.0.0.1:8008;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header Host $host:$server_port;
        client_max_body_size 50M;
        proxy_http_version 1.1;
    }`

	// everywhere is a web application that has a page for every path.
	everywhere = "root /var/www/spa; location / { try_files $uri /index.html; }"

	// old speaks TLS as it was twenty years ago; OpenSSL has to be allowed to.
	old = "ssl_protocols TLSv1 TLSv1.1; ssl_ciphers ALL:@SECLEVEL=0;"

	onlyMatrix = "matrix.home.example.  A  127.0.0.1\n"
)

// federation8448 is a server block for federation, web443 one for the web.
func federation8448(lines ...string) string {
	return block("listen 8448 ssl http2;"+certified, lines...)
}

func web443(lines ...string) string { return block("listen 443 ssl http2;"+certified, lines...) }

func block(first string, lines ...string) string {
	return "server {\n    server_name home.example;\n    " + first + "\n    " + strings.Join(lines, "\n    ") + "\n}\n"
}

// well serves a well-known document, and wellFile one that is a file.
func well(json string) string {
	return "location = /.well-known/matrix/server { default_type application/json; return 200 '" + json + "'; }"
}

func wellFile(file string) string {
	return "location = /.well-known/matrix/server { default_type application/json; alias " + file + "; }"
}

// A mistake is a configuration around Dendrite, what the program finds there, and what becomes of it when its
// fixes are followed.
type mistake struct {
	about string
	name  string // if not home.example
	web   string // the server block for port 443; without, nobody listens
	fed   string // the same for 8448
	more  string // other blocks
	zone  string // what DNS says of home.example beside its address

	fill string // what an operator writes for a host and port that nobody else can know

	want  []string // codes of all findings, but those that are everywhere
	cures string   // where the fixes are for that can be tried: "nginx nginx json"
}

// Those are everywhere: there is no IPv6, and a document only where it matters.
var everywhereFound = []string{"ipv4_only", "well_known_missing"}

func mistakes() []mistake {
	const federation = `{"m.server": "home.example:8448"}`
	list := []mistake{
		// Nothing wrong.
		{about: "as the documentation of Synapse says", fed: federation8448(passed)},
		{about: "as the documentation of Dendrite says", web: web443(`proxy_set_header Host $host;
    proxy_set_header X-Real-IP $remote_addr;
    proxy_read_timeout 600;
    location /.well-known/matrix/server { return 200 '{ "m.server": "home.example:443" }'; }
    location /_matrix { proxy_pass http://127.0.0.1:8008; }`), want: []string{"well_known_content_type"}, cures: "nginx"},
		{about: "gzip", fed: federation8448("gzip on; gzip_types application/json; gzip_proxied any;", passed)},
		{about: "gzip of the document", web: web443("gzip on; gzip_types application/json; gzip_min_length 1;", well(federation)), fed: federation8448(passed)},
		{about: "HTTP/1.1 only", fed: block("listen 8448 ssl;"+certified, passed), want: []string{"alpn_no_http2"}},
		{about: "SRV", zone: onlyMatrix + "_matrix-fed._tcp.home.example.  SRV  10 5 8448 matrix.home.example.\n", fed: federation8448(passed)},

		// The way through the proxy.
		{about: "a slash behind the port", fed: federation8448("location /_matrix/ { proxy_pass http://127.0.0.1:8008/; }"), want: []string{"path_wrong"}, cures: "nginx"},
		{about: "a slash behind the port and none before", fed: federation8448("location /_matrix { proxy_pass http://127.0.0.1:8008/; }"), want: []string{"path_wrong"}, cures: "nginx"},
		{about: "Dendrite is down", fed: federation8448("location /_matrix { proxy_pass http://127.0.0.1:8007; }"), want: []string{"proxy_bad_gateway"}},
		{about: "Dendrite hangs", fed: federation8448("location /_matrix { proxy_pass http://127.0.0.1:8006; proxy_read_timeout 1s; }"), want: []string{"proxy_bad_gateway"}},
		{about: "slow", fed: federation8448("limit_rate 100;", passed), want: []string{"slow_answer"}},
		{about: "no location", fed: federation8448(), want: []string{"version_missing"}, cures: "nginx"},
		{about: "the client API alone", fed: federation8448("location /_matrix/client { proxy_pass http://127.0.0.1:8008; }"), want: []string{"federation_elsewhere"}, cures: "nginx"},
		{about: "without the keys", fed: federation8448("location /_matrix/federation { proxy_pass http://127.0.0.1:8008; }"), want: []string{"keys_missing"}, cures: "nginx"},
		{about: "a page for everything", fed: federation8448(everywhere), want: []string{"version_html"}, cures: "nginx"},
		{about: "some JSON for everything", fed: federation8448("default_type application/json; return 200 ok;"), want: []string{"version_not_json"}, cures: "nginx"},
		{about: "forbidden", fed: federation8448("deny all;"), want: []string{"version_status"}, cures: "nginx"},
		{about: "a redirect", fed: federation8448("return 301 https://www.home.example$request_uri;"), want: []string{"version_redirect"}, cures: "nginx"},
		{about: "cut off", fed: federation8448("return 444;"), want: []string{"http_not_http"}, cures: "nginx"},
		{about: "Host is localhost, and the next one goes by names", fed: federation8448("location /_matrix { proxy_pass http://127.0.0.1:8009; proxy_set_header Host localhost; }"),
			more: block("listen 8009;", passed) + "server { listen 8009 default_server; return 404; }\n", want: []string{"version_missing"}, cures: "nginx"},
		{about: "a virtual host for the target of the SRV record", zone: onlyMatrix + "_matrix-fed._tcp.home.example.  SRV  10 5 8448 matrix.home.example.\n",
			fed:  strings.Replace(federation8448(passed), "server_name home.example", "server_name matrix.home.example", 1),
			more: "server { listen 8448 ssl http2 default_server; return 404;" + certified + " }\n", want: []string{"host_header"}, cures: "nginx"},
		{about: "the homeserver of another name", name: "other.example", web: strings.ReplaceAll(web443("location / { return 404; }"), "home.example", "other.example"), fed: strings.ReplaceAll(federation8448(passed), "home.example", "other.example"), want: []string{"keys_wrong_name"}},
		{about: "HTTP/2 fails", fed: federation8448(`if ($server_protocol = "HTTP/2.0") { return 444; }`, passed), want: []string{"http2_broken"}, cures: "nginx"},
		{about: "HTTP/1.1 fails", fed: federation8448(`if ($server_protocol = "HTTP/1.1") { return 444; }`, passed), want: []string{"http1_broken"}},

		// Ports and TLS.
		{about: "443 instead of 8448", web: web443(passed), want: []string{"port_443_instead"}, cures: "json nginx nginx"},
		{about: "another port", fed: block("listen 8009 ssl http2;"+certified, passed), want: []string{"connect_refused"}, cures: "nginx json", fill: "home.example:8009"},
		{about: "no TLS", fed: block("listen 8448;", passed), want: []string{"tls_plain"}, cures: "nginx"},
		{about: "TLS 1.0", fed: federation8448(old, passed), want: []string{"tls_old"}, cures: "nginx"},
		{about: "no chain", fed: strings.Replace(federation8448(passed), "fullchain.pem", "cert.pem", 1), want: []string{"cert_chain"}, cures: "nginx"},
		{about: "a certificate for another name", fed: strings.ReplaceAll(federation8448(passed), "live/home.example", "live/other.example"), want: []string{"cert_wrong_name"}, cures: "nginx"},
		{about: "an expired certificate", fed: strings.ReplaceAll(federation8448(passed), "live/home.example", "live/expired"), want: []string{"cert_expired"}, cures: "nginx"},
		{about: "a self-signed certificate", fed: strings.ReplaceAll(federation8448(passed), "live/home.example", "live/self"), want: []string{"cert_self_signed"}, cures: "nginx"},
		{about: "a certificate that expires soon", fed: strings.ReplaceAll(federation8448(passed), "live/home.example", "live/soon"), want: []string{"cert_expires_soon"}, cures: "nginx"},
	}

	// DNS.
	const fed, legacy = "_matrix-fed._tcp.home.example.  SRV  ", "_matrix._tcp.home.example.  SRV  "
	for _, m := range []mistake{
		{about: "the old SRV name alone", zone: onlyMatrix + legacy + "10 5 8448 matrix.home.example.\n", want: []string{"srv_legacy_only"}},
		{about: "two SRV names that differ", zone: onlyMatrix + "old.home.example.  A  127.0.0.1\n" + fed + "10 5 8448 matrix.home.example.\n" + legacy + "10 5 8448 old.home.example.\n", want: []string{"srv_legacy_differs"}},
		{about: "an address as SRV target", zone: fed + "10 5 8448 127.0.0.1.\n", want: []string{"srv_ip"}},
		{about: "SRV port 0", zone: onlyMatrix + fed + "10 5 0 matrix.home.example.\n", want: []string{"srv_port_zero"}},
		{about: "SRV says no", zone: onlyMatrix + fed + "0 0 0 .\n", want: []string{"srv_unavailable"}},
		{about: "SRV says no and yes", zone: onlyMatrix + fed + "0 0 0 .\n" + fed + "10 5 8448 matrix.home.example.\n", want: []string{"srv_root_beside"}},
		{about: "an alias as SRV target", zone: onlyMatrix + "alias.home.example.  CNAME  matrix.home.example.\n" + fed + "10 5 8448 alias.home.example.\n", want: []string{"srv_cname"}},
		{about: "an SRV target without address", zone: fed + "10 5 8448 matrix.home.example.\n", want: []string{"target_no_address"}},
		{about: "one of two SRV targets without address", zone: onlyMatrix + fed + "10 5 8448 nowhere.home.example.\n" + fed + "20 5 8448 matrix.home.example.\n", want: []string{"srv_target_no_address"}},
	} {
		m.fed, m.cures = federation8448(passed), "dns"
		list = append(list, m)
	}

	// The well-known document. Without it, the server is found all the same.
	for _, m := range []mistake{
		{about: "the type by add_header", web: web443(`location = /.well-known/matrix/server { add_header Content-Type application/json; return 200 '` + federation + `'; }`), want: []string{"well_known_content_type"}, cures: "nginx"},
		{about: "a file without a type", web: web443("root /var/www/files;"), want: []string{"well_known_content_type"}, cures: "nginx"},
		{about: "JSON without quotes", web: web443(well(`{m.server: home.example:8448}`)), want: []string{"well_known_not_json"}},
		{about: "other quotes", web: web443(well(`{\'m.server\': \'home.example:8448\'}`)), want: []string{"well_known_not_json"}},
		{about: "a trailing comma", web: web443(well(`{"m.server": "home.example:8448",}`)), want: []string{"well_known_not_json"}},
		{about: "http", web: web443(well(`{"m.server": "http://home.example:8448"}`)), want: []string{"well_known_url"}},
		{about: "https without a port", web: web443(well(`{"m.server": "https://home.example/"}`), passed), want: []string{"well_known_url"}},
		{about: "a slash", web: web443(well(`{"m.server": "home.example:8448/"}`)), want: []string{"well_known_path"}},
		{about: "a port that does not exist", web: web443(well(`{"m.server": "home.example:84480"}`)), want: []string{"well_known_port"}},
		{about: "a space", web: web443(well(`{"m.server": "home.example 8448"}`)), want: []string{"well_known_value"}},
		{about: "an object", web: web443(well(`{"m.server": {"base_url": "home.example:8448"}}`)), want: []string{"well_known_not_string"}},
		{about: "a list", web: web443(well(`["home.example:8448"]`)), want: []string{"well_known_not_object"}},
		{about: "the document for clients", web: web443(well(`{"m.homeserver": {"base_url": "https://home.example"}}`)), want: []string{"well_known_no_server"}},
		{about: "another key", web: web443(well(`{"server": "home.example:8448"}`)), want: []string{"well_known_key_case"}},
		{about: "an empty file", web: web443(wellFile("/var/www/empty")), want: []string{"well_known_empty"}},
		{about: "a page for every path", web: web443(everywhere), want: []string{"well_known_html"}},
		{about: "a large page", web: web443("root /var/www/spa; location / { try_files $uri /big.html; }"), want: []string{"well_known_too_large"}},
		{about: "no access", web: web443("deny all;"), want: []string{"well_known_status"}},
		{about: "502", web: web443("location / { proxy_pass http://127.0.0.1:8007; }"), want: []string{"well_known_status"}},
		{about: "a redirect to http", web: web443("return 301 http://$host$request_uri;"), want: []string{"well_known_redirect_http"}},
		{about: "a redirect to itself", web: web443("return 301 https://$host$request_uri;"), want: []string{"well_known_redirect_loop"}},
		{about: "a redirect to nowhere", web: web443("location / { return 301 https://:443; }"), want: []string{"well_known_redirect_invalid"}},
		{about: "with an ending", web: web443("root /var/www/ending;"), want: []string{"well_known_wrong_path"}},
		{about: "a slow document", web: web443("location = /.well-known/matrix/server { default_type application/json; limit_rate 60; alias /var/www/document; }"), want: []string{"well_known_slow"}},
		{about: "a document that is not to be kept", web: web443("add_header Cache-Control no-store;", well(federation)), want: []string{"well_known_lifetime_short"}, cures: "nginx"},
		{about: "a document that has expired", web: web443("expires -1;", well(federation)), want: []string{"well_known_lifetime_short"}, cures: "nginx"},
		{about: "a document without a chain", web: strings.Replace(web443(well(federation)), "fullchain.pem", "cert.pem", 1), want: []string{"well_known_cert_chain"}, cures: "nginx"},
		{about: "a document with another name", web: strings.ReplaceAll(web443(well(federation)), "live/home.example", "live/other.example"), want: []string{"well_known_cert_name"}, cures: "nginx"},
		{about: "a document with an expired certificate", web: strings.ReplaceAll(web443(well(federation)), "live/home.example", "live/expired"), want: []string{"well_known_cert_expired"}, cures: "nginx"},
		{about: "a self-signed document", web: strings.ReplaceAll(web443(well(federation)), "live/home.example", "live/self"), want: []string{"well_known_cert_self_signed"}, cures: "nginx"},
		{about: "a document by TLS 1.0", web: web443(old, well(federation)), want: []string{"well_known_tls"}, cures: "nginx"},
	} {
		m.fed = federation8448(passed)
		if m.cures == "" {
			m.cures = "json nginx"
		}
		list = append(list, m)
	}
	for i := range list {
		if list[i].web == "" {
			list[i].web = web443("location / { return 404; }")
		}
	}
	return list
}

// A checked is what "mxdiscover check --json" prints.
type checked struct {
	Verdict, Summary string
	Findings         []struct {
		Code, Severity, Message string
		Evidence                []string
		Fixes                   []struct{ Title, Where, Text string }
	}
	Targets []struct {
		Addresses []struct {
			OK  bool
			TLS struct {
				Verified bool
				ALPN     string
			}
			HTTP []struct {
				Protocol string
				Version  struct {
					Name   string
					Status int
				}
				Keys struct {
					ServerName string `json:"server_name"`
					VerifyKeys []struct {
						ID     string
						Signed bool
					} `json:"verify_keys"`
				}
			}
		}
	}
}

// codes are those of the findings that are not everywhere.
func (c *checked) codes() []string {
	list := []string{}
	for _, f := range c.Findings {
		if !slices.Contains(everywhereFound, f.Code) {
			list = append(list, f.Code)
		}
	}
	return list
}

// requireGood checks that Dendrite was asked over both protocols and is what it should be.
func (c *checked) requireGood(t *testing.T, protocols ...string) {
	t.Helper()
	require.Equal(t, "GOOD", c.Verdict, "%+v", c)
	require.NotEmpty(t, c.Targets)
	for _, target := range c.Targets {
		for _, address := range target.Addresses {
			require.True(t, address.OK, "%+v", address)
			require.True(t, address.TLS.Verified)
			var spoken []string
			for _, h := range address.HTTP {
				spoken = append(spoken, h.Protocol)
				require.Equal(t, "Dendrite", h.Version.Name)
				require.Equal(t, "home.example", h.Keys.ServerName)
				require.Len(t, h.Keys.VerifyKeys, 1)
				require.True(t, h.Keys.VerifyKeys[0].Signed)
			}
			if len(protocols) > 0 {
				require.Equal(t, protocols, spoken)
			}
		}
	}
}

// checks is a Dendrite, home.example, and what its name is checked with.
type checks struct {
	*federation
	program  *mxdiscover
	lodging  lodging
	dendrite *dendrite
}

// TestCheck checks one Dendrite in all the ways in which people put it on the net.
func TestCheck(t *testing.T) {
	t.Parallel()
	nginxProgram(t)
	s := &checks{federation: newWorld(t, "-- zone --\nhome.example.  A  127.0.0.1\nother.example.  A  127.0.0.1\n")}
	home := &place{name: "home.example", certificate: "home.example", federation: freePort(t), client: freePort(t)}
	s.dendrite = s.startDendrites(t, clientPrograms(t), func(*place) bool { return false }, home)[0]
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { silent.Close() })
	dir := t.TempDir()
	s.lodging = lodging{
		web: freePort(t), federation: freePort(t), other: freePort(t),
		dendrite: home.client, dead: freePort(t), silent: silent.Addr().(*net.TCPAddr).Port,
		certificates: filepath.Join(dir, "live"), files: filepath.Join(dir, "www"),
	}
	if l, err := net.Listen("tcp", "[::1]:0"); err == nil {
		s.lodging.ipv6 = true
		l.Close()
	}
	root := newAuthority(t, nil)
	root.writeCertificates(t, s.lodging.certificates)
	s.writeFiles(t)
	s.trust(t, root.pem())
	s.program = s.newMxdiscover(t, "--allow-net", "127.0.0.0/8", "--allow-net", "::1/128")

	t.Run("Dendrite by itself", func(t *testing.T) {
		t.Parallel()
		got := s.check(t, s.settings.DNS, "home.example", "--connect-to", fmt.Sprintf(":8448:127.0.0.1:%d", home.federation), "--connect-to", fmt.Sprintf(":443:127.0.0.1:%d", s.lodging.dead))
		got.requireGood(t, "h2", "http/1.1")
		require.Equal(t, []string{"well_known_connect"}, got.codes(), "%+v", got)
	})
	t.Run("one address family", func(t *testing.T) {
		t.Parallel()
		s.testFamilies(t)
	})
	t.Run("nginx", func(t *testing.T) {
		t.Parallel()
		s.testMistakes(t)
	})
	t.Run("Caddy", func(t *testing.T) {
		t.Parallel()
		s.testCaddy(t)
	})
}

// testMistakes makes all mistakes at once, and then follows the first fix of each, and then the second.
func (s *checks) testMistakes(t *testing.T) {
	list := mistakes()
	sites := make([]site8448, len(list))
	for i, m := range list {
		address := netip.AddrFrom4([4]byte{127, 0, 77, byte(i + 1)})
		sites[i] = site8448{mistake: m, address: address, dns: s.settings.DNS}
		if m.zone != "" {
			sites[i].zone = strings.ReplaceAll(m.zone, "127.0.0.1", address.String())
			sites[i].dns = s.zone(t, address, m.zone)
		}
	}
	reports := make([]*checked, len(list))
	s.round(t, "as it is", sites, func(t *testing.T, i int, got *checked) {
		reports[i] = got
		m := list[i]
		require.ElementsMatch(t, m.want, got.codes(), "%s: %+v", got.Summary, got.Findings)
		for _, f := range got.Findings {
			if f.Severity == "error" || f.Severity == "warning" {
				require.NotEqual(t, "GOOD", got.Verdict)
				require.NotEmpty(t, f.Evidence)
				require.NotEmpty(t, f.Fixes)
				return
			}
		}
		if got.requireGood(t); len(m.want) == 0 {
			got.requireGood(t, "h2", "http/1.1")
		}
	})
	if t.Failed() {
		return
	}
	more := true
	for k := 0; more; k++ {
		more = false
		var cured []site8448
		for i, m := range list {
			wheres := strings.Fields(m.cures)
			var fixes []struct{ Title, Where, Text string }
			for _, f := range reports[i].Findings {
				if len(m.want) > 0 && f.Code == m.want[0] {
					for _, fix := range f.Fixes {
						if slices.Contains([]string{"nginx", "json", "dns"}, fix.Where) && fix.Text != "" && !(fix.Where == "dns" && m.zone == "") {
							fixes = append(fixes, fix)
						}
					}
				}
			}
			var got []string
			for _, fix := range fixes {
				got = append(got, fix.Where)
			}
			require.Equal(t, wheres, append([]string{}, got...), "%s: %+v", m.about, fixes)
			if k >= len(fixes) {
				continue
			}
			more = true
			site := sites[i]
			t.Logf("%s: %s: %s\n%s", m.about, m.want[0], fixes[k].Title, fixes[k].Text)
			s.follow(t, &site, fixes[k].Where, fixes[k].Title, fixes[k].Text)
			cured = append(cured, site)
		}
		if more {
			s.round(t, fmt.Sprintf("cured by fix %d", k+1), cured, func(t *testing.T, i int, got *checked) {
				m := cured[i].mistake
				require.NotContains(t, got.codes(), m.want[0], "%s: %+v", got.Summary, got.Findings)
				require.Subset(t, []string{"alpn_no_http2"}, got.codes(), "%s: %+v", got.Summary, got.Findings)
				got.requireGood(t)
			})
		}
	}
}

// A site8448 is a mistake at an address.
type site8448 struct {
	mistake
	address netip.Addr
	dns     []string
}

// follow does what a fix says.
func (s *checks) follow(t *testing.T, site *site8448, where, title, text string) {
	t.Helper()
	switch where {
	case "dns":
		site.dns = s.zone(t, site.address, cureZone(t, site.zone, title, text))
	case "json":
		path := filepath.Join(s.lodging.files, "cure-"+site.address.String())
		require.True(t, json.Valid([]byte(text)), text)
		if site.fill != "" {
			require.Contains(t, title, "with the host and port of your server if they are others")
			text = `{"m.server": "` + site.fill + `"}`
		}
		require.NoError(t, os.WriteFile(path, []byte(text), 0o666))
		file := strings.Replace(path, s.lodging.files, "/var/www", 1)
		site.web = cureNginx(t, site.web, "", strings.Replace(wellFile(file), "alias", "allow all; alias", 1))
	case "nginx":
		if strings.Contains(text, "/.well-known/") || strings.HasPrefix(site.want[0], "well_known_") {
			site.web = cureNginx(t, site.web, title, text)
		} else {
			site.fed = cureNginx(t, site.fed, title, text)
		}
	}
}

// round starts nginx with all sites and checks each of them.
func (s *checks) round(t *testing.T, about string, sites []site8448, judge func(t *testing.T, i int, got *checked)) {
	t.Run(about, func(t *testing.T) {
		n := &nginx{t.TempDir()}
		var config strings.Builder
		var addresses []string
		for _, site := range sites {
			home := s.lodging
			home.address = site.address
			config.WriteString(home.house(t, site.web+site.fed+site.more))
			if strings.Contains(site.fed, "listen 8448") {
				addresses = append(addresses, fmt.Sprintf("%s:%d", site.address, home.federation))
			}
		}
		process := n.start(t, nginxProgram(t), strings.Replace(nginxMain, "{servers}", config.String(), 1), addresses...)
		defer process.stop() // the next one needs the ports
		t.Run("group", func(t *testing.T) {
			for i, site := range sites {
				t.Run(site.about, func(t *testing.T) {
					t.Parallel()
					name := site.name
					if name == "" {
						name = "home.example"
					}
					at := site.address.String()
					if site.zone != "" {
						at = "" // what DNS says
					}
					got := s.check(t, site.dns, name, "--connect-to", fmt.Sprintf(":8448:%s:%d", at, s.lodging.federation), "--connect-to", fmt.Sprintf(":443:%s:%d", at, s.lodging.web), "--connect-to", fmt.Sprintf(":8009:%s:%d", at, s.lodging.other))
					judge(t, i, got)
				})
			}
		})
	})
}

// zone serves records of home.example, and returns the DNS servers.
// Addresses are that of the site.
func (s *checks) zone(t *testing.T, address netip.Addr, records string) []string {
	t.Helper()
	records = "home.example.  A  127.0.0.1\n" + records
	return newWorld(t, "-- zone --\n"+strings.ReplaceAll(records, "127.0.0.1", address.String())).settings.DNS
}

// check runs the program.
func (s *checks) check(t *testing.T, dns []string, name string, flags ...string) *checked {
	t.Helper()
	program := &mxdiscover{program: s.program.program, flags: []string{"--dns", dns[0], "--cacert", s.caFile, "--allow-net", "127.0.0.0/8", "--allow-net", "::1/128"}}
	r := program.run(t, "", "check", append(flags, "--json", name)...)
	got := new(checked)
	require.NoError(t, json.Unmarshal([]byte(r.stdout), got), "%v", r)
	want := 0
	if got.Verdict == "BAD" {
		want = 1
	}
	require.Equal(t, want, r.status, "%v", r)
	return got
}

// testFamilies checks a name with an IPv6 address where nobody listens, and follows what DNS is said to do.
func (s *checks) testFamilies(t *testing.T) {
	if !s.lodging.ipv6 {
		t.Log("this machine has no IPv6, so that cannot be down")
		return
	}
	const zone = "home.example.  AAAA  ::1\n"
	// The port of Dendrite, at both addresses.
	flags := []string{"--connect-to", fmt.Sprintf("home.example:8448::%d", s.dendrite.federation), "--connect-to", fmt.Sprintf("home.example:443::%d", s.dendrite.federation)}
	here := netip.MustParseAddr("127.0.0.1")
	got := s.check(t, s.zone(t, here, zone), "home.example", flags...)
	require.ElementsMatch(t, []string{"ipv6_down", "well_known_ipv6"}, got.codes(), "%+v", got.Findings)
	followed := 0
	for _, f := range got.Findings {
		for _, fix := range f.Fixes {
			if fix.Where == "dns" {
				followed++
				after := s.check(t, s.zone(t, here, cureZone(t, zone, fix.Title, fix.Text)), "home.example", flags...)
				after.requireGood(t)
				require.Empty(t, after.codes(), "%+v", after.Findings)
			}
		}
	}
	require.Equal(t, 2, followed)
}

// trust adds a certificate to those that the program trusts.
func (s *checks) trust(t *testing.T, more []byte) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, append([]byte(s.settings.CA), more...), 0o666))
	s.caFile = file
}

// writeFiles writes what nginx serves.
func (s *checks) writeFiles(t *testing.T) {
	t.Helper()
	const document = `{"m.server": "home.example:8448"}`
	for name, content := range map[string]string{
		"spa/index.html":                        "<!doctype html><title>application</title>",
		"spa/big.html":                          "<!doctype html><title>application</title>" + strings.Repeat("<p>more", 10000),
		"empty":                                 "",
		"document":                              document,
		"files/.well-known/matrix/server":       document,
		"ending/.well-known/matrix/server.json": document,
	} {
		path := filepath.Join(s.lodging.files, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o777))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o666))
	}
}

// An authority signs certificates, and says where its own is, as public ones do.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newAuthority makes one that was signed by another, or by itself.
func newAuthority(t *testing.T, above *authority) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	a := &authority{key: key}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root of the interop tests"},
		NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	signer, parent := key, template
	if above != nil {
		template.Subject.CommonName = "intermediate of the interop tests"
		signer, parent = above.key, above.cert
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	require.NoError(t, err)
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	return a
}

func (a *authority) pem() []byte { return pemCertificate(a.cert.Raw) }

func pemCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// sign makes a certificate.
func (a *authority) sign(t *testing.T, from, to time.Time, names ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: names, NotBefore: from, NotAfter: to,
		IssuingCertificateURL: []string{"http://authority.example/intermediate.der"},
	}, a.cert, key.Public(), a.key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// writeCertificates writes what certbot would, for some names, with a real intermediate certificate.
func (a *authority) writeCertificates(t *testing.T, dir string) {
	t.Helper()
	between := newAuthority(t, a)
	now, day := time.Now(), 24*time.Hour
	for name, c := range map[string]tls.Certificate{
		"home.example":  between.sign(t, now.Add(-day), now.Add(89*day), "home.example", "matrix.home.example"),
		"other.example": between.sign(t, now.Add(-day), now.Add(89*day), "other.example"),
		"expired":       between.sign(t, now.Add(-100*day), now.Add(-10*day), "home.example"),
		"soon":          between.sign(t, now.Add(-85*day), now.Add(5*day), "home.example"),
		"self":          selfSignedCertificate(t, "home.example"),
	} {
		cert, key := pemFiles(t, c)
		chain := cert
		if name != "self" {
			chain = slices.Concat(cert, between.pem())
		}
		folder := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(folder, 0o777))
		for file, content := range map[string][]byte{"cert.pem": cert, "fullchain.pem": chain, "privkey.pem": key} {
			require.NoError(t, os.WriteFile(filepath.Join(folder, file), content, 0o600))
		}
	}
}
