package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// ioctl is what no package of the standard library has for terminals.
func ioctl(t *testing.T, f *os.File, request uintptr, arg unsafe.Pointer) {
	t.Helper()
	conn, err := f.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, conn.Control(func(fd uintptr) {
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(arg))
		require.Zero(t, errno, errno.Error())
	}))
}

func modes(t *testing.T, tty *os.File) (m syscall.Termios) {
	t.Helper()
	ioctl(t, tty, syscall.TCGETS, unsafe.Pointer(&m))
	return m
}

// terminal is a new one: what a person sees and types at, and what a program has.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { person.Close() })
	var locked, number int32
	ioctl(t, person, syscall.TIOCSPTLCK, unsafe.Pointer(&locked))
	ioctl(t, person, syscall.TIOCGPTN, unsafe.Pointer(&number))
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { program.Close() })
	return person, program
}

// TestPrompt types a password at a terminal. It is not shown, and whatever ends
// the prompt, the terminal is as it was.
func TestPrompt(t *testing.T) {
	t.Parallel()
	program := build(t)
	world, err := filepath.Abs("testdata/login-world.txtar")
	require.NoError(t, err)
	for about, test := range map[string]struct {
		typed  string
		signal os.Signal
		status int
		shown  string
	}{
		"a password":  {typed: "s3cret\r", status: statusGood},
		"corrected":   {typed: "nonsense\x15s3crex\x7ft\r", status: statusGood},
		"empty":       {typed: "\r", status: statusUsage, shown: "the password is empty"},
		"Ctrl-D":      {typed: "\x04", status: statusUsage, shown: "the password is empty"},
		"Ctrl-C":      {typed: "s3cret\x03", status: statusBad, shown: "interrupted: not logged in"},
		"interrupted": {signal: os.Interrupt, status: statusBad, shown: "interrupted: not logged in"},
		"terminated":  {signal: syscall.SIGTERM, status: statusBad, shown: "interrupted: not logged in"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			person, tty := terminal(t)
			before := modes(t, tty)
			require.NotZero(t, before.Lflag&syscall.ECHO)
			var stdout bytes.Buffer
			cmd := exec.Command(program, "login", "--json", "--show-token", "--world", world, "@alice:good.example")
			cmd.Stdin, cmd.Stderr, cmd.Stdout = tty, tty, &stdout
			require.NoError(t, cmd.Start())

			var seen strings.Builder
			read := func(until string) {
				t.Helper()
				require.NoError(t, person.SetReadDeadline(time.Now().Add(time.Minute)))
				buf := make([]byte, 1024)
				for !strings.Contains(seen.String(), until) {
					n, err := person.Read(buf)
					seen.Write(buf[:n])
					require.NoError(t, err, "%q", seen.String())
				}
			}
			read("Password for @alice:good.example: ")
			during := modes(t, tty)
			assert.Zero(t, during.Lflag&syscall.ECHO)
			_, err := person.WriteString(test.typed)
			require.NoError(t, err)
			if test.signal != nil {
				require.NoError(t, cmd.Process.Signal(test.signal))
			}
			cmd.Wait()
			assert.Equal(t, test.status, cmd.ProcessState.ExitCode(), "%s", seen.String())
			assert.Equal(t, before, modes(t, tty), "the terminal is as it was")
			read(test.shown)
			assert.NotContains(t, seen.String(), "s3cret")
			assert.Equal(t, test.status == statusGood, strings.Contains(stdout.String(), `"access_token":"t0ken-of-alice"`), "%s", stdout.String())
		})
	}
}
