package resolver

import (
	"crypto/sha256"
	"encoding/base32"
	"net"
	"slices"
	"strings"

	"mxdiscover/srv"
)

// route is what an answer says of a connection. Two answers with the same label
// may use each other's connections. It does not change.
type route struct {
	// label stands for Host header (in lower case), TLS name and targets, as the
	// host of a URL: net/http shares connections by it.
	label   string
	tlsName string
	targets []Target
	records []srv.Record // the same, if their order has to be drawn
}

// encoding gives labels that every step on the way to a pool takes for a plain
// host name.
var encoding = base32.HexEncoding.WithPadding(base32.NoPadding)

// route gives the route of an answer that has one.
func (d *derived) route() *route {
	if r := d.way.Load(); r != nil {
		return r
	}
	r := &route{tlsName: d.res.TLSName, targets: d.res.Targets, records: d.records}
	places := make([]string, len(r.targets))
	for i, t := range r.targets {
		places[i] = t.String()
	}
	// DNS turns its answers round; the set is what counts. Priorities and
	// weights choose among targets, and any target will do for a connection.
	slices.Sort(places)
	// 128 bits of a digest, not a short hash: whoever found another set with
	// the same label could be sent what was meant for it.
	// Case means nothing to a server (RFC 9110, 4.2.3), and a stranger chooses it.
	digest := sha256.Sum256([]byte(strings.ToLower(d.res.Host + " " + r.tlsName + " " + strings.Join(places, " "))))
	name := strings.ReplaceAll(r.tlsName, ":", "-") // an IPv6 address
	_, port, _ := net.SplitHostPort(places[0])
	// The name and the port are for whoever reads a trace.
	r.label = net.JoinHostPort(strings.ToLower(name+"."+encoding.EncodeToString(digest[:16])), port)
	d.way.Store(r)
	return r
}

// order gives the targets as RFC 2782 wants them for one connection: drawn
// anew.
func (r *route) order(intn func(int) int) []Target {
	if r.records == nil {
		return slices.Clone(r.targets)
	}
	return targets(srv.Order(r.records, intn))
}
