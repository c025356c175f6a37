package resolver_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/world"
)

// The rules of both texts. "S2S 3.1" is the Server-Server API, "Resolving
// server names", 3.1; the draft's numbers are those of its own steps, as far
// as they differ from the released text.
var rules = []string{
	"S2S 1", "S2S 2", "S2S 3", "S2S 3.1", "S2S 3.2", "S2S 3.3", "S2S 3.4", "S2S 3.5", "S2S 4", "S2S 5", "S2S 6",
	"Draft 2019, step 1", "Draft 2019, step 3", "Draft 2019, step 4",
}

// TestRulesAreCited: the line that obeys a rule names it, for each rule of the
// specification.
func TestRulesAreCited(t *testing.T) {
	t.Parallel()
	fset := token.NewFileSet()
	var comments strings.Builder
	err := filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		for _, group := range file.Comments {
			if group == file.Doc { // tells of rules, obeys none
				continue
			}
			comments.WriteString(group.Text())
		}
		return nil
	})
	require.NoError(t, err)
	// "S2S 3.3 and 3.4" cites both.
	text := regexp.MustCompile(`S2S (\S+) and (\d[\d.]*)`).ReplaceAllString(comments.String(), "S2S $1 S2S $2")
	for _, rule := range rules {
		assert.Regexp(t, regexp.QuoteMeta(rule)+`(\W\D|\W?$)`, text, "no code cites %s", rule)
	}
}

// TestRulesHaveScenes: each rule of the released text decides in some scene.
func TestRulesHaveScenes(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../testdata/worlds/*.txtar")
	require.NoError(t, err)
	var wanted strings.Builder
	for _, file := range files {
		scene, err := world.Load(file)
		require.NoError(t, err)
		for _, step := range scene.Script() {
			if step, ok := step.(world.Resolve); ok {
				wanted.Write(step.Want)
			}
		}
	}
	for _, rule := range rules {
		if number, ok := strings.CutPrefix(rule, "S2S "); ok {
			assert.Regexp(t, `"step":\s*"`+regexp.QuoteMeta(number)+`"`, wanted.String(), "no scene ends at %s", rule)
		}
	}
}
