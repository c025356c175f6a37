package clientaddr_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"

	"mxdiscover/internal/clientaddr"
)

func TestOf(t *testing.T) {
	t.Parallel()
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, test := range []struct {
		name, remote string
		forwarded    []string
		peer, client string
		trusted      bool
	}{
		{"a stranger", "203.0.113.7:4711", nil, "203.0.113.7", "203.0.113.7", false},
		{"a stranger who says so", "203.0.113.7:4711", []string{"198.51.100.1"}, "203.0.113.7", "203.0.113.7", false},
		{"a proxy that says nothing", "10.0.0.1:80", nil, "10.0.0.1", "10.0.0.1", true},
		{"a proxy", "10.0.0.1:80", []string{"198.51.100.1"}, "10.0.0.1", "198.51.100.1", true},
		{"two proxies", "10.0.0.1:80", []string{"198.51.100.1, 10.0.0.2"}, "10.0.0.1", "198.51.100.1", true},
		{"in two lines", "10.0.0.1:80", []string{"198.51.100.1", "10.0.0.2"}, "10.0.0.1", "198.51.100.1", true},
		{"hearsay before the client", "10.0.0.1:80", []string{"192.0.2.1, 198.51.100.1"}, "10.0.0.1", "198.51.100.1", true},
		{"an end that is no address", "10.0.0.1:80", []string{"198.51.100.1, unknown"}, "10.0.0.1", "10.0.0.1", true},
		{"only proxies", "10.0.0.1:80", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.1", "10.0.0.3", true},
		{"IPv4 in IPv6 form", "[::ffff:10.0.0.1]:80", []string{"::ffff:198.51.100.1"}, "10.0.0.1", "198.51.100.1", true},
		{"a zone", "[fe80::1%eth0]:80", nil, "fe80::1", "fe80::1", false},
		{"IPv6", "[fd00::1]:80", []string{"2001:db8::5"}, "fd00::1", "2001:db8::5", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr = test.remote
			r.Header["X-Forwarded-For"] = test.forwarded
			got := clientaddr.Of(r, proxies)
			assert.Equal(t, test.peer, got.Peer.String())
			assert.Equal(t, test.client, got.Client.String())
			assert.Equal(t, test.trusted, got.Trusted)
		})
	}
	t.Run("no IP", func(t *testing.T) {
		t.Parallel()
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = "@"
		assert.Zero(t, clientaddr.Of(r, proxies))
	})
}
