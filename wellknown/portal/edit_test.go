package portal

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	wk  = `"well_known":{"m.homeserver":{"base_url":"https://hs.example/a&b"}}`
	bcu = `"base_cs_url":"https://hs.example/a&b"`
)

var announceTable = []struct {
	name, in, want string
	emit           Emit
}{
	{"empty", `{}`, `{` + wk + `,` + bcu + `}`, 0},
	{"space", " {\r\n } \n", " {" + wk + `,` + bcu + "\r\n } \n", 0},
	{"as it was", "{ \"a\" : 1.00 ,\n\"b\":[1e3, {\"x\":null}],\t\"\\u0063\":\"\\ud83d\\ude00\\/\" }\n", "{ \"a\" : 1.00 ,\n\"b\":[1e3, {\"x\":null}],\t\"\\u0063\":\"\\ud83d\\ude00\\/\"," + wk + "," + bcu + " }\n", 0},
	{"large numbers", `{"n":123456789012345678901234567890.10}`, `{"n":123456789012345678901234567890.10,` + wk + `,` + bcu + `}`, 0},
	{"doubles", `{"a":1,"a":2}`, `{"a":1,"a":2,` + bcu + `}`, EmitBaseCSURL},
	{"one field", `{"a":1}`, `{"a":1,` + wk + `}`, EmitWellKnown},
	{"nothing", `{"a":1}`, `{"a":1}`, EmitNothing},
	{"both there", `{"well_known":{"m.homeserver":{"base_url":"https://a.example"}},"base_cs_url":"https://b.example"}`, `{"well_known":{"m.homeserver":{"base_url":"https://a.example"}},"base_cs_url":"https://b.example"}`, 0},
	{"well_known there", `{"well_known":{"m.homeserver":{"base_url":"https:\/\/A.example/"}, "m.identity_server":{}},"z":0}`, `{"well_known":{"m.homeserver":{"base_url":"https:\/\/A.example/"}, "m.identity_server":{}},"z":0,"base_cs_url":"https:\/\/A.example/"}`, 0},
	{"base_cs_url there", `{"base_cs_url":"http://a.example"}`, `{"base_cs_url":"http://a.example","well_known":{"m.homeserver":{"base_url":"http://a.example"}}}`, 0},
	{"well_known there, not wanted", `{"well_known":{"m.homeserver":{"base_url":"https://a.example"}}}`, `{"well_known":{"m.homeserver":{"base_url":"https://a.example"}}}`, EmitWellKnown},
	{"null", `{"well_known":null,"a":1, "base_cs_url" : null}`, `{` + wk + `,"a":1, "base_cs_url" : "https://hs.example/a&b"}`, 0},
	{"null, the other way", `{"base_cs_url":null,"a":1,"well_known": null }`, `{` + bcu + `,"a":1,"well_known": {"m.homeserver":{"base_url":"https://hs.example/a&b"}} }`, 0},
	{"one null", `{"a":1,"well_known":null,"b":2}`, `{"a":1,` + wk + `,"b":2,` + bcu + `}`, 0},
	{"null, not wanted", `{"well_known":null}`, `{"well_known":null,` + bcu + `}`, EmitBaseCSURL},
	{"null beside a value", `{"well_known":null,"base_cs_url":"https://a.example"}`, `{"well_known":{"m.homeserver":{"base_url":"https://a.example"}},"base_cs_url":"https://a.example"}`, 0},
	{"null inside", `{"well_known":{"m.homeserver":null}}`, `{"well_known":{"m.homeserver":null},` + bcu + `}`, 0},
	{"no URL inside", `{"well_known":{"m.homeserver":{"base_url":"a.example"}}}`, `{"well_known":{"m.homeserver":{"base_url":"a.example"}},` + bcu + `}`, 0},
	{"identity server alone", `{"well_known":{"m.identity_server":{"base_url":"https://is.example"}}}`, `{"well_known":{"m.identity_server":{"base_url":"https://is.example"}},` + bcu + `}`, 0},
	{"another type", `{"well_known":"https://a.example"}`, `{"well_known":"https://a.example",` + bcu + `}`, 0},
	{"another type, the other way", `{"base_cs_url":["https://a.example"]}`, `{"base_cs_url":["https://a.example"],` + wk + `}`, 0},
	{"another case", `{"Well_Known":{},"BASE_CS_URL":""}`, `{"Well_Known":{},"BASE_CS_URL":"",` + wk + `,` + bcu + `}`, 0},
	{"escaped key", `{"well\u005fknown":{"m.homeserver":{"base_url":"https://a.example"}}}`, `{"well\u005fknown":{"m.homeserver":{"base_url":"https://a.example"}},"base_cs_url":"https://a.example"}`, 0},
	{"deeper", `{"x":{"well_known":{},"base_cs_url":"https://a.example"}}`, `{"x":{"well_known":{},"base_cs_url":"https://a.example"},` + bcu + `}`, EmitBaseCSURL},
	{"the last double counts", `{"base_cs_url":"https://a.example","base_cs_url":"https://b.example"}`, `{"base_cs_url":"https://a.example","base_cs_url":"https://b.example","well_known":{"m.homeserver":{"base_url":"https://b.example"}}}`, 0},
	{"the last double is null", `{"base_cs_url":"https://a.example","base_cs_url":null}`, `{"base_cs_url":"https://a.example",` + bcu + `}`, EmitBaseCSURL},
	{"home_server is no URL", `{"home_server":"a.example"}`, `{"home_server":"a.example",` + bcu + `}`, EmitBaseCSURL},
	{"tricky strings", `{"a":"}\"{,","b\"]":"\\"}`, `{"a":"}\"{,","b\"]":"\\",` + bcu + `}`, EmitBaseCSURL},
	{"bad UTF-8", "{\"a\":\"\xff\"}", "{\"a\":\"\xff\"," + bcu + "}", EmitBaseCSURL},
	{"array", `[1]`, `[1]`, 0},
	{"string", `"{}"`, `"{}"`, 0},
	{"null document", `null`, `null`, 0},
	{"nothing at all", ``, ``, 0},
	{"not JSON", `{"a":1`, `{"a":1`, 0},
	{"more", `{}{}`, `{}{}`, 0},
	{"byte order mark", "\ufeff{}", "\ufeff{}", 0},
	{"deep", `{"a":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`, `{"a":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`, 0},
}

func TestAnnounce(t *testing.T) {
	t.Parallel()
	for _, test := range announceTable {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.want, string(Announce([]byte(test.in), "https://hs.example/a&b", test.emit)))
		})
	}
}

func TestDropFlows(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{"flows":[{"type":"m.login.sso"}]}`:                                                 `{"flows":[]}`,
		`{"flows":[ {"type":"m.login.password"} ]}`:                                          `{"flows":[ {"type":"m.login.password"} ]}`,
		`{"x":1.0,"flows" : [{"type":"m.login.cas"}, {"type":"m.login.password","n":1e1}] }`: `{"x":1.0,"flows" : [{"type":"m.login.password","n":1e1}] }`,
		`{"flows":[{"type":"m.login.SSO"},{"Type":"m.login.sso"},"m.login.sso",null,1,{}]}`:  `{"flows":[{"type":"m.login.SSO"},{"Type":"m.login.sso"},"m.login.sso",null,1,{}]}`,
		`{"flows":[{"type":"m.login.sso"},"m.login.sso",null,[1]]}`:                          `{"flows":["m.login.sso",null,[1]]}`,
		`{"flows":[{"type":"x","type":"m.login.sso"},{"type":"m.login.sso","type":"x"}]}`:    `{"flows":[{"type":"m.login.sso","type":"x"}]}`,
		`{"flows":{"type":"m.login.sso"}}`:                                                   `{"flows":{"type":"m.login.sso"}}`,
		`{"flows":null}`:                                                                     `{"flows":null}`,
		`{}`:                                                                                 `{}`,
		`[{"type":"m.login.sso"}]`:                                                           `[{"type":"m.login.sso"}]`,
		`{"flows":[{"type":"m.login.sso"}]`:                                                  `{"flows":[{"type":"m.login.sso"}]`,
		``:                                                                                   ``,
	} {
		assert.Equal(t, want, string(dropFlows([]byte(in))), in)
	}
}

// FuzzAnnounce: what was there is there still, as it was, and what is added is
// what must be added.
func FuzzAnnounce(f *testing.F) {
	for _, test := range announceTable {
		f.Add([]byte(test.in), uint8(test.emit))
	}
	f.Fuzz(func(t *testing.T, in []byte, bits uint8) {
		emit := []Emit{0, EmitWellKnown, EmitBaseCSURL, EmitNothing}[bits%4]
		before := bytes.Clone(in)
		out := Announce(in, "https://hs.example", emit)
		require.Equal(t, before, in, "the argument is not written to")
		if !json.Valid(in) {
			require.Equal(t, before, out)
			return
		}
		old, ok := object(in)
		if !ok {
			require.Equal(t, before, out)
			return
		}
		require.True(t, json.Valid(out), "%q", out)
		now, ok := object(out)
		require.True(t, ok)
		require.GreaterOrEqual(t, len(now), len(old))
		for i, m := range old {
			require.Equal(t, m.key, now[i].key)
			if !bytes.Equal(m.value, now[i].value) {
				require.Equal(t, "null", string(m.value))
				require.Contains(t, []string{fieldWellKnown, fieldBaseCSURL}, m.key)
			}
		}
		for _, m := range now[len(old):] {
			require.Contains(t, []string{fieldWellKnown, fieldBaseCSURL}, m.key)
		}
		for field, bit := range map[string]Emit{fieldWellKnown: EmitWellKnown, fieldBaseCSURL: EmitBaseCSURL} {
			_, had := last(old, field)
			_, has := last(now, field)
			require.Equal(t, had || emit.has(bit), has, field)
		}
		require.Equal(t, string(out), string(Announce(out, "https://other.example", emit)), "once is enough")
		// The scanner of this package against encoding/json.
		if utf8.Valid(in) {
			var reference map[string]json.RawMessage
			require.NoError(t, json.Unmarshal(in, &reference))
			mine := map[string]json.RawMessage{}
			for _, m := range old {
				mine[m.key] = m.value
			}
			require.True(t, len(reference) == len(mine) && (len(mine) == 0 || reflect.DeepEqual(reference, mine)), "%q %q", reference, mine)
		}
		if cut := dropFlows(in); !bytes.Equal(cut, in) {
			require.True(t, json.Valid(cut))
			require.Less(t, len(cut), len(in))
			require.Equal(t, string(cut), string(dropFlows(cut)))
		}
	})
}

var mapTable = []struct {
	name, file string
	want       UserMap
	wrong      string
}{
	{"empty", "", UserMap{}, ""},
	{"all kinds", "# users\n\n@alice:example.org\t a \r\n  bob   b\n* c\n#* d\n   # e", UserMap{"@alice:example.org": "a", "bob": "b", "*": "c"}, ""},
	{"server with a port", "@a:b:[1 a", nil, "line 1: \"@a:b:[1\" is no Matrix ID"},
	{"IPv6 server", "@a:[::1]:8448 a", UserMap{"@a:[::1]:8448": "a"}, ""},
	{"international", "jürgen a", UserMap{"jürgen": "a"}, ""},
	{"one word", "a b\nalice\n", nil, "line 2 must have a user and a target, and has 1 words"},
	{"three words", "alice a # work", nil, "line 1 must have a user and a target, and has 4 words"},
	{"twice", "alice a\nalice b", nil, `line 2: "alice" has an entry already`},
	{"no server", "@alice a", nil, "neither a Matrix ID"},
	{"empty server", "@alice: a", nil, "no Matrix ID"},
	{"no @", "alice:example.org a", nil, "neither a Matrix ID"},
	{"byte order mark", "\ufeff@alice:example.org a", nil, "control character"},
	{"escape", "al\x1bice a", nil, `"al\x1bice"`},
	{"not UTF-8", "a b\n\xff a", nil, "line 2 is not UTF-8"},
	{"too long", "a b\n" + strings.Repeat("x", 70000) + " a", nil, "line 2: "},
}

func TestParseUserMap(t *testing.T) {
	t.Parallel()
	for _, test := range mapTable {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseUserMap(strings.NewReader(test.file))
			if test.wrong != "" {
				assert.ErrorContains(t, err, test.wrong)
				return
			}
			assert.NoError(t, err)
			assert.Equal(t, test.want, got)
		})
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	closed := UserMap{"@alice:example.org": "full", "alice": "local", "@odd": "odd"}
	open := UserMap{"alice": "local", "*": "rest"}
	for _, test := range []struct {
		users      UserMap
		user, want string
	}{
		{closed, "@alice:example.org", "full"},
		{closed, "@alice:EXAMPLE.org", "local"},
		{closed, "@alice:other.example:8448", "local"},
		{closed, "alice", "local"},
		{closed, "@Alice:example.org", ""},
		{closed, "@odd", "odd"},
		{closed, "bob", ""},
		{closed, "", ""},
		{closed, "*", ""},
		{open, "@alice:example.org", "local"},
		{open, "bob", "rest"},
		{open, "@bob:example.org", "rest"},
		{open, "", "rest"},
		{open, "*", "rest"},
		{nil, "alice", ""},
	} {
		name, ok := test.users.Lookup(test.user)
		assert.Equal(t, test.want, name, test.user)
		assert.Equal(t, test.want != "", ok)
	}
	assert.Equal(t, []string{"local", "rest"}, open.TargetNames())
}

var userTable = []struct{ body, user, code string }{
	{`{"identifier":{"type":"m.id.user","user":"@a:b"},"user":"c"}`, "@a:b", ""},
	{`{"identifier":{"type":"m.id.user"},"user":"c"}`, "c", ""},
	{`{"identifier":{"type":"m.id.user","user":null},"user":"c"}`, "c", ""},
	{`{"identifier":{"type":"m.id.user","user":1}}`, "", ""},
	{`{"identifier":{"type":"m.id.thirdparty","user":"a"},"user":"c"}`, "c", ""},
	{`{"identifier":{"user":"a"}}`, "", ""},
	{`{"identifier":null,"user":"c"}`, "c", ""},
	{`{"identifier":["m.id.user","a"]}`, "", ""},
	{`{"Identifier":{"type":"m.id.user","user":"a"},"User":"c"}`, "", ""},
	{`{"identifier":{"Type":"m.id.user","type":"m.id.user","User":"x","user":"a"}}`, "a", ""},
	{`{"user":"\u0061\n"}`, "a\n", ""},
	{`{}`, "", ""},
	{` {"user":"a"} `, "a", ""},
	{`{"user":"a","user":"b"}`, "", "M_BAD_JSON"},
	{`{"user":"a","\u0075ser":"b"}`, "", "M_BAD_JSON"},
	{`{"identifier":{},"identifier":{}}`, "", "M_BAD_JSON"},
	{`{"identifier":{"type":"m.id.user","type":"x"}}`, "", "M_BAD_JSON"},
	{`[]`, "", "M_BAD_JSON"},
	{`"a"`, "", "M_BAD_JSON"},
	{`7`, "", "M_BAD_JSON"},
	{``, "", "M_NOT_JSON"},
	{`{`, "", "M_NOT_JSON"},
	{`{"user":"a"}}`, "", "M_NOT_JSON"},
	{"{\"user\":\"\xff\"}", "", "M_NOT_JSON"},
	{"\ufeff{}", "", "M_NOT_JSON"},
}

func TestUser(t *testing.T) {
	t.Parallel()
	for _, test := range userTable {
		user, err := (&Login{Body: []byte(test.body)}).User()
		assert.Equal(t, test.user, user, test.body)
		if test.code == "" {
			assert.NoError(t, err, test.body)
			continue
		}
		var refusal *Error
		require.ErrorAs(t, err, &refusal, test.body)
		assert.Equal(t, 400, refusal.Status)
		assert.Equal(t, test.code, refusal.ErrCode)
		assert.Contains(t, err.Error(), "400 "+test.code)
	}
}

func FuzzParseUserMap(f *testing.F) {
	for _, test := range mapTable {
		f.Add(test.file)
	}
	f.Fuzz(func(t *testing.T, file string) {
		users, err := ParseUserMap(strings.NewReader(file))
		if err != nil {
			require.Nil(t, users)
			for _, c := range err.Error() {
				require.False(t, c < ' ' || c == 0x7f, "%q", err.Error())
			}
			return
		}
		// Written again, it is the same, and every entry is found.
		var again strings.Builder
		for user, name := range users {
			require.NotEmpty(t, user)
			require.NotEmpty(t, name)
			got, ok := users.Lookup(user)
			require.True(t, ok)
			require.Equal(t, name, got)
			again.WriteString(user + " " + name + "\n")
		}
		same, err := ParseUserMap(strings.NewReader(again.String()))
		require.NoError(t, err)
		require.Equal(t, users, same)
	})
}

func FuzzUser(f *testing.F) {
	for _, test := range userTable {
		f.Add([]byte(test.body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		user, err := (&Login{Body: body}).User()
		var all map[string]any
		valid := utf8.Valid(body) && json.Unmarshal(body, &all) == nil && all != nil
		require.Equal(t, valid, err == nil || strings.Contains(err.Error(), "twice"))
		if err != nil || user == "" {
			return
		}
		if identifier, ok := all["identifier"].(map[string]any); ok && identifier["type"] == "m.id.user" && identifier["user"] == user {
			return
		}
		require.Equal(t, all["user"], user)
	})
}

// The seeds of MSC1730 show these two legs of the portal's way.
func TestSequenceDiagram(t *testing.T) {
	t.Parallel()
	// 23 November 2018: the portal adds the field.
	assert.Equal(t, `{"access_token": "...","base_cs_url":"https://targeths"}`,
		string(Announce([]byte(`{"access_token": "..."}`), "https://targeths", EmitBaseCSURL)))
	// 26 November 2018: the homeserver has sent it, and it is passed on.
	sent := `{"base_cs_url": "http://targeths",` + "\n" + `"access_token": "..."}`
	assert.Equal(t, sent, string(Announce([]byte(sent), "https://other", EmitBaseCSURL)))
}

// The package writes nothing by itself.
func TestNoPrinting(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, word := range []string{"os.Std", "fmt.Print", `"log"`, "slog.Info", "slog.Error", "println("} {
			assert.NotContains(t, string(text), word, name)
		}
	}
}

func BenchmarkAnnounce(b *testing.B) {
	text := []byte(loginDone)
	b.ReportAllocs()
	for b.Loop() {
		Announce(text, "https://hs.example", 0)
	}
}
