package cache

import "time"

// Prefetch begins a load for key in the background unless a fresh entry is held or a load is under way. It is for a caller
// who may need the answer soon and has something else to wait for; it does nothing if all slots are taken.
func (c *Cache[K, V]) Prefetch(key K) {
	c.once.Do(c.setup)
	now := time.Since(c.base)
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries.Peek(key); !ok || now >= e.until {
		c.refreshAhead(key)
	}
}
