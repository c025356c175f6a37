package cache_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/cache"
)

type (
	loaded = cache.Loaded[string]
	prior  = cache.Prior[string]
	entry  = cache.Entry[string]
)

// source is what a cache under test asks. Its answer may be changed at any time.
type source struct {
	mu     sync.Mutex
	delay  time.Duration
	answer loaded
	asked  []string
	priors []prior
}

func (s *source) set(delay time.Duration, answer loaded) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay, s.answer = delay, answer
}

func (s *source) load(_ context.Context, key string, p prior) loaded {
	s.mu.Lock()
	s.asked = append(s.asked, key)
	s.priors = append(s.priors, p)
	delay, answer := s.delay, s.answer
	s.mu.Unlock()
	time.Sleep(delay)
	return answer
}

func (s *source) loads() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

func (s *source) lastPrior() prior {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.priors[len(s.priors)-1]
}

func good(v string, life time.Duration) loaded { return loaded{Value: v, Lifetime: life} }
func bad(v string, life time.Duration) loaded {
	return loaded{Value: v, Status: cache.Bad, Lifetime: life}
}
func temporary(v string, life time.Duration) loaded {
	return loaded{Value: v, Status: cache.Temporary, Lifetime: life}
}

// scene runs one behaviour in parallel with others and on a clock of its own.
func scene(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

type stringCache = cache.Cache[string, string]

// get wants an answer, and says whether it was a hit.
func get(t *testing.T, c *stringCache, key string) (*entry, bool) {
	t.Helper()
	e, hit, err := c.Get(t.Context(), key)
	require.NoError(t, err)
	require.NotNil(t, e)
	return e, hit
}

// hit wants an answer at once.
func hit(t *testing.T, c *stringCache, key, value string) *entry {
	t.Helper()
	start := time.Now()
	e, ok := get(t, c, key)
	assert.True(t, ok, "hit")
	assert.Equal(t, value, e.Value())
	assert.Zero(t, time.Since(start), "waited")
	return e
}

// miss wants an answer that a load brought.
func miss(t *testing.T, c *stringCache, key, value string) *entry {
	t.Helper()
	e, ok := get(t, c, key)
	assert.False(t, ok, "hit")
	assert.Equal(t, value, e.Value())
	return e
}

// sleep lets time pass, and everything that is due happen.
func sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestAnswersAreKeptForTheirLifetime(t *testing.T) {
	for _, tt := range []struct {
		answer   loaded
		failures int
		refresh  bool
	}{
		{good("yes", time.Hour), 0, true},
		{bad("no", time.Minute), 1, false},
		{temporary("silence", time.Second), 1, false},
	} {
		t.Run(tt.answer.Value, func(t *testing.T) {
			scene(t, func(t *testing.T) {
				s := &source{delay: 2 * time.Second, answer: tt.answer}
				c := &stringCache{Load: s.load}
				e := miss(t, c, "k", tt.answer.Value)
				now := time.Now()
				assert.Equal(t, tt.answer.Status, e.Status())
				assert.Equal(t, now, e.LoadedAt())
				assert.Equal(t, now.Add(tt.answer.Lifetime), e.Expires())
				assert.Equal(t, tt.failures, e.Failures())
				assert.False(t, e.Stale())
				assert.True(t, e.Current())
				assert.Equal(t, !tt.refresh, e.RefreshAt().IsZero())
				v, failed := e.Failure()
				assert.Equal(t, tt.failures > 0, failed)
				if failed {
					assert.Equal(t, tt.answer.Value, v)
				}

				sleep(tt.answer.Lifetime/2 - 1)
				assert.Same(t, e, hit(t, c, "k", tt.answer.Value))
				sleep(tt.answer.Lifetime / 2)
				peeked, ok := c.Peek("k")
				assert.True(t, ok)
				assert.Same(t, e, peeked)
				assert.Equal(t, 1, s.loads())

				sleep(1)
				peeked, _ = c.Peek("k") // expired, and still there for those who look
				assert.Same(t, e, peeked)
				assert.Equal(t, 1, c.Len())
				miss(t, c, "k", tt.answer.Value)
				assert.Equal(t, 2, s.loads())
				assert.False(t, e.Current())
			})
		})
	}
}

func TestHerdIsOneLoad(t *testing.T) {
	scene(t, func(t *testing.T) {
		s := &source{delay: time.Second, answer: good("v", time.Hour)}
		c := &stringCache{Load: s.load}
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				miss(t, c, "k", "v")
			})
		}
		wg.Wait()
		assert.Equal(t, 1, s.loads())
	})
}

func TestCallersGiveUpAlone(t *testing.T) {
	scene(t, func(t *testing.T) {
		s := &source{delay: 10 * time.Second, answer: good("v", time.Hour)}
		c := &stringCache{Load: s.load}
		start := time.Now()
		first, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() { // the one whose Get began the load
			_, hit, err := c.Get(first, "k")
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.False(t, hit)
			assert.Equal(t, time.Second, time.Since(start))
		})
		synctest.Wait()
		for range 3 {
			wg.Go(func() {
				miss(t, c, "k", "v")
				assert.Equal(t, 10*time.Second, time.Since(start))
			})
		}
		wg.Wait()
		assert.Equal(t, 1, s.loads())
	})
}

// A silent source costs its impatient callers one question, not one each.
func TestLoadOutlivesItsCallers(t *testing.T) {
	scene(t, func(t *testing.T) {
		s := &source{delay: 10 * time.Second, answer: temporary("silence", time.Hour)}
		c := &stringCache{Load: s.load}
		for range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, _, err := c.Get(ctx, "k")
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			cancel()
		}
		sleep(5 * time.Second)
		hit(t, c, "k", "silence")
		assert.Equal(t, 1, s.loads())
	})
}

func TestEndedContext(t *testing.T) {
	scene(t, func(t *testing.T) {
		s := &source{answer: good("v", time.Hour)}
		c := &stringCache{Load: s.load}
		ended, cancel := context.WithCancel(t.Context())
		cancel()

		_, _, err := c.Get(ended, "k")
		assert.ErrorIs(t, err, context.Canceled)
		_, err = c.Refresh(ended, "k")
		assert.ErrorIs(t, err, context.Canceled)
		synctest.Wait()
		assert.Zero(t, s.loads(), "began a load for nobody")

		miss(t, c, "k", "v")
		e, ok, err := c.Get(ended, "k") // fresh: there is nothing to wait for
		assert.NoError(t, err)
		assert.True(t, ok)
		assert.Equal(t, "v", e.Value())

		sleep(time.Hour)
		_, _, err = c.Get(ended, "k")
		assert.ErrorIs(t, err, context.Canceled)
		synctest.Wait()
		assert.Equal(t, 1, s.loads())
	})
}

func TestLoadContext(t *testing.T) {
	for _, tt := range []struct{ field, want time.Duration }{
		{0, cache.DefaultTimeout}, {-1, cache.DefaultTimeout}, {3 * time.Second, 3 * time.Second},
	} {
		t.Run(fmt.Sprint(tt.field), func(t *testing.T) {
			scene(t, func(t *testing.T) {
				type callersKey struct{}
				c := &stringCache{Timeout: tt.field, Load: func(ctx context.Context, _ string, _ prior) loaded {
					assert.Nil(t, ctx.Value(callersKey{}), "sees a caller's value")
					deadline, ok := ctx.Deadline()
					assert.True(t, ok)
					assert.Equal(t, tt.want, time.Until(deadline))
					<-ctx.Done()
					assert.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
					return temporary("silence", time.Minute)
				}}
				ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), callersKey{}, 1), time.Second)
				defer cancel()
				start := time.Now()
				_, _, err := c.Get(ctx, "k")
				assert.ErrorIs(t, err, context.DeadlineExceeded)
				miss(t, c, "k", "silence")
				assert.Equal(t, tt.want, time.Since(start))
			})
		})
	}
}

// Waiting for a load that ignores its deadline is documented; it must be harmless otherwise.
func TestLoadPastItsDeadline(t *testing.T) {
	scene(t, func(t *testing.T) {
		s := &source{delay: time.Minute, answer: good("late", time.Hour)}
		c := &stringCache{Load: s.load, Timeout: time.Second}
		start := time.Now()
		miss(t, c, "k", "late")
		assert.Equal(t, time.Minute, time.Since(start))
		hit(t, c, "k", "late")
	})
}

func TestRefreshAhead(t *testing.T) {
	scene(t, func(t *testing.T) {
		s := &source{answer: good("old", 1000*time.Second)}
		c := &stringCache{Load: s.load}
		e := miss(t, c, "k", "old")
		assert.Equal(t, time.Now().Add(800*time.Second), e.RefreshAt())
		s.set(10*time.Second, good("new", 1000*time.Second))

		sleep(800*time.Second - 1)
		hit(t, c, "k", "old")
		synctest.Wait()
		assert.Equal(t, 1, s.loads())

		sleep(1)
		for range 10 { // one load, however many callers, and none of them waits
			hit(t, c, "k", "old")
			sleep(time.Second - 1)
		}
		assert.Equal(t, 2, s.loads())
		assert.Equal(t, prior{Value: "old", Held: true, Expires: e.Expires()}, s.lastPrior())
		assert.True(t, e.Current())

		sleep(10)
		n := hit(t, c, "k", "new")
		assert.False(t, e.Current())
		assert.True(t, n.Current())
		assert.Equal(t, time.Now().Add(1000*time.Second), n.Expires())
		assert.Equal(t, 2, s.loads())
	})
}

// Nobody asks for it, nobody refreshes it.
func TestNoRefreshWithoutGet(t *testing.T) {
	scene(t, func(t *testing.T) {
		s := &source{answer: good("v", time.Hour)}
		c := &stringCache{Load: s.load}
		miss(t, c, "k", "v")
		sleep(59 * time.Minute)
		_, ok := c.Peek("k")
		assert.True(t, ok)
		sleep(time.Hour)
		assert.Equal(t, 1, s.loads())
	})
}

func TestRefreshBringsBad(t *testing.T) {
	scene(t, func(t *testing.T) {
		s := &source{answer: good("old", 1000*time.Second)}
		c := &stringCache{Load: s.load, MaxStale: time.Hour}
		e := miss(t, c, "k", "old")
		s.set(0, bad("gone", time.Minute))
		sleep(900 * time.Second)
		hit(t, c, "k", "old")
		synctest.Wait()
		b := hit(t, c, "k", "gone")
		assert.Equal(t, cache.Bad, b.Status())
		assert.Equal(t, 1, b.Failures())
		assert.Equal(t, time.Now().Add(time.Minute), b.Expires())
		assert.False(t, e.Current())

		// Nothing is left of the Good value, for a later load or a later failure.
		s.set(0, temporary("silence", time.Minute))
		sleep(time.Minute)
		miss(t, c, "k", "silence")
		assert.Equal(t, prior{Failures: 1}, s.lastPrior())
	})
}

func TestRefreshFails(t *testing.T) {
	scene(t, func(t *testing.T) {
		s := &source{answer: good("old", 1000*time.Second)}
		c := &stringCache{Load: s.load}
		e := miss(t, c, "k", "old")
		start := time.Now()
		s.set(5*time.Second, temporary("silence", 60*time.Second))

		sleep(900 * time.Second)
		assert.Same(t, e, hit(t, c, "k", "old"))
		sleep(5 * time.Second) // now t=905: the refresh has failed
		kept := hit(t, c, "k", "old")
		assert.NotSame(t, e, kept)
		assert.False(t, e.Current())
		assert.True(t, kept.Current())
		assert.Equal(t, cache.Good, kept.Status())
		assert.False(t, kept.Stale())
		assert.Equal(t, e.Expires(), kept.Expires())
		assert.Equal(t, e.LoadedAt(), kept.LoadedAt())
		assert.Equal(t, start.Add(965*time.Second), kept.RefreshAt())
		assert.Equal(t, 1, kept.Failures())
		why, failed := kept.Failure()
		assert.True(t, failed)
		assert.Equal(t, "silence", why)

		sleep(60*time.Second - 1) // the pause is not over
		assert.Same(t, kept, hit(t, c, "k", "old"))
		synctest.Wait()
		assert.Equal(t, 2, s.loads())

		sleep(1)
		hit(t, c, "k", "old")
		synctest.Wait()
		assert.Equal(t, 3, s.loads())
		assert.Equal(t, prior{Value: "old", Held: true, Expires: e.Expires(), Failures: 1}, s.lastPrior())
		sleep(5 * time.Second) // t=970; the pause now ends after the expiry
		last := hit(t, c, "k", "old")
		assert.Equal(t, 2, last.Failures())
		assert.True(t, last.RefreshAt().After(last.Expires()))
		sleep(30*time.Second - 1)
		hit(t, c, "k", "old")
		assert.Equal(t, 3, s.loads())

		// Expired: the pause no longer counts, callers need an answer.
		sleep(1)
		down := miss(t, c, "k", "silence")
		assert.Equal(t, cache.Temporary, down.Status())
		assert.Equal(t, 3, down.Failures())
		assert.Equal(t, 4, s.loads())
	})
}

func TestRefreshRecovers(t *testing.T) {
	scene(t, func(t *testing.T) {
		s := &source{answer: good("old", 1000*time.Second)}
		c := &stringCache{Load: s.load}
		miss(t, c, "k", "old")
		s.set(0, temporary("silence", 10*time.Second))
		sleep(900 * time.Second)
		hit(t, c, "k", "old")
		s.set(0, temporary("silence", 10*time.Second))
		sleep(0)
		s.set(0, good("new", 1000*time.Second))
		sleep(10 * time.Second)
		assert.Equal(t, 1, hit(t, c, "k", "old").Failures())
		synctest.Wait()
		n := hit(t, c, "k", "new")
		assert.Zero(t, n.Failures())
		_, failed := n.Failure()
		assert.False(t, failed)
	})
}

// A refresh that is still under way at the expiry is what later callers wait for.
func TestRefreshOutlastsTheEntry(t *testing.T) {
	for _, tt := range []struct {
		name     string
		answer   loaded
		maxStale time.Duration
		want     string
	}{
		{"good", good("new", time.Hour), 0, "new"},
		{"temporary", temporary("silence", time.Minute), 0, "silence"},
		{"temporary, stale allowed", temporary("silence", time.Minute), time.Minute, "old"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			scene(t, func(t *testing.T) {
				s := &source{answer: good("old", 100*time.Second)}
				c := &stringCache{Load: s.load, MaxStale: tt.maxStale}
				miss(t, c, "k", "old")
				s.set(20*time.Second, tt.answer)
				sleep(90 * time.Second)
				hit(t, c, "k", "old")
				sleep(10 * time.Second)
				start := time.Now()
				miss(t, c, "k", tt.want)
				assert.Equal(t, 10*time.Second, time.Since(start))
				assert.Equal(t, 2, s.loads())
			})
		})
	}
}

func TestFailuresAreNotRefreshed(t *testing.T) {
	for _, answer := range []loaded{bad("no", time.Minute), temporary("silence", time.Minute)} {
		t.Run(answer.Value, func(t *testing.T) {
			scene(t, func(t *testing.T) {
				s := &source{answer: answer}
				c := &stringCache{Load: s.load}
				miss(t, c, "k", answer.Value)
				for range 59 {
					sleep(time.Second)
					hit(t, c, "k", answer.Value)
				}
				sleep(time.Second - 1)
				hit(t, c, "k", answer.Value)
				synctest.Wait()
				assert.Equal(t, 1, s.loads())
			})
		})
	}
}

// The count goes on across expiry, so that a Loader can double its pause.
func TestFailuresCount(t *testing.T) {
	scene(t, func(t *testing.T) {
		s := &source{}
		c := &stringCache{Load: s.load, Size: 1}
		for i := range 6 {
			answer := temporary("f", time.Minute<<i)
			if i%2 == 1 {
				answer.Status = cache.Bad
			}
			s.set(0, answer)
			assert.Equal(t, i+1, miss(t, c, "k", "f").Failures())
			assert.Equal(t, prior{Failures: i}, s.lastPrior())
			sleep(answer.Lifetime)
		}
		s.set(0, good("v", time.Minute))
		assert.Zero(t, miss(t, c, "k", "v").Failures())
		assert.Equal(t, prior{Failures: 6}, s.lastPrior())
		sleep(time.Minute)
		s.set(0, bad("f", time.Minute))
		assert.Equal(t, 1, miss(t, c, "k", "f").Failures())

		miss(t, c, "other", "f") // pushes k out, and its count with it
		assert.Equal(t, 1, miss(t, c, "k", "f").Failures())
		assert.Equal(t, prior{}, s.lastPrior())
	})
}

func TestStale(t *testing.T) {
	const life, pause = 100 * time.Second, 10 * time.Second
	for _, tt := range []struct {
		name     string
		maxStale time.Duration
		at       time.Duration // when the first failing load ends, from the load of the good value on
		stale    bool
		until    time.Duration
	}{
		{"not allowed", 0, life, false, life + pause},
		{"negative is not allowed", -time.Hour, life, false, life + pause},
		{"at the expiry", time.Hour, life, true, life + pause},
		{"the bound cuts the pause", 4 * time.Second, life + 3*time.Second, true, life + 4*time.Second},
		{"last moment", 20 * time.Second, life + 20*time.Second - 1, true, life + 20*time.Second},
		{"past the bound", 20 * time.Second, life + 20*time.Second, false, life + 30*time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			scene(t, func(t *testing.T) {
				s := &source{answer: good("old", life)}
				c := &stringCache{Load: s.load, MaxStale: tt.maxStale}
				e := miss(t, c, "k", "old")
				start := time.Now()
				s.set(0, temporary("silence", pause))
				sleep(tt.at)
				want, status := "silence", cache.Temporary
				if tt.stale {
					want, status = "old", cache.Good
				}
				f := miss(t, c, "k", want)
				assert.Equal(t, status, f.Status())
				assert.Equal(t, tt.stale, f.Stale())
				assert.Equal(t, start.Add(tt.until), f.Expires())
				assert.True(t, f.RefreshAt().IsZero())
				assert.Equal(t, 1, f.Failures())
				if tt.stale {
					assert.Equal(t, e.LoadedAt(), f.LoadedAt())
				}
				why, _ := f.Failure()
				assert.Equal(t, "silence", why)

				// Until then callers get it at once and the source is left alone.
				sleep(time.Until(f.Expires()) - 1)
				assert.Same(t, f, hit(t, c, "k", want))
				synctest.Wait()
				assert.Equal(t, 2, s.loads())

				// Whatever was served, the Good value with its own expiry is what later loads hear of.
				sleep(1)
				s.set(0, good("new", life))
				miss(t, c, "k", "new")
				assert.Equal(t, prior{Value: "old", Held: true, Expires: e.Expires(), Failures: 1}, s.lastPrior())
			})
		})
	}
}

// The bound is counted from the value's own expiry, not from the last failure.
func TestStaleIsBounded(t *testing.T) {
	scene(t, func(t *testing.T) {
		s := &source{answer: good("old", 100*time.Second)}
		c := &stringCache{Load: s.load, MaxStale: time.Minute}
		miss(t, c, "k", "old")
		s.set(0, temporary("silence", 25*time.Second))
		sleep(100 * time.Second)
		for i := range 3 { // 100-125, 125-150, 150-160
			assert.Equal(t, i+1, miss(t, c, "k", "old").Failures())
			e, _ := c.Peek("k")
			sleep(time.Until(e.Expires()))
		}
		f := miss(t, c, "k", "silence")
		assert.False(t, f.Stale())
		assert.Equal(t, 4, f.Failures())
		assert.Equal(t, 160*time.Second+25*time.Second, f.Expires().Sub(s.lastPrior().Expires)+100*time.Second)

		// Prior survives failures stored over it, too.
		sleep(25 * time.Second)
		miss(t, c, "k", "silence")
		assert.True(t, s.lastPrior().Held)
		assert.Equal(t, "old", s.lastPrior().Value)
		assert.Equal(t, 4, s.lastPrior().Failures)
	})
}

// Those who wait get the answer, and nobody else does.
func TestNoLifetime(t *testing.T) {
	for _, status := range []cache.Status{cache.Good, cache.Bad, cache.Temporary} {
		for _, life := range []time.Duration{0, -1, -time.Hour} {
			t.Run(fmt.Sprint(status, life), func(t *testing.T) {
				scene(t, func(t *testing.T) {
					s := &source{delay: time.Second, answer: loaded{Value: "v", Status: status, Lifetime: life}}
					c := &stringCache{Load: s.load}
					var wg sync.WaitGroup
					for range 10 {
						wg.Go(func() { assert.Equal(t, time.Now().Add(time.Second), miss(t, c, "k", "v").Expires()) })
					}
					wg.Wait()
					assert.Equal(t, 1, s.loads())
					miss(t, c, "k", "v")
					assert.Equal(t, 2, s.loads())
					assert.Equal(t, status == cache.Good, s.lastPrior().Held)
				})
			})
		}
	}
}

// A failed refresh with no pause may be tried again at once, but never more than one at a time.
func TestNoPause(t *testing.T) {
	scene(t, func(t *testing.T) {
		s := &source{answer: good("old", 100*time.Second)}
		c := &stringCache{Load: s.load}
		miss(t, c, "k", "old")
		s.set(time.Second, temporary("silence", 0))
		sleep(90 * time.Second)
		for range 5 {
			hit(t, c, "k", "old")
			hit(t, c, "k", "old")
			sleep(time.Second)
		}
		assert.Equal(t, 6, s.loads())
		assert.Equal(t, 5, hit(t, c, "k", "old").Failures())
		c.Wait()
	})
}

// A status from nowhere must not turn into an answer.
func TestUnknownStatus(t *testing.T) {
	scene(t, func(t *testing.T) {
		s := &source{answer: loaded{Value: "v", Status: 200, Lifetime: time.Minute}}
		c := &stringCache{Load: s.load}
		assert.Equal(t, cache.Temporary, miss(t, c, "k", "v").Status())
	})
}

func TestRefresh(t *testing.T) {
	scene(t, func(t *testing.T) {
		s := &source{answer: good("old", time.Hour)}
		c := &stringCache{Load: s.load}
		refresh := func(want string) *entry {
			t.Helper()
			e, err := c.Refresh(t.Context(), "k")
			require.NoError(t, err)
			assert.Equal(t, want, e.Value())
			return e
		}
		refresh("old") // nothing was held
		sleep(time.Minute)

		s.set(0, temporary("silence", time.Minute))
		e := refresh("old") // a fresh answer outlives a failure
		assert.Equal(t, 1, e.Failures())
		assert.Equal(t, time.Now().Add(59*time.Minute), e.Expires())

		s.set(0, bad("gone", time.Minute))
		assert.Equal(t, 2, refresh("gone").Failures())
		assert.False(t, e.Current())
		assert.Equal(t, 3, refresh("gone").Failures()) // a failure is asked again before its time is over

		s.set(time.Second, good("new", time.Hour))
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { refresh("new") })
		}
		wg.Wait()
		hit(t, c, "k", "new")
		assert.Equal(t, 5, s.loads())
	})
}

func TestForget(t *testing.T) {
	scene(t, func(t *testing.T) {
		s := &source{answer: bad("no", time.Hour)}
		c := &stringCache{Load: s.load}
		e, other := miss(t, c, "k", "no"), miss(t, c, "other", "no")
		c.Forget("k")
		c.Forget("unknown")
		assert.False(t, e.Current())
		assert.True(t, other.Current())
		_, ok := c.Peek("k")
		assert.False(t, ok)
		assert.Equal(t, 1, c.Len())
		assert.Equal(t, 1, miss(t, c, "k", "no").Failures(), "remembers a failure")
		assert.Equal(t, prior{}, s.lastPrior())
		hit(t, c, "other", "no")
	})
}

// The load from before ends last, and still does not overwrite the one from after.
func TestForgetDuringLoad(t *testing.T) {
	scene(t, func(t *testing.T) {
		s := &source{delay: 10 * time.Second, answer: good("before", time.Hour)}
		c := &stringCache{Load: s.load}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { assert.False(t, miss(t, c, "k", "before").Current()) })
		}
		synctest.Wait()
		c.Forget("k")
		s.set(time.Second, good("after", time.Hour))
		e := miss(t, c, "k", "after")
		assert.Equal(t, 2, s.loads())
		wg.Wait()
		assert.Same(t, e, hit(t, c, "k", "after"))
		assert.True(t, e.Current())
		assert.Equal(t, 2, s.loads())
	})
}

// The load from before ends first, and those from after do not take it for theirs.
func TestForgetDuringLoadThatEndsFirst(t *testing.T) {
	scene(t, func(t *testing.T) {
		s := &source{delay: time.Second, answer: good("before", time.Hour)}
		c := &stringCache{Load: s.load}
		var wg sync.WaitGroup
		wg.Go(func() { miss(t, c, "k", "before") })
		synctest.Wait()
		c.Forget("k")
		s.set(10*time.Second, good("after", time.Hour))
		wg.Go(func() { miss(t, c, "k", "after") })
		sleep(2 * time.Second)
		_, ok := c.Peek("k")
		assert.False(t, ok)
		miss(t, c, "k", "after") // shares the second load
		wg.Wait()
		assert.Equal(t, 2, s.loads())
	})
}

func TestForgetDuringRefresh(t *testing.T) {
	scene(t, func(t *testing.T) {
		s := &source{answer: good("old", 100*time.Second)}
		c := &stringCache{Load: s.load, MaxStale: time.Hour}
		miss(t, c, "k", "old")
		s.set(time.Second, temporary("silence", time.Minute))
		sleep(90 * time.Second)
		hit(t, c, "k", "old")
		c.Forget("k")
		sleep(time.Second)
		assert.Zero(t, c.Len(), "the old value is back")
		miss(t, c, "k", "silence")
	})
}

func TestPanic(t *testing.T) {
	for _, tt := range []struct {
		name string
		load func() loaded
		want string
	}{
		{"value", func() loaded { panic("boom") }, "boom"},
		{"context error", func() loaded { panic(context.Canceled) }, "context canceled"},
		{"nil", func() loaded { panic(nil) }, "nil"}, //nolint:govet
		{"goexit", func() loaded { runtime.Goexit(); return loaded{} }, "runtime.Goexit"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			scene(t, func(t *testing.T) {
				healthy := false
				loads := 0
				c := &stringCache{MaxLoads: 1, Load: func(context.Context, string, prior) loaded {
					loads++
					time.Sleep(time.Second)
					if healthy {
						return good("v", time.Hour)
					}
					return tt.load()
				}}
				var wg sync.WaitGroup
				for range 5 {
					wg.Go(func() {
						e, hit, err := c.Get(t.Context(), "k")
						assert.Nil(t, e)
						assert.False(t, hit)
						var failure *cache.PanicError
						if assert.ErrorAs(t, err, &failure) {
							assert.ErrorContains(t, err, tt.want)
							assert.NotErrorIs(t, err, context.Canceled, "looks like a caller who gave up")
							assert.Contains(t, string(failure.Stack), "cache_test.go", "not the stack of the panic")
						}
					})
				}
				wg.Wait()
				assert.Equal(t, 1, loads)
				assert.Zero(t, c.Len())
				healthy = true
				miss(t, c, "k", "v") // the slot is free again
			})
		})
	}
}

func TestPanicInTheBackground(t *testing.T) {
	scene(t, func(t *testing.T) {
		s := &source{answer: good("old", 100*time.Second)}
		boom := false
		c := &stringCache{Load: func(ctx context.Context, k string, p prior) loaded {
			if boom {
				panic("boom")
			}
			return s.load(ctx, k, p)
		}}
		e := miss(t, c, "k", "old")
		boom = true
		sleep(90 * time.Second)
		hit(t, c, "k", "old")
		synctest.Wait()
		assert.Same(t, e, hit(t, c, "k", "old"))
		assert.True(t, e.Current())
		synctest.Wait()
		sleep(10 * time.Second)
		_, _, err := c.Get(t.Context(), "k") // now it is reported
		assert.ErrorContains(t, err, "boom")
		boom = false
		miss(t, c, "k", "old")
		assert.True(t, s.lastPrior().Held, "the old entry was lost")
	})
}

func TestMissingLoad(t *testing.T) {
	scene(t, func(t *testing.T) {
		var c stringCache
		_, _, err := c.Get(t.Context(), "k")
		assert.ErrorContains(t, err, "nil pointer")
	})
}

// slots is a cache whose loads of different keys must share n slots, and each take a second.
func slots(n int) (*stringCache, *source) {
	s := &source{delay: time.Second, answer: good("v", 100*time.Second)}
	return &stringCache{Load: s.load, MaxLoads: n}, s
}

func TestMaxLoads(t *testing.T) {
	for n := 1; n <= 3; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			scene(t, func(t *testing.T) {
				c, s := slots(n)
				start := time.Now()
				var wg sync.WaitGroup
				for i := range 6 { // n of them after a second, n after two, and so on, in the order they came
					wg.Go(func() {
						miss(t, c, fmt.Sprint(i), "v")
						assert.Equal(t, time.Duration(1+i/n)*time.Second, time.Since(start))
					})
					synctest.Wait()
					assert.Equal(t, min(i+1, n), s.loads())
				}
				wg.Wait()
				assert.Equal(t, 6, s.loads())
			})
		})
	}
}

func TestDefaultMaxLoads(t *testing.T) {
	scene(t, func(t *testing.T) {
		c, s := slots(0)
		var wg sync.WaitGroup
		for i := range cache.DefaultMaxLoads + 1 {
			wg.Go(func() { miss(t, c, fmt.Sprint(i), "v") })
		}
		synctest.Wait()
		assert.Equal(t, cache.DefaultMaxLoads, s.loads())
		wg.Wait()
	})
}

// Waiting for a slot, the callers of one key wait together; those who give up leave nothing behind.
func TestQueue(t *testing.T) {
	scene(t, func(t *testing.T) {
		c, s := slots(1)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() { miss(t, c, "first", "v") })
		synctest.Wait()
		for range 10 {
			wg.Go(func() {
				_, _, err := c.Get(ctx, "abandoned")
				assert.ErrorIs(t, err, context.Canceled)
			})
			wg.Go(func() {
				_, _, err := c.Get(ctx, "shared")
				assert.ErrorIs(t, err, context.Canceled)
			})
			wg.Go(func() { miss(t, c, "shared", "v") })
		}
		synctest.Wait()
		cancel()
		wg.Wait()
		assert.Equal(t, []string{"first", "shared"}, s.asked)
		hit(t, c, "shared", "v")

		// An abandoned place in the queue is no obstacle to asking again.
		miss(t, c, "abandoned", "v")
	})
}

// A load that waits for its slot begins after Forget, so there is nothing that it would have to forget.
func TestForgetWhileQueued(t *testing.T) {
	scene(t, func(t *testing.T) {
		c, s := slots(1)
		var wg sync.WaitGroup
		wg.Go(func() { miss(t, c, "first", "v") })
		synctest.Wait()
		wg.Go(func() { assert.True(t, miss(t, c, "k", "v").Current()) })
		synctest.Wait()
		c.Forget("k")
		wg.Go(func() { miss(t, c, "k", "v") })
		wg.Wait()
		assert.Equal(t, []string{"first", "k"}, s.asked)
		hit(t, c, "k", "v")
	})
}

// Once begun, a load that had to wait for its slot is like any other.
func TestQueuedLoadBegins(t *testing.T) {
	for _, forget := range []bool{false, true} {
		t.Run(fmt.Sprint("forget ", forget), func(t *testing.T) {
			scene(t, func(t *testing.T) {
				c, s := slots(1)
				var wg sync.WaitGroup
				wg.Go(func() { miss(t, c, "first", "v") })
				synctest.Wait()
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
					defer cancel()
					_, _, err := c.Get(ctx, "k")
					assert.ErrorIs(t, err, context.DeadlineExceeded)
				})
				sleep(1200 * time.Millisecond)
				if forget {
					c.Forget("k")
				}
				wg.Wait()
				c.Wait()
				assert.Equal(t, []string{"first", "k"}, s.asked)
				_, ok := c.Peek("k")
				assert.Equal(t, !forget, ok)
			})
		})
	}
}

// A forgotten load still holds its slot: the bound is on what the source is asked, not on what is wanted.
func TestForgottenLoadsCount(t *testing.T) {
	scene(t, func(t *testing.T) {
		c, s := slots(1)
		var wg sync.WaitGroup
		wg.Go(func() { miss(t, c, "k", "v") })
		synctest.Wait()
		c.Forget("k")
		start := time.Now()
		miss(t, c, "k", "v")
		assert.Equal(t, 2*time.Second, time.Since(start))
		wg.Wait()
		assert.Equal(t, 2, s.loads())
	})
}

// Without a free slot a refresh is skipped, and made up for by a later Get.
func TestRefreshNeedsAFreeSlot(t *testing.T) {
	scene(t, func(t *testing.T) {
		c, s := slots(1)
		miss(t, c, "k", "v")
		sleep(90 * time.Second)
		var wg sync.WaitGroup
		wg.Go(func() { miss(t, c, "other", "v") })
		synctest.Wait()
		hit(t, c, "k", "v")
		wg.Wait()
		sleep(time.Second)
		assert.Equal(t, []string{"k", "other"}, s.asked)
		hit(t, c, "k", "v")
		c.Wait()
		assert.Equal(t, []string{"k", "other", "k"}, s.asked)
	})
}

func TestEviction(t *testing.T) {
	scene(t, func(t *testing.T) {
		s := &source{answer: good("v", time.Hour)}
		c := &stringCache{Load: s.load, Size: 2}
		a, b := miss(t, c, "a", "v"), miss(t, c, "b", "v")
		hit(t, c, "a", "v")
		c.Peek("b") // no use of it
		miss(t, c, "c", "v")
		assert.Equal(t, 2, c.Len())
		_, ok := c.Peek("b")
		assert.False(t, ok)
		assert.False(t, b.Current(), "the cache no longer watches over it")
		hit(t, c, "a", "v")
		assert.True(t, a.Current())
	})
}

func TestEvictionDuringLoad(t *testing.T) {
	for _, tt := range []struct {
		answer loaded
		want   string
	}{
		{good("new", time.Hour), "new"}, {bad("gone", time.Hour), "gone"}, {temporary("silence", time.Hour), "old"},
	} {
		t.Run(tt.answer.Value, func(t *testing.T) {
			scene(t, func(t *testing.T) {
				s := &source{answer: good("old", 100*time.Second)}
				c := &stringCache{Load: s.load, Size: 1}
				old := miss(t, c, "k", "old")
				sleep(90 * time.Second)
				s.set(5*time.Second, tt.answer)
				hit(t, c, "k", "old")
				synctest.Wait()
				s.set(0, good("v", time.Hour))
				miss(t, c, "other", "v") // pushes k out
				_, ok := c.Peek("k")
				require.False(t, ok)
				assert.False(t, old.Current())

				miss(t, c, "k", tt.want) // shares the refresh
				hit(t, c, "k", tt.want)
				assert.Equal(t, 3, s.loads())
				assert.Equal(t, 1, c.Len())
			})
		})
	}
}

func TestDefaultSize(t *testing.T) {
	scene(t, func(t *testing.T) {
		c := &cache.Cache[int, int]{Load: func(context.Context, int, cache.Prior[int]) cache.Loaded[int] {
			return cache.Loaded[int]{Lifetime: time.Hour}
		}}
		for i := range cache.DefaultSize + 5 {
			_, _, err := c.Get(t.Context(), i)
			require.NoError(t, err)
		}
		assert.Equal(t, cache.DefaultSize, c.Len())
		_, ok := c.Peek(4)
		assert.False(t, ok)
		_, ok = c.Peek(5)
		assert.True(t, ok)
	})
}

func TestWait(t *testing.T) {
	scene(t, func(t *testing.T) {
		c, s := slots(1)
		c.Wait() // on an unused cache
		assert.Zero(t, c.Len())
		_, ok := c.Peek("k")
		assert.False(t, ok)
		c.Forget("k")

		start := time.Now()
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() { miss(t, c, fmt.Sprint(i), "v") })
		}
		synctest.Wait()
		c.Forget(s.asked[0])
		for range 2 {
			wg.Go(func() {
				c.Wait()
				assert.Equal(t, 3*time.Second, time.Since(start))
			})
		}
		wg.Wait()
		assert.Equal(t, 3, s.loads())

		ctx, cancel := context.WithTimeout(t.Context(), 1)
		defer cancel()
		_, _, err := c.Get(ctx, "nobody waits")
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		c.Wait()
		hit(t, c, "nobody waits", "v")
	})
}

// Not parallel: AllocsPerRun counts the whole process.
func TestHitsDoNotAllocate(t *testing.T) {
	s := &source{answer: good("v", time.Hour)}
	c := &stringCache{Load: s.load}
	ctx := t.Context()
	miss(t, c, "k", "v")
	var e *entry
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		e, _, _ = c.Get(ctx, "k")
		if !e.Current() {
			t.Error("not current")
		}
	}))
	assert.Equal(t, 1, s.loads())
}
