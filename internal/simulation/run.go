package simulation

import (
	"math"
	"math/rand/v2"
	"net/http"
	"time"
)

// What the model takes over from the code, beside what a Policy says. A test in package
// resolver holds these against it.
const (
	FetchTimeout   = 10 * time.Second       // of one fetch of well-known
	FetchPause     = 500 * time.Millisecond // between tries
	HeadStart      = 10 * time.Millisecond  // of well-known before SRV is asked beside it
	Lately         = 2 * time.Hour          // for so long an expired document counts for a host that has one
	DialTimeout    = 10 * time.Second       // of one target
	AgainTimeout   = 30 * time.Second       // of asking again
	RememberedWait = time.Second            // of a request that does not try, for those that do
	KeepAlive      = 90 * time.Second       // of an idle connection
)

// Ranks up to here are always all taken: a few of them have much of the traffic.
const sampledBeyond = 1000

// Run runs a federation under a policy.
func Run(f Federation, p Policy, seed uint64) *Tally {
	t := &Tally{Hours: (f.End - f.Warm).Hours(), Minutes: make([]float64, f.End/time.Minute+1)}
	headers := make(map[string]http.Header)
	for _, share := range f.Lifetime {
		h := http.Header{}
		if share.Value != "" {
			h.Set("Cache-Control", share.Value)
		}
		headers[share.Value] = h
	}
	w := &world{f: &f, p: &p, tally: t}
	for rank := 1; rank <= f.Servers; {
		weight := 1
		if rank > sampledBeyond {
			weight = max(f.Every, 1)
		}
		w.run(f.newServer(seed, rank, headers), seed, float64(weight))
		rank += weight
	}
	return t
}

// world is one server and the homeserver that sends to it.
type world struct {
	f     *Federation
	p     *Policy
	s     *server
	tally *Tally

	weight  float64
	jitter  *rand.Rand
	now     time.Duration
	queue   queue
	reqs    []request
	free    []int32
	caches  []caches
	workers []worker
	move    Move

	callerFails int
	callerUntil time.Duration
}

// caches are the inputs that concern the server.
type caches struct {
	wellKnown input
	own, del  input    // SRV records of the name, and of the name it is delegated to
	addrs     [3]input // of the name itself, and of the two places
}

// worker is what one process knows of connections.
type worker struct {
	plans [3]plan // by route
	again struct {
		at, until time.Duration
		done      bool
	}
}

// plan is a route and what came of it.
type plan struct {
	failures   int
	pauseUntil time.Duration
	penalty    [2]struct {
		failures int
		until    time.Duration
	}
	dialUntil time.Duration
	dialled   bool // what the last dial came to

	connUntil, connSince time.Duration
	connTo               route
}

type stage uint8

const (
	atWellKnown stage = iota
	atRecords
	atPlan
	atAddresses
	dialling
	joining
	asking
)

type request struct {
	began    time.Duration
	waited   time.Duration // for discovery
	worker   int32
	stage    stage
	resumed  bool // what it waited for has come
	asked    bool // discovery has been asked again
	obeys    bool
	private  route // an answer that is not kept
	known    route // what well-known said
	label    route // where discovery leads
	at       route // what is dialled
	stopped  bool  // it failed without having tried
	dialFrom time.Duration
}

func (w *world) run(s *server, seed uint64, weight float64) {
	f := w.f
	w.s, w.weight, w.now = s, weight, 0
	w.jitter = stream(seed, s.rank, 3)
	w.queue.heap, w.reqs, w.free = w.queue.heap[:0], w.reqs[:0], w.free[:0]
	n := max(f.Workers, 1)
	w.workers = clear0(w.workers, n)
	if w.p.Shared {
		n = 1
	}
	w.caches = clear0(w.caches, n)
	w.move = Move{After: s.after, Weight: weight}
	w.callerFails, w.callerUntil = 0, 0

	r := stream(seed, s.rank, 2)
	if s.dead { // for long
		w.callerFails = 32
		w.callerUntil = time.Duration(r.Float64() * float64(f.CallerMax))
	}
	most := s.rate * (1 + f.Swing)
	next, catchUp := time.Duration(0), f.CatchUp > 0
	arrive := func() {
		for {
			if catchUp {
				catchUp = false
				next = time.Duration(r.Float64() * float64(f.CatchUp))
				return
			}
			gap := r.ExpFloat64() / most * 1e9
			if gap > float64(f.End) {
				next = never
				return
			}
			next += time.Duration(gap)
			if next > f.End || r.Float64()*(1+f.Swing) <= 1+f.Swing*math.Sin(2*math.Pi*next.Hours()/24) {
				return
			}
		}
	}
	for arrive(); ; {
		if len(w.queue.heap) > 0 && w.queue.heap[0].at <= next {
			e := w.queue.pop()
			if e.at > f.End {
				break
			}
			w.now = e.at
			w.reqs[e.req].resumed = true
			w.goOn(e.req)
			continue
		}
		if next > f.End {
			break
		}
		w.now = next
		sharded, any, obeys := r.Float64() < f.Sharded, r.IntN(len(w.workers)), r.Float64() < f.Obeying
		who := s.rank % len(w.workers)
		if !sharded {
			who = any
		}
		arrive()
		if obeys && w.now < w.callerUntil {
			continue // the homeserver does not even try
		}
		i := w.newRequest()
		w.reqs[i] = request{began: w.now, worker: int32(who), obeys: obeys}
		w.goOn(i)
	}
	if s.moveAt < f.End {
		w.tally.Moves = append(w.tally.Moves, w.move)
	}
}

func clear0[T any](list []T, n int) []T {
	if cap(list) < n {
		return make([]T, n)
	}
	list = list[:n]
	clear(list)
	return list
}

func (w *world) newRequest() int32 {
	if n := len(w.free); n > 0 {
		i := w.free[n-1]
		w.free = w.free[:n-1]
		return i
	}
	w.reqs = append(w.reqs, request{})
	return int32(len(w.reqs) - 1)
}

func (w *world) counted() bool { return w.now >= w.f.Warm }

// add counts, once the model is warm.
func (w *world) add(n *float64) {
	if w.counted() {
		*n += w.weight
	}
}

// cachesOf are those of a worker.
func (w *world) cachesOf(q *request) *caches { return &w.caches[int(q.worker)%len(w.caches)] }

// loader begins a load and says when it lands and what it brings.
type loader func(c *caches, in *input, ahead bool) (took time.Duration, l loaded)

// get is a look into a cache: the answer, or when to come back for it.
func (w *world) get(i int32, q *request, c *caches, in *input, load loader) (answer route, ready bool) {
	if w.p.Lifetime == nil {
		if q.resumed {
			q.resumed = false
			return q.private, true
		}
		took, l := load(c, in, false)
		q.private = l.value
		w.waitFor(i, q, w.now+took)
		return 0, false
	}
	in.settle(w.p, w.now)
	if q.resumed {
		q.resumed = false
		return in.value, true // however short it lives
	}
	if in.fresh(w.now) {
		if w.now >= in.refreshFrom && !in.flying {
			took, l := load(c, in, true)
			in.begin(w.now, took, l)
			if w.p.AheadWaits {
				w.waitFor(i, q, in.lands)
				return 0, false
			}
		}
		return in.value, true
	}
	if !in.flying {
		took, l := load(c, in, false)
		in.begin(w.now, took, l)
	}
	w.waitFor(i, q, in.lands)
	return 0, false
}

// waitFor has a request wait for discovery.
func (w *world) waitFor(i int32, q *request, until time.Duration) {
	q.waited += until - w.now
	w.queue.push(until, i)
}

// fetch is a load of well-known.
func (w *world) fetch(c *caches, in *input, ahead bool) (time.Duration, loaded) {
	s := w.s
	count := func() {
		n := &w.tally.WellKnown.Alive
		if s.dead {
			n = &w.tally.WellKnown.Dead
		}
		w.add(n)
		w.tally.Minutes[w.now/time.Minute] += w.weight
	}
	count()
	if ahead {
		w.add(&w.tally.Refreshes)
	}
	// The host's addresses come first.
	took := w.lookup(c, &c.addrs[nowhere], w.hostAddresses)

	failed := Failed{Failures: 1, Jitter: 2*w.jitter.Float64() - 1}
	if in.had {
		failed.Failures += in.failures
		failed.Lately = in.held && w.now-in.goodUntil < Lately
	}
	brings := loaded{value: nowhere, status: temporary}
	each, silent := s.roundTrip, false
	down := s.host.down(w.now)
	switch {
	case s.dead && !s.kept && s.web == NoAddress:
		each = 0
	case down != nil:
		silent = down.silent
	case s.hasDocument():
		each = 3 * s.roundTrip
		brings = loaded{value: s.place(w.now), status: good}
	case s.web == NotFound:
		each, brings.status, failed.Status = 3*s.roundTrip, bad, http.StatusNotFound
	case s.web == CatchAll:
		each, brings.status, failed.Status = 3*s.roundTrip, bad, http.StatusOK
	case s.web == Silent:
		silent = true
	}
	if silent {
		each = FetchTimeout - took
	}
	took += each
	if brings.status == temporary && !silent && failed.Lately {
		for range w.p.Tries - 1 {
			count()
			took += FetchPause + each
		}
	}
	switch {
	case w.p.Lifetime == nil:
	case brings.status == good:
		brings.lifetime = w.p.Lifetime(s.header, failed.Jitter)
	default:
		brings.lifetime = w.p.Failure(failed)
	}
	if w.p.Beside && !ahead && took > HeadStart && (!in.held || in.goodUntil <= w.now) {
		w.lookup(c, &c.own, w.ownRecords)
	}
	return took, brings
}

// lookup has a DNS answer asked for, unless it is known, and says how long that takes.
func (w *world) lookup(c *caches, in *input, load loader) time.Duration {
	if w.p.Lifetime == nil {
		took, _ := load(c, in, false)
		return took
	}
	in.settle(w.p, w.now)
	if in.fresh(w.now) {
		return 0
	}
	if !in.flying {
		took, l := load(c, in, false)
		in.begin(w.now, took, l)
	}
	return in.lands - w.now
}

// dns is a load of two DNS answers: A and AAAA, or the two SRV names.
func (w *world) dns(value route, found bool) (time.Duration, loaded) {
	w.add(&w.tally.DNS)
	w.add(&w.tally.DNS)
	p := w.p
	var life time.Duration
	switch {
	case p.FixedDNS > 0:
		life = p.FixedDNS
	case found:
		life = min(max(w.s.ttl, p.DNSMin), p.DNSMax)
	default:
		life = min(max(w.s.none, p.DNSMin), p.AbsentMax)
	}
	return w.s.lookup, loaded{value, good, life}
}

func (w *world) exists() bool { return !w.s.dead || w.s.kept || w.s.web != NoAddress }

func (w *world) hostAddresses(*caches, *input, bool) (time.Duration, loaded) {
	if w.s.delegation == None && w.exists() {
		return w.dns(w.s.place(w.now), true)
	}
	return w.dns(nowhere, w.exists())
}

func (w *world) ownRecords(*caches, *input, bool) (time.Duration, loaded) {
	if w.s.delegation == SRV && w.exists() {
		return w.dns(w.s.place(w.now), true)
	}
	return w.dns(nowhere, false)
}

func (w *world) delegateRecords(*caches, *input, bool) (time.Duration, loaded) {
	return w.dns(nowhere, false)
}

func (w *world) placeAddresses(*caches, *input, bool) (time.Duration, loaded) {
	return w.dns(nowhere, true)
}

// goOn takes a request as far as it gets.
func (w *world) goOn(i int32) {
	q := &w.reqs[i]
	c := w.cachesOf(q)
	for {
		switch q.stage {
		case atWellKnown:
			answer, ready := w.get(i, q, c, &c.wellKnown, w.fetch)
			if !ready {
				return
			}
			q.known, q.label, q.stage = answer, answer, atRecords
			if answer != nowhere && w.s.delegation == WellKnownPort {
				q.stage = atPlan
			}
		case atRecords:
			if q.known != nowhere {
				if _, ready := w.get(i, q, c, &c.del, w.delegateRecords); !ready {
					return
				}
			} else {
				answer, ready := w.get(i, q, c, &c.own, w.ownRecords)
				if !ready {
					return
				}
				q.label = answer
			}
			q.stage = atPlan
		case atPlan:
			pl := w.plan(q)
			if pl.connUntil > w.now && w.connected(pl) {
				pl.connUntil = w.now + KeepAlive
				w.end(i, q, pl.connTo, true)
				return
			}
			pl.connUntil = 0
			q.at, q.stopped, q.dialFrom = q.label, false, w.now
			if w.now < pl.pauseUntil {
				q.stopped = true
				if w.failed(i, q) {
					return
				}
				continue
			}
			q.stage = atAddresses
		case atAddresses:
			load := w.placeAddresses
			if q.label == nowhere {
				load = w.hostAddresses
			}
			answer, ready := w.get(i, q, c, &c.addrs[q.label], load)
			if !ready {
				return
			}
			if q.label == nowhere {
				q.at = answer
			}
			pl := w.plan(q)
			if pl.dialUntil > w.now { // another request is at it
				until := pl.dialUntil
				if pl.failures > 0 {
					until = min(until, w.now+RememberedWait)
				}
				q.stage = joining
				w.queue.push(until, i)
				return
			}
			took, ok := w.dial(q, pl)
			pl.dialUntil, pl.dialled = w.now+took, ok
			q.stage = dialling
			w.queue.push(pl.dialUntil, i)
			return
		case dialling:
			q.resumed = false
			pl := w.plan(q)
			if pl.dialled {
				pl.failures, pl.pauseUntil = 0, 0
				pl.connTo, pl.connSince, pl.connUntil = q.at, w.now, w.now+KeepAlive
				w.end(i, q, q.at, true)
				return
			}
			if w.p.PauseMax > 0 {
				pl.pauseUntil = w.now + growing(w.p.PauseMin, w.p.PauseMax, w.p.PauseFactor, pl.failures)
			}
			pl.failures++
			if w.failed(i, q) {
				return
			}
		case joining:
			q.resumed = false
			pl := w.plan(q)
			switch {
			case pl.dialUntil > w.now: // still under way
				q.stopped = true
			case pl.connUntil > w.now:
				w.end(i, q, pl.connTo, true)
				return
			}
			if w.failed(i, q) {
				return
			}
		case asking:
			q.resumed = false
			for _, in := range []*input{&c.wellKnown, &c.own, &c.del, &c.addrs[0], &c.addrs[1], &c.addrs[2]} {
				in.settle(w.p, w.now)
			}
			label := c.wellKnown.value
			if label == nowhere {
				label = c.own.value
			}
			if label == q.label && (label != nowhere || c.addrs[nowhere].value == q.at) {
				w.end(i, q, q.at, false)
				return
			}
			pl := &w.workers[q.worker].plans[label]
			pl.failures, pl.pauseUntil = 0, 0
			q.asked, q.stage = true, atWellKnown
		}
	}
}

func (w *world) plan(q *request) *plan { return &w.workers[q.worker].plans[q.label] }

// connected reports whether a connection that was kept is still one.
func (w *world) connected(pl *plan) bool {
	s := w.s
	if pl.connSince < s.moveAt && w.now >= s.moveAt && s.after != Serves {
		return false
	}
	// An outage since it was made has ended it, even if it is over.
	for _, at := range [2]time.Duration{pl.connUntil - KeepAlive, w.now} {
		if s.unreachable(at) {
			return false
		}
	}
	return true
}

// dial tries the targets of a place.
func (w *world) dial(q *request, pl *plan) (took time.Duration, ok bool) {
	s := w.s
	count := func() {
		n := &w.tally.Dials.Alive
		if s.dead {
			n = &w.tally.Dials.Dead
		}
		w.add(n)
	}
	if !w.exists() {
		return 0, false
	}
	moved := q.at == oldPlace && w.now >= s.moveAt
	switch {
	case q.at == nowhere && !s.fallBack: // somebody's web server, without that port
		count()
		return w.silence(s.web == Silent), false
	case moved && (s.after == GoneRefused || s.after == GoneSilent):
		count()
		return w.silence(s.after == GoneSilent), false
	case moved && s.after == Elsewhere:
		count()
		return 3 * s.roundTrip, true
	}
	order := [2]int{0, 1}
	until := func(n int) time.Duration { // when the penalty of a target ends
		if pl.penalty[n].until > w.now {
			return pl.penalty[n].until
		}
		return 0
	}
	if s.targets > 1 && until(0) > until(1) {
		order = [2]int{1, 0}
	}
	for _, n := range order[:s.targets] {
		count()
		down, silent := s.down(n, w.now)
		if !down {
			pl.penalty[n].failures, pl.penalty[n].until = 0, 0
			if took > 0 && w.counted() {
				w.tally.Vain += took.Seconds() * w.weight
			}
			return took + 3*s.roundTrip, true
		}
		took += w.silence(silent)
		if p := &pl.penalty[n]; w.p.PenaltyMax > 0 && p.until <= w.now {
			p.until = w.now + took + growing(w.p.PenaltyMin, w.p.PenaltyMax, 2, p.failures)
			p.failures++
		}
	}
	return took, false
}

func (w *world) silence(silent bool) time.Duration {
	if silent {
		return DialTimeout
	}
	return w.s.roundTrip
}

// failed is where a request goes on that could not connect. It reports whether the
// request has ended or waits.
func (w *world) failed(i int32, q *request) bool {
	again := &w.workers[q.worker].again
	if w.p.Again == 0 || q.asked {
		w.end(i, q, q.at, false)
		return true
	}
	if !again.done || w.now-again.at >= w.p.Again {
		again.done, again.at = true, w.now
		c := w.cachesOf(q)
		until := w.askAnew(q, c, &c.wellKnown, w.fetch)
		if q.label == nowhere || q.known == nowhere {
			until = max(until, w.askAnew(q, c, &c.own, w.ownRecords))
		}
		load := w.placeAddresses
		if q.label == nowhere {
			load = w.hostAddresses
		}
		again.until = min(max(until, w.askAnew(q, c, &c.addrs[q.label], load)), w.now+AgainTimeout)
	}
	if again.until <= w.now { // it was done Lately, or there was nothing to ask
		q.stage = asking
		return false
	}
	until := again.until
	if q.stopped {
		until = min(until, w.now+RememberedWait)
	}
	q.stage = asking
	w.waitFor(i, q, until)
	return true
}

// askAnew loads an input that was not loaded for the request itself.
func (w *world) askAnew(q *request, c *caches, in *input, load loader) time.Duration {
	in.settle(w.p, w.now)
	if in.flying {
		return in.lands
	}
	if in.had && in.began >= q.began {
		return w.now
	}
	took, l := load(c, in, false)
	in.begin(w.now, took, l)
	return in.lands
}

// end counts a request. reached says whether it found somebody at the place.
func (w *world) end(i int32, q *request, at route, reached bool) {
	s := w.s
	w.free = append(w.free, i)
	w.add(&w.tally.Requests)
	switch {
	case !w.counted():
	case s.dead:
		w.tally.DeadSeconds += q.waited.Seconds() * w.weight
	default:
		w.tally.Living += w.weight
		if q.waited > 0 {
			w.tally.wait(q.waited, w.weight)
		}
	}
	// A request is judged by the place at the time that it set out for it.
	from := w.now
	if q.dialFrom > 0 && q.stage != atPlan {
		from = q.dialFrom
	}
	moved := at == oldPlace && from >= s.moveAt && s.after != Serves
	wrong := reached && moved // whoever is reached there is somebody else
	ok := reached && !wrong
	if from >= s.moveAt {
		w.move.Requests++
		if moved && !ok {
			w.move.Missed++
			w.move.Until = w.now - s.moveAt
		}
	}
	if ok {
		w.callerFails, w.callerUntil = 0, 0
		return
	}
	w.add(&w.tally.Failed)
	if w.now >= w.callerUntil {
		w.callerUntil = w.now + growing(w.f.CallerMin, w.f.CallerMax, 2, w.callerFails)
		w.callerFails++
	}
	if s.unreachable(from) {
		return // nothing could be done
	}
	cause := Late
	switch {
	case wrong:
		cause = Wrong
	case moved:
		cause = Gone
	case at == nowhere:
		cause = Undirected
	case q.stopped:
		cause = LeftAlone
	}
	w.add(&w.tally.Caused[cause])
}

// growing multiplies first by factor for every failure before, up to most.
func growing(first, most time.Duration, factor, failures int) time.Duration {
	for ; failures > 0 && first < most; failures-- {
		first *= time.Duration(factor)
	}
	return min(most, first)
}
