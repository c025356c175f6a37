package simulation

import (
	"context"
	"math"
	"math/rand/v2"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"mxdiscover/cache"
	"mxdiscover/wellknown"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const hour = time.Hour

// uniform is a federation of equal servers that never fail: delegated, with a
// lifetime as stated, asked rate times an hour each.
func uniform(servers int, control string, rate float64) Federation {
	return Federation{
		Servers:    servers,
		Delegation: []Share[Delegation]{{1, WellKnownPort}},
		Lifetime:   []Share[string]{{1, control}},
		Web:        []Share[Web]{{1, NotFound}},
		DeadWeb:    []Share[Web]{{1, Refused}},
		TTL:        []Share[time.Duration]{{1, 24 * hour}},
		Absent:     []Share[time.Duration]{{1, hour}},
		Outages:    []Share[Outages]{{1, Outages{}}},
		After:      []Share[After]{{1, Elsewhere}},
		Busiest:    rate / 3600,
		RoundTrip:  time.Microsecond,
		Lookup:     time.Microsecond,
		CallerMin:  time.Nanosecond, CallerMax: time.Nanosecond,
		Workers: 1,
		Warm:    48 * hour, MovesEnd: 96 * hour, End: 30 * 24 * hour,
	}
}

// within asserts that got is want but for a share.
func within(t *testing.T, want, got, share float64, what string) {
	t.Helper()
	assert.InDelta(t, want, got, share*want, what)
}

// A renewal process: after a load the next one is begun by the first request after the
// lifetime, or after four fifths of it. That request comes 1/rate later, and finds nothing
// fresh if that is longer than the last fifth.
func TestRenewal(t *testing.T) {
	t.Parallel()
	const servers, rate = 100, 0.25
	for name, ahead := range map[string]float64{"no refresh": 0, "last fifth": 0.2, "last half": 0.5} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := Ours()
			p.Ahead = ahead
			p.FixedDNS = 1000 * hour // nobody waits for it
			got := Run(uniform(servers, "max-age=86400", rate), p, 1)
			within(t, servers*rate, got.Requests/got.Hours, 0.02, "requests an hour")
			within(t, servers/(24*(1-ahead)+1/rate), got.WellKnown.Alive/got.Hours, 0.02, "fetches an hour")
			cold := math.Exp(-rate * ahead * 24)
			within(t, cold, 1-got.Refreshes/got.WellKnown.Alive, 0.06, "share of fetches that somebody waits for")
			within(t, cold*servers/(24*(1-ahead)+1/rate), got.Waited/got.Hours, 0.06, "waits an hour")
			assert.Zero(t, got.Failed)
		})
	}
}

// Each of W workers sees a W-th of the requests: together they fetch W/(L+W/rate) times an
// hour, and sharing a cache 1/(L+1/rate).
func TestSharing(t *testing.T) {
	t.Parallel()
	const servers, rate, workers = 100, 1.0, 4
	f := uniform(servers, "max-age=86400", rate)
	f.Workers = workers
	p := Ours()
	p.Ahead = 0
	within(t, servers*workers/(24+workers/rate), perHour(Run(f, p, 1)), 0.02, "separate")
	p.Shared = true
	within(t, servers/(24+1/rate), perHour(Run(f, p, 1)), 0.02, "shared")
	p.Shared, f.Sharded = false, 1
	within(t, servers/(24+1/rate), perHour(Run(f, p, 1)), 0.02, "each name in the hands of one worker")
}

func perHour(t *Tally) float64 { return t.WellKnown.Alive / t.Hours }

func TestNoCache(t *testing.T) {
	t.Parallel()
	got := Run(uniform(20, "max-age=86400", 2), Policy{}, 1)
	assert.InDelta(t, got.Requests, got.WellKnown.Alive, 1, "one fetch for each request")
	assert.Equal(t, got.Requests, got.Waited)
}

// Traffic is much denser than lifetimes: the age of an answer at the time of a move is
// uniform between zero and the time of its refresh, and so is what is left of it.
func TestWrongAfterMove(t *testing.T) {
	t.Parallel()
	f := uniform(1000, "max-age=14400", 40)
	f.Moves = 1
	f.Warm, f.MovesEnd, f.End = 6*hour, 18*hour, 23*hour
	for name, c := range map[string]struct{ ahead, until float64 }{
		"no refresh": {0, 4}, "last fifth": {0.2, 3.2}, "last half": {0.5, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := Ours()
			p.Ahead = c.ahead
			got := Run(f, p, 1)
			mean, missed := got.MoveMean(Elsewhere)
			within(t, c.until/2, mean.Hours(), 0.05, "mean")
			within(t, c.until/4, got.MoveQuantile(0.25).Hours(), 0.1, "first quarter")
			within(t, 0.9*c.until, got.MoveQuantile(0.9).Hours(), 0.04, "ninth tenth")
			within(t, 40*c.until/2, missed, 0.06, "requests that went wrong")
			assert.Len(t, got.Moves, 1000)
			assert.Equal(t, got.Failed, got.Caused[Wrong], "nothing else goes wrong")
		})
	}
}

// Who leaves nobody behind is found by the request that fails, which then succeeds.
func TestAskAgain(t *testing.T) {
	t.Parallel()
	f := uniform(300, "max-age=86400", 60)
	f.Moves = 1
	f.After = []Share[After]{{1, GoneRefused}, {1, GoneSilent}}
	f.Warm, f.MovesEnd, f.End = 6*hour, 12*hour, 16*hour
	p := Ours()
	got := Run(f, p, 1)
	assert.Zero(t, got.Failed, "%v", got.Caused)

	// If it was down for long before it said where it went, the last time of asking lies
	// anywhere within the five minutes before.
	f.Busiest = 0.05
	f.MoveGap = 6 * hour
	f.Warm, f.MovesEnd, f.End = 0, 12*hour, 15*hour
	f.After = f.After[:1]
	got = Run(f, p, 1)
	mean, _ := got.MoveMean(GoneRefused)
	within(t, 150-20, mean.Seconds(), 0.12, "seconds until the last request that fails")

	p.Again = 0
	got = Run(f, p, 1)
	mean, _ = got.MoveMean(GoneRefused)
	assert.Greater(t, mean, 3*hour, "as long as the answer lives")
}

// A minute, two, four, ... 32, then 60: seven tries in the first 64 minutes, and one an hour
// after that.
func TestBackOff(t *testing.T) {
	t.Parallel()
	f := uniform(5, "", 3600)
	f.Dead = 1
	f.Warm, f.MovesEnd, f.End = 0, 0, 24*hour
	b := OurBounds()
	b.Jitter = 0
	p := Ours().With(b)
	p.Again = 0
	within(t, 5*29, Run(f, p, 1).WellKnown.Dead, 0.001, "fetches in a day")
	b.Factor = 1
	p = Ours().With(b)
	p.Again = 0
	within(t, 5*24*3600/61, Run(f, p, 1).WellKnown.Dead, 0.01, "one a minute, less what the next request is late")
}

// 1 s, 4 s, 16 s, then a minute: dials at 0, 1, 5, 21, 81 s and so on.
func TestServerPause(t *testing.T) {
	t.Parallel()
	f := uniform(3, "", 36000)
	f.Dead, f.DeadKept = 1, 1
	f.Warm, f.MovesEnd, f.End = 0, 0, hour
	p := Ours()
	within(t, 3*63, Run(f, p, 7).Dials.Dead, 0.01, "dials in an hour")
	p.PauseMax = 0
	got := Run(f, p, 7)
	assert.Greater(t, got.Dials.Dead, 0.9*got.Requests, "every request dials, but for those that join another")
}

// What a homeserver withholds by itself never arrives.
func TestCallerBackOff(t *testing.T) {
	t.Parallel()
	f := uniform(50, "", 6)
	f.Dead, f.DeadKept, f.Obeying = 1, 1, 1
	f.CallerMin, f.CallerMax = 10*time.Minute, 7*24*hour
	f.Warm, f.MovesEnd, f.End = 0, 0, 7*24*hour
	got := Run(f, Ours(), 1)
	assert.InDelta(t, 50, got.Requests, 5, "one try a week for each")
}

// A target that is silent costs ten seconds for each time that it is tried first.
func TestPenalties(t *testing.T) {
	t.Parallel()
	f := uniform(60, "", 20) // each a connection of its own: three minutes apart
	f.Delegation = []Share[Delegation]{{1, SRV}}
	f.TwoTarget, f.DropsDown = 1, 1
	f.Outages = []Share[Outages]{{1, Outages{Every: 24 * hour, Last: 6 * hour}}}
	f.End = 6 * 24 * hour
	vain := func(most time.Duration) float64 {
		p := Ours()
		p.PenaltyMax = most
		return Run(f, p, 1).Vain
	}
	none, some, long := vain(0), vain(15*time.Minute), vain(4*hour)
	assert.Greater(t, none, 2*some)
	assert.Greater(t, some, long)
}

func TestDeterministic(t *testing.T) {
	t.Parallel()
	f := Public()
	f.Every, f.Servers, f.Busiest = 20, 20_000, 0.05
	a, b, c := Run(f, Ours(), 1), Run(f, Ours(), 1), Run(f, Ours(), 2)
	assert.Equal(t, a, b)
	assert.NotEqual(t, a.Requests, c.Requests)
}

// Two policies meet the same requests.
func TestCommonNumbers(t *testing.T) {
	t.Parallel()
	f := Public()
	f.Every, f.Servers, f.Obeying, f.Warm, f.Busiest = 20, 20_000, 0, 0, 0.05
	f.End = 72 * hour
	a, b := Run(f, Ours(), 3), Run(f, Policy{}, 3)
	// All but those that are under way at the end.
	within(t, a.Requests, b.Requests, 1e-4, "requests")
}

// A sample stands for all.
func TestSample(t *testing.T) {
	t.Parallel()
	f := Public()
	f.Servers, f.End, f.Busiest = 20_000, 3*24*hour, 0.05
	all := Run(f, Ours(), 1)
	f.Every = 5
	some := Run(f, Ours(), 1)
	within(t, all.WellKnown.Alive, some.WellKnown.Alive, 0.05, "living")
	within(t, all.WellKnown.Dead, some.WellKnown.Dead, 0.08, "dead")
	within(t, all.DNS, some.DNS, 0.03, "DNS")
	within(t, all.Seconds, some.Seconds, 0.08, "waits")
}

// The bounds that can be varied are those of package wellknown, for every header and
// failure that the model has.
func TestBounds(t *testing.T) {
	t.Parallel()
	b, epoch := OurBounds(), time.Time{}
	headers := append(Public().Lifetime, Share[string]{1, "max-age=3600, public"}, Share[string]{1, "max-age=0"})
	for _, jitter := range []float64{-1, -0.3, 0, 0.7, 1} {
		for _, share := range headers {
			h := http.Header{}
			if share.Value != "" {
				h.Set("Cache-Control", share.Value)
			}
			assert.Equal(t, wellknown.Lifetime(h, epoch, jitter), b.Lifetime(h, jitter), "%q %v", share.Value, jitter)
		}
		for _, status := range []int{0, 200, 404} {
			for failures := range 12 {
				f := Failed{Status: status, Failures: failures, Jitter: jitter}
				assert.Equal(t, wellknown.FailureLifetime(status, nil, epoch, failures, jitter), b.Failure(f))
				assert.Equal(t, Ours().Failure(f), b.Failure(f))
			}
		}
	}
}

// TestCache holds the model of a cache against the real one: a source that answers well,
// badly and not at all, asked at any time, is asked equally often by both, and both
// give the same answers.
func TestCache(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			type answer struct {
				took time.Duration
				loaded
			}
			script := make([]answer, 400)
			for i := range script {
				// Odd nanoseconds, so that nothing happens at the same time.
				life := time.Duration(r.Int64N(int64(10*time.Minute)))*10 + 1
				script[i] = answer{
					time.Duration(r.Int64N(int64(time.Minute)))*2 + 1,
					loaded{route(r.IntN(3)), status(r.IntN(3)), life},
				}
			}
			p := Policy{Ahead: 0.2, KeepGood: true, Lifetime: func(http.Header, float64) time.Duration { return 0 }}
			if seed%2 == 1 {
				p.MaxStale = 30 * time.Minute
			}

			loads := 0
			real := cache.Cache[int, route]{MaxStale: p.MaxStale, Timeout: hour,
				Load: func(context.Context, int, cache.Prior[route]) cache.Loaded[route] {
					a := script[loads]
					loads++
					time.Sleep(a.took)
					return cache.Loaded[route]{Value: a.value, Status: cache.Status(a.status), Lifetime: a.lifetime}
				}}

			begun := 0
			w := &world{p: &p, s: &server{}, reqs: make([]request, 1)}
			var in input
			load := func(*caches, *input, bool) (time.Duration, loaded) {
				begun++
				return script[begun-1].took, script[begun-1].loaded
			}

			base := time.Now()
			for range 200 {
				time.Sleep(time.Duration(r.Int64N(int64(20*time.Minute)))/7*2 + 1)
				w.now = time.Since(base)
				q := &w.reqs[0]
				*q = request{}
				got, ready := w.get(0, q, nil, &in, load)
				e, hit, err := real.Get(t.Context(), 0)
				require.NoError(t, err)
				require.Equal(t, hit, ready, "hit")
				if !ready {
					w.now = w.queue.pop().at
					require.Equal(t, time.Since(base), w.now, "waited as long")
					q.resumed = true
					got, ready = w.get(0, q, nil, &in, load)
					require.True(t, ready)
				}
				synctest.Wait()
				require.Equal(t, e.Value(), got, "answer")
				require.Equal(t, loads, begun, "loads")
				require.Equal(t, e.Expires().Sub(base), in.until, "expiry")
			}
			real.Wait()
		})
	}
}

func TestQueue(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 1))
	var q queue
	var last event
	for n := range 5000 {
		if len(q.heap) == 0 || r.IntN(3) > 0 {
			q.push(max(last.at, time.Duration(r.IntN(100)+n)), int32(n))
			continue
		}
		e := q.pop()
		assert.False(t, e.before(last), "%v after %v", e, last)
		last = e
	}
}

func TestQuantiles(t *testing.T) {
	t.Parallel()
	tally := &Tally{Living: 200}
	for n := range 100 {
		tally.wait(time.Duration(n+1)*100*time.Millisecond, 1)
	}
	assert.Zero(t, tally.WaitQuantile(0.5), "half of them did not wait")
	within(t, 5, tally.WaitQuantile(0.75).Seconds(), 0.06, "half of the waits")
	within(t, 10, tally.WaitQuantile(1).Seconds(), 0.06, "the longest")
	assert.Equal(t, 50.0, tally.LongWait)
	tally.Moves = []Move{{Until: hour, Requests: 1, Weight: 1, Missed: 4}, {Until: 3 * hour, Requests: 1, Weight: 3}, {Until: 9 * hour, Weight: 5}}
	assert.Equal(t, 3*hour, tally.MoveQuantile(0.5), "who is not asked is not counted")
	mean, missed := tally.MoveMean()
	assert.Equal(t, 2*hour+30*time.Minute, mean)
	assert.Equal(t, 1.0, missed)
	assert.Zero(t, tally.MoveQuantile(0.5, Serves))
}
