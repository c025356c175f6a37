package check_test

import (
	"context"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/check"
	"mxdiscover/internal/memnet"
	"mxdiscover/internal/world"
	"mxdiscover/resolver"
	"mxdiscover/srv"
)

// advice is all that a finding says of what to change.
func advice(t *testing.T, r *check.Report, code string) string {
	t.Helper()
	for _, f := range r.Findings {
		if f.Code == code {
			var b strings.Builder
			for _, fix := range f.Fixes {
				b.WriteString(fix.Title + "\n" + fix.Text + "\n")
			}
			return b.String()
		}
	}
	require.Failf(t, "not found", "%s in %v", code, codes(r))
	return ""
}

// TestAdvice: who does what a finding says is better off, and not worse.
func TestAdvice(t *testing.T) {
	t.Parallel()
	const (
		// The server works by an SRV record, with a certificate for the name alone:
		// no m.server whatever would do.
		bySRV = `
-- zone --
example.org.         A     203.0.113.10
matrix.example.org.  A     203.0.113.20
_matrix-fed._tcp.example.org.  SRV  10 5 8450 matrix.example.org.
-- matrix https://example.org @203.0.113.20:8450 --
`
		webPage = `
-- GET https://example.org/.well-known/matrix/server --
200
Content-Type: text/html

<!DOCTYPE html><p>Welcome
`
		delegated = `
-- zone --
example.org.         A     203.0.113.10
matrix.example.org.  A     203.0.113.20
-- GET https://example.org/.well-known/matrix/server --
200
Content-Type: application/json

{"m.server": "matrix.example.org:443"}
`
	)
	for _, test := range []struct {
		about, scene, code string
		want, never        []string
	}{
		{"no document, and no need of one", bySRV + "-- servers --\n203.0.113.10:443\n", "well_known_missing", []string{"Nothing, if that is meant."}, []string{"m.server\":"}},
		{"a page, and no document would do", bySRV + webPage, "well_known_html", []string{"return 404;", "respond /.well-known/matrix/server 404"}, []string{"m.server\":"}},
		{"a page, and the certificate is for the target too",
			bySRV + webPage + "-- servers --\n203.0.113.20:8450 cert names=example.org,matrix.example.org\n", "well_known_html",
			[]string{`{"m.server": "matrix.example.org:8450"}`}, []string{"404", ":443"}},
		{"a page, and nothing is known of the server",
			"-- zone --\nexample.org. A 203.0.113.10\n-- servers --\n203.0.113.10:443\n" + webPage, "well_known_html",
			[]string{"if they are others"}, nil},
		{"the name in another case", delegated + "-- matrix https://matrix.example.org --\nserver-name Example.org\n", "keys_name_case",
			[]string{"mxdiscover check Example.org"}, []string{"check example.org"}},
		{"the keys of another server", delegated + "-- matrix https://matrix.example.org --\nserver-name example.net\n", "keys_wrong_name",
			[]string{"mend m.server in https://example.org/.well-known/matrix/server"}, []string{"matrix.example.org"}},
	} {
		t.Run(test.about, func(t *testing.T) {
			t.Parallel()
			in(t, test.scene, func(t *testing.T, _ *world.World, c *check.Checker) {
				got := advice(t, c.Check(t.Context(), "example.org"), test.code)
				for _, want := range test.want {
					assert.Contains(t, got, want)
				}
				for _, never := range test.never {
					assert.NotContains(t, got, never)
				}
			})
		})
	}
}

// TestOffline: a machine that reaches no DNS server knows nothing of the name, and
// says so in place of blaming the name's.
func TestOffline(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		err  syscall.Errno
	}{
		{"example.org", syscall.ENETUNREACH},
		{"example.org", syscall.ECONNREFUSED},
		{"example.org:8448", syscall.ENETUNREACH},
	} {
		t.Run(test.name+" "+test.err.Error(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var network memnet.Network
				c := &check.Checker{NewResolver: func() *resolver.Resolver {
					return &resolver.Resolver{
						DNS: &srv.Client{Servers: []string{"192.0.2.53:53"}, HostsFile: os.DevNull, Dial: func(context.Context, string, string) (net.Conn, error) {
							return nil, &net.OpError{Op: "dial", Err: test.err}
						}},
						DialContext: network.DialContext,
					}
				}}
				r := c.Check(t.Context(), test.name)
				assert.Equal(t, check.Bad, r.Verdict)
				var serious []string
				for _, f := range r.Findings {
					if f.Severity != check.SeverityNotice {
						serious = append(serious, f.Code)
					}
				}
				assert.Equal(t, []string{"check_timeout"}, serious)
				assert.Contains(t, r.Summary, "It is not known whether other servers reach "+test.name)
				assert.Contains(t, r.Findings[0].Message, "This machine reaches no DNS server")
				assert.NotContains(t, advice(t, r, "check_timeout"), "zone")
			})
		})
	}
}
