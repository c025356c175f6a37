package guard

// The tables hold constants only, so that the linker lays them out and nothing
// runs when the program starts. Nothing writes to them.

type entry4 struct {
	base      uint32
	bits      uint8 // 1 to 32
	name, ref string
}

func (e *entry4) holds(v uint32) bool { return (v^e.base)>>(32-e.bits) == 0 }

type entry6 struct {
	hi, lo    uint64
	bits      uint8 // 1 to 128
	name, ref string
}

func (e *entry6) holds(hi, lo uint64) bool {
	if e.bits <= 64 {
		return (hi^e.hi)>>(64-e.bits) == 0
	}
	return hi == e.hi && (lo^e.lo)>>(128-e.bits) == 0
}

// special4 is the IANA IPv4 Special-Purpose Address Registry, in its order and
// words, and multicast, which has a registry of its own.
// https://www.iana.org/assignments/iana-ipv4-special-registry
var special4 = [...]entry4{
	{0, 8, `"This network"`, "RFC 791, Section 3.2"},
	{0, 32, `"This host on this network"`, "RFC 1122, Section 3.2.1.3"},
	{10 << 24, 8, "Private-Use", "RFC 1918"},
	{100<<24 | 64<<16, 10, "Shared Address Space", "RFC 6598"},
	{127 << 24, 8, "Loopback", "RFC 1122, Section 3.2.1.3"},
	{169<<24 | 254<<16, 16, "Link Local", "RFC 3927"},
	{172<<24 | 16<<16, 12, "Private-Use", "RFC 1918"},
	{192 << 24, 24, "IETF Protocol Assignments", "RFC 6890, Section 2.1"},
	{192 << 24, 29, "IPv4 Service Continuity Prefix", "RFC 7335"},
	{192<<24 | 8, 32, "IPv4 dummy address", "RFC 7600"},
	{192<<24 | 9, 32, "Port Control Protocol Anycast", "RFC 7723"},
	{192<<24 | 10, 32, "Traversal Using Relays around NAT Anycast", "RFC 8155"},
	{192<<24 | 170, 32, "NAT64/DNS64 Discovery", "RFC 8880, RFC 7050, Section 2.2"},
	{192<<24 | 171, 32, "NAT64/DNS64 Discovery", "RFC 8880, RFC 7050, Section 2.2"},
	{192<<24 | 2<<8, 24, "Documentation (TEST-NET-1)", "RFC 5737"},
	{192<<24 | 31<<16 | 196<<8, 24, "AS112-v4", "RFC 7535"},
	{192<<24 | 52<<16 | 193<<8, 24, "AMT", "RFC 7450"},
	{192<<24 | 88<<16 | 99<<8, 24, "Deprecated (6to4 Relay Anycast)", "RFC 7526"},
	{192<<24 | 88<<16 | 99<<8 | 2, 32, "6a44-relay anycast address", "RFC 6751"},
	{192<<24 | 168<<16, 16, "Private-Use", "RFC 1918"},
	{192<<24 | 175<<16 | 48<<8, 24, "Direct Delegation AS112 Service", "RFC 7534"},
	{198<<24 | 18<<16, 15, "Benchmarking", "RFC 2544"},
	{198<<24 | 51<<16 | 100<<8, 24, "Documentation (TEST-NET-2)", "RFC 5737"},
	{203<<24 | 113<<8, 24, "Documentation (TEST-NET-3)", "RFC 5737"},
	{224 << 24, 4, "Multicast", "RFC 5771"},
	{240 << 24, 4, "Reserved", "RFC 1112, Section 4"},
	{255<<24 | 255<<16 | 255<<8 | 255, 32, "Limited Broadcast", "RFC 8190, RFC 919, Section 7"},
}

// special6 is the IANA IPv6 Special-Purpose Address Registry, in its order and
// words, without the three entries that [Unwrap] turns into IPv4 addresses:
// ::ffff:0:0/96, 64:ff9b::/96 and 2002::/16. The last two have registries of their own.
// https://www.iana.org/assignments/iana-ipv6-special-registry
var special6 = [...]entry6{
	{0, 1, 128, "Loopback Address", "RFC 4291"},
	{0, 0, 128, "Unspecified Address", "RFC 4291"},
	{0x0064_ff9b_0001_0000, 0, 48, "IPv4-IPv6 Translat.", "RFC 8215"},
	{0x0100_0000_0000_0000, 0, 64, "Discard-Only Address Block", "RFC 6666"},
	{0x0100_0000_0000_0001, 0, 64, "Dummy IPv6 Prefix", "RFC 9780"},
	{0x2001_0000_0000_0000, 0, 23, "IETF Protocol Assignments", "RFC 2928"},
	{0x2001_0000_0000_0000, 0, 32, "TEREDO", "RFC 4380, RFC 8190"},
	{0x2001_0001_0000_0000, 1, 128, "Port Control Protocol Anycast", "RFC 7723"},
	{0x2001_0001_0000_0000, 2, 128, "Traversal Using Relays around NAT Anycast", "RFC 8155"},
	{0x2001_0001_0000_0000, 3, 128, "DNS-SD Service Registration Protocol Anycast", "RFC 9665"},
	{0x2001_0002_0000_0000, 0, 48, "Benchmarking", "RFC 5180, RFC Errata 1752"},
	{0x2001_0003_0000_0000, 0, 32, "AMT", "RFC 7450"},
	{0x2001_0004_0112_0000, 0, 48, "AS112-v6", "RFC 7535"},
	{0x2001_0010_0000_0000, 0, 28, "Deprecated (previously ORCHID)", "RFC 4843"},
	{0x2001_0020_0000_0000, 0, 28, "ORCHIDv2", "RFC 7343"},
	{0x2001_0030_0000_0000, 0, 28, "Drone Remote ID Protocol Entity Tags (DETs) Prefix", "RFC 9374"},
	{0x2001_0db8_0000_0000, 0, 32, "Documentation", "RFC 3849"},
	{0x2620_004f_8000_0000, 0, 48, "Direct Delegation AS112 Service", "RFC 7534"},
	{0x3fff_0000_0000_0000, 0, 20, "Documentation", "RFC 9637"},
	{0x5f00_0000_0000_0000, 0, 16, "Segment Routing (SRv6) SIDs", "RFC 9602"},
	{0xfc00_0000_0000_0000, 0, 7, "Unique-Local", "RFC 4193, RFC 8190"},
	{0xfe80_0000_0000_0000, 0, 10, "Link-Local Unicast", "RFC 4291"},
	{0xfec0_0000_0000_0000, 0, 10, "Deprecated (Site-Local)", "RFC 3879"},
	{0xff00_0000_0000_0000, 0, 8, "Multicast", "RFC 4291, Section 2.7"},
}
