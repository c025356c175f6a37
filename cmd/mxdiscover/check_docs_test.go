package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/check"
)

// update makes the tests write what they compare with.
var update = flag.Bool("update", false, "write the files that tests compare with")

// TestFindingsDocument: docs/findings.md is the catalogue.
func TestFindingsDocument(t *testing.T) {
	t.Parallel()
	var doc strings.Builder
	doc.WriteString(`# What mxdiscover check can find

<!-- Generated from check.Catalogue: go test ./cmd/mxdiscover -run TestFindingsDocument -update -->

An error makes the verdict BAD: many servers of the federation do not get
through. A warning makes it WARN. A notice changes nothing. The severity is the
usual one; where a name works in spite of a fault, or fails because of it, a
finding may be less or more severe than it says here. A finding stands for the
cause; what follows from it is not reported again.

` + "`mxdiscover check --explain CODE`" + ` prints an entry of this list, and a check says
beside it what to change for the very name.
`)
	var area check.Area
	for _, kind := range check.Catalogue() {
		if kind.Area != area {
			area = kind.Area
			fmt.Fprintf(&doc, "\n## %s\n", area)
		}
		fmt.Fprintf(&doc, "\n### `%s`\n\n%s: %s.\n\n%s\n\nWhat to change: %s\n\nSee [%s](%s).\n",
			kind.Code, capital(string(kind.Severity)), strings.TrimSuffix(kind.Title, "."), kind.Why, kind.Cure, kind.Section, kind.URL)
	}
	golden(t, filepath.Join("..", "..", "docs", "findings.md"), doc.String())
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// TestReportSchema: docs/report.schema.json has every key of a report and no other,
// and reports are as it says.
func TestReportSchema(t *testing.T) {
	t.Parallel()
	s := readSchema(t, "report.schema.json")
	s.describes(t, reflect.TypeFor[check.Report](), s.root, "report")
	for _, r := range []*check.Report{goodReport(), badReport(), hostileReport()} {
		data, err := json.Marshal(r)
		require.NoError(t, err)
		s.valid(t, data)
	}
}

// TestChangeSchema: the same for docs/change.schema.json.
func TestChangeSchema(t *testing.T) {
	t.Parallel()
	s := readSchema(t, "change.schema.json")
	s.describes(t, reflect.TypeFor[change](), s.root, "change")
	for _, c := range []*change{
		{Version: changeVersion, ServerName: "example.org", Verdict: check.Good, First: true, Changes: []difference{}},
		{Version: changeVersion, ServerName: "example.org", Verdict: check.Bad, Changes: differences(stateOf(goodReport(), nil), stateOf(badReport(), nil))},
	} {
		data, err := json.Marshal(c)
		require.NoError(t, err)
		s.valid(t, data)
	}
}

// TestSchemaRefuses: the reader of schemas that these tests rely on sees mistakes.
func TestSchemaRefuses(t *testing.T) {
	t.Parallel()
	s := readSchema(t, "report.schema.json")
	good, err := json.Marshal(badReport())
	require.NoError(t, err)
	require.Empty(t, s.check(good))
	for _, change := range [][2]string{
		{`"verdict":"BAD"`, `"verdict":"bad"`},
		{`"verdict":"BAD",`, ``},
		{`"verdict":"BAD"`, `"verdict":null`},
		{`"port":8448`, `"port":"8448"`},
		{`"port":8448`, `"port":8448.5`},
		{`"port":8448`, `"port":65536`},
		{`"checked_at":"2026-11-21T12:00:00Z"`, `"checked_at":"today"`},
		{`"evidence":[`, `"evidence":[1,`},
		{`"ok":false`, `"ok":"no"`},
		{`"ok":false`, `"okay":true,"ok":false`},
		{`"steps":[]`, `"steps":{}`},
	} {
		bad := bytes.Replace(good, []byte(change[0]), []byte(change[1]), 1)
		require.NotEqual(t, string(good), string(bad), change[0])
		assert.NotEmpty(t, s.check(bad), change[1])
	}
}

// schema is a JSON Schema, of which it knows as much as those in docs use.
type schema struct {
	root *node
	defs map[string]*node
}

type node struct {
	Schema      string           `json:"$schema"`
	ID          string           `json:"$id"`
	Ref         string           `json:"$ref"`
	Title       string           `json:"title"`
	Description string           `json:"description"`
	Type        types            `json:"type"`
	Format      string           `json:"format"`
	Enum        []string         `json:"enum"`
	Const       *float64         `json:"const"`
	Minimum     *float64         `json:"minimum"`
	Maximum     *float64         `json:"maximum"`
	Items       *node            `json:"items"`
	Properties  map[string]*node `json:"properties"`
	Required    []string         `json:"required"`
	Defs        map[string]*node `json:"$defs"`
}

// types are one or several.
type types []string

func (l *types) UnmarshalJSON(data []byte) error {
	if data[0] == '[' {
		return json.Unmarshal(data, (*[]string)(l))
	}
	*l = make(types, 1)
	return json.Unmarshal(data, &(*l)[0])
}

func readSchema(t *testing.T, file string) *schema {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "docs", file))
	require.NoError(t, err)
	in := json.NewDecoder(bytes.NewReader(data))
	in.DisallowUnknownFields() // else a keyword that is not looked at would be thought to hold
	root := new(node)
	require.NoError(t, in.Decode(root))
	assert.Equal(t, "https://json-schema.org/draft/2020-12/schema", root.Schema)
	return &schema{root: root, defs: root.Defs}
}

func (s *schema) at(n *node) *node {
	if name, ok := strings.CutPrefix(n.Ref, "#/$defs/"); ok {
		return s.defs[name]
	}
	return n
}

// describes fails if the keys of a struct are not those of n, or if a key has no
// description.
func (s *schema) describes(t *testing.T, typ reflect.Type, n *node, path string) {
	t.Helper()
	n = s.at(n)
	require.NotNil(t, n, path)
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		if typ.Kind() == reflect.Slice {
			assert.Contains(t, n.Type, "array", path)
			require.NotNil(t, n.Items, path)
			n = s.at(n.Items)
			require.NotNil(t, n, path)
		}
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || typ.Implements(reflect.TypeFor[json.Marshaler]()) || typ.PkgPath() == "net/netip" {
		return
	}
	want := make(map[string]reflect.Type)
	required := make(map[string]bool)
	keys(typ, want, required)
	assert.ElementsMatch(t, slices.Collect(maps.Keys(want)), slices.Collect(maps.Keys(n.Properties)), path)
	assert.ElementsMatch(t, slices.Collect(maps.Keys(required)), n.Required, "%s: required", path)
	for name, field := range want {
		if p := n.Properties[name]; p != nil {
			assert.NotEmpty(t, p.Description+s.at(p).Description, "%s.%s has no description", path, name)
			s.describes(t, field, p, path+"."+name)
		}
	}
}

// keys gives the JSON keys of a struct, embedded ones included.
func keys(typ reflect.Type, all map[string]reflect.Type, required map[string]bool) {
	for i := range typ.NumField() {
		f := typ.Field(i)
		if f.Anonymous {
			keys(f.Type, all, required)
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "-" {
			continue
		}
		all[name] = f.Type
		if options == "" {
			required[name] = true
		}
	}
}

func (s *schema) valid(t *testing.T, data []byte) {
	t.Helper()
	assert.Empty(t, s.check(data))
}

// check gives what is wrong with a document. Unlike for a reader of reports, a key
// that the schema does not know is wrong too.
func (s *schema) check(data []byte) (wrong []string) {
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		return []string{err.Error()}
	}
	s.walk(v, s.root, "$", func(path, format string, args ...any) {
		wrong = append(wrong, path+": "+fmt.Sprintf(format, args...))
	})
	return wrong
}

func (s *schema) walk(v any, n *node, path string, wrong func(path, format string, args ...any)) {
	n = s.at(n)
	kind := "null"
	switch v := v.(type) {
	case bool:
		kind = "boolean"
	case float64:
		kind = "number"
		if v == float64(int64(v)) && slices.Contains(n.Type, "integer") {
			kind = "integer"
		}
		if n.Const != nil && v != *n.Const || n.Minimum != nil && v < *n.Minimum || n.Maximum != nil && v > *n.Maximum {
			wrong(path, "%v is out of range", v)
		}
	case string:
		kind = "string"
		if len(n.Enum) > 0 && !slices.Contains(n.Enum, v) {
			wrong(path, "%q is none of %q", v, n.Enum)
		}
		if _, err := time.Parse(time.RFC3339, v); n.Format == "date-time" && err != nil {
			wrong(path, "%q is no time", v)
		}
	case []any:
		kind = "array"
		for i, item := range v {
			if n.Items != nil {
				s.walk(item, n.Items, fmt.Sprintf("%s[%d]", path, i), wrong)
			}
		}
	case map[string]any:
		kind = "object"
		for _, key := range n.Required {
			if _, ok := v[key]; !ok {
				wrong(path, "%s is missing", key)
			}
		}
		for key, item := range v {
			if p := n.Properties[key]; p != nil {
				s.walk(item, p, path+"."+key, wrong)
			} else {
				wrong(path, "%s is not in the schema", key)
			}
		}
	}
	if !slices.Contains(n.Type, kind) {
		wrong(path, "%s, not %s", kind, strings.Join(n.Type, " or "))
	}
}

// TestDocumentsAreWhole: what the documents say of flags and files is so.
func TestDocumentsAreWhole(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "check.md"))
	require.NoError(t, err)
	a := app{}
	flags := a.checkCommand().Flags()
	for _, m := range regexp.MustCompile("`--([a-z-]+)").FindAllStringSubmatch(string(doc), -1) {
		assert.NotNil(t, flags.Lookup(m[1]), "--%s", m[1])
	}
	for _, m := range regexp.MustCompile(`\]\(([a-z./-]+)\)`).FindAllStringSubmatch(string(doc), -1) {
		assert.FileExists(t, filepath.Join("..", "..", "docs", m[1]))
	}
}
