package serve

import (
	"net/http"
	"net/netip"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBucket(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	rate := Rate{Burst: 3, Every: 2 * time.Second}
	var b bucket
	for i := range 3 {
		require.Zero(t, b.wait(start, rate), i)
		b.take(start, rate)
	}
	assert.Equal(t, 2*time.Second, b.wait(start, rate))
	assert.Equal(t, 500*time.Millisecond, b.wait(start.Add(1500*time.Millisecond), rate))
	assert.Zero(t, b.wait(start.Add(2*time.Second), rate))
	b.take(start.Add(2*time.Second), rate)
	assert.Equal(t, 2*time.Second, b.wait(start.Add(2*time.Second), rate))
	// After a long time it is full, and no fuller.
	later := start.Add(time.Hour)
	for range 3 {
		require.Zero(t, b.wait(later, rate))
		b.take(later, rate)
	}
	assert.NotZero(t, b.wait(later, rate))
	assert.Zero(t, b.wait(later, Rate{Burst: -1, Every: time.Hour}), "no limit")
}

func TestClientKey(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{"203.0.113.7", "203.0.113.7", true},
		{"203.0.113.7", "203.0.113.8", false},
		{"2001:db8::1", "2001:db8::ffff:1", true},
		{"2001:db8:0:0::1", "2001:db8:0:1::1", false},
	} {
		assert.Equal(t, test.same, clientKey(netip.MustParseAddr(test.a)) == clientKey(netip.MustParseAddr(test.b)), "%s %s", test.a, test.b)
	}
	assert.Equal(t, netip.Prefix{}, clientKey(netip.Addr{}))
}

// TestLimits: each limit in turn, what it says, and that it ends when it says.
func TestLimits(t *testing.T) {
	t.Parallel()
	wide := Rate{Burst: -1}
	open := Limits{PerRequest: wide, PerClient: wide, PerRefresh: wide, PerHost: wide, InAll: wide}
	for _, test := range []struct {
		name   string
		limit  func(*Limits)
		target func(i int) string // of the ith request
		client func(i int) string
		pass   int
		retry  int
		other  string // the address of a client that is not limited then; empty if all are
	}{
		{
			"requests of a client", func(l *Limits) { l.PerRequest = Rate{3, 10 * time.Second} },
			func(int) string { return "/robots.txt" }, func(int) string { return "203.0.113.1" }, 3, 10, "203.0.113.2",
		},
		{
			"requests of an IPv6 network", func(l *Limits) { l.PerRequest = Rate{3, 10 * time.Second} },
			func(int) string { return "/robots.txt" }, func(i int) string { return "2001:db8::" + strconv.Itoa(i) }, 3, 10, "2001:db8:0:1::",
		},
		{
			"runs of a client", func(l *Limits) { l.PerClient = Rate{2, 7 * time.Second} },
			func(i int) string { return "/api/v1/check?server_name=a" + strconv.Itoa(i) + ".example" }, func(int) string { return "203.0.113.1" }, 2, 7, "203.0.113.2",
		},
		{
			"runs about a host, by any spelling", func(l *Limits) { l.PerHost = Rate{4, 5 * time.Second} },
			func(i int) string {
				return "/api/v1/check?server_name=" + []string{"a.example", "A.example", "a.example:1", "A.EXAMPLE:2", "a.exAmple:3"}[i]
			},
			func(i int) string { return "203.0.113." + strconv.Itoa(i+1) }, 4, 5, "",
		},
		{
			"runs in all", func(l *Limits) { l.InAll = Rate{2, 3 * time.Second} },
			func(i int) string { return "/api/v1/check?server_name=a" + strconv.Itoa(i) + ".example" },
			func(i int) string { return "203.0.113." + strconv.Itoa(i+1) }, 2, 3, "",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &Server{Check: atOnce, Limits: open}
				test.limit(&s.Limits)
				for i := range test.pass {
					require.Equal(t, http.StatusOK, get(s, test.target(i), from(test.client(i))).Code)
				}
				w := get(s, test.target(test.pass), from(test.client(test.pass)))
				require.Equal(t, http.StatusTooManyRequests, w.Code)
				assert.Equal(t, strconv.Itoa(test.retry), w.Header().Get("Retry-After"))
				if w.Header().Get("Content-Type") == typeJSON {
					assert.Equal(t, "rate_limited", failure(t, w).Code)
					assert.Equal(t, test.retry, failure(t, w).RetryAfter)
				}
				if test.other != "" {
					assert.Equal(t, http.StatusOK, get(s, test.target(test.pass), from(test.other)).Code)
				}
				assert.Equal(t, http.StatusOK, get(s, "/healthz", from(test.client(test.pass))).Code, "never limited")
				time.Sleep(time.Duration(test.retry) * time.Second)
				assert.Equal(t, http.StatusOK, get(s, test.target(test.pass), from(test.client(test.pass))).Code)
			})
		})
	}
}

func TestUnlimited(t *testing.T) {
	t.Parallel()
	s := &Server{Check: atOnce, Unlimited: prefix("10.0.0.0/8"), Limits: Limits{PerRequest: Rate{1, time.Hour}, PerClient: Rate{1, time.Hour}}}
	for i := range 5 {
		assert.Equal(t, http.StatusOK, get(s, "/probe?target=a"+strconv.Itoa(i)+".example", from("10.0.0.9")).Code)
	}
}

// TestForwardedFor: clients behind a trusted proxy are told apart; others
// cannot say who they are.
func TestForwardedFor(t *testing.T) {
	t.Parallel()
	s := &Server{Check: atOnce, TrustForwardedFor: prefix("10.0.0.0/8"), Limits: Limits{PerRequest: Rate{1, time.Hour}}}
	assert.Equal(t, http.StatusOK, get(s, "/robots.txt", from("10.0.0.9"), with("X-Forwarded-For", "203.0.113.1")).Code)
	assert.Equal(t, http.StatusTooManyRequests, get(s, "/robots.txt", from("10.0.0.9"), with("X-Forwarded-For", "203.0.113.1")).Code)
	assert.Equal(t, http.StatusOK, get(s, "/robots.txt", from("10.0.0.9"), with("X-Forwarded-For", "203.0.113.2")).Code)
	assert.Equal(t, http.StatusTooManyRequests, get(s, "/robots.txt", from("10.0.0.9"), with("X-Forwarded-For", "198.51.100.9, 203.0.113.2")).Code, "hearsay")
	assert.Equal(t, http.StatusOK, get(s, "/robots.txt", from("192.0.2.1"), with("X-Forwarded-For", "203.0.113.3")).Code)
	assert.Equal(t, http.StatusTooManyRequests, get(s, "/robots.txt", from("192.0.2.1"), with("X-Forwarded-For", "203.0.113.4")).Code, "a stranger")
}

// TestAtOnce: requests of one address, and in all, that wait at the same time.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Check: lasting(10 * time.Second), Limits: Limits{Clients: 3, ClientsOfAddress: 2}}
		for _, addr := range []string{"203.0.113.1", "203.0.113.1", "203.0.113.2"} {
			go get(s, "/api/v1/check?server_name=a.example", from(addr))
			synctest.Wait()
		}
		w := get(s, "/robots.txt", from("203.0.113.1"))
		assert.Equal(t, http.StatusTooManyRequests, w.Code)
		w = get(s, "/api/v1/check?server_name=b.example", from("203.0.113.3"))
		assert.Equal(t, http.StatusServiceUnavailable, w.Code)
		assert.Equal(t, "busy", failure(t, w).Code)
		assert.Equal(t, http.StatusOK, get(s, "/healthz", from("203.0.113.3")).Code)
		time.Sleep(11 * time.Second)
		assert.Equal(t, http.StatusOK, get(s, "/robots.txt", from("203.0.113.1")).Code)
		assert.Empty(t, s.state().limits.active)
	})
}
