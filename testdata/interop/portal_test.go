package interop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"
)

// A site is two Dendrites that are to be reached through portals, and all that it takes.
type site struct {
	*federation
	program  *mxdiscover
	web      *http.Client
	one, two *dendrite
}

// newSite starts the Dendrites of one.example and two.example. Each is reached by clients at its
// server name, at the port with TLS, or at 127.0.0.1 without.
func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{federation: newWorld(t, "-- zone --\n*.example.  A  127.0.0.1\n")}
	var places []*place
	for _, name := range []string{"one.example", "two.example"} {
		places = append(places, &place{name: name, certificate: name, federation: freePort(t), client: freePort(t)})
	}
	servers := s.startDendrites(t, clientPrograms(t), func(*place) bool { return false }, places...)
	s.one, s.two = servers[0], servers[1]
	s.program = s.newMxdiscover(t, "--allow-net", "127.0.0.0/8")
	s.web = s.webClient(t, 443)
	return s
}

// clientPrograms are those that a Dendrite without federation needs.
func clientPrograms(t *testing.T) programs {
	t.Helper()
	return programs{plain: tool(t, "dendrite"), generateKeys: tool(t, "generate-keys"), createAccount: tool(t, "create-account")}
}

// baseURL is where clients find the server.
func (d *dendrite) baseURL() string { return fmt.Sprintf("https://%s:%d", d.name, d.federation) }

// local is where only a program on the same machine finds it.
func (d *dendrite) local() string { return fmt.Sprintf("http://127.0.0.1:%d", d.client) }

// targets are the flags for a portal in front of both.
func (s *site) targets() []string {
	return []string{"--target", "one=" + s.one.baseURL(), "--target", "two=" + s.two.baseURL()}
}

// localTargets are the same, without TLS on the way from the portal.
func (s *site) localTargets() []string {
	return []string{
		"--target", "one=" + s.one.local(), "--public", "one=" + s.one.baseURL(),
		"--target", "two=" + s.two.local(), "--public", "two=" + s.two.baseURL(),
	}
}

// userMap are the flags that send each user to the server of his name.
func (s *site) userMap(t *testing.T) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "users")
	text := "# who is where\n" + s.one.user + " one\n@User:one.example\tone\n" + s.two.user + " two\n"
	require.NoError(t, os.WriteFile(file, []byte(text), 0o666))
	return []string{"--choose", "user-map", "--user-map", file}
}

// deviceIDs are the sessions that a server knows of its user.
func (d *dendrite) deviceIDs(t *testing.T) []string {
	t.Helper()
	var answer struct {
		Devices []struct {
			ID string `json:"device_id"`
		}
	}
	d.must(t, "GET", "/_matrix/client/v3/devices", nil, &answer)
	var ids []string
	for _, device := range answer.Devices {
		ids = append(ids, device.ID)
	}
	return ids
}

// A portal is a running "mxdiscover portal".
type portal struct {
	*process
	port int
	url  string
	log  *logBuffer
}

// startPortal starts one that has a certificate for portal.example and for the names of the servers.
func (s *site) startPortal(t *testing.T, flags ...[]string) *portal {
	t.Helper()
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	cert, key := pemFiles(t, s.certificate(t, "portal.example", s.one.name, s.two.name))
	require.NoError(t, os.WriteFile(certFile, cert, 0o600))
	require.NoError(t, os.WriteFile(keyFile, key, 0o600))

	p := &portal{port: freePort(t)}
	p.url = fmt.Sprintf("https://portal.example:%d", p.port)
	args := []string{"portal", "--listen", fmt.Sprintf("127.0.0.1:%d", p.port), "--base-url", p.url,
		"--tls-cert", certFile, "--tls-key", keyFile, "--dns", s.settings.DNS[0], "--cacert", s.caFile}
	for _, more := range flags {
		args = append(args, more...)
	}
	p.process, p.log = startServer(t, "the portal", exec.Command(s.program.program, args...))
	eventually(t, startTimeout, "the portal listens", func(context.Context) error {
		p.requireRunning(t, "the portal")
		if !strings.Contains(p.log.end(logShown), fmt.Sprintf("listening on https://127.0.0.1:%d\n", p.port)) {
			return errors.New("it does not say so")
		}
		return nil
	})
	t.Cleanup(func() {
		require.NotContains(t, p.log.end(1<<30), password)
	})
	return p
}

// A loggedIn is what "mxdiscover login --json" prints.
type loggedIn struct {
	Name         string
	UserID       string `json:"user_id"`
	DeviceID     string `json:"device_id"`
	BaseURL      string `json:"base_url"`
	RedirectedBy string `json:"redirected_by"`
	AccessToken  string `json:"access_token"`
	Discovery    *struct {
		State      string
		Homeserver struct {
			BaseURL string `json:"base_url"`
		}
	}
	Steps []struct {
		Rule, Query, Outcome, Detail string
	}
	Warnings []struct{ Code, Message string }
	Error    *struct {
		Code, Message, ErrCode string
		Status                 int
	}
	ran
}

func (l *loggedIn) warnings() []string {
	codes := []string{}
	for _, w := range l.Warnings {
		codes = append(codes, w.Code)
	}
	return codes
}

// login runs "mxdiscover login --json".
func (s *site) login(t *testing.T, user string, args ...string) *loggedIn {
	t.Helper()
	return s.loginWith(t, s.program, password+"\n", user, args...)
}

func (s *site) loginWith(t *testing.T, m *mxdiscover, stdin, user string, args ...string) *loggedIn {
	t.Helper()
	r := m.run(t, stdin, "login", append([]string{user, "--password-stdin", "--json"}, args...)...)
	require.Equal(t, 1, strings.Count(r.stdout, "\n"), "%v", r)
	l := &loggedIn{ran: r}
	require.NoError(t, json.Unmarshal([]byte(r.stdout), l), "%v", r)
	require.Equal(t, user, l.Name)
	require.NotContains(t, r.stdout+r.stderr, strings.TrimSpace(stdin), "%v", r)
	require.Equal(t, l.Error == nil, r.status == 0, "%v", r)
	if l.Error != nil {
		require.Equal(t, 1, r.status, "%v", r)
		require.Empty(t, l.AccessToken, "%v", r)
	}
	return l
}

// requireSession checks that the token is worth something at a base URL.
func (s *site) requireSession(t *testing.T, baseURL, token, user, device string) {
	t.Helper()
	status, me := get(t, s.web, baseURL+"/_matrix/client/v3/account/whoami", token)
	require.Equal(t, http.StatusOK, status, "%v", me)
	require.Equal(t, user, me["user_id"])
	require.Equal(t, device, me["device_id"])
}

// requireNoSession checks that the portal answers nothing but logins, and that a client may keep
// its keys.
func (s *site) requireNoSession(t *testing.T, baseURL, token string) {
	t.Helper()
	status, answer := get(t, s.web, baseURL+"/_matrix/client/v3/account/whoami", token)
	require.Equal(t, http.StatusUnauthorized, status)
	require.Equal(t, "M_UNKNOWN_TOKEN", answer["errcode"])
	require.Equal(t, true, answer["soft_logout"])
}

// newMautrix makes a client that wants to be told its server's URL by the login.
func (s *site) newMautrix(t *testing.T, baseURL string) *mautrix.Client {
	t.Helper()
	c, err := mautrix.NewClient(baseURL, "", "")
	require.NoError(t, err)
	c.Client = s.web
	return c
}

func mautrixLogin(user, secret string, device id.DeviceID) *mautrix.ReqLogin {
	return &mautrix.ReqLogin{
		Type:             mautrix.AuthTypePassword,
		Identifier:       mautrix.UserIdentifier{Type: mautrix.IdentifierTypeUser, User: user},
		Password:         secret,
		DeviceID:         device,
		StoreCredentials: true, StoreHomeserverURL: true,
	}
}

// TestPortal logs in to Dendrites through a portal, with the program's own verb and with mautrix-go.
func TestPortal(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	t.Run("logins", func(t *testing.T) {
		t.Run("proxy", func(t *testing.T) { testProxy(t, s) })
		t.Run("redirect", func(t *testing.T) { testRedirect(t, s) })
		t.Run("discovery", func(t *testing.T) { testDiscoveredPortal(t, s) })
		t.Run("dead target", func(t *testing.T) { testDeadTarget(t, s) })
		t.Run("round robin", func(t *testing.T) { testRoundRobin(t, s) })
	})
	// These stop and kill.
	t.Run("portal ends", func(t *testing.T) { testPortalEnds(t, s) })
	t.Run("Dendrite dies", func(t *testing.T) { testDendriteDies(t, s) })
	t.Run("Dendrite dies in the handshake", func(t *testing.T) { testHandshakeDies(t, s) })
}

func testProxy(t *testing.T, s *site) {
	t.Parallel()
	p := s.startPortal(t, s.targets(), s.userMap(t))
	for _, server := range []*dendrite{s.one, s.two} {
		t.Run("login "+server.name, func(t *testing.T) {
			got := s.login(t, server.user, "--homeserver", p.url, "--show-token", "--device-id", "PROXIED")
			require.Nil(t, got.Error, "%v", got.ran)
			require.Equal(t, server.user, got.UserID)
			require.Equal(t, "PROXIED", got.DeviceID)
			require.Equal(t, server.baseURL(), got.BaseURL)
			require.Equal(t, "well_known", got.RedirectedBy)
			require.Empty(t, got.warnings(), "%v", got.ran)
			require.Nil(t, got.Discovery)
			s.requireSession(t, got.BaseURL, got.AccessToken, server.user, "PROXIED")
			s.requireNoSession(t, p.url, got.AccessToken)
			require.NotContains(t, p.log.end(1<<30), got.AccessToken)
		})
		t.Run("mautrix "+server.name, func(t *testing.T) {
			c := s.newMautrix(t, p.url)
			_, err := c.Login(t.Context(), mautrixLogin(server.user, password, ""))
			require.NoError(t, err)
			require.Equal(t, server.baseURL(), c.HomeserverURL.String())
			me, err := c.Whoami(t.Context())
			require.NoError(t, err)
			require.Equal(t, server.user, me.UserID.String())
			require.Equal(t, c.DeviceID, me.DeviceID)
		})
	}
	t.Run("no token is shown unasked", func(t *testing.T) {
		got := s.login(t, s.one.user, "--homeserver", p.url, "--device-id", "HIDDEN")
		require.Nil(t, got.Error, "%v", got.ran)
		require.NotContains(t, got.stdout, "access_token")
		require.Contains(t, s.one.deviceIDs(t), "HIDDEN")

		r := s.program.run(t, password, "login", s.one.user, "--password-stdin", "-v", "--homeserver", p.url, "--device-id", "SPOKEN")
		require.Zero(t, r.status, "%v", r)
		require.Contains(t, r.stdout, s.one.baseURL())
		require.NotContains(t, r.stdout+r.stderr, password)
	})
	t.Run("wrong password", func(t *testing.T) {
		got := s.loginWith(t, s.program, "wrong battery", s.one.user, "--homeserver", p.url, "--device-id", "WRONG")
		require.NotNil(t, got.Error, "%v", got.ran)
		require.Equal(t, "login_failed", got.Error.Code)
		require.Equal(t, http.StatusForbidden, got.Error.Status)
		require.Equal(t, "M_FORBIDDEN", got.Error.ErrCode)

		c := s.newMautrix(t, p.url)
		_, err := c.Login(t.Context(), mautrixLogin(s.one.user, "wrong battery", "WRONG"))
		require.ErrorIs(t, err, mautrix.MForbidden)
		require.NotContains(t, s.one.deviceIDs(t), "WRONG")
	})
	t.Run("user without a server", func(t *testing.T) {
		got := s.login(t, "@stranger:one.example", "--homeserver", p.url)
		require.NotNil(t, got.Error, "%v", got.ran)
		require.Equal(t, "login_failed", got.Error.Code)
		require.Equal(t, http.StatusForbidden, got.Error.Status)
		require.Equal(t, "M_FORBIDDEN", got.Error.ErrCode)
	})
	t.Run("the server spells the user differently", func(t *testing.T) {
		// Dendrite finds accounts whatever the case.
		got := s.login(t, "@User:one.example", "--homeserver", p.url, "--show-token")
		require.Nil(t, got.Error, "%v", got.ran)
		require.Equal(t, s.one.user, got.UserID)
		require.Equal(t, []string{"user_id_differs"}, got.warnings(), "%v", got.ran)
		s.requireSession(t, got.BaseURL, got.AccessToken, s.one.user, got.DeviceID)
	})
	t.Run("an address that may not be dialled", func(t *testing.T) {
		// The host of --homeserver may be, the server that the answer names may not.
		guarded := &mxdiscover{program: s.program.program, flags: []string{"--dns", s.settings.DNS[0], "--cacert", s.caFile}}
		got := s.loginWith(t, guarded, password, s.one.user, "--homeserver", p.url)
		require.Nil(t, got.Error, "%v", got.ran)
		require.Equal(t, p.url, got.BaseURL)
		require.Equal(t, "none", got.RedirectedBy)
		require.Equal(t, []string{"well_known_unusable"}, got.warnings(), "%v", got.ran)

		got = s.loginWith(t, guarded, password, s.one.user, "--homeserver", p.url, "--no-validate")
		require.Nil(t, got.Error, "%v", got.ran)
		require.Equal(t, s.one.baseURL(), got.BaseURL)
		require.Equal(t, "well_known", got.RedirectedBy)
	})

	t.Run("base_cs_url alone", func(t *testing.T) {
		p := s.startPortal(t, s.localTargets(), s.userMap(t), []string{"--emit", "base_cs_url"})
		got := s.login(t, s.two.user, "--homeserver", p.url, "--show-token")
		require.Nil(t, got.Error, "%v", got.ran)
		require.Equal(t, s.two.baseURL(), got.BaseURL, "that of --public")
		require.Equal(t, "base_cs_url", got.RedirectedBy)
		s.requireSession(t, got.BaseURL, got.AccessToken, s.two.user, got.DeviceID)

		// mautrix-go knows the accepted text alone: it stays where it is, to no avail.
		c := s.newMautrix(t, p.url)
		_, err := c.Login(t.Context(), mautrixLogin(s.two.user, password, ""))
		require.NoError(t, err)
		require.Equal(t, p.url, c.HomeserverURL.String())
		_, err = c.Whoami(t.Context())
		require.ErrorIs(t, err, mautrix.MUnknownToken)
	})
	t.Run("nothing emitted", func(t *testing.T) {
		// Dendrite says nothing about its place.
		p := s.startPortal(t, s.localTargets(), s.userMap(t), []string{"--emit", ""})
		got := s.login(t, s.two.user, "--homeserver", p.url, "--show-token")
		require.Nil(t, got.Error, "%v", got.ran)
		require.Equal(t, p.url, got.BaseURL)
		require.Equal(t, "none", got.RedirectedBy)
		s.requireNoSession(t, got.BaseURL, got.AccessToken)
		s.requireSession(t, s.two.baseURL(), got.AccessToken, s.two.user, got.DeviceID)
	})
}

func testRedirect(t *testing.T, s *site) {
	t.Parallel()
	p := s.startPortal(t, s.localTargets(), s.userMap(t), []string{"--mode", "redirect"})
	for _, server := range []*dendrite{s.one, s.two} {
		t.Run("refused "+server.name, func(t *testing.T) {
			got := s.login(t, server.user, "--homeserver", p.url, "--device-id", "REFUSED")
			require.NotNil(t, got.Error, "%v", got.ran)
			require.Equal(t, "redirect_refused", got.Error.Code, "%v", got.ran)
			require.NotContains(t, server.deviceIDs(t), "REFUSED")
		})
		t.Run("followed "+server.name, func(t *testing.T) {
			got := s.login(t, server.user, "--homeserver", p.url, "--follow-redirect", "--show-token", "--device-id", "FOLLOWED")
			require.Nil(t, got.Error, "%v", got.ran)
			require.Equal(t, server.user, got.UserID)
			require.Equal(t, server.baseURL(), got.BaseURL)
			require.Equal(t, "307", got.RedirectedBy)
			require.Empty(t, got.warnings(), "%v", got.ran)
			s.requireSession(t, got.BaseURL, got.AccessToken, server.user, "FOLLOWED")
		})
		t.Run("mautrix "+server.name, func(t *testing.T) {
			// net/http repeats the POST with its body, to any host, without a question. mautrix-go does
			// not look where the answer came from: its token is for a server that it does not go to.
			c := s.newMautrix(t, p.url)
			_, err := c.Login(t.Context(), mautrixLogin(server.user, password, "MAUTRIX"))
			require.NoError(t, err)
			require.Contains(t, server.deviceIDs(t), "MAUTRIX")
			require.Equal(t, p.url, c.HomeserverURL.String())
			_, err = c.Whoami(t.Context())
			require.ErrorIs(t, err, mautrix.MUnknownToken)
			s.requireSession(t, server.baseURL(), c.AccessToken, server.user, "MAUTRIX")
		})
	}
	t.Run("wrong password", func(t *testing.T) {
		got := s.loginWith(t, s.program, "wrong battery", s.one.user, "--homeserver", p.url, "--follow-redirect")
		require.NotNil(t, got.Error, "%v", got.ran)
		require.Equal(t, "login_failed", got.Error.Code)
		require.Equal(t, http.StatusForbidden, got.Error.Status)
		require.Equal(t, "M_FORBIDDEN", got.Error.ErrCode)
	})
	t.Run("to a server without TLS", func(t *testing.T) {
		p := s.startPortal(t, []string{"--mode", "redirect", "--target", "one=" + s.one.local()})
		got := s.login(t, s.one.user, "--homeserver", p.url, "--follow-redirect", "--device-id", "INSECURE")
		require.NotNil(t, got.Error, "%v", got.ran)
		require.Equal(t, "redirect_insecure", got.Error.Code, "%v", got.ran)
		require.NotContains(t, s.one.deviceIDs(t), "INSECURE")
	})
	t.Run("to an address that may not be dialled", func(t *testing.T) {
		guarded := &mxdiscover{program: s.program.program, flags: []string{"--dns", s.settings.DNS[0], "--cacert", s.caFile}}
		got := s.loginWith(t, guarded, password, s.one.user, "--homeserver", p.url, "--follow-redirect")
		require.NotNil(t, got.Error, "%v", got.ran)
		require.Equal(t, "address_denied", got.Error.Code, "%v", got.ran)
	})
}

// testDiscoveredPortal lets users find the portal by their names: it is the web server of both.
func testDiscoveredPortal(t *testing.T, s *site) {
	t.Parallel()
	for _, mode := range []string{"proxy", "redirect"} {
		t.Run(mode, func(t *testing.T) {
			p := s.startPortal(t, s.targets(), s.userMap(t), []string{"--mode", mode})
			web := func(name string) string { return fmt.Sprintf("%s:443:%s:%d", name, name, p.port) }
			for _, server := range []*dendrite{s.one, s.two} {
				got := s.login(t, server.user, "--follow-redirect", "--show-token", "--connect-to", web(server.name))
				require.Nil(t, got.Error, "%v", got.ran)
				require.Equal(t, server.baseURL(), got.BaseURL)
				require.Equal(t, map[string]string{"proxy": "well_known", "redirect": "307"}[mode], got.RedirectedBy)
				require.Equal(t, "SUCCESS", got.Discovery.State)
				require.Equal(t, p.url, got.Discovery.Homeserver.BaseURL)
				require.Empty(t, got.warnings(), "%v", got.ran)
				s.requireSession(t, got.BaseURL, got.AccessToken, server.user, got.DeviceID)
			}
		})
	}
	t.Run("nothing published", func(t *testing.T) {
		// A Dendrite that is not told otherwise publishes nothing.
		got := s.login(t, s.one.user, "--connect-to", fmt.Sprintf("one.example:443::%d", s.one.federation))
		require.NotNil(t, got.Error, "%v", got.ran)
		require.Equal(t, "discovery_failed", got.Error.Code)
		require.Equal(t, "IGNORE", got.Discovery.State)
	})
}

func testDeadTarget(t *testing.T, s *site) {
	t.Parallel()
	nobody := fmt.Sprintf("https://one.example:%d", freePort(t))
	for _, mode := range []string{"proxy", "redirect"} {
		t.Run("alone, "+mode, func(t *testing.T) {
			p := s.startPortal(t, []string{"--mode", mode, "--target", "dead=" + nobody})
			got := s.login(t, s.one.user, "--homeserver", p.url, "--follow-redirect")
			require.NotNil(t, got.Error, "%v", got.ran)
			require.Equal(t, "login_failed", got.Error.Code, "%v", got.ran)
			require.Equal(t, http.StatusBadGateway, got.Error.Status)
			require.Equal(t, "M_UNKNOWN", got.Error.ErrCode)
		})
	}
	t.Run("that of the user", func(t *testing.T) {
		// The flows come from the other one; the login must not.
		file := filepath.Join(t.TempDir(), "users")
		require.NoError(t, os.WriteFile(file, []byte("* dead\n"), 0o666))
		p := s.startPortal(t, []string{"--choose", "user-map", "--user-map", file, "--target", "dead=" + nobody, "--target", "one=" + s.one.baseURL()})
		got := s.login(t, s.one.user, "--homeserver", p.url, "--device-id", "DEAD")
		require.NotNil(t, got.Error, "%v", got.ran)
		require.Equal(t, "login_failed", got.Error.Code, "%v", got.ran)
		require.Equal(t, http.StatusBadGateway, got.Error.Status)
		require.NotContains(t, s.one.deviceIDs(t), "DEAD")

		_, err := s.newMautrix(t, p.url).Login(t.Context(), mautrixLogin(s.one.user, password, "DEAD"))
		var failed mautrix.HTTPError
		require.ErrorAs(t, err, &failed)
		require.True(t, failed.IsStatus(http.StatusBadGateway), "%v", err)
	})
	t.Run("one of two", func(t *testing.T) {
		p := s.startPortal(t, []string{"--target", "dead=" + nobody, "--target", "one=" + s.one.baseURL()})
		for range 2 {
			got := s.login(t, s.one.user, "--homeserver", p.url, "--show-token")
			require.Nil(t, got.Error, "%v", got.ran)
			require.Equal(t, s.one.baseURL(), got.BaseURL)
			s.requireSession(t, got.BaseURL, got.AccessToken, s.one.user, got.DeviceID)
		}
	})
	t.Run("with the certificate of another", func(t *testing.T) {
		stranger := fmt.Sprintf("https://127.0.0.1:%d", s.one.federation)
		p := s.startPortal(t, []string{"--target", "one=" + stranger})
		got := s.login(t, s.one.user, "--homeserver", p.url)
		require.NotNil(t, got.Error, "%v", got.ran)
		require.Equal(t, http.StatusBadGateway, got.Error.Status)
	})
}

// testRoundRobin logs in with a localpart, which both servers know.
func testRoundRobin(t *testing.T, s *site) {
	t.Parallel()
	for _, mode := range []string{"proxy", "redirect"} {
		t.Run(mode, func(t *testing.T) {
			p := s.startPortal(t, s.targets(), []string{"--mode", mode})
			for i := range 6 {
				server := []*dendrite{s.one, s.two}[i%2]
				c := s.newMautrix(t, p.url)
				answer, err := c.Login(t.Context(), mautrixLogin("user", password, ""))
				require.NoError(t, err)
				require.Equal(t, server.user, answer.UserID.String())
				s.requireSession(t, server.baseURL(), c.AccessToken, server.user, c.DeviceID.String())
				if mode == "proxy" {
					require.Equal(t, server.baseURL(), c.HomeserverURL.String())
				}
				// Other requests do not count.
				_, err = s.newMautrix(t, p.url).Versions(t.Context())
				require.NoError(t, err)
				_, err = s.newMautrix(t, p.url).GetLoginFlows(t.Context())
				require.NoError(t, err)
			}
		})
	}
}

// refused fails if somebody still listens at the port.
func refused(ctx context.Context, port int) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil
	}
	conn.Close()
	return errors.New("somebody listens")
}
