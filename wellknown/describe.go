package wellknown

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"mxdiscover/internal/printable"
)

// describeStatus gives a status with the words of the registry, not those of
// the server.
func describeStatus(status int) string {
	return strings.TrimSpace("status " + strconv.Itoa(status) + " " + http.StatusText(status))
}

// describeTLS says what was proved.
func describeTLS(state tls.ConnectionState) string {
	if len(state.PeerCertificates) == 0 {
		return tls.VersionName(state.Version)
	}
	cert := state.PeerCertificates[0]
	return fmt.Sprintf("%s, certificate by %s until %s", tls.VersionName(state.Version),
		printable.Line(issuer(cert)), cert.NotAfter.UTC().Format(time.DateOnly))
}

func issuer(cert *x509.Certificate) string {
	name := cert.Issuer
	switch {
	case len(name.Organization) > 0 && name.CommonName != "":
		return name.Organization[0] + " " + name.CommonName
	case name.CommonName != "":
		return name.CommonName
	}
	return "an unnamed issuer"
}
