package login

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/baseurl"
	"mxdiscover/wellknown"
	"mxdiscover/wellknown/client"
)

func TestParseAnswer(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ body, problem string }{
		{`{"user_id":"u","access_token":"t","device_id":"d","home_server":7}`, ""},
		{" \r\n\t{\"user_id\":\"\",\"access_token\":\"t\",\"device_id\":\"\"} ", ""},
		{`{"user_id":"x","user_id":"u","access_token":"t","device_id":"d"}`, ""},
		{`{"user\u005fid":"u","access_token":"t","device_id":"d"}`, ""},
		{``, "the body is not a JSON object"},
		{`null`, "the body is not a JSON object"},
		{`[]`, "the body is not a JSON object"},
		{`"s3cret"`, "the body is not a JSON object"},
		{`{"user_id":"u","access_token":"t","device_id":"d"}{}`, "the body is not a JSON object"},
		{`{"user_id":"u","access_token":"t","device_id":"d"`, "the body is not a JSON object"},
		{"\ufeff" + `{"user_id":"u","access_token":"t","device_id":"d"}`, "the body is not a JSON object"},
		{"{\"user_id\":\"\xff\",\"access_token\":\"t\",\"device_id\":\"d\"}", "the body is not a JSON object"},
		{`{"access_token":"t","device_id":"d"}`, "the answer has no string user_id"},
		{`{"user_id":null,"access_token":"t","device_id":"d"}`, "the answer has no string user_id"},
		{`{"USER_ID":"u","access_token":"t","device_id":"d"}`, "the answer has no string user_id"},
		{`{"user_id":"u","access_token":["s3cret"],"device_id":"d"}`, "the answer has no string access_token"},
		{`{"user_id":"u","access_token":"","device_id":"d"}`, "the access_token is empty"},
		{`{"user_id":"u","access_token":"t","device_id":7}`, "the answer has no string device_id"},
	} {
		a, problem := parseAnswer([]byte(test.body))
		assert.Equal(t, test.problem, problem, test.body)
		if test.problem != "" {
			assert.Equal(t, answer{}, a, test.body)
			continue
		}
		assert.Equal(t, "t", a.token)
		assert.Contains(t, []string{"u", ""}, a.userID)
	}
}

// Whatever a body is, it is read as encoding/json reads it into a map, or refused
// in words that repeat nothing of it.
func FuzzParseAnswer(f *testing.F) {
	for _, body := range []string{
		`{"user_id":"u","access_token":"t","device_id":"d"}`, `{"user_id":"u","access_token":"t","device_id":"d","well_known":{"m.homeserver":{"base_url":"https://h.example"}}}`,
		`{"user_id":"u","access_token":"t"}`, `{"User_id":"u","access_token":"t","device_id":"d"}`, `null`, ``, `[`, "\xff", `{"user_id":"\ud800","access_token":"t","device_id":"d"}`,
		strings.Repeat("[", 20000), `{"a":` + strings.Repeat("[", 9998) + strings.Repeat("]", 9998) + `}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		a, problem := parseAnswer(body)
		if problem != "" {
			require.Equal(t, answer{}, a)
			require.Less(t, len(problem), 40)
			require.NotContains(t, problem, "\n")
			return
		}
		var members map[string]any
		require.NoError(t, json.Unmarshal(body, &members))
		require.Equal(t, a.userID, members["user_id"])
		require.Equal(t, a.token, members["access_token"])
		require.Equal(t, a.deviceID, members["device_id"])
		require.NotEmpty(t, a.token)
		require.Len(t, a.members, len(members))
		r := &run{Request: Request{Password: NewSecret("x")}, out: &Result{AccessToken: NewSecret(a.token)}}
		r.readError(&wellknown.Reply{Body: body})
	})
}

// Whatever a Location says, a login goes on to a login path of a valid host over
// https or nowhere, and no text repeats what may be an echo.
func FuzzLoginBase(f *testing.F) {
	for _, place := range []string{
		"", "https://h.example", "https://h.example/", "https://h.example" + Path, "https://h.example" + DraftPath, "https://h.example/b" + Path + "?q",
		"https://h.example//" + Path, "https://h.example/%2e%2e" + Path, "https://h.example" + Path + "/", "https://h.example/?" + Path,
		"https://h.example/_matrix%2fclient/v3/login", "https://[::1]:8448" + Path, "https://h.example/S3cret" + Path, "https://h.example" + Path + "?S3cret", "https://h.example#" + Path, "https://h.example/%zz" + Path,
	} {
		f.Add(place)
	}
	r := &run{Request: Request{Password: NewSecret("S3cret")}, out: new(Result)}
	f.Fuzz(func(t *testing.T, place string) {
		base, err := r.loginBase(place)
		if err != nil {
			var e *wellknown.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, wellknown.RedirectInvalid, e.Code)
			require.Less(t, len(e.Detail), 80)
			require.Nil(t, e.Err)
			require.True(t, base.IsZero())
			return
		}
		again, err := baseurl.Parse(base.String())
		require.NoError(t, err)
		require.Equal(t, base.String(), again.String())
		u, err := url.Parse(place)
		require.NoError(t, err)
		require.True(t, strings.HasSuffix(u.Path, Path) || strings.HasSuffix(u.Path, DraftPath), u.Path)
		require.NotContains(t, base.Path(), "S3cret")
		require.NotContains(t, u.RawQuery, "S3cret")
	})
}

func TestRepeats(t *testing.T) {
	t.Parallel()
	r := &run{Request: Request{Password: NewSecret("P a/ß")}, out: &Result{AccessToken: NewSecret("T0ken")}}
	for given, want := range map[string]bool{
		"": false, "x": false, "P a": false, "P a/": false,
		"P a/ß": true, "xP a/ßx": true, "P%20a%2F%C3%9F": true, "P+a%2f%c3%9f": true, "p A/ß": true,
		"T0ken": true, "t0ken": true, "T%30KEN": true, "%T0ken": true, "token": false,
	} {
		assert.Equal(t, want, r.repeats(given), given)
	}
	assert.False(t, (&run{out: new(Result)}).repeats("x"), "what is empty is in every text")
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ms := func(n int64) *int64 { return &n }
	for _, test := range []struct {
		header, date, body string
		want               *int64
	}{
		{"", "", "", nil},
		{"0", "", "7", ms(0)},
		{" 3 ", "", "", ms(3000)},
		{"-3", "", "", nil},
		{"-3", "", "5", ms(5)},
		{"+3", "", "5", ms(5)},
		{"1.5", "", "5", ms(5)},
		{"99999999999999999999", "", "5", ms(5)},
		{"31536000", "", "", ms(31536000000)},
		{"31536001", "", "", nil},
		{"Fri, 02 Jan 2026 03:04:15 GMT", "", "", ms(10000)},
		{"Fri, 02 Jan 2026 03:04:15 GMT", "Fri, 02 Jan 2026 03:04:13 GMT", "", ms(2000)},
		{"Fri, 02 Jan 2026 03:04:00 GMT", "", "", ms(0)},
		{"Fri, 02 Jan 2126 03:04:00 GMT", "", "", nil},
		{"", "", "1.5", ms(2)},
		{"", "", "1e3", ms(1000)},
		{"", "", "-1", nil},
		{"", "", "null", nil},
		{"", "", `"5"`, nil},
		{"", "", "true", nil},
		{"", "", "1e400", nil},
	} {
		header := http.Header{"Retry-After": {test.header}, "Date": {test.date}}
		assert.Equal(t, test.want, retryAfter(header, json.RawMessage(test.body), now), "%+v", test)
	}
}

func TestErrCode(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{
		"M_FORBIDDEN": true, "COM.MYDOMAIN.HERE_FORBIDDEN": true, "M_3PID": true,
		"": false, "m_forbidden": false, "M FORBIDDEN": false, "M_\x1b[31m": false, "M_Ä": false,
		strings.Repeat("M", 255): true, strings.Repeat("M", 256): false,
	} {
		assert.Equal(t, want, isErrCode(code), code)
	}
}

// What servers have put beside what is asked for may be nested so deeply that it
// cannot be read again.
func TestJSONDeep(t *testing.T) {
	t.Parallel()
	deep := json.RawMessage(strings.Repeat("[", 9999) + strings.Repeat("]", 9999))
	r := &Result{
		Name: "@a:example.org", AccessToken: NewSecret("T0ken"),
		Discovery:      &client.Discovery{Extra: map[string]json.RawMessage{"x": deep}, Hostname: "example.org"},
		IdentityServer: &client.Section{State: client.Success, Extra: map[string]json.RawMessage{"x": deep}},
	}
	for _, show := range []bool{true, false} {
		text, err := r.JSON(show)
		require.NoError(t, err)
		require.Less(t, len(text), 1000)
		assert.Equal(t, show, strings.Contains(string(text), `"access_token":"T0ken"`))
		assert.Contains(t, string(text), `"hostname":"example.org"`)
		assert.False(t, strings.Contains(string(text), "[["))
	}
	assert.NotNil(t, r.Discovery.Extra, "the Result stays as it is")
	assert.NotNil(t, r.IdentityServer.Extra)

	// What can be read again stays.
	r.Discovery, r.IdentityServer.Extra["x"] = nil, json.RawMessage("[1.0]")
	text, err := r.JSON(false)
	require.NoError(t, err)
	assert.Contains(t, string(text), `"extra":{"x":[1.0]}`)
}

func TestOutcome(t *testing.T) {
	t.Parallel()
	for want, e := range map[client.Outcome]*wellknown.Error{
		client.Absent: {Code: wellknown.NotFound}, client.Denied: {Code: wellknown.AddressDenied},
		client.Temporary: {Code: wellknown.Timeout}, client.Invalid: {Code: wellknown.NotJSON},
	} {
		assert.Equal(t, want, outcome(e))
	}
	assert.Equal(t, wellknown.ConnectFailed, asFetchError(errors.New("s3cret")).Code)
	assert.NotContains(t, asFetchError(errors.New("s3cret")).Error(), "s3cret")
}
