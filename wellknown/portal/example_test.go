package portal_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"mxdiscover/wellknown/portal"
)

// department sends users to the server of their department, which the single
// sign-on in front of the portal has put into a header.
type department struct{}

func (department) Choose(login *portal.Login) ([]string, error) {
	switch login.Request.Header.Get("X-Department") {
	case "engineering":
		return []string{"eng"}, nil
	case "history":
		return []string{"hist", "eng"}, nil // the second one while the first is down
	}
	return nil, &portal.Error{Status: http.StatusForbidden, ErrCode: "M_FORBIDDEN", Message: "Which department is that?"}
}

// A portal within a Go server, with a Chooser of its own.
func Example() {
	homeserver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"user_id":"@ada:eng.example","access_token":"secret","device_id":"X"}`)
	}))
	defer homeserver.Close()

	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	p := &portal.Portal{
		Targets: []portal.Target{
			{Name: "eng", URL: homeserver.URL, Public: "https://matrix.eng.example"},
			{Name: "hist", URL: "https://matrix.hist.example"},
		},
		Chooser: department{},
		BaseURL: "https://matrix.example",
		Log:     func(e portal.Entry) { logger.Info("portal", "request", e) },
	}
	if err := p.Check(); err != nil {
		fmt.Println(err)
		return
	}
	// In earnest: an http.Server with ReadHeaderTimeout, IdleTimeout and TLS.
	server := httptest.NewServer(p)
	defer server.Close()

	for _, who := range []string{"engineering", ""} {
		request, _ := http.NewRequest("POST", server.URL+"/_matrix/client/v3/login", strings.NewReader(`{"type":"m.login.password"}`))
		request.Header.Set("X-Department", who)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			fmt.Println(err)
			return
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		fmt.Println(response.StatusCode, string(bytes.ReplaceAll(body, []byte(`,`), []byte(",\n\t"))))
	}
	http.DefaultClient.CloseIdleConnections()
	// Output:
	// 200 {"user_id":"@ada:eng.example",
	// 	"access_token":"secret",
	// 	"device_id":"X",
	// 	"well_known":{"m.homeserver":{"base_url":"https://matrix.eng.example"}},
	// 	"base_cs_url":"https://matrix.eng.example"}
	// 403 {"errcode":"M_FORBIDDEN",
	// 	"error":"Which department is that?"}
}

func ExampleParseUserMap() {
	users, err := portal.ParseUserMap(strings.NewReader(`
# who lives where
@ada:eng.example  eng
charles           eng
*                 hist
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, user := range []string{"@ada:eng.example", "@charles:anywhere.example", "mary"} {
		name, _ := users.Lookup(user)
		fmt.Println(user, name)
	}
	// Output:
	// @ada:eng.example eng
	// @charles:anywhere.example eng
	// mary hist
}

// A homeserver says by itself where it is.
func ExampleAnnounce() {
	answer := []byte(`{"user_id":"@ada:eng.example","expires_in_ms":6.0e4}`)
	fmt.Printf("%s\n", portal.Announce(answer, "https://matrix.eng.example", portal.EmitWellKnown))
	// Output:
	// {"user_id":"@ada:eng.example","expires_in_ms":6.0e4,"well_known":{"m.homeserver":{"base_url":"https://matrix.eng.example"}}}
}
