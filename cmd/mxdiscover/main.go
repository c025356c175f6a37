// Command mxdiscover finds the server behind a Matrix name and says why.
//
// Run "mxdiscover --help" for its verbs and flags.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"mxdiscover/internal/world"
)

// Exit statuses.
const (
	statusGood  = 0 // every name succeeded
	statusBad   = 1 // at least one did not
	statusUsage = 2 // wrong usage
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the program at once.
	context.AfterFunc(ctx, stop)
	a := app{stdin: os.Stdin, stdout: stream(os.Stdout), stderr: stream(os.Stderr), net: world.Loopback{}}
	os.Exit(a.run(ctx, os.Args[1:]))
}

// stream is a file that is coloured and wrapped if it is a terminal.
func stream(f *os.File) *output {
	terminal := term.IsTerminal(int(f.Fd()))
	return &output{Writer: f, wrap: terminal, color: terminal && wantsColor(os.Getenv)}
}

// wantsColor: no-color.org, unless NO_COLOR is present and not empty.
func wantsColor(env func(string) string) bool {
	return env("NO_COLOR") == "" && env("TERM") != "dumb"
}

// app is one run of the command.
type app struct {
	stdin          io.Reader
	stdout, stderr *output
	net            world.Net // where a world is served

	logging sync.Mutex // of lines that many goroutines write to stderr
}

// errFailed says that a name failed, and that the user has been told.
var errFailed = errors.New("failed")

// usageError is a mistake in the arguments.
type usageError struct{ error }

// hint says where to read on, unless the mistake is about a file.
func (e usageError) hint(command string) string {
	var file *fs.PathError
	if errors.As(e.error, &file) {
		return ""
	}
	return "see " + command + " --help"
}

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	cmd, err := root.ExecuteContextC(ctx)
	var usage usageError
	switch {
	case a.stdout.err != nil:
		a.complain("writing the answer: "+a.stdout.err.Error(), "")
		return statusBad
	case err == nil:
		return statusGood
	case errors.Is(err, errFailed):
		return statusBad
	case errors.As(err, &usage):
		a.complain(usage.Error(), usage.hint(cmd.CommandPath()))
		return statusUsage
	default:
		a.complain(err.Error(), "")
		return statusBad
	}
}

func (a *app) root() *cobra.Command {
	var s settings
	root := a.resolveCommand(&s)
	root.Use = "mxdiscover NAME..."
	root.Short = "Find the server behind a Matrix name, and say why"
	root.Long = `mxdiscover finds the server behind a Matrix name: where to connect, which Host
header to send, and which name the certificate must prove. It follows the
Matrix specification (Server-Server API, "Resolving server names") and shows
what it asked and what came back.

Without a verb, the names are resolved: "mxdiscover NAME" is short for
"mxdiscover resolve NAME".

Exit status: 0 every name succeeded, 1 at least one did not, 2 wrong usage.`
	root.Version = version()
	root.SetVersionTemplate("mxdiscover {{.Version}}\n")
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })

	resolve := a.resolveCommand(&s)
	root.AddCommand(resolve, a.checkCommand(), a.clientCommand(), a.loginCommand(), a.portalCommand(), a.serveCommand(), a.worldCommand())
	return root
}

// version is that of the module, or of the commit it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	if v == "" || v == "(devel)" {
		v = "devel"
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" && len(setting.Value) >= 12 {
				v += " " + setting.Value[:12]
			}
		}
	}
	return v + " " + info.GoVersion
}
