// Package web is the page of mxdiscover serve: its template, style sheet and
// script, and what they show of a report.
//
// The page is drawn here and nowhere else. [Page.Write] gives all of it. For a check
// that is under way, [Page.Begin] gives everything that comes before the result, so
// that the browser shows at once that something happens, and [Page.End] the
// result in the same response, whenever that is. A browser without script shows the same. The
// script of the page only adds, until the result is there, the steps as the stream of events tells
// them, always as text.
//
// Nothing in the page comes from elsewhere, and nothing in it is inline: see
// [ContentSecurityPolicy].
package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"io"
	"io/fs"
	"net/url"
	"sync"
	"time"

	"mxdiscover/check"
	"mxdiscover/wellknown/client"
)

// ContentSecurityPolicy is the header Content-Security-Policy that belongs to the
// page: its own style sheet, script, icon and streams, and nothing else.
// No script may turn text into elements (Trusted Types).
const ContentSecurityPolicy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

//go:embed index.html result.html
var templates embed.FS

//go:embed static
var static embed.FS

// A Page is what the page shows. The zero Page explains itself and asks for a
// name.
type Page struct {
	Name  string // as asked; empty if nothing was
	Rules string // "current" or "draft-2019"; empty is "current"

	Report *check.Report     // nil if there is none
	Client *client.Discovery // nil if nobody asked
	Age    time.Duration     // how long ago the report was made
	Err    *Error            // why there is no report
}

// An Error says why a question was not answered.
type Error struct {
	Status     int           // of the HTTP response: 400, 429, 503 ...
	Code       string        // for programs; may be empty
	Message    string        // in a sentence, for people; may be empty
	RetryAfter time.Duration // when asking again may help; zero if nobody knows
}

// Static gives the files that the page loads from static/. They are
// linked with their hash as a query, so they may be kept for ever.
func Static() fs.FS {
	files, err := fs.Sub(static, "static")
	if err != nil {
		panic(err) // the name is a constant
	}
	return files
}

// Write writes the whole page.
func (p *Page) Write(w io.Writer) error {
	v := p.view()
	if err := parsed().ExecuteTemplate(w, "top", v); err != nil {
		return err
	}
	return parsed().ExecuteTemplate(w, "bottom", v)
}

// Begin writes the page up to where the result goes, and says that Name is being
// checked.
func (p *Page) Begin(w io.Writer) error {
	v := p.view()
	v.Running = true
	return parsed().ExecuteTemplate(w, "top", v)
}

// End writes the rest of what Begin has begun: Report and Client, or Err.
func (p *Page) End(w io.Writer) error {
	return parsed().ExecuteTemplate(w, "bottom", p.view())
}

// Link gives the page's URL for a name, relative to the page itself.
func Link(name, rules string) string {
	query := url.Values{"name": {name}}
	if rules != "" && rules != "current" {
		query.Set("rules", rules)
	}
	return "./?" + query.Encode()
}

var parsed = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("").Funcs(template.FuncMap{"asset": asset}).ParseFS(templates, "*.html"))
})

// asset gives the URL of a file of Static: a new one when the file changes.
func asset(name string) (string, error) {
	data, err := static.ReadFile("static/" + name)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return "static/" + name + "?v=" + hex.EncodeToString(sum[:6]), nil
}
