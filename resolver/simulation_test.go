package resolver

import (
	"testing"
	"time"

	"mxdiscover/internal/simulation"
	"mxdiscover/wellknown"

	"github.com/stretchr/testify/assert"
)

// TestSimulated: what docs/simulation.md says of our policy was found out with the
// constants that count.
func TestSimulated(t *testing.T) {
	t.Parallel()
	ours := simulation.Ours()
	assert.Equal(t, againPause, ours.Again)
	assert.Equal(t, wellKnownTries, ours.Tries)
	assert.True(t, ours.Beside)
	assert.False(t, ours.Shared)

	s := new(Resolver).state()
	assert.Equal(t, s.wellKnown.MaxStale, ours.MaxStale)
	assert.Equal(t, srvHeadStart, simulation.HeadStart)
	assert.Equal(t, wellknown.DefaultTimeout, simulation.FetchTimeout)
	assert.Equal(t, wellKnownPause, simulation.FetchPause)
	assert.Equal(t, lately, simulation.Lately)
	assert.Equal(t, targetTimeout, simulation.DialTimeout)
	assert.Equal(t, againTimeout, simulation.AgainTimeout)
	assert.Equal(t, rememberedWait, simulation.RememberedWait)
	assert.Equal(t, newPool(new(Resolver), nil).http.IdleConnTimeout, simulation.KeepAlive)

	// Pauses and penalties are held to what they do, factors included.
	var pl plan
	now := time.Now()
	pause, penalty := ours.PauseMin, ours.PenaltyMin
	for range 8 {
		f := &failure{began: now}
		pl.allFailed(f, now)
		assert.Equal(t, pause, f.until.Sub(now))
		pause = min(pause*time.Duration(ours.PauseFactor), ours.PauseMax)

		target := Target{Host: "a.example", Port: 8448}
		pl.targetFailed(target, now)
		assert.Equal(t, penalty, pl.failed[place{target.Host, target.Port}].until.Sub(now))
		penalty = min(penalty*2, ours.PenaltyMax)
		now = now.Add(time.Hour)
	}
}
