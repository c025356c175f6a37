package wellknown

import (
	"context"
	"net/http"
	"time"
)

const (
	// MaxPostBody is the size of the largest answer to [Fetcher.Post] that is
	// read, in bytes. The specification names no limit; the answer to a login has
	// about 300.
	MaxPostBody = 1 << 20

	// maxPostWire bounds its bytes as they are sent: header and body at their
	// largest with as much again for chunks.
	maxPostWire = 2 * (MaxPostBody + maxHeader)
)

// Post sends body, which is JSON, to rawURL, an https or http URL, and returns
// the answer whatever its status is. It follows no redirect: [Reply.Redirect]
// says where one leads, and the caller decides. There is one request over one
// connection, and it is never sent again. Nothing but ctx bounds its time; the
// Fetcher's Timeout does not.
//
// The body may hold a secret, and the server may repeat it. Therefore Hops and
// error show the URL without its query, and of what the server sent only the
// status; Header and Body are as they came.
//
// The error is an *[Error] for what is no answer: no connection, no HTTP, a body
// with status 200 that did not come whole or has more than [MaxPostBody] bytes.
// The reply is never nil, and has one hop.
func (f *Fetcher) Post(ctx context.Context, rawURL string, body []byte) (*Reply, error) {
	m := manner{client: true, quiet: true, post: true, body: body}
	begun := time.Now()
	reply := new(Reply)
	hop := Hop{URL: "(no URL)"}
	u, to, failed := m.target(nil, rawURL)
	if failed == nil {
		hop.URL, reply.from = m.show(nil, u), u
		failed = f.hop(ctx, m, u, to, &hop, reply)
	}
	hop.Duration = time.Since(begun)
	reply.Duration = hop.Duration
	if failed != nil {
		failed.Method = http.MethodPost
		return reply, reply.fail(hop, failed, m)
	}
	reply.Hops = append(reply.Hops, hop)
	return reply, nil
}

// Redirect says where the answer to a [Fetcher.Post] sends the request on to, if
// its status is 301, 302, 303, 307 or 308: an absolute https URL, with a valid
// host in lower case and without user info and fragment. If the answer is no
// redirect, location is empty. The error is an *[Error] of code RedirectInvalid
// or RedirectInsecure, the latter for a place that is not https; its text does not
// repeat the place.
func (r *Reply) Redirect() (location string, err error) {
	if r.from == nil || !redirects(r.Status) {
		return "", nil
	}
	m := manner{client: true, quiet: true, post: true}
	hop := r.Hops[len(r.Hops)-1]
	refuse := func(e *Error) error {
		e.Method, e.URL, e.Status, e.Err = http.MethodPost, hop.URL, r.Status, nil
		return e
	}
	given := r.Header.Get("Location")
	if given == "" {
		return "", refuse(&Error{Code: RedirectInvalid, Detail: describeStatus(r.Status) + " without a Location"})
	}
	u, _, failed := m.target(r.from, given)
	if failed != nil {
		return "", refuse(failed)
	}
	return u.String(), nil
}
