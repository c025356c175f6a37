// Package login logs in to a Matrix homeserver with a password, and finds out
// where the client must go from there.
//
// [Client.Login] goes through these steps:
//
//	discovery  where the account's server is (package client), unless the caller says so
//	flows      GET  {base}/_matrix/client/v3/login: does it take a password?
//	login      POST {base}/_matrix/client/v3/login, once
//	3.5, 3.6   validation of the server that the answer names (CS 3.5, 3.6)
//
// The answer may send the client to another server for the rest of the session:
// by well_known, an object like the document of /.well-known/matrix/client
// (Client-Server API, POST /login; MSC1730), or by base_cs_url, a string (first
// drafts of MSC1730). The same drafts let a portal answer the POST with 307.
// [RedirectedBy] says which of these it was.
//
// # Where the password goes
//
// To the server that discovery or the caller names, over https, or over http if
// the caller wrote so himself. A redirect takes it elsewhere only by 307 or 308,
// only to https, only to a login path, and only if [Client.FollowRedirect]
// agrees. It is sent once to each place: nothing is repeated after a byte of it
// was written. It is in no error, step, warning or JSON form, and neither is the
// access token. Of what a server answers to the POST, nothing is repeated but its
// errcode, the host of a redirect that is not followed, and what the [Result] has
// fields for: a server may echo what it was sent.
package login
