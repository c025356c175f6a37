package serve

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
	"unicode"

	"mxdiscover/serve/web"
)

// page is /: the page, and with a name the result, which stands there when the
// check has ended, with script or without.
func (x *exchange) page() {
	x.pageHeaders()
	x.name = x.query.Get("name")
	p := &web.Page{Name: visible(x.name)}
	if x.name == "" {
		p.Write(paper{x})
		return
	}
	q, refresh, f := x.asked(kindCheck, "name")
	if f != nil {
		x.fail(f)
		return
	}
	p.Rules = q.rules.String()
	tickets, f := x.desk.ask(x.who, refresh, q, question{kind: kindClient, name: q.name})
	if f != nil {
		x.fail(f)
		return
	}
	defer leaveAll(tickets)
	x.source = tickets[0].source
	whole := tickets[0].answer != nil && tickets[1].answer != nil
	if !whole {
		x.w.Header().Set("X-Accel-Buffering", "no") // nginx holds answers back otherwise
		if p.Begin(paper{x}) != nil || x.flush() != nil {
			return // the client has gone
		}
	}
	ctx := x.r.Context()
	checked, f := tickets[0].wait(ctx)
	discovered, _ := tickets[1].wait(ctx)
	switch {
	case f != nil:
		x.code = f.Code
		x.metrics.refused.WithLabelValues(f.reason()).Inc()
		p.Err = pageError(f)
	case checked == nil:
		return
	default:
		p.Report, p.Age = checked.report, checked.age(time.Now())
	}
	if discovered != nil {
		p.Client = discovered.discovery
	}
	if whole {
		x.setAge(checked)
		p.Write(paper{x})
		return
	}
	p.End(paper{x})
}

// visible is a name as the page repeats it: nothing in it acts on a terminal or
// turns the text around it.
func visible(name string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, name)
}

// paper is where the page is written. The template escapes what acts on a browser;
// here go the characters that turn the text around them, or act on the terminal
// of somebody who reads the page with curl. A template writes whole characters.
type paper struct{ x *exchange }

func (p paper) Write(text []byte) (int, error) {
	plain := bytes.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && acts(r) {
			return '?'
		}
		return r
	}, text)
	if _, err := p.x.Write(plain); err != nil {
		return 0, err
	}
	return len(text), nil
}

// acts tells whether a character does something else than to be seen: a control
// character, one of Unicode's format characters, such as those that change the
// direction of text, or one of its ends of a line.
func acts(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// failPage shows a failure on the page.
func (x *exchange) failPage(f *Failure) {
	x.pageHeaders()
	p := &web.Page{Err: pageError(f)}
	if query, err := url.ParseQuery(x.r.URL.RawQuery); err == nil && len(x.r.URL.RawQuery) <= maxQuery {
		if name := query.Get("name"); len(name) <= maxName {
			p.Name = visible(name)
		}
		if query.Get("rules") == "draft-2019" {
			p.Rules = "draft-2019"
		}
	}
	x.writeHeader(f.Status)
	p.Write(paper{x})
}

func pageError(f *Failure) *web.Error {
	return &web.Error{Status: f.Status, Code: f.Code, Message: f.Message, RetryAfter: time.Duration(f.RetryAfter) * time.Second}
}

func (x *exchange) pageHeaders() {
	h := x.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", web.ContentSecurityPolicy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
}

// file is one of the page's files.
type file struct {
	data []byte
	etag string
}

// staticFiles reads them from the program.
func staticFiles() map[string]*file {
	files := make(map[string]*file)
	root := web.Static()
	fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(root, name)
		if err == nil {
			sum := sha256.Sum256(data)
			files[name] = &file{data, `"` + hex.EncodeToString(sum[:12]) + `"`}
		}
		return err
	})
	return files
}

// staticFile is one of /static/. The page links them with their hash as v, so
// that another file has another URL.
func (x *exchange) staticFile() {
	name := strings.TrimPrefix(x.r.URL.Path, staticPrefix)
	f := x.static[name]
	h := x.w.Header()
	h.Set("ETag", f.etag)
	h.Set("Cache-Control", "public, max-age=3600")
	if x.query.Has("v") {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	// Content-Type comes from the name; the machine's own tables do not count for
	// the few that there are.
	switch path.Ext(name) {
	case ".css":
		h.Set("Content-Type", "text/css; charset=utf-8")
	case ".js":
		h.Set("Content-Type", "text/javascript; charset=utf-8")
	case ".svg":
		h.Set("Content-Type", "image/svg+xml")
	}
	http.ServeContent(x, x.r, name, time.Time{}, bytes.NewReader(f.data))
}

// Header and WriteHeader make an exchange an http.ResponseWriter.
func (x *exchange) Header() http.Header { return x.w.Header() }

// WriteHeader implements http.ResponseWriter.
func (x *exchange) WriteHeader(status int) { x.writeHeader(status) }
