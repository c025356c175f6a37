package check

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"mxdiscover/internal/printable"
	"mxdiscover/internal/servername"
	"mxdiscover/resolver"
	"mxdiscover/srv"
)

// judgeSRV judges the records that decide, and those that do not count.
func (j *judgement) judgeSRV() {
	if j.name.IsIP() {
		return
	}
	owner := j.owner()
	if owner != "" {
		j.judgeRecords(owner)
	}
	j.judgeIgnored()
}

// owner is the host whose SRV records decide; empty if none do.
func (j *judgement) owner() string {
	switch step := j.Resolution.Step; step {
	case "3.3", "3.4", "3.5":
		return j.delegated.DNSName()
	case "4", "5", "6":
		return j.host
	}
	return ""
}

// judgeRecords judges the SRV records of the host whose records decide.
func (j *judgement) judgeRecords(owner string) {
	fed, legacy := j.looked[fedPrefix+owner], j.looked[legacyPrefix+owner]
	if j.Rules == resolver.Current.String() {
		if f := fed.failure(); f != nil {
			j.lookFailed(fedPrefix+owner, f)
			return
		}
		if fed.answer != nil && fed.answer.Outcome != srv.Absent {
			j.judgeSet(fedPrefix+owner, owner, fed.answer)
			if legacy.answer != nil && legacy.answer.Outcome == srv.Found && !sameRecords(fed.answer, legacy.answer) {
				j.add("srv_legacy_differs", owner, "_matrix-fed._tcp.%s and _matrix._tcp.%s lead to different servers.", owner, owner).
					because(recordLine(fedPrefix+owner, fed.answer), recordLine(legacyPrefix+owner, legacy.answer)).
					fix(Fix{Title: "Publish the same records under the old name, or remove those.", Where: "dns", Text: zoneLines(legacyPrefix+owner, fed.answer.Records)})
			}
			return
		}
	}
	if f := legacy.failure(); f != nil {
		j.lookFailed(legacyPrefix+owner, f)
		return
	}
	if legacy.answer == nil || legacy.answer.Outcome == srv.Absent {
		return
	}
	j.judgeSet(legacyPrefix+owner, owner, legacy.answer)
	if j.Rules == resolver.Current.String() && legacy.answer.Outcome == srv.Found {
		j.add("srv_legacy_only", owner, "Only the deprecated record _matrix._tcp.%s exists, not _matrix-fed._tcp.%s.", owner, owner).
			because(recordLine(legacyPrefix+owner, legacy.answer), "SRV "+fedPrefix+owner+": there is none").
			fix(Fix{Title: "Publish the record under its new name.", Where: "dns", Text: zoneLines(fedPrefix+owner, legacy.answer.Records)})
	}
}

// lookFailed judges a look-up that nobody answered.
func (j *judgement) lookFailed(name string, f *srv.Error) {
	detail := printable.Line(strings.TrimPrefix(f.Error(), f.Type.String()+" "+f.Name+": "))
	line := "SRV " + name + ": " + detail
	trace := Fix{Title: "See what the name servers of the zone say.", Where: "shell", Text: "dig +trace SRV " + name + "\ndig SRV " + name}
	if unasked(f) {
		j.noDNS(f)
		return
	}
	switch code := j.lookCode(f); code {
	case "srv_servfail":
		j.add(code, name, "The DNS fails for %s (SERVFAIL); DNSSEC signatures that do not fit are the usual cause.", name).because(line).
			fix(Fix{Title: "Compare with and without validation: if the second one answers, the signatures are wrong.", Where: "shell",
				Text: "dig SRV " + name + "\ndig +cd SRV " + name}, trace)
	case "srv_timeout":
		j.add(code, name, "The DNS does not answer the question for %s.", name).because(line).
			fix(Fix{Title: "First see whether the DNS server that was asked answers at all; if not, check from another machine.", Where: "shell", Text: "dig NS ."}, trace)
	default:
		j.add(code, name, "The DNS server does not answer for %s: %s.", name, detail).because(line).fix(trace)
	}
}

// unasked reports whether no DNS server was reached at all, which says something
// about this machine and nothing about the name.
func unasked(f *srv.Error) bool {
	return len(f.Tries) > 0 && !slices.ContainsFunc(f.Tries, func(t srv.Try) bool {
		return !slices.ContainsFunc([]error{
			syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.ECONNREFUSED, syscall.EACCES, syscall.EPERM, syscall.EADDRNOTAVAIL,
		}, func(local error) bool { return errors.Is(t.Err, local) })
	})
}

// noDNS notes that nothing could be asked.
func (j *judgement) noDNS(f *srv.Error) {
	if j.has("check_timeout") {
		return
	}
	line := printable.Line(f.Error())
	_, detail, _ := strings.Cut(line, ": ")
	j.add("check_timeout", "", "This machine reaches no DNS server (%s), so nothing is known of %s.", detail, j.ServerName).because(line).
		fix(Fix{Title: "See which DNS servers this machine asks, and whether it has a network.", Where: "shell", Text: "cat /etc/resolv.conf"},
			Fix{Title: "Check from another machine."})
}

// lookCode tells the ways apart in which a look-up fails.
func (j *judgement) lookCode(f *srv.Error) string {
	switch {
	case slices.ContainsFunc(f.Tries, func(t srv.Try) bool { return t.Rcode == "SERVFAIL" }):
		return "srv_servfail"
	case !f.Timeout() && len(f.Tries) > 0:
		return "srv_refused" // an rcode, a lame referral, garbage: it was no silence
	case slices.ContainsFunc(f.Tries, func(t srv.Try) bool { return t.Err == nil }):
		return "srv_refused"
	}
	return "srv_timeout"
}

// judgeSet judges the records of one name, which decide.
func (j *judgement) judgeSet(name, owner string, a *srv.Answer) {
	line := recordLine(name, a)
	better := Fix{Title: "Name a host and its port.", Where: "dns", Text: zoneLine(name, srv.Record{Priority: 10, Weight: 5, Port: matrixPort, Target: "matrix." + owner})}
	if a.Outcome == srv.Unavailable && len(a.Dropped) == 0 {
		j.add("srv_unavailable", name, `%s has the target ".": it says that there is no Matrix server.`, name).because(line).
			fix(Fix{Title: "Remove the record: then port 8448 of " + owner + " counts."}, better)
		return
	}
	none := len(a.Records) == 0
	by := make(map[string][]srv.Dropped)
	for _, d := range a.Dropped {
		by[d.Reason] = append(by[d.Reason], d)
	}
	if none && len(by) > 1 {
		j.add("srv_unusable", name, "None of the records of %s can be used.", name).because(dropLines(name, a.Dropped)...).fix(better)
		return
	}
	if n := len(a.Records); n > MaxTargets {
		count := strconv.Itoa(n)
		if len(by[srv.DropExcess]) > 0 {
			count = fmt.Sprintf("more than %d", n)
		}
		j.add("srv_too_many", name, "%s has %s records; nobody tries so many, and only the first %d were checked.", name, count, MaxTargets).because(line).
			fix(Fix{Title: "Publish a handful.", Where: "dns", Text: zoneLines(name, a.Records[:min(len(a.Records), 3)])})
	}
	severity := func(f *Finding) {
		if none {
			f.as(SeverityError)
		}
	}
	for _, kind := range []struct{ reason, code, format string }{
		{srv.DropAddress, "srv_ip", "The target of %s is an IP address (%s), not the name of a host."},
		{srv.DropRoot, "srv_root_beside", `One of several targets of %s is "." (%s).`},
		{srv.DropPort, "srv_port_zero", "A record of %s has port 0 (%s)."},
		{srv.DropName, "srv_unusable", "The target of %s is not the name of a host (%s)."},
		{srv.DropDuplicate, "srv_duplicate", "%s has a record twice (%s)."},
	} {
		list := by[kind.reason]
		if len(list) == 0 {
			continue
		}
		f := j.add(kind.code, name, kind.format, name, dropText(list[0])).because(dropLines(name, list)...)
		switch kind.reason {
		case srv.DropName:
			if !none {
				f.as(SeverityWarning)
			}
		case srv.DropAddress, srv.DropPort:
			severity(f)
		}
		switch kind.reason {
		case srv.DropDuplicate, srv.DropRoot:
			f.fix(Fix{Title: "Remove the record; these are enough.", Where: "dns", Text: zoneLines(name, a.Records)})
		case srv.DropAddress:
			f.fix(Fix{Title: "Name a host that has this address.", Where: "dns", Text: hostedRecord(name, owner, list[0].Record)})
		case srv.DropPort:
			record := list[0].Record
			record.Port = matrixPort
			f.fix(Fix{Title: "Write the port of the server.", Where: "dns", Text: zoneLine(name, record)})
		default:
			f.fix(better)
		}
	}
	for _, l := range j.Resolution.Located {
		if l.Alias != "" && slices.ContainsFunc(a.Records, func(r srv.Record) bool { return strings.EqualFold(r.Target, l.Host) }) {
			var fixed []srv.Record
			for _, r := range a.Records {
				if strings.EqualFold(r.Target, l.Host) {
					r.Target = l.Alias
				}
				fixed = append(fixed, r)
			}
			j.add("srv_cname", l.Host, "%s, the target of %s, is an alias (CNAME) of %s.", l.Host, name, printable.Line(l.Alias)).
				because(line, l.Host+" is an alias of "+printable.Line(l.Alias)).
				fix(Fix{Title: "Name the host itself.", Where: "dns", Text: zoneLines(name, fixed)})
		}
	}
}

// judgeIgnored judges SRV records that do not count: those of the name beside a
// document, and those beside a port.
func (j *judgement) judgeIgnored() {
	step := j.Resolution.Step
	decided := targetNames(j.Resolution.Targets)
	_, namePort := j.name.Port()
	_, delegatedPort := j.delegated.Port()
	switch {
	case namePort:
		j.ignored("srv_ignored_port", j.host, decided, fmt.Sprintf("the server name %s has a port", j.name))
	case strings.HasPrefix(step, "3."):
		if delegatedPort && !j.delegated.IsIP() && j.delegated.DNSName() != j.host {
			j.ignored("srv_ignored_port", j.delegated.DNSName(), decided, fmt.Sprintf("m.server, %s, has a port", j.delegated))
		}
		if j.delegated.DNSName() == j.host && !delegatedPort {
			return // they do count, as those of the delegated name
		}
		j.ignored("srv_ignored", j.host, decided, fmt.Sprintf("the well-known document delegates to %s", j.delegated))
	}
}

// ignored judges the records of a host that lead to nothing.
func (j *judgement) ignored(code, host string, decided []string, why string) {
	for _, prefix := range []string{fedPrefix, legacyPrefix} {
		a := j.looked[prefix+host].answer
		if a == nil || a.Outcome != srv.Found {
			continue
		}
		var lead []string
		for _, r := range a.Records {
			lead = append(lead, hostPort(strings.ToLower(printable.Line(r.Target)), r.Port))
		}
		f := j.add(code, prefix+host, "The SRV records of %s, which lead to %s, are ignored: %s.", prefix+host, enumerate(lead, 3), why).
			because(recordLine(prefix+host, a), "used: "+enumerate(decided, 4)).
			fix(Fix{Title: "Remove the records, unless somebody else needs them.", Where: "dns"})
		if sameTargets(lead, decided) {
			f.as(SeverityNotice)
		}
		return
	}
}

func targetNames(targets []resolver.Target) []string {
	var list []string
	for _, t := range targets {
		list = append(list, t.String())
	}
	return list
}

func sameRecords(a, b *srv.Answer) bool {
	key := func(answer *srv.Answer) []string {
		var list []string
		for _, r := range answer.Records {
			list = append(list, hostPort(strings.ToLower(r.Target), r.Port))
		}
		return list
	}
	return sameTargets(key(a), key(b))
}

// recordLine is evidence: the question and the records.
func recordLine(name string, a *srv.Answer) string {
	var list []string
	for _, r := range a.Records {
		list = append(list, recordText(r))
	}
	for _, d := range a.Dropped {
		list = append(list, dropText(d))
	}
	text := enumerate(list, 4)
	if len(list) == 0 {
		text = "0 0 0 ."
	}
	return printable.Line("SRV " + name + ": " + text)
}

func recordText(r srv.Record) string {
	return printable.Line(fmt.Sprintf("%d %d %d %s", r.Priority, r.Weight, r.Port, r.Target))
}

func dropText(d srv.Dropped) string { return recordText(d.Record) + ": " + d.Reason }

func dropLines(name string, dropped []srv.Dropped) []string {
	var list []string
	for _, d := range dropped {
		list = append(list, printable.Line("SRV "+name+": "+dropText(d)))
	}
	return list
}

// zoneLine is a record as it stands in a zone file. It is empty if the target is
// no host name.
func zoneLine(name string, r srv.Record) string {
	target, err := servername.Parse(r.Target)
	if _, hasPort := target.Port(); err != nil || hasPort || target.IsIP() {
		return ""
	}
	return fmt.Sprintf("%s. 3600 IN SRV %d %d %d %s.", name, r.Priority, r.Weight, r.Port, target.DNSName())
}

func zoneLines(name string, records []srv.Record) string {
	var list []string
	for _, r := range records[:min(len(records), 8)] {
		if line := zoneLine(name, r); line != "" {
			list = append(list, line)
		}
	}
	return strings.Join(list, "\n")
}

// hostedRecord gives the IP address in a record a name.
func hostedRecord(name, owner string, r srv.Record) string {
	host := "matrix." + owner
	address := ""
	if ip, err := servername.Parse(r.Target); err == nil && ip.IsIP() {
		address = addressLine(host, ip.Addr()) + "\n"
	}
	r.Target, r.Port = host, cmp.Or(r.Port, matrixPort)
	return address + zoneLine(name, r)
}

// judgeAddresses judges where the targets' names lead.
func (j *judgement) judgeAddresses() {
	var failed *resolver.Error
	errors.As(j.Resolution.Err, &failed)
	located := j.Resolution.Located
	usable := false
	var four, six bool
	for _, l := range located {
		usable = usable || len(l.Addresses) > 0
		f, s := family(l.Addresses)
		four, six = four || f, six || s
	}
	bySRV := slices.Contains([]string{"3.3", "3.4", "4", "5"}, j.Resolution.Step)
	for i, l := range located {
		host := printable.Line(l.Host)
		var e *resolver.Error
		errors.As(l.Err, &e)
		if len(l.Refused) > 0 {
			j.refused(host, l, usable)
			continue
		}
		if e == nil {
			continue
		}
		if slices.ContainsFunc(located[:i], func(other resolver.Located) bool { return other.Host == l.Host }) {
			continue // the same host at another port
		}
		evidence := []string{}
		for _, step := range l.Lookups {
			evidence = append(evidence, printable.Line(step.Query+": "+step.Detail))
		}
		if len(evidence) == 0 {
			evidence = append(evidence, printable.Line("A, AAAA "+l.Host+": "+e.Detail))
		}
		switch e.Code {
		case resolver.NoAddress:
			code := "target_no_address"
			if usable && bySRV {
				code = "srv_target_no_address"
			}
			what := "has no address"
			if strings.Contains(e.Detail, "NXDOMAIN") {
				what = "does not exist (NXDOMAIN), so it has no address"
			}
			f := j.add(code, host, "%s %s%s.", host, what, j.namedBy(host)).because(evidence...).
				fix(Fix{Title: "Publish the addresses of the server.", Where: "dns", Text: host + ". 3600 IN A <IPv4 address>\n" + host + ". 3600 IN AAAA <IPv6 address>"})
			if bySRV {
				f.fix(Fix{Title: "Remove the SRV record that names " + host + ", or let it name the host that is meant."})
			}
		case resolver.AddressTemporary:
			if failed := (*srv.Error)(nil); errors.As(e, &failed) && unasked(failed) {
				j.noDNS(failed)
				continue
			}
			f := j.add("target_dns", host, "The addresses of %s could not be looked up%s.", host, j.namedBy(host)).because(evidence...).
				fix(Fix{Title: "See what the name servers of the zone say.", Where: "shell", Text: "dig +trace A " + host + "\ndig AAAA " + host})
			if usable {
				f.as(SeverityWarning)
			}
		}
	}
	if j.name.IsIP() || j.delegated.IsIP() || !usable {
		return
	}
	var targets []string
	for _, l := range located {
		if len(l.Addresses) > 0 && !slices.Contains(targets, l.Host) {
			targets = append(targets, l.Host)
		}
	}
	where := enumerate(targets, 3)
	switch {
	case six && !four:
		j.add("ipv6_only", where, "There are only IPv6 addresses for %s, and none of IPv4.", where).because(j.addressLines()...).
			fix(Fix{Title: "Publish an IPv4 address too.", Where: "dns", Text: targets[0] + ". 3600 IN A <IPv4 address>"})
	case four && !six:
		j.add("ipv4_only", where, "There are only IPv4 addresses for %s, and none of IPv6.", where).because(j.addressLines()...)
	}
}

// namedBy says who names a target.
func (j *judgement) namedBy(host string) string {
	switch {
	case host == j.host:
		return ""
	case strings.HasPrefix(j.Resolution.Step, "3.") && host == j.delegated.DNSName():
		return ", and m.server names it"
	case strings.HasPrefix(j.Resolution.Step, "3."), j.Resolution.Step == "4", j.Resolution.Step == "5":
		return ", and an SRV record points at it"
	}
	return ""
}

func (j *judgement) addressLines() []string {
	var list []string
	for _, l := range j.Resolution.Located {
		for _, a := range l.Addresses {
			list = append(list, printable.Line(l.Host)+" has the address "+a.Addr().String())
		}
	}
	return list
}

// refused judges addresses that nobody connects to.
func (j *judgement) refused(host string, l resolver.Located, usable bool) {
	var evidence []string
	var private []string
	for _, r := range l.Refused {
		private = append(private, r.Addr.String())
		evidence = append(evidence, fmt.Sprintf("%s has the address %s: %s", host, r.Addr, printable.Line(r.Reason)))
	}
	fixes := []Fix{{Title: "Publish public addresses alone."}}
	switch {
	case l.Refused[0].Addr.String() != l.Host:
		fixes = []Fix{{Title: "Publish public addresses alone.", Where: "dns", Text: host + ". 3600 IN A <public IPv4 address>"}}
	case j.delegable(): // the address is what m.server says: it has no records
		fixes = []Fix{{Title: "Let m.server of " + j.host + " name a host with public addresses."}}
	}
	if first := l.Refused[0]; first.Allow.IsValid() {
		bits := first.Allow.BitLen()
		fixes = append(fixes, Fix{Title: "If this is a federation of its own network, allow it here.", Where: "shell",
			Text: fmt.Sprintf("mxdiscover check --allow-net %s/%d %s", first.Allow, bits, j.shellName())})
	}
	if len(l.Addresses) > 0 || usable {
		var records []string
		for _, r := range l.Refused {
			records = append(records, addressLine(host, r.Addr))
		}
		fixes[0] = Fix{Title: "Remove the record.", Where: "dns", Text: strings.Join(records, "\n")}
		j.add("address_private_some", host, "%s has the private address %s%s.", host, enumerate(private, 3), j.namedBy(host)).because(evidence...).fix(fixes...)
		return
	}
	message := fmt.Sprintf("%s has only the private address %s%s.", host, enumerate(private, 3), j.namedBy(host))
	if l.Refused[0].Addr.String() == l.Host {
		message = fmt.Sprintf("%s is a private address: %s.", host, printable.Line(l.Refused[0].Reason))
	}
	j.add("address_private", host, "%s", message).because(evidence...).fix(fixes...)
}
