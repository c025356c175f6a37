package main

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestReadme runs every command of the README whose output it quotes, and
// compares; times and ports differ from run to run.
func TestReadme(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	quoted := regexp.MustCompile(`(?m)^<!-- go run \./cmd/mxdiscover (.*) -->\n((?:    .*\n)+)`).FindAllStringSubmatch(string(readme), -1)
	require.NotEmpty(t, quoted)
	program := build(t)
	vary := regexp.MustCompile(`20\d\d-\d\d-\d\d(?:\s+\(in [^)]*\))?|\d\d:\d\d:\d\d|127\.0\.0\.1:\d+|(?:<1|\d+) ms +|\d+\.\d s +`)
	for _, q := range quoted {
		cmd := exec.Command(program, strings.Fields(q[1])...)
		cmd.Dir = "../.."
		out, _ := cmd.CombinedOutput() // some of them fail on purpose
		want := strings.TrimPrefix(strings.ReplaceAll("\n"+q[2], "\n    ", "\n"), "\n")
		assert.Equal(t, vary.ReplaceAllString(want, "*"), vary.ReplaceAllString(string(out), "*"), q[1])
	}
}
