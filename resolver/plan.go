package resolver

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// A target that failed is tried after those that did not, for
	// minTargetPenalty at first and maxTargetPenalty at last.
	minTargetPenalty = 30 * time.Second
	maxTargetPenalty = 15 * time.Minute

	// A server none of whose targets could be reached is left alone, for
	// minServerPause at first, four times as long each time after that, and
	// maxServerPause at last: 1 s, 4 s, 16 s, 1 min. Homeservers that pause by
	// themselves come back after two seconds or more, and should not find this
	// pause before theirs. A dead server costs one try a minute, and one that is
	// back waits a minute at most.
	minServerPause = time.Second
	maxServerPause = time.Minute
)

// plan is a route and what came of it in one pool.
type plan struct {
	route atomic.Pointer[route] // the latest; all have the same label

	mu        sync.Mutex
	failed    map[place]penalty // targets that failed lately; all routes have the same set
	failures  int               // in a row, of all targets
	last      *failure          // the last of them; nil if there is none
	failedAt  time.Time         // when it ended
	flight    *flight           // the connection being made whose protocol the others wait for
	reachedAt time.Time         // the last connection
	protocol  string            // of that; empty before the first
}

// place is a target without what chooses it.
type place struct {
	host string
	port uint16
}

type penalty struct {
	failures int
	until    time.Time
}

// failure is one vain round of all targets.
type failure struct {
	tries      []*Try
	began      time.Time
	until      time.Time // nobody tries again before; zero if anybody may
	remembered bool      // it was another request's
}

func (f *failure) Error() string { return string(Unreachable) }

// flight is a connection being made.
type flight struct {
	done    chan struct{}
	failure *failure // all targets failed
	shared  bool     // the connection takes more than one request at once
}

// paused gives the failure for which the server is left alone, or nil.
func (p *plan) paused(now time.Time) *failure {
	if p.last != nil && now.Before(p.last.until) {
		return p.last
	}
	return nil
}

// order gives the targets to try for one connection: those that failed lately
// last, and among them the one first whose penalty ends first.
func (p *plan) order(intn func(int) int, now time.Time) []Target {
	list := p.route.Load().order(intn)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.failed) == 0 {
		return list
	}
	until := func(t Target) time.Time {
		if f, ok := p.failed[place{t.Host, t.Port}]; ok && now.Before(f.until) {
			return f.until
		}
		return time.Time{}
	}
	slices.SortStableFunc(list, func(a, b Target) int { return until(a).Compare(until(b)) })
	return list
}

// targetFailed notes that a target did not do.
func (p *plan) targetFailed(t Target, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed == nil {
		p.failed = make(map[place]penalty)
	}
	f := p.failed[place{t.Host, t.Port}]
	if now.Before(f.until) {
		return // of several that tried at the same time, one counts
	}
	f.until = now.Add(growing(minTargetPenalty, maxTargetPenalty, 2, f.failures))
	f.failures++
	p.failed[place{t.Host, t.Port}] = f
}

// reached notes a connection to a target.
func (p *plan) reached(t Target, protocol string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.failed, place{t.Host, t.Port})
	p.failures, p.last, p.protocol, p.reachedAt = 0, nil, protocol, time.Now()
}

// allFailed notes that no target did, and until when the server is left alone.
// Of several rounds at the same time one counts, and none if another one had
// success.
func (p *plan) allFailed(f *failure, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reachedAt.After(f.began) {
		return
	}
	if p.last != nil && f.began.Before(p.failedAt) { // at the same time as the last one
		if p.paused(now) != nil {
			f.until = p.last.until
		}
		return
	}
	p.failedAt = now
	f.until = now.Add(growing(minServerPause, maxServerPause, 4, p.failures))
	p.failures++
	p.last = f.flat()
}

// flat is f without its causes, which hold the certificates of strangers; the
// words for people have been made from them.
func (f *failure) flat() *failure {
	kept := &failure{tries: make([]*Try, len(f.tries)), began: f.began, until: f.until}
	for i, try := range f.tries {
		flat := *try
		flat.Err = nil
		kept.tries[i] = &flat
	}
	return kept
}

// forgive forgets all failures and reports whether there were any.
func (p *plan) forgive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	any := p.last != nil || len(p.failed) > 0
	p.failed, p.failures, p.last = nil, 0, nil
	return any
}

// growing multiplies first by factor for every failure before, up to most.
func growing(first, most time.Duration, factor, failures int) time.Duration {
	for ; failures > 0 && first < most; failures-- {
		first *= time.Duration(factor)
	}
	return min(most, first)
}
