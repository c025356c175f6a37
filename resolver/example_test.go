package resolver_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"mxdiscover/internal/world"
	"mxdiscover/resolver"
	"mxdiscover/srv"
)

// inWorld gives a Resolver inside a small federation on loopback, so that the
// examples need no network. Outside of examples a new(resolver.Resolver) does.
func inWorld(text string) (*resolver.Resolver, *world.World) {
	scene, err := world.Parse("example", []byte(text))
	if err != nil {
		log.Fatal(err)
	}
	w, err := scene.Start(world.Loopback{})
	if err != nil {
		log.Fatal(err)
	}
	return &resolver.Resolver{
		DNS:         &srv.Client{Servers: w.DNSServers(), HostsFile: os.DevNull},
		RootCAs:     w.Roots(),
		AllowNets:   w.AllowNets(),
		DialContext: w.DialContext,
	}, w
}

const small = `One name that is delegated, one whose server is gone.

-- zone --
example.org.         A  203.0.113.1
matrix.example.org.  A  203.0.113.2
gone.example.        A  203.0.113.3
-- servers --
203.0.113.3:443 refuse
203.0.113.3:8448 refuse
-- GET https://example.org/.well-known/matrix/server --
200

{"m.server":"matrix.example.org:443"}
-- GET https://matrix.example.org:443/_matrix/federation/v1/version --
200
Content-Type: application/json

{"server":{"name":"Example","version":"1"}}
`

// Any http.Client becomes a federation client.
func ExampleTransport() {
	r, w := inWorld(small)
	defer w.Close()

	client := &http.Client{Transport: &resolver.Transport{Resolver: r}} // the zero Transport has a Resolver of its own
	defer client.CloseIdleConnections()

	resp, err := client.Get("matrix-federation://example.org/_matrix/federation/v1/version")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(resp.Status, string(body))
	// Output:
	// 200 OK {"server":{"name":"Example","version":"1"}}
}

// A homeserver has one Resolver and one Transport for all its traffic, bounds
// every request, and tells the Transport of whom it hears.
func ExampleTransport_embedding() {
	r, w := inWorld(small)
	defer w.Close()

	transport := &resolver.Transport{
		Resolver: r,
		Base: &http.Transport{
			MaxIdleConns:          1000,
			MaxIdleConnsPerHost:   4,
			IdleConnTimeout:       time.Minute,
			ResponseHeaderTimeout: 30 * time.Second,
		},
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport: transport,
		Timeout:   time.Minute,
		// A server must not send signed requests elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}

	send := func(serverName string) error {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet,
			"matrix-federation://"+serverName+"/_matrix/federation/v1/version", nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}
	for range 3 {
		if err := send("example.org"); err != nil {
			log.Fatal(err)
		}
	}
	send("gone.example")
	send("gone.example")                // fails at once: it has just failed
	transport.MarkAlive("gone.example") // it has sent us something meanwhile
	send("gone.example")                // tried again

	stats := transport.Stats()
	fmt.Println("connections made:", stats.Connections)
	fmt.Println("targets that failed:", stats.Failures[resolver.ConnectFailed])
	fmt.Println("requests that failed at once:", stats.Remembered)
	// Output:
	// connections made: 1
	// targets that failed: 2
	// requests that failed at once: 1
}

// Servers of a network of one's own are dialled once it is allowed; a stranger
// could otherwise have this machine send requests to its neighbours.
func ExampleTransport_privateNetwork() {
	r, w := inWorld(`
-- zone --
intern.example.  A  10.1.2.3
-- GET https://intern.example:8448/_matrix/federation/v1/version --
200

{}
`)
	defer w.Close()

	client := &http.Client{Transport: &resolver.Transport{Resolver: r}}
	_, err := client.Get("matrix-federation://intern.example/_matrix/federation/v1/version")
	fmt.Println(errors.Is(err, resolver.AddressDenied))

	// The fields of a Resolver must not change once it is used: this is another.
	client.Transport = &resolver.Transport{Resolver: &resolver.Resolver{
		DNS: r.DNS, RootCAs: r.RootCAs, DialContext: r.DialContext,
		AllowNets: append(r.AllowNets, netip.MustParsePrefix("10.1.0.0/16")),
	}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("matrix-federation://intern.example/_matrix/federation/v1/version")
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	fmt.Println(resp.Status)
	// Output:
	// true
	// 200 OK
}

// A federation with a certificate authority of its own.
func ExampleTransport_ownCA() {
	r, w := inWorld(small)
	defer w.Close()
	file := filepath.Join(os.TempDir(), fmt.Sprintf("example-ca-%d.pem", os.Getpid()))
	if err := os.WriteFile(file, w.CAPEM(), 0o600); err != nil {
		log.Fatal(err)
	}
	defer os.Remove(file)

	pem, err := os.ReadFile(file)
	if err != nil {
		log.Fatal(err)
	}
	roots, err := x509.SystemCertPool() // or x509.NewCertPool, to trust nobody else
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		log.Fatal(file, " has no certificate")
	}
	// It counts for well-known and for the servers alike.
	client := &http.Client{Transport: &resolver.Transport{Resolver: &resolver.Resolver{
		RootCAs: roots,
		DNS:     r.DNS, AllowNets: r.AllowNets, DialContext: r.DialContext, // of the example's federation
	}}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("matrix-federation://example.org/_matrix/federation/v1/version")
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	fmt.Println(resp.Status, resp.TLS.PeerCertificates[0].DNSNames)
	// Output:
	// 200 OK [matrix.example.org]
}

// The error says what was tried, what came back, and until when nobody tries
// again.
func ExampleConnectError() {
	r, w := inWorld(small)
	defer w.Close()

	client := &http.Client{Transport: &resolver.Transport{Resolver: r}}
	for range 2 {
		_, err := client.Get("matrix-federation://gone.example/_matrix/federation/v1/version")
		var failed *resolver.ConnectError
		if !errors.As(err, &failed) {
			log.Fatal(err)
		}
		fmt.Println("tried now:", !failed.Remembered, "again in a second:", time.Until(failed.RetryAt) <= time.Second)
		for _, try := range failed.Tried {
			fmt.Println(try.Code, try)
		}
	}
	_, err := client.Get("matrix-federation://not_a_name/")
	fmt.Println(errors.Is(err, resolver.InvalidServerName))
	_, err = client.Get("https://example.org/")
	fmt.Println(errors.Is(err, resolver.InvalidRequest))
	// Output:
	// tried now: true again in a second: true
	// connect_failed gone.example:8448 (203.0.113.3): connection refused
	// tried now: false again in a second: true
	// connect_failed gone.example:8448 (203.0.113.3): connection refused
	// true
	// true
}
