package check_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"mxdiscover/check"
	"mxdiscover/internal/memnet"
	"mxdiscover/internal/world"
	"mxdiscover/resolver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// in runs a test inside a scene, in virtual time; one way takes a millisecond.
func in(t *testing.T, scene string, test func(t *testing.T, w *world.World, c *check.Checker)) {
	t.Helper()
	parsed, err := world.Parse(t.Name(), []byte(scene))
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		w, err := parsed.Start(world.Memory{Network: &memnet.Network{Latency: time.Millisecond}})
		require.NoError(t, err)
		defer w.Close()
		test(t, w, checkerIn(w))
	})
}

func codes(r *check.Report) []string {
	var list []string
	for _, f := range r.Findings {
		list = append(list, f.Code)
	}
	return list
}

const good = `
-- zone --
example.org.         A     203.0.113.10
example.org.         AAAA  2001:db8::10
matrix.example.org.  A     203.0.113.20
matrix.example.org.  AAAA  2001:db8::20
-- GET https://example.org/.well-known/matrix/server --
200
Content-Type: application/json

{"m.server": "matrix.example.org:443"}
-- matrix https://matrix.example.org --
server-name example.org
`

// dark is a world where every address of everything is a black hole.
func dark() string {
	var servers strings.Builder
	for i := range 20 {
		fmt.Fprintf(&servers, "203.0.113.%d:8448 drop\n", 101+i)
	}
	return darkZone + servers.String()
}

const darkZone = `
-- zone --
$TTL 300
dark.example.  A     203.0.113.10
dark.example.  AAAA  2001:db8::10
$GENERATE 1-20 _matrix-fed._tcp.dark.example. SRV $ 5 8448 t$.dark.example.
$GENERATE 1-20 t$.dark.example. A 203.0.113.${100}
-- servers --
203.0.113.10:443 drop
[2001:db8::10]:443 drop
`

func TestEvents(t *testing.T) {
	t.Parallel()
	in(t, good, func(t *testing.T, w *world.World, c *check.Checker) {
		var (
			kinds   []check.EventKind
			lines   [][]byte
			over    bool
			log     bytes.Buffer
			asked   []string
			last    check.Event
			targets = make(map[string]int)
		)
		c.OnEvent = func(e check.Event) { // one at a time: -race would tell
			assert.False(t, over, "an event after the last one")
			kinds = append(kinds, e.Kind)
			line, err := json.Marshal(e)
			assert.NoError(t, err)
			lines = append(lines, line)
			if e.Asked != nil {
				asked = append(asked, e.Asked.Query)
			}
			if e.Kind == check.EventAddress {
				targets[e.Of]++
			}
			last, over = e, e.Kind == check.EventReport
		}
		inner := c.NewResolver
		c.NewResolver = func() *resolver.Resolver {
			r := inner()
			r.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			return r
		}
		report := c.Check(t.Context(), "example.org")
		require.Equal(t, check.Good, report.Verdict)
		assert.True(t, over)
		assert.Same(t, report, last.Report)
		count := make(map[check.EventKind]int)
		for _, kind := range kinds {
			count[kind]++
		}
		assert.Equal(t, 2, count[check.EventWellKnown])
		assert.Equal(t, 1, count[check.EventTarget])
		assert.Equal(t, map[string]int{"matrix.example.org:443": 2}, targets)
		assert.Equal(t, len(report.Resolution.Steps()), count[check.EventStep])
		assert.Equal(t, len(report.Findings), count[check.EventFinding])
		assert.Less(t, slices.Index(kinds, check.EventStep), slices.Index(kinds, check.EventTarget))
		assert.Less(t, slices.Index(kinds, check.EventTarget), slices.Index(kinds, check.EventAddress))
		assert.Contains(t, asked, "GET https://example.org/.well-known/matrix/server")
		assert.Contains(t, asked, "AAAA matrix.example.org")
		assert.Contains(t, asked, "SRV _matrix-fed._tcp.example.org")
		assert.Contains(t, log.String(), "well-known", "the caller's log has it too")

		again, err := json.Marshal(check.Event{Kind: check.EventReport, Report: report})
		require.NoError(t, err)
		assert.JSONEq(t, string(again), string(lines[len(lines)-1]))
	})
}

// leftovers are goroutines of this test's bubble that run code of the check.
func leftovers() []string {
	buf := make([]byte, 16<<20)
	all := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
	_, bubble, _ := strings.Cut(all[0], "synctest bubble ")
	bubble, _, _ = strings.Cut(bubble, "]")
	var list []string
	for _, stack := range all[1:] {
		header, _, _ := strings.Cut(stack, "\n")
		if !strings.Contains(header, "synctest bubble "+bubble+"]") || strings.Contains(stack, "mxdiscover/internal/world.") {
			continue
		}
		for _, ours := range []string{"mxdiscover/check.", "mxdiscover/resolver.", "mxdiscover/srv.", "mxdiscover/wellknown.", "mxdiscover/cache.", "net/http.(*persistConn)", "net/http.(*http2ClientConn)"} {
			if strings.Contains(stack, "\n"+ours) {
				list = append(list, stack)
				break
			}
		}
	}
	return list
}

// TestCancel: whoever gives up gets what is known, at once, and nothing goes on.
func TestCancel(t *testing.T) {
	t.Parallel()
	slow := strings.Replace(good, "server-name example.org", "server-name example.org\ndelay 8s", 1)
	silent := strings.Replace(good, "-- GET", "-- dns --\n*.matrix.example.org. SRV silent\n*.example.org. SRV silent\n-- GET", 1)
	for _, test := range []struct {
		about, scene, name string
		after              time.Duration
	}{
		{"before anything", good, "example.org", 0},
		{"connecting", dark(), "dark.example", time.Second},
		{"connecting to targets", dark(), "dark.example", 12 * time.Second},
		{"waiting for an answer", slow, "example.org", time.Second},
		{"waiting for DNS", silent, "example.org", 500 * time.Millisecond},
	} {
		t.Run(test.about, func(t *testing.T) {
			t.Parallel()
			in(t, test.scene, func(t *testing.T, w *world.World, c *check.Checker) {
				ctx, cancel := context.WithCancel(t.Context())
				if test.after == 0 {
					cancel()
				} else {
					time.AfterFunc(test.after, cancel)
				}
				late := false
				over := false
				c.OnEvent = func(check.Event) { late = over }
				began := time.Now()
				report := c.Check(ctx, test.name)
				over = true
				assert.Equal(t, test.after, time.Since(began))
				assert.Equal(t, check.Bad, report.Verdict)
				assert.Contains(t, codes(report), "check_timeout")
				assert.Equal(t, []string{"check_timeout"}, codes(report)[:1], "what was cut off is nobody's fault: %v", report.Findings)
				synctest.Wait()
				assert.Empty(t, leftovers())
				time.Sleep(time.Minute)
				assert.False(t, late)
			})
		})
	}
}

// TestTimeout: the Checker's own bound.
func TestTimeout(t *testing.T) {
	t.Parallel()
	in(t, dark(), func(t *testing.T, w *world.World, c *check.Checker) {
		c.Timeout = 3 * time.Second
		began := time.Now()
		report := c.Check(t.Context(), "dark.example")
		assert.Equal(t, 3*time.Second, time.Since(began))
		assert.Contains(t, codes(report), "check_timeout")
		assert.Equal(t, check.Duration(3*time.Second), report.Duration)
	})
}

// TestBounds: twenty targets in the dark are not all waited for, and the check
// comes to its end by itself.
func TestBounds(t *testing.T) {
	t.Parallel()
	in(t, dark(), func(t *testing.T, w *world.World, c *check.Checker) {
		var open, most, dials atomic.Int32
		inner := c.NewResolver
		c.NewResolver = func() *resolver.Resolver {
			r := inner()
			dial := r.DialContext
			r.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				dials.Add(1)
				most.Store(max(most.Load(), open.Add(1)))
				defer open.Add(-1)
				return dial(ctx, network, address)
			}
			return r
		}
		report := c.Check(t.Context(), "dark.example")
		assert.NotContains(t, codes(report), "check_timeout")
		assert.Contains(t, codes(report), "connect_timeout")
		assert.Contains(t, codes(report), "srv_too_many")
		assert.Len(t, report.Targets, check.MaxTargets)
		assert.LessOrEqual(t, most.Load(), int32(2*16))
		assert.Less(t, time.Duration(report.Duration), 40*time.Second)
	})
}

// TestMaxAddresses: of many addresses of many targets some are tried, of both
// families.
func TestMaxAddresses(t *testing.T) {
	t.Parallel()
	var zone strings.Builder
	zone.WriteString("-- zone --\n")
	for i := range 6 {
		fmt.Fprintf(&zone, "_matrix-fed._tcp.many.example. SRV %d 5 8448 t%d.many.example.\n", i, i)
		for k := range 12 {
			fmt.Fprintf(&zone, "t%d.many.example. A 203.0.113.%d\nt%d.many.example. AAAA 2001:db8::%d:%d\n", i, 12*i+k+1, i, i+1, k+1)
		}
	}
	in(t, zone.String(), func(t *testing.T, w *world.World, c *check.Checker) {
		report := c.Check(t.Context(), "many.example")
		total := 0
		for _, target := range report.Targets {
			assert.LessOrEqual(t, len(target.Addresses), check.MaxTargetAddresses)
			total += len(target.Addresses)
		}
		assert.Equal(t, check.MaxAddresses, total)
		four := 0
		for _, a := range report.Targets[0].Addresses {
			if a.Address.Addr().Is4() {
				four++
			}
		}
		assert.Equal(t, check.MaxTargetAddresses/2, four)
	})
}

// TestGuard: nothing private is connected to, wherever it is named.
func TestGuard(t *testing.T) {
	t.Parallel()
	const scene = `
-- zone --
one.example.     A  203.0.113.10
two.example.     A  10.0.0.1
three.example.   A  203.0.113.11
four.example.    A  203.0.113.12
four.example.    A  192.168.0.1
_matrix-fed._tcp.four.example.  SRV  1 1 8448 four.example.
_matrix-fed._tcp.four.example.  SRV  2 1 8448 two.example.
five.example.    A  203.0.113.13
-- GET https://one.example/.well-known/matrix/server --
302
Location: https://two.example/x
-- GET https://three.example/.well-known/matrix/server --
200

{"m.server": "two.example:443"}
-- GET https://five.example/.well-known/matrix/server --
200

{"m.server": "127.0.0.1:8080"}
`
	for _, name := range []string{"one.example", "two.example", "three.example", "four.example", "five.example", "10.0.0.1", "[::1]:8448", "two.example:22"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in(t, scene, func(t *testing.T, w *world.World, c *check.Checker) {
				inner := c.NewResolver
				c.NewResolver = func() *resolver.Resolver {
					r := inner()
					dial := r.DialContext
					r.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
						at := netip.MustParseAddrPort(address).Addr()
						assert.False(t, at.IsPrivate() || at.IsLoopback(), address)
						return dial(ctx, network, address)
					}
					return r
				}
				report := c.Check(t.Context(), name)
				assert.Equal(t, check.Bad, report.Verdict)
			})
		})
	}
}

// TestDraft: the rules of the draft of 2019.
func TestDraft(t *testing.T) {
	t.Parallel()
	const draft = "-- options --\nrules draft-2019\n"
	t.Run("a bad document ends everything", func(t *testing.T) {
		t.Parallel()
		page := strings.Replace(good, `{"m.server": "matrix.example.org:443"}`, "<html>", 1) + draft
		in(t, page, func(t *testing.T, _ *world.World, c *check.Checker) {
			report := c.Check(t.Context(), "example.org")
			assert.Equal(t, check.Bad, report.Verdict)
			assert.Equal(t, []string{"well_known_html"}, codes(report))
			assert.Equal(t, "draft-2019", report.Rules)
			assert.Empty(t, report.Targets)
			assert.Equal(t, resolver.Skipped, way(t, report, "6").Outcome)
		})
	})
	t.Run("the new SRV name does not exist", func(t *testing.T) {
		t.Parallel()
		const scene = `
-- zone --
example.org.         A     203.0.113.10
example.org.         AAAA  2001:db8::10
_matrix-fed._tcp.example.org.  SRV 10 5 8449 example.org.
_matrix._tcp.example.org.      SRV 10 5 8450 example.org.
-- servers --
203.0.113.10:443
[2001:db8::10]:443
-- matrix https://example.org:8450 --
any-host
`
		in(t, scene+draft, func(t *testing.T, w *world.World, c *check.Checker) {
			report := c.Check(t.Context(), "example.org")
			assert.Equal(t, check.Good, report.Verdict, report.Summary)
			assert.NotContains(t, codes(report), "srv_legacy_only")
			assert.NotContains(t, strings.Join(w.Asked(), "\n"), "_matrix-fed")
			assert.Empty(t, way(t, report, "4").Targets)
			assert.Equal(t, []string{"example.org:8450"}, way(t, report, "5").Targets)
		})
	})
	t.Run("an IP literal's port is not in the Host header", func(t *testing.T) {
		t.Parallel()
		const scene = "-- matrix https://203.0.113.10:8449 --\nserver-name 203.0.113.10:8449\nonly-host 203.0.113.10\n"
		in(t, scene+draft, func(t *testing.T, _ *world.World, c *check.Checker) {
			report := c.Check(t.Context(), "203.0.113.10:8449")
			assert.Equal(t, check.Good, report.Verdict, report.Summary)
		})
		in(t, scene, func(t *testing.T, _ *world.World, c *check.Checker) {
			report := c.Check(t.Context(), "203.0.113.10:8449")
			assert.Contains(t, codes(report), "host_header")
		})
	})
}

func way(t *testing.T, r *check.Report, rule string) check.Way {
	t.Helper()
	i := slices.IndexFunc(r.Ways, func(w check.Way) bool { return w.Rule == rule })
	require.GreaterOrEqual(t, i, 0, "no way %s", rule)
	return r.Ways[i]
}

// TestWays: what the rules would give that do not decide.
func TestWays(t *testing.T) {
	t.Parallel()
	scene := strings.Replace(good, "-- GET", "_matrix-fed._tcp.example.org. SRV 10 5 443 matrix.example.org.\n_matrix._tcp.example.org. SRV 10 5 8448 old.example.org.\n-- GET", 1)
	in(t, scene, func(t *testing.T, _ *world.World, c *check.Checker) {
		report := c.Check(t.Context(), "example.org")
		assert.Equal(t, []string{"matrix.example.org:443"}, way(t, report, "3.2").Targets)
		assert.Nil(t, way(t, report, "3.2").Agrees)
		four, five, six := way(t, report, "4"), way(t, report, "5"), way(t, report, "6")
		assert.Equal(t, resolver.Skipped, four.Outcome)
		assert.Equal(t, "SRV _matrix-fed._tcp.example.org", four.Query)
		assert.NotEmpty(t, four.Reason)
		require.NotNil(t, four.Agrees)
		assert.True(t, *four.Agrees)
		require.NotNil(t, five.Agrees)
		assert.False(t, *five.Agrees)
		assert.Equal(t, []string{"example.org:8448"}, six.Targets)
		assert.Equal(t, check.SeverityNotice, report.Findings[slices.Index(codes(report), "srv_ignored")].Severity, "they lead to the same place")
	})
}

// TestPanics: a panic of the caller's functions is the report's.
func TestPanics(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"ConnectTo", "DialContext"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			in(t, good, func(t *testing.T, _ *world.World, c *check.Checker) {
				inner := c.NewResolver
				c.NewResolver = func() *resolver.Resolver {
					r := inner()
					switch where {
					case "ConnectTo":
						r.ConnectTo = func(string, uint16) (string, uint16, bool) { panic("boo\n") }
					case "DialContext":
						r.DialContext = func(context.Context, string, string) (net.Conn, error) { panic("boo\n") }
					}
					return r
				}
				report := c.Check(t.Context(), "example.org")
				assert.Equal(t, check.Bad, report.Verdict)
				text, err := json.Marshal(report)
				require.NoError(t, err)
				assert.Contains(t, string(text), "panic")
				clean(t, text)
			})
		})
	}
}

// TestNotPermitted: nothing is asked for a name that is not permitted.
func TestNotPermitted(t *testing.T) {
	t.Parallel()
	in(t, good, func(t *testing.T, w *world.World, c *check.Checker) {
		inner := c.NewResolver
		c.NewResolver = func() *resolver.Resolver {
			r := inner()
			r.Permit = func(string) bool { return false }
			return r
		}
		report := c.Check(t.Context(), "example.org")
		assert.Equal(t, []string{"check_timeout"}, codes(report))
		assert.Contains(t, report.Summary, "not permitted")
		assert.Empty(t, w.Asked())
	})
}

// TestZeroChecker works, and asks nobody about a name that is none.
func TestZeroChecker(t *testing.T) {
	t.Parallel()
	var c check.Checker
	for _, name := range []string{"", "\x1b[2J", "https://example.org/", "@a:example.org", "bücher.example", strings.Repeat("a", 1<<20), "a b", "example.org:0"} {
		report := c.Check(t.Context(), name)
		assert.Equal(t, check.Bad, report.Verdict)
		assert.Len(t, report.Findings, 1)
		assert.NotEmpty(t, report.Summary)
		text, err := json.Marshal(report)
		require.NoError(t, err)
		assert.NotContains(t, string(text), "null", "slices without omitempty are []")
		clean(t, []byte(strings.ReplaceAll(string(text), mustJSON(name), `""`)))
	}
}

func mustJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// clean wants every text of a report to be one printable line.
func clean(t *testing.T, text []byte) {
	t.Helper()
	var v any
	require.NoError(t, json.Unmarshal(text, &v))
	walk(v, "", func(path, s string) {
		if strings.HasSuffix(path, ".text") {
			s = strings.NewReplacer("\n", "", "\t", "").Replace(s) // lines to copy, which are ours
		}
		bad := func(r rune) bool { return !unicode.IsPrint(r) }
		assert.False(t, strings.ContainsFunc(s, bad), "%s: %q", path, s)
		assert.LessOrEqual(t, len(s), 4000, path)
	})
}

func walk(v any, path string, visit func(path, s string)) {
	switch v := v.(type) {
	case string:
		visit(path, v)
	case []any:
		for _, e := range v {
			walk(e, path+"[]", visit)
		}
	case map[string]any:
		for key, e := range v {
			walk(e, path+"."+key, visit)
		}
	}
}

// TestHostile: whatever the servers say, the report is short, printable, and BAD.
func TestHostile(t *testing.T) {
	t.Parallel()
	var zone strings.Builder
	zone.WriteString("-- zone --\nevil.example. A 203.0.113.1\nevil.example. AAAA 2001:db8::1\n")
	for i := range 4 {
		fmt.Fprintf(&zone, "_matrix-fed._tcp.evil.example. SRV %d 5 8448 t%d.evil.example.\n", i, i)
		for k := range 4 {
			fmt.Fprintf(&zone, "t%d.evil.example. A 203.0.113.%d\nt%d.evil.example. AAAA 2001:db8::%d:%d\n", i, 10*i+k+2, i, i+1, k+1)
		}
	}
	names := make([]string, 120)
	for i := range names {
		names[i] = fmt.Sprintf("%s%d.evil.example", strings.Repeat(strings.Repeat("x", 60)+".", 3), i)
	}
	zone.WriteString("-- servers --\n203.0.113.1:443\n[2001:db8::1]:443\n")
	for i := range 4 {
		for k := range 4 {
			fmt.Fprintf(&zone, "203.0.113.%d:8448 cert names=%s\n[2001:db8::%d:%d]:8448 cert names=%s\n", 10*i+k+2, strings.Join(names, ","), i+1, k+1, strings.Join(names, ","))
		}
	}
	const ugly = "\x1b[31m<script>alert(1)</script>\u202e\u0000\n\r\n"
	long := strings.Repeat(ugly, 1000)
	for about, answer := range map[string]func(rw http.ResponseWriter, req *http.Request){
		"ugly texts": func(rw http.ResponseWriter, req *http.Request) {
			rw.Header().Set("Server", strings.Repeat("\u202e<b>", 500))
			rw.Header().Set("Content-Type", strings.Repeat("a\tb", 500))
			switch {
			case strings.HasSuffix(req.URL.Path, "version"):
				io.WriteString(rw, `{"server":{"name":`+mustJSON(long)+`,"version":`+mustJSON(long)+`}}`)
			case strings.Contains(req.URL.Path, "/key/"):
				keys := make(map[string]any)
				for i := range 100 {
					keys[fmt.Sprintf("ed25519:%s%d", ugly, i)] = map[string]any{"key": ugly + strings.Repeat("A", 300)}
				}
				io.WriteString(rw, mustJSON(map[string]any{"server_name": ugly, "valid_until_ts": 9007199254740991, "verify_keys": keys, "old_verify_keys": keys}))
			default:
				io.WriteString(rw, `{"m.server":`+mustJSON(ugly)+`,`+mustJSON(ugly)+`:1}`)
			}
		},
		"large bodies":  func(rw http.ResponseWriter, _ *http.Request) { io.CopyN(rw, zeros{}, 1<<22) },
		"large headers": func(rw http.ResponseWriter, _ *http.Request) { rw.Header().Set("X", strings.Repeat("x", 1<<20)) },
		"redirects": func(rw http.ResponseWriter, req *http.Request) {
			rw.Header()["Location"] = []string{"https://" + strings.Repeat("\u202e", 900) + "/\x7f"}
			rw.WriteHeader(http.StatusFound)
		},
		"errors": func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(599); io.WriteString(rw, long) },
		"endless": func(rw http.ResponseWriter, req *http.Request) {
			for req.Context().Err() == nil {
				if _, err := rw.Write([]byte(" ")); err != nil {
					return
				}
				rw.(http.Flusher).Flush()
				time.Sleep(time.Second)
			}
		},
		"dates": func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Date", "Fri, 31 Dec 9999 23:59:59 GMT")
			rw.Header().Set("Age", "99999999999999999999")
			io.WriteString(rw, `{"server":{}}`)
		},
		"abort": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			in(t, zone.String(), func(t *testing.T, w *world.World, c *check.Checker) {
				w.Handle(func(rw http.ResponseWriter, req *http.Request, _ netip.AddrPort) bool {
					answer(rw, req)
					return true
				})
				report := c.Check(t.Context(), "evil.example")
				assert.Equal(t, check.Bad, report.Verdict)
				text, err := json.Marshal(report)
				require.NoError(t, err)
				clean(t, text)
				t.Logf("%d bytes of JSON", len(text))
				assert.Less(t, len(text), 4<<20)
				for _, target := range report.Targets {
					for _, a := range target.Addresses {
						if assert.NotNil(t, a.TLS) && assert.NotEmpty(t, a.TLS.Certificates) {
							assert.Len(t, a.TLS.Certificates[0].DNSNames, 100)
						}
					}
				}
				for _, f := range report.Findings {
					for _, fix := range f.Fixes {
						assert.NotContains(t, fix.Text+fix.Title, "script")
					}
				}
			})
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '0'
	}
	return len(p), nil
}

// TestSpeechless: what is no HTTP at all, or no TLS at all, is said so.
func TestSpeechless(t *testing.T) {
	t.Parallel()
	in(t, good, func(t *testing.T, w *world.World, c *check.Checker) {
		inner := c.NewResolver
		c.NewResolver = func() *resolver.Resolver {
			r := inner()
			dial := r.DialContext
			r.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				if !strings.Contains(address, "20]") && !strings.HasPrefix(address, "203.0.113.20") {
					return dial(ctx, network, address)
				}
				ours, theirs := net.Pipe()
				go io.WriteString(theirs, "SSH-2.0-OpenSSH_9.9\r\n")
				go func() {
					io.Copy(io.Discard, theirs)
					theirs.Close()
				}()
				return ours, nil
			}
			return r
		}
		report := c.Check(t.Context(), "example.org")
		assert.Equal(t, []string{"tls_plain"}, codes(report), report.Summary)
	})
}

// TestOddErrors: errors of a DialContext from elsewhere.
func TestOddErrors(t *testing.T) {
	t.Parallel()
	in(t, good, func(t *testing.T, w *world.World, c *check.Checker) {
		inner := c.NewResolver
		c.NewResolver = func() *resolver.Resolver {
			r := inner()
			r.DialContext = func(context.Context, string, string) (net.Conn, error) {
				return nil, errors.New("no\x1b[2J way\n" + strings.Repeat("x", 5000))
			}
			return r
		}
		report := c.Check(t.Context(), "example.org")
		assert.Equal(t, check.Bad, report.Verdict)
		clean(t, []byte(mustJSON(report)))
	})
}

// TestTogether: one Checker for many goroutines.
func TestTogether(t *testing.T) {
	t.Parallel()
	in(t, good, func(t *testing.T, _ *world.World, c *check.Checker) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { assert.Equal(t, check.Good, c.Check(t.Context(), "example.org").Verdict) })
		}
		wg.Wait()
	})
}
