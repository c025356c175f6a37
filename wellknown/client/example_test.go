package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"

	"mxdiscover/wellknown"
	"mxdiscover/wellknown/client"
)

// What to do is in the State; for the zero Discoverer, a private address is one
// that it refuses to ask.
func ExampleDiscoverer_Discover() {
	var d client.Discoverer
	found := d.Discover(context.Background(), "@alice:127.0.0.1")
	switch found.State {
	case client.Success:
		fmt.Println("log in at", found.Homeserver.BaseURL)
	case client.Ignore:
		fmt.Println("nothing is published: ask for the homeserver's address")
	case client.FailPrompt:
		fmt.Println("discovery failed:", found.Error.Code)
		fmt.Println("ask for the homeserver's address")
	case client.FailError:
		fmt.Println("there is no usable homeserver:", found.Error.Message)
	}
	// Output:
	// discovery failed: address_denied
	// ask for the homeserver's address
}

// What comes with a login, or from a configuration, is validated as the
// well-known document is. An operator opens his own network to it.
func ExampleDiscoverer_Validate() {
	homeserver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("asked for", r.URL.Path)
		fmt.Fprintln(w, `{"versions":["v1.11","v1.12"]}`)
	}))
	defer homeserver.Close()

	d := client.Discoverer{Fetcher: &wellknown.Fetcher{
		AllowNets: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}}
	doc := client.HomeserverDocument(homeserver.URL + "/")
	found := d.Validate(context.Background(), doc)
	fmt.Println(found.State, found.Homeserver.Versions, found.Homeserver.BaseURL == homeserver.URL)
	for _, warning := range found.Warnings {
		fmt.Println(warning.Code)
	}
	// Output:
	// asked for /_matrix/client/versions
	// SUCCESS [v1.11 v1.12] true
	// base_url_http
	// cors_missing
}

func ExampleReadDocument() {
	login, err := wellknown.ParseObject([]byte(`{"user_id":"@alice:example.org","well_known":{
		"m.homeserver":{"base_url":"https://matrix.example.org/"},"org.example.app":{"n":1.0}}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(login["well_known"], &object); err != nil {
		fmt.Println(err)
		return
	}
	doc := client.ReadDocument(object)
	fmt.Println(doc.Homeserver.BaseURL)
	fmt.Println(string(doc.Extra["org.example.app"]))
	// Output:
	// https://matrix.example.org
	// {"n":1.0}
}

func ExampleParseDocument() {
	doc, err := client.ParseDocument([]byte(`{"m.homeserver":{"base_url":"matrix.example.org"}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(doc.Homeserver.Reason.Code)
	fmt.Println(doc.Homeserver.Reason.Message)
	// Output:
	// base_url_invalid
	// m.homeserver.base_url is "matrix.example.org": it has no scheme and host
}

func ExampleParseSupport() {
	support, err := client.ParseSupport([]byte(`{"contacts":[{"role":"m.role.admin","matrix_id":"@admin:example.org"}]}`))
	fmt.Println(support.Contacts[0].MatrixID, err)
	// Output:
	// @admin:example.org <nil>
}

func ExampleDiscoverer_Support() {
	var d client.Discoverer
	_, err := d.Support(context.Background(), "127.0.0.1")
	var failed *wellknown.Error
	if errors.As(err, &failed) {
		fmt.Println(failed.Code, failed.Absent())
	}
	// Output:
	// address_denied false
}
