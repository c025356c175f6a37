package world

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"time"
)

const (
	year = 365 * 24 * time.Hour
	// maxCertificates bounds what is kept of certificates made on the fly: a wildcard in the zone
	// makes any number of names possible.
	maxCertificates = 1 << 10
)

// serverOptions are one line of a section "servers". The zero value is a good server.
type serverOptions struct {
	fault string        // "", "refuse", "drop", "reset", "close", "stall-handshake", "reset-handshake"
	cert  string        // "", "self-signed", "expired", "not-yet-valid", "untrusted"
	names []string      // in the certificate, in place of the right ones
	noIP  bool          // no certificate for the address
	delay time.Duration // of the connection
	tls12 bool
	http1 bool
	plain bool
}

func parseServer(f []string) (at netip.AddrPort, o serverOptions, err error) {
	at, err = netip.ParseAddrPort(f[0])
	if err != nil || at.Port() == 0 || at.Addr().Zone() != "" {
		return at, o, fmt.Errorf("%q is not an address and port", f[0])
	}
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	for f = f[1:]; len(f) > 0; f = f[1:] {
		switch f[0] {
		case "refuse", "drop", "reset", "close", "stall-handshake", "reset-handshake":
			if o.fault != "" {
				return at, o, fmt.Errorf("both %s and %s", o.fault, f[0])
			}
			o.fault = f[0]
		case "tls12":
			o.tls12 = true
		case "http1":
			o.http1 = true
		case "plain":
			o.plain = true
		case "cert", "accept-delay":
			if len(f) == 1 {
				return at, o, fmt.Errorf("%s needs a word after it", f[0])
			}
			if f[0] == "cert" {
				err = o.parseCert(f[1])
			} else {
				o.delay, err = duration(f[1])
			}
			if err != nil {
				return at, o, err
			}
			f = f[1:]
		default:
			return at, o, fmt.Errorf("unknown option %q", f[0])
		}
	}
	return at, o, nil
}

func (o *serverOptions) parseCert(word string) error {
	if names, ok := strings.CutPrefix(word, "names="); ok {
		o.names = strings.Split(names, ",")
		for _, n := range o.names {
			if n == "" {
				return fmt.Errorf("an empty name in %q", word)
			}
		}
		return nil
	}
	switch word {
	case "none-ip":
		o.noIP = true
	case "self-signed", "expired", "not-yet-valid", "untrusted":
		if o.cert != "" {
			return fmt.Errorf("a certificate both %s and %s", o.cert, word)
		}
		o.cert = word
	default:
		return fmt.Errorf("unknown kind of certificate %q", word)
	}
	return nil
}

// An issuer is a certificate authority.
type issuer struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newIssuer(name string) (*issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-2 * year), NotAfter: now.Add(30 * year),
		KeyUsage: x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &issuer{key, cert}, err
}

// certificate gives the one for an endpoint and the name that a client asked for.
func (w *World) certificate(at netip.AddrPort, o serverOptions, sni string) (*tls.Certificate, error) {
	names := o.names
	switch {
	case names != nil:
	case sni == "" && !o.noIP:
		names = []string{at.Addr().String()}
	case sni != "" && w.scene().leads(sni, at):
		names = []string{strings.ToLower(sni)}
	default:
		// The address's own names, so that a wrong name is as wrong as on a real server.
		for _, host := range w.scene().hosts() {
			if w.scene().leads(host, at) {
				names = append(names, host)
			}
		}
		if names == nil && !o.noIP {
			names = []string{at.Addr().String()}
		}
		if names == nil {
			names = []string{"nobody.invalid"}
		}
	}
	key := o.cert + " " + strings.Join(names, " ")

	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.certs[key]; c != nil {
		return c, nil
	}
	c, err := w.issueLocked(o.cert, names)
	if err != nil {
		return nil, err
	}
	if len(w.certs) >= maxCertificates {
		clear(w.certs)
	}
	w.certs[key] = c
	return c, nil
}

func (w *World) issueLocked(kind string, names []string) (*tls.Certificate, error) {
	w.serial++
	t := &x509.Certificate{
		SerialNumber: big.NewInt(w.serial), Subject: pkix.Name{CommonName: "world"},
		// Long enough for any advance of virtual time.
		NotBefore: w.started.Add(-year), NotAfter: w.started.Add(20 * year),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, n := range names {
		if ip, err := netip.ParseAddr(n); err == nil {
			t.IPAddresses = append(t.IPAddresses, ip.AsSlice())
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	parent, signer := w.ca.cert, w.ca.key
	switch kind {
	case "expired":
		t.NotAfter = w.started.Add(-time.Hour)
	case "not-yet-valid":
		t.NotBefore = w.started.Add(10 * year)
	case "untrusted":
		parent, signer = w.stranger.cert, w.stranger.key
	case "self-signed":
		parent, signer = t, w.leafKey
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, &w.leafKey.PublicKey, signer)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: w.leafKey}, nil
}

func (w *World) tlsConfig(at netip.AddrPort, o serverOptions) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.tls12 {
		c.MaxVersion = tls.VersionTLS12
	}
	c.GetCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return w.certificate(at, o, h.ServerName)
	}
	c.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		host := strings.ToLower(h.ServerName)
		if host == "" {
			host = at.Addr().String()
		}
		own := c.Clone()
		own.GetConfigForClient = nil
		own.NextProtos = []string{"h2", "http/1.1"}
		if o.http1 || w.scene().onlyHTTP1[host] {
			own.NextProtos = own.NextProtos[1:]
		}
		return own, nil
	}
	return c
}

// leads tells whether a name leads to an endpoint at any time.
func (s *Scene) leads(name string, to netip.AddrPort) bool {
	for _, p := range s.zones {
		if p.v.leads(name, to) {
			return true
		}
	}
	return false
}

// hosts are the names of servers at any time.
func (s *Scene) hosts() []string {
	var all []string
	seen := make(map[string]bool)
	for _, p := range s.zones {
		for _, h := range p.v.hosts() {
			if !seen[h] {
				seen[h] = true
				all = append(all, h)
			}
		}
	}
	return all
}

// options are those of an endpoint now.
func (w *World) options(at netip.AddrPort) serverOptions {
	return w.scene().servers.at(time.Since(w.started))[at]
}

// An endpoint is one address and port that is served.
type endpoint struct {
	at       netip.AddrPort
	listener net.Listener // nil where nobody ever listens
	mapped   string       // where it really is, host:port
}

// serveConn does what comes before HTTP.
func (w *World) serveConn(e *endpoint, c *conn) {
	o := w.options(e.at)
	if o.fault == "refuse" { // only who comes past World.DialContext gets here
		c.reset()
		return
	}
	// World.DialContext has waited before it connected.
	if o.delay > 0 && !w.arrived(e) && !w.sleep(o.delay) {
		c.Close()
		return
	}
	if o.fault != "drop" {
		w.log("CONNECT " + e.at.String())
	}
	switch o.fault {
	case "reset":
		c.reset()
		return
	case "close":
		c.Close()
		return
	case "reset-handshake":
		c.Read(make([]byte, 1)) // with the first byte of the ClientHello, or with its end
		c.reset()
		return
	case "drop", "stall-handshake":
		c.hold()
		return
	}
	var hc net.Conn = c
	if !o.plain {
		hc = tls.Server(c, w.tlsConfig(e.at, o))
	}
	select {
	case w.accepted <- hc:
	case <-w.ctx.Done():
		c.Close()
	}
}
