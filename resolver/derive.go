package resolver

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"time"

	"mxdiscover/cache"
	"mxdiscover/internal/printable"
	"mxdiscover/internal/servername"
	"mxdiscover/srv"
	"mxdiscover/wellknown"
)

const (
	// defaultPort is the port of a server that names none (Server-Server API,
	// "Resolving server names", 1, 3.1, 3.5 and 6).
	defaultPort = 8448

	// memoLife is how long an answer is repeated before its inputs are looked
	// at again.
	memoLife = time.Minute

	fedPrefix    = "_matrix-fed._tcp." // S2S 3.3 and 4
	legacyPrefix = "_matrix._tcp."     // S2S 3.4 and 5, deprecated
)

// verdictUse and setUse are inputs of an answer: what a cache said, and whether
// it knew without asking.
type verdictUse struct {
	host  string
	entry *cache.Entry[*verdict]
	hit   bool
}

type setUse struct {
	rule, name string
	entry      *cache.Entry[*lookup]
	hit        bool
}

// source is where inputs come from.
type source interface {
	wellKnown(host string) (e *cache.Entry[*verdict], hit bool, err error)
	// records gives the SRV set called name. others are the names that the
	// rules may want next: they may be asked for at the same time.
	records(name string, others ...string) (e *cache.Entry[*lookup], hit bool, err error)
	// expect says that rule 3.5 may want the addresses of host, which can be
	// asked for beside its SRV records.
	expect(host string)
}

// derived is an answer and what it rests on. It does not change.
type derived struct {
	name      servername.Name
	delegated *servername.Name // if well-known is valid
	rules     Rules
	lenient   bool

	res     Result
	records []srv.Record // to be put in an order, if there is more than one order
	orders  *orders      // of a small set
	err     *Error

	wk   *verdictUse // nil if it was not asked, or did not answer
	sets []setUse

	way atomic.Pointer[route] // where it leads, once somebody has asked

	cut    bool          // an input did not come
	waited time.Duration // for that input
	warm   bool          // every input was at hand
	until  time.Duration // when the first input is due, on the memo's clock
}

// result gives the answer with its targets in an order drawn anew.
func (d *derived) result(intn func(int) int) (*Result, error) {
	switch {
	case d.err != nil:
		return &d.res, d.err
	case d.records != nil:
		return d.draw(intn), nil
	}
	return &d.res, nil
}

// current reports whether no input has been replaced or forgotten.
func (d *derived) current() bool {
	if d.wk != nil && !d.wk.entry.Current() {
		return false
	}
	for i := range d.sets {
		if !d.sets[i].entry.Current() {
			return false
		}
	}
	return true
}

// derive applies the rules of the Server-Server API, "Resolving server names".
func (s *state) derive(name servername.Name, from source) *derived {
	d := &derived{name: name, rules: s.rules, lenient: s.lenient}
	d.res = Result{ServerName: name.String(), from: d}
	port, hasPort := name.Port()
	if !hasPort {
		port = defaultPort
	}
	switch {
	case name.IsIP(): // S2S 1: that address, with the given port or 8448
		d.direct("1", name, port)
	case hasPort: // S2S 2: that host and port; neither well-known nor SRV is asked
		d.direct("2", name, port)
	default: // S2S 3: ask well-known
		d.delegate(from)
	}
	d.date(s.memo.base)
	return d
}

// direct ends at a rule that names host and port by itself: 1, 2, 3.1, 3.2,
// 3.5 and 6.
func (d *derived) direct(rule string, name servername.Name, port uint16) {
	d.at(rule, name)
	d.res.Targets = []Target{{Host: name.DNSName(), Port: port}}
}

// at notes the rule that decides, and what it says of the connection:
// Host header as given, certificate for the name without its port.
func (d *derived) at(rule string, name servername.Name) {
	d.res.Step = rule
	d.res.Host = name.String()
	d.res.TLSName = name.DNSName()
	d.res.SNI = name.DNSName()
	if name.IsIP() {
		d.res.SNI = "" // RFC 6066, 3: no literal addresses in SNI
		if rule == "1" && d.rules == Draft2019 {
			d.res.Host = name.Host() // Draft 2019, step 1: "without port"
		}
	}
}

// delegate is rule 3.
func (d *derived) delegate(from source) {
	host := d.name.DNSName()
	begun := time.Now()
	e, hit, err := from.wellKnown(host)
	if err != nil {
		d.waited = time.Since(begun)
		d.interrupted("3", wellKnownQuery(host), err)
		return
	}
	d.wk = &verdictUse{host, e, hit}
	v := e.Value()
	if v.err == nil {
		d.delegated = &v.server
		port, hasPort := v.server.Port()
		switch {
		case v.server.IsIP() && hasPort: // S2S 3.1: that address and port,
			d.direct("3.1", v.server, port)
		case v.server.IsIP(): // or 8448
			d.direct("3.1", v.server, defaultPort)
		case hasPort: // S2S 3.2: that host and port, SRV is not asked
			d.direct("3.2", v.server, port)
		default: // S2S 3.3 and 3.4: SRV of the delegated name; S2S 3.5: else port 8448
			from.expect(v.server.DNSName())
			d.look(from, v.server, "3.3", "3.4", "3.5")
		}
		return
	}
	// Draft 2019, step 3: an invalid response ends everything. The released
	// text goes on to step 4, as after any other failure.
	if d.rules == Draft2019 && v.err.Status == 200 && !v.err.Temporary() {
		d.res.Step = "3"
		d.fail(WellKnownInvalid, "3", wellKnownQuery(host), v.err.Detail, v.err)
		return
	}
	// S2S 4 and 5: SRV of the name itself; S2S 6: else port 8448.
	d.look(from, d.name, "4", "5", "6")
}

// look goes through the SRV records of name, and falls back to port 8448.
func (d *derived) look(from source, name servername.Name, fed, legacy, fallback string) {
	names, rules := srvNames(d.rules, name.DNSName()), []string{fed, legacy}
	rules = rules[len(rules)-len(names):]
	for i, srvName := range names {
		d.at(rules[i], name)
		begun := time.Now()
		e, hit, err := from.records(srvName, names[i+1:]...)
		if err != nil {
			d.waited = time.Since(begun)
			d.interrupted(rules[i], "SRV "+srvName, err)
			return
		}
		d.sets = append(d.sets, setUse{rules[i], srvName, e, hit})
		answer, failure := answered(e)
		switch {
		case failure != nil && d.lenient:
		case failure != nil:
			// "Not found" falls through, a failure does not: the records may
			// be there, and lead elsewhere than port 8448.
			d.fail(SRVTemporary, rules[i], "SRV "+srvName, describeFailure(failure), failure)
			return
		case answer.Outcome == srv.Found:
			d.res.Targets = targets(answer.Records)
			if !inOrder(answer.Records) {
				d.records, d.orders = answer.Records, new(orders)
			}
			return
		case answer.Outcome == srv.Unavailable: // RFC 2782: no such service
			d.fail(SRVUnavailable, rules[i], "SRV "+srvName, describeAnswer(answer), nil)
			return
		}
	}
	d.direct(fallback, name, defaultPort)
}

// srvNames are the names that SRV records of host may have, in the order of
// the rules.
func srvNames(rules Rules, host string) []string {
	if rules == Draft2019 {
		return []string{legacyPrefix + host} // Draft 2019, step 4: _matrix._tcp alone
	}
	return []string{fedPrefix + host, legacyPrefix + host}
}

// answered tells a lookup's answer from a failure. An expired answer that
// found records may stand in for a failed look-up; an expired "there is
// nothing" says nothing about now.
func answered(e *cache.Entry[*lookup]) (*srv.Answer, error) {
	l := e.Value()
	if l.err == nil && e.Stale() && l.answer.Outcome != srv.Found {
		if failed, ok := e.Failure(); ok {
			return nil, failed.err
		}
	}
	return l.answer, l.err
}

func (d *derived) fail(code Code, rule, query, detail string, err error) {
	d.err = &Error{Code: code, ServerName: d.name.String(), Rule: rule, Query: query, Detail: detail, Err: err}
}

// interrupted ends an answer whose input did not come.
func (d *derived) interrupted(rule, query string, err error) {
	d.res.Step, d.cut = rule, true
	code, detail := Internal, "internal error: "+printable.Line(err.Error())
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		code, detail = Timeout, "no answer when the time was up"
	case errors.Is(err, context.Canceled):
		code, detail = Canceled, "given up by the caller"
	case errors.Is(err, NotKnown):
		code, detail = NotKnown, "nothing fresh is known"
	}
	d.fail(code, rule, query, detail, err)
}

// date finds when the first input expires, and until when d may be repeated.
func (d *derived) date(base time.Time) {
	d.warm, d.until = !d.cut, math.MaxInt64
	if d.wk != nil || d.sets != nil {
		// Looking at the inputs now and then keeps them in their caches.
		d.until = time.Since(base) + memoLife
	}
	input := func(expires, refresh time.Time, hit bool) {
		if d.res.Expires.IsZero() || expires.Before(d.res.Expires) {
			d.res.Expires = expires
		}
		due := expires
		if !refresh.IsZero() && refresh.Before(due) {
			due = refresh
		}
		d.until = min(d.until, due.Sub(base))
		d.warm = d.warm && hit
	}
	if d.wk != nil {
		input(d.wk.entry.Expires(), d.wk.entry.RefreshAt(), d.wk.hit)
	}
	for _, set := range d.sets {
		input(set.entry.Expires(), set.entry.RefreshAt(), set.hit)
	}
}

// inOrder reports whether the records, which are sorted by priority, leave
// nothing to draw: RFC 2782 draws by weight among those of equal priority.
func inOrder(records []srv.Record) bool {
	for i := 1; i < len(records); i++ {
		if records[i].Priority == records[i-1].Priority {
			return false
		}
	}
	return true
}

func targets(records []srv.Record) []Target {
	list := make([]Target, len(records))
	for i, r := range records {
		list[i] = Target{Host: strings.ToLower(r.Target), Port: r.Port, Priority: r.Priority, Weight: r.Weight}
	}
	return list
}

func wellKnownQuery(host string) string {
	return "GET https://" + host + wellknown.ServerPath
}

// liveSource asks the network for what the caches do not know. What has been
// loaded since it began was asked for on its behalf, early or late, and is no
// hit.
type liveSource struct {
	*state
	ctx   context.Context
	began time.Time
}

func (l liveSource) wellKnown(host string) (*cache.Entry[*verdict], bool, error) {
	e, hit, err := l.state.wellKnown.Get(l.ctx, host)
	return e, hit && knownAt(e, l.began), err
}

func (l liveSource) records(name string, others ...string) (*cache.Entry[*lookup], bool, error) {
	s := l.state
	// A busy resolver asks for one after the other.
	if !fresh(&s.records, name) && !s.busy() {
		for _, other := range others {
			s.records.Prefetch(other)
		}
	}
	e, hit, err := s.records.Get(l.ctx, name)
	return e, hit && knownAt(e, l.began), err
}

func (l liveSource) expect(host string) {
	s := l.state
	names := srvNames(s.rules, host)
	if fresh(&s.records, names[0]) || s.busy() || s.dial.Proxy != nil {
		return
	}
	for _, key := range addrKeys(host) {
		s.addrs.Prefetch(key)
	}
}

func knownAt[V any](e *cache.Entry[V], t time.Time) bool { return !e.LoadedAt().After(t) }

// peekSource asks nobody.
type peekSource struct {
	*state
	expired bool // take what has expired too
}

func (p peekSource) wellKnown(host string) (*cache.Entry[*verdict], bool, error) {
	return peek(&p.state.wellKnown, host, p.expired)
}

func (p peekSource) records(name string, _ ...string) (*cache.Entry[*lookup], bool, error) {
	return peek(&p.state.records, name, p.expired)
}

func (peekSource) expect(string) {}

func peek[K comparable, V any](c *cache.Cache[K, V], key K, expired bool) (*cache.Entry[V], bool, error) {
	e, ok := c.Peek(key)
	if !ok || !expired && !time.Now().Before(e.Expires()) {
		return nil, false, NotKnown
	}
	return e, true, nil
}

func fresh[K comparable, V any](c *cache.Cache[K, V], key K) bool {
	_, ok, _ := peek(c, key, false)
	return ok
}
