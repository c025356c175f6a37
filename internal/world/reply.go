package world

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"mxdiscover/internal/printable"
)

// maxRequestBody is what is read of a request's body before the answer: more than any login has.
const maxRequestBody = 1 << 20

// A reply is one section that says what a URL answers.
type reply struct {
	host   authority
	at     []netip.AddrPort // the servers that it is for; empty: all
	status int
	reason string
	header [][2]string
	body   []byte
	raw    []byte // not nil: all there is

	chunked, gzip, reset, closeDelimited bool

	abort bool // of a Matrix server: the request ends without a response

	delay         time.Duration
	slow          int // bytes between pauses; 0 means none
	pause         time.Duration
	size          int // 0: as the body is
	contentLength int // -1: as the body is
	resetAfter    int // -1: never
}

// byHand tells whether net/http cannot write the reply.
func (r *reply) byHand() bool {
	return r.raw != nil || r.reset || r.closeDelimited || r.contentLength >= 0 || r.resetAfter >= 0 ||
		r.status < 200 || r.reason != "" && r.reason != http.StatusText(r.status)
}

// parseReply returns an error with its line.
func parseReply(sec section) (*reply, int, error) {
	r := &reply{contentLength: -1, resetAfter: -1}
	rest, line := sec.text, sec.line
	ended := false
	for !ended && rest != "" {
		var text string
		text, rest, _ = strings.Cut(rest, "\n")
		line++
		text = strings.TrimSuffix(text, "\r")
		switch {
		case text == "":
			ended = true
		case text[0] == '#':
		case text == "!raw":
			r.raw, rest, ended = []byte(rest), "", true
		case text[0] == '!':
			if err := r.parseDirective(strings.Fields(text[1:])); err != nil {
				return nil, line, err
			}
		case r.status == 0:
			code, reason, _ := strings.Cut(text, " ")
			n, err := number(code, 100, 999)
			if err != nil || len(code) != 3 {
				return nil, line, fmt.Errorf("%q is not a status such as \"200\" or \"404 Not Found\"", text)
			}
			r.status, r.reason = n, strings.TrimSpace(reason)
		default:
			name, value, ok := strings.Cut(text, ":")
			value = strings.TrimSpace(value)
			if !ok || !headerName.MatchString(name) {
				return nil, line, fmt.Errorf("%q is neither a header line nor a directive", text)
			}
			if strings.ContainsFunc(value, isControl) {
				return nil, line, fmt.Errorf("a control character in the value of %s", name)
			}
			switch http.CanonicalHeaderKey(name) {
			case "Content-Length", "Transfer-Encoding", "Connection":
				return nil, line, fmt.Errorf("%s is set by directives (!content-length, !chunked, !close-delimited, !raw)", name)
			}
			if _, err := expand(value, time.Time{}); err != nil {
				return nil, line, err
			}
			r.header = append(r.header, [2]string{name, value})
		}
	}
	r.body = []byte(strings.TrimSuffix(rest, "\n"))
	switch {
	case r.raw != nil || r.reset:
		if r.status != 0 || len(r.header) > 0 || len(r.body) > 0 {
			return nil, sec.line, fmt.Errorf("with !raw or !reset there is no status, header or body")
		}
	case r.status == 0:
		return nil, sec.line, fmt.Errorf("no status")
	case r.size > 0 && r.size < len(r.body):
		return nil, sec.line, fmt.Errorf("!size %d is less than the body has, %d", r.size, len(r.body))
	case r.resetAfter > max(r.size, len(r.body)) && !r.gzip:
		return nil, sec.line, fmt.Errorf("!reset-after %d is more than the body has", r.resetAfter)
	case r.chunked && (r.contentLength >= 0 || r.closeDelimited), r.contentLength >= 0 && r.closeDelimited:
		return nil, sec.line, fmt.Errorf("only one of !chunked, !content-length and !close-delimited is possible")
	}
	return r, sec.line, nil
}

var headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$") // RFC 9110, 5.6.2

func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

func (r *reply) parseDirective(f []string) (err error) {
	if len(f) == 0 {
		return fmt.Errorf("a directive without a name")
	}
	args := f[1:]
	want := map[string]int{"size": 1, "content-length": 1, "reset-after": 1, "delay": 1, "slow": 2}[f[0]]
	if len(args) != want {
		return fmt.Errorf("directive %q: unknown, or not this many words", f[0])
	}
	switch f[0] {
	case "chunked":
		r.chunked = true
	case "gzip":
		r.gzip = true
	case "reset":
		r.reset = true
	case "close-delimited":
		r.closeDelimited = true
	case "size":
		r.size, err = number(args[0], 1, maxSize)
	case "content-length":
		r.contentLength, err = number(args[0], 0, 1<<40)
	case "reset-after":
		r.resetAfter, err = number(args[0], 0, maxSize)
	case "delay":
		r.delay, err = duration(args[0])
	case "slow":
		if r.slow, err = number(args[0], 1, maxSize); err == nil {
			r.pause, err = duration(args[1])
		}
	default:
		err = fmt.Errorf("unknown directive %q", f[0])
	}
	return err
}

var dateTemplate = regexp.MustCompile(`\{now([+-][^{}]*)?\}`)

// expand replaces the dates in a header value (RFC 9110, 5.6.7).
func expand(value string, now time.Time) (out string, err error) {
	out = dateTemplate.ReplaceAllStringFunc(value, func(m string) string {
		var d time.Duration
		if offset := m[len("{now") : len(m)-1]; offset != "" {
			var e error
			if d, e = time.ParseDuration(offset); e != nil {
				err = fmt.Errorf("%q is not a date such as {now+33s}", m)
			}
		}
		return now.Add(d).UTC().Format(http.TimeFormat)
	})
	return out, err
}

// payload is the body as it is sent.
func (r *reply) payload() []byte {
	body := r.body
	if r.size > len(body) {
		body = append(bytes.Clone(body), bytes.Repeat([]byte(" "), r.size-len(body))...)
	}
	if r.gzip {
		var buf bytes.Buffer
		z := gzip.NewWriter(&buf)
		z.Write(body) // a Buffer takes everything
		z.Close()
		body = buf.Bytes()
	}
	return body
}

// choose takes the reply for a request, and counts it.
func (w *World) choose(req *http.Request, e *endpoint) *reply {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Since(w.started)
	var hosts []authority
	for _, port := range []uint16{e.at.Port(), 443} {
		// With a port in it, the Host header decides alone.
		if a, ok := parseAuthority(req.Host, port); ok {
			hosts = append(hosts, a)
		}
	}
	methods := []string{req.Method}
	if req.Method == http.MethodHead {
		methods = append(methods, http.MethodGet)
	}
	for _, host := range hosts {
		for _, path := range []string{req.URL.RequestURI(), req.URL.EscapedPath()} {
			for _, method := range methods {
				for _, at := range []netip.AddrPort{e.at, {}} { // what is said of this server counts first
					group := w.scene().replies[replyKey(method, at, host, path)].at(now)
					if len(group) == 0 {
						continue
					}
					n := w.replyCount[group[0]]
					w.replyCount[group[0]]++
					return group[min(n, len(group)-1)]
				}
			}
		}
	}
	return w.scene().matrixReply(req, hosts, e.at, now)
}

// ServeHTTP answers one request of any server of the world.
func (h handler) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	w := h.w
	if !w.enter() {
		panic(http.ErrAbortHandler) // net/http recovers it, and sends nothing
	}
	defer w.leave()
	e := req.Context().Value(endpointKey{}).(*endpoint) // of every connection that is served
	scheme := "https"
	if req.TLS == nil {
		scheme = "http"
	}
	w.log(printable.Line(req.Method + " " + scheme + "://" + req.Host + req.URL.RequestURI()))
	w.mu.Lock()
	first := w.handle
	w.mu.Unlock()
	if first != nil && first(rw, req, e.at) {
		return
	}
	io.Copy(io.Discard, io.LimitReader(req.Body, maxRequestBody))
	r := w.choose(req, e)
	if r == nil {
		http.Error(rw, "404 page not found", http.StatusNotFound)
		return
	}
	if !w.sleep(r.delay) || r.abort {
		panic(http.ErrAbortHandler)
	}
	if !r.byHand() {
		if !w.write(rw, r) {
			panic(http.ErrAbortHandler)
		}
		return
	}
	hijacker, ok := rw.(http.Hijacker)
	if !ok || req.ProtoMajor != 1 {
		// Another host's connection was taken for this one (RFC 9110, 15.5.20).
		http.Error(rw, "only with HTTP/1.1", http.StatusMisdirectedRequest)
		return
	}
	c, _, err := hijacker.Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	c.SetDeadline(time.Time{})
	w.writeByHand(c, r)
}

type handler struct{ w *World }

type endpointKey struct{}

// write sends a reply that net/http can express, and tells whether it could.
func (w *World) write(rw http.ResponseWriter, r *reply) bool {
	body := r.payload()
	h := rw.Header()
	h["Content-Type"] = nil // a reply without the header goes without it
	r.setHeader(func(name, value string) {
		if h[http.CanonicalHeaderKey(name)] == nil {
			h.Set(name, value)
		} else {
			h.Add(name, value)
		}
	})
	if !r.chunked && r.status != http.StatusNoContent && r.status != http.StatusNotModified {
		h.Set("Content-Length", fmt.Sprint(len(body)))
	}
	rw.WriteHeader(r.status)
	flusher := http.NewResponseController(rw)
	if r.chunked || r.slow > 0 {
		flusher.Flush()
	}
	if r.status == http.StatusNoContent || r.status == http.StatusNotModified {
		return true // RFC 9110, 6.4.1: no content follows
	}
	return w.trickle(rw, flusher.Flush, body, r)
}

func (r *reply) setHeader(set func(name, value string)) {
	now := time.Now()
	for _, h := range r.header {
		value, _ := expand(h[1], now) // checked when it was parsed
		set(h[0], value)
	}
	if r.gzip {
		set("Content-Encoding", "gzip")
	}
}

// writeByHand sends what net/http would put right. The connection is not used again.
func (w *World) writeByHand(c net.Conn, r *reply) {
	if r.reset {
		reset(c)
		return
	}
	if r.raw != nil {
		w.trickle(c, nil, r.raw, r)
		return
	}
	body := r.payload()
	reason := r.reason
	if reason == "" {
		reason = http.StatusText(r.status)
	}
	var head bytes.Buffer
	version := "1.1"
	if r.closeDelimited {
		version = "1.0"
	}
	fmt.Fprintf(&head, "HTTP/%s %03d %s\r\n", version, r.status, reason)
	r.setHeader(func(name, value string) { fmt.Fprintf(&head, "%s: %s\r\n", name, value) })
	switch {
	case r.closeDelimited:
	case r.chunked:
		head.WriteString("Transfer-Encoding: chunked\r\n")
	case r.contentLength >= 0:
		fmt.Fprintf(&head, "Content-Length: %d\r\n", r.contentLength)
	default:
		fmt.Fprintf(&head, "Content-Length: %d\r\n", len(body))
	}
	head.WriteString("Connection: close\r\n\r\n")
	if _, err := c.Write(head.Bytes()); err != nil {
		return
	}
	if r.resetAfter >= 0 {
		body = body[:min(r.resetAfter, len(body))]
	}
	var dst io.Writer = c
	var chunks io.WriteCloser
	if r.chunked {
		chunks = httputil.NewChunkedWriter(c)
		dst = chunks
	}
	if !w.trickle(dst, nil, body, r) {
		return
	}
	if r.resetAfter >= 0 {
		reset(c)
		return
	}
	if chunks != nil {
		chunks.Close()
		io.WriteString(c, "\r\n")
	}
}

// trickle writes a body, in pieces if the reply is slow, and tells whether all of it was written.
func (w *World) trickle(dst io.Writer, flush func() error, body []byte, r *reply) bool {
	for {
		piece := body
		if r.slow > 0 {
			piece = body[:min(r.slow, len(body))]
		}
		if _, err := dst.Write(piece); err != nil {
			return false
		}
		if body = body[len(piece):]; len(body) == 0 {
			return true
		}
		if flush != nil {
			if err := flush(); err != nil {
				return false
			}
		}
		if !w.sleep(r.pause) {
			return false
		}
	}
}

// reset resets the connection below TLS.
func reset(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if t, ok := c.(*conn); ok {
		t.reset()
	}
}
