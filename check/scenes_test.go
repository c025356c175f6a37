package check_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/check"
	"mxdiscover/internal/memnet"
	"mxdiscover/internal/world"
	"mxdiscover/resolver"
	"mxdiscover/srv"
)

// checkerIn is a Checker that acts in w.
func checkerIn(w *world.World) *check.Checker {
	o := w.Options()
	return &check.Checker{
		Timeout: o.Timeout,
		NewResolver: func() *resolver.Resolver {
			r := &resolver.Resolver{
				DNS: &srv.Client{
					Servers:   w.DNSServers(),
					Timeout:   o.DNSTimeout,
					Attempts:  o.DNSAttempts,
					HostsFile: os.DevNull,
					Dial:      w.DNSDial(),
				},
				RootCAs:     w.Roots(),
				AllowNets:   w.AllowNets(),
				DialContext: w.DialContext,
				LenientSRV:  o.LenientSRV,
			}
			if o.Rules == "draft-2019" {
				r.Rules = resolver.Draft2019
			}
			return r
		},
	}
}

// TestScenes provokes every kind of finding, each in a world of its own, in
// memory and in virtual time: testdata/findings/CODE.txtar, or
// CODE-VARIANT.txtar. Those that begin with "good-" are names that work.
func TestScenes(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/findings/*.txtar")
	require.NoError(t, err)
	seen := make(map[string]bool)
	for _, file := range files {
		code, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(file), ".txtar"), "-")
		seen[code] = true
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			scene, err := world.Load(file)
			require.NoError(t, err)
			require.NotEmpty(t, scene.Checks(), "a scene without expectations shows nothing")
			assert.NotEmpty(t, scene.Comment())
			if code != "good" {
				_, ok := check.Explain(code)
				assert.True(t, ok, "the catalogue has no entry %s", code)
				for _, c := range scene.Checks() {
					require.NotEmpty(t, c.Codes, c.Position())
					assert.Equal(t, code, c.Codes[0], c.Position())
					assert.NotEmpty(t, c.Matches, "%s: whatever the message says is good?", c.Position())
				}
			}
			playChecks(t, scene)
		})
	}
	for _, kind := range check.Catalogue() {
		assert.True(t, seen[kind.Code], "no scene provokes %s", kind.Code)
	}
}

// TestWorlds checks names in the worlds that the other packages have too.
func TestWorlds(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../testdata/worlds/*.txtar")
	require.NoError(t, err)
	n := 0
	for _, file := range files {
		scene, err := world.Load(file)
		require.NoError(t, err)
		if len(scene.Checks()) == 0 {
			continue
		}
		n++
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			playChecks(t, scene)
		})
	}
	assert.NotZero(t, n)
}

func playChecks(t *testing.T, scene *world.Scene) {
	for _, want := range scene.Checks() {
		t.Run(want.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, err := scene.Start(world.Memory{Network: &memnet.Network{}})
				require.NoError(t, err)
				defer w.Close()
				compare(t, want, checkerIn(w).Check(t.Context(), want.Name))
			})
		})
	}
}

// compare wants every finding that the scene lists, and no other, not even a
// notice.
func compare(t *testing.T, want world.Check, got *check.Report) {
	t.Helper()
	at := want.Position()
	text, err := json.MarshalIndent(got, "", " ")
	require.NoError(t, err, at)
	defer func() {
		if t.Failed() {
			t.Logf("%s: the report on %s:\n%s", at, want.Name, text)
		}
	}()
	assert.Equal(t, want.Verdict, string(got.Verdict), "%s: the verdict", at)
	assert.Equal(t, want.Name, got.ServerName, at)
	var codes []string
	worst := check.Good
	for _, f := range got.Findings {
		codes = append(codes, f.Code)
		assert.True(t, slices.Contains(want.Codes, f.Code), "%s: found, but not wanted: %s: %s", at, f.Code, f.Message)
		switch {
		case f.Severity == check.SeverityError:
			worst = check.Bad
		case f.Severity == check.SeverityWarning && worst == check.Good:
			worst = check.Warn
		}
		assert.NotEmpty(t, f.Message, f.Code)
		assert.NotEmpty(t, f.Section, f.Code)
		assert.Regexp(t, `^https://(spec\.matrix\.org|www\.rfc-editor\.org)/`, f.URL, f.Code)
		if f.Severity != check.SeverityNotice {
			assert.NotEmpty(t, f.Evidence, "%s: why is it %s?", at, f.Code)
			assert.NotEmpty(t, f.Fixes, "%s: what to do about %s?", at, f.Code)
		}
	}
	assert.Equal(t, worst, got.Verdict, "%s: the verdict is that of the worst finding", at)
	assert.True(t, slices.IsSortedFunc(got.Findings, func(a, b check.Finding) int { return rank(a) - rank(b) }), "%s: worst first: %v", at, codes)
	for _, code := range want.Codes {
		assert.Contains(t, codes, code, "%s: wanted, but not found", at)
	}
	assert.NotEmpty(t, got.Summary, at)
	for _, m := range want.Matches {
		if m.Part == "summary" {
			assert.Regexp(t, m.Regexp, got.Summary, at)
			continue
		}
		var parts []string
		for _, f := range got.Findings {
			if len(want.Codes) > 0 && f.Code == want.Codes[0] {
				parts = append(parts, findingPart(f, m.Part)...)
			}
		}
		if !slices.ContainsFunc(parts, m.MatchString) {
			t.Errorf("%s: want %s ~ %s, got %q", at, m.Part, m, parts)
		}
	}
	plainStrings(t, got)
}

func rank(f check.Finding) int {
	return slices.Index([]check.Severity{check.SeverityError, check.SeverityWarning, check.SeverityNotice}, f.Severity)
}

func findingPart(f check.Finding, part string) (all []string) {
	switch part {
	case "message":
		return []string{f.Message}
	case "about":
		return []string{f.About}
	case "evidence":
		return f.Evidence
	}
	for _, fix := range f.Fixes {
		all = append(all, fix.Title, fix.Text)
	}
	return all
}

var placeholder = regexp.MustCompile(`%!|<nil>|\{\{|TODO`)

// plainStrings wants every string of a report to be printable in one line; the
// lines of a fix may be several.
func plainStrings(t *testing.T, report *check.Report) {
	t.Helper()
	copied := *report
	copied.ServerName = "" // as asked; JSON escapes it
	copied.Resolution = nil
	copied.Findings = slices.Clone(report.Findings)
	for i := range copied.Findings {
		f := &copied.Findings[i]
		f.Fixes = slices.Clone(f.Fixes)
		for j := range f.Fixes {
			// What is made to be copied has no text of a stranger: some scenes try.
			assert.NotRegexp(t, `reboot|script>|alert\(`, f.Fixes[j].Text)
			f.Fixes[j].Text = strings.NewReplacer("\n", "", "\t", "").Replace(f.Fixes[j].Text)
		}
	}
	text, err := json.Marshal(&copied)
	require.NoError(t, err)
	var v any
	require.NoError(t, json.Unmarshal(text, &v))
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, e := range v {
				walk(e)
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		case string:
			assert.False(t, strings.ContainsFunc(v, unicode.IsControl), "a control character in %q", v)
			assert.NotRegexp(t, placeholder, v)
		}
	}
	walk(v)
}
