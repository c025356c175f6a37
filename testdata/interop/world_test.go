package interop

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

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
	return newWorld(t, "-- servers --\n203.0.113.20:443\n-- zone --\n"+zone.String()+documents.String())
}

// newWorld starts a world on loopback with these sections.
func newWorld(t *testing.T, sections string) *federation {
	t.Helper()
	text := "Names that lead to servers outside.\n-- options --\nallow-net 127.0.0.0/8\n" + sections
	scene, err := world.Parse("interop", []byte(text))
	require.NoError(t, err, text)
	f := new(federation)
	f.world, err = scene.Start(world.Loopback{})
	require.NoError(t, err)
	t.Cleanup(func() { f.world.Close() })

	f.settings = hook.Settings{
		DNS:       f.world.DNSServers(),
		CA:        string(f.world.CAPEM()),
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

// certificate makes one of the world's authority for DNS names and IP addresses.
func (f *federation) certificate(t *testing.T, names ...string) tls.Certificate {
	t.Helper()
	cert, err := f.world.Certificate(names...)
	require.NoError(t, err)
	return cert
}

// pemFiles gives a certificate and its key as Dendrite wants them.
func pemFiles(t *testing.T, c tls.Certificate) (cert, key []byte) {
	t.Helper()
	secret, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}
