package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"time"

	"mxdiscover/internal/baseurl"
	"mxdiscover/internal/printable"
	"mxdiscover/internal/servername"
	"mxdiscover/wellknown"
)

const (
	// DefaultTimeout bounds the work for one name. Each request has
	// [wellknown.RequestTimeout] within it: three that time out, redirected once
	// each, end before.
	DefaultTimeout = 30 * time.Second

	// ClientPath is where a server name's document is (CS 3; RFC 8615).
	ClientPath = "/.well-known/matrix/client"

	// VersionsPath validates a homeserver's base URL (CS 3.5.2).
	VersionsPath = "/_matrix/client/versions"

	// IdentityPath validates an identity server's (CS 3.6).
	IdentityPath = "/_matrix/identity/v2"

	// DraftIdentityPath did before v1.1 (MSC2713).
	DraftIdentityPath = "/_matrix/identity/api/v1"
)

// A State says what to do, in the words of Client-Server API, "Server
// Discovery".
type State string

// The states. Discovery as a whole is never Prompt, a server never Ignore.
const (
	Success    State = "SUCCESS"     // use the value
	Prompt     State = "PROMPT"      // ask the user for it
	Ignore     State = "IGNORE"      // this way of discovery has nothing to say
	FailPrompt State = "FAIL_PROMPT" // say that discovery failed, then ask
	FailError  State = "FAIL_ERROR"  // say that there is no usable server, and stop
)

// A Discoverer discovers servers for clients. The zero Discoverer is ready to
// use. Its fields must not change after the first use. It may be used by many
// goroutines at once, and remembers nothing.
type Discoverer struct {
	// Fetcher makes the requests. If nil, a zero wellknown.Fetcher: public
	// addresses only, the system's resolver and roots.
	Fetcher *wellknown.Fetcher

	// Rules selects the text to follow. If zero, Current.
	Rules Rules

	// NoValidate leaves out the requests to what the document names: they are
	// a SHOULD (CS 3.5.2). The form of its URLs is checked nevertheless.
	NoValidate bool

	// Timeout bounds the work for one name. If zero, DefaultTimeout.
	Timeout time.Duration
}

// A Discovery is how discovery ended. As JSON it has the keys that its fields
// are tagged with; values that are not known are left out.
type Discovery struct {
	Name           string  `json:"name"`                  // as given
	ServerName     string  `json:"server_name,omitempty"` // CS 1; empty if there is none
	Hostname       string  `json:"hostname,omitempty"`    // CS 2: without the port; IPv6 in brackets
	State          State   `json:"state"`
	Homeserver     Section `json:"homeserver"`
	IdentityServer Section `json:"identity_server"`

	// Extra are the other members of the document, unread.
	Extra map[string]json.RawMessage `json:"extra,omitempty"`

	Steps    []Step    `json:"steps"`    // every request
	Warnings []Warning `json:"warnings"` // what works and should be changed

	// Error is the reason that decided State; nil if that is Success.
	Error *Reason `json:"error,omitempty"`
}

// A Section is one of the two servers.
type Section struct {
	State State `json:"state"` // what to do about it

	// BaseURL is where it is: nothing but a path has to be appended. It is
	// there although State is a failure if it was the server that failed.
	BaseURL string `json:"base_url,omitempty"`

	// Versions are the versions of the specification that a homeserver
	// publishes, as they came. Nil if it was not asked.
	Versions []string `json:"versions,omitzero"`

	// Reason says why State is not Success. Nil for an identity server that
	// nothing is wrong with.
	Reason *Reason `json:"reason,omitempty"`

	// Extra are the members beside base_url, unread.
	Extra map[string]json.RawMessage `json:"extra,omitempty"`
}

// Warning is something that works and should be changed. Its codes are
// port_ignored, base_url_stripped, base_url_http, versions_redirected,
// not_validated, versions_empty, cors_missing and content_type.
type Warning struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Discover finds the servers of a Matrix ID or a server name. It never returns
// nil. The end of ctx counts as a failure of the request under way.
func (d *Discoverer) Discover(ctx context.Context, userOrServer string) *Discovery {
	r, cancel := d.run(ctx)
	defer cancel()
	r.out.Name = userOrServer
	name, err := parseName(userOrServer)
	if err != nil {
		return r.end(FailPrompt, FailPrompt, &Reason{InvalidServerName, err.Error()})
	}
	r.out.ServerName, r.out.Hostname = name.String(), name.Host()
	if port, ok := name.Port(); ok {
		r.warn("port_ignored", fmt.Sprintf("discovery leaves the port %d of the server name out: https is asked on port 443", port))
	}
	object, reply, failed := r.fetch("3", "https://"+name.Host()+ClientPath)
	r.warnCORS(reply)
	if reply.Status == http.StatusOK {
		r.warnContentType(reply)
	}
	switch {
	case failed != nil && failed.Code == wellknown.NotFound: // CS 3.1
		return r.end(Ignore, Prompt, fetchReason("", failed))
	case failed != nil: // CS 3.2, 3.3
		return r.end(FailPrompt, FailPrompt, fetchReason("", failed))
	}
	doc := ReadDocument(object)
	if doc.Homeserver.Reason != nil {
		last := &r.out.Steps[len(r.out.Steps)-1]
		last.Outcome, last.Detail = Invalid, doc.Homeserver.Reason.Message
	}
	return r.judge(doc)
}

// Validate goes on from step 3.4 with a document that came in another way, such
// as with a login. A nil or zero Document names no homeserver. The names in the
// Discovery are empty.
func (d *Discoverer) Validate(ctx context.Context, doc *Document) *Discovery {
	r, cancel := d.run(ctx)
	defer cancel()
	if doc == nil {
		doc = new(Document)
	}
	return r.judge(doc)
}

// parseName: the server name of a Matrix ID is what follows the first colon
// (CS 1).
func parseName(userOrServer string) (servername.Name, error) {
	server := userOrServer
	if strings.HasPrefix(userOrServer, "@") {
		var ok bool
		if _, server, ok = strings.Cut(userOrServer, ":"); !ok {
			return servername.Name{}, errors.New("invalid Matrix ID " + printable.Quote(userOrServer, maxQuoted) + ": it has no colon and no server name after it")
		}
	}
	return servername.Parse(server)
}

// run is the work for one name.
type run struct {
	*Discoverer
	ctx context.Context
	out *Discovery
}

func (d *Discoverer) run(ctx context.Context) (*run, context.CancelFunc) {
	timeout := d.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	return &run{d, ctx, &Discovery{
		Homeserver:     Section{State: Prompt},
		IdentityServer: Section{State: Prompt},
		Steps:          []Step{},
		Warnings:       []Warning{},
	}}, cancel
}

func (d *Discoverer) fetcher() *wellknown.Fetcher {
	if d.Fetcher == nil {
		return new(wellknown.Fetcher)
	}
	return d.Fetcher
}

// end sets how the whole and the homeserver ended.
func (r *run) end(whole, homeserver State, reason *Reason) *Discovery {
	r.out.State, r.out.Error = whole, reason
	r.out.Homeserver.State, r.out.Homeserver.Reason = homeserver, reason
	return r.out
}

func (r *run) warn(code, message string) {
	r.out.Warnings = append(r.out.Warnings, Warning{code, message})
}

// fetch makes one fetch and notes its requests.
func (r *run) fetch(rule, url string) (map[string]json.RawMessage, *wellknown.Reply, *wellknown.Error) {
	object, reply, err := r.fetcher().Object(r.ctx, url)
	r.out.Steps = append(r.out.Steps, Steps(rule, reply)...)
	var failed *wellknown.Error
	if err != nil && !errors.As(err, &failed) {
		failed = &wellknown.Error{Code: wellknown.ConnectFailed, URL: printable.Line(url), Detail: printable.Line(err.Error()), Err: err}
	}
	return object, reply, failed
}

func fetchReason(prefix string, failed *wellknown.Error) *Reason {
	return &Reason{Code(prefix + string(failed.Code)), failed.Error()}
}

// judge is CS 3.4 to 3.6.
func (r *run) judge(doc *Document) *Discovery {
	out := r.out
	out.Extra, out.Homeserver.Extra = doc.Extra, doc.Homeserver.Extra
	if doc.IdentityServer != nil {
		out.IdentityServer.Extra = doc.IdentityServer.Extra
	}
	base, reason := doc.Homeserver.url(homeserverKey, BaseURLMissing, BaseURLInvalid)
	if reason != nil {
		state := FailPrompt // CS 3.4
		if reason.Code == BaseURLInvalid {
			state = FailError // CS 3.5.1
		}
		return r.end(state, state, reason)
	}
	out.Homeserver.BaseURL = base.String()
	r.warnURL(homeserverKey, base)
	if r.NoValidate {
		r.warn("not_validated", "nobody has asked whether the servers are what they are said to be")
	} else if reason := r.versions(base); reason != nil {
		return r.end(FailError, FailError, reason) // CS 3.5.2
	}
	r.end(Success, Success, nil)
	if doc.IdentityServer != nil {
		r.identity(doc.IdentityServer)
	}
	return out
}

// versions asks a homeserver for its versions (CS 3.5.2).
func (r *run) versions(base baseurl.URL) *Reason {
	object, reply, failed := r.fetch("3.5", base.Join(VersionsPath))
	r.warnCORS(reply)
	if len(reply.Hops) > 1 {
		// The redirect is one of this URL. A POST would not survive it.
		r.warn("versions_redirected", "GET "+reply.Hops[0].URL+" was redirected; the base URL stays "+printable.Line(base.String()))
	}
	if failed != nil {
		return fetchReason(versionsPrefix, failed)
	}
	versions, err := readVersions(object)
	last := &r.out.Steps[len(r.out.Steps)-1]
	if err != nil {
		last.Outcome, last.Detail = Invalid, err.Error()
		return &Reason{VersionsSchema, last.Query + ": " + err.Error()}
	}
	r.out.Homeserver.Versions = versions
	if len(versions) == 0 {
		r.warn("versions_empty", "the homeserver publishes no version of the specification")
	}
	return nil
}

// identity is CS 3.6, once the homeserver is good.
func (r *run) identity(info *Information) {
	section := &r.out.IdentityServer
	base, reason := info.url(identityKey, IdentityBaseURLMissing, IdentityBaseURLInvalid)
	if reason != nil {
		r.identityFails(reason)
		return
	}
	section.BaseURL = base.String()
	r.warnURL(identityKey, base)
	if !r.NoValidate {
		path := IdentityPath
		if r.Rules == Draft2018 {
			path = DraftIdentityPath
		}
		if _, _, failed := r.fetch("3.6", base.Join(path)); failed != nil {
			r.identityFails(fetchReason(identityPrefix, failed))
			return
		}
	}
	section.State = Success
}

// identityFails: FAIL_PROMPT for the identity server alone (MSC2284), once
// FAIL_ERROR for everything (Client-Server API r0.4.0).
func (r *run) identityFails(reason *Reason) {
	section := &r.out.IdentityServer
	section.State, section.Reason = FailPrompt, reason
	if r.Rules == Draft2018 {
		section.State = FailError
		r.out.State, r.out.Error = FailError, reason
	}
}

func (r *run) warnURL(key string, base baseurl.URL) {
	if base.Stripped {
		r.warn("base_url_stripped", key+"."+baseURLKey+" has user info, a query or a fragment, which is left out")
	}
	if base.Insecure() {
		r.warn("base_url_http", key+"."+baseURLKey+" is http: everybody on the way can read and change what is said")
	}
}

// warnCORS: a browser reads no answer, be it a redirect or an error, that does not
// allow it (Client-Server API, "Web Browser Clients"; MSC4402 for hops).
func (r *run) warnCORS(reply *wellknown.Reply) {
	const allow = "Access-Control-Allow-Origin"
	for i, header := range reply.Headers {
		values := header.Values(allow)
		if len(values) == 1 && strings.Trim(values[0], " \t") == "*" {
			continue
		}
		r.warn("cors_missing", "GET "+reply.Hops[i].URL+": the answer has no "+allow+": *, so no client in a browser can read it")
	}
}

func (r *run) warnContentType(reply *wellknown.Reply) {
	given := reply.Header.Get("Content-Type")
	if media, _, err := mime.ParseMediaType(given); media == "application/json" && (err == nil || errors.Is(err, mime.ErrInvalidMediaParameter)) {
		return
	}
	is := "has no Content-Type; it should be"
	if given != "" {
		is = "has the Content-Type " + printable.Quote(given, maxQuoted) + ", not"
	}
	r.warn("content_type", "GET "+reply.Hops[len(reply.Hops)-1].URL+": the answer "+is+" application/json")
}
