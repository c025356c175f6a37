package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mxdiscover/testdata/interop/hook"
)

const (
	startTimeout  = time.Minute      // a Dendrite makes its databases first
	answerTimeout = 30 * time.Second // what happens at once takes longer on a small, busy machine
)

// password is that of every user.
const password = "correct horse"

// programs are what every server needs.
type programs struct{ plain, patched, generateKeys, createAccount string }

func buildPrograms(t *testing.T) programs {
	t.Helper()
	return programs{
		plain:         tool(t, "dendrite"),
		patched:       patchedDendrite(t),
		generateKeys:  tool(t, "generate-keys"),
		createAccount: tool(t, "create-account"),
	}
}

// A dendrite is a homeserver that runs until the end of the test, with one user.
type dendrite struct {
	*place
	user  string // the Matrix ID
	token string
	log   *logBuffer

	program func() *exec.Cmd
	*process
}

// startDendrites starts one at every place and waits for all of them. Those for which patched says so
// send through a Transport.
func (f *federation) startDendrites(t *testing.T, p programs, patched func(*place) bool, places ...*place) []*dendrite {
	t.Helper()
	var all []*dendrite
	var ready []func()
	for _, at := range places {
		d, wait := f.startDendrite(t, p, patched(at), at)
		all, ready = append(all, d), append(ready, wait)
	}
	for _, wait := range ready {
		wait()
	}
	return all
}

func (f *federation) startDendrite(t *testing.T, p programs, patched bool, at *place) (d *dendrite, ready func()) {
	t.Helper()
	d = &dendrite{place: at, log: new(logBuffer)}
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		return path
	}
	signingKey := filepath.Join(dir, "matrix_key.pem")
	run(t.Context(), t, p.generateKeys, "-private-key", signingKey)
	cert, key := pemFiles(t, f.certificate(t, at.certificate))
	write("tls.crt", cert)
	write("tls.key", key)
	config := write("dendrite.yaml", dendriteConfig(t, at.name, signingKey))

	program := p.plain
	if patched {
		program = p.patched
	}
	settings, err := json.Marshal(f.settings)
	require.NoError(t, err)
	d.program = func() *exec.Cmd {
		cmd := exec.Command(program, "-config", config,
			"-http-bind-address", fmt.Sprintf("127.0.0.1:%d", at.client),
			"-https-bind-address", fmt.Sprintf("127.0.0.1:%d", at.federation),
			"-tls-cert", "tls.crt", "-tls-key", "tls.key")
		cmd.Dir = dir
		cmd.Stdout, cmd.Stderr = d.log, d.log
		cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+f.caFile, hook.Variable+"="+string(settings))
		return cmd
	}
	d.start(t)
	t.Cleanup(func() {
		d.stop()
		if t.Failed() {
			t.Logf("the end of the log of %s:\n%s", at.name, d.log.end(logShown))
		}
	})
	return d, func() {
		t.Helper()
		d.awaitStart(t)
		out := run(t.Context(), t, p.createAccount, "-config", config,
			"-username", "user", "-password", password, "-url", fmt.Sprintf("http://127.0.0.1:%d", at.client))
		token := regexp.MustCompile(`AccessToken: ([^)\s]+)`).FindStringSubmatch(out)
		require.NotNil(t, token, out)
		d.user, d.token = "@user:"+at.name, token[1]
	}
}

func (d *dendrite) start(t *testing.T) {
	t.Helper()
	d.process = startProcess(t, d.program())
}

// awaitStart waits until both ports are served.
func (d *dendrite) awaitStart(t *testing.T) {
	t.Helper()
	eventually(t, startTimeout, "Dendrite answers", func(ctx context.Context) error {
		d.requireRunning(t, d.name)
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", d.federation))
		if err != nil {
			return err
		}
		conn.Close()
		return d.call(ctx, "GET", "/_matrix/client/versions", nil, nil)
	})
}

// dendriteConfig is dendrite.yaml: JSON is YAML too.
func dendriteConfig(t *testing.T, name, signingKey string) []byte {
	t.Helper()
	type m = map[string]any
	database := func(file string) m { return m{"connection_string": "file:" + file + ".db"} }
	config := m{
		"version": 2,
		"global": m{
			"server_name": name,
			"private_key": signingKey,
			"jetstream":   m{"storage_path": "."},
			"cache":       m{"max_size_estimated": "16mb"},
		},
		"client_api": m{
			"registration_disabled":      true,
			"registration_shared_secret": "for create-account",
			"rate_limiting":              m{"enabled": false},
		},
		"federation_api": m{
			"database": database("federationapi"),
			// For the client of its own: the federation of these tests is on loopback.
			"deny_networks":  []string{},
			"allow_networks": []string{"127.0.0.0/8"},
		},
		"key_server":  m{"database": database("keyserver")},
		"media_api":   m{"database": database("mediaapi"), "base_path": "media"},
		"mscs":        m{"database": database("mscs")},
		"relay_api":   m{"database": database("relayapi")},
		"room_server": m{"database": database("roomserver")},
		"sync_api":    m{"database": database("syncapi")},
		"user_api":    m{"account_database": database("userapi"), "bcrypt_cost": 4},
		"logging":     []m{{"type": "std", "level": "info"}},
	}
	text, err := json.MarshalIndent(config, "", "  ")
	require.NoError(t, err)
	return text
}

// call asks the client API as the server's user. In and out are JSON, or bytes of any kind.
func (d *dendrite) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	switch in := in.(type) {
	case nil:
	case []byte:
		body = bytes.NewReader(in)
	default:
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://127.0.0.1:%d%s", d.client, path), body)
	if err != nil {
		return err
	}
	if d.token != "" {
		req.Header.Set("Authorization", "Bearer "+d.token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	switch out := out.(type) {
	case nil:
		return nil
	case *[]byte:
		*out = text
		return nil
	default:
		return json.Unmarshal(text, out)
	}
}

// must is call for what has to succeed.
func (d *dendrite) must(t *testing.T, method, path string, in, out any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), answerTimeout)
	defer cancel()
	require.NoError(t, d.call(ctx, method, path, in, out), d.name)
}

type event struct {
	Type    string          `json:"type"`
	Sender  string          `json:"sender"`
	Content json.RawMessage `json:"content"`
}

// awaitEvent waits until the user gets an event, in a room or directly.
func (d *dendrite) awaitEvent(t *testing.T, wanted func(event) bool) {
	t.Helper()
	since := ""
	eventually(t, answerTimeout, "an event comes to "+d.user, func(ctx context.Context) error {
		var got struct {
			NextBatch string `json:"next_batch"`
			ToDevice  struct {
				Events []event `json:"events"`
			} `json:"to_device"`
			Rooms struct {
				Join map[string]struct {
					Timeline struct {
						Events []event `json:"events"`
					} `json:"timeline"`
				} `json:"join"`
			} `json:"rooms"`
		}
		query := url.Values{"timeout": {"1000"}, "since": {since}}
		if since == "" {
			query.Del("since")
		}
		if err := d.call(ctx, "GET", "/_matrix/client/v3/sync?"+query.Encode(), nil, &got); err != nil {
			return err
		}
		since = got.NextBatch
		events := got.ToDevice.Events
		for _, room := range got.Rooms.Join {
			events = append(events, room.Timeline.Events...)
		}
		for _, e := range events {
			if wanted(e) {
				return nil
			}
		}
		return fmt.Errorf("it is not among %d events", len(events))
	})
}

// sent are the requests that went through the Transport of a patched Dendrite, as hook tells of them:
// "PUT matrix://example.org/_matrix/... HTTP/2.0 200 OK".
func (d *dendrite) sent() (lines []string) {
	for line := range strings.Lines(d.log.end(1 << 30)) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), hook.Mark+" "); ok {
			lines = append(lines, rest)
		}
	}
	return lines
}
