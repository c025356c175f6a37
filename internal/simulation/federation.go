package simulation

import (
	"math"
	"math/rand/v2"
	"net/http"
	"time"
)

// Share is a value and how often it is met. Weights need not add up to one.
type Share[T any] struct {
	Weight float64
	Value  T
}

// draw takes one of the values.
func draw[T any](r *rand.Rand, shares []Share[T]) T {
	var sum float64
	for _, s := range shares {
		sum += s.Weight
	}
	x := r.Float64() * sum
	for _, s := range shares {
		if x -= s.Weight; x < 0 {
			return s.Value
		}
	}
	return shares[len(shares)-1].Value
}

// Delegation is how a server says where it is.
type Delegation uint8

const (
	WellKnownPort Delegation = iota // well-known names a host and a port
	WellKnownHost                   // well-known names a host alone
	SRV                             // SRV records, no well-known
	None                            // neither: port 8448
)

// Web is what the web server of a host answers that has no well-known document.
type Web uint8

const (
	NotFound  Web = iota // 404
	CatchAll             // 200 and a page
	Refused              // nobody listens, or the certificate is for another name
	Silent               // a firewall drops what comes
	NoAddress            // the name does not exist
)

// Outages is how often and for how long a server is down. Both times are
// exponential; a zero Every is never.
type Outages struct{ Every, Last time.Duration }

// After is what becomes of the place that a server has moved away from.
type After uint8

const (
	GoneRefused After = iota // nobody listens
	GoneSilent               // nothing answers
	Elsewhere                // somebody else answers, with a certificate that passes
	Serves                   // it is kept running, and leads to the same server
)

// Federation is what is assumed of the world. docs/simulation.md says where each
// number comes from.
type Federation struct {
	Servers int
	// Every takes only each n-th server, by rank. Rates in a Tally are scaled to
	// all of them. Zero counts as one.
	Every int

	Delegation []Share[Delegation]
	Lifetime   []Share[string]        // Cache-Control of well-known documents; empty for none
	Web        []Share[Web]           // of those who have no document
	TTL        []Share[time.Duration] // of addresses and SRV records
	Absent     []Share[time.Duration] // of answers that there is nothing

	Dead     float64 // share of servers that are gone for ever
	DeadWeb  []Share[Web]
	DeadKept float64 // share of the dead whose well-known document is still there
	// DeadSilent is the share of the dead whose place does not even refuse.
	DeadSilent float64

	Outages   []Share[Outages] // of the living
	SameBox   float64          // share of the servers whose outages take the web server along
	DropsDown float64          // share of the outages with silence instead of a refusal
	TwoTarget float64          // share of the servers with SRV records that have two of them
	FallBack  float64          // share of delegated servers that answer at port 8448 of their name too

	// Moves is the share of the living that move between Warm and MovesEnd. It is
	// much larger than in truth, so that there is something to count; results
	// are per move.
	Moves float64
	After []Share[After]
	// MoveGap is the mean of the time for which a server that does not go on Serving is
	// down before it says where it has moved to; exponential.
	MoveGap time.Duration

	// Traffic. Rank r gets Busiest/r^Zipf requests a second, and at least Quietest.
	Busiest  float64
	Zipf     float64
	Quietest float64
	Swing    float64       // of the day around its mean, 0 to 1
	CatchUp  time.Duration // after a restart everybody is asked for once within this time

	// Obeying is the share of requests that a homeserver withholds by itself from a
	// server that has failed: CallerMin at first, twice as long each time, CallerMax at
	// last, for all workers.
	Obeying              float64
	CallerMin, CallerMax time.Duration

	RoundTrip time.Duration // median; log-normal with a sigma of 0.7
	Lookup    time.Duration // one DNS query, median; likewise

	Workers int
	// Sharded is the share of requests that come from the one worker that a server's
	// name falls to; the others come from any.
	Sharded float64

	Warm, MovesEnd, End time.Duration // counting begins at Warm
}

// Public is the federation as assumed for the results in docs/simulation.md.
func Public() Federation {
	const day = 24 * time.Hour
	return Federation{
		Servers: 100_000,
		Delegation: []Share[Delegation]{
			{0.55, WellKnownPort}, {0.10, WellKnownHost}, {0.08, SRV}, {0.27, None},
		},
		Lifetime: []Share[string]{
			{0.50, ""},
			{0.12, "public, max-age=0, must-revalidate"},
			{0.03, "no-store"},
			{0.10, "max-age=600"},
			{0.05, "max-age=3600"},
			{0.12, "max-age=14400"},
			{0.06, "max-age=86400"},
			{0.02, "max-age=31536000"},
		},
		Web: []Share[Web]{{0.55, NotFound}, {0.10, CatchAll}, {0.20, Refused}, {0.15, Silent}},
		TTL: []Share[time.Duration]{
			{0.10, time.Minute}, {0.40, 5 * time.Minute}, {0.10, 30 * time.Minute}, {0.30, time.Hour}, {0.10, day},
		},
		Absent: []Share[time.Duration]{{0.2, 5 * time.Minute}, {0.4, 30 * time.Minute}, {0.4, time.Hour}},

		Dead:     0.5,
		DeadWeb:  []Share[Web]{{0.35, NoAddress}, {0.25, Refused}, {0.20, Silent}, {0.10, NotFound}, {0.10, CatchAll}},
		DeadKept: 0.15, DeadSilent: 0.5,

		Outages: []Share[Outages]{
			{0.75, Outages{7 * day, 20 * time.Minute}},
			{0.15, Outages{6 * time.Hour, 20 * time.Minute}},
			{0.05, Outages{day, 6 * time.Hour}},
			{0.05, Outages{6 * time.Hour, 18 * time.Hour}},
		},
		SameBox:   0.5,
		DropsDown: 0.3,
		TwoTarget: 0.2,
		FallBack:  0.25,

		Moves:   0.1,
		After:   []Share[After]{{0.35, GoneRefused}, {0.25, GoneSilent}, {0.25, Elsewhere}, {0.15, Serves}},
		MoveGap: 30 * time.Minute,

		Busiest:  0.5,
		Zipf:     1,
		Quietest: 1.0 / (2 * 3600),
		Swing:    0.6,
		CatchUp:  10 * time.Minute,

		Obeying:   0.8,
		CallerMin: 10 * time.Minute,
		CallerMax: 7 * day,

		RoundTrip: 60 * time.Millisecond,
		Lookup:    30 * time.Millisecond,

		Workers: 4,
		Sharded: 0.5,

		Warm: day, MovesEnd: 3 * day, End: 5 * day,
	}
}

// route is where a server's name leads, or what answers there.
type route uint8

const (
	nowhere  route = iota // well-known did not delegate: the name itself, port 8448
	oldPlace              // where it is until it moves
	newPlace              // where it is afterwards
)

// span is a time during which something is down.
type span struct {
	from, to time.Duration
	silent   bool
}

// timeline are spans in order. Time is asked for in order too, mostly, so that the place
// where the last question ended is a good one to begin.
type timeline struct {
	spans []span
	at    int
}

// down is the span that holds t, or nil.
func (l *timeline) down(t time.Duration) *span {
	for l.at > 0 && l.spans[l.at-1].to > t {
		l.at--
	}
	for l.at < len(l.spans) && l.spans[l.at].to <= t {
		l.at++
	}
	if l.at < len(l.spans) && l.spans[l.at].from <= t {
		return &l.spans[l.at]
	}
	return nil
}

// server is one server and its fate, the same for every policy.
type server struct {
	rank       int
	rate       float64 // requests a second
	delegation Delegation
	header     http.Header // of the document
	web        Web         // without a document
	kept       bool        // dead, but the document is there
	dead       bool
	ttl, none  time.Duration
	host       timeline // outages of the web server
	target     timeline
	second     timeline // of the second target
	targets    int
	fallBack   bool
	stopAt     time.Duration // it is down from here to moveAt
	moveAt     time.Duration // beyond the end if it stays
	after      After
	roundTrip  time.Duration
	lookup     time.Duration
}

const never = time.Duration(math.MaxInt64)

// stream is a source of random numbers for one purpose.
func stream(seed uint64, rank int, purpose uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, uint64(rank)<<8|purpose))
}

// newServer draws the server of a rank, which counts from one.
func (f *Federation) newServer(seed uint64, rank int, headers map[string]http.Header) *server {
	r := stream(seed, rank, 1)
	s := &server{rank: rank, targets: 1, stopAt: never, moveAt: never}
	s.rate = max(f.Busiest/math.Pow(float64(rank), f.Zipf), f.Quietest)
	s.delegation = draw(r, f.Delegation)
	s.header = headers[draw(r, f.Lifetime)]
	s.web = draw(r, f.Web)
	s.ttl, s.none = draw(r, f.TTL), draw(r, f.Absent)
	s.roundTrip = lognormal(r, f.RoundTrip)
	s.lookup = lognormal(r, f.Lookup)
	s.fallBack = r.Float64() < f.FallBack
	two := r.Float64() < f.TwoTarget
	outages, same := draw(r, f.Outages), r.Float64() < f.SameBox
	moves, moveAt, gap, after := r.Float64() < f.Moves, r.Float64(), r.ExpFloat64(), draw(r, f.After)
	if r.Float64() < f.Dead {
		s.dead = true
		s.kept = r.Float64() < f.DeadKept && s.delegation <= WellKnownHost
		if !s.kept {
			s.web = draw(r, f.DeadWeb)
		}
		s.target.spans = []span{{0, never, r.Float64() < f.DeadSilent}}
		if s.kept || s.web == NotFound || s.web == CatchAll {
			return s // the web server lives on
		}
		s.host.spans = []span{{0, never, s.web == Silent}}
		return s
	}
	if s.delegation == SRV && two {
		s.targets = 2
		s.second.spans = f.outages(r, outages)
	}
	s.target.spans = f.outages(r, outages)
	if same {
		s.host.spans = s.target.spans
	} else {
		s.host.spans = f.outages(r, outages)
	}
	if moves {
		s.moveAt = f.Warm + time.Duration(moveAt*float64(f.MovesEnd-f.Warm))
		s.after, s.stopAt = after, s.moveAt
		if after != Serves {
			s.stopAt -= time.Duration(gap * float64(f.MoveGap))
		}
	}
	return s
}

func (f *Federation) outages(r *rand.Rand, o Outages) []span {
	var list []span
	if o.Every <= 0 {
		return nil
	}
	// Begin before the beginning, so that it is in the middle of things.
	at := -10 * (o.Every + o.Last)
	for at < f.End {
		at += time.Duration(r.ExpFloat64() * float64(o.Every))
		end := at + time.Duration(r.ExpFloat64()*float64(o.Last))
		silent := r.Float64() < f.DropsDown
		if end > 0 {
			list = append(list, span{at, end, silent})
		}
		at = end
	}
	return list
}

func lognormal(r *rand.Rand, median time.Duration) time.Duration {
	return time.Duration(float64(median) * math.Exp(0.7*r.NormFloat64()))
}

// hasDocument reports whether the host has a well-known document, when it is up.
func (s *server) hasDocument() bool {
	return s.delegation <= WellKnownHost && (!s.dead || s.kept)
}

// place is where the server is at t.
func (s *server) place(t time.Duration) route {
	if t >= s.moveAt {
		return newPlace
	}
	return oldPlace
}

// down reports whether one of the targets is down at t.
func (s *server) down(target int, t time.Duration) (down, silent bool) {
	if t >= s.stopAt && t < s.moveAt {
		return true, s.after == GoneSilent
	}
	line := &s.target
	if target == 1 {
		line = &s.second
	}
	if span := line.down(t); span != nil {
		return true, span.silent
	}
	return false, false
}

// unreachable reports whether all targets are down at t.
func (s *server) unreachable(t time.Duration) bool {
	for n := range s.targets {
		if down, _ := s.down(n, t); !down {
			return false
		}
	}
	return true
}
