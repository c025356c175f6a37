package web_test

import (
	"bytes"
	"io/fs"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/check"
	"mxdiscover/resolver"
	"mxdiscover/serve/web"
	"mxdiscover/wellknown/client"
)

func Example() {
	page := &web.Page{Name: "example.org", Report: &check.Report{Verdict: check.Good}}
	var html bytes.Buffer
	if err := page.Write(&html); err != nil {
		panic(err)
	}
	title, _, _ := strings.Cut(html.String()[strings.Index(html.String(), "<title>"):], "\n")
	os.Stdout.WriteString(title)
	// Output: <title>GOOD: example.org – mxdiscover</title>
}

var now = time.Date(2026, 11, 21, 7, 33, 0, 0, time.UTC)

func render(t *testing.T, page *web.Page) string {
	t.Helper()
	var whole, parts bytes.Buffer
	require.NoError(t, page.Write(&whole))
	require.NoError(t, page.Begin(&parts))
	require.NoError(t, page.End(&parts))
	// What Begin adds is the running check alone.
	top, rest, ok := strings.Cut(parts.String(), `<section id="running"`)
	require.True(t, ok)
	require.Contains(t, top, `<form id="ask"`)
	if _, result, ok := strings.Cut(rest, `<section id="result"`); ok {
		_, same, _ := strings.Cut(whole.String(), `<section id="result"`)
		require.Equal(t, same, result)
	}
	return whole.String()
}

// text is what a page says, without its elements.
func text(html string) string {
	html = regexp.MustCompile(`<[^>]*>`).ReplaceAllString(html, " ")
	return strings.Join(strings.Fields(strings.NewReplacer("&#34;", `"`, "&#39;", "'", "&amp;", "&", "&lt;", "<", "&gt;", ">").Replace(html)), " ")
}

// stage is the part of a page that shows one stage.
func stage(t *testing.T, html, id string) string {
	t.Helper()
	_, result, ok := strings.Cut(html, `<section id="result"`)
	require.True(t, ok)
	_, rest, ok := strings.Cut(result, `<li id="way-`+id+`" class="`)
	require.True(t, ok, id)
	part, _, _ := strings.Cut(rest, "\n<li id=\"way-")
	return strings.ReplaceAll(part, `" data-stage="`+id+`">`, " <>")
}

func address(at string) check.Address {
	http := func(protocol string) check.HTTP {
		return check.HTTP{
			Protocol: protocol,
			Version:  check.Version{Answer: check.Answer{Status: 200, ServedBy: "nginx"}, Name: "Synapse", Server: "1.121"},
			Keys: check.Keys{Answer: check.Answer{Status: 200}, ServerName: "example.org", ValidUntil: now.Add(24 * time.Hour),
				VerifyKeys: []check.Key{{ID: "ed25519:a", Signed: true}}},
		}
	}
	return check.Address{
		Address: netip.MustParseAddrPort(at), OK: true,
		TCP: check.Phase{Duration: check.Duration(12 * time.Millisecond)},
		TLS: &check.TLS{Version: "TLS 1.3", ALPN: "h2", Name: "matrix.example.org", Verified: true, Certificates: []check.Certificate{{
			Subject: "CN=matrix.example.org", Issuer: "CN=R11", DNSNames: []string{"matrix.example.org"},
			NotBefore: now.AddDate(0, 0, -50), NotAfter: now.AddDate(0, 0, 40), Key: "ECDSA P-256", SHA256: "00ff",
		}}},
		HTTP: []check.HTTP{http("h2"), http("http/1.1")},
	}
}

func report() *check.Report {
	other := false
	known := func(at string) check.WellKnown {
		return check.WellKnown{Address: netip.MustParseAddrPort(at), Server: "matrix.example.org:443", Lifetime: check.Duration(24 * time.Hour),
			Hops: []check.Hop{{URL: "https://example.org/.well-known/matrix/server", Status: 200, ContentType: "application/json"}}}
	}
	return &check.Report{
		ServerName: "example.org", Verdict: check.Good, Summary: "Other servers reach example.org.", CheckedAt: now, Duration: check.Duration(1300 * time.Millisecond),
		Resolution: &resolver.Report{Result: &resolver.Result{ServerName: "example.org", Step: "3.2", Host: "matrix.example.org:443", TLSName: "matrix.example.org", SNI: "matrix.example.org"}},
		Ways: []check.Way{
			{Rule: "3", Query: "GET https://example.org/.well-known/matrix/server", Outcome: resolver.Used, Reason: "m.server = matrix.example.org:443"},
			{Rule: "3.2", Outcome: resolver.Used, Targets: []string{"matrix.example.org:443"}},
			{Rule: "3.3", Outcome: resolver.Skipped, Reason: "the delegated name has a port: SRV is not asked"},
			{Rule: "4", Query: "SRV _matrix-fed._tcp.example.org", Outcome: resolver.Skipped, Reason: "well-known decides", Targets: []string{"old.example.org:8448"}, Agrees: &other},
		},
		WellKnown: []check.WellKnown{known("[2001:db8::20]:443"), known("203.0.113.20:443")},
		Targets:   []check.Target{{Host: "matrix.example.org", Port: 443, Addresses: []check.Address{address("[2001:db8::7]:443"), address("203.0.113.7:443")}}},
		Findings: []check.Finding{{Code: "srv_ignored", Severity: check.SeverityNotice, Message: "The SRV record is ignored.",
			Section: "Server-Server API", URL: "https://spec.matrix.org/v1.19/server-server-api/"}},
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		page    web.Page
		title   string
		says    []string
		omitted []string
	}{
		"nothing asked": {
			title: "Where does a Matrix name lead?",
			says:  []string{"Type a server name.", "What is looked at", "Name Is it a server name", "Matrix Does a homeserver answer"},
		},
		"good": {
			page:  web.Page{Name: "example.org", Report: report(), Age: 12 * time.Second},
			title: "GOOD: example.org",
			says: []string{
				"GOOD example.org", "Other servers reach example.org.", "Checked 12 seconds ago , took 1.3 s", "By the rules of 2019",
				"Host header matrix.example.org:443", "Good to know notice: The SRV record is ignored.",
				"4 skipped SRV _matrix-fed._tcp.example.org well-known decides old.example.org:8448 leads elsewhere",
				"How clients find it Nobody asked.",
			},
			omitted: []string{"What to change", "Type a server name."},
		},
		"no verdict is no good news": {
			page:  web.Page{Name: "example.org", Report: &check.Report{ServerName: "example.org"}},
			title: ": example.org",
			says:  []string{"Checked just now"},
		},
		"by the draft": {
			page:  web.Page{Name: "example.org", Rules: "draft-2019", Report: report()},
			title: "GOOD: example.org",
			says:  []string{"By today’s rules"},
		},
		"too many": {
			page:    web.Page{Name: "example.org", Err: &web.Error{Status: 429, Message: "You have asked for many checks.", RetryAfter: 1500 * time.Millisecond}},
			title:   "No answer: example.org",
			says:    []string{"Too many questions", "You have asked for many checks. Try again in 2 seconds."},
			omitted: []string{"What is looked at"},
		},
		"no name": {
			page:  web.Page{Err: &web.Error{Status: 400}},
			title: "No answer: Where does a Matrix name lead?",
			says:  []string{"That was not a question", "The check could not be made.", "Start again"},
		},
		"busy":     {page: web.Page{Name: "a", Err: &web.Error{Status: 503}}, title: "No answer: a", says: []string{"Too busy"}},
		"internal": {page: web.Page{Name: "a", Err: &web.Error{Status: 500}}, title: "No answer: a", says: []string{"No answer The check"}},
		"a finding": {
			page: web.Page{Name: "example.org", Report: &check.Report{Verdict: check.Bad, Findings: []check.Finding{{
				Code: "x", Severity: check.SeverityError, Message: "It is broken.", Evidence: []string{"GET x: 500"}, Section: "RFC 1", URL: "https://www.rfc-editor.org/rfc/rfc1",
				Fixes: []check.Fix{{Title: "Mend it.", Where: "nginx", Text: "listen 443;\nlisten [::]:443;"}},
			}}}},
			title: "BAD: example.org",
			says:  []string{"What to change error: It is broken. Mend it. nginx", "listen 443; listen [::]:443;", "Evidence GET x: 500", "x · RFC 1"},
		},
		"clients": {
			page: web.Page{Name: "example.org", Report: report(), Client: &client.Discovery{
				State:      client.Success,
				Homeserver: client.Section{State: client.Success, BaseURL: "https://matrix.example.org", Versions: []string{"v1.1", "v1.2"}},
				Warnings:   []client.Warning{{Code: "cors_missing", Message: "no browser can read it"}},
				Steps:      []client.Step{{Query: "GET https://example.org/", Outcome: client.Used, Detail: "200"}},
			}},
			title: "GOOD: example.org",
			says: []string{"warning: Clients find the homeserver, but something should be changed.", "Homeserver https://matrix.example.org", "Speaks v1.1, v1.2",
				"cors_missing no browser can read it", "GET https://example.org/ used: 200"},
		},
		"clients find it": {
			page:  web.Page{Name: "example.org", Report: report(), Client: &client.Discovery{State: client.Success}},
			title: "GOOD: example.org",
			says:  []string{"good: Clients find the homeserver by themselves."},
		},
		"clients find nothing": {
			page:  web.Page{Name: "example.org", Report: report(), Client: &client.Discovery{State: client.Ignore, Error: &client.Reason{Message: "404"}}},
			title: "GOOD: example.org",
			says:  []string{"not needed: Nothing is published for clients", "404"},
		},
		"clients fail": {
			page:  web.Page{Name: "example.org", Report: report(), Client: &client.Discovery{State: client.FailError, Error: &client.Reason{Message: "versions is not JSON"}}},
			title: "GOOD: example.org",
			says:  []string{"error: Clients stop with an error", "versions is not JSON"},
		},
		"clients ask": {
			page:  web.Page{Name: "example.org", Report: report(), Client: &client.Discovery{State: client.FailPrompt}},
			title: "GOOD: example.org",
			says:  []string{"warning: Discovery fails: clients ask the user"},
		},
		"an identity server that fails": {
			page: web.Page{Name: "example.org", Report: report(), Client: &client.Discovery{State: client.Success,
				IdentityServer: client.Section{State: client.FailPrompt, Reason: &client.Reason{Message: "the identity server is gone"}}}},
			title: "GOOD: example.org",
			says:  []string{"warning: Clients find", "Identity server the identity server is gone"},
		},
		"a long name": {
			page:  web.Page{Name: strings.Repeat("a", 300), Report: report()},
			title: "GOOD: " + strings.Repeat("a", 80) + "…",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			html := render(t, &test.page)
			assert.Contains(t, html, "<title>"+test.title+" – mxdiscover</title>")
			for _, s := range test.says {
				assert.Contains(t, text(html), s)
			}
			for _, s := range test.omitted {
				assert.NotContains(t, text(html), s)
			}
		})
	}
}

func TestStages(t *testing.T) {
	t.Parallel()
	edit := func(change func(*check.Report)) *check.Report {
		r := report()
		change(r)
		return r
	}
	failed := func(message string) *check.Problem { return &check.Problem{Code: "x", Message: message} }
	for name, test := range map[string]struct {
		report *check.Report
		want   map[string]string // of a stage, its class and how its text begins
	}{
		"good": {report(), map[string]string{
			"name":       "good <> Name : good A host name without a port",
			"well-known": "good <> Well-known : good It delegates to matrix.example.org:443. good: [2001:db8::20]:443 , 203.0.113.20:443 m.server = matrix.example.org:443 GET https://example.org/.well-known/matrix/server: 200 application/json kept for 24 hours",
			"srv":        "off <> SRV : not needed The delegated name has a port: SRV is not asked. not needed: SRV _matrix-fed._tcp.example.org old.example.org:8448 well-known decides",
			"addresses":  "good <> Addresses : good Connect to matrix.example.org:443 by rule 3.2: well-known delegates to a host and port. good: [2001:db8::7]:443 , 203.0.113.7:443 connected in 12 ms",
			"tls":        "good <> TLS : good Every certificate proves matrix.example.org. good: [2001:db8::7]:443 , 203.0.113.7:443 the certificate proves matrix.example.org TLS 1.3, h2 issued by CN=R11 good until 2026-12-31, 40 days Certificates of [2001:db8::7]:443 Subject CN=matrix.example.org",
			"matrix":     "good <> Matrix : good A homeserver answers. good: [2001:db8::7]:443 , 203.0.113.7:443 Synapse 1.121 over HTTP/2 and HTTP/1.1 served by nginx keys of example.org, good until 2026-11-22, 24 hours ed25519:a has signed them",
		}},
		"nothing": {&check.Report{}, map[string]string{
			"name": "off <> Name : not needed It leads nowhere.", "well-known": "off <> Well-known : not needed Not asked.", "srv": "off <> SRV : not needed Not asked.",
			"addresses": "off <> Addresses : not needed Not reached.", "tls": "off <> TLS : not needed Not reached.", "matrix": "off <> Matrix : not needed Not reached.",
		}},
		"an address": {edit(func(r *check.Report) { r.Resolution.Step = "1"; r.Ways, r.WellKnown = nil, nil }), map[string]string{
			"name": "good <> Name : good An IP address.", "well-known": "off <> Well-known : not needed Not asked.",
		}},
		"a port": {edit(func(r *check.Report) { r.Resolution.Step = "2" }), map[string]string{"name": "good <> Name : good A host name with a port"}},
		"no delegation": {edit(func(r *check.Report) {
			r.Ways = []check.Way{
				{Rule: "3", Query: "GET x", Outcome: resolver.Absent},
				{Rule: "4", Query: "SRV _matrix-fed._tcp.example.org", Outcome: resolver.Absent},
				{Rule: "5", Query: "SRV _matrix._tcp.example.org", Outcome: resolver.Used, Targets: []string{"a:1", "b:2"}},
			}
			r.WellKnown = []check.WellKnown{{Address: netip.MustParseAddrPort("203.0.113.20:443"), Error: failed("404")}}
		}), map[string]string{
			"well-known": "off <> Well-known : not needed There is no document: the name does not delegate. not needed: 203.0.113.20:443 404",
			"srv":        "good <> SRV : good The DNS names hosts and ports. not needed: SRV _matrix-fed._tcp.example.org absent good: SRV _matrix._tcp.example.org a:1, b:2",
		}},
		"what SRV would have given": {edit(func(r *check.Report) {
			r.Ways = []check.Way{
				{Rule: "3.3", Query: "SRV a", Outcome: resolver.Skipped, Reason: "the delegated name has a port"},
				{Rule: "3.4", Query: "SRV b", Outcome: resolver.Skipped, Reason: "the delegated name has a port", Targets: []string{"c:1"}},
			}
		}), map[string]string{"srv": "off <> SRV : not needed The delegated name has a port. not needed: SRV b c:1 the delegated name has a port"}},
		"only the older records": {edit(func(r *check.Report) {
			r.Ways = []check.Way{
				{Rule: "4", Outcome: resolver.Skipped, Reason: "the draft knows only _matrix._tcp"},
				{Rule: "5", Query: "SRV b", Outcome: resolver.Absent, Reason: "NXDOMAIN"},
			}
		}), map[string]string{"srv": "off <> SRV : not needed There is no record. not needed: SRV b NXDOMAIN"}},
		"DNS trouble": {edit(func(r *check.Report) {
			r.Ways = []check.Way{{Rule: "4", Query: "SRV x", Outcome: resolver.Temporary, Reason: "SERVFAIL"}}
		}), map[string]string{"srv": "warn <> SRV : warning The records could not be had, or do not count. warning: SRV x SERVFAIL"}},
		"no such service": {edit(func(r *check.Report) {
			r.Ways = []check.Way{{Rule: "4", Query: "SRV x", Outcome: resolver.Used, Reason: "the target is \".\""}}
		}), map[string]string{"srv": "warn <> SRV : warning The records name no host to connect to. warning: SRV x the target is \".\""}},
		"a document that cannot be had": {edit(func(r *check.Report) {
			r.Ways, r.WellKnown = []check.Way{{Rule: "3", Query: "GET x", Outcome: resolver.Temporary}}, r.WellKnown[:1]
			r.WellKnown[0].Server, r.WellKnown[0].Error = "", failed("timeout")
		}), map[string]string{"well-known": "warn <> Well-known : warning Nobody could say whether the name delegates. warning: [2001:db8::20]:443 timeout"}},
		"a document that does not count": {edit(func(r *check.Report) {
			r.Ways = []check.Way{{Rule: "3", Query: "GET x", Outcome: resolver.Invalid}}
		}), map[string]string{"well-known": "warn <> Well-known : warning What is there does not count."}},
		"a document that leads inside": {edit(func(r *check.Report) {
			r.Ways = []check.Way{{Rule: "3", Query: "GET x", Outcome: resolver.Denied}}
		}), map[string]string{"well-known": "warn <> Well-known : warning It leads to an address that nobody may connect to."}},
		"a document that nobody asks for": {edit(func(r *check.Report) {
			r.Ways, r.WellKnown = []check.Way{{Rule: "3", Outcome: resolver.Skipped, Reason: "the name has a port"}}, nil
		}), map[string]string{"well-known": "off <> Well-known : not needed The name has a port."}},
		"one family is dead": {edit(func(r *check.Report) {
			r.Targets[0].Addresses[0] = check.Address{Address: netip.MustParseAddrPort("[2001:db8::7]:443"), TCP: check.Phase{Error: failed("connection refused")}}
		}), map[string]string{
			"addresses": "warn <> Addresses : warning Connect to matrix.example.org:443 by rule 3.2: well-known delegates to a host and port. error: [2001:db8::7]:443 connection refused good: 203.0.113.7:443",
			"tls":       "good <> TLS",
		}},
		"a private address": {edit(func(r *check.Report) {
			r.Targets[0].Addresses = nil
			r.Targets[0].Refused = []resolver.Refused{{Addr: netip.MustParseAddr("10.0.0.1"), Reason: "private"}}
		}), map[string]string{
			"addresses": "bad <> Addresses : error Connect to matrix.example.org:443 by rule 3.2: well-known delegates to a host and port. error: 10.0.0.1 not connected to: private",
			"tls":       "off <> TLS : not needed Not reached.",
		}},
		"targets": {edit(func(r *check.Report) {
			r.Targets = append(r.Targets, check.Target{Host: "none.example", Port: 1, Error: failed("no address")})
			r.Targets[0].Alias = "alias.example"
		}), map[string]string{
			"addresses": "warn <> Addresses : warning Connect to matrix.example.org:443, none.example:1 by rule 3.2: well-known delegates to a host and port. " +
				"good: matrix.example.org:443 [2001:db8::7]:443 , matrix.example.org:443 203.0.113.7:443 connected in 12 ms matrix.example.org is an alias of alias.example error: none.example:1 no address",
		}},
		"one certificate of two": {edit(func(r *check.Report) {
			r.Targets[0].Addresses[1].TLS.Verified = false
		}), map[string]string{"tls": "warn <> TLS : warning Some addresses prove matrix.example.org, others do not."}},
		"no certificate": {edit(func(r *check.Report) {
			for i := range r.Targets[0].Addresses {
				r.Targets[0].Addresses[i].TLS = &check.TLS{Phase: check.Phase{Error: failed("no common version")}}
			}
		}), map[string]string{"tls": "bad <> TLS : error No server that sends federation traffic trusts this. error: [2001:db8::7]:443 , 203.0.113.7:443 no common version"}},
		"protocols differ": {edit(func(r *check.Report) {
			r.Targets[0].Addresses = r.Targets[0].Addresses[:1]
			r.Targets[0].Addresses[0].HTTP[0].Version.Error = failed("502")
			r.Targets[0].Addresses[0].HTTP[1].Keys = check.Keys{Answer: check.Answer{Error: failed("404")}}
		}), map[string]string{
			"matrix": "bad <> Matrix : error No homeserver answers as it should. error: [2001:db8::7]:443 502 over HTTP/2 served by nginx keys of example.org, good until 2026-11-22, 24 hours ed25519:a has signed them " +
				"error: [2001:db8::7]:443 Synapse 1.121 over HTTP/1.1 served by nginx keys: 404",
		}},
		"one answer of two": {edit(func(r *check.Report) {
			r.Targets[0].Addresses[0].HTTP[0].Version.Error = failed("502")
			r.Targets[0].Addresses[1].HTTP = r.Targets[0].Addresses[1].HTTP[:1]
			r.Targets[0].Addresses[1].HTTP[0].Version.Name = ""
			r.Targets[0].Addresses[1].HTTP[0].Keys.VerifyKeys = []check.Key{{ID: "a"}, {ID: "b", Error: failed("no base64")}}
			r.Targets[0].Addresses[1].HTTP[0].Keys.ValidUntil = now.Add(-time.Hour)
		}), map[string]string{"matrix": "warn <> Matrix : warning Some answers are right, others are not."}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			html := render(t, &web.Page{Name: "example.org", Report: test.report})
			for id, want := range test.want {
				part := stage(t, html, id)
				class, rest, _ := strings.Cut(part, " <>")
				got := class + " <> " + text(rest)
				assert.True(t, strings.HasPrefix(got, want), "%s\nwant %s", got, want)
			}
		})
	}
}

// What is found about a stage is linked from it, and decides how it stands.
func TestStagesOfFindings(t *testing.T) {
	t.Parallel()
	stages := map[check.Area]string{
		check.AreaName: "name", check.AreaWellKnown: "well-known", check.AreaSRV: "srv", check.AreaAddresses: "addresses",
		check.AreaConnection: "addresses", check.AreaTLS: "tls", check.AreaMatrix: "matrix", check.AreaKeys: "matrix", check.AreaCheck: "matrix",
	}
	catalogue := check.Catalogue()
	require.NotEmpty(t, catalogue)
	for _, kind := range catalogue {
		r := report()
		r.Findings = []check.Finding{{Code: kind.Code, Severity: check.SeverityError, Message: "wrong"}}
		html := render(t, &web.Page{Name: "example.org", Report: r})
		part := stage(t, html, stages[kind.Area])
		assert.True(t, strings.HasPrefix(part, "bad "), kind.Code)
		assert.Contains(t, part, `<a href="#finding-1">`+kind.Code+`<`)
		assert.Contains(t, html, `<article id="finding-1" class="finding bad"`)
		assert.Contains(t, text(html), kind.Why)
	}
}

// fill puts s into every string of a value.
func fill(v reflect.Value, s string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			fill(v.Elem(), s)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), s)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			fill(v.Index(i), s)
		}
	case reflect.String:
		if v.CanSet() {
			v.SetString(s)
		}
	}
}

// full is a page with something in every field that is shown.
func full(s string) *web.Page {
	r := report()
	r.Findings = []check.Finding{{Evidence: []string{""}, Fixes: []check.Fix{{}}}}
	r.Targets[0].Refused = []resolver.Refused{{Addr: netip.MustParseAddr("10.0.0.1")}}
	r.Targets[0].Addresses = append(r.Targets[0].Addresses, check.Address{TCP: check.Phase{Error: &check.Problem{}}})
	r.WellKnown = append(r.WellKnown, check.WellKnown{Error: &check.Problem{}, Hops: []check.Hop{{}}})
	page := &web.Page{Report: r, Client: &client.Discovery{
		Homeserver: client.Section{Versions: []string{""}}, IdentityServer: client.Section{Reason: &client.Reason{}}, Error: &client.Reason{},
		Warnings: []client.Warning{{}}, Steps: []client.Step{{}},
	}}
	fill(reflect.ValueOf(page), s)
	return page
}

var attacks = []string{
	`<script>alert(1)</script>`,
	`"><img src=x onerror=alert(1)>`,
	`' onmouseover='alert(1)`,
	`javascript:alert(1)`,
	`</title></textarea></style><svg/onload=alert(1)>`,
	"<!--", "-->", "]]>", "{{.Name}}", "&lt;b&gt;", "\u202ehtap\x00\x1b[31m", "\xff\xfe<b>",
	strings.Repeat("<b>", 2000),
}

// shape is all that makes elements and attributes.
func shape(html string) string {
	return regexp.MustCompile(`[^<>"]+`).ReplaceAllString(html, "")
}

func requireHarmless(t *testing.T, attack string) {
	t.Helper()
	want := render(t, full("harmless"))
	got := render(t, full(attack))
	require.Equal(t, shape(want), shape(got), "%q makes elements or ends attributes", attack)
	require.NotContains(t, got, `href="javascript:`)

	want = render(t, &web.Page{Name: "harmless", Rules: "harmless", Err: &web.Error{Status: 400, Message: "harmless"}})
	got = render(t, &web.Page{Name: attack, Rules: attack, Err: &web.Error{Status: 400, Message: attack}})
	require.Equal(t, shape(want), shape(got), "%q", attack)
}

func TestAttacksStayText(t *testing.T) {
	t.Parallel()
	for _, attack := range attacks {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			requireHarmless(t, attack)
		})
	}
}

func FuzzPage(f *testing.F) {
	for _, attack := range attacks {
		f.Add(attack)
	}
	f.Fuzz(func(t *testing.T, attack string) {
		requireHarmless(t, "x"+attack) // never empty, and no word that means something
	})
}

// Nothing inline, nothing from elsewhere: the page obeys its own policy.
func TestNothingInline(t *testing.T) {
	t.Parallel()
	html := render(t, full("x"))
	assert.NotRegexp(t, `(?i)<style|\sstyle=|\son[a-z]+=|<script>|<base|<iframe|<object|http-equiv`, html)
	for _, m := range regexp.MustCompile(`(?:src|srcset|<link[^>]* href)="([^"]*)"`).FindAllStringSubmatch(html, -1) {
		assert.Regexp(t, `^static/[a-z]+\.[a-z]+\?v=[0-9a-f]{12}$`, m[1])
		_, err := fs.Stat(web.Static(), strings.TrimPrefix(m[1][:strings.Index(m[1], "?")], "static/"))
		assert.NoError(t, err)
	}
	script, err := fs.ReadFile(web.Static(), "app.js")
	require.NoError(t, err)
	assert.NotRegexp(t, `innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser|setAttribute\("on`, string(script))
	style, err := fs.ReadFile(web.Static(), "style.css")
	require.NoError(t, err)
	assert.NotRegexp(t, `@import|url\(`, string(style))
}

func TestLink(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, rules, want string }{
		{"example.org", "", "./?name=example.org"},
		{"example.org", "current", "./?name=example.org"},
		{"[2001:db8::1]:8448", "draft-2019", "./?name=%5B2001%3Adb8%3A%3A1%5D%3A8448&rules=draft-2019"},
		{"a&b=c#d", "", "./?name=a%26b%3Dc%23d"},
	} {
		assert.Equal(t, test.want, web.Link(test.name, test.rules))
	}
}

func BenchmarkWrite(b *testing.B) {
	page := &web.Page{Name: "example.org", Report: report(), Client: &client.Discovery{State: client.Ignore}}
	b.ReportAllocs()
	for b.Loop() {
		var out bytes.Buffer
		if err := page.Write(&out); err != nil {
			b.Fatal(err)
		}
	}
}
