package servername_test

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/servername"
)

var (
	label63 = strings.Repeat("a", 63)
	// dns253 has the longest form: 63+1+63+1+63+1+61.
	dns253 = strings.Join([]string{label63, label63, label63, label63[:61]}, ".")
)

// valid has every name of this test that must be taken, and what it means.
var valid = []struct {
	in   string
	host string
	dns  string
	ip   string // empty for a DNS name
	port uint16 // 0 for none
}{
	{in: "h", host: "h", dns: "h"},
	{in: "h:8448", host: "h", dns: "h", port: 8448},
	{in: "h:08448", host: "h", dns: "h", port: 8448}, // 1*5DIGIT allows leading zeros
	{in: "h:00001", host: "h", dns: "h", port: 1},
	{in: "h:1", host: "h", dns: "h", port: 1},
	{in: "h:443", host: "h", dns: "h", port: 443},
	{in: "h:65535", host: "h", dns: "h", port: 65535},
	{in: "matrix.example.org", host: "matrix.example.org", dns: "matrix.example.org"},
	{in: "EXAMPLE.com", host: "EXAMPLE.com", dns: "example.com"},
	{in: "Example.Com:443", host: "Example.Com", dns: "example.com", port: 443},
	{in: "xn--bcher-kva.com", host: "xn--bcher-kva.com", dns: "xn--bcher-kva.com"},
	{in: "xn--9s9hnf.ws", host: "xn--9s9hnf.ws", dns: "xn--9s9hnf.ws"}, // not IDNA2008, still letters, digits, hyphens
	{in: "-a.com", host: "-a.com", dns: "-a.com"},
	{in: "a-.com", host: "a-.com", dns: "a-.com"},
	{in: "-", host: "-", dns: "-"},
	{in: "r3---sn.com", host: "r3---sn.com", dns: "r3---sn.com"},
	{in: "1.2.3.4.example", host: "1.2.3.4.example", dns: "1.2.3.4.example"},
	{in: "1.2.3.4a", host: "1.2.3.4a", dns: "1.2.3.4a"},
	{in: "256.1.1.1.com", host: "256.1.1.1.com", dns: "256.1.1.1.com"},
	{in: "3com", host: "3com", dns: "3com"},
	{in: "0x7f.x1", host: "0x7f.x1", dns: "0x7f.x1"},
	{in: label63 + ".org", host: label63 + ".org", dns: label63 + ".org"},
	{in: dns253, host: dns253, dns: dns253},
	{in: dns253 + ":65535", host: dns253, dns: dns253, port: 65535},

	{in: "1.2.3.4", host: "1.2.3.4", dns: "1.2.3.4", ip: "1.2.3.4"},
	{in: "1.2.3.4:80", host: "1.2.3.4", dns: "1.2.3.4", ip: "1.2.3.4", port: 80},
	{in: "0.0.0.0", host: "0.0.0.0", dns: "0.0.0.0", ip: "0.0.0.0"}, // the guard refuses it, not the grammar
	{in: "255.255.255.255:1", host: "255.255.255.255", dns: "255.255.255.255", ip: "255.255.255.255", port: 1},

	{in: "[::1]", host: "[::1]", dns: "::1", ip: "::1"},
	{in: "[::1]:80", host: "[::1]", dns: "::1", ip: "::1", port: 80},
	{in: "[::]", host: "[::]", dns: "::", ip: "::"},
	{in: "[2001:db8::1]:443", host: "[2001:db8::1]", dns: "2001:db8::1", ip: "2001:db8::1", port: 443},
	{in: "[2001:DB8:0:0:0:0:0:1]", host: "[2001:DB8:0:0:0:0:0:1]", dns: "2001:db8::1", ip: "2001:db8::1"},
	{in: "[::ffff:1.2.3.4]", host: "[::ffff:1.2.3.4]", dns: "::ffff:1.2.3.4", ip: "::ffff:1.2.3.4"},
	{in: "[64:ff9b::1.2.3.4]:8448", host: "[64:ff9b::1.2.3.4]", dns: "64:ff9b::102:304", ip: "64:ff9b::102:304", port: 8448},
	{
		in: "[0000:0000:0000:0000:0000:ffff:255.255.255.255]:65535", host: "[0000:0000:0000:0000:0000:ffff:255.255.255.255]",
		dns: "::ffff:255.255.255.255", ip: "::ffff:255.255.255.255", port: 65535,
	},
}

// invalid has names that must be refused, and a part of what the error says.
var invalid = []struct{ in, problem string }{
	// Ports.
	{"h:0", "not between 1 and 65535"},
	{"h:00000", "not between 1 and 65535"},
	{"h:65536", "not between 1 and 65535"},
	{"h:99999", "not between 1 and 65535"},
	{"h:100000", "more than five digits"},
	{"h:008448", "more than five digits"},
	{"h:18446744073709551617", "more than five digits"}, // 2^64+1 must not come out as 1
	{"h:", "no port after the colon"},
	{"[::1]:", "no port after the colon"},
	{"1.2.3.4:", "no port after the colon"},
	{"h:http", "port is not a number"},
	{"h:-1", "port is not a number"},
	{"h:+80", "port is not a number"},
	{"h: 80", "white space"},
	{"h:80 ", "white space"},
	{"h:80\n", "white space"},
	{"h:8_0", "port is not a number"},
	{"h:٣", "port is not a number"},
	{"h:80:90", "port is not a number"},
	{"[::1]:0", "not between 1 and 65535"},
	{"[::1]:x", "port is not a number"},

	// Hosts.
	{"", "empty"},
	{":80", "no host before the port"},
	{":", "no host before the port"},
	{".", "label between the dots is empty"},
	{"under_score.com", "underscore"},
	{"_matrix-fed._tcp.h", "underscore"},
	{"per%65.com", "percent-encoding"},
	{"nl.com\n", "white space or a control character"},
	{".lead.com", "label between the dots is empty"},
	{"a..b", "label between the dots is empty"},
	{"h..", "label between the dots is empty"},
	{"h.", "leave out the dot"},
	{"h.:80", "leave out the dot"},
	{"1.2.3.4.", "leave out the dot"},
	{"bücher.com", "xn-- form"},
	{"h\xff", "xn-- form"},
	{"h。com", "xn-- form"}, // IDEOGRAPHIC FULL STOP, a dot for IDNA
	{"h\x00", "white space or a control character"},
	{"h\x7f", "white space or a control character"},
	{"h\tx", "white space or a control character"},
	{"a,b", "only letters, digits, hyphens and dots"},
	{"a;b", "only letters, digits, hyphens and dots"},
	{"*.example.org", "only letters, digits, hyphens and dots"},
	{"h]", "only letters, digits, hyphens and dots"},
	{"h[::1]", "only letters, digits, hyphens and dots"},
	{label63 + "a.org", "longer than 63 bytes"},
	{"org." + label63 + "a", "longer than 63 bytes"},
	{dns253 + "a", "longer than 253 bytes"},
	{dns253 + "a:80", "longer than 253 bytes"},
	{dns253 + ":655350", "longer than any DNS name"},
	{strings.Repeat("a.", 1<<16), "longer than any DNS name"},

	// The last label is all digits, and it is no IPv4 address.
	{"127.1", "four numbers"},
	{"2130706433", "four numbers"},
	{"256.1.1.1", "four numbers"},
	{"01.2.3.4", "four numbers"},
	{"1.2.3.04", "four numbers"},
	{"1.2.3", "four numbers"},
	{"1.2.3.4.5", "four numbers"},
	{"a.1", "four numbers"},
	{"0x7f.1", "four numbers"},
	{"127.1:80", "four numbers"},

	// IPv6.
	{"[fe80::1%eth0]", "zone"},
	{"[fe80::1%25eth0]", "zone"},
	{"[fe80::1%]", "zone"},
	{"::1", "put the IPv6 address in [ ]"},
	{"::1:8448", "put the IPv6 address in [ ]"},
	{"2001:db8::1", "put the IPv6 address in [ ]"},
	{"1:2:3:4:5:6:7:8", "put the IPv6 address in [ ]"},
	{"fe80::1%eth0", "put the IPv6 address in [ ]"},
	{"[::1", "closing ]"},
	{"[", "closing ]"},
	{"[]", "no valid IPv6 address"},
	{"[:]", "no valid IPv6 address"},
	{"[:::]", "no valid IPv6 address"},
	{"[1:2:3]", "no valid IPv6 address"},
	{"[00001::]", "no valid IPv6 address"},
	{"[::ffff:01.2.3.4]", "no valid IPv6 address"},
	{"[::ffff:256.2.3.4]", "no valid IPv6 address"},
	{"[::g]", "no valid IPv6 address"},
	{"[h]", "no valid IPv6 address"},
	{"[ ::1]", "no valid IPv6 address"},
	{"[[::1]]", "no valid IPv6 address"},
	{"[v1.fe80]", "no valid IPv6 address"}, // IPvFuture of RFC 3986
	{"[1.2.3.4]", "stands without [ ]"},
	{"[::1]8448", "only a colon and a port"},
	{"[::1]]", "only a colon and a port"},
	{"[::1].com", "only a colon and a port"},
	{"[::1] ", "only a colon and a port"},

	// Other things that people and documents put where a server name belongs.
	{"https://t", "not a URL"},
	{"matrix://h:80/x", "not a URL"},
	{"t/path", "no path"},
	{"t?x", "no path"},
	{"t#x", "no path"},
	{"t:8448/", "no path"},
	{"[::1]/x", "no path"},
	{"//t", "no path"},
	{"u:p@t:99", "no user part"},
	{"a@b:c", "no user part"},
	{"a@b", "no user part"},
	{"@user:host", "Matrix ID"},
	{"@a:[::1]:8448", "Matrix ID"},
	{"#room:host", "Matrix ID"},
	{"!room:host", "Matrix ID"},
	{" t ", "white space"},
	{"t\n", "white space"},
	{"t\r\nX: y", "white space"},
	{"bücher.example", "xn-- form"},
	{"t:0", "not between 1 and 65535"},
	{"t:", "no port after the colon"},
	{"t:65536", "not between 1 and 65535"},
	{"t:abc", "port is not a number"},
	{"un_der.example", "underscore"},
	{"t.", "leave out the dot"},
	{strings.Repeat("a", 262), "longer than any DNS name"},
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, tt := range valid {
		t.Run(strconv.Quote(tt.in), func(t *testing.T) {
			t.Parallel()
			n, err := servername.Parse(tt.in)
			require.NoError(t, err)
			assert.Equal(t, tt.in, n.String())
			assert.Equal(t, tt.host, n.Host())
			assert.Equal(t, tt.dns, n.DNSName())
			port, ok := n.Port()
			assert.Equal(t, tt.port, port)
			assert.Equal(t, tt.port != 0, ok)
			assert.Equal(t, tt.ip != "", n.IsIP())
			if tt.ip == "" {
				assert.Equal(t, netip.Addr{}, n.Addr())
			} else {
				assert.Equal(t, netip.MustParseAddr(tt.ip), n.Addr())
			}
			again, err := servername.Parse(tt.in)
			require.NoError(t, err)
			assert.True(t, n == again, "two names of the same bytes differ")
		})
	}
}

func TestParseInvalid(t *testing.T) {
	t.Parallel()
	for _, tt := range invalid {
		t.Run(strconv.Quote(tt.in[:min(len(tt.in), 40)]), func(t *testing.T) {
			t.Parallel()
			n, err := servername.Parse(tt.in)
			assert.Equal(t, servername.Name{}, n)
			var e *servername.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, tt.in, e.Input)
			assert.Contains(t, e.Problem, tt.problem)
			checkErrorText(t, e)
		})
	}
}

// checkErrorText holds for every error: one short line without control
// characters, however hostile the input.
func checkErrorText(t *testing.T, e *servername.Error) {
	t.Helper()
	text := e.Error()
	if strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) {
		t.Errorf("error text is not printable: %q", text)
	}
	if !strings.HasSuffix(text, ": "+e.Problem) || e.Problem == "" {
		t.Errorf("error text %q does not end in the problem %q", text, e.Problem)
	}
	// 80 bytes, each at most four when escaped, around them at most 150 of our own.
	if len(text) > 4*80+150 {
		t.Errorf("error text has %d bytes", len(text))
	}
}

func TestErrorText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"h:0":    `invalid server name "h:0": the port is not between 1 and 65535`,
		"t\r\nX": `invalid server name "t\r\nX": it holds white space or a control character`,
		// 80 bytes with quotes and dots, and the cut does not split a letter.
		strings.Repeat("a", 74) + "üxyz": `invalid server name "` + strings.Repeat("a", 74) + `"...: it is not ASCII: give an international name in its xn-- form`,
		strings.Repeat("a", 80) + "_":    `invalid server name "` + strings.Repeat("a", 75) + `"...: a host name has no underscore`,
		strings.Repeat("_", 78):          `invalid server name "` + strings.Repeat("_", 78) + `": a host name has no underscore`,
	} {
		_, err := servername.Parse(in)
		assert.EqualError(t, err, want)
	}
}

func TestNamesCompareByTheirBytes(t *testing.T) {
	t.Parallel()
	names := map[servername.Name]bool{}
	texts := []string{"example.org", "Example.org", "example.org:8448", "example.org:08448", "[::1]", "[0::1]", "1.2.3.4"}
	for _, s := range texts {
		n, err := servername.Parse(s)
		require.NoError(t, err)
		names[n] = true
	}
	assert.Len(t, names, len(texts))
}

func TestZeroName(t *testing.T) {
	t.Parallel()
	var n servername.Name
	assert.Empty(t, n.String())
	assert.Empty(t, n.Host())
	assert.Empty(t, n.DNSName())
	assert.False(t, n.IsIP())
	assert.Equal(t, netip.Addr{}, n.Addr())
	port, ok := n.Port()
	assert.Zero(t, port)
	assert.False(t, ok)
}

// TestParseAllocations is not parallel: testing.AllocsPerRun counts what the
// whole process allocates.
func TestParseAllocations(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want float64
	}{
		{"matrix.example.org", 0},
		{"matrix.example.org:8448", 0},
		{dns253 + ":65535", 0},
		{"1.2.3.4:80", 0},
		{"[2001:db8::1]:443", 0},
		{"[::ffff:1.2.3.4]", 0},
		{"[2001:DB8::1]", 0},
		{"Matrix.Example.ORG:8448", 1},
	} {
		got := testing.AllocsPerRun(100, func() {
			if _, err := servername.Parse(tt.in); err != nil {
				t.Error(err)
			}
		})
		assert.LessOrEqual(t, got, tt.want, tt.in)
	}
}

func FuzzParse(f *testing.F) {
	for _, tt := range valid {
		f.Add(tt.in)
	}
	for _, tt := range invalid {
		f.Add(tt.in)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := servername.Parse(s)
		if err != nil {
			var e *servername.Error
			if !errors.As(err, &e) || e.Input != s || n != (servername.Name{}) {
				t.Fatalf("Parse(%q) = %#v, %v", s, n, err)
			}
			checkErrorText(t, e)
			return
		}
		if n.String() != s {
			t.Errorf("String() = %q, want %q", n.String(), s)
		}
		if again, err := servername.Parse(n.String()); err != nil || again != n {
			t.Errorf("parsed again: %#v, %v, want %#v", again, err, n)
		}
		if i := strings.IndexFunc(n.Host(), notHost); i >= 0 || n.Host() == "" {
			t.Errorf("Host() = %q", n.Host())
		}
		if n.DNSName() == "" || n.DNSName() != strings.ToLower(n.DNSName()) {
			t.Errorf("DNSName() = %q", n.DNSName())
		}
		bare := strings.TrimSuffix(strings.TrimPrefix(n.Host(), "["), "]")
		if n.IsIP() {
			addr, err := netip.ParseAddr(bare)
			if err != nil || addr != n.Addr() || addr.Zone() != "" || n.DNSName() != addr.String() {
				t.Errorf("Addr() = %v, DNSName() = %q, the host parses as %v, %v", n.Addr(), n.DNSName(), addr, err)
			}
			if addr.Is6() != (n.Host() != bare) {
				t.Errorf("brackets: Host() = %q", n.Host())
			}
		} else {
			if !strings.EqualFold(n.DNSName(), n.Host()) || len(n.DNSName()) > 253 {
				t.Errorf("DNSName() = %q, Host() = %q", n.DNSName(), n.Host())
			}
			if addr, err := netip.ParseAddr(bare); err == nil {
				t.Errorf("%q is an address, %v, and taken for a DNS name", bare, addr)
			}
		}
		port, ok := n.Port()
		if ok != (port != 0) {
			t.Errorf("Port() = %d, %t", port, ok)
		}
		if !ok {
			if n.Host() != s {
				t.Errorf("Host() = %q without a port", n.Host())
			}
			return
		}
		host, text, err := net.SplitHostPort(s)
		if err != nil || host != bare {
			t.Fatalf("SplitHostPort = %q, %q, %v, want host %q", host, text, err, bare)
		}
		if v, err := strconv.ParseUint(text, 10, 16); err != nil || uint16(v) != port {
			t.Errorf("Port() = %d, the text is %q (%v)", port, text, err)
		}
	})
}

// notHost tells what must never reach a Host header.
func notHost(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune("/@?#%\\\"_,", r)
}

func BenchmarkParse(b *testing.B) {
	for _, in := range []string{"matrix.example.test0", "matrix.example.org:8448", "Matrix.Example.Org", "192.0.2.1", "[2001:db8::1]:8448", "t.", dns253} {
		b.Run(in[:min(len(in), 24)], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = servername.Parse(in)
			}
		})
	}
}
