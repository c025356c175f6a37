package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/check"
	"mxdiscover/internal/memnet"
	"mxdiscover/internal/world"
	"mxdiscover/resolver"
	"mxdiscover/wellknown/client"
)

var update = flag.Bool("update", false, "write the schemas and examples of openapi.json anew")

// object is a JSON object.
type object = map[string]any

func document(t *testing.T) object {
	t.Helper()
	var doc object
	require.NoError(t, json.Unmarshal(openapi, &doc))
	return doc
}

func dig(t *testing.T, v any, path ...string) any {
	t.Helper()
	for _, key := range path {
		o, ok := v.(object)
		require.True(t, ok, "%v", path)
		v, ok = o[key]
		require.True(t, ok, "%v", path)
	}
	return v
}

// TestOpenAPIRoutes: every route is in the document, with the status codes
// that it can have, and nothing else is.
func TestOpenAPIRoutes(t *testing.T) {
	t.Parallel()
	documented := dig(t, document(t), "paths").(object)
	want := []string{"/static/{file}"}
	for _, r := range routes() {
		want = append(want, r.path)
	}
	assert.ElementsMatch(t, want, slices.Collect(maps.Keys(documented)))
	for path := range documented {
		get := dig(t, documented, path, "get").(object)
		assert.NotEmpty(t, get["summary"], path)
		assert.NotEmpty(t, get["operationId"], path)
		if strings.HasPrefix(path, "/api/") {
			for _, status := range []string{"200", "400", "429", "503"} {
				assert.Contains(t, get["responses"], status, path)
			}
		}
	}
}

// generated are the schemas that are made from types.
func generated() object {
	g := generator{schemas: object{}}
	g.of(reflect.TypeFor[check.Report]())
	g.of(reflect.TypeFor[check.Event]())
	g.of(reflect.TypeFor[client.Discovery]())
	g.of(reflect.TypeFor[Failure]())
	g.of(reflect.TypeFor[testerForm]())
	return g.schemas
}

// generator makes JSON Schemas of types.
type generator struct{ schemas object }

// names of types that would be ambiguous, or say nothing.
var names = map[reflect.Type]string{
	reflect.TypeFor[testerForm](): "TesterReport", reflect.TypeFor[testerError](): "TesterError", reflect.TypeFor[testerConnection](): "TesterConnection",
	reflect.TypeFor[client.Warning](): "ClientWarning", reflect.TypeFor[client.Section](): "ClientSection", reflect.TypeFor[client.Reason](): "ClientReason",
}

// written by hand, since their JSON is not that of their fields.
var byHand = map[reflect.Type]string{
	reflect.TypeFor[resolver.Report](): "Resolution", reflect.TypeFor[resolver.Step](): "Step", reflect.TypeFor[resolver.Refused](): "Refused",
	reflect.TypeFor[client.Step](): "ClientStep",
}

func ref(name string) object { return object{"$ref": "#/components/schemas/" + name} }

func (g generator) of(t reflect.Type) object {
	switch t {
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case reflect.TypeFor[check.Duration]():
		return object{"type": "number"}
	case reflect.TypeFor[netip.Addr](), reflect.TypeFor[netip.AddrPort]():
		return object{"type": "string"}
	case reflect.TypeFor[json.RawMessage]():
		return object{}
	}
	if name := byHand[t]; name != "" {
		return ref(name)
	}
	switch t.Kind() {
	case reflect.Pointer:
		inner := g.of(t.Elem())
		if typ, ok := inner["type"].(string); ok {
			return object{"type": []any{typ, "null"}}
		}
		return object{"anyOf": []any{inner, object{"type": "null"}}}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64, reflect.Uint16, reflect.Uint32, reflect.Uint8:
		return object{"type": "integer"}
	case reflect.Float64:
		return object{"type": "number"}
	case reflect.Slice:
		return object{"type": []any{"array", "null"}, "items": g.of(t.Elem())}
	case reflect.Map:
		return object{"type": []any{"object", "null"}, "additionalProperties": g.of(t.Elem())}
	case reflect.Struct:
		return g.object(t)
	}
	panic("no schema for " + t.String())
}

func (g generator) object(t reflect.Type) object {
	name := names[t]
	if name == "" {
		name = strings.ToUpper(t.Name()[:min(1, len(t.Name()))]) + t.Name()[min(1, len(t.Name())):]
	}
	if name == "" {
		return object{"type": "object", "properties": object{}, "additionalProperties": false}
	}
	if g.schemas[name] == nil {
		schema := object{"type": "object"}
		g.schemas[name] = schema // before its fields, which may refer to it
		properties, required := object{}, []any{}
		g.fields(t, properties, &required)
		schema["properties"], schema["required"] = properties, required
	}
	return ref(name)
}

func (g generator) fields(t reflect.Type, properties object, required *[]any) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case tag == "-" || !f.IsExported():
			continue
		case f.Anonymous && tag == "":
			g.fields(f.Type, properties, required)
			continue
		case tag == "":
			tag = f.Name
		}
		properties[tag] = g.of(f.Type)
		if !strings.Contains(options, "omit") {
			*required = append(*required, tag)
		}
	}
}

// examples are real answers.
func examples(t *testing.T) object {
	list := object{}
	synctest.Test(t, func(t *testing.T) {
		scene, err := world.Parse("example", []byte(exampleWorld))
		require.NoError(t, err)
		w, err := scene.Start(world.Memory{Network: &memnet.Network{}})
		require.NoError(t, err)
		defer w.Close()
		s := &Server{NewResolver: inside(w)}
		s.Check = func(ctx context.Context, name string, rules resolver.Rules, _ func(check.Event)) *check.Report {
			r := reportOn(name)
			r.Summary = "Other servers reach example.org at matrix.example.org:443, over IPv4."
			r.Duration = check.Duration(250 * time.Millisecond)
			r.Resolution = s.resolver(rules).Explain(ctx, name)
			r.Ways = []check.Way{{Rule: "3.2", Outcome: resolver.Used, Targets: []string{"matrix.example.org:443"}}}
			r.WellKnown = []check.WellKnown{{
				Address: netip.MustParseAddrPort("203.0.113.1:443"), Server: "matrix.example.org:443", Lifetime: check.Duration(24 * time.Hour), Duration: check.Duration(12500 * time.Microsecond),
				Hops: []check.Hop{{URL: "https://example.org/.well-known/matrix/server", Address: netip.MustParseAddrPort("203.0.113.1:443"), Status: 200, ContentType: "application/json", Duration: check.Duration(12500 * time.Microsecond)}},
			}}
			a := goodAddress(name, "203.0.113.7:443", r.CheckedAt)
			a.TLS.Name, a.TLS.SNI, a.TLS.ALPN, a.TLS.WithoutSNI = "matrix.example.org", "matrix.example.org", "h2", "same"
			c := &a.TLS.Certificates[0]
			*c = check.Certificate{Subject: "CN=matrix.example.org", Issuer: "CN=R11,O=Let's Encrypt,C=US", DNSNames: []string{"matrix.example.org"}, NotBefore: r.CheckedAt, NotAfter: r.CheckedAt.Add(90 * 24 * time.Hour), Key: "ECDSA P-256", SHA256: strings.Repeat("0a", 32)}
			r.Targets = []check.Target{{Host: "matrix.example.org", Port: 443, Addresses: []check.Address{a}}}
			r.Findings = []check.Finding{{
				Code: "ipv4_only", Severity: check.SeverityNotice, Message: "matrix.example.org has no IPv6 address.", Evidence: []string{"AAAA matrix.example.org: no such record (NODATA)"},
				Fixes: []check.Fix{{Title: "Publish an AAAA record.", Where: "dns", Text: "matrix.example.org. AAAA 2001:db8::7"}}, Section: "Server-Server API, Resolving server names", URL: "https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names",
			}}
			return r
		}
		for key, target := range map[string]string{
			"@report": "/api/v1/check?server_name=example.org", "@resolution": "/api/v1/resolve?server_name=example.org",
			"@discovery": "/api/v1/client?name=@alice:example.org", "@tester": "/api/report?server_name=example.org",
		} {
			answer := get(s, target)
			require.Equal(t, 200, answer.Code, "%s", answer.Body)
			var v any
			require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &v))
			list[key] = v
		}
		time.Sleep(time.Minute) // what asks in the background ends
	})
	return list
}

const exampleWorld = `The name of the examples.
-- zone --
example.org.         A  203.0.113.1
matrix.example.org.  A  203.0.113.7
-- GET https://example.org/.well-known/matrix/server --
200

{"m.server":"matrix.example.org:443"}
-- GET https://example.org/.well-known/matrix/client --
200
Access-Control-Allow-Origin: *
Content-Type: application/json

{"m.homeserver":{"base_url":"https://matrix.example.org"}}
-- GET https://matrix.example.org/_matrix/client/versions --
200
Access-Control-Allow-Origin: *
Content-Type: application/json

{"versions":["v1.11"]}
`

// places are where the examples stand.
var places = map[string]string{"@report": "/api/v1/check", "@resolution": "/api/v1/resolve", "@discovery": "/api/v1/client", "@tester": "/api/report"}

// TestOpenAPISchemas: the schemas are those of the types, and the examples are
// of the schemas, as are real answers.
func TestOpenAPISchemas(t *testing.T) {
	doc := document(t)
	schemas := dig(t, doc, "components", "schemas").(object)
	real := examples(t)
	if *update {
		maps.Copy(schemas, generated())
		for key, path := range places {
			dig(t, doc, "paths", path, "get", "responses", "200", "content", "application/json").(object)["example"] = real[key]
		}
		var b bytes.Buffer
		out := json.NewEncoder(&b)
		out.SetEscapeHTML(false)
		out.SetIndent("", " ")
		require.NoError(t, out.Encode(doc))
		require.NoError(t, os.WriteFile("openapi.json", b.Bytes(), 0o644))
		return
	}
	for name, schema := range generated() {
		text, _ := json.Marshal(schema)
		have, _ := json.Marshal(schemas[name])
		assert.JSONEq(t, string(text), string(have), "schema %s is stale: go test ./serve -run TestOpenAPISchemas -update", name)
	}
	v := validator{schemas}
	for key, path := range places {
		content := dig(t, doc, "paths", path, "get", "responses", "200", "content", "application/json").(object)
		v.check(t, key, content["schema"].(object), content["example"])
		v.check(t, key+" now", content["schema"].(object), real[key])
	}
	for path, item := range dig(t, doc, "paths").(object) {
		for status, response := range dig(t, item, "get", "responses").(object) {
			content, _ := response.(object)["content"].(object)
			for _, media := range content {
				m := media.(object)
				if example := m["example"]; example != nil {
					v.check(t, path+" "+status, m["schema"].(object), example)
				}
			}
		}
	}
}

// TestOpenAPIEvents: the events of the stream are of the schemas too.
func TestOpenAPIEvents(t *testing.T) {
	t.Parallel()
	v := validator{dig(t, document(t), "components", "schemas").(object)}
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Check: func(ctx context.Context, name string, _ resolver.Rules, onEvent func(check.Event)) *check.Report {
			time.Sleep(time.Second)
			r := hostileReport(name, "text")
			onEvent(check.Event{Kind: check.EventAsked, Asked: &check.Asked{Query: "A a.example"}})
			onEvent(check.Event{Kind: check.EventStep, Step: &resolver.Step{Rule: "3", Outcome: resolver.Used, Query: "GET https://a.example/"}})
			onEvent(check.Event{Kind: check.EventWellKnown, WellKnown: &r.WellKnown[0]})
			onEvent(check.Event{Kind: check.EventTarget, Target: &r.Targets[0]})
			onEvent(check.Event{Kind: check.EventAddress, Address: &r.Targets[0].Addresses[0], Of: "a.example:8448"})
			onEvent(check.Event{Kind: check.EventFinding, Finding: &r.Findings[0]})
			return r
		}}
		site := newSite(t, s)
		e := site.open(t, "/api/v1/check/stream?server_name=a.example")
		defer e.close()
		seen := 0
		for {
			ev, ok := e.next()
			if !ok {
				break
			}
			seen++
			var data any
			require.NoError(t, json.Unmarshal([]byte(ev.data), &data))
			schema := "Event"
			if ev.kind == "start" {
				schema = "Start"
			}
			v.check(t, ev.kind, ref(schema), data)
		}
		assert.Equal(t, 8, seen)
	})
}

// validator checks values against as much of JSON Schema as the document uses;
// what a schema does not name must not be there.
type validator struct{ schemas object }

func (v validator) check(t *testing.T, at string, schema object, value any) {
	t.Helper()
	assert.Empty(t, v.problem(at, schema, value))
}

func (v validator) problem(at string, schema object, value any) string {
	if name, ok := schema["$ref"].(string); ok {
		target, ok := v.schemas[strings.TrimPrefix(name, "#/components/schemas/")].(object)
		if !ok {
			return at + ": there is no " + name
		}
		return v.problem(at, target, value)
	}
	if any, ok := schema["anyOf"].([]any); ok {
		problem := ""
		for _, one := range any {
			if problem = v.problem(at, one.(object), value); problem == "" {
				return ""
			}
			if value != nil {
				return problem // of the first, not of null
			}
		}
		return problem
	}
	types, ok := schema["type"].([]any)
	if typ, one := schema["type"].(string); one {
		types, ok = []any{typ}, true
	}
	if !ok {
		return "" // anything
	}
	is := ""
	switch value := value.(type) {
	case nil:
		is = "null"
	case string:
		is = "string"
	case bool:
		is = "boolean"
	case float64:
		is = "number"
		if value == float64(int64(value)) && !slices.Contains(types, any("number")) {
			is = "integer"
		}
	case []any:
		is = "array"
	case object:
		is = "object"
	}
	if !slices.Contains(types, any(is)) {
		return fmt.Sprintf("%s: is %s, not %v", at, is, types)
	}
	if list, ok := schema["enum"].([]any); ok && !slices.Contains(list, value) {
		return fmt.Sprintf("%s: %v is not one of %v", at, value, list)
	}
	switch value := value.(type) {
	case []any:
		for i, item := range value {
			if problem := v.problem(fmt.Sprintf("%s[%d]", at, i), schema["items"].(object), item); problem != "" {
				return problem
			}
		}
	case object:
		properties, _ := schema["properties"].(object)
		others, hasOthers := schema["additionalProperties"].(object)
		for key, item := range value {
			one, known := properties[key].(object)
			if !known && hasOthers {
				one, known = others, true
			}
			if !known && len(properties) == 0 && !hasOthers && schema["additionalProperties"] == nil {
				continue // any object
			}
			if !known {
				return at + "." + key + ": no schema knows it"
			}
			if problem := v.problem(at+"."+key, one, item); problem != "" {
				return problem
			}
		}
		required, _ := schema["required"].([]any)
		for _, key := range required {
			if _, ok := value[key.(string)]; !ok {
				return at + "." + key.(string) + ": missing"
			}
		}
	}
	return ""
}
