package simulation

import "time"

// status says how a load ended, as in package cache.
type status uint8

const (
	good status = iota
	bad
	temporary
)

// loaded is what a load brought.
type loaded struct {
	value    route
	status   status
	lifetime time.Duration
}

// entry is an answer as package cache keeps it.
type entry struct {
	value       route
	status      status
	until       time.Duration
	refreshFrom time.Duration
	failures    int
	held        bool // there is a good value, fresh or expired
	goodValue   route
	goodUntil   time.Duration
}

// next is what cache.next is there: it decides what follows old, if had, when a
// load ends at now.
func (p *Policy) next(old entry, had bool, l loaded, now time.Duration) entry {
	life := max(l.lifetime, 0)
	e := entry{value: l.value, status: l.status, until: now + life, refreshFrom: never}
	if l.status == good {
		if p.Ahead > 0 {
			e.refreshFrom = now + life - time.Duration(float64(life)*p.Ahead)
		}
		e.held, e.goodValue, e.goodUntil = true, e.value, e.until
		return e
	}
	e.failures = 1
	if had {
		e.failures += old.failures
	}
	if l.status == bad || !had || !old.held {
		return e
	}
	e.held, e.goodValue, e.goodUntil = true, old.goodValue, old.goodUntil
	switch {
	case now < old.goodUntil && p.KeepGood:
		e.value, e.status, e.until, e.refreshFrom = old.goodValue, good, old.goodUntil, now+life
		if p.AheadForgets {
			e.refreshFrom = now
		}
	case now >= old.goodUntil && now < old.goodUntil+p.MaxStale:
		e.value, e.status = old.goodValue, good
		e.until = min(e.until, old.goodUntil+p.MaxStale)
	}
	return e
}

// input is one key of one cache, with its load under way.
type input struct {
	entry
	had    bool
	flying bool
	lands  time.Duration
	brings loaded
	began  time.Duration
}

// settle stores what has landed by now.
func (in *input) settle(p *Policy, now time.Duration) {
	if in.flying && in.lands <= now {
		in.entry = p.next(in.entry, in.had, in.brings, in.lands)
		in.had, in.flying = true, false
	}
}

// fresh reports whether the entry may be used at now. The input must be settled.
func (in *input) fresh(now time.Duration) bool { return in.had && now < in.until }

// begin puts a load under way.
func (in *input) begin(now, took time.Duration, l loaded) {
	in.flying, in.began, in.lands, in.brings = true, now, now+took, l
}
