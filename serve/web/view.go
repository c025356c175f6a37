package web

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"mxdiscover/check"
	"mxdiscover/resolver"
	"mxdiscover/wellknown/client"
)

// maxListed is how many names, versions or addresses stand in one line. A certificate
// may have a hundred names; nobody reads them here.
const maxListed = 12

// state says how a part of the way stands. It is the CSS class and chooses the
// icon; words say the same.
type state string

const (
	good state = "good"
	warn state = "warn"
	bad  state = "bad"
	note state = "note"
	off  state = "off"  // nothing to judge: skipped, absent, not reached
	wait state = "wait" // not known yet
)

// Word is the state for those who do not see it.
func (s state) Word() string {
	switch s {
	case good:
		return "good"
	case warn:
		return "warning"
	case bad:
		return "error"
	case note:
		return "notice"
	case off:
		return "not needed"
	}
	return "waiting"
}

// worse orders the states.
func (s state) worse(than state) bool {
	order := []state{wait, off, good, note, warn, bad}
	return slices.Index(order, s) > slices.Index(order, than)
}

func severity(s check.Severity) state {
	switch s {
	case check.SeverityError:
		return bad
	case check.SeverityWarning:
		return warn
	}
	return note
}

func verdict(v check.Verdict) state {
	switch v {
	case check.Good:
		return good
	case check.Warn:
		return warn
	}
	return bad // fail closed: a report without a verdict is no good news
}

// view is the page in the form of its template.
type view struct {
	*Page
	Running bool

	Title  string
	Draft  bool // the rules are those of the draft
	Link   string
	Again  string
	Other  string // the same name by the other rules
	JSON   string
	Stages []stage

	// Of a report.
	State   state
	Age     string
	Took    string
	Serious []finding
	Notices []finding
	Ways    []way
	Client  *clientView

	// Of an Err.
	Retry string
}

// Warn is the state of warnings that have no severity of their own.
func (v *view) Warn() state { return warn }

func (p *Page) view() *view {
	v := &view{Page: p, Draft: p.Rules == resolver.Draft2019.String(), Link: Link(p.Name, p.Rules), Stages: emptyStages()}
	query := url.Values{"server_name": {p.Name}}
	other := resolver.Draft2019.String()
	if v.Draft {
		query.Set("rules", p.Rules)
		other = ""
	}
	v.Again = v.Link + "&refresh=1"
	v.Other = Link(p.Name, other)
	v.JSON = "./api/v1/check?" + query.Encode()
	v.Title = "Where does a Matrix name lead?"
	if p.Name != "" {
		v.Title = short(p.Name)
	}
	switch r := p.Report; {
	case p.Err != nil:
		v.Title = "No answer: " + v.Title
		v.Retry = waitFor(p.Err.RetryAfter)
	case r != nil:
		v.Title = string(r.Verdict) + ": " + v.Title
		v.State = verdict(r.Verdict)
		v.Age, v.Took = ago(p.Age), took(r.Duration)
		v.findings(r)
		v.Stages = stages(r, v)
		v.Ways = ways(r)
	}
	if p.Client != nil {
		v.Client = viewClient(p.Client)
	}
	return v
}

// short is a name for a title.
func short(name string) string {
	const most = 80
	if runes := []rune(name); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return name
}

// A finding is one of the report with what the catalogue says of its kind.
type finding struct {
	check.Finding
	ID    string // of its element
	State state
	Why   string
}

func (v *view) findings(r *check.Report) {
	for i, f := range r.Findings {
		view := finding{Finding: f, ID: "finding-" + strconv.Itoa(i+1), State: severity(f.Severity)}
		if kind, ok := check.Explain(f.Code); ok {
			view.Why = kind.Why
		}
		if view.State == note {
			v.Notices = append(v.Notices, view)
		} else {
			v.Serious = append(v.Serious, view)
		}
	}
}

// A way is a line of the table of all rules.
type way struct {
	check.Way
	State  state
	Agrees string
	Leads  string
}

func ways(r *check.Report) []way {
	var list []way
	for _, w := range r.Ways {
		view := way{Way: w, State: outcome(w.Outcome), Leads: join(w.Targets)}
		if w.Agrees != nil {
			view.Agrees = "leads elsewhere"
			if *w.Agrees {
				view.Agrees = "leads to the same"
			}
		}
		list = append(list, view)
	}
	return list
}

func outcome(o resolver.Outcome) state {
	switch o {
	case resolver.Used:
		return good
	case resolver.Absent, resolver.Skipped:
		return off
	}
	return warn
}

// clientView is what clients find.
type clientView struct {
	State    state
	Headline string
	Server   *client.Section
	Versions string
	Reason   string
	Identity string
	Steps    []client.Step
	Warnings []client.Warning
}

func viewClient(d *client.Discovery) *clientView {
	v := &clientView{Server: &d.Homeserver, Versions: join(d.Homeserver.Versions), Steps: d.Steps, Warnings: d.Warnings, State: good}
	if d.Error != nil {
		v.Reason = d.Error.Message
	}
	switch d.State {
	case client.Success:
		v.Headline = "Clients find the homeserver by themselves."
		if len(d.Warnings) > 0 {
			v.State, v.Headline = warn, "Clients find the homeserver, but something should be changed."
		}
	case client.Ignore:
		v.State, v.Headline = off, "Nothing is published for clients: users type the URL of their homeserver."
	case client.FailError:
		v.State, v.Headline = bad, "Clients stop with an error: what is published cannot be used."
	default:
		v.State, v.Headline = warn, "Discovery fails: clients ask the user for the URL of the homeserver."
	}
	switch id := d.IdentityServer; {
	case id.State == client.Success:
		v.Identity = id.BaseURL
	case id.Reason != nil:
		v.Identity = id.Reason.Message
		if v.State == good {
			v.State = warn
		}
	}
	return v
}

// join lists some, and says how many more there are.
func join(list []string) string {
	if more := len(list) - maxListed; more > 0 {
		return strings.Join(list[:maxListed], ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(list, ", ")
}

func took(d check.Duration) string {
	switch d := time.Duration(d); {
	case d <= 0:
		return ""
	case d < time.Millisecond:
		return "under 1 ms"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	default:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
}

// span is a length of time in its largest unit.
func span(d time.Duration) string {
	n, unit := int64(d/(24*time.Hour)), "day"
	switch {
	case d < time.Minute:
		n, unit = int64(d/time.Second), "second"
	case d < time.Hour:
		n, unit = int64(d/time.Minute), "minute"
	case d < 48*time.Hour:
		n, unit = int64(d/time.Hour), "hour"
	}
	if n == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}

func ago(d time.Duration) string {
	if d < time.Second {
		return "just now"
	}
	return span(d) + " ago"
}

func waitFor(d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return span((d + time.Second - 1).Truncate(time.Second))
}
