package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"mxdiscover/resolver"
)

// maxWorkers bounds -j: every name under way holds a few sockets, and the
// usual limit is 1024 open files.
const maxWorkers = 256

// maxLine bounds a line of --file. The longest server name has 261
// characters; of what is longer the beginning is told to be no name.
const maxLine = 4096

func (a *app) resolveCommand(s *settings) *cobra.Command {
	var (
		file    string
		workers int
	)
	cmd := &cobra.Command{
		Use:   "resolve NAME...",
		Short: "Say where a federation request goes (the default verb)",
		Long: `resolve follows the rules of the Matrix specification and prints, for each
name, the targets with their addresses, the Host header, the name that the
certificate must prove, the rule that decided, and until when the answer
holds. It connects to the well-known host alone, not to the targets.

Exit status: 0 every name succeeded, 1 at least one did not, 2 wrong usage.`,
		Example: `  mxdiscover matrix.org
  mxdiscover -v matrix.org                     # with the evidence
  mxdiscover --json --file names.txt -j 16     # many names, one line each
  mxdiscover --world testdata/worlds/tour.txtar delegated.example`,
		Args:          cobra.ArbitraryArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && file == "" {
				return usagef("no name given")
			}
			if workers < 1 || workers > maxWorkers {
				return usagef("-j %d: must be from 1 to %d", workers, maxWorkers)
			}
			names := slices.Values(args)
			var failed error
			if file != "" {
				in, err := a.open(file)
				if err != nil {
					return err
				}
				defer in.Close()
				names = chain(names, lines(cmd.Context(), in, &failed))
			}
			r, stop, err := s.resolver(a.net)
			if err != nil {
				return err
			}
			defer stop()
			ok := a.resolve(cmd.Context(), s, r, names, workers)
			switch {
			case cmd.Context().Err() != nil:
				return errors.New("interrupted: not every name was resolved")
			case failed != nil:
				return fmt.Errorf("--file %s: %w", file, failed)
			case !ok:
				return errFailed
			}
			return nil
		},
	}
	f := cmd.Flags()
	s.add(f)
	s.addResolve(f)
	f.StringVar(&file, "file", "", "take names from this `FILE`, one a line, or from\nstandard input if it is -; empty lines and those that\nbegin with # are left out")
	f.IntVarP(&workers, "jobs", "j", 8, "resolve this `NUMBER` of names at once")
	return cmd
}

func (a *app) open(file string) (io.ReadCloser, error) {
	if file == "-" {
		return io.NopCloser(a.stdin), nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, usagef("--file: %w", err)
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		f.Close()
		return nil, usagef("--file: %w", &fs.PathError{Op: "read", Path: file, Err: syscall.EISDIR})
	}
	return f, nil
}

// lines gives the names in r until ctx ends, also while r has nothing to give.
// If reading fails, failed is set at the end.
func lines(ctx context.Context, r io.Reader, failed *error) iter.Seq[string] {
	type line struct {
		text string
		err  error
	}
	return func(yield func(string) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		read := make(chan line)
		go func() {
			in := bufio.NewReaderSize(r, maxLine)
			for {
				text, more, err := in.ReadLine()
				l := line{string(text), err}
				for more && err == nil { // what is cut off makes no name of it
					_, more, err = in.ReadLine()
				}
				select {
				case read <- l:
				case <-ctx.Done():
					return
				}
				if l.err != nil {
					return
				}
			}
		}()
		for {
			var l line
			select {
			case l = <-read:
			case <-ctx.Done():
				return
			}
			if l.err != nil {
				if l.err != io.EOF {
					*failed = l.err
				}
				return
			}
			name := strings.TrimSpace(l.text)
			if name == "" || name[0] == '#' {
				continue
			}
			if !yield(name) {
				return
			}
		}
	}
}

func chain(seqs ...iter.Seq[string]) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, seq := range seqs {
			for s := range seq {
				if !yield(s) {
					return
				}
			}
		}
	}
}

// resolve prints the answers in the order of the names.
func (a *app) resolve(ctx context.Context, s *settings, r *resolver.Resolver, names iter.Seq[string], workers int) (ok bool) {
	ok = true
	stop := func() bool { return ctx.Err() != nil || a.stdout.failed.Load() }
	inOrder(names, workers, stop, func(name string) *resolver.Report {
		ctx, cancel := s.deadline(ctx)
		defer cancel()
		return r.Explain(ctx, name)
	}, func(report *resolver.Report) {
		ok = ok && report.Err == nil
		a.print(s, report)
	})
	return ok
}

func (a *app) print(s *settings, report *resolver.Report) {
	if s.verbose {
		a.evidence(report)
	}
	if s.json {
		a.printJSON(report)
		return
	}
	if report.Err == nil {
		a.answer(report)
	}
	for _, warning := range report.Warnings() {
		if warning.Code == "well_known_address_denied" && errors.Is(report.Err, resolver.AddressDenied) {
			continue // the error says so
		}
		a.warn(report.ServerName+": "+warning.Message, warningHint(warning))
	}
	if errors.Is(report.Err, resolver.Canceled) {
		a.complain(report.ServerName+": interrupted", "")
	} else if report.Err != nil {
		a.complain(report.Err.Error(), errorHint(report))
	}
}
