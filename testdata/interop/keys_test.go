package interop

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/matrix-org/gomatrixserverlib"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/serverkeys"
)

// How many documents are made. They are the same in every run.
const (
	documents       = 4000
	signedDocuments = 2000 // each is signed once and verified four times
)

// TestCanonicalOracle compares canonical JSON with that of gomatrixserverlib, over documents that the specification
// has a canonical form for.
func TestCanonicalOracle(t *testing.T) {
	t.Parallel()
	w := &writer{rand.New(rand.NewPCG(1, 2))}
	for range documents {
		text := w.value(0)
		want, err := gomatrixserverlib.CanonicalJSON([]byte(text))
		require.NoError(t, err, "%q", text)
		got, err := serverkeys.Canonical([]byte(text))
		require.NoError(t, err, "%q", text)
		require.Equal(t, string(want), string(got), "%q", text)
	}
}

// TestCanonicalDifferences are the documents where the two are known to differ. gomatrixserverlib checks
// no more than that it is JSON, and leaves numbers as they are.
func TestCanonicalDifferences(t *testing.T) {
	t.Parallel()
	for text, c := range map[string]struct{ ours, theirs string }{
		`{"a":1,"a":2}`:          {"", `{"a":1,"a":2}`}, // what it means depends on the reader
		`{"a":1.5}`:              {"", `{"a":1.5}`},     // "Float values are not permitted by this encoding."
		`{"a":1.0}`:              {"", `{"a":1.0}`},     // the same, although it is an integer
		`{"a":9007199254740992}`: {"", `{"a":9007199254740992}`},
		`{"a":"\ud800"}`:         {"", `{"a":""}`},                    // half of a surrogate pair has no UTF-8
		"{\"a\":\"\xff\"}":       {"", "{\"a\":\"\xff\"}"},            // no UTF-8
		`{"a":1e10}`:             {`{"a":10000000000}`, `{"a":1e10}`}, // as the examples of the specification have it
		`{"a\"b":1}`:             {`{"a\"b":1}`, `{"a"b":1}`},         // theirs is no JSON
	} {
		ours, _ := serverkeys.Canonical([]byte(text))
		theirs, err := gomatrixserverlib.CanonicalJSON([]byte(text))
		require.NoError(t, err, text)
		require.Equal(t, c.theirs, string(theirs), text)
		require.Equal(t, c.ours, string(ours), text)
	}
}

// TestSignatureOracle signs key documents with one implementation and verifies them with both, as they are and
// after changes.
func TestSignatureOracle(t *testing.T) {
	t.Parallel()
	w := &writer{rand.New(rand.NewPCG(3, 4))}
	good, bad := 0, 0
	for i := range signedDocuments {
		seed := make([]byte, ed25519.SeedSize)
		for k := range seed {
			seed[k] = byte(w.Uint32())
		}
		key := ed25519.NewKeyFromSeed(seed)
		const name, id = "example.org", "ed25519:1"
		text := w.keyDocument(name, id, key)

		var signed []byte
		var err error
		if i%2 == 0 {
			signed, err = serverkeys.Sign([]byte(text), name, id, key)
		} else {
			signed, err = gomatrixserverlib.SignJSON(name, id, key, []byte(text))
		}
		require.NoError(t, err, text)
		verify := func(text string) (ours, theirs bool) {
			read, err := serverkeys.Parse([]byte(text))
			ours = err == nil && len(read.VerifyKeys) == 1 && read.VerifyKeys[0].Signed
			theirs = gomatrixserverlib.VerifyJSON(name, id, key.Public().(ed25519.PublicKey), []byte(text)) == nil
			return ours, theirs
		}
		ours, theirs := verify(string(signed))
		require.True(t, ours, "%s", signed)
		require.True(t, theirs, "%s", signed)

		changed := w.change(string(signed))
		ours, theirs = verify(changed)
		require.Equal(t, theirs, ours, "%s\nwas %s", changed, signed)
		if ours {
			good++
		} else {
			bad++
		}
	}
	require.Greater(t, good, signedDocuments/10, "changes that a signature does not cover")
	require.Greater(t, bad, signedDocuments/10, "changes that it does")
}

// TestServerKeysRead reads a signed document as gomatrixserverlib does for its key ring.
func TestServerKeysRead(t *testing.T) {
	t.Parallel()
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	until := time.Now().Add(time.Hour)
	text, err := serverkeys.Document("example.org", until, "ed25519:abc", key)
	require.NoError(t, err)
	var theirs gomatrixserverlib.ServerKeys
	require.NoError(t, json.Unmarshal(text, &theirs))
	checks, keys := gomatrixserverlib.CheckKeys("example.org", time.Now(), theirs)
	require.True(t, checks.AllChecksOK, "%+v", checks)
	ours, err := serverkeys.Parse(text)
	require.NoError(t, err)
	require.Len(t, ours.VerifyKeys, 1)
	require.True(t, ours.VerifyKeys[0].Signed)
	require.Equal(t, theirs.ValidUntilTS.Time().UnixMilli(), ours.ValidUntil.UnixMilli())
	require.Equal(t, ours.VerifyKeys[0].Public, keys["ed25519:abc"].Encode())
}

// TestServerKeysNull is what a Dendrite publishes for its virtual hosts. The specification wants an object, if
// anything. gomatrixserverlib takes it; Synapse fails, as it goes through the members.
func TestServerKeysNull(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(gomatrixserverlib.ServerKeyFields{ServerName: "example.org"})
	require.NoError(t, err)
	require.Contains(t, string(text), `"old_verify_keys":null`)
	_, err = serverkeys.Parse([]byte(strings.Replace(string(text), `"verify_keys":null`, `"verify_keys":{}`, 1)))
	var bad *serverkeys.Error
	require.ErrorAs(t, err, &bad)
	require.Equal(t, serverkeys.WrongType, bad.Kind)
}

// A writer makes JSON texts, in all the ways in which one can be written that has a canonical form.
type writer struct{ *rand.Rand }

func (w *writer) value(depth int) string {
	n := w.IntN(7)
	if depth > 4 {
		n %= 4
	}
	switch n {
	case 0:
		return []string{"true", "false", "null"}[w.IntN(3)]
	case 1:
		return strconv.FormatInt(w.integer(), 10)
	case 2, 3:
		return w.text(w.word())
	case 4:
		var list []string
		for range w.IntN(5) {
			list = append(list, w.space()+w.value(depth+1)+w.space())
		}
		return "[" + w.space() + strings.Join(list, ",") + "]"
	}
	return w.object(depth, nil)
}

// object writes one with these members and others.
func (w *writer) object(depth int, members []string) string {
	keys := make(map[string]bool)
	for range w.IntN(6) {
		key := strings.Map(func(r rune) rune { // see TestCanonicalDifferences
			if r < ' ' || r == '"' || r == '\\' {
				return 'k'
			}
			return r
		}, w.word())
		switch key {
		case "server_name", "valid_until_ts", "verify_keys", "old_verify_keys", "signatures", "unsigned":
			continue
		}
		if !keys[key] { // a key that stands twice has no meaning that all agree on
			keys[key] = true
			members = append(members, w.text(key)+w.space()+":"+w.space()+w.value(depth+1))
		}
	}
	w.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	return "{" + w.space() + strings.Join(members, w.space()+","+w.space()) + "}"
}

func (w *writer) integer() int64 {
	const most = 1<<53 - 1
	switch w.IntN(4) {
	case 0:
		return []int64{0, 1, -1, most, -most}[w.IntN(5)]
	case 1:
		return w.Int64N(2*most+1) - most
	}
	return w.Int64N(2000) - 1000
}

func (w *writer) word() string {
	runes := []rune("abcABC019_. \"\\/<>&'\b\f\n\r\t\x00\x01\x1f\x7f\u0080éßẞ日本\u2028\u2029\ufb33\ufeff\ufffd\uffff😀𐀀\U0010ffff")
	var b strings.Builder
	for range w.IntN(8) {
		b.WriteRune(runes[w.IntN(len(runes))])
	}
	return b.String()
}

// text writes a string, with escapes that are needed and some that are not.
func (w *writer) text(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	short := map[rune]string{'"': `\"`, '\\': `\\`, '/': `\/`, '\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`}
	for _, r := range s {
		escaped, hasShort := short[r]
		needed := r < ' ' || r == '"' || r == '\\'
		form := []string{`\u%04x`, `\u%04X`}[w.IntN(2)]
		switch n := w.IntN(4); {
		case hasShort && (n == 0 || needed && n < 3):
			b.WriteString(escaped)
		case needed, n == 1 && r < 0x10000:
			fmt.Fprintf(&b, form, r)
		case n == 1:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, form+form, high, low)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func (w *writer) space() string {
	return []string{"", "", "", " ", "\n", "\t", "\r\n  "}[w.IntN(7)]
}

// keyDocument is one without a signature, and with things in it that nobody knows.
func (w *writer) keyDocument(name, id string, key ed25519.PrivateKey) string {
	public := base64.RawStdEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
	members := []string{
		`"server_name":` + w.space() + w.text(name),
		fmt.Sprintf(`"valid_until_ts":%d`, 1_700_000_000_000+w.Int64N(1_000_000_000)),
		`"verify_keys":{` + w.text(id) + `:{"key":` + w.text(public) + `}}`,
		`"old_verify_keys":{}`,
	}
	if w.IntN(2) == 0 {
		members = append(members, `"unsigned":{"age":1}`)
	}
	return w.object(0, members)
}

// change changes something, which a signature may cover or not.
func (w *writer) change(text string) string {
	number := strconv.Itoa(w.IntN(1000))
	switch w.IntN(8) {
	case 0: // what is unsigned is nobody's business
		if strings.Contains(text, `"unsigned":{"age":1}`) {
			return strings.Replace(text, `"unsigned":{"age":1}`, `"unsigned":{"age":`+number+`0}`, 1)
		}
		return strings.Replace(text, "{", `{"unsigned":`+number+",", 1)
	case 1: // spaces and the order of keys are no part of it
		return strings.Replace(text, "{", "{ \n", 1)
	case 2: // a signature of somebody else
		return strings.Replace(text, `"signatures":{`, `"signatures":{"other.example":{"ed25519:`+number+`":"AAAA"},`, 1)
	case 3:
		return strings.Replace(text, "{", `{"zzzzzzzzz":`+number+",", 1)
	case 4:
		return strings.Replace(text, `"valid_until_ts":1`, `"valid_until_ts":2`, 1)
	case 5: // a bit of the signature
		_, rest, _ := strings.Cut(text, `"ed25519:1":"`)
		signature, _, _ := strings.Cut(rest, `"`)
		b := []byte(signature)
		i := w.IntN(len(b) - 1) // the last character has bits that do not count
		b[i] = 'A' + (b[i]-'A'+1)%26
		return strings.Replace(text, signature, string(b), 1)
	case 6: // the signature of another key
		return strings.Replace(text, `"signatures":{"example.org":{"ed25519:1"`, `"signatures":{"example.org":{"ed25519:2"`, 1)
	}
	return strings.Replace(text, `"signatures":{"example.org"`, `"signatures":{"example.com"`, 1)
}
