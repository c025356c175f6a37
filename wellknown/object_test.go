package wellknown_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/wellknown"
)

// pipe is a Fetcher whose plain requests answer speaks to.
func pipe(answer func(net.Conn)) *wellknown.Fetcher {
	return &wellknown.Fetcher{Dial: func(context.Context, string, uint16) (net.Conn, netip.AddrPort, error) {
		here, there := net.Pipe()
		go func() {
			defer there.Close()
			answer(there)
		}()
		return here, netip.AddrPort{}, nil
	}}
}

// TestObject: what a client's fetch gives, and the header of each hop.
func TestObject(t *testing.T) {
	t.Parallel()
	w := start(t, "-- zone --\nh.example. A 203.0.113.1\nwww.example. A 203.0.113.1\n"+
		"-- GET https://h.example/x --\n302\nX: 1\nLocation: //WWW.example.:443/y#z\n"+
		"-- GET https://www.example./y --\n200\nX: 2\n\n{\"a\": 1.0 , \"A\":null}\n"+
		"-- GET https://h.example/odd --\n302\nLocation: /x?\u009b31m\n"+
		"-- GET https://h.example/bad --\n302\nX: 3\nLocation: http://h.example/x\n")
	object, reply, err := fetcher(w).Object(t.Context(), "https://h.example/x")
	require.NoError(t, err)
	assert.Equal(t, map[string]json.RawMessage{"a": json.RawMessage("1.0"), "A": json.RawMessage("null")}, object)
	require.Len(t, reply.Headers, 2)
	assert.Equal(t, "1", reply.Headers[0].Get("X"))
	assert.Equal(t, "2", reply.Headers[1].Get("X"))
	assert.Equal(t, "https://www.example./y", reply.Hops[1].URL)

	_, _, err = fetcher(w).Object(t.Context(), "https://h.example/odd")
	require.NoError(t, err, "the host counts, and nothing of the query is shown")

	_, reply, err = fetcher(w).Object(t.Context(), "https://h.example/bad")
	var e *wellknown.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, wellknown.RedirectInsecure, e.Code)
	assert.Len(t, reply.Hops, 2)
	require.Len(t, reply.Headers, 1, "nobody was asked there")
	assert.Equal(t, "3", reply.Headers[0].Get("X"))
}

// TestObjectPlain: http is for who asks for it, and Get does not.
func TestObjectPlain(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"host":%q}`, r.Host)
	}))
	defer server.Close()
	f := wellknown.Fetcher{AllowNets: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	object, reply, err := f.Object(t.Context(), server.URL)
	require.NoError(t, err)
	assert.Equal(t, `"`+server.Listener.Addr().String()+`"`, string(object["host"]))
	assert.Equal(t, server.Listener.Addr().String(), reply.Hops[0].Addr.String())
	assert.Empty(t, reply.Hops[0].TLS)

	var e *wellknown.Error
	_, err = f.Get(t.Context(), server.URL)
	require.ErrorAs(t, err, &e)
	assert.Equal(t, wellknown.RedirectInsecure, e.Code)

	f.AllowNets = nil
	_, _, err = f.Object(t.Context(), server.URL)
	require.ErrorAs(t, err, &e)
	assert.Equal(t, wellknown.AddressDenied, e.Code)
}

// TestObjectRequest: what a server sees of us without TLS.
func TestObjectRequest(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 1)
	f := pipe(func(c net.Conn) {
		buf := make([]byte, 4096)
		n, _ := c.Read(buf)
		seen <- string(buf[:n])
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
	})
	_, _, err := f.Object(t.Context(), "http://u:p@h.example:8008/a%2fb//_matrix/client/versions#f")
	require.NoError(t, err)
	assert.Equal(t, "GET /a%2fb//_matrix/client/versions HTTP/1.1\r\nHost: h.example:8008\r\nUser-Agent: mxdiscover\r\nAccept: application/json\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n", <-seen)
}

// TestObjectTimes: each request has its own time, the caller's context and
// Timeout count for all.
func TestObjectTimes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		about              string
		pause              time.Duration // before each of three answers
		timeout, ctx, took time.Duration
		code               wellknown.Code
		detail             string
	}{
		{about: "slow hops", pause: 4 * time.Second, took: 12 * time.Second},
		{about: "one too slow", pause: 6 * time.Second, took: 5 * time.Second, code: wellknown.Timeout, detail: "no complete answer within 5s"},
		{about: "Timeout", pause: 4 * time.Second, timeout: 6 * time.Second, took: 6 * time.Second, code: wellknown.Timeout, detail: "no complete answer within 2s"},
		{about: "context", pause: 4 * time.Second, ctx: 9 * time.Second, took: 9 * time.Second, code: wellknown.Timeout, detail: "no complete answer within 1s"},
	} {
		t.Run(test.about, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				defer time.Sleep(test.pause) // until the answer that nobody waits for is given up
				n := 0
				f := pipe(func(c net.Conn) {
					n++
					at := n
					c.Read(make([]byte, 4096))
					time.Sleep(test.pause)
					if at < 3 {
						fmt.Fprintf(c, "HTTP/1.1 302 Found\r\nLocation: /%d\r\nContent-Length: 0\r\n\r\n", at)
					} else {
						io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
					}
				})
				f.Timeout = test.timeout
				ctx := t.Context()
				if test.ctx > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.ctx)
					defer cancel()
				}
				begun := time.Now()
				_, _, err := f.Object(ctx, "http://h.example/")
				assert.Equal(t, test.took, time.Since(begun))
				if test.code == "" {
					require.NoError(t, err)
					return
				}
				var e *wellknown.Error
				require.ErrorAs(t, err, &e)
				assert.Equal(t, test.code, e.Code)
				assert.Equal(t, test.detail, e.Detail)
			})
		})
	}
}

func ExampleFetcher_Object() {
	var f wellknown.Fetcher
	_, _, err := f.Object(context.Background(), "http://127.0.0.1:8008/_matrix/client/versions")
	if e, ok := err.(*wellknown.Error); ok {
		fmt.Println(e.Code)
	}
	// Output:
	// address_denied
}
