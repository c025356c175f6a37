package interop

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"
)

// unread is how many connections to a port of this machine hold bytes that the server has not read: those who
// wait for a server that does not run just now (proc_net_tcp(5)).
func unread(port int) (n int, err error) {
	table, err := os.ReadFile("/proc/self/net/tcp")
	for line := range strings.Lines(string(table)) {
		// sl, local address, remote address, state, tx_queue:rx_queue
		fields := strings.Fields(line)
		const established = "01"
		if len(fields) > 4 && strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", port)) && fields[3] == established {
			if _, queue, _ := strings.Cut(fields[4], ":"); strings.Trim(queue, "0") != "" {
				n++
			}
		}
	}
	return n, err
}

// awaitUnread waits until as many requests lie before a server as are wanted.
func awaitUnread(t *testing.T, port, want int) {
	t.Helper()
	eventually(t, answerTimeout, "requests reach the server", func(context.Context) error {
		n, err := unread(port)
		if err == nil && n < want {
			err = fmt.Errorf("%d of %d", n, want)
		}
		return err
	})
}

// halt stops a process in the middle of whatever it does, until the test resumes or ends it.
func (p *process) halt(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGSTOP))
	t.Cleanup(func() { p.cmd.Process.Signal(syscall.SIGCONT) })
}

func (p *process) resume(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGCONT))
}

// testPortalEnds tells a portal to end while logins are on their way.
func testPortalEnds(t *testing.T, s *site) {
	for mode, flags := range map[string][]string{
		"round-robin": s.localTargets()[:4], // to one alone
		"user-map":    append(s.localTargets(), s.userMap(t)...),
	} {
		t.Run(mode, func(t *testing.T) {
			p := s.startPortal(t, flags)
			const logins = 8
			s.one.halt(t)
			var group errgroup.Group
			answers := make([]*mautrix.RespLogin, logins)
			for i := range answers {
				c := s.newMautrix(t, p.url)
				group.Go(func() (err error) {
					answers[i], err = c.Login(t.Context(), mautrixLogin(s.one.user, password, ending(mode, i)))
					return err
				})
			}
			awaitUnread(t, s.one.client, logins)
			require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
			eventually(t, answerTimeout, "the portal takes nobody in", func(ctx context.Context) error {
				return refused(ctx, p.port)
			})
			p.requireRunning(t, "the portal")
			s.one.resume(t)
			require.NoError(t, group.Wait())
			for i, answer := range answers {
				require.Equal(t, ending(mode, i), answer.DeviceID)
				require.Equal(t, s.one.baseURL(), answer.WellKnown.Homeserver.BaseURL)
				s.requireSession(t, s.one.baseURL(), answer.AccessToken, s.one.user, string(answer.DeviceID))
			}
			select {
			case <-p.ended:
				require.Zero(t, p.cmd.ProcessState.ExitCode(), "%v", p.cmd.ProcessState)
			case <-time.After(stopTimeout):
				require.FailNow(t, "the portal has not ended")
			}
		})
	}
}

func ending(mode string, i int) id.DeviceID { return id.DeviceID(fmt.Sprintf("ENDING-%s-%d", mode, i)) }

// A load is people who log in again and again, with a new device each time, and what became of it.
type load struct {
	stop context.CancelFunc
	ctx  context.Context
	wait sync.WaitGroup

	mu     sync.Mutex
	phase  int
	calm   bool // in this phase no login may fail that begins and ends in it
	begun  int
	good   map[id.DeviceID]*mautrix.RespLogin
	failed map[id.DeviceID]error
}

func newLoad(t *testing.T) *load {
	l := &load{good: make(map[id.DeviceID]*mautrix.RespLogin), failed: make(map[id.DeviceID]error)}
	l.ctx, l.stop = context.WithCancel(t.Context())
	t.Cleanup(l.end)
	return l
}

// end lets the logins that have begun end.
func (l *load) end() {
	l.stop()
	l.wait.Wait()
}

// add adds people.
func (l *load) add(t *testing.T, people int, s *site, p *portal) {
	for range people {
		c := s.newMautrix(t, p.url)
		l.wait.Go(func() {
			for l.ctx.Err() == nil {
				l.mu.Lock()
				l.begun++
				device, phase := id.DeviceID(fmt.Sprintf("LOAD-%d", l.begun)), l.phase
				l.mu.Unlock()
				login := mautrixLogin("user", password, device)
				login.StoreCredentials, login.StoreHomeserverURL = false, false // the next one is at the portal again
				answer, err := c.Login(t.Context(), login)
				l.mu.Lock()
				if err == nil {
					l.good[device] = answer
				} else {
					l.failed[device] = err
					if l.calm && phase == l.phase {
						t.Errorf("a login has failed although no server died: %v", err)
					}
				}
				l.mu.Unlock()
			}
		})
	}
}

// begin begins a phase.
func (l *load) begin(calm bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.phase++
	l.calm = calm
}

// goodAt is how many logins a server has answered.
func (l *load) goodAt(d *dendrite) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, answer := range l.good {
		if string(answer.UserID) == d.user {
			n++
		}
	}
	return n
}

// awaitGood waits for so many more.
func (l *load) awaitGood(t *testing.T, d *dendrite, more int) {
	t.Helper()
	want := l.goodAt(d) + more
	eventually(t, answerTimeout, "logins at "+d.name, func(context.Context) error {
		if n := l.goodAt(d); n < want {
			return fmt.Errorf("%d of %d", n, want)
		}
		return nil
	})
}

// testDendriteDies kills one of two servers while people log in, with requests before it that it has not
// answered.
func testDendriteDies(t *testing.T, s *site) {
	const people = 6
	p := s.startPortal(t, s.localTargets())
	l := newLoad(t)
	l.begin(true)
	l.add(t, people, s, p)
	l.awaitGood(t, s.one, 10)
	l.awaitGood(t, s.two, 10)

	l.begin(false)
	s.two.halt(t)
	// It may have read what those have sent. Those who come now it has not; in turn, all get to it.
	l.add(t, people, s, p)
	awaitUnread(t, s.two.client, people)
	s.two.kill()
	l.begin(true)
	l.awaitGood(t, s.one, 40)

	// It comes back, and is given its share again.
	s.two.start(t)
	s.two.awaitStart(t)
	l.awaitGood(t, s.two, 10)
	l.end()

	// Whoever was told of a session has it, at that server alone, and with the token that he was given.
	atOne, atTwo := s.one.deviceIDs(t), s.two.deviceIDs(t)
	for device, answer := range l.good {
		server, has, hasNot := s.one, atOne, atTwo
		if string(answer.UserID) == s.two.user {
			server, has, hasNot = s.two, atTwo, atOne
		}
		require.Equal(t, server.baseURL(), answer.WellKnown.Homeserver.BaseURL)
		require.Equal(t, device, answer.DeviceID)
		require.Contains(t, has, string(device))
		require.NotContains(t, hasNot, string(device))
		s.requireSession(t, server.baseURL(), answer.AccessToken, server.user, string(device))
	}
	// Those whose request lay before the dead server were told so, and nobody else was: a password that may have
	// been read is not sent to another server.
	require.GreaterOrEqual(t, len(l.failed), people)
	for device, err := range l.failed {
		var failed mautrix.HTTPError
		require.ErrorAs(t, err, &failed)
		require.True(t, failed.IsStatus(http.StatusBadGateway), "%v", err)
		require.Equal(t, mautrix.MUnknown.ErrCode, failed.RespError.ErrCode)
		require.NotContains(t, atOne, string(device))
	}
	// Every device is that of a login.
	for _, server := range []struct {
		*dendrite
		devices []string
	}{{s.one, atOne}, {s.two, atTwo}} {
		begun := slices.DeleteFunc(server.devices, func(device string) bool { return !strings.HasPrefix(device, "LOAD-") })
		answered := l.goodAt(server.dendrite)
		if server.dendrite == s.one {
			require.Len(t, begun, answered)
		} else {
			require.GreaterOrEqual(t, len(begun), answered)
			require.LessOrEqual(t, len(begun), answered+len(l.failed))
		}
	}
	t.Logf("%d logins at one, %d at two, %d lost with it", l.goodAt(s.one), l.goodAt(s.two), len(l.failed))
}

// testHandshakeDies kills a server that people were about to be connected to: their passwords have not been
// sent, so another server may have them, and nobody notices.
func testHandshakeDies(t *testing.T, s *site) {
	const logins = 6
	p := s.startPortal(t, s.targets())
	s.two.halt(t)
	var group errgroup.Group
	answers := make([]*mautrix.RespLogin, logins)
	for i := range answers {
		c := s.newMautrix(t, p.url)
		group.Go(func() (err error) {
			answers[i], err = c.Login(t.Context(), mautrixLogin("user", password, id.DeviceID(fmt.Sprintf("HANDSHAKE-%d", i))))
			return err
		})
	}
	awaitUnread(t, s.two.federation, logins/2)
	s.two.kill()
	require.NoError(t, group.Wait())
	for i, answer := range answers {
		require.Equal(t, s.one.user, answer.UserID.String())
		s.requireSession(t, s.one.baseURL(), answer.AccessToken, s.one.user, fmt.Sprintf("HANDSHAKE-%d", i))
	}
}
