// Package world runs a small federation from a text file: a recursive DNS server, HTTPS servers
// and a certificate authority, all on loopback or in memory. It owns the form of the file
// ([Parse]), the servers ([Scene.Start]) and the comparison with what the file expects
// ([MatchJSON], [Asked.Check]); it knows nothing of discovery, and so can judge it.
//
// # The file
//
// A scene is a txtar archive. Its comment says in one line what behaviour it shows, and why that is
// wanted. Lines that begin with "#" are comments, except in bodies. Times count from the start of
// the world.
//
//	-- zone [from 900s] --
//
// A master file (RFC 1035, 5) with a default TTL of 300 seconds and the origin ".". The server
// answers as a recursive one: it follows CNAMEs, knows wildcards (RFC 4592), and gives the SOA of the
// zone with answers that say no (RFC 2308), or one with a minimum of 60 seconds where the file has
// none.
//
//	-- dns [from 900s] --
//	[@SERVER] NAME TYPE|* FAULT [first N|after N]
//
// Faults of the DNS. NAME may be "*" or "*.suffix". Several lines may match: delays add up, of the
// others the first that fits the transport is taken. N counts the questions that the line matches.
//
//	rcode NAME       this code and no record
//	silent           no answer
//	truncate         over UDP: TC and no record
//	truncate-always  over TCP too
//	wrong-id, wrong-question, no-qr, garbage
//	                 an answer that does not belong to the question
//	spoof-first      an answer with another id and false records, then the true one
//	delay D          the answer comes D later
//	lame             a referral to the root, without recursion
//	tcp-reset        over TCP: the connection is reset
//	formerr-edns     FORMERR to a question with EDNS
//	extra RR         one more record in the answer
//
// The servers themselves:
//
//	-- servers [from 900s] --
//	ADDR:PORT OPTION...
//
// Every address and port that a reply (below) leads to by the A and AAAA records of the zone is
// served, and so is every one named here: with TLS 1.2 and 1.3, HTTP/1.1 and HTTP/2, and a
// certificate for the name that was asked for (SNI) if that name leads here by its addresses or by its
// SRV records, for the address and the names that do lead here if no name was asked for, else for those
// names. A certificate is sent without others above it, and was issued by the world's authority itself.
//
//	refuse           nobody listens
//	no-route         the client's machine has no way there
//	drop             a black hole: dials end by their deadline
//	reset, close     right after the connection was accepted
//	accept-delay D   the connection is there D later
//	stall-handshake  nothing comes after the ClientHello
//	reset-handshake  a reset comes after the ClientHello
//	alert-handshake  an alert comes after the ClientHello
//	cert WHAT        self-signed, expired, expires-in=D, not-yet-valid, untrusted,
//	                 none-ip           no certificate for the address
//	                 names=a.example,b.example
//	                 common-name       the name is in the subject alone
//	                 chain             issued by an intermediate authority, whose certificate is sent
//	                 incomplete-chain  and is not sent
//	without-sni WHAT what a client gets that asks for no name: refuse, or other (a certificate for default.invalid)
//	tls12, tls11     TLS 1.2 or 1.1 at most
//	http1            HTTP/1.1 alone
//	no-alpn          no protocol is chosen in the handshake
//	plain            HTTP without TLS
//
// What the servers say:
//
//	-- GET https://host[:port]/path [@ADDR:PORT...] [from 900s] --
//	STATUS [REASON]
//	Header: value
//	!DIRECTIVE
//
//	body
//
// The method may be any usual one. Sections for the same URL are taken one after another, the last
// one again and again; those with the latest time that has passed count. The final newline is not part
// of the body. With addresses and ports a section is that of these servers alone, and counts there before one
// without. "{now}", "{now+33s}" and "{now-1h}" in a header value become a date. A Host header
// without a port finds the port that was connected to, then 443. Anything else is 404.
//
//	!chunked           no Content-Length
//	!gzip              compressed, with Content-Encoding
//	!size N            the body with spaces after it, N bytes in all
//	!content-length N  this length, whatever the body has
//	!delay D           before the headers
//	!slow N D          N bytes, then a pause of D, and so on
//	!reset             a reset in place of the response
//	!reset-after N     N bytes of the body, then a reset
//	!close-delimited   HTTP/1.0 without a length
//	!raw               the rest of the section is sent as it stands, then the connection closed
//
// A host with a reply that HTTP/2 cannot express is served with HTTP/1.1 alone.
//
// Matrix servers answer without a section for each URL:
//
//	-- matrix https://host[:port] [@ADDR:PORT...] [from 900s] --
//
// That is GET /_matrix/federation/v1/version, GET /_matrix/key/v2/server (signed, with a key that depends on
// the server name alone) and GET /_matrix/client/versions; other paths are 404, with JSON. Sections for one of
// these URLs count before it. With addresses and ports the server is there, in place of where the
// URL leads to. Lines, all of which may be missing:
//
//	server-name NAME      in the keys; the host of the URL if missing
//	version NAME VERSION  or "version none"; "World 1" if missing
//	key-id ID             "ed25519:world" if missing
//	key-seed WORD         another word makes another key
//	keys WHAT             none, unsigned, bad-signature, malformed, not-json
//	valid-for D           how long the keys count; below zero they have expired; 24h if missing
//	clock D               how far the server's clock is ahead; below zero it is behind
//	delay D               before each answer
//	without WHAT          version, keys or client: 404; may stand for each
//	only-host HOST[:PORT] the Host header must be this one
//	any-host              it may be any
//	prefix /PATH          before the paths
//	broken http1|http2    requests over this protocol are cut off
//
// Settings for the program under test ([Options]) and the number of DNS servers:
//
//	-- options --
//	rules current|draft-2019
//	lenient-srv
//	allow-net CIDR
//	timeout D
//	dns-timeout D
//	dns-attempts N
//	virtual
//	servers N
//
// What to do, in the order of the file ([Scene.Script]):
//
//	-- resolve NAME --         the body is JSON, see MatchJSON
//	-- parallel N NAME --      the same N times at once
//	-- forget NAME --
//	-- advance 900s --
//	-- asked --                lines "N WHAT" as World.Asked reports it since the last such section;
//	                           the line "only" says that there was nothing else
//
// What to expect when names are checked ([Scene.Checks]):
//
//	-- check NAME --
//	CODE                   of a finding, one on each line; first the one that the scene is about
//	verdict GOOD|WARN|BAD
//	PART ~ PATTERN         a regular expression that matches somewhere in a part: the summary, or the
//	                       message, the evidence, the fix or the about of the first code's finding
//
// What a file cannot say, a test does: [World.Handle] answers requests, [World.Cut] ends connections,
// [World.Change] turns the world into that of another file, and [World.Open] counts.
//
// A NAME in double quotes is read as a Go string.
package world
