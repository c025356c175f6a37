package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"mxdiscover/check"
)

// tapWriter prints reports as TAP (testanything.org), by the rules of version 14
// and under the number of version 13: harnesses of 14 must take that, and those
// that came before, Perl's prove up to 3.47 among them, fail every run that says
// 14. There is a subtest for each name, and in it a test for each part of the way
// in which nothing was found, and for each finding. A warning is a failure that
// the harness does not count ("# TODO"), as the exit status does not; a notice is
// no failure.
type tapWriter struct {
	out   io.Writer
	tests int
}

func (t *tapWriter) begin() {
	if t.tests == 0 {
		fmt.Fprintln(t.out, "TAP version 13")
	}
}

// report prints the subtest of one name.
func (t *tapWriter) report(r *check.Report) {
	t.begin()
	t.tests++
	name := tapText(r.ServerName)
	fmt.Fprintf(t.out, "# Subtest: %s\n", name)
	n := 0
	point := func(ok bool, description, directive string) {
		n++
		fmt.Fprintf(t.out, "    %s %d - %s%s\n", okText(ok), n, description, directive)
	}
	findings := make(map[check.Area][]*check.Finding)
	for i := range r.Findings {
		kind, ok := check.Explain(r.Findings[i].Code)
		if !ok {
			kind.Area = check.AreaCheck
		}
		findings[kind.Area] = append(findings[kind.Area], &r.Findings[i])
	}
	for _, part := range parts() {
		clean := true
		for _, f := range findings[part.area] {
			directive := ""
			if f.Severity == check.SeverityWarning {
				directive = " # TODO warning"
			}
			point(f.Severity == check.SeverityNotice, tapText(f.Code+": "+f.Message), directive)
			t.diagnose(f)
			clean = clean && f.Severity == check.SeverityNotice
		}
		if clean {
			directive := ""
			if !part.reached(r) {
				directive = " # SKIP nothing was asked"
			}
			point(true, fmt.Sprintf("%s: no fault in %s", part.area, part.what), directive)
		}
	}
	fmt.Fprintf(t.out, "    1..%d\n", n)
	fmt.Fprintf(t.out, "%s %d - %s: %s: %s\n", okText(r.Verdict == check.Good || r.Verdict == check.Warn), t.tests, name, tapText(string(r.Verdict)), tapText(r.Summary))
}

func okText(ok bool) string {
	if ok {
		return "ok"
	}
	return "not ok"
}

// diagnose prints a finding as YAML. A Go string is a double-quoted YAML scalar
// too: YAML knows every escape of strconv.Quote (YAML 1.2, 5.7), if none stands
// for a byte that is no UTF-8.
func (t *tapWriter) diagnose(f *check.Finding) {
	const indent = "      "
	scalar := func(s string) string { return strconv.Quote(strings.ToValidUTF8(s, "\ufffd")) }
	line := func(text string) { fmt.Fprintln(t.out, indent+text) }
	line("---")
	line("code: " + scalar(f.Code))
	line("severity: " + scalar(string(f.Severity)))
	if f.About != "" {
		line("about: " + scalar(f.About))
	}
	line("message: " + scalar(f.Message))
	for i, e := range f.Evidence {
		if i == 0 {
			line("evidence:")
		}
		line("  - " + scalar(e))
	}
	for i, fix := range f.Fixes {
		if i == 0 {
			line("fixes:")
		}
		line("  - title: " + scalar(fix.Title))
		if fix.Text != "" {
			line("    where: " + scalar(fix.Where))
			line("    text: " + scalar(fix.Text))
		}
	}
	line("section: " + scalar(f.Section))
	line("url: " + scalar(f.URL))
	line("...")
}

// end prints the plan, which is known only now.
func (t *tapWriter) end() {
	t.begin()
	fmt.Fprintf(t.out, "1..%d\n", t.tests)
}

func (t *tapWriter) bailOut(why string) {
	t.begin()
	fmt.Fprintf(t.out, "Bail out! %s\n", why)
}

// tapText is a description: # and \ are escaped (TAP 14, "Escaping").
func tapText(s string) string {
	return strings.NewReplacer(`\`, `\\`, `#`, `\#`).Replace(shown(s))
}
