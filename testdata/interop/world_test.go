package interop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mxdiscover/internal/world"
	"mxdiscover/testdata/interop/hook"
)

// A place is where a Dendrite listens, and how others find it.
type place struct {
	name        string // its server name
	step        string // the rule by which it is found
	certificate string // for whom its certificate is
	federation  int    // the port on 127.0.0.1 for federation
	client      int    // the same for clients
}

// The ways to a server with the name {name} on port {port} of 127.0.0.1, by the number of the rule that
// finds it: records, and what the well-known document says.
var ways = map[string]struct{ zone, delegated string }{
	"1": {},
	"3.2": {`
{name}.  A  203.0.113.20
matrix.{name}.  A  127.0.0.1
`, "matrix.{name}:{port}"},
	"3.3": {`
{name}.  A  203.0.113.20
_matrix-fed._tcp.matrix.{name}.  SRV  10 5 {port}  one.{name}.
one.{name}.  A  127.0.0.1
`, "matrix.{name}"},
	"4": {`
{name}.  A  203.0.113.20
_matrix-fed._tcp.{name}.  SRV  10 5 {port}  one.{name}.
one.{name}.  A  127.0.0.1
`, ""},
	"5": {`
_matrix._tcp.{name}.  SRV  10 5 {port}  one.{name}.
one.{name}.  A  127.0.0.1
`, ""},
}

// newPlaces gives each step a name that is found by it.
func newPlaces(t *testing.T, steps ...string) []*place {
	t.Helper()
	var places []*place
	for _, step := range steps {
		p := &place{step: step, federation: freePort(t), client: freePort(t)}
		switch step {
		case "1":
			p.name = fmt.Sprintf("127.0.0.1:%d", p.federation)
			p.certificate = "127.0.0.1"
		case "3.2", "3.3":
			p.name = "delegated" + strings.ReplaceAll(step, ".", "") + ".example"
			p.certificate = "matrix." + p.name
		default:
			p.name = "srv" + step + ".example"
			p.certificate = p.name
		}
		places = append(places, p)
	}
	return places
}

// freePort finds a port that nobody uses. A server name has to have it before the server runs.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// A federation is a world with places for Dendrites.
type federation struct {
	world    *world.World
	settings hook.Settings // with which a Transport finds its way
	ca       *authority
	caFile   string
}

func newFederation(t *testing.T, places ...*place) *federation {
	t.Helper()
	var zone, documents strings.Builder
	for _, p := range places {
		way := ways[p.step]
		fill := strings.NewReplacer("{name}", p.name, "{port}", strconv.Itoa(p.federation))
		fill.WriteString(&zone, way.zone)
		if way.delegated != "" {
			fmt.Fprintf(&documents, "-- GET https://%s/.well-known/matrix/server --\n200\nContent-Type: application/json\n\n{\"m.server\":%q}\n",
				p.name, fill.Replace(way.delegated))
		}
	}
	text := "Names that lead to Dendrites.\n" +
		"-- options --\nallow-net 127.0.0.0/8\n" +
		"-- servers --\n203.0.113.20:443\n" +
		"-- zone --\n" + zone.String() + documents.String()
	scene, err := world.Parse("interop", []byte(text))
	require.NoError(t, err, text)
	f := &federation{ca: newAuthority(t)}
	f.world, err = scene.Start(world.Loopback{})
	require.NoError(t, err)
	t.Cleanup(func() { f.world.Close() })

	f.settings = hook.Settings{
		DNS:       f.world.DNSServers(),
		CA:        string(f.world.CAPEM()) + string(f.ca.pem()),
		AllowNets: f.world.AllowNets(),
		ConnectTo: make(map[string]string),
	}
	for _, line := range f.world.ConnectTo() {
		// HOST1:PORT1:HOST2:PORT2; the last is for all hosts, and Dendrites are some.
		if fields := strings.Split(line, ":"); fields[0] != "" {
			require.Len(t, fields, 4, line)
			f.settings.ConnectTo[fields[0]+":"+fields[1]] = fields[2] + ":" + fields[3]
		}
	}
	f.caFile = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(f.caFile, []byte(f.settings.CA), 0o666))
	return f
}

// An authority signs certificates for servers outside the world.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "interop CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &authority{key, cert}
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// issue makes a certificate for a DNS name or an IP address, as PEM files.
func (a *authority) issue(t *testing.T, name string) (cert, key []byte) {
	t.Helper()
	leaf, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip, err := netip.ParseAddr(name); err == nil {
		template.IPAddresses = []net.IP{ip.AsSlice()}
	} else {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &leaf.PublicKey, a.key)
	require.NoError(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(leaf)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

func (a *authority) tls(t *testing.T, name string) tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(a.issue(t, name))
	require.NoError(t, err)
	return pair
}
