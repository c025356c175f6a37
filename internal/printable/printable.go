// Package printable makes text from the network fit to be printed: one line,
// of bounded length, without a character that a terminal or a log would act on.
package printable

import (
	"strconv"
	"unicode/utf8"
)

// MaxLine is the most bytes of a text that Line keeps: enough for a long URL
// or name, little enough for a line of a log.
const MaxLine = 300

// Line gives s as it is if it is short printable ASCII, else quoted as Go
// quotes, or cut.
func Line(s string) string {
	cut := ""
	if len(s) > MaxLine {
		s, cut = s[:MaxLine], "..."
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return strconv.QuoteToASCII(s) + cut
		}
	}
	return s + cut
}

// Quote gives s as a quoted Go string of at most most bytes. What is cut off
// is shown by three dots after the closing quote.
func Quote(s string, most int) string {
	const dots = "..."
	if len(s) <= most { // else the quotation is longer still
		if q := strconv.Quote(s); len(q) <= most {
			return q
		}
	}
	for size := min(len(s), most); ; size-- {
		s = Cut(s, size)
		if q := strconv.Quote(s); len(q) <= most-len(dots) || s == "" {
			return q + dots
		}
	}
}

// Cut gives the longest beginning of s that has at most size bytes and does
// not end within a character.
func Cut(s string, size int) string {
	if len(s) <= size {
		return s
	}
	for size > 0 && !utf8.RuneStart(s[size]) {
		size--
	}
	return s[:max(size, 0)]
}
