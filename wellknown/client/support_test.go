package client_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/wellknown"
	"mxdiscover/wellknown/client"
)

var goodSupports = []struct {
	body string
	want client.Support
}{
	{`{"support_page":"https://example.org/help?x#y"}`, client.Support{Page: "https://example.org/help?x#y"}},
	{`{"support_page":"https://example.org","contacts":[]}`, client.Support{Page: "https://example.org"}},
	{`{"support_page":"https://example.org","contacts":null}`, client.Support{Page: "https://example.org"}},
	{`{"support_page":null,"contacts":[{"role":"m.role.admin","matrix_id":"@a:example.org:8448"}]}`, client.Support{Contacts: []client.Contact{{Role: "m.role.admin", MatrixID: "@a:example.org:8448"}}}},
	{`{"contacts":[{"role":"m.role.security","email_address":"s@example.org","matrix_id":null,"pgp_key":1.0},{"role":"org.example.role_1","matrix_id":"@b:[::1]","email_address":"b@b"}],"x":[1e999]}`,
		client.Support{
			Contacts: []client.Contact{
				{Role: "m.role.security", Email: "s@example.org", Extra: map[string]json.RawMessage{"pgp_key": json.RawMessage("1.0")}},
				{Role: "org.example.role_1", MatrixID: "@b:[::1]", Email: "b@b"},
			},
			Extra: map[string]json.RawMessage{"x": json.RawMessage("[1e999]")},
		}},
	{`{"contacts":[{"role":"m.role.dpo","email_address":"s@example.org"}]}`, client.Support{Contacts: []client.Contact{{Role: "m.role.dpo", Email: "s@example.org"}}}},
}

var badSupports = []struct{ body, problem string }{
	{`{}`, "there is neither a contact nor a support_page"},
	{`{"contacts":[]}`, "there is neither a contact nor a support_page"},
	{`{"Support_page":"https://example.org"}`, "there is neither a contact nor a support_page"},
	{`{"support_page":""}`, `support_page is "": it is not an http or https URL with a host`},
	{`{"support_page":7}`, "support_page is a number, not a string"},
	{`{"support_page":"javascript:alert(1)"}`, `support_page is "javascript:alert(1)": it is not an http or https URL with a host`},
	{`{"support_page":"/help"}`, `support_page is "/help": it is not an http or https URL with a host`},
	{`{"support_page":"https://example.org/\u001b[31m"}`, `support_page is "https://example.org/\x1b[31m": it is not a URL`},
	{`{"support_page":"https://example.org/\u009b31m"}`, `support_page is "https://example.org/\u009b31m": it is not a URL`},
	{`{"contacts":{}}`, "contacts is an object, not an array"},
	{`{"contacts":[1]}`, "contacts[0]: it is a number, not an object"},
	{`{"contacts":[null]}`, "contacts[0]: it is null, not an object"},
	{`{"contacts":[{"role":"m.role.admin"}]}`, "contacts[0]: it has neither a matrix_id nor an email_address"},
	{`{"contacts":[{"email_address":"a@b"}]}`, "contacts[0]: it has no role"},
	{`{"contacts":[{"role":"m.role.admin","email_address":"a@b"},{"role":null,"email_address":"a@b"}]}`, "contacts[1]: it has no role"},
	{`{"contacts":[{"role":"","email_address":"a@b"}]}`, `contacts[0]: role is "": it is not a namespaced identifier`},
	{`{"contacts":[{"role":"Admin","email_address":"a@b"}]}`, `contacts[0]: role is "Admin": it is not a namespaced identifier`},
	{`{"contacts":[{"role":["m.role.admin"],"email_address":"a@b"}]}`, `contacts[0]: role is an array, not a string`},
	{`{"contacts":[{"role":"m.role.admin","email_address":"nobody"}]}`, `contacts[0]: email_address is "nobody": it is not an e-mail address`},
	{`{"contacts":[{"role":"m.role.admin","email_address":"a b@c\r\nBcc: x@y"}]}`, `contacts[0]: email_address is "a b@c\r\nBcc: x@y": it is not an e-mail address`},
	{`{"contacts":[{"role":"m.role.admin","matrix_id":"a:example.org"}]}`, `contacts[0]: matrix_id is "a:example.org": it is not a user ID`},
	{`{"contacts":[{"role":"m.role.admin","matrix_id":"@a"}]}`, `contacts[0]: matrix_id is "@a": it is not a user ID`},
	{`{"contacts":[{"role":"m.role.admin","matrix_id":"@a\n:example.org"}]}`, `contacts[0]: matrix_id is "@a\n:example.org": it is not a user ID`},
	{`{"contacts":[{"role":"m.role.admin","matrix_id":""}]}`, `contacts[0]: matrix_id is "": it is not a user ID`},
}

func TestParseSupport(t *testing.T) {
	t.Parallel()
	for _, test := range goodSupports {
		got, err := client.ParseSupport([]byte(test.body))
		if assert.NoError(t, err, "%s", test.body) {
			assert.Equal(t, &test.want, got)
		}
	}
	for _, test := range badSupports {
		got, err := client.ParseSupport([]byte(test.body))
		assert.EqualError(t, err, test.problem, "%s", test.body)
		assert.Nil(t, got)
	}
	for _, body := range broken {
		got, err := client.ParseSupport([]byte(body))
		var parseErr *wellknown.ParseError
		assert.ErrorAs(t, err, &parseErr, "%q", body)
		assert.Nil(t, got)
	}
}

func TestSupport(t *testing.T) {
	t.Parallel()
	const url = "-- GET https://example.org/.well-known/matrix/support --\n"
	for _, test := range []struct {
		about, name, sections string
		code                  wellknown.Code
		absent                bool
	}{
		{about: "good", sections: url + "200\n\n" + goodSupports[3].body + "\n"},
		{about: "redirected", name: "example.org:8448", sections: url + "301\nLocation: https://www.example/s\n-- GET https://www.example/s --\n200\n\n" + goodSupports[3].body + "\n"},
		{about: "none", sections: url + "404\n", code: wellknown.NotFound, absent: true},
		{about: "error", sections: url + "500\n", code: wellknown.HTTPStatus},
		{about: "not JSON", sections: url + "200\n\n" + goodSupports[3].body + "x\n", code: wellknown.NotJSON},
		{about: "schema", sections: url + "200\n\n{\"contacts\":[{\"role\":\"\\u001b\"}]}\n", code: client.SupportInvalid},
		{about: "no name", name: "@a", code: wellknown.InvalidHost},
		{about: "control character", name: "a\nb", code: wellknown.InvalidHost},
		{about: "private", name: "@a:private.example", code: wellknown.AddressDenied},
		{about: "to http", sections: url + "301\nLocation: http://www.example/s\n", code: wellknown.RedirectInsecure},
	} {
		t.Run(test.about, func(t *testing.T) {
			t.Parallel()
			inWorld(t, test.sections, func(t *testing.T, s *scene) {
				name := test.name
				if name == "" {
					name = "@a:example.org"
				}
				support, err := s.discoverer().Support(t.Context(), name)
				if test.code == "" {
					require.NoError(t, err)
					assert.Equal(t, &goodSupports[3].want, support)
					return
				}
				assert.Nil(t, support)
				var e *wellknown.Error
				require.ErrorAs(t, err, &e)
				assert.Equal(t, test.code, e.Code)
				assert.Equal(t, test.absent, e.Absent())
				for _, r := range err.Error() {
					require.True(t, strconv.IsPrint(r), "%q", err.Error())
				}
			})
		})
	}
}

// What is accepted is safe to show, and there is somebody to write to.
func FuzzParseSupport(f *testing.F) {
	for _, test := range goodSupports {
		f.Add([]byte(test.body))
	}
	for _, test := range badSupports {
		f.Add([]byte(test.body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		support, err := client.ParseSupport(body)
		texts := []string{}
		if err != nil {
			require.Nil(t, support)
			require.Less(t, len(err.Error()), 300)
			texts = append(texts, err.Error())
		} else {
			require.True(t, support.Page != "" || len(support.Contacts) > 0)
			texts = append(texts, support.Page)
			for _, c := range support.Contacts {
				require.NotEmpty(t, c.Role)
				require.NotEmpty(t, c.MatrixID+c.Email)
				require.True(t, c.MatrixID == "" || strings.HasPrefix(c.MatrixID, "@"))
				texts = append(texts, c.Role, c.MatrixID, c.Email)
			}
		}
		for _, text := range texts {
			for _, r := range text {
				require.True(t, strconv.IsGraphic(r) && (err != nil || r != ' '), "%q", text)
			}
		}
	})
}
