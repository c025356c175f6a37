// Package printable makes text from the network fit to be printed: one line,
// of bounded length, without a character that a terminal or a log would act on.
package printable

import "strconv"

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
