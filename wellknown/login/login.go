package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"mxdiscover/internal/baseurl"
	"mxdiscover/internal/printable"
	"mxdiscover/internal/servername"
	"mxdiscover/wellknown"
	"mxdiscover/wellknown/client"
)

const (
	// Path is where a login goes (Client-Server API, POST /login).
	Path = "/_matrix/client/v3/login"

	// DraftPath is where it went before v1.1.
	DraftPath = "/_matrix/client/r0/login"

	// MaxRedirects is how many redirects of the POST are followed. Portals send
	// on once; who needs more than five is running in circles.
	MaxRedirects = 5

	passwordType = "m.login.password"
	userType     = "m.id.user"

	// maxUserID: appendices, User Identifiers.
	maxUserID = 255

	// maxQuoted bounds what a message repeats of a text, in bytes: a line of a
	// terminal.
	maxQuoted = 80
)

// A Client logs in. The zero Client is ready to use. Its fields must not change
// after the first use. It may be used by many goroutines at once, and remembers
// nothing.
type Client struct {
	// Fetcher connects: for discovery, login and validation. If nil, a zero
	// wellknown.Fetcher: public addresses only, the system's resolver and roots.
	Fetcher *wellknown.Fetcher

	// HomeserverFetcher connects to the host of Request.Homeserver: what the user
	// wrote himself need not be public. Only its DialTLS, Dial and AllowNets
	// count. If nil, Fetcher's DialTLS and Dial are taken; if those are nil too,
	// any address of that host may be connected to.
	HomeserverFetcher *wellknown.Fetcher

	// FollowRedirect is asked before the password is sent on from one base URL to
	// another, because of a status 307 or 308. If nil, the answer is no.
	FollowRedirect func(from, to string) bool

	// NoValidate leaves out the requests to the servers that discovery and the
	// login's answer name. The form of their URLs is checked nevertheless.
	NoValidate bool

	// Rules selects the text to follow. If zero, client.Current. With
	// client.Draft2018 the login is at DraftPath.
	Rules client.Rules

	// Timeout bounds the work for one login, from discovery to validation. If
	// zero, client.DefaultTimeout. A GET has wellknown.RequestTimeout within it.
	Timeout time.Duration
}

// A Request is who wants to log in.
type Request struct {
	UserID   string // the full Matrix ID
	Password Secret

	// Homeserver is the base URL to log in at, which may be http. If empty, it is
	// discovered from UserID.
	Homeserver string

	// DeviceID is the device to log in as again. If empty, the server makes one.
	DeviceID string
}

// Check says what is wrong with the request before anybody is asked: its code is
// BaseURLInvalid, InvalidDeviceID, InvalidUserID or InvalidPassword, the first
// that applies. Nil if nothing is wrong. [Client.Login] begins with it.
func (r Request) Check() *Error {
	if r.Homeserver != "" {
		if _, err := baseurl.Parse(r.Homeserver); err != nil {
			// It is not quoted: it may hold user info.
			return &Error{Code: BaseURLInvalid, Message: "the homeserver's URL is not usable: " + err.Error()}
		}
	}
	if !utf8.ValidString(r.DeviceID) {
		return &Error{Code: InvalidDeviceID, Message: "the device ID is not UTF-8"}
	}
	_, server, colon := strings.Cut(r.UserID, ":") // appendices, User Identifiers
	_, err := servername.Parse(server)
	if !colon || err != nil || r.UserID[0] != '@' || len(r.UserID) > maxUserID || !utf8.ValidString(r.UserID) ||
		strings.ContainsFunc(r.UserID, func(c rune) bool { return unicode.IsSpace(c) || !unicode.IsGraphic(c) }) {
		return &Error{Code: InvalidUserID, Message: printable.Quote(r.UserID, maxQuoted) + " is not a Matrix ID, such as @alice:example.org"}
	}
	// JSON is UTF-8 (RFC 8259, 8.1); encoding/json would send another password.
	switch password := r.Password.Reveal(); {
	case password == "":
		return &Error{Code: InvalidPassword, Message: "the password is empty"}
	case !utf8.ValidString(password):
		return &Error{Code: InvalidPassword, Message: "the password is not UTF-8"}
	}
	return nil
}

// Login logs in. It never returns nil: Result.Error tells whether it has failed.
// The end of ctx counts as a failure of the request under way.
func (c *Client) Login(ctx context.Context, request Request) *Result {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = client.DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r := &run{Client: c, Request: request, ctx: ctx, path: Path}
	r.out = &Result{Name: request.UserID, Steps: []client.Step{}, Warnings: []client.Warning{}}
	if c.Rules == client.Draft2018 {
		r.path = DraftPath
	}
	if r.out.Error = request.Check(); r.out.Error == nil {
		r.out.Error = r.login(timeout)
	}
	return r.out
}

// run is one login.
type run struct {
	*Client
	Request
	ctx  context.Context
	path string
	out  *Result

	fetch    *wellknown.Fetcher // quiet: whom it asks may know the password
	validate *client.Discoverer // asks with fetch
}

func (r *run) warn(code, message string) {
	r.out.Warnings = append(r.out.Warnings, client.Warning{Code: code, Message: message})
}

func (r *run) login(timeout time.Duration) *Error {
	var base baseurl.URL
	fetch := r.Fetcher
	if fetch == nil {
		fetch = new(wellknown.Fetcher)
	}
	if r.Homeserver != "" {
		base, _ = baseurl.Parse(r.Homeserver) // Check has tried it
		if base.Stripped {
			r.warn("base_url_stripped", "the homeserver's URL has user info, a query or a fragment, which is left out")
		}
		if base.Insecure() {
			r.warn("base_url_http", "the homeserver's URL is http: everybody on the way can read the password")
		}
		fetch = r.allow(fetch, base.Host())
	}
	quiet := *fetch
	quiet.Quiet = true
	r.fetch = &quiet
	discoverer := client.Discoverer{Fetcher: fetch, Rules: r.Rules, NoValidate: r.NoValidate, Timeout: timeout}
	if r.Homeserver == "" {
		var failed *Error
		if base, failed = r.discover(&discoverer); failed != nil {
			return failed
		}
	}
	discoverer.Fetcher = r.fetch
	r.validate = &discoverer
	if failed := r.flows(base); failed != nil {
		return failed
	}
	return r.post(base)
}

// allow lets fetch connect to the host that the user wrote.
func (c *Client) allow(fetch *wellknown.Fetcher, host string) *wellknown.Fetcher {
	via := c.HomeserverFetcher
	if via == nil {
		if fetch.DialTLS != nil || fetch.Dial != nil {
			return fetch
		}
		via = &wellknown.Fetcher{AllowNets: []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}}
	}
	return fetch.Except(host, via)
}

// discover finds the homeserver of the user. Where it finds none, there is no
// further guessing.
func (r *run) discover(d *client.Discoverer) (baseurl.URL, *Error) {
	found := d.Discover(r.ctx, r.UserID)
	r.out.Discovery = found
	if found.State != client.Success {
		return baseurl.URL{}, &Error{Code: DiscoveryFailed, Message: found.Error.Message}
	}
	base, err := baseurl.Parse(found.Homeserver.BaseURL)
	switch {
	case err != nil:
		return base, &Error{Code: DiscoveryFailed, Message: "the homeserver's URL is not usable: " + err.Error()}
	case base.Insecure():
		return base, &Error{Code: InsecureHomeserver, Message: "discovery leads to " + printable.Line(base.String()) + ", where everybody on the way can read the password"}
	}
	return base, nil
}

// flows asks whether the server takes a password (Client-Server API, GET /login).
// Where that is redirected to says nothing of where the POST goes.
func (r *run) flows(base baseurl.URL) *Error {
	object, reply, err := r.fetch.Object(r.ctx, base.Join(r.path))
	r.out.Steps = append(r.out.Steps, client.Steps(RuleFlows, reply)...)
	step := &r.out.Steps[len(r.out.Steps)-1]
	if err != nil {
		e := r.failed(step, reply, asFetchError(err))
		if reply.Status == http.StatusNotFound {
			e.Code = LoginUnsupported
			e.Message += ": the server has no login but OAuth"
		}
		return e
	}
	flows, ok := passwordFlow(object)
	switch {
	case !ok:
		return refuse(step, reply, ResponseInvalid, "flows is not an array")
	case !flows:
		return &Error{Code: PasswordUnsupported, Message: step.Query + ": there is no flow " + passwordType, Status: reply.Status}
	}
	return nil
}

// passwordFlow looks for the flow in the answer to GET /login. ok is false if the
// answer is none.
func passwordFlow(object map[string]json.RawMessage) (found, ok bool) {
	raw := object["flows"]
	if !present(raw) {
		return false, true
	}
	var flows []json.RawMessage
	if raw[0] != '[' || json.Unmarshal(raw, &flows) != nil {
		return false, false
	}
	for _, flow := range flows {
		var members map[string]json.RawMessage // keys are compared exactly
		if flow[0] != '{' || json.Unmarshal(flow, &members) != nil {
			continue
		}
		if kind, ok := text(members["type"]); ok && kind == passwordType {
			return true, true
		}
	}
	return false, true
}

// post logs in (Client-Server API, POST /login).
func (r *run) post(base baseurl.URL) *Error {
	body, _ := json.Marshal(struct { // strings: it cannot fail
		Type       string            `json:"type"`
		Identifier map[string]string `json:"identifier"`
		Password   string            `json:"password"`
		DeviceID   string            `json:"device_id,omitempty"`
	}{passwordType, map[string]string{"type": userType, "user": r.UserID}, r.Password.Reveal(), r.DeviceID})
	place, by := base.Join(r.path), ByNone
	seen := make(map[string]bool)
	for {
		seen[place] = true
		reply, err := r.fetch.Post(r.ctx, place, body)
		step, failed := r.note(reply, err)
		if failed != nil {
			return r.failed(step, reply, failed)
		}
		switch reply.Status {
		case http.StatusOK:
			return r.finish(reply, step, base, by)
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther:
			// They may become a GET on the way (RFC 9110, 15.4).
			return refuse(step, reply, RedirectRefused, describe(reply.Status)+": a login is never sent on because of it")
		case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
			// As MSC1730 first had it: the same method and body.
		}
		next, nextBase, refused := r.next(reply, step, base, seen)
		if refused != nil {
			return refused
		}
		step.Hop.Location = shown(nextBase)
		step.Detail += ", redirected to " + step.Hop.Location
		if nextBase.String() != base.String() {
			by = RedirectedBy(strconv.Itoa(reply.Status))
		}
		place, base = next, nextBase
	}
}

// next is where a redirected login goes on, if it does.
func (r *run) next(reply *wellknown.Reply, step *client.Step, from baseurl.URL, seen map[string]bool) (place string, base baseurl.URL, failed *Error) {
	place, err := reply.Redirect()
	if err == nil {
		base, err = r.loginBase(place)
	}
	refused := func() *Error {
		to := ""
		if err == nil && !r.repeats(base.Host()) {
			to = " to " + shown(base)
		}
		return refuse(step, reply, RedirectRefused, describe(reply.Status)+": nobody has agreed to send the password on"+to)
	}
	switch {
	case r.FollowRedirect == nil:
		return "", base, refused()
	case err != nil:
		e := asFetchError(err)
		return "", base, refuse(step, reply, Code(e.Code), e.Detail)
	case len(seen) > MaxRedirects:
		return "", base, refuse(step, reply, Code(wellknown.RedirectLoop), "more than "+strconv.Itoa(MaxRedirects)+" redirects")
	case seen[place]:
		return "", base, refuse(step, reply, Code(wellknown.RedirectLoop), "redirected to the same address again")
	case !r.FollowRedirect(from.String(), base.String()):
		return "", base, refused()
	}
	return place, base, nil
}

// loginBase is the base URL of a login's address: what stands before the path.
func (r *run) loginBase(place string) (baseurl.URL, error) {
	invalid := func(detail string) (baseurl.URL, error) {
		return baseurl.URL{}, &wellknown.Error{Code: wellknown.RedirectInvalid, Detail: detail}
	}
	u, err := url.Parse(place)
	if err != nil {
		return invalid("redirected to a place that is not a URL")
	}
	prefix, ok := strings.CutSuffix(u.EscapedPath(), Path)
	if !ok {
		if prefix, ok = strings.CutSuffix(u.EscapedPath(), DraftPath); !ok {
			return invalid("redirected to a place where no logins are")
		}
	}
	base, err := baseurl.Parse(u.Scheme + "://" + u.Host + prefix)
	switch {
	case err != nil:
		return invalid("redirected to a place that is no base URL")
	case r.repeats(base.Path()), r.repeats(u.RawQuery):
		// It would stand in the logs of the server there.
		return invalid("redirected to a URL that repeats the password")
	}
	return base, nil
}

// shown is a redirect's place for people. Who redirects a password may have put
// it into the path.
func shown(base baseurl.URL) string {
	return printable.Line(base.Scheme() + "://" + base.Authority())
}

// note adds the request of a Post to the steps. failed is what ends the login:
// err, or a status that is neither 200 nor that of a redirect.
func (r *run) note(reply *wellknown.Reply, err error) (step *client.Step, failed *wellknown.Error) {
	hop := reply.Hops[0]
	r.out.Steps = append(r.out.Steps, client.Step{Rule: RuleLogin, Query: http.MethodPost + " " + hop.URL, Outcome: client.Used, Duration: hop.Duration, Hop: hop})
	step = &r.out.Steps[len(r.out.Steps)-1]
	switch reply.Status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		step.Detail = strconv.Itoa(reply.Status)
	case http.StatusOK:
		step.Detail = fmt.Sprintf("%d, %d bytes", reply.Status, len(reply.Body))
	default:
		failed = &wellknown.Error{Code: wellknown.HTTPStatus, Method: http.MethodPost, URL: hop.URL, Status: reply.Status, Detail: describe(reply.Status)}
	}
	if err != nil {
		failed = asFetchError(err)
	}
	if failed != nil {
		step.Outcome, step.Detail, step.Hop.Err = outcome(failed), failed.Detail, failed
	}
	return step, failed
}

// refuse makes an answer the end of the login.
func refuse(step *client.Step, reply *wellknown.Reply, code Code, detail string) *Error {
	step.Outcome, step.Detail = client.Invalid, fmt.Sprintf("%d, %s", reply.Status, detail)
	return &Error{Code: code, Message: step.Query + ": " + detail, Status: reply.Status}
}

// failed makes a failed request, whose step says so already, the end of the
// login.
func (r *run) failed(step *client.Step, reply *wellknown.Reply, why *wellknown.Error) *Error {
	e := &Error{Code: Code(why.Code), Message: why.Error(), Status: reply.Status}
	switch why.Code {
	case wellknown.NotFound, wellknown.HTTPStatus:
		e.Code = LoginFailed
		if e.ErrCode, e.RetryAfterMS = r.readError(reply); e.ErrCode != "" {
			step.Detail += ", " + e.ErrCode
			e.Message += ", " + e.ErrCode
		}
	case wellknown.EmptyBody, wellknown.NotJSON, wellknown.NotObject, wellknown.TooLarge:
		if reply.Status == http.StatusOK {
			e.Code = ResponseInvalid
		}
	}
	return e
}

// asFetchError: those of a Fetcher are nothing else.
func asFetchError(err error) *wellknown.Error {
	var failed *wellknown.Error
	if !errors.As(err, &failed) {
		failed = &wellknown.Error{Code: wellknown.ConnectFailed, Detail: "the request could not be made"}
	}
	return failed
}

func outcome(e *wellknown.Error) client.Outcome {
	switch {
	case e.Absent():
		return client.Absent
	case e.Code == wellknown.AddressDenied:
		return client.Denied
	case e.Temporary():
		return client.Temporary
	}
	return client.Invalid
}

func describe(status int) string {
	return strings.TrimSpace("status " + strconv.Itoa(status) + " " + http.StatusText(status))
}
