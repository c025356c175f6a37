package serve

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"mxdiscover/check"
	"mxdiscover/internal/printable"
	"mxdiscover/internal/servername"
	"mxdiscover/resolver"
	"mxdiscover/wellknown/client"
)

const (
	// youngest is how old an answer must be before refresh=1 asks anew: nobody
	// changes a server faster.
	youngest = 5 * time.Second

	// lastWait is how long Close waits for runs that it has cancelled. They obey
	// their context; a Check of somebody else's may not.
	lastWait = 5 * time.Second

	// maxEvents bounds the events of one run: a check of the most targets and
	// addresses has some hundreds.
	maxEvents = 2000

	// weight and overhead say how much memory an answer takes, from the length
	// of its JSON: besides it there are the values that it was made of, and the
	// tester's form of it (TestAnswerWeight).
	weight   = 5
	overhead = 4 << 10
)

// What can be asked.
const (
	kindCheck   = "check"
	kindResolve = "resolve"
	kindClient  = "client"
)

// A question is what is asked. Equal questions have equal answers for a while.
// The name counts byte for byte: Matrix compares server names with their case,
// so the report on Example.org is not that on example.org.
type question struct {
	kind  string
	rules resolver.Rules
	name  string
}

// host is whom the question makes trouble: in lower case and without the port, so
// that nobody gains by other spellings. It is empty if nobody is asked.
func (q question) host() string {
	text := q.name
	if q.kind == kindClient && strings.HasPrefix(text, "@") {
		_, text, _ = strings.Cut(text, ":")
	}
	name, err := servername.Parse(text)
	if err != nil {
		return ""
	}
	if name.IsIP() {
		return name.Addr().Unmap().String() // package dial goes there
	}
	return name.DNSName()
}

// result is what a run has brought. One of the fields is set.
type result struct {
	report     *check.Report
	resolution *resolver.Report
	discovery  *client.Discovery
}

// An answer is a result that is given to everybody who asks. It does not
// change.
type answer struct {
	result
	run  uint64    // the number of its run
	at   time.Time // when the run had ended
	json []byte

	tester     func() ([]byte, error) // the federation tester's form, made once
	federation func() bool

	// Guarded by the desk.
	cost int64
	refs int // of the tickets, and of the desk if it is kept
}

// age is how long ago the answer was found out.
func (a *answer) age(now time.Time) time.Duration { return max(0, now.Sub(a.at)) }

// A run finds out what is asked. The desk guards it.
type run struct {
	question
	number uint64
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{} // closed when answer or failure is set

	waiters int
	frames  []frame
	size    int64         // of the frames
	more    chan struct{} // closed when there is another frame
	answer  *answer
	failure *Failure
}

// A frame is an event as it is sent.
type frame struct {
	kind string
	data []byte // JSON in one line
}

// A desk takes questions, sees to it that each is worked on once, and keeps
// the answers for a while. It owns every goroutine of a Server.
type desk struct {
	limits  Limits
	limiter *limiter
	work    func(ctx context.Context, q question, onEvent func(check.Event)) result
	log     *slog.Logger
	metrics *counters

	places chan struct{} // taken by a run that works
	wg     sync.WaitGroup

	closing atomic.Bool // set with the lock held

	mu        sync.Mutex
	running   map[question]*run // that can be joined
	live      map[*run]bool     // with a goroutine
	kept      *simplelru.LRU[question, *answer]
	keptBytes int64
	heldBytes int64  // of all answers that somebody refers to
	events    int64  // bytes of frames
	begun     uint64 // the number of the last run
}

func newDesk(limits Limits, l *limiter, work func(context.Context, question, func(check.Event)) result, log *slog.Logger) *desk {
	d := &desk{
		limits: limits, limiter: l, work: work, log: log,
		places:  make(chan struct{}, limits.Checks),
		running: make(map[question]*run),
		live:    make(map[*run]bool),
		begun:   rand.Uint64(), // a stream that comes back after a restart is not taken for another
	}
	d.kept, _ = simplelru.NewLRU[question, *answer](limits.KeepCount+1, nil) // fails for 0 alone
	return d
}

// A ticket is somebody's claim to an answer. It must be given back once, with
// leave.
type ticket struct {
	desk   *desk
	run    *run    // nil if the answer was at hand
	answer *answer // nil until then
	source string  // "kept", "joined" or "started"
}

// ask gives a ticket for each question. Questions that belong together count as
// one for the limits.
func (d *desk) ask(who asker, refresh bool, questions ...question) ([]*ticket, *Failure) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.expire(now)
	tickets := make([]*ticket, len(questions))
	var anew []int
	refreshed := false
	for i, q := range questions {
		r := d.running[q]
		old, isKept := d.kept.Peek(q)
		switch {
		case r != nil:
			tickets[i] = &ticket{desk: d, run: r, source: "joined"}
		case isKept && (!refresh || old.age(now) < youngest):
			tickets[i] = &ticket{desk: d, answer: old, source: "kept"}
		default:
			anew = append(anew, i)
			refreshed = refreshed || isKept
		}
	}
	if len(anew) > 0 {
		switch {
		case d.closing.Load():
			return nil, closing()
		case len(d.live)+len(anew) > d.limits.Checks+d.limits.Waiting:
			return nil, busy("The server has too many checks under way.", d.limits.Wait)
		}
		host := ""
		for _, i := range anew { // the page asks about user IDs too, that have a host for clients alone
			host = cmp.Or(host, questions[i].host())
		}
		if f := d.limiter.begin(who, host, refreshed, now); f != nil {
			return nil, f
		}
		for _, i := range anew {
			tickets[i] = &ticket{desk: d, run: d.start(questions[i]), source: "started"}
		}
	}
	for _, t := range tickets {
		if t.run != nil {
			t.run.waiters++
		} else {
			t.answer.refs++
		}
		d.metrics.answers.WithLabelValues(t.source).Inc()
	}
	return tickets, nil
}

// start begins a run. The lock is held.
func (d *desk) start(q question) *run {
	ctx, cancel := context.WithCancel(context.Background())
	d.begun++
	r := &run{question: q, number: d.begun, ctx: ctx, cancel: cancel, done: make(chan struct{}), more: make(chan struct{})}
	d.running[q], d.live[r] = r, true
	d.wg.Go(func() {
		defer cancel()
		began := time.Now()
		a, f := d.perform(r)
		d.finish(r, a, f)
		d.metrics.ended(r, time.Since(began))
	})
	return r
}

// perform does the work of a run, on its goroutine.
func (d *desk) perform(r *run) (a *answer, f *Failure) {
	defer func() {
		if value := recover(); value != nil {
			d.panicked(value)
			a, f = nil, internal()
		}
	}()
	if f := d.place(r); f != nil {
		return nil, f
	}
	defer func() { <-d.places }()
	res := d.work(r.ctx, r.question, func(e check.Event) { d.event(r, e) })
	if r.ctx.Err() != nil {
		return nil, closing() // or nobody waits any more
	}
	a, err := newAnswer(res, d.limits.Report)
	switch {
	case errors.Is(err, errTooLarge):
		return nil, wrong(502, "answer_too_large", "The servers of this name say more than this one can pass on.")
	case err != nil:
		d.log.Error("an answer has no JSON", "error", printable.Line(err.Error()))
		return nil, internal()
	}
	return a, nil
}

func (d *desk) panicked(value any) {
	d.metrics.panics.Inc()
	text, _ := value.(string)
	if err, ok := value.(error); ok {
		text = err.Error()
	}
	d.log.Error("panic", "value", printable.Quote(text, 200), "stack", string(debug.Stack()))
}

// place waits for a place among the runs that work.
func (d *desk) place(r *run) *Failure {
	select {
	case d.places <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(d.limits.Wait)
	defer timer.Stop()
	select {
	case d.places <- struct{}{}:
		return nil
	case <-timer.C:
		return busy("The server has too many checks under way.", d.limits.Wait)
	case <-r.ctx.Done():
		return closing()
	}
}

// event keeps an event for those who follow the run.
func (d *desk) event(r *run, e check.Event) {
	if e.Kind == check.EventReport {
		return // it is the answer
	}
	data, err := json.Marshal(e)
	if err != nil {
		return // the report has it, or fails
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	size := int64(len(data)) + 64
	if r.ctx.Err() != nil || r.answer != nil || len(r.frames) >= maxEvents || d.events+size > d.limits.EventBytes {
		return
	}
	r.frames = append(r.frames, frame{string(e.Kind), data})
	r.size += size
	d.events += size
	close(r.more)
	r.more = make(chan struct{})
}

// finish ends a run and gives the answer to all who wait.
func (d *desk) finish(r *run, a *answer, f *Failure) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.live, r)
	if d.running[r.question] == r {
		delete(d.running, r.question)
	}
	if r.waiters == 0 {
		a = nil // given up, and perhaps not whole
	}
	if a != nil && !d.room(a.cost) {
		a, f = nil, busy("The server has too much to send.", time.Second)
	}
	if a != nil {
		a.run, a.refs = r.number, r.waiters
		d.heldBytes += a.cost
		d.keep(r.question, a)
	}
	r.answer, r.failure = a, f
	close(r.done)
}

// room makes room for an answer: as much as is kept may be on its way. The lock
// is held.
func (d *desk) room(cost int64) bool {
	for d.heldBytes+cost > 2*d.limits.KeepBytes && d.kept.Len() > 0 {
		d.dropOldest()
	}
	return d.heldBytes+cost <= 2*d.limits.KeepBytes
}

// keep remembers an answer. The lock is held.
func (d *desk) keep(q question, a *answer) {
	if d.limits.KeepFor < 0 {
		return
	}
	if old, ok := d.kept.Peek(q); ok {
		d.kept.Remove(q)
		d.forget(old)
	}
	a.refs++
	d.keptBytes += a.cost
	d.kept.Add(q, a)
	for d.kept.Len() > 0 && (d.keptBytes > d.limits.KeepBytes || d.kept.Len() > d.limits.KeepCount) {
		d.dropOldest()
	}
}

// expire drops what has been kept long enough. The lock is held.
func (d *desk) expire(now time.Time) {
	for {
		_, oldest, ok := d.kept.GetOldest() // nothing but Peek is used, so the first one in
		if !ok || oldest.age(now) < d.limits.KeepFor {
			return
		}
		d.dropOldest()
	}
}

func (d *desk) dropOldest() {
	if _, a, ok := d.kept.RemoveOldest(); ok {
		d.forget(a)
	}
}

// forget ends the desk's own claim to an answer.
func (d *desk) forget(a *answer) {
	d.keptBytes -= a.cost
	d.release(a)
}

func (d *desk) release(a *answer) {
	if a.refs--; a.refs == 0 {
		d.heldBytes -= a.cost
	}
}

// leave gives the ticket back. The last who waits for a run ends it.
func (t *ticket) leave() {
	d := t.desk
	d.mu.Lock()
	defer d.mu.Unlock()
	r := t.run
	if r == nil {
		d.release(t.answer)
		return
	}
	if r.answer != nil {
		d.release(r.answer)
	}
	if r.waiters--; r.waiters > 0 {
		return
	}
	d.events -= r.size
	r.frames, r.size = nil, 0
	if d.live[r] {
		r.cancel()
		if d.running[r.question] == r {
			delete(d.running, r.question) // who comes now begins another
		}
	}
}

func leaveAll(tickets []*ticket) {
	for _, t := range tickets {
		t.leave()
	}
}

// id is the number of the run that the answer is or will be of.
func (t *ticket) id() string {
	if t.run != nil {
		return strconv.FormatUint(t.run.number, 10)
	}
	return strconv.FormatUint(t.answer.run, 10)
}

// wait waits for the answer, at most until ctx ends; then both are nil.
func (t *ticket) wait(ctx context.Context) (*answer, *Failure) {
	if t.answer != nil {
		return t.answer, nil
	}
	select {
	case <-t.run.done:
		return t.run.answer, t.run.failure
	case <-ctx.Done():
		return nil, nil
	}
}

// since gives the frames from the nth on, and a channel that is closed when
// there are more.
func (t *ticket) since(n int) ([]frame, <-chan struct{}) {
	t.desk.mu.Lock()
	defer t.desk.mu.Unlock()
	r := t.run
	return r.frames[min(n, len(r.frames)):len(r.frames):len(r.frames)], r.more
}

// close is [Server.Close].
func (d *desk) close(ctx context.Context) error {
	d.mu.Lock()
	d.closing.Store(true)
	d.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		d.wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	d.mu.Lock()
	for r := range d.live {
		r.cancel()
	}
	d.mu.Unlock()
	timer := time.NewTimer(lastWait)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
	}
	return ctx.Err()
}

// load is what the metrics say of the desk.
type load struct {
	working, live, kept          int
	keptBytes, heldBytes, events int64
}

func (d *desk) load() load {
	d.mu.Lock()
	defer d.mu.Unlock()
	return load{
		working: len(d.places), live: len(d.live), kept: d.kept.Len(),
		keptBytes: d.keptBytes, heldBytes: d.heldBytes, events: d.events,
	}
}
