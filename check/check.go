package check

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"mxdiscover/resolver"
)

// A Duration is a time.Duration whose JSON form is a number of milliseconds.
type Duration time.Duration

// MarshalJSON gives milliseconds with three decimals at most.
func (d Duration) MarshalJSON() ([]byte, error) {
	return json.Marshal(float64(time.Duration(d).Microseconds()) / 1000)
}

// UnmarshalJSON takes milliseconds.
func (d *Duration) UnmarshalJSON(data []byte) error {
	var ms float64
	if err := json.Unmarshal(data, &ms); err != nil {
		return err
	}
	*d = Duration(ms * float64(time.Millisecond))
	return nil
}

// DefaultTimeout bounds the check of one name.
const DefaultTimeout = 60 * time.Second

// A Checker checks server names. The zero Checker is ready to use: public
// addresses only, the system's resolver and roots. Its fields must not change
// after the first use. It may be used by many goroutines at once and remembers
// nothing: every check asks anew.
type Checker struct {
	// NewResolver makes the Resolver of one check. Its settings (DNS, RootCAs,
	// AllowNets, DialContext, ConnectTo, Rules, UserAgent) count for everything that
	// the check does. If nil, a zero Resolver.
	NewResolver func() *resolver.Resolver

	// Timeout bounds the check of one name. If zero, DefaultTimeout.
	Timeout time.Duration

	// OnEvent is told what happens while it happens, one call at a time for each
	// check. It must return soon. If nil, nobody is.
	OnEvent func(Event)
}

// An Event is something that has just happened in a check.
type Event struct {
	Kind EventKind `json:"kind"`

	// One of these is set, as Kind says.
	Asked     *Asked         `json:"asked,omitempty"`
	Step      *resolver.Step `json:"step,omitempty"`
	WellKnown *WellKnown     `json:"well_known,omitempty"`
	Target    *Target        `json:"target,omitempty"`
	Address   *Address       `json:"address,omitempty"`
	Finding   *Finding       `json:"finding,omitempty"`
	Report    *Report        `json:"report,omitempty"`

	// Of is the target (host:port) that Address belongs to.
	Of string `json:"of,omitempty"`
}

// Asked is a question of discovery, in the order of the answers.
type Asked struct {
	Query    string   `json:"query"` // "GET https://...", "SRV _matrix-fed._tcp.example.org"
	Detail   string   `json:"detail"`
	Duration Duration `json:"duration_ms"`
}

// EventKind says what an Event is about.
type EventKind string

// The kinds of events.
const (
	EventAsked     EventKind = "asked"      // a question of discovery was answered, or was not
	EventStep      EventKind = "step"       // a rule of discovery has ended
	EventWellKnown EventKind = "well_known" // one address of the well-known host has answered
	EventTarget    EventKind = "target"     // a target's addresses are known; none was connected to yet
	EventAddress   EventKind = "address"    // one address of a target has been tried
	EventFinding   EventKind = "finding"    // something was found
	EventReport    EventKind = "report"     // the check has ended; the last event
)

// Check checks a server name. The report is never nil. When ctx or Timeout ends
// the check, the report says so and has what was found out until then.
//
// Nothing outlives a check but the goroutines that are about to see its end. What
// it holds in memory is bounded whatever the servers say, see [MaxTargets].
func (c *Checker) Check(ctx context.Context, serverName string) *Report {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.Timeout, DefaultTimeout))
	defer cancel()
	r := new(resolver.Resolver)
	if c.NewResolver != nil {
		r = c.NewResolver()
	}
	k := &run{
		began:  time.Now(),
		slots:  make(chan struct{}, maxAtOnce),
		events: events{tell: c.OnEvent},
		looked: make(map[string]srvLook),
		name:   serverName,
	}
	defer k.events.close()
	if r.Context != nil {
		defer context.AfterFunc(r.Context, cancel)()
	}
	r.Context = ctx
	r.Logger = slog.New(&listener{events: &k.events, next: r.Logger})
	k.resolver, k.rules, k.roots = r, r.Rules, r.RootCAs
	return k.check(ctx)
}
