package resolver

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"time"

	"mxdiscover/srv"
)

// Locate looks up where a connection to host and port would go: what
// [Resolver.Explain] does for the targets of a name, for any host. What it finds
// is remembered, and shared with everything else that r does.
func (r *Resolver) Locate(ctx context.Context, host string, port uint16) Located {
	host = strings.ToLower(host)
	return r.locate(ctx, &Result{ServerName: host}, Target{Host: host, Port: port}, time.Now())
}

// LookupSRV asks for the SRV records called name, such as
// _matrix-fed._tcp.example.org, as the rules do. The answer is shared and must
// not be changed. The error says that nobody could say: an *srv.Error, or that
// of ctx.
func (r *Resolver) LookupSRV(ctx context.Context, name string) (*srv.Answer, error) {
	e, _, err := r.state().records.Get(ctx, strings.ToLower(name))
	if err != nil {
		return nil, err
	}
	return answered(e)
}

// DialAddr connects to addr, one of the addresses that [Resolver.Locate] or
// [Resolver.Explain] gives for host and port, and to no other: through the guard,
// and through DialContext and Proxy if r has them.
func (r *Resolver) DialAddr(ctx context.Context, host string, port uint16, addr netip.AddrPort) (net.Conn, error) {
	s := r.state()
	return s.dial.DialOne(ctx, host, port, addr)
}
