package resolver_test

import (
	"io"
	"net/http"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/world"
	"mxdiscover/resolver"
	"mxdiscover/srv"
)

// federation starts a scene on loopback and gives a Transport into it.
func federation(t *testing.T, scene *world.Scene) (*world.World, *resolver.Transport) {
	t.Helper()
	w, err := scene.Start(world.Loopback{})
	require.NoError(t, err)
	t.Cleanup(func() { w.Close() })
	transport := &resolver.Transport{Resolver: &resolver.Resolver{
		DNS:         &srv.Client{Servers: w.DNSServers(), HostsFile: os.DevNull, Dial: w.DNSDial()},
		RootCAs:     w.Roots(),
		AllowNets:   w.AllowNets(),
		DialContext: w.DialContext,
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return w, transport
}

func tour(t *testing.T) *world.Scene {
	t.Helper()
	scene, err := world.Load("../testdata/worlds/tour.txtar")
	require.NoError(t, err)
	return scene
}

// TestTransportTour: a request reaches the right server by every rule.
func TestTransportTour(t *testing.T) {
	t.Parallel()
	_, transport := federation(t, tour(t))
	client := &http.Client{Transport: transport}
	for name, want := range map[string]string{
		"203.0.113.10":        "1 (203.0.113.10)",
		"[2001:db8::10]:8449": "1 ([2001:db8::10]:8449)",
		"port.example:8449":   "2 (port.example:8449)",
		"ip.example":          "1 (203.0.113.10)",
		"delegated.example":   "3.2 (matrix.delegated.example:443)",
		"srv.example":         "3.3 (matrix.srv.example)",
		"oldsrv.example":      "3.4 (matrix.oldsrv.example)",
		"bare.example":        "3.5 (matrix.bare.example)",
		"nowellknown.example": "4 (nowellknown.example)",
		"veryold.example":     "5 (veryold.example)",
		"plain.example":       "6 (plain.example)",
	} {
		for _, scheme := range []string{"matrix-federation", "matrix"} {
			url := scheme + "://" + name + "/_matrix/federation/v1/version"
			req, err := http.NewRequest("GET", url, nil)
			require.NoError(t, err)
			resp, err := client.Do(req)
			require.NoError(t, err, name)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			resp.Body.Close()
			assert.Contains(t, string(body), `"`+want+`"`)
			assert.Equal(t, "HTTP/2.0", resp.Proto)
			assert.Same(t, req, resp.Request)
			assert.Equal(t, url, req.URL.String())
		}
	}
	stats := transport.Stats()
	assert.Equal(t, uint64(10), stats.Connections, "ip.example and 203.0.113.10 share one")
	assert.Zero(t, stats.Connecting)
	assert.Empty(t, stats.Failures)
}
