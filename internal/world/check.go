package world

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// A Check is what to expect of a check of a name.
type Check struct {
	position
	Name    string
	Codes   []string // of the findings; the one that the scene is about comes first
	Verdict string
	Matches []Pattern
}

// A Pattern is a regular expression for a part of what a check says.
type Pattern struct {
	Part string // "summary", or of the finding that the scene is about "message", "evidence", "fix" or "about"
	*regexp.Regexp
}

// parseCheck returns an error with its line.
func parseCheck(file, arg string, sec section) (Check, int, error) {
	c := Check{position: position(fmt.Sprintf("%s:%d", file, sec.line))}
	var err error
	if c.Name, err = parseName(arg); err != nil {
		return c, sec.line, err
	}
	line, err := sec.lines(func(_ int, text string, f []string) error {
		part, pattern, ok := strings.Cut(text, " ~ ")
		switch {
		case ok:
			switch part {
			case "summary", "message", "evidence", "fix", "about":
			default:
				return fmt.Errorf("%q is no part of what a check says", part)
			}
			re, err := regexp.Compile(strings.TrimSpace(pattern))
			c.Matches = append(c.Matches, Pattern{part, re})
			return err
		case f[0] == "verdict" && len(f) == 2 && c.Verdict == "":
			if c.Verdict = f[1]; f[1] != "GOOD" && f[1] != "WARN" && f[1] != "BAD" {
				return fmt.Errorf("a verdict is GOOD, WARN or BAD, not %q", f[1])
			}
		case len(f) == 1 && findingCode.MatchString(f[0]):
			c.Codes = append(c.Codes, f[0])
		default:
			return fmt.Errorf("a line is CODE, \"verdict GOOD|WARN|BAD\", or \"summary|message|evidence|fix|about ~ PATTERN\"")
		}
		return nil
	})
	if err == nil && c.Verdict == "" {
		err = errors.New("no verdict")
	}
	return c, line, err
}

var findingCode = regexp.MustCompile("^[a-z][a-z0-9_]*$")
