package srv_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/miekg/dns"

	"mxdiscover/srv"
)

// nameServer runs a small DNS server on loopback, so that the examples need no network.
func nameServer(zone ...string) (addr string, stop func()) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	s := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetRcode(q, dns.RcodeNameError)
		for _, line := range zone {
			r, err := dns.NewRR(line)
			if err == nil && r.Header().Name == q.Question[0].Name && r.Header().Rrtype == q.Question[0].Qtype {
				m.Rcode = dns.RcodeSuccess
				m.Answer = append(m.Answer, r)
			}
		}
		w.WriteMsg(m)
	})}
	started := make(chan struct{})
	s.NotifyStartedFunc = func() { close(started) }
	go s.ActivateAndServe()
	<-started
	return conn.LocalAddr().String(), func() { s.Shutdown() }
}

func ExampleClient_LookupSRV() {
	server, stop := nameServer(
		"_matrix-fed._tcp.example.org. 300 IN SRV 20 0 8448 spare.example.org.",
		"_matrix-fed._tcp.example.org. 300 IN SRV 10 0 8443 matrix.example.org.",
		"_matrix-fed._tcp.example.org. 300 IN SRV 10 0 8443 192.0.2.1.",
		"_matrix-fed._tcp.example.com. 300 IN SRV 0 0 0 .",
	)
	defer stop()
	c := &srv.Client{Servers: []string{server}} // the zero Client asks the servers of resolv.conf
	for _, name := range []string{"example.org", "example.com", "example.net", "a..b"} {
		a, err := c.LookupSRV(context.Background(), "_matrix-fed._tcp."+name)
		if errors.Is(err, srv.ErrName) {
			fmt.Println(err)
			continue
		}
		if err != nil {
			panic(err) // nobody knows: that is not the same as none
		}
		fmt.Println(name, a.Outcome, a.Rcode, a.TTL)
		for _, r := range srv.Order(a.Records, nil) {
			fmt.Println(" ", r.Target, r.Port)
		}
		for _, d := range a.Dropped {
			fmt.Println("  not", d.Record.Target+":", d.Reason)
		}
	}
	// Output:
	// example.org found NOERROR 5m0s
	//   matrix.example.org 8443
	//   spare.example.org 8448
	//   not 192.0.2.1: target is an IP address or ends in a number
	// example.com unavailable NOERROR 5m0s
	// example.net absent NXDOMAIN 5s
	// SRV _matrix-fed._tcp.a..b: not a DNS name
}

func ExampleClient_LookupAddrs() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	hosts := filepath.Join(dir, "hosts")
	if err := os.WriteFile(hosts, []byte("192.0.2.7 matrix.example.org\n"), 0o600); err != nil {
		panic(err)
	}
	c := &srv.Client{HostsFile: hosts}
	for _, typ := range []srv.Type{srv.TypeA, srv.TypeAAAA} {
		a, err := c.LookupAddrs(context.Background(), "matrix.example.org", typ)
		if err != nil {
			panic(err)
		}
		fmt.Println(a.Type, a.Outcome, a.Addrs)
	}
	// Output:
	// A found [192.0.2.7]
	// AAAA absent []
}

func ExampleOrder() {
	records := []srv.Record{
		{Target: "spare.example.org", Port: 8448, Priority: 20},
		{Target: "large.example.org", Port: 8448, Priority: 10, Weight: 90},
		{Target: "small.example.org", Port: 8448, Priority: 10, Weight: 10},
	}
	// A random source that always draws the largest number; leave it nil for a real one.
	for _, r := range srv.Order(records, func(n int) int { return n - 1 }) {
		fmt.Println(r.Target)
	}
	// Output:
	// small.example.org
	// large.example.org
	// spare.example.org
}
