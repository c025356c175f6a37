package wellknown

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"mxdiscover/internal/printable"
	"mxdiscover/internal/servername"
)

// MaxBody is the size of the largest document that is read, in bytes. The
// specification names no limit. This is the one of the open proposal MSC2499
// and of the Synapse homeserver, 50 KiB; a real document has about 40 bytes.
const MaxBody = 51200

// maxQuoted is the size of the longest quotation of a document in a
// [ParseError.Detail], in bytes, quotes included: a line of a terminal. Our
// own words around it are shorter than 120 bytes.
const maxQuoted = 80

// serverKey is the one key of the server document that has a meaning.
const serverKey = "m.server"

// ParseKind says in one word what is wrong with a document.
type ParseKind string

// What can be wrong with a document.
const (
	KindTooLarge      ParseKind = "too_large"       // more than MaxBody bytes
	KindEmptyBody     ParseKind = "empty_body"      // no byte but white space
	KindNotUTF8       ParseKind = "not_utf8"        // not UTF-8 from end to end
	KindNotJSON       ParseKind = "not_json"        // not exactly one JSON document
	KindNotObject     ParseKind = "not_object"      // JSON, but no object
	KindMissing       ParseKind = "missing"         // no key "m.server"
	KindNotString     ParseKind = "not_string"      // m.server is not a string
	KindBadServerName ParseKind = "bad_server_name" // m.server is not a server name
)

// ParseError says why a document was refused.
type ParseError struct {
	Kind ParseKind

	// Detail is one line for a person: what was found, and what is wrong with
	// it. Whatever it repeats of the document is cut and quoted, so it is safe
	// to print. It has at most 200 bytes.
	Detail string
}

func (e *ParseError) Error() string { return "well-known document: " + e.Detail }

func parseError(kind ParseKind, format string, args ...any) error {
	return &ParseError{Kind: kind, Detail: fmt.Sprintf(format, args...)}
}

// ParseServer reads the body of an answer to GET /.well-known/matrix/server
// and returns the text of m.server as it stands. The text is a valid server
// name (appendices, Server Name).
//
// The reading is strict, as in [ParseObject]: the key is exactly "m.server",
// and what it holds is a string. Other keys may be there. The Content-Type
// is no argument, for the body counts as JSON regardless of it (S2S, GET
// /.well-known/matrix/server).
//
// The error is a [*ParseError]. It means that the document is invalid, which
// leads discovery on to step 4; it is not a failure of discovery.
func ParseServer(body []byte) (server string, err error) {
	object, err := ParseObject(body)
	if err != nil {
		return "", err
	}
	raw, ok := object[serverKey]
	if !ok {
		return "", missingError(object)
	}
	// null is checked for: it leaves a string as it is and is no error.
	if err := json.Unmarshal(raw, &server); err != nil || raw[0] == 'n' {
		return "", parseError(KindNotString, "%s is %s, not a string", serverKey, jsonType(raw))
	}
	if _, err := servername.Parse(server); err != nil {
		problem := "it is not a server name"
		var bad *servername.Error
		if errors.As(err, &bad) {
			problem = bad.Problem // its Error() would quote the name once more
		}
		return "", parseError(KindBadServerName, "%s is %s: %s", serverKey, printable.Quote(server, maxQuoted), problem)
	}
	return server, nil
}

// ParseObject reads a body that must be one JSON object, and returns its
// members with their values unread.
//
// A body is refused if it has more than [MaxBody] bytes, is not UTF-8 from end
// to end (RFC 8259, 8.1), starts with a byte order mark, or holds anything but
// one object and white space around it. Nothing is repaired. Keys are
// compared as RFC 8259, 8.3 has it: once unescaped, exactly, and so with
// regard to case. RFC 8259, 4 leaves open which one of several members with
// the same key counts; here it is the last, as in JavaScript and Python, in
// which most other readers of these documents are written.
//
// The error is a [*ParseError].
func ParseObject(body []byte) (map[string]json.RawMessage, error) {
	if len(body) > MaxBody {
		return nil, parseError(KindTooLarge, "the body has more than %d bytes", MaxBody)
	}
	text := bytes.TrimLeft(body, " \t\r\n")
	if len(text) == 0 {
		return nil, parseError(KindEmptyBody, "the body is empty")
	}
	// Before all else: an error page is best called by its name, in whatever
	// character set it is.
	if text[0] == '<' {
		language := "HTML"
		if bytes.HasPrefix(text, []byte("<?xml")) {
			language = "XML"
		}
		return nil, parseError(KindNotJSON, "the body is %s, not JSON", language)
	}
	// encoding/json replaces what is no UTF-8 and goes on, so it is looked for
	// before.
	if at := invalidUTF8(body); at >= 0 {
		return nil, parseError(KindNotUTF8, "byte %d of the body, %#02x, is not UTF-8", at+1, body[at])
	}
	// A type of our own with case-sensitive keys would need the same steps:
	// encoding/json matches the fields of a struct without regard to case
	// ("M.Server", and "m.ſerver" too), but the keys of a map as they are.
	var object map[string]json.RawMessage
	err := json.Unmarshal(text, &object)
	var wrongType *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrongType), err == nil && object == nil: // null is a nil map
		return nil, parseError(KindNotObject, "the document is %s, not an object", jsonType(text))
	case err != nil:
		return nil, parseError(KindNotJSON, "%s", notJSON(text, len(body)-len(text), err))
	}
	return object, nil
}

// notJSON says what text, found at the given offset of the body, is instead.
func notJSON(text []byte, offset int, err error) string {
	const byteOrderMark = "\ufeff"
	if bytes.HasPrefix(text, []byte(byteOrderMark)) {
		// RFC 8259, 8.1: a sender must not add one, a reader may refuse it.
		return "the body starts with a byte order mark, which JSON must not"
	}
	// The message of encoding/json quotes the character that it names.
	detail := "the body is not JSON: " + err.Error()
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		detail += fmt.Sprintf(" (byte %d)", int64(offset)+syntax.Offset)
	}
	return detail
}

// missingError says that object has no m.server, and what it has in its place
// where that is a known slip.
func missingError(object map[string]json.RawMessage) error {
	var near []string
	for key := range object {
		if strings.EqualFold(strings.TrimSpace(key), serverKey) {
			near = append(near, key)
		}
	}
	if len(near) > 0 {
		// The same text for the same document, though a map has no order.
		return parseError(KindMissing, "the key must be %q, found %s", serverKey, printable.Quote(slices.Min(near), maxQuoted))
	}
	if _, ok := object["m.homeserver"]; ok {
		return parseError(KindMissing, "there is no %q; %q belongs in /.well-known/matrix/client", serverKey, "m.homeserver")
	}
	if len(object) == 0 {
		return parseError(KindMissing, "the object is empty: there is no %q", serverKey)
	}
	return parseError(KindMissing, "there is no %q", serverKey)
}

// jsonType names the type of a JSON value by its first byte, all that is
// needed once it is known to be valid.
func jsonType(value []byte) string {
	switch value[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	default:
		return "a number"
	}
}

// invalidUTF8 returns the offset of the first byte that is no UTF-8, and -1 if
// all of b is.
func invalidUTF8(b []byte) int {
	for i := 0; i < len(b); {
		r, size := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}
