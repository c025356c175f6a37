package resolver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"mxdiscover/internal/dial"
	"mxdiscover/internal/guard"
	"mxdiscover/srv"
)

// Report is a Result with the addresses that its targets lead to.
type Report struct {
	*Result           // never nil; only ServerName is set if the name is not valid
	Located []Located // the Result's targets in their order
	Err     error     // nil if there is something to connect to, else an *[Error]
}

// Located is a target and what a connection to it would dial.
type Located struct {
	Target
	Addresses []netip.AddrPort // that would be dialled, IPv6 first; the port is the target's unless ConnectTo says otherwise
	Refused   []Refused        // that may not be dialled
	Alias     string           // what Host is an alias (CNAME) of, if it is one
	Lookups   []Step           // the evidence: A and AAAA; Rule is that of the Result
	Err       error            // nil if there is an address to dial, else an *[Error]

	nonexistent bool // not even the name exists
}

// Refused is an address that may not be dialled, and why.
type Refused struct {
	Addr   netip.Addr `json:"address"`
	Reason string     `json:"reason"`

	// Allow is what a prefix of Resolver.AllowNets must hold to open Addr: the
	// IPv4 address inside an IPv6 one. It is the zero Addr if nothing opens it.
	Allow netip.Addr `json:"-"`
}

// Explain resolves serverName as Resolve does, looks up the addresses of every
// target as a connection would, and says how all that ended. The report is
// never nil; its Err is set if Resolve failed, or if no target has an address
// that may be dialled.
func (r *Resolver) Explain(ctx context.Context, serverName string) *Report {
	began := time.Now()
	res, err := r.Resolve(ctx, serverName)
	report := &Report{Result: res}
	if res == nil {
		report.Result = &Result{ServerName: serverName}
	}
	if err != nil {
		report.Err = err
		return report
	}
	report.Located = make([]Located, len(res.Targets))
	var wg sync.WaitGroup
	for i, target := range res.Targets {
		wg.Go(func() {
			// ConnectTo is the caller's, who cannot recover on this goroutine.
			defer func() {
				if value := recover(); value != nil {
					report.Located[i] = Located{Target: target, Err: &Error{Code: Internal, ServerName: res.ServerName, Rule: res.Step,
						Detail: fmt.Sprintf("internal error: panic: %.200q", fmt.Sprint(value))}}
				}
			}()
			report.Located[i] = r.locate(ctx, res, target, began)
		})
	}
	wg.Wait()
	if worst := verdictOf(report.Located); worst != nil {
		report.Err = worst
	}
	return report
}

// locate looks up one target, for a report that began at the given time.
func (r *Resolver) locate(ctx context.Context, res *Result, target Target, began time.Time) Located {
	s := r.state()
	l := Located{Target: target}
	usable, refused, err := s.dial.Addresses(ctx, target.Host, target.Port)
	l.Addresses = usable
	for _, a := range refused {
		reason, allow := a.Err.Error(), netip.Addr{}
		var denied *guard.DeniedError
		if errors.As(a.Err, &denied) {
			reason = denied.Reason
			if !denied.Unwrapped.IsUnspecified() {
				allow = denied.Unwrapped
			}
		}
		l.Refused = append(l.Refused, Refused{a.Addr.Addr(), reason, allow})
	}
	for _, typ := range []srv.Type{srv.TypeAAAA, srv.TypeA} {
		if e, ok := s.addrs.Peek(addrKey{target.Host, typ}); ok {
			l.Lookups = append(l.Lookups, lookupStep(res.Step, typ.String()+" "+target.Host, e, knownAt(e, began)))
			if answer, err := answered(e); err == nil {
				l.nonexistent = l.nonexistent || answer.Rcode == "NXDOMAIN" // of any type (RFC 8020)
				l.Alias = cmp.Or(l.Alias, answer.Canonical)
			}
		}
	}
	var failed *dial.Error
	if !errors.As(err, &failed) {
		return l
	}
	e := &Error{Code: AddressTemporary, ServerName: res.ServerName, Rule: res.Step, Err: err}
	l.Err = e
	switch failed.Kind {
	case dial.Denied:
		first := l.Refused[0]
		e.Code, e.Detail = AddressDenied, fmt.Sprintf("its address %s may not be dialled: %s", first.Addr, first.Reason)
		if first.Addr.String() == target.Host {
			e.Detail = "it may not be dialled: " + first.Reason
		}
	case dial.NoAddress:
		e.Code, e.Detail = NoAddress, "it has no address (no A and no AAAA record)"
		if l.nonexistent {
			e.Detail = "it does not exist (NXDOMAIN)"
		}
	case dial.TimedOut:
		e.Code, e.Detail = Timeout, "no answer about its addresses when the time was up"
	case dial.Canceled:
		e.Code, e.Detail = Canceled, "given up by the caller"
	default:
		e.Detail = "its addresses could not be looked up: " + describeFailure(failed.Err)
	}
	// Where the name of the target comes from is what has to be changed.
	switch res.Step {
	case "3.1", "3.2", "3.5":
		e.Detail = fmt.Sprintf("m.server names %s: %s", target.Host, e.Detail)
	case "3.3", "3.4", "4", "5":
		e.Detail = fmt.Sprintf("an SRV record points at %s: %s", target.Host, e.Detail)
	}
	return l
}

// verdictOf is the failure of all targets: nil if one can be dialled, else
// what says most about why none can.
func verdictOf(located []Located) *Error {
	var worst *Error
	for _, l := range located {
		var e *Error
		if !errors.As(l.Err, &e) {
			return nil
		}
		if worst == nil || weight(e.Code) > weight(worst.Code) {
			worst = e
		}
	}
	return worst
}

// weight orders the failures of targets: addresses that exist and are refused
// are no DNS failure, and a look-up that failed may yet bring an address.
func weight(code Code) int {
	switch code {
	case AddressDenied:
		return 3
	case Timeout, Canceled:
		return 2
	case AddressTemporary:
		return 1
	}
	return 0
}

// Warnings gives what works and should be changed, the addresses' part
// included.
func (r *Report) Warnings() []Warning {
	list := r.Result.Warnings()
	if r.Result == nil {
		return nil
	}
	bySRV := r.Step == "3.3" || r.Step == "3.4" || r.Step == "4" || r.Step == "5"
	for _, l := range r.Located {
		var e *Error
		if errors.As(l.Err, &e) && r.Err == nil {
			list = append(list, Warning{"target_" + string(e.Code), e.Detail})
		}
		if l.Err == nil && len(l.Refused) > 0 {
			list = append(list, Warning{"address_refused", fmt.Sprintf("%s of %s may not be dialled: %s", l.Refused[0].Addr, l.Host, l.Refused[0].Reason)})
		}
		// RFC 2782: the target must not be an alias.
		if bySRV && l.Alias != "" {
			list = append(list, Warning{"srv_target_cname", fmt.Sprintf("the SRV target %s is an alias (CNAME) of %s, which RFC 2782 forbids", l.Host, l.Alias)})
		}
	}
	return list
}

// MarshalJSON gives the form that the command prints.
func (r Report) MarshalJSON() ([]byte, error) {
	if r.Result == nil {
		r.Result = new(Result)
	}
	type target struct {
		Target
		Addresses []netip.Addr `json:"addresses,omitempty"`
		Refused   []Refused    `json:"refused,omitempty"`
		Lookups   []Step       `json:"lookups,omitempty"`
	}
	form := r.Result.form()
	for _, l := range r.Located {
		t := target{Target: l.Target, Refused: l.Refused, Lookups: l.Lookups}
		for _, to := range l.Addresses {
			t.Addresses = append(t.Addresses, to.Addr())
		}
		form.Targets = append(form.Targets, t)
	}
	form.Warnings = append([]Warning{}, r.Warnings()...)
	errors.As(r.Err, &form.Error)
	return json.Marshal(form)
}
