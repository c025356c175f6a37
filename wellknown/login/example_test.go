package login_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"

	"mxdiscover/wellknown"
	"mxdiscover/wellknown/login"
)

// server takes any password, and answers with this in place of an access token
// alone.
func server(more string) *httptest.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+login.Path, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, `{"flows":[{"type":"m.login.password"}]}`)
	})
	mux.HandleFunc("POST "+login.Path, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, `{"user_id":"@alice:example.org","access_token":"abc","device_id":"DEV"`+more+`}`)
	})
	mux.HandleFunc("GET /_matrix/client/versions", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		fmt.Fprintln(w, `{"versions":["v1.11"]}`)
	})
	return httptest.NewServer(mux)
}

// A user who names the homeserver himself may name one of his own network, and
// even http.
func ExampleClient_Login() {
	homeserver := server("")
	defer homeserver.Close()

	var c login.Client
	result := c.Login(context.Background(), login.Request{
		UserID:     "@alice:example.org",
		Password:   login.NewSecret("correct horse"),
		Homeserver: homeserver.URL,
	})
	if result.Error != nil {
		fmt.Println(result.Error.Code, result.Error.Message)
		return
	}
	fmt.Println(result.UserID, result.DeviceID, result.BaseURL == homeserver.URL, result.RedirectedBy)
	fmt.Println(result.AccessToken)
	fmt.Println(result.AccessToken.Reveal())
	// Output:
	// @alice:example.org DEV true none
	// [secret]
	// abc
}

// A portal's answer says where the client goes from then on. An operator opens
// his own network to that place; the portal, which the user names, needs no
// leave.
func ExampleClient_Login_portal() {
	homeserver := server("")
	defer homeserver.Close()
	portal := server(`,"well_known":{"m.homeserver":{"base_url":"` + homeserver.URL + `/"}}`)
	defer portal.Close()

	c := login.Client{Fetcher: &wellknown.Fetcher{
		AllowNets: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}}
	result := c.Login(context.Background(), login.Request{
		UserID:     "@alice:example.org",
		Password:   login.NewSecret("correct horse"),
		Homeserver: portal.URL,
	})
	fmt.Println(result.BaseURL == homeserver.URL, result.RedirectedBy)
	for _, step := range result.Steps {
		method, _, _ := strings.Cut(step.Query, " ")
		fmt.Println(step.Rule, method, step.Outcome)
	}
	// Output:
	// true well_known
	// flows GET used
	// login POST used
	// 3.5 GET used
}

// Before the password goes elsewhere, somebody is asked.
func ExampleClient_followRedirect() {
	portal := http.NewServeMux()
	portal.HandleFunc("GET "+login.Path, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, `{"flows":[{"type":"m.login.password"}]}`)
	})
	portal.HandleFunc("POST "+login.Path, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://elsewhere.example"+login.Path, http.StatusTemporaryRedirect)
	})
	serving := httptest.NewServer(portal)
	defer serving.Close()

	c := login.Client{FollowRedirect: func(_, to string) bool {
		fmt.Println("may", to, "know the password?")
		return false
	}}
	result := c.Login(context.Background(), login.Request{
		UserID:     "@alice:example.org",
		Password:   login.NewSecret("correct horse"),
		Homeserver: serving.URL,
	})
	fmt.Println(result.Error.Code, result.Error.Status)
	// Output:
	// may https://elsewhere.example know the password?
	// redirect_refused 307
}

func ExampleRequest_Check() {
	wrong := login.Request{UserID: "alice@example.org", Password: login.NewSecret("correct horse")}.Check()
	fmt.Println(wrong.Code)
	// Output:
	// invalid_user_id
}
