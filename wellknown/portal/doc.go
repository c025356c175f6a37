// Package portal is a portal server: one address at which everybody logs in, and
// from which each client is sent on to the homeserver that is to serve it. A
// [Portal] is an [net/http.Handler]; a [Chooser] says who goes where.
//
// The mechanism is MSC1730, "Mechanism for redirecting to an alternative server
// during login". Its text changed in the three weeks before it was accepted, and
// this package does what each of its versions asks of a server, where they do
// not exclude each other. What became of the sentences:
//
// # First version, 23 November 2018
//
// "We should add to this an optional field base_cs_url, which gives a base URL
// for the client-server API": [EmitBaseCSURL]. Clients append "/_matrix/client/..."
// to it, so it is given without a slash at its end.
//
// The sequence diagram shows a portal that proxies POST /_matrix/client/r0/login
// and adds the field to the answer: [Proxy], the default. The path
// /_matrix/client/v3/login, as it is called today, is served alike.
//
// "home_server gives the server_name ... so is not of use here": it is passed on
// and never read.
//
// A portal that proxies all endpoints, or clients that look up .well-known after
// login, are rejected there as slow and redundant: everything but login is
// answered with 401, and nothing is looked up.
//
// # Second version, the same day, and 26 November 2018
//
// The homeserver "might be chosen based on any of a number of factors, such as
// the individual user, or a simple round-robin": [UserMap], [RoundRobin], and any
// other [Chooser].
//
// base_cs_url "SHOULD be returned by compliant homeservers": what a homeserver
// has sent stays as it is. [Announce] is for homeservers that want to send it.
//
// "Alternatively, the portal server could redirect the original login request to
// the target HS with a 307 Temporary Redirect": [Redirect]. The portal then
// cannot add to the answer. No release of the specification obliges clients to
// follow.
//
// The notes on proxying name three concerns. The homeserver sees the address of
// the portal: it gets X-Forwarded-For, which it must be told to believe. (That
// "requires the portal server to authenticate itself": by its address, or with a
// client certificate that a [Portal.DialTLS] of your own presents.) The portal
// makes requests of its own: each is bounded in time and size. It "could snoop on
// the returned access token": nothing of a body, a query or a header is ever
// logged, kept, or part of an error.
//
// # From 5 December 2018 to the accepted text
//
// The field is "well_known", in the format of /.well-known/matrix/client:
// [EmitWellKnown]. It is in every specification since r0.5.0, while base_cs_url
// is in none; by default an answer gets both.
//
// "It is acceptable ... to return a 401 response to all non-/login requests":
// done, with soft_logout for clients that come with a token, so that they log in
// again and keep their keys (Client-Server API, "Soft logout").
//
// # What is never done
//
// A login is never sent twice: the connection is made first, and a target that
// cannot be connected to is passed over, but once the request is on its way,
// whatever happens is the answer. The portal follows no redirect, takes no proxy
// from the environment, and sends no client to a place that is not in
// [Portal.Targets]. Nor does it send a login to itself again: each request that it
// sends bears its name in the field Via (RFC 9110, 7.6.3).
package portal
