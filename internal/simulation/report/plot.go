package main

import (
	"bytes"
	"cmp"
	"fmt"
	"html"
	"math"
	"slices"
	"time"

	"mxdiscover/internal/simulation"
)

// colours are told apart by people who see fewer of them too (Okabe and Ito).
var colours = [...]string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000", "#b8a000"}

// drawing is an SVG under construction.
type drawing struct{ bytes.Buffer }

func newDrawing(width, height int, title string) *drawing {
	d := new(drawing)
	fmt.Fprintf(d, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" role="img">`+"\n", width, height)
	fmt.Fprintf(d, "<title>%s</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n", html.EscapeString(title))
	d.text(12, 20, "start", title, `font-size="14" font-weight="bold"`)
	return d
}

func (d *drawing) done() []byte {
	d.WriteString("</svg>\n")
	return d.Bytes()
}

func (d *drawing) text(x, y float64, anchor, text, more string) {
	fmt.Fprintf(d, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" %s>%s</text>\n", x, y, anchor, more, html.EscapeString(text))
}

func (d *drawing) line(x1, y1, x2, y2 float64, colour, more string) {
	fmt.Fprintf(d, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" %s/>\n", x1, y1, x2, y2, colour, more)
}

func (d *drawing) path(points [][2]float64, colour, more string) {
	d.WriteString(`<polyline fill="none" points="`)
	for _, p := range points {
		fmt.Fprintf(d, "%.1f,%.1f ", p[0], p[1])
	}
	fmt.Fprintf(d, "\" stroke=\"%s\" %s/>\n", colour, more)
}

func (d *drawing) bar(x, y, width float64, colour string) {
	fmt.Fprintf(d, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"12\" fill=\"%s\"/>\n", x, y, width, colour)
}

// policyPlot shows what each policy asks, has people wait, and misses.
func policyPlot(jobs []*job) []byte {
	panels := []struct {
		title string
		of    func(*simulation.Tally) float64
	}{
		{"well-known fetches an hour", fetches},
		{"DNS questions an hour", func(t *simulation.Tally) float64 { return perHour(t, t.DNS) }},
		{"seconds waited per 1000 requests", perThousand},
		{"missed per million requests", func(t *simulation.Tally) float64 { return perMillion(t, t.CausedAll()) }},
	}
	d := newDrawing(980, 70+24*len(jobs), "What a policy costs, and what it misses")
	for k, panel := range panels {
		left := 190 + 200*float64(k)
		d.text(left, 46, "start", panel.title, "")
		var most float64
		for _, j := range jobs {
			most = max(most, panel.of(j.tally))
		}
		for i, j := range jobs {
			y := 58 + 24*float64(i)
			if k == 0 {
				d.text(182, y+10, "end", j.policy.Name, "")
			}
			value := panel.of(j.tally)
			colour := colours[5]
			if i == 0 {
				colour = colours[0]
			}
			width := 130 * value / most
			d.bar(left, y, width, colour)
			d.text(left+width+4, y+10, "start", number(value), "")
		}
	}
	return d.done()
}

// movePlot shows for how long requests miss a server that has moved.
func movePlot(jobs []*job) []byte {
	const left, top, width, height = 60.0, 60.0, 370.0, 260.0
	d := newDrawing(980, 470, "Share of the moves after which no request goes astray any more")
	panels := []struct {
		title string
		kinds []simulation.After
	}{
		{"somebody else answers at the old place", []simulation.After{simulation.Elsewhere}},
		{"nobody answers there", []simulation.After{simulation.GoneRefused, simulation.GoneSilent}},
	}
	// From a minute to two days, as a logarithm.
	across := func(x0 float64, u time.Duration) float64 {
		return x0 + width*min(max(math.Log(max(u.Minutes(), 1))/math.Log(2880), 0), 1)
	}
	for k, panel := range panels {
		x0 := left + float64(k)*(width+90)
		d.text(x0, top-14, "start", panel.title, "")
		for _, mark := range []time.Duration{time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 6 * time.Hour, 24 * time.Hour, 48 * time.Hour} {
			x := across(x0, mark)
			d.line(x, top, x, top+height, "#ddd", "")
			label := fmt.Sprintf("%.0f h", mark.Hours())
			if mark < time.Hour {
				label = fmt.Sprintf("%.0f min", mark.Minutes())
			}
			d.text(x, top+height+16, "middle", label, `font-size="10"`)
		}
		for q := 0.0; q <= 1; q += 0.25 {
			y := top + height*(1-q)
			d.line(x0, y, x0+width, y, "#ddd", "")
			d.text(x0-6, y+4, "end", fmt.Sprintf("%.0f %%", 100*q), `font-size="10"`)
		}
		for i, j := range slices.Backward(jobs) { // ours on top
			var list []simulation.Move
			var sum float64
			for _, m := range j.tally.Moves {
				if m.Requests > 0 && slices.Contains(panel.kinds, m.After) {
					list = append(list, m)
					sum += m.Weight
				}
			}
			slices.SortFunc(list, func(a, b simulation.Move) int { return cmp.Compare(a.Until, b.Until) })
			var points [][2]float64
			var below, last float64
			for n, m := range list {
				x := across(x0, m.Until)
				if x > x0 && points == nil { // all below a minute
					points = append(points, [2]float64{x0, top + height*(1-below/sum)})
				}
				below += m.Weight
				if n == len(list)-1 || x > x0 && x-last >= 1 {
					points = append(points, [2]float64{x, top + height*(1-below/sum)})
					last = x
				}
			}
			points = append(points, [2]float64{x0 + width, top})
			more := `stroke-width="1.5"`
			if i == 0 {
				more = `stroke-width="3"`
			}
			d.path(points, colours[i%len(colours)], more)
		}
	}
	for i, j := range jobs {
		x, y := left+float64(i%5)*180, top+height+50+22*float64(i/5)
		d.line(x, y-4, x+22, y-4, colours[i%len(colours)], `stroke-width="3"`)
		d.text(x+28, y, "start", j.policy.Name, "")
	}
	return d.done()
}

// sweepPlot shows for every constant what it costs and what it harms, each as a
// multiple of what it is with the value that we have.
func sweepPlot(sweeps []sweep) []byte {
	const width, height = 190.0, 120.0
	d := newDrawing(980, 430, "Each constant varied: cost and harm, as multiples of what they are with our value (grey line)")
	d.line(640, 36, 662, 36, colours[0], `stroke-width="2"`)
	d.text(668, 40, "start", "cost (first column of the table)", "")
	d.line(640, 54, 662, 54, colours[1], `stroke-width="2"`)
	d.text(668, 58, "start", "harm (second column)", "")
	for k, s := range sweeps {
		x0, y0 := 40+float64(k%4)*235, 90+float64(k/4)*190
		d.text(x0, y0-8, "start", s.title, `font-size="11"`)
		fmt.Fprintf(d, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"none\" stroke=\"#bbb\"/>\n", x0, y0, width, height)
		ours := slices.Index(s.values, s.ours)
		across := func(i int) float64 { return x0 + 10 + (width-20)*float64(i)/float64(len(s.values)-1) }
		d.line(across(ours), y0, across(ours), y0+height, "#bbb", `stroke-width="3"`)
		// From a fifth to five times.
		up := func(ratio float64) float64 {
			return y0 + height/2 - height/2*min(max(math.Log(max(ratio, 1e-9))/math.Log(5), -1), 1)
		}
		for _, ratio := range []float64{0.2, 0.5, 1, 2, 5} {
			d.line(x0, up(ratio), x0+width, up(ratio), "#eee", "")
			d.text(x0-3, up(ratio)+3, "end", fmt.Sprintf("×%g", ratio), `font-size="8"`)
		}
		for n, f := range []figure{s.cost, s.harm} {
			var points [][2]float64
			was := f.of(s.jobs[ours].tally)
			for i, j := range s.jobs {
				is := f.of(j.tally)
				ratio := 1.0
				if is != was {
					ratio = is / was
				}
				points = append(points, [2]float64{across(i), up(ratio)})
			}
			d.path(points, colours[n], `stroke-width="2"`)
		}
		for i, v := range s.values {
			d.text(across(i), y0+height+11, "middle", s.label(v), `font-size="7"`)
		}
	}
	return d.done()
}
