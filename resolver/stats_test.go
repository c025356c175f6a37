package resolver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/world"
	"mxdiscover/resolver"
)

func TestStats(t *testing.T) {
	t.Parallel()
	var zero resolver.Resolver
	assert.Zero(t, zero.Stats())

	const scene = `
-- zone --
good.example.   A  203.0.113.1
none.example.   A  203.0.113.1
down.example.   A  203.0.113.9
t.example.      A  203.0.113.2
-- dns --
_matrix-fed._tcp.down.example. SRV rcode SERVFAIL
-- GET https://good.example/.well-known/matrix/server --
200

{"m.server":"t.example:443"}
`
	within(t, 0, scene, func(t *testing.T, _ *world.World, r *resolver.Resolver) {
		for range 3 {
			r.Explain(t.Context(), "good.example")
			r.Resolve(t.Context(), "none.example")
			r.Resolve(t.Context(), "down.example")
			r.Resolve(t.Context(), "1.2.3.4")
			r.Resolve(t.Context(), "not a name")
			_, err := r.Inspect("good.example")
			require.NoError(t, err)
		}
		synctest.Wait()
		assert.Equal(t, resolver.Stats{
			Hits:      2 + 2 + 2 + 3,
			Misses:    3,
			WellKnown: resolver.InputStats{Entries: 3, Fetches: 3, Failures: map[string]uint64{"not_found": 1, "connect_failed": 1}},
			SRV:       resolver.InputStats{Entries: 4, Fetches: 4, Failures: map[string]uint64{"SERVFAIL": 1}},
			Addresses: resolver.InputStats{Entries: 8, Fetches: 8},
		}, r.Stats())

		// What a caller gets is its own.
		r.Stats().WellKnown.Failures["not_found"] = 99
		assert.EqualValues(t, 1, r.Stats().WellKnown.Failures["not_found"])
		r.Forget("good.example")
		assert.Equal(t, 2, r.Stats().WellKnown.Entries)
	})
}

// TestStatsUnderWay: what has not been answered yet is under way.
func TestStatsUnderWay(t *testing.T) {
	t.Parallel()
	within(t, 0, delegation, func(t *testing.T, _ *world.World, r *resolver.Resolver) {
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { r.Resolve(t.Context(), "h.example") })
		}
		time.Sleep(100 * time.Millisecond)
		s := r.Stats()
		assert.Equal(t, 1, s.WellKnown.InFlight)
		assert.EqualValues(t, 1, s.WellKnown.Fetches)
		assert.Zero(t, s.Hits+s.Misses, "it has not come out yet")
		wg.Wait()
		s = r.Stats()
		assert.Zero(t, s.WellKnown.InFlight)
		assert.EqualValues(t, 10, s.Misses, "all have waited")
	})
}

// TestStatsReasons: a failed question has one of few reasons.
func TestStatsReasons(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ fault, reason string }{
		{"rcode SERVFAIL", "SERVFAIL"},
		{"rcode REFUSED", "REFUSED"},
		{"rcode FORMERR", "FORMERR"},
		{"rcode NOTAUTH", "other_rcode"},
		{"silent", "timeout"},
		{"garbage", "timeout"}, // it was not the answer
		{"lame", "bad_reply"},
	} {
		t.Run(test.fault, func(t *testing.T) {
			t.Parallel()
			within(t, 0, "-- dns --\n* SRV "+test.fault+"\n", func(t *testing.T, _ *world.World, r *resolver.Resolver) {
				r.LenientSRV = true // so that both names are asked
				_, err := r.Resolve(t.Context(), "h.example")
				require.NoError(t, err)
				assert.Equal(t, map[string]uint64{test.reason: 2}, r.Stats().SRV.Failures)
				assert.Equal(t, map[string]uint64{"no_address": 1}, r.Stats().WellKnown.Failures)
			})
		})
	}
	t.Run("network", func(t *testing.T) {
		t.Parallel()
		within(t, 0, "-- zone --\n", func(t *testing.T, _ *world.World, r *resolver.Resolver) {
			r.DNS.Servers = []string{"192.0.2.1:53"} // nobody listens
			_, err := r.Resolve(t.Context(), "h.example")
			require.ErrorIs(t, err, resolver.SRVTemporary)
			synctest.Wait() // for the other SRV name
			s := r.Stats()
			for _, in := range []resolver.InputStats{s.SRV, s.Addresses} {
				assert.Equal(t, map[string]uint64{"network": 2}, in.Failures)
			}
			assert.Equal(t, map[string]uint64{"dns_error": 1}, s.WellKnown.Failures)
		})
	})
	t.Run("panic", func(t *testing.T) {
		t.Parallel()
		within(t, 0, "-- zone --\nh.example. A 203.0.113.1\n", func(t *testing.T, _ *world.World, r *resolver.Resolver) {
			r.ConnectTo = func(string, uint16) (string, uint16, bool) { panic("at the disco") }
			_, err := r.Resolve(t.Context(), "h.example")
			require.ErrorIs(t, err, resolver.Internal)
			assert.Equal(t, map[string]uint64{"panic": 1}, r.Stats().WellKnown.Failures)
		})
	})
}

// Stats is what a metrics endpoint exports.
func ExampleResolver_Stats() {
	var r resolver.Resolver
	for range 3 {
		r.Resolve(context.Background(), "192.0.2.1:8449") // an address needs no question
	}
	stats := r.Stats()
	fmt.Println("hits:", stats.Hits, "misses:", stats.Misses)
	text, _ := json.Marshal(stats.WellKnown)
	fmt.Println("well-known:", string(text))
	// Output:
	// hits: 3 misses: 0
	// well-known: {"entries":0,"in_flight":0,"waiting":0,"fetches":0}
}
