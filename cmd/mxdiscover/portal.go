package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"mxdiscover/internal/baseurl"
	"mxdiscover/wellknown/portal"
)

// portalFlags are those of the verb portal.
type portalFlags struct {
	webFlags
	mode, choose, userMap, emit, baseURL string
	targets, public                      []string
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
			// Empty is not the same as left out: a variable of a script was not set.
			for _, name := range []string{"mode", "choose", "user-map", "base-url", "tls-cert", "tls-key"} {
				if flag := cmd.Flags().Lookup(name); flag.Changed && flag.Value.String() == "" {
					return usagef("--%s is empty", name)
				}
			}
			p, pair, stop, err := a.portal(&s, &f)
			if err != nil {
				return err
			}
			defer stop()
			a.warnURLs(p)
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
	f.add(flags)
	s.add(flags)
	for _, name := range []string{"json", "verbose", "allow-net"} { // they mean nothing here
		flags.MarkHidden(name)
	}
	fit(flags)
	return cmd
}

// portal makes the portal that the flags ask for, and its certificate if it has
// one.
func (a *app) portal(s *settings, f *portalFlags) (p *portal.Portal, pair []tls.Certificate, stop func(), err error) {
	if f.listen == "" {
		return nil, nil, nil, usagef("--listen is missing")
	}
	if err := checkAddress(f.listen); err != nil {
		return nil, nil, nil, err
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
		if !ok || !known || url == "" || p.Targets[i].Public != "" {
			return nil, nil, nil, usagef("--public %q is not NAME=URL of one target", text)
		}
		p.Targets[i].Public = url
	}
	if p.Emit, err = portal.ParseEmit(f.emit); err != nil {
		return nil, nil, nil, usagef("--emit: %w", err)
	}
	if p.TrustForwardedFor, err = networks("--trust-forwarded-for", f.trust); err != nil {
		return nil, nil, nil, err
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
	if pair, err = f.pair(); err != nil {
		return nil, nil, nil, err
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

// checkAddress finds what is no address to listen on, whatever the machine has.
func checkAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return usagef("--listen %q is not HOST:PORT", address)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return usagef("--listen %q: %q is no port", address, port)
	}
	return nil
}

// warnURLs says what works and should be changed about the URLs of a portal that
// has passed Check.
func (a *app) warnURLs(p *portal.Portal) {
	warn := func(flag, text, http string) {
		u, err := baseurl.Parse(text)
		if err != nil {
			return // there is none
		}
		if u.Stripped {
			a.warn(flag+" has user info, a query or a fragment, which is left out (base_url_stripped)", "")
		}
		if u.Insecure() {
			a.warn(flag+" is http: everybody on the way "+http+" can read passwords and tokens (base_url_http)", "")
		}
	}
	for _, t := range p.Targets {
		warn("--target "+t.Name, t.URL, "from here to it")
		warn("--public "+t.Name, t.Public, "from clients to it")
	}
	warn("--base-url", p.BaseURL, "from clients to it")
}

// log prints one line on stderr; many goroutines do.
func (a *app) log(line string) {
	a.logging.Lock()
	defer a.logging.Unlock()
	fmt.Fprintln(a.stderr, line)
}

// arrival is how long a connection on which no request has come may stay open when
// the portal stops: time enough for one that is on its way.
const arrival = 500 * time.Millisecond

// newcomers are the connections on which no request has come yet. When a server
// of net/http shuts down, it waits five seconds for such a one.
type newcomers struct {
	mu    sync.Mutex
	conns map[net.Conn]bool
}

// note is an [http.Server]'s ConnState.
func (n *newcomers) note(conn net.Conn, state http.ConnState) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if state != http.StateNew {
		delete(n.conns, conn)
		return
	}
	if n.conns == nil {
		n.conns = make(map[net.Conn]bool)
	}
	n.conns[conn] = true
}

func (n *newcomers) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for conn := range n.conns {
		conn.Close()
	}
}

// servePortal serves until ctx ends, over HTTP/1.1 alone, and lets the requests
// under way finish.
func (a *app) servePortal(ctx context.Context, p *portal.Portal, address string, pair []tls.Certificate) error {
	http1 := new(http.Protocols)
	http1.SetHTTP1(true)
	server := &http.Server{
		Handler: p, Protocols: http1,
		DisableGeneralOptionsHandler: true, // OPTIONS * is the portal's to answer, with CORS
	}
	var idle newcomers
	server.ConnState = idle.note
	server.RegisterOnShutdown(func() { time.AfterFunc(arrival, idle.close) })
	return a.serveHTTP(ctx, server, site{address: address, pair: pair})
}
