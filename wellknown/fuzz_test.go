package wellknown_test

import (
	"encoding/json"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"mxdiscover/internal/servername"
	"mxdiscover/wellknown"
)

// What is accepted is a valid document in every respect, read as another
// reader of JSON reads it, and holds a name that is safe to use anywhere. What
// is refused is refused in words that are safe to print.
func FuzzParseServer(f *testing.F) {
	for _, tt := range goodServers {
		f.Add([]byte(tt.body))
	}
	for _, tt := range badServers {
		f.Add([]byte(tt.body))
	}
	for _, name := range badNames {
		f.Add([]byte(`{"m.server":"` + name + `"}`))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		server, err := wellknown.ParseServer(body)
		object, objectErr := wellknown.ParseObject(body)
		if objectErr != nil {
			require.Equal(t, objectErr, err)
			require.Nil(t, object)
		}
		if err != nil {
			require.Empty(t, server)
			requireParseError(t, err)
			return
		}
		require.LessOrEqual(t, len(body), wellknown.MaxBody)
		require.True(t, utf8.Valid(body))
		require.True(t, json.Valid(body))
		// A map has no order and no case folding, and the last duplicate wins.
		var values map[string]any
		require.NoError(t, json.Unmarshal(body, &values))
		require.Equal(t, values["m.server"], server)
		require.Len(t, object, len(values))

		name, err := servername.Parse(server)
		require.NoError(t, err)
		require.Equal(t, server, name.String())
		for i := range len(server) {
			require.True(t, server[i] > ' ' && server[i] < 0x7f, "%q", server)
		}
	})
}

// fuzzHeader returns the header that three values make: the first one, in
// lines that end in a newline, the other two in one line each; and none for an
// empty value.
func fuzzHeader(control, expires, age string) http.Header {
	h := http.Header{}
	if control != "" {
		h["Cache-Control"] = strings.Split(control, "\n")
	}
	if expires != "" {
		h["Expires"] = []string{expires}
	}
	if age != "" {
		h["Age"] = []string{age}
	}
	return h
}

func addHeaders(add func(control, expires, age string)) {
	for _, tt := range headerTests {
		h := header(tt.lines...)
		add(strings.Join(h["Cache-Control"], "\n"), h.Get("Expires"), h.Get("Age"))
	}
}

// Whatever the headers say and the clock shows, the lifetime is within its
// limits; and a jitter changes nothing that the headers state.
func FuzzLifetime(f *testing.F) {
	addHeaders(func(control, expires, age string) { f.Add(control, expires, age, now.Unix(), 0.5) })
	f.Add("", "Fri, 31 Dec 9999 23:59:59 GMT", "", int64(math.MinInt64), -1.0)
	f.Add("", "Mon, 01 Jan 0001 00:00:00 GMT", "", int64(math.MaxInt64), math.Inf(1))
	f.Fuzz(func(t *testing.T, control, expires, age string, seconds int64, jitter float64) {
		h, at := fuzzHeader(control, expires, age), time.Unix(seconds, 0)
		d := wellknown.Lifetime(h, at, jitter)
		require.GreaterOrEqual(t, d, wellknown.MinLifetime)
		require.LessOrEqual(t, d, wellknown.MaxLifetime)
		require.Equal(t, d, wellknown.Lifetime(h, at, jitter), "the same for the same arguments")
		if plain := wellknown.Lifetime(h, at, 0); plain != d {
			require.Equal(t, wellknown.DefaultLifetime, plain, "moved by jitter, so not stated")
			require.InDelta(t, plain, d, float64(wellknown.DefaultLifetime)/10)
		}
		h.Add("Cache-Control", "No-Store")
		require.Equal(t, wellknown.MinLifetime, wellknown.Lifetime(h, at, jitter), "no-store decides in any company")
	})
}

// The same for failures, for any count and status.
func FuzzFailureLifetime(f *testing.F) {
	addHeaders(func(control, expires, age string) {
		f.Add(404, control, expires, age, now.Unix(), 1, 0.5)
	})
	f.Add(503, "", "120", "", int64(math.MaxInt64), math.MaxInt, math.Inf(-1))
	f.Add(0, "", "Fri, 31 Dec 9999 23:59:59 GMT", "", int64(math.MinInt64), math.MinInt, math.NaN())
	f.Fuzz(func(t *testing.T, status int, control, date, age string, seconds int64, failures int, jitter float64) {
		h, at := fuzzHeader(control, date, age), time.Unix(seconds, 0)
		check := func(status int) time.Duration {
			d := wellknown.FailureLifetime(status, h, at, failures, jitter)
			require.GreaterOrEqual(t, d, wellknown.MinFailureLifetime)
			require.LessOrEqual(t, d, wellknown.MaxFailureLifetime)
			return d
		}
		check(status)
		silent := check(0)
		require.Equal(t, silent, wellknown.FailureLifetime(500, nil, at, failures, jitter))
		require.Equal(t, wellknown.MaxFailureLifetime, check(http.StatusGone))

		// The same text as Retry-After instead of Expires.
		if date != "" {
			delete(h, "Expires")
			h["Retry-After"] = []string{date}
			check(status)
		}
	})
}
