package main

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/check"
	"mxdiscover/resolver"
)

func printed(r *check.Report, color, verbose bool) string {
	var out bytes.Buffer
	a := app{stdout: &output{Writer: &out, color: color}}
	a.printCheck(r, verbose)
	return out.String()
}

// TestPrintCheck compares what people read with testdata/check.
func TestPrintCheck(t *testing.T) {
	t.Parallel()
	for file, out := range map[string]string{
		"good.txt":         printed(goodReport(), false, false),
		"good-verbose.txt": printed(goodReport(), false, true),
		"bad.txt":          printed(badReport(), false, false),
	} {
		golden(t, filepath.Join("testdata", "check", file), out)
	}
}

// golden compares with a file, or writes it with -update.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, string(want), got, "%s is stale: go test ./cmd/mxdiscover -run '^%s$' -update", file, t.Name())
}

// TestPrintCheckFits: lines fit a terminal but for those to copy, and colours
// change nothing but colours.
func TestPrintCheckFits(t *testing.T) {
	t.Parallel()
	for _, r := range []*check.Report{goodReport(), badReport()} {
		plain, colored := printed(r, false, true), printed(r, true, true)
		assert.NotContains(t, plain, "\x1b")
		assert.Contains(t, colored, "\x1b[")
		assert.Equal(t, plain, withoutColor(colored))
		for line := range strings.Lines(plain) {
			if strings.HasPrefix(line, "    ") && strings.Contains(line, "a line that is much longer") {
				continue
			}
			assert.LessOrEqual(t, visible(strings.TrimSuffix(line, "\n")), width, line)
		}
	}
}

func withoutColor(s string) string {
	var b strings.Builder
	inside := false
	for _, r := range s {
		switch {
		case r == '\x1b':
			inside = true
		case inside:
			inside = r != 'm'
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// TestPrintCheckHostile: nothing from the network reaches a terminal as more than
// text in its own line, in any form of the answer.
func TestPrintCheckHostile(t *testing.T) {
	t.Parallel()
	var tap, events, changes bytes.Buffer
	w := tapWriter{out: &tap}
	w.report(hostileReport())
	w.end()
	r := hostileReport()
	for i := range r.Targets {
		for j := range r.Targets[i].Addresses {
			events.WriteString(describe(check.Event{Of: r.Targets[i].Host, Address: &r.Targets[i].Addresses[j]}) + "\n")
		}
		events.WriteString(describe(check.Event{Target: &r.Targets[i]}) + "\n")
	}
	evil := r.Targets[0].Alias
	for _, e := range []check.Event{
		{Finding: &r.Findings[0]}, {WellKnown: &r.WellKnown[1]}, {Asked: &check.Asked{Query: evil, Detail: evil}},
		{Step: &resolver.Step{Rule: "3", Query: evil, Detail: evil}},
	} {
		events.WriteString(describe(e) + "\n")
	}
	a := app{stdout: &output{Writer: &changes}}
	before, now := stateOf(goodReport(), nil), stateOf(r, nil)
	c := &change{ServerName: r.ServerName, Summary: r.Summary, Changes: differences(before, now)}
	a.printChange(c, false)
	require.NotEmpty(t, c.Changes)
	for _, text := range []string{printed(r, false, true), tap.String(), events.String(), changes.String()} {
		assert.Contains(t, text, "forged")
		for line := range strings.Lines(text) {
			assert.NotRegexp(t, `^( {0,3}| {5,})error: forged`, line, "but for lines to copy, which have four spaces")
			for _, c := range strings.TrimSuffix(line, "\n") {
				assert.True(t, unicode.IsPrint(c), "%q in %q", c, line)
			}
		}
	}
}

// TestPrintChangeJSON: a change is one line without control characters.
func TestPrintChangeJSON(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	a := app{stdout: &output{Writer: &out}}
	r := hostileReport()
	a.printChange(&change{ServerName: r.ServerName, Summary: r.Summary, Changes: differences(stateOf(goodReport(), nil), stateOf(r, nil))}, true)
	assert.Equal(t, len(out.String())-1, strings.IndexFunc(out.String(), unicode.IsControl))
}

func TestShown(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain":            "plain",
		`a "quoted" \ one`: `a "quoted" \ one`,
		"bücher":           "bücher",
		"a\nb":             `a\nb`,
		"\x1b[0m":          `\x1b[0m`,
		"\u202eabc":        `\u202eabc`,
		"\xff":             `\xff`,
		"say \"\n\"":       `say "\n"`,
	} {
		assert.Equal(t, want, shown(in), "%q", in)
	}
}

// TestFresh: a Resolver made anew has every setting of the one it is made from.
func TestFresh(t *testing.T) {
	t.Parallel()
	var r resolver.Resolver
	v := reflect.ValueOf(&r).Elem()
	for i := range v.NumField() {
		f := v.Field(i)
		if !v.Type().Field(i).IsExported() {
			continue
		}
		switch f.Kind() {
		case reflect.Pointer:
			f.Set(reflect.New(f.Type().Elem()))
		case reflect.Slice:
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
		case reflect.Func:
			f.Set(reflect.MakeFunc(f.Type(), func([]reflect.Value) []reflect.Value { panic("called") }))
		case reflect.Bool:
			f.SetBool(true)
		case reflect.String:
			f.SetString("set")
		case reflect.Int, reflect.Int64:
			f.SetInt(1)
		case reflect.Uint8:
			f.SetUint(1)
		case reflect.Interface:
			f.Set(reflect.ValueOf(t.Context()))
		default:
			t.Fatalf("field %s: kind %s is new to this test", v.Type().Field(i).Name, f.Kind())
		}
	}
	got := reflect.ValueOf(fresh(&r)).Elem()
	for i := range v.NumField() {
		field := v.Type().Field(i)
		switch {
		case !field.IsExported():
		case field.Type.Kind() == reflect.Func:
			assert.False(t, got.Field(i).IsNil(), field.Name)
		default:
			assert.Equal(t, v.Field(i).Interface(), got.Field(i).Interface(), field.Name)
		}
	}
}
