package simulation

import "time"

// event is a request that goes on at a time.
type event struct {
	at  time.Duration
	seq uint32 // of two at the same time, the one that was put in first
	req int32
}

// queue gives events in order: a heap.
type queue struct {
	heap []event
	seq  uint32
}

func (e event) before(o event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

func (q *queue) push(at time.Duration, req int32) {
	q.seq++
	q.heap = append(q.heap, event{at, q.seq, req})
	i := len(q.heap) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !q.heap[i].before(q.heap[up]) {
			break
		}
		q.heap[i], q.heap[up] = q.heap[up], q.heap[i]
		i = up
	}
}

func (q *queue) pop() event {
	first := q.heap[0]
	last := len(q.heap) - 1
	q.heap[0] = q.heap[last]
	q.heap = q.heap[:last]
	for i := 0; ; {
		next := 2*i + 1
		if next >= last {
			break
		}
		if next+1 < last && q.heap[next+1].before(q.heap[next]) {
			next++
		}
		if !q.heap[next].before(q.heap[i]) {
			break
		}
		q.heap[i], q.heap[next] = q.heap[next], q.heap[i]
		i = next
	}
	return first
}
