package guard_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"mxdiscover/internal/guard"
)

func ExampleGuard_Check() {
	var g guard.Guard
	fmt.Println(g.Check(netip.MustParseAddr("9.9.9.9")))
	fmt.Println(g.Check(netip.MustParseAddr("2002:7f00:1::")))

	g.Allow = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	fmt.Println(g.Check(netip.MustParseAddr("10.1.1.1")))
	// Output:
	// <nil>
	// 2002:7f00:1:: (127.0.0.1) may not be dialled: Loopback (RFC 1122, Section 3.2.1.3), 127.0.0.0/8
	// <nil>
}

func ExampleGuard_Control() {
	d := net.Dialer{ControlContext: guard.Guard{}.Control}
	_, err := d.DialContext(context.Background(), "tcp", "127.0.0.1:443")

	var denied *guard.DeniedError
	if errors.As(err, &denied) {
		fmt.Println(denied.Addr, denied.Reason)
	}
	// Output:
	// 127.0.0.1 Loopback (RFC 1122, Section 3.2.1.3)
}
