package browser

import (
	"bufio"
	"bytes"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	tour = "../worlds/tour.txtar"
	slow = "worlds/page.txtar"

	startTimeout = 20 * time.Second
	stopTimeout  = 15 * time.Second
	logShown     = 8 << 10 // of the program's log, when a test has failed
)

// build builds the program.
func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mxdiscover")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, "./cmd/mxdiscover")
	cmd.Dir = "../.." // a module of its own
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return path
}

// A site is the program while it serves.
type site struct {
	url   string // without a slash at the end
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has

	mu  sync.Mutex
	log bytes.Buffer
}

var listening = regexp.MustCompile(`listening on (http://[0-9.:]+)`)

// serve starts the program in a world until the end of the test.
func serve(t *testing.T, program, world string, flags ...string) *site {
	t.Helper()
	args := append([]string{"--world", world, "serve", "--listen", "127.0.0.1:0"}, flags...)
	s := &site{cmd: exec.Command(program, args...), ended: make(chan struct{})}
	stderr, err := s.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, s.cmd.Start())
	ready := make(chan string, 1)
	go func() {
		defer close(s.ended)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			s.mu.Lock()
			s.log.Write(append(lines.Bytes(), '\n'))
			s.mu.Unlock()
			if m := listening.FindStringSubmatch(lines.Text()); m != nil && len(ready) == 0 {
				ready <- m[1]
			}
		}
		s.cmd.Wait()
	}()
	t.Cleanup(func() {
		s.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-s.ended:
		case <-time.After(stopTimeout):
			s.kill()
			t.Error("the program did not stop")
		}
		if t.Failed() {
			log := s.logged()
			t.Logf("the end of the program's log:\n%s", log[max(0, len(log)-logShown):])
		}
	})
	select {
	case s.url = <-ready:
	case <-s.ended:
		require.FailNow(t, "the program has ended", "%s", s.logged())
	case <-time.After(startTimeout):
		require.FailNow(t, "the program does not listen", "%s", s.logged())
	}
	return s
}

func (s *site) logged() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

func (s *site) kill() {
	s.cmd.Process.Kill()
	<-s.ended
}

// requireQuiet: whatever attackers say, the log is lines of printable text.
func (s *site) requireQuiet(t *testing.T) {
	t.Helper()
	for _, line := range strings.Split(s.logged(), "\n") {
		require.NotRegexp(t, `[\x00-\x08\x0b-\x1f\x7f\x{202e}]`, line)
	}
}
