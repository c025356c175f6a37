package main

import (
	"bytes"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/memnet"
	"mxdiscover/internal/world"
)

// build builds the command once for all tests that run it.
func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mxdiscover")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return path
}

func scenes(t *testing.T) []*world.Scene {
	t.Helper()
	files, err := filepath.Glob("../../testdata/worlds/*.txtar")
	require.NoError(t, err)
	var list []*world.Scene
	for _, file := range files {
		scene, err := world.Load(file)
		require.NoError(t, err)
		list = append(list, scene)
	}
	require.NotEmpty(t, list)
	return list
}

// TestScenesByProgram runs the names of every scene through the built command
// on loopback, as far as no time has to pass. What needs time runs in
// TestScenesInVirtualTime.
func TestScenesByProgram(t *testing.T) {
	t.Parallel()
	program := build(t)
	for _, scene := range scenes(t) {
		if scene.Options().Virtual {
			continue
		}
		var (
			names []string
			want  []world.Resolve
		)
	steps:
		for _, step := range scene.Script() {
			switch step := step.(type) {
			case world.Resolve:
				for range step.Times {
					names, want = append(names, step.Name), append(want, step)
				}
			case world.Advance, world.Forget:
				break steps
			}
		}
		t.Run(filepath.Base(scene.Name()), func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(program, args(scene, append([]string{"--"}, names...)...)...)
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			err := cmd.Run()
			match(t, want, stdout.String())
			assert.Empty(t, stderr.String())
			status := 0
			if strings.Contains(stdout.String(), `"error":{`) {
				status = 1
			}
			assert.Equal(t, status, cmd.ProcessState.ExitCode(), "%v", err)
		})
	}
}

// args are the arguments that a scene asks for: names one after the other, as
// its script does.
func args(scene *world.Scene, more ...string) []string {
	return append([]string{"resolve", "--json", "-j", "1", "--world", scene.Name()}, more...)
}

func match(t *testing.T, want []world.Resolve, stdout string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
	if !assert.Len(t, lines, len(want), "one line for each name") {
		return
	}
	for i, line := range lines {
		assert.NoError(t, world.MatchJSON(want[i].Want, []byte(line)), "%s: %s gave\n%s", want[i].Position(), want[i].Name, line)
	}
}

// TestScenesInVirtualTime runs every scene through the command once more, in
// this process, with its names on standard input and the time between them.
func TestScenesInVirtualTime(t *testing.T) {
	t.Parallel()
	for _, scene := range scenes(t) {
		t.Run(filepath.Base(scene.Name()), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				script := newScript()
				for _, step := range scene.Script() {
					if _, ok := step.(world.Forget); ok {
						break // the command has no such verb
					}
					script.steps = append(script.steps, step)
				}
				var stderr bytes.Buffer
				a := app{stdin: script, stdout: &output{Writer: script}, stderr: &output{Writer: &stderr}, net: world.Memory{Network: &memnet.Network{}}}
				a.run(t.Context(), args(scene, "--file", "-"))
				match(t, script.want, script.stdout.String())
				assert.Empty(t, stderr.String())
				time.Sleep(time.Minute)
			})
		})
	}
}

// script is standard input and output: the names of a scene with its pauses,
// each after the answers to those before.
type script struct {
	steps []world.Step
	want  []world.Resolve

	mu      sync.Mutex
	printed *sync.Cond
	stdout  bytes.Buffer
}

func newScript() *script {
	s := &script{}
	s.printed = sync.NewCond(&s.mu)
	return s
}

func (s *script) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.printed.Broadcast()
	return s.stdout.Write(p)
}

func (s *script) Read(p []byte) (int, error) {
	s.mu.Lock()
	for bytes.Count(s.stdout.Bytes(), []byte("\n")) < len(s.want) {
		s.printed.Wait()
	}
	s.mu.Unlock()
	for len(s.steps) > 0 {
		step := s.steps[0]
		s.steps = s.steps[1:]
		switch step := step.(type) {
		case world.Advance:
			time.Sleep(step.By)
		case world.Resolve:
			for range step.Times {
				s.want = append(s.want, step)
			}
			return copy(p, strings.Repeat(step.Name+"\n", step.Times)), nil
		}
	}
	return 0, io.EOF
}
