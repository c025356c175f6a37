package wellknown_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/servername"
	"mxdiscover/wellknown"
)

// goodServers are bodies of /.well-known/matrix/server that delegate.
var goodServers = []struct{ name, body, server string }{
	{"host", `{"m.server":"t"}`, "t"},
	{"host and port", `{"m.server":"t:8443"}`, "t:8443"},
	{"port 443 is kept", `{"m.server": "t.example:443"}`, "t.example:443"},
	{"IPv4", `{"m.server":"1.2.3.4"}`, "1.2.3.4"},
	{"IPv6 and port", `{"m.server":"[2001:db8::1]:443"}`, "[2001:db8::1]:443"},
	{"case is kept", `{"m.server":"Matrix.EXAMPLE.org:443"}`, "Matrix.EXAMPLE.org:443"},
	{"A-label", `{"m.server":"xn--bcher-kva.example"}`, "xn--bcher-kva.example"},
	{"white space around", " \t\r\n{ \"m.server\" : \"t\" }\r\n\n\t ", "t"},
	{"other keys", `{"a":{"b":[1,2]},"m.server":"t","m.homeserver":null}`, "t"},
	{"other key in other case beside it", `{"m.server":"t","M.Server":"u"}`, "t"},
	{"long s beside it", `{"m.server":"t","m.ſerver":"u"}`, "t"},
	{"the last duplicate decides", `{"m.server":"u","m.server":"t"}`, "t"},
	{"the last duplicate decides, whatever the first is", `{"m.server":{"x":1},"m.server":"t"}`, "t"},
	{"duplicate by escape", `{"m.server":"u","m\u002eserver":"t"}`, "t"},
	{"escapes in the value", `{"m.server":"t\u002eexample\u003a443"}`, "t.example:443"},
	{"lone surrogate elsewhere", `{"x":"\ud800","m.server":"t"}`, "t"},
	{"deep elsewhere", `{"x":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `,"m.server":"t"}`, "t"},
	{"largest body", `{"m.server":"t"}` + strings.Repeat(" ", wellknown.MaxBody-16), "t"},
	{"longest host", `{"m.server":"` + longHost + `"}`, longHost},
}

// longHost has 253 characters, the most that DNS can carry.
var longHost = strings.Repeat("a.", 126) + "b"

// badServers are bodies that are refused, with the kind and the detail of the
// error. A * stands for words that are chosen elsewhere: by encoding/json or by
// the grammar of server names.
var badServers = []struct {
	name, body string
	kind       wellknown.ParseKind
	detail     string
}{
	// The body.
	{"no body", "", wellknown.KindEmptyBody, `the body is empty`},
	{"white space", " \r\n\t", wellknown.KindEmptyBody, `the body is empty`},
	{"too large", `{"m.server":"t"}` + strings.Repeat(" ", wellknown.MaxBody-15), wellknown.KindTooLarge, `the body has more than 51200 bytes`},
	{"too large, nothing but space", strings.Repeat(" ", wellknown.MaxBody+1), wellknown.KindTooLarge, `the body has more than 51200 bytes`},
	{"bad UTF-8 elsewhere", "{\"x\":\"\xff\",\"m.server\":\"t\"}", wellknown.KindNotUTF8, `byte 7 of the body, 0xff, is not UTF-8`},
	{"bad UTF-8 after a good character", "{\"é\":\"\xe9\"}", wellknown.KindNotUTF8, `byte 8 of the body, 0xe9, is not UTF-8`},
	{"bad UTF-8 in m.server", "{\"m.server\":\"t\x80\"}", wellknown.KindNotUTF8, `byte 15 of the body, 0x80, is not UTF-8`},
	{"bad UTF-8 behind", "{\"m.server\":\"t\"}\xc0", wellknown.KindNotUTF8, `byte 17 of the body, 0xc0, is not UTF-8`},
	{"surrogate half as bytes", "{\"x\":\"\xed\xa0\x80\"}", wellknown.KindNotUTF8, `byte 7 of the body, 0xed, is not UTF-8`},
	{"UTF-16", "\xff\xfe{\x00}\x00", wellknown.KindNotUTF8, `byte 1 of the body, 0xff, is not UTF-8`},
	{"byte order mark", "\ufeff{\"m.server\":\"t\"}", wellknown.KindNotJSON, `the body starts with a byte order mark, which JSON must not`},

	// JSON.
	{"words", "NOT JSON", wellknown.KindNotJSON, `the body is not JSON: * (byte 1)`},
	{"bare name", "matrix.example.org:443", wellknown.KindNotJSON, `the body is not JSON: * (byte 1)`},
	{"HTML", "\n<!DOCTYPE html><html>", wellknown.KindNotJSON, `the body is HTML, not JSON`},
	{"HTML in Latin-1", "<html>caf\xe9", wellknown.KindNotJSON, `the body is HTML, not JSON`},
	{"XML", `<?xml version="1.0"?><Error/>`, wellknown.KindNotJSON, `the body is XML, not JSON`},
	{"cut", `{"m.server":"t"`, wellknown.KindNotJSON, `the body is not JSON: * (byte 15)`},
	{"two documents", `{"m.server":"t"}{"m.server":"t"}`, wellknown.KindNotJSON, `the body is not JSON: * (byte 17)`},
	{"words behind", "{\"m.server\":\"t\"}\nok", wellknown.KindNotJSON, `the body is not JSON: * (byte 18)`},
	{"NUL behind", "{\"m.server\":\"t\"}\x00", wellknown.KindNotJSON, `the body is not JSON: * (byte 17)`},
	{"space unknown to JSON", "{\"m.server\":\"t\"}\u00a0", wellknown.KindNotJSON, `the body is not JSON: * (byte 17)`},
	{"vertical tab in front", "\v{\"m.server\":\"t\"}", wellknown.KindNotJSON, `the body is not JSON: * (byte 1)`},
	{"single quotes", `{'m.server':'t'}`, wellknown.KindNotJSON, `the body is not JSON: * (byte 2)`},
	{"comment", "{\"m.server\":\"t\" // here\n}", wellknown.KindNotJSON, `the body is not JSON: * (byte 17)`},
	{"trailing comma", `{"m.server":"t",}`, wellknown.KindNotJSON, `the body is not JSON: * (byte 17)`},
	{"raw newline in the value", "  {\"m.server\":\"t\n\"}", wellknown.KindNotJSON, `the body is not JSON: * (byte 17)`},
	{"too deep", strings.Repeat("[", 20000) + strings.Repeat("]", 20000), wellknown.KindNotJSON, `the body is not JSON: * (byte 10001)`},
	{"array", `[{"m.server":"t"}]`, wellknown.KindNotObject, `the document is an array, not an object`},
	{"string", ` "t"`, wellknown.KindNotObject, `the document is a string, not an object`},
	{"null", `null`, wellknown.KindNotObject, `the document is null, not an object`},
	{"number", `-1`, wellknown.KindNotObject, `the document is a number, not an object`},
	{"boolean", `false`, wellknown.KindNotObject, `the document is a boolean, not an object`},

	// The key.
	{"empty object", `{}`, wellknown.KindMissing, `the object is empty: there is no "m.server"`},
	{"other key", `{"server":"t"}`, wellknown.KindMissing, `there is no "m.server"`},
	{"not at the top", `{"x":{"m.server":"t"}}`, wellknown.KindMissing, `there is no "m.server"`},
	{"other case", `{"M.Server":"t"}`, wellknown.KindMissing, `the key must be "m.server", found "M.Server"`},
	{"long s", `{"m.ſerver":"t"}`, wellknown.KindMissing, `the key must be "m.server", found "m.ſerver"`},
	{"space in the key", `{"m.server ":"t"}`, wellknown.KindMissing, `the key must be "m.server", found "m.server "`},
	{"two in other case", `{"m.Server":"t","M.SERVER":"t"}`, wellknown.KindMissing, `the key must be "m.server", found "M.SERVER"`},
	{"the client's document", `{"m.homeserver":{"base_url":"https://t"}}`, wellknown.KindMissing, `there is no "m.server"; "m.homeserver" belongs in /.well-known/matrix/client`},

	// The type.
	{"m.server number", `{"m.server":42}`, wellknown.KindNotString, `m.server is a number, not a string`},
	{"m.server null", `{"m.server":null}`, wellknown.KindNotString, `m.server is null, not a string`},
	{"m.server true", `{"m.server":true}`, wellknown.KindNotString, `m.server is a boolean, not a string`},
	{"m.server array", `{"m.server": ["t"] }`, wellknown.KindNotString, `m.server is an array, not a string`},
	{"m.server object", `{"m.server":{}}`, wellknown.KindNotString, `m.server is an object, not a string`},
	{"last duplicate bad", `{"m.server":"t","m.server":0}`, wellknown.KindNotString, `m.server is a number, not a string`},

	// The name.
	{"empty name", `{"m.server":""}`, wellknown.KindBadServerName, `m.server is "": *`},
	{"URL", `{"m.server":"https://t"}`, wellknown.KindBadServerName, `m.server is "https://t": a server name is not a URL*`},
	{"path", `{"m.server":"t/path"}`, wellknown.KindBadServerName, `m.server is "t/path": *`},
	{"path behind a port", `{"m.server":"t:443/"}`, wellknown.KindBadServerName, `m.server is "t:443/": *`},
	{"query", `{"m.server":"t?x"}`, wellknown.KindBadServerName, `m.server is "t?x": *`},
	{"fragment", `{"m.server":"t#x"}`, wellknown.KindBadServerName, `m.server is "t#x": *`},
	{"user", `{"m.server":"u:p@t:99"}`, wellknown.KindBadServerName, `m.server is "u:p@t:99": *`},
	{"spaces", `{"m.server":" t "}`, wellknown.KindBadServerName, `m.server is " t ": *`},
	{"newline", `{"m.server":"t\n"}`, wellknown.KindBadServerName, `m.server is "t\n": *`},
	{"header", `{"m.server":"t\r\nX: y"}`, wellknown.KindBadServerName, `m.server is "t\r\nX: y": *`},
	{"NUL", `{"m.server":"t\u0000"}`, wellknown.KindBadServerName, `m.server is "t\x00": *`},
	{"escape sequence of a terminal", `{"m.server":"\u001b[2J"}`, wellknown.KindBadServerName, `m.server is "\x1b[2J": *`},
	{"not ASCII", `{"m.server":"bücher.example"}`, wellknown.KindBadServerName, `m.server is "bücher.example": *`},
	{"right to left override", `{"m.server":"a\u202eb"}`, wellknown.KindBadServerName, `m.server is "a\u202eb": *`},
	{"lone surrogate", `{"m.server":"t\ud800"}`, wellknown.KindBadServerName, "m.server is \"t\ufffd\": *"},
	{"digits of another script", `{"m.server":"t:٣"}`, wellknown.KindBadServerName, `m.server is "t:٣": *`},
	{"trailing dot", `{"m.server":"t."}`, wellknown.KindBadServerName, `m.server is "t.": *`},
	{"trailing dot and port", `{"m.server":"t.:443"}`, wellknown.KindBadServerName, `m.server is "t.:443": *`},
}

// badNames are more texts of m.server that are refused.
var badNames = []string{
	"t:0", "t:", "t:65536", "t:99999", "t:abc", "t:-1", "t:+80", "t:8_0", "t: 80", ":80",
	"un_der.example", "per%65.com", ".lead.com", "a..b", "127.1", "256.1.1.1", "01.2.3.4",
	"::1", "[::1", "[fe80::1%eth0]", "[fe80::1%25eth0]", "[::1]x", "[]", "[1.2.3.4]",
	// Long enough to be cut, with the longest things that can be said of them.
	strings.Repeat("a", 60) + "." + strings.Repeat("a", 60) + ".1",
	"[::" + strings.Repeat(":", 99) + "%x]", "@" + strings.Repeat("a", 99) + ":t",
	"https://" + strings.Repeat("a", 99), strings.Repeat("ü", 99), strings.Repeat("a", 99) + ":port",
	strings.Repeat("a", 262), longHost + "c", strings.Repeat("a", 50000),
	strings.Repeat("\x01", 300), strings.Repeat("ü", 300), strings.Repeat("\U0001F600", 100),
	strings.Repeat(`"\`, 90), strings.Repeat("\U000E0001", 60),
}

func TestParseServer(t *testing.T) {
	t.Parallel()
	for _, tt := range goodServers {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server, err := wellknown.ParseServer([]byte(tt.body))
			require.NoError(t, err)
			assert.Equal(t, tt.server, server)
		})
	}
}

func TestParseServerRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range badServers {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server, err := wellknown.ParseServer([]byte(tt.body))
			assert.Empty(t, server)
			parseErr := requireParseError(t, err)
			assert.Equal(t, tt.kind, parseErr.Kind)
			if front, back, wild := strings.Cut(tt.detail, "*"); wild {
				assert.GreaterOrEqual(t, len(parseErr.Detail), len(tt.detail))
				assert.True(t, strings.HasPrefix(parseErr.Detail, front), "%s", parseErr.Detail)
				assert.True(t, strings.HasSuffix(parseErr.Detail, back), "%s", parseErr.Detail)
			} else {
				assert.Equal(t, tt.detail, parseErr.Detail)
			}
			assert.Equal(t, "well-known document: "+parseErr.Detail, err.Error())
		})
	}
}

func TestParseServerRefusesBadNames(t *testing.T) {
	t.Parallel()
	for _, name := range badNames {
		body, err := json.Marshal(map[string]string{"m.server": name})
		require.NoError(t, err)
		_, err = wellknown.ParseServer(body)
		parseErr := requireParseError(t, err)
		assert.Equal(t, wellknown.KindBadServerName, parseErr.Kind, "%q", name)
		assert.True(t, strings.HasPrefix(parseErr.Detail, `m.server is "`), "%s", parseErr.Detail)
		// Whatever the grammar says of the name is said here, and not cut.
		_, err = servername.Parse(name)
		var bad *servername.Error
		require.ErrorAs(t, err, &bad)
		assert.True(t, strings.HasSuffix(parseErr.Detail, `: `+bad.Problem), "%s", parseErr.Detail)
	}
}

// A near miss of the key may be as long as the body.
func TestParseServerCutsKeys(t *testing.T) {
	t.Parallel()
	body := `{"` + strings.Repeat(" ", 40000) + `M.Server":"t"}`
	_, err := wellknown.ParseServer([]byte(body))
	parseErr := requireParseError(t, err)
	assert.Equal(t, wellknown.KindMissing, parseErr.Kind)
	assert.Equal(t, `the key must be "m.server", found "`+strings.Repeat(" ", 75)+`"...`, parseErr.Detail)
}

// The last of duplicate keys decides, as it does in ParseServer; values come
// unread.
func TestParseObject(t *testing.T) {
	t.Parallel()
	object, err := wellknown.ParseObject([]byte(` {"a": 1, "A":null, "a" : [ 1e999, "x" ] , "":{"b" :true}}` + "\n"))
	require.NoError(t, err)
	assert.Equal(t, map[string]json.RawMessage{
		"a": json.RawMessage(`[ 1e999, "x" ]`),
		"A": json.RawMessage(`null`),
		"":  json.RawMessage(`{"b" :true}`),
	}, object)
}

// The caller may use the body for something else afterwards.
func TestParseObjectKeepsNothingOfTheBody(t *testing.T) {
	t.Parallel()
	body := []byte(`{"m.server":"t"}`)
	object, err := wellknown.ParseObject(body)
	require.NoError(t, err)
	clear(body)
	assert.Equal(t, `"t"`, string(object["m.server"]))
}

// requireParseError checks what is true of each error of the parser.
func requireParseError(t testing.TB, err error) *wellknown.ParseError {
	t.Helper()
	var parseErr *wellknown.ParseError
	require.True(t, errors.As(err, &parseErr), "%T", err)
	require.NotEmpty(t, parseErr.Kind)
	require.NotEmpty(t, parseErr.Detail)
	require.LessOrEqual(t, len(parseErr.Detail), 200)
	require.True(t, utf8.ValidString(parseErr.Detail))
	for _, r := range parseErr.Detail {
		require.True(t, strconv.IsPrint(r), "%q in %q", r, parseErr.Detail)
	}
	return parseErr
}

func BenchmarkParseServer(b *testing.B) {
	bodies := []struct {
		name string
		body []byte
	}{
		{"usual", []byte(`{"m.server": "matrix.example.org:443"}`)},
		{"html", []byte("<!DOCTYPE html>\n<html><head><title>404</title></head></html>")},
		{"largest", []byte(`{"x":"` + strings.Repeat("x", wellknown.MaxBody-40) + `","m.server": "t"}`)},
		{"manyKeys", []byte(`{` + strings.Repeat(`"a":0,`, 8000) + `"m.server": "t"}`)},
	}
	for _, bb := range bodies {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = wellknown.ParseServer(bb.body)
			}
		})
	}
}

func ExampleParseServer() {
	server, err := wellknown.ParseServer([]byte(`{"m.server": "matrix.example.org:443"}`))
	fmt.Println(server, err)

	_, err = wellknown.ParseServer([]byte(`{"M.Server": "matrix.example.org:443"}`))
	var parseErr *wellknown.ParseError
	if errors.As(err, &parseErr) {
		fmt.Println(parseErr.Kind)
		fmt.Println(parseErr.Detail)
	}
	// Output:
	// matrix.example.org:443 <nil>
	// missing
	// the key must be "m.server", found "M.Server"
}

func ExampleParseObject() {
	object, err := wellknown.ParseObject([]byte(`{"m.server": "t", "M.Server": "u"}`))
	fmt.Println(len(object), string(object["m.server"]), err)
	// Output:
	// 2 "t" <nil>
}
