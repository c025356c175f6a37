package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"mxdiscover/internal/world"
	"mxdiscover/resolver"
	"mxdiscover/srv"
)

// defaultTimeout is what --timeout is if nobody says otherwise.
const defaultTimeout = 30 * time.Second

// settings are the flags that every verb has which asks the network. Not all of
// them have rules and lenient.
type settings struct {
	dns       []string
	caCert    string
	connectTo []string
	allowNets []string
	timeout   time.Duration
	usual     time.Duration // timeout if nobody says otherwise; if zero, defaultTimeout
	rules     resolver.Rules
	lenient   bool
	world     string
	json      bool
	verbose   bool
}

func (s *settings) add(f *pflag.FlagSet) {
	f.BoolVar(&s.json, "json", false, "print one JSON object per name and line")
	f.BoolVarP(&s.verbose, "verbose", "v", false, "show the evidence on stderr, step by step")
	f.StringArrayVar(&s.dns, "dns", nil, "ask the DNS server `HOST:PORT` instead of those of\n/etc/resolv.conf; may be repeated")
	f.StringVar(&s.caCert, "cacert", "", "trust the certificates in this PEM `FILE` besides\nthe system's")
	f.StringArrayVar(&s.connectTo, "connect-to", nil, "connect elsewhere, as curl does; `MAP` is\nHOST1:PORT1:HOST2:PORT2; may be repeated")
	f.StringArrayVar(&s.allowNets, "allow-net", nil, "let addresses of this private or special-purpose\nnetwork, such as 10.0.0.0/8, be dialled; `CIDR` may\nbe repeated")
	s.usual = cmp.Or(s.usual, defaultTimeout)
	f.Var((*seconds)(&s.timeout), "timeout", fmt.Sprintf("spend at most this `TIME`, such as 5s or 1m, on one\nname (default %.0fs)", s.usual.Seconds()))
	f.StringVar(&s.world, "world", "", "act inside the federation that this `FILE` describes,\non loopback; see mxdiscover world --help")
	f.SortFlags = false
}

// addResolve adds what matters to the resolution of server names alone.
func (s *settings) addResolve(f *pflag.FlagSet) {
	f.TextVar(&s.rules, "rules", resolver.Current, "follow the `RULES` current (the specification) or\ndraft-2019 (a draft of it)")
	f.BoolVar(&s.lenient, "lenient-srv", false, "take an SRV look-up that fails for one that finds\nnothing")
}

// resolver makes the Resolver that the flags ask for. stop ends the world that
// it acts in, if there is one.
func (s *settings) resolver(where world.Net) (r *resolver.Resolver, stop func(), err error) {
	r = &resolver.Resolver{Rules: s.rules, LenientSRV: s.lenient, DNS: new(srv.Client)}
	for _, server := range s.dns {
		address, err := dnsServer(server)
		if err != nil {
			return nil, nil, err
		}
		r.DNS.Servers = append(r.DNS.Servers, address)
	}
	for _, cidr := range s.allowNets {
		prefix, err := netip.ParsePrefix(cidr)
		if err != nil {
			return nil, nil, usagef("--allow-net %q is not a network such as 10.0.0.0/8", cidr)
		}
		r.AllowNets = append(r.AllowNets, prefix)
	}
	if r.ConnectTo, err = connectTo(s.connectTo); err != nil {
		return nil, nil, err
	}
	if s.caCert != "" {
		pem, err := os.ReadFile(s.caCert)
		if err != nil {
			return nil, nil, usagef("--cacert: %w", err)
		}
		// Without the system's roots only those of the file are trusted,
		// which is what --cacert is for on a machine that has none.
		if r.RootCAs, err = x509.SystemCertPool(); err != nil {
			r.RootCAs = x509.NewCertPool()
		}
		if !r.RootCAs.AppendCertsFromPEM(pem) {
			return nil, nil, usagef("--cacert %s: no PEM certificate in it", s.caCert)
		}
	}
	if s.world == "" {
		s.timeout = cmp.Or(s.timeout, s.usual)
		return r, func() {}, nil
	}
	if len(s.dns) > 0 || s.caCert != "" {
		return nil, nil, usagef("--world has its own DNS and CA: leave --dns and --cacert out")
	}
	return s.enterWorld(where, r)
}

// enterWorld starts the world of the flag and makes r act inside it, with the
// settings that the world wants.
func (s *settings) enterWorld(where world.Net, r *resolver.Resolver) (*resolver.Resolver, func(), error) {
	scene, err := world.Load(s.world)
	if err != nil {
		return nil, nil, usagef("--world: %w", err)
	}
	w, err := scene.Start(where)
	if err != nil {
		return nil, nil, err
	}
	// Nothing of the machine shines through: neither its hosts file nor its
	// roots.
	r.DNS.Servers, r.DNS.HostsFile, r.DNS.Dial = w.DNSServers(), os.DevNull, w.DNSDial()
	r.RootCAs = w.Roots()
	r.AllowNets = slices.Concat(r.AllowNets, w.AllowNets())
	r.DialContext = w.DialContext
	o := w.Options()
	if o.Rules == "draft-2019" {
		r.Rules = resolver.Draft2019
	}
	r.LenientSRV = r.LenientSRV || o.LenientSRV
	r.DNS.Timeout, r.DNS.Attempts = o.DNSTimeout, o.DNSAttempts
	s.timeout = cmp.Or(s.timeout, o.Timeout, s.usual)
	return r, func() { w.Close() }, nil
}

// dnsServer adds the port that a user may leave out behind an address.
func dnsServer(s string) (string, error) {
	if host, port, err := net.SplitHostPort(s); err == nil {
		if _, ok := portNumber(port); host == "" || !ok {
			return "", usagef("--dns %q is not HOST:PORT", s)
		}
		return s, nil
	}
	host := strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	if _, err := netip.ParseAddr(host); err != nil {
		return "", usagef("--dns %q is not HOST:PORT", s)
	}
	return net.JoinHostPort(host, "53"), nil
}

func portNumber(s string) (uint16, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil && n > 0
}

// seconds is a duration that may be given without a unit, as curl's times are.
type seconds time.Duration

func (s *seconds) Set(text string) error {
	d, err := time.ParseDuration(text)
	if n, plain := strconv.ParseUint(text, 10, 31); plain == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d <= 0 {
		return errors.New("not a time such as 5s or 1m")
	}
	*s = seconds(d)
	return nil
}

func (s *seconds) String() string { return "" }
func (s *seconds) Type() string   { return "time" }

// redirection is one --connect-to: empty or 0 means any host, any port, the
// same host, the same port.
type redirection struct {
	host1 string
	port1 uint16
	host2 string
	port2 uint16
}

// connectTo reads the --connect-to flags. The first that matches counts.
func connectTo(flags []string) (func(string, uint16) (string, uint16, bool), error) {
	if len(flags) == 0 {
		return nil, nil
	}
	var list []redirection
	for _, flag := range flags {
		fields, ok := splitHosts(flag)
		if !ok || len(fields) != 4 {
			return nil, usagef("--connect-to %q is not HOST1:PORT1:HOST2:PORT2 (IPv6 addresses in brackets)", flag)
		}
		r := redirection{host1: strings.ToLower(fields[0]), host2: fields[2]}
		for i, port := range []*uint16{&r.port1, &r.port2} {
			text := fields[1+2*i]
			if *port, ok = portNumber(text); text != "" && !ok {
				return nil, usagef("--connect-to %q: %q is no port", flag, text)
			}
		}
		list = append(list, r)
	}
	return func(host string, port uint16) (string, uint16, bool) {
		for _, r := range list {
			if r.host1 != "" && r.host1 != strings.ToLower(host) || r.port1 != 0 && r.port1 != port {
				continue
			}
			return cmp.Or(r.host2, host), cmp.Or(r.port2, port), true
		}
		return "", 0, false
	}, nil
}

// splitHosts splits at colons outside brackets, and takes the brackets away.
func splitHosts(s string) (fields []string, ok bool) {
	for {
		var field string
		if strings.HasPrefix(s, "[") {
			end := strings.IndexByte(s, ']')
			if end < 0 {
				return nil, false
			}
			field, s = s[1:end], s[end+1:]
			if s != "" && s[0] != ':' {
				return nil, false
			}
		} else if colon := strings.IndexByte(s, ':'); colon >= 0 {
			field, s = s[:colon], s[colon:]
		} else {
			field, s = s, ""
		}
		fields = append(fields, field)
		if s == "" {
			return fields, true
		}
		s = s[1:]
	}
}

// deadline bounds the work for one name.
func (s *settings) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.timeout)
}
