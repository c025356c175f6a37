package baseurl_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/baseurl"
)

var good = []struct {
	text, clean string
	stripped    bool
}{
	{"https://example.org", "https://example.org", false},
	{"https://example.org/", "https://example.org", false},
	{"https://example.org//", "https://example.org", false},
	{"http://example.org", "http://example.org", false},
	{"HTTPS://Matrix.Example.ORG/Base", "https://matrix.example.org/Base", false},
	{"https://example.org:443/", "https://example.org", false},
	{"https://example.org:0443/", "https://example.org", false},
	{"https://example.org:", "https://example.org", false},
	{"https://example.org:/a", "https://example.org/a", false},
	{"http://example.org:80", "http://example.org", false},
	{"https://example.org:80", "https://example.org:80", false},
	{"http://example.org:443", "http://example.org:443", false},
	{"https://example.org:65535", "https://example.org:65535", false},
	{"https://example.org:1", "https://example.org:1", false},
	{"https://192.0.2.1:8448/x", "https://192.0.2.1:8448/x", false},
	{"https://[2001:DB8::1]", "https://[2001:db8::1]", false},
	{"https://[2001:db8::1]:8448/x/", "https://[2001:db8::1]:8448/x", false},
	{"https://my_host.example", "https://my_host.example", false},
	{"https://example.org.", "https://example.org.", false},
	{"https://localhost", "https://localhost", false},
	{"https://xn--bcher-kva.example", "https://xn--bcher-kva.example", false},

	{"https://h.example/base/", "https://h.example/base", false},
	{"https://h.example/a%2Fb/%7e/%C3%BC", "https://h.example/a%2Fb/%7e/%C3%BC", false},
	{"https://h.example/a%2fb/bücher", "https://h.example/a%2fb/b%C3%BCcher", false},
	{"https://h.example/a%2fb|\"<^>`{}\\[]", "https://h.example/a%2fb%7C%22%3C%5E%3E%60%7B%7D%5C%5B%5D", false},
	{"https://h.example/~a/-._~!$&'()*+,;=:@", "https://h.example/~a/-._~!$&'()*+,;=:@", false},
	{"https://h.example//a//b", "https://h.example//a//b", false},
	{"https://h.example/a/./b/../c", "https://h.example/a/c", false},
	{"https://h.example/../../a/..", "https://h.example", false},
	{"https://h.example/%2e%2e/a", "https://h.example/%2e%2e/a", false},
	{"https://h.example/http://x.example/", "https://h.example/http://x.example", false},

	{"https://h.example/" + strings.Repeat("a", 7882), "https://h.example/" + strings.Repeat("a", 7882), false},

	{"https://u@h.example", "https://h.example", true},
	{"https://u:p@h.example:8448/x", "https://h.example:8448/x", true},
	{"https://@h.example", "https://h.example", true},
	{"https://h.example?", "https://h.example", true},
	{"https://h.example?q=/x", "https://h.example", true},
	{"https://h.example/x?q#f", "https://h.example/x", true},
	{"https://h.example/#", "https://h.example", true},
	{"https://h.example#/f", "https://h.example", true},
	{"https://h.example/?q=//a/b", "https://h.example", true},
}

var bad = []struct {
	text string
	err  error // nil: ErrHost or, since Go 1.26, ErrSyntax
}{
	{"", baseurl.ErrRelative},
	{"example.org", baseurl.ErrRelative},
	{"/path", baseurl.ErrRelative},
	{"//example.org", baseurl.ErrRelative},
	{"https:", baseurl.ErrRelative},
	{"https:/example.org", baseurl.ErrRelative},
	{"https:example.org", baseurl.ErrRelative},
	{"https://", baseurl.ErrRelative},
	{"https:///path", baseurl.ErrRelative},
	{"https://?q", baseurl.ErrRelative},
	{"https://u@", baseurl.ErrRelative},
	{"https://:8448", baseurl.ErrHost},
	{"example.org:8448", baseurl.ErrScheme},
	{"ftp://example.org", baseurl.ErrScheme},
	{"file:///etc/passwd", baseurl.ErrScheme},
	{"javascript:alert(1)", baseurl.ErrScheme},
	{"mailto:a@b.example", baseurl.ErrScheme},
	{"matrix://example.org", baseurl.ErrScheme},
	{"1https://example.org", baseurl.ErrSyntax},
	{"https://example.org:0", baseurl.ErrPort},
	{"https://example.org:65536", baseurl.ErrPort},
	{"https://example.org:99999999999999999999", baseurl.ErrPort},
	{"https://example.org:-1", baseurl.ErrSyntax},
	{"https://example.org:+80", baseurl.ErrSyntax},
	{"https://example.org:x", baseurl.ErrSyntax},
	{"https://a:b:c", baseurl.ErrSyntax},
	{" https://example.org", baseurl.ErrSyntax},
	{"https://example.org ", baseurl.ErrSyntax},
	{"https://example.org/a b", baseurl.ErrSyntax},
	{"https://example.org/\t", baseurl.ErrSyntax},
	{"https://example.org\n", baseurl.ErrSyntax},
	{"https://example.org/\x00", baseurl.ErrSyntax},
	{"https://example.org/\x7f", baseurl.ErrSyntax},
	{"https://example.org/\u0085", baseurl.ErrSyntax},
	{"https://example.org/\u009b", baseurl.ErrSyntax},
	{"https://example.org/\u00a0", baseurl.ErrSyntax},
	{"https://example.org/\u2028", baseurl.ErrSyntax},
	{"https://example.org/\u202e", baseurl.ErrSyntax},
	{"https://example.org/\u3000", baseurl.ErrSyntax},
	{"https://example.org/\ufeff", baseurl.ErrSyntax},
	{"https://example.org/\xff", baseurl.ErrSyntax},
	{"https://example.org/%", baseurl.ErrSyntax},
	{"https://example.org/%zz", baseurl.ErrSyntax},
	{"https://example.org\\@x.example", baseurl.ErrSyntax},
	{"https://[::1", baseurl.ErrSyntax},
	{"https://[fe80::1%25eth0]", baseurl.ErrHost},
	{"https://[1.2.3.4]", nil},
	{"https://[]", nil},
	{"https://[h.example]", nil},
	{"https://127.1", baseurl.ErrHost},
	{"https://2130706433", baseurl.ErrHost},
	{"https://256.1.1.1", baseurl.ErrHost},
	{"https://192.0.2.1.", baseurl.ErrHost},
	{"https://.example.org", baseurl.ErrHost},
	{"https://a..example.org", baseurl.ErrHost},
	{"https://.", baseurl.ErrHost},
	{"https://a$b.example", baseurl.ErrHost},
	{"https://a,b.example", baseurl.ErrHost},
	{"https://%C3%BC.example", baseurl.ErrHost},
	{"https://bücher.example", baseurl.ErrHost},
	{"https://\u212aelvin.example", baseurl.ErrHost}, // a Kelvin sign, whose lower case is k
	{"https://" + strings.Repeat("a", 64) + ".example", baseurl.ErrHost},
	{"https://" + strings.Repeat("a.", 127) + "a", baseurl.ErrHost},
	{"https://h.example/" + strings.Repeat("a", 7900), baseurl.ErrTooLong},
	{"https://h.example/" + strings.Repeat("ü", 3000), baseurl.ErrTooLong},
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, test := range good {
		u, err := baseurl.Parse(test.text)
		if !assert.NoError(t, err, "%q", test.text) {
			continue
		}
		assert.Equal(t, test.clean, u.String(), "%q", test.text)
		assert.Equal(t, test.stripped, u.Stripped, "%q", test.text)
		assert.Equal(t, test.clean+"/_matrix/client/versions", u.Join("/_matrix/client/versions"))
		check(t, u)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range bad {
		u, err := baseurl.Parse(test.text)
		if test.err != nil {
			assert.Equal(t, test.err, err, "%q", test.text)
		}
		assert.Error(t, err, "%q", test.text)
		assert.Zero(t, u)
	}
}

// check holds for every URL that Parse gives.
func check(t *testing.T, u baseurl.URL) {
	t.Helper()
	text := u.String()
	require.False(t, u.IsZero())
	require.LessOrEqual(t, len(text), 7900)
	for _, c := range []byte(text) {
		require.True(t, c > ' ' && c < 0x7f, "%q", text)
	}
	again, err := baseurl.Parse(text)
	require.NoError(t, err, "%q", text)
	require.False(t, again.Stripped)
	again.Stripped = u.Stripped
	require.Equal(t, u, again)
	require.False(t, strings.HasSuffix(text, "/"))
	require.NotZero(t, u.Port())
	require.Equal(t, u.Scheme() == "http", u.Insecure())
	require.Equal(t, text, u.Scheme()+"://"+u.Authority()+u.Path())

	// What net/http makes of it is the same.
	std, err := url.Parse(u.Join("/_matrix/x"))
	require.NoError(t, err)
	require.Equal(t, u.Join("/_matrix/x"), std.String())
	require.Equal(t, u.Authority(), std.Host)
	require.Equal(t, u.Host(), std.Hostname())
	require.Nil(t, std.User)
}

func TestURL(t *testing.T) {
	t.Parallel()
	u, err := baseurl.Parse("http://[2001:db8::1]/x/")
	require.NoError(t, err)
	assert.Equal(t, "http", u.Scheme())
	assert.Equal(t, "2001:db8::1", u.Host())
	assert.Equal(t, uint16(80), u.Port())
	assert.Equal(t, "[2001:db8::1]", u.Authority())
	assert.Equal(t, "/x", u.Path())
	assert.True(t, u.Insecure())
	u, err = baseurl.Parse("https://h.example:8448")
	require.NoError(t, err)
	assert.Equal(t, uint16(8448), u.Port())
	assert.Equal(t, "h.example:8448", u.Authority())
	assert.Empty(t, u.Path())
	assert.False(t, u.Insecure())
	assert.True(t, baseurl.URL{}.IsZero())
	assert.Empty(t, baseurl.URL{}.String())
}

// Whatever is taken is clean, and is read as the same again.
func FuzzParse(f *testing.F) {
	for _, test := range good {
		f.Add(test.text)
	}
	for _, test := range bad {
		if len(test.text) < 300 {
			f.Add(test.text)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := baseurl.Parse(text)
		if err != nil {
			require.Zero(t, u)
			return
		}
		check(t, u)
		// No other host than net/url's, which makes the connection.
		std, err := url.Parse(text)
		require.NoError(t, err)
		require.Equal(t, strings.ToLower(std.Hostname()), u.Host())
	})
}

func ExampleParse() {
	u, err := baseurl.Parse("HTTPS://Matrix.Example.org:443/base/")
	fmt.Println(u, err)
	fmt.Println(u.Join("/_matrix/client/versions"))
	_, err = baseurl.Parse("matrix.example.org")
	fmt.Println(err)
	// Output:
	// https://matrix.example.org/base <nil>
	// https://matrix.example.org/base/_matrix/client/versions
	// it has no scheme and host
}
