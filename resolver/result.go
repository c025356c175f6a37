package resolver

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"mxdiscover/cache"
	"mxdiscover/internal/printable"
	"mxdiscover/srv"
	"mxdiscover/wellknown"
)

// Result says where a server name leads, and why.
type Result struct {
	ServerName string    // as asked
	Step       string    // the rule that decided, or at which a failed one ended: "1" "2" "3.1" ... "6"
	Host       string    // Host header, byte for byte
	TLSName    string    // what the certificate must be valid for: a DNS name, or an IP address without brackets
	SNI        string    // TLS server_name to send; empty for an IP address
	Targets    []Target  // to try in this order; SRV order is drawn anew for every call. They have not been checked: see Resolve
	Expires    time.Time // when the first thing this rests on goes stale; zero for steps 1 and 2. Of a failure: when asking again may bring something else

	from *derived
}

// Target is a host and port to connect to.
type Target struct {
	Host     string `json:"host"` // lower-case; an IPv6 address without brackets
	Port     uint16 `json:"port"`
	Priority uint16 `json:"priority"` // of the SRV record; 0 without one
	Weight   uint16 `json:"weight"`
}

// String gives host:port, with an IPv6 address in brackets.
func (t Target) String() string {
	return net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port)))
}

// Outcome is how a rule ended.
type Outcome string

// The outcomes of a [Step].
const (
	Used      Outcome = "used"      // it has decided, or leads to the rules that do
	Absent    Outcome = "absent"    // what it asks for does not exist
	Invalid   Outcome = "invalid"   // what came back breaks the rules
	Temporary Outcome = "temporary" // nobody could say
	Denied    Outcome = "denied"    // it leads to addresses that may not be dialled
	Skipped   Outcome = "skipped"   // it does not apply, and nothing was asked for it
)

// Step is one rule and its evidence.
type Step struct {
	Rule     string          // by the number of the newest specification
	Query    string          // what was asked: "GET https://...", "SRV _matrix-fed._tcp.example.org"; empty if nothing was
	Server   string          // who answered: an address and port, or the path of the hosts file
	Outcome  Outcome         // how it ended
	Detail   string          // what came back, in one line without control characters
	Hops     []wellknown.Hop // rule 3: every request, redirects included
	TTL      time.Duration   // how long the answer may be kept, as it was given
	Expires  time.Time       // when it goes stale
	Duration time.Duration   // how long it took when it was asked
	Cached   bool            // it was known before
	Stale    bool            // it has expired, and is used because nobody could be asked again
}

// Warning is something that works and should be changed. Its codes are
// legacy_srv, srv_stale, srv_failed (with LenientSRV), srv_records_dropped,
// srv_target_cname, well_known_refresh_failed, well_known_ and the [wellknown.Code] of a
// document that was ignored, address_refused, target_ and the [Code] of a
// target that cannot be used beside one that can, long_server_name and
// upper_case.
type Warning struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Steps gives the evidence: every rule from 1 to 6 in order, and 3.1 to 3.5 if
// well-known delegates. It is made anew by each call.
func (r *Result) Steps() []Step {
	if r == nil || r.from == nil {
		return nil
	}
	d := r.from
	var steps []Step
	skip := func(why string, rules ...string) {
		for _, rule := range rules {
			steps = append(steps, Step{Rule: rule, Outcome: Skipped, Detail: why})
		}
	}
	use := func(rule string) {
		steps = append(steps, Step{Rule: rule, Outcome: Used, Detail: "connect to " + d.res.Targets[0].String()})
	}
	_, hasPort := d.name.Port()
	switch {
	case d.name.IsIP():
		use("1")
		skip("the name is an IP address: nothing is asked for it", "2", "3", "4", "5", "6")
		return steps
	case hasPort:
		skip("the name is no IP address", "1")
		use("2")
		skip("the name has a port: neither well-known nor SRV is asked", "3", "4", "5", "6")
		return steps
	}
	skip("the name is no IP address", "1")
	skip("the name has no port", "2")
	if d.wk == nil {
		return append(steps, d.pending("3"))
	}
	steps = append(steps, d.wk.step())
	if d.err != nil && d.err.Rule == "3" {
		skip("the bad well-known answer ends everything", "4", "5", "6")
		return steps
	}

	rules := []string{"4", "5", "6"}
	if d.delegated != nil {
		rules = []string{"3.3", "3.4", "3.5"}
		_, hasPort := d.delegated.Port()
		switch {
		case d.delegated.IsIP():
			use("3.1")
			rules = nil
		case hasPort:
			skip("the delegated name is no IP address", "3.1")
			use("3.2")
			skip("the delegated name has a port: SRV is not asked", "3.3", "3.4", "3.5")
			rules = nil
		default:
			skip("the delegated name is no IP address", "3.1")
			skip("the delegated name has no port", "3.2")
		}
	}
	if rules != nil {
		steps = append(steps, d.srvSteps(rules)...)
	}
	if d.delegated != nil {
		skip("well-known decides", "4", "5", "6")
	}
	return steps
}

// srvSteps is the evidence of 3.3 to 3.5, or of 4 to 6.
func (d *derived) srvSteps(rules []string) []Step {
	var steps []Step
	decided := ""
	for _, rule := range rules[:2] {
		i := 0
		for i < len(d.sets) && d.sets[i].rule != rule {
			i++
		}
		switch {
		case i < len(d.sets):
			step := d.sets[i].step()
			steps = append(steps, step)
			switch {
			case d.res.Step == rule && d.err != nil:
				decided = "rule " + rule + " ends everything"
			case d.res.Step == rule:
				decided = "rule " + rule + " decides"
			}
		case decided != "":
			steps = append(steps, Step{Rule: rule, Outcome: Skipped, Detail: decided})
		case d.rules == Draft2019 && rule == rules[0]:
			steps = append(steps, Step{Rule: rule, Outcome: Skipped, Detail: "the draft of 2019 knows only _matrix._tcp"})
		default:
			return append(steps, d.pending(rule))
		}
	}
	last := Step{Rule: rules[2], Outcome: Skipped, Detail: decided}
	if decided == "" {
		last.Outcome, last.Detail = Used, "no SRV record: connect to "+d.res.Targets[0].String()
	}
	return append(steps, last)
}

// pending is the rule whose answer did not come.
func (d *derived) pending(rule string) Step {
	return Step{Rule: rule, Outcome: Temporary, Query: d.err.Query, Detail: d.err.Detail, Duration: d.waited}
}

func (v *verdict) outcome() Outcome {
	switch {
	case v.err == nil:
		return Used
	case v.err.Absent():
		return Absent
	case v.err.Code == wellknown.AddressDenied:
		return Denied
	case v.err.Temporary():
		return Temporary
	default:
		return Invalid
	}
}

func (v *verdict) detail() string {
	if v.err == nil {
		return "m.server = " + v.server.String()
	}
	return v.err.Detail
}

func (u *verdictUse) step() Step {
	v := u.entry.Value()
	step := Step{
		Rule: "3", Query: wellKnownQuery(u.host), Outcome: v.outcome(), Detail: v.detail(), Hops: v.hops,
		TTL: v.lifetime, Expires: u.entry.Expires(), Duration: v.duration, Cached: u.hit,
	}
	if n := len(v.hops); n > 0 && v.hops[n-1].Addr.IsValid() {
		step.Server = v.hops[n-1].Addr.String()
	}
	if failure, failed := u.entry.Failure(); failed && v.err == nil {
		step.Detail += "; asked again since: " + failure.detail()
	}
	return step
}

func (u *setUse) step() Step {
	return lookupStep(u.rule, "SRV "+u.name, u.entry, u.hit)
}

// lookupStep is the evidence of a DNS look-up.
func lookupStep(rule, query string, e *cache.Entry[*lookup], hit bool) Step {
	l := e.Value()
	step := Step{
		Rule: rule, Query: query,
		TTL: l.lifetime, Expires: e.Expires(), Duration: l.duration, Cached: hit, Stale: e.Stale(),
	}
	answer, err := answered(e)
	if err != nil {
		step.Outcome, step.Detail, step.Stale = Temporary, describeFailure(err), false
		return step
	}
	step.Server, step.Detail = answer.Server, describeAnswer(answer)
	if len(answer.Tries) > 0 {
		step.Detail += fmt.Sprintf("; before that %s from %s", answer.Tries[0].Problem, answer.Tries[0].Server)
	}
	switch {
	case answer.Outcome == srv.Found:
		step.Outcome = Used
	case answer.Outcome == srv.Unavailable && len(answer.Dropped) > 0:
		step.Outcome = Invalid
	case answer.Outcome == srv.Unavailable:
		step.Outcome = Used // "." is an answer: the service does not exist
	default:
		step.Outcome = Absent
	}
	if failure, failed := e.Failure(); failed && failure.err != nil {
		step.Detail += "; asked again since: " + describeFailure(failure.err)
	}
	return step
}

// describeAnswer says what DNS said, in one line.
func describeAnswer(a *srv.Answer) string {
	const most = 4
	var parts []string
	for i, r := range a.Records {
		if i == most {
			parts = append(parts, fmt.Sprintf("and %d more", len(a.Records)-most))
			break
		}
		parts = append(parts, fmt.Sprintf("%d %d %d %s", r.Priority, r.Weight, r.Port, r.Target))
	}
	for _, addr := range a.Addrs {
		parts = append(parts, addr.String())
	}
	text := strings.Join(parts, ", ")
	switch {
	case text != "":
	case a.Outcome == srv.Unavailable && len(a.Dropped) == 0:
		text = `the target is ".": there is no such service`
	case a.Outcome == srv.Unavailable:
		text = "no record can be used"
	case a.Rcode == "NOERROR":
		text = "no such record (NODATA)"
	default:
		text = a.Rcode
	}
	if a.Canonical != "" {
		text = "alias of " + a.Canonical + ": " + text
	}
	for _, dropped := range a.Dropped { // few are kept
		text += "; dropped: " + describeDropped(dropped)
	}
	return text
}

// describeFailure says why DNS could not be asked, without the question.
func describeFailure(err error) string {
	var failed *srv.Error
	if errors.As(err, &failed) {
		return printable.Line(strings.TrimPrefix(failed.Error(), failed.Type.String()+" "+failed.Name+": "))
	}
	return printable.Line(err.Error())
}

// Warnings gives what works and should be changed.
func (r *Result) Warnings() []Warning {
	if r == nil || r.from == nil {
		return nil
	}
	d := r.from
	var list []Warning
	warn := func(code, format string, args ...any) {
		list = append(list, Warning{code, fmt.Sprintf(format, args...)})
	}
	// Appendices, "Server Name": the whole name SHOULD NOT exceed 230
	// characters, and SHOULD NOT have upper-case ones.
	if n := len(r.ServerName); n > 230 {
		warn("long_server_name", "the name has %d characters; more than 230 leave no room for user names", n)
	}
	if strings.ToLower(r.ServerName) != r.ServerName {
		warn("upper_case", "the name has upper-case letters, and Matrix compares names with their case")
	}
	if d.wk != nil {
		v := d.wk.entry.Value()
		failure, failed := d.wk.entry.Failure()
		switch {
		case failed && v.err == nil:
			warn("well_known_refresh_failed", "well-known could not be asked again: %s", failure.detail())
		case v.err != nil && d.err == nil && v.surprising():
			warn("well_known_"+string(v.err.Code), "well-known is ignored: %s", v.err.Detail)
		}
	}
	for _, set := range d.sets {
		answer, err := answered(set.entry)
		switch {
		case err != nil && d.err == nil:
			warn("srv_failed", "SRV %s: %s; taken for absent", set.name, describeFailure(err))
			continue
		case err != nil:
			continue
		case set.entry.Stale():
			warn("srv_stale", "SRV %s has expired and could not be asked again; the old records are used", set.name)
		}
		if d.res.Step != set.rule {
			continue
		}
		if answer.Outcome == srv.Found && len(answer.Dropped) > 0 {
			warn("srv_records_dropped", "SRV %s: %d of its records cannot be used, such as %s", set.name, set.entry.Value().dropped, describeDropped(answer.Dropped[0]))
		}
		// The draft knows no other name: there it is not deprecated.
		if (set.rule == "3.4" || set.rule == "5") && answer.Outcome == srv.Found && d.rules == Current {
			warn("legacy_srv", "%s is deprecated: publish the record as %s", set.name, strings.Replace(set.name, legacyPrefix, fedPrefix, 1))
		}
	}
	return list
}

// surprising reports whether a failed well-known request means that somebody
// meant to have one. A host without a web server, or whose web server knows of
// none, is in order.
func (v *verdict) surprising() bool {
	switch v.err.Code {
	case wellknown.NoAddress, wellknown.DNSError:
		return false
	case wellknown.ConnectFailed: // unless there was a connection
		n := len(v.hops)
		return n > 0 && v.hops[n-1].Addr.IsValid()
	}
	return !v.err.Absent()
}

func describeDropped(d srv.Dropped) string {
	return printable.Line(fmt.Sprintf("%d %d %d %s (%s)", d.Record.Priority, d.Record.Weight, d.Record.Port, d.Record.Target, d.Reason))
}

// MarshalJSON gives the form that the command prints, without addresses.
func (r Result) MarshalJSON() ([]byte, error) {
	form := r.form()
	for _, target := range r.Targets {
		form.Targets = append(form.Targets, target)
	}
	return json.Marshal(form)
}

// form is the JSON of an answer. Keys are documented in the README.
type form struct {
	ServerName string     `json:"server_name"`
	Step       string     `json:"step,omitempty"`
	Host       string     `json:"host,omitempty"`
	TLSName    string     `json:"tls_name,omitempty"`
	SNI        *string    `json:"sni,omitempty"`
	Targets    []any      `json:"targets"`
	Expires    *time.Time `json:"expires,omitempty"`
	Steps      []Step     `json:"steps"`
	Warnings   []Warning  `json:"warnings"`
	Error      *Error     `json:"error,omitempty"`
}

func (r *Result) form() form {
	f := form{
		ServerName: r.ServerName,
		Step:       r.Step,
		Host:       r.Host,
		TLSName:    r.TLSName,
		Targets:    []any{},
		Steps:      append([]Step{}, r.Steps()...),
		Warnings:   append([]Warning{}, r.Warnings()...),
	}
	if r.TLSName != "" {
		f.SNI = &r.SNI
	}
	if !r.Expires.IsZero() {
		expires := r.Expires.UTC().Truncate(time.Second)
		f.Expires = &expires
	}
	return f
}

// MarshalJSON gives the form that the command prints.
func (s Step) MarshalJSON() ([]byte, error) {
	ttl := s.TTL
	if s.Cached && !s.Expires.IsZero() {
		ttl = max(0, time.Until(s.Expires))
	}
	f := struct {
		Rule     string   `json:"rule"`
		Query    string   `json:"query,omitempty"`
		Server   string   `json:"server,omitempty"`
		Outcome  Outcome  `json:"outcome"`
		Detail   string   `json:"detail,omitempty"`
		TTL      *int64   `json:"ttl_seconds,omitempty"`
		Duration *float64 `json:"duration_ms,omitempty"`
		Cached   *bool    `json:"cached,omitempty"`
		Stale    bool     `json:"stale,omitempty"`
		Hops     []hop    `json:"hops,omitempty"`
	}{Rule: s.Rule, Query: s.Query, Server: s.Server, Outcome: s.Outcome, Detail: s.Detail, Stale: s.Stale}
	if s.Query != "" {
		seconds, ms := int64(ttl.Round(time.Second)/time.Second), milliseconds(s.Duration)
		f.Duration, f.Cached = &ms, &s.Cached
		if !s.Expires.IsZero() {
			f.TTL = &seconds
		}
	}
	if len(s.Hops) > 1 {
		for _, h := range s.Hops {
			f.Hops = append(f.Hops, hop{h.URL, addrText(h), h.Status, h.Location, milliseconds(h.Duration)})
		}
	}
	return json.Marshal(f)
}

type hop struct {
	URL      string  `json:"url"`
	Addr     string  `json:"address,omitempty"`
	Status   int     `json:"status,omitempty"`
	Location string  `json:"location,omitempty"`
	Duration float64 `json:"duration_ms"`
}

func addrText(h wellknown.Hop) string {
	if !h.Addr.IsValid() {
		return ""
	}
	return h.Addr.String()
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond)) / float64(time.Millisecond)
}
