package portal

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sleeps answers after a time, unless the client goes away first.
func sleeps(d time.Duration, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		select {
		case <-time.After(d):
			next(w, r)
		case <-r.Context().Done():
		}
	}
}

func TestNoAnswerInTime(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ timeout, want time.Duration }{{0, 30 * time.Second}, {2 * time.Second, 2 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			n := newInMemory(t)
			defer n.close()
			a, b := &homeserver{}, &homeserver{}
			n.serve("203.0.113.1:80", a.remember(sleeps(time.Hour, says(200, loginDone))))
			n.serve("203.0.113.2:80", b.remember(says(200, loginDone)))
			n.serve(portalAddr, &Portal{Targets: []Target{{Name: "a", URL: "http://203.0.113.1"}, {Name: "b", URL: "http://203.0.113.2"}}, Timeout: test.timeout, Dial: n.dial})
			begun := time.Now()
			got, err := n.post(strings.NewReader(loginBody))
			require.NoError(t, err)
			assertError(t, got, 504, "M_UNKNOWN")
			assertCORS(t, got.header)
			assert.InDelta(t, test.want.Seconds(), time.Since(begun).Seconds(), 0.1)
			assert.Len(t, a.asked(), 1)
			assert.Empty(t, b.asked(), "the login was sent, and is not sent again")
		})
	}
}

// An answer that begins in time and does not end in time is late as well.
func TestSlowAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newInMemory(t)
		defer n.close()
		n.serve("203.0.113.1:80", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				io.WriteString(w, " ")
				http.NewResponseController(w).Flush()
				time.Sleep(time.Second)
			}
		}))
		n.serve(portalAddr, &Portal{Targets: []Target{{Name: "a", URL: "http://203.0.113.1"}}, Dial: n.dial})
		begun := time.Now()
		got, err := n.post(strings.NewReader(loginBody))
		require.NoError(t, err)
		assertError(t, got, 504, "M_UNKNOWN")
		assert.InDelta(t, 30, time.Since(begun).Seconds(), 0.1)
	})
}

// A black hole costs ten seconds, and then the next target is tried.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newInMemory(t)
		defer n.close()
		n.Drop("203.0.113.1:80")
		// In all that is longer than any one wait may be.
		n.serve("203.0.113.2:80", sleeps(25*time.Second, says(200, loginDone)))
		var entry Entry
		n.serve(portalAddr, &Portal{Targets: []Target{{Name: "a", URL: "http://203.0.113.1"}, {Name: "b", URL: "http://203.0.113.2"}}, Dial: n.dial, Log: func(e Entry) { entry = e }})
		begun := time.Now()
		got, err := n.post(strings.NewReader(loginBody))
		require.NoError(t, err)
		assert.Equal(t, 200, got.status)
		assert.InDelta(t, 10+25, time.Since(begun).Seconds(), 0.1)
		synctest.Wait()
		assert.Equal(t, "b", entry.Target)
		assert.Contains(t, entry.String(), "target a: no connection")
	})
}

// A body that does not come ends by the deadline, and so does a client that
// does not take its answer. A connection that goes on is not spoiled by either
// deadline.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newInMemory(t)
		defer n.close()
		a := &homeserver{}
		n.serve("203.0.113.1:80", a.remember(says(200, `{"a":"`+strings.Repeat("x", 8<<20)+`"}`)))
		n.serve("203.0.113.2:80", says(200, loginDone))
		done := make(chan Entry, 10)
		portal := &Portal{Targets: []Target{{Name: "a", URL: "http://203.0.113.1"}, {Name: "b", URL: "http://203.0.113.2"}}, Dial: n.dial, Log: func(e Entry) { done <- e }}
		n.serve(portalAddr, portal)

		begun := time.Now()
		conn, err := n.DialContext(context.Background(), "tcp", portalAddr)
		require.NoError(t, err)
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{", loginPath)
		text, err := io.ReadAll(conn)
		require.NoError(t, err)
		assert.Contains(t, string(text), "HTTP/1.1 408 ")
		assert.InDelta(t, 30, time.Since(begun).Seconds(), 1)
		assert.Equal(t, 408, (<-done).Status)
		assert.Empty(t, a.asked())
		conn.Close()

		// The same where no body is wanted: net/http would wait for it.
		begun = time.Now()
		conn, err = n.DialContext(context.Background(), "tcp", portalAddr)
		require.NoError(t, err)
		fmt.Fprintf(conn, "POST /_matrix/client/v3/sync HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
		text, err = io.ReadAll(conn)
		require.NoError(t, err)
		assert.Contains(t, string(text), "HTTP/1.1 401 ")
		assert.InDelta(t, 15, time.Since(begun).Seconds(), 1)
		assert.Equal(t, 401, (<-done).Status)
		conn.Close()

		// It asks for a large answer and reads nothing.
		begun = time.Now()
		conn, err = n.DialContext(context.Background(), "tcp", portalAddr)
		require.NoError(t, err)
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", loginPath)
		entry := <-done
		assert.ErrorIs(t, entry.Failures[0], errCut)
		assert.InDelta(t, 30, time.Since(begun).Seconds(), 1)
		conn.Close()

		// One connection, used again after longer than any deadline.
		transport := &http.Transport{DialContext: n.DialContext}
		defer transport.CloseIdleConnections()
		for range 3 {
			response, err := transport.RoundTrip(must(http.NewRequest("POST", "http://"+portalAddr+loginPath, strings.NewReader(loginBody))))
			require.NoError(t, err)
			io.Copy(io.Discard, response.Body)
			response.Body.Close()
			assert.Equal(t, 200, response.StatusCode)
			<-done
			time.Sleep(time.Minute)
		}
		assert.Zero(t, portal.held.Load())
	})
}

// Many small answers that nobody takes end by the deadline too.
func TestUntakenAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newInMemory(t)
		defer n.close()
		n.serve(portalAddr, &Portal{Targets: []Target{{Name: "a", URL: "http://203.0.113.1"}}, Dial: n.dial})
		begun := time.Now()
		conn, err := n.DialContext(context.Background(), "tcp", portalAddr)
		require.NoError(t, err)
		for err == nil {
			_, err = io.WriteString(conn, "GET /_matrix/client/v3/sync HTTP/1.1\r\nHost: x\r\n\r\n")
			time.Sleep(time.Microsecond) // a reset takes time to arrive
		}
		assert.InDelta(t, 30, time.Since(begun).Seconds(), 1)
		conn.Close()
	})
}

// noted is a ResponseWriter that notes deadlines.
type noted struct {
	http.ResponseWriter
	read, write []time.Time
}

func (n *noted) SetReadDeadline(at time.Time) error  { n.read = append(n.read, at); return nil }
func (n *noted) SetWriteDeadline(at time.Time) error { n.write = append(n.write, at); return nil }

// What else happens on a connection is not bound by the deadlines of the
// portal: neither net/http, which reads on to see the client go away while the
// target is asked, nor the next request.
func TestDeadlinesAreTakenAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		for _, test := range []struct {
			method, path, body string
			read               []time.Time
		}{
			{"POST", loginPath, "{}", []time.Time{now.Add(30 * time.Second), {}}},
			{"POST", "/sync", "{}", []time.Time{now.Add(30 * time.Second), now.Add(15 * time.Second)}},
			{"GET", "/sync", "", nil},
		} {
			w := &noted{ResponseWriter: httptest.NewRecorder()}
			var body io.Reader
			if test.body != "" {
				body = strings.NewReader(test.body)
			}
			p := &Portal{Targets: []Target{{Name: "a", URL: "http://203.0.113.1"}}, Mode: Redirect}
			p.ServeHTTP(w, httptest.NewRequest(test.method, test.path, body))
			assert.Equal(t, test.read, w.read, test.path)
			assert.Equal(t, []time.Time{now.Add(30 * time.Second), {}}, w.write, test.path)
		}
	})
}

// A server's own deadlines hold.
func TestServerDeadlines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newInMemory(t)
		defer n.close()
		n.serve("203.0.113.1:80", says(200, strings.Repeat("x", 8<<20)))
		done := make(chan Entry, 1)
		l, err := n.Listen(portalAddr)
		require.NoError(t, err)
		server := &http.Server{
			Handler:     &Portal{Targets: []Target{{Name: "a", URL: "http://203.0.113.1"}}, Dial: n.dial, Log: func(e Entry) { done <- e }},
			ReadTimeout: 5 * time.Second, WriteTimeout: 9 * time.Second,
		}
		n.servers = append(n.servers, server)
		go server.Serve(l)
		for body, want := range map[string]float64{"{": 5, "{}": 9} {
			begun := time.Now()
			conn, err := n.DialContext(context.Background(), "tcp", portalAddr)
			require.NoError(t, err)
			fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n%s", loginPath, body)
			<-done
			assert.InDelta(t, want, time.Since(begun).Seconds(), 0.5)
			conn.Close()
		}
	})
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// When the client goes away, the portal stops waiting.
func TestClientGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newInMemory(t)
		defer n.close()
		left := make(chan time.Time, 1)
		n.serve("203.0.113.1:80", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
			left <- time.Now()
		}))
		done := make(chan Entry, 1)
		n.serve(portalAddr, &Portal{Targets: []Target{{Name: "a", URL: "http://203.0.113.1"}}, Dial: n.dial, Log: func(e Entry) { done <- e }})
		begun := time.Now()
		conn, err := n.DialContext(context.Background(), "tcp", portalAddr)
		require.NoError(t, err)
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", loginPath, len(loginBody), loginBody)
		time.Sleep(time.Second)
		conn.Close()
		assert.InDelta(t, 1, (<-left).Sub(begun).Seconds(), 0.1)
		var failed *TargetError
		require.ErrorAs(t, (<-done).Failures[0], &failed)
		assert.Equal(t, GivenUp, failed.Kind)
	})
}

// A Chooser has as much time as anything else.
func TestSlowChooser(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newInMemory(t)
		defer n.close()
		n.serve(portalAddr, &Portal{Targets: []Target{{Name: "a", URL: "http://203.0.113.1"}}, Timeout: 3 * time.Second, Dial: n.dial, Chooser: ChooserFunc(func(l *Login) ([]string, error) {
			<-l.Request.Context().Done()
			return nil, l.Request.Context().Err()
		})})
		begun := time.Now()
		got, err := n.post(strings.NewReader(loginBody))
		require.NoError(t, err)
		assertError(t, got, 500, "M_UNKNOWN")
		assert.InDelta(t, 3, time.Since(begun).Seconds(), 0.1)
	})
}

// A thousand logins at once, to three targets that take their time, one of which
// cannot be reached, while the portal is shut down: each login is answered and
// was sent once, and the memory in use does not grow without bound.
func TestThousandLogins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const logins, perLogin = 1000, 512 << 10
		n := newInMemory(t)
		defer n.close()
		var mu sync.Mutex
		got := map[string]int{} // by user
		target := func(name string) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				user := r.Header.Get("X-User")
				io.Copy(io.Discard, r.Body)
				mu.Lock()
				got[user]++
				mu.Unlock()
				time.Sleep(20 * time.Second)
				fmt.Fprintf(w, `{"user_id":%q,"hs":%q}`, user, name)
			})
		}
		n.serve("203.0.113.1:80", target("a"))
		n.serve("203.0.113.3:80", target("c"))
		var logged, status200 atomic.Int64
		portal := &Portal{
			Targets: []Target{{Name: "a", URL: "http://203.0.113.1"}, {Name: "b", URL: "http://203.0.113.2"}, {Name: "c", URL: "http://203.0.113.3"}},
			Dial:    n.dial,
			Log: func(e Entry) {
				logged.Add(1)
				if e.Status == 200 {
					status200.Add(1)
				}
			},
		}
		server := n.serve(portalAddr, portal)

		var before, during runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		transport := &http.Transport{DialContext: n.DialContext, DisableKeepAlives: true}
		var wait sync.WaitGroup
		var answered [3]atomic.Int64
		begun := time.Now()
		for i := range logins {
			wait.Go(func() {
				request := must(http.NewRequest("POST", "http://"+portalAddr+loginPath, strings.NewReader(loginBody)))
				user := fmt.Sprintf("u%d", i)
				request.Header.Set("X-User", user)
				response, err := transport.RoundTrip(request)
				if !assert.NoError(t, err) {
					return
				}
				defer response.Body.Close()
				body, err := io.ReadAll(response.Body)
				assert.NoError(t, err)
				for k, hs := range []string{"a", "b", "c"} {
					want := fmt.Sprintf(`{"user_id":%q,"hs":%q,"well_known":{"m.homeserver":{"base_url":"http://203.0.113.%d"}},"base_cs_url":"http://203.0.113.%d"}`, user, hs, k+1, k+1)
					if string(body) == want {
						answered[k].Add(1)
					}
				}
			})
		}
		time.Sleep(10 * time.Second) // in virtual time: all are under way
		synctest.Wait()
		runtime.GC()
		runtime.ReadMemStats(&during)
		held := int64(during.HeapAlloc) - int64(before.HeapAlloc)
		assert.Equal(t, int64(logins*firstRead), portal.held.Load())
		assert.Less(t, held, int64(logins*perLogin), "clients, portal and targets together")

		// SIGTERM comes now. An idle connection does not count.
		idle, err := n.DialContext(context.Background(), "tcp", portalAddr)
		require.NoError(t, err)
		defer idle.Close()
		stop, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		assert.NoError(t, server.Shutdown(stop), "every login under way has finished")
		wait.Wait()
		assert.InDelta(t, 20, time.Since(begun).Seconds(), 1)
		_, err = n.DialContext(context.Background(), "tcp", portalAddr)
		assert.Error(t, err, "no more are taken")

		assert.Equal(t, int64(logins), answered[0].Load()+answered[2].Load())
		assert.InDelta(t, logins/3, answered[0].Load(), 2)
		assert.Len(t, got, logins)
		for user, times := range got {
			assert.Equal(t, 1, times, user)
		}
		assert.Equal(t, int64(logins), logged.Load())
		assert.Equal(t, int64(logins), status200.Load())
		assert.Zero(t, portal.held.Load())
		t.Logf("%d logins under way: %d KiB each, for client, portal and target", logins, held/logins/1024)
	})
}

// The same on real sockets.
func TestThousandLoginsLoopback(t *testing.T) {
	t.Parallel()
	const logins = 1000
	all := make(chan struct{})
	var under atomic.Int64
	a := newHomeserver(t, func(w http.ResponseWriter, r *http.Request) {
		if under.Add(1) == logins {
			close(all)
		}
		<-all // nobody is answered before everybody is here
		io.WriteString(w, `{"user_id":"`+r.Header.Get("X-User")+`"}`)
	})
	p := start(t, &Portal{Targets: []Target{{"a", a.URL, "https://a.example"}}, Emit: EmitBaseCSURL})
	begun := time.Now()
	var wait sync.WaitGroup
	var right atomic.Int64
	gate := make(chan struct{}, 50) // a listener's queue has an end
	for i := range logins {
		wait.Go(func() {
			gate <- struct{}{}
			conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
			<-gate
			if !assert.NoError(t, err) {
				return
			}
			defer conn.Close()
			fmt.Fprintf(conn, "POST %s HTTP/1.0\r\nX-User: u%d\r\nContent-Length: 2\r\n\r\n{}", loginPath, i)
			text, err := io.ReadAll(conn)
			assert.NoError(t, err)
			if strings.HasSuffix(string(text), fmt.Sprintf("\r\n\r\n"+`{"user_id":"u%d","base_cs_url":"https://a.example"}`, i)) {
				right.Add(1)
			}
		})
	}
	wait.Wait()
	assert.Equal(t, int64(logins), right.Load())
	assert.Len(t, a.asked(), logins)
	t.Logf("%d logins at once in %v", logins, time.Since(begun))
}
