package cache

// Stats tells what a [Cache] has been doing. All its numbers belong to one moment. The counters begin at zero with the
// Cache and only grow.
type Stats struct {
	Entries  int // held at this moment, expired ones included
	InFlight int // loads under way at this moment, those detached by Forget included
	Waiting  int // loads that wait for a slot at this moment

	Hits   uint64 // calls of Get that were answered at once
	Misses uint64 // calls of Get that found nothing fresh, whether a load then answered them or their context ended
	Loads  uint64 // loads begun: for callers, in the background, and by Refresh and Prefetch

	// Loads that failed. The rest of those that have ended brought a Good answer.
	Bad       uint64 // a definitive negative answer
	Temporary uint64 // the source could not be asked
	Panics    uint64 // Load panicked, and nothing was stored
}

// Stats returns what the cache has been doing until now.
func (c *Cache[K, V]) Stats() Stats {
	c.once.Do(c.setup)
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.counts
	s.Entries, s.InFlight, s.Waiting = c.entries.Len(), c.loads, c.queue.Len()
	return s
}
