package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/check"
	"mxdiscover/resolver"
)

// TestDifferences: one change of a report, and what is told of it.
func TestDifferences(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*check.Report)
		want   []difference
	}{
		"nothing": {func(*check.Report) {}, nil},
		"times": {func(r *check.Report) {
			r.Duration, r.CheckedAt, r.Targets[0].Addresses[0].TCP.Duration = 1, noon.Add(time.Hour), 1
		}, nil},
		"order": {func(r *check.Report) {
			a := r.Targets[0].Addresses
			a[0], a[1] = a[1], a[0]
		}, nil},
		"verdict": {func(r *check.Report) { r.Verdict = check.Warn }, []difference{{"verdict", "", []string{"GOOD"}, []string{"WARN"}}}},
		"delegation": {func(r *check.Report) {
			r.Resolution.Targets[0].Port, r.Targets[0].Port = 8448, 8448
		}, []difference{{"delegation", "", []string{"matrix.example.org:443"}, []string{"matrix.example.org:8448"}}}},
		"rule": {func(r *check.Report) { r.Resolution.Step = "3.3" }, []difference{{"rule", "", []string{"3.2"}, []string{"3.3"}}}},
		"address": {func(r *check.Report) {
			r.Targets[0].Addresses[1].Address = netip.MustParseAddrPort("203.0.113.13:443")
		}, []difference{{"addresses", "matrix.example.org:443", []string{"203.0.113.12"}, []string{"203.0.113.13"}}}},
		"one certificate of two": {func(r *check.Report) {
			r.Targets[0].Addresses[1].TLS.Certificates[0].SHA256 = "99"
		}, []difference{{"certificate", "matrix.example.org:443", []string{}, []string{"matrix.example.org, by E7, until 2027-01-21 12:00:00 UTC, sha256 99"}}}},
		"a finding": {func(r *check.Report) {
			r.Findings = badReport().Findings[2:]
		}, []difference{{"finding", "ipv4_only", nil, []string{"page.example has no IPv6 address."}}}},
		"nothing could be seen": {func(r *check.Report) {
			r.Resolution = &resolver.Report{Result: &resolver.Result{ServerName: "example.org"}, Err: errors.New("SERVFAIL")}
			r.Targets = nil
		}, nil},
		"a handshake failed": {func(r *check.Report) { r.Targets[0].Addresses[0].TLS = nil }, nil},
		"addresses were not found": {func(r *check.Report) {
			r.Targets[0].Addresses, r.Targets[0].Error = nil, &check.Problem{Code: "address_temporary", Message: "SERVFAIL"}
		}, nil},
	} {
		r := goodReport()
		test.change(r)
		before := stateOf(goodReport(), nil)
		now := stateOf(r, before)
		assert.Equal(t, test.want, differences(before, now), name)
		if strings.HasPrefix(name, "a finding") {
			assert.Equal(t, []difference{{"finding", "ipv4_only", []string{"page.example has no IPv6 address."}, nil}}, differences(now, before), "gone")
		}
	}
}

// TestWatch: rounds are as far apart as asked for, and only changes are told,
// to people, to programs, and to the webhook, which fails at first.
func TestWatch(t *testing.T) {
	t.Parallel()
	for _, asJSON := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var (
				stdout, stderr bytes.Buffer
				rounds         []time.Time
				posted         []string
				down           = true
			)
			a := app{stdout: &output{Writer: &stdout}, stderr: &output{Writer: &stderr}}
			hook, err := newWebhook("http://user:secret@127.0.0.1:9/hook?token=secret")
			require.NoError(t, err)
			hook.client.Transport = roundTripper(func(req *http.Request) (*http.Response, error) {
				if down {
					return nil, errors.New("connection refused")
				}
				body, err := io.ReadAll(req.Body)
				posted = append(posted, string(body))
				return &http.Response{StatusCode: 204, Body: http.NoBody, Request: req}, err
			})
			w := &watcher{
				names: []string{"example.org"}, every: 5 * time.Minute, jobs: 1, hook: hook, stop: func() bool { return false },
				tell:     func(c *change) { a.printChange(c, asJSON) },
				complain: func(message string) { a.complain(message, "") },
				check: func(context.Context, string) *check.Report {
					rounds = append(rounds, time.Now())
					time.Sleep(time.Minute) // a check takes its time
					r := goodReport()
					r.CheckedAt = noon.Add(5 * time.Minute * time.Duration(len(rounds)-1))
					switch len(rounds) {
					case 3:
						r.Verdict, r.Summary, r.Findings = check.Bad, badReport().Summary, badReport().Findings[:1]
						r.Targets[0].Addresses = r.Targets[0].Addresses[:1]
					case 4:
						r.Verdict, r.Summary, r.Findings = check.Bad, badReport().Summary, badReport().Findings[:1]
						r.Targets[0].Addresses = r.Targets[0].Addresses[:1]
						down = false
					case 6:
						time.Sleep(12 * time.Minute) // longer than a round
					case 8:
						cancel()
					}
					return r
				},
			}
			w.run(ctx)
			require.Len(t, rounds, 8)
			for i, minutes := range []int{5, 5, 5, 5, 5, 13, 2} {
				assert.Equal(t, time.Duration(minutes)*time.Minute, rounds[i+1].Sub(rounds[i]), "round %d", i+2)
			}
			if asJSON {
				for line := range strings.Lines(stdout.String()) {
					var c change
					require.NoError(t, json.Unmarshal([]byte(line), &c), line)
				}
				assert.Equal(t, 3, strings.Count(stdout.String(), "\n"))
				lines := strings.SplitAfter(stdout.String(), "\n")
				assert.Equal(t, strings.TrimSuffix(strings.Join(lines[1:], ""), "\n"), strings.Join(posted, "\n"), "the webhook gets the same")
			} else {
				golden(t, filepath.Join("testdata", "check", "watch.txt"), stdout.String())
			}
			require.Len(t, posted, 2)
			assert.Contains(t, posted[0], `"verdict":"BAD"`)
			assert.Contains(t, posted[1], `"verdict":"GOOD"`)
			assert.Equal(t, "error: webhook http://127.0.0.1:9: connection refused; 1 change is kept for the next round\n", stderr.String())
		})
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// TestWatchStops when nobody reads any more.
func TestWatchStops(t *testing.T) {
	t.Parallel()
	a := app{stdout: &output{Writer: failing{}}}
	w := &watcher{
		names: []string{"a.example", "b.example"}, every: time.Hour, jobs: 1, stop: a.stdout.failed.Load,
		check: func(_ context.Context, name string) *check.Report { return &check.Report{ServerName: name} },
		tell:  func(c *change) { a.printChange(c, true) },
	}
	w.run(t.Context())
	assert.True(t, a.stdout.failed.Load())
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
