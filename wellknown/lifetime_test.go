package wellknown_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"mxdiscover/wellknown"
)

// now is when each answer in these tests is received: a Friday.
var now = time.Date(2026, time.November, 20, 10, 0, 0, 0, time.UTC)

// at returns the HTTP-date d after now.
func at(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }

// header builds a header from "Name: value" lines. A repeated name makes a
// repeated line.
func header(lines ...string) http.Header {
	h := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		// As net/http does: the value has no white space around it.
		h.Add(name, strings.TrimSpace(value))
	}
	return h
}

// none marks the rows whose headers state no lifetime.
const none = -1

// headerTests are headers and the lifetime in seconds that they state. The two
// limits that Lifetime puts on it, and those of FailureLifetime, show all of
// it between one minute and 48 hours.
var headerTests = []struct {
	name   string
	lines  []string
	stated int // in seconds
}{
	{"nothing", nil, none},
	{"other headers", []string{"Content-Type: application/json", "ETag: x"}, none},

	// Cache-Control: max-age.
	{"max-age", []string{"Cache-Control: max-age=1000"}, 1000},
	{"below the floor", []string{"Cache-Control: max-age=100"}, 100},
	{"above the cap", []string{"Cache-Control: max-age=1000000"}, 1000000},
	{"zero", []string{"Cache-Control: max-age=0"}, 0},
	{"zero, private", []string{"Cache-Control: private, max-age=0"}, 0},
	{"zero, must-revalidate, private", []string{"Cache-Control: max-age=0, must-revalidate, private"}, 0},
	{"case and space", []string{"Cache-Control: foo, Max-Age = 100, bar"}, 100},
	{"tabs", []string{"Cache-Control: foo\t,\tMAX-AGE\t=\t100\t"}, 100},
	{"no space", []string{"Cache-Control: public,max-age=100,immutable"}, 100},
	{"empty members", []string{"Cache-Control: ,, ,max-age=100,,"}, 100},
	{"leading zeros", []string{"Cache-Control: max-age=000000000000000000000000100"}, 100},
	{"2^31 - 1", []string{"Cache-Control: max-age=2147483647"}, 2147483647},
	{"2^31", []string{"Cache-Control: max-age=2147483648"}, 1 << 31},
	{"2^32", []string{"Cache-Control: max-age=4294967296"}, 1 << 31},
	{"2^63", []string{"Cache-Control: max-age=9223372036854775808"}, 1 << 31},
	{"many digits", []string{"Cache-Control: max-age=" + strings.Repeat("9", 10000)}, 1 << 31},
	{"two lines", []string{"Cache-Control: private", "Cache-Control: max-age=100"}, 100},
	{"the first of two counts", []string{"Cache-Control: max-age=100, max-age=1000"}, 100},
	{"the first of two lines counts", []string{"Cache-Control: max-age=1000", "Cache-Control: max-age=100"}, 1000},
	{"s-maxage is not for us", []string{"Cache-Control: s-maxage=10, max-age=1000"}, 1000},
	{"s-maxage alone", []string{"Cache-Control: s-maxage=100"}, none},

	// What is no max-age.
	{"no value", []string{"Cache-Control: max-age=, bar"}, none},
	{"no value at the end", []string{"Cache-Control: max-age="}, none},
	{"no equals sign", []string{"Cache-Control: max-age"}, none},
	{"letters", []string{"Cache-Control: max-age=abc"}, none},
	{"negative", []string{"Cache-Control: max-age=-1"}, none},
	{"plus", []string{"Cache-Control: max-age=+100"}, none},
	{"fraction", []string{"Cache-Control: max-age=100.5"}, none},
	{"hexadecimal", []string{"Cache-Control: max-age=0x64"}, none},
	{"underscore", []string{"Cache-Control: max-age=1_00"}, none},
	{"digits of another script", []string{"Cache-Control: max-age=٣٠٠"}, none},
	{"unit", []string{"Cache-Control: max-age=100s"}, none},
	{"two numbers", []string{"Cache-Control: max-age=100 200"}, none},
	{"two equals signs", []string{"Cache-Control: max-age==100"}, none},
	{"semicolon in front", []string{"Cache-Control: private; max-age=0"}, none},
	{"semicolon behind", []string{"Cache-Control: max-age=100; private"}, none},
	{"colon", []string{"Cache-Control: max-age: 100"}, none},
	{"longer name", []string{"Cache-Control: x-max-age=100, max-agent=100"}, none},
	{"a bad one does not hide a good one", []string{"Cache-Control: max-age=abc, max-age=100"}, 100},
	{"empty", []string{"Cache-Control:"}, none},

	// Quoted values.
	{"quoted", []string{`Cache-Control: max-age="100"`}, 100},
	{"quoted, space", []string{`Cache-Control: max-age = "100" , private`}, 100},
	{"quoted pair", []string{`Cache-Control: max-age="\1\0\0"`}, 100},
	{"quoted, empty", []string{`Cache-Control: max-age=""`}, none},
	{"quoted, space within", []string{`Cache-Control: max-age=" 100 "`}, none},
	{"quote not closed", []string{`Cache-Control: max-age="100`}, none},
	{"quote not opened", []string{`Cache-Control: max-age=100"`}, none},
	{"one quote", []string{`Cache-Control: max-age="`}, none},
	{"last quote escaped", []string{`Cache-Control: max-age="100\"`}, none},
	{"backslash at the end", []string{`Cache-Control: max-age="100\`}, none},
	{"something behind the quote", []string{`Cache-Control: max-age="100"0`}, none},
	{"single quotes", []string{`Cache-Control: max-age='100'`}, none},
	{"comma in quotes", []string{`Cache-Control: ext="a, max-age=200, b", max-age=100`}, 100},
	{"escaped quote in quotes", []string{`Cache-Control: ext="a\", max-age=200, b", max-age=100`}, 100},
	{"escaped backslash in quotes", []string{`Cache-Control: ext="a\\", max-age=100`}, 100},
	{"no-store in quotes", []string{`Cache-Control: private="no-store, no-cache", max-age=100`}, 100},
	{"an open quote takes its line", []string{`Cache-Control: ext="a, max-age=100`}, none},
	{"an open quote takes no other line", []string{`Cache-Control: ext="a`, `Cache-Control: max-age=100`}, 100},

	// Cache-Control: no-store, no-cache.
	{"no-store", []string{"Cache-Control: no-store"}, 0},
	{"no-cache", []string{"Cache-Control: no-cache"}, 0},
	{"No-Store", []string{"Cache-Control: foo,No-Store"}, 0},
	{"no-cache and max-age", []string{"Cache-Control: no-cache, max-age=1000"}, 0},
	{"max-age and no-store", []string{"Cache-Control: max-age=1000, no-store"}, 0},
	{"max-age and no-store, two lines", []string{"Cache-Control: max-age=1000", "Cache-Control: no-store"}, 0},
	{"no-store and Expires", []string{"Cache-Control: no-store", "Expires: " + at(time.Hour)}, 0},
	{"no-cache with a field", []string{`Cache-Control: no-cache="Set-Cookie", max-age=1000`}, 0},
	{"no-store with a value", []string{"Cache-Control: no-store=1"}, 0},
	{"long s", []string{"Cache-Control: no-ſtore, max-age=1000"}, 1000},
	{"last letter not ASCII", []string{"Cache-Control: no-stor\xe5, max-age=1000"}, 1000},
	{"no-stores", []string{"Cache-Control: no-stores, max-age=1000"}, 1000},
	{"Pragma is for requests", []string{"Pragma: no-cache"}, none},

	// Age.
	{"Age", []string{"Cache-Control: max-age=1000", "Age: 900"}, 100},
	{"Age, and still long", []string{"Cache-Control: max-age=1000", "Age: 10"}, 990},
	{"Age 0", []string{"Cache-Control: max-age=1000", "Age: 0"}, 1000},
	{"older than max-age", []string{"Cache-Control: max-age=1000", "Age: 5000"}, 0},
	{"Age is that of a long life", []string{"Cache-Control: max-age=259200", "Age: 172800"}, 86400},
	{"Age too large", []string{"Cache-Control: max-age=1000", "Age: 99999999999999999999"}, 0},
	{"Age and max-age too large", []string{"Cache-Control: max-age=99999999999999999999", "Age: 99999999999999999999"}, 0},
	{"Age negative", []string{"Cache-Control: max-age=1000", "Age: -900"}, 1000},
	{"Age no number", []string{"Cache-Control: max-age=1000", "Age: old"}, 1000},
	{"Age empty", []string{"Cache-Control: max-age=1000", "Age:"}, 1000},
	{"Age fraction", []string{"Cache-Control: max-age=1000", "Age: 900.0"}, 1000},
	{"the first Age of a list", []string{"Cache-Control: max-age=1000", "Age: 900 , 10"}, 100},
	{"the first Age of two lines", []string{"Cache-Control: max-age=1000", "Age: 900", "Age: 10"}, 100},
	{"the first Age is bad", []string{"Cache-Control: max-age=1000", "Age: x, 900"}, 1000},
	{"Age with Expires", []string{"Expires: " + at(1000*time.Second), "Age: 900"}, 100},
	{"Age alone", []string{"Age: 900"}, none},

	// Expires.
	{"Expires", []string{"Expires: " + at(1000*time.Second)}, 1000},
	{"Expires soon", []string{"Expires: " + at(33*time.Second)}, 33},
	{"Expires less Date", []string{"Expires: " + at(5000*time.Second), "Date: " + at(4000*time.Second)}, 1000},
	{"Expires past, but not for its Date", []string{"Expires: " + at(-4000*time.Second), "Date: " + at(-5000*time.Second)}, 1000},
	{"Expires before Date", []string{"Expires: " + at(1000*time.Second), "Date: " + at(2000*time.Second)}, 0},
	{"Date bad", []string{"Expires: " + at(1000*time.Second), "Date: today"}, 1000},
	{"Date empty", []string{"Expires: " + at(1000*time.Second), "Date:"}, 1000},
	{"Date alone", []string{"Date: " + at(-time.Hour)}, none},
	{"max-age beats Expires", []string{"Expires: " + at(1000*time.Second), "Cache-Control: max-age=100"}, 100},
	{"max-age beats a bad Expires", []string{"Expires: 0", "Cache-Control: max-age=100"}, 100},
	{"Expires stands in for a bad max-age", []string{"Expires: " + at(1000*time.Second), "Cache-Control: max-age=, bar"}, 1000},
	{"Expires beside other directives", []string{"Expires: " + at(1000*time.Second), "Cache-Control: private, s-maxage=5"}, 1000},
	{"RFC 850", []string{"Expires: Friday, 20-Nov-26 10:16:40 GMT"}, 1000},
	{"RFC 850, other zone", []string{"Expires: Friday, 20-Nov-26 10:16:40 EST"}, 0},
	{"RFC 850, offset", []string{"Expires: Friday, 20-Nov-26 10:16:40 GMT-8"}, 0},
	{"asctime", []string{"Expires: Fri Nov 20 10:16:40 2026"}, 1000},
	{"asctime, one digit", []string{"Date: Tue Nov  3 10:00:00 2026", "Expires: Tue Nov  3 10:16:40 2026"}, 1000},
	{"other zone", []string{"Expires: Fri, 20 Nov 2026 10:16:40 +0000"}, 0},
	{"RFC 3339", []string{"Expires: 2026-11-20T10:16:40Z"}, 0},
	{"Expires 0", []string{"Expires: 0"}, 0},
	{"Expires -1", []string{"Expires: -1"}, 0},
	{"Expires empty", []string{"Expires:"}, 0},
	{"Expires garbage", []string{"Expires: Never, ever"}, 0},
	{"Expires no such day", []string{"Expires: Mon, 31 Feb 2027 10:00:00 GMT"}, 0},
	{"Expires past", []string{"Expires: " + at(-time.Second)}, 0},
	{"Expires long past", []string{"Expires: Mon, 01 Jan 0001 00:00:00 GMT"}, 0},
	{"Expires long past, Age too large", []string{"Expires: Mon, 01 Jan 0001 00:00:00 GMT", "Age: 99999999999999999999"}, 0},
	{"Expires in the last year", []string{"Expires: Fri, 31 Dec 9999 23:59:59 GMT"}, 1 << 31},
	{"Expires in the last year, Date in the first", []string{"Expires: Fri, 31 Dec 9999 23:59:59 GMT", "Date: Mon, 01 Jan 0001 00:00:00 GMT"}, 1 << 31},
	{"the first Expires of two", []string{"Expires: " + at(1000*time.Second), "Expires: " + at(100*time.Second)}, 1000},
	{"the first Expires is bad", []string{"Expires: 0", "Expires: " + at(1000*time.Second)}, 0},
}

func TestLifetime(t *testing.T) {
	t.Parallel()
	for _, tt := range headerTests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := header(tt.lines...)
			if tt.stated == none {
				assert.Equal(t, 24*time.Hour, wellknown.Lifetime(h, now, 0))
				assert.Equal(t, 24*time.Hour-144*time.Minute, wellknown.Lifetime(h, now, -1))
				assert.Equal(t, 24*time.Hour+144*time.Minute, wellknown.Lifetime(h, now, 1))
				return
			}
			want := min(max(time.Duration(tt.stated)*time.Second, 5*time.Minute), 48*time.Hour)
			for _, jitter := range []float64{-1, 0, 1} { // of no effect on what is stated
				assert.Equal(t, want, wellknown.Lifetime(h, now, jitter))
			}
		})
	}
}

// What a failure states counts in the same way, within other limits.
func TestFailureLifetimeHeaders(t *testing.T) {
	t.Parallel()
	for _, tt := range headerTests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := header(tt.lines...)
			want := min(max(time.Duration(tt.stated)*time.Second, time.Minute), time.Hour)
			if tt.stated <= 0 { // none, or none to speak of
				want = 4 * time.Minute
			}
			for _, status := range []int{200, 302, 403, 404, 429, 500, 503} {
				assert.Equal(t, want, wellknown.FailureLifetime(status, h, now, 3, 0), "status %d", status)
			}
			// Headers of no response do not count, and 410 needs none.
			assert.Equal(t, 4*time.Minute, wellknown.FailureLifetime(0, h, now, 3, 0))
			assert.Equal(t, time.Hour, wellknown.FailureLifetime(410, h, now, 1, 0))
		})
	}
}

func TestFailureLifetimeRetryAfter(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		lines []string
		want  time.Duration
	}{
		{"seconds", []string{"Retry-After: 600"}, 10 * time.Minute},
		{"few seconds", []string{"Retry-After: 5"}, time.Minute},
		{"zero", []string{"Retry-After: 0"}, 4 * time.Minute},
		{"a day", []string{"Retry-After: 86400"}, time.Hour},
		{"too large", []string{"Retry-After: 99999999999999999999"}, time.Hour},
		{"date", []string{"Retry-After: " + at(10*time.Minute)}, 10 * time.Minute},
		{"date of a clock that is late", []string{"Retry-After: " + at(10*time.Minute-time.Hour), "Date: " + at(-time.Hour)}, 10 * time.Minute},
		{"date past", []string{"Retry-After: " + at(-time.Hour)}, 4 * time.Minute},
		{"date in the last year", []string{"Retry-After: Fri, 31 Dec 9999 23:59:59 GMT"}, time.Hour},
		{"date in RFC 850", []string{"Retry-After: Friday, 20-Nov-26 10:10:00 GMT"}, 10 * time.Minute},
		{"date in asctime", []string{"Retry-After: Fri Nov 20 10:10:00 2026"}, 10 * time.Minute},
		{"the first of two", []string{"Retry-After: 600", "Retry-After: 1200"}, 10 * time.Minute},
		{"beats Cache-Control", []string{"Retry-After: 600", "Cache-Control: max-age=1200"}, 10 * time.Minute},
		{"beats no-store", []string{"Retry-After: 600", "Cache-Control: no-store"}, 10 * time.Minute},
		{"is not made shorter by Age", []string{"Retry-After: 600", "Age: 500"}, 10 * time.Minute},
		{"bad, Cache-Control good", []string{"Retry-After: soon", "Cache-Control: max-age=1200"}, 20 * time.Minute},
		{"bad", []string{"Retry-After: soon"}, 4 * time.Minute},
		{"negative", []string{"Retry-After: -600"}, 4 * time.Minute},
		{"fraction", []string{"Retry-After: 600.5"}, 4 * time.Minute},
		{"empty", []string{"Retry-After:"}, 4 * time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := header(tt.lines...)
			for _, status := range []int{200, 404, 408, 429, 503} {
				assert.Equal(t, tt.want, wellknown.FailureLifetime(status, h, now, 3, 0), "status %d", status)
			}
			assert.Equal(t, 4*time.Minute, wellknown.FailureLifetime(0, h, now, 3, 0))
			assert.Equal(t, time.Hour, wellknown.FailureLifetime(410, h, now, 1, 0))
		})
	}
}

// Failures without a word of their own: one minute, doubling to one hour.
func TestFailureLifetimeBackOff(t *testing.T) {
	t.Parallel()
	tests := []struct {
		failures int
		want     time.Duration // at jitter 0
	}{
		{math.MinInt, time.Minute}, {-1, time.Minute}, {0, time.Minute},
		{1, time.Minute}, {2, 2 * time.Minute}, {3, 4 * time.Minute}, {4, 8 * time.Minute},
		{5, 16 * time.Minute}, {6, 32 * time.Minute}, {7, time.Hour}, {8, time.Hour},
		{63, time.Hour}, {64, time.Hour}, {65, time.Hour}, {1 << 31, time.Hour}, {math.MaxInt, time.Hour},
	}
	for _, tt := range tests {
		for _, status := range []int{0, 404, 500} {
			assert.Equal(t, tt.want, wellknown.FailureLifetime(status, nil, now, tt.failures, 0), "%d failures", tt.failures)
			// A tenth to either side, but never beyond the limits.
			low, high := max(tt.want*9/10, time.Minute), min(tt.want*11/10, time.Hour)
			assert.Equal(t, low, wellknown.FailureLifetime(status, nil, now, tt.failures, -1), "%d failures", tt.failures)
			assert.Equal(t, high, wellknown.FailureLifetime(status, nil, now, tt.failures, 1), "%d failures", tt.failures)
		}
	}
}

// Whatever the jitter is, it moves a lifetime by a tenth at most.
func TestJitter(t *testing.T) {
	t.Parallel()
	for _, jitter := range []float64{1.5, 1e300, math.Inf(1)} {
		assert.Equal(t, wellknown.Lifetime(nil, now, 1), wellknown.Lifetime(nil, now, jitter))
		assert.Equal(t, wellknown.FailureLifetime(0, nil, now, 3, 1), wellknown.FailureLifetime(0, nil, now, 3, jitter))
		assert.Equal(t, wellknown.Lifetime(nil, now, -1), wellknown.Lifetime(nil, now, -jitter))
		assert.Equal(t, wellknown.FailureLifetime(0, nil, now, 3, -1), wellknown.FailureLifetime(0, nil, now, 3, -jitter))
	}
	assert.Equal(t, 24*time.Hour, wellknown.Lifetime(nil, now, math.NaN()))
	assert.Equal(t, 4*time.Minute, wellknown.FailureLifetime(0, nil, now, 3, math.NaN()))
}

// Of two random waits the one with more failures behind it, or with more
// jitter, is not the shorter one.
func TestBackOffNeverShrinks(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		failures, more := random.IntN(12), random.IntN(3)
		jitter := random.Float64()*2 - 1
		wait := wellknown.FailureLifetime(0, nil, now, failures, jitter)
		assert.GreaterOrEqual(t, wellknown.FailureLifetime(0, nil, now, failures+more, jitter), wait)
		assert.GreaterOrEqual(t, wellknown.FailureLifetime(0, nil, now, failures, min(jitter+random.Float64(), 1)), wait)
	}
}

// A longer max-age never makes a shorter lifetime, nor an older answer a
// longer one, and it is all the same in how many lines a header comes.
func TestLifetimeOrder(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		maxAge, age, more := random.Uint32N(400000), random.Uint32N(400000), random.Uint32N(100000)
		lifetime := func(maxAge, age uint32) time.Duration {
			return wellknown.Lifetime(header(fmt.Sprint("Cache-Control: max-age=", maxAge), fmt.Sprint("Age: ", age)), now, 0)
		}
		assert.GreaterOrEqual(t, lifetime(maxAge+more, age), lifetime(maxAge, age))
		assert.LessOrEqual(t, lifetime(maxAge, age+more), lifetime(maxAge, age))
		assert.Equal(t, lifetime(maxAge, age), lifetime(maxAge+more, age+more))

		members := []string{fmt.Sprint("max-age=", maxAge), "private", `ext="a,b"`, fmt.Sprint("s-maxage=", more)}
		random.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		joined := http.Header{"Cache-Control": {strings.Join(members, ", ")}}
		assert.Equal(t, lifetime(maxAge, 0), wellknown.Lifetime(joined, now, 0))
		assert.Equal(t, lifetime(maxAge, 0), wellknown.Lifetime(http.Header{"Cache-Control": members}, now, 0))
	}
}

// now counts, and its zone does not.
func TestLifetimeNow(t *testing.T) {
	t.Parallel()
	h := header("Expires: " + at(time.Hour))
	assert.Equal(t, time.Hour, wellknown.Lifetime(h, now.In(time.FixedZone("x", 5*3600)), 0))
	assert.Equal(t, 30*time.Minute, wellknown.Lifetime(h, now.Add(30*time.Minute), 0))
	assert.Equal(t, 48*time.Hour, wellknown.Lifetime(h, time.Time{}, 0))
}

// The usual answers are dated without allocating. Not parallel: it counts what
// the whole process allocates.
func TestLifetimeAllocatesNothing(t *testing.T) {
	for _, lines := range [][]string{
		nil,
		{"Cache-Control: public, max-age=86400"},
		{"Cache-Control: no-store"},
		{"Cache-Control: public, max-age=86400", "Age: 100", "Date: " + at(0)},
		{"Expires: " + at(time.Hour), "Date: " + at(0)},
	} {
		h := header(lines...)
		assert.Zero(t, testing.AllocsPerRun(100, func() { wellknown.Lifetime(h, now, 0) }), "%q", lines)
	}
}

func BenchmarkLifetime(b *testing.B) {
	for _, bb := range []struct {
		name  string
		lines []string
	}{
		{"none", nil},
		{"maxAge", []string{"Cache-Control: public, max-age=86400"}},
		{"maxAgeAge", []string{"Cache-Control: public, max-age=86400, stale-while-revalidate=600", "Age: 100"}},
		{"expires", []string{"Expires: " + at(time.Hour), "Date: " + at(0)}},
		{"hostile", []string{"Cache-Control: " + strings.Repeat(`,"\`, 10000)}},
	} {
		h := header(bb.lines...)
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				wellknown.Lifetime(h, now, 0.5)
			}
		})
	}
}

func BenchmarkFailureLifetime(b *testing.B) {
	h := header("Content-Type: text/html", "Date: "+at(0))
	b.ReportAllocs()
	for b.Loop() {
		wellknown.FailureLifetime(404, h, now, 5, 0.5)
	}
}

func ExampleLifetime() {
	received := time.Date(2026, time.November, 20, 10, 0, 0, 0, time.UTC)

	// The answer says an hour, and a cache on the way has held it for 15 minutes.
	h := http.Header{
		"Cache-Control": {"public, max-age=3600"},
		"Age":           {"900"},
	}
	fmt.Println(wellknown.Lifetime(h, received, 0))

	// The answer says nothing: a day, here moved by 5 percent.
	fmt.Println(wellknown.Lifetime(nil, received, 0.5))
	// Output:
	// 45m0s
	// 25h12m0s
}

func ExampleFailureLifetime() {
	received := time.Date(2026, time.November, 20, 10, 0, 0, 0, time.UTC)

	// The third failure in a row, without a response.
	fmt.Println(wellknown.FailureLifetime(0, nil, received, 3, 0))

	// The server says itself when to come back.
	h := http.Header{"Retry-After": {"600"}}
	fmt.Println(wellknown.FailureLifetime(http.StatusServiceUnavailable, h, received, 3, 0))
	// Output:
	// 4m0s
	// 10m0s
}
