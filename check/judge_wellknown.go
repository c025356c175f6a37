package check

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"mxdiscover/internal/printable"
	"mxdiscover/internal/servername"
	"mxdiscover/resolver"
	"mxdiscover/wellknown"
)

// shortLife is how long a document should count at least; package wellknown takes
// nothing below five minutes, and a day is usual.
const shortLife = 10 * time.Minute

// judgeWellKnown judges the answers about /.well-known/matrix/server.
func (j *judgement) judgeWellKnown() {
	_, hasPort := j.name.Port()
	if j.name.IsIP() || hasPort {
		return
	}
	answers := slices.DeleteFunc(slices.Clone(j.WellKnown), func(w WellKnown) bool {
		return w.slip.code == codeCut || w.slip.code == codeNoRoute
	})
	if len(answers) == 0 {
		if len(j.WellKnown) == 0 {
			j.nobodyToAsk()
		}
		return
	}
	var reached, lost []WellKnown
	for _, w := range answers {
		if unreached(w) {
			lost = append(lost, w)
		} else {
			reached = append(reached, w)
		}
	}
	if len(reached) == 0 {
		j.eachDocument(lost)
		return
	}
	if len(lost) > 0 {
		j.lostDocument(lost, reached)
	}
	if j.documentsDiffer(reached) {
		return
	}
	j.eachDocument(reached)
	j.goodDocument(reached)
	j.chained()
}

// unreached reports whether there was no answer in HTTP at all.
func unreached(w WellKnown) bool {
	if w.Error == nil || len(w.Hops) > 1 {
		return false
	}
	switch wellknown.Code(w.Error.Code) {
	case wellknown.ConnectFailed, wellknown.TLSFailed, wellknown.Timeout, wellknown.NoAddress, wellknown.DNSError, wellknown.AddressDenied, wellknown.Canceled:
		return true
	}
	return false
}

// works reports whether some server is reached.
func (j *judgement) works() bool {
	return slices.ContainsFunc(j.spots(), connected)
}

// brokenDocument reports whether somebody meant to delegate, and failed.
func (j *judgement) brokenDocument() bool {
	for _, w := range j.WellKnown {
		if w.Error == nil || w.slip.code == codeCut || w.slip.code == codeNoRoute {
			return false
		}
		switch documentCode(w) {
		case "well_known_missing":
			if _, ok := misplaced(j.WellKnown); !ok {
				return false
			}
		case "well_known_connect", "well_known_timeout":
			return false
		}
	}
	return len(j.WellKnown) > 0
}

// nobodyToAsk judges a host that has no address to ask.
func (j *judgement) nobodyToAsk() {
	var failed *resolver.Error
	if !errors.As(j.nobody.Err, &failed) {
		return
	}
	line := printable.Line(wellKnownQuery(j.host) + ": " + failed.Detail)
	switch failed.Code {
	case resolver.NoAddress:
		if !j.has("target_no_address") {
			j.add("well_known_no_address", j.host, "%s has no address, so nobody can be asked for its well-known document.", j.host).because(line)
		}
	case resolver.AddressTemporary:
		if !j.has("target_dns", "srv_servfail", "srv_timeout", "srv_refused", "check_timeout") {
			j.add("well_known_dns", j.host, "The addresses of %s could not be looked up, so its well-known document is not known.", j.host).because(line).
				fix(Fix{Title: "See what the name servers of the zone say.", Where: "shell", Text: "dig +trace A " + j.host + "\ndig AAAA " + j.host})
		}
	case resolver.AddressDenied:
		if !j.has("address_private") {
			var private []string
			for _, r := range j.nobody.Refused {
				private = append(private, r.Addr.String())
			}
			f := j.add("well_known_denied", j.host, "%s has only the private address %s, so its well-known document does not count.", j.host, enumerate(private, 3)).because(line).
				fix(Fix{Title: "Publish a public address.", Where: "dns", Text: j.host + ". 3600 IN A <public IPv4 address>"})
			if !j.works() {
				f.as(SeverityError)
			}
		}
	}
}

// lostDocument judges addresses that do not answer while others do.
func (j *judgement) lostDocument(lost, reached []WellKnown) {
	code, message := "well_known_address", "%s does not answer for https://%s%s, while other addresses do: %s."
	four, six := family(documentAddrs(lost))
	_, other := family(documentAddrs(reached))
	if six && !four && !other {
		code, message = "well_known_ipv6", "The IPv6 address %s does not answer for https://%s%s, while IPv4 does: %s."
	}
	var names []string
	for _, a := range documentAddrs(lost) {
		names = append(names, a.Addr().String())
	}
	j.add(code, enumerate(names, 3), message, enumerate(names, 3), j.host, wellknown.ServerPath, lost[0].Error.Message).
		because(documentLines(lost)...).because(documentLines(reached)...).
		fix(Fix{Title: "Let the web server listen there too.", Where: "nginx", Text: "listen 443 ssl;\nlisten [::]:443 ssl;"},
			Fix{Title: "Remove the record of the address.", Where: "dns", Text: addressLines(j.host, documentAddrs(lost))})
}

func documentAddrs(list []WellKnown) []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, w := range list {
		addrs = append(addrs, w.Address)
	}
	return addrs
}

// documentsDiffer judges addresses that give different answers.
func (j *judgement) documentsDiffer(reached []WellKnown) bool {
	answer := func(w WellKnown) string {
		if w.Error == nil {
			return w.Server
		}
		return documentCode(w)
	}
	first := answer(reached[0])
	if !slices.ContainsFunc(reached, func(w WellKnown) bool { return answer(w) != first }) {
		return false
	}
	fixes := j.documentFixes("")
	fixes[0].Title = "Serve the same at every address of " + j.host + "; this, if it is what is right."
	j.add("well_known_differs", j.host, "The addresses of %s answer with different well-known documents.", j.host).
		because(documentLines(reached)...).fix(fixes...)
	return true
}

// eachDocument notes what is wrong with the answers, once for each code.
func (j *judgement) eachDocument(list []WellKnown) {
	seen := make(map[string]bool)
	for _, w := range list {
		if w.Error == nil {
			continue
		}
		code := documentCode(w)
		if seen[code] {
			continue
		}
		seen[code] = true
		j.document(code, w, list)
	}
}

// documentCode is the code of the finding for an answer that is no document.
func documentCode(w WellKnown) string {
	if w.slip.code != "" {
		return w.slip.code
	}
	switch wellknown.Code(w.Error.Code) {
	case wellknown.NotFound:
		return "well_known_missing"
	case wellknown.HTTPStatus:
		if n := len(w.Hops); n > 0 && w.Hops[n-1].Status == 410 {
			return "well_known_missing"
		}
		return "well_known_status"
	case wellknown.EmptyBody:
		return "well_known_empty"
	case wellknown.NotObject:
		return "well_known_not_object"
	case wellknown.TooLarge:
		return "well_known_too_large"
	case wellknown.RedirectInsecure:
		return "well_known_redirect_http"
	case wellknown.RedirectLoop:
		if len(w.Hops) > wellknown.MaxRedirects {
			return "well_known_redirect_many"
		}
		return "well_known_redirect_loop"
	case wellknown.RedirectInvalid:
		return "well_known_redirect_invalid"
	case wellknown.NoAddress:
		return "well_known_no_address"
	case wellknown.DNSError:
		return "well_known_dns"
	case wellknown.AddressDenied:
		return "well_known_denied"
	case wellknown.Timeout:
		return "well_known_timeout"
	case wellknown.TLSFailed:
		return certificateCode(w)
	}
	return "well_known_connect"
}

func certificateCode(w WellKnown) string {
	if w.TLS == nil || w.TLS.Error == nil {
		return "well_known_tls"
	}
	switch code := w.TLS.Error.Code; code {
	case codeExpired, codeNotYet, codeSelfSigned, codeUntrusted, codeChain:
		return "well_known_" + code
	case codeWrongName, codeCommonName:
		return "well_known_cert_name"
	}
	return "well_known_tls"
}

// document notes what is wrong with one answer.
func (j *judgement) document(code string, w WellKnown, all []WellKnown) {
	asked := "https://" + j.host + wellknown.ServerPath
	last := Hop{}
	if n := len(w.Hops); n > 0 {
		last = w.Hops[n-1]
	}
	where := cmp.Or(last.URL, asked)
	at := j.host // of whom the last hop was asked
	if u, err := url.Parse(last.URL); err == nil {
		if name, err := servername.Parse(u.Hostname()); err == nil {
			at = name.String()
		}
	}
	message := w.Error.Message
	if code == "well_known_missing" {
		if p, ok := misplaced(all); ok {
			f := j.add("well_known_wrong_path", j.host, "The well-known document is at https://%s%s, but servers ask for %s.", j.host, p.Value, asked).
				because(documentLines(all)...).because(p.Query + ": " + p.Detail).fix(j.documentFixes(strings.TrimPrefix(p.Detail, "m.server = "))...)
			j.weighDocument(f, f.Code)
			return
		}
	}
	var f *Finding
	switch code {
	case "well_known_missing":
		// Nothing to change: what works without one may stop working with a guess.
		f = j.add(code, j.host, "There is no well-known document: %s.", message)
	case "well_known_status":
		f = j.add(code, j.host, "%s is answered with %s.", where, message).fix(j.documentFixes("")...)
	case "well_known_html":
		f = j.add(code, j.host, "%s is a web page.", where).fix(j.documentFixes("")...)
	case "well_known_no_server", "well_known_key_case", "well_known_not_string", "well_known_not_object", "well_known_not_json", "well_known_empty":
		f = j.add(code, j.host, "%s does not count: %s.", where, message).fix(j.documentFixes(w.slip.meant)...)
	case "well_known_url", "well_known_path", "well_known_port", "well_known_value":
		f = j.add(code, j.host, "%s does not count: %s.", where, message).fix(j.documentFixes(w.slip.meant)...)
	case "well_known_too_large":
		f = j.add(code, j.host, "%s is too large: %s.", where, message).fix(j.documentFixes("")...)
	case "well_known_redirect_http", "well_known_redirect_loop", "well_known_redirect_many", "well_known_redirect_invalid":
		fixes := j.documentFixes("")
		// ngx_http_rewrite_module: the directives of a server come before its locations.
		fixes[1].Title = strings.TrimSuffix(fixes[1].Title, ".") + "; a return or rewrite beside the locations has to go into \"location / { }\"."
		f = j.add(code, j.host, "%s cannot be followed: %s.", asked, message).fix(fixes...)
	case "well_known_timeout":
		f = j.add(code, at, "%s does not answer: %s.", where, message).
			fix(Fix{Title: "Open port 443 in the firewall, or let it refuse connections instead of dropping them.", Where: "shell", Text: "ss -ltnp 'sport = :443'"})
	case "well_known_connect":
		f = j.add(code, at, "Nobody can connect to the host of %s: %s.", where, message).
			fix(Fix{Title: "If there shall be a delegation, let a web server listen there.", Where: "nginx", Text: "listen 443 ssl;\nlisten [::]:443 ssl;"})
	case "well_known_no_address", "well_known_dns", "well_known_denied": // of the target of a redirect
		f = j.add(code, at, "%s cannot be fetched: %s.", where, message).fix(j.documentFixes("")...)
	case "well_known_cert_chain":
		f = j.add(code, at, "%s does not count: %s.", where, w.TLS.Error.Message).fix(chainFixes(at)...)
	case "well_known_tls":
		f = j.add(code, at, "%s cannot be fetched: %s.", where, message).
			fix(Fix{Title: "Try it from the outside.", Where: "shell", Text: handshakeCommand(hostPort(strings.Trim(at, "[]"), defaultHTTPS), sniFor(strings.Trim(at, "[]")))},
				Fix{Title: "Enable today's TLS.", Where: "nginx", Text: "listen 443 ssl;\nssl_protocols TLSv1.2 TLSv1.3;"})
	default: // certificates
		f = j.add(code, at, "%s does not count: %s.", where, w.TLS.Error.Message).fix(renewFixes(at)...)
		if at == j.host {
			caddy := j.documentFixes("")[2]
			caddy.Title = "Let Caddy serve it: it gets the certificate and renews it by itself."
			f.fix(caddy)
		}
	}
	f.because(documentLines(all)...)
	if w.TLS != nil && w.TLS.Error != nil && len(w.TLS.Certificates) > 0 {
		leaf := w.TLS.Certificates[0]
		f.because(fmt.Sprintf("certificate of %s: for %s, by %s, until %s", at, namesOf(leaf), leaf.Issuer, leaf.NotAfter.Format(stamp)))
	}
	j.weighDocument(f, code)
}

// weighDocument says how bad an answer is: what nobody needs is a notice, and what
// keeps everybody away is an error.
func (j *judgement) weighDocument(f *Finding, code string) {
	ended := j.Resolution.Step == "3" && j.Resolution.Err != nil // Draft 2019, step 3
	switch {
	case code == "well_known_missing":
	case ended, !j.works() && j.brokenDocument() && j.Resolution.Step == "6":
		f.as(SeverityError)
	case code == "well_known_connect" && len(j.WellKnown[0].Hops) == 1:
		f.as(SeverityNotice) // 4 to 6: nobody waits, and nothing was promised
	case code == "well_known_no_address":
		f.as(SeverityWarning) // a redirect leads there
	}
	if f.Severity == SeverityError && !ended {
		f.Message = strings.TrimSuffix(f.Message, ".") + "; and nobody listens at port 8448, where servers go without it."
	}
}

// misplaced is the path where the document is instead.
func misplaced(list []WellKnown) (Probe, bool) {
	for _, w := range list {
		for _, p := range w.Probes {
			if p.Matrix {
				return p, true
			}
		}
	}
	return Probe{}, false
}

// documentLines are evidence: what each address answered.
func documentLines(list []WellKnown) []string {
	var order []string
	by := make(map[string][]netip.AddrPort)
	for _, w := range list {
		url, way := "the document", ""
		if len(w.Hops) > 0 {
			url = w.Hops[0].URL
			if n := len(w.Hops); n > 1 {
				way = fmt.Sprintf(" (redirected to %s)", w.Hops[n-1].URL)
			}
		}
		text := "m.server = " + w.Server
		if w.Error != nil {
			text = w.Error.Message
		}
		line := "GET " + url + " at %s" + way + ": " + text
		if by[line] == nil {
			order = append(order, line)
		}
		by[line] = append(by[line], w.Address)
	}
	var out []string
	for _, line := range order {
		var at []string
		for _, a := range by[line] {
			at = append(at, a.Addr().String())
		}
		out = append(out, strings.Replace(line, "%s", enumerate(at, 4), 1))
	}
	return out
}

// goodDocument judges documents that count.
func (j *judgement) goodDocument(list []WellKnown) {
	list = slices.DeleteFunc(slices.Clone(list), func(w WellKnown) bool { return w.Error != nil })
	if len(list) == 0 {
		return
	}
	w := list[0]
	last := w.Hops[len(w.Hops)-1]
	if kind, _, _ := strings.Cut(last.ContentType, ";"); !strings.EqualFold(strings.TrimSpace(kind), "application/json") {
		shown := "no Content-Type"
		if last.ContentType != "" {
			shown = "Content-Type: " + last.ContentType
		}
		j.add("well_known_content_type", j.host, "%s has %s.", last.URL, shown).
			because(documentLines(list)...).because(shown).
			fix(Fix{Title: "Say that it is JSON, in the location that serves it.", Where: "nginx", Text: "default_type application/json;"})
	}
	first, err1 := url.Parse(w.Hops[0].URL)
	final, err2 := url.Parse(last.URL)
	if err1 == nil && err2 == nil && first.Host != final.Host {
		j.add("well_known_redirected", j.host, "The well-known document of %s is served by %s.", j.host, printable.Line(final.Host)).because(documentLines(list)...)
	}
	slowest := slices.MaxFunc(list, func(a, b WellKnown) int { return cmp.Compare(a.Duration, b.Duration) })
	if took := time.Duration(slowest.Duration); took > slow {
		j.add("well_known_slow", j.host, "%s takes %s.", w.Hops[0].URL, took.Round(100*time.Millisecond)).
			because(fmt.Sprintf("GET %s at %s: answered after %s", w.Hops[0].URL, slowest.Address.Addr(), took.Round(time.Millisecond))).
			fix(j.documentFixes(w.Server)...)
	}
	if life := time.Duration(w.Lifetime); life < shortLife {
		j.add("well_known_lifetime_short", j.host, "%s asks to be fetched again soon (%s); servers keep it for %s.", last.URL, w.stated, spoken(life)).
			because(fmt.Sprintf("GET %s: %s", last.URL, w.stated)).
			fix(Fix{Title: "Let it count for a day, in the location that serves it.", Where: "nginx", Text: "expires off;\nadd_header Cache-Control \"max-age=86400\";"})
	}
}

// chained judges a delegated host that would delegate again.
func (j *judgement) chained() {
	d := j.Delegate
	if d == nil || d.Server == "" || strings.EqualFold(d.Server, j.delegated.String()) {
		return
	}
	// 3.5 leads to port 8448 too.
	if name, err := servername.Parse(d.Server); err == nil {
		if port, ok := name.Port(); ok && name.DNSName() == j.delegated.DNSName() && sameTargets([]string{hostPort(name.DNSName(), port)}, targetNames(j.Resolution.Targets)) {
			return
		}
	}
	j.add("well_known_chained", j.delegated.String(), "%s has a well-known document of its own, which leads to %s; nobody follows it.", j.delegated, d.Server).
		because(documentLines([]WellKnown{*d})...).
		fix(Fix{Title: "Nothing, if " + j.delegated.String() + " is right. If " + printable.Line(d.Server) + " is, let m.server of " + j.host + " name that."})
}

// documentFixes are the ways to serve the document with a server name: the one
// that was meant, or what can be seen of where the server is if that is empty or
// no server name. Where the server works by SRV records under a certificate that
// is good for nothing else, there is no document that would not break it.
func (j *judgement) documentFixes(meant string) []Fix {
	title := "Serve this at https://" + j.host + wellknown.ServerPath + "."
	name, err := servername.Parse(meant)
	if err != nil {
		seen := j.guess()
		if name, err = servername.Parse(seen); err != nil {
			if j.works() {
				return j.noDocumentFixes()
			}
			name, _ = servername.Parse("matrix." + j.host + ":443")
			title = "Serve this at https://" + j.host + wellknown.ServerPath + ", with the host and port of your server if they are others."
		}
	}
	json := `{"m.server": "` + name.String() + `"}`
	return []Fix{
		{Title: title, Where: "json", Text: json},
		{Title: "Let nginx serve it, in its server for " + j.host + ".", Where: "nginx",
			Text: "location = " + wellknown.ServerPath + " {\n    default_type application/json;\n    return 200 '" + json + "';\n}"},
		{Title: "Let Caddy serve it; if it has a block for " + j.host + ", put the two lines there.", Where: "caddy",
			Text: j.host + " {\n\theader " + wellknown.ServerPath + " Content-Type application/json\n\trespond " + wellknown.ServerPath + " `" + json + "` 200\n}"},
	}
}

// noDocumentFixes are the ways to serve no document.
func (j *judgement) noDocumentFixes() []Fix {
	return []Fix{
		{Title: "Answer https://" + j.host + wellknown.ServerPath + " with 404: the SRV records lead to the server."},
		{Title: "Let nginx do so, in its server for " + j.host + ".", Where: "nginx", Text: "location = " + wellknown.ServerPath + " {\n    return 404;\n}"},
		{Title: "Let Caddy do so; if it has a block for " + j.host + ", put the line there.", Where: "caddy", Text: j.host + " {\n\trespond " + wellknown.ServerPath + " 404\n}"},
	}
}

// guess is where the name should be delegated to, as far as can be seen: to where
// its server is, under a name that its certificate proves. Empty if nothing can.
func (j *judgement) guess() string {
	for _, w := range j.WellKnown {
		if w.Server != "" {
			return w.Server
		}
	}
	bySRV := j.Resolution.Step == "4" || j.Resolution.Step == "5"
	for _, s := range j.spots() {
		if s.a.OK && (!bySRV || proves(&s.a.TLS.Certificates[0], s.t.Host)) {
			return hostPort(s.t.Host, s.t.Port)
		}
	}
	for _, s := range j.spots() {
		for _, p := range s.a.Probes {
			if p.Kind == ProbePort443 && p.Matrix && !bySRV {
				return hostPort(s.t.Host, defaultHTTPS)
			}
		}
	}
	if name, ok := delegatedName(j.Resolution.Result); ok {
		return name.String()
	}
	return ""
}

// elsewhereFix is for a server that is not where servers go by themselves.
func (j *judgement) elsewhereFix() Fix {
	fix := j.documentFixes("")[0]
	fix.Title = "Delegate to where it listens: s" + strings.TrimPrefix(fix.Title, "S")
	return fix
}
