package login

import (
	"encoding/json"

	"mxdiscover/wellknown/client"
)

// RedirectedBy is the last thing that changed the base URL.
type RedirectedBy string

// What can change the base URL.
const (
	ByNone      RedirectedBy = "none"        // it is the one that was logged in to first
	ByWellKnown RedirectedBy = "well_known"  // Client-Server API, POST /login; MSC1730
	ByBaseCSURL RedirectedBy = "base_cs_url" // the first drafts of MSC1730
	By307       RedirectedBy = "307"         // the same drafts
	By308       RedirectedBy = "308"         // RFC 9110, 15.4.9: as 307, for good
)

// Rules of the steps that are not those of client discovery.
const (
	RuleFlows = "flows" // GET /login
	RuleLogin = "login" // POST /login
)

// A Result is how a login ended. As JSON it has the keys that its fields are
// tagged with; values that are not known are left out, and so is the access token.
type Result struct {
	Name     string `json:"name"`                // the user ID as given
	UserID   string `json:"user_id,omitempty"`   // as the server calls the user
	DeviceID string `json:"device_id,omitempty"` // as the server calls the device

	// BaseURL is where to go from now on: nothing but a path has to be appended.
	BaseURL string `json:"base_url,omitempty"`

	// RedirectedBy is what has led to BaseURL. Empty if the login failed.
	RedirectedBy RedirectedBy `json:"redirected_by,omitempty"`

	// IdentityServer is what well_known says of one; nil if it says nothing.
	IdentityServer *client.Section `json:"identity_server,omitempty"`

	// Discovery, with steps and warnings of its own, is nil if the caller named
	// the homeserver.
	Discovery *client.Discovery `json:"discovery,omitempty"`

	Steps    []client.Step    `json:"steps"`    // every request after discovery
	Warnings []client.Warning `json:"warnings"` // what works and should be changed

	// Error says why there was no login. Nil if there was one.
	Error *Error `json:"error,omitempty"`

	// AccessToken is good for everything that the user may do.
	AccessToken Secret `json:"-"`
}

// JSON gives the JSON form, with the access token under access_token if
// showToken is true. Members named Extra are left out if they are nested too
// deeply to be read again.
func (r *Result) JSON(showToken bool) ([]byte, error) {
	form := struct {
		Result
		AccessToken string `json:"access_token,omitempty"`
	}{Result: *r}
	if showToken {
		form.AccessToken = r.AccessToken.Reveal()
	}
	text, err := json.Marshal(form)
	if err == nil && json.Valid(text) {
		return text, nil
	}
	// What servers have put beside what is asked for is nested so deeply that it
	// could be read alone, and cannot be read within this.
	if r.Discovery != nil {
		found := *r.Discovery
		found.Extra, found.Homeserver.Extra, found.IdentityServer.Extra = nil, nil, nil
		form.Discovery = &found
	}
	if r.IdentityServer != nil {
		section := *r.IdentityServer
		section.Extra = nil
		form.IdentityServer = &section
	}
	return json.Marshal(form)
}

// A Code names why a login failed. Beside those below it is the
// [mxdiscover/wellknown.Code] of what failed below HTTP.
type Code string

// The codes that no fetch gives.
const (
	InvalidUserID       Code = "invalid_user_id"        // nothing was asked
	InvalidPassword     Code = "invalid_password"       // empty, or not UTF-8; nothing was asked
	InvalidDeviceID     Code = "invalid_device_id"      // not UTF-8; nothing was asked
	BaseURLInvalid      Code = "base_url_invalid"       // Request.Homeserver; nothing was asked
	DiscoveryFailed     Code = "discovery_failed"       // Result.Discovery has the reason
	InsecureHomeserver  Code = "insecure_homeserver"    // discovery leads to http
	LoginUnsupported    Code = "login_unsupported"      // GET /login: 404; OAuth only (v1.15)
	PasswordUnsupported Code = "password_unsupported"   // no flow m.login.password
	RedirectRefused     Code = "redirect_refused"       // of the POST: 301, 302, 303, or no consent
	LoginFailed         Code = "login_failed"           // any other status but 200
	ResponseInvalid     Code = "login_response_invalid" // status 200 without what belongs there
)

// An Error says why there was no login: Code for programs, Message for people,
// in one line without control characters.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`

	Status       int    `json:"status,omitempty"`         // of HTTP; 0 if there was none
	ErrCode      string `json:"errcode,omitempty"`        // such as M_FORBIDDEN; empty if there was none
	RetryAfterMS *int64 `json:"retry_after_ms,omitempty"` // when to try again; nil if nobody said so
}

func (e *Error) Error() string { return e.Message }
