// Package servername holds the grammar of a Matrix server name: a DNS name, an
// IPv4 address or an IPv6 address in brackets, with or without a port
// (Matrix specification, appendices, "Server Name").
//
// Names come from strangers: out of a user ID, an event, an m.server field.
// [Parse] therefore takes what can be resolved and dialled, and this is less
// than the grammar alone would let through:
//
//   - a port is between 1 and 65535;
//   - a DNS name has labels of 1 to 63 letters, digits and hyphens, at most 253
//     bytes in all, and no dot at its end (RFC 1035, 2.3.4);
//   - a name whose last label is all digits must be an IPv4 address with four
//     numbers from 0 to 255 and no leading zeros. No such DNS name can exist,
//     and some resolvers read 127.1 or 017.0.0.1 as an address.
//
// International names are taken in their ASCII form (xn--) only and never
// converted. Server names are compared case-sensitively, while DNS and TLS are not:
// [Name.String] and [Name.Host] repeat what was given, [Name.DNSName] folds the case.
package servername

import (
	"net/netip"
	"strings"
	"unicode/utf8"

	"mxdiscover/internal/printable"
)

const (
	// maxDNSName is the longest DNS name in text: 255 bytes on the wire less
	// the first length byte and the root (RFC 1035, 2.3.4).
	maxDNSName = 253
	// maxLabel is the longest label of a DNS name (RFC 1035, 2.3.4).
	maxLabel = 63
	// maxPortDigits: port = 1*5DIGIT (appendices, Server Name).
	maxPortDigits = 5
	// maxName is a longest DNS name, a colon and a longest port. An IPv6 address has
	// at most 45 characters and so stays below. Nothing longer is read at all.
	maxName = maxDNSName + 1 + maxPortDigits
	// maxQuoted bounds how much of an invalid name the error's text repeats, in
	// bytes: a line of a terminal.
	maxQuoted = 80
)

// A Name is a valid server name. Two Names are equal if they were given in the
// same bytes: Example.org and example.org differ, as do h:8448 and h:08448. The
// zero Name is no name: its methods return zero values.
type Name struct {
	text string
	dns  string     // for DNS in lower case; an IPv4 address as given; empty for IPv6
	addr netip.Addr // of an IP literal
	host uint16     // length of the host in text, at most maxName
	port uint16     // 0 for none: no valid port is 0
}

// An Error says why a text is not a server name.
type Error struct {
	Input   string // as given, of any length and content
	Problem string // what is wrong, in a few words of this package; never a part of Input
}

// Error returns one line. It quotes the input, cut to 80 bytes.
func (e *Error) Error() string {
	return "invalid server name " + printable.Quote(e.Input, maxQuoted) + ": " + e.Problem
}

// What can be wrong. These texts are read by people; no program should compare them.
const (
	probEmpty       = "it is empty"
	probLong        = "it is longer than any DNS name with a port"
	probURL         = "a server name is not a URL: leave out the scheme and the path"
	probMXID        = "it looks like a Matrix ID: the server name is the part after the first colon"
	probUser        = "a server name has no user part: leave out everything up to the @"
	probPath        = "a server name has no path, query or fragment"
	probBareIPv6    = "put the IPv6 address in [ ]"
	probNoHost      = "there is no host before the port"
	probNonASCII    = "it is not ASCII: give an international name in its xn-- form"
	probUnderscore  = "a host name has no underscore"
	probPercent     = "there is no percent-encoding in a server name"
	probSpace       = "it holds white space or a control character"
	probChar        = "a host name has only letters, digits, hyphens and dots"
	probTrailingDot = "leave out the dot at the end"
	probEmptyLabel  = "a label between the dots is empty"
	probLabel       = "a label is longer than 63 bytes"
	probDNSName     = "the host name is longer than 253 bytes"
	probIPv4        = "a name that ends in a number must be an IPv4 address: four numbers from 0 to 255 without leading zeros"
	probNoPort      = "there is no port after the colon"
	probPortDigits  = "the port is not a number"
	probPortLong    = "the port has more than five digits"
	probPortRange   = "the port is not between 1 and 65535"
	probUnclosed    = "the closing ] is missing"
	probZone        = "an address with a zone means nothing to other machines: leave out the % and what follows"
	probIPv6        = "there is no valid IPv6 address in the [ ]"
	probIPv4Bracket = "an IPv4 address stands without [ ]"
	probAfterLit    = "only a colon and a port may follow the ]"
)

// Parse reads a server name. The error, if any, is an [*Error].
func Parse(s string) (Name, error) {
	n, problem := parse(s)
	if problem != "" {
		return Name{}, &Error{Input: s, Problem: explain(s, problem)}
	}
	return n, nil
}

// parse goes over s once and names the first thing that is wrong.
func parse(s string) (Name, string) {
	if s == "" {
		return Name{}, probEmpty
	}
	if len(s) > maxName {
		return Name{}, probLong
	}
	if s[0] == '[' {
		return parseIPv6(s)
	}

	var (
		label  int      // where the current label starts
		digits = true   // the current label has only digits so far
		upper  bool     // there is an upper-case letter
		end    = len(s) // of the host
		port   uint16   // 0 for none
	)
scan:
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', c == '-':
			digits = false
		case '0' <= c && c <= '9':
		case c == '.':
			if problem := checkLabel(s[label:i]); problem != "" {
				return Name{}, problem
			}
			label, digits = i+1, true
		case 'A' <= c && c <= 'Z':
			digits, upper = false, true
		case c == ':':
			end = i
			break scan
		default:
			return Name{}, charProblem(c)
		}
	}
	switch {
	case end == 0:
		return Name{}, probNoHost
	case label == end && s[end-1] == '.':
		return Name{}, probTrailingDot
	case end > maxDNSName:
		return Name{}, probDNSName
	}
	if problem := checkLabel(s[label:end]); problem != "" {
		return Name{}, problem
	}
	if end < len(s) {
		var problem string
		if port, problem = parsePort(s[end+1:]); problem != "" {
			return Name{}, problem
		}
	}

	n := Name{text: s, dns: s[:end], host: uint16(end), port: port}
	if digits {
		// IPv4address is the strict form only: ParseAddr takes neither another
		// count of numbers nor a leading zero.
		addr, err := netip.ParseAddr(n.dns)
		if err != nil {
			return Name{}, probIPv4
		}
		n.addr = addr
	}
	if upper {
		n.dns = strings.ToLower(n.dns)
	}
	return n, ""
}

// parseIPv6 reads "[" IPv6address "]" [ ":" port ].
func parseIPv6(s string) (Name, string) {
	end := strings.IndexByte(s, ']')
	if end < 0 {
		return Name{}, probUnclosed
	}
	inside := s[1:end]
	for i := 0; i < len(inside); i++ {
		if c := inside[i]; c == '%' {
			// ParseAddr would take a zone; IPv6char has no '%'.
			return Name{}, probZone
		} else if !isIPv6Char(c) {
			return Name{}, probIPv6
		}
	}
	addr, err := netip.ParseAddr(inside)
	switch {
	case err != nil:
		return Name{}, probIPv6
	case !addr.Is6():
		return Name{}, probIPv4Bracket
	}
	n := Name{text: s, addr: addr, host: uint16(end + 1)}
	if rest := s[end+1:]; rest != "" {
		if rest[0] != ':' {
			return Name{}, probAfterLit
		}
		var problem string
		if n.port, problem = parsePort(rest[1:]); problem != "" {
			return Name{}, problem
		}
	}
	return n, ""
}

// parsePort reads 1*5DIGIT. The grammar takes leading zeros, and so does it.
func parsePort(s string) (uint16, string) {
	if s == "" {
		return 0, probNoPort
	}
	v := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c < '0' || c > '9' {
			if c <= ' ' || c == 0x7f {
				return 0, probSpace
			}
			return 0, probPortDigits
		}
		if i < maxPortDigits {
			v = v*10 + int(c-'0')
		}
	}
	switch {
	case len(s) > maxPortDigits:
		return 0, probPortLong
	case v < 1 || v > 65535:
		return 0, probPortRange
	}
	return uint16(v), ""
}

func checkLabel(label string) string {
	switch {
	case label == "":
		return probEmptyLabel
	case len(label) > maxLabel:
		return probLabel
	}
	return ""
}

// isIPv6Char is IPv6char of the grammar: DIGIT / A-F / a-f / ":" / ".".
func isIPv6Char(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' || c == ':' || c == '.'
}

// charProblem names what is wrong with a byte that no host name has.
func charProblem(c byte) string {
	switch {
	case c >= utf8.RuneSelf:
		return probNonASCII
	case c <= ' ' || c == 0x7f:
		return probSpace
	case c == '_':
		return probUnderscore
	case c == '%':
		return probPercent
	}
	return probChar
}

// explain replaces the first thing that parse met by what the text as a whole
// seems to be, where this helps more: "https://t" is a URL rather than a name
// with a bad port.
func explain(s, problem string) string {
	switch {
	case s == "" || len(s) > maxName:
		return problem
	case strings.Contains(s, "://"):
		return probURL
	case strings.IndexByte("@!#$+", s[0]) >= 0: // sigils (appendices, Common Identifier Format)
		return probMXID
	case strings.IndexByte(s, '@') >= 0:
		return probUser
	case isBareIPv6(s):
		return probBareIPv6
	case strings.ContainsAny(s, "/?#"):
		return probPath
	}
	return problem
}

// isBareIPv6 recognises an IPv6 address without brackets, also one with a zone.
func isBareIPv6(s string) bool {
	addr, err := netip.ParseAddr(s)
	return err == nil && addr.Is6()
}

// String returns the name as given, byte for byte.
func (n Name) String() string { return n.text }

// Host returns the name as given without its port. An IPv6 address keeps its
// brackets, as a Host header needs them.
func (n Name) Host() string { return n.text[:n.host] }

// DNSName returns what to ask DNS for, what the certificate must be valid for
// and what to use as a cache key: the host in lower case. For an IP literal it is
// the canonical text of the address, without brackets (RFC 5952).
func (n Name) DNSName() string {
	if n.addr.Is6() {
		return n.addr.String()
	}
	return n.dns
}

// Addr returns the address of an IP literal, and the zero Addr for a DNS name.
// An IPv4-mapped address stays an IPv6 address.
func (n Name) Addr() netip.Addr { return n.addr }

// IsIP tells whether the host is an IP literal.
func (n Name) IsIP() bool { return n.addr.IsValid() }

// Port returns the port, and whether the name has one.
func (n Name) Port() (port uint16, ok bool) { return n.port, n.port != 0 }
