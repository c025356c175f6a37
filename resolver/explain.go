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
	Err     *Error    // nil if there is something to connect to
}

// Located is a target and what a connection to it would dial.
type Located struct {
	Target
	Addresses []netip.Addr // that may be dialled, in the order of RFC 8305; IPv6 first
	Refused   []Refused    // that may not
	Alias     string       // what Host is an alias (CNAME) of, if it is one
	Lookups   []Step       // the evidence: A and AAAA; Rule is that of the Result
	Err       *Error       // nil if there is an address to dial

	nonexistent bool // not even the name exists
}

// Refused is an address that may not be dialled, and why.
type Refused struct {
	Addr   netip.Addr
	Reason string
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
		errors.As(err, &report.Err)
		return report
	}
	report.Located = make([]Located, len(res.Targets))
	var wg sync.WaitGroup
	for i, target := range res.Targets {
		wg.Go(func() { report.Located[i] = r.locate(ctx, res, target, began) })
	}
	wg.Wait()
	report.Err = verdictOf(report.Located)
	return report
}

// locate looks up one target, for a report that began at the given time.
func (r *Resolver) locate(ctx context.Context, res *Result, target Target, began time.Time) Located {
	s := r.state()
	l := Located{Target: target}
	usable, refused, err := s.dial.Addresses(ctx, target.Host, target.Port)
	for _, to := range usable {
		l.Addresses = append(l.Addresses, to.Addr())
	}
	for _, a := range refused {
		reason := a.Err.Error()
		var denied *guard.DeniedError
		if errors.As(a.Err, &denied) {
			reason = denied.Reason
		}
		l.Refused = append(l.Refused, Refused{a.Addr.Addr(), reason})
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
	l.Err = &Error{ServerName: res.ServerName, Rule: res.Step, Err: err}
	// The name itself needs not be said twice.
	whose := target.Host
	if whose == lower(res.ServerName) {
		whose = "the name"
	}
	switch failed.Kind {
	case dial.Denied:
		first := l.Refused[0]
		l.Err.Code, l.Err.Detail = AddressDenied, fmt.Sprintf("%s leads to %s, which may not be dialled: %s", whose, first.Addr, first.Reason)
		if first.Addr.String() == target.Host {
			l.Err.Detail = fmt.Sprintf("%s may not be dialled: %s", first.Addr, first.Reason)
		}
	case dial.NoAddress:
		l.Err.Code, l.Err.Detail = NoAddress, whose+" has no address (no A and no AAAA record)"
		if l.nonexistent {
			l.Err.Detail = whose + " does not exist (NXDOMAIN)"
		}
	case dial.TimedOut:
		l.Err.Code, l.Err.Detail = Timeout, "no addresses of "+target.Host+" when the time was up"
	case dial.Canceled:
		l.Err.Code, l.Err.Detail = Canceled, "given up by the caller"
	default:
		l.Err.Code, l.Err.Detail = AddressTemporary, "the addresses of "+target.Host+" could not be looked up: "+describeFailure(failed.Err)
	}
	return l
}

// verdictOf is the failure of all targets: nil if one can be dialled, else
// what says most about why none can.
func verdictOf(located []Located) *Error {
	var worst *Error
	for _, l := range located {
		if l.Err == nil {
			return nil
		}
		if worst == nil || weight(l.Err.Code) > weight(worst.Code) {
			worst = l.Err
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
	bySRV := r.Step == "3.3" || r.Step == "3.4" || r.Step == "4" || r.Step == "5"
	for _, l := range r.Located {
		if l.Err != nil && r.Err == nil {
			list = append(list, Warning{"target_" + string(l.Err.Code), l.Err.Detail})
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
func (r *Report) MarshalJSON() ([]byte, error) {
	type target struct {
		Target
		Addresses []netip.Addr `json:"addresses,omitempty"`
		Lookups   []Step       `json:"lookups,omitempty"`
	}
	form := r.Result.form()
	for _, l := range r.Located {
		form.Targets = append(form.Targets, target{l.Target, l.Addresses, l.Lookups})
	}
	form.Warnings = append([]Warning{}, r.Warnings()...)
	form.Error = r.Err
	return json.Marshal(form)
}
