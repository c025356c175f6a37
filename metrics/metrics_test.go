package metrics_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/world"
	"mxdiscover/metrics"
	"mxdiscover/resolver"
	"mxdiscover/srv"
)

const scene = `
-- zone --
up.example.     A  203.0.113.1
down.example.   A  203.0.113.2
-- servers --
203.0.113.1:443 refuse
203.0.113.2:443 refuse
203.0.113.2:8448 refuse
-- GET https://up.example:8448/ --
200
`

func TestCollector(t *testing.T) {
	t.Parallel()
	s, err := world.Parse("metrics", []byte(scene))
	require.NoError(t, err)
	w, err := s.Start(world.Loopback{})
	require.NoError(t, err)
	defer w.Close()
	r := &resolver.Resolver{
		DNS:     &srv.Client{Servers: w.DNSServers(), HostsFile: os.DevNull},
		RootCAs: w.Roots(), AllowNets: w.AllowNets(), DialContext: w.DialContext,
	}
	transport := &resolver.Transport{Resolver: r}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport}
	for range 2 {
		resp, err := client.Get("matrix-federation://up.example/")
		require.NoError(t, err)
		resp.Body.Close()
		_, err = client.Get("matrix-federation://down.example/")
		require.ErrorIs(t, err, resolver.Unreachable)
	}

	registry := prometheus.NewPedanticRegistry()
	collector := metrics.NewCollector(r, transport)
	require.NoError(t, registry.Register(collector))
	problems, err := testutil.GatherAndLint(registry)
	require.NoError(t, err)
	assert.Empty(t, problems)
	want := `
# HELP mxdiscover_asked_again_total Discoveries asked again because no target could be connected to.
# TYPE mxdiscover_asked_again_total counter
mxdiscover_asked_again_total 1
# HELP mxdiscover_connections_total Connections made to federation servers.
# TYPE mxdiscover_connections_total counter
mxdiscover_connections_total 1
# HELP mxdiscover_fetch_failures_total Questions that failed.
# TYPE mxdiscover_fetch_failures_total counter
mxdiscover_fetch_failures_total{input="well_known",reason="connect_failed"} 2
# HELP mxdiscover_plans Destinations remembered.
# TYPE mxdiscover_plans gauge
mxdiscover_plans 2
# HELP mxdiscover_requests_refused_total Requests that failed at once because their server had failed before.
# TYPE mxdiscover_requests_refused_total counter
mxdiscover_requests_refused_total 1
# HELP mxdiscover_target_failures_total Targets that could not be connected to.
# TYPE mxdiscover_target_failures_total counter
mxdiscover_target_failures_total{code="connect_failed"} 1
`
	assert.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(want),
		"mxdiscover_asked_again_total", "mxdiscover_connections_total", "mxdiscover_fetch_failures_total",
		"mxdiscover_plans", "mxdiscover_requests_refused_total", "mxdiscover_target_failures_total"))
	families, err := registry.Gather()
	require.NoError(t, err)
	assert.Len(t, families, 13, "every one that the documentation lists")
	for _, family := range families {
		for _, metric := range family.Metric {
			for _, label := range metric.Label {
				assert.NotContains(t, label.GetValue(), "example", "no label has a server name")
			}
		}
	}
}

// TestEitherMayBeMissing: a program may have a resolver or a transport alone.
func TestEitherMayBeMissing(t *testing.T) {
	t.Parallel()
	assert.Equal(t, 14, testutil.CollectAndCount(metrics.NewCollector(new(resolver.Resolver), nil)))
	assert.Equal(t, 6, testutil.CollectAndCount(metrics.NewCollector(nil, new(resolver.Transport))))
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(metrics.NewCollector(new(resolver.Resolver), nil)))
	require.NoError(t, registry.Register(metrics.NewCollector(nil, new(resolver.Transport))), "they do not overlap")
}

func ExampleNewCollector() {
	r := new(resolver.Resolver)
	transport := &resolver.Transport{Resolver: r}

	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics.NewCollector(r, transport))
	http.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))

	answer := httptest.NewRecorder()
	http.DefaultServeMux.ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(answer.Body.String()) {
		if strings.HasPrefix(line, "mxdiscover_resolves_total") {
			fmt.Print(line)
		}
	}
	if answer.Code != http.StatusOK {
		log.Fatal(answer.Code)
	}
	// Output:
	// mxdiscover_resolves_total{result="hit"} 0
	// mxdiscover_resolves_total{result="miss"} 0
}
