package wellknown_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/wellknown"
)

const secret = "s3cret-d0-n0t-repeat"

// says answers the first request on each connection with the text, in which
// {echo} is what came.
func says(answer string) *wellknown.Fetcher {
	return pipe(func(c net.Conn) {
		buf := make([]byte, 8192)
		n := 0
		for {
			m, err := c.Read(buf[n:])
			n += m
			head, body, whole := strings.Cut(string(buf[:n]), "\r\n\r\n")
			var length int
			if _, after, ok := strings.Cut(head, "Content-Length: "); ok {
				fmt.Sscan(after, &length)
			}
			if err != nil || whole && len(body) >= length {
				break
			}
		}
		io.WriteString(c, strings.ReplaceAll(answer, "{echo}", string(buf[:n])))
	})
}

// unsaid checks that nothing of what a server may repeat is in a text.
func unsaid(t *testing.T, reply *wellknown.Reply, err error) {
	t.Helper()
	assert.NotContains(t, fmt.Sprintf("%+v", reply.Hops), secret)
	for _, hop := range reply.Hops {
		if hop.Err != nil {
			assert.NotContains(t, fmt.Sprintf("%+v", *hop.Err), secret)
			assert.NoError(t, hop.Err.Err)
		}
	}
	if err != nil {
		assert.NotContains(t, fmt.Sprintf("%+v %#v", err, err), secret)
		assert.NoError(t, errors.Unwrap(err))
		assert.False(t, strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r > '~' }), "%q", err)
	}
}

func TestPostRequest(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 1)
	f := pipe(func(c net.Conn) {
		buf := make([]byte, 4096)
		n, _ := c.Read(buf)
		for !strings.HasSuffix(string(buf[:n]), "}") {
			m, _ := c.Read(buf[n:])
			n += m
		}
		seen <- string(buf[:n])
		io.WriteString(c, "HTTP/1.1 201 Created\r\nContent-Length: 2\r\nX: 1\r\n\r\nhi")
	})
	reply, err := f.Post(t.Context(), "http://u:p@H.example:8008/a%2fb//login?q="+secret+"#f", []byte(`{"a":1}`))
	require.NoError(t, err)
	assert.Equal(t, "POST /a%2fb//login?q="+secret+" HTTP/1.1\r\nHost: h.example:8008\r\nUser-Agent: mxdiscover\r\nContent-Length: 7\r\nAccept: application/json\r\nAccept-Encoding: identity\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{\"a\":1}", <-seen)
	assert.Equal(t, 201, reply.Status)
	assert.Equal(t, "hi", string(reply.Body))
	assert.Equal(t, "1", reply.Header.Get("X"))
	require.Len(t, reply.Hops, 1)
	assert.Equal(t, "http://h.example:8008/a%2fb//login", reply.Hops[0].URL)
	assert.Equal(t, 201, reply.Hops[0].Status)
	unsaid(t, reply, err)
	place, err := reply.Redirect()
	assert.Empty(t, place)
	assert.NoError(t, err)
}

func gzipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, text)
	w.Close()
	return b.String()
}

// TestPostAnswer: every status is an answer, and what is none says so without
// repeating it.
func TestPostAnswer(t *testing.T) {
	t.Parallel()
	const most = wellknown.MaxPostBody
	sized := func(status string, n int) string {
		return fmt.Sprintf("HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s", status, n, strings.Repeat("x", n))
	}
	chunked := func(n int) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", n, strings.Repeat("x", n))
	}
	for _, test := range []struct {
		about  string
		answer string
		status int
		size   int // of the body
		code   wellknown.Code
		detail string
	}{
		{about: "good", answer: sized("200 OK", 3), status: 200, size: 3},
		{about: "empty", answer: sized("200 OK", 0), status: 200},
		{about: "echo", answer: "HTTP/1.1 403 {echo}", status: 403, size: 35},
		{about: "echo in the reason", answer: "HTTP/1.1 403 " + secret + "\r\nX: " + secret + "\r\nContent-Length: 2\r\n\r\nhi", status: 403, size: 2},
		{about: "not HTTP", answer: secret + "\r\n\r\n", code: wellknown.ConnectFailed, detail: "what came is not an answer in HTTP/1.1"},
		{about: "a bad header", answer: "HTTP/1.1 200 OK\r\n" + secret + "\r\n\r\n", code: wellknown.ConnectFailed, detail: "what came is not an answer in HTTP/1.1"},
		{about: "a bad length", answer: "HTTP/1.1 200 OK\r\nContent-Length: " + secret + "\r\n\r\n", code: wellknown.ConnectFailed, detail: "what came is not an answer in HTTP/1.1"},
		{about: "nothing", answer: "", code: wellknown.ConnectFailed, detail: "the connection was closed before the answer was complete"},
		{about: "cut off", answer: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n" + secret[:3], status: 200, code: wellknown.ConnectFailed, detail: "the connection was closed before the answer was complete"},
		{about: "an error cut off", answer: "HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nxxx", status: 403},
		{about: "the largest", answer: sized("200 OK", most), status: 200, size: most},
		{about: "the largest, in chunks", answer: chunked(most), status: 200, size: most},
		{about: "too large", answer: sized("200 OK", most+1), status: 200, code: wellknown.TooLarge, detail: "the body is larger than 1048576 bytes"},
		{about: "too large, in chunks", answer: chunked(most + 1), status: 200, code: wellknown.TooLarge, detail: "the body is larger than 1048576 bytes"},
		{about: "an error too large", answer: sized("500 No", most+1), status: 500},
		{about: "too many bytes on the wire", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1;aaaaaaaa\r\nx\r\n", 200000), status: 200, code: wellknown.TooLarge, detail: "the answer takes more than 2228224 bytes"},
		{about: "a header too large", answer: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat(secret, 4000) + "\r\n\r\n", code: wellknown.TooLarge, detail: "the header is larger than 65536 bytes"},
		{about: "gzip", answer: "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzipped("hello"), status: 200, size: 5},
		{about: "gzip too large", answer: "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzipped(strings.Repeat("x", most+1)), status: 200, code: wellknown.TooLarge, detail: "the body is larger than 1048576 bytes"},
		{about: "no gzip", answer: "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + secret, status: 200, code: wellknown.NotJSON, detail: "the body says that it is gzip, and is not"},
		{about: "another coding", answer: "HTTP/1.1 200 OK\r\nContent-Encoding: " + secret + "\r\n\r\nx", status: 200, code: wellknown.NotJSON, detail: "the body has the encoding of another kind, which was not asked for"},
		{about: "204", answer: "HTTP/1.1 204 No Content\r\n\r\n", status: 204},
		{about: "101", answer: "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nx", status: 101},
		{about: "a redirect has a body too", answer: "HTTP/1.1 307 " + secret + "\r\nLocation: https://u:" + secret + "@h.example/?" + secret + "\r\nContent-Length: 2\r\n\r\nhi", status: 307, size: 2},
	} {
		t.Run(test.about, func(t *testing.T) {
			t.Parallel()
			reply, err := says(test.answer).Post(t.Context(), "http://h.example/login", []byte(`{"password":"`+secret+`"}`))
			unsaid(t, reply, err)
			require.Len(t, reply.Hops, 1)
			assert.Equal(t, test.status, reply.Status)
			assert.Equal(t, test.status, reply.Hops[0].Status)
			assert.Len(t, reply.Body, test.size)
			assert.Empty(t, reply.Hops[0].Location)
			if test.code == "" {
				require.NoError(t, err)
				return
			}
			var e *wellknown.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, test.code, e.Code)
			assert.Equal(t, "POST http://h.example/login: "+test.detail, e.Error())
			assert.Same(t, e, reply.Hops[0].Err)
			assert.Equal(t, test.status, e.Status)
		})
	}
}

func TestPostNoURL(t *testing.T) {
	t.Parallel()
	for raw, code := range map[string]wellknown.Code{
		"":                                 wellknown.RedirectInsecure,
		"ftp://h.example/" + secret:        wellknown.RedirectInsecure,
		"https://127.1/" + secret:          wellknown.RedirectInvalid,
		"https://" + secret + " /":         wellknown.RedirectInvalid,
		"https:" + secret:                  wellknown.RedirectInvalid,
		"/" + strings.Repeat(secret, 8000): wellknown.RedirectInvalid,
	} {
		reply, err := new(wellknown.Fetcher).Post(t.Context(), raw, nil)
		var e *wellknown.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, code, e.Code, "%.40s", raw)
		require.Len(t, reply.Hops, 1)
		unsaid(t, reply, err)
		place, err := reply.Redirect()
		assert.Empty(t, place)
		assert.NoError(t, err)
	}
}

// Nothing but the context bounds a Post, and no error of the way there is hidden.
func TestPostTimes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := pipe(func(c net.Conn) {
			io.Copy(io.Discard, c)
		})
		f.Timeout = time.Second
		for wait, detail := range map[time.Duration]string{7 * time.Second: "no complete answer within 7s", 9 * time.Minute: "no complete answer within 9m0s"} {
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			begun := time.Now()
			reply, err := f.Post(ctx, "http://h.example/", []byte("{}"))
			cancel()
			var e *wellknown.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, wellknown.Timeout, e.Code)
			assert.Equal(t, detail, e.Detail)
			assert.Equal(t, wait, time.Since(begun))
			assert.Equal(t, wait, reply.Duration)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Hour, cancel)
		_, err := f.Post(ctx, "http://h.example/", []byte("{}"))
		var e *wellknown.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, wellknown.Canceled, e.Code)

		f.Dial = func(context.Context, string, uint16) (net.Conn, netip.AddrPort, error) {
			return nil, netip.AddrPort{}, context.DeadlineExceeded
		}
		_, err = f.Post(t.Context(), "http://h.example/", nil)
		require.ErrorAs(t, err, &e)
		assert.Equal(t, wellknown.ConnectFailed, e.Code)
	})
	w := start(t, "-- zone --\nh.example. A 203.0.113.1\n-- servers --\n203.0.113.1:443 cert expired\n")
	for host, code := range map[string]wellknown.Code{
		"h.example": wellknown.TLSFailed, "private.example": wellknown.AddressDenied,
		"noaddress.example": wellknown.NoAddress, "nodns.example": wellknown.DNSError, "h.example:1": wellknown.ConnectFailed,
	} {
		_, err := fetcher(w).Post(t.Context(), "https://"+host+"/login", []byte(secret))
		var e *wellknown.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, code, e.Code, e.Detail)
		assert.NoError(t, e.Err)
		assert.Contains(t, e.Detail, strings.TrimSuffix(host, ":1"), "the usual words")
	}
}

// TestPostKeys: what is posted is kept from those who record it, and what is
// fetched need not be.
func TestPostKeys(t *testing.T) {
	t.Parallel()
	var curves [][]tls.CurveID
	f := &wellknown.Fetcher{DialTLS: func(_ context.Context, _ string, _ uint16, config *tls.Config) (net.Conn, netip.AddrPort, error) {
		curves = append(curves, config.CurvePreferences)
		return nil, netip.AddrPort{}, errors.New("no")
	}}
	f.Post(t.Context(), "https://h.example/", nil)
	f.Object(t.Context(), "https://h.example/")
	require.Len(t, curves, 2)
	assert.Empty(t, curves[0], "crypto/tls has the best first")
	assert.NotContains(t, curves[1], tls.X25519MLKEM768)
}

func TestRedirect(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		location string
		want     string
		code     wellknown.Code
	}{
		{location: "/x", code: wellknown.RedirectInsecure}, // from http to http
		{location: "https://H.example:443/a%2Fb/?q=1#f", want: "https://h.example/a%2Fb/?q=1"},
		{location: "https://u:p@h.example:8448/../x?", want: "https://h.example:8448/x?"},
		{location: "//h.example/x", code: wellknown.RedirectInsecure},
		{location: "ftp://h.example/" + secret, code: wellknown.RedirectInsecure},
		{location: "https://127.1/" + secret, code: wellknown.RedirectInvalid},
		{location: "https:" + secret, code: wellknown.RedirectInvalid},
		{location: "https://h.example/%zz" + secret, code: wellknown.RedirectInvalid},
		{location: "https://h.example/" + strings.Repeat(secret, 1000), code: wellknown.RedirectInvalid},
		{location: "", code: wellknown.RedirectInvalid},
	} {
		for _, status := range []int{301, 302, 303, 307, 308, 300, 304} {
			reply, err := says(fmt.Sprintf("HTTP/1.1 %d x\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n", status, test.location)).Post(t.Context(), "http://h.example/login?"+secret, nil)
			require.NoError(t, err)
			place, err := reply.Redirect()
			unsaid(t, reply, err)
			switch {
			case status == 300 || status == 304:
				assert.Empty(t, place)
				assert.NoError(t, err)
			case test.code == "":
				require.NoError(t, err, test.location)
				assert.Equal(t, test.want, place)
			default:
				var e *wellknown.Error
				require.ErrorAs(t, err, &e, test.location)
				assert.Equal(t, test.code, e.Code, test.location)
				assert.Equal(t, status, e.Status)
				assert.True(t, strings.HasPrefix(e.Error(), "POST http://h.example/login: "), e.Error())
			}
		}
	}
	place, err := new(wellknown.Reply).Redirect()
	assert.Empty(t, place)
	assert.NoError(t, err)
}

// From https, a relative place is one of the same host.
func TestRedirectRelative(t *testing.T) {
	t.Parallel()
	w := start(t, "-- zone --\nh.example. A 203.0.113.1\n-- POST https://h.example/a/login --\n307\nLocation: b?c\n")
	reply, err := fetcher(w).Post(t.Context(), "https://h.example/a/login", []byte("{}"))
	require.NoError(t, err)
	place, err := reply.Redirect()
	require.NoError(t, err)
	assert.Equal(t, "https://h.example/a/b?c", place)
	assert.NotEmpty(t, reply.Hops[0].TLS)
	assert.NotZero(t, reply.Hops[0].Addr)
}

// TestQuiet: the words of a quiet fetch are its own.
func TestQuiet(t *testing.T) {
	t.Parallel()
	okay := "HTTP/1.1 200 OK\r\nContent-Type: " + secret + "\r\n"
	for _, test := range []struct {
		about  string
		answer string
		code   wellknown.Code
		text   string // of the error, with the URL first
	}{
		{"not HTTP", secret + "\r\n\r\n", wellknown.ConnectFailed, "http://h.example/a: what came is not an answer in HTTP/1.1"},
		{"a coding", okay + "Content-Encoding: " + secret + "\r\n\r\nx", wellknown.NotJSON, "http://h.example/a: the body has the encoding of another kind, which was not asked for"},
		{"not JSON", okay + "\r\n" + secret, wellknown.NotJSON, "http://h.example/a: the body is not what was asked for (not json)"},
		{"no object", okay + "\r\n\"" + secret + "\"", wellknown.NotObject, "http://h.example/a: the body is not what was asked for (not object)"},
		{"a reason", "HTTP/1.1 418 " + secret + "\r\n\r\n", wellknown.HTTPStatus, "http://h.example/a: status 418 I'm a teapot"},
		{"to another scheme", "HTTP/1.1 302 x\r\nLocation: ftp://" + secret + "/\r\n\r\n", wellknown.RedirectInsecure, "http://h.example/a: redirected to something that is not https"},
		{"to no URL", "HTTP/1.1 302 x\r\nLocation: http://h.example/%zz" + secret + "\r\n\r\n", wellknown.RedirectInvalid, "http://h.example/a: redirected to something that is not a URL"},
		{"in circles", "HTTP/1.1 302 x\r\nLocation: http://h.example/" + secret + "?" + secret + "\r\n\r\n", wellknown.RedirectLoop, "http://h.example: redirected to the same address again"},
	} {
		t.Run(test.about, func(t *testing.T) {
			t.Parallel()
			f := says(test.answer)
			f.Quiet = true
			_, reply, err := f.Object(t.Context(), "http://h.example/a?q")
			var e *wellknown.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, test.code, e.Code)
			assert.Equal(t, "GET "+test.text, e.Error())
			unsaid(t, reply, err)
		})
	}
	w := start(t, "-- zone --\nh.example. A 203.0.113.1\n-- GET https://h.example/.well-known/matrix/server --\n200\n\n{\"m.server\":\""+secret+" x\"}\n")
	f := fetcher(w)
	f.Quiet = true
	_, reply, err := f.Server(t.Context(), "h.example")
	var e *wellknown.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, wellknown.ServerInvalid, e.Code)
	unsaid(t, reply, err)
}

// TestObjectError: what a server says beside a status that is no good.
func TestObjectError(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		about, answer string
		want          string
	}{
		{"an error", "HTTP/1.1 429 x\r\nContent-Length: 2\r\n\r\n{}", "{}"},
		{"not found", "HTTP/1.1 404 x\r\nContent-Length: 2\r\n\r\n{}", "{}"},
		{"gzip", "HTTP/1.1 429 x\r\nContent-Encoding: gzip\r\n\r\n" + gzipped("{}"), "{}"},
		{"the largest", "HTTP/1.1 429 x\r\n\r\n" + strings.Repeat("x", wellknown.MaxBody), strings.Repeat("x", wellknown.MaxBody)},
		{"too large", "HTTP/1.1 429 x\r\n\r\n" + strings.Repeat("x", wellknown.MaxBody+1), ""},
		{"cut off", "HTTP/1.1 429 x\r\nContent-Length: 9\r\n\r\nxxx", ""},
		{"another protocol", "HTTP/1.1 101 x\r\n\r\nxxx", ""},
		{"a redirect", "HTTP/1.1 302 x\r\nLocation: ftp://h.example/\r\nContent-Length: 2\r\n\r\n{}", ""},
	} {
		t.Run(test.about, func(t *testing.T) {
			t.Parallel()
			_, reply, err := says(test.answer).Object(t.Context(), "http://h.example/")
			require.Error(t, err)
			assert.Equal(t, test.want, string(reply.Body))
		})
	}
	w := start(t, "-- zone --\nh.example. A 203.0.113.1\n-- GET https://h.example/x --\n404\n\n{}\n")
	reply, err := fetcher(w).Get(t.Context(), "https://h.example/x")
	require.Error(t, err)
	assert.Empty(t, reply.Body, "Get's answers are documents alone")
}

// TestExcept: one host is connected to in another way, and no other is.
func TestExcept(t *testing.T) {
	t.Parallel()
	way := func(name string) *wellknown.Fetcher {
		return &wellknown.Fetcher{
			DialTLS: func(_ context.Context, host string, port uint16, config *tls.Config) (net.Conn, netip.AddrPort, error) {
				return nil, netip.AddrPort{}, fmt.Errorf("%s tls %s %d %s", name, host, port, config.ServerName)
			},
			Dial: func(_ context.Context, host string, port uint16) (net.Conn, netip.AddrPort, error) {
				return nil, netip.AddrPort{}, fmt.Errorf("%s plain %s %d", name, host, port)
			},
		}
	}
	for _, test := range []struct{ host, url, want string }{
		{"own.example", "https://own.example/", "via tls own.example 443 own.example"},
		{"Own.Example.", "https://OWN.example.:8448/", "via tls own.example 8448 own.example"},
		{"own.example", "http://own.example/", "via plain own.example 80"},
		{"own.example", "https://other.example/", "f tls other.example 443 other.example"},
		{"own.example", "http://other.example/", "f plain other.example 80"},
		{"own.example", "https://own.example.other.example/", "f tls own.example.other.example 443 own.example.other.example"},
		{"[2001:db8:0::1]", "https://[2001:DB8::1]/", "via tls 2001:db8::1 443 2001:db8::1"},
		{"2001:db8::1", "https://[2001:db8::2]/", "f tls 2001:db8::2 443 2001:db8::2"},
		{"192.0.2.1", "http://192.0.2.1/", "via plain 192.0.2.1 80"},
		{"", "http://192.0.2.1/", "f plain 192.0.2.1 80"},
	} {
		f := way("f")
		_, _, err := f.Except(test.host, way("via")).Object(t.Context(), test.url)
		var e *wellknown.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, test.want, e.Detail, "%s, %s", test.host, test.url)
	}

	// Without functions, the guard decides, and the rest is f's.
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			_, port, _ := net.SplitHostPort(r.Host)
			http.Redirect(w, r, "http://127.0.0.2:"+port+"/", http.StatusFound)
			return
		}
		fmt.Fprintf(w, `{"agent":%q}`, r.UserAgent())
	}))
	defer server.Close()
	f := &wellknown.Fetcher{UserAgent: "f"}
	split := f.Except("127.0.0.1", &wellknown.Fetcher{UserAgent: "via", AllowNets: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}})
	object, _, err := split.Object(t.Context(), server.URL)
	require.NoError(t, err)
	assert.Equal(t, `"f"`, string(object["agent"]))
	_, reply, err := split.Object(t.Context(), server.URL+"/away")
	var e *wellknown.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, wellknown.AddressDenied, e.Code, "a redirect leads to another host")
	assert.Len(t, reply.Hops, 2)
	_, _, err = f.Object(t.Context(), server.URL)
	require.ErrorAs(t, err, &e)
	assert.Equal(t, wellknown.AddressDenied, e.Code, "f stays as it is")
}

func ExampleFetcher_Post() {
	f := wellknown.Fetcher{AllowNets: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, `{"errcode":"M_FORBIDDEN"}`, http.StatusForbidden)
	}))
	defer server.Close()
	reply, err := f.Post(context.Background(), server.URL+"/_matrix/client/v3/login", []byte(`{"password":"wrong"}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(reply.Status, " ", string(reply.Body))
	// Output:
	// 403 {"errcode":"M_FORBIDDEN"}
}
