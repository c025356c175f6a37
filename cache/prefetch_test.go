package cache_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestPrefetch(t *testing.T) {
	scene(t, func(t *testing.T) {
		s := &source{delay: 10 * time.Second, answer: good("v", 100*time.Second)}
		c := &stringCache{Load: s.load}
		start := time.Now()
		for range 3 {
			c.Prefetch("k")
			synctest.Wait()
		}
		assert.Zero(t, time.Since(start), "waited")
		time.Sleep(4 * time.Second)
		miss(t, c, "k", "v") // shares the load
		assert.Equal(t, 10*time.Second, time.Since(start))
		assert.Equal(t, 1, s.loads())

		sleep(95 * time.Second) // fresh, though due for refreshing
		c.Prefetch("k")
		synctest.Wait()
		assert.Equal(t, 1, s.loads())

		sleep(5 * time.Second) // expired
		c.Prefetch("k")
		c.Wait()
		hit(t, c, "k", "v")
		assert.Equal(t, 2, s.loads())
	})
}

func TestPrefetchNeedsAFreeSlot(t *testing.T) {
	scene(t, func(t *testing.T) {
		c, s := slots(1)
		var wg sync.WaitGroup
		wg.Go(func() { miss(t, c, "other", "v") })
		synctest.Wait()
		c.Prefetch("k")
		wg.Wait()
		c.Wait()
		assert.Equal(t, []string{"other"}, s.asked)
	})
}
