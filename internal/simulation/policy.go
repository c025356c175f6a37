package simulation

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"mxdiscover/wellknown"
)

// Policy is what is remembered for how long. The zero Policy remembers nothing.
type Policy struct {
	Name string

	// Lifetime is that of a document with the header h. If nil, nothing is kept at
	// all: every request asks for everything, DNS too.
	Lifetime func(h http.Header, jitter float64) time.Duration

	// Failure is how long a fetch that brought no document is left alone.
	Failure func(f Failed) time.Duration

	// Ahead is the last part of a lifetime in which a good answer is refreshed while
	// callers get the old one. AheadWaits makes the caller who begins that wait for it.
	// AheadForgets has the next caller begin it anew at once if it failed for a time.
	Ahead        float64
	AheadWaits   bool
	AheadForgets bool

	KeepGood bool // a fresh document survives a fetch that fails for a time
	// MaxStale is for how long a document is used past its lifetime, while fetches
	// fail for a time.
	MaxStale time.Duration
	Tries    int  // fetches in a row, where there was a document lately
	Beside   bool // SRV is asked while a cold well-known is under way
	Shared   bool // one cache for all workers, instead of one each

	// Again is how long discovery is not asked again for a server that could not be
	// reached. If zero, it is never asked again.
	Again time.Duration

	// A server none of whose targets answered is left alone for PauseMin, PauseFactor
	// times as long each time after that, PauseMax at last. If PauseMax is zero, it is not.
	PauseMin, PauseMax time.Duration
	PauseFactor        int

	// A target that failed is tried after others, for PenaltyMin, twice as long
	// each time, PenaltyMax at last. If PenaltyMax is zero, it is not.
	PenaltyMin, PenaltyMax time.Duration

	// DNS answers live by their TTL within these bounds. FixedDNS, if not zero,
	// takes the place of every TTL.
	DNSMin, DNSMax, AbsentMax, FixedDNS time.Duration
}

// Failed is a fetch that brought no document.
type Failed struct {
	Status   int         // zero if there was no response
	Header   http.Header // nil if there was no response
	Failures int         // in a row, this one included
	Lately   bool        // there was a document until two hours ago
	Jitter   float64     // -1 to 1
}

// Bounds are the constants of package wellknown as numbers that can be varied.
type Bounds struct {
	Default, Min, Max      time.Duration
	FailureMin, FailureMax time.Duration
	Factor                 int // of the back-off; 1 for none
	Jitter                 float64
}

// OurBounds are the constants of package wellknown.
func OurBounds() Bounds {
	return Bounds{
		Default: wellknown.DefaultLifetime, Min: wellknown.MinLifetime, Max: wellknown.MaxLifetime,
		FailureMin: wellknown.MinFailureLifetime, FailureMax: wellknown.MaxFailureLifetime,
		Factor: 2, Jitter: 0.1,
	}
}

// Lifetime is [wellknown.Lifetime] with other bounds, for headers as they occur in a
// Federation.
func (b Bounds) Lifetime(h http.Header, jitter float64) time.Duration {
	control := h.Get("Cache-Control")
	d := b.Default + time.Duration(float64(b.Default)*b.Jitter*jitter)
	if strings.Contains(control, "no-store") {
		d = 0
	} else if _, value, ok := strings.Cut(control, "max-age="); ok {
		value, _, _ = strings.Cut(value, ",")
		seconds, _ := strconv.Atoi(value)
		d = time.Duration(seconds) * time.Second
	}
	return min(max(d, b.Min), b.Max)
}

// Failure is [wellknown.FailureLifetime] with other bounds, for responses that
// state no time.
func (b Bounds) Failure(f Failed) time.Duration {
	d := b.FailureMin
	for n := f.Failures; n > 1 && d < b.FailureMax; n-- {
		if d *= time.Duration(b.Factor); b.Factor <= 1 {
			break
		}
	}
	d = min(d, b.FailureMax)
	return min(max(d+time.Duration(float64(d)*b.Jitter*f.Jitter), b.FailureMin), b.FailureMax)
}

// Ours is what this module does, one cache for each worker.
func Ours() Policy {
	var epoch time.Time // the Federation's headers hold no dates
	return Policy{
		Name:     "ours",
		Lifetime: func(h http.Header, jitter float64) time.Duration { return wellknown.Lifetime(h, epoch, jitter) },
		Failure: func(f Failed) time.Duration {
			return wellknown.FailureLifetime(f.Status, f.Header, epoch, f.Failures, f.Jitter)
		},
		Ahead: 0.2, KeepGood: true, Tries: 3, Beside: true,
		Again:    5 * time.Minute,
		PauseMin: time.Second, PauseMax: time.Minute, PauseFactor: 4,
		PenaltyMin: 30 * time.Second, PenaltyMax: 15 * time.Minute,
		DNSMin: 5 * time.Second, DNSMax: 24 * time.Hour, AbsentMax: time.Hour,
	}
}

// With is p with other bounds of lifetimes.
func (p Policy) With(b Bounds) Policy {
	p.Lifetime, p.Failure = b.Lifetime, b.Failure
	return p
}

// Alternatives are plain policies to compare ours with.
func Alternatives() []Policy {
	var list []Policy
	add := func(name string, p Policy) {
		p.Name = name
		list = append(list, p)
	}

	add("no cache", Policy{PauseMax: 0})

	// As the client of mautrix-go does: everything for a day, failures too, and
	// no question before that.
	const day = 24 * time.Hour
	fixed := Policy{FixedDNS: 5 * time.Minute}
	fixed.Lifetime = func(http.Header, float64) time.Duration { return day }
	fixed.Failure = func(Failed) time.Duration { return day }
	add("fixed 24 h", fixed)

	// As Synapse does (synapse/http/federation/well_known_resolver.py).
	b := OurBounds()
	synapse := Ours()
	synapse.Lifetime = b.Lifetime
	synapse.Failure = func(f Failed) time.Duration {
		d := time.Hour
		if f.Lately {
			d = 2 * time.Minute
		}
		return d + time.Duration(0.1*f.Jitter*float64(d))
	}
	synapse.AheadWaits, synapse.AheadForgets = true, true
	synapse.Beside, synapse.Again, synapse.PauseMax, synapse.PenaltyMax = false, 0, 0, 0
	add("as Synapse", synapse)

	b = OurBounds()
	b.Factor = 1
	plain := Ours().With(b)
	plain.PauseMax = 0
	add("ours, no back-off", plain)

	lazy := Ours()
	lazy.Ahead = 0
	add("ours, no refresh ahead", lazy)

	patient := Ours()
	patient.AheadWaits = true
	add("ours, refresh is waited for", patient)

	once := Ours()
	once.Again = 0
	add("ours, never asks again", once)

	shared := Ours()
	shared.Shared = true
	add("ours, shared tier", shared)
	return list
}
