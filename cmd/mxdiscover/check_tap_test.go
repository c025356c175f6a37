package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/assert/yaml"
	"github.com/stretchr/testify/require"

	"mxdiscover/check"
)

// TestTAP: the whole text for two names, and what a harness makes of it.
func TestTAP(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	w := tapWriter{out: &out}
	w.report(goodReport())
	w.report(badReport())
	w.end()
	golden(t, filepath.Join("testdata", "check", "tap.txt"), out.String())
	points := readTAP(t, out.String())
	assert.Equal(t, []string{"ok", "not ok"}, verdicts(points, 0))
	codes := make(map[string]bool)
	for _, p := range points {
		if p.diagnostics != nil {
			codes[p.diagnostics["code"].(string)] = true
			assert.NotEmpty(t, p.diagnostics["message"])
		}
	}
	assert.Equal(t, map[string]bool{"connect_refused": true, "well_known_html": true, "ipv4_only": true}, codes)
}

// TestTAPHostile: what comes from the network makes no test point and no
// directive, and the YAML means what the report says.
func TestTAPHostile(t *testing.T) {
	t.Parallel()
	r := badReport()
	r.ServerName, r.Summary = "x # SKIP\nok 3", `back\slash # TODO`
	r.Findings[0].Code = "connect_refused"
	r.Findings[0].Message = "a # SKIP b\n...\nok 9 - forged\u0085\u2028: 'x' \"y\" \x7f"
	r.Findings[0].Fixes = []check.Fix{{Title: "- !!binary |", Text: "{a: b}\n---\n"}}
	var out bytes.Buffer
	w := tapWriter{out: &out}
	w.report(r)
	w.end()
	points := readTAP(t, out.String())
	var found bool
	for _, p := range points {
		assert.NotEqual(t, "forged", p.text[:min(6, len(p.text))], "not as a point of its own")
		if p.diagnostics != nil && p.diagnostics["code"] == "connect_refused" {
			found = true
			assert.Equal(t, "not ok", p.verdict)
			assert.Empty(t, p.directive)
			assert.Equal(t, r.Findings[0].Message, p.diagnostics["message"])
			assert.Equal(t, []any{map[string]any{"title": "- !!binary |", "where": "", "text": "{a: b}\n---\n"}}, p.diagnostics["fixes"])
		}
	}
	assert.True(t, found)
}

func TestTAPEmpty(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	w := tapWriter{out: &out}
	w.end()
	assert.Equal(t, "TAP version 13\n1..0\n", out.String())
	out.Reset()
	w = tapWriter{out: &out}
	w.report(goodReport())
	w.bailOut("interrupted")
	assert.True(t, strings.HasSuffix(out.String(), "\nBail out! interrupted\n"), out.String())
}

// TestParts: every area of the catalogue has its place in the way.
func TestParts(t *testing.T) {
	t.Parallel()
	known := make(map[check.Area]bool)
	for _, part := range parts() {
		assert.False(t, known[part.area], part.area)
		known[part.area] = true
	}
	require.NotEmpty(t, check.Catalogue())
	for _, kind := range check.Catalogue() {
		assert.True(t, known[kind.Area], "%s: area %q", kind.Code, kind.Area)
	}
}

// tapPoint is a test point as a harness reads it.
type tapPoint struct {
	depth                    int
	verdict, text, directive string
	diagnostics              map[string]any
}

func verdicts(points []tapPoint, depth int) (list []string) {
	for _, p := range points {
		if p.depth == depth {
			list = append(list, p.verdict)
		}
	}
	return list
}

// readTAP reads TAP and fails for what is none: unknown lines, numbers
// that leave one out, plans that are wrong.
func readTAP(t *testing.T, text string) []tapPoint {
	t.Helper()
	var (
		points []tapPoint
		count  [2]int
		point  = regexp.MustCompile(`^(    )?(ok|not ok) (\d+) - (.*?)((?: # (?:TODO|SKIP).*)?)$`)
		lines  = strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	)
	require.Equal(t, "TAP version 13", lines[0])
	for i := 1; i < len(lines); i++ {
		line := lines[i]
		switch m := point.FindStringSubmatch(line); {
		case m != nil:
			depth := len(m[1]) / 4
			count[depth]++
			require.Equal(t, fmt.Sprint(count[depth]), m[3], line)
			description := m[4]
			assert.NotRegexp(t, `[^\\]#`, description, "an unescaped #")
			points = append(points, tapPoint{depth: depth, verdict: m[2], text: description, directive: m[5]})
			if depth == 0 {
				count[1] = 0
			}
		case strings.HasPrefix(line, "# Subtest: "):
		case line == "      ---":
			var block []string
			for i++; lines[i] != "      ..."; i++ {
				require.True(t, strings.HasPrefix(lines[i], "      "), lines[i])
				block = append(block, lines[i][6:])
			}
			last := &points[len(points)-1]
			require.NoError(t, yaml.Unmarshal([]byte(strings.Join(block, "\n")), &last.diagnostics), "%s", block)
		case strings.HasPrefix(line, "    1.."):
			require.Equal(t, fmt.Sprintf("    1..%d", count[1]), line)
		default:
			require.Equal(t, fmt.Sprintf("1..%d", count[0]), line)
			require.Equal(t, len(lines)-1, i, "the plan is the last line")
		}
	}
	return points
}
