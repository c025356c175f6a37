package check

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"mxdiscover/srv"
)

// soon is how long before its end a certificate should have been renewed; but not
// before two thirds of its life are over, as there are some that live for six
// days.
const soon = 14 * 24 * time.Hour

// connected reports whether a federating server gets as far as TLS.
func connected(s spot) bool { return s.a.TCP.Error == nil }

// judged leaves out what says nothing about the server: addresses that the check
// did not get to, and those that this machine cannot get to.
func (j *judgement) judged() []spot {
	var list []spot
	for _, s := range j.spots() {
		if !cutShort(s.a) && !unreachableHere(s) {
			list = append(list, s)
		}
	}
	return list
}

func unreachableHere(s spot) bool { return s.a.TCP.Error != nil && s.a.TCP.Error.Code == codeNoRoute }

// judgeConnections judges who takes connections.
func (j *judgement) judgeConnections() {
	var away []spot
	for _, s := range j.spots() {
		if unreachableHere(s) {
			away = append(away, s)
		}
	}
	spots := j.judged()
	switch four, _ := families(away); {
	case four && len(spots) == 0:
		// No way even over IPv4: this machine has no network.
		j.add("check_timeout", about(away), "This machine has no way to %s, so nothing was checked.", about(away)).
			because(lines(away, connectLine)...).
			fix(Fix{Title: "Check from a machine with a network that leads there.", Where: "shell", Text: "mxdiscover check " + j.shellName()})
	case len(away) > 0:
		f := j.add("ipv6_unchecked", about(away), "This machine cannot get to %s, so that was not checked.", about(away)).
			because(lines(away, connectLine)...)
		if len(spots) == 0 {
			f.as(SeverityWarning).fix(Fix{Title: "Check from a machine with IPv6.", Where: "shell", Text: "mxdiscover check " + j.shellName()})
		}
	}
	if !slices.ContainsFunc(spots, connected) {
		j.noneConnected(spots)
		return
	}
	for i := range j.Targets {
		t := &j.Targets[i]
		var up, down []spot
		for _, s := range spots {
			switch {
			case s.t != t:
			case connected(s):
				up = append(up, s)
			default:
				down = append(down, s)
			}
		}
		switch {
		case len(down) == 0:
		case len(up) == 0:
			j.add("target_down", t.String(), "%s does not take connections (%s), while other targets do.", t, down[0].a.TCP.Error.Message).
				because(lines(down, connectLine)...).fix(listenFixes(t.Host, t.Port, down)...)
		default:
			code, over := "address_down", ""
			switch four, six := families(down); {
			case six && !four && !anyFamily(up, false):
				code, over = "ipv6_down", " over IPv6"
			case four && !six && !anyFamily(up, true):
				code, over = "ipv4_down", " over IPv4"
			}
			j.add(code, about(down), "%s does not take connections%s, at %s: %s.", t, over, about(down), down[0].a.TCP.Error.Message).
				because(append(lines(down, connectLine), lines(up, connectLine)...)...).fix(listenFixes(t.Host, t.Port, down)...)
		}
	}
}

func families(spots []spot) (four, six bool) {
	return anyFamily(spots, true), anyFamily(spots, false)
}

func anyFamily(spots []spot, four bool) bool {
	return slices.ContainsFunc(spots, func(s spot) bool { return s.four() == four })
}

// noneConnected judges a name whose server nobody gets to.
func (j *judgement) noneConnected(spots []spot) {
	if len(spots) == 0 {
		return
	}
	for _, s := range spots {
		for _, p := range s.a.Probes {
			if p.Kind == ProbePort443 && p.Matrix {
				f := j.add("port_443_instead", places(spots), "Nobody listens at %s, but the Matrix server answers at port 443 of the same host.", places(spots)).
					because(append([]string{p.Query + ": " + p.Detail}, lines(spots, connectLine)...)...)
				switch {
				case j.recordsDecide(): // the certificate that is shown there is for their owner
					f.fix(j.otherPortRecord(s.t))
				case j.delegable():
					f.fix(j.documentFixes(hostPort(s.t.Host, defaultHTTPS))...)
				}
				f.fix(proxyFixes(cmp.Or(j.certName(), s.t.Host), s.t.Port)...)
				return
			}
		}
	}
	if j.brokenDocument() && j.Resolution.Step == "6" {
		return // the document is the cause: nobody meant port 8448
	}
	codes, by := j.group(spots, func(s spot) string {
		switch s.a.TCP.Error.Code {
		case codeRefused, codeReset:
			return s.a.TCP.Error.Code
		}
		return codeTimeout
	})
	for _, code := range codes {
		list := by[code]
		format := "There is no answer from %s: %s."
		switch code {
		case codeRefused:
			format = "Nobody listens at %s: every connection is refused."
		case codeReset:
			format = "Connections to %s are ended at once: %s."
		}
		first := list[0]
		where := places(list)
		if at := about(list); at != where { // for an IP address it is the same
			where += " (" + at + ")"
		}
		words := []any{where, first.a.TCP.Error.Message}
		f := j.add(code, about(list), format, words[:strings.Count(format, "%s")]...).
			because(lines(list, connectLine)...).fix(listenFixes(first.t.Host, first.t.Port, list)...)
		if j.Resolution.Step == "6" || j.Resolution.Step == "3.5" {
			f.fix(j.elsewhereFix())
		}
	}
}

// recordsDecide reports whether SRV records lead to the targets.
func (j *judgement) recordsDecide() bool {
	return slices.Contains([]string{"3.3", "3.4", "4", "5"}, j.Resolution.Step)
}

// delegable reports whether anybody asks for a well-known document of the name
// (Server-Server API, Resolving server names, 1 and 2: nobody does).
func (j *judgement) delegable() bool {
	_, hasPort := j.name.Port()
	return !j.name.IsIP() && !hasPort
}

// otherPortRecord lets an SRV record lead to port 443 of its target.
func (j *judgement) otherPortRecord(t *Target) Fix {
	prefix := fedPrefix
	if j.Resolution.Step == "3.4" || j.Resolution.Step == "5" {
		prefix = legacyPrefix
	}
	record := srv.Record{Priority: t.Priority, Weight: t.Weight, Port: defaultHTTPS, Target: t.Host}
	return Fix{Title: "Let the record lead to port 443.", Where: "dns", Text: zoneLine(prefix+j.owner(), record)}
}

func connectLine(s spot, at string) string {
	if s.a.TCP.Error == nil {
		return "connect to " + at + ": connected"
	}
	return "connect to " + at + ": " + s.a.TCP.Error.Message
}

// judgeTLS judges handshakes and certificates.
func (j *judgement) judgeTLS() {
	var spots []spot
	for _, s := range j.judged() {
		if s.a.TLS != nil {
			spots = append(spots, s)
		}
	}
	j.judgeHandshakes(spots)
	spots = slices.DeleteFunc(spots, func(s spot) bool { return len(s.a.TLS.Certificates) == 0 })
	j.judgeCertificates(spots)

	var ending []spot
	for _, s := range spots {
		leaf := s.a.TLS.Certificates[0]
		if s.a.TLS.Verified && leaf.NotAfter.Sub(j.CheckedAt) < min(soon, leaf.NotAfter.Sub(leaf.NotBefore)/3) {
			ending = append(ending, s)
		}
	}
	if len(ending) > 0 {
		first := slices.MinFunc(ending, func(a, b spot) int {
			return a.a.TLS.Certificates[0].NotAfter.Compare(b.a.TLS.Certificates[0].NotAfter)
		})
		end := first.a.TLS.Certificates[0].NotAfter
		j.add("cert_expires_soon", places(ending), "The certificate of %s expires on %s, in %s.", places(ending), end.Format(stamp), days(end.Sub(j.CheckedAt))).
			because(lines(ending, certificateLine)...).fix(certificateFixes(j.Resolution.TLSName, ending[0].t.Port)...)
	}
	without := func(match func(t *TLS) bool) []spot {
		var list []spot
		for _, s := range spots {
			if match(s.a.TLS) {
				list = append(list, s)
			}
		}
		return list
	}
	answers := func(s spot) bool {
		return slices.ContainsFunc(s.a.HTTP, func(h HTTP) bool { return h.Version.Status != 0 })
	}
	// Where no HTTP is spoken at all, its version is no news.
	if list := without(func(t *TLS) bool { return t.ALPN != protocolTwo }); slices.ContainsFunc(list, answers) {
		j.add("alpn_no_http2", places(list), "There is no HTTP/2 at %s.", places(list)).because(lines(list, func(s spot, at string) string {
			return fmt.Sprintf("ALPN h2, http/1.1 to %s: %s", at, cmp.Or(s.a.TLS.ALPN, "none chosen"))
		})...)
	}
	// Another certificate that proves the name too does nobody any harm.
	if list := without(func(t *TLS) bool { return t.Verified && t.WithoutSNI == sniOther && !t.defaultProves }); len(list) > 0 {
		j.add("sni_other", places(list), "Those who send no SNI to %s get another certificate, which does not prove %s (it is for %s).", places(list), j.Resolution.TLSName, namesOf(*list[0].a.TLS.Default)).
			because(lines(list, func(s spot, at string) string {
				return fmt.Sprintf("handshake without SNI to %s: a certificate for %s", at, namesOf(*s.a.TLS.Default))
			})...)
	}
}

func days(d time.Duration) string {
	switch n := int(d / (24 * time.Hour)); n {
	case 0:
		return d.Round(time.Minute).String()
	case 1:
		return "1 day"
	default:
		return fmt.Sprintf("%d days", n)
	}
}

// judgeHandshakes judges those that failed.
func (j *judgement) judgeHandshakes(spots []spot) {
	codes, by := j.group(spots, func(s spot) string {
		t := s.a.TLS
		if t.Error == nil || len(t.Certificates) > 0 {
			return ""
		}
		for _, p := range s.a.Probes {
			switch {
			case p.Kind == ProbeOldTLS && p.Value != "":
				return "tls_old"
			case p.Kind == ProbePlainHTTP && p.Status != 0 && p.Status != http.StatusBadRequest:
				// 400 is what TLS servers say to those who speak HTTP.
				return codePlain
			}
		}
		switch t.Error.Code {
		case codeTLSReset:
			return codeReset
		case codePlain, codeTLSTimeout:
			return t.Error.Code
		}
		return codeHandshake
	})
	// Probes are made at one address; the others fail for the same reason.
	for _, cause := range []string{"tls_old", codePlain} {
		for _, code := range codes {
			if found := by[cause]; code != cause && len(found) > 0 && len(by[code]) > 0 && by[code][0].a.TLS.Error.Code == found[0].a.TLS.Error.Code {
				by[cause], by[code] = append(found, by[code]...), nil
			}
		}
	}
	for _, code := range codes {
		list := by[code]
		if len(list) == 0 {
			continue
		}
		first := list[0]
		where, message := places(list), first.a.TLS.Error.Message
		var f *Finding
		switch code {
		case "tls_old":
			f = j.add(code, about(list), "Only an old TLS is spoken at %s: a handshake works with %s alone.", where, probeDetail(list, ProbeOldTLS)).
				fix(Fix{Title: "Enable today's TLS.", Where: "nginx", Text: "ssl_protocols TLSv1.2 TLSv1.3;"})
		case codePlain:
			f = j.add(code, about(list), "There is no TLS at %s: %s.", where, message).
				fix(Fix{Title: "Speak TLS on this port.", Where: "nginx", Text: listenLines(first.t.Port) + "\n" + certificateFiles(safeHost(cmp.Or(j.certName(), first.t.Host)))}).
				fix(proxyFixes(cmp.Or(j.certName(), first.t.Host), first.t.Port)[1:]...)
		case codeReset:
			f = j.add(code, about(list), "Connections to %s are ended at once: %s.", where, message).
				fix(Fix{Title: "Look who listens there.", Where: "shell", Text: fmt.Sprintf("ss -ltnp 'sport = :%d'", first.t.Port)})
		case codeTLSTimeout:
			f = j.add(code, about(list), "Connections to %s are taken, and then there is silence: %s.", where, message).
				fix(Fix{Title: "Look who listens there.", Where: "shell", Text: fmt.Sprintf("ss -ltnp 'sport = :%d'", first.t.Port)})
		default:
			f = j.add(code, about(list), "The TLS handshake with %s fails: %s.", where, message).
				fix(Fix{Title: "Try it from the outside.", Where: "shell", Text: handshakeCommand(first.a.Address.String(), j.Resolution.SNI)}).
				fix(proxyFixes(cmp.Or(j.certName(), first.t.Host), first.t.Port)...)
		}
		f.because(lines(list, func(s spot, at string) string { return "TLS handshake with " + at + ": " + s.a.TLS.Error.Message })...).
			because(probeLines(list)...)
	}
}

func probeDetail(spots []spot, kind ProbeKind) string {
	for _, s := range spots {
		for _, p := range s.a.Probes {
			if p.Kind == kind {
				return p.Detail
			}
		}
	}
	return ""
}

func probeLines(spots []spot) []string {
	var list []string
	for _, s := range spots {
		for _, p := range s.a.Probes {
			list = append(list, fmt.Sprintf("%s: %s", p.Query, p.Detail))
		}
	}
	return list
}

// handshakeCommand shows a handshake. It names the server as others do: not at all if
// that is an address.
func handshakeCommand(to, sni string) string {
	if sni == "" {
		return "openssl s_client -connect " + to + " -noservername"
	}
	return "openssl s_client -connect " + to + " -servername " + sni
}

// certName is the name that the certificate must prove; empty for an IP address.
func (j *judgement) certName() string {
	if sniFor(j.Resolution.TLSName) == "" {
		return ""
	}
	return j.Resolution.TLSName
}

// judgeCertificates judges those that do not prove the name.
func (j *judgement) judgeCertificates(spots []spot) {
	var bad, good []spot
	for _, s := range spots {
		if s.a.TLS.Verified {
			good = append(good, s)
		} else {
			bad = append(bad, s)
		}
	}
	if len(bad) == 0 {
		return
	}
	name := j.Resolution.TLSName
	codes := make(map[string][]spot)
	var order []string
	for _, s := range bad {
		for _, p := range s.a.TLS.Problems {
			code := j.refine(p.Code, s)
			if codes[code] == nil {
				order = append(order, code)
			}
			codes[code] = append(codes[code], s)
		}
	}
	// A target of SRV records with a certificate of its own is a mistake that has
	// a name, whatever the other targets show.
	if len(good) > 0 && codes["cert_for_srv_target"] == nil {
		first := bad[0]
		f := j.add("cert_differs", about(bad), "Other addresses of %s have a good certificate, but not %s: %s.", places(spots), about(bad), first.a.TLS.Error.Message).
			because(append(lines(bad, certificateLine), lines(good, certificateLine)...)...)
		f.fix(Fix{Title: "Install the certificate of " + good[0].a.Address.String() + " there too."})
		f.fix(certificateFixes(name, first.t.Port)...)
		return
	}
	slices.SortStableFunc(order, func(a, b string) int { return cmp.Compare(j.order[a], j.order[b]) })
	for _, code := range order {
		j.certificate(code, codes[code], name)
	}
}

// refine tells the ways apart in which a certificate has the wrong name.
func (j *judgement) refine(code string, s spot) string {
	if code != codeWrongName && code != codeCommonName {
		return code
	}
	tlsName := j.Resolution.TLSName
	switch {
	case sniFor(tlsName) == "":
		return "cert_ip"
	case code == codeCommonName:
		return code
	case len(s.a.TLS.Certificates) == 0:
		return code
	case s.t.Host != tlsName && proves(&s.a.TLS.Certificates[0], s.t.Host):
		return "cert_for_srv_target"
	case j.delegated.String() != "" && j.host != tlsName && proves(&s.a.TLS.Certificates[0], j.host):
		return "cert_for_server_name"
	}
	return code
}

// proves reports whether a certificate has a name.
func proves(shown *Certificate, name string) bool {
	if shown == nil {
		return false
	}
	cert := x509.Certificate{DNSNames: shown.DNSNames}
	for _, addr := range shown.IPAddresses {
		cert.IPAddresses = append(cert.IPAddresses, net.IP(addr.AsSlice()))
	}
	return cert.VerifyHostname(name) == nil
}

// certificate notes what is wrong with a certificate.
func (j *judgement) certificate(code string, list []spot, name string) {
	first := list[0]
	where := places(list)
	leaf := first.a.TLS.Certificates[0]
	message := ""
	for _, p := range first.a.TLS.Problems {
		if j.refine(p.Code, first) == code {
			message = p.Message
		}
	}
	var f *Finding
	switch code {
	case codeExpired:
		f = j.add(code, where, "The certificate of %s expired on %s.", where, leaf.NotAfter.Format(stamp)).fix(certificateFixes(name, first.t.Port)...)
	case codeNotYet:
		f = j.add(code, where, "The certificate of %s is valid only from %s on.", where, leaf.NotBefore.Format(stamp)).
			fix(Fix{Title: "Wait, or set the clock of the machine that made it and get a new one.", Where: "shell", Text: "timedatectl set-ntp true"})
	case codeChain:
		f = j.add(code, where, "The chain of certificates of %s is not whole: %s.", where, message).fix(chainFixes(name)...)
	case "cert_for_srv_target":
		f = j.add(code, where, "The certificate of %s is for %s, the target of the SRV record, but it must be for %s.", where, first.t.Host, name).
			fix(certificateFixes(name, first.t.Port)...).fix(j.documentFixes(first.t.String())...)
	case "cert_for_server_name":
		f = j.add(code, where, "The certificate of %s is for %s, but the well-known document delegates to %s, and that is what it must prove.", where, j.host, name).
			fix(certificateFixes(name, first.t.Port)...)
	case "cert_ip":
		f = j.add(code, where, "The certificate of %s does not have the address %s: it is valid for %s.", where, name, namesOf(leaf)).
			fix(Fix{Title: "Get a certificate that has the address " + name + " as subjectAltName, or use a name instead of the address."})
	case codeSelfSigned:
		f = j.add(code, where, "The certificate of %s is self-signed.", where).fix(certificateFixes(name, first.t.Port)...)
	default:
		f = j.add(code, where, "The certificate of %s is not accepted: %s.", where, strings.TrimSuffix(message, ".")).fix(certificateFixes(name, first.t.Port)...)
	}
	f.because(lines(list, certificateLine)...)
}

func namesOf(c Certificate) string {
	list := slices.Clone(c.DNSNames)
	for _, a := range c.IPAddresses {
		list = append(list, a.String())
	}
	if len(list) == 0 {
		return "no name at all"
	}
	return enumerate(list, 3)
}

func certificateLine(s spot, at string) string {
	t := s.a.TLS
	leaf := t.Certificates[0]
	result := "good"
	if t.Error != nil {
		result = t.Error.Message
	}
	return fmt.Sprintf("certificate of %s: for %s, by %s, from %s to %s: %s", at, namesOf(leaf), leaf.Issuer,
		leaf.NotBefore.Format(time.DateOnly), leaf.NotAfter.Format(time.DateOnly), result)
}
