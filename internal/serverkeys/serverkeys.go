// Package serverkeys reads the keys that a Matrix server publishes, the answer
// to GET /_matrix/key/v2/server (Server-Server API, Retrieving server keys),
// and tells whether the server has signed them. It owns canonical JSON and
// signatures of JSON objects (appendices, Signing JSON).
//
// The document names the server, the keys it signs with now and those it has
// signed with before, and until when this list counts:
//
//	{
//	  "server_name": "example.org",
//	  "verify_keys": {"ed25519:abc123": {"key": "<unpadded base64>"}},
//	  "old_verify_keys": {"ed25519:0ldk3y": {"expired_ts": 1532645052628, "key": "<unpadded base64>"}},
//	  "valid_until_ts": 1652262000000,
//	  "signatures": {"example.org": {"ed25519:abc123": "<unpadded base64>"}}
//	}
//
// [Parse] takes the document apart and checks each signature. What follows from
// it, and whether the name is the right one and the time has not passed, is for
// the caller to say.
package serverkeys

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"mxdiscover/internal/printable"
)

const (
	// MaxBody is the size of the largest document that is read, in bytes. The
	// specification names no limit for it; this is the one of an event
	// (Client-Server API, Size limits), and a document with one key has about
	// 400.
	MaxBody = 64 << 10

	// MaxKeys is how many keys of each sort are read. Servers have one key, and
	// seldom more than a few old ones. Each costs a verification.
	MaxKeys = 100

	// algorithm is the only one that the specification knows (appendices,
	// Signing Details).
	algorithm = "ed25519:"
)

// A Kind says in one word what is wrong with a document.
type Kind string

// What can be wrong with a document.
const (
	TooLarge     Kind = "too_large"     // more than MaxBody bytes
	NotJSON      Kind = "not_json"      // not exactly one JSON text in UTF-8
	NotObject    Kind = "not_object"    // JSON, but no object
	Missing      Kind = "missing"       // a required key is not there
	WrongType    Kind = "wrong_type"    // a key holds something of another type
	TooMany      Kind = "too_many"      // more than MaxKeys keys
	NotCanonical Kind = "not_canonical" // it has no canonical form, and so no signature
)

// Error says why a document was refused.
type Error struct {
	Kind Kind

	// Detail is one printable line. What it repeats of the document is cut and
	// quoted.
	Detail string
}

func (e *Error) Error() string { return "key document: " + e.Detail }

func failf(kind Kind, format string, args ...any) error {
	return &Error{Kind: kind, Detail: fmt.Sprintf(format, args...)}
}

// Why a key has not signed a document, in [Key.Err].
var (
	ErrUnsigned           = errors.New("no signature by this key")
	ErrBadSignature       = errors.New("the signature does not fit the document and this key")
	ErrMalformedKey       = errors.New("the key is not 32 bytes in unpadded base64")
	ErrMalformedSignature = errors.New("the signature is not 64 bytes in unpadded base64")
	ErrAlgorithm          = errors.New("not an ed25519 key")
)

// Keys are a document that has been read. Its strings are as they came: they may
// have any length up to MaxBody and any character.
type Keys struct {
	ServerName string

	// ValidUntil is not before 1970 and not after the year 9999, so that any form
	// of a date has room for it.
	ValidUntil time.Time

	VerifyKeys []Key    // by ID
	OldKeys    []OldKey // by ID
}

// A Key is one that the server signs with.
type Key struct {
	ID     string // "ed25519:abc123"
	Public string // base64, as it came

	// Signed tells whether the document has a good signature by this key in the
	// name of ServerName.
	Signed bool
	Err    error // why not; one of ErrUnsigned and the others here, or nil
}

// An OldKey is one that the server has signed with.
type OldKey struct {
	ID      string
	Public  string
	Expired time.Time // in the range of Keys.ValidUntil; zero if it does not say
	Err     error     // ErrMalformedKey (also where expired_ts is), ErrAlgorithm or nil
}

// Parse reads a key document and checks its signatures. A document without a
// single key is none that is refused: VerifyKeys is empty.
//
// The error is an [*Error].
func Parse(body []byte) (*Keys, error) {
	if len(body) > MaxBody {
		return nil, failf(TooLarge, "more than %d bytes", MaxBody)
	}
	object, err := decodeObject(body)
	if err != nil {
		return nil, err
	}
	k := &Keys{}
	if k.ServerName, err = member[string](object, "server_name", "a string", true); err != nil {
		return nil, err
	}
	number, err := member[json.Number](object, "valid_until_ts", "a number", true)
	if err != nil {
		return nil, err
	}
	if k.ValidUntil, err = timestamp("valid_until_ts", number); err != nil {
		return nil, err
	}
	verify, err := keyMembers(object, "verify_keys")
	if err != nil {
		return nil, err
	}
	old, err := keyMembers(object, "old_verify_keys")
	if err != nil {
		return nil, err
	}
	all, err := member[map[string]any](object, "signatures", "an object", false)
	if err != nil {
		return nil, err
	}
	signatures, err := member[map[string]any](all, k.ServerName, "an object", false)
	if err != nil {
		return nil, err
	}
	message, err := signed(object)
	if err != nil {
		return nil, err
	}
	for _, id := range slices.Sorted(maps.Keys(verify)) {
		key := Key{ID: id}
		var public ed25519.PublicKey
		key.Public, public, key.Err = publicKey(id, verify[id])
		if key.Err == nil {
			signature, ok := signatures[id]
			key.Err = check(public, message, signature, ok)
		}
		key.Signed = key.Err == nil
		k.VerifyKeys = append(k.VerifyKeys, key)
	}
	for _, id := range slices.Sorted(maps.Keys(old)) {
		key := OldKey{ID: id}
		key.Public, _, key.Err = publicKey(id, old[id])
		if err := key.setExpired(old[id]); err != nil && key.Err == nil {
			key.Err = ErrMalformedKey
		}
		k.OldKeys = append(k.OldKeys, key)
	}
	return k, nil
}

func (k *OldKey) setExpired(value any) error {
	fields, _ := value.(map[string]any)
	number, err := member[json.Number](fields, "expired_ts", "a number", true)
	if err == nil {
		k.Expired, err = timestamp("expired_ts", number)
	}
	return err
}

func decodeObject(text []byte) (map[string]any, error) {
	v, err := decode(text)
	if err != nil {
		return nil, err
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, failf(NotObject, "JSON, but not an object")
	}
	return object, nil
}

// member gives what an object holds under a key; the zero value if it may be
// missing and is.
func member[T any](object map[string]any, key, what string, required bool) (t T, err error) {
	v, ok := object[key]
	if !ok {
		if required {
			err = failf(Missing, "there is no %s", printable.Quote(key, maxQuoted))
		}
		return t, err
	}
	t, ok = v.(T)
	if !ok {
		err = failf(WrongType, "%s is not %s", printable.Quote(key, maxQuoted), what)
	}
	return t, err
}

func keyMembers(object map[string]any, name string) (map[string]any, error) {
	keys, err := member[map[string]any](object, name, "an object", false)
	if err == nil && len(keys) > MaxKeys {
		err = failf(TooMany, "%s has more than %d keys", name, MaxKeys)
	}
	return keys, err
}

// timestamp reads milliseconds since 1970.
func timestamp(name string, number json.Number) (time.Time, error) {
	ms, err := integer(string(number))
	if err != nil {
		var e *Error
		errors.As(err, &e)
		return time.Time{}, failf(WrongType, "%s: %s", name, e.Detail)
	}
	last := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	t := time.UnixMilli(max(ms, 0)).UTC()
	if t.After(last) {
		t = last
	}
	return t, nil
}

// publicKey reads a member of verify_keys or old_verify_keys.
func publicKey(id string, value any) (text string, public ed25519.PublicKey, err error) {
	fields, _ := value.(map[string]any)
	text, ok := fields["key"].(string)
	if !strings.HasPrefix(id, algorithm) || id == algorithm {
		// Appendices, Checking for a Signature, 2: others are passed over.
		return text, nil, ErrAlgorithm
	}
	b, err := unbase64(text)
	if err != nil || !ok || len(b) != ed25519.PublicKeySize {
		return text, nil, ErrMalformedKey
	}
	return text, b, nil
}

// check tells why a signature does not prove anything.
func check(public ed25519.PublicKey, message []byte, signature any, there bool) error {
	if !there {
		return ErrUnsigned
	}
	text, ok := signature.(string)
	b, err := unbase64(text)
	if err != nil || !ok || len(b) != ed25519.SignatureSize {
		return ErrMalformedSignature
	}
	if !ed25519.Verify(public, message, b) {
		return ErrBadSignature
	}
	return nil
}

// unbase64 takes base64 with and without padding (appendices, Unpadded Base64:
// implementations should accept both).
func unbase64(text string) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") { // encoding/base64 would pass over them
		return nil, base64.CorruptInputError(0)
	}
	if strings.HasSuffix(text, "=") {
		return base64.StdEncoding.DecodeString(text)
	}
	return base64.RawStdEncoding.DecodeString(text)
}

// signed is what the signatures of an object are made over (appendices, Signing
// Details): all but them and what is unsigned.
func signed(object map[string]any) ([]byte, error) {
	rest := maps.Clone(object)
	delete(rest, "signatures")
	delete(rest, "unsigned")
	return appendCanonical(nil, rest)
}

// Sign signs a JSON object in the name of an entity, which for servers is the
// server name, with a key that has the given ID, such as "ed25519:1". It returns
// the object in canonical form with the signature in it, beside those it has.
//
// The error is an [*Error].
func Sign(object []byte, entity, keyID string, key ed25519.PrivateKey) ([]byte, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, failf(WrongType, "the signing key has %d bytes, not %d", len(key), ed25519.PrivateKeySize)
	}
	o, err := decodeObject(object)
	if err != nil {
		return nil, err
	}
	message, err := signed(o)
	if err != nil {
		return nil, err
	}
	all, err := member[map[string]any](o, "signatures", "an object", false)
	if err != nil {
		return nil, err
	}
	own, err := member[map[string]any](all, entity, "an object", false)
	if err != nil {
		return nil, err
	}
	if all == nil {
		all = make(map[string]any)
	}
	if own == nil {
		own = make(map[string]any)
	}
	own[keyID] = base64.RawStdEncoding.EncodeToString(ed25519.Sign(key, message))
	all[entity] = own
	o["signatures"] = all
	return appendCanonical(nil, o)
}

// Document makes the key document of a server that has one key.
func Document(serverName string, validUntil time.Time, keyID string, key ed25519.PrivateKey) ([]byte, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, failf(WrongType, "the signing key has %d bytes, not %d", len(key), ed25519.PrivateKeySize)
	}
	public := key[ed25519.PrivateKeySize-ed25519.PublicKeySize:] // RFC 8032: the seed, then the public key
	object, err := json.Marshal(map[string]any{
		"server_name":     serverName,
		"valid_until_ts":  validUntil.UnixMilli(),
		"verify_keys":     map[string]any{keyID: map[string]string{"key": base64.RawStdEncoding.EncodeToString(public)}},
		"old_verify_keys": struct{}{},
	})
	if err != nil {
		return nil, err
	}
	return Sign(object, serverName, keyID, key)
}
