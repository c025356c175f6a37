package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxdiscover/internal/servername"
)

const (
	// slow is how long a small question may take. Servers give a request some ten
	// seconds; a third of that is no good sign.
	slow = 3 * time.Second

	// skewed is how wrong a clock may be: NTP keeps one within a second.
	skewed = time.Minute

	// keysSoon is how long keys should be valid at least. Servers publish them for
	// a day and more.
	keysSoon = time.Hour
)

// whole is the answer by which an address is judged: over HTTP/2 if that works,
// else over HTTP/1.1.
func whole(a *Address) *HTTP {
	for i := range a.HTTP {
		if answered(&a.HTTP[i]) {
			return &a.HTTP[i]
		}
	}
	return &a.HTTP[0]
}

// answered reports whether there was an answer to everything.
func answered(h *HTTP) bool { return h.Version.Error == nil && h.Keys.Error == nil }

// judgeHTTP judges what the addresses answer.
func (j *judgement) judgeHTTP() {
	var spots []spot
	for _, s := range j.judged() {
		if len(s.a.HTTP) > 0 && !somebodyElse(s) {
			spots = append(spots, s)
		}
	}
	j.judgeProtocols(spots)
	codes, by := j.group(spots, func(s spot) string { return versionFault(whole(s.a)) })
	// What the probes found at one address of a target holds for those that fail
	// as that one did.
	for _, code := range codes {
		j.version(code, by[code])
	}
	j.judgeAnswers(spots)
}

// somebodyElse reports whether an address shows a certificate of another name:
// what it answers is then not meant for this one.
func somebodyElse(s spot) bool {
	return slices.ContainsFunc(s.a.TLS.Problems, func(p Problem) bool { return p.Code == codeWrongName })
}

// judgeProtocols finds those who fail over one protocol and not over the other.
func (j *judgement) judgeProtocols(spots []spot) {
	for _, broken := range []struct {
		code      string
		bad, good int
		name      string
	}{
		{"http2_broken", 0, 1, "HTTP/2"},
		{"http1_broken", 1, 0, "HTTP/1.1"},
	} {
		var list []spot
		for _, s := range spots {
			if len(s.a.HTTP) == 2 && !answered(&s.a.HTTP[broken.bad]) && answered(&s.a.HTTP[broken.good]) {
				list = append(list, s)
			}
		}
		if len(list) == 0 {
			continue
		}
		why := func(s spot, at string) string {
			h := s.a.HTTP[broken.bad]
			path, e := versionPath, h.Version.Error
			if e == nil {
				path, e = keysPath, h.Keys.Error
			}
			return fmt.Sprintf("GET %s over %s at %s: %s", path, broken.name, at, e.Message)
		}
		j.add(broken.code, about(list), "The server at %s fails over %s, and works over %s.", places(list), broken.name, list[0].a.HTTP[broken.good].Protocol).
			because(lines(list, why)...).fix(protocolFix(broken.code, list[0].t.Port))
	}
}

// protocolFix takes away the protocol that fails, or adds the one that everybody
// speaks.
func protocolFix(code string, port uint16) Fix {
	if code == "http2_broken" {
		return Fix{Title: "Do not offer HTTP/2 until it works: no http2 in the listen lines, and no line \"http2 on;\".", Where: "nginx", Text: listenLines(port)}
	}
	return Fix{Title: "Answer HTTP/1.1 as well as HTTP/2, and let ALPN offer both (HAProxy: alpn h2,http/1.1 in the bind line)."}
}

// versionFault is the code of the finding for an answer about the version.
func versionFault(h *HTTP) string {
	if h.Version.Error == nil {
		return ""
	}
	switch h.Version.Error.Code {
	case codeNotFound:
		return "version_missing"
	case codeBadGateway:
		return "proxy_bad_gateway"
	case codeRedirect:
		return "version_redirect"
	case codeStatus:
		return "version_status"
	case codeHTML:
		return "version_html"
	case codeHTTPTimeout, codeTimeout, codeTLSTimeout:
		return codeHTTPTimeout
	case codeNotJSON, codeTooLarge:
		return "version_not_json"
	}
	return codeNotHTTP
}

// version notes that no Matrix server answers.
func (j *judgement) version(code string, list []spot) {
	cause, probe := code, Probe{}
	if code != codeHTTPTimeout {
		for _, s := range list {
			for _, p := range s.a.Probes {
				if !p.Matrix {
					continue
				}
				better := map[ProbeKind]string{ProbeHost: "host_header", ProbePath: "path_wrong", ProbeClientAPI: "federation_elsewhere"}[p.Kind]
				// Who publishes its keys here has its federation here.
				if better == "federation_elsewhere" && (code != "version_missing" || whole(s.a).Keys.Error == nil) {
					continue
				}
				// Another Host or path explains the client API too.
				if better != "" && (cause == code || cause == "federation_elsewhere") {
					cause, probe = better, p
				}
			}
		}
	}
	first := list[0]
	where, message := places(list), whole(first.a).Version.Error.Message
	port := first.t.Port
	host := cmp.Or(j.certName(), first.t.Host)
	var f *Finding
	switch cause {
	case "host_header":
		f = j.add(cause, about(list), "The server at %s answers only to Host: %s, while servers send Host: %s.", where, probe.Value, j.Resolution.Host).
			fix(Fix{Title: "Let the virtual host have this name, and pass the header on.", Where: "nginx",
				Text: "server_name " + host + ";\nproxy_set_header Host $http_host;"}).
			fix(proxyFixes(host, port)[1:]...)
	case "path_wrong":
		f = j.add(cause, about(list), "The server at %s answers at %s instead of %s: the proxy changes the path.", where, probe.Value, versionPath).
			fix(Fix{Title: "Send the path on as it is: no path, not even a slash, after the port.", Where: "nginx",
				Text: "location /_matrix {\n    proxy_pass http://127.0.0.1:8008;\n}"}).
			fix(Fix{Title: "Use handle, not handle_path, which cuts the prefix off.", Where: "caddy",
				Text: "handle /_matrix/* {\n\treverse_proxy 127.0.0.1:8008\n}"})
	case "federation_elsewhere":
		f = j.add(cause, about(list), "The server at %s answers the client API but not the federation: %s.", where, message).
			fix(Fix{Title: "Let the listener serve the federation too (Synapse).", Where: "homeserver",
				Text: "listeners:\n  - port: 8008\n    type: http\n    x_forwarded: true\n    resources:\n      - names: [client, federation]"}).
			fix(proxyFixes(host, port)...)
	case "proxy_bad_gateway":
		f = j.add(cause, about(list), "The proxy at %s does not reach the homeserver: %s.", where, message).
			fix(Fix{Title: "Ask the homeserver itself, on its machine; then compare the port with that of the proxy.", Where: "shell",
				Text: "curl -i http://127.0.0.1:8008" + versionPath})
	case "version_redirect":
		f = j.add(cause, about(list), "The server at %s redirects federation requests: %s.", where, message).fix(proxyFixes(host, port)...)
	case "version_status":
		f = j.add(cause, about(list), "The server at %s answers federation requests with an error: %s.", where, message).fix(proxyFixes(host, port)...)
	case "version_html":
		f = j.add(cause, about(list), "The server at %s answers federation requests with a web page.", where).fix(proxyFixes(host, port)...)
	case "version_not_json":
		f = j.add(cause, about(list), "The server at %s answers %s with something else than a version: %s.", where, versionPath, message).fix(proxyFixes(host, port)...)
	case codeHTTPTimeout:
		f = j.add(cause, about(list), "The server at %s takes the request and does not answer: %s.", where, message).
			fix(Fix{Title: "See how long the homeserver itself takes.", Where: "shell", Text: "curl -w '%{time_total}\\n' http://127.0.0.1:8008" + versionPath})
	case codeNotHTTP:
		f = j.add(cause, about(list), "The server at %s does not answer in HTTP: %s.", where, message).fix(proxyFixes(host, port)...)
	default:
		f = j.add(cause, about(list), "No Matrix server answers at %s: %s.", where, message).fix(proxyFixes(host, port)...)
	}
	f.because(lines(list, func(s spot, at string) string { return answerLine(s, at, versionPath, whole(s.a).Version.Answer) })...)
	if probe.Query != "" {
		f.because(probe.Query + ": " + probe.Detail)
	}
}

// answerLine is evidence: a question and its answer.
func answerLine(s spot, at, path string, a Answer) string {
	result := fmt.Sprintf("status %d", a.Status)
	if a.Error != nil {
		result = a.Error.Message
		if a.Status == 200 {
			result = "status 200, " + result
		}
	}
	if a.ServedBy != "" {
		result += " (Server: " + a.ServedBy + ")"
	}
	return fmt.Sprintf("GET https://%s%s of %s: %s", s.t, path, at, result)
}

// judgeAnswers judges good answers.
func (j *judgement) judgeAnswers(spots []spot) {
	spots = slices.DeleteFunc(slices.Clone(spots), func(s spot) bool { return whole(s.a).Version.Error != nil })
	pick := func(match func(h *HTTP) bool) []spot {
		var list []spot
		for _, s := range spots {
			if match(whole(s.a)) {
				list = append(list, s)
			}
		}
		return list
	}
	if list := pick(func(h *HTTP) bool { return h.Version.Name == "" }); len(list) > 0 {
		j.add("version_no_server", places(list), "The server at %s does not say what it is.", places(list)).
			because(lines(list, func(s spot, at string) string {
				return answerLine(s, at, versionPath, whole(s.a).Version.Answer) + ", without server.name"
			})...)
	}
	took := func(h *HTTP) time.Duration { return time.Duration(max(h.Version.Duration, h.Keys.Duration)) }
	if list := pick(func(h *HTTP) bool { return h.Keys.Error == nil && took(h) > slow }); len(list) > 0 {
		j.add("slow_answer", about(list), "The server at %s takes %s for a small answer.", places(list), took(whole(list[0].a)).Round(100*time.Millisecond)).
			because(lines(list, func(s spot, at string) string {
				h := whole(s.a)
				return fmt.Sprintf("at %s: version after %s, keys after %s", at, round(h.Version.Duration), round(h.Keys.Duration))
			})...).
			fix(Fix{Title: "See how long the homeserver itself takes; if it is fast there, the proxy is slow.", Where: "shell",
				Text: "curl -o /dev/null -w '%{time_total}\\n' http://127.0.0.1:8008" + versionPath})
	}
	names := make(map[string]bool)
	for _, s := range spots {
		names[whole(s.a).Version.Name] = true
	}
	if len(names) > 1 {
		j.add("answers_differ", places(spots), "The addresses of %s answer as different servers.", places(spots)).
			because(lines(spots, func(s spot, at string) string {
				v := whole(s.a).Version
				return fmt.Sprintf("at %s: %s", at, strings.TrimSpace(cmp.Or(v.Name, "no name")+" "+v.Server))
			})...).
			fix(Fix{Title: "Let all addresses lead to the same homeserver, or remove those of another one."})
	}
	wrong := pick(func(h *HTTP) bool { return time.Duration(h.Version.ClockSkew).Abs() > skewed })
	if len(wrong) > 0 {
		skew := time.Duration(whole(wrong[0].a).Version.ClockSkew)
		direction := "ahead"
		if skew < 0 {
			direction = "behind"
		}
		j.add("clock_wrong", about(wrong), "The clock of %s is %s %s.", places(wrong), spoken(skew.Abs()), direction).
			because(lines(wrong, func(s spot, at string) string {
				v := whole(s.a).Version
				return fmt.Sprintf("at %s: Date: %s, which is %s from the time here", at, v.Date.Format(time.RFC1123), spoken(time.Duration(v.ClockSkew).Abs()))
			})...).
			fix(Fix{Title: "Let the machine set its clock by NTP.", Where: "shell", Text: "timedatectl set-ntp true"})
	}
}

func round(d Duration) time.Duration { return time.Duration(d).Round(time.Millisecond) }

// keyFaults are the codes of the findings that make keys useless to the
// federation, and of those that do not. Nil if all is well.
func keyFaults(k Keys, serverName string, now time.Time) []string {
	if k.Error != nil {
		switch k.Error.Code {
		case codeNotFound:
			return []string{"keys_missing"}
		case codeHTML, codeNotJSON, codeTooLarge:
			return []string{"keys_not_json"}
		case codeMalformed:
			return []string{"keys_malformed"}
		}
		return []string{"keys_status"}
	}
	var codes []string
	if k.ServerName != serverName && !strings.EqualFold(k.ServerName, serverName) {
		codes = append(codes, "keys_wrong_name")
	}
	if !k.ValidUntil.After(now) {
		codes = append(codes, "keys_expired")
	}
	signed := false
	faults := make(map[string]bool)
	known := 0
	for _, key := range k.VerifyKeys {
		signed = signed || key.Signed
		if key.Error != nil {
			faults[key.Error.Code] = true
		}
		if key.Error == nil || key.Error.Code != codeKeyAlgorithm {
			known++
		}
	}
	switch {
	case known == 0:
		codes = append(codes, "keys_none")
	case faults[codeKeySignature]:
		codes = append(codes, "keys_bad_signature")
	case faults[codeKeyMalformed]:
		codes = append(codes, "keys_malformed")
	case !signed:
		codes = append(codes, "keys_unsigned")
	}
	return codes
}

// shownKeys are the keys by which an address is judged: those that are bad, if
// there are some over one protocol.
func (j *judgement) shownKeys(a *Address) Keys {
	for _, h := range a.HTTP {
		if h.Keys.Error == nil && len(keyFaults(h.Keys, j.ServerName, j.CheckedAt)) > 0 {
			return h.Keys
		}
	}
	return whole(a).Keys
}

// judgeKeys judges the keys that the addresses publish.
func (j *judgement) judgeKeys() {
	var spots []spot
	for _, s := range j.judged() {
		if len(s.a.HTTP) == 0 {
			continue
		}
		h := whole(s.a)
		// Who does not answer at all does not answer this either.
		if !somebodyElse(s) && (h.Keys.Error == nil || h.Version.Error == nil) {
			spots = append(spots, s)
		}
	}
	faults := make(map[string][]spot)
	var codes []string
	for _, s := range spots {
		for _, code := range keyFaults(j.shownKeys(s.a), j.ServerName, j.CheckedAt) {
			if faults[code] == nil {
				codes = append(codes, code)
			}
			faults[code] = append(faults[code], s)
		}
	}
	for _, code := range codes {
		j.keys(code, faults[code])
	}
	for _, s := range spots {
		k := j.shownKeys(s.a)
		if k.Error != nil {
			continue
		}
		if k.ServerName != j.ServerName && strings.EqualFold(k.ServerName, j.ServerName) && !j.has("keys_name_case") {
			theirs, err := servername.Parse(k.ServerName)
			if err != nil { // EqualFold knows more letters than a server name may have
				theirs = j.name
			}
			j.add("keys_name_case", s.t.String(), "The keys are those of %s, which is another server than %s for Matrix.", k.ServerName, j.ServerName).
				because(lines([]spot{s}, j.keysLine)...).
				fix(Fix{Title: "Ask for the name as the server has it.", Where: "shell", Text: "mxdiscover check " + theirs.String()})
		}
		left := k.ValidUntil.Sub(j.CheckedAt)
		if left > 0 && left < keysSoon && !j.has("keys_expire_soon") {
			j.add("keys_expire_soon", s.t.String(), "The keys of %s expire in %s.", s.t, spoken(left)).because(lines([]spot{s}, j.keysLine)...)
		}
	}
	j.judgeDifferentKeys(spots)
}

// judgeDifferentKeys finds addresses of different homeservers.
func (j *judgement) judgeDifferentKeys(spots []spot) {
	var first []Key
	differ := false
	for _, s := range spots {
		k := j.shownKeys(s.a)
		if len(keyFaults(k, j.ServerName, j.CheckedAt)) > 0 {
			continue
		}
		if first == nil {
			first = k.VerifyKeys
		}
		differ = differ || !slices.EqualFunc(first, k.VerifyKeys, func(a, b Key) bool { return a.ID == b.ID && a.Public == b.Public })
	}
	if differ {
		j.add("keys_differ", places(spots), "The addresses of %s publish different keys.", places(spots)).
			because(lines(spots, j.keysLine)...).
			fix(Fix{Title: "Give all workers the same signing key file.", Where: "homeserver", Text: "signing_key_path: \"/path/to/signing.key\""})
	}
}

// leader names what leads the name to where it leads.
func (j *judgement) leader() string {
	switch step := j.Resolution.Step; {
	case strings.HasPrefix(step, "3"):
		return "m.server in https://" + j.host + "/.well-known/matrix/server"
	case step == "4", step == "5":
		return "the SRV records of " + j.host
	case j.name.IsIP():
		return "what listens at " + j.ServerName
	}
	return "the A and AAAA records of " + j.host
}

func (j *judgement) keysLine(s spot, at string) string {
	k := j.shownKeys(s.a)
	if k.Error != nil {
		return answerLine(s, at, keysPath, k.Answer)
	}
	var list []string
	for _, key := range k.VerifyKeys {
		text := key.ID + " " + key.Public
		if key.Error != nil {
			text += " (" + key.Error.Message + ")"
		}
		list = append(list, text)
	}
	return fmt.Sprintf("GET https://%s%s of %s: keys of %s, valid until %s: %s", s.t, keysPath, at,
		k.ServerName, k.ValidUntil.Format(stamp), cmp.Or(enumerate(list, 3), "none"))
}

// keys notes what is wrong with the keys.
func (j *judgement) keys(code string, list []spot) {
	first := list[0]
	k := j.shownKeys(first.a)
	where := places(list)
	message := ""
	if k.Error != nil {
		message = k.Error.Message
	}
	host := cmp.Or(j.certName(), first.t.Host)
	untouched := Fix{Title: "See what the homeserver itself publishes; the proxy must not change it.", Where: "shell",
		Text: "curl http://127.0.0.1:8008" + keysPath}
	var f *Finding
	switch code {
	case "keys_missing":
		f = j.add(code, about(list), "The server at %s does not publish its keys: %s.", where, message).fix(proxyFixes(host, first.t.Port)...)
	case "keys_status":
		f = j.add(code, about(list), "The server at %s does not give its keys: %s.", where, message).fix(untouched)
	case "keys_not_json":
		f = j.add(code, about(list), "What the server at %s gives as its keys is not JSON: %s.", where, message).fix(proxyFixes(host, first.t.Port)...)
	case "keys_wrong_name":
		f = j.add(code, about(list), "The server at %s is that of %s, not of %s.", where, k.ServerName, j.ServerName).
			fix(Fix{Title: "If the server is yours and has no users yet, give it the name.", Where: "homeserver", Text: "server_name: \"" + j.ServerName + "\""}).
			fix(Fix{Title: "Let the name lead to its own server: mend " + j.leader() + "."})
	case "keys_expired":
		f = j.add(code, about(list), "The keys of %s expired on %s.", where, k.ValidUntil.Format(stamp)).
			fix(Fix{Title: "Compare with what the homeserver itself says; if that is fresh, the proxy keeps old answers.", Where: "shell",
				Text: "date -u\ncurl http://127.0.0.1:8008" + keysPath})
	case "keys_unsigned":
		f = j.add(code, about(list), "The keys of %s are not signed.", where).fix(untouched)
	case "keys_bad_signature":
		f = j.add(code, about(list), "The signature of the keys of %s is wrong.", where).fix(untouched)
	case "keys_none":
		f = j.add(code, about(list), "The server at %s publishes no key.", where).
			fix(Fix{Title: "Give the homeserver a signing key (Synapse).", Where: "homeserver", Text: "signing_key_path: \"/path/to/signing.key\""})
	default:
		if message == "" {
			for _, key := range k.VerifyKeys {
				if key.Error != nil && key.Error.Code == codeKeyMalformed {
					message = key.ID + ": " + key.Error.Message
				}
			}
		}
		f = j.add(code, about(list), "The keys of %s are not as they should be: %s.", where, message).fix(untouched)
	}
	f.because(lines(list, j.keysLine)...)
}
