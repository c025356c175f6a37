// Package wellknown owns one step of Matrix discovery: the JSON documents that
// a host publishes below /.well-known/matrix/. It fetches such a document
// ([Fetcher]), parses it ([ParseServer]) and dates it ([Lifetime]).
//
// /.well-known/matrix/server delegates a server name: "example.org" may be
// served by "matrix.example.org:443". The Server-Server API, "Resolving server
// names", step 3, says: a regular HTTPS request, 30x redirects followed but
// loops avoided, answers cached, whether good or bad. What it leaves open is
// decided here: five redirect codes and ten hops, https only on every hop (a
// plain hop would defeat the only authentication that the step has), exactly
// status 200, 51200 bytes at most, one strict JSON document.
//
// The documents for clients, and what they name, come through the same fetch
// ([Fetcher.Object]; package client below). There a plain hop is taken where http
// was asked for, and never after https. A login goes the same way
// ([Fetcher.Post]; package login), is sent once, and follows nothing.
//
// The package keeps nothing: who calls it decides what to remember, and asks
// [Lifetime] and [FailureLifetime] for how long.
package wellknown
