package srv

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func seeded(n uint64) func(int) int { return rand.New(rand.NewPCG(n, 2782)).IntN }

func compareRecords(a, b Record) int {
	return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Weight, b.Weight), cmp.Compare(a.Target, b.Target), cmp.Compare(a.Port, b.Port))
}

// TestOrderProperties: the result is a permutation, sorted by priority, and a new slice.
func TestOrderProperties(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 1))
	for round := range 500 {
		records := make([]Record, r.IntN(12))
		for i := range records {
			records[i] = Record{Target: fmt.Sprintf("s%d", i), Port: uint16(r.IntN(65536)), Priority: uint16(r.IntN(4)), Weight: uint16(r.IntN(3)) * uint16(r.IntN(65536))}
		}
		before := slices.Clone(records)
		intn := seeded(uint64(round))
		out := Order(records, func(n int) int {
			require.Positive(t, n)
			return intn(n)
		})
		require.Equal(t, before, records, "the argument is left alone")
		require.True(t, slices.IsSortedFunc(out, func(a, b Record) int { return cmp.Compare(a.Priority, b.Priority) }))
		slices.SortFunc(before, compareRecords)
		slices.SortFunc(out, compareRecords)
		require.Equal(t, len(before), len(out))
		for i := range out {
			require.Equal(t, before[i], out[i])
		}
	}
	assert.Empty(t, Order(nil, nil))
	assert.Equal(t, []Record{{Target: "a"}}, Order([]Record{{Target: "a"}}, nil), "nil is a random source too")
}

// TestOrderWeights counts what comes where.
func TestOrderWeights(t *testing.T) {
	t.Parallel()
	const draws = 50_000
	tests := []struct {
		name    string
		weights []uint16
		first   []float64 // share of draws in which each comes first
	}{
		// The random number goes from 0 to the sum, both included: the first record of the list
		// has one chance more. That is the record of weight 0, if there is one.
		{"10 to 90", []uint16{10, 90}, []float64{10.5 / 101, 90.5 / 101}},
		{"0, 10 and 90", []uint16{0, 10, 90}, []float64{1. / 101, 10. / 101, 90. / 101}},
		{"all zero", []uint16{0, 0, 0, 0}, []float64{.25, .25, .25, .25}},
		{"equal", []uint16{7, 7, 7}, []float64{1. / 3, 1. / 3, 1. / 3}},
		{"two zeros", []uint16{0, 0, 1000}, []float64{.5 / 1001, .5 / 1001, 1000. / 1001}},
		{"largest", []uint16{65535, 65535}, []float64{.5, .5}},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			records := []Record{{Target: "later", Port: 99, Priority: 2, Weight: 65535}}
			for port, w := range tt.weights {
				records = append(records, Record{Port: uint16(port), Priority: 1, Weight: w})
			}
			first := make([]int, len(tt.weights))
			intn := seeded(uint64(i))
			for range draws {
				out := Order(records, intn)
				first[out[0].Port]++
				if out[len(out)-1].Target != "later" {
					t.Fatal("a weight outranks a priority")
				}
			}
			for j, n := range first {
				assert.InDelta(t, tt.first[j], float64(n)/draws, 0.01, "weight %d", tt.weights[j])
			}
		})
	}
	t.Run("every order of zeros", func(t *testing.T) {
		t.Parallel()
		seen := make(map[string]int)
		intn := seeded(9)
		for range 24_000 {
			var s string
			for _, r := range Order([]Record{{Target: "a"}, {Target: "b"}, {Target: "c"}, {Target: "d"}}, intn) {
				s += r.Target
			}
			seen[s]++
		}
		assert.Len(t, seen, 24)
		for s, n := range seen {
			assert.InDelta(t, 1000, n, 150, s)
		}
	})
}

// TestOrderRFC follows the algorithm of RFC 2782 with chosen numbers.
func TestOrderRFC(t *testing.T) {
	t.Parallel()
	records := []Record{{Port: 1, Weight: 0}, {Port: 2, Weight: 10}, {Port: 3, Weight: 90}}
	tests := []struct {
		numbers []int // after those of the shuffle
		want    []uint16
	}{
		{[]int{0, 0, 0}, []uint16{1, 2, 3}},
		{[]int{1, 0, 0}, []uint16{2, 1, 3}},
		{[]int{10, 1}, []uint16{2, 3, 1}},
		{[]int{11, 0, 0}, []uint16{3, 1, 2}},
		{[]int{100, 10}, []uint16{3, 2, 1}},
	}
	for _, tt := range tests {
		numbers := append([]int{2, 1}, tt.numbers...) // a shuffle that changes nothing
		out := Order(records, func(n int) int {
			next := numbers[0]
			numbers = numbers[1:]
			require.Less(t, next, n)
			return next
		})
		var ports []uint16
		for _, r := range out {
			ports = append(ports, r.Port)
		}
		assert.Equal(t, tt.want, ports)
	}
}

// Not parallel: allocations are counted for the whole process.
func TestOrderAllocates(t *testing.T) {
	records := make([]Record, MaxRecords)
	for i := range records {
		records[i] = Record{Priority: uint16(i % 3), Weight: uint16(i)}
	}
	intn := seeded(1)
	if n := testing.AllocsPerRun(100, func() { Order(records, intn) }); n > 1 {
		t.Errorf("%v allocations, want 1: the result", n)
	}
}

func BenchmarkOrder(b *testing.B) {
	for _, n := range []int{2, 8, MaxRecords} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			records := make([]Record, n)
			for i := range records {
				records[i] = Record{Priority: uint16(i % 2), Weight: uint16(10 * i)}
			}
			b.ReportAllocs()
			for b.Loop() {
				Order(records, nil)
			}
		})
	}
}
