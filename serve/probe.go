package serve

import (
	"context"
	"math"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mxdiscover/check"
)

// scrapeSlack is how much earlier than Prometheus would give up the probe does,
// as the blackbox exporter has it.
const scrapeSlack = 500 * time.Millisecond

// probe is /probe: a check in the form of the exporters that are asked about a
// target. Whether the target is good is in the metrics; another status than 200
// says that nothing was checked.
func (x *exchange) probe() {
	began := time.Now()
	q, refresh, f := x.asked(kindCheck, "target")
	if f != nil {
		x.fail(f)
		return
	}
	// Prometheus says how long it will wait.
	if seconds, err := strconv.ParseFloat(x.r.Header.Get("X-Prometheus-Scrape-Timeout-Seconds"), 64); err == nil && seconds > 0 && seconds < 3600 {
		wait := max(time.Duration(seconds*float64(time.Second))-scrapeSlack, scrapeSlack)
		ctx, cancel := context.WithTimeout(x.r.Context(), wait)
		defer cancel()
		x.r = x.r.WithContext(ctx)
	}
	a, f, done := x.wait(q, refresh)
	defer done()
	if f != nil {
		x.fail(f)
		return
	}
	p := probeMetrics()
	if a == nil { // the time is up, or nobody is there
		p.duration.WithLabelValues("total").Set(time.Since(began).Seconds())
		p.timeout.Set(1)
	} else {
		p.fill(a.report)
		p.age.Set(a.age(time.Now()).Seconds())
	}
	serveRegistry(x, p.registry)
}

// probed are the metrics of one check.
type probed struct {
	registry *prometheus.Registry

	success, timeout, age, expiry, wellKnown, keys, checked prometheus.Gauge
	duration, rule, findings, finding, verdict, addresses   *prometheus.GaugeVec
}

// probeMetrics makes them, zero where zero means something: what is not known, such
// as the expiry of a certificate that was not seen, is NaN.
func probeMetrics() *probed {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "mxdiscover_probe_" + name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "mxdiscover_probe_" + name, Help: help}, []string{label})
	}
	p := &probed{
		registry:  prometheus.NewRegistry(),
		success:   gauge("success", "1 unless the verdict is BAD or the check was not done in time."),
		timeout:   gauge("timeout", "1 if the scrape's time was up before the check had ended."),
		age:       gauge("age_seconds", "How long before the scrape the check had ended."),
		checked:   gauge("checked_timestamp_seconds", "When the check began."),
		expiry:    gauge("certificate_expiry_timestamp_seconds", "When the first of the servers' own certificates expires."),
		keys:      gauge("keys_valid_until_timestamp_seconds", "Until when the first of the published keys are valid."),
		wellKnown: gauge("well_known_lifetime_seconds", "How long the shortest-lived well-known answer counts."),
		duration:  vec("duration_seconds", "How long the phase took, at the slowest address.", "phase"),
		rule:      vec("rule", "1 for the rule of the specification that decided.", "rule"),
		findings:  vec("findings", "How many findings there are.", "severity"),
		finding:   vec("finding", "How many findings of this code there are.", "code"),
		verdict:   vec("verdict", "1 for the verdict.", "verdict"),
		addresses: vec("addresses", "Addresses of the targets, by whether a server gets its answers there.", "state"),
	}
	p.registry.MustRegister(p.success, p.timeout, p.age, p.checked, p.expiry, p.keys, p.wellKnown,
		p.duration, p.rule, p.findings, p.finding, p.verdict, p.addresses)
	for _, unknown := range []prometheus.Gauge{p.age, p.checked, p.expiry, p.keys, p.wellKnown} {
		unknown.Set(math.NaN())
	}
	for _, phase := range []string{"total", "discovery", "well_known", "tcp", "tls", "http"} {
		p.duration.WithLabelValues(phase)
	}
	for _, severity := range []check.Severity{check.SeverityError, check.SeverityWarning, check.SeverityNotice} {
		p.findings.WithLabelValues(string(severity))
	}
	for _, v := range []check.Verdict{check.Good, check.Warn, check.Bad} {
		p.verdict.WithLabelValues(string(v))
	}
	for _, state := range []string{"ok", "failed", "refused"} {
		p.addresses.WithLabelValues(state)
	}
	return p
}

// fill sets them from a report.
func (p *probed) fill(r *check.Report) {
	v := verdict(r)
	p.verdict.WithLabelValues(v).Set(1)
	if v != string(check.Bad) {
		p.success.Set(1)
	}
	p.checked.Set(unix(r.CheckedAt))
	slowest := map[string]time.Duration{"total": time.Duration(r.Duration)}
	took := func(phase string, d check.Duration) { slowest[phase] = max(slowest[phase], time.Duration(d)) }
	if r.Resolution != nil && r.Resolution.Result != nil {
		if r.Resolution.Step != "" {
			p.rule.WithLabelValues(r.Resolution.Step).Set(1)
		}
		var sum time.Duration
		for _, step := range r.Resolution.Steps() {
			sum += step.Duration
		}
		took("discovery", check.Duration(sum))
	}
	lifetime := time.Duration(math.MaxInt64)
	for _, w := range r.WellKnown {
		took("well_known", w.Duration)
		if w.Lifetime > 0 {
			lifetime = min(lifetime, time.Duration(w.Lifetime))
			p.wellKnown.Set(lifetime.Seconds())
		}
	}
	var expiry, keys time.Time
	for _, t := range r.Targets {
		p.addresses.WithLabelValues("refused").Add(float64(len(t.Refused)))
		for _, a := range t.Addresses {
			state := "failed"
			if a.OK {
				state = "ok"
			}
			p.addresses.WithLabelValues(state).Inc()
			took("tcp", a.TCP.Duration)
			if a.TLS != nil {
				took("tls", a.TLS.Duration)
				if len(a.TLS.Certificates) > 0 {
					expiry = earlier(expiry, a.TLS.Certificates[0].NotAfter)
				}
			}
			for _, h := range a.HTTP {
				took("http", h.Version.Duration)
				took("http", h.Keys.Duration)
				keys = earlier(keys, h.Keys.ValidUntil)
			}
		}
	}
	for phase, d := range slowest {
		p.duration.WithLabelValues(phase).Set(d.Seconds())
	}
	if !expiry.IsZero() {
		p.expiry.Set(unix(expiry))
	}
	if !keys.IsZero() {
		p.keys.Set(unix(keys))
	}
	for _, f := range r.Findings {
		p.findings.WithLabelValues(string(f.Severity)).Inc()
		p.finding.WithLabelValues(f.Code).Inc()
	}
}

// earlier is the earlier of two times, one of which may be unknown.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func unix(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
