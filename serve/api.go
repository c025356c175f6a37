package serve

import (
	_ "embed"
	"mime"
	"net/http"
	"strings"
)

// openapi.json describes every route.
//
//go:embed openapi.json
var openapi []byte

// check is /api/v1/check.
func (x *exchange) check() {
	if wantsStream(x.r.Header.Values("Accept")) && x.r.Method == http.MethodGet {
		x.stream()
		return
	}
	x.own(kindCheck, "server_name")
}

// wantsStream tells whether the only thing that a client accepts is a stream,
// or the first.
func wantsStream(accept []string) bool {
	first, _, _ := strings.Cut(strings.Join(accept, ","), ",")
	media, _, err := mime.ParseMediaType(first)
	return err == nil && media == typeStream
}

// resolve is /api/v1/resolve.
func (x *exchange) resolve() { x.own(kindResolve, "server_name") }

// client is /api/v1/client.
func (x *exchange) client() { x.own(kindClient, "name") }

// own gives an answer in our own schema.
func (x *exchange) own(kind, parameter string) {
	q, refresh, f := x.asked(kind, parameter)
	if kind == kindClient {
		q.rules = 0 // they are of server discovery
	}
	if f != nil {
		x.fail(f)
		return
	}
	a, f, done := x.wait(q, refresh)
	defer done()
	switch {
	case f != nil:
		x.fail(f)
	case a != nil:
		x.send(http.StatusOK, typeJSON, a.json)
	}
}

// openAPI is /openapi.json.
func (x *exchange) openAPI() {
	x.w.Header().Set("Cache-Control", "public, max-age=3600")
	x.send(http.StatusOK, typeJSON, openapi)
}

// health is /healthz. It takes no lock that work is done under.
func (x *exchange) health() {
	if x.desk.closing.Load() {
		x.send(http.StatusServiceUnavailable, typeText, []byte("closing\n"))
		return
	}
	x.send(http.StatusOK, typeText, []byte("ok\n"))
}

// robots is /robots.txt: crawlers may have the front page, and make nobody
// check anything.
func (x *exchange) robots() {
	x.w.Header().Set("Cache-Control", "public, max-age=86400")
	x.send(http.StatusOK, typeText, []byte("User-agent: *\nDisallow: /api/\nDisallow: /probe\nDisallow: /metrics\nDisallow: /*?\nAllow: /$\nAllow: /static/\n"))
}
