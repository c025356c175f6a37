// Command report runs the simulation and writes its tables into docs/simulation.md
// and its plots beside it:
//
//	go run ./internal/simulation/report
package main

import (
	"bytes"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"mxdiscover/internal/simulation"

	"golang.org/x/sync/errgroup"
)

func main() {
	log.SetFlags(0)
	dir := flag.String("docs", "docs", "directory of simulation.md")
	seed := flag.Uint64("seed", 1, "of everything random")
	flag.Parse()
	if err := write(*dir, *seed); err != nil {
		log.Fatal(err)
	}
}

// job is one run and what came of it.
type job struct {
	federation simulation.Federation
	policy     simulation.Policy
	tally      *simulation.Tally
}

// plan collects the runs of all tables, so that all cores have something to do.
type plan struct{ jobs []*job }

func (p *plan) add(f simulation.Federation, policy simulation.Policy) *job {
	j := &job{federation: f, policy: policy}
	p.jobs = append(p.jobs, j)
	return j
}

func (p *plan) run(seed uint64) {
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, j := range p.jobs {
		group.Go(func() error {
			j.tally = simulation.Run(j.federation, j.policy, seed)
			return nil
		})
	}
	group.Wait() // no run fails
}

func write(dir string, seed uint64) error {
	var p plan
	var policies []*job
	for _, policy := range append([]simulation.Policy{simulation.Ours()}, simulation.Alternatives()...) {
		policies = append(policies, p.add(simulation.Public(), policy))
	}
	sweeps := sweeps()
	for i := range sweeps {
		sweeps[i].plan(&p)
	}
	restarts := planRestarts(&p)
	variants := planVariants(&p)
	began := time.Now()
	p.run(seed)
	log.Printf("%d runs in %v", len(p.jobs), time.Since(began).Round(time.Second))

	blocks := map[string]string{
		"policies":    policyTable(policies),
		"moves":       moveTable(policies),
		"restarts":    restarts.table(),
		"sensitivity": variants.table(),
	}
	for _, s := range sweeps {
		blocks["sweep-"+s.key] = s.table()
	}
	path := filepath.Join(dir, "simulation.md")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for key, block := range blocks {
		if text, err = replace(text, key, block); err != nil {
			return err
		}
	}
	files := map[string][]byte{
		"simulation.md":           text,
		"simulation-policies.svg": policyPlot(policies),
		"simulation-moves.svg":    movePlot(policies),
		"simulation-sweeps.svg":   sweepPlot(sweeps),
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// replace puts a block between its marks.
func replace(text []byte, key, block string) ([]byte, error) {
	open, shut := []byte("<!-- generated: "+key+" -->\n"), []byte("<!-- end -->")
	_, rest, ok := bytes.Cut(text, open)
	old, _, ok2 := bytes.Cut(rest, shut)
	if !ok || !ok2 {
		return nil, fmt.Errorf("simulation.md has no place for %q", key)
	}
	was := append(append([]byte(nil), open...), old...)
	return bytes.Replace(text, was, append(append([]byte(nil), open...), block...), 1), nil
}

// table writes a table of Markdown; the first row are the heads.
func table(rows [][]string) string {
	var b strings.Builder
	for i, row := range rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(&b, "|---|%s\n", strings.Repeat("--:|", len(row)-1))
		}
	}
	return b.String()
}

func number(x float64) string {
	switch {
	case x == 0:
		return "0"
	case x < 1:
		return fmt.Sprintf("%.2f", x)
	case x < 100:
		return fmt.Sprintf("%.1f", x)
	}
	s := fmt.Sprintf("%.0f", x)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + " " + s[i:]
	}
	return s
}

func duration(d time.Duration) string {
	switch {
	case d == 0:
		return "0"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	}
	return fmt.Sprintf("%.1f h", d.Hours())
}

// percent has a digit, so that it tells 75.7 from 76.2.
func percent(x float64) string { return fmt.Sprintf("%.1f %%", 100*x) }

func perHour(t *simulation.Tally, n float64) float64    { return n / t.Hours }
func perMillion(t *simulation.Tally, n float64) float64 { return 1e6 * n / t.Requests }
func perThousand(t *simulation.Tally) float64           { return 1000 * t.Seconds / t.Living }
func fetches(t *simulation.Tally) float64 {
	return perHour(t, t.WellKnown.Alive+t.WellKnown.Dead)
}

func policyTable(jobs []*job) string {
	rows := [][]string{{"policy", "well-known/h, living", "dead", "DNS/h", "dials/h to the dead", "requests that wait", "s waited per 1000", "wait over 5 s",
		"wrong server", "old place gone", "no delegation", "left alone"}}
	for _, j := range jobs {
		t := j.tally
		row := []string{j.policy.Name, number(perHour(t, t.WellKnown.Alive)), number(perHour(t, t.WellKnown.Dead)), number(perHour(t, t.DNS)),
			number(perHour(t, t.Dials.Dead)), percent(t.Waited / t.Living), number(perThousand(t)), percent(t.LongWait / t.Living)}
		for _, cause := range []simulation.Cause{simulation.Wrong, simulation.Gone, simulation.Undirected, simulation.LeftAlone} {
			row = append(row, number(perMillion(t, t.Caused[cause])))
		}
		rows = append(rows, row)
	}
	return table(rows)
}

func moveTable(jobs []*job) string {
	rows := [][]string{{"policy", "somebody else answers: mean", "ninth tenth", "requests missed per move", "nobody answers: mean", "ninth tenth", "requests missed per move"}}
	gone := []simulation.After{simulation.GoneRefused, simulation.GoneSilent}
	for _, j := range jobs {
		row := []string{j.policy.Name}
		for _, kinds := range [][]simulation.After{{simulation.Elsewhere}, gone} {
			mean, missed := j.tally.MoveMean(kinds...)
			row = append(row, duration(mean), duration(j.tally.MoveQuantile(0.9, kinds...)), number(missed))
		}
		rows = append(rows, row)
	}
	return table(rows)
}

// sweep varies one constant of ours.
type sweep struct {
	key, title string
	values     []float64
	label      func(float64) string
	ours       float64
	apply      func(*simulation.Policy, float64)
	cost, harm figure
	more       []figure
	jobs       []*job
}

// figure is a number of a tally.
type figure struct {
	name string
	of   func(*simulation.Tally) float64
}

// sample is the federation for comparing policies with each other: every twentieth
// server beyond the first thousand, and every second living one moves.
func sample() simulation.Federation {
	f := simulation.Public()
	f.Every, f.Moves = 20, 0.5
	return f
}

func (s *sweep) plan(p *plan) {
	for _, v := range s.values {
		policy := simulation.Ours()
		s.apply(&policy, v)
		s.jobs = append(s.jobs, p.add(sample(), policy))
	}
}

func (s *sweep) table() string {
	figures := append([]figure{s.cost, s.harm}, s.more...)
	head := []string{s.title}
	for _, f := range figures {
		head = append(head, f.name)
	}
	rows := [][]string{head}
	for i, v := range s.values {
		row := []string{s.label(v)}
		for _, f := range figures {
			row = append(row, number(f.of(s.jobs[i].tally)))
		}
		if v == s.ours {
			for i := range row {
				row[i] = "**" + row[i] + "**"
			}
		}
		rows = append(rows, row)
	}
	return table(rows)
}

func sweeps() []sweep {
	seconds := func(v float64) string {
		if v == 0 {
			return "none"
		}
		return duration(time.Duration(v * 1e9))
	}
	share := func(v float64) string { return fmt.Sprintf("%g %%", 100*v) }
	bounds := func(set func(*simulation.Bounds, float64)) func(*simulation.Policy, float64) {
		return func(p *simulation.Policy, v float64) {
			b := simulation.OurBounds()
			set(&b, v)
			*p = p.With(b)
		}
	}
	span := func(v float64) time.Duration { return time.Duration(v * 1e9) }

	all := figure{"well-known/h", fetches}
	dead := figure{"well-known/h, dead", func(t *simulation.Tally) float64 { return perHour(t, t.WellKnown.Dead) }}
	dns := figure{"DNS/h", func(t *simulation.Tally) float64 { return perHour(t, t.DNS) }}
	dials := figure{"dials/h, dead", func(t *simulation.Tally) float64 { return perHour(t, t.Dials.Dead) }}
	waits := figure{"s waited per 1000", perThousand}
	cold := figure{"% of requests that wait", func(t *simulation.Tally) float64 { return 100 * t.Waited / t.Living }}
	caused := func(name string, c simulation.Cause) figure {
		return figure{name + " per million", func(t *simulation.Tally) float64 { return perMillion(t, t.Caused[c]) }}
	}
	wrong, gone := caused("wrong server", simulation.Wrong), caused("old place gone", simulation.Gone)
	undirected, alone := caused("no delegation", simulation.Undirected), caused("left alone", simulation.LeftAlone)

	return []sweep{
		{key: "min", title: "MinLifetime", values: []float64{0, 60, 120, 300, 600, 900, 1800, 3600}, label: seconds, ours: 300,
			apply: bounds(func(b *simulation.Bounds, v float64) { b.Min = span(v) }), cost: all, harm: wrong, more: []figure{waits, cold}},
		{key: "floor", title: "MinFailureLifetime", values: []float64{10, 30, 60, 120, 300, 600}, label: seconds, ours: 60,
			apply: bounds(func(b *simulation.Bounds, v float64) { b.FailureMin = span(v) }), cost: all, harm: undirected, more: []figure{waits}},
		{key: "ceiling", title: "MaxFailureLifetime", values: []float64{300, 900, 1800, 3600, 7200, 21600}, label: seconds, ours: 3600,
			apply: bounds(func(b *simulation.Bounds, v float64) { b.FailureMax = span(v) }), cost: all, harm: undirected, more: []figure{waits}},
		{key: "ahead", title: "refresh in the last", values: []float64{0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7}, label: share, ours: 0.2,
			apply: func(p *simulation.Policy, v float64) { p.Ahead = v }, cost: all, harm: undirected, more: []figure{wrong, dns, waits, cold}},
		{key: "again", title: "pause of asking again", values: []float64{10, 60, 120, 300, 600, 900, 1800, 3600, 0}, label: seconds, ours: 300,
			apply: func(p *simulation.Policy, v float64) { p.Again = span(v) }, cost: dead, harm: gone, more: []figure{dns}},
		{key: "pause", title: "maxServerPause", values: []float64{0, 15, 60, 300, 900, 3600}, label: seconds, ours: 60,
			apply: func(p *simulation.Policy, v float64) { p.PauseMax = span(v) }, cost: dials, harm: alone},
		{key: "penalty", title: "maxTargetPenalty", values: []float64{0, 60, 300, 900, 3600, 14400}, label: seconds, ours: 900,
			apply: func(p *simulation.Policy, v float64) { p.PenaltyMax = span(v) },
			cost:  figure{"s/h lost to a dead first target", func(t *simulation.Tally) float64 { return perHour(t, t.Vain) }},
			harm:  figure{"dials/h, living", func(t *simulation.Tally) float64 { return perHour(t, t.Dials.Alive) }}},
		{key: "stale", title: "use after expiry, if the host fails", values: []float64{0, 600, 1800, 3600, 7200, 21600, 86400}, label: seconds, ours: 0,
			apply: func(p *simulation.Policy, v float64) { p.MaxStale = span(v) }, cost: all, harm: undirected, more: []figure{wrong, gone}},
	}
}

// restarts are runs for what jitter is there for: everybody asked for within ten minutes
// after a restart, at three densities of traffic.
type restarts struct {
	jitter []float64
	quiet  []time.Duration
	jobs   [][]*job
}

func planRestarts(p *plan) *restarts {
	r := &restarts{jitter: []float64{0, 0.05, 0.1, 0.2, 0.5}, quiet: []time.Duration{2 * time.Hour, 10 * time.Minute, time.Minute}}
	for _, jitter := range r.jitter {
		var row []*job
		for _, quiet := range r.quiet {
			f := sample()
			f.Quietest = 1 / quiet.Seconds()
			f.Every, f.Moves, f.Dead, f.Outages = 200, 0, 0, []simulation.Share[simulation.Outages]{{Weight: 1}}
			f.Warm, f.MovesEnd, f.End = 0, 0, 30*time.Hour
			f.Lifetime = f.Lifetime[:1] // of our own choosing
			f.Delegation = f.Delegation[:1]
			b := simulation.OurBounds()
			b.Jitter = jitter
			row = append(row, p.add(f, simulation.Ours().With(b)))
		}
		r.jobs = append(r.jobs, row)
	}
	return r
}

func (r *restarts) table() string {
	head := []string{"jitter"}
	for _, quiet := range r.quiet {
		head = append(head, "a request every "+duration(quiet)+": fetches in the worst ten minutes")
	}
	rows := [][]string{head}
	for i, jitter := range r.jitter {
		row := []string{fmt.Sprintf("%g %%", 100*jitter)}
		for _, j := range r.jobs[i] {
			row = append(row, number(worst(j.tally.Minutes[12*60:], 10)))
		}
		if jitter == 0.1 {
			for i := range row {
				row[i] = "**" + row[i] + "**"
			}
		}
		rows = append(rows, row)
	}
	return table(rows)
}

// worst is the largest sum of n neighbours.
func worst(list []float64, n int) float64 {
	var sum, most float64
	for i, x := range list {
		if sum += x; i >= n {
			sum -= list[i-n]
		}
		most = max(most, sum)
	}
	return most
}

// variants are other federations, to see whether what was decided depends on what was
// assumed.
type variants struct {
	names   []string
	changes []string
	jobs    [][]*job // ours, then with each change
	figures []func(*simulation.Tally) float64
}

func planVariants(p *plan) *variants {
	v := &variants{}
	add := func(name string, change func(*simulation.Federation)) {
		f := sample()
		f.Every = 50
		change(&f)
		v.names = append(v.names, name)
		row := []*job{p.add(f, simulation.Ours())}
		try := func(change func(*simulation.Policy)) {
			policy := simulation.Ours()
			change(&policy)
			row = append(row, p.add(f, policy))
		}
		bounds := func(set func(*simulation.Bounds)) {
			try(func(p *simulation.Policy) {
				b := simulation.OurBounds()
				set(&b)
				*p = p.With(b)
			})
		}
		bounds(func(b *simulation.Bounds) { b.Min = time.Minute })
		bounds(func(b *simulation.Bounds) { b.Min = 15 * time.Minute })
		bounds(func(b *simulation.Bounds) { b.FailureMax = 15 * time.Minute })
		try(func(p *simulation.Policy) { p.Ahead = 0 })
		try(func(p *simulation.Policy) { p.Again = time.Minute })
		try(func(p *simulation.Policy) { p.Again = 15 * time.Minute })
		try(func(p *simulation.Policy) { p.PauseMax = 5 * time.Minute })
		try(func(p *simulation.Policy) { p.MaxStale = 2 * time.Hour })
		v.jobs = append(v.jobs, row)
	}
	undirected := func(t *simulation.Tally) float64 { return perMillion(t, t.Caused[simulation.Undirected]) }
	dead := func(t *simulation.Tally) float64 { return perHour(t, t.WellKnown.Dead) }
	gone := func(t *simulation.Tally) float64 { return perMillion(t, t.Caused[simulation.Gone]) }
	alone := func(t *simulation.Tally) float64 { return perMillion(t, t.Caused[simulation.LeftAlone]) }
	v.changes = []string{"floor 1 min: fetches", "floor 15 min: fetches", "ceiling 15 min: waits", "no refresh: no delegation",
		"again 1 min: fetches, dead", "again 15 min: gone", "server pause 5 min: left alone", "2 h after expiry: no delegation"}
	v.figures = []func(*simulation.Tally) float64{fetches, fetches, perThousand, undirected, dead, gone, alone, undirected}

	add("as assumed", func(*simulation.Federation) {})
	add("a request a day at least", func(f *simulation.Federation) { f.Quietest /= 12 })
	add("one every ten minutes", func(f *simulation.Federation) { f.Quietest *= 12; f.Every = 200 })
	add("Zipf 0.7", func(f *simulation.Federation) { f.Zipf = 0.7; f.Busiest /= 8 })
	add("20 % dead", func(f *simulation.Federation) { f.Dead = 0.2 })
	add("75 % dead", func(f *simulation.Federation) { f.Dead = 0.75 })
	add("nobody is down but the dead", func(f *simulation.Federation) { f.Outages = []simulation.Share[simulation.Outages]{{Weight: 1}} })
	add("homeservers never hold back", func(f *simulation.Federation) { f.Obeying = 0 })
	add("they always do", func(f *simulation.Federation) { f.Obeying = 1 })
	add("they begin with a minute", func(f *simulation.Federation) { f.CallerMin = time.Minute })
	add("half of the documents: max-age=0", func(f *simulation.Federation) {
		for i := range f.Lifetime {
			if f.Lifetime[i].Value == "public, max-age=0, must-revalidate" {
				f.Lifetime[i].Weight = 0.88
			}
		}
	})
	add("no document says anything", func(f *simulation.Federation) { f.Lifetime = f.Lifetime[:1] })
	add("moves without a gap", func(f *simulation.Federation) { f.MoveGap = 0 })
	add("web server apart", func(f *simulation.Federation) { f.SameBox = 0 })
	add("one worker", func(f *simulation.Federation) { f.Workers = 1 })
	add("sixteen workers", func(f *simulation.Federation) { f.Workers = 16 })
	return v
}

func (v *variants) table() string {
	rows := [][]string{append([]string{"federation", "well-known/h", "s waited per 1000", "missed per million"}, v.changes...)}
	for i, name := range v.names {
		ours := v.jobs[i][0].tally
		row := []string{name, number(fetches(ours)), number(perThousand(ours)), number(perMillion(ours, ours.CausedAll()))}
		for k, of := range v.figures {
			was, is := of(ours), of(v.jobs[i][k+1].tally)
			switch {
			case max(was, is) < 1:
				row = append(row, "both < 1")
			case is > 3*was || was < 1:
				row = append(row, number(was)+" → "+number(is))
			default:
				row = append(row, fmt.Sprintf("%+.0f %%", 100*(is/was-1)))
			}
		}
		rows = append(rows, row)
	}
	return table(rows)
}
