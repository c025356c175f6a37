package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/world"
	"mxdiscover/wellknown"
	"mxdiscover/wellknown/client"
	"mxdiscover/wellknown/login"
)

// TestLoginScript logs in as a user would.
func TestLoginScript(t *testing.T) {
	t.Parallel()
	logins, err := filepath.Abs("testdata/login-world.txtar")
	require.NoError(t, err)
	testscript.Run(t, testscript.Params{
		Files: []string{"testdata/login.txtar"},
		Setup: func(env *testscript.Env) error {
			env.Setenv("LOGINS", logins)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// usage runs the verb, which must say that it was called wrongly.
			"usage": func(ts *testscript.TestScript, _ bool, args []string) {
				err := ts.Exec("mxdiscover", append([]string{"login"}, args...)...)
				var exit *exec.ExitError
				if !errors.As(err, &exit) || exit.ExitCode() != statusUsage {
					ts.Fatalf("not status %d: %v", statusUsage, err)
				}
				if out := ts.ReadFile("stdout"); out != "" {
					ts.Fatalf("on stdout: %s", out)
				}
			},
			"width": func(ts *testscript.TestScript, _ bool, args []string) {
				for line := range strings.Lines(ts.ReadFile(args[0])) {
					if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
						ts.Fatalf("%d columns: %s", n, line)
					}
				}
			},
		},
		RequireExplicitExec: true,
	})
}

func TestReadPassword(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxPassword)
	for given, want := range map[string]string{
		"":            "",
		"\n":          "",
		"\r\n":        "",
		"\r":          "\r",
		"\n\n":        "\n",
		"s3cret":      "s3cret",
		"s3cret\n":    "s3cret",
		"s3cret\r\n":  "s3cret",
		"s3\ncret\n":  "s3\ncret",
		" s3cret \n":  " s3cret ",
		"s3cret\n\r":  "s3cret\n\r",
		long:          long,
		long + "\r\n": long,
	} {
		got, err := readPassword(strings.NewReader(given))
		require.NoError(t, err)
		assert.Equal(t, want, got, "%.20q", given)
	}
	for _, bad := range []io.Reader{
		strings.NewReader(long + "x"), strings.NewReader(long + "\n\r\n"), strings.NewReader(long + long),
		iotest.ErrReader(errors.New("s3cret")),
	} {
		got, err := readPassword(bad)
		var usage usageError
		assert.ErrorAs(t, err, &usage)
		assert.Empty(t, got)
		assert.NotContains(t, err.Error(), "s3cret")
	}
}

func TestReadLine(t *testing.T) {
	t.Parallel()
	for typed, want := range map[string]string{
		"s3cret\r":                              "s3cret",
		"s3cret\nmore":                          "s3cret",
		"\r":                                    "",
		"\x04":                                  "",
		"a\x04\r":                               "a",
		"a\x7f\x08b\r":                          "b",
		"aü\x7f\r":                              "a",
		"abc\x15d\r":                            "d",
		"a\tb\x1bc\r":                           "a\tb\x1bc",
		strings.Repeat("x", maxPassword) + "\r": strings.Repeat("x", maxPassword),
	} {
		got, err := readLine(strings.NewReader(typed))
		require.NoError(t, err, "%.20q", typed)
		assert.Equal(t, want, got, "%.20q", typed)
	}
	_, err := readLine(strings.NewReader("s3cret\x03"))
	assert.ErrorIs(t, err, errInterrupted)
	var usage usageError
	_, err = readLine(strings.NewReader("s3cret"))
	assert.ErrorAs(t, err, &usage)
	_, err = readLine(strings.NewReader(strings.Repeat("x", maxPassword+1)))
	assert.ErrorAs(t, err, &usage)
}

// A password or a device that JSON cannot say is wrong usage.
func TestLoginNotUTF8(t *testing.T) {
	t.Parallel()
	for stdin, args := range map[string][]string{
		"s3cret\xff": {"--password-stdin"},
		"s3cret":     {"--password-stdin", "--device-id", "\xff"},
	} {
		var stdout, stderr bytes.Buffer
		a := app{stdin: strings.NewReader(stdin), stdout: &output{Writer: &stdout}, stderr: &output{Writer: &stderr}, net: world.Loopback{}}
		status := a.run(context.Background(), append([]string{"login", "@alice:example.org"}, args...))
		assert.Equal(t, statusUsage, status)
		assert.Empty(t, stdout.String())
		assert.Contains(t, stderr.String(), "not UTF-8")
		assert.NotContains(t, stderr.String(), "s3cret")
	}
}

// TestLoginWords: what people read, of answers that are odd or long.
func TestLoginWords(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("t0k", 1000)
	for token, want := range map[string]string{"syt_a-b.c~d/e+f=": "syt_a-b.c~d/e+f=", long: long, "a b": `"a b"`, "a\x1b[31mü": `"a\x1b[31m\u00fc"`, `a"b`: `"a\"b"`} {
		var stdout, stderr bytes.Buffer
		a := app{stdout: &output{Writer: &stdout}, stderr: &output{Writer: &stderr}}
		r := &login.Result{
			Name: "@a:example.org", UserID: "@a\x1b:example.org", DeviceID: "D\nE", BaseURL: "https://" + strings.Repeat("h.", 400) + "example",
			RedirectedBy: login.By308, AccessToken: login.NewSecret(token), IdentityServer: &client.Section{State: client.Success, BaseURL: "https://id.example"},
		}
		a.loggedIn(r, loginFlags{showToken: true})
		assert.Empty(t, stderr.String())
		assert.Equal(t, "@a:example.org\n"+
			"  logged in as \"@a\\x1b:example.org\"\n"+
			"  device       \"D\\nE\"\n"+
			"  homeserver   "+r.BaseURL+"\n"+
			"                 to which the login was redirected (status 308)\n"+
			"  identity     https://id.example\n"+
			"  access token "+want+"\n", stdout.String())
	}
}

// TestLoginHints: one line for each way that a login ends.
func TestLoginHints(t *testing.T) {
	t.Parallel()
	ms := int64(1)
	sent := []client.Step{{Rule: login.RuleLogin, Hop: wellknown.Hop{Addr: netip.MustParseAddrPort("192.0.2.1:443")}}}
	for _, test := range []struct {
		e     login.Error
		steps []client.Step
		want  string
	}{
		{login.Error{Code: login.InvalidUserID}, nil, "@alice:example.org"},
		{login.Error{Code: login.DiscoveryFailed}, nil, "--homeserver URL"},
		{login.Error{Code: login.InsecureHomeserver}, nil, "http on your own word"},
		{login.Error{Code: login.LoginUnsupported}, nil, "single sign-on"},
		{login.Error{Code: login.PasswordUnsupported}, nil, "single sign-on"},
		{login.Error{Code: login.RedirectRefused, Status: 307}, sent, "--follow-redirect"},
		{login.Error{Code: login.RedirectRefused, Status: 308}, sent, "--follow-redirect"},
		{login.Error{Code: login.RedirectRefused, Status: 302}, sent, "status 307"},
		{login.Error{Code: "redirect_loop"}, sent, "redirect is wrong"},
		{login.Error{Code: "redirect_insecure"}, sent, "redirect is wrong"},
		{login.Error{Code: "redirect_invalid"}, sent, "redirect is wrong"},
		{login.Error{Code: login.ResponseInvalid}, sent, "may have logged you in"},
		{login.Error{Code: login.ResponseInvalid}, nil, "does not look like a homeserver"},
		{login.Error{Code: "timeout"}, sent, "may have logged you in"},
		{login.Error{Code: "timeout"}, nil, "--timeout"},
		{login.Error{Code: "connect_failed"}, sent, "may have logged you in"},
		{login.Error{Code: "connect_failed"}, []client.Step{{Rule: login.RuleLogin}}, "check the URL"},
		{login.Error{Code: "connect_failed"}, nil, "check the URL"},
		{login.Error{Code: "address_denied"}, nil, "--allow-net"},
		{login.Error{Code: "tls_failed"}, nil, "--cacert"},
		{login.Error{Code: "no_address"}, nil, "spelling"},
		{login.Error{Code: login.LoginFailed, Status: 429, RetryAfterMS: &ms}, sent, "try again in 1 s"},
		{login.Error{Code: login.LoginFailed, Status: 429}, sent, "try again later"},
		{login.Error{Code: login.LoginFailed, Status: 403, ErrCode: "M_USER_DEACTIVATED"}, sent, "account was closed"},
		{login.Error{Code: login.LoginFailed, Status: 403, ErrCode: "M_FORBIDDEN"}, sent, "check the Matrix ID and the password"},
		{login.Error{Code: login.LoginFailed, Status: 401}, sent, "check the Matrix ID and the password"},
		{login.Error{Code: login.LoginFailed, Status: 502}, sent, "is failing"},
		{login.Error{Code: login.LoginFailed, Status: 400}, sent, ""},
	} {
		got := loginHint(&login.Result{Error: &test.e, Steps: test.steps})
		if test.want == "" {
			assert.Empty(t, got, "%+v", test.e)
		} else {
			assert.Contains(t, got, test.want, "%+v", test.e)
		}
	}
}
