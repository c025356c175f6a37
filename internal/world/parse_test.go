package world_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/world"
)

var badFiles = []struct{ text, want string }{
	{"x\n-- --", `t:2: a section needs a name`},
	{"-- nonsense --\n", `t:1: section "nonsense": unknown section`},
	{"c\n-- zone extra --\n", `t:2: section "zone extra": unknown section`},
	{"-- zone from x --\n", `t:1: section "zone from x": "x" is not a duration`},
	{"-- zone --\n\na.example. A 1.2.3\n", `t:3: section "zone": not a master file: bad A`},
	{"# c\n-- zone --\n# c\na. A 192.0.2.1\na. WHAT 1\n", `t:5: section "zone": not a master file`},
	{"-- zone --\na. CH A 192.0.2.1\n", `class must be IN`},
	{"-- zone --\n$INCLUDE /etc/passwd\n", `not a master file`},
	{"-- zone --\n$GENERATE 0-20000 a$ A 192.0.2.1\n", `more than 16384 records`},
	{"-- zone --\n-- zone --\n", `t:2: section "zone": a second section for the same time`},
	{"-- dns --\n-- dns from 0s --\n", `a second section for the same time`},
	{"-- servers from 1m --\n-- servers from 60s --\n", `a second section for the same time`},
	{"-- dns --\n\na.example A\n", `t:3: section "dns": a line is NAME TYPE FAULT`},
	{"-- dns --\n@0 a.example A silent\n", `"0" is not a number from 1 to 16`},
	{"-- dns --\n@1\n", `a line is NAME TYPE FAULT`},
	{"-- dns --\n\n@2 a.example A silent\n", `t:3: section "dns": no server @2, there are 1`},
	{"-- dns --\na..b A silent\n", `"a..b" is no domain name`},
	{"-- dns --\na B silent\n", `unknown type "B"`},
	{"-- dns --\na A sleepy\n", `unknown fault "sleepy"`},
	{"-- dns --\na A silent now\n", `"silent": unexpected "now"`},
	{"-- dns --\na A silent first x\n", `"x" is not a number`},
	{"-- dns --\na A silent after 0\n", `"0" is not a number`},
	{"-- dns --\na A rcode\n", `rcode needs one name`},
	{"-- dns --\na A rcode BADVERS\n", `rcode needs one name`},
	{"-- dns --\na A delay\n", `delay needs one duration`},
	{"-- dns --\na A delay -1s\n", `"-1s" is not a duration`},
	{"-- dns --\na A extra x\n", `extra needs a record`},
	{"-- dns --\na A extra\n", `extra needs a record`},
	{"-- servers --\na.example:443\n", `"a.example:443" is not an address and port`},
	{"-- servers --\n192.0.2.1:0\n", `is not an address and port`},
	{"-- servers --\n[fe80::1%eth0]:1\n", `is not an address and port`},
	{"-- servers --\n192.0.2.1:1\n192.0.2.1:1 drop\n", `t:3: section "servers": a second line for 192.0.2.1:1`},
	{"-- servers --\n192.0.2.1:1 drop reset\n", `both drop and reset`},
	{"-- servers --\n192.0.2.1:1 fall\n", `unknown option "fall"`},
	{"-- servers --\n192.0.2.1:1 cert\n", `cert needs a word after it`},
	{"-- servers --\n192.0.2.1:1 cert nice\n", `unknown kind of certificate "nice"`},
	{"-- servers --\n192.0.2.1:1 cert names=a,,b\n", `an empty name`},
	{"-- servers --\n192.0.2.1:1 cert expired cert untrusted\n", `both expired and untrusted`},
	{"-- servers --\n192.0.2.1:1 accept-delay soon\n", `"soon" is not a duration`},
	{"-- GET http://a/ --\n200\n", `not of the form https://host[:port]/path`},
	{"-- GET https://a --\n200\n", `not of the form`},
	{"-- GET https://u@a/ --\n200\n", `not of the form`},
	{"-- GET https://a:0/ --\n200\n", `no good host and port`},
	{"-- GET https://:1/ --\n200\n", `no good host and port`},
	{"-- GET https://[::1%25x]/ --\n200\n", `no good host and port`},
	{"-- GET https://%zz/ --\n200\n", `not a URL`},
	{"-- FETCH https://a/ --\n200\n", `unknown section`},
	{"-- GET https://a/ --\n", `no status`},
	{"-- GET https://a/ --\n# c\nok\n", `t:3: section "GET https://a/": "ok" is not a status`},
	{"-- GET https://a/ --\n20\n", `is not a status`},
	{"-- GET https://a/ --\n200\nno header\n", `t:3: section "GET https://a/": "no header" is neither`},
	{"-- GET https://a/ --\n200\nA B: c\n", `is neither a header line nor a directive`},
	{"-- GET https://a/ --\n200\nA: c\x00\n", `a control character`},
	{"-- GET https://a/ --\n200\ncontent-length: 1\n", `is set by directives`},
	{"-- GET https://a/ --\n200\nDate: {now+x}\n", `"{now+x}" is not a date`},
	{"-- GET https://a/ --\n200\n!\n", `a directive without a name`},
	{"-- GET https://a/ --\n200\n!nice\n", `unknown directive "nice"`},
	{"-- GET https://a/ --\n200\n!size\n", `directive "size": unknown, or not this many words`},
	{"-- GET https://a/ --\n200\n!size 17000000\n", `is not a number from 1 to 16777216`},
	{"-- GET https://a/ --\n200\n!size 1\n\nabc\n", `!size 1 is less than the body has, 3`},
	{"-- GET https://a/ --\n200\n!reset-after 4\n\nabc\n", `!reset-after 4 is more than the body has`},
	{"-- GET https://a/ --\n200\n!slow x 1s\n", `"x" is not a number`},
	{"-- GET https://a/ --\n200\n!chunked\n!close-delimited\n", `only one of`},
	{"-- GET https://a/ --\n200\n!content-length 1\n!close-delimited\n", `only one of`},
	{"-- GET https://a/ --\n200\n!reset\n", `there is no status`},
	{"-- GET https://a/ --\n200\n!raw\n", `there is no status`},
	{"-- options --\nrules new\n", `rules are current or draft-2019`},
	{"-- options --\nrules\n", `option "rules": unknown, or not this many words`},
	{"-- options --\nspeed 1\n", `unknown option "speed"`},
	{"-- options --\nallow-net 10/8\n", `t:2: section "options"`},
	{"-- options --\ntimeout x\n", `is not a duration`},
	{"-- options --\ndns-timeout x\n", `is not a duration`},
	{"-- options --\ndns-attempts 0\n", `is not a number from 1 to 100`},
	{"-- options --\nservers 17\n", `is not a number from 1 to 16`},
	{"-- options --\n-- options --\n", `t:2: section "options": a second one`},
	{"-- options later --\n", `nothing may follow`},
	{"-- resolve --\n{}\n", `a name is missing`},
	{"-- resolve a --\n", `the body must be a JSON object`},
	{"-- resolve a --\nnull\n", `the body must be a JSON object`},
	{"-- resolve a --\n{\"a\":[{\"b\":\"~(\"}]}\n", `missing closing )`},
	{"-- resolve \"a --\n{}\n", `is not a quoted name`},
	{"-- parallel 0 a --\n{}\n", `"0" is not a number`},
	{"-- parallel 3 --\n{}\n", `a name is missing`},
	{"-- forget a --\nb\n", `it must have no content`},
	{"-- advance a --\n", `is not a duration`},
	{"-- advance 1s --\nb\n", `it must have no content`},
	{"-- asked now --\nonly\n", `nothing may follow`},
	{"-- asked --\n", `it checks nothing`},
	{"-- asked --\n1 GET\n", `t:2: section "asked": a line is N TYPE NAME`},
	{"-- asked --\n1 SVR a\n", `a line is N TYPE NAME`},
	{"-- asked --\nx SRV a\n", `"x" is not a number`},
	{"-- asked --\n1 SRV A.example.\n", `without the final dot: a.example`},
	{"-- asked --\n1 GET a.example\n", `a line is N TYPE NAME`},
	{"-- asked --\n1 CONNECT a\n", `a line is N TYPE NAME`},
	{"-- asked --\n1 A a\n2 A a\n", `a second line for "A a"`},
	{"-- servers --\n192.0.2.1:1 tls12 tls11\n", `a second highest version of TLS: tls11`},
	{"-- servers --\n192.0.2.1:1 without-sni\n", `without-sni needs a word after it`},
	{"-- servers --\n192.0.2.1:1 without-sni nice\n", `refuse or other, not "nice"`},
	{"-- servers --\n192.0.2.1:1 cert expires-in=soon\n", `"soon" is not a duration`},
	{"-- servers --\n192.0.2.1:1 cert chain cert expires-in=1h\n", `both chain and expires-in=1h`},
	{"-- servers --\n192.0.2.1:1 cert expires-in=1h cert chain\n", `both expires-in=1h and chain`},
	{"-- GET https://a/ @192.0.2.1 --\n200\n", `"192.0.2.1" is not an address and port`},
	{"-- GET https://a/ @192.0.2.1:1 @192.0.2.1:1 --\n200\n", `192.0.2.1:1 stands there twice`},
	{"-- GET https://a/ 192.0.2.1:1 --\n200\n", `unknown section`},
	{"-- zone @192.0.2.1:1 --\n", `unknown section`},
	{"-- matrix --\n", `unknown section`},
	{"-- matrix http://a --\n", `not of the form https://host[:port]/path`},
	{"-- matrix https://a/b --\n", `"https://a/b" has a path`},
	{"-- matrix https://a:0 --\n", `no good host and port`},
	{"-- matrix https://a --\n-- matrix https://a/ --\n", `t:2: section "matrix https://a/": a second section for the same time`},
	{"-- matrix https://a --\n\nspeed 1\n", `t:3: section "matrix https://a": unknown line "speed"`},
	{"-- matrix https://a --\nclock\n", `line "clock": unknown, or not this many words`},
	{"-- matrix https://a --\nclock 1h\nclock 2h\n", `a second line "clock"`},
	{"-- matrix https://a --\nclock x\n", `"x" is not a duration`},
	{"-- matrix https://a --\nvalid-for --1h\n", `"-1h" is not a duration`},
	{"-- matrix https://a --\nkeys nice\n", `keys is followed by one of none, unsigned`},
	{"-- matrix https://a --\nwithout shame\n", `without is followed by one of version`},
	{"-- matrix https://a --\nbroken tls\n", `broken is followed by one of http1, http2`},
	{"-- matrix https://a --\nonly-host a:b\n", `"a:b" is no host and port`},
	{"-- matrix https://a --\nonly-host b\nany-host\n", `both any-host and only-host`},
	{"-- matrix https://a --\nprefix x\n", `"x" is not of the form /path`},
	{"-- matrix https://a --\nversion a\n", `version is followed by a name and a version`},
	{"-- check --\nverdict BAD\n", `a name is missing`},
	{"-- check \"a --\nverdict BAD\n", `is not a quoted name`},
	{"-- check a --\nx\n", `no verdict`},
	{"-- check a --\nverdict FINE\n", `t:2: section "check a": a verdict is GOOD, WARN or BAD, not "FINE"`},
	{"-- check a --\nverdict BAD\nverdict BAD\n", `a line is CODE`},
	{"-- check a --\nBad\n", `a line is CODE`},
	{"-- check a --\nthing ~ x\n", `"thing" is no part`},
	{"-- check a --\nfix ~ (\n", `missing closing )`},
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	for _, c := range badFiles {
		s, err := world.Parse("t", []byte(c.text))
		assert.Nil(t, s, "%s", c.text)
		if assert.Error(t, err, "%s", c.text) {
			assert.Contains(t, err.Error(), c.want)
			assert.Regexp(t, `^t:\d+: `, err.Error())
		}
	}
	many := "-- servers --\n"
	for i := range 1025 {
		many += fmt.Sprintf("192.0.2.1:%d\n", i+1)
	}
	_, err := world.Parse("t", []byte(many))
	assert.ErrorContains(t, err, "at most 1024 are possible")
	_, err = world.Load(filepath.Join(t.TempDir(), "none"))
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestScript(t *testing.T) {
	t.Parallel()
	s := parse(t, `
What it shows.
-- options --
rules draft-2019
lenient-srv
allow-net 10.0.0.0/8
timeout 5s
dns-timeout 1s
dns-attempts 2
virtual
servers 2
-- resolve "nl.com\n" --
{"step":null}
-- parallel 50 a.example:1 --
{"step":"2"}
-- advance 900s --

-- forget a.example --
-- asked --
# what came
2 SRV _matrix._tcp.a.example
0 GET https://a.example/.well-known/matrix/server
1 CONNECT 203.0.113.10:443
only
`)
	assert.Equal(t, "test.txtar", s.Name())
	assert.Equal(t, "What it shows.", s.Comment())
	o := s.Options()
	assert.Equal(t, "10.0.0.0/8", o.AllowNets[0].String())
	o.AllowNets = nil
	assert.Equal(t, world.Options{
		Rules: "draft-2019", LenientSRV: true, Timeout: 5 * time.Second,
		DNSTimeout: time.Second, DNSAttempts: 2, Virtual: true, Servers: 2,
	}, o)
	steps := s.Script()
	require.Len(t, steps, 5)
	one := steps[0].(world.Resolve)
	assert.Equal(t, "nl.com\n", one.Name)
	assert.Equal(t, 1, one.Times)
	assert.Equal(t, "test.txtar:12", one.Position())
	many := steps[1].(world.Resolve)
	assert.Equal(t, "a.example:1", many.Name)
	assert.Equal(t, 50, many.Times)
	assert.JSONEq(t, `{"step":"2"}`, string(many.Want))
	assert.Equal(t, 15*time.Minute, steps[2].(world.Advance).By)
	assert.Equal(t, "a.example", steps[3].(world.Forget).Name)
	asked := steps[4].(world.Asked)
	assert.True(t, asked.Only)

	srv, connect := "SRV _matrix._tcp.a.example", "CONNECT 203.0.113.10:443"
	assert.NoError(t, asked.Check([]string{srv, connect, srv}))
	assert.ErrorContains(t, asked.Check([]string{srv, connect}), srv+": want 2 times, got 1")
	assert.ErrorContains(t, asked.Check([]string{srv, srv, connect, "A b", "A b"}), "A b: not wanted, got 2")
	assert.ErrorContains(t, asked.Check([]string{srv, srv, connect, "GET https://a.example/.well-known/matrix/server"}), "want 0 times, got 1")
	asked.Only = false
	assert.NoError(t, asked.Check([]string{srv, srv, connect, "A b"}))
}

func TestMatchJSON(t *testing.T) {
	t.Parallel()
	cases := []struct{ want, got, err string }{
		{`{}`, `{"a":1}`, ""},
		{`{"a":1}`, `{"a":1,"b":2}`, ""},
		{`{"a":1}`, `{"a":1.0}`, ""},
		{`{"a":1e2}`, `{"a":100}`, ""},
		{`{"a":1}`, `{"a":2}`, "a: want 1, got 2"},
		{`{"a":1}`, `{"a":"1"}`, `a: want 1, got "1"`},
		{`{"a":1e999}`, `{"a":1e998}`, "a: want 1e999, got 1e998"},
		{`{"a":"x"}`, `{}`, `a: want "x", got no such key`},
		{`{"a":"x"}`, `{"a":1}`, `a: want "x", got 1`},
		{`{"a":"x"}`, `{"a":"y"}`, `a: want "x", got "y"`},
		{`{"a":null}`, `{}`, ""},
		{`{"a":null}`, `{"a":{"b":1}}`, `a: want no such key, got {"b":1}`},
		{`{"a":null}`, `{"a":null}`, `a: want no such key, got null`},
		{`{"a":"~^x+$"}`, `{"a":"xx"}`, ""},
		{`{"a":"~^x+$"}`, `{"a":"xy"}`, `a: want "~^x+$", got "xy"`},
		{`{"a":"~1"}`, `{"a":1}`, `a: want "~1", got 1`},
		{`{"a":"~("}`, `{"a":"x"}`, `bad regular expression`},
		{`{"a":[{"b":1},2]}`, `{"a":[{"b":1,"c":1},2]}`, ""},
		{`{"a":[{"b":1}]}`, `{"a":[{"b":2}]}`, "a[0].b: want 1, got 2"},
		{`{"a":[1]}`, `{"a":[1,2]}`, "a: want [1], got [1,2]"},
		{`{"a":[]}`, `{"a":{}}`, "a: want [], got {}"},
		{`{"a":{}}`, `{"a":[]}`, "a: want {}, got []"},
		{`[null,true]`, `[null,true]`, ""},
		{`[true]`, `[false]`, "[0]: want true, got false"},
		{`1`, `2`, "(top): want 1, got 2"},
		{`{"a":1,"b":2}`, `{"a":3,"b":4}`, "a: want 1, got 3\nb: want 2, got 4"},
		{`{`, `{}`, "what is wanted is not JSON"},
		{`{}`, `{} {}`, "what came is not JSON"},
		{`{}`, "oh\n", `what came is not JSON`},
	}
	for _, c := range cases {
		err := world.MatchJSON([]byte(c.want), []byte(c.got))
		if c.err == "" {
			assert.NoError(t, err, "%v", c)
		} else {
			assert.ErrorContains(t, err, c.err, "%v", c)
		}
	}
}

// worlds are the scenes of the repository.
func worlds(t testing.TB) []string {
	files, err := filepath.Glob(filepath.Join("..", "..", "testdata", "worlds", "*.txtar"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	return files
}

func TestWorldsParse(t *testing.T) {
	t.Parallel()
	for _, file := range worlds(t) {
		s, err := world.Load(file)
		if assert.NoError(t, err) {
			assert.NotEmpty(t, s.Comment(), "%s: say what it shows", file)
		}
	}
}

// TestTour follows what the tour expects, from its own JSON: each target that it names is there,
// is who it says, and tells the rule that leads to it.
func TestTour(t *testing.T) {
	t.Parallel()
	s, err := world.Load(filepath.Join("..", "..", "testdata", "worlds", "tour.txtar"))
	require.NoError(t, err)
	w, err := s.Start(world.Loopback{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, w.Close()) })
	steps, good := make(map[string]bool), 0
	for _, step := range s.Script() {
		r, ok := step.(world.Resolve)
		if !ok {
			continue
		}
		assert.Contains(t, s.Comment(), r.Name, "the table lists every name")
		var want struct {
			Step, Host, SNI string
			TLSName         string `json:"tls_name"`
			Targets         []struct {
				Host      string
				Port      uint16
				Addresses []string
			}
			Error *struct{ Code string }
		}
		require.NoError(t, json.Unmarshal(r.Want, &want))
		steps[want.Step] = true
		if want.Error != nil {
			continue
		}
		for _, target := range want.Targets {
			addresses := target.Addresses
			if addresses == nil {
				addresses = resolve(t, w, target.Host)
			}
			for _, a := range addresses {
				if strings.Contains(a, ":") {
					a = "[" + a + "]"
				}
				c := browser(t, w, fmt.Sprintf("%s:%d", a, target.Port))
				res, body, err := get(t, c, "https://"+want.Host+"/_matrix/federation/v1/version")
				if assert.NoError(t, err, "%s at %s", r.Name, a) {
					assert.Equal(t, 200, res.StatusCode, "%s at %s", r.Name, a)
					assert.Contains(t, body, `"name":"Tour"`)
					good++
				}
			}
		}
	}
	for _, rule := range []string{"1", "2", "3.1", "3.2", "3.3", "3.4", "3.5", "4", "5", "6"} {
		assert.True(t, steps[rule], "rule %s", rule)
	}
	assert.Greater(t, good, 15)
}

// resolve gives the addresses of a name.
func resolve(t *testing.T, w *world.World, name string) (all []string) {
	for _, qtype := range []uint16{1, 28} {
		for _, rr := range ask(t, w, "udp", name+".", qtype).Answer {
			f := strings.Fields(rr.String())
			all = append(all, f[len(f)-1])
		}
	}
	return all
}

func FuzzParse(f *testing.F) {
	for _, c := range badFiles {
		f.Add([]byte(c.text))
	}
	for _, file := range worlds(f) {
		data, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Add([]byte("-- zone --\n$GENERATE 1-9 a${0,3} A 192.0.2.$\n*. A 192.0.2.1\n. SOA . . 1 2 3 4 5\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := world.Parse("t", data)
		if (s == nil) == (err == nil) {
			t.Fatalf("%v, %v", s, err)
		}
		if err == nil {
			for _, step := range s.Script() {
				if !strings.HasPrefix(step.Position(), "t:") {
					t.Fatal(step.Position())
				}
			}
		}
	})
}

func FuzzMatchJSON(f *testing.F) {
	f.Add([]byte(`{"a":[1,"x",null,true]}`), []byte(`{"a":[1,"x",null,true]}`))
	f.Add([]byte(`{"a":"~^x"}`), []byte(`{"a":"xy","b":1e999}`))
	f.Fuzz(func(t *testing.T, want, got []byte) {
		if world.MatchJSON(want, got) == nil && !(json.Valid(want) && json.Valid(got)) {
			t.Fatal("what is not JSON matches")
		}
		// Without null, patterns and escapes that hide them, a text matches itself.
		if json.Valid(got) && !bytes.Contains(got, []byte("null")) && !bytes.ContainsAny(got, `~\`) {
			if err := world.MatchJSON(got, got); err != nil {
				t.Fatal(err)
			}
		}
	})
}
