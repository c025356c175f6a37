package check_test

import (
	"context"
	"fmt"
	"log"

	"mxdiscover/check"
	"mxdiscover/internal/world"
)

// A federation in memory stands for the real one: without NewResolver a Checker
// asks the internet.
func federation() *world.World {
	scene, err := world.Parse("example", []byte(`
-- zone --
example.org.         A     203.0.113.10
matrix.example.org.  A     203.0.113.20
matrix.example.org.  AAAA  2001:db8::20
-- servers --
203.0.113.20:443 cert expired
[2001:db8::20]:443 cert expired
-- GET https://example.org/.well-known/matrix/server --
200
Content-Type: application/json

{"m.server": "matrix.example.org:443"}
-- matrix https://matrix.example.org --
server-name example.org
`))
	if err != nil {
		log.Fatal(err)
	}
	w, err := scene.Start(world.Memory{})
	if err != nil {
		log.Fatal(err)
	}
	return w
}

func ExampleChecker_Check() {
	w := federation()
	defer w.Close()

	checker := checkerIn(w) // &check.Checker{} for the internet
	report := checker.Check(context.Background(), "example.org")
	fmt.Println(report.Verdict)
	for _, f := range report.Findings {
		fmt.Println(f.Severity, f.Code, "about", f.About)
		fmt.Println("change:", f.Fixes[0].Title)
	}
	for _, target := range report.Targets {
		for _, a := range target.Addresses {
			fmt.Println(a.Address, a.OK, a.HTTP[0].Version.Name, a.TLS.Version, a.TLS.ALPN)
		}
	}
	// Output:
	// BAD
	// error cert_expired about matrix.example.org:443
	// change: Get a certificate for matrix.example.org.
	// [2001:db8::20]:443 false World TLS 1.3 h2
	// 203.0.113.20:443 false World TLS 1.3 h2
}

// OnEvent sees the check while it runs.
func ExampleChecker_events() {
	w := federation()
	defer w.Close()

	checker := checkerIn(w)
	checker.OnEvent = func(e check.Event) {
		switch e.Kind {
		case check.EventTarget:
			fmt.Println("connecting to", e.Target)
		case check.EventReport:
			fmt.Println(e.Report.Verdict)
		}
	}
	checker.Check(context.Background(), "example.org")
	// Output:
	// connecting to matrix.example.org:443
	// BAD
}

func ExampleExplain() {
	kind, _ := check.Explain("cert_for_srv_target")
	fmt.Println(kind.Severity, kind.Title)
	fmt.Println(kind.Why)
	fmt.Println(kind.Cure)
	// Output:
	// error The certificate is for the target of the SRV record, not for the name
	// DNS can be forged, so the certificate must prove the name that the SRV record belongs to.
	// Give the target a certificate for the name, or delegate by a well-known document: then the delegated name counts.
}
