package check

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"mxdiscover/internal/dial"
	"mxdiscover/internal/printable"
)

const (
	// MaxCertificates is how many certificates of a chain are listed. Public ones
	// have two to four; Go itself reads 256 KiB of them.
	MaxCertificates = 10

	// maxNames is how many names of a server's certificate are listed: a public
	// authority puts 100 into one.
	maxNames = 100

	// maxChainNames is how many names of the other certificates are.
	maxChainNames = 10

	// maxText is how much is kept of a text that a server chose, such as its
	// name, in bytes.
	maxText = 100

	// maxOdd is the same for a text with characters that nobody needs there.
	maxOdd = 32
)

// Codes of problems with a handshake and a certificate. Those of certificates are
// named as the findings are.
const (
	codeExpired    = "cert_expired"
	codeNotYet     = "cert_not_yet_valid"
	codeSelfSigned = "cert_self_signed"
	codeUntrusted  = "cert_untrusted"
	codeChain      = "cert_chain"
	codeWrongName  = "cert_wrong_name"
	codeCommonName = "cert_common_name"
	codePlain      = "tls_plain"
	codeHandshake  = "tls_handshake"
	codeTLSTimeout = "tls_timeout"
	codeTLSReset   = "tls_reset" // before the server had said anything
)

// stamp is how dates are written for people.
const stamp = "2006-01-02 15:04 MST"

// metered counts what is read, and ends a connection that brings too much.
type metered struct {
	net.Conn
	most int64
	read atomic.Int64
}

var errTooMuch = errors.New("the server sent too much")

func (m *metered) Read(p []byte) (int, error) {
	left := m.most - m.read.Load()
	if left <= 0 {
		return 0, errTooMuch
	}
	n, err := m.Conn.Read(p[:min(int64(len(p)), left)])
	m.read.Add(int64(n))
	return n, err
}

// shake makes a handshake whatever the certificate says, so that the whole of it
// can be shown. What is said over the connection must matter to nobody.
func shake(ctx context.Context, raw *metered, config *tls.Config) (*tls.Conn, *Problem) {
	config.InsecureSkipVerify = true // prove looks at what was shown
	conn := tls.Client(raw, config)
	err := conn.HandshakeContext(ctx)
	if err == nil {
		return conn, nil
	}
	raw.Close()
	return nil, handshakeProblem(err, ctx.Err() != nil, raw.read.Load() == 0)
}

// handshakeProblem says why there was no handshake. late says that the time was
// up; mute, that the server had said nothing.
func handshakeProblem(err error, late, mute bool) *Problem {
	var (
		plain tls.RecordHeaderError
		alert tls.AlertError
	)
	text := dial.DescribeTLS(err, "", time.Now())
	switch {
	case errors.As(err, &plain):
		return &Problem{codePlain, text}
	case errors.As(err, &alert):
		return &Problem{codeHandshake, text}
	case late, errors.Is(err, context.DeadlineExceeded):
		return &Problem{codeTLSTimeout, fmt.Sprintf("no answer to the ClientHello within %s", handshakeTimeout)}
	case mute && closed(err):
		return &Problem{codeTLSReset, "the connection was " + how(err) + " before the server had said anything"}
	}
	return &Problem{codeHandshake, text}
}

// closed reports whether an error is the end of a connection.
func closed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func how(err error) string {
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return "reset"
	}
	return "closed"
}

// shown is a handshake as it goes into the report.
func (k *run) shown(state tls.ConnectionState, name string, took Duration) *TLS {
	t := &TLS{
		Version: tls.VersionName(state.Version), CipherSuite: tls.CipherSuiteName(state.CipherSuite),
		ALPN: printable.Line(state.NegotiatedProtocol), Name: name, SNI: sniFor(name),
	}
	t.Duration = took
	t.show(state.PeerCertificates, k.roots, k.now())
	return t
}

// proved is the handshake of a connection that was verified as usual, and of one
// that failed, as far as err has the certificate. Nil if there was none.
func (k *run) proved(conn net.Conn, name string, err error, took Duration) *TLS {
	if c, ok := conn.(interface{ ConnectionState() tls.ConnectionState }); ok && err == nil {
		return k.shown(c.ConnectionState(), name, took)
	}
	var failed *dial.Error
	if !errors.As(err, &failed) || failed.Kind != dial.TLSFailed && !failed.Handshaking {
		return nil
	}
	t := &TLS{Name: name, SNI: sniFor(name)}
	t.Duration = took
	var bad *tls.CertificateVerificationError
	switch {
	case errors.As(err, &bad):
		t.show(bad.UnverifiedCertificates, k.roots, k.now())
		if t.Error == nil { // somebody stricter than prove
			t.Verified, t.Error = false, &Problem{codeUntrusted, dial.DescribeTLS(bad.Err, name, k.now())}
		}
	default:
		t.Error = handshakeProblem(failed.Err, failed.Handshaking, false)
	}
	return t
}

// now is the time by which certificates and keys are judged.
func (k *run) now() time.Time { return k.began }

// sniFor is the name to send, none for an IP address (RFC 6066, 3).
func sniFor(name string) string {
	if _, err := netip.ParseAddr(name); err == nil {
		return ""
	}
	return name
}

// show puts certificates into the report, and what is wrong with them.
func (t *TLS) show(chain []*x509.Certificate, roots *x509.CertPool, now time.Time) {
	t.Problems = prove(chain, t.Name, roots, now)
	t.Verified = len(t.Problems) == 0
	if !t.Verified {
		first := t.Problems[0]
		t.Error = &first
	}
	for i, cert := range chain[:min(len(chain), MaxCertificates)] {
		t.Certificates = append(t.Certificates, describeCertificate(cert, i == 0))
	}
}

// fingerprint is that of the server's own certificate.
func (t *TLS) fingerprint() string {
	if len(t.Certificates) == 0 {
		return ""
	}
	return t.Certificates[0].SHA256
}

// prove says everything that is wrong with a chain that should prove name. The
// standard library ends with the first thing.
func prove(chain []*x509.Certificate, name string, roots *x509.CertPool, now time.Time) []Problem {
	if len(chain) == 0 {
		return []Problem{{codeUntrusted, "there is no certificate"}}
	}
	var problems []Problem
	leaf := chain[0]
	if now.After(leaf.NotAfter) {
		problems = append(problems, Problem{codeExpired, "the certificate expired on " + leaf.NotAfter.UTC().Format(stamp)})
	} else if now.Before(leaf.NotBefore) {
		problems = append(problems, Problem{codeNotYet, "the certificate is valid only from " + leaf.NotBefore.UTC().Format(stamp) + " on"})
	}
	trust := trustProblem(chain, roots, now)
	if trust != nil {
		problems = append(problems, *trust)
	}
	if err := leaf.VerifyHostname(name); err != nil && (trust == nil || trust.Code != codeSelfSigned) {
		// A self-signed certificate has to be replaced whatever its names.
		problem := Problem{codeWrongName, dial.DescribeTLS(err, name, now)}
		if len(leaf.DNSNames) == 0 && len(leaf.IPAddresses) == 0 && strings.EqualFold(leaf.Subject.CommonName, name) {
			problem = Problem{codeCommonName, "the certificate names " + name + " as its common name alone, which nobody reads any more"}
		}
		problems = append(problems, problem)
	}
	if len(problems) > 0 {
		return problems
	}
	// What was taken apart is put together again: nothing may be overlooked.
	options := x509.VerifyOptions{Roots: roots, Intermediates: intermediates(chain), CurrentTime: now, DNSName: name}
	if _, err := leaf.Verify(options); err != nil {
		return []Problem{{codeUntrusted, dial.DescribeTLS(err, name, now)}}
	}
	return nil
}

// trustProblem says why the chain leads to nobody who is trusted, whatever its
// name and its dates.
func trustProblem(chain []*x509.Certificate, roots *x509.CertPool, now time.Time) *Problem {
	leaf := chain[0]
	at := now
	switch { // a time when it was, or will be, valid
	case at.After(leaf.NotAfter):
		at = leaf.NotAfter
	case at.Before(leaf.NotBefore):
		at = leaf.NotBefore
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates(chain), CurrentTime: at})
	if err == nil {
		return nil
	}
	if at != now {
		// Those above it may have had another life.
		if _, again := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates(chain), CurrentTime: now}); again == nil {
			return nil
		}
	}
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &unknown) {
		return &Problem{codeUntrusted, dial.DescribeTLS(err, "", now)}
	}
	if bytes.Equal(leaf.RawIssuer, leaf.RawSubject) {
		return &Problem{codeSelfSigned, "the certificate is self-signed"}
	}
	for _, above := range chain[1:] {
		if bytes.Equal(above.RawSubject, leaf.RawIssuer) {
			return &Problem{codeUntrusted, "the certificate comes from " + subject(leaf.Issuer) + ", whom nobody trusts here"}
		}
	}
	// A public authority says where its own certificate is (RFC 5280, 4.2.2.1); who
	// was signed by a root that everybody has needs nobody in between. So that
	// is missing.
	if len(leaf.IssuingCertificateURL) > 0 {
		return &Problem{codeChain, "the server does not send the certificate of " + subject(leaf.Issuer) + ", who signed its own"}
	}
	return &Problem{codeUntrusted, "the certificate comes from " + subject(leaf.Issuer) + ", whom nobody trusts here"}
}

func intermediates(chain []*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, cert := range chain[1:] {
		pool.AddCert(cert)
	}
	return pool
}

// describeCertificate is a certificate as it goes into the report.
func describeCertificate(cert *x509.Certificate, first bool) Certificate {
	digest := sha256.Sum256(cert.Raw)
	c := Certificate{
		Subject: subject(cert.Subject), Issuer: subject(cert.Issuer),
		NotBefore: dated(cert.NotBefore), NotAfter: dated(cert.NotAfter),
		Key: keyName(cert.PublicKey), SHA256: hex.EncodeToString(digest[:]),
	}
	most := maxChainNames
	if first {
		most = maxNames
	}
	for _, name := range cert.DNSNames[:min(len(cert.DNSNames), most)] {
		c.DNSNames = append(c.DNSNames, certifiedName(name))
	}
	for _, ip := range cert.IPAddresses[:min(len(cert.IPAddresses), most)] {
		if addr, ok := netip.AddrFromSlice(ip); ok {
			c.IPAddresses = append(c.IPAddresses, addr.Unmap())
		}
	}
	return c
}

// dated is a date of a certificate in UTC. With an offset, which RFC 5280, 4.1.2.5.2,
// forbids and Go reads, it may be in a year that has no form in JSON (RFC 3339, 1).
func dated(t time.Time) time.Time {
	switch t = t.UTC(); {
	case t.Year() < 0:
		return time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	case t.Year() > 9999:
		return time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	}
	return t
}

// subject gives a distinguished name by what people call it.
func subject(name pkix.Name) string {
	switch {
	case len(name.Organization) > 0 && name.CommonName != "":
		return short(name.Organization[0] + " " + name.CommonName)
	case name.CommonName != "":
		return short(name.CommonName)
	case len(name.Organization) > 0:
		return short(name.Organization[0])
	}
	return "an unnamed one"
}

// certifiedName is a name of a certificate: whole if it can be the name of a host.
func certifiedName(name string) string {
	if text := printable.Cut(name, 253); plain(text) { // RFC 1035, 2.3.4
		return text
	}
	return short(name)
}

// short is a text of a stranger, fit to be printed. One that has to be quoted,
// here or in JSON, which makes it six times as long, is cut sooner.
func short(text string) string {
	if cut := printable.Cut(text, maxText); plain(cut) {
		return cut
	}
	return printable.Line(printable.Cut(text, maxOdd))
}

// plain reports whether a text stands everywhere as it is.
func plain(text string) bool {
	return printable.Line(text) == text && !strings.ContainsAny(text, `<>&"\`)
}

func keyName(public any) string {
	switch key := public.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", key.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + key.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return "unknown"
}
