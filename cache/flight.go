package cache

import (
	"container/list"
	"context"
	"fmt"
	"runtime/debug"
	"time"
)

// PanicError is the error of a Get whose load panicked.
type PanicError struct {
	Value any    // what it panicked with
	Stack []byte // of the goroutine that panicked
}

// panicText is how much of a panic's value its error repeats, in characters: a line or two.
const panicText = 200

// Error gives the value of the panic, quoted, since some of it may have come from the source. There is no Unwrap: a load
// that panicked with an error of its own context must not look like a caller who gave up.
func (e *PanicError) Error() string {
	return fmt.Sprintf("cache: load panicked: %.*q", panicText, fmt.Sprint(e.Value))
}

// flight is one load and those who wait for it.
//
// x/sync/singleflight is not used. It runs the load on the goroutine of the first caller, and so on its context; its keys are
// strings; and it raises a panic anew on a goroutine that nobody can recover, which kills the process.
type flight[K comparable, V any] struct {
	key K

	// Guarded by the cache's mutex.
	old      *Entry[V]     // what was held when the load began, evicted since or not
	queued   *list.Element // the place in the queue; nil once the load has begun
	waiters  int           // callers that wait; without one a queued flight need not take place
	detached bool          // forgotten: not to be stored

	done  chan struct{} // closed when entry and err are set
	entry *Entry[V]
	err   error
}

// join returns the load under way for key, or begins or queues one, and counts the caller among those who wait.
// The caller holds the mutex.
func (c *Cache[K, V]) join(ctx context.Context, key K) (*flight[K, V], error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, ok := c.flights[key]
	if !ok {
		f = c.newFlight(key)
		if c.loads < c.maxLoads {
			c.begin(f)
		} else {
			f.queued = c.queue.PushBack(f)
		}
	}
	f.waiters++
	return f, nil
}

// refreshAhead begins a load for key that nobody waits for, unless there is one. If there is no slot it does nothing: the
// entry is still fresh, and slots are for those who wait. The caller holds the mutex.
func (c *Cache[K, V]) refreshAhead(key K) {
	if _, ok := c.flights[key]; !ok && c.loads < c.maxLoads {
		c.begin(c.newFlight(key))
	}
}

func (c *Cache[K, V]) newFlight(key K) *flight[K, V] {
	f := &flight[K, V]{key: key, done: make(chan struct{})}
	c.flights[key] = f
	return f
}

// begin starts the load, for which there is a slot. The caller holds the mutex.
func (c *Cache[K, V]) begin(f *flight[K, V]) {
	c.loads++
	c.counts.Loads++
	f.queued = nil
	f.old, _ = c.entries.Peek(f.key)
	go c.load(f, f.old.prior())
}

// load runs Load on a context that belongs to the flight alone. A caller's context, even without its cancellation, would
// carry that caller's values into an answer for all.
func (c *Cache[K, V]) load(f *flight[K, V], prior Prior[V]) {
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()

	var loaded Loaded[V]
	returned := false
	defer func() {
		if returned {
			c.end(f, loaded, nil)
			return
		}
		value := recover()
		if value == nil { // panic(nil) arrives as a *runtime.PanicNilError
			value = "runtime.Goexit was called"
		}
		c.end(f, loaded, &PanicError{Value: value, Stack: debug.Stack()})
	}()
	loaded = c.Load(ctx, f.key, prior)
	returned = true
}

// end stores what the load brought, wakes those who wait, and hands the slot to the next in the queue. If the load
// panicked, failure is not nil and nothing is stored.
func (c *Cache[K, V]) end(f *flight[K, V], loaded Loaded[V], failure *PanicError) {
	at := time.Now()

	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case failure != nil:
		c.counts.Panics++
	case loaded.Status == Bad:
		c.counts.Bad++
	case loaded.Status != Good:
		c.counts.Temporary++
	}
	if failure != nil {
		f.err = failure
	} else {
		// f.old and not what is held now: there is one flight for a key and Forget detaches it, so the two differ
		// only if the entry has been evicted, and that must not change how the load ends.
		f.entry = next(f.old, loaded, at, at.Sub(c.base), c.MaxStale)
		if f.detached {
			f.entry.replaced.Store(true)
		} else {
			if f.old != nil {
				f.old.replaced.Store(true)
			}
			c.entries.Add(f.key, f.entry)
		}
	}
	if !f.detached {
		delete(c.flights, f.key)
	}
	close(f.done)

	c.loads--
	if first := c.queue.Front(); first != nil {
		c.begin(c.queue.Remove(first).(*flight[K, V]))
	}
	if c.loads == 0 && c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
}

// wait waits for f, which the caller has joined, or for ctx.
func (c *Cache[K, V]) wait(ctx context.Context, f *flight[K, V]) (*Entry[V], error) {
	select {
	case <-f.done:
		return f.entry, f.err
	case <-ctx.Done():
	}

	// A load under way goes on. One that has not begun is dropped with the last who wanted it, or else those who have
	// long given up would fill the queue.
	c.mu.Lock()
	defer c.mu.Unlock()
	f.waiters--
	if f.waiters == 0 && f.queued != nil {
		c.queue.Remove(f.queued)
		delete(c.flights, f.key)
	}
	return nil, ctx.Err()
}

// detach lets a load under way end unseen by later callers. One that still waits for its slot has nothing to
// unlearn: it will begin after this. The caller holds the mutex.
func (c *Cache[K, V]) detach(f *flight[K, V]) {
	if f.queued == nil {
		f.detached = true
		delete(c.flights, f.key)
	}
}
