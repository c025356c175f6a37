package serverkeys

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"mxdiscover/internal/printable"
)

const (
	// maxDepth bounds how deep arrays and objects stand in each other. A key
	// document has 3 levels; the limit keeps the stack small.
	maxDepth = 64
	// maxInteger is the largest number of canonical JSON, 2^53-1 (appendices,
	// Canonical JSON), which has 16 digits.
	maxInteger       = 1<<53 - 1
	maxIntegerDigits = 16
	// maxQuoted is the size of the longest quotation of a document in an error,
	// in bytes: a line of a terminal.
	maxQuoted = 80
)

// Canonical gives the canonical form of a JSON text (appendices, Canonical
// JSON): the shortest one, in UTF-8, with the keys of each object in the order
// of their code points.
//
// Refused are a text that is not exactly one JSON value in UTF-8, an object
// that has a key twice, half of a surrogate pair (it has no UTF-8), a number
// with a fraction, and one beyond plus or minus 2^53-1. An exponent is no
// fraction: 1e10 is 10000000000, and -0 is 0, as the examples of the
// specification have it.
//
// The error is an [*Error].
func Canonical(text []byte) ([]byte, error) {
	v, err := decode(text)
	if err != nil {
		return nil, err
	}
	return appendCanonical(nil, v)
}

// decode reads a JSON text into nil, bool, string, json.Number, []any and
// map[string]any.
func decode(text []byte) (any, error) {
	if !utf8.Valid(text) { // encoding/json would put U+FFFD in its place
		return nil, failf(NotJSON, "not UTF-8")
	}
	if !json.Valid(text) {
		var v any
		err := json.Unmarshal(text, &v) // for its message, which quotes the character it names
		if trimmed := bytes.TrimSpace(text); len(trimmed) == 0 {
			return nil, failf(NotJSON, "empty")
		} else if trimmed[0] == '<' {
			return nil, failf(NotJSON, "HTML or XML, not JSON")
		}
		return nil, failf(NotJSON, "not JSON: %v", err)
	}
	if half := halfSurrogate(text); half != "" {
		return nil, failf(NotCanonical, "%s is half of a surrogate pair", half)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := decodeValue(d, 0)
	if err == io.ErrUnexpectedEOF || err == io.EOF { // json.Valid has seen the end
		err = failf(NotJSON, "not JSON: it ends too early")
	}
	return v, err
}

func decodeValue(d *json.Decoder, depth int) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return t, nil
	}
	if depth == maxDepth {
		return nil, failf(NotCanonical, "more than %d levels of arrays and objects", maxDepth)
	}
	if delim == '[' {
		list := []any{}
		for d.More() {
			v, err := decodeValue(d, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := d.Token()
		return list, err
	}
	object := make(map[string]any)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		key, _ := t.(string) // of an object, always
		if _, twice := object[key]; twice {
			// RFC 8259, 4: what comes out depends on the reader. A signature must
			// not.
			return nil, failf(NotCanonical, "the key %s stands twice in one object", printable.Quote(key, maxQuoted))
		}
		if object[key], err = decodeValue(d, depth+1); err != nil {
			return nil, err
		}
	}
	_, err = d.Token()
	return object, err
}

// halfSurrogate finds an escape such as \ud800 that is not one of a pair, in
// valid JSON. encoding/json would put U+FFFD in its place.
func halfSurrogate(text []byte) string {
	unit := func(i int) rune { // of the escape \uXXXX at i; 0 if there is none
		if i+6 > len(text) || text[i] != '\\' || text[i+1] != 'u' {
			return 0
		}
		n, _ := strconv.ParseUint(string(text[i+2:i+6]), 16, 16)
		return rune(n)
	}
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		switch u := unit(i); {
		case u >= 0xd800 && u < 0xdc00:
			if low := unit(i + 6); low < 0xdc00 || low > 0xdfff {
				return string(text[i : i+6])
			}
			i += 11
		case u >= 0xdc00 && u <= 0xdfff:
			return string(text[i : i+6])
		default:
			i++ // the character after a backslash is no backslash of its own
		}
	}
	return ""
}

// appendCanonical writes what decode gave.
func appendCanonical(dst []byte, v any) ([]byte, error) {
	var err error
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...), nil
	case bool:
		return strconv.AppendBool(dst, v), nil
	case string:
		return appendString(dst, v), nil
	case json.Number:
		n, err := integer(string(v))
		return strconv.AppendInt(dst, n, 10), err
	case []any:
		dst = append(dst, '[')
		for i, e := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, err = appendCanonical(dst, e); err != nil {
				return nil, err
			}
		}
		return append(dst, ']'), nil
	case map[string]any:
		dst = append(dst, '{')
		// The order of UTF-8's bytes is that of the code points.
		for i, key := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendString(dst, key), ':')
			if dst, err = appendCanonical(dst, v[key]); err != nil {
				return nil, err
			}
		}
		return append(dst, '}'), nil
	}
	return nil, failf(NotCanonical, "a value of type %T", v)
}

// appendString writes a string with no escape that is not needed (appendices,
// Canonical JSON, Grammar). That of encoding/json escapes more.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := range len(s) {
		c := s[i]
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, `\b`...)
		case '\f':
			dst = append(dst, `\f`...)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			if c < ' ' {
				dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			} else {
				dst = append(dst, c)
			}
		}
	}
	return append(dst, '"')
}

// integer reads a JSON number that is one. It works on the digits: a float64
// would round, and the exponent may be of any size.
func integer(text string) (int64, error) {
	refuse := func(why string) (int64, error) {
		return 0, failf(NotCanonical, "the number %s %s", printable.Quote(text, maxQuoted), why)
	}
	digits, exponent, hasExponent := strings.Cut(strings.ToLower(text), "e")
	digits, negative := strings.CutPrefix(digits, "-")
	if strings.Contains(digits, ".") {
		return refuse("has a fraction") // "Float values are not permitted by this encoding."
	}
	digits = strings.TrimLeft(digits, "0")
	if digits == "" {
		return 0, nil
	}
	if hasExponent {
		e, err := strconv.Atoi(strings.TrimPrefix(exponent, "+"))
		if err != nil || e > maxIntegerDigits {
			return refuse("is not an integer of 53 bits")
		}
		for ; e < 0 && strings.HasSuffix(digits, "0"); e++ {
			digits = digits[:len(digits)-1]
		}
		if e < 0 {
			return refuse("has a fraction")
		}
		digits += strings.Repeat("0", e)
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > maxInteger {
		return refuse("is not an integer of 53 bits")
	}
	if negative {
		n = -n
	}
	return n, nil
}
