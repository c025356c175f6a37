// Package serve is the check of server names as a web service: an HTTP API, a
// page for people, a probe for Prometheus, and the API of the federation tester
// for scripts that know that one. A [Server] is an [net/http.Handler]. The zero
// Server works.
//
// # Paths
//
//	GET /                      the page; /?name=NAME[&rules=R][&refresh=1] is its permanent link and works without script
//	GET /static/...            its style sheet, script and icon
//	GET /api/v1/check          ?server_name=NAME[&rules=R][&refresh=1]: a check.Report
//	GET /api/v1/check/stream   the same as server-sent events; also /api/v1/check with Accept: text/event-stream
//	GET /api/v1/resolve        ?server_name=NAME[&rules=R][&refresh=1]: a resolver.Report, as resolve --json prints it
//	GET /api/v1/client         ?name=MXID|NAME[&refresh=1]: a client.Discovery
//	GET /api/report            ?server_name=NAME: the report of the federation tester
//	GET /api/federation-ok     ?server_name=NAME: GOOD or BAD, as the federation tester says it
//	GET /probe                 ?target=NAME[&rules=R]: a check as Prometheus metrics
//	GET /metrics               the counters of this process; no server names
//	GET /healthz               200 "ok", or 503 "closing" once Close was called; never limited
//	GET /openapi.json          this API for programs
//	GET /robots.txt            keeps crawlers from checking
//
// HEAD and, under /api, OPTIONS are answered too. R is "current" or
// "draft-2019".
//
// # One run for equal questions
//
// Whoever asks what is being found out joins that run, and whoever asks within
// a minute after it gets the same answer, with its age in the header Age and in
// X-Checked-Seconds-Ago. refresh=1 asks anew. A run goes on as long as
// somebody waits for it.
//
// # Events
//
// The stream begins with an event "start" (data: {"server_name", "rules",
// "checked_seconds_ago"}; the last is there only if the check has ended before).
// Each check.Event follows under its kind, with its JSON as data, those so far
// at once; the last is "report". Where no report comes, the last is "failed", its
// data a [Failure]. A client closes the stream after either of them. Lines with a
// colon in front keep the connection open. A client that comes back with
// Last-Event-ID gets what it has missed.
//
// # Failures
//
// They are JSON under /api: {"error": {"code", "message",
// "retry_after_seconds"}}, see [Failure]. A name that is not valid is no
// failure of the service but a report that says so.
//
// # What strangers can do
//
// They can make this server connect to public addresses, and to no others. How
// often is bounded for each client address (an IPv6 /64), for each host that is
// asked about, and in all; how much memory that takes is bounded too, see
// [Limits]. Nothing is written to disk.
package serve
