package interop

import (
	"bytes"
	"context"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	stopTimeout = 10 * time.Second
	logShown    = 8 << 10 // of a log, when a test has failed
)

// A process is a server that runs.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has
}

func startProcess(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	require.NoError(t, cmd.Start())
	p := &process{cmd, make(chan struct{})}
	go func() {
		cmd.Wait()
		close(p.ended)
	}()
	return p
}

// startServer starts a process that runs until the end of the test at the latest. What it writes is shown if the
// test fails.
func startServer(t *testing.T, name string, cmd *exec.Cmd) (*process, *logBuffer) {
	t.Helper()
	log := new(logBuffer)
	cmd.Stdout, cmd.Stderr = log, log
	p := startProcess(t, cmd)
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("the end of the log of %s:\n%s", name, log.end(logShown))
		}
	})
	return p, log
}

// stop asks the process to end, and makes it.
func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(stopTimeout):
		p.kill()
	}
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.ended
}

// requireRunning fails the test if the process has ended.
func (p *process) requireRunning(t *testing.T, name string) {
	t.Helper()
	select {
	case <-p.ended:
		require.FailNow(t, name+" has ended", "%v", p.cmd.ProcessState)
	default:
	}
}

// eventually asks until there is no error.
func eventually(t *testing.T, limit time.Duration, what string, ask func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var last error
	for {
		err := ask(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			require.FailNow(t, "not in time: "+what, "%v", last)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// A logBuffer keeps what a program writes.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBuffer) end(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text.Bytes()[max(0, l.text.Len()-n):])
}
