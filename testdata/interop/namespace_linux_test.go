package interop

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// insideVariable is set where the test runs itself.
const insideVariable = "MXDISCOVER_INTEROP_INSIDE"

// TestAutodiscoveryPorts does as TestAutodiscovery, at the ports 443 and 80: the program is told nothing but its
// DNS server, its authority, and that loopback may be dialled. For that the test runs itself in a network of its
// own, where anybody may listen at any port (user_namespaces(7), network_namespaces(7)).
func TestAutodiscoveryPorts(t *testing.T) {
	nginxProgram(t)
	if os.Getenv(insideVariable) != "" {
		setLoopbackUp(t)
		testAutodiscovery(t, 443, 80)
		return
	}
	t.Parallel()
	inside := func(attributes *syscall.SysProcAttr) ([]byte, error) {
		ctx, cancel := context.WithTimeout(t.Context(), startTimeout+runTimeout)
		defer cancel()
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestAutodiscoveryPorts$", "-test.v", "-test.timeout="+(startTimeout+runTimeout).String())
		cmd.Env = append(os.Environ(), insideVariable+"=1")
		cmd.SysProcAttr = attributes
		return cmd.CombinedOutput()
	}
	out, err := inside(&syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	})
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.ENOSPC) {
		// Many containers forbid that, and most of them allow low ports to everybody instead.
		t.Logf("no network of its own: %v", err)
		for _, port := range []string{"443", "80"} {
			l, err := net.Listen("tcp", "127.0.0.1:"+port)
			if err != nil {
				t.Skipf("neither a network of its own nor a free port %s: %v", port, err)
			}
			l.Close()
		}
		out, err = inside(nil)
	}
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: TestAutodiscoveryPorts/a_good_one", "%s", out)
}

// setLoopbackUp gives a new network its loopback addresses. Elsewhere they are there.
func setLoopbackUp(t *testing.T) {
	t.Helper()
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		// A new network may listen at once, but nobody could connect.
		defer l.Close()
		if conn, err := net.DialTimeout("tcp", l.Addr().String(), stopTimeout); err == nil {
			conn.Close()
			return
		}
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	require.NoError(t, err)
	lo.SetUint16(unix.IFF_UP)
	require.NoError(t, unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo))
}
