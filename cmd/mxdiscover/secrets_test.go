package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// forms are the ways in which a text may have been written.
func forms(secret string) []string {
	asJSON, _ := json.Marshal(secret)
	var plainJSON bytes.Buffer
	encoder := json.NewEncoder(&plainJSON)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(secret)
	list := []string{
		secret, url.QueryEscape(secret), url.PathEscape(secret), (&url.URL{Path: "/" + secret}).EscapedPath()[1:],
		strings.Trim(string(asJSON), `"`), strings.Trim(strings.TrimSpace(plainJSON.String()), `"`),
		strings.Trim(strconv.Quote(secret), `"`), strings.Trim(strconv.QuoteToASCII(secret), `"`),
		hex.EncodeToString([]byte(secret)), strings.Trim(fmt.Sprint([]byte(secret)), "[]"),
	}
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 { // wherever it stands in what was encoded
			coded := encoding.EncodeToString([]byte("xx"[:before] + secret))
			list = append(list, coded[[]int{0, 2, 3}[before]:len(coded)-2])
		}
	}
	return list
}

func TestForms(t *testing.T) {
	t.Parallel()
	const secret = `p"/<é`
	for _, text := range []string{
		secret, `p%22%2F%3C%C3%A9`, `p%22/%3C%C3%A9`, `p\"/\u003cé`, `p\"/<é`, `p\"/<\u00e9`, "70222f3cc3a9", "112 34 47 60 195 169",
		base64.StdEncoding.EncodeToString([]byte("{" + secret + "}")), base64.URLEncoding.EncodeToString([]byte("ab" + secret + "cd")), base64.StdEncoding.EncodeToString([]byte("abc" + secret)),
	} {
		assert.NotEmpty(t, found(text, secret), text)
	}
	assert.Empty(t, found("p/<é", secret))
}

// found is the form in which a text has the secret, in whatever case.
func found(text, secret string) string {
	text = strings.ToLower(text)
	for _, form := range forms(secret) {
		if strings.Contains(text, strings.ToLower(form)) {
			return form
		}
	}
	return ""
}

// An echoing server repeats the password and its token wherever it can. What it
// does depends on the first segment of the path.
type echoing struct {
	password, token string
	plain, secure   *httptest.Server

	mu     sync.Mutex
	logins map[string]int // by first segment, those that brought the password
}

const loginEnd = "/_matrix/client/v3/login"

func newEchoing(t *testing.T, password, token string) *echoing {
	e := &echoing{password: password, token: token, logins: make(map[string]int)}
	e.plain, e.secure = httptest.NewServer(e), httptest.NewTLSServer(e)
	for _, s := range []*httptest.Server{e.plain, e.secure} {
		t.Cleanup(s.Close)
	}
	return e
}

// raw sends bytes, of which none need be HTTP.
func raw(w http.ResponseWriter, text string) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		io.WriteString(conn, text)
		conn.Close()
	}
}

func (e *echoing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	mode, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	path = "/" + path
	var login struct{ Password string }
	if json.Unmarshal(body, &login) == nil && login.Password == e.password {
		e.mu.Lock()
		e.logins[mode]++
		e.mu.Unlock()
	}
	both := e.password + " " + e.token
	quoted := func(s string) string { text, _ := json.Marshal(s); return string(text) }
	answer := func(more string) {
		fmt.Fprintf(w, `{"user_id":"@a:example.com","device_id":"DEV","access_token":%s%s}`, quoted(e.token), more)
	}
	inURL := url.PathEscape(e.password) + "/" + url.PathEscape(e.token)
	switch {
	case r.URL.Path == "/.well-known/matrix/client":
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Access-Control-Allow-Origin", "*")
		fmt.Fprintf(w, `{"m.homeserver":{"base_url":%s}}`, quoted(e.secure.URL+"/good"))
	case mode == "versions-raw" && path != loginEnd:
		raw(w, "HTTP/1.1 "+both+"\r\n"+both+"\r\n\r\n")
	case mode == "versions-location" && path != loginEnd:
		raw(w, "HTTP/1.1 302 "+both+"\r\nLocation: "+e.secure.URL+"/"+inURL+"?"+url.QueryEscape(both)+"\r\nContent-Length: 0\r\n\r\n")
	case mode == "versions-text" && path != loginEnd:
		w.Header().Set("Content-Encoding", both)
		io.WriteString(w, both)
	case path == "/_matrix/client/versions":
		w.Header().Set("Access-Control-Allow-Origin", "*")
		io.WriteString(w, `{"versions":["v1.11"]}`)
	case path == loginEnd && r.Method == http.MethodGet:
		e.flows(w, mode, both, inURL)
	case path != loginEnd:
		http.Error(w, both, http.StatusNotFound)
	case mode == "good":
		w.Header().Set("X-Echo", both)
		answer(`,"echo":` + quoted(both))
	case mode == "wrong":
		raw(w, "HTTP/1.1 403 "+both+"\r\nX-Echo: "+both+"\r\nRetry-After: "+both+"\r\nConnection: close\r\n\r\n"+
			`{"errcode":`+quoted("M_"+strings.ToUpper(e.password))+`,"error":`+quoted(both)+`,"retry_after_ms":`+quoted(both)+`}`)
	case mode == "errcode":
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, `{"errcode":%s}`, quoted(e.password))
	case mode == "no-http":
		raw(w, both+"\r\n\r\n"+string(body))
	case mode == "bad-header":
		raw(w, "HTTP/1.1 200 OK\r\nContent-Length: "+both+"\r\n\r\n")
	case mode == "coding":
		w.Header().Set("Content-Encoding", both)
		answer("")
	case mode == "no-json":
		io.WriteString(w, both)
	case mode == "no-id":
		fmt.Fprintf(w, `{"user_id":{"x":%s},"device_id":%s,"access_token":%s}`, quoted(both), quoted(both), quoted(e.token))
	case mode == "cut":
		raw(w, "HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"+both)
	case mode == "302":
		w.Header().Set("Location", e.secure.URL+"/"+inURL+loginEnd+"?"+url.QueryEscape(both))
		w.WriteHeader(http.StatusFound)
	case mode == "307":
		w.Header().Set("Location", strings.Replace(e.secure.URL, "//", "//"+url.QueryEscape(e.password)+":"+url.QueryEscape(e.token)+"@", 1)+"/good"+loginEnd+"#"+url.QueryEscape(both))
		w.WriteHeader(http.StatusTemporaryRedirect)
	case mode == "307-path":
		w.Header().Set("Location", e.secure.URL+"/"+inURL+loginEnd)
		w.WriteHeader(http.StatusTemporaryRedirect)
	case mode == "307-query":
		w.Header().Set("Location", e.secure.URL+loginEnd+"?"+url.QueryEscape(both))
		w.WriteHeader(http.StatusTemporaryRedirect)
	case mode == "307-scheme":
		w.Header().Set("Location", "ftp://h.example/"+inURL)
		w.WriteHeader(http.StatusTemporaryRedirect)
	case mode == "307-no-url":
		w.Header().Set("Location", "https://h.example/%zz"+inURL)
		w.WriteHeader(http.StatusTemporaryRedirect)
	case mode == "moved":
		answer(`,"well_known":{"m.homeserver":{"base_url":` + quoted(e.secure.URL+"/good") + `}}`)
	case mode == "moved-path":
		answer(`,"well_known":{"m.homeserver":{"base_url":` + quoted(e.secure.URL+"/"+inURL) + `}}`)
	case mode == "moved-no-url":
		answer(`,"well_known":{"m.homeserver":{"base_url":` + quoted(both) + `},"m.identity_server":{"base_url":` + quoted(both) + `}}`)
	case mode == "moved-id":
		answer(`,"well_known":{"m.homeserver":{"base_url":` + quoted(e.secure.URL+"/good") + `},"m.identity_server":{"base_url":` + quoted(both) + `}}`)
	case strings.HasPrefix(mode, "versions-"):
		answer(`,"base_cs_url":` + quoted(e.secure.URL+"/"+mode))
	case mode == "reset":
		panic(http.ErrAbortHandler)
	default:
		http.Error(w, both, http.StatusTeapot)
	}
}

// flows is for a server that has seen the password before.
func (e *echoing) flows(w http.ResponseWriter, mode, both, inURL string) {
	switch mode {
	case "flows-raw":
		raw(w, both+"\r\n\r\n")
	case "flows-location":
		w.Header().Set("Location", e.secure.URL+"/"+inURL+"?"+url.QueryEscape(both))
		w.WriteHeader(http.StatusFound)
	case "flows-no-url":
		w.Header().Set("Location", "https://h.example/%zz"+inURL)
		w.WriteHeader(http.StatusFound)
	case "flows-scheme":
		w.Header().Set("Location", "ftp://h.example/"+inURL)
		w.WriteHeader(http.StatusFound)
	case "flows-text":
		io.WriteString(w, both)
	case "flows-coding":
		w.Header().Set("Content-Encoding", both)
		io.WriteString(w, both)
	case "flows-error":
		raw(w, "HTTP/1.1 500 "+both+"\r\nRetry-After: "+both+"\r\n\r\n"+`{"errcode":"M_`+strings.ToUpper(e.password)+`"}`)
	default:
		io.WriteString(w, `{"flows":[{"type":"m.login.password"}]}`)
	}
}

func (e *echoing) count(mode string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.logins[mode]
}

// echoModes are those of a POST; true if the client is logged in.
var echoModes = map[string]bool{
	"good": true, "wrong": false, "errcode": false, "no-http": false, "bad-header": false, "coding": false, "no-json": false, "no-id": false, "cut": false, "reset": false, "other": false,
	"302": false, "307": false, "307-path": false, "307-query": false, "307-scheme": false, "307-no-url": false,
	"moved": true, "moved-path": true, "moved-no-url": true, "moved-id": true, "versions-raw": true, "versions-location": true, "versions-text": true,
}

// TestSecrets runs the verbs client, login and portal against servers that
// repeat what they were told wherever they can, and looks for the password and
// the access token in all that the program writes. What the result has a field
// for, such as a device ID, is the server's to choose.
func TestSecrets(t *testing.T) {
	t.Parallel()
	program := build(t)
	for about, secrets := range map[string][2]string{
		"plain": {"Hunter2hunter2", "syt_Zm9v_T0kenT0ken"},
		"odd":   {`P4ss "w/o\rd<&>é%41`, `T0k"/+<é>&\T0k`},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			password, token := secrets[0], secrets[1]
			e := newEchoing(t, password, token)
			dir := t.TempDir()
			ca := filepath.Join(dir, "ca.pem")
			require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: e.secure.Certificate().Raw}), 0o600))
			common := []string{"--allow-net", "127.0.0.0/8", "--cacert", ca, "--timeout", "20s", "--connect-to", "example.com:443:" + strings.TrimPrefix(e.secure.URL, "https://")}
			run := func(args ...string) (out string, status int) {
				t.Helper()
				cmd := exec.CommandContext(t.Context(), program, append(args, common...)...)
				cmd.Stdin = strings.NewReader(password + "\n")
				text, err := cmd.CombinedOutput()
				require.NotNil(t, cmd.ProcessState, "%v", err)
				return string(text), cmd.ProcessState.ExitCode()
			}
			clean := func(out string, args ...string) {
				t.Helper()
				assert.Empty(t, found(out, password), "the password, of %q:\n%s", args, out)
				assert.Empty(t, found(out, token), "the token, of %q:\n%s", args, out)
			}

			for mode, good := range echoModes {
				for _, flags := range [][]string{{}, {"-v"}, {"--json"}, {"--json", "-v", "--follow-redirect"}, {"-v", "--no-validate", "--follow-redirect"}} {
					before := e.count(mode)
					args := append([]string{"login", "--password-stdin", "--homeserver", e.plain.URL + "/" + mode, "@a:example.com"}, flags...)
					out, status := run(args...)
					clean(out, args...)
					good := good || mode == "307" && len(flags) == 3
					assert.Equal(t, map[bool]int{true: statusGood, false: statusBad}[good], status, "%q: %s", args, out)
					assert.Equal(t, before+1, e.count(mode), "the server has seen the password: %q", args)
				}
			}
			assert.Equal(t, echoModes["good"], e.count("good") > 5, "a redirect was followed")
			for _, mode := range []string{"flows-raw", "flows-location", "flows-no-url", "flows-scheme", "flows-text", "flows-coding", "flows-error"} {
				for _, flags := range [][]string{{"-v"}, {"--json"}} {
					args := append([]string{"login", "--password-stdin", "--homeserver", e.plain.URL + "/" + mode, "@a:example.com"}, flags...)
					out, status := run(args...)
					clean(out, args...)
					assert.Equal(t, statusBad, status)
					assert.Zero(t, e.count(mode))
				}
			}

			// By discovery, and what discovery alone says.
			for _, args := range [][]string{{"client", "-v", "@a:example.com"}, {"client", "--json", "example.com"}, {"login", "--password-stdin", "-v", "@a:example.com"}, {"login", "--password-stdin", "--json", "@a:example.com"}} {
				out, status := run(args...)
				clean(out, args...)
				assert.Equal(t, statusGood, status, out)
				assert.Contains(t, out, "/good")
			}
			// The token is there for those who ask, so the search can find it.
			out, status := run("login", "--password-stdin", "--json", "--show-token", "@a:example.com")
			assert.Equal(t, statusGood, status)
			assert.NotEmpty(t, found(out, token))
			assert.Empty(t, found(out, password))
			// A password in the wrong place is not repeated either.
			out, status = run("login", "--password-stdin", "--homeserver", "ftp://"+url.QueryEscape(password)+"@h.example", "@a:example.com")
			assert.Equal(t, statusUsage, status)
			clean(out)

			for _, mode := range []string{"proxy", "redirect"} {
				logged := e.throughPortal(t, program, mode, dir, run, clean, common)
				clean(logged, "portal")
				assert.Contains(t, logged, "POST /_matrix/client/v3/login ")
			}
		})
	}
}

// throughPortal logs in through a portal before the echoing server, and returns
// all that the portal has written.
func (e *echoing) throughPortal(t *testing.T, program, how, dir string, run func(...string) (string, int), clean func(string, ...string), common []string) string {
	t.Helper()
	users := filepath.Join(dir, "users-"+how)
	var lines strings.Builder
	args := []string{"portal", "--listen", "127.0.0.1:0", "--mode", how, "--choose", "user-map", "--user-map", users}
	for mode := range echoModes {
		fmt.Fprintf(&lines, "@%s:example.com %s\n", mode, mode)
		args = append(args, "--target", mode+"="+e.secure.URL+"/"+mode)
	}
	args = append(args, "--target", "dead=http://127.0.0.1:1", "--target", "user=http://"+url.QueryEscape(e.password)+"@127.0.0.1:1")
	fmt.Fprint(&lines, "@dead:example.com dead\n@user:example.com user\n")
	require.NoError(t, os.WriteFile(users, []byte(lines.String()), 0o600))

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, program, append(args, common...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	said := bufio.NewReader(stderr)
	var logged strings.Builder
	address := ""
	for address == "" {
		line, err := said.ReadString('\n')
		require.NoError(t, err, "%s", logged.String())
		logged.WriteString(line)
		_, address, _ = strings.Cut(strings.TrimSpace(line), "listening on ")
	}
	rest := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(said)
		rest <- string(text)
	}()

	login := func(user string, flags ...string) int {
		args := append([]string{"login", "--password-stdin", "-v", "--homeserver", address, "@" + user + ":example.com"}, flags...)
		out, status := run(args...)
		clean(out, args...)
		return status
	}
	for mode, good := range echoModes {
		before := e.count(mode)
		status := login(mode, "--follow-redirect")
		// Who follows one redirect follows the next.
		assert.Equal(t, map[bool]int{true: statusGood, false: statusBad}[good || mode == "307"], status, "%s through %s", mode, how)
		assert.Equal(t, before+1, e.count(mode), "%s through %s", mode, how)
	}
	for _, user := range []string{"nobody", "dead", "user"} {
		assert.Equal(t, statusBad, login(user), user)
	}
	for _, path := range []string{loginEnd + "?access_token=" + url.QueryEscape(e.token), "/_matrix/client/v3/sync?access_token=" + url.QueryEscape(e.token), "/?" + url.QueryEscape(e.password)} {
		for _, body := range []string{`{"password":"` + e.password + `"}`, strings.Repeat(e.password, 100000)} {
			request, err := http.NewRequestWithContext(ctx, http.MethodPost, address+path, strings.NewReader(body))
			require.NoError(t, err)
			request.Header.Set("Authorization", "Bearer "+url.QueryEscape(e.token))
			request.Header.Set("Forwarded", "for="+url.QueryEscape(e.password))
			request.Header.Set("X-Forwarded-For", url.QueryEscape(e.password))
			response, err := http.DefaultTransport.RoundTrip(request)
			require.NoError(t, err)
			io.Copy(io.Discard, response.Body)
			response.Body.Close()
		}
	}
	cancel()
	logged.WriteString(<-rest)
	cmd.Wait()
	assert.Equal(t, statusGood, cmd.ProcessState.ExitCode(), logged.String())
	return logged.String()
}
