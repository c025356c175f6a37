package serve

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/check"
	"mxdiscover/resolver"
)

func TestProbe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := offline()
		s.Check = func(ctx context.Context, name string, _ resolver.Rules, _ func(check.Event)) *check.Report {
			r := reportOn(name)
			r.Duration = check.Duration(1500 * time.Millisecond)
			r.Verdict = check.Warn
			r.Resolution = s.resolver(0).Explain(ctx, "203.0.113.7")
			r.WellKnown = []check.WellKnown{{Lifetime: check.Duration(2 * time.Hour), Duration: check.Duration(time.Second)}, {Lifetime: check.Duration(time.Hour)}, {}}
			a := goodAddress(name, "203.0.113.7:8448", r.CheckedAt)
			a.TCP.Duration, a.TLS.Duration = check.Duration(20*time.Millisecond), check.Duration(30*time.Millisecond)
			a.HTTP[0].Keys.Duration = check.Duration(40 * time.Millisecond)
			a.TLS.Certificates[0].NotAfter = time.Unix(2_000_000_000, 0)
			b := goodAddress(name, "203.0.113.8:8448", r.CheckedAt)
			b.TLS.Certificates[0].NotAfter = time.Unix(1_900_000_000, 0)
			b.OK = false
			r.Targets = []check.Target{{Addresses: []check.Address{a, b, {}}, Refused: []resolver.Refused{{}}}}
			r.Findings = []check.Finding{{Code: "ipv6_down", Severity: check.SeverityWarning}, {Code: "name_ip_literal", Severity: check.SeverityNotice}, {Code: "sni_other", Severity: check.SeverityNotice}}
			return r
		}
		w := get(s, "/probe?target=a.example")
		require.Equal(t, http.StatusOK, w.Code)
		assert.True(t, strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain; version=0.0.4"))
		for _, line := range []string{
			"mxdiscover_probe_success 1", "mxdiscover_probe_timeout 0", "mxdiscover_probe_age_seconds 0",
			"mxdiscover_probe_checked_timestamp_seconds 9.466848e+08",
			"mxdiscover_probe_certificate_expiry_timestamp_seconds 1.9e+09",
			"mxdiscover_probe_keys_valid_until_timestamp_seconds 9.467712e+08",
			"mxdiscover_probe_well_known_lifetime_seconds 3600",
			`mxdiscover_probe_duration_seconds{phase="total"} 1.5`, `mxdiscover_probe_duration_seconds{phase="tcp"} 0.02`,
			`mxdiscover_probe_duration_seconds{phase="tls"} 0.03`, `mxdiscover_probe_duration_seconds{phase="http"} 0.04`,
			`mxdiscover_probe_duration_seconds{phase="well_known"} 1`, `mxdiscover_probe_duration_seconds{phase="discovery"} 0`,
			`mxdiscover_probe_rule{rule="1"} 1`, `mxdiscover_probe_verdict{verdict="WARN"} 1`, `mxdiscover_probe_verdict{verdict="GOOD"} 0`,
			`mxdiscover_probe_findings{severity="error"} 0`, `mxdiscover_probe_findings{severity="warning"} 1`, `mxdiscover_probe_findings{severity="notice"} 2`,
			`mxdiscover_probe_finding{code="ipv6_down"} 1`,
			`mxdiscover_probe_addresses{state="ok"} 1`, `mxdiscover_probe_addresses{state="failed"} 2`, `mxdiscover_probe_addresses{state="refused"} 1`,
		} {
			assert.Contains(t, w.Body.String(), line+"\n")
		}
		problems, err := testutil.GatherAndLint(probeMetrics().registry)
		require.NoError(t, err)
		assert.Empty(t, problems)
		time.Sleep(20 * time.Second)
		assert.Contains(t, get(s, "/probe?target=a.example").Body.String(), "mxdiscover_probe_age_seconds 20\n")
	})
}

// TestProbeTimeout: the answer comes before Prometheus gives up.
func TestProbeTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Check: lasting(50 * time.Second)}
		began := time.Now()
		w := get(s, "/probe?target=a.example", with("X-Prometheus-Scrape-Timeout-Seconds", "10"))
		assert.Equal(t, 9500*time.Millisecond, time.Since(began))
		assert.Equal(t, http.StatusOK, w.Code)
		for _, line := range []string{"mxdiscover_probe_success 0", "mxdiscover_probe_timeout 1", "mxdiscover_probe_certificate_expiry_timestamp_seconds NaN", `mxdiscover_probe_duration_seconds{phase="total"} 9.5`} {
			assert.Contains(t, w.Body.String(), line+"\n")
		}
		synctest.Wait()
		assert.Zero(t, s.state().desk.load().live)
		for _, odd := range []string{"", "x", "-1", "NaN", "1e300", "+Inf"} {
			began = time.Now()
			get(s, "/probe?target="+time.Now().Format("150405")+".example", with("X-Prometheus-Scrape-Timeout-Seconds", odd))
			assert.Equal(t, 50*time.Second, time.Since(began), odd)
		}
	})
}

// TestMetrics: everything is counted, nothing by name.
func TestMetrics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Check: atOnce}
		get(s, "/api/v1/check?server_name=secret.example")
		get(s, "/api/v1/check?server_name=secret.example")
		get(s, "/api/v1/check")
		get(s, "/secret")
		get(s, "/static/style.css")
		w := get(s, "/metrics")
		text := w.Body.String()
		for _, line := range []string{
			`mxdiscover_serve_requests_total{path="/api/v1/check",status="200"} 2`, `mxdiscover_serve_requests_total{path="/api/v1/check",status="400"} 1`,
			`mxdiscover_serve_requests_total{path="other",status="404"} 1`, `mxdiscover_serve_requests_total{path="/static/",status="200"} 1`,
			`mxdiscover_serve_refused_total{reason="name_missing"} 1`, `mxdiscover_serve_refused_total{reason="host"} 0`,
			`mxdiscover_serve_answers_total{source="kept"} 1`, `mxdiscover_serve_answers_total{source="started"} 1`,
			`mxdiscover_serve_runs_total{kind="check",result="answered"} 1`, `mxdiscover_serve_verdicts_total{verdict="GOOD"} 1`,
			`mxdiscover_serve_run_duration_seconds_count{kind="check"} 1`, "mxdiscover_serve_runs_in_progress 0", "mxdiscover_serve_answers_kept 1",
			"mxdiscover_serve_requests_in_progress 1", "mxdiscover_serve_panics_total 0",
		} {
			assert.Contains(t, text, line+"\n")
		}
		assert.NotContains(t, text, "secret")
		assert.Contains(t, text, "go_goroutines")
		problems, err := testutil.GatherAndLint(s.state().metrics.registry)
		require.NoError(t, err)
		assert.Empty(t, problems)
	})
}
