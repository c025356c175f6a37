package serve

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/check"
	"mxdiscover/internal/memnet"
	"mxdiscover/resolver"
	"mxdiscover/serve/web"
	"mxdiscover/srv"
)

// offline is a Server whose runs reach nobody.
func offline() *Server {
	network := &memnet.Network{}
	return &Server{
		Check: atOnce,
		NewResolver: func() *resolver.Resolver {
			return &resolver.Resolver{
				DNS:         &srv.Client{Servers: []string{"192.0.2.53:53"}, HostsFile: "/dev/null", Timeout: time.Second, Attempts: 1, Dial: network.DialContext},
				DialContext: network.DialContext,
			}
		},
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", maxName+1)
	for _, test := range []struct {
		name, method, target, body string
		status                     int
		code                       string // of a JSON failure
	}{
		{"check", "GET", "/api/v1/check?server_name=a.example", "", 200, ""},
		{"check, HEAD", "HEAD", "/api/v1/check?server_name=a.example", "", 200, ""},
		{"no name", "GET", "/api/v1/check", "", 400, "name_missing"},
		{"empty name", "GET", "/api/v1/check?server_name=", "", 400, "name_missing"},
		{"another parameter", "GET", "/api/v1/check?name=a.example", "", 400, "name_missing"},
		{"unknown rules", "GET", "/api/v1/check?server_name=a.example&rules=r0", "", 400, "rules_unknown"},
		{"draft", "GET", "/api/v1/check?server_name=a.example&rules=draft-2019", "", 200, ""},
		{"long name", "GET", "/api/v1/check?server_name=" + long, "", 400, "name_too_long"},
		{"longest name", "GET", "/api/v1/check?server_name=" + long[1:], "", 200, ""},
		{"longest name, escaped", "GET", "/api/v1/check?server_name=" + strings.Repeat("%61", maxName), "", 200, ""},
		{"long query", "GET", "/api/v1/check?server_name=a.example&x=" + strings.Repeat("x", maxQuery), "", 414, "query_too_long"},
		{"bad query", "GET", "/api/v1/check?server_name=%zz", "", 400, "bad_query"},
		{"semicolon", "GET", "/api/v1/check?server_name=a.example;b=c", "", 400, "bad_query"},
		{"POST", "POST", "/api/v1/check?server_name=a.example", "", 405, "method_not_allowed"},
		{"odd method", "BREW", "/api/v1/check?server_name=a.example", "", 405, "method_not_allowed"},
		{"HEAD of a stream", "HEAD", "/api/v1/check/stream?server_name=a.example", "", 405, "method_not_allowed"},
		{"body", "GET", "/api/v1/check?server_name=a.example", "x", 413, "body_refused"},
		{"nowhere", "GET", "/api/v2/check?server_name=a.example", "", 404, "not_found"},
		{"nowhere, not of the API", "GET", "/index.php", "", 404, ""},
		{"out of static", "GET", "/static/../server.go", "", 404, ""},
		{"directory", "GET", "/static/", "", 404, ""},
		{"style", "GET", "/static/style.css", "", 200, ""},
		{"page", "GET", "/", "", 200, ""},
		{"page, POST", "POST", "/", "", 405, ""},
		{"page with a long name", "GET", "/?name=" + long, "", 400, ""},
		{"robots", "GET", "/robots.txt", "", 200, ""},
		{"openapi", "GET", "/openapi.json", "", 200, ""},
		{"metrics", "GET", "/metrics", "", 200, ""},
		{"metrics, POST", "POST", "/metrics", "", 405, ""},
		{"health", "GET", "/healthz", "", 200, ""},
		{"health, HEAD", "HEAD", "/healthz", "", 200, ""},
		{"probe", "GET", "/probe?target=a.example", "", 200, ""},
		{"probe of nothing", "GET", "/probe", "", 400, ""},
		{"report", "GET", "/api/report?server_name=a.example", "", 200, ""},
		{"report, POST", "POST", "/api/report?server_name=a.example", "", 405, "method_not_allowed"},
		{"report of nothing", "GET", "/api/report", "", 200, ""},
		{"federation-ok of nothing", "GET", "/api/federation-ok", "", 200, ""},
		{"preflight", "OPTIONS", "/api/v1/check", "", 204, ""},
		{"client", "GET", "/api/v1/client?name=@a:b", "", 200, ""},
		{"resolve", "GET", "/api/v1/resolve?server_name=192.0.2.1", "", 200, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := offline()
			s.Limits.PerRequest = Rate{Burst: -1}
			var body io.Reader
			if test.body != "" {
				body = strings.NewReader(test.body)
			}
			r := httptest.NewRequest(test.method, test.target, body)
			w := httptest.NewRecorder()
			synctest.Test(t, func(*testing.T) { s.ServeHTTP(w, r) })
			assert.Equal(t, test.status, w.Code, "%s", w.Body)
			h := w.Header()
			assert.Equal(t, "nosniff", h.Get("X-Content-Type-Options"))
			assert.Equal(t, "no-referrer", h.Get("Referrer-Policy"))
			assert.Contains(t, h.Get("Content-Security-Policy"), "default-src 'none'")
			assert.Contains(t, h.Get("Content-Security-Policy"), "frame-ancestors 'none'")
			assert.NotContains(t, h.Get("Content-Security-Policy"), "unsafe")
			api := strings.HasPrefix(test.target, "/api/") || test.target == "/openapi.json"
			assert.Equal(t, api, h.Get("Access-Control-Allow-Origin") == "*", "CORS is the API's alone")
			switch {
			case test.code != "":
				assert.Equal(t, test.code, failure(t, w).Code)
			case strings.HasPrefix(test.target, "/api/") && test.status >= 400:
				t.Error("a failure of the API without a code")
			}
			if test.status == http.StatusMethodNotAllowed {
				assert.NotEmpty(t, h.Get("Allow"))
			}
		})
	}
}

// TestBody: who announces a body and does not send it is let go.
func TestBody(t *testing.T) {
	t.Parallel()
	for _, announced := range []string{"Content-Length: 100", "Content-Length: 100000000", "Transfer-Encoding: chunked"} {
		t.Run(announced, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				site := newSite(t, &Server{Check: atOnce})
				conn, err := site.network.DialContext(t.Context(), "tcp", site.addr)
				require.NoError(t, err)
				defer conn.Close()
				began := time.Now()
				io.WriteString(conn, "GET /api/v1/check?server_name=a.example HTTP/1.1\r\nHost: mx.example\r\n"+announced+"\r\n\r\n")
				text, _ := io.ReadAll(conn)
				assert.Contains(t, string(text), "HTTP/1.1 413 ")
				assert.Contains(t, string(text), "Connection: close")
				assert.LessOrEqual(t, time.Since(began), 2*time.Second)
			})
		})
	}
}

func TestCORS(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest(http.MethodOptions, "/api/report", nil)
	w := httptest.NewRecorder()
	(&Server{}).ServeHTTP(w, r)
	assert.Equal(t, "GET, HEAD, OPTIONS", w.Header().Get("Access-Control-Allow-Methods"))
	assert.Contains(t, w.Header().Get("Access-Control-Allow-Headers"), "Accept")
	assert.Empty(t, w.Header().Get("Access-Control-Allow-Credentials"))
	assert.Equal(t, "*", w.Header().Get("Access-Control-Allow-Origin"))
	assert.Empty(t, w.Body.Bytes())

	// Where private networks are open, no other site may read what is in them.
	inside := Server{NewResolver: func() *resolver.Resolver {
		return &resolver.Resolver{AllowNets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	}}
	w = httptest.NewRecorder()
	inside.ServeHTTP(w, r)
	assert.Empty(t, w.Header().Get("Access-Control-Allow-Origin"))
	assert.Equal(t, "same-origin", w.Header().Get("Cross-Origin-Resource-Policy"))
}

func TestStatic(t *testing.T) {
	t.Parallel()
	s := new(Server)
	for name := range s.state().static {
		w := get(s, "/static/"+name)
		require.Equal(t, http.StatusOK, w.Code, name)
		etag := w.Header().Get("ETag")
		require.NotEmpty(t, etag)
		assert.NotEmpty(t, w.Body.Bytes())
		assert.Contains(t, w.Header().Get("Cache-Control"), "max-age=3600")
		assert.NotContains(t, w.Header().Get("Content-Type"), "html")
		assert.Contains(t, get(s, "/static/"+name+"?v=1").Header().Get("Cache-Control"), "immutable")
		again := get(s, "/static/"+name, with("If-None-Match", etag))
		assert.Equal(t, http.StatusNotModified, again.Code)
		assert.Empty(t, again.Body.Bytes())
	}
	for name, want := range map[string]string{"style.css": "text/css; charset=utf-8", "app.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml"} {
		assert.Equal(t, want, get(s, "/static/"+name).Header().Get("Content-Type"))
	}
}

// TestPage: the result is in the page, with or without script, at once if it is
// known.
func TestPage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := offline()
		s.Check = func(ctx context.Context, name string, rules resolver.Rules, onEvent func(check.Event)) *check.Report {
			r := lasting(3*time.Second)(ctx, name, rules, onEvent)
			r.Findings = []check.Finding{{Code: "code", Severity: check.SeverityNotice, Message: "It is a <b>zebra</b>."}}
			return r
		}
		// One page is one check, though it asks two questions.
		s.Limits.PerClient = Rate{1, time.Hour}
		site := newSite(t, s)
		began := time.Now()
		resp, err := site.client.Get("http://mx.example/?name=a.example")
		require.NoError(t, err)
		defer resp.Body.Close()
		assert.Zero(t, time.Since(began), "the beginning of the page comes at once")
		first := make([]byte, 64<<10)
		n, err := resp.Body.Read(first)
		require.NoError(t, err)
		assert.Contains(t, string(first[:n]), "a.example")
		assert.NotContains(t, string(first[:n]), "zebra")
		rest, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		assert.GreaterOrEqual(t, time.Since(began), 3*time.Second)
		assert.Contains(t, string(rest), "It is a &lt;b&gt;zebra&lt;/b&gt;.")
		assert.Equal(t, "text/html; charset=utf-8", resp.Header.Get("Content-Type"))
		assert.Equal(t, web.ContentSecurityPolicy, resp.Header.Get("Content-Security-Policy"))

		time.Sleep(10 * time.Second)
		resp, page := site.get(t, "/?name=a.example")
		assert.Contains(t, page, "zebra")
		assert.NotEmpty(t, resp.Header.Get("Age"))

		resp, page = site.get(t, "/?name=b.example")
		assert.Equal(t, http.StatusTooManyRequests, resp.StatusCode)
		assert.NotEmpty(t, resp.Header.Get("Retry-After"))
		assert.Contains(t, page, "b.example")
		assert.Contains(t, page, "</html>")
	})
}

// TestPageFailure: what goes wrong after the page has begun stands in it.
func TestPageFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := offline()
		s.Check = func(context.Context, string, resolver.Rules, func(check.Event)) *check.Report { panic("secret") }
		w := get(s, "/?name=a.example&rules=draft-2019")
		assert.Equal(t, http.StatusOK, w.Code)
		assert.Contains(t, w.Body.String(), internal().Message)
		assert.NotContains(t, w.Body.String(), "secret")
		assert.Contains(t, w.Body.String(), "</html>")
	})
}

// hostile texts, for names and for what servers say.
var hostile = []string{
	`<script>alert(1)</script>`,
	`"><img src=x onerror=alert(1)>`,
	`javascript:alert(1)`,
	"a.example\r\nSet-Cookie: a=b",
	"a.example\n\nevent: report\ndata: {}\n\n",
	"\x1b[31mred\x00\x7f",
	"\u2028\u202e'-alert(1)-'",
	"{{.Name}}",
	"\xff\xfe",
	`</textarea></title><svg/onload=alert(1)>`,
	"https://user:pass@a.example/?x=<y>",
	strings.Repeat("%", 100),
}

// hostileReport says it all over.
func hostileReport(name, text string) *check.Report {
	r := reportOn(name)
	r.Verdict, r.Summary = check.Bad, text
	r.Findings = []check.Finding{{
		Code: "code", Severity: check.SeverityError, About: text, Message: text, Evidence: []string{text}, Section: text, URL: "https://spec.matrix.org/",
		Fixes: []check.Fix{{Title: text, Where: "nginx", Text: text}},
	}}
	r.Ways = []check.Way{{Rule: "3", Query: text, Outcome: resolver.Invalid, Reason: text, Targets: []string{text}}}
	r.WellKnown = []check.WellKnown{{Server: text, Error: &check.Problem{Code: text, Message: text}, Hops: []check.Hop{{URL: text, Location: text, ContentType: text}}}}
	r.Targets = []check.Target{{Host: text, Alias: text, Addresses: []check.Address{{
		TLS:  &check.TLS{Name: text, ALPN: text, Certificates: []check.Certificate{{Subject: "CN=" + text, Issuer: text, DNSNames: []string{text}}}},
		HTTP: []check.HTTP{{Protocol: "h2", Version: check.Version{Answer: check.Answer{ServedBy: text}, Name: text, Server: text}, Keys: check.Keys{ServerName: text, VerifyKeys: []check.Key{{ID: text, Public: text}}}}},
	}}}}
	return r
}

// judge looks at an answer about hostile text.
func judgeAnswer(t *testing.T, w *httptest.ResponseRecorder, text, log string) {
	t.Helper()
	for _, values := range w.Result().Header {
		for _, value := range values {
			assert.NotContains(t, value, "alert")
			assert.NotContains(t, value, "\n")
		}
	}
	body := w.Body.String()
	switch media := w.Header().Get("Content-Type"); {
	case strings.HasPrefix(media, "text/html"):
		low := strings.ToLower(body)
		if strings.ContainsAny(text, `<>"`) && len(text) > 10 {
			assert.NotContains(t, body, text)
		}
		assert.Equal(t, 1, strings.Count(low, "<script"), "the page's own")
		assert.NotContains(t, low, `href="javascript:`)
		assert.NotContains(t, low, `<svg/`)
		assert.NotContains(t, low, `<img src=x`)
		assert.False(t, strings.ContainsFunc(body, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' }))
	case media == typeStream:
		for _, line := range strings.Split(body, "\n") {
			ok := line == ""
			for _, field := range []string{"event: ", "id: ", "data: ", ":"} {
				ok = ok || strings.HasPrefix(line, field)
			}
			assert.True(t, ok, "%q", line)
		}
		assert.LessOrEqual(t, strings.Count(body, "event: report\n"), 1)
	case media == typeJSON:
		assert.NotContains(t, body, "<", "JSON that would do nothing even as HTML")
	}
	for _, line := range strings.Split(strings.TrimSuffix(log, "\n"), "\n") {
		assert.True(t, strings.HasPrefix(line, "time="), "%q", line)
		for i := range len(line) {
			if line[i] < ' ' || line[i] == 0x7f {
				t.Errorf("%q", line)
				break
			}
		}
	}
}

// hostileTargets are the routes with a name in them.
func hostileTargets(name string) []string {
	e := url.QueryEscape(name)
	return []string{
		"/?name=" + e, "/?rules=" + e + "&name=" + e, "/api/v1/check?server_name=" + e, "/api/v1/check/stream?server_name=" + e, "/api/v1/resolve?server_name=" + e,
		"/api/v1/client?name=" + e, "/api/report?server_name=" + e, "/api/federation-ok?server_name=" + e, "/probe?target=" + e, "/api/v1/check?" + e, "/api/" + url.PathEscape(name),
	}
}

// TestHostile: what attackers say reaches nobody unescaped: neither as the name
// that is asked about nor in what servers answer.
func TestHostile(t *testing.T) {
	t.Parallel()
	for _, text := range hostile {
		for _, name := range []string{text, "a.example"} {
			for _, target := range hostileTargets(name) {
				var log bytes.Buffer
				s := offline()
				s.Check = func(_ context.Context, name string, _ resolver.Rules, onEvent func(check.Event)) *check.Report {
					r := hostileReport(name, text)
					onEvent(check.Event{Kind: check.EventFinding, Finding: &r.Findings[0]})
					onEvent(check.Event{Kind: check.EventAddress, Address: &r.Targets[0].Addresses[0], Of: text})
					return r
				}
				s.Logger = slog.New(slog.NewTextHandler(&log, nil))
				synctest.Test(t, func(t *testing.T) {
					w := get(s, target)
					judgeAnswer(t, w, text, log.String())
				})
			}
		}
	}
}

// TestLog: one line for each request, with what matters and nothing raw.
func TestLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := &Server{Check: atOnce, Logger: slog.New(slog.NewJSONHandler(&log, nil))}
		get(s, "/api/v1/check?server_name=a.example%0Ax", from("203.0.113.7"))
		get(s, "/healthz")
		get(s, "/api/v1/check", from("203.0.113.7"))
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		require.Len(t, lines, 2)
		assert.Contains(t, lines[0], `"name":"\"a.example\\nx\"","source":"started"`)
		assert.Contains(t, lines[0], `"status":200`)
		assert.Contains(t, lines[0], `"client":"203.0.113.7"`)
		assert.Contains(t, lines[1], `"failure":"name_missing"`)
	})
}
