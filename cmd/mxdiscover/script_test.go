package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/world"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"mxdiscover": main})
}

// TestScripts runs the command as a user would; one file for one behaviour.
func TestScripts(t *testing.T) {
	t.Parallel()
	worlds, err := filepath.Abs("../../testdata/worlds")
	require.NoError(t, err)
	clients, err := filepath.Abs("testdata/clients.txtar")
	require.NoError(t, err)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("TOUR", filepath.Join(worlds, "tour.txtar"))
			env.Setenv("CLIENTS", clients)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// width fails if a line of a file has more columns than given.
			"width": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) != 1 {
					ts.Fatalf("usage: width file")
				}
				for line := range strings.Lines(ts.ReadFile(args[0])) {
					if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
						ts.Fatalf("%d columns: %s", n, line)
					}
				}
			},
		},
		RequireExplicitExec: true,
	})
}

// TestWorldVerb: the flags that "mxdiscover world" prints lead another process
// into that world, and a signal ends it.
func TestWorldVerb(t *testing.T) {
	t.Parallel()
	program := build(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	served := exec.CommandContext(ctx, program, "world", "--json", "../../testdata/worlds/tour.txtar")
	served.Cancel = func() error { return served.Process.Signal(os.Interrupt) }
	stdout, err := served.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, served.Start())
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	require.NoError(t, err)
	var flags struct {
		DNS       []string `json:"dns"`
		CACert    string   `json:"cacert"`
		ConnectTo []string `json:"connect_to"`
		AllowNets []string `json:"allow_net"`
	}
	require.NoError(t, json.Unmarshal(line, &flags))
	args := []string{"resolve", "--json", "--cacert", flags.CACert}
	for flag, values := range map[string][]string{"--dns": flags.DNS, "--connect-to": flags.ConnectTo, "--allow-net": flags.AllowNets} {
		require.NotEmpty(t, values, flag)
		for _, value := range values {
			args = append(args, flag, value)
		}
	}
	out, err := exec.Command(program, slices.Concat(args, []string{"delegated.example", "page.example", "plain.example"})...).Output()
	require.NoError(t, err)
	answers := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	require.Len(t, answers, 3)
	assert.Contains(t, string(answers[0]), `"step":"3.2"`)
	assert.Contains(t, string(answers[0]), `"addresses":["127.0.0.1"]`, "what a connection would dial")
	assert.Contains(t, string(answers[1]), `"step":"6"`)
	assert.Contains(t, string(answers[2]), "connection refused", "what the world does not serve leads nowhere")
	cancel()
	served.Wait()
	assert.Equal(t, 0, served.ProcessState.ExitCode(), "a signal is how it ends")
	assert.NoFileExists(t, flags.CACert, "nothing is left behind")
}

// TestInterrupted: a signal ends the run also while it waits for names, and
// such a run is no success.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	names, _ := io.Pipe() // nobody ever writes
	var stdout, stderr bytes.Buffer
	a := app{stdin: names, stdout: &output{Writer: &stdout}, stderr: &output{Writer: &stderr}}
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	assert.Equal(t, statusBad, a.run(ctx, []string{"--file", "-"}))
	assert.Empty(t, stdout.String())
	assert.Equal(t, "error: interrupted: not every name was resolved\n", stderr.String())
}

func TestWantsColor(t *testing.T) {
	t.Parallel()
	for env, want := range map[[2]string]bool{
		{"", "xterm"}:  true,
		{"1", "xterm"}: false,
		{"0", "xterm"}: false,
		{"", "dumb"}:   false,
	} {
		got := wantsColor(func(name string) string { return map[string]string{"NO_COLOR": env[0], "TERM": env[1]}[name] })
		assert.Equal(t, want, got, "%v", env)
	}
}

// TestTerminal: people get colours and lines that fit; with NO_COLOR, lines
// alone.
func TestTerminal(t *testing.T) {
	t.Parallel()
	for _, color := range []bool{true, false} {
		var stdout, stderr bytes.Buffer
		a := app{
			stdout: &output{Writer: &stdout, color: color, wrap: true},
			stderr: &output{Writer: &stderr, color: color, wrap: true},
			net:    world.Loopback{},
		}
		a.run(t.Context(), []string{"-v", "--world", "../../testdata/worlds/tour.txtar", "srv.example", "private.example", "expired.example"})
		for _, out := range []string{stdout.String(), stderr.String()} {
			assert.Equal(t, color, strings.Contains(out, "\x1b["))
			for line := range strings.Lines(out) {
				assert.LessOrEqual(t, visible(strings.TrimSuffix(line, "\n")), width, line)
			}
		}
	}
}
