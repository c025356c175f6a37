package cache_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"mxdiscover/cache"
)

func TestStats(t *testing.T) {
	scene(t, func(t *testing.T) {
		s := &source{delay: time.Second, answer: good("v", 100*time.Second)}
		c := &stringCache{MaxLoads: 2, Size: 3}
		c.Load = func(ctx context.Context, key string, p prior) loaded {
			if key == "panic" {
				panic(key)
			}
			return s.load(ctx, key, p)
		}
		assert.Zero(t, c.Stats(), "of a zero Cache")

		var wg sync.WaitGroup
		for _, key := range []string{"a", "a", "a", "b", "c"} {
			wg.Go(func() { get(t, c, key) })
			synctest.Wait()
		}
		assert.Equal(t, cache.Stats{InFlight: 2, Waiting: 1, Misses: 5, Loads: 2}, c.Stats())
		c.Prefetch("d") // no slot
		c.Forget("b")   // detached, and still under way
		assert.Equal(t, cache.Stats{InFlight: 2, Waiting: 1, Misses: 5, Loads: 2}, c.Stats())
		wg.Wait()
		assert.Equal(t, cache.Stats{Entries: 2, Misses: 5, Loads: 3}, c.Stats())

		hit(t, c, "a", "v")
		c.Peek("a") // is no use
		assert.Equal(t, cache.Stats{Entries: 2, Hits: 1, Misses: 5, Loads: 3}, c.Stats())

		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, _, err := c.Get(ended, "e")
		assert.Error(t, err)
		_, _, err = c.Get(t.Context(), "panic")
		assert.Error(t, err)
		assert.Equal(t, cache.Stats{Entries: 2, Hits: 1, Misses: 7, Loads: 4, Panics: 1}, c.Stats())

		s.set(0, bad("no", time.Second))
		miss(t, c, "e", "no")
		s.set(0, temporary("silence", time.Second))
		miss(t, c, "f", "silence") // one too many: the oldest goes
		s.set(0, loaded{Status: 99})
		miss(t, c, "g", "")
		assert.Equal(t, cache.Stats{Entries: 3, Hits: 1, Misses: 10, Loads: 7, Bad: 1, Temporary: 2, Panics: 1}, c.Stats())

		// In the background and by force.
		s.set(0, good("v", 100*time.Second))
		c.Prefetch("h")
		synctest.Wait()
		sleep(90 * time.Second)
		hit(t, c, "h", "v")
		synctest.Wait()
		_, err = c.Refresh(t.Context(), "h")
		assert.NoError(t, err)
		assert.Equal(t, cache.Stats{Entries: 3, Hits: 2, Misses: 10, Loads: 10, Bad: 1, Temporary: 2, Panics: 1}, c.Stats())
	})
}
