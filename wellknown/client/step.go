package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"mxdiscover/wellknown"
)

// Outcome is how a request ended.
type Outcome string

// The outcomes of a [Step].
const (
	Used      Outcome = "used"      // it has brought what was wanted, or leads there
	Absent    Outcome = "absent"    // what it asks for does not exist
	Invalid   Outcome = "invalid"   // what came back breaks the rules
	Temporary Outcome = "temporary" // it may well succeed soon
	Denied    Outcome = "denied"    // it leads to addresses that may not be dialled
)

// Step is one request and its evidence.
type Step struct {
	Rule     string        // 3 (well-known), 3.5 (/versions), 3.6 (identity server)
	Query    string        // "GET https://..."
	Outcome  Outcome       // how it ended
	Detail   string        // what came back, in one line without control characters
	Duration time.Duration // how long it took
	Hop      wellknown.Hop // the request itself
}

// MarshalJSON gives the keys rule, query, outcome, detail and duration_ms.
func (s Step) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Rule     string  `json:"rule"`
		Query    string  `json:"query"`
		Outcome  Outcome `json:"outcome"`
		Detail   string  `json:"detail,omitempty"`
		Duration float64 `json:"duration_ms"`
	}{s.Rule, s.Query, s.Outcome, s.Detail, float64(s.Duration.Microseconds()) / 1000})
}

// Steps are the requests of one fetch, redirects included. A redirect that was
// not followed is told by the request that it came back to.
func Steps(rule string, reply *wellknown.Reply) []Step {
	hops := reply.Hops
	var refused *wellknown.Error
	if n := len(hops); n > 1 && hops[n-1].Err != nil && hops[n-1].Status == 0 {
		switch hops[n-1].Err.Code {
		case wellknown.RedirectInvalid, wellknown.RedirectInsecure, wellknown.RedirectLoop:
			hops, refused = hops[:n-1], hops[n-1].Err
		}
	}
	steps := make([]Step, len(hops))
	for i, hop := range hops {
		steps[i] = Step{Rule: rule, Query: "GET " + hop.URL, Outcome: Used, Duration: hop.Duration, Hop: hop}
		switch failed := hop.Err; {
		case i == len(hops)-1 && refused != nil:
			steps[i].Outcome, steps[i].Detail = outcome(refused), fmt.Sprintf("%d, %s", hop.Status, refused.Detail)
		case failed != nil:
			steps[i].Outcome, steps[i].Detail = outcome(failed), failed.Detail
		case hop.Location != "":
			steps[i].Detail = fmt.Sprintf("%d, redirected to %s", hop.Status, hop.Location)
		default:
			steps[i].Detail = fmt.Sprintf("%d, %d bytes", http.StatusOK, len(reply.Body))
		}
	}
	return steps
}

func outcome(e *wellknown.Error) Outcome {
	switch {
	case e.Absent():
		return Absent
	case e.Code == wellknown.AddressDenied:
		return Denied
	case e.Temporary():
		return Temporary
	}
	return Invalid
}
