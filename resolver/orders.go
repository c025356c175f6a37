package resolver

import (
	"sync/atomic"

	"mxdiscover/srv"
)

// fewRecords is the largest SRV set whose orders are kept, one Result each.
// Nearly all sets are smaller; the number of orders grows as its factorial.
const fewRecords = 4

// orders are the Results of a small SRV set, one for each order of its
// records, made when it is first drawn. Drawing again costs no allocation.
type orders [4 * 3 * 2]atomic.Pointer[Result]

// draw gives the answer with its targets in an order drawn anew.
func (d *derived) draw(intn func(int) int) *Result {
	if len(d.records) > fewRecords {
		return d.ordered(srv.Order(d.records, intn))
	}
	var buf [fewRecords]srv.Record
	drawn := buf[:copy(buf[:], d.records)]
	srv.Arrange(drawn, intn)
	kept := &d.orders[rank(d.records, drawn)]
	if res := kept.Load(); res != nil {
		return res
	}
	res := d.ordered(drawn)
	kept.Store(res)
	return res
}

func (d *derived) ordered(records []srv.Record) *Result {
	res := d.res
	res.Targets = targets(records)
	return &res
}

// rank numbers the orders of a set of at most fewRecords different records:
// the place of drawn among all, in the order of a dictionary.
func rank(records, drawn []srv.Record) int {
	var place [fewRecords]int
	for i, r := range drawn {
		for j := range records {
			if records[j] == r {
				place[i] = j
			}
		}
	}
	n := 0
	for i := range drawn {
		smaller := 0
		for _, later := range place[i+1 : len(drawn)] {
			if later < place[i] {
				smaller++
			}
		}
		n = n*(len(drawn)-i) + smaller
	}
	return n
}
