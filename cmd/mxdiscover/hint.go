package main

import (
	"errors"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"mxdiscover/internal/servername"
	"mxdiscover/resolver"
	"mxdiscover/srv"
)

// errorHint says what to do about a name that failed, or nothing.
func errorHint(r *resolver.Report) string {
	var e *resolver.Error
	if !errors.As(r.Err, &e) {
		return ""
	}
	switch e.Code {
	case resolver.InvalidServerName:
		if name := guess(r.ServerName); name != "" {
			return "did you mean " + name + "?"
		}
	case resolver.SRVTemporary, resolver.AddressTemporary:
		return dnsHint(e)
	case resolver.SRVUnavailable:
		return "point the SRV record at a host and port, or remove it"
	case resolver.NoAddress:
		return addressHint(r)
	case resolver.AddressDenied:
		return deniedHint(r)
	case resolver.WellKnownInvalid:
		return `serve exactly {"m.server":"HOST:PORT"} there; --rules current goes on to SRV here`
	case resolver.Timeout:
		return "--timeout gives it more time; -v shows what it waited for"
	}
	return ""
}

// addressHint says where an address is missing.
func addressHint(r *resolver.Report) string {
	host := r.TLSName
	if len(r.Located) > 0 {
		host = r.Located[0].Host
	}
	switch r.Step {
	case "3.2", "3.5":
		return "correct m.server, or give " + host + " an A or AAAA record"
	case "3.3", "3.4", "4", "5":
		return "point the SRV record at another host, or give " + host + " an A or AAAA record"
	case "6":
		if !strings.Contains(host, ".") {
			return "the name has no dot: is it a mistyped verb? See mxdiscover --help"
		}
		return "check the spelling; the name needs an A or AAAA record, or SRV records _matrix-fed._tcp"
	}
	return "check the spelling; the name needs an A or AAAA record"
}

// deniedHint names the network that opens the first refused address.
func deniedHint(r *resolver.Report) string {
	for _, l := range r.Located {
		if len(l.Refused) == 0 {
			continue
		}
		addr := l.Refused[0].Allow.WithZone("")
		if !addr.IsValid() {
			return "this is no address of a server: correct the record"
		}
		network := netip.PrefixFrom(addr, addr.BitLen()).String()
		return "others may see another address (try --dns); if this network is yours, use --allow-net " + network
	}
	return ""
}

// dnsHint tells a server that is not there from one that answers badly.
func dnsHint(err error) string {
	var failed *srv.Error
	if !errors.As(err, &failed) {
		return ""
	}
	switch failed.Rcode() {
	case "SERVFAIL":
		return "SERVFAIL often is a broken DNSSEC signature or a dead name server of the domain"
	case "REFUSED":
		return "this DNS server does not serve you: name another one with --dns"
	case "":
		switch {
		case errors.Is(failed.Err, os.ErrDeadlineExceeded):
			return "the DNS server is silent, or those of the domain are: try another one with --dns"
		case failed.Err != nil:
			return "no DNS server answered: see --dns and /etc/resolv.conf, and whether there is a network"
		}
		return "the DNS server answers nonsense: try another one with --dns"
	}
	return ""
}

// warningHint says what to do about a warning, or nothing.
func warningHint(w resolver.Warning) string {
	code, ok := strings.CutPrefix(w.Code, "well_known_")
	if !ok {
		return ""
	}
	switch code {
	case "tls_failed":
		switch {
		case strings.Contains(w.Message, "does not speak TLS"):
			return "enable https on that port"
		case !strings.Contains(w.Message, "certificate"):
			return "a firewall, a proxy or the handling of SNI may stand before it"
		case strings.Contains(w.Message, "valid only from"):
			return "wait, or correct the certificate; or the clock of this machine is wrong"
		}
		return "renew or correct the certificate of that host; --cacert FILE trusts a CA of your own"
	case "not_json", "not_object", "empty_body", "server_missing", "server_invalid":
		return `serve exactly {"m.server":"HOST:PORT"} there, or answer with status 404`
	case "http_status":
		if strings.Contains(w.Message, "status 5") || strings.Contains(w.Message, "status 429") {
			return "the web server, or what it is a proxy for, is failing"
		}
		return "a login, a filter or a wrong path stands before it: serve the document, or status 404"
	case "too_large":
		return "this is some other page: serve the document, or status 404"
	case "redirect_insecure":
		return "redirect to https"
	case "redirect_invalid", "redirect_loop":
		return "correct the redirect, or serve the document itself"
	case "timeout":
		return "a firewall that drops, or a server that hangs: check port 443 from outside"
	case "address_denied":
		return "others may see another address (try --dns); if that network is yours, use --allow-net"
	}
	return ""
}

// guess finds the server name that was meant.
func guess(given string) string {
	candidate := strings.TrimSpace(given)
	if u, err := url.Parse(candidate); err == nil && u.Host != "" {
		candidate = u.Host
		// https://matrix.to/#/@user:server
		if _, id, ok := strings.Cut(u.Fragment, ":"); ok && strings.EqualFold(u.Host, "matrix.to") {
			candidate, _, _ = strings.Cut(id, "?")
			candidate, _, _ = strings.Cut(candidate, "/")
		}
	} else if candidate != "" && strings.ContainsAny(candidate[:1], "@#!$+") {
		_, candidate, _ = strings.Cut(candidate, ":") // a Matrix ID: what follows the first colon
	} else if _, host, ok := strings.Cut(candidate, "@"); ok {
		candidate = host
	} else {
		candidate, _, _ = strings.Cut(candidate, "/")
	}
	candidate = strings.TrimRight(candidate, ".:")
	if strings.Count(candidate, ":") > 1 && !strings.HasPrefix(candidate, "[") {
		candidate = "[" + candidate + "]"
	}
	if name, err := servername.Parse(candidate); err == nil && name.String() != given {
		return name.String()
	}
	return ""
}
