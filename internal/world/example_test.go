package world_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"

	"mxdiscover/internal/world"
)

func Example() {
	scene, err := world.Parse("example", []byte(`
A delegation.
-- zone --
example.org. A 203.0.113.10
-- GET https://example.org/.well-known/matrix/server --
200
Content-Type: application/json

{"m.server": "matrix.example.org:443"}
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	w, err := scene.Start(world.Loopback{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer w.Close()

	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return w.DialContext(ctx, network, "203.0.113.10:443")
		},
		TLSClientConfig: &tls.Config{RootCAs: w.Roots()},
	}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport}).Get("https://example.org/.well-known/matrix/server")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	fmt.Printf("%s\n", body)
	for _, what := range w.Asked() {
		fmt.Println(what)
	}
	// Output:
	// {"m.server": "matrix.example.org:443"}
	// CONNECT 203.0.113.10:443
	// GET https://example.org/.well-known/matrix/server
}

func ExampleMatchJSON() {
	err := world.MatchJSON(
		[]byte(`{"step": "6", "targets": [{"port": 8448}], "error": null}`),
		[]byte(`{"step": "5", "targets": [{"host": "a.example", "port": 8448}]}`),
	)
	fmt.Println(err)
	// Output:
	// step: want "6", got "5"
}
