package world

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// A Step is one thing to do or to check: [Resolve], [Forget], [Advance] or [Asked].
type Step interface {
	// Position is "file:line" of the step, for messages.
	Position() string
}

type position string

// Position is "file:line" of the step.
func (p position) Position() string { return string(p) }

// Resolve wants Name resolved Times times at once, and each result to match Want ([MatchJSON]).
type Resolve struct {
	position
	Name  string
	Times int // at least 1
	Want  []byte
}

// Forget wants what is known of Name dropped.
type Forget struct {
	position
	Name string
}

// Advance wants time to pass.
type Advance struct {
	position
	By time.Duration
}

// Asked wants these numbers of questions since the last such step.
type Asked struct {
	position
	Want []Count
	Only bool // nothing else may have been asked
}

// A Count is a number of equal entries of [World.Asked].
type Count struct {
	N    int
	What string
}

// Check compares with what [World.Asked] returned.
func (a Asked) Check(got []string) error {
	counts := make(map[string]int)
	for _, g := range got {
		counts[g]++
	}
	var errs []error
	for _, want := range a.Want {
		if n := counts[want.What]; n != want.N {
			errs = append(errs, fmt.Errorf("%s: want %d times, got %d", want.What, want.N, n))
		}
		delete(counts, want.What)
	}
	if a.Only {
		for _, g := range got {
			if n := counts[g]; n > 0 {
				errs = append(errs, fmt.Errorf("%s: not wanted, got %d", g, n))
				delete(counts, g)
			}
		}
	}
	if len(errs) > 0 {
		errs = append(errs, fmt.Errorf("asked in all: %s", strings.Join(got, "; ")))
	}
	return errors.Join(errs...)
}

func parseStep(file, verb, arg string, sec section) (Step, int, error) {
	pos := position(fmt.Sprintf("%s:%d", file, sec.line))
	switch verb {
	case "asked":
		if arg != "" {
			return nil, sec.line, fmt.Errorf("nothing may follow the word asked")
		}
		step := Asked{position: pos}
		line, err := sec.lines(func(_ int, text string, f []string) error {
			if text == "only" {
				step.Only = true
				return nil
			}
			c, err := parseCount(f)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(step.Want, func(o Count) bool { return o.What == c.What }) {
				return fmt.Errorf("a second line for %q", c.What)
			}
			step.Want = append(step.Want, c)
			return nil
		})
		if err == nil && len(step.Want) == 0 && !step.Only {
			err = errors.New("it checks nothing")
		}
		return step, line, err
	case "advance":
		d, err := duration(arg)
		if err == nil {
			err = sec.empty()
		}
		return Advance{pos, d}, sec.line, err
	}

	times := 1
	if verb == "parallel" {
		n, rest, _ := strings.Cut(arg, " ")
		var err error
		if times, err = number(n, 1, maxParallel); err != nil {
			return nil, sec.line, err
		}
		arg = strings.TrimSpace(rest)
	}
	name, err := parseName(arg)
	if err != nil {
		return nil, sec.line, err
	}
	if verb == "forget" {
		return Forget{pos, name}, sec.line, sec.empty()
	}
	var object map[string]any
	if err := json.Unmarshal([]byte(sec.text), &object); err != nil || object == nil {
		return nil, sec.line, fmt.Errorf("the body must be a JSON object: %v", err)
	}
	if err := checkPatterns(object); err != nil {
		return nil, sec.line, err
	}
	return Resolve{pos, name, times, []byte(sec.text)}, sec.line, nil
}

// parseName reads a NAME, which may be quoted.
func parseName(arg string) (string, error) {
	if arg == "" {
		return "", fmt.Errorf("a name is missing")
	}
	if arg[0] != '"' {
		return arg, nil
	}
	name, err := strconv.Unquote(arg)
	if err != nil {
		return "", fmt.Errorf("%s is not a quoted name", arg)
	}
	return name, nil
}

// parseCount is strict in the form of WHAT: a slip in a line that wants 0 would never show.
func parseCount(f []string) (Count, error) {
	bad := func() (Count, error) {
		return Count{}, fmt.Errorf("a line is N TYPE NAME, N METHOD URL, N CONNECT ADDR:PORT, or only")
	}
	if len(f) != 3 {
		return bad()
	}
	n, err := number(f[0], 0, maxAsked)
	if err != nil {
		return Count{}, err
	}
	switch kind, what := f[1], f[2]; {
	case kind == "CONNECT":
		if _, err := netip.ParseAddrPort(what); err != nil {
			return bad()
		}
	case methods[kind]:
		if !strings.HasPrefix(what, "https://") && !strings.HasPrefix(what, "http://") {
			return bad()
		}
	case dns.StringToType[kind] != 0:
		if what != logName(what) {
			return Count{}, fmt.Errorf("names are written in lower case and without the final dot: %s", logName(what))
		}
	default:
		return bad()
	}
	return Count{n, f[1] + " " + f[2]}, nil
}

// checkPatterns finds bad regular expressions when the file is read.
func checkPatterns(v any) error {
	switch v := v.(type) {
	case map[string]any:
		for _, e := range v {
			if err := checkPatterns(e); err != nil {
				return err
			}
		}
	case []any:
		for _, e := range v {
			if err := checkPatterns(e); err != nil {
				return err
			}
		}
	case string:
		if p, ok := strings.CutPrefix(v, "~"); ok {
			_, err := regexp.Compile(p)
			return err
		}
	}
	return nil
}
