package portal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"mxdiscover/internal/clientaddr"
	"mxdiscover/internal/printable"
)

const (
	// maxBody is the largest body of a login: a JSON object with a user and a
	// password. Synapse takes 200 KiB for the whole of most requests.
	maxBody = 1 << 20

	// firstRead is the room for a body before it is known to be larger.
	firstRead = 4 << 10

	// maxHeld is the room for the bodies of all logins under way. 65536 of
	// usual size fit; beyond it, logins are turned away with 503 until others
	// have ended, so that strangers cannot fill the memory.
	maxHeld = 256 << 20

	// maxDrain is how much of a body that is too large is read and dropped, so
	// that the client has finished writing and reads the answer. Who sends
	// more gets the connection closed.
	maxDrain = 16 << 20
)

// The paths that the portal serves, besides login.
const (
	pathVersions  = "/_matrix/client/versions"
	pathWellKnown = "/.well-known/matrix/client"
)

// isLogin takes the path of r0 (MSC1730 and releases up to r0.6.1) and that of
// v3.
func isLogin(path string) bool {
	return path == "/_matrix/client/v3/login" || path == "/_matrix/client/r0/login"
}

// exchange is one request to the portal.
type exchange struct {
	*Portal
	*settings
	w     http.ResponseWriter
	r     *http.Request
	from  clientaddr.Origin
	entry Entry
	ended bool // nothing more is expected of the body
}

// ServeHTTP answers one request. It may be called by many goroutines at once.
func (p *Portal) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	from := clientaddr.Of(r, p.TrustForwardedFor)
	x := &exchange{Portal: p, w: w, r: r, from: from, entry: Entry{
		Method: printable.Line(r.Method),
		Path:   printable.Line(r.URL.EscapedPath()),
		Client: from.Client,
	}}
	defer func() {
		x.entry.Duration = time.Since(begun)
		if p.Log != nil {
			p.Log(x.entry)
		}
	}()
	var err error
	if x.settings, err = p.settings(); err != nil {
		x.settings = &settings{timeout: DefaultTimeout}
		x.entry.Failures = append(x.entry.Failures, err)
		x.refuse(&Error{http.StatusInternalServerError, "M_UNKNOWN", "The portal is not set up."})
		return
	}
	x.serve()
}

func (x *exchange) serve() {
	x.limitReading(time.Now().Add(x.timeout))
	switch path, method := x.r.URL.Path, x.r.Method; {
	case method == http.MethodOptions:
		// "Servers MUST expect that clients will approach them with OPTIONS
		// requests": no further action (Client-Server API, Web Browser Clients).
		x.send(http.StatusNoContent, http.Header{}, nil, nil)
	case isLogin(path) && method == http.MethodPost:
		x.login()
	case isLogin(path) && method == http.MethodGet:
		x.first(dropFlows)
	case isLogin(path):
		x.wrongMethod("GET, OPTIONS, POST")
	case path == pathVersions && method == http.MethodGet:
		x.first(nil)
	case path == pathVersions:
		x.wrongMethod("GET, OPTIONS")
	case path == pathWellKnown && method == http.MethodGet:
		x.wellKnown()
	case path == pathWellKnown:
		x.wrongMethod("GET, OPTIONS")
	default:
		x.elsewhere()
	}
}

// elsewhere is the "401 response to all non-/login requests" of the accepted
// MSC1730. A client that holds a token would throw away its keys without
// soft_logout (Client-Server API, Soft logout), while all it has to do is to log
// in again and go where the answer says.
func (x *exchange) elsewhere() {
	type body struct {
		ErrCode    string `json:"errcode"`
		Message    string `json:"error"`
		SoftLogout bool   `json:"soft_logout,omitempty"`
	}
	answer := body{"M_MISSING_TOKEN", "This is a portal: log in, and go where the answer says.", false}
	if hasToken(x.r) {
		answer = body{"M_UNKNOWN_TOKEN", "This is a portal, not your homeserver: log in again, and go where the answer says.", true}
	}
	// RFC 9110, 15.5.2: a 401 must have a challenge.
	x.sendJSON(http.StatusUnauthorized, http.Header{"Www-Authenticate": {"Bearer"}}, answer)
}

// hasToken looks where access tokens are (Client-Server API, Using access
// tokens).
func hasToken(r *http.Request) bool {
	scheme, token, _ := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " ")
	return strings.EqualFold(scheme, "Bearer") && strings.TrimSpace(token) != "" || r.URL.Query().Get("access_token") != ""
}

func (x *exchange) wellKnown() {
	if x.baseURL == "" {
		x.refuse(&Error{http.StatusNotFound, "M_NOT_FOUND", "Nothing is published here."})
		return
	}
	x.sendJSON(http.StatusOK, nil, map[string]map[string]string{"m.homeserver": {"base_url": x.baseURL}})
}

func (x *exchange) wrongMethod(allowed string) {
	x.sendJSON(http.StatusMethodNotAllowed, http.Header{"Allow": {allowed}}, errorBody{"M_UNRECOGNIZED", "There is no such method here."})
}

// login sends the login to a homeserver, or the client to it.
func (x *exchange) login() {
	body, refusal := x.readBody()
	defer x.held.Add(-int64(cap(body)))
	if refusal != nil {
		x.refuse(refusal)
		return
	}
	order, refusal := x.choose(body)
	if refusal != nil {
		x.refuse(refusal)
		return
	}
	if x.Mode == Redirect {
		x.redirect(order[0])
		return
	}
	header := requestHeader(x.r, x.from)
	x.forward(order, header, body, false, func(t *target, text []byte) []byte {
		return Announce(text, t.public, x.Emit)
	})
}

// redirect is the other way of MSC1730: "a 307 Temporary Redirect response". The
// place is one that the operator named, with a path of our own, so nobody can
// be sent elsewhere.
func (x *exchange) redirect(t *target) {
	place := t.public + x.r.URL.Path
	if x.r.URL.RawQuery != "" || x.r.URL.ForceQuery {
		place += "?" + x.r.URL.RawQuery
	}
	x.entry.Target = t.name
	x.send(http.StatusTemporaryRedirect, http.Header{"Location": {asciiURL(place)}}, nil, nil)
}

// asciiURL escapes what no URL may have (RFC 3986, 2), and so what could end a
// header line.
func asciiURL(place string) string {
	var out strings.Builder
	for _, c := range []byte(place) {
		if c <= ' ' || c >= 0x7f {
			const digits = "0123456789ABCDEF"
			out.Write([]byte{'%', digits[c>>4], digits[c&15]})
			continue
		}
		out.WriteByte(c)
	}
	return out.String()
}

// first passes on the answer of the first target that gives one. edit changes a
// 200.
func (x *exchange) first(edit func([]byte) []byte) {
	var with func(*target, []byte) []byte
	if edit != nil {
		with = func(_ *target, text []byte) []byte { return edit(text) }
	}
	x.forward(x.targets, requestHeader(x.r, x.from), nil, true, with)
}

// forward sends the request to one target after the other until one is reached.
// What may be repeated, because it changes nothing there, goes to the next one
// also if the connection was lost.
func (x *exchange) forward(order []*target, header http.Header, body []byte, repeatable bool, edit func(*target, []byte) []byte) {
	if wasHere(x.r, x.pseudonym) {
		x.entry.Failures = append(x.entry.Failures, errLoop)
		x.refuse(&Error{http.StatusBadGateway, "M_UNKNOWN", "The portal sends logins to itself."})
		return
	}
	// By its own name the portal knows what it has sent (RFC 9110, 7.6.3).
	header.Set("Via", strings.Join(append(header.Values("Via"), "1.1 "+x.pseudonym), ", "))
	if edit != nil && header["Accept-Encoding"] != nil {
		header.Set("Accept-Encoding", readable(strings.Join(header["Accept-Encoding"], ",")))
	}
	out := &outgoing{method: x.r.Method, path: x.r.URL.Path, query: x.r.URL.RawQuery, force: x.r.URL.ForceQuery, header: header, body: body}
	var failure *TargetError
	for _, t := range order {
		x.entry.Target = t.name
		var a *answer
		if a, failure = x.ask(x.r.Context(), t, x.timeout, out); failure == nil {
			defer a.close()
			x.pass(a, t, edit)
			return
		}
		x.entry.Failures = append(x.entry.Failures, failure)
		if failure.Kind != Unreached && (failure.Kind != Lost || !repeatable) {
			break
		}
	}
	switch failure.Kind {
	case TooLate, GivenUp: // of the latter nobody will read it
		x.refuse(&Error{http.StatusGatewayTimeout, "M_UNKNOWN", "The homeserver did not answer in time."})
	case Lost:
		x.refuse(&Error{http.StatusBadGateway, "M_UNKNOWN", "The homeserver gave no proper answer."})
	default:
		x.refuse(&Error{http.StatusBadGateway, "M_UNKNOWN", "The homeserver could not be reached."})
	}
}

// stale are fields that describe the bytes of a body, and are wrong once it has
// been changed (RFC 9110, 7.7; RFC 9530).
var stale = [...]string{"Content-Encoding", "Etag", "Accept-Ranges", "Content-Md5", "Digest", "Content-Digest", "Repr-Digest"}

// pass gives a target's answer to the client.
func (x *exchange) pass(a *answer, t *target, edit func(*target, []byte) []byte) {
	header, body := endToEnd(a.Header), a.whole
	if a.StatusCode == http.StatusOK && a.rest == nil && edit != nil {
		if text, ok := decode(strings.Join(header["Content-Encoding"], ","), body); ok {
			if edited := edit(t, text); string(edited) != string(text) {
				body = edited
				for _, name := range stale {
					header.Del(name)
				}
			}
		}
	}
	if a.rest != nil && a.ContentLength >= 0 {
		header.Set("Content-Length", strconv.FormatInt(a.ContentLength, 10))
	}
	x.send(a.StatusCode, header, body, a.rest)
}

// choose asks the Chooser.
func (x *exchange) choose(body []byte) ([]*target, *Error) {
	ctx, cancel := context.WithTimeout(x.r.Context(), x.timeout)
	defer cancel()
	request := x.r.WithContext(ctx)
	request.Body = io.NopCloser(bytes.NewReader(body))
	names, err := x.chooser.Choose(&Login{Request: request, Body: body, Targets: x.names})
	var refusal *Error
	if errors.As(err, &refusal) && refusal.Status >= 400 && refusal.Status <= 599 {
		return nil, refusal
	}
	order := make([]*target, 0, len(names))
	for _, name := range names {
		if t := x.byName[name]; t != nil {
			order = append(order, t)
		}
	}
	switch {
	case err != nil:
		err = &chooserError{err}
	case len(order) < len(names):
		err = errors.New("the chooser named a target that is not there")
	case len(order) == 0:
		err = errors.New("the chooser named no target")
	default:
		return order, nil
	}
	x.entry.Failures = append(x.entry.Failures, err)
	return nil, &Error{http.StatusInternalServerError, "M_UNKNOWN", "The portal could not choose a homeserver."}
}

// readBody reads the body into memory that is counted in held: its capacity.
func (x *exchange) readBody() ([]byte, *Error) {
	tooLarge := &Error{http.StatusRequestEntityTooLarge, "M_TOO_LARGE", "The body has more than 1048576 bytes."}
	if x.r.ContentLength > maxBody {
		// Who waits to be asked for the body has not begun, and need not.
		if x.r.Header.Get("Expect") == "" {
			x.drain()
		}
		return nil, tooLarge
	}
	var body []byte
	size := firstRead
	for {
		if len(body) == cap(body) {
			if x.held.Add(int64(size)) > maxHeld {
				x.held.Add(-int64(size))
				return body, &Error{http.StatusServiceUnavailable, "M_UNKNOWN", "Too many logins are under way. Try again."}
			}
			larger := make([]byte, len(body), size)
			copy(larger, body)
			x.held.Add(-int64(cap(body)))
			body, size = larger, min(2*size, maxBody+1)
		}
		n, err := x.r.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		var limited *http.MaxBytesError
		switch {
		case len(body) > maxBody || errors.As(err, &limited):
			x.drain()
			return body, tooLarge
		case err == io.EOF:
			x.ended = true
			x.limitReading(time.Time{}) // net/http goes on reading, to see the client go away
			return body, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			x.ended = true
			x.w.Header().Set("Connection", "close")
			return body, &Error{http.StatusRequestTimeout, "M_UNKNOWN", "The body did not come in time."}
		case err != nil:
			x.w.Header().Set("Connection", "close")
			return body, &Error{http.StatusBadRequest, "M_UNKNOWN", "The body could not be read."}
		}
	}
}

// limitReading sets the time until which the body must have come, unless the
// server has set one. net/http reads what a handler left over, so there is one
// for every request with a body; it is net/http that takes it away for the next
// request.
func (x *exchange) limitReading(until time.Time) {
	if server := serverOf(x.r); server != nil && server.ReadTimeout != 0 || x.r.Body == nil || x.r.Body == http.NoBody {
		return
	}
	// Not every ResponseWriter has deadlines; those of net/http do.
	_ = http.NewResponseController(x.w).SetReadDeadline(until)
}

func (x *exchange) drain() {
	if x.r.ContentLength <= maxDrain {
		_, _ = io.CopyN(io.Discard, x.r.Body, maxDrain)
	}
}

func serverOf(r *http.Request) *http.Server {
	server, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
	return server
}

type errorBody struct {
	ErrCode string `json:"errcode"`
	Message string `json:"error"`
}

func (x *exchange) refuse(e *Error) {
	var header http.Header
	if e.Status == http.StatusServiceUnavailable {
		header = http.Header{"Retry-After": {"1"}}
	}
	x.sendJSON(e.Status, header, errorBody{e.ErrCode, e.Message})
}

func (x *exchange) sendJSON(status int, header http.Header, value any) {
	if header == nil {
		header = http.Header{}
	}
	header.Set("Content-Type", "application/json")
	body, _ := json.Marshal(value) // strings and booleans: it cannot fail
	x.send(status, header, body, nil)
}

// cors are the fields that the Client-Server API, "Web Browser Clients",
// recommends for every answer.
var cors = [...][2]string{
	{"Access-Control-Allow-Origin", "*"},
	{"Access-Control-Allow-Methods", "GET, POST, PUT, DELETE, OPTIONS"},
	{"Access-Control-Allow-Headers", "X-Requested-With, Content-Type, Authorization"},
}

// send writes the answer; there is no other place that does.
func (x *exchange) send(status int, header http.Header, body []byte, rest io.Reader) {
	to := x.w.Header()
	for name, values := range header {
		to[name] = values
	}
	for _, field := range cors {
		to.Set(field[0], field[1])
	}
	if to["Content-Type"] == nil {
		to["Content-Type"] = nil // net/http is not to guess one
	}
	switch {
	case status == http.StatusNoContent || status == http.StatusNotModified:
		body, rest = nil, nil // RFC 9110, 15.3.5 and 15.4.5
		to.Del("Content-Length")
	case rest == nil:
		to.Set("Content-Length", strconv.Itoa(len(body)))
	}
	if !x.ended {
		// net/http reads what is left before it writes the answer, which must
		// then still be in time.
		x.limitReading(time.Now().Add(x.timeout / 2))
	}
	control, server := http.NewResponseController(x.w), serverOf(x.r)
	if server == nil || server.WriteTimeout == 0 {
		_ = control.SetWriteDeadline(time.Now().Add(x.timeout))
		defer func() { _ = control.SetWriteDeadline(time.Time{}) }()
	}
	x.entry.Status = status
	x.w.WriteHeader(status)
	var err error
	if len(body) > 0 {
		_, err = x.w.Write(body)
	}
	if err == nil && rest != nil {
		_, err = io.Copy(x.w, rest)
	}
	if err != nil {
		x.entry.Failures = append(x.entry.Failures, errCut)
		// Half an answer must not look like a whole one.
		panic(http.ErrAbortHandler)
	}
	// What is left in buffers is to meet the deadline too.
	_ = control.Flush()
}
