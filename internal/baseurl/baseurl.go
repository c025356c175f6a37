// Package baseurl reads and cleans the base URLs of the client-server API: what
// m.homeserver and m.identity_server name, and what a portal sends clients to.
//
// A base URL is absolute, has the scheme http or https and a host, and may have
// a port and a path; "/_matrix/..." is appended to it (Client-Server API,
// "Well-known URIs", 3.5.3: with or without a trailing slash).
package baseurl

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxLength is the longest base URL that is read or made, in bytes: RFC
	// 9110, 4.1 wants 8000 supported, of which the path to append needs some.
	maxLength = 8000 - 100
	// maxDNSName and maxLabel are the limits of DNS in text (RFC 1035, 2.3.4).
	maxDNSName = 253
	maxLabel   = 63
)

// URL is a clean base URL: scheme and host in lower case, no default port, no
// trailing slash, no user info, query or fragment. The zero URL is none. What
// String gives is read as the same URL again.
type URL struct {
	scheme, host, path string
	port               uint16 // 0 if it is that of the scheme

	// Stripped says that user info, a query or a fragment was dropped.
	Stripped bool
}

// Errors of [Parse]. Their texts are for people and repeat nothing of the input.
var (
	ErrTooLong  = errors.New("it is too long")
	ErrSyntax   = errors.New("it is not a URL")
	ErrRelative = errors.New("it has no scheme and host")
	ErrScheme   = errors.New("its scheme is neither http nor https")
	ErrHost     = errors.New("its host is not valid")
	ErrPort     = errors.New("its port is not between 1 and 65535")
)

// Parse reads a base URL and cleans it. Escapes in the path stay as they are;
// what is no character of a URL (RFC 3986, 3.3) is escaped, and dot segments are
// removed (RFC 3986, 5.2.4), as every browser does.
func Parse(text string) (URL, error) {
	if len(text) > maxLength {
		return URL{}, ErrTooLong
	}
	// net/url takes spaces, and bytes that are no characters.
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsGraphic(r) }) {
		return URL{}, ErrSyntax
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return URL{}, ErrSyntax
	case u.Scheme == "":
		return URL{}, ErrRelative
	case u.Scheme != "http" && u.Scheme != "https":
		return URL{}, ErrScheme
	case u.Host == "":
		return URL{}, ErrRelative
	}
	b := URL{scheme: u.Scheme, host: strings.Map(lower, u.Hostname())}
	if b.host == "" || !validHost(b.host, strings.HasPrefix(u.Host, "[")) {
		return URL{}, ErrHost
	}
	if port := u.Port(); port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return URL{}, ErrPort
		}
		if b.port = uint16(n); b.port == b.defaultPort() {
			b.port = 0
		}
	}
	// Of the text itself: net/url keeps either the escapes as they were or the
	// characters that must be escaped.
	_, rest, _ := strings.Cut(text, "//")
	if end := strings.IndexAny(rest, "?#"); end >= 0 {
		rest = rest[:end]
	}
	_, path, _ := strings.Cut(rest, "/")
	b.path = cleanPath(path)
	if len(b.String()) > maxLength {
		return URL{}, ErrTooLong
	}
	b.Stripped = u.User != nil || strings.ContainsAny(text, "?#")
	return b, nil
}

// cleanPath takes what follows the first slash. It removes dot segments and
// slashes at the end, and escapes what must be.
func cleanPath(path string) string {
	var kept []string
	for segment := range strings.SplitSeq(path, "/") {
		switch segment {
		case ".":
		case "..":
			kept = kept[:max(len(kept)-1, 0)]
		default:
			kept = append(kept, escape(segment))
		}
	}
	clean := strings.TrimRight(strings.Join(kept, "/"), "/")
	if clean == "" {
		return ""
	}
	return "/" + clean
}

// escape escapes what is neither a pchar nor an escape (RFC 3986, 3.3).
func escape(segment string) string {
	const hex = "0123456789ABCDEF"
	var out strings.Builder
	for _, c := range []byte(segment) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~!$&'()*+,;=:@%", c) >= 0:
			out.WriteByte(c)
		default:
			out.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return out.String()
}

// lower folds ASCII alone: strings.ToLower makes a k of the Kelvin sign, and so
// another host of this one.
func lower(r rune) rune {
	if 'A' <= r && r <= 'Z' {
		r += 'a' - 'A'
	}
	return r
}

// validHost takes DNS names and IP addresses; what is not ASCII must have been
// turned into an A-label by whoever published it.
func validHost(host string, bracketed bool) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Is4() && !bracketed || addr.Is6() && bracketed && addr.Zone() == ""
	}
	host = strings.TrimSuffix(host, ".")
	if bracketed || len(host) > maxDNSName {
		return false
	}
	digits := false
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > maxLabel {
			return false
		}
		digits = true
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
			digits = digits && '0' <= c && c <= '9'
		}
	}
	// No top-level domain is a number: this is an address that some would read
	// as such, such as 127.1.
	return !digits
}

func (u URL) defaultPort() uint16 {
	if u.scheme == "http" {
		return 80
	}
	return 443
}

// IsZero reports whether u is no URL.
func (u URL) IsZero() bool { return u.scheme == "" }

// Insecure reports whether the scheme is http.
func (u URL) Insecure() bool { return u.scheme == "http" }

// Scheme is "http" or "https".
func (u URL) Scheme() string { return u.scheme }

// Host is the host without a port, IPv6 addresses without brackets.
func (u URL) Host() string { return u.host }

// Port is the port to connect to.
func (u URL) Port() uint16 {
	if u.port != 0 {
		return u.port
	}
	return u.defaultPort()
}

// Authority is the Host header: the host, in brackets if it is an IPv6 address,
// and the port unless it is that of the scheme.
func (u URL) Authority() string {
	if u.port != 0 {
		return net.JoinHostPort(u.host, strconv.Itoa(int(u.port)))
	}
	if strings.Contains(u.host, ":") {
		return "[" + u.host + "]"
	}
	return u.host
}

// Path is the path with its escapes and without a trailing slash; empty if there
// is none.
func (u URL) Path() string { return u.path }

// String gives the clean URL; empty for the zero URL.
func (u URL) String() string {
	if u.IsZero() {
		return ""
	}
	return u.scheme + "://" + u.Authority() + u.path
}

// Join appends a path, such as "/_matrix/client/versions".
func (u URL) Join(path string) string { return u.String() + path }
