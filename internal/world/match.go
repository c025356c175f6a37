package world

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// MatchJSON tells whether the JSON text got is at least what the JSON text want says. An object
// in want needs its keys in got, which may have more; a key that is null in want must be absent from got.
// Arrays need the same length, and each element to match. A string that begins with "~" is a regular
// expression that matches somewhere in a string; numbers need the same value. The error lists every
// difference with its path.
func MatchJSON(want, got []byte) error {
	w, err := decode(want)
	if err != nil {
		return fmt.Errorf("what is wanted is not JSON: %w", err)
	}
	g, err := decode(got)
	if err != nil {
		return fmt.Errorf("what came is not JSON: %w: %q", err, got)
	}
	return errors.Join(match("", w, g)...)
}

func decode(text []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("more follows after the first value")
	}
	return v, nil
}

func match(path string, want, got any) (errs []error) {
	differ := func() []error {
		at := path
		if at == "" {
			at = "(top)"
		}
		return []error{fmt.Errorf("%s: want %s, got %s", at, show(want), show(got))}
	}
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return differ()
		}
		for _, key := range slices.Sorted(maps.Keys(w)) {
			at := strings.TrimPrefix(path+"."+key, ".")
			v, ok := g[key]
			switch {
			case w[key] == nil && ok:
				errs = append(errs, fmt.Errorf("%s: want no such key, got %s", at, show(v)))
			case w[key] == nil:
			case !ok:
				errs = append(errs, fmt.Errorf("%s: want %s, got no such key", at, show(w[key])))
			default:
				errs = append(errs, match(at, w[key], v)...)
			}
		}
		return errs
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return differ()
		}
		for i := range w {
			errs = append(errs, match(path+"["+strconv.Itoa(i)+"]", w[i], g[i])...)
		}
		return errs
	case string:
		g, ok := got.(string)
		if !ok {
			return differ()
		}
		if pattern, ok := strings.CutPrefix(w, "~"); ok {
			re, err := regexp.Compile(pattern)
			if err != nil {
				return []error{fmt.Errorf("%s: want a bad regular expression: %w", path, err)}
			}
			if !re.MatchString(g) {
				return differ()
			}
			return nil
		}
		if w != g {
			return differ()
		}
	case json.Number:
		g, ok := got.(json.Number)
		if !ok || w != g && !sameValue(w, g) {
			return differ()
		}
	default: // true, false, null
		if want != got {
			return differ()
		}
	}
	return nil
}

func sameValue(a, b json.Number) bool {
	x, err := a.Float64()
	if err != nil {
		return false
	}
	y, err := b.Float64()
	return err == nil && x == y
}

func show(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("%q", fmt.Sprint(v))
	}
	return string(b)
}
