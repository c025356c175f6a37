package serve

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"mxdiscover/check"
	"mxdiscover/resolver"
)

// FuzzQuery asks with any query and any name, and looks at what comes back:
// nothing of it acts on a browser, a terminal, a stream or a log, and it is about
// the name that was asked for.
func FuzzQuery(f *testing.F) {
	for _, text := range hostile {
		for i := range len(hostileTargets("")) {
			f.Add(text, "rules=current", uint8(i), "")
		}
	}
	f.Add("a.example", "refresh=1&refresh=0", uint8(2), "text/event-stream")
	f.Add("a.example", "server_name=b.example&%zz", uint8(2), "*/*")
	f.Add("@a:b.example", "name=", uint8(0), "\x00")
	f.Fuzz(func(t *testing.T, text, extra string, which uint8, header string) {
		targets := hostileTargets(text)
		target := targets[int(which)%len(targets)]
		r := &http.Request{Method: http.MethodGet, URL: new(url.URL), Header: http.Header{"Accept": {header}, "Last-Event-Id": {header}, "X-Prometheus-Scrape-Timeout-Seconds": {header}}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: "203.0.113.7:4711"}
		r.URL.Path, r.URL.RawQuery, _ = strings.Cut(target, "?")
		r.URL.RawQuery += "&" + extra
		r = r.WithContext(t.Context())
		var log bytes.Buffer
		s := offline()
		asked := ""
		s.Check = func(_ context.Context, name string, _ resolver.Rules, onEvent func(check.Event)) *check.Report {
			asked = name
			r := hostileReport(name, text)
			onEvent(check.Event{Kind: check.EventFinding, Finding: &r.Findings[0]})
			return r
		}
		s.Logger = slog.New(slog.NewTextHandler(&log, nil))
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		judgeAnswer(t, w, text, log.String())
		if len(asked) > maxName {
			t.Errorf("a name of %d bytes was checked", len(asked))
		}
		if asked != "" && asked != text {
			query, err := url.ParseQuery(r.URL.RawQuery)
			if err != nil {
				t.Fatal("a query that is not well-formed was answered")
			}
			if got := query.Get("server_name"); asked != got && asked != query.Get("name") && asked != query.Get("target") {
				t.Errorf("%q was checked, not %q", asked, got)
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
}

// FuzzTester: names of certificates and hashes are any text.
func FuzzTester(f *testing.F) {
	f.Add(`CN=a\,b,O=x`, "0a:0b")
	f.Add(`CN=\`, "zz")
	f.Fuzz(func(t *testing.T, subject, hash string) {
		if cn := commonName(subject); len(cn) > len(subject) {
			t.Errorf("%q became %q", subject, cn)
		}
		fingerprint(hash)
		r := hostileReport(subject, hash)
		if _, err := testerJSON(r); err != nil {
			t.Error(err)
		}
	})
}
