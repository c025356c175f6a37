package check_test

import (
	"testing"

	"mxdiscover/check"
	"mxdiscover/internal/memnet"
	"mxdiscover/internal/world"
)

// BenchmarkCheck is one check of a good name and of bad ones, in a network in
// memory without latency: what it costs, handshakes and servers included.
func BenchmarkCheck(b *testing.B) {
	for _, bench := range []struct{ name, scene string }{
		{"good", good},
		{"expired", good + "-- servers --\n203.0.113.20:443 cert expired\n[2001:db8::20]:443 cert expired\n"},
		{"404", good + "without version\nwithout keys\n"},
		{"invalid", good},
	} {
		b.Run(bench.name, func(b *testing.B) {
			scene, err := world.Parse(bench.name, []byte(bench.scene))
			if err != nil {
				b.Fatal(err)
			}
			w, err := scene.Start(world.Memory{Network: &memnet.Network{}})
			if err != nil {
				b.Fatal(err)
			}
			defer w.Close()
			c, name, want := checkerIn(w), "example.org", check.Bad
			switch bench.name {
			case "good":
				want = check.Good
			case "invalid":
				name = "https://example.org"
			}
			b.ReportAllocs()
			for b.Loop() {
				if report := c.Check(b.Context(), name); report.Verdict != want {
					b.Fatal(report.Summary)
				}
			}
		})
	}
}
