package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/check"
	"mxdiscover/resolver"
)

// telling is a checker that tells of n questions, one each second.
func telling(n int) checker {
	return func(ctx context.Context, name string, _ resolver.Rules, onEvent func(check.Event)) *check.Report {
		for i := range n {
			select {
			case <-time.After(time.Second):
				onEvent(check.Event{Kind: check.EventAsked, Asked: &check.Asked{Query: fmt.Sprintf("A host%d.%s", i, name), Detail: "line\nbreak"}})
			case <-ctx.Done():
				return reportOn(name)
			}
		}
		r := reportOn(name)
		onEvent(check.Event{Kind: check.EventReport, Report: r})
		return r
	}
}

func TestStream(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"/api/v1/check/stream", "/api/v1/check"} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				site := newSite(t, &Server{Check: telling(3)})
				began := time.Now()
				e := site.open(t, target+"?server_name=a.example", "Accept", "text/event-stream, */*;q=0.1")
				defer e.close()
				assert.Equal(t, typeStream, e.resp.Header.Get("Content-Type"))
				assert.Equal(t, "no-store", e.resp.Header.Get("Cache-Control"))
				ev, ok := e.next()
				require.True(t, ok)
				assert.Equal(t, "start", ev.kind)
				assert.JSONEq(t, `{"server_name":"a.example","rules":"current"}`, ev.data)
				for i := range 3 {
					ev, ok = e.next()
					require.True(t, ok)
					assert.Equal(t, "asked", ev.kind)
					assert.Equal(t, time.Duration(i+1)*time.Second, time.Since(began), "as it happens")
					var got check.Event
					require.NoError(t, json.Unmarshal([]byte(ev.data), &got))
					assert.Equal(t, fmt.Sprintf("A host%d.a.example", i), got.Asked.Query)
				}
				ev, ok = e.next()
				require.True(t, ok)
				assert.Equal(t, "report", ev.kind)
				var got struct {
					Kind   string
					Report struct {
						ServerName string `json:"server_name"`
					}
				}
				require.NoError(t, json.Unmarshal([]byte(ev.data), &got))
				assert.Equal(t, "report", got.Kind)
				assert.Equal(t, "a.example", got.Report.ServerName)
				_, ok = e.next()
				assert.False(t, ok, "the end")
			})
		})
	}
}

// TestStreamJoined: who comes late gets what has happened so far, and no run of
// their own; who comes after the end gets the report with its age.
func TestStreamJoined(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int32
		// One run is allowed: those who join are not refused.
		site := newSite(t, &Server{Check: counting(&runs, telling(4)), Limits: Limits{PerClient: Rate{1, time.Hour}}})
		const target = "/api/v1/check/stream?server_name=a.example"
		first := site.open(t, target)
		time.Sleep(2500 * time.Millisecond)
		second := site.open(t, target)
		began := time.Now()
		for _, want := range []string{"start", "asked", "asked"} {
			ev, ok := second.next()
			require.True(t, ok)
			assert.Equal(t, want, ev.kind)
		}
		assert.Zero(t, time.Since(began))
		first.close() // the run goes on
		assert.Equal(t, []string{"asked", "asked", "report"}, second.rest())
		second.close()
		time.Sleep(5 * time.Second)

		late := site.open(t, target)
		ev, _ := late.next()
		assert.JSONEq(t, `{"server_name":"a.example","rules":"current","checked_seconds_ago":5}`, ev.data)
		assert.Equal(t, "5", late.resp.Header.Get("Age"))
		assert.Equal(t, []string{"report"}, late.rest())
		late.close()
		assert.EqualValues(t, 1, runs.Load())
	})
}

// TestStreamAgain: a client whose connection broke goes on where it was.
func TestStreamAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := newSite(t, &Server{Check: telling(4)})
		const target = "/api/v1/check/stream?server_name=a.example"
		other := site.open(t, target) // keeps the run alive
		defer other.close()
		e := site.open(t, target)
		e.next() // start
		e.next()
		ev, _ := e.next()
		e.close()
		synctest.Wait()
		e = site.open(t, target, "Last-Event-ID", ev.id)
		var ids []string
		for {
			ev, ok := e.next()
			if !ok {
				break
			}
			ids = append(ids, ev.kind+" "+ev.id[strings.Index(ev.id, "-"):])
		}
		e.close()
		assert.Equal(t, []string{"start -2", "asked -3", "asked -4", "report -end"}, ids)

		run := ev.id[:strings.Index(ev.id, "-")]
		e = site.open(t, target, "Last-Event-ID", run+"-end")
		assert.Equal(t, http.StatusNoContent, e.resp.StatusCode, "which ends the client's attempts")
		e.close()
		for _, foreign := range []string{"7-end", "nonsense", run + "--5", run + "-99999999", run + "-"} {
			e = site.open(t, target, "Last-Event-ID", foreign)
			assert.Equal(t, []string{"start", "report"}, e.rest(), "%q", foreign)
			e.close()
		}
	})
}

// TestStreamQuiet: a comment now and then keeps the connection open.
func TestStreamQuiet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := newSite(t, &Server{Check: lasting(40 * time.Second)})
		e := site.open(t, "/api/v1/check/stream?server_name=a.example")
		defer e.close()
		text, err := io.ReadAll(e.in)
		require.NoError(t, err)
		assert.Equal(t, 2, strings.Count(string(text), ": still here\n\n"))
		assert.Contains(t, string(text), "event: report\n")
	})
}

// TestStreamLeft: the last who leaves ends the run.
func TestStreamLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Check: telling(30)}
		site := newSite(t, s)
		e := site.open(t, "/api/v1/check/stream?server_name=a.example")
		e.next()
		e.next()
		assert.NotZero(t, s.state().desk.load().events)
		e.close()
		synctest.Wait()
		time.Sleep(time.Second)
		l := s.state().desk.load()
		assert.Zero(t, l.live)
		assert.Zero(t, l.events)
		assert.Zero(t, l.kept, "half a check is kept for nobody")
		assert.Empty(t, s.state().limits.active)
	})
}

// TestStreamSlow: a client that does not read is cut off, and the run ends.
func TestStreamSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Check: func(ctx context.Context, name string, rules resolver.Rules, onEvent func(check.Event)) *check.Report {
			for ctx.Err() == nil {
				onEvent(check.Event{Kind: check.EventAsked, Asked: &check.Asked{Detail: strings.Repeat("x", 10_000)}})
				select {
				case <-time.After(100 * time.Millisecond):
				case <-ctx.Done():
				}
			}
			return reportOn(name)
		}}
		site := newSite(t, s)
		conn, err := site.network.DialContext(t.Context(), "tcp", site.addr)
		require.NoError(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, "GET /api/v1/check/stream?server_name=a.example HTTP/1.1\r\nHost: mx.example\r\n\r\n")
		require.NoError(t, err)
		began := time.Now()
		for s.state().desk.load().live == 0 {
			time.Sleep(time.Millisecond)
		}
		for s.state().desk.load().live > 0 {
			time.Sleep(100 * time.Millisecond)
		}
		assert.Less(t, time.Since(began), writeTimeout+15*time.Second)
		synctest.Wait()
		assert.Empty(t, s.state().limits.active)
	})
}

// TestStreamClose: streams end with an event when the Server does.
func TestStreamClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Check: lasting(50 * time.Second)}
		site := newSite(t, s)
		e := site.open(t, "/api/v1/check/stream?server_name=a.example")
		defer e.close()
		e.next()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		assert.Error(t, s.Close(ctx))
		ev, ok := e.next()
		require.True(t, ok)
		assert.Equal(t, "failed", ev.kind)
		var f Failure
		require.NoError(t, json.Unmarshal([]byte(ev.data), &f))
		assert.Equal(t, "closing", f.Code)
		_, ok = e.next()
		assert.False(t, ok)
		require.NoError(t, site.server.Shutdown(t.Context()), "nobody is left")
	})
}

// TestStreamMuch: events that take too much memory are left out; the report is
// there.
func TestStreamMuch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &Server{
			Check: func(ctx context.Context, name string, rules resolver.Rules, onEvent func(check.Event)) *check.Report {
				for range 1000 {
					onEvent(check.Event{Kind: check.EventAsked, Asked: &check.Asked{Detail: strings.Repeat("x", 1000)}})
				}
				time.Sleep(time.Second)
				return reportOn(name)
			},
			Limits: Limits{EventBytes: 100_000},
		}
		site := newSite(t, s)
		e := site.open(t, "/api/v1/check/stream?server_name=a.example")
		defer e.close()
		time.Sleep(500 * time.Millisecond)
		assert.LessOrEqual(t, s.state().desk.load().events, int64(100_000))
		kinds := e.rest()
		assert.Less(t, len(kinds), 100)
		assert.Equal(t, "report", kinds[len(kinds)-1])
		synctest.Wait()
		assert.Zero(t, s.state().desk.load().events)
	})
}

// TestStreamFailures: what is refused is refused before there is a stream.
func TestStreamFailures(t *testing.T) {
	t.Parallel()
	s := &Server{Check: atOnce}
	w := get(s, "/api/v1/check/stream")
	assert.Equal(t, http.StatusBadRequest, w.Code)
	assert.Equal(t, "name_missing", failure(t, w).Code)
	s = &Server{Check: func(context.Context, string, resolver.Rules, func(check.Event)) *check.Report { panic("oh") }}
	w = get(s, "/api/v1/check/stream?server_name=a.example")
	assert.Equal(t, http.StatusOK, w.Code)
	assert.Contains(t, w.Body.String(), "event: failed\n")
	assert.Contains(t, w.Body.String(), `"code":"internal"`)
}
