package serve

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/check"
	"mxdiscover/internal/memnet"
	"mxdiscover/internal/world"
	"mxdiscover/resolver"
	"mxdiscover/srv"
)

// TestTesterTypes: what the tester has written can be read and written again, with
// the same keys, types and nulls.
func TestTesterTypes(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/tester/*.json")
	require.NoError(t, err)
	require.Len(t, files, 3)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		in := json.NewDecoder(bytes.NewReader(text))
		in.DisallowUnknownFields()
		var form testerForm
		require.NoError(t, in.Decode(&form), file)
		again, err := json.MarshalIndent(form, "", "  ")
		require.NoError(t, err)
		assert.Equal(t, strings.TrimSpace(string(text)), string(again), file)
	}
}

// inside makes the Resolvers of a world.
func inside(w *world.World) func() *resolver.Resolver {
	return func() *resolver.Resolver {
		return &resolver.Resolver{
			DNS:     &srv.Client{Servers: w.DNSServers(), HostsFile: os.DevNull, Dial: w.DNSDial()},
			RootCAs: w.Roots(), AllowNets: w.AllowNets(), DialContext: w.DialContext,
		}
	}
}

const testerWorld = `Names for the tester.
-- zone --
delegated.example.              A    203.0.113.1
matrix.delegated.example.       A    203.0.113.7
srv.example.                    A    203.0.113.1
_matrix-fed._tcp.srv.example.   SRV  10 5 8449 one.example.
_matrix-fed._tcp.srv.example.   SRV  20 0 8450 two.example.
one.example.                    A    203.0.113.8
two.example.                    A    203.0.113.9
old.example.                    A    203.0.113.1
_matrix._tcp.old.example.       SRV  10 5 8449 alias.example.
alias.example.                  CNAME one.example.
plain.example.                  A    203.0.113.10
plain.example.                  AAAA 2001:db8::10
bad.example.                    A    203.0.113.1
-- GET https://delegated.example/.well-known/matrix/server --
200
Cache-Control: max-age=3600

{"m.server":"matrix.delegated.example:443"}
-- GET https://bad.example/.well-known/matrix/server --
200

{"server":"bad.example"}
`

// goodAddress is an address with everything in order.
func goodAddress(name, to string, now time.Time) check.Address {
	keys := check.Keys{
		Answer: check.Answer{Status: 200}, ServerName: name, ValidUntil: now.Add(24 * time.Hour),
		VerifyKeys:    []check.Key{{ID: "ed25519:1", Public: base64.RawStdEncoding.EncodeToString(make([]byte, 32)), Signed: true, Signature: "c2ln"}},
		OldVerifyKeys: []check.OldKey{{ID: "ed25519:0", Public: "b2xk", ExpiredAt: time.UnixMilli(1234567)}},
	}
	return check.Address{
		Address: netip.MustParseAddrPort(to), OK: true,
		TLS: &check.TLS{
			Version: "TLS 1.3", CipherSuite: "TLS_AES_128_GCM_SHA256", Verified: true,
			Certificates: []check.Certificate{{Subject: "CN=" + name + ",O=Example", Issuer: `O=Example\, Inc.,CN=An \"Authority\"`, DNSNames: []string{name}, SHA256: strings.Repeat("0a", 32)}},
		},
		HTTP: []check.HTTP{{Protocol: "http/1.1", Version: check.Version{Answer: check.Answer{Status: 200}, Name: "Synapse", Server: "1.100"}, Keys: keys}},
	}
}

func TestTesterReport(t *testing.T) {
	t.Parallel()
	const (
		noWellKnown = `"WellKnownResult":{"m.server":"","result":"No .well-known found","CacheExpiresAt":0}`
		good        = `{"Certificates":[{"SubjectCommonName":"@NAME@","IssuerCommonName":"An \"Authority\"","SHA256Fingerprint":"CgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgo","DNSNames":["@NAME@"]}],
			"Cipher":{"Version":"TLS 1.3","CipherSuite":"TLS_AES_128_GCM_SHA256"},
			"Checks":{"AllChecksOK":true,"MatchingServerName":true,"FutureValidUntilTS":true,"HasEd25519Key":true,"AllEd25519ChecksOK":true,
				"Ed25519Checks":{"ed25519:1":{"ValidEd25519":true,"MatchingSignature":true}},"ValidCertificates":true},
			"Errors":[],"Ed25519VerifyKeys":{"ed25519:1":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},"Info":{},
			"Keys":{"old_verify_keys":{"ed25519:0":{"expired_ts":1234567,"key":"b2xk"}},"server_name":"@NAME@","signatures":{"@NAME@":{"ed25519:1":"c2ln"}},"valid_until_ts":946771200000,"verify_keys":{"ed25519:1":{"key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}}}}`
		version = `"Version":{"name":"Synapse","version":"1.100"}`
	)
	for _, test := range []struct {
		name string
		fill func(r *check.Report)
		want string
	}{
		{"delegated.example", func(r *check.Report) {
			r.WellKnown = []check.WellKnown{{Server: "matrix.delegated.example:443", Lifetime: check.Duration(time.Hour)}}
		}, `{"WellKnownResult":{"m.server":"matrix.delegated.example:443","CacheExpiresAt":946688400},
			"DNSResult":{"SRVSkipped":true,"SRVCName":"","SRVRecords":null,"SRVError":null,
				"Hosts":{"matrix.delegated.example":{"CName":"matrix.delegated.example.","Addrs":["203.0.113.7"],"Error":null}},"Addrs":["203.0.113.7:443"]},
			"ConnectionReports":{"203.0.113.7:443":` + good + `},"ConnectionErrors":{},` + version + `,"FederationOK":true}`},
		{"srv.example", func(r *check.Report) {
			r.WellKnown = []check.WellKnown{{Error: &check.Problem{Code: "not_found", Message: "404"}}}
			a := &r.Targets[1].Addresses[0]
			*a = check.Address{Address: a.Address, TCP: check.Phase{Error: &check.Problem{Code: "connect_refused", Message: "connection refused"}}}
		}, `{` + noWellKnown + `,
			"DNSResult":{"SRVSkipped":false,"SRVCName":"_matrix-fed._tcp.srv.example.",
				"SRVRecords":[{"Target":"one.example.","Port":8449,"Priority":10,"Weight":5},{"Target":"two.example.","Port":8450,"Priority":20,"Weight":0}],"SRVError":null,
				"Hosts":{"one.example.":{"CName":"one.example.","Addrs":["203.0.113.8"],"Error":null},"two.example.":{"CName":"two.example.","Addrs":["203.0.113.9"],"Error":null}},
				"Addrs":["203.0.113.8:8449","203.0.113.9:8450"]},
			"ConnectionReports":{"203.0.113.8:8449":` + good + `},"ConnectionErrors":{"203.0.113.9:8450":{"Message":"connection refused"}},` + version + `,"FederationOK":false}`},
		{"old.example", func(r *check.Report) {
			r.Targets[0].Alias = "one.example"
			h := &r.Targets[0].Addresses[0].HTTP[0]
			h.Keys.VerifyKeys[0].Signed = false
		}, `{` + noWellKnown + `,
			"DNSResult":{"SRVSkipped":false,"SRVCName":"_matrix._tcp.old.example.","SRVRecords":[{"Target":"alias.example.","Port":8449,"Priority":10,"Weight":5}],"SRVError":null,
				"Hosts":{"alias.example.":{"CName":"one.example.","Addrs":["203.0.113.8"],"Error":{"Message":"SRV record target alias.example. is a CNAME record, which is forbidden (as per RFC2782)"}}},
				"Addrs":["203.0.113.8:8449"]},
			"ConnectionReports":{"203.0.113.8:8449":` + strings.NewReplacer(`"AllChecksOK":true`, `"AllChecksOK":false`, `"AllEd25519ChecksOK":true`, `"AllEd25519ChecksOK":false`,
			`"MatchingSignature":true`, `"MatchingSignature":false`, `"Ed25519VerifyKeys":{"ed25519:1":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`, `"Ed25519VerifyKeys":null`).Replace(good) + `},
			"ConnectionErrors":{},` + version + `,"FederationOK":false}`},
		{"plain.example", func(r *check.Report) {
			a := &r.Targets[0].Addresses[0]
			a.TLS.Verified, a.TLS.Error = false, &check.Problem{Code: "cert_untrusted", Message: "certificate signed by unknown authority"}
			b := &r.Targets[0].Addresses[1]
			b.HTTP[0].Keys = check.Keys{Answer: check.Answer{Status: 404, Error: &check.Problem{Code: "status", Message: "status 404"}}}
		}, `{"WellKnownResult":{"m.server":"","result":"plain.example:443 ([2001:db8::10]:443): connection refused","CacheExpiresAt":0},
			"DNSResult":{"SRVSkipped":false,"SRVCName":"","SRVRecords":null,"SRVError":{"Message":"lookup _matrix._tcp.plain.example on 192.0.2.53:53: no such host"},
				"Hosts":{"plain.example":{"CName":"plain.example.","Addrs":["2001:db8::10","203.0.113.10"],"Error":null}},"Addrs":["[2001:db8::10]:8448","203.0.113.10:8448"]},
			"ConnectionReports":{"[2001:db8::10]:8448":` + strings.NewReplacer(`"AllChecksOK":true`, `"AllChecksOK":false`, `"ValidCertificates":true`, `"ValidCertificates":false`,
			`"Errors":[]`, `"Errors":[{"Message":"certificate signed by unknown authority"}]`).Replace(good) + `},
			"ConnectionErrors":{"203.0.113.10:8448":{"Message":"status 404"}},` + version + `,"FederationOK":false}`},
		{"bad.example", func(r *check.Report) {
			r.WellKnown = []check.WellKnown{{Error: &check.Problem{Code: "server_missing", Message: "there is no m.server"}}}
			r.Verdict = check.Bad // for a reason that the tester does not know
			r.Targets[0].Addresses[0].HTTP[0].Keys.ServerName = "Bad.example"
		}, `{"WellKnownResult":{"m.server":"","result":"No m.server key found in well-known response","CacheExpiresAt":0},
			"DNSResult":{"SRVSkipped":false,"SRVCName":"","SRVRecords":null,"SRVError":{"Message":"lookup _matrix._tcp.bad.example on 192.0.2.53:53: no such host"},
				"Hosts":{"bad.example":{"CName":"bad.example.","Addrs":["203.0.113.1"],"Error":null}},"Addrs":["203.0.113.1:8448"]},
			"ConnectionReports":{"203.0.113.1:8448":` + strings.NewReplacer(`"AllChecksOK":true`, `"AllChecksOK":false`, `"MatchingServerName":true`, `"MatchingServerName":false`,
			`"server_name":"@NAME@","signatures":{"@NAME@"`, `"server_name":"Bad.example","signatures":{"Bad.example"`, `"Ed25519VerifyKeys":{"ed25519:1":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`, `"Ed25519VerifyKeys":null`).Replace(good) + `},
			"ConnectionErrors":{},` + version + `,"FederationOK":false}`},
		{"203.0.113.7:8448", nil, `{` + noWellKnown + `,
			"DNSResult":{"SRVSkipped":true,"SRVCName":"","SRVRecords":null,"SRVError":null,"Hosts":{"203.0.113.7":{"CName":"203.0.113.7.","Addrs":["203.0.113.7"],"Error":null}},"Addrs":["203.0.113.7:8448"]},
			"ConnectionReports":{"203.0.113.7:8448":` + good + `},"ConnectionErrors":{},` + version + `,"FederationOK":true}`},
		{"gone.example", func(r *check.Report) { r.Verdict = check.Bad }, `{"WellKnownResult":{"m.server":"","result":"~.","CacheExpiresAt":0},
			"DNSResult":{"SRVSkipped":false,"SRVCName":"","SRVError":{"Message":"lookup _matrix._tcp.gone.example on 192.0.2.53:53: no such host"},
				"Hosts":{"gone.example":{"CName":"gone.example.","Error":{"Message":"~NXDOMAIN"}}}},
			"ConnectionReports":{},"ConnectionErrors":{},"Version":{"error":"~NXDOMAIN"},"FederationOK":false}`},
		{"https://a.example/", nil, `{"Error":"Invalid server name 'https://a.example/'","WellKnownResult":{"m.server":"","CacheExpiresAt":0},
			"DNSResult":{"SRVSkipped":false,"SRVCName":"","SRVRecords":null,"SRVError":null,"Hosts":null,"Addrs":null},
			"ConnectionReports":{},"ConnectionErrors":{},"Version":{},"FederationOK":false}`},
	} {
		t.Run(strings.ReplaceAll(test.name, "/", ""), func(t *testing.T) {
			t.Parallel()
			scene, err := world.Parse("tester", []byte(testerWorld))
			require.NoError(t, err)
			synctest.Test(t, func(t *testing.T) {
				w, err := scene.Start(world.Memory{Network: &memnet.Network{}})
				require.NoError(t, err)
				defer w.Close()
				r := reportOn(test.name)
				r.Resolution = inside(w)().Explain(t.Context(), test.name)
				for _, l := range r.Resolution.Located {
					target := check.Target{Host: l.Host, Port: l.Port, Priority: l.Priority, Weight: l.Weight}
					for _, a := range l.Addresses {
						target.Addresses = append(target.Addresses, goodAddress(test.name, a.String(), r.CheckedAt))
					}
					if l.Err != nil {
						target.Error = &check.Problem{Code: "no_address", Message: l.Err.Error()}
					}
					r.Targets = append(r.Targets, target)
				}
				if test.fill != nil {
					test.fill(r)
				}
				text, err := testerJSON(r)
				require.NoError(t, err)
				assert.Contains(t, string(text), "\n  \"FederationOK\": ", "indented as the tester's")
				want := strings.ReplaceAll(test.want, "@NAME@", test.name)
				if strings.Contains(want, `"~`) {
					assert.NoError(t, world.MatchJSON([]byte(want), text))
					return
				}
				assert.JSONEq(t, want, string(text))
				time.Sleep(time.Minute) // what asks in the background ends
			})
		})
	}
}

func TestCommonName(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ in, want string }{
		{"CN=a.example", "a.example"},
		{"a.example", "a.example"},
		{"", ""},
		{"O=Example", ""},
		{"O=Example,CN=a", "a"},
		{`O=A\,CN=b,CN=c`, "c"},
		{`CN=a\,b+OU=x`, "a,b"},
		{`CN=a\`, `a\`},
		{"CN=,O=x", ""},
		{"SERIALNUMBER=1, CN=a", "a"},
	} {
		assert.Equal(t, test.want, commonName(test.in), test.in)
	}
}

func TestFingerprint(t *testing.T) {
	t.Parallel()
	raw, _ := base64.RawStdEncoding.DecodeString("2ccnUfE5U9NBUkQjN1gSD0J4cMXDtcADC+d5Bg5n/CA")
	assert.Equal(t, "2ccnUfE5U9NBUkQjN1gSD0J4cMXDtcADC+d5Bg5n/CA", fingerprint(hex.EncodeToString(raw)))
	assert.Equal(t, "Cgs", fingerprint("0A:0B"))
	assert.Equal(t, "odd", fingerprint("odd"))
}

// TestTesterAPI: the words, the types and the parameters of scripts.
func TestTesterAPI(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		s := &Server{Check: func(_ context.Context, name string, _ resolver.Rules, _ func(check.Event)) *check.Report {
			runs++
			r := reportOn(name)
			if name == "good.example" {
				r.Targets = []check.Target{{Host: name, Port: 8448, Addresses: []check.Address{goodAddress(name, "203.0.113.7:8448", r.CheckedAt)}}}
			}
			return r
		}}
		w := get(s, "/api/federation-ok?server_name=good.example")
		assert.Equal(t, "GOOD", w.Body.String())
		assert.Equal(t, typeText, w.Header().Get("Content-Type"))
		assert.Equal(t, "BAD", get(s, "/api/federation-ok?server_name=none.example").Body.String())
		assert.Equal(t, "BAD", get(s, "/api/federation-ok").Body.String())
		w = get(s, "/api/report?server_name=good.example&tls_sni=x&no_dns=1")
		assert.Equal(t, http.StatusOK, w.Code)
		assert.Equal(t, typeJSON, w.Header().Get("Content-Type"))
		assert.Equal(t, 2, runs, "one run for both")
		time.Sleep(youngest)
		get(s, "/api/report?server_name=good.example&no_cache=false")
		assert.Equal(t, 2, runs)
		get(s, "/api/report?server_name=good.example&no_cache=true")
		assert.Equal(t, 3, runs)
		w = get(s, "/api/report")
		assert.Contains(t, w.Body.String(), `"Error": "Invalid server name ''"`)
	})
}
