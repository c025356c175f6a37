package serve

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/check"
	"mxdiscover/resolver"
)

// counting counts the runs of a checker.
func counting(n *atomic.Int32, c checker) checker {
	return func(ctx context.Context, name string, rules resolver.Rules, onEvent func(check.Event)) *check.Report {
		n.Add(1)
		return c(ctx, name, rules, onEvent)
	}
}

// TestShared: equal questions share one run, others do not, and what was found
// out is given to those who ask soon.
func TestShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int32
		s := &Server{Check: counting(&runs, lasting(2*time.Second))}
		ask := func(query string) *httptest.ResponseRecorder {
			return get(s, "/api/v1/check?"+query)
		}
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { assert.Equal(t, http.StatusOK, ask("server_name=a.example").Code) })
		}
		wg.Wait()
		assert.EqualValues(t, 1, runs.Load())
		time.Sleep(30 * time.Second)
		w := ask("server_name=a.example")
		assert.EqualValues(t, 1, runs.Load())
		assert.Equal(t, "30", w.Header().Get("X-Checked-Seconds-Ago"))
		assert.Equal(t, "30", w.Header().Get("Age"))

		ask("server_name=a.example&rules=draft-2019")
		assert.EqualValues(t, 2, runs.Load(), "other rules")
		w = ask("server_name=A.example")
		assert.EqualValues(t, 3, runs.Load(), "another name: Matrix compares names with their case")
		assert.Contains(t, w.Body.String(), `"A.example"`)

		w = ask("server_name=a.example&refresh=1")
		assert.EqualValues(t, 4, runs.Load())
		assert.Equal(t, "0", w.Header().Get("Age"))
		ask("server_name=a.example&refresh=1")
		assert.EqualValues(t, 4, runs.Load(), "too young to be asked anew")
		time.Sleep(time.Minute)
		ask("server_name=a.example")
		assert.EqualValues(t, 5, runs.Load(), "too old to be given")
	})
}

// TestRefreshLimit: refresh=1 costs more, and counts only where it asks anew.
func TestRefreshLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Check: atOnce, Limits: Limits{PerRefresh: Rate{2, 20 * time.Second}, KeepFor: time.Hour}}
		for range 3 {
			require.Equal(t, http.StatusOK, get(s, "/api/v1/check?server_name=new"+fmt.Sprint(time.Now().UnixNano())+".example&refresh=1").Code)
			time.Sleep(time.Nanosecond)
		}
		require.Equal(t, http.StatusOK, get(s, "/api/v1/check?server_name=a.example").Code)
		for range 2 {
			time.Sleep(youngest)
			require.Equal(t, http.StatusOK, get(s, "/api/v1/check?server_name=a.example&refresh=1").Code)
		}
		time.Sleep(youngest)
		w := get(s, "/api/v1/check?server_name=a.example&refresh=1")
		assert.Equal(t, http.StatusTooManyRequests, w.Code)
		assert.Equal(t, http.StatusOK, get(s, "/api/v1/check?server_name=a.example").Code, "the old answer is there")
	})
}

// TestLeaving: who leaves does not end a run that others wait for; the last one
// does, and who comes then gets a run of their own.
func TestLeaving(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var runs, cancelled atomic.Int32
		s := &Server{Check: func(ctx context.Context, name string, _ resolver.Rules, _ func(check.Event)) *check.Report {
			runs.Add(1)
			select {
			case <-time.After(10 * time.Second):
			case <-ctx.Done():
				cancelled.Add(1)
				time.Sleep(time.Second) // it takes a while to stop
			}
			return reportOn(name)
		}}
		visit := func() (leave func(), w *httptest.ResponseRecorder) {
			ctx, cancel := context.WithCancel(t.Context())
			r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/v1/check?server_name=a.example", nil)
			w = httptest.NewRecorder()
			go s.ServeHTTP(w, r)
			synctest.Wait()
			return func() { cancel(); synctest.Wait() }, w
		}
		leave1, _ := visit()
		leave2, w2 := visit()
		leave1()
		assert.Zero(t, cancelled.Load())
		time.Sleep(10 * time.Second)
		synctest.Wait()
		assert.Equal(t, http.StatusOK, w2.Code)
		leave2()
		time.Sleep(time.Minute)

		leave3, w3 := visit()
		leave3()
		assert.EqualValues(t, 1, cancelled.Load())
		leave4, w4 := visit()
		assert.EqualValues(t, 3, runs.Load(), "not the run that is being stopped")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		assert.Empty(t, w3.Body.String())
		assert.Contains(t, w4.Body.String(), "a.example")
		leave4()
		l := s.state().desk.load()
		assert.Zero(t, l.live)
		assert.Equal(t, 1, l.kept)
	})
}

// TestPlaces: at most so many runs work, others wait, and not for ever.
func TestPlaces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var working, most atomic.Int32
		s := &Server{
			Check: func(ctx context.Context, name string, rules resolver.Rules, onEvent func(check.Event)) *check.Report {
				most.Store(max(most.Load(), working.Add(1)))
				defer working.Add(-1)
				return lasting(8*time.Second)(ctx, name, rules, onEvent)
			},
			Limits: Limits{Checks: 2, Waiting: 3, Wait: 10 * time.Second},
		}
		var (
			mu    sync.Mutex
			codes = map[string]int{}
		)
		began := time.Now()
		for i := range 6 {
			go func() {
				w := get(s, fmt.Sprintf("/api/v1/check?server_name=a%d.example", i))
				code := "answered"
				if w.Code != http.StatusOK {
					code = failure(t, w).Code
					assert.NotEmpty(t, w.Header().Get("Retry-After"))
				}
				mu.Lock()
				defer mu.Unlock()
				codes[fmt.Sprintf("%s after %v", code, time.Since(began))]++
			}()
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		// Two begin at once, two when those have ended; the fifth waits for too
		// long, the sixth may not even wait.
		assert.Equal(t, map[string]int{"answered after 8s": 2, "answered after 16s": 2, "busy after 10s": 1, "busy after 0s": 1}, codes)
		assert.EqualValues(t, 2, most.Load())
	})
}

func TestPanics(t *testing.T) {
	t.Parallel()
	for _, value := range []any{"a string", errors.New("an error"), 7} {
		s := &Server{Check: func(context.Context, string, resolver.Rules, func(check.Event)) *check.Report { panic(value) }}
		w := get(s, "/api/v1/check?server_name=a.example")
		assert.Equal(t, http.StatusInternalServerError, w.Code)
		assert.Equal(t, "internal", failure(t, w).Code)
		assert.NotContains(t, w.Body.String(), "a string")
		assert.Equal(t, http.StatusOK, get(s, "/healthz").Code)
	}
	s := &Server{Check: func(context.Context, string, resolver.Rules, func(check.Event)) *check.Report { return nil }}
	assert.Equal(t, http.StatusInternalServerError, get(s, "/api/v1/check?server_name=a.example").Code)
}

// TestClose: no new runs, the old ones may end, and then must.
func TestClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Check: func(ctx context.Context, name string, rules resolver.Rules, onEvent func(check.Event)) *check.Report {
			d := 5 * time.Second
			if strings.HasPrefix(name, "slow") {
				d = time.Minute
			}
			return lasting(d)(ctx, name, rules, onEvent)
		}}
		codes := map[string]int{}
		var wg sync.WaitGroup
		var mu sync.Mutex
		for _, name := range []string{"fast.example", "slow.example"} {
			wg.Go(func() {
				w := get(s, "/api/v1/check?server_name="+name)
				mu.Lock()
				defer mu.Unlock()
				codes[name] = w.Code
			})
		}
		synctest.Wait()
		began := time.Now()
		ended := make(chan error)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			ended <- s.Close(ctx)
		}()
		synctest.Wait()
		w := get(s, "/healthz")
		assert.Equal(t, http.StatusServiceUnavailable, w.Code)
		assert.Equal(t, "closing\n", w.Body.String())
		w = get(s, "/api/v1/check?server_name=new.example")
		assert.Equal(t, http.StatusServiceUnavailable, w.Code)
		assert.Equal(t, "closing", failure(t, w).Code)
		assert.ErrorIs(t, <-ended, context.DeadlineExceeded)
		wg.Wait()
		assert.Equal(t, 10*time.Second, time.Since(began))
		assert.Equal(t, map[string]int{"fast.example": 200, "slow.example": 503}, codes)
		assert.Equal(t, http.StatusOK, get(s, "/api/v1/check?server_name=fast.example").Code, "what is at hand is given")
		assert.NoError(t, s.Close(t.Context()), "twice")
	})
}

// large is a checker whose reports have about so many bytes of JSON.
func large(size int) checker {
	return func(_ context.Context, name string, _ resolver.Rules, _ func(check.Event)) *check.Report {
		r := reportOn(name)
		r.Summary = strings.Repeat("x", size)
		return r
	}
}

// TestKept: what is kept is bounded by count and by bytes, what is on its way by
// bytes, and all of it is given back.
func TestKept(t *testing.T) {
	t.Parallel()
	wide := Rate{Burst: -1}
	limits := Limits{PerRequest: wide, PerClient: wide, PerHost: wide, InAll: wide}
	ask := func(s *Server, i int) *httptest.ResponseRecorder {
		return get(s, fmt.Sprintf("/api/v1/check?server_name=a%d.example", i))
	}
	t.Run("count", func(t *testing.T) {
		t.Parallel()
		s := &Server{Check: atOnce, Limits: limits}
		s.Limits.KeepCount = 10
		for i := range 30 {
			require.Equal(t, http.StatusOK, ask(s, i).Code)
		}
		assert.Equal(t, 10, s.state().desk.load().kept)
	})
	t.Run("bytes", func(t *testing.T) {
		t.Parallel()
		s := &Server{Check: large(100_000), Limits: limits}
		s.Limits.KeepBytes = 2 << 20
		for i := range 30 {
			require.Equal(t, http.StatusOK, ask(s, i).Code)
			l := s.state().desk.load()
			require.LessOrEqual(t, l.keptBytes, int64(2<<20))
			require.Equal(t, l.keptBytes, l.heldBytes, "nobody is being sent anything")
		}
		assert.Equal(t, 4, s.state().desk.load().kept)
	})
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		s := &Server{Check: atOnce, Limits: limits}
		s.Limits.KeepFor = -1
		require.Equal(t, http.StatusOK, ask(s, 1).Code)
		assert.Zero(t, s.state().desk.load().heldBytes)
	})
	t.Run("too large", func(t *testing.T) {
		t.Parallel()
		s := &Server{Check: large(1 << 20), Limits: limits}
		w := ask(s, 1)
		assert.Equal(t, http.StatusBadGateway, w.Code)
		assert.Equal(t, "answer_too_large", failure(t, w).Code)
	})
	t.Run("on their way", func(t *testing.T) {
		t.Parallel()
		s := &Server{Check: large(300_000), Limits: limits}
		s.Limits.KeepBytes = 2 << 20 // one is kept, and as much again may be sent
		desk := s.state().desk
		var tickets []*ticket
		busy := 0
		for i := range 4 {
			got, f := desk.ask(asker{}, false, question{kind: kindCheck, name: fmt.Sprintf("a%d.example", i)})
			require.Nil(t, f)
			a, f := got[0].wait(t.Context())
			if f != nil {
				assert.Equal(t, "busy", f.Code)
				busy++
			} else {
				require.NotNil(t, a)
			}
			tickets = append(tickets, got...)
			require.LessOrEqual(t, desk.load().heldBytes, int64(4<<20))
		}
		assert.Equal(t, 2, busy)
		leaveAll(tickets)
		l := desk.load()
		assert.Equal(t, l.keptBytes, l.heldBytes)
	})
}

// TestManyNames: a server cannot fill the memory with the names of its
// certificates.
func TestManyNames(t *testing.T) {
	t.Parallel()
	r := reportOn("a.example")
	for range 8 {
		target := check.Target{Host: "a.example", Port: 8448}
		for range 8 {
			var chain []check.Certificate
			for range 10 {
				c := check.Certificate{Subject: "CN=a.example"}
				for range 100 {
					c.DNSNames = append(c.DNSNames, strings.Repeat("n", 250)+".example")
				}
				chain = append(chain, c)
			}
			target.Addresses = append(target.Addresses, check.Address{TLS: &check.TLS{Certificates: chain}})
		}
		r.Targets = append(r.Targets, target)
	}
	a, err := newAnswer(result{report: r}, 1<<20)
	require.NoError(t, err)
	assert.Less(t, len(a.json), 1<<20)
	assert.Len(t, r.Targets[7].Addresses[7].TLS.Certificates[0].DNSNames, 10)
}
