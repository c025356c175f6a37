package resolver_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/world"
	"mxdiscover/resolver"
	"mxdiscover/srv"
)

const located = `
-- zone --
h.example.  A     203.0.113.1
h.example.  AAAA  2001:db8::1
p.example.  A     10.0.0.1
a.example.  CNAME h.example.
_matrix-fed._tcp.h.example.  SRV  10 5 8450 h.example.
-- servers --
203.0.113.1:443
-- dns --
broken.example.  *  rcode SERVFAIL
*.broken.example.  *  rcode SERVFAIL
`

func TestLocate(t *testing.T) {
	t.Parallel()
	within(t, 0, located, func(t *testing.T, w *world.World, r *resolver.Resolver) {
		l := r.Locate(t.Context(), "H.example", 443)
		require.NoError(t, l.Err)
		assert.Equal(t, []netip.AddrPort{netip.MustParseAddrPort("[2001:db8::1]:443"), netip.MustParseAddrPort("203.0.113.1:443")}, l.Addresses)
		assert.Len(t, l.Lookups, 2)
		asked := len(w.Asked())
		r.Locate(t.Context(), "h.example", 8448)
		assert.Len(t, w.Asked(), asked, "known already")

		assert.Equal(t, "h.example", r.Locate(t.Context(), "a.example", 443).Alias)
		for host, code := range map[string]resolver.Code{
			"p.example": resolver.AddressDenied, "none.example": resolver.NoAddress, "broken.example": resolver.AddressTemporary,
		} {
			l := r.Locate(t.Context(), host, 443)
			assert.ErrorIs(t, l.Err, code, host)
			assert.Empty(t, l.Addresses, host)
		}
		assert.Len(t, r.Locate(t.Context(), "p.example", 443).Refused, 1)
	})
}

func TestLookupSRV(t *testing.T) {
	t.Parallel()
	within(t, 0, located, func(t *testing.T, _ *world.World, r *resolver.Resolver) {
		answer, err := r.LookupSRV(t.Context(), "_matrix-fed._tcp.H.example")
		require.NoError(t, err)
		assert.Equal(t, []srv.Record{{Target: "h.example", Port: 8450, Priority: 10, Weight: 5}}, answer.Records)

		answer, err = r.LookupSRV(t.Context(), "_matrix._tcp.h.example")
		require.NoError(t, err)
		assert.Equal(t, srv.Absent, answer.Outcome)

		_, err = r.LookupSRV(t.Context(), "_matrix._tcp.broken.example")
		var failed *srv.Error
		require.ErrorAs(t, err, &failed)
		assert.Equal(t, "SERVFAIL", failed.Rcode())

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = r.LookupSRV(ctx, "_matrix._tcp.other.example")
		assert.ErrorIs(t, err, context.Canceled)
	})
}

func TestDialAddr(t *testing.T) {
	t.Parallel()
	within(t, 0, located, func(t *testing.T, _ *world.World, r *resolver.Resolver) {
		conn, err := r.DialAddr(t.Context(), "h.example", 443, netip.MustParseAddrPort("203.0.113.1:443"))
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		_, err = r.DialAddr(t.Context(), "h.example", 443, netip.MustParseAddrPort("10.0.0.1:443"))
		assert.ErrorContains(t, err, "may not be dialled")
	})
}

// TestContextEndsQuestions: what nobody waits for any more ends with the
// Resolver's Context, and what is asked after that ends at once.
func TestContextEndsQuestions(t *testing.T) {
	t.Parallel()
	const silent = "-- zone --\nh.example. A 203.0.113.1\n-- servers --\n203.0.113.1:443 drop\n-- dns --\n_matrix-fed._tcp.h.example. * silent\n"
	within(t, 0, silent, func(t *testing.T, w *world.World, r *resolver.Resolver) {
		ctx, cancel := context.WithCancel(t.Context())
		r.Context = ctx
		began := time.Now()
		time.AfterFunc(time.Second, cancel)
		_, err := r.Resolve(t.Context(), "h.example")
		require.Error(t, err)
		assert.Equal(t, time.Second, time.Since(began))
		_, err = r.Resolve(t.Context(), "other.example")
		var failed *resolver.Error
		require.True(t, errors.As(err, &failed))
		assert.Equal(t, time.Second, time.Since(began), "at once")
	})
}
