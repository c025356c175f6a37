package world

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

// Limits of a file. Scenes are small; these keep a slip of the pen from filling the memory.
const (
	maxRecords    = 1 << 14 // of one zone; $GENERATE makes many
	maxEndpoints  = 1 << 10 // each is a socket; the usual limit of open files
	maxDNSServers = 16
	maxParallel   = 1 << 10
	maxSize       = 16 << 20 // of one body; hundreds of times what well-known may have
)

// A Scene is a parsed file. It does not change, and may be started any number of times.
type Scene struct {
	name    string
	comment string
	zones   phases[*zone]
	faults  phases[[]*dnsFault]
	servers phases[map[netip.AddrPort]serverOptions]
	replies map[string]phases[[]*reply] // by method, selector and URL
	matrix  []*matrixGroup
	checks  []Check
	options Options
	script  []Step

	endpoints []netip.AddrPort
	onlyHTTP1 map[string]bool // hosts with replies that HTTP/2 cannot express
}

// Options are the settings that a scene wants for the program under test. Zero means: not said.
type Options struct {
	Rules       string         // "current" or "draft-2019"
	LenientSRV  bool           // failing SRV look-ups count as absent
	AllowNets   []netip.Prefix // beyond those of World.AllowNets
	Timeout     time.Duration  // for one name
	DNSTimeout  time.Duration  // for one question to one server
	DNSAttempts int            // for one question
	Virtual     bool           // waits so long that it must run in virtual time
	Servers     int            // DNS servers; at least 1
}

// phases are values that hold from a time on, in the order of these times.
type phases[T any] []phase[T]

type phase[T any] struct {
	from time.Duration
	v    T
}

// at is what holds after d; the zero value before the first phase.
func (p phases[T]) at(d time.Duration) (v T) {
	for _, ph := range p {
		if ph.from <= d {
			v = ph.v
		}
	}
	return v
}

func (p phases[T]) index(from time.Duration) int {
	return slices.IndexFunc(p, func(ph phase[T]) bool { return ph.from == from })
}

func (p *phases[T]) add(from time.Duration, v T) error {
	if p.index(from) >= 0 {
		return fmt.Errorf("a second section for the same time")
	}
	*p = append(*p, phase[T]{from, v})
	slices.SortStableFunc(*p, func(a, b phase[T]) int { return cmp.Compare(a.from, b.from) })
	return nil
}

// Load parses the file at path.
func Load(path string) (*Scene, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, data)
}

// Parse parses the text of a scene; the package comment describes its form. What is not described
// there is an error. Errors begin with "name:line: ".
func Parse(name string, data []byte) (*Scene, error) {
	s := &Scene{
		name:    name,
		replies: make(map[string]phases[[]*reply]),
		options: Options{Servers: 1},
	}
	for i, l := range bytes.Split(data, []byte("\n")) {
		if string(bytes.TrimSuffix(l, []byte("\r"))) == "-- --" { // txtar.Parse v1.16.0 panics on it
			return nil, s.errorf(i+1, "a section needs a name")
		}
	}
	archive := txtar.Parse(data)
	if len(archive.Files) == 0 {
		return nil, s.errorf(1, "no section such as \"-- zone --\": this is no world")
	}
	s.comment = strings.TrimSpace(string(archive.Comment))
	line := 1 + bytes.Count(archive.Comment, []byte("\n"))
	optionsSeen := false
	for _, f := range archive.Files {
		sec := section{title: f.Name, line: line, text: string(f.Data)}
		line += 1 + strings.Count(sec.text, "\n")
		if f.Name == "options" {
			if optionsSeen {
				return nil, s.errorf(sec.line, "section %q: a second one", f.Name)
			}
			optionsSeen = true
		}
		if at, err := s.parseSection(sec); err != nil {
			return nil, s.errorf(at, "section %q: %v", f.Name, err)
		}
	}
	for _, p := range s.faults {
		for _, f := range p.v {
			if f.server > s.options.Servers {
				return nil, s.errorf(f.line, "section \"dns\": no server @%d, there are %d (option servers)", f.server, s.options.Servers)
			}
		}
	}
	s.findEndpoints()
	if len(s.endpoints) > maxEndpoints {
		return nil, s.errorf(1, "%d addresses and ports to serve, at most %d are possible", len(s.endpoints), maxEndpoints)
	}
	return s, nil
}

// Name is the name that was given to Parse or Load.
func (s *Scene) Name() string { return s.name }

// Comment is the text before the first section.
func (s *Scene) Comment() string { return s.comment }

// Options are the settings of the section "options".
func (s *Scene) Options() Options {
	o := s.options
	o.AllowNets = slices.Clone(o.AllowNets)
	return o
}

// Checks are what to expect of checks of names, in the order of the file.
func (s *Scene) Checks() []Check { return slices.Clone(s.checks) }

// Script is what to do and to expect, in the order of the file.
func (s *Scene) Script() []Step { return slices.Clone(s.script) }

func (s *Scene) errorf(line int, format string, args ...any) error {
	return fmt.Errorf("%s:%d: "+format, append([]any{s.name, line}, args...)...)
}

type section struct {
	title string
	line  int // of the title
	text  string
}

// lines calls f for every line that is neither empty nor a comment, with its fields. It stops at
// the first error and returns its line.
func (sec section) lines(f func(line int, text string, fields []string) error) (int, error) {
	for i, text := range strings.Split(sec.text, "\n") {
		text = strings.TrimSpace(text)
		if text == "" || text[0] == '#' {
			continue
		}
		line := sec.line + 1 + i
		if err := f(line, text, strings.Fields(text)); err != nil {
			return line, err
		}
	}
	return sec.line, nil
}

func (sec section) empty() error {
	_, err := sec.lines(func(int, string, []string) error { return fmt.Errorf("it must have no content") })
	return err
}

// parseSection returns an error with its line.
func (s *Scene) parseSection(sec section) (int, error) {
	words := strings.Fields(sec.title) // at least one: txtar sees no section without a name
	switch words[0] {
	case "options":
		if len(words) > 1 {
			return sec.line, fmt.Errorf("nothing may follow the word options")
		}
		return sec.lines(func(_ int, _ string, f []string) error { return s.parseOption(f) })
	case "check":
		c, line, err := parseCheck(s.name, strings.TrimSpace(sec.title[len(words[0]):]), sec)
		if err == nil {
			s.checks = append(s.checks, c)
		}
		return line, err
	case "resolve", "parallel", "forget", "advance", "asked":
		step, line, err := parseStep(s.name, words[0], strings.TrimSpace(sec.title[len(words[0]):]), sec)
		if err == nil {
			s.script = append(s.script, step)
		}
		return line, err
	}

	var from time.Duration
	if n := len(words); n >= 3 && words[n-2] == "from" {
		d, err := duration(words[n-1])
		if err != nil {
			return sec.line, err
		}
		from, words = d, words[:n-2]
	}
	var at []netip.AddrPort
	for len(words) > 2 && strings.HasPrefix(words[len(words)-1], "@") {
		a, err := parseEndpoint(words[len(words)-1][1:])
		if err != nil {
			return sec.line, err
		}
		if slices.Contains(at, a) {
			return sec.line, fmt.Errorf("%v stands there twice", a)
		}
		at, words = append(at, a), words[:len(words)-1]
	}
	switch {
	case len(words) == 2 && methods[words[0]]:
		return s.parseReplySection(words[0], words[1], at, from, sec)
	case len(words) == 2 && words[0] == "matrix":
		return s.parseMatrixSection(words[1], at, from, sec)
	case len(words) > 1:
		return sec.line, fmt.Errorf("unknown section")
	}
	switch words[0] {
	case "zone":
		z, line, err := parseZone(sec)
		if err != nil {
			return line, err
		}
		return sec.line, s.zones.add(from, z)
	case "dns":
		var faults []*dnsFault
		line, err := sec.lines(func(line int, _ string, f []string) error {
			fault, err := parseDNSFault(f)
			if err == nil {
				fault.line = line
				faults = append(faults, fault)
			}
			return err
		})
		if err != nil {
			return line, err
		}
		return sec.line, s.faults.add(from, faults)
	case "servers":
		servers := make(map[netip.AddrPort]serverOptions)
		line, err := sec.lines(func(_ int, _ string, f []string) error {
			at, o, err := parseServer(f)
			if err != nil {
				return err
			}
			if _, ok := servers[at]; ok {
				return fmt.Errorf("a second line for %v", at)
			}
			servers[at] = o
			return nil
		})
		if err != nil {
			return line, err
		}
		return sec.line, s.servers.add(from, servers)
	}
	return sec.line, fmt.Errorf("unknown section")
}

// parseReplySection adds what a URL answers, everywhere or at some servers.
func (s *Scene) parseReplySection(method, url string, at []netip.AddrPort, from time.Duration, sec section) (int, error) {
	host, path, err := parseURL(url)
	if err != nil {
		return sec.line, err
	}
	rep, line, err := parseReply(sec)
	if err != nil {
		return line, err
	}
	rep.host, rep.at = host, at
	keys := []string{replyKey(method, netip.AddrPort{}, host, path)}
	if len(at) > 0 {
		keys = nil
		for _, a := range at {
			keys = append(keys, replyKey(method, a, host, path))
		}
	}
	for _, key := range keys {
		own := *rep // each server counts for itself
		group := s.replies[key]
		if i := group.index(from); i >= 0 {
			group[i].v = append(group[i].v, &own)
			continue
		}
		if err := group.add(from, []*reply{&own}); err != nil {
			return line, err
		}
		s.replies[key] = group
	}
	return line, nil
}

func (s *Scene) parseOption(f []string) (err error) {
	o := &s.options
	key, value := f[0], ""
	want := 2
	if key == "lenient-srv" || key == "virtual" {
		want = 1
	}
	if len(f) == 2 {
		value = f[1]
	}
	if len(f) != want {
		return fmt.Errorf("option %q: unknown, or not this many words", key)
	}
	switch key {
	case "rules":
		if o.Rules = value; value != "current" && value != "draft-2019" {
			err = fmt.Errorf("rules are current or draft-2019, not %q", value)
		}
	case "lenient-srv":
		o.LenientSRV = true
	case "virtual":
		o.Virtual = true
	case "allow-net":
		var p netip.Prefix
		if p, err = netip.ParsePrefix(value); err == nil {
			o.AllowNets = append(o.AllowNets, p)
		}
	case "timeout":
		o.Timeout, err = duration(value)
	case "dns-timeout":
		o.DNSTimeout, err = duration(value)
	case "dns-attempts":
		o.DNSAttempts, err = number(value, 1, 100)
	case "servers":
		o.Servers, err = number(value, 1, maxDNSServers)
	default:
		err = fmt.Errorf("unknown option %q", key)
	}
	return err
}

var methods = map[string]bool{"GET": true, "HEAD": true, "POST": true, "PUT": true, "DELETE": true, "OPTIONS": true}

// replyKey gives the key of Scene.replies for a URL; at is not valid where the reply is that of
// every server.
func replyKey(method string, at netip.AddrPort, host authority, path string) string {
	selector := ""
	if at.IsValid() {
		selector = "@" + at.String() + " "
	}
	return method + " " + selector + host.String() + path
}

// parseURL takes a URL apart.
func parseURL(text string) (host authority, path string, err error) {
	u, err := url.Parse(text)
	if err != nil {
		return host, "", fmt.Errorf("not a URL: %q", text)
	}
	if u.Scheme != "https" || u.User != nil || u.Fragment != "" || u.Opaque != "" || !strings.HasPrefix(u.EscapedPath(), "/") {
		return host, "", fmt.Errorf("%q is not of the form https://host[:port]/path", text)
	}
	host, ok := parseAuthority(u.Host, 443)
	if !ok {
		return host, "", fmt.Errorf("%q has no good host and port", text)
	}
	return host, u.RequestURI(), nil
}

// parseEndpoint reads an address and port.
func parseEndpoint(text string) (netip.AddrPort, error) {
	at, err := netip.ParseAddrPort(text)
	if err != nil || at.Port() == 0 || at.Addr().Zone() != "" {
		return at, fmt.Errorf("%q is not an address and port", text)
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), nil
}

// An authority is the host and port of a URL or of a Host header, in lower case and with the
// port always there.
type authority struct {
	host string // without brackets
	port uint16
}

func (a authority) String() string {
	if strings.Contains(a.host, ":") {
		return "[" + a.host + "]:" + strconv.Itoa(int(a.port))
	}
	return a.host + ":" + strconv.Itoa(int(a.port))
}

func parseAuthority(text string, port uint16) (authority, bool) {
	host := strings.ToLower(text)
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		n, err := number(host[i+1:], 1, 65535)
		if err != nil {
			return authority{}, false
		}
		host, port = host[:i], uint16(n)
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		ip, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		return authority{ip.String(), port}, err == nil && strings.HasSuffix(inner, "]") && ip.Is6() && ip.Zone() == ""
	}
	return authority{host, port}, host != "" && !strings.ContainsAny(host, ":[]")
}

// findEndpoints lists what must be served: what the replies lead to at any time, and what the
// sections "servers" name.
func (s *Scene) findEndpoints() {
	found := make(map[netip.AddrPort]bool)
	s.onlyHTTP1 = make(map[string]bool)
	for _, p := range s.servers {
		for at := range p.v {
			found[at] = true
		}
	}
	for _, group := range s.replies {
		for _, p := range group {
			for _, rep := range p.v {
				for _, at := range s.servedAt(rep.host, rep.at) {
					found[at] = true
				}
				if rep.byHand() {
					s.onlyHTTP1[rep.host.host] = true
				}
			}
		}
	}
	for _, g := range s.matrix {
		for _, at := range s.servedAt(g.host, g.at) {
			found[at] = true
		}
	}
	for at := range found {
		s.endpoints = append(s.endpoints, at)
	}
	slices.SortFunc(s.endpoints, netip.AddrPort.Compare)
}

// servedAt are the servers of a section: those that it names, or else those that its URL leads to
// at any time.
func (s *Scene) servedAt(host authority, at []netip.AddrPort) []netip.AddrPort {
	if len(at) > 0 {
		return at
	}
	for _, a := range s.addresses(host.host) {
		at = append(at, netip.AddrPortFrom(a, host.port))
	}
	return at
}

// addresses are those that host has at any time, or the one that it is.
func (s *Scene) addresses(host string) []netip.Addr {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}
	}
	var all []netip.Addr
	for _, p := range s.zones {
		for _, a := range p.v.addresses(host) {
			if !slices.Contains(all, a) {
				all = append(all, a)
			}
		}
	}
	return all
}

func duration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a duration such as 900s", text)
	}
	return d, nil
}

func number(text string, low, high int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high || text[0] == '+' || text[0] == '-' {
		return 0, fmt.Errorf("%q is not a number from %d to %d", text, low, high)
	}
	return n, nil
}
