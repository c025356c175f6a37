package serve

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/memnet"
	"mxdiscover/internal/world"
)

// within runs a test against a Server in a world, with the real check.
func within(t *testing.T, scene *world.Scene, do func(t *testing.T, s *Server)) {
	synctest.Test(t, func(t *testing.T) {
		w, err := scene.Start(world.Memory{Network: &memnet.Network{Latency: 5 * time.Millisecond}})
		require.NoError(t, err)
		defer w.Close()
		do(t, &Server{NewResolver: inside(w)})
		time.Sleep(2 * time.Minute) // what asks in the background ends
	})
}

// TestTour asks every route about names of the tour: all of them tell the same.
func TestTour(t *testing.T) {
	t.Parallel()
	scene, err := world.Load("../testdata/worlds/tour.txtar")
	require.NoError(t, err)
	v := validator{dig(t, document(t), "components", "schemas").(object)}
	for _, test := range []struct {
		name, verdict, rule, ok string
	}{
		{"delegated.example", "GOOD", "3.2", "GOOD"},
		{"nowhere.example", "BAD", "", "BAD"},
		{"not a name", "BAD", "", "BAD"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			within(t, scene, func(t *testing.T, s *Server) {
				name := url.QueryEscape(test.name)
				w := get(s, "/api/v1/check?server_name="+name)
				require.Equal(t, http.StatusOK, w.Code)
				var report any
				require.NoError(t, json.Unmarshal(w.Body.Bytes(), &report))
				v.check(t, "report", ref("Report"), report)
				assert.Equal(t, test.verdict, dig(t, report, "verdict"))
				assert.Equal(t, test.ok, get(s, "/api/federation-ok?server_name="+name).Body.String())
				w = get(s, "/api/report?server_name="+name)
				var tester any
				require.NoError(t, json.Unmarshal(w.Body.Bytes(), &tester))
				v.check(t, "tester", ref("TesterReport"), tester)
				assert.Equal(t, test.ok == "GOOD", dig(t, tester, "FederationOK"))
				probe := get(s, "/probe?target="+name).Body.String()
				assert.Contains(t, probe, `mxdiscover_probe_verdict{verdict="`+test.verdict+`"} 1`)
				if test.rule != "" {
					assert.Contains(t, probe, `mxdiscover_probe_rule{rule="`+test.rule+`"} 1`)
				}
				assert.Contains(t, get(s, "/?name="+name).Body.String(), test.verdict)
				w = get(s, "/api/v1/resolve?server_name="+name)
				var resolution any
				require.NoError(t, json.Unmarshal(w.Body.Bytes(), &resolution))
				v.check(t, "resolution", ref("Resolution"), resolution)
				w = get(s, "/api/v1/client?name="+name)
				var discovery any
				require.NoError(t, json.Unmarshal(w.Body.Bytes(), &discovery))
				v.check(t, "discovery", ref("Discovery"), discovery)
				stream := get(s, "/api/v1/check/stream?refresh=1&server_name="+name).Body.String()
				assert.Contains(t, stream, "event: report\n")
			})
		})
	}
}

// TestEvents: with the real check, what happens is told before the end, and as
// the document says.
func TestEvents(t *testing.T) {
	t.Parallel()
	scene, err := world.Load("../testdata/worlds/tour.txtar")
	require.NoError(t, err)
	v := validator{dig(t, document(t), "components", "schemas").(object)}
	within(t, scene, func(t *testing.T, s *Server) {
		site := newSite(t, s)
		e := site.open(t, "/api/v1/check/stream?server_name=delegated.example")
		defer e.close()
		var (
			first time.Time
			kinds = map[string]int{}
		)
		for {
			ev, ok := e.next()
			if !ok {
				break
			}
			if ev.kind != "start" {
				if first.IsZero() {
					first = time.Now()
				}
				var data any
				require.NoError(t, json.Unmarshal([]byte(ev.data), &data))
				v.check(t, ev.kind, ref("Event"), data)
			}
			kinds[ev.kind]++
		}
		assert.True(t, first.Before(time.Now()), "the first event comes before the last")
		for _, kind := range []string{"start", "asked", "step", "well_known", "target", "address", "report"} {
			assert.NotZero(t, kinds[kind], kind)
		}
	})
}

// TestHostileServers: servers that attack whoever looks at what they say.
func TestHostileServers(t *testing.T) {
	t.Parallel()
	const attack = `<script>alert(1)</script>"'><img src=x onerror=alert(1)>`
	text := strings.NewReplacer("ATTACK2", strings.ReplaceAll(attack, `"`, `\"`), "ATTACK", attack).Replace(`Servers that attack.
-- zone --
a.example.  A  203.0.113.1
b.example.  A  203.0.113.2
c.example.  A  203.0.113.3
-- servers --
203.0.113.1:8448
203.0.113.2:8448
203.0.113.3:8448
-- GET https://a.example/.well-known/matrix/server --
200
Content-Type: ATTACK
Server: ATTACK

{"m.server":"ATTACK2"}
-- GET https://b.example/.well-known/matrix/server --
302
Location: https://b.example/ATTACK

-- GET https://c.example/.well-known/matrix/server --
500 ATTACK

ATTACK
-- GET https://a.example:8448/_matrix/federation/v1/version --
200
Server: ATTACK

{"server":{"name":"ATTACK2","version":"ATTACK2\n\u001b[31m"}}
-- GET https://a.example:8448/_matrix/key/v2/server --
200

{"server_name":"ATTACK2","valid_until_ts":1,"verify_keys":{"ed25519:ATTACK2":{"key":"ATTACK2"}},"signatures":{"ATTACK2":{"ed25519:ATTACK2":"ATTACK2"}}}
-- GET https://b.example:8448/_matrix/federation/v1/version --
404 ATTACK
Content-Type: text/html
Date: ATTACK

ATTACK
-- GET https://a.example/.well-known/matrix/client --
200

{"m.homeserver":{"base_url":"https://ATTACK2"},"ATTACK2":"ATTACK2"}
`)
	scene, err := world.Parse("hostile", []byte(text))
	require.NoError(t, err)
	for _, name := range []string{"a.example", "b.example", "c.example"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			within(t, scene, func(t *testing.T, s *Server) {
				for _, target := range hostileTargets(name) {
					var log bytes.Buffer
					s := &Server{NewResolver: s.NewResolver, Logger: slog.New(slog.NewTextHandler(&log, nil))}
					judgeAnswer(t, get(s, target), attack, log.String())
				}
			})
		})
	}
}

// TestHTTP2: a stream over HTTP/2 outlives the time for one write.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Check: lasting(2*writeTimeout + 5*time.Second)}
		site := newSite(t, s)
		var two http.Protocols
		two.SetUnencryptedHTTP2(true)
		site.client.Transport.(*http.Transport).Protocols = &two
		for _, target := range []string{"/api/v1/check/stream?server_name=a.example", "/?name=b.example", "/api/v1/check?server_name=c.example"} {
			began := time.Now()
			resp, text := site.get(t, target)
			assert.Equal(t, 2, resp.ProtoMajor)
			assert.GreaterOrEqual(t, time.Since(began), 2*writeTimeout)
			assert.Contains(t, text, "GOOD")
			assert.Contains(t, text, "All is well.")
		}
	})
}
