package main

import (
	"strings"

	"mxdiscover/check"
	"mxdiscover/resolver"
)

// part is a part of the way that a check goes.
type part struct {
	area    check.Area
	reached func(*check.Report) bool // the check came as far as that
	what    string                   // in words
}

// parts are the areas of the catalogue, in their order.
func parts() []part {
	always := func(*check.Report) bool { return true }
	anyAddress := func(has func(*check.Address) bool) func(*check.Report) bool {
		return func(r *check.Report) bool {
			for i := range r.Targets {
				for j := range r.Targets[i].Addresses {
					if has(&r.Targets[i].Addresses[j]) {
						return true
					}
				}
			}
			return false
		}
	}
	answered := anyAddress(func(a *check.Address) bool { return len(a.HTTP) > 0 })
	return []part{
		{check.AreaName, always, "the name"},
		{check.AreaWellKnown, func(r *check.Report) bool { return len(r.WellKnown) > 0 || asked(r, "GET ") }, "the well-known document"},
		{check.AreaSRV, func(r *check.Report) bool { return asked(r, "SRV ") }, "the SRV records"},
		{check.AreaAddresses, func(r *check.Report) bool { return len(r.Targets) > 0 }, "the addresses of the targets"},
		{check.AreaConnection, anyAddress(func(*check.Address) bool { return true }), "the connections"},
		{check.AreaTLS, anyAddress(func(a *check.Address) bool { return a.TLS != nil }), "TLS and the certificates"},
		{check.AreaMatrix, answered, "the version over HTTP/2 and HTTP/1.1"},
		{check.AreaKeys, answered, "the signing keys"},
		{check.AreaCheck, always, "the check itself"},
	}
}

// asked says whether a question of this kind was asked for any rule.
func asked(r *check.Report, kind string) bool {
	for _, w := range r.Ways {
		if w.Outcome != resolver.Skipped && strings.HasPrefix(w.Query, kind) {
			return true
		}
	}
	return false
}
