package portal

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/clientaddr"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	one := []Target{{Name: "a", URL: "https://a.example"}}
	for name, test := range map[string]struct {
		portal *Portal
		want   string // empty: nothing is wrong
	}{
		"one":              {&Portal{Targets: one}, ""},
		"all":              {&Portal{Targets: []Target{{"a", "http://10.0.0.1:8008/base/", "https://a.example"}, {"b", "https://b.example", ""}}, Mode: Redirect, Emit: EmitBaseCSURL, Chooser: UserMap{"*": "b"}, BaseURL: "https://portal.example"}, ""},
		"no target":        {&Portal{}, "no target"},
		"no name":          {&Portal{Targets: []Target{{URL: "https://a.example"}}}, "no name"},
		"space in name":    {&Portal{Targets: []Target{{Name: "a b", URL: "https://a.example"}}}, "white space"},
		"newline in name":  {&Portal{Targets: []Target{{Name: "a\nb", URL: "https://a.example"}}}, `"a\nb"`},
		"twice":            {&Portal{Targets: append(one, one...)}, `two targets "a"`},
		"no URL":           {&Portal{Targets: []Target{{Name: "a"}}}, "of no use"},
		"ftp":              {&Portal{Targets: []Target{{Name: "a", URL: "ftp://a.example"}}}, "of no use"},
		"bad public":       {&Portal{Targets: []Target{{"a", "https://a.example", "a.example"}}}, "public URL"},
		"bad base URL":     {&Portal{Targets: one, BaseURL: "portal"}, "base URL"},
		"mode":             {&Portal{Targets: one, Mode: "both"}, `no mode "both"`},
		"emit":             {&Portal{Targets: one, Emit: 64}, "Emit(64)"},
		"emit and nothing": {&Portal{Targets: one, Emit: EmitNothing | EmitWellKnown}, "Emit(5)"},
		"network":          {&Portal{Targets: one, TrustForwardedFor: []netip.Prefix{{}}}, "invalid network"},
		"timeout":          {&Portal{Targets: one, Timeout: -1}, "negative"},
		"map":              {&Portal{Targets: one, Chooser: UserMap{"alice": "c"}}, `sent to "c"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := test.portal.Check()
			if test.want == "" {
				assert.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, test.want)
			}
		})
	}
}

// A portal that is not set up says so to everyone and asks nobody.
func TestNotSetUp(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	(&Portal{}).ServeHTTP(w, httptest.NewRequest("POST", loginPath, strings.NewReader(loginBody)))
	assertCORS(t, w.Header())
	assertError(t, reply{w.Code, w.Header(), w.Body.String()}, 500, "M_UNKNOWN")
}

func TestParseEmit(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]Emit{
		"": EmitNothing, "well_known": EmitWellKnown, "base_cs_url": EmitBaseCSURL,
		"well_known,base_cs_url": EmitWellKnown | EmitBaseCSURL, " base_cs_url , well_known": EmitWellKnown | EmitBaseCSURL,
	} {
		got, err := ParseEmit(list)
		assert.NoError(t, err)
		assert.Equal(t, want, got, list)
	}
	_, err := ParseEmit("well_known,home_server")
	assert.ErrorContains(t, err, `"home_server"`)
}

func TestOptions(t *testing.T) {
	t.Parallel()
	a := newHomeserver(t, says(200, loginDone))
	p := start(t, &Portal{Targets: []Target{{Name: "a", URL: a.URL}}, Chooser: ChooserFunc(func(*Login) ([]string, error) {
		t.Error("OPTIONS is no login")
		return nil, nil
	})})
	for _, path := range []string{loginPath, oldPath, pathVersions, pathWellKnown, "/", "/_matrix/client/v3/sync?access_token=" + token} {
		got := p.do("OPTIONS", path, "")
		assert.Equal(t, 204, got.status, path)
		assert.Empty(t, got.body)
	}
	assert.Empty(t, a.asked())
}

// The CORS fields stand once, whatever the target sent.
func TestCORSOnce(t *testing.T) {
	t.Parallel()
	a := newHomeserver(t, func(w http.ResponseWriter, r *http.Request) {
		for range 2 {
			w.Header().Add("Access-Control-Allow-Origin", "https://app.example")
			w.Header().Add("Access-Control-Allow-Methods", "GET")
			w.Header().Add("Access-Control-Allow-Headers", "X-Own")
		}
		w.Header().Set("Access-Control-Expose-Headers", "X-Own")
		w.WriteHeader(403)
	})
	p := start(t, &Portal{Targets: []Target{{Name: "a", URL: a.URL}}})
	for _, method := range []string{"GET", "POST"} {
		got := p.do(method, loginPath, "") // do asserts
		assert.Equal(t, 403, got.status)
		assert.Equal(t, "X-Own", got.header.Get("Access-Control-Expose-Headers"))
	}
}

// The target gets what the client sent, byte for byte, on the same path.
func TestProxyRequest(t *testing.T) {
	t.Parallel()
	a := newHomeserver(t, says(200, loginDone))
	p := start(t, &Portal{Targets: []Target{{Name: "a", URL: a.URL + "/base%2F1/"}}})
	noise := make([]byte, 5000)
	for i := range noise {
		noise[i] = byte(rand.Int())
	}
	for _, body := range []string{loginBody, "", " ", "no JSON", string(noise), `{"password":"` + password + `","user":"x","user":"y"}`} {
		for _, path := range []string{loginPath, oldPath} {
			query := "?a=1&b=%20%2F;c&access_token=" + token
			got := p.do("POST", path+query, body,
				"Authorization", "Bearer "+token, "X-Own", "1", "X-Own", "2", "Content-Type", "text/odd",
				"User-Agent", "Client/1", "Cookie", "c=d", "Idempotency-Key", "k",
				"Connection", "X-Hop, x-Other-hop", "Connection", "Keep-Alive", "X-Hop", "1", "X-Other-Hop", "1",
				"Keep-Alive", "timeout=5", "Te", "trailers", "Trailer", "X-T", "Upgrade", "h2c",
				"Proxy-Authorization", "Basic "+token, "Proxy-Connection", "keep-alive", "Expect", "100-continue")
			require.Equal(t, 200, got.status)
			all := a.asked()
			last := all[len(all)-1]
			assert.Equal(t, "POST", last.method)
			assert.Equal(t, "/base%2F1"+path+query, last.uri)
			assert.Equal(t, body, last.body)
			assert.Equal(t, strings.TrimPrefix(a.URL, "http://"), last.host)
			assert.Regexp(t, `^1\.1 mxdiscover-\w+$`, last.header.Get("Via"), "the portal's own, see TestVia")
			last.header.Del("Via")
			assert.Equal(t, http.Header{
				"Authorization":   {"Bearer " + token},
				"X-Own":           {"1", "2"},
				"Content-Type":    {"text/odd"},
				"User-Agent":      {"Client/1"},
				"Cookie":          {"c=d"},
				"Idempotency-Key": {"k"},
				"Content-Length":  {strconv.Itoa(len(body))},
				"X-Forwarded-For": {"127.0.0.1"},
				"Connection":      {"close"}, // the portal's own
			}, last.header)
		}
	}
	assert.Len(t, a.asked(), 12)
}

// A chunked body comes with a length, and nothing is added that the client did
// not send, but where it comes from and through whom.
func TestProxyBareRequest(t *testing.T) {
	t.Parallel()
	a := newHomeserver(t, says(200, loginDone))
	p := start(t, &Portal{Targets: []Target{{Name: "a", URL: a.URL}}})
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	fmt.Fprintf(conn, "POST %s? HTTP/1.1\r\nHost: portal.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\nX-Trailer: 1\r\n\r\n", loginPath)
	buf := make([]byte, 12)
	_, err = io.ReadFull(conn, buf)
	require.NoError(t, err)
	assert.Equal(t, "HTTP/1.1 200", string(buf))
	all := a.asked()
	require.NotEmpty(t, all)
	assert.Regexp(t, `^1\.1 mxdiscover-\w+$`, all[0].header.Get("Via"))
	all[0].header.Del("Via")
	assert.Equal(t, []seen{{
		"POST", loginPath + "?", strings.TrimPrefix(a.URL, "http://"), "abcdefg",
		http.Header{"Content-Length": {"7"}, "X-Forwarded-For": {"127.0.0.1"}, "Connection": {"close"}},
	}}, all)
}

func TestForwardedFor(t *testing.T) {
	t.Parallel()
	nets := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	came := http.Header{
		"X-Forwarded-For":   {"198.51.100.7, 198.51.100.8", "10.0.0.9"},
		"X-Forwarded-Proto": {"https"},
		"X_forwarded_for":   {"6.6.6.6"},
		"X-Real-Ip":         {"6.6.6.6"},
		"Forwarded":         {"for=6.6.6.6"},
		"X-Own":             {"1"},
	}
	for name, test := range map[string]struct {
		peer   string
		came   http.Header
		want   http.Header
		client string
	}{
		"stranger": {"203.0.113.5:1000", came, http.Header{"X-Forwarded-For": {"203.0.113.5"}, "X-Own": {"1"}}, "203.0.113.5"},
		"mapped":   {"[::ffff:203.0.113.5]:1000", nil, http.Header{"X-Forwarded-For": {"203.0.113.5"}}, "203.0.113.5"},
		"IPv6":     {"[fe80::1%eth0]:1000", nil, http.Header{"X-Forwarded-For": {"fe80::1"}}, "fe80::1"},
		"trusted": {"10.1.1.1:1", came, http.Header{
			"X-Forwarded-For": {"198.51.100.7, 198.51.100.8, 10.0.0.9, 10.1.1.1"}, "X-Forwarded-Proto": {"https"}, "X_forwarded_for": {"6.6.6.6"},
			"X-Real-Ip": {"6.6.6.6"}, "Forwarded": {"for=6.6.6.6"}, "X-Own": {"1"},
		}, "198.51.100.8"},
		"trusted, mapped":       {"[::ffff:10.1.1.1]:1", nil, http.Header{"X-Forwarded-For": {"10.1.1.1"}}, "10.1.1.1"},
		"trusted, nothing":      {"[fd00::1]:1", nil, http.Header{"X-Forwarded-For": {"fd00::1"}}, "fd00::1"},
		"trusted, no address":   {"10.1.1.1:1", http.Header{"X-Forwarded-For": {"a\x1b[31m"}}, http.Header{"X-Forwarded-For": {"a\x1b[31m, 10.1.1.1"}}, "10.1.1.1"},
		"named in Connection":   {"203.0.113.5:1", http.Header{"Connection": {"X-Forwarded-For, x-own"}, "X-Forwarded-For": {"6.6.6.6"}, "X-Own": {"1"}}, http.Header{"X-Forwarded-For": {"203.0.113.5"}}, "203.0.113.5"},
		"no address at all":     {"@", came, http.Header{"X-Own": {"1"}}, "invalid IP"},
		"all of them our own":   {"10.1.1.1:1", http.Header{"X-Forwarded-For": {"10.2.2.2"}}, http.Header{"X-Forwarded-For": {"10.2.2.2, 10.1.1.1"}}, "10.2.2.2"},
		"a stranger in between": {"10.1.1.1:1", http.Header{"X-Forwarded-For": {"10.6.6.6, 203.0.113.5"}}, http.Header{"X-Forwarded-For": {"10.6.6.6, 203.0.113.5, 10.1.1.1"}}, "203.0.113.5"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &Portal{TrustForwardedFor: nets}
			r := &http.Request{RemoteAddr: test.peer, Header: test.came}
			from := clientaddr.Of(r, p.TrustForwardedFor)
			got := requestHeader(r, from)
			assert.Equal(t, []string{""}, got["User-Agent"])
			delete(got, "User-Agent")
			assert.Equal(t, test.want, got)
			assert.Equal(t, test.client, from.Client.String())
		})
	}
}

// A login answer says where to go; everything else is passed on.
func TestProxyAnswer(t *testing.T) {
	t.Parallel()
	a := newHomeserver(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Own", "1")
		h.Set("Etag", `"x"`)
		h.Add("Set-Cookie", "a=b")
		h.Add("Set-Cookie", "c=d")
		h["Date"] = []string{"Thu, 01 Jan 1970 00:00:00 GMT"}
		io.WriteString(w, loginDone)
	})
	for _, test := range []struct {
		target Target
		emit   Emit
		want   string
	}{
		{Target{URL: a.URL}, 0, `,"well_known":{"m.homeserver":{"base_url":"` + a.URL + `"}},"base_cs_url":"` + a.URL + `"}`},
		{Target{URL: a.URL + "/", Public: "https://HS.example:443/m/"}, 0, `,"well_known":{"m.homeserver":{"base_url":"https://hs.example/m"}},"base_cs_url":"https://hs.example/m"}`},
		{Target{URL: a.URL}, EmitWellKnown, `,"well_known":{"m.homeserver":{"base_url":"` + a.URL + `"}}}`},
		{Target{URL: a.URL}, EmitBaseCSURL, `,"base_cs_url":"` + a.URL + `"}`},
		{Target{URL: a.URL}, EmitNothing, `}`},
	} {
		test.target.Name = "a"
		p := start(t, &Portal{Targets: []Target{test.target}, Emit: test.emit})
		got := p.login()
		assert.Equal(t, 200, got.status)
		assert.Equal(t, strings.TrimSuffix(loginDone, "}")+test.want, got.body)
		assert.Equal(t, "1", got.header.Get("X-Own"))
		assert.Equal(t, []string{"a=b", "c=d"}, got.header["Set-Cookie"])
		assert.Equal(t, []string{"Thu, 01 Jan 1970 00:00:00 GMT"}, got.header["Date"])
		assert.Equal(t, []string{strconv.Itoa(len(got.body))}, got.header["Content-Length"])
		assert.Equal(t, test.emit == EmitNothing, got.header.Get("Etag") != "", "a changed body has another tag")
	}
}

// What is between portal and target does not go further, and what is named twice
// is not made one.
func TestProxyAnswerHops(t *testing.T) {
	t.Parallel()
	url, _ := raw(t, "HTTP/1.1 103 Early\r\nConnection: X-Two\r\n\r\nHTTP/1.1 200 Fine\r\nConnection: close\r\nconnection:X-Other, X-Hop\r\nx-hop: 1\r\nKeep-Alive: timeout=1\r\nProxy-Authenticate: Basic\r\n"+
		"Proxy-Connection: close\r\nUpgrade: h2c\r\nTe: x\r\nTrailer: X-T\r\nX-Two: 1\r\nx-two: 2\r\nWarning: 199 - \"a\"\r\n"+
		"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\nX-T: 1\r\n\r\n", false)
	p := start(t, &Portal{Targets: []Target{{Name: "a", URL: url}}, Emit: EmitNothing})
	got := p.login()
	assert.Equal(t, "{}", got.body)
	got.header.Del("Date")
	for _, name := range []string{"Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers"} {
		got.header.Del(name)
	}
	assert.Equal(t, http.Header{
		"X-Two": {"1", "2"}, "Warning": {`199 - "a"`}, "Content-Length": {"2"},
	}, got.header)
}

func gzipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, text)
	w.Close()
	return b.String()
}

func zlibbed(text string) string {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	io.WriteString(w, text)
	w.Close()
	return b.String()
}

func deflated(text string) string {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestSpeed) // it is a level
	io.WriteString(w, text)
	w.Close()
	return b.String()
}

func TestCompressed(t *testing.T) {
	t.Parallel()
	bomb := gzipped(loginDone + strings.Repeat(" ", maxAnswer)) // its beginning is JSON too
	for name, test := range map[string]struct {
		coding, body string
		added        bool
	}{
		"gzip":         {"gzip", gzipped(loginDone), true},
		"GZIP":         {"GZIP", gzipped(loginDone), true},
		"x-gzip":       {"x-gzip", gzipped(loginDone), true},
		"deflate":      {"deflate", zlibbed(loginDone), true},
		"bare deflate": {"deflate", deflated(loginDone), true},
		"bare, cut":    {"deflate", deflated(loginDone)[:30], false},
		"identity":     {"identity", loginDone, true},
		"br":           {"br", "\x0b\x02\x80{}\x03", false},
		"twice":        {"gzip, gzip", gzipped(gzipped(loginDone)), false},
		"broken":       {"gzip", gzipped(loginDone)[:30], false},
		"not gzip":     {"gzip", loginDone, false},
		"not deflate":  {"deflate", loginDone, false},
		"bomb":         {"gzip", bomb, false},
		"nothing done": {"gzip", gzipped(`["no object"]`), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newHomeserver(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Encoding", test.coding)
				io.WriteString(w, test.body)
			})
			p := start(t, &Portal{Targets: []Target{{"a", a.URL, "https://hs.example"}}, Emit: EmitBaseCSURL})
			got := p.do("POST", loginPath, loginBody, "Accept-Encoding", "br;q=1.0, gzip;q=0.8, *;q=0.1", "Accept-Encoding", "deflate, zstd")
			assert.Equal(t, "gzip;q=0.8, deflate", a.asked()[0].header.Get("Accept-Encoding"))
			if test.added {
				assert.Equal(t, strings.TrimSuffix(loginDone, "}")+`,"base_cs_url":"https://hs.example"}`, got.body)
				assert.Empty(t, got.header["Content-Encoding"])
			} else {
				assert.True(t, test.body == got.body)
				assert.Equal(t, []string{test.coding}, got.header["Content-Encoding"])
			}
		})
	}
	assert.Equal(t, "identity", readable("br, zstd"))
}

// Any other answer is passed on as it is.
func TestOtherAnswers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status int
		header http.Header
		body   string
	}{
		"forbidden":         {403, http.Header{"Content-Type": {"application/json"}}, `{"errcode":"M_FORBIDDEN","error":"no"}`},
		"limited":           {429, http.Header{"Retry-After": {"17"}}, `{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":17000}`},
		"moved":             {302, http.Header{"Location": {"https://evil.example/"}}, ``},
		"moved, 307":        {307, http.Header{"Location": {"/elsewhere"}}, `{"a":1}`},
		"moved, 308":        {308, http.Header{"Location": {"http://evil.example/"}}, ``},
		"an error page":     {502, http.Header{"Content-Type": {"text/html"}}, "<html>\x1b[31m</html>"},
		"not JSON":          {200, http.Header{"Content-Type": {"application/json"}}, `{"user_id":`},
		"an array":          {200, nil, `[{}]`},
		"null":              {200, nil, `null`},
		"nothing":           {200, nil, ``},
		"two":               {200, nil, `{} {}`},
		"created":           {201, nil, loginDone},
		"no content":        {204, nil, ``},
		"not modified":      {304, http.Header{"Etag": {`"x"`}}, ``},
		"large":             {200, nil, `{"a":"` + strings.Repeat("x", 3<<20) + `"}`},
		"large, of nothing": {200, nil, loginDone + strings.Repeat(" ", 3<<20)},
		"large error":       {500, nil, strings.Repeat("x", 3<<20)},
		"odd status":        {799, nil, `{}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newHomeserver(t, func(w http.ResponseWriter, r *http.Request) {
				for name, values := range test.header {
					w.Header()[name] = values
				}
				if test.header["Content-Type"] == nil {
					w.Header()["Content-Type"] = nil
				}
				w.WriteHeader(test.status)
				io.WriteString(w, test.body)
			})
			b := newHomeserver(t, says(200, loginDone))
			p := start(t, &Portal{Targets: []Target{{Name: "a", URL: a.URL}, {Name: "b", URL: b.URL}}})
			got := p.login()
			assert.Equal(t, test.status, got.status)
			assert.True(t, test.body == got.body)
			for name, values := range test.header {
				assert.Equal(t, values, got.header[name], name)
			}
			assert.Equal(t, test.header["Content-Type"], got.header["Content-Type"], "none is made up")
			assert.Len(t, a.asked(), 1)
			assert.Empty(t, b.asked())
		})
	}
}

// A body of known length that is too long to be read in full keeps its length,
// and one that breaks off does not look complete.
func TestLargeAnswers(t *testing.T) {
	t.Parallel()
	const size = 2 << 20
	whole, _ := raw(t, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size)), false)
	p := start(t, &Portal{Targets: []Target{{Name: "a", URL: whole}}})
	got := p.login()
	assert.Equal(t, strconv.Itoa(size), got.header.Get("Content-Length"))
	assert.Len(t, got.body, size)
	for _, length := range []string{"Content-Length: 3000000", "Transfer-Encoding: chunked"} {
		body := strings.Repeat("x", size)
		if strings.HasPrefix(length, "T") {
			body = fmt.Sprintf("%x\r\n%s\r\n", size, body)
		}
		broken, _ := raw(t, "HTTP/1.1 200 OK\r\n"+length+"\r\n\r\n"+body, false)
		p := start(t, &Portal{Targets: []Target{{Name: "a", URL: broken}}})
		_, err := p.try("POST", loginPath, strings.NewReader(loginBody))
		assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
		assert.ErrorIs(t, p.log()[0].Failures[0], errCut)
	}
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{Proxy, Redirect} {
		a := newHomeserver(t, says(200, loginDone))
		p := start(t, &Portal{Targets: []Target{{Name: "a", URL: a.URL}}, Mode: mode})
		fits := strings.Repeat("x", 1<<20)
		for _, hidden := range []bool{false, true} { // its length
			var body io.Reader = strings.NewReader(fits + "x")
			if hidden {
				body = io.MultiReader(body)
			}
			got, err := p.try("POST", loginPath, body)
			require.NoError(t, err)
			assertError(t, got, 413, "M_TOO_LARGE")
		}
		got := p.do("POST", loginPath, fits+"x", "Expect", "100-continue")
		assertError(t, got, 413, "M_TOO_LARGE")
		got, err := p.try("POST", loginPath, strings.NewReader(strings.Repeat("x", 8<<20)))
		require.NoError(t, err, "the answer is read even by who writes all first")
		assertError(t, got, 413, "M_TOO_LARGE")
		assertWritesFirst(t, strings.TrimPrefix(p.url, "http://"))
		assert.Empty(t, a.asked(), "nothing goes to a target")

		got = p.do("POST", loginPath, fits)
		if mode == Proxy {
			assert.Equal(t, 200, got.status)
			assert.True(t, a.asked()[0].body == fits)
		} else {
			assert.Equal(t, 307, got.status)
		}
	}
}

// assertWritesFirst: who was asked for a body, and is told that it is too large
// while still writing it, is not cut off.
func assertWritesFirst(t *testing.T, addr string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	answers := bufio.NewReader(conn)
	_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: portal.example\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n", loginPath)
	require.NoError(t, err)
	line, err := answers.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "HTTP/1.1 100 Continue\r\n", line)
	for range 8 {
		_, err = fmt.Fprintf(conn, "100000\r\n%s\r\n", strings.Repeat("x", 1<<20))
		require.NoError(t, err)
	}
	_, err = io.WriteString(conn, "0\r\n\r\n")
	require.NoError(t, err)
	answers.ReadString('\n') // the end of the interim answer
	line, err = answers.ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "HTTP/1.1 413 Request Entity Too Large\r\n", line)
}

// An embedder's own limit is answered like ours.
func TestMaxBytesReader(t *testing.T) {
	t.Parallel()
	p := &Portal{Targets: []Target{{Name: "a", URL: nobody(t)}}}
	w := httptest.NewRecorder()
	http.MaxBytesHandler(p, 10).ServeHTTP(w, httptest.NewRequest("POST", loginPath, io.MultiReader(strings.NewReader(loginBody))))
	assertError(t, reply{w.Code, w.Header(), w.Body.String()}, 413, "M_TOO_LARGE")
}

// Strangers cannot fill the memory.
func TestHeld(t *testing.T) {
	t.Parallel()
	a := newHomeserver(t, says(200, loginDone))
	portal := &Portal{Targets: []Target{{Name: "a", URL: a.URL}}}
	portal.held.Store(maxHeld - 6000)
	p := start(t, portal)
	got := p.do("POST", loginPath, strings.Repeat("x", 5000))
	assertError(t, got, 503, "M_UNKNOWN")
	assert.Equal(t, "1", got.header.Get("Retry-After"))
	assert.Empty(t, a.asked())
	assert.Equal(t, 200, p.do("POST", loginPath, "small").status)
	portal.held.Store(0)
	for _, size := range []int{0, 1, firstRead, firstRead + 1, 100_000, maxBody, maxBody + 1} {
		p.do("POST", loginPath, strings.Repeat("x", size))
	}
	assert.Len(t, p.log(), 9)
	assert.Zero(t, portal.held.Load())
}

// While nothing was sent, the next target is tried.
func TestFailover(t *testing.T) {
	t.Parallel()
	untrusted := httptest.NewUnstartedServer(says(200, loginDone))
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)
	for name, dead := range map[string]string{
		"refused":     nobody(t),
		"no name":     "http://nowhere.invalid",
		"certificate": "https://nowhere.invalid",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newHomeserver(t, says(200, loginDone))
			targets := []Target{{Name: "dead", URL: dead}, {"a", a.URL, "https://a.example"}}
			set := func(c Chooser, targets ...Target) *running {
				return start(t, &Portal{Targets: targets, Chooser: c,
					Dial: func(ctx context.Context, host string, port uint16) (net.Conn, netip.AddrPort, error) {
						if host == "nowhere.invalid" {
							return nil, netip.AddrPort{}, &net.DNSError{Err: "no such host\x1b", Name: host, IsNotFound: true}
						}
						conn, err := dialer().Dial(ctx, host, port, nil)
						if err != nil {
							return nil, netip.AddrPort{}, err
						}
						return conn, conn.Addr, nil
					},
					DialTLS: func(ctx context.Context, host string, port uint16, config *tls.Config) (net.Conn, netip.AddrPort, error) {
						config.ServerName = "127.0.0.1"
						to := netip.MustParseAddrPort(untrusted.Listener.Addr().String())
						return dialer().DialTLS(ctx, to.Addr().String(), to.Port(), config)
					},
				})
			}
			p := set(nil, targets...)
			got := p.login()
			assert.Equal(t, 200, got.status, got.body)
			assert.Contains(t, got.body, `"base_cs_url":"https://a.example"`)
			assert.Len(t, a.asked(), 1)
			assert.Equal(t, loginBody, a.asked()[0].body)
			entry := p.log()[0]
			assert.Equal(t, "a", entry.Target)
			var failed *TargetError
			require.ErrorAs(t, entry.Failures[0], &failed)
			assert.Equal(t, Unreached, failed.Kind)
			assert.Equal(t, "dead", failed.Target)

			// None is left.
			assertError(t, set(nil, targets[0], Target{Name: "dead2", URL: nobody(t)}).login(), 502, "M_UNKNOWN")
			// A user has one homeserver.
			assertError(t, set(UserMap{"*": "dead"}, targets...).login(), 502, "M_UNKNOWN")
			// GET goes on too.
			assert.Equal(t, 200, p.do("GET", pathVersions, "").status)
			assertError(t, set(nil, targets[0]).do("GET", loginPath, ""), 502, "M_UNKNOWN")
			assertError(t, set(nil, targets[0]).do("GET", pathVersions, ""), 502, "M_UNKNOWN")
			assert.Len(t, a.asked(), 2)
		})
	}
}

// After the request was sent, it is never sent again.
func TestNeverTwice(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\n"
	for name, answer := range map[string]string{
		"nothing":           "",
		"half a header":     ok + "Content-Type: app",
		"half a body":       ok + "Content-Length: 1000\r\n\r\n" + loginDone,
		"half a chunk":      ok + "Transfer-Encoding: chunked\r\n\r\n3e8\r\n" + loginDone,
		"no HTTP":           "SSH-2.0-OpenSSH\r\n",
		"an echo":           "{echo}",
		"an echo in status": "HTTP/1.1 {echo}",
		"status 000":        "HTTP/1.1 000 X\r\nContent-Length: 0\r\n\r\n",
		"status 99":         "HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n",
		"status 101":        "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
		"large header":      ok + "X-A: " + strings.Repeat("a", maxAnswerHeader) + "\r\nContent-Length: 0\r\n\r\n",
		"two lengths":       ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"endless 103":       strings.Repeat("HTTP/1.1 103 Early\r\nX-A: "+strings.Repeat("a", 1000)+"\r\n\r\n", 200),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, asked := raw(t, answer, false)
			b := newHomeserver(t, says(200, loginDone))
			p := start(t, &Portal{Targets: []Target{{Name: "a", URL: url}, {Name: "b", URL: b.URL}}})
			got := p.do("POST", loginPath+"?access_token="+token, loginBody, "Idempotency-Key", "k")
			assertError(t, got, 502, "M_UNKNOWN")
			assert.Equal(t, 1, asked())
			assert.Empty(t, b.asked())
			assertNoSecret(t, got.body)
			var failed *TargetError
			require.ErrorAs(t, p.log()[0].Failures[0], &failed)
			assert.Equal(t, Lost, failed.Kind)
			assertNoSecret(t, fmt.Sprintf("%+v %v", failed, errors.Unwrap(failed)))

			// What may be repeated goes on.
			got = p.do("GET", pathVersions, "")
			assert.Equal(t, 200, got.status)
			assert.Len(t, b.asked(), 1)
		})
	}
}

// Without a body net/http would repeat some requests by itself.
func TestNeverTwiceEmpty(t *testing.T) {
	t.Parallel()
	a := newHomeserver(t, hangsUp)
	p := start(t, &Portal{Targets: []Target{{Name: "a", URL: a.URL}}})
	for i := range 5 {
		assertError(t, p.do("POST", loginPath, "", "Idempotency-Key", "k"), 502, "M_UNKNOWN")
		assert.Len(t, a.asked(), i+1)
	}
}

// A server that speaks first is heard after it was asked; net/http would write
// what it says to the log of the process, where TestMain looks.
func TestGreeting(t *testing.T) {
	t.Parallel()
	url, _ := raw(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", true)
	p := start(t, &Portal{Targets: []Target{{Name: "a", URL: url}}, Emit: EmitNothing,
		Dial: func(ctx context.Context, host string, port uint16) (net.Conn, netip.AddrPort, error) {
			conn, err := dialer().Dial(ctx, host, port, nil)
			if err != nil {
				return nil, netip.AddrPort{}, err
			}
			first := make([]byte, 1)
			_, err = io.ReadFull(conn, first) // the greeting is here before anything is sent
			return &spoken{conn, io.MultiReader(bytes.NewReader(first), conn)}, conn.Addr, err
		}})
	for range 50 {
		assert.Equal(t, "{}", p.login().body)
	}
}

type spoken struct {
	net.Conn
	from io.Reader
}

func (s *spoken) Read(p []byte) (int, error) { return s.from.Read(p) }

func TestTLSTarget(t *testing.T) {
	t.Parallel()
	a := &homeserver{}
	a.Server = httptest.NewUnstartedServer(a.remember(says(200, loginDone)))
	a.EnableHTTP2 = true
	a.Config.ErrorLog = log.New(io.Discard, "", 0)
	a.StartTLS()
	t.Cleanup(a.Close)
	roots := x509.NewCertPool()
	roots.AddCert(a.Certificate())
	p := start(t, &Portal{Targets: []Target{{Name: "a", URL: a.URL}}, RootCAs: roots})
	got := p.login()
	assert.Equal(t, 200, got.status)
	assert.Contains(t, got.body, `"base_cs_url":"`+a.URL+`"`)

	p = start(t, &Portal{Targets: []Target{{Name: "a", URL: a.URL}}, RootCAs: x509.NewCertPool()})
	assertError(t, p.login(), 502, "M_UNKNOWN")
	assert.Contains(t, p.log()[0].String(), "no connection: 127.0.0.1: ")
	assert.Len(t, a.asked(), 1)
}

// An IPv6 address has brackets in Host and none where it is dialled.
func TestIPv6Target(t *testing.T) {
	t.Parallel()
	a := newHomeserver(t, says(200, loginDone))
	p := start(t, &Portal{Targets: []Target{{Name: "a", URL: "http://[2001:DB8::1]:8008/x"}},
		Dial: func(ctx context.Context, host string, port uint16) (net.Conn, netip.AddrPort, error) {
			assert.Equal(t, "2001:db8::1 8008", fmt.Sprint(host, " ", port))
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", a.Listener.Addr().String())
			return conn, netip.AddrPort{}, err
		}})
	assert.Contains(t, p.login().body, `"base_cs_url":"http://[2001:db8::1]:8008/x"`)
	assert.Equal(t, "[2001:db8::1]:8008", a.asked()[0].host)
	assert.Equal(t, "/x"+loginPath, a.asked()[0].uri)
}

// Clients may speak HTTP/2 to the portal, and use one connection for all.
func TestHTTP2Clients(t *testing.T) {
	t.Parallel()
	large := `{"a":"` + strings.Repeat("x", 2<<20) + `"}`
	a := newHomeserver(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "large" {
			io.WriteString(w, large)
		} else {
			io.WriteString(w, loginDone)
		}
	})
	server := httptest.NewUnstartedServer(&Portal{Targets: []Target{{Name: "a", URL: a.URL}}})
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	for range 2 {
		for _, test := range []struct {
			method, path, body string
			status             int
			want               string
		}{
			{"POST", loginPath, loginBody, 200, `"base_cs_url":"` + a.URL},
			{"POST", loginPath + "?large", loginBody, 200, large},
			{"POST", loginPath, strings.Repeat("x", maxBody+1), 413, "M_TOO_LARGE"},
			{"PUT", "/_matrix/client/v3/sync", strings.Repeat("x", 100_000), 401, "M_MISSING_TOKEN"},
			{"OPTIONS", loginPath, "", 204, ""},
			{"GET", loginPath, "", 200, token},
		} {
			response, err := server.Client().Do(must(http.NewRequest(test.method, server.URL+test.path, strings.NewReader(test.body))))
			require.NoError(t, err)
			text, err := io.ReadAll(response.Body)
			response.Body.Close()
			require.NoError(t, err)
			assert.Equal(t, 2, response.ProtoMajor)
			assert.Equal(t, test.status, response.StatusCode)
			assert.True(t, strings.Contains(string(text), test.want), test.path)
			assertCORS(t, response.Header)
		}
	}
}

func TestRedirect(t *testing.T) {
	t.Parallel()
	a := newHomeserver(t, says(200, loginDone))
	p := start(t, &Portal{Targets: []Target{{Name: "a", URL: a.URL + "/base/"}, {"b", a.URL, "https://b.example"}}, Mode: Redirect})
	for i, test := range []struct{ path, want string }{
		{loginPath, a.URL + "/base" + loginPath},
		{oldPath + "?x=%2F%0d&y", "https://b.example" + oldPath + "?x=%2F%0d&y"},
		{loginPath + "?", a.URL + "/base" + loginPath + "?"},
		{oldPath + "?u=http://evil.example/", "https://b.example" + oldPath + "?u=http://evil.example/"},
	} {
		got := p.do("POST", test.path, loginBody, "Host", "evil.example", "X-Forwarded-Host", "evil.example")
		assert.Equal(t, 307, got.status)
		assert.Equal(t, []string{test.want}, got.header["Location"])
		assert.Empty(t, got.body)
		assert.Equal(t, []string{"a", "b"}[i%2], p.log()[i].Target)
	}
	assert.Empty(t, a.asked(), "nothing is sent to the target")
	assert.Equal(t, "https://a.example/%0D%0A%C3%A9?%20", asciiURL("https://a.example/\r\né? "))
}

// With absolute and odd request targets nobody is sent elsewhere.
func TestRequestTargets(t *testing.T) {
	t.Parallel()
	p := start(t, &Portal{Targets: []Target{{Name: "a", URL: "https://a.example"}}, Mode: Redirect})
	for target, want := range map[string]string{
		"http://evil.example" + loginPath:   "307 https://a.example" + loginPath,
		"//evil.example" + loginPath:        "401 ",
		loginPath + "/":                     "401 ",
		"/_matrix/client/v3/../v3/login":    "401 ",
		"/_matrix/client/v1/login":          "401 ",
		loginPath + "?\xc3\xa9":             "307 https://a.example" + loginPath + "?%C3%A9",
		loginPath + "?a=//evil.example/%0a": "307 https://a.example" + loginPath + "?a=//evil.example/%0a",
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		require.NoError(t, err)
		fmt.Fprintf(conn, "POST %s HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}", target)
		text, err := io.ReadAll(conn)
		conn.Close()
		require.NoError(t, err)
		status, location, _ := strings.Cut(want, " ")
		assert.Contains(t, string(text), "HTTP/1.0 "+status, target)
		if location != "" {
			assert.Contains(t, string(text), "\r\nLocation: "+location+"\r\n")
		} else {
			assert.NotContains(t, string(text), "Location")
		}
	}
}

// Each login takes the next target, whatever its outcome; nothing else counts.
func TestRoundRobin(t *testing.T) {
	t.Parallel()
	a := newHomeserver(t, says(200, `{"hs":"a"}`))
	b := newHomeserver(t, says(403, `{"hs":"b"}`))
	c := newHomeserver(t, hangsUp)
	p := start(t, &Portal{Targets: []Target{{Name: "a", URL: a.URL}, {Name: "b", URL: b.URL}, {Name: "dead", URL: nobody(t)}, {Name: "c", URL: c.URL}}, Emit: EmitNothing})
	var got []string
	for range 2 {
		for _, want := range []int{200, 403, 502, 502} { // the dead one is followed by c
			p.do("GET", loginPath, "")
			p.do("GET", pathVersions, "")
			p.do("OPTIONS", loginPath, "")
			p.do("POST", loginPath, strings.Repeat("x", maxBody+1))
			assert.Equal(t, want, p.login().status)
		}
	}
	for _, e := range p.log() {
		if e.Method == "POST" && e.Status != 413 {
			got = append(got, e.Target)
		}
	}
	assert.Equal(t, []string{"a", "b", "c", "c", "a", "b", "c", "c"}, got)
	order, err := new(RoundRobin).Choose(&Login{})
	assert.NoError(t, err)
	assert.Empty(t, order)
}

// The body is not looked at with round-robin.
func TestRoundRobinTakesAnyBody(t *testing.T) {
	t.Parallel()
	a := newHomeserver(t, says(400, `{"errcode":"M_NOT_JSON"}`))
	p := start(t, &Portal{Targets: []Target{{Name: "a", URL: a.URL}}})
	assert.Equal(t, `{"errcode":"M_NOT_JSON"}`, p.do("POST", loginPath, "{no JSON\xff").body)
}

func TestUserMapOverHTTP(t *testing.T) {
	t.Parallel()
	a := newHomeserver(t, says(200, `{"hs":"a"}`))
	b := newHomeserver(t, says(200, `{"hs":"b"}`))
	users, err := ParseUserMap(strings.NewReader("# who goes where\n@alice:example.org a\n\nalice b\nbob\tb\n"))
	require.NoError(t, err)
	for _, mode := range []Mode{Proxy, Redirect} {
		p := start(t, &Portal{Targets: []Target{{Name: "a", URL: a.URL}, {Name: "b", URL: b.URL}}, Chooser: users, Mode: mode})
		for body, want := range map[string]string{
			loginBody:                             "a",
			`{"user":"alice"}`:                    "b",
			`{"user":"@alice:other.example"}`:     "b",
			`{"user":"@carol:example.org"}`:       "403 M_FORBIDDEN",
			`{}`:                                  "403 M_FORBIDDEN",
			`{"user":"Alice"}`:                    "403 M_FORBIDDEN",
			`{"type":"m.login.token","token":1}`:  "403 M_FORBIDDEN",
			`{"user":"alice"`:                     "400 M_NOT_JSON",
			``:                                    "400 M_NOT_JSON",
			`{"user":"alice"} x`:                  "400 M_NOT_JSON",
			"{\"user\":\"alice\",\"p\":\"\xff\"}": "400 M_NOT_JSON",
			`["alice"]`:                           "400 M_BAD_JSON",
			`null`:                                "400 M_BAD_JSON",
			`"alice"`:                             "400 M_BAD_JSON",
			`{"user":"alice","user":"carol"}`:     "400 M_BAD_JSON",
		} {
			before := len(a.asked()) + len(b.asked())
			got := p.do("POST", oldPath, body)
			status, code, refused := strings.Cut(want, " ")
			switch {
			case refused:
				n, _ := strconv.Atoi(status)
				assertError(t, got, n, code)
				assert.Equal(t, before, len(a.asked())+len(b.asked()))
			case mode == Redirect:
				assert.Equal(t, map[string]string{"a": a.URL, "b": b.URL}[want]+oldPath, got.header.Get("Location"), body)
			default:
				assert.Contains(t, got.body, `{"hs":"`+want+`",`, body)
			}
		}
	}
}

// An embedder's Chooser.
func TestChooser(t *testing.T) {
	t.Parallel()
	a := newHomeserver(t, says(200, loginDone))
	for name, test := range map[string]struct {
		choose func(*Login) ([]string, error)
		status int
		code   string
		failed string
	}{
		"by a header": {func(l *Login) ([]string, error) { return []string{l.Request.Header.Get("X-Department")}, nil }, 200, "", ""},
		"by the body": {func(l *Login) ([]string, error) {
			body, err := io.ReadAll(l.Request.Body)
			if err != nil || string(body) != loginBody || string(l.Body) != loginBody {
				return nil, errors.New("the body is not there")
			}
			if _, ok := l.Request.Context().Deadline(); !ok {
				return nil, errors.New("no deadline")
			}
			return l.Targets, nil
		}, 200, "", ""},
		"a refusal": {func(*Login) ([]string, error) {
			return nil, fmt.Errorf("wrapped: %w", &Error{429, "M_LIMIT_EXCEEDED", "later"})
		}, 429, "M_LIMIT_EXCEEDED", ""},
		"an error":       {func(l *Login) ([]string, error) { return nil, fmt.Errorf("bad login %s", l.Body) }, 500, "M_UNKNOWN", "the chooser failed"},
		"an odd refusal": {func(l *Login) ([]string, error) { return nil, &Error{200, password, token} }, 500, "M_UNKNOWN", "the chooser failed"},
		"no target":      {func(*Login) ([]string, error) { return nil, nil }, 500, "M_UNKNOWN", "the chooser named no target"},
		"another target": {func(*Login) ([]string, error) { return []string{"a", token}, nil }, 500, "M_UNKNOWN", "the chooser named a target that is not there"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, &Portal{Targets: []Target{{Name: "a", URL: a.URL}}, Chooser: ChooserFunc(test.choose)})
			got := p.do("POST", loginPath, loginBody, "X-Department", "a")
			assertNoSecret(t, strings.ReplaceAll(got.body, loginDone[:80], ""))
			if test.code == "" {
				assert.Equal(t, 200, got.status, got.body)
				return
			}
			assertError(t, got, test.status, test.code)
			if test.failed != "" {
				assert.EqualError(t, p.log()[0].Failures[0], test.failed)
			}
		})
	}
}

// GET login and GET versions are answered by the first target, in both modes.
func TestGet(t *testing.T) {
	t.Parallel()
	flows := `{"flows":[{"type":"m.login.sso","identity_providers":[{"id":"x"}]}, {"type":"m.login.password"} ,{"type":"m.login.cas"},{"type":"m.login.token","get_login_token":true}],"n":1.0}`
	versions := `{"versions":["v1.1"], "flows":[{"type":"m.login.sso"}]}`
	for _, coding := range []string{"", "gzip"} {
		a := newHomeserver(t, func(w http.ResponseWriter, r *http.Request) {
			body := versions
			if strings.HasSuffix(r.URL.Path, "/login") {
				body = flows
			}
			if coding != "" && strings.Contains(r.Header.Get("Accept-Encoding"), coding) {
				w.Header().Set("Content-Encoding", coding)
				body = gzipped(body)
			}
			io.WriteString(w, body)
		})
		b := newHomeserver(t, says(500, ``))
		for _, mode := range []Mode{Proxy, Redirect} {
			p := start(t, &Portal{Targets: []Target{{Name: "dead", URL: nobody(t)}, {Name: "a", URL: a.URL}, {Name: "b", URL: b.URL}}, Mode: mode, Chooser: UserMap{}})
			for _, path := range []string{loginPath, oldPath} {
				got := p.do("GET", path+"?q=1", "", "Accept-Encoding", coding)
				assert.Equal(t, `{"flows":[{"type":"m.login.password"},{"type":"m.login.token","get_login_token":true}],"n":1.0}`, got.body)
				assert.Equal(t, path+"?q=1", a.asked()[len(a.asked())-1].uri)
			}
			got := p.do("GET", pathVersions, "", "Accept-Encoding", coding)
			if coding != "" {
				assert.Equal(t, gzipped(versions), got.body)
				assert.Equal(t, coding, got.header.Get("Content-Encoding"))
			} else {
				assert.Equal(t, versions, got.body)
			}
			assert.Equal(t, "127.0.0.1", a.asked()[0].header.Get("X-Forwarded-For"))
		}
		assert.Empty(t, b.asked())
	}
	// Whoever can be reached has answered.
	b := newHomeserver(t, says(500, `{"flows":[{"type":"m.login.sso"}]}`))
	p := start(t, &Portal{Targets: []Target{{Name: "b", URL: b.URL}, {Name: "x", URL: nobody(t)}}})
	got := p.do("GET", loginPath, "")
	assert.Equal(t, 500, got.status)
	assert.Equal(t, `{"flows":[{"type":"m.login.sso"}]}`, got.body)
}

func TestWellKnown(t *testing.T) {
	t.Parallel()
	targets := []Target{{Name: "a", URL: nobody(t)}}
	p := start(t, &Portal{Targets: targets, BaseURL: "HTTPS://Portal.example:443/x/"})
	got := p.do("GET", pathWellKnown, "")
	assert.Equal(t, 200, got.status)
	assert.Equal(t, `{"m.homeserver":{"base_url":"https://portal.example/x"}}`, got.body)
	assert.Equal(t, "application/json", got.header.Get("Content-Type"))
	assertError(t, start(t, &Portal{Targets: targets}).do("GET", pathWellKnown, ""), 404, "M_NOT_FOUND")
}

func TestOtherMethods(t *testing.T) {
	t.Parallel()
	a := newHomeserver(t, says(200, loginDone))
	p := start(t, &Portal{Targets: []Target{{Name: "a", URL: a.URL}}, BaseURL: "https://portal.example"})
	for path, allowed := range map[string]string{
		loginPath: "GET, OPTIONS, POST", oldPath: "GET, OPTIONS, POST", pathVersions: "GET, OPTIONS", pathWellKnown: "GET, OPTIONS",
	} {
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "TRACE", "post"} {
			if method == "POST" && strings.HasSuffix(path, "login") {
				continue
			}
			got := p.do(method, path, "")
			assertError(t, got, 405, "M_UNRECOGNIZED")
			assert.Equal(t, allowed, got.header.Get("Allow"))
		}
		got := p.do("HEAD", path, "")
		assert.Equal(t, 405, got.status)
		assert.Empty(t, got.body)
	}
	assert.Empty(t, a.asked())
}

func TestElsewhere(t *testing.T) {
	t.Parallel()
	a := newHomeserver(t, says(200, loginDone))
	p := start(t, &Portal{Targets: []Target{{Name: "a", URL: a.URL}}})
	for _, path := range []string{"/", "/_matrix/client/v3/sync", "/_matrix/client/v3/login/sso/redirect", "/_matrix/client/r0/versions", "/_matrix/federation/v1/version", "/.well-known/matrix/server", "/%1b[31m"} {
		for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
			for name, test := range map[string]struct {
				path   string
				header []string
				code   string
			}{
				"none":        {path, nil, "M_MISSING_TOKEN"},
				"empty":       {path + "?access_token=", []string{"Authorization", "Bearer "}, "M_MISSING_TOKEN"},
				"other":       {path, []string{"Authorization", "Basic " + token}, "M_MISSING_TOKEN"},
				"in a header": {path, []string{"Authorization", "Bearer " + token}, "M_UNKNOWN_TOKEN"},
				"bearer":      {path, []string{"Authorization", "bearer  " + token}, "M_UNKNOWN_TOKEN"},
				"in a query":  {path + "?access_token=" + token, nil, "M_UNKNOWN_TOKEN"},
			} {
				got := p.do(method, test.path, `{"a":1}`, test.header...)
				assertError(t, got, 401, test.code)
				assert.Equal(t, test.code == "M_UNKNOWN_TOKEN", strings.Contains(got.body, `"soft_logout":true`), name)
				assert.Equal(t, "Bearer", got.header.Get("Www-Authenticate"))
			}
		}
	}
	assert.Empty(t, a.asked())
}

// One entry for each request, with nothing in it that is secret.
func TestLog(t *testing.T) {
	t.Parallel()
	a := newHomeserver(t, says(200, loginDone))
	p := start(t, &Portal{Targets: []Target{{Name: "dead", URL: nobody(t)}, {Name: "a", URL: a.URL}}, TrustForwardedFor: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	p.do("POST", loginPath+"?access_token="+token, loginBody, "Authorization", "Bearer "+token, "X-Forwarded-For", "192.0.2.7")
	p.do("GET", "/a%0ab%1b[31m?password="+password, "")
	p.do("GET", "/x%20200%20a", "")
	entries := p.log()
	require.Len(t, entries, 3)
	assert.Regexp(t, `^POST /_matrix/client/v3/login 200 a 192\.0\.2\.7 \d\S* \(target dead: no connection: 127\.0\.0\.1:\d+ \S+: connection refused\)$`, entries[0].String())
	assert.Regexp(t, `^GET /a%0ab%1b\[31m 401 - 127\.0\.0\.1 \d\S*$`, entries[1].String())
	assert.Regexp(t, `^GET /x%20200%20a 401 - `, entries[2].String(), "a path cannot look like other words of the line")
	assert.Positive(t, entries[0].Duration)
	assert.Equal(t, "POST - 0 - - 0s", Entry{Method: "POST", Path: "-"}.String())

	lines := strings.Split(strings.TrimSpace(p.written.String()), "\n")
	require.Len(t, lines, 6)
	var line struct{ Entry map[string]any }
	require.NoError(t, json.Unmarshal([]byte(lines[1]), &line))
	assert.Equal(t, "a", line.Entry["target"])
	assert.Equal(t, "192.0.2.7", line.Entry["client"])
	assert.Equal(t, float64(200), line.Entry["status"])
	assert.Contains(t, line.Entry["failures"], "target dead: no connection")
}

// Dial functions are the embedder's, and may be wrong.
func TestDialReturnsNothing(t *testing.T) {
	t.Parallel()
	p := start(t, &Portal{Targets: []Target{{Name: "a", URL: "http://a.example"}},
		Dial: func(context.Context, string, uint16) (net.Conn, netip.AddrPort, error) {
			return nil, netip.AddrPort{}, nil
		}})
	assertError(t, p.login(), 502, "M_UNKNOWN")
}

func BenchmarkLogin(b *testing.B) {
	target := httptest.NewServer(says(200, loginDone))
	defer target.Close()
	p := &Portal{Targets: []Target{{Name: "a", URL: target.URL}}}
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequest("POST", loginPath, strings.NewReader(loginBody)))
		if w.Code != 200 {
			b.Fatal(w.Code)
		}
	}
}
