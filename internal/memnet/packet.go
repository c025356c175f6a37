package memnet

import (
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// A packetConn sends and receives datagrams at one address; with a peer it is what a dial
// gives, and hears from that peer alone.
type packetConn struct {
	net  *Network
	at   netip.AddrPort
	peer netip.AddrPort // zero: from anybody

	gate
	queue                       []datagram
	closed                      bool
	readDeadline, writeDeadline time.Time
}

type datagram struct {
	at   time.Time // when it is there
	from netip.AddrPort
	data []byte
	err  error // in place of data: what an ICMP message reports
}

func (p *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	p.Lock()
	defer p.Unlock()
	for {
		switch {
		case p.closed:
			return 0, nil, p.wrap("read", net.ErrClosed)
		case passed(p.readDeadline):
			return 0, nil, p.wrap("read", os.ErrDeadlineExceeded)
		}
		var next time.Time
		if len(p.queue) > 0 {
			d := p.queue[0]
			if passed(d.at) {
				p.queue = p.queue[1:]
				if d.err != nil {
					return 0, nil, p.wrap("read", d.err)
				}
				return copy(b, d.data), net.UDPAddrFromAddrPort(d.from), nil
			}
			next = d.at
		}
		p.wait(earlier(next, p.readDeadline))
	}
}

func (p *packetConn) Read(b []byte) (int, error) {
	n, _, err := p.ReadFrom(b)
	return n, err
}

func (p *packetConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	if p.peer.IsValid() {
		return 0, p.wrap("write", net.ErrWriteToConnected)
	}
	to, err := parse("udp", addr.String())
	if err != nil {
		return 0, err
	}
	return p.send(b, to)
}

func (p *packetConn) Write(b []byte) (int, error) {
	if !p.peer.IsValid() {
		return 0, p.wrap("write", os.NewSyscallError("write", syscall.EDESTADDRREQ))
	}
	return p.send(b, p.peer)
}

func (p *packetConn) send(b []byte, to netip.AddrPort) (int, error) {
	p.Lock()
	closed, late := p.closed, passed(p.writeDeadline)
	p.Unlock()
	switch {
	case closed:
		return 0, p.wrap("write", net.ErrClosed)
	case late:
		return 0, p.wrap("write", os.ErrDeadlineExceeded)
	case len(b) > maxDatagram:
		return 0, p.wrap("write", os.NewSyscallError("write", syscall.EMSGSIZE))
	}
	p.net.mu.Lock()
	dropped, dst := p.net.dropped[to], p.net.packets[to]
	p.net.mu.Unlock()
	now := time.Now()
	switch {
	case dropped:
	case dst != nil:
		dst.deliver(datagram{at: now.Add(p.net.Latency), from: p.at, data: append([]byte(nil), b...)})
	case p.peer.IsValid(): // "port unreachable" comes back; only a connected socket learns of it
		p.deliver(datagram{at: now.Add(2 * p.net.Latency), from: to, err: os.NewSyscallError("read", syscall.ECONNREFUSED)})
	}
	return len(b), nil
}

func (p *packetConn) deliver(d datagram) {
	p.Lock()
	defer p.Unlock()
	if p.closed || len(p.queue) == maxDatagrams || p.peer.IsValid() && d.from != p.peer {
		return
	}
	p.queue = append(p.queue, d)
	// A message from the network itself takes twice as long as a datagram sent after it.
	for i := len(p.queue) - 1; i > 0 && p.queue[i].at.Before(p.queue[i-1].at); i-- {
		p.queue[i], p.queue[i-1] = p.queue[i-1], p.queue[i]
	}
	p.broadcast()
}

func (p *packetConn) Close() error {
	p.Lock()
	if p.closed {
		p.Unlock()
		return p.wrap("close", net.ErrClosed)
	}
	p.closed, p.queue = true, nil
	p.broadcast()
	p.Unlock()
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	if p.net.packets[p.at] == p {
		delete(p.net.packets, p.at)
	}
	return nil
}

func (p *packetConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(p.at) }

// RemoteAddr is nil where there is no peer, as that of *net.UDPConn.
func (p *packetConn) RemoteAddr() net.Addr {
	if !p.peer.IsValid() {
		return nil
	}
	return net.UDPAddrFromAddrPort(p.peer)
}

func (p *packetConn) SetDeadline(t time.Time) error {
	p.SetReadDeadline(t)
	return p.SetWriteDeadline(t)
}

func (p *packetConn) SetReadDeadline(t time.Time) error {
	p.Lock()
	defer p.Unlock()
	p.readDeadline = t
	p.broadcast()
	return nil
}

func (p *packetConn) SetWriteDeadline(t time.Time) error {
	p.Lock()
	defer p.Unlock()
	p.writeDeadline = t
	return nil
}

func (p *packetConn) wrap(op string, err error) error {
	return opError(op, "udp", p.LocalAddr(), p.RemoteAddr(), err)
}
