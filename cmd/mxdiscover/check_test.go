package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/check"
	"mxdiscover/internal/world"
)

// verdictsByName checks without a network: the first letters of a name are its
// verdict, and a number behind a dash is how many seconds it takes.
func verdictsByName(_ context.Context, name string) *check.Report {
	r := goodReport()
	r.ServerName = name
	verdict, rest, _ := strings.Cut(name, "-")
	r.Verdict = check.Verdict(strings.ToUpper(verdict))
	var seconds int
	fmt.Sscan(rest, &seconds)
	time.Sleep(time.Duration(seconds) * time.Second)
	return r
}

// TestCheckNames: several at once, printed in their order, and the worst counts.
func TestCheckNames(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		names []string
		bad   bool
		last  string
	}{
		{[]string{"good"}, false, ""},
		{[]string{"warn"}, false, ""},
		{[]string{"bad"}, true, ""},
		{[]string{"good-3", "warn-1", "good-2"}, false, "3 names: 2 GOOD, 1 WARN, 0 BAD"},
		{[]string{"good-3", "bad-1", "warn-2"}, true, "3 names: 1 GOOD, 1 WARN, 1 BAD"},
		{[]string{"nonsense", "good"}, true, "2 names: 1 GOOD, 0 WARN, 1 BAD"},
	} {
		synctest.Test(t, func(t *testing.T) {
			for form, f := range map[string]checkFlags{"text": {jobs: 3}, "json": {jobs: 2}, "tap": {jobs: 1, tap: true}} {
				var out bytes.Buffer
				a := app{stdout: &output{Writer: &out}}
				s := settings{json: form == "json"}
				assert.Equal(t, test.bad, a.checkNames(t.Context(), &s, &f, verdictsByName, slices.Values(test.names)))
				at := 0
				for _, name := range test.names {
					i := strings.Index(out.String()[at:], name)
					require.GreaterOrEqual(t, i, 0, "%s: %s in its place", form, name)
					at += i
				}
				switch form {
				case "text":
					if test.last != "" {
						assert.True(t, strings.HasSuffix(out.String(), "\n\n"+test.last+"\n"), out.String())
					} else {
						assert.NotContains(t, out.String(), "names:")
					}
				case "json":
					assert.Equal(t, len(test.names), strings.Count(out.String(), "\n"))
				case "tap":
					assert.Len(t, verdicts(readTAP(t, out.String()), 0), len(test.names))
				}
			}
		})
	}
}

// TestInOrder: no more are under way than workers, and results come as they can.
func TestInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var (
			began       = time.Now()
			busy, most  atomic.Int32
			printed, at []int
		)
		inOrder(slices.Values([]int{5, 1, 1, 4, 1}), 2, func() bool { return false }, func(n int) int {
			most.Store(max(most.Load(), busy.Add(1)))
			time.Sleep(time.Duration(n) * time.Second)
			busy.Add(-1)
			return n
		}, func(n int) {
			printed, at = append(printed, n), append(at, int(time.Since(began).Seconds()))
		})
		assert.Equal(t, []int{5, 1, 1, 4, 1}, printed)
		assert.LessOrEqual(t, most.Load(), int32(2))
		assert.Equal(t, 5, at[0])
		assert.Equal(t, 5, at[1], "it was there before")

		var enough atomic.Bool
		printed = nil
		inOrder(slices.Values([]int{1, 2, 3}), 1, enough.Load, func(n int) int { return n }, func(n int) {
			printed = append(printed, n)
			enough.Store(true)
		})
		assert.NotContains(t, printed, 3, "stopped")
	})
}

// TestCheckInterrupted: half a check is not told, in any form.
func TestCheckInterrupted(t *testing.T) {
	t.Parallel()
	for _, tap := range []bool{true, false} {
		var out bytes.Buffer
		a := app{stdout: &output{Writer: &out}}
		ctx, cancel := context.WithCancel(t.Context())
		a.checkNames(ctx, &settings{}, &checkFlags{jobs: 1, tap: tap}, func(context.Context, string) *check.Report {
			cancel()
			return badReport()
		}, slices.Values([]string{"a", "b"}))
		if tap {
			assert.Equal(t, "TAP version 13\nBail out! interrupted\n", out.String())
		} else {
			assert.Empty(t, out.String())
		}
	}
	var said bytes.Buffer
	a := app{stdin: strings.NewReader(""), stdout: &output{Writer: io.Discard}, stderr: &output{Writer: &said}, net: world.Loopback{}}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.Equal(t, statusBad, a.run(ctx, []string{"check", "example.org"}))
	assert.Equal(t, "error: interrupted: not every name was checked\n", said.String())
	assert.Equal(t, statusGood, a.run(ctx, []string{"check", "--watch", "1m", "example.org"}), "that is how it ends")
}

// TestCheckUsage: what cannot be is told before anything is asked.
func TestCheckUsage(t *testing.T) {
	t.Parallel()
	many := filepath.Join(t.TempDir(), "many")
	var text strings.Builder
	for i := range maxWatched + 1 {
		fmt.Fprintf(&text, "n%d.example\n", i)
	}
	require.NoError(t, os.WriteFile(many, []byte(text.String()), 0o600))
	for _, test := range []struct {
		args []string
		text string
	}{
		{nil, "no name given"},
		{[]string{"-j", "0", "x"}, "from 1 to 32"},
		{[]string{"-j", "33", "x"}, "from 1 to 32"},
		{[]string{"--tap", "--json", "x"}, "exclude each other"},
		{[]string{"--tap", "--watch", "1m", "x"}, "exclude each other"},
		{[]string{"--watch", "9s", "x"}, "at least 10s"},
		{[]string{"--watch", "0", "x"}, "not a time"},
		{[]string{"--watch", "1m"}, "no name given"},
		{[]string{"--watch", "1m", "--file", os.DevNull}, "no name given"},
		{[]string{"--watch", "1m", "--file", many}, "10000 names at most"},
		{[]string{"--webhook", "http://127.0.0.1/", "x"}, "needs --watch"},
		{[]string{"--watch", "1m", "--webhook", "secret", "x"}, "not a URL"},
		{[]string{"--file", "none.txt"}, "none.txt"},
		{[]string{"--rules", "newest", "x"}, "current or draft-2019"},
		{[]string{"--world", "none.txtar", "x"}, "none.txtar"},
		{[]string{"--explain", "cert_expird"}, `there is no finding "cert_expird"; did you mean cert_expired`},
		{[]string{"--explain=CERT_EXPIRE"}, "did you mean cert_expire"},
		{[]string{"--explain", "nothing_like_that_at_all\x1b"}, `there is no finding "nothing_like_that_at_all\x1b"` + "\n"},
	} {
		var said, out strings.Builder
		a := app{stdin: strings.NewReader(""), stdout: &output{Writer: &out}, stderr: &output{Writer: &said}, net: world.Loopback{}}
		assert.Equal(t, statusUsage, a.run(t.Context(), append([]string{"check"}, test.args...)), "%s: %s", test.args, &said)
		assert.Contains(t, said.String(), test.text, "%s", test.args)
		assert.NotContains(t, said.String(), "secret")
		assert.Empty(t, out.String())
	}
}

// TestExplain: the list has every code, an entry all that the catalogue says, and
// both fit a terminal.
func TestExplain(t *testing.T) {
	t.Parallel()
	explain := func(args ...string) string {
		var out strings.Builder
		a := app{stdin: strings.NewReader(""), stdout: &output{Writer: &out}, stderr: &output{Writer: os.Stderr}}
		require.Equal(t, statusGood, a.run(t.Context(), append([]string{"check"}, args...)))
		return out.String()
	}
	list := explain("--explain")
	require.NotEmpty(t, check.Catalogue())
	for _, kind := range check.Catalogue() {
		assert.Regexp(t, `(?m)^  `+kind.Code+` +`+string(kind.Severity)+` +\S`, list)
		entry := explain("--explain", kind.Code)
		flat := strings.Join(strings.Fields(entry), " ")
		for _, text := range []string{kind.Code, string(kind.Severity), kind.Title, kind.Why, kind.Cure, kind.Section, kind.URL} {
			assert.Contains(t, flat, strings.Join(strings.Fields(text), " "), kind.Code)
		}
		for line := range strings.Lines(entry) {
			if !strings.Contains(line, "https://") {
				assert.LessOrEqual(t, visible(strings.TrimSuffix(line, "\n")), width, line)
			}
		}
	}
	for line := range strings.Lines(list) {
		assert.LessOrEqual(t, visible(strings.TrimSuffix(line, "\n")), width, line)
	}
	first, second := check.Catalogue()[0], check.Catalogue()[1]
	assert.Equal(t, explain("--explain="+first.Code)+"\n"+explain("--explain", second.Code), explain("--explain", first.Code, second.Code))
	var kind check.Kind
	require.NoError(t, json.Unmarshal([]byte(explain("--explain", "--json", second.Code)), &kind))
	assert.Equal(t, second, kind)
	assert.Equal(t, len(check.Catalogue()), strings.Count(explain("--explain", "--json"), "\n"))
}

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"abc", "abd", 1}, {"kitten", "sitting", 3}, {"cert_expird", "cert_expired", 1},
	} {
		assert.Equal(t, test.want, distance(test.a, test.b), "%q %q", test.a, test.b)
	}
}

// TestDistinctNames: a name that is given twice is watched once.
func TestDistinctNames(t *testing.T) {
	t.Parallel()
	list, err := distinctNames(slices.Values([]string{"a", "b", "a"}))
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "b"}, list)
	_, err = distinctNames(iter.Seq[string](func(func(string) bool) {}))
	assert.Error(t, err)
}
