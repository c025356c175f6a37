package serve

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"mxdiscover/check"
)

// counters are the metrics of a Server. None has a label whose values strangers
// choose.
type counters struct {
	registry *prometheus.Registry

	requests *prometheus.CounterVec   // {path,status}: "other" for paths that there are not
	refused  *prometheus.CounterVec   // {reason}
	answers  *prometheus.CounterVec   // {source}
	runs     *prometheus.CounterVec   // {kind,result}
	seconds  *prometheus.HistogramVec // {kind}
	verdicts *prometheus.CounterVec   // {verdict}
	panics   prometheus.Counter
	streams  prometheus.Gauge
}

func newCounters(st *state) *counters {
	name := func(s string) string { return "mxdiscover_serve_" + s }
	counter := func(s, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name(s), Help: help}, labels)
	}
	gauge := func(s, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name(s), Help: help}, value)
	}
	c := &counters{
		registry: prometheus.NewRegistry(),
		requests: counter("requests_total", "Requests answered.", "path", "status"),
		refused:  counter("refused_total", "Requests that got no answer, by the limit or the fault.", "reason"),
		answers:  counter("answers_total", "Questions: kept (answered from memory), joined (to a run under way), started (a run).", "source"),
		runs:     counter("runs_total", "Runs that have ended: answered, failed, or abandoned by everybody who waited.", "kind", "result"),
		verdicts: counter("verdicts_total", "Checks that have ended, by verdict.", "verdict"),
		panics:   prometheus.NewCounter(prometheus.CounterOpts{Name: name("panics_total"), Help: "Faults of this program that were contained."}),
		streams:  prometheus.NewGauge(prometheus.GaugeOpts{Name: name("streams_open"), Help: "Event streams."}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name("run_duration_seconds"), Help: "How long runs took, the wait for a place included.",
			Buckets: []float64{.1, .25, .5, 1, 2.5, 5, 10, 20, 40, 60, 90},
		}, []string{"kind"}),
	}
	load := st.desk.load
	c.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		c.requests, c.refused, c.answers, c.runs, c.verdicts, c.panics, c.streams, c.seconds,
		gauge("requests_in_progress", "Requests under way.", func() float64 { return float64(st.limits.requests()) }),
		gauge("runs_in_progress", "Runs that have a place.", func() float64 { return float64(load().working) }),
		gauge("runs_waiting", "Runs that wait for a place.", func() float64 { l := load(); return float64(max(0, l.live-l.working)) }),
		gauge("answers_kept", "Answers in memory for whoever asks next.", func() float64 { return float64(load().kept) }),
		gauge("answers_kept_bytes", "Memory for them, about.", func() float64 { return float64(load().keptBytes) }),
		gauge("answers_held_bytes", "The same with those that are being sent.", func() float64 { return float64(load().heldBytes) }),
		gauge("events_held_bytes", "Memory for the events of runs under way.", func() float64 { return float64(load().events) }),
	)
	// All that can be counted is there from the start, so that rates are right
	// from the first one on.
	for _, r := range routes() {
		c.requests.WithLabelValues(r.path, "200")
	}
	for _, reason := range []string{"requests", "requests_at_once", "checks", "refreshes", "host", "in_all", "busy", "closing", "internal"} {
		c.refused.WithLabelValues(reason)
	}
	for _, source := range []string{"kept", "joined", "started"} {
		c.answers.WithLabelValues(source)
	}
	for _, kind := range []string{kindCheck, kindResolve, kindClient} {
		c.seconds.WithLabelValues(kind)
		for _, result := range []string{"answered", "failed", "abandoned"} {
			c.runs.WithLabelValues(kind, result)
		}
	}
	for _, verdict := range []check.Verdict{check.Good, check.Warn, check.Bad} {
		c.verdicts.WithLabelValues(string(verdict))
	}
	return c
}

// ended counts a run.
func (c *counters) ended(r *run, took time.Duration) {
	result := "abandoned"
	switch {
	case r.answer != nil:
		result = "answered"
		if report := r.answer.report; report != nil {
			c.verdicts.WithLabelValues(verdict(report)).Inc()
		}
	case r.failure != nil:
		result = "failed"
	}
	c.runs.WithLabelValues(r.kind, result).Inc()
	c.seconds.WithLabelValues(r.kind).Observe(took.Seconds())
}

// verdict is the report's, which is one of three.
func verdict(r *check.Report) string {
	switch r.Verdict {
	case check.Good, check.Warn:
		return string(r.Verdict)
	}
	return string(check.Bad)
}

// metricsPage is /metrics.
func (x *exchange) metricsPage() { serveRegistry(x, x.metrics.registry) }

func serveRegistry(x *exchange, registry *prometheus.Registry) {
	x.Header().Set("Vary", "Accept")
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{DisableCompression: true}).ServeHTTP(x, x.r)
}

var _ http.ResponseWriter = (*exchange)(nil)
