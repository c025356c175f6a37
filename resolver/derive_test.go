package resolver

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/cache"
	"mxdiscover/internal/servername"
	"mxdiscover/srv"
	"mxdiscover/wellknown"
)

// said is a source that says what a table wants. It counts what it was asked.
type said struct {
	t     *testing.T
	wk    verdict
	sets  map[string]lookup
	asked []string
}

func entryOf[V any](t *testing.T, v V) *cache.Entry[V] {
	c := cache.Cache[string, V]{Load: func(_ context.Context, _ string, _ cache.Prior[V]) cache.Loaded[V] {
		return cache.Loaded[V]{Value: v, Lifetime: time.Hour}
	}}
	e, _, err := c.Get(t.Context(), "")
	require.NoError(t, err)
	return e
}

func (s *said) wellKnown(host string) (*cache.Entry[*verdict], bool, error) {
	s.asked = append(s.asked, "WK "+host)
	v := s.wk
	if v.err == nil && v.server.String() == "" {
		v.err = &wellknown.Error{Code: wellknown.NotFound, Status: 404, Detail: "status 404 Not Found"}
	}
	return entryOf(s.t, &v), true, nil
}

func (s *said) expect(string) {}

func (s *said) records(name string, _ ...string) (*cache.Entry[*lookup], bool, error) {
	s.asked = append(s.asked, "SRV "+name)
	l, ok := s.sets[name]
	if !ok {
		l.answer = &srv.Answer{Name: name, Type: srv.TypeSRV, Outcome: srv.Absent, Rcode: "NXDOMAIN"}
	}
	return entryOf(s.t, &l), true, nil
}

func found(target string, port uint16) lookup {
	return lookup{answer: &srv.Answer{Type: srv.TypeSRV, Outcome: srv.Found, Rcode: "NOERROR", Records: []srv.Record{{Target: target, Port: port}}}}
}

var (
	unavailable = lookup{answer: &srv.Answer{Type: srv.TypeSRV, Outcome: srv.Unavailable, Rcode: "NOERROR"}}
	servfail    = lookup{err: &srv.Error{Type: srv.TypeSRV, Tries: []srv.Try{{Server: "192.0.2.53:53", Problem: "SERVFAIL", Rcode: "SERVFAIL"}}}}
)

// TestRules walks every rule of both texts: where they differ, a row names the
// draft.
func TestRules(t *testing.T) {
	t.Parallel()
	const bad = "NOT JSON"
	type answer struct {
		step, target, host, tls, sni string
		code                         Code
	}
	for _, test := range []struct {
		about string
		rules Rules
		name  string
		wk    string // body of a 200; "" is a 404
		sets  map[string]lookup
		want  answer
		asked string
	}{
		// 1
		{about: "IPv4 literal", name: "1.2.3.4", want: answer{"1", "1.2.3.4:8448", "1.2.3.4", "1.2.3.4", "", ""}},
		{about: "IPv4 literal and port", name: "1.2.3.4:80", want: answer{"1", "1.2.3.4:80", "1.2.3.4:80", "1.2.3.4", "", ""}},
		{about: "IPv6 literal", name: "[::1]", want: answer{"1", "[::1]:8448", "[::1]", "::1", "", ""}},
		{about: "IPv6 literal and port", name: "[42:42::42]:443", want: answer{"1", "[42:42::42]:443", "[42:42::42]:443", "42:42::42", "", ""}},
		{about: "draft: no port in the Host of a literal", rules: Draft2019, name: "1.2.3.4:80", want: answer{"1", "1.2.3.4:80", "1.2.3.4", "1.2.3.4", "", ""}},
		{about: "draft: brackets stay", rules: Draft2019, name: "[::1]:80", want: answer{"1", "[::1]:80", "[::1]", "::1", "", ""}},
		// 2
		{about: "port", name: "example.com:4242", want: answer{"2", "example.com:4242", "example.com:4242", "example.com", "example.com", ""}},
		{about: "the default port is kept", name: "h:8448", want: answer{"2", "h:8448", "h:8448", "h", "h", ""}},
		{about: "Host verbatim, the rest folded", name: "EXAMPLE.com:1", want: answer{"2", "example.com:1", "EXAMPLE.com:1", "example.com", "example.com", ""}},
		{about: "draft: port in the Host of a name", rules: Draft2019, name: "h:8448", want: answer{"2", "h:8448", "h:8448", "h", "h", ""}},
		// 3.1
		{about: "delegated literal", name: "h", wk: `{"m.server":"42.42.42.42"}`, want: answer{"3.1", "42.42.42.42:8448", "42.42.42.42", "42.42.42.42", "", ""}, asked: "WK h"},
		{about: "delegated literal and port", name: "h", wk: `{"m.server":"[2001:db8::1]:443"}`, want: answer{"3.1", "[2001:db8::1]:443", "[2001:db8::1]:443", "2001:db8::1", "", ""}, asked: "WK h"},
		{about: "draft: delegated literal has its port", rules: Draft2019, name: "h", wk: `{"m.server":"42.42.42.42:443"}`, want: answer{"3.1", "42.42.42.42:443", "42.42.42.42:443", "42.42.42.42", "", ""}, asked: "WK h"},
		{about: "draft: and none that was not given", rules: Draft2019, name: "h", wk: `{"m.server":"42.42.42.42"}`, want: answer{"3.1", "42.42.42.42:8448", "42.42.42.42", "42.42.42.42", "", ""}, asked: "WK h"},
		// 3.2
		{about: "delegated port, SRV not asked", name: "h", wk: `{"m.server":"t:8443"}`, sets: map[string]lookup{"_matrix-fed._tcp.t": found("s", 1), "_matrix-fed._tcp.h": found("s", 1)},
			want: answer{"3.2", "t:8443", "t:8443", "t", "t", ""}, asked: "WK h"},
		{about: "delegated :443 stays in the Host", name: "h", wk: `{"m.server":"t:443"}`, want: answer{"3.2", "t:443", "t:443", "t", "t", ""}, asked: "WK h"},
		{about: "draft: the same", rules: Draft2019, name: "h", wk: `{"m.server":"t:443"}`, want: answer{"3.2", "t:443", "t:443", "t", "t", ""}, asked: "WK h"},
		// 3.3
		{about: "delegated SRV", name: "h", wk: `{"m.server":"t"}`, sets: map[string]lookup{"_matrix-fed._tcp.t": found("s.other", 8443), "_matrix._tcp.t": found("old", 1)},
			want: answer{"3.3", "s.other:8443", "t", "t", "t", ""}, asked: "WK h, SRV _matrix-fed._tcp.t"},
		{about: "draft: _matrix-fed is unknown", rules: Draft2019, name: "h", wk: `{"m.server":"t"}`, sets: map[string]lookup{"_matrix-fed._tcp.t": found("s.other", 8443)},
			want: answer{"3.5", "t:8448", "t", "t", "t", ""}, asked: "WK h, SRV _matrix._tcp.t"},
		// 3.4
		{about: "delegated old SRV", name: "h", wk: `{"m.server":"T"}`, sets: map[string]lookup{"_matrix._tcp.t": found("S.other", 8443)},
			want: answer{"3.4", "s.other:8443", "T", "t", "t", ""}, asked: "WK h, SRV _matrix-fed._tcp.t, SRV _matrix._tcp.t"},
		{about: "draft: the same, asked alone", rules: Draft2019, name: "h", wk: `{"m.server":"t"}`, sets: map[string]lookup{"_matrix._tcp.t": found("s", 8443)},
			want: answer{"3.4", "s:8443", "t", "t", "t", ""}, asked: "WK h, SRV _matrix._tcp.t"},
		// 3.5
		{about: "delegated without SRV", name: "h", wk: `{"m.server":"t"}`, want: answer{"3.5", "t:8448", "t", "t", "t", ""}, asked: "WK h, SRV _matrix-fed._tcp.t, SRV _matrix._tcp.t"},
		{about: "delegated to itself: no loop", name: "h", wk: `{"m.server":"h"}`, want: answer{"3.5", "h:8448", "h", "h", "h", ""}, asked: "WK h, SRV _matrix-fed._tcp.h, SRV _matrix._tcp.h"},
		// 4
		{about: "SRV", name: "example.com", sets: map[string]lookup{"_matrix-fed._tcp.example.com": found("s", 8443), "_matrix._tcp.example.com": found("old", 1)},
			want: answer{"4", "s:8443", "example.com", "example.com", "example.com", ""}, asked: "WK example.com, SRV _matrix-fed._tcp.example.com"},
		{about: "bad body goes on to SRV", name: "h", wk: bad, sets: map[string]lookup{"_matrix-fed._tcp.h": found("s", 8443)}, want: answer{"4", "s:8443", "h", "h", "h", ""}, asked: "WK h, SRV _matrix-fed._tcp.h"},
		{about: "draft: bad body ends everything", rules: Draft2019, name: "h", wk: bad, sets: map[string]lookup{"_matrix._tcp.h": found("s", 8443)}, want: answer{step: "3", code: WellKnownInvalid}, asked: "WK h"},
		{about: "draft: missing property ends everything", rules: Draft2019, name: "h", wk: "{}", want: answer{step: "3", code: WellKnownInvalid}, asked: "WK h"},
		// 5
		{about: "old SRV", name: "h", sets: map[string]lookup{"_matrix._tcp.h": found("s", 8443)}, want: answer{"5", "s:8443", "h", "h", "h", ""}, asked: "WK h, SRV _matrix-fed._tcp.h, SRV _matrix._tcp.h"},
		{about: "draft: its step 4", rules: Draft2019, name: "h", sets: map[string]lookup{"_matrix._tcp.h": found("s", 8443)}, want: answer{"5", "s:8443", "h", "h", "h", ""}, asked: "WK h, SRV _matrix._tcp.h"},
		// 6
		{about: "nothing", name: "h", want: answer{"6", "h:8448", "h", "h", "h", ""}, asked: "WK h, SRV _matrix-fed._tcp.h, SRV _matrix._tcp.h"},
		{about: "draft: its step 5", rules: Draft2019, name: "h", want: answer{"6", "h:8448", "h", "h", "h", ""}, asked: "WK h, SRV _matrix._tcp.h"},
		// SRV that says no, or does not say
		{about: "unavailable: no fallback", name: "h", sets: map[string]lookup{"_matrix-fed._tcp.h": unavailable, "_matrix._tcp.h": found("s", 1)},
			want: answer{"4", "", "h", "h", "h", SRVUnavailable}, asked: "WK h, SRV _matrix-fed._tcp.h"},
		{about: "old name unavailable: no fallback", name: "h", sets: map[string]lookup{"_matrix._tcp.h": unavailable},
			want: answer{"5", "", "h", "h", "h", SRVUnavailable}, asked: "WK h, SRV _matrix-fed._tcp.h, SRV _matrix._tcp.h"},
		{about: "failure: no fallback", name: "h", sets: map[string]lookup{"_matrix-fed._tcp.h": servfail, "_matrix._tcp.h": found("s", 1)},
			want: answer{"4", "", "h", "h", "h", SRVTemporary}, asked: "WK h, SRV _matrix-fed._tcp.h"},
		{about: "failure of the old name", name: "h", wk: `{"m.server":"t"}`, sets: map[string]lookup{"_matrix._tcp.t": servfail},
			want: answer{"3.4", "", "t", "t", "t", SRVTemporary}, asked: "WK h, SRV _matrix-fed._tcp.t, SRV _matrix._tcp.t"},
	} {
		t.Run(test.about, func(t *testing.T) {
			t.Parallel()
			name, err := servername.Parse(test.name)
			require.NoError(t, err)
			from := &said{t: t, sets: test.sets}
			if test.wk != "" {
				from.wk = parsed(test.wk)
			}
			s := &state{rules: test.rules}
			d := s.derive(name, from)
			res, err := d.result(nil)
			assert.Equal(t, test.asked, strings.Join(from.asked, ", "))
			assert.Equal(t, test.want.step, res.Step)
			assert.Equal(t, test.want.host, res.Host)
			assert.Equal(t, test.want.tls, res.TLSName)
			assert.Equal(t, test.want.sni, res.SNI)
			if test.want.code != "" {
				require.ErrorIs(t, err, test.want.code)
				var typed *Error
				require.ErrorAs(t, err, &typed)
				assert.Equal(t, test.want.step, typed.Rule)
				assert.NotEmpty(t, typed.Query)
				assert.Empty(t, res.Targets)
			} else {
				require.NoError(t, err)
				require.Len(t, res.Targets, 1)
				assert.Equal(t, test.want.target, res.Targets[0].String())
			}
			complete(t, res, err)
		})
	}
}

// parsed is what a fetch of body with status 200 comes to.
func parsed(body string) verdict {
	server, err := wellknown.ParseServer([]byte(body))
	if err != nil {
		return verdict{err: &wellknown.Error{Code: wellknown.NotJSON, Status: http.StatusOK, Detail: err.Error(), Err: err}}
	}
	name, _ := servername.Parse(server)
	return verdict{server: name}
}

// complete checks that the evidence names every rule from 1 to 6 in order, and
// that exactly the deciding one is used last.
func complete(t *testing.T, res *Result, err error) {
	t.Helper()
	var top []string
	used := ""
	for _, step := range res.Steps() {
		if !strings.Contains(step.Rule, ".") {
			top = append(top, step.Rule)
		}
		if step.Outcome == Used {
			used = step.Rule
		}
		assert.NotEmpty(t, step.Detail, "rule %s", step.Rule)
	}
	if err == nil {
		assert.Equal(t, res.Step, used, "the last rule that is used is the one that decides")
		assert.Equal(t, []string{"1", "2", "3", "4", "5", "6"}, top)
	}
}

// TestLenient: a failed look-up counts as one that found nothing, if the
// caller says so.
func TestLenient(t *testing.T) {
	t.Parallel()
	name, err := servername.Parse("h")
	require.NoError(t, err)
	from := &said{t: t, sets: map[string]lookup{"_matrix-fed._tcp.h": servfail}}
	s := &state{lenient: true}
	res, err := s.derive(name, from).result(nil)
	require.NoError(t, err)
	assert.Equal(t, "6", res.Step)
	require.Len(t, res.Warnings(), 1)
	assert.Equal(t, "srv_failed", res.Warnings()[0].Code)
	assert.Contains(t, res.Warnings()[0].Message, "SERVFAIL")
}

// TestInterrupted: what did not come is a failure of its own, with what is
// known so far.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	name, err := servername.Parse("h")
	require.NoError(t, err)
	d := (&state{}).derive(name, &silent{said{t: t}})
	res, err := d.result(nil)
	require.ErrorIs(t, err, Internal)
	assert.False(t, d.warm, "nothing to repeat")
	assert.Equal(t, "4", res.Step)
	steps := res.Steps()
	assert.Equal(t, Absent, steps[2].Outcome)
	assert.Equal(t, Temporary, steps[3].Outcome)
	assert.Equal(t, "SRV _matrix-fed._tcp.h", steps[3].Query)
}

type silent struct{ said }

func (s *silent) records(string, ...string) (*cache.Entry[*lookup], bool, error) {
	return nil, false, errors.New("two\nlines")
}

// TestReasonsAreBounded: what failures are called takes no more memory than
// there are names for them, whoever chooses those.
func TestReasonsAreBounded(t *testing.T) {
	t.Parallel()
	var r reasons
	assert.Nil(t, r.all())
	for range 2 {
		for i := range 1000 {
			r.count(strconv.Itoa(i))
		}
	}
	all := r.all()
	assert.Len(t, all, maxReasons+1)
	assert.EqualValues(t, 2, all["0"])
	assert.EqualValues(t, 2*(1000-maxReasons), all["other"])
	assert.Equal(t, "other", dnsReason(errors.New("unheard of")))
	assert.Equal(t, "timeout", dnsReason(&srv.Error{Err: context.Canceled}))
	assert.Equal(t, "invalid_name", dnsReason(&srv.Error{Err: srv.ErrName}))
}
