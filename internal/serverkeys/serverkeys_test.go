package serverkeys_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/serverkeys"
)

// seed is the key of the specification's examples (appendices, Cryptographic
// Test Vectors).
const seed = "YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1"

func testKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	b, err := base64.RawStdEncoding.DecodeString(seed)
	require.NoError(t, err)
	return ed25519.NewKeyFromSeed(b)
}

// canonical has the examples of the specification (appendices, Canonical JSON)
// first.
var canonical = []struct{ in, want string }{
	{`{}`, `{}`},
	{"{\n    \"one\": 1,\n    \"two\": \"Two\"\n}", `{"one":1,"two":"Two"}`},
	{"{\n    \"b\": \"2\",\n    \"a\": \"1\"\n}", `{"a":"1","b":"2"}`},
	{`{"b":"2","a":"1"}`, `{"a":"1","b":"2"}`},
	{`{"auth": {"success": true, "mxid": "@john.doe:example.com", "profile": {"display_name": "John Doe", "three_pids": [
		{"medium": "email", "address": "john.doe@example.org"}, {"medium": "msisdn", "address": "123456789"}]}}}`,
		`{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":[{"address":"john.doe@example.org","medium":"email"},{"address":"123456789","medium":"msisdn"}]},"success":true}}`},
	{`{"a": "日本語"}`, `{"a":"日本語"}`},
	{`{"本": 2, "日": 1}`, `{"日":1,"本":2}`},
	{`{"a": "\u65E5"}`, `{"a":"日"}`},
	{`{"a": null}`, `{"a":null}`},
	{`{"a": -0, "b": 1e10}`, `{"a":0,"b":10000000000}`},

	{` [ ] `, `[]`},
	{`false`, `false`},
	{`"\/\"\\\b\f\n\r\t\u0000\u001F\u007f<>&\u2028"`, "\"/\\\"\\\\\\b\\f\\n\\r\\t\\u0000\\u001f\x7f<>&\u2028\""},
	// By code point, which is not the order of UTF-16.
	{`{"\ud83d\ude00":1,"\uff01":2}`, `{"！":2,"😀":1}`},
	{`"\\ud800"`, `"\\ud800"`},
	{`[9007199254740991,-9007199254740991]`, `[9007199254740991,-9007199254740991]`},
	{`[100e-2,1E+2,0e99999999999999999999,-0e-5,90071992547409910e-1]`, `[1,100,0,0,9007199254740991]`},
}

var notCanonical = []struct {
	in   string
	kind serverkeys.Kind
	want string
}{
	{``, serverkeys.NotJSON, "empty"},
	{" \n", serverkeys.NotJSON, "empty"},
	{`<html>`, serverkeys.NotJSON, "HTML"},
	{`{"a":1}}`, serverkeys.NotJSON, "not JSON"},
	{`{"a":1`, serverkeys.NotJSON, "not JSON"},
	{`[1,]`, serverkeys.NotJSON, "not JSON"},
	{`[01]`, serverkeys.NotJSON, "not JSON"},
	{"\"\xff\"", serverkeys.NotJSON, "UTF-8"},
	{"\ufeff{}", serverkeys.NotJSON, "not JSON"},
	{`{"a":1,"\u0061":2}`, serverkeys.NotCanonical, `"a" stands twice`},
	{`[{"b":{"c":1,"c":1}}]`, serverkeys.NotCanonical, `"c" stands twice`},
	{`"\ud800"`, serverkeys.NotCanonical, `\ud800 is half`},
	{`"\uDC00\ud800"`, serverkeys.NotCanonical, `\uDC00 is half`},
	{`"\ud83dx"`, serverkeys.NotCanonical, `\ud83d is half`},
	{`"\ud83d\ud83d"`, serverkeys.NotCanonical, `half`},
	{`1.5`, serverkeys.NotCanonical, `"1.5" has a fraction`},
	{`1.0`, serverkeys.NotCanonical, `fraction`},
	{`15e-1`, serverkeys.NotCanonical, `fraction`},
	{`1e-99999999999999999999`, serverkeys.NotCanonical, `not an integer`},
	{`9007199254740992`, serverkeys.NotCanonical, `not an integer of 53 bits`},
	{`-9007199254740992`, serverkeys.NotCanonical, `not an integer of 53 bits`},
	{`1e16`, serverkeys.NotCanonical, `not an integer`},
	{`1e999999999`, serverkeys.NotCanonical, `not an integer`},
	{strings.Repeat("9", 5000), serverkeys.NotCanonical, `not an integer`},
	{strings.Repeat("[", 65) + strings.Repeat("]", 65), serverkeys.NotCanonical, "64 levels"},
}

func TestCanonical(t *testing.T) {
	t.Parallel()
	for _, c := range canonical {
		got, err := serverkeys.Canonical([]byte(c.in))
		require.NoError(t, err, c.in)
		assert.Equal(t, c.want, string(got))
		again, err := serverkeys.Canonical(got)
		require.NoError(t, err, c.in)
		assert.Equal(t, c.want, string(again), "the form of a form")
	}
	for _, c := range notCanonical {
		_, err := serverkeys.Canonical([]byte(c.in))
		wantError(t, err, c.kind, c.want)
	}
}

func wantError(t *testing.T, err error, kind serverkeys.Kind, text string) {
	t.Helper()
	var e *serverkeys.Error
	if assert.ErrorAs(t, err, &e) {
		assert.Equal(t, kind, e.Kind, err)
		assert.ErrorContains(t, err, text)
		assert.Less(t, len(e.Detail), 200)
		for _, r := range e.Detail {
			assert.GreaterOrEqual(t, r, ' ')
		}
	}
}

// TestSign has the examples of the specification (appendices, JSON Signing; and
// Event Signing, whose objects have hashes and no content beyond what is
// signed).
func TestSign(t *testing.T) {
	t.Parallel()
	key := testKey(t)
	cases := []struct{ in, want string }{
		{`{}`, `{"signatures":{"domain":{"ed25519:1":"K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ"}}}`},
		{`{"one": 1, "two": "Two"}`, `{"one":1,"signatures":{"domain":{"ed25519:1":"KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw"}},"two":"Two"}`},
		{`{"room_id":"!x:domain","sender":"@a:domain","origin":"domain","origin_server_ts":1000000,"signatures":{},
			"hashes":{"sha256":"5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos"},"type":"X","content":{},"prev_events":[],"auth_events":[],"depth":3,"unsigned":{"age_ts":1000000}}`,
			`{"auth_events":[],"content":{},"depth":3,"hashes":{"sha256":"5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos"},"origin":"domain","origin_server_ts":1000000,"prev_events":[],"room_id":"!x:domain","sender":"@a:domain","signatures":{"domain":{"ed25519:1":"KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPTRl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg"}},"type":"X","unsigned":{"age_ts":1000000}}`},
		{`{"a":1,"signatures":{"other":{"x:y":"z"},"domain":{"ed25519:0":"z"}}}`, `"ed25519:0":"z","ed25519:1":"`},
	}
	for _, c := range cases {
		got, err := serverkeys.Sign([]byte(c.in), "domain", "ed25519:1", key)
		require.NoError(t, err)
		assert.Contains(t, string(got), c.want)
	}
	for _, c := range []struct {
		in   string
		kind serverkeys.Kind
	}{
		{`[]`, serverkeys.NotObject}, {`{`, serverkeys.NotJSON}, {`{"a":1.5}`, serverkeys.NotCanonical},
		{`{"unsigned":{"a":1.5}}`, serverkeys.NotCanonical}, {`{"signatures":1}`, serverkeys.WrongType}, {`{"signatures":{"domain":1}}`, serverkeys.WrongType},
	} {
		_, err := serverkeys.Sign([]byte(c.in), "domain", "ed25519:1", key)
		wantError(t, err, c.kind, "")
	}
	_, err := serverkeys.Sign([]byte(`{}`), "domain", "ed25519:1", key[:7])
	wantError(t, err, serverkeys.WrongType, "7 bytes")
	_, err = serverkeys.Document("domain", time.Now(), "ed25519:1", nil)
	wantError(t, err, serverkeys.WrongType, "0 bytes")
}

var until = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

func TestParse(t *testing.T) {
	t.Parallel()
	key := testKey(t)
	const public = "XGX0JRS2Af3be3knz2fBiRbApjm2Dh61gXDJA8kcJNI"
	good, err := serverkeys.Document("example.org", until, "ed25519:1", key)
	require.NoError(t, err)
	k, err := serverkeys.Parse(good)
	require.NoError(t, err)
	assert.Equal(t, &serverkeys.Keys{
		ServerName: "example.org",
		ValidUntil: until,
		VerifyKeys: []serverkeys.Key{{ID: "ed25519:1", Public: public, Signed: true}},
	}, k)

	// Two keys, of which one has signed; a stranger's signature; old keys; white
	// space; unsigned data that has no canonical form.
	other := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	otherPublic := base64.StdEncoding.EncodeToString(other[32:]) // with padding
	text := fmt.Sprintf(`{"server_name":"example.org","valid_until_ts":1e12,"verify_keys":{"ed25519:1":{"key":%q},"ed25519:2":{"key":%q,"more":[]},
		"rsa:1":{"key":"x"},"ed25519:":{"key":"x"},"ed25519:3":{"key":"!"},"ed25519:4":{"key":4},"ed25519:5":5,"ed25519:6":{"key":"AAAA"},"ed25519:7":{"key":%q},"ed25519:8":{"key":%q},"ed25519:9":{"key":%q}},
		"old_verify_keys":{"ed25519:0":{"key":%q,"expired_ts":5000},"ed25519:00":{"key":%q},"x":{},"ed25519:01":null}}`,
		public, otherPublic, public[:10]+"\n"+public[10:], public, public, public, public)
	signed, err := serverkeys.Sign([]byte(text), "example.org", "ed25519:1", key)
	require.NoError(t, err)
	signed, err = serverkeys.Sign(signed, "example.org", "ed25519:8", other)
	require.NoError(t, err)
	signed, err = serverkeys.Sign(signed, "stranger.example", "ed25519:2", other)
	require.NoError(t, err)
	body := strings.Replace(string(signed), `"ed25519:8":"`, `"ed25519:9":"AAAA","ed25519:8":"`, 1)
	body = "{ \"unsigned\": {\"age\": 1.5}, " + body[1:]
	k, err = serverkeys.Parse([]byte(body))
	require.NoError(t, err)
	assert.Equal(t, time.UnixMilli(1e12).UTC(), k.ValidUntil)
	got := make(map[string]error)
	for _, key := range k.VerifyKeys {
		got[key.ID] = key.Err
		assert.Equal(t, key.Err == nil, key.Signed)
	}
	assert.Equal(t, map[string]error{
		"ed25519:1": nil, "ed25519:2": serverkeys.ErrUnsigned, "rsa:1": serverkeys.ErrAlgorithm, "ed25519:": serverkeys.ErrAlgorithm,
		"ed25519:3": serverkeys.ErrMalformedKey, "ed25519:4": serverkeys.ErrMalformedKey, "ed25519:5": serverkeys.ErrMalformedKey,
		"ed25519:6": serverkeys.ErrMalformedKey, "ed25519:7": serverkeys.ErrMalformedKey,
		"ed25519:8": serverkeys.ErrBadSignature, "ed25519:9": serverkeys.ErrMalformedSignature,
	}, got)
	assert.Equal(t, []serverkeys.OldKey{
		{ID: "ed25519:0", Public: public, Expired: time.Unix(5, 0).UTC()},
		{ID: "ed25519:00", Public: public, Err: serverkeys.ErrMalformedKey},
		{ID: "ed25519:01", Err: serverkeys.ErrMalformedKey},
		{ID: "x", Err: serverkeys.ErrAlgorithm},
	}, k.OldKeys)

	// Any change spoils the signature.
	k, err = serverkeys.Parse([]byte(strings.Replace(string(good), "}", `},"x":0`, 1)))
	require.NoError(t, err)
	assert.Equal(t, serverkeys.ErrBadSignature, k.VerifyKeys[0].Err)
	k, err = serverkeys.Parse([]byte(`{"server_name":"a","verify_keys":{"ed25519:1":{"key":"` + public + `"}},"valid_until_ts":-5,"signatures":{"b":{}}}`))
	require.NoError(t, err)
	assert.Equal(t, serverkeys.ErrUnsigned, k.VerifyKeys[0].Err)
	assert.Equal(t, time.Unix(0, 0).UTC(), k.ValidUntil)

	// No key at all; and a date that has a place in any form of a date.
	for _, text := range []string{`{"server_name":"a","valid_until_ts":9007199254740991}`, `{"server_name":"a","valid_until_ts":9007199254740991,"verify_keys":{}}`} {
		k, err = serverkeys.Parse([]byte(text))
		require.NoError(t, err)
		assert.Empty(t, k.VerifyKeys)
		_, err = json.Marshal(k.ValidUntil)
		assert.NoError(t, err)
	}
}

var badDocuments = []struct {
	text string
	kind serverkeys.Kind
	want string
}{
	{strings.Repeat(" ", serverkeys.MaxBody+1), serverkeys.TooLarge, "65536"},
	{`<!DOCTYPE html>`, serverkeys.NotJSON, "HTML"},
	{`[]`, serverkeys.NotObject, "not an object"},
	{`null`, serverkeys.NotObject, "not an object"},
	{`{}`, serverkeys.Missing, `no "server_name"`},
	{`{"server_name":1}`, serverkeys.WrongType, `"server_name" is not a string`},
	{`{"server_name":"a"}`, serverkeys.Missing, `no "valid_until_ts"`},
	{`{"server_name":"a","valid_until_ts":"1"}`, serverkeys.WrongType, `"valid_until_ts" is not a number`},
	{`{"server_name":"a","valid_until_ts":1.5}`, serverkeys.WrongType, `has a fraction`},
	{`{"server_name":"a","valid_until_ts":1,"verify_keys":[]}`, serverkeys.WrongType, `"verify_keys" is not an object`},
	{`{"server_name":"a","valid_until_ts":1,"old_verify_keys":1}`, serverkeys.WrongType, `"old_verify_keys" is not an object`},
	{`{"server_name":"a","valid_until_ts":1,"signatures":1}`, serverkeys.WrongType, `"signatures" is not an object`},
	{`{"server_name":"a\n","valid_until_ts":1,"signatures":{"a\n":1}}`, serverkeys.WrongType, `"a\n" is not an object`},
	{`{"server_name":"a","valid_until_ts":1,"x":0.5}`, serverkeys.NotCanonical, `fraction`},
	{`{"server_name":"a","server_name":"b"}`, serverkeys.NotCanonical, `twice`},
	{many("verify_keys"), serverkeys.TooMany, `verify_keys has more than 100`},
	{many("old_verify_keys"), serverkeys.TooMany, `old_verify_keys has more than 100`},
}

func many(name string) string {
	var ids []string
	for i := range serverkeys.MaxKeys + 1 {
		ids = append(ids, fmt.Sprintf(`"ed25519:%d":{}`, i))
	}
	return `{"server_name":"a","valid_until_ts":1,"` + name + `":{` + strings.Join(ids, ",") + `}}`
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	for _, c := range badDocuments {
		_, err := serverkeys.Parse([]byte(c.text))
		wantError(t, err, c.kind, c.want)
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range badDocuments {
		f.Add([]byte(c.text))
	}
	good, err := serverkeys.Document("example.org", until, "ed25519:1", testKey(f))
	require.NoError(f, err)
	f.Add(good)
	f.Fuzz(func(t *testing.T, body []byte) {
		k, err := serverkeys.Parse(body)
		if err != nil {
			var e *serverkeys.Error
			require.ErrorAs(t, err, &e)
			require.Less(t, len(e.Detail), 250)
			return
		}
		require.LessOrEqual(t, len(k.VerifyKeys), serverkeys.MaxKeys)
		for _, key := range k.VerifyKeys {
			require.Equal(t, key.Err == nil, key.Signed)
		}
		_, err = json.Marshal(k)
		require.NoError(t, err, "dates have a form")
	})
}

func FuzzCanonical(f *testing.F) {
	for _, c := range canonical {
		f.Add([]byte(c.in))
	}
	for _, c := range notCanonical {
		f.Add([]byte(c.in))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		form, err := serverkeys.Canonical(text)
		if err != nil {
			return
		}
		again, err := serverkeys.Canonical(form)
		require.NoError(t, err)
		require.Equal(t, string(form), string(again))
		// It says the same as the text. Numbers are exact below 2^53.
		var was, is any
		require.NoError(t, json.Unmarshal(text, &was))
		require.NoError(t, json.Unmarshal(form, &is))
		if neg := json.Number("-0"); !strings.Contains(string(text), string(neg)) {
			require.Equal(t, was, is)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	body, err := serverkeys.Document("example.org", until, "ed25519:1", testKey(b))
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := serverkeys.Parse(body); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleParse() {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	body, _ := serverkeys.Document("example.org", time.Unix(1800000000, 0), "ed25519:a", key)
	keys, err := serverkeys.Parse(body)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, k := range keys.VerifyKeys {
		fmt.Println(keys.ServerName, keys.ValidUntil.Year(), k.ID, k.Signed)
	}
	// Output:
	// example.org 2027 ed25519:a true
}
