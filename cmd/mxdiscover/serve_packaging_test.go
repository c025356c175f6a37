package main

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/assert/yaml"
	"github.com/stretchr/testify/require"

	"mxdiscover/check"
	"mxdiscover/resolver"
	"mxdiscover/serve"
)

func packaged(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "packaging", file))
	require.NoError(t, err)
	return string(text)
}

// exposition is what Prometheus reads: a probe of a bad name and the counters.
func exposition(t *testing.T) string {
	t.Helper()
	s := &serve.Server{Check: func(context.Context, string, resolver.Rules, func(check.Event)) *check.Report { return badReport() }}
	defer s.Close(t.Context())
	var all strings.Builder
	for _, path := range []string{"/probe?target=page.example", "/metrics"} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		require.Equal(t, 200, w.Code, "%s: %s", path, w.Body)
		all.WriteString(w.Body.String())
	}
	return all.String()
}

// TestMetricNames: alert rules and the dashboard use only metrics that there are, and
// values of labels that there are.
func TestMetricNames(t *testing.T) {
	t.Parallel()
	text := exposition(t)
	known := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^([a-z_]+)(?:\{| )`).FindAllStringSubmatch(text, -1) {
		known[m[1]] = true
	}
	for _, file := range []string{"alerts.yml", "alerts_test.yml", "dashboard.json"} {
		content := strings.ReplaceAll(packaged(t, file), `\"`, `"`)
		names := regexp.MustCompile(`\b(?:mxdiscover|process|go)_[a-z_]+`).FindAllString(content, -1)
		assert.Greater(t, len(names), 5, file)
		for _, name := range names {
			assert.True(t, known[name], "%s: there is no metric %s", file, name)
		}
		for _, m := range regexp.MustCompile(`\b(mxdiscover_[a-z_]+)\{([^}]*)\}`).FindAllStringSubmatch(content, -1) {
			for _, label := range regexp.MustCompile(`(state|severity|verdict|reason)(=~?)"([^"]*)"`).FindAllStringSubmatch(m[2], -1) {
				for value := range strings.SplitSeq(label[3], "|") {
					assert.Regexp(t, `(?m)^`+m[1]+`\{[^}]*`+label[1]+`="`+value+`"`, text, "%s: %s", file, m[0])
				}
			}
		}
	}
}

// TestDashboard: it is one that Grafana imports: panels with ids of their own, which
// do not cover each other, and no data source but the variable.
func TestDashboard(t *testing.T) {
	t.Parallel()
	type place struct{ X, Y, W, H int }
	type source struct{ Type, UID string }
	var board struct {
		Title, UID string
		Panels     []struct {
			ID         int
			Title      string
			GridPos    place
			Datasource source
			Targets    []struct {
				Expr       string
				Datasource source
			}
		}
		Templating struct{ List []struct{ Name string } }
	}
	require.NoError(t, json.Unmarshal([]byte(packaged(t, "dashboard.json")), &board))
	assert.NotEmpty(t, board.UID)
	ids, cells := make(map[int]bool), make(map[[2]int]string)
	for _, p := range board.Panels {
		assert.False(t, ids[p.ID], p.Title)
		ids[p.ID] = true
		assert.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			assert.NotEmpty(t, target.Expr)
			assert.Equal(t, source{"prometheus", "${datasource}"}, target.Datasource)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			assert.Less(t, x, 24, p.Title)
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				assert.Empty(t, cells[[2]int{x, y}], p.Title)
				cells[[2]int{x, y}] = p.Title
			}
		}
	}
	assert.NotEmpty(t, board.Panels)
}

// TestPrometheusFiles parse; where promtool is at hand it checks them and runs their
// tests.
func TestPrometheusFiles(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"prometheus.yml", "alerts.yml", "alerts_test.yml"} {
		var v map[string]any
		require.NoError(t, yaml.Unmarshal([]byte(packaged(t, file)), &v), file)
		assert.NotEmpty(t, v, file)
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("the files were only parsed: Debian has promtool in the package prometheus")
	}
	for _, args := range [][]string{{"check", "config", "prometheus.yml"}, {"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = filepath.Join("..", "..", "packaging")
		out, err := cmd.CombinedOutput()
		assert.NoError(t, err, "%s: %s", args, out)
	}
}

// TestPackagedFlags: the commands of the unit and of the container recipe are ones
// that the program takes.
func TestPackagedFlags(t *testing.T) {
	t.Parallel()
	unit := regexp.MustCompile(`(?m)^ExecStart=/usr/local/bin/mxdiscover serve (.*)$`).FindStringSubmatch(packaged(t, "mxdiscover.service"))
	require.NotNil(t, unit)
	var argv []string
	cmd := regexp.MustCompile(`(?m)^CMD (\[.*\])$`).FindStringSubmatch(packaged(t, "Containerfile"))
	require.NotNil(t, cmd)
	require.NoError(t, json.Unmarshal([]byte(cmd[1]), &argv))
	require.Equal(t, "serve", argv[0])
	for _, args := range [][]string{strings.Fields(unit[1]), argv[1:]} {
		a := app{stderr: &output{Writer: os.Stderr}}
		command := a.serveCommand()
		require.NoError(t, command.ParseFlags(args), "%s", args)
		assert.Empty(t, command.Flags().Args())
	}
}

// TestUnit: where systemd is at hand it takes the unit without a warning, and finds
// it well shut in.
func TestUnit(t *testing.T) {
	t.Parallel()
	text := packaged(t, "mxdiscover.service")
	for _, line := range []string{"DynamicUser=yes", "ProtectSystem=strict", "CapabilityBoundingSet=", "NoNewPrivileges=yes", "MemoryMax=512M"} {
		assert.Contains(t, text, "\n"+line+"\n")
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("the unit was only read: Debian has systemd-analyze in the package systemd")
	}
	self, err := os.Executable() // the unit's own program is not installed here
	require.NoError(t, err)
	unit := filepath.Join(t.TempDir(), "mxdiscover.service")
	require.NoError(t, os.WriteFile(unit, []byte(strings.ReplaceAll(text, "/usr/local/bin/mxdiscover", self)), 0o644))
	out, err := exec.Command(analyze, "verify", "--man=no", unit).CombinedOutput()
	assert.NoError(t, err, "%s", out)
	assert.Empty(t, string(out))
	out, err = exec.Command(analyze, "security", "--offline=true", "--threshold=20", unit).CombinedOutput()
	assert.NoError(t, err, "%s", out)
}
