package srv

import (
	"cmp"
	"math/rand/v2"
	"slices"
)

// Order returns records in the order in which RFC 2782 wants them tried: by priority, and among
// those of one priority drawn by weight. A record of weight 0 is rarely drawn before a weighted one;
// among themselves those are shuffled. The result is a new slice.
//
// The random source intn(n) returns a number from 0 to n-1. If nil, it is that of math/rand/v2.
func Order(records []Record, intn func(n int) int) []Record {
	out := slices.Clone(records)
	Arrange(out, intn)
	return out
}

// Arrange is [Order] in place.
func Arrange(out []Record, intn func(n int) int) {
	if intn == nil {
		intn = rand.IntN
	}
	for i := len(out) - 1; i > 0; i-- {
		j := intn(i + 1)
		out[i], out[j] = out[j], out[i]
	}
	// Within a priority those of weight 0 come first, the rest in any order (RFC 2782, Weight).
	slices.SortStableFunc(out, func(a, b Record) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(min(a.Weight, 1), min(b.Weight, 1)))
	})
	for from := 0; from < len(out); {
		to := from + 1
		for to < len(out) && out[to].Priority == out[from].Priority {
			to++
		}
		draw(out[from:to], intn)
		from = to
	}
}

// draw orders records of one priority by weight: again and again it picks the first one whose running
// sum is not below a random number from 0 to the sum of all, both included (RFC 2782, Weight).
func draw(records []Record, intn func(n int) int) {
	sum := 0
	for _, r := range records {
		sum += int(r.Weight)
	}
	for ; sum > 0; records = records[1:] {
		n, i := intn(sum+1), 0
		for running := int(records[0].Weight); running < n; running += int(records[i].Weight) {
			i++
		}
		picked := records[i]
		copy(records[1:i+1], records[:i]) // the others keep their order
		records[0] = picked
		sum -= int(picked.Weight)
	}
}
