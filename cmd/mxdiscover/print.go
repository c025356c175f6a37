package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"mxdiscover/internal/printable"
	"mxdiscover/resolver"
)

// width is what every terminal shows.
const width = 80

// SGR codes (ECMA-48, 8.3.117).
const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

func paint(on bool, code, s string) string {
	if !on {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// complain, warn: one line that says what is wrong, and one with what to do.
func (a *app) complain(message, hint string) { a.say("error", red, message, hint) }

func (a *app) warn(message, hint string) { a.say("warning", yellow, message, hint) }

func (a *app) say(kind, color, message, hint string) {
	fmt.Fprintf(a.stderr, "%s %s\n", paint(a.colorErr, color, kind+":"), message)
	if hint != "" {
		fmt.Fprintf(a.stderr, "%s %s\n", paint(a.colorErr, cyan, "hint:"), hint)
	}
}

// because says in words what each rule means.
var because = map[string]string{
	"1":   "the name is an IP address",
	"2":   "the name has a port",
	"3.1": "well-known delegates to an IP address",
	"3.2": "well-known delegates to a host and port",
	"3.3": "well-known delegates to a host with SRV records (_matrix-fed._tcp)",
	"3.4": "well-known delegates to a host with old SRV records (_matrix._tcp)",
	"3.5": "well-known delegates to a host without port and SRV records",
	"4":   "no delegation by well-known, but SRV records (_matrix-fed._tcp)",
	"5":   "no delegation by well-known, but old SRV records (_matrix._tcp)",
	"6":   "neither well-known nor SRV say anything: the default port",
}

// answer prints where a name leads.
func (a *app) answer(r *resolver.Report) {
	fmt.Fprintln(a.stdout, paint(a.colorOut, bold, r.ServerName))
	label := "connect to"
	for _, l := range r.Located {
		text := paint(a.colorOut, green, l.Target.String())
		if len(r.Located) > 1 {
			text += fmt.Sprintf("  (priority %d, weight %d)", l.Priority, l.Weight)
		}
		a.field(a.stdout, label, text)
		addresses := make([]string, len(l.Addresses))
		for i, addr := range l.Addresses {
			addresses[i] = addr.String()
		}
		switch {
		case l.Err != nil:
			a.field(a.stdout, "", "  no address to dial")
		case len(addresses) != 1 || addresses[0] != l.Host:
			a.field(a.stdout, "", "  at "+strings.Join(addresses, ", "))
		}
		label = ""
	}
	a.field(a.stdout, "Host header", r.Host)
	cert := r.TLSName
	if r.SNI == "" {
		cert += " (an IP address: no SNI)"
	}
	a.field(a.stdout, "certificate", cert)
	a.field(a.stdout, "because", "rule "+r.Step+": "+because[r.Step])
	if !r.Expires.IsZero() {
		a.field(a.stdout, "good until", fmt.Sprintf("%s (%s)", r.Expires.UTC().Format("2006-01-02 15:04:05 UTC"), short(time.Until(r.Expires))))
	}
}

// field prints a labelled value, broken at spaces to fit the width.
func (a *app) field(w io.Writer, label, value string) {
	const indent = 15
	for i, line := range wrap(value, width-indent) {
		if i > 0 {
			label = ""
		}
		fmt.Fprintf(w, "  %-13s%s\n", label, line)
	}
}

// wrap breaks s at spaces into lines of at most most characters; a word that
// is longer stays whole. Leading spaces are kept on every line.
func wrap(s string, most int) []string {
	text := strings.TrimLeft(s, " ")
	lead := s[:len(s)-len(text)]
	var lines []string
	line := lead
	for _, word := range strings.Fields(text) {
		switch {
		case line == lead:
			line += word
		case visible(line)+1+visible(word) <= most:
			line += " " + word
		default:
			lines = append(lines, line)
			line = lead + word
		}
	}
	return append(lines, line)
}

// visible is how many columns s takes: SGR sequences take none.
func visible(s string) int {
	n, inside := 0, false
	for _, r := range s {
		switch {
		case r == '\x1b':
			inside = true
		case inside:
			inside = r != 'm'
		default:
			n++
		}
	}
	return n
}

// evidence prints every rule, what was asked, and what came back.
func (a *app) evidence(r *resolver.Report) {
	fmt.Fprintln(a.stderr, paint(a.colorErr, bold, printable.Line(r.ServerName)))
	steps := r.Steps()
	for i := 0; i < len(steps); i++ {
		label, first := "rule "+steps[i].Rule, i
		for i+1 < len(steps) && steps[i].Outcome == resolver.Skipped && steps[i+1].Outcome == resolver.Skipped && steps[i].Detail == steps[i+1].Detail {
			i++
		}
		if i > first {
			label += "-" + steps[i].Rule
		}
		a.step(label, steps[i])
	}
	for _, l := range r.Located {
		for _, step := range l.Lookups {
			a.step("address", step)
		}
		for _, refused := range l.Refused {
			a.head("address", "denied", l.Target.Host)
			a.note(refused.Addr.String() + ": " + refused.Reason)
		}
	}
}

var outcomeColor = map[resolver.Outcome]string{
	resolver.Used:      green,
	resolver.Absent:    cyan,
	resolver.Invalid:   red,
	resolver.Temporary: red,
	resolver.Denied:    red,
	resolver.Skipped:   dim,
}

func (a *app) step(label string, step resolver.Step) {
	what := step.Query
	if what == "" {
		what = step.Detail
	}
	a.head(label, step.Outcome, what)
	if step.Query == "" {
		return
	}
	if len(step.Hops) > 1 {
		for _, hop := range step.Hops[:len(step.Hops)-1] {
			a.note(fmt.Sprintf("%d redirects to %s", hop.Status, hop.Location))
		}
	}
	a.note(step.Detail)
	var facts []string
	if step.Server != "" {
		facts = append(facts, "from "+step.Server)
	}
	if n := len(step.Hops); n > 0 && step.Hops[n-1].TLS != "" {
		facts = append(facts, step.Hops[n-1].TLS)
	}
	facts = append(facts, "took "+step.Duration.Round(10*time.Microsecond).String())
	switch {
	case step.Stale:
		facts = append(facts, "expired, used because nobody could be asked")
	case step.Cached:
		facts = append(facts, "cached, good for "+short(time.Until(step.Expires)))
	default:
		facts = append(facts, "kept for "+short(step.TTL))
	}
	a.note(strings.Join(facts, "; "))
}

func (a *app) head(label string, outcome resolver.Outcome, what string) {
	const indent = 25
	for i, line := range wrap(what, width-indent) {
		if i > 0 {
			fmt.Fprintf(a.stderr, "%*s%s\n", indent, "", line)
			continue
		}
		fmt.Fprintf(a.stderr, "  %-12s %s%*s%s\n", label,
			paint(a.colorErr, outcomeColor[outcome], string(outcome)), 10-len(outcome), "", line)
	}
}

func (a *app) note(text string) {
	const indent = 25
	for _, line := range wrap(text, width-indent) {
		fmt.Fprintf(a.stderr, "%*s%s\n", indent, "", paint(a.colorErr, dim, line))
	}
}

// short gives a duration in at most two units.
func short(d time.Duration) string {
	d = d.Round(time.Second)
	hours, minutes, seconds := int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60
	switch {
	case hours > 0 && minutes > 0:
		return fmt.Sprintf("%d h %d min", hours, minutes)
	case hours > 0:
		return fmt.Sprintf("%d h", hours)
	case minutes > 0 && seconds > 0:
		return fmt.Sprintf("%d min %d s", minutes, seconds)
	case minutes > 0:
		return fmt.Sprintf("%d min", minutes)
	}
	return fmt.Sprintf("%d s", max(seconds, 0))
}
