package interop

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// caddyProgram is where Caddy is; the test is skipped if it is nowhere.
func caddyProgram(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("caddy")
	if err != nil {
		t.Skip("Caddy is not installed: apt-get install --no-install-recommends caddy")
	}
	return path
}

// caddyGlobal are options that give Caddy a place in a test; certificates are from an authority of its own.
const caddyGlobal = `{
	admin off
	https_port %d
	default_bind 127.0.0.1
	auto_https disable_redirects
	local_certs
	skip_install_trust
	storage file_system %s
}
`

// testCaddy makes mistakes with Caddy and follows the fixes for it.
func (s *checks) testCaddy(t *testing.T) {
	program := caddyProgram(t)
	const (
		web  = "home.example {\n\trespond \"hello\"\n}\n"
		good = "home.example:8448 {\n\treverse_proxy /_matrix/* 127.0.0.1:8008\n}\n"
	)
	for _, m := range []struct {
		about string
		sites []string
		want  []string
	}{
		{about: "as the documentation of Dendrite says", sites: []string{good}, want: []string{"well_known_connect"}},
		{about: "no proxy", sites: []string{web, "home.example:8448 {\n\trespond \"hello\"\n}\n"}, want: []string{"version_not_json", "well_known_not_json"}},
		{about: "handle_path", sites: []string{"home.example:8448 {\n\thandle_path /_matrix/* {\n\t\treverse_proxy 127.0.0.1:8008\n\t}\n}\n"}, want: []string{"path_wrong", "well_known_connect"}},
		{about: "443 instead of 8448", sites: []string{"home.example {\n\treverse_proxy /_matrix/* 127.0.0.1:8008\n}\n"}, want: []string{"port_443_instead", "well_known_empty"}},
	} {
		t.Run(m.about, func(t *testing.T) {
			t.Parallel()
			got := s.underCaddy(t, program, m.sites)
			require.ElementsMatch(t, m.want, got.codes(), "%s: %+v", got.Summary, got.Findings)
			sites := m.sites
			followed := make(map[string]bool)
			for _, f := range got.Findings {
				for _, fix := range f.Fixes {
					// The first of each finding; one may be that of two.
					if fix.Where == "caddy" && f.Severity != "notice" && !followed[f.Code] {
						followed[f.Code] = true
						sites = cureCaddy(t, sites, fix.Text)
						t.Logf("%s: %s\n%s", f.Code, fix.Title, fix.Text)
					}
				}
				require.True(t, f.Severity == "notice" || followed[f.Code], "%+v", f)
			}
			if len(followed) > 0 {
				require.NotEqual(t, "GOOD", got.Verdict)
				got = s.underCaddy(t, program, sites)
				require.Subset(t, []string{"well_known_connect"}, got.codes(), "%+v", got.Findings)
			}
			got.requireGood(t, "h2", "http/1.1")
		})
	}
}

// cureCaddy puts the text of a fix into a Caddyfile: a proxy takes the place of the site with its address, other
// lines are added to it, and "handle" takes the place of "handle_path".
func cureCaddy(t *testing.T, sites []string, fix string) []string {
	t.Helper()
	address, lines, ok := strings.Cut(fix, " {\n")
	require.True(t, ok, fix)
	if strings.HasPrefix(address, "handle ") {
		require.Len(t, sites, 1)
		site, _, _ := strings.Cut(sites[0], " {\n")
		return []string{site + " {\n" + fix + "\n}\n"}
	}
	sites = slices.Clone(sites)
	for i, site := range sites {
		old, ok := strings.CutPrefix(site, address+" {\n")
		switch {
		case !ok:
		case strings.Contains(lines, "reverse_proxy"):
			sites[i] = fix + "\n"
			return sites
		default:
			body := strings.TrimSuffix(lines, "}")
			if !strings.Contains(old, body) {
				sites[i] = address + " {\n" + body + old
			}
			return sites
		}
	}
	return append(sites, fix+"\n")
}

// underCaddy starts Caddy and checks the name.
func (s *checks) underCaddy(t *testing.T, program string, sites []string) *checked {
	t.Helper()
	dir := t.TempDir()
	web, federation := freePort(t), freePort(t)
	text := fmt.Sprintf(caddyGlobal, web, dir) + strings.Join(sites, "\n")
	text = strings.ReplaceAll(text, "home.example:8448", fmt.Sprintf("home.example:%d", federation))
	text = s.lodging.replacer().Replace(text)
	file := filepath.Join(dir, "Caddyfile")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o666))
	cmd := exec.Command(program, "run", "--config", file, "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir)
	process, log := startServer(t, "Caddy", cmd)
	t.Cleanup(process.stop)
	var ports []int
	for _, site := range sites {
		if strings.HasPrefix(site, "home.example:8448") {
			ports = append(ports, federation)
		} else {
			ports = append(ports, web)
		}
	}
	eventually(t, startTimeout, "Caddy has its certificates", func(ctx context.Context) error {
		process.requireRunning(t, "Caddy: "+log.end(logShown))
		for _, port := range ports {
			// The time that it takes to issue one is no fault of anybody's.
			dialer := &tls.Dialer{Config: &tls.Config{ServerName: "home.example", InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}}}
			conn, err := dialer.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				return err
			}
			conn.Close()
		}
		return nil
	})
	root, err := os.ReadFile(filepath.Join(dir, "pki", "authorities", "local", "root.crt"))
	require.NoError(t, err)
	own := *s
	f := *s.federation
	own.federation = &f
	own.trust(t, root)
	return own.check(t, s.settings.DNS, "home.example", "--connect-to", fmt.Sprintf(":8448:127.0.0.1:%d", federation), "--connect-to", fmt.Sprintf(":443:127.0.0.1:%d", web))
}
