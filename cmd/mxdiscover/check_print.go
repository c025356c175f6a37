package main

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"mxdiscover/check"
	"mxdiscover/resolver"
)

var verdictColor = map[check.Verdict]string{check.Good: green, check.Warn: yellow, check.Bad: red}

var severityColor = map[check.Severity]string{check.SeverityError: red, check.SeverityWarning: yellow, check.SeverityNotice: cyan}

// Marks of what was tried.
const (
	markOK   = "ok"
	markFail = "FAIL"
)

// textColumn is where text begins below an address, behind a label and a time.
const textColumn = 17

// printCheck prints a report for people: the verdict, the way taken, what was
// found.
func (a *app) printCheck(r *check.Report, verbose bool) {
	p := &sheet{out: a.stdout, now: r.CheckedAt, verbose: verbose}
	p.row(0, p.paint(verdictColor[r.Verdict], shown(string(r.Verdict))), 6, p.paint(bold, shown(r.ServerName)))
	p.row(0, "", 6, shown(r.Summary))
	if len(r.Ways)+len(r.Targets) > 0 {
		p.blank()
	}
	p.ways(r)
	for i := range r.Targets {
		p.target(r, &r.Targets[i])
	}
	notices := 0
	for i := range r.Findings {
		f := &r.Findings[i]
		if f.Severity != check.SeverityNotice || verbose {
			p.finding(f)
			continue
		}
		// Nothing is wrong: a line will do.
		if notices++; notices == 1 {
			p.blank()
		}
		p.row(0, p.paint(severityColor[f.Severity], "notice:"), 8, shown(f.Code)+": "+shown(f.Message))
	}
}

// sheet prints rows: an indent, a label, and a text that is broken to fit.
type sheet struct {
	out     *output
	now     time.Time // what was seen was seen then
	verbose bool
}

func (p *sheet) paint(color, s string) string {
	if color == "" || s == "" {
		return s
	}
	return p.out.paint(color, s)
}

func (p *sheet) blank() { fmt.Fprintln(p.out) }

// row prints label, filled up to columns, and text behind it.
func (p *sheet) row(indent int, label string, columns int, text string) {
	if label != "" {
		columns = max(columns, visible(label)+1)
	}
	for _, line := range wrap(text, width-indent-columns) {
		fill := strings.Repeat(" ", max(columns-visible(label), 0))
		fmt.Fprintln(p.out, strings.TrimRight(strings.Repeat(" ", indent)+label+fill+line, " "))
		label = ""
	}
}

// ways prints every rule with its outcome, and below the well-known document
// what each address of its host answers.
func (p *sheet) ways(r *check.Report) {
	const indent, columns, column = 2, 23, 13
	for i := 0; i < len(r.Ways); i++ {
		w, first := &r.Ways[i], i
		for i+1 < len(r.Ways) && p.silent(w) && p.silent(&r.Ways[i+1]) && w.Reason == r.Ways[i+1].Reason {
			i++
		}
		label := "rule " + shown(w.Rule)
		if i > first {
			label += "-" + shown(r.Ways[i].Rule)
		}
		label += strings.Repeat(" ", max(column-len(label), 1)) + p.paint(outcomeColor[w.Outcome], shown(string(w.Outcome)))
		lines := cut(shown(w.Query), shown(w.Reason), leads(w))
		if p.silent(w) {
			lines = cut(shown(w.Reason))
		}
		for _, line := range lines {
			p.row(indent, label, columns, line)
			label = ""
		}
		if w.Rule == "3" {
			p.wellKnown(r.WellKnown)
		}
	}
}

// silent says whether a way has nothing to tell but why it was skipped. Where
// there was something to find, such as SRV records beside a delegation, it has.
func (p *sheet) silent(w *check.Way) bool {
	return w.Outcome == resolver.Skipped && !p.verbose && (w.Query == "" || len(w.Targets) == 0)
}

// leads says where a way would lead that does not decide.
func leads(w *check.Way) string {
	list := shown(strings.Join(w.Targets, ", "))
	switch {
	case list == "" || w.Agrees == nil:
		return ""
	case *w.Agrees:
		return "would lead to " + list + ", the same"
	}
	return "would lead to " + list + ", elsewhere"
}

func (p *sheet) wellKnown(list []check.WellKnown) {
	for i := range list {
		mark, text := wellKnownLine(&list[i])
		p.mark(mark, list[i].Address.String())
		p.timed("HTTP", list[i].Duration, text)
		p.probes(list[i].Probes)
	}
}

// wellKnownLine says what one address of the well-known host answers.
func wellKnownLine(w *check.WellKnown) (mark, text string) {
	var parts []string
	for i := 1; i < len(w.Hops); i++ {
		parts = append(parts, "redirected to "+shown(w.Hops[i].URL))
	}
	if w.Error != nil {
		parts = append(parts, shown(w.Error.Message))
		mark = markFail
	} else {
		parts = append(parts, "m.server = "+shown(w.Server))
		if w.Lifetime > 0 {
			parts = append(parts, "kept for "+short(time.Duration(w.Lifetime)))
		}
		mark = markOK
	}
	return mark, strings.Join(parts, ", ")
}

func (p *sheet) mark(mark, what string) {
	color := green
	if mark == markFail {
		color = red
	}
	p.row(4, p.paint(color, mark), 6, what)
}

func targetName(t *check.Target) string {
	return net.JoinHostPort(shown(t.Host), strconv.Itoa(int(t.Port)))
}

// targetLine says what is known of a target beside its addresses.
func targetLine(t *check.Target) string {
	var parts []string
	if t.Alias != "" {
		parts = append(parts, "an alias of "+shown(t.Alias))
	}
	if t.Error != nil {
		parts = append(parts, shown(t.Error.Message))
	}
	if n := len(t.Addresses); n > 0 {
		parts = append(parts, plural(n, "address", "addresses"))
	}
	return strings.Join(parts, ", ")
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

func (p *sheet) target(r *check.Report, t *check.Target) {
	text := p.paint(bold, targetName(t))
	if len(r.Targets) > 1 {
		text += fmt.Sprintf("  (priority %d, weight %d)", t.Priority, t.Weight)
	}
	p.row(2, "target", 13, text)
	if t.Alias != "" {
		p.row(15, "", 0, "an alias of "+shown(t.Alias))
	}
	if t.Error != nil {
		p.row(4, p.paint(red, markFail), 6, shown(t.Error.Message))
	}
	for _, refused := range t.Refused {
		p.mark(markFail, refused.Addr.String())
		p.row(10, "refused", textColumn, shown(refused.Reason))
	}
	for i := range t.Addresses {
		p.address(&t.Addresses[i], r.ServerName)
	}
}

func (p *sheet) address(a *check.Address, name string) {
	mark := markFail
	if a.OK {
		mark = markOK
	}
	p.mark(mark, a.Address.String())
	defer p.probes(a.Probes)
	p.phase("TCP", a.TCP, "connected")
	if a.TLS == nil {
		return
	}
	p.phase("TLS", a.TLS.Phase, strings.Join(cut(shown(a.TLS.Version), alpnText(a.TLS)), ", "))
	for i := range a.TLS.Certificates {
		if i > 0 && !p.verbose {
			break
		}
		label := ""
		if i == 0 {
			label = "cert"
		}
		p.row(10, label, textColumn, certificateLine(a.TLS, i, p.now))
	}
	same := sameKeys(a.HTTP, p.now)
	for i := range a.HTTP {
		h := &a.HTTP[i]
		p.answer(shown(h.Protocol), &h.Version.Answer, cmp.Or(strings.Join(cut(shown(h.Version.Name), shown(h.Version.Server)), " "), "a version without a name"))
		if !same || i == len(a.HTTP)-1 {
			p.answer("keys", &h.Keys.Answer, keysLine(&h.Keys, name, p.now))
		}
	}
}

// probes prints what was tried to find the cause of a failure.
func (p *sheet) probes(list []check.Probe) {
	for i := range list {
		b := &list[i]
		color := ""
		if b.Matrix {
			color = yellow // there it is
		}
		text := probeWords(b)
		if b.Detail != "" {
			text += ": " + p.paint(color, shown(b.Detail))
		}
		p.timed("tried", b.Duration, text)
	}
}

// probeWords says what was varied.
func probeWords(b *check.Probe) string {
	switch b.Kind {
	case check.ProbePort443:
		return "port 443"
	case check.ProbeClientAPI:
		return "the client API"
	case check.ProbePath:
		return "path " + shown(b.Value)
	case check.ProbeHost:
		return "Host " + shown(b.Value)
	case check.ProbeOldTLS:
		return "TLS 1.0 to 1.2"
	case check.ProbePlainHTTP:
		return "HTTP without TLS"
	}
	return shown(b.Query)
}

// sameKeys says whether all protocols gave the same keys.
func sameKeys(list []check.HTTP, now time.Time) bool {
	for i := range list {
		k := &list[i].Keys
		if k.Error != nil || k.Status != 200 || keysLine(k, "", now) != keysLine(&list[0].Keys, "", now) {
			return false
		}
	}
	return true
}

func (p *sheet) phase(label string, phase check.Phase, good string) {
	p.said(label, phase.Error, 0, good, phase.Duration)
}

func (p *sheet) answer(label string, a *check.Answer, good string) {
	p.said(label, a.Error, a.Status, good, a.Duration)
}

// said is a row with how long something took, and what came back or went wrong.
func (p *sheet) said(label string, problem *check.Problem, status int, good string, d check.Duration) {
	if problem != nil {
		good = p.paint(red, shown(problem.Message))
	} else if status != 0 && status != 200 {
		good = p.paint(red, "status "+strconv.Itoa(status))
	}
	p.timed(label, d, good)
}

// timed is a row below an address.
func (p *sheet) timed(label string, d check.Duration, text string) {
	const column = 9
	p.row(10, label+strings.Repeat(" ", max(column-len(label), 1))+took(d), textColumn, text)
}

func alpnText(t *check.TLS) string {
	if t.Error != nil {
		return ""
	}
	return cmp.Or(shown(t.ALPN), "no ALPN")
}

// certificateLine says what the certificate at i of the chain is, seen at now.
func certificateLine(t *check.TLS, i int, now time.Time) string {
	c := &t.Certificates[i]
	by := fmt.Sprintf(", by %s, until %s", shown(c.Issuer), day(c.NotAfter, now))
	switch {
	case i == 0 && t.Verified:
		return "proves " + shown(t.Name) + by
	case i == 0:
		return shown(c.Subject) + by + ", does not prove " + shown(t.Name)
	}
	return shown(c.Subject) + by
}

// keysLine says which keys were published, for name if nobody else is named.
func keysLine(k *check.Keys, name string, now time.Time) string {
	var ids []string
	for _, key := range k.VerifyKeys {
		id := shown(key.ID)
		if !key.Signed {
			id += " (no good signature)"
		}
		ids = append(ids, id)
	}
	text := cmp.Or(strings.Join(ids, ", "), "none")
	if k.ServerName != "" && k.ServerName != name {
		text += " of " + shown(k.ServerName)
	}
	if !k.ValidUntil.IsZero() {
		text += ", until " + day(k.ValidUntil, now)
	}
	return text
}

// whyNot says why a federating server gets no answer from an address.
func whyNot(a *check.Address) string {
	if a.TCP.Error != nil {
		return shown(a.TCP.Error.Message)
	}
	if a.TLS != nil && a.TLS.Error != nil {
		return shown(a.TLS.Error.Message)
	}
	for _, h := range a.HTTP {
		for _, answer := range []*check.Answer{&h.Version.Answer, &h.Keys.Answer} {
			if answer.Error != nil {
				return shown(answer.Error.Message)
			}
		}
	}
	return "its answers are not right"
}

// finding prints one finding. Lines to copy stand as they are, behind four
// spaces, however long they are.
func (p *sheet) finding(f *check.Finding) {
	p.blank()
	head := p.paint(severityColor[f.Severity], shown(string(f.Severity))+":") + " " + shown(f.Code)
	if f.About != "" {
		head += "  " + shown(f.About)
	}
	fmt.Fprintln(p.out, head)
	p.row(2, "", 0, shown(f.Message))
	label := "evidence"
	for _, line := range f.Evidence {
		p.row(2, p.paint(dim, label), 10, shown(line))
		label = ""
	}
	label = "change"
	for _, fix := range f.Fixes {
		title := shown(fix.Title)
		if fix.Where != "" && fix.Text != "" {
			title += " (" + shown(fix.Where) + ")"
		}
		p.row(2, p.paint(green, label), 10, title)
		if fix.Text != "" {
			copyable(p.out, fix.Text)
		}
		label = "or"
	}
	if f.Section != "" {
		p.row(2, p.paint(dim, "see"), 10, shown(f.Section))
	}
	if f.URL != "" {
		p.row(4, "", 0, shown(f.URL))
	}
}

// copyable prints lines to copy.
func copyable(w io.Writer, text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		line = strings.Map(func(r rune) rune {
			if r == '\t' || unicode.IsPrint(r) {
				return r
			}
			return -1
		}, line)
		fmt.Fprintln(w, strings.TrimRight("    "+line, " "))
	}
}

// shown is text of a report made fit for a terminal: what is not printable, such
// as a control character or one that turns the direction of writing, is escaped.
func shown(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 && strings.ToValidUTF8(s, "") == s {
		return s
	}
	quoted := strconv.QuoteToGraphic(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// cut leaves out what is empty.
func cut(list ...string) []string {
	return slices.DeleteFunc(list, func(s string) bool { return s == "" })
}

// day gives a date, and how far from now it is.
func day(t, now time.Time) string {
	left, text := t.Sub(now), "%s (in %s)"
	if left < 0 {
		left, text = -left, "%s (%s ago)"
	}
	span := short(left)
	if left >= 48*time.Hour {
		span = strconv.Itoa(int(left.Hours()/24)) + " days"
	}
	return fmt.Sprintf(text, t.UTC().Format(time.DateOnly), span)
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// took gives a time as people read it.
func took(d check.Duration) string {
	switch t := time.Duration(d); {
	case t < time.Millisecond:
		return "<1 ms"
	case t < time.Second:
		return strconv.FormatInt(t.Milliseconds(), 10) + " ms"
	default:
		return fmt.Sprintf("%.1f s", t.Seconds())
	}
}
