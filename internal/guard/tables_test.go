package guard

import (
	"bufio"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"testing"

	"code.dny.dev/ssrf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type row struct {
	prefix netip.Prefix
	name   string
	ref    string
}

func readRegistries(t testing.TB) []row {
	t.Helper()
	f, err := os.Open("testdata/special-purpose.txt")
	require.NoError(t, err)
	defer f.Close()
	var rows []row
	for sc := bufio.NewScanner(f); sc.Scan(); {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		fields := strings.Split(line, "|")
		require.Len(t, fields, 4, line)
		for i := range fields {
			fields[i] = strings.TrimSpace(fields[i])
		}
		prefix, err := netip.ParsePrefix(fields[0])
		require.NoError(t, err)
		require.Equal(t, prefix.Masked(), prefix)
		require.Contains(t, []string{"True", "False", "N/A", "-"}, fields[3], line)
		rows = append(rows, row{prefix, fields[1], fields[2]})
	}
	return rows
}

// tableRows gives both tables in the form of the registries.
func tableRows() []row {
	var rows []row
	for _, e := range special4 {
		rows = append(rows, row{netip.PrefixFrom(from4(e.base), int(e.bits)), e.name, e.ref})
	}
	for _, e := range special6 {
		var b [16]byte
		binary.BigEndian.PutUint64(b[:8], e.hi)
		binary.BigEndian.PutUint64(b[8:], e.lo)
		rows = append(rows, row{netip.PrefixFrom(netip.AddrFrom16(b), int(e.bits)), e.name, e.ref})
	}
	return rows
}

// TestTablesAreTheRegistries compares the constants with the registries' text:
// nothing is missing, nothing is misspelt, and what is more is named here.
func TestTablesAreTheRegistries(t *testing.T) {
	t.Parallel()
	carriesIPv4 := map[string]bool{"::ffff:0.0.0.0/96": true, "64:ff9b::/96": true, "2002::/16": true}
	ours := map[string]bool{"224.0.0.0/4": true, "ff00::/8": true, "fec0::/10": true}

	var want []row
	for _, r := range readRegistries(t) {
		if carriesIPv4[r.prefix.String()] {
			delete(carriesIPv4, r.prefix.String())
			continue
		}
		want = append(want, r)
	}
	assert.Empty(t, carriesIPv4, "not in the registry")
	assert.Len(t, want, 26+25-3, "blocks in the registries")

	var got []row
	for _, r := range tableRows() {
		assert.Equal(t, r.prefix.Masked(), r.prefix, "bits outside the prefix")
		if ours[r.prefix.String()] {
			delete(ours, r.prefix.String())
			continue
		}
		got = append(got, r)
	}
	assert.Empty(t, ours, "not in the tables")
	assert.Equal(t, want, got)
}

// TestEveryEntryRefuses asks for the first and the last address of every entry
// and expects the entry with the longest prefix as the reason.
func TestEveryEntryRefuses(t *testing.T) {
	t.Parallel()
	rows := tableRows()
	for _, r := range rows {
		for _, a := range []netip.Addr{r.prefix.Addr(), last(r.prefix)} {
			best := r
			for _, o := range rows {
				if o.prefix.Contains(a) && o.prefix.Bits() > best.prefix.Bits() {
					best = o
				}
			}
			assert.Equal(t, &DeniedError{
				Addr: a, Unwrapped: a, Reason: best.name + " (" + best.ref + ")", Network: best.prefix,
			}, Guard{}.Check(a))
		}
	}
}

// TestAgainstOracle compares the default policy with code.dny.dev/ssrf at every
// boundary of every prefix of both and at random addresses.
func TestAgainstOracle(t *testing.T) {
	t.Parallel()
	oracle := ssrf.New(ssrf.WithAnyPort())

	// Where we mean to differ, and why. Each must explain something, or it is stale.
	differences := []struct {
		name      string
		applies   func(a netip.Addr) bool
		weAllow   bool
		explained int
	}{
		{
			name: "IPv4-mapped: a socket connects to the IPv4 address, so that one is judged",
			applies: func(a netip.Addr) bool {
				return a.Is4In6()
			},
			weAllow: true,
		},
		{
			name: "IPv4-compatible: judged by the IPv4 address inside",
			applies: func(a netip.Addr) bool {
				return netip.MustParsePrefix("::/96").Contains(a) && !a.IsUnspecified() && !a.IsLoopback()
			},
			weAllow: true,
		},
		{
			name: "6to4: judged by the IPv4 address inside",
			applies: func(a netip.Addr) bool {
				return netip.MustParsePrefix("2002::/16").Contains(a)
			},
			weAllow: true,
		},
		{
			name: "NAT64: hosts with IPv6 only reach all of IPv4 through it, so the IPv4 address inside is judged",
			applies: func(a netip.Addr) bool {
				return netip.MustParsePrefix("64:ff9b::/96").Contains(a)
			},
			weAllow: true,
		},
		{
			name: "no address: the oracle finds it in no list and lets it pass, we fail closed",
			applies: func(a netip.Addr) bool {
				return !a.IsValid()
			},
		},
	}

	asked, allowed, refused := 0, 0, 0
	compare := func(a netip.Addr) {
		asked++
		ours, theirs := Guard{}.Check(a) == nil, oracle.SafeAddr(a) == nil
		if ours {
			allowed++
		} else {
			refused++
		}
		if u := Unwrap(a); u != a {
			// On the address inside there is nothing to differ about.
			if oracle.SafeAddr(u) == nil != ours {
				t.Errorf("%v: allowed %t, the oracle on %v says otherwise", a, ours, u)
			}
		}
		if ours == theirs {
			return
		}
		for i := range differences {
			if d := &differences[i]; d.applies(a) && d.weAllow == ours {
				d.explained++
				return
			}
		}
		t.Errorf("%v: allowed %t, the oracle says %t", a, ours, theirs)
	}

	var prefixes []netip.Prefix
	for _, r := range tableRows() {
		prefixes = append(prefixes, r.prefix)
	}
	for _, r := range readRegistries(t) {
		prefixes = append(prefixes, r.prefix)
	}
	prefixes = append(prefixes, ssrf.IPv4DeniedPrefixes...)
	prefixes = append(prefixes, ssrf.IPv6DeniedPrefixes...)
	prefixes = append(prefixes, ssrf.IPv6GlobalUnicast, ssrf.IPv6NAT64Prefix,
		netip.MustParsePrefix("::/96"), netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"))
	for _, p := range prefixes {
		first, last := p.Addr(), last(p)
		for _, a := range []netip.Addr{first.Prev(), first, last, last.Next()} {
			compare(a) // Prev of the first and Next of the last address of all are no address
			if a.Is4() {
				for _, form := range forms(a) {
					compare(form)
				}
			}
		}
	}

	rnd := rand.New(rand.NewPCG(6890, 4291)) // a fixed seed: a failure can be repeated
	for range 20_000 {
		v4 := from4(rnd.Uint32())
		compare(v4)
		for _, form := range forms(v4) {
			compare(form)
		}
		compare(random6(rnd, 0))
		compare(random6(rnd, 0x2000_0000_0000_0000))
		compare(random6(rnd, 0x2001_0000_0000_0000))
	}

	for _, d := range differences {
		assert.NotZero(t, d.explained, "this difference explains nothing: %s", d.name)
	}
	// Both answers must have been met often, or the comparison says little.
	assert.Greater(t, allowed, asked/4)
	assert.Greater(t, refused, asked/10)
}

// random6 draws an address; a base other than 0 fixes its first bits: 3 for
// 2000::, 16 for the others, where the entries lie thick.
func random6(rnd *rand.Rand, base uint64) netip.Addr {
	hi := rnd.Uint64()
	switch base {
	case 0:
	case 0x2000_0000_0000_0000:
		hi = base | hi>>3
	default:
		hi = base | hi>>16
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], hi)
	binary.BigEndian.PutUint64(b[8:], rnd.Uint64())
	return netip.AddrFrom16(b)
}

// forms gives every IPv6 address form that carries a, written out by hand here.
func forms(a netip.Addr) []netip.Addr {
	v := a.As4()
	mapped := [16]byte{10: 0xff, 11: 0xff}
	copy(mapped[12:], v[:])
	compatible := [16]byte{}
	copy(compatible[12:], v[:])
	sixToFour := [16]byte{0: 0x20, 1: 0x02, 15: 1}
	copy(sixToFour[2:], v[:])
	sixToFourFar := [16]byte{0: 0x20, 1: 0x02, 6: 0xff, 7: 0xff, 8: 0x80}
	copy(sixToFourFar[2:], v[:])
	nat64 := [16]byte{1: 0x64, 2: 0xff, 3: 0x9b}
	copy(nat64[12:], v[:])
	all := []netip.Addr{
		netip.AddrFrom16(mapped), netip.AddrFrom16(sixToFour), netip.AddrFrom16(sixToFourFar), netip.AddrFrom16(nat64),
	}
	// :: and ::1 are addresses in their own right (RFC 4291, 2.5.2 and 2.5.3).
	if binary.BigEndian.Uint32(v[:]) > 1 {
		all = append(all, netip.AddrFrom16(compatible))
	}
	return all
}

// last is the last address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
