package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/memnet"
	"mxdiscover/internal/world"
	"mxdiscover/wellknown/client"
)

// clientRun is one run of "mxdiscover client".
type clientRun struct {
	stdout, stderr string
	status         int
}

// runClient runs the verb in this process, in virtual time, in the world of a
// file.
func runClient(t *testing.T, file string, args ...string) (run clientRun) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var stdout, stderr bytes.Buffer
		a := app{stdin: strings.NewReader(""), stdout: &output{Writer: &stdout}, stderr: &output{Writer: &stderr}, net: world.Memory{Network: &memnet.Network{}}}
		status := a.run(t.Context(), append([]string{"client", "--world", file}, args...))
		run = clientRun{stdout.String(), stderr.String(), status}
		time.Sleep(time.Minute) // the servers' own pauses
	})
	return run
}

// jsonObject is a JSON object whose numbers are still their text.
type jsonObject = map[string]any

func readJSON(t *testing.T, text string) (o jsonObject) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	require.NoError(t, d.Decode(&o), "%s", text)
	return o
}

const (
	allowAll = "Access-Control-Allow-Origin: *\n"
	ofJSON   = "Content-Type: application/json\n"

	// allGood is what every URL answers that is not the one at fault: a document, a
	// list of versions, and an identity server's object.
	allGood = `{"m.homeserver":{"base_url":"https://HOMESERVER"},"m.identity_server":{"base_url":"https://IDENTITY"},"versions":["v1.1","v1.11"]}`
)

// fetchWorld has a host for the document, a homeserver and an identity server that
// are good, one where redirects lead, and those that are bad.
const fetchWorld = `-- zone --
example.org. A 203.0.113.1
good.example. A 203.0.113.2
www.example. A 203.0.113.3
bad.example. A 203.0.113.9
nodata.example. TXT "a name, but no address"
servfail.example. A 203.0.113.9
refused.example. TXT "no A"
silent.example. A 203.0.113.9
private.example. A 10.0.0.8
loopback.example. A 127.0.0.1
mapped.example. AAAA ::ffff:169.254.169.254
-- dns --
servfail.example. A rcode SERVFAIL
refused.example. AAAA rcode REFUSED
silent.example. * silent
`

// A fetchFault is a way for a fetch to end badly, at a URL of one host. In its texts
// ASKED is that URL and HOST its host.
type fetchFault struct {
	about string
	code  string // without the prefix of its place
	host  string // bad.example if empty
	reply string // of the URL
	more  string // other sections

	// What must come out. The steps are those of the redirects that were followed,
	// each a URL and the detail; then comes the last request.
	followed [][2]string
	last     string // its URL; ASKED if empty
	outcome  string
	detail   string
	failed   string // the URL that the message names; last if empty
	said     string // of it; detail if empty
	ms       int
}

// redirectChain is a chain of redirects at www.example.
func redirectChain(from, to int) (sections string, followed [][2]string) {
	for i := from; i <= to; i++ {
		sections += fmt.Sprintf("-- GET https://www.example/%d --\n302\n%sLocation: /%d\n", i, allowAll, i+1)
		followed = append(followed, [2]string{fmt.Sprintf("https://www.example/%d", i), fmt.Sprintf("302, redirected to /%d", i+1)})
	}
	return sections, followed
}

func fetchFaults() []fetchFault {
	const (
		absent, invalid, temporary, denied = "absent", "invalid", "temporary", "denied"
		isJSON                             = "200\n" + allowAll + ofJSON
		one                                = "https://www.example/1"
		toOne                              = "302\n" + allowAll + "Location: " + one + "\n"
	)
	chain, followed := redirectChain(1, 10)
	return []fetchFault{
		{about: "404", code: "not_found", reply: "404\n" + allowAll, outcome: absent, detail: "status 404 Not Found"},
		{about: "404 with a document", code: "not_found", reply: "404\n" + allowAll + ofJSON + "\n" + allGood, outcome: absent, detail: "status 404 Not Found"},

		{about: "410", code: "http_status", reply: "410\n" + allowAll, outcome: absent, detail: "status 410 Gone"},
		{about: "204", code: "http_status", reply: "204\n" + allowAll, outcome: invalid, detail: "status 204 No Content"},
		{about: "304", code: "http_status", reply: "304\n" + allowAll, outcome: invalid, detail: "status 304 Not Modified"},
		{about: "206", code: "http_status", reply: "206\n" + allowAll + "\n" + allGood, outcome: invalid, detail: "status 206 Partial Content"},
		{about: "300", code: "http_status", reply: "300\n" + allowAll + "Location: " + one + "\n", outcome: invalid, detail: "status 300 Multiple Choices"},
		{about: "403", code: "http_status", reply: "403\n" + allowAll + "\n" + allGood, outcome: invalid, detail: "status 403 Forbidden"},
		{about: "429", code: "http_status", reply: "429\n" + allowAll, outcome: temporary, detail: "status 429 Too Many Requests"},
		{about: "502 with words in red", code: "http_status", reply: "502 \x1b[31m\n" + allowAll, outcome: temporary, detail: "status 502 Bad Gateway"},

		{about: "empty", code: "empty_body", reply: isJSON, outcome: invalid, detail: "the body is empty"},
		{about: "white space", code: "empty_body", reply: isJSON + "\n \t\r\n\n", outcome: invalid, detail: "the body is empty"},

		{about: "a web page", code: "not_json", reply: isJSON + "\n<!DOCTYPE html>\n", outcome: invalid, detail: "the body is HTML, not JSON"},
		{about: "bytes after the value", code: "not_json", reply: isJSON + "\n{}x\n", outcome: invalid, detail: "the body is not JSON: invalid character 'x' after top-level value (byte 3)"},
		{about: "no UTF-8", code: "not_json", reply: isJSON + "\n{\"\xff\":1}\n", outcome: invalid, detail: "byte 3 of the body, 0xff, is not UTF-8"},
		{about: "a coding that nobody asked for", code: "not_json", reply: isJSON + "Content-Encoding: br\n\n{}\n", outcome: invalid, detail: "the body has the encoding br, which was not asked for"},

		{about: "array", code: "not_object", reply: isJSON + "\n[" + allGood + "]\n", outcome: invalid, detail: "the document is an array, not an object"},
		{about: "null", code: "not_object", reply: isJSON + "\nnull\n", outcome: invalid, detail: "the document is null, not an object"},

		{about: "51201 bytes", code: "too_large", reply: isJSON + "!size 51201\n\n" + allGood, outcome: invalid, detail: "the body is larger than 51200 bytes"},
		{about: "51201 bytes in chunks", code: "too_large", reply: isJSON + "!size 51201\n!chunked\n\n" + allGood, outcome: invalid, detail: "the body is larger than 51200 bytes"},
		{about: "51201 bytes once decoded", code: "too_large", reply: isJSON + "!size 51201\n!gzip\n\n" + allGood, outcome: invalid, detail: "the body is larger than 51200 bytes"},

		{about: "no Location", code: "redirect_invalid", reply: "302\n" + allowAll, outcome: invalid, detail: "status 302 Found without a Location"},
		{about: "a Location without a host", code: "redirect_invalid", reply: "302\n" + allowAll + "Location: https:///x\n", outcome: invalid,
			detail: "302, redirected to https:///x, which names no valid host", failed: "https:///x", said: "redirected to https:///x, which names no valid host"},
		{about: "a Location that is no URL", code: "redirect_invalid", reply: "302\n" + allowAll + "Location: https://%zz/\n", outcome: invalid,
			detail: "302, redirected to https://%zz/, which is not a URL", failed: "https://%zz/", said: "redirected to https://%zz/, which is not a URL"},

		{about: "301 to http", code: "redirect_insecure", reply: "301\n" + allowAll + "Location: http://www.example/\n", outcome: invalid,
			detail: "301, redirected to http://www.example/, which is not https", failed: "http://www.example/", said: "redirected to http://www.example/, which is not https"},
		{about: "to http at last", code: "redirect_insecure", reply: toOne, more: "-- GET https://www.example/1 --\n307\n" + allowAll + "Location: http://www.example/\n", outcome: invalid,
			followed: [][2]string{{"ASKED", "302, redirected to " + one}}, last: one,
			detail: "307, redirected to http://www.example/, which is not https", failed: "http://www.example/", said: "redirected to http://www.example/, which is not https"},
		{about: "to another scheme", code: "redirect_insecure", reply: "308\n" + allowAll + "Location: matrix:u/a:b\n", outcome: invalid,
			detail: "308, redirected to matrix:u/a:b, which is not https", failed: "matrix:u/a:b", said: "redirected to matrix:u/a:b, which is not https"},

		{about: "303 to itself", code: "redirect_loop", reply: "303\n" + allowAll + "Location: ASKED#x\n", outcome: temporary,
			detail: "303, redirected to the same address again", said: "redirected to the same address again"},
		{about: "an eleventh redirect", code: "redirect_loop", reply: toOne, more: chain, outcome: temporary,
			followed: append([][2]string{{"ASKED", "302, redirected to " + one}}, followed[:9]...), last: "https://www.example/10",
			detail: "302, more than 10 redirects", failed: "https://www.example/11", said: "more than 10 redirects"},

		{about: "NXDOMAIN", code: "no_address", host: "nowhere.example", outcome: temporary, detail: "HOST has no address (no A and no AAAA record)"},
		{about: "NODATA", code: "no_address", host: "nodata.example", outcome: temporary, detail: "HOST has no address (no A and no AAAA record)"},

		{about: "SERVFAIL", code: "dns_error", host: "servfail.example", outcome: temporary,
			detail: "the addresses of HOST could not be looked up: A HOST: SERVFAIL from 192.0.2.53:53"},
		{about: "REFUSED", code: "dns_error", host: "refused.example", outcome: temporary,
			detail: "the addresses of HOST could not be looked up: AAAA HOST: REFUSED from 192.0.2.53:53"},

		{about: "a private address", code: "address_denied", host: "private.example", outcome: denied,
			detail: "HOST:443: 10.0.0.8 may not be dialled: Private-Use (RFC 1918), 10.0.0.0/8"},
		{about: "a loopback address", code: "address_denied", host: "loopback.example", outcome: denied,
			detail: "HOST:443: 127.0.0.1 may not be dialled: Loopback (RFC 1122, Section 3.2.1.3), 127.0.0.0/8"},
		{about: "a mapped address", code: "address_denied", host: "mapped.example", outcome: denied,
			detail: "HOST:443: ::ffff:169.254.169.254 (169.254.169.254) may not be dialled: Link Local (RFC 3927), 169.254.0.0/16"},
		{about: "an IP literal", code: "address_denied", host: "[fd00::1]", outcome: denied,
			detail: "HOST:443: fd00::1 may not be dialled: Unique-Local (RFC 4193, RFC 8190), fc00::/7"},
		{about: "redirected to a private address", code: "address_denied", reply: "302\n" + allowAll + "Location: https://169.254.169.254/\n", outcome: denied,
			followed: [][2]string{{"ASKED", "302, redirected to https://169.254.169.254/"}}, last: "https://169.254.169.254/",
			detail: "169.254.169.254:443: 169.254.169.254 may not be dialled: Link Local (RFC 3927), 169.254.0.0/16"},

		{about: "refused", code: "connect_failed", more: "-- servers --\n203.0.113.9:443 refuse\n", outcome: temporary, detail: "HOST:443 (203.0.113.9:443): connection refused"},
		{about: "reset", code: "connect_failed", reply: "!reset\n", outcome: temporary, detail: "the connection was reset before the answer was complete"},
		{about: "reset within the body", code: "connect_failed", reply: isJSON + "!reset-after 9\n\n" + allGood, outcome: temporary, detail: "the connection was reset before the answer was complete"},
		{about: "ends before its length", code: "connect_failed", reply: isJSON + "!content-length 999\n\n" + allGood, outcome: temporary, detail: "the connection was closed before the answer was complete"},
		{about: "not HTTP", code: "connect_failed", reply: "!raw\nHELO \x1b[31m\r\n", outcome: temporary,
			detail: `net/http: HTTP/1.x transport connection broken: malformed HTTP status code "\x1b[31m"`},

		{about: "expired", code: "tls_failed", more: "-- servers --\n203.0.113.9:443 cert expired\n", outcome: temporary,
			detail: "HOST:443 (203.0.113.9:443): the certificate expired on 1999-12-31 23:00 UTC"},
		{about: "self-signed", code: "tls_failed", more: "-- servers --\n203.0.113.9:443 cert self-signed\n", outcome: temporary,
			detail: "HOST:443 (203.0.113.9:443): the certificate is self-signed"},
		{about: "for another name", code: "tls_failed", more: "-- servers --\n203.0.113.9:443 cert names=other.example\n", outcome: temporary,
			detail: "HOST:443 (203.0.113.9:443): the certificate is valid for other.example, not for HOST"},
		{about: "no TLS", code: "tls_failed", more: "-- servers --\n203.0.113.9:443 plain\n", outcome: temporary,
			detail: "HOST:443 (203.0.113.9:443): the port does not speak TLS"},

		{about: "a black hole", code: "timeout", more: "-- servers --\n203.0.113.9:443 drop\n", outcome: temporary, detail: "no connection within 5s", ms: 5000},
		{about: "a silent handshake", code: "timeout", more: "-- servers --\n203.0.113.9:443 stall-handshake\n", outcome: temporary, detail: "no connection within 5s", ms: 5000},
		{about: "a silent DNS", code: "timeout", host: "silent.example", outcome: temporary, detail: "no connection within 5s", ms: 5000},
		{about: "a late answer", code: "timeout", reply: isJSON + "!delay 6s\n\n" + allGood, outcome: temporary, detail: "no complete answer within 5s", ms: 5000},
		{about: "a slow body", code: "timeout", reply: isJSON + "!slow 1 1s\n\n" + allGood, outcome: temporary, detail: "no complete answer within 5s", ms: 5000},
	}
}

// TestEveryFetchCode: each code that a fetch can end with, in each of the three
// places and under both rules: all that the program prints.
func TestEveryFetchCode(t *testing.T) {
	t.Parallel()
	codes := make(map[string]bool)
	for _, f := range fetchFaults() {
		codes[f.code] = true
		for _, rules := range []string{"current", "draft-2018"} {
			t.Run(f.code+"/"+f.about+"/"+rules, func(t *testing.T) {
				t.Parallel()
				f.document(t, rules)
				f.versions(t, rules)
				f.identity(t, rules)
			})
		}
	}
	var got []string
	for code := range codes {
		got = append(got, code)
	}
	slices.Sort(got)
	assert.Equal(t, strings.Fields(`address_denied connect_failed dns_error empty_body http_status no_address not_found not_json not_object
		redirect_insecure redirect_invalid redirect_loop timeout tls_failed too_large`), got, "none is left out")
}

// at is the host of the fault.
func (f fetchFault) at() string {
	if f.host != "" {
		return f.host
	}
	return "bad.example"
}

// world has the fault at a URL; hs and id are what the document names, if that is
// not the fault itself.
func (f fetchFault) world(t *testing.T, url, hs, id string) string {
	t.Helper()
	sections := fetchWorld + f.more
	good := func(url string) {
		sections += "-- GET " + url + " --\n200\n" + allowAll + ofJSON + "\n" + goodDocument(hs, id) + "\n"
	}
	good("https://example.org/.well-known/matrix/client")
	good("https://good.example/_matrix/client/versions")
	good("https://good.example/_matrix/identity/v2")
	good("https://good.example/_matrix/identity/api/v1")
	if f.reply != "" {
		sections += "-- GET " + url + " --\n" + strings.NewReplacer("ASKED", url, "HOMESERVER", "good.example", "IDENTITY", "good.example").Replace(f.reply) + "\n"
	}
	file := filepath.Join(t.TempDir(), "world.txtar")
	require.NoError(t, os.WriteFile(file, []byte(sections), 0o600))
	return file
}

func goodDocument(hs, id string) string {
	return strings.NewReplacer("HOMESERVER", hs, "IDENTITY", id).Replace(allGood)
}

// fetchStep is a step of the output.
func fetchStep(rule, url, outcome, detail string, ms int) any {
	return jsonObject{"rule": rule, "query": "GET " + url, "outcome": outcome, "detail": detail, "duration_ms": json.Number(fmt.Sprint(ms))}
}

// evidence is what the fault leaves behind: its steps and the reason.
func (f fetchFault) evidence(rule, url, prefix string) (steps []any, reason jsonObject) {
	fill := strings.NewReplacer("ASKED", url, "HOST", f.at()).Replace
	or := func(text, otherwise string) string {
		if text == "" {
			text = otherwise
		}
		return fill(text)
	}
	for _, step := range f.followed {
		steps = append(steps, fetchStep(rule, fill(step[0]), "used", fill(step[1]), 0))
	}
	last := or(f.last, "ASKED")
	steps = append(steps, fetchStep(rule, last, f.outcome, fill(f.detail), f.ms))
	return steps, jsonObject{"code": prefix + f.code, "message": "GET " + or(f.failed, last) + ": " + or(f.said, f.detail)}
}

// redirected reports whether the URL itself answers with a redirect to somewhere.
func (f fetchFault) redirected() bool {
	return strings.Contains(f.reply, "Location: ") && !strings.HasPrefix(f.reply, "300")
}

// checkClient compares all that the program prints, with --json and without.
func checkClient(t *testing.T, file string, want jsonObject, args ...string) {
	t.Helper()
	status := statusBad
	if want["state"] == "SUCCESS" {
		status = statusGood
	}
	run := runClient(t, file, append([]string{"--json"}, args...)...)
	assert.Equal(t, 1, strings.Count(run.stdout, "\n"), "one line")
	assert.Equal(t, want, readJSON(t, run.stdout))
	assert.Empty(t, run.stderr)
	assert.Equal(t, status, run.status)

	run = runClient(t, file, args...)
	assert.Equal(t, status, run.status)
	for _, out := range []string{run.stdout, run.stderr} {
		assert.NotContains(t, out, "\x1b")
		assert.NotContains(t, out, "\u009b")
	}
	for _, warning := range want["warnings"].([]any) {
		assert.Contains(t, run.stderr, fmt.Sprintf("warning: %s: %s\n", want["name"], warning.(jsonObject)["message"]))
	}
	if failed, ok := want["error"].(jsonObject); ok {
		assert.Empty(t, run.stdout)
		assert.Contains(t, run.stderr, fmt.Sprintf("error: %s: %s (%s): %s\n", want["name"], want["state"], failed["code"], failed["message"]))
		return
	}
	assert.NotContains(t, run.stderr, "error: ")
	assert.Contains(t, run.stdout, fmt.Sprintf("  homeserver   %s\n", want["homeserver"].(jsonObject)["base_url"]))
	switch identity := want["identity_server"].(jsonObject); identity["state"] {
	case "PROMPT":
		assert.Contains(t, run.stdout, "  identity     none named\n")
	case "SUCCESS":
		assert.Contains(t, run.stdout, fmt.Sprintf("  identity     %s\n", identity["base_url"]))
	default:
		assert.Contains(t, run.stdout, fmt.Sprintf("  identity     %s (%s):", identity["state"], identity["reason"].(jsonObject)["code"]))
	}
}

// document: the well-known itself is at fault.
func (f fetchFault) document(t *testing.T, rules string) {
	url := "https://" + f.at() + "/.well-known/matrix/client"
	steps, reason := f.evidence("3", url, "")
	state, homeserver := "FAIL_PROMPT", "FAIL_PROMPT"
	if f.code == "not_found" {
		state, homeserver = "IGNORE", "PROMPT"
	}
	name := "@alice:" + f.at()
	checkClient(t, f.world(t, url, "good.example", "good.example"), jsonObject{
		"name": name, "server_name": f.at(), "hostname": f.at(), "state": state,
		"homeserver":      jsonObject{"state": homeserver, "reason": reason},
		"identity_server": jsonObject{"state": "PROMPT"},
		"steps":           steps, "warnings": []any{}, "error": reason,
	}, "--rules", rules, name)
}

// goodExtra is what is left of allGood where it serves as a document.
func goodExtra() jsonObject { return jsonObject{"versions": []any{"v1.1", "v1.11"}} }

// documentStep is the step of the document that names these hosts.
func documentStep(hs, id string) any {
	return fetchStep("3", "https://example.org/.well-known/matrix/client", "used", fmt.Sprintf("200, %d bytes", len(goodDocument(hs, id))), 0)
}

// versions: the homeserver is at fault, its base_url is kept, and nobody asks the
// identity server.
func (f fetchFault) versions(t *testing.T, rules string) {
	base := "https://" + f.at()
	url := base + "/_matrix/client/versions"
	steps, reason := f.evidence("3.5", url, "versions_")
	warnings := []any{}
	if f.redirected() {
		warnings = append(warnings, jsonObject{"code": "versions_redirected", "message": "GET " + url + " was redirected; the base URL stays " + base})
	}
	checkClient(t, f.world(t, url, f.at(), "good.example"), jsonObject{
		"name": "@alice:example.org", "server_name": "example.org", "hostname": "example.org", "state": "FAIL_ERROR",
		"homeserver":      jsonObject{"state": "FAIL_ERROR", "base_url": base, "reason": reason},
		"identity_server": jsonObject{"state": "PROMPT"},
		"extra":           goodExtra(),
		"steps":           append([]any{documentStep(f.at(), "good.example")}, steps...), "warnings": warnings, "error": reason,
	}, "@alice:example.org", "--rules="+rules)
}

// identity: the identity server is at fault and spoils nothing but itself (MSC2284),
// or everything (r0.4.0).
func (f fetchFault) identity(t *testing.T, rules string) {
	base := "https://" + f.at()
	url := base + "/_matrix/identity/v2"
	if rules == "draft-2018" {
		url = base + "/_matrix/identity/api/v1"
	}
	steps, reason := f.evidence("3.6", url, "identity_")
	want := jsonObject{
		"name": "example.org", "server_name": "example.org", "hostname": "example.org", "state": "SUCCESS",
		"homeserver":      jsonObject{"state": "SUCCESS", "base_url": "https://good.example", "versions": []any{"v1.1", "v1.11"}},
		"identity_server": jsonObject{"state": "FAIL_PROMPT", "base_url": base, "reason": reason},
		"extra":           goodExtra(),
		"steps": append([]any{
			documentStep("good.example", f.at()),
			fetchStep("3.5", "https://good.example/_matrix/client/versions", "used", fmt.Sprintf("200, %d bytes", len(goodDocument("good.example", f.at()))), 0),
		}, steps...),
		"warnings": []any{},
	}
	if rules == "draft-2018" {
		want["state"], want["error"] = "FAIL_ERROR", reason
		want["identity_server"].(jsonObject)["state"] = "FAIL_ERROR"
	}
	checkClient(t, f.world(t, url, "good.example", f.at()), want, "example.org", "--rules", rules)
}

// TestClientScenes: the rules that no fetch decides, each a scene. Its sections
// "resolve" have arguments, and the whole object but for the durations.
func TestClientScenes(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/fetchcodes-*.txtar")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		scene, err := world.Load(file)
		require.NoError(t, err)
		require.NotEmpty(t, scene.Script(), file)
		for _, step := range scene.Script() {
			step, ok := step.(world.Resolve)
			require.True(t, ok, "%s: nothing but names is asked for", file)
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar")+"/"+step.Name, func(t *testing.T) {
				t.Parallel()
				want := readJSON(t, string(step.Want))
				for _, request := range want["steps"].([]any) {
					request.(jsonObject)["duration_ms"] = json.Number("0") // time stands still
				}
				checkClient(t, file, want, strings.Fields(step.Name)...)
			})
		}
	}
}

// TestClientNames: one jsonObject for each argument, in their order, and one that is
// no success makes the status 1.
func TestClientNames(t *testing.T) {
	t.Parallel()
	const file = "testdata/fetchcodes-identity.txtar"
	names := func(stdout string) (list []string) {
		for line := range strings.Lines(stdout) {
			list = append(list, readJSON(t, line)["name"].(string))
		}
		return list
	}
	run := runClient(t, file, "id-too.example", "--json", "@a:string-id.example", "null-id.example")
	assert.Equal(t, []string{"id-too.example", "@a:string-id.example", "null-id.example"}, names(run.stdout))
	assert.Equal(t, statusGood, run.status, "an identity server spoils nothing but itself")
	run = runClient(t, file, "--json", "id-too.example", "@a", "null-id.example", "id-too.example")
	assert.Equal(t, []string{"id-too.example", "@a", "null-id.example", "id-too.example"}, names(run.stdout))
	assert.Equal(t, statusBad, run.status)
	for _, args := range [][]string{{}, {"--rules", "draft-2019", "id-too.example"}, {"--allow-net", "10.0.0.1", "id-too.example"}, {"id-too.example", "--nonsense"}, {"--timeout=0", "id-too.example"}} {
		run = runClient(t, file, args...)
		assert.Empty(t, run.stdout, "%q", args)
		assert.NotEmpty(t, run.stderr, "%q", args)
		assert.Equal(t, statusUsage, run.status, "%q", args)
	}
}

// TestClientTimeout: --timeout bounds the work for one name, and no longer than
// five seconds is spent on one request.
func TestClientTimeout(t *testing.T) {
	t.Parallel()
	i := slices.IndexFunc(fetchFaults(), func(f fetchFault) bool { return f.about == "a black hole" })
	file := fetchFaults()[i].world(t, "", "bad.example", "bad.example")
	for timeout, took := range map[string]int{"2s": 2000, "3": 3000, "1m": 5000} {
		run := runClient(t, file, "--json", "--timeout", timeout, "example.org")
		got := readJSON(t, run.stdout)
		steps := got["steps"].([]any)
		assert.Equal(t, []any{
			documentStep("bad.example", "bad.example"),
			fetchStep("3.5", "https://bad.example/_matrix/client/versions", "temporary", fmt.Sprintf("no connection within %ds", took/1000), took),
		}, steps)
		assert.Equal(t, "versions_timeout", got["error"].(jsonObject)["code"])
	}
}

// TestStateHint: a hint says what to change where that can be told, and nothing
// that is wrong in this place.
func TestStateHint(t *testing.T) {
	t.Parallel()
	hint := func(code, message string) string {
		return stateHint(&client.Discovery{
			Name: "x.example", Hostname: "x.example", Error: &client.Reason{Code: client.Code(code), Message: message},
			Steps: []client.Step{{Query: "GET https://x.example/.well-known/matrix/client"}},
		})
	}
	for code, want := range map[string]string{
		"homeserver_missing": `serve {"m.homeserver":{"base_url":"https://HOST"}} at https://x.example/.well-known/matrix/client`,
		"base_url_missing":   "serve ", "base_url_invalid": "serve ",
		"not_found": "by other means", "not_json": "asks for the homeserver's URL", "not_object": "asks for the homeserver's URL", "empty_body": "asks for the homeserver's URL",
		"http_status": "a login, a filter or a wrong path", "too_large": "some other page",
		"redirect_invalid": "correct the redirect", "redirect_loop": "correct the redirect", "redirect_insecure": "redirect to https",
		"no_address": "check the spelling", "dns_error": "--dns", "address_denied": "--allow-net", "connect_failed": "firewall", "tls_failed": "certificate", "timeout": "firewall",
		"versions_not_found": "does not answer as one", "versions_schema": "does not answer as one", "versions_http_status": "does not answer as one", "versions_redirect_loop": "does not answer as one",
		"versions_no_address": "correct the base_url", "versions_address_denied": "--allow-net", "versions_tls_failed": "certificate", "versions_redirect_insecure": "redirect to https",
		"identity_not_found": "bad identity server spoils all", "identity_base_url_missing": "bad identity server spoils all", "identity_address_denied": "bad identity server spoils all",
	} {
		got := hint(code, "the certificate is no good")
		assert.Contains(t, got, want, code)
		assert.NotContains(t, got, "m.server", code)
	}
	assert.Contains(t, hint("http_status", "status 502 Bad Gateway"), "is failing")
	assert.Empty(t, hint("canceled", ""), "who gave up knows")
	// Names, not codes, that a newcomer gives.
	for name, want := range map[string]string{
		"alice":                    "hint: the name has no dot: give a Matrix ID such as @alice:example.org, or a server name\n",
		"alice.test":               "hint: check the spelling; the host needs an A or AAAA record for its web server\n",
		"alice@example.org":        "hint: did you mean example.org?\n",
		"10.0.0.8:8448":            "hint: others may see another address (try --dns); if this network is yours, use --allow-net 10.0.0.8/32\n",
		"[::ffff:169.254.169.254]": "use --allow-net 169.254.169.254/32\n",
		"[fd00::1]":                "use --allow-net fd00::1/128\n",
		"0.0.0.0":                  "hint: this is no address of a server: correct the record\n",
	} {
		assert.Contains(t, runClient(t, "testdata/fetchcodes-extra.txtar", name).stderr, want, name)
	}
	run := runClient(t, "testdata/fetchcodes-extra.txtar", "--allow-net", "10.0.0.8/32", "10.0.0.8")
	assert.Contains(t, run.stderr, "(connect_failed)", "the hint does what it says")
}
