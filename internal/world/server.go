package world

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
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
	fault  string        // the word of the option; at most one
	cert   string        // the word of the option
	lasts  time.Duration // of a certificate that expires in D
	names  []string      // in the certificate, in place of the right ones
	noIP   bool          // no certificate for the address
	delay  time.Duration // of the connection
	tls    uint16        // the highest version; 0 means any
	http1  bool
	plain  bool
	noALPN bool
	noSNI  string // what a client gets that names no server: "" (the address's certificate), "refuse", "other"
}

func parseServer(f []string) (at netip.AddrPort, o serverOptions, err error) {
	if at, err = parseEndpoint(f[0]); err != nil {
		return at, o, err
	}
	for f = f[1:]; len(f) > 0; f = f[1:] {
		switch f[0] {
		case "refuse", "no-route", "drop", "reset", "close", "stall-handshake", "reset-handshake", "alert-handshake":
			if o.fault != "" {
				return at, o, fmt.Errorf("both %s and %s", o.fault, f[0])
			}
			o.fault = f[0]
		case "tls12", "tls11":
			if o.tls != 0 {
				return at, o, fmt.Errorf("a second highest version of TLS: %s", f[0])
			}
			o.tls = map[string]uint16{"tls12": tls.VersionTLS12, "tls11": tls.VersionTLS11}[f[0]]
		case "http1":
			o.http1 = true
		case "no-alpn":
			o.noALPN = true
		case "plain":
			o.plain = true
		case "cert", "accept-delay", "without-sni":
			if len(f) == 1 {
				return at, o, fmt.Errorf("%s needs a word after it", f[0])
			}
			switch f[0] {
			case "cert":
				err = o.parseCert(f[1])
			case "accept-delay":
				o.delay, err = duration(f[1])
			case "without-sni":
				if o.noSNI = f[1]; f[1] != "refuse" && f[1] != "other" {
					err = fmt.Errorf("without-sni is followed by refuse or other, not %q", f[1])
				}
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
	if d, ok := strings.CutPrefix(word, "expires-in="); ok {
		var err error
		if o.lasts, err = duration(d); err != nil {
			return err
		}
		if o.cert != "" {
			return fmt.Errorf("a certificate both %s and %s", o.cert, word)
		}
		o.cert = word
		return nil
	}
	switch word {
	case "none-ip":
		o.noIP = true
	case "self-signed", "expired", "not-yet-valid", "untrusted", "incomplete-chain", "chain", "common-name":
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

// newIssuer makes one that stands for itself, or under another.
func newIssuer(name string, above *issuer) (*issuer, error) {
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
	parent, signer := t, key
	if above != nil {
		parent, signer = above.cert, above.key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, &key.PublicKey, signer)
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
	case sni == "" && o.noSNI == "other":
		names = []string{"default.invalid"}
	case names != nil:
	case sni != "" && w.scene().leads(sni, at):
		names = []string{strings.ToLower(sni)}
	default:
		// The server's own names, so that a wrong name is as wrong as on a real server, and who
		// names none gets all.
		if sni == "" && !o.noIP {
			names = []string{at.Addr().String()}
		}
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
	c, err := w.issueLocked(o, names)
	if err != nil {
		return nil, err
	}
	if len(w.certs) >= maxCertificates {
		clear(w.certs)
	}
	w.certs[key] = c
	return c, nil
}

func (w *World) issueLocked(o serverOptions, names []string) (*tls.Certificate, error) {
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
	if o.lasts > 0 {
		t.NotAfter = w.started.Add(o.lasts)
	}
	var above [][]byte
	switch o.cert {
	case "common-name":
		t.Subject.CommonName, t.DNSNames, t.IPAddresses = names[0], nil, nil
	case "chain", "incomplete-chain":
		parent, signer = w.middle.cert, w.middle.key
		// As public authorities do (RFC 5280, 4.2.2.1): it says where the missing certificate is.
		t.IssuingCertificateURL = []string{"http://ca.invalid/intermediate.der"}
		if o.cert == "chain" {
			above = [][]byte{w.middle.cert.Raw}
		}
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
	return &tls.Certificate{Certificate: append([][]byte{der}, above...), PrivateKey: w.leafKey}, nil
}

func (w *World) tlsConfig(at netip.AddrPort, o serverOptions) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.tls != 0 {
		c.MaxVersion = o.tls
	}
	if o.tls == tls.VersionTLS11 {
		c.MinVersion = tls.VersionTLS10
	}
	c.GetCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return w.certificate(at, o, h.ServerName)
	}
	c.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		host := strings.ToLower(h.ServerName)
		if host == "" {
			host = at.Addr().String()
		}
		if o.fault == "alert-handshake" {
			return nil, errors.New("no handshake") // crypto/tls sends the alert internal_error
		}
		if h.ServerName == "" && o.noSNI == "refuse" {
			return nil, errors.New("no server name")
		}
		own := c.Clone()
		own.GetConfigForClient = nil
		own.NextProtos = []string{"h2", "http/1.1"}
		if o.http1 || w.scene().onlyHTTP1[host] {
			own.NextProtos = own.NextProtos[1:]
		}
		if o.noALPN {
			own.NextProtos = nil
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
	if o.fault == "refuse" || o.fault == "no-route" { // only who comes past World.DialContext gets here
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
