package main

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"

	"mxdiscover/internal/servername"
	"mxdiscover/resolver"
	"mxdiscover/srv"
)

// errorHint says what to do about a name that failed, or nothing.
func errorHint(r *resolver.Report) string {
	switch r.Err.Code {
	case resolver.InvalidServerName:
		if name := guess(r.ServerName); name != "" {
			return "did you mean " + name + "?"
		}
	case resolver.SRVTemporary, resolver.AddressTemporary:
		return dnsHint(r.Err)
	case resolver.SRVUnavailable:
		return "the owner of the name must point the SRV record at a host and port, or remove it"
	case resolver.NoAddress:
		host := r.TLSName
		if len(r.Located) > 0 {
			host = r.Located[0].Host
		}
		if r.Step == "6" {
			return "check the spelling; the owner must delegate by https://" + host + "/.well-known/matrix/server or SRV, or give " + host + " an A or AAAA record"
		}
		return "the owner must give " + host + " an A or AAAA record, or delegate to another host"
	case resolver.AddressDenied:
		for _, l := range r.Located {
			if len(l.Refused) == 0 {
				continue
			}
			addr := l.Refused[0].Addr.WithZone("").Unmap()
			return "if this network is yours, --allow-net " + netip.PrefixFrom(addr, addr.BitLen()).String() + " lets it be dialled"
		}
	case resolver.WellKnownInvalid:
		return `the owner must serve {"m.server":"HOST:PORT"}; --rules current goes on to SRV here`
	case resolver.Timeout:
		return "--timeout gives it more time; -v shows what it waited for"
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
	case "":
		return "no DNS server answered: see --dns and /etc/resolv.conf, and whether there is a network"
	case "SERVFAIL":
		return "SERVFAIL often is a broken DNSSEC signature or a dead name server of the domain"
	case "REFUSED":
		return "this DNS server does not serve you: name another one with --dns"
	}
	return ""
}

// warningHint says what to do about a warning, or nothing.
func warningHint(w resolver.Warning, _ *resolver.Report) string {
	switch w.Code {
	case "well_known_tls_failed":
		return "the owner must renew or correct the certificate of that host; --cacert FILE adds a CA of your own"
	case "well_known_not_json", "well_known_not_object", "well_known_empty_body", "well_known_server_missing", "well_known_server_invalid":
		return `the owner must serve exactly {"m.server":"HOST:PORT"} there, or answer with status 404`
	case "well_known_redirect_insecure":
		return "the owner must redirect to https"
	case "well_known_address_denied":
		return "if this network is yours, --allow-net lets it be dialled"
	}
	return ""
}

// guess finds the server name that was meant.
func guess(given string) string {
	candidate := strings.TrimSpace(given)
	if u, err := url.Parse(candidate); err == nil && u.Host != "" {
		candidate = u.Host
	} else if _, after, ok := strings.Cut(candidate, ":"); ok && strings.ContainsAny(candidate[:1], "@#!") {
		candidate = after // a Matrix ID: what follows the first colon
	} else if before, _, ok := strings.Cut(candidate, "/"); ok {
		candidate = before
	}
	candidate = strings.TrimSuffix(candidate, ".")
	if strings.Count(candidate, ":") > 1 && !strings.HasPrefix(candidate, "[") {
		candidate = "[" + candidate + "]"
	}
	if name, err := servername.Parse(candidate); err == nil && name.String() != given {
		return name.String()
	}
	return ""
}
