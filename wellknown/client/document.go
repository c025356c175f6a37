package client

import (
	"encoding/json"
	"errors"
	"strconv"

	"mxdiscover/internal/baseurl"
	"mxdiscover/internal/printable"
	"mxdiscover/wellknown"
)

// maxQuoted bounds what a message repeats of a document, in bytes: a line of a
// terminal.
const maxQuoted = 80

// The keys that have a meaning. Keys are compared exactly (RFC 8259, 8.3).
const (
	homeserverKey = "m.homeserver"
	identityKey   = "m.identity_server"
	baseURLKey    = "base_url"
)

// A Document is what /.well-known/matrix/client says, and what a login response
// may say under well_known (Client-Server API, POST /login; MSC1730).
type Document struct {
	Homeserver     Information
	IdentityServer *Information // nil if there is none

	// Extra are the other members, unread: numbers are still their text. Their
	// names should be those of Java packages, and their values may be of any type
	// (v1.12).
	Extra map[string]json.RawMessage
}

// Information is what a document says of one server.
type Information struct {
	BaseURL  string  // cleaned: no slash at the end, no default port; empty if Reason is set
	Stripped bool    // user info, a query or a fragment was left out of BaseURL
	Reason   *Reason // why there is no BaseURL

	// Extra are the members beside base_url, unread.
	Extra map[string]json.RawMessage
}

// A Reason says why there is no value, or no good one: Code for programs,
// Message for people, in one line without control characters.
type Reason struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

func (r *Reason) Error() string { return r.Message }

// A Code names a reason. Beside those below it is the [wellknown.Code] of the
// fetch of the document; that of the fetch of /versions after "versions_"; or
// that of the identity server's endpoint after "identity_".
type Code string

// The codes that no fetch gives.
const (
	InvalidServerName      Code = "invalid_server_name"       // nothing was asked
	HomeserverMissing      Code = "homeserver_missing"        // no object m.homeserver
	BaseURLMissing         Code = "base_url_missing"          // it has no base_url, or an empty one
	BaseURLInvalid         Code = "base_url_invalid"          // the base_url is not a URL
	VersionsSchema         Code = "versions_schema"           // /versions answers something else
	IdentityBaseURLMissing Code = "identity_base_url_missing" // no object, no base_url, or an empty one
	IdentityBaseURLInvalid Code = "identity_base_url_invalid" // the base_url is not a URL
)

const (
	versionsPrefix = "versions_"
	identityPrefix = "identity_"
)

// ParseDocument reads the body of an answer to GET
// /.well-known/matrix/client. The error is a [*wellknown.ParseError]: what is
// said is no JSON object. Any other fault is in the Document.
func ParseDocument(body []byte) (*Document, error) {
	object, err := wellknown.ParseObject(body)
	if err != nil {
		return nil, err
	}
	return ReadDocument(object), nil
}

// ReadDocument reads a JSON object as [wellknown.ParseObject] gives it. A member
// whose value is null counts as absent.
func ReadDocument(object map[string]json.RawMessage) *Document {
	doc := &Document{Extra: others(object, homeserverKey, identityKey)}
	doc.Homeserver = *readInformation(homeserverKey, object[homeserverKey], [...]Code{HomeserverMissing, BaseURLMissing, BaseURLInvalid})
	if raw := object[identityKey]; present(raw) {
		doc.IdentityServer = readInformation(identityKey, raw, [...]Code{IdentityBaseURLMissing, IdentityBaseURLMissing, IdentityBaseURLInvalid})
	}
	return doc
}

// HomeserverDocument is the document that names this homeserver and nothing
// else.
func HomeserverDocument(baseURL string) *Document {
	info := new(Information)
	info.read(homeserverKey+"."+baseURLKey, baseURL, BaseURLMissing, BaseURLInvalid)
	return &Document{Homeserver: *info}
}

// readInformation takes the codes of a section, a base_url that are missing, and
// one that is invalid.
func readInformation(key string, raw json.RawMessage, codes [3]Code) *Information {
	info := new(Information)
	if !present(raw) {
		info.fail(codes[0], "the document has no "+key)
		return info
	}
	if raw[0] != '{' {
		info.fail(codes[0], key+" is "+jsonType(raw)+", not an object")
		return info
	}
	object := members(raw)
	info.Extra = others(object, baseURLKey)
	value, where := object[baseURLKey], key+"."+baseURLKey
	if !present(value) {
		info.fail(codes[1], key+" has no "+baseURLKey)
		return info
	}
	text, ok := str(value)
	if !ok {
		info.fail(codes[2], where+" is "+jsonType(value)+", not a string")
		return info
	}
	info.read(where, text, codes[1], codes[2])
	return info
}

func (info *Information) read(where, text string, missing, invalid Code) {
	if text == "" {
		info.fail(missing, where+" is empty")
		return
	}
	u, err := baseurl.Parse(text) // CS 3.5.1
	if err != nil {
		info.fail(invalid, where+" is "+printable.Quote(text, maxQuoted)+": "+err.Error())
		return
	}
	info.BaseURL, info.Stripped = u.String(), u.Stripped
}

// url is where to go, or why there is no such place. Who made the Information
// need not have been this package.
func (info *Information) url(key string, missing, invalid Code) (baseurl.URL, *Reason) {
	if info.Reason != nil {
		return baseurl.URL{}, info.Reason
	}
	again := Information{}
	if again.read(key+"."+baseURLKey, info.BaseURL, missing, invalid); again.Reason != nil {
		return baseurl.URL{}, again.Reason
	}
	u, _ := baseurl.Parse(info.BaseURL) // read has tried it
	u.Stripped = u.Stripped || info.Stripped
	return u, nil
}

func (info *Information) fail(code Code, message string) {
	info.Reason = &Reason{Code: code, Message: message}
}

// present: null counts as absent.
func present(raw json.RawMessage) bool { return len(raw) > 0 && raw[0] != 'n' }

// members are those of a value that is an object. Of two with the same key the
// last counts, as in wellknown.ParseObject.
func members(raw json.RawMessage) map[string]json.RawMessage {
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) != nil {
		return nil
	}
	return object
}

// str gives the value of a JSON string.
func str(raw json.RawMessage) (text string, ok bool) {
	return text, len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &text) == nil
}

// others are the members with another key; nil if there are none.
func others(object map[string]json.RawMessage, known ...string) map[string]json.RawMessage {
	var rest map[string]json.RawMessage
next:
	for key, value := range object {
		for _, k := range known {
			if key == k {
				continue next
			}
		}
		if rest == nil {
			rest = make(map[string]json.RawMessage)
		}
		rest[key] = value
	}
	return rest
}

// jsonType names the type of a JSON value by its first byte.
func jsonType(raw json.RawMessage) string {
	switch raw[0] {
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
	}
	return "a number"
}

// readVersions reads the answer of /_matrix/client/versions: the schema of
// Client-Server API, GET /_matrix/client/versions.
func readVersions(object map[string]json.RawMessage) (versions []string, err error) {
	raw := object["versions"]
	if !present(raw) {
		return nil, errors.New(`the answer has no "versions"`)
	}
	var values []json.RawMessage
	if raw[0] != '[' || json.Unmarshal(raw, &values) != nil {
		return nil, errors.New("versions is " + jsonType(raw) + ", not an array")
	}
	versions = make([]string, len(values)) // not nil, so that an empty list stays one
	for i, value := range values {
		var ok bool
		if versions[i], ok = str(value); !ok {
			return nil, errors.New("versions[" + strconv.Itoa(i) + "] is " + jsonType(value) + ", not a string")
		}
	}
	raw = object["unstable_features"]
	if !present(raw) {
		return versions, nil
	}
	if raw[0] != '{' {
		return nil, errors.New("unstable_features is " + jsonType(raw) + ", not an object")
	}
	for _, value := range members(raw) {
		if present(value) && value[0] != 't' && value[0] != 'f' {
			return nil, errors.New("unstable_features has " + jsonType(value) + ", not booleans alone")
		}
	}
	return versions, nil
}
