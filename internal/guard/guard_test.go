package guard

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// addresses is what the default policy says; why is a part of the error's text,
// empty where the address may be dialled.
var addresses = []struct{ addr, why string }{
	{"8.8.8.8", ""},
	{"1.1.1.1", ""},
	{"9.255.255.255", ""},
	{"11.0.0.0", ""},
	{"172.15.255.255", ""},
	{"172.32.0.0", ""},
	{"192.0.1.0", ""},
	{"223.255.255.255", ""},
	{"2606:4700:4700::1111", ""},
	{"2001:200::1", ""}, // after 2001::/23
	{"2000::", ""},
	{"3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""},
	{"3fff:1000::", ""},

	{"0.0.0.0", `"This host on this network" (RFC 1122, Section 3.2.1.3), 0.0.0.0/32`},
	{"0.1.2.3", `"This network" (RFC 791, Section 3.2), 0.0.0.0/8`},
	{"10.0.0.1", "10.0.0.1 may not be dialled: Private-Use (RFC 1918), 10.0.0.0/8"},
	{"100.64.0.1", "Shared Address Space (RFC 6598), 100.64.0.0/10"},
	{"127.0.0.1", "Loopback"},
	{"127.255.255.255", "Loopback"},
	{"169.254.169.254", "Link Local"},
	{"172.31.255.255", "Private-Use"},
	{"192.168.1.1", "Private-Use"},
	{"192.0.0.1", "IPv4 Service Continuity Prefix (RFC 7335), 192.0.0.0/29"},
	{"192.0.0.9", "Port Control Protocol Anycast (RFC 7723), 192.0.0.9/32"}, // globally reachable, refused all the same
	{"192.31.196.1", "AS112-v4"},
	{"192.52.193.1", "AMT"},
	{"192.88.99.1", "Deprecated (6to4 Relay Anycast)"},
	{"224.0.0.1", "Multicast (RFC 5771), 224.0.0.0/4"},
	{"239.255.255.255", "Multicast"},
	{"240.0.0.1", "Reserved"},
	{"255.255.255.255", "Limited Broadcast (RFC 8190, RFC 919, Section 7), 255.255.255.255/32"},

	{"::", "Unspecified Address"},
	{"::1", "Loopback Address"},
	{"::2", `::2 (0.0.0.2) may not be dialled: "This network"`},
	{"fc00::1", "Unique-Local"},
	{"fdff::1", "Unique-Local"},
	{"fe80::1", "Link-Local Unicast"},
	{"fec0::1", "Deprecated (Site-Local) (RFC 3879), fec0::/10"},
	{"ff02::1", "Multicast (RFC 4291, Section 2.7), ff00::/8"},
	{"2001:db8::1", "Documentation (RFC 3849), 2001:db8::/32"},
	{"3fff::1", "Documentation (RFC 9637), 3fff::/20"},
	{"100::1", "Discard-Only"},
	{"100:0:0:1::1", "Dummy IPv6 Prefix"},
	{"100:0:0:2::1", "Outside Global Unicast (RFC 4291, Section 2.4), ::/3"},
	{"5f00::1", "Segment Routing (SRv6) SIDs"},
	{"4000::1", "Outside Global Unicast (RFC 4291, Section 2.4), 4000::/3"},
	{"1fff:ffff::", "Outside Global Unicast"},
	{"::ffff:0:8.8.8.8", "Outside Global Unicast"}, // IPv4-translated (RFC 2765), no longer in use
	{"64:ff9b:0:0:1::808:808", "Outside Global"},   // beside the /96
	{"2001::1", "TEREDO (RFC 4380, RFC 8190)"},     // Teredo hides IPv4 addresses, two of them
	{"2001:0:808:808::f7f7:f7f7", "TEREDO"},        // and of whatever value
	{"64:ff9b:1::8.8.8.8", "IPv4-IPv6 Translat. (RFC 8215), 64:ff9b:1::/48"},
	{"2001:1ff:ffff::", "IETF Protocol Assignments"},
	{"2620:4f:8000::1", "Direct Delegation AS112 Service"},

	{"::ffff:8.8.8.8", ""},
	{"::8.8.8.8", ""},
	{"2002:808:808::1", ""},
	{"64:ff9b::8.8.8.8", ""},
	{"::ffff:10.0.0.1", "::ffff:10.0.0.1 (10.0.0.1) may not be dialled: Private-Use (RFC 1918), 10.0.0.0/8"},
	{"::127.0.0.1", "(127.0.0.1) may not be dialled: Loopback"},
	{"2002:7f00:1::", "2002:7f00:1:: (127.0.0.1) may not be dialled: Loopback (RFC 1122, Section 3.2.1.3), 127.0.0.0/8"},
	{"64:ff9b::a9fe:a9fe", "(169.254.169.254) may not be dialled: Link Local"},
	{"::ffff:0.0.0.0", `"This host on this network"`},
	{"2002::", `"This host on this network"`},
	{"64:ff9b::", `"This host on this network"`},

	{"fe80::1%eth0", "fe80::1 may not be dialled: address with a zone"},
	{"2606:4700:4700::1111%1", "2606:4700:4700::1111 may not be dialled: address with a zone"},
	{"::ffff:8.8.8.8%1", "::ffff:8.8.8.8 (8.8.8.8) may not be dialled: address with a zone"},
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, tt := range addresses {
		t.Run(tt.addr, func(t *testing.T) {
			t.Parallel()
			a := netip.MustParseAddr(tt.addr)
			err := Guard{}.Check(a)
			if tt.why == "" {
				require.NoError(t, err)
				return
			}
			var denied *DeniedError
			require.ErrorAs(t, err, &denied)
			assert.Contains(t, err.Error(), tt.why)
			assert.Equal(t, a, denied.Addr)
			assert.Equal(t, Unwrap(a), denied.Unwrapped)
			if denied.Network.IsValid() {
				assert.True(t, denied.Network.Contains(denied.Unwrapped))
			}
		})
	}
}

func TestCheckNoAddress(t *testing.T) {
	t.Parallel()
	everything := Guard{Allow: prefixes("0.0.0.0/0", "::/0")}
	for _, g := range []Guard{{}, everything} {
		assert.EqualError(t, g.Check(netip.Addr{}), "may not be dialled: no address")
	}
}

func TestUnwrap(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"8.8.8.8":                "8.8.8.8",
		"::":                     "::",
		"::1":                    "::1",
		"::2":                    "0.0.0.2",
		"::1.2.3.4":              "1.2.3.4",
		"::ffff:1.2.3.4":         "1.2.3.4",
		"::ffff:0.0.0.0":         "0.0.0.0",
		"2002:102:304::":         "1.2.3.4",
		"2002:102:304:ffff::1":   "1.2.3.4",
		"2003:102:304::":         "2003:102:304::",
		"64:ff9b::1.2.3.4":       "1.2.3.4",
		"64:ff9b::1:1.2.3.4":     "64:ff9b::1:102:304",
		"64:ff9b:1::1.2.3.4":     "64:ff9b:1::102:304",
		"::1:1.2.3.4":            "::1:102:304",
		"::ffff:0:1.2.3.4":       "::ffff:0:102:304",
		"2001:0:102:304::":       "2001:0:102:304::",
		"2606:4700:4700::1111":   "2606:4700:4700::1111",
		"fe80::1%eth0":           "fe80::1%eth0",
		"::ffff:1.2.3.4%eth0":    "1.2.3.4",
		"64:ff9b::1.2.3.4%zone7": "1.2.3.4",
	} {
		assert.Equal(t, netip.MustParseAddr(want), Unwrap(netip.MustParseAddr(in)), in)
	}
	assert.Equal(t, netip.Addr{}, Unwrap(netip.Addr{}))
}

func TestAllow(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		allow   []netip.Prefix
		opened  []string
		refused []string
	}{
		{
			name:    "IPv4",
			allow:   prefixes("10.0.0.0/8"),
			opened:  []string{"10.1.1.1", "::ffff:10.1.1.1", "::10.1.1.1", "2002:a01:101::1", "64:ff9b::10.1.1.1", "8.8.8.8"},
			refused: []string{"192.168.0.1", "127.0.0.1", "::1", "::ffff:192.168.0.1"},
		},
		{
			name:    "host bits set",
			allow:   prefixes("10.9.9.9/8"),
			opened:  []string{"10.1.1.1"},
			refused: []string{"127.0.0.1", "::1"},
		},
		{
			name:    "mapped",
			allow:   prefixes("::ffff:10.0.0.0/104", "::ffff:192.168.1.1/128"),
			opened:  []string{"10.1.1.1", "::ffff:10.1.1.1", "192.168.1.1"},
			refused: []string{"192.168.1.2", "127.0.0.1", "::1"},
		},
		{
			name:    "all of IPv4, mapped",
			allow:   prefixes("::ffff:0:0/96"),
			opened:  []string{"10.1.1.1", "127.0.0.1", "255.255.255.255", "0.0.0.1", "::2"},
			refused: []string{"0.0.0.0", "::ffff:0.0.0.0", "2002::1", "64:ff9b::", "::", "::1"},
		},
		{
			name:    "mapped, and more than IPv4",
			allow:   prefixes("::ffff:0:0/95"),
			refused: []string{"10.1.1.1", "::ffff:10.1.1.1", "::1"},
		},
		{
			name:    "IPv6",
			allow:   prefixes("fd00::/8", "::1/128"),
			opened:  []string{"fd00::1", "::1", "2606:4700:4700::1111"},
			refused: []string{"fc00::1", "fd00::1%eth0", "127.0.0.1", "::"},
		},
		{
			name:    "a form that carries IPv4 is not what counts",
			allow:   prefixes("2002::/16", "64:ff9b::/96", "::/96"),
			opened:  []string{"::1"}, // carries nothing
			refused: []string{"2002:7f00:1::", "64:ff9b::127.0.0.1", "::127.0.0.1", "::"},
		},
		{
			name:    "everything",
			allow:   prefixes("0.0.0.0/0", "::/0"),
			opened:  []string{"127.0.0.1", "::1", "224.0.0.1", "ff02::1", "4000::1", "2001::1", "64:ff9b:1::1", "0.0.0.1"},
			refused: []string{"0.0.0.0", "::", "::ffff:0.0.0.0", "2002::", "2002:0:0:1::1", "64:ff9b::", "fe80::1%eth0", "::%1"},
		},
		{
			name: "invalid",
			allow: []netip.Prefix{
				{},
				netip.PrefixFrom(netip.Addr{}, 0),
				netip.PrefixFrom(netip.MustParseAddr("10.0.0.0"), 33),
				netip.PrefixFrom(netip.MustParseAddr("10.0.0.0"), -1),
				netip.PrefixFrom(netip.MustParseAddr("::"), 129),
				netip.PrefixFrom(netip.MustParseAddr("::ffff:10.0.0.0"), 200),
				netip.PrefixFrom(netip.MustParseAddr("::ffff:10.0.0.0"), -5),
			},
			opened:  []string{"8.8.8.8"},
			refused: []string{"10.0.0.0", "10.0.0.1", "::ffff:10.0.0.1", "::1", "::", "fd00::1"},
		},
		{
			name:    "invalid beside valid",
			allow:   append([]netip.Prefix{{}}, prefixes("10.0.0.0/8")...),
			opened:  []string{"10.0.0.1"},
			refused: []string{"127.0.0.1"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := Guard{Allow: tt.allow}
			for _, a := range tt.opened {
				assert.NoError(t, g.Check(netip.MustParseAddr(a)), a)
			}
			for _, a := range tt.refused {
				var denied *DeniedError
				assert.ErrorAs(t, g.Check(netip.MustParseAddr(a)), &denied, a)
			}
		})
	}
}

func TestCheckAddrPort(t *testing.T) {
	t.Parallel()
	g := Guard{Allow: prefixes("127.0.0.0/8")}
	for _, ok := range []string{"8.8.8.8:443", "127.0.0.1:8448", "[2606:4700:4700::1111]:443", "[::ffff:127.0.0.1]:1"} {
		assert.NoError(t, g.CheckAddrPort(ok), ok)
	}
	for in, want := range map[string]string{
		"10.0.0.1:443":      "10.0.0.1 may not be dialled: Private-Use (RFC 1918), 10.0.0.0/8",
		"[::1]:443":         "::1 may not be dialled: Loopback Address (RFC 4291), ::1/128",
		"0.0.0.0:80":        `0.0.0.0 may not be dialled: "This host on this network" (RFC 1122, Section 3.2.1.3), 0.0.0.0/32`,
		"[fe80::1%eth0]:80": "fe80::1 may not be dialled: address with a zone",
		"[fe80::1%\n\r]:80": "fe80::1 may not be dialled: address with a zone",
		"":                  `may not be dialled: not an IP address and port: ""`,
		":8448":             `may not be dialled: not an IP address and port: ":8448"`,
		"8.8.8.8":           `may not be dialled: not an IP address and port: "8.8.8.8"`,
		"8.8.8.8:":          `may not be dialled: not an IP address and port: "8.8.8.8:"`,
		"8.8.8.8:http":      `may not be dialled: not an IP address and port: "8.8.8.8:http"`,
		"8.8.8.8:65536":     `may not be dialled: not an IP address and port: "8.8.8.8:65536"`,
		"2606:4700::1:443":  `may not be dialled: not an IP address and port: "2606:4700::1:443"`,
		"localhost:80":      `may not be dialled: not an IP address and port: "localhost:80"`,
		"127.1:80":          `may not be dialled: not an IP address and port: "127.1:80"`,
		"017.0.0.1:80":      `may not be dialled: not an IP address and port: "017.0.0.1:80"`,
		"a\nb:80":           `may not be dialled: not an IP address and port: "a\nb:80"`,
		strings.Repeat("a", 58) + "üb:80": `may not be dialled: not an IP address and port: "` +
			strings.Repeat("a", 58) + `"...`,
	} {
		err := g.CheckAddrPort(in)
		assert.EqualError(t, err, want, in)
		var denied *DeniedError
		assert.ErrorAs(t, err, &denied)
	}
}

func TestControl(t *testing.T) {
	t.Parallel()
	g := Guard{Allow: prefixes("127.0.0.0/8")}
	ctx := t.Context()
	for _, network := range []string{"tcp", "tcp4", "tcp6"} {
		assert.NoError(t, g.Control(ctx, network, "127.0.0.1:1", nil))
		assert.Error(t, g.Control(ctx, network, "10.0.0.1:1", nil))
		assert.Error(t, g.Control(ctx, network, "/run/socket", nil))
	}
	for _, network := range []string{"", "udp", "udp4", "udp6", "ip4:1", "unix", "TCP", "tcp5\n"} {
		err := g.Control(ctx, network, "127.0.0.1:1", nil)
		var denied *DeniedError
		require.ErrorAs(t, err, &denied)
		assert.EqualError(t, err, "may not be dialled: not a TCP network: "+strconv.Quote(network))
	}
}

// TestDialer shows the guard where it works: in a dialer, on the address that
// a name turned out to be, with the error coming through whole.
func TestDialer(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	require.NoError(t, err)

	dial := func(g Guard, addr string) error {
		d := net.Dialer{ControlContext: g.Control}
		conn, err := d.DialContext(t.Context(), "tcp", addr)
		if err == nil {
			err = conn.Close()
		}
		return err
	}
	loopback := Guard{Allow: prefixes("127.0.0.0/8")}
	assert.NoError(t, dial(loopback, "127.0.0.1:"+port))
	assert.NoError(t, dial(loopback, "[::ffff:127.0.0.1]:"+port))

	// The empty host and 0.0.0.0 would reach the local machine as well.
	everything := Guard{Allow: prefixes("0.0.0.0/0", "::/0")}
	for _, tt := range []struct {
		g    Guard
		addr string
		want netip.Addr
	}{
		{Guard{}, "127.0.0.1:" + port, netip.MustParseAddr("127.0.0.1")},
		{Guard{}, "[::ffff:127.0.0.1]:" + port, netip.MustParseAddr("127.0.0.1")},
		{everything, "0.0.0.0:" + port, netip.MustParseAddr("0.0.0.0")},
	} {
		var denied *DeniedError
		if assert.ErrorAs(t, dial(tt.g, tt.addr), &denied, tt.addr) {
			assert.Equal(t, tt.want, denied.Unwrapped, tt.addr)
		}
	}
}

// TestCheckAllocations is not parallel: testing.AllocsPerRun counts what the
// whole process allocates.
func TestCheckAllocations(t *testing.T) {
	g := Guard{Allow: prefixes("fd00::/8", "::ffff:10.0.0.0/104")}
	for _, s := range []string{"8.8.8.8", "10.0.0.1", "::ffff:10.0.0.1", "2606:4700:4700::1111", "fd00::1", "2002:808:808::1"} {
		a := netip.MustParseAddr(s)
		assert.Zero(t, testing.AllocsPerRun(100, func() {
			if err := g.Check(a); err != nil {
				t.Error(err)
			}
		}), s)
	}
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if err := g.Control(context.Background(), "tcp6", "[2606:4700:4700::1111]:443", nil); err != nil {
			t.Error(err)
		}
	}))
}

func FuzzCheck(f *testing.F) {
	for _, tt := range addresses {
		f.Add(netip.MustParseAddr(tt.addr).AsSlice())
	}
	for _, r := range tableRows() {
		f.Add(r.prefix.Addr().AsSlice())
		f.Add(last(r.prefix).AsSlice())
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := netip.AddrFromSlice(b)
		err := Guard{}.Check(a)
		if !ok {
			if err == nil {
				t.Fatal("no address, and allowed")
			}
			return
		}
		checkAnswer(t, a, err)
		if a.Is6() {
			if u := Unwrap(a); u.Is4() {
				sameAnswer(t, err, Guard{}.Check(u))
			}
			return
		}
		for _, form := range forms(a) {
			if Unwrap(form) != a {
				t.Errorf("Unwrap(%v) = %v, want %v", form, Unwrap(form), a)
			}
			for _, g := range []Guard{
				{},
				{Allow: prefixes("10.0.0.0/8", "127.0.0.1/32", "2002::/16", "::/0")},
				{Allow: prefixes("0.0.0.0/0")},
			} {
				sameAnswer(t, g.Check(form), g.Check(a))
			}
		}
	})
}

// checkAnswer holds for every answer of the default policy: a refusal names what
// decided on one line, and opening that very network, and nothing else, lets the
// address through.
func checkAnswer(t *testing.T, a netip.Addr, err error) {
	t.Helper()
	if err == nil {
		if a.IsLoopback() || a.IsPrivate() || a.IsMulticast() || a.IsUnspecified() || a.IsLinkLocalUnicast() {
			t.Errorf("%v is allowed", a)
		}
		return
	}
	var denied *DeniedError
	if !errors.As(err, &denied) || denied.Addr != a || denied.Unwrapped != Unwrap(a) || denied.Reason == "" || !denied.Network.Contains(Unwrap(a)) {
		t.Fatalf("%v: %#v", a, err)
	}
	if strings.ContainsFunc(err.Error(), func(r rune) bool { return !strconv.IsPrint(r) }) {
		t.Errorf("error text is not printable: %q", err)
	}
	opened := Guard{Allow: []netip.Prefix{denied.Network}}.Check(a) == nil
	if opened == Unwrap(a).IsUnspecified() {
		t.Errorf("%v: opened %t by %v", a, opened, denied.Network)
	}
}

// sameAnswer compares two answers, but for the address that was asked.
func sameAnswer(t *testing.T, form, plain error) {
	t.Helper()
	var d1, d2 *DeniedError
	if errors.As(form, &d1) != errors.As(plain, &d2) {
		t.Fatalf("%v, but plain %v", form, plain)
	}
	if d1 != nil && (d1.Reason != d2.Reason || d1.Network != d2.Network || d1.Unwrapped != d2.Unwrapped) {
		t.Fatalf("%v, but plain %v", form, plain)
	}
}

func prefixes(texts ...string) []netip.Prefix {
	var ps []netip.Prefix
	for _, s := range texts {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

func BenchmarkCheck(b *testing.B) {
	for _, s := range []string{"8.8.8.8", "2606:4700:4700::1111", "64:ff9b::8.8.8.8", "10.0.0.1", "fe80::1"} {
		a := netip.MustParseAddr(s)
		b.Run(s, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = Guard{}.Check(a)
			}
		})
	}
}

func BenchmarkControl(b *testing.B) {
	g := Guard{Allow: prefixes("10.0.0.0/8", "fd00::/8")}
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		_ = g.Control(ctx, "tcp4", "8.8.8.8:8448", nil)
	}
}
