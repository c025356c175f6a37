package interop

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const dendriteModule = "github.com/element-hq/dendrite"

// goCommand runs the go command in this module and returns what it prints.
func goCommand(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // SQLite in Go: no C compiler is needed
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "go %s: %s", strings.Join(args, " "), &stderr)
	return strings.TrimSpace(string(out))
}

// tool builds a program that go.mod names as a tool and returns where it is: the go command
// keeps it in its build cache.
func tool(t *testing.T, name string, flags ...string) string {
	t.Helper()
	path := goCommand(t, append(append([]string{"tool"}, flags...), "-n", name)...)
	require.FileExists(t, path)
	return path
}

// patchedDendrite builds a Dendrite whose federation client sends through hook.Transport.
func patchedDendrite(t *testing.T) string {
	t.Helper()
	var module struct{ Version, Dir string }
	require.NoError(t, json.Unmarshal([]byte(goCommand(t, "mod", "download", "-json", dendriteModule)), &module))

	const file = "setup/base/base.go"
	source, err := os.ReadFile(filepath.Join(module.Dir, file))
	require.NoError(t, err)
	source = replaceOnce(t, source,
		"\t\"github.com/matrix-org/gomatrixserverlib/fclient\"\n",
		"\t\"github.com/matrix-org/gomatrixserverlib/fclient\"\n\t\"mxdiscover/testdata/interop/hook\"\n")
	source = replaceOnce(t, source,
		"\tclient := fclient.NewFederationClient(\n",
		"\topts = append(opts, fclient.WithTransport(hook.Transport()))\n\tclient := fclient.NewFederationClient(\n")

	// The go command refuses overlays on its module cache. A folder that keeps its name lets it find in
	// its build cache what was built before.
	sum := sha256.Sum256(source)
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	cache = filepath.Join(cache, "mxdiscover-interop")
	require.NoError(t, os.MkdirAll(cache, 0o777))
	dir := filepath.Join(cache, module.Version+"-"+hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		fresh, err := os.MkdirTemp(cache, "new-*")
		require.NoError(t, err)
		defer os.RemoveAll(fresh)
		require.NoError(t, os.CopyFS(fresh, os.DirFS(module.Dir)))
		require.NoError(t, os.Chmod(filepath.Join(fresh, file), 0o666)) // the module cache is read-only
		require.NoError(t, os.WriteFile(filepath.Join(fresh, file), source, 0o666))
		if err := os.Rename(fresh, dir); err != nil {
			require.DirExists(t, dir, "%v", err) // another run was faster
		}
	}

	tmp := t.TempDir()
	modfile := filepath.Join(tmp, "go.mod")
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(tmp, name), text, 0o666))
	}
	goCommand(t, "mod", "edit", "-replace="+dendriteModule+"="+dir, modfile)
	return tool(t, "dendrite", "-modfile="+modfile)
}

func replaceOnce(t *testing.T, text []byte, old, new string) []byte {
	t.Helper()
	require.Equal(t, 1, bytes.Count(text, []byte(old)), "Dendrite's source has changed: %s", old)
	return bytes.Replace(text, []byte(old), []byte(new), 1)
}

// run runs a program to its end and returns all that it says.
func run(ctx context.Context, t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	require.NoError(t, err, "%s %s: %s", program, strings.Join(args, " "), out)
	return string(out)
}
