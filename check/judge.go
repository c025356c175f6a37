package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mxdiscover/internal/printable"
	"mxdiscover/internal/servername"
	"mxdiscover/resolver"
)

// maxEvidence is how many lines of evidence a finding has. More addresses than
// that fail in the same way.
const maxEvidence = 8

// evidence is what the judge needs beside the report.
type evidence struct {
	looked map[string]srvLook // what DNS says of SRV names, asked for by the rules or not
	nobody resolver.Located   // the host of the well-known document, if it has no address to ask
	cut    error              // why the check did not come to its end
	broken string             // a fault of this module or of the caller's functions
}

// judgement is a report that is being judged.
type judgement struct {
	*Report
	evidence
	name      servername.Name
	host      string          // of the name, as DNS has it
	delegated servername.Name // what m.server says, if it counts; else zero
	found     []*Finding
	kinds     []Kind         // the catalogue
	order     map[string]int // of the codes in it
}

// judge fills in what follows from the rest of the report: ways, findings,
// verdict and summary. It asks nobody and reads no clock.
func judge(r *Report, e evidence) {
	j := &judgement{Report: r, evidence: e, kinds: Catalogue(), order: make(map[string]int)}
	for i, kind := range j.kinds {
		j.order[kind.Code] = i
	}
	if j.judgeName() {
		j.delegated, _ = delegatedName(r.Resolution.Result)
		r.Ways = ways(r.Resolution, j.name, e.looked)
		j.judgeSRV()
		j.judgeAddresses()
		j.judgeConnections()
		j.judgeTLS()
		j.judgeHTTP()
		j.judgeKeys()
		j.judgeWellKnown() // last: how bad it is depends on the rest
	}
	j.judgeCheck()
	j.conclude()
}

// conclude orders the findings and says what they come to.
func (j *judgement) conclude() {
	rank := map[Severity]int{SeverityError: 0, SeverityWarning: 1, SeverityNotice: 2}
	slices.SortStableFunc(j.found, func(a, b *Finding) int {
		return cmp.Or(cmp.Compare(rank[a.Severity], rank[b.Severity]), cmp.Compare(j.order[a.Code], j.order[b.Code]))
	})
	j.Verdict = Good
	for i, f := range j.found {
		if at, ok := j.order[f.Code]; ok && len(f.Fixes) == 0 {
			f.fix(Fix{Title: j.kinds[at].Cure}) // what it comes to, with nothing to copy
		}
		switch {
		case f.Severity == SeverityError:
			j.Verdict = Bad
		case f.Severity == SeverityWarning && j.Verdict == Good:
			j.Verdict = Warn
		}
		if i < maxFindings {
			j.Findings = append(j.Findings, *f)
		}
	}
	j.Summary = j.summary()
}

// maxFindings is how many findings a report has: more than the catalogue has
// codes that can stand together.
const maxFindings = 64

func (j *judgement) summary() string {
	if j.name.String() == "" {
		return j.found[0].Message
	}
	var at []string
	families := make(map[bool]bool)
	for i := range j.Targets {
		t := &j.Targets[i]
		good := false
		for _, a := range t.Addresses {
			if a.OK {
				good = true
				families[a.Address.Addr().Is4()] = true
			}
		}
		if good {
			at = append(at, t.String())
		}
	}
	over := ""
	switch {
	case families[true] && families[false]:
		over = ", over IPv4 and IPv6"
	case families[true]:
		over = ", over IPv4"
	case families[false]:
		over = ", over IPv6"
	}
	reach := fmt.Sprintf("Other servers reach %s at %s%s.", j.ServerName, enumerate(at, 3), over)
	switch {
	case j.Verdict == Good:
		return reach
	case j.Verdict == Warn && len(at) > 0:
		return reach + " Something should be changed: " + inner(j.found[0].Message)
	case j.Verdict == Warn:
		return j.found[0].Message
	case j.found[0].Code == "check_timeout": // the last of the errors, so there is no other
		return "It is not known whether other servers reach " + j.ServerName + ": " + inner(j.found[0].Message)
	case len(at) > 0 || slices.ContainsFunc(j.spots(), j.halfway):
		return "Not every server reaches " + j.ServerName + ": " + inner(j.found[0].Message)
	}
	return "No server can talk to " + j.ServerName + ": " + inner(j.found[0].Message)
}

// inner is a sentence as it stands behind a colon.
func inner(sentence string) string {
	for _, word := range []string{"The ", "There ", "Nobody ", "Connections ", "This ", "Only ", "No ", "None ", "Other ", "What ", "One "} {
		if strings.HasPrefix(sentence, word) {
			return strings.ToLower(sentence[:1]) + sentence[1:]
		}
	}
	return sentence // a name is written as it is
}

// spoken is a time for people: "5 minutes", "1 hour 10 minutes", "40 seconds".
func spoken(d time.Duration) string {
	unit := func(n int64, word string) string {
		if n == 1 {
			return "1 " + word
		}
		return fmt.Sprintf("%d %ss", n, word)
	}
	var parts []string
	d = d.Round(time.Second)
	for _, u := range []struct {
		of   time.Duration
		word string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		if n := int64(d / u.of); n > 0 && len(parts) < 2 {
			parts = append(parts, unit(n, u.word))
		}
		d %= u.of
	}
	if len(parts) == 0 {
		return "less than a second"
	}
	return strings.Join(parts, " ")
}

// halfway reports whether an address answers as it should over one protocol.
func (j *judgement) halfway(s spot) bool {
	return s.a.TLS != nil && s.a.TLS.Verified && slices.ContainsFunc(s.a.HTTP, func(h HTTP) bool {
		return h.Version.Error == nil && len(keyFaults(h.Keys, j.ServerName, j.CheckedAt)) == 0
	})
}

// add notes a finding. Its severity is that of the catalogue.
func (j *judgement) add(code, about, format string, args ...any) *Finding {
	kind := Kind{Severity: SeverityError}
	if i, ok := j.order[code]; ok { // TestCodes: it is
		kind = j.kinds[i]
	}
	f := &Finding{
		Code: code, Severity: kind.Severity, About: about, Message: fmt.Sprintf(format, args...),
		Section: kind.Section, URL: kind.URL,
	}
	j.found = append(j.found, f)
	return f
}

// because adds lines of evidence.
func (f *Finding) because(lines ...string) *Finding {
	for _, line := range lines {
		if line != "" && len(f.Evidence) < maxEvidence {
			f.Evidence = append(f.Evidence, line)
		}
	}
	return f
}

func (f *Finding) fix(fixes ...Fix) *Finding {
	f.Fixes = append(f.Fixes, fixes...)
	return f
}

func (f *Finding) as(s Severity) *Finding {
	f.Severity = s
	return f
}

// has reports whether one of the codes has been found.
func (j *judgement) has(codes ...string) bool {
	return slices.ContainsFunc(j.found, func(f *Finding) bool { return slices.Contains(codes, f.Code) })
}

// failed reports whether there is an error among the findings.
func (j *judgement) failed() bool {
	return slices.ContainsFunc(j.found, func(f *Finding) bool { return f.Severity == SeverityError })
}

// judgeName reports whether there is a server name to speak of.
func (j *judgement) judgeName() bool {
	text := j.ServerName
	name, err := servername.Parse(text)
	if err == nil {
		j.name, j.host = name, name.DNSName()
		j.judgeGoodName()
		return true
	}
	problem := "it is not a server name"
	var bad *servername.Error
	if errors.As(err, &bad) {
		problem = bad.Problem
	}
	code, better := "name_invalid", meant(text)
	_, rest, _ := strings.Cut(text, ":")
	host, _, _ := strings.Cut(text, ":")
	switch {
	case strings.Contains(text, "://"):
		code = "name_is_url"
		// A server name takes its port from discovery, not from https.
		if name, err := servername.Parse(better); err == nil && !strings.Contains(text, name.String()) {
			better = name.Host()
		}
	case text != "" && strings.IndexByte("@!#$+", text[0]) >= 0: // sigils (appendices, Common Identifier Format)
		code, better = "name_is_user_id", meant(rest)
	case strings.ContainsFunc(text, func(r rune) bool { return r >= 0x80 }):
		code, better = "name_not_ascii", toASCII(text)
	case len(host) > 1 && strings.HasSuffix(host, "."):
		code = "name_trailing_dot"
	}
	f := j.add(code, "", "%s is not a server name: %s.", printable.Quote(text, 80), problem)
	f.because("the name as given: " + printable.Quote(text, 200))
	if better != "" {
		f.fix(Fix{Title: "Use " + better + ".", Where: "shell", Text: "mxdiscover check " + better})
	} else {
		f.fix(Fix{Title: "Give a DNS name, such as example.org, or an IP address; a port may follow after a colon."})
	}
	return false
}

func (j *judgement) judgeGoodName() {
	text := j.ServerName
	_, hasPort := j.name.Port()
	if n := len(text); n > 230 { // appendices, "Server Name": SHOULD NOT exceed 230 characters
		j.add("name_long", "", "The name has %d characters; more than 230 leave no room for user names.", n).
			because(fmt.Sprintf("length of the name: %d", n)).
			fix(Fix{Title: "Choose a shorter name before the server has users."})
	}
	if lower := strings.ToLower(text); lower != text {
		j.add("name_upper_case", "", "%s has upper-case letters, and %s is another server for Matrix.", text, lower).
			because("the name as given: " + text).
			fix(Fix{Title: "Ask for " + lower + ", if that is the name in the server's configuration.", Where: "shell", Text: "mxdiscover check " + lower})
	}
	switch {
	case j.name.IsIP():
		j.add("name_ip_literal", "", "%s is an IP address: the server can never move to another one.", text).because("the name as given: " + text)
	case hasPort:
		j.add("name_port", "", "%s has a port: neither well-known nor SRV is asked, so the server can never move.", text).because("the name as given: " + text)
	}
}

// judgeCheck says what kept the check from its end.
func (j *judgement) judgeCheck() {
	var failed *resolver.Error
	errors.As(j.Resolution.Err, &failed)
	took := time.Duration(j.Duration).Round(100 * time.Millisecond)
	switch {
	case j.broken != "":
		j.add("check_timeout", "", "The check failed: %s.", j.broken).because(j.broken).fix(Fix{Title: "This is a fault of the program: report it."})
	case failed != nil && failed.Code == resolver.NotPermitted:
		j.add("check_timeout", "", "%s is not permitted here, so nothing was asked.", j.ServerName).
			because(failed.Detail).fix(Fix{Title: "Ask whoever runs this check to permit the name."})
	case j.has("check_timeout"): // judgeSRV and judgeConnections have said it
	case j.cut != nil:
		what := fmt.Sprintf("The time was up after %s, before everything was seen.", took)
		if errors.Is(j.cut, context.Canceled) {
			what = fmt.Sprintf("The check was given up after %s, before everything was seen.", took)
		}
		f := j.add("check_timeout", "", "%s", what)
		if failed != nil {
			f.because(errorLine(failed))
		}
		for _, s := range j.spots() {
			if cutShort(s.a) {
				f.because(fmt.Sprintf("%s: not finished", s))
			}
		}
		f.because(fmt.Sprintf("the check took %s", took)).
			fix(Fix{Title: "Give the check more time.", Where: "shell", Text: "mxdiscover check --timeout 2m " + j.shellName()})
	case failed != nil && failed.Code == resolver.Internal:
		j.add("check_timeout", "", "The check failed: %s.", failed.Detail).because(errorLine(failed)).fix(Fix{Title: "This is a fault of the program: report it."})
	case j.name.String() != "" && !j.failed() && !slices.ContainsFunc(j.spots(), func(s spot) bool { return s.a.OK }) && !j.has("ipv6_unchecked"):
		// Whatever it is: nobody may call it good.
		f := j.add("check_timeout", "", "No address answers as it should, and the check cannot say why.").
			because(j.addressLines()...).fix(Fix{Title: "Check again; if it stays so, report it as a fault of the program."})
		if failed != nil {
			f.because(errorLine(failed))
		}
	}
}

func (j *judgement) shellName() string {
	if j.name.String() == "" {
		return "NAME"
	}
	if strings.HasPrefix(j.name.String(), "[") {
		return "'" + j.name.String() + "'"
	}
	return j.name.String()
}

func errorLine(e *resolver.Error) string {
	if e.Query == "" {
		return printable.Line(e.Detail)
	}
	return printable.Line(e.Query + ": " + e.Detail)
}

// cutShort reports whether the end of the check kept an address from being seen.
func cutShort(a *Address) bool {
	cut := func(p *Problem) bool { return p != nil && p.Code == codeCut }
	if cut(a.TCP.Error) || a.TLS != nil && cut(a.TLS.Error) {
		return true
	}
	for _, h := range a.HTTP {
		if cut(h.Version.Error) || cut(h.Keys.Error) {
			return true
		}
	}
	return false
}

// A spot is an address of a target.
type spot struct {
	t *Target
	a *Address
}

func (s spot) String() string {
	if s.a.Address.Addr().String() == s.t.Host {
		return s.a.Address.String()
	}
	return s.t.Host + " at " + s.a.Address.String()
}

func (s spot) four() bool { return s.a.Address.Addr().Is4() }

// spots are all addresses of all targets.
func (j *judgement) spots() []spot {
	var list []spot
	for i := range j.Targets {
		t := &j.Targets[i]
		for k := range t.Addresses {
			list = append(list, spot{t, &t.Addresses[k]})
		}
	}
	return list
}

// about names spots for people: all of them, or their target.
func about(spots []spot) string {
	var list []string
	for _, s := range spots {
		list = append(list, s.a.Address.String())
	}
	return enumerate(list, 4)
}

// places names the hosts and ports of spots, each once.
func places(spots []spot) string {
	var list []string
	for _, s := range spots {
		if name := s.t.String(); !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return enumerate(list, 3)
}

// enumerate joins the first most of a list for people.
func enumerate(list []string, most int) string {
	if len(list) > most {
		list = append(slices.Clone(list[:most]), fmt.Sprintf("%d more", len(list)-most))
	}
	switch len(list) {
	case 0:
		return ""
	case 1:
		return list[0]
	}
	return strings.Join(list[:len(list)-1], ", ") + " and " + list[len(list)-1]
}

// family says which of the two all spots have.
func family(addrs []netip.AddrPort) (four, six bool) {
	for _, a := range addrs {
		if a.Addr().Is4() {
			four = true
		} else {
			six = true
		}
	}
	return four, six
}

// group parts spots by what is wrong with them; "" is nothing, and is left out.
// The codes are in the order of the catalogue.
func (j *judgement) group(spots []spot, fault func(spot) string) (codes []string, by map[string][]spot) {
	by = make(map[string][]spot)
	for _, s := range spots {
		code := fault(s)
		if code == "" {
			continue
		}
		if by[code] == nil {
			codes = append(codes, code)
		}
		by[code] = append(by[code], s)
	}
	slices.SortStableFunc(codes, func(a, b string) int { return cmp.Compare(j.order[a], j.order[b]) })
	return codes, by
}

// lines are evidence about spots: what was asked and what came back. Those that
// differ in the address alone are one line; at is the address, or several.
func lines(spots []spot, line func(s spot, at string) string) []string {
	var order []string
	by := make(map[string][]spot)
	for _, s := range spots {
		key := s.t.String() + line(s, "")
		if by[key] == nil {
			order = append(order, key)
		}
		by[key] = append(by[key], s)
	}
	var list []string
	for _, key := range order {
		same := by[key]
		at := about(same)
		if first := same[0]; first.a.Address.Addr().String() != first.t.Host {
			at = first.t.Host + " at " + at
		}
		list = append(list, line(same[0], at))
	}
	return list
}
