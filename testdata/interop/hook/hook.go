// Package hook makes a [resolver.Transport] from an environment variable, for a program that
// cannot be handed one otherwise: a Dendrite whose federation client was given [Transport].
package hook

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"mxdiscover/resolver"
	"mxdiscover/srv"
)

// Variable is the environment variable with [Settings] as JSON.
const Variable = "MXDISCOVER_INTEROP"

// Mark begins the line that [Transport] writes for every request.
const Mark = "mxdiscover:"

// Settings are what a Transport has to know of a world that is served on loopback.
type Settings struct {
	DNS       []string          // its DNS servers, host:port
	CA        string            // whom to trust, PEM
	AllowNets []netip.Prefix    // what may be dialled
	ConnectTo map[string]string // its web servers, host:port, and where they really are
}

// New makes a Transport.
func (s Settings) New() (*resolver.Transport, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(s.CA)) {
		return nil, errors.New("hook: no certificate in CA")
	}
	return &resolver.Transport{Resolver: &resolver.Resolver{
		DNS:       &srv.Client{Servers: s.DNS},
		RootCAs:   roots,
		AllowNets: s.AllowNets,
		ConnectTo: s.connectTo,
	}}, nil
}

func (s Settings) connectTo(host string, port uint16) (string, uint16, bool) {
	to, ok := s.ConnectTo[net.JoinHostPort(strings.ToLower(host), strconv.Itoa(int(port)))]
	if !ok {
		return "", 0, false
	}
	at, err := netip.ParseAddrPort(to)
	return at.Addr().String(), at.Port(), err == nil
}

// Transport is the one that the environment describes. It says on stderr what it sent, and how
// that ended. A program that was meant to send through it must not run without: Transport
// panics.
func Transport() http.RoundTripper {
	var s Settings
	err := json.Unmarshal([]byte(os.Getenv(Variable)), &s)
	if err != nil {
		panic(fmt.Sprintf("hook: %s: %v", Variable, err))
	}
	t, err := s.New()
	if err != nil {
		panic(err)
	}
	return teller{t}
}

type teller struct{ *resolver.Transport }

func (t teller) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.Transport.RoundTrip(req)
	outcome := fmt.Sprintf("%q", err)
	if err == nil {
		outcome = resp.Proto + " " + resp.Status
	}
	fmt.Fprintln(os.Stderr, Mark, req.Method, req.URL, outcome)
	return resp, err
}
