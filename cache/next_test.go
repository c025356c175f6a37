package cache

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Only offsets decide: the wall clock may jump by years between two loads.
func TestWallClockSteps(t *testing.T) {
	t.Parallel()
	base := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	good := next(nil, Loaded[string]{Value: "a", Lifetime: 1000 * time.Second}, base, 0, 100*time.Second)
	failed := Loaded[string]{Value: "down", Status: Temporary, Lifetime: 10 * time.Second}

	for _, wall := range []time.Time{base.AddDate(-20, 0, 0), base, base.AddDate(20, 0, 0)} {
		kept := next(good, failed, wall, 900*time.Second, 100*time.Second)
		assert.Equal(t, "a", kept.Value())
		assert.False(t, kept.Stale())
		assert.Equal(t, 1000*time.Second, kept.until)
		assert.Equal(t, 910*time.Second, kept.refreshFrom)

		stale := next(kept, failed, wall, 1000*time.Second, 100*time.Second)
		assert.True(t, stale.Stale())
		assert.Equal(t, 1010*time.Second, stale.until)

		down := next(stale, failed, wall, 1100*time.Second, 100*time.Second)
		assert.Equal(t, Temporary, down.Status())
		assert.Equal(t, 3, down.Failures())
	}
}

// A lifetime of centuries does not wrap around to the past.
func TestHugeDurations(t *testing.T) {
	t.Parallel()
	const huge = time.Duration(math.MaxInt64)
	now := time.Now()
	for _, status := range []Status{Good, Bad, Temporary} {
		e := next(nil, Loaded[int]{Status: status, Lifetime: huge}, now, time.Hour, huge)
		assert.Equal(t, never, e.until)
		assert.True(t, e.Expires().After(now))
	}
	good := next(nil, Loaded[int]{Value: 1, Lifetime: time.Hour}, now, 0, huge)
	stale := next(good, Loaded[int]{Status: Temporary, Lifetime: huge}, now, 2*time.Hour, huge)
	assert.True(t, stale.Stale())
	assert.Equal(t, never, stale.until)
	assert.True(t, stale.Expires().After(now))
}

// What a load panicked with may hold bytes from the network: the error has them on one line, quoted and cut.
func TestPanicErrorText(t *testing.T) {
	t.Parallel()
	text := (&PanicError{Value: "bad\r\nX: \x1b[2J" + strings.Repeat("x", 10000)}).Error()
	assert.Contains(t, text, `"bad\r\nX: \x1b[2J`)
	assert.Less(t, len(text), 300)
	assert.NotContains(t, text, "\n")
	assert.NotContains(t, text, "\x1b")
}
