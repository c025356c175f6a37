package resolver

import (
	"sync"
	"sync/atomic"
)

// TransportStats are counts of a [Transport] since its first use. Those of
// discovery are in [Resolver.Stats].
type TransportStats struct {
	// Plans is how many different destinations (Host header, TLS name and
	// targets) are remembered.
	Plans int

	// Connections is how many connections were made, and Connecting how many
	// are being made now.
	Connections uint64
	Connecting  int

	// Shared is how many connections were not made because one that was just
	// made took more than one request at once.
	Shared uint64

	// Failures is how many targets did not do, by [Try.Code].
	Failures map[Code]uint64

	// Remembered is how many requests failed at once because their server had
	// failed before.
	Remembered uint64

	// AskedAgain is how often discovery was asked again because all targets of
	// a server had failed.
	AskedAgain uint64
}

// Stats gives the counts at this moment. They are not one snapshot: each is right
// by itself.
func (t *Transport) Stats() TransportStats {
	p := t.pool()
	p.mu.Lock()
	plans := p.plans.Len()
	p.mu.Unlock()
	c := &p.stats
	return TransportStats{
		Plans:       plans,
		Connections: c.connections.Load(),
		Connecting:  int(c.connecting.Load()),
		Shared:      c.shared.Load(),
		Failures:    c.byCode(),
		Remembered:  c.remembered.Load(),
		AskedAgain:  c.again.Load(),
	}
}

type counters struct {
	connections, shared, remembered, again atomic.Uint64
	connecting                             atomic.Int64

	mu       sync.Mutex
	failures map[Code]uint64 // the codes of a Try are few
}

func (c *counters) failed(code Code) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failures == nil {
		c.failures = make(map[Code]uint64)
	}
	c.failures[code]++
}

func (c *counters) byCode() map[Code]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := make(map[Code]uint64, len(c.failures))
	for code, n := range c.failures {
		counts[code] = n
	}
	return counts
}
