package resolver

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// memo keeps what was derived, by the name as it was asked, so that a warm
// Resolve is one look-up. It decides nothing: a derived answer is as good as
// the inputs that it was derived from, and is dropped as soon as one of them
// is due for refreshing, has expired, or was replaced or forgotten.
type memo struct {
	mu   sync.Mutex
	lru  *simplelru.LRU[string, *derived]
	base time.Time // time.Since(base) costs half of time.Now()

	// What has become of calls of Resolve.
	hits, misses uint64
}

func (m *memo) setup(size int) {
	m.base = time.Now()
	m.lru, _ = simplelru.NewLRU[string, *derived](size, nil) // fails only for a size below 1
}

func (m *memo) get(serverName string) *derived {
	now := time.Since(m.base) // before the lock, which others wait for
	m.mu.Lock()
	d, ok := m.lru.Get(serverName)
	if ok = ok && now < d.until && d.current(); ok {
		m.hits++
	}
	m.mu.Unlock()
	if !ok {
		return nil
	}
	return d
}

// put keeps d if everything that it rests on came from the caches: the
// evidence of an answer that was asked for just now says so, and must not be
// repeated to callers for whom it was not.
func (m *memo) put(serverName string, d *derived) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !d.warm {
		m.misses++
		return
	}
	m.hits++
	m.lru.Add(serverName, d)
}

// peek is what is held for serverName, good or not.
func (m *memo) peek(serverName string) *derived {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, _ := m.lru.Peek(serverName)
	return d
}

func (m *memo) forget(serverName string) {
	m.mu.Lock()
	m.lru.Remove(serverName)
	m.mu.Unlock()
}
