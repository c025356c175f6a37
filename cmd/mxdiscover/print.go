package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"mxdiscover/internal/printable"
	"mxdiscover/resolver"
)

// because says in words why the rule that decided did.
func because(r *resolver.Report) string {
	switch r.Step {
	case "1":
		return "the name is an IP address"
	case "2":
		return "the name has a port"
	case "3.1":
		return "well-known delegates to an IP address"
	case "3.2":
		return "well-known delegates to a host and port"
	case "3.3":
		return "well-known delegates to a host with SRV records (_matrix-fed._tcp)"
	case "3.4":
		return "well-known delegates to a host with old SRV records (_matrix._tcp)"
	case "3.5":
		return "well-known delegates to a host without port and SRV records"
	}
	text, srv := "no well-known document", "no SRV record"
	for _, step := range r.Steps() {
		switch {
		case step.Rule == "3" && step.Outcome == resolver.Temporary:
			// The reason stands at the end, behind URLs and addresses.
			reason := step.Detail[strings.LastIndex(step.Detail, ": ")+1:]
			text = "well-known could not be asked (" + strings.TrimSpace(reason) + ")"
		case step.Rule == "3" && step.Outcome != resolver.Absent:
			text = "the well-known document is not usable"
		case step.Rule != "3" && step.Outcome == resolver.Temporary:
			srv = "SRV could not be asked"
		}
	}
	switch r.Step {
	case "4":
		return text + ", but SRV records (_matrix-fed._tcp)"
	case "5":
		return text + ", but old SRV records (_matrix._tcp)"
	}
	return text + ", " + srv + ": port 8448"
}

// answer prints where a name leads.
func (a *app) answer(r *resolver.Report) {
	o := a.stdout
	fmt.Fprintln(o, o.paint(bold, r.ServerName))
	label := "connect to"
	for _, l := range r.Located {
		color := green
		if l.Err != nil {
			color = yellow
		}
		text := o.paint(color, l.Target.String())
		if len(r.Located) > 1 {
			text += fmt.Sprintf("  (priority %d, weight %d)", l.Priority, l.Weight)
		}
		field(o, label, text)
		if where := whereabouts(l); where != "" {
			field(o, "", "  "+where)
		}
		label = ""
	}
	field(o, "Host header", r.Host)
	cert := r.TLSName
	if r.SNI == "" {
		cert += " (an IP address: no SNI)"
	}
	field(o, "certificate", cert)
	field(o, "because", "rule "+r.Step+": "+because(r))
	if !r.Expires.IsZero() {
		field(o, "good until", fmt.Sprintf("%s (%s)", r.Expires.UTC().Format("2006-01-02 15:04:05 UTC"), short(time.Until(r.Expires))))
	}
}

// whereabouts says what a target leads to, unless it says so itself.
func whereabouts(l resolver.Located) string {
	var failed *resolver.Error
	if errors.As(l.Err, &failed) {
		return "not usable: " + strings.ReplaceAll(string(failed.Code), "_", " ")
	}
	var list []string
	elsewhere := ""
	for _, to := range l.Addresses {
		text := to.Addr().String()
		if to.Port() != l.Port {
			text, elsewhere = to.String(), " (--connect-to)"
		}
		list = append(list, text)
	}
	if len(list) == 1 && list[0] == l.Host {
		return ""
	}
	return "at " + strings.Join(list, ", ") + elsewhere
}

// field prints a labelled value, broken at spaces to fit the width.
func field(w io.Writer, label, value string) {
	const indent = 15
	for i, line := range wrap(value, width-indent) {
		if i > 0 {
			label = ""
		}
		fmt.Fprintf(w, "  %-13s%s\n", label, line)
	}
}

// evidence prints every rule, what was asked, and what came back.
func (a *app) evidence(r *resolver.Report) {
	fmt.Fprintln(a.stderr, a.stderr.paint(bold, printable.Line(r.ServerName)))
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
			a.note(fmt.Sprintf("%s: %d redirects to %s; took %s", hop.Addr, hop.Status, hop.Location, hop.Duration.Round(10*time.Microsecond)))
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
	case !step.Expires.IsZero():
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
			a.stderr.paint(outcomeColor[outcome], string(outcome)), 10-len(outcome), "", line)
	}
}

func (a *app) note(text string) {
	const indent = 25
	for _, line := range wrap(text, width-indent) {
		fmt.Fprintf(a.stderr, "%*s%s\n", indent, "", a.stderr.paint(dim, line))
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
