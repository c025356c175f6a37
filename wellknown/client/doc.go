// Package client finds out where a Matrix client must go: client
// auto-discovery, as the Client-Server API has it under "Well-known URIs".
//
// A [Discoverer] takes what a user types, a Matrix ID or a server name, and
// goes through the steps of that section (cited below as CS 3.1 and so on):
//
//	1, 2   the host name is the server name after the first colon, without its port
//	3      GET https://host/.well-known/matrix/client
//	3.1    404: IGNORE; the user may be asked, or a default taken
//	3.2    another status than 200, or no body: FAIL_PROMPT
//	3.3    no JSON object: FAIL_PROMPT
//	3.4    no base_url in m.homeserver: FAIL_PROMPT
//	3.5.1  the base_url is not a URL: FAIL_ERROR
//	3.5.2  GET base_url/_matrix/client/versions is no good: FAIL_ERROR
//	3.5.3  a slash at the end of the base_url means nothing
//	3.6    the same for m.identity_server, at base_url/_matrix/identity/v2
//
// The [State] says what to do next, in the specification's words, for the
// whole and for each of the two servers. Failures are values like any other:
// [Discoverer.Discover] returns a [Discovery] whatever happens, with a [Code] for
// programs, a message for people, and every request that was made.
//
// Where the text is silent, this package does as matrix-js-sdk does: a network
// failure counts as FAIL_PROMPT in step 3 and as failed validation after it, a
// base URL may be http, and a section without value and fault is PROMPT. An
// identity server that is no good spoils nothing but itself (MSC2284); [Draft2018]
// has it as it was before. Redirects are followed (MSC4402).
//
// Documents and base URLs are named by strangers. Everything is fetched by a
// [wellknown.Fetcher], whose dialler refuses private addresses on every hop, so a
// base_url cannot make this machine talk to its own network.
//
// The same package reads /.well-known/matrix/support, which says whom to write
// to ([Discoverer.Support]; MSC1929).
package client
