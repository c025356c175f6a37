// Package metrics gives the counts of a resolver and a transport to Prometheus.
// No label ever holds a server name: whoever talks to this server could make
// any number of them.
//
// It is a package of its own so that nobody else pays for the client library.
package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"mxdiscover/resolver"
)

// A Collector is a [prometheus.Collector] of a resolver and, if there is one, a
// transport. A program with several registers each with labels of its own
// ([prometheus.WrapRegistererWith]).
//
//	mxdiscover_resolves_total{result}               hit: answered from memory; miss: somebody was asked
//	mxdiscover_fetches_total{input}                 well_known, srv or addresses: questions begun
//	mxdiscover_fetch_failures_total{input,reason}   those that failed; see resolver.InputStats
//	mxdiscover_fetches_in_flight{input}             under way
//	mxdiscover_fetches_waiting{input}               waiting for others to end
//	mxdiscover_cache_entries{input}                 answers remembered
//	mxdiscover_connections_total                    made by the transport
//	mxdiscover_connections_in_progress              being made
//	mxdiscover_connections_saved_total              not made, since one that was just made took more requests
//	mxdiscover_target_failures_total{code}          targets that did not do; see resolver.Try
//	mxdiscover_requests_refused_total               failed at once, since their server had failed before
//	mxdiscover_asked_again_total                    discoveries asked again, since no target could be reached
//	mxdiscover_plans                                destinations remembered
type Collector struct {
	resolver  *resolver.Resolver
	transport *resolver.Transport
}

// NewCollector returns a Collector of r and t, either of which may be nil. A
// transport without a Resolver of the caller's keeps its own to itself.
func NewCollector(r *resolver.Resolver, t *resolver.Transport) *Collector {
	return &Collector{resolver: r, transport: t}
}

// descriptions of all metrics, in the order of the Collector's documentation.
type descriptions struct {
	resolves, fetches, fetchFailures, inFlight, waiting, entries          *prometheus.Desc
	connections, connecting, saved, targetFailures, refused, again, plans *prometheus.Desc
}

func describe() descriptions {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("mxdiscover_"+name, help, labels, nil)
	}
	return descriptions{
		resolves:       desc("resolves_total", "Server names resolved, from memory (hit) or by asking (miss).", "result"),
		fetches:        desc("fetches_total", "Questions begun.", "input"),
		fetchFailures:  desc("fetch_failures_total", "Questions that failed.", "input", "reason"),
		inFlight:       desc("fetches_in_flight", "Questions under way.", "input"),
		waiting:        desc("fetches_waiting", "Questions that wait for others to end.", "input"),
		entries:        desc("cache_entries", "Answers remembered, expired ones included.", "input"),
		connections:    desc("connections_total", "Connections made to federation servers."),
		connecting:     desc("connections_in_progress", "Connections being made."),
		saved:          desc("connections_saved_total", "Connections not made because another one took more than one request at once."),
		targetFailures: desc("target_failures_total", "Targets that could not be connected to.", "code"),
		refused:        desc("requests_refused_total", "Requests that failed at once because their server had failed before."),
		again:          desc("asked_again_total", "Discoveries asked again because no target could be connected to."),
		plans:          desc("plans", "Destinations remembered."),
	}
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	d := describe()
	if c.resolver != nil {
		for _, desc := range []*prometheus.Desc{d.resolves, d.fetches, d.fetchFailures, d.inFlight, d.waiting, d.entries} {
			ch <- desc
		}
	}
	if c.transport != nil {
		for _, desc := range []*prometheus.Desc{d.connections, d.connecting, d.saved, d.targetFailures, d.refused, d.again, d.plans} {
			ch <- desc
		}
	}
}

// Collect implements [prometheus.Collector].
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	d := describe()
	count := func(desc *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(desc *prometheus.Desc, n int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(n), labels...)
	}
	if c.resolver != nil {
		stats := c.resolver.Stats()
		count(d.resolves, stats.Hits, "hit")
		count(d.resolves, stats.Misses, "miss")
		for _, input := range []struct {
			name string
			resolver.InputStats
		}{{"well_known", stats.WellKnown}, {"srv", stats.SRV}, {"addresses", stats.Addresses}} {
			count(d.fetches, input.Fetches, input.name)
			for reason, n := range input.Failures {
				count(d.fetchFailures, n, input.name, reason)
			}
			gauge(d.inFlight, input.InFlight, input.name)
			gauge(d.waiting, input.Waiting, input.name)
			gauge(d.entries, input.Entries, input.name)
		}
	}
	if c.transport != nil {
		stats := c.transport.Stats()
		count(d.connections, stats.Connections)
		gauge(d.connecting, stats.Connecting)
		count(d.saved, stats.Shared)
		for code, n := range stats.Failures {
			count(d.targetFailures, n, string(code))
		}
		count(d.refused, stats.Remembered)
		count(d.again, stats.AskedAgain)
		gauge(d.plans, stats.Plans)
	}
}
