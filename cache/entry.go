package cache

import (
	"context"
	"math"
	"sync/atomic"
	"time"
)

// Status says how a load ended.
type Status uint8

const (
	Good      Status = iota // an answer to keep and to refresh ahead
	Bad                     // a definitive negative answer: replaces what was held, is never refreshed ahead
	Temporary               // the source could not be asked: what is still fresh stays
)

// Prior is what the cache held when a load began.
type Prior[V any] struct {
	Value    V         // the last Good value; zero if Held is false
	Held     bool      // whether Value stands for anything: a Good value, fresh or expired, that no Bad has replaced
	Expires  time.Time // when Value goes or went stale; zero if Held is false
	Failures int       // failed loads (Bad or Temporary) in a row before this one
}

// Loaded is what a load brought.
type Loaded[V any] struct {
	// Value is stored for Good and Bad. For Temporary it is stored only if no Good value can be used instead.
	Value V

	// Status says how the load ended. A value other than the three constants counts as Temporary.
	Status Status

	// Lifetime is how long Value lasts. If the load was Temporary and an older Good value is used instead, it is
	// the pause until the next try. If zero or less, those who wait get the entry, and the next Get loads again.
	Lifetime time.Duration
}

// A Loader asks the source about key.
//
// It runs on a goroutine of its own. Its ctx holds no value of any caller and ends at the cache's Timeout, and the Loader
// must then return: as long as it does not, callers without a deadline wait for it, and it holds its slot. It must not use
// the same cache, or it may end up waiting for itself. If it panics, those who wait get a [*PanicError], nothing is
// stored, and the next Get loads again; a panic of a load in the background goes unreported, until the entry has
// expired and callers wait.
type Loader[K comparable, V any] func(ctx context.Context, key K, prior Prior[V]) Loaded[V]

// never is an offset that no clock reaches.
const never time.Duration = math.MaxInt64

// answer is a value with its dates. Those that are compared with the clock are offsets from the cache's base.
type answer[V any] struct {
	value     V
	loadedAt  time.Time
	expiresAt time.Time
	until     time.Duration // expiresAt as an offset
}

// Entry is one cached answer. It never changes; a newer answer comes as another Entry.
type Entry[V any] struct {
	answer[V]
	status      Status
	stale       bool
	failures    int
	failed      V // what the last of those failures brought
	refreshAt   time.Time
	refreshFrom time.Duration // refreshAt as an offset
	good        *answer[V]    // the last Good one with its own dates; nil if there was none or a Bad came after it
	replaced    atomic.Bool
}

// Value returns the answer.
func (e *Entry[V]) Value() V { return e.value }

// Status says what kind of answer Value is. It is Good, too, for a Good value that is used because later loads
// were Temporary; Failures and Stale tell.
func (e *Entry[V]) Status() Status { return e.status }

// LoadedAt returns when the source gave Value.
func (e *Entry[V]) LoadedAt() time.Time { return e.loadedAt }

// Expires returns when the entry goes stale. For a Good value kept through a failed refresh that is still its own expiry;
// for a Stale one it is when the source will be asked again.
func (e *Entry[V]) Expires() time.Time { return e.expiresAt }

// RefreshAt returns from when on a Get refreshes the entry in the background. It is zero for an entry that is never
// refreshed ahead (Bad, Temporary and Stale ones), and may lie after Expires if refreshing has failed.
func (e *Entry[V]) RefreshAt() time.Time { return e.refreshAt }

// Stale reports whether Value is used past its own expiry because the source could not be asked.
func (e *Entry[V]) Stale() bool { return e.stale }

// Failures returns how many loads in a row have failed, up to now. It is zero for a Good value unless refreshing it has failed.
func (e *Entry[V]) Failures() int { return e.failures }

// Failure returns what the last load brought if it failed. For a Good value in use in spite of failures this tells what is
// wrong with the source; for a Bad or Temporary entry it is Value.
func (e *Entry[V]) Failure() (v V, failed bool) { return e.failed, e.failures > 0 }

// Current reports whether the entry is still the cache's last word: false once a newer one has replaced it, it was
// forgotten, or it was evicted. It is cheap, so that something built from an entry can be checked on every use. It says
// nothing of expiry.
func (e *Entry[V]) Current() bool { return !e.replaced.Load() }

// prior is what the loader is told about e, which may be nil.
func (e *Entry[V]) prior() Prior[V] {
	if e == nil {
		return Prior[V]{}
	}
	p := Prior[V]{Failures: e.failures}
	if e.good != nil {
		p.Value, p.Held, p.Expires = e.good.value, true, e.good.expiresAt
	}
	return p
}

// next decides what follows old, which may be nil, when a load ends at the given time with l. It is pure.
func next[V any](old *Entry[V], l Loaded[V], at time.Time, now, maxStale time.Duration) *Entry[V] {
	life := max(l.Lifetime, 0)
	e := &Entry[V]{
		answer:      answer[V]{value: l.Value, loadedAt: at, expiresAt: at.Add(life), until: after(now, life)},
		status:      l.Status,
		refreshFrom: never,
	}
	if l.Status == Good {
		// The last fifth: long enough for some tries, short enough to take most of the lifetime.
		ahead := life - life/5
		e.refreshAt, e.refreshFrom = at.Add(ahead), after(now, ahead)
		e.good = &e.answer
		return e
	}

	e.failures, e.failed = 1, l.Value
	if old != nil {
		e.failures += old.failures
	}
	if l.Status == Bad {
		return e
	}

	e.status = Temporary
	if old == nil || old.good == nil {
		return e
	}
	e.good = old.good
	switch g := e.good; {
	case now < g.until: // kept, with its own expiry; tried again after the pause
		e.answer, e.status = *g, Good
		e.refreshAt, e.refreshFrom = at.Add(life), after(now, life)
	case now < after(g.until, maxStale): // used beyond its expiry, until the next try or the end of the bound
		e.status, e.stale = Good, true
		e.value, e.loadedAt = g.value, g.loadedAt
		if end := after(g.until, maxStale); end < e.until {
			e.until, e.expiresAt = end, at.Add(end-now)
		}
	}
	return e
}

// after is t+d without overflow.
func after(t, d time.Duration) time.Duration {
	if d > never-t {
		return never
	}
	return t + d
}
