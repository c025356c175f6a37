package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"mxdiscover/check"
)

// explainFlag is --explain, alone or with =CODE. The codes may also follow as
// arguments.
type explainFlag struct {
	set   bool
	codes []string
}

func (e *explainFlag) Set(text string) error {
	e.set = text != "false"
	if text != "true" && text != "false" {
		e.codes = append(e.codes, text)
	}
	return nil
}

func (e *explainFlag) String() string { return "" }
func (e *explainFlag) Type() string   { return "bool" }

// explain prints the catalogue, or the entries of codes.
func (a *app) explain(codes []string, asJSON bool) error {
	catalogue := check.Catalogue()
	if len(codes) > 0 {
		var entries []check.Kind
		for _, code := range codes {
			kind, ok := check.Explain(code)
			if !ok {
				return usagef("there is no finding %q%s", code, didYouMean(code, catalogue))
			}
			entries = append(entries, kind)
		}
		catalogue = entries
	}
	if asJSON {
		for _, kind := range catalogue {
			a.printJSON(kind)
		}
		return nil
	}
	p := &sheet{out: a.stdout}
	if len(codes) == 0 {
		var area check.Area
		for _, kind := range catalogue {
			if kind.Area != area {
				if area != "" {
					p.blank()
				}
				area = kind.Area
				fmt.Fprintln(p.out, p.paint(bold, string(area)))
			}
			p.row(2, kind.Code, 30, p.paint(severityColor[kind.Severity], fmt.Sprintf("%-7s", kind.Severity))+"  "+kind.Title)
		}
		return nil
	}
	for i, kind := range catalogue {
		if i > 0 {
			p.blank()
		}
		fmt.Fprintln(p.out, p.paint(bold, kind.Code))
		for _, row := range [][2]string{
			{"severity", p.paint(severityColor[kind.Severity], string(kind.Severity))}, {"what", kind.Title}, {"why", kind.Why},
			{"change", kind.Cure}, {"see", kind.Section}, {"", kind.URL},
		} {
			p.row(2, row[0], 10, row[1])
		}
	}
	return nil
}

// didYouMean names the codes that look like code, the nearest first.
func didYouMean(code string, catalogue []check.Kind) string {
	const most = 5
	type near struct {
		code     string
		distance int
	}
	var list []near
	code = strings.ToLower(code)
	if len(code) > 64 {
		return "" // longer than any code, and the comparison is quadratic
	}
	for _, kind := range catalogue {
		d := distance(code, kind.Code)
		if len(code) >= 3 && strings.Contains(kind.Code, code) {
			d = min(d, 1)
		}
		if d <= max(2, len(kind.Code)/4) {
			list = append(list, near{kind.Code, d})
		}
	}
	slices.SortStableFunc(list, func(a, b near) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(len(a.code), len(b.code)))
	})
	var codes []string
	for _, n := range list[:min(len(list), most)] {
		codes = append(codes, n.code)
	}
	if len(codes) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(codes, ", ") + "?"
}

// distance is how many letters must be changed, added or left out to make b of a
// (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := before
			if a[i] != b[j] {
				cost++
			}
			before = row[j+1]
			row[j+1] = min(cost, before+1, row[j]+1)
		}
	}
	return row[len(b)]
}
