package main

import (
	"net/netip"
	"time"

	"mxdiscover/check"
	"mxdiscover/resolver"
)

// noon is when the hand-made reports were made.
var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

const ms = check.Duration(time.Millisecond)

func ptr[T any](v T) *T { return &v }

// goodReport is the report of a name that is delegated to a host with two
// addresses.
func goodReport() *check.Report {
	address := func(text string) check.Address {
		answer := check.Answer{Status: 200, ContentType: "application/json", Date: noon, Duration: 4 * ms}
		http := func(protocol string) check.HTTP {
			return check.HTTP{
				Protocol: protocol,
				Version:  check.Version{Answer: answer, Name: "Synapse", Server: "1.139.0"},
				Keys: check.Keys{Answer: answer, ServerName: "example.org", ValidUntil: noon.Add(24 * time.Hour),
					VerifyKeys: []check.Key{{ID: "ed25519:a_1", Public: "l8Hft5qXKn1vfHrg3p4+W8gELQVo8N13JkluMfmn2sQ", Signed: true}}},
			}
		}
		return check.Address{
			Address: netip.MustParseAddrPort(text), OK: true, TCP: check.Phase{Duration: 12 * ms},
			TLS: &check.TLS{
				Phase: check.Phase{Duration: 1500 * ms}, Version: "TLS 1.3", CipherSuite: "TLS_AES_128_GCM_SHA256", ALPN: "h2",
				SNI: "matrix.example.org", Name: "matrix.example.org", Verified: true, WithoutSNI: "same",
				Certificates: []check.Certificate{
					{Subject: "matrix.example.org", Issuer: "E7", DNSNames: []string{"matrix.example.org"}, NotBefore: noon.AddDate(0, -1, 0), NotAfter: noon.AddDate(0, 2, 0), Key: "ECDSA P-256", SHA256: "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"},
					{Subject: "E7", Issuer: "ISRG Root X1", NotBefore: noon.AddDate(-1, 0, 0), NotAfter: noon.AddDate(1, 0, 0), Key: "ECDSA P-384", SHA256: "ff"},
				},
			},
			HTTP: []check.HTTP{http("h2"), http("http/1.1")},
		}
	}
	return &check.Report{
		Version: check.SchemaVersion, ServerName: "example.org", Verdict: check.Good, CheckedAt: noon, Duration: 1600 * ms, Rules: "current",
		Summary: "Other servers reach example.org at matrix.example.org:443, over IPv4 and IPv6.",
		Resolution: &resolver.Report{Result: &resolver.Result{
			ServerName: "example.org", Step: "3.2", Host: "matrix.example.org:443", TLSName: "matrix.example.org", SNI: "matrix.example.org",
			Targets: []resolver.Target{{Host: "matrix.example.org", Port: 443}},
		}},
		Ways: []check.Way{
			{Rule: "1", Outcome: resolver.Skipped, Reason: "the name is no IP address"},
			{Rule: "2", Outcome: resolver.Skipped, Reason: "the name has no port"},
			{Rule: "3", Outcome: resolver.Used, Query: "GET https://example.org/.well-known/matrix/server", Reason: "m.server = matrix.example.org:443"},
			{Rule: "3.2", Outcome: resolver.Used, Reason: "the delegated name has a port", Targets: []string{"matrix.example.org:443"}},
			{Rule: "4", Outcome: resolver.Skipped, Query: "SRV _matrix-fed._tcp.example.org", Reason: "well-known decides", Targets: []string{"old.example.org:8448"}, Agrees: ptr(false)},
			{Rule: "5", Outcome: resolver.Skipped, Reason: "well-known decides"},
			{Rule: "6", Outcome: resolver.Skipped, Reason: "well-known decides"},
		},
		WellKnown: []check.WellKnown{{
			Address: netip.MustParseAddrPort("203.0.113.20:443"), Server: "matrix.example.org:443", Lifetime: check.Duration(24 * time.Hour), Duration: 9 * ms,
			Hops: []check.Hop{{URL: "https://example.org/.well-known/matrix/server", Address: netip.MustParseAddrPort("203.0.113.20:443"), Status: 200, ContentType: "application/json", Duration: 9 * ms}},
		}},
		Findings: []check.Finding{},
		Targets:  []check.Target{{Host: "matrix.example.org", Port: 443, Addresses: []check.Address{address("[2001:db8::12]:443"), address("203.0.113.12:443")}}},
	}
}

// badReport has a well-known document in HTML, and a closed port.
func badReport() *check.Report {
	refused := &check.Problem{Code: "connect_refused", Message: "connection refused"}
	return &check.Report{
		Version: check.SchemaVersion, ServerName: "page.example", Verdict: check.Bad, CheckedAt: noon, Duration: 30 * ms, Rules: "current",
		Summary: "No server can connect: nobody listens on port 8448 of 203.0.113.7.",
		Resolution: &resolver.Report{Result: &resolver.Result{
			ServerName: "page.example", Step: "6", Host: "page.example", TLSName: "page.example", SNI: "page.example",
			Targets: []resolver.Target{{Host: "page.example", Port: 8448}},
		}},
		Ways: []check.Way{
			{Rule: "3", Outcome: resolver.Invalid, Query: "GET https://page.example/.well-known/matrix/server", Reason: "the body is HTML, not JSON"},
			{Rule: "6", Outcome: resolver.Used, Reason: "no SRV record", Targets: []string{"page.example:8448"}},
		},
		WellKnown: []check.WellKnown{{
			Address: netip.MustParseAddrPort("203.0.113.7:443"), Duration: 9 * ms, Error: &check.Problem{Code: "not_json", Message: "the body is HTML, not JSON"},
			Hops: []check.Hop{{URL: "https://page.example/.well-known/matrix/server", Status: 200}},
		}},
		Targets: []check.Target{{Host: "page.example", Port: 8448,
			Refused: []resolver.Refused{{Addr: netip.MustParseAddr("10.0.0.8"), Reason: "Private-Use (RFC 1918)"}},
			Addresses: []check.Address{{Address: netip.MustParseAddrPort("203.0.113.7:8448"), TCP: check.Phase{Duration: ms / 2, Error: refused},
				Probes: []check.Probe{{Kind: check.ProbePort443, Query: "GET https://page.example:443/_matrix/federation/v1/version", Value: "443", Status: 200, Matrix: true, Detail: "Synapse 1.139.0", Duration: 7 * ms}}}}}},
		Findings: []check.Finding{
			{
				Code: "connect_refused", Severity: check.SeverityError, About: "203.0.113.7:8448",
				Message:  "Nobody listens on port 8448 of 203.0.113.7, where servers connect to reach page.example.",
				Evidence: []string{"TCP 203.0.113.7:8448 -> connection refused"},
				Fixes: []check.Fix{
					{Title: "Let the web server that listens on port 443 answer for the federation too, and delegate to it.", Where: "json", Text: `{"m.server":"page.example:443"}` + "\n"},
					{Title: "Open port 8448.", Where: "nginx", Text: "server {\n    listen 8448 ssl;\n    # a line that is much longer than what a terminal shows and that must not be broken in spite of that\n}"},
				},
				Section: "Server-Server API, Resolving server names, 6", URL: "https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names",
			},
			{
				Code: "well_known_html", Severity: check.SeverityWarning, About: "page.example",
				Message:  "A web page answers in place of the well-known document.",
				Evidence: []string{"GET https://page.example/.well-known/matrix/server -> 200 text/html"},
				Fixes:    []check.Fix{{Title: "Answer with status 404."}},
				Section:  "Server-Server API, Resolving server names, 3", URL: "https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names",
			},
			{Code: "ipv4_only", Severity: check.SeverityNotice, Message: "page.example has no IPv6 address.", Section: "x", URL: "https://spec.matrix.org/"},
		},
	}
}

// hostileReport has in every text of badReport what a terminal would obey.
func hostileReport() *check.Report {
	const evil = "\x1b[31mred\r\nerror: forged\u202e\u009b"
	r := badReport()
	r.ServerName += evil
	r.Summary += evil
	for i := range r.Ways {
		r.Ways[i].Query, r.Ways[i].Reason, r.Ways[i].Targets = r.Ways[i].Query+evil, evil, []string{evil}
	}
	r.WellKnown[0].Error.Message = evil
	r.WellKnown = append(r.WellKnown, check.WellKnown{Address: r.WellKnown[0].Address, Server: evil, Hops: []check.Hop{{}, {URL: evil}}})
	r.Targets = append(r.Targets, goodReport().Targets...)
	for i := range r.Targets {
		t := &r.Targets[i]
		t.Host, t.Alias, t.Error = t.Host+evil, evil, &check.Problem{Message: evil}
		for j := range t.Addresses {
			a := &t.Addresses[j]
			if a.TLS == nil {
				a.TCP.Error.Message, a.Probes[0].Query, a.Probes[0].Detail = evil, evil, evil
				continue
			}
			a.TLS.Version, a.TLS.ALPN, a.TLS.Name = evil, evil, evil
			a.TLS.Certificates[0].Subject, a.TLS.Certificates[0].Issuer, a.TLS.Certificates[0].SHA256 = evil, evil, evil
			a.HTTP[0].Version.Name, a.HTTP[0].Version.Server, a.HTTP[0].Keys.ServerName, a.HTTP[0].Keys.VerifyKeys[0].ID = evil, evil, evil, evil
			a.HTTP[1].Version.Error = &check.Problem{Message: evil}
		}
	}
	for i := range r.Findings {
		f := &r.Findings[i]
		f.Code, f.About, f.Message, f.Evidence, f.Section, f.URL = f.Code+evil, evil, evil, []string{evil}, evil, evil
		f.Fixes = []check.Fix{{Title: evil, Where: evil, Text: evil}}
	}
	return r
}
