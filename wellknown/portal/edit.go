package portal

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"io"
	"slices"
	"strings"

	"mxdiscover/internal/baseurl"
)

// The fields of a login answer that name the homeserver.
const (
	fieldWellKnown = "well_known"
	fieldBaseCSURL = "base_cs_url"
)

// A member is a key with its value in the text of a JSON object, or an element
// of an array.
type member struct {
	key        string
	value      json.RawMessage
	start, end int // of the value, in the text
}

// object gives the members of a valid JSON object in their order; ok is false
// if the text is something else. What encoding/json gives is a map: it has lost
// the order, the numbers and the doubles.
func object(valid []byte) (members []member, ok bool) { return children(valid, '{') }

// array is object for the elements of an array.
func array(valid []byte) (elements []member, ok bool) { return children(valid, '[') }

func children(valid []byte, open byte) ([]member, bool) {
	at := skipSpace(valid, 0)
	if at == len(valid) || valid[at] != open {
		return nil, false
	}
	var all []member
	for at = skipSpace(valid, at+1); valid[at] != '}' && valid[at] != ']'; {
		var m member
		if valid[at] == ',' {
			at = skipSpace(valid, at+1)
		}
		if open == '{' {
			end := skipValue(valid, at)
			// A valid string cannot fail.
			_ = json.Unmarshal(valid[at:end], &m.key)
			at = skipSpace(valid, skipSpace(valid, end)+len(":"))
		}
		m.start, m.end = at, skipValue(valid, at)
		m.value = valid[m.start:m.end]
		all = append(all, m)
		at = skipSpace(valid, m.end)
	}
	return all, true
}

// skipSpace knows the white space of JSON (RFC 8259, 2).
func skipSpace(text []byte, at int) int {
	for at < len(text) && strings.IndexByte(" \t\r\n", text[at]) >= 0 {
		at++
	}
	return at
}

// skipValue gives the end of the value that begins at at, in valid JSON.
func skipValue(text []byte, at int) int {
	if c := text[at]; c != '"' && c != '{' && c != '[' {
		for at < len(text) && strings.IndexByte(",]} \t\r\n", text[at]) < 0 {
			at++
		}
		return at
	}
	for depth := 0; ; at++ {
		switch text[at] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '"':
			for at++; text[at] != '"'; at++ {
				if text[at] == '\\' {
					at++
				}
			}
		}
		if depth == 0 {
			return at + 1
		}
	}
}

// str reads a JSON string.
func str(value json.RawMessage) (text string, ok bool) {
	if len(value) == 0 || value[0] != '"' {
		return "", false
	}
	return text, json.Unmarshal(value, &text) == nil
}

// last gives the member with a key: of several the last one, which is what
// nearly every reader takes (RFC 8259, 4 leaves it open). One that is null
// counts as absent, and is returned all the same.
func last(members []member, key string) (at int, present bool) {
	for i, m := range slices.Backward(members) {
		if m.key == key {
			return i, string(m.value) != "null"
		}
	}
	return -1, false
}

// Announce adds to the JSON object of a login answer where its homeserver is:
// "well_known" and "base_cs_url", as far as emit names them. It is what a
// [Portal] does with answers, and what a homeserver may do with its own: the
// draft of 26 November 2018 wants base_cs_url "returned by compliant
// homeservers".
//
// A field that stands there already stays, unless it is null. If one of the two
// stands there and names a base URL, the other one is given the same; else
// baseURL. Nothing else changes: the members, their order, the text of numbers,
// even keys that stand there twice. What is not one JSON object is returned as
// it is, and so is answer if there is nothing to add.
func Announce(answer []byte, baseURL string, emit Emit) []byte {
	if !json.Valid(answer) {
		return answer
	}
	members, ok := object(answer)
	if !ok {
		return answer
	}
	wellKnown, hasWellKnown := last(members, fieldWellKnown)
	baseCSURL, hasBaseCSURL := last(members, fieldBaseCSURL)
	named := quote(baseURL)
	switch {
	case hasWellKnown:
		if text := homeserverOf(members[wellKnown].value); text != nil {
			named = text
		}
	case hasBaseCSURL:
		if text := members[baseCSURL].value; usable(text) {
			named = text
		}
	}
	var add []addition
	if emit.has(EmitWellKnown) && !hasWellKnown {
		add = append(add, addition{fieldWellKnown, wellKnown, `{"m.homeserver":{"base_url":` + string(named) + `}}`})
	}
	if emit.has(EmitBaseCSURL) && !hasBaseCSURL {
		add = append(add, addition{fieldBaseCSURL, baseCSURL, string(named)})
	}
	return insert(answer, members, add)
}

// addition is a value for a key; at is the member that is null in its place,
// -1 if there is none.
type addition struct {
	key   string
	at    int
	value string
}

// insert writes additions into the object: in place of a null, else at the
// end.
func insert(text []byte, members []member, add []addition) []byte {
	if len(add) == 0 {
		return text
	}
	slices.SortStableFunc(add, func(a, b addition) int { // those with a place first, in the order of the text
		switch {
		case a.at < 0 && b.at < 0:
			return 0
		case a.at < 0:
			return 1
		case b.at < 0:
			return -1
		}
		return a.at - b.at
	})
	var out bytes.Buffer
	done := 0
	for i, a := range add {
		if a.at >= 0 {
			out.Write(text[done:members[a.at].start])
			out.WriteString(a.value)
			done = members[a.at].end
			continue
		}
		if i == 0 || add[i-1].at >= 0 { // the first one at the end
			end := skipSpace(text, 0) + len("{")
			if n := len(members); n > 0 {
				end = members[n-1].end
			}
			out.Write(text[done:end])
			done = end
		}
		if i > 0 || len(members) > 0 {
			out.WriteByte(',')
		}
		out.WriteString(`"` + a.key + `":` + a.value)
	}
	out.Write(text[done:])
	return out.Bytes()
}

// quote makes a JSON string.
func quote(text string) json.RawMessage {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false) // "&" in a path stays readable
	_ = e.Encode(text)     // a string cannot fail
	return bytes.TrimSpace(out.Bytes())
}

// homeserverOf gives the text of m.homeserver.base_url of a well_known object;
// nil if there is none that is of use.
func homeserverOf(wellKnown json.RawMessage) json.RawMessage {
	value := wellKnown
	for _, key := range []string{"m.homeserver", "base_url"} {
		members, ok := object(value)
		if !ok {
			return nil
		}
		at, present := last(members, key)
		if !present {
			return nil
		}
		value = members[at].value
	}
	if !usable(value) {
		return nil
	}
	return value
}

// usable reports whether a JSON value is a base URL.
func usable(value json.RawMessage) bool {
	text, ok := str(value)
	if !ok {
		return false
	}
	_, err := baseurl.Parse(text)
	return err == nil
}

// unserved are the login flows that need more of a homeserver than POST /login:
// redirects and pages of their own, which the portal does not serve.
var unserved = [...]string{"m.login.sso", "m.login.cas"}

// dropFlows takes the flows out of an answer to GET /login that the portal does
// not serve. Nothing else changes, and what is no such answer changes in
// nothing.
func dropFlows(answer []byte) []byte {
	if !json.Valid(answer) {
		return answer
	}
	members, _ := object(answer)
	at, present := last(members, "flows")
	if !present {
		return answer
	}
	flows, ok := array(members[at].value)
	if !ok {
		return answer
	}
	kept := make([][]byte, 0, len(flows))
	for _, flow := range flows {
		fields, _ := object(flow.value)
		kind := ""
		if i, present := last(fields, "type"); present {
			kind, _ = str(fields[i].value)
		}
		if !slices.Contains(unserved[:], kind) {
			kept = append(kept, flow.value)
		}
	}
	if len(kept) == len(flows) {
		return answer
	}
	return slices.Concat(answer[:members[at].start], []byte("["), bytes.Join(kept, []byte(",")), []byte("]"), answer[members[at].end:])
}

// decode undoes the content coding of a body (RFC 9110, 8.4.1). ok is false if
// it is one that the portal does not know, if it is broken, or if more than
// maxAnswer bytes come of it.
func decode(coding string, body []byte) (text []byte, ok bool) {
	var from io.ReadCloser
	var err error
	switch strings.ToLower(strings.TrimSpace(coding)) {
	case "", "identity":
		return body, true
	case "gzip", "x-gzip":
		from, err = gzip.NewReader(bytes.NewReader(body))
	case "deflate":
		// Some servers leave the zlib format out (RFC 9110, 8.4.1.2), and every
		// browser takes that too.
		if from, err = zlib.NewReader(bytes.NewReader(body)); err != nil {
			from, err = flate.NewReader(bytes.NewReader(body)), nil
		}
	default:
		return nil, false
	}
	if err != nil {
		return nil, false
	}
	text, err = io.ReadAll(io.LimitReader(from, maxAnswer+1))
	return text, err == nil && len(text) <= maxAnswer
}

// readable takes from Accept-Encoding the codings that decode does not know,
// so that the answer is one that can be added to.
func readable(accept string) string {
	var kept []string
	for item := range strings.SplitSeq(accept, ",") {
		coding, _, _ := strings.Cut(item, ";")
		switch strings.ToLower(strings.TrimSpace(coding)) {
		case "gzip", "x-gzip", "deflate", "identity":
			kept = append(kept, strings.TrimSpace(item))
		}
	}
	if len(kept) == 0 {
		return "identity"
	}
	return strings.Join(kept, ", ")
}
