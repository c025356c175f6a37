package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mxdiscover/check"
	"mxdiscover/resolver"
	"mxdiscover/serve"
)

// serveFlags are those of the verb serve.
type serveFlags struct {
	webFlags
	log       string
	checks    int
	keep      time.Duration
	perClient rate
	perHost   rate
	inAll     rate
	unlimited []string
}

func (a *app) serveCommand() *cobra.Command {
	var (
		s = settings{usual: check.DefaultTimeout}
		f serveFlags
	)
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve check as a web page, an API and a Prometheus probe",
		Long: `serve answers over HTTP: a page for people at /, the API (/openapi.json
describes it; /api/report and /api/federation-ok are those of the federation
tester), /probe for Prometheus, /metrics and /healthz.

It may face the internet: it connects to public addresses alone unless
--allow-net opens others, and bounds what each client and all of them can make
it do. It writes nothing to disk.

It runs until it is interrupted. Exit status: 0 stopped, 1 it could not
listen, 2 wrong usage.`,
		Example: `  mxdiscover serve
  mxdiscover serve --listen :8080 --log json
  mxdiscover serve --listen 127.0.0.1:8080 --trust-forwarded-for 127.0.0.0/8
  mxdiscover serve --listen :8443 --tls-cert cert.pem --tls-key key.pem`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("serve takes flags alone, not %q", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			server, stop, err := a.server(&s, &f)
			if err != nil {
				return err
			}
			defer stop()
			pair, err := f.pair()
			if err != nil {
				return err
			}
			return a.serveHTTP(cmd.Context(), &http.Server{Handler: server}, site{
				address: f.listen, pair: pair, closing: server.Close,
				ofAddress: maxConnsOfAddress, proxies: server.TrustForwardedFor,
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.listen, "listen", "127.0.0.1:8080", "serve on this address, `HOST:PORT`; port 0 is any that\nis free")
	f.add(flags)
	flags.StringVar(&f.log, "log", "text", "log requests on stderr in this `FORM`: text, json or\nnone")
	flags.IntVar(&f.checks, "checks", 0, "check at most this `NUMBER` of names at once\n(default 200)")
	flags.Var((*seconds)(&f.keep), "keep", "give an answer to others for this `TIME` (default 60s)")
	flags.Var(&f.perClient, "per-client", "let one client address begin this `RATE` of checks:\n20/3s, the default, is 20 at once and one more every\n3 s; none is no limit")
	flags.Var(&f.perHost, "per-host", "check one host at this `RATE`, whoever asks (default\n10/5s)")
	flags.Var(&f.inAll, "in-all", "begin checks at this `RATE` (default 200/100ms)")
	flags.StringArrayVar(&f.unlimited, "unlimited", nil, "let clients in this network, such as your Prometheus,\nbegin any number of checks; `CIDR` may be repeated")
	s.add(flags)
	flags.Lookup("verbose").Usage = "log debug messages too"
	flags.MarkHidden("json") // it means nothing here
	fit(flags)
	return cmd
}

// server makes the handler that the flags ask for. stop ends the world that it
// acts in, if there is one.
func (a *app) server(s *settings, f *serveFlags) (server *serve.Server, stop func(), err error) {
	server = &serve.Server{Limits: serve.Limits{
		Checks: f.checks, KeepFor: f.keep, PerClient: f.perClient.Rate, PerHost: f.perHost.Rate, InAll: f.inAll.Rate,
	}}
	if f.checks < 0 {
		return nil, nil, usagef("--checks %d: must be positive", f.checks)
	}
	if server.Logger, err = a.logger(f.log, s.verbose); err != nil {
		return nil, nil, err
	}
	if server.TrustForwardedFor, err = networks("--trust-forwarded-for", f.trust); err != nil {
		return nil, nil, err
	}
	if server.Unlimited, err = networks("--unlimited", f.unlimited); err != nil {
		return nil, nil, err
	}
	r, stop, err := s.resolver(a.net)
	if err != nil {
		return nil, nil, err
	}
	server.NewResolver, server.Timeout = func() *resolver.Resolver { return fresh(r) }, s.timeout
	return server, stop, nil
}

// logger writes to stderr, one line a message.
func (a *app) logger(form string, debug bool) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: slog.LevelInfo}
	if debug {
		options.Level = slog.LevelDebug
	}
	switch form {
	case "text":
		return slog.New(slog.NewTextHandler(lockedStderr{a}, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(lockedStderr{a}, options)), nil
	case "none":
		return nil, nil
	}
	return nil, usagef("--log %q: must be text, json or none", form)
}

// lockedStderr is stderr for goroutines that log beside app.log.
type lockedStderr struct{ a *app }

func (w lockedStderr) Write(p []byte) (int, error) {
	w.a.logging.Lock()
	defer w.a.logging.Unlock()
	return w.a.stderr.Write(p)
}

// rate is a serve.Rate as a flag: BURST/EVERY, or none.
type rate struct{ serve.Rate }

func (r *rate) Set(text string) error {
	if text == "none" {
		r.Rate = serve.Rate{Burst: -1}
		return nil
	}
	burst, every, ok := strings.Cut(text, "/")
	n, err := strconv.ParseUint(burst, 10, 20)
	d, err2 := time.ParseDuration(every)
	if !ok || err != nil || err2 != nil || n == 0 || d <= 0 {
		return errors.New("not a rate such as 20/3s")
	}
	r.Rate = serve.Rate{Burst: int(n), Every: d}
	return nil
}

func (r *rate) String() string {
	if r.Burst <= 0 {
		return ""
	}
	return fmt.Sprintf("%d/%s", r.Burst, r.Every)
}

func (r *rate) Type() string { return "rate" }
