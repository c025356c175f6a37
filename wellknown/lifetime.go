package wellknown

import (
	"math"
	"net/http"
	"strings"
	"time"
)

const (
	// DefaultLifetime is how long an answer is kept that does not say so
	// itself (S2S, Resolving server names, 3, recommends 24 hours).
	DefaultLifetime = 24 * time.Hour

	// MaxLifetime is the longest that any answer is kept (S2S, Resolving
	// server names, 3, recommends 48 hours).
	MaxLifetime = 48 * time.Hour

	// MinLifetime is the shortest that a valid answer is kept, also when it
	// asks not to be kept at all. The specification names no floor. Without
	// one a "no-store" would cost a fetch for each request that is sent to
	// the server. Five minutes is what the Synapse homeserver uses.
	MinLifetime = 5 * time.Minute

	// MinFailureLifetime is how long the first failure is left alone. The
	// specification names no floor. A minute is short enough for an operator
	// who mends a server and looks again.
	MinFailureLifetime = time.Minute

	// MaxFailureLifetime is the longest that a failure is left alone (S2S,
	// Resolving server names, 3, recommends up to an hour for errors).
	MaxFailureLifetime = time.Hour
)

// jitterShare is the part of a lifetime of our own choosing that jitter moves.
// A tenth is enough to pull apart what a restart has put at the same moment: it
// takes the peak of a dense federation to a sixth (docs/simulation.md).
const jitterShare = 0.1

// maxDeltaSeconds is the largest number of seconds that a header can state;
// more counts as this (RFC 9111, 1.2.2).
const maxDeltaSeconds = 1 << 31

// Lifetime says how long a valid answer with the header h, received at now,
// may be kept.
//
// The first of these decides: no-store or no-cache (nothing), the first
// max-age that is a number, Expires less Date (less now, if there is no valid
// Date). What the answer states is shortened by its Age. An answer that states
// nothing is kept for [DefaultLifetime], moved by up to a tenth: jitter -1 is
// a tenth less, 1 a tenth more, and a jitter outside of [-1, 1] counts as the
// nearer end. A stated lifetime is not moved. The result lies between
// [MinLifetime] and [MaxLifetime].
//
// The cache is a private one (RFC 9111, 1): s-maxage does not concern it.
func Lifetime(h http.Header, now time.Time, jitter float64) time.Duration {
	d, stated := statedLifetime(h, now)
	if !stated {
		d = spread(DefaultLifetime, jitter)
	}
	return clamp(d, MinLifetime, MaxLifetime)
}

// FailureLifetime says how long a failed fetch is left alone: status and h are
// those of the response received at now, or 0 and nil when there was none, and
// failures counts the failures in a row, this one included.
//
// The first of these decides: status 410 ([MaxFailureLifetime]), Retry-After,
// the lifetime that the response states itself as in [Lifetime], each if it is
// any time at all, and else one minute that doubles with each failure, moved by jitter as there. The result
// lies between [MinFailureLifetime] and [MaxFailureLifetime]. A count below 1
// is taken as 1.
func FailureLifetime(status int, h http.Header, now time.Time, failures int, jitter float64) time.Duration {
	// RFC 9110, 15.5.11: "this condition is likely to be permanent". It comes
	// before the headers, for many servers put no-store on every error page.
	if status == http.StatusGone {
		return MaxFailureLifetime
	}
	if status != 0 {
		d, stated := retryAfter(h, now)
		if !stated {
			d, _ = statedLifetime(h, now)
		}
		// no-store, "Retry-After: 0" and their like state no time to wait, and
		// stand on many servers' error pages: they do not stop the back-off.
		if d > 0 {
			return clamp(d, MinFailureLifetime, MaxFailureLifetime)
		}
	}
	// S2S, Resolving server names, 3: exponential back-off is encouraged.
	// The loop ends at the maximum, so no count overflows.
	d := MinFailureLifetime
	for ; failures > 1 && d < MaxFailureLifetime; failures-- {
		d *= 2
	}
	d = min(d, MaxFailureLifetime)
	return clamp(spread(d, jitter), MinFailureLifetime, MaxFailureLifetime)
}

// statedLifetime returns the freshness lifetime that the response itself
// states, less its age (RFC 9111, 4.2.1 and 4.2.3), and false if it states
// none. It may be negative: stale already.
func statedLifetime(h http.Header, now time.Time) (time.Duration, bool) {
	d, stated := controlLifetime(h.Values("Cache-Control"))
	if !stated {
		d, stated = expiresLifetime(h, now)
	}
	if !stated || d <= 0 {
		return 0, stated
	}
	return d - statedAge(h), true
}

// controlLifetime returns what the lines of Cache-Control state. The stricter
// directive wins where two conflict (RFC 9111, 4.2.1), so no-store and
// no-cache beat any max-age. Each line is read on its own, so that a quote
// which one line leaves open does not swallow the next.
func controlLifetime(lines []string) (d time.Duration, stated bool) {
	for _, line := range lines {
		for line != "" {
			var name, value string
			name, value, line = cutDirective(line)
			switch {
			case equalFold(name, "no-store"), equalFold(name, "no-cache"):
				// no-cache="field" is about that field alone, but caches often
				// read it as plain no-cache (RFC 9111, 5.2.2.4). So do we:
				// it is simpler, and errs towards asking again.
				return 0, true
			case !stated && equalFold(name, "max-age"):
				// The first of several (RFC 9111, 4.2.1), that is the first
				// which says anything: "max-age=" and "max-age=-1" do not.
				d, stated = deltaSeconds(unquote(value))
			}
		}
	}
	return d, stated
}

// expiresLifetime returns Expires less Date. A field that is there but holds
// no date, "0" above all, is a time in the past (RFC 9111, 5.3). Of several
// lines the first counts (4.2.1).
func expiresLifetime(h http.Header, now time.Time) (time.Duration, bool) {
	lines := h.Values("Expires")
	if len(lines) == 0 {
		return 0, false
	}
	t, ok := parseDate(lines[0])
	if !ok {
		return 0, true
	}
	return t.Sub(responseDate(h, now)), true
}

// responseDate returns the Date of the response, and now if it has no valid one. A
// difference between two times of the same clock does not depend on whether
// that clock is right.
func responseDate(h http.Header, now time.Time) time.Time {
	if t, ok := parseDate(h.Get("Date")); ok {
		return t
	}
	return now
}

// statedAge returns how long the response has been kept on its way to us. Only the
// first member counts, and what is no number is ignored (RFC 9111, 5.1).
//
// The "apparent age" of RFC 9111, 4.2.3, now less Date, is left out: it would
// make the answers of every server stale whose clock is late.
func statedAge(h http.Header) time.Duration {
	first, _, _ := strings.Cut(h.Get("Age"), ",")
	d, _ := deltaSeconds(strings.Trim(first, " \t"))
	return d
}

// retryAfter returns what Retry-After asks for: seconds or a date (RFC 9110,
// 10.2.3). A value that is neither is ignored. A date is read as that of
// Expires is, against the clock that wrote it.
func retryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	value := strings.Trim(h.Get("Retry-After"), " \t")
	if d, ok := deltaSeconds(value); ok {
		return d, true
	}
	if t, ok := parseDate(value); ok {
		return t.Sub(responseDate(h, now)), true
	}
	return 0, false
}

// cutDirective cuts the first list member from s, one line of Cache-Control, and
// splits it into name and value (RFC 9111, 5.2). White space around either is
// tolerated. A comma within quotes does not end the member; a quote that is
// never closed reaches to the end of the line.
func cutDirective(s string) (name, value, rest string) {
	quoted := false
	equals, end := -1, len(s)
scan:
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == ',':
			end = i
			break scan
		case c == '=' && equals < 0:
			equals = i
		}
	}
	name = s[:end]
	if equals >= 0 {
		name, value = s[:equals], strings.Trim(s[equals+1:end], " \t")
	}
	if end < len(s) {
		rest = s[end+1:]
	}
	return strings.Trim(name, " \t"), value, rest
}

// unquote returns the text of s if it is a quoted-string (RFC 9110, 5.6.4),
// else s as it is. Both forms of an argument mean the same (RFC 9111, 5.2).
func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	s = s[1 : len(s)-1]
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b = append(b, s[i])
	}
	return string(b)
}

// deltaSeconds reads a number of seconds: digits and nothing else (RFC 9111,
// 1.2.2). A number too large for us is the largest one.
func deltaSeconds(s string) (time.Duration, bool) {
	if s == "" {
		return 0, false
	}
	n := int64(0)
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = min(n*10+int64(s[i]-'0'), maxDeltaSeconds)
	}
	return time.Duration(n) * time.Second, true
}

// parseDate reads an HTTP-date in any of its three formats (RFC 9110, 5.6.7).
// It is [http.ParseTime], except that there the zone of the second format can
// be any, and means what it means on this machine; here it is GMT.
func parseDate(s string) (time.Time, bool) {
	s = strings.Trim(s, " \t")
	if s == "" {
		return time.Time{}, false
	}
	for _, layout := range [...]string{
		http.TimeFormat,
		"Monday, 02-Jan-06 15:04:05 GMT",
		time.ANSIC,
	} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// equalFold compares header tokens without regard to case. Unlike
// [strings.EqualFold] it folds ASCII alone: "no-ſtore" is not "no-store".
// lower is in lower case.
func equalFold(s, lower string) bool {
	if len(s) != len(lower) {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// spread moves d by jitter, which is within [-1, 1], times a tenth.
func spread(d time.Duration, jitter float64) time.Duration {
	if math.IsNaN(jitter) {
		return d
	}
	return d + time.Duration(float64(d)*jitterShare*min(max(jitter, -1), 1))
}

func clamp(d, low, high time.Duration) time.Duration {
	return min(max(d, low), high)
}
