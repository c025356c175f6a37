package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mxdiscover/check"
	"mxdiscover/internal/printable"
	"mxdiscover/resolver"
)

const (
	// maxChecks bounds -j of check: a check holds some tens of sockets at its
	// busiest, and the usual limit is 1024 open files.
	maxChecks = 32

	// leastWatch is the shortest time between two rounds of --watch. Each asks
	// other people's servers some ten questions.
	leastWatch = 10 * time.Second

	// maxWatched bounds the names of --watch, whose last state is remembered.
	maxWatched = 10000
)

// checkFlags are those of the verb check alone.
type checkFlags struct {
	file    string
	jobs    int
	tap     bool
	explain explainFlag
	watch   time.Duration
	webhook string
}

// A checkFunc checks one name. Its report is never nil.
type checkFunc func(ctx context.Context, name string) *check.Report

func (a *app) checkCommand() *cobra.Command {
	var (
		s = settings{usual: check.DefaultTimeout}
		f checkFlags
	)
	cmd := &cobra.Command{
		Use:   "check NAME...",
		Short: "Say what is wrong with a server name, and what to change",
		Long: `check resolves each name and then judges everything that a server of the
federation meets on the way: the well-known document, SRV records, every
address of every target, TLS, the server's version and its signing keys. It
prints the verdict GOOD, WARN or BAD, the way taken, and what was found, worst
first, with what to change.

Exit status: 0 every name is GOOD or WARN, 1 at least one is BAD, 2 wrong
usage. With --watch: 0 when it is interrupted.`,
		Example: `  mxdiscover check example.org
  mxdiscover check --json --file names.txt     # a report on each line
  mxdiscover check --tap example.org           # for a CI pipeline
  mxdiscover check --watch 5m --webhook https://hooks.example/x example.org
  mxdiscover check --explain                   # everything that can be found
  mxdiscover check --explain cert_expired`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.explain.set {
				return a.explain(append(f.explain.codes, args...), s.json)
			}
			return a.runCheck(cmd.Context(), &s, &f, args)
		},
	}
	flags := cmd.Flags()
	s.add(flags)
	s.addResolve(flags)
	flags.StringVar(&f.file, "file", "", "take names from this `FILE`, one a line, or from\nstandard input if it is -; empty lines and those that\nbegin with # are left out")
	flags.IntVarP(&f.jobs, "jobs", "j", 4, "check this `NUMBER` of names at once")
	flags.BoolVar(&f.tap, "tap", false, "print TAP (the Test Anything Protocol), one test for\neach part of the way and each finding")
	flags.Var((*seconds)(&f.watch), "watch", "check again and again, this `TIME` apart, and print\nwhat has changed")
	flags.StringVar(&f.webhook, "webhook", "", "with --watch, POST each change as JSON to this `URL`")
	flags.Var(&f.explain, "explain", "print the catalogue of findings, or the entries of\nthe codes that follow")
	flags.Lookup("explain").NoOptDefVal = "true"
	return cmd
}

// runCheck checks names, which is all but --explain.
func (a *app) runCheck(ctx context.Context, s *settings, f *checkFlags, args []string) error {
	switch {
	case len(args) == 0 && f.file == "":
		return usagef("no name given")
	case f.jobs < 1 || f.jobs > maxChecks:
		return usagef("-j %d: must be from 1 to %d", f.jobs, maxChecks)
	case f.tap && s.json:
		return usagef("--tap and --json exclude each other")
	case f.tap && f.watch != 0:
		return usagef("--tap and --watch exclude each other")
	case f.watch != 0 && f.watch < leastWatch:
		return usagef("--watch %s: must be at least %s", f.watch, leastWatch)
	case f.webhook != "" && f.watch == 0:
		return usagef("--webhook tells of changes: it needs --watch")
	}
	var hook *webhook
	if f.webhook != "" {
		var err error
		if hook, err = newWebhook(f.webhook); err != nil {
			return err
		}
	}
	names := slices.Values(args)
	var failed error
	if f.file != "" {
		in, err := a.open(f.file)
		if err != nil {
			return err
		}
		defer in.Close()
		names = chain(names, lines(ctx, in, &failed))
	}
	r, stop, err := s.resolver(a.net)
	if err != nil {
		return err
	}
	defer stop()
	do := a.checker(s, r)
	if f.watch != 0 {
		list, err := distinctNames(names)
		if failed != nil {
			err = fmt.Errorf("--file %s: %w", f.file, failed)
		}
		if err != nil {
			return err
		}
		w := &watcher{names: list, every: f.watch, jobs: f.jobs, check: do, hook: hook, tell: func(c *change) { a.printChange(c, s.json) },
			complain: func(message string) { a.complain(message, "") }, stop: a.stdout.failed.Load}
		w.run(ctx)
		return nil
	}
	bad := a.checkNames(ctx, s, f, do, names)
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted: not every name was checked")
	case failed != nil:
		return fmt.Errorf("--file %s: %w", f.file, failed)
	case bad:
		return errFailed
	}
	return nil
}

// checker checks as the flags say, and tells of what happens with -v.
func (a *app) checker(s *settings, r *resolver.Resolver) checkFunc {
	return func(ctx context.Context, name string) *check.Report {
		c := check.Checker{NewResolver: func() *resolver.Resolver { return fresh(r) }, Timeout: s.timeout}
		if s.verbose {
			shown := printable.Line(name)
			c.OnEvent = func(e check.Event) {
				if text := describe(e); text != "" {
					a.log(shown + ": " + text)
				}
			}
		}
		return c.Check(ctx, name)
	}
}

// fresh is a Resolver with the settings of r that remembers nothing.
func fresh(r *resolver.Resolver) *resolver.Resolver {
	return &resolver.Resolver{
		DNS: r.DNS, RootCAs: r.RootCAs, AllowNets: r.AllowNets, DialContext: r.DialContext, ConnectTo: r.ConnectTo, Proxy: r.Proxy,
		Logger: r.Logger, Rules: r.Rules, LenientSRV: r.LenientSRV, Permit: r.Permit, CacheSize: r.CacheSize, UserAgent: r.UserAgent, Context: r.Context,
	}
}

// distinctNames gives the names, each once.
func distinctNames(names iter.Seq[string]) ([]string, error) {
	var list []string
	seen := make(map[string]bool)
	for name := range names {
		if seen[name] {
			continue
		}
		if len(list) == maxWatched {
			return nil, usagef("--watch takes %d names at most", maxWatched)
		}
		seen[name], list = true, append(list, name)
	}
	if len(list) == 0 {
		return nil, usagef("no name given")
	}
	return list, nil
}

// checkNames prints a report for each name, in their order, and says whether one
// is BAD.
func (a *app) checkNames(ctx context.Context, s *settings, f *checkFlags, do checkFunc, names iter.Seq[string]) (bad bool) {
	var (
		tap   = tapWriter{out: a.stdout}
		count = make(map[check.Verdict]int)
		total int
	)
	stop := func() bool { return ctx.Err() != nil || a.stdout.failed.Load() }
	inOrder(names, f.jobs, stop, func(name string) *check.Report { return do(ctx, name) }, func(report *check.Report) {
		if ctx.Err() != nil {
			return // half a check says nothing about the name
		}
		switch {
		case f.tap:
			tap.report(report)
		case s.json:
			a.printJSON(report)
		default:
			if total > 0 {
				fmt.Fprintln(a.stdout)
			}
			a.printCheck(report, s.verbose)
		}
		total++
		count[report.Verdict]++
	})
	switch {
	case f.tap && ctx.Err() != nil:
		tap.bailOut("interrupted")
	case f.tap:
		tap.end()
	case !s.json && total > 1:
		fmt.Fprintf(a.stdout, "\n%d names: %d GOOD, %d WARN, %d BAD\n", total, count[check.Good], count[check.Warn], total-count[check.Good]-count[check.Warn])
	}
	return total != count[check.Good]+count[check.Warn]
}

// describe says in a line what has happened, or nothing.
func describe(e check.Event) string {
	switch {
	case e.Asked != nil:
		return fmt.Sprintf("asked %s: %s (%s)", shown(e.Asked.Query), shown(e.Asked.Detail), took(e.Asked.Duration))
	case e.Step != nil:
		text := shown(e.Step.Detail)
		if e.Step.Query != "" {
			text = strings.TrimSuffix(shown(e.Step.Query)+": "+text, ": ")
		}
		return fmt.Sprintf("rule %s %s: %s", shown(e.Step.Rule), shown(string(e.Step.Outcome)), text)
	case e.WellKnown != nil:
		mark, text := wellKnownLine(e.WellKnown)
		return fmt.Sprintf("well-known at %s: %s: %s (%s)", e.WellKnown.Address, mark, text, took(e.WellKnown.Duration))
	case e.Target != nil:
		return strings.Join(cut("target "+targetName(e.Target), targetLine(e.Target)), ": ")
	case e.Address != nil:
		if e.Address.OK {
			return fmt.Sprintf("%s at %s: ok", shown(e.Of), e.Address.Address)
		}
		return fmt.Sprintf("%s at %s: fails: %s", shown(e.Of), e.Address.Address, whyNot(e.Address))
	case e.Finding != nil:
		return fmt.Sprintf("found %s %s: %s", shown(string(e.Finding.Severity)), shown(e.Finding.Code), shown(e.Finding.Message))
	}
	return ""
}
