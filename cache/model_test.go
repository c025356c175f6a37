package cache_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/cache"
)

// The model: what the documentation says, written down as plainly as possible, for one caller at a time.
type (
	modelEntry struct {
		value, failure     int // numbers of loads
		status             cache.Status
		stale              bool
		loaded, expires    time.Time
		refresh            time.Time // zero: never
		failures           int
		good               bool // whether a Good value stands behind the entry, and which
		goodValue          int
		goodAt, goodExpiry time.Time
		replaced           bool
	}
	modelFlight struct {
		key, number int
		ends        time.Time
		answer      answer
		old         *modelEntry
		forgotten   bool
		result      *modelEntry // nil after a panic
	}
	answer struct {
		status cache.Status
		life   time.Duration
		delay  time.Duration
		panics bool
	}
	model struct {
		size     int
		maxStale time.Duration
		entries  map[int]*modelEntry
		recent   []int // keys, the least recently used first
		flights  []*modelFlight
		loads    int
	}
)

// numbered keeps two loads from ending at the same instant, in an order that nothing decides.
func (a answer) numbered(load int) answer {
	if a.delay > 0 {
		a.delay += time.Duration(load)
	}
	return a
}

func (m *model) touch(key int) {
	m.drop(key)
	m.recent = append(m.recent, key)
}

func (m *model) drop(key int) {
	m.recent = slices.DeleteFunc(m.recent, func(k int) bool { return k == key })
}

func (m *model) flight(key int) *modelFlight {
	for _, f := range m.flights {
		if f.key == key && !f.forgotten {
			return f
		}
	}
	return nil
}

// fly joins or begins a load.
func (m *model) fly(key int, now time.Time, a answer) *modelFlight {
	f := m.flight(key)
	if f == nil {
		m.loads++
		a = a.numbered(m.loads)
		f = &modelFlight{key: key, number: m.loads, ends: now.Add(a.delay), answer: a, old: m.entries[key]}
		m.flights = append(m.flights, f)
	}
	return f
}

// settle ends all loads that are due.
func (m *model) settle(now time.Time) {
	slices.SortFunc(m.flights, func(a, b *modelFlight) int { return a.ends.Compare(b.ends) })
	for len(m.flights) > 0 && !m.flights[0].ends.After(now) {
		m.end(m.flights[0])
		m.flights = m.flights[1:]
	}
}

func (m *model) end(f *modelFlight) {
	if f.answer.panics {
		return
	}
	now, a := f.ends, f.answer
	e := &modelEntry{value: f.number, status: a.status, loaded: now, expires: now.Add(max(a.life, 0))}
	if a.status == cache.Good {
		e.refresh = now.Add((max(a.life, 0)*4 + 4) / 5) // to the nanosecond, rounded up
		e.good, e.goodValue, e.goodAt, e.goodExpiry = true, e.value, now, e.expires
	} else {
		e.failure, e.failures = f.number, 1
		if f.old != nil {
			e.failures += f.old.failures
		}
	}
	if a.status == cache.Temporary && f.old != nil && f.old.good {
		o := f.old
		e.good, e.goodValue, e.goodAt, e.goodExpiry = true, o.goodValue, o.goodAt, o.goodExpiry
		bound := o.goodExpiry.Add(m.maxStale)
		if now.Before(bound) || now.Before(o.goodExpiry) {
			e.value, e.status, e.loaded = o.goodValue, cache.Good, o.goodAt
			if now.Before(o.goodExpiry) {
				e.refresh, e.expires = e.expires, o.goodExpiry
			} else {
				e.stale = true
				if bound.Before(e.expires) {
					e.expires = bound
				}
			}
		}
	}
	f.result = e
	if f.forgotten {
		e.replaced = true
		return
	}
	if f.old != nil {
		f.old.replaced = true
	}
	m.entries[f.key] = e
	m.touch(f.key)
	if len(m.recent) > m.size {
		m.entries[m.recent[0]].replaced = true
		delete(m.entries, m.recent[0])
		m.recent = m.recent[1:]
	}
}

func (m *model) forget(key int) {
	if e := m.entries[key]; e != nil {
		e.replaced = true
		delete(m.entries, key)
		m.drop(key)
	}
	if f := m.flight(key); f != nil {
		f.forgotten = true
	}
}

type intEntry = cache.Entry[int]

func same(t *testing.T, want *modelEntry, e *intEntry) {
	t.Helper()
	if want == nil {
		require.Nil(t, e)
		return
	}
	require.NotNil(t, e)
	require.Equal(t, want.value, e.Value())
	require.Equal(t, want.status, e.Status())
	require.Equal(t, want.stale, e.Stale())
	require.Equal(t, want.loaded, e.LoadedAt())
	require.Equal(t, want.expires, e.Expires())
	require.Equal(t, want.refresh, e.RefreshAt())
	require.Equal(t, want.failures, e.Failures())
	require.Equal(t, !want.replaced, e.Current())
	failure, _ := e.Failure()
	require.Equal(t, want.failure, failure)
}

// A long random life, the same for a seed, compared with the model after every step.
func TestModel(t *testing.T) {
	t.Parallel()
	var hits, stale, kept, waits, left, panics atomic.Int64
	t.Run("seeds", func(t *testing.T) {
		for seed := range uint64(40) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					rng := rand.New(rand.NewPCG(seed, 1))
					between := func(lo, hi time.Duration) time.Duration { return lo + time.Duration(rng.Int64N(int64(hi-lo))) }
					keys := 2 + rng.IntN(6)
					m := &model{size: 1 + rng.IntN(6), entries: map[int]*modelEntry{}}
					if rng.IntN(3) > 0 {
						m.maxStale = between(0, 200*time.Second)
					}

					var world answer
					var number int
					var heard cache.Prior[int]
					c := &cache.Cache[int, int]{Size: m.size, MaxStale: m.maxStale, Timeout: time.Hour,
						Load: func(_ context.Context, _ int, prior cache.Prior[int]) cache.Loaded[int] {
							number++
							heard = prior
							n, a := number, world.numbered(number)
							time.Sleep(a.delay)
							if a.panics {
								panic("boom")
							}
							return cache.Loaded[int]{Value: n, Status: a.status, Lifetime: a.life}
						}}
					defer c.Wait()
					type given struct {
						want *modelEntry
						e    *intEntry
					}
					var seen []given

					for step := range 400 {
						switch r := rng.IntN(20); {
						case r < 4:
							world = answer{status: cache.Status(rng.IntN(3)), life: between(-20*time.Second, 200*time.Second), panics: rng.IntN(12) == 0}
							if rng.IntN(2) == 0 {
								world.delay = between(1, 40*time.Second)
							}
						case r < 9:
							time.Sleep(between(1, []time.Duration{time.Second, 20 * time.Second, 200 * time.Second}[rng.IntN(3)]))
						case r < 18:
							key := rng.IntN(keys)
							now := time.Now()
							ctx, cancel := context.WithTimeout(t.Context(), between(1, 100*time.Second))
							again := rng.IntN(10) == 0
							defer cancel()
							held := m.entries[key]
							fresh := held != nil && now.Before(held.expires) && !again
							var e *intEntry
							var hit bool
							var err error
							if again {
								e, err = c.Refresh(ctx, key)
							} else {
								e, hit, err = c.Get(ctx, key)
							}
							if held != nil && !again {
								m.touch(key)
							}
							require.Equal(t, fresh, hit, "step %d", step)
							if fresh {
								require.Equal(t, now, time.Now(), "a hit waited")
								if !held.refresh.IsZero() && !now.Before(held.refresh) {
									m.fly(key, now, world)
								}
								synctest.Wait() // a refresh may end at once
								m.settle(now)
								same(t, held, e)
								seen = append(seen, given{held, e})
								hits.Add(1)
								break
							}
							f := m.fly(key, now, world)
							deadline, _ := ctx.Deadline()
							if deadline.Before(f.ends) {
								require.ErrorIs(t, err, context.DeadlineExceeded)
								require.Equal(t, deadline, time.Now())
								left.Add(1)
								break
							}
							require.Equal(t, f.ends, time.Now())
							m.settle(f.ends)
							if f.answer.panics {
								var failure *cache.PanicError
								require.ErrorAs(t, err, &failure)
								panics.Add(1)
								break
							}
							require.NoError(t, err)
							same(t, f.result, e)
							seen = append(seen, given{f.result, e})
							waits.Add(1)
						case r < 19:
							key := rng.IntN(keys)
							c.Forget(key)
							m.forget(key)
						}

						synctest.Wait()
						m.settle(time.Now())
						require.Equal(t, m.loads, number, "loads, step %d", step)
						if n := len(m.flights); n > 0 {
							last := slices.MaxFunc(m.flights, func(a, b *modelFlight) int { return a.number - b.number })
							if last.number == number {
								want := cache.Prior[int]{}
								if o := last.old; o != nil {
									want.Failures = o.failures
									if o.good {
										want.Value, want.Held, want.Expires = o.goodValue, true, o.goodExpiry
									}
								}
								require.Equal(t, want, heard)
							}
						}
						require.Equal(t, len(m.entries), c.Len())
						for key := range keys {
							e, _ := c.Peek(key)
							same(t, m.entries[key], e)
						}
						seen = seen[max(0, len(seen)-8):]
						for _, g := range seen {
							same(t, g.want, g.e)
							if g.want.stale {
								stale.Add(1)
							} else if g.want.status == cache.Good && g.want.failures > 0 {
								kept.Add(1)
							}
						}
					}
				})
			})
		}
	})
	for name, n := range map[string]*atomic.Int64{
		"hits": &hits, "stale": &stale, "kept": &kept, "waits": &waits, "left": &left, "panics": &panics,
	} {
		assert.Greater(t, n.Load(), int64(50), "the random lives hardly had any %s", name)
	}
}

// Everybody does everything at once; the race detector watches.
func TestStress(t *testing.T) {
	scene(t, func(t *testing.T) {
		const maxLoads, size = 8, 10
		var under, loads atomic.Int64
		c := &cache.Cache[int, int]{Size: size, MaxLoads: maxLoads, MaxStale: time.Second, Timeout: 20 * time.Millisecond,
			Load: func(ctx context.Context, key int, prior cache.Prior[int]) cache.Loaded[int] {
				assert.LessOrEqual(t, under.Add(1), int64(maxLoads))
				defer under.Add(-1)
				loads.Add(1)
				if prior.Held {
					assert.Equal(t, key, prior.Value)
				}
				select {
				case <-time.After(rand.N(30 * time.Millisecond)):
				case <-ctx.Done():
				}
				if rand.IntN(50) == 0 {
					panic("boom")
				}
				return cache.Loaded[int]{Value: key, Status: cache.Status(rand.IntN(3)), Lifetime: rand.N(50 * time.Millisecond)}
			}}
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				for range 300 {
					key := rand.IntN(2 * size)
					ctx, cancel := context.WithTimeout(t.Context(), 1+rand.N(100*time.Millisecond))
					var e *intEntry
					var err error
					switch rand.IntN(20) {
					case 0:
						c.Forget(key)
					case 1:
						e, err = c.Refresh(ctx, key)
					case 2:
						e, _ = c.Peek(key)
					case 3:
						assert.LessOrEqual(t, c.Len(), size)
					case 4:
						c.Wait()
					default:
						e, _, err = c.Get(ctx, key)
					}
					if err != nil {
						assert.Nil(t, e)
					}
					if e != nil {
						assert.Equal(t, key, e.Value())
						_ = e.Current()
					}
					cancel()
					time.Sleep(rand.N(time.Millisecond))
				}
			})
		}
		wg.Wait()
		c.Wait()
		assert.Zero(t, under.Load())
		assert.Greater(t, loads.Load(), int64(100))
	})
}
