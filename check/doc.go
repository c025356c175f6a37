// Package check judges a Matrix server name as the servers of the federation meet
// it: it resolves the name, connects to every address of every target, asks each
// for its version and its keys, and says what is wrong and what to change.
//
// # What is done
//
// A [Checker] goes the whole way of the Server-Server API, "Resolving server
// names", and then everywhere that it leads:
//
//   - The rules are applied by package resolver. Beside them every address of
//     the host is asked for /.well-known/matrix/server, so that one that says
//     something else is found; and the SRV records are asked for that the rules
//     leave out, so that those who believe in them can be told.
//   - Every address of every target gets a TCP connection, a TLS handshake, and the
//     questions GET /_matrix/federation/v1/version and GET /_matrix/key/v2/server,
//     over HTTP/2 if the server chooses that, and over HTTP/1.1.
//   - Where something fails, some probes look for the cause: port 443 instead of
//     8448, the client API, another path, another Host header, an old TLS, no TLS
//     at all.
//
// All that goes into a [Report]. The judge then makes findings of it, each with
// what was asked, what came back and what to change, and a verdict: GOOD if every
// server of the federation gets through, BAD if many do not, WARN if they do and
// something should be changed all the same. A finding stands for a cause; what
// follows from it is not reported again.
//
// # What is proved, and what is said without proof
//
// A handshake is completed whatever the certificate is like, because the whole of
// it has to be shown, and because what such a server answers tells who it is. The
// certificate is then verified as every server does it, with the same roots, name
// and time. Nothing but the questions above is ever sent over such a connection,
// and an address whose certificate does not prove the name is never OK.
//
// # What strangers can do
//
// They choose what is connected to, within the guard of package resolver, and what
// is read, within the limits that the constants of this package name; all their
// texts are one printable line when they reach the report. What goes into a [Fix]
// are valid server names and addresses, and nothing else of theirs.
package check
