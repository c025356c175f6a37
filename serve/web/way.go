package web

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"mxdiscover/check"
	"mxdiscover/resolver"
)

// A stage is one of the six parts of the way from a name to its server.
type stage struct {
	ID    string // of its element
	Name  string
	Asks  string // what it is about, for those who see it for the first time
	State state
	Text  string // how it ended
	Rows  []row
	Found []finding // that are about it
}

// A row is one question of a stage, or one address, or several that say the same.
type row struct {
	State state
	Where []string // who says it
	Text  string
	Facts []string
	Chain []certificate
}

type certificate struct {
	check.Certificate
	Names string
}

// emptyStages is the way that nobody has gone yet.
func emptyStages() []stage {
	return []stage{
		{ID: "name", Name: "Name", State: wait, Asks: "Is it a server name, and of which form?"},
		{ID: "well-known", Name: "Well-known", State: wait, Asks: "Does its web server delegate to another name?"},
		{ID: "srv", Name: "SRV", State: wait, Asks: "Does the DNS name hosts and ports?"},
		{ID: "addresses", Name: "Addresses", State: wait, Asks: "Does every address, IPv4 and IPv6, take connections?"},
		{ID: "tls", Name: "TLS", State: wait, Asks: "Does the certificate prove the right name?"},
		{ID: "matrix", Name: "Matrix", State: wait, Asks: "Does a homeserver answer, and are its keys good?"},
	}
}

// stageOf is where a kind of finding belongs.
func stageOf(code string) string {
	kind, _ := check.Explain(code)
	switch kind.Area {
	case check.AreaName:
		return "name"
	case check.AreaWellKnown:
		return "well-known"
	case check.AreaSRV:
		return "srv"
	case check.AreaAddresses, check.AreaConnection:
		return "addresses"
	case check.AreaTLS:
		return "tls"
	}
	return "matrix" // its answers, its keys, and what ended the check
}

// stages draws the way of a report.
func stages(r *check.Report, v *view) []stage {
	list := emptyStages()
	for i, fill := range []func(*stage, *check.Report){fillName, fillWellKnown, fillSRV, fillAddresses, fillTLS, fillMatrix} {
		s := &list[i]
		s.State = off
		fill(s, r)
		for _, f := range slices.Concat(v.Serious, v.Notices) {
			if stageOf(f.Code) != s.ID {
				continue
			}
			s.Found = append(s.Found, f)
			// What is found decides over the facts: a way that is not used may fail without
			// harm, and the judge knows which is.
			if f.State != note && f.State.worse(s.State) {
				s.State = f.State
			}
		}
	}
	return list
}

func fillName(s *stage, r *check.Report) {
	s.State = good
	switch {
	case r.Resolution == nil || r.Resolution.Result == nil || r.Resolution.Step == "" && len(r.Ways) == 0:
		s.State, s.Text = off, "It leads nowhere."
	case r.Resolution.Step == "1":
		s.Text = "An IP address. It is the server itself: nothing is asked for it."
	case r.Resolution.Step == "2":
		s.Text = "A host name with a port: neither well-known nor SRV is asked."
	default:
		s.Text = "A host name without a port: well-known is asked first, then SRV."
	}
}

// waysOf finds the ways of some rules, in their order.
func waysOf(r *check.Report, rules ...string) []check.Way {
	var list []check.Way
	for _, w := range r.Ways {
		if slices.Contains(rules, w.Rule) {
			list = append(list, w)
		}
	}
	return list
}

func fillWellKnown(s *stage, r *check.Report) {
	for _, w := range waysOf(r, "3") {
		s.State = outcome(w.Outcome)
		switch w.Outcome {
		case resolver.Used:
			s.Text = "It delegates to " + delegate(r.WellKnown) + "."
		case resolver.Absent:
			s.Text = "There is no document: the name does not delegate."
		case resolver.Temporary:
			s.Text = "Nobody could say whether the name delegates."
		case resolver.Denied:
			s.Text = "It leads to an address that nobody may connect to."
		case resolver.Invalid:
			s.Text = "What is there does not count."
		default:
			s.Text = sentence(w.Reason)
		}
	}
	if s.Text == "" {
		s.Text = "Not asked."
	}
	var rows rowList
	for _, k := range r.WellKnown {
		row := row{State: good, Where: []string{k.Address.String()}}
		switch {
		case k.Error == nil:
			row.Text = "m.server = " + k.Server
		default:
			// A 404 is an answer. Whether another failure does harm is the judge's to say.
			row.State, row.Text = off, k.Error.Message
			if s.State.worse(off) {
				row.State = warn
			}
		}
		for _, hop := range k.Hops {
			text := "GET " + hop.URL
			if hop.Status != 0 {
				text += fmt.Sprintf(": %d", hop.Status)
			}
			if hop.ContentType != "" {
				text += " " + hop.ContentType
			}
			if hop.Location != "" {
				text += ", to " + hop.Location
			}
			row.Facts = append(row.Facts, text)
		}
		if k.Lifetime > 0 {
			row.Facts = append(row.Facts, "kept for "+span(time.Duration(k.Lifetime)))
		}
		rows.add(row)
	}
	s.Rows = rows
}

// delegate is what the first address that answers delegates to.
func delegate(list []check.WellKnown) string {
	for _, k := range list {
		if k.Error == nil {
			return k.Server
		}
	}
	return "nothing"
}

func fillSRV(s *stage, r *check.Report) {
	list := waysOf(r, "3.3", "3.4")
	if len(list) == 0 || !asked(list) {
		// Rules 4 and 5 tell why nobody asked, or were asked for comparison.
		list = append(list, waysOf(r, "4", "5")...)
	}
	skipped := ""
	for _, w := range list {
		if w.Outcome == resolver.Skipped && skipped == "" {
			skipped = sentence(w.Reason)
		}
		if w.Query == "" || w.Outcome == resolver.Skipped && len(w.Targets) == 0 {
			continue
		}
		row := row{State: outcome(w.Outcome), Where: []string{w.Query}, Text: w.Reason}
		switch {
		case len(w.Targets) > 0:
			row.Text = join(w.Targets)
			if w.Reason != "" {
				row.Facts = append(row.Facts, w.Reason)
			}
		case w.Outcome == resolver.Used:
			row.State = warn // it decides, and leads nowhere (RFC 2782, "Target")
		case w.Reason == "":
			row.Text = string(w.Outcome)
		}
		if row.State.worse(s.State) {
			s.State = row.State
		}
		s.Rows = append(s.Rows, row)
		switch {
		case w.Outcome == resolver.Used && len(w.Targets) == 0:
			s.Text = "The records name no host to connect to."
		case w.Outcome == resolver.Used:
			s.Text = "The DNS names hosts and ports."
		case s.Text != "":
		case w.Outcome == resolver.Absent:
			s.Text = "There is no record."
		case w.Outcome != resolver.Skipped:
			s.Text = "The records could not be had, or do not count."
		}
	}
	if s.Text == "" {
		s.Text = cmp.Or(skipped, "Not asked.")
	}
}

func asked(list []check.Way) bool {
	return slices.ContainsFunc(list, func(w check.Way) bool { return w.Query != "" })
}

// because says in words why a rule decides.
func because(rule string) string {
	switch rule {
	case "1":
		return "the name is an IP address"
	case "2":
		return "the name has a port"
	case "3.1":
		return "well-known delegates to an IP address"
	case "3.2":
		return "well-known delegates to a host and port"
	case "3.3":
		return "well-known delegates to a host with SRV records"
	case "3.4":
		return "well-known delegates to a host with old SRV records"
	case "3.5":
		return "well-known delegates to a host without port and SRV records, so port 8448"
	case "4":
		return "no delegation, but SRV records"
	case "5":
		return "no delegation, but old SRV records"
	case "6":
		return "neither delegation nor SRV records, so port 8448"
	}
	return ""
}

func fillAddresses(s *stage, r *check.Report) {
	if len(r.Targets) == 0 {
		s.Text = "Not reached."
		return
	}
	var names []string
	for _, t := range r.Targets {
		names = append(names, t.String())
	}
	s.Text = "Connect to " + join(names)
	if res := r.Resolution; res != nil && res.Result != nil && res.Step != "" {
		s.Text += " by rule " + res.Step + ": " + because(res.Step)
	}
	s.Text += "."

	tally := tally{}
	for _, t := range r.Targets {
		var rows rowList
		prefix := ""
		if len(r.Targets) > 1 {
			prefix = t.String() + " "
		}
		for _, a := range t.Addresses {
			row := row{State: good, Where: []string{prefix + a.Address.String()}, Text: "connected"}
			if took := took(a.TCP.Duration); took != "" {
				row.Text += " in " + took
			}
			if a.TCP.Error != nil {
				row.State, row.Text = bad, a.TCP.Error.Message
			}
			tally.add(row.State)
			rows.add(row)
		}
		for _, refused := range t.Refused {
			tally.add(bad)
			rows.add(row{State: bad, Where: []string{prefix + refused.Addr.String()}, Text: "not connected to: " + refused.Reason})
		}
		if t.Error != nil && len(t.Addresses)+len(t.Refused) == 0 {
			tally.add(bad)
			rows.add(row{State: bad, Where: []string{t.String()}, Text: t.Error.Message})
		}
		if t.Alias != "" && len(rows) > 0 {
			rows[0].Facts = append(rows[0].Facts, t.Host+" is an alias of "+t.Alias)
		}
		s.Rows = append(s.Rows, rows...)
	}
	s.State = tally.state()
}

func fillTLS(s *stage, r *check.Report) {
	var rows rowList
	tally, verified := tally{}, ""
	for a := range addresses(r) {
		if a.TLS == nil {
			continue
		}
		row := row{State: good, Where: []string{a.Address.String()}}
		t := a.TLS
		switch {
		case t.Error != nil:
			row.State, row.Text = bad, t.Error.Message
		case !t.Verified:
			row.State, row.Text = bad, "the certificate does not prove "+t.Name
		default:
			row.Text, verified = "the certificate proves "+t.Name, t.Name
		}
		if t.Version != "" {
			fact := t.Version
			if t.ALPN != "" {
				fact += ", " + t.ALPN
			}
			row.Facts = append(row.Facts, fact)
		}
		for i, c := range t.Certificates {
			if i == 0 {
				row.Facts = append(row.Facts, "issued by "+c.Issuer, until(c.NotAfter, r.CheckedAt))
			}
			names := slices.Clone(c.DNSNames)
			for _, ip := range c.IPAddresses {
				names = append(names, ip.String())
			}
			row.Chain = append(row.Chain, certificate{c, join(names)})
		}
		tally.add(row.State)
		rows.add(row)
	}
	s.Rows, s.State = rows, tally.state()
	switch {
	case len(rows) == 0:
		s.Text = "Not reached."
	case s.State == good:
		s.Text = "Every certificate proves " + verified + "."
	case s.State == warn:
		s.Text = "Some addresses prove " + verified + ", others do not."
	default:
		s.Text = "No server that sends federation traffic trusts this."
	}
}

func fillMatrix(s *stage, r *check.Report) {
	var rows rowList
	tally := tally{}
	for a := range addresses(r) {
		// One row for the protocols over which an address says the same.
		var own rowList
		for _, h := range a.HTTP {
			row := answers(h, r.CheckedAt)
			tally.add(row.State)
			own.add(row)
		}
		for _, row := range own {
			row.Facts = append([]string{"over " + strings.Join(row.Where, " and ")}, row.Facts...)
			row.Where = []string{a.Address.String()}
			rows.add(row)
		}
	}
	s.Rows, s.State = rows, tally.state()
	switch {
	case len(rows) == 0:
		s.Text = "Not reached."
	case s.State == good:
		s.Text = "A homeserver answers."
	case s.State == warn:
		s.Text = "Some answers are right, others are not."
	default:
		s.Text = "No homeserver answers as it should."
	}
}

// answers is what an address says over one protocol, which stands in Where.
func answers(h check.HTTP, now time.Time) row {
	row := row{State: good, Where: []string{protocol(h.Protocol)}}
	switch {
	case h.Version.Error != nil:
		row.State, row.Text = bad, h.Version.Error.Message
	case h.Version.Name == "":
		row.Text = "a server that does not say what it is"
	default:
		row.Text = strings.TrimSpace(h.Version.Name + " " + h.Version.Server)
	}
	if h.Version.ServedBy != "" {
		row.Facts = append(row.Facts, "served by "+h.Version.ServedBy)
	}
	switch k := h.Keys; {
	case k.Error != nil:
		row.State = bad
		row.Facts = append(row.Facts, "keys: "+k.Error.Message)
	case k.ServerName != "":
		row.Facts = append(row.Facts, "keys of "+k.ServerName+", "+until(k.ValidUntil, now))
		for _, key := range k.VerifyKeys {
			how := "has not signed them"
			switch {
			case key.Error != nil:
				how = key.Error.Message
			case key.Signed:
				how = "has signed them"
			}
			row.Facts = append(row.Facts, key.ID+" "+how)
		}
	}
	return row
}

// addresses goes through the addresses of all targets; one that two targets share is
// shown once for each.
func addresses(r *check.Report) iter.Seq[check.Address] {
	return func(yield func(check.Address) bool) {
		for _, t := range r.Targets {
			for _, a := range t.Addresses {
				if !yield(a) {
					return
				}
			}
		}
	}
}

func protocol(p string) string {
	switch p {
	case "h2":
		return "HTTP/2"
	case "http/1.1":
		return "HTTP/1.1"
	}
	return p
}

// until says how long something is good.
func until(end, now time.Time) string {
	if end.IsZero() {
		return "good for no stated time"
	}
	day := end.UTC().Format("2006-01-02")
	if left := end.Sub(now); left >= 0 {
		return "good until " + day + ", " + span(left)
	}
	return "expired on " + day + ", " + span(now.Sub(end)) + " before the check"
}

// sentence makes one of a reason.
func sentence(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	if size == 0 {
		return ""
	}
	return string(unicode.ToUpper(first)) + text[size:] + "."
}

// A rowList puts those together that say the same.
type rowList []row

func (list *rowList) add(r row) {
	for i := range *list {
		old := &(*list)[i]
		if old.State == r.State && old.Text == r.Text && slices.Equal(old.Facts, r.Facts) && sameChain(old.Chain, r.Chain) {
			for _, where := range r.Where {
				if !slices.Contains(old.Where, where) {
					old.Where = append(old.Where, where)
				}
			}
			return
		}
	}
	*list = append(*list, r)
}

func sameChain(a, b []certificate) bool {
	return slices.EqualFunc(a, b, func(a, b certificate) bool { return a.SHA256 == b.SHA256 })
}

// tally judges a stage by its rows: some good ones make a warning of bad ones.
type tally map[state]bool

func (t tally) add(s state) { t[s] = true }

func (t tally) state() state {
	switch {
	case t[bad] && t[good]:
		return warn
	case t[bad]:
		return bad
	case t[good]:
		return good
	}
	return off
}
