package check_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/check"
	"mxdiscover/internal/world"
	"mxdiscover/resolver"
)

// TestSecondConnection: a server that ends an HTTP/2 connection after one answer,
// and is silent on the next one, keeps nothing of the check alive.
func TestSecondConnection(t *testing.T) {
	t.Parallel()
	in(t, good, func(t *testing.T, w *world.World, c *check.Checker) {
		held := make(chan struct{})
		w.Handle(func(rw http.ResponseWriter, req *http.Request, at netip.AddrPort) bool {
			if req.ProtoMajor != 2 || !strings.HasPrefix(req.Host, "matrix.") {
				return false
			}
			if strings.HasSuffix(req.URL.Path, "/version") {
				rw.Header().Set("Connection", "close") // net/http says GOAWAY
				io.WriteString(rw, `{"server":{"name":"x","version":"1"}}`)
				return true
			}
			<-held
			return true
		})
		report := c.Check(t.Context(), "example.org")
		assert.Equal(t, check.Bad, report.Verdict)
		synctest.Wait()
		assert.Empty(t, leftovers())
		close(held)
	})
}

// TestLatePanics: ConnectTo that panics in the middle of a check ends that one alone.
func TestLatePanics(t *testing.T) {
	t.Parallel()
	for n := range 12 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			in(t, good, func(t *testing.T, _ *world.World, c *check.Checker) {
				inner := c.NewResolver
				c.NewResolver = func() *resolver.Resolver {
					r := inner()
					var calls atomic.Int32
					r.ConnectTo = func(string, uint16) (string, uint16, bool) {
						if int(calls.Add(1)) > n {
							panic("boo\n")
						}
						return "", 0, false
					}
					return r
				}
				report := c.Check(t.Context(), "example.org")
				assert.Equal(t, check.Bad, report.Verdict)
				text, err := json.Marshal(report)
				require.NoError(t, err)
				assert.Contains(t, string(text), "panic")
				clean(t, text)
			})
		})
	}
}

// outOfTime is a certificate whose dates have no year of four digits in UTC,
// though they have one as they are written (RFC 5280, 4.1.2.5.2, forbids that).
func outOfTime(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "matrix.example.org"}, DNSNames: []string{"matrix.example.org"},
		NotBefore: time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	var cert struct{ TBS, Algorithm, Signature asn1.RawValue }
	_, err = asn1.Unmarshal(der, &cert)
	require.NoError(t, err)
	var tbs []asn1.RawValue // version, serial, algorithm, issuer, validity ...
	_, err = asn1.Unmarshal(cert.TBS.FullBytes, &tbs)
	require.NoError(t, err)
	generalized := func(s string) asn1.RawValue { return asn1.RawValue{Tag: asn1.TagGeneralizedTime, Bytes: []byte(s)} }
	validity, err := asn1.Marshal([]asn1.RawValue{generalized("00000101000000+0500"), generalized("99991231235959-0500")})
	require.NoError(t, err)
	tbs[4] = asn1.RawValue{FullBytes: validity}
	body, err := asn1.Marshal(tbs)
	require.NoError(t, err)
	cert.TBS = asn1.RawValue{FullBytes: body}
	der, err = asn1.Marshal(cert)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestOutOfTime: the dates of a certificate are a stranger's, and JSON has no
// room for every one of them.
func TestOutOfTime(t *testing.T) {
	t.Parallel()
	own := outOfTime(t)
	in(t, good, func(t *testing.T, _ *world.World, c *check.Checker) {
		inner := c.NewResolver
		var wg sync.WaitGroup
		c.NewResolver = func() *resolver.Resolver {
			r := inner()
			dial := r.DialContext
			r.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				if !strings.Contains(address, "20]") && !strings.HasPrefix(address, "203.0.113.20") {
					return dial(ctx, network, address)
				}
				ours, theirs := net.Pipe()
				wg.Go(func() {
					server := tls.Server(theirs, &tls.Config{Certificates: []tls.Certificate{own}})
					if server.Handshake() == nil {
						io.Copy(io.Discard, server)
					}
					theirs.Close()
				})
				return ours, nil
			}
			return r
		}
		report := c.Check(t.Context(), "example.org")
		require.NotNil(t, report.Targets[0].Addresses[0].TLS)
		require.NotEmpty(t, report.Targets[0].Addresses[0].TLS.Certificates, "%+v", report.Targets[0].Addresses[0].TLS.Error)
		assert.Equal(t, check.Bad, report.Verdict)
		text, err := json.Marshal(report)
		require.NoError(t, err)
		clean(t, text)
		wg.Wait()
	})
}

// TestManyNames: who names no server gets a certificate that proves the name
// too, as the last of a dozen.
func TestManyNames(t *testing.T) {
	t.Parallel()
	var zone, servers strings.Builder
	for i := range 12 {
		fmt.Fprintf(&zone, "a%02d.example.org. A 203.0.113.20\na%02d.example.org. AAAA 2001:db8::20\n", i, i)
		fmt.Fprintf(&servers, "-- matrix https://a%02d.example.org --\n", i)
	}
	scene := strings.Replace(good, "-- zone --\n", "-- zone --\n"+zone.String(), 1) + servers.String()
	in(t, scene, func(t *testing.T, _ *world.World, c *check.Checker) {
		report := c.Check(t.Context(), "example.org")
		first := report.Targets[0].Addresses[0].TLS
		require.Equal(t, "other", first.WithoutSNI)
		require.NotContains(t, first.Default.DNSNames, "matrix.example.org", "it is not among those that are listed")
		assert.Empty(t, codes(report))
	})
}

// TestCopied: what is to be copied works, and leads somewhere.
func TestCopied(t *testing.T) {
	t.Parallel()
	const hosts = "-- zone --\nexample.org. A 203.0.113.10\nexample.org. AAAA 2001:db8::10\nmatrix.example.org. A 203.0.113.20\nmatrix.example.org. AAAA 2001:db8::20\n"
	for _, test := range []struct {
		about, scene, name, code string
		want, never              string // in a fix
	}{
		{
			"openssl wants a word after -servername", hosts + "-- servers --\n203.0.113.10:8448 alert-handshake\n",
			"203.0.113.10", "tls_handshake", "-noservername", "-servername $|-servername \n|reverse_proxy",
		},
		{
			"an address has no records", hosts + "-- GET https://example.org/.well-known/matrix/server --\n200\nContent-Type: application/json\n\n{\"m.server\": \"10.0.0.8\"}\n",
			"example.org", "address_private", "m.server", `10\.0\.0\.8\. 3600`,
		},
		{
			"nobody asks for the document of a name with a port", hosts + "-- servers --\n203.0.113.10:8448 refuse\n[2001:db8::10]:8448 refuse\n-- matrix https://example.org --\nserver-name example.org:8448\nany-host\n",
			"example.org:8448", "port_443_instead", "(?s)listen 8448.*client_max_body_size", "well-known",
		},
		{
			"nor for that of an address", hosts + "-- servers --\n203.0.113.10:8448 refuse\n203.0.113.10:443\n-- matrix https://203.0.113.10 --\nserver-name 203.0.113.10\nany-host\n",
			"203.0.113.10", "port_443_instead", "listen 8448", "well-known",
		},
		{
			"the certificate is for the name, not for the target of its record", strings.TrimSpace(hosts) + "\n_matrix-fed._tcp.example.org. SRV 10 5 8450 matrix.example.org.\n" +
				"-- servers --\n203.0.113.20:8450 refuse\n[2001:db8::20]:8450 refuse\n203.0.113.20:443 cert names=example.org\n[2001:db8::20]:443 cert names=example.org\n" +
				"-- matrix https://matrix.example.org --\nserver-name example.org\nany-host\n",
			"example.org", "port_443_instead", `_matrix-fed\._tcp\.example\.org\. 3600 IN SRV 10 5 443 matrix\.example\.org\.`, "well-known",
		},
	} {
		t.Run(test.about, func(t *testing.T) {
			t.Parallel()
			in(t, test.scene, func(t *testing.T, _ *world.World, c *check.Checker) {
				report := c.Check(t.Context(), test.name)
				require.NotEmpty(t, report.Findings)
				f := report.Findings[0]
				require.Equal(t, test.code, f.Code, f.Message)
				var all strings.Builder
				for _, fix := range f.Fixes {
					fmt.Fprintf(&all, "%s\n%s\n", fix.Title, fix.Text)
				}
				assert.Regexp(t, test.want, all.String())
				assert.NotRegexp(t, test.never, all.String())
			})
		})
	}
}

// TestNothingStays: whatever a server does on a connection, the check ends in time,
// holds nothing of it afterwards, and calls it BAD.
func TestNothingStays(t *testing.T) {
	t.Parallel()
	forever := func(w io.Writer, text string, pause time.Duration) {
		for {
			if _, err := io.WriteString(w, text); err != nil {
				return
			}
			time.Sleep(pause)
		}
	}
	// Frames of HTTP/2 (RFC 9113, 4.1): length, type, flags, stream.
	const (
		settings  = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
		ping      = "\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678"
		refused   = "\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x07" // RST_STREAM, REFUSED_STREAM
		goaway    = "\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
		headers   = "\x00\x00\x01\x01\x00\x00\x00\x00\x01\x88" // :status 200, not ended
		continued = "\x00\x00\x01\x09\x00\x00\x00\x00\x01\x88"
		window    = "\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x01"
	)
	for about, serve := range map[string]struct {
		protocols []string
		speak     func(conn *tls.Conn)
	}{
		"silence":             {nil, func(*tls.Conn) {}},
		"silence over 2":      {[]string{"h2"}, func(*tls.Conn) {}},
		"settings and no end": {[]string{"h2"}, func(c *tls.Conn) { forever(c, settings, 0) }},
		"pings and no end":    {[]string{"h2"}, func(c *tls.Conn) { io.WriteString(c, settings); forever(c, ping, 0) }},
		"windows and no end":  {[]string{"h2"}, func(c *tls.Conn) { io.WriteString(c, settings); forever(c, window, time.Second) }},
		"refused":             {[]string{"h2"}, func(c *tls.Conn) { io.WriteString(c, settings); time.Sleep(time.Second); io.WriteString(c, refused) }},
		"refused by halves":   {[]string{"h2"}, func(c *tls.Conn) { io.WriteString(c, settings+goaway) }},
		"a body and no end":   {[]string{"h2"}, func(c *tls.Conn) { io.WriteString(c, settings); time.Sleep(time.Second); io.WriteString(c, headers) }},
		"a header and no end": {[]string{"h2"}, func(c *tls.Conn) {
			io.WriteString(c, settings)
			time.Sleep(time.Second)
			io.WriteString(c, headers[:4]+"\x00"+headers[5:])
			forever(c, continued, 0)
		}},
		"garbage over 2":      {[]string{"h2"}, func(c *tls.Conn) { forever(c, "HTTP/1.1 200 OK\r\n\r\n", time.Second) }},
		"early hints, no end": {[]string{"http/1.1"}, func(c *tls.Conn) { forever(c, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 0) }},
		"header by bytes":     {[]string{"http/1.1"}, func(c *tls.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\nX: "); forever(c, "x", time.Second) }},
		"chunks by bytes": {[]string{"http/1.1"}, func(c *tls.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			forever(c, "1\r\nx\r\n", time.Second)
		}},
		"chunk extensions": {[]string{"http/1.1"}, func(c *tls.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;")
			forever(c, "xxxxxxxxx", 0)
		}},
		"switched protocols": {[]string{"http/1.1"}, func(c *tls.Conn) {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
			forever(c, "x", time.Second)
		}},
		"two lengths": {[]string{"http/1.1"}, func(c *tls.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x")
		}},
		"a negative status": {[]string{"http/1.1"}, func(c *tls.Conn) { io.WriteString(c, "HTTP/1.1 -20 OK\r\nContent-Length: 2\r\n\r\n{}") }},
		"a body after 204":  {[]string{"http/1.1"}, func(c *tls.Conn) { io.WriteString(c, "HTTP/1.1 204 No\r\n\r\n{}") }},
		"before the question": {[]string{"http/1.1"}, func(c *tls.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n")
		}},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			own := outOfTime(t)
			in(t, good, func(t *testing.T, _ *world.World, c *check.Checker) {
				inner := c.NewResolver
				var (
					mu    sync.Mutex
					wg    sync.WaitGroup
					conns []net.Conn
				)
				c.NewResolver = func() *resolver.Resolver {
					r := inner()
					dial := r.DialContext
					r.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
						if !strings.Contains(address, "20]") && !strings.HasPrefix(address, "203.0.113.20") {
							return dial(ctx, network, address)
						}
						ours, theirs := net.Pipe()
						mu.Lock()
						conns = append(conns, theirs)
						mu.Unlock()
						wg.Go(func() {
							server := tls.Server(theirs, &tls.Config{Certificates: []tls.Certificate{own}, NextProtos: serve.protocols})
							if server.Handshake() == nil {
								go io.Copy(io.Discard, server)
								serve.speak(server)
							}
						})
						return ours, nil
					}
					return r
				}
				began := time.Now()
				report := c.Check(t.Context(), "example.org")
				assert.Less(t, time.Since(began), 45*time.Second)
				assert.Equal(t, check.Bad, report.Verdict)
				synctest.Wait()
				assert.Empty(t, leftovers())
				clean(t, []byte(mustJSON(report)))
				mu.Lock()
				for _, conn := range conns {
					conn.Close()
				}
				mu.Unlock()
				wg.Wait()
			})
		})
	}
}
