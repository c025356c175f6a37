package interop

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// runTimeout is more than any run of the program may take: it has its own deadline, 30 seconds.
const runTimeout = time.Minute

// A mxdiscover is the program itself, and the flags with which it lives in a world.
type mxdiscover struct {
	program string
	flags   []string
}

// newMxdiscover builds the program as its users do: with the requirements of its own module.
func (f *federation) newMxdiscover(t *testing.T, flags ...string) *mxdiscover {
	t.Helper()
	m := &mxdiscover{program: filepath.Join(t.TempDir(), "mxdiscover")}
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", m.program, "./cmd/mxdiscover")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, server := range f.settings.DNS {
		m.flags = append(m.flags, "--dns", server)
	}
	m.flags = append(append(m.flags, "--cacert", f.caFile), flags...)
	return m
}

// A ran is a run of the program that has ended.
type ran struct {
	stdout, stderr string
	status         int
}

func (r ran) String() string {
	return fmt.Sprintf("status %d\nstdout: %s\nstderr: %s", r.status, r.stdout, r.stderr)
}

// run runs a verb to its end.
func (m *mxdiscover) run(t *testing.T, stdin, verb string, args ...string) ran {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, m.program, append(append([]string{verb}, m.flags...), args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	r := ran{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
	require.NoError(t, ctx.Err(), "%s %v: %v", verb, args, r)
	require.NotContains(t, r.stderr, "panic:", "%v", r)
	return r
}

// webClient finds hosts by the world's DNS and trusts its authority. Instead of port 443 it takes this one.
func (f *federation) webClient(t *testing.T, https int) *http.Client {
	t.Helper()
	dialer := &net.Dialer{Resolver: &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, f.settings.DNS[0])
		},
	}}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if host, ok := strings.CutSuffix(addr, ":443"); ok {
				addr = net.JoinHostPort(host, strconv.Itoa(https))
			}
			return dialer.DialContext(ctx, network, addr)
		},
		TLSClientConfig: &tls.Config{RootCAs: f.world.Roots()},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: answerTimeout}
}

// get asks with an access token and returns the status and the JSON object that came.
func get(t *testing.T, client *http.Client, url, token string) (status int, answer map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	require.NoError(t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &answer), "%s: %s: %s", url, resp.Status, text)
	return resp.StatusCode, answer
}
