package serve

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"mxdiscover/internal/clientaddr"
	"mxdiscover/internal/printable"
	"mxdiscover/resolver"
)

const (
	// maxQuery is the longest query that is read: a name of maxName bytes, all
	// of them escaped, with room for the rest.
	maxQuery = 2048

	// maxName is the longest name that is asked about. A server name has at most
	// 259 bytes and a user ID 255 (appendices, Server Name and User Identifiers);
	// what is longer is told that it is, up to here.
	maxName = 512

	// maxLogged is how much of a name, a path or a method a line of the log has.
	maxLogged = 300

	// writeTimeout is how long a client may take to take what is there for it,
	// a MiB at most.
	writeTimeout = 20 * time.Second

	// bodyTimeout is how long a connection stays whose client sends a body that
	// nobody wants.
	bodyTimeout = time.Second
)

// scope says for whom an answer is, and so which headers it has.
type scope int

const (
	forPrograms scope = iota // JSON failures, readable by every web page (CORS)
	forPeople                // the page
	forMachines              // of the operator and of crawlers
)

// A route is a path and who answers it.
type route struct {
	path  string
	scope scope
	quiet bool // logged at debug level only
	free  bool // not limited
	get   bool // GET only, no HEAD
	serve func(*exchange)
}

// routes are all of the Server, besides those under /static/.
func routes() []route {
	return []route{
		{path: "/", scope: forPeople, serve: (*exchange).page},
		{path: "/api/v1/check", serve: (*exchange).check},
		{path: "/api/v1/check/stream", get: true, serve: (*exchange).stream},
		{path: "/api/v1/resolve", serve: (*exchange).resolve},
		{path: "/api/v1/client", serve: (*exchange).client},
		{path: "/api/report", serve: (*exchange).report},
		{path: "/api/federation-ok", serve: (*exchange).federationOK},
		{path: "/openapi.json", serve: (*exchange).openAPI},
		{path: "/probe", scope: forMachines, serve: (*exchange).probe},
		{path: "/metrics", scope: forMachines, quiet: true, serve: (*exchange).metricsPage},
		{path: "/healthz", scope: forMachines, quiet: true, free: true, serve: (*exchange).health},
		{path: "/robots.txt", scope: forMachines, serve: (*exchange).robots},
	}
}

// staticPrefix is where the page's files are.
const staticPrefix = "/static/"

// find gives the route of a path, and the label that it has in the metrics.
func (st *state) find(path string) (r *route, label string) {
	if r := st.routes[path]; r != nil {
		return r, path
	}
	if st.static[strings.TrimPrefix(path, staticPrefix)] != nil && strings.HasPrefix(path, staticPrefix) {
		return &route{path: path, scope: forPeople, quiet: true, serve: (*exchange).staticFile}, staticPrefix
	}
	return nil, "other"
}

// exchange is one request and its answer. As an io.Writer it sends a part of
// the answer, and gives the client a time to take it.
type exchange struct {
	*Server
	*state
	w     http.ResponseWriter
	r     *http.Request
	rc    *http.ResponseController
	route *route
	who   asker
	query url.Values

	status  int    // 0 until the header is written
	writing bool   // since the last flush
	name    string // that was asked about
	source  string // of the answer
	code    string // of the failure
}

// ServeHTTP answers one request. It may be called by many goroutines at once.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	from := clientaddr.Of(r, s.TrustForwardedFor)
	x := &exchange{
		Server: s, state: s.state(), w: w, r: r, rc: http.NewResponseController(w),
		who: asker{key: clientKey(from.Client), unlimited: clientaddr.Contains(s.Unlimited, from.Client)},
	}
	route, label := x.find(r.URL.Path)
	x.route = route
	defer func() {
		value := recover()
		switch {
		case value == nil, value == http.ErrAbortHandler:
		default:
			x.desk.panicked(value)
			if x.status == 0 {
				x.fail(internal())
				value = nil
			} else {
				value = http.ErrAbortHandler // the client must see that it is not whole
			}
		}
		status := strconv.Itoa(x.status)
		if x.status == 0 {
			status = "gone" // the client, before there was an answer
		}
		x.metrics.requests.WithLabelValues(label, status).Inc()
		x.record(from.Client, began)
		if value != nil {
			panic(value)
		}
	}()
	x.begin()
}

// record writes the request's line of the log.
func (x *exchange) record(client netip.Addr, began time.Time) {
	level := slog.LevelInfo
	if x.route != nil && x.route.quiet {
		level = slog.LevelDebug
	}
	ctx := x.r.Context()
	if !x.log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", printable.Quote(x.r.Method, maxLogged)),
		slog.String("path", printable.Quote(x.r.URL.Path, maxLogged)),
		slog.Int("status", x.status),
		slog.Duration("duration", time.Since(began)),
	}
	if client.IsValid() {
		attrs = append(attrs, slog.String("client", client.String()))
	}
	if x.name != "" {
		attrs = append(attrs, slog.String("name", printable.Quote(x.name, maxLogged)))
	}
	if x.source != "" {
		attrs = append(attrs, slog.String("source", x.source))
	}
	if x.code != "" {
		attrs = append(attrs, slog.String("failure", x.code))
	}
	x.log.LogAttrs(ctx, level, "request", attrs...)
}

// begin does what is the same for all requests.
func (x *exchange) begin() {
	x.setHeaders()
	if x.r.ContentLength != 0 || len(x.r.TransferEncoding) > 0 {
		// net/http would wait for it before the next request.
		x.rc.SetReadDeadline(time.Now().Add(bodyTimeout))
		x.w.Header().Set("Connection", "close")
	}
	if x.route != nil && x.route.free {
		x.serve()
		return
	}
	if f := x.limits.enter(x.who, time.Now()); f != nil {
		x.fail(f)
		return
	}
	defer x.limits.leave(x.who)
	x.serve()
}

// serve judges the request and gives it to its route.
func (x *exchange) serve() {
	const allowed = "GET, HEAD, OPTIONS"
	r := x.r
	switch {
	case len(r.URL.RawQuery) > maxQuery:
		x.fail(wrong(http.StatusRequestURITooLong, "query_too_long", fmt.Sprintf("The query has more than %d bytes.", maxQuery)))
	case x.route == nil:
		x.fail(wrong(http.StatusNotFound, "not_found", "There is nothing here."))
	case r.Method == http.MethodOptions:
		h := x.w.Header()
		h.Set("Allow", allowed)
		if x.route.scope == forPrograms {
			h.Set("Access-Control-Allow-Methods", allowed)
			h.Set("Access-Control-Allow-Headers", "Accept, Cache-Control, Content-Type, Last-Event-ID, Origin, X-Requested-With")
			h.Set("Access-Control-Max-Age", "86400")
		}
		x.writeHeader(http.StatusNoContent)
	case r.Method != http.MethodGet && (r.Method != http.MethodHead || x.route.get):
		x.w.Header().Set("Allow", allowed)
		x.fail(wrong(http.StatusMethodNotAllowed, "method_not_allowed", "Only GET is served here."))
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		x.fail(wrong(http.StatusRequestEntityTooLarge, "body_refused", "A request here has no body."))
	default:
		var err error
		if x.query, err = url.ParseQuery(r.URL.RawQuery); err != nil {
			x.fail(wrong(http.StatusBadRequest, "bad_query", "The query is not well-formed."))
			return
		}
		x.route.serve(x)
	}
}

// plainPolicy is the Content-Security-Policy of everything but the page.
const plainPolicy = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

// setHeaders sets what every answer has.
func (x *exchange) setHeaders() {
	h := x.w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Content-Security-Policy", plainPolicy)
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if !x.closed && (x.route != nil && x.route.scope == forPrograms || strings.HasPrefix(x.r.URL.Path, "/api/")) {
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Expose-Headers", "Age, Retry-After, X-Checked-Seconds-Ago")
		h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	}
}

func (x *exchange) writeHeader(status int) {
	x.status = status
	x.begun()
	x.w.WriteHeader(status)
}

// Write sends a part of the answer.
func (x *exchange) Write(p []byte) (int, error) {
	if x.status == 0 {
		x.writeHeader(http.StatusOK)
	}
	x.begun()
	return x.w.Write(p)
}

// begun gives the client its time, once for all that is written until the next
// flush: with a time for each write, who reads slowly would stay for hours.
func (x *exchange) begun() {
	if !x.writing {
		x.writing = true
		x.rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	}
}

// flush sends what was written, before a wait. Under HTTP/2 the deadline of a
// write ends the stream also while nothing is written, so it goes.
func (x *exchange) flush() error {
	err := x.rc.Flush()
	x.rc.SetWriteDeadline(time.Time{})
	x.writing = false
	return err
}

// send sends a whole answer.
func (x *exchange) send(status int, contentType string, body []byte) {
	h := x.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	x.writeHeader(status)
	x.Write(body)
}

const (
	typeJSON = "application/json"
	typeText = "text/plain; charset=utf-8"
)

// fail sends a failure: as JSON to programs, as a line to others, and on the
// page to people.
func (x *exchange) fail(f *Failure) {
	x.code = f.Code
	x.metrics.refused.WithLabelValues(f.reason()).Inc()
	if f.RetryAfter > 0 {
		x.w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
	}
	switch {
	case x.route == nil && !strings.HasPrefix(x.r.URL.Path, "/api/") || x.route != nil && x.route.scope == forMachines:
		x.send(f.Status, typeText, []byte(f.Message+"\n"))
	case x.route != nil && x.route.scope == forPeople:
		x.failPage(f)
	default:
		body, _ := json.Marshal(map[string]*Failure{"error": f}) // it has no value that JSON has not
		x.send(f.Status, typeJSON, append(body, '\n'))
	}
}

// asked reads the name, the rules and refresh from the query.
func (x *exchange) asked(kind, parameter string) (question, bool, *Failure) {
	name := x.query.Get(parameter)
	x.name = name
	q := question{kind: kind, name: name}
	switch text := x.query.Get("rules"); {
	case name == "":
		return q, false, wrong(http.StatusBadRequest, "name_missing", fmt.Sprintf("The parameter %s is missing.", parameter))
	case len(name) > maxName:
		return q, false, wrong(http.StatusBadRequest, "name_too_long", fmt.Sprintf("The name has more than %d bytes.", maxName))
	case text != "":
		if q.rules.UnmarshalText([]byte(text)) != nil {
			return q, false, wrong(http.StatusBadRequest, "rules_unknown", fmt.Sprintf("The parameter rules is neither %s nor %s.", resolver.Current, resolver.Draft2019))
		}
	}
	return q, x.query.Get("refresh") == "1", nil
}

// wait asks one question and waits for its answer. The failure is nil too if the
// client has gone. done must be called in the end.
func (x *exchange) wait(q question, refresh bool) (a *answer, f *Failure, done func()) {
	tickets, f := x.desk.ask(x.who, refresh, q)
	if f != nil {
		return nil, f, func() {}
	}
	x.source = tickets[0].source
	a, f = tickets[0].wait(x.r.Context())
	if a != nil {
		x.setAge(a)
	}
	return a, f, tickets[0].leave
}

// setAge says how long ago an answer was found out (RFC 9111, 5.1, and for
// those who would rather not have a cache in between).
func (x *exchange) setAge(a *answer) {
	seconds := strconv.Itoa(int(a.age(time.Now()) / time.Second))
	x.w.Header().Set("Age", seconds)
	x.w.Header().Set("X-Checked-Seconds-Ago", seconds)
}
