package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"unicode"
)

// width is what every terminal shows.
const width = 80

// SGR codes (ECMA-48, 8.3.117).
const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

// output is one of the two streams of a run.
type output struct {
	io.Writer
	color bool  // it is a terminal that wants colours
	wrap  bool  // it is a terminal: messages are broken to fit it
	err   error // the first one of the writer

	failed atomic.Bool // err is set
}

// Write passes p on until the writer has failed once.
func (o *output) Write(p []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.Writer.Write(p)
	if err != nil {
		o.err = err
		o.failed.Store(true)
	}
	return n, err
}

func (o *output) paint(code, s string) string {
	if !o.color {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// printJSON prints v on one line.
func (a *app) printJSON(v any) {
	line, err := json.Marshal(v)
	if err != nil {
		a.complain(err.Error(), "")
		return
	}
	fmt.Fprintf(a.stdout, "%s\n", escapeControls(line))
}

// escapeControls escapes in a JSON text the control characters that encoding/json
// leaves as they are, DEL and U+0080 to U+009F: a terminal obeys some of them.
func escapeControls(text []byte) []byte {
	if !bytes.ContainsFunc(text, unicode.IsControl) {
		return text
	}
	var out bytes.Buffer
	for _, r := range string(text) {
		if unicode.IsControl(r) {
			fmt.Fprintf(&out, `\u%04x`, r)
		} else {
			out.WriteRune(r)
		}
	}
	return out.Bytes()
}

// complain, warn: one line that says what is wrong, and one with what to do.
func (a *app) complain(message, hint string) { a.say("error", red, message, hint) }

func (a *app) warn(message, hint string) { a.say("warning", yellow, message, hint) }

func (a *app) say(kind, color, message, hint string) {
	a.line(kind, color, message)
	if hint != "" {
		a.line("hint", cyan, hint)
	}
}

// line is one line, whatever its length, for programs; for people it is broken
// at spaces.
func (a *app) line(kind, color, text string) {
	lines := []string{text}
	if a.stderr.wrap {
		lines = wrap(text, width-len(kind)-len(": "))
	}
	indent := "\n" + strings.Repeat(" ", len(kind)+len(": "))
	fmt.Fprintf(a.stderr, "%s %s\n", a.stderr.paint(color, kind+":"), strings.Join(lines, indent))
}

// wrap breaks s at spaces into lines of at most most characters; a word that
// is longer stays whole. Leading spaces are kept on every line.
func wrap(s string, most int) []string {
	text := strings.TrimLeft(s, " ")
	lead := s[:len(s)-len(text)]
	var lines []string
	line := lead
	for _, word := range strings.Fields(text) {
		switch {
		case line == lead:
			line += word
		case visible(line)+1+visible(word) <= most:
			line += " " + word
		default:
			lines = append(lines, line)
			line = lead + word
		}
	}
	return append(lines, line)
}

// visible is how many columns s takes: SGR sequences take none.
func visible(s string) int {
	n, inside := 0, false
	for _, r := range s {
		switch {
		case r == '\x1b':
			inside = true
		case inside:
			inside = r != 'm'
		default:
			n++
		}
	}
	return n
}
