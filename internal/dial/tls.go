package dial

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
)

// DialTLS is Dial with a TLS handshake as config wants it. The connection is a
// *tls.Conn.
func (d *Dialer) DialTLS(ctx context.Context, host string, port uint16, config *tls.Config) (net.Conn, netip.AddrPort, error) {
	conn, err := d.Dial(ctx, host, port, func(ctx context.Context, raw net.Conn) (net.Conn, error) {
		secured := tls.Client(raw, config)
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		return secured, nil
	})
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	return conn.Conn, conn.Addr, nil
}

// SystemLookup asks the system's resolver, for a fully qualified name: the
// search list of /etc/resolv.conf would let another domain answer.
func SystemLookup(ctx context.Context, host string, v6 bool) ([]netip.Addr, error) {
	network := "ip4"
	if v6 {
		network = "ip6"
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, network, host+".")
	if dnsErr, ok := err.(*net.DNSError); ok && dnsErr.IsNotFound {
		return nil, nil
	}
	return addrs, err
}
