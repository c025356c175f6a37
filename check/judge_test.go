package check

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/servername"
	"mxdiscover/resolver"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// goodAddress is one at which all is well.
func goodAddress(at string) Address {
	leaf := Certificate{DNSNames: []string{"example.org"}, Issuer: "CA", NotBefore: noon.AddDate(0, -1, 0), NotAfter: noon.AddDate(0, 2, 0), SHA256: "ab"}
	keys := Keys{
		Answer: Answer{Status: 200}, ServerName: "example.org:8448", ValidUntil: noon.Add(24 * time.Hour),
		VerifyKeys: []Key{{ID: "ed25519:1", Public: "AAAA", Signed: true}},
	}
	answer := func(protocol string) HTTP {
		return HTTP{Protocol: protocol, Version: Version{Answer: Answer{Status: 200}, Name: "Synapse", Server: "1"}, Keys: keys}
	}
	return Address{
		Address: netip.MustParseAddrPort(at), OK: true,
		TLS:  &TLS{Name: "example.org", SNI: "example.org", Verified: true, ALPN: "h2", Certificates: []Certificate{leaf}},
		HTTP: []HTTP{answer("h2"), answer("http/1.1")},
	}
}

const (
	six  = "[2001:db8::1]:8448"
	four = "203.0.113.1:8448"
)

// goodReport is that of example.org:8448, with an address in each family. Rule 2
// leaves well-known and SRV out.
func goodReport() *Report {
	target := resolver.Target{Host: "example.org", Port: 8448}
	return &Report{
		ServerName: "example.org:8448", CheckedAt: noon, Rules: "current",
		Resolution: &resolver.Report{
			Result: &resolver.Result{
				ServerName: "example.org:8448", Step: "2", Host: "example.org:8448", TLSName: "example.org", SNI: "example.org",
				Targets: []resolver.Target{target},
			},
			Located: []resolver.Located{{Target: target, Addresses: []netip.AddrPort{netip.MustParseAddrPort(six), netip.MustParseAddrPort(four)}}},
		},
		Targets: []Target{{Host: "example.org", Port: 8448, Addresses: []Address{goodAddress(six), goodAddress(four)}}},
	}
}

func problem(code string) *Problem { return &Problem{Code: code, Message: "it is " + code} }

// The ways in which an address may fail.
func down(code string) func(*Address) {
	return func(a *Address) { *a = Address{Address: a.Address, TCP: Phase{Error: problem(code)}} }
}

func handshake(code string) func(*Address) {
	return func(a *Address) {
		*a = Address{Address: a.Address, TLS: &TLS{Name: "example.org", Phase: Phase{Error: problem(code)}}}
	}
}

func badCertificate(codes ...string) func(*Address) {
	return func(a *Address) {
		a.OK, a.TLS.Verified = false, false
		for _, code := range codes {
			a.TLS.Problems = append(a.TLS.Problems, *problem(code))
		}
		a.TLS.Error = &a.TLS.Problems[0]
	}
}

func version(protocol int, code string) func(*Address) {
	return func(a *Address) { a.OK, a.HTTP[protocol].Version.Error = false, problem(code) }
}

func keys(protocol int, change func(*Keys)) func(*Address) {
	return func(a *Address) {
		a.OK = false
		k := &a.HTTP[protocol].Keys
		k.VerifyKeys = slices.Clone(k.VerifyKeys)
		change(k)
	}
}

func keysError(code string) func(*Keys) { return func(k *Keys) { k.Error = problem(code) } }

func probe(kind ProbeKind, matrix bool) func(*Address) {
	return func(a *Address) {
		a.Probes = append(a.Probes, Probe{Kind: kind, Query: "GET x", Value: "x.example", Status: 200, Matrix: matrix, Detail: "y"})
	}
}

// TestJudge: what two things at a time come to, and what does not count. Each
// finding by itself has a scene.
func TestJudge(t *testing.T) {
	t.Parallel()
	type changes = []func(*Address)
	for _, test := range []struct {
		about     string
		six, four changes
		report    func(*Report)
		want      []string // but for name_port
		verdict   Verdict
	}{
		{about: "all is well", verdict: Good},

		{about: "two ways to be down", six: changes{down(codeTimeout)}, four: changes{down(codeRefused)}, want: []string{"connect_refused", "connect_timeout"}, verdict: Bad},
		{about: "one family down, a bad certificate in the other", six: changes{down(codeTimeout)}, four: changes{badCertificate(codeExpired)}, want: []string{"cert_expired", "ipv6_down"}, verdict: Bad},
		{about: "no way there from here", six: changes{down(codeNoRoute)}, want: []string{"ipv6_unchecked"}, verdict: Good},
		{about: "no way there from here, and down", six: changes{down(codeNoRoute)}, four: changes{down(codeRefused)}, want: []string{"connect_refused", "ipv6_unchecked"}, verdict: Bad},
		{about: "no way to any", six: changes{down(codeNoRoute)}, four: changes{down(codeNoRoute)}, want: []string{"check_timeout"}, verdict: Bad},
		{about: "an odd error", six: changes{down(codeConnect)}, four: changes{down(codeConnect)}, want: []string{"connect_timeout"}, verdict: Bad},
		{about: "cut off", six: changes{down(codeCut)}, want: nil, verdict: Good},

		{about: "port 443", six: changes{down(codeRefused), probe(ProbePort443, true)}, four: changes{down(codeTimeout)}, want: []string{"port_443_instead"}, verdict: Bad},
		{about: "nothing at port 443", six: changes{down(codeRefused), probe(ProbePort443, false)}, four: changes{down(codeRefused)}, want: []string{"connect_refused"}, verdict: Bad},

		{about: "a handshake fails at one address", six: changes{handshake(codeHandshake)}, want: []string{"tls_handshake"}, verdict: Bad},
		{about: "a probe holds for the others", six: changes{handshake(codeHandshake), func(a *Address) {
			a.Probes = []Probe{{Kind: ProbeOldTLS, Value: "TLS 1.1", Detail: "TLS 1.1"}, {Kind: ProbePlainHTTP}}
		}}, four: changes{handshake(codeHandshake)}, want: []string{"tls_old"}, verdict: Bad},
		{about: "but not for those that fail otherwise", six: changes{handshake(codeHandshake), func(a *Address) {
			a.Probes = []Probe{{Kind: ProbeOldTLS, Value: "TLS 1.1", Detail: "TLS 1.1"}}
		}}, four: changes{handshake(codeTLSTimeout)}, want: []string{"tls_old", "tls_timeout"}, verdict: Bad},
		{about: "400 is what a TLS server says to plain HTTP", six: changes{handshake(codeHandshake), func(a *Address) {
			a.Probes = []Probe{{Kind: ProbePlainHTTP, Status: 400}}
		}}, four: changes{handshake(codeHandshake)}, want: []string{"tls_handshake"}, verdict: Bad},

		{about: "expired, and for another name", six: changes{badCertificate(codeExpired, codeWrongName)}, four: changes{badCertificate(codeExpired, codeWrongName)}, want: []string{"cert_expired", "cert_wrong_name"}, verdict: Bad},
		{about: "one is bad in two ways", six: changes{badCertificate(codeExpired, codeWrongName)}, want: []string{"cert_differs"}, verdict: Bad},
		{about: "another name: what it answers is nobody's", six: changes{badCertificate(codeWrongName), version(0, codeNotFound), version(1, codeNotFound)},
			four: changes{badCertificate(codeWrongName), version(0, codeNotFound), version(1, codeNotFound)}, want: []string{"cert_wrong_name"}, verdict: Bad},
		{about: "expired, and no server", six: changes{badCertificate(codeExpired), version(0, codeNotFound), version(1, codeNotFound)},
			four: changes{badCertificate(codeExpired), version(0, codeNotFound), version(1, codeNotFound)}, want: []string{"cert_expired", "version_missing"}, verdict: Bad},

		{about: "13 days of 90", six: changes{func(a *Address) { a.TLS.Certificates[0].NotAfter = noon.AddDate(0, 0, 13) }}, want: []string{"cert_expires_soon"}, verdict: Warn},
		{about: "13 days of 20", six: changes{func(a *Address) {
			a.TLS.Certificates[0].NotBefore, a.TLS.Certificates[0].NotAfter = noon.AddDate(0, 0, -7), noon.AddDate(0, 0, 13)
		}}, verdict: Good},
		{about: "one day of six", six: changes{func(a *Address) {
			a.TLS.Certificates[0].NotBefore, a.TLS.Certificates[0].NotAfter = noon.AddDate(0, 0, -5), noon.AddDate(0, 0, 1)
		}}, want: []string{"cert_expires_soon"}, verdict: Warn},

		{about: "without SNI another certificate that proves the name", six: changes{func(a *Address) {
			a.TLS.WithoutSNI, a.TLS.Default, a.TLS.defaultProves = sniOther, &Certificate{DNSNames: []string{"*.org", "example.org"}}, true
		}}, verdict: Good},
		{about: "without SNI one that does not", six: changes{func(a *Address) {
			a.TLS.WithoutSNI, a.TLS.Default = sniOther, &Certificate{DNSNames: []string{"other.example"}}
		}}, want: []string{"sni_other"}, verdict: Good},

		{about: "HTTP/2 fails at one address", six: changes{version(0, codeHTTPTimeout)}, want: []string{"http2_broken"}, verdict: Bad},
		{about: "the keys fail over HTTP/1.1", six: changes{keys(1, keysError(codeNotHTTP))}, want: []string{"http1_broken"}, verdict: Bad},
		{about: "both fail, each otherwise", six: changes{version(0, codeHTML), version(1, codeNotFound)}, four: changes{version(0, codeHTML), version(1, codeNotFound)}, want: []string{"version_html"}, verdict: Bad},
		{about: "one address has no server", six: changes{version(0, codeNotFound), version(1, codeNotFound)}, want: []string{"version_missing"}, verdict: Bad},
		{about: "the client API is no excuse for a web page", six: changes{version(0, codeHTML), version(1, codeHTML), probe(ProbeClientAPI, true)}, want: []string{"version_html"}, verdict: Bad},
		{about: "another Host says more than the client API", six: changes{version(0, codeNotFound), version(1, codeNotFound), probe(ProbeClientAPI, true), probe(ProbeHost, true)}, want: []string{"host_header"}, verdict: Bad},
		{about: "a closed connection for an unknown Host", six: changes{version(0, codeNotHTTP), version(1, codeNotHTTP), probe(ProbeHost, true)}, want: []string{"host_header"}, verdict: Bad},
		{about: "without a version the keys' failure says nothing new", six: changes{version(0, codeNotFound), version(1, codeNotFound), keys(0, keysError(codeNotFound)), keys(1, keysError(codeNotFound))}, want: []string{"version_missing"}, verdict: Bad},
		{about: "without a version, and the keys of another server", six: changes{version(0, codeNotFound), version(1, codeNotFound), keys(0, func(k *Keys) { k.ServerName = "x.example" })}, want: []string{"version_missing", "keys_wrong_name"}, verdict: Bad},

		{about: "keys: other algorithms are nobody's fault", six: changes{keys(0, func(k *Keys) {
			k.VerifyKeys = append(k.VerifyKeys, Key{ID: "x:1", Error: problem(codeKeyAlgorithm)})
		})}, want: []string{"keys_differ"}, verdict: Warn},
		{about: "keys: nothing but other algorithms", six: changes{keys(0, func(k *Keys) { k.VerifyKeys = []Key{{ID: "x:1", Error: problem(codeKeyAlgorithm)}} })}, want: []string{"keys_none"}, verdict: Bad},
		{about: "keys: one of two signatures will do", six: changes{keys(0, func(k *Keys) {
			k.VerifyKeys = append(k.VerifyKeys, Key{ID: "ed25519:2", Error: problem(codeKeyUnsigned)})
		})}, want: []string{"keys_differ"}, verdict: Warn},
		{about: "keys: a bad one beside a good one", six: changes{keys(0, func(k *Keys) {
			k.VerifyKeys = append(k.VerifyKeys, Key{ID: "ed25519:2", Error: problem(codeKeySignature)})
		})}, want: []string{"keys_bad_signature"}, verdict: Bad},
		{about: "keys: expired, and of another server", six: changes{keys(0, func(k *Keys) { k.ServerName, k.ValidUntil = "x.example", noon })}, want: []string{"keys_wrong_name", "keys_expired"}, verdict: Bad},
		{about: "keys: wrong over one protocol", six: changes{keys(1, func(k *Keys) { k.ServerName = "x.example" })}, want: []string{"keys_wrong_name"}, verdict: Bad},
		{about: "keys: too many", six: changes{keys(0, keysError(codeTooLarge)), keys(1, keysError(codeTooLarge))}, want: []string{"keys_not_json"}, verdict: Bad},

		{about: "a clock", six: changes{func(a *Address) { a.HTTP[0].Version.ClockSkew = Duration(-61 * time.Second) }}, want: []string{"clock_wrong"}, verdict: Warn},
		{about: "a clock that is nearly right", six: changes{func(a *Address) { a.HTTP[0].Version.ClockSkew = Duration(time.Minute) }}, verdict: Good},
		{about: "slow keys", six: changes{func(a *Address) { a.HTTP[0].Keys.Duration = Duration(3001 * time.Millisecond) }}, want: []string{"slow_answer"}, verdict: Warn},

		{about: "nothing is wrong, and nothing works: never good", report: func(r *Report) {
			for i := range r.Targets[0].Addresses {
				r.Targets[0].Addresses[i].OK = false
			}
		}, want: []string{"check_timeout"}, verdict: Bad},
		{about: "a target without an address that anybody tried", report: func(r *Report) { r.Targets[0].Addresses = nil }, want: []string{"check_timeout"}, verdict: Bad},
		{about: "a private address beside", report: func(r *Report) {
			r.Resolution.Located[0].Refused = []resolver.Refused{{Addr: netip.MustParseAddr("10.0.0.1"), Reason: "Private-Use"}}
		}, want: []string{"address_private_some"}, verdict: Warn},
	} {
		t.Run(test.about, func(t *testing.T) {
			t.Parallel()
			report := goodReport()
			for _, change := range test.six {
				change(&report.Targets[0].Addresses[0])
			}
			for _, change := range test.four {
				change(&report.Targets[0].Addresses[1])
			}
			if test.report != nil {
				test.report(report)
			}
			judge(report, evidence{})
			var got []string
			for _, f := range report.Findings {
				if f.Code != "name_port" {
					got = append(got, f.Code)
				}
				assert.NotEmpty(t, f.Message)
				assert.NotContains(t, f.Message, "%!")
				assert.NotContains(t, strings.Join(f.Evidence, "\n"), "%!")
				assert.LessOrEqual(t, len(f.Evidence), maxEvidence)
			}
			assert.Equal(t, test.want, got)
			assert.Equal(t, test.verdict, report.Verdict, report.Summary)
			assert.NotEmpty(t, report.Summary)

			again := goodReport()
			again.Targets, again.Resolution = report.Targets, report.Resolution
			judge(again, evidence{})
			assert.Equal(t, report.Findings, again.Findings, "the same report, the same findings")
		})
	}
}

func TestJudgeNames(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, code, better string }{
		{"https://example.org", "name_is_url", "example.org"},
		{"https://example.org/", "name_is_url", "example.org"},
		{"https://example.org:8448/x", "name_is_url", "example.org:8448"},
		{"http://[2001:db8::1]:8008/_matrix", "name_is_url", "[2001:db8::1]:8008"},
		{"matrix://u/alice:example.org", "name_is_url", "u"},
		{"https://", "name_is_url", ""},
		{"@alice:example.org", "name_is_user_id", "example.org"},
		{"#room:example.org:8448", "name_is_user_id", "example.org:8448"},
		{"@alice", "name_is_user_id", ""},
		{"bücher.example", "name_not_ascii", "xn--bcher-kva.example"},
		{"BÜCHER.example", "name_not_ascii", "xn--bcher-kva.example"},
		{"例え.テスト", "name_not_ascii", "xn--r8jz45g.xn--zckzah"},
		{"пример.испытание", "name_not_ascii", "xn--e1afmkfd.xn--80akhbyknj4f"},
		{"\xff.example", "name_invalid", ""},
		{"example.org.", "name_trailing_dot", "example.org"},
		{"example.org.:8448", "name_trailing_dot", "example.org:8448"},
		{" example.org", "name_invalid", "example.org"},
		{"example.org/", "name_invalid", "example.org"},
		{"under_score.example", "name_invalid", ""},
		{"", "name_invalid", ""},
		{".", "name_invalid", ""},
		{"1.2.3", "name_invalid", ""},
	} {
		r := &Report{ServerName: test.name, CheckedAt: noon, Rules: "current", Resolution: &resolver.Report{Result: &resolver.Result{ServerName: test.name}}}
		judge(r, evidence{})
		if !assert.Len(t, r.Findings, 1, "%q", test.name) {
			continue
		}
		f := r.Findings[0]
		if test.name == "\xff.example" {
			test.code = "name_not_ascii"
		}
		assert.Equal(t, test.code, f.Code, "%q", test.name)
		got := ""
		if f.Fixes[0].Where == "shell" {
			got = strings.TrimPrefix(f.Fixes[0].Text, "mxdiscover check ")
		}
		assert.Equal(t, test.better, got, "%q", test.name)
		assert.Equal(t, Bad, r.Verdict)
		assert.Equal(t, f.Message, r.Summary)
	}
}

func TestMeant(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"https://matrix.example.org":      "matrix.example.org:443",
		"https://matrix.example.org:8448": "matrix.example.org:8448",
		"http://matrix.example.org":       "matrix.example.org",
		"matrix.example.org/path":         "matrix.example.org",
		"matrix.example.org:443/path?x#y": "matrix.example.org:443",
		"u:p@matrix.example.org:99":       "matrix.example.org:99",
		" matrix.example.org\n":           "matrix.example.org",
		"matrix.example.org:99999":        "matrix.example.org",
		"matrix.example.org:":             "matrix.example.org",
		"matrix.example.org:abc":          "matrix.example.org",
		"matrix.example.org.":             "matrix.example.org",
		"[2001:db8::1]:0":                 "[2001:db8::1]",
		"https://[2001:db8::1]":           "[2001:db8::1]:443",
		"a b":                             "",
		"$(reboot)":                       "",
		"":                                "",
		"://":                             "",
		"@":                               "",
	} {
		assert.Equal(t, want, meant(text), "%q", text)
	}
}

func TestPunycode(t *testing.T) {
	t.Parallel()
	// RFC 3492, 7.1, without its upper-case letters.
	for text, want := range map[string]string{
		"ليهمابتكلموشعربي؟":                      "egbpdaj6bu4bxfgehfvwxn",
		"他们为什么不说中文":                              "ihqwcrb4cv8a8dqg056pqjye",
		"pročprostěnemluvíčesky":                 "proprostnemluvesky-uyb24dma41a",
		"3年b組金八先生":                               "3b-ww4c5e180e575a65lsy2b",
		"安室奈美恵-with-super-monkeys":               "-with-super-monkeys-pc58ag80a8qai00g7n9n",
		"maji\u3067koi\u3059\u308b5\u79d2\u524d": "majikoi5-783gue6qz075azm5e",
	} {
		got, ok := punycode(text)
		assert.True(t, ok)
		assert.Equal(t, want, got)
	}
	_, ok := punycode("-> $1.00 <-")
	assert.False(t, ok)
}

// TestFixesAreSafe: what is to be copied has no name that is none.
func TestFixesAreSafe(t *testing.T) {
	t.Parallel()
	const evil = "a;reboot`$(x)'\"{}\n"
	var fixes []Fix
	fixes = append(fixes, proxyFixes(evil, 1)...)
	fixes = append(fixes, certificateFixes(evil, 1)...)
	fixes = append(fixes, chainFixes(evil)...)
	fixes = append(fixes, listenFixes(evil, 1, nil)...)
	for _, f := range fixes {
		assert.NotContains(t, f.Text+f.Title, "reboot")
	}
	assert.Equal(t, "[2001:db8::1]", safeHost("2001:db8::1"))
	assert.Equal(t, "HOST", safeHost("example.org:80"))
}

// TestCatalogue: every entry is complete, and all of them are in use.
func TestCatalogue(t *testing.T) {
	t.Parallel()
	list := Catalogue()
	assert.GreaterOrEqual(t, len(list), 75)
	seen := make(map[string]bool)
	for _, k := range list {
		assert.Regexp(t, `^[a-z][a-z0-9_]+$`, k.Code)
		assert.False(t, seen[k.Code], "%s stands twice", k.Code)
		seen[k.Code] = true
		assert.Contains(t, []Severity{SeverityError, SeverityWarning, SeverityNotice}, k.Severity)
		for _, text := range []string{k.Title, k.Why, k.Cure, k.Section, string(k.Area)} {
			assert.NotEmpty(t, text, k.Code)
		}
		assert.False(t, strings.HasSuffix(k.Title, "."), k.Code)
		assert.True(t, strings.HasSuffix(k.Why, ".") && strings.HasSuffix(k.Cure, "."), k.Code)
		u, err := url.Parse(k.URL)
		require.NoError(t, err)
		assert.Contains(t, []string{"spec.matrix.org", "www.rfc-editor.org"}, u.Host)
		got, ok := Explain(k.Code)
		assert.True(t, ok)
		assert.Equal(t, k, got)
	}
	_, ok := Explain("nothing")
	assert.False(t, ok)
}

// TestCodes: whatever the judge may find is in the catalogue, and it may find
// everything that is.
func TestCodes(t *testing.T) {
	t.Parallel()
	fset := token.NewFileSet()
	names, err := filepath.Glob("*.go")
	require.NoError(t, err)
	used := make(map[string]bool)
	code := regexp.MustCompile(`^[a-z0-9]+(_[a-z0-9]+)+$`)
	look := func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field:
			return n.Tag == nil // keys of JSON
		case *ast.BasicLit:
			if text, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING && code.MatchString(text) {
				used[text] = true
			}
		case *ast.CallExpr:
			name, ok := n.Fun.(*ast.SelectorExpr)
			if !ok || name.Sel.Name != "add" || len(n.Args) < 3 {
				return true
			}
			if literal, ok := n.Args[0].(*ast.BasicLit); ok {
				text, _ := strconv.Unquote(literal.Value)
				_, known := Explain(text)
				assert.True(t, known, "%s: %s is not in the catalogue", fset.Position(n.Pos()), text)
			}
		}
		return true
	}
	for _, name := range names {
		if name == "catalogue.go" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, look)
	}
	for _, c := range []string{codeExpired, codeNotYet, codeSelfSigned, codeUntrusted, codeChain} { // certificateCode
		used["well_known_"+c] = true
	}
	for _, k := range Catalogue() {
		assert.True(t, used[k.Code], "nothing finds %s", k.Code)
		delete(used, k.Code)
	}
	// What is left are the codes of problems, and they have a finding.
	for _, left := range []string{codeTLSReset, codeNoRoute, codeConnect, codeTooLarge, codeNotFound, codeBadGateway, codeStatus, codeNotJSON,
		codeKeySignature, codeKeyAlgorithm, string(ProbePort443), string(ProbeClientAPI), string(ProbeOldTLS), string(ProbePlainHTTP),
		string(EventWellKnown), "m_server"} {
		delete(used, left)
	}
	assert.Empty(t, used)
}

// TestBound: what one address can put into a report.
func TestBound(t *testing.T) {
	t.Parallel()
	for about, ugly := range map[string]string{"control characters": strings.Repeat("\x01", 60000), "letters": strings.Repeat("x", 60000), "quotes": strings.Repeat("\"", 60000), "tags": strings.Repeat("<", 60000)} {
		cert := &x509.Certificate{
			DNSNames: slices.Repeat([]string{ugly}, 200), Subject: pkix.Name{CommonName: ugly, Organization: []string{ugly}}, Issuer: pkix.Name{CommonName: ugly},
			IPAddresses: slices.Repeat([]net.IP{net.ParseIP("2001:db8:1111:2222:3333:4444:5555:6666")}, 200),
			NotAfter:    noon,
		}
		var seen TLS
		seen.show(slices.Repeat([]*x509.Certificate{cert}, 30), x509.NewCertPool(), noon)
		assert.NotEmpty(t, seen.Problems)
		list := make(map[string]any)
		for i := range 20 { // more do not fit into a document
			list[fmt.Sprint(ugly[:90], i)] = map[string]any{"key": ugly[:100]}
		}
		keys, err := json.Marshal(map[string]any{"server_name": ugly[:300], "valid_until_ts": 1, "verify_keys": list, "old_verify_keys": list})
		require.NoError(t, err)
		answer := Answer{Status: 200, ContentType: short(ugly), ServedBy: short(ugly), Date: noon, ClockSkew: 1}
		version, err := json.Marshal(map[string]any{"server": map[string]any{"name": ugly[:5000], "version": ugly[:5000]}})
		require.NoError(t, err)
		h := HTTP{Protocol: "http/1.1", Version: readVersion(answer, version), Keys: readKeys(answer, keys)}
		require.Len(t, h.Keys.VerifyKeys, maxKeys, about)
		a := Address{TLS: &seen, HTTP: []HTTP{h, h}}
		text, err := json.Marshal(a)
		require.NoError(t, err)
		t.Logf("%s: %d bytes", about, len(text))
		assert.Less(t, len(text), 96<<10, about)
	}
}

// An answer about the version may be anything.
func FuzzVersion(f *testing.F) {
	for _, seed := range []string{
		`{"server":{"name":"Synapse","version":"1.100"}}`, `{"server":{}}`, `{"server":[]}`, `{"server":null}`, `{}`, `[]`, `null`, ``, `<html>`, "\ufeff{}", "\xff",
		`{"Server":{"Name":"x"}}`, `{"server":{"name":1}}`, `{"server":{"name":"\u001b[31m\n"}}`, strings.Repeat("{", 1000), `{"server":{"name":"` + strings.Repeat("x", 999) + `"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		v := readVersion(Answer{Status: 200}, body)
		for _, text := range []string{v.Name, v.Server} {
			assert.LessOrEqual(t, len(text), 10*maxText)
			assert.False(t, strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }), "%q", text)
		}
		if v.Error != nil {
			assert.Empty(t, v.Name+v.Server)
			assert.Contains(t, []string{codeNotJSON, codeHTML}, v.Error.Code)
			assert.LessOrEqual(t, len(v.Error.Message), 400)
		}
	})
}

// So may a document with keys, and one that delegates.
func FuzzDocuments(f *testing.F) {
	for _, seed := range []string{
		`{"m.server":"https://x.example"}`, `{"server":"x.example"}`, `{"m.server":1}`, `{"M.Server":"x"}`, `{"m.server":"x:99999"}`, `{"m.server":"$(reboot)"}`,
		`{"server_name":"x","valid_until_ts":1,"verify_keys":{"ed25519:1":{"key":"AA"}},"signatures":{"x":{"ed25519:1":"\n"}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, s := range []slip{missing(body), invalid(body)} {
			_, known := Explain(s.code)
			assert.True(t, known, s.code)
			if s.meant != "" {
				_, err := servername.Parse(s.meant)
				assert.NoError(t, err)
			}
		}
		k := readKeys(Answer{Status: 200}, body)
		assert.LessOrEqual(t, len(k.VerifyKeys), maxKeys)
		for _, key := range k.VerifyKeys {
			for _, text := range []string{key.ID, key.Public, key.Signature, k.ServerName} {
				assert.False(t, strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }), "%q", text)
			}
		}
		keyFaults(k, "x", noon)
	})
}

// And what a person types.
func FuzzName(f *testing.F) {
	for _, seed := range []string{"example.org", "https://example.org", "@a:b", "bücher.example", "x.", "\x1b", "", "例え", "[::1]:0", "a:b:c", "xn--\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if _, err := servername.Parse(name); err == nil {
			return
		}
		r := &Report{ServerName: name, CheckedAt: noon, Rules: "current", Resolution: &resolver.Report{Result: &resolver.Result{ServerName: name}}}
		judge(r, evidence{})
		require.Len(t, r.Findings, 1)
		if fix := r.Findings[0].Fixes[0]; fix.Where == "shell" {
			_, err := servername.Parse(strings.TrimPrefix(fix.Text, "mxdiscover check "))
			assert.NoError(t, err)
		}
		assert.LessOrEqual(t, len(r.Summary), 400)
	})
}
