package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"mxdiscover/check"
)

// changeVersion is the version of a change's JSON form. A key that is new does
// not change it.
const changeVersion = 1

// A change is what is other than in the round before. Its JSON is a line of
// check --watch --json and the body of a webhook (docs/change.schema.json).
type change struct {
	Version    int           `json:"version"` // changeVersion
	ServerName string        `json:"server_name"`
	At         time.Time     `json:"at"`
	Verdict    check.Verdict `json:"verdict"` // now
	Summary    string        `json:"summary"`
	First      bool          `json:"first"` // there is no round before; Changes is empty
	Changes    []difference  `json:"changes"`
}

// A difference is one thing that has changed.
type difference struct {
	What   string   `json:"what"`            // verdict, rule, delegation, addresses, certificate, finding
	About  string   `json:"about,omitempty"` // the target, or the code of the finding
	Before []string `json:"before"`          // what is no more; null or empty if nothing
	After  []string `json:"after"`           // what is new; null or empty if nothing
}

// watched is what --watch remembers of a name.
type watched struct {
	verdict   check.Verdict
	rule      string
	targets   []string                     // in order
	addresses map[string][]string          // of a target, sorted
	certs     map[string]map[string]string // of a target: address to certificate
	findings  map[string]check.Finding     // by code and what it is about
}

// stateOf is the state that a report shows. A failure is not an absence: what
// could not be seen this time is taken to be as it was; the verdict and the
// findings tell of it.
func stateOf(r *check.Report, before *watched) *watched {
	now := &watched{verdict: r.Verdict, addresses: make(map[string][]string), certs: make(map[string]map[string]string), findings: make(map[string]check.Finding)}
	if before == nil {
		before = new(watched)
	}
	for _, f := range r.Findings {
		now.findings[f.Code+" "+f.About] = f
	}
	now.rule, now.targets = before.rule, before.targets
	if r.Resolution != nil && r.Resolution.Result != nil && len(r.Resolution.Targets) > 0 {
		now.rule, now.targets = r.Resolution.Step, nil
		for _, t := range r.Resolution.Targets {
			now.targets = append(now.targets, t.String())
		}
		slices.Sort(now.targets) // SRV order is drawn anew each time
		now.targets = slices.Compact(now.targets)
	}
	for _, name := range now.targets {
		now.addresses[name], now.certs[name] = before.addresses[name], maps.Clone(before.certs[name])
	}
	for i := range r.Targets {
		t := &r.Targets[i]
		name := targetName(t)
		if !slices.Contains(now.targets, name) {
			continue
		}
		if len(t.Addresses)+len(t.Refused) > 0 {
			var list []string
			for _, a := range t.Addresses {
				list = append(list, a.Address.Addr().String())
			}
			for _, refused := range t.Refused {
				list = append(list, refused.Addr.String())
			}
			slices.Sort(list)
			now.addresses[name] = slices.Compact(list)
		}
		certs := make(map[string]string)
		for _, a := range t.Addresses {
			key := a.Address.Addr().String()
			if a.TLS != nil && len(a.TLS.Certificates) > 0 {
				c := a.TLS.Certificates[0]
				certs[key] = fmt.Sprintf("%s, by %s, until %s, sha256 %.16s", shown(c.Subject), shown(c.Issuer), stamp(c.NotAfter), shown(c.SHA256))
			} else if old, ok := now.certs[name][key]; ok {
				certs[key] = old
			}
		}
		if len(t.Addresses) > 0 {
			now.certs[name] = certs
		}
	}
	return now
}

// differences says what has changed, the weightiest first.
func differences(before, now *watched) []difference {
	var list []difference
	add := func(what, about string, before, after []string) {
		gone, come := minus(before, after), minus(after, before)
		if len(gone)+len(come) > 0 {
			list = append(list, difference{what, about, gone, come})
		}
	}
	add("verdict", "", []string{string(before.verdict)}, []string{string(now.verdict)})
	add("rule", "", nonEmpty(before.rule), nonEmpty(now.rule))
	add("delegation", "", before.targets, now.targets)
	for _, name := range now.targets {
		if !slices.Contains(before.targets, name) {
			continue // the delegation says it, and all of it is new
		}
		add("addresses", name, before.addresses[name], now.addresses[name])
		// A certificate that is seen for the first time has not changed.
		if old := distinct(before.certs[name]); len(old) > 0 {
			add("certificate", name, old, distinct(now.certs[name]))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(now.findings)) {
		if _, ok := before.findings[key]; !ok {
			f := now.findings[key]
			add("finding", f.Code, nil, []string{f.Message})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(before.findings)) {
		if _, ok := now.findings[key]; !ok {
			f := before.findings[key]
			add("finding", f.Code, []string{f.Message}, nil)
		}
	}
	return list
}

func nonEmpty(s string) []string { return cut(s) }

// distinct gives the certificates that the addresses of a target show.
func distinct(certs map[string]string) []string {
	return slices.Compact(slices.Sorted(maps.Values(certs)))
}

// minus gives what is in a and not in b.
func minus(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

// watcher checks names again and again and tells what has changed.
type watcher struct {
	names    []string
	every    time.Duration // from the beginning of one round to that of the next
	jobs     int
	check    checkFunc
	hook     *webhook             // nil for none
	tell     func(*change)        // one call at a time
	complain func(message string) // about the webhook
	stop     func() bool          // nobody listens any more

	last map[string]*watched
}

// run goes on until ctx ends. A round that takes longer than every is followed by
// the next one at once.
func (w *watcher) run(ctx context.Context) {
	w.last = make(map[string]*watched)
	round := time.NewTicker(w.every)
	defer round.Stop()
	for {
		w.round(ctx)
		if w.stop() {
			return
		}
		select {
		case <-round.C:
		case <-ctx.Done():
			return
		}
	}
}

func (w *watcher) round(ctx context.Context) {
	stop := func() bool { return ctx.Err() != nil || w.stop() }
	inOrder(slices.Values(w.names), w.jobs, stop, func(name string) *check.Report { return w.check(ctx, name) }, func(r *check.Report) {
		if ctx.Err() != nil {
			return // half a check says nothing about the name
		}
		if c := w.compare(r); c != nil {
			w.tell(c)
			if w.hook != nil && !c.First {
				w.hook.add(c)
			}
		}
	})
	if w.hook != nil {
		if err := w.hook.send(ctx); err != nil && ctx.Err() == nil {
			w.complain(fmt.Sprintf("webhook %s: %s; %s kept for the next round", w.hook.name, shown(err.Error()), plural(len(w.hook.pending), "change is", "changes are")))
		}
	}
}

// compare gives what has changed since the name was checked before, or nil.
func (w *watcher) compare(r *check.Report) *change {
	before := w.last[r.ServerName]
	now := stateOf(r, before)
	w.last[r.ServerName] = now
	c := &change{Version: changeVersion, ServerName: r.ServerName, At: r.CheckedAt, Verdict: r.Verdict, Summary: r.Summary, First: before == nil, Changes: []difference{}}
	if before == nil {
		return c
	}
	if c.Changes = differences(before, now); len(c.Changes) == 0 {
		return nil
	}
	return c
}

// printChange prints a change, a line for each difference.
func (a *app) printChange(c *change, asJSON bool) {
	if asJSON {
		a.printJSON(c)
		return
	}
	o := a.stdout
	line := func(text string) {
		fmt.Fprintf(o, "%s  %s: %s\n", o.paint(dim, stamp(c.At)), o.paint(bold, shown(c.ServerName)), text)
	}
	verdict := o.paint(verdictColor[c.Verdict], string(c.Verdict))
	if c.First {
		line(verdict + ": " + shown(c.Summary))
	}
	for _, d := range c.Changes {
		switch {
		case d.What == "verdict":
			line(fmt.Sprintf("%s, was %s: %s", verdict, shown(strings.Join(d.Before, ", ")), shown(c.Summary)))
		case d.What == "finding" && len(d.After) > 0:
			line("found " + shown(d.About) + ": " + shown(strings.Join(d.After, ", ")))
		case d.What == "finding":
			line("gone " + shown(d.About) + ": " + shown(strings.Join(d.Before, ", ")))
		default:
			text := shown(d.What)
			if d.About != "" {
				text += " of " + shown(d.About)
			}
			for _, s := range d.Before {
				text += "; " + o.paint(red, "no longer ") + shown(s)
			}
			for _, s := range d.After {
				text += "; " + o.paint(green, "now ") + shown(s)
			}
			line(strings.Replace(text, "; ", ": ", 1))
		}
	}
}
