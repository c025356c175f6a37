package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/check"
	"mxdiscover/internal/memnet"
	"mxdiscover/internal/world"
)

// TestCheckScenes runs every scene of package check through the command, in each of
// its forms, in memory and in virtual time: JSON is as the schema says, TAP is TAP,
// text is printable, and all say the verdict that the scene does.
func TestCheckScenes(t *testing.T) {
	t.Parallel()
	s := readSchema(t, "report.schema.json")
	files, err := filepath.Glob("../../check/testdata/findings/*.txtar")
	require.NoError(t, err)
	require.Greater(t, len(files), 60)
	for _, file := range append(files, "../../testdata/worlds/tour.txtar") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			scene, err := world.Load(file)
			require.NoError(t, err)
			require.NotEmpty(t, scene.Checks())
			for _, want := range scene.Checks() {
				verdict, status := check.Verdict(want.Verdict), statusGood
				if verdict == check.Bad {
					status = statusBad
				}
				run := func(t *testing.T, form ...string) (out string) {
					synctest.Test(t, func(t *testing.T) {
						var stdout, stderr bytes.Buffer
						a := app{stdin: strings.NewReader(""), stdout: &output{Writer: &stdout}, stderr: &output{Writer: &stderr}, net: world.Memory{Network: &memnet.Network{}}}
						args := append([]string{"check", "--world", file}, form...)
						assert.Equal(t, status, a.run(t.Context(), append(args, "--", want.Name)), "%s: %s", want.Position(), &stderr)
						assert.Empty(t, stderr.String())
						out = stdout.String()
						time.Sleep(time.Minute) // what is under way ends
					})
					return out
				}
				line := run(t, "--json")
				s.valid(t, []byte(line))
				assert.Equal(t, len(line)-1, strings.IndexFunc(line, unicode.IsControl), "one line")
				var r struct{ Verdict check.Verdict }
				require.NoError(t, json.Unmarshal([]byte(line), &r))
				assert.Equal(t, verdict, r.Verdict, want.Position())

				points := readTAP(t, run(t, "--tap"))
				assert.Equal(t, []string{okText(verdict != check.Bad)}, verdicts(points, 0), want.Position())

				text := run(t)
				assert.True(t, strings.HasPrefix(text, string(verdict)+" "), text)
				for line := range strings.Lines(text) {
					line = strings.TrimSuffix(line, "\n")
					assert.Equal(t, strings.TrimRight(line, " "), line, "nothing at the end of a line")
					assert.Less(t, strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) && r != '\t' }), 0, "%q", line)
				}
			}
		})
	}
}
