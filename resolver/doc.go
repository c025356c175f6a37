// Package resolver finds the server behind a Matrix server name.
//
// A name such as "example.org" says who, not where. The Server-Server API,
// "Resolving server names", turns it into three things: addresses to dial, a
// Host header, and a name that the server's certificate must prove. Its rules,
// by the numbers that [Result.Step] and [Step] use:
//
//	1    the name is an IP literal: that address, its port or 8448
//	2    the name has a port: that host and port
//	3    https://<name>/.well-known/matrix/server delegates to
//	3.1    an IP literal: that address, its port or 8448
//	3.2    a host with a port: that host and port
//	3.3    a host with SRV records _matrix-fed._tcp: their targets
//	3.4    a host with SRV records _matrix._tcp (deprecated): their targets
//	3.5    any other host: port 8448
//	4    no delegation, SRV records _matrix-fed._tcp: their targets
//	5    no delegation, SRV records _matrix._tcp (deprecated): their targets
//	6    none of these: port 8448
//
// [Resolver.Resolve] follows them and remembers what it was told, each answer
// for as long as whoever gave it allows. [Resolver.Explain] does the same and
// looks up the addresses as well, for people and reports. Both return the
// evidence: every rule, what was asked, of whom, and what came back.
//
// Everything that comes from the network is taken for hostile. The package
// dials no address of a private or special-purpose network unless
// [Resolver.AllowNets] opens it, all quantities are bounded, all waits have a
// deadline of their own, and a caller who gives up leaves nothing behind.
package resolver
