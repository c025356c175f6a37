package resolver_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
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

// TestTransportProxy: through a proxy everything is as without one, and what the
// proxy is told stays with it.
func TestTransportProxy(t *testing.T) {
	t.Parallel()
	scene, err := world.Parse("proxy", []byte(small))
	require.NoError(t, err)
	w, transport := federation(t, scene)
	var mu sync.Mutex
	var asked []string
	hosts := map[string]string{"example.org:443": "203.0.113.1:443", "matrix.example.org:443": "203.0.113.2:443"}
	proxy := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		mu.Lock()
		asked = append(asked, req.Method+" "+req.Host+" "+req.Header.Get("Proxy-Authorization"))
		mu.Unlock()
		to, err := w.DialContext(req.Context(), "tcp", hosts[req.Host])
		if err != nil {
			http.Error(rw, "no such server", http.StatusBadGateway)
			return
		}
		defer to.Close()
		from, _, err := rw.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer from.Close()
		io.WriteString(from, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			io.Copy(to, from)
			to.Close()
		}()
		io.Copy(from, to)
	}))
	defer proxy.Close()
	defer transport.CloseIdleConnections()
	via, err := url.Parse(proxy.URL)
	require.NoError(t, err)
	via.User = url.UserPassword("me", "secret")
	r := transport.Resolver
	r.DialContext = nil // the proxy is on the real loopback, and is not asked of the guard
	r.Proxy = func(string, uint16) (*url.URL, error) { return via, nil }
	w.Handle(func(_ http.ResponseWriter, req *http.Request, _ netip.AddrPort) bool {
		for name, values := range req.Header {
			assert.NotContains(t, strings.Join(values, " "), "bWU6c2VjcmV0", name)
		}
		return false
	})

	client := &http.Client{Transport: transport}
	resp, err := client.Get("matrix-federation://example.org/_matrix/federation/v1/version")
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, http.StatusOK, resp.StatusCode)
	assert.Equal(t, []string{"matrix.example.org"}, resp.TLS.PeerCertificates[0].DNSNames)
	assert.Equal(t, "HTTP/2.0", resp.Proto)

	_, err = client.Get("matrix-federation://gone.example:8448/")
	require.ErrorIs(t, err, resolver.ConnectFailed)
	assert.ErrorContains(t, err, "does not connect to gone.example:8448: status 502 Bad Gateway")
	assert.NotContains(t, err.Error(), "secret")

	mu.Lock()
	defer mu.Unlock()
	assert.Equal(t, []string{
		"CONNECT example.org:443 Basic bWU6c2VjcmV0", // well-known
		"CONNECT matrix.example.org:443 Basic bWU6c2VjcmV0",
		"CONNECT gone.example:8448 Basic bWU6c2VjcmV0",
	}, asked)
}
