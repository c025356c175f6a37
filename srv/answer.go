package srv

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// maxAliases is how many aliases lead from the name asked for to its records at most. BIND
	// follows 16, most resolvers 8 to 11; real chains have one to three.
	maxAliases = 8

	// How long answers may be kept: records from 5 seconds, so that a TTL of zero does not turn
	// every request into queries, to a day; absence to an hour (RFC 2308, 5 suggests one to three).
	minTTL       = 5 * time.Second
	maxTTL       = 24 * time.Hour
	maxAbsentTTL = time.Hour
)

// A chase follows a name through its aliases to records, over one reply or several.
type chase struct {
	question          // what is to be asked now
	seen     []string // every name so far, the first one is what the caller asked for
	ttl      uint32   // the smallest one on the way, in seconds
	insecure bool     // a reply on the way lacked the AD bit
	answer   Answer
}

func newChase(name string, typ Type) chase {
	return chase{question: question{name, typ}, seen: []string{name}, ttl: math.MaxUint32}
}

// read takes m, the reply to the question that the chase is at. It is done when the answer is
// complete; else the chase is at another question. After an error the chase is where it was.
func (c *chase) read(m *message) (done bool, err error) {
	switch {
	case m.bare:
		return false, rcodeError(m.rcodeName)
	case m.rcode == rcodeNotImp:
		c.finish(m, Absent)
		c.answer.TTL = minTTL
		return true, nil
	case m.rcode != rcodeNoError && m.rcode != rcodeNXDomain:
		return false, rcodeError(m.rcodeName)
	}
	next := *c
	next.seen = slices.Clip(next.seen) // an append makes a copy
	for {
		records := owned(m.records, next.name, next.typ)
		if len(records) > 0 && m.rcode == rcodeNXDomain { // which is about this name (RFC 6604, 3)
			return false, problem("NXDOMAIN with records")
		}
		if len(records) > 0 {
			// Whatever else the name owns beside them, an alias too, does not count.
			if err := next.take(m, records); err != nil {
				return false, err
			}
			*c = next
			return true, nil
		}
		aliases := owned(m.records, next.name, typeCNAME)
		if len(aliases) == 0 {
			break
		}
		if err := next.follow(aliases); err != nil {
			return false, err
		}
	}
	moved := len(next.seen) > len(c.seen)
	soaTTL, said := m.absence(next.name)
	switch {
	case m.rcode == rcodeNXDomain || said: // RFC 2308, 2.1 and 2.2
	case moved: // the end of the aliases lies outside the zone of who answered
		next.insecure = next.insecure || !m.authenticated
		*c = next
		return false, nil
	case m.ns && len(m.soa) == 0 && !m.authoritative && !m.recursive:
		return false, problem("lame referral") // the server neither knows nor asks others
	}
	if !said {
		soaTTL = 0
	}
	next.finish(m, Absent)
	next.answer.TTL = clamp(min(next.ttl, soaTTL), maxAbsentTTL)
	*c = next
	return true, nil
}

// follow goes where an alias leads.
func (c *chase) follow(aliases []rr) error {
	to, ok := cleanName(aliases[0].target)
	if !ok || endsInNumber(to) {
		return problem("alias to " + strconv.Quote(aliases[0].target) + ", which is no host name")
	}
	for _, a := range aliases {
		if !strings.EqualFold(a.target, aliases[0].target) { // RFC 2181, 10.1
			return problem("several aliases of one name")
		}
		c.ttl = min(c.ttl, a.ttl)
	}
	if slices.Contains(c.seen, to) {
		return problem("aliases in a loop")
	}
	if len(c.seen) > maxAliases {
		return problem("more than " + strconv.Itoa(maxAliases) + " aliases")
	}
	c.seen = append(c.seen, to)
	c.name = to
	return nil
}

// take makes the answer of records, which are of the type asked for.
func (c *chase) take(m *message, records []rr) error {
	for _, r := range records {
		c.ttl = min(c.ttl, r.ttl) // one set has one TTL; if not, the smallest (RFC 2181, 5.2)
	}
	c.finish(m, Found)
	c.answer.TTL = clamp(c.ttl, maxTTL)
	if c.typ == TypeSRV {
		c.answer.Records, c.answer.Dropped = sift(records)
		if len(c.answer.Records) == 0 {
			c.answer.Outcome = Unavailable
		}
		return nil
	}
	for _, r := range records {
		a := &c.answer
		if r.addr.IsValid() && len(a.Addrs) < MaxAddrs && !slices.Contains(a.Addrs, r.addr) {
			a.Addrs = append(a.Addrs, r.addr)
		}
	}
	if len(c.answer.Addrs) == 0 {
		return problem("records without an address")
	}
	return nil
}

// finish sets what all answers have.
func (c *chase) finish(m *message, o Outcome) {
	c.answer = Answer{Outcome: o, Rcode: m.rcodeName, Authenticated: m.authenticated && !c.insecure}
	if len(c.seen) > 1 {
		c.answer.Canonical = c.name
	}
}

// absence tells whether the reply says that name has no such records, by the SOA record of a zone
// that name is in, and for how long.
func (m *message) absence(name string) (ttl uint32, said bool) {
	ttl = math.MaxUint32
	for _, s := range m.soa {
		if s.owner == "." || s.owner == name || strings.HasSuffix(name, "."+s.owner) {
			ttl, said = min(ttl, s.ttl), true
		}
	}
	return ttl, said
}

func owned(records []rr, name string, typ Type) []rr {
	var out []rr
	for _, r := range records {
		if r.owner == name && r.typ == typ {
			out = append(out, r)
		}
	}
	return out
}

// sift parts good SRV records from bad ones. The good ones are in the order of [Answer.Records].
func sift(records []rr) (good []Record, dropped []Dropped) {
	if len(records) == 1 && records[0].target == "." {
		return nil, nil // RFC 2782, Target: decidedly not available
	}
	all := make([]Record, len(records))
	for i, r := range records {
		all[i] = Record{Target: r.target, Port: r.port, Priority: r.priority, Weight: r.weight}
	}
	slices.SortFunc(all, func(a, b Record) int {
		return cmp.Or(
			cmp.Compare(a.Priority, b.Priority),
			cmp.Compare(b.Weight, a.Weight),
			strings.Compare(strings.ToLower(a.Target), strings.ToLower(b.Target)),
			cmp.Compare(a.Port, b.Port),
			strings.Compare(a.Target, b.Target),
		)
	})
	for _, r := range all {
		reason := fault(r)
		if reason == "" && slices.ContainsFunc(good, func(g Record) bool {
			return g.Port == r.Port && strings.EqualFold(g.Target, r.Target)
		}) {
			reason = DropDuplicate
		}
		if reason == "" && len(good) == MaxRecords {
			reason = DropExcess
		}
		switch {
		case reason == "":
			good = append(good, r)
		case len(dropped) < MaxDropped:
			dropped = append(dropped, Dropped{r, reason})
		}
	}
	return good, dropped
}

// fault says what is wrong with a record, if anything is.
func fault(r Record) string {
	_, notIP := netip.ParseAddr(r.Target)
	name, ok := cleanName(r.Target)
	switch {
	case notIP == nil:
		return DropAddress
	case r.Target == ".":
		return DropRoot
	case !ok:
		return DropName
	case endsInNumber(name):
		return DropAddress
	case r.Port == 0:
		return DropPort
	}
	return ""
}

func clamp(seconds uint32, most time.Duration) time.Duration {
	return min(max(time.Duration(seconds)*time.Second, minTTL), most)
}
