package client_test

import (
	"encoding/json"
	"errors"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/baseurl"
	"mxdiscover/wellknown"
	"mxdiscover/wellknown/client"
)

var documents = []struct {
	body       string
	homeserver string // base URL, or else the code
	identity   string // the same; "-" for none
	extra      int
}{
	{`{"m.homeserver":{"base_url":"https://hs.example/"}}`, "https://hs.example", "-", 0},
	{" {\"m.homeserver\" : {\"base_url\" : \"https:\\/\\/hs\\u002eexample\"} }\r\n", "https://hs.example", "-", 0},
	{`{"m.homeserver":{"base_url":"http://h:8008/x/"},"m.identity_server":{"base_url":"https://id"},"a":1,"b":null}`, "http://h:8008/x", "https://id", 2},
	{`{"m\u002ehomeserver":{"base_url":"https://h"}}`, "https://h", "-", 0},
	{`{"m.homeserver":{"base_url":"https://x"},"m.homeserver":{"base_url":"https://y"}}`, "https://y", "-", 0},
	{`{"m.homeserver":{"base_url":"https://x"},"m.homeserver":null}`, "homeserver_missing", "-", 0},
	{`{"m.homeserver":{"base_url":"https://x"},"M.Identity_Server":{"base_url":"https://y"}}`, "https://x", "-", 1},
	{`{"m.homeserver ":{"base_url":"https://x"}}`, "homeserver_missing", "-", 1},
	{`{}`, "homeserver_missing", "-", 0},
	{`{"m.homeserver":true,"m.identity_server":true}`, "homeserver_missing", "identity_base_url_missing", 0},
	{`{"m.homeserver":{},"m.identity_server":{}}`, "base_url_missing", "identity_base_url_missing", 0},
	{`{"m.homeserver":{"base_url":""},"m.identity_server":{"base_url":""}}`, "base_url_missing", "identity_base_url_missing", 0},
	{`{"m.homeserver":{"base_url":null},"m.identity_server":null}`, "base_url_missing", "-", 0},
	{`{"m.homeserver":{"base_url":[]},"m.identity_server":{"base_url":false}}`, "base_url_invalid", "identity_base_url_invalid", 0},
	{`{"m.homeserver":{"base_url":"h"},"m.identity_server":{"base_url":"//id"}}`, "base_url_invalid", "identity_base_url_invalid", 0},
	{`{"m.homeserver":{"base_url":"https://\ud800"}}`, "base_url_invalid", "-", 0},
	{`{"m.homeserver":{"base_url":"https://h\u0000"}}`, "base_url_invalid", "-", 0},
	{`{"m.homeserver":{"base_url":"https://h/\u001b]0;x\u0007"}}`, "base_url_invalid", "-", 0},
}

// broken are no documents at all.
var broken = []string{"", " ", "{", "[]", "null", `"x"`, "{}{}", "{} x", "{'a':1}", "\ufeff{}", "{\"a\":\"\xff\"}", "<html>", `{"a":01}`}

func TestParseDocument(t *testing.T) {
	t.Parallel()
	outcome := func(info *client.Information) string {
		switch {
		case info == nil:
			return "-"
		case info.Reason != nil:
			assert.Empty(t, info.BaseURL)
			return string(info.Reason.Code)
		}
		return info.BaseURL
	}
	for _, test := range documents {
		doc, err := client.ParseDocument([]byte(test.body))
		require.NoError(t, err, "%s", test.body)
		assert.Equal(t, test.homeserver, outcome(&doc.Homeserver), "%s", test.body)
		assert.Equal(t, test.identity, outcome(doc.IdentityServer), "%s", test.body)
		assert.Len(t, doc.Extra, test.extra, "%s", test.body)
	}
	for _, body := range broken {
		doc, err := client.ParseDocument([]byte(body))
		var parseErr *wellknown.ParseError
		assert.True(t, errors.As(err, &parseErr), "%q", body)
		assert.Nil(t, doc)
	}
}

// Whatever the document says, a base URL is clean, words are printable, and what
// is not understood is there unchanged.
func FuzzParseDocument(f *testing.F) {
	for _, test := range documents {
		f.Add([]byte(test.body))
	}
	for _, body := range broken {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		doc, err := client.ParseDocument(body)
		object, objectErr := wellknown.ParseObject(body)
		require.Equal(t, objectErr, err)
		if err != nil {
			require.Nil(t, doc)
			return
		}
		known := 0
		for key, value := range object {
			if key == "m.homeserver" || key == "m.identity_server" {
				known++
			} else {
				require.Equal(t, value, doc.Extra[key])
			}
		}
		require.Len(t, doc.Extra, len(object)-known)
		check := func(info *client.Information) {
			if info.Reason != nil {
				require.Empty(t, info.BaseURL)
				require.Less(t, len(info.Reason.Message), 300)
				for _, r := range info.Reason.Message {
					require.True(t, strconv.IsPrint(r), "%q", info.Reason.Message)
				}
				return
			}
			u, err := baseurl.Parse(info.BaseURL)
			require.NoError(t, err)
			require.Equal(t, info.BaseURL, u.String())
		}
		check(&doc.Homeserver)
		if doc.IdentityServer != nil {
			check(doc.IdentityServer)
		}
		_, err = json.Marshal(client.Discovery{Extra: doc.Extra})
		require.NoError(t, err)
	})
}
