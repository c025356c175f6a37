// Package cache keeps what a slow and unreliable source said.
//
// A source is anything that is asked over a network: it answers late, it answers wrongly, it says no,
// or it does not answer at all. A [Cache] stands between such a source and many impatient callers, and
// owns six things so that nobody else has to:
//
//   - Bounds. At most Size answers are held (the least recently used goes first), at most MaxLoads
//     questions are under way, and every question has a deadline.
//   - Lifetimes. Each answer has its own, chosen by the [Loader] that brought it.
//   - One load per key. A hundred callers that miss together cost the source one question. The question
//     belongs to none of them: whoever gives up leaves alone, and the answer is kept all the same, so that
//     a silent source does not cost every impatient caller a question of its own.
//   - Refreshing ahead. In the last fifth of its life a good answer is asked for anew in the background,
//     while callers get the old one at once. A negative answer is left alone until it has expired.
//   - Failure. A good answer that is still fresh survives a source that cannot be asked, and may be used
//     for a bounded time after that. A definitive negative answer replaces it at once.
//   - Memory of failures. A Loader is told how many loads in a row have failed, so that it can ask less
//     and less often. The pause it chooses is the lifetime of the failure.
//
// It knows nothing of what it holds. Every kind of answer has a Cache of its own, so that a flood of one
// kind cannot push out another.
//
// Time is measured on the monotonic clock: setting the wall clock makes nothing fresh or stale.
// Where that clock stands still while the machine sleeps (Linux), so do lifetimes.
package cache

import (
	"container/list"
	"context"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// What the zero values of the fields of Cache stand for.
const (
	// DefaultSize is twice the number of servers that a homeserver in large public rooms talks to. At a
	// few hundred bytes each the answers stay within a few megabytes.
	DefaultSize = 10000

	// DefaultTimeout is what a person still waits for. A source that needs longer is as good as silent.
	DefaultTimeout = 30 * time.Second

	// DefaultMaxLoads is the usual limit of open files on Linux: beyond it a load would only fail for want of a socket.
	DefaultMaxLoads = 1024
)

// A Cache holds the answers of one source. All its fields but Load may be left zero; they are read on first
// use and must not change after it. A Cache must not be copied after first use. Its methods may be called by
// any number of goroutines.
//
// A Cache starts goroutines only for loads, and each ends with its load. There is nothing to close; [Cache.Wait]
// waits for the loads under way.
type Cache[K comparable, V any] struct {
	// Load asks the source. Required.
	Load Loader[K, V]

	// Size is the most entries held, answers and failures together. If zero or less, DefaultSize.
	Size int

	// Timeout is the deadline of one load, from its beginning. If zero or less, DefaultTimeout.
	Timeout time.Duration

	// MaxStale is how long past its expiry a Good value may still be used while loads end with Temporary.
	// If zero or less, not at all.
	MaxStale time.Duration

	// MaxLoads is the most loads under way at once. A Get that needs one more waits for a slot, or for its
	// context. If zero or less, DefaultMaxLoads.
	MaxLoads int

	once     sync.Once
	timeout  time.Duration // Timeout and MaxLoads as they count
	maxLoads int
	base     time.Time // what offsets count from; time.Since of it is cheaper than time.Now

	// One mutex guards the entries and the flights together. "Nothing fresh here, is a load under way, else
	// begin one", "store this unless it was forgotten" and "forget, and detach the load" are each one step
	// under it. That is why the unlocked simplelru is used: the lru package locks each call by itself, and
	// between two calls a stored answer could escape a Forget, or a second load slip in.
	mu      sync.Mutex
	entries *simplelru.LRU[K, *Entry[V]]
	flights map[K]*flight[K, V] // the load under way or queued for a key
	loads   int                 // loads under way, those detached by Forget too
	queue   list.List           // of *flight[K, V] waiting for a slot; empty while loads < MaxLoads
	idle    chan struct{}       // if not nil, closed when loads becomes 0
	counts  Stats               // Entries, InFlight and Waiting are filled in when asked for
}

// setup reads the fields.
func (c *Cache[K, V]) setup() {
	orDefault := func(n, def int) int {
		if n <= 0 {
			return def
		}
		return n
	}
	c.timeout = c.Timeout
	if c.timeout <= 0 {
		c.timeout = DefaultTimeout
	}
	c.maxLoads = orDefault(c.MaxLoads, DefaultMaxLoads)
	c.base = time.Now()
	// Whatever leaves, by eviction or Forget, is no longer the last word.
	left := func(_ K, e *Entry[V]) { e.replaced.Store(true) }
	c.entries, _ = simplelru.NewLRU(orDefault(c.Size, DefaultSize), left) // fails only for a size below 1
	c.flights = make(map[K]*flight[K, V])
}

// Get returns the entry for key. A fresh one is returned at once, with hit true, even if ctx has ended; if it is
// due for refreshing, that begins in the background. Otherwise Get waits, with hit false, for a load that it shares
// with every other caller who wants this key.
//
// The load does not run on ctx: it sees none of its values and does not end with it. When ctx ends, Get returns at
// once with ctx.Err(), and the load goes on and its answer is kept. The other error is a [*PanicError], for a load that
// panicked; what the source says, good or bad, is in the entry.
func (c *Cache[K, V]) Get(ctx context.Context, key K) (e *Entry[V], hit bool, err error) {
	c.once.Do(c.setup)
	now := time.Since(c.base) // before the lock, which others wait for
	c.mu.Lock()
	if e, ok := c.entries.Get(key); ok && now < e.until {
		if now >= e.refreshFrom {
			c.refreshAhead(key)
		}
		c.counts.Hits++
		c.mu.Unlock()
		return e, true, nil
	}
	c.counts.Misses++
	f, err := c.join(ctx, key)
	c.mu.Unlock()
	if err != nil {
		return nil, false, err
	}
	e, err = c.wait(ctx, f)
	return e, false, err
}

// Refresh asks the source now, however fresh the entry for key is, and waits for the answer as [Cache.Get] does. A load
// that is under way is shared. The rules are those of any load: if the source cannot be asked, a fresh Good value stays
// and is returned. It is for a caller who found out that an answer no longer works; unlike [Cache.Forget]
// it risks nothing that is still of use, and the count of failures goes on.
func (c *Cache[K, V]) Refresh(ctx context.Context, key K) (*Entry[V], error) {
	c.once.Do(c.setup)
	c.mu.Lock()
	f, err := c.join(ctx, key)
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return c.wait(ctx, f)
}

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

// Peek returns the entry for key as it is held, without a load and without counting as a use. It may have expired:
// look at [Entry.Expires].
func (c *Cache[K, V]) Peek(key K) (*Entry[V], bool) {
	c.once.Do(c.setup)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries.Peek(key)
}

// Forget drops what is known of key: the answer, the count of failures, and the load under way, whose waiters still
// get its answer but which will not be stored. The next Get begins a load.
func (c *Cache[K, V]) Forget(key K) {
	c.once.Do(c.setup)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries.Remove(key)
	if f, ok := c.flights[key]; ok {
		c.detach(f)
	}
}

// Len returns how many entries are held, expired ones included.
func (c *Cache[K, V]) Len() int {
	c.once.Do(c.setup)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries.Len()
}

// Wait blocks until there is a moment without a load under way. It keeps nobody from beginning another, so for
// a shutdown stop calling Get first; then it takes no longer than the loads in hand (and those that wait for their
// slots) need. A Load must not call it.
func (c *Cache[K, V]) Wait() {
	// A sync.WaitGroup would not do: a Get that begins the first load while Wait waits for the last is misuse of it.
	c.mu.Lock()
	if c.loads == 0 { // then no flight is queued either
		c.mu.Unlock()
		return
	}
	if c.idle == nil {
		c.idle = make(chan struct{})
	}
	idle := c.idle
	c.mu.Unlock()
	<-idle
}
