package resolver

import (
	"context"
	"errors"
	"maps"
	"sync"

	"mxdiscover/cache"
	"mxdiscover/srv"
)

// Stats tells what a Resolver has been doing. Counters begin at zero with the
// Resolver and only grow. No number says anything of a single server name.
type Stats struct {
	// Hits counts calls of Resolve that were answered from memory: nobody was
	// asked or waited for. Names that need no question (rules 1 and 2) are
	// among them. Misses counts the others, those that their context ended
	// included. Names that are not valid, or were never permitted, are in
	// neither.
	Hits   uint64 `json:"hits"`
	Misses uint64 `json:"misses"`

	WellKnown InputStats `json:"well_known"` // one input per host
	SRV       InputStats `json:"srv"`        // one per name of SRV records
	Addresses InputStats `json:"addresses"`  // one per host and family (A, AAAA)
}

// InputStats is the part of [Stats] about one kind of input. Its numbers belong
// to one moment.
type InputStats struct {
	Entries  int    `json:"entries"`   // remembered at this moment, expired ones included
	InFlight int    `json:"in_flight"` // fetches under way at this moment
	Waiting  int    `json:"waiting"`   // fetches that wait until others have ended
	Fetches  uint64 `json:"fetches"`   // begun: for callers, ahead of them, and to refresh

	// Failures counts the fetches that failed, by reason; reasons that have not
	// occurred are missing. For well-known the reason is a [wellknown.Code], as
	// "not_found", which is the usual answer of a host that delegates nothing;
	// the last of several tries counts. For DNS it is one of
	//
	//	SERVFAIL, REFUSED, FORMERR, other_rcode
	//	                the server's response code
	//	timeout         no server answered in time; what does not fit the question is no answer
	//	bad_reply       an answer came that cannot be used
	//	network         the server could not be reached
	//	invalid_name    the name cannot be one in the DNS; nothing was asked
	//
	// That a name does not exist or has no records is an answer and no failure.
	// "panic" counts faults of this module or of the caller's functions, and
	// "other" what has no place here.
	Failures map[string]uint64 `json:"failures,omitempty"`
}

// Stats says what the Resolver has been doing until now. It asks nobody, and is
// cheap enough to be called every second.
func (r *Resolver) Stats() Stats {
	s := r.state()
	var all Stats
	s.memo.mu.Lock()
	all.Hits, all.Misses = s.memo.hits, s.memo.misses
	s.memo.mu.Unlock()
	all.WellKnown = inputStats(s.wellKnown.Stats(), &s.failures.wellKnown)
	all.SRV = inputStats(s.records.Stats(), &s.failures.records)
	all.Addresses = inputStats(s.addrs.Stats(), &s.failures.addrs)
	return all
}

func inputStats(c cache.Stats, failures *reasons) InputStats {
	in := InputStats{Entries: c.Entries, InFlight: c.InFlight, Waiting: c.Waiting, Fetches: c.Loads, Failures: failures.all()}
	if c.Panics > 0 {
		if in.Failures == nil {
			in.Failures = make(map[string]uint64)
		}
		in.Failures["panic"] = c.Panics
	}
	return in
}

// maxReasons is how many reasons are told apart: twice as many as there are,
// in case that one day a reason is made of what came from the network.
const maxReasons = 40

// reasons counts failures. The zero value is ready to use.
type reasons struct {
	mu sync.Mutex
	n  map[string]uint64
}

func (r *reasons) count(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n == nil {
		r.n = make(map[string]uint64)
	}
	if _, ok := r.n[reason]; !ok && len(r.n) >= maxReasons {
		reason = "other"
	}
	r.n[reason]++
}

// all is a copy, nil if there was no failure.
func (r *reasons) all() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.n)
}

// dnsReason puts a failed look-up into one of few classes.
func dnsReason(err error) string {
	var e *srv.Error
	switch {
	case !errors.As(err, &e):
		return "other"
	case errors.Is(e, srv.ErrName):
		return "invalid_name"
	case e.Timeout(), errors.Is(e, context.Canceled):
		return "timeout"
	case e.Err != nil:
		return "network"
	}
	switch rcode := e.Rcode(); rcode {
	case "SERVFAIL", "REFUSED", "FORMERR":
		return rcode
	case "":
		return "bad_reply"
	}
	return "other_rcode"
}
