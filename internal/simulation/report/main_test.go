package main

import (
	"testing"
	"time"

	"mxdiscover/internal/simulation"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestReplace(t *testing.T) {
	t.Parallel()
	text := []byte("a\n<!-- generated: x -->\nold\n<!-- end -->\nb\n<!-- generated: y -->\n<!-- end -->\n")
	got, err := replace(text, "x", "new\n")
	require.NoError(t, err)
	assert.Equal(t, "a\n<!-- generated: x -->\nnew\n<!-- end -->\nb\n<!-- generated: y -->\n<!-- end -->\n", string(got))
	again, err := replace(got, "x", "new\n")
	require.NoError(t, err)
	assert.Equal(t, got, again)
	_, err = replace(text, "z", "")
	assert.EqualError(t, err, `simulation.md has no place for "z"`)
}

func TestWords(t *testing.T) {
	t.Parallel()
	for x, want := range map[float64]string{0: "0", 0.25: "0.25", 12.34: "12.3", 999: "999", 1000: "1 000", 1234567: "1 234 567"} {
		assert.Equal(t, want, number(x))
	}
	for d, want := range map[time.Duration]string{0: "0", 30 * time.Millisecond: "30 ms", 90 * time.Second: "90 s", 15 * time.Minute: "15 min", 36 * time.Hour: "36.0 h"} {
		assert.Equal(t, want, duration(d))
	}
	assert.Equal(t, "| a | b |\n|---|--:|\n| 1 | 2 |\n", table([][]string{{"a", "b"}, {"1", "2"}}))
	assert.Equal(t, 12.0, worst([]float64{1, 5, 7, 0, 3, 8}, 2))
}

// Each sweep has our value in it, and its policy is ours there.
func TestSweeps(t *testing.T) {
	t.Parallel()
	small := sample()
	small.Servers, small.End, small.MovesEnd, small.Busiest = 300, 48*time.Hour, 40*time.Hour, 0.01
	want := simulation.Run(small, simulation.Ours(), 1)
	for _, s := range sweeps() {
		assert.Contains(t, s.values, s.ours, s.key)
		p := simulation.Ours()
		s.apply(&p, s.ours)
		assert.Equal(t, want, simulation.Run(small, p, 1), s.key)
	}
}
