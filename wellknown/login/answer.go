package login

import (
	"encoding/json"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"mxdiscover/internal/baseurl"
	"mxdiscover/wellknown"
	"mxdiscover/wellknown/client"
)

const (
	// maxErrCode: appendices, Common Namespaced Identifier Grammar.
	maxErrCode = 255

	// maxRetryAfter is the longest delay that is repeated. No server means more
	// than a year.
	maxRetryAfter = 365 * 24 * time.Hour
)

// answer is what a login answers.
type answer struct {
	userID, deviceID, token string
	members                 map[string]json.RawMessage
}

// parseAnswer reads the body of an answer with status 200: one JSON object, whose
// keys are compared exactly (RFC 8259, 8.3), with three strings that are required
// (MSC1730; Client-Server API since r0.5.0). problem, which says why it is none,
// repeats nothing of the body.
func parseAnswer(body []byte) (a answer, problem string) {
	if !utf8.Valid(body) || json.Unmarshal(body, &a.members) != nil || a.members == nil {
		return answer{}, "the body is not a JSON object"
	}
	for _, member := range []struct {
		key string
		to  *string
	}{{"user_id", &a.userID}, {"access_token", &a.token}, {"device_id", &a.deviceID}} {
		var ok bool
		if *member.to, ok = text(a.members[member.key]); !ok {
			return answer{}, "the answer has no string " + member.key
		}
	}
	if a.token == "" {
		return answer{}, "the access_token is empty"
	}
	return a, ""
}

// finish reads the answer to a login.
func (r *run) finish(reply *wellknown.Reply, step *client.Step, base baseurl.URL, by RedirectedBy) *Error {
	a, problem := parseAnswer(reply.Body)
	if problem != "" {
		return refuse(step, reply, ResponseInvalid, problem)
	}
	r.out.UserID, r.out.AccessToken, r.out.DeviceID = a.userID, NewSecret(a.token), a.deviceID
	if a.userID != r.UserID {
		// An organisation's server may know the user by another name (MSC1730).
		r.warn("user_id_differs", "logged in as another user than was asked for; user_id says as whom")
	}
	r.out.BaseURL, r.out.RedirectedBy = base.String(), by

	// home_server is the name of a server, not where it is: it is not looked at.
	if raw := a.members["well_known"]; present(raw) {
		var members map[string]json.RawMessage
		if raw[0] != '{' || json.Unmarshal(raw, &members) != nil {
			r.warn(unusable(ByWellKnown), "well_known is not an object")
			return nil
		}
		r.move(client.ReadDocument(members), ByWellKnown)
	} else if raw := a.members["base_cs_url"]; present(raw) {
		place, ok := text(raw)
		if !ok {
			r.warn(unusable(ByBaseCSURL), "base_cs_url is not a string")
			return nil
		}
		r.move(client.HomeserverDocument(place), ByBaseCSURL)
	}
	return nil
}

func unusable(by RedirectedBy) string { return string(by) + "_unusable" }

// move goes to the server that the answer names, if it is of use.
func (r *run) move(doc *client.Document, by RedirectedBy) {
	whisper(&doc.Homeserver)
	if doc.IdentityServer != nil {
		whisper(doc.IdentityServer)
	}
	if base, err := baseurl.Parse(doc.Homeserver.BaseURL); err == nil && r.repeats(base.Path()) {
		r.warn(unusable(by), "the base URL that it names repeats the password or the access token")
		return
	}
	found := r.validate.Validate(r.ctx, doc)
	r.out.Steps = append(r.out.Steps, found.Steps...)
	r.out.Warnings = append(r.out.Warnings, found.Warnings...)
	if doc.IdentityServer != nil {
		r.out.IdentityServer = &found.IdentityServer
	}
	if found.Homeserver.State != client.Success {
		r.warn(unusable(by), found.Homeserver.Reason.Message)
		return
	}
	if found.Homeserver.BaseURL != r.out.BaseURL {
		r.out.BaseURL, r.out.RedirectedBy = found.Homeserver.BaseURL, by
	}
}

// whisper says why there is no URL without repeating what stands in its place.
func whisper(info *client.Information) {
	if info.Reason == nil {
		return
	}
	message := "it names no base URL"
	if info.Reason.Code == client.BaseURLInvalid || info.Reason.Code == client.IdentityBaseURLInvalid {
		message = "the base_url that it names is not a URL of http or https"
	}
	info.Reason = &client.Reason{Code: info.Reason.Code, Message: message}
}

// repeats reports whether a text that a server chose holds the password, or the
// access token once there is one.
func (r *run) repeats(given string) bool {
	texts := []string{given}
	for _, unescape := range []func(string) (string, error){url.PathUnescape, url.QueryUnescape} {
		if plain, err := unescape(given); err == nil {
			texts = append(texts, plain)
		}
	}
	for _, secret := range []string{r.Password.Reveal(), r.out.AccessToken.Reveal()} {
		for _, text := range texts {
			// Hosts are in small letters, error codes in capitals.
			if secret != "" && strings.Contains(strings.ToLower(text), strings.ToLower(secret)) {
				return true
			}
		}
	}
	return false
}

// readError reads what stands beside a status that is no good.
func (r *run) readError(reply *wellknown.Reply) (code string, retryAfterMS *int64) {
	var members map[string]json.RawMessage
	if utf8.Valid(reply.Body) && json.Unmarshal(reply.Body, &members) != nil {
		members = nil
	}
	if given, ok := text(members["errcode"]); ok && isErrCode(given) && !r.repeats(given) {
		code = given
	}
	return code, retryAfter(reply.Header, members["retry_after_ms"], time.Now())
}

// isErrCode: error codes are in capitals, with a namespace before the first "_"
// (Client-Server API, "Standard error response").
func isErrCode(code string) bool {
	return code != "" && len(code) <= maxErrCode && !strings.ContainsFunc(code, func(c rune) bool {
		return (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-_.", c)
	})
}

// retryAfter is what Retry-After says (RFC 9110, 10.2.3), else the deprecated
// retry_after_ms of the body (Client-Server API, "Rate limiting"), in
// milliseconds. Nil if neither can be read.
func retryAfter(header http.Header, body json.RawMessage, now time.Time) *int64 {
	given := strings.Trim(header.Get("Retry-After"), " \t")
	ms := -1.0
	if seconds, err := strconv.ParseUint(given, 10, 32); err == nil {
		ms = float64(seconds) * 1000
	} else if at, err := http.ParseTime(given); err == nil {
		if date, err := http.ParseTime(header.Get("Date")); err == nil {
			now = date // the clock that at was read from
		}
		ms = float64(max(0, at.Sub(now).Milliseconds()))
	} else if present(body) {
		if ms, err = strconv.ParseFloat(string(body), 64); err != nil {
			return nil
		}
	}
	if !(ms >= 0 && ms <= float64(maxRetryAfter.Milliseconds())) {
		return nil
	}
	whole := int64(math.Ceil(ms))
	return &whole
}

// present: null counts as absent.
func present(raw json.RawMessage) bool { return len(raw) > 0 && raw[0] != 'n' }

// text gives the value of a JSON string.
func text(raw json.RawMessage) (value string, ok bool) {
	ok = len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &value) == nil
	return value, ok
}
