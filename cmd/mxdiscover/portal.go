package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mxdiscover/wellknown/portal"
)

const (
	// grace is how long requests under way may take when the portal stops.
	grace = 10 * time.Second

	// What comes before a request's body: clients send it at once.
	headerTimeout  = 10 * time.Second
	idleTimeout    = time.Minute
	maxHeaderBytes = 64 << 10
)

// portalFlags are those of the verb portal.
type portalFlags struct {
	listen, mode, choose, userMap, emit, baseURL, cert, key string
	targets, public, trust                                  []string
}

func (a *app) portalCommand() *cobra.Command {
	var (
		s settings
		f portalFlags
	)
	cmd := &cobra.Command{
		Use:   "portal --listen ADDR --target NAME=URL...",
		Short: "Serve a login portal that sends clients to other servers (MSC1730)",
		Long: `portal is a homeserver for nothing but logging in. It sends each login to one
of its targets and tells the client, in the answer, where to go from then on
(--mode proxy), or redirects the client to log in there (--mode redirect).
Everything else is answered with status 401, upon which clients log in.

It runs until it is interrupted. Exit status: 0 stopped, 1 it could not
listen, 2 wrong usage.`,
		Example: `  mxdiscover portal --listen :8080 --target a=https://a.example --target b=https://b.example
  mxdiscover portal --listen :8080 --target a=http://10.0.0.1:8008 --public a=https://a.example
  mxdiscover portal --listen :8080 --target a=https://a.example --choose user-map --user-map users.txt`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("portal takes flags alone, not %q", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, pair, stop, err := a.portal(&s, &f)
			if err != nil {
				return err
			}
			defer stop()
			return a.servePortal(cmd.Context(), p, f.listen, pair)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.listen, "listen", "", "serve on this address, `HOST:PORT`; port 0 is any that\nis free")
	flags.StringArrayVar(&f.targets, "target", nil, "send logins to the server `NAME=URL`; may be repeated")
	flags.StringArrayVar(&f.public, "public", nil, "tell clients this URL of a target, `NAME=URL`, instead\nof its own; may be repeated")
	flags.StringVar(&f.mode, "mode", string(portal.Proxy), "`MODE` proxy or redirect")
	flags.StringVar(&f.choose, "choose", "round-robin", "choose the target by round-robin or user-map; `HOW`")
	flags.StringVar(&f.userMap, "user-map", "", "take the targets of users from this `FILE`, lines of\nUSER NAME")
	flags.StringVar(&f.emit, "emit", "well_known,base_cs_url", "the fields that tell clients where to go, a `LIST` with\ncommas")
	flags.StringVar(&f.baseURL, "base-url", "", "publish this `URL` as the portal's own in\n/.well-known/matrix/client")
	flags.StringVar(&f.cert, "tls-cert", "", "serve https with the certificate in this `FILE`")
	flags.StringVar(&f.key, "tls-key", "", "the key of the certificate, a `FILE`")
	flags.StringArrayVar(&f.trust, "trust-forwarded-for", nil, "believe X-Forwarded-For of proxies in this network;\n`CIDR` may be repeated")
	s.add(flags)
	for _, name := range []string{"json", "verbose", "allow-net"} { // they mean nothing here
		flags.MarkHidden(name)
	}
	return cmd
}

// portal makes the portal that the flags ask for, and its certificate if it has
// one.
func (a *app) portal(s *settings, f *portalFlags) (p *portal.Portal, pair []tls.Certificate, stop func(), err error) {
	if f.listen == "" {
		return nil, nil, nil, usagef("--listen is missing")
	}
	p = &portal.Portal{Mode: portal.Mode(f.mode), BaseURL: f.baseURL}
	at := make(map[string]int)
	for _, text := range f.targets {
		name, url, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, nil, nil, usagef("--target %q is not NAME=URL", text)
		}
		at[name] = len(p.Targets)
		p.Targets = append(p.Targets, portal.Target{Name: name, URL: url})
	}
	for _, text := range f.public {
		name, url, ok := strings.Cut(text, "=")
		i, known := at[name]
		if !ok || !known || p.Targets[i].Public != "" {
			return nil, nil, nil, usagef("--public %q is not NAME=URL of one target", text)
		}
		p.Targets[i].Public = url
	}
	if p.Emit, err = portal.ParseEmit(f.emit); err != nil {
		return nil, nil, nil, usagef("--emit: %w", err)
	}
	for _, cidr := range f.trust {
		network, err := netip.ParsePrefix(cidr)
		if err != nil {
			return nil, nil, nil, usagef("--trust-forwarded-for %q is not a network such as 10.0.0.0/8", cidr)
		}
		p.TrustForwardedFor = append(p.TrustForwardedFor, network)
	}
	switch {
	case f.choose == "round-robin" && f.userMap == "":
		p.Chooser = new(portal.RoundRobin)
	case f.choose == "user-map" && f.userMap != "":
		file, err := os.Open(f.userMap)
		if err != nil {
			return nil, nil, nil, usagef("--user-map: %w", err)
		}
		defer file.Close()
		users, err := portal.ParseUserMap(file)
		if err != nil {
			return nil, nil, nil, usagef("--user-map %s: %w", f.userMap, err)
		}
		p.Chooser = users
	default:
		return nil, nil, nil, usagef("--choose is round-robin, or user-map with a --user-map FILE")
	}
	if err := p.Check(); err != nil {
		return nil, nil, nil, usagef("%w", err)
	}
	if (f.cert == "") != (f.key == "") {
		return nil, nil, nil, usagef("--tls-cert and --tls-key belong together")
	}
	if f.cert != "" {
		cert, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, nil, nil, usagef("--tls-cert: %w", err)
		}
		pair = []tls.Certificate{cert}
	}
	r, stop, err := s.resolver(a.net)
	if err != nil {
		return nil, nil, nil, err
	}
	// Targets are the operator's own word.
	r.AllowNets = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	fetcher := r.Fetcher()
	p.RootCAs, p.DialTLS, p.Dial, p.Timeout = r.RootCAs, fetcher.DialTLS, fetcher.Dial, s.timeout
	p.Log = func(e portal.Entry) { a.log(e.String()) }
	return p, pair, stop, nil
}

// log prints one line on stderr; many goroutines do.
func (a *app) log(line string) {
	a.logging.Lock()
	defer a.logging.Unlock()
	fmt.Fprintln(a.stderr, line)
}

// servePortal serves until ctx ends, and lets the requests under way finish.
func (a *app) servePortal(ctx context.Context, p *portal.Portal, address string, pair []tls.Certificate) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	scheme := "http"
	if pair != nil {
		scheme = "https"
		listener = tls.NewListener(listener, &tls.Config{Certificates: pair, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
	}
	server := &http.Server{
		Handler: p, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		DisableGeneralOptionsHandler: true,                       // OPTIONS * is the portal's to answer, with CORS
		ErrorLog:                     log.New(io.Discard, "", 0), // what strangers send is no news
	}
	a.log("listening on " + scheme + "://" + listener.Addr().String())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	late, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if err := server.Shutdown(late); errors.Is(err, context.DeadlineExceeded) {
		server.Close() // it has had its time
	}
	return nil
}
