package simulation

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Cause is why a request failed, or reached somebody else, although its server was up.
type Cause uint8

const (
	Wrong      Cause = iota // somebody else answered, where the server had been
	Gone                    // nobody did, where it had been
	Undirected              // well-known could not be had, and port 8448 was not it
	LeftAlone               // it was left alone for what had failed before
	Late                    // it was down when the request began to connect
	causes
)

// Move is what a server's move did to the requests that followed.
type Move struct {
	After After
	// Until is the time from the move to the last request that did not reach the
	// server because it had moved. Zero if there was none.
	Until time.Duration
	// Missed are those requests, and Requests all after the move.
	Missed, Requests float64
	Weight           float64
}

// Tally is what came of a run. Counts are those of the whole federation, after Warm.
type Tally struct {
	Hours float64

	Requests  float64
	WellKnown struct{ Alive, Dead float64 } // fetches begun, tries included
	DNS       float64                       // questions sent
	Dials     struct{ Alive, Dead float64 } // attempts to connect to one target
	Vain      float64                       // seconds that requests waited for targets that did not answer, but another did
	Refreshes float64                       // fetches that nobody waited for

	// Living are the requests to servers that are not gone for ever, and Waits those
	// of them that waited for discovery, with the sum of the waits in seconds. The
	// others fail whatever they wait for.
	Living   float64
	Waited   float64
	Seconds  float64
	LongWait float64 // waits of more than five seconds
	waits    [waitBuckets]float64
	// DeadSeconds are the seconds that requests to the dead have waited.
	DeadSeconds float64

	Failed float64 // requests that did not reach the server, for whatever reason
	Caused [causes]float64

	Moves []Move

	// Minutes are fetches of well-known a minute, from the beginning on.
	Minutes []float64
}

// Waits are kept in buckets that grow by a twentieth from a millisecond on.
const waitBuckets = 260

func (t *Tally) wait(d time.Duration, weight float64) {
	t.Waited += weight
	t.Seconds += weight * d.Seconds()
	if d > 5*time.Second {
		t.LongWait += weight
	}
	i := 0
	if d > time.Millisecond {
		i = min(int(math.Log(float64(d)/1e6)/math.Log(1.05))+1, waitBuckets-1)
	}
	t.waits[i] += weight
}

// WaitQuantile is the wait of which a share q of the requests to the living stay
// below.
func (t *Tally) WaitQuantile(q float64) time.Duration {
	rest := t.Living*q - (t.Living - t.Waited)
	if rest <= 0 {
		return 0
	}
	for i, n := range t.waits {
		if rest -= n; rest <= 0 {
			return time.Duration(1e6 * math.Pow(1.05, float64(i)))
		}
	}
	return time.Duration(1e6 * math.Pow(1.05, waitBuckets))
}

// MoveQuantile is the Until of which a share q of the moves of these kinds stay
// below. Moves that nobody sent a request after do not count.
func (t *Tally) MoveQuantile(q float64, kinds ...After) time.Duration {
	list, sum := t.moves(kinds)
	slices.SortFunc(list, func(a, b Move) int { return cmp.Compare(a.Until, b.Until) })
	rest := q * sum
	for _, m := range list {
		if rest -= m.Weight; rest <= 0 {
			return m.Until
		}
	}
	return 0
}

// MoveMean is the mean of Until, and how many requests were missed, per move.
func (t *Tally) MoveMean(kinds ...After) (until time.Duration, missed float64) {
	list, sum := t.moves(kinds)
	if sum == 0 {
		return 0, 0
	}
	var total float64
	for _, m := range list {
		total += m.Weight * float64(m.Until)
		missed += m.Weight * m.Missed
	}
	return time.Duration(total / sum), missed / sum
}

func (t *Tally) moves(kinds []After) (list []Move, sum float64) {
	for _, m := range t.Moves {
		if m.Requests > 0 && (len(kinds) == 0 || slices.Contains(kinds, m.After)) {
			list = append(list, m)
			sum += m.Weight
		}
	}
	return list, sum
}

// Peak is the largest number of fetches in a minute between two times, and the mean.
func (t *Tally) Peak(from, to time.Duration) (peak, mean float64) {
	part := t.Minutes[from/time.Minute : to/time.Minute]
	for _, n := range part {
		peak = max(peak, n)
		mean += n / float64(len(part))
	}
	return peak, mean
}

// CausedAll are all requests that missed a server that was up.
func (t *Tally) CausedAll() float64 {
	var sum float64
	for _, n := range t.Caused {
		sum += n
	}
	return sum
}
