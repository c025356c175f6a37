package check

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"mxdiscover/internal/printable"
	"mxdiscover/internal/servername"
	"mxdiscover/resolver"
	"mxdiscover/srv"
)

const (
	fedPrefix    = "_matrix-fed._tcp." // Server-Server API, Resolving server names, 3.3 and 4
	legacyPrefix = "_matrix._tcp."     // 3.4 and 5, deprecated
	matrixPort   = 8448                // 1, 3.1, 3.5 and 6

	// maxWayTargets is how many targets of a way are listed: all that an answer of
	// package srv holds.
	maxWayTargets = srv.MaxRecords
)

// lookAround asks for the SRV records of the name and of its delegate, also
// where the rules do not, and says what each way would give.
func (k *run) lookAround(ctx context.Context, name servername.Name) {
	res := k.report.Resolution.Result
	hosts := []string{name.DNSName()}
	delegated, ok := delegatedName(res)
	if ok && !delegated.IsIP() {
		hosts = append(hosts, delegated.DNSName())
	}
	var wg sync.WaitGroup
	for _, host := range slices.Compact(hosts) {
		prefixes := []string{fedPrefix, legacyPrefix}
		if k.rules == resolver.Draft2019 { // Draft 2019, step 4: _matrix._tcp alone
			prefixes = prefixes[1:]
		}
		for _, prefix := range prefixes {
			if len(prefix)+len(host) > 253 { // RFC 1035, 2.3.4: no such name exists
				continue
			}
			k.spawn(&wg, func() {
				answer, err := k.resolver.LookupSRV(ctx, prefix+host)
				k.mu.Lock()
				defer k.mu.Unlock()
				k.looked[prefix+host] = srvLook{answer, err}
			})
		}
	}
	wg.Wait()
}

// ways are all the rules and where each leads.
func ways(res *resolver.Report, name servername.Name, looked map[string]srvLook) []Way {
	var list []Way
	decided := res.Result.Step
	var chosen []string
	for _, t := range res.Targets {
		chosen = append(chosen, t.String())
	}
	delegated, _ := delegatedName(res.Result)
	for _, step := range res.Steps() {
		w := Way{Rule: step.Rule, Query: step.Query, Outcome: step.Outcome, Reason: step.Detail}
		host, prefix := name, ""
		if strings.HasPrefix(step.Rule, "3.") {
			host = delegated
		}
		switch step.Rule {
		case "3.3", "4":
			prefix = fedPrefix
		case "3.4", "5":
			prefix = legacyPrefix
		}
		if step.Outcome == resolver.Used && step.Rule == decided {
			w.Targets = chosen
		} else if host.DNSName() != "" && !host.IsIP() {
			w.lead(step.Rule, host.DNSName(), prefix, looked)
			if len(w.Targets) > 0 && len(chosen) > 0 {
				agrees := sameTargets(w.Targets, chosen)
				w.Agrees = &agrees
			}
		}
		list = append(list, w)
	}
	return list
}

// lead says where a rule would lead that does not decide.
func (w *Way) lead(rule, host, prefix string, looked map[string]srvLook) {
	if rule == "3.5" || rule == "6" {
		w.Targets = []string{hostPort(host, matrixPort)}
		return
	}
	look, ok := looked[prefix+host]
	if prefix == "" || !ok {
		return
	}
	w.Query = "SRV " + prefix + host
	if look.answer == nil {
		return
	}
	for _, r := range look.answer.Records[:min(len(look.answer.Records), maxWayTargets)] {
		w.Targets = append(w.Targets, hostPort(strings.ToLower(printable.Line(r.Target)), r.Port))
	}
}

func sameTargets(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}

// failure says what went wrong with a look-up, in the terms of package srv.
func (l srvLook) failure() *srv.Error {
	var failed *srv.Error
	errors.As(l.err, &failed)
	return failed
}
