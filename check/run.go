package check

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"mxdiscover/internal/printable"
	"mxdiscover/internal/servername"
	"mxdiscover/resolver"
	"mxdiscover/srv"
)

const (
	// MaxTargets is how many targets of a name are connected to. Strangers choose
	// how many there are (32 at most, see package srv); large set-ups have two or
	// three.
	//
	// With the other limits it bounds a report: an address has 96 KiB of text at
	// most (TestBound), so that MaxAddresses of them, and those of well-known, make
	// 4 MiB; the report of a real name has 5 to 20 KiB. While a check runs, each of
	// maxAtOnce addresses has six connections at most, and each of these brings
	// maxWire bytes: 24 MiB as they are sent, at the very worst. A check of two
	// addresses allocates 2 MiB in all, its servers included (BenchmarkCheck).
	MaxTargets = 8

	// MaxTargetAddresses is how many addresses of one target are connected to, as
	// many as package resolver ever dials.
	MaxTargetAddresses = 8

	// MaxAddresses is how many addresses are connected to in all.
	MaxAddresses = 32

	// maxFamily is how many addresses of the well-known host are asked in each
	// family: as many as package resolver ever dials in both.
	maxFamily = 4

	// maxAtOnce is how many addresses are connected to at the same time.
	maxAtOnce = 16
)

// run is one check.
type run struct {
	name     string
	began    time.Time
	resolver *resolver.Resolver
	rules    resolver.Rules
	roots    *x509.CertPool
	slots    chan struct{} // a place for each address that is being tried
	events   events

	report Report

	mu     sync.Mutex
	nobody resolver.Located   // see evidence
	looked map[string]srvLook // by name
	broken string             // a panic, in words
}

// srvLook is what DNS says of an SRV name.
type srvLook struct {
	answer *srv.Answer
	err    error
}

// spawn runs f on a goroutine of wg. The Resolver's functions may be the
// caller's, who cannot recover there.
func (k *run) spawn(wg *sync.WaitGroup, f func()) {
	wg.Go(func() {
		defer func() {
			if value := recover(); value != nil {
				k.mu.Lock()
				defer k.mu.Unlock()
				k.broken = fmt.Sprintf("internal error: panic: %.200q", fmt.Sprint(value))
			}
		}()
		f()
	})
}

func (k *run) check(ctx context.Context) *Report {
	k.report = Report{
		Version: SchemaVersion, ServerName: k.name, CheckedAt: k.began, Rules: k.rules.String(),
		Resolution: &resolver.Report{Result: &resolver.Result{ServerName: k.name}},
		Findings:   []Finding{}, Ways: []Way{}, WellKnown: []WellKnown{}, Targets: []Target{},
	}
	name, err := servername.Parse(k.name)
	_, hasPort := name.Port()
	if err != nil || k.resolver.Permit != nil && !k.resolver.Permit(k.name) {
		name, hasPort = servername.Name{}, false // nothing is asked
	}
	var wg sync.WaitGroup
	k.spawn(&wg, func() {
		k.resolve(ctx)
		k.follow(ctx, name)
	})
	if name.String() != "" && !name.IsIP() && !hasPort {
		k.spawn(&wg, func() { k.askWellKnown(ctx, name.DNSName()) })
	}
	wg.Wait()

	// The clock of the check is the one that its events went by; what nobody
	// could wait for is part of it.
	k.report.Duration = Duration(time.Since(k.began))
	e := evidence{looked: k.looked, nobody: k.nobody, broken: k.broken}
	if err := ctx.Err(); err != nil {
		e.cut = err
	}
	judge(&k.report, e)
	for i := range k.report.Findings {
		k.events.send(Event{Kind: EventFinding, Finding: &k.report.Findings[i]})
	}
	k.events.send(Event{Kind: EventReport, Report: &k.report})
	return &k.report
}

// resolve asks where the name leads.
func (k *run) resolve(ctx context.Context) {
	res := k.resolver.Explain(ctx, k.name)
	k.report.Resolution = res
	steps := res.Steps()
	for i := range steps {
		k.events.send(Event{Kind: EventStep, Step: &steps[i]})
	}
	k.report.Targets = make([]Target, min(len(res.Located), MaxTargets))
	for i := range k.report.Targets {
		l := res.Located[i]
		t := Target{
			Host: printable.Line(l.Host), Port: l.Port, Priority: l.Priority, Weight: l.Weight, Alias: printable.Line(l.Alias),
			Refused: l.Refused, Addresses: []Address{},
		}
		var e *resolver.Error
		if errors.As(l.Err, &e) {
			t.Error = &Problem{Code: string(e.Code), Message: printable.Line(e.Detail)}
		}
		k.report.Targets[i] = t
		told := t
		k.events.send(Event{Kind: EventTarget, Target: &told})
	}
}

// follow goes everywhere the name leads, and looks at the ways beside.
func (k *run) follow(ctx context.Context, name servername.Name) {
	var wg sync.WaitGroup
	defer wg.Wait()
	res := k.report.Resolution
	if !name.IsIP() && name.String() != "" {
		k.spawn(&wg, func() { k.lookAround(ctx, name) })
	}
	if d, ok := delegatedName(res.Result); ok && !d.IsIP() && d.DNSName() != name.DNSName() {
		k.spawn(&wg, func() { k.askDelegate(ctx, d.DNSName()) })
	}
	left := MaxAddresses
	for i := range k.report.Targets {
		t := &k.report.Targets[i]
		l := res.Located[i]
		n := min(len(l.Addresses), MaxTargetAddresses, left)
		left -= n
		t.Addresses = make([]Address, n)
		place := &place{
			run: k, host: l.Host, port: l.Port, name: res.TLSName, sni: res.SNI, header: res.Host,
			of: net.JoinHostPort(l.Host, strconv.Itoa(int(l.Port))),
		}
		for j, at := range spread(l.Addresses, n) {
			// Until it is known; and for good if the time is up, or a function of the caller's panics.
			t.Addresses[j] = Address{Address: at, TCP: Phase{Error: cutOff()}}
			k.spawn(&wg, func() {
				if !k.enter(ctx) {
					return
				}
				defer k.leave()
				t.Addresses[j] = place.try(ctx, at)
				told := t.Addresses[j]
				k.events.send(Event{Kind: EventAddress, Address: &told, Of: place.of})
			})
		}
	}
}

// spread picks n addresses, of both families if there are both.
func spread(list []netip.AddrPort, n int) []netip.AddrPort {
	if n >= len(list) {
		return list
	}
	var four, six []netip.AddrPort
	for _, a := range list {
		if a.Addr().Is4() {
			four = append(four, a)
		} else {
			six = append(six, a)
		}
	}
	fours := min(len(four), max(n/2, n-len(six)))
	return slices.Concat(six[:n-fours], four[:fours])
}

// enter waits for a place among those that connect; false means that the time is
// up.
func (k *run) enter(ctx context.Context) bool {
	select {
	case k.slots <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	if ctx.Err() != nil {
		k.leave()
		return false
	}
	return true
}

func (k *run) leave() { <-k.slots }

// delegatedName is what m.server says, if that counts: rules 3.1 to 3.5 send it
// as the Host header.
func delegatedName(res *resolver.Result) (servername.Name, bool) {
	if len(res.Step) < 3 || res.Step[:2] != "3." {
		return servername.Name{}, false
	}
	name, err := servername.Parse(res.Host)
	return name, err == nil
}

func since(t time.Time) Duration { return Duration(time.Since(t)) }
