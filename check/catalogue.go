package check

// A Kind is an entry of the catalogue: something that a check can find.
type Kind struct {
	Code     string   `json:"code"`
	Area     Area     `json:"area"`
	Severity Severity `json:"severity"` // the usual one; a finding may have another
	Title    string   `json:"title"`    // what is wrong, without a name
	Why      string   `json:"why"`      // what it does to whom
	Cure     string   `json:"cure"`     // what to change, in general
	Section  string   `json:"section"`  // of the specification or RFC
	URL      string   `json:"url"`
}

// An Area is the part of the way that a finding is about.
type Area string

// The areas, in the order of the way.
const (
	AreaName       Area = "name"
	AreaWellKnown  Area = "well-known"
	AreaSRV        Area = "SRV"
	AreaAddresses  Area = "addresses"
	AreaConnection Area = "connection"
	AreaTLS        Area = "TLS"
	AreaMatrix     Area = "Matrix"
	AreaKeys       Area = "keys"
	AreaCheck      Area = "check"
)

// Explain gives the entry of a code.
func Explain(code string) (Kind, bool) {
	for _, k := range Catalogue() {
		if k.Code == code {
			return k, true
		}
	}
	return Kind{}, false
}

// a source is a section of the specification or of an RFC.
type source struct{ section, url string }

func s2s(title, anchor string) source {
	return source{"Server-Server API, " + title, "https://spec.matrix.org/v1.19/server-server-api/#" + anchor}
}

func appendix(title, anchor string) source {
	return source{"Appendices, " + title, "https://spec.matrix.org/v1.19/appendices/#" + anchor}
}

func rfc(number, section string) source {
	s := source{"RFC " + number, "https://www.rfc-editor.org/rfc/rfc" + number}
	if section != "" {
		s.section += ", " + section
		s.url += "#section-" + section
	}
	return s
}

// Catalogue gives every kind of finding, in the order of the ways that a check
// goes.
func Catalogue() []Kind {
	var list []Kind
	area := AreaName
	add := func(severity Severity, code string, from source, title, why, cure string) {
		list = append(list, Kind{code, area, severity, title, why, cure, from.section, from.url})
	}
	const (
		e = SeverityError
		w = SeverityWarning
		n = SeverityNotice
	)
	var (
		grammar   = appendix("Server Name", "server-name")
		resolving = s2s("Resolving server names", "resolving-server-names")
		document  = s2s("GET /.well-known/matrix/server", "getwell-knownmatrixserver")
		tls       = s2s("TLS", "tls")
		version   = s2s("GET /_matrix/federation/v1/version", "get_matrixfederationv1version")
		standards = s2s("API standards", "api-standards")
		keys      = s2s("GET /_matrix/key/v2/server", "get_matrixkeyv2server")
		signing   = appendix("Checking for a Signature", "checking-for-a-signature")
		srv       = source{"RFC 2782, Target", "https://www.rfc-editor.org/rfc/rfc2782"}
		eyeballs  = rfc("8305", "1")
		path      = rfc("5280", "6.1")
		identity  = rfc("9525", "6.3")
	)

	add(e, "name_invalid", grammar, "The name is not a server name",
		"Nothing can be asked for it: no server of the federation accepts it.",
		"Give the part of a Matrix ID after the first colon: a DNS name or an IP address, with a port if it has one.")
	add(e, "name_is_url", grammar, "The name is a URL",
		"A server name has no scheme and no path.", "Leave out https:// and everything from the first slash on.")
	add(e, "name_is_user_id", grammar, "The name is a Matrix ID",
		"The server name is only a part of it.", "Give what follows the first colon.")
	add(e, "name_not_ascii", grammar, "The name is not ASCII",
		"Server names are compared byte by byte and never converted, so an international name exists in its xn-- form alone.",
		"Use the xn-- form, in the configuration of the server as well.")
	add(e, "name_trailing_dot", grammar, "The name ends with a dot",
		"DNS allows it, Matrix does not.", "Leave out the dot.")
	add(w, "name_upper_case", grammar, "The name has upper-case letters",
		"Matrix compares names with their case: Example.org and example.org are two servers, with the same address.",
		"Use lower case from the beginning. The name of a server that has users can not be changed.")
	add(w, "name_long", grammar, "The name is long",
		"A user ID has at most 255 bytes with the name in it: more than 230 leave no room for users.",
		"Choose a shorter name before the server has users.")
	add(n, "name_ip_literal", resolving, "The name is an IP address",
		"It works, but the server can never move to another address.", "Choose a DNS name for a server that shall last.")
	add(n, "name_port", resolving, "The name has a port",
		"Neither well-known nor SRV is asked for it: the server can never move to another host or port.",
		"Choose a name without a port for a server that shall last.")

	area = AreaWellKnown
	add(n, "well_known_missing", document, "There is no well-known document",
		"Servers go on to SRV records, and then to port 8448 of the name.",
		"Nothing, if that is meant. Else serve the document.")
	add(w, "well_known_status", document, "The well-known document is answered with an error",
		"Any status but 200 means that there is no delegation; after a 5xx, servers ask again and again.",
		"Serve the document with status 200, or 404 if there is none.")
	add(w, "well_known_html", document, "A web page is served in place of the well-known document",
		"It is not JSON, so the delegation does not count.", "Let the web server answer this path by itself, before the application.")
	add(w, "well_known_not_json", document, "The well-known document is not JSON",
		"Servers ignore it.", "Serve exactly one JSON object.")
	add(w, "well_known_empty", document, "The well-known document is empty",
		"Servers ignore it.", "Serve the JSON object, or 404 if there shall be none.")
	add(w, "well_known_not_object", document, "The well-known document is no JSON object",
		"Servers ignore it.", "Serve an object with the key m.server.")
	add(w, "well_known_no_server", document, "The well-known document has no m.server",
		"Servers ignore it.", "Add the key m.server with the delegated name.")
	add(w, "well_known_key_case", document, "The well-known document has the server name under another key",
		"Keys are compared exactly: only m.server counts.", "Write the key as m.server.")
	add(w, "well_known_not_string", document, "m.server is not a string",
		"Servers ignore the document.", "Write host and port as one string.")
	add(w, "well_known_url", document, "m.server is a URL",
		"It must be a server name. Some servers take https for the name of a host.", "Leave out the scheme; write the port if it is not 8448.")
	add(w, "well_known_path", document, "m.server has a path",
		"It must be a server name: a host, and a port if need be.", "Leave out everything from the first slash on.")
	add(w, "well_known_port", document, "m.server has a port that does not exist",
		"Servers ignore the document.", "Write a port from 1 to 65535, or none for SRV records and 8448.")
	add(w, "well_known_value", document, "m.server is not a server name",
		"Servers ignore the document.", "Write a DNS name in ASCII or an IP address, and a port if need be.")
	add(w, "well_known_too_large", document, "The well-known document is too large",
		"Servers read 50 KiB at most and then give up.", "Serve the document alone; it has some 40 bytes.")
	add(n, "well_known_content_type", document, "The well-known document has another content type than JSON",
		"Servers of the federation do not mind; other programs do.", "Set Content-Type: application/json.")
	add(w, "well_known_redirect_http", document, "The well-known document is redirected to http",
		"There is no certificate on that way, so careful servers do not follow.", "Redirect to https, or serve the document itself.")
	add(w, "well_known_redirect_loop", document, "The well-known document is redirected in a circle",
		"Nobody ever gets it.", "Serve the document itself.")
	add(w, "well_known_redirect_many", document, "The well-known document is redirected too often",
		"Servers follow some ten redirects, a few only four.", "Serve the document itself.")
	add(w, "well_known_redirect_invalid", document, "The well-known document is redirected to something that is no URL",
		"Nobody ever gets it.", "Give a whole https URL as Location.")
	add(n, "well_known_redirected", document, "The well-known document is served by another host",
		"That host decides where the name leads, and its failure is a failure of the name.", "Nothing, if that is meant.")
	add(w, "well_known_connect", document, "The web server for the well-known document does not take connections",
		"There is no delegation as long as that is so.", "Let a web server listen on port 443.")
	add(w, "well_known_timeout", document, "The web server for the well-known document does not answer",
		"Every server waits for many seconds before it goes on without a delegation.", "Let it answer, or refuse connections at once.")
	add(n, "well_known_no_address", document, "The name has no address to ask for the well-known document",
		"There can be no delegation by well-known; SRV records count.", "Nothing, if that is meant.")
	add(w, "well_known_dns", document, "The address of the host with the well-known document could not be looked up",
		"Nobody can tell whether there is a delegation.", "Mend the DNS of the name.")
	add(w, "well_known_denied", document, "The well-known document is at a private address",
		"Servers of the federation do not connect there, or reach something else.", "Publish a public address.")
	certificate := "Without a valid certificate the document does not count."
	add(w, "well_known_cert_expired", document, "The certificate of the host with the well-known document has expired", certificate, "Renew it, and let it be renewed by itself.")
	add(w, "well_known_cert_not_yet_valid", document, "The certificate of the host with the well-known document is not valid yet", certificate, "Wait, or set the clock with which it was made.")
	add(w, "well_known_cert_self_signed", document, "The certificate of the host with the well-known document is self-signed", certificate, "Get one from a public authority.")
	add(w, "well_known_cert_untrusted", document, "The certificate of the host with the well-known document is not trusted", certificate, "Get one from a public authority.")
	add(w, "well_known_cert_chain", document, "The host with the well-known document does not send its whole chain of certificates", certificate, "Let the web server send the intermediate certificate too.")
	add(w, "well_known_cert_name", document, "The certificate of the host with the well-known document is for another name", certificate, "Get one for the name that is asked.")
	add(w, "well_known_tls", document, "The TLS handshake with the host of the well-known document fails", "The document cannot be fetched.", "Let the web server speak TLS 1.2 or 1.3 on port 443.")
	add(e, "well_known_differs", document, "The addresses of the host answer with different well-known documents",
		"Where the name leads is a matter of luck.", "Serve the same document at every address.")
	add(w, "well_known_address", document, "One address of the host does not serve the well-known document",
		"Who asks that address meets no delegation.", "Mend the web server there, or remove the address.")
	add(w, "well_known_ipv6", document, "The well-known document is not served over IPv6",
		"Who has IPv6 meets no delegation, or waits.", "Let the web server answer over IPv6, or remove the AAAA record.")
	add(w, "well_known_slow", document, "The well-known document takes long",
		"The first message to this server waits for it, and some servers give up.", "Serve it as a file, before the application.")
	add(n, "well_known_lifetime_short", s2s("Resolving server names, 3", "resolving-server-names"), "The well-known document counts for a short time only",
		"Servers ask for it again and again; most raise the time to some minutes.", "Set Cache-Control: max-age to a day.")
	add(n, "well_known_chained", resolving, "The delegated host has a well-known document of its own",
		"Nobody reads it: only that of the server name counts.", "Change the document of the server name if the other one is right.")
	add(w, "well_known_wrong_path", document, "The well-known document is at another path",
		"Servers ask for /.well-known/matrix/server, exactly so.", "Serve it at that path.")

	area = AreaSRV
	add(w, "srv_ignored", resolving, "The SRV records of the name are ignored",
		"Where there is a well-known document, only that counts. Somebody may believe otherwise.", "Remove the records, or the document.")
	add(w, "srv_ignored_port", resolving, "The SRV records are ignored because of a port",
		"A name with a port, in m.server as well, leads to that port alone.", "Leave out the port, or remove the records.")
	add(w, "srv_legacy_only", resolving, "Only the deprecated SRV record exists",
		"_matrix._tcp is deprecated since v1.8 of the specification and will go.", "Publish the same record as _matrix-fed._tcp.")
	add(n, "srv_legacy_differs", resolving, "The two SRV names lead to different servers",
		"Old servers go elsewhere than new ones.", "Publish the same records under both names, or remove the old ones.")
	add(w, "srv_cname", srv, "The target of an SRV record is an alias",
		"It must have addresses of its own; some servers refuse it.", "Name the host at the end of the alias, or give the target A and AAAA records.")
	add(w, "srv_ip", srv, "The target of an SRV record is an IP address",
		"It must be a name: DNS looks for a host of that name, and there is none.", "Name a host that has this address.")
	add(e, "srv_unavailable", srv, "The SRV record says that there is no such service",
		`The sole target "." means that nobody offers it; servers do not look any further.`, "Remove the record, or name a host.")
	add(w, "srv_root_beside", srv, `The SRV target "." stands among others`,
		"Alone it means that there is no service; among others it means nothing.", "Remove it.")
	add(w, "srv_port_zero", rfc("6335", "6"), "An SRV record has port 0",
		"Nobody can connect to it.", "Write the port of the server.")
	add(e, "srv_unusable", srv, "The SRV records cannot be used",
		"Their targets are no names of hosts; servers do not fall back to port 8448.", "Name hosts with a letter in their last label, and ports that exist.")
	add(w, "srv_target_no_address", srv, "A target of the SRV records has no address",
		"Servers that choose it first lose time.", "Give it A and AAAA records, or remove the record.")
	add(e, "srv_servfail", rfc("1035", "4.1.1"), "The DNS fails for the SRV records",
		"Nobody can tell whether there are records, so careful servers do not guess. DNSSEC signatures that do not fit are the usual cause.",
		"Mend the zone; if it is signed, check signatures and the DS record.")
	add(e, "srv_refused", rfc("8499", "7"), "The DNS server does not answer for the SRV records",
		"It refuses, or knows nothing of the zone (a lame delegation), so nobody can tell whether there are records.",
		"Let the name servers of the zone answer for all names in it.")
	add(e, "srv_timeout", rfc("1035", "7.2"), "The DNS is silent about the SRV records",
		"Every server waits for it, and then cannot tell whether there are records.", "Let the name servers answer for SRV, also with NXDOMAIN; look for a firewall that drops such questions.")
	add(n, "srv_duplicate", srv, "An SRV record stands twice",
		"The second one changes nothing.", "Remove it.")
	add(w, "srv_too_many", srv, "There are too many SRV records",
		"Nobody tries dozens of targets one after another.", "Publish a handful.")

	area = AreaAddresses
	add(e, "target_no_address", resolving, "The server has no address",
		"Nobody can connect.", "Publish an A record, and an AAAA record if it has IPv6.")
	add(e, "target_dns", resolving, "The addresses of the server could not be looked up",
		"Nobody can connect as long as that is so.", "Mend the DNS of the name.")
	add(e, "address_private", rfc("6890", "2.2.2"), "The server has only private addresses",
		"They mean nothing outside of its own network, and no careful server connects there.", "Publish a public address.")
	add(w, "address_private_some", rfc("6890", "2.2.2"), "One of the server's addresses is private",
		"Servers that try it first lose time, or reach something else.", "Remove the record.")
	add(w, "ipv6_only", eyeballs, "The server has IPv6 addresses only",
		"Servers without IPv6 never reach it.", "Publish an A record too.")
	add(n, "ipv4_only", eyeballs, "The server has IPv4 addresses only",
		"Servers without IPv4 never reach it; there are few.", "Publish an AAAA record if the machine has IPv6.")

	area = AreaConnection
	add(e, "connect_refused", resolving, "Nobody listens on the port",
		"Nobody can connect.", "Let the server or its proxy listen there, or delegate to where it does.")
	add(e, "connect_timeout", resolving, "The port does not answer",
		"Nobody can connect; a firewall that drops packets is the usual cause.", "Open the port, also in the firewall of the provider.")
	add(e, "connect_reset", resolving, "The connection is ended at once",
		"Nobody gets an answer; a proxy without a server behind it, or a filter, is the usual cause.", "Look at the log of who listens there.")
	add(w, "address_down", eyeballs, "One of the addresses does not take connections",
		"Servers that try it first lose time.", "Mend it, or remove the record.")
	add(w, "ipv6_down", eyeballs, "The server does not take connections over IPv6",
		"Servers with IPv6 lose time with each connection, and some do not try IPv4.", "Let it listen on IPv6 too, open the firewall, or remove the AAAA record.")
	add(w, "ipv4_down", eyeballs, "The server does not take connections over IPv4",
		"Servers without IPv6 never reach it.", "Let it listen on IPv4 too, open the firewall, or remove the A record.")
	add(n, "ipv6_unchecked", eyeballs, "This machine cannot get to some of the addresses",
		"What is said here does not count for them: it is the checking machine that has no IPv6, most likely.", "Check from a machine with IPv6.")
	add(e, "port_443_instead", resolving, "The server is at port 443 while everybody tries 8448",
		"Without a delegation servers connect to port 8448.", "Say so with a well-known document, or listen on port 8448 too.")
	add(w, "target_down", srv, "One target of the SRV records does not take connections",
		"Servers that choose it first lose time; those that try only one target fail.", "Mend it, or remove the record.")

	area = AreaTLS
	add(e, "cert_expired", path, "The certificate has expired", "No server talks to it.", "Renew it, and let it be renewed by itself.")
	add(w, "cert_expires_soon", path, "The certificate expires soon", "It should have been renewed by now: something does not work by itself.", "Renew it, and look why that did not happen.")
	add(e, "cert_not_yet_valid", path, "The certificate is not valid yet", "No server talks to it.", "Wait, or set the clock with which it was made.")
	add(e, "cert_self_signed", tls, "The certificate is self-signed", "No server talks to it: that was possible before 2019.", "Get one from a public authority.")
	add(e, "cert_untrusted", tls, "The certificate is not trusted", "No server talks to it.", "Get one from a public authority.")
	add(e, "cert_chain", rfc("8446", "4.4.2"), "The server does not send its whole chain of certificates",
		"Browsers find the missing one by themselves, servers do not.", "Send the intermediate certificate too: the file is often called fullchain.")
	add(e, "cert_wrong_name", identity, "The certificate is for another name", "No server talks to it.", "Get one for the right name, or give the one that exists to this port.")
	add(e, "cert_for_srv_target", resolving, "The certificate is for the target of the SRV record, not for the name",
		"DNS can be forged, so the certificate must prove the name that the SRV record belongs to.",
		"Give the target a certificate for the name, or delegate by a well-known document: then the delegated name counts.")
	add(e, "cert_for_server_name", resolving, "The certificate is for the server name, not for the one it is delegated to",
		"After a delegation by well-known only the delegated name counts.", "Get a certificate for the delegated name.")
	add(e, "cert_ip", identity, "The certificate does not have the IP address", "Whoever is called by an address must prove the address.", "Get a certificate for the address, or use a name.")
	add(e, "cert_differs", tls, "Not every address has a good certificate", "Servers that connect to the others fail, and do not try again.", "Give every machine the same certificate.")
	add(e, "cert_common_name", identity, "The certificate has the name as common name only", "Nobody reads that any more.", "Get a certificate with the name as subjectAltName.")
	add(e, "tls_old", rfc("8996", "4"), "The server speaks only an old TLS", "TLS below 1.2 is forbidden, and servers refuse it.", "Enable TLS 1.2 and 1.3 with today's cipher suites.")
	add(e, "tls_plain", standards, "The port speaks HTTP without TLS", "Servers speak HTTPS and nothing else.", "Put a proxy with TLS in front, or enable TLS on this listener.")
	add(e, "tls_handshake", rfc("8446", "6.2"), "The TLS handshake fails", "Nobody can connect.", "Look at the log of who listens there; a virtual host for the name is often missing.")
	add(e, "tls_timeout", rfc("8446", "2"), "Nothing comes after the first message of TLS", "Nobody can connect.", "Look who listens there: a service that is no TLS server, or one that hangs.")
	add(n, "alpn_no_http2", rfc("9113", "3.2"), "The server does not speak HTTP/2", "It works; many requests at once are slower.", "Enable HTTP/2 in the proxy.")
	add(n, "sni_other", rfc("6066", "3"), "Without SNI the server shows another certificate", "Servers send the name, so it works; very old ones do not.", "Nothing, or make this certificate the default one of the port.")

	area = AreaMatrix
	add(e, "version_missing", version, "No Matrix server answers", "Who connects gets 404 for everything.", "Let the proxy send everything below /_matrix to the homeserver.")
	add(e, "version_status", version, "The server answers with an error", "It does not take part in the federation.", "Look at the log of the proxy and of the homeserver.")
	add(e, "proxy_bad_gateway", version, "The proxy does not reach the homeserver", "It answers in its place, with an error.", "Start the homeserver, and check the address and port in the proxy.")
	add(e, "version_html", version, "A web page answers in place of the Matrix server", "The request goes to a web site.", "Let the proxy send everything below /_matrix to the homeserver.")
	add(e, "version_not_json", version, "The answer is not JSON", "Something else than a Matrix server answers.", "Let the proxy send everything below /_matrix to the homeserver, and leave its answers alone.")
	add(n, "version_no_server", version, "The server does not say what it is", "Nothing, but nobody can tell whether it is up to date.", "Nothing, if that is meant.")
	add(e, "version_redirect", standards, "The server redirects federation requests", "Signed requests are not sent elsewhere.", "Answer where the request arrives, or delegate by a well-known document.")
	add(e, "federation_elsewhere", version, "The client API answers here, the federation does not", "The homeserver is there, but its federation is on another listener, or is off.", "Add the resource federation to the listener, or send these paths to the listener that has it.")
	add(e, "path_wrong", version, "The server answers at another path", "The proxy adds or removes a part of the path.", "Send the path on as it is.")
	add(e, "host_header", resolving, "The server answers another Host header only", "The name that servers send is not known to the proxy.", "Add the name to the virtual host, with and without the port.")
	add(e, "http_timeout", version, "The server does not answer the request", "Servers give up after some seconds.", "Look at the homeserver: it may be overloaded, or may not be reached by the proxy.")
	add(e, "http_not_http", standards, "What answers does not speak HTTP", "The connection is closed or something else comes.", "Look who listens there.")
	add(w, "slow_answer", version, "The server answers slowly", "A small question takes seconds; servers with less patience give up.", "Look at the load of the homeserver and its database.")
	add(w, "answers_differ", version, "The addresses answer as different servers", "Who connects is a matter of luck.", "Send all addresses to the same homeserver, or remove those of another one.")
	add(e, "http2_broken", rfc("9113", "3.2"), "The server fails over HTTP/2", "It offers HTTP/2, and who takes the offer fails.", "Mend it, or do not offer h2.")
	add(e, "http1_broken", rfc("9112", ""), "The server fails over HTTP/1.1", "Most of the federation speaks HTTP/1.1 alone.", "Enable HTTP/1.1 beside HTTP/2.")
	add(w, "clock_wrong", rfc("9110", "6.6.1"), "The clock of the server is wrong", "Certificates, keys and events of the future or the past are refused.", "Let the machine set its clock by NTP.")

	area = AreaKeys
	add(e, "keys_missing", keys, "The server does not publish its keys", "Nobody can check what it signs, so nothing of it is accepted.", "Let the proxy send /_matrix/key to the homeserver too.")
	add(e, "keys_status", keys, "The keys are answered with an error", "Nobody can check what it signs, so nothing of it is accepted.", "Look at the log of the proxy and of the homeserver.")
	add(e, "keys_not_json", keys, "The keys are not JSON", "Nobody can check what it signs, so nothing of it is accepted.", "Let the proxy send /_matrix/key to the homeserver, and leave its answers alone.")
	add(e, "keys_wrong_name", keys, "The keys are those of another server", "They do not count for this name, so nothing of it is accepted.", "Set server_name of the homeserver to this name, or let the name lead to its own homeserver.")
	add(w, "keys_name_case", keys, "The keys are for the same name in another case", "Names are compared with their case, so they are two servers.", "Ask for the name as the keys have it.")
	add(e, "keys_expired", keys, "The keys have expired", "Nothing that is signed with them is accepted.", "Start the homeserver again; look at its clock, and whether a proxy keeps old answers.")
	add(n, "keys_expire_soon", keys, "The keys expire soon", "Servers must ask for them again soon.", "Nothing, if they are renewed; look whether a proxy keeps old answers.")
	add(e, "keys_unsigned", signing, "The keys are not signed", "A server must prove that it has its keys; those without a signature do not count.", "Leave the answer of the homeserver alone; do not write it by hand.")
	add(e, "keys_bad_signature", signing, "The signature of the keys is wrong", "The document was changed after it was signed, or signed with another key.", "Leave the answer of the homeserver alone; check that all workers have the same key file.")
	add(e, "keys_none", keys, "There is no key", "Nothing of this server is accepted.", "Give the homeserver a signing key.")
	add(e, "keys_malformed", keys, "The keys are not as they should be", "They cannot be read, so nothing of this server is accepted.", "Leave the answer of the homeserver alone; do not write it by hand.")
	add(w, "keys_differ", keys, "The addresses publish different keys", "Whether a signature is accepted is a matter of luck.", "Give all workers the same key file, and send all addresses to the same homeserver.")

	area = AreaCheck
	add(e, "check_timeout", resolving, "The check did not come to its end",
		"What is said here is not complete, and does not say that the name is broken.",
		"Give it more time and look at what is slow, or check from a machine whose network and DNS work.")
	return list
}
