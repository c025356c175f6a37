package dial

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"time"

	"mxdiscover/internal/printable"
)

// DescribeTLS says in words why a handshake with a server that had to prove host
// failed.
func DescribeTLS(err error, host string, now time.Time) string {
	var (
		plain   tls.RecordHeaderError
		alert   tls.AlertError
		invalid x509.CertificateInvalidError
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
	)
	const stamp = "2006-01-02 15:04 MST"
	switch {
	case errors.As(err, &plain):
		return "the port does not speak TLS"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		if now.Before(invalid.Cert.NotBefore) {
			return "the certificate is valid only from " + invalid.Cert.NotBefore.UTC().Format(stamp) + " on"
		}
		return "the certificate expired on " + invalid.Cert.NotAfter.UTC().Format(stamp)
	case errors.As(err, &unknown) && unknown.Cert != nil && bytes.Equal(unknown.Cert.RawIssuer, unknown.Cert.RawSubject):
		return "the certificate is self-signed"
	case errors.As(err, &unknown):
		return "the certificate is signed by an authority that is not trusted here"
	case errors.As(err, &name) && name.Certificate != nil:
		return fmt.Sprintf("the certificate is valid for %s, not for %s", validFor(name.Certificate), host)
	case errors.As(err, &alert):
		return "the server ended the TLS handshake: " + printable.Line(alert.Error())
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the connection was closed during the TLS handshake"
	}
	return printable.Line(strings.TrimPrefix(err.Error(), "tls: failed to verify certificate: x509: "))
}

// validFor lists the first names of a certificate.
func validFor(cert *x509.Certificate) string {
	const most = 3
	names := slices.Clone(cert.DNSNames[:min(len(cert.DNSNames), most+1)])
	for _, ip := range cert.IPAddresses[:min(len(cert.IPAddresses), most+1)] {
		names = append(names, ip.String())
	}
	switch {
	case len(names) == 0:
		return "no name at all"
	case len(names) > most:
		names = append(names[:most:most], "others")
	}
	return printable.Line(strings.Join(names, ", "))
}
